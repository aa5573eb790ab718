//! A stream that is no RTP (MPEG-TS, MP4, FLV, Matroska, pictures one by one) made frames, at its own pace.
//!
//! ```text
//! bytes, srtsrc, rtmp2src or filesrc ─► typefind ─► demuxer ─► queue ─► parser ─► Judge
//! ```
//! Demuxers are chosen here from a list: GStreamer's own choosing would take some that dial by themselves.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use gst::prelude::*;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::timeout,
};

use super::{Context, fetch, input::Judge, make, named, output::Output};
use crate::media::{
    Kind, MediaError,
    gst::{OwnedPipeline, PipelineEvent, RoomClock},
};

/// Bytes that wait to be taken apart; some seconds of a segment.
const BACKLOG_BYTES: u64 = 2 * 1024 * 1024;
/// What waits between demuxer and parser: HLS comes in segments, and files all at once.
const QUEUE: gst::ClockTime = gst::ClockTime::from_seconds(12);
/// Room is told, and looked for as well.
const ROOM_LOOK: Duration = Duration::from_millis(200);
/// A frame that comes so much after its time moves all that follow.
const LATEST: gst::ClockTime = gst::ClockTime::from_mseconds(400);
/// And one that is so far ahead.
const FURTHEST: gst::ClockTime = gst::ClockTime::from_seconds(30);

/// Where the bytes come from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// From us. The form, if it is known.
    Bytes(Option<gst::Caps>),
    /// From an element that is told an address which was checked, or a file.
    Element { factory: &'static str, strings: Vec<(&'static str, String)> },
}

/// The pipeline of a connection.
pub(super) struct StreamInput {
    pub(super) pipeline: OwnedPipeline,
    pub(super) events: mpsc::Receiver<PipelineEvent>,
    /// What is in it.
    pub(super) found: watch::Receiver<Found>,
    source: Option<(gst_app::AppSrc, Arc<Notify>)>,
}

/// What a demuxer has found.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// Kind and encoding, as a description would call it.
    pub(super) streams: Vec<(Kind, String)>,
    /// What is there and cannot be used.
    pub(super) unknown: Vec<String>,
    /// There is no more.
    pub(super) complete: bool,
}

impl StreamInput {
    /// Builds it. Must be called on a tokio runtime, on a thread that may block.
    ///
    /// `lead`: how long frames are held, so that some may come late.
    pub(super) fn build(
        context: &Context,
        origin: &Origin,
        outputs: &[Arc<Output>],
        lead: Duration,
    ) -> Result<Self, MediaError> {
        let (owned, events) = OwnedPipeline::new(&format!("stream-{}", context.connection), &context.clock);
        let pipeline = owned.pipeline();
        // Frames are held for their time here, by when they come: what elements say that they may be late
        // would hold each of them up anew.
        pipeline.set_latency(gst::ClockTime::ZERO);
        let (found, told) = watch::channel(Found::default());
        let lead = i64::try_from(lead.as_nanos()).unwrap_or(0);
        let anchor = Arc::new(Mutex::new(Anchor { offset: 0, is_set: false, lead }));
        let branches = Arc::new(Branches {
            pipeline: pipeline.downgrade(),
            outputs: outputs.to_vec(),
            clock: context.clock.clone(),
            anchor,
            found,
        });
        let typefind = make("typefind")?;
        let (first, source) = match origin {
            Origin::Bytes(caps) => {
                let source = gst_app::AppSrc::builder().name("bytes").format(gst::Format::Bytes).is_live(true).build();
                source.set_max_bytes(BACKLOG_BYTES);
                source.set_property("min-percent", 50u32);
                source.set_caps(caps.as_ref());
                if let Some(caps) = caps {
                    typefind.set_property("force-caps", caps);
                }
                let room = Arc::new(Notify::new());
                let wake = room.clone();
                let callbacks = gst_app::AppSrcCallbacks::builder().need_data(move |_, _| wake.notify_one());
                source.set_callbacks(callbacks.build());
                (source.clone().upcast::<gst::Element>(), Some((source, room)))
            }
            Origin::Element { factory, strings } => {
                let element = make(factory)?;
                for (property, value) in strings {
                    element.set_property(property, value);
                }
                fetch::restrain(&element);
                (element, None)
            }
        };
        super::add_linked(pipeline, &[first, typefind.clone()])?;
        typefind.connect("have-type", false, move |values| {
            let (typefind, caps) =
                (values.first()?.get::<gst::Element>().ok()?, values.get(2)?.get::<gst::Caps>().ok()?);
            if let Err(problem) = branches.demux(&typefind, &caps) {
                gst::element_error!(typefind, gst::StreamError::WrongType, ("{problem}"));
            }
            None
        });
        Ok(Self { pipeline: owned, events, found: told, source })
    }

