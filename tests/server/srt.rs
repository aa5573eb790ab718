//! SRT for players over sockets: who is let in, and callers who misbehave.

use std::cell::Cell;

use salon::{room::model::RoomSettings, server::srt::SrtServer};
use tokio::{
    net::UdpSocket,
    time::{Duration, timeout},
};

use crate::harness::{Setup, TestServer, soon};

const SECRET: &str = "the-owners-secret";
/// What a listener answers who lets somebody in.
const CONCLUSION: u32 = u32::MAX;

/// A caller who says what the test says, as libsrt would.
struct Caller {
    socket: UdpSocket,
    id: u32,
    /// The listener's number for the call.
    its: Cell<u32>,
}

impl Caller {
    async fn new(server: &SrtServer) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(server.addresses()[0]).await.unwrap();
        Self { socket, id: 7, its: Cell::default() }
    }

    fn shake(&self, version: u32, kind: u32, cookie: u32, extensions: &[u8]) -> Vec<u8> {
        let flags: u32 = match (kind, extensions.is_empty()) {
            (1, _) => 2,
            (_, true) => 0,
            _ => 0b101,
        };
        let words = [0x8000_0000, 0, 0, 0, version, flags, 99, 1500, 8192, kind, self.id, cookie, 0x0100_007F, 0, 0, 0];
        [words.map(u32::to_be_bytes).concat(), extensions.to_vec()].concat()
    }

    /// The next packet of control: media comes in between.
    async fn answer(&self) -> Vec<u8> {
        loop {
            let mut packet = vec![0; 1500];
            let size = soon(self.socket.recv(&mut packet)).await.unwrap();
            packet.truncate(size);
            if packet[0] & 0x80 != 0 {
                return packet;
            }
        }
    }

    async fn cookie(&self) -> u32 {
        self.socket.send(&self.shake(4, 1, 0, &[])).await.unwrap();
        let answer = self.answer().await;
        assert_eq!((word(&answer, 16), word(&answer, 20), word(&answer, 36)), (5, 0x4A17, 1), "{answer:?}");
        word(&answer, 44)
    }

    /// Calls for a stream; gives what is answered.
    async fn call(&self, name: &str) -> u32 {
        let cookie = self.cookie().await;
        self.socket.send(&self.shake(5, CONCLUSION, cookie, &extensions(name))).await.unwrap();
        let answer = self.answer().await;
        assert_eq!(word(&answer, 12), self.id, "{answer:?}");
        self.its.set(word(&answer, 40));
        word(&answer, 36)
    }

    /// A packet of control of this kind.
    async fn control(&self, kind: u8, rest: &[u8]) {
        self.socket
            .send(&[&[0x80, kind, 0, 0], &[0; 8][..], &self.its.get().to_be_bytes(), rest].concat())
            .await
            .unwrap();
    }

    async fn is_hung_up_on(&self) {
        while self.answer().await[..2] != [0x80, 5] {}
    }
}

/// What the caller can, and the name, its bytes turned round four by four.
fn extensions(name: &str) -> Vec<u8> {
    let mut text = name.as_bytes().to_vec();
    text.resize(text.len().next_multiple_of(4), 0);
    let turned: Vec<u8> = text.chunks(4).flat_map(|four| four.iter().rev().copied()).collect();
    let ability = [0x0001_0003u32, 0x0001_0501, 0xBF, 0x0078_0078].map(u32::to_be_bytes).concat();
    let length = u16::try_from(turned.len() / 4).unwrap().to_be_bytes();
    [&ability[..], &[0, 5], &length, &turned].concat()
}

fn word(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(packet[at..at + 4].try_into().unwrap())
}

async fn start(secret: Option<&'static str>) -> (TestServer, SrtServer) {
    let server = TestServer::with(Setup { secret, ..Default::default() }).await;
    let any = [([127, 0, 0, 1], 0).into()];
    let srt = SrtServer::start(&any, server.registry.clone(), server.services.gate.clone()).unwrap();
    (server, srt)
}

#[tokio::test]
async fn a_room_is_shown_to_whom_it_may_be() {
    let (server, srt) = start(Some(SECRET)).await;
    let settings = |pin: Option<&str>| RoomSettings { pin: pin.map(str::to_owned), ..Default::default() };
    server.registry.create("yard", settings(Some("1234"))).unwrap();
    server.registry.create("open", settings(None)).unwrap();
    let (yard, kim, _events) = server.join("yard", Some("1234")).await;
    let (_open, lee, _more) = server.join("open", None).await;
    let token = kim.access.as_str();
    for (name, expected, what) in [
        ("yard/mix", 2401, "nothing shown"),
        ("yard/mix/1234", CONCLUSION, "the PIN"),
        ("yard/mix/0000", 2401, "a wrong PIN"),
        (&format!("yard/mix/{SECRET}"), CONCLUSION, "the secret"),
        (&format!("yard/mix/{token}"), CONCLUSION, "a token"),
        (&format!("yard/mix?access={token}"), CONCLUSION, "a token behind a question mark"),
        (&format!("yard/mix/{}", lee.access.as_str()), 2404, "a token of another room"),
        ("yard/mix/a_1_none", 2401, "a token of nobody"),
        ("open/mix/1234", 2401, "a PIN where there is none"),
        ("nowhere/mix/1234", 2401, "whether a room is there is no stranger's business"),
        (&format!("nowhere/mix/{SECRET}"), 2404, "no room"),
        (&format!("yard/{}/{SECRET}", kim.participant), 2404, "only the mix"),
        ("", 2404, "no name"),
    ] {
        let caller = Caller::new(&srt).await;
        assert_eq!(caller.call(name).await, expected, "{what}: {name}");
        caller.control(5, &[0; 4]).await;
    }
    let caller = Caller::new(&srt).await;
    assert_eq!(caller.call(&format!("yard/mix/{token}")).await, CONCLUSION);
    yard.leave(kim.participant.clone()).await;
    caller.is_hung_up_on().await;
    srt.close(Duration::from_secs(1)).await;
    server.shut_down().await;
}

