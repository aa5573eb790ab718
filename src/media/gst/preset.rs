//! `pipelines/`: encoders, layouts and sources as validated data. `pipelines/README.md` is the schema.
//!
//! Files are embedded and may be overridden from a folder. Everything is checked once, when
//! [`Presets::load`] runs; what cannot be used is listed with its reason, and the rest works.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rust_embed::Embed;
use serde::Deserialize;

use super::effect::Album;
use crate::{
    effect::{Effect, Picture, picture::MAX_PICTURE_BYTES},
    media::{CodecName, Kind, LayoutChoice, LayoutKind, LayoutSpec, MediaError, Unavailable, layout::Measures},
};

mod check;
mod effect;
mod fragment;
mod track;

pub use crate::media::colour::Colour;
pub use effect::{EffectFile, Native, Restore, size_caps};
pub use fragment::Fragment;
pub use track::TrackEncoder;

#[derive(Embed)]
#[folder = "pipelines/"]
#[include = "*/*.toml"]
#[include = "pictures/*.svg"]
#[include = "effects/*.jpg"]
struct Defaults;

/// Threads of one encoder.
const MAX_THREADS: u64 = 16;
/// Files larger than this are not read, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Everything usable that `pipelines/` holds.
#[derive(Debug)]
pub struct Presets {
    video: Vec<VideoEncoder>,
    audio: Vec<AudioEncoder>,
    opus: Vec<AudioEncoder>,
    layouts: Vec<LayoutStyle>,
    slates: Vec<Slate>,
    silences: Vec<Silence>,
    tracks: Vec<TrackEncoder>,
    effects: Vec<Arc<EffectFile>>,
    album: Album,
    previews: BTreeMap<String, Bytes>,
    unavailable: Vec<Unavailable>,
}

/// One file, by its `kind`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Preset {
    Video(VideoEncoder),
    Audio(AudioEncoder),
    Opus(AudioEncoder),
    Grid(LayoutStyle),
    Speaker(LayoutStyle),
    Presentation(LayoutStyle),
    Pip(LayoutStyle),
    AudioOnly(LayoutStyle),
    Custom(LayoutStyle),
    Slate(Slate),
    Silence(Silence),
    Track(TrackEncoder),
    VideoEffect(EffectFile),
    AudioEffect(EffectFile),
}

/// Raw I420 in, H.264 out.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VideoEncoder {
    /// What it is called.
    pub name: String,
    rank: u32,
    #[serde(default)]
    purpose: Purpose,
    pipeline: Fragment,
    bitrate: BitrateRule,
    keyframes: KeyframeRule,
    /// Where the wanted speed is set, if it has such a thing.
    speed: Option<Place>,
    /// Where the number of threads is set, if it can be.
    threads: Option<Place>,
    /// One thread for so many; left out, as many as the encoder chooses.
    pixels_per_s_and_thread: Option<u64>,
}

/// What an encoder is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Purpose {
    /// A frame is out before the next comes.
    #[default]
    Live,
    /// May look ahead.
    Offline,
}

/// A property of a named element.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    element: String,
    property: String,
}

/// What may be asked of a video encoder, instead of what its file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncoderOptions {
    /// Bits a second.
    pub bitrate_bps: Option<u32>,
    /// In the encoder's own words, e.g. x264's `veryfast`.
    pub speed: Option<String>,
    /// Threads of the encoder.
    pub threads: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct BitrateRule {
    element: String,
    property: String,
    unit_bps: u32,
    bits_per_pixel: f64,
    min_bps: u32,
    max_bps: u32,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyframeRule {
    element: String,
    property: String,
    interval_s: f64,
}

/// What the sound of a mix is encoded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudioCodec {
    /// For files.
    Aac,
    /// For those who watch live.
    Opus,
}

/// Raw 48 kHz stereo in, AAC or Opus out.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudioEncoder {
    /// What it is called.
    pub name: String,
    rank: u32,
    /// Samples of silence that the encoder puts in front of what it was given.
    pub priming_samples: u32,
    pipeline: Fragment,
}

