//! What is said about a session in SDP, where str0m needs help with it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use str0m::{
    Rtc, RtcConfig,
    config::DtlsCert,
    crypto::CryptoProvider,
    format::{Codec, CodecConfig, FormatParams},
    media::{Frequency, Mid, Pt},
    rtp::{Extension, ExtensionMap},
};

use super::{dependencies, source::Source};
pub(super) use crate::media::description::with_credentials;
use crate::{
    media::{
        CodecName, Kind,
        negotiation::{self, AcceptedSection},
        rtp,
    },
    room::id::TrackId,
};

/// Browsers join sound and picture by reports; they have the first ones with the first picture.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// As in the track's own packets.
const MID_ID: u8 = 4;
const TRANSPORT_CC_ID: u8 = 3;
/// A viewer's network is looked at so often.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// The same if only his losses count: browsers report those of pictures each second, those of sound each five.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);
/// A check that is not answered is repeated so often; with its pauses, up to 3 s, that is 10 s.
const CHECK_RETRIES: usize = 5;

/// What all viewers' sessions have in common, without codecs. `feels`: what his network bears is to be found out,
/// from what he tells of each packet (transport-wide congestion control), as [`Event::PeerStats`](str0m::Event).
pub(super) fn configuration(crypto: Arc<CryptoProvider>, certificate: DtlsCert, feels: bool) -> RtcConfig {
    let mut extensions = ExtensionMap::empty();
    extensions.set(rtp::AUDIO_LEVEL_ID, Extension::AudioLevel);
    extensions.set(MID_ID, Extension::RtpMid);
    extensions.set(rtp::DEPENDENCIES_ID, dependencies::extension());
    if feels {
        extensions.set(TRANSPORT_CC_ID, Extension::TransportSequenceNumber);
    }
    session(crypto, certificate, extensions).set_stats_interval(Some(if feels { LOOK_INTERVAL } else { LOSS_INTERVAL }))
}

/// For a publisher, with the header extensions that were accepted of his, under his numbers.
pub(super) fn receiving(crypto: Arc<CryptoProvider>, certificate: DtlsCert, sections: &[AcceptedSection]) -> RtcConfig {
    let mut extensions = ExtensionMap::empty();
    for (id, uri) in sections.iter().flat_map(|section| &section.extensions) {
        let known = match uri.as_str() {
            negotiation::AUDIO_LEVEL => Extension::AudioLevel,
            negotiation::MID => Extension::RtpMid,
            negotiation::TRANSPORT_CC => Extension::TransportSequenceNumber,
            negotiation::RID => Extension::RtpStreamId,
            negotiation::REPAIRED_RID => Extension::RepairedRtpStreamId,
            negotiation::DEPENDENCIES => dependencies::extension(),
            _ => continue,
        };
        extensions.set(*id, known);
    }
    session(crypto, certificate, extensions)
}

fn session(crypto: Arc<CryptoProvider>, certificate: DtlsCert, extensions: ExtensionMap) -> RtcConfig {
    let mut config = Rtc::builder()
        .set_crypto_provider(crypto)
        .set_dtls_cert(certificate)
        .set_rtp_mode(true)
        .set_extension_map(extensions)
        .set_rtcp_report_interval_audio(REPORT_INTERVAL)
        .set_rtcp_report_interval_video(REPORT_INTERVAL);
    config.set_max_stun_retransmits(CHECK_RETRIES);
    config.clear_codecs()
}

