//! The HTTP side over real sockets: a server on ports of the system's choice, the rooms and the
//! keeper as they are, and an engine without media whose recordings the tests write themselves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails right there")]

#[path = "server/access.rs"]
mod access;
#[path = "server/api.rs"]
mod api;
#[path = "server/bad_input.rs"]
mod bad_input;
#[path = "server/connections.rs"]
mod connections;
#[path = "server/harness.rs"]
mod harness;
#[path = "server/ingests.rs"]
mod ingests;
#[path = "server/keeping.rs"]
mod keeping;
#[path = "server/outputs.rs"]
mod outputs;
#[path = "server/pages.rs"]
mod pages;
#[path = "server/pictures.rs"]
mod pictures;
#[path = "server/recordings.rs"]
mod recordings;
#[path = "server/rtsp.rs"]
mod rtsp;
#[path = "server/srt.rs"]
mod srt;
#[path = "server/tls.rs"]
mod tls;
#[path = "server/tracks.rs"]
mod tracks;
#[path = "server/whip.rs"]
mod whip;
