//! The server dies, or its disk fills, stalls or refuses, while it records. What was recorded is there afterwards,
//! and the catalogue says so.
//!
//! Pictures are numbered with the time at which they were taken, so that what is missing is counted and not
//! guessed from a length. `SALON_CRASHES=100` kills the server a hundred times (ten are enough to notice what has been
//! broken), and `SALON_CRASHES_OUT` names a file for the figures.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests too")]

mod common;
#[path = "common/content.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod content;
#[path = "crash/disk.rs"]
mod disk;
#[path = "crash/numbers.rs"]
mod numbers;
#[path = "crash/server.rs"]
mod server;

use std::{collections::HashSet, time::Duration};

use content::Content;
use disk::Disk;
use rand::Rng;
use salon::media::CodecName;
use serde_json::{Value, json};
use server::{Guest, Server};

const DEFAULT_CRASHES: usize = 10;
/// What a file may lack of what had been taken when the server died: from the camera to the disk.
const MOST_LOST_S: f64 = 1.0;
/// A file's end may be so much later: a start is noticed after it has begun.
const MOST_GAINED_S: f64 = 0.3;
/// Between two pictures that follow each other in a file.
const MOST_APART: u32 = 4;

/// When the server is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Recording,
    Paused,
    Stopped,
    /// The publisher's picture has stood still for a while.
    Frozen,
    /// The publisher's picture has just changed its size.
    Resized,
    /// The publisher has just come back with another codec.
    Recoded,
}

impl Moment {
    const ALL: [Self; 6] = [Self::Recording, Self::Paused, Self::Stopped, Self::Frozen, Self::Resized, Self::Recoded];
}

/// What is in one file of a recording.
struct Found {
    /// Of the recording's time, in seconds: when it ends.
    until: f64,
    /// The numbers on its pictures; empty if it has none.
    numbers: Vec<u32>,
}

/// Decodes a file from start to end.
fn look(server: &Server, recording: &Value, file: &Value) -> Found {
    let path = server.path(recording, file);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), file["bytes"].as_u64().unwrap());
    let content = Content::read(&path);
    let numbers = numbers::read(&content).into_iter().map(|(_, number)| number).collect();
    Found { until: content.duration.as_secs_f64() + file["offset_ms"].as_f64().unwrap() / 1e3, numbers }
}

/// No picture in the middle is missing. (On a busy machine the first one stands until the next is decoded.)
fn assert_unbroken(numbers: &[u32], what: &str) {
    let begun = numbers.first().copied().unwrap_or_default();
    let settled: Vec<_> = numbers.iter().copied().filter(|number| numbers::since(begun, *number) >= 10).collect();
    for pair in settled.windows(2) {
        let apart = numbers::since(pair[0], pair[1]);
        assert!(apart <= MOST_APART, "{what}: {apart} tenths are missing after {}: {numbers:?}", pair[0]);
    }
}

/// A crash comes at a time, not at an event.
async fn wait(duration: Duration) {
    tokio::time::sleep(duration).await;
}

async fn wait_between(from_ms: u64, to_ms: u64) {
    let ms = rand::rng().random_range(from_ms..to_ms);
    wait(Duration::from_millis(ms)).await;
}

fn other(codec: CodecName) -> CodecName {
    if codec == CodecName::Vp8 { CodecName::H264 } else { CodecName::Vp8 }
}

