//! One PeerConnection: a task and a socket.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use str0m::{
    Candidate, Event, Input, Output, Rtc,
    change::{SdpAnswer, SdpOffer, SdpPendingOffer},
    media::{Direction, Frequency, MediaKind, MediaTime, Mid},
    net::{Protocol, Receive},
};
use tokio::{
    net::UdpSocket,
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    clip::{CLIP, PICTURE, SOUND, Stamp},
    tally::Tally,
};

/// Larger than any datagram that WebRTC sends.
const MAX_DATAGRAM: usize = 2_048;
/// Datagrams read before others have their turn.
const READ_AT_ONCE: usize = 32;
/// Late by more, a sender leaves out what he missed.
const GIVE_UP: Duration = Duration::from_millis(500);

/// The task ends with this.
#[derive(Debug)]
pub struct Session {
    task: JoinHandle<()>,
    candidates: mpsc::UnboundedSender<String>,
    tally: Arc<Mutex<Tally>>,
    sends: Arc<AtomicBool>,
    /// It is connected, or has ended.
    changed: Arc<Notify>,
    /// What else ends with it.
    keeper: Option<JoinHandle<()>>,
}

impl Session {
    /// `keeper` is to end with it.
    pub fn kept_by(mut self, keeper: JoinHandle<()>) -> Self {
        self.keeper = Some(keeper);
        self
    }

    /// What it has seen so far.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A publisher sends, or rests; he sends from the start.
    pub fn send(&self, sends: bool) {
        self.sends.store(sends, Relaxed);
    }

    /// A path to the server that was not in its description, as in `a=candidate`.
    pub fn add_candidate(&self, candidate: &str) {
        // It is of no use to a session that has ended.
        let _ = self.candidates.send(candidate.to_owned());
    }

    /// Waits until it is connected.
    ///
    /// # Errors
    ///
    /// It ended, or did not connect in time.
    pub async fn connected(&self, limit: Duration) -> Result<()> {
        let settled = async {
            loop {
                // Made before it is looked: what changes meanwhile is not missed.
                let changed = self.changed.notified();
                if let Some(state) = self.state() {
                    return state;
                }
                changed.await;
            }
        };
        timeout(limit, settled).await.with_context(|| format!("not connected within {} s", limit.as_secs()))?
    }

    /// Nothing yet: it may still connect.
    fn state(&self) -> Option<Result<()>> {
        let tally = self.tally();
        if tally.connected.is_some() {
            return Some(Ok(()));
        }
        tally.ended.as_ref().map(|reason| Err(anyhow::anyhow!("the session ended before it was connected: {reason}")))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
        self.keeper.iter().for_each(JoinHandle::abort);
    }
}

/// A session that has offered.
#[derive(Debug)]
pub struct Offering {
    parts: Parts,
    pending: SdpPendingOffer,
    role: Role,
}

#[derive(Debug)]
struct Parts {
    rtc: Rtc,
    socket: UdpSocket,
    address: SocketAddr,
    tally: Tally,
}

#[derive(Debug)]
enum Role {
    Watches,
    Sends(Playing),
}

/// Offers to send the clip; `server` is where it will go.
///
/// # Errors
///
/// There is no socket on the way there.
pub async fn offer_to_send(server: IpAddr) -> Result<(Offering, String)> {
    let mut parts = Parts::new(server, false).await?;
    let mut changes = parts.rtc.sdp_api();
    let sound = changes.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
    let picture = changes.add_media(MediaKind::Video, Direction::SendOnly, None, None, None);
    let (offer, pending) = changes.apply().context("nothing to offer")?;
    Ok((Offering { parts, pending, role: Role::Sends(Playing::new(picture, sound)) }, offer.to_sdp_string()))
}

/// Offers to watch one picture and one sound.
///
/// # Errors
///
/// There is no socket on the way there.
pub async fn offer_to_watch(server: IpAddr) -> Result<(Offering, String)> {
    let mut parts = Parts::new(server, true).await?;
    let mut changes = parts.rtc.sdp_api();
    for kind in [MediaKind::Audio, MediaKind::Video] {
        changes.add_media(kind, Direction::RecvOnly, None, None, None);
    }
    let (offer, pending) = changes.apply().context("nothing to offer")?;
    Ok((Offering { parts, pending, role: Role::Watches }, offer.to_sdp_string()))
}

