//! The recordings folder: names, space, finalising in place, manifests, what is left lying about.
//!
//! All of it blocks on the disk; callers use `spawn_blocking`. Names are made from identifiers of
//! ours and from nothing else, so no request can name a path.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    catalogue::Recording,
    mp4::{self, Mp4Error},
};
use crate::room::{id::RecordingId, model::Marker};

/// Rewrites a fragmented MP4 (first path) as a progressive one (second path) with these chapters.
pub type Finaliser = fn(&Path, &Path, &[Marker]) -> Result<Progressive, FinaliseError>;

/// What a rewrite made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progressive {
    /// How long it plays.
    pub duration: Duration,
    /// How large it is.
    pub bytes: u64,
}

/// Why there is no progressive file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FinaliseError {
    /// The file holds no media.
    #[error("nothing was recorded")]
    NothingRecorded,
    /// The file is as it was.
    #[error("{0}")]
    Other(String),
}

/// The finaliser: our own rewrite of the file's index.
///
/// # Errors
/// As [`FinaliseError`] says.
pub fn rewrite(source: &Path, target: &Path, markers: &[Marker]) -> Result<Progressive, FinaliseError> {
    match mp4::finalise_with_chapters(source, target, markers) {
        Ok(made) => Ok(Progressive { duration: made.duration, bytes: made.size_bytes }),
        Err(Mp4Error::NothingRecorded) => Err(FinaliseError::NothingRecorded),
        Err(error) => Err(FinaliseError::Other(error.to_string())),
    }
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Finished {
    /// It is fast to open and to seek.
    Progressive(Progressive),
    /// It plays, but stays as it was written, for this reason.
    Fragmented {
        /// How large it is.
        bytes: u64,
        /// Why it was not rewritten.
        reason: String,
    },
    /// There is nothing to play, for this reason.
    Nothing(String),
}

/// A recordings folder is not usable.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another server writes there.
    #[error("{} is used by another salon server", .0.display())]
    InUse(PathBuf),
    /// The system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which folder or file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// An open recordings folder, this process's alone.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    reserve_bytes: u64,
    finalise: Finaliser,
    /// Locked while we live; the system unlocks it however we die.
    _lock: File,
}

impl Store {
    /// Opens `folder`, made if it is not there. Recordings leave `reserve_bytes` of its disk free.
    ///
    /// # Errors
    /// As [`StoreError`] says.
    pub fn open(folder: &Path, reserve_bytes: u64, finalise: Finaliser) -> Result<Self, StoreError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { path, source }
        };
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        let folder = folder.canonicalize().map_err(failed(folder))?;
        let lock_path = folder.join(".salon.lock");
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path).map_err(failed(&lock_path))?;
        lock.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => StoreError::InUse(folder.clone()),
            std::fs::TryLockError::Error(source) => StoreError::Io { path: lock_path, source },
        })?;
        Ok(Self { folder, reserve_bytes, finalise, _lock: lock })
    }

    /// The name of a recording's file.
    pub fn file_name(id: &RecordingId) -> String {
        format!("{id}.mp4")
    }

    /// Where a recording's file is; `None` for an identifier that we did not make.
    pub fn path(&self, id: &RecordingId) -> Option<PathBuf> {
        is_ours(id.as_str()).then(|| self.folder.join(Self::file_name(id)))
    }

    /// What the disk has left for recordings, and what is kept back: `(free, reserve)` in bytes.
    ///
    /// # Errors
    /// What the system says.
    pub fn space(&self) -> io::Result<(u64, u64)> {
        Ok((free_bytes(&self.folder)?, self.reserve_bytes))
    }

    /// Makes a closed file fast to open, in place: readers see the old file or the new, never half.
    pub fn finish(&self, id: &RecordingId, markers: &[Marker]) -> Finished {
        match self.path(id) {
            Some(path) => finish_file(&path, self.reserve_bytes, self.finalise, markers),
            None => Finished::Nothing("its identifier is not one of ours".into()),
        }
    }

    /// Writes the description that lies beside the file.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_manifest(&self, recording: &Recording) -> io::Result<()> {
        let Some(path) = self.path(&recording.id) else { return Ok(()) };
        let mut text = serde_json::to_vec_pretty(recording)?;
        text.push(b'\n');
        replace(&path.with_extension("json"), |file| file.write_all(&text))
    }

    /// Removes a recording's file and description. Those that are gone already are no error.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self, id: &RecordingId) -> io::Result<()> {
        let Some(path) = self.path(id) else { return Ok(()) };
        for path in [path.with_extension("json"), part_of(&path), path] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        sync_folder(&self.folder)
    }

    /// Files of ours that `known` does not name, with what lies beside them; half-written rewrites
    /// of an earlier life are removed on the way.
    ///
    /// # Errors
    /// What the system says.
    pub fn orphans(&self, known: &HashSet<RecordingId>) -> io::Result<Vec<Orphan>> {
        let mut orphans = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if name.ends_with(".part") && name.split('.').next().is_some_and(is_ours) {
                std::fs::remove_file(&path)?;
            }
            let Some(stem) = name.strip_suffix(".mp4").filter(|stem| is_ours(stem)) else { continue };
            let id = RecordingId::from_str(stem).unwrap_or_else(|never| match never {});
            if !known.contains(&id) {
                orphans.push(Orphan { id, manifest: read_manifest(&path), modified: modified(&path) });
            }
        }
        Ok(orphans)
    }

    /// When a recording's file was last written.
    pub fn modified(&self, id: &RecordingId) -> Timestamp {
        self.path(id).map_or_else(Timestamp::now, |path| modified(&path))
    }
}

