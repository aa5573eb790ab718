//! Reading SDP and deciding what of it we take: pure functions, no engine.
//!
//! An offer is checked and cut down here; the engine receives exactly the sections, payload numbers
//! and header extensions that [`accept`] chose.

use std::collections::HashSet;

use sdp_types::{Media, Session};
use thiserror::Error;

use super::{CodecName, Kind};

/// No real client's description is larger, in bytes.
pub const MAX_SDP_BYTES: usize = 64 * 1024;
/// Media sections of one publication.
pub const MAX_SECTIONS: usize = 8;
/// Characters of one candidate line.
pub const MAX_CANDIDATE_CHARS: usize = 512;

/// Loudness of the packet's sound (RFC 6464).
pub const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
/// Which media section a packet belongs to (RFC 9143).
pub const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
/// A transport-wide sequence number, for the sender's congestion control
/// (draft-holmer-rmcat-transport-wide-cc-extensions-01).
pub const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// What we answer with of the header extensions. Left out on purpose: video-orientation, so that
/// pictures arrive upright; abs-send-time, which transport-cc replaces; rtp-stream-id, as we take
/// one layer.
const EXTENSIONS: [&str; 3] = [AUDIO_LEVEL, MID, TRANSPORT_CC];
/// What we answer with of `a=rtcp-fb`. Left out on purpose: `goog-remb`, which would compete with
/// transport-cc.
const FEEDBACK: [&str; 4] = ["nack", "nack pli", "ccm fir", "transport-cc"];

/// Why a description cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NegotiationError {
    /// Not SDP (RFC 8866), or without what WebRTC needs.
    #[error("that is not a session description: {0}")]
    NotSdp(String),
    /// Over [`MAX_SDP_BYTES`] or [`MAX_SECTIONS`].
    #[error("the session description is too large: {0}")]
    TooLarge(String),
    /// None of the codecs offered for a section is one we take.
    #[error("no common codec for the {kind} section `{mid}` (offered: {offered}; taken: {taken})")]
    NoCommonCodec {
        /// `audio` or `video`.
        kind: &'static str,
        /// Which section.
        mid: String,
        /// What the client named.
        offered: String,
        /// What we take.
        taken: String,
    },
    /// Nothing in it is to be sent to us.
    #[error("the offer has nothing to send")]
    NothingToReceive,
    /// A candidate line that is none (RFC 8839 §5.1).
    #[error("that is not an ICE candidate: {0}")]
    NotACandidate(String),
}

/// One media section that we receive.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptedSection {
    /// Its index in the offer, counted from 0.
    pub line: u32,
    /// Its `a=mid`.
    pub mid: String,
    /// Audio or video.
    pub kind: Kind,
    /// The one codec we answer with.
    pub codec: CodecName,
    /// The client's payload number for it.
    pub payload: u8,
    /// The client's payload number for its retransmissions (RFC 4588), if offered.
    pub rtx: Option<u8>,
    /// The codec's `a=fmtp` parameters as offered, e.g. `profile-level-id=42e01f;packetization-mode=1`.
    pub fmtp: Option<String>,
    /// Feedback we answer with, as offered: `nack`, `nack pli`, `ccm fir`, `transport-cc`.
    pub feedback: Vec<String>,
    /// Header extensions we understand and the client offered: `(id, uri)`.
    pub extensions: Vec<(u8, String)>,
}

/// Reads an offer and chooses what to receive.
///
/// `codecs`: what we take, in our order of preference; within a section the client's own order
/// decides among codecs of that list. Sections that only receive are left out; data channels are
/// left out; of simulcast only the first layer is received.
///
/// # Errors
/// As [`NegotiationError`] says. One section without a common codec refuses the whole offer, so
/// that a client never publishes half of what it meant to.
pub fn accept(sdp: &str, codecs: &[CodecName]) -> Result<Vec<AcceptedSection>, NegotiationError> {
    let session = parse(sdp)?;
    let mut mids = HashSet::new();
    let mut accepted = Vec::new();
    for (line, media) in session.medias.iter().enumerate() {
        let Some(kind) = kind(media) else { continue };
        if !sends(&session, media) {
            continue;
        }
        let mid = mid(media)?;
        if !mids.insert(mid.clone()) {
            return Err(NegotiationError::NotSdp(format!("two media sections are called `{mid}`")));
        }
        accepted.push(accept_section(&session, media, line as u32, mid, kind, codecs)?);
    }
    if accepted.is_empty() {
        return Err(NegotiationError::NothingToReceive);
    }
    check_bundle(&session, &accepted)?;
    Ok(accepted)
}

