//! Messages between participants: who gets them.

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    actor::Room, error::ChangeError, event::RoomEvent, id::ParticipantId, model::Signal, policy::MAX_SIGNAL_KIND_BYTES,
};

/// Messages of this kind are in recordings.
const CHAT: &str = "chat";

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
        if !sender.sayings.take(1, Instant::now()) {
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
        if to.is_none()
            && kind == CHAT
            && let Some(text) = text_of(&data)
        {
            self.recordings.note_chat(&name, text);
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

/// A chat message is `{text}`, or a text alone.
fn text_of(data: &Value) -> Option<&str> {
    data.as_str().or_else(|| data.get("text")?.as_str()).filter(|text| !text.trim().is_empty())
}
