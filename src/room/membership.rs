//! Coming and going: joins, returns, lost sessions, removals, nicknames, and who is moderator.

use std::collections::VecDeque;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    actor::Room,
    bucket::TokenBucket,
    command::{Answer, Caller, SessionEvents, SessionId},
    error::{ChangeError, JoinError, PublishError},
    event::{LeaveReason, RoomEvent},
    id::{AccessToken, ParticipantId, ResumeToken},
    model::{JoinRequest, Joined, Role},
    participant::{Follows, Link, Participant, PublicationStage},
    pin::same_token,
    policy,
};

/// What one participant may tell everybody at once, and a second in the long run: more would make
/// others, whose networks are slow, the ones that are too slow.
const SAYINGS_AT_ONCE: usize = 30;
const SAYINGS_PER_SECOND: usize = 10;
/// Connections one participant may ask for a second in the long run. Each is a pipeline, which takes
/// tens of milliseconds of a processor to build; at once he may have all that he may have twice.
const CONNECTIONS_PER_SECOND: usize = 5;

impl Room {
    pub(super) fn join(
        &mut self,
        request: JoinRequest,
        session: SessionId,
        events: SessionEvents,
        answer: Answer<Joined, JoinError>,
    ) {
        let participant = match self.admit(request, session, events) {
            Ok(participant) => participant,
            Err(error) => {
                let _ = answer.send(Err(error));
                return;
            }
        };
        let view = participant.view();
        self.participants.push(participant);
        if answer.send(Ok(self.joined(&view.id, false))).is_err() {
            // Whoever asked has gone; nobody has heard of him yet.
            self.participants.retain(|participant| participant.id != view.id);
            return;
        }
        tracing::info!(room.id = %self.name, participant.id = %view.id, role = ?view.role, "participant joined");
        self.empty_since = None;
        self.fresh = false;
        self.recordings.note_name(&view.id, &view.name);
        self.tell_others(&view.id.clone(), RoomEvent::ParticipantJoined { participant: view });
    }

    fn admit(
        &mut self,
        request: JoinRequest,
        session: SessionId,
        events: SessionEvents,
    ) -> Result<Participant, JoinError> {
        let now = Instant::now();
        let name = policy::check_nickname(&request.name, self.policy.max_name_chars).map_err(JoinError::Name)?;
        self.pin.check(request.pin.as_deref(), request.from, now)?;
        if self.participants.len() >= self.max_participants {
            return Err(JoinError::Full { most: self.max_participants });
        }
        let (role, may_moderate) = self.grant(request.role);
        let connections = self.policy.max_subscriptions + self.policy.max_publications;
        Ok(Participant {
            id: ParticipantId::random(),
            name,
            role,
            may_moderate,
            joined_at: Timestamp::now(),
            resume: ResumeToken::random(),
            access: AccessToken::of_room(self.number),
            session,
            link: Link::Attached(events),
            publications: Vec::new(),
            subscriptions: Vec::new(),
            follows: Follows::default(),
            effects: Vec::new(),
            sayings: TokenBucket::full(SAYINGS_AT_ONCE, SAYINGS_PER_SECOND, now),
            connecting: TokenBucket::full(2 * connections, CONNECTIONS_PER_SECOND, now),
            ended: VecDeque::new(),
            ingest: None,
        })
    }

    /// A room without a moderator makes one of whoever did not ask for less. More than a publisher
    /// is otherwise not to be had by asking.
    fn grant(&self, asked: Option<Role>) -> (Role, bool) {
        let may_moderate = matches!(asked, None | Some(Role::Moderator));
        let role = match asked {
            _ if may_moderate && !self.has_moderator() => Role::Moderator,
            Some(Role::Viewer) => Role::Viewer,
            None | Some(Role::Publisher | Role::Moderator) => Role::Publisher,
        };
        (role, may_moderate)
    }

    fn has_moderator(&self) -> bool {
        self.participants.iter().any(|participant| participant.role == Role::Moderator)
    }

    fn joined(&mut self, id: &ParticipantId, resumed: bool) -> Joined {
        let room = self.view();
        let participant = self.participant(id).expect("he was just let in");
        Joined {
            participant: id.clone(),
            role: participant.role,
            resume: participant.resume.clone(),
            access: participant.access.clone(),
            room,
            resumed,
        }
    }

    pub(super) fn resume(
        &mut self,
        token: &ResumeToken,
        session: SessionId,
        events: SessionEvents,
        answer: Answer<Joined, JoinError>,
    ) {
        let returning = self.participants.iter_mut().find(|p| same_token(p.resume.as_str(), token.as_str()));
        let Some(participant) =
            returning.filter(|participant| !matches!(participant.link, Link::Overrun | Link::Fetched))
        else {
            let _ = answer.send(Err(JoinError::ResumeUnknown));
            return;
        };
        // An older session that still hangs on is told so, and ends.
        participant.tell(RoomEvent::Removed { reason: LeaveReason::Replaced });
        let old = std::mem::replace(&mut participant.link, Link::Attached(events));
        participant.session = session;
        let (was_away, missed) = match old {
            Link::Detached { missed, .. } => (true, missed),
            Link::Attached(_) | Link::HungUp | Link::Overrun | Link::Fetched => (false, Vec::new()),
        };
        let id = participant.id.clone();
        tracing::info!(room.id = %self.name, participant.id = %id, "participant came back");
        // If the asker is gone his receiver is too, and the next sweep detaches him again.
        let _ = answer.send(Ok(self.joined(&id, true)));
        if was_away {
            self.tell_updated(&id);
        }
        if let Some(participant) = self.participant(&id) {
            participant.tell_again(missed, Instant::now());
        }
    }

