//! The native dialect: its session alone, its driver under a paused clock, and the whole over a real
//! socket; flows and bad input are transcripts in `tests/fixtures/native`, replayed over both.

#[path = "dialect_native/client.rs"]
mod client;
#[path = "dialect_native/driver.rs"]
mod driver;
#[path = "dialect/scenario.rs"]
mod scenario;
#[path = "dialect_native/session.rs"]
mod session;
#[path = "dialect_native/socket.rs"]
mod socket;
#[path = "dialect_native/transcript.rs"]
mod transcript;
