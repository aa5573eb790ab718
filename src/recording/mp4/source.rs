//! Reads a fragmented MP4, whole or cut off, into sample tables.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Cursor, Read, Seek, SeekFrom},
    time::Duration,
};

use mp4_atom::{Atom, Codec, DecodeAtom, FourCC, Header, Moof, Moov, Traf, Trak, Trex};

use super::{
    Finalised, Mp4Error, VideoFacts,
    table::{Sample, SampleTable},
};

/// No `ftyp`, `moov` or `moof` of a live recording is larger; more is not read into memory.
const MAX_BOX_BYTES: u64 = 8 << 20;
/// An AAC encoder's delay where the file does not state it, in samples.
const AAC_PRIMING: u64 = 1024;
/// `sample_is_non_sync_sample` (ISO/IEC 14496-12 §8.8.3.1).
const NON_SYNC: u32 = 1 << 16;

/// What a fragmented file holds: its header, and the tables of all whole fragments.
#[derive(Debug)]
pub struct Movie {
    pub moov: Moov,
    pub tracks: Vec<Track>,
}

/// One track with its place on the movie's timeline.
#[derive(Debug)]
pub struct Track {
    pub trak: Trak,
    pub table: SampleTable,
    /// Units of media to skip before the first that is shown.
    pub skip: u64,
    /// Units of media time before this track begins.
    pub delay: u64,
}

impl Movie {
    /// Numbers for the catalogue.
    pub fn facts(&self, size_bytes: u64) -> Finalised {
        let video = self.tracks.iter().find_map(|track| {
            let (width, height) = video_size(&track.trak)?;
            let seconds = track.media_duration().as_secs_f64();
            let fps = if seconds > 0.0 { track.table.len() as f64 / seconds } else { 0.0 };
            Some(VideoFacts { width, height, fps })
        });
        Finalised {
            duration: self.tracks.iter().map(Track::shown_until).max().unwrap_or_default(),
            video,
            tracks: self.tracks.iter().map(|track| sample_entry(&track.trak)).collect(),
            size_bytes,
        }
    }
}

impl Track {
    fn new(trak: Trak, table: SampleTable, movie_timescale: u32) -> Self {
        let (mut skip, mut delay) = edit(&trak, &table, movie_timescale);
        // In fragments a track begins at its first decode time; in our tables it begins at 0.
        let start = table.start;
        if start >= skip {
            delay += start - skip;
            skip = 0;
        } else {
            skip -= start;
        }
        Self { trak, skip, delay, table }
    }

    /// Units of media that are shown.
    pub fn shown(&self) -> u64 {
        self.table.shown_until.saturating_sub(self.skip)
    }

    fn media_duration(&self) -> Duration {
        seconds(self.table.duration, self.trak.mdia.mdhd.timescale)
    }

    fn shown_until(&self) -> Duration {
        seconds(self.delay + self.shown(), self.trak.mdia.mdhd.timescale)
    }
}

/// Reads all whole fragments.
pub fn read(file: &mut File) -> Result<Movie, Mp4Error> {
    let length = file.metadata().map_err(Mp4Error::Read)?.len();
    let mut moov = None;
    let mut tables = HashMap::new();
    let mut position = 0;
    while let Some(found) = next_box(file, position, length)? {
        match found.header.kind {
            Moov::KIND => moov = Some(decode::<Moov>(file, &found)?),
            Moof::KIND => {
                let Some(moov) = &moov else { return Err(not_fragmented("a fragment comes before the header")) };
                // A damaged or unfinished fragment ends the recording; all before it stands.
                let moof = match decode::<Moof>(file, &found) {
                    Ok(moof) => moof,
                    Err(error @ Mp4Error::Read(_)) => return Err(error),
                    Err(_) => break,
                };
                let Some(runs) = runs(&moof, moov, position, length) else { break };
                runs.into_iter().for_each(|run| run.add_to(&mut tables));
            }
            _ => {}
        }
        position = found.end;
    }
    let Some(moov) = moov else {
        return if position == 0 && length > 8 {
            Err(not_fragmented("it does not begin with a box"))
        } else {
            Err(Mp4Error::NothingRecorded)
        };
    };
    movie(moov, tables)
}

