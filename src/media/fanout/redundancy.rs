//! A viewer's sound that is sent twice or three times, while he loses some of it.
//!
//! Lost sound is not sent again when he asks, as it would come too late: each packet brings the ones before it too
//! (RFC 2198). Where nothing is lost that would be waste, so it is done for who says that he loses some.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use str0m::media::Pt;

use super::source::Packet;
use crate::media::rtp::{MOST_AGAIN, Packer};

/// Who loses more than this has each packet twice: one in fifty is heard.
const TWICE_FROM: f32 = 0.02;
/// And three times: of one in twenty, those that are next to each other are heard.
const MOST_FROM: f32 = 0.05;
/// A report may be good by chance: it goes on for so long after the last that was bad.
const GOES_ON: Duration = Duration::from_secs(10);
/// All that is sent of sound takes no more than this part of what the network bears: of a full one, packets sent twice
/// make more be lost.
const SHARE: f64 = 1.0 / 3.0;

#[derive(Debug)]
pub(super) struct Redundancy {
    /// His number for redundant packets.
    payload: Pt,
    packer: Packer,
    /// How many earlier ones a packet brings, and when that was last found to be needed.
    again: usize,
    needed: Option<Instant>,
    /// For how many there is room.
    room: usize,
}

impl Redundancy {
    pub(super) fn new(payload: Pt) -> Self {
        Self { payload, packer: Packer::default(), again: 0, needed: None, room: MOST_AGAIN }
    }

    /// How many earlier ones a packet brings.
    pub(super) fn again(&self) -> usize {
        self.again.min(self.room)
    }

    /// His network bears `bears` kbit/s, if anything was too much yet; all sound, each packet once, takes `sound`.
    pub(super) fn fit(&mut self, sound: u32, bears: Option<f64>) {
        let times = |bears: f64| (bears * SHARE / f64::from(sound.max(1))) as usize;
        self.room = bears.map_or(MOST_AGAIN, |bears| times(bears).saturating_sub(1));
    }

    /// He has told of so much loss, 0 to 1.
    pub(super) fn has_lost(&mut self, loss: f32, now: Instant) {
        let needed = match loss {
            loss if loss > MOST_FROM => MOST_AGAIN,
            loss if loss > TWICE_FROM => 1,
            _ => 0,
        };
        let is_over = self.needed.is_none_or(|needed| now.saturating_duration_since(needed) >= GOES_ON);
        if needed >= self.again || is_over {
            self.again = needed;
            self.needed = Some(now);
        }
    }

    /// Number and payload of a packet that brings others too; `None` if it goes as it is.
    pub(super) fn pack(
        &mut self,
        number: Pt,
        sequence: u64,
        timestamp: u32,
        packet: &Packet,
    ) -> Option<(Pt, Arc<[u8]>)> {
        let packed = self.packer.pack(*number, sequence, timestamp, &packet.payload, self.again());
        self.packer.sent(sequence, timestamp, &packet.payload);
        packed.map(|payload| (self.payload, payload.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_loses_more_has_more_and_for_a_while() {
        let start = Instant::now();
        let mut redundancy = Redundancy::new(Pt::from(63));
        let mut after = |seconds: u64, loss: f32| {
            redundancy.has_lost(loss, start + Duration::from_secs(seconds));
            redundancy.again()
        };
        assert_eq!(after(0, 0.0), 0);
        assert_eq!(after(1, 0.03), 1);
        assert_eq!(after(2, 0.1), 2);
        assert_eq!(after(3, 0.0), 2, "by chance");
        assert_eq!(after(8, 0.1), 2);
        assert_eq!(after(17, 0.03), 2);
        assert_eq!(after(18, 0.03), 1);
        assert_eq!(after(28, 0.0), 0);
    }

    #[test]
    fn a_full_network_has_no_room_for_more() {
        let mut redundancy = Redundancy::new(Pt::from(63));
        redundancy.has_lost(0.1, Instant::now());
        for (bears, again) in [(None, 2), (Some(400.0), 2), (Some(250.0), 1), (Some(150.0), 0), (Some(30.0), 0)] {
            redundancy.fit(32, bears);
            assert_eq!(redundancy.again(), again, "{bears:?}");
        }
    }
}