    /// Passes bytes on once there is room for them.
    pub(super) async fn push(&self, bytes: bytes::Bytes) {
        let Some((source, room)) = &self.source else { return };
        while source.current_level_bytes() >= BACKLOG_BYTES {
            let _ = timeout(ROOM_LOOK, room.notified()).await;
        }
        // An error means that the pipeline is going down.
        let _ = source.push_buffer(gst::Buffer::from_slice(bytes));
    }

    /// No more bytes come; what waits is played to its end.
    pub(super) fn end(&self) {
        if let Some((source, _)) = &self.source {
            let _ = source.end_of_stream();
        }
    }

    /// A file begins again.
    pub(super) fn rewind(&self) -> bool {
        self.pipeline.pipeline().seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::ZERO).is_ok()
    }
}

/// What builds the rest once it is known what comes. On the pipeline's threads.
struct Branches {
    pipeline: gst::glib::WeakRef<gst::Pipeline>,
    outputs: Vec<Arc<Output>>,
    clock: RoomClock,
    anchor: Arc<Mutex<Anchor>>,
    found: watch::Sender<Found>,
}

impl Branches {
    fn demux(self: &Arc<Self>, typefind: &gst::Element, caps: &gst::Caps) -> Result<(), String> {
        let name = name_of(caps);
        let factory = match name.as_str() {
            "video/mpegts" => "tsdemux",
            "video/quicktime" | "audio/x-m4a" | "application/x-3gp" => "qtdemux",
            "video/x-flv" => "flvdemux",
            "video/x-matroska" | "video/webm" | "audio/x-matroska" | "audio/webm" => "matroskademux",
            "multipart/x-mixed-replace" => "multipartdemux",
            other => return Err(format!("{other} is not known here")),
        };
        let pipeline = self.pipeline.upgrade().ok_or("it is going down")?;
        let demuxer = make(factory).map_err(|error| error.to_string())?;
        pipeline.add(&demuxer).map_err(|error| error.to_string())?;
        let branches = self.clone();
        demuxer.connect_pad_added(move |_, pad| branches.add(pad));
        let found = self.clone();
        demuxer.connect_no_more_pads(move |_| {
            found.found.send_modify(|found| found.complete = true);
        });
        typefind.link(&demuxer).map_err(|error| error.to_string())?;
        demuxer.sync_state_with_parent().map_err(|error| error.to_string())
    }

    fn add(&self, pad: &gst::Pad) {
        let Some(caps) = pad.current_caps().or_else(|| Some(pad.query_caps(None))) else { return };
        let name = name_of(&caps);
        let kind = if name.starts_with("audio/") { Kind::Audio } else { Kind::Video };
        let is_taken = self.found.borrow().streams.iter().any(|(other, _)| *other == kind);
        let output = self.outputs.iter().find(|output| output.track.kind() == kind);
        let (Some(output), false) = (output, is_taken) else { return };
        match form(&caps) {
            Some((encoding, parser, wanted)) => match self.link(pad, output, parser, &wanted) {
                Ok(()) => self.found.send_modify(|found| found.streams.push((kind, encoding.to_owned()))),
                Err(error) => self.found.send_modify(|found| found.unknown.push(format!("{encoding}: {error}"))),
            },
            None => {
                self.found.send_modify(|found| found.unknown.push(format!("{name} is not known here and left out")))
            }
        }
    }

