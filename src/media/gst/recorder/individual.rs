//! A recording of single tracks: takes in whoever publishes, lets go of who has left, and has one
//! thread write it all.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, spawn_blocking},
};

use super::{
    super::{RoomClock, TrackTable},
    Bounds, RecorderEvent,
    depacketiser::Depacketiser,
    mixer::Parts,
    tracks::{self, Inlet, Key, Message, Owner},
};
use crate::{
    media::{
        Kind, MediaError, MediaEvent, Published, Scene,
        graph::{Edge, Graph, Node, NodeKind},
    },
    room::id::{RecordingId, TrackId},
};

/// A running recording of single tracks. It tells the room of its start and its end, once each,
/// whatever happens; a drop stops it like [`stop`](Self::stop).
#[derive(Debug)]
pub struct IndividualRecorder {
    recording: RecordingId,
    wanted: watch::Sender<Wanted>,
    bounds: Bounds,
    clock: RoomClock,
    written: Arc<Mutex<Arc<AtomicU64>>>,
    task: Option<JoinHandle<()>>,
}

/// What the room wants; the last word counts.
#[derive(Clone, Debug)]
struct Wanted {
    published: Vec<Published>,
    tracks: TrackTable,
}

impl IndividualRecorder {
    /// Starts to record what is published, as far as `parts` wants it, into `folder`, which must not
    /// exist yet, frames when they are `hold` old. → [`MediaEvent::RecordingStarted`] once there is a folder, and
    /// [`MediaEvent::RecordingEnded`]. Must be called on a tokio runtime; returns at once.
    #[expect(clippy::too_many_arguments, reason = "the room's parts, each with a type of its own")]
    pub fn start(
        clock: &RoomClock,
        recording: RecordingId,
        folder: PathBuf,
        bounds: Bounds,
        parts: Parts,
        hold: Duration,
        scene: &Scene,
        tracks: &TrackTable,
        events: mpsc::Sender<MediaEvent>,
    ) -> Self {
        let (wanted, wishes) = watch::channel(Wanted { published: scene.published.clone(), tracks: tracks.clone() });
        let written = Arc::<Mutex<Arc<AtomicU64>>>::default();
        let job = Job {
            recording: recording.clone(),
            clock: clock.clone(),
            folder,
            bounds: bounds.clone(),
            parts,
            hold,
            wishes,
            written: written.clone(),
            events,
            taps: HashMap::new(),
            next_key: 0,
        };
        let task = Some(tokio::spawn(job.run()));
        Self { recording, wanted, bounds, clock: clock.clone(), written, task }
    }

    /// What is published from now on.
    pub fn set_scene(&mut self, scene: &Scene, tracks: &TrackTable) {
        self.wanted.send_if_modified(|wanted| {
            if wanted.published == scene.published && wanted.tracks.keys().eq(tracks.keys()) {
                return false;
            }
            *wanted = Wanted { published: scene.published.clone(), tracks: tracks.clone() };
            true
        });
    }

    /// Leaves out what comes from now on. Nothing happens if it is paused already.
    pub fn pause(&mut self) {
        self.bounds.cuts.pause(self.clock.running_time());
    }

    /// Goes on where it was paused. Nothing happens if it is not paused.
    pub fn resume(&mut self) {
        if self.bounds.cuts.resume(self.clock.running_time()) {
            self.request_keyframes();
        }
    }

    /// Pictures go on with one, after a pause.
    pub fn request_keyframes(&self) {
        self.wanted.borrow().tracks.values().for_each(|track| track.request_keyframe());
    }

    /// Ends the recording with this moment. → [`MediaEvent::RecordingEnded`].
    pub fn stop(&mut self) {
        self.bounds.stop.set(self.clock.running_time());
    }

