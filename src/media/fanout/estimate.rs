//! How much a viewer's network bears, from what it does with what is sent: a small controller by loss and delay.
//!
//! Pictures are sent as they come, without a pacer, and nothing is sent to feel for more: a higher layer is the
//! feeler. So the estimate says nothing until something was too much; then it is a part of what arrived, and grows
//! until it is too much again, after longer and longer pauses.

use std::time::{Duration, Instant};

/// So many lost, smoothed, are too many. Less is a bad network rather than a full one.
const TOO_MANY_LOST: f64 = 0.15;
/// Of so few packets, chance takes more: bytes of one, and how many there are in a second at least.
const PACKET_BYTES: f64 = 1_000.0;
const LEAST_PACKETS: f64 = 20.0;
/// The weight of a new share of loss.
const LOSS_WEIGHT: f64 = 0.4;
/// Packets wait so much longer than they had to: a queue has built up that does not go away.
const QUEUE: Duration = Duration::from_millis(150);
/// Round trips in a row that tell of a queue; a single one may be late by chance.
const ROUND_TRIPS: usize = 3;
/// The shortest round trip is of the last one or two of these.
const FLOOR_WINDOW: Duration = Duration::from_secs(15);
/// What is known so soon after a cut is of the time before it.
const SETTLES: Duration = Duration::from_millis(1_500);
/// Of what arrived, this much is taken for bearable.
const CUT: f64 = 0.85;
/// And so much while a queue that is so long goes away.
const LONG_QUEUE: Duration = Duration::from_millis(400);
const CUT_FOR_LONG_QUEUE: f64 = 0.6;
/// It does not fall below this, kbit/s.
const LEAST_KBPS: f64 = 30.0;
/// Above this it says nothing any more.
const MOST_KBPS: f64 = 20_000.0;
/// One observation may be of a moment without radio: it is taken for no less than this part of what was before.
const CUT_AT_MOST: f64 = 0.5;
/// A queue that a cut leaves as it was, give or take this, is not ours: the path is longer.
const SAME_QUEUE: Duration = Duration::from_millis(50);
/// A queue that is full stays as it is too, but then this much is lost.
const FULL_LOSES: f64 = 0.02;
/// Reports may come so much later than ICE's.
const REPORT_DELAY: Duration = Duration::from_millis(100);
/// What is less, kbit/s, tells nothing until something was too much.
const TELLS_NOTHING_KBPS: f64 = 64.0;
/// In a second it grows to this much of itself.
const GROWTH: f64 = 1.2;
/// After a cut it does not grow for so long; twice as long if the cut came of growing.
const HOLDS: Duration = Duration::from_secs(3);
/// And no more than this between two observations.
const LONGEST_STEP: Duration = Duration::from_secs(1);
const HOLDS_AT_MOST: Duration = Duration::from_secs(48);

/// What was seen within about half a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observation {
    pub(super) at: Instant,
    pub(super) sent_kbps: f64,
    /// 0 to 1, within the last second.
    pub(super) loss: f64,
    /// Of the last packet that was reported.
    pub(super) round_trip: Option<Duration>,
    /// ICE's round trip, for the first observation: media may wait from its beginning.
    pub(super) path: Option<Duration>,
}

/// The estimate.
#[derive(Debug, Default)]
pub(super) struct Estimate {
    kbps: Option<f64>,
    loss: f64,
    round_trips: Vec<(Instant, Duration)>,
    /// The shortest of this window, when it began, and the shortest of the one before.
    floor: Option<(Duration, Instant, Duration)>,
    cut_at: Option<Instant>,
    /// The queue that it was cut for.
    cut_for: Option<Duration>,
    holds: Duration,
    /// It grew since the last cut.
    grew: bool,
    seen: Option<Instant>,
}

impl Estimate {
    /// In kbit/s, payload alone; `None`: nothing was too much yet.
    pub(super) fn kbps(&self) -> Option<f64> {
        self.kbps
    }

    /// Takes an observation; true if it was too much.
    pub(super) fn observe(&mut self, seen: Observation) -> bool {
        let elapsed = self.elapsed(seen.at);
        let queue = self.queue(seen);
        if self.cut_at.is_some_and(|cut| seen.at < cut + SETTLES) {
            self.loss = 0.0;
            return false;
        }
        if self.kbps.is_none() && seen.sent_kbps < TELLS_NOTHING_KBPS {
            return false;
        }
        self.loss += (seen.loss - self.loss) * LOSS_WEIGHT;
        let grows = self.growth();
        let cut_for = self.cut_for.take();
        let is_ours = cut_for.is_none_or(|before| queue.abs_diff(before) > SAME_QUEUE || self.loss > FULL_LOSES);
        if !is_ours {
            self.floor = self.round_trips.iter().map(|(_, it)| *it).min().map(|shortest| (shortest, seen.at, shortest));
        }
        if self.loss > too_many_lost(seen.sent_kbps) || (is_ours && queue > QUEUE && grows >= 0.0) {
            self.cut(seen, queue, grows);
            return true;
        }
        self.grow(seen.at, elapsed);
        false
    }

