//! The picture of a mix: a backdrop with a slate for everybody, live pictures over the slates, and
//! nicknames over all.
//!
//! Slates need no switching: a live picture that never came, or stands still for too long, is not
//! drawn by the compositor (`max-last-buffer-repeat`), and what is below it shows. Backdrop and
//! labels are still pictures, sent once for each change.

use std::{collections::HashMap, sync::Arc};

use gst::prelude::*;
use gst_utils::streamproducer::{ConsumerSettings, ConsumptionLink};

use super::{
    super::{
        Track, TrackTable,
        decoder::{Decoder, Decoders},
        preset::{GridLayout, Slate},
    },
    BACKLOG, Canvas, add_behind, live_source, make, make_live,
    picture::{Picture, raw_caps},
    remove_branch, text,
};
use crate::{
    media::{
        MediaError, Tile,
        layout::{self, Rect},
    },
    room::id::{ParticipantId, TrackId},
};

/// Which lies over which.
const BACKDROP: u32 = 0;
const LIVE: u32 = 1;
const LABEL: u32 = 2;
/// Distance of a label from its tile's left and lower edge, in pixels.
const LABEL_INSET: u32 = 8;

/// A participant, and which of his tiles.
type TileKey = (ParticipantId, usize);

#[derive(Debug)]
pub struct VideoMix {
    pipeline: gst::glib::WeakRef<gst::Pipeline>,
    decoders: Decoders,
    layout: GridLayout,
    slate: Slate,
    canvas: Canvas,
    compositor: gst::Element,
    output: gst::Element,
    epoch: gst::ClockTime,
    backdrop: Still,
    /// What the backdrop shows; `None` before it was drawn.
    slates: Option<Vec<(Rect, usize)>>,
    views: HashMap<TileKey, View>,
    /// Which of the slate's colours comes next.
    next_colour: usize,
}

/// What one tile is made of.
#[derive(Debug, Default)]
struct View {
    live: Option<Live>,
    label: Option<Label>,
    colour: usize,
}

/// A picture that moves.
#[derive(Debug)]
struct Live {
    track: TrackId,
    // Dropped first: nothing is pushed into a branch that is being taken down.
    link: ConsumptionLink,
    decoder: Arc<Decoder>,
    elements: Vec<gst::Element>,
    pad: gst::Pad,
    rect: Rect,
}

/// A nickname, as it was drawn.
#[derive(Debug)]
struct Label {
    still: Still,
    text: String,
    letter_px: u32,
    max_width: u32,
    size: (u32, u32),
}

/// A picture that is sent once and shown until the next.
#[derive(Debug)]
struct Still {
    source: gst_app::AppSrc,
    pad: gst::Pad,
}

impl VideoMix {
    pub fn new(
        pipeline: &gst::Pipeline,
        decoders: &Decoders,
        layout: &GridLayout,
        slate: &Slate,
        canvas: Canvas,
    ) -> Result<Self, MediaError> {
        let compositor = make_live("compositor")?;
        // The backdrop covers everything: nothing is to be painted below it.
        compositor.set_property_from_str("background", "transparent");
        let output = make("capsfilter")?;
        let caps = raw_caps(canvas.width, canvas.height).framerate((canvas.fps as i32, 1).into()).build();
        output.set_property("caps", &caps);
        pipeline.add(&compositor).map_err(|error| failed(&error))?;
        add_behind(pipeline, &compositor, std::slice::from_ref(&output))?;
        let backdrop = Still::new(pipeline, &compositor, BACKDROP)?;
        Ok(Self {
            pipeline: pipeline.downgrade(),
            decoders: decoders.clone(),
            layout: layout.clone(),
            slate: slate.clone(),
            canvas,
            compositor,
            output,
            epoch: gst::ClockTime::ZERO,
            backdrop,
            slates: None,
            views: HashMap::new(),
            next_colour: 0,
        })
    }

    /// I420 of the canvas's size.
    pub fn output(&self) -> &gst::Element {
        &self.output
    }

    /// Before the pipeline starts: its running time 0 is that time of the room.
    pub fn begin_at(&mut self, epoch: gst::ClockTime) {
        self.epoch = epoch;
    }

    pub fn decoders(&self) -> impl Iterator<Item = (TrackId, Arc<Decoder>)> {
        let lives = self.views.values().filter_map(|view| view.live.as_ref());
        lives.map(|live| (live.track.clone(), live.decoder.clone()))
    }