    /// Its files are closed, and the room was told.
    pub fn is_over(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Adds this recording to the room's graph. Tracks are nodes named `track-<id>`.
    pub fn graph(&self, graph: &mut Graph) {
        let id = format!("tracks-{}", self.recording);
        let wanted = self.wanted.borrow();
        for published in wanted.published.iter().filter(|published| wanted.tracks.contains_key(&published.track)) {
            let (from, to) = (format!("track-{}", published.track), id.clone());
            graph.edges.push(Edge { from, to, label: format!("{} rtp", published.codec.encoding_name()) });
        }
        let written = self.written.lock().expect("nothing panics under this lock").load(Relaxed);
        let facts = [("written_bytes".to_owned(), written.to_string())].into();
        graph.nodes.push(Node { id, kind: NodeKind::Recorder, label: "single tracks".into(), facts });
    }

    /// Stops it and waits until its files are closed, at most for `deadline`.
    /// [`MediaEvent::RecordingEnded`] has been sent by then.
    ///
    /// # Errors
    /// [`MediaError::Deadline`]: it is given up; its files play up to their last fragments.
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

impl Drop for IndividualRecorder {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The task: everything that takes time.
struct Job {
    recording: RecordingId,
    clock: RoomClock,
    folder: PathBuf,
    bounds: Bounds,
    parts: Parts,
    hold: Duration,
    wishes: watch::Receiver<Wanted>,
    written: Arc<Mutex<Arc<AtomicU64>>>,
    events: mpsc::Sender<MediaEvent>,
    /// Tracks that are recorded; `None`: it cannot be.
    taps: HashMap<TrackId, (Key, Option<Depacketiser>)>,
    next_key: Key,
}

impl Job {
    async fn run(mut self) {
        let result = self.record().await;
        if let Err(error) = &result {
            tracing::error!(recording.id = %self.recording, "recording of tracks ended by itself: {error}");
        }
        self.tell(MediaEvent::RecordingEnded { recording: self.recording.clone(), result }).await;
    }

    /// Until the files are closed.
    async fn record(&mut self) -> Result<(), MediaError> {
        let (folder, bounds, clock, hold) = (self.folder.clone(), self.bounds.clone(), self.clock.clone(), self.hold);
        let started = spawn_blocking(move || tracks::start(&folder, bounds, &clock, hold)).await;
        let (inlet, written, mut events) = started.map_err(|error| MediaError::File(error.to_string()))??;
        *self.written.lock().expect("nothing panics under this lock") = written;
        self.apply(&inlet);
        loop {
            tokio::select! {
                // The room's end drops the sender, after its stop: there is nothing more to wish for.
                Ok(()) = self.wishes.changed() => self.apply(&inlet),
                event = events.recv() => match event {
                    Some(RecorderEvent::Started) => {
                        self.tell(MediaEvent::RecordingStarted { recording: self.recording.clone() }).await;
                    }
                    Some(RecorderEvent::Ended(result)) => return result,
                    None => return Err(MediaError::File("the recorder's thread died".into())),
                },
            }
        }
    }

    /// Takes in what is published now, and lets go of what is not any more.
    fn apply(&mut self, inlet: &Inlet) {
        let Wanted { published, tracks } = self.wishes.borrow_and_update().clone();
        let is_published = |id: &TrackId| tracks.contains_key(id) && published.iter().any(|known| known.track == *id);
        self.taps.retain(|id, (key, depacketiser)| {
            let stays = is_published(id);
            if !stays {
                // First its pipeline: what it has given by then is in the file.
                depacketiser.take();
                inlet.send(Message::Close(*key));
            }
            stays
        });
        for Published { track: id, name, codec, .. } in published {
            let is_wanted = if codec.kind() == Kind::Audio { self.parts.audio } else { self.parts.video };
            let Some(track) = tracks.get(&id).filter(|_| is_wanted && !self.taps.contains_key(&id)) else { continue };
            let key = self.next_key;
            self.next_key += 1;
            let asked = track.clone();
            let ask_keyframe = Box::new(move || asked.request_keyframe_again());
            inlet.send(Message::Open(key, Owner { participant: name.clone(), codec }, ask_keyframe));
            let frames = inlet.clone();
            let started =
                Depacketiser::start(track, &self.clock, move |sample| frames.send(Message::Frame(key, sample)));
            if let Err(error) = &started {
                tracing::warn!(track.id = %id, "a track of {name} is not recorded: {error}");
                inlet.send(Message::Refuse(key, error.to_string()));
            }
            self.taps.insert(id, (key, started.ok()));
        }
    }

    /// An error means that the room has gone.
    async fn tell(&self, event: MediaEvent) {
        let _ = self.events.send(event).await;
    }
}
