//! A pipeline with one owner: it is started once, tells what happens, and ends with a deadline.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use gst::prelude::*;
use tokio::{sync::mpsc, task::JoinHandle};

use super::{RoomClock, bus, bus::PipelineEvent};
use crate::media::MediaError;

/// How long a pipeline may take to reach PLAYING (live pipelines do not preroll).
pub const START_DEADLINE: Duration = Duration::from_secs(5);

/// How many pipelines are in memory, whoever holds them; a pipeline that leaks stays counted.
pub fn live_pipelines() -> usize {
    LIVE_PIPELINES.load(Relaxed)
}

static LIVE_PIPELINES: AtomicUsize = AtomicUsize::new(0);

/// The one owner of a pipeline. Others may hold weak references, or elements while they work on
/// them; nobody else changes its state.
///
/// End it with [`shutdown`](Self::shutdown). `Drop` is for the paths where that was not possible: it
/// sets the pipeline to `Null` on a thread of its own and logs that it had to.
#[derive(Debug)]
pub struct OwnedPipeline {
    pipeline: gst::Pipeline,
    bus: JoinHandle<()>,
    ended: bool,
    /// Set for good when it ends, and held while its state changes: a start that was given up runs
    /// on, and must not come after the end.
    over: Arc<Mutex<bool>>,
}

impl OwnedPipeline {
    /// An empty pipeline on the room's time, and what it will tell. Must be called on a tokio
    /// runtime.
    pub fn new(name: &str, clock: &RoomClock) -> (Self, mpsc::Receiver<PipelineEvent>) {
        let pipeline = gst::Pipeline::with_name(name);
        LIVE_PIPELINES.fetch_add(1, Relaxed);
        pipeline.add_weak_ref_notify(|| {
            LIVE_PIPELINES.fetch_sub(1, Relaxed);
        });
        clock.apply(&pipeline);
        let (sender, events) = mpsc::channel(16);
        let bus = bus::watch(&pipeline, sender);
        (Self { pipeline, bus, ended: false, over: Arc::default() }, events)
    }

    /// The pipeline, to add elements to and look them up in. Keep no strong reference to it in a
    /// closure that one of its own elements owns.
    pub fn pipeline(&self) -> &gst::Pipeline {
        &self.pipeline
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.pipeline.name().into()
    }

    /// Starts it playing, off the runtime's threads.
    ///
    /// # Errors
    /// [`MediaError::Element`] if an element refuses; [`MediaError::Deadline`] after [`START_DEADLINE`].
    pub async fn start(&self) -> Result<(), MediaError> {
        match tokio::time::timeout(START_DEADLINE, tokio::task::spawn_blocking(self.starting())).await {
            Ok(Ok(true)) => Ok(()),
            Ok(_) => Err(MediaError::Element { element: self.name(), message: "could not be started".into() }),
            Err(_) => Err(MediaError::Deadline { step: "starting a pipeline", limit: START_DEADLINE }),
        }
    }

    /// What starts it, for a thread that may block; false if it cannot be started, or is over.
    fn starting(&self) -> impl FnOnce() -> bool + Send + 'static {
        let (pipeline, over) = (self.pipeline.clone(), self.over.clone());
        move || {
            let over = over.lock().expect("nothing panics under this lock");
            !*over && pipeline.set_state(gst::State::Playing).is_ok()
        }
    }

    /// What ends it for good, for a thread that may block.
    fn ending(&self) -> impl FnOnce() + Send + 'static {
        let (pipeline, over) = (self.pipeline.clone(), self.over.clone());
        move || {
            // A start that is under way holds the lock until it is through.
            *over.lock().expect("nothing panics under this lock") = true;
            if let Err(error) = pipeline.set_state(gst::State::Null) {
                tracing::error!(pipeline = %pipeline.name(), "pipeline could not be ended: {error}");
            }
        }
    }

    /// Sends end-of-stream into its sources, off the runtime's threads; [`PipelineEvent::Ended`]
    /// tells when the sinks have it.
    pub async fn end_of_stream(&self) {
        let pipeline = self.pipeline.clone();
        // An error means that the runtime is going down, and the pipeline with it.
        let _ = tokio::task::spawn_blocking(move || pipeline.send_event(gst::event::Eos::new())).await;
    }

    /// Ends it and waits until its threads are gone, at most for `deadline`; after that they are
    /// left to themselves.
    ///
    /// # Errors
    /// [`MediaError::Deadline`] if it did not end in time.
    pub async fn shutdown(mut self, deadline: Duration) -> Result<(), MediaError> {
        self.ended = true;
        let null = tokio::task::spawn_blocking(self.ending());
        if tokio::time::timeout(deadline, null).await.is_err() {
            tracing::error!(pipeline = %self.name(), "pipeline did not end within {deadline:?}");
            return Err(MediaError::Deadline { step: "ending a pipeline", limit: deadline });
        }
        // Messages that were not read hold the pipeline; they go with the task.
        self.bus.abort();
        let _ = (&mut self.bus).await;
        Ok(())
    }
}