/// A layout's measures and looks; where its tiles go is [`crate::media::layout::arrange`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayoutStyle {
    /// What it is called.
    pub name: String,
    /// How it arranges.
    #[serde(skip)]
    pub arrangement: LayoutKind,
    /// Pixels between tiles and around them.
    pub gap_px: u32,
    /// What the strip, or the picture in the corner, takes of the canvas's side.
    #[serde(default = "LayoutStyle::usual_side_ratio")]
    side_ratio: f64,
    /// Around who speaks, and of his level meter.
    pub speaking: Colour,
    tile_width: u32,
    tile_height: u32,
    /// Behind the tiles.
    pub background: Colour,
    /// How nicknames are drawn.
    pub label: LabelStyle,
}

/// How a nickname is drawn.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelStyle {
    /// A Pango font family list.
    pub font: String,
    height_ratio: f64,
    min_px: u32,
    max_px: u32,
    /// Of the letters.
    pub text: Colour,
    /// Of what is behind them.
    #[serde(rename = "box")]
    pub ground: Colour,
    /// Of the whole label, 0 to 1.
    pub opacity: f64,
}

/// What a tile shows while its participant has no picture.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slate {
    /// What it is called.
    pub name: String,
    freeze_ms: u64,
    /// At least one.
    pub colours: Vec<Colour>,
}

/// Live audio that is always there.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Silence {
    /// What it is called.
    pub name: String,
    pipeline: Fragment,
}

impl Presets {
    /// Reads the embedded files and those of `folder`, checks them, and builds each fragment once.
    /// GStreamer must be initialised. Blocks for some milliseconds.
    pub fn load(folder: Option<&Path>) -> Self {
        Self::load_those(folder, |_| true)
    }

    /// The same without effects, each of which is tried when it is loaded: for who shows none.
    pub fn load_without_effects(folder: Option<&Path>) -> Self {
        Self::load_those(folder, |path| !path.starts_with("effects/"))
    }

    fn load_those(folder: Option<&Path>, wanted: impl Fn(&str) -> bool) -> Self {
        let mut presets = Self {
            video: Vec::new(),
            audio: Vec::new(),
            opus: Vec::new(),
            layouts: Vec::new(),
            slates: Vec::new(),
            silences: Vec::new(),
            tracks: Vec::new(),
            effects: Vec::new(),
            album: Album::default(),
            previews: previews(folder),
            unavailable: Vec::new(),
        };
        presets.album = Arc::new(presets.pictures(folder));
        let mut overrides = folder.map(|folder| presets.read_folder(folder)).unwrap_or_default();
        for path in Defaults::iter().filter(|path| path.ends_with(".toml") && wanted(path)) {
            let replaced = overrides.remove(path.as_ref()).is_some_and(|text| presets.take(&path, &text));
            if !replaced && let Some(file) = Defaults::get(&path) {
                presets.take(&path, &String::from_utf8_lossy(&file.data));
            }
        }
        for (path, text) in overrides.into_iter().filter(|(path, _)| wanted(path)) {
            presets.take(&path, &text);
        }
        presets.video.sort_by_key(|encoder| encoder.rank);
        presets.audio.sort_by_key(|encoder| encoder.rank);
        presets.opus.sort_by_key(|encoder| encoder.rank);
        presets.tracks.sort_by_key(|encoder| encoder.rank);
        presets.effects.sort_by(|a, b| a.name.cmp(&b.name));
        presets
    }

    /// What cannot be used here, and why.
    pub fn unavailable(&self) -> &[Unavailable] {
        &self.unavailable
    }

    /// Names of the layouts.
    pub fn layouts(&self) -> Vec<String> {
        self.layouts.iter().map(|layout| layout.name.clone()).collect()
    }

    /// A composite recording can be made here.
    pub fn can_record(&self) -> bool {
        self.video_encoder().is_ok()
            && self.audio_encoder(AudioCodec::Aac).is_ok()
            && self.silence().is_ok()
            && self.slate().is_ok()
    }

    /// The preferred video encoder.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if none works here; so for the others.
    pub fn video_encoder(&self) -> Result<&VideoEncoder, MediaError> {
        self.video.iter().find(|encoder| encoder.purpose == Purpose::Live).ok_or_else(|| missing("an H.264 encoder"))
    }

    /// The preferred video encoder for what is not live: one made for that, or else the live one.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`].
    pub fn offline_video_encoder(&self) -> Result<&VideoEncoder, MediaError> {
        let offline = self.video.iter().find(|encoder| encoder.purpose == Purpose::Offline);
        offline.map_or_else(|| self.video_encoder(), Ok)
    }

