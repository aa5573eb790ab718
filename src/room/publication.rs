//! What participants publish: offers taken, tracks announced, muted and withdrawn, levels heard.

use tokio::time::Instant;

use super::{
    actor::Room,
    command::{Answer, Caller},
    error::{ChangeError, PublishError},
    event::RoomEvent,
    id::{ConnectionId, ConnectionName, ParticipantId, TrackId},
    model::{Published, PublishedTrack, Role, Source, TrackView},
    participant::{Candidates, Publication, PublicationStage},
};
use crate::media::{
    self, AudioLevel, Kind, MediaError, PublishedMedia,
    negotiation::{self, AcceptedSection},
};

impl Room {
    pub(super) fn publish(
        &mut self,
        id: &ParticipantId,
        name: ConnectionName,
        sdp: String,
        sources: &[(String, Option<Source>, bool)],
        alone: bool,
        answer: Answer<Published, PublishError>,
    ) {
        let sections = match self.may_publish(id, &name, &sdp) {
            Ok(sections) => sections,
            Err(error) => {
                let _ = answer.send(Err(error));
                return;
            }
        };
        let media = ConnectionId { participant: id.clone(), name: ConnectionName::random_publication() };
        let mut tracks = Vec::with_capacity(sections.len());
        let mut accepted = Vec::with_capacity(sections.len());
        for section in sections {
            let track = new_track(&name, &section, sources);
            tracks.push((section.mid.clone(), track.clone()));
            accepted.push(PublishedMedia { track: track.id, section });
        }
        let Some(participant) = self.participant(id) else { return };
        participant.forget_end(&name);
        participant.publications.push(Publication {
            name,
            media: media.clone(),
            tracks,
            stage: PublicationStage::Answering(answer),
            candidates: Candidates::default(),
            answer: String::new(),
        });
        self.media.publish(media, media::Publication { sdp, media: accepted, alone });
    }

    fn may_publish(
        &mut self,
        id: &ParticipantId,
        name: &ConnectionName,
        sdp: &str,
    ) -> Result<Vec<AcceptedSection>, PublishError> {
        let most = self.policy.max_publications;
        let participant = self.participant(id).ok_or(PublishError::NotInRoom)?;
        if participant.role < Role::Publisher {
            return Err(PublishError::NotAllowed);
        }
        if participant.publication(name).is_some() || participant.subscription(name).is_some() {
            return Err(PublishError::ConnectionExists);
        }
        if participant.publications.len() >= most {
            return Err(PublishError::TooMany { most });
        }
        let accepted = negotiation::accept(sdp, &self.codecs)?;
        let participant = self.participant(id).ok_or(PublishError::NotInRoom)?;
        if !participant.connecting.take(1, Instant::now()) {
            return Err(PublishError::TooFast);
        }
        Ok(accepted)
    }

    /// The engine's answer: now the tracks are there for everybody.
    pub(super) fn on_answered(&mut self, media: &ConnectionId, sdp: String) {
        let Some(publication) = self.publication_by_media(media) else {
            self.on_watch_answered(media, sdp);
            return;
        };
        let PublicationStage::Answering(answer) = std::mem::replace(&mut publication.stage, PublicationStage::Live)
        else {
            return;
        };
        publication.answer.clone_from(&sdp);
        let told = |(mid, track): &(String, TrackView)| PublishedTrack { mid: mid.clone(), track: track.clone() };
        let tracks: Vec<_> = publication.tracks.iter().map(told).collect();
        let candidates = publication.candidates.ours(&publication.name);
        let _ = answer.send(Ok(Published { sdp, tracks: tracks.clone() }));
        if let Some(publisher) = self.participant(&media.participant) {
            candidates.into_iter().for_each(|candidate| publisher.tell(candidate));
        }
        for PublishedTrack { track, .. } in tracks {
            self.tell_all(RoomEvent::TrackPublished { participant: media.participant.clone(), track });
        }
        self.record_first_publication();
        if self.participant(&media.participant).is_some_and(|publisher| !publisher.effects.is_empty()) {
            self.put_effects_on(&media.participant.clone());
        }
        self.offer_to_followers(media);
    }

    /// A publication's connection ended by itself.
    pub(super) fn publication_failed(&mut self, media: &ConnectionId, name: &ConnectionName, error: MediaError) {
        let reason = why_closed(&error);
        let Some(publisher) = self.participant(&media.participant) else { return };
        let Some(publication) = publisher.take_publication(name, Some(reason)) else { return };
        tracing::warn!(room.id = %self.name, connection.id = %media, %error, "publication ended: {error}");
        self.unpublished(&media.participant, &publication, "unpublished");
        match publication.stage {
            PublicationStage::Answering(answer) => {
                let _ = answer.send(Err(PublishError::Media(error)));
            }
            stage @ (PublicationStage::Live | PublicationStage::Restarting(_)) => {
                stage.cut_short();
                let closed = RoomEvent::ConnectionClosed { connection: name.clone(), reason: reason.to_owned() };
                if let Some(publisher) = self.participant(&media.participant) {
                    publisher.tell(closed);
                }
            }
        }
    }

