//! One decoder for each track that somebody needs as raw media, shared by all who do.
//!
//! A decoder is a pipeline of its own, so that damage in one publisher's stream ends nothing else.
//! Timestamps pass through unchanged: all pipelines of a room have one time.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use gst::prelude::*;
use gst_utils::streamproducer::{ConsumerSettings, ConsumptionLink, ProducerSettings, StreamProducer};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::{OwnedPipeline, PipelineEvent, RoomClock, Track, av1};
use crate::{
    media::{
        CodecName, Kind, MediaError, Unavailable,
        graph::{Graph, NodeKind},
    },
    room::id::TrackId,
};

/// How long a decoder that failed rests before it is started again.
const RESTART_HOLDOFF: Duration = Duration::from_secs(1);
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);
/// Packets that wait for a decoder that falls behind, in time; older ones are dropped.
const BACKLOG: gst::ClockTime = gst::ClockTime::from_mseconds(500);

/// What readers of a track see where they do not ask for it without effects.
#[derive(Debug, Default)]
struct Shown {
    /// The track with effects, while it has some.
    effected: Option<StreamProducer>,
    links: Vec<Weak<Mutex<ConsumptionLink>>>,
    /// Of those who read it without effects.
    plain: Vec<Weak<Mutex<ConsumptionLink>>>,
}

/// A link to a decoder, ended by its drop. One that shows effects changes over while it stands.
#[derive(Debug)]
pub struct RawLink {
    _link: Arc<Mutex<ConsumptionLink>>,
}

/// The decoders of a room. Clones share them.
#[derive(Clone, Debug)]
pub struct Decoders {
    clock: RoomClock,
    running: Arc<Mutex<HashMap<TrackId, Weak<Decoder>>>>,
    tasks: TaskTracker,
}

/// A running decoder: ends when the last who holds it lets go.
#[derive(Debug)]
pub struct Decoder {
    /// Raw media: `video/x-raw` or `audio/x-raw` in whatever format and size it was published.
    pub producer: StreamProducer,
    shown: Mutex<Shown>,
    track: Arc<Track>,
    restarts: Arc<AtomicU32>,
    /// Dropping it tells the task.
    _in_use: oneshot::Sender<Infallible>,
}

impl Decoders {
    /// None yet.
    pub fn new(clock: &RoomClock) -> Self {
        Self { clock: clock.clone(), running: Arc::default(), tasks: TaskTracker::new() }
    }

    /// The decoder of `track`, started if nobody needed it yet. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if this machine has no decoder for the codec.
    pub fn get(&self, track: &Arc<Track>) -> Result<Arc<Decoder>, MediaError> {
        let mut running = self.running.lock().expect("nothing panics under this lock");
        if let Some(decoder) = running.get(&track.id).and_then(Weak::upgrade) {
            return Ok(decoder);
        }
        running.retain(|_, decoder| decoder.strong_count() > 0);
        let decoder = Arc::new(Decoder::start(track, &self.clock, &self.tasks)?);
        running.insert(track.id.clone(), Arc::downgrade(&decoder));
        Ok(decoder)
    }

    /// Waits until all are gone, which nobody needs any more.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Decoder {
    fn start(track: &Arc<Track>, clock: &RoomClock, tasks: &TaskTracker) -> Result<Self, MediaError> {
        let chain = chain(track.codec)?;
        let (owned, events) = OwnedPipeline::new(&format!("decode-{}", track.id), clock);
        let source = source();
        let sink = gst_app::AppSink::builder().name("raw").async_(false).sync(false).enable_last_sample(false).build();
        link(owned.pipeline(), source.upcast_ref(), &chain, sink.upcast_ref())?;
        keep_keyframe_requests(&sink);
        if track.kind() == Kind::Video {
            take_any_stride(&sink);
        }
        let producer = StreamProducer::with(&sink, ProducerSettings { sync: false });
        // A publisher's end is the room's to tell; until then readers keep the last frame.
        producer.set_forward_events([]);
        let (in_use, last_gone) = oneshot::channel();
        let restarts = Arc::new(AtomicU32::new(0));
        tasks.spawn(run(owned, events, source, track.clone(), last_gone, restarts.clone()));
        Ok(Self { producer, shown: Mutex::default(), track: track.clone(), restarts, _in_use: in_use })
    }

