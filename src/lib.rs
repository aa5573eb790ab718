//! Salon, a room media server. The map; ARCHITECTURE.md tells how data goes through it.

/// Settings: file, environment, flags.
pub mod config;
/// Protocol doors: each translates client messages to room commands, and room events back.
pub mod dialect;
/// What is missing on this machine, and how to mend it.
pub mod doctor;
/// Effects: the catalogue, typed parameters, chains.
pub mod effect;
/// Cameras: what may be dialled, and how they are spoken to.
pub mod ingest;
/// The media port and its engines.
pub mod media;
/// Recordings as files: catalogue, finalising, retention.
pub mod recording;
/// Rooms: the domain.
pub mod room;
/// Listeners, HTTP API, authorisation, metrics.
pub mod server;
/// Rooms' events, told by HTTP to addresses that the server's owner has set.
pub mod webhook;