/// Offers each track's codec with its own parameters; gives the number of each.
pub(super) fn offer_codecs(config: &mut CodecConfig, tracks: &[(TrackId, Arc<Source>)], feels: bool) -> Vec<Pt> {
    let mut known: Vec<(&Source, Pt)> = Vec::new();
    // Other parameters of a codec that was there before; the numbers are free in `payload_number`.
    let mut further = (112..127u8).step_by(2);
    for (_, source) in tracks {
        let is_same = |(other, _): &&(&Source, Pt)| other.codec == source.codec && other.fmtp == source.fmtp;
        if known.iter().any(|known| is_same(&known)) {
            continue;
        }
        let is_first = known.iter().all(|(other, _)| other.codec != source.codec);
        let number = if is_first { Some(rtp::payload_number(source.codec)) } else { further.next() };
        let Some(number) = number else { continue };
        let resend = (source.kind() == Kind::Video).then_some(number + 1);
        if !add_redundant(config, number, Some(rtp::RED_PAYLOAD), source.codec) {
            add_codec(config, number, resend, source.codec, source.fmtp.as_deref());
        }
        known.push((source, Pt::from(number)));
    }
    take_feedback(config, feels);
    let number_of = |source: &Source| {
        let same = known.iter().find(|(other, _)| other.codec == source.codec && other.fmtp == source.fmtp);
        same.map_or(Pt::from(rtp::payload_number(source.codec)), |(_, number)| *number)
    };
    tracks.iter().map(|(_, source)| number_of(source)).collect()
}

/// Offers or takes redundant sound too. str0m has that for its own numbers of Opus only.
fn add_redundant(config: &mut CodecConfig, number: u8, red: Option<u8>, codec: CodecName) -> bool {
    let is_known = codec == CodecName::Opus && number == rtp::payload_number(codec) && red == Some(rtp::RED_PAYLOAD);
    if is_known {
        config.enable_opus(true, true);
    }
    is_known
}

/// Answers with each track's codec, under the client's numbers; gives the number of each.
pub(super) fn answer_codecs(
    config: &mut CodecConfig,
    media: &[(AcceptedSection, Arc<Source>)],
    feels: bool,
) -> Vec<Pt> {
    add_sections(config, media.iter().map(|(section, source)| (section, source.fmtp.as_deref())));
    take_feedback(config, feels);
    media.iter().map(|(section, _)| Pt::from(section.payload)).collect()
}

/// Takes each section's codec, under the publisher's numbers and with the feedback that was accepted.
pub(super) fn receive_codecs(config: &mut CodecConfig, sections: &[AcceptedSection]) {
    add_sections(config, sections.iter().map(|section| (section, section.fmtp.as_deref())));
    for params in config.iter_mut() {
        let section = sections.iter().find(|section| section.payload == *params.pt());
        let takes = |wanted: &str| section.is_some_and(|it| it.feedback.iter().any(|feedback| feedback == wanted));
        params.set_fb_transport_cc(takes("transport-cc"));
        params.set_fb_nack(takes("nack"));
        params.set_fb_pli(takes("nack pli"));
        params.set_fb_fir(takes("ccm fir"));
        params.set_fb_remb(false);
    }
}

/// Takes the codec of each section, with those parameters, under the client's number.
fn add_sections<'a>(
    config: &mut CodecConfig,
    sections: impl Iterator<Item = (&'a AcceptedSection, Option<&'a str>)> + Clone,
) {
    // With redundancy, str0m's own number of Opus takes the place of all others.
    let is_other = |section: &AcceptedSection| {
        section.codec == CodecName::Opus && section.payload != rtp::payload_number(section.codec)
    };
    let has_other = sections.clone().any(|(section, _)| is_other(section));
    let mut known = Vec::new();
    for (section, fmtp) in sections {
        if known.contains(&section.payload) {
            continue;
        }
        known.push(section.payload);
        let red = section.red.filter(|_| !has_other);
        if !add_redundant(config, section.payload, red, section.codec) {
            add_codec(config, section.payload, section.rtx, section.codec, fmtp);
        }
    }
}

