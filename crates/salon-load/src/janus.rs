//! Sessions of Janus' VideoRoom, over its WebSocket: the peer that Salon is measured against.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    session::{self, Session},
    tally::Tally,
    whip::resolve,
    wire::Wire,
};

/// Janus forgets sessions that are silent for 60 s.
const ALIVE: Duration = Duration::from_secs(20);

/// A server.
#[derive(Clone, Debug)]
pub struct Server {
    url: String,
    media: IpAddr,
}

/// A session, which keeps the connection that it was opened by.
#[derive(Debug)]
pub struct Opened {
    /// The PeerConnection.
    pub session: Session,
    /// The publisher's number.
    pub feed: u64,
}

impl Server {
    /// `url`: as `ws://127.0.0.1:8188`; `media`: where its media is, if that is elsewhere: libnice has none on
    /// loopback.
    ///
    /// # Errors
    ///
    /// The address is none, or its name is not known.
    pub async fn new(url: &str, media: Option<IpAddr>) -> Result<Self> {
        let parsed = Url::parse(url).with_context(|| format!("{url} is no address"))?;
        let media = match media {
            Some(media) => media,
            None => resolve(&parsed).await?,
        };
        Ok(Self { url: url.to_owned(), media })
    }

    /// Publishes the clip into a room, which is made if there is none.
    ///
    /// # Errors
    ///
    /// What the server refused, and why.
    pub async fn publish(&self, room: u64) -> Result<Opened> {
        let mut handle = Handle::attach(&self.url).await?;
        let create = json!({"request": "create", "room": room, "publishers": 100, "bitrate": 0,
            "audiocodec": "opus", "videocodec": "vp8", "audiolevel_ext": true, "transport_wide_cc_ext": true});
        let created = handle.ask(create, None).await?;
        // 427: it exists.
        if created.pointer("/error_code").is_some_and(|code| *code != 427) {
            bail!("the room was refused: {created}");
        }
        let (offering, offer) = session::offer_to_send(self.media).await?;
        let join = json!({"request": "joinandconfigure", "ptype": "publisher", "room": room,
            "audiocodec": "opus", "videocodec": "vp8"});
        let jsep = json!({"type": "offer", "sdp": offer, "trickle": false});
        let joined = handle.ask(join, Some(jsep)).await?;
        let answer = joined.pointer("/jsep/sdp").and_then(Value::as_str).with_context(|| joined.to_string())?;
        let session = offering.answered(answer)?;
        let feed = joined.pointer("/plugindata/data/id").and_then(Value::as_u64).context("the server names no feed")?;
        Ok(Opened { session: session.kept_by(handle.keep()), feed })
    }

    /// Watches a publisher.
    ///
    /// # Errors
    ///
    /// What the server refused, and why.
    pub async fn watch(&self, room: u64, feed: u64) -> Result<Opened> {
        let began = Tally::begin();
        let mut handle = Handle::attach(&self.url).await?;
        let join = json!({"request": "join", "ptype": "subscriber", "room": room, "streams": [{"feed": feed}]});
        let attached = handle.ask(join, None).await?;
        let offer = attached.pointer("/jsep/sdp").and_then(Value::as_str).with_context(|| attached.to_string())?;
        let (session, answer) = session::watch(self.media, offer, began).await?;
        let jsep = json!({"type": "answer", "sdp": answer, "trickle": false});
        handle.ask(json!({"request": "start", "room": room}), Some(jsep)).await?;
        Ok(Opened { session: session.kept_by(handle.keep()), feed })
    }
}

/// A handle of the plugin, in a session of its own.
struct Handle {
    wire: Wire,
    session: u64,
    handle: u64,
}

fn transaction() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    format!("t{}", LAST.fetch_add(1, Relaxed))
}

impl Handle {
    async fn attach(url: &str) -> Result<Self> {
        let mut handle = Self { wire: Wire::connect(url, Some("janus-protocol")).await?, session: 0, handle: 0 };
        handle.session = handle.number(json!({"janus": "create"})).await?;
        let attach = json!({"janus": "attach", "session_id": handle.session, "plugin": "janus.plugin.videoroom"});
        handle.handle = handle.number(attach).await?;
        Ok(handle)
    }

    async fn number(&mut self, mut request: Value) -> Result<u64> {
        let id = transaction();
        request["transaction"] = json!(id);
        self.wire.send(&request).await?;
        let answer = self.wire.until("a request", |it| it["transaction"] == *id, drop).await?;
        answer.pointer("/data/id").and_then(Value::as_u64).with_context(|| answer.to_string())
    }

    /// The answer of the plugin, behind the acknowledgement if it has one.
    async fn ask(&mut self, body: Value, jsep: Option<Value>) -> Result<Value> {
        let id = transaction();
        let mut request = json!({"janus": "message", "transaction": id, "session_id": self.session,
            "handle_id": self.handle, "body": body});
        if let Some(jsep) = jsep {
            request["jsep"] = jsep;
        }
        self.wire.send(&request).await?;
        let is_it = |it: &Value| it["transaction"] == *id && it["janus"] != "ack";
        let answer = self.wire.until("a message to the plugin", is_it, drop).await?;
        if answer["janus"] == "error" {
            bail!("the server refuses: {answer}");
        }
        Ok(answer)
    }

    fn keep(mut self) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut alive = tokio::time::interval(ALIVE);
            loop {
                tokio::select! {
                    _ = alive.tick() => {
                        let message = json!({"janus": "keepalive", "transaction": transaction(),
                            "session_id": self.session});
                        if self.wire.send(&message).await.is_err() {
                            return;
                        }
                    }
                    message = self.wire.next() => if message.is_err() {
                        return;
                    },
                }
            }
        })
    }
}
