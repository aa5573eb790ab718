//! The sound of all inputs over a silence that lasts as long as the picture.

use std::sync::{Arc, Condvar, Mutex};

use gst::prelude::*;

use super::{add_behind, input::Input, make, source_pad};
use crate::media::MediaError;

/// How far the silence may run ahead of the picture.
const LEAD: gst::ClockTime = gst::ClockTime::from_mseconds(500);
const BLOCK_SAMPLES: i32 = 960;

/// How far the picture is, for the silence to follow.
#[derive(Debug, Default)]
pub struct Pace {
    picture: Mutex<Reached>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug)]
enum Reached {
    At(gst::ClockTime),
    Ended(gst::ClockTime),
}

impl Default for Reached {
    fn default() -> Self {
        Self::At(gst::ClockTime::ZERO)
    }
}

/// The mixer of all sounds.
#[derive(Debug)]
pub struct Sound {
    output: gst::Pad,
}

impl Sound {
    pub fn build(pipeline: &gst::Pipeline, inputs: &[Input], pace: &Arc<Pace>) -> Result<Self, MediaError> {
        let mixer = make("audiomixer")?;
        let format = caps_filter()?;
        pipeline.add(&mixer).map_err(|error| failed(&error))?;
        add_behind(pipeline, &source_pad(&mixer), std::slice::from_ref(&format))?;
        let silence = silence(pace)?;
        pipeline.add(&silence).map_err(|error| failed(&error))?;
        mix(pipeline, &source_pad(&silence), &mixer, vec![caps_filter()?])?;
        for branch in inputs.iter().filter_map(|input| input.audio.as_ref()) {
            let row = vec![make("audioconvert")?, make("audioresample")?, caps_filter()?];
            mix(pipeline, &branch.pad, &mixer, row)?;
        }
        Ok(Self { output: source_pad(&format) })
    }

    /// 48 kHz stereo, S16.
    pub fn output(&self) -> &gst::Pad {
        &self.output
    }
}

impl Pace {
    /// The picture has come to `time`.
    pub fn reach(&self, time: gst::ClockTime) {
        self.set(|_| Reached::At(time));
    }

    /// The picture goes no further.
    pub fn end(&self) {
        self.set(|reached| Reached::Ended(reached.time()));
    }

    fn set(&self, change: impl FnOnce(Reached) -> Reached) {
        let mut reached = self.picture.lock().expect("nothing panics under this lock");
        if let Reached::At(_) = *reached {
            *reached = change(*reached);
        }
        self.changed.notify_all();
    }

    /// Waits until the picture is near `time`; false if it ends before.
    fn wait_for(&self, time: gst::ClockTime) -> bool {
        let reached = self.picture.lock().expect("nothing panics under this lock");
        let ahead = |reached: &mut Reached| matches!(*reached, Reached::At(at) if at + LEAD < time);
        let reached = self.changed.wait_while(reached, ahead).expect("nothing panics under this lock");
        !matches!(*reached, Reached::Ended(end) if end <= time)
    }
}

impl Reached {
    fn time(self) -> gst::ClockTime {
        match self {
            Self::At(time) | Self::Ended(time) => time,
        }
    }
}

/// Without it an input without sound would leave the file without one, and a file with little sound
/// would be encoded far ahead of its picture.
fn silence(pace: &Arc<Pace>) -> Result<gst::Element, MediaError> {
    let source = make("audiotestsrc")?;
    source.set_property_from_str("wave", "silence");
    source.set_property("samplesperbuffer", BLOCK_SAMPLES);
    let pace = pace.clone();
    source_pad(&source).add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let time = info.buffer().and_then(|buffer| buffer.pts());
        if time.is_none_or(|time| pace.wait_for(time)) {
            return gst::PadProbeReturn::Ok;
        }
        // The source takes this as its end, and passes that on.
        info.flow_res = Err(gst::FlowError::Eos);
        gst::PadProbeReturn::Handled
    });
    Ok(source)
}

fn mix(
    pipeline: &gst::Pipeline,
    source: &gst::Pad,
    mixer: &gst::Element,
    row: Vec<gst::Element>,
) -> Result<(), MediaError> {
    add_behind(pipeline, source, &row)?;
    let pad = mixer.request_pad_simple("sink_%u").ok_or_else(|| failed(&"audiomixer gave no pad"))?;
    source_pad(&row[row.len() - 1]).link(&pad).map(drop).map_err(|error| failed(&error))
}

fn caps_filter() -> Result<gst::Element, MediaError> {
    let caps = gst_audio::AudioCapsBuilder::new_interleaved()
        .format(gst_audio::AudioFormat::S16le)
        .rate(48_000)
        .channels(2)
        .build();
    let filter = make("capsfilter")?;
    filter.set_property("caps", caps);
    Ok(filter)
}

fn failed(error: &dyn std::fmt::Display) -> MediaError {
    MediaError::Element { element: "offline sound".into(), message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_waits_for_the_picture_and_ends_with_it() {
        let pace = Arc::new(Pace::default());
        let ms = gst::ClockTime::from_mseconds;
        assert!(pace.wait_for(ms(400)));
        let waiting = std::thread::spawn({
            let pace = pace.clone();
            move || (pace.wait_for(ms(1_400)), pace.wait_for(ms(3_000)), pace.wait_for(ms(1_980)))
        });
        pace.reach(ms(1_000));
        pace.reach(ms(2_000));
        pace.end();
        pace.reach(ms(9_000));
        assert_eq!(waiting.join().unwrap(), (true, false, true));
    }
}
