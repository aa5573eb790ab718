//! A published track as the rest of the room reads it: packets for subscribers before the jitter
//! buffer, packets for decoders and recorders after it, and keyframes on request.

mod last_time;
mod published;
mod sink;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use gst_utils::streamproducer::{
    AddConsumerError, ConsumerSettings, ConsumptionLink, ProducerSettings, StreamProducer,
};
use tokio::sync::{Notify, watch};

use self::{last_time::LastTime, published::Published, sink::appsink};
use super::{
    JITTER_BUFFER, RoomClock,
    audience::Audience,
    feed::{Feed, Packet},
    needs::{Need, Needs},
    packet::{numbers, spliced},
    recent::Recent,
    rtp_caps,
};
use crate::{
    media::{
        CodecName, Kind,
        fanout::Source,
        negotiation::AUDIO_LEVEL,
        rtp::{self, Lane, Needed, Place, Splice},
        sender_clock::CaptureTimes,
    },
    room::id::TrackId,
};

/// Keyframe requests within this time of the last one are merged into one at its end. Browsers pass over what comes
/// within 300 ms of another, and requests may come closer to each other than they were sent.
pub const KEYFRAME_HOLDOFF: Duration = Duration::from_millis(330);

/// A request that brought no keyframe within this time may have been lost.
pub const KEYFRAME_PATIENCE: Duration = Duration::from_millis(500);

/// A decoder that asks for a keyframe so soon after one has it on its way: it lies in the jitter buffer.
const JUST_CAME: Duration = JITTER_BUFFER.saturating_add(Duration::from_millis(100));

/// A room's tracks.
pub type TrackTable = HashMap<TrackId, Arc<Track>>;

/// A published track. Its publisher owns the pipeline that feeds it; all others share it as an
/// `Arc` and may keep it after the publisher has gone: then nothing comes any more.
#[derive(Debug)]
pub struct Track {
    /// Its identifier.
    pub id: TrackId,
    /// Its codec; audio or video follows from it.
    pub codec: CodecName,
    /// RTP caps of what subscribers get: Salon's payload number, SSRC and header extensions.
    pub caps: gst::Caps,
    /// RTP in order, after the jitter buffer, with the publisher's own payload number (the samples'
    /// caps say which). Timestamps are running time of the room, as received.
    pub producer: StreamProducer,
    clock: RoomClock,
    ssrc: u32,
    keyframe_wanted: Arc<Notify>,
    keyframe_came: Arc<LastTime>,
    /// As the publisher's last report has them; `None` before the first.
    capture_times: ArcSwapOption<CaptureTimes>,
    /// They have it with its effects, while there are some.
    shown: Shown,
    /// The same for those who are not to have more than one of its layers, one for each.
    levels: Vec<Shown>,
    /// They have it as it was published.
    clean: Audience,
    has_had_effects: AtomicBool,
    lane: watch::Sender<Lane>,
    /// Of the encoder behind the effects.
    effected_keyframe_wanted: Notify,
    /// How much later than they were captured packets come, smoothed, in nanoseconds.
    delay_ns: AtomicI64,
    /// How many subscribers and decoders there are.
    readers: watch::Sender<usize>,
    /// What decoders, recorders and effects need of it, and what they have.
    needs: Arc<Needs>,
    decoded_layer: ArcSwapOption<String>,
    /// How many decoders and recorders of single tracks.
    decoders: AtomicUsize,
    /// Only where the publisher cannot be asked for a keyframe. Held while a packet is given out, so that
    /// who comes has each packet once.
    recent: Option<Mutex<Recent>>,
}

/// Readers who see effects, while there are some, and what they see of now.
#[derive(Debug)]
struct Shown {
    audience: Audience,
    splice: Mutex<Splice>,
}

impl Shown {
    fn splice(&self) -> MutexGuard<'_, Splice> {
        self.splice.lock().expect("nothing panics under this lock")
    }
}

/// A decoder's end of a track; dropping it ends it.
#[derive(Debug)]
pub struct Reading {
    _link: ConsumptionLink,
    track: Arc<Track>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.track.decoders.fetch_sub(1, Relaxed);
        self.track.readers.send_modify(|readers| *readers -= 1);
    }
}

