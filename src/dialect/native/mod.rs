//! The native WebSocket protocol (`docs/protocol/native.md`): JSON text frames at `/ws`.

pub mod driver;
pub mod error;
pub mod message;
pub mod routes;
pub mod session;

pub use routes::{Hub, Origins, routes};
