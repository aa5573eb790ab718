//! One participant as the room task holds him: his session, his connections, what he follows.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::mpsc::error::TrySendError, time::Instant};

use super::{
    bucket::TokenBucket,
    command::{Answer, SessionEvents, SessionId},
    error::{ConnectionError, PublishError, WatchError},
    event::RoomEvent,
    id::{AccessToken, ConnectionId, ConnectionName, ParticipantId, ResumeToken, TrackId},
    ingest::Ingest,
    model::{OfferedTrack, ParticipantView, PeerEdges, Published, Restarted, Role, TrackView, Watching},
};
use crate::{
    effect::Applied,
    media::{IceCandidate, Kind},
};

/// Names of ended connections that are remembered, to tell "ended" from "never was".
const MOST_ENDED: usize = 256;
/// How long after its end a connection is still reported to somebody who comes back.
const RETOLD: Duration = Duration::from_secs(30);
/// Candidates of ours kept for one connection until it is up.
const MOST_KEPT_CANDIDATES: usize = 64;
/// Messages kept for somebody whose socket is away.
const MOST_MISSED: usize = 256;

pub(super) struct Participant {
    pub(super) id: ParticipantId,
    pub(super) name: String,
    pub(super) role: Role,
    /// He did not ask for less than moderator, so he may become it.
    pub(super) may_moderate: bool,
    pub(super) joined_at: Timestamp,
    pub(super) resume: ResumeToken,
    pub(super) access: AccessToken,
    pub(super) session: SessionId,
    pub(super) link: Link,
    pub(super) publications: Vec<Publication>,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) follows: Follows,
    /// On what he publishes, but for shared screens.
    pub(super) effects: Vec<Applied>,
    /// What he may tell everybody: messages, other names, mutes.
    pub(super) sayings: TokenBucket,
    /// Connections he may ask for.
    pub(super) connecting: TokenBucket,
    pub(super) ended: VecDeque<Ended>,
    /// His media is fetched by the server; there is no session.
    pub(super) ingest: Option<Ingest>,
}

/// The way to a participant's session.
///
/// `Attached` until the session detaches, its receiver is dropped (`HungUp`) or its queue is full
/// (`Overrun`). The latter two are only marks: the room acts on them after the command or event
/// that met them, so that nobody vanishes in the middle of a round of telling.
pub(super) enum Link {
    Attached(SessionEvents),
    HungUp,
    Overrun,
    /// Until then he may come back; messages wait, all else is told afresh from the room's state.
    Detached {
        until: Instant,
        missed: Vec<RoomEvent>,
    },
    /// An ingest: there is nobody to tell.
    Fetched,
}

/// A connection the participant publishes on.
pub(super) struct Publication {
    /// The client's name for it.
    pub(super) name: ConnectionName,
    /// The engine's name: never used twice, so that an event that was still on its way when the
    /// client ended a connection cannot hit his next one of the same name.
    pub(super) media: ConnectionId,
    /// `(mid, track)`, in the order of the offer.
    pub(super) tracks: Vec<(String, TrackView)>,
    pub(super) stage: PublicationStage,
    pub(super) candidates: Candidates,
    /// The engine's answer, once there is one.
    pub(super) answer: String,
}

pub(super) enum PublicationStage {
    /// The engine makes the answer; nobody knows of the tracks yet.
    Answering(Answer<Published, PublishError>),
    /// The tracks are published.
    Live,
    /// They are; the engine takes the client's new credentials.
    Restarting(Answer<Restarted, ConnectionError>),
}

/// A connection the participant watches something on; the client knows it by its media name.
pub(super) struct Subscription {
    pub(super) media: ConnectionId,
    pub(super) to: Watched,
    pub(super) stage: SubscriptionStage,
    pub(super) candidates: Candidates,
}

/// What one connection shows.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Watched {
    /// Publications of one participant, by their media names; when the last is gone, so is this.
    Publications { publisher: ParticipantId, names: Vec<ConnectionName> },
    /// The room's mix, and what is not heard in it.
    Mix { without: Vec<TrackId> },
}

pub(super) enum SubscriptionStage {
    /// The engine makes the offer.
    Preparing,
    /// The engine makes the answer to the client's own offer.
    Answering(Answer<Watching, WatchError>),
    /// The client has the offer, or it was lost with his socket: kept to be told again.
    Offered { sdp: String, tracks: Vec<OfferedTrack> },
    /// Negotiated.
    Answered,
    /// Negotiated; the engine makes another offer of it, for other paths.
    Reoffering,
    /// Negotiated; the engine takes the client's new credentials.
    Restarting(Answer<Restarted, ConnectionError>),
}

/// Both sides' candidates of one connection.
#[derive(Default)]
pub(super) struct Candidates {
    received: usize,
    /// Ours, until the connection is up: held back until the client has a description to add them
    /// to, and told again to a client who comes back.
    ours: Vec<IceCandidate>,
    up: bool,
}

