//! One subscriber's end of one track: takes packets from the publisher's thread, never makes it wait.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

use super::counters;
use crate::media::Kind;

/// Packets of video that may wait for a subscriber's pipeline: about a keyframe and half a second.
const MAX_QUEUED_VIDEO: u64 = 600;
/// Packets of audio that may wait, 20 ms each.
const MAX_QUEUED_AUDIO: u64 = 50;
/// A keyframe that did not come after so long is asked for again: the request or its answer was lost.
const ASK_AGAIN_AFTER: gst::ClockTime = gst::ClockTime::from_seconds(1);

/// A packet on its way to subscribers, in Salon's numbers.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The whole RTP packet; its timestamp is running time of the room.
    pub buffer: gst::Buffer,
    /// A decoder can begin here.
    pub starts_keyframe: bool,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fed {
    /// It is on its way.
    Forwarded,
    /// The subscriber cannot take it now; nothing is to be done about it.
    Skipped,
    /// It waits for a keyframe, which somebody should ask for: the queue was full, or the keyframe
    /// that was asked for has not come.
    WantsKeyframe,
}

/// One subscriber's end of one track.
#[derive(Debug)]
pub struct Feed {
    source: gst_app::AppSrc,
    kind: Kind,
    open: AtomicBool,
    waits_for_keyframe: AtomicBool,
    /// Running time in nanoseconds since which it waits, or at which it last asked; 0 while it does not
    /// wait.
    asked: AtomicU64,
    /// The subscriber's payload number where it differs from ours, else 0.
    payload: AtomicU8,
    /// Packets that came all at once when it was added, and may wait beyond the limit.
    replayed: AtomicU64,
}

impl Feed {
    /// A closed feed into `source`, which is made live, unbounded and without timestamps of its own:
    /// the bound is kept here, where a drop can be counted and ended at a keyframe.
    pub fn new(source: gst_app::AppSrc, kind: Kind) -> Self {
        source.set_is_live(true);
        source.set_format(gst::Format::Time);
        source.set_do_timestamp(false);
        source.set_max_bytes(0);
        source.set_max_buffers(0);
        source.set_max_time(gst::ClockTime::ZERO);
        source.set_automatic_eos(false);
        Self {
            source,
            kind,
            open: AtomicBool::new(false),
            waits_for_keyframe: AtomicBool::new(kind == Kind::Video),
            asked: AtomicU64::new(0),
            payload: AtomicU8::new(0),
            replayed: AtomicU64::new(0),
        }
    }

    /// Takes what went before, all at once, beginning with a keyframe.
    pub(super) fn replay(&self, packets: &[Packet]) {
        for packet in packets {
            self.waits_for_keyframe.store(false, Relaxed);
            self.replayed.fetch_add(1, Relaxed);
            // An error means that the subscriber's pipeline is going down.
            let _ = self.source.push_buffer(self.renumbered(&packet.buffer));
            counters::packet_forwarded();
        }
    }

    fn is_full(&self) -> bool {
        let limit = if self.kind == Kind::Video { MAX_QUEUED_VIDEO } else { MAX_QUEUED_AUDIO };
        let level = self.source.current_level_buffers();
        if level < limit {
            self.replayed.store(0, Relaxed);
            return false;
        }
        level >= limit + self.replayed.load(Relaxed)
    }

    /// Lets packets through from the next keyframe on. To be called once the connection is up: a
    /// pipeline whose DTLS is not blocks, and would only fill the queue.
    pub fn open(&self) {
        self.open.store(true, Relaxed);
    }

    /// Stops taking packets, for good.
    pub fn close(&self) {
        self.open.store(false, Relaxed);
    }

    /// Writes this payload number into every packet from now on.
    pub fn set_payload(&self, payload: u8) {
        self.payload.store(payload, Relaxed);
    }

    /// Takes a packet or drops it; never waits.
    pub(super) fn push(&self, packet: &Packet) -> Fed {
        if !self.open.load(Relaxed) {
            return Fed::Skipped;
        }
        let waits = self.waits_for_keyframe.load(Relaxed);
        let is_full = self.is_full();
        if waits && is_full {
            // A keyframe could not be taken either, and everybody else would pay for it.
            return Fed::Skipped;
        }
        if waits && !packet.starts_keyframe {
            return self.wait(packet);
        }
        if is_full {
            counters::packet_dropped();
            if self.kind == Kind::Audio {
                return Fed::Skipped;
            }
            self.waits_for_keyframe.store(true, Relaxed);
            return Fed::WantsKeyframe;
        }
        self.waits_for_keyframe.store(false, Relaxed);
        self.asked.store(0, Relaxed);
        // An error means that the subscriber's pipeline is going down.
        if self.source.push_buffer(self.renumbered(&packet.buffer)).is_err() {
            return Fed::Skipped;
        }
        counters::packet_forwarded();
        Fed::Forwarded
    }

