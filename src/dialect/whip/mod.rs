//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): one HTTP request publishes into a room, or shows
//! what is published in it (`docs/protocol/whip.md`).
//!
//! The words of this protocol in ours: an *endpoint* is a room's door, a *resource* or *session* is one
//! participant with one connection, its *ETag* names the connection's ICE credentials.

pub mod door;
pub mod error;
pub mod message;
pub mod openapi;
pub mod routes;
pub mod session;

pub use door::Hub;
pub use routes::routes;
