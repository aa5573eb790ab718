//! The picture: a backdrop with a slate for each input, the inputs' pictures over the slates, names
//! and title over all.
//!
//! Pictures are brought to their tiles' size and to one colorimetry before the compositor, which then
//! only copies. Backdrop, names and title are sent once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use gst::prelude::*;

use super::{
    super::{
        mixer::{picture::Picture as Drawing, text},
        preset::{LayoutStyle, Presets, Slate},
    },
    OfflineSpec, add_behind,
    input::Input,
    make,
    sound::Pace,
    source_pad,
};
use crate::{
    media::{
        LayoutChoice, LayoutKind, LayoutSpec, MediaError, Scene, Tile as Seen,
        gst::mixer::Canvas,
        layout::{self, Placed, Rect},
    },
    room::id::ParticipantId,
};

/// Which lies over which: each tile takes two, its picture and its name.
const BACKDROP: u32 = 0;
const FIRST_TILE: u32 = 1;
const TITLE: u32 = 1000;
/// Pictures that nobody sees are brought to this size: their time counts all the same.
const UNSEEN: Rect = Rect { x: 0, y: 0, width: 16, height: 16 };
/// Distance of a name from its tile's left and lower edge, and of the title from the top, in pixels.
const INSET: u32 = 8;
/// An input's time while it has not ended.
const NOT_ENDED: u64 = u64::MAX;

/// The compositor and all before it.
#[derive(Debug)]
pub struct Picture {
    output: gst::Pad,
    pace: Arc<Pace>,
    stills: Vec<Still>,
    /// See [`Builder::end_with_the_inputs`].
    end: gst::Pad,
}

/// A picture that is sent once and shown to the end.
#[derive(Debug)]
struct Still {
    source: gst_app::AppSrc,
    sample: gst::Sample,
}

/// Builds the parts, which share this.
struct Builder<'a> {
    pipeline: &'a gst::Pipeline,
    compositor: gst::Element,
    style: &'a LayoutStyle,
    slate: &'a Slate,
    canvas: Canvas,
    /// Of everything in the picture.
    colorimetry: String,
}

/// When a tile's input ended, for the slate to take its place.
struct Tile {
    pad: gst::Pad,
    ended_ns: Arc<AtomicU64>,
    hidden: AtomicBool,
}

impl Picture {
    pub fn build(
        pipeline: &gst::Pipeline,
        presets: &Presets,
        spec: &OfflineSpec,
        inputs: &[Input],
    ) -> Result<Self, MediaError> {
        let compositor = make("compositor")?;
        // The backdrop covers everything: nothing is to be painted below it.
        compositor.set_property_from_str("background", "transparent");
        let choice = LayoutChoice::Name(spec.layout.clone());
        let (layout, style) = presets.resolve(Some(&choice), &LayoutSpec::default())?;
        let builder = Builder {
            pipeline,
            compositor: compositor.clone(),
            style,
            slate: presets.slate()?,
            canvas: spec.canvas,
            colorimetry: colorimetry(inputs),
        };
        let format = make("capsfilter")?;
        let caps = builder.caps(spec.canvas.width, spec.canvas.height);
        format.set_property("caps", caps.framerate((spec.canvas.fps as i32, 1).into()).build());
        pipeline.add(&compositor).map_err(|error| failed(&error))?;
        let out = source_pad(&compositor);
        add_behind(pipeline, &out, std::slice::from_ref(&format))?;
        let end = builder.end_with_the_inputs()?;
        let mut stills = Vec::new();
        let seen: Vec<_> = inputs.iter().zip(&spec.inputs).filter(|(input, _)| input.video.is_some()).collect();
        let Canvas { width, height, .. } = spec.canvas;
        let places = layout::arrange(&layout, &scene(layout.kind, seen.len()), width, height, &style.measures());
        stills.push(builder.backdrop(&places)?);
        let mut tiles = Vec::new();
        for (index, (input, named)) in seen.into_iter().enumerate() {
            let place = places.iter().enumerate().find(|(_, place)| place.tile == index);
            let z = place.map_or(BACKDROP, |(order, _)| FIRST_TILE + 2 * order as u32);
            let shown = place.map(|(_, place)| place).filter(|place| place.picture).map(|place| place.rect);
            tiles.extend(builder.tile(input, shown, z)?);
            if let Some((_, place)) = place.filter(|_| spec.labels) {
                stills.extend(builder.name(&named.label, place.rect, z + 1)?);
            }
        }
        if let Some(title) = &spec.title {
            stills.extend(builder.title(title)?);
        }
        let pace = Arc::new(Pace::default());
        follow(&out, pace.clone(), tiles, builder.slate.freeze().as_nanos() as u64);
        Ok(Self { output: source_pad(&format), pace, stills, end })
    }