/// Watches what is offered; gives the answer.
///
/// # Errors
///
/// The offer is not understood, or there is no socket on the way there.
pub async fn watch(server: IpAddr, offer: &str, began: Tally) -> Result<(Session, String)> {
    let mut parts = Parts::new(server, true).await?;
    parts.tally = began;
    let offer = SdpOffer::from_sdp_string(offer).context("the server's offer")?;
    let answer = parts.rtc.sdp_api().accept_offer(offer).context("the server's offer")?;
    Ok((parts.run(Role::Watches), answer.to_sdp_string()))
}

impl Offering {
    /// Goes on with what the server says to the offer.
    ///
    /// # Errors
    ///
    /// The answer is not understood.
    pub fn answered(mut self, answer: &str) -> Result<Session> {
        let answer = SdpAnswer::from_sdp_string(answer).context("the server's answer")?;
        self.parts.rtc.sdp_api().accept_answer(self.pending, answer).context("the server's answer")?;
        Ok(self.parts.run(self.role))
    }
}

impl Parts {
    async fn new(server: IpAddr, watches: bool) -> Result<Self> {
        let tally = Tally::begin();
        // Where datagrams to the server leave this machine; nothing is sent.
        let probe = UdpSocket::bind(SocketAddr::new(any(server), 0)).await?;
        probe.connect((server, 9)).await.context("there is no way to the server")?;
        let socket = UdpSocket::bind((probe.local_addr()?.ip(), 0)).await?;
        let address = socket.local_addr()?;
        let mut config = Rtc::builder().set_rtp_mode(watches);
        if !watches {
            config = config.clear_codecs().enable_opus(true, false).enable_vp8(true);
        }
        let mut rtc = config.build(Instant::now());
        rtc.add_local_candidate(Candidate::host(address, Protocol::Udp)?);
        Ok(Self { rtc, socket, address, tally })
    }

    fn run(self, role: Role) -> Session {
        let (candidates, added) = mpsc::unbounded_channel();
        let tally = Arc::new(Mutex::new(self.tally));
        let sends = Arc::new(AtomicBool::new(true));
        let changed = Arc::new(Notify::new());
        let running = Running {
            rtc: self.rtc,
            socket: self.socket,
            address: self.address,
            tally: tally.clone(),
            sends: sends.clone(),
            changed: changed.clone(),
            role,
        };
        Session { task: tokio::spawn(running.run(added)), candidates, tally, sends, changed, keeper: None }
    }
}

fn any(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}

struct Running {
    rtc: Rtc,
    socket: UdpSocket,
    address: SocketAddr,
    tally: Arc<Mutex<Tally>>,
    sends: Arc<AtomicBool>,
    changed: Arc<Notify>,
    role: Role,
}

impl Running {
    async fn run(mut self, mut candidates: mpsc::UnboundedReceiver<String>) {
        let ended = self.until_it_ends(&mut candidates).await;
        let reason = ended.err().map_or_else(|| "closed by the server".to_owned(), |error| error.to_string());
        self.seen().ended = Some(reason);
        self.changed.notify_waiters();
    }

    async fn until_it_ends(&mut self, candidates: &mut mpsc::UnboundedReceiver<String>) -> Result<()> {
        let mut buffer = [0; MAX_DATAGRAM];
        let mut datagram = 0;
        while self.rtc.is_alive() {
            let mut due = self.drain(datagram)?;
            datagram = 0;
            if let Role::Sends(playing) = &self.role
                && let Some(next) = playing.due()
            {
                due = due.min(next);
            }
            tokio::select! {
                biased;
                candidate = candidates.recv() => {
                    let Some(candidate) = candidate else { return Ok(()) };
                    if let Ok(candidate) = Candidate::from_sdp_string(&candidate) {
                        self.rtc.add_remote_candidate(candidate);
                    }
                    self.rtc.handle_input(Input::Timeout(Instant::now()))?;
                }
                received = self.socket.recv_from(&mut buffer) => {
                    let mut next = received.ok();
                    for _ in 0..READ_AT_ONCE {
                        let Some((length, source)) = next else { break };
                        datagram = length;
                        self.receive(source, &buffer[..length]);
                        self.drain(datagram)?;
                        next = self.socket.try_recv_from(&mut buffer).ok();
                    }
                    if let Some((length, source)) = next {
                        datagram = length;
                        self.receive(source, &buffer[..length]);
                    }
                }
                () = tokio::time::sleep_until(due.into()) => self.rtc.handle_input(Input::Timeout(Instant::now()))?,
            }
            self.play()?;
        }
        Ok(())
    }

