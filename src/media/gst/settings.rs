//! What the engine needs to know of the configuration.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use crate::media::{EdgeChoice, fanout::EdgeSettings};

/// What the engine needs to know of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct MediaSettings {
    /// Addresses to bind media sockets on; empty: every interface but loopback, or loopback if
    /// there is no other.
    pub bind: Vec<IpAddr>,
    /// The address to announce instead of the bound one (NAT, containers).
    pub announce: Option<IpAddr>,
    /// Ports for media, both ends included; `None`: the system chooses.
    pub ports: Option<(u16, u16)>,
    /// The fan-out edge takes clients over TCP too.
    pub tcp: bool,
    /// A folder whose files override the embedded `pipelines/`.
    pub pipelines: Option<PathBuf>,
    /// ICE and DTLS of a connection must be up by then.
    pub connect_timeout: Duration,
    /// Free space of the disk that recordings leave alone; they end before it.
    pub disk_reserve_bytes: u64,
    /// Through which edge viewers are served.
    pub edge: EdgeChoice,
    /// Mixes at once in all rooms together, in those of 1280×720 at 25 frames a second.
    pub max_mixes: u64,
}

impl Default for MediaSettings {
    fn default() -> Self {
        Self {
            bind: Vec::new(),
            announce: None,
            ports: None,
            tcp: true,
            pipelines: None,
            connect_timeout: Duration::from_secs(20),
            disk_reserve_bytes: 64 << 20,
            max_mixes: 32,
            edge: EdgeChoice::default(),
        }
    }
}

impl MediaSettings {
    /// What the fan-out edge needs of them.
    pub(super) fn fanout(&self) -> EdgeSettings {
        EdgeSettings {
            bind: self.bind.clone(),
            announce: self.announce,
            ports: self.ports,
            tcp: self.tcp,
            connect_timeout: self.connect_timeout,
        }
    }
}
