//! The domain: rooms, participants, tracks. No sockets and no GStreamer in here.

mod actor;
mod bucket;
pub mod command;
mod effects;
pub mod error;
pub mod event;
pub mod floor;
mod graph;
pub mod guests;
pub mod handle;
pub mod id;
mod ingest;
mod membership;
pub mod model;
mod output;
mod participant;
mod pictures;
mod pin;
pub mod policy;
mod publication;
mod push;
mod recording;
pub mod registry;
mod restart;
pub mod scene;
mod signal;
pub mod speaking;
mod subscription;
mod tape;
mod watch;

pub use handle::RoomHandle;
pub use registry::Registry;
