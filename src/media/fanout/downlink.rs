//! What one viewer gets of what he wants, over all of his sessions: they share his network.
//!
//! When it does not bear all, the layers of the least important pictures are lowered first, then of the more
//! important; then lower rates of frames in the same order, where frames can be left out; then pictures are paused,
//! never the most important one. Sound is not touched. More important is whose tile is larger: what somebody pinned,
//! who speaks.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use super::estimate::{Estimate, Observation};
use crate::room::id::ParticipantId;

/// Observations of all sessions are taken together so often.
const INTERVAL: Duration = Duration::from_millis(450);
/// What is older says nothing of now.
const STALE: Duration = Duration::from_millis(1_600);
/// More is given back only if there is so much room above it.
const HEADROOM: f64 = 0.9;
/// What is left of a rate without the frames that can be left out.
const THINNED: f64 = 0.6;

/// A picture that a viewer watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Demand {
    /// The rates of the layers that he may have, smallest first, in kbit/s; the last is the one he wants.
    pub(super) rungs: Vec<u32>,
    /// How high its tile is; without one, the highest value.
    pub(super) importance: u32,
    /// Frames can be left out.
    pub(super) thins: bool,
}

/// How much of it he has. Ordered: more is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grant {
    /// Nothing.
    Paused,
    /// The smallest layer, without frames that can be left out.
    Thinned,
    /// That layer.
    Rung(usize),
}

impl Demand {
    /// All that he wants.
    pub(super) fn all(&self) -> Grant {
        Grant::Rung(self.rungs.len().saturating_sub(1))
    }

    fn cost(&self, grant: Grant) -> f64 {
        let rate = |index: usize| self.rungs.get(index).or(self.rungs.last()).map_or(0.0, |kbps| f64::from(*kbps));
        match grant {
            Grant::Paused => 0.0,
            Grant::Thinned => rate(0) * THINNED,
            Grant::Rung(index) => rate(index),
        }
    }
}

/// What a session saw lately, and wants.
#[derive(Debug, Default)]
struct Session {
    seen: Option<Observation>,
    /// Sound, kbit/s.
    other_kbps: u32,
    demands: Vec<Demand>,
    grants: Vec<Grant>,
}

/// One viewer's network.
#[derive(Debug, Default)]
pub(super) struct Downlink {
    estimate: Estimate,
    judged: Option<Instant>,
    /// Sessions with pictures.
    watching: usize,
    /// By the sessions' numbers: who came first goes first.
    sessions: BTreeMap<u64, Session>,
}

impl Downlink {
    /// Takes what a session wants and, if something is known, what it has seen; gives what it gets of each demand.
    pub(super) fn ask(
        &mut self,
        session: u64,
        now: Instant,
        seen: Option<Observation>,
        other_kbps: u32,
        demands: Vec<Demand>,
    ) -> Vec<Grant> {
        let entry = self.sessions.entry(session).or_default();
        entry.grants = demands
            .iter()
            .zip(entry.grants.iter().map(|grant| Some(*grant)).chain(std::iter::repeat(None)))
            .map(|(demand, grant)| grant.unwrap_or(demand.all()))
            .collect();
        (entry.demands, entry.other_kbps) = (demands, other_kbps);
        entry.seen = seen.or(entry.seen);
        self.judge(now, seen.is_some());
        self.divide();
        self.sessions.get(&session).map_or_else(Vec::new, |session| session.grants.clone())
    }

    /// A session with pictures begins; true if there are others.
    pub(super) fn join(&mut self) -> bool {
        self.watching += 1;
        self.watching > 1
    }

    /// A session is over, which has [joined](Self::join) or not.
    pub(super) fn leave(&mut self, session: u64, joined: bool) {
        self.watching = self.watching.saturating_sub(joined.into());
        self.sessions.remove(&session);
    }

    /// What it bears in kbit/s, if anything was too much yet.
    pub(super) fn kbps(&self) -> Option<f64> {
        self.estimate.kbps()
    }

