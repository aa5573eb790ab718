//! What participants watch: one connection for each publication, offered by us, answered by them;
//! and what both kinds of connection share, candidates and ends.

use tokio::time::Instant;

use super::{
    actor::Room,
    command::Answer,
    error::{ChangeError, ConnectionError, SubscribeError, WatchError},
    event::RoomEvent,
    id::{ConnectionId, ConnectionName, ParticipantId, TrackId},
    model::{OfferedTrack, Source, Subscribe, Unsubscribe},
    participant::{Candidates, Subscription, SubscriptionStage, Watched},
    publication::why_closed,
};
use crate::media::{IceCandidate, Kind, LayerChoice, MediaError, MixTracks, negotiation};

/// Something to be watched.
enum Target {
    /// A publication, which of its tracks, and whether with their effects.
    Publication { publisher: ParticipantId, name: ConnectionName, tracks: Vec<TrackId>, effects: bool },
    /// The room's mix.
    Mix,
}

impl Target {
    /// A subscription to the same thing, which a new one takes the place of.
    fn is_replaced(&self, subscription: &Subscription) -> bool {
        match self {
            Self::Publication { name, .. } => subscription.shows(name),
            Self::Mix => subscription.is_mix(),
        }
    }
}

impl Room {
    /// Gives somebody another layer of a track, on every connection that shows it to him.
    pub(super) fn layer(&mut self, id: &ParticipantId, track: &TrackId, layer: LayerChoice) -> Result<(), ChangeError> {
        let owner = self.participants.iter().find(|participant| participant.owns_track(track));
        let owner = owner.ok_or(ChangeError::NoSuchTrack)?;
        let publication = owner.publications.iter().find_map(|publication| {
            let (_, view) = publication.tracks.iter().find(|(_, view)| view.id == *track)?;
            Some((publication.media.name.clone(), view.layers.clone()))
        });
        let (publication, layers) = publication.ok_or(ChangeError::NoSuchTrack)?;
        if matches!(&layer, LayerChoice::Named(rid) if !layers.contains(rid)) {
            return Err(ChangeError::NoSuchLayer);
        }
        let viewer = self.participants.iter_mut().find(|participant| participant.id == *id);
        let viewer = viewer.ok_or(ChangeError::NotInRoom)?;
        if !viewer.sayings.take(1, Instant::now()) {
            return Err(ChangeError::TooFast);
        }
        let shows =
            |watched: &Watched| matches!(watched, Watched::Publications { names, .. } if names.contains(&publication));
        let connections = viewer.subscriptions.iter().filter(|subscription| shows(&subscription.to));
        let connections: Vec<ConnectionId> = connections.map(|subscription| subscription.media.clone()).collect();
        if connections.is_empty() {
            return Err(ChangeError::NoSuchTrack);
        }
        for connection in &connections {
            self.media.set_layer(connection, track, layer.clone());
        }
        Ok(())
    }

    pub(super) fn on_track_paused(&mut self, media: &ConnectionId, track: TrackId, paused: bool) {
        let owner = self.participants.iter().find(|participant| participant.owns_track(&track));
        let Some(owner) = owner.map(|owner| owner.id.clone()) else { return };
        if let Some(subscriber) = self.participant(&media.participant) {
            subscriber.tell(RoomEvent::TrackPaused { participant: owner, track, paused });
        }
    }

    pub(super) fn subscribe(
        &mut self,
        id: &ParticipantId,
        to: Subscribe,
        answer: Answer<Vec<ConnectionName>, SubscribeError>,
    ) {
        let targets = match self.targets(id, &to).and_then(|targets| self.within_limit(id, targets)) {
            Ok(targets) => targets,
            Err(error) => {
                let _ = answer.send(Err(error));
                return;
            }
        };
        if let Some(subscriber) = self.participant(id) {
            match &to {
                Subscribe::All => subscriber.follows.follow_all(),
                Subscribe::Participant { participant, tracks: None, effects } => {
                    subscriber.follows.follow(participant, *effects);
                }
                Subscribe::Participant { tracks: Some(_), .. } | Subscribe::Mix => {}
            }
        }
        let connections: Vec<_> = targets.iter().map(|_| ConnectionName::random()).collect();
        // The answer goes first: events about the connections follow it.
        let _ = answer.send(Ok(connections.clone()));
        for (target, name) in targets.into_iter().zip(connections) {
            self.replace_subscription(id, target, name);
        }
    }

