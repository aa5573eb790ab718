//! A published track as the rest of the room reads it: packets for subscribers before the jitter
//! buffer, packets for decoders and recorders after it, and keyframes on request.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use gst::prelude::*;
use gst_utils::streamproducer::{ProducerSettings, StreamProducer};
use tokio::sync::Notify;

use super::{
    feed::{Fed, Feed, Packet},
    rtp_caps,
};
use crate::{
    media::{CodecName, Kind, fanout, negotiation::AUDIO_LEVEL, rtp, sender_clock::CaptureTimes},
    room::id::TrackId,
};

/// Keyframe requests within this time of the last one are merged into one at its end.
pub const KEYFRAME_HOLDOFF: Duration = Duration::from_millis(500);

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
    /// The same packets as subscribers get, for viewers on the fan-out edge.
    pub source: Arc<fanout::Source>,
    ssrc: u32,
    keyframe_wanted: Arc<Notify>,
    /// As the publisher's last report has them; `None` before the first.
    capture_times: ArcSwapOption<CaptureTimes>,
    feeds: ArcSwap<Vec<Arc<Feed>>>,
    /// Taken to change `feeds`, never to read it.
    feeds_change: Mutex<()>,
}

impl Track {
    /// A track to which nobody subscribes yet. `fmtp`: the publisher's parameters of the codec.
    ///
    /// Put [`appsink`](Self::appsink) into the publishing pipeline, behind the jitter buffer, and act
    /// on [`keyframe_requested`](Self::keyframe_requested).
    pub fn new(id: TrackId, codec: CodecName, fmtp: Option<&str>) -> Arc<Self> {
        let ssrc = rtp::random_ssrc();
        let mut caps = rtp_caps(codec, rtp::payload_number(codec), fmtp);
        let structure = caps.make_mut().structure_mut(0).expect("rtp_caps makes one structure");
        structure.set("ssrc", ssrc);
        if codec.kind() == Kind::Audio {
            structure.set(format!("extmap-{}", rtp::AUDIO_LEVEL_ID), AUDIO_LEVEL);
        }
        let keyframe_wanted = Arc::new(Notify::new());
        let appsink = appsink(&id, keyframe_wanted.clone());
        let producer = StreamProducer::with(&appsink, ProducerSettings { sync: false });
        // Decoders that have seen an end decode no more; that a track is over is the room's to tell.
        producer.set_forward_events([gst::EventType::Gap]);
        let source = fanout::Source::new(codec, fmtp, keyframe_wanted.clone());
        Arc::new(Self {
            id,
            codec,
            caps,
            producer,
            source,
            ssrc,
            keyframe_wanted,
            capture_times: ArcSwapOption::empty(),
            feeds: ArcSwap::default(),
            feeds_change: Mutex::new(()),
        })
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

    /// Resolves once a keyframe was asked for since the last time. For the publisher alone, who then
    /// sends one request and waits [`KEYFRAME_HOLDOFF`] before he asks here again.
    pub async fn keyframe_requested(&self) {
        self.keyframe_wanted.notified().await;
    }

    /// From now on packets leave with the time of their capture, not of their arrival: sender reports
    /// to subscribers are derived from it.
    pub fn set_capture_times(&self, times: CaptureTimes) {
        self.capture_times.store(Some(Arc::new(times)));
    }

    /// Gives a packet to every subscriber. Called on the publisher's streaming thread; never waits.
    pub fn forward(&self, packet: &Packet) {
        let feeds = self.feeds.load();
        let has_viewers = self.source.viewers() > 0;
        if feeds.is_empty() && !has_viewers {
            return;
        }
        let arrived = packet.buffer.pts();
        let packet = self.as_captured(packet);
        if has_viewers && let Ok(bytes) = packet.buffer.map_readable() {
            let age = arrived.zip(packet.buffer.pts()).and_then(|(arrived, captured)| arrived.checked_sub(captured));
            let captured = packet.arrived - Duration::from(age.unwrap_or_default());
            self.source.forward(&bytes, captured, packet.starts_keyframe);
        }
        for feed in feeds.iter() {
            if feed.push(&packet) == Fed::WantsKeyframe {
                self.request_keyframe();
            }
        }
    }

    /// The packet with the time of its capture, if that is known. When the publisher changes its
    /// source, RTP timestamps go on without a gap, and so the last report still tells.
    fn as_captured(&self, packet: &Packet) -> Packet {
        let mut packet = packet.clone();
        let captured = self.capture_times.load().as_ref().and_then(|times| {
            let arrived = packet.buffer.pts()?;
            let rtp = u32::from_be_bytes(*packet.buffer.map_readable().ok()?.get(4..)?.first_chunk()?);
            times.of(rtp, arrived.into())
        });
        if let Some(captured) = captured.and_then(|time| gst::ClockTime::try_from(time).ok()) {
            // Copies the buffer's frame, not the bytes.
            packet.buffer.make_mut().set_pts(captured);
        }
        packet
    }

    /// How many subscribers read it.
    pub fn subscribers(&self) -> usize {
        self.feeds.load().len() + self.source.viewers()
    }

    /// Adds a subscriber's end.
    pub fn add_feed(&self, feed: Arc<Feed>) {
        self.change_feeds(|feeds| feeds.push(feed));
    }

    /// Takes a subscriber's end away again.
    pub fn remove_feed(&self, feed: &Arc<Feed>) {
        self.change_feeds(|feeds| feeds.retain(|known| !Arc::ptr_eq(known, feed)));
    }

    /// The list is copied, not locked: the publisher's thread reads it for every packet.
    fn change_feeds(&self, change: impl FnOnce(&mut Vec<Arc<Feed>>)) {
        let _one_at_a_time = self.feeds_change.lock().expect("nothing panics under this lock");
        let mut feeds = Vec::clone(&self.feeds.load());
        change(&mut feeds);
        self.feeds.store(Arc::new(feeds));
    }
}

/// A sink that never holds the pipeline up: no preroll, no clock, no last sample. Keyframe requests
/// of decoders behind it end here and join those of the subscribers, so that all are merged.
fn appsink(id: &TrackId, keyframe_wanted: Arc<Notify>) -> gst_app::AppSink {
    let appsink = gst_app::AppSink::builder()
        .name(format!("track-{id}"))
        .async_(false)
        .sync(false)
        .enable_last_sample(false)
        .build();
    let pad = appsink.static_pad("sink").expect("an appsink has a sink pad");
    pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| match info.event() {
        Some(event) if gst_video::UpstreamForceKeyUnitEvent::parse(event).is_ok() => {
            keyframe_wanted.notify_one();
            gst::PadProbeReturn::Handled
        }
        _ => gst::PadProbeReturn::Ok,
    });
    appsink
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn track(codec: CodecName) -> Arc<Track> {
        gst::init().unwrap();
        Track::new(TrackId::random(), codec, None)
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
