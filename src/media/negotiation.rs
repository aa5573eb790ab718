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

/// Which layer of simulcast a packet is of (RFC 8852).
pub const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
/// The same, of one that is sent again.
pub const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
/// What a packet's picture is made from ("RTP Payload Format For AV1", appendix A): of AV1 alone, whose payloads do
/// not say it. VP8's would say less then.
pub const DEPENDENCIES: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
/// Layers of one picture that are received.
pub const MAX_LAYERS: usize = 3;

/// What we answer with of the header extensions. Left out on purpose: video-orientation, so that
/// pictures arrive upright; abs-send-time, which transport-cc replaces. Where layers are
/// accepted, [`RID`] and [`REPAIRED_RID`] are too, and [`DEPENDENCIES`] of AV1.
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
    /// A subscriber's offer takes nothing of what there is.
    #[error("the offer takes nothing of what there is to send")]
    NothingToSend,
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
    /// The client's payload number for redundant packets of it (RFC 2198), if it is Opus and they were offered.
    pub red: Option<u8>,
    /// The codec's `a=fmtp` parameters as offered, e.g. `profile-level-id=42e01f;packetization-mode=1`.
    pub fmtp: Option<String>,
    /// Feedback we answer with, as offered: `nack`, `nack pli`, `ccm fir`, `transport-cc`.
    pub feedback: Vec<String>,
    /// Header extensions we understand and the client offered: `(id, uri)`.
    pub extensions: Vec<(u8, String)>,
    /// The rids of its layers, in the client's order, [`MAX_LAYERS`] at most; empty without simulcast (RFC 8853).
    pub layers: Vec<String>,
}

impl AcceptedSection {
    /// The same for webrtcbin, which receives one layer, the first, and passes no extension on that tells of others.
    #[must_use]
    pub fn without_layers(mut self) -> Self {
        self.layers.clear();
        self.extensions.retain(|(_, uri)| ![RID, REPAIRED_RID, DEPENDENCIES].contains(&uri.as_str()));
        self
    }
}

/// Reads an offer and chooses what to receive.
///
/// `codecs`: what we take; within a section the client's own order decides among codecs of that list,
/// except that G.711 is taken only where there is nothing better. Sections that only receive are left out; data channels are
/// left out.
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
    check_bundle(&session, &accepted.iter().collect::<Vec<_>>())?;
    Ok(accepted)
}

/// Reads a subscriber's offer and chooses the section in which each of `tracks` is sent: the first that
/// takes its kind and no other track. Tracks beyond the offer's sections are left out, and sections
/// beyond the tracks; and sound in G.711, which players of pictures need not take. Header extensions, but for AV1's [`DEPENDENCIES`], and feedback on congestion are not taken: what we send has none.
///
/// Answers with the section of each track that is sent, in the order of the offer.
///
/// # Errors
/// As [`NegotiationError`] says. A section that does not take its track's codec refuses the whole offer, but for
/// G.711 beside something else.
pub fn accept_subscriber<T>(
    sdp: &str,
    tracks: impl IntoIterator<Item = (T, CodecName)>,
) -> Result<Vec<(T, AcceptedSection)>, NegotiationError> {
    let session = parse(sdp)?;
    let mut mids = HashSet::new();
    for media in session.medias.iter().filter(|media| kind(media).is_some()) {
        let mid = mid(media)?;
        if !mids.insert(mid.clone()) {
            return Err(NegotiationError::NotSdp(format!("two media sections are called `{mid}`")));
        }
    }
    let mut accepted: Vec<(T, AcceptedSection)> = Vec::new();
    let mut left_out = None;
    for (track, codec) in tracks {
        let free = |(line, media): &(usize, &Media)| {
            kind(media) == Some(codec.kind())
                && receives(&session, media)
                && accepted.iter().all(|(_, section)| section.line as usize != *line)
        };
        let Some((line, media)) = session.medias.iter().enumerate().find(free) else { continue };
        let mut section = match accept_section(&session, media, line as u32, mid(media)?, codec.kind(), &[codec]) {
            Err(error @ NegotiationError::NoCommonCodec { .. }) if is_g711(codec) => {
                left_out = Some(error);
                continue;
            }
            section => section?,
        };
        section.extensions.retain(|(_, uri)| uri == DEPENDENCIES);
        section.layers.clear();
        section.feedback.retain(|feedback| feedback != "transport-cc");
        accepted.push((track, section));
    }
    if accepted.is_empty() {
        return Err(left_out.unwrap_or(NegotiationError::NothingToSend));
    }
    accepted.sort_by_key(|(_, section)| section.line);
    let sections: Vec<&AcceptedSection> = accepted.iter().map(|(_, section)| section).collect();
    check_bundle(&session, &sections)?;
    Ok(accepted)
}

/// Whether GStreamer's webrtcbin made the offer that has these sections: it calls them `video0`, `audio1`,
/// by kind and place. Its certificates are of a kind that not every edge takes.
pub fn is_of_gstreamer<'a>(sections: impl IntoIterator<Item = &'a AcceptedSection>) -> bool {
    sections.into_iter().any(|section| {
        let kind = if section.kind == Kind::Video { "video" } else { "audio" };
        section.mid.strip_prefix(kind).is_some_and(|place| place.parse() == Ok(section.line))
    })
}

