//! A viewer: what is offered to him or answered, what he takes of it, what is written to him.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use str0m::{
    Rtc,
    change::SdpOffer,
    media::{Direction, MediaKind, Mid, Pt},
    rtp::{ExtensionValues, RtpWrite, Ssrc, Vp8Patch, Vp8PatchBuilder},
};

use super::{
    counters::Counted,
    describe::{
        accepted_payload, answer_codecs, configuration, offer_codecs, redundant_payload, with_dependencies_of_av1,
        with_parameters, with_redundancy_last, without_candidates,
    },
    gate::{Gate, Passage},
    inbox::Inbox,
    network::{Network, Thinning},
    numbering::Numbering,
    peer::{Described, Identity, Role, Told},
    redundancy::Redundancy,
    source::{Descriptor, Packet, Picture, Source},
};
use crate::{
    media::{
        Kind, LayerChoice, MediaError, MediaEvent, description, graph::Stage, negotiation::AcceptedSection,
        rtp::Dependencies,
    },
    room::id::TrackId,
};

/// A keyframe to change over at that did not come is asked for again after this time.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long a packet is kept to be sent again: a viewer asks ten times, a round trip apart.
const RESEND_AGE: Duration = Duration::from_secs(1);
/// Packets kept to be sent again at most: a second of 5 Mbit/s.
const RESEND_PACKETS: usize = 600;
/// The part of what is sent that may be sent again; a viewer who asks for more has no use for it.
const RESEND_SHARE: f32 = 0.4;

/// What a viewer is offered, and what he takes of it.
#[derive(Debug)]
pub(super) struct Watching {
    pub(super) lines: Vec<Line>,
    pub(super) network: Network,
    _counted: Counted,
}

/// A track that is offered.
#[derive(Debug)]
pub(super) struct Line {
    /// Its name, if we offered it.
    pub(super) track: Option<TrackId>,
    /// The track, of which there may be layers.
    pub(super) offered: Arc<Source>,
    /// Which he wants.
    pub(super) wanted: LayerChoice,
    /// What he has of it.
    pub(super) source: Arc<Source>,
    /// What he is to have instead, from its next keyframe on, and when one was asked for last.
    next: Option<(Arc<Source>, Instant)>,
    /// All that he has had of the track.
    known: Vec<Arc<Source>>,
    /// His network does not bear it.
    pub(super) paused: bool,
    /// His network does not bear all of its frames.
    pub(super) thinning: Thinning,
    mid: Mid,
    /// Under which number we know its codec.
    number: Pt,
    /// Once he is connected, if he takes it.
    sending: Option<Sending>,
}

impl Line {
    fn new(track: Option<TrackId>, source: Arc<Source>, mid: Mid, number: Pt) -> Self {
        Self {
            track,
            offered: source.clone(),
            wanted: LayerChoice::Largest,
            known: vec![source.clone()],
            source,
            next: None,
            paused: false,
            thinning: Thinning::None,
            mid,
            number,
            sending: None,
        }
    }

    /// Of a packet of its sound, so often it is sent.
    pub(super) fn copies(&self) -> u32 {
        let redundancy = self.sending.as_ref().and_then(|sending| sending.redundancy.as_ref());
        1 + redundancy.map_or(0, |redundancy| redundancy.again() as u32)
    }

    /// What his network bears, and what all of his sound takes, in kbit/s.
    pub(super) fn fit(&mut self, sound: u32, bears: Option<f64>) {
        let redundancy = self.sending.as_mut().and_then(|sending| sending.redundancy.as_mut());
        redundancy.into_iter().for_each(|redundancy| redundancy.fit(sound, bears));
    }

    /// He takes it, and is connected.
    pub(super) fn is_sent(&self) -> bool {
        self.sending.is_some()
    }

    /// He is to have what comes from `source`, from its next keyframe on; true if that is new to him.
    pub(super) fn switch(&mut self, source: &Arc<Source>, inbox: &Arc<Inbox>) -> bool {
        if source.codec != self.source.codec || self.next.as_ref().is_some_and(|(next, _)| next.key == source.key) {
            return false;
        }
        if let Some((other, _)) = self.next.take() {
            other.detach(inbox);
        }
        if self.sending.is_none() {
            self.source = source.clone();
        } else if self.source.key != source.key {
            // It has a keyframe asked for.
            source.attach(inbox);
            self.next = Some((source.clone(), Instant::now()));
        }
        let is_new = self.known.iter().all(|known| known.key != source.key);
        if is_new {
            self.known.push(source.clone());
        }
        is_new
    }

