//! One connection's packets made frames: jitter buffer, lip-sync, depayloaders, parsers; and whether
//! browsers take the frames as they are.

use std::sync::{Arc, Mutex};

use gst::prelude::*;
use tokio::sync::mpsc;

use super::{Context, add_linked, frames_sink, frames_source, make, named, output::Output};
use crate::{
    ingest::rtsp::{Packet, Stream},
    media::{
        CodecName, Kind, MediaError,
        gst::{OwnedPipeline, PipelineEvent, RoomClock},
        h264,
        ingest::Ingest,
    },
};

/// Bytes of packets that may wait.
const BACKLOG_BYTES: u64 = 4 * 1024 * 1024;
/// Pictures that are looked at before H.264 that may be reordered is taken for what is not.
const LOOKED_AT: usize = 8;
/// Receiver reports that may wait for the line.
const REPORTS: usize = 16;

/// The pipeline of a connection.
pub(super) struct Input {
    pub(super) pipeline: OwnedPipeline,
    pub(super) events: mpsc::Receiver<PipelineEvent>,
    /// Receiver reports, by stream.
    pub(super) reports: mpsc::Receiver<(usize, Vec<u8>)>,
    clock: RoomClock,
    sources: Vec<[gst_app::AppSrc; 2]>,
}

impl Input {
    /// Builds it for what a camera has; a stream whose encoding nobody here knows is left out. Must be
    /// called on a tokio runtime, on a thread that may block.
    pub(super) fn build(
        context: &Context,
        ingest: &Ingest,
        streams: &[Stream],
        outputs: &[Arc<Output>],
    ) -> Result<Self, MediaError> {
        let (owned, events) = OwnedPipeline::new(&format!("camera-{}", context.connection), &context.clock);
        let pipeline = owned.pipeline();
        let bin = make("rtpbin")?;
        let latency = u32::try_from(ingest.latency.as_millis()).unwrap_or(u32::MAX);
        bin.set_property("latency", latency);
        bin.set_property("drop-on-latency", true);
        bin.set_property("do-lost", true);
        pipeline.add(&bin).map_err(|error| broken(&error))?;
        let caps: Vec<gst::Caps> = streams.iter().map(caps).collect();
        let maps = caps.clone();
        bin.connect("request-pt-map", false, move |values| {
            let session = values.get(1)?.get::<u32>().ok()? as usize;
            Some(maps.get(session)?.to_value())
        });
        let (report, reports) = mpsc::channel(REPORTS);
        let mut chains = Vec::new();
        let mut sources = Vec::new();
        for (index, stream) in streams.iter().enumerate() {
            let output = outputs.iter().find(|output| output.track.kind() == stream.kind);
            let chain = output.and_then(|output| Chain::build(pipeline, stream, output, &context.clock));
            chains.push(chain.map(|chain| chain.first));
            sources.push(add_session(pipeline, &bin, index, &caps[index], &report)?);
        }
        bin.connect_pad_added(move |_, pad| {
            let name = pad.name();
            let session = name.strip_prefix("recv_rtp_src_").and_then(|rest| rest.split('_').next()?.parse().ok());
            let Some(Some(first)) = session.and_then(|session: usize| chains.get(session)) else { return };
            let Some(sink) = first.upgrade().and_then(|first: gst::Element| first.static_pad("sink")) else { return };
            // A camera that begins to count anew has another source, in the place of the first.
            if let Some(old) = sink.peer() {
                let _ = old.unlink(&sink);
            }
            if let Err(error) = pad.link(&sink) {
                tracing::warn!(pad = %name, "a camera's stream could not be linked: {error}");
            }
        });
        Ok(Self { pipeline: owned, events, reports, clock: context.clock.clone(), sources })
    }

    /// Takes a packet of the camera's; never waits.
    pub(super) fn push(&self, packet: &Packet) {
        let Some(pair) = self.sources.get(packet.stream) else { return };
        let mut buffer = gst::Buffer::from_slice(packet.bytes.clone());
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(self.clock.running_time());
        }
        // An error means that the pipeline is going down.
        let _ = pair[usize::from(packet.rtcp)].push_buffer(buffer);
    }
}

