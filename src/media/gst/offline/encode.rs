//! Encoders behind the mixers, and what they make on its way to the recorder: nothing is dropped, a
//! slow disk slows everything down.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use gst::prelude::*;

use super::{
    super::mixer::{Encoded, Tap},
    add_behind, make,
};
use crate::media::{Kind, MediaError};

/// Raw frames between a mixer and its encoder.
const QUEUE_FRAMES: u32 = 4;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    Picture,
    Sound,
}

/// Both encoded streams.
#[derive(Debug)]
pub struct Outputs {
    tap: Mutex<Option<Tap>>,
    /// Running time from which on nothing is recorded.
    limit: Option<gst::ClockTime>,
    position_ns: AtomicU64,
    frames: AtomicU64,
    over: [AtomicBool; 2],
}

impl Outputs {
    pub fn new(tap: Tap, limit: Option<gst::ClockTime>) -> Arc<Self> {
        let (position_ns, frames, over) = Default::default();
        Arc::new(Self { tap: Mutex::new(Some(tap)), limit, position_ns, frames, over })
    }

    /// Puts `encoder` behind `source`.
    pub fn encode(
        self: &Arc<Self>,
        pipeline: &gst::Pipeline,
        out: Out,
        source: &gst::Pad,
        encoder: gst::Bin,
    ) -> Result<(), MediaError> {
        let queue = make("queue")?;
        queue.set_property("max-size-buffers", QUEUE_FRAMES);
        queue.set_property("max-size-time", 0u64);
        queue.set_property("max-size-bytes", 0u32);
        let sink =
            gst_app::AppSink::builder().caps(&out.caps()).async_(false).sync(false).enable_last_sample(false).build();
        let (taking, ending) = (self.clone(), self.clone());
        let callbacks = gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| taking.take(out, sink.pull_sample().map_err(|_| gst::FlowError::Flushing)?))
            .eos(move |_| ending.end(out));
        sink.set_callbacks(callbacks.build());
        let mut elements = vec![queue];
        if out == Out::Sound {
            // Encoders differ in the sample format they take.
            elements.push(make("audioconvert")?);
        }
        elements.extend([encoder.upcast(), sink.upcast()]);
        add_behind(pipeline, source, &elements)
    }

    /// Nothing more comes from either.
    pub fn are_over(&self) -> bool {
        self.over.iter().all(|over| over.load(Relaxed))
    }

    /// Lets the recorder know that nothing more comes.
    pub fn close(&self) {
        self.tap.lock().expect("nothing panics under this lock").take();
    }

    /// Media time and frames that were encoded.
    pub fn picture_so_far(&self) -> (Duration, u64) {
        (Duration::from_nanos(self.position_ns.load(Relaxed)), self.frames.load(Relaxed))
    }

    /// On an encoder's thread, which waits while the recorder is behind.
    fn take(&self, out: Out, sample: gst::Sample) -> Result<gst::FlowSuccess, gst::FlowError> {
        let begin = sample.buffer().and_then(gst::BufferRef::pts).and_then(|time| {
            let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?.clone();
            segment.to_running_time(time)
        });
        if begin.zip(self.limit).is_some_and(|(begin, limit)| begin >= limit) {
            self.end(out);
            return Err(gst::FlowError::Eos);
        }
        if out == Out::Picture
            && let Some(begin) = begin
        {
            let end = begin + sample.buffer().and_then(gst::BufferRef::duration).unwrap_or_default();
            self.position_ns.fetch_max(end.nseconds(), Relaxed);
            self.frames.fetch_add(1, Relaxed);
        }
        let tap = self.tap.lock().expect("nothing panics under this lock").clone();
        let kind = if out == Out::Picture { Kind::Video } else { Kind::Audio };
        let encoded = Encoded { kind, sample, epoch: gst::ClockTime::ZERO };
        // The recorder has ended, and says why itself.
        tap.ok_or(gst::FlowError::Eos)?.send(encoded).map_err(|_| gst::FlowError::Eos)?;
        Ok(gst::FlowSuccess::Ok)
    }

    fn end(&self, out: Out) {
        self.over[out as usize].store(true, Relaxed);
    }
}

impl Out {
    fn caps(self) -> gst::Caps {
        match self {
            Self::Picture => {
                gst::Caps::builder("video/x-h264").field("stream-format", "avc").field("alignment", "au").build()
            }
            Self::Sound => {
                gst::Caps::builder("audio/mpeg").field("mpegversion", 4).field("stream-format", "raw").build()
            }
        }
    }
}