    /// He had nothing of it for a while: it goes on at a keyframe, which is asked for.
    pub(super) fn resume(&mut self, now: Instant) {
        if let Some(sending) = &mut self.sending {
            sending.gate = Gate::new(sending.gate.kind(), now);
            self.source.request_keyframe();
        }
    }

    /// If the packet is of what he is to have instead: whether he has it from now on.
    fn changes_over(&mut self, source: &Source, packet: &Packet, now: Instant, inbox: &Arc<Inbox>) -> bool {
        let Some((next, asked)) = &mut self.next else { return false };
        if next.key != source.key {
            return false;
        }
        if !packet.starts_keyframe {
            if now.saturating_duration_since(*asked) >= ASK_AGAIN_AFTER {
                *asked = now;
                next.request_keyframe();
            }
            return false;
        }
        let before = std::mem::replace(&mut self.source, next.clone());
        before.detach(inbox);
        self.next = None;
        if let Some(sending) = &mut self.sending {
            sending.change_over(packet, self.source.codec.clock_rate(), now);
        }
        true
    }
}

#[derive(Debug)]
struct Sending {
    ssrc: Ssrc,
    /// His number for the codec.
    payload: Pt,
    gate: Gate,
    numbering: Numbering,
    /// The track's numbers below this he has.
    from: u64,
    /// Added to the source's other numbers, as he had another one before.
    offsets: Offsets,
    last: Option<Last>,
    /// If he takes redundant packets.
    redundancy: Option<Redundancy>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Offsets {
    timestamp: u32,
    picture: u16,
    base: u8,
}

/// What he was sent last.
#[derive(Clone, Copy, Debug)]
struct Last {
    number: u64,
    timestamp: u32,
    captured: Instant,
    picture: u16,
    base: u8,
}

pub(super) fn offer(
    told: &Told,
    tracks: Vec<(TrackId, Arc<Source>)>,
    identity: &Identity,
    mut network: Network,
    now: Instant,
) -> Result<Described, MediaError> {
    let feels = network.is_felt(tracks.iter().map(|(_, source)| source));
    let mut config = configuration(identity.crypto.clone(), identity.certificate.clone(), feels);
    let numbers = offer_codecs(config.codec_config(), &tracks, feels);
    let mut rtc = identity.build(config, now);
    let stream = told.connection.name.to_string();
    let mut changes = rtc.sdp_api();
    let mut lines = Vec::with_capacity(tracks.len());
    for ((track, source), number) in tracks.into_iter().zip(numbers) {
        let kind = if source.kind() == Kind::Video { MediaKind::Video } else { MediaKind::Audio };
        // One stream: browsers play in step what is in one.
        let mid = changes.add_media(kind, Direction::SendOnly, Some(stream.clone()), Some(track.to_string()), None);
        lines.push(Line::new(Some(track), source, mid, number));
    }
    let (offer, pending) =
        changes.apply().ok_or_else(|| MediaError::Description("there is nothing to offer".into()))?;
    let sdp = with_parameters(&offer.to_sdp_string(), parameters(&lines));
    told.tell(offered(told, sdp, &lines));
    Ok(Described { rtc, pending: Some(pending), offered: String::new(), role: Watching::role(lines, network) })
}

pub(super) fn answer(
    told: &Told,
    offer: &str,
    media: Vec<(AcceptedSection, Arc<Source>)>,
    identity: &Identity,
    mut network: Network,
    now: Instant,
) -> Result<Described, MediaError> {
    let refused = |error: String| MediaError::Description(error);
    if media.is_empty() {
        return Err(refused("what was asked for is gone".into()));
    }
    let feels = network.is_felt(media.iter().map(|(_, source)| source));
    let mut config = configuration(identity.crypto.clone(), identity.certificate.clone(), feels);
    let numbers = answer_codecs(config.codec_config(), &media, feels);
    let mut rtc = identity.build(config, now);
    let (sections, sources): (Vec<_>, Vec<_>) = media.into_iter().unzip();
    let mids = sections.iter().map(|section| Mid::from(section.mid.as_str()));
    let lines = mids.zip(sources).zip(numbers);
    let lines = lines.map(|((mid, source), number)| Line::new(None, source, mid, number));
    let lines: Vec<Line> = lines.collect();
    let reduced = description::reduced_offer(offer, &sections).map_err(|error| refused(error.to_string()))?;
    let reduced = with_parameters(&without_candidates(&reduced), parameters(&lines));
    let taken = SdpOffer::from_sdp_string(&reduced).map_err(|error| refused(error.to_string()))?;
    let answer = rtc.sdp_api().accept_offer(taken).map_err(|error| refused(error.to_string()))?;
    // He is answered with the parameters that he offered.
    let his = sections.iter().map(|section| (section.payload, section.fmtp.as_deref()));
    let answer = with_parameters(&answer.to_sdp_string(), his);
    let sdp = description::full_answer_to_subscriber(&answer, offer, &sections)
        .map_err(|error| refused(error.to_string()))?;
    told.stage.send_replace(Stage::Connecting);
    told.tell(MediaEvent::Answered { connection: told.connection.clone(), sdp });
    Ok(Described { rtc, pending: None, offered: reduced, role: Watching::role(lines, network) })
}

/// Tells what each section of our offer is.
fn offered(told: &Told, sdp: String, lines: &[Line]) -> MediaEvent {
    let tracks = lines.iter().filter_map(|line| Some((line.mid.to_string(), line.track.clone()?)));
    MediaEvent::Offered {
        connection: told.connection.clone(),
        sdp: with_dependencies_of_av1(&with_redundancy_last(&sdp)),
        tracks: tracks.collect(),
    }
}

/// The parameters of each payload number, as its publisher gave them.
fn parameters(lines: &[Line]) -> impl Iterator<Item = (u8, Option<&str>)> {
    lines.iter().map(|line| (*line.number, line.source.fmtp.as_deref()))
}

impl Watching {
    fn role(lines: Vec<Line>, network: Network) -> Role {
        Role::Watches(Self { lines, network, _counted: Counted::new() })
    }

