//! A publisher: his offer is answered, and what comes from him goes to whoever takes it.

use std::{collections::HashMap, sync::Arc, time::Instant};

use rtp_types::RtpPacketBuilder;
use str0m::{
    Rtc,
    change::SdpOffer,
    media::{KeyframeRequestKind, Mid, Rid, SenderFeedback},
    rtp::{ExtensionValues, RtpHeader, RtpPacket},
};

use super::{
    describe::{receive_codecs, receiving, with_parameters, without_candidates},
    peer::{Described, Identity, Role, Told},
};
use crate::media::{
    AudioLevel, MediaError, MediaEvent, description,
    graph::Stage,
    negotiation::AcceptedSection,
    rtp,
    sender_clock::{SenderReport, since_1900},
};

/// A publisher as he comes from the room.
#[derive(Debug)]
pub struct Publication {
    /// His offer, as it came.
    pub offer: String,
    /// What [`accept`](crate::media::negotiation::accept) chose of it.
    pub sections: Vec<AcceptedSection>,
    /// Where his media goes.
    pub downstream: Arc<dyn Downstream>,
    /// His packets are the only sign of life of whoever publishes.
    pub alone: bool,
}

/// Where a publisher's media goes. Called on media threads: must not wait.
pub trait Downstream: std::fmt::Debug + Send + Sync {
    /// A packet of that section and layer (0 without simulcast) that came in at `arrived`, each once: under the
    /// publisher's numbers, decrypted, its only header extension the loudness, under [`rtp::AUDIO_LEVEL_ID`], or a
    /// picture's [`rtp::Dependencies`], under [`rtp::DEPENDENCIES_ID`].
    fn packet(&self, section: usize, layer: usize, arrived: Instant, packet: &[u8]);

    /// What the publisher says of when that layer's media was captured.
    fn report(&self, section: usize, layer: usize, report: SenderReport);
}

/// What a publisher sends.
#[derive(Debug)]
pub(super) struct Publishing {
    /// Of each section, with the rids of its layers, if it has some.
    sections: Vec<(Mid, Vec<Rid>)>,
    /// Of sections whose packets may be redundant.
    unpackers: HashMap<usize, rtp::Unpacker>,
    downstream: Arc<dyn Downstream>,
}

/// A session that has an answer to his offer.
struct Begun {
    rtc: Rtc,
    /// The offer without what is not taken.
    reduced: String,
    answer: String,
}

fn begin(offer: &str, sections: &[AcceptedSection], identity: &Identity, now: Instant) -> Result<Begun, MediaError> {
    let refused = |error: String| MediaError::Description(error);
    if sections.is_empty() {
        return Err(refused("there is nothing to receive".into()));
    }
    let mut config = receiving(identity.crypto.clone(), identity.certificate.clone(), sections);
    receive_codecs(config.codec_config(), sections);
    let mut rtc = identity.build(config, now);
    let reduced = description::reduced_offer(offer, sections).map_err(|error| refused(error.to_string()))?;
    let reduced = without_candidates(&reduced);
    let taken = SdpOffer::from_sdp_string(&reduced).map_err(|error| refused(error.to_string()))?;
    let answer = rtc.sdp_api().accept_offer(taken).map_err(|error| refused(error.to_string()))?;
    // He is answered with the parameters that he offered.
    let his = sections.iter().map(|section| (section.payload, section.fmtp.as_deref()));
    let answer = with_parameters(&answer.to_sdp_string(), his);
    let answer = description::full_answer(&answer, offer, sections).map_err(|error| refused(error.to_string()))?;
    Ok(Begun { rtc, reduced, answer })
}

/// Whether there is an answer to that offer.
///
/// # Errors
/// Why there is none.
pub(super) fn check(offer: &str, sections: &[AcceptedSection], identity: &Identity) -> Result<(), MediaError> {
    begin(offer, sections, identity, Instant::now()).map(drop)
}

pub(super) fn answer(
    told: &Told,
    publication: Publication,
    identity: &Identity,
    now: Instant,
) -> Result<Described, MediaError> {
    let Publication { offer, sections, downstream, .. } = publication;
    let Begun { rtc, reduced, answer } = begin(&offer, &sections, identity, now)?;
    let rids = |section: &AcceptedSection| section.layers.iter().map(|rid| Rid::from(rid.as_str())).collect();
    let known = sections.iter().map(|section| (Mid::from(section.mid.as_str()), rids(section))).collect();
    told.stage.send_replace(Stage::Connecting);
    told.tell(MediaEvent::Answered { connection: told.connection.clone(), sdp: answer });
    let redundant =
        |(index, section): (usize, &AcceptedSection)| Some((index, rtp::Unpacker::new(section.payload, section.red?)));
    let unpackers = sections.iter().enumerate().filter_map(redundant).collect();
    let role = Role::Publishes(Publishing { sections: known, unpackers, downstream });
    Ok(Described { rtc, pending: None, offered: reduced, role })
}

