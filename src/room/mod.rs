//! The domain: rooms, participants, tracks. No sockets and no GStreamer in here.

pub mod actor;
pub mod command;
pub mod error;
pub mod event;
pub mod handle;
pub mod id;
pub mod model;
pub mod policy;
pub mod registry;

pub use handle::RoomHandle;
pub use registry::Registry;
