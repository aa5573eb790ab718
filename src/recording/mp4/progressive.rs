//! Writes a progressive fast-start MP4: `ftyp`, `moov` with full sample tables, one `mdat`.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::Path,
};

use mp4_atom::{Co64, Edts, Elst, ElstEntry, Encode, Ftyp, Moov, Stco, Trak};

use super::{
    Mp4Error,
    source::{Movie, Track, scale},
    table::Chunk,
};

/// Movie timescale of the target: edit lists are as exact as video's own clock.
const TIMESCALE: u32 = 90_000;
const BUFFER_BYTES: usize = 1 << 20;
/// An `mdat` header with a 64-bit size: one form for all files.
const MDAT_HEADER_BYTES: u64 = 16;

/// Writes `movie`, whose samples are in `source`, to `target`, and has it on the disk.
///
/// `user_data`: a whole `udta` box for the movie, or nothing.
pub fn write(
    movie: &Movie,
    source: &mut File,
    target: &Path,
    user_data: &[u8],
    progress: &dyn Fn(f64),
) -> Result<(), Mp4Error> {
    let plan = Plan::new(movie);
    let head = head(movie, &plan, user_data)?;
    let file = File::create(target).map_err(Mp4Error::write)?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
    out.write_all(&head).map_err(Mp4Error::write)?;
    out.write_all(&mdat_header(plan.bytes)).map_err(Mp4Error::write)?;
    let mut copied = 0;
    for run in plan.runs() {
        copy(source, &run, &mut out)?;
        copied += run.bytes;
        progress(copied as f64 / plan.bytes.max(1) as f64);
    }
    let file = out.into_inner().map_err(|error| Mp4Error::write(error.into_error()))?;
    file.sync_all().map_err(Mp4Error::write)
}

/// Which chunk goes where: chunks keep the order they have in the source.
struct Plan {
    /// `(track, chunk)` in the order of the target.
    order: Vec<(usize, Chunk)>,
    /// Of all samples.
    bytes: u64,
}

impl Plan {
    fn new(movie: &Movie) -> Self {
        let chunks = movie.tracks.iter().enumerate();
        let mut order: Vec<_> =
            chunks.flat_map(|(index, track)| track.table.chunks.iter().map(move |chunk| (index, *chunk))).collect();
        order.sort_by_key(|(_, chunk)| chunk.position);
        let bytes = order.iter().map(|(_, chunk)| chunk.bytes).sum();
        Self { order, bytes }
    }

    /// Where one track's chunks lie in the target, if the first sample of all lies at `origin`.
    fn offsets(&self, track: usize, origin: u64) -> Vec<u64> {
        let mut at = origin;
        let mut offsets = Vec::new();
        for (owner, chunk) in &self.order {
            if *owner == track {
                offsets.push(at);
            }
            at += chunk.bytes;
        }
        offsets
    }

    /// What to copy: chunks that touch in the source are one run.
    fn runs(&self) -> Vec<Chunk> {
        let mut runs: Vec<Chunk> = Vec::new();
        for (_, chunk) in &self.order {
            match runs.last_mut() {
                Some(run) if run.position + run.bytes == chunk.position => run.bytes += chunk.bytes,
                _ => runs.push(*chunk),
            }
        }
        runs
    }
}

/// Everything before the `mdat`.
///
/// The offsets in it depend on its own length, which depends on them only through their width: so it
/// is made once to be measured, and once more to be kept.
fn head(movie: &Movie, plan: &Plan, user_data: &[u8]) -> Result<Vec<u8>, Mp4Error> {
    let mut measured = encode_head(movie, plan, 0, Width::Narrow, user_data)?.len() as u64;
    let mut width = Width::Narrow;
    if measured + MDAT_HEADER_BYTES + plan.bytes > u64::from(u32::MAX) {
        width = Width::Wide;
        measured = encode_head(movie, plan, 0, width, user_data)?.len() as u64;
    }
    encode_head(movie, plan, measured + MDAT_HEADER_BYTES, width, user_data)
}

/// Of a chunk offset: `stco` or `co64`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Width {
    Narrow,
    Wide,
}

fn encode_head(movie: &Movie, plan: &Plan, origin: u64, width: Width, user_data: &[u8]) -> Result<Vec<u8>, Mp4Error> {
    let mut bytes = Vec::new();
    let ftyp = Ftyp {
        major_brand: b"isom".into(),
        minor_version: 0x200,
        compatible_brands: vec![b"isom".into(), b"iso2".into(), b"avc1".into(), b"mp41".into()],
    };
    ftyp.encode(&mut bytes).map_err(unencodable)?;
    let start = bytes.len();
    moov(movie, plan, origin, width).encode(&mut bytes).map_err(unencodable)?;
    // mp4-atom has no chapters: they go behind what it has made of the `moov`, whose size grows.
    bytes.extend_from_slice(user_data);
    let size = u32::try_from(bytes.len() - start).map_err(|_| unencodable(mp4_atom::Error::InvalidSize))?;
    bytes[start..start + 4].copy_from_slice(&size.to_be_bytes());
    Ok(bytes)
}

fn moov(movie: &Movie, plan: &Plan, origin: u64, width: Width) -> Moov {
    let tracks = movie.tracks.iter().enumerate();
    let trak: Vec<_> = tracks.map(|(index, track)| trak(track, plan.offsets(index, origin), width)).collect();
    let mut mvhd = movie.moov.mvhd.clone();
    mvhd.timescale = TIMESCALE;
    mvhd.duration = trak.iter().map(|trak| trak.tkhd.duration).max().unwrap_or(0);
    Moov { mvhd, trak, ..Default::default() }
}

