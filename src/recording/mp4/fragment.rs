//! Makes the bytes of a growing MP4: a header, then fragments of a picture track, a sound track, or both.
//!
//! The live encoders make no B-frames: pictures are shown in the order they are decoded, and a sample has one
//! time. What is not live may be decoded in another order than it is shown. Each fragment is one `moof` and one `mdat` that hold both tracks, so that
//! sound and picture of a cut-off file end together, and states its own times, so that a hole in
//! either stays a hole. Players that open the file while it grows read the header's edit list, and
//! have sound and picture in step before [`super::finalise`] has seen it.

use std::time::Duration;

use bytes::Bytes;
use mp4_atom::{
    Audio, Avc1, Avc3, Avcc, DecodeAtom, Dinf, Dops, Dref, DrefEntry, Edts, Elst, ElstEntry, Encode, Ftyp, Hdlr,
    Header, Mdia, Mfhd, Minf, Moof, Moov, Mp4a, Mvex, Mvhd, Opus, Smhd, Stbl, Stco, Stsd, Tfdt, Tfhd, Tkhd, Traf, Trak,
    Trex, Trun, TrunEntry, Url, Visual, Vmhd, esds,
};
use thiserror::Error;

/// Units a second of the video track and of the movie.
pub const VIDEO_TIMESCALE: u32 = 90_000;
/// PCM samples in one AAC frame.
pub const AAC_FRAME: u32 = 1024;

const VIDEO: u32 = 1;
const AUDIO: u32 = 2;
const SYNC_FLAGS: u32 = 0x0200_0000;
const NON_SYNC_FLAGS: u32 = 0x0101_0000;

/// An H.264 track, length-prefixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoFormat {
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// AVCDecoderConfigurationRecord (ISO/IEC 14496-15 §5.3.3).
    pub config: Vec<u8>,
    /// Parameter sets are in the stream too, and may change there (`avc3`); else they are only in
    /// `config` (`avc1`).
    pub changes: bool,
    /// How long before it is shown the first picture is decoded: 0 without B-frames.
    pub reorder_ns: u64,
}

/// A sound track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioFormat {
    /// Samples a second, which is also the track's timescale.
    pub rate: u32,
    /// Channels.
    pub channels: u16,
    /// How it is coded.
    pub codec: AudioCodec,
}

/// How a sound track is coded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AudioCodec {
    /// AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1). Frames have [`AAC_FRAME`] samples.
    Aac(Vec<u8>),
    /// RFC 6716, from the middle of a call: nothing is to be skipped. One or two channels at 48 kHz.
    Opus,
}

/// A format cannot be written.
#[derive(Debug, Error)]
#[error("the encoder's format cannot be written: {0}")]
pub struct FormatError(#[from] mp4_atom::Error);

/// Which of the two tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackKind {
    /// Picture.
    Video,
    /// Sound.
    Audio,
}

#[derive(Debug)]
struct Sample {
    time: u64,
    duration: u32,
    sync: bool,
    data: Bytes,
    /// Units between decoding and showing it, where those differ.
    shown_after: Option<i64>,
}

/// Collects samples and gives out fragments.
#[derive(Debug)]
pub struct Fragmenter {
    header: Vec<u8>,
    sequence: u32,
    audio_rate: u32,
    /// Of every audio sample, where all are of one length.
    audio_frame: Option<u32>,
    /// Movie time of the audio track's first sample, which may lie before the movie begins.
    audio_start_ns: i128,
    reorder_ns: i128,
    video: Vec<Sample>,
    audio: Vec<Sample>,
}

