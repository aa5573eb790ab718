//! What the engine needs to know of the configuration.

use std::{net::IpAddr, path::PathBuf, time::Duration};

/// What the engine needs to know of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct MediaSettings {
    /// Addresses to bind media sockets on; empty: every interface but loopback, or loopback if
    /// there is no other.
    pub bind: Vec<IpAddr>,
    /// The address to announce instead of the bound one (NAT, containers).
    pub announce: Option<IpAddr>,
    /// UDP ports for media, both ends included; `None`: the system chooses.
    pub ports: Option<(u16, u16)>,
    /// A folder whose files override the embedded `pipelines/`.
    pub pipelines: Option<PathBuf>,
    /// ICE and DTLS of a connection must be up by then.
    pub connect_timeout: Duration,
}

impl Default for MediaSettings {
    fn default() -> Self {
        Self {
            bind: Vec::new(),
            announce: None,
            ports: None,
            pipelines: None,
            connect_timeout: Duration::from_secs(20),
        }
    }
}
