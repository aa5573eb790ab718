//! Turns encoded frames on the room's time into bytes of a file whose time begins at 0.
//!
//! 0 is the first keyframe, or the first sound where there is no picture. Sound from before it is dropped,
//! but for what the decoder needs to start.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    super::mixer::{Encoded, Parts, running_time},
    cuts::{Cuts, Splice},
};
use crate::{
    media::{Kind, MediaError},
    recording::mp4::fragment::{AAC_FRAME, AudioCodec, AudioFormat, FormatError, Fragmenter, TrackKind, VideoFormat},
};

/// Frames of one kind that wait for the other before the mix counts as broken.
const MAX_WAITING: usize = 600;

/// One encoded frame.
pub struct Frame {
    pub kind: TrackKind,
    /// Running time of the room at which it is shown, or at which the encoder says it sounds.
    pub time_ns: i64,
    /// Running time at which it is decoded, where the encoder says so.
    pub decoded_ns: Option<i64>,
    pub duration: Duration,
    pub sync: bool,
    pub data: Bytes,
    pub caps: gst::Caps,
}

impl Frame {
    /// `None` if it carries no media or no time: encoders send such buffers as headers.
    pub fn read(encoded: Encoded) -> Option<Self> {
        Self::of(encoded.kind, encoded.sample, encoded.epoch)
    }

    /// The same; `epoch` is to be added to the sample's running time to have the room's.
    pub fn of(kind: Kind, sample: gst::Sample, epoch: gst::ClockTime) -> Option<Self> {
        let kind = match kind {
            Kind::Video => TrackKind::Video,
            Kind::Audio => TrackKind::Audio,
        };
        let caps = sample.caps_owned()?;
        let time = running_time(&sample)? + epoch;
        let buffer = sample.buffer_owned()?;
        let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
        let decoded_ns = buffer.dts().and_then(|dts| segment.to_running_time_full(dts)).map(|decoded| {
            let ns = decoded.abs().nseconds() as i64;
            epoch.nseconds() as i64 + if decoded.is_negative() { -ns } else { ns }
        });
        let duration = buffer.duration().map_or(Duration::ZERO, Duration::from);
        let sync = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let data = Bytes::from_owner(buffer.into_mapped_buffer_readable().ok()?);
        let time_ns = time.nseconds() as i64;
        Some(Self { kind, time_ns, decoded_ns, duration, sync, data, caps })
    }
}

/// Collects frames, and gives out the file's next bytes when a fragment is whole.
pub struct Timeline {
    parts: Parts,
    begin_ns: i64,
    priming_samples: u32,
    fragment: Duration,
    cuts: Arc<Cuts>,
    /// Pictures may be decoded in another order than they are shown.
    reordered: bool,
    stage: Stage,
}

enum Stage {
    /// The header needs all formats, and where the sound begins against the picture.
    Waiting {
        video: VecDeque<Frame>,
        audio: VecDeque<Frame>,
    },
    Writing(Writing),
}

struct Writing {
    has_picture: bool,
    reordered: bool,
    fragmenter: Fragmenter,
    /// The file's first bytes, until they are given out with the first fragment.
    header: Vec<u8>,
    /// Running time of the file's 0.
    zero_ns: i64,
    /// How much later than its frames' times the sound is in fact.
    priming_ns: i64,
    /// Running time at which the fragment being collected began.
    fragment_start_ns: i64,
    cuts: Arc<Cuts>,
    picture: Splice,
    sound: Splice,
}

impl Timeline {
    /// `begin`: running time of the room from which on frames are taken. `fragment`: how long fragments
    /// are. `cuts`: what is left out of the file.
    pub fn new(parts: Parts, begin: gst::ClockTime, priming_samples: u32, fragment: Duration, cuts: Arc<Cuts>) -> Self {
        let stage = Stage::Waiting { video: VecDeque::new(), audio: VecDeque::new() };
        let begin_ns = begin.nseconds() as i64;
        Self { parts, begin_ns, priming_samples, fragment, cuts, reordered: false, stage }
    }

    /// For an encoder that makes B-frames. Nothing is to be left out of such a file.
    pub fn reordered(self, reordered: bool) -> Self {
        Self { reordered, ..self }
    }

    /// Takes a frame. The answer is what to append to the file, mostly nothing.
    ///
    /// # Errors
    /// [`MediaError::Element`] if the encoders' formats cannot be written, or one of them is silent.
    pub fn push(&mut self, frame: Frame) -> Result<Vec<u8>, MediaError> {
        match &mut self.stage {
            Stage::Writing(writing) => writing.push(frame, self.fragment),
            Stage::Waiting { video, audio } => {
                match frame.kind {
                    TrackKind::Video if video.is_empty() && (!frame.sync || frame.time_ns < self.begin_ns) => {}
                    TrackKind::Audio if !self.parts.video && frame.time_ns < self.begin_ns => {}
                    TrackKind::Video => video.push_back(frame),
                    TrackKind::Audio => audio.push_back(frame),
                }
                self.begin()
            }
        }
    }

