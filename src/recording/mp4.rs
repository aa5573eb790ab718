//! Our MP4 files (ISO/IEC 14496-12): written as fragments while a recording runs, made into a
//! progressive fast-start file once it is over.
//!
//! [`fragment`] makes the growing file's bytes, [`finalise`] turns that file, whole or cut off
//! anywhere, into the one that is kept. Both are plain arithmetic over bytes: no pipeline, no codec.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;

use crate::room::model::Marker;

mod chapters;
pub mod fragment;
mod progressive;
mod source;
mod table;

/// What a finalised file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Finalised {
    /// Length of the longest track as it plays.
    pub duration: Duration,
    /// The video track, if there is one.
    pub video: Option<VideoFacts>,
    /// Sample entry of each track, in order, e.g. `avc1`, `mp4a`.
    pub tracks: Vec<String>,
    /// Size of the file.
    pub size_bytes: u64,
}

/// The picture of a finalised file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VideoFacts {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames divided by the track's duration.
    pub fps: f64,
}

/// Why a file could not be finalised. The source is as it was, and there is no target.
#[derive(Debug, Error)]
pub enum Mp4Error {
    /// The source ends before its first whole fragment, or is empty.
    #[error("nothing was recorded")]
    NothingRecorded,
    /// The source is no fragmented MP4, or one with boxes beyond any real size.
    #[error("not a fragmented MP4: {0}")]
    NotFragmented(String),
    /// The source cannot be read.
    #[error("the recording could not be read: {0}")]
    Read(#[source] io::Error),
    /// The target cannot be written.
    #[error("the finished file could not be written: {0}")]
    Write(#[source] io::Error),
    /// No space for the target beside the source.
    #[error("the disk is full")]
    DiskFull,
}

impl Mp4Error {
    fn write(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Write(error),
        }
    }
}

/// Turns a fragmented MP4 into a progressive one with its index in front, without re-encoding.
///
/// The source may be cut off anywhere: a last fragment that is not whole is left out. The target
/// appears whole or not at all, and is on the disk when this returns. Presentation times stay what
/// they are in the source; where that says nothing of an AAC encoder's 1,024 samples of priming,
/// an edit list skips them. Memory is bounded by the sample tables (about 4 bytes a sample), samples
/// are copied in runs.
///
/// # Errors
/// As [`Mp4Error`] says; the source is never touched.
pub fn finalise(source: &Path, target: &Path) -> Result<Finalised, Mp4Error> {
    finalise_with_chapters(source, target, &[], &|_| ())
}

/// As [`finalise`]; `markers` become chapters, the first 255 of them. `progress` is told how much of the
/// samples is copied, 0 to 1.
///
/// # Errors
/// As [`finalise`].
pub fn finalise_with_chapters(
    source: &Path,
    target: &Path,
    markers: &[Marker],
    progress: &dyn Fn(f64),
) -> Result<Finalised, Mp4Error> {
    let mut input = File::open(source).map_err(Mp4Error::Read)?;
    let part = part_path(target);
    if same_file(source, target) || same_file(source, &part) {
        return Err(Mp4Error::Write(io::Error::new(io::ErrorKind::InvalidInput, "the target is the source itself")));
    }
    let movie = source::read(&mut input)?;
    let written = progressive::write(&movie, &mut input, &part, &chapters::user_data(markers), progress)
        .and_then(|()| fs::rename(&part, target).map_err(Mp4Error::write))
        .and_then(|()| sync_folder(target).map_err(Mp4Error::write));
    if let Err(error) = written {
        // Nothing may be left of it; if it was never made, there is nothing to remove.
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    let size_bytes = fs::metadata(target).map_err(Mp4Error::Write)?.len();
    Ok(movie.facts(size_bytes))
}

/// Where the target is written before it gets its name. One that a crash left behind is replaced.
fn part_path(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".finalising");
    target.with_file_name(name)
}

fn same_file(a: &Path, b: &Path) -> bool {
    fs::canonicalize(a).is_ok_and(|a| fs::canonicalize(b).is_ok_and(|b| a == b))
}

/// Makes the new name itself durable (POSIX leaves that to the folder's own fsync).
fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