    /// There was nothing to see: it grows by time alone.
    pub(super) fn wait(&mut self, now: Instant) {
        let elapsed = self.elapsed(now);
        self.grow(now, elapsed);
    }

    fn elapsed(&mut self, now: Instant) -> Duration {
        let before = self.seen.replace(now);
        before.map_or(Duration::ZERO, |before| now.saturating_duration_since(before)).min(LONGEST_STEP)
    }

    fn queue(&mut self, seen: Observation) -> Duration {
        let Some(round_trip) = seen.round_trip else { return Duration::ZERO };
        self.floor = Some(match self.floor {
            None => {
                let first = seen.path.map_or(round_trip, |path| round_trip.min(path + REPORT_DELAY));
                (first, seen.at, first)
            }
            Some((shortest, began, _)) if seen.at > began + FLOOR_WINDOW => (round_trip, seen.at, shortest),
            Some((shortest, began, before)) => (shortest.min(round_trip), began, before),
        });
        self.round_trips.push((seen.at, round_trip));
        if self.round_trips.len() > ROUND_TRIPS {
            self.round_trips.remove(0);
        }
        let floor = self.floor.map_or(Duration::ZERO, |(shortest, _, before)| shortest.min(before));
        let stands = self
            .round_trips
            .iter()
            .map(|(_, round_trip)| *round_trip)
            .min()
            .filter(|_| self.round_trips.len() == ROUND_TRIPS);
        stands.map_or(Duration::ZERO, |shortest| shortest.saturating_sub(floor))
    }

    /// Seconds that the queue grows by in a second.
    fn growth(&self) -> f64 {
        let (Some((began, first)), Some((now, last))) = (self.round_trips.first(), self.round_trips.last()) else {
            return 0.0;
        };
        let elapsed = now.saturating_duration_since(*began).as_secs_f64();
        if elapsed > 0.0 { (last.as_secs_f64() - first.as_secs_f64()) / elapsed } else { 0.0 }
    }

    fn cut(&mut self, seen: Observation, queue: Duration, grows: f64) {
        let arrived = seen.sent_kbps * ((1.0 - seen.loss) / (1.0 + grows.max(0.0))).max(CUT_AT_MOST);
        // Perhaps there was no more to send.
        let kbps = self.kbps.map_or(arrived, |before| before.min(arrived.max(before * CUT_AT_MOST)));
        let part = if queue > LONG_QUEUE { CUT_FOR_LONG_QUEUE } else { CUT };
        self.kbps = Some((kbps * part).max(LEAST_KBPS));
        // What has stood for long was no feeler.
        let is_feeler = self.grew && self.cut_at.is_some_and(|cut| seen.at < cut + 3 * self.holds);
        self.holds = if is_feeler { (self.holds * 2).min(HOLDS_AT_MOST) } else { HOLDS };
        (self.cut_at, self.grew, self.loss) = (Some(seen.at), false, 0.0);
        self.cut_for = (queue > QUEUE).then_some(queue);
        self.round_trips.clear();
    }

    fn grow(&mut self, now: Instant, elapsed: Duration) {
        let Some(kbps) = &mut self.kbps else { return };
        if self.cut_at.is_some_and(|cut| now < cut + self.holds) {
            return;
        }
        *kbps *= GROWTH.powf(elapsed.as_secs_f64());
        self.grew = true;
        if *kbps > MOST_KBPS {
            self.kbps = None;
        }
    }
}