    /// The rest.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(&mut self) -> Result<Vec<u8>, MediaError> {
        match &mut self.stage {
            Stage::Writing(writing) => writing.take_fragment(),
            Stage::Waiting { .. } => Ok(Vec::new()),
        }
    }

    /// Goes over to writing as soon as there is a keyframe and the sound that goes with it, as far as
    /// either is wanted.
    fn begin(&mut self) -> Result<Vec<u8>, MediaError> {
        let Stage::Waiting { video, audio } = &mut self.stage else { return Ok(Vec::new()) };
        let Some(first) = (if self.parts.video { video.front() } else { audio.front() }) else {
            while audio.len() > MAX_WAITING {
                audio.pop_front();
            }
            return Ok(Vec::new());
        };
        let zero_ns = first.time_ns;
        let reorder_ns = first.decoded_ns.filter(|_| self.reordered).map_or(0, |decoded_ns| zero_ns - decoded_ns);
        let reorder_ns = u64::try_from(reorder_ns).unwrap_or(0);
        let video_format = video.front().map(|frame| video_format(&frame.caps, reorder_ns)).transpose()?;
        let rate = audio.front().map(|frame| audio_format(&frame.caps)).transpose()?.map(|format| format.rate);
        let rate = i64::from(rate.unwrap_or(48_000).max(1));
        let samples = |count: u32| i64::from(count) * 1_000_000_000 / rate;
        // AAC overlaps its frames: the one before the first that is heard is needed to decode it.
        let needed_from = zero_ns + samples(self.priming_samples) - samples(2 * AAC_FRAME);
        while audio.front().is_some_and(|frame| frame.time_ns < needed_from) {
            audio.pop_front();
        }
        if self.parts.audio && audio.is_empty() {
            return if video.len() > MAX_WAITING { Err(failed("the audio encoder is silent")) } else { Ok(Vec::new()) };
        }
        let priming_ns = samples(self.priming_samples);
        let sound = audio.front().map(|first| Ok((audio_format(&first.caps)?, first.time_ns - priming_ns - zero_ns)));
        let sound = sound.transpose()?;
        let sound = sound.as_ref().map(|(format, start_ns)| (format, *start_ns));
        let fragmenter = Fragmenter::new(video_format.as_ref(), sound).map_err(unwritable)?;
        let header = fragmenter.header().to_vec();
        let held: Vec<_> = video.drain(..).chain(audio.drain(..)).collect();
        let mut writing = Writing {
            has_picture: self.parts.video,
            reordered: self.reordered,
            fragmenter,
            header,
            zero_ns,
            priming_ns,
            fragment_start_ns: zero_ns,
            cuts: self.cuts.clone(),
            picture: Splice::picture(),
            sound: Splice::sound(f64::from(AAC_FRAME) * 1e9 / rate as f64),
        };
        let mut bytes = Vec::new();
        for frame in held {
            bytes.extend(writing.push(frame, self.fragment)?);
        }
        self.stage = Stage::Writing(writing);
        Ok(bytes)
    }
}

impl Writing {
    fn push(&mut self, frame: Frame, fragment: Duration) -> Result<Vec<u8>, MediaError> {
        let collected = frame.time_ns - self.fragment_start_ns;
        // Fragments end between two pictures; if none come, the sound is written all the same.
        let leads = frame.kind == TrackKind::Video || !self.has_picture;
        let limit = fragment.as_nanos() as i64 * if leads { 1 } else { 4 };
        let mut bytes = Vec::new();
        if collected >= limit {
            bytes = self.take_fragment()?;
            self.fragment_start_ns = frame.time_ns;
        }
        let (splice, time) = match frame.kind {
            TrackKind::Video => (&mut self.picture, frame.time_ns),
            TrackKind::Audio => (&mut self.sound, frame.time_ns - self.priming_ns),
        };
        let Some(removed) = splice.place(&self.cuts, time, frame.sync, self.zero_ns) else { return Ok(bytes) };
        let time = time - self.zero_ns - removed;
        match frame.decoded_ns.filter(|_| self.reordered && frame.kind == TrackKind::Video) {
            Some(decoded_ns) => {
                let decoded = decoded_ns - self.zero_ns;
                self.fragmenter.push_reordered(time, decoded, frame.duration, frame.sync, frame.data);
            }
            None => self.fragmenter.push(frame.kind, time, frame.duration, frame.sync, frame.data),
        }
        Ok(bytes)
    }

    fn take_fragment(&mut self) -> Result<Vec<u8>, MediaError> {
        let fragment = self.fragmenter.take_fragment().map_err(unwritable)?;
        let mut bytes = std::mem::take(&mut self.header);
        bytes.extend(fragment);
        Ok(bytes)
    }
}

fn video_format(caps: &gst::Caps, reorder_ns: u64) -> Result<VideoFormat, MediaError> {
    let structure = caps.structure(0).ok_or_else(|| failed("the video encoder has no format"))?;
    let side = |name: &str| {
        structure
            .get::<i32>(name)
            .ok()
            .and_then(|side| u16::try_from(side).ok())
            .ok_or_else(|| failed("no picture size"))
    };
    let (width, height, config) = (side("width")?, side("height")?, codec_data(structure)?);
    Ok(VideoFormat { width, height, config, changes: false, reorder_ns })
}

fn audio_format(caps: &gst::Caps) -> Result<AudioFormat, MediaError> {
    let structure = caps.structure(0).ok_or_else(|| failed("the audio encoder has no format"))?;
    let number = |name: &str| {
        structure.get::<i32>(name).ok().filter(|number| *number > 0).ok_or_else(|| failed("no sample rate"))
    };
    Ok(AudioFormat {
        rate: number("rate")? as u32,
        channels: u16::try_from(number("channels")?).map_err(|_| failed("too many channels"))?,
        codec: AudioCodec::Aac(codec_data(structure)?),
    })
}

fn codec_data(structure: &gst::StructureRef) -> Result<Vec<u8>, MediaError> {
    let buffer = structure.get::<gst::Buffer>("codec_data").map_err(|_| failed("no codec configuration"))?;
    let map = buffer.map_readable().map_err(|_| failed("an unreadable codec configuration"))?;
    Ok(map.as_slice().to_vec())
}

fn unwritable(error: FormatError) -> MediaError {
    failed(&error.to_string())
}

fn failed(message: &str) -> MediaError {
    MediaError::Element { element: "recorder".into(), message: message.into() }
}
