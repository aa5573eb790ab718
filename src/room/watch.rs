//! What is watched over a connection that the subscriber offers: he is answered once, and it ends with
//! what it shows.

use tokio::time::Instant;

use super::{
    actor::Room,
    command::Answer,
    error::WatchError,
    id::{ConnectionId, ConnectionName, ParticipantId, TrackId},
    model::{Watch, Watching},
    participant::{Candidates, Subscription, SubscriptionStage, Watched},
};
use crate::media::{CodecName, MixListener, MixTracks, PublishedMedia, SubscriberOffer, negotiation};

/// What an offer is to be filled with.
struct Choice {
    to: Watched,
    tracks: Vec<(TrackId, CodecName)>,
    mix: Option<MixListener>,
}

impl Room {
    pub(super) fn watch(
        &mut self,
        id: &ParticipantId,
        what: &Watch,
        effects: bool,
        sdp: String,
        answer: Answer<Watching, WatchError>,
    ) {
        let (to, offer) = match self.filled(id, what, effects, sdp) {
            Ok(filled) => filled,
            Err(error) => {
                let _ = answer.send(Err(error));
                return;
            }
        };
        let media = ConnectionId { participant: id.clone(), name: ConnectionName::random() };
        let Some(subscriber) = self.participant(id) else { return };
        let (stage, candidates) = (SubscriptionStage::Answering(answer), Candidates::default());
        subscriber.subscriptions.push(Subscription { media: media.clone(), to, stage, candidates });
        self.media.subscribe_with_offer(media, offer);
    }

    fn filled(
        &mut self,
        id: &ParticipantId,
        what: &Watch,
        effects: bool,
        sdp: String,
    ) -> Result<(Watched, SubscriberOffer), WatchError> {
        let most = self.policy.max_subscriptions;
        let subscriber = self.participant(id).ok_or(WatchError::NotInRoom)?;
        if subscriber.subscriptions.len() >= most {
            return Err(WatchError::TooMany { most });
        }
        let Choice { mut to, tracks, mix } = self.choose(id, what)?;
        let media = negotiation::accept_subscriber(&sdp, tracks)?;
        let media: Vec<_> = media.into_iter().map(|(track, section)| PublishedMedia { track, section }).collect();
        if let Watched::Publications { publisher, names } = &mut to {
            // The offer may have had no section for all of them.
            let publisher = self.participants.iter().find(|one| one.id == *publisher);
            let publications = publisher.into_iter().flat_map(|publisher| &publisher.publications);
            let is_sent = |track: &TrackId| media.iter().any(|sent| sent.track == *track);
            let sent = publications.filter(|one| one.tracks.iter().any(|(_, track)| is_sent(&track.id)));
            let sent: Vec<_> = sent.map(|publication| publication.media.name.clone()).collect();
            names.retain(|name| sent.contains(name));
        }
        let subscriber = self.participant(id).ok_or(WatchError::NotInRoom)?;
        if !subscriber.connecting.take(1, Instant::now()) {
            return Err(WatchError::TooFast);
        }
        Ok((to, SubscriberOffer { sdp, media, mix, effects }))
    }

    fn choose(&self, id: &ParticipantId, what: &Watch) -> Result<Choice, WatchError> {
        let publications = self.participants.iter().filter(|one| one.id != *id).flat_map(|publisher| {
            let live = publisher.publications.iter().filter(|publication| publication.is_live());
            live.map(|publication| (publisher.id.clone(), publication))
        });
        let mut publications = publications.peekable();
        match what {
            Watch::FirstPublisher => {
                let first = publications.peek().ok_or(WatchError::NothingPublished)?.0.clone();
                let his: Vec<_> = publications.take_while(|(publisher, _)| *publisher == first).collect();
                let names = his.iter().map(|(_, publication)| publication.media.name.clone()).collect();
                let tracks = his.iter().flat_map(|(_, publication)| &publication.tracks);
                let tracks = tracks.map(|(_, track)| (track.id.clone(), track.codec)).collect();
                Ok(Choice { to: Watched::Publications { publisher: first, names }, tracks, mix: None })
            }
            Watch::Track(wanted) => {
                let found = publications.find_map(|(publisher, publication)| {
                    let (_, track) = publication.tracks.iter().find(|(_, track)| track.id == *wanted)?;
                    let names = vec![publication.media.name.clone()];
                    let tracks = vec![(track.id.clone(), track.codec)];
                    Some(Choice { to: Watched::Publications { publisher, names }, tracks, mix: None })
                });
                found.ok_or(WatchError::NoSuchTrack)
            }
            Watch::Mix if !self.capabilities.mix => Err(WatchError::NoMix),
            Watch::Mix => {
                let tracks = MixTracks { video: self.mix_picture.clone(), audio: TrackId::random() };
                let listener = self.participants.iter().find(|one| one.id == *id);
                let without = listener.map(|listener| listener.sounds()).unwrap_or_default();
                let sent = vec![
                    (tracks.video.clone(), MixTracks::VIDEO_CODEC),
                    (tracks.audio.clone(), MixTracks::AUDIO_CODEC),
                ];
                let mix = Some(MixListener { tracks, without: without.clone() });
                Ok(Choice { to: Watched::Mix { without }, tracks: sent, mix })
            }
        }
    }

    /// The engine's answer to a subscriber's offer.
    pub(super) fn on_watch_answered(&mut self, media: &ConnectionId, sdp: String) {
        let Some(subscriber) = self.participant(&media.participant) else { return };
        let Some(subscription) = subscriber.subscription(&media.name) else { return };
        if !matches!(subscription.stage, SubscriptionStage::Answering(_)) {
            return;
        }
        let stage = std::mem::replace(&mut subscription.stage, SubscriptionStage::Answered);
        let candidates = subscription.candidates.ours(&media.name);
        if let SubscriptionStage::Answering(answer) = stage {
            let _ = answer.send(Ok(Watching { connection: media.name.clone(), sdp }));
        }
        candidates.into_iter().for_each(|candidate| subscriber.tell(candidate));
    }
}