    fn targets(&mut self, id: &ParticipantId, to: &Subscribe) -> Result<Vec<Target>, SubscribeError> {
        let role = self.participant(id).ok_or(SubscribeError::NotInRoom)?.role;
        match to {
            Subscribe::Mix if self.capabilities.mix => Ok(vec![Target::Mix]),
            Subscribe::Mix => Err(SubscribeError::NoMix),
            Subscribe::All => {
                let others = self.participants.iter().filter(|participant| participant.id != *id);
                let others: Vec<_> = others.map(|participant| participant.id.clone()).collect();
                Ok(others.iter().flat_map(|other| self.publications_of(other, None, true)).collect())
            }
            // Single tracks may be one's own: that is how one sees oneself as others do.
            Subscribe::Participant { participant, tracks: None, .. } if participant == id => {
                Err(SubscribeError::Oneself)
            }
            Subscribe::Participant { participant, effects: false, .. }
                if participant != id && role < self.policy.clean_tracks_for =>
            {
                Err(SubscribeError::OnlyWithEffects)
            }
            Subscribe::Participant { participant, tracks, effects } => {
                let publisher = self.participant(participant).ok_or(SubscribeError::NoSuchParticipant)?;
                if tracks.iter().flatten().any(|track| !publisher.owns_track(track)) {
                    return Err(SubscribeError::NoSuchTrack);
                }
                Ok(self.publications_of(participant, tracks.as_deref(), *effects))
            }
        }
    }

    /// Somebody's live publications, with all their tracks or those of `only`.
    fn publications_of(&self, id: &ParticipantId, only: Option<&[TrackId]>, effects: bool) -> Vec<Target> {
        let publisher = self.participants.iter().find(|participant| participant.id == *id);
        let live = publisher.into_iter().flat_map(|p| &p.publications).filter(|publication| publication.is_live());
        let targets = live.filter_map(|publication| {
            let tracks = publication.tracks.iter().map(|(_, track)| track.id.clone());
            let tracks: Vec<_> = tracks.filter(|track| only.is_none_or(|only| only.contains(track))).collect();
            let (publisher, name) = (id.clone(), publication.media.name.clone());
            (!tracks.is_empty()).then_some(Target::Publication { publisher, name, tracks, effects })
        });
        targets.collect()
    }

    fn within_limit(&mut self, id: &ParticipantId, targets: Vec<Target>) -> Result<Vec<Target>, SubscribeError> {
        let most = self.policy.max_subscriptions;
        let subscriber = self.participant(id).ok_or(SubscribeError::NotInRoom)?;
        let replaced = |s: &&Subscription| targets.iter().any(|target| target.is_replaced(s));
        let kept = subscriber.subscriptions.len() - subscriber.subscriptions.iter().filter(replaced).count();
        if kept + targets.len() > most {
            return Err(SubscribeError::TooMany { most });
        }
        if !subscriber.connecting.take(targets.len(), Instant::now()) {
            return Err(SubscribeError::TooFast);
        }
        Ok(targets)
    }

    /// Watches something over a new connection, in place of an older one if there is one.
    fn replace_subscription(&mut self, id: &ParticipantId, target: Target, name: ConnectionName) {
        let Some(subscriber) = self.participant(id) else { return };
        let old = subscriber.subscriptions.iter().find(|subscription| target.is_replaced(subscription));
        if let Some(old) = old.map(|subscription| subscription.media.name.clone()) {
            self.end_subscription(id, &old, "replaced");
        }
        let media = ConnectionId { participant: id.clone(), name };
        let to = match target {
            Target::Publication { publisher, name, tracks, effects } => {
                self.media.subscribe(media.clone(), tracks, effects);
                Watched::Publications { publisher, names: vec![name] }
            }
            Target::Mix => {
                let tracks = MixTracks { video: self.mix_picture.clone(), audio: TrackId::random() };
                let without = self.participant(id).map(|listener| listener.sounds()).unwrap_or_default();
                self.media.subscribe_to_mix(media.clone(), tracks, without.clone());
                Watched::Mix { without }
            }
        };
        if let Some(subscriber) = self.participant(id) {
            let (stage, candidates) = (SubscriptionStage::Preparing, Candidates::default());
            subscriber.subscriptions.push(Subscription { media, to, stage, candidates });
        }
    }

    /// Whoever hears the mix and began or ceased to publish sound gets one without his own.
    pub(super) fn keep_mixes_without_their_listeners(&mut self) {
        for participant in &mut self.participants {
            let sounds = participant.sounds();
            for Subscription { media, to, .. } in &mut participant.subscriptions {
                if let Watched::Mix { without } = to
                    && *without != sounds
                {
                    without.clone_from(&sounds);
                    self.media.set_mix_without(media, sounds.clone());
                }
            }
        }
    }

