//! HLS playlists (RFC 8216), as far as one must read them to fetch a stream: which variant, which segments.
//!
//! What is not read here is refused by name (encryption, byte ranges), so that nobody waits for a picture
//! that cannot come.

use std::time::Duration;

/// Bytes of a playlist.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// Segments, or variants, of a playlist that are looked at.
const MOST_ENTRIES: usize = 20_000;
/// Of a segment's declared length, and of how long a playlist stays as it is.
const LONGEST: Duration = Duration::from_secs(60);

/// A playlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Playlist {
    /// The same stream in several qualities.
    Variants(Vec<Variant>),
    /// One of them.
    Segments(Segments),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    /// Relative to the playlist.
    pub(super) address: String,
    /// Bits per second.
    pub(super) bandwidth: u64,
    /// Pixels, if it says so.
    pub(super) height: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Segments {
    /// How long a segment is at most; a playlist changes about as often.
    pub(super) target: Duration,
    /// The number of the first.
    pub(super) first: u64,
    pub(super) segments: Vec<Segment>,
    /// No more will come.
    pub(super) ended: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Relative to the playlist.
    pub(super) address: String,
    /// What goes before it, once (fragmented MP4).
    pub(super) map: Option<String>,
}

impl Playlist {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, in a few words.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        if lines.next().map(|first| first.trim_start_matches('\u{FEFF}')) != Some("#EXTM3U") {
            return Err("no HLS playlist".into());
        }
        let (mut variants, mut segments, mut map, mut variant) = (Vec::new(), Segments::default(), None, None);
        for line in lines {
            if let Some(attributes) = line.strip_prefix("#EXT-X-STREAM-INF:") {
                let bandwidth = attribute(attributes, "BANDWIDTH").and_then(|text| text.parse().ok()).unwrap_or(0);
                let size = attribute(attributes, "RESOLUTION");
                let height = size.and_then(|size| size.split_once('x')?.1.parse().ok());
                variant = Some((bandwidth, height));
            } else if let Some(target) = line.strip_prefix("#EXT-X-TARGETDURATION:") {
                let seconds: f64 = target.parse().map_err(|_| "a playlist of no length")?;
                segments.target = Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST).min(LONGEST);
            } else if let Some(first) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
                segments.first = first.parse().map_err(|_| "a sequence without a number")?;
            } else if let Some(attributes) = line.strip_prefix("#EXT-X-MAP:") {
                if attribute(attributes, "BYTERANGE").is_some() {
                    return Err("segments that are parts of files".into());
                }
                map = attribute(attributes, "URI").map(str::to_owned);
            } else if let Some(attributes) = line.strip_prefix("#EXT-X-KEY:") {
                if attribute(attributes, "METHOD") != Some("NONE") {
                    return Err("encrypted segments".into());
                }
            } else if line.starts_with("#EXT-X-BYTERANGE:") {
                return Err("segments that are parts of files".into());
            } else if line == "#EXT-X-ENDLIST" {
                segments.ended = true;
            } else if !line.starts_with('#') {
                match variant.take() {
                    Some((bandwidth, height)) => variants.push(Variant { address: line.to_owned(), bandwidth, height }),
                    None => segments.segments.push(Segment { address: line.to_owned(), map: map.clone() }),
                }
            }
            if variants.len() + segments.segments.len() > MOST_ENTRIES {
                return Err(format!("more than {MOST_ENTRIES} segments"));
            }
        }
        if variants.is_empty() { Ok(Self::Segments(segments)) } else { Ok(Self::Variants(variants)) }
    }
}

/// The best variant that is no larger than the room's picture; else the smallest there is.
pub(super) fn best(variants: &[Variant]) -> Option<&Variant> {
    const HEIGHT: u64 = 1080;
    const BANDWIDTH: u64 = 8_000_000;
    let fits = |it: &&Variant| it.height.is_none_or(|height| height <= HEIGHT) && it.bandwidth <= BANDWIDTH;
    let largest = variants.iter().filter(fits).max_by_key(|variant| variant.bandwidth);
    largest.or_else(|| variants.iter().min_by_key(|variant| variant.bandwidth))
}

/// A value of an attribute list (§4.2), without its quotes.
fn attribute<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = list;
    loop {
        let (key, behind) = rest.split_once('=')?;
        let (value, next) = match behind.strip_prefix('"') {
            Some(quoted) => {
                let (value, next) = quoted.split_once('"')?;
                (value, next.strip_prefix(',').unwrap_or(next))
            }
            None => behind.split_once(',').unwrap_or((behind, "")),
        };
        if key.trim() == name {
            return Some(value.trim());
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_and_variants_are_read() {
        let live = "#EXTM3U\r\n#EXT-X-VERSION:7\r\n#EXT-X-TARGETDURATION:4\r\n#EXT-X-MEDIA-SEQUENCE:17\r\n\
                    #EXT-X-MAP:URI=\"init.mp4\"\r\n#EXTINF:3.84,\r\na.m4s?x=1\r\n#EXTINF:4,title, with comma\r\nb.m4s\r\n";
        let segment = |address: &str| Segment { address: address.into(), map: Some("init.mp4".into()) };
        let expected = Segments {
            target: Duration::from_secs(4),
            first: 17,
            segments: vec![segment("a.m4s?x=1"), segment("b.m4s")],
            ended: false,
        };
        assert_eq!(Playlist::parse(live), Ok(Playlist::Segments(expected)));
        let ended = "#EXTM3U\n#EXT-X-KEY:METHOD=NONE\n#EXTINF:1,\n0.ts\n#EXT-X-ENDLIST";
        assert!(matches!(Playlist::parse(ended), Ok(Playlist::Segments(it)) if it.ended && it.segments.len() == 1));
        let master = "#EXTM3U\n#EXT-X-STREAM-INF:CODECS=\"avc1,mp4a\",BANDWIDTH=9000000,RESOLUTION=3840x2160\n4k.m3u8\n\
                      #EXT-X-STREAM-INF:BANDWIDTH=2000000,RESOLUTION=1280x720\nhd.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=300000\nsd.m3u8\n";
        let Ok(Playlist::Variants(variants)) = Playlist::parse(master) else { panic!() };
        assert_eq!(best(&variants).unwrap().address, "hd.m3u8");
        assert_eq!(best(&variants[..1]).unwrap().address, "4k.m3u8");
        assert_eq!(best(&[]), None);
    }

    #[test]
    fn what_cannot_be_fetched_is_refused_by_name() {
        for (text, problem) in [
            ("<html>", "no HLS playlist"),
            ("", "no HLS playlist"),
            ("#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n0.ts", "encrypted segments"),
            ("#EXTM3U\n#EXTINF:1,\n#EXT-X-BYTERANGE:100@0\n0.ts", "segments that are parts of files"),
            ("#EXTM3U\n#EXT-X-MAP:URI=\"x\",BYTERANGE=\"1@0\"\n0.ts", "segments that are parts of files"),
            ("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:-1\n0.ts", "a sequence without a number"),
        ] {
            assert_eq!(Playlist::parse(text), Err(problem.to_owned()), "{text}");
        }
        let endless = format!("#EXTM3U\n{}", "0.ts\n".repeat(MOST_ENTRIES + 1));
        assert!(Playlist::parse(&endless).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_does_harm(text: String) {
            let _ = Playlist::parse(&text);
            let _ = Playlist::parse(&format!("#EXTM3U\n#EXT-X-STREAM-INF:{text}\n#EXT-X-MAP:{text}\nx"));
        }
    }
}
