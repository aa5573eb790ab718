//! A room's media as RTP, for players outside the page.

use std::time::Duration;

use bytes::Bytes;

use super::MixTracks;
use crate::room::id::TrackId;

/// What a player is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The room's mix.
    Mix(MixTracks),
    /// Tracks, each an RTP stream, in this order.
    Tracks {
        /// Which.
        tracks: Vec<TrackId>,
        /// With their effects, or as they were published.
        effects: bool,
    },
}

/// A packet on its way to a player.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpPiece {
    /// Of which of the streams that are shown, the picture first.
    pub stream: usize,
    /// The whole RTP packet, under the codec's payload number
    /// ([`payload_number`](super::rtp::payload_number)).
    pub bytes: Bytes,
    /// When it was captured, in the room's running time: the same for sound and picture.
    pub time: Duration,
}
