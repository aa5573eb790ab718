//! A participant of a Salon room, over its WebSocket (docs/protocol/native.md): publishes the clip if told to, and
//! watches everybody.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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

/// Its name for what it publishes.
const PUBLICATION: &str = "clip";

/// Somebody in a room; dropping it closes the connection.
#[derive(Debug)]
pub struct Participant {
    /// What it publishes.
    pub published: Option<Arc<Session>>,
    watched: Watched,
    task: JoinHandle<()>,
}

/// Connections by their names.
type Watched = Arc<Mutex<HashMap<String, Arc<Session>>>>;

impl Drop for Participant {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Participant {
    /// Joins. `base`: as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    ///
    /// What the server refused, and why.
    pub async fn join(base: &str, room: &str, name: &str, pin: Option<&str>, publishes: bool) -> Result<Self> {
        let mut url = Url::parse(base).with_context(|| format!("{base} is no address"))?;
        let media = resolve(&url).await?;
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        if url.set_scheme(scheme).is_err() {
            bail!("{base} is no http:// or https:// address");
        }
        url.set_path("/ws");
        let mut caller = Caller { wire: Wire::connect(url.as_str(), None).await?, aside: Vec::new(), last: 0 };
        let mut join = json!({"type": "join", "room": room, "name": name});
        if let Some(pin) = pin {
            join["pin"] = json!(pin);
        }
        caller.ask(join).await?;
        let published = if publishes { Some(Arc::new(caller.publish(media).await?)) } else { None };
        caller.ask(json!({"type": "subscribe", "all": true})).await?;
        let watched = Watched::default();
        let told = Told { media, published: published.clone(), watched: watched.clone() };
        Ok(Self { published, watched, task: tokio::spawn(caller.listen(told)) })
    }

    /// The connections that it watches others by.
    pub fn watched(&self) -> Vec<Arc<Session>> {
        lock(&self.watched).values().cloned().collect()
    }
}

fn lock(watched: &Watched) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Caller {
    wire: Wire,
    /// What came while an answer was waited for.
    aside: Vec<Value>,
    last: u64,
}

struct Told {
    media: IpAddr,
    published: Option<Arc<Session>>,
    watched: Watched,
}

impl Caller {
    async fn ask(&mut self, mut verb: Value) -> Result<Value> {
        self.last += 1;
        let id = self.last;
        verb["id"] = json!(id);
        self.wire.send(&verb).await?;
        let aside = &mut self.aside;
        let answer = self.wire.until("a verb", |it| it["id"] == id, |event| aside.push(event)).await?;
        if answer["type"] == "error" {
            bail!("the server refuses {}: {answer}", verb["type"]);
        }
        Ok(answer)
    }

    async fn publish(&mut self, media: IpAddr) -> Result<Session> {
        let (offering, offer) = session::offer_to_send(media).await?;
        let answer = self.ask(json!({"type": "publish", "connection": PUBLICATION, "sdp": offer})).await?;
        offering.answered(answer["sdp"].as_str().context("the server gives no answer")?)
    }

    /// Until the connection ends.
    async fn listen(mut self, told: Told) {
        let before = std::mem::take(&mut self.aside);
        for event in before {
            self.hear(&told, &event).await;
        }
        while let Ok(event) = self.wire.next().await {
            self.hear(&told, &event).await;
        }
    }

    async fn hear(&mut self, told: &Told, event: &Value) {
        let Some(connection) = event["connection"].as_str() else { return };
        match event["type"].as_str() {
            Some("offer") => {
                let Some(offer) = event["sdp"].as_str() else { return };
                let Ok((session, answer)) = session::watch(told.media, offer, Tally::begin()).await else { return };
                lock(&told.watched).insert(connection.to_owned(), Arc::new(session));
                // If it cannot be sent, the next read says so.
                let _ = self.wire.send(&json!({"type": "answer", "connection": connection, "sdp": answer})).await;
            }
            Some("candidate") => {
                let Some(candidate) = event.pointer("/candidate/candidate").and_then(Value::as_str) else { return };
                match &told.published {
                    Some(session) if connection == PUBLICATION => session.add_candidate(candidate),
                    _ => {
                        if let Some(session) = lock(&told.watched).get(connection) {
                            session.add_candidate(candidate);
                        }
                    }
                }
            }
            Some("connection-closed") => drop(lock(&told.watched).remove(connection)),
            _ => {}
        }
    }
}