/// Whose publications, present and future, a participant wants to see.
#[derive(Default)]
pub(super) struct Follows {
    all: bool,
    only: HashSet<ParticipantId>,
    except: HashSet<ParticipantId>,
    /// Those he sees as they publish, without their effects.
    clean: HashSet<ParticipantId>,
}

/// A connection that was; `told` carries the reason if the room ended it.
pub(super) struct Ended {
    name: ConnectionName,
    told: Option<(String, Instant)>,
}

impl Participant {
    pub(super) fn view(&self) -> ParticipantView {
        let live = self.publications.iter().filter(|publication| publication.is_live());
        ParticipantView {
            id: self.id.clone(),
            name: self.name.clone(),
            role: self.role,
            joined_at: self.joined_at,
            connected: matches!(self.link, Link::Attached(_) | Link::Fetched),
            effects: self.effects.clone(),
            tracks: live.flat_map(|publication| publication.tracks.iter().map(|(_, track)| track.clone())).collect(),
            edges: PeerEdges::default(),
            ingest: self.ingest.as_ref().map(Ingest::view),
        }
    }

    /// Puts an event into the session's queue; never waits.
    pub(super) fn tell(&mut self, event: RoomEvent) {
        match &mut self.link {
            Link::Attached(events) => match events.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => self.link = Link::Overrun,
                Err(TrySendError::Closed(_)) => self.link = Link::HungUp,
            },
            Link::Detached { missed, .. } if matches!(event, RoomEvent::Signal(_)) => {
                if missed.len() < MOST_MISSED {
                    missed.push(event);
                }
            }
            Link::Detached { .. } | Link::HungUp | Link::Overrun | Link::Fetched => {}
        }
    }

    pub(super) fn publication(&mut self, name: &ConnectionName) -> Option<&mut Publication> {
        self.publications.iter_mut().find(|publication| publication.name == *name)
    }

    pub(super) fn subscription(&mut self, name: &ConnectionName) -> Option<&mut Subscription> {
        self.subscriptions.iter_mut().find(|subscription| subscription.media.name == *name)
    }

    /// Takes one of the connections out of the books and remembers that it was.
    pub(super) fn take_publication(&mut self, name: &ConnectionName, told: Option<&str>) -> Option<Publication> {
        let index = self.publications.iter().position(|publication| publication.name == *name)?;
        self.remember_end(name.clone(), told);
        Some(self.publications.remove(index))
    }

    /// As [`Self::take_publication`].
    pub(super) fn take_subscription(&mut self, name: &ConnectionName, told: Option<&str>) -> Option<Subscription> {
        let index = self.subscriptions.iter().position(|subscription| subscription.media.name == *name)?;
        self.remember_end(name.clone(), told);
        Some(self.subscriptions.remove(index))
    }

    fn remember_end(&mut self, name: ConnectionName, told: Option<&str>) {
        if self.ended.len() == MOST_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(Ended { name, told: told.map(|reason| (reason.to_owned(), Instant::now())) });
    }

    /// A name is in use again: it is no longer one that ended.
    pub(super) fn forget_end(&mut self, name: &ConnectionName) {
        self.ended.retain(|ended| ended.name != *name);
    }

    pub(super) fn has_ended(&self, name: &ConnectionName) -> bool {
        self.ended.iter().any(|ended| ended.name == *name)
    }

    pub(super) fn owns_track(&self, track: &TrackId) -> bool {
        self.tracks().any(|own| own.id == *track)
    }

    /// His published tracks.
    pub(super) fn tracks(&self) -> impl Iterator<Item = &TrackView> {
        let live = self.publications.iter().filter(|publication| publication.is_live());
        live.flat_map(|publication| publication.tracks.iter().map(|(_, track)| track))
    }

    /// As [`tracks`](Self::tracks), to change them.
    pub(super) fn tracks_mut(&mut self) -> impl Iterator<Item = &mut TrackView> {
        let live = self.publications.iter_mut().filter(|publication| publication.is_live());
        live.flat_map(|publication| publication.tracks.iter_mut().map(|(_, track)| track))
    }

    /// His chain, and those of single tracks.
    pub(super) fn chains(&self) -> impl Iterator<Item = &Vec<Applied>> {
        [&self.effects].into_iter().chain(self.tracks().map(|track| &track.effects))
    }

    /// His sound, which he does not hear in a mix.
    pub(super) fn sounds(&self) -> Vec<TrackId> {
        self.tracks().filter(|track| track.kind == Kind::Audio).map(|track| track.id.clone()).collect()
    }

    /// Tells a session that took over all that an earlier one may not have received: connections
    /// that ended, offers nobody answered, candidates of connections that are not up, messages.
    pub(super) fn tell_again(&mut self, missed: Vec<RoomEvent>, now: Instant) {
        let mut again = Vec::new();
        for ended in &self.ended {
            if let Some((reason, at)) = &ended.told
                && now < *at + RETOLD
            {
                again.push(RoomEvent::ConnectionClosed { connection: ended.name.clone(), reason: reason.clone() });
            }
        }
        for publication in self.publications.iter().filter(|publication| publication.is_live()) {
            again.extend(publication.candidates.ours(&publication.name));
        }
        for subscription in &self.subscriptions {
            again.extend(subscription.offer());
            if subscription.is_offered() {
                again.extend(subscription.candidates.ours(&subscription.media.name));
            }
        }
        for event in again.into_iter().chain(missed) {
            self.tell(event);
        }
    }
}