    /// Once all of it runs, and before the inputs do: whatever is sent to an element that was not started is lost.
    pub fn start(&self) -> Result<(), MediaError> {
        self.end.send_event(gst::event::StreamStart::new("end"));
        self.end.send_event(gst::event::Eos::new());
        self.stills.iter().try_for_each(|Still { source, sample }| {
            let pushed = source.push_sample(sample).and_then(|_| source.end_of_stream());
            pushed.map(drop).map_err(|error| failed(&error))
        })
    }

    /// I420 of the canvas's size.
    pub fn output(&self) -> &gst::Pad {
        &self.output
    }

    /// How far it is.
    pub fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }
}

impl Drop for Picture {
    /// The silence must not wait any more when the pipeline ends.
    fn drop(&mut self) {
        self.pace.end();
    }
}

impl Builder<'_> {
    fn caps(&self, width: u32, height: u32) -> gst_video::VideoCapsBuilder<gst::caps::NoFeature> {
        super::super::mixer::picture::raw_caps(width, height).field("colorimetry", self.colorimetry.as_str())
    }

    /// `shown`: where; `None`: nowhere, and yet it is waited for.
    fn tile(&self, input: &Input, shown: Option<Rect>, z: u32) -> Result<Option<Tile>, MediaError> {
        let Some(video) = &input.video else { return Ok(None) };
        let rect = shown.unwrap_or(UNSEEN);
        let mut row = Vec::new();
        if let Some(dropper) = self.dropper(&video.caps)? {
            row.push(dropper);
        }
        let convert = make("videoconvertscale")?;
        convert.set_property("add-borders", true);
        let same = video.caps.structure(0).and_then(|caps| caps.get::<String>("colorimetry").ok());
        if same.is_none_or(|colorimetry| colorimetry == self.colorimetry) {
            convert.set_property_from_str("matrix-mode", "none");
        }
        convert.set_property_from_str("chroma-mode", "none");
        let size = make("capsfilter")?;
        size.set_property("caps", self.caps(rect.width, rect.height).build());
        row.extend([convert, size]);
        add_behind(self.pipeline, &video.pad, &row)?;
        let pad = self.request_pad(z)?;
        if shown.is_none() {
            pad.set_property("alpha", 0.0);
        }
        if input.live {
            pad.set_property("max-last-buffer-repeat", self.slate.freeze().as_nanos() as u64);
        }
        place(&pad, rect);
        source_pad(&row[row.len() - 1]).link(&pad).map_err(|error| failed(&error))?;
        let ended_ns = note_end(&pad);
        Ok(Some(Tile { pad, ended_ns, hidden: AtomicBool::new(false) }))
    }

    /// For an input of more frames than the file has: those that nobody will see are not scaled.
    fn dropper(&self, caps: &gst::Caps) -> Result<Option<gst::Element>, MediaError> {
        let rate = caps.structure(0).and_then(|caps| caps.get::<gst::Fraction>("framerate").ok());
        let wanted = self.canvas.fps as i32;
        if rate.is_none_or(|rate| rate.numer() <= wanted.saturating_mul(rate.denom())) {
            return Ok(None);
        }
        let dropper = make("videorate")?;
        dropper.set_property("drop-only", true);
        dropper.set_property("max-rate", wanted);
        Ok(Some(dropper))
    }

    fn backdrop(&self, places: &[Placed]) -> Result<Still, MediaError> {
        let mut drawing = Drawing::new(self.canvas.width, self.canvas.height, self.style.background);
        for place in places {
            drawing.fill(place.rect, self.slate.colours[place.tile % self.slate.colours.len()]);
        }
        self.still(&drawing, BACKDROP).map(|(still, _)| still)
    }

    fn name(&self, text: &str, rect: Rect, z: u32) -> Result<Option<Still>, MediaError> {
        let max_width = rect.width.saturating_sub(2 * INSET) & !1;
        let letter_px = self.style.label.letter_px(rect.height);
        let Some(drawing) = text::draw(text, &self.style.label, letter_px, max_width)? else { return Ok(None) };
        let (width, height) = drawing.size();
        let y = (rect.y + rect.height).saturating_sub(height + INSET) & !1;
        self.label(&drawing, Rect { x: rect.x + INSET, y, width, height }, z).map(Some)
    }

    fn title(&self, text: &str) -> Result<Option<Still>, MediaError> {
        let Canvas { width, height, .. } = self.canvas;
        let letter_px = self.style.label.letter_px(height);
        let Some(drawing) = text::draw(text, &self.style.label, letter_px, width.saturating_sub(2 * INSET))? else {
            return Ok(None);
        };
        let (drawn, high) = drawing.size();
        let rect = Rect { x: ((width - drawn.min(width)) / 2) & !1, y: INSET, width: drawn, height: high };
        self.label(&drawing, rect, TITLE).map(Some)
    }

    fn label(&self, drawing: &Drawing, rect: Rect, z: u32) -> Result<Still, MediaError> {
        let (still, pad) = self.still(drawing, z)?;
        pad.set_property("alpha", self.style.label.opacity);
        place(&pad, rect);
        Ok(still)
    }

    fn still(&self, drawing: &Drawing, z: u32) -> Result<(Still, gst::Pad), MediaError> {
        let source = gst_app::AppSrc::builder().format(gst::Format::Time).build();
        self.pipeline.add(&source).map_err(|error| failed(&error))?;
        let pad = self.request_pad(z)?;
        source_pad(source.upcast_ref()).link(&pad).map_err(|error| failed(&error))?;
        let (width, height) = drawing.size();
        let caps = self.caps(width, height).framerate((0, 1).into()).build();
        let drawn = drawing.sample(gst::ClockTime::ZERO);
        let sample = gst::Sample::builder().caps(&caps);
        let buffer = drawn.buffer_owned().ok_or_else(|| failed(&"a drawing is empty"))?;
        let sample = sample.buffer(&buffer).build();
        Ok((Still { source, sample }, pad))
    }

    /// A pad that keeps its picture when it ends.
    fn request_pad(&self, z: u32) -> Result<gst::Pad, MediaError> {
        let pad = self.compositor.request_pad_simple("sink_%u").ok_or_else(|| failed(&"compositor gave no pad"))?;
        pad.set_property("zorder", z);
        pad.set_property("repeat-after-eos", true);
        Ok(pad)
    }

    /// A compositor whose every pad keeps its picture goes on for ever when all have ended: one that
    /// keeps none, and has ended from the beginning, makes it end with the last of the others.
    fn end_with_the_inputs(&self) -> Result<gst::Pad, MediaError> {
        let pad = self.request_pad(BACKDROP)?;
        pad.set_property("repeat-after-eos", false);
        Ok(pad)
    }
}

