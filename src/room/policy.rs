//! The rules that need no state: limits, and what names may look like.

use std::time::Duration;

/// The server's limits for rooms; settings may lower them, never raise them.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomPolicy {
    /// Rooms at once.
    pub max_rooms: usize,
    /// Participants a room has if it does not say, and the most it may say.
    pub max_participants: usize,
    /// How long an empty room stays.
    pub linger: Duration,
    /// How long a participant whose socket is gone may come back. With the time it takes to notice
    /// a dead socket it must stay under 10 s.
    pub resume_window: Duration,
    /// Publications of one participant at once.
    pub max_publications: usize,
    /// Subscriptions of one participant at once.
    pub max_subscriptions: usize,
    /// Recordings of one room at once.
    pub max_recordings: usize,
    /// Candidates taken for one connection.
    pub max_candidates: usize,
    /// Bytes of one signal's data, as JSON.
    pub max_signal_bytes: usize,
    /// Characters of a nickname.
    pub max_name_chars: usize,
    /// ICE and DTLS must be up within this.
    pub connect_timeout: Duration,
}

impl Default for RoomPolicy {
    fn default() -> Self {
        Self {
            max_rooms: 200,
            max_participants: 50,
            linger: Duration::from_secs(30),
            resume_window: Duration::from_secs(7),
            max_publications: 4,
            max_subscriptions: 200,
            max_recordings: 4,
            max_candidates: 200,
            max_signal_bytes: 16 * 1024,
            max_name_chars: 64,
            connect_timeout: Duration::from_secs(20),
        }
    }
}
