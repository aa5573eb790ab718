//! Ingests: participants whose media the server fetches itself. Nobody speaks for them: what they
//! publish is what their camera has, and they go when they are removed.

use std::collections::VecDeque;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    actor::Room,
    bucket::TokenBucket,
    command::{Caller, SessionId},
    error::IngestError,
    event::{LeaveReason, RoomEvent},
    id::{AccessToken, ConnectionId, ConnectionName, ParticipantId, ResumeToken, TrackId},
    model::{IngestDetails, IngestRequest, IngestView, Role, Source, TrackView},
    participant::{Candidates, Follows, Link, Participant, Publication, PublicationStage},
    policy,
};
use crate::media::{
    CodecName, Kind,
    ingest::{self, IngestStatus},
};

/// Ingests of one room: each is a connection that is kept, and perhaps a transcoder.
const MOST_INGESTS: usize = 16;

/// What the room keeps of an ingest beside its participant.
pub(super) struct Ingest {
    pub(super) media: ConnectionId,
    /// As it may be shown.
    uri: String,
    on_demand: bool,
    status: IngestStatus,
    /// When its state last changed.
    since: Timestamp,
}

impl Ingest {
    pub(super) fn view(&self) -> IngestView {
        let IngestStatus { state, reason, reconnects, transport, video, audio, .. } = self.status.clone();
        IngestView { state, since: self.since, reason, reconnects, transport, video, audio }
    }
}

impl Room {
    pub(super) fn add_ingest(&mut self, caller: &Caller, request: IngestRequest) -> Result<IngestDetails, IngestError> {
        self.may_fetch(caller)?;
        let IngestRequest { name, source, latency, on_demand } = request;
        let name = policy::check_nickname(&name, self.policy.max_name_chars).map_err(IngestError::Name)?;
        if self.participants.len() >= self.max_participants {
            return Err(IngestError::Full { most: self.max_participants });
        }
        if self.participants.iter().filter(|participant| participant.ingest.is_some()).count() >= MOST_INGESTS {
            return Err(IngestError::TooMany { most: MOST_INGESTS });
        }
        let id = ParticipantId::random();
        let media = ConnectionId { participant: id.clone(), name: ConnectionName::random_publication() };
        let ingest = ingest::Ingest {
            name: name.clone(),
            latency,
            on_demand,
            video: source.video.then(TrackId::random),
            audio: source.audio.then(TrackId::random),
            source,
        };
        let kept = Ingest {
            media: media.clone(),
            uri: ingest.source.uri.to_string(),
            on_demand,
            status: IngestStatus::default(),
            since: Timestamp::now(),
        };
        let participant = self.fetched(id.clone(), name, kept);
        let view = participant.view();
        tracing::info!(room.id = %self.name, participant.id = %id, uri = %ingest.source.uri, "ingest added");
        self.participants.push(participant);
        self.empty_since = None;
        self.fresh = false;
        self.recordings.note_name(&view.id, &view.name);
        self.tell_all(RoomEvent::ParticipantJoined { participant: view });
        self.media.ingest(media, ingest);
        self.ingest_details(&id).ok_or(IngestError::Unknown)
    }

    pub(super) fn remove_ingest(&mut self, caller: &Caller, id: &ParticipantId) -> Result<(), IngestError> {
        self.may_fetch(caller)?;
        self.participants.iter().find(|p| p.id == *id && p.ingest.is_some()).ok_or(IngestError::Unknown)?;
        self.depart(id, LeaveReason::Removed);
        Ok(())
    }

    /// Where cameras are is for those who may add them.
    pub(super) fn ingests(&self, caller: &Caller) -> Result<Vec<IngestDetails>, IngestError> {
        self.may_fetch(caller)?;
        Ok(self.participants.iter().filter_map(|participant| self.details_of(participant)).collect())
    }

    fn may_fetch(&self, caller: &Caller) -> Result<(), IngestError> {
        match self.role_of(caller) {
            None => Err(IngestError::NotInRoom),
            Some(Role::Viewer | Role::Publisher) => Err(IngestError::NotAllowed),
            Some(Role::Moderator) => Ok(()),
        }
    }

    fn ingest_details(&self, id: &ParticipantId) -> Option<IngestDetails> {
        self.participants.iter().find(|participant| participant.id == *id).and_then(|it| self.details_of(it))
    }

    /// What it has is known: its tracks are there for everybody, and stay.
    pub(super) fn on_ingest_opened(&mut self, media: &ConnectionId, tracks: &[(TrackId, CodecName)]) {
        let Some(participant) = self.participant(&media.participant) else { return };
        if participant.ingest.as_ref().is_none_or(|ingest| ingest.media != *media)
            || !participant.publications.is_empty()
        {
            return;
        }
        let name = ConnectionName("ingest".into());
        let views = tracks.iter().enumerate().map(|(index, (id, codec))| {
            let source = if codec.kind() == Kind::Video { Source::Camera } else { Source::Microphone };
            let track = TrackView {
                id: id.clone(),
                connection: name.clone(),
                kind: codec.kind(),
                source,
                codec: *codec,
                muted: false,
                effects: Vec::new(),
                layers: Vec::new(),
            };
            (index.to_string(), track)
        });
        let views: Vec<_> = views.collect();
        participant.publications.push(Publication {
            name: name.clone(),
            media: media.clone(),
            tracks: views.clone(),
            stage: PublicationStage::Live,
            answer: String::new(),
            candidates: Candidates::default(),
        });
        for (_, track) in views {
            self.tell_all(RoomEvent::TrackPublished { participant: media.participant.clone(), track });
        }
        self.record_first_publication();
        // Somebody may have wanted them before the camera was there.
        if self.participant(&media.participant).is_some_and(|camera| !camera.effects.is_empty()) {
            self.put_effects_on(&media.participant.clone());
        }
        self.offer_to_followers(media);
    }

    pub(super) fn on_ingest_changed(&mut self, media: &ConnectionId, status: IngestStatus) {
        let Some(participant) = self.participant(&media.participant) else { return };
        let Some(ingest) = participant.ingest.as_mut().filter(|ingest| ingest.media == *media) else { return };
        if ingest.status.state != status.state {
            ingest.since = Timestamp::now();
        }
        ingest.status = status;
        let participant = participant.view();
        self.tell_all(RoomEvent::ParticipantUpdated { participant });
    }
}

impl Room {
    /// He has no session, and nobody knows his tokens.
    fn fetched(&self, id: ParticipantId, name: String, ingest: Ingest) -> Participant {
        let now = Instant::now();
        Participant {
            id,
            name,
            role: Role::Publisher,
            may_moderate: false,
            joined_at: Timestamp::now(),
            resume: ResumeToken::random(),
            access: AccessToken::of_room(self.number),
            session: SessionId::next(),
            link: Link::Fetched,
            publications: Vec::new(),
            subscriptions: Vec::new(),
            effects: Vec::new(),
            follows: Follows::default(),
            sayings: TokenBucket::full(0, 0, now),
            connecting: TokenBucket::full(0, 0, now),
            ended: VecDeque::new(),
            ingest: Some(ingest),
        }
    }

    fn details_of(&self, participant: &Participant) -> Option<IngestDetails> {
        let ingest = participant.ingest.as_ref()?;
        Some(IngestDetails {
            id: participant.id.clone(),
            name: participant.name.clone(),
            uri: ingest.uri.clone(),
            on_demand: ingest.on_demand,
            detail: ingest.status.detail.clone(),
            figures: self.media.ingest_figures(&ingest.media),
            status: ingest.view(),
        })
    }
}
