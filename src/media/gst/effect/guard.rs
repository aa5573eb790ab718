//! Keeps a stream that nothing is to harm from the effects in it. Frames go past a chain that fails, the one
//! it failed at first; and a chain that takes longer than pictures come is given fewer of them, while as many
//! come out as before. One that is too slow for that, too, has failed.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Instant,
};

use gst::prelude::*;
use tokio::sync::Notify;

use super::pace::Pace;
use crate::media::{Kind, MediaError};

/// Of one place in a stream. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Guard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    before: gst::glib::WeakRef<gst::Element>,
    after: gst::glib::WeakRef<gst::Element>,
    /// Every so many pictures go through the chain.
    every: Arc<AtomicU32>,
    /// Rings when a chain has failed.
    alarm: Arc<Notify>,
    /// Held while a frame is in the chain, and while what frames go through is changed from another thread.
    passing: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What frames go through now.
    chain: Option<gst::glib::WeakRef<gst::Element>>,
    /// What the chain said that is, or was last, in the stream.
    failure: Option<MediaError>,
    pace: Pace,
    /// When the chain was given the picture that it works on.
    began: Option<Instant>,
    /// Something came out since.
    has_come: bool,
    /// The last picture that came out, kept while some are left out.
    last: Option<gst::Buffer>,
}

