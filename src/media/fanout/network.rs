//! A viewer's session and his network: what he wants, what he sees of it, what he gets.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use str0m::stats::PeerStats;

use super::{
    downlink::{Demand, Grant, SharedDownlink},
    estimate::Observation,
    inbox::Inbox,
    peer::Told,
    source::{Packet, Source, Step},
    watching::{Line, Watching},
};
use crate::{
    media::{Kind, LayerChoice, MediaEvent},
    room::id::TrackId,
};

/// Of how long ago losses are counted. Where reports come, but none of what was sent since then, it waits so long at
/// least.
const REPORTED_WITHIN: Duration = Duration::from_secs(1);
/// A keyframe that did not come is asked for again after this time.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A session's part in its viewer's network.
#[derive(Debug)]
pub(super) struct Network {
    /// The session's number.
    session: u64,
    downlink: SharedDownlink,
    joined: bool,
    /// It is to be found out what it bears.
    felt: bool,
    /// Bytes that were sent up to then.
    sent: Option<(Instant, u64)>,
    /// He has reported what came.
    reports: bool,
    /// What he reads since somebody asked.
    begun: Vec<Arc<Source>>,
}

impl Network {
    pub(super) fn new(session: u64, downlink: SharedDownlink) -> Self {
        Self { session, downlink, joined: false, felt: false, sent: None, reports: false, begun: Vec::new() }
    }

    /// Whether it is to be found out what the network bears: a number on each packet and reports of them cost
    /// something, and are of use only where there is something to choose: layers, or which of several pictures.
    pub(super) fn is_felt<'a>(&mut self, sources: impl Iterator<Item = &'a Arc<Source>>) -> bool {
        let pictures: Vec<_> = sources.filter(|source| source.kind() == Kind::Video).collect();
        if pictures.is_empty() {
            return false;
        }
        self.joined = true;
        let has_others = self.downlink.lock().join();
        self.felt = has_others || pictures.len() > 1 || pictures.iter().any(|source| source.has_layers());
        self.felt
    }

    /// What was sent and lost since the last time.
    fn observed(&mut self, stats: &PeerStats) -> Option<Observation> {
        let (at, bytes) = (stats.timestamp, stats.bytes_tx);
        let (before, sent) = self.sent.replace((at, bytes))?;
        let elapsed = at.saturating_duration_since(before).as_secs_f64();
        self.reports |= stats.rtt.is_some();
        if elapsed <= 0.0 {
            return None;
        }
        let sent_kbps = bytes.saturating_sub(sent) as f64 * 8.0 / 1_000.0 / elapsed;
        let (loss, round_trip) = match stats.egress_loss_fraction {
            Some(loss) => (loss.into(), stats.rtt),
            None if self.reports && sent_kbps > 0.0 => (0.0, stats.rtt.max(Some(REPORTED_WITHIN))),
            None => return None,
        };
        let path = stats.selected_candidate_pair.as_ref().and_then(|pair| pair.current_round_trip_time);
        Some(Observation { at, sent_kbps, loss, round_trip, path })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.downlink.lock().leave(self.session, self.joined);
    }
}

/// Which frames are left out of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinning {
    /// None.
    None,
    /// Those that others do without.
    Disposable,
    /// The same until the next keyframe, which was asked for then: those that come may refer to some that he has not.
    UntilKeyframe(Instant),
}

impl Thinning {
    pub(super) fn leaves_out(&mut self, packet: &Packet) -> bool {
        if matches!(self, Self::UntilKeyframe(_)) && packet.starts_keyframe {
            *self = Self::None;
        }
        *self != Self::None && packet.is_disposable
    }
}

impl Watching {
    /// Of that picture he wants that layer.
    pub(super) fn set_layer(
        &mut self,
        told: &Told,
        track: &TrackId,
        layer: LayerChoice,
        inbox: &Arc<Inbox>,
        now: Instant,
    ) {
        let mut pictures = self.lines.iter_mut().filter(|line| line.source.kind() == Kind::Video);
        let Some(line) = pictures.find(|line| line.track.as_ref() == Some(track)) else { return };
        line.wanted = layer;
        self.apportion(told, None, inbox, now);
    }

