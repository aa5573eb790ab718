//! Who has the floor: the one participant whom a layout shows large. Pure: time is passed in.
//!
//! Somebody who speaks gets the floor after 1.5 s in which its holder is silent, so that a cough or
//! a "yes" moves no pictures. Whoever talks into somebody else's speech gets it after 5 s. Nobody
//! loses it by being silent.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{event::SpeakingLevel, id::ParticipantId};

/// Speech for so long, while the holder is silent, takes the floor.
pub const SWITCH_AFTER: Duration = Duration::from_millis(1500);
/// Speech for so long takes it from somebody who speaks as well.
pub const INTERRUPT_AFTER: Duration = Duration::from_secs(5);

/// The floor of one room.
#[derive(Default)]
pub struct Floor {
    holder: Option<ParticipantId>,
    voices: HashMap<ParticipantId, Voice>,
    /// Since when the holder is silent.
    silent_since: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Voice {
    since: Instant,
    level_db: i8,
}

impl Floor {
    /// Takes what the speech detector reports.
    pub fn observe(&mut self, levels: &[SpeakingLevel], now: Instant) {
        for SpeakingLevel { participant, level_db, speaking } in levels {
            if *speaking {
                let voice = self.voices.entry(participant.clone()).or_insert(Voice { since: now, level_db: *level_db });
                voice.level_db = *level_db;
            } else {
                self.voices.remove(participant);
            }
        }
        self.advance(now);
    }

    /// He left. The floor is free, unless somebody speaks.
    pub fn forget(&mut self, participant: &ParticipantId, now: Instant) {
        self.voices.remove(participant);
        if self.holder.as_ref() == Some(participant) {
            self.holder = None;
        }
        self.advance(now);
    }

    /// Time has passed.
    pub fn advance(&mut self, now: Instant) {
        if self.holder.is_none() {
            self.holder = self.first(|_| true);
        }
        let speaks = self.holder.as_ref().is_some_and(|holder| self.voices.contains_key(holder));
        self.silent_since = if speaks { None } else { Some(self.silent_since.unwrap_or(now)) };
        if let Some(next) = self.first(|voice| now >= self.takes_over_at(voice)) {
            self.holder = Some(next);
            self.silent_since = None;
        }
    }

    /// When [`Self::advance`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.challengers().map(|(_, voice)| self.takes_over_at(voice)).min()
    }

    /// Who has the floor.
    pub fn holder(&self) -> Option<&ParticipantId> {
        self.holder.as_ref()
    }

    /// Who speaks now, and how loud in dBov; in the order of their identifiers.
    pub fn voices(&self) -> Vec<(ParticipantId, i8)> {
        let mut voices: Vec<_> = self.voices.iter().map(|(id, voice)| (id.clone(), voice.level_db)).collect();
        voices.sort();
        voices
    }

    fn takes_over_at(&self, voice: &Voice) -> Instant {
        match self.silent_since {
            Some(silent) => silent.max(voice.since) + SWITCH_AFTER,
            None => voice.since + INTERRUPT_AFTER,
        }
    }

    fn challengers(&self) -> impl Iterator<Item = (&ParticipantId, &Voice)> {
        self.voices.iter().filter(|(id, voice)| self.holder.as_ref() != Some(*id) && !self.is_older(voice))
    }

    /// It spoke before the holder did, and was passed over: it does not take the floor back from him
    /// while he speaks.
    fn is_older(&self, voice: &Voice) -> bool {
        let holder = self.holder.as_ref().and_then(|holder| self.voices.get(holder));
        holder.is_some_and(|holder| voice.since <= holder.since)
    }

    /// Of those, who has spoken longest.
    fn first(&self, wanted: impl Fn(&Voice) -> bool) -> Option<ParticipantId> {
        let found = self.challengers().filter(|(_, voice)| wanted(voice));
        found.min_by_key(|(id, voice)| (voice.since, (*id).clone())).map(|(id, _)| id.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Debate {
        floor: Floor,
        start: Instant,
        people: [ParticipantId; 2],
    }

    impl Debate {
        fn new() -> Self {
            let people = [(); 2].map(|()| ParticipantId::random());
            Self { floor: Floor::default(), start: Instant::now(), people }
        }

        fn say(&mut self, ms: u64, who: usize, speaking: bool) {
            let level = SpeakingLevel { participant: self.people[who].clone(), level_db: -20, speaking };
            self.floor.observe(&[level], self.start + Duration::from_millis(ms));
        }

        fn holder(&mut self, ms: u64) -> Option<usize> {
            self.floor.advance(self.start + Duration::from_millis(ms));
            self.people.iter().position(|person| self.floor.holder() == Some(person))
        }
    }

    #[test]
    fn the_first_word_takes_a_free_floor_and_silence_keeps_it() {
        let mut debate = Debate::new();
        assert_eq!(debate.holder(0), None);
        debate.say(100, 0, true);
        assert_eq!(debate.holder(100), Some(0));
        debate.say(900, 0, false);
        assert_eq!(debate.holder(60_000), Some(0));
    }

    #[test]
    fn another_takes_it_after_a_second_and_a_half_and_a_word_does_not() {
        let mut debate = Debate::new();
        debate.say(0, 0, true);
        debate.say(1000, 0, false);
        debate.say(2000, 1, true);
        debate.say(3400, 1, false);
        assert_eq!(debate.holder(3600), Some(0), "1.4 s of speech");
        debate.say(5000, 1, true);
        assert_eq!(debate.floor.deadline(), Some(debate.start + Duration::from_millis(6500)));
        assert_eq!(debate.holder(6499), Some(0));
        assert_eq!(debate.holder(6500), Some(1));
        assert_eq!(debate.floor.deadline(), None);
    }

    #[test]
    fn two_who_speak_at_once_do_not_take_it_from_each_other_in_turns() {
        let mut debate = Debate::new();
        debate.say(0, 0, true);
        debate.say(1000, 1, true);
        assert_eq!(debate.holder(5900), Some(0));
        assert_eq!(debate.holder(6000), Some(1), "five seconds into the other's speech");
        for ms in (7000..60_000).step_by(500) {
            assert_eq!(debate.holder(ms), Some(1));
        }
    }

    #[test]
    fn who_leaves_gives_it_to_whoever_speaks() {
        let mut debate = Debate::new();
        debate.say(0, 0, true);
        debate.say(1000, 1, true);
        let first = debate.people[0].clone();
        debate.floor.forget(&first, debate.start + Duration::from_millis(1500));
        assert_eq!(debate.holder(1500), Some(1));
    }

    #[test]
    fn voices_come_with_their_levels() {
        let mut debate = Debate::new();
        debate.say(0, 1, true);
        assert_eq!(debate.floor.voices(), [(debate.people[1].clone(), -20)]);
        debate.say(500, 1, false);
        assert_eq!(debate.floor.voices(), []);
    }
}
