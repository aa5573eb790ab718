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
    chat,
    minutes::{self, LayoutChange, Minutes},
    mp4::{self, Mp4Error},
    tracks::{self, FileKind, FinishedTracks, RecordingFile},
};
use crate::room::{
    id::RecordingId,
    model::{Marker, Spoken},
};

/// Rewrites a fragmented MP4 (first path) as a progressive one (second path) with these chapters.
pub type Finaliser = fn(&Path, &Path, &[Marker], Progress<'_>) -> Result<Progressive, FinaliseError>;

/// Is told how much of a rewrite is done, 0 to 1.
pub type Progress<'a> = &'a dyn Fn(f64);

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
pub fn rewrite(
    source: &Path,
    target: &Path,
    markers: &[Marker],
    progress: Progress<'_>,
) -> Result<Progressive, FinaliseError> {
    match mp4::finalise_with_chapters(source, target, markers, progress) {
        Ok(made) => Ok(Progressive { duration: made.duration, bytes: made.size_bytes }),
        Err(Mp4Error::NothingRecorded) => Err(FinaliseError::NothingRecorded),
        Err(error) => Err(FinaliseError::Other(error.to_string())),
    }
}

/// What lies beside a recording's file: the same name with these endings.
const BESIDE: [&str; 6] = ["json", "chat.vtt", "jpg", "sprite.jpg", "thumbnails.vtt", MINUTES];
/// The ending of the minutes.
const MINUTES: &str = "minutes.jsonl";

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

    /// Where one of a recording's files is, by the name that [`RecordingFile`] gives; `None` for any other.
    pub fn file(&self, id: &RecordingId, name: &str) -> Option<PathBuf> {
        let composite = self.path(id)?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        match name.strip_suffix(".mp4").or_else(|| name.strip_suffix(".webm")) {
            _ if name == Self::file_name(id) => Some(composite),
            Some(stem) if !stem.is_empty() && stem.bytes().all(is_plain) => {
                Some(tracks::folder_of(&composite).join(name))
            }
            Some(_) | None => None,
        }
    }

    /// The files of a recording that is not over, as they are now.
    pub fn files_now(&self, id: &RecordingId) -> Vec<RecordingFile> {
        let Some(path) = self.path(id) else { return Vec::new() };
        let composite = std::fs::metadata(&path).ok().map(|meta| composite_file(id, meta.len()));
        let tracks = tracks::list(&tracks::folder_of(&path)).unwrap_or_default();
        composite.into_iter().chain(tracks).collect()
    }

    /// What the disk has left for recordings, and what is kept back: `(free, reserve)` in bytes.
    ///
    /// # Errors
    /// What the system says.
    pub fn space(&self) -> io::Result<(u64, u64)> {
        Ok((free_bytes(&self.folder)?, self.reserve_bytes))
    }

    /// Makes a closed file fast to open, in place: readers see the old file or the new, never half.
    pub fn finish(&self, id: &RecordingId, markers: &[Marker], progress: Progress<'_>) -> Finished {
        match self.path(id) {
            Some(path) => finish_file(&path, self.reserve_bytes, self.finalise, markers, progress),
            None => Finished::Nothing("its identifier is not one of ours".into()),
        }
    }

    /// The same of its single tracks; `None` if it has none.
    pub fn finish_tracks(&self, id: &RecordingId) -> Option<io::Result<FinishedTracks>> {
        let folder = tracks::folder_of(&self.path(id)?);
        folder.is_dir().then(|| tracks::finish(&folder, self.reserve_bytes))
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

    /// Adds to the chat beside a recording.
    ///
    /// # Errors
    /// What the system says.
    pub fn append_chat(&self, id: &RecordingId, message: &chat::Message) -> io::Result<()> {
        self.path(id).map_or(Ok(()), |path| chat::append(&path.with_extension("chat.vtt"), message))
    }

    /// Adds to the minutes beside a recording.
    ///
    /// # Errors
    /// What the system says.
    pub fn append_minutes(&self, id: &RecordingId, entries: &[minutes::Entry]) -> io::Result<()> {
        self.path(id).map_or(Ok(()), |path| minutes::append(&path.with_extension(MINUTES), entries))
    }

    /// What the minutes say of a recording that was cut off at `length_ms`; `None` if there are none.
    pub fn minutes(&self, id: &RecordingId, length_ms: u64) -> Option<Minutes> {
        minutes::read(&self.path(id)?.with_extension(MINUTES), length_ms)
    }

    /// Removes the minutes, once they are in the catalogue.
    pub fn remove_minutes(&self, id: &RecordingId) {
        if let Some(path) = self.path(id) {
            // What is left is removed with the recording.
            let _ = std::fs::remove_file(path.with_extension(MINUTES));
        }
    }

    /// A file with its checksum, if it can be read.
    pub fn with_sum(&self, id: &RecordingId, file: RecordingFile) -> RecordingFile {
        let sum = self.file(id, &file.name).map(|path| sha256(&path));
        let sha256 = match sum {
            Some(Ok(sum)) => Some(sum),
            Some(Err(error)) => {
                tracing::warn!(recording.id = %id, "no checksum of {}: {error}", file.name);
                None
            }
            None => None,
        };
        RecordingFile { sha256, ..file }
    }

    /// Removes a recording's files and description. Those that are gone already are no error.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self, id: &RecordingId) -> io::Result<()> {
        let Some(path) = self.path(id) else { return Ok(()) };
        match std::fs::remove_dir_all(tracks::folder_of(&path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let beside = BESIDE.map(|extension| path.with_extension(extension));
        for path in beside.into_iter().chain([part_of(&path), path]) {
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
            let is_folder = name.ends_with(".tracks");
            let stem = name.strip_suffix(".mp4").or_else(|| name.strip_suffix(".tracks"));
            let Some(stem) = stem.filter(|stem| is_ours(stem)) else { continue };
            if is_folder && path.with_extension("mp4").exists() {
                // It is found by that.
                continue;
            }
            let id = RecordingId::from_str(stem).unwrap_or_else(|never| match never {});
            if !known.contains(&id) {
                let manifest = read_manifest(&path);
                let (has_composite, has_tracks) = (!is_folder, is_folder || tracks::folder_of(&path).is_dir());
                let has_chat = path.with_extension("chat.vtt").exists();
                let minutes = self.minutes(&id, 0);
                let modified = modified(&path);
                orphans.push(Orphan { id, manifest, minutes, modified, has_composite, has_tracks, has_chat });
            }
        }
        Ok(orphans)
    }

    /// When a recording's files were last written; now if there are none.
    pub fn modified(&self, id: &RecordingId) -> Timestamp {
        let tracks = self.files_now(id).into_iter().filter_map(|file| self.file(id, &file.name));
        tracks.map(|path| modified(&path)).max().unwrap_or_else(Timestamp::now)
    }
}

/// The description of a mix.
pub fn composite_file(id: &RecordingId, bytes: u64) -> RecordingFile {
    let name = Store::file_name(id);
    let kind = FileKind::Composite;
    RecordingFile {
        name,
        kind,
        participant: None,
        track_kind: None,
        codec: None,
        published: None,
        offset_ms: 0,
        bytes,
        sha256: None,
    }
}

/// A file without an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Orphan {
    /// From its name.
    pub id: RecordingId,
    /// From the description beside it.
    pub manifest: Option<Manifest>,
    /// From the minutes beside it.
    pub minutes: Option<Minutes>,
    /// When it was last written.
    pub modified: Timestamp,
    /// There is a mix.
    pub has_composite: bool,
    /// There are single tracks.
    pub has_tracks: bool,
    /// There is what was written.
    pub has_chat: bool,
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
    /// Who spoke when.
    #[serde(default)]
    pub speakers: Vec<Spoken>,
    /// What it was shown in.
    #[serde(default)]
    pub layouts: Vec<LayoutChange>,
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
            speakers: Vec::new(),
            layouts: Vec::new(),
        }
    }
}