    /// The tracks he was offered.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.lines.iter().flat_map(|line| &line.known)
    }

    /// The tracks that are written to him.
    pub(super) fn attached(&self) -> impl Iterator<Item = &Arc<Source>> {
        let sending = self.lines.iter().filter(|line| line.sending.is_some());
        sending.flat_map(|line| [&line.source].into_iter().chain(line.next.iter().map(|(source, _)| source)))
    }

    /// The event of an offer of ours, which tells what each of its sections is.
    pub(super) fn offered(&self, told: &Told, sdp: String) -> MediaEvent {
        offered(told, sdp, &self.lines)
    }

    /// The parameters of each payload number, as its publisher gave them.
    pub(super) fn parameters(&self) -> impl Iterator<Item = (u8, Option<&str>)> {
        parameters(&self.lines)
    }

    /// He needs a keyframe of what is in that section.
    pub(super) fn request_keyframe(&self, mid: Mid) {
        if let Some(line) = self.lines.iter().find(|line| line.mid == mid && line.is_sent() && !line.paused) {
            line.source.request_keyframe();
        }
    }

    /// He has told what he lost of one of them, 0 to 1: they share a path, and of pictures he tells each second.
    pub(super) fn has_lost(&mut self, loss: f32, now: Instant) {
        let sendings = self.lines.iter_mut().filter_map(|line| line.sending.as_mut());
        for redundancy in sendings.filter_map(|sending| sending.redundancy.as_mut()) {
            redundancy.has_lost(loss, now);
        }
    }

    /// Media flows from now on, of all that he takes.
    pub(super) fn connected(&mut self, rtc: &mut Rtc, inbox: &Arc<Inbox>) {
        for line in &mut self.lines {
            let Some(payload) = accepted_payload(rtc, line.mid, line.number, line.source.codec) else { continue };
            let mut direct = rtc.direct_api();
            let Some(stream) = direct.stream_tx_by_mid(line.mid, None) else { continue };
            stream.set_rtx_cache(RESEND_PACKETS, RESEND_AGE, Some(RESEND_SHARE));
            let gate = Gate::new(line.source.kind(), Instant::now());
            let mut sending = Sending {
                ssrc: stream.ssrc(),
                payload,
                gate,
                numbering: Numbering::new(),
                from: 0,
                offsets: Offsets::default(),
                last: None,
                redundancy: redundant_payload(rtc, payload).map(Redundancy::new),
            };
            for packet in line.source.attach(inbox) {
                if matches!(sending.gate.pass(packet.starts_keyframe, Instant::now()), Passage::Pass | Passage::First) {
                    sending.write(rtc, &packet, false);
                    sending.from = packet.sequence + 1;
                }
            }
            line.sending = Some(sending);
        }
    }