/// Checks an answer: size, and that it is SDP as WebRTC needs it.
///
/// # Errors
/// [`NegotiationError::NotSdp`] or [`NegotiationError::TooLarge`].
pub fn check_answer(sdp: &str) -> Result<(), NegotiationError> {
    parse(sdp).map(drop)
}

/// Checks a candidate line: size and grammar (RFC 8839 §5.1). An empty text is the end of candidates.
///
/// # Errors
/// [`NegotiationError::NotACandidate`].
pub fn check_candidate(candidate: &str) -> Result<(), NegotiationError> {
    let wrong = |what: &str| Err(NegotiationError::NotACandidate(what.into()));
    if candidate.is_empty() {
        return Ok(());
    }
    if candidate.len() > MAX_CANDIDATE_CHARS {
        return wrong("it is too long");
    }
    if candidate.chars().any(char::is_control) {
        return wrong("it has control characters");
    }
    let Some(rest) = candidate.strip_prefix("candidate:") else { return wrong("it does not begin with `candidate:`") };
    let fields: Vec<&str> = rest.split(' ').collect();
    let [foundation, component, transport, priority, address, port, typ, candidate_type, more @ ..] = fields.as_slice()
    else {
        return wrong("it has too few fields");
    };
    let ice_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
    // Firefox and old libnice write other characters into the foundation; it is opaque to us.
    if foundation.is_empty() || foundation.len() > 32 || !foundation.chars().all(|c| ice_char(c) || "-_.:".contains(c))
    {
        return wrong("its foundation is none");
    }
    if !component.parse::<u16>().is_ok_and(|id| (1..=256).contains(&id)) {
        return wrong("its component is not 1 to 256");
    }
    if !token(transport) {
        return wrong("its transport is none");
    }
    if priority.parse::<u32>().is_err() {
        return wrong("its priority is not a number");
    }
    if !address.chars().all(|c| c.is_ascii_alphanumeric() || ".:-_%".contains(c)) || address.is_empty() {
        return wrong("its address is none");
    }
    if port.parse::<u16>().is_err() {
        return wrong("its port is not a number");
    }
    if *typ != "typ" || !token(candidate_type) {
        return wrong("its type is missing");
    }
    if more.len() % 2 != 0 || more.iter().any(|field| field.is_empty()) {
        return wrong("its extensions do not come in pairs");
    }
    Ok(())
}

/// Parses a description and checks what every WebRTC description has: an ICE user name, an ICE
/// password and a fingerprint, for the session or for each section that is not refused.
fn parse(sdp: &str) -> Result<Session, NegotiationError> {
    if sdp.len() > MAX_SDP_BYTES {
        return Err(NegotiationError::TooLarge(format!("{} bytes of at most {MAX_SDP_BYTES}", sdp.len())));
    }
    let session = Session::parse(sdp.as_bytes()).map_err(|error| NegotiationError::NotSdp(error.to_string()))?;
    if session.medias.len() > MAX_SECTIONS {
        return Err(NegotiationError::TooLarge(format!(
            "{} media sections of at most {MAX_SECTIONS}",
            session.medias.len()
        )));
    }
    if session.medias.is_empty() {
        return Err(NegotiationError::NotSdp("it has no media sections".into()));
    }
    for attribute in ["ice-ufrag", "ice-pwd", "fingerprint"] {
        let everywhere =
            session.medias.iter().filter(|media| media.port != 0).all(|media| media.has_attribute(attribute));
        if !everywhere && !session.has_attribute(attribute) {
            return Err(NegotiationError::NotSdp(format!("it has no `a={attribute}`")));
        }
    }
    Ok(session)
}

/// Sections share one transport (RFC 9143): several that are not in one group are refused, as we
/// have one socket for each connection.
fn check_bundle(session: &Session, sections: &[AcceptedSection]) -> Result<(), NegotiationError> {
    let bundled = session.get_attribute_values("group").flatten().any(|group| {
        let mids: HashSet<&str> = group.split(' ').skip(1).collect();
        group.starts_with("BUNDLE ") && sections.iter().all(|section| mids.contains(section.mid.as_str()))
    });
    if bundled || sections.len() == 1 {
        return Ok(());
    }
    Err(NegotiationError::NotSdp("its media sections are not bundled".into()))
}

