//! What several test binaries share; each uses a part of it.
#![allow(dead_code, reason = "each test binary uses a part of this")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub mod camera;
pub mod client;
pub mod hall;
pub mod rtmp;
pub mod usage;
pub mod web;

use std::time::Duration;

/// Within this anything that is going to happen has happened, on a busy machine too.
pub const DEADLINE: Duration = Duration::from_secs(40);

/// Waits for `future`, and fails the test in its name after [`DEADLINE`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what} did not happen within {DEADLINE:?}"))
}

/// Logs to the test's output if `RUST_LOG` says so.
pub fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}