impl Track {
    /// A track of the room with that clock, to which nobody subscribes yet. `fmtp`: the publisher's
    /// parameters of the codec.
    ///
    /// Put [`appsink`](Self::appsink) into the publishing pipeline, behind the jitter buffer, and act
    /// on [`keyframe_requested`](Self::keyframe_requested).
    pub fn new(id: TrackId, codec: CodecName, fmtp: Option<&str>, clock: &RoomClock) -> Arc<Self> {
        Self::layered(id, codec, fmtp, clock, &[])
    }

    /// The same, for a publisher who sends layers of these rids.
    pub fn layered(
        id: TrackId,
        codec: CodecName,
        fmtp: Option<&str>,
        clock: &RoomClock,
        layers: &[String],
    ) -> Arc<Self> {
        Arc::new_cyclic(|track| Self::build(id, codec, fmtp, clock, layers, None, track.clone()))
    }

    /// The same, for a publisher who cannot be asked for a keyframe: whoever comes in the middle of a
    /// group of pictures is given all of it first.
    pub fn remembering(id: TrackId, codec: CodecName, fmtp: Option<&str>, clock: &RoomClock) -> Arc<Self> {
        let recent = (codec.kind() == Kind::Video).then(Mutex::default);
        Arc::new_cyclic(|track| Self::build(id, codec, fmtp, clock, &[], recent, track.clone()))
    }

    fn build(
        id: TrackId,
        codec: CodecName,
        fmtp: Option<&str>,
        clock: &RoomClock,
        layers: &[String],
        recent: Option<Mutex<Recent>>,
        track: Weak<Self>,
    ) -> Self {
        let ssrc = rtp::random_ssrc();
        let mut caps = rtp_caps(codec, rtp::payload_number(codec), fmtp);
        let structure = caps.make_mut().structure_mut(0).expect("rtp_caps makes one structure");
        structure.set("ssrc", ssrc);
        if codec.kind() == Kind::Audio {
            structure.set(format!("extmap-{}", rtp::AUDIO_LEVEL_ID), AUDIO_LEVEL);
        }
        let keyframe_wanted = Arc::new(Notify::new());
        let keyframe_came = Arc::new(LastTime::never());
        let appsink = appsink(&id, keyframe_wanted.clone(), keyframe_came.clone());
        let producer = StreamProducer::with(&appsink, ProducerSettings { sync: false });
        // Decoders that have seen an end decode no more; that a track is over is the room's to tell.
        let lost = (codec.kind() == Kind::Audio).then_some(gst::EventType::CustomDownstream);
        producer.set_forward_events([gst::EventType::Gap].into_iter().chain(lost));
        let audience = |lane, layers| {
            let upstream = Published { track: track.clone(), lane };
            Audience::new(Source::layered(codec, fmtp, Box::new(upstream), layers))
        };
        let shown = |layers| Shown {
            audience: audience(Lane::Effected, layers),
            splice: Mutex::new(Splice::new(codec.clock_rate())),
        };
        let levels: Vec<Shown> = layers.iter().map(|_| shown(Vec::new())).collect();
        let ladder = layers.iter().cloned().zip(levels.iter().map(|level| level.audience.source.clone())).collect();
        Self {
            id,
            codec,
            caps,
            producer,
            clock: clock.clone(),
            ssrc,
            keyframe_wanted,
            keyframe_came,
            capture_times: ArcSwapOption::empty(),
            shown: shown(ladder),
            levels,
            clean: audience(Lane::Clean, Vec::new()),
            has_had_effects: AtomicBool::new(false),
            lane: watch::Sender::new(Lane::Clean),
            effected_keyframe_wanted: Notify::new(),
            delay_ns: AtomicI64::new(0),
            readers: watch::Sender::new(0),
            needs: Arc::default(),
            decoded_layer: ArcSwapOption::empty(),
            decoders: AtomicUsize::new(0),
            recent,
        }
    }

    /// Audio or video.
    pub fn kind(&self) -> Kind {
        self.codec.kind()
    }

    /// The SSRC that subscribers see, chosen by us, so that it is known before the first packet.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The sink of the publishing pipeline that [`producer`](Self::producer) reads.
    pub fn appsink(&self) -> &gst_app::AppSink {
        self.producer.appsink()
    }

    /// Asks whoever publishes it for a fresh keyframe. Requests are merged: see [`KEYFRAME_HOLDOFF`].
    /// Audio has none to ask for.
    pub fn request_keyframe(&self) {
        if self.kind() == Kind::Video {
            self.keyframe_wanted.notify_one();
        }
    }