    /// `is_news`: something was seen since the last time.
    fn judge(&mut self, now: Instant, is_news: bool) {
        if self.judged.is_some_and(|judged| now.saturating_duration_since(judged) < INTERVAL) {
            return;
        }
        let seen = self.sessions.values().filter_map(|session| session.seen);
        let fresh: Vec<Observation> = seen.filter(|seen| now.saturating_duration_since(seen.at) < STALE).collect();
        let sent_kbps: f64 = fresh.iter().map(|seen| seen.sent_kbps).sum();
        let is_idle = sent_kbps <= 0.0;
        if !is_idle && !is_news {
            return;
        }
        self.judged = Some(now);
        if is_idle {
            // Nothing tells of the network: what was paused is tried again some time.
            return self.estimate.wait(now);
        }
        let loss = fresh.iter().map(|seen| seen.loss * seen.sent_kbps).sum::<f64>() / sent_kbps;
        let round_trip = fresh.iter().filter_map(|seen| seen.round_trip).min();
        let path = fresh.iter().filter_map(|seen| seen.path).min();
        self.estimate.observe(Observation { at: now, sent_kbps, loss, round_trip, path });
    }

    fn divide(&mut self) {
        let sound: u32 = self.sessions.values().map(|session| session.other_kbps).sum();
        let demands: Vec<&Demand> = self.sessions.values().flat_map(|session| &session.demands).collect();
        let before: Vec<Grant> = self.sessions.values().flat_map(|session| session.grants.iter().copied()).collect();
        let budget = self.estimate.kbps().map(|kbps| (kbps - f64::from(sound)).max(0.0));
        let mut grants = divided(budget, &demands, &before).into_iter();
        for session in self.sessions.values_mut() {
            session.grants = grants.by_ref().take(session.demands.len()).collect();
        }
    }
}

/// The network of everybody who is there.
#[derive(Debug, Default)]
pub(super) struct Downlinks(Mutex<HashMap<ParticipantId, Weak<Mutex<Downlink>>>>);

impl Downlinks {
    /// For a session of his.
    pub(super) fn of(&self, participant: &ParticipantId) -> SharedDownlink {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() == known.capacity() {
            known.retain(|_, downlink| downlink.strong_count() > 0);
        }
        if let Some(downlink) = known.get(participant).and_then(Weak::upgrade) {
            return SharedDownlink(downlink);
        }
        let downlink = Arc::default();
        known.insert(participant.clone(), Arc::downgrade(&downlink));
        SharedDownlink(downlink)
    }
}

/// A session's end of it.
#[derive(Clone, Debug)]
pub(super) struct SharedDownlink(Arc<Mutex<Downlink>>);