fn kind(media: &Media) -> Option<Kind> {
    match media.media.as_str() {
        "audio" => Some(Kind::Audio),
        "video" => Some(Kind::Video),
        _ => None,
    }
}

/// The client means to send in this section: it is not refused, and its direction says so
/// (`sendrecv` is the default, RFC 8866 §6.7).
fn sends(session: &Session, media: &Media) -> bool {
    if media.port == 0 && !media.has_attribute("bundle-only") {
        return false;
    }
    let says = |name: &str| media.has_attribute(name);
    if says("sendrecv") || says("sendonly") {
        return true;
    }
    let silent = |has: &dyn Fn(&str) -> bool| has("recvonly") || has("inactive");
    !silent(&says) && !silent(&|name| session.has_attribute(name))
}

/// The section's mid: a token of at most 16 characters, as browsers and webrtcbin write it. It goes
/// into messages, element names and graphs.
fn mid(media: &Media) -> Result<String, NegotiationError> {
    match media.get_first_attribute_value("mid").flatten() {
        Some(mid) if mid.len() <= 16 && token(mid) => Ok(mid.into()),
        Some(_) => Err(NegotiationError::NotSdp("an `a=mid` is no token of at most 16 characters".into())),
        None => Err(NegotiationError::NotSdp("a media section has no `a=mid`".into())),
    }
}

/// A token as RFC 8866 §9 has it, of the characters that people use.
fn token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
}

fn accept_section(
    session: &Session,
    media: &Media,
    line: u32,
    mid: String,
    kind: Kind,
    codecs: &[CodecName],
) -> Result<AcceptedSection, NegotiationError> {
    if !media.proto.ends_with("RTP/SAVPF") {
        return Err(NegotiationError::NotSdp(format!("section `{mid}` is not RTP over DTLS, but {}", media.proto)));
    }
    let formats = formats(media);
    let taken = |codec: &CodecName| codec.kind() == kind && codecs.contains(codec);
    let Some(codec) = formats.iter().filter_map(|format| format.codec).find(taken) else {
        return Err(no_common_codec(kind, mid, &formats, codecs));
    };
    let format = formats
        .iter()
        .filter(|format| format.codec == Some(codec))
        .min_by_key(|format| preference(codec, format.fmtp.as_deref()))
        .expect("it was found a line ago");
    Ok(AcceptedSection {
        line,
        mid,
        kind,
        codec,
        payload: format.payload,
        rtx: formats.iter().find(|rtx| rtx.retransmits(format.payload)).map(|rtx| rtx.payload),
        fmtp: format.fmtp.clone(),
        feedback: feedback(media, format.payload),
        extensions: extensions(session, media),
    })
}

/// A payload number of a section, with its rtpmap and fmtp.
struct Format {
    payload: u8,
    /// As in `a=rtpmap`, without clock rate.
    name: String,
    /// If it is one we know, at the clock rate we know it at.
    codec: Option<CodecName>,
    fmtp: Option<String>,
}

impl Format {
    fn retransmits(&self, payload: u8) -> bool {
        self.name.eq_ignore_ascii_case("rtx")
            && self.fmtp.as_deref().and_then(|fmtp| parameter(fmtp, "apt")).and_then(|apt| apt.parse().ok())
                == Some(payload)
    }
}

/// The section's formats in the client's order. Numbers 64 to 95 would be taken for RTCP once both
/// share a port (RFC 5761 §4) and are passed over.
fn formats(media: &Media) -> Vec<Format> {
    let payloads = media.fmt.split(' ').filter_map(|number| number.parse::<u8>().ok());
    payloads
        .filter(|payload| matches!(payload, 0..=63 | 96..=127))
        .filter_map(|payload| {
            let map = by_payload(media, "rtpmap", payload)?;
            let mut parts = map.split('/');
            let name = parts.next()?.to_owned();
            let clock_rate: u32 = parts.next()?.trim().parse().ok()?;
            let codec = CodecName::ALL
                .into_iter()
                .find(|codec| codec.encoding_name().eq_ignore_ascii_case(&name) && codec.clock_rate() == clock_rate);
            let fmtp = by_payload(media, "fmtp", payload).map(str::to_owned);
            Some(Format { payload, name, codec, fmtp })
        })
        .collect()
}