    /// The preferred audio encoder.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`].
    pub fn audio_encoder(&self, codec: AudioCodec) -> Result<&AudioEncoder, MediaError> {
        match codec {
            AudioCodec::Aac => self.audio.first().ok_or_else(|| missing("an AAC encoder")),
            AudioCodec::Opus => self.opus.first().ok_or_else(|| missing("an Opus encoder")),
        }
    }

    /// The layout of that name.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`].
    pub fn layout(&self, name: &str) -> Result<&LayoutStyle, MediaError> {
        self.layouts.iter().find(|layout| layout.name == name).ok_or_else(|| missing(&format!("a layout `{name}`")))
    }

    /// The layout of a mix, which is `choice` or else the room's, and its looks.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`].
    pub fn resolve(
        &self,
        choice: Option<&LayoutChoice>,
        room: &LayoutSpec,
    ) -> Result<(LayoutSpec, &LayoutStyle), MediaError> {
        match choice {
            Some(LayoutChoice::Name(name)) => self.layout(name).map(|style| (LayoutSpec::of(style.arrangement), style)),
            Some(LayoutChoice::Spec(spec)) => Ok((LayoutSpec::clone(spec), self.layout(spec.kind.name())?)),
            None => Ok((room.clone(), self.layout(room.kind.name())?)),
        }
    }

    /// The slate.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`].
    pub fn slate(&self) -> Result<&Slate, MediaError> {
        self.slates.first().ok_or_else(|| missing("a slate"))
    }

    /// The silence.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`].
    pub fn silence(&self) -> Result<&Silence, MediaError> {
        self.silences.first().ok_or_else(|| missing("a source of silence"))
    }

    /// What encodes a track again after its effects.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`].
    pub fn track_encoder(&self, codec: CodecName) -> Result<&TrackEncoder, MediaError> {
        let found = self.tracks.iter().find(|encoder| encoder.codec == codec);
        found.ok_or_else(|| missing(&format!("effects on a track of {}", codec.encoding_name())))
    }

    /// The effect of that name.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`].
    pub fn effect(&self, name: &str) -> Result<&Arc<EffectFile>, MediaError> {
        self.effects.iter().find(|effect| effect.name == name).ok_or_else(|| missing(&format!("an effect `{name}`")))
    }

    /// The catalogue.
    pub fn effects(&self) -> Vec<Effect> {
        self.effects.iter().map(|effect| effect.effect()).collect()
    }

    /// Pictures (JPEG) of what effects do, by the effect's name.
    pub fn previews(&self) -> &BTreeMap<String, Bytes> {
        &self.previews
    }

    /// The pictures that every room has, by name.
    pub fn album(&self) -> &Album {
        &self.album
    }

    /// `pictures/*.svg` and `*.png`: the embedded ones, and over them those of the folder.
    fn pictures(&mut self, folder: Option<&Path>) -> BTreeMap<String, Arc<Picture>> {
        let embedded = Defaults::iter().filter(|path| path.starts_with("pictures/"));
        let mut files: BTreeMap<String, Vec<u8>> =
            embedded.filter_map(|path| Some((path.to_string(), Defaults::get(&path)?.data.into_owned()))).collect();
        for entry in folder.and_then(|folder| std::fs::read_dir(folder.join("pictures")).ok()).into_iter().flatten() {
            let Ok(entry) = entry else { continue };
            let path = format!("pictures/{}", entry.file_name().to_string_lossy());
            let is_small = entry.metadata().is_ok_and(|meta| meta.len() <= MAX_PICTURE_BYTES as u64);
            match std::fs::read(entry.path()) {
                Ok(bytes) if is_small => drop(files.insert(path, bytes)),
                Ok(_) => self.refuse(&path, format!("at most {MAX_PICTURE_BYTES} bytes are read"), None),
                Err(error) => self.refuse(&path, error.to_string(), None),
            }
        }
        let mut album = BTreeMap::new();
        for (path, bytes) in files {
            let name = path.trim_start_matches("pictures/").split('.').next().unwrap_or_default().to_owned();
            match Picture::named(&name, &bytes) {
                Ok(picture) => drop(album.insert(name, Arc::new(picture))),
                Err(error) => self.refuse(&path, error.to_string(), None),
            }
        }
        album
    }

