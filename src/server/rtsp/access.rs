//! What a player names and shows: a room, what of it, and what is to open it.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    ingest::rtsp::message::Request,
    room::{id::ParticipantId, model::OutputOf},
    server::{
        players,
        request::{decode, find, parse_query},
    },
};

/// What an address names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) room: String,
    /// An error: what the query says of effects is none of `on` and `off`, or the mix is to have none.
    pub(super) of: Result<OutputOf, Refusal>,
    /// It says something of effects.
    pub(super) says_effects: bool,
    /// The stream, of an address that names one.
    pub(super) stream: Option<usize>,
    /// What stands in `?access=`.
    access: Option<String>,
    /// As it was named, without query and stream.
    pub(super) base: String,
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
    /// The query's `effects` is neither `on` nor `off`, or `off` for the mix.
    BadEffects,
    /// He may not see others without their effects.
    OnlyWithEffects,
    /// He has asked for more than players do.
    TooMuch,
}

impl From<players::Refusal> for Refusal {
    fn from(refusal: players::Refusal) -> Self {
        match refusal {
            players::Refusal::Unauthorised => Self::Unauthorised,
            players::Refusal::NotFound => Self::NotFound,
        }
    }
}

impl Named {
    /// Reads `rtsp://host/{room}/{mix or participant}[/streamN][?access=…&effects=off]`; players put the stream behind
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
        let query = parse_query(query);
        let says_effects = find(&query, "effects").is_some();
        let of = match (find(&query, "effects"), of) {
            (None | Some("on"), of) => Ok(of),
            (Some("off"), OutputOf::Participant(id)) => Ok(OutputOf::Clean(id)),
            (Some(_), _) => Err(Refusal::BadEffects),
        };
        let access = find(&query, "access").map(str::to_owned);
        let named = path.split('/').take(3).collect::<Vec<_>>().join("/");
        let base = format!("{}{named}", &uri[..uri.len() - rest.len() + rest.find('/')?]);
        Some(Self { room, of, says_effects, stream, access, base })
    }

    /// What is to open the room: in the address, or as `request`'s password.
    pub(super) fn shown(&self, request: &Request) -> Option<String> {
        self.access.clone().or_else(|| basic(request))
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
        assert_eq!((named.room.as_str(), named.of, named.stream), ("my room", Ok(OutputOf::Mix), None));
        assert_eq!(named.base, "rtsp://[::1]:8554/my%20room/mix");
        for address in [
            "rtsp://h/yard/p_x/stream1?access=a_1",
            "rtsp://h/yard/p_x?access=a_1/stream1",
            "rtsp://h/yard/p_x/?access=a_1/stream1",
        ] {
            let named = Named::parse(address).unwrap();
            assert_eq!(named.of, Ok(OutputOf::Participant("p_x".parse().unwrap())), "{address}");
            assert_eq!((named.stream, named.access.as_deref()), (Some(1), Some("a_1")), "{address}");
            assert_eq!(named.base, "rtsp://h/yard/p_x", "{address}");
        }
        let of = |address: &str| Named::parse(address).unwrap().of;
        assert_eq!(of("rtsp://h/yard/p_x?effects=off/stream1"), Ok(OutputOf::Clean("p_x".parse().unwrap())));
        assert_eq!(of("rtsp://h/yard/p_x?effects=on"), Ok(OutputOf::Participant("p_x".parse().unwrap())));
        for bad in ["rtsp://h/yard/mix?effects=off", "rtsp://h/yard/p_x?effects=no", "rtsp://h/yard/p_x?effects="] {
            assert_eq!(of(bad), Err(Refusal::BadEffects), "{bad}");
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
