//! Writes an encoded mix into a growing MP4, on a thread of its own.
//!
//! The thread reads a bounded channel that the encoders fill, so a slow disk never holds up the mix.
//! What is in the file plays, and each fragment is synced to the disk.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::mixer::{Encoded, Tap};
use crate::{media::MediaError, recording::mp4::fragment::TrackKind};

mod timeline;

use timeline::{Frame, Timeline};

/// What is not on the disk yet when the process dies is lost: this, and what is in the encoders.
const FRAGMENT: Duration = Duration::from_millis(400);
/// Free space that recordings leave alone.
pub const DISK_RESERVE_BYTES: u64 = 64 << 20;
/// Frames that wait for a slow disk: about half a minute.
const QUEUE_FRAMES: usize = 2048;
/// Without a frame for so long, the mix is broken.
const MEDIA_DEADLINE: Duration = Duration::from_secs(10);
/// How long a stop waits for the frames up to its moment.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// What a recorder tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecorderEvent {
    /// The file's first fragment was written: it plays.
    Started,
    /// The file is closed; `Err` if it ended by itself, and plays up to there.
    Ended(Result<(), MediaError>),
}

/// A running recorder. Dropping it stops it too.
#[derive(Debug)]
pub struct Recorder {
    stop: Arc<StopTime>,
    /// Bytes in the file.
    pub written: Arc<AtomicU64>,
}

/// The running time at which a recorder is to end, shared with it, so that it knows before the
/// frames from after that time have come through the encoders. The earliest that is set counts.
#[derive(Debug)]
pub struct StopTime(AtomicU64);

/// A stop that waits for the tap's end.
const ALL: u64 = u64::MAX - 1;

impl Default for StopTime {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl StopTime {
    /// Ends the file with the last frame before `time`. → [`RecorderEvent::Ended`], within five
    /// seconds.
    pub fn set(&self, time: gst::ClockTime) {
        self.0.fetch_min(time.nseconds(), Relaxed);
    }

    /// Ends the file when every sender of the tap is gone, and all they sent is written: for media
    /// that ends by itself. → [`RecorderEvent::Ended`].
    pub fn when_all_is_written(&self) {
        self.0.fetch_min(ALL, Relaxed);
    }

    fn get(&self) -> Option<u64> {
        Some(self.0.load(Relaxed)).filter(|at| *at != u64::MAX)
    }
}

impl Recorder {
    /// Opens `file`, which must not exist, and starts the thread. What the encoders make goes into
    /// the returned tap. `priming_samples`: what the audio encoder puts in front.
    ///
    /// # Errors
    /// [`MediaError::File`] or [`MediaError::DiskFull`].
    pub fn start(
        file: &Path,
        priming_samples: u32,
        stop: Arc<StopTime>,
    ) -> Result<(Self, Tap, mpsc::UnboundedReceiver<RecorderEvent>), MediaError> {
        let space = free_bytes(file).map_err(|error| file_error(&error))?;
        if space < DISK_RESERVE_BYTES {
            return Err(MediaError::DiskFull);
        }
        let output = create(file).map_err(|error| file_error(&error))?;
        let (tap, frames): (SyncSender<Encoded>, _) = sync_channel(QUEUE_FRAMES);
        // At most two events ever.
        let (events, receiver) = mpsc::unbounded_channel();
        let written = Arc::new(AtomicU64::new(0));
        let sink = Sink {
            syncer: Syncer::start(&output).map_err(|error| file_error(&error))?,
            file: output,
            path: file.to_owned(),
            written: written.clone(),
            events: events.clone(),
            started: false,
        };
        let writer = Writer { sink, timeline: Timeline::new(priming_samples, FRAGMENT) };
        let thread = std::thread::Builder::new().name("recorder".into());
        let watched = stop.clone();
        thread
            .spawn(move || {
                let result = writer.run(&frames, &watched);
                // Nobody listens any more if the room has gone.
                let _ = events.send(RecorderEvent::Ended(result));
            })
            .map_err(|error| file_error(&error))?;
        Ok((Self { stop, written }, tap, receiver))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.set(gst::ClockTime::ZERO);
    }
}

/// Where fragments go.
struct Sink {
    file: File,
    syncer: Syncer,
    path: PathBuf,
    written: Arc<AtomicU64>,
    events: mpsc::UnboundedSender<RecorderEvent>,
    started: bool,
}

impl Sink {
    fn append(&mut self, bytes: &[u8]) -> Result<(), MediaError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let space = free_bytes(&self.path).map_err(|error| file_error(&error))?;
        if space < DISK_RESERVE_BYTES + bytes.len() as u64 {
            return Err(MediaError::DiskFull);
        }
        self.file.write_all(bytes).map_err(|error| file_error(&error))?;
        self.syncer.sync()?;
        self.written.fetch_add(bytes.len() as u64, Relaxed);
        if !std::mem::replace(&mut self.started, true) {
            let _ = self.events.send(RecorderEvent::Started);
        }
        Ok(())
    }
}

/// Asks the disk to keep what was written, on a thread of its own: on a busy disk that takes a
/// second, and the next fragment is not to wait for it. Requests that come meanwhile are one.
struct Syncer {
    wanted: SyncSender<()>,
    error: Arc<Mutex<Option<MediaError>>>,
}

impl Syncer {
    fn start(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        let (wanted, requests) = sync_channel::<()>(1);
        let error: Arc<Mutex<Option<MediaError>>> = Arc::default();
        let failed = error.clone();
        std::thread::Builder::new().name("recorder-sync".into()).spawn(move || {
            while requests.recv().is_ok() {
                if let Err(error) = file.sync_data() {
                    *failed.lock().expect("nothing panics under this lock") = Some(file_error(&error));
                }
            }
        })?;
        Ok(Self { wanted, error })
    }