/// RTP and RTCP of one stream into `rtpbin`, and its reports out again.
fn add_session(
    pipeline: &gst::Pipeline,
    bin: &gst::Element,
    index: usize,
    caps: &gst::Caps,
    report: &mpsc::Sender<(usize, Vec<u8>)>,
) -> Result<[gst_app::AppSrc; 2], MediaError> {
    let rtp = frames_source(&format!("rtp-{index}"), BACKLOG_BYTES);
    rtp.set_caps(Some(caps));
    let rtcp = frames_source(&format!("rtcp-{index}"), BACKLOG_BYTES / 64);
    let rtcp_caps = gst::Caps::new_empty_simple("application/x-rtcp");
    rtcp.set_caps(Some(&rtcp_caps));
    pipeline.add_many([&rtp, &rtcp]).map_err(|error| broken(&error))?;
    for (source, kind) in [(&rtp, "rtp"), (&rtcp, "rtcp")] {
        source
            .link_pads(Some("src"), bin, Some(&format!("recv_{kind}_sink_{index}")))
            .map_err(|error| broken(&error))?;
    }
    let report = report.clone();
    let sink = frames_sink(&format!("reports-{index}"), &rtcp_caps, move |sample| {
        if let Some(map) = sample.buffer().and_then(|buffer| buffer.map_readable().ok()) {
            // One that finds no room is of no use later.
            let _ = report.try_send((index, map.to_vec()));
        }
    });
    pipeline.add(&sink).map_err(|error| broken(&error))?;
    bin.link_pads(Some(&format!("send_rtcp_src_{index}")), &sink, Some("sink")).map_err(|error| broken(&error))?;
    Ok([rtp, rtcp])
}

fn broken(error: &gst::glib::BoolError) -> MediaError {
    MediaError::Element { element: "rtpbin".into(), message: error.to_string() }
}

/// From a stream's packets to its frames.
struct Chain {
    first: gst::glib::WeakRef<gst::Element>,
}

impl Chain {
    /// `None` if nobody here knows the encoding, or an element is missing.
    fn build(pipeline: &gst::Pipeline, stream: &Stream, output: &Arc<Output>, clock: &RoomClock) -> Option<Self> {
        let (factories, caps) = elements(&stream.encoding)?;
        let mut elements = factories.iter().map(|name| make(name)).collect::<Result<Vec<_>, _>>().ok()?;
        for parser in &elements {
            if parser.has_property("config-interval") {
                parser.set_property("config-interval", -1);
            }
        }
        let judge = Judge::new(output, clock);
        let sink = frames_sink(&named("camera", &output.track.id), &caps, move |sample| judge.take(sample));
        elements.push(sink.upcast());
        add_linked(pipeline, &elements).ok()?;
        Some(Self { first: elements[0].downgrade() })
    }
}

/// Depayloader and parser of an encoding, and what comes out of them. Others are not fetched.
pub(super) fn elements(encoding: &str) -> Option<(&'static [&'static str], gst::Caps)> {
    let video =
        |name: &str| gst::Caps::builder(name).field("stream-format", "byte-stream").field("alignment", "au").build();
    let plain = |name: &str| gst::Caps::new_empty_simple(name);
    Some(match encoding {
        "H264" => (&["rtph264depay", "h264parse"], video("video/x-h264")),
        "H265" => (&["rtph265depay", "h265parse"], video("video/x-h265")),
        "JPEG" => (&["rtpjpegdepay"], plain("image/jpeg")),
        "MP4V-ES" => (&["rtpmp4vdepay", "mpeg4videoparse"], plain("video/mpeg")),
        "VP8" => (&["rtpvp8depay"], plain("video/x-vp8")),
        "MPEG4-GENERIC" => (&["rtpmp4gdepay", "aacparse"], plain("audio/mpeg")),
        "MP4A-LATM" => (&["rtpmp4adepay", "aacparse"], plain("audio/mpeg")),
        "PCMU" => (&["rtppcmudepay"], plain("audio/x-mulaw")),
        "PCMA" => (&["rtppcmadepay"], plain("audio/x-alaw")),
        "OPUS" => (&["rtpopusdepay"], plain("audio/x-opus")),
        _ => return None,
    })
}