    /// Every `<folder>/*/*.toml`, by its path below the folder.
    fn read_folder(&mut self, folder: &Path) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        for kind in ["effects", "encoders", "layouts", "sources"] {
            let Ok(entries) = std::fs::read_dir(folder.join(kind)) else { continue };
            let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
            for path in paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
                let name = format!("{kind}/{}", path.file_name().unwrap_or_default().to_string_lossy());
                match read(&path) {
                    Ok(text) => drop(files.insert(name, text)),
                    Err(reason) => self.refuse(&name, reason, None),
                }
            }
        }
        files
    }

    /// Takes a file into use, or lists why not.
    fn take(&mut self, path: &str, text: &str) -> bool {
        match check::parse(text).and_then(|preset| check::try_out(&preset, &self.album).map(|()| preset)) {
            Ok(preset) => {
                self.add(preset);
                true
            }
            Err(refusal) => {
                self.refuse(path, refusal.reason, refusal.remedy);
                false
            }
        }
    }

    fn refuse(&mut self, path: &str, reason: String, remedy: Option<String>) {
        // An element that is not installed is no fault of the file, and there is mostly another.
        match &remedy {
            Some(remedy) => tracing::info!(file = path, reason, remedy, "pipeline file is left out"),
            None => tracing::warn!(file = path, reason, "pipeline file cannot be used"),
        }
        self.unavailable.push(Unavailable { what: format!("pipelines/{path}"), reason, remedy });
    }

    fn add(&mut self, preset: Preset) {
        match preset {
            Preset::Video(encoder) => self.video.push(encoder),
            Preset::Audio(encoder) => self.audio.push(encoder),
            Preset::Opus(encoder) => self.opus.push(encoder),
            Preset::Grid(style) => self.add_layout(style, LayoutKind::Grid),
            Preset::Speaker(style) => self.add_layout(style, LayoutKind::Speaker),
            Preset::Presentation(style) => self.add_layout(style, LayoutKind::Presentation),
            Preset::Pip(style) => self.add_layout(style, LayoutKind::Pip),
            Preset::AudioOnly(style) => self.add_layout(style, LayoutKind::AudioOnly),
            Preset::Custom(style) => self.add_layout(style, LayoutKind::Custom),
            Preset::Slate(slate) => self.slates.push(slate),
            Preset::Silence(silence) => self.silences.push(silence),
            Preset::Track(encoder) => self.tracks.push(encoder),
            Preset::VideoEffect(effect) => self.add_effect(effect, Kind::Video),
            Preset::AudioEffect(effect) => self.add_effect(effect, Kind::Audio),
        }
    }
}

impl Presets {
    fn add_layout(&mut self, style: LayoutStyle, arrangement: LayoutKind) {
        self.layouts.push(LayoutStyle { arrangement, ..style });
    }

    fn add_effect(&mut self, effect: EffectFile, kind: Kind) {
        let has_preview = self.previews.contains_key(&effect.name);
        self.effects.push(Arc::new(EffectFile { kind: Some(kind), has_preview, ..effect }));
    }
}

impl VideoEncoder {
    /// A bin with a sink for I420 of that size and a source of H.264.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if it cannot be built any more.
    pub fn build(&self, width: u32, height: u32, fps: u32) -> Result<gst::Bin, MediaError> {
        self.build_with(width, height, fps, &EncoderOptions::default())
    }

    /// The same, as the options ask for.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`], also for an option that this encoder does not have.
    pub fn build_with(
        &self,
        width: u32,
        height: u32,
        fps: u32,
        options: &EncoderOptions,
    ) -> Result<gst::Bin, MediaError> {
        let bin = self.pipeline.build().map_err(MediaError::Unavailable)?;
        if let Some(speed) = &options.speed {
            self.set(&bin, self.speed.as_ref(), "speed", &speed.as_str().into())?;
        }
        if let Some(threads) = options.threads.or_else(|| self.threads_for(width, height, fps)) {
            self.set(&bin, self.threads.as_ref(), "number of threads", &i64::from(threads).into())?;
        }
        let bps = options.bitrate_bps.unwrap_or_else(|| self.bitrate.for_canvas(width, height, fps));
        let rate = bps / self.bitrate.unit_bps;
        fragment::set(&bin, &self.bitrate.element, &self.bitrate.property, &i64::from(rate).into())
            .map_err(MediaError::Unavailable)?;
        let frames = (self.keyframes.interval_s * f64::from(fps)).round().max(1.0) as i64;
        fragment::set(&bin, &self.keyframes.element, &self.keyframes.property, &frames.into())
            .map_err(MediaError::Unavailable)?;
        Ok(bin)
    }

