//! Frames that browsers do not take, decoded and encoded anew.

use std::sync::Arc;

use gst::prelude::*;
use tokio::sync::mpsc;

use super::{
    Context, add_linked, ear, frames_sink, frames_source, make, named,
    output::{OnAir, Output, caps_of},
};
use crate::media::{
    CodecName, Kind, MediaError,
    gst::{OwnedPipeline, PipelineEvent, preset::Presets},
};

/// Bytes that may wait for a decoder: more than the largest group that is kept.
const BACKLOG_BYTES: u64 = 8 * 1024 * 1024;
/// Frames a second where the source does not say.
const USUAL_FPS: u32 = 25;

/// A running transcoder or slate: something that makes frames for one track.
#[derive(Debug)]
pub(super) struct Maker {
    pub(super) pipeline: OwnedPipeline,
    pub(super) events: mpsc::Receiver<PipelineEvent>,
    /// Where a keyframe is asked for.
    sink: gst_app::AppSink,
    kind: Kind,
}

impl Maker {
    pub(super) fn new(
        (pipeline, events): (OwnedPipeline, mpsc::Receiver<PipelineEvent>),
        sink: gst_app::AppSink,
        kind: Kind,
    ) -> Self {
        Self { pipeline, events, sink, kind }
    }

    /// Asks the encoder for a keyframe.
    pub(super) fn request_keyframe(&self) {
        if self.kind == Kind::Video {
            let request = gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build();
            let pad = self.sink.static_pad("sink");
            // The first frame is a keyframe anyway. Asked for before it, GStreamer 1.22 notes it as asked
            // for in a thousand hours (x264enc counts from there), and hears of no other until then.
            let _ = pad
                .filter(|pad| pad.sticky_event::<gst::event::Segment>(0).is_some())
                .is_some_and(|pad| pad.push_event(request));
        }
    }
}

/// Builds a transcoder of frames of form `caps`. Its source is not attached yet. On a thread that may
/// block, within a tokio runtime.
pub(super) fn build(
    context: &Context,
    output: &Arc<Output>,
    caps: &gst::Caps,
) -> Result<(Maker, gst_app::AppSrc), MediaError> {
    let kind = output.track.kind();
    let (owned, events) = OwnedPipeline::new(&named("transcode", &output.track.id), &context.clock);
    let source = frames_source("camera", BACKLOG_BYTES);
    source.set_caps(Some(caps));
    let mut elements = vec![source.clone().upcast()];
    for name in decoder(caps)? {
        let element = make(name)?;
        if element.has_property("max-threads") {
            element.set_property_from_str("max-threads", "1");
        }
        elements.push(element);
    }
    elements.extend(match kind {
        Kind::Video => video_encoder(&context.presets, caps)?,
        Kind::Audio => audio_encoder(output)?,
    });
    let sink = sink(output, OnAir::Transcoder);
    elements.push(sink.clone().upcast());
    add_linked(owned.pipeline(), &elements)?;
    Ok((Maker::new((owned, events), sink, kind), source))
}

/// Takes encoded frames for an output.
pub(super) fn sink(output: &Arc<Output>, from: OnAir) -> gst_app::AppSink {
    let mut caps = caps_of(output.track.codec);
    if output.track.kind() == Kind::Video {
        let structure = caps.make_mut().structure_mut(0).expect("these caps have one structure");
        // What every browser decodes.
        structure.set("profile", "constrained-baseline");
    } else if output.track.codec == CodecName::Opus {
        // Mono is as good.
        caps = gst::Caps::new_empty_simple("audio/x-opus");
    }
    let target = output.clone();
    frames_sink(&named("encoded", &output.track.id), &caps, move |sample| {
        target.push(from, &sample);
    })
}