fn add_codec(config: &mut CodecConfig, number: u8, resend: Option<u8>, codec: CodecName, fmtp: Option<&str>) {
    let (codec, rate, channels) = match codec {
        CodecName::Opus => (Codec::Opus, Frequency::FORTY_EIGHT_KHZ, Some(2)),
        CodecName::Vp8 => (Codec::Vp8, Frequency::NINETY_KHZ, None),
        CodecName::Vp9 => (Codec::Vp9, Frequency::NINETY_KHZ, None),
        CodecName::H264 => (Codec::H264, Frequency::NINETY_KHZ, None),
        CodecName::Av1 => (Codec::Av1, Frequency::NINETY_KHZ, None),
        CodecName::Pcmu => (Codec::PCMU, Frequency::EIGHT_KHZ, None),
        CodecName::Pcma => (Codec::PCMA, Frequency::EIGHT_KHZ, None),
    };
    let format = fmtp.map(FormatParams::parse_line).unwrap_or_default();
    config.add_config(Pt::from(number), resend.map(Pt::from), codec, rate, channels, format);
}

/// Where there is nothing to choose, what a network bears is of no use.
fn take_feedback(config: &mut CodecConfig, feels: bool) {
    for params in config.iter_mut() {
        params.set_fb_transport_cc(feels);
        params.set_fb_remb(false);
    }
}

/// A description with each payload number's parameters as the publisher gave them: str0m knows some only,
/// and parameter sets of H.264, which need not be in the stream, are not among them.
pub(super) fn with_parameters<'a>(sdp: &str, parameters: impl Iterator<Item = (u8, Option<&'a str>)>) -> String {
    let known: BTreeMap<String, &str> =
        parameters.filter_map(|(number, fmtp)| Some((number.to_string(), fmtp?))).collect();
    let mut out = String::with_capacity(sdp.len());
    for line in sdp.lines() {
        let attribute = line.strip_prefix("a=fmtp:").or_else(|| line.strip_prefix("a=rtpmap:"));
        let fmtp = attribute.and_then(|rest| rest.split(' ').next()).and_then(|number| known.get_key_value(number));
        match fmtp {
            Some(_) if line.starts_with("a=fmtp:") => {}
            Some((number, fmtp)) => {
                out.extend([line, "\r\n", "a=fmtp:", number, " ", fmtp, "\r\n"]);
            }
            None => out.extend([line, "\r\n"]),
        }
    }
    out
}

/// An offer in which redundant packets are not the first format: webrtcbin takes the first alone, and then no sound.
pub(super) fn with_redundancy_last(sdp: &str) -> String {
    let red = format!(" {} ", rtp::RED_PAYLOAD);
    let changed = sdp.lines().map(|line| match line.split_once(&red) {
        Some((before, after)) if line.starts_with("m=audio ") => format!("{before} {after}{}\r\n", red.trim_end()),
        _ => format!("{line}\r\n"),
    });
    changed.collect()
}

/// An offer in which sections do not say what pictures are made from, if nothing that is offered is AV1.
pub(super) fn with_dependencies_of_av1(sdp: &str) -> String {
    let line = format!("a=extmap:{} {}\r\n", rtp::DEPENDENCIES_ID, negotiation::DEPENDENCIES);
    let is_av1 = |section: &str| section.contains(" AV1/90000\r\n");
    let sections = sdp.split("\r\nm=");
    let kept = sections.map(|section| if is_av1(section) { section.to_owned() } else { section.replace(&line, "") });
    kept.collect::<Vec<_>>().join("\r\nm=")
}

/// A description without candidates.
pub(super) fn without_candidates(sdp: &str) -> String {
    sdp.split_inclusive('\n').filter(|line| !line.starts_with("a=candidate:")).collect()
}

/// Under which number he takes redundant packets of the codec that he takes under that one.
pub(super) fn redundant_payload(rtc: &Rtc, payload: Pt) -> Option<Pt> {
    rtc.codec_config().iter().find(|params| params.pt() == payload)?.red()
}