    /// Feeds raw media into `source`: with the track's effects, while it has some, or as it was published.
    ///
    /// # Errors
    /// [`MediaError::Element`] if it is fed already.
    pub fn link(
        &self,
        source: &gst_app::AppSrc,
        settings: ConsumerSettings,
        with_effects: bool,
    ) -> Result<RawLink, MediaError> {
        let mut shown = self.shown.lock().expect("nothing panics under this lock");
        let effected = shown.effected.as_ref().filter(|_| with_effects);
        let link = effected.unwrap_or(&self.producer).add_consumer_with(source, settings);
        let link = link.map_err(|error| twice(source, &error))?;
        let link = Arc::new(Mutex::new(link));
        let Shown { links, plain, .. } = &mut *shown;
        let links = if with_effects { links } else { plain };
        links.retain(|link| link.strong_count() > 0);
        links.push(Arc::downgrade(&link));
        Ok(RawLink { _link: link })
    }

    /// Readers see the track so from now on: with effects, or as it was published (`None`).
    pub fn show(&self, effected: Option<&StreamProducer>) {
        let mut shown = self.shown.lock().expect("nothing panics under this lock");
        if shown.effected.as_ref() == effected {
            return;
        }
        shown.effected = effected.cloned();
        let producer = effected.unwrap_or(&self.producer);
        for link in shown.links.iter().filter_map(Weak::upgrade) {
            let mut link = link.lock().expect("nothing panics under this lock");
            if let Err(error) = link.change_producer(producer, false) {
                tracing::error!("a reader of a track could not change over: {error}");
            }
        }
    }

    /// Adds it to the room's graph, once, with the way to it from its track.
    pub fn graph(&self, track: &TrackId, graph: &mut Graph) {
        let (id, label) = (format!("decoder-{track}"), self.track.codec.encoding_name());
        if !graph.has_node(&id) {
            let layer = self.track.decoded_layer().map(|layer| ("layer", layer));
            let figures = [("restarts", u64::from(self.restarts())), ("dropped", self.dropped())];
            let figures = figures.map(|(name, count)| (name, count.to_string()));
            let facts: Vec<_> = figures.into_iter().chain(layer).collect();
            graph.add(&id, NodeKind::Decoder, label, &facts);
            graph.join(&format!("track-{track}"), &id, &format!("{label} rtp"));
        }
    }

    /// Raw frames that those who read it now did not take in time.
    fn dropped(&self) -> u64 {
        let shown = self.shown.lock().expect("nothing panics under this lock");
        let links = shown.links.iter().chain(&shown.plain).filter_map(Weak::upgrade);
        links.map(|link| link.lock().expect("nothing panics under this lock").dropped()).sum()
    }

    /// How often it failed and was started again.
    pub fn restarts(&self) -> u32 {
        self.restarts.load(Relaxed)
    }
}

/// Where a track's packets come in. The link would set the format too late, once it has been started.
pub(super) fn source() -> gst_app::AppSrc {
    gst_app::AppSrc::builder()
        .name("packets")
        .format(gst::Format::Time)
        .is_live(true)
        .handle_segment_change(true)
        .build()
}

