//! Pushes: receivers elsewhere that take the room's mix, called by us.

use jiff::Timestamp;

use super::{
    actor::Room,
    command::Caller,
    error::OutputError,
    event::RoomEvent,
    id::{ConnectionId, ConnectionName, OutputId, ParticipantId},
    model::{OutputDetails, OutputKind, OutputView, Role},
};
use crate::{
    ingest::Scheme,
    media::push::{PushStatus, Target},
};

/// Of one room: each is a connection and a multiplexer; the mix is one for all.
const MOST_PUSHES: usize = 8;

/// What the room keeps of one.
pub(super) struct Push {
    id: OutputId,
    media: ConnectionId,
    kind: OutputKind,
    /// As it may be shown.
    uri: String,
    status: PushStatus,
    /// When its state last changed.
    since: Timestamp,
}

impl Push {
    pub(super) fn view(&self) -> OutputView {
        let PushStatus { state, reason, reconnects, .. } = self.status;
        OutputView { id: self.id.clone(), kind: self.kind, state, since: self.since, reason, reconnects }
    }
}

impl Room {
    pub(super) fn add_push(&mut self, caller: &Caller, target: Target) -> Result<OutputDetails, OutputError> {
        self.may_push(caller)?;
        if !self.capabilities.mix {
            return Err(OutputError::NoMix);
        }
        if self.pushes.len() >= MOST_PUSHES {
            return Err(OutputError::TooMany { most: MOST_PUSHES });
        }
        let push = Push {
            id: OutputId::random(),
            media: ConnectionId { participant: ParticipantId::random(), name: ConnectionName::random() },
            kind: if target.uri.scheme == Scheme::Srt { OutputKind::Srt } else { OutputKind::Rtmp },
            uri: target.uri.to_string(),
            status: PushStatus::default(),
            since: Timestamp::now(),
        };
        tracing::info!(room.id = %self.name, output.id = %push.id, uri = %push.uri, "the mix is pushed");
        self.media.push(push.media.clone(), target);
        self.tell_all(RoomEvent::Output { output: push.view() });
        let details = self.details(&push);
        self.pushes.push(push);
        Ok(details)
    }

    pub(super) fn remove_push(&mut self, caller: &Caller, id: &OutputId) -> Result<(), OutputError> {
        self.may_push(caller)?;
        let index = self.pushes.iter().position(|push| push.id == *id).ok_or(OutputError::Unknown)?;
        let push = self.pushes.remove(index);
        tracing::info!(room.id = %self.name, output.id = %push.id, uri = %push.uri, "the mix is pushed no more");
        self.media.close(&push.media);
        self.tell_all(RoomEvent::OutputRemoved { output: push.id });
        Ok(())
    }

    /// Where receivers are is for those who may add them.
    pub(super) fn pushes(&self, caller: &Caller) -> Result<Vec<OutputDetails>, OutputError> {
        self.may_push(caller)?;
        Ok(self.pushes.iter().map(|push| self.details(push)).collect())
    }

    pub(super) fn on_push_changed(&mut self, media: &ConnectionId, status: PushStatus) {
        let Some(push) = self.pushes.iter_mut().find(|push| push.media == *media) else { return };
        if push.status.state != status.state {
            push.since = Timestamp::now();
        }
        push.status = status;
        let output = push.view();
        self.tell_all(RoomEvent::Output { output });
    }

    fn may_push(&self, caller: &Caller) -> Result<(), OutputError> {
        match self.role_of(caller) {
            None => Err(OutputError::NotInRoom),
            Some(Role::Viewer | Role::Publisher) => Err(OutputError::NotAllowed),
            Some(Role::Moderator) => Ok(()),
        }
    }

    fn details(&self, push: &Push) -> OutputDetails {
        OutputDetails {
            view: push.view(),
            uri: push.uri.clone(),
            detail: push.status.detail.clone(),
            sent_bytes: self.media.sent_bytes(&push.media),
        }
    }
}
