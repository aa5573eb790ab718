//! A session with a camera: described, set up, playing, torn down.

use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use super::{
    RtspError, Source, Stream, Transport,
    auth::Auth,
    describe::{self, target_of},
    message::{self, Incoming, Response},
    udp::{self, Pair},
    wire::{Wire, wrapped},
};
use crate::{ingest::IngestUri, media::Kind};

/// An answer must come within this.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// A camera that sends nothing for so long is as good as gone.
const STALL_LIMIT: Duration = Duration::from_secs(2);
/// It may take longer for its first packet: some wait for their next keyframe.
const FIRST_LIMIT: Duration = Duration::from_secs(6);
/// It is told that we go, and may take so long to hear it.
const TEARDOWN_LIMIT: Duration = Duration::from_millis(500);
/// How often one may be sent elsewhere.
const MOST_REDIRECTS: usize = 3;
/// Messages and packets that wait; a camera that is ahead is slowed down (TCP) or loses some (UDP).
const QUEUE: usize = 1024;
/// Packets that come before PLAY is answered, and are kept.
const MOST_EARLY: usize = 256;
/// A session's life without a sign of us, if the camera does not say (RFC 2326 §12.37).
const USUAL_TIMEOUT: Duration = Duration::from_secs(60);

/// A packet of a camera.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Of which of its [`streams`](Camera::streams).
    pub stream: usize,
    /// A report, not media.
    pub rtcp: bool,
    /// The whole RTP or RTCP packet, not looked at.
    pub bytes: Bytes,
}

/// What the reading tasks pass on.
#[derive(Debug)]
pub(super) enum Received {
    Message(Incoming),
    Packet {
        stream: usize,
        rtcp: bool,
        bytes: Bytes,
    },
    /// The connection is over.
    Over(RtspError),
}

/// A session. Dropping it hangs up; [`close`](Self::close) says good-bye first.
pub struct Camera {
    uri: IngestUri,
    auth: Auth,
    streams: Vec<Stream>,
    ways: Vec<Way>,
    /// Path and query that PLAY and TEARDOWN name.
    aggregate: String,
    session: Option<String>,
    keepalive: (Duration, &'static str),
    kept_alive: Instant,
    cseq: u32,
    /// The number of the keep-alive that was sent last.
    pending_keepalive: Option<u32>,
    /// Came while an answer was waited for.
    early: VecDeque<Packet>,
    /// When media of each stream came last.
    heard: Vec<Instant>,
    has_sent: bool,
    tunnelled: bool,
    local: std::net::IpAddr,
    peer: std::net::IpAddr,
    writer: mpsc::Sender<Vec<u8>>,
    /// For tasks that read datagrams.
    sender: mpsc::Sender<Received>,
    received: mpsc::Receiver<Received>,
    tasks: JoinSet<()>,
}

/// How a stream's packets come.
#[derive(Debug)]
enum Way {
    Channels(u8, u8),
    Udp { pair: Pair, report_to: Option<std::net::SocketAddr> },
}

impl Camera {
    /// Dials, asks what there is, and sets up what is wanted of it.
    ///
    /// # Errors
    /// As [`RtspError`] says.
    pub async fn open(source: &Source) -> Result<Self, RtspError> {
        let mut source = source.clone();
        for _ in 0..=MOST_REDIRECTS {
            let mut camera = Self::dial(&source).await?;
            match camera.describe(&source).await? {
                Described::Streams => {
                    camera.set_up(source.transport).await?;
                    return Ok(camera);
                }
                // Its address is looked at when it is dialled, as every other. What the first was told
                // of us, a name and a password, is not for another host.
                Described::Elsewhere(uri) => {
                    if uri.host != source.uri.host {
                        source.credentials = None;
                    }
                    source.uri = uri;
                }
            }
        }
        Err(RtspError::Protocol(format!("more than {MOST_REDIRECTS} redirects")))
    }

    /// What was set up: at most one picture and one sound.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// Whether packets come as datagrams.
    pub fn is_udp(&self) -> bool {
        self.ways.iter().any(|way| matches!(way, Way::Udp { .. }))
    }

    /// Has it begin.
    ///
    /// # Errors
    /// As [`RtspError`] says.
    pub async fn play(&mut self) -> Result<(), RtspError> {
        let aggregate = self.aggregate.clone();
        let answer = self.ask("PLAY", &aggregate, "Range: npt=0.000-\r\n").await?;
        expect_ok("PLAY", &answer)?;
        self.heard = vec![Instant::now(); self.streams.len()];
        self.kept_alive = Instant::now();
        Ok(())
    }

