//! What a file must be before it is used.

use std::ops::RangeInclusive;

use super::{
    AudioEncoder, BitrateRule, EffectFile, Fragment, LabelStyle, LayoutStyle, Preset, Slate, TrackEncoder, VideoEncoder,
};
use crate::{
    effect::Applied,
    media::{
        Kind, MediaError,
        gst::effect::{Album, Chain, Reports},
    },
};

/// Why a file is not used.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    pub reason: String,
    /// The command that mends it.
    pub remedy: Option<String>,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { reason, remedy: None }
    }
}

/// Reads a file; its numbers are in their ranges if this succeeds.
pub(super) fn parse(text: &str) -> Result<Preset, Refusal> {
    let preset: Preset = toml::from_str(text).map_err(|error| located(text, &error))?;
    name(preset.name())?;
    match &preset {
        Preset::Video(encoder) => video(encoder)?,
        Preset::Audio(encoder) | Preset::Opus(encoder) => audio(encoder)?,
        Preset::Grid(style)
        | Preset::Speaker(style)
        | Preset::Presentation(style)
        | Preset::Pip(style)
        | Preset::AudioOnly(style)
        | Preset::Custom(style) => layout(style)?,
        Preset::Slate(found) => slate(found)?,
        Preset::Silence(_) => {}
        Preset::Track(encoder) => track(encoder)?,
        Preset::VideoEffect(effect) | Preset::AudioEffect(effect) => effect.effect().check()?,
    }
    Ok(preset)
}

/// Builds its fragment once, if it has one.
pub(super) fn try_out(preset: &Preset, album: &Album) -> Result<(), Refusal> {
    let Some(fragment) = preset.fragment() else { return Ok(()) };
    installed(fragment)?;
    match preset {
        Preset::Video(encoder) => drop(encoder.build(1280, 720, 25).map_err(|error| error.to_string())?),
        Preset::Track(encoder) => drop(encoder.build().map_err(|error| error.to_string())?),
        Preset::VideoEffect(effect) => play_once(effect, Kind::Video, album)?,
        Preset::AudioEffect(effect) => play_once(effect, Kind::Audio, album)?,
        _ => drop(fragment.build()?),
    }
    Ok(())
}

impl Preset {
    fn name(&self) -> &str {
        match self {
            Self::Video(encoder) => &encoder.name,
            Self::Audio(encoder) | Self::Opus(encoder) => &encoder.name,
            Self::Grid(style)
            | Self::Speaker(style)
            | Self::Presentation(style)
            | Self::Pip(style)
            | Self::AudioOnly(style)
            | Self::Custom(style) => &style.name,
            Self::Slate(slate) => &slate.name,
            Self::Silence(silence) => &silence.name,
            Self::Track(encoder) => &encoder.name,
            Self::VideoEffect(effect) | Self::AudioEffect(effect) => &effect.name,
        }
    }

    fn fragment(&self) -> Option<&Fragment> {
        match self {
            Self::Video(encoder) => Some(&encoder.pipeline),
            Self::Audio(encoder) | Self::Opus(encoder) => Some(&encoder.pipeline),
            Self::Silence(silence) => Some(&silence.pipeline),
            Self::Track(encoder) => Some(&encoder.pipeline),
            Self::VideoEffect(effect) | Self::AudioEffect(effect) => Some(&effect.pipeline),
            Self::Grid(_)
            | Self::Speaker(_)
            | Self::Presentation(_)
            | Self::Pip(_)
            | Self::AudioOnly(_)
            | Self::Custom(_)
            | Self::Slate(_) => None,
        }
    }
}

fn installed(fragment: &Fragment) -> Result<(), Refusal> {
    let missing = fragment.missing();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Refusal {
        reason: format!("not installed: {}", missing.join(", ")),
        remedy: (!fragment.packages.is_empty()).then(|| format!("apt install {}", fragment.packages.join(" "))),
    })
}