fn movie(mut moov: Moov, mut tables: HashMap<u32, SampleTable>) -> Result<Movie, Mp4Error> {
    if moov.mvex.is_none() {
        return Err(not_fragmented("it has no mvex box"));
    }
    let timescale = moov.mvhd.timescale;
    let tracks: Vec<_> = std::mem::take(&mut moov.trak)
        .into_iter()
        .filter_map(|trak| Some((tables.remove(&trak.tkhd.track_id)?, trak)))
        .filter(|(table, trak)| !table.is_empty() && trak.mdia.mdhd.timescale > 0)
        .map(|(table, trak)| Track::new(trak, table, timescale))
        .collect();
    if tracks.is_empty() { Err(Mp4Error::NothingRecorded) } else { Ok(Movie { moov, tracks }) }
}

/// A box whose header is there; its body may be cut off.
struct Found {
    header: Header,
    /// Where the body begins.
    body: u64,
    /// Where the next box begins.
    end: u64,
}

/// `None` at the end, and where what follows is no box (zeros after a power cut).
fn next_box(file: &mut File, position: u64, length: u64) -> Result<Option<Found>, Mp4Error> {
    let mut bytes = [0; 16];
    let wanted = length.saturating_sub(position).min(16) as usize;
    if wanted < 8 {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(position)).map_err(Mp4Error::Read)?;
    file.read_exact(&mut bytes[..wanted]).map_err(Mp4Error::Read)?;
    let large = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) == 1;
    let head = if large { 16 } else { 8 };
    let Ok(header) = mp4_atom::Decode::decode(&mut Cursor::new(&bytes[..head.min(wanted)])) else { return Ok(None) };
    let header: Header = header;
    let plain = u32::from(header.kind).to_be_bytes().iter().all(u8::is_ascii_graphic);
    let body = position + head as u64;
    let end = header.size.and_then(|size| body.checked_add(size as u64));
    Ok(end.filter(|_| plain).map(|end| Found { header, body, end }))
}

fn decode<A: Atom>(file: &mut File, found: &Found) -> Result<A, Mp4Error> {
    let size = found.end - found.body;
    if size > MAX_BOX_BYTES {
        return Err(not_fragmented(format!("a `{}` box of {size} bytes", A::KIND)));
    }
    let mut body = vec![0; size as usize];
    file.seek(SeekFrom::Start(found.body)).map_err(Mp4Error::Read)?;
    file.read_exact(&mut body).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Mp4Error::NothingRecorded,
        _ => Mp4Error::Read(error),
    })?;
    A::decode_atom(&found.header, &mut Cursor::new(body)).map_err(|error| not_fragmented(error.to_string()))
}

/// The samples of one `trun`.
struct Run {
    track: u32,
    /// Set on the first run of a fragment.
    time: Option<u64>,
    position: u64,
    samples: Vec<Sample>,
}

impl Run {
    fn add_to(self, tables: &mut HashMap<u32, SampleTable>) {
        let table = tables.entry(self.track).or_default();
        if let Some(time) = self.time {
            table.seek(time);
        }
        table.push_chunk(self.position, &self.samples);
    }
}

/// All runs of a fragment, or `None` if a byte of them is missing: then none of it is used, so that
/// sound and picture end together.
fn runs(moof: &Moof, moov: &Moov, moof_position: u64, length: u64) -> Option<Vec<Run>> {
    let mut runs = Vec::new();
    // Where data of the fragment begins if nothing says so: behind that of the run before
    // (ISO/IEC 14496-12 §8.8.7, §8.8.8).
    let mut behind = moof_position;
    for traf in &moof.traf {
        let trex = moov.mvex.as_ref()?.trex.iter().find(|trex| trex.track_id == traf.tfhd.track_id)?;
        let base = match traf.tfhd.base_data_offset {
            Some(base) => base,
            None if traf.tfhd.default_base_is_moof => moof_position,
            None => behind,
        };
        let mut time = traf.tfdt.as_ref().map(|tfdt| tfdt.base_media_decode_time);
        for trun in traf.trun.iter().filter(|trun| !trun.samples.is_empty()) {
            let position = match trun.data_offset {
                Some(offset) => base.checked_add_signed(i64::from(offset))?,
                None => behind,
            };
            let count = trun.samples.len();
            // Every real sample has a byte; a count beyond the file is damage, not a reason to allocate.
            if count as u64 > length {
                return None;
            }
            let samples: Vec<_> = trun.samples.iter().map(|entry| sample(&entry, traf, trex)).collect();
            let end = samples.iter().try_fold(position, |end, sample| end.checked_add(u64::from(sample.size)))?;
            if end > length {
                return None;
            }
            runs.push(Run { track: traf.tfhd.track_id, time: time.take(), position, samples });
            behind = end;
        }
    }
    Some(runs)
}