    /// Writes a packet of one of his tracks; true if it is on its way.
    /// `inbox`: of the thread that does this.
    pub(super) fn write(
        &mut self,
        rtc: &mut Rtc,
        source: &Source,
        packet: &Packet,
        rejoins: bool,
        now: Instant,
        inbox: &Arc<Inbox>,
    ) -> bool {
        let mut written = false;
        for line in &mut self.lines {
            let changes_over = line.changes_over(source, packet, now, inbox);
            if line.source.key != source.key {
                continue;
            }
            let Some(sending) = &mut line.sending else { continue };
            if line.paused {
                continue;
            }
            if line.thinning.leaves_out(packet) {
                sending.numbering.leave_out(packet.sequence);
                continue;
            }
            let first = match sending.gate.pass(packet.starts_keyframe, now) {
                Passage::Pass => rejoins || changes_over,
                Passage::First => true,
                Passage::Skip => continue,
                Passage::Ask => {
                    line.source.request_keyframe();
                    continue;
                }
            };
            written |= sending.write(rtc, packet, first);
        }
        written
    }
}

impl Sending {
    /// What comes next is of another source, with a keyframe first: it goes on with the next numbers, and as much
    /// later as it was captured later.
    fn change_over(&mut self, packet: &Packet, clock_rate: u32, now: Instant) {
        self.gate = Gate::new(self.gate.kind(), now);
        self.from = 0;
        let Some(last) = self.last else { return };
        let later = packet.captured.saturating_duration_since(last.captured).as_micros() * u128::from(clock_rate);
        // No two pictures have one time.
        let later = ((later / 1_000_000) as u32).max(clock_rate / 1_000);
        let (picture, base) = packet.picture.map_or((0, 0), |picture| (picture.number, picture.base));
        self.offsets = Offsets {
            timestamp: last.timestamp.wrapping_add(later).wrapping_sub(packet.timestamp),
            picture: last.picture.wrapping_add(1).wrapping_sub(picture),
            base: last.base.wrapping_add(1).wrapping_sub(base),
        };
    }

    /// The picture's numbers as he is to see them: of 15 bits, of AV1 16.
    fn picture(&self, packet: &Packet) -> (u16, u8) {
        let (picture, base) = packet.picture.map_or((0, 0), |picture| (picture.number, picture.base));
        let is_wide = matches!(packet.picture, Some(Picture { descriptor: Descriptor::Av1, .. }));
        let mask = if is_wide { u16::MAX } else { 0x7FFF };
        (picture.wrapping_add(self.offsets.picture) & mask, base.wrapping_add(self.offsets.base))
    }

    /// What is to be changed in a payload of VP8, which others have as it is.
    fn patch(&self, packet: &Packet) -> Option<Vp8Patch> {
        let Picture { descriptor: Descriptor::Vp8(descriptor), .. } = packet.picture? else { return None };
        if self.offsets.picture == 0 && self.offsets.base == 0 {
            return None;
        }
        let (picture, base) = self.picture(packet);
        let patch = |builder: Vp8PatchBuilder| match descriptor.tl0_pic_idx() {
            Some(_) => builder.tl0_pic_idx(base).build().ok(),
            None => builder.build().ok(),
        };
        // One with numbers of seven bits takes no larger ones.
        let long = patch(descriptor.patch().picture_id(picture));
        long.or_else(|| patch(descriptor.patch().picture_id(picture & 0x7F)))
    }

    /// Browsers pass over a keyframe of AV1 whose number is before the last one's: so is one that is more than half of all
    /// numbers later, as after a long pause.
    fn rebase(&mut self, packet: &Packet, sequence: u64) {
        let (Some(last), Some(Picture { descriptor: Descriptor::Av1, number, .. })) = (self.last, packet.picture)
        else {
            return;
        };
        let is_next = packet.starts_keyframe && sequence > last.number;
        if is_next && self.picture(packet).0.wrapping_sub(last.picture) > u16::MAX / 2 {
            self.offsets.picture = last.picture.wrapping_add(1).wrapping_sub(number);
        }
    }