/// A TOML error with the line it speaks of.
fn located(text: &str, error: &toml::de::Error) -> Refusal {
    let line = error.span().map(|span| text[..span.start.min(text.len())].lines().count().max(1));
    let place = line.map_or_else(String::new, |line| format!("line {line}: "));
    format!("{place}{}", error.message()).into()
}

fn name(name: &str) -> Result<(), Refusal> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=32).contains(&name.len()) && name.chars().all(plain) {
        return Ok(());
    }
    Err(format!("`name`: `{name}` is not 1 to 32 of a-z, 0-9 and -").into())
}

fn video(encoder: &VideoEncoder) -> Result<(), Refusal> {
    within("rank", encoder.rank, 0..=1000)?;
    bitrate(&encoder.bitrate)?;
    if let Some(pixels) = encoder.pixels_per_s_and_thread {
        within("pixels_per_s_and_thread", pixels, 1_000_000..=1_000_000_000)?;
    }
    within("keyframes.interval_s", encoder.keyframes.interval_s, 0.2..=10.0)
}

fn bitrate(bitrate: &BitrateRule) -> Result<(), Refusal> {
    within("bitrate.unit_bps", bitrate.unit_bps, 1..=1_000_000)?;
    within("bitrate.bits_per_pixel", bitrate.bits_per_pixel, 0.01..=1.0)?;
    within("bitrate.min_bps", bitrate.min_bps, 100_000..=100_000_000)?;
    within("bitrate.max_bps", bitrate.max_bps, bitrate.min_bps..=100_000_000)
}

fn audio(encoder: &AudioEncoder) -> Result<(), Refusal> {
    within("rank", encoder.rank, 0..=1000)?;
    within("priming_samples", encoder.priming_samples, 0..=10_000)
}

fn track(encoder: &TrackEncoder) -> Result<(), Refusal> {
    within("rank", encoder.rank, 0..=1000)?;
    encoder.bitrate.as_ref().map_or(Ok(()), bitrate)
}

/// Sends a few frames through an effect with its defaults: that it can be built does not mean that it
/// can play.
fn play_once(effect: &EffectFile, kind: Kind, album: &Album) -> Result<(), Refusal> {
    let effect = EffectFile { kind: Some(kind), ..effect.clone() };
    let applied = Applied { name: effect.name.clone(), params: Default::default() };
    let chain = Chain::of(kind, vec![(std::sync::Arc::new(effect), applied)], album, &Reports::default());
    chain.and_then(|chain| chain.play_once()).map_err(|error| match error {
        MediaError::Unavailable(reason) | MediaError::Element { message: reason, .. } => reason.into(),
        other => other.to_string().into(),
    })
}

fn layout(layout: &LayoutStyle) -> Result<(), Refusal> {
    within("gap_px", layout.gap_px, 0..=100)?;
    within("side_ratio", layout.side_ratio, 0.05..=0.5)?;
    within("tile_width", layout.tile_width, 1..=100)?;
    within("tile_height", layout.tile_height, 1..=100)?;
    label(&layout.label)
}

fn label(label: &LabelStyle) -> Result<(), Refusal> {
    if label.font.is_empty() || label.font.len() > 200 || label.font.chars().any(char::is_control) {
        return Err("`label.font`: write one to 200 printable characters".to_owned().into());
    }
    within("label.height_ratio", label.height_ratio, 0.01..=0.5)?;
    within("label.min_px", label.min_px, 6..=200)?;
    within("label.max_px", label.max_px, label.min_px..=200)?;
    within("label.opacity", label.opacity, 0.0..=1.0)
}

fn slate(slate: &Slate) -> Result<(), Refusal> {
    within("freeze_ms", slate.freeze_ms, 500..=60_000)?;
    within("colours (how many)", slate.colours.len(), 1..=32)
}

fn within<T: PartialOrd + std::fmt::Display>(key: &str, value: T, range: RangeInclusive<T>) -> Result<(), Refusal> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("`{key}`: {value} is not between {} and {}", range.start(), range.end()).into())
}
