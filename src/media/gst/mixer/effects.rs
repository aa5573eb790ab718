//! Effects on a mix: the room's, on its picture and on its sound, and behind them the clock and the logo of its layout.
//! None of them harms the mix: what fails is taken off.

use std::sync::{Arc, atomic::AtomicU32};

use tokio::sync::Notify;

use super::{
    super::{
        effect::{CostBook, Reports, Slot},
        preset::Presets,
    },
    Canvas, add_behind,
    audio::{audio_caps, caps_filter},
    make,
    picture::raw_caps,
};
use crate::{
    effect::{Applied, Picture, Value, find_picture},
    media::{Kind, LayoutSpec, MediaError, layout::Logo},
};

/// Where a mix's effects tell what they find and take, and that one has failed. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct EffectLines {
    /// What is found in the picture.
    pub pictures: Reports,
    /// What is found in the sound.
    pub sound: Reports,
    /// What each effect on the picture takes.
    pub picture_costs: CostBook,
    /// What each effect on the sound takes.
    pub sound_costs: CostBook,
    /// Every so many pictures go through the effects.
    pub every: Arc<AtomicU32>,
    /// Rings when an effect has failed.
    pub alarm: Arc<Notify>,
}

/// Of one mix.
#[derive(Debug)]
pub struct MixEffects {
    presets: Arc<Presets>,
    lines: EffectLines,
    video: Option<Slot>,
    audio: Option<Slot>,
    overlays: Option<Slot>,
    /// As they are to be, whether they could be put on or not.
    chain: Vec<Applied>,
    /// What the layout draws, whether it could be put on or not.
    layout: Vec<Applied>,
}

impl MixEffects {
    /// On a mix that has neither picture nor sound yet.
    pub fn new(presets: &Arc<Presets>, lines: EffectLines) -> Self {
        let presets = presets.clone();
        Self { presets, lines, video: None, audio: None, overlays: None, chain: Vec::new(), layout: Vec::new() }
    }

    /// Makes a place for them behind the picture that comes from `source`; whatever they do to its size and
    /// format, what is behind the element that is answered does not notice.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`], [`MediaError::Element`]
    pub fn behind_picture(
        &mut self,
        pipeline: &gst::Pipeline,
        source: &gst::Element,
        canvas: Canvas,
    ) -> Result<gst::Element, MediaError> {
        let caps = raw_caps(canvas.width, canvas.height).framerate((canvas.fps as i32, 1).into()).build();
        let ends = || Ok::<_, MediaError>(vec![make("videoconvertscale")?, caps_filter(&caps)?]);
        let (effects, overlays) = (ends()?, ends()?);
        add_behind(pipeline, source, &effects)?;
        add_behind(pipeline, &effects[1], &overlays)?;
        let EffectLines { pictures, picture_costs, every, alarm, .. } = self.lines.clone();
        let slot = |from, to| Slot::new(pipeline, Kind::Video, from, to);
        let guarded = slot(source, &effects[0]).guarded(every, alarm.clone());
        self.video = Some(guarded.telling(pictures, picture_costs));
        self.overlays = Some(slot(&effects[1], &overlays[0]).guarded(Arc::default(), alarm));
        Ok(overlays[1].clone())
    }

    /// As [`behind_picture`](Self::behind_picture), for the sound.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`], [`MediaError::Element`]
    pub fn behind_sound(
        &mut self,
        pipeline: &gst::Pipeline,
        source: &gst::Element,
    ) -> Result<gst::Element, MediaError> {
        let ends = [make("audioconvert")?, make("audioresample")?, caps_filter(&audio_caps())?];
        add_behind(pipeline, source, &ends)?;
        let EffectLines { sound, sound_costs, alarm, .. } = self.lines.clone();
        let slot = Slot::new(pipeline, Kind::Audio, source, &ends[0]).guarded(Arc::default(), alarm);
        self.audio = Some(slot.telling(sound, sound_costs));
        Ok(ends[2].clone())
    }

    /// These and no others from the next frame on; those that failed are not tried again until others were wanted.
    /// Blocks for some milliseconds.
    ///
    /// # Errors
    /// As [`Slot::set`]: what could not be changed is as it was.
    pub fn set(&mut self, chain: &[Applied]) -> Result<(), MediaError> {
        if self.chain == chain {
            return Ok(());
        }
        self.chain = chain.to_vec();
        let (mut video, mut audio) = (Vec::new(), Vec::new());
        for applied in chain {
            match self.presets.effect(&applied.name)?.kind() {
                Kind::Video => video.push(applied.clone()),
                Kind::Audio => audio.push(applied.clone()),
            }
        }
        for (slot, chain) in [(&mut self.video, video), (&mut self.audio, audio)] {
            slot.as_mut().map_or(Ok(()), |slot| slot.set(&self.presets, &chain))?;
        }
        Ok(())
    }

    /// What the layout draws, as [`overlays`]. A mix goes on without what cannot be shown.
    pub fn set_overlays(&mut self, overlays: Vec<Applied>) {
        if self.layout == overlays {
            return;
        }
        self.layout = overlays;
        // One that this machine cannot make does not take the other with it.
        let possible = self.layout.iter().filter(|applied| match self.presets.effect(&applied.name) {
            Ok(_) => true,
            Err(error) => {
                tracing::error!("the layout's {} cannot be shown: {error}", applied.name);
                false
            }
        });
        let chain: Vec<_> = possible.cloned().collect();
        if let Some(Err(error)) = self.overlays.as_mut().map(|slot| slot.set(&self.presets, &chain)) {
            tracing::error!("the layout's clock and logo cannot be shown: {error}");
        }
    }

    /// Takes off what has failed; the answer is which effects of the room's did, and why. Blocks for some
    /// milliseconds.
    pub fn mend(&mut self) -> Option<(Vec<Applied>, MediaError)> {
        let mut failed = None;
        for slot in [&mut self.video, &mut self.audio].into_iter().flatten() {
            failed = take_off(slot, &self.presets).or(failed);
        }
        if let Some(error) = self.overlays.as_mut().and_then(|slot| take_off(slot, &self.presets)) {
            tracing::error!("the layout's clock and logo are shown no more: {error}");
        }
        failed.map(|error| (self.chain.clone(), error))
    }
}

fn take_off(slot: &mut Slot, presets: &Presets) -> Option<MediaError> {
    let failure = slot.failure()?;
    if let Err(error) = slot.set(presets, &[]) {
        tracing::error!("effects that failed cannot be taken out: {error}");
    }
    Some(failure)
}

/// The effects that draw a layout's clock and its logo: the clock in the corner where neither names nor the title are.
/// `pictures`: the room's.
pub fn overlays(layout: &LayoutSpec, pictures: &[Arc<Picture>]) -> Vec<Applied> {
    let text = |value: &str| Value::Text(value.to_owned());
    let applied = |name: &str, params: &[(&str, Value)]| Applied {
        name: name.into(),
        params: params.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
    };
    let clock = layout.clock.then(|| applied("clock", &[("format", text("time")), ("corner", text("top-right"))]));
    let logo = layout.logo.as_ref().and_then(|Logo { picture, corner, size, opacity }| {
        let Some(picture) = find_picture(picture.as_str(), pictures) else {
            tracing::error!("the layout's logo cannot be shown: the room has no picture {picture}");
            return None;
        };
        let params = [
            ("picture", Value::Picture(picture.clone())),
            ("corner", text(corner.name())),
            ("size", Value::Number(*size)),
            ("opacity", Value::Number(*opacity)),
        ];
        Some(applied("logo", &params))
    });
    clock.into_iter().chain(logo).collect()
}
