//! Cameras and other sources that the server fetches itself: what may be dialled, how a camera is
//! spoken to, and when it is tried again. No GStreamer: packets go up, pipelines are the engine's.

pub mod address;
pub mod backoff;
pub mod http;
pub mod rtsp;
pub mod tls;
#[cfg_attr(not(feature = "gstreamer"), expect(dead_code, reason = "the engine's outputs go through it"))]
pub(crate) mod tunnel;
pub mod uri;

pub use address::{AllowList, DialError};
pub use uri::{Credentials, IngestUri, Scheme, UriError};
