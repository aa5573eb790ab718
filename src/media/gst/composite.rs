//! A composite recording: a mixer and a recorder, and the task that keeps them to the room's wishes.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{
    PipelineEvent, RoomClock, TrackTable,
    decoder::{Decoder, Decoders},
    mixer::{Canvas, Mixer},
    preset::Presets,
    recorder::{Cuts, Recorder, RecorderEvent, StopTime},
};
use crate::{
    media::{
        LayoutChoice, MediaError, MediaEvent, RecordingSpec, Scene,
        graph::{Edge, Graph, Node, NodeKind},
    },
    room::id::{RecordingId, TrackId},
};

/// How long the mixer may take to end after the file is closed.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// A running composite recording. It tells the room of its start and its end, once each, whatever
/// happens; a drop stops it like [`stop`](Self::stop).
#[derive(Debug)]
pub struct CompositeRecorder {
    recording: RecordingId,
    canvas: Canvas,
    encoders: (String, String),
    wanted: watch::Sender<Wanted>,
    stop: Arc<StopTime>,
    cuts: Arc<Cuts>,
    /// Running time at which the file was resumed last.
    resumed: watch::Sender<gst::ClockTime>,
    begin: gst::ClockTime,
    clock: RoomClock,
    books: Arc<Books>,
    task: Option<JoinHandle<()>>,
}

/// What the room wants; the last word counts.
#[derive(Clone, Debug)]
struct Wanted {
    scene: Scene,
    tracks: TrackTable,
}

/// What the graph shows, kept by the task.
#[derive(Debug, Default)]
struct Books {
    decoders: Mutex<Vec<(TrackId, Arc<Decoder>)>>,
    written_bytes: Mutex<Arc<AtomicU64>>,
}

impl CompositeRecorder {
    /// Starts to record `scene` into `file`, which must not exist yet.
    /// → [`MediaEvent::RecordingStarted`] when the first fragment was written, and
    /// [`MediaEvent::RecordingEnded`]. Must be called on a tokio runtime; returns at once.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if an encoder or the layout is not there, or the canvas is none.
    /// Everything else comes as an event.
    #[expect(clippy::too_many_arguments, reason = "the room's parts, each with a type of its own")]
    pub fn start(
        clock: &RoomClock,
        decoders: &Decoders,
        presets: &Arc<Presets>,
        recording: RecordingId,
        file: PathBuf,
        spec: &RecordingSpec,
        scene: &Scene,
        tracks: &TrackTable,
        events: mpsc::Sender<MediaEvent>,
    ) -> Result<Self, MediaError> {
        let canvas = canvas(spec)?;
        presets.resolve(spec.layout.as_ref(), &scene.layout)?;
        presets.slate().and(presets.silence().map(drop)).map(drop)?;
        let encoders = (presets.video_encoder()?.name.clone(), presets.audio_encoder()?.name.clone());
        let first = Wanted { scene: scene.clone(), tracks: tracks.clone() };
        let (wanted, wishes) = watch::channel(first);
        let books = Arc::new(Books::default());
        let (stop, cuts) = (Arc::new(StopTime::default()), Arc::new(Cuts::default()));
        let (resumed, resumes) = watch::channel(gst::ClockTime::ZERO);
        let begin = clock.running_time();
        let job = Job {
            recording: recording.clone(),
            begin,
            clock: clock.clone(),
            decoders: decoders.clone(),
            presets: presets.clone(),
            layout: spec.layout.clone(),
            canvas,
            file,
            wishes,
            resumes,
            stop: stop.clone(),
            cuts: cuts.clone(),
            books: books.clone(),
            events,
        };
        let task = Some(tokio::spawn(job.run()));
        let clock = clock.clone();
        Ok(Self { recording, canvas, encoders, wanted, stop, cuts, resumed, begin, clock, books, task })
    }

    /// Who is seen and heard from now on.
    pub fn set_scene(&mut self, scene: &Scene, tracks: &TrackTable) {
        self.wanted.send_if_modified(|wanted| {
            let same_tracks = wanted.tracks.keys().eq(tracks.keys());
            if wanted.scene == *scene && same_tracks {
                return false;
            }
            (wanted.scene, wanted.tracks) = (scene.clone(), tracks.clone());
            true
        });
    }

    /// Leaves out what comes from now on. Nothing happens if it is paused already.
    pub fn pause(&mut self) {
        // A picture that is shown at this moment may show what came after it.
        self.cuts.pause(self.before_frame(u64::div_euclid));
    }

