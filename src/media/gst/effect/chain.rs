//! A chain of effects as one element: raw media in, raw media out.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use gst::prelude::*;

use super::{
    cost::{Clocks, CostBook, Meter, Meters},
    native::{Album, NativeStep},
    report::Reports,
};
use crate::{
    effect::{Applied, Value, changed_live},
    media::{
        EffectCost, Kind, MediaError,
        gst::preset::{EffectFile, Presets, Restore, size_caps},
    },
};

/// An effect that does not get through a few frames within this is left out.
const TRIAL_LIMIT: gst::ClockTime = gst::ClockTime::from_seconds(10);

/// How many chains are in memory, whoever holds them; one that leaks stays counted.
pub fn live_chains() -> usize {
    LIVE_CHAINS.load(Relaxed)
}

static LIVE_CHAINS: AtomicUsize = AtomicUsize::new(0);

/// Effects in a row.
#[derive(Debug)]
pub struct Chain {
    bin: gst::Bin,
    effects: Vec<Arc<Link>>,
    clocks: Clocks,
    spec: Vec<Applied>,
}

/// One effect of a chain.
#[derive(Debug)]
struct Link {
    file: Arc<EffectFile>,
    bin: gst::Bin,
    native: BTreeMap<String, NativeStep>,
    /// Gives the picture the size it had.
    size: Option<gst::Element>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    values: BTreeMap<String, Value>,
    /// Width and height of what comes in, once known.
    frame: Option<(u32, u32)>,
}

impl Chain {
    /// Builds a chain that nothing flows through yet.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if an effect is not there or cannot be built any more.
    pub fn build(presets: &Presets, kind: Kind, spec: &[Applied], reports: &Reports) -> Result<Self, MediaError> {
        let files = spec.iter().map(|applied| Ok((presets.effect(&applied.name)?.clone(), applied.clone())));
        Self::of(kind, files.collect::<Result<_, MediaError>>()?, presets.album(), reports)
    }

    /// As [`build`](Self::build), of these files.
    pub(in crate::media::gst) fn of(
        kind: Kind,
        effects: Vec<(Arc<EffectFile>, Applied)>,
        album: &Album,
        reports: &Reports,
    ) -> Result<Self, MediaError> {
        let bin = gst::Bin::new();
        LIVE_CHAINS.fetch_add(1, Relaxed);
        bin.add_weak_ref_notify(|| {
            LIVE_CHAINS.fetch_sub(1, Relaxed);
        });
        let mut row: Vec<gst::Element> = Vec::new();
        let mut links = Vec::new();
        let mut spec = Vec::new();
        let mut fronts = Vec::new();
        let mut meters = Meters::new();
        for (file, applied) in effects {
            fronts.push(row.len());
            row.push(convert(kind)?);
            let meter = Arc::new(Meter::default());
            let (link, elements) = Link::build(file, &applied, album, reports, &meter)?;
            meters.push((applied.name.clone(), meter));
            row.extend(elements);
            links.push(link);
            spec.push(applied);
        }
        fronts.push(row.len());
        row.push(convert(kind)?);
        bin.add_many(&row).and_then(|()| gst::Element::link_many(&row)).map_err(|error| failed(&error))?;
        for (name, element) in [("sink", &row[0]), ("src", &row[row.len() - 1])] {
            let inner = element.static_pad(name).ok_or_else(|| failed(&"an element without a pad"))?;
            let ghost = gst::GhostPad::builder_with_target(&inner).map_err(|error| failed(&error))?.name(name).build();
            bin.add_pad(&ghost).map_err(|error| failed(&error))?;
        }
        let borders: Vec<gst::Pad> = fronts.iter().filter_map(|front| row[*front].static_pad("sink")).collect();
        let clocks = Clocks::start(meters, &borders);
        Ok(Self { bin, effects: links, clocks, spec })
    }

    /// The element.
    pub fn element(&self) -> &gst::Element {
        self.bin.upcast_ref()
    }

    /// What each effect took of a processor.
    pub fn costs(&self) -> Vec<EffectCost> {
        let book = CostBook::default();
        book.show(&self.clocks);
        book.read()
    }

    /// Has its effects' costs in the book from now on.
    pub(super) fn note_costs(&self, book: &CostBook) {
        book.count_in(&self.clocks);
    }

    /// What it is made of.
    pub fn spec(&self) -> &[Applied] {
        &self.spec
    }

    /// Becomes `spec` without being made anew, if only parameters differ that may change while it runs.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if an element does not take a value.
    pub fn adjust(&mut self, spec: &[Applied]) -> Result<bool, MediaError> {
        let catalogue: Vec<_> = self.effects.iter().map(|link| link.file.effect()).collect();
        let Some(changes) = changed_live(&self.spec, spec, &catalogue) else { return Ok(false) };
        for (index, values) in changes {
            let link = &self.effects[index];
            link.state().values = values.clone();
            link.apply()?;
        }
        self.spec = spec.to_vec();
        Ok(true)
    }