/// Keeps a reader of a track running until `last_gone`.
pub(super) async fn run(
    owned: OwnedPipeline,
    mut events: mpsc::Receiver<PipelineEvent>,
    source: gst_app::AppSrc,
    track: Arc<Track>,
    mut last_gone: oneshot::Receiver<Infallible>,
    restarts: Arc<AtomicU32>,
) {
    loop {
        let failure = tokio::select! {
            failure = play(&owned, &mut events, &source, &track) => failure,
            _ = &mut last_gone => break,
        };
        let rest = restarts.fetch_add(1, Relaxed);
        tracing::warn!(track.id = %track.id, restarts = rest + 1, "what reads the track failed and is started again: {failure}");
        let pipeline = owned.pipeline().clone();
        // An error means that the runtime is going down, and everything with it.
        let _ = tokio::task::spawn_blocking(move || pipeline.set_state(gst::State::Null)).await;
        tokio::select! {
            () = tokio::time::sleep(RESTART_HOLDOFF) => {}
            _ = &mut last_gone => break,
        }
        // One failure is told by several elements; what is left of it is not one of the next start.
        while events.try_recv().is_ok() {}
    }
    // A deadline that passes is logged there.
    let _ = owned.shutdown(SHUTDOWN_DEADLINE).await;
}

/// Feeds it until it fails. The link to the track ends with this future.
async fn play(
    owned: &OwnedPipeline,
    events: &mut mpsc::Receiver<PipelineEvent>,
    source: &gst_app::AppSrc,
    track: &Arc<Track>,
) -> MediaError {
    if let Err(error) = owned.start().await {
        return error;
    }
    let settings = ConsumerSettings { max_time: BACKLOG, ..Default::default() };
    let Ok(_link) = track.read(source, settings) else {
        return MediaError::Element { element: source.name().into(), message: "is linked to the track already".into() };
    };
    track.request_keyframe();
    loop {
        match events.recv().await {
            Some(PipelineEvent::Failed(error)) => return error,
            // The publisher has gone: nothing comes any more, and nobody has to be told.
            Some(PipelineEvent::Ended) | None => std::future::pending().await,
        }
    }
}

/// Decoders write into our buffers, in the rows that suit them; otherwise they would copy every picture
/// out of their own. All who read raw pictures go by the rows that a buffer says it has.
fn take_any_stride(sink: &gst_app::AppSink) {
    let pad = sink.static_pad("sink").expect("an appsink has a sink pad");
    pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, info| {
        let Some(query) = info.query_mut() else { return gst::PadProbeReturn::Ok };
        let gst::QueryViewMut::Allocation(allocation) = query.view_mut() else { return gst::PadProbeReturn::Ok };
        allocation.add_allocation_meta::<gst_video::VideoMeta>(None);
        gst::PadProbeReturn::Handled
    });
}

/// Whoever begins to read raw media needs no keyframe; links ask for one all the same.
fn keep_keyframe_requests(sink: &gst_app::AppSink) {
    let pad = sink.static_pad("sink").expect("an appsink has a sink pad");
    pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, |_, info| match info.event() {
        Some(event) if gst_video::UpstreamForceKeyUnitEvent::parse(event).is_ok() => gst::PadProbeReturn::Handled,
        _ => gst::PadProbeReturn::Ok,
    });
}

fn twice(source: &gst_app::AppSrc, error: &dyn std::fmt::Display) -> MediaError {
    MediaError::Element { element: source.name().into(), message: error.to_string() }
}

pub(super) fn link(
    pipeline: &gst::Pipeline,
    source: &gst::Element,
    chain: &[gst::Element],
    sink: &gst::Element,
) -> Result<(), MediaError> {
    let elements: Vec<_> = [source].into_iter().chain(chain).chain([sink]).collect();
    pipeline
        .add_many(elements.iter().copied())
        .and_then(|()| gst::Element::link_many(elements))
        .map_err(|error| MediaError::Element { element: pipeline.name().into(), message: error.to_string() })
}

/// Best first.
pub(super) const H264_DECODERS: [&str; 2] = ["avdec_h264", "openh264dec"];

