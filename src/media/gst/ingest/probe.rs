//! A look at a camera without a room: what it has, and a picture of it as JPEG.

use std::{sync::Arc, time::Duration};

use gst::prelude::*;
use gst_utils::streamproducer::ConsumerSettings;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{Context, RunningIngest};
use crate::{
    ingest::rtsp::Source,
    media::{
        Kind, MediaError, MediaEvent,
        gst::{OwnedPipeline, PipelineEvent, RoomClock, Track, decoder::Decoders, preset::Presets},
        ingest::{Ingest, IngestState, IngestStatus, Probed},
    },
    room::id::{ConnectionId, ConnectionName, ParticipantId, TrackId},
};

/// All of it: calling, what it has, a keyframe, and its picture.
const LIMIT: Duration = Duration::from_secs(12);
/// A camera that sends both kinds tells of the second so soon after the first.
const SETTLED: Duration = Duration::from_millis(500);
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);
/// Pixels of the picture's longer side, at most.
const SNAPSHOT_WIDTH: i32 = 640;
const QUALITY: i32 = 80;

/// Looks at `source`, and lets go of it. Ends within some seconds whatever the camera does.
pub(in super::super) async fn probe(presets: &Arc<Presets>, source: Source) -> Probed {
    let until = Instant::now() + LIMIT;
    let clock = RoomClock::new();
    let (events, told) = mpsc::channel(64);
    let connection = ConnectionId { participant: ParticipantId::random(), name: ConnectionName::random() };
    let context = Context { connection, clock: clock.clone(), presets: presets.clone(), events };
    let ingest = Ingest {
        name: source.uri.host.to_string(),
        latency: Duration::from_millis(100),
        on_demand: false,
        video: source.video.then(TrackId::random),
        audio: source.audio.then(TrackId::random),
        source,
    };
    let running = RunningIngest::start(context, ingest);
    let mut look = Look { told, status: IngestStatus::default() };
    look.until_known(until).await;
    let track = running.tracks().into_iter().find(|track| track.kind() == Kind::Video);
    let snapshot = match track.filter(|_| look.status.state == IngestState::Live && look.status.video.is_some()) {
        Some(track) => {
            let decoders = Decoders::new(&clock);
            let taken = timeout_at(until, picture(&clock, &decoders, &track)).await;
            decoders.ended().await;
            taken.ok().and_then(|taken| {
                taken.inspect_err(|error| tracing::warn!("no picture could be taken of a camera: {error}")).ok()
            })
        }
        None => None,
    };
    let status = look.status;
    // An error means that the task panicked, which is logged.
    let _ = running.close().await;
    Probed { status, snapshot }
}

/// What was told of it so far.
struct Look {
    told: mpsc::Receiver<MediaEvent>,
    status: IngestStatus,
}

impl Look {
    /// Until media comes, or it is known that none does.
    async fn until_known(&mut self, until: Instant) {
        while matches!(self.status.state, IngestState::Connecting | IngestState::Idle) {
            match timeout_at(until, self.told.recv()).await {
                Ok(Some(event)) => self.note(event),
                Ok(None) | Err(_) => return,
            }
        }
        // Of a picture's size and the second stream it tells a moment later.
        let settled = Instant::now() + SETTLED;
        while let Ok(Some(event)) = timeout_at(settled.min(until), self.told.recv()).await {
            self.note(event);
        }
    }

    fn note(&mut self, event: MediaEvent) {
        if let MediaEvent::IngestChanged { status, .. } = event {
            self.status = status;
        }
    }
}

async fn picture(clock: &RoomClock, decoders: &Decoders, track: &Arc<Track>) -> Result<bytes::Bytes, MediaError> {
    let (owned, mut events) = OwnedPipeline::new("snapshot", clock);
    let launch = "appsrc name=raw format=time is-live=true ! videoconvertscale add-borders=false ! capsfilter name=size ! \
                  jpegenc name=jpeg ! appsink name=sink sync=false async=false enable-last-sample=false";
    let bin = gst::parse::bin_from_description(launch, false)
        .map_err(|error| MediaError::Unavailable(error.message().to_owned()))?;
    let named = |name: &str| bin.by_name(name).expect("the launch line has it");
    let width = gst::IntRange::new(1, SNAPSHOT_WIDTH);
    let size =
        gst::Caps::builder("video/x-raw").field("width", width).field("pixel-aspect-ratio", gst::Fraction::new(1, 1));
    named("size").set_property("caps", size.build());
    named("jpeg").set_property("quality", QUALITY);
    let source = named("raw").downcast::<gst_app::AppSrc>().expect("it is an appsrc");
    let sink = named("sink").downcast::<gst_app::AppSink>().expect("it is an appsink");
    let (give, mut taken) = mpsc::channel(1);
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Flushing)?;
        if let Some(map) = sample.buffer().and_then(|buffer| buffer.map_readable().ok()) {
            // The first is enough.
            let _ = give.try_send(bytes::Bytes::copy_from_slice(&map));
        }
        Ok(gst::FlowSuccess::Ok)
    });
    sink.set_callbacks(callbacks.build());
    owned
        .pipeline()
        .add(&bin)
        .map_err(|error| MediaError::Element { element: "snapshot".into(), message: error.to_string() })?;
    owned.start().await?;
    let decoder = decoders.get(track)?;
    let link = decoder.link(&source, ConsumerSettings::default(), false)?;
    let picture = tokio::select! {
        picture = taken.recv() => picture.ok_or_else(|| MediaError::Unavailable("a picture".into())),
        event = events.recv() => Err(match event {
            Some(PipelineEvent::Failed(error)) => error,
            Some(PipelineEvent::Ended) | None => MediaError::Unavailable("a picture".into()),
        }),
    };
    drop((link, decoder));
    // A deadline that passes is logged there.
    let _ = owned.shutdown(SHUTDOWN_DEADLINE).await;
    picture
}