/// A file without an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Orphan {
    /// From its name.
    pub id: RecordingId,
    /// From the description beside it.
    pub manifest: Option<Manifest>,
    /// When it was last written.
    pub modified: Timestamp,
}

/// What we read back of a manifest; the rest of it is for people and other programs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The room's name.
    pub room: String,
    /// As asked for.
    #[serde(default)]
    pub spec: crate::media::RecordingSpec,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its first frame was written.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// Who was in it.
    #[serde(default)]
    pub participants: Vec<String>,
    /// How long it was paused.
    #[serde(default)]
    pub paused_ms: u64,
    /// Its named moments.
    #[serde(default)]
    pub markers: Vec<Marker>,
}

impl Manifest {
    /// Of a file that has none.
    pub fn unknown(modified: Timestamp) -> Self {
        Self {
            room: String::new(),
            spec: crate::media::RecordingSpec::default(),
            created_at: modified,
            started_at: None,
            participants: Vec::new(),
            paused_ms: 0,
            markers: Vec::new(),
        }
    }
}

/// Makes one closed MP4 fast to open, in place; see [`Store::finish`].
///
/// On lack of space, or if the rewrite fails, the file stays as it was written, which plays.
pub fn finish_file(path: &Path, reserve_bytes: u64, finalise: Finaliser, markers: &[Marker]) -> Finished {
    let bytes = match std::fs::metadata(path) {
        Ok(meta) => meta.len(),
        Err(error) => return Finished::Nothing(format!("nothing was recorded: its file cannot be read: {error}")),
    };
    match form(path) {
        Ok(Form::Progressive(duration)) => return Finished::Progressive(Progressive { duration, bytes }),
        Ok(Form::Empty) => return Finished::Nothing("nothing was recorded".into()),
        Ok(Form::Fragmented) => {}
        Err(error) => return Finished::Nothing(format!("its file cannot be read: {error}")),
    }
    let room = path.parent().map_or(Ok(u64::MAX), free_bytes).unwrap_or(u64::MAX);
    if room < bytes.saturating_add(reserve_bytes) {
        let reason = format!("kept as it was written: rewriting it needs {bytes} bytes, and {room} are free");
        return Finished::Fragmented { bytes, reason };
    }
    let part = part_of(path);
    let made = finalise(path, &part, markers).and_then(|progressive| {
        install(&part, path).map_err(|error| FinaliseError::Other(error.to_string()))?;
        Ok(progressive)
    });
    match made {
        Ok(progressive) => Finished::Progressive(progressive),
        Err(error) => {
            // A half-written rewrite is of no use, and the disk may be full of it.
            let _ = std::fs::remove_file(&part);
            match error {
                FinaliseError::NothingRecorded => Finished::Nothing(error.to_string()),
                FinaliseError::Other(why) => {
                    Finished::Fragmented { bytes, reason: format!("kept as it was written: {why}") }
                }
            }
        }
    }
}

