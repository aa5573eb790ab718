//! The domain: rooms, participants, tracks. No sockets and no GStreamer in here.

mod actor;
mod bucket;
pub mod command;
pub mod error;
pub mod event;
pub mod floor;
mod graph;
pub mod handle;
pub mod id;
mod membership;
pub mod model;
mod participant;
mod pin;
pub mod policy;
mod publication;
mod recording;
pub mod registry;
pub mod scene;
mod signal;
pub mod speaking;
mod subscription;

pub use handle::RoomHandle;
pub use registry::Registry;
