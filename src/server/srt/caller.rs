//! One caller: let in or not, and sent the mix from its last keyframe on.

use std::{io::Cursor, net::SocketAddr, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use srt_protocol::{
    connection::{Connection, DuplexConnection},
    options::{PacketCount, PacketSize},
    packet::{ControlPacket, ControlTypes, HandshakeVsInfo, Packet, TimeStamp},
    protocol::pending_connection::{ConnectionResult, listen::Listen},
    settings::ConnInitSettings,
};
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    time::{Duration, interval, sleep_until, timeout},
};

use super::handshake::{self, Refused};
use crate::{
    media::ts::TsChunk,
    room::RoomHandle,
    server::{
        players::{Grant, House, Refusal, admit},
        request::decode,
    },
};

/// Bytes of a message: seven packets of the transport stream (no player takes more).
const MESSAGE: usize = 7 * 188;
/// Messages that may wait for acknowledgement: some ten seconds of the mix.
const UNACKNOWLEDGED: u64 = 4096;
/// Nothing is heard of a caller for so long: he is gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);
/// How often it is looked whether he may still see it.
const RECHECK: Duration = Duration::from_secs(3);
/// A mix that has ended is still sent to its end within this.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);
/// Whoever is refused is told so again for so long, if he asks again.
const REFUSED_FOR: Duration = Duration::from_secs(3);

/// Why a call is over.
#[derive(Debug)]
pub(super) enum End {
    Refused,
    /// He went, or nothing was heard of him.
    HungUp,
    /// The room is gone, or its mix.
    Over,
    /// He may see it no more.
    Dismissed,
    /// The server goes down.
    Stopped,
}

/// Somebody who calls from an address that is his.
pub(super) struct Caller {
    pub(super) house: House,
    pub(super) socket: Arc<UdpSocket>,
    pub(super) peer: SocketAddr,
    /// What he said.
    pub(super) conclusion: Bytes,
    /// What else he says.
    pub(super) packets: mpsc::Receiver<Bytes>,
}

impl Caller {
    /// Until either side ends it.
    pub(super) async fn run(mut self) -> End {
        let stop = self.house.stop.clone();
        let let_in = tokio::select! {
            let_in = self.let_in() => let_in,
            () = stop.cancelled() => return End::Stopped,
        };
        match let_in {
            Ok((room, grant, accepted, connection)) => {
                let mut sending = Sending { connection, socket: &self.socket, bytes: BytesMut::new() };
                sending.send(&accepted).await;
                let end = serve(&self.house, &mut self.packets, &mut sending, &room, &grant).await;
                sending.hang_up().await;
                end
            }
            Err(reason) => {
                tracing::debug!(peer = %self.peer, ?reason, "an SRT caller is refused");
                // PINs are not guessed again by a packet that is sent again.
                let _ = timeout(REFUSED_FOR, self.refuse(reason)).await;
                End::Refused
            }
        }
    }

    async fn refuse(&mut self, reason: Refused) {
        let answer = handshake::refused(&self.conclusion, reason);
        loop {
            let _ = self.socket.send_to(&answer, self.peer).await;
            if self.packets.recv().await.is_none() {
                return;
            }
        }
    }

    async fn let_in(&self) -> Result<(RoomHandle, Grant, Packet, DuplexConnection), Refused> {
        if let Some(objection) = handshake::objection(&self.conclusion) {
            return Err(objection);
        }
        let (accepted, connection) = self.connection().ok_or(Refused::BadRequest)?;
        let wanted = connection.settings.stream_id.as_deref().and_then(Wanted::parse).ok_or(Refused::NotFound)?;
        let admitted = admit(&self.house, self.peer, &wanted.room, wanted.shown).await;
        let (room, grant) = admitted.map_err(|refusal| match refusal {
            Refusal::Unauthorised => Refused::Unauthorised,
            Refusal::NotFound => Refused::NotFound,
        })?;
        Ok((room, grant, accepted, DuplexConnection::new(connection)))
    }

    /// The connection that he wants, and the answer that opens it. The cookie was ours, the library has its own.
    fn connection(&self) -> Option<(Packet, Connection)> {
        let settings = ConnInitSettings {
            send_buffer_size: PacketCount(UNACKNOWLEDGED),
            max_packet_size: PacketSize(MESSAGE as u64),
            peer_idle_timeout: SILENCE_LIMIT,
            ..ConnInitSettings::default()
        };
        let mut listen = Listen::new(settings, false);
        let induction = self.parse(&handshake::induction_of(&self.conclusion))?;
        let ConnectionResult::SendPacket((Packet::Control(induced), _)) =
            listen.handle_packet(Instant::now(), Ok((induction, self.peer)))
        else {
            return None;
        };
        let Packet::Control(mut conclusion) = self.parse(&self.conclusion)? else { return None };
        let ControlTypes::Handshake(shake) = &mut conclusion.control_type else { return None };
        let has_key = matches!(&shake.info, HandshakeVsInfo::V5(info) if info.ext_km.is_some());
        if has_key {
            return None;
        }
        shake.syn_cookie = induced.handshake()?.syn_cookie;
        match listen.handle_packet(Instant::now(), Ok((conclusion.into(), self.peer))) {
            ConnectionResult::Connected(Some((accepted, _)), connection) => Some((accepted, connection)),
            _ => None,
        }
    }

