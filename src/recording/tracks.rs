//! The files of single tracks beside a recording: their folder, its journal, and finalising them.
//!
//! The recorder notes each file in the journal before its first byte, so that after a crash too it is
//! known whose each file is and when it begins. A file that cannot be finalised stays as it was
//! written, which plays.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    store::{self, FinaliseError, Finished, Progressive},
    webm::{self, WebmError},
};
use crate::media::{CodecName, Kind};

/// The journal's name in the folder.
pub const JOURNAL: &str = "journal.jsonl";

/// Where the tracks of a recording lie whose composite file is, or would be, `file`.
pub fn folder_of(file: &Path) -> PathBuf {
    file.with_extension("tracks")
}

/// The journal of a recording whose composite file is, or would be, `file`.
pub fn journal_of(file: &Path) -> PathBuf {
    folder_of(file).join(JOURNAL)
}

/// One track's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackEntry {
    /// The file's name in the folder, generated.
    pub name: String,
    /// Nickname of whose track it is, when it began.
    pub participant: String,
    /// Audio or video.
    pub track_kind: Kind,
    /// In the file.
    pub codec: CodecName,
    /// As it was published, if it was encoded anew: files that browsers play hold no G.711.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<CodecName>,
    /// When it begins, in milliseconds of the recording: pauses do not count.
    pub offset_ms: u64,
}

/// A track that could not be recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Nickname of whose track it is.
    pub participant: String,
    /// As it was published.
    pub codec: CodecName,
    /// Why there is no file of it, in a sentence.
    pub left_out: String,
}

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// A file begins.
    File(TrackEntry),
    /// There will be none.
    LeftOut(LeftOut),
}

/// A file of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordingFile {
    /// Its name, for `GET …/files/{name}`.
    pub name: String,
    /// What is in it.
    pub kind: FileKind,
    /// Whose track it is (nickname).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant: Option<String>,
    /// Audio or video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track_kind: Option<Kind>,
    /// The track's codec in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<CodecName>,
    /// As it was published, if it was encoded anew: files that browsers play hold no G.711.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<CodecName>,
    /// When it begins, in milliseconds of the recording.
    pub offset_ms: u64,
    /// Its size.
    pub bytes: u64,
    /// Of its bytes, in hexadecimal digits; known once it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// What a recording's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// Everybody in one picture and one sound.
    Composite,
    /// One track as it came.
    Track,
}

/// The open journal of a recording that runs.
#[derive(Debug)]
pub struct Journal(File);

impl Journal {
    /// Makes the folder, which must not exist, and its journal, locked until it is dropped.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(folder: &Path) -> io::Result<Self> {
        fs::create_dir(folder)?;
        let journal = File::options().append(true).create_new(true).open(folder.join(JOURNAL))?;
        if let Err(error) = journal.try_lock() {
            tracing::debug!("{}: not locked: {error}", folder.display());
        }
        File::open(folder)?.sync_all()?;
        folder.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())?;
        Ok(Self(journal))
    }

    /// Notes something, for good.
    ///
    /// # Errors
    /// What the system says.
    pub fn note(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.0.write_all(&text)?;
        self.0.sync_data()
    }
}

/// What the journal says, up to where it was cut off.
///
/// # Errors
/// What the system says.
pub fn read(folder: &Path) -> io::Result<Vec<Line>> {
    let text = fs::read(folder.join(JOURNAL))?;
    let lines = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    Ok(lines.map_while(|line| serde_json::from_slice(line).ok()).collect())
}

/// The files of a recording as they are now.
///
/// # Errors
/// What the system says of the journal; files that are not there are left out.
pub fn list(folder: &Path) -> io::Result<Vec<RecordingFile>> {
    let lines = read(folder)?.into_iter();
    Ok(lines
        .filter_map(|line| match line {
            Line::File(entry) => {
                let bytes = fs::metadata(folder.join(&entry.name)).ok()?.len();
                Some(entry.into_file(bytes))
            }
            Line::LeftOut(_) => None,
        })
        .collect())
}

/// What became of all files of a recording.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FinishedTracks {
    /// Those that play.
    pub files: Vec<RecordingFile>,
    /// From the recording's beginning to the end of the last.
    pub duration: Duration,
    /// What is particular about them, each in a sentence.
    pub remarks: Vec<String>,
}

/// Makes every file, all of which are closed, fast to open and to seek, in place.
///
/// # Errors
/// What the system says of the journal.
pub fn finish(folder: &Path, reserve_bytes: u64) -> io::Result<FinishedTracks> {
    let mut finished = FinishedTracks::default();
    for line in read(folder)? {
        let entry = match line {
            Line::File(entry) => entry,
            Line::LeftOut(LeftOut { participant, codec, left_out }) => {
                let codec = codec.encoding_name();
                finished.remarks.push(format!("{codec} of {participant} was not recorded: {left_out}"));
                continue;
            }
        };
        let path = folder.join(&entry.name);
        let offset = Duration::from_millis(entry.offset_ms);
        match finish_file(&path, reserve_bytes) {
            Finished::Progressive(Progressive { duration, bytes }) => {
                finished.duration = finished.duration.max(offset + duration);
                finished.files.push(entry.into_file(bytes));
            }
            Finished::Fragmented { bytes, reason } => {
                finished.remarks.push(format!("{}: {reason}", entry.name));
                finished.files.push(entry.into_file(bytes));
            }
            Finished::Nothing(reason) => finished.remarks.push(format!("{}: {reason}", entry.name)),
        }
    }
    Ok(finished)
}

fn finish_file(path: &Path, reserve_bytes: u64) -> Finished {
    if path.extension().is_some_and(|extension| extension == "webm") {
        return finish_webm(path, reserve_bytes);
    }
    store::finish_file(path, reserve_bytes, store::rewrite, &[], &|_| ())
}

fn finish_webm(path: &Path, reserve_bytes: u64) -> Finished {
    let index = File::open(path).map_err(WebmError::Read).and_then(|mut file| Ok((webm::read(&mut file)?, file)));
    let (index, mut file) = match index {
        Ok(read) => read,
        Err(error) => return Finished::Nothing(error.to_string()),
    };
    let bytes = file.metadata().map_or(0, |meta| meta.len());
    if index.is_whole {
        return Finished::Progressive(Progressive { duration: index.duration, bytes });
    }
    store::rewrite_in_place(path, bytes, reserve_bytes, |part| {
        let made = webm::finalise(&index, &mut file, part);
        let bytes = made.map_err(|error| FinaliseError::Other(error.to_string()))?;
        Ok(Progressive { duration: index.duration, bytes })
    })
}

impl TrackEntry {
    fn into_file(self, bytes: u64) -> RecordingFile {
        let Self { name, participant, track_kind, codec, published, offset_ms } = self;
        RecordingFile {
            name,
            kind: FileKind::Track,
            participant: Some(participant),
            track_kind: Some(track_kind),
            codec: Some(codec),
            published,
            offset_ms,
            bytes,
            sha256: None,
        }
    }
}
