//! Who calls, and what he may.
//!
//! Three kinds of callers: the server's owner, a participant of a room, and anybody. What a caller
//! shows decides first: an access token (`a_…`) is a participant and nothing more, a wrong secret is
//! refused even on loopback. Who shows nothing is the owner only if no secret is set and he sits at
//! this machine, and then only if no web page of another site sent him (cross-site requests, DNS
//! rebinding) and no proxy stands in between.

use std::{net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use jiff::Timestamp;
use rand::Rng;
use warp::http::{HeaderMap, header};

use super::problem::Problem;
use crate::{
    config::Secret,
    recording::RoomKey,
    room::{
        Registry,
        id::{AccessToken, ParticipantId},
        model::Role,
    },
};

/// Rooms answer well within this; one that does not is not asked again.
const WHOIS_LIMIT: Duration = Duration::from_secs(2);
/// How long a viewing key opens something.
pub const VIEWING_TIME: Duration = Duration::from_secs(12 * 3600);
/// Headers that proxies add.
const PROXY_HEADERS: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The other end.
    pub address: SocketAddr,
    /// Over TLS.
    pub secure: bool,
}

/// What a route asks of its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Open,
    /// The owner, or a participant, who sees what is his room's.
    Participant,
    /// As `Participant`; also one whose key is over, for what is left of his room.
    Show,
    /// As `Participant`; also whoever has a viewing key of the owner's.
    Recordings,
    /// The owner, or a moderator of a room, who may change what is his room's.
    Moderator,
    /// The owner.
    Owner,
}

/// Who calls.
#[derive(Clone, Debug)]
pub enum Caller {
    /// Whoever runs the server.
    Owner,
    /// Somebody in a room.
    Participant {
        /// Who.
        id: ParticipantId,
        /// His room's name and PIN.
        key: RoomKey,
        /// What he may do there.
        role: Role,
    },
    /// Somebody who may have been in a room, by the key that he shows.
    Former(String),
    /// Nobody has asked.
    Anybody,
}

impl Caller {
    /// His room's key if he is bound to one.
    pub fn key(&self) -> Option<&RoomKey> {
        match self {
            Self::Participant { key, .. } => Some(key),
            Self::Owner | Self::Former(_) | Self::Anybody => None,
        }
    }
}

/// Decides who calls.
#[derive(Clone)]
pub struct Gate {
    secret: Option<Secret>,
    registry: Arc<Registry>,
    /// Signs viewing keys, which end with the process.
    viewing: Arc<hmac::Key>,
}

