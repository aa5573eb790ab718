//! Figures of many viewers, and of the server while they watched.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::{process::Usage, session::Session};

/// Of a number of times, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Quantiles {
    /// How many there were.
    pub count: usize,
    /// Half of them are at most this.
    pub p50: f64,
    /// Of a hundred, ninety-nine are at most this.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Quantiles {
    /// Zeros if there are none.
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: f64| {
            let index = (times.len() as f64 * share).ceil() as usize;
            times.get(index.saturating_sub(1)).map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        Self { count: times.len(), p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// How long joining took.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Joins {
    /// Until DTLS was up.
    pub connected_ms: Quantiles,
    /// Until a whole keyframe had come.
    pub first_picture_ms: Quantiles,
    /// Viewers who have seen none.
    pub without_picture: usize,
}

impl Joins {
    /// Of viewers so far.
    pub fn of<'a>(viewers: impl IntoIterator<Item = &'a Session>) -> Self {
        let (mut connected, mut pictures, mut without) = (Vec::new(), Vec::new(), 0);
        for viewer in viewers {
            let tally = viewer.tally();
            connected.extend(tally.connected);
            pictures.extend(tally.first_picture);
            without += usize::from(tally.first_picture.is_none());
        }
        Self {
            connected_ms: Quantiles::of(connected),
            first_picture_ms: Quantiles::of(pictures),
            without_picture: without,
        }
    }
}

/// A stretch of watching.
#[derive(Clone, Debug, Serialize)]
pub struct Window {
    /// How long it was.
    pub seconds: f64,
    /// Connections that watched.
    pub viewers: usize,
    /// What came, each packet once.
    pub packets: u64,
    /// What did not, though it was numbered.
    pub lost: u64,
    /// Viewers who had nothing at all.
    pub without_packets: usize,
    /// The viewer who lost most.
    pub lost_by_one: u64,
    /// Of payload, all viewers together.
    pub mbit_per_s: f64,
    /// How long pictures were under way, from encoder to viewer.
    pub latency_ms: Quantiles,
    /// The longest time without a picture, of each viewer.
    pub pause_ms: Quantiles,
    /// What the server's process took.
    pub server: Option<Server>,
}

/// What a server's process took in a window.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Server {
    /// Of its processor time.
    pub us_per_packet: f64,
    /// Processors' worth.
    pub processors: f64,
    /// At the end.
    pub usage: Usage,
}

/// Lets them watch for so long. `process`: the server's, if it is on this machine.
///
/// # Errors
///
/// There is no such process.
pub async fn watch(viewers: &[&Session], process: Option<u32>, length: Duration) -> Result<Window> {
    for viewer in viewers {
        viewer.tally().take();
    }
    let (began, before) = (Instant::now(), process.map(Usage::of).transpose()?);
    tokio::time::sleep(length).await;
    let after = process.map(Usage::of).transpose()?;
    let seconds = began.elapsed().as_secs_f64();
    let (mut packets, mut bytes, mut lost, mut lost_by_one, mut without_packets) = (0, 0, 0, 0, 0);
    let (mut latencies, mut pauses) = (Vec::new(), Vec::new());
    for viewer in viewers {
        let window = viewer.tally().take();
        packets += window.packets;
        without_packets += usize::from(window.packets == 0);
        bytes += window.bytes;
        lost += window.lost;
        lost_by_one = window.lost.max(lost_by_one);
        latencies.extend(window.latencies);
        pauses.push(window.longest_pause);
    }
    let server = before.zip(after).map(|(before, after)| {
        let cpu = after.cpu_s - before.cpu_s;
        Server { us_per_packet: cpu * 1e6 / packets.max(1) as f64, processors: cpu / seconds, usage: after }
    });
    Ok(Window {
        seconds,
        viewers: viewers.len(),
        packets,
        lost,
        without_packets,
        lost_by_one,
        mbit_per_s: bytes as f64 * 8.0 / 1e6 / seconds,
        latency_ms: Quantiles::of(latencies),
        pause_ms: Quantiles::of(pauses),
        server,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_times_that_there_are() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        let quantiles = Quantiles::of(times);
        assert_eq!((quantiles.p50, quantiles.p99, quantiles.max), (100.0, 198.0, 200.0));
        assert_eq!(Quantiles::of(Vec::new()).max, 0.0);
        assert_eq!(Quantiles::of(vec![Duration::from_millis(3)]).p99, 3.0);
    }
}