/// So many lost, smoothed, are too many, and not by chance: more by a standard deviation of a second's packets.
fn too_many_lost(sent_kbps: f64) -> f64 {
    let packets = (sent_kbps * 1_000.0 / 8.0 / PACKET_BYTES).max(LEAST_PACKETS);
    TOO_MANY_LOST + (TOO_MANY_LOST * (1.0 - TOO_MANY_LOST) / packets).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link and whoever sends as much as the estimate allows, or `wanted`.
    struct Link {
        estimate: Estimate,
        now: Instant,
        wanted: f64,
        bears: f64,
        queue: Duration,
    }

    impl Link {
        fn new(wanted: f64, bears: f64) -> Self {
            Self { estimate: Estimate::default(), now: Instant::now(), wanted, bears, queue: Duration::ZERO }
        }

        /// For that long; gives the rate that is sent then, and how often it was too much. `drops`: what is too much is
        /// lost, or waits.
        fn run(&mut self, seconds: u32, drops: bool) -> (f64, usize) {
            let (mut sent, mut cuts) = (0.0, 0);
            for _ in 0..seconds * 2 {
                self.now += Duration::from_millis(500);
                sent = self.estimate.kbps().unwrap_or(self.wanted).min(self.wanted);
                let over = (sent - self.bears) / 2.0;
                let waits = self.queue.as_secs_f64() + if drops { 0.0 } else { over / self.bears };
                self.queue = Duration::from_secs_f64(waits.clamp(0.0, 2.0));
                let loss = if drops { (over * 2.0 / sent).max(0.0) } else { 0.0 };
                let round_trip = Some(Duration::from_millis(60) + self.queue);
                cuts += usize::from(self.estimate.observe(Observation {
                    at: self.now,
                    sent_kbps: sent,
                    loss,
                    round_trip,
                    path: None,
                }));
            }
            (sent, cuts)
        }
    }

    #[test]
    fn a_link_that_bears_all_is_not_limited() {
        let mut link = Link::new(1_000.0, 1_200.0);
        assert_eq!((link.run(60, true), link.estimate.kbps()), ((1_000.0, 0), None));
    }

    #[test]
    fn what_is_too_much_is_cut_and_felt_for_less_and_less_often() {
        for drops in [true, false] {
            let mut link = Link::new(1_000.0, 500.0);
            let (sent, cuts) = link.run(4, drops);
            assert!(sent <= 520.0 && cuts >= 1, "{sent} {cuts}");
            let early = link.run(60, drops).1;
            let late = link.run(60, drops).1;
            assert!(late <= 3 && late <= early, "{early} {late}");
        }
    }

    #[test]
    fn what_becomes_free_is_used() {
        let mut link = Link::new(1_000.0, 300.0);
        link.run(6, true);
        link.bears = 2_000.0;
        assert_eq!(link.run(15, true).0, 1_000.0);
        link.run(40, true);
        assert_eq!(link.estimate.kbps(), None);
    }

    #[test]
    fn loss_by_chance_and_jitter_are_not_too_much() {
        let mut estimate = Estimate::default();
        let start = Instant::now();
        for step in 0..200u64 {
            let loss = 0.10 + (step % 5) as f64 * 0.02 - 0.04;
            let round_trip = Some(Duration::from_millis(50 + step * 37 % 200));
            let at = start + Duration::from_millis(step * 500);
            assert!(!estimate.observe(Observation { at, sent_kbps: 800.0, loss, round_trip, path: None }), "{step}");
        }
    }

    #[test]
    fn of_few_packets_many_may_be_lost_by_chance() {
        // As seen on a line that loses one in ten.
        let lost = [0.07, 0.08, 0.19, 0.21, 0.14, 0.16, 0.26, 0.18, 0.11, 0.13, 0.09, 0.23, 0.25, 0.1];
        let (mut few, mut many, mut now) = (Estimate::default(), Estimate::default(), Instant::now());
        for loss in lost {
            observe(&mut few, &mut now, 1, 95.0, loss, 60);
        }
        assert_eq!(few.kbps(), None);
        for loss in lost {
            observe(&mut many, &mut now, 1, 2_000.0, loss, 60);
        }
        assert!(many.kbps().is_some());
    }

    /// Observations of that loss and round trip, two a second.
    fn observe(estimate: &mut Estimate, now: &mut Instant, times: usize, sent_kbps: f64, loss: f64, round_trip: u64) {
        for _ in 0..times {
            *now += Duration::from_millis(500);
            let round_trip = Some(Duration::from_millis(round_trip));
            let path = Some(Duration::from_millis(50));
            estimate.observe(Observation { at: *now, sent_kbps, loss, round_trip, path });
        }
    }

    #[test]
    fn a_second_without_radio_costs_half() {
        let (mut estimate, mut now) = (Estimate::default(), Instant::now());
        observe(&mut estimate, &mut now, 4, 1_650.0, 0.0, 60);
        observe(&mut estimate, &mut now, 2, 1_650.0, 1.0, 60);
        let kbps = estimate.kbps().unwrap();
        assert!((650.0..=1_450.0).contains(&kbps), "{kbps}");
        // Then there is little to send, and some of it is lost.
        observe(&mut estimate, &mut now, 8, 40.0, 0.0, 60);
        let before = estimate.kbps().unwrap();
        observe(&mut estimate, &mut now, 1, 40.0, 0.9, 60);
        assert!(estimate.kbps().unwrap() >= before * 0.4);
    }

    #[test]
    fn what_waits_from_the_beginning_is_too_much() {
        let (mut estimate, mut now) = (Estimate::default(), Instant::now());
        observe(&mut estimate, &mut now, 3, 1_000.0, 0.0, 1_200);
        assert!(estimate.kbps().is_some_and(|kbps| kbps <= 600.0), "{estimate:?}");
        let (mut estimate, mut now) = (Estimate::default(), Instant::now());
        observe(&mut estimate, &mut now, 9, 20.0, 0.0, 1_200);
        assert_eq!(estimate.kbps(), None, "so little tells nothing");
    }

    #[test]
    fn a_path_that_became_longer_is_no_queue() {
        let (mut estimate, mut now) = (Estimate::default(), Instant::now());
        observe(&mut estimate, &mut now, 10, 1_000.0, 0.0, 60);
        observe(&mut estimate, &mut now, 8, 1_000.0, 0.0, 260);
        let kbps = estimate.kbps().unwrap();
        observe(&mut estimate, &mut now, 60, 1_000.0, 0.0, 260);
        assert!(estimate.kbps().is_none_or(|later| later > kbps.max(800.0)), "{kbps} {estimate:?}");
    }
}
