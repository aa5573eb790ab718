//! The picture of a mix: a backdrop with a slate for everybody, live pictures over the slates, and
//! nicknames over all.
//!
//! Slates need no switching: a live picture that never came, or stands still for too long, is not
//! drawn by the compositor (`max-last-buffer-repeat`), and what is below it shows. Backdrop and
//! labels are still pictures, sent once for each change. When the scene changes, everything glides to
//! its new place ([`glide`](super::glide)); what goes fades, and is taken out afterwards.

use std::{collections::HashMap, sync::Arc};

use gst::prelude::*;

use super::{
    super::{
        TrackTable,
        decoder::{Decoder, Decoders},
        preset::{LayoutStyle, Slate},
    },
    Canvas, TileKey, UPSTREAM_LATENCY, add_behind,
    backdrop::{Backdrop, SlateTile},
    branch::Branch,
    caption::{self, Caption, Initials, LABEL_INSET, Label},
    glide::{GLIDE, Glides, Pose},
    live::{Live, Studio},
    make, make_live,
    picture::raw_caps,
    shape::Shape,
    still::Still,
};
use crate::{
    media::{
        LayoutSpec, MediaError, Scene, Tile,
        layout::{self, Placed, Rect},
    },
    room::id::{ParticipantId, TrackId},
};

/// Which lies over which: each tile takes three, its picture, that on its way out, and its name.
const BACKDROP: u32 = 0;
const FIRST_TILE: u32 = 1;
const TITLE: u32 = 1000;
/// A level meter goes from −60 dBov to 0.
const METER_RANGE_DB: i32 = 60;
/// What has faded is taken out so long after, in running time: the picture is behind by the latency.
const AFTERGLOW: gst::ClockTime =
    gst::ClockTime::from_nseconds(GLIDE.nseconds() + UPSTREAM_LATENCY.nseconds() + 200_000_000);
/// More that fades at a time goes at once.
const MAX_FADING: usize = 64;

#[derive(Debug)]
pub struct VideoMix {
    pipeline: gst::glib::WeakRef<gst::Pipeline>,
    decoders: Decoders,
    slate: Slate,
    canvas: Canvas,
    compositor: gst::Element,
    output: gst::Element,
    epoch: gst::ClockTime,
    /// Tracks are taken with their effects.
    pub with_effects: bool,
    glides: Glides,
    backdrop: Still,
    /// What the backdrop shows; `None` before the first scene, which nothing glides into.
    drawn: Option<Backdrop>,
    views: HashMap<TileKey, View>,
    fading: Vec<Fading>,
    title: Option<Label>,
    /// Which of the slate's colours comes next.
    next_colour: usize,
}

/// What one tile is made of.
#[derive(Debug, Default)]
struct View {
    live: Option<Live>,
    label: Option<Label>,
    initials: Option<Initials>,
    colour: usize,
}

