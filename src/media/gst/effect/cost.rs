//! What each effect of a chain takes of a processor, measured while it runs.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use gst::prelude::*;
use rustix::time::{ClockId, clock_gettime};

use crate::media::EffectCost;

/// Of one effect.
#[derive(Debug, Default)]
struct Meter {
    frames: AtomicU64,
    cpu_ns: AtomicU64,
}

/// By the effects' names, in the order of their chain.
type Meters = Vec<(String, Arc<Meter>)>;

/// Of the effects that a slot has now; shared with whoever asks.
#[derive(Clone, Debug, Default)]
pub struct CostBook {
    meters: Arc<Mutex<Meters>>,
}

impl CostBook {
    /// In the order of the chain.
    pub fn read(&self) -> Vec<EffectCost> {
        let meters = self.meters.lock().expect("nothing panics under this lock");
        let cost = |(name, meter): &(String, Arc<Meter>)| {
            let frames = meter.frames.load(Relaxed);
            let cpu_ms = meter.cpu_ns.load(Relaxed) as f64 / 1e6;
            EffectCost { name: name.clone(), frames, cpu_ms_per_frame: cpu_ms / frames.max(1) as f64 }
        };
        meters.iter().map(cost).collect()
    }

    pub(super) fn clear(&self) {
        self.meters.lock().expect("nothing panics under this lock").clear();
    }

    pub(super) fn show(&self, clocks: &Clocks) {
        clocks.names.clone_into(&mut self.meters.lock().expect("nothing panics under this lock"));
    }
}

/// Measures a chain: the thread's own time between one element's pad and the next one's, which a buffer
/// reaches on the same thread.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    names: Meters,
}

impl Clocks {
    /// `borders`: in front of each effect, and behind the last one.
    pub(super) fn start(effects: &[String], borders: &[gst::Pad]) -> Self {
        let names: Vec<_> = effects.iter().map(|name| (name.clone(), Arc::new(Meter::default()))).collect();
        let last = Arc::new(AtomicU64::new(0));
        for (index, pad) in borders.iter().enumerate() {
            let before = index.checked_sub(1).and_then(|index| names.get(index)).map(|(_, meter)| meter.clone());
            let last = last.clone();
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                let now = thread_time_ns();
                let since = last.swap(now, Relaxed);
                if let Some(meter) = &before {
                    meter.frames.fetch_add(1, Relaxed);
                    meter.cpu_ns.fetch_add(now.saturating_sub(since), Relaxed);
                }
                gst::PadProbeReturn::Ok
            });
        }
        Self { names }
    }
}

fn thread_time_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}
