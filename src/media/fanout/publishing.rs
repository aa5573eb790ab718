//! A publisher: his offer is answered, and what comes from him goes to whoever takes it.

use std::{sync::Arc, time::Instant};

use rtp_types::RtpPacketBuilder;
use str0m::{
    Rtc,
    change::SdpOffer,
    media::{KeyframeRequestKind, Mid, Rid, SenderFeedback},
    rtp::{ExtensionValues, RtpPacket},
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
    /// A packet of that section and layer (0 without simulcast), each once: under the publisher's numbers, decrypted,
    /// its only header extension the loudness, under [`rtp::AUDIO_LEVEL_ID`].
    fn packet(&self, section: usize, layer: usize, packet: &[u8]);

    /// What the publisher says of when that layer's media was captured.
    fn report(&self, section: usize, layer: usize, report: SenderReport);
}

/// What a publisher sends.
#[derive(Debug)]
pub(super) struct Publishing {
    /// Of each section, with the rids of its layers, if it has some.
    sections: Vec<(Mid, Vec<Rid>)>,
    downstream: Arc<dyn Downstream>,
}

pub(super) fn answer(
    told: &Told,
    publication: Publication,
    identity: &Identity,
    now: Instant,
) -> Result<Described, MediaError> {
    let Publication { offer, sections, downstream, .. } = publication;
    let refused = |error: String| MediaError::Description(error);
    if sections.is_empty() {
        return Err(refused("there is nothing to receive".into()));
    }
    let mut config = receiving(identity.crypto.clone(), identity.certificate.clone(), &sections);
    receive_codecs(config.codec_config(), &sections);
    let mut rtc = identity.build(config, now);
    let rids = |section: &AcceptedSection| section.layers.iter().map(|rid| Rid::from(rid.as_str())).collect();
    let known = sections.iter().map(|section| (Mid::from(section.mid.as_str()), rids(section))).collect();
    let reduced = description::reduced_offer(&offer, &sections).map_err(|error| refused(error.to_string()))?;
    let reduced = without_candidates(&reduced);
    let taken = SdpOffer::from_sdp_string(&reduced).map_err(|error| refused(error.to_string()))?;
    let answer = rtc.sdp_api().accept_offer(taken).map_err(|error| refused(error.to_string()))?;
    // He is answered with the parameters that he offered.
    let his = sections.iter().map(|section| (section.payload, section.fmtp.as_deref()));
    let answer = with_parameters(&answer.to_sdp_string(), his);
    let sdp = description::full_answer(&answer, &offer, &sections).map_err(|error| refused(error.to_string()))?;
    told.stage.send_replace(Stage::Connecting);
    told.tell(MediaEvent::Answered { connection: told.connection.clone(), sdp });
    let role = Role::Publishes(Publishing { sections: known, downstream });
    Ok(Described { rtc, pending: None, offered: reduced, role })
}

impl Publishing {
    /// Takes a packet of his.
    pub(super) fn take(&mut self, rtc: &mut Rtc, packet: &RtpPacket) {
        // Padding, sent to feel for a higher rate.
        if packet.payload.is_empty() {
            return;
        }
        let mut direct = rtc.direct_api();
        let Some(stream) = direct.stream_rx(&packet.header.ssrc) else { return };
        let Some((section, layer)) = self.place(stream.mid(), stream.rid()) else { return };
        if let Some(bytes) = written(packet) {
            self.downstream.packet(section, layer, &bytes);
        }
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
fn written(packet: &RtpPacket) -> Option<Vec<u8>> {
    let header = &packet.header;
    let extension = level(&header.ext_vals).map(rtp::level_extension);
    let mut builder = RtpPacketBuilder::new()
        .payload_type(*header.payload_type)
        .ssrc(*header.ssrc)
        .sequence_number(header.sequence_number)
        .timestamp(header.timestamp)
        .marker_bit(header.marker)
        .payload(&packet.payload[..]);
    if let Some(extension) = &extension {
        builder = builder.extension(rtp::ONE_BYTE_PROFILE, extension.as_slice());
    }
    builder.write_vec().ok()
}

fn level(values: &ExtensionValues) -> Option<AudioLevel> {
    let peak_db = values.audio_level?;
    Some(AudioLevel { peak_db, voice: values.voice_activity.unwrap_or_default() })
}