/// `application/x-rtp` as a description has it.
fn caps(stream: &Stream) -> gst::Caps {
    let mut caps = gst::Caps::builder("application/x-rtp")
        .field("media", if stream.kind == Kind::Video { "video" } else { "audio" })
        .field("encoding-name", stream.encoding.as_str())
        .field("clock-rate", i32::try_from(stream.clock_rate).unwrap_or(90_000).max(1))
        .field("payload", i32::from(stream.payload));
    if let Some(channels) = stream.channels {
        caps = caps.field("encoding-params", channels.to_string());
    }
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    let reserved = ["media", "encoding-name", "clock-rate", "payload", "encoding-params"];
    for (name, value) in &stream.parameters {
        if is_name(name) && name.starts_with(|c: char| c.is_ascii_alphabetic()) && !reserved.contains(&name.as_str()) {
            caps = caps.field(name.as_str(), value.as_str());
        }
    }
    caps.build()
}

/// Looks at a camera's frames on their way: can they go out as they are?
pub(super) struct Judge {
    output: Arc<Output>,
    clock: RoomClock,
    verdict: Mutex<Verdict>,
}

#[derive(Default)]
struct Verdict {
    /// `None` while it is being looked at, with the frames that wait for it.
    transcode: Option<bool>,
    waiting: Vec<gst::Sample>,
    caps: Option<gst::Caps>,
}

impl Judge {
    pub(super) fn new(output: &Arc<Output>, clock: &RoomClock) -> Self {
        Self { output: output.clone(), clock: clock.clone(), verdict: Mutex::default() }
    }

    pub(super) fn take(&self, sample: gst::Sample) {
        let (Some(caps), Some(frame)) = (sample.caps(), sample.buffer()) else { return };
        let mut verdict = self.verdict.lock().expect("nothing panics under this lock");
        if verdict.caps.as_deref() != Some(caps) {
            verdict.caps = Some(caps.to_owned());
            verdict.transcode = match judge(caps, self.output.track.codec) {
                // Once it was seen to reorder pictures, it may do so again.
                Some(false) | None if verdict.transcode == Some(true) => Some(true),
                judged => judged,
            };
        }
        let reorders = || frame.map_readable().is_ok_and(|map| h264::has_b_slice(&map));
        if verdict.transcode != Some(true) && is_h264(caps) && reorders() {
            verdict.transcode = Some(true);
        }
        let now = self.clock.running_time();
        match verdict.transcode {
            Some(transcode) => {
                self.output.is_live(caps, transcode);
                for waiting in std::mem::take(&mut verdict.waiting) {
                    self.output.take_from_camera(waiting, now, transcode);
                }
                self.output.take_from_camera(sample, now, transcode);
            }
            None => {
                verdict.waiting.push(sample);
                if verdict.waiting.len() >= LOOKED_AT {
                    verdict.transcode = Some(false);
                }
            }
        }
    }
}

fn is_h264(caps: &gst::CapsRef) -> bool {
    caps.structure(0).is_some_and(|structure| structure.name() == "video/x-h264")
}

