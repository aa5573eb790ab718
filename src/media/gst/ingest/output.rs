//! What stays while cameras come and go: a payloader for each track, and who is on air.

use std::sync::{Arc, Mutex, MutexGuard};

use gst::prelude::*;
use jiff::Zoned;
use tokio::sync::watch;

use super::{Context, add_linked, ear::Ear, frames_source, make, named};
use crate::{
    ingest::rtsp::Stream,
    media::{
        CodecName, Kind, MediaError,
        gst::{Packet, Track},
        ingest::Ingest,
        rtp,
    },
};

/// Of H.264, all browsers take this (RFC 6184 §8.1): constrained baseline, level 3.1. What it is really
/// of stands in the stream, where decoders look.
const H264_PARAMETERS: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
/// Bytes that may wait for the payloader.
const BACKLOG_BYTES: u64 = 4 * 1024 * 1024;
/// A group of pictures that is longer than this is not kept for a transcoder.
const LONGEST_GROUP: gst::ClockTime = gst::ClockTime::from_seconds(4);
const LARGEST_GROUP: usize = 4 * 1024 * 1024;
/// Frames so far apart do not follow each other: sound comes in packets of at most 200 ms.
const GAP: gst::ClockTime = gst::ClockTime::from_mseconds(250);

/// Whose frames go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnAir {
    /// Nobody's.
    Nobody,
    /// The camera's own.
    Camera,
    /// What a transcoder makes of them.
    Transcoder,
    /// A picture that says that there is none.
    Slate,
}

/// How a track's source stands.
#[derive(Clone, Debug)]
pub(super) enum Situation {
    /// Nothing comes, since then.
    Away(Zoned),
    /// Nothing is asked for.
    Resting,
    /// Frames come, of this form; browsers take them as they are, or not.
    Live { caps: gst::Caps, transcode: bool },
}

/// A track's way out.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) track: Arc<Track>,
    pub(super) situation: watch::Sender<Situation>,
    /// How loud it is is told.
    pub(super) ear: Arc<Ear>,
    source: gst_app::AppSrc,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    on_air: OnAir,
    /// Nothing goes out.
    muted: bool,
    /// Whoever is on air has not begun with a keyframe yet.
    waits: bool,
    last: Option<gst::ClockTime>,
    /// When the camera's last frame came, and how many did since the last look.
    heard: Option<gst::ClockTime>,
    /// Frames of the camera's so far, and their bytes.
    came: (u64, u64),
    /// Frames since the last keyframe, for a transcoder that starts in the middle of them.
    group: Vec<gst::Sample>,
    group_bytes: usize,
    transcoder: Option<gst_app::AppSrc>,
}

/// What an ingest's sound leaves as, whatever its source changes to later: G.711, which browsers take, as it is.
pub(super) fn sound_codec(sound: Option<&Stream>) -> CodecName {
    // Some name wideband or stereo by the same name, which is not what browsers take by it.
    let telephone = sound.filter(|sound| sound.clock_rate == 8_000 && sound.channels.unwrap_or(1) == 1);
    match telephone.map(|sound| sound.encoding.as_str()) {
        Some("PCMU") => CodecName::Pcmu,
        Some("PCMA") => CodecName::Pcma,
        _ => CodecName::Opus,
    }
}

/// An output for each track that is wanted, in the pipeline by which an ingest's media leaves, which is not started.
pub(super) fn build(
    context: &Context,
    pipeline: &gst::Pipeline,
    ingest: &Ingest,
    sound: CodecName,
) -> Result<Vec<Arc<Output>>, MediaError> {
    let wanted = [(&ingest.video, CodecName::H264), (&ingest.audio, sound)];
    let mut outputs = Vec::new();
    for (id, codec) in wanted {
        let Some(id) = id else { continue };
        let parameters = (codec == CodecName::H264).then_some(H264_PARAMETERS);
        let track = Track::remembering(id.clone(), codec, parameters, &context.clock);
        outputs.push(Output::build(context, pipeline, track)?);
    }
    Ok(outputs)
}

impl Output {
    fn build(context: &Context, pipeline: &gst::Pipeline, track: Arc<Track>) -> Result<Arc<Self>, MediaError> {
        let source = frames_source(&named("frames", &track.id), BACKLOG_BYTES);
        source.set_caps(Some(&caps_of(track.codec)));
        let payloader = payloader(&track)?;
        give_out(&payloader, &track);
        add_linked(pipeline, &[source.clone().upcast(), payloader, track.appsink().clone().upcast()])?;
        let state = State {
            on_air: OnAir::Nobody,
            muted: false,
            waits: true,
            last: None,
            heard: None,
            came: (0, 0),
            group: Vec::new(),
            group_bytes: 0,
            transcoder: None,
        };
        let situation = watch::Sender::new(Situation::Away(Zoned::now()));
        let ear = Arc::new(Ear::new(track.id.clone(), context.events.clone()));
        Ok(Arc::new(Self { track, situation, ear, source, state: Mutex::new(state) }))
    }