    fn parse(&self, bytes: &[u8]) -> Option<Packet> {
        Packet::parse(&mut Cursor::new(bytes), self.peer.is_ipv6()).ok()
    }
}

/// What a stream's name asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    room: String,
    /// A PIN, an access token or the owner's secret.
    shown: Option<String>,
}

impl Wanted {
    /// Reads `{room}/mix`, `{room}/mix/{shown}` or `{room}/mix?access={shown}`. Players undo percent-encoding or
    /// leave it.
    fn parse(name: &str) -> Option<Self> {
        let decoded = |text: &str| decode(text).filter(|text| !text.is_empty());
        let (room, rest) = name.trim_start_matches('/').split_once('/')?;
        let shown = match rest.strip_prefix("mix")? {
            "" | "/" => None,
            more => Some(decoded(more.strip_prefix('/').or_else(|| more.strip_prefix("?access="))?)?),
        };
        Some(Self { room: decoded(room)?, shown })
    }
}

/// A connection and where its packets go.
struct Sending<'a> {
    connection: DuplexConnection,
    socket: &'a UdpSocket,
    bytes: BytesMut,
}

impl Sending<'_> {
    async fn send(&mut self, packet: &Packet) {
        self.bytes.clear();
        packet.serialize(&mut self.bytes);
        // One that is lost on our side of the network is asked for again, too.
        let _ = self.socket.send_to(&self.bytes, self.connection.settings().remote).await;
    }

    /// Sends what is due; says when something will be. `None`: the connection is over.
    async fn go_on(&mut self) -> Option<Instant> {
        let due = self.connection.check_timers(Instant::now());
        while let Some((packet, _)) = self.connection.next_packet(Instant::now()) {
            self.send(&packet).await;
        }
        self.connection.is_open().then_some(due)
    }

    fn take(&mut self, chunk: TsChunk) {
        let (now, mut rest) = (Instant::now(), chunk.bytes);
        while !rest.is_empty() {
            let message = rest.split_to(rest.len().min(MESSAGE));
            self.connection.handle_data_input(now, Some((now, message)));
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let from = self.connection.settings().remote;
        if let Ok(packet) = Packet::parse(&mut Cursor::new(bytes), from.is_ipv6()) {
            self.connection.handle_packet_input(Instant::now(), Ok((packet, from)));
        }
    }

    async fn hang_up(&mut self) {
        let dest_sockid = self.connection.settings().remote_sockid;
        let control_type = ControlTypes::Shutdown;
        self.send(&ControlPacket { timestamp: TimeStamp::from_micros(0), dest_sockid, control_type }.into()).await;
    }
}

async fn serve(
    house: &House,
    packets: &mut mpsc::Receiver<Bytes>,
    sending: &mut Sending<'_>,
    room: &RoomHandle,
    grant: &Grant,
) -> End {
    let Ok(mut chunks) = room.watch_mix().await else { return End::Over };
    let mut recheck = interval(RECHECK);
    let mut over_at = None;
    loop {
        let Some(due) = sending.go_on().await else { return End::HungUp };
        if over_at.is_some_and(|at: Instant| at.elapsed() > DRAIN_LIMIT) {
            return End::Over;
        }
        tokio::select! {
            chunk = chunks.recv(), if over_at.is_none() => match chunk {
                Some(chunk) => sending.take(chunk),
                None => {
                    over_at = Some(Instant::now());
                    sending.connection.handle_data_input(Instant::now(), None);
                }
            },
            packet = packets.recv() => match packet {
                Some(packet) => sending.hear(&packet),
                // He has called anew.
                None => return End::HungUp,
            },
            () = sleep_until(due.into()) => {}
            _ = recheck.tick() => if !grant.holds(house, room).await {
                return End::Dismissed;
            },
            () = house.stop.cancelled() => return End::Stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_named_by_its_room_and_what_opens_it() {
        let wanted =
            |room: &str, shown: Option<&str>| Some(Wanted { room: room.to_owned(), shown: shown.map(str::to_owned) });
        for (name, expected) in [
            ("yard/mix", wanted("yard", None)),
            ("/yard/mix/", wanted("yard", None)),
            ("yard/mix/1234", wanted("yard", Some("1234"))),
            ("my%20room/mix?access=a_1", wanted("my room", Some("a_1"))),
            ("yard/mix?access=", None),
            ("yard/mixed", None),
            ("yard", None),
            ("/mix", None),
            ("yard/p_x", None),
            ("", None),
        ] {
            assert_eq!(Wanted::parse(name), expected, "{name}");
        }
    }
}
