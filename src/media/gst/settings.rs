//! What the engine needs to know of the configuration.

use std::{net::IpAddr, path::PathBuf};

use crate::media::{EdgeChoice, fanout::EdgeSettings};

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
    /// Through which edge viewers are served.
    pub edge: EdgeChoice,
}

impl MediaSettings {
    /// What the fan-out edge needs of them.
    pub(super) fn fanout(&self) -> EdgeSettings {
        EdgeSettings { bind: self.bind.clone(), announce: self.announce, ports: self.ports }
    }
}
