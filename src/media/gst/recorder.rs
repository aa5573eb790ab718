//! Writes an encoded mix into a growing MP4, on a thread of its own.
//!
//! The thread reads a bounded channel that the encoders fill, so a slow disk never holds up the mix.
//! What is in the file plays, and each fragment is synced to the disk.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::AtomicU64,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::mixer::{self, Encoded, Parts, Tap};
use crate::{media::MediaError, recording::mp4::fragment::TrackKind};

mod bounds;
mod budget;
mod cuts;
mod depacketiser;
pub mod individual;
mod output;
pub mod recording;
mod timeline;
mod tracks;

pub use bounds::{Bounds, StopTime};
pub use budget::Budget;
pub use cuts::Cuts;
use output::{Disk, Output, file_error};
use timeline::{Frame, Timeline};

/// What is not on the disk yet when the process dies is lost: this, and what is in the encoders.
const FRAGMENT: Duration = Duration::from_millis(200);
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

/// What a recorder is to write.
#[derive(Clone, Debug)]
pub struct Order {
    /// What comes through its tap.
    pub parts: Parts,
    /// What the audio encoder puts in front.
    pub priming_samples: u32,
    /// When it ends, and what is left out.
    pub bounds: Bounds,
    /// The pictures may be decoded in another order than they are shown.
    pub reordered: bool,
}

/// A running recorder. Dropping it stops it too.
#[derive(Debug)]
pub struct Recorder {
    stop: Arc<StopTime>,
    /// Bytes in the file.
    pub written: Arc<AtomicU64>,
}

impl Recorder {
    /// Opens `file`, which must not exist, and starts the thread. What the encoders make goes into
    /// the returned tap. It ends within five seconds of its stop. → [`RecorderEvent::Ended`]
    ///
    /// # Errors
    /// [`MediaError::File`] or [`MediaError::DiskFull`].
    pub fn start(file: &Path, order: Order) -> Result<(Self, Tap, mpsc::UnboundedReceiver<RecorderEvent>), MediaError> {
        let Order { parts, priming_samples, bounds, reordered } = order;
        let disk = Disk::new(bounds.budget)?;
        let (tap, frames): (SyncSender<Encoded>, _) = sync_channel(QUEUE_FRAMES);
        // At most two events ever.
        let (events, receiver) = mpsc::unbounded_channel();
        let writer = Writer {
            output: Output::create(file, &disk)?,
            timeline: Timeline::new(parts, bounds.begin, priming_samples, FRAGMENT, bounds.cuts).reordered(reordered),
            parts,
            events: events.clone(),
            started: false,
        };
        let thread = std::thread::Builder::new().name("recorder".into());
        let (stop, watched) = (bounds.stop.clone(), bounds.stop);
        thread
            .spawn(move || {
                let result = writer.run(&frames, &watched);
                // Nobody listens any more if the room has gone.
                let _ = events.send(RecorderEvent::Ended(result));
            })
            .map_err(|error| file_error(&error))?;
        Ok((Self { stop, written: disk.written }, tap, receiver))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.set(gst::ClockTime::ZERO);
    }
}

/// The thread's state.
struct Writer {
    output: Output,
    timeline: Timeline,
    parts: Parts,
    events: mpsc::UnboundedSender<RecorderEvent>,
    started: bool,
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
                stopping = stop.get().map(|at| Stopping::new(at, self.parts));
            }
            if self.output.is_full() || stopping.as_ref().is_some_and(Stopping::is_over) {
                return Ok(());
            }
            // Woken at times without a frame, to see that it is to stop.
            match frames.recv_timeout(FRAGMENT) {
                Ok(encoded) => {
                    last = Instant::now();
                    let Some(frame) = Frame::read(encoded) else { continue };
                    if stopping.as_mut().is_none_or(|stopping| stopping.wants(&frame)) {
                        let bytes = self.timeline.push(frame)?;
                        self.append(&bytes)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) if last.elapsed() < MEDIA_DEADLINE => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(MediaError::Deadline { step: "waiting for the mix", limit: MEDIA_DEADLINE });
                }
                Err(RecvTimeoutError::Disconnected) if stop.get().is_some() => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => {
                    let message = "the disk is too slow for the recording".into();
                    return Err(MediaError::Element { element: "recorder".into(), message });
                }
            }
        }
    }

    fn finish(&mut self) -> Result<(), MediaError> {
        let rest = self.timeline.finish()?;
        self.append(&rest)?;
        self.output.close()
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), MediaError> {
        self.output.append(bytes)?;
        if !bytes.is_empty() && !std::mem::replace(&mut self.started, true) {
            let _ = self.events.send(RecorderEvent::Started);
        }
        Ok(())
    }
}

/// A stop that waits for all tracks to come to its moment.
struct Stopping {
    at: u64,
    deadline: Instant,
    video_over: bool,
    audio_over: bool,
}

impl Stopping {
    fn new(at: u64, parts: Parts) -> Self {
        Self { at, deadline: Instant::now() + STOP_DEADLINE, video_over: !parts.video, audio_over: !parts.audio }
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
        (self.video_over && self.audio_over) || (self.at != StopTime::ALL && Instant::now() >= self.deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_that_ends_by_itself_is_an_error_and_one_that_was_stopped_is_not() {
        let folder = tempfile::tempdir().unwrap();
        for (name, stopped) in [("one", false), ("two", true)] {
            let bounds = Bounds::new(gst::ClockTime::ZERO, Budget::new(None, 0));
            let order = Order {
                parts: Parts { audio: true, video: true },
                priming_samples: 1024,
                bounds: bounds.clone(),
                reordered: false,
            };
            let (_recorder, tap, mut events) = Recorder::start(&folder.path().join(name), order).unwrap();
            if stopped {
                bounds.stop.set(gst::ClockTime::ZERO);
            }
            drop(tap);
            let ended = events.blocking_recv().unwrap();
            assert_eq!(matches!(ended, RecorderEvent::Ended(Ok(()))), stopped, "{ended:?}");
        }
    }
}
