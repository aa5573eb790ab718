//! Who speaks: turns audio levels into few, steady `speaking` events. Pure: time is passed in.
//!
//! A track is speech after 200 ms above −45 dBov and until 600 ms after it was last above, so that
//! a click does not light a ring and a breath does not put it out. The sender's own voice flag is
//! not used: not every client sets it. A participant speaks if any of his tracks does.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{
    event::SpeakingLevel,
    id::{ParticipantId, TrackId},
};

/// Louder than this may be speech, dBov (RFC 6464).
pub const THRESHOLD_DB: i8 = -45;
/// Loud for so long is speech.
pub const ATTACK: Duration = Duration::from_millis(200);
/// Quiet for so long is no speech any more.
pub const RELEASE: Duration = Duration::from_millis(600);
/// Between two reports: five a second.
pub const REPORT_INTERVAL: Duration = Duration::from_millis(200);
/// While somebody speaks, a change of level worth telling, dB.
pub const LEVEL_STEP_DB: u8 = 6;
/// Nothing at all, dBov.
pub const SILENCE_DB: i8 = -127;

/// The detector for one room.
#[derive(Default)]
pub struct Speaking {
    tracks: HashMap<TrackId, Voice>,
    told: HashMap<ParticipantId, Told>,
    reported: Option<Instant>,
}

struct Voice {
    participant: ParticipantId,
    level_db: i8,
    /// When it rose above the threshold, if it has stayed there or not fallen for [`RELEASE`].
    loud_since: Option<Instant>,
    last_loud: Instant,
    heard: Instant,
    speaking: bool,
}

#[derive(Clone, Copy, PartialEq)]
struct Told {
    level_db: i8,
    speaking: bool,
}

impl Speaking {
    /// A track's loudness in the window that ends now.
    pub fn observe(&mut self, track: &TrackId, participant: &ParticipantId, level_db: i8, now: Instant) {
        let voice = self.tracks.entry(track.clone()).or_insert_with(|| Voice {
            participant: participant.clone(),
            level_db,
            loud_since: None,
            last_loud: now,
            heard: now,
            speaking: false,
        });
        voice.expire(now);
        voice.level_db = level_db;
        voice.heard = now;
        if level_db > THRESHOLD_DB {
            let since = *voice.loud_since.get_or_insert(now);
            voice.last_loud = now;
            voice.speaking |= now >= since + ATTACK;
        } else if !voice.speaking {
            voice.loud_since = None;
        }
    }

    /// A track ended or was muted: nothing more is heard of it.
    pub fn forget_track(&mut self, track: &TrackId) {
        self.tracks.remove(track);
    }

    /// A participant left; nobody needs to be told that he is silent.
    pub fn forget_participant(&mut self, participant: &ParticipantId) {
        self.tracks.retain(|_, voice| voice.participant != *participant);
        self.told.remove(participant);
    }

    /// What changed and is due to be told; empty if nothing did, or if it is too soon.
    pub fn report(&mut self, now: Instant) -> Vec<SpeakingLevel> {
        if self.too_soon(now) {
            return Vec::new();
        }
        for voice in self.tracks.values_mut() {
            voice.expire(now);
        }
        let changes = self.changes();
        for change in &changes {
            let told = Told { level_db: change.level_db, speaking: change.speaking };
            self.told.insert(change.participant.clone(), told);
        }
        if !changes.is_empty() {
            self.reported = Some(now);
        }
        self.told.retain(|_, told| told.speaking);
        changes
    }

    /// When [`Self::report`] should be asked again if nothing is observed before.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let soonest = self.reported.map_or(now, |at| at + REPORT_INTERVAL);
        let release = self.tracks.values().filter(|voice| voice.speaking).map(|voice| voice.last_loud + RELEASE).min();
        let waiting = (!self.changes().is_empty()).then_some(soonest.max(now));
        waiting.into_iter().chain(release.map(|at| at.max(soonest))).min()
    }

    fn too_soon(&self, now: Instant) -> bool {
        self.reported.is_some_and(|at| now < at + REPORT_INTERVAL)
    }

    fn changes(&self) -> Vec<SpeakingLevel> {
        let mut current: HashMap<&ParticipantId, Told> = HashMap::new();
        for voice in self.tracks.values() {
            let so_far = current.entry(&voice.participant).or_insert(Told { level_db: SILENCE_DB, speaking: false });
            so_far.level_db = so_far.level_db.max(voice.level_db);
            so_far.speaking |= voice.speaking;
        }
        for participant in self.told.keys() {
            current.entry(participant).or_insert(Told { level_db: SILENCE_DB, speaking: false });
        }
        let mut changes: Vec<_> = current
            .into_iter()
            .filter(|(participant, now)| worth_telling(self.told.get(*participant), *now))
            .map(|(participant, Told { level_db, speaking })| SpeakingLevel {
                participant: participant.clone(),
                level_db,
                speaking,
            })
            .collect();
        changes.sort_by(|a, b| a.participant.cmp(&b.participant));
        changes
    }
}

