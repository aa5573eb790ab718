//! An RTSP client (RFC 2326) that hands out RTP packets as they come.
//!
//! It is ours, and not `rtspsrc`, because every dial must be checked (redirects, addresses in
//! `Transport`), because credentials stay out of GStreamer's logs, and because whatever a hostile
//! server says is bounded here (ADR 5). What is in the packets is GStreamer's to know.

mod auth;
mod camera;
mod describe;
pub(crate) mod message;
pub(crate) mod udp;
pub(crate) mod wire;

use std::time::Duration;

use thiserror::Error;

use super::{AllowList, Credentials, DialError, IngestUri, tls::Fingerprint};
pub use camera::{Camera, Packet};
pub use describe::Stream;

/// How media comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP; UDP if the camera refuses it.
    #[default]
    Auto,
    /// Within the RTSP connection: nothing is lost, and no port is opened.
    Tcp,
    /// To ports of ours: nothing waits for what was lost.
    Udp,
    /// As TCP, within a pair of HTTP requests, for proxies and cameras that want it.
    Http,
}

/// What to fetch, and from whom.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Where it is.
    pub uri: IngestUri,
    /// What it asks for, if it asks.
    pub credentials: Option<Credentials>,
    /// How media is to come.
    pub transport: Transport,
    /// What may be dialled.
    pub allow: AllowList,
    /// Its certificate, if nobody else vouches for it.
    pub fingerprint: Option<Fingerprint>,
    /// Fetch the picture.
    pub video: bool,
    /// Fetch the sound.
    pub audio: bool,
}

/// Why a camera gives nothing, or nothing more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RtspError {
    /// It could not be reached, or may not be.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// TLS with it failed.
    #[error("TLS: {0}")]
    Tls(String),
    /// It did not answer.
    #[error("the camera did not answer {method} within {limit:?}")]
    Timeout {
        /// What it was asked.
        method: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// It wants other credentials, or any.
    #[error("the camera wants a name and a password, or others than these")]
    Unauthorised,
    /// It has nothing there.
    #[error("the camera has nothing at this path")]
    NotFound,
    /// It answered with another failure.
    #[error("the camera answered {method} with {status}")]
    Status {
        /// What it was asked.
        method: &'static str,
        /// RTSP's number.
        status: u16,
    },
    /// What it says is not what it should be, or too much of it.
    #[error("the camera does not speak its protocol properly: {0}")]
    Protocol(String),
    /// It has neither picture nor sound of the kinds asked for.
    #[error("the camera has nothing that was asked for")]
    NoMedia,
    /// It hung up.
    #[error("the camera hung up")]
    Closed,
    /// It keeps the connection and sends nothing.
    #[error("the camera sent nothing for {0:?}")]
    Stalled(Duration),
}

impl RtspError {
    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Dial(DialError::Refused { .. }) => "refused",
            Self::Dial(DialError::File { .. }) => "not_found",
            Self::Dial(DialError::Unresolved { .. }) => "unresolved",
            Self::Dial(DialError::Unreachable { .. }) => "unreachable",
            Self::Tls(_) => "tls",
            Self::Timeout { .. } => "timeout",
            Self::Unauthorised => "unauthorised",
            Self::NotFound => "not_found",
            Self::Status { .. } => "status",
            Self::Protocol(_) => "protocol",
            Self::NoMedia => "no_media",
            Self::Closed => "closed",
            Self::Stalled(_) => "stalled",
        }
    }
}