/// The value of the attribute `name` that is about `payload`, without the number.
fn by_payload<'a>(media: &'a Media, name: &'a str, payload: u8) -> Option<&'a str> {
    media.get_attribute_values(name).flatten().find_map(|value| {
        let (number, rest) = value.split_once(' ')?;
        (number.parse() == Ok(payload)).then(|| rest.trim())
    })
}

/// A parameter of an `a=fmtp` value.
fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Which of several formats of one codec to take: the least; the first among equals.
fn preference(codec: CodecName, fmtp: Option<&str>) -> u8 {
    let value = |name| fmtp.and_then(|fmtp| parameter(fmtp, name));
    match codec {
        CodecName::Opus | CodecName::Vp8 => 0,
        // Profile 0 is the one that every browser decodes.
        CodecName::Vp9 => u8::from(value("profile-id").is_some_and(|profile| profile != "0")),
        CodecName::Av1 => u8::from(value("profile").is_some_and(|profile| profile != "0")),
        // Single-NAL mode (0) cannot carry a keyframe larger than a packet. What is left out means
        // mode 0 and baseline (RFC 6184 §8.1).
        CodecName::H264 => {
            let fragments = value("packetization-mode") == Some("1");
            h264_preference(value("profile-level-id").unwrap_or("42000a")) + if fragments { 0 } else { 10 }
        }
    }
}

/// The more decoders know a profile, the less: constrained baseline, baseline, main, others.
fn h264_preference(profile_level_id: &str) -> u8 {
    let byte = |at: usize| profile_level_id.get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    match (byte(0), byte(2)) {
        (Some(0x42), Some(constraints)) if constraints & 0x40 != 0 => 0,
        (Some(0x42), Some(_)) => 1,
        (Some(0x4d), Some(_)) => 2,
        _ => 3,
    }
}

fn feedback(media: &Media, payload: u8) -> Vec<String> {
    let offered = media.get_attribute_values("rtcp-fb").flatten().filter_map(|value| {
        let (number, what) = value.split_once(' ')?;
        (number == "*" || number.parse() == Ok(payload)).then(|| what.trim())
    });
    let offered: HashSet<&str> = offered.collect();
    FEEDBACK.into_iter().filter(|what| offered.contains(what)).map(str::to_owned).collect()
}

/// Header extensions that we know, with numbers that fit the one-byte form (RFC 8285 §4.2).
fn extensions(session: &Session, media: &Media) -> Vec<(u8, String)> {
    let offered = media.get_attribute_values("extmap").chain(session.get_attribute_values("extmap")).flatten();
    let mut extensions: Vec<(u8, String)> = Vec::new();
    for value in offered {
        let mut words = value.split_whitespace();
        let (Some(id), Some(uri)) = (words.next(), words.next()) else { continue };
        let (id, direction) = id.split_once('/').unwrap_or((id, "sendrecv"));
        let Some(id) = id.parse::<u8>().ok().filter(|id| (1..=14).contains(id)) else { continue };
        let sent = matches!(direction, "sendrecv" | "sendonly");
        let again = extensions.iter().any(|(known, name)| *known == id || name == uri);
        if sent && EXTENSIONS.contains(&uri) && !again {
            extensions.push((id, uri.to_owned()));
        }
    }
    extensions
}

