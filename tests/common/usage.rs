//! What a process holds, to see whether it grows.

use std::time::Duration;

use salon::media::gst::live_pipelines;

/// What a leak would make grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub threads: usize,
    pub descriptors: usize,
    pub pipelines: usize,
}

impl Usage {
    pub fn now() -> Self {
        let count = |folder| std::fs::read_dir(folder).unwrap().count();
        Self { threads: count("/proc/self/task"), descriptors: count("/proc/self/fd"), pipelines: live_pipelines() }
    }

    pub fn is_within(self, limit: Self) -> bool {
        self.threads <= limit.threads && self.descriptors <= limit.descriptors && self.pipelines <= limit.pipelines
    }
}

/// Pools of threads shrink when they feel like it, and tell nobody: so this looks now and then.
pub async fn settles_within(limit: Usage) -> Result<(), Usage> {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..400 {
        ticks.tick().await;
        if Usage::now().is_within(limit) {
            return Ok(());
        }
    }
    Err(Usage::now())
}
