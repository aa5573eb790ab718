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
        preset::{Colour, LabelStyle, LayoutStyle, Slate},
    },
    BACKLOG, Canvas, add_behind, live_source, make, make_live,
    picture::{Picture, raw_caps},
    remove_branch, text,
};
use crate::{
    media::{
        LayoutSpec, MediaError, Scene, Tile,
        layout::{self, Placed, Rect},
    },
    room::id::{ParticipantId, TrackId},
};

/// Which lies over which: each tile takes two, its picture and its name.
const BACKDROP: u32 = 0;
const FIRST_TILE: u32 = 1;
const TITLE: u32 = 1000;
/// Pixels around who speaks; as many lie between tiles at least, or the border is that much thinner.
const BORDER: u32 = 4;
/// A level meter goes from −60 dBov to 0.
const METER_RANGE_DB: i32 = 60;
/// Distance of a label from its tile's left and lower edge, in pixels.
const LABEL_INSET: u32 = 8;

/// A participant, whether it is his screen, and which of such tiles.
type TileKey = (ParticipantId, bool, usize);

#[derive(Debug)]
pub struct VideoMix {
    pipeline: gst::glib::WeakRef<gst::Pipeline>,
    decoders: Decoders,
    slate: Slate,
    canvas: Canvas,
    compositor: gst::Element,
    output: gst::Element,
    epoch: gst::ClockTime,
    backdrop: Still,
    /// What the backdrop shows; `None` before it was drawn.
    drawn: Option<Backdrop>,
    views: HashMap<TileKey, View>,
    title: Option<Label>,
    /// Which of the slate's colours comes next.
    next_colour: usize,
}

/// A colour all over, and rectangles of others on it, the last nearest.
#[derive(Clone, Debug, PartialEq)]
struct Backdrop {
    ground: Colour,
    fills: Vec<(Rect, Colour)>,
}

/// What one tile is made of.
#[derive(Debug, Default)]
struct View {
    live: Option<Live>,
    label: Option<Label>,
    colour: usize,
}