/// Whether the fan-out edge can tell by its packets what is of which section: it knows sections by names of letters,
/// digits and `_`, and sources by the MID extension or as `a=ssrc` of the offer. Others it would drop without a word.
pub fn suits_fanout<'a>(sdp: &str, sections: impl IntoIterator<Item = &'a AcceptedSection>) -> bool {
    let Ok(session) = parse(sdp) else { return false };
    sections.into_iter().all(|section| {
        let is_known = section.mid.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let says_mid = section.extensions.iter().any(|(_, uri)| uri == MID);
        let media = session.medias.get(section.line as usize);
        is_known && (says_mid || media.is_some_and(|media| media.has_attribute("ssrc")))
    })
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
fn check_bundle(session: &Session, sections: &[&AcceptedSection]) -> Result<(), NegotiationError> {
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
    has_direction(session, media, "sendonly", "recvonly")
}

/// The client means to receive in this section.
fn receives(session: &Session, media: &Media) -> bool {
    has_direction(session, media, "recvonly", "sendonly")
}

fn has_direction(session: &Session, media: &Media, this: &str, other: &str) -> bool {
    if media.port == 0 && !media.has_attribute("bundle-only") {
        return false;
    }
    let says = |name: &str| media.has_attribute(name);
    if says("sendrecv") || says(this) {
        return true;
    }
    let silent = |has: &dyn Fn(&str) -> bool| has(other) || has("inactive");
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
    let mut known = formats.iter().filter_map(|format| format.codec).filter(taken);
    let better = known.clone().find(|codec| !is_g711(*codec));
    let Some(codec) = better.or_else(|| known.next()) else {
        return Err(no_common_codec(kind, mid, &formats, codecs));
    };
    let format = formats
        .iter()
        .filter(|format| format.codec == Some(codec))
        .min_by_key(|format| preference(codec, format.fmtp.as_deref()))
        .expect("it was found a line ago");
    let layers = layers(session, media, codec);
    Ok(AcceptedSection {
        line,
        mid,
        kind,
        codec,
        payload: format.payload,
        rtx: formats.iter().find(|rtx| rtx.retransmits(format.payload)).map(|rtx| rtx.payload),
        red: formats.iter().find(|red| codec == CodecName::Opus && red.repeats(format.payload)).map(|red| red.payload),
        fmtp: format.fmtp.clone(),
        feedback: feedback(media, format.payload),
        extensions: extensions(session, media, codec, !layers.is_empty()),
        layers,
    })
}

/// Sound of telephones, 8 kHz.
fn is_g711(codec: CodecName) -> bool {
    matches!(codec, CodecName::Pcmu | CodecName::Pcma)
}

/// The rids of the layers of a picture that the client means to send; none if there are fewer than two, packets would
/// not say of which they are, or one is not as RFC 8851 §10 has it and of at most 8 characters: it would be answered
/// under another name.
fn layers(session: &Session, media: &Media, codec: CodecName) -> Vec<String> {
    let offered = extensions(session, media, codec, true);
    let says = |wanted: &str| offered.iter().any(|(_, uri)| uri == wanted);
    if !says(RID) || !says(MID) || codec.kind() == Kind::Audio {
        return Vec::new();
    }
    let simulcast = media.get_first_attribute_value("simulcast").flatten().unwrap_or_default();
    let mut words = simulcast.split(' ');
    let sent = words.find(|word| *word == "send").and_then(|_| words.next()).unwrap_or_default();
    let declared: HashSet<&str> = media
        .get_attribute_values("rid")
        .flatten()
        .filter_map(|rid| rid.split_once(' '))
        .filter(|(_, rest)| rest.split(' ').next() == Some("send"))
        .map(|(rid, _)| rid)
        .collect();
    // Of alternatives, separated by commas, the first; a tilde says that it begins paused.
    let rids = sent.split(';').filter_map(|layer| layer.split(',').next()).map(|rid| rid.trim_start_matches('~'));
    let mut layers: Vec<String> = Vec::new();
    for rid in rids {
        if !(1..=8).contains(&rid.len()) || !rid.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Vec::new();
        }
        let is_one = declared.contains(rid) && !layers.iter().any(|known| known == rid);
        if is_one && layers.len() < MAX_LAYERS {
            layers.push(rid.to_owned());
        }
    }
    if layers.len() < 2 { Vec::new() } else { layers }
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
    fn repeats(&self, payload: u8) -> bool {
        // The first is what it brings, the others what it brings again.
        let mut numbers = self.fmtp.as_deref().unwrap_or_default().split('/').map(|number| number.trim().parse::<u8>());
        self.name.eq_ignore_ascii_case("red") && numbers.next() == Some(Ok(payload))
    }

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
        CodecName::Opus | CodecName::Vp8 | CodecName::Pcmu | CodecName::Pcma => 0,
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
fn extensions(session: &Session, media: &Media, codec: CodecName, with_layers: bool) -> Vec<(u8, String)> {
    let offered = media.get_attribute_values("extmap").chain(session.get_attribute_values("extmap")).flatten();
    let mut extensions: Vec<(u8, String)> = Vec::new();
    for value in offered {
        let mut words = value.split_whitespace();
        let (Some(id), Some(uri)) = (words.next(), words.next()) else { continue };
        let (id, direction) = id.split_once('/').unwrap_or((id, "sendrecv"));
        let Some(id) = id.parse::<u8>().ok().filter(|id| (1..=14).contains(id)) else { continue };
        let sent = matches!(direction, "sendrecv" | "sendonly");
        let again = extensions.iter().any(|(known, name)| *known == id || name == uri);
        let is_known = EXTENSIONS.contains(&uri)
            || (with_layers && [RID, REPAIRED_RID].contains(&uri))
            || (codec == CodecName::Av1 && uri == DEPENDENCIES);
        if sent && is_known && !again {
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
mod tests;
