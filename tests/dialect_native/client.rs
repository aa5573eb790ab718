//! A client of the native protocol, over a pipe in memory or over a real socket.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use salon::{
    dialect::native::{
        Hub, Origins,
        driver::{Incoming, Outgoing, drive},
        routes,
    },
    media::{
        CodecName, Kind,
        fake::{FakeEngine, made_up_answer, made_up_offer},
    },
    recording::RecordingNotice,
    room::{Registry, guests::Address, policy::RoomPolicy},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::scenario;

pub const PATIENCE: Duration = Duration::from_secs(30);

/// A server without media.
pub struct House {
    pub hub: Arc<Hub>,
    pub engine: Arc<FakeEngine>,
    pub notices: mpsc::Receiver<RecordingNotice>,
}

pub fn house() -> House {
    house_with(RoomPolicy::default())
}

pub fn house_with(policy: RoomPolicy) -> House {
    let (engine, _) = FakeEngine::new();
    let (keeper, notices) = mpsc::channel(64);
    let hub = Hub {
        registry: Registry::new(policy, engine.clone(), keeper),
        ice_servers: json!([{ "urls": "stun:stun.example:3478" }]),
        version: "0.0.0-test".into(),
        srt: Some(salon::server::srt::SrtPlace { port: 8890, local: true }),
    };
    House { hub: Arc::new(hub), engine, notices }
}

pub enum Heard {
    Frame(Value),
    Closed(Option<u16>),
}

pub enum Say {
    Text(String),
    Binary(Vec<u8>),
}

/// One client. Frames that were not asked for yet are kept in order.
pub struct Client {
    say: mpsc::UnboundedSender<Say>,
    heard: mpsc::UnboundedReceiver<Heard>,
    unread: Vec<Value>,
    /// `false`: pings are no longer answered, as behind a cable that was pulled.
    answers_pings: watch::Sender<bool>,
    next_id: u64,
    pub me: String,
    tracks: Value,
}

impl Client {
    fn new(
        say: mpsc::UnboundedSender<Say>,
        heard: mpsc::UnboundedReceiver<Heard>,
        answers_pings: watch::Sender<bool>,
    ) -> Self {
        Self { say, heard, unread: Vec::new(), answers_pings, next_id: 1000, me: String::new(), tracks: Value::Null }
    }

    /// Over a pipe in memory: its only clock is tokio's.
    pub fn in_memory(hub: &Arc<Hub>) -> Self {
        let (say, mut said) = mpsc::unbounded_channel();
        let (tell, heard) = mpsc::unbounded_channel();
        let (to_server, incoming) = mpsc::unbounded_channel();
        let (outgoing, mut from_server) = mpsc::channel(1);
        let (answers_pings, alive) = watch::channel(true);
        let hub = hub.clone();
        tokio::spawn(async move { drive(&hub, Address::default(), stream(incoming), sink(outgoing)).await });
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    said = said.recv() => match said {
                        Some(Say::Text(text)) => { let _ = to_server.send(Incoming::Text(text)); }
                        Some(Say::Binary(_)) => { let _ = to_server.send(Incoming::Binary); }
                        // The client was killed: its end of the pipe closes.
                        None => return,
                    },
                    frame = from_server.recv() => match frame {
                        Some(Outgoing::Text(text)) => {
                            let _ = tell.send(Heard::Frame(serde_json::from_str(&text).expect("frames are JSON")));
                        }
                        Some(Outgoing::Ping) if *alive.borrow() => { let _ = to_server.send(Incoming::Alive); }
                        Some(Outgoing::Ping) => {}
                        Some(Outgoing::Close(code, _)) => { let _ = tell.send(Heard::Closed(Some(code))); }
                        None => { let _ = tell.send(Heard::Closed(None)); return; }
                    },
                }
            }
        });
        Self::new(say, heard, answers_pings)
    }

    /// Over a real socket.
    pub async fn over_socket(address: SocketAddr) -> Self {
        let (socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}/ws")).await.expect("a socket");
        let (mut sink, mut stream) = socket.split();
        let (say, mut said) = mpsc::unbounded_channel();
        let (tell, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    said = said.recv() => {
                        let message = match said {
                            Some(Say::Text(text)) => Message::text(text),
                            Some(Say::Binary(bytes)) => Message::Binary(Bytes::from(bytes)),
                            None => return,
                        };
                        let _ = sink.send(message).await;
                    }
                    message = stream.next() => match message {
                        Some(Ok(Message::Text(text))) => {
                            let _ = tell.send(Heard::Frame(serde_json::from_str(&text).expect("frames are JSON")));
                        }
                        Some(Ok(Message::Close(frame))) => {
                            let _ = tell.send(Heard::Closed(frame.map(|frame| frame.code.into())));
                        }
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => { let _ = tell.send(Heard::Closed(None)); return; }
                    },
                }
            }
        });
        Self::new(say, heard, watch::channel(true).0)
    }

    pub fn send(&self, frame: &Value) {
        self.send_text(frame.to_string());
    }

    pub fn send_text(&self, text: impl Into<String>) {
        let _ = self.say.send(Say::Text(text.into()));
    }

    pub fn send_binary(&self, bytes: Vec<u8>) {
        let _ = self.say.send(Say::Binary(bytes));
    }

    /// From now on as if the cable were pulled.
    pub fn fall_silent(&self) {
        let _ = self.answers_pings.send(false);
    }

    /// The first frame, read or yet to come, that `wanted` accepts; others stay for later.
    pub async fn find(&mut self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        if let Some(index) = self.unread.iter().position(&mut wanted) {
            return self.unread.remove(index);
        }
        loop {
            match timeout(PATIENCE, self.heard.recv()).await {
                Ok(Some(Heard::Frame(frame))) if wanted(&frame) => return frame,
                Ok(Some(Heard::Frame(frame))) => self.unread.push(frame),
                Ok(Some(Heard::Closed(code))) => {
                    panic!("closed ({code:?}) while waiting for {what}; {:#?}", self.unread)
                }
                Ok(None) | Err(_) => panic!("waited in vain for {what}; there is {:#?}", self.unread),
            }
        }
    }

    pub async fn event(&mut self, kind: &str) -> Value {
        self.find(kind, |frame| frame["type"] == kind && frame.get("id").is_none()).await
    }

    /// Sends a verb and waits for its answer.
    pub async fn ask(&mut self, mut verb: Value) -> Value {
        self.next_id += 1;
        let id = json!(self.next_id);
        verb["id"] = id.clone();
        self.send(&verb);
        self.find(&format!("the answer to {verb}"), |frame| frame["id"] == id).await
    }

    pub async fn ask_ok(&mut self, verb: Value) -> Value {
        let answer = self.ask(verb).await;
        assert_eq!(answer["type"], "ok", "{answer}");
        answer
    }

    /// Waits for the end of the socket; the close code, if there was one.
    pub async fn closed(&mut self) -> Option<u16> {
        loop {
            match timeout(PATIENCE, self.heard.recv()).await.expect("the socket closes") {
                Some(Heard::Frame(frame)) => self.unread.push(frame),
                Some(Heard::Closed(code)) => return code,
                None => return None,
            }
        }
    }
}

