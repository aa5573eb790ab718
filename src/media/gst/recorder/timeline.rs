//! Turns encoded frames on the room's time into bytes of a file whose time begins at 0.
//!
//! 0 is the first keyframe. Sound from before it is dropped, but for what the decoder needs to start.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    super::mixer::Encoded,
    cuts::{Cuts, Splice},
};
use crate::{
    media::{Kind, MediaError},
    recording::mp4::fragment::{AAC_FRAME, AudioFormat, FormatError, Fragmenter, TrackKind, VideoFormat},
};

/// Frames of one kind that wait for the other before the mix counts as broken.
const MAX_WAITING: usize = 600;

/// One encoded frame.
pub struct Frame {
    pub kind: TrackKind,
    /// Running time of the room at which it is shown, or at which the encoder says it sounds.
    pub time_ns: i64,
    duration: Duration,
    sync: bool,
    data: Bytes,
    caps: gst::Caps,
}

impl Frame {
    /// `None` if it carries no media or no time: encoders send such buffers as headers.
    pub fn read(encoded: Encoded) -> Option<Self> {
        let kind = match encoded.kind {
            Kind::Video => TrackKind::Video,
            Kind::Audio => TrackKind::Audio,
        };
        let caps = encoded.sample.caps_owned()?;
        let segment = encoded.sample.segment()?.downcast_ref::<gst::ClockTime>()?.clone();
        let buffer = encoded.sample.buffer_owned()?;
        let time = segment.to_running_time(buffer.pts()?)? + encoded.epoch;
        let duration = buffer.duration().map_or(Duration::ZERO, Duration::from);
        let sync = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let data = Bytes::from_owner(buffer.into_mapped_buffer_readable().ok()?);
        Some(Self { kind, time_ns: time.nseconds() as i64, duration, sync, data, caps })
    }
}

/// Collects frames, and gives out the file's next bytes when a fragment is whole.
pub struct Timeline {
    priming_samples: u32,
    fragment: Duration,
    cuts: Arc<Cuts>,
    stage: Stage,
}

enum Stage {
    /// The header needs both formats, and where the sound begins against the picture.
    Waiting {
        video: VecDeque<Frame>,
        audio: VecDeque<Frame>,
    },
    Writing(Writing),
}

struct Writing {
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
    /// `fragment`: how long fragments are. `cuts`: what is left out of the file.
    pub fn new(priming_samples: u32, fragment: Duration, cuts: Arc<Cuts>) -> Self {
        let stage = Stage::Waiting { video: VecDeque::new(), audio: VecDeque::new() };
        Self { priming_samples, fragment, cuts, stage }
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
                    TrackKind::Video if video.is_empty() && !frame.sync => {}
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

    /// Goes over to writing as soon as there is a keyframe and the sound that goes with it.
    fn begin(&mut self) -> Result<Vec<u8>, MediaError> {
        let Stage::Waiting { video, audio } = &mut self.stage else { return Ok(Vec::new()) };
        let Some(first) = video.front() else {
            while audio.len() > MAX_WAITING {
                audio.pop_front();
            }
            return Ok(Vec::new());
        };
        let zero_ns = first.time_ns;
        let video_format = video_format(&first.caps)?;
        let rate = audio.front().map(|frame| audio_format(&frame.caps)).transpose()?.map(|format| format.rate);
        let rate = i64::from(rate.unwrap_or(48_000).max(1));
        let samples = |count: u32| i64::from(count) * 1_000_000_000 / rate;
        // AAC overlaps its frames: the one before the first that is heard is needed to decode it.
        let needed_from = zero_ns + samples(self.priming_samples) - samples(2 * AAC_FRAME);
        while audio.front().is_some_and(|frame| frame.time_ns < needed_from) {
            audio.pop_front();
        }
        let Some(sound) = audio.front() else {
            return if video.len() > MAX_WAITING { Err(failed("the audio encoder is silent")) } else { Ok(Vec::new()) };
        };
        let priming_ns = samples(self.priming_samples);
        let audio_start_ns = sound.time_ns - priming_ns - zero_ns;
        let fragmenter =
            Fragmenter::new(&video_format, &audio_format(&sound.caps)?, audio_start_ns).map_err(unwritable)?;
        let header = fragmenter.header().to_vec();
        let held: Vec<_> = video.drain(..).chain(audio.drain(..)).collect();
        let mut writing = Writing {
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
        // Fragments end between two pictures; without pictures the sound is written all the same.
        let limit = fragment.as_nanos() as i64 * if frame.kind == TrackKind::Video { 1 } else { 4 };
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
        self.fragmenter.push(frame.kind, time, frame.duration, frame.sync, frame.data);
        Ok(bytes)
    }

    fn take_fragment(&mut self) -> Result<Vec<u8>, MediaError> {
        let fragment = self.fragmenter.take_fragment().map_err(unwritable)?;
        let mut bytes = std::mem::take(&mut self.header);
        bytes.extend(fragment);
        Ok(bytes)
    }
}

fn video_format(caps: &gst::Caps) -> Result<VideoFormat, MediaError> {
    let structure = caps.structure(0).ok_or_else(|| failed("the video encoder has no format"))?;
    let side = |name: &str| {
        structure
            .get::<i32>(name)
            .ok()
            .and_then(|side| u16::try_from(side).ok())
            .ok_or_else(|| failed("no picture size"))
    };
    Ok(VideoFormat { width: side("width")?, height: side("height")?, config: codec_data(structure)? })
}

fn audio_format(caps: &gst::Caps) -> Result<AudioFormat, MediaError> {
    let structure = caps.structure(0).ok_or_else(|| failed("the audio encoder has no format"))?;
    let number = |name: &str| {
        structure.get::<i32>(name).ok().filter(|number| *number > 0).ok_or_else(|| failed("no sample rate"))
    };
    Ok(AudioFormat {
        rate: number("rate")? as u32,
        channels: u16::try_from(number("channels")?).map_err(|_| failed("too many channels"))?,
        config: codec_data(structure)?,
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