    /// Nothing goes out, or again, beginning with a keyframe.
    pub(super) fn mute(&self, muted: bool) {
        let mut state = self.state();
        state.muted = muted;
        state.waits = self.track.kind() == Kind::Video;
        drop(state);
        // Who comes meanwhile is not to see what was before.
        self.track.forget();
        if !muted {
            self.track.request_keyframe();
        }
    }

    /// From now on only what `from` pushes goes out, beginning with a keyframe.
    pub(super) fn put_on_air(&self, from: OnAir) {
        let mut state = self.state();
        if state.on_air != from {
            state.on_air = from;
            state.waits = self.track.kind() == Kind::Video;
        }
    }

    /// A frame, if its sender is on air. Its running time counts, which is the room's: encoders count
    /// their own times from a thousand hours.
    pub(super) fn push(&self, from: OnAir, sample: &gst::Sample) {
        let Some(frame) = sample.buffer() else { return };
        let mut state = self.state();
        let is_key = !frame.flags().contains(gst::BufferFlags::DELTA_UNIT);
        if state.on_air != from || state.muted || (state.waits && !is_key) {
            return;
        }
        let segment = sample.segment().and_then(|segment| segment.downcast_ref::<gst::ClockTime>());
        let Some(time) = segment.and_then(|segment| segment.to_running_time(frame.pts())) else { return };
        state.waits = false;
        // Whoever takes over may be some frames behind the one before, and time must not go back.
        let time = state.last.map_or(time, |last| time.max(last + gst::ClockTime::from_useconds(1)));
        let leaps = state.last.is_none_or(|last| time > last + GAP);
        state.last = Some(time);
        let mut frame = frame.copy();
        if let Some(frame) = frame.get_mut() {
            // Payloaders of G.711 count samples, and look at the time only where they are told to.
            if leaps {
                frame.set_flags(gst::BufferFlags::DISCONT);
            }
            frame.set_pts(time);
            frame.set_dts(gst::ClockTime::NONE);
        }
        // An error means that the pipeline is going down.
        let _ = self.source.push_buffer(frame);
    }

    /// A frame of the camera's, on its way to whoever needs it.
    pub(super) fn take_from_camera(&self, sample: gst::Sample, now: gst::ClockTime, transcode: bool) {
        {
            let mut state = self.state();
            state.heard = Some(now);
            state.came.0 += 1;
            state.came.1 += sample.buffer().map_or(0, |buffer| buffer.size() as u64);
        }
        if !transcode {
            self.push(OnAir::Camera, &sample);
            if let Some(map) = sample.buffer().and_then(|buffer| buffer.map_readable().ok()) {
                self.ear.hear_g711(self.track.codec, &map, now);
            }
            // Somebody hears how loud it is, where that takes a decoder.
            if let Some(listener) = &self.state().transcoder {
                // An error means that it is going down.
                let _ = listener.push_sample(&sample);
            }
            return;
        }
        let mut state = self.state();
        if let Some(transcoder) = &state.transcoder {
            // An error means that it is going down.
            let _ = transcoder.push_sample(&sample);
        }
        state.keep(sample);
    }

    /// From now on the camera's frames go into `transcoder` too, those of the group that is going on
    /// first; of these only the last is to be seen.
    pub(super) fn attach(&self, transcoder: &gst_app::AppSrc) {
        let mut state = self.state();
        let count = state.group.len();
        for (index, sample) in state.group.iter().enumerate() {
            let mut sample = sample.clone();
            if index + 1 < count
                && let Some(buffer) = sample.buffer()
            {
                let mut buffer = buffer.copy();
                if let Some(buffer) = buffer.get_mut() {
                    buffer.set_flags(gst::BufferFlags::DECODE_ONLY);
                }
                sample.make_mut().set_buffer(Some(&buffer));
            }
            // An error means that it is going down.
            let _ = transcoder.push_sample(&sample);
        }
        state.transcoder = Some(transcoder.clone());
    }

    pub(super) fn detach(&self) {
        self.state().transcoder = None;
    }

    /// The connection is over: what was kept of it is of no use.
    pub(super) fn is_away(&self) {
        {
            let mut state = self.state();
            state.group.clear();
            state.group_bytes = 0;
            state.heard = None;
        }
        self.track.forget();
        self.situation.send_if_modified(|situation| {
            let is_new = !matches!(situation, Situation::Away(_));
            if is_new {
                *situation = Situation::Away(Zoned::now());
            }
            is_new
        });
    }

    /// Nothing is asked for until somebody wants it; whoever does waits for the first picture.
    pub(super) fn rests(&self) {
        self.situation.send_replace(Situation::Resting);
    }

    /// Frames come, of this form.
    pub(super) fn is_live(&self, caps: &gst::CapsRef, transcode: bool) {
        self.situation.send_if_modified(|situation| match situation {
            Situation::Live { caps: known, transcode: before } if **known == *caps && *before == transcode => false,
            _ => {
                *situation = Situation::Live { caps: caps.to_owned(), transcode };
                true
            }
        });
    }