    /// Soon. An error is that of an earlier request.
    fn sync(&self) -> Result<(), MediaError> {
        // Full: one is waiting already, and will cover this too.
        let _ = self.wanted.try_send(());
        self.error.lock().expect("nothing panics under this lock").clone().map_or(Ok(()), Err)
    }
}

/// The thread's state.
struct Writer {
    sink: Sink,
    timeline: Timeline,
}

impl Writer {
    fn run(mut self, frames: &Receiver<Encoded>, stop: &StopTime) -> Result<(), MediaError> {
        match self.write(frames, stop) {
            // Nothing more fits; what is there stands.
            Err(error @ (MediaError::DiskFull | MediaError::File(_))) => Err(error),
            result => self.finish().and(result),
        }
    }

    fn write(&mut self, frames: &Receiver<Encoded>, stop: &StopTime) -> Result<(), MediaError> {
        let mut stopping: Option<Stopping> = None;
        let mut last = Instant::now();
        loop {
            if stopping.is_none() {
                stopping = stop.get().map(Stopping::new);
            }
            if stopping.as_ref().is_some_and(Stopping::is_over) {
                return Ok(());
            }
            // Woken at times without a frame, to see that it is to stop.
            match frames.recv_timeout(FRAGMENT) {
                Ok(encoded) => {
                    last = Instant::now();
                    let Some(frame) = Frame::read(encoded) else { continue };
                    if stopping.as_mut().is_none_or(|stopping| stopping.wants(&frame)) {
                        let bytes = self.timeline.push(frame)?;
                        self.sink.append(&bytes)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) if last.elapsed() < MEDIA_DEADLINE => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(MediaError::Deadline { step: "waiting for the mix", limit: MEDIA_DEADLINE });
                }
                Err(RecvTimeoutError::Disconnected) if stop.get().is_some() => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(MediaError::File("the disk is too slow for the recording".into()));
                }
            }
        }
    }

    fn finish(&mut self) -> Result<(), MediaError> {
        let rest = self.timeline.finish()?;
        self.sink.append(&rest)?;
        self.sink.file.sync_all().map_err(|error| file_error(&error))
    }
}

/// A stop that waits for both tracks to come to its moment.
struct Stopping {
    at: u64,
    deadline: Instant,
    video_over: bool,
    audio_over: bool,
}

impl Stopping {
    fn new(at: u64) -> Self {
        Self { at, deadline: Instant::now() + STOP_DEADLINE, video_over: false, audio_over: false }
    }

    fn wants(&mut self, frame: &Frame) -> bool {
        let over = frame.time_ns >= i64::try_from(self.at).unwrap_or(i64::MAX);
        match frame.kind {
            TrackKind::Video => self.video_over |= over,
            TrackKind::Audio => self.audio_over |= over,
        }
        !over
    }

    fn is_over(&self) -> bool {
        (self.video_over && self.audio_over) || (self.at != ALL && Instant::now() >= self.deadline)
    }
}

/// Makes the file, and its name durable.
fn create(file: &Path) -> io::Result<File> {
    let output = File::options().append(true).create_new(true).open(file)?;
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

fn file_error(error: &io::Error) -> MediaError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => MediaError::DiskFull,
        _ => MediaError::File(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(file: File) -> (Sink, mpsc::UnboundedReceiver<RecorderEvent>) {
        let (events, receiver) = mpsc::unbounded_channel();
        let path = std::env::temp_dir().join("recording");
        (
            Sink { syncer: Syncer::start(&file).unwrap(), file, path, written: Arc::default(), events, started: false },
            receiver,
        )
    }

    #[test]
    fn a_full_disk_is_told_as_such() {
        let full = File::options().append(true).open("/dev/full").unwrap();
        let (mut sink, mut events) = sink(full);
        assert_eq!(sink.append(b"fragment"), Err(MediaError::DiskFull));
        assert!(events.try_recv().is_err(), "it counts as started");
    }

    #[test]
    fn the_start_is_told_once_when_something_was_written() {
        let (mut sink, mut events) = sink(tempfile::tempfile().unwrap());
        sink.append(b"").unwrap();
        assert!(events.try_recv().is_err());
        sink.append(b"one").unwrap();
        sink.append(b"two").unwrap();
        assert_eq!(events.try_recv().unwrap(), RecorderEvent::Started);
        assert!(events.try_recv().is_err());
        assert_eq!(sink.written.load(Relaxed), 6);
    }

    #[test]
    fn the_earliest_stop_counts() {
        let stop = StopTime::default();
        assert_eq!(stop.get(), None);
        stop.set(gst::ClockTime::from_seconds(9));
        stop.set(gst::ClockTime::from_seconds(12));
        assert_eq!(stop.get(), Some(9_000_000_000));
    }

    #[test]
    fn a_mix_that_ends_by_itself_is_an_error_and_one_that_was_stopped_is_not() {
        let folder = tempfile::tempdir().unwrap();
        for (name, stopped) in [("one", false), ("two", true)] {
            let stop = Arc::new(StopTime::default());
            let (_recorder, tap, mut events) = Recorder::start(&folder.path().join(name), 1024, stop.clone()).unwrap();
            if stopped {
                stop.set(gst::ClockTime::ZERO);
            }
            drop(tap);
            let ended = events.blocking_recv().unwrap();
            assert_eq!(matches!(ended, RecorderEvent::Ended(Ok(()))), stopped, "{ended:?}");
        }
    }
}