impl Voice {
    fn expire(&mut self, now: Instant) {
        if self.speaking && now >= self.last_loud + RELEASE {
            self.speaking = false;
            self.loud_since = None;
        }
        if now >= self.heard + RELEASE {
            self.level_db = SILENCE_DB;
            self.loud_since = None;
        }
    }
}

fn worth_telling(told: Option<&Told>, now: Told) -> bool {
    let told = told.copied().unwrap_or(Told { level_db: SILENCE_DB, speaking: false });
    told.speaking != now.speaking || (now.speaking && told.level_db.abs_diff(now.level_db) >= LEVEL_STEP_DB)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        speaking: Speaking,
        start: Instant,
        track: TrackId,
        participant: ParticipantId,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                speaking: Speaking::default(),
                start: Instant::now(),
                track: TrackId::random(),
                participant: ParticipantId::random(),
            }
        }

        fn at(&mut self, ms: u64, level_db: i8) -> Option<(i8, bool)> {
            let now = self.start + Duration::from_millis(ms);
            self.speaking.observe(&self.track, &self.participant, level_db, now);
            self.report(ms)
        }

        fn report(&mut self, ms: u64) -> Option<(i8, bool)> {
            let levels = self.speaking.report(self.start + Duration::from_millis(ms));
            assert!(levels.len() <= 1);
            levels.first().map(|level| (level.level_db, level.speaking))
        }

        fn deadline_ms(&self, ms: u64) -> Option<u64> {
            let now = self.start + Duration::from_millis(ms);
            self.speaking.deadline(now).map(|at| (at - self.start).as_millis() as u64)
        }
    }

    #[test]
    fn speech_starts_after_200_ms_and_ends_600_ms_after_the_last_loud_window() {
        let mut bench = Bench::new();
        assert_eq!(bench.at(0, -30), None);
        assert_eq!(bench.at(200, -30), Some((-30, true)));
        assert_eq!(bench.at(400, -90), Some((-90, true)), "the level fell, speech goes on");
        assert_eq!(bench.at(600, -90), None);
        assert_eq!(bench.at(799, -90), None);
        assert_eq!(bench.at(800, -90), Some((-90, false)));
        assert_eq!(bench.at(1000, -90), None);
    }

    #[test]
    fn a_click_is_no_speech_and_a_breath_does_not_end_it() {
        let mut bench = Bench::new();
        for ms in (0..2000).step_by(400) {
            assert_eq!(bench.at(ms, -20), None, "a click");
            assert_eq!(bench.at(ms + 200, -80), None);
        }
        assert_eq!(bench.at(2000, -20), None);
        assert_eq!(bench.at(2200, -20), Some((-20, true)));
        assert_eq!(bench.at(2400, -50).map(|(_, speaking)| speaking), Some(true));
        assert_eq!(bench.at(2700, -20).map(|(_, speaking)| speaking), Some(true));
        assert_eq!(bench.at(3200, -20), None, "nothing new");
    }

    #[test]
    fn packets_that_stop_end_speech_by_the_clock() {
        let mut bench = Bench::new();
        bench.at(0, -30);
        bench.at(200, -30);
        assert_eq!(bench.deadline_ms(200), Some(800));
        assert_eq!(bench.report(799), None);
        assert_eq!(bench.report(800), Some((SILENCE_DB, false)));
        assert_eq!(bench.deadline_ms(800), None);
    }

    #[test]
    fn reports_are_200_ms_apart_and_levels_move_by_6_db() {
        let mut bench = Bench::new();
        bench.at(0, -30);
        assert_eq!(bench.at(200, -30), Some((-30, true)));
        assert_eq!(bench.at(300, -20), None, "too soon");
        assert_eq!(bench.deadline_ms(300), Some(400));
        assert_eq!(bench.report(400), Some((-20, true)));
        assert_eq!(bench.at(700, -25), None, "5 dB is nothing to tell");
        assert_eq!(bench.at(900, -26), Some((-26, true)));
    }

    #[test]
    fn a_muted_track_is_silent_at_once_and_a_second_track_keeps_its_owner_speaking() {
        let mut bench = Bench::new();
        bench.at(0, -30);
        bench.at(200, -30);
        let (track, other) = (bench.track.clone(), TrackId::random());
        bench.track = other.clone();
        bench.at(400, -40);
        bench.at(600, -40);
        bench.speaking.forget_track(&track);
        assert_eq!(bench.report(800).map(|(_, speaking)| speaking), Some(true));
        bench.speaking.forget_track(&other);
        assert_eq!(bench.deadline_ms(1500), Some(1500), "nobody else may be heard for long: it is told by the clock");
        assert_eq!(bench.report(1000), Some((SILENCE_DB, false)));
        assert_eq!(bench.report(1200), None);
    }
}
