//! Server-sent events: a room's events for listeners outside it.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use warp::{
    Reply,
    http::{HeaderValue, header},
    reply::Response,
};

use crate::room::{event::RoomEvent, model::RoomView};

/// Answers with the room as it is, then its events. A comment every `keep_alive` tells proxies and
/// us that the line stands. The stream ends with the room, when the listener was too slow, or with
/// the server.
pub fn answer(
    room: &RoomView,
    events: mpsc::Receiver<RoomEvent>,
    keep_alive: Duration,
    stop: CancellationToken,
) -> Response {
    let state = Line { first: Some(frame("room", 0, room)), events, count: 0, keep_alive, stop };
    let lines = futures_util::stream::unfold(state, |mut line| async move {
        let chunk = line.next().await?;
        Some((Ok::<_, Infallible>(chunk), line))
    });
    let mut response = warp::reply::stream(lines).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx holds back answers to fill its buffers unless it is told not to.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct Line {
    first: Option<Bytes>,
    events: mpsc::Receiver<RoomEvent>,
    count: u64,
    keep_alive: Duration,
    stop: CancellationToken,
}

impl Line {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        tokio::select! {
            biased;
            event = self.events.recv() => event.map(|event| {
                self.count += 1;
                frame_of(&event, self.count)
            }),
            () = self.stop.cancelled() => None,
            () = tokio::time::sleep(self.keep_alive) => Some(Bytes::from_static(b": keep-alive\n\n")),
        }
    }
}

fn frame_of(event: &RoomEvent, count: u64) -> Bytes {
    let value = serde_json::to_value(event).unwrap_or_default();
    let name = value.get("type").and_then(|name| name.as_str()).unwrap_or("message").to_owned();
    frame(&name, count, &value)
}

/// JSON has no line breaks of its own, so one `data` line is enough.
fn frame(name: &str, count: u64, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\nid: {count}\ndata: {data}\n\n").into()
}
