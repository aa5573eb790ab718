//! STUN and TURN servers, as the clients' `RTCConfiguration.iceServers` wants them.

use serde::{Deserialize, Serialize};

use super::Secret;

/// One entry of `iceServers`.
#[derive(Clone, Debug, PartialEq)]
pub struct IceServer {
    /// `stun:`, `turn:` or `turns:` URLs.
    pub urls: Vec<String>,
    /// For TURN.
    pub username: Option<String>,
    /// For TURN.
    pub credential: Option<Secret>,
}

/// An entry as written: `urls` may be one text or a list, as in browsers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    urls: OneOrMany,
    username: Option<String>,
    credential: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Serialize)]
struct Told<'a> {
    urls: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<&'a str>,
}

/// What clients are told, credentials included: they need them.
pub fn for_clients(servers: &[IceServer]) -> serde_json::Value {
    let told: Vec<Told<'_>> = servers
        .iter()
        .map(|server| Told {
            urls: &server.urls,
            username: server.username.as_deref(),
            credential: server.credential.as_ref().map(Secret::reveal),
        })
        .collect();
    serde_json::to_value(told).unwrap_or_else(|_| serde_json::Value::Array(Vec::new()))
}

/// Reads a JSON list, or URLs separated by commas.
pub(super) fn parse(text: &str) -> Result<Vec<IceServer>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let servers = if text.starts_with('[') { from_json(text)? } else { from_urls(text) };
    servers.iter().try_for_each(check)?;
    Ok(servers)
}

fn from_json(text: &str) -> Result<Vec<IceServer>, String> {
    let written: Vec<Written> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(written
        .into_iter()
        .map(|server| IceServer {
            urls: match server.urls {
                OneOrMany::One(url) => vec![url],
                OneOrMany::Many(urls) => urls,
            },
            username: server.username,
            credential: server.credential.map(|text| Secret::new(&text)),
        })
        .collect())
}

fn from_urls(text: &str) -> Vec<IceServer> {
    text.split(',')
        .map(|url| IceServer { urls: vec![url.trim().to_owned()], username: None, credential: None })
        .collect()
}

fn check(server: &IceServer) -> Result<(), String> {
    if server.urls.is_empty() {
        return Err("an entry has no `urls`".into());
    }
    for url in &server.urls {
        let host = ["stun:", "stuns:", "turn:", "turns:"].iter().find_map(|scheme| url.strip_prefix(scheme));
        match host {
            Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => {}
            _ => return Err(format!("`{url}` is not a STUN or TURN URL")),
        }
        // Browsers refuse the whole configuration for one TURN server without credentials.
        if url.starts_with("turn") && (server.username.is_none() || server.credential.is_none()) {
            return Err(format!("`{url}` needs `username` and `credential` (write the list as JSON)"));
        }
    }
    Ok(())
}