impl Fragmenter {
    /// `audio`: the format, and when the first frame begins to sound, an encoder's priming included,
    /// in nanoseconds on the movie's timeline. What lies before 0 is skipped by an edit list.
    ///
    /// # Errors
    /// [`FormatError`] if a format's configuration record is damaged.
    pub fn new(video: Option<&VideoFormat>, audio: Option<(&AudioFormat, i64)>) -> Result<Self, FormatError> {
        let (rate, start_ns) = audio.map_or((48_000, 0), |(format, start_ns)| (format.rate, start_ns));
        let is_aac = audio.is_some_and(|(format, _)| matches!(format.codec, AudioCodec::Aac(_)));
        Ok(Self {
            header: header(video, audio)?,
            sequence: 0,
            audio_rate: rate,
            audio_frame: is_aac.then_some(AAC_FRAME),
            audio_start_ns: start_ns.into(),
            reorder_ns: video.map_or(0, |format| format.reorder_ns).into(),
            video: Vec::new(),
            audio: Vec::new(),
        })
    }

    /// The file's first bytes.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Takes a sample of a track that is in the header. `time` is when it is presented, in nanoseconds
    /// on the movie's timeline. Samples of a track come in order; one that does not follow the last is moved behind it.
    pub fn push(&mut self, track: TrackKind, time_ns: i64, duration: Duration, sync: bool, data: Bytes) {
        let (origin, rate, fixed, samples) = match track {
            TrackKind::Video => (0, VIDEO_TIMESCALE, None, &mut self.video),
            TrackKind::Audio => (self.audio_start_ns, self.audio_rate, self.audio_frame, &mut self.audio),
        };
        let units = |ns: i128| units(ns, rate);
        let mut time = units(i128::from(time_ns) - origin);
        if let Some(last) = samples.last_mut() {
            time = time.max(last.time + 1);
            // What has no fixed length lasts until the next.
            if fixed.is_none() {
                last.duration = u32::try_from(time - last.time).unwrap_or(u32::MAX);
            }
        }
        let stated = u32::try_from(units(duration.as_nanos() as i128)).unwrap_or(u32::MAX).max(1);
        let duration = fixed.unwrap_or(stated);
        samples.push(Sample { time, duration, sync, data, shown_after: None });
    }

    /// Takes a picture that is decoded at another time than it is shown; those before the movie's beginning are
    /// negative. Pictures come in the order they are decoded.
    pub fn push_reordered(&mut self, shown_ns: i64, decoded_ns: i64, duration: Duration, sync: bool, data: Bytes) {
        let of = |ns: i64| units(i128::from(ns) + self.reorder_ns, VIDEO_TIMESCALE);
        let (shown, mut time) = (of(shown_ns), of(decoded_ns));
        if let Some(last) = self.video.last_mut() {
            time = time.max(last.time + 1);
            last.duration = u32::try_from(time - last.time).unwrap_or(u32::MAX);
        }
        let duration = u32::try_from(units(duration.as_nanos() as i128, VIDEO_TIMESCALE)).unwrap_or(u32::MAX).max(1);
        let shown_after = i64::try_from(shown.saturating_sub(time)).ok();
        self.video.push(Sample { time, duration, sync, data, shown_after });
    }

    /// Nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.video.is_empty() && self.audio.is_empty()
    }

    /// Everything that was taken so far as one fragment: a `moof` and an `mdat`. Empty if there is
    /// nothing.
    ///
    /// # Errors
    /// [`FormatError`] if a fragment exceeds what the format can say (2 GiB).
    pub fn take_fragment(&mut self) -> Result<Vec<u8>, FormatError> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        self.sequence += 1;
        let (video, audio) = (std::mem::take(&mut self.video), std::mem::take(&mut self.audio));
        let payload: usize = video.iter().chain(&audio).map(|sample| sample.data.len()).sum();
        let moof_bytes = encode(&moof(self.sequence, &video, &audio, 0)?)?.len();
        let mut bytes = encode(&moof(self.sequence, &video, &audio, moof_bytes + MDAT_HEADER_BYTES)?)?;
        bytes.reserve(MDAT_HEADER_BYTES + payload);
        bytes.extend_from_slice(&u32_of(payload + MDAT_HEADER_BYTES)?.to_be_bytes());
        bytes.extend_from_slice(b"mdat");
        video.iter().chain(&audio).for_each(|sample| bytes.extend_from_slice(&sample.data));
        Ok(bytes)
    }
}

