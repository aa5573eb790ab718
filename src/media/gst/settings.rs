//! What the engine needs to know of the configuration.

use std::{net::IpAddr, path::PathBuf};

/// What the engine needs to know of the configuration.
#[derive(Clone, Debug, Default, PartialEq)]
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
}
