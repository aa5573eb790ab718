//! Other paths for a connection that stands (ICE restart): its session, tracks and numbers stay.

use tokio::time::Instant;

use super::{
    actor::Room,
    command::Answer,
    error::ConnectionError,
    id::{ConnectionId, ConnectionName, ParticipantId},
    model::Restarted,
    participant::{Subscription, SubscriptionStage},
};
use crate::media::{Edge, IceCredentials};

impl Room {
    /// The client asks; a new offer of the connection follows.
    pub(super) fn restart(&mut self, id: &ParticipantId, name: &ConnectionName) -> Result<(), ConnectionError> {
        let subscription = self.restartable(id, name)?;
        subscription.stage = SubscriptionStage::Reoffering;
        let media = subscription.media.clone();
        self.media.restart_ice(&media, None);
        Ok(())
    }

    /// The client, whose offer it was, has new credentials.
    pub(super) fn restart_watched(
        &mut self,
        id: &ParticipantId,
        name: &ConnectionName,
        theirs: IceCredentials,
        answer: Answer<Restarted, ConnectionError>,
    ) {
        let subscription = match self.restartable(id, name) {
            Ok(subscription) => subscription,
            Err(error) => {
                let _ = answer.send(Err(error));
                return;
            }
        };
        subscription.stage = SubscriptionStage::Restarting(answer);
        let media = subscription.media.clone();
        self.media.restart_ice(&media, Some(theirs));
    }

    /// A negotiated subscription whose edge can do it.
    fn restartable(&mut self, id: &ParticipantId, name: &ConnectionName) -> Result<&mut Subscription, ConnectionError> {
        let participant = self.participants.iter_mut().find(|participant| participant.id == *id);
        let participant = participant.ok_or(ConnectionError::NotInRoom)?;
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

    /// The engine has taken the client's new credentials.
    pub(super) fn on_restarted(&mut self, media: &ConnectionId, ours: IceCredentials, candidates: Vec<String>) {
        let Some(subscriber) = self.participant(&media.participant) else { return };
        let Some(subscription) = subscriber.subscription(&media.name) else { return };
        if !matches!(subscription.stage, SubscriptionStage::Restarting(_)) {
            return;
        }
        let stage = std::mem::replace(&mut subscription.stage, SubscriptionStage::Answered);
        if let SubscriptionStage::Restarting(answer) = stage {
            let _ = answer.send(Ok(Restarted { ours, candidates }));
        }
    }
}