    /// Exactly these are shown from the room's running time `from` on, in this order. The pipeline must have
    /// been started: nothing can be sent into one that was not.
    pub fn set_tiles(&mut self, tiles: &[Tile], tracks: &TrackTable, from: gst::ClockTime) {
        let Some(pipeline) = self.pipeline.upgrade() else { return };
        let from = from.saturating_sub(self.epoch);
        let tiles = &tiles[..tiles.len().min(layout::MAX_TILES)];
        let rects =
            layout::grid(self.canvas.width, self.canvas.height, tiles.len(), self.layout.aspect(), self.layout.gap_px);
        let keys = keys(tiles);
        let gone: Vec<_> = self.views.keys().filter(|key| !keys.contains(key)).cloned().collect();
        for key in gone {
            if let Some(view) = self.views.remove(&key) {
                self.end(&pipeline, view);
            }
        }
        let mut slates = Vec::new();
        for ((tile, rect), key) in tiles.iter().zip(rects).zip(keys) {
            let mut view = self.views.remove(&key).unwrap_or_else(|| self.new_view());
            self.show(&pipeline, &mut view, tile, rect, tracks);
            self.name(&pipeline, &mut view, &tile.label, rect, from);
            slates.push((rect, view.colour));
            self.views.insert(key, view);
        }
        if self.slates.as_ref() != Some(&slates) {
            self.draw_backdrop(&slates, from);
            self.slates = Some(slates);
        }
    }

    fn new_view(&mut self) -> View {
        let colour = self.next_colour;
        self.next_colour = (colour + 1) % self.slate.colours.len();
        View { colour, ..Default::default() }
    }

    fn show(&self, pipeline: &gst::Pipeline, view: &mut View, tile: &Tile, rect: Rect, tracks: &TrackTable) {
        let wanted = tile.video.as_ref().and_then(|id| tracks.get(id));
        if let Some(live) = view.live.take_if(|live| wanted.is_none_or(|track| track.id != live.track)) {
            self.end_live(pipeline, live);
        }
        match (&mut view.live, wanted) {
            (Some(live), _) => live.place(rect),
            (none, Some(track)) => match self.add_live(pipeline, track, rect) {
                Ok(live) => *none = Some(live),
                Err(error) => tracing::warn!(track.id = %track.id, "cannot be seen in the mix: {error}"),
            },
            (_, None) => {}
        }
    }

    fn add_live(&self, pipeline: &gst::Pipeline, track: &Arc<Track>, rect: Rect) -> Result<Live, MediaError> {
        let decoder = self.decoders.get(track)?;
        let source = live_source(self.epoch);
        let convert = make("videoconvertscale")?;
        convert.set_property("add-borders", true);
        // WebRTC's pictures are BT.601 whatever their size; GStreamer's guess for large ones would
        // cost a conversion of every pixel, and be wrong.
        convert.set_property_from_str("matrix-mode", "none");
        convert.set_property_from_str("chroma-mode", "none");
        let size = make("capsfilter")?;
        size.set_property("caps", raw_caps(rect.width, rect.height).build());
        pipeline.add(&source).map_err(|error| failed(&error))?;
        add_behind(pipeline, source.upcast_ref(), &[convert.clone(), size.clone()])?;
        let pad = request_pad(&self.compositor, LIVE)?;
        pad.set_property("max-last-buffer-repeat", self.slate.freeze().as_nanos() as u64);
        let out = size.static_pad("src").expect("a capsfilter has a source pad");
        out.link(&pad).map_err(|error| failed(&error))?;
        let elements = vec![source.clone().upcast(), convert, size];
        place(&pad, rect);
        for element in elements.iter().rev() {
            element.sync_state_with_parent().map_err(|error| failed(&error))?;
        }
        let settings = ConsumerSettings { max_time: BACKLOG, ..Default::default() };
        let link = decoder.producer.add_consumer_with(&source, settings).map_err(|error| failed(&error))?;
        Ok(Live { track: track.id.clone(), link, decoder, elements, pad, rect })
    }

    fn name(&self, pipeline: &gst::Pipeline, view: &mut View, text: &str, rect: Rect, from: gst::ClockTime) {
        if let Err(error) = self.label(pipeline, view, text, rect, from) {
            tracing::warn!("a nickname cannot be drawn: {error}");
        }
    }