    /// A stale session's end means nothing.
    pub(super) fn detach(&mut self, id: &ParticipantId, session: SessionId) {
        let until = Instant::now() + self.policy.resume_window;
        let Some(participant) = self.participant(id).filter(|participant| participant.session == session) else {
            return;
        };
        if matches!(participant.link, Link::Attached(_) | Link::HungUp) {
            participant.link = Link::Detached { until, missed: Vec::new() };
            tracing::info!(room.id = %self.name, participant.id = %id, "participant's session is gone");
            self.tell_updated(id);
        }
    }

    pub(super) fn leave(&mut self, id: &ParticipantId) {
        self.depart(id, LeaveReason::Left);
    }

    pub(super) fn remove(&mut self, caller: &Caller, id: &ParticipantId) -> Result<(), ChangeError> {
        match self.role_of(caller) {
            None => return Err(ChangeError::NotInRoom),
            Some(Role::Viewer | Role::Publisher) => return Err(ChangeError::NotAllowed),
            Some(Role::Moderator) => {}
        }
        if self.participant(id).is_none() {
            return Err(ChangeError::NoSuchParticipant);
        }
        self.depart(id, LeaveReason::Removed);
        Ok(())
    }

    pub(super) fn rename(&mut self, id: &ParticipantId, name: &str) -> Result<(), ChangeError> {
        let name = policy::check_nickname(name, self.policy.max_name_chars).map_err(ChangeError::Name)?;
        let participant = self.participant(id).ok_or(ChangeError::NotInRoom)?;
        if participant.name != name {
            if !participant.sayings.take(1, Instant::now()) {
                return Err(ChangeError::TooFast);
            }
            self.recordings.note_name(id, &name);
            self.participant(id).ok_or(ChangeError::NotInRoom)?.name = name;
            self.tell_updated(id);
        }
        Ok(())
    }

    /// Acts on sessions that could not be told something; until there is nobody left to act on, for
    /// each departure is told to the others, who may turn out to be too slow as well.
    pub(super) fn drop_unreachable(&mut self) {
        loop {
            let next = self.participants.iter().find_map(|participant| match participant.link {
                Link::Overrun => Some((participant.id.clone(), None)),
                Link::HungUp => Some((participant.id.clone(), Some(participant.session))),
                Link::Attached(_) | Link::Detached { .. } | Link::Fetched => None,
            });
            match next {
                None => return,
                Some((id, Some(session))) => self.detach(&id, session),
                Some((id, None)) => self.depart(&id, LeaveReason::TooSlow),
            }
        }
    }

    /// Ends those whose time to come back is over.
    pub(super) fn drop_lost(&mut self, now: Instant) {
        let lost =
            |participant: &&Participant| matches!(participant.link, Link::Detached { until, .. } if now >= until);
        let lost: Vec<_> = self.participants.iter().filter(lost).map(|participant| participant.id.clone()).collect();
        for id in lost {
            self.depart(&id, LeaveReason::Lost);
        }
    }

    /// Takes a participant out, and all that hangs on him.
    pub(super) fn depart(&mut self, id: &ParticipantId, reason: LeaveReason) {
        let Some(index) = self.participants.iter().position(|participant| participant.id == *id) else { return };
        let participant = &mut self.participants[index];
        let names: Vec<_> = participant.publications.iter().map(|publication| publication.name.clone()).collect();
        for subscription in std::mem::take(&mut participant.subscriptions) {
            self.media.close(&subscription.media);
        }
        // It may not have come to a publication.
        if let Some(ingest) = &participant.ingest {
            self.media.close(&ingest.media);
        }
        for name in names {
            let Some(publication) = self.participant(id).and_then(|p| p.take_publication(&name, None)) else {
                continue;
            };
            self.media.close(&publication.media);
            self.unpublished(id, &publication, "left");
            match publication.stage {
                PublicationStage::Answering(answer) => {
                    let _ = answer.send(Err(PublishError::NotInRoom));
                }
                stage => stage.cut_short(),
            }
        }
        let mut gone = self.participants.remove(index);
        tracing::info!(room.id = %self.name, participant.id = %id, ?reason, "participant left");
        if reason == LeaveReason::Removed {
            gone.tell(RoomEvent::Removed { reason });
        }
        self.speaking.forget_participant(id);
        self.floor.forget(id, Instant::now());
        self.participants.iter_mut().for_each(|other| other.follows.forget(id));
        self.tell_all(RoomEvent::ParticipantLeft { participant: id.clone(), reason });
        if gone.role == Role::Moderator {
            self.find_moderator();
        }
        if self.participants.is_empty() {
            self.empty_since = Some(Instant::now());
        }
    }

    /// Who has been here longest, may publish, and did not ask for less, follows a moderator who left.
    fn find_moderator(&mut self) {
        if self.has_moderator() {
            return;
        }
        let Some(heir) = self.participants.iter_mut().find(|participant| participant.may_moderate) else { return };
        heir.role = Role::Moderator;
        let id = heir.id.clone();
        self.tell_updated(&id);
    }

    pub(super) fn tell_updated(&mut self, id: &ParticipantId) {
        if let Some(participant) = self.participant(id).map(|participant| participant.view()) {
            self.tell_all(RoomEvent::ParticipantUpdated { participant });
        }
    }
}
