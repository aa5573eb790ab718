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
        preset::{GridLayout, Presets, Slate},
    },
    OfflineSpec, add_behind,
    input::Input,
    make,
    sound::Pace,
    source_pad,
};
use crate::media::{
    MediaError,
    gst::mixer::Canvas,
    layout::{self, Rect},
};

/// Which lies over which.
const BACKDROP: u32 = 0;
const LIVE: u32 = 1;
const LABEL: u32 = 2;
/// Distance of a name from its tile's left and lower edge, and of the title from the top, in pixels.
const INSET: u32 = 8;
/// An input's time while it has not ended.
const NOT_ENDED: u64 = u64::MAX;

/// The compositor and all before it.
#[derive(Debug)]
pub struct Picture {
    output: gst::Pad,
    pace: Arc<Pace>,
}

/// Builds the parts, which share this.
struct Builder<'a> {
    pipeline: &'a gst::Pipeline,
    compositor: gst::Element,
    layout: &'a GridLayout,
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
        let builder = Builder {
            pipeline,
            compositor: compositor.clone(),
            layout: presets.layout(&spec.layout)?,
            slate: presets.slate()?,
            canvas: spec.canvas,
            colorimetry: colorimetry(&inputs[0]),
        };
        let format = make("capsfilter")?;
        let caps = builder.caps(spec.canvas.width, spec.canvas.height);
        format.set_property("caps", caps.framerate((spec.canvas.fps as i32, 1).into()).build());
        pipeline.add(&compositor).map_err(|error| failed(&error))?;
        let out = source_pad(&compositor);
        add_behind(pipeline, &out, std::slice::from_ref(&format))?;
        builder.end_with_the_inputs()?;
        let rects = builder.rects(inputs.len());
        builder.backdrop(&rects)?;
        let mut tiles = Vec::new();
        for ((input, rect), named) in inputs.iter().zip(&rects).zip(&spec.inputs) {
            tiles.push(builder.tile(input, *rect)?);
            if spec.labels {
                builder.name(&named.label, *rect)?;
            }
        }
        if let Some(title) = &spec.title {
            builder.title(title)?;
        }
        let pace = Arc::new(Pace::default());
        follow(&out, pace.clone(), tiles, builder.slate.freeze().as_nanos() as u64);
        Ok(Self { output: source_pad(&format), pace })
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

    fn rects(&self, tiles: usize) -> Vec<Rect> {
        layout::grid(self.canvas.width, self.canvas.height, tiles, self.layout.aspect(), self.layout.gap_px)
    }

    fn tile(&self, input: &Input, rect: Rect) -> Result<Tile, MediaError> {
        let mut row = Vec::new();
        if let Some(dropper) = self.dropper(&input.video.caps)? {
            row.push(dropper);
        }
        let convert = make("videoconvertscale")?;
        convert.set_property("add-borders", true);
        let same = input.video.caps.structure(0).and_then(|caps| caps.get::<String>("colorimetry").ok());
        if same.is_none_or(|colorimetry| colorimetry == self.colorimetry) {
            convert.set_property_from_str("matrix-mode", "none");
        }
        convert.set_property_from_str("chroma-mode", "none");
        let size = make("capsfilter")?;
        size.set_property("caps", self.caps(rect.width, rect.height).build());
        row.extend([convert, size]);
        add_behind(self.pipeline, &input.video.pad, &row)?;
        let pad = self.request_pad(LIVE)?;
        if input.live {
            pad.set_property("max-last-buffer-repeat", self.slate.freeze().as_nanos() as u64);
        }
        place(&pad, rect);
        source_pad(&row[row.len() - 1]).link(&pad).map_err(|error| failed(&error))?;
        let ended_ns = note_end(&pad);
        Ok(Tile { pad, ended_ns, hidden: AtomicBool::new(false) })
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

    fn backdrop(&self, rects: &[Rect]) -> Result<(), MediaError> {
        let mut drawing = Drawing::new(self.canvas.width, self.canvas.height, self.layout.background);
        for (index, rect) in rects.iter().enumerate() {
            drawing.fill(*rect, self.slate.colours[index % self.slate.colours.len()]);
        }
        self.still(&drawing, BACKDROP).map(drop)
    }

    fn name(&self, text: &str, rect: Rect) -> Result<(), MediaError> {
        let max_width = rect.width.saturating_sub(2 * INSET) & !1;
        let letter_px = self.layout.label.letter_px(rect.height);
        let Some(drawing) = text::draw(text, &self.layout.label, letter_px, max_width)? else { return Ok(()) };
        let (width, height) = drawing.size();
        let y = (rect.y + rect.height).saturating_sub(height + INSET) & !1;
        self.label(&drawing, Rect { x: rect.x + INSET, y, width, height })
    }

    fn title(&self, text: &str) -> Result<(), MediaError> {
        let Canvas { width, height, .. } = self.canvas;
        let letter_px = self.layout.label.letter_px(height);
        let Some(drawing) = text::draw(text, &self.layout.label, letter_px, width.saturating_sub(2 * INSET))? else {
            return Ok(());
        };
        let (drawn, high) = drawing.size();
        self.label(&drawing, Rect { x: ((width - drawn.min(width)) / 2) & !1, y: INSET, width: drawn, height: high })
    }

    fn label(&self, drawing: &Drawing, rect: Rect) -> Result<(), MediaError> {
        let pad = self.still(drawing, LABEL)?;
        pad.set_property("alpha", self.layout.label.opacity);
        place(&pad, rect);
        Ok(())
    }

    /// A picture that is sent once and shown to the end.
    fn still(&self, drawing: &Drawing, z: u32) -> Result<gst::Pad, MediaError> {
        let source = gst_app::AppSrc::builder().format(gst::Format::Time).build();
        self.pipeline.add(&source).map_err(|error| failed(&error))?;
        let pad = self.request_pad(z)?;
        source_pad(source.upcast_ref()).link(&pad).map_err(|error| failed(&error))?;
        source.sync_state_with_parent().map_err(|error| failed(&error))?;
        let (width, height) = drawing.size();
        let caps = self.caps(width, height).framerate((0, 1).into()).build();
        let drawn = drawing.sample(gst::ClockTime::ZERO);
        let sample = gst::Sample::builder().caps(&caps);
        let sample = drawn.buffer_owned().map(|buffer| sample.buffer(&buffer).build());
        let pushed = sample.map(|sample| source.push_sample(&sample)).transpose();
        pushed.and_then(|_| source.end_of_stream()).map_err(|error| failed(&error))?;
        Ok(pad)
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
    fn end_with_the_inputs(&self) -> Result<(), MediaError> {
        let pad = self.request_pad(BACKDROP)?;
        pad.set_property("repeat-after-eos", false);
        pad.set_active(true).map_err(|error| failed(&error))?;
        pad.send_event(gst::event::StreamStart::new("end"));
        pad.send_event(gst::event::Eos::new());
        Ok(())
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

/// The first input's: most recordings are made of inputs of one kind, and then nothing is converted.
fn colorimetry(input: &Input) -> String {
    let own = input.video.caps.structure(0).and_then(|caps| caps.get::<String>("colorimetry").ok());
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