    /// Looks at what became of what was sent, and at what there is: layers come and go.
    pub(super) fn look(&mut self, told: &Told, stats: &PeerStats, inbox: &Arc<Inbox>) {
        if !self.network.felt {
            return;
        }
        let seen = self.network.observed(stats);
        self.apportion(told, seen, inbox, stats.timestamp);
    }

    /// What he reads since this was asked that he did not read before.
    pub(super) fn begun(&mut self) -> Vec<Arc<Source>> {
        std::mem::take(&mut self.network.begun)
    }

    fn apportion(&mut self, told: &Told, seen: Option<Observation>, inbox: &Arc<Inbox>, now: Instant) {
        let (pictures, mut sounds): (Vec<&mut Line>, Vec<&mut Line>) =
            self.lines.iter_mut().partition(|line| line.source.kind() == Kind::Video);
        sounds.retain(|line| line.is_sent());
        let sound = sounds.iter().map(|line| line.source.kbps(now)).sum();
        let sent = sounds.iter().map(|line| line.source.kbps(now) * line.copies()).sum();
        let steps: Vec<Vec<Step>> = pictures.iter().map(|line| line.offered.steps(&line.wanted, now)).collect();
        let demands = pictures.iter().zip(&steps).map(|(line, steps)| line.demand(steps)).collect();
        let mut downlink = self.network.downlink.lock();
        let grants = downlink.ask(self.network.session, now, seen, sent, demands);
        let bears = downlink.kbps();
        drop(downlink);
        sounds.iter_mut().for_each(|line| line.fit(sound, bears));
        for ((line, steps), grant) in pictures.into_iter().zip(&steps).zip(grants) {
            self.network.begun.extend(line.have(told, grant, steps, inbox, now));
        }
    }
}

impl Line {
    fn demand(&self, steps: &[Step]) -> Demand {
        let importance = match self.wanted {
            LayerChoice::Height(height) => height,
            LayerChoice::Largest | LayerChoice::Named(_) => u32::MAX,
        };
        // What he has declined, or is not connected for yet, takes nothing from others.
        let rung = |step: &Step| if self.is_sent() { step.kbps } else { 0 };
        Demand { rungs: steps.iter().map(rung).collect(), importance, thins: self.source.thins() }
    }

    /// He has so much of it from now on; gives what he reads that he never did.
    fn have(
        &mut self,
        told: &Told,
        grant: Grant,
        steps: &[Step],
        inbox: &Arc<Inbox>,
        now: Instant,
    ) -> Option<Arc<Source>> {
        let paused = grant == Grant::Paused;
        if paused != std::mem::replace(&mut self.paused, paused) {
            if let Some(track) = self.track.clone() {
                told.tell(MediaEvent::TrackPaused { connection: told.connection.clone(), track, paused });
            }
            if !paused {
                self.resume(now);
            }
        }
        match (self.thinning, grant == Grant::Thinned) {
            (Thinning::None | Thinning::UntilKeyframe(_), true) => self.thinning = Thinning::Disposable,
            (Thinning::Disposable, false) if !paused => self.thin_until_keyframe(now),
            (Thinning::UntilKeyframe(asked), false)
                if !paused && now.saturating_duration_since(asked) >= ASK_AGAIN_AFTER =>
            {
                self.thin_until_keyframe(now);
            }
            _ => {}
        }
        let index = match grant {
            Grant::Rung(index) => index,
            Grant::Thinned => 0,
            Grant::Paused => return None,
        };
        let step = steps.get(index).or(steps.last())?;
        self.switch(&step.source, inbox).then(|| step.source.clone())
    }

    fn thin_until_keyframe(&mut self, now: Instant) {
        self.thinning = Thinning::UntilKeyframe(now);
        self.source.request_keyframe();
    }
}