#[tokio::test]
async fn a_refusal_is_said_again_and_a_pin_is_tried_once() {
    let (server, srt) = start(Some(SECRET)).await;
    server.registry.create("yard", RoomSettings { pin: Some("1234".into()), ..Default::default() }).unwrap();
    let caller = Caller::new(&srt).await;
    let cookie = caller.cookie().await;
    let call = caller.shake(5, CONCLUSION, cookie, &extensions("yard/mix/0000"));
    // As a caller sends it whose answers are lost; more often than wrong PINs are taken.
    for _ in 0..20 {
        caller.socket.send(&call).await.unwrap();
        assert_eq!(word(&caller.answer().await, 36), 2401);
    }
    assert_eq!(Caller::new(&srt).await.call("yard/mix/1234").await, CONCLUSION);
    srt.close(Duration::from_secs(1)).await;
    server.shut_down().await;
}

#[tokio::test]
async fn callers_who_misbehave_harm_nobody() {
    let (server, srt) = start(None).await;
    server.registry.create("yard", RoomSettings::default()).unwrap();
    let good = Caller::new(&srt).await;
    assert_eq!(good.call("yard/mix").await, CONCLUSION);
    // One without a cookie, and one with another's, are told nothing.
    let stranger = Caller::new(&srt).await;
    stranger.socket.send(&stranger.shake(5, CONCLUSION, good.cookie().await, &extensions("yard/mix"))).await.unwrap();
    let mut packet = [0; 1500];
    assert!(timeout(Duration::from_millis(200), stranger.socket.recv(&mut packet)).await.is_err());
    // What cannot be read, and what nobody must send: errors, warnings, ranges without end, media, keys.
    let odd = Caller::new(&srt).await;
    let cookie = odd.cookie().await;
    for (version, extensions, expected) in
        [(4, vec![], 1008), (5, vec![], 2400), (5, vec![0, 1, 0, 99, 1, 2, 3, 4], 2400)]
    {
        let odd = Caller { socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(), id: 9, its: Cell::default() };
        odd.socket.connect(srt.addresses()[0]).await.unwrap();
        let cookie = odd.cookie().await;
        odd.socket.send(&odd.shake(version, CONCLUSION, cookie, &extensions)).await.unwrap();
        assert_eq!(word(&odd.answer().await, 36), expected, "{version} {extensions:?}");
    }
    let mut encrypted = odd.shake(5, CONCLUSION, cookie, &extensions("yard/mix"));
    encrypted[21] = 2;
    odd.socket.send(&encrypted).await.unwrap();
    assert_eq!(word(&odd.answer().await, 36), 1011, "nothing is encrypted");
    for kind in 0..=255 {
        for rest in [&[][..], &[0; 4], &[0xFF; 8], &[0x80, 0, 0, 0, 0x7F, 0xFF, 0xFF, 0xFF], &[0xFF; 64]] {
            good.control(kind, rest).await;
        }
    }
    good.socket.send(&[0x42; 1400]).await.unwrap();
    // A shutdown was among them: a call from the same port is a new one.
    let again = Caller { socket: good.socket, id: 8, its: Cell::default() };
    let cookie = loop {
        again.socket.send(&again.shake(4, 1, 0, &[])).await.unwrap();
        let answer = again.answer().await;
        if answer[..2] == [0x80, 0] && word(&answer, 12) == 8 {
            break word(&answer, 44);
        }
    };
    again.socket.send(&again.shake(5, CONCLUSION, cookie, &extensions("yard/mix"))).await.unwrap();
    loop {
        let answer = again.answer().await;
        if answer[..2] == [0x80, 0] && word(&answer, 12) == 8 && word(&answer, 36) == CONCLUSION {
            break;
        }
    }
    srt.close(Duration::from_secs(1)).await;
    server.shut_down().await;
}

#[tokio::test]
async fn there_is_a_limit_and_places_are_free_again() {
    let (server, srt) = start(None).await;
    server.registry.create("yard", RoomSettings::default()).unwrap();
    let mut callers = Vec::new();
    let overload = loop {
        let caller = Caller::new(&srt).await;
        match caller.call("yard/mix").await {
            CONCLUSION => callers.push(caller),
            other => break other,
        }
    };
    assert_eq!((overload, callers.len()), (2402, 32));
    // Those who go make room.
    callers.pop().unwrap().control(5, &[0; 4]).await;
    let freed = async { while Caller::new(&srt).await.call("yard/mix").await != CONCLUSION {} };
    soon(freed).await;
    srt.close(Duration::from_secs(1)).await;
    server.shut_down().await;
}
