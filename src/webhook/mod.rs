//! Webhooks: what happens in rooms, told by HTTP to addresses that the server's owner has set.
//!
//! Each address has a queue and a task of its own, and is told one thing after the other, in the order it
//! happened. One that does not answer is tried again, later each time; when its queue is full, what comes
//! then is left out and counted. Rooms never wait for any of it.

mod post;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use rand::Rng;
use serde::Serialize;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use url::Url;

pub use post::signature;

use crate::{
    config::Secret,
    room::{
        event::{Happened, RoomEvent},
        id::random_text,
    },
};
use post::Refused;

/// What waits to be sorted; nobody waits on the other side.
const MOST_UNSORTED: usize = 1_024;

/// Whom to tell, and how.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Addresses, HTTP or HTTPS.
    pub urls: Vec<Url>,
    /// What signs each message; `None`: they are not signed.
    pub secret: Option<Secret>,
    /// Messages that may wait for one address.
    pub most_waiting: usize,
    /// Times that one message is sent, at most.
    pub attempts: u32,
    /// Before the second time; doubled each time.
    pub first_wait: Duration,
    /// The longest of these waits.
    pub longest_wait: Duration,
    /// An answer is there within this.
    pub answer_limit: Duration,
}

impl WebhookSettings {
    /// The usual bounds: a message is given up after about two minutes.
    pub fn new(urls: Vec<Url>, secret: Option<Secret>) -> Self {
        Self {
            urls,
            secret,
            most_waiting: 256,
            attempts: 8,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            answer_limit: Duration::from_secs(10),
        }
    }
}

/// What became of messages, of all addresses together.
#[derive(Clone, Debug, Default)]
pub struct WebhookCounters(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    delivered: AtomicU64,
    given_up: AtomicU64,
    left_out: AtomicU64,
}

impl WebhookCounters {
    /// Taken with a status of 200 to 299.
    pub fn delivered(&self) -> u64 {
        self.0.delivered.load(Relaxed)
    }

    /// Refused, or tried as often as may be.
    pub fn given_up(&self) -> u64 {
        self.0.given_up.load(Relaxed)
    }

    /// Not sent, as too many were waiting.
    pub fn left_out(&self) -> u64 {
        self.0.left_out.load(Relaxed)
    }
}

/// The tasks that tell. [`close`](Self::close) ends them.
#[derive(Debug)]
pub struct Webhooks {
    task: JoinHandle<()>,
    closing: CancellationToken,
    counters: WebhookCounters,
}

/// One message, on its way to every address.
#[derive(Debug)]
struct Message {
    id: String,
    /// The event's type.
    kind: String,
    body: Bytes,
}

impl Webhooks {
    /// Starts to tell what comes in on the channel. Must be called on a tokio runtime.
    pub fn start(settings: WebhookSettings) -> (mpsc::Sender<Happened>, Self) {
        let (sender, happened) = mpsc::channel(MOST_UNSORTED);
        let (closing, counters) = (CancellationToken::new(), WebhookCounters::default());
        let task = tokio::spawn(sort(settings, happened, closing.clone(), counters.clone()));
        (sender, Self { task, closing, counters })
    }

    /// For the server's figures.
    pub fn counters(&self) -> WebhookCounters {
        self.counters.clone()
    }

    /// Sends what is waiting, each once more, and ends within `limit`.
    pub async fn close(mut self, limit: Duration) {
        self.closing.cancel();
        if timeout(limit, &mut self.task).await.is_err() {
            self.task.abort();
            tracing::warn!("webhooks were not all told when the server ended");
        }
    }
}

/// Loudness comes five times a second from everybody: it is for those who watch a room.
fn is_told(event: &RoomEvent) -> bool {
    !matches!(event, RoomEvent::Speaking { .. } | RoomEvent::Level { .. })
}

async fn sort(
    settings: WebhookSettings,
    mut happened: mpsc::Receiver<Happened>,
    closing: CancellationToken,
    counters: WebhookCounters,
) {
    let settings = Arc::new(settings);
    // Dropped with this task, which ends them.
    let mut tasks = JoinSet::new();
    let mut queues = Vec::new();
    for url in &settings.urls {
        let (queue, waiting) = mpsc::channel(settings.most_waiting);
        let teller = Teller {
            url: url.clone(),
            settings: settings.clone(),
            closing: closing.clone(),
            counters: counters.clone(),
        };
        tasks.spawn(teller.run(waiting));
        queues.push((url.clone(), queue));
    }
    loop {
        let next = tokio::select! {
            biased;
            next = happened.recv() => next,
            // All that happened before is in the channel already.
            () = closing.cancelled() => None,
        };
        let Some(happened) = next else { break };
        if !is_told(&happened.event) {
            continue;
        }
        let message = Arc::new(Message::of(&happened));
        for (url, queue) in &queues {
            if let Err(TrySendError::Full(_)) = queue.try_send(message.clone())
                && counters.0.left_out.fetch_add(1, Relaxed).is_power_of_two()
            {
                tracing::warn!(host = url.host_str(), "a webhook does not keep up: messages are left out");
            }
        }
    }
    drop(queues);
    while tasks.join_next().await.is_some() {}
}

impl Message {
    fn of(happened: &Happened) -> Self {
        #[derive(Serialize)]
        struct Body<'a> {
            id: &'a str,
            time: jiff::Timestamp,
            room: &'a str,
            event: &'a serde_json::Value,
        }
        let id = format!("w_{}", random_text(16));
        let event = serde_json::to_value(&happened.event).unwrap_or_default();
        let kind = event.get("type").and_then(|kind| kind.as_str()).unwrap_or_default().to_owned();
        let body = Body { id: &id, time: happened.time, room: &happened.room, event: &event };
        let body = serde_json::to_vec(&body).unwrap_or_default().into();
        Self { id, kind, body }
    }
}

/// Tells one address.
struct Teller {
    url: Url,
    settings: Arc<WebhookSettings>,
    closing: CancellationToken,
    counters: WebhookCounters,
}

impl Teller {
    async fn run(self, mut waiting: mpsc::Receiver<Arc<Message>>) {
        while let Some(message) = waiting.recv().await {
            match self.tell(&message).await {
                Ok(()) => {
                    self.counters.0.delivered.fetch_add(1, Relaxed);
                }
                Err(reason) => {
                    self.counters.0.given_up.fetch_add(1, Relaxed);
                    // Its path may be a password.
                    let host = self.url.host_str();
                    tracing::warn!(host, message.id = %message.id, "a webhook was not told of {}: {reason}", message.kind);
                }
            }
        }
    }

    async fn tell(&self, message: &Message) -> Result<(), Refused> {
        let mut wait = self.settings.first_wait;
        let mut attempt = 1;
        loop {
            let limit = self.settings.answer_limit;
            let posted = timeout(limit, post::post(&self.url, message, self.settings.secret.as_ref())).await;
            let failure = match posted.unwrap_or(Err(Refused::Late(limit))) {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            if failure.is_final() || attempt == self.settings.attempts || self.closing.is_cancelled() {
                return Err(failure);
            }
            tracing::debug!(host = self.url.host_str(), attempt, "a webhook is tried again in {wait:?}: {failure}");
            let shortened = wait.mul_f64(1.0 - rand::rng().random_range(0.0..0.25));
            // Once more at the end, and no later.
            let _ = self.closing.run_until_cancelled(sleep(shortened)).await;
            wait = wait.saturating_mul(2).min(self.settings.longest_wait);
            attempt += 1;
        }
    }
}