    /// The same, for who sees frames some time after they came: one that has just come is on its way to him.
    pub fn request_keyframe_again(&self) {
        if self.keyframe_came.elapsed().is_none_or(|time| time > JUST_CAME) {
            self.request_keyframe();
        }
    }

    /// Resolves once a keyframe was asked for since the last time. For the publisher alone, who then
    /// sends one request and waits [`KEYFRAME_HOLDOFF`] before he asks here again.
    pub async fn keyframe_requested(&self) {
        self.keyframe_wanted.notified().await;
    }

    /// A keyframe has come since then, to the millisecond.
    pub fn had_keyframe_since(&self, moment: Instant) -> bool {
        self.keyframe_came.elapsed().is_some_and(|ago| ago <= moment.elapsed())
    }

    /// From now on packets leave with the time of their capture, not of their arrival: sender reports
    /// to subscribers are derived from it.
    pub fn set_capture_times(&self, times: CaptureTimes) {
        self.capture_times.store(Some(Arc::new(times)));
    }

    /// Asks for a fresh keyframe of what readers of that lane see: of the publisher, or of the encoder
    /// behind his effects.
    pub fn request_keyframe_of(&self, lane: Lane) {
        match (lane, *self.lane.borrow()) {
            (Lane::Effected, Lane::Effected) => self.effected_keyframe_wanted.notify_one(),
            _ => self.request_keyframe(),
        }
    }

    /// As [`keyframe_requested`](Self::keyframe_requested), for the encoder behind the effects.
    pub async fn effected_keyframe_requested(&self) {
        self.effected_keyframe_wanted.notified().await;
    }

    /// Gives a published packet to every subscriber that is to have it. Called on the publisher's
    /// streaming thread; never waits.
    pub fn forward(&self, packet: &Packet) {
        let mut recent = self.recent();
        if let Some(recent) = &mut recent {
            recent.push(packet);
        }
        if packet.starts_keyframe && self.kind() == Kind::Video {
            self.keyframe_came.is_now();
            // It serves all who asked before it came; a reader of a smaller layer waits for another.
            let is_all = self.levels.is_empty() || !matches!(*self.needs.all(), Needed::Places(_));
            if is_all && self.levels.iter().all(|level| level.audience.len() == 0) {
                let _ = self.keyframe_wanted.notified().now_or_never();
            }
        }
        // Who goes back to the track as it was published does so even if nobody watches.
        if self.subscribers() == 0 && !self.has_had_effects.load(Relaxed) {
            return;
        }
        let packet = self.as_captured(packet);
        if self.clean.give(&packet, || self.captured(&packet)) {
            self.request_keyframe();
        }
        self.show(Lane::Clean, packet);
    }

    /// Gives a packet of what is made for the readers of a level to them; its time is that of its capture. Called
    /// on the publisher's streaming thread; never waits.
    pub fn forward_level(&self, level: usize, packet: Packet) {
        let Some(level) = self.levels.get(level) else { return };
        let mut splice = level.splice();
        let packet = spliced(&mut splice, Lane::Clean, packet);
        let waits = splice.waits_for(Lane::Clean);
        drop(splice);
        match packet {
            Some(packet) => self.give(&level.audience, &packet),
            // Its keyframe was lost.
            None if waits => self.request_keyframe(),
            None => {}
        }
    }

    /// A packet of that layer came, of so many bytes; if it says so, of a picture that is so high.
    pub fn heard_layer(&self, layer: usize, bytes: usize, height: Option<u32>) {
        self.shown.audience.source.heard(layer, bytes, height, Instant::now());
    }

    /// Who reads it behind the jitter buffer shows it in that place, or needs all that comes of it (`None`), for as
    /// long as this is kept. Of a track that comes in layers, that decides which one they all have. Who reads it
    /// without saying so has what the others need, and while nobody says so nothing.
    pub fn need(&self, place: Option<Place>) -> Need {
        self.needs.add(place)
    }

    /// What all who said so need; [`Needed::Nothing`] while nobody has.
    pub fn needed(&self) -> Arc<Needed> {
        self.needs.all()
    }

    /// They have that layer from now on: its rid and size, for people.
    pub fn set_decoded_layer(&self, layer: String) {
        self.decoded_layer.store(Some(Arc::new(layer)));
    }

    /// The layer that they have; `None` if it does not come in layers.
    pub fn decoded_layer(&self) -> Option<String> {
        self.decoded_layer.load().as_deref().cloned()
    }

