//! Descriptions as they go between a client and the engine: pure rewriting of SDP.
//!
//! The engine is shown only what [`negotiation::accept`](super::negotiation::accept) chose, so that
//! it has nothing left to decide; its answer is then completed with the sections that were refused.

use sdp_types::{Attribute, Media, Session};

use super::{
    CodecName, IceCredentials,
    negotiation::{AcceptedSection, NegotiationError},
};

/// The offer cut down to the accepted sections, each with its one codec, retransmissions, redundancy, feedback
/// and header extensions. Section `n` of the result is `sections[n]`.
///
/// # Errors
/// [`NegotiationError::NotSdp`] if `sections` are not of this offer.
pub fn reduced_offer(offer: &str, sections: &[AcceptedSection]) -> Result<String, NegotiationError> {
    let mut session = parse(offer)?;
    let reduced: Option<Vec<Media>> =
        sections.iter().map(|section| Some(reduce(session.medias.get(section.line as usize)?, section))).collect();
    session.medias = reduced.ok_or_else(|| NegotiationError::NotSdp("a section is missing".into()))?;
    session.attributes.retain(|attribute| TRANSPORT.contains(&name(attribute)));
    let mids: Vec<&str> = sections.iter().map(|section| section.mid.as_str()).collect();
    session.attributes.push(Attribute::with_value("group", format!("BUNDLE {}", mids.join(" "))));
    write(&session)
}

/// The same for an engine that does not know of redundant packets and of layers: without them.
///
/// # Errors
/// As [`reduced_offer`].
pub fn plain_offer(offer: &str, sections: &[AcceptedSection]) -> Result<String, NegotiationError> {
    let plain: Vec<_> =
        sections.iter().map(|section| AcceptedSection { red: None, ..section.clone().without_layers() }).collect();
    reduced_offer(offer, &plain)
}

/// The engine's answer to a [`reduced_offer`] as a publisher expects it: a section for each of the
/// offer's, in its order, those that were not accepted refused (RFC 3264 §6: port 0).
///
/// # Errors
/// [`NegotiationError::NotSdp`] if one of them is not SDP.
pub fn full_answer(answer: &str, offer: &str, sections: &[AcceptedSection]) -> Result<String, NegotiationError> {
    fill(answer, offer, sections, |media, _| refuse(media))
}

/// An answer that also takes redundant packets where they were offered, from an engine that does not know of them.
/// Browsers send them if their number comes first.
///
/// # Errors
/// [`NegotiationError::NotSdp`] if it is not SDP.
pub fn with_redundancy(answer: &str, sections: &[AcceptedSection]) -> Result<String, NegotiationError> {
    let mut session = parse(answer)?;
    for section in sections {
        let (Some(red), Some(media)) = (section.red, session.medias.get_mut(section.line as usize)) else { continue };
        let payload = section.payload;
        media.fmt = format!("{red} {}", media.fmt);
        media.attributes.push(Attribute::with_value("rtpmap", format!("{red} red/48000/2")));
        media.attributes.push(Attribute::with_value("fmtp", format!("{red} {payload}/{payload}")));
    }
    write(&session)
}

/// As [`full_answer`], as a subscriber expects it: sections in which nothing is sent are inactive. They
/// stay in the bundle, as webrtcbin, when it is the client, has its transport with the first section.
///
/// # Errors
/// [`NegotiationError::NotSdp`] if one of them is not SDP.
pub fn full_answer_to_subscriber(
    answer: &str,
    offer: &str,
    sections: &[AcceptedSection],
) -> Result<String, NegotiationError> {
    let bundled = bundled_mids(&parse(offer)?);
    let filled = fill(answer, offer, sections, |media, transport| {
        let is_media = matches!(media.media.as_str(), "audio" | "video");
        let is_there = media.port != 0 || media.has_attribute("bundle-only");
        let is_bundled = value(media, "mid").is_some_and(|mid| bundled.iter().any(|known| known == mid));
        if is_media && is_there && is_bundled { idle(media, transport) } else { refuse(media) }
    })?;
    let mut session = parse(&filled)?;
    // The transport is that of the first section (RFC 9143 §7.3), and so are its candidates.
    let is_candidate = |attribute: &Attribute| matches!(name(attribute), "candidate" | "end-of-candidates");
    let candidates: Vec<Attribute> =
        session.medias.iter_mut().flat_map(|media| media.attributes.extract_if(.., |it| is_candidate(it))).collect();
    if let Some(first) = session.medias.iter_mut().find(|media| media.port != 0) {
        first.attributes.extend(candidates);
    }
    let taken = session.medias.iter().filter(|media| media.port != 0);
    let mids: Vec<&str> = taken.filter_map(|media| value(media, "mid")).collect();
    let group = Attribute::with_value("group", format!("BUNDLE {}", mids.join(" ")));
    session.attributes.retain(|attribute| name(attribute) != "group");
    session.attributes.push(group);
    write(&session)
}

