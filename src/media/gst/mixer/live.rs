//! A live picture in a mix: from the track's decoder, in its tile's shape, into the compositor.

use std::sync::Arc;

use gst::prelude::*;
use gst_utils::streamproducer::ConsumerSettings;

use super::{
    super::{
        Track,
        decoder::{Decoder, Decoders, RawLink},
        needs::Need,
    },
    BACKLOG,
    branch::Branch,
    glide::Glides,
    live_source,
    shape::{Shape, Shaper},
};
use crate::{media::MediaError, room::id::TrackId};

/// A picture that moves.
#[derive(Debug)]
pub struct Live {
    pub track: TrackId,
    // Dropped first: nothing is pushed into a branch that is being taken down.
    link: RawLink,
    pub decoder: Arc<Decoder>,
    need: Need,
    shaper: Shaper,
    branch: Branch,
}

/// What a mix gives all its live pictures.
pub struct Studio<'a> {
    pub pipeline: &'a gst::Pipeline,
    pub compositor: &'a gst::Element,
    pub glides: &'a Glides,
    pub decoders: &'a Decoders,
    /// Running time 0 of the mix, in the room's.
    pub epoch: gst::ClockTime,
    pub with_effects: bool,
    /// How long a picture stands still until the slate is seen.
    pub freeze: std::time::Duration,
    /// Of the mix's pictures.
    pub fps: u32,
}

impl Studio<'_> {
    /// Puts a track into the mix; `begin` says where its pad is shown, before anything comes.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] without a decoder for it, [`MediaError::Element`] if an element refuses:
    /// nothing is left in the mix then.
    pub fn add(&self, track: &Arc<Track>, shape: Shape, begin: impl FnOnce(&gst::Pad)) -> Result<Live, MediaError> {
        let need = track.need(Some(shape.into()));
        let decoder = self.decoders.get(track)?;
        let source = live_source(self.epoch);
        let out = source.static_pad("src").expect("an appsrc has a source pad");
        let shaper = Shaper::new(&out, shape)?;
        let mut elements = vec![source.clone().upcast()];
        elements.extend(shaper.elements());
        let branch = Branch::add(self.pipeline, self.compositor, elements)?;
        branch.pad.set_property("max-last-buffer-repeat", self.freeze.as_nanos() as u64);
        // The compositor takes whatever begins before its picture ends, up to a whole picture early:
        // half of one later, it takes what is nearest in time.
        branch.pad.set_offset((gst::ClockTime::SECOND / (2 * u64::from(self.fps))).nseconds() as i64);
        begin(&branch.pad);
        let settings = ConsumerSettings { max_time: BACKLOG, ..Default::default() };
        match decoder.link(&source, settings, self.with_effects) {
            Ok(link) => Ok(Live { track: track.id.clone(), link, decoder, need, shaper, branch }),
            Err(error) => {
                self.glides.forget(&branch.pad);
                branch.end(self.pipeline, self.compositor);
                Err(error)
            }
        }
    }
}

impl Live {
    /// The compositor's.
    pub fn pad(&self) -> &gst::Pad {
        &self.branch.pad
    }

    /// Its tile has another shape from running time `from` on, and glides into it.
    pub fn become_at(&self, shape: Shape, from: gst::ClockTime) {
        self.need.change(shape.into());
        self.shaper.become_at(shape, from);
    }

    /// Nothing comes any more.
    pub fn cut(self) -> Branch {
        let Self { link, decoder, need, branch, .. } = self;
        drop((link, decoder, need));
        branch
    }
}
