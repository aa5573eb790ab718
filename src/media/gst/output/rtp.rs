//! Tracks as RTP packets for one player outside the page, fed like a subscriber of the room.

use std::{sync::Arc, time::Duration};

use gst::prelude::*;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::{Feed, OwnedPipeline, PipelineEvent, RoomClock, Track};
use crate::{
    media::{
        MediaError, MediaEvent,
        graph::{Graph, NodeKind},
        output::RtpPiece,
        rtp::Lane,
    },
    room::id::ConnectionId,
};

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// One player's output. Dropping it ends it.
#[derive(Debug)]
pub(in super::super) struct RtpOutput {
    tracks: Vec<Arc<Track>>,
    stop: DropGuard,
    task: JoinHandle<()>,
}

/// A track and the end of it that the player reads.
struct Sending {
    track: Arc<Track>,
    feed: Arc<Feed>,
}

impl RtpOutput {
    /// Starts to give `tracks`, as readers of that lane have them, to `reader`, each beginning with a keyframe. → [`MediaEvent::OutputEnded`] when the
    /// reader is gone or too slow. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// [`MediaError`] if its pipeline cannot be built.
    pub(in super::super) fn start(
        connection: ConnectionId,
        clock: &RoomClock,
        (tracks, lane): (Vec<Arc<Track>>, Lane),
        reader: mpsc::Sender<RtpPiece>,
        events: mpsc::Sender<MediaEvent>,
    ) -> Result<Self, MediaError> {
        let (pipeline, failures) = OwnedPipeline::new(&format!("output-{connection}"), clock);
        let overrun = Arc::new(Notify::new());
        let add = |(stream, track)| add_track(pipeline.pipeline(), stream, track, &reader, &overrun);
        let sending = tracks.iter().enumerate().map(add).collect::<Result<Vec<_>, _>>()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let failure = tokio::select! {
                () = stopped.cancelled() => None,
                () = reader.closed() => None,
                () = overrun.notified() => Some("the player does not keep up".to_owned()),
                failure = send(&pipeline, &sending, lane, failures) => Some(failure.to_string()),
            };
            for Sending { track, feed } in &sending {
                feed.close();
                track.remove_feed(feed);
            }
            drop(reader);
            // A deadline that passes is logged there.
            let _ = pipeline.shutdown(SHUTDOWN_DEADLINE).await;
            if let Some(reason) = failure {
                tracing::info!(%connection, "an output ended: {reason}");
            }
            // An error means that the room is gone.
            let _ = events.send(MediaEvent::OutputEnded { connection }).await;
        });
        Ok(Self { tracks, stop: stop.drop_guard(), task })
    }

    /// What it shows.
    pub(in super::super) fn tracks(&self) -> &[Arc<Track>] {
        &self.tracks
    }

    /// Ends it; gives its task to wait for.
    pub(in super::super) fn close(self) -> JoinHandle<()> {
        drop(self.stop);
        self.task
    }

    /// Adds it to the room's graph. `track_node` names a track's node.
    pub(in super::super) fn graph(&self, id: &ConnectionId, track_node: impl Fn(&Track) -> String, graph: &mut Graph) {
        graph.add(&id.to_string(), NodeKind::Output, "RTP", &[]);
        for track in &self.tracks {
            graph.join(&track_node(track), &id.to_string(), &format!("{} rtp", track.codec.encoding_name()));
        }
    }
}

/// A source that a feed fills, and a sink that the player is given its packets from.
fn add_track(
    pipeline: &gst::Pipeline,
    stream: usize,
    track: &Arc<Track>,
    reader: &mpsc::Sender<RtpPiece>,
    overrun: &Arc<Notify>,
) -> Result<Sending, MediaError> {
    let source = gst_app::AppSrc::builder().name(format!("feed-{}", track.id)).caps(&track.caps).build();
    let sink = gst_app::AppSink::builder().async_(false).sync(false).enable_last_sample(false).build();
    let (reader, overrun) = (reader.clone(), overrun.clone());
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Flushing)?;
        let Some(buffer) = sample.buffer() else { return Ok(gst::FlowSuccess::Ok) };
        let (Some(time), Ok(map)) = (buffer.pts(), buffer.map_readable()) else { return Ok(gst::FlowSuccess::Ok) };
        let piece = RtpPiece { stream, bytes: bytes::Bytes::copy_from_slice(&map), time: time.into() };
        if let Err(mpsc::error::TrySendError::Full(_)) = reader.try_send(piece) {
            overrun.notify_one();
        }
        Ok(gst::FlowSuccess::Ok)
    });
    sink.set_callbacks(callbacks.build());
    super::super::ingest::add_linked(pipeline, &[source.clone().upcast(), sink.upcast()])?;
    Ok(Sending { track: track.clone(), feed: Arc::new(Feed::new(source, track.kind())) })
}

/// Until something breaks down.
async fn send(
    pipeline: &OwnedPipeline,
    sending: &[Sending],
    lane: Lane,
    mut events: mpsc::Receiver<PipelineEvent>,
) -> MediaError {
    if let Err(error) = pipeline.start().await {
        return error;
    }
    for Sending { track, feed } in sending {
        feed.open();
        track.add_feed(feed.clone(), lane);
        track.request_keyframe_of(lane);
    }
    loop {
        match events.recv().await {
            Some(PipelineEvent::Failed(error)) => return error,
            Some(PipelineEvent::Ended) => {}
            None => std::future::pending().await,
        }
    }
}