/// The mids of a description's bundle.
fn bundled_mids(session: &Session) -> Vec<String> {
    let groups = session.get_attribute_values("group").flatten();
    groups
        .filter_map(|group| group.strip_prefix("BUNDLE "))
        .flat_map(|mids| mids.split(' '))
        .map(str::to_owned)
        .collect()
}

/// The answer with a section for each of the offer's: `other` makes those that the engine has not seen.
/// It is given the engine's attributes of the transport.
fn fill(
    answer: &str,
    offer: &str,
    sections: &[AcceptedSection],
    other: impl Fn(&Media, &[Attribute]) -> Media,
) -> Result<String, NegotiationError> {
    let mut session = parse(answer)?;
    let answered = std::mem::take(&mut session.medias);
    let transport: Vec<Attribute> = match answered.first() {
        Some(media) => media.attributes.iter().filter(|it| TRANSPORT.contains(&name(it))).cloned().collect(),
        None => Vec::new(),
    };
    session.medias = parse(offer)?.medias.iter().map(|media| other(media, &transport)).collect();
    for (section, media) in sections.iter().zip(answered) {
        if let Some(place) = session.medias.get_mut(section.line as usize) {
            *place = media;
        }
    }
    write(&session)
}

/// An answer as the engine may see it: that it fits what was offered is checked, and attributes that
/// the engine has no use for are left out.
///
/// # Errors
/// [`NegotiationError::NotSdp`] if it is not SDP, or has not the sections of the offer.
pub fn reduced_answer(answer: &str, offered_mids: &[String]) -> Result<String, NegotiationError> {
    let mut session = parse(answer)?;
    let fits = session.medias.len() == offered_mids.len()
        && session.medias.iter().zip(offered_mids).all(|(media, mid)| value(media, "mid") == Some(mid.as_str()));
    if !fits {
        return Err(NegotiationError::NotSdp("its sections are not those of the offer".into()));
    }
    session.attributes.retain(|attribute| TRANSPORT.contains(&name(attribute)) || name(attribute) == "group");
    for media in &mut session.medias {
        media.attributes.retain(|attribute| {
            TRANSPORT.contains(&name(attribute))
                || SECTION.contains(&name(attribute))
                || CODEC.contains(&name(attribute))
        });
    }
    write(&session)
}

/// The mids of a description's sections, in order.
///
/// # Errors
/// [`NegotiationError::NotSdp`].
pub fn mids(sdp: &str) -> Result<Vec<String>, NegotiationError> {
    let session = parse(sdp)?;
    Ok(session.medias.iter().map(|media| value(media, "mid").unwrap_or_default().to_owned()).collect())
}

/// For each of the sections we offered, the payload number under which the client takes its codec;
/// `None` if it refused the section, or does not want to receive in it. An answer with fewer sections
/// than the offer refuses the rest.
///
/// # Errors
/// [`NegotiationError::NotSdp`].
pub fn answered_payloads(answer: &str, offered: &[CodecName]) -> Result<Vec<Option<u8>>, NegotiationError> {
    let session = parse(answer)?;
    let answered = |(line, codec): (usize, &CodecName)| {
        let media = session.medias.get(line)?;
        let silent = media.port == 0 || media.has_attribute("inactive") || media.has_attribute("sendonly");
        if silent { None } else { payload_of(media, *codec) }
    };
    Ok(offered.iter().enumerate().map(answered).collect())
}

/// The ICE credentials of a description whose sections share a transport, if they are such as may be.
pub fn credentials(sdp: &str) -> Option<IceCredentials> {
    let first = |name: &str| sdp.lines().find_map(|line| line.strip_prefix(name));
    IceCredentials::new(first("a=ice-ufrag:")?, first("a=ice-pwd:")?)
}

