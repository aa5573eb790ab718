//! The room's mix for those who watch it live: one picture for all, and the sound without the
//! listener's own.
//!
//! A mix's encoded frames become RTP once, whoever reads it. Each listener has a sound track of his
//! own, whose packets may come from another mix when he begins or ceases to speak.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, sync_channel},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use gst::prelude::*;
use tokio::sync::{mpsc, oneshot};

use super::{
    OwnedPipeline, PipelineEvent, RoomClock, Track,
    feed::Packet,
    mixer::{Canvas, Encoded, Look, Parts},
    mixes::{Mix, Mixes, blocking},
    preset::AudioCodec,
    track::KEYFRAME_HOLDOFF,
};
use crate::{
    media::{
        CodecName, Kind, MediaError, MixTracks,
        graph::{Graph, NodeKind},
        rtp::Ingress,
    },
    room::id::{ConnectionId, TrackId},
};

/// The picture that is watched live. A recording of the same size shares its encode.
const CANVAS: Canvas = Canvas { width: 1280, height: 720, fps: 25 };
/// What every browser must take (RFC 7742 §6.2); decoders read the profile from the stream itself.
const H264_FMTP: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
/// Listeners who do not hear themselves, each of whom costs a mixer and an encoder; those beyond hear
/// all.
const MOST_OWN_SOUNDS: usize = 8;
/// Encoded frames that wait to become packets.
const BACKLOG: usize = 128;
/// How long after its breakdown a mix is made anew.
const RETRY: Duration = Duration::from_secs(1);
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);
static NEXT_PACKETISER: AtomicU64 = AtomicU64::new(1);
/// Bytes of an RTP packet, so that it passes any path in one piece.
const MTU: u32 = 1200;

/// Who watches the room's mix, and what they are sent.
#[derive(Debug)]
pub struct LiveMix {
    clock: RoomClock,
    mixes: Mixes,
    picture: Option<(Stream, Arc<Outlet>)>,
    /// By the tracks that are not heard in them.
    sounds: Vec<(Vec<TrackId>, Stream)>,
    listeners: HashMap<ConnectionId, Listener>,
}

#[derive(Debug)]
struct Listener {
    /// What he is not to hear.
    own: Vec<TrackId>,
    /// What is left out of what he hears: that, or nothing if there were too many sounds.
    without: Vec<TrackId>,
    outlet: Arc<Outlet>,
}

/// A track whose packets come from a stream.
#[derive(Debug)]
struct Outlet {
    track: Arc<Track>,
    from: Mutex<From>,
}

/// Where an outlet's packets come from.
#[derive(Debug)]
struct From {
    /// The packetiser; packets of any other are dropped.
    packetiser: u64,
    ingress: Ingress,
}

/// One mix as RTP packets, given to its outlets. Ends when it is dropped.
#[derive(Debug)]
struct Stream {
    outlets: Arc<ArcSwap<Vec<Arc<Outlet>>>>,
    /// Which packetiser fills them, as long as it runs.
    packetiser: Arc<AtomicU64>,
    mix: Arc<Mutex<Weak<Mix>>>,
    _in_use: oneshot::Sender<Infallible>,
}

impl LiveMix {
    /// Nobody watches.
    pub fn new(clock: &RoomClock, mixes: &Mixes) -> Self {
        Self {
            clock: clock.clone(),
            mixes: mixes.clone(),
            picture: None,
            sounds: Vec::new(),
            listeners: HashMap::new(),
        }
    }

    /// Whether somebody may come to watch: the picture is there, or may be made.
    ///
    /// # Errors
    /// [`MediaError::Busy`]
    pub fn may_join(&self) -> Result<(), MediaError> {
        if self.picture.is_some() { Ok(()) } else { self.mixes.may_start(&picture_look()) }
    }

    /// The tracks for somebody who comes to watch, who does not hear `without`. Must be called on a
    /// tokio runtime.
    pub fn join(&mut self, connection: ConnectionId, tracks: MixTracks, without: Vec<TrackId>) -> Vec<Arc<Track>> {
        let picture = match &self.picture {
            Some((_, outlet)) => outlet.track.clone(),
            None => self.start_picture(tracks.video),
        };
        let outlet =
            Arc::new(Outlet::new(Track::new(tracks.audio, CodecName::Opus, Some("useinbandfec=1"), &self.clock)));
        let sound = outlet.track.clone();
        let heard_without = self.hear(outlet.clone(), without.clone());
        self.listeners.insert(connection, Listener { own: without, without: heard_without, outlet });
        vec![picture, sound]
    }