impl Publication {
    pub(super) fn is_live(&self) -> bool {
        !matches!(self.stage, PublicationStage::Answering(_))
    }
}

impl Subscription {
    /// The client has been sent the offer, so candidates mean something to him.
    pub(super) fn is_offered(&self) -> bool {
        !matches!(self.stage, SubscriptionStage::Preparing | SubscriptionStage::Answering(_))
    }

    /// Whom it shows, if one.
    pub(super) fn publisher(&self) -> Option<&ParticipantId> {
        match &self.to {
            Watched::Publications { publisher, .. } => Some(publisher),
            Watched::Mix { .. } => None,
        }
    }

    pub(super) fn shows(&self, publication: &ConnectionName) -> bool {
        matches!(&self.to, Watched::Publications { names, .. } if names.contains(publication))
    }

    /// Of the mix: what is not heard in it.
    pub(super) fn mix_without(&self) -> Option<&[TrackId]> {
        match &self.to {
            Watched::Mix { without } => Some(without),
            Watched::Publications { .. } => None,
        }
    }

    pub(super) fn is_mix(&self) -> bool {
        matches!(self.to, Watched::Mix { .. })
    }

    /// The offer, if it still waits for an answer.
    pub(super) fn offer(&self) -> Option<RoomEvent> {
        let SubscriptionStage::Offered { sdp, tracks } = &self.stage else { return None };
        Some(RoomEvent::Offer {
            connection: self.media.name.clone(),
            participant: self.publisher().cloned(),
            mix: self.is_mix(),
            sdp: sdp.clone(),
            tracks: tracks.clone(),
        })
    }
}

impl Candidates {
    /// Counts a candidate of the client's.
    pub(super) fn receive(&mut self, most: usize) -> Result<(), ConnectionError> {
        if self.received >= most {
            return Err(ConnectionError::TooManyCandidates { most });
        }
        self.received += 1;
        Ok(())
    }

    /// Keeps a candidate of ours until the connection is up.
    pub(super) fn keep(&mut self, candidate: IceCandidate) {
        if !self.up && self.ours.len() < MOST_KEPT_CANDIDATES {
            self.ours.push(candidate);
        }
    }

    /// The client begins to look again, with candidates of other credentials.
    pub(super) fn restart(&mut self) {
        self.received = 0;
    }

    pub(super) fn connected(&mut self) {
        self.up = true;
        self.ours = Vec::new();
    }

    /// Ours, as events on the connection that the client calls `name`.
    pub(super) fn ours(&self, name: &ConnectionName) -> Vec<RoomEvent> {
        let told =
            |candidate: &IceCandidate| RoomEvent::Candidate { connection: name.clone(), candidate: candidate.clone() };
        self.ours.iter().map(told).collect()
    }
}

impl Follows {
    pub(super) fn wants(&self, participant: &ParticipantId) -> bool {
        self.only.contains(participant) || (self.all && !self.except.contains(participant))
    }

    pub(super) fn follow_all(&mut self) {
        self.all = true;
        self.except.clear();
        self.clean.clear();
    }

    pub(super) fn with_effects(&self, participant: &ParticipantId) -> bool {
        !self.clean.contains(participant)
    }

    pub(super) fn follow(&mut self, participant: &ParticipantId, effects: bool) {
        self.except.remove(participant);
        self.only.insert(participant.clone());
        if effects {
            self.clean.remove(participant);
        } else {
            self.clean.insert(participant.clone());
        }
    }

    pub(super) fn follow_none(&mut self) {
        *self = Self::default();
    }

    pub(super) fn unfollow(&mut self, participant: &ParticipantId) {
        self.only.remove(participant);
        self.clean.remove(participant);
        if self.all {
            self.except.insert(participant.clone());
        }
    }

    /// He left: his identifier means nothing any more.
    pub(super) fn forget(&mut self, participant: &ParticipantId) {
        self.only.remove(participant);
        self.except.remove(participant);
        self.clean.remove(participant);
    }
}
