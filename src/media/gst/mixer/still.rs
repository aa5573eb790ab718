//! Pictures that are sent once and shown until the next.

use gst::prelude::*;

use super::{branch::Branch, picture::Picture};
use crate::media::MediaError;

/// Pictures that wait for their time: a backdrop on its way has eight.
const WAITING: u64 = 12;

/// A place in the compositor for a picture that seldom changes.
#[derive(Debug)]
pub struct Still {
    source: gst_app::AppSrc,
    branch: Branch,
}

impl Still {
    /// Nothing is seen of it until the first picture.
    pub fn new(pipeline: &gst::Pipeline, compositor: &gst::Element) -> Result<Self, MediaError> {
        let source = gst_app::AppSrc::builder()
            .format(gst::Format::Time)
            .is_live(true)
            .max_buffers(WAITING)
            .leaky_type(gst_app::AppLeakyType::Downstream)
            .build();
        // Without this a live source answers with what its own start took, as the most it can wait.
        source.set_latency(gst::ClockTime::ZERO, gst::ClockTime::NONE);
        let branch = Branch::add(pipeline, compositor, vec![source.clone().upcast()])?;
        Ok(Self { source, branch })
    }

    /// The compositor's.
    pub fn pad(&self) -> &gst::Pad {
        &self.branch.pad
    }

    /// From running time `from` on.
    pub fn show(&self, picture: &Picture, from: gst::ClockTime) -> Result<(), MediaError> {
        self.source.push_sample(&picture.sample(from)).map(drop).map_err(|error| failed(&error))
    }

    /// Takes it out.
    pub fn end(self, pipeline: &gst::Pipeline, compositor: &gst::Element) {
        self.branch.end(pipeline, compositor);
    }
}

fn failed(error: &dyn std::fmt::Display) -> MediaError {
    MediaError::Element { element: "still picture".into(), message: error.to_string() }
}
