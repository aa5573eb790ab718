//! Loads a media server over WebRTC without a browser.
//!
//! Each publisher and each viewer is a session without a thread of its own (str0m), with a UDP socket of its own, as
//! a browser's is. Publishers send a clip that is encoded already, so that the load costs little where it comes from;
//! viewers decrypt and count what comes and decode nothing. How long a picture was under way is written into it.
//!
//! ```text
//! clip ─► session (sends) ─► server ─► session (watches) ─► tally ─► report
//!            whip, native, janus: how a session is opened
//! ```

pub mod clip;
pub mod janus;
pub mod native;
pub mod process;
pub mod report;
pub mod session;
pub mod tally;
pub mod whip;
mod wire;
