//! What each effect of a chain takes of a processor, measured while it runs: on the stream's thread, and on that of
//! what looks at its pictures beside it. OpenCV's own threads, which help that one, are not seen: of `facedetect` on two
//! cores they take four tenths. Debian 12's OpenCV has them from TBB, and heeds neither `OPENCV_FOR_THREADS_NUM` nor
//! `TBB_NUM_THREADS`. (`docs/effects.md` has what the whole process takes.)

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use gst::prelude::*;
use rustix::time::{ClockId, clock_gettime};

use crate::media::EffectCost;

/// What all effects of each name took since the server was started, whatever has become of them.
pub fn effect_totals() -> Vec<EffectCost> {
    let totals = TOTALS.lock().expect("nothing panics under this lock");
    totals.iter().map(|(name, count)| count.cost(name)).collect()
}

static TOTALS: Mutex<BTreeMap<String, Arc<Count>>> = Mutex::new(BTreeMap::new());

#[derive(Debug, Default)]
struct Count {
    frames: AtomicU64,
    cpu_ns: AtomicU64,
}

impl Count {
    fn cost(&self, name: &str) -> EffectCost {
        let frames = self.frames.load(Relaxed);
        let cpu_ms = self.cpu_ns.load(Relaxed) as f64 / 1e6;
        EffectCost { name: name.to_owned(), frames, cpu_ms_per_frame: cpu_ms / frames.max(1) as f64 }
    }
}

/// Of one effect.
#[derive(Debug, Default)]
pub(super) struct Meter {
    own: Count,
    /// Once it is more than tried out.
    total: OnceLock<Arc<Count>>,
}

impl Meter {
    /// A frame has passed.
    fn frame(&self) {
        for count in self.counts() {
            count.frames.fetch_add(1, Relaxed);
        }
    }

    /// So much of a processor was taken.
    fn took(&self, ns: u64) {
        for count in self.counts() {
            count.cpu_ns.fetch_add(ns, Relaxed);
        }
    }

    fn counts(&self) -> impl Iterator<Item = &Count> {
        [&self.own].into_iter().chain(self.total.get().map(AsRef::as_ref))
    }

    /// Adds what one thread does between two pads, which a buffer reaches one after the other.
    pub(super) fn watch(self: &Arc<Self>, from: &gst::Pad, to: &gst::Pad) {
        let began = Arc::new(AtomicU64::new(0));
        let (meter, since) = (self.clone(), began.clone());
        from.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            began.store(thread_time_ns(), Relaxed);
            gst::PadProbeReturn::Ok
        });
        to.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            meter.took(thread_time_ns().saturating_sub(since.load(Relaxed)));
            gst::PadProbeReturn::Ok
        });
    }
}

/// By the effects' names, in the order of their chain.
pub(super) type Meters = Vec<(String, Arc<Meter>)>;

/// Of the effects that a slot has now; shared with whoever asks.
#[derive(Clone, Debug, Default)]
pub struct CostBook {
    meters: Arc<Mutex<Meters>>,
}

impl CostBook {
    /// In the order of the chain.
    pub fn read(&self) -> Vec<EffectCost> {
        let meters = self.meters.lock().expect("nothing panics under this lock");
        meters.iter().map(|(name, meter)| meter.own.cost(name)).collect()
    }

    pub(super) fn clear(&self) {
        self.meters.lock().expect("nothing panics under this lock").clear();
    }

    /// From now on it counts in the totals, too.
    pub(super) fn count_in(&self, clocks: &Clocks) {
        let mut totals = TOTALS.lock().expect("nothing panics under this lock");
        for (name, meter) in &clocks.names {
            meter.total.get_or_init(|| totals.entry(name.clone()).or_default().clone());
        }
        drop(totals);
        self.show(clocks);
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
    pub(super) fn start(names: Meters, borders: &[gst::Pad]) -> Self {
        let last = Arc::new(AtomicU64::new(0));
        for (index, pad) in borders.iter().enumerate() {
            let before = index.checked_sub(1).and_then(|index| names.get(index)).map(|(_, meter)| meter.clone());
            let last = last.clone();
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                let now = thread_time_ns();
                let since = last.swap(now, Relaxed);
                if let Some(meter) = &before {
                    meter.frame();
                    meter.took(now.saturating_sub(since));
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