    /// Passes over a packet, and asks again if it was for too long.
    fn wait(&self, packet: &Packet) -> Fed {
        let now = packet.buffer.pts().map_or(1, |time| time.nseconds().max(1));
        let asked = self.asked.load(Relaxed);
        // Whoever made it wait has asked already.
        let is_late = asked != 0 && now.saturating_sub(asked) >= ASK_AGAIN_AFTER.nseconds();
        if asked == 0 || is_late {
            self.asked.store(now, Relaxed);
        }
        if is_late { Fed::WantsKeyframe } else { Fed::Skipped }
    }

    /// The packet itself, or a copy with the subscriber's payload number.
    fn renumbered(&self, buffer: &gst::Buffer) -> gst::Buffer {
        let payload = self.payload.load(Relaxed);
        if payload == 0 {
            return buffer.clone();
        }
        let mut copy = buffer.copy_deep().unwrap_or_else(|_| buffer.clone());
        if let Ok(mut map) = copy.make_mut().map_writable()
            && let Some(byte) = map.get_mut(1)
        {
            *byte = (*byte & 0x80) | payload;
        }
        copy
    }
}

#[cfg(test)]
mod tests {
    use gst::prelude::*;

    use super::*;

    fn packet(starts_keyframe: bool) -> Packet {
        Packet { buffer: gst::Buffer::from_slice([0x80, 0x80 | 96, 0, 1]), starts_keyframe }
    }

    /// A source whose one thread is held up, so that nobody empties it.
    struct Blocked(gst::Pipeline);

    impl Drop for Blocked {
        fn drop(&mut self) {
            self.0.set_state(gst::State::Null).unwrap();
        }
    }

    fn feed(kind: Kind) -> (Feed, Blocked) {
        gst::init().unwrap();
        let source = gst_app::AppSrc::builder().build();
        let block = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER;
        source.static_pad("src").unwrap().add_probe(block, |_, _| gst::PadProbeReturn::Ok);
        let pipeline = gst::Pipeline::new();
        pipeline.add(&source).unwrap();
        pipeline.set_state(gst::State::Paused).unwrap();
        let feed = Feed::new(source, kind);
        feed.open();
        (feed, Blocked(pipeline))
    }

    /// How many packets go in before one does not. The source's thread may have taken one out.
    fn fill(feed: &Feed) -> u64 {
        std::iter::repeat_with(|| feed.push(&packet(true))).take_while(|fed| *fed == Fed::Forwarded).count() as u64
    }

    #[test]
    fn video_begins_with_a_keyframe() {
        let (feed, _source) = feed(Kind::Video);
        assert_eq!(feed.push(&packet(false)), Fed::Skipped);
        assert_eq!(feed.push(&packet(true)), Fed::Forwarded);
        assert_eq!(feed.push(&packet(false)), Fed::Forwarded);
        feed.close();
        assert_eq!(feed.push(&packet(true)), Fed::Skipped);
    }

    #[test]
    fn a_full_queue_of_video_drops_until_the_next_keyframe() {
        let (feed, _source) = feed(Kind::Video);
        let filled = fill(&feed);
        assert!((MAX_QUEUED_VIDEO..=MAX_QUEUED_VIDEO + 1).contains(&filled), "{filled}");
        assert_eq!(feed.push(&packet(false)), Fed::Skipped, "of a picture that is broken anyway");
        assert_eq!(feed.push(&packet(true)), Fed::Skipped, "still full: another keyframe would be lost too");
    }

    #[test]
    fn a_full_queue_of_audio_drops_and_goes_on() {
        let (feed, _source) = feed(Kind::Audio);
        let filled = fill(&feed);
        assert!((MAX_QUEUED_AUDIO..=MAX_QUEUED_AUDIO + 1).contains(&filled), "{filled}");
        assert_eq!(feed.push(&packet(true)), Fed::Skipped);
        assert!(!feed.waits_for_keyframe.load(Relaxed));
    }

    #[test]
    fn a_keyframe_that_does_not_come_is_asked_for_again_once_a_second() {
        let (feed, _source) = feed(Kind::Video);
        let at = |seconds: u64, starts_keyframe| {
            let mut packet = packet(starts_keyframe);
            packet.buffer.make_mut().set_pts(gst::ClockTime::from_mseconds(seconds * 1000));
            feed.push(&packet)
        };
        let fed: Vec<_> = (10..13).flat_map(|second| [at(second, false), at(second, false)]).collect();
        let (skipped, wants) = (Fed::Skipped, Fed::WantsKeyframe);
        assert_eq!(fed, [skipped, skipped, wants, skipped, wants, skipped]);
        assert_eq!(at(13, true), Fed::Forwarded);
        assert_eq!(at(13, false), Fed::Forwarded);
    }

    #[test]
    fn the_payload_number_is_the_subscribers() {
        let (feed, _source) = feed(Kind::Video);
        let original = packet(true);
        let number = |buffer: gst::Buffer| buffer.map_readable().unwrap()[1];
        assert_eq!(number(feed.renumbered(&original.buffer)), 0x80 | 96);
        feed.set_payload(126);
        assert_eq!(number(feed.renumbered(&original.buffer)), 0x80 | 126);
        assert_eq!(number(original.buffer), 0x80 | 96, "others keep theirs");
    }
}
