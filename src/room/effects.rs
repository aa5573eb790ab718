//! Effects: who may put them where, and what a room may spend on them.

use std::collections::HashSet;

use tokio::time::Instant;

use super::{
    actor::Room,
    command::{Caller, Preview},
    error::{ChangeError, PreviewError},
    event::RoomEvent,
    id::{ParticipantId, TrackId},
    model::{EffectsOf, Role, Source, TrackView},
    participant::{Participant, Subscription},
};
use crate::{
    effect::{Applied, Effect, EffectError, EffectRequest, of_kind, resolve},
    media::{EffectCost, EffectReport, Kind, MediaError},
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
        let whose = match of {
            EffectsOf::Mix => None,
            EffectsOf::Participant(id) => Some(id.clone()),
            EffectsOf::Track(track) => Some(self.owner_of(track).ok_or(ChangeError::NoSuchTrack)?.id.clone()),
        };
        if !may_put(caller, role, whose.as_ref()) {
            return Err(ChangeError::NotAllowed);
        }
        if whose.as_ref().is_some_and(|id| self.participant(id).is_none()) {
            return Err(ChangeError::NoSuchParticipant);
        }
        let chain = resolve(chain, &self.capabilities.effects, &self.pictures)?;
        if let EffectsOf::Track(track) = of {
            self.check_kind(track, &chain)?;
        }
        self.check_effects_budget(of, &chain)?;
        match of {
            EffectsOf::Mix => self.set_mix_effects(chain.clone()),
            EffectsOf::Participant(id) => self.set_participant_effects(id, chain.clone()),
            EffectsOf::Track(track) => self.set_track_effects(track, chain.clone()),
        }
        Ok(chain)
    }

    /// How a track would look with an effect over what it has: for who may put it there.
    pub(super) fn preview(&mut self, caller: &Caller, track: &TrackId, name: &str) -> Result<Preview, PreviewError> {
        let role = self.role_of(caller).ok_or(PreviewError::NotInRoom)?;
        let owner = self.owner_of(track).ok_or(PreviewError::NoSuchTrack)?;
        if !may_put(caller, role, Some(&owner.id)) {
            return Err(PreviewError::NotAllowed);
        }
        if !owner.tracks().any(|view| view.id == *track && view.kind == Kind::Video && !view.muted) {
            return Err(PreviewError::NoPicture);
        }
        let shown = self.capabilities.effects.iter().find(|effect| effect.name == name);
        let params = shown.map(|effect| effect.shown.clone()).unwrap_or_default();
        let request = EffectRequest { name: name.to_owned(), params };
        let chain = resolve(&[request], &self.capabilities.effects, &self.pictures)?;
        self.check_kind(track, &chain)?;
        let is_soon = !self.preview_rate.take(1, Instant::now());
        let made = if is_soon { None } else { self.media.preview(track, chain) };
        made.ok_or(PreviewError::TooFast)
    }

    fn owner_of(&self, track: &TrackId) -> Option<&Participant> {
        self.participants.iter().find(|participant| participant.owns_track(track))
    }

    fn check_kind(&self, id: &TrackId, chain: &[Applied]) -> Result<(), EffectError> {
        let kind = self.owner_of(id).and_then(|owner| owner.tracks().find(|track| track.id == *id)).map(|it| it.kind);
        let fitting = kind.map(|kind| of_kind(chain, kind, &self.capabilities.effects)).unwrap_or_default();
        match (chain.iter().find(|applied| !fitting.contains(applied)), kind) {
            (Some(other), Some(kind)) => Err(EffectError::OtherKind { effect: other.name.clone(), kind }),
            _ => Ok(()),
        }
    }

    /// What was over the budget before is let be: taking effects off always goes.
    fn check_effects_budget(&self, of: &EffectsOf, chain: &[Applied]) -> Result<(), EffectError> {
        let catalogue = &self.capabilities.effects;
        let of_participant = |participant: &Participant| {
            let is_his = matches!(of, EffectsOf::Participant(id) if *id == participant.id);
            let effects = if is_his { chain } else { &participant.effects };
            let of_track = |track: &TrackView| match of {
                EffectsOf::Track(id) if *id == track.id => self.points(chain),
                // His chain takes the place of what his tracks had, but for screens.
                _ if is_his && track.source != Source::Screen => self.points(&of_kind(chain, track.kind, catalogue)),
                _ => self.points(&chain_of(track, effects, catalogue)),
            };
            let (screens, others): (Vec<_>, Vec<_>) =
                participant.tracks().partition(|track| track.source == Source::Screen);
            let sum = |tracks: Vec<&TrackView>| tracks.into_iter().map(of_track).sum::<u32>();
            // A chain runs once for each track. Who publishes nothing yet is going to.
            sum(screens) + sum(others).max(self.points(effects))
        };
        let people: u32 = self.participants.iter().map(of_participant).sum();
        let mix = self.mix_points(if *of == EffectsOf::Mix { chain } else { &self.effects });
        let (would, most) = (people + mix, self.policy.max_effect_points);
        if self.points(chain) > 0 && would > most {
            return Err(EffectError::OverBudget { would, most });
        }
        Ok(())
    }

    /// A chain runs once in each mix that is made now, and at least in one that is going to be.
    fn mix_points(&self, chain: &[Applied]) -> u32 {
        let subscriptions = self.participants.iter().flat_map(|participant| &participant.subscriptions);
        let listeners: HashSet<&[TrackId]> = subscriptions.filter_map(Subscription::mix_without).collect();
        let seen = u32::from(!listeners.is_empty());
        let (pictures, sounds) = self.recordings.mixes_with_effects();
        let runs = |kind, count: u32| count.max(1) * self.points(&of_kind(chain, kind, &self.capabilities.effects));
        runs(Kind::Video, pictures + seen) + runs(Kind::Audio, sounds + listeners.len() as u32)
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

    /// Its tracks but for screens have no effects of their own any more.
    fn set_participant_effects(&mut self, id: &ParticipantId, chain: Vec<Applied>) {
        let Some(participant) = self.participant(id) else { return };
        let has_own = |track: &TrackView| track.source != Source::Screen && !track.effects.is_empty();
        if participant.effects == chain && !participant.tracks().any(has_own) {
            return;
        }
        participant.effects = chain;
        participant.tracks_mut().filter(|track| has_own(track)).for_each(|track| track.effects.clear());
        self.put_effects_on(id);
        self.tell_updated(id);
    }

    fn set_track_effects(&mut self, id: &TrackId, chain: Vec<Applied>) {
        let owner = self.participants.iter_mut().find(|participant| participant.owns_track(id));
        let Some(owner) = owner else { return };
        let participant = owner.id.clone();
        let of_participant = owner.effects.clone();
        let track = owner.tracks_mut().find(|track| track.id == *id && track.effects != chain);
        let Some(track) = track else { return };
        track.effects = chain;
        let track = track.clone();
        self.media.set_effects(id, chain_of(&track, &of_participant, &self.capabilities.effects));
        self.tell_all(RoomEvent::TrackUpdated { participant, track });
    }

    /// Tells the engine of a participant's effects, for all that he publishes but screens.
    pub(super) fn put_effects_on(&mut self, id: &ParticipantId) {
        let Some(participant) = self.participants.iter().find(|participant| participant.id == *id) else { return };
        for track in participant.tracks().filter(|track| track.source != Source::Screen) {
            self.media.set_effects(&track.id, chain_of(track, &participant.effects, &self.capabilities.effects));
        }
    }

    /// What each of these effects takes of a processor; `None`: whose they are to be is not there.
    pub(super) fn effect_costs(&self, of: &EffectsOf) -> Option<Vec<EffectCost>> {
        let id = match of {
            EffectsOf::Mix => return Some(self.media.mix_effect_costs()),
            EffectsOf::Track(id) => return self.owner_of(id).map(|_| self.media.effect_costs(id)),
            EffectsOf::Participant(id) => id,
        };
        let participant = self.participants.iter().find(|participant| participant.id == *id)?;
        let tracks = participant.tracks().filter(|track| track.source != Source::Screen);
        Some(tracks.flat_map(|track| self.media.effect_costs(&track.id)).collect())
    }

    /// Told to everybody, if whose track it is is still known, or the mix still has effects.
    pub(super) fn on_effect_reported(&mut self, track: Option<TrackId>, report: EffectReport) {
        let participant = match &track {
            Some(track) => {
                let Some(owner) = self.owner_of(track) else { return };
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
        let owner = self.participants.iter_mut().find(|participant| participant.owns_track(track));
        let Some(owner) = owner else { return };
        let (id, of_participant) = (owner.id.clone(), owner.effects.clone());
        let Some(view) = owner.tracks_mut().find(|published| published.id == *track) else { return };
        if chain.is_empty() || chain_of(view, &of_participant, &self.capabilities.effects) != chain {
            return;
        }
        let was_own = !view.effects.is_empty();
        view.effects.clear();
        let view = view.clone();
        tracing::warn!(room.id = %self.name, participant.id = %id, %error, "effects failed: {error}");
        if !was_own {
            owner.effects.clear();
        }
        self.put_effects_on(&id);
        self.tell_all(RoomEvent::EffectsFailed { participant: Some(id.clone()), reason: error.to_string() });
        if was_own {
            self.tell_all(RoomEvent::TrackUpdated { participant: id, track: view });
        } else {
            self.tell_updated(&id);
        }
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

/// Moderators put effects on everybody, and who publishes on himself.
fn may_put(caller: &Caller, role: Role, whose: Option<&ParticipantId>) -> bool {
    let is_own = matches!((caller, whose), (Caller::Participant(me), Some(id)) if me == id);
    role >= Role::Moderator || (is_own && role >= Role::Publisher)
}

/// What a track is to have: its own effects, or those of its participant that go on it.
fn chain_of(track: &TrackView, of_participant: &[Applied], catalogue: &[Effect]) -> Vec<Applied> {
    match (track.effects.is_empty(), track.source) {
        (false, _) => track.effects.clone(),
        (true, Source::Screen) => Vec::new(),
        (true, _) => of_kind(of_participant, track.kind, catalogue),
    }
}