/// A description with other ICE credentials.
pub fn with_credentials(sdp: &str, credentials: &IceCredentials) -> String {
    let changed = sdp.lines().map(|line| match line.split_once(':') {
        Some(("a=ice-ufrag", _)) => format!("a=ice-ufrag:{}\r\n", credentials.ufrag),
        Some(("a=ice-pwd", _)) => format!("a=ice-pwd:{}\r\n", credentials.pwd),
        _ => format!("{line}\r\n"),
    });
    changed.collect()
}

/// Attributes of the transport, for the session or for a section.
const TRANSPORT: [&str; 6] = ["ice-ufrag", "ice-pwd", "ice-options", "ice-lite", "fingerprint", "setup"];
/// Attributes of a section that the engine reads.
const SECTION: [&str; 11] = [
    "mid",
    "rtcp-mux",
    "rtcp-rsize",
    "sendrecv",
    "sendonly",
    "recvonly",
    "inactive",
    "ssrc",
    "ssrc-group",
    "msid",
    "extmap",
];
/// Attributes of a payload number.
const CODEC: [&str; 3] = ["rtpmap", "fmtp", "rtcp-fb"];

/// The SSRCs that a description names for each of `sections` (RFC 5576 §4.1), in their order.
///
/// # Errors
/// [`NegotiationError::NotSdp`].
pub fn ssrcs(sdp: &str, sections: &[AcceptedSection]) -> Result<Vec<Vec<u32>>, NegotiationError> {
    let session = parse(sdp)?;
    let of_section = |section: &AcceptedSection| {
        let Some(media) = session.medias.get(section.line as usize) else { return Vec::new() };
        let lines = media.get_attribute_values("ssrc").flatten();
        let mut ssrcs: Vec<u32> = lines.filter_map(|line| line.split(' ').next()?.parse().ok()).collect();
        ssrcs.dedup();
        ssrcs
    };
    Ok(sections.iter().map(of_section).collect())
}

fn reduce(media: &Media, section: &AcceptedSection) -> Media {
    let mut reduced = media.clone();
    // A bundle-only section has port 0; cut down to what we take, it is a section like the others.
    reduced.port = 9;
    reduced.fmt = section.payload.to_string();
    if let Some(rtx) = section.rtx {
        reduced.fmt.push_str(&format!(" {rtx}"));
    }
    if let Some(red) = section.red {
        reduced.fmt.push_str(&format!(" {red}"));
    }
    let taken = [Some(section.payload), section.rtx, section.red];
    reduced.attributes.retain(|attribute| match name(attribute) {
        "rtpmap" | "fmtp" => payload(attribute).is_some_and(|it| taken.contains(&Some(it))),
        "rtcp-fb" | "extmap" => false,
        name => TRANSPORT.contains(&name) || SECTION.contains(&name),
    });
    for feedback in &section.feedback {
        let feedback = format!("{} {feedback}", section.payload);
        reduced.attributes.push(Attribute::with_value("rtcp-fb", feedback));
    }
    if !section.layers.is_empty() {
        let rids = section.layers.iter().map(|rid| Attribute::with_value("rid", format!("{rid} send")));
        reduced.attributes.extend(rids);
        let simulcast = format!("send {}", section.layers.join(";"));
        reduced.attributes.push(Attribute::with_value("simulcast", simulcast));
    }
    for (id, uri) in &section.extensions {
        reduced.attributes.push(Attribute::with_value("extmap", format!("{id} {uri}")));
    }
    reduced
}

/// The section, refused.
fn refuse(media: &Media) -> Media {
    let mut refused = media.clone();
    refused.port = 0;
    refused.attributes.retain(|attribute| name(attribute) == "mid");
    refused.attributes.push(Attribute::new("inactive"));
    refused
}

/// The section with all its codecs, over a transport that others use.
fn idle(media: &Media, transport: &[Attribute]) -> Media {
    let mut idle = media.clone();
    idle.port = 9;
    idle.attributes
        .retain(|attribute| matches!(name(attribute), "mid" | "rtcp-mux") || CODEC.contains(&name(attribute)));
    idle.attributes.push(Attribute::new("inactive"));
    idle.attributes.extend_from_slice(transport);
    idle
}

