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
    change::{SdpAnswer, SdpOffer, SdpPendingOffer},
    config::DtlsCert,
    crypto::{CryptoProvider, from_feature_flags},
    media::{Direction, MediaKind, Mid, Pt},
    net::{Protocol, Receive, Transmit},
    rtp::{ExtensionValues, RtpWrite, Ssrc},
};
use tokio::sync::{mpsc, watch};

use super::{
    admission::Admission,
    counters::Counted,
    demux::PeerKey,
    describe::{
        accepted_payload, answer_codecs, configuration, offer_codecs, with_credentials, with_parameters,
        without_candidates,
    },
    gate::{Gate, Passage},
    inbox::{Datagram, Inbox},
    numbering::Numbering,
    source::{Packet, Source},
};
use crate::{
    media::{IceCredentials, Kind, MediaError, MediaEvent, description, graph::Stage, negotiation::AcceptedSection},
    room::id::{ConnectionId, TrackId},
};

/// Whose every path has failed may come back within this time, also from another address. A path fails when
/// five checks in a row and all of his own for 15 s are missing.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// Who asked to find other paths must have found one within this time.
const RESTARTED_WITHIN: Duration = Duration::from_secs(15);
/// Who sends checks from another address, and from where his media goes nothing for so long, has moved.
const MOVED_AFTER: Duration = Duration::from_secs(7);
/// How long a packet is kept to be sent again: a viewer asks ten times, a round trip apart.
const RESEND_AGE: Duration = Duration::from_secs(1);
/// Packets kept to be sent again at most: a second of 5 Mbit/s.
const RESEND_PACKETS: usize = 600;
/// The part of what is sent that may be sent again; a viewer who asks for more has no use for it.
const RESEND_SHARE: f32 = 0.4;
/// Addresses that one client may be known at.
const MAX_ADDRESSES: usize = 8;

/// What all sessions have in common.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    crypto: Arc<CryptoProvider>,
    certificate: DtlsCert,
    addresses: Arc<[SocketAddr]>,
    /// ICE and DTLS must be up so long after the viewer came.
    connect_timeout: Duration,
}

impl Identity {
    /// One certificate for the process: making one costs more than a session.
    pub(super) fn new(addresses: Vec<SocketAddr>, connect_timeout: Duration) -> Result<Self, MediaError> {
        let crypto: Arc<CryptoProvider> = Arc::new(from_feature_flags());
        let certificate = crypto.dtls_provider.generate_certificate();
        let certificate = certificate.ok_or_else(|| MediaError::Unavailable("a DTLS certificate".into()))?;
        Ok(Self { crypto, certificate, addresses: addresses.into(), connect_timeout })
    }

    fn build(&self, config: RtcConfig, now: Instant) -> Rtc {
        let mut rtc = config.build(now);
        for candidate in candidates(&self.addresses) {
            rtc.add_local_candidate(candidate);
        }
        rtc
    }
}

/// Our addresses, as clients are told them.
fn candidates(addresses: &[SocketAddr]) -> impl Iterator<Item = Candidate> {
    addresses.iter().filter_map(|address| Candidate::host(*address, Protocol::Udp).ok())
}

/// A viewer as he comes from the room.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) key: PeerKey,
    pub(super) connection: ConnectionId,
    pub(super) wants: Wants,
    pub(super) events: mpsc::UnboundedSender<MediaEvent>,
    pub(super) stage: watch::Sender<Stage>,
    pub(super) opened: Instant,
}

impl Opening {
    /// The room's ear, should there be no session.
    pub(super) fn told(&self) -> Told {
        Told { connection: self.connection.clone(), events: self.events.clone(), stage: self.stage.clone() }
    }
}

/// How a viewer's session begins.
#[derive(Debug)]
pub(super) enum Wants {
    /// With our offer of these tracks.
    Offer(Vec<(TrackId, Arc<Source>)>),
    /// With his own offer, and what goes into its sections.
    Answer {
        /// As it came.
        offer: String,
        media: Vec<(AcceptedSection, Arc<Source>)>,
    },
}