fn no_common_codec(kind: Kind, mid: String, formats: &[Format], codecs: &[CodecName]) -> NegotiationError {
    let mut offered: Vec<&str> = Vec::new();
    for format in formats {
        if !offered.contains(&format.name.as_str()) && offered.len() < 16 {
            offered.push(&format.name);
        }
    }
    let taken: Vec<&str> =
        codecs.iter().filter(|codec| codec.kind() == kind).map(|codec| codec.encoding_name()).collect();
    NegotiationError::NoCommonCodec {
        kind: match kind {
            Kind::Audio => "audio",
            Kind::Video => "video",
        },
        mid,
        offered: offered.join(", "),
        taken: taken.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An offer in the form Chromium writes, with a section for each text of `sections`.
    fn offer(sections: &[&str]) -> String {
        let mut sdp = String::from(
            "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
             a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n",
        );
        for section in sections {
            for line in section.lines().map(str::trim).filter(|line| !line.is_empty()) {
                sdp.push_str(line);
                sdp.push_str("\r\n");
            }
        }
        sdp
    }

    const AUDIO: &str = "
        m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126
        c=IN IP4 0.0.0.0
        a=rtcp:9 IN IP4 0.0.0.0
        a=ice-ufrag:Gp9o
        a=ice-pwd:VH1Zb3lTsrh9LT0KfDaDeX8u
        a=ice-options:trickle
        a=fingerprint:sha-256 5A:0F:10:6B:F4:55:0B:E5:38:C3:7E:5F:9A:E7:26:2B:27:5B:9E:8C:65:59:1F:9C:F7:E7:6A:2E:1B:6F:8B:51
        a=setup:actpass
        a=mid:0
        a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
        a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
        a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
        a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
        a=sendonly
        a=msid:s t
        a=rtcp-mux
        a=rtcp-rsize
        a=rtpmap:111 opus/48000/2
        a=rtcp-fb:111 transport-cc
        a=fmtp:111 minptime=10;useinbandfec=1
        a=rtpmap:63 red/48000/2
        a=fmtp:63 111/111
        a=rtpmap:9 G722/8000
        a=rtpmap:0 PCMU/8000
        a=rtpmap:8 PCMA/8000
        a=rtpmap:13 CN/8000
        a=rtpmap:110 telephone-event/48000
        a=rtpmap:126 telephone-event/8000
        a=ssrc:1 cname:x";

    const VIDEO: &str = "
        m=video 9 UDP/TLS/RTP/SAVPF 96 97 103 104 107 108 109 114 39 40 45 46 98 99 100 101 112 113 116
        c=IN IP4 0.0.0.0
        a=ice-ufrag:Gp9o
        a=ice-pwd:VH1Zb3lTsrh9LT0KfDaDeX8u
        a=fingerprint:sha-256 5A:0F:10:6B:F4:55:0B:E5:38:C3:7E:5F:9A:E7:26:2B:27:5B:9E:8C:65:59:1F:9C:F7:E7:6A:2E:1B:6F:8B:51
        a=setup:actpass
        a=mid:1
        a=extmap:14 urn:ietf:params:rtp-hdrext:toffset
        a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
        a=extmap:13 urn:3gpp:video-orientation
        a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
        a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
        a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id
        a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id
        a=sendonly
        a=rtcp-mux
        a=rtcp-rsize
        a=rtpmap:96 VP8/90000
        a=rtcp-fb:96 goog-remb
        a=rtcp-fb:96 transport-cc
        a=rtcp-fb:96 ccm fir
        a=rtcp-fb:96 nack
        a=rtcp-fb:96 nack pli
        a=rtpmap:97 rtx/90000
        a=fmtp:97 apt=96
        a=rtpmap:103 H264/90000
        a=fmtp:103 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f
        a=rtpmap:104 rtx/90000
        a=fmtp:104 apt=103
        a=rtpmap:107 H264/90000
        a=rtcp-fb:107 nack
        a=fmtp:107 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f
        a=rtpmap:108 rtx/90000
        a=fmtp:108 apt=107
        a=rtpmap:109 H264/90000
        a=rtcp-fb:* nack pli
        a=fmtp:109 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
        a=rtpmap:114 rtx/90000
        a=fmtp:114 apt=109
        a=rtpmap:39 H264/90000
        a=fmtp:39 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f
        a=rtpmap:40 rtx/90000
        a=fmtp:40 apt=39
        a=rtpmap:45 AV1/90000
        a=fmtp:45 level-idx=5;profile=0;tier=0
        a=rtpmap:46 rtx/90000
        a=fmtp:46 apt=45
        a=rtpmap:100 VP9/90000
        a=fmtp:100 profile-id=2
        a=rtpmap:98 VP9/90000
        a=fmtp:98 profile-id=0
        a=rtpmap:99 rtx/90000
        a=fmtp:99 apt=98
        a=rtpmap:112 red/90000
        a=rtpmap:113 rtx/90000
        a=fmtp:113 apt=112
        a=rtpmap:116 ulpfec/90000
        a=rid:h send
        a=rid:l send
        a=simulcast:send h;l";

    const DATA: &str = "
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel
        c=IN IP4 0.0.0.0
        a=ice-ufrag:Gp9o
        a=ice-pwd:VH1Zb3lTsrh9LT0KfDaDeX8u
        a=fingerprint:sha-256 5A:0F:10:6B:F4:55:0B:E5:38:C3:7E:5F:9A:E7:26:2B:27:5B:9E:8C:65:59:1F:9C:F7:E7:6A:2E:1B:6F:8B:51
        a=setup:actpass
        a=mid:2
        a=sctp-port:5000";

    #[test]
    fn takes_the_first_common_codec_of_each_section() {
        let sections = accept(&offer(&[AUDIO, VIDEO, DATA]), &CodecName::ALL).unwrap();
        assert_eq!(
            sections,
            [
                AcceptedSection {
                    line: 0,
                    mid: "0".into(),
                    kind: Kind::Audio,
                    codec: CodecName::Opus,
                    payload: 111,
                    rtx: None,
                    fmtp: Some("minptime=10;useinbandfec=1".into()),
                    feedback: vec!["transport-cc".into()],
                    extensions: vec![(1, AUDIO_LEVEL.into()), (3, TRANSPORT_CC.into()), (4, MID.into())],
                },
                AcceptedSection {
                    line: 1,
                    mid: "1".into(),
                    kind: Kind::Video,
                    codec: CodecName::Vp8,
                    payload: 96,
                    rtx: Some(97),
                    fmtp: None,
                    feedback: vec!["nack".into(), "nack pli".into(), "ccm fir".into(), "transport-cc".into()],
                    extensions: vec![(3, TRANSPORT_CC.into()), (4, MID.into())],
                },
            ]
        );
    }

    #[test]
    fn of_h264_takes_constrained_baseline_in_fragments() {
        let section = &accept(&offer(&[VIDEO]), &[CodecName::H264]).unwrap()[0];
        assert_eq!((section.codec, section.payload, section.rtx), (CodecName::H264, 109, Some(114)));
        // A wildcard counts for every payload number.
        assert_eq!(section.feedback, ["nack pli"]);
    }

    #[test]
    fn of_h264_takes_single_nal_mode_only_where_there_is_no_other() {
        let all = [
            ("packetization-mode=0;profile-level-id=42e01f", 10),
            ("profile-level-id=42001f", 11),
            ("packetization-mode=1;profile-level-id=42e01f", 0),
            ("packetization-mode=1;profile-level-id=42001f", 1),
            ("packetization-mode=1", 1),
            ("packetization-mode=1;profile-level-id=4D001f", 2),
            ("packetization-mode=1;profile-level-id=64001f", 3),
            ("packetization-mode=1;profile-level-id=é", 3),
        ];
        for (fmtp, expected) in all {
            assert_eq!(preference(CodecName::H264, Some(fmtp)), expected, "{fmtp}");
        }
    }

    #[test]
    fn of_vp9_takes_profile_0() {
        let section = &accept(&offer(&[VIDEO]), &[CodecName::Vp9]).unwrap()[0];
        assert_eq!((section.payload, section.rtx), (98, Some(99)));
    }

    #[test]
    fn a_section_without_common_codec_refuses_the_offer() {
        let error = accept(&offer(&[AUDIO, VIDEO]), &[CodecName::Vp8]).unwrap_err();
        let NegotiationError::NoCommonCodec { kind, mid, offered, taken } = error else { panic!("{error}") };
        assert_eq!((kind, mid.as_str(), taken.as_str()), ("audio", "0", ""));
        assert_eq!(offered, "opus, red, G722, PCMU, PCMA, CN, telephone-event");
    }

    #[test]
    fn sections_that_do_not_send_are_left_out() {
        for direction in ["recvonly", "inactive"] {
            let quiet = VIDEO.replace("sendonly", direction);
            let sections = accept(&offer(&[AUDIO, &quiet]), &CodecName::ALL).unwrap();
            assert_eq!(sections.iter().map(|section| section.line).collect::<Vec<_>>(), [0]);
            assert_eq!(accept(&offer(&[&quiet, DATA]), &CodecName::ALL), Err(NegotiationError::NothingToReceive));
        }
        let refused = VIDEO.replace("m=video 9", "m=video 0");
        assert_eq!(accept(&offer(&[&refused]), &CodecName::ALL), Err(NegotiationError::NothingToReceive));
        let bundled = refused.replace("a=mid:1", "a=mid:1\na=bundle-only");
        assert_eq!(accept(&offer(&[&bundled]), &CodecName::ALL).unwrap().len(), 1);
        let default = VIDEO.replace("a=sendonly", "");
        assert_eq!(accept(&offer(&[&default]), &CodecName::ALL).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_webrtc_description_is_refused() {
        let refused = |sdp: &str| matches!(accept(sdp, &CodecName::ALL), Err(NegotiationError::NotSdp(_)));
        for junk in
            ["", "hello", "v=0", "v=0\r\n", "\0\0\0", "m=video", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"]
        {
            assert!(refused(junk), "{junk:?}");
            assert!(check_answer(junk).is_err(), "{junk:?}");
        }
        for needed in ["a=ice-ufrag", "a=ice-pwd", "a=fingerprint", "a=mid"] {
            assert!(refused(&offer(&[AUDIO, &VIDEO.replace(needed, "a=x")])), "{needed}");
        }
        assert!(refused(&offer(&[AUDIO, VIDEO]).replace("BUNDLE 0 1", "BUNDLE 0")), "not one transport");
        assert!(refused(&offer(&[AUDIO, &VIDEO.replace("a=mid:1", "a=mid:0")])), "two of one name");
        assert!(refused(&offer(&[&VIDEO.replace("a=mid:1", "a=mid:<script>")])), "not a token");
        assert!(refused(&offer(&[&VIDEO.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP")])), "not encrypted");
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let sdp = offer(&[AUDIO]);
        let padded = format!("{sdp}a=x:{}\r\n", "x".repeat(MAX_SDP_BYTES));
        assert!(matches!(accept(&padded, &CodecName::ALL), Err(NegotiationError::TooLarge(_))));
        assert!(matches!(check_answer(&padded), Err(NegotiationError::TooLarge(_))));
        let sections = vec![DATA; MAX_SECTIONS + 1];
        assert!(matches!(accept(&offer(&sections), &CodecName::ALL), Err(NegotiationError::TooLarge(_))));
    }

    #[test]
    fn odd_extension_maps_are_passed_over() {
        let odd =
            AUDIO.replace("a=extmap:1 urn", "a=extmap:1/recvonly urn").replace("a=extmap:3 ", "a=extmap:300 ").replace(
                "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
                "a=extmap:4/sendonly urn:ietf:params:rtp-hdrext:sdes:mid x=y",
            );
        let section = &accept(&offer(&[&odd]), &CodecName::ALL).unwrap()[0];
        assert_eq!(section.extensions, [(4, MID.to_owned())]);
    }

    #[test]
    fn takes_the_candidates_that_browsers_write() {
        for good in [
            "",
            "candidate:842163049 1 udp 1677729535 203.0.113.7 55147 typ srflx raddr 0.0.0.0 rport 0 generation 0 ufrag Gp9o network-cost 999",
            "candidate:1 1 UDP 2122252543 4f9a7b5e-1d5d-4b6c-8a54-1f9d4b0fa0d2.local 50000 typ host",
            "candidate:2 1 TCP 2105524479 192.0.2.3 9 typ host tcptype active",
            "candidate:3 2 udp 41885439 2001:db8::1 3478 typ relay raddr ::1 rport 1",
        ] {
            assert_eq!(check_candidate(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn refuses_what_is_no_candidate() {
        let long = format!("candidate:1 1 udp 1 192.0.2.3 9 typ host x {}", "y".repeat(600));
        for bad in [
            "x",
            "candidate:",
            "candidate:1 1 udp 1 192.0.2.3 9 typ",
            "candidate:1 0 udp 1 192.0.2.3 9 typ host",
            "candidate:1 1 udp -1 192.0.2.3 9 typ host",
            "candidate:1 1 udp 1 192.0.2.3 99999 typ host",
            "candidate:1 1 udp 1 192.0.2.3 9 kind host",
            "candidate:1 1 udp 1 192.0.2.3 9 typ host raddr",
            "candidate:1 1 udp 1 <script> 9 typ host",
            "candidate:1 1 udp 1 192.0.2.3 9 typ host\r\na=x y",
            long.as_str(),
        ] {
            assert!(check_candidate(bad).is_err(), "{bad}");
        }
    }
}
