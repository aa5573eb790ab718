//! A composite recording: a recorder that reads one of the room's mixes, and the task that watches both.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    RoomClock,
    mixer::{Canvas, Look, Parts},
    mixes::{Mix, Mixes, blocking},
    preset::AudioCodec,
    recorder::{Bounds, Order, Recorder, RecorderEvent},
};
use crate::{
    media::{
        MediaError, MediaEvent, RecordingSpec,
        graph::{Graph, NodeKind},
    },
    room::id::RecordingId,
};

/// A running composite recording. It tells the room of its start and its end, once each, whatever
/// happens; a drop stops it like [`stop`](Self::stop).
#[derive(Debug)]
pub struct CompositeRecorder {
    recording: RecordingId,
    /// The task holds it, and lets go of it at the end.
    mix: Weak<Mix>,
    bounds: Bounds,
    clock: RoomClock,
    written_bytes: WrittenBytes,
    task: Option<JoinHandle<()>>,
}

/// The recorder's own count, once there is one.
type WrittenBytes = Arc<Mutex<Arc<AtomicU64>>>;

impl CompositeRecorder {
    /// Starts to record the room's scene into `file`, which must not exist yet, within `bounds`. A picture begins
    /// with the mix's next frame: so does the recording, all of it ([`bounds`](Self::bounds)).
    /// → [`MediaEvent::RecordingStarted`] when the first fragment was written, and
    /// [`MediaEvent::RecordingEnded`]. Must be called on a tokio runtime; returns at once.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if an encoder or the layout is not there, or the canvas is none.
    /// Everything else comes as an event.
    pub fn start(
        clock: &RoomClock,
        mixes: &Mixes,
        recording: RecordingId,
        file: PathBuf,
        mut bounds: Bounds,
        spec: &RecordingSpec,
        events: mpsc::Sender<MediaEvent>,
    ) -> Result<Self, MediaError> {
        let parts = Parts { audio: spec.audio, video: spec.video };
        let mix = mixes.get(look(spec)?)?;
        if parts.video {
            bounds.begin = mix.first_frame(bounds.begin);
        }
        let written_bytes = WrittenBytes::default();
        let job = Job {
            recording: recording.clone(),
            clock: clock.clone(),
            mix: mix.clone(),
            file,
            order: Order { parts, priming_samples: mix.priming_samples, bounds: bounds.clone(), reordered: false },
            written_bytes: written_bytes.clone(),
            events,
        };
        let task = Some(tokio::spawn(job.run()));
        Ok(Self { recording, mix: Arc::downgrade(&mix), bounds, clock: clock.clone(), written_bytes, task })
    }

    /// When it begins and ends, for what is recorded beside it.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Leaves out what comes from now on. Nothing happens if it is paused already.
    pub fn pause(&mut self) {
        // A picture that is shown at this moment may show what came after it.
        if let Some(mix) = self.mix.upgrade() {
            self.bounds.cuts.pause(mix.before_frame(self.clock.running_time(), u64::div_euclid));
        }
    }

    /// Goes on where it was paused, with a keyframe. Nothing happens if it is not paused.
    pub fn resume(&mut self) {
        let Some(mix) = self.mix.upgrade() else { return };
        let at = mix.before_frame(self.clock.running_time(), u64::div_ceil);
        if self.bounds.cuts.resume(at) {
            mix.request_keyframe(at);
        }
    }

    /// Ends the recording with this moment. → [`MediaEvent::RecordingEnded`].
    pub fn stop(&mut self) {
        self.bounds.stop.set(self.clock.running_time());
    }

