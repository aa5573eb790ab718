//! Cameras and other sources that are fetched: one task keeps the connection ([`line`]), one for each
//! track sees to what is on air ([`air`]): the camera's own frames, a transcoder's, or the slate.
//!
//! ```text
//! camera ─ RTP ─► input (rtpbin, depayloader, parser) ─ frames ─► Output ─► payloader ─► Track
//!                                                        │  ▲
//!                                            transcoder ◄┘──┘ slate
//! ```
//! Input and transcoder come and go; the output and its track stay, so that a camera that comes back is
//! the same track to everybody.

mod air;
mod demand;
mod ear;
mod fetch;
mod input;
mod line;
mod output;
mod probe;
mod slate;
mod stream;
mod transcode;

use std::sync::{Arc, Mutex};

use gst::prelude::*;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(super) use fetch::srt_query;
pub(super) use probe::probe;

use output::Output;

use super::{RoomClock, Track, preset::Presets};
use crate::{
    media::{
        Kind, MediaError, MediaEvent,
        graph::{Graph, NodeKind},
        ingest::{Handling, Ingest, IngestFigures, IngestMedia, IngestStatus},
    },
    room::id::{ConnectionId, TrackId},
};

/// The room's end of a running ingest. Dropping it ends it.
#[derive(Debug)]
pub(super) struct RunningIngest {
    books: Arc<Books>,
    /// None until it is known what it has.
    outputs: watch::Receiver<Vec<Arc<Output>>>,
    stop: DropGuard,
    task: JoinHandle<()>,
}

/// What an ingest is made with.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) connection: ConnectionId,
    pub(super) clock: RoomClock,
    pub(super) presets: Arc<Presets>,
    pub(super) events: mpsc::Sender<MediaEvent>,
}

/// How it stands, for the room and the graph.
#[derive(Debug)]
struct Books {
    connection: ConnectionId,
    status: Mutex<IngestStatus>,
    events: mpsc::Sender<MediaEvent>,
}

impl Books {
    /// Notes a change, and tells the room if it is one.
    async fn note(&self, change: impl FnOnce(&mut IngestStatus)) {
        let status = {
            let mut status = self.status.lock().expect("nothing panics under this lock");
            let before = status.clone();
            change(&mut status);
            if *status == before {
                return;
            }
            status.clone()
        };
        let connection = self.connection.clone();
        // An error means that the room is gone, and this ingest about to be.
        let _ = self.events.send(MediaEvent::IngestChanged { connection, status }).await;
    }

    fn status(&self) -> IngestStatus {
        self.status.lock().expect("nothing panics under this lock").clone()
    }
}

impl RunningIngest {
    /// Starts to fetch. → [`MediaEvent::IngestOpened`] once it is known what there is,
    /// [`MediaEvent::IngestChanged`] whenever something changes. Must be called on a tokio runtime.
    pub(super) fn start(context: Context, ingest: Ingest) -> Self {
        let stop = CancellationToken::new();
        let (sender, outputs) = watch::channel(Vec::new());
        let books = Arc::new(Books {
            connection: context.connection.clone(),
            status: Mutex::default(),
            events: context.events.clone(),
        });
        let line = line::Line::new(context, ingest, books.clone(), sender, stop.clone());
        let task = tokio::spawn(line.run());
        Self { books, outputs, stop: stop.drop_guard(), task }
    }

    /// Its tracks, whether anything is in them or not; they are there before [`MediaEvent::IngestOpened`].
    pub(super) fn tracks(&self) -> Vec<Arc<Track>> {
        self.outputs.borrow().iter().map(|output| output.track.clone()).collect()
    }

    /// Gives nothing of that track to anybody, or gives it again.
    pub(super) fn mute(&self, track: &TrackId, muted: bool) {
        let outputs = self.outputs.borrow();
        outputs.iter().filter(|output| output.track.id == *track).for_each(|output| output.mute(muted));
    }

    /// What has come so far.
    pub(super) fn figures(&self) -> IngestFigures {
        let mut figures = IngestFigures::default();
        for output in self.outputs.borrow().iter() {
            let (frames, bytes) = output.came();
            match output.track.kind() {
                Kind::Video => (figures.video_frames, figures.video_bytes) = (frames, bytes),
                Kind::Audio => figures.audio_bytes = bytes,
            }
        }
        figures
    }

    /// Has it say good-bye to the camera and end; gives its task to wait for.
    pub(super) fn close(self) -> JoinHandle<()> {
        drop(self.stop);
        self.task
    }

    /// Adds it to the room's graph. `track_node` names a track's node.
    pub(super) fn graph(&self, id: &ConnectionId, track_node: impl Fn(&Track) -> String, graph: &mut Graph) {
        let status = self.books.status();
        let state = format!("{:?}", status.state).to_lowercase();
        let mut facts = vec![("state", state), ("reconnects", status.reconnects.to_string())];
        facts.extend(status.reason.map(|reason| ("reason", reason.to_owned())));
        graph.add(&id.to_string(), NodeKind::Ingest, &id.to_string(), &facts);
        for track in &self.tracks() {
            let media = if track.kind() == Kind::Video { &status.video } else { &status.audio };
            let Some(IngestMedia { encoding, handling, .. }) = media else { continue };
            let mut from = id.to_string();
            if *handling != Handling::Forwarded {
                let transcoder = format!("transcoder-{}", track.id);
                let handling = format!("{handling:?}").to_lowercase();
                graph.add(&transcoder, NodeKind::Transcoder, encoding, &[("state", handling)]);
                graph.join(&from, &transcoder, encoding);
                from = transcoder;
            }
            graph.join(&from, &track_node(track), track.codec.encoding_name());
        }
    }
}

fn make(factory: &str) -> Result<gst::Element, MediaError> {
    gst::ElementFactory::make(factory).build().map_err(|_| MediaError::Unavailable(factory.into()))
}

/// Adds elements and links them in a row.
pub(super) fn add_linked(pipeline: &gst::Pipeline, elements: &[gst::Element]) -> Result<(), MediaError> {
    pipeline
        .add_many(elements)
        .and_then(|()| gst::Element::link_many(elements))
        .map_err(|error| MediaError::Element { element: pipeline.name().into(), message: error.to_string() })
}

/// A source for frames that come from elsewhere in the room, bounded: what it cannot take is dropped,
/// the oldest first.
fn frames_source(name: &str, most_bytes: u64) -> gst_app::AppSrc {
    let source = gst_app::AppSrc::builder()
        .name(name)
        .format(gst::Format::Time)
        .is_live(true)
        .handle_segment_change(true)
        .build();
    source.set_max_bytes(most_bytes);
    source.set_max_buffers(0);
    source.set_max_time(gst::ClockTime::ZERO);
    source.set_leaky_type(gst_app::AppLeakyType::Downstream);
    source
}

/// A sink that holds nothing up, and hands every sample to `take` on the pipeline's own thread.
fn frames_sink(name: &str, caps: &gst::Caps, take: impl Fn(gst::Sample) + Send + Sync + 'static) -> gst_app::AppSink {
    let sink =
        gst_app::AppSink::builder().name(name).caps(caps).async_(false).sync(false).enable_last_sample(false).build();
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        take(sink.pull_sample().map_err(|_| gst::FlowError::Flushing)?);
        Ok(gst::FlowSuccess::Ok)
    });
    sink.set_callbacks(callbacks.build());
    sink
}

/// A track's identifier in the names of its elements.
fn named(what: &str, track: &TrackId) -> String {
    format!("{what}-{track}")
}
