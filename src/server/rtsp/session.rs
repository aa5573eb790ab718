//! One player's connection: what he asks, and the packets he gets.

use std::{io, net::SocketAddr, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{Instant, interval, timeout},
};

use super::{
    access::{Named, Refusal},
    description::description,
    report::{Anchor, Reporter},
    way::Way,
};
use crate::{
    ingest::rtsp::message::{self, Incoming, Request},
    media::{CodecName, output::RtpPiece},
    room::{
        RoomHandle,
        id::random_text,
        model::{OutputOf, Playing},
    },
    server::players::{Grant, House, admit},
};

/// A player of whom nothing is heard for so long, neither request nor report, is gone. He is told 60.
const SILENCE_LIMIT: Duration = Duration::from_secs(75);
/// Whoever was not let in to anything within this is not waited for.
const SETUP_LIMIT: Duration = Duration::from_secs(20);
/// The connection takes nothing for so long.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// How often it is looked whether he may still see it.
const RECHECK: Duration = Duration::from_secs(5);
/// How often what a connection asks for is made anew, which players do once or twice.
const MOST_OPENED: usize = 32;
/// How often all that is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Packets that are written at once.
const BATCH: usize = 64;
const METHODS: &str = "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER, SET_PARAMETER";

/// Why a connection is over.
#[derive(Debug)]
pub(super) enum End {
    HungUp,
    TornDown,
    Silent,
    TooSlow,
    /// What he sends is no RTSP.
    Protocol,
    /// The room, or what it showed of itself, is gone.
    Over,
    /// He may see it no more.
    Dismissed,
}

/// A connection, its session, and what it plays.
pub(super) struct Session {
    house: House,
    peer: SocketAddr,
    local: SocketAddr,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    buffer: BytesMut,
    id: String,
    show: Option<Show>,
    born: Instant,
    heard: Instant,
    checked: Instant,
    opens: usize,
}

/// What was described, and may be played.
struct Show {
    named: Named,
    of: OutputOf,
    room: RoomHandle,
    grant: Grant,
    codecs: Vec<CodecName>,
    /// From DESCRIBE on, so that the mix runs by the time it is played.
    pieces: mpsc::Receiver<RtpPiece>,
    ways: Vec<Option<Way>>,
    reporters: Vec<Reporter>,
    anchor: Option<Anchor>,
    playing: bool,
}

/// An answer.
struct Answer {
    status: &'static str,
    headers: String,
    body: String,
}

impl Answer {
    fn new(status: &'static str, headers: impl Into<String>) -> Self {
        Self { status, headers: headers.into(), body: String::new() }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unauthorised => Self::new("401 Unauthorized", "WWW-Authenticate: Basic realm=\"Salon\"\r\n"),
            Refusal::NotFound => Self::new("404 Not Found", ""),
            // The reason is all that most players show.
            Refusal::BadEffects => Self::new("400 effects is on or off and the mix has its own", ""),
            Refusal::OnlyWithEffects => {
                Self::new("403 Your role does not allow to see others without their effects", "")
            }
            Refusal::Unsupported => Self::new("415 Unsupported Media Type", ""),
            Refusal::TooMuch => Self::new("453 Not Enough Bandwidth", ""),
        }
    }
}

impl Session {
    pub(super) fn new(house: House, stream: TcpStream, peer: SocketAddr) -> io::Result<Self> {
        let local = stream.local_addr()?;
        // A packet is worth more now than later with others.
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let (buffer, id) = (BytesMut::with_capacity(4096), random_text(16));
        let born = Instant::now();
        let (show, heard, checked, opens) = (None, born, born, 0);
        Ok(Self { house, peer, local, reader, writer, buffer, id, show, born, heard, checked, opens })
    }

