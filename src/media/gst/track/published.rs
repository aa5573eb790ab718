//! A track as the fan-out edge reads it.

use std::sync::{Weak, atomic::Ordering::Relaxed};

use super::Track;
use crate::media::{
    fanout::{Earlier, Upstream},
    rtp::Lane,
};

/// A track's lane as the fan-out edge asks of it.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) track: Weak<Track>,
    pub(super) lane: Lane,
}

impl Upstream for Published {
    fn request_keyframe(&self) {
        if let Some(track) = self.track.upgrade() {
            track.request_keyframe_of(self.lane);
        }
    }

    fn viewer_came(&self, begin: &mut dyn FnMut(&[Earlier])) {
        let Some(track) = self.track.upgrade() else { return begin(&[]) };
        if self.lane == Lane::Effected && track.has_had_effects.load(Relaxed) {
            // What is kept is as it was published, and goes under other numbers.
            begin(&[]);
            track.readers.send_modify(|readers| *readers += 1);
            return;
        }
        let recent = track.recent();
        let replayed = recent.as_ref().map(|recent| recent.replay()).unwrap_or_default();
        let earlier = replayed.iter().filter_map(|packet| {
            let bytes = packet.buffer.map_readable().ok()?.to_vec();
            Some(Earlier { packet: bytes, captured: track.captured(packet), starts_keyframe: packet.starts_keyframe })
        });
        begin(&earlier.collect::<Vec<_>>());
        drop(recent);
        track.readers.send_modify(|readers| *readers += 1);
    }

    fn viewer_went(&self) {
        if let Some(track) = self.track.upgrade() {
            track.readers.send_modify(|readers| *readers -= 1);
        }
    }
}