impl SharedDownlink {
    pub(super) fn lock(&self) -> MutexGuard<'_, Downlink> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `before`: what each has now; it is given more only if there is room.
fn divided(budget: Option<f64>, demands: &[&Demand], before: &[Grant]) -> Vec<Grant> {
    let Some(budget) = budget else { return demands.iter().map(|demand| demand.all()).collect() };
    let most = within(budget, demands);
    let sure = within(budget * HEADROOM, demands);
    let each = most.into_iter().zip(sure).zip(before);
    each.map(|((most, sure), before)| if most > *before { sure.max(*before) } else { most }).collect()
}

/// What fits into the budget, in kbit/s.
fn within(budget: f64, demands: &[&Demand]) -> Vec<Grant> {
    let mut grants: Vec<Grant> = demands.iter().map(|demand| demand.all()).collect();
    // Of which nothing comes takes nothing, and is not what is left of all when the others are paused.
    let comes = |index: &usize| demands[*index].cost(grants[*index]) > 0.0;
    let mut order: Vec<usize> = (0..demands.len()).filter(comes).collect();
    // The least important first; of equals the one that came last.
    order.sort_by_key(|index| (demands[*index].importance, std::cmp::Reverse(*index)));
    let is_too_much = |grants: &[Grant]| {
        let cost: f64 = demands.iter().zip(grants).map(|(demand, grant)| demand.cost(*grant)).sum();
        cost > budget
    };
    for index in &order {
        while let Grant::Rung(rung @ 1..) = grants[*index] {
            if !is_too_much(&grants) {
                return grants;
            }
            grants[*index] = Grant::Rung(rung - 1);
        }
    }
    for index in order.iter().filter(|index| demands[**index].thins) {
        if !is_too_much(&grants) {
            return grants;
        }
        grants[*index] = Grant::Thinned;
    }
    let (_, less_important) = order.split_last().unzip();
    for index in less_important.into_iter().flatten() {
        if !is_too_much(&grants) {
            break;
        }
        grants[*index] = Grant::Paused;
    }
    grants
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(rungs: &[u32], importance: u32, thins: bool) -> Demand {
        Demand { rungs: rungs.to_vec(), importance, thins }
    }

    #[test]
    fn what_is_least_important_gives_way_first() {
        use Grant::{Paused, Rung, Thinned};
        let large = demand(&[100, 400, 1_600], 1_080, false);
        let small = demand(&[100, 400], 180, true);
        let screen = demand(&[800], 360, false);
        let demands = [&large, &small, &screen];
        let cases = [
            (3_000.0, [Rung(2), Rung(1), Rung(0)]),
            (2_600.0, [Rung(2), Rung(0), Rung(0)]),
            (1_400.0, [Rung(1), Rung(0), Rung(0)]),
            (1_000.0, [Rung(0), Rung(0), Rung(0)]),
            (970.0, [Rung(0), Thinned, Rung(0)]),
            (900.0, [Rung(0), Paused, Rung(0)]),
            (100.0, [Rung(0), Paused, Paused]),
            (0.0, [Rung(0), Paused, Paused]),
        ];
        for (budget, expected) in cases {
            assert_eq!(within(budget, &demands), expected, "{budget}");
        }
        assert_eq!(divided(None, &demands, &[Paused; 3]), [Rung(2), Rung(1), Rung(0)]);
        // More is given back only with room above it.
        assert_eq!(divided(Some(2_750.0), &demands, &[Rung(1), Rung(1), Rung(0)])[0], Rung(1));
        assert_eq!(divided(Some(3_000.0), &demands, &[Rung(1), Rung(1), Rung(0)])[0], Rung(2));
    }

    #[test]
    fn sessions_of_one_viewer_share_what_there_is() {
        let mut downlink = Downlink::default();
        let mut now = Instant::now();
        let (large, small) = (demand(&[100, 800], 720, false), demand(&[100, 800], 90, false));
        let mut grants = (Vec::new(), Vec::new());
        for _ in 0..6 {
            now += Duration::from_millis(500);
            let seen = Some(Observation { at: now, sent_kbps: 850.0, loss: 0.2, round_trip: None, path: None });
            grants.0 = downlink.ask(1, now, seen, 40, vec![large.clone()]);
            grants.1 = downlink.ask(2, now, seen, 40, vec![small.clone()]);
        }
        assert!(downlink.kbps().is_some_and(|kbps| kbps < 1_200.0));
        assert_eq!(grants, (vec![Grant::Rung(1)], vec![Grant::Rung(0)]));
        downlink.leave(2, false);
        assert_eq!(downlink.sessions.len(), 1);
    }

    #[test]
    fn what_was_paused_comes_back_when_nothing_else_is_sent() {
        let mut downlink = Downlink::default();
        let mut now = Instant::now();
        // Of the most important picture nothing comes.
        let demands = vec![demand(&[0], 1_080, false), demand(&[600], 720, false), demand(&[600], 90, false)];
        let mut last = Vec::new();
        for _ in 0..30 {
            now += Duration::from_millis(500);
            let seen = Observation { at: now, sent_kbps: 700.0, loss: 0.5, round_trip: None, path: None };
            last = downlink.ask(1, now, Some(seen), 40, demands.clone());
        }
        assert_eq!(last, [Grant::Rung(0), Grant::Rung(0), Grant::Paused]);
        now += Duration::from_secs(60);
        assert_eq!(downlink.ask(1, now, None, 40, demands.clone())[2], Grant::Paused, "not all at once");
        for _ in 0..100 {
            now += Duration::from_millis(500);
            last = downlink.ask(1, now, None, 40, demands.clone());
        }
        assert_eq!(last, [Grant::Rung(0); 3]);
    }
}
