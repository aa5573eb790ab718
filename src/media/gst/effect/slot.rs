//! A place in a running pipeline where a chain of effects is put in, changed and taken out between
//! two frames.

use std::{
    sync::{Arc, Mutex, atomic::AtomicU32, mpsc},
    thread,
    time::{Duration, Instant},
};

use gst::prelude::*;

use tokio::sync::Notify;

use super::{Chain, CostBook, Reports, chain::failed, guard::Guard};
use crate::{
    effect::Applied,
    media::{Kind, MediaError, gst::preset::Presets},
};

/// A stream in which no frame comes for so long stands still, for now.
const FRAME_LIMIT: Duration = Duration::from_millis(100);
/// One that neither goes on nor stands still hangs.
const SWAP_LIMIT: Duration = Duration::from_secs(3);

/// Between two elements that are linked to each other while there are no effects.
#[derive(Debug)]
pub struct Slot {
    pipeline: gst::glib::WeakRef<gst::Pipeline>,
    kind: Kind,
    before: gst::Element,
    after: gst::Element,
    chain: Option<Chain>,
    guard: Option<Guard>,
    reports: Reports,
    costs: CostBook,
}

impl Slot {
    /// `before` and `after` are in the pipeline, and linked to each other.
    pub fn new(pipeline: &gst::Pipeline, kind: Kind, before: &gst::Element, after: &gst::Element) -> Self {
        if kind == Kind::Audio {
            tell_segment_once(after);
        }
        Self {
            pipeline: pipeline.downgrade(),
            kind,
            before: before.clone(),
            after: after.clone(),
            chain: None,
            guard: None,
            reports: Reports::default(),
            costs: CostBook::default(),
        }
    }

    /// For a pipeline that nothing is to harm: each chain is tried before it is put in. One that fails in the
    /// stream is left out of it, and `alarm` rings; one that is slow is given every so many pictures.
    pub fn guarded(self, every: Arc<AtomicU32>, alarm: Arc<Notify>) -> Self {
        let guard = Guard::new(self.kind, &self.before, &self.after, every, alarm);
        Self { guard: Some(guard), ..self }
    }

    /// Tells what effects find to `reports`, and what they cost to `costs`.
    pub fn telling(self, reports: Reports, costs: CostBook) -> Self {
        Self { reports, costs, ..self }
    }

    /// In no pipeline: what is left while a slot is away to be changed.
    pub(super) fn nowhere() -> Self {
        let none = gst::Bin::new();
        let pipeline = gst::glib::WeakRef::new();
        Self {
            pipeline,
            kind: Kind::Video,
            before: none.clone().upcast(),
            after: none.upcast(),
            chain: None,
            guard: None,
            reports: Reports::default(),
            costs: CostBook::default(),
        }
    }

    /// From the next frame on, these and no others. Blocks for some milliseconds. What is there stays
    /// if this fails.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if an effect cannot be built, [`MediaError::Element`] if it does
    /// not fit, [`MediaError::Deadline`] if the stream hangs.
    pub fn set(&mut self, presets: &Presets, spec: &[Applied]) -> Result<(), MediaError> {
        if self.failure().is_some() {
            self.swap(None)?;
        }
        if self.chain.as_ref().map_or(&[][..], Chain::spec) == spec {
            return Ok(());
        }
        if let Some(chain) = &mut self.chain
            && chain.adjust(spec)?
        {
            return Ok(());
        }
        if self.guard.is_some() && !spec.is_empty() {
            Chain::build(presets, self.kind, spec, &Reports::default())?.play_once()?;
        }
        let next = if spec.is_empty() { None } else { Some(Chain::build(presets, self.kind, spec, &self.reports)?) };
        self.swap(next)
    }

    /// Why the chain that is here was left out of the stream.
    pub fn failure(&self) -> Option<MediaError> {
        self.guard.as_ref().and_then(Guard::failure)
    }

    fn swap(&mut self, next: Option<Chain>) -> Result<(), MediaError> {
        let pipeline = self.pipeline.upgrade().ok_or_else(|| failed(&"the pipeline is gone"))?;
        if let Some(next) = &next {
            pipeline.add(next.element()).map_err(|error| failed(&error))?;
            self.guard.iter().for_each(|guard| guard.watch(next.element()));
            if let Err(error) = next.element().sync_state_with_parent() {
                take_out(&pipeline, next.element());
                return Err(failed(&error));
            }
        }
        let relinked = self.relink(next.as_ref());
        let gone = match relinked {
            Ok(()) => std::mem::replace(&mut self.chain, next),
            Err(_) => next,
        };
        match &self.chain {
            Some(chain) => chain.note_costs(&self.costs),
            None => self.costs.clear(),
        }
        if let Some(gone) = gone {
            take_out(&pipeline, gone.element());
        }
        relinked
    }