    /// What a picture of AV1 is made from, under the number that he is to see.
    fn dependencies(&self, packet: &Packet) -> Option<Arc<Dependencies>> {
        let theirs = packet.dependencies.as_ref()?;
        if self.offsets.picture == 0 {
            return Some(theirs.clone());
        }
        Some(Arc::new(theirs.with_frame(self.picture(packet).0)))
    }

    /// The payload that others have too, or, of VP9, a copy with other numbers.
    fn payload(&self, packet: &Packet) -> Arc<[u8]> {
        match packet.picture {
            Some(Picture { descriptor: Descriptor::Vp9(read), .. })
                if self.offsets.picture != 0 || self.offsets.base != 0 =>
            {
                let mut payload = packet.payload.to_vec();
                read.renumber(&mut payload, self.offsets.picture, self.offsets.base);
                payload.into()
            }
            _ => packet.payload.clone(),
        }
    }

    /// Writes a packet; false if he has it, or is not to have it any more. `rejoins`: numbers go on behind
    /// the last one.
    fn write(&mut self, rtc: &mut Rtc, packet: &Packet, rejoins: bool) -> bool {
        if packet.sequence < self.from {
            return false;
        }
        let Some(sequence) = self.numbering.number(packet.sequence, rejoins) else { return false };
        self.rebase(packet, sequence);
        let mut direct = rtc.direct_api();
        let Some(stream) = direct.stream_tx(&self.ssrc) else { return false };
        let mut values = ExtensionValues {
            audio_level: packet.level.map(|level| level.peak_db),
            voice_activity: packet.level.map(|level| level.voice),
            ..Default::default()
        };
        if let Some(dependencies) = self.dependencies(packet) {
            values.user_values.set_arc(dependencies);
        }
        let timestamp = packet.timestamp.wrapping_add(self.offsets.timestamp);
        let packed = self.redundancy.as_mut().and_then(|it| it.pack(self.payload, sequence, timestamp, packet));
        let (number, payload) = packed.unwrap_or_else(|| (self.payload, self.payload(packet)));
        let write = RtpWrite::new(number, sequence.into(), timestamp, packet.captured, payload);
        let write = write.marker(packet.marker).ext_vals(values).nackable(self.gate.kind() == Kind::Video);
        stream.write_rtp(match self.patch(packet) {
            Some(patch) => write.vp8_patch(patch),
            None => write,
        });
        if self.last.is_none_or(|last| last.number < sequence) {
            let (picture, base) = match (packet.picture, self.last) {
                // Padding alone says nothing of pictures.
                (None, Some(last)) => (last.picture, last.base),
                _ => self.picture(packet),
            };
            self.last = Some(Last { number: sequence, timestamp, captured: packet.captured, picture, base });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyframe_of_av1_after_a_long_pause_does_not_seem_to_go_back() {
        let now = Instant::now();
        let packet = |sequence, number, starts_keyframe| Packet {
            sequence,
            timestamp: 0,
            marker: true,
            picture: Some(Picture { descriptor: Descriptor::Av1, number, base: 0 }),
            dependencies: None,
            level: None,
            starts_keyframe,
            is_disposable: false,
            captured: now,
            payload: Arc::from([]),
        };
        let last = Last { number: 7, timestamp: 0, captured: now, picture: 100, base: 0 };
        let mut sending = Sending {
            ssrc: 1.into(),
            payload: 96.into(),
            gate: Gate::new(Kind::Video, now),
            numbering: Numbering::new(),
            from: 0,
            offsets: Offsets::default(),
            last: Some(last),
            redundancy: None,
        };
        for (sequence, number, is_keyframe, seen) in [
            (8, 30_000, true, 30_000),
            (8, 40_000, false, 40_000),
            (6, 99, true, 99),
            (8, 40_100, true, 101),
            (9, 40_101, false, 102),
        ] {
            let packet = packet(sequence, number, is_keyframe);
            sending.rebase(&packet, sequence);
            assert_eq!(sending.picture(&packet).0, seen, "{sequence} {number}");
        }
    }
}