fn trak(track: &Track, offsets: Vec<u64>, width: Width) -> Trak {
    let timescale = track.trak.mdia.mdhd.timescale;
    let delay = scale(track.delay, timescale, TIMESCALE);
    let shown = scale(track.shown(), timescale, TIMESCALE);
    let mut trak = Trak { tkhd: track.trak.tkhd.clone(), mdia: track.trak.mdia.clone(), ..Default::default() };
    trak.tkhd.duration = delay + shown;
    trak.edts = edts(delay, track.skip, shown);
    trak.mdia.mdhd.duration = track.table.duration;
    let stbl = &mut trak.mdia.minf.stbl;
    let table = &track.table;
    (stbl.stts, stbl.ctts, stbl.stss) = (table.stts(), table.ctts(), table.stss());
    (stbl.stsz, stbl.stsc) = (table.stsz(), table.stsc());
    (stbl.stco, stbl.co64) = match width {
        Width::Narrow => (Some(Stco { entries: offsets.into_iter().map(|offset| offset as u32).collect() }), None),
        Width::Wide => (None, Some(Co64 { entries: offsets })),
    };
    trak
}

/// `None` if the track is shown from its first unit, from the movie's beginning.
fn edts(delay: u64, skip: u64, shown: u64) -> Option<Edts> {
    if delay == 0 && skip == 0 {
        return None;
    }
    let wait = ElstEntry { segment_duration: delay, media_time: None, media_rate: 1.into() };
    let play = ElstEntry { segment_duration: shown, media_time: Some(skip), media_rate: 1.into() };
    let entries = if delay > 0 { vec![wait, play] } else { vec![play] };
    Some(Edts { elst: Some(Elst { entries }) })
}

fn mdat_header(bytes: u64) -> [u8; MDAT_HEADER_BYTES as usize] {
    let mut header = [0; MDAT_HEADER_BYTES as usize];
    header[..4].copy_from_slice(&1u32.to_be_bytes());
    header[4..8].copy_from_slice(b"mdat");
    header[8..].copy_from_slice(&(bytes + MDAT_HEADER_BYTES).to_be_bytes());
    header
}

fn copy(source: &mut File, run: &Chunk, out: &mut BufWriter<File>) -> Result<(), Mp4Error> {
    source.seek(SeekFrom::Start(run.position)).map_err(Mp4Error::Read)?;
    // `io::copy` does not tell which side failed; a full disk speaks for itself.
    let copied = io::copy(&mut source.take(run.bytes), out).map_err(Mp4Error::write)?;
    if copied < run.bytes {
        return Err(Mp4Error::Read(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(())
}

fn unencodable(error: mp4_atom::Error) -> Mp4Error {
    Mp4Error::NotFragmented(error.to_string())
}

#[cfg(test)]
mod tests {
    use mp4_atom::{Audio, Mp4a};

    use super::*;
    use crate::recording::mp4::table::{Sample, SampleTable};

    /// A movie of one audio track whose samples claim so much that it ends beyond `bytes`.
    fn movie_of(bytes: u64) -> Movie {
        let mut table = SampleTable::default();
        let size = 1 << 30;
        for index in 0..bytes / u64::from(size) {
            let sample = Sample { size, duration: 1024, offset: 0, sync: true };
            // Sources hold boxes between the samples.
            table.push_chunk(1000 + index * (u64::from(size) + 100), &[sample]);
        }
        let mut trak = Trak::default();
        trak.mdia.mdhd.timescale = 48_000;
        let audio = Audio { data_reference_index: 1, channel_count: 2, sample_size: 16, sample_rate: 48_000.into() };
        trak.mdia.minf.stbl.stsd.codecs = vec![Mp4a { audio, esds: Default::default(), btrt: None, taic: None }.into()];
        Movie { moov: Moov::default(), tracks: vec![Track { trak, table, skip: 1024, delay: 0 }] }
    }

    #[test]
    fn offsets_are_wide_beyond_4_gib_and_narrow_below() {
        for (bytes, wide) in [(3 << 30, false), (4 << 30, true), (9 << 30, true)] {
            let movie = movie_of(bytes);
            let plan = Plan::new(&movie);
            let head = head(&movie, &plan, &[]).unwrap();
            let kind: &[u8] = if wide { b"co64" } else { b"stco" };
            assert!(head.windows(4).any(|window| window == kind), "{bytes} bytes");
            assert_eq!(plan.bytes, bytes);
            let offsets = plan.offsets(0, head.len() as u64 + MDAT_HEADER_BYTES);
            assert_eq!(offsets[0], head.len() as u64 + MDAT_HEADER_BYTES);
            assert_eq!(offsets.last().copied(), Some(offsets[0] + bytes - (1 << 30)));
            // The last offset stands in the header as it was computed.
            let last = offsets[offsets.len() - 1];
            let encoded = if wide { last.to_be_bytes().to_vec() } else { (last as u32).to_be_bytes().to_vec() };
            assert!(head.windows(encoded.len()).any(|window| window == encoded));
        }
    }

    #[test]
    fn touching_chunks_are_copied_as_one() {
        let chunk = |position| Chunk { position, bytes: 10, samples: 1 };
        let plan = Plan { order: vec![(0, chunk(0)), (1, chunk(10)), (0, chunk(30))], bytes: 30 };
        let runs: Vec<_> = plan.runs().iter().map(|run| (run.position, run.bytes)).collect();
        assert_eq!(runs, [(0, 20), (30, 10)]);
    }
}