/// Notes the running time at which a pad's last picture begins, once it has ended.
fn note_end(pad: &gst::Pad) -> Arc<AtomicU64> {
    let ended_ns = Arc::new(AtomicU64::new(NOT_ENDED));
    let (noted, last_ns) = (ended_ns.clone(), AtomicU64::new(0));
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(kinds, move |pad, info| {
        match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => {
                let segment = pad.sticky_event::<gst::event::Segment>(0);
                let segment = segment.as_ref().and_then(|event| event.segment().downcast_ref::<gst::ClockTime>());
                if let Some(time) = segment.zip(buffer.pts()).and_then(|(segment, pts)| segment.to_running_time(pts)) {
                    last_ns.store(time.nseconds(), Relaxed);
                }
            }
            Some(gst::PadProbeData::Event(event)) if event.type_() == gst::EventType::Eos => {
                noted.store(last_ns.load(Relaxed), Relaxed);
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
    ended_ns
}

/// On the compositor's thread, at each of its frames: says how far it is, and uncovers the slate of
/// an input that ended `freeze_ns` ago.
fn follow(out: &gst::Pad, pace: Arc<Pace>, tiles: Vec<Tile>, freeze_ns: u64) {
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    out.add_probe(kinds, move |_, info| {
        match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => {
                let Some(time) = buffer.pts() else { return gst::PadProbeReturn::Ok };
                pace.reach(time + buffer.duration().unwrap_or_default());
                let over = |tile: &&Tile| tile.ended_ns.load(Relaxed).saturating_add(freeze_ns) <= time.nseconds();
                for tile in tiles.iter().filter(over).filter(|tile| !tile.hidden.swap(true, Relaxed)) {
                    tile.pad.set_property("alpha", 0.0);
                }
            }
            Some(gst::PadProbeData::Event(event)) if event.type_() == gst::EventType::Eos => pace.end(),
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}

/// A tile for each picture. Where a layout has a place for a screen, the first has it.
fn scene(kind: LayoutKind, pictures: usize) -> Scene {
    let tile = |index| Seen {
        participant: ParticipantId::random(),
        label: String::new(),
        video: None,
        screen: index == 0 && matches!(kind, LayoutKind::Presentation),
    };
    Scene { tiles: (0..pictures).map(tile).collect(), ..Default::default() }
}

/// The first picture's: most recordings are made of inputs of one kind, and then nothing is converted.
fn colorimetry(inputs: &[Input]) -> String {
    let first = inputs.iter().find_map(|input| input.video.as_ref());
    let own = first.and_then(|video| video.caps.structure(0)).and_then(|caps| caps.get::<String>("colorimetry").ok());
    own.filter(|own| ["bt601", "bt709"].contains(&own.as_str()))
        .unwrap_or_else(|| super::super::mixer::picture::COLORIMETRY.into())
}

fn place(pad: &gst::Pad, rect: Rect) {
    let properties = [("xpos", rect.x), ("ypos", rect.y), ("width", rect.width), ("height", rect.height)];
    for (property, value) in properties {
        pad.set_property(property, value as i32);
    }
}

fn failed(error: &dyn std::fmt::Display) -> MediaError {
    MediaError::Element { element: "offline picture".into(), message: error.to_string() }
}
