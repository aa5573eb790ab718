//! RTSP for players over sockets: who is let in, both ways of sending, and players who misbehave.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use salon::{media::fake::Call, room::model::RoomSettings, server::rtsp::RtspServer};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

use crate::harness::{Setup, TestServer, soon};

const SECRET: &str = "the-owners-secret";

/// A player who says what the test says.
struct Player {
    stream: TcpStream,
    base: String,
    cseq: u32,
}

impl Player {
    async fn connect(server: &RtspServer) -> Self {
        let address = server.addresses()[0];
        Self { stream: TcpStream::connect(address).await.unwrap(), base: format!("rtsp://{address}"), cseq: 0 }
    }

    /// Asks, and gives the answer's status, head and body.
    async fn ask(&mut self, method: &str, path: &str, headers: &str) -> (u16, String, String) {
        self.cseq += 1;
        let request = format!("{method} {}{path} RTSP/1.0\r\nCSeq: {}\r\n{headers}\r\n", self.base, self.cseq);
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(self.stream.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.contains(&format!("CSeq: {}\r\n", self.cseq)), "{head}");
        let length =
            head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |it| it.parse().unwrap());
        let mut body = vec![0; length];
        soon(self.stream.read_exact(&mut body)).await.unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head, String::from_utf8(body).unwrap())
    }

    async fn hung_up(mut self) {
        let mut rest = Vec::new();
        let _ = soon(self.stream.read_to_end(&mut rest)).await;
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}

async fn start(secret: Option<&'static str>) -> (TestServer, RtspServer) {
    let server = TestServer::with(Setup { secret, ..Default::default() }).await;
    let any = [([127, 0, 0, 1], 0).into()];
    let rtsp = RtspServer::start(&any, server.registry.clone(), server.services.gate.clone()).unwrap();
    (server, rtsp)
}

#[tokio::test]
async fn a_room_is_shown_to_whom_it_may_be() {
    let (server, rtsp) = start(Some(SECRET)).await;
    let settings = |pin: Option<&str>| RoomSettings { pin: pin.map(str::to_owned), ..Default::default() };
    server.registry.create("yard", settings(Some("1234"))).unwrap();
    server.registry.create("open", settings(None)).unwrap();
    let (yard, kim, _events) = server.join("yard", Some("1234")).await;
    let (_open, lee, _more) = server.join("open", None).await;
    let token = kim.access.as_str();
    let cases = [
        ("/yard/mix", String::new(), 401, "nothing shown"),
        ("/yard/mix", basic("x", "1234"), 200, "the PIN"),
        ("/yard/mix", basic("1234", ""), 200, "the PIN as a name"),
        ("/yard/mix", basic("x", "0000"), 401, "a wrong PIN"),
        ("/yard/mix", basic("x", SECRET), 200, "the secret"),
        ("/yard/mix", basic("x", token), 200, "a token"),
        (&format!("/yard/mix?access={token}"), String::new(), 200, "a token in the address"),
        ("/yard/mix", basic("x", lee.access.as_str()), 404, "a token of another room"),
        ("/yard/mix", basic("x", "a_1_none"), 401, "a token of nobody"),
        ("/yard/mix", "Authorization: Basic !!\r\n".into(), 401, "no base64"),
        ("/yard/mix", "Authorization: Digest x\r\n".into(), 401, "another scheme"),
        ("/open/mix", basic("x", "anything"), 401, "a PIN where there is none"),
        ("/nowhere/mix", basic("x", "1234"), 401, "whether a room is there is no stranger's business"),
        ("/nowhere/mix", basic("x", SECRET), 404, "no room"),
        ("/yard/nobody", basic("x", SECRET), 404, "no participant"),
        (&format!("/yard/{}", kim.participant), basic("x", SECRET), 404, "who publishes nothing"),
        ("/", basic("x", SECRET), 404, "no address"),
    ];
    for (path, headers, expected, what) in cases {
        let mut player = Player::connect(&rtsp).await;
        let (status, head, sdp) = player.ask("DESCRIBE", path, &headers).await;
        assert_eq!(status, expected, "{what}: {head}");
        assert_eq!(status == 401, head.contains("WWW-Authenticate: Basic realm=\"Salon\"\r\n"), "{what}: {head}");
        assert_eq!(status == 200, sdp.contains("m=video 0 RTP/AVP 102\r\n"), "{what}: {sdp}");
    }
    // What a token opened ends with it: Kim leaves, and his player is hung up on; nobody's PIN is locked by tokens
    // that are no longer good.
    let mut player = Player::connect(&rtsp).await;
    assert_eq!(player.ask("DESCRIBE", &format!("/yard/mix?access={token}"), "").await.0, 200);
    yard.leave(kim.participant.clone()).await;
    player.hung_up().await;
    for _ in 0..6 {
        let mut player = Player::connect(&rtsp).await;
        assert_eq!(player.ask("DESCRIBE", "/yard/mix", &basic("x", token)).await.0, 401);
    }
    let mut player = Player::connect(&rtsp).await;
    assert_eq!(player.ask("DESCRIBE", "/yard/mix", &basic("x", "1234")).await.0, 200);
    rtsp.close(std::time::Duration::from_secs(1)).await;
    server.shut_down().await;
}

