//! Our WebM files (RFC 9559, the WebM guidelines): one picture track, written as clusters while a
//! recording runs, made seekable once it is over.
//!
//! A growing file is a header, a segment of unknown size, and whole clusters, so that what was written
//! plays whenever the writer dies. [`finalise`] copies the clusters behind a header that knows the
//! duration and where the keyframes are.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use thiserror::Error;

mod ebml;
#[cfg(test)]
mod tests;

use ebml::{element, float, head, head_with_size, text, uint};

/// Units of time a second: timestamps are in milliseconds, as the guidelines ask.
const SCALE_NS: i64 = 1_000_000;
/// Bytes of one cluster that are read into memory; ours hold a fraction of a second.
const MAX_CLUSTER_BYTES: u64 = 256 << 20;
const BUFFER_BYTES: usize = 1 << 20;

/// How the pictures are coded, and what a decoder needs to know first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VideoCodec {
    /// RFC 6386.
    Vp8,
    /// VP9.
    Vp9,
    /// AV1CodecConfigurationRecord (AV1 in ISOBMFF §2.3.3), which Matroska uses too.
    Av1(Vec<u8>),
}

/// A picture track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoFormat {
    /// How it is coded.
    pub codec: VideoCodec,
    /// Pixels of the first frame; the stream itself says when that changes.
    pub width: u16,
    /// Pixels.
    pub height: u16,
}

/// Collects frames and gives out clusters.
#[derive(Debug)]
pub struct Writer {
    header: Vec<u8>,
    frames: Vec<Frame>,
    /// Of the last frame that was given out.
    last_ms: u64,
}

#[derive(Debug)]
struct Frame {
    ms: u64,
    sync: bool,
    data: Bytes,
}

impl Writer {
    /// Of a track whose first frame is at 0.
    pub fn new(format: &VideoFormat) -> Self {
        let mut header = ebml_header();
        header.extend(head_with_size(ebml::SEGMENT, ebml::UNKNOWN_SIZE));
        header.extend(element(ebml::INFO, &info(None)));
        header.extend(element(ebml::TRACKS, &tracks(format)));
        Self { header, frames: Vec::new(), last_ms: 0 }
    }

    /// The file's first bytes.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Takes a frame. One that does not follow the last is moved to its time.
    pub fn push(&mut self, time_ns: i64, sync: bool, data: Bytes) {
        let ms = u64::try_from((time_ns + SCALE_NS / 2) / SCALE_NS).unwrap_or(0).max(self.last_ms);
        self.last_ms = ms;
        self.frames.push(Frame { ms, sync, data });
    }

    /// Nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Everything that was taken so far as clusters, one mostly. Empty if there is nothing.
    pub fn take_clusters(&mut self) -> Vec<u8> {
        let frames = std::mem::take(&mut self.frames);
        // A block's time is 16 bits, counted from its cluster's.
        let together = |a: &Frame, b: &Frame| a.ms / 30_000 == b.ms / 30_000;
        frames.chunk_by(together).flat_map(cluster).collect()
    }
}

fn cluster(frames: &[Frame]) -> Vec<u8> {
    let start = frames[0].ms;
    let mut body = element(ebml::TIMESTAMP, &uint(start));
    for frame in frames {
        let offset = (frame.ms - start) as u16;
        body.extend(head(ebml::SIMPLE_BLOCK, frame.data.len() as u64 + BLOCK_HEAD_BYTES as u64));
        body.push(0x81); // track 1
        body.extend(offset.to_be_bytes());
        body.push(if frame.sync { KEYFRAME } else { 0 });
        body.extend_from_slice(&frame.data);
    }
    element(ebml::CLUSTER, &body)
}

/// Track number, time and flags.
const BLOCK_HEAD_BYTES: usize = 4;
const KEYFRAME: u8 = 0x80;

fn ebml_header() -> Vec<u8> {
    let fields = [
        element(ebml::VERSION, &uint(1)),
        element(ebml::READ_VERSION, &uint(1)),
        element(ebml::MAX_ID_LENGTH, &uint(4)),
        element(ebml::MAX_SIZE_LENGTH, &uint(8)),
        element(ebml::DOC_TYPE, b"webm"),
        element(ebml::DOC_TYPE_VERSION, &uint(4)),
        element(ebml::DOC_TYPE_READ_VERSION, &uint(2)),
    ];
    element(ebml::EBML, &fields.concat())
}