    /// Somebody watches over this connection.
    pub fn has(&self, connection: &ConnectionId) -> bool {
        self.listeners.contains_key(connection)
    }

    /// From now on he does not hear these tracks.
    pub fn set_without(&mut self, connection: &ConnectionId, own: Vec<TrackId>) {
        if let Some(listener) = self.listeners.get_mut(connection) {
            listener.own = own;
        }
        self.serve();
    }

    /// Everybody who hears something else than he is to is put on that, if there is a place for it.
    fn serve(&mut self) {
        let other = |listener: &Listener| {
            listener.own != listener.without && (!listener.without.is_empty() || self.has_place(&listener.own))
        };
        let waiting: Vec<_> = self.listeners.iter().filter(|(_, it)| other(it)).map(|(id, _)| id.clone()).collect();
        for connection in waiting {
            let Some(Listener { own, without, outlet }) = self.listeners.remove(&connection) else { continue };
            self.unhear(&without, &outlet);
            let without = self.hear(outlet.clone(), own.clone());
            self.listeners.insert(connection, Listener { own, without, outlet });
        }
    }

    /// Lets go of all whose connection `stays` does not confirm.
    pub fn retain(&mut self, stays: impl Fn(&ConnectionId) -> bool) {
        let gone: Vec<_> = self.listeners.keys().filter(|connection| !stays(connection)).cloned().collect();
        for connection in gone {
            if let Some(Listener { without, outlet, .. }) = self.listeners.remove(&connection) {
                self.unhear(&without, &outlet);
            }
        }
        self.serve();
        if self.listeners.is_empty() {
            self.picture = None;
        }
    }

    /// Adds the mixes that are watched to the room's graph.
    pub fn graph(&self, graph: &mut Graph) {
        let picture = self.picture.iter().map(|(stream, _)| stream);
        for stream in picture.chain(self.sounds.iter().map(|(_, stream)| stream)) {
            let mix = stream.mix.lock().expect("nothing panics under this lock").upgrade();
            let source = mix.map(|mix| mix.graph(graph));
            for outlet in stream.outlets.load().iter() {
                let (id, label) = (format!("track-{}", outlet.track.id), outlet.track.codec.encoding_name());
                graph.add(&id, NodeKind::Track, label, &[("subscribers", outlet.track.subscribers().to_string())]);
                // While the mix is made, its tracks come from nowhere.
                if let Some((encoder, encoded)) = &source {
                    graph.join(encoder, &id, encoded);
                }
            }
        }
        for (connection, listener) in &self.listeners {
            let tracks = self.picture.iter().map(|(_, outlet)| outlet).chain([&listener.outlet]);
            for track in tracks.map(|outlet| &outlet.track) {
                let label = format!("{} rtp", track.codec.encoding_name());
                graph.join(&format!("track-{}", track.id), &connection.to_string(), &label);
            }
        }
    }

    fn start_picture(&mut self, id: TrackId) -> Arc<Track> {
        let outlet = Arc::new(Outlet::new(Track::new(id, CodecName::H264, Some(H264_FMTP), &self.clock)));
        let track = outlet.track.clone();
        let stream = Stream::start(Kind::Video, picture_look(), &self.clock, &self.mixes);
        stream.add(outlet.clone());
        self.picture = Some((stream, outlet));
        track
    }

    /// Puts an outlet on the sound without these tracks, or on that of all if there are too many sounds;
    /// says which.
    fn hear(&mut self, outlet: Arc<Outlet>, without: Vec<TrackId>) -> Vec<TrackId> {
        if !self.has_place(&without) {
            tracing::warn!(
                "{MOST_OWN_SOUNDS} listeners have a mix of their own: another hears himself until one of them leaves"
            );
            return self.hear(outlet, Vec::new());
        }
        if !self.sounds.iter().any(|(other, _)| *other == without) {
            let look = Look {
                effects: true,
                layout: None,
                canvas: CANVAS,
                parts: Parts { audio: true, video: false },
                codec: AudioCodec::Opus,
                without: without.clone(),
            };
            self.sounds.push((without.clone(), Stream::start(Kind::Audio, look, &self.clock, &self.mixes)));
        }
        if let Some((_, stream)) = self.sounds.iter().find(|(other, _)| *other == without) {
            stream.add(outlet);
        }
        without
    }

    /// The sound without these is there, or may be made.
    fn has_place(&self, without: &[TrackId]) -> bool {
        let own = self.sounds.iter().filter(|(other, _)| !other.is_empty()).count();
        without.is_empty() || own < MOST_OWN_SOUNDS || self.sounds.iter().any(|(other, _)| other == without)
    }