    /// Its file is closed, and the room was told.
    pub fn is_over(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Adds this recording to the room's graph, and the mix that it reads.
    pub fn graph(&self, graph: &mut Graph) {
        let Some(mix) = self.mix.upgrade() else { return };
        let (encoder, encoded) = mix.graph(graph);
        let recorder = format!("recorder-{}", self.recording);
        let written = self.written_bytes.lock().expect("nothing panics under this lock").load(Relaxed);
        graph.add(&recorder, NodeKind::Recorder, "MP4", &[("written_bytes", written.to_string())]);
        graph.join(&encoder, &recorder, encoded);
    }

    /// Stops it and waits until its file is closed, at most for `deadline`.
    /// [`MediaEvent::RecordingEnded`] has been sent by then.
    ///
    /// # Errors
    /// [`MediaError::Deadline`]: it is given up; its file plays up to its last fragment.
    pub async fn shutdown(mut self, deadline: Duration) -> Result<(), MediaError> {
        self.stop();
        let Some(mut task) = self.task.take() else { return Ok(()) };
        if tokio::time::timeout(deadline, &mut task).await.is_err() {
            task.abort();
            return Err(MediaError::Deadline { step: "ending a recording", limit: deadline });
        }
        Ok(())
    }
}

impl Drop for CompositeRecorder {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The task: everything that takes time.
struct Job {
    recording: RecordingId,
    clock: RoomClock,
    mix: Arc<Mix>,
    file: PathBuf,
    order: Order,
    written_bytes: WrittenBytes,
    events: mpsc::Sender<MediaEvent>,
}

impl Job {
    async fn run(self) {
        let (recording, events) = (self.recording.clone(), self.events.clone());
        let result = self.record().await;
        if let Err(error) = &result {
            tracing::error!(recording.id = %recording, "recording ended by itself: {error}");
        }
        tell(&events, MediaEvent::RecordingEnded { recording, result }).await;
    }

    async fn record(self) -> Result<(), MediaError> {
        let Self { recording, clock, mix, file, order, written_bytes, events } = self;
        let Bounds { begin, stop, .. } = order.bounds.clone();
        let (recorder, tap, mut recorder_events) = blocking(move || Recorder::start(&file, order)).await??;
        *written_bytes.lock().expect("nothing panics under this lock") = recorder.written.clone();
        mix.read(tap, begin);
        let mut failure = None;
        let result = loop {
            tokio::select! {
                event = recorder_events.recv() => match event {
                    Some(RecorderEvent::Started) => {
                        tell(&events, MediaEvent::RecordingStarted { recording: recording.clone() }).await;
                    }
                    Some(RecorderEvent::Ended(result)) => break failure.map_or(result, Err),
                    None => break Err(MediaError::File("the recorder's thread died".into())),
                },
                error = mix.failed(), if failure.is_none() => {
                    failure = Some(error);
                    stop.set(clock.running_time());
                }
            }
        };
        drop((recorder, mix));
        // Whoever hears that a recording is over may take its file, so nothing must be written to it any
        // more.
        while let Some(event) = recorder_events.recv().await {
            tracing::debug!(recording.id = %recording, "recorder, while it ends: {event:?}");
        }
        result
    }
}

/// An error means that the room has gone.
async fn tell(events: &mpsc::Sender<MediaEvent>, event: MediaEvent) {
    let _ = events.send(event).await;
}

/// What a recording shows.
///
/// # Errors
/// [`MediaError::Unavailable`] if the canvas is none.
pub fn look(spec: &RecordingSpec) -> Result<Look, MediaError> {
    Ok(Look {
        layout: spec.layout.clone(),
        canvas: canvas(spec)?,
        parts: Parts { audio: spec.audio, video: spec.video },
        codec: AudioCodec::Aac,
        without: Vec::new(),
        effects: spec.effects,
    })
}

/// The room has checked the ranges; an engine that is driven otherwise must not fall over.
fn canvas(spec: &RecordingSpec) -> Result<Canvas, MediaError> {
    let RecordingSpec { width, height, fps, .. } = *spec;
    let fits = (160..=3840).contains(&width) && (90..=2160).contains(&height) && (5..=60).contains(&fps);
    if fits && width % 2 == 0 && height % 2 == 0 {
        return Ok(Canvas { width, height, fps });
    }
    Err(MediaError::Unavailable(format!("a canvas of {width}×{height} at {fps}")))
}
