//! One viewer's session: what is offered to him, what he answers, what is written to him.
//!
//! Pure in the manner of str0m: datagrams and time go in, datagrams and events come out.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use str0m::{
    Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcConfig, RtcError,
    change::{SdpAnswer, SdpPendingOffer},
    config::DtlsCert,
    crypto::CryptoProvider,
    format::{Codec, CodecConfig, FormatParams},
    media::{Direction, Frequency, MediaKind, Mid, Pt},
    net::{Protocol, Receive, Transmit},
    rtp::{Extension, ExtensionMap, ExtensionValues, RtpWrite, Ssrc},
};
use tokio::sync::{mpsc, watch};

use super::{
    counters::Counted,
    demux::PeerKey,
    gate::{Gate, Passage},
    inbox::{Datagram, Inbox},
    numbering::Numbering,
    source::{Packet, Source},
};
use crate::{
    media::{CodecName, Kind, MediaError, MediaEvent, graph::Stage, rtp},
    room::id::{ConnectionId, TrackId},
};

/// ICE and DTLS must be up this long after the viewer came.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a packet is kept to be sent again: a viewer asks ten times, a round trip apart.
const RESEND_AGE: Duration = Duration::from_secs(1);
/// Packets kept to be sent again at most: a second of 5 Mbit/s.
const RESEND_PACKETS: usize = 600;
/// The part of what is sent that may be sent again; a viewer who asks for more has no use for it.
const RESEND_SHARE: f32 = 0.4;
/// Addresses that one client may be known at.
const MAX_ADDRESSES: usize = 8;
/// Browsers join sound and picture by reports; they have the first ones with the first picture.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// As in the track's own packets.
const MID_ID: u8 = 4;

/// What all sessions have in common.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    crypto: Arc<CryptoProvider>,
    certificate: DtlsCert,
    addresses: Vec<SocketAddr>,
}

impl Identity {
    /// One certificate for the process: making one costs more than a session.
    pub(super) fn new(crypto: Arc<CryptoProvider>, addresses: Vec<SocketAddr>) -> Result<Self, MediaError> {
        let certificate = crypto.dtls_provider.generate_certificate();
        let certificate = certificate.ok_or_else(|| MediaError::Unavailable("a DTLS certificate".into()))?;
        Ok(Self { crypto, certificate, addresses })
    }
}

/// A viewer as he comes from the room.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) key: PeerKey,
    pub(super) connection: ConnectionId,
    pub(super) tracks: Vec<(TrackId, Arc<Source>)>,
    pub(super) events: mpsc::UnboundedSender<MediaEvent>,
    pub(super) stage: watch::Sender<Stage>,
    pub(super) opened: Instant,
}

/// A viewer's session.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) key: PeerKey,
    rtc: Rtc,
    pending: Option<SdpPendingOffer>,
    lines: Vec<Line>,
    told: Told,
    opened: Instant,
    /// Where he has shown to be, latest last.
    pub(super) addresses: Vec<SocketAddr>,
    /// When he wants to be looked after again.
    pub(super) due: Instant,
    _counted: Counted,
}

/// The room's ear.
#[derive(Debug)]
pub(super) struct Told {
    connection: ConnectionId,
    events: mpsc::UnboundedSender<MediaEvent>,
    stage: watch::Sender<Stage>,
}

impl Told {
    fn tell(&self, event: MediaEvent) {
        // An error means that the room is gone, and this viewer about to be.
        let _ = self.events.send(event);
    }

    /// The session ended by itself.
    pub(super) fn end(&self, error: MediaError) {
        self.stage.send_replace(Stage::Ended);
        tracing::info!(connection = %self.connection, "connection ended: {error}");
        self.tell(MediaEvent::ConnectionEnded { connection: self.connection.clone(), error });
    }
}

/// A track that is offered.
#[derive(Debug)]
struct Line {
    source: Arc<Source>,
    mid: Mid,
    offered: Pt,
    /// Once he is connected, if he takes it.
    sending: Option<Sending>,
}