    fn set(&self, bin: &gst::Bin, place: Option<&Place>, what: &str, value: &toml::Value) -> Result<(), MediaError> {
        let place = place.ok_or_else(|| MediaError::Unavailable(format!("a {what} for the encoder {}", self.name)))?;
        fragment::set(bin, &place.element, &place.property, value).map_err(MediaError::Unavailable)
    }
}

impl VideoEncoder {
    /// One for so many pixels a second: each more costs something, and lets the encoder be behind by
    /// another frame.
    fn threads_for(&self, width: u32, height: u32, fps: u32) -> Option<u32> {
        let pixels = u64::from(width) * u64::from(height) * u64::from(fps);
        self.pixels_per_s_and_thread.map(|share| pixels.div_ceil(share).clamp(1, MAX_THREADS) as u32)
    }
}

impl BitrateRule {
    /// Twice the frames do not need twice the bits: they differ less from each other.
    fn for_canvas(&self, width: u32, height: u32, fps: u32) -> u32 {
        let pixels = f64::from(width) * f64::from(height);
        let rate = pixels * self.bits_per_pixel * 30.0 * (f64::from(fps) / 30.0).sqrt();
        (rate as u32).clamp(self.min_bps, self.max_bps)
    }
}

impl AudioEncoder {
    /// A bin with a sink for 48 kHz stereo and a source of its codec.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if it cannot be built any more.
    pub fn build(&self) -> Result<gst::Bin, MediaError> {
        self.pipeline.build().map_err(MediaError::Unavailable)
    }
}

impl LayoutStyle {
    fn usual_side_ratio() -> f64 {
        0.2
    }

    /// For [`crate::media::layout::arrange`].
    pub fn measures(&self) -> Measures {
        let aspect = f64::from(self.tile_width) / f64::from(self.tile_height);
        Measures { aspect, gap_px: self.gap_px, side_ratio: self.side_ratio }
    }
}

impl LabelStyle {
    /// Letter height for a tile, in pixels.
    pub fn letter_px(&self, tile_height: u32) -> u32 {
        ((f64::from(tile_height) * self.height_ratio) as u32).clamp(self.min_px, self.max_px)
    }
}

impl Slate {
    /// A picture that stands still so long gives way to the slate.
    pub fn freeze(&self) -> Duration {
        Duration::from_millis(self.freeze_ms)
    }
}

impl Silence {
    /// A bin with a source of live audio.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if it cannot be built any more.
    pub fn build(&self) -> Result<gst::Bin, MediaError> {
        self.pipeline.build().map_err(MediaError::Unavailable)
    }
}

/// `effects/<name>.jpg`: the embedded ones, and over them those of the folder.
fn previews(folder: Option<&Path>) -> BTreeMap<String, Bytes> {
    let name = |path: &str| Some(path.strip_prefix("effects/")?.strip_suffix(".jpg")?.to_owned());
    let embedded =
        Defaults::iter().filter_map(|path| Some((name(&path)?, Bytes::from(Defaults::get(&path)?.data.into_owned()))));
    let mut previews: BTreeMap<_, _> = embedded.collect();
    for entry in
        folder.and_then(|folder| std::fs::read_dir(folder.join("effects")).ok()).into_iter().flatten().flatten()
    {
        let path = format!("effects/{}", entry.file_name().to_string_lossy());
        let is_small = entry.metadata().is_ok_and(|meta| meta.len() <= MAX_FILE_BYTES);
        if let (Some(name), true, Ok(bytes)) = (name(&path), is_small, std::fs::read(entry.path())) {
            previews.insert(name, bytes.into());
        }
    }
    previews
}

fn missing(what: &str) -> MediaError {
    MediaError::Unavailable(what.into())
}

fn read(path: &PathBuf) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_FILE_BYTES {
        return Err(format!("it has {size} bytes; at most {MAX_FILE_BYTES} are read"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