impl Gate {
    /// A gate that knows the owner by `secret`, and participants by the rooms of `registry`.
    pub fn new(secret: Option<Secret>, registry: Arc<Registry>) -> Self {
        let fresh: [u8; 32] = rand::rng().random();
        Self { secret, registry, viewing: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &fresh)) }
    }

    /// What opens all recordings for [`VIEWING_TIME`], and nothing else: `v_`, the second of its end, and a
    /// signature.
    pub fn viewing_key(&self) -> String {
        let end = Timestamp::now().as_second().saturating_add(VIEWING_TIME.as_secs() as i64);
        format!("v_{end}_{}", hex(hmac::sign(&self.viewing, end.to_string().as_bytes()).as_ref()))
    }

    fn by_viewing_key(&self, text: &str, needed: Access) -> Result<Caller, Problem> {
        let end = text.strip_prefix("v_").and_then(|rest| rest.split_once('_'));
        let is_ours = end.is_some_and(|(end, signature)| {
            let signature = unhex(signature).unwrap_or_default();
            let is_over = end.parse::<i64>().map_or(true, |end| end <= Timestamp::now().as_second());
            hmac::verify(&self.viewing, end.as_bytes(), &signature).is_ok() && !is_over
        });
        match needed {
            _ if !is_ours => Err(Problem::unauthorised("access_ended", "that viewing key is over; get another")),
            Access::Recordings => Ok(Caller::Owner),
            _ => Err(Problem::forbidden("owner_only", "a viewing key opens recordings, and nothing else")),
        }
    }

    /// Lets a request in as somebody, or not.
    ///
    /// `access` is the query's `access` parameter.
    ///
    /// # Errors
    /// 401 `no_credentials`, `bad_credentials` or `access_ended`; 403 `loopback_only`,
    /// `foreign_host`, `foreign_origin`, `behind_proxy`, `owner_only` or `moderator_only`.
    pub async fn admit(
        &self,
        needed: Access,
        peer: Peer,
        headers: &HeaderMap,
        access: Option<&str>,
    ) -> Result<Caller, Problem> {
        if needed == Access::Open {
            return Ok(Caller::Anybody);
        }
        let caller = match shown(headers, access)? {
            Some(text) if text.starts_with("a_") => match self.participant(text).await {
                Err(_) if needed == Access::Show => Caller::Former(text.to_owned()),
                other => other?,
            },
            Some(text) if text.starts_with("v_") && self.owner(text).is_err() => self.by_viewing_key(text, needed)?,
            Some(text) => self.owner(text)?,
            None if self.secret.is_some() => {
                return Err(Problem::unauthorised("no_credentials", "show the API secret as a bearer token"));
            }
            None => at_this_machine(peer, headers)?,
        };
        match (needed, &caller) {
            (Access::Owner, Caller::Participant { .. }) => {
                Err(Problem::forbidden("owner_only", "a participant's access token does not open this"))
            }
            (Access::Moderator, Caller::Participant { role, .. }) if *role < Role::Moderator => {
                Err(Problem::forbidden("moderator_only", "only a moderator of the room may do this"))
            }
            _ => Ok(caller),
        }
    }

    /// Who plays a room, by what he shows; `None`: nobody that is known here, which may yet be somebody who
    /// knows the room's PIN. `is_here`: he can only be at this machine, and is its owner if there is no secret.
    pub async fn viewer(&self, shown: Option<&str>, is_here: bool) -> Option<Caller> {
        match shown {
            Some(text) if text.starts_with("a_") => self.participant(text).await.ok(),
            Some(text) => self.owner(text).ok(),
            None => (self.secret.is_none() && is_here).then_some(Caller::Owner),
        }
    }

    /// Whether that is the owner's secret.
    pub fn is_secret(&self, offered: &str) -> bool {
        self.secret.as_ref().is_some_and(|secret| secret.is(offered))
    }

    fn owner(&self, offered: &str) -> Result<Caller, Problem> {
        match &self.secret {
            Some(secret) if secret.is(offered) => Ok(Caller::Owner),
            _ => Err(Problem::unauthorised("bad_credentials", "that is not the API secret")),
        }
    }

    async fn participant(&self, text: &str) -> Result<Caller, Problem> {
        let token = AccessToken::from_str(text).unwrap_or_else(|never| match never {});
        let room = self.registry.find_by_access(&token).ok_or_else(Problem::access_ended)?;
        let asked = async {
            let (id, role) = room.whois(token).await.ok().flatten()?;
            let key = room.key().await.ok()?;
            Some(Caller::Participant { id, key, role })
        };
        tokio::time::timeout(WHOIS_LIMIT, asked).await.ok().flatten().ok_or_else(Problem::access_ended)
    }
}

/// What the caller shows: the bearer token, else the `access` parameter, which takes access tokens only.
fn shown<'a>(headers: &'a HeaderMap, access: Option<&'a str>) -> Result<Option<&'a str>, Problem> {
    let bad = |detail: &str| Problem::unauthorised("bad_credentials", detail);
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let text = value.to_str().map_err(|_| bad("the Authorization header is not text"))?;
        let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
        if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
            return Err(bad("the Authorization header is not `Bearer` and a token"));
        }
        return Ok(Some(token.trim()));
    }
    match access {
        // Addresses end up in logs and histories: the owner's secret is not taken from one.
        Some(token) if !token.starts_with("a_") && !token.starts_with("v_") => {
            Err(bad("`access` takes a participant's access token, or a viewing key"))
        }
        access => Ok(access),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pair = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

/// The owner without a secret: at this machine, and not sent by somebody else's page.
fn at_this_machine(peer: Peer, headers: &HeaderMap) -> Result<Caller, Problem> {
    if !peer.address.ip().to_canonical().is_loopback() {
        return Err(Problem::forbidden(
            "loopback_only",
            "without SALON_API_SECRET the API answers on this machine only; set it and show it as a bearer token",
        ));
    }
    if PROXY_HEADERS.iter().any(|name| headers.contains_key(*name)) {
        return Err(Problem::forbidden("behind_proxy", "behind a proxy the API needs SALON_API_SECRET"));
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_this_machine(host) {
        return Err(Problem::forbidden("foreign_host", "without SALON_API_SECRET, call localhost, 127.0.0.1 or [::1]"));
    }
    if !same_origin(headers, host, peer.secure) {
        return Err(Problem::forbidden("foreign_origin", "a page of another site sent this request"));
    }
    Ok(Caller::Owner)
}

fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// Whether a browser, if it is one, sent this for a page of our own. `Origin` is missing from plain
/// GETs, which is why `Sec-Fetch-Site` is read too.
fn same_origin(headers: &HeaderMap, host: &str, secure: bool) -> bool {
    let scheme = if secure { "https" } else { "http" };
    let origin_fits = headers.get(header::ORIGIN).is_none_or(|origin| {
        origin.to_str().is_ok_and(|origin| origin.eq_ignore_ascii_case(&format!("{scheme}://{host}")))
    });
    let site_fits =
        headers.get("sec-fetch-site").is_none_or(|site| matches!(site.as_bytes(), b"same-origin" | b"none"));
    origin_fits && site_fits
}