/// What is seen no more, and when it may be taken out, in running time.
#[derive(Debug)]
struct Fading {
    key: TileKey,
    branch: Option<Branch>,
    label: Option<Label>,
    colour: usize,
    until: gst::ClockTime,
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
        let glides = Glides::new(&compositor);
        let backdrop = Still::new(pipeline, &compositor)?;
        backdrop.pad().set_property("zorder", BACKDROP);
        Ok(Self {
            pipeline: pipeline.downgrade(),
            decoders: decoders.clone(),
            slate: slate.clone(),
            canvas,
            compositor,
            output,
            epoch: gst::ClockTime::ZERO,
            with_effects: true,
            glides,
            backdrop,
            drawn: None,
            views: HashMap::new(),
            fading: Vec::new(),
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

    /// The scene is shown so from the room's running time `from` on, after a short movement if another
    /// was shown before. The pipeline must have been started: nothing can be sent into one that was not.
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
        self.take_out(&pipeline, |fading| fading.until <= from);
        let places = layout::arrange(layout, scene, self.canvas.width, self.canvas.height, &style.measures());
        let all_keys = keys(&scene.tiles);
        let shown: Vec<_> = places.iter().map(|place| all_keys[place.tile].clone()).collect();
        let gone: Vec<_> = self.views.keys().filter(|key| !shown.contains(key)).cloned().collect();
        for key in gone {
            if let Some(View { live, label, colour, .. }) = self.views.remove(&key) {
                self.fade(&pipeline, key, live, label, colour, from);
            }
        }
        let mut slates = Vec::new();
        for (index, (place, key)) in places.iter().zip(shown).enumerate() {
            let tile = &scene.tiles[place.tile];
            let z = FIRST_TILE + 3 * index as u32;
            let mut view = self.views.remove(&key).unwrap_or_else(|| self.new_view(&key));
            self.show(&pipeline, &key, &mut view, tile, place, z, tracks, from);
            let name = if layout.labels { tile.label.as_str() } else { "" };
            self.name(&pipeline, &mut view, name, style, place.rect, z + 2, from);
            let voice = scene.voices.iter().find(|(who, _)| *who == tile.participant && !tile.screen);
            slates.push(self.slate_of(&key, &mut view, tile, place, style, voice.map(|(_, level_db)| *level_db)));
            self.views.insert(key, view);
        }
        self.show_title(&pipeline, layout.title.as_deref().unwrap_or_default(), style, from);
        self.draw_backdrop(Backdrop { ground: layout.background.unwrap_or(style.background), slates }, from);
    }

    /// When there is something to [tidy](Self::tidy), in running time of the room.
    pub fn tidy_at(&self) -> Option<gst::ClockTime> {
        self.fading.iter().map(|fading| fading.until + self.epoch).min()
    }

    /// Takes out what has faded by the room's running time `now`. Blocks for some milliseconds.
    pub fn tidy(&mut self, now: gst::ClockTime) {
        let now = now.saturating_sub(self.epoch);
        if let Some(pipeline) = self.pipeline.upgrade() {
            self.take_out(&pipeline, |fading| fading.until <= now);
        }
    }

    /// What lies behind a tile: a border while he speaks, his slate, and where there is no picture his
    /// initials, and his loudness where there are none at all.
    fn slate_of(
        &self,
        key: &TileKey,
        view: &mut View,
        tile: &Tile,
        place: &Placed,
        style: &LayoutStyle,
        voice_db: Option<i8>,
    ) -> SlateTile {
        let rect = place.rect;
        let colour = self.slate.colours[view.colour % self.slate.colours.len()];
        let share = |level_db: i8| f64::from(i32::from(level_db) + METER_RANGE_DB) / f64::from(METER_RANGE_DB);
        let is_bare = tile.video.is_none() || !place.picture;
        let initials =
            if is_bare { Initials::drawn(&mut view.initials, &tile.label, style, rect, colour) } else { None };
        SlateTile {
            key: key.clone(),
            rect,
            colour,
            border: voice_db.map(|_| style.speaking),
            meter: voice_db.filter(|_| !place.picture).map(|level_db| (share(level_db), style.speaking)),
            initials,
        }
    }

    fn show_title(&mut self, pipeline: &gst::Pipeline, title: &str, style: &LayoutStyle, from: gst::ClockTime) {
        let canvas_width = self.canvas.width;
        let place = |width: u32, _: u32| ((canvas_width.saturating_sub(width) / 2) & !1, LABEL_INSET);
        let caption = Caption {
            text: title,
            style: &style.label,
            letter_px: style.label.letter_px(self.canvas.height),
            max_width: canvas_width.saturating_sub(4 * LABEL_INSET) & !1,
            z: TITLE,
            place: &place,
        };
        if let Err(error) = caption::show(pipeline, &self.compositor, &self.glides, &mut self.title, &caption, from) {
            tracing::warn!("a title cannot be drawn: {error}");
        }
    }

    /// Who comes back while he fades keeps his colour.
    fn new_view(&mut self, key: &TileKey) -> View {
        if let Some(fading) = self.fading.iter().find(|fading| fading.key == *key) {
            return View { colour: fading.colour, ..Default::default() };
        }
        let colour = self.next_colour;
        self.next_colour = (colour + 1) % self.slate.colours.len();
        View { colour, ..Default::default() }
    }

    #[expect(clippy::too_many_arguments, reason = "a view, what it is to show, and how, where and when")]
    fn show(
        &mut self,
        pipeline: &gst::Pipeline,
        key: &TileKey,
        view: &mut View,
        tile: &Tile,
        at: &Placed,
        z: u32,
        tracks: &TrackTable,
        from: gst::ClockTime,
    ) {
        let wanted = tile.video.as_ref().filter(|_| at.picture).and_then(|id| tracks.get(id));
        let is_other = |live: &mut Live| wanted.is_none_or(|track| track.id != live.track);
        if let Some(live) = view.live.take_if(is_other) {
            self.fade(pipeline, key.clone(), Some(live), None, view.colour, from);
        }
        let shape = Shape { width: at.rect.width, height: at.rect.height, fit: at.fit };
        let pose = Pose { rect: at.rect, z, alpha: 1.0 };
        match (&mut view.live, wanted) {
            (Some(live), _) => {
                live.become_at(shape, from);
                self.glides.send(live.pad(), pose, from);
            }
            (none, Some(track)) => match self.studio(pipeline).add(track, shape, |pad| self.begin(pad, pose, from)) {
                Ok(live) => *none = Some(live),
                Err(error) => tracing::warn!(track.id = %track.id, "cannot be seen in the mix: {error}"),
            },
            (_, None) => {}
        }
    }

    /// A mix begins as it is; what comes later comes up.
    fn begin(&self, pad: &gst::Pad, pose: Pose, from: gst::ClockTime) {
        if self.drawn.is_none() {
            return self.glides.put(pad, pose);
        }
        self.glides.put(pad, pose.unseen());
        self.glides.send(pad, pose, from);
    }

    fn studio<'a>(&'a self, pipeline: &'a gst::Pipeline) -> Studio<'a> {
        Studio {
            pipeline,
            compositor: &self.compositor,
            glides: &self.glides,
            decoders: &self.decoders,
            epoch: self.epoch,
            with_effects: self.with_effects,
            freeze: self.slate.freeze(),
            fps: self.canvas.fps,
        }
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
        let bottom = rect.y + rect.height;
        let place = |_: u32, height: u32| (rect.x + LABEL_INSET, bottom.saturating_sub(height + LABEL_INSET) & !1);
        let caption = Caption::name(text, &style.label, rect, z, &place);
        if let Err(error) = caption::show(pipeline, &self.compositor, &self.glides, &mut view.label, &caption, from) {
            tracing::warn!("a nickname cannot be drawn: {error}");
        }
    }

    fn draw_backdrop(&mut self, backdrop: Backdrop, from: gst::ClockTime) {
        if self.drawn.as_ref() == Some(&backdrop) {
            return;
        }
        let canvas = (self.canvas.width, self.canvas.height);
        for (time, picture) in backdrop.steps(self.drawn.as_ref(), from, canvas) {
            if let Err(error) = self.backdrop.show(&picture, time) {
                tracing::error!("the backdrop cannot be shown: {error}");
            }
        }
        self.drawn = Some(backdrop);
    }

    /// It stands still, and fades from running time `from` on.
    fn fade(
        &mut self,
        pipeline: &gst::Pipeline,
        key: TileKey,
        live: Option<Live>,
        label: Option<Label>,
        colour: usize,
        from: gst::ClockTime,
    ) {
        let branch = live.map(Live::cut);
        let pads = branch.iter().map(|branch| &branch.pad).chain(label.iter().map(|label| label.still.pad()));
        pads.for_each(|pad| self.glides.hide(pad, from));
        // Whoever comes and goes all the time is not to fill the mix.
        self.take_out(pipeline, |fading| fading.key == key);
        let until = from + AFTERGLOW;
        self.fading.push(Fading { key, branch, label, colour, until });
        if let Some(oldest) = self.fading.len().checked_sub(MAX_FADING).filter(|count| *count > 0) {
            let limit = self.fading[oldest - 1].until;
            self.take_out(pipeline, |fading| fading.until <= limit);
        }
    }

    fn take_out(&mut self, pipeline: &gst::Pipeline, is_over: impl Fn(&Fading) -> bool) {
        for Fading { branch, label, .. } in self.fading.extract_if(.., |fading| is_over(fading)) {
            if let Some(branch) = branch {
                self.glides.forget(&branch.pad);
                branch.end(pipeline, &self.compositor);
            }
            if let Some(Label { still, .. }) = label {
                self.glides.forget(still.pad());
                still.end(pipeline, &self.compositor);
            }
        }
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

fn failed(error: &dyn std::fmt::Display) -> MediaError {
    MediaError::Element { element: "video mix".into(), message: error.to_string() }
}