#[tokio::test]
async fn packets_come_in_the_connection_or_as_datagrams_and_a_report_before_them() {
    let (server, rtsp) = start(None).await;
    let (status, _) = server.json("POST", "/api/rooms", Some(json!({"name": "yard"}))).await;
    assert_eq!(status, 201);
    let mut player = Player::connect(&rtsp).await;
    assert_eq!(player.ask("PLAY", "/yard/mix", "").await.0, 455, "nothing is set up");
    let (status, head, _) = player.ask("DESCRIBE", "/yard/mix", "Accept: application/sdp\r\n").await;
    assert!(status == 200 && head.contains("Content-Base: rtsp://127.0.0.1:"), "{head}");
    assert_eq!(player.ask("SETUP", "/yard/mix/stream0", "Transport: RTP/SAVP;unicast\r\n").await.0, 461);
    assert_eq!(player.ask("SETUP", "/yard/mix/stream7", "Transport: RTP/AVP/TCP\r\n").await.0, 404);
    let (status, head, _) =
        player.ask("SETUP", "/yard/mix/stream0", "Transport: RTP/AVP/TCP;interleaved=0-1\r\n").await;
    assert!(status == 200 && head.contains("Session: ") && head.contains("interleaved=0-1\r\n"), "{head}");
    let sockets = [UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap()];
    let ports: Vec<u16> = sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
    let transport = format!("Transport: RTP/AVP;unicast;client_port={}-{}\r\n", ports[0], ports[1]);
    let (status, head, _) = player.ask("SETUP", "/yard/mix/stream1", &transport).await;
    assert!(status == 200 && head.contains("server_port="), "{head}");
    assert_eq!(player.ask("PLAY", "/yard/mix", "").await.0, 200);
    let mut frames = Vec::new();
    for _ in 0..2 {
        assert_eq!(soon(player.stream.read_u8()).await.unwrap(), b'$');
        let (channel, length) = (player.stream.read_u8().await.unwrap(), player.stream.read_u16().await.unwrap());
        let mut bytes = vec![0; usize::from(length)];
        soon(player.stream.read_exact(&mut bytes)).await.unwrap();
        frames.push((channel, bytes[1]));
    }
    assert_eq!(frames, [(1, 200), (0, 96)], "a sender report, then the packet");
    let mut datagram = [0; 1500];
    assert_eq!(soon(sockets[1].recv(&mut datagram)).await.unwrap(), 44);
    assert_eq!((datagram[1], soon(sockets[0].recv(&mut datagram)).await.unwrap()), (200, 13));
    assert_eq!(player.ask("GET_PARAMETER", "/yard/mix", "").await.0, 200);
    assert_eq!(player.ask("ANNOUNCE", "/yard/mix", "").await.0, 501);
    assert_eq!(player.ask("TEARDOWN", "/yard/mix", "").await.0, 200);
    player.hung_up().await;
    // The room is told, so that a mix that nobody watches ends: once for DESCRIBE, once for PLAY.
    let mut calls = server.calls.lock().await;
    let mut outputs = std::collections::BTreeSet::new();
    let ended = async {
        let (mut shown, mut closed) = (0, 0);
        while shown < 2 || closed < shown {
            match calls.next().await {
                Call::Output(connection, _) => {
                    shown += 1;
                    outputs.insert(connection.to_string());
                }
                Call::Close(connection) => closed += usize::from(outputs.remove(&connection.to_string())),
                _ => {}
            }
        }
    };
    soon(ended).await;
    drop(calls);
    rtsp.close(std::time::Duration::from_secs(1)).await;
    server.shut_down().await;
}

#[tokio::test]
async fn players_that_misbehave_are_hung_up_on_and_nobody_else_notices() {
    let (server, rtsp) = start(None).await;
    server.json("POST", "/api/rooms", Some(json!({"name": "yard"}))).await;
    for bytes in [
        vec![b'a'; 100_000],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        [b"DESCRIBE rtsp://x/yard/mix RTSP/1.0\r\nX: ".as_slice(), &[b'a'; 20_000]].concat(),
        b"DESCRIBE rtsp://x/yard/mix RTSP/1.0\r\nContent-Length: -1\r\n\r\n".to_vec(),
        format!("OPTIONS * RTSP/1.0\r\n{}\r\n", "A: b\r\n".repeat(1000)).into_bytes(),
        b"\0\xff\r\n\r\n".to_vec(),
    ] {
        let mut player = Player::connect(&rtsp).await;
        // It may hang up before all is written.
        let _ = player.stream.write_all(&bytes).await;
        player.hung_up().await;
    }
    // One address has so many places, and no more.
    let mut crowd = Vec::new();
    for _ in 0..64 {
        let mut player = Player::connect(&rtsp).await;
        assert_eq!(player.ask("OPTIONS", "/", "").await.0, 200);
        crowd.push(player);
    }
    Player::connect(&rtsp).await.hung_up().await;
    crowd.pop();
    let mut again = 0;
    soon(async {
        while again != 200 {
            let mut player = Player::connect(&rtsp).await;
            let request = b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n";
            let mut answer = [0; 12];
            let asked = player.stream.write_all(request).await.is_ok();
            if asked && player.stream.read_exact(&mut answer).await.is_ok() {
                again = std::str::from_utf8(&answer[9..]).unwrap().parse().unwrap();
            }
        }
    })
    .await;
    drop(crowd);
    rtsp.close(std::time::Duration::from_secs(1)).await;
    server.shut_down().await;
}