impl Publishing {
    /// Takes a packet of his; gives the sources that it proves to be his: its own, and that of what is sent again.
    pub(super) fn take(
        &mut self,
        rtc: &mut Rtc,
        packet: &RtpPacket,
        arrived: Instant,
    ) -> impl Iterator<Item = u32> + use<> {
        let mut direct = rtc.direct_api();
        let found = direct.stream_rx(&packet.header.ssrc).map(|stream| (stream.mid(), stream.rid(), stream.rtx()));
        if let Some((section, layer)) = found.and_then(|(mid, rid, _)| self.place(mid, rid))
            && let Some(bytes) = written(&packet.header, &packet.payload)
        {
            let unpacked = self.unpackers.get_mut(&section).and_then(|unpacker| unpacker.take(&bytes));
            for bytes in unpacked.unwrap_or_else(|| vec![bytes]) {
                self.downstream.packet(section, layer, arrived, &bytes);
            }
        }
        let again = found.and_then(|(_, _, rtx)| rtx);
        [Some(packet.header.ssrc), again].into_iter().flatten().map(|ssrc| *ssrc)
    }

    /// Takes a report of his.
    pub(super) fn take_report(&self, feedback: &SenderFeedback) {
        let info = &feedback.sender_info;
        let Some((section, layer)) = self.place(feedback.mid, feedback.rid) else { return };
        let Some(ntp_ns) = since_1900(info.ntp_time) else { return };
        let report = SenderReport { ssrc: *info.ssrc, ntp_ns, rtp: info.rtp_time.numer() as u32 };
        self.downstream.report(section, layer, report);
    }

    /// Asks him for a keyframe of all layers of which anything came yet.
    pub(super) fn request_keyframe(&mut self, rtc: &mut Rtc, section: usize) {
        let Some((mid, rids)) = self.sections.get(section) else { return };
        let mut direct = rtc.direct_api();
        let mut ask = |rid: Option<Rid>| {
            if let Some(stream) = direct.stream_rx_by_mid(*mid, rid) {
                stream.request_keyframe(KeyframeRequestKind::Pli);
            }
        };
        match rids.as_slice() {
            [] => ask(None),
            rids => rids.iter().for_each(|rid| ask(Some(*rid))),
        }
    }

    /// Section and layer; `None` if nobody offered it.
    fn place(&self, mid: Mid, rid: Option<Rid>) -> Option<(usize, usize)> {
        let section = self.sections.iter().position(|(known, _)| *known == mid)?;
        let layer = match (self.sections[section].1.as_slice(), rid) {
            ([], _) => 0,
            (rids, Some(rid)) => rids.iter().position(|known| *known == rid)?,
            (_, None) => return None,
        };
        Some((section, layer))
    }
}

/// The packet as it would be on the wire without encryption and without what only the session needs.
fn written(header: &RtpHeader, payload: &[u8]) -> Option<Vec<u8>> {
    let level = level(&header.ext_vals).map(rtp::level_extension);
    let dependencies = header.ext_vals.user_values.get::<rtp::Dependencies>().map(rtp::dependencies_extension);
    let mut builder = RtpPacketBuilder::new()
        .payload_type(*header.payload_type)
        .ssrc(*header.ssrc)
        .sequence_number(header.sequence_number)
        .timestamp(header.timestamp)
        .marker_bit(header.marker)
        .payload(payload);
    // One is of sound, the other of pictures.
    if let Some(level) = &level {
        builder = builder.extension(rtp::ONE_BYTE_PROFILE, level.as_slice());
    } else if let Some(dependencies) = &dependencies {
        builder = builder.extension(rtp::TWO_BYTE_PROFILE, dependencies.as_slice());
    }
    builder.write_vec().ok()
}

fn level(values: &ExtensionValues) -> Option<AudioLevel> {
    let peak_db = values.audio_level?;
    Some(AudioLevel { peak_db, voice: values.voice_activity.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::media::{CodecName, negotiation};

    const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\na=setup:actpass\r\n\
        a=ice-ufrag:Gp9o\r\na=ice-pwd:VH1Zb3lTsrh9LT0KfDaDeX8u\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n\
        a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
        a=extmap:5 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
        a=rid:l send\r\na=rid:h send\r\na=simulcast:send l;h\r\n\
        a=fingerprint:sha-256 5A:0F:10:6B:F4:55:0B:E5:38:C3:7E:5F:9A:E7:26:2B:27:5B:9E:8C:65:59:1F:9C:F7:E7:6A:2E:1B:6F:8B:51\r\n";

    #[test]
    fn it_is_known_beforehand_which_offers_are_answered() {
        let identity = Identity::new(&[], false, Duration::from_secs(1)).unwrap();
        let check = |offer: &str| {
            let sections = negotiation::accept(offer, &CodecName::ALL).unwrap();
            assert_eq!(sections[0].layers, ["l", "h"]);
            check(offer, &sections, &identity)
        };
        assert_eq!(check(OFFER).map_err(|error| error.to_string()), Ok(()));
        // That is `sendrecv` (RFC 8866 §6.7), which str0m wants to read.
        let refused = check(&OFFER.replace("a=sendonly\r\n", ""));
        assert!(matches!(refused, Err(MediaError::Description(_))), "{refused:?}");
    }

    #[test]
    fn padding_alone_goes_on_under_its_number() {
        let header = RtpHeader { sequence_number: 9, timestamp: 90, ssrc: 7.into(), ..Default::default() };
        let header = RtpHeader { payload_type: 96.into(), has_padding: true, ..header };
        let bytes = written(&header, &[]).unwrap();
        for codec in [CodecName::Vp8, CodecName::H264] {
            let normalised = rtp::Ingress::new(codec, 5, None).accept(&bytes, Duration::ZERO).unwrap();
            assert_eq!((normalised.sequence, normalised.starts_keyframe), (9, false));
            assert_eq!(normalised.bytes.len(), 12);
        }
    }
}