/// A viewer's session.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) key: PeerKey,
    rtc: Rtc,
    pending: Option<SdpPendingOffer>,
    /// His offer, as the session has read it; empty if we offered.
    offered: String,
    lines: Vec<Line>,
    told: Told,
    /// When he must be connected.
    connect_by: Instant,
    connect_timeout: Duration,
    /// He answers no checks, and is lost then.
    lost_at: Option<Instant>,
    /// Where we are.
    ours: Arc<[SocketAddr]>,
    /// Where he has shown to be, latest last, and when something came from there.
    addresses: Vec<(SocketAddr, Instant)>,
    /// Where his media goes.
    sends_to: Option<SocketAddr>,
    /// Where he was before he moved.
    left: Vec<SocketAddr>,
    admission: Admission,
    user: String,
    /// The latest time that the session was told of.
    newest: Instant,
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
    /// Its name, if we offered it.
    track: Option<TrackId>,
    source: Arc<Source>,
    mid: Mid,
    /// Under which number we know its codec.
    number: Pt,
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
    /// The track's numbers below this he has.
    from: u64,
}

/// A session of which the other side was told.
struct Described {
    rtc: Rtc,
    /// If it was an offer.
    pending: Option<SdpPendingOffer>,
    /// If it was his.
    offered: String,
    lines: Vec<Line>,
}

impl Described {
    fn offer(
        told: &Told,
        tracks: Vec<(TrackId, Arc<Source>)>,
        identity: &Identity,
        now: Instant,
    ) -> Result<Self, MediaError> {
        let mut config = configuration(identity.crypto.clone(), identity.certificate.clone());
        let numbers = offer_codecs(config.codec_config(), &tracks);
        let mut rtc = identity.build(config, now);
        let stream = told.connection.name.to_string();
        let mut changes = rtc.sdp_api();
        let mut lines = Vec::with_capacity(tracks.len());
        for ((track, source), number) in tracks.into_iter().zip(numbers) {
            let kind = if source.kind() == Kind::Video { MediaKind::Video } else { MediaKind::Audio };
            // One stream: browsers play in step what is in one.
            let mid = changes.add_media(kind, Direction::SendOnly, Some(stream.clone()), Some(track.to_string()), None);
            lines.push(Line { track: Some(track), source, mid, number, sending: None });
        }
        let (offer, pending) =
            changes.apply().ok_or_else(|| MediaError::Description("there is nothing to offer".into()))?;
        let sdp = with_parameters(&offer.to_sdp_string(), parameters(&lines));
        told.tell(offered(told, sdp, &lines));
        Ok(Self { rtc, pending: Some(pending), offered: String::new(), lines })
    }

    fn answer(
        told: &Told,
        offer: &str,
        media: Vec<(AcceptedSection, Arc<Source>)>,
        identity: &Identity,
        now: Instant,
    ) -> Result<Self, MediaError> {
        let refused = |error: String| MediaError::Description(error);
        if media.is_empty() {
            return Err(refused("what was asked for is gone".into()));
        }
        let mut config = configuration(identity.crypto.clone(), identity.certificate.clone());
        let numbers = answer_codecs(config.codec_config(), &media);
        let mut rtc = identity.build(config, now);
        let (sections, sources): (Vec<_>, Vec<_>) = media.into_iter().unzip();
        let mids = sections.iter().map(|section| Mid::from(section.mid.as_str()));
        let lines = mids.zip(sources).zip(numbers);
        let lines = lines.map(|((mid, source), number)| Line { track: None, source, mid, number, sending: None });
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
        Ok(Self { rtc, pending: None, offered: reduced, lines })
    }
}

/// Tells what each section of our offer is.
fn offered(told: &Told, sdp: String, lines: &[Line]) -> MediaEvent {
    let tracks = lines.iter().filter_map(|line| Some((line.mid.to_string(), line.track.clone()?)));
    MediaEvent::Offered { connection: told.connection.clone(), sdp, tracks: tracks.collect() }
}