#[derive(Debug)]
struct Sending {
    ssrc: Ssrc,
    /// His number for the codec.
    payload: Pt,
    gate: Gate,
    numbering: Numbering,
}

impl Peer {
    /// Offers the tracks.
    ///
    /// # Errors
    /// With the room's ear, to say so.
    pub(super) fn open(opening: Opening, identity: &Identity) -> Result<Self, (Told, MediaError)> {
        let Opening { key, connection, tracks, events, stage, opened } = opening;
        let told = Told { connection, events, stage };
        if tracks.is_empty() {
            return Err((told, MediaError::Description("there is nothing to send".into())));
        }
        let mut config = configuration(identity);
        let offered = offer_codecs(config.codec_config(), &tracks);
        let mut rtc = config.build(opened);
        for address in &identity.addresses {
            if let Ok(candidate) = Candidate::host(*address, Protocol::Udp) {
                rtc.add_local_candidate(candidate);
            }
        }
        let stream = told.connection.name.to_string();
        let mut changes = rtc.sdp_api();
        let mut lines = Vec::with_capacity(tracks.len());
        let mut mids = Vec::with_capacity(tracks.len());
        for ((track, source), offered) in tracks.into_iter().zip(offered) {
            let kind = if source.kind() == Kind::Video { MediaKind::Video } else { MediaKind::Audio };
            // One stream: browsers play in step what is in one.
            let mid = changes.add_media(kind, Direction::SendOnly, Some(stream.clone()), Some(track.to_string()), None);
            mids.push((mid.to_string(), track));
            lines.push(Line { source, mid, offered, sending: None });
        }
        let Some((offer, pending)) = changes.apply() else {
            return Err((told, MediaError::Description("there is nothing to offer".into())));
        };
        let (connection, sdp) = (told.connection.clone(), offer.to_sdp_string());
        told.tell(MediaEvent::Offered { connection, sdp, tracks: mids });
        Ok(Self {
            key,
            rtc,
            pending: Some(pending),
            lines,
            told,
            opened,
            addresses: Vec::new(),
            due: opened,
            _counted: Counted::new(),
        })
    }

    /// Our ICE user name for the session.
    pub(super) fn user(&mut self) -> String {
        self.rtc.direct_api().local_ice_credentials().ufrag
    }

