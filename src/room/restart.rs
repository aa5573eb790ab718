//! Other paths for a connection that stands (ICE restart): its session, tracks and numbers stay.

use tokio::time::Instant;

use super::{
    actor::Room,
    command::Answer,
    error::ConnectionError,
    id::{ConnectionId, ConnectionName, ParticipantId},
    model::Restarted,
    participant::{Publication, PublicationStage, Subscription, SubscriptionStage},
};
use crate::media::{Edge, IceCredentials, description};

impl PublicationStage {
    /// The connection has ended: who waits for its restart is told.
    pub(super) fn cut_short(self) {
        if let Self::Restarting(answer) = self {
            let _ = answer.send(Err(ConnectionError::Unknown));
        }
    }
}

impl SubscriptionStage {
    /// As [`PublicationStage::cut_short`].
    pub(super) fn cut_short(self) {
        if let Self::Restarting(answer) = self {
            let _ = answer.send(Err(ConnectionError::Unknown));
        }
    }
}

impl Room {
    /// The client asks; a new offer of the connection follows.
    pub(super) fn restart(&mut self, id: &ParticipantId, name: &ConnectionName) -> Result<(), ConnectionError> {
        let subscription = self.restartable(id, name)?;
        subscription.stage = SubscriptionStage::Reoffering;
        let media = subscription.media.clone();
        self.media.restart_ice(&media, None);
        Ok(())
    }

    /// The client, whose offer it was, has new credentials. `watches`: it may be something that he watches.
    pub(super) fn restart_offered(
        &mut self,
        id: &ParticipantId,
        name: &ConnectionName,
        theirs: IceCredentials,
        watches: bool,
        answer: Answer<Restarted, ConnectionError>,
    ) {
        let begun = match self.restartable_publication(id, name) {
            Ok(publication) => {
                publication.stage = PublicationStage::Restarting(answer);
                publication.media.clone()
            }
            Err(ConnectionError::Unknown) if watches => match self.restartable(id, name) {
                Ok(subscription) => {
                    subscription.stage = SubscriptionStage::Restarting(answer);
                    subscription.media.clone()
                }
                Err(error) => return drop(answer.send(Err(error))),
            },
            Err(error) => return drop(answer.send(Err(error))),
        };
        self.media.restart_ice(&begun, Some(theirs));
    }

    /// A negotiated subscription whose edge can do it.
    fn restartable(&mut self, id: &ParticipantId, name: &ConnectionName) -> Result<&mut Subscription, ConnectionError> {
        let participant = self.participants.iter_mut().find(|participant| participant.id == *id);
        let participant = participant.ok_or(ConnectionError::NotInRoom)?;
        // Of what he publishes he is to make the offer.
        if participant.publication(name).is_some() {
            return Err(ConnectionError::NoRestart);
        }
        let subscription = participant.subscriptions.iter_mut().find(|subscription| subscription.media.name == *name);
        let subscription = subscription.ok_or(ConnectionError::Unknown)?;
        let can = self.media.edge(&subscription.media).is_some_and(Edge::restarts_ice);
        if !can || !matches!(subscription.stage, SubscriptionStage::Answered) {
            return Err(ConnectionError::NoRestart);
        }
        if !participant.connecting.take(1, Instant::now()) {
            return Err(ConnectionError::TooFast);
        }
        subscription.candidates.restart();
        Ok(subscription)
    }

    /// A publication that is there, and whose edge can do it.
    fn restartable_publication(
        &mut self,
        id: &ParticipantId,
        name: &ConnectionName,
    ) -> Result<&mut Publication, ConnectionError> {
        let participant = self.participants.iter_mut().find(|participant| participant.id == *id);
        let participant = participant.ok_or(ConnectionError::NotInRoom)?;
        let publication = participant.publications.iter_mut().find(|publication| publication.name == *name);
        let publication = publication.ok_or(ConnectionError::Unknown)?;
        let can = self.media.edge(&publication.media).is_some_and(Edge::restarts_ice);
        if !can || !matches!(publication.stage, PublicationStage::Live) {
            return Err(ConnectionError::NoRestart);
        }
        if !participant.connecting.take(1, Instant::now()) {
            return Err(ConnectionError::TooFast);
        }
        publication.candidates.restart();
        Ok(publication)
    }

    /// The engine has taken the client's new credentials.
    pub(super) fn on_restarted(&mut self, media: &ConnectionId, ours: IceCredentials, candidates: Vec<String>) {
        if let Some(publication) = self.publication_by_media(media) {
            if matches!(publication.stage, PublicationStage::Restarting(_))
                && let PublicationStage::Restarting(answer) =
                    std::mem::replace(&mut publication.stage, PublicationStage::Live)
            {
                let sdp = Some(description::with_credentials(&publication.answer, &ours));
                let _ = answer.send(Ok(Restarted { ours, candidates, sdp }));
            }
            return;
        }
        let Some(subscriber) = self.participant(&media.participant) else { return };
        let Some(subscription) = subscriber.subscription(&media.name) else { return };
        if !matches!(subscription.stage, SubscriptionStage::Restarting(_)) {
            return;
        }
        let stage = std::mem::replace(&mut subscription.stage, SubscriptionStage::Answered);
        if let SubscriptionStage::Restarting(answer) = stage {
            let _ = answer.send(Ok(Restarted { ours, candidates, sdp: None }));
        }
    }
}
