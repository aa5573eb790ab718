//! Effects: who may put them where, and what a room may spend on them.

use super::{
    actor::Room,
    command::Caller,
    error::ChangeError,
    event::RoomEvent,
    id::{ParticipantId, TrackId},
    model::{EffectsOf, Role, Source},
};
use crate::{
    effect::{Applied, EffectError, EffectRequest, of_kind, resolve},
    media::{EffectCost, EffectReport, MediaError},
};

impl Room {
    /// Replaces a chain; an empty one takes all effects off.
    pub(super) fn set_effects(
        &mut self,
        caller: &Caller,
        of: &EffectsOf,
        chain: &[EffectRequest],
    ) -> Result<Vec<Applied>, ChangeError> {
        let role = self.role_of(caller).ok_or(ChangeError::NotInRoom)?;
        let is_own = matches!((caller, of), (Caller::Participant(me), EffectsOf::Participant(id)) if me == id);
        if role < Role::Moderator && !(is_own && role >= Role::Publisher) {
            return Err(ChangeError::NotAllowed);
        }
        if let EffectsOf::Participant(id) = of
            && self.participant(id).is_none()
        {
            return Err(ChangeError::NoSuchParticipant);
        }
        let chain = resolve(chain, &self.capabilities.effects, &self.pictures)?;
        self.check_effects_budget(of, &chain)?;
        match of {
            EffectsOf::Mix => self.set_mix_effects(chain.clone()),
            EffectsOf::Participant(id) => self.set_participant_effects(id, chain.clone()),
        }
        Ok(chain)
    }

    /// What was over the budget before is let be: taking effects off always goes.
    fn check_effects_budget(&self, of: &EffectsOf, chain: &[Applied]) -> Result<(), EffectError> {
        let others = self.participants.iter().filter(|p| *of != EffectsOf::Participant(p.id.clone()));
        let others: u32 = others.map(|participant| self.points(&participant.effects)).sum();
        let mix = if *of == EffectsOf::Mix { 0 } else { self.points(&self.effects) };
        let own = self.points(chain);
        let (would, most) = (own + others + mix, self.policy.max_effect_points);
        if own > 0 && would > most {
            return Err(EffectError::OverBudget { would, most });
        }
        Ok(())
    }

    fn points(&self, chain: &[Applied]) -> u32 {
        let catalogue = &self.capabilities.effects;
        let found = |applied: &Applied| catalogue.iter().find(|effect| effect.name == applied.name);
        chain.iter().filter_map(found).map(|effect| effect.cost.points()).sum()
    }

    fn set_mix_effects(&mut self, chain: Vec<Applied>) {
        if self.effects != chain {
            self.effects = chain;
            self.tell_all(RoomEvent::Effects { effects: self.effects.clone() });
        }
    }

    fn set_participant_effects(&mut self, id: &ParticipantId, chain: Vec<Applied>) {
        let Some(participant) = self.participant(id).filter(|participant| participant.effects != chain) else { return };
        participant.effects = chain;
        self.put_effects_on(id);
        self.tell_updated(id);
    }

    /// Tells the engine of a participant's effects, for all that he publishes. A shared screen has none.
    pub(super) fn put_effects_on(&mut self, id: &ParticipantId) {
        let Some(participant) = self.participants.iter().find(|participant| participant.id == *id) else { return };
        for track in participant.tracks().filter(|track| track.source != Source::Screen) {
            let chain = of_kind(&participant.effects, track.kind, &self.capabilities.effects);
            self.media.set_effects(&track.id, chain);
        }
    }

    /// What each of these effects takes of a processor; `None`: whose they are to be is not there.
    pub(super) fn effect_costs(&self, of: &EffectsOf) -> Option<Vec<EffectCost>> {
        let id = match of {
            EffectsOf::Mix => return Some(self.media.mix_effect_costs()),
            EffectsOf::Participant(id) => id,
        };
        let participant = self.participants.iter().find(|participant| participant.id == *id)?;
        Some(participant.tracks().flat_map(|track| self.media.effect_costs(&track.id)).collect())
    }

    /// Told to everybody, if whose track it is is still known, or the mix still has effects.
    pub(super) fn on_effect_reported(&mut self, track: Option<TrackId>, report: EffectReport) {
        let participant = match &track {
            Some(track) => {
                let owner = self.participants.iter().find(|participant| participant.owns_track(track));
                let Some(owner) = owner else { return };
                Some(owner.id.clone())
            }
            None if self.effects.is_empty() => return,
            None => None,
        };
        self.tell_all(match report {
            EffectReport::Barcode { format, text } => RoomEvent::Barcode { participant, track, format, text },
            EffectReport::Motion { moving, amount } => RoomEvent::Motion { participant, track, moving, amount },
            EffectReport::Faces(faces) => RoomEvent::Face { participant, track, faces },
            EffectReport::Level { rms_db, peak_db } => RoomEvent::Level { participant, track, rms_db, peak_db },
        });
    }

    /// The engine has the track as it was published; so have the books. Word of effects that were replaced
    /// meanwhile says nothing of those that stand.
    pub(super) fn on_effects_failed(&mut self, track: &TrackId, chain: &[Applied], error: &MediaError) {
        let Some(owner) = self.participants.iter_mut().find(|participant| participant.owns_track(track)) else {
            return;
        };
        let kind = owner.tracks().find(|published| published.id == *track).map(|published| published.kind);
        let stands = kind.is_some_and(|kind| of_kind(&owner.effects, kind, &self.capabilities.effects) == chain);
        if chain.is_empty() || !stands {
            return;
        }
        owner.effects.clear();
        let id = owner.id.clone();
        tracing::warn!(room.id = %self.name, participant.id = %id, %error, "effects failed: {error}");
        self.put_effects_on(&id);
        self.tell_all(RoomEvent::EffectsFailed { participant: Some(id.clone()), reason: error.to_string() });
        self.tell_updated(&id);
    }

    /// Each mix that runs tells it; the first is told on.
    pub(super) fn on_mix_effects_failed(&mut self, chain: &[Applied], error: &MediaError) {
        if chain.is_empty() || self.effects != chain {
            return;
        }
        tracing::warn!(room.id = %self.name, %error, "effects on the mix failed: {error}");
        self.tell_all(RoomEvent::EffectsFailed { participant: None, reason: error.to_string() });
        self.set_mix_effects(Vec::new());
    }
}