/// What is to be drawn where: a text of the mix.
struct Caption<'a> {
    text: &'a str,
    style: &'a LabelStyle,
    letter_px: u32,
    max_width: u32,
    z: u32,
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
            slate: slate.clone(),
            canvas,
            compositor,
            output,
            epoch: gst::ClockTime::ZERO,
            backdrop,
            drawn: None,
            views: HashMap::new(),
            title: None,
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

    /// The scene is shown so from the room's running time `from` on. The pipeline must have been
    /// started: nothing can be sent into one that was not.
    pub fn set_scene(
        &mut self,
        scene: &Scene,
        layout: &LayoutSpec,
        style: &LayoutStyle,
        tracks: &TrackTable,
        from: gst::ClockTime,
    ) {
        let Some(pipeline) = self.pipeline.upgrade() else { return };
        let from = from.saturating_sub(self.epoch);
        let places = layout::arrange(layout, scene, self.canvas.width, self.canvas.height, &style.measures());
        let all_keys = keys(&scene.tiles);
        let shown: Vec<_> = places.iter().map(|place| all_keys[place.tile].clone()).collect();
        let gone: Vec<_> = self.views.keys().filter(|key| !shown.contains(key)).cloned().collect();
        for key in gone {
            if let Some(view) = self.views.remove(&key) {
                self.end(&pipeline, view);
            }
        }
        let mut fills = Vec::new();
        for (index, (place, key)) in places.iter().zip(shown).enumerate() {
            let tile = &scene.tiles[place.tile];
            let z = FIRST_TILE + 2 * index as u32;
            let mut view = self.views.remove(&key).unwrap_or_else(|| self.new_view());
            self.show(&pipeline, &mut view, tile, place, z, tracks);
            let name = if layout.labels { tile.label.as_str() } else { "" };
            self.name(&pipeline, &mut view, name, style, place.rect, z + 1, from);
            let slate = self.slate.colours[view.colour % self.slate.colours.len()];
            let voice = scene.voices.iter().find(|(who, _)| *who == tile.participant && !tile.screen);
            fills.extend(self.ground_of(place, slate, style, voice.map(|(_, level_db)| *level_db)));
            self.views.insert(key, view);
        }
        self.show_title(&pipeline, layout.title.as_deref().unwrap_or_default(), style, from);
        self.draw_backdrop(Backdrop { ground: layout.background.unwrap_or(style.background), fills }, from);
    }

    /// What lies behind a tile: a border while he speaks, his slate, and where there are no pictures
    /// his loudness.
    fn ground_of(
        &self,
        place: &Placed,
        slate: Colour,
        style: &LayoutStyle,
        voice_db: Option<i8>,
    ) -> Vec<(Rect, Colour)> {
        let rect = place.rect;
        let mut fills = Vec::new();
        if voice_db.is_some() {
            let (left, top) = (rect.x.min(BORDER), rect.y.min(BORDER));
            let (width, height) = (rect.width + left + BORDER, rect.height + top + BORDER);
            fills.push((Rect { x: rect.x - left, y: rect.y - top, width, height }, style.speaking));
        }
        fills.push((rect, slate));
        if let Some(level_db) = voice_db.filter(|_| !place.picture) {
            let height = (rect.height / 16).max(4) & !1;
            let share = f64::from(i32::from(level_db) + METER_RANGE_DB).clamp(0.0, f64::from(METER_RANGE_DB));
            let width = (f64::from(rect.width) * share / f64::from(METER_RANGE_DB)) as u32 & !1;
            fills.push((Rect { width, height, ..rect }, style.speaking));
        }
        fills
    }

    fn show_title(&mut self, pipeline: &gst::Pipeline, title: &str, style: &LayoutStyle, from: gst::ClockTime) {
        let mut label = self.title.take();
        let max_width = self.canvas.width.saturating_sub(4 * LABEL_INSET) & !1;
        let letter_px = style.label.letter_px(self.canvas.height);
        let caption = Caption { text: title, style: &style.label, letter_px, max_width, z: TITLE };
        if let Err(error) = self.caption(pipeline, &mut label, &caption, from) {
            tracing::warn!("a title cannot be drawn: {error}");
        }
        if let Some(label) = &label {
            let (width, height) = label.size;
            let x = (self.canvas.width.saturating_sub(width) / 2) & !1;
            place(&label.still.pad, Rect { x, y: LABEL_INSET, width, height });
        }
        self.title = label;
    }

    fn new_view(&mut self) -> View {
        let colour = self.next_colour;
        self.next_colour = (colour + 1) % self.slate.colours.len();
        View { colour, ..Default::default() }
    }

    fn show(&self, pipeline: &gst::Pipeline, view: &mut View, tile: &Tile, at: &Placed, z: u32, tracks: &TrackTable) {
        let wanted = tile.video.as_ref().filter(|_| at.picture).and_then(|id| tracks.get(id));
        let is_other = |live: &mut Live| wanted.is_none_or(|track| track.id != live.track);
        if let Some(live) = view.live.take_if(is_other) {
            self.end_live(pipeline, live);
        }
        match (&mut view.live, wanted) {
            (Some(live), _) => live.place(at.rect, z),
            (none, Some(track)) => match self.add_live(pipeline, track, at, z) {
                Ok(live) => *none = Some(live),
                Err(error) => tracing::warn!(track.id = %track.id, "cannot be seen in the mix: {error}"),
            },
            (_, None) => {}
        }
    }

    fn add_live(&self, pipeline: &gst::Pipeline, track: &Arc<Track>, at: &Placed, z: u32) -> Result<Live, MediaError> {
        let rect = at.rect;
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
        let row = [convert, size.clone()];
        add_behind(pipeline, source.upcast_ref(), &row)?;
        let pad = request_pad(&self.compositor, z)?;
        pad.set_property("max-last-buffer-repeat", self.slate.freeze().as_nanos() as u64);
        let out = size.static_pad("src").expect("a capsfilter has a source pad");
        out.link(&pad).map_err(|error| failed(&error))?;
        let mut elements = vec![source.clone().upcast()];
        elements.extend(row);
        place(&pad, rect);
        for element in elements.iter().rev() {
            element.sync_state_with_parent().map_err(|error| failed(&error))?;
        }
        let settings = ConsumerSettings { max_time: BACKLOG, ..Default::default() };
        let link = decoder.producer.add_consumer_with(&source, settings).map_err(|error| failed(&error))?;
        Ok(Live { track: track.id.clone(), link, decoder, elements, pad, rect })
    }

    #[expect(clippy::too_many_arguments, reason = "a view, what it is called, and how, where and when that is drawn")]
    fn name(
        &self,
        pipeline: &gst::Pipeline,
        view: &mut View,
        text: &str,
        style: &LayoutStyle,
        rect: Rect,
        z: u32,
        from: gst::ClockTime,
    ) {
        let letter_px = style.label.letter_px(rect.height);
        let max_width = rect.width.saturating_sub(2 * LABEL_INSET) & !1;
        let caption = Caption { text, style: &style.label, letter_px, max_width, z };
        if let Err(error) = self.caption(pipeline, &mut view.label, &caption, from) {
            tracing::warn!("a nickname cannot be drawn: {error}");
        }
        if let Some(label) = &view.label {
            let (width, height) = label.size;
            let y = (rect.y + rect.height).saturating_sub(height + LABEL_INSET) & !1;
            place(&label.still.pad, Rect { x: rect.x + LABEL_INSET, y, width, height });
        }
    }

    /// Draws a text again if it, or the room for it, has changed; takes it away if there is none.
    fn caption(
        &self,
        pipeline: &gst::Pipeline,
        label: &mut Option<Label>,
        caption: &Caption<'_>,
        from: gst::ClockTime,
    ) -> Result<(), MediaError> {
        let Caption { text, style, letter_px, max_width, z } = *caption;
        let same = |label: &Label| label.text == text && label.letter_px == letter_px && label.max_width == max_width;
        if let Some(label) = label.as_ref().filter(|label| same(label)) {
            label.still.pad.set_property("zorder", z);
            return Ok(());
        }
        let picture = text::draw(text, style, letter_px, max_width)?;
        let before = label.take().map(|label| label.still);
        let Some(picture) = picture else {
            if let Some(still) = before {
                self.end_still(pipeline, still);
            }
            return Ok(());
        };
        let still = match before {
            Some(still) => still,
            None => Still::new(pipeline, &self.compositor, z)?,
        };
        still.pad.set_property("zorder", z);
        still.pad.set_property("alpha", style.opacity);
        still.show(&picture, from)?;
        *label = Some(Label { still, text: text.into(), letter_px, max_width, size: picture.size() });
        Ok(())
    }

    fn draw_backdrop(&mut self, backdrop: Backdrop, from: gst::ClockTime) {
        if self.drawn.as_ref() == Some(&backdrop) {
            return;
        }
        let mut picture = Picture::new(self.canvas.width, self.canvas.height, backdrop.ground);
        for (rect, colour) in &backdrop.fills {
            picture.fill(*rect, *colour);
        }
        if let Err(error) = self.backdrop.show(&picture, from) {
            tracing::error!("the backdrop cannot be shown: {error}");
        }
        self.drawn = Some(backdrop);
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
    fn place(&mut self, rect: Rect, z: u32) {
        if (rect.width, rect.height) != (self.rect.width, self.rect.height) {
            let size = &self.elements[self.elements.len() - 1];
            size.set_property("caps", raw_caps(rect.width, rect.height).build());
        }
        self.rect = rect;
        self.pad.set_property("zorder", z);
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
    let mut seen: HashMap<(&ParticipantId, bool), usize> = HashMap::new();
    let key = |tile: &'_ Tile, count: usize| (tile.participant.clone(), tile.screen, count);
    let mut keys = Vec::with_capacity(tiles.len());
    for tile in tiles {
        let count = seen.entry((&tile.participant, tile.screen)).or_default();
        *count += 1;
        keys.push(key(tile, *count));
    }
    keys
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
