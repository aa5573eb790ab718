//! The bus of a pipeline as a channel of typed events: one task each, which sorts and forwards.

use futures_util::StreamExt;
use gst::prelude::*;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::media::MediaError;

/// What a pipeline tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PipelineEvent {
    /// Every sink has seen the end of its stream.
    Ended,
    /// An element reported an error; the pipeline plays no more.
    Failed(MediaError),
}

/// Reads `pipeline`'s bus until the task is aborted. The task holds the bus, and the pipeline only
/// weakly.
pub(super) fn watch(pipeline: &gst::Pipeline, events: mpsc::Sender<PipelineEvent>) -> JoinHandle<()> {
    let bus = pipeline.bus().expect("a pipeline that was never disposed of has a bus");
    let weak = pipeline.downgrade();
    tokio::spawn(async move {
        let mut messages = bus.stream();
        while let Some(message) = messages.next().await {
            let event = match message.view() {
                gst::MessageView::Eos(_) => PipelineEvent::Ended,
                gst::MessageView::Error(error) => PipelineEvent::Failed(element_error(error)),
                gst::MessageView::Latency(_) => {
                    recalculate_latency(&weak).await;
                    continue;
                }
                gst::MessageView::Warning(warning) => {
                    let source = warning.src().map(|src| src.path_string());
                    tracing::warn!(?source, debug = ?warning.debug(), "pipeline warns: {}", warning.error());
                    continue;
                }
                _ => continue,
            };
            // Never wait here: the bus has no bound. An owner that left sixteen events unread is
            // not going to act on a seventeenth.
            if let Err(mpsc::error::TrySendError::Closed(_)) = events.try_send(event) {
                return;
            }
        }
    })
}

/// Asks every element for its latency, off the runtime's threads: a query may wait for an element
/// that is changing state.
async fn recalculate_latency(pipeline: &gst::glib::WeakRef<gst::Pipeline>) {
    let Some(pipeline) = pipeline.upgrade() else { return };
    let distributed = tokio::task::spawn_blocking(move || {
        if let Err(error) = pipeline.recalculate_latency() {
            tracing::debug!(pipeline = %pipeline.name(), "latency could not be distributed: {error}");
        }
    });
    // An error means that the runtime is going down.
    let _ = distributed.await;
}

fn element_error(message: &gst::message::Error) -> MediaError {
    let error = message.error();
    let debug = message.debug().unwrap_or_default();
    MediaError::Element {
        element: message.src().map_or_else(|| "?".into(), |src| src.name().to_string()),
        message: format!("{} ({} {}): {debug}", error.message(), error.domain().as_str(), error.code()),
    }
}
