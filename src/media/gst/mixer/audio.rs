//! The sound of a mix: all audible tracks over a silence that is always there.

use std::{collections::HashMap, sync::Arc};

use gst::prelude::*;
use gst_utils::streamproducer::ConsumerSettings;

use super::{
    super::{
        TrackTable,
        decoder::{Decoder, Decoders, RawLink},
        preset::Silence,
    },
    BACKLOG, add_behind,
    branch::Branch,
    drift, live_source, make, make_live,
};
use crate::{media::MediaError, room::id::TrackId};

/// How much the mixer puts out at a time: an Opus frame.
const BLOCK: gst::ClockTime = gst::ClockTime::from_mseconds(20);

#[derive(Debug)]
pub struct AudioMix {
    pipeline: gst::glib::WeakRef<gst::Pipeline>,
    decoders: Decoders,
    mixer: gst::Element,
    output: gst::Element,
    epoch: gst::ClockTime,
    /// Tracks are taken with their effects.
    pub with_effects: bool,
    inputs: HashMap<TrackId, Input>,
}

/// One track that sounds.
#[derive(Debug)]
struct Input {
    // Dropped first: nothing is pushed into a branch that is being taken down.
    link: RawLink,
    decoder: Arc<Decoder>,
    branch: Branch,
}

impl AudioMix {
    pub fn new(pipeline: &gst::Pipeline, decoders: &Decoders, silence: &Silence) -> Result<Self, MediaError> {
        let mixer = make_live("audiomixer")?;
        mixer.set_property("output-buffer-duration", BLOCK.nseconds());
        mixer.set_property("ignore-inactive-pads", true);
        let format = caps_filter(&audio_caps())?;
        pipeline.add(&mixer).map_err(|error| failed(&error))?;
        add_behind(pipeline, &mixer, std::slice::from_ref(&format))?;
        let source: gst::Element = silence.build()?.upcast();
        pipeline.add(&source).map_err(|error| failed(&error))?;
        let row = [make("audioconvert")?, caps_filter(&audio_caps())?];
        add_behind(pipeline, &source, &row)?;
        row[1].link(&mixer).map_err(|error| failed(&error))?;
        Ok(Self {
            pipeline: pipeline.downgrade(),
            decoders: decoders.clone(),
            mixer,
            output: format,
            epoch: gst::ClockTime::ZERO,
            with_effects: true,
            inputs: HashMap::new(),
        })
    }

    /// 48 kHz stereo, S16.
    pub fn output(&self) -> &gst::Element {
        &self.output
    }

    /// Before the pipeline starts: its running time 0 is that time of the room.
    pub fn begin_at(&mut self, epoch: gst::ClockTime) {
        self.epoch = epoch;
    }

    pub fn decoders(&self) -> impl Iterator<Item = (TrackId, Arc<Decoder>)> {
        self.inputs.iter().map(|(track, input)| (track.clone(), input.decoder.clone()))
    }

    /// Exactly these sound from now on.
    pub fn set_tracks(&mut self, audible: &[TrackId], tracks: &TrackTable) {
        let Some(pipeline) = self.pipeline.upgrade() else { return };
        let gone: Vec<_> = self.inputs.keys().filter(|track| !audible.contains(track)).cloned().collect();
        for track in gone {
            if let Some(Input { link, decoder, branch }) = self.inputs.remove(&track) {
                drop((link, decoder));
                branch.end(&pipeline, &self.mixer);
            }
        }
        for id in audible {
            let Some(track) = tracks.get(id).filter(|_| !self.inputs.contains_key(id)) else { continue };
            let added = self.decoders.get(track).and_then(|decoder| self.add(&pipeline, decoder));
            match added {
                Ok(input) => drop(self.inputs.insert(id.clone(), input)),
                Err(error) => tracing::warn!(track.id = %id, "cannot be heard in the mix: {error}"),
            }
        }
    }

    fn add(&self, pipeline: &gst::Pipeline, decoder: Arc<Decoder>) -> Result<Input, MediaError> {
        let source = live_source(self.epoch);
        let row = [make("audioconvert")?, make("audioresample")?, caps_filter(&audio_caps())?];
        drift::follow(&row[2].static_pad("src").expect("a capsfilter has a source pad"));
        let elements = [source.clone().upcast()].into_iter().chain(row).collect();
        let branch = Branch::add(pipeline, &self.mixer, elements)?;
        let settings = ConsumerSettings { max_time: BACKLOG, ..Default::default() };
        match decoder.link(&source, settings, self.with_effects) {
            Ok(link) => Ok(Input { link, decoder, branch }),
            Err(error) => {
                branch.end(pipeline, &self.mixer);
                Err(error)
            }
        }
    }
}

/// 48 kHz stereo, S16.
pub fn audio_caps() -> gst::Caps {
    gst_audio::AudioCapsBuilder::new_interleaved()
        .format(gst_audio::AudioFormat::S16le)
        .rate(48_000)
        .channels(2)
        .build()
}

pub fn caps_filter(caps: &gst::Caps) -> Result<gst::Element, MediaError> {
    let filter = make("capsfilter")?;
    filter.set_property("caps", caps);
    Ok(filter)
}

fn failed(error: &dyn std::fmt::Display) -> MediaError {
    MediaError::Element { element: "audio mix".into(), message: error.to_string() }
}
