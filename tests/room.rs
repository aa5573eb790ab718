//! The rules of rooms, over an engine without media and a paused clock: time passes only while
//! everybody waits, so the long waits of these tests take no time and their limits are exact.

#[path = "room/effects.rs"]
mod effects;
#[path = "room/harness.rs"]
mod harness;
#[path = "room/ingest.rs"]
mod ingest;
#[path = "room/media.rs"]
mod media;
#[path = "room/membership.rs"]
mod membership;
#[path = "room/recording.rs"]
mod recording;
#[path = "room/registry.rs"]
mod registry;