    /// Somebody reads that level.
    pub fn level_is_watched(&self, level: usize) -> bool {
        self.levels.get(level).is_some_and(|level| level.audience.len() > 0)
    }

    /// Gives a packet of the track with effects to every subscriber that is to have it; its time is that
    /// of the pictures or sounds it was made of, as they came. Called on the encoder's thread; never
    /// waits.
    pub fn forward_effected(&self, mut buffer: gst::Buffer) {
        let starts_keyframe = {
            let Ok(bytes) = buffer.map_readable() else { return };
            let Ok(packet) = rtp_types::RtpPacket::parse(&bytes) else { return };
            rtp::starts_keyframe(self.codec, packet.payload())
        };
        let captured = buffer.pts().map(|time| {
            let delay = self.delay_ns.load(Relaxed).max(0).cast_unsigned();
            time.saturating_sub(gst::ClockTime::from_nseconds(delay))
        });
        buffer.make_mut().set_pts(captured);
        let packet = Packet { buffer, starts_keyframe };
        for level in &self.levels {
            if let Some(packet) = spliced(&mut level.splice(), Lane::Effected, packet.clone()) {
                self.give(&level.audience, &packet);
            }
        }
        self.show(Lane::Effected, packet);
    }

    /// Subscribers see that lane from its next keyframe on.
    pub fn want_lane(&self, lane: Lane) {
        self.has_had_effects.store(true, Relaxed);
        self.levels.iter().chain([&self.shown]).for_each(|shown| shown.splice().want(lane));
        if lane == Lane::Clean {
            self.request_keyframe();
        }
    }

    /// Resolves when subscribers see that lane.
    pub async fn lane_shown(&self, lane: Lane) {
        let mut shown = self.lane.subscribe();
        // The sender is here: there is no error.
        let _ = shown.wait_for(|shown| *shown == lane).await;
    }

    fn show(&self, lane: Lane, packet: Packet) {
        let mut splice = self.shown.splice();
        let before = splice.shown();
        let packet = spliced(&mut splice, lane, packet);
        if splice.shown() != before {
            self.lane.send_replace(splice.shown());
        }
        drop(splice);
        if let Some(packet) = packet {
            self.give(&self.shown.audience, &packet);
        }
    }

    fn give(&self, audience: &Audience, packet: &Packet) {
        if audience.give(packet, || self.captured(packet)) {
            self.request_keyframe_of(Lane::Effected);
        }
    }

    /// When a packet was captured, or came.
    fn captured(&self, packet: &Packet) -> Instant {
        let now = Instant::now();
        packet.buffer.pts().map_or(now, |time| self.clock.moment(time).min(now))
    }

    /// The packet with the time of its capture, if that is known. When the publisher changes its
    /// source, RTP timestamps go on without a gap, and so the last report still tells.
    fn as_captured(&self, packet: &Packet) -> Packet {
        let mut packet = packet.clone();
        let arrived = packet.buffer.pts();
        let captured = self.capture_times.load().as_ref().and_then(|times| {
            let (_, timestamp) = numbers(&packet.buffer)?;
            times.of(timestamp, arrived?.into())
        });
        if let Some(captured) = captured.and_then(|time| gst::ClockTime::try_from(time).ok()) {
            let delay = arrived.unwrap_or(captured).saturating_sub(captured).nseconds().cast_signed();
            let known = self.delay_ns.load(Relaxed);
            self.delay_ns.store(known + (delay - known) / 16, Relaxed);
            // Copies the buffer's frame, not the bytes.
            packet.buffer.make_mut().set_pts(captured);
        }
        packet
    }

    /// The group of pictures that was kept for who comes is old: he is not to see it.
    pub fn forget(&self) {
        if let Some(mut recent) = self.recent() {
            *recent = Recent::default();
        }
    }