    /// Goes on where it was paused, with a keyframe. Nothing happens if it is not paused.
    pub fn resume(&mut self) {
        let at = self.before_frame(u64::div_ceil);
        if self.cuts.resume(at) {
            self.resumed.send_replace(at);
        }
    }

    /// Half a frame before a frame of the mix: of the one that is shown now, or the next, as `round`
    /// says. Frames are evenly spaced from the beginning on, so a pause between two such moments is a
    /// whole number of frames long, and leaves no gap.
    fn before_frame(&self, round: fn(u64, u64) -> u64) -> gst::ClockTime {
        const SECOND: u64 = 1_000_000_000;
        let fps = u64::from(self.canvas.fps);
        let elapsed = self.clock.running_time().saturating_sub(self.begin).nseconds();
        let frame = round(elapsed.saturating_mul(fps), SECOND).max(1);
        self.begin + gst::ClockTime::from_nseconds((2 * frame - 1) * SECOND / (2 * fps))
    }

    /// Ends the recording with this moment. → [`MediaEvent::RecordingEnded`].
    pub fn stop(&mut self) {
        self.stop.set(self.clock.running_time());
    }

    /// Its file is closed, and the room was told.
    pub fn is_over(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Adds this recording to the room's graph. Tracks are nodes named `track-<id>`.
    pub fn graph(&self, graph: &mut Graph) {
        let mix = format!("mixer-{}", self.recording);
        let encoder = format!("encoder-{}", self.recording);
        let recorder = format!("recorder-{}", self.recording);
        let size = format!("{}×{} at {}", self.canvas.width, self.canvas.height, self.canvas.fps);
        for (track, decoder) in self.books.decoders().iter() {
            let id = format!("decoder-{track}");
            let label = decoder.codec.encoding_name();
            if !graph.nodes.iter().any(|node| node.id == id) {
                graph.nodes.push(node(&id, NodeKind::Decoder, label, &[("restarts", decoder.restarts().to_string())]));
                graph.edges.push(edge(&format!("track-{track}"), &id, &format!("{label} rtp")));
            }
            graph.edges.push(edge(&id, &mix, "raw"));
        }
        let tiles = self.wanted.borrow().scene.tiles.len().to_string();
        graph.nodes.push(node(&mix, NodeKind::Mixer, &size, &[("tiles", tiles)]));
        let encoders = format!("{} and {}", self.encoders.0, self.encoders.1);
        graph.nodes.push(node(&encoder, NodeKind::Encoder, &encoders, &[]));
        let written = self.books.written_bytes();
        graph.nodes.push(node(&recorder, NodeKind::Recorder, "MP4", &[("written_bytes", written.to_string())]));
        graph.edges.push(edge(&mix, &encoder, &format!("I420 {size}, S16 48 kHz")));
        graph.edges.push(edge(&encoder, &recorder, "H.264, AAC"));
    }

    /// Stops it and waits until its file is closed and all of it is gone, at most for `deadline`.
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

impl Books {
    fn decoders(&self) -> std::sync::MutexGuard<'_, Vec<(TrackId, Arc<Decoder>)>> {
        self.decoders.lock().expect("nothing panics under this lock")
    }

    fn written_bytes(&self) -> u64 {
        self.written_bytes.lock().expect("nothing panics under this lock").load(Relaxed)
    }
}

/// The task: everything that takes time.
struct Job {
    recording: RecordingId,
    /// The file's time 0: when it was asked for, and not when everything was built.
    begin: gst::ClockTime,
    clock: RoomClock,
    decoders: Decoders,
    presets: Arc<Presets>,
    layout: Option<LayoutChoice>,
    canvas: Canvas,
    file: PathBuf,
    wishes: watch::Receiver<Wanted>,
    resumes: watch::Receiver<gst::ClockTime>,
    stop: Arc<StopTime>,
    cuts: Arc<Cuts>,
    books: Arc<Books>,
    events: mpsc::Sender<MediaEvent>,
}

impl Job {
    async fn run(mut self) {
        let result = self.record().await;
        if let Err(error) = &result {
            tracing::error!(recording.id = %self.recording, "recording ended by itself: {error}");
        }
        self.tell(MediaEvent::RecordingEnded { recording: self.recording.clone(), result }).await;
    }