/// The parameters of each payload number, as its publisher gave them.
fn parameters(lines: &[Line]) -> impl Iterator<Item = (u8, Option<&str>)> {
    lines.iter().map(|line| (*line.number, line.source.fmtp.as_deref()))
}

impl Peer {
    /// Offers the tracks, or answers his offer.
    ///
    /// # Errors
    /// With the room's ear, to say so.
    pub(super) fn open(opening: Opening, identity: &Identity) -> Result<Self, (Told, MediaError)> {
        let Opening { key, connection, wants, events, stage, opened } = opening;
        let told = Told { connection, events, stage };
        let described = match wants {
            Wants::Offer(tracks) => Described::offer(&told, tracks, identity, opened),
            Wants::Answer { offer, media } => Described::answer(&told, &offer, media, identity, opened),
        };
        match described {
            Ok(Described { mut rtc, pending, offered, lines }) => Ok(Self {
                key,
                user: rtc.direct_api().local_ice_credentials().ufrag,
                rtc,
                pending,
                offered,
                lines,
                told,
                connect_by: opened + identity.connect_timeout,
                connect_timeout: identity.connect_timeout,
                lost_at: None,
                ours: identity.addresses.clone(),
                addresses: Vec::new(),
                sends_to: None,
                left: Vec::new(),
                admission: Admission::new(opened),
                newest: opened,
                due: opened,
                _counted: Counted::new(),
            }),
            Err(error) => Err((told, error)),
        }
    }

    /// Our ICE user name for the session.
    pub(super) fn user(&self) -> &str {
        &self.user
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
        // The parameters are those we offered: he says what he takes of them, and str0m, which knows only
        // some, must not find others. Where he is, his checks tell: we send none to where nothing came from.
        let sdp = with_parameters(&without_candidates(sdp), parameters(&self.lines));
        let answer = SdpAnswer::from_sdp_string(&sdp).map_err(|error| refused(error.to_string()))?;
        self.rtc.sdp_api().accept_answer(pending, answer).map_err(|error| refused(error.to_string()))?;
        if self.stage() != Stage::Connected {
            self.told.stage.send_replace(Stage::Connecting);
        }
        self.restarted();
        Ok(())
    }

    /// Has him find other paths: by an offer of ours, or, if he offered, with his new credentials.
    pub(super) fn restart_ice(&mut self, theirs: Option<IceCredentials>) -> Result<(), MediaError> {
        let refused = |error: RtcError| MediaError::Description(error.to_string());
        let Some(theirs) = theirs else {
            let mut changes = self.rtc.sdp_api();
            changes.ice_restart(true);
            let (offer, pending) = changes.apply().expect("a restart is a change that is offered");
            self.pending = Some(pending);
            let sdp = with_parameters(&offer.to_sdp_string(), parameters(&self.lines));
            self.told.tell(offered(&self.told, sdp, &self.lines));
            return Ok(());
        };
        let offer = with_credentials(&self.offered, &theirs);
        let offer = SdpOffer::from_sdp_string(&offer).map_err(|error| MediaError::Description(error.to_string()))?;
        self.rtc.sdp_api().accept_offer(offer).map_err(refused)?;
        self.restarted();
        let ours = self.rtc.direct_api().local_ice_credentials();
        let candidates = candidates(&self.ours).map(|candidate| candidate.to_sdp_string()).collect();
        let ours = IceCredentials { ufrag: ours.ufrag, pwd: ours.pass };
        self.told.tell(MediaEvent::Restarted { connection: self.told.connection.clone(), ours, candidates });
        Ok(())
    }

    /// If ICE begins anew, the session knows no path any more; it sends to where he was until there is one.
    fn restarted(&mut self) {
        if self.rtc.direct_api().local_ice_credentials().ufrag != self.user {
            self.left.clear();
            self.lost_at = Some(self.newest + RESTARTED_WITHIN);
        }
    }