/// What kind of MP4 a file is, by its outermost boxes (ISO/IEC 14496-12 §4.2).
#[derive(Debug, PartialEq)]
enum Form {
    /// `ftyp moov moof…`.
    Fragmented,
    /// `moov` and `mdat`, no fragment: finalised already.
    Progressive(Duration),
    /// Neither fragment nor `mdat`.
    Empty,
}

fn form(path: &Path) -> io::Result<Form> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let (mut at, mut duration, mut media) = (0, None, false);
    while let Some((kind, size)) = box_header(&mut file, at, length)? {
        match &kind {
            b"moof" => return Ok(Form::Fragmented),
            b"mdat" => media = true,
            b"moov" => duration = movie_duration(&mut file)?,
            _ => {}
        }
        at += size;
    }
    Ok(match duration {
        Some(duration) if media => Form::Progressive(duration),
        _ => Form::Empty,
    })
}

/// The type and whole size of the box at `at`; `None` past the last whole header.
fn box_header(file: &mut File, at: u64, length: u64) -> io::Result<Option<([u8; 4], u64)>> {
    if length.saturating_sub(at) < 8 {
        return Ok(None);
    }
    let mut head = [0; 8];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut head)?;
    let short = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let kind = [head[4], head[5], head[6], head[7]];
    let size = match short {
        0 => length - at,
        1 if length - at >= 16 => {
            let mut long = [0; 8];
            file.read_exact(&mut long)?;
            u64::from_be_bytes(long)
        }
        short => u64::from(short),
    };
    Ok((size >= 8).then_some((kind, size)))
}

/// From `mvhd`, which is the first box in `moov`; the file stands behind `moov`'s header.
fn movie_duration(file: &mut File) -> io::Result<Option<Duration>> {
    let mut head = [0; 40];
    let mut read = 0;
    while read < head.len() {
        match file.read(&mut head[read..])? {
            0 => return Ok(None),
            more => read += more,
        }
    }
    if &head[4..8] != b"mvhd" {
        return Ok(None);
    }
    let word = |at: usize| u64::from(u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
    let (scale, units) = match head[8] {
        0 => (word(20), word(24)),
        _ => (word(28), (word(32) << 32) | word(36)),
    };
    Ok((scale > 0).then(|| Duration::from_secs_f64(units as f64 / scale as f64)))
}

/// Puts a finished rewrite in the original's place, so that either is whole after a power cut.
fn install(part: &Path, path: &Path) -> io::Result<()> {
    File::open(part)?.sync_all()?;
    std::fs::rename(part, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let part = part_of(path);
    let mut file = File::create(&part)?;
    write(&mut file)?;
    drop(file);
    install(&part, path)
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The description beside a recording's file.
pub fn read_manifest(file: &Path) -> Option<Manifest> {
    let text = std::fs::read(file.with_extension("json")).ok()?;
    serde_json::from_slice(&text).ok()
}

fn modified(path: &Path) -> Timestamp {
    let time = std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    time.and_then(|time| Timestamp::try_from(time).ok()).unwrap_or_else(Timestamp::now)
}

/// Bytes an unprivileged writer may still use on the disk that `folder` is on.
///
/// # Errors
/// What the system says.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// `rec_` and 16 letters or digits: the shape of [`RecordingId`], and of nothing with a dot or slash.
fn is_ours(stem: &str) -> bool {
    stem.strip_prefix("rec_")
        .is_some_and(|rest| rest.len() == 16 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}