/// Depayloader and decoder factories of a codec, best first where there is a choice, and the Debian
/// packages that have them.
fn factories(codec: CodecName) -> (&'static [&'static str], &'static [&'static str], &'static str) {
    match codec {
        CodecName::Opus => (&["rtpopusdepay"], &["opusdec"], "gstreamer1.0-plugins-base gstreamer1.0-plugins-good"),
        CodecName::Vp8 => (&["rtpvp8depay"], &["vp8dec"], "gstreamer1.0-plugins-good"),
        CodecName::Vp9 => (&["rtpvp9depay"], &["vp9dec"], "gstreamer1.0-plugins-good"),
        CodecName::H264 => (&["rtph264depay", "h264parse"], &H264_DECODERS, "gstreamer1.0-libav"),
        CodecName::Av1 => (&["rtpav1depay", "av1parse"], &["dav1ddec", "av1dec"], ""),
        CodecName::Pcmu => (&["rtppcmudepay"], &["mulawdec"], "gstreamer1.0-plugins-good"),
        CodecName::Pcma => (&["rtppcmadepay"], &["alawdec"], "gstreamer1.0-plugins-good"),
    }
}

/// Codecs that can be decoded here, and what is missing for the others.
pub fn capabilities() -> (Vec<CodecName>, Vec<Unavailable>) {
    let mut unavailable = Vec::new();
    let mut decodable = Vec::new();
    for codec in CodecName::ALL {
        let missing = missing(codec);
        if missing.is_empty() {
            decodable.push(codec);
            continue;
        }
        let packages = factories(codec).2;
        unavailable.push(Unavailable {
            what: format!("decoding {}", codec.encoding_name()),
            reason: format!("not installed: {}", missing.join(", ")),
            remedy: (!packages.is_empty()).then(|| format!("apt install {packages}")),
        });
    }
    (decodable, unavailable)
}

fn missing(codec: CodecName) -> Vec<String> {
    let (depay, decoders, _) = factories(codec);
    // Made once for real: an element may be listed by its registry and still not load.
    let lacks = |name: &&&str| make(name).is_err();
    let mut missing: Vec<_> = depay.iter().filter(lacks).map(|name| (*name).to_owned()).collect();
    if decoders.iter().all(|name| lacks(&name)) {
        missing.push(decoders.join(" or "));
    }
    missing
}

fn chain(codec: CodecName) -> Result<Vec<gst::Element>, MediaError> {
    let (depay, decoders, _) = factories(codec);
    let mut chain = depay.iter().map(|name| make(name)).collect::<Result<Vec<_>, _>>()?;
    let decoder = decoders.iter().find(|name| gst::ElementFactory::find(name).is_some()).unwrap_or(&decoders[0]);
    chain.push(make(decoder)?);
    if codec.clock_rate() == 8_000 {
        // All sound of a room is of one rate, whatever effects and mixers make of it.
        let rate = make("capsfilter")?;
        rate.set_property("caps", gst::Caps::builder("audio/x-raw").field("rate", 48_000).build());
        chain.extend([make("audioresample")?, rate]);
    }
    match codec.kind() {
        Kind::Video => configure_video(&chain),
        Kind::Audio => chain.iter().filter(|element| element.has_property("plc")).for_each(conceal_losses),
    }
    Ok(chain)
}

/// Packets that the jitter buffer tells of as lost sound as if they had come, nearly.
fn conceal_losses(decoder: &gst::Element) {
    decoder.set_property("plc", true);
}

/// Loss ends at the next keyframe, which is asked for at once. One thread a decoder: there are many
/// tracks, and frame threads would add a frame of delay each.
pub(super) fn configure_video(chain: &[gst::Element]) {
    for element in chain {
        for (property, value) in
            [("request-keyframe", true), ("wait-for-keyframe", true), ("automatic-request-sync-points", true)]
        {
            if element.has_property_with_type(property, bool::static_type()) {
                element.set_property(property, value);
            }
        }
        if element.has_property("max-threads") {
            element.set_property_from_str("max-threads", "1");
        }
    }
}

/// An element; where GStreamer has none, our own depayloader of AV1.
pub(super) fn make(factory: &str) -> Result<gst::Element, MediaError> {
    let made = gst::ElementFactory::make(factory).build();
    let made = made.or_else(|error| if factory == "rtpav1depay" { av1::depayloader() } else { Err(error) });
    made.map_err(|_| MediaError::Unavailable(factory.into()))
}