    /// A publication appeared: whoever follows its publisher gets a connection for it.
    pub(super) fn offer_to_followers(&mut self, media: &ConnectionId) {
        let most = self.policy.max_subscriptions;
        let publisher = &media.participant;
        let wants = self.participants.iter().filter(|p| p.id != *publisher && p.follows.wants(publisher));
        let followers: Vec<_> =
            wants.map(|p| (p.id.clone(), p.subscriptions.len() < most, p.follows.with_effects(publisher))).collect();
        for (follower, has_room, effects) in followers {
            if !has_room {
                tracing::warn!(room.id = %self.name, participant.id = %follower, "no subscription left for a follower");
                continue;
            }
            let targets = self.publications_of(publisher, None, effects);
            let is_this = |target: &Target| matches!(target, Target::Publication { name, .. } if *name == media.name);
            if let Some(target) = targets.into_iter().find(is_this) {
                self.replace_subscription(&follower, target, ConnectionName::random());
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, id: &ParticipantId, from: &Unsubscribe) -> Result<(), SubscribeError> {
        self.participant(id).ok_or(SubscribeError::NotInRoom)?;
        if let Unsubscribe::Participant(from) = from {
            self.participant(from).ok_or(SubscribeError::NoSuchParticipant)?;
        }
        let subscriber = self.participant(id).ok_or(SubscribeError::NotInRoom)?;
        match from {
            Unsubscribe::All => subscriber.follows.follow_none(),
            Unsubscribe::Participant(from) => subscriber.follows.unfollow(from),
            Unsubscribe::Mix => {}
        }
        let ending = subscriber.subscriptions.iter().filter(|subscription| match from {
            Unsubscribe::All => true,
            Unsubscribe::Participant(from) => subscription.publisher() == Some(from),
            Unsubscribe::Mix => subscription.is_mix(),
        });
        let ending: Vec<_> = ending.map(|subscription| subscription.media.name.clone()).collect();
        for name in ending {
            self.end_subscription(id, &name, "unsubscribed");
        }
        Ok(())
    }

    /// The publication is gone, and with it all connections that show it.
    pub(super) fn end_subscriptions_to(&mut self, publication: &ConnectionName, reason: &'static str) {
        let watching = self.participants.iter().flat_map(|participant| {
            let theirs = participant.subscriptions.iter().filter(|s| s.shows(publication));
            theirs.map(|subscription| subscription.media.clone())
        });
        let watching: Vec<_> = watching.collect();
        for ConnectionId { participant, name } in watching {
            let subscription = self.participant(&participant).and_then(|p| p.subscription(&name));
            if let Some(Subscription { to: Watched::Publications { names, .. }, .. }) = subscription
                && names.len() > 1
            {
                names.retain(|other| other != publication);
                continue;
            }
            self.end_subscription(&participant, &name, reason);
        }
    }

    fn end_subscription(&mut self, id: &ParticipantId, name: &ConnectionName, reason: &'static str) {
        let Some(subscriber) = self.participant(id) else { return };
        let Some(subscription) = subscriber.take_subscription(name, Some(reason)) else { return };
        subscriber.tell(RoomEvent::ConnectionClosed { connection: name.clone(), reason: reason.to_owned() });
        self.media.close(&subscription.media);
        match subscription.stage {
            SubscriptionStage::Answering(answer) => {
                let _ = answer.send(Err(WatchError::NothingPublished));
            }
            stage => stage.cut_short(),
        }
    }

    pub(super) fn close_connection(
        &mut self,
        id: &ParticipantId,
        name: &ConnectionName,
    ) -> Result<(), ConnectionError> {
        let participant = self.participant(id).ok_or(ConnectionError::NotInRoom)?;
        if participant.publication(name).is_some() {
            self.unpublish(id, name);
            return Ok(());
        }
        // He ended it himself and needs no event about it.
        let subscription = participant.take_subscription(name, None).ok_or(ConnectionError::Unknown)?;
        self.media.close(&subscription.media);
        Ok(())
    }

    pub(super) fn answered(
        &mut self,
        id: &ParticipantId,
        name: &ConnectionName,
        sdp: String,
    ) -> Result<(), ConnectionError> {
        let participant = self.participant(id).ok_or(ConnectionError::NotInRoom)?;
        if participant.publication(name).is_some() {
            return Err(ConnectionError::UnexpectedAnswer);
        }
        let subscription = participant.subscription(name).ok_or(ConnectionError::Unknown)?;
        if subscription.offer().is_none() {
            return Err(ConnectionError::UnexpectedAnswer);
        }
        negotiation::check_answer(&sdp)?;
        subscription.stage = SubscriptionStage::Answered;
        let media = subscription.media.clone();
        self.media.answer(&media, sdp);
        Ok(())
    }

    pub(super) fn candidate(
        &mut self,
        id: &ParticipantId,
        name: &ConnectionName,
        candidate: IceCandidate,
    ) -> Result<(), ConnectionError> {
        let most = self.policy.max_candidates;
        let participant = self.participant(id).ok_or(ConnectionError::NotInRoom)?;
        let never_was = !participant.has_ended(name);
        let connection = if let Some(publication) = participant.publication(name) {
            Some((publication.media.clone(), &mut publication.candidates))
        } else {
            participant
                .subscription(name)
                .filter(|subscription| subscription.is_offered())
                .map(|subscription| (subscription.media.clone(), &mut subscription.candidates))
        };
        let Some((media, candidates)) = connection else {
            return Err(if never_was { ConnectionError::CandidateBeforeOffer } else { ConnectionError::Unknown });
        };
        negotiation::check_candidate(&candidate.candidate)?;
        candidates.receive(most)?;
        self.media.candidate(&media, candidate);
        Ok(())
    }

    pub(super) fn on_offered(&mut self, media: &ConnectionId, sdp: String, tracks: &[(String, TrackId)]) {
        let is_mix =
            self.participant(&media.participant).and_then(|p| p.subscription(&media.name)).is_some_and(|s| s.is_mix());
        let offered: Vec<_> = tracks
            .iter()
            .filter_map(|(mid, id)| {
                let track = self.participants.iter().flat_map(|p| p.tracks()).find(|track| track.id == *id);
                let kind = if *id == self.mix_picture { Kind::Video } else { Kind::Audio };
                let mixed = is_mix.then_some((kind, Source::Other));
                let (kind, source) = track.map(|track| (track.kind, track.source)).or(mixed)?;
                Some(OfferedTrack { mid: mid.clone(), id: id.clone(), kind, source })
            })
            .collect();
        let Some(subscriber) = self.participant(&media.participant) else { return };
        let Some(subscription) = subscriber.subscription(&media.name) else { return };
        let is_awaited = matches!(subscription.stage, SubscriptionStage::Preparing | SubscriptionStage::Reoffering);
        if !is_awaited {
            return;
        }
        subscription.stage = SubscriptionStage::Offered { sdp, tracks: offered };
        let events: Vec<_> =
            subscription.offer().into_iter().chain(subscription.candidates.ours(&media.name)).collect();
        events.into_iter().for_each(|event| subscriber.tell(event));
    }

    /// A candidate of ours. It waits until the client has a description to add it to.
    pub(super) fn on_candidate(&mut self, media: &ConnectionId, candidate: IceCandidate) {
        let Some(participant) = self.participant(&media.participant) else { return };
        let name = if let Some(publication) = participant.publications.iter_mut().find(|p| p.media == *media) {
            publication.candidates.keep(candidate.clone());
            publication.is_live().then(|| publication.name.clone())
        } else if let Some(subscription) = participant.subscription(&media.name) {
            subscription.candidates.keep(candidate.clone());
            subscription.is_offered().then(|| media.name.clone())
        } else {
            None
        };
        if let Some(connection) = name {
            participant.tell(RoomEvent::Candidate { connection, candidate });
        }
    }

    pub(super) fn on_connected(&mut self, media: &ConnectionId) {
        let connection = if let Some(publication) = self.publication_by_media(media) {
            publication.candidates.connected();
            publication.name.clone()
        } else if let Some(subscription) =
            self.participant(&media.participant).and_then(|p| p.subscription(&media.name))
        {
            subscription.candidates.connected();
            media.name.clone()
        } else {
            return;
        };
        if let Some(participant) = self.participant(&media.participant) {
            participant.tell(RoomEvent::Connected { connection });
        }
    }

    pub(super) fn on_connection_ended(&mut self, media: &ConnectionId, error: MediaError) {
        if let Some(name) = self.publication_by_media(media).map(|publication| publication.name.clone()) {
            self.publication_failed(media, &name, error);
            return;
        }
        let reason = why_closed(&error);
        let Some(subscriber) = self.participant(&media.participant) else { return };
        if let Some(subscription) = subscriber.take_subscription(&media.name, Some(reason)) {
            subscriber.tell(RoomEvent::ConnectionClosed { connection: media.name.clone(), reason: reason.to_owned() });
            tracing::info!(room.id = %self.name, connection.id = %media, %error, "subscription ended: {error}");
            match subscription.stage {
                SubscriptionStage::Answering(answer) => {
                    let _ = answer.send(Err(WatchError::Media(error)));
                }
                stage => stage.cut_short(),
            }
        }
    }
}