    fn link(
        &self,
        pad: &gst::Pad,
        output: &Arc<Output>,
        parser: Option<&str>,
        caps: &gst::Caps,
    ) -> Result<(), MediaError> {
        let broken = |message: &str| MediaError::Element { element: pad.name().into(), message: message.into() };
        let pipeline = self.pipeline.upgrade().ok_or_else(|| broken("it is going down"))?;
        let queue = make("queue")?;
        queue.set_property("max-size-time", QUEUE.nseconds());
        queue.set_property("max-size-bytes", 32 * 1024 * 1024u32);
        queue.set_property("max-size-buffers", 0u32);
        let mut elements = vec![queue];
        if let Some(parser) = parser {
            let parser = make(parser)?;
            if parser.has_property("config-interval") {
                parser.set_property("config-interval", -1);
            }
            elements.push(parser);
        }
        let sink = self.sink(output, caps);
        elements.push(sink.upcast());
        super::add_linked(&pipeline, &elements)?;
        for element in elements.iter().rev() {
            element.sync_state_with_parent().map_err(|error| broken(&error.to_string()))?;
        }
        let target = elements[0].static_pad("sink").expect("a queue has a sink pad");
        pad.link(&target).map(drop).map_err(|error| broken(&error.to_string()))
    }

    /// Holds each frame until its time, and hands it on in the room's time.
    fn sink(&self, output: &Arc<Output>, caps: &gst::Caps) -> gst_app::AppSink {
        let judge = Judge::new(output, &self.clock);
        let (anchor, clock) = (self.anchor.clone(), self.clock.clone());
        let sink = super::frames_sink(&named("frames", &output.track.id), caps, move |sample| {
            let offset = lock(&anchor).offset;
            let now = clock.running_time();
            if let Some(sample) = in_room_time(&sample, offset, now) {
                judge.take(sample);
            }
        });
        sink.set_property("sync", true);
        // What is late is late for everybody; whoever mixes it knows what to do.
        sink.set_property("max-lateness", -1i64);
        sink.set_property("qos", false);
        let pad = sink.static_pad("sink").expect("an appsink has a sink pad");
        let (anchor, clock) = (self.anchor.clone(), self.clock.clone());
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let Some(buffer) = info.buffer() else { return gst::PadProbeReturn::Ok };
            let segment = pad.sticky_event::<gst::event::Segment>(0);
            let time = segment.as_ref().and_then(|event| {
                let segment = event.segment().downcast_ref::<gst::ClockTime>()?;
                segment.to_running_time(buffer.dts_or_pts())
            });
            if let (Some(time), Some(sink)) = (time, pad.parent_element()) {
                let offset = lock(&anchor).hold(time, clock.running_time());
                if sink.property::<i64>("ts-offset") != offset {
                    sink.set_property("ts-offset", offset);
                }
            }
            gst::PadProbeReturn::Ok
        });
        sink
    }
}

fn lock(anchor: &Mutex<Anchor>) -> MutexGuard<'_, Anchor> {
    anchor.lock().expect("nothing panics under this lock")
}

/// How much later than by the stream's own count its frames are shown; one for sound and picture.
#[derive(Debug)]
struct Anchor {
    offset: i64,
    is_set: bool,
    /// In nanoseconds, as the offset.
    lead: i64,
}

impl Anchor {
    /// The first frame is due after the lead. A stream that was interrupted, or that began anew, is anchored anew.
    fn hold(&mut self, time: gst::ClockTime, now: gst::ClockTime) -> i64 {
        let signed = |time: gst::ClockTime| i64::try_from(time.nseconds()).unwrap_or(i64::MAX);
        let ahead = signed(time).saturating_add(self.offset).saturating_sub(signed(now));
        let is_good = ahead > -signed(LATEST) && ahead < signed(FURTHEST);
        if !self.is_set || !is_good {
            self.offset = signed(now).saturating_add(self.lead).saturating_sub(signed(time));
            self.is_set = true;
        }
        self.offset
    }
}

/// The frame with the room's times, in a segment that leaves them as they are. `None`: it belongs before the
/// stream's beginning. One without a time is of now.
fn in_room_time(sample: &gst::Sample, offset: i64, now: gst::ClockTime) -> Option<gst::Sample> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?.clone();
    let mut buffer = sample.buffer_owned()?;
    let moved = |time: Option<gst::ClockTime>| {
        let time = i64::try_from(segment.to_running_time(time)?.nseconds()).ok()?.saturating_add(offset);
        Some(gst::ClockTime::from_nseconds(u64::try_from(time).unwrap_or(0)))
    };
    let (pts, dts) = match buffer.pts() {
        Some(_) => (moved(buffer.pts())?, moved(buffer.dts())),
        None => (now, None),
    };
    let times = buffer.make_mut();
    times.set_pts(pts);
    times.set_dts(dts);
    let plain = gst::FormattedSegment::<gst::ClockTime>::new();
    Some(gst::Sample::builder().buffer(&buffer).caps(&sample.caps_owned()?).segment(&plain).build())
}

