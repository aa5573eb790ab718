//! One client's session: how it begins, where he is, how it ends. What is written to him or comes from him is
//! with [`watching`](super::watching) and [`publishing`](super::publishing).
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
    crypto::CryptoProvider,
    net::{Receive, TcpType, Transmit},
};
use tokio::sync::{mpsc, watch};

use super::{
    admission::Admission,
    demux::{PeerKey, Remote},
    describe::{with_credentials, with_parameters, without_candidates},
    downlink::SharedDownlink,
    dtls,
    inbox::{Datagram, Inbox},
    network::Network,
    publishing::{self, Publication, Publishing},
    source::{Packet, Source},
    watching::{self, Watching},
};
use crate::{
    media::{IceCredentials, LayerChoice, MediaError, MediaEvent, graph::Stage, negotiation::AcceptedSection},
    room::id::{ConnectionId, TrackId},
};

/// Whose every path has failed may come back within this time, also from another address. A path fails when
/// five checks in a row and all of his own for 15 s are missing.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// Who asked to find other paths must have found one within this time.
const RESTARTED_WITHIN: Duration = Duration::from_secs(15);
/// Who sends checks from another address, and from where his media goes nothing for so long, has moved.
/// Browsers check the path that they use every 2.5 s, and report every second what they receive.
const MOVED_AFTER: Duration = Duration::from_secs(4);
/// The same for a publisher of whom nothing else tells that he is there; whoever asks is told within 10 s.
const ALONE_SILENCE_LIMIT: Duration = Duration::from_secs(8);
/// Addresses that one client may be known at.
const MAX_ADDRESSES: usize = 8;

/// What all sessions have in common.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) crypto: Arc<CryptoProvider>,
    pub(super) certificate: DtlsCert,
    /// Where we are, as clients are told it.
    candidates: Arc<[Candidate]>,
    /// ICE and DTLS must be up so long after the client came.
    connect_timeout: Duration,
}

impl Identity {
    /// One certificate for the process: making one costs more than a session. `tcp`: we listen there too.
    pub(super) fn new(addresses: &[SocketAddr], tcp: bool, connect_timeout: Duration) -> Result<Self, MediaError> {
        let crypto: Arc<CryptoProvider> = Arc::new(dtls::crypto());
        let certificate = crypto.dtls_provider.generate_certificate();
        let certificate = certificate.ok_or_else(|| MediaError::Unavailable("a DTLS certificate".into()))?;
        Ok(Self { crypto, certificate, candidates: candidates(addresses, tcp), connect_timeout })
    }

    pub(super) fn build(&self, config: RtcConfig, now: Instant) -> Rtc {
        let mut rtc = config.build(now);
        for candidate in self.candidates.iter() {
            rtc.add_local_candidate(candidate.clone());
        }
        rtc
    }
}

/// Over TCP clients come to us (RFC 6544 §4.5: passive), which is less wanted than UDP.
fn candidates(addresses: &[SocketAddr], tcp: bool) -> Arc<[Candidate]> {
    let udp = addresses.iter().map(|address| Candidate::builder().udp().host(*address).build());
    let tcp = addresses.iter().filter(|_| tcp).map(|address| {
        let passive = Candidate::builder().tcp().host(*address).tcptype(TcpType::Passive);
        passive.build()
    });
    udp.chain(tcp).filter_map(Result::ok).collect()
}

/// A client as he comes from the room.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) key: PeerKey,
    pub(super) connection: ConnectionId,
    pub(super) wants: Wants,
    pub(super) downlink: SharedDownlink,
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

/// How a session begins.
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
    /// With his own offer of what he publishes.
    Publish(Publication),
}

/// What a session is for.
#[derive(Debug)]
pub(super) enum Role {
    Watches(Watching),
    Publishes(Publishing),
}