fn info(duration_ms: Option<u64>) -> Vec<u8> {
    let mut fields = element(ebml::TIMESTAMP_SCALE, &uint(SCALE_NS as u64));
    fields.extend(element(ebml::MUXING_APP, text("Salon")));
    fields.extend(element(ebml::WRITING_APP, text("Salon")));
    if let Some(ms) = duration_ms {
        fields.extend(element(ebml::DURATION, &float(ms as f64)));
    }
    fields
}

fn tracks(format: &VideoFormat) -> Vec<u8> {
    let (codec, private) = match &format.codec {
        VideoCodec::Vp8 => ("V_VP8", None),
        VideoCodec::Vp9 => ("V_VP9", None),
        VideoCodec::Av1(config) => ("V_AV1", Some(config)),
    };
    let size = [
        element(ebml::PIXEL_WIDTH, &uint(format.width.into())),
        element(ebml::PIXEL_HEIGHT, &uint(format.height.into())),
    ];
    let mut entry = [
        element(ebml::TRACK_NUMBER, &uint(1)),
        element(ebml::TRACK_UID, &uint(1)),
        element(ebml::TRACK_TYPE, &uint(1)),
        element(ebml::FLAG_LACING, &uint(0)),
        element(ebml::CODEC_ID, text(codec)),
    ]
    .concat();
    private.into_iter().for_each(|config| entry.extend(element(ebml::CODEC_PRIVATE, config)));
    entry.extend(element(ebml::VIDEO, &size.concat()));
    element(ebml::TRACK_ENTRY, &entry)
}