fn name_of(caps: &gst::Caps) -> String {
    caps.structure(0).map(|structure| structure.name().to_string()).unwrap_or_default()
}

/// What an encoding is called, what takes it apart, and what comes out. Others are left out.
fn form(caps: &gst::Caps) -> Option<(&'static str, Option<&'static str>, gst::Caps)> {
    let structure = caps.structure(0)?;
    let version = structure.get::<i32>("mpegversion").unwrap_or(4);
    let stream =
        |name: &str| gst::Caps::builder(name).field("stream-format", "byte-stream").field("alignment", "au").build();
    let plain = |name: &str| gst::Caps::new_empty_simple(name);
    Some(match structure.name().as_str() {
        "video/x-h264" => ("H264", Some("h264parse"), stream("video/x-h264")),
        "video/x-h265" => ("H265", Some("h265parse"), stream("video/x-h265")),
        "image/jpeg" => ("JPEG", None, plain("image/jpeg")),
        "video/mpeg" if version == 4 => ("MP4V-ES", Some("mpeg4videoparse"), plain("video/mpeg")),
        "video/mpeg" => ("MPV", Some("mpegvideoparse"), plain("video/mpeg")),
        "video/x-vp8" => ("VP8", None, plain("video/x-vp8")),
        "video/x-vp9" => ("VP9", Some("vp9parse"), plain("video/x-vp9")),
        "audio/mpeg" if version == 1 => ("MPA", Some("mpegaudioparse"), plain("audio/mpeg")),
        "audio/mpeg" => ("MPEG4-GENERIC", Some("aacparse"), plain("audio/mpeg")),
        "audio/x-ac3" => ("AC3", Some("ac3parse"), plain("audio/x-ac3")),
        "audio/x-opus" => ("OPUS", Some("opusparse"), plain("audio/x-opus")),
        "audio/x-mulaw" => ("PCMU", None, plain("audio/x-mulaw")),
        "audio/x-alaw" => ("PCMA", None, plain("audio/x-alaw")),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_anchored_once_and_again_when_it_was_interrupted() {
        let seconds = |it: f64| gst::ClockTime::from_nseconds((it * 1e9) as u64);
        let mut anchor = Anchor { offset: 0, is_set: false, lead: 0 };
        assert_eq!(anchor.hold(seconds(1000.0), seconds(5.0)), -995_000_000_000);
        for (time, now) in [(1004.0, 5.1), (1001.0, 6.3), (1002.0, 7.0)] {
            assert_eq!(anchor.hold(seconds(time), seconds(now)), -995_000_000_000, "{time} at {now}");
        }
        assert_eq!(anchor.hold(seconds(1003.0), seconds(12.0)), -991_000_000_000, "it stood still for four seconds");
        assert_eq!(anchor.hold(seconds(0.0), seconds(13.0)), 13_000_000_000, "it began anew");
        assert_eq!(anchor.hold(seconds(9000.0), seconds(13.1)), -8_986_900_000_000, "it leapt");
    }

    #[test]
    fn frames_are_moved_into_the_rooms_time() {
        gst::init().unwrap();
        let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
        segment.set_start(gst::ClockTime::from_seconds(100));
        let sample = |pts: Option<u64>| {
            let mut buffer = gst::Buffer::with_size(1).unwrap();
            buffer.make_mut().set_pts(pts.map(gst::ClockTime::from_seconds));
            let caps = gst::Caps::new_empty_simple("image/jpeg");
            gst::Sample::builder().buffer(&buffer).caps(&caps).segment(&segment).build()
        };
        let now = gst::ClockTime::from_seconds(9);
        let time = |pts| {
            in_room_time(&sample(pts), 3_000_000_000, now).map(|it| it.buffer().unwrap().pts().unwrap().seconds())
        };
        assert_eq!((time(Some(101)), time(None), time(Some(99))), (Some(4), Some(9), None));
    }
}