    /// Sends a few frames of a test picture or sound through it. Takes some milliseconds.
    ///
    /// # Errors
    /// [`MediaError::Element`] with what an element said; [`MediaError::Deadline`].
    pub fn play_once(&self) -> Result<(), MediaError> {
        let kind = if self.effects.first().is_some_and(|link| link.file.kind() == Kind::Audio) {
            "audiotestsrc num-buffers=3 samplesperbuffer=960 ! capsfilter caps=audio/x-raw,format=S16LE,rate=48000,channels=2"
        } else {
            "videotestsrc num-buffers=2 ! capsfilter caps=video/x-raw,format=I420,width=320,height=180,framerate=25/1"
        };
        let pipeline = gst::Pipeline::new();
        let source = gst::parse::bin_from_description(kind, true).map_err(|error| failed(&error))?;
        let sink = make("fakesink")?;
        let row = [source.upcast_ref(), self.element(), &sink];
        pipeline.add_many(row).and_then(|()| gst::Element::link_many(row)).map_err(|error| failed(&error))?;
        let played = play_to_end(&pipeline);
        let _ = pipeline.set_state(gst::State::Null);
        played
    }
}

impl Link {
    /// Gives the elements that belong in the chain, too.
    fn build(
        file: Arc<EffectFile>,
        applied: &Applied,
        album: &Album,
        reports: &Reports,
        meter: &Arc<Meter>,
    ) -> Result<(Arc<Self>, Vec<gst::Element>), MediaError> {
        let bin = file.build(&applied.params).map_err(MediaError::Unavailable)?;
        let native = file.native.iter().map(|(name, kind)| {
            let element = bin.by_name(name).ok_or_else(|| MediaError::Unavailable(name.clone()))?;
            let step = NativeStep::attach(*kind, &element, album, reports, meter).map_err(MediaError::Unavailable)?;
            Ok((name.clone(), step))
        });
        let native = native.collect::<Result<BTreeMap<_, _>, MediaError>>()?;
        let mut elements = vec![bin.clone().upcast()];
        let size = match file.restore {
            Some(restore) => {
                let (scale, size) = (scaler(restore)?, make("capsfilter")?);
                elements.extend([scale, size.clone()]);
                Some(size)
            }
            None => None,
        };
        let state = Mutex::new(State { values: applied.params.clone(), frame: None });
        let link = Arc::new(Self { file, bin, native, size, state });
        link.apply()?;
        link.follow_size();
        Ok((link, elements))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }

    fn apply(&self) -> Result<(), MediaError> {
        let (values, frame) = {
            let state = self.state();
            (state.values.clone(), state.frame)
        };
        let native = |element: &str, property: &str, value: &Value| match self.native.get(element) {
            Some(step) => step.set(property, value),
            None => Ok(()),
        };
        self.file.apply(&self.bin, &values, frame, native).map_err(MediaError::Unavailable)?;
        if let (Some(size), Some((width, height))) = (&self.size, frame)
            && let Ok(caps) = size_caps(width, height).parse::<gst::Caps>()
        {
            size.set_property("caps", caps);
        }
        Ok(())
    }

    /// Learns the picture's size before the elements do: what depends on it is set by then.
    fn follow_size(self: &Arc<Self>) {
        let Some(pad) = self.bin.static_pad("sink") else { return };
        let link: Weak<Self> = Arc::downgrade(self);
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view()) else {
                return gst::PadProbeReturn::Ok;
            };
            if let (Some(link), Some(frame)) = (link.upgrade(), frame_size(caps.caps())) {
                link.state().frame = Some(frame);
                if let Err(error) = link.apply() {
                    tracing::error!("an effect does not take the picture's size: {error}");
                }
            }
            gst::PadProbeReturn::Ok
        });
    }
}

/// Width and height of raw video, in pixels.
pub(super) fn frame_size(caps: &gst::CapsRef) -> Option<(u32, u32)> {
    let structure = caps.structure(0).filter(|structure| structure.name().starts_with("video/"))?;
    let side = |name| structure.get::<i32>(name).ok().and_then(|side| u32::try_from(side).ok());
    Some((side("width")?, side("height")?))
}

fn play_to_end(pipeline: &gst::Pipeline) -> Result<(), MediaError> {
    let bus = pipeline.bus().ok_or_else(|| failed(&"a pipeline without a bus"))?;
    let _ = pipeline.set_state(gst::State::Playing);
    let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
    match bus.timed_pop_filtered(TRIAL_LIMIT, &wanted).as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => {
            let debug = error.debug().unwrap_or_default();
            Err(failed(&format!("{}: {}", error.error(), debug.lines().last().unwrap_or_default())))
        }
        Some(_) => Ok(()),
        None => Err(MediaError::Deadline { step: "trying an effect", limit: TRIAL_LIMIT.into() }),
    }
}

/// Does nothing where the formats agree.
fn convert(kind: Kind) -> Result<gst::Element, MediaError> {
    make(if kind == Kind::Video { "videoconvert" } else { "audioconvert" })
}

fn scaler(restore: Restore) -> Result<gst::Element, MediaError> {
    let scale = make("videoconvertscale")?;
    scale.set_property("add-borders", restore == Restore::Borders);
    scale.set_property_from_str("method", if restore == Restore::Blocks { "nearest-neighbour" } else { "bilinear" });
    Ok(scale)
}

pub(super) fn make(factory: &str) -> Result<gst::Element, MediaError> {
    gst::ElementFactory::make(factory).build().map_err(|_| MediaError::Unavailable(factory.into()))
}

pub(super) fn failed(error: &dyn std::fmt::Display) -> MediaError {
    MediaError::Element { element: "effects".into(), message: error.to_string() }
}