    /// Until either side ends it.
    pub(super) async fn run(mut self) -> End {
        let mut look = interval(LOOK);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                read = self.reader.read_buf(&mut self.buffer) => {
                    if read.unwrap_or(0) == 0 {
                        return End::HungUp;
                    }
                    if let Some(end) = self.answer_all().await {
                        return end;
                    }
                }
                count = next(&mut self.show, &mut batch) => {
                    if count == 0 {
                        return End::Over;
                    }
                    if let Some(end) = self.send(&mut batch).await {
                        return end;
                    }
                }
                _ = look.tick() => {
                    if self.is_silent() {
                        return End::Silent;
                    }
                    if !self.may_still().await {
                        return End::Dismissed;
                    }
                }
            }
        }
    }

    /// Answers what has come as a whole.
    async fn answer_all(&mut self) -> Option<End> {
        loop {
            match message::take(&mut self.buffer) {
                Ok(None) => return None,
                Err(_) => return Some(End::Protocol),
                Ok(Some(incoming)) => {
                    self.heard = Instant::now();
                    if let Incoming::Request(request) = incoming
                        && let Some(end) = self.answer(&request).await
                    {
                        return Some(end);
                    }
                }
            }
        }
    }

    /// A participant who was removed, or a PIN that was changed, ends what it opened.
    async fn may_still(&mut self) -> bool {
        if self.checked.elapsed() < RECHECK {
            return true;
        }
        self.checked = Instant::now();
        match &self.show {
            Some(show) => show.grant.holds(&self.house, &show.room).await,
            None => true,
        }
    }

    fn is_silent(&mut self) -> bool {
        let ways = self.show.iter().flat_map(|show| show.ways.iter().flatten());
        // All of them are asked, so that no reports pile up.
        if ways.filter(|way| way.was_heard()).count() > 0 {
            self.heard = Instant::now();
        }
        match &self.show {
            Some(_) => self.heard.elapsed() > SILENCE_LIMIT,
            None => self.born.elapsed() > SETUP_LIMIT,
        }
    }

    async fn send(&mut self, batch: &mut Vec<RtpPiece>) -> Option<End> {
        let show = self.show.as_mut()?;
        let (mut written, plays) = (Vec::new(), show.playing);
        for piece in batch.drain(..).filter(|_| plays) {
            show.send(&piece, &mut written).await;
        }
        self.write(&written).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Option<End> {
        match timeout(WRITE_LIMIT, self.writer.write_all(bytes)).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some(End::HungUp),
            Err(_) => Some(End::TooSlow),
        }
    }

    async fn answer(&mut self, request: &Request) -> Option<End> {
        let answer = match request.method.as_str() {
            "OPTIONS" => Answer::new("200 OK", format!("Public: {METHODS}\r\n")),
            "GET_PARAMETER" | "SET_PARAMETER" => Answer::new("200 OK", ""),
            "DESCRIBE" => self.describe(request).await,
            "SETUP" => self.set_up(request).await,
            "PLAY" => self.play().await,
            "PAUSE" => self.pause(),
            "TEARDOWN" => Answer::new("200 OK", ""),
            _ => Answer::new("501 Not Implemented", format!("Public: {METHODS}\r\n")),
        };
        let Answer { status, headers, body } = answer;
        let cseq: String = request.cseq().chars().filter(char::is_ascii_digit).take(10).collect();
        let session = match &self.show {
            Some(show) if show.ways.iter().any(Option::is_some) => format!("Session: {};timeout=60\r\n", self.id),
            _ => String::new(),
        };
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let text =
            format!("RTSP/1.0 {status}\r\nCSeq: {cseq}\r\nServer: Salon\r\n{session}{headers}{length}\r\n{body}");
        let ended = self.write(text.as_bytes()).await;
        let torn_down = (request.method == "TEARDOWN").then_some(End::TornDown);
        ended.or(torn_down)
    }

    async fn describe(&mut self, request: &Request) -> Answer {
        let local = self.local.ip();
        match self.opened(request).await {
            Ok(show) => {
                let headers = format!("Content-Type: application/sdp\r\nContent-Base: {}/\r\n", show.named.base);
                let body = description(&show.codecs, local);
                Answer { status: "200 OK", headers, body }
            }
            Err(refusal) => refusal.into(),
        }
    }

    /// What is asked for, watched from now on; or still, if it was asked for before. Who was let in to one thing is
    /// let in to nothing else by that.
    async fn opened(&mut self, request: &Request) -> Result<&mut Show, Refusal> {
        let named = Named::parse(&request.uri).ok_or(Refusal::NotFound)?;
        // Players leave the query out where they name a stream.
        let is_clean = |show: &Show| match (&show.of, &named.of) {
            (OutputOf::Clean(shown), Ok(OutputOf::Participant(asked))) => shown == asked && !named.says_effects,
            _ => false,
        };
        let is_same =
            |show: &Show| show.named.room == named.room && (named.of.as_ref() == Ok(&show.of) || is_clean(show));
        if !self.show.as_ref().is_some_and(is_same) {
            self.show = Some(self.open(request, named).await?);
        }
        self.show.as_mut().ok_or(Refusal::NotFound)
    }

    async fn open(&mut self, request: &Request, named: Named) -> Result<Show, Refusal> {
        let shown = named.shown(request);
        let (room, grant) = admit(&self.house, self.peer, &named.room, shown).await?;
        self.opens += 1;
        if self.opens > MOST_OPENED {
            return Err(Refusal::TooMuch);
        }
        let of = named.of.clone()?;
        if let OutputOf::Clean(whose) = &of
            && !grant.may_see_clean(&self.house, &room, whose).await
        {
            return Err(Refusal::OnlyWithEffects);
        }
        let playing = room.output(of.clone()).await.ok().flatten();
        let Playing { codecs, pieces } = playing.ok_or(Refusal::NotFound)?;
        // GStreamer 1.22 and ffmpeg 5 know no AV1 over RTP.
        if codecs.contains(&CodecName::Av1) {
            return Err(Refusal::Unsupported);
        }
        let ways = codecs.iter().map(|_| None).collect();
        let reporters = codecs.iter().map(|_| Reporter::default()).collect();
        Ok(Show { named, of, room, grant, codecs, pieces, ways, reporters, anchor: None, playing: false })
    }

    async fn set_up(&mut self, request: &Request) -> Answer {
        let Some(named) = Named::parse(&request.uri) else { return Refusal::NotFound.into() };
        let (peer, local) = (self.peer, self.local.ip());
        // Whoever knows what there is need not ask.
        let show = match self.opened(request).await {
            Ok(show) => show,
            Err(refusal) => return refusal.into(),
        };
        if show.playing {
            return Answer::new("455 Method Not Valid in This State", "");
        }
        let stream = named.stream.or((show.codecs.len() == 1).then_some(0));
        let Some((stream, way)) = stream.and_then(|stream| Some((stream, show.ways.get_mut(stream)?))) else {
            return Refusal::NotFound.into();
        };
        let offered = request.header("Transport").unwrap_or_default();
        match Way::choose(offered, peer, local, stream).await {
            Some((chosen, transport)) => {
                *way = Some(chosen);
                Answer::new("200 OK", format!("Transport: {transport}\r\n"))
            }
            None => Answer::new("461 Unsupported Transport", ""),
        }
    }

    async fn play(&mut self) -> Answer {
        let Some(show) = self.show.as_mut().filter(|show| show.ways.iter().any(Option::is_some)) else {
            return Answer::new("455 Method Not Valid in This State", "");
        };
        if !show.playing {
            self.opens += 1;
            if self.opens > MOST_OPENED {
                return Refusal::TooMuch.into();
            }
            if !show.grant.holds(&self.house, &show.room).await {
                return Refusal::Unauthorised.into();
            }
            // Watched anew, so that it begins with a keyframe; the first one is let go when that stands.
            match show.room.output(show.of.clone()).await {
                Ok(Some(again)) if again.codecs == show.codecs => show.pieces = again.pieces,
                _ => return Refusal::NotFound.into(),
            }
            show.reporters.iter_mut().for_each(|reporter| *reporter = Reporter::default());
            (show.anchor, show.playing) = (None, true);
        }
        Answer::new("200 OK", "Range: npt=now-\r\n")
    }

    fn pause(&mut self) -> Answer {
        match self.show.as_mut().filter(|show| show.playing) {
            Some(show) => {
                show.playing = false;
                Answer::new("200 OK", "")
            }
            None => Answer::new("455 Method Not Valid in This State", ""),
        }
    }
}

impl Show {
    async fn send(&mut self, piece: &RtpPiece, written: &mut Vec<u8>) {
        let Some((Some(way), reporter)) = self.ways.get(piece.stream).zip(self.reporters.get_mut(piece.stream)) else {
            return;
        };
        let anchor = *self.anchor.get_or_insert_with(|| Anchor::new(piece.time));
        if let Some(report) = reporter.sent(&piece.bytes, piece.time, anchor, Instant::now()) {
            way.send(true, &report, written).await;
        }
        way.send(false, &piece.bytes, written).await;
    }
}

/// The next packets; none: they are over.
async fn next(show: &mut Option<Show>, batch: &mut Vec<RtpPiece>) -> usize {
    match show {
        Some(show) => show.pieces.recv_many(batch, BATCH).await,
        None => std::future::pending().await,
    }
}
