//! Connections that say nothing, say it slowly, or are too many.

use std::time::Duration;

use salon::server::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::harness::{Setup, TestServer, soon};

async fn connect(server: &TestServer) -> TcpStream {
    soon(TcpStream::connect(server.url.trim_start_matches("http://"))).await.unwrap()
}

/// What comes until the server closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = soon(stream.read_to_end(&mut bytes)).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

fn quick() -> Setup {
    let short = Duration::from_millis(300);
    Setup { limits: Limits { header_read: short, body_timeout: short, ..Limits::default() }, ..Setup::default() }
}

#[tokio::test]
async fn a_head_that_never_ends_is_not_waited_for() {
    let server = TestServer::with(quick()).await;
    for begun in ["", "GET /healthz HTT", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: "] {
        let mut stream = connect(&server).await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{begun:?}: {answer}");
    }
}

#[tokio::test]
async fn a_body_that_never_ends_is_not_waited_for() {
    let server = TestServer::with(quick()).await;
    let mut stream = connect(&server).await;
    let head = "POST /api/rooms HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50";
    stream.write_all(format!("{head}\r\n\r\n{{").as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body_timeout"), "{answer}");
}

#[tokio::test]
async fn a_silent_connection_ends() {
    let limits = Limits { idle: Duration::from_millis(300), ..Limits::default() };
    let server = TestServer::with(Setup { limits, ..Setup::default() }).await;
    assert_eq!(rest(&mut connect(&server).await).await, "");
}

/// Whether a request is answered: refused connections end without a byte.
async fn asks(stream: &mut TcpStream) -> bool {
    let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let mut answer = [0; 15];
    asked.is_ok() && soon(stream.read_exact(&mut answer)).await.is_ok() && &answer == b"HTTP/1.1 200 OK"
}

/// Until a new connection gets a seat: how a test sees that an old one has left.
async fn until_a_seat_is_free(server: &TestServer) {
    soon(async { while !asks(&mut connect(server).await).await {} }).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_dropped() {
    let limits = Limits { idle: Duration::from_millis(500), connections_per_address: 1, ..Limits::default() };
    let setup = Setup { limits, ..Setup::default() };
    let mut server = TestServer::with(setup).await;
    let recording = server.finished("math").await;
    let id = recording["id"].as_str().unwrap();
    let file = server.services.keeper.path(&id.parse().unwrap()).unwrap();
    // More than the sockets of both sides hold.
    let large = 64 * 1024 * 1024;
    std::fs::File::options().write(true).open(file).unwrap().set_len(large).unwrap();
    // The client keeps its connection, and with it the only seat.
    server.client = reqwest::Client::new();
    until_a_seat_is_free(&server).await;
    let mut stream = loop {
        let mut stream = connect(&server).await;
        let request = format!("GET /api/recordings/{id}/file HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut first = [0; 16];
        if stream.write_all(request.as_bytes()).await.is_ok() && soon(stream.read_exact(&mut first)).await.is_ok() {
            break stream;
        }
    };
    assert!(!asks(&mut connect(&server).await).await, "the seat is taken");
    until_a_seat_is_free(&server).await;
    let mut left = Vec::new();
    let _ = soon(stream.read_to_end(&mut left)).await;
    assert!((left.len() as u64) < large, "{}", left.len());
}

#[tokio::test]
async fn one_address_has_its_share_and_gets_it_back() {
    let limits = Limits { connections_per_address: 2, ..Limits::default() };
    let server = TestServer::with(Setup { limits, ..Setup::default() }).await;
    let (mut first, mut second) = (connect(&server).await, connect(&server).await);
    assert!(asks(&mut first).await && asks(&mut second).await);
    assert!(!asks(&mut connect(&server).await).await);
    drop(first);
    until_a_seat_is_free(&server).await;
}

#[tokio::test]
async fn requests_that_are_no_http_are_refused() {
    let server = TestServer::with(quick()).await;
    let endless = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-A: {}\r\n\r\n", "x".repeat(400_000));
    for (junk, answers) in [
        ("\u{16}\u{3}\u{1}\u{2}\r\n\r\n", "HTTP/1.1 400"),
        ("HELLO\r\n\r\n", "HTTP/1.1 400"),
        ("GET / HTTP/9.9\r\n\r\n", "HTTP/1.1 400"),
        (&endless, "HTTP/1.1 431"),
    ] {
        let mut stream = connect(&server).await;
        let _ = soon(stream.write_all(junk.as_bytes())).await;
        let answer = rest(&mut stream).await;
        // A connection that is reset may take its answer with it.
        assert!(answer.is_empty() || answer.starts_with(answers), "{:?}: {answer}", &junk[..8.min(junk.len())]);
    }
    assert!(asks(&mut connect(&server).await).await, "the server goes on");
}

#[tokio::test]
async fn going_down_ends_streams_and_waits_for_nobody_else() {
    let server = TestServer::start().await;
    let _somebody = server.join("math", None).await;
    let events = server.get("/api/rooms/math/events", &[]).await;
    let mut idle = connect(&server).await;
    soon(server.shut_down()).await;
    assert!(soon(events.text()).await.is_ok_and(|text| text.starts_with("event: room\n")));
    assert_eq!(rest(&mut idle).await, "");
}
