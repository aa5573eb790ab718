//! The door itself: `/ws` upgrades to a WebSocket whose frames the driver reads and writes.

use std::{future::ready, sync::Arc};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use warp::{
    Filter, Rejection, Reply,
    http::StatusCode,
    reply::Response,
    ws::{Message, WebSocket, Ws},
};

use super::driver::{Incoming, Outgoing, drive};
use crate::{
    room::{Registry, guests::Address},
    server::{auth::Peer, srt::SrtPlace},
};

/// A message larger than this ends the socket, in bytes; smaller ones are refused one by one.
pub const MAX_MESSAGE_BYTES: usize = 2 * 1024 * 1024;

/// What every session needs.
#[derive(Clone)]
pub struct Hub {
    /// All rooms.
    pub registry: Arc<Registry>,
    /// Told to clients, as a list of `RTCIceServer`.
    pub ice_servers: Value,
    /// Of this server.
    pub version: String,
    /// Where players call over SRT, if anywhere.
    pub srt: Option<SrtPlace>,
}

/// Which web pages may open a socket.
///
/// Browsers let any page open a WebSocket to any host, and say which page it was: without this
/// check a stranger's page could act in the name of whoever looks at it. Programs send no `Origin`
/// and are let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Besides pages of this very host: origins such as `https://example.org`, or `*` for all.
    pub allowed: Vec<String>,
}

impl Origins {
    /// Whether a page of `origin` may connect to `host`, both as in the request's headers.
    pub fn allows(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        let same_host = origin.split_once("://").is_some_and(|(_, authority)| {
            host.is_some_and(|host| !authority.is_empty() && authority.eq_ignore_ascii_case(host))
        });
        same_host || self.allowed.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
    }
}

/// The filter for `/ws`.
pub fn routes(
    hub: Arc<Hub>,
    origins: Origins,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + 'static {
    let origins = Arc::new(origins);
    warp::path("ws")
        .and(warp::path::end())
        .and(warp::ws())
        .and(warp::header::optional::<String>("origin"))
        .and(warp::header::optional::<String>("host"))
        .and(warp::ext::optional::<Peer>())
        .map(move |ws: Ws, origin: Option<String>, host: Option<String>, peer: Option<Peer>| {
            if !origins.allows(origin.as_deref(), host.as_deref()) {
                tracing::warn!(?origin, ?host, "a page of another origin was refused");
                let why = "pages of this origin may not connect\n";
                return warp::reply::with_status(why, StatusCode::FORBIDDEN).into_response();
            }
            let hub = hub.clone();
            let from = peer.map_or_else(Address::default, |peer| peer.address.ip().into());
            ws.max_message_size(MAX_MESSAGE_BYTES)
                .max_frame_size(MAX_MESSAGE_BYTES)
                .on_upgrade(move |socket| async move { serve(&hub, from, socket).await })
                .into_response()
        })
}

async fn serve(hub: &Hub, from: Address, socket: WebSocket) {
    let (sink, stream) = socket.split();
    // A socket that fails is a socket that ends; only "too big" is worth an answer.
    let frames = stream.scan(false, |ended, frame| {
        let frame = match frame {
            _ if *ended => None,
            Ok(message) if message.is_close() => None,
            Ok(message) => Some(read(message)),
            Err(error) => {
                *ended = true;
                is_too_big(&error).then_some(Incoming::TooBig)
            }
        };
        ready(frame)
    });
    let sink = sink.with(|frame| ready(Ok::<_, warp::Error>(written(frame))));
    drive(hub, from, std::pin::pin!(frames), std::pin::pin!(sink)).await;
}

fn read(message: Message) -> Incoming {
    match message.to_str() {
        Ok(text) => Incoming::Text(text.to_owned()),
        Err(()) if message.is_binary() => Incoming::Binary,
        Err(()) => Incoming::Alive,
    }
}

fn written(frame: Outgoing) -> Message {
    match frame {
        Outgoing::Text(text) => Message::text(text),
        Outgoing::Ping => Message::ping(Vec::new()),
        Outgoing::Close(code, reason) => Message::close_with(code, reason),
    }
}

/// warp hides the type of its WebSocket errors, so this reads the text; a test over a real socket
/// watches that it stays so. If it did not, the socket would end without the close code.
fn is_too_big(error: &warp::Error) -> bool {
    error.to_string().contains("too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_pages_allowed_pages_and_programs_connect() {
        let own = Origins::default();
        assert!(own.allows(None, Some("salon.example:4443")));
        assert!(own.allows(Some("https://salon.example:4443"), Some("Salon.example:4443")));
        assert!(!own.allows(Some("https://evil.example"), Some("salon.example")));
        assert!(!own.allows(Some("https://salon.example.evil.example"), Some("salon.example")));
        assert!(!own.allows(Some("null"), Some("null")));
        assert!(!own.allows(Some("https://"), Some("")));
        assert!(!own.allows(Some("https://salon.example"), None));
        let listed = Origins { allowed: vec!["https://app.example".into()] };
        assert!(listed.allows(Some("https://app.example"), Some("salon.example")));
        assert!(!listed.allows(Some("http://app.example"), Some("salon.example")));
        assert!(Origins { allowed: vec!["*".into()] }.allows(Some("null"), None));
    }
}
