//! One published track as whole frames, as they came: depayloaded and parsed; decoded only if no file holds its codec.
//!
//! It is a pipeline of its own, restarted when it fails, as a decoder's is.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::AtomicU32},
};

use gst::prelude::*;
use tokio::sync::oneshot;

use super::super::{
    OwnedPipeline, RoomClock, Track,
    decoder::{configure_video, link, make, run, source},
    needs::Need,
};
use crate::media::{CodecName, Kind, MediaError};

/// Runs until it is dropped.
#[derive(Debug)]
pub struct Depacketiser {
    _in_use: oneshot::Sender<Infallible>,
    /// All that comes.
    _need: Need,
}

impl Depacketiser {
    /// Gives every frame of `track` from now on to `take`, on a thread that must not wait; pictures
    /// begin with a keyframe, which is asked for. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if this machine lacks an element.
    pub fn start(
        track: &Arc<Track>,
        clock: &RoomClock,
        take: impl Fn(gst::Sample) + Send + Sync + 'static,
    ) -> Result<Self, MediaError> {
        let (factories, caps) = form(track.codec);
        let mut chain = factories.iter().map(|name| make(name)).collect::<Result<Vec<_>, _>>()?;
        if track.kind() == Kind::Video {
            configure_video(&chain);
        }
        if let Some(parser) = chain.iter_mut().find(|element| element.has_property("config-interval")) {
            // With each keyframe: a file that begins there, or changes its size there, needs them.
            parser.set_property("config-interval", -1);
        }
        let (owned, events) = OwnedPipeline::new(&format!("take-{}", track.id), clock);
        let source = source();
        let sink = gst_app::AppSink::builder().name("frames").caps(&caps).async_(false).sync(false).build();
        sink.set_enable_last_sample(false);
        let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
            take(sink.pull_sample().map_err(|_| gst::FlowError::Flushing)?);
            Ok(gst::FlowSuccess::Ok)
        });
        sink.set_callbacks(callbacks.build());
        link(owned.pipeline(), source.upcast_ref(), &chain, sink.upcast_ref())?;
        let (in_use, last_gone) = oneshot::channel();
        let need = track.need(None);
        tokio::spawn(run(owned, events, source, track.clone(), last_gone, Arc::new(AtomicU32::new(0))));
        Ok(Self { _in_use: in_use, _need: need })
    }
}

/// The codec under which files hold a track of `codec`: its own, or another, and it is encoded anew.
pub fn kept_as(codec: CodecName) -> CodecName {
    match codec {
        CodecName::Pcmu | CodecName::Pcma => CodecName::Opus,
        _ => codec,
    }
}

/// Depayloader and parser of a codec, and the form in which files hold it.
fn form(codec: CodecName) -> (&'static [&'static str], gst::Caps) {
    let caps = |name: &str| gst::Caps::builder(name);
    let opus = || caps("audio/x-opus").build();
    match codec {
        CodecName::Opus => (&["rtpopusdepay", "opusparse"], opus()),
        CodecName::Vp8 => (&["rtpvp8depay"], caps("video/x-vp8").build()),
        CodecName::Vp9 => (&["rtpvp9depay", "vp9parse"], caps("video/x-vp9").field("alignment", "super-frame").build()),
        CodecName::H264 => (
            &["rtph264depay", "h264parse"],
            caps("video/x-h264").field("stream-format", "avc3").field("alignment", "au").build(),
        ),
        // No file that browsers play holds it as it is.
        CodecName::Pcmu => (&["rtppcmudepay", "mulawdec", "audioconvert", "audioresample", "opusenc"], opus()),
        CodecName::Pcma => (&["rtppcmadepay", "alawdec", "audioconvert", "audioresample", "opusenc"], opus()),
        CodecName::Av1 => (
            &["rtpav1depay", "av1parse"],
            caps("video/x-av1").field("stream-format", "obu-stream").field("alignment", "tu").build(),
        ),
    }
}
