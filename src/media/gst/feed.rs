//! One subscriber's end of one track: takes packets from the publisher's thread, never makes it wait.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

use super::counters;
use crate::media::Kind;

/// Packets of video that may wait for a subscriber's pipeline: about a keyframe and half a second.
const MAX_QUEUED_VIDEO: u64 = 600;
/// Packets of audio that may wait, 20 ms each.
const MAX_QUEUED_AUDIO: u64 = 50;

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
    /// The subscriber cannot take it now; nothing is amiss.
    Skipped,
    /// The queue was full: it waits for the next keyframe, which somebody should ask for.
    Overflowed,
}

/// One subscriber's end of one track.
#[derive(Debug)]
pub struct Feed {
    source: gst_app::AppSrc,
    kind: Kind,
    open: AtomicBool,
    waits_for_keyframe: AtomicBool,
    /// The subscriber's payload number where it differs from ours, else 0.
    payload: AtomicU8,
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
            payload: AtomicU8::new(0),
        }
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
        if self.waits_for_keyframe.load(Relaxed) && !packet.starts_keyframe {
            return Fed::Skipped;
        }
        let limit = if self.kind == Kind::Video { MAX_QUEUED_VIDEO } else { MAX_QUEUED_AUDIO };
        if self.source.current_level_buffers() >= limit {
            self.waits_for_keyframe.store(self.kind == Kind::Video, Relaxed);
            counters::packet_dropped();
            return Fed::Overflowed;
        }
        self.waits_for_keyframe.store(false, Relaxed);
        // An error means that the subscriber's pipeline is going down.
        if self.source.push_buffer(self.renumbered(&packet.buffer)).is_err() {
            return Fed::Skipped;
        }
        counters::packet_forwarded();
        Fed::Forwarded
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