/// Why a file could not be finalised. The source is as it was.
#[derive(Debug, Error)]
pub enum WebmError {
    /// There is no whole cluster.
    #[error("nothing was recorded")]
    NothingRecorded,
    /// It is no WebM of ours.
    #[error("not a WebM file of ours: {0}")]
    NotOurs(&'static str),
    /// The source cannot be read.
    #[error("the recording could not be read: {0}")]
    Read(#[source] io::Error),
    /// The target cannot be written.
    #[error("the finished file could not be written: {0}")]
    Write(#[source] io::Error),
}

/// What is in a file.
#[derive(Debug)]
pub struct Index {
    /// It knows its duration already: there is nothing to finalise.
    pub is_whole: bool,
    /// Until the last frame has been shown for as long as those before it.
    pub duration: Duration,
    tracks: Vec<u8>,
    clusters: Vec<Cluster>,
}

#[derive(Debug)]
struct Cluster {
    position: u64,
    bytes: u64,
    /// Of its first keyframe.
    keyframe_ms: Option<u64>,
    times_ms: (u64, u64),
    frames: u64,
}

/// Reads all whole clusters of a file of ours, whole or cut off anywhere.
///
/// # Errors
/// As [`WebmError`] says.
pub fn read(file: &mut File) -> Result<Index, WebmError> {
    let length = file.metadata().map_err(WebmError::Read)?.len();
    let mut at = 0;
    let (mut is_whole, mut tracks, mut clusters) = (false, None, Vec::new());
    while let Some(found) = next(file, at, length)? {
        // The segment's children follow its head.
        at = found.body;
        match found.id {
            ebml::SEGMENT => {
                is_whole = found.size != ebml::UNKNOWN_SIZE;
                continue;
            }
            ebml::TRACKS => tracks = Some(body(file, &found)?),
            ebml::CLUSTER => {
                let cluster_body = body(file, &found)?;
                let Some(cluster) = inspect(&cluster_body, &found) else { break };
                clusters.push(cluster);
            }
            _ => {}
        }
        at += found.size;
    }
    let (Some(tracks), Some(last)) = (tracks, clusters.last()) else {
        return Err(if at == 0 && length > 64 { WebmError::NotOurs("no EBML") } else { WebmError::NothingRecorded });
    };
    let (first_ms, last_ms) = last.times_ms;
    // One frame stands for 40 ms.
    let frame_ms = if last.frames > 1 { (last_ms - first_ms) / (last.frames - 1) } else { 40 };
    Ok(Index { is_whole, duration: Duration::from_millis(last_ms + frame_ms), tracks, clusters })
}

/// Writes what `index` says of `source` to `target`, with duration and keyframes in front, and has it
/// on the disk.
///
/// # Errors
/// As [`WebmError`] says; the caller removes a target that is not whole.
pub fn finalise(index: &Index, source: &mut File, target: &Path) -> Result<u64, WebmError> {
    let mut front = element(ebml::INFO, &info(Some(index.duration.as_millis() as u64)));
    front.extend(element(ebml::TRACKS, &index.tracks));
    // Positions have a fixed width: the length of the cues does not depend on them.
    let cues_bytes = element(ebml::CUES, &cues(index, 0)).len() as u64;
    let clusters_at = front.len() as u64 + cues_bytes;
    front.extend(element(ebml::CUES, &cues(index, clusters_at)));
    let clusters: u64 = index.clusters.iter().map(|cluster| cluster.bytes).sum();
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, File::create(target).map_err(WebmError::Write)?);
    let mut head = ebml_header();
    head.extend(head_with_size(ebml::SEGMENT, front.len() as u64 + clusters));
    out.write_all(&head).and_then(|()| out.write_all(&front)).map_err(WebmError::Write)?;
    for cluster in &index.clusters {
        source.seek(SeekFrom::Start(cluster.position)).map_err(WebmError::Read)?;
        let copied = io::copy(&mut source.take(cluster.bytes), &mut out).map_err(WebmError::Write)?;
        if copied < cluster.bytes {
            return Err(WebmError::Read(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    let file = out.into_inner().map_err(|error| WebmError::Write(error.into_error()))?;
    file.sync_all().map_err(WebmError::Write)?;
    Ok(head.len() as u64 + front.len() as u64 + clusters)
}

/// One for each cluster with a keyframe; `clusters_at`: where the first begins, from the segment's body.
fn cues(index: &Index, clusters_at: u64) -> Vec<u8> {
    let mut at = clusters_at;
    let mut points = Vec::new();
    for cluster in &index.clusters {
        if let Some(ms) = cluster.keyframe_ms {
            let place = [element(ebml::CUE_TRACK, &uint(1)), element(ebml::CUE_CLUSTER_POSITION, &at.to_be_bytes())];
            let point = [element(ebml::CUE_TIME, &uint(ms)), element(ebml::CUE_TRACK_POSITIONS, &place.concat())];
            points.extend(element(ebml::CUE_POINT, &point.concat()));
        }
        at += cluster.bytes;
    }
    points
}

/// An element whose head is there.
struct Found {
    id: u32,
    position: u64,
    body: u64,
    size: u64,
}

/// `None` at the end, where an element is cut off, and where what follows is none.
fn next(file: &mut File, at: u64, length: u64) -> Result<Option<Found>, WebmError> {
    let mut bytes = [0; 12];
    let wanted = length.saturating_sub(at).min(12) as usize;
    file.seek(SeekFrom::Start(at)).map_err(WebmError::Read)?;
    file.read_exact(&mut bytes[..wanted]).map_err(WebmError::Read)?;
    let Some((id, size, head_bytes)) = ebml::read_head(&bytes[..wanted]) else { return Ok(None) };
    let body = at + head_bytes as u64;
    let is_there = size == ebml::UNKNOWN_SIZE || body.checked_add(size).is_some_and(|end| end <= length);
    // A segment that is cut off has whole clusters all the same.
    Ok((is_there || id == ebml::SEGMENT).then_some(Found { id, position: at, body, size }))
}

fn body(file: &mut File, found: &Found) -> Result<Vec<u8>, WebmError> {
    if found.size > MAX_CLUSTER_BYTES {
        return Err(WebmError::NotOurs("a cluster beyond any real size"));
    }
    let mut bytes = vec![0; found.size as usize];
    file.seek(SeekFrom::Start(found.body)).map_err(WebmError::Read)?;
    file.read_exact(&mut bytes).map_err(WebmError::Read)?;
    Ok(bytes)
}

/// `None` if it is damaged: then it is the end.
fn inspect(body: &[u8], found: &Found) -> Option<Cluster> {
    let (mut start, mut keyframe_ms, mut times_ms, mut frames) = (None, None, None, 0);
    let mut rest = body;
    while !rest.is_empty() {
        let (id, size, head_bytes) = ebml::read_head(rest)?;
        let content = rest.get(head_bytes..head_bytes.checked_add(usize::try_from(size).ok()?)?)?;
        rest = &rest[head_bytes + content.len()..];
        match id {
            ebml::TIMESTAMP => start = Some(ebml::read_uint(content)?),
            ebml::SIMPLE_BLOCK => {
                let [_track, high, low, flags] = *content.first_chunk()?;
                let ms = start? + u64::from(u16::from_be_bytes([high, low]));
                times_ms = Some((times_ms.map_or(ms, |(first, _): (u64, u64)| first), ms));
                frames += 1;
                if flags & KEYFRAME != 0 {
                    keyframe_ms = keyframe_ms.or(Some(ms));
                }
            }
            _ => {}
        }
    }
    let bytes = found.body - found.position + found.size;
    Some(Cluster { position: found.position, bytes, keyframe_ms, times_ms: times_ms?, frames })
}