    /// The publisher withdraws a publication.
    pub(super) fn unpublish(&mut self, id: &ParticipantId, name: &ConnectionName) {
        let Some(publication) = self.participant(id).and_then(|p| p.take_publication(name, None)) else { return };
        self.media.close(&publication.media);
        self.unpublished(id, &publication, "unpublished");
        match publication.stage {
            PublicationStage::Answering(answer) => {
                let _ = answer.send(Err(PublishError::Media(MediaError::ConnectionLost)));
            }
            stage => stage.cut_short(),
        }
    }

    /// Ends what hung on a publication that is out of the books, and tells everybody.
    pub(super) fn unpublished(&mut self, id: &ParticipantId, publication: &Publication, reason: &'static str) {
        if !publication.is_live() {
            return;
        }
        self.end_subscriptions_to(&publication.media.name, reason);
        for (_, track) in &publication.tracks {
            self.speaking.forget_track(&track.id);
            self.tell_all(RoomEvent::TrackUnpublished { participant: id.clone(), track: track.id.clone() });
        }
    }

    pub(super) fn mute(&mut self, caller: &Caller, track: &TrackId, muted: bool) -> Result<(), ChangeError> {
        let role = self.role_of(caller).ok_or(ChangeError::NotInRoom)?;
        let owner = self.participants.iter_mut().find(|participant| participant.owns_track(track));
        let owner = owner.ok_or(ChangeError::NoSuchTrack)?;
        let id = owner.id.clone();
        let is_own = matches!(caller, Caller::Participant(caller) if *caller == id);
        // Nobody speaks for a camera: who muted it may have it back.
        let is_fetched = owner.ingest.is_some();
        if !is_own && *caller != Caller::Owner && !(role == Role::Moderator && (muted || is_fetched)) {
            return Err(ChangeError::NotAllowed);
        }
        let mut tracks = owner.publications.iter_mut().flat_map(|publication| &mut publication.tracks);
        let (_, view) = tracks.find(|(_, view)| view.id == *track).ok_or(ChangeError::NoSuchTrack)?;
        if view.muted != muted {
            // Nobody escapes a moderator by being too fast himself.
            if is_own && !owner.sayings.take(1, Instant::now()) {
                return Err(ChangeError::TooFast);
            }
            view.muted = muted;
            let track = view.clone();
            if muted {
                self.speaking.forget_track(&track.id);
                self.report_speaking(Instant::now());
            }
            if is_fetched {
                self.media.mute_ingest(&track.id, muted);
            }
            self.tell_all(RoomEvent::TrackUpdated { participant: id, track });
        }
        Ok(())
    }

    pub(super) fn on_audio_levels(&mut self, levels: &[(TrackId, AudioLevel)]) {
        let now = Instant::now();
        for (track, level) in levels {
            // A muted track may still send: its noise is nobody's speech.
            let heard = |own: &TrackView| own.id == *track && own.kind == Kind::Audio && !own.muted;
            if let Some(owner) = self.participants.iter().find(|participant| participant.tracks().any(heard)) {
                self.speaking.observe(track, &owner.id, level.peak_db, now);
            }
        }
        self.report_speaking(now);
    }

    pub(super) fn report_speaking(&mut self, now: Instant) {
        let levels = self.speaking.report(now);
        if !levels.is_empty() {
            self.floor.observe(&levels, now);
            for level in &levels {
                let name =
                    self.participants.iter().find(|known| known.id == level.participant).map(|known| &known.name);
                let name = name.map(String::as_str).unwrap_or_default();
                self.recordings.note_voice(&level.participant, name, level.speaking);
            }
            self.tell_all(RoomEvent::Speaking { levels });
        }
    }

    pub(super) fn publication_by_media(&mut self, media: &ConnectionId) -> Option<&mut Publication> {
        let publisher = self.participant(&media.participant)?;
        publisher.publications.iter_mut().find(|publication| publication.media == *media)
    }
}

/// Why a connection ended, in the word that clients are told.
pub(super) fn why_closed(error: &MediaError) -> &'static str {
    match error {
        MediaError::ConnectTimeout(_) | MediaError::Deadline { .. } => "timeout",
        MediaError::ConnectionLost
        | MediaError::Handshake(_)
        | MediaError::Description(_)
        | MediaError::Element { .. }
        | MediaError::File(_)
        | MediaError::DiskFull
        | MediaError::Busy { .. }
        | MediaError::Unavailable(_) => "failed",
    }
}

fn new_track(
    connection: &ConnectionName,
    section: &AcceptedSection,
    sources: &[(String, Option<Source>, bool)],
) -> TrackView {
    let said = sources.iter().find(|(mid, ..)| *mid == section.mid);
    let usual = match section.kind {
        Kind::Audio => Source::Microphone,
        Kind::Video => Source::Camera,
    };
    let (source, muted) = said.map_or((usual, false), |&(_, source, muted)| (source.unwrap_or(usual), muted));
    TrackView {
        id: TrackId::random(),
        connection: connection.clone(),
        kind: section.kind,
        source,
        codec: section.codec,
        muted,
        effects: Vec::new(),
        layers: section.layers.clone(),
    }
}