/// A client's session.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) key: PeerKey,
    rtc: Rtc,
    pending: Option<SdpPendingOffer>,
    /// His offer, as the session has read it; empty if we offered.
    offered: String,
    role: Role,
    told: Told,
    /// When he must be connected.
    connect_by: Instant,
    connect_timeout: Duration,
    /// He answers no checks, and is lost then.
    lost_at: Option<Instant>,
    /// Where we are.
    ours: Arc<[Candidate]>,
    /// Where he has shown to be, latest last, and when something came from there.
    addresses: Vec<(Remote, Instant)>,
    /// Where his media goes.
    sends_to: Option<Remote>,
    /// Where he was before he moved.
    left: Vec<Remote>,
    admission: Admission,
    /// If his packets are the only sign that he is there: when something came from him last.
    alone: Option<Instant>,
    user: String,
    /// When the last datagram came in.
    arrived: Instant,
    /// The latest time that the session was told of.
    newest: Instant,
    /// When he wants to be looked after again.
    pub(super) due: Instant,
}

/// The room's ear.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) connection: ConnectionId,
    events: mpsc::UnboundedSender<MediaEvent>,
    pub(super) stage: watch::Sender<Stage>,
}

impl Told {
    pub(super) fn tell(&self, event: MediaEvent) {
        // An error means that the room is gone, and this session about to be.
        let _ = self.events.send(event);
    }

    /// The session ended by itself.
    pub(super) fn end(&self, error: MediaError) {
        self.stage.send_replace(Stage::Ended);
        tracing::info!(connection = %self.connection, "connection ended: {error}");
        self.tell(MediaEvent::ConnectionEnded { connection: self.connection.clone(), error });
    }
}

/// A session of which the other side was told.
pub(super) struct Described {
    pub(super) rtc: Rtc,
    /// If it was an offer.
    pub(super) pending: Option<SdpPendingOffer>,
    /// If it was his.
    pub(super) offered: String,
    pub(super) role: Role,
}