/// Under which number he takes a track; `None` if he does not want it.
pub(super) fn accepted_payload(rtc: &Rtc, mid: Mid, offered: Pt, codec: CodecName) -> Option<Pt> {
    let media = rtc.media(mid)?;
    if media.disabled() || media.stopped() || !media.direction().is_sending() {
        return None;
    }
    let accepted = media.remote_pts();
    if accepted.contains(&offered) {
        return Some(offered);
    }
    let wanted = codec.encoding_name();
    let params = rtc
        .codec_config()
        .iter()
        .find(|params| accepted.contains(&params.pt()) && params.spec().codec.to_string().eq_ignore_ascii_case(wanted));
    params.map(|params| params.pt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound(payload: u8, red: Option<u8>) -> AcceptedSection {
        AcceptedSection {
            line: 0,
            mid: payload.to_string(),
            kind: Kind::Audio,
            codec: CodecName::Opus,
            payload,
            rtx: None,
            red,
            fmtp: None,
            feedback: Vec::new(),
            extensions: Vec::new(),
            layers: Vec::new(),
        }
    }

    #[test]
    fn redundancy_never_costs_another_number_of_the_codec() {
        let taken = |sections: &[AcceptedSection]| {
            let mut config = CodecConfig::empty();
            receive_codecs(&mut config, sections);
            config.params().iter().map(|it| (*it.pt(), it.red().map(|red| *red))).collect::<Vec<_>>()
        };
        let (red, other) = (sound(111, Some(63)), sound(109, None));
        assert_eq!(taken(&[red.clone(), red.clone()]), [(111, Some(63))]);
        assert_eq!(taken(&[red.clone(), other.clone()]), [(111, None), (109, None)]);
        assert_eq!(taken(&[other, red]), [(109, None), (111, None)]);
        assert_eq!(taken(&[sound(111, Some(64))]), [(111, None)], "str0m knows its own numbers only");
    }

    #[test]
    fn parameters_are_the_publishers() {
        let sdp = "m=video 9 UDP/TLS/RTP/SAVPF 102 103 96\r\na=rtpmap:102 H264/90000\r\na=fmtp:102 \
                   packetization-mode=1\r\na=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\na=rtpmap:96 VP8/90000\r\n";
        let given = "packetization-mode=1;sprop-parameter-sets=Z0LAHw==,aM48gA==";
        let changed = with_parameters(sdp, [(102, Some(given)), (96, None)].into_iter());
        let expected = sdp.replace("a=fmtp:102 packetization-mode=1", &format!("a=fmtp:102 {given}"));
        assert_eq!(changed, expected);
        assert_eq!(with_parameters(sdp, [(96, Some("x=1"))].into_iter()), format!("{sdp}a=fmtp:96 x=1\r\n"));
    }

    #[test]
    fn redundancy_is_offered_last() {
        let sdp = "m=audio 9 UDP/TLS/RTP/SAVPF 63 111 112\r\na=rtpmap:63 red/48000/2\r\nm=video 9 X 63 96\r\n";
        let expected = sdp.replace("63 111 112", "111 112 63");
        assert_eq!(with_redundancy_last(sdp), expected);
        assert_eq!(with_redundancy_last(&expected), expected);
    }

    #[test]
    fn only_sections_of_av1_say_what_pictures_are_made_from() {
        let line = format!("a=extmap:2 {}\r\n", negotiation::DEPENDENCIES);
        let section =
            |codec: &str, line: &str| format!("m=video 9 X 96\r\n{line}a=rtpmap:96 {codec}/90000\r\na=mid:0\r\n");
        let offer = |vp8: &str| format!("v=0\r\n{}{}", section("VP8", vp8), section("AV1", &line));
        assert_eq!(with_dependencies_of_av1(&offer(&line)), offer(""));
    }

    #[test]
    fn candidates_of_an_answer_are_left_out() {
        let sdp = "v=0\r\na=candidate:1 1 UDP 1 10.0.0.1 9 typ host\r\na=mid:0\r\n";
        assert_eq!(without_candidates(sdp), "v=0\r\na=mid:0\r\n");
    }
}