    /// The user name of before, if it has changed since this was asked.
    pub(super) fn renamed(&mut self) -> Option<String> {
        let user = self.rtc.direct_api().local_ice_credentials().ufrag;
        (user != self.user).then(|| std::mem::replace(&mut self.user, user))
    }

    /// Something came from him, or from somebody who says so.
    pub(super) fn receive(&mut self, datagram: &Datagram) -> Result<(), MediaError> {
        let Datagram { source, destination, received, bytes } = datagram;
        if !self.admission.takes(*source, bytes, *received) {
            return Ok(());
        }
        let known = self.addresses.iter_mut().find(|(address, _)| address == source);
        let is_his = known.is_some();
        if let Some((_, heard)) = known {
            *heard = *received;
        }
        if bytes.first() == Some(&0) && self.left.contains(source) {
            self.come_back(*source);
        }
        let Ok(receive) = Receive::new(Protocol::Udp, *source, *destination, bytes) else { return Ok(()) };
        self.newest = self.newest.max(*received);
        match self.rtc.handle_input(Input::Receive(self.newest, receive)) {
            Err(error @ RtcError::Dtls(_)) if is_his && self.stage() == Stage::Connecting => {
                Err(MediaError::Handshake(error.to_string()))
            }
            // Anybody who can fake an address may send such things; they are not for the session to end by.
            Err(error) => {
                tracing::debug!(connection = %self.told.connection, "a datagram is passed over: {error}");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, now: Instant) -> Result<(), MediaError> {
        if self.stage() != Stage::Connected && now >= self.connect_by {
            return Err(MediaError::ConnectTimeout(self.connect_timeout));
        }
        self.newest = self.newest.max(now);
        let now = self.newest;
        if self.lost_at.is_some_and(|lost| now >= lost) {
            return Err(MediaError::ConnectionLost);
        }
        self.rtc.handle_input(Input::Timeout(now)).map_err(|error| failed(&error))
    }

    /// Writes a packet of one of his tracks; true if it is on its way. [`tick`](Self::tick) and
    /// [`drain`](Self::drain) send it.
    pub(super) fn write(&mut self, source: &Source, packet: &Packet, rejoins: bool, now: Instant) -> bool {
        let mut written = false;
        self.newest = self.newest.max(packet.captured);
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
            written |= sending.write(&mut self.rtc, packet, first);
        }
        written
    }

    /// Collects what is to be sent, and acts on what happened. `inbox`: of the thread that does this.
    pub(super) fn drain(&mut self, inbox: &Arc<Inbox>, transmits: &mut Vec<Transmit>) -> Result<(), MediaError> {
        loop {
            match self.rtc.poll_output().map_err(|error| failed(&error))? {
                Output::Transmit(transmit) => {
                    // RFC 7983 §7: below that it is STUN, which goes everywhere.
                    if transmit.contents.first().is_some_and(|first| *first >= 20) {
                        self.sends_to = Some(transmit.destination);
                    }
                    transmits.push(transmit);
                }
                Output::Event(event) => self.on_event(event, inbox)?,
                Output::Timeout(due) => {
                    let late = (self.stage() != Stage::Connected).then_some(self.connect_by);
                    self.due = [self.lost_at, late].into_iter().flatten().fold(due, Instant::min);
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

    /// Where he is known.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.addresses.iter().map(|(address, _)| *address)
    }

    /// He has shown that he is at `address`; gives one that is to be forgotten for it.
    pub(super) fn seen_at(&mut self, address: SocketAddr, now: Instant) -> Option<SocketAddr> {
        self.addresses.retain(|(known, _)| *known != address);
        self.addresses.push((address, now));
        let has_left = |old: &SocketAddr| {
            let known = self.addresses.iter().find(|(known, _)| known == old);
            *old != address && known.is_some_and(|(_, heard)| now.saturating_duration_since(*heard) > MOVED_AFTER)
        };
        if let Some(old) = self.sends_to.filter(has_left) {
            tracing::debug!(connection = %self.told.connection, %old, %address, "he has moved");
            self.leave(old);
            self.sends_to = None;
        }
        if self.addresses.len() <= MAX_ADDRESSES {
            return None;
        }
        let oldest = self.addresses.iter().position(|(known, _)| Some(*known) != self.sends_to)?;
        Some(self.addresses.remove(oldest).0)
    }

    /// str0m would go on sending there until many checks were not answered.
    fn leave(&mut self, address: SocketAddr) {
        if let Some(candidate) = reflexive(address) {
            self.rtc.direct_api().invalidate_candidate(&candidate);
            self.left.push(address);
            self.left.drain(..self.left.len().saturating_sub(MAX_ADDRESSES));
        }
    }

    /// It ignores checks from where it was told that he has left.
    fn come_back(&mut self, address: SocketAddr) {
        self.left.retain(|left| *left != address);
        if let Some(candidate) = reflexive(address) {
            self.rtc.add_remote_candidate(candidate);
        }
    }

    fn stage(&self) -> Stage {
        *self.told.stage.borrow()
    }

    fn on_event(&mut self, event: Event, inbox: &Arc<Inbox>) -> Result<(), MediaError> {
        match event {
            Event::Connected => self.connected(inbox),
            Event::IceConnectionStateChange(IceConnectionState::Connected | IceConnectionState::Completed) => {
                self.lost_at = None;
            }
            Event::IceConnectionStateChange(_) if self.stage() == Stage::Connected => {
                self.lost_at.get_or_insert(self.newest + LOST_AFTER);
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
            let Some(payload) = accepted_payload(&self.rtc, line.mid, line.number, line.source.codec) else { continue };
            let mut direct = self.rtc.direct_api();
            let Some(stream) = direct.stream_tx_by_mid(line.mid, None) else { continue };
            stream.set_rtx_cache(RESEND_PACKETS, RESEND_AGE, Some(RESEND_SHARE));
            let gate = Gate::new(line.source.kind(), Instant::now());
            let mut sending = Sending { ssrc: stream.ssrc(), payload, gate, numbering: Numbering::new(), from: 0 };
            for packet in line.source.attach(inbox) {
                if matches!(sending.gate.pass(packet.starts_keyframe, Instant::now()), Passage::Pass | Passage::First) {
                    sending.write(&mut self.rtc, &packet, false);
                    sending.from = packet.sequence + 1;
                }
            }
            line.sending = Some(sending);
        }
        self.told.stage.send_replace(Stage::Connected);
        self.told.tell(MediaEvent::Connected { connection: self.told.connection.clone() });
    }
}

impl Sending {
    /// Writes a packet; false if he has it, or is not to have it any more. `rejoins`: numbers go on behind
    /// the last one.
    fn write(&mut self, rtc: &mut Rtc, packet: &Packet, rejoins: bool) -> bool {
        if packet.sequence < self.from {
            return false;
        }
        let Some(sequence) = self.numbering.number(packet.sequence, rejoins) else { return false };
        let mut direct = rtc.direct_api();
        let Some(stream) = direct.stream_tx(&self.ssrc) else { return false };
        let values = ExtensionValues {
            audio_level: packet.level.map(|level| level.peak_db),
            voice_activity: packet.level.map(|level| level.voice),
            ..Default::default()
        };
        let payload = packet.payload.clone();
        let write = RtpWrite::new(self.payload, sequence.into(), packet.timestamp, packet.captured, payload);
        stream.write_rtp(write.marker(packet.marker).ext_vals(values).nackable(self.gate.kind() == Kind::Video));
        true
    }
}

/// An address as the session knows it that only ever saw checks from there.
fn reflexive(address: SocketAddr) -> Option<Candidate> {
    let line = format!("candidate:0 1 udp 1 {} {} typ prflx", address.ip(), address.port());
    Candidate::from_sdp_string(&line).ok()
}

fn failed(error: &RtcError) -> MediaError {
    match error {
        RtcError::RemoteSdp(message) => MediaError::Description(message.clone()),
        other => MediaError::Element { element: "viewer".into(), message: other.to_string() },
    }
}