    fn unhear(&mut self, without: &[TrackId], outlet: &Arc<Outlet>) {
        self.sounds.retain(|(other, stream)| other != without || stream.remove(outlet) > 0);
    }
}

/// A mix as a recording has it, so that they share one; of its sound there is a cheaper one here.
fn picture_look() -> Look {
    Look {
        effects: true,
        layout: None,
        canvas: CANVAS,
        parts: Parts { audio: true, video: true },
        codec: AudioCodec::Aac,
        without: Vec::new(),
    }
}

impl Outlet {
    fn new(track: Arc<Track>) -> Self {
        let ingress = Ingress::new(track.codec, track.ssrc(), None);
        Self { track, from: Mutex::new(From { packetiser: 0, ingress }) }
    }

    /// From now on its packets come from that packetiser, in numbers that go on.
    fn follow(&self, packetiser: u64) {
        let mut from = self.from.lock().expect("nothing panics under this lock");
        from.packetiser = packetiser;
        from.ingress.change_source();
    }

    /// On a packetiser's thread; never waits.
    fn take(&self, packetiser: u64, bytes: &[u8], time: gst::ClockTime) {
        let mut from = self.from.lock().expect("nothing panics under this lock");
        if from.packetiser != packetiser {
            return;
        }
        let Some(normalised) = from.ingress.accept(bytes, time.into()) else { return };
        drop(from);
        let mut buffer = gst::Buffer::from_slice(normalised.bytes);
        buffer.get_mut().expect("nobody else has it yet").set_pts(time);
        self.track.forward(&Packet { buffer, starts_keyframe: normalised.starts_keyframe });
    }
}

impl Stream {
    fn start(kind: Kind, look: Look, clock: &RoomClock, mixes: &Mixes) -> Self {
        let outlets: Arc<ArcSwap<Vec<Arc<Outlet>>>> = Arc::default();
        let mix: Arc<Mutex<Weak<Mix>>> = Arc::default();
        let (in_use, last_gone) = oneshot::channel();
        let packetiser = Arc::new(AtomicU64::new(0));
        let job = Job {
            kind,
            look,
            clock: clock.clone(),
            mixes: mixes.clone(),
            outlets: outlets.clone(),
            packetiser: packetiser.clone(),
            mix: mix.clone(),
        };
        mixes.spawn(job.run(last_gone));
        Self { outlets, packetiser, mix, _in_use: in_use }
    }

    fn add(&self, outlet: Arc<Outlet>) {
        self.outlets.rcu(|outlets| outlets.iter().cloned().chain([outlet.clone()]).collect::<Vec<_>>());
        outlet.follow(self.packetiser.load(Relaxed));
    }

    /// How many are left.
    fn remove(&self, outlet: &Arc<Outlet>) -> usize {
        let others = |outlets: &Arc<Vec<Arc<Outlet>>>| -> Vec<_> {
            outlets.iter().filter(|other| !Arc::ptr_eq(other, outlet)).cloned().collect()
        };
        self.outlets.rcu(others);
        self.outlets.load().len()
    }
}

/// A stream's task.
struct Job {
    kind: Kind,
    look: Look,
    clock: RoomClock,
    mixes: Mixes,
    outlets: Arc<ArcSwap<Vec<Arc<Outlet>>>>,
    packetiser: Arc<AtomicU64>,
    mix: Arc<Mutex<Weak<Mix>>>,
}

