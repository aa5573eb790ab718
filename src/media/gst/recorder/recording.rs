//! A recording as the room has it: a mix, single tracks, or both with one beginning and one end.

use std::{path::PathBuf, time::Duration};

use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    super::{RoomClock, TrackTable, composite::CompositeRecorder, mixes::Mixes},
    Bounds,
    individual::IndividualRecorder,
    mixer::Parts,
};
use crate::{
    media::{MediaError, MediaEvent, RecordingSpec, Scene, graph::Graph},
    recording::tracks,
    room::id::RecordingId,
};

/// A running recording. It tells the room of its start and its end, once each, whatever happens.
#[derive(Debug)]
pub struct Recording {
    composite: Option<CompositeRecorder>,
    individual: Option<IndividualRecorder>,
    /// Makes one start and one end of two.
    merger: Option<JoinHandle<()>>,
}

impl Recording {
    /// Starts what `spec` asks for; the mixes know the scene already. `file` is the mix's; single tracks go into a folder beside it.
    /// Must be called on a tokio runtime; returns at once.
    ///
    /// # Errors
    /// As [`CompositeRecorder::start`]. Everything else comes as an event.
    #[expect(clippy::too_many_arguments, reason = "the room's parts, each with a type of its own")]
    pub fn start(
        clock: &RoomClock,
        mixes: &Mixes,
        recording: RecordingId,
        file: PathBuf,
        bounds: Bounds,
        spec: &RecordingSpec,
        scene: &Scene,
        table: &TrackTable,
        events: mpsc::Sender<MediaEvent>,
    ) -> Result<Self, MediaError> {
        let is_both = spec.mode.has_composite() && spec.mode.has_individual();
        // Two starts and two ends at most.
        let (halves, told) = mpsc::channel(4);
        let teller = if is_both { halves } else { events.clone() };
        let folder = tracks::folder_of(&file);
        let composite = spec.mode.has_composite().then(|| {
            let (id, bounds, teller) = (recording.clone(), bounds.clone(), teller.clone());
            CompositeRecorder::start(clock, mixes, id, file, bounds, spec, teller)
        });
        let composite = composite.transpose()?;
        // Of both, both begin at the same moment.
        let bounds = composite.as_ref().map_or(bounds, |composite| composite.bounds().clone());
        let individual = spec.mode.has_individual().then(|| {
            let parts = Parts { audio: spec.audio, video: spec.video };
            let (id, bounds) = (recording.clone(), bounds.clone());
            // A mix is cut before the frame that is shown, which is up to one and a half of its frames ago.
            let frame = Duration::from_secs(1) / spec.fps.max(1);
            let hold = if is_both { frame * 2 } else { Duration::ZERO };
            IndividualRecorder::start(clock, id, folder, bounds, parts, hold, scene, table, teller)
        });
        let merger = is_both.then(|| tokio::spawn(merge(recording, told, bounds, clock.clone(), events)));
        Ok(Self { composite, individual, merger })
    }

    /// What is published from now on.
    pub fn set_scene(&mut self, scene: &Scene, table: &TrackTable) {
        self.individual.iter_mut().for_each(|individual| individual.set_scene(scene, table));
    }

    /// Leaves out what comes from now on. Nothing happens if it is paused already.
    pub fn pause(&mut self) {
        // The halves share their cuts: the first that makes one makes it for both, and the mix can only
        // be cut between two of its frames.
        self.composite.iter_mut().for_each(CompositeRecorder::pause);
        self.individual.iter_mut().for_each(IndividualRecorder::pause);
    }

    /// Goes on where it was paused. Nothing happens if it is not paused.
    pub fn resume(&mut self) {
        self.composite.iter_mut().for_each(CompositeRecorder::resume);
        self.individual.iter_mut().for_each(IndividualRecorder::resume);
        if self.composite.is_some() {
            self.individual.iter().for_each(IndividualRecorder::request_keyframes);
        }
    }

    /// Ends the recording with this moment. → [`MediaEvent::RecordingEnded`].
    pub fn stop(&mut self) {
        self.composite.iter_mut().for_each(CompositeRecorder::stop);
        self.individual.iter_mut().for_each(IndividualRecorder::stop);
    }

    /// Its files are closed, and the room was told.
    pub fn is_over(&self) -> bool {
        self.composite.as_ref().is_none_or(CompositeRecorder::is_over)
            && self.individual.as_ref().is_none_or(IndividualRecorder::is_over)
            && self.merger.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Adds this recording to the room's graph.
    pub fn graph(&self, graph: &mut Graph) {
        self.composite.iter().for_each(|composite| composite.graph(graph));
        self.individual.iter().for_each(|individual| individual.graph(graph));
    }

    /// Stops it and waits until its files are closed, at most for `deadline`.
    /// [`MediaEvent::RecordingEnded`] has been sent by then.
    ///
    /// # Errors
    /// [`MediaError::Deadline`]: it is given up; its files play up to their last fragments.
    pub async fn shutdown(self, deadline: Duration) -> Result<(), MediaError> {
        let Self { composite, individual, merger } = self;
        let composite = async {
            match composite {
                Some(composite) => composite.shutdown(deadline).await,
                None => Ok(()),
            }
        };
        let individual = async {
            match individual {
                Some(individual) => individual.shutdown(deadline).await,
                None => Ok(()),
            }
        };
        let (composite, individual) = tokio::join!(composite, individual);
        // It ends when both have told their end, or are gone.
        if let Some(merger) = merger {
            let _ = merger.await;
        }
        composite.and(individual)
    }
}

/// Tells the first start, and an end once both have ended, of which the first ends the other too.
async fn merge(
    recording: RecordingId,
    mut halves: mpsc::Receiver<MediaEvent>,
    bounds: Bounds,
    clock: RoomClock,
    events: mpsc::Sender<MediaEvent>,
) {
    let (mut is_started, mut result) = (false, Ok(()));
    // An error means that the room has gone.
    while let Some(event) = halves.recv().await {
        match event {
            MediaEvent::RecordingEnded { result: half, .. } => {
                bounds.stop.set(clock.running_time());
                result = result.and(half);
            }
            started if !is_started => {
                is_started = true;
                let _ = events.send(started).await;
            }
            _ => {}
        }
    }
    let _ = events.send(MediaEvent::RecordingEnded { recording, result }).await;
}
