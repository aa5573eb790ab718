//! Elements in a row that end in a pad of a mixer, put in and taken out while the mixer runs.

use gst::prelude::*;

use crate::media::MediaError;

/// A row of elements, the source first, and its place in the mixer.
#[derive(Debug)]
pub struct Branch {
    elements: Vec<gst::Element>,
    /// The mixer's.
    pub pad: gst::Pad,
}

impl Branch {
    /// Puts it in and starts it.
    ///
    /// # Errors
    /// [`MediaError::Element`]; nothing is left in the pipeline then.
    pub fn add(
        pipeline: &gst::Pipeline,
        mixer: &gst::Element,
        elements: Vec<gst::Element>,
    ) -> Result<Self, MediaError> {
        let pad = mixer.request_pad_simple("sink_%u").ok_or_else(|| failed(mixer, &"gave no pad"))?;
        let branch = Self { elements, pad };
        match branch.join(pipeline) {
            Ok(()) => Ok(branch),
            Err(error) => {
                branch.end(pipeline, mixer);
                Err(failed(mixer, &error))
            }
        }
    }

    fn join(&self, pipeline: &gst::Pipeline) -> Result<(), gst::glib::BoolError> {
        pipeline.add_many(&self.elements)?;
        gst::Element::link_many(&self.elements)?;
        let last = self.elements.last().and_then(|element| element.static_pad("src"));
        let out = last.ok_or_else(|| gst::glib::bool_error!("a branch without a way out"))?;
        out.link(&self.pad).map_err(|error| gst::glib::bool_error!("{error}"))?;
        // The source last, so that nothing comes before all are ready.
        self.elements.iter().rev().try_for_each(gst::prelude::ElementExt::sync_state_with_parent)
    }

    /// Takes it out while it runs: first its pad, so that nothing waits in it, then its elements, the
    /// source first, so that none pushes into what is gone.
    pub fn end(self, pipeline: &gst::Pipeline, mixer: &gst::Element) {
        let Self { elements, pad } = self;
        for element in &elements {
            element.set_locked_state(true);
        }
        // Flushing makes a push that waits for the mixer return, and every later one too.
        let _ = pad.send_event(gst::event::FlushStart::new());
        for element in &elements {
            if let Err(error) = element.set_state(gst::State::Null) {
                tracing::error!(element = %element.name(), "could not be stopped: {error}");
            }
        }
        mixer.release_request_pad(&pad);
        // Of a branch that could not be put in, not all need be there.
        elements.iter().for_each(|element| drop(pipeline.remove(element)));
    }
}

fn failed(mixer: &gst::Element, error: &dyn std::fmt::Display) -> MediaError {
    MediaError::Element { element: mixer.name().into(), message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_put_in_leaves_nothing_behind() {
        gst::init().unwrap();
        let make = |name: &str| gst::ElementFactory::make(name).build().unwrap();
        let (pipeline, mixer) = (gst::Pipeline::new(), make("audiomixer"));
        pipeline.add(&mixer).unwrap();
        let row = || vec![make("videotestsrc"), make("videoconvert"), make("capsfilter")];
        assert!(Branch::add(&pipeline, &mixer, row()).is_err(), "pictures do not go into a sound mixer");
        assert_eq!((pipeline.children().len(), mixer.sink_pads().len()), (1, 0));
        let unlinked = vec![make("videotestsrc"), make("audioconvert")];
        assert!(Branch::add(&pipeline, &mixer, unlinked).is_err());
        assert_eq!((pipeline.children().len(), mixer.sink_pads().len()), (1, 0));
        let sound = Branch::add(&pipeline, &mixer, vec![make("audiotestsrc"), make("audioconvert")]).unwrap();
        assert_eq!((pipeline.children().len(), mixer.sink_pads().len()), (3, 1));
        sound.end(&pipeline, &mixer);
        assert_eq!((pipeline.children().len(), mixer.sink_pads().len()), (1, 0));
    }
}