fn decoder(caps: &gst::Caps) -> Result<Vec<&'static str>, MediaError> {
    let name = caps.structure(0).map(|structure| structure.name().as_str()).unwrap_or_default();
    let version = caps.structure(0).and_then(|structure| structure.get::<i32>("mpegversion").ok()).unwrap_or(4);
    let choices: &[&'static [&'static str]] = match name {
        "video/x-h264" => &[&["avdec_h264"], &["h264parse", "openh264dec"]],
        "video/x-h265" => &[&["avdec_h265"], &["libde265dec"]],
        "image/jpeg" => &[&["jpegdec"]],
        "video/mpeg" if version == 4 => &[&["avdec_mpeg4"]],
        "video/mpeg" => &[&["avdec_mpeg2video"], &["mpeg2dec"]],
        "video/x-vp9" => &[&["vp9dec"]],
        "video/x-vp8" => &[&["vp8dec"]],
        "audio/mpeg" if version == 1 => &[&["mpg123audiodec"], &["avdec_mp3"]],
        "audio/x-ac3" => &[&["avdec_ac3"]],
        "audio/mpeg" => &[&["avdec_aac"], &["faad"], &["fdkaacdec"]],
        "audio/x-mulaw" => &[&["mulawdec"]],
        "audio/x-alaw" => &[&["alawdec"]],
        other => return Err(MediaError::Unavailable(format!("a decoder of {other}"))),
    };
    let installed = |names: &&&[&str]| names.iter().all(|name| gst::ElementFactory::find(name).is_some());
    let found = choices.iter().find(installed).ok_or_else(|| MediaError::Unavailable(choices[0].join(" and ")));
    found.map(|names| names.to_vec())
}

/// The live encoder, as for the mix; the size is the camera's own.
pub(super) fn video_encoder(presets: &Presets, caps: &gst::Caps) -> Result<Vec<gst::Element>, MediaError> {
    let structure = caps.structure(0);
    let number = |name: &str| structure.and_then(|it| it.get::<i32>(name).ok()).and_then(|it| u32::try_from(it).ok());
    let (width, height) = (number("width").unwrap_or(1280), number("height").unwrap_or(720));
    let rate = structure.and_then(|it| it.get::<gst::Fraction>("framerate").ok());
    let rate = rate.filter(|rate| rate.numer() > 0 && rate.denom() > 0);
    let fps = rate.map_or(USUAL_FPS, |rate| (rate.numer() / rate.denom()).clamp(1, 60) as u32);
    let raw = make("capsfilter")?;
    // Cameras send JPEG in full range, and some H.264 as well; whoever watches expects the usual one.
    let caps = gst::Caps::builder("video/x-raw").field("format", "I420").field("colorimetry", "bt709").build();
    raw.set_property("caps", &caps);
    let queue = make("queue")?;
    queue.set_property("max-size-buffers", 4u32);
    queue.set_property("max-size-bytes", 0u32);
    queue.set_property("max-size-time", 0u64);
    let encoder = presets.video_encoder()?.build(width.min(3840), height.min(2160), fps)?;
    Ok(vec![make("videoconvertscale")?, raw, queue, encoder.upcast()])
}

/// A decoder of sound that goes on as it is, only to hear how loud it is. Its source is not attached yet.
pub(super) fn listener(
    context: &Context,
    output: &Arc<Output>,
    caps: &gst::Caps,
) -> Result<(Maker, gst_app::AppSrc), MediaError> {
    let (owned, events) = OwnedPipeline::new(&named("listen", &output.track.id), &context.clock);
    let source = frames_source("camera", BACKLOG_BYTES);
    source.set_caps(Some(caps));
    let sink = frames_sink("heard", &gst::Caps::builder("audio/x-raw").field("format", "S16LE").build(), drop);
    let pad = sink.static_pad("sink").expect("an appsink has a sink pad");
    ear::listen(&pad, output.ear.clone());
    let elements = [source.clone().upcast(), make("opusdec")?, make("audioconvert")?, sink.clone().upcast()];
    add_linked(owned.pipeline(), &elements)?;
    Ok((Maker::new((owned, events), sink, Kind::Audio), source))
}

fn audio_encoder(output: &Output) -> Result<Vec<gst::Element>, MediaError> {
    let codec = output.track.codec;
    let raw = make("capsfilter")?;
    ear::listen(&raw.static_pad("src").expect("a capsfilter has a source pad"), output.ear.clone());
    let caps = gst::Caps::builder("audio/x-raw").field("format", "S16LE").field("rate", codec.clock_rate() as i32);
    let caps = if codec == CodecName::Opus { caps } else { caps.field("channels", 1) };
    raw.set_property("caps", caps.build());
    let encoder = match codec {
        CodecName::Pcmu => make("mulawenc")?,
        CodecName::Pcma => make("alawenc")?,
        _ => {
            let encoder = make("opusenc")?;
            encoder.set_property("bitrate", 64_000i32);
            encoder
        }
    };
    Ok(vec![make("audioconvert")?, make("audioresample")?, raw, encoder])
}