impl Job {
    /// Until it is dropped. A mix, or a pipeline of ours, that breaks down is made anew.
    async fn run(self, mut last_gone: oneshot::Receiver<Infallible>) {
        while let Err(failure) = self.play(&mut last_gone).await {
            tracing::warn!("the mix cannot be watched, and is made anew: {failure}");
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                _ = &mut last_gone => return,
            }
        }
    }

    async fn play(&self, last_gone: &mut oneshot::Receiver<Infallible>) -> Result<(), MediaError> {
        let mix = self.mixes.get(self.look.clone())?;
        *self.mix.lock().expect("nothing panics under this lock") = Arc::downgrade(&mix);
        let number = NEXT_PACKETISER.fetch_add(1, Relaxed);
        let (kind, clock, outlets) = (self.kind, self.clock.clone(), self.outlets.clone());
        let (packetiser, mut events) = blocking(move || Packetiser::build(number, kind, &clock, outlets)).await??;
        self.packetiser.store(number, Relaxed);
        self.outlets.load().iter().for_each(|outlet| outlet.follow(number));
        packetiser.pipeline.start().await?;
        let (tap, frames) = sync_channel(BACKLOG);
        let (source, (fed, behind)) = (packetiser.source.clone(), oneshot::channel::<Infallible>());
        let thread = std::thread::Builder::new().name("live-mix".into());
        let spawned = thread.spawn(move || {
            feed(&frames, kind, &source);
            drop(fed);
        });
        spawned.map_err(|error| broken(&error.to_string()))?;
        mix.read(tap, self.clock.running_time());
        let result = tokio::select! {
            failure = mix.failed() => Err(failure),
            failure = failed(&mut events) => Err(failure),
            Err(_) = behind => Err(broken("it fell behind the mix")),
            never = self.pass_keyframe_requests(&mix) => match never {},
            _ = last_gone => Ok(()),
        };
        drop(mix);
        // A deadline that passes is logged there.
        let _ = packetiser.pipeline.shutdown(SHUTDOWN_DEADLINE).await;
        result
    }

    /// Merged: see [`KEYFRAME_HOLDOFF`].
    async fn pass_keyframe_requests(&self, mix: &Mix) -> Infallible {
        let outlet = self.outlets.load().first().cloned();
        let Some(outlet) = outlet.filter(|_| self.kind == Kind::Video) else { return std::future::pending().await };
        loop {
            outlet.track.keyframe_requested().await;
            mix.request_keyframe(self.clock.running_time());
            tokio::time::sleep(KEYFRAME_HOLDOFF).await;
        }
    }
}

/// Encoded frames in, RTP packets out to the outlets.
struct Packetiser {
    pipeline: OwnedPipeline,
    source: gst_app::AppSrc,
}

impl Packetiser {
    fn build(
        number: u64,
        kind: Kind,
        clock: &RoomClock,
        outlets: Arc<ArcSwap<Vec<Arc<Outlet>>>>,
    ) -> Result<(Self, mpsc::Receiver<PipelineEvent>), MediaError> {
        let (pipeline, events) = OwnedPipeline::new("live-mix", clock);
        let source = gst_app::AppSrc::builder().format(gst::Format::Time).is_live(true).build();
        let factory = if kind == Kind::Video { "rtph264pay" } else { "rtpopuspay" };
        let payloader =
            gst::ElementFactory::make(factory).build().map_err(|_| MediaError::Unavailable(factory.into()))?;
        payloader.set_property("mtu", MTU);
        if kind == Kind::Video {
            // Parameter sets before each keyframe: whoever comes later needs them.
            payloader.set_property("config-interval", -1);
            payloader.set_property_from_str("aggregate-mode", "zero-latency");
        }
        let sink = gst_app::AppSink::builder().async_(false).sync(false).enable_last_sample(false).build();
        let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Flushing)?;
            if let Some((buffer, time)) = sample.buffer().and_then(|buffer| Some((buffer, buffer.pts()?)))
                && let Ok(bytes) = buffer.map_readable()
            {
                outlets.load().iter().for_each(|outlet| outlet.take(number, &bytes, time));
            }
            Ok(gst::FlowSuccess::Ok)
        });
        sink.set_callbacks(callbacks.build());
        let row = [source.upcast_ref(), &payloader, sink.upcast_ref()];
        pipeline
            .pipeline()
            .add_many(row)
            .and_then(|()| gst::Element::link_many(row))
            .map_err(|error| broken(&error.to_string()))?;
        Ok((Self { pipeline, source }, events))
    }
}

/// Until the mix ends, or has dropped us for being too slow.
fn feed(frames: &Receiver<Encoded>, kind: Kind, source: &gst_app::AppSrc) {
    for encoded in frames.iter().filter(|encoded| encoded.kind == kind) {
        let (Some(time), Some(mut buffer)) = (encoded.running_time(), encoded.sample.buffer_owned()) else { continue };
        let stamped = buffer.make_mut();
        stamped.set_pts(time);
        // x264enc counts these from a thousand hours.
        stamped.set_dts(gst::ClockTime::NONE);
        source.set_caps(encoded.sample.caps_owned().as_ref());
        // An error means that our pipeline is going down.
        if source.push_buffer(buffer).is_err() {
            return;
        }
    }
}

async fn failed(events: &mut mpsc::Receiver<PipelineEvent>) -> MediaError {
    loop {
        match events.recv().await {
            Some(PipelineEvent::Failed(error)) => return error,
            Some(PipelineEvent::Ended) => {}
            None => std::future::pending().await,
        }
    }
}

fn broken(message: &str) -> MediaError {
    MediaError::Element { element: "live mix".into(), message: message.into() }
}