pub fn stream(receiver: mpsc::UnboundedReceiver<Incoming>) -> impl futures_util::Stream<Item = Incoming> + Unpin {
    Box::pin(futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|frame| (frame, receiver))
    }))
}

pub fn sink(sender: mpsc::Sender<Outgoing>) -> impl futures_util::Sink<Outgoing> + Unpin {
    Box::pin(futures_util::sink::unfold(sender, |sender, frame| async move {
        sender.send(frame).await.map(|()| sender).map_err(drop)
    }))
}

/// Serves the house on a port of the system's choice.
pub async fn serve(house: &House) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let server = warp::serve(routes(house.hub.clone(), Origins::default())).incoming(listener);
    tokio::spawn(server.run());
    address
}

pub fn offer() -> String {
    made_up_offer(&[("0", Kind::Audio, CodecName::Opus), ("1", Kind::Video, CodecName::Vp8)])
}

pub fn answer() -> String {
    made_up_answer(&[("0", Kind::Audio, CodecName::Opus), ("1", Kind::Video, CodecName::Vp8)])
}

impl scenario::Client for Client {
    async fn join(&mut self, room: &str, name: &str) {
        let joined = self.ask_ok(json!({ "type": "join", "room": room, "name": name })).await;
        self.me = joined["participant"].as_str().expect("an id").to_owned();
    }

    async fn publish(&mut self) {
        let published = self.ask_ok(json!({ "type": "publish", "connection": "cam", "sdp": offer() })).await;
        self.tracks = published["tracks"].clone();
    }

    async fn watch_everybody(&mut self) {
        self.ask_ok(json!({ "type": "subscribe", "all": true })).await;
    }

    async fn answer_offer(&mut self) -> usize {
        let offer = self.event("offer").await;
        self.ask_ok(json!({ "type": "answer", "connection": offer["connection"], "sdp": answer() })).await;
        offer["tracks"].as_array().expect("tracks").len()
    }

    async fn mute(&mut self, kind: Kind) {
        let kind = json!(kind);
        let tracks = self.tracks.as_array().expect("published before");
        let track = tracks.iter().find(|track| track["kind"] == kind).expect("a track of that kind")["id"].clone();
        self.ask_ok(json!({ "type": "mute", "track": track, "muted": true })).await;
    }

    async fn sees_muted(&mut self, kind: Kind) {
        let kind = json!(kind);
        let muted = |frame: &Value| {
            frame["type"] == "track-updated" && frame["track"]["kind"] == kind && frame["track"]["muted"] == true
        };
        self.find("a muted track", muted).await;
    }

    async fn leave(&mut self) {
        self.ask_ok(json!({ "type": "leave" })).await;
        assert_eq!(self.closed().await, Some(1000));
    }

    async fn sees_leave(&mut self) {
        let left = self.event("participant-left").await;
        assert_eq!(left["reason"], "left");
    }
}