fn payload_of(media: &Media, codec: CodecName) -> Option<u8> {
    let mut payloads = media.fmt.split(' ').filter_map(|number| number.parse::<u8>().ok());
    payloads.find(|wanted| {
        media.attributes.iter().any(|attribute| {
            let map = attribute.value.as_deref().and_then(|value| value.split_once(' ')).map(|(_, map)| map);
            let is_codec = map
                .and_then(|map| map.split('/').next())
                .is_some_and(|encoding| encoding.eq_ignore_ascii_case(codec.encoding_name()));
            name(attribute) == "rtpmap" && payload(attribute) == Some(*wanted) && is_codec
        })
    })
}

fn name(attribute: &Attribute) -> &str {
    &attribute.attribute
}

fn value<'a>(media: &'a Media, name: &'a str) -> Option<&'a str> {
    media.get_first_attribute_value(name).flatten()
}

/// The payload number that an `rtpmap`, `fmtp` or `rtcp-fb` is about.
fn payload(attribute: &Attribute) -> Option<u8> {
    attribute.value.as_deref()?.split(' ').next()?.parse().ok()
}

fn parse(sdp: &str) -> Result<Session, NegotiationError> {
    Session::parse(sdp.as_bytes()).map_err(|error| NegotiationError::NotSdp(error.to_string()))
}