impl Peer {
    /// Offers the tracks, or answers his offer.
    ///
    /// # Errors
    /// With the room's ear, to say so.
    pub(super) fn open(opening: Opening, identity: &Identity) -> Result<Self, (Told, MediaError)> {
        let Opening { key, connection, wants, downlink, events, stage, opened } = opening;
        let told = Told { connection, events, stage };
        let publishes = matches!(wants, Wants::Publish(_));
        let alone = matches!(&wants, Wants::Publish(publication) if publication.alone).then_some(opened);
        let described = match wants {
            Wants::Offer(tracks) => watching::offer(&told, tracks, identity, Network::new(key.id, downlink), opened),
            Wants::Answer { offer, media } => {
                watching::answer(&told, &offer, media, identity, Network::new(key.id, downlink), opened)
            }
            Wants::Publish(publication) => publishing::answer(&told, publication, identity, opened),
        };
        match described {
            Ok(Described { mut rtc, pending, offered, role }) => Ok(Self {
                key,
                user: rtc.direct_api().local_ice_credentials().ufrag,
                rtc,
                pending,
                offered,
                role,
                told,
                connect_by: opened + identity.connect_timeout,
                connect_timeout: identity.connect_timeout,
                lost_at: None,
                ours: identity.candidates.clone(),
                addresses: Vec::new(),
                sends_to: None,
                left: Vec::new(),
                admission: Admission::new(opened, publishes),
                alone,
                arrived: opened,
                newest: opened,
                due: opened,
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
        self.watching().into_iter().flat_map(Watching::sources)
    }

    /// The tracks that are written to him.
    pub(super) fn attached(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.watching().into_iter().flat_map(Watching::attached)
    }

    fn watching(&self) -> Option<&Watching> {
        match &self.role {
            Role::Watches(watching) => Some(watching),
            Role::Publishes(_) => None,
        }
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
        let parameters = self.watching().into_iter().flat_map(Watching::parameters);
        let sdp = with_parameters(&without_candidates(sdp), parameters);
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
            if let Some(watching) = self.watching() {
                let sdp = with_parameters(&offer.to_sdp_string(), watching.parameters());
                self.told.tell(watching.offered(&self.told, sdp));
            }
            return Ok(());
        };
        // Who asks is there.
        self.alone = self.alone.map(|_| self.newest);
        let offer = with_credentials(&self.offered, &theirs);
        let offer = SdpOffer::from_sdp_string(&offer).map_err(|error| MediaError::Description(error.to_string()))?;
        self.rtc.sdp_api().accept_offer(offer).map_err(refused)?;
        self.restarted();
        let ours = self.rtc.direct_api().local_ice_credentials();
        let candidates = self.ours.iter().map(Candidate::to_sdp_string).collect();
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
            self.alone = self.alone.map(|_| *received);
        }
        if bytes.first() == Some(&0) && self.left.contains(source) {
            self.come_back(*source);
        }
        let Ok(receive) = Receive::new(source.protocol, source.address, *destination, bytes) else { return Ok(()) };
        self.arrived = *received;
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
        if [self.lost_at, self.silent_at()].into_iter().flatten().any(|lost| now >= lost) {
            return Err(MediaError::ConnectionLost);
        }
        self.rtc.handle_input(Input::Timeout(now)).map_err(|error| failed(&error))
    }

    /// When he is gone if nothing comes from him, and nothing else tells.
    fn silent_at(&self) -> Option<Instant> {
        self.alone.filter(|_| self.stage() == Stage::Connected).map(|heard| heard + ALONE_SILENCE_LIMIT)
    }

    /// Writes a packet of one of his tracks; true if it is on its way. [`tick`](Self::tick) and
    /// [`drain`](Self::drain) send it.
    /// `inbox`: of the thread that does this.
    pub(super) fn write(
        &mut self,
        source: &Source,
        packet: &Packet,
        rejoins: bool,
        now: Instant,
        inbox: &Arc<Inbox>,
    ) -> bool {
        self.newest = self.newest.max(packet.captured);
        match &mut self.role {
            Role::Watches(watching) => watching.write(&mut self.rtc, source, packet, rejoins, now, inbox),
            Role::Publishes(_) => false,
        }
    }

    /// Of that track he wants that layer. `inbox`: of the thread that does this.
    pub(super) fn set_layer(
        &mut self,
        track: &TrackId,
        layer: LayerChoice,
        inbox: &Arc<Inbox>,
    ) -> Result<(), MediaError> {
        if let Role::Watches(watching) = &mut self.role {
            watching.set_layer(&self.told, track, layer, inbox, Instant::now());
        }
        Ok(())
    }

    /// What he reads since this was asked that he did not read before.
    pub(super) fn begun(&mut self) -> Vec<Arc<Source>> {
        match &mut self.role {
            Role::Watches(watching) => watching.begun(),
            Role::Publishes(_) => Vec::new(),
        }
    }

    /// Asks him for a keyframe of what is in that section; [`drain`](Self::drain) sends it.
    pub(super) fn request_keyframe(&mut self, section: usize, now: Instant) -> Result<(), MediaError> {
        if let Role::Publishes(publishing) = &mut self.role {
            publishing.request_keyframe(&mut self.rtc, section);
        }
        self.tick(now)
    }

    /// Collects what is to be sent, and acts on what happened. `inbox`: of the thread that does this.
    pub(super) fn drain(&mut self, inbox: &Arc<Inbox>, transmits: &mut Vec<Transmit>) -> Result<(), MediaError> {
        loop {
            match self.rtc.poll_output().map_err(|error| failed(&error))? {
                Output::Transmit(transmit) => {
                    // RFC 7983 §7: below that it is STUN, which goes everywhere.
                    if transmit.contents.first().is_some_and(|first| *first >= 20) {
                        self.sends_to = Some(Remote { protocol: transmit.proto, address: transmit.destination });
                    }
                    transmits.push(transmit);
                }
                Output::Event(event) => self.on_event(event, inbox)?,
                Output::Timeout(due) => {
                    let late = (self.stage() != Stage::Connected).then_some(self.connect_by);
                    self.due = [self.lost_at, self.silent_at(), late].into_iter().flatten().fold(due, Instant::min);
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
    pub(super) fn addresses(&self) -> impl Iterator<Item = Remote> {
        self.addresses.iter().map(|(address, _)| *address)
    }

    /// He has shown that he is at `address`; gives one that is to be forgotten for it.
    pub(super) fn seen_at(&mut self, address: Remote, now: Instant) -> Option<Remote> {
        self.addresses.retain(|(known, _)| *known != address);
        self.addresses.push((address, now));
        let has_left = |old: &Remote| {
            let known = self.addresses.iter().find(|(known, _)| known == old);
            *old != address && known.is_some_and(|(_, heard)| now.saturating_duration_since(*heard) > MOVED_AFTER)
        };
        if let Some(old) = self.sends_to.filter(has_left) {
            tracing::debug!(connection = %self.told.connection, ?old, ?address, "he has moved");
            self.leave(old);
            self.sends_to = None;
        }
        if self.addresses.len() <= MAX_ADDRESSES {
            return None;
        }
        let oldest = self.addresses.iter().position(|(known, _)| Some(*known) != self.sends_to)?;
        Some(self.addresses.remove(oldest).0)
    }

    /// His TCP connection is no more, and cannot come back.
    pub(super) fn hung_up(&mut self, address: Remote) -> Result<(), MediaError> {
        self.addresses.retain(|(known, _)| *known != address);
        self.leave(address);
        self.sends_to = self.sends_to.filter(|sends_to| *sends_to != address);
        Ok(())
    }

    /// str0m would go on sending there until many checks were not answered.
    fn leave(&mut self, address: Remote) {
        if let Some(candidate) = reflexive(address) {
            self.rtc.direct_api().invalidate_candidate(&candidate);
            self.left.push(address);
            self.left.drain(..self.left.len().saturating_sub(MAX_ADDRESSES));
        }
    }

    /// It ignores checks from where it was told that he has left.
    fn come_back(&mut self, address: Remote) {
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
            Event::Connected => {
                if let Role::Watches(watching) = &mut self.role {
                    watching.connected(&mut self.rtc, inbox);
                }
                self.told.stage.send_replace(Stage::Connected);
                self.told.tell(MediaEvent::Connected { connection: self.told.connection.clone() });
            }
            Event::IceConnectionStateChange(IceConnectionState::Connected | IceConnectionState::Completed) => {
                self.lost_at = None;
            }
            Event::IceConnectionStateChange(_) if self.stage() == Stage::Connected => {
                self.lost_at.get_or_insert(self.newest + LOST_AFTER);
            }
            Event::Closed => return Err(MediaError::ConnectionLost),
            Event::PeerStats(stats) => {
                if let Role::Watches(watching) = &mut self.role {
                    watching.look(&self.told, &stats, inbox);
                }
            }
            Event::MediaEgressStats(stats) => {
                if let (Role::Watches(watching), Some(loss)) = (&mut self.role, stats.loss) {
                    watching.has_lost(loss, stats.timestamp);
                }
            }
            Event::KeyframeRequest(request) => {
                if let Role::Watches(watching) = &self.role {
                    watching.request_keyframe(request.mid);
                }
            }
            Event::RtpPacket(packet) => {
                if let Role::Publishes(publishing) = &mut self.role {
                    for ssrc in publishing.take(&mut self.rtc, &packet, self.arrived) {
                        self.admission.prove(ssrc, self.newest);
                    }
                }
            }
            Event::SenderFeedback(report) => {
                if let Role::Publishes(publishing) = &self.role {
                    publishing.take_report(&report);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// An address as the session knows it that only ever saw checks from there.
fn reflexive(Remote { protocol, address }: Remote) -> Option<Candidate> {
    let line = format!("candidate:0 1 {protocol} 1 {} {} typ prflx", address.ip(), address.port());
    Candidate::from_sdp_string(&line).ok()
}

fn failed(error: &RtcError) -> MediaError {
    match error {
        RtcError::RemoteSdp(message) => MediaError::Description(message.clone()),
        other => MediaError::Element { element: "session".into(), message: other.to_string() },
    }
}
