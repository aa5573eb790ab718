//! What a player names and shows: a room, what of it, and why he may see it.

use std::net::SocketAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::House;
use crate::{
    ingest::rtsp::message::Request,
    recording::RoomKey,
    room::{RoomHandle, id::ParticipantId, model::OutputOf},
    server::{
        auth::Caller,
        request::{decode, find, parse_query},
    },
};

/// What an address names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) room: String,
    pub(super) of: OutputOf,
    /// The stream, of an address that names one.
    pub(super) stream: Option<usize>,
    /// What stands in `?access=`.
    access: Option<String>,
    /// As it was named, without query and stream.
    pub(super) base: String,
}

/// Why a player was let in, to see whether that holds.
#[derive(Clone)]
pub(super) enum Grant {
    /// Whoever runs the server.
    Owner,
    /// This token's participant is in the room of this name and PIN.
    Token(String, RoomKey),
    /// He knew this name and PIN.
    Key(RoomKey),
}

impl Grant {
    /// The participant is still in, the PIN the same.
    pub(super) async fn holds(&self, house: &House, room: &RoomHandle) -> bool {
        let (token, key) = match self {
            Self::Owner => return true,
            Self::Token(token, key) => (Some(token), key),
            Self::Key(key) => (None, key),
        };
        let is_in = match token {
            Some(token) => house.gate.viewer(Some(token), false).await.is_some(),
            None => true,
        };
        is_in && room.key().await.is_ok_and(|now| now == *key)
    }
}

/// Why a player gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// He shows nothing, or nothing that opens this.
    Unauthorised,
    /// Not there, or not for him to know.
    NotFound,
    /// There is no way to send it.
    Unsupported,
    /// He has asked for more than players do.
    TooMuch,
}

impl Named {
    /// Reads `rtsp://host/{room}/{mix or participant}[/streamN][?access=…]`; players put the stream behind
    /// the query, too.
    pub(super) fn parse(uri: &str) -> Option<Self> {
        let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
        let path = &rest[rest.find('/')?..];
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let (query, behind) = query.split_once('/').map_or((query, None), |(query, behind)| (query, Some(behind)));
        let mut segments = path.split('/').skip(1);
        let (room, of) = (decode(segments.next()?)?, decode(segments.next()?)?);
        let stream = segments.next().filter(|text| !text.is_empty()).or(behind);
        let stream = match stream.filter(|text| !text.is_empty()) {
            Some(text) => Some(text.strip_prefix("stream")?.parse().ok()?),
            None => None,
        };
        if room.is_empty() || of.is_empty() || segments.any(|rest| !rest.is_empty()) {
            return None;
        }
        let of = match of.as_str() {
            "mix" => OutputOf::Mix,
            other => OutputOf::Participant(other.parse::<ParticipantId>().unwrap_or_else(|never| match never {})),
        };
        let access = find(&parse_query(query), "access").map(str::to_owned);
        let named = path.split('/').take(3).collect::<Vec<_>>().join("/");
        let base = format!("{}{named}", &uri[..uri.len() - rest.len() + rest.find('/')?]);
        Some(Self { room, of, stream, access, base })
    }
}

/// The room, if whoever sent `request` may see it: its participants by their tokens, whoever knows its PIN,
/// and the server's owner.
pub(super) async fn admit(
    house: &House,
    peer: SocketAddr,
    named: &Named,
    request: &Request,
) -> Result<(RoomHandle, Grant), Refusal> {
    let shown = named.access.clone().or_else(|| basic(request));
    let is_here = house.is_local && peer.ip().to_canonical().is_loopback();
    let caller = house.gate.viewer(shown.as_deref(), is_here).await;
    let room = house.registry.find(&named.room);
    match (caller, shown) {
        (Some(Caller::Participant { key, .. }), token) => {
            let room = room.ok_or(Refusal::NotFound)?;
            let is_his = room.key().await.is_ok_and(|its| its == key);
            if is_his { Ok((room, Grant::Token(token.unwrap_or_default(), key))) } else { Err(Refusal::NotFound) }
        }
        (Some(Caller::Owner | Caller::Anybody), _) => Ok((room.ok_or(Refusal::NotFound)?, Grant::Owner)),
        // A token that is no longer good is no guess at a PIN, and must not lock the door.
        (None, Some(token)) if token.starts_with("a_") => Err(Refusal::Unauthorised),
        // Whether there is such a room is not for strangers to know.
        (None, Some(pin)) => {
            let room = room.ok_or(Refusal::Unauthorised)?;
            room.check_pin(pin, peer.ip().into()).await.map_err(|_| Refusal::Unauthorised)?;
            let key = room.key().await.map_err(|_| Refusal::NotFound)?;
            Ok((room, Grant::Key(key)))
        }
        (None, None) => Err(Refusal::Unauthorised),
    }
}

/// The password of basic authentication (RFC 7617), or the name where there is no password.
fn basic(request: &Request) -> Option<String> {
    let (scheme, encoded) = request.header("Authorization")?.trim().split_once(' ')?;
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(encoded.trim()).ok())??;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(if password.is_empty() { user } else { password }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_a_room_and_what_of_it() {
        let named = Named::parse("rtsp://[::1]:8554/my%20room/mix").unwrap();
        assert_eq!((named.room.as_str(), named.of, named.stream), ("my room", OutputOf::Mix, None));
        assert_eq!(named.base, "rtsp://[::1]:8554/my%20room/mix");
        for address in [
            "rtsp://h/yard/p_x/stream1?access=a_1",
            "rtsp://h/yard/p_x?access=a_1/stream1",
            "rtsp://h/yard/p_x/?access=a_1/stream1",
        ] {
            let named = Named::parse(address).unwrap();
            assert_eq!(named.of, OutputOf::Participant("p_x".parse().unwrap()), "{address}");
            assert_eq!((named.stream, named.access.as_deref()), (Some(1), Some("a_1")), "{address}");
            assert_eq!(named.base, "rtsp://h/yard/p_x", "{address}");
        }
        for nothing in [
            "*",
            "rtsp://h",
            "rtsp://h/",
            "rtsp://h/yard",
            "rtsp://h/yard/mix/x",
            "rtsp://h/a/mix/stream1/b",
            "rtsp://h/%ff/mix",
        ] {
            assert_eq!(Named::parse(nothing), None, "{nothing}");
        }
    }
}