    /// Draws the nickname again if it, or the room for it, has changed; else only moves it.
    fn label(
        &self,
        pipeline: &gst::Pipeline,
        view: &mut View,
        text: &str,
        rect: Rect,
        from: gst::ClockTime,
    ) -> Result<(), MediaError> {
        let style = &self.layout.label;
        let letter_px = style.letter_px(rect.height);
        let max_width = rect.width.saturating_sub(2 * LABEL_INSET) & !1;
        let same =
            |label: &mut Label| label.text == text && label.letter_px == letter_px && label.max_width == max_width;
        if !view.label.as_mut().is_some_and(same) {
            let Some(picture) = text::draw(text, style, letter_px, max_width)? else {
                if let Some(label) = view.label.take() {
                    self.end_still(pipeline, label.still);
                }
                return Ok(());
            };
            let still = match view.label.take() {
                Some(label) => label.still,
                None => Still::new(pipeline, &self.compositor, LABEL)?,
            };
            still.pad.set_property("alpha", style.opacity);
            still.show(&picture, from)?;
            view.label = Some(Label { still, text: text.into(), letter_px, max_width, size: picture.size() });
        }
        if let Some(label) = &view.label {
            let (width, height) = label.size;
            let y = (rect.y + rect.height).saturating_sub(height + LABEL_INSET) & !1;
            place(&label.still.pad, Rect { x: rect.x + LABEL_INSET, y, width, height });
        }
        Ok(())
    }

    fn draw_backdrop(&self, slates: &[(Rect, usize)], from: gst::ClockTime) {
        let mut picture = Picture::new(self.canvas.width, self.canvas.height, self.layout.background);
        for (rect, colour) in slates {
            picture.fill(*rect, self.slate.colours[colour % self.slate.colours.len()]);
        }
        if let Err(error) = self.backdrop.show(&picture, from) {
            tracing::error!("the backdrop cannot be shown: {error}");
        }
    }

    fn end(&self, pipeline: &gst::Pipeline, view: View) {
        if let Some(live) = view.live {
            self.end_live(pipeline, live);
        }
        if let Some(label) = view.label {
            self.end_still(pipeline, label.still);
        }
    }

    fn end_live(&self, pipeline: &gst::Pipeline, live: Live) {
        let Live { link, decoder, elements, pad, .. } = live;
        drop((link, decoder));
        remove_branch(pipeline, &self.compositor, &pad, &elements);
    }

    fn end_still(&self, pipeline: &gst::Pipeline, still: Still) {
        remove_branch(pipeline, &self.compositor, &still.pad, &[still.source.upcast()]);
    }
}

impl Live {
    fn place(&mut self, rect: Rect) {
        if (rect.width, rect.height) != (self.rect.width, self.rect.height) {
            let size = &self.elements[self.elements.len() - 1];
            size.set_property("caps", raw_caps(rect.width, rect.height).build());
        }
        self.rect = rect;
        place(&self.pad, rect);
    }
}

impl Still {
    fn new(pipeline: &gst::Pipeline, compositor: &gst::Element, z: u32) -> Result<Self, MediaError> {
        let source = gst_app::AppSrc::builder()
            .format(gst::Format::Time)
            .is_live(true)
            .max_buffers(4)
            .leaky_type(gst_app::AppLeakyType::Downstream)
            .build();
        // Without this a live source answers with what its own start took, as the most it can wait.
        source.set_latency(gst::ClockTime::ZERO, gst::ClockTime::NONE);
        pipeline.add(&source).map_err(|error| failed(&error))?;
        let pad = request_pad(compositor, z)?;
        let out = source.static_pad("src").expect("an appsrc has a source pad");
        out.link(&pad).map_err(|error| failed(&error))?;
        source.sync_state_with_parent().map_err(|error| failed(&error))?;
        Ok(Self { source, pad })
    }

    fn show(&self, picture: &Picture, from: gst::ClockTime) -> Result<(), MediaError> {
        self.source.push_sample(&picture.sample(from)).map(drop).map_err(|error| failed(&error))
    }
}

/// Tells the tiles of one participant apart by their order.
fn keys(tiles: &[Tile]) -> Vec<TileKey> {
    let mut seen: HashMap<&ParticipantId, usize> = HashMap::new();
    let number = |tile| {
        let count = seen.entry(tile).or_default();
        *count += 1;
        (tile.clone(), *count)
    };
    tiles.iter().map(|tile| &tile.participant).map(number).collect()
}

fn request_pad(compositor: &gst::Element, z: u32) -> Result<gst::Pad, MediaError> {
    let pad = compositor.request_pad_simple("sink_%u").ok_or_else(|| failed(&"compositor gave no pad"))?;
    pad.set_property("zorder", z);
    Ok(pad)
}

fn place(pad: &gst::Pad, rect: Rect) {
    let properties = [("xpos", rect.x), ("ypos", rect.y), ("width", rect.width), ("height", rect.height)];
    for (property, value) in properties {
        pad.set_property(property, value as i32);
    }
}

fn failed(error: &dyn std::fmt::Display) -> MediaError {
    MediaError::Element { element: "video mix".into(), message: error.to_string() }
}
