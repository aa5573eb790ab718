//! What a process takes, by `/proc`.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

/// At one moment.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Usage {
    /// Time on processors so far, in seconds.
    pub cpu_s: f64,
    /// Memory that is its own and in RAM, in KiB.
    pub rss_kib: u64,
    /// Threads.
    pub threads: u64,
    /// Open files and sockets.
    pub descriptors: u64,
}

impl Usage {
    /// Of the process with this number; an error if there is none, or it is somebody else's.
    pub fn of(process: u32) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{process}/{file}");
            fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))
        };
        let stat = read("stat")?;
        // The name in parentheses may have spaces; 11 and 12 behind it are ticks of 10 ms, user and system.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        let status = read("status")?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let descriptors = fs::read_dir(format!("/proc/{process}/fd"))
            .with_context(|| format!("the descriptors of {process} cannot be counted"))?
            .count() as u64;
        Ok(Self {
            cpu_s: ticks / 100.0,
            rss_kib: number("VmRSS:").unwrap_or_default(),
            threads: number("Threads:").unwrap_or_default(),
            descriptors,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_something() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss_kib > 100 && usage.threads >= 1 && usage.descriptors >= 3, "{usage:?}");
        assert!(Usage::of(u32::MAX).is_err());
    }
}
