//! Webhooks: rooms' events at a real HTTP server, in order, signed, and again when it did not take them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use salon::{
    config::Secret,
    media::{EffectReport, FaceBox, MediaEvent},
    room::{
        event::{CloseReason, Happened, RoomEvent},
        id::ParticipantId,
    },
    webhook::{WebhookSettings, Webhooks},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
    task::JoinSet,
    time::timeout,
};

#[path = "room/harness.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod harness;

const PATIENCE: Duration = Duration::from_secs(40);
const SECRET: &str = "a key for the tests";

/// What came, whole.
struct Told {
    path: String,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn event(&self) -> Value {
        self.json()["event"].clone()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// An address that is told, and answers with these statuses, then with 204.
struct Address {
    url: String,
    told: mpsc::UnboundedReceiver<Told>,
    /// While it is shut nothing is answered.
    gate: Arc<(Mutex<bool>, Notify)>,
    _task: JoinSet<()>,
}

impl Address {
    async fn open(statuses: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?for=salon", listener.local_addr().unwrap());
        let (sender, told) = mpsc::unbounded_channel();
        let statuses = Arc::new(Mutex::new(VecDeque::from(statuses.to_vec())));
        let gate = Arc::new((Mutex::new(false), Notify::new()));
        let shut = gate.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (sender, statuses, shut) = (sender.clone(), statuses.clone(), shut.clone());
                let answer = service_fn(move |request: Request<Incoming>| {
                    let (sender, statuses, shut) = (sender.clone(), statuses.clone(), shut.clone());
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let path = head.uri.to_string();
                        let _ = sender.send(Told { path, headers: head.headers, body });
                        while *shut.0.lock().unwrap() {
                            shut.1.notified().await;
                        }
                        let status = statuses.lock().unwrap().pop_front().unwrap_or(204);
                        Ok::<_, Infallible>(Response::builder().status(status).body(Full::<Bytes>::default()).unwrap())
                    }
                });
                connections.spawn(async move {
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Self { url, told, gate, _task: task }
    }

    async fn next(&mut self) -> Told {
        timeout(PATIENCE, self.told.recv()).await.expect("something is told").unwrap()
    }

    fn shut(&self, shut: bool) {
        *self.gate.0.lock().unwrap() = shut;
        self.gate.1.notify_one();
    }
}

fn settings(addresses: &[&Address]) -> WebhookSettings {
    let urls = addresses.iter().map(|address| address.url.parse().unwrap()).collect();
    let waits = Duration::from_millis(5);
    WebhookSettings { first_wait: waits, longest_wait: waits, ..WebhookSettings::new(urls, Some(Secret::new(SECRET))) }
}

fn left(number: usize) -> Happened {
    let participant: ParticipantId = format!("p_{number}").parse().unwrap();
    let event = RoomEvent::ParticipantLeft { participant, reason: salon::room::event::LeaveReason::Left };
    Happened { room: "r".into(), time: jiff::Timestamp::now(), event }
}

/// RFC 2104, by hand.
fn hmac_sha256(key: &[u8], text: &[u8]) -> String {
    let padded = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    let outer = Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize();
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn what_happens_in_any_room_is_told_in_order_and_signed() {
    let mut address = Address::open(&[]).await;
    let (sender, webhooks) = Webhooks::start(settings(&[&address]));
    let house = harness::house();
    house.registry.tell_of_all_rooms(sender);
    let mut a = house.guest("강의실", "Ada").await;
    let track = a.publish("cam").await.tracks[1].track.id.clone();
    let report = EffectReport::Barcode { format: "QR-Code".into(), text: "https://example.org/?a=<b>".into() };
    house.engine.tell("강의실", MediaEvent::EffectReported { track: Some(track.clone()), report }).await;
    let report = EffectReport::Level { rms_db: -9.0, peak_db: -6.0 };
    house.engine.tell("강의실", MediaEvent::EffectReported { track: Some(track.clone()), report }).await;
    let faces = vec![FaceBox { x: 0.25, y: 0.125, width: 0.5, height: 0.75 }];
    let report = EffectReport::Faces(faces);
    house.engine.tell("강의실", MediaEvent::EffectReported { track: Some(track.clone()), report }).await;
    let report = EffectReport::Motion { moving: true, amount: 0.5 };
    house.engine.tell("강의실", MediaEvent::EffectReported { track: Some(track.clone()), report }).await;
    a.find(|event| matches!(event, RoomEvent::Motion { .. }).then_some(())).await;
    a.leave().await;

    let mut kinds = Vec::new();
    loop {
        let told = address.next().await;
        let json = told.json();
        assert_eq!((told.path.as_str(), told.header("content-type")), ("/hook?for=salon", "application/json"));
        assert_eq!(json["room"], "강의실");
        assert_eq!(json["id"], told.header("x-salon-delivery"));
        assert!(json["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        let signature = told.header("x-salon-signature");
        let (time, tag) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
        let signed = [time.as_bytes(), b".", &told.body].concat();
        assert_eq!(tag, hmac_sha256(SECRET.as_bytes(), &signed));
        let kind = json["event"]["type"].as_str().unwrap().to_owned();
        assert_eq!(kind, told.header("x-salon-event"));
        if kind == "barcode" {
            let text = &json["event"]["text"];
            assert_eq!(
                (text.as_str(), json["event"]["track"].as_str()),
                (Some("https://example.org/?a=<b>"), Some(track.as_str()))
            );
        }
        if kind == "face" {
            let expected = serde_json::json!({
                "type": "face",
                "participant": a.id,
                "track": track,
                "faces": [{"x": 0.25, "y": 0.125, "width": 0.5, "height": 0.75}],
            });
            assert_eq!(json["event"], expected);
        }
        kinds.push(kind);
        if kinds.last().unwrap() == "participant-left" {
            break;
        }
    }
    let published = ["participant-joined", "track-published", "track-published", "barcode", "face", "motion"];
    assert_eq!(kinds[..6], published, "{kinds:?}");
    assert!(!kinds.iter().any(|kind| kind == "level"), "loudness is not told: {kinds:?}");
    webhooks.close(PATIENCE).await;
}

#[tokio::test]
async fn what_was_not_taken_is_sent_again_before_what_comes_after() {
    let mut address = Address::open(&[500, 503, 429, 200, 404, 302, 200]).await;
    let (sender, webhooks) = Webhooks::start(settings(&[&address]));
    for number in 0..4 {
        sender.try_send(left(number)).unwrap();
    }
    let mut told = Vec::new();
    let mut ids = Vec::new();
    for _ in 0..7 {
        let one = address.next().await;
        told.push(one.event()["participant"].as_str().unwrap().to_owned());
        ids.push(one.header("x-salon-delivery").to_owned());
    }
    assert_eq!(told, ["p_0", "p_0", "p_0", "p_0", "p_1", "p_2", "p_3"], "a refusal is final");
    assert!(ids[0] == ids[3] && ids[3] != ids[4], "the same message has the same name: {ids:?}");
    let counters = webhooks.counters();
    webhooks.close(PATIENCE).await;
    assert_eq!((counters.delivered(), counters.given_up(), counters.left_out()), (2, 2, 0));
}

#[tokio::test]
async fn an_address_that_hangs_or_is_not_there_holds_up_no_other() {
    let (hangs, mut answers) = (Address::open(&[]).await, Address::open(&[]).await);
    hangs.shut(true);
    let gone = Address::open(&[]).await.url;
    let mut settings = settings(&[&hangs, &answers]);
    settings.urls.push(gone.parse().unwrap());
    (settings.most_waiting, settings.attempts) = (3, 2);
    let (sender, webhooks) = Webhooks::start(settings);
    let counters = webhooks.counters();
    for number in 0..20 {
        sender.send(left(number)).await.unwrap();
        assert_eq!(answers.next().await.event()["participant"], format!("p_{number}"));
    }
    // One may be on its way, three wait.
    assert!(counters.left_out() >= 16, "{}", counters.left_out());
    hangs.shut(false);
    webhooks.close(PATIENCE).await;
    assert!(counters.delivered() >= 23, "what waited is told at the end: {}", counters.delivered());
    assert!(counters.given_up() > 0, "the one that is not there");
}

#[tokio::test]
async fn the_end_of_the_server_is_told_and_does_not_wait_for_who_does_not_answer() {
    let mut address = Address::open(&[]).await;
    let (sender, webhooks) = Webhooks::start(settings(&[&address]));
    let closed = RoomEvent::RoomClosed { reason: CloseReason::Shutdown };
    sender.try_send(Happened { room: "r".into(), time: jiff::Timestamp::now(), event: closed }).unwrap();
    // The rooms' own senders may still be there.
    webhooks.close(PATIENCE).await;
    assert_eq!(address.next().await.event()["type"], "room-closed");

    let address = Address::open(&[]).await;
    address.shut(true);
    let (sender, webhooks) = Webhooks::start(settings(&[&address]));
    sender.try_send(left(0)).unwrap();
    let begun = std::time::Instant::now();
    webhooks.close(Duration::from_millis(50)).await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}
