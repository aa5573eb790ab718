//! A transport stream cut into segments, and the playlist of the newest (RFC 8216). Pure.

use std::{collections::VecDeque, fmt::Write, time::Duration};

use bytes::{Bytes, BytesMut};

use super::ts::{Tables, TsChunk};

/// A segment is at least so long, and ends with a group of pictures.
const SEGMENT: Duration = Duration::from_millis(1900);
/// Whatever comes, it is cut here.
const LONGEST: Duration = Duration::from_secs(6);
/// And here, in bytes.
const LARGEST: usize = 16 * 1024 * 1024;
/// Segments in the playlist; players begin three before its end.
const LISTED: usize = 6;
/// Segments that are kept beside those, for players that read an older playlist.
const KEPT: usize = 3;

/// A piece of the stream that plays by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    number: u64,
    duration: Duration,
    bytes: Bytes,
}

/// Cuts a stream.
#[derive(Debug, Default)]
pub struct Segmenter {
    tables: Tables,
    current: BytesMut,
    began: Option<Duration>,
    number: u64,
    done: VecDeque<Segment>,
    /// When the last piece came, of the stream.
    last: Duration,
    is_over: bool,
}

impl Segmenter {
    /// Takes the next piece; true if a segment was finished by it.
    pub fn push(&mut self, chunk: &TsChunk) -> bool {
        self.tables.note(&chunk.bytes);
        self.last = chunk.time;
        let length = self.began.map(|began| chunk.time.saturating_sub(began));
        let is_due = length.is_some_and(|length| {
            (chunk.starts_keyframe && length >= SEGMENT) || length >= LONGEST || self.current.len() > LARGEST
        });
        if is_due {
            self.cut(length.unwrap_or_default());
        }
        if self.began.is_none() {
            // What comes before the first keyframe plays nowhere.
            if !chunk.starts_keyframe {
                return is_due;
            }
            self.began = Some(chunk.time);
            self.current.extend_from_slice(&self.tables.header());
        }
        self.current.extend_from_slice(&chunk.bytes);
        is_due
    }

    /// Nothing more comes: what there is becomes the last segment, and the playlist says so.
    pub fn finish(&mut self) {
        if let Some(began) = self.began {
            self.cut(self.last.saturating_sub(began));
        }
        self.is_over = true;
    }

    fn cut(&mut self, duration: Duration) {
        let bytes = self.current.split().freeze();
        self.done.push_back(Segment { number: self.number, duration, bytes });
        self.number += 1;
        self.began = None;
        while self.done.len() > LISTED + KEPT {
            self.done.pop_front();
        }
    }

    /// A segment, if it is still there.
    pub fn segment(&self, number: u64) -> Option<Bytes> {
        self.done.iter().find(|segment| segment.number == number).map(|segment| segment.bytes.clone())
    }

    /// The playlist; `None` before there is a segment. `query` goes behind each segment's address.
    pub fn playlist(&self, query: &str) -> Option<String> {
        let listed: Vec<&Segment> = self.done.iter().skip(self.done.len().saturating_sub(LISTED)).collect();
        let first = listed.first()?.number;
        let longest = listed.iter().map(|segment| segment.duration).max().unwrap_or_default();
        // Rounded, as RFC 8216 §4.3.3.1 counts.
        let target = (longest.as_secs_f64().round() as u64).max(2);
        let mut text =
            format!("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{target}\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
        text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        for segment in listed {
            let _ = write!(text, "#EXTINF:{:.3},\n{}.ts{query}\n", segment.duration.as_secs_f64(), segment.number);
        }
        if self.is_over {
            text.push_str("#EXT-X-ENDLIST\n");
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(ms: u64, starts_keyframe: bool) -> TsChunk {
        let bytes = vec![ms as u8; 188].into();
        TsChunk { bytes, starts_keyframe, time: Duration::from_millis(ms) }
    }

    /// A keyframe a second, a piece each half of one.
    fn seconds(segmenter: &mut Segmenter, range: std::ops::Range<u64>) {
        for half in range.start * 2..range.end * 2 {
            segmenter.push(&chunk(half * 500, half.is_multiple_of(2)));
        }
    }

    #[test]
    fn segments_begin_with_a_keyframe_and_are_two_seconds_long() {
        let mut segmenter = Segmenter::default();
        assert!(!segmenter.push(&chunk(0, false)), "nothing plays before a keyframe");
        seconds(&mut segmenter, 1..6);
        assert_eq!(
            segmenter.playlist("?access=a_1").unwrap(),
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXTINF:2.000,\n0.ts?access=a_1\n#EXTINF:2.000,\n1.ts?access=a_1\n"
        );
        assert_eq!(segmenter.segment(0).unwrap().len(), 4 * 188);
        assert_eq!(segmenter.segment(2), None, "not finished");
    }

    #[test]
    fn old_segments_go_and_the_numbers_go_on() {
        let mut segmenter = Segmenter::default();
        assert_eq!(segmenter.playlist(""), None);
        seconds(&mut segmenter, 0..31);
        let playlist = segmenter.playlist("").unwrap();
        assert!(playlist.contains("#EXT-X-MEDIA-SEQUENCE:9\n"), "{playlist}");
        assert!(playlist.ends_with("14.ts\n"), "{playlist}");
        assert_eq!((segmenter.segment(5), segmenter.segment(6).is_some()), (None, true));
    }

    #[test]
    fn a_stream_that_is_over_says_so_and_its_last_piece_is_there() {
        let mut segmenter = Segmenter::default();
        seconds(&mut segmenter, 0..3);
        segmenter.finish();
        let playlist = segmenter.playlist("").unwrap();
        assert!(playlist.ends_with("#EXTINF:0.500,\n1.ts\n#EXT-X-ENDLIST\n"), "{playlist}");
        assert_eq!(segmenter.segment(1).unwrap().len(), 2 * 188);
        let mut empty = Segmenter::default();
        empty.finish();
        assert_eq!(empty.playlist(""), None);
    }

    #[test]
    fn without_keyframes_a_segment_ends_too() {
        let mut segmenter = Segmenter::default();
        segmenter.push(&chunk(0, true));
        let cut = (1..20).filter(|half| segmenter.push(&chunk(half * 500, false))).count();
        assert_eq!(cut, 1);
    }
}