const MDAT_HEADER_BYTES: usize = 8;

/// A time in units of a timescale, rounded.
fn units(ns: i128, rate: u32) -> u64 {
    u64::try_from((ns * i128::from(rate) + 500_000_000) / 1_000_000_000).unwrap_or(0)
}

fn encode(atom: &impl Encode) -> Result<Vec<u8>, FormatError> {
    let mut bytes = Vec::new();
    atom.encode(&mut bytes)?;
    Ok(bytes)
}

fn u32_of(bytes: usize) -> Result<u32, FormatError> {
    u32::try_from(bytes).map_err(|_| FormatError(mp4_atom::Error::InvalidSize))
}

fn moof(sequence: u32, video: &[Sample], audio: &[Sample], data_offset: usize) -> Result<Moof, FormatError> {
    let video_bytes: usize = video.iter().map(|sample| sample.data.len()).sum();
    let tracks = [(VIDEO, video, data_offset), (AUDIO, audio, data_offset + video_bytes)];
    let tracks = tracks.into_iter().filter(|(_, samples, _)| !samples.is_empty());
    let traf = tracks.map(|(track, samples, offset)| traf(track, samples, offset)).collect::<Result<_, _>>()?;
    Ok(Moof { mfhd: Mfhd { sequence_number: sequence }, traf })
}

fn traf(track_id: u32, samples: &[Sample], offset: usize) -> Result<Traf, FormatError> {
    let entry = |sample: &Sample| -> Result<TrunEntry, FormatError> {
        Ok(TrunEntry {
            duration: Some(sample.duration),
            size: Some(u32_of(sample.data.len())?),
            flags: Some(if sample.sync { SYNC_FLAGS } else { NON_SYNC_FLAGS }),
            cts: sample.shown_after,
        })
    };
    let data_offset = i32::try_from(offset).map_err(|_| FormatError(mp4_atom::Error::InvalidSize))?;
    let entries: Vec<_> = samples.iter().map(entry).collect::<Result<_, _>>()?;
    Ok(Traf {
        tfhd: Tfhd { track_id, default_base_is_moof: true, ..Default::default() },
        tfdt: samples.first().map(|sample| Tfdt { base_media_decode_time: sample.time }),
        trun: vec![Trun { data_offset: Some(data_offset), samples: entries.into() }],
        ..Default::default()
    })
}

fn header(video: Option<&VideoFormat>, audio: Option<(&AudioFormat, i64)>) -> Result<Vec<u8>, FormatError> {
    let mut bytes = encode(&Ftyp {
        major_brand: b"iso5".into(),
        minor_version: 0x200,
        compatible_brands: vec![b"iso5".into(), b"iso6".into(), b"avc1".into(), b"mp41".into()],
    })?;
    let trex = |track_id| Trex { track_id, default_sample_description_index: 1, ..Default::default() };
    let video = video.map(video_trak).transpose()?;
    let audio = audio.map(|(format, start_ns)| audio_trak(format, start_ns)).transpose()?;
    let trak: Vec<_> = video.into_iter().chain(audio).collect();
    let moov = Moov {
        mvhd: Mvhd {
            timescale: VIDEO_TIMESCALE,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: AUDIO + 1,
            ..Default::default()
        },
        mvex: Some(Mvex { mehd: None, trex: trak.iter().map(|trak| trex(trak.tkhd.track_id)).collect() }),
        trak,
        ..Default::default()
    };
    moov.encode(&mut bytes)?;
    Ok(bytes)
}