    /// The tracks he was offered.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.lines.iter().map(|line| &line.source)
    }

    /// The tracks that are written to him.
    pub(super) fn attached(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.lines.iter().filter(|line| line.sending.is_some()).map(|line| &line.source)
    }

    pub(super) fn told(&self) -> &Told {
        &self.told
    }

    /// Takes his answer.
    pub(super) fn answer(&mut self, sdp: &str) -> Result<(), MediaError> {
        let refused = |error: String| MediaError::Description(error);
        let pending = self.pending.take().ok_or_else(|| refused("there was an answer before".into()))?;
        let answer = SdpAnswer::from_sdp_string(sdp).map_err(|error| refused(error.to_string()))?;
        self.rtc.sdp_api().accept_answer(pending, answer).map_err(|error| refused(error.to_string()))?;
        self.told.stage.send_replace(Stage::Connecting);
        Ok(())
    }

    /// Something came from him, or from somebody who says so.
    pub(super) fn receive(&mut self, datagram: &Datagram) -> Result<(), MediaError> {
        let Datagram { source, destination, received, bytes } = datagram;
        let Ok(receive) = Receive::new(Protocol::Udp, *source, *destination, bytes) else { return Ok(()) };
        match self.rtc.handle_input(Input::Receive(*received, receive)) {
            // Anybody who can fake an address may send such things; they are not for the session to end by.
            Err(RtcError::Rtp(_) | RtcError::Net(_) | RtcError::Ice(_)) => Ok(()),
            other => other.map_err(|error| failed(&error)),
        }
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, now: Instant) -> Result<(), MediaError> {
        if self.stage() != Stage::Connected && now.saturating_duration_since(self.opened) >= CONNECT_TIMEOUT {
            return Err(MediaError::ConnectTimeout(CONNECT_TIMEOUT));
        }
        self.rtc.handle_input(Input::Timeout(now)).map_err(|error| failed(&error))
    }

    /// Writes a packet of one of his tracks; true if it is on its way. [`tick`](Self::tick) and
    /// [`drain`](Self::drain) send it.
    pub(super) fn write(&mut self, source: &Source, packet: &Packet, rejoins: bool, now: Instant) -> bool {
        let mut written = false;
        for line in self.lines.iter_mut().filter(|line| line.source.key == source.key) {
            let Some(sending) = &mut line.sending else { continue };
            let first = match sending.gate.pass(packet.starts_keyframe, now) {
                Passage::Pass => rejoins,
                Passage::First => true,
                Passage::Skip => continue,
                Passage::Ask => {
                    line.source.request_keyframe();
                    continue;
                }
            };
            let Some(sequence) = sending.numbering.number(packet.sequence, first) else { continue };
            let mut direct = self.rtc.direct_api();
            let Some(stream) = direct.stream_tx(&sending.ssrc) else { continue };
            let values = ExtensionValues {
                audio_level: packet.level.map(|level| level.peak_db),
                voice_activity: packet.level.map(|level| level.voice),
                ..Default::default()
            };
            let write = RtpWrite::new(
                sending.payload,
                sequence.into(),
                packet.timestamp,
                packet.captured,
                packet.payload.clone(),
            );
            stream.write_rtp(write.marker(packet.marker).ext_vals(values).nackable(line.source.kind() == Kind::Video));
            written = true;
        }
        written
    }

    /// Collects what is to be sent, and acts on what happened. `inbox`: of the thread that does this.
    pub(super) fn drain(&mut self, inbox: &Arc<Inbox>, transmits: &mut Vec<Transmit>) -> Result<(), MediaError> {
        loop {
            match self.rtc.poll_output().map_err(|error| failed(&error))? {
                Output::Transmit(transmit) => transmits.push(transmit),
                Output::Event(event) => self.on_event(event, inbox)?,
                Output::Timeout(due) => {
                    self.due =
                        if self.stage() == Stage::Connected { due } else { due.min(self.opened + CONNECT_TIMEOUT) };
                    return if self.rtc.is_alive() { Ok(()) } else { Err(MediaError::ConnectionLost) };
                }
            }
        }
    }

    /// Says good-bye: what [`drain`](Self::drain) then gives is the last.
    pub(super) fn close(&mut self, now: Instant) {
        self.told.stage.send_replace(Stage::Ended);
        // It may be broken, or not be up at all; then there is nobody to say it to.
        let _ = self.rtc.close();
        let _ = self.rtc.handle_input(Input::Timeout(now));
    }

    /// He has shown that he is at `address`; gives one that is to be forgotten for it.
    pub(super) fn seen_at(&mut self, address: SocketAddr) -> Option<SocketAddr> {
        self.addresses.push(address);
        (self.addresses.len() > MAX_ADDRESSES).then(|| self.addresses.remove(0))
    }

    fn stage(&self) -> Stage {
        *self.told.stage.borrow()
    }

    fn on_event(&mut self, event: Event, inbox: &Arc<Inbox>) -> Result<(), MediaError> {
        match event {
            Event::Connected => self.connected(inbox),
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) if self.stage() == Stage::Connected => {
                return Err(MediaError::ConnectionLost);
            }
            Event::Closed => return Err(MediaError::ConnectionLost),
            Event::KeyframeRequest(request) => {
                if let Some(line) = self.lines.iter().find(|line| line.mid == request.mid && line.sending.is_some()) {
                    line.source.request_keyframe();
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Media flows from now on, of all that he takes.
    fn connected(&mut self, inbox: &Arc<Inbox>) {
        for line in &mut self.lines {
            let Some(payload) = accepted_payload(&self.rtc, line) else { continue };
            let mut direct = self.rtc.direct_api();
            let Some(stream) = direct.stream_tx_by_mid(line.mid, None) else { continue };
            stream.set_rtx_cache(RESEND_PACKETS, RESEND_AGE, Some(RESEND_SHARE));
            let gate = Gate::new(line.source.kind(), Instant::now());
            line.sending = Some(Sending { ssrc: stream.ssrc(), payload, gate, numbering: Numbering::new() });
            line.source.attach(inbox);
        }
        self.told.stage.send_replace(Stage::Connected);
        self.told.tell(MediaEvent::Connected { connection: self.told.connection.clone() });
    }
}

/// Sessions are lite: we are where everybody reaches us, and answer checks only.
fn configuration(identity: &Identity) -> RtcConfig {
    let mut extensions = ExtensionMap::empty();
    extensions.set(rtp::AUDIO_LEVEL_ID, Extension::AudioLevel);
    extensions.set(MID_ID, Extension::RtpMid);
    let config = Rtc::builder()
        .set_crypto_provider(identity.crypto.clone())
        .set_dtls_cert(identity.certificate.clone())
        .set_ice_lite(true)
        .set_rtp_mode(true)
        .set_extension_map(extensions)
        .set_rtcp_report_interval_audio(REPORT_INTERVAL)
        .set_rtcp_report_interval_video(REPORT_INTERVAL);
    config.clear_codecs()
}

/// Offers each track's codec with its own parameters; gives the number of each.
fn offer_codecs(config: &mut CodecConfig, tracks: &[(TrackId, Arc<Source>)]) -> Vec<Pt> {
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
        let is_video = source.kind() == Kind::Video;
        let (codec, rate, channels) = match source.codec {
            CodecName::Opus => (Codec::Opus, Frequency::FORTY_EIGHT_KHZ, Some(2)),
            CodecName::Vp8 => (Codec::Vp8, Frequency::NINETY_KHZ, None),
            CodecName::Vp9 => (Codec::Vp9, Frequency::NINETY_KHZ, None),
            CodecName::H264 => (Codec::H264, Frequency::NINETY_KHZ, None),
            CodecName::Av1 => (Codec::Av1, Frequency::NINETY_KHZ, None),
        };
        let format = source.fmtp.as_deref().map(FormatParams::parse_line).unwrap_or_default();
        let resend = is_video.then(|| Pt::from(number + 1));
        config.add_config(Pt::from(number), resend, codec, rate, channels, format);
        known.push((source, Pt::from(number)));
    }
    // There is nothing to choose by an estimate: a track has one quality.
    for params in config.iter_mut() {
        params.set_fb_transport_cc(false);
        params.set_fb_remb(false);
    }
    let number_of = |source: &Source| {
        let same = known.iter().find(|(other, _)| other.codec == source.codec && other.fmtp == source.fmtp);
        same.map_or(Pt::from(rtp::payload_number(source.codec)), |(_, number)| *number)
    };
    tracks.iter().map(|(_, source)| number_of(source)).collect()
}

/// Under which number he takes a track; `None` if he does not want it.
fn accepted_payload(rtc: &Rtc, line: &Line) -> Option<Pt> {
    let media = rtc.media(line.mid)?;
    if media.disabled() || media.stopped() || !media.direction().is_sending() {
        return None;
    }
    let accepted = media.remote_pts();
    if accepted.contains(&line.offered) {
        return Some(line.offered);
    }
    let wanted = line.source.codec.encoding_name();
    let params = rtc
        .codec_config()
        .iter()
        .find(|params| accepted.contains(&params.pt()) && params.spec().codec.to_string().eq_ignore_ascii_case(wanted));
    params.map(|params| params.pt())
}

fn failed(error: &RtcError) -> MediaError {
    match error {
        RtcError::RemoteSdp(message) => MediaError::Description(message.clone()),
        other => MediaError::Element { element: "viewer".into(), message: other.to_string() },
    }
}
