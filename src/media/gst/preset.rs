//! `pipelines/`: encoders, layouts and sources as validated data. `pipelines/README.md` is the schema.
//!
//! Files are embedded and may be overridden from a folder. Everything is checked once, when
//! [`Presets::load`] runs; what cannot be used is listed with its reason, and the rest works.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use rust_embed::Embed;
use serde::Deserialize;

use crate::media::{MediaError, Unavailable};

mod check;
mod fragment;

pub use fragment::Fragment;

#[derive(Embed)]
#[folder = "pipelines/"]
#[include = "*/*.toml"]
struct Defaults;

/// Files larger than this are not read, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Everything usable that `pipelines/` holds.
#[derive(Debug)]
pub struct Presets {
    video: Vec<VideoEncoder>,
    audio: Vec<AudioEncoder>,
    layouts: Vec<GridLayout>,
    slates: Vec<Slate>,
    silences: Vec<Silence>,
    unavailable: Vec<Unavailable>,
}

/// One file, by its `kind`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Preset {
    Video(VideoEncoder),
    Audio(AudioEncoder),
    Grid(GridLayout),
    Slate(Slate),
    Silence(Silence),
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

/// Raw 48 kHz stereo in, AAC out.
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

/// Equal tiles in rows.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridLayout {
    /// What it is called.
    pub name: String,
    /// Pixels between tiles and around them.
    pub gap_px: u32,
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

/// A colour, sRGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Colour {
    /// Red.
    pub red: u8,
    /// Green.
    pub green: u8,
    /// Blue.
    pub blue: u8,
}

impl Presets {
    /// Reads the embedded files and those of `folder`, checks them, and builds each fragment once.
    /// GStreamer must be initialised. Blocks for some milliseconds.
    pub fn load(folder: Option<&Path>) -> Self {
        let mut presets = Self {
            video: Vec::new(),
            audio: Vec::new(),
            layouts: Vec::new(),
            slates: Vec::new(),
            silences: Vec::new(),
            unavailable: Vec::new(),
        };
        let mut overrides = folder.map(|folder| presets.read_folder(folder)).unwrap_or_default();
        for path in Defaults::iter() {
            let replaced = overrides.remove(path.as_ref()).is_some_and(|text| presets.take(&path, &text));
            if !replaced && let Some(file) = Defaults::get(&path) {
                presets.take(&path, &String::from_utf8_lossy(&file.data));
            }
        }
        for (path, text) in overrides {
            presets.take(&path, &text);
        }
        presets.video.sort_by_key(|encoder| encoder.rank);
        presets.audio.sort_by_key(|encoder| encoder.rank);
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
        self.video_encoder().is_ok() && self.audio_encoder().is_ok() && self.silence().is_ok() && self.slate().is_ok()
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
    pub fn audio_encoder(&self) -> Result<&AudioEncoder, MediaError> {
        self.audio.first().ok_or_else(|| missing("an AAC encoder"))
    }

    /// The layout of that name.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`].
    pub fn layout(&self, name: &str) -> Result<&GridLayout, MediaError> {
        self.layouts.iter().find(|layout| layout.name == name).ok_or_else(|| missing(&format!("a layout `{name}`")))
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

    /// Every `<folder>/*/*.toml`, by its path below the folder.
    fn read_folder(&mut self, folder: &Path) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        for kind in ["encoders", "layouts", "sources"] {
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
        match check::parse(text).and_then(|preset| check::try_out(&preset).map(|()| preset)) {
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
            Preset::Grid(layout) => self.layouts.push(layout),
            Preset::Slate(slate) => self.slates.push(slate),
            Preset::Silence(silence) => self.silences.push(silence),
        }
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
        if let Some(threads) = options.threads {
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

impl BitrateRule {
    /// Twice the frames do not need twice the bits: they differ less from each other.
    fn for_canvas(&self, width: u32, height: u32, fps: u32) -> u32 {
        let pixels = f64::from(width) * f64::from(height);
        let rate = pixels * self.bits_per_pixel * 30.0 * (f64::from(fps) / 30.0).sqrt();
        (rate as u32).clamp(self.min_bps, self.max_bps)
    }
}

impl AudioEncoder {
    /// A bin with a sink for 48 kHz stereo and a source of AAC.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if it cannot be built any more.
    pub fn build(&self) -> Result<gst::Bin, MediaError> {
        self.pipeline.build().map_err(MediaError::Unavailable)
    }
}

impl GridLayout {
    /// A tile's width over its height.
    pub fn aspect(&self) -> f64 {
        f64::from(self.tile_width) / f64::from(self.tile_height)
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

impl Colour {
    /// As `0xAARRGGBB`, opaque: how GStreamer's text and test elements take colours.
    pub fn argb(self) -> u32 {
        u32::from_be_bytes([0xff, self.red, self.green, self.blue])
    }

    /// As studio-range Y′CbCr of ITU-R BT.601, which is what 8-bit video of unstated colorimetry is.
    pub fn yuv(self) -> [u8; 3] {
        let [red, green, blue] = [self.red, self.green, self.blue].map(f64::from);
        let y = 16.0 + 0.256_788 * red + 0.504_129 * green + 0.097_906 * blue;
        let u = 128.0 - 0.148_223 * red - 0.290_993 * green + 0.439_216 * blue;
        let v = 128.0 + 0.439_216 * red - 0.367_788 * green - 0.071_427 * blue;
        [y, u, v].map(|value| value.round() as u8)
    }
}

impl TryFrom<String> for Colour {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii());
        let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let [_, red, green, blue] =
            number.ok_or_else(|| format!("`{text}` is not a colour; write `#rrggbb`"))?.to_be_bytes();
        Ok(Self { red, green, blue })
    }
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