fn video_trak(format: &VideoFormat) -> Result<Trak, FormatError> {
    let mut config = format.config.as_slice();
    let size = Some(config.len());
    let avcc = Avcc::decode_atom(&Header { kind: b"avcC".into(), size }, &mut config)?;
    let visual = Visual {
        data_reference_index: 1,
        width: format.width,
        height: format.height,
        horizresolution: 72.into(),
        vertresolution: 72.into(),
        frame_count: 1,
        depth: 24,
        ..Default::default()
    };
    let entry = if format.changes {
        Avc3 { visual, avcc, ..Default::default() }.into()
    } else {
        Avc1 { visual, avcc, ..Default::default() }.into()
    };
    let mut trak = trak(VIDEO, b"vide", VIDEO_TIMESCALE, entry);
    trak.tkhd.width = format.width.into();
    trak.tkhd.height = format.height.into();
    trak.mdia.minf.vmhd = Some(Vmhd::default());
    trak.edts = edit(VIDEO_TIMESCALE, -i64::try_from(format.reorder_ns).unwrap_or(0));
    Ok(trak)
}

fn audio_trak(format: &AudioFormat, start_ns: i64) -> Result<Trak, FormatError> {
    let audio = Audio {
        data_reference_index: 1,
        channel_count: format.channels,
        sample_size: 16,
        sample_rate: u16::try_from(format.rate).map_err(|_| mp4_atom::Error::InvalidSize)?.into(),
    };
    let entry = match &format.codec {
        AudioCodec::Aac(config) => Mp4a { audio, esds: aac_descriptor(config), btrt: None, taic: None }.into(),
        AudioCodec::Opus => {
            let dops = Dops {
                output_channel_count: u8::try_from(format.channels).map_err(|_| mp4_atom::Error::InvalidSize)?,
                pre_skip: 0,
                input_sample_rate: format.rate,
                output_gain: 0,
                channel_mapping: None,
            };
            Opus { audio, dops, btrt: None }.into()
        }
    };
    let mut trak = trak(AUDIO, b"soun", format.rate, entry);
    trak.tkhd.volume = 1.into();
    trak.tkhd.alternate_group = 1;
    trak.mdia.minf.smhd = Some(Smhd::default());
    trak.edts = edit(format.rate, start_ns);
    Ok(trak)
}

fn aac_descriptor(config: &[u8]) -> esds::Esds {
    let dec_specific = esds::DecoderSpecific { raw: config.to_vec(), ..Default::default() };
    let es_desc = esds::EsDescriptor {
        es_id: AUDIO as u16,
        dec_config: esds::DecoderConfig {
            object_type_indication: 0x40, // MPEG-4 audio
            stream_type: 5,               // audio stream
            dec_specific: Some(dec_specific),
            ..Default::default()
        },
        ..Default::default()
    };
    esds::Esds { es_desc }
}

/// Skips what lies before the movie's beginning, or waits for what begins later. In a fragmented file
/// a duration of 0 means "to the end" (ISO/IEC 14496-12 §8.6.6.1).
fn edit(rate: u32, start_ns: i64) -> Option<Edts> {
    let units = |rate: u32| (u128::from(start_ns.unsigned_abs()) * u128::from(rate) / 1_000_000_000) as u64;
    let play = |skip| ElstEntry { segment_duration: 0, media_time: Some(skip), media_rate: 1.into() };
    let entries = match start_ns {
        0 => return None,
        ..0 => vec![play(units(rate))],
        _ => {
            let wait = ElstEntry { segment_duration: units(VIDEO_TIMESCALE), media_time: None, media_rate: 1.into() };
            vec![wait, play(0)]
        }
    };
    Some(Edts { elst: Some(Elst { entries }) })
}

fn trak(track_id: u32, handler: &[u8; 4], timescale: u32, entry: mp4_atom::Codec) -> Trak {
    let location = DrefEntry::Url(Url::default());
    Trak {
        tkhd: Tkhd { track_id, enabled: true, in_movie: true, ..Default::default() },
        mdia: Mdia {
            mdhd: mp4_atom::Mdhd { timescale, language: "und".into(), ..Default::default() },
            hdlr: Hdlr { handler: handler.into(), name: "Salon".into() },
            minf: Minf {
                dinf: Dinf { dref: Dref { entries: vec![location] } },
                stbl: Stbl { stsd: Stsd { codecs: vec![entry] }, stco: Some(Stco::default()), ..Default::default() },
                ..Default::default()
            },
        },
        ..Default::default()
    }
}