fn write(session: &Session) -> Result<String, NegotiationError> {
    let mut bytes = Vec::new();
    session.write(&mut bytes).map_err(|error| NegotiationError::NotSdp(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| NegotiationError::NotSdp(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::negotiation::{self, AUDIO_LEVEL, TRANSPORT_CC};

    const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE d a v\r\n\
        a=extmap-allow-mixed\r\na=ice-ufrag:Gp9o\r\na=ice-pwd:VH1Zb3lTsrh9LT0KfDaDeX8u\r\n\
        a=fingerprint:sha-256 5A:0F\r\na=setup:actpass\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:d\r\na=sctp-port:5000\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111 9\r\nc=IN IP4 0.0.0.0\r\na=mid:a\r\na=sendonly\r\na=rtcp-mux\r\n\
        a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=extmap:2 urn:other\r\n\
        a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=rtcp-fb:111 nack\r\na=fmtp:111 minptime=10\r\n\
        a=rtpmap:9 G722/8000\r\n\
        m=video 0 UDP/TLS/RTP/SAVPF 96 97 98 99\r\nc=IN IP4 0.0.0.0\r\na=mid:v\r\na=bundle-only\r\na=sendonly\r\n\
        a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
        a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=0\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
        a=rtpmap:98 H264/90000\r\na=fmtp:98 packetization-mode=1\r\na=rtcp-fb:98 nack pli\r\na=rtcp-fb:98 goog-remb\r\n\
        a=rtpmap:99 rtx/90000\r\na=fmtp:99 apt=98\r\na=rid:h send\r\na=simulcast:send h\r\n";

    #[test]
    fn credentials_are_found_and_exchanged_wherever_they_stand() {
        let sdp = "v=0\r\na=ice-ufrag:old\r\nm=video 9 X 96\r\na=ice-ufrag:old\r\na=ice-pwd:old\r\na=mid:0\r\n";
        let new = IceCredentials { ufrag: "newer".into(), pwd: "secretsecretsecretsecret".into() };
        let expected = sdp.replace("ufrag:old", "ufrag:newer").replace("pwd:old", "pwd:secretsecretsecretsecret");
        assert_eq!(with_credentials(sdp, &new), expected);
        assert_eq!(credentials(&expected), Some(new));
        assert_eq!(credentials(sdp), None, "too short");
        assert_eq!(credentials("v=0\r\na=ice-ufrag:newer\r\n"), None);
    }

    #[test]
    fn the_reduced_offer_has_what_was_accepted_and_no_more() {
        let sections = negotiation::accept(OFFER, &CodecName::ALL).unwrap();
        let reduced = reduced_offer(OFFER, &sections).unwrap();
        assert_eq!(mids(&reduced).unwrap(), ["a", "v"]);
        assert!(reduced.contains("a=group:BUNDLE a v\r\n"), "{reduced}");
        assert!(reduced.contains("m=video 9 UDP/TLS/RTP/SAVPF 98 99\r\n"), "{reduced}");
        assert!(reduced.contains("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"), "{reduced}");
        assert!(reduced.contains(&format!("a=extmap:1 {AUDIO_LEVEL}\r\n")), "{reduced}");
        assert!(reduced.contains(&format!("a=extmap:3 {TRANSPORT_CC}\r\n")), "{reduced}");
        for gone in
            ["bundle-only", "simulcast", "rid:", "urn:other", "G722", "apt=96", "goog-remb", "allow-mixed", "sctp"]
        {
            assert!(!reduced.contains(gone), "{gone} in {reduced}");
        }
        // What is left is accepted just as it was chosen.
        let again = negotiation::accept(&reduced, &CodecName::ALL).unwrap();
        for (line, (again, section)) in again.iter().zip(&sections).enumerate() {
            assert_eq!(again, &AcceptedSection { line: line as u32, ..section.clone() });
        }
    }

    #[test]
    fn layers_are_accepted_where_packets_say_of_which_they_are() {
        let rid = format!("a=extmap:10 {}\r\na=extmap:11 {}\r\n", negotiation::RID, negotiation::REPAIRED_RID);
        let mid = format!("a=extmap:12 {}\r\n", negotiation::MID);
        let layers = format!(
            "{mid}{rid}a=rid:q send max-width=9\r\na=rid:f send\r\na=rid:x recv\r\na=simulcast:send ~q;h;x;q,f;f\r\n"
        );
        let offer = OFFER.replace("a=rid:h send\r\na=simulcast:send h\r\n", &layers);
        let offer = offer.replace("a=rid:q", "a=rid:h send\r\na=rid:q");
        let sections = negotiation::accept(&offer, &CodecName::ALL).unwrap();
        assert_eq!(sections[1].layers, ["q", "h", "f"]);
        let reduced = reduced_offer(&offer, &sections).unwrap();
        for line in ["a=rid:q send\r\n", "a=rid:f send\r\n", "a=simulcast:send q;h;f\r\n", &rid] {
            assert!(reduced.contains(line), "{line} in {reduced}");
        }
        let first = [sections[1].clone().without_layers()];
        let reduced = reduced_offer(&offer, &first).unwrap();
        assert!(
            !reduced.contains("rid") && !reduced.contains("simulcast") && !reduced.contains("stream-id"),
            "{reduced}"
        );
        for unfit in
            [offer.replace("simulcast:send ~q;h;x;q,f;f", "simulcast:send q;x"), offer.replace(negotiation::RID, "x")]
        {
            assert_eq!(negotiation::accept(&unfit, &CodecName::ALL).unwrap()[1].layers, [""; 0]);
        }
    }

    #[test]
    fn redundancy_is_kept_from_the_engine_and_answered_for_it() {
        let offer = OFFER
            .replace("SAVPF 111 9\r\n", "SAVPF 111 63 9\r\n")
            .replace("a=rtpmap:9 G722", "a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=rtpmap:9 G722");
        let sections = negotiation::accept(&offer, &CodecName::ALL).unwrap();
        assert_eq!((sections[0].red, sections[1].red), (Some(63), None));
        assert!(reduced_offer(&offer, &sections).unwrap().contains("SAVPF 111 63\r\n"));
        let plain = plain_offer(&offer, &sections).unwrap();
        assert_eq!(plain, reduced_offer(OFFER, &negotiation::accept(OFFER, &CodecName::ALL).unwrap()).unwrap());
        let full = full_answer(&plain.replace("sendonly", "recvonly"), &offer, &sections).unwrap();
        let answer = with_redundancy(&full, &sections).unwrap();
        assert!(answer.contains("m=audio 9 UDP/TLS/RTP/SAVPF 63 111\r\n"), "first, or browsers send none: {answer}");
        assert!(answer.contains("a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n"), "{answer}");
        assert!(answer.contains("m=video 9 UDP/TLS/RTP/SAVPF 98 99\r\n"), "{answer}");
        assert_eq!(with_redundancy(&full, &sections[1..]).unwrap(), full);
    }

    #[test]
    fn ssrcs_are_found_by_section() {
        let sections = negotiation::accept(OFFER, &CodecName::ALL).unwrap();
        let offer = OFFER.replace(
            "a=mid:v\r\n",
            "a=mid:v\r\na=ssrc:7 cname:x\r\na=ssrc:7 msid:y\r\na=ssrc:8 cname:x\r\na=ssrc:z\r\n",
        );
        assert_eq!(ssrcs(&offer, &sections).unwrap(), [vec![], vec![7, 8]]);
    }

    #[test]
    fn the_full_answer_has_a_section_for_each_that_was_offered() {
        let sections = negotiation::accept(OFFER, &CodecName::ALL).unwrap();
        let answer = reduced_offer(OFFER, &sections).unwrap().replace("sendonly", "recvonly");
        let full = full_answer(&answer, OFFER, &sections).unwrap();
        assert_eq!(mids(&full).unwrap(), ["d", "a", "v"]);
        assert!(full.contains("a=group:BUNDLE a v\r\n"), "{full}");
        assert!(full.contains(
            "m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:d\r\na=inactive\r\nm="
        ));
        assert_eq!(full.matches("a=recvonly").count(), 2);
    }

    #[test]
    fn a_subscriber_is_told_of_sections_in_which_nothing_comes() {
        let offer = OFFER.replace("sendonly", "recvonly");
        let sections: Vec<_> = negotiation::accept_subscriber(&offer, [((), CodecName::H264)])
            .unwrap()
            .into_iter()
            .map(|it| it.1)
            .collect();
        let answer = reduced_offer(&offer, &sections).unwrap().replace("a=recvonly", "a=sendonly");
        let ours = "a=mid:v\r\na=ice-ufrag:ours\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n";
        let answer = answer.replace("a=mid:v\r\n", ours);
        let full = full_answer_to_subscriber(&answer, &offer, &sections).unwrap();
        assert_eq!(mids(&full).unwrap(), ["d", "a", "v"]);
        assert!(full.contains("a=group:BUNDLE a v\r\n"), "{full}");
        assert!(full.contains("m=application 0 UDP/DTLS/SCTP"), "{full}");
        let audio = full.split("m=").find(|section| section.starts_with("audio 9 ")).unwrap();
        assert!(audio.contains("a=inactive\r\n") && audio.contains("a=ice-ufrag:ours\r\n"), "{full}");
        assert!(audio.contains("a=candidate:1 ") && full.matches("a=candidate:").count() == 1, "{full}");
        assert!(audio.contains("a=rtpmap:111 opus/48000/2\r\n") && !audio.contains("recvonly"), "{full}");
        assert_eq!(full.matches("a=sendonly").count(), 1, "{full}");
    }

    #[test]
    fn an_answer_must_fit_the_offer() {
        let mids = ["0".to_owned(), "1".to_owned()];
        let section = |mid: &str| {
            format!("m=audio 9 UDP/TLS/RTP/SAVPF 1\r\na=mid:{mid}\r\na=setup:active\r\na=odd:x\r\na=recvonly\r\n")
        };
        let answer = |sections: &[&str]| {
            let sections: String = sections.iter().map(|mid| section(mid)).collect();
            format!("v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=odd\r\n{sections}")
        };
        assert_eq!(
            reduced_answer(&answer(&["0", "1"]), &mids).unwrap(),
            answer(&["0", "1"]).replace("a=odd:x\r\n", "").replace("a=odd\r\n", "")
        );
        for other in [&["0"][..], &["1", "0"], &["0", "1", "2"], &[]] {
            assert!(reduced_answer(&answer(other), &mids).is_err(), "{other:?}");
        }
    }

    #[test]
    fn an_answer_tells_its_payload_numbers() {
        let offered = [CodecName::Opus, CodecName::H264, CodecName::Vp8];
        let section = |kind: &str, port: u16, payload: u8, map: &str, direction: &str| {
            format!("m={kind} {port} UDP/TLS/RTP/SAVPF {payload}\r\na=rtpmap:{payload} {map}\r\na={direction}\r\n")
        };
        let head = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";
        let audio = section("audio", 9, 109, "opus/48000/2", "recvonly");
        let answer = format!("{head}{audio}{}", section("video", 9, 126, "h264/90000", "recvonly"));
        assert_eq!(answered_payloads(&answer, &offered).unwrap(), [Some(109), Some(126), None]);
        for refused in
            [section("video", 0, 126, "H264/90000", "recvonly"), section("video", 9, 126, "H264/90000", "inactive")]
        {
            let answer = format!("{head}{audio}{refused}");
            assert_eq!(answered_payloads(&answer, &offered).unwrap(), [Some(109), None, None]);
        }
        let other = format!("{head}{}", section("audio", 9, 0, "PCMU/8000", "recvonly"));
        assert_eq!(answered_payloads(&other, &offered).unwrap(), [None, None, None]);
        assert!(answered_payloads("junk", &offered).is_err());
    }
}