    async fn record(&mut self) -> Result<(), MediaError> {
        let priming = self.presets.audio_encoder()?.priming_samples;
        let (file, stop, cuts) = (self.file.clone(), self.stop.clone(), self.cuts.clone());
        let (recorder, tap, mut recorder_events) =
            blocking(move || Recorder::start(&file, priming, stop, cuts)).await??;
        *self.books.written_bytes.lock().expect("nothing panics under this lock") = recorder.written.clone();
        let result = match self.build().await {
            Ok((mixer, mut pipeline_events)) => {
                mixer.add_tap(tap);
                let mut mixer = Some(mixer);
                let result = self.play(&mut mixer, &mut pipeline_events, &mut recorder_events).await;
                self.books.decoders().clear();
                if let Some(mixer) = mixer {
                    // A deadline that passes is logged there; the file is closed either way.
                    let _ = mixer.shutdown(SHUTDOWN_DEADLINE).await;
                }
                result
            }
            Err(error) => {
                drop(tap);
                Err(error)
            }
        };
        drop(recorder);
        // It ends soon without its mixer. Whoever hears that a recording is over may take its file, so
        // nothing must be written to it any more.
        while let Some(event) = recorder_events.recv().await {
            tracing::debug!(recording.id = %self.recording, "recorder, while it ends: {event:?}");
        }
        result
    }

    /// Off the runtime's threads: elements are made, and plugins loaded.
    async fn build(&self) -> Result<(Mixer, mpsc::Receiver<PipelineEvent>), MediaError> {
        let (name, clock, decoders) = (self.recording.clone(), self.clock.clone(), self.decoders.clone());
        let (presets, layout, canvas) = (self.presets.clone(), self.layout.clone(), self.canvas);
        blocking(move || Mixer::new(name.as_str(), &clock, &decoders, &presets, layout, canvas)).await?
    }

    /// Until the file is closed.
    async fn play(
        &mut self,
        mixer: &mut Option<Mixer>,
        pipeline_events: &mut mpsc::Receiver<PipelineEvent>,
        recorder_events: &mut mpsc::UnboundedReceiver<RecorderEvent>,
    ) -> Result<(), MediaError> {
        let Some(running) = mixer.as_mut() else { return Ok(()) };
        running.start(self.begin).await?;
        self.apply(mixer, self.begin).await?;
        let mut failure = None;
        loop {
            tokio::select! {
                // The room's end drops the sender, after its stop: there is nothing more to wish for.
                Ok(()) = self.wishes.changed() => {
                    let now = self.clock.running_time();
                    self.apply(mixer, now).await?;
                }
                Ok(()) = self.resumes.changed() => {
                    let at = *self.resumes.borrow_and_update();
                    mixer.iter().for_each(|mixer| mixer.request_keyframe(at));
                }
                event = recorder_events.recv() => match event {
                    Some(RecorderEvent::Started) => {
                        self.tell(MediaEvent::RecordingStarted { recording: self.recording.clone() }).await;
                    }
                    Some(RecorderEvent::Ended(result)) => return failure.map_or(result, Err),
                    None => return Err(MediaError::File("the recorder's thread died".into())),
                },
                Some(event) = pipeline_events.recv() => {
                    if let PipelineEvent::Failed(error) = event {
                        failure.get_or_insert(error);
                        self.stop.set(self.clock.running_time());
                    }
                }
            }
        }
    }

    /// Does what the room wants now. Changes to a running pipeline may wait for its threads.
    async fn apply(&mut self, mixer: &mut Option<Mixer>, from: gst::ClockTime) -> Result<(), MediaError> {
        let wanted = self.wishes.borrow_and_update().clone();
        let Some(mut changing) = mixer.take() else { return Ok(()) };
        let changed = blocking(move || {
            changing.set_scene(&wanted.scene, &wanted.tracks, from);
            changing
        });
        let changed = changed.await?;
        *self.books.decoders() = changed.decoders();
        *mixer = Some(changed);
        Ok(())
    }

    /// An error means that the room has gone.
    async fn tell(&self, event: MediaEvent) {
        let _ = self.events.send(event).await;
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, MediaError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| MediaError::Element { element: "mixer".into(), message: error.to_string() })
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

fn node(id: &str, kind: NodeKind, label: &str, facts: &[(&str, String)]) -> Node {
    let facts = facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Node { id: id.into(), kind, label: label.into(), facts }
}

fn edge(from: &str, to: &str, label: &str) -> Edge {
    Edge { from: from.into(), to: to.into(), label: label.into() }
}