fn sample(entry: &mp4_atom::TrunEntry, traf: &Traf, trex: &Trex) -> Sample {
    let tfhd = &traf.tfhd;
    let flags = entry.flags.or(tfhd.default_sample_flags).unwrap_or(trex.default_sample_flags);
    Sample {
        size: entry.size.or(tfhd.default_sample_size).unwrap_or(trex.default_sample_size),
        duration: entry.duration.or(tfhd.default_sample_duration).unwrap_or(trex.default_sample_duration),
        offset: entry.cts.unwrap_or(0),
        sync: flags & NON_SYNC == 0,
    }
}

/// Media units to skip, and to wait: the source's own edit list, or what its codec is known to need.
fn edit(trak: &Trak, table: &SampleTable, movie_timescale: u32) -> (u64, u64) {
    let entries = trak.edts.as_ref().and_then(|edts| edts.elst.as_ref()).map(|elst| elst.entries.as_slice());
    let entries = entries.unwrap_or_default();
    if entries.is_empty() {
        return (unstated_skip(trak, table), 0);
    }
    let delay = entries.iter().take_while(|entry| entry.media_time.is_none()).map(|entry| entry.segment_duration).sum();
    let skip = entries.iter().find_map(|entry| entry.media_time).unwrap_or(0);
    (skip, scale(delay, movie_timescale, trak.mdia.mdhd.timescale))
}

fn unstated_skip(trak: &Trak, table: &SampleTable) -> u64 {
    match trak.mdia.minf.stbl.stsd.codecs.first() {
        Some(Codec::Mp4a(mp4a)) => {
            let rate = u32::from(mp4a.audio.sample_rate.integer());
            scale(AAC_PRIMING, rate.max(1), trak.mdia.mdhd.timescale)
        }
        _ => u64::try_from(table.first_offset()).unwrap_or(0),
    }
}

/// Converts between timescales, rounded.
pub fn scale(value: u64, from: u32, to: u32) -> u64 {
    let from = u128::from(from.max(1));
    u64::try_from((u128::from(value) * u128::from(to) + from / 2) / from).unwrap_or(u64::MAX)
}

fn seconds(units: u64, timescale: u32) -> Duration {
    Duration::from_nanos(scale(units, timescale, 1_000_000_000))
}

fn video_size(trak: &Trak) -> Option<(u32, u32)> {
    let visual = match trak.mdia.minf.stbl.stsd.codecs.first()? {
        Codec::Avc1(entry) => &entry.visual,
        Codec::Avc3(entry) => &entry.visual,
        _ => return None,
    };
    Some((visual.width.into(), visual.height.into()))
}

fn sample_entry(trak: &Trak) -> String {
    let kind: Option<FourCC> = trak.mdia.minf.stbl.stsd.codecs.first().and_then(|codec| match codec {
        Codec::Avc1(_) => Some(mp4_atom::Avc1::KIND),
        Codec::Avc3(_) => Some(mp4_atom::Avc3::KIND),
        Codec::Mp4a(_) => Some(mp4_atom::Mp4a::KIND),
        Codec::Opus(_) => Some(mp4_atom::Opus::KIND),
        _ => None,
    });
    kind.map_or_else(|| "other".into(), |kind| kind.to_string())
}

fn not_fragmented(reason: impl Into<String>) -> Mp4Error {
    Mp4Error::NotFragmented(reason.into())
}