impl Guard {
    /// Between these two, which are linked to each other. `alarm` rings when a chain has failed.
    pub(super) fn new(
        kind: Kind,
        before: &gst::Element,
        after: &gst::Element,
        every: Arc<AtomicU32>,
        alarm: Arc<Notify>,
    ) -> Self {
        let (before_pad, passing, state) = (before.static_pad("src"), Mutex::default(), Mutex::default());
        let (before, after) = (before.downgrade(), after.downgrade());
        let guard = Self(Arc::new(Inner { kind, before, after, every, alarm, passing, state }));
        before_pad.into_iter().for_each(|pad| {
            let guard = guard.clone();
            pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| guard.pass(pad, info));
        });
        guard
    }

    /// Hears what a chain says, instead of the pipeline that it has just been put into; and looks at what comes
    /// out of it.
    pub(super) fn watch(&self, chain: &gst::Element) {
        let Some(pipelines) = chain.bus() else { return };
        let (own, guard, weak) = (gst::Bus::new(), self.clone(), chain.downgrade());
        own.set_sync_handler(move |_, message| {
            match message.view() {
                gst::MessageView::Error(error) => {
                    let element = message.src().map_or_else(|| "effects".into(), |src| src.name().to_string());
                    let debug = error.debug().unwrap_or_default();
                    let message = format!("{}: {}", error.error(), debug.lines().last().unwrap_or_default());
                    guard.failed(&weak, MediaError::Element { element, message });
                }
                // An error means that the pipeline goes down.
                _ => drop(pipelines.post(message.clone())),
            }
            gst::BusSyncReply::Drop
        });
        chain.set_bus(Some(&own));
        if let Some(pad) = chain.static_pad("src") {
            let guard = self.clone();
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                if let Some(buffer) = info.buffer() {
                    guard.came_out(buffer);
                }
                gst::PadProbeReturn::Ok
            });
        }
    }

    /// Frames go through this from now on; `None`: through nothing.
    pub(super) fn link(&self, chain: Option<&gst::Element>) {
        *self.state() = State { chain: chain.map(ObjectExt::downgrade), ..State::default() };
        self.0.every.store(1, Relaxed);
    }

    /// What frames go through.
    pub(super) fn linked(&self) -> Option<gst::Element> {
        self.state().chain.as_ref().and_then(gst::glib::WeakRef::upgrade)
    }

    /// Why frames go past the chain, or are about to.
    pub(super) fn failure(&self) -> Option<MediaError> {
        self.state().failure.clone()
    }

    /// No frame is in the chain until this is dropped; `None` if one is.
    pub(super) fn hold(&self) -> Option<MutexGuard<'_, ()>> {
        self.0.passing.try_lock().ok()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("nothing panics under this lock")
    }

    /// Of those that are not in the stream any more nobody wants to hear.
    fn failed(&self, chain: &gst::glib::WeakRef<gst::Element>, error: MediaError) {
        let mut state = self.state();
        if state.chain.as_ref().and_then(gst::glib::WeakRef::upgrade) != chain.upgrade() || state.failure.is_some() {
            return;
        }
        state.failure = Some(error);
        self.0.alarm.notify_one();
    }

    /// A frame is there, and what follows knows the stream's events: who relinks here has them sent again, and the
    /// frame behind them.
    fn pass(&self, pad: &gst::Pad, info: &mut gst::PadProbeInfo<'_>) -> gst::PadProbeReturn {
        let _passing = self.0.passing.lock().expect("nothing panics under this lock");
        let (Some(chain), Some(frame)) = (self.linked(), info.buffer().cloned()) else {
            return gst::PadProbeReturn::Ok;
        };
        if self.failure().is_some() {
            return self.go_past(&chain);
        }
        // Without a segment it was linked a moment ago, after GStreamer had sent the events.
        let Some(into) = pad.peer().filter(|into| into.sticky_event::<gst::event::Segment>(0).is_some()) else {
            return gst::PadProbeReturn::Ok;
        };
        if let Some(again) = self.left_out(&frame) {
            let after = self.0.after.upgrade().and_then(|after| after.static_pad("sink"));
            info.flow_res = after.map_or(Err(gst::FlowError::NotLinked), |after| after.chain(again));
            return gst::PadProbeReturn::Handled;
        }
        info.flow_res = into.chain(frame);
        if info.flow_res.is_ok() || !self.blames_chain(&chain, info.flow_res) {
            return gst::PadProbeReturn::Handled;
        }
        let has_come = self.state().has_come;
        let past = self.go_past(&chain);
        if has_come && past == gst::PadProbeReturn::Ok {
            info.flow_res = Ok(gst::FlowSuccess::Ok);
            return gst::PadProbeReturn::Handled;
        }
        past
    }

    /// What a frame becomes that the chain has no time for: what came out last.
    fn left_out(&self, frame: &gst::Buffer) -> Option<gst::Buffer> {
        let mut state = self.state();
        state.has_come = false;
        if self.0.kind == Kind::Audio {
            return None;
        }
        let goes_through = frame.pts().is_none_or(|time| state.pace.lets_through(time.into()));
        let Some(mut again) = state.last.clone().filter(|_| !goes_through) else {
            state.began = Some(Instant::now());
            return None;
        };
        let stamped = again.make_mut();
        stamped.set_pts(frame.pts());
        stamped.set_dts(frame.dts());
        stamped.set_duration(frame.duration());
        Some(again)
    }

    fn came_out(&self, picture: &gst::Buffer) {
        let mut state = self.state();
        state.has_come = true;
        if let Some(began) = state.began.take()
            && state.pace.took(began.elapsed())
        {
            let every = state.pace.every();
            self.0.every.store(every, Relaxed);
            tracing::info!(every, "effects on a mix get another share of the pictures");
        }
        state.last = (state.pace.every() > 1).then(|| picture.clone());
        if state.pace.is_too_slow()
            && let Some(chain) = state.chain.clone()
        {
            drop(state);
            let message = "too slow for this mix".to_owned();
            self.failed(&chain, MediaError::Element { element: "effects".into(), message });
        }
    }

    /// Whether it was the chain, and not what follows it: an element that fails says so before it returns, but for
    /// those that agree on no format.
    fn blames_chain(&self, chain: &gst::Element, result: Result<gst::FlowSuccess, gst::FlowError>) -> bool {
        if matches!(result, Err(gst::FlowError::NotNegotiated)) {
            let message = "takes no such picture or sound".to_owned();
            self.failed(&chain.downgrade(), MediaError::Element { element: "effects".into(), message });
        }
        self.failure().is_some()
    }

    fn go_past(&self, chain: &gst::Element) -> gst::PadProbeReturn {
        let (Some(before), Some(after)) = (self.0.before.upgrade(), self.0.after.upgrade()) else {
            return gst::PadProbeReturn::Handled;
        };
        before.unlink(chain);
        chain.unlink(&after);
        if let Err(error) = before.link(&after) {
            tracing::error!("frames cannot go past effects that failed: {error}");
            return gst::PadProbeReturn::Handled;
        }
        let mut state = self.state();
        (state.chain, state.last) = (None, None);
        self.0.every.store(1, Relaxed);
        gst::PadProbeReturn::Ok
    }
}