/// Waits until nobody writes to a file of ours: a recorder holds its lock for as long as it does. A
/// file system without locks is not waited for.
pub fn wait_for_writer(path: &Path) {
    if let Ok(file) = File::open(path) {
        let _ = file.lock_shared();
    }
}

/// Makes one closed MP4 fast to open, in place; see [`Store::finish`].
///
/// On lack of space, or if the rewrite fails, the file stays as it was written, which plays.
pub fn finish_file(
    path: &Path,
    reserve_bytes: u64,
    finalise: Finaliser,
    markers: &[Marker],
    progress: Progress<'_>,
) -> Finished {
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
    rewrite_in_place(path, bytes, reserve_bytes, |part| finalise(path, part, markers, progress))
}

/// Has `make` write a file of about `bytes` that then takes the place of the one at `path`, where the
/// disk has space for both.
pub fn rewrite_in_place(
    path: &Path,
    bytes: u64,
    reserve_bytes: u64,
    make: impl FnOnce(&Path) -> Result<Progressive, FinaliseError>,
) -> Finished {
    let room = free_bytes(folder_of(path)).unwrap_or(u64::MAX);
    if room < bytes.saturating_add(reserve_bytes) {
        let reason = format!("kept as it was written: rewriting it needs {bytes} bytes, and {room} are free");
        return Finished::Fragmented { bytes, reason };
    }
    let part = part_of(path);
    let made = make(&part).and_then(|progressive| {
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
    let (mut at, mut duration, mut media) = (0_u64, None, false);
    while let Some((kind, size)) = box_header(&mut file, at, length)? {
        match &kind {
            b"moof" => return Ok(Form::Fragmented),
            b"mdat" => media = true,
            b"moov" => duration = movie_duration(&mut file)?,
            _ => {}
        }
        at = at.saturating_add(size);
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
    sync_folder(folder_of(path))
}

/// Of a bare name it is the one that we are in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let part = part_of(path);
    let mut file = File::create(&part)?;
    write(&mut file)?;
    drop(file);
    install(&part, path)
}

/// Of a whole file, in hexadecimal digits.
///
/// # Errors
/// What the system says.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            more => digest.update(&piece[..more]),
        }
    }
    Ok(digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
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