    /// The next packet. Keeps the session alive meanwhile, and may be dropped at any moment.
    ///
    /// # Errors
    /// [`RtspError::Stalled`], [`RtspError::Closed`], [`RtspError::Protocol`].
    pub async fn next(&mut self) -> Result<Packet, RtspError> {
        loop {
            if let Some(packet) = self.early.pop_front() {
                return Ok(self.heard(packet));
            }
            let (limit, stalls_at) = self.stalls_at();
            let keepalive_at = self.kept_alive + self.keepalive.0;
            match timeout_at(stalls_at.min(keepalive_at), self.received.recv()).await {
                Ok(Some(Received::Packet { stream, rtcp, bytes })) => {
                    return Ok(self.heard(Packet { stream, rtcp, bytes }));
                }
                Ok(Some(Received::Message(message))) => {
                    if let Some(packet) = self.take(message)? {
                        return Ok(self.heard(packet));
                    }
                }
                Ok(Some(Received::Over(error))) => return Err(error),
                Ok(None) => return Err(RtspError::Closed),
                Err(_) if Instant::now() >= stalls_at => return Err(RtspError::Stalled(limit)),
                Err(_) => self.keep_alive(),
            }
        }
    }

    /// Sends a receiver report.
    pub fn report(&self, stream: usize, bytes: &[u8]) {
        match self.ways.get(stream) {
            Some(Way::Channels(_, channel)) => {
                let Ok(length) = u16::try_from(bytes.len()) else { return };
                let framed = [&[b'$', *channel][..], &length.to_be_bytes(), bytes].concat();
                // One that finds no room is of no use later.
                let _ = self.writer.try_send(wrapped(framed, self.tunnelled));
            }
            Some(Way::Udp { pair, report_to: Some(to) }) => {
                let _ = pair.rtcp.try_send_to(bytes, *to);
            }
            Some(Way::Udp { .. }) | None => {}
        }
    }

    /// Tells the camera that we go, so that it is free for the next at once.
    pub async fn close(mut self) {
        if self.session.is_some() {
            let aggregate = self.aggregate.clone();
            let _ = timeout(TEARDOWN_LIMIT, self.ask("TEARDOWN", &aggregate, "")).await;
        }
    }

