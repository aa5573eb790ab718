//! Messages between participants: who gets them, and how many one person may send.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    actor::Room, error::ChangeError, event::RoomEvent, id::ParticipantId, model::Signal, policy::MAX_SIGNAL_KIND_BYTES,
};

/// Messages at once.
const BURST: f64 = 30.0;
/// Messages a second in the long run.
const PER_SECOND: f64 = 10.0;

/// Ten messages a second, thirty at once.
pub(super) struct TokenBucket {
    tokens: f64,
    filled: Instant,
}

impl TokenBucket {
    pub(super) fn full(now: Instant) -> Self {
        Self { tokens: BURST, filled: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.filled).min(Duration::from_secs(60)).as_secs_f64() * PER_SECOND;
        self.tokens = (self.tokens + gained).min(BURST);
        self.filled = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

impl Room {
    /// Passes a message on. The sender gets his own too, so that all see one order.
    pub(super) fn signal(
        &mut self,
        from: &ParticipantId,
        kind: String,
        to: Option<Vec<ParticipantId>>,
        data: Value,
    ) -> Result<(), ChangeError> {
        let most = self.policy.max_signal_bytes;
        let sender = self.participant(from).ok_or(ChangeError::NotInRoom)?;
        if !sender.signals.take(Instant::now()) {
            return Err(ChangeError::TooFast);
        }
        let name = sender.name.clone();
        if kind.len() > MAX_SIGNAL_KIND_BYTES {
            return Err(ChangeError::TooLong { what: "kind", most: MAX_SIGNAL_KIND_BYTES });
        }
        if data.to_string().len() > most {
            return Err(ChangeError::TooLong { what: "data", most });
        }
        if let Some(unknown) = to.iter().flatten().find(|id| self.participant(id).is_none()) {
            tracing::debug!(room.id = %self.name, participant.id = %unknown, "a signal names somebody who is not here");
            return Err(ChangeError::NoSuchParticipant);
        }
        let event = RoomEvent::Signal(Signal { from: from.clone(), name, kind, data, time: Timestamp::now() });
        match to {
            None => self.tell_all(event),
            Some(to) => {
                let named = |id: &ParticipantId| *id == *from || to.contains(id);
                self.participants.iter_mut().filter(|p| named(&p.id)).for_each(|p| p.tell(event.clone()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_at_once_then_ten_a_second() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(start);
        assert_eq!((0..40).filter(|_| bucket.take(start)).count(), 30);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..40).filter(|_| bucket.take(later)).count(), 10);
        let much_later = start + Duration::from_secs(100);
        assert_eq!((0..40).filter(|_| bucket.take(much_later)).count(), 30);
    }
}