    /// On the thread of the stream, before its next frame: GStreamer looks again for the events that new elements
    /// have to know once a probe is through. If no frame comes, here.
    fn relink(&self, next: Option<&Chain>) -> Result<(), MediaError> {
        let pad = self.before.static_pad("src").ok_or_else(|| failed(&"no way into the effects"))?;
        let element = |chain: Option<&Chain>| chain.map(|chain| chain.element().clone());
        let (done, is_done) = mpsc::channel();
        let swap = Arc::new(Swap {
            kind: self.kind,
            before: self.before.clone(),
            old: element(self.chain.as_ref()),
            new: element(next),
            after: self.after.clone(),
            guard: self.guard.clone(),
            done: Mutex::new(Some(done)),
        });
        let frames = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
        let begun = Instant::now();
        loop {
            let at_frame = swap.clone();
            let probe = pad.add_probe(frames, move |_, _| {
                at_frame.make();
                gst::PadProbeReturn::Remove
            });
            if let Ok(relinked) = is_done.recv_timeout(FRAME_LIMIT) {
                return relinked;
            }
            probe.into_iter().for_each(|probe| pad.remove_probe(probe));
            let (when_idle, here) = (swap.clone(), thread::current().id());
            let probe = pad.add_probe(gst::PadProbeType::IDLE, move |_, _| {
                // On another thread it is that of the stream, which goes on after all: within the push of an event,
                // perhaps, that it would note as known to the new elements.
                if thread::current().id() == here {
                    when_idle.make_between_frames();
                }
                gst::PadProbeReturn::Remove
            });
            probe.into_iter().for_each(|probe| pad.remove_probe(probe));
            if let Ok(relinked) = is_done.try_recv() {
                return relinked;
            }
            if begun.elapsed() > SWAP_LIMIT && swap.give_up() {
                return Err(MediaError::Deadline { step: "changing effects", limit: SWAP_LIMIT });
            }
        }
    }
}

/// A change of what is between two elements, made once, by who comes first.
struct Swap {
    kind: Kind,
    before: gst::Element,
    old: Option<gst::Element>,
    new: Option<gst::Element>,
    after: gst::Element,
    guard: Option<Guard>,
    done: Mutex<Option<mpsc::Sender<Result<(), MediaError>>>>,
}

impl Swap {
    fn make(&self) {
        if let Some(done) = self.take() {
            // Whoever made it waits for this.
            let _ = done.send(self.relink());
        }
    }

    /// Not while the guard's probe has a frame in the chain: GStreamer takes a pad for idle until its probes are through.
    fn make_between_frames(&self) {
        match self.guard.as_ref().map(Guard::hold) {
            Some(None) => {}
            Some(Some(_held)) => self.make(),
            None => self.make(),
        }
    }

    /// It is made no more; false if it is, or is being made.
    fn give_up(&self) -> bool {
        self.take().is_some()
    }

    fn take(&self) -> Option<mpsc::Sender<Result<(), MediaError>>> {
        self.done.lock().expect("nothing panics under this lock").take()
    }

    fn relink(&self) -> Result<(), MediaError> {
        // Frames may go past the old one.
        let old = self.guard.as_ref().map_or_else(|| self.old.clone(), Guard::linked);
        old.iter().filter(|_| self.kind == Kind::Audio).for_each(drain);
        let row = |middle| row(&self.before, middle, &self.after);
        let (old, new) = (row(old.as_ref()), row(self.new.as_ref()));
        old.windows(2).for_each(|pair| pair[0].unlink(pair[1]));
        let linked = gst::Element::link_many(&new);
        if let Err(error) = &linked {
            new.windows(2).for_each(|pair| pair[0].unlink(pair[1]));
            gst::Element::link_many(&old).map_err(|error| failed(&error))?;
            return Err(failed(error));
        }
        self.guard.iter().for_each(|guard| guard.link(self.new.as_ref()));
        Ok(())
    }
}

/// An encoder of sound begins anew with each segment event, and so puts up to two frames of silence in. Some effects
/// make their own of the one that they get: what says the same as the last goes no further.
fn tell_segment_once(element: &gst::Element) {
    let Some(pad) = element.static_pad("sink") else { return };
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |pad, info| {
        let Some(gst::EventView::Segment(new)) = info.event().map(|event| event.view()) else {
            return gst::PadProbeReturn::Ok;
        };
        let known = pad.sticky_event::<gst::event::Segment>(0);
        let says_the_same = known.is_some_and(|known| is_same(known.segment(), new.segment()));
        if says_the_same { gst::PadProbeReturn::Drop } else { gst::PadProbeReturn::Ok }
    });
}

/// But for the position, which is of no account to who reads the stream.
fn is_same(one: &gst::Segment, other: &gst::Segment) -> bool {
    let times =
        |segment: &gst::Segment| [segment.start(), segment.stop(), segment.time(), segment.base(), segment.offset()];
    let rates = |segment: &gst::Segment| (segment.rate(), segment.applied_rate(), segment.flags());
    times(one) == times(other) && rates(one) == rates(other)
}

/// What sound an effect holds back, as `pitch` does, goes on its way. Nothing behind the chain hears that it ends.
fn drain(chain: &gst::Element) {
    let (Some(into), Some(out)) = (chain.static_pad("sink"), chain.static_pad("src")) else { return };
    out.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |_, info| match info.event().map(|event| event.type_()) {
        Some(gst::EventType::Eos) => gst::PadProbeReturn::Drop,
        _ => gst::PadProbeReturn::Ok,
    });
    into.send_event(gst::event::Eos::new());
}

fn row<'a>(
    before: &'a gst::Element,
    middle: Option<&'a gst::Element>,
    after: &'a gst::Element,
) -> Vec<&'a gst::Element> {
    [before].into_iter().chain(middle).chain([after]).collect()
}

fn take_out(pipeline: &gst::Pipeline, element: &gst::Element) {
    element.set_locked_state(true);
    if let Err(error) = element.set_state(gst::State::Null) {
        tracing::error!(element = %element.name(), "could not be stopped: {error}");
    }
    let _ = pipeline.remove(element);
}