/// Whether frames of this form must be transcoded for a track of that codec; `None`: only the frames can tell.
fn judge(caps: &gst::CapsRef, codec: CodecName) -> Option<bool> {
    let structure = caps.structure(0)?;
    match structure.name().as_str() {
        "video/x-h264" => {
            let text = |name: &str| structure.get::<String>(name).unwrap_or_default();
            let is_progressive = ["", "progressive"].contains(&text("interlace-mode").as_str());
            let is_usual = ["", "4:2:0"].contains(&text("chroma-format").as_str())
                && structure.get::<u32>("bit-depth-luma").unwrap_or(8) == 8;
            match text("profile").as_str() {
                _ if !is_progressive || !is_usual => Some(true),
                "constrained-baseline" | "baseline" => Some(false),
                "main" | "high" | "constrained-high" | "progressive-high" => None,
                _ => Some(true),
            }
        }
        "audio/x-opus" => Some(codec != CodecName::Opus),
        "audio/x-mulaw" => Some(codec != CodecName::Pcmu || !is_telephone(structure)),
        "audio/x-alaw" => Some(codec != CodecName::Pcma || !is_telephone(structure)),
        _ => Some(true),
    }
}

/// G.711 as everybody has it (RFC 3551 §4.5.14); a camera may sample twice as fast.
fn is_telephone(structure: &gst::StructureRef) -> bool {
    structure.get::<i32>("rate") == Ok(8_000) && structure.get::<i32>("channels") == Ok(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_browsers_take_is_forwarded_and_the_rest_is_not() {
        gst::init().unwrap();
        let cases = [
            ("video/x-h264,profile=constrained-baseline,chroma-format=4:2:0", Some(false)),
            ("video/x-h264,profile=high,interlace-mode=progressive", None),
            ("video/x-h264,profile=main", None),
            ("video/x-h264,profile=main,interlace-mode=interleaved", Some(true)),
            ("video/x-h264,profile=high-10,bit-depth-luma=(uint)10", Some(true)),
            ("video/x-h264,profile=high-4:2:2,chroma-format=4:2:2", Some(true)),
            ("video/x-h265,profile=main", Some(true)),
            ("image/jpeg", Some(true)),
        ];
        for (caps, expected) in cases {
            assert_eq!(judge(&caps.parse::<gst::Caps>().unwrap(), CodecName::H264), expected, "{caps}");
        }
        let (opus, pcmu, pcma) = (CodecName::Opus, CodecName::Pcmu, CodecName::Pcma);
        let cases = [
            ("audio/mpeg,mpegversion=4", opus, true),
            ("audio/x-opus", opus, false),
            ("audio/x-opus", pcmu, true),
            ("audio/x-mulaw,rate=8000,channels=1", pcmu, false),
            ("audio/x-mulaw,rate=16000,channels=1", pcmu, true),
            ("audio/x-mulaw,rate=8000,channels=2", pcmu, true),
            ("audio/x-mulaw,rate=8000,channels=1", opus, true),
            ("audio/x-alaw,rate=8000,channels=1", pcma, false),
            ("audio/x-alaw,rate=8000,channels=1", pcmu, true),
        ];
        for (caps, codec, expected) in cases {
            assert_eq!(judge(&caps.parse::<gst::Caps>().unwrap(), codec), Some(expected), "{caps} for {codec:?}");
        }
    }

    #[test]
    fn caps_hold_what_the_description_says_and_nothing_it_should_not() {
        gst::init().unwrap();
        let parameters = [
            ("packetization-mode", "1"),
            ("sprop-parameter-sets", "Z2QAKA==,aO48gA=="),
            ("payload", "3"),
            ("a b", "c"),
            ("", "x"),
            ("9", "x"),
        ];
        let stream = stream_with(&parameters);
        let caps = caps(&stream);
        let structure = caps.structure(0).unwrap();
        assert_eq!(structure.get::<i32>("payload").unwrap(), 96);
        assert_eq!(structure.get::<String>("sprop-parameter-sets").unwrap(), "Z2QAKA==,aO48gA==");
        assert_eq!(structure.n_fields(), 6, "{structure}");
    }

    fn stream_with(parameters: &[(&str, &str)]) -> Stream {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Stream {
            kind: Kind::Video,
            payload: 96,
            encoding: "H264".into(),
            clock_rate: 90_000,
            channels: None,
            parameters,
            control: "/".into(),
        }
    }
}