    async fn dial(source: &Source) -> Result<Self, RtspError> {
        let Wire { mut reader, mut writer, tunnelled, ends } = Wire::open(source).await?;
        let (sender, received) = mpsc::channel(QUEUE);
        let (outgoing, mut to_write) = mpsc::channel::<Vec<u8>>(64);
        let mut tasks = JoinSet::new();
        let to = sender.clone();
        tasks.spawn(async move {
            let mut buffer = BytesMut::with_capacity(64 * 1024);
            let error = loop {
                match message::take(&mut buffer) {
                    Ok(Some(message)) => match to.send(Received::Message(message)).await {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                    Ok(None) => {}
                    Err(problem) => break RtspError::Protocol(problem),
                }
                if reader.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                    break RtspError::Closed;
                }
            };
            let _ = to.send(Received::Over(error)).await;
        });
        tasks.spawn(async move {
            while let Some(bytes) = to_write.recv().await {
                if writer.write_all(&bytes).await.and(writer.flush().await).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            uri: source.uri.clone(),
            auth: Auth::new(source.credentials.clone()),
            streams: Vec::new(),
            ways: Vec::new(),
            aggregate: source.uri.target().to_owned(),
            session: None,
            keepalive: (USUAL_TIMEOUT / 2, "OPTIONS"),
            kept_alive: Instant::now(),
            cseq: 0,
            pending_keepalive: None,
            early: VecDeque::new(),
            heard: Vec::new(),
            has_sent: false,
            tunnelled,
            local: ends.0.ip(),
            peer: ends.1.ip(),
            writer: outgoing,
            sender,
            received,
            tasks,
        })
    }

    async fn describe(&mut self, source: &Source) -> Result<Described, RtspError> {
        let target = self.aggregate.clone();
        let options = self.ask("OPTIONS", &target, "").await?;
        if options.header("Public").is_some_and(|methods| methods.contains("GET_PARAMETER")) {
            self.keepalive.1 = "GET_PARAMETER";
        }
        let answer = self.ask("DESCRIBE", &target, "Accept: application/sdp\r\n").await?;
        if (300..400).contains(&answer.status) {
            let place = answer.header("Location").ok_or_else(|| RtspError::Protocol("a redirect to nowhere".into()))?;
            let elsewhere =
                IngestUri::parse(place).map_err(|error| RtspError::Protocol(format!("its redirect {error}")))?;
            return Ok(Described::Elsewhere(elsewhere.0));
        }
        expect_ok("DESCRIBE", &answer)?;
        let base = answer.header("Content-Base").or_else(|| answer.header("Content-Location"));
        let base = base.and_then(target_of).unwrap_or(target);
        (self.streams, self.aggregate) = describe::read(&answer.body, &base, source.video, source.audio)?;
        Ok(Described::Streams)
    }

    async fn set_up(&mut self, transport: Transport) -> Result<(), RtspError> {
        for index in 0..self.streams.len() {
            let first = if transport == Transport::Udp { Transport::Udp } else { Transport::Tcp };
            match self.set_up_one(index, first).await {
                // What was agreed for the first stream is what the camera can.
                Err(RtspError::Status { status: 461, .. }) if transport == Transport::Auto && index == 0 => {
                    return Box::pin(self.set_up(Transport::Udp)).await;
                }
                result => result?,
            }
        }
        Ok(())
    }

    async fn set_up_one(&mut self, index: usize, transport: Transport) -> Result<(), RtspError> {
        let control = self.streams[index].control.clone();
        let (own, pair) = match transport {
            Transport::Udp => {
                let pair = Pair::bind(self.local).await?;
                let (rtp, rtcp) = pair.ports().ok_or(RtspError::Closed)?;
                (format!("RTP/AVP;unicast;client_port={rtp}-{rtcp}"), Some(pair))
            }
            _ => (format!("RTP/AVP/TCP;unicast;interleaved={}-{}", 2 * index, 2 * index + 1), None),
        };
        let answer = self.ask("SETUP", &control, &format!("Transport: {own}\r\n")).await?;
        expect_ok("SETUP", &answer)?;
        self.take_session(&answer)?;
        let theirs = answer.header("Transport").unwrap_or_default().to_owned();
        let way = match pair {
            None => {
                let channels = numbers(&theirs, "interleaved")
                    .and_then(|(a, b)| Some((u8::try_from(a).ok()?, u8::try_from(b).ok()?)));
                let (rtp, rtcp) = channels.unwrap_or((2 * index as u8, 2 * index as u8 + 1));
                Way::Channels(rtp, rtcp)
            }
            Some(pair) => {
                let ports = numbers(&theirs, "server_port");
                if let Some(ports) = ports {
                    pair.punch(self.peer, ports).await;
                }
                for (socket, rtcp) in [(&pair.rtp, false), (&pair.rtcp, true)] {
                    self.tasks.spawn(udp::receive(socket.clone(), self.peer, index, rtcp, self.sender.clone()));
                }
                Way::Udp { pair, report_to: ports.map(|(_, rtcp)| (self.peer, rtcp).into()) }
            }
        };
        self.ways.push(way);
        Ok(())
    }

    fn take_session(&mut self, answer: &Response) -> Result<(), RtspError> {
        let header = answer.header("Session").ok_or_else(|| RtspError::Protocol("SETUP without a session".into()))?;
        let mut parts = header.split(';').map(str::trim);
        let id = parts.next().unwrap_or_default();
        if id.is_empty() || id.len() > 256 || !id.chars().all(|c| c.is_ascii_graphic()) {
            return Err(RtspError::Protocol("a session without a name".into()));
        }
        self.session = Some(id.to_owned());
        let seconds = parts.find_map(|part| part.strip_prefix("timeout=")?.trim().parse::<u64>().ok());
        if let Some(seconds) = seconds {
            self.keepalive.0 = Duration::from_secs(seconds.clamp(4, 120)) / 2;
        }
        Ok(())
    }

    /// Sends a request and waits for its answer; once more with credentials if the camera asks for them.
    async fn ask(&mut self, method: &'static str, target: &str, headers: &str) -> Result<Response, RtspError> {
        let deadline = Instant::now() + ANSWER_LIMIT;
        let answering = async {
            let answer = self.ask_once(method, target, headers).await?;
            if answer.status != 401 {
                return Ok(answer);
            }
            self.auth.challenge(&answer)?;
            let answer = self.ask_once(method, target, headers).await?;
            if answer.status == 401 { Err(RtspError::Unauthorised) } else { Ok(answer) }
        };
        let late = |_| RtspError::Timeout { method, limit: ANSWER_LIMIT };
        timeout_at(deadline, answering).await.map_err(late)?
    }

    async fn ask_once(&mut self, method: &'static str, target: &str, headers: &str) -> Result<Response, RtspError> {
        let request = self.request(method, target, headers);
        let asked = self.cseq;
        self.writer.send(request).await.map_err(|_| RtspError::Closed)?;
        loop {
            match self.received.recv().await {
                Some(Received::Message(Incoming::Response(answer))) => {
                    // Servers that leave the number out answer in order, as they must.
                    if answer.cseq().is_none_or(|cseq| cseq == asked) {
                        return Ok(answer);
                    }
                }
                Some(Received::Message(message)) => {
                    let packet = self.take(message)?;
                    self.keep_early(packet);
                }
                Some(Received::Packet { stream, rtcp, bytes }) => self.keep_early(Some(Packet { stream, rtcp, bytes })),
                Some(Received::Over(error)) => return Err(error),
                None => return Err(RtspError::Closed),
            }
        }
    }

    fn keep_early(&mut self, packet: Option<Packet>) {
        if self.early.len() < MOST_EARLY {
            self.early.extend(packet);
        }
    }

    fn request(&mut self, method: &str, target: &str, headers: &str) -> Vec<u8> {
        self.cseq += 1;
        let uri = self.uri.at(target);
        let mut text = format!("{method} {uri} RTSP/1.0\r\nCSeq: {}\r\nUser-Agent: Salon\r\n{headers}", self.cseq);
        if let Some(session) = &self.session {
            text.push_str(&format!("Session: {session}\r\n"));
        }
        if let Some(authorization) = self.auth.header(method, &uri) {
            text.push_str(&format!("Authorization: {authorization}\r\n"));
        }
        text.push_str("\r\n");
        wrapped(text.into_bytes(), self.tunnelled)
    }

    /// What a message means while nobody waits for an answer.
    fn take(&mut self, message: Incoming) -> Result<Option<Packet>, RtspError> {
        match message {
            Incoming::Data { channel, bytes } => Ok(self.packet(channel, bytes)),
            Incoming::Request(request) => {
                let answer = format!("RTSP/1.0 501 Not Implemented\r\nCSeq: {}\r\n\r\n", request.cseq());
                let _ = self.writer.try_send(wrapped(answer.into_bytes(), self.tunnelled));
                Ok(None)
            }
            Incoming::Response(answer) => {
                let is_keepalive = self.pending_keepalive.is_some() && answer.cseq() == self.pending_keepalive;
                match answer.status {
                    401 if is_keepalive => {
                        self.pending_keepalive = None;
                        self.auth.challenge(&answer)?;
                        self.keep_alive();
                    }
                    454 => return Err(RtspError::Status { method: "keep-alive", status: 454 }),
                    _ => {}
                }
                Ok(None)
            }
        }
    }

    fn packet(&self, wanted: u8, bytes: Bytes) -> Option<Packet> {
        let found = self.ways.iter().enumerate().find_map(|(stream, way)| match way {
            Way::Channels(rtp, _) if *rtp == wanted => Some((stream, false)),
            Way::Channels(_, rtcp) if *rtcp == wanted => Some((stream, true)),
            Way::Channels(..) | Way::Udp { .. } => None,
        });
        found.map(|(stream, rtcp)| Packet { stream, rtcp, bytes })
    }

    fn heard(&mut self, packet: Packet) -> Packet {
        if !packet.rtcp
            && let Some(heard) = self.heard.get_mut(packet.stream)
        {
            *heard = Instant::now();
            self.has_sent = true;
        }
        packet
    }

    /// The picture decides: sound alone is not what a camera is for. Without one, the sound does.
    fn stalls_at(&self) -> (Duration, Instant) {
        let watched = self.streams.iter().position(|stream| stream.kind == Kind::Video).unwrap_or(0);
        let limit = if self.has_sent { STALL_LIMIT } else { FIRST_LIMIT };
        (limit, self.heard.get(watched).copied().unwrap_or_else(Instant::now) + limit)
    }

    fn keep_alive(&mut self) {
        self.kept_alive = Instant::now();
        let (method, target) = (self.keepalive.1, self.aggregate.clone());
        let request = self.request(method, &target, "");
        self.pending_keepalive = Some(self.cseq);
        let _ = self.writer.try_send(request);
    }
}

enum Described {
    Streams,
    Elsewhere(IngestUri),
}

fn expect_ok(method: &'static str, answer: &Response) -> Result<(), RtspError> {
    match answer.status {
        200..300 => Ok(()),
        401 | 403 => Err(RtspError::Unauthorised),
        404 => Err(RtspError::NotFound),
        status => Err(RtspError::Status { method, status }),
    }
}

/// The two numbers of `name=1-2` in a `Transport` header; a single one stands for itself and the next.
fn numbers(transport: &str, name: &str) -> Option<(u16, u16)> {
    let value = transport.split(';').find_map(|part| part.trim().strip_prefix(name)?.trim().strip_prefix('='))?;
    let (first, second) = value.split_once('-').unwrap_or((value, ""));
    let first: u16 = first.trim().parse().ok().filter(|port| *port < u16::MAX)?;
    Some((first, second.trim().parse().unwrap_or(first + 1)))
}