#[tokio::test]
async fn a_server_that_is_killed_at_any_moment_loses_a_second_at_most() {
    common::log();
    gst::init().unwrap();
    let crashes = std::env::var("SALON_CRASHES").ok().map(|count| count.parse().unwrap());
    // Publishers that change are among the moments of the long run only: they take the longest.
    let long = crashes.is_some();
    let moments = if long { &Moment::ALL[..] } else { &Moment::ALL[..3] };
    let crashes = crashes.unwrap_or(DEFAULT_CRASHES);
    let home = tempfile::tempdir().unwrap();
    let recordings = home.path().join("recordings");
    let (mut known, mut figures) = (HashSet::new(), Vec::new());
    let mut server = Server::start(home.path(), &recordings).await;
    for crash in 0..crashes {
        let mode = ["composite", "both", "individual"][crash % 3];
        let moment = moments[(crash + crash / 3) % moments.len()];
        let mut codec = if crash % 2 == 0 { CodecName::Vp8 } else { CodecName::H264 };
        let room = format!("crash-{crash}");
        let mut guest = Guest::enter(&server, &room, codec).await;
        let (id, begun) = server.record(&room, mode).await;
        if crash == 0 {
            let list = server.api("GET", "recordings", None).await;
            assert_eq!(list[0]["files"][0]["kind"], "composite", "what grows is listed too: {list}");
        }
        wait_between(600, 2_500).await;
        // The last picture that must be there, and when the recording's time went on no more.
        let (mut last, mut recorded) = (numbers::now(), begun.elapsed().as_secs_f64());
        match moment {
            Moment::Recording => wait_between(0, 1_500).await,
            Moment::Paused => {
                server.api("POST", &format!("recordings/{id}/pause"), None).await;
                wait_between(0, 1_500).await;
            }
            Moment::Stopped => drop(server.api("POST", &format!("recordings/{id}/stop"), None).await),
            Moment::Frozen => {
                guest.freeze();
                wait_between(300, 1_500).await;
            }
            Moment::Resized => {
                guest.resize(256, 144);
                wait_between(0, 1_500).await;
            }
            Moment::Recoded => {
                guest.go().await;
                codec = other(codec);
                guest = Guest::enter(&server, &room, codec).await;
                if mode != "composite" {
                    let files = if mode == "both" { 5 } else { 4 };
                    let there = |now: &Value| now["files"].as_array().is_some_and(|all| all.len() == files);
                    server.until(&id, "the new tracks are recorded", there).await;
                }
                wait_between(1_200, 2_000).await;
            }
        }
        if !matches!(moment, Moment::Paused | Moment::Stopped) {
            recorded = begun.elapsed().as_secs_f64();
        }
        if !matches!(moment, Moment::Paused | Moment::Stopped | Moment::Frozen) {
            last = numbers::now();
        }
        server.kill().await;
        guest.go().await;
        server = Server::start(home.path(), &recordings).await;
        let kept = server.over(&id).await;
        let what = format!("{crash}: {mode}, {codec:?}, {moment:?}, after {recorded:.2} s");
        assert_eq!(kept["state"], "ready", "{what}: {kept}");
        assert_eq!(
            kept["participants"],
            json!(if moment == Moment::Recoded { vec!["Ann", "Ann"] } else { vec!["Ann"] }),
            "{what}: {kept}"
        );
        let files = kept["files"].as_array().unwrap();
        let tracks = if moment == Moment::Recoded { 4 } else { 2 };
        let expected = match mode {
            "composite" => 1,
            "both" => 1 + tracks,
            _ => tracks,
        };
        assert_eq!(files.len(), expected, "{what}: {kept}");
        let found: Vec<_> = files.iter().map(|file| (file, look(&server, &kept, file))).collect();
        // Of tracks that follow each other the last counts.
        for kind in ["composite", "audio", "video"] {
            let of = |file: &Value| file["kind"] == kind || file["track_kind"] == kind;
            let Some((file, found)) = found.iter().rev().find(|(file, _)| of(file)) else { continue };
            let name = file["name"].as_str().unwrap();
            let mut lost = recorded - found.until;
            if kind != "audio" {
                assert_unbroken(&found.numbers, &format!("{what}, {name}"));
                let end = found.numbers.last().unwrap_or_else(|| panic!("{what}, {name}: no picture"));
                // What was told to stop or pause a moment later may show a picture from after that.
                let apart =
                    if numbers::since(*end, last) < 2_048 { f64::from(numbers::since(*end, last)) } else { 0.0 };
                // The picture of a publisher who stands still has no later end.
                lost = match moment {
                    Moment::Frozen if kind == "video" => apart / 10.0,
                    // When the mix shows the publisher who came anew is not the crash's doing.
                    Moment::Recoded if kind == "composite" => lost,
                    _ => lost.max(apart / 10.0),
                };
            }
            println!("{what}, {name}: {lost:.2} s lost");
            figures.push(json!({"mode": mode, "codec": codec, "moment": format!("{moment:?}").to_lowercase(),
                "file": kind, "recorded_s": (recorded * 100.0).round() / 100.0, "lost_s": (lost * 100.0).round() / 100.0}));
            assert!((-MOST_GAINED_S..MOST_LOST_S).contains(&lost), "{what}, {name}: {lost:.2} s lost: {kept}");
        }
        known.insert(id);
    }
    let worst = figures.iter().map(|figure| figure["lost_s"].as_f64().unwrap()).fold(0.0, f64::max);
    println!("{crashes} crashes: {worst:.2} s lost at most");
    if let Ok(out) = std::env::var("SALON_CRASHES_OUT") {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let machine = format!(
            "{} × {}",
            std::thread::available_parallelism().unwrap(),
            model.trim_start_matches([' ', '\t', ':'])
        );
        let report = json!({"crashes": crashes, "lost_s_max": worst, "machine": machine,
            "build": "as for tests, not optimised", "files": figures});
        std::fs::write(out, format!("{report:#}\n")).unwrap();
    }
    let list = server.api("GET", "recordings", None).await;
    let listed: HashSet<_> =
        list.as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(listed, known);
    server.kill().await;
}

