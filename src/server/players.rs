//! Players that are not browsers, over RTSP and SRT: who may see which room, and for how long.

use std::{net::SocketAddr, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::auth::{Caller, Gate};
use crate::{
    recording::RoomKey,
    room::{Registry, RoomHandle, id::ParticipantId, model::Role},
};

/// What a player's session works with.
#[derive(Clone)]
pub(super) struct House {
    pub(super) registry: Arc<Registry>,
    pub(super) gate: Gate,
    /// Only this machine reaches it. (Where others do, forwarders on this machine make them look like its own.)
    pub(super) is_local: bool,
    pub(super) stop: CancellationToken,
}

impl House {
    /// For players who come to `addresses`.
    pub(super) fn new(addresses: &[SocketAddr], registry: Arc<Registry>, gate: Gate) -> Self {
        let is_local = addresses.iter().all(|address| address.ip().to_canonical().is_loopback());
        Self { registry, gate, is_local, stop: CancellationToken::new() }
    }
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
    /// He may see `whose` tracks without their effects, as long as the server's setting lets his role, or they are his.
    pub(super) async fn may_see_clean(&self, house: &House, room: &RoomHandle, whose: &ParticipantId) -> bool {
        let role = match self {
            Self::Owner => Role::Moderator,
            Self::Key(_) => Role::Viewer,
            Self::Token(token, _) => {
                let token = token.parse().unwrap_or_else(|never| match never {});
                match room.whois(token).await.ok().flatten() {
                    Some((id, _)) if id == *whose => return true,
                    Some((_, role)) => role,
                    None => return false,
                }
            }
        };
        role >= house.registry.clean_tracks_for()
    }

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
}

/// The room of this name, if whoever comes from `peer` may see it by what he shows: its participants by their tokens,
/// whoever knows its PIN, and the server's owner.
pub(super) async fn admit(
    house: &House,
    peer: SocketAddr,
    name: &str,
    shown: Option<String>,
) -> Result<(RoomHandle, Grant), Refusal> {
    let is_here = house.is_local && peer.ip().to_canonical().is_loopback();
    let caller = house.gate.viewer(shown.as_deref(), is_here).await;
    let room = house.registry.find(name);
    match (caller, shown) {
        (Some(Caller::Participant { key, .. }), token) => {
            let room = room.ok_or(Refusal::NotFound)?;
            let is_his = room.key().await.is_ok_and(|its| its == key);
            if is_his { Ok((room, Grant::Token(token.unwrap_or_default(), key))) } else { Err(Refusal::NotFound) }
        }
        (Some(Caller::Owner | Caller::Anybody), _) => Ok((room.ok_or(Refusal::NotFound)?, Grant::Owner)),
        // A token that is no longer good is no guess at a PIN, and must not lock the door.
        (Some(Caller::Former(_)), _) => Err(Refusal::Unauthorised),
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
