//! A file that only grows: within its budget, never into the disk's reserve, and soon on the disk.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{SyncSender, sync_channel},
    },
};

use super::Budget;
use crate::media::MediaError;

/// What the files that one thread writes share.
#[derive(Clone, Debug)]
pub struct Disk {
    /// What they may take.
    pub budget: Arc<Budget>,
    /// Bytes in them so far.
    pub written: Arc<AtomicU64>,
    syncer: Arc<Syncer>,
}

impl Disk {
    /// Starts the thread that has files synced.
    ///
    /// # Errors
    /// [`MediaError::File`]: there is no thread to be had.
    pub fn new(budget: Arc<Budget>) -> Result<Self, MediaError> {
        let syncer = Arc::new(Syncer::start().map_err(|error| file_error(&error))?);
        Ok(Self { budget, written: Arc::default(), syncer })
    }

    /// [`MediaError::DiskFull`] if less than the reserve is left where `path` is to be.
    ///
    /// # Errors
    /// That, or [`MediaError::File`] if the disk does not answer.
    pub fn check_space(&self, path: &Path, bytes: u64) -> Result<(), MediaError> {
        let space = free_bytes(path).map_err(|error| file_error(&error))?;
        if space < self.budget.reserve_bytes.saturating_add(bytes) { Err(MediaError::DiskFull) } else { Ok(()) }
    }
}

/// One file.
#[derive(Debug)]
pub struct Output {
    disk: Disk,
    file: Arc<File>,
    path: PathBuf,
    /// The budget is used up: the file ends before what did not fit.
    is_full: bool,
}

impl Output {
    /// Makes the file, which must not exist, and its name durable.
    ///
    /// # Errors
    /// [`MediaError::File`] or [`MediaError::DiskFull`].
    pub fn create(path: &Path, disk: &Disk) -> Result<Self, MediaError> {
        disk.check_space(path, 0)?;
        let file = create(path).map_err(|error| file_error(&error))?;
        Ok(Self::new(file, path, disk))
    }

    fn new(file: File, path: &Path, disk: &Disk) -> Self {
        Self { disk: disk.clone(), file: Arc::new(file), path: path.to_owned(), is_full: false }
    }

    /// Writes `bytes`, if the budget has them.
    ///
    /// # Errors
    /// [`MediaError::File`] or [`MediaError::DiskFull`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), MediaError> {
        if bytes.is_empty() || self.is_full {
            return Ok(());
        }
        if !self.disk.budget.take(bytes.len() as u64) {
            self.is_full = true;
            return Ok(());
        }
        self.disk.check_space(&self.path, bytes.len() as u64)?;
        (&*self.file).write_all(bytes).map_err(|error| file_error(&error))?;
        self.disk.written.fetch_add(bytes.len() as u64, Relaxed);
        self.disk.syncer.sync(&self.file)
    }

    /// The budget is used up.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Waits until all of it is on the disk.
    ///
    /// # Errors
    /// [`MediaError::File`] or [`MediaError::DiskFull`].
    pub fn close(&mut self) -> Result<(), MediaError> {
        self.file.sync_all().map_err(|error| file_error(&error))
    }
}

/// Asks the disk to keep what was written, on a thread of its own: on a busy disk that takes a
/// second, and the next fragment is not to wait for it. Requests that come meanwhile are one.
#[derive(Debug)]
struct Syncer {
    wanted: SyncSender<()>,
    state: Arc<Mutex<Unsynced>>,
}

#[derive(Debug, Default)]
struct Unsynced {
    files: Vec<Arc<File>>,
    error: Option<MediaError>,
}

impl Syncer {
    fn start() -> io::Result<Self> {
        let (wanted, requests) = sync_channel::<()>(1);
        let state: Arc<Mutex<Unsynced>> = Arc::default();
        let shared = state.clone();
        std::thread::Builder::new().name("recorder-sync".into()).spawn(move || {
            let lock = || shared.lock().expect("nothing panics under this lock");
            while requests.recv().is_ok() {
                let files = std::mem::take(&mut lock().files);
                for error in files.iter().filter_map(|file| file.sync_data().err()) {
                    lock().error = Some(file_error(&error));
                }
            }
        })?;
        Ok(Self { wanted, state })
    }

    /// Soon. An error is that of an earlier request.
    fn sync(&self, file: &Arc<File>) -> Result<(), MediaError> {
        let mut state = self.state.lock().expect("nothing panics under this lock");
        if !state.files.iter().any(|waiting| Arc::ptr_eq(waiting, file)) {
            state.files.push(file.clone());
        }
        // Full: one is waiting already, and will cover this too.
        let _ = self.wanted.try_send(());
        state.error.clone().map_or(Ok(()), Err)
    }
}

/// It is locked until the last of it is written, for whoever must not touch it before
/// (`recording::store::wait_for_writer`).
fn create(file: &Path) -> io::Result<File> {
    let output = File::options().append(true).create_new(true).open(file)?;
    if let Err(error) = output.try_lock() {
        tracing::debug!("{}: not locked: {error}", file.display());
    }
    File::open(folder(file))?.sync_all()?;
    Ok(output)
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn free_bytes(file: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(folder(file))?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// As what a system's error counts.
pub fn file_error(error: &io::Error) -> MediaError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => MediaError::DiskFull,
        _ => MediaError::File(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(file: File, most: u64) -> Output {
        let disk = Disk::new(Arc::new(Budget::new(Some(most), 0))).unwrap();
        Output::new(file, &std::env::temp_dir().join("recording"), &disk)
    }

    #[test]
    fn a_full_disk_is_told_as_such() {
        let full = File::options().append(true).open("/dev/full").unwrap();
        let mut output = output(full, 100);
        assert_eq!(output.append(b"fragment"), Err(MediaError::DiskFull));
        assert_eq!(output.disk.written.load(Relaxed), 0);
    }

    #[test]
    fn what_does_not_fit_the_budget_ends_the_file() {
        let mut output = output(tempfile::tempfile().unwrap(), 8);
        output.append(b"12345").unwrap();
        assert!(!output.is_full());
        output.append(b"6789").unwrap();
        // It would fit, but a file has no holes.
        output.append(b"6").unwrap();
        assert!(output.is_full());
        assert_eq!((output.disk.written.load(Relaxed), output.file.metadata().unwrap().len()), (5, 5));
    }
}