#[tokio::test]
async fn a_disk_that_fills_ends_recordings_whole_and_the_room_plays_on() {
    common::log();
    gst::init().unwrap();
    let home = tempfile::tempdir().unwrap();
    let recordings = home.path().join("recordings");
    let Some(disk) = Disk::small(&recordings, 8) else {
        println!("skipped: mounting a small disk takes more rights than this user has");
        return;
    };
    let server = Server::start(home.path(), &recordings).await;
    let guest = Guest::enter(&server, "full", CodecName::Vp8).await;
    let (id, _) = server.record("full", "both").await;
    wait(Duration::from_secs(3)).await;
    // Something else fills the disk to its last byte.
    let last = numbers::now();
    disk.fill();
    let kept = server.over(&id).await;
    assert_eq!(kept["state"], "ready", "{kept}");
    assert!(kept["reason"].as_str().unwrap().contains("the disk is full"), "{kept}");
    assert_eq!(kept["files"].as_array().unwrap().len(), 3, "{kept}");
    for file in kept["files"].as_array().unwrap() {
        // Not even its index could be rewritten: it plays as it was written.
        assert_lost_little(&look(&server, &kept, file), last, &kept);
    }
    // The room is as it was, and records again once there is space.
    disk.free();
    let (again, _) = server.record("full", "individual").await;
    wait(Duration::from_secs(1)).await;
    let stopped = server.api("POST", &format!("recordings/{again}/stop?wait_s=20"), None).await;
    assert_eq!((&stopped["state"], &stopped["reason"]), (&json!("ready"), &Value::Null), "{stopped}");
    guest.go().await;
    server.kill().await;
}

/// Its pictures are all there but the last second.
fn assert_lost_little(found: &Found, last: u32, recording: &Value) {
    if let Some(end) = found.numbers.last() {
        assert_unbroken(&found.numbers, "a file");
        let apart = numbers::since(*end, last);
        assert!(apart <= 10 || apart > 2_048, "{apart} tenths are lost: {recording}");
    }
}

#[tokio::test]
async fn a_disk_that_stalls_or_turns_read_only_costs_nothing_that_was_written() {
    common::log();
    gst::init().unwrap();
    let home = tempfile::tempdir().unwrap();
    let recordings = home.path().join("recordings");
    let Some(disk) = Disk::real(&recordings, 64) else {
        println!("skipped: mounting a disk takes more rights, or tools, than there are");
        return;
    };
    let mut server = Server::start(home.path(), &recordings).await;
    let guest = Guest::enter(&server, "slow", CodecName::Vp8).await;

    // A disk that takes nothing for seconds, twice: the recording waits, and has everything.
    let (id, _) = server.record("slow", "both").await;
    for _ in 0..2 {
        wait(Duration::from_millis(700)).await;
        disk.stall();
        wait(Duration::from_millis(2_500)).await;
        disk.go_on();
    }
    let last = numbers::now();
    let kept = server.api("POST", &format!("recordings/{id}/stop?wait_s=30"), None).await;
    assert_eq!((&kept["state"], &kept["reason"]), (&json!("ready"), &Value::Null), "{kept}");
    for file in kept["files"].as_array().unwrap() {
        assert_lost_little(&look(&server, &kept, file), last, &kept);
    }

    // It stalls, and the server is killed meanwhile.
    let (id, _) = server.record("slow", "both").await;
    wait(Duration::from_millis(1_500)).await;
    let last = numbers::now();
    disk.stall();
    wait(Duration::from_millis(1_000)).await;
    server.shoot();
    wait(Duration::from_millis(200)).await;
    disk.go_on();
    server.died().await;
    guest.go().await;
    server = Server::start(home.path(), &recordings).await;
    let kept = server.over(&id).await;
    assert_eq!((&kept["state"], kept["files"].as_array().unwrap().len()), (&json!("ready"), 3), "{kept}");
    for file in kept["files"].as_array().unwrap() {
        assert_lost_little(&look(&server, &kept, file), last, &kept);
    }

    // Nothing may be written any more, into open files neither: it ends with what there is, and says why.
    let guest = Guest::enter(&server, "slow", CodecName::H264).await;
    let (id, _) = server.record("slow", "both").await;
    wait(Duration::from_millis(1_500)).await;
    let last = numbers::now();
    disk.forbid_writing();
    let kept = server.over(&id).await;
    assert_eq!((&kept["state"], kept["files"].as_array().unwrap().len()), (&json!("ready"), 3), "{kept}");
    assert!(kept["reason"].as_str().unwrap().to_lowercase().contains("read-only"), "{kept}");
    for file in kept["files"].as_array().unwrap() {
        assert_lost_little(&look(&server, &kept, file), last, &kept);
    }
    // The room plays on; another recording ends at once, and is told, until the disk can be written to.
    let (status, refused) = server.ask("POST", "rooms/slow/recordings", Some(json!({"mode": "composite"}))).await;
    if status == 201 {
        let failed = server.over(refused["id"].as_str().unwrap()).await;
        assert!(failed["state"] == "failed" && failed["reason"].is_string(), "{failed}");
    } else {
        assert!(refused["code"].is_string(), "{status} {refused}");
    }
    // The disk is mended; what was recorded is still there, and it goes on.
    guest.go().await;
    server.kill().await;
    disk.allow_writing();
    server = Server::start(home.path(), &recordings).await;
    let guest = Guest::enter(&server, "slow", CodecName::Vp8).await;
    assert_eq!(server.api("GET", &format!("recordings/{id}"), None).await["state"], "ready");
    let (again, _) = server.record("slow", "composite").await;
    wait(Duration::from_secs(1)).await;
    let stopped = server.api("POST", &format!("recordings/{again}/stop?wait_s=20"), None).await;
    assert_eq!((&stopped["state"], &stopped["reason"]), (&json!("ready"), &Value::Null), "{stopped}");
    guest.go().await;
    server.kill().await;
}