    /// Frames of the camera's so far, and their bytes.
    pub(super) fn came(&self) -> (u64, u64) {
        self.state().came
    }

    /// When the camera's last frame came.
    pub(super) fn heard(&self) -> Option<gst::ClockTime> {
        self.state().heard
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

impl State {
    fn keep(&mut self, sample: gst::Sample) {
        let Some(buffer) = sample.buffer() else { return };
        if !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT) {
            self.group.clear();
            self.group_bytes = 0;
        } else if self.group.is_empty() {
            return;
        }
        self.group_bytes += buffer.size();
        let began = self.group.first().and_then(|first| first.buffer()?.pts());
        let is_long = began.zip(buffer.pts()).is_some_and(|(began, now)| now.saturating_sub(began) > LONGEST_GROUP);
        if is_long || self.group_bytes > LARGEST_GROUP {
            self.group.clear();
            self.group_bytes = 0;
            return;
        }
        self.group.push(sample);
    }
}

/// What a track's frames are before they are packets.
pub(super) fn caps_of(codec: CodecName) -> gst::Caps {
    let telephone = |name: &str| gst::Caps::builder(name).field("rate", 8_000).field("channels", 1).build();
    match codec {
        CodecName::Pcmu => telephone("audio/x-mulaw"),
        CodecName::Pcma => telephone("audio/x-alaw"),
        _ if codec.kind() == Kind::Video => {
            gst::Caps::builder("video/x-h264").field("stream-format", "byte-stream").field("alignment", "au").build()
        }
        _ => gst::Caps::builder("audio/x-opus")
            .field("channel-mapping-family", 0)
            .field("rate", 48_000)
            .field("channels", 2)
            .build(),
    }
}

/// Packets in the room's numbers. Parameter sets go before every keyframe: who comes later has no
/// description to find them in.
fn payloader(track: &Track) -> Result<gst::Element, MediaError> {
    let payloader = match track.codec {
        CodecName::Pcmu => make("rtppcmupay")?,
        CodecName::Pcma => make("rtppcmapay")?,
        _ if track.kind() == Kind::Video => {
            let payloader = make("rtph264pay")?;
            payloader.set_property("config-interval", -1);
            payloader.set_property_from_str("aggregate-mode", "zero-latency");
            payloader
        }
        _ => make("rtpopuspay")?,
    };
    payloader.set_property("pt", u32::from(rtp::payload_number(track.codec)));
    payloader.set_property("ssrc", track.ssrc());
    payloader.set_property("mtu", 1200u32);
    Ok(payloader)
}

/// Every packet goes to the subscribers from here; decoders get it from the track's sink, behind.
fn give_out(payloader: &gst::Element, track: &Arc<Track>) {
    let pad = payloader.static_pad("src").expect("a payloader has a source pad");
    let weak = Arc::downgrade(track);
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, info| {
        let Some(track) = weak.upgrade() else { return gst::PadProbeReturn::Ok };
        match &mut info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => {
                unmark(buffer);
                forward(&track, buffer);
            }
            Some(gst::PadProbeData::BufferList(list)) => {
                list.make_mut().foreach_mut(|mut buffer, _| {
                    unmark(&mut buffer);
                    forward(&track, &buffer);
                    std::ops::ControlFlow::Continue(Some(buffer))
                });
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}

/// Payloaders mark what is no keyframe, and a decoder's link would wait for one that is not marked;
/// whoever comes was given the group from its beginning.
fn unmark(buffer: &mut gst::Buffer) {
    let marks = gst::BufferFlags::DELTA_UNIT | gst::BufferFlags::DISCONT;
    if buffer.flags().intersects(marks) {
        buffer.make_mut().unset_flags(marks);
    }
}

fn forward(track: &Track, buffer: &gst::Buffer) {
    let starts_keyframe = {
        let Ok(map) = buffer.map_readable() else { return };
        let Ok(packet) = rtp_types::RtpPacket::parse(&map) else { return };
        rtp::starts_keyframe(track.codec, packet.payload())
    };
    track.forward(&Packet { buffer: buffer.clone(), starts_keyframe });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sound_of_telephones_goes_on_as_it_is() {
        let codec = |encoding: &str, clock_rate, channels| {
            let (encoding, parameters, control) = (encoding.to_owned(), Vec::new(), String::new());
            let sound = Stream { kind: Kind::Audio, payload: 0, encoding, clock_rate, channels, parameters, control };
            sound_codec(Some(&sound))
        };
        assert_eq!(codec("PCMU", 8_000, None), CodecName::Pcmu);
        assert_eq!(codec("PCMA", 8_000, Some(1)), CodecName::Pcma);
        for (clock_rate, channels) in [(16_000, None), (8_000, Some(2))] {
            assert_eq!(codec("PCMU", clock_rate, channels), CodecName::Opus);
        }
        assert_eq!((codec("OPUS", 48_000, Some(2)), sound_codec(None)), (CodecName::Opus, CodecName::Opus));
    }
}