    fn recent(&self) -> Option<MutexGuard<'_, Recent>> {
        self.recent.as_ref().map(|recent| recent.lock().expect("nothing panics under this lock"))
    }

    /// How many subscribers read it, through both edges.
    pub fn subscribers(&self) -> usize {
        self.effected_subscribers() + self.clean.len()
    }

    /// How many of them see its effects.
    pub fn effected_subscribers(&self) -> usize {
        self.levels.iter().chain([&self.shown]).map(|shown| shown.audience.len()).sum()
    }

    /// For viewers on the fan-out edge: the packets of that lane, which is with effects while there are some,
    /// or as it was published.
    pub fn source(&self, lane: Lane) -> &Arc<Source> {
        &self.audience(lane).source
    }

    fn audience(&self, lane: Lane) -> &Audience {
        match lane {
            Lane::Effected => &self.shown.audience,
            Lane::Clean => &self.clean,
        }
    }

    /// How many subscribers and decoders read it, now and later.
    pub fn readers(&self) -> watch::Receiver<usize> {
        self.readers.subscribe()
    }

    /// Somebody reads what comes out of the jitter buffer.
    pub fn is_decoded(&self) -> bool {
        self.decoders.load(Relaxed) > 0
    }

    /// Adds a subscriber's end, which is open, to the readers of that lane.
    pub fn add_feed(&self, feed: Arc<Feed>, lane: Lane) {
        let recent = self.recent();
        if let Some(recent) = &recent {
            feed.replay(&recent.replay());
        }
        self.audience(lane).add(feed);
        drop(recent);
        self.readers.send_modify(|readers| *readers += 1);
    }

    /// Takes a subscriber's end away again, if it was there.
    pub fn remove_feed(&self, feed: &Arc<Feed>) {
        if self.shown.audience.remove(feed) || self.clean.remove(feed) {
            self.readers.send_modify(|readers| *readers -= 1);
        }
    }

    /// Adds a decoder's end: packets after the jitter buffer go into `source`.
    ///
    /// # Errors
    /// [`AddConsumerError`] if it was added before.
    pub fn read(
        self: &Arc<Self>,
        source: &gst_app::AppSrc,
        settings: ConsumerSettings,
    ) -> Result<Reading, AddConsumerError> {
        let recent = self.recent();
        if let Some(recent) = &recent {
            StreamProducer::configure_consumer_with(source, settings.clone());
            source.set_caps(Some(&self.caps));
            for packet in recent.replay() {
                // An error means that the decoder is going down.
                let _ = source.push_buffer(packet.buffer);
            }
        }
        // What was noted and is still on its way comes twice, and depayloaders drop the second.
        let link = self.producer.add_consumer_with(source, settings)?;
        drop(recent);
        self.decoders.fetch_add(1, Relaxed);
        self.readers.send_modify(|readers| *readers += 1);
        Ok(Reading { _link: link, track: self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use gst::prelude::*;

    use super::*;
    use crate::media::layout::Fit;

    fn track(codec: CodecName) -> Arc<Track> {
        gst::init().unwrap();
        Track::new(TrackId::random(), codec, None, &RoomClock::new())
    }

    #[test]
    fn keyframe_requests_are_merged() {
        let track = track(CodecName::Vp8);
        assert_eq!(track.keyframe_requested().now_or_never(), None);
        track.request_keyframe();
        track.request_keyframe();
        assert_eq!(track.keyframe_requested().now_or_never(), Some(()));
        assert_eq!(track.keyframe_requested().now_or_never(), None, "two requests, one keyframe");
    }

    fn keyframe() -> Packet {
        Packet { buffer: gst::Buffer::from_slice([0u8; 12]), starts_keyframe: true }
    }

    #[test]
    fn a_keyframe_serves_who_asked_before_unless_he_has_a_smaller_layer() {
        gst::init().unwrap();
        let place = Place { width: 320, height: 180, fit: Fit::Fit };
        let layers = ["l", "h"].map(str::to_owned);
        let layered = Track::layered(TrackId::random(), CodecName::Vp8, None, &RoomClock::new(), &layers);
        for (track, places, asks_again) in
            [(track(CodecName::Vp8), true, None), (layered.clone(), true, Some(())), (layered, false, None)]
        {
            let _need = track.need(places.then_some(place));
            track.request_keyframe();
            track.forward(&keyframe());
            assert_eq!(track.keyframe_requested().now_or_never(), asks_again, "{places}");
        }
    }

    #[test]
    fn a_decoders_request_is_one_like_the_others() {
        let track = track(CodecName::Vp8);
        let pad = track.appsink().static_pad("sink").unwrap();
        pad.set_active(true).unwrap();
        pad.push_event(gst_video::UpstreamForceKeyUnitEvent::builder().build());
        assert_eq!(track.keyframe_requested().now_or_never(), Some(()));
    }

    #[test]
    fn audio_has_no_keyframes() {
        let track = track(CodecName::Opus);
        track.request_keyframe();
        assert_eq!(track.keyframe_requested().now_or_never(), None);
    }
}
