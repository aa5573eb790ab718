//! What a camera says it has (SDP, RFC 4566), and what of it we take.

use sdp_types::{Media, Session};

use super::RtspError;
use crate::media::Kind;

/// Media sections that are looked at.
const MOST_SECTIONS: usize = 64;

/// A stream of a camera, as its description has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Picture or sound.
    pub kind: Kind,
    /// RTP payload number.
    pub payload: u8,
    /// In capitals, as in `a=rtpmap`: `H264`, `MPEG4-GENERIC`.
    pub encoding: String,
    /// Of its RTP timestamps, in Hz.
    pub clock_rate: u32,
    /// Of sound, if it says so.
    pub channels: Option<u32>,
    /// The parameters of `a=fmtp`, names in lower case.
    pub parameters: Vec<(String, String)>,
    /// Where it is controlled: path and query on the camera.
    pub control: String,
}

/// The first picture and the first sound of a description, of those that are wanted.
///
/// `base`: path and query that relative addresses begin with. Gives also where the whole is controlled.
pub(super) fn read(sdp: &[u8], base: &str, video: bool, audio: bool) -> Result<(Vec<Stream>, String), RtspError> {
    let session = Session::parse(sdp).map_err(|error| RtspError::Protocol(format!("its description: {error}")))?;
    let aggregate = session.attributes.iter().find(|it| it.attribute == "control").and_then(|it| it.value.as_deref());
    let aggregate = resolve(base, aggregate.unwrap_or("*"));
    let sections = session.medias.iter().take(MOST_SECTIONS);
    let streams: Vec<Stream> = sections.filter_map(|section| stream(section, base)).collect();
    let first = |kind: Kind| streams.iter().find(|stream| stream.kind == kind).cloned();
    let wanted = [video.then_some(Kind::Video), audio.then_some(Kind::Audio)];
    let taken: Vec<Stream> = wanted.into_iter().flatten().filter_map(first).collect();
    if taken.is_empty() { Err(RtspError::NoMedia) } else { Ok((taken, aggregate)) }
}

fn stream(section: &Media, base: &str) -> Option<Stream> {
    let kind = match section.media.as_str() {
        "video" => Kind::Video,
        "audio" => Kind::Audio,
        _ => return None,
    };
    let values = |name: &'static str| {
        section.attributes.iter().filter(move |it| it.attribute == name).filter_map(|it| it.value.as_deref())
    };
    let payload: u8 = section.fmt.split_ascii_whitespace().next()?.parse().ok().filter(|payload| *payload < 128)?;
    // `97 parameters` → parameters, if the number is ours.
    let of_payload = |text: &'static str| {
        values(text).find_map(|value| {
            let (number, rest) = value.trim().split_once(char::is_whitespace)?;
            (number.parse() == Ok(payload)).then_some(rest.trim())
        })
    };
    let (encoding, clock_rate, channels) = match of_payload("rtpmap") {
        Some(map) => {
            let mut parts = map.split('/').map(str::trim);
            let encoding = parts.next()?.to_uppercase();
            (encoding, parts.next()?.parse().ok()?, parts.next().and_then(|channels| channels.parse().ok()))
        }
        // RFC 3551 §6.
        None => match payload {
            0 => ("PCMU".into(), 8000, Some(1)),
            8 => ("PCMA".into(), 8000, Some(1)),
            14 => ("MPA".into(), 90_000, None),
            26 => ("JPEG".into(), 90_000, None),
            _ => return None,
        },
    };
    let parameters = of_payload("fmtp").unwrap_or_default().split(';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((name.trim().to_lowercase(), value.trim().to_owned()))
    });
    let control = resolve(base, values("control").next().unwrap_or("*"));
    Some(Stream { kind, payload, encoding, clock_rate, channels, parameters: parameters.collect(), control })
}

/// Path and query of a `control` attribute. Whatever host it names, the camera itself is asked.
pub(super) fn resolve(base: &str, control: &str) -> String {
    if control == "*" || control.is_empty() {
        return base.to_owned();
    }
    if let Some(target) = target_of(control) {
        return target;
    }
    match control.strip_prefix('/') {
        Some(_) => control.to_owned(),
        None if base.ends_with('/') => format!("{base}{control}"),
        None => format!("{base}/{control}"),
    }
}

/// Path and query of an absolute RTSP address, without its host; `None` if it is none.
pub(super) fn target_of(address: &str) -> Option<String> {
    let (scheme, rest) = address.split_once("://")?;
    if !scheme.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("rtsp")) {
        return None;
    }
    Some(rest.split_once('/').map_or_else(|| "/".to_owned(), |(_, target)| format!("/{target}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\no=- 1 1 IN IP4 10.9.8.7\r\ns=cam\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n\
        m=application 0 RTP/AVP 98\r\na=rtpmap:98 vnd.onvif.metadata/90000\r\na=control:meta\r\n\
        m=video 0 RTP/AVP 96\r\na=rtpmap:96 h264/90000\r\n\
        a=fmtp:96 packetization-mode=1; Profile-Level-Id=640028;sprop-parameter-sets=Z2QAKA==,aO48gA==\r\n\
        a=control:rtsp://10.9.8.7/live/trackID=1\r\n\
        m=video 0 RTP/AVP 26\r\na=control:second\r\n\
        m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/16000/2\r\na=fmtp:97 mode=AAC-hbr;config=1410\r\na=control:trackID=2\r\n";

    #[test]
    fn the_first_of_each_kind_is_taken_and_is_controlled_at_the_camera() {
        let (streams, aggregate) = read(SDP.as_bytes(), "/live/", true, true).unwrap();
        let [video, audio] = &streams[..] else { panic!("{streams:?}") };
        assert_eq!((video.encoding.as_str(), video.payload, video.clock_rate), ("H264", 96, 90_000));
        assert_eq!(video.control, "/live/trackID=1", "whatever host it names");
        assert_eq!(video.parameters[1], ("profile-level-id".into(), "640028".into()));
        assert_eq!(video.parameters[2].1, "Z2QAKA==,aO48gA==");
        assert_eq!((audio.encoding.as_str(), audio.channels), ("MPEG4-GENERIC", Some(2)));
        assert_eq!((audio.control.as_str(), aggregate.as_str()), ("/live/trackID=2", "/live/"));
        let only = |video, audio| read(SDP.as_bytes(), "/live/", video, audio).unwrap().0.len();
        assert_eq!((only(true, false), only(false, true)), (1, 1));
    }

    #[test]
    fn numbers_without_a_map_are_known_and_others_are_not() {
        let sdp = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 0 RTP/AVP 8\r\nm=video 0 RTP/AVP 26\r\n";
        let (streams, _) = read(sdp.as_bytes(), "/", true, true).unwrap();
        let found: Vec<_> = streams.iter().map(|stream| (stream.encoding.as_str(), stream.control.as_str())).collect();
        assert_eq!(found, [("JPEG", "/"), ("PCMA", "/")]);
        let sdp = sdp.replace(" 8\r", " 99\r").replace(" 26\r", " 300\r");
        assert_eq!(read(sdp.as_bytes(), "/", true, true), Err(RtspError::NoMedia));
    }

    #[test]
    fn ten_thousand_sections_are_not_looked_at() {
        let many = format!(
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{}{}",
            "m=text 0 RTP/AVP 99\r\n".repeat(10_000),
            "m=video 0 RTP/AVP 26\r\n"
        );
        assert_eq!(read(many.as_bytes(), "/", true, true), Err(RtspError::NoMedia));
        assert!(matches!(read(b"\0\xff", "/", true, true), Err(RtspError::Protocol(_))));
    }
}