impl Drop for OwnedPipeline {
    fn drop(&mut self) {
        self.bus.abort();
        if self.ended {
            return;
        }
        tracing::warn!(pipeline = %self.name(), "pipeline was dropped, not shut down");
        let thread = std::thread::Builder::new().name("pipeline-drop".into());
        if let Err(error) = thread.spawn(self.ending()) {
            tracing::error!("no thread to end a pipeline on: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn next(events: &mut mpsc::Receiver<PipelineEvent>) -> PipelineEvent {
        tokio::time::timeout(Duration::from_secs(10), events.recv()).await.unwrap().unwrap()
    }

    fn test_pipeline(launch: &str) -> (OwnedPipeline, mpsc::Receiver<PipelineEvent>) {
        gst::init().unwrap();
        let (owned, events) = OwnedPipeline::new("test", &RoomClock::new());
        let bin = gst::parse::bin_from_description(launch, false).unwrap();
        owned.pipeline().add(&bin).unwrap();
        (owned, events)
    }

    /// Resolves when the pipeline's memory is freed.
    fn finalised(owned: &OwnedPipeline) -> impl Future<Output = ()> + use<> {
        let (gone, finalised) = tokio::sync::oneshot::channel();
        let gone = std::sync::Mutex::new(Some(gone));
        owned.pipeline().add_weak_ref_notify(move || {
            gone.lock().unwrap().take().unwrap().send(()).unwrap();
        });
        async { tokio::time::timeout(Duration::from_secs(10), finalised).await.unwrap().unwrap() }
    }

    #[tokio::test]
    async fn tells_its_end_and_leaves_nothing() {
        let before = live_pipelines();
        let (owned, mut events) = test_pipeline("audiotestsrc num-buffers=3 ! fakesink");
        let finalised = finalised(&owned);
        owned.start().await.unwrap();
        assert_eq!(next(&mut events).await, PipelineEvent::Ended);
        assert_eq!(live_pipelines(), before + 1);
        owned.shutdown(Duration::from_secs(5)).await.unwrap();
        finalised.await;
        assert_eq!(live_pipelines(), before);
    }

    #[tokio::test]
    async fn tells_whose_error_it_was() {
        let (owned, mut events) = test_pipeline("audiotestsrc ! identity name=culprit error-after=2 ! fakesink");
        owned.start().await.unwrap();
        let PipelineEvent::Failed(MediaError::Element { element, message }) = next(&mut events).await else { panic!() };
        assert_eq!(element, "culprit");
        assert!(message.contains("error-quark"), "{message}");
        owned.shutdown(Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test]
    async fn a_start_that_comes_after_the_end_does_nothing() {
        let (owned, _events) = test_pipeline("audiotestsrc is-live=true ! fakesink");
        let (pipeline, late) = (owned.pipeline().clone(), owned.starting());
        owned.shutdown(Duration::from_secs(5)).await.unwrap();
        assert!(!late());
        assert_eq!(pipeline.current_state(), gst::State::Null);
    }

    #[tokio::test]
    async fn dropping_ends_it_too() {
        let (owned, _events) = test_pipeline("audiotestsrc is-live=true ! fakesink");
        owned.start().await.unwrap();
        let finalised = finalised(&owned);
        drop(owned);
        finalised.await;
    }
}