    /// What is not for this session is passed over.
    fn receive(&mut self, source: SocketAddr, datagram: &[u8]) {
        if let Ok(receive) = Receive::new(Protocol::Udp, source, self.address, datagram) {
            let _ = self.rtc.handle_input(Input::Receive(Instant::now(), receive));
        }
    }

    /// `datagram`: the length of the one that went in last.
    fn drain(&mut self, datagram: usize) -> Result<Instant> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(due) => return Ok(due),
                Output::Transmit(it) => {
                    if let Role::Sends(_) = self.role {
                        self.seen().send(&it.contents);
                    }
                    // What the kernel does not take now is a packet that was lost.
                    let _ = self.socket.try_send_to(&it.contents, it.destination);
                }
                Output::Event(event) => self.note(event, datagram),
            }
        }
    }

    fn note(&mut self, event: Event, datagram: usize) {
        match event {
            Event::Connected => {
                self.seen().connect();
                self.changed.notify_waiters();
                if let Role::Sends(playing) = &mut self.role {
                    playing.begin();
                }
            }
            Event::RtpPacket(packet) => self.seen().receive(&packet, datagram),
            Event::KeyframeRequest(_) => {
                if let Role::Sends(playing) = &mut self.role {
                    playing.picture = 0;
                }
            }
            _ => {}
        }
    }

    fn play(&mut self) -> Result<()> {
        let sends = self.sends.load(Relaxed);
        loop {
            let Role::Sends(playing) = &mut self.role else { return Ok(()) };
            let Some((mid, time, data)) = playing.next(sends, Instant::now()) else { return Ok(()) };
            let Some(writer) = self.rtc.writer(mid) else { continue };
            let Some(number) = writer.payload_params().next().map(|params| params.pt()) else { continue };
            writer.write(number, Instant::now(), time, data)?;
            self.rtc.handle_input(Input::Timeout(Instant::now()))?;
            self.drain(0)?;
        }
    }

    fn seen(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a publisher is in the clip.
#[derive(Debug)]
struct Playing {
    picture_mid: Mid,
    sound_mid: Mid,
    /// Since when, once connected; and how many of each are gone since.
    began: Option<Instant>,
    pictures: u32,
    sounds: u32,
    /// The next of the clip's pictures.
    picture: usize,
}

impl Playing {
    fn new(picture_mid: Mid, sound_mid: Mid) -> Self {
        Self { picture_mid, sound_mid, began: None, pictures: 0, sounds: 0, picture: 0 }
    }

    fn begin(&mut self) {
        self.began.get_or_insert_with(Instant::now);
    }

    /// When the next one goes.
    fn due(&self) -> Option<Instant> {
        let began = self.began?;
        Some((began + PICTURE * self.pictures).min(began + SOUND * self.sounds))
    }

    /// What is to go now, if anything: its section, its time and itself.
    fn next(&mut self, sends: bool, now: Instant) -> Option<(Mid, MediaTime, Arc<[u8]>)> {
        loop {
            let due = self.due().filter(|due| *due <= now)?;
            let is_picture = self.began? + PICTURE * self.pictures == due;
            let count = if is_picture { &mut self.pictures } else { &mut self.sounds };
            let index = *count;
            *count += 1;
            if !sends || now - due > GIVE_UP {
                self.picture = 0;
                continue;
            }
            if !is_picture {
                let sounds = &CLIP.sounds;
                let sound = sounds[index as usize % sounds.len()].clone();
                let time = MediaTime::new(u64::from(index) * 960, Frequency::FORTY_EIGHT_KHZ);
                return Some((self.sound_mid, time, sound));
            }
            let picture = CLIP.pictures[self.picture].as_slice();
            let stamped = Stamp::now(self.picture == 0).put(picture);
            self.picture = (self.picture + 1) % CLIP.pictures.len();
            let time = MediaTime::new(u64::from(index) * 3_600, Frequency::NINETY_KHZ);
            return Some((self.picture_mid, time, stamped.into()));
        }
    }
}
