//! What a forwarded camera costs, against ffmpeg that copies the same RTSP stream to a file at the same time.
//! `script/bench ingest` runs it.
//!
//! Shares of a processor core for each camera (H.264 1280×720 at 25 fps and Opus, which browsers take as they are):
//! pulled while nobody watches, and with one player of each over our RTSP server. Cameras, players and ffmpeg are
//! processes of their own; the room is in this one.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on has failed")]

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use plotters::style::{BLUE, GREEN, RED};
use salon::{
    ingest::rtsp::Transport,
    media::{
        gst::{GstEngine, MediaSettings},
        ingest::{Handling, IngestMedia, IngestState},
    },
    room::{
        Registry,
        command::Caller,
        event::CloseReason,
        model::{IngestDetails, IngestRequest},
        policy::RoomPolicy,
    },
    server::{auth::Gate, rtsp::RtspServer},
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::sleep};

#[path = "../tests/common/mod.rs"]
#[allow(unused_imports, reason = "shared with the tests")]
mod common;
#[allow(dead_code, reason = "shared with the other benches")]
mod figures;

use common::{
    camera::{self, Model, TestCamera, source},
    client::RED as COLOUR,
};

/// Cameras at once; `cameras=1,2` on the command line asks for others.
const COUNTS: [usize; 3] = [1, 4, 8];
/// Of each measurement; `seconds=5` likewise.
const SECONDS: u64 = 20;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let asked = |name: &str| std::env::args().find_map(|it| it.strip_prefix(name).map(str::to_owned));
    let counts = asked("cameras=").map(|list| list.split(',').map(|it| it.parse().unwrap()).collect());
    let counts: Vec<usize> = counts.unwrap_or(COUNTS.to_vec());
    let seconds = asked("seconds=").map_or(SECONDS, |it| it.parse().unwrap());
    let video = camera::H264.replace("bitrate=400", "bitrate=2000");
    // One process and one encode, however many ask for it.
    let camera = TestCamera::start(&Model::new(COLOUR, (1280, 720), &video, 440, camera::OPUS));
    let mut rows = Vec::new();
    for count in counts {
        rows.push(measure(&camera.uri(), count, seconds).await);
        println!("{:#}", rows[rows.len() - 1]);
    }
    let report = json!({
        "what": "share of a core for each camera, H.264 1280×720 at 25 fps and Opus over RTSP in TCP",
        "machine": figures::machine(),
        "seconds": seconds,
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "counts": rows,
    });
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks");
    std::fs::create_dir_all(&target).unwrap();
    std::fs::write(target.join("ingest.json"), format!("{report:#}\n")).unwrap();
    plot(&target.join("ingest.svg"), &report);
}

async fn measure(uri: &str, count: usize, seconds: u64) -> Value {
    let engine = Arc::new(GstEngine::new(MediaSettings::default()).unwrap());
    let (keeper, _notices) = mpsc::channel(16);
    let registry = Registry::new(RoomPolicy::default(), engine, keeper);
    let room = registry.find_or_create("yard").unwrap();
    let any = [([127, 0, 0, 1], 0).into()];
    let server = RtspServer::start(&any, registry.clone(), Gate::new(None, registry)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut copies = Vec::new();
    for number in 0..count {
        let source = source(uri, Transport::Tcp);
        let name = format!("Door {number}");
        let request = IngestRequest { name, source, latency: Duration::from_millis(100), on_demand: false };
        room.add_ingest(Caller::Owner, request).await.unwrap();
        copies.push(ffmpeg(uri, &["-f", "matroska"], folder.path().join(format!("{number}.mkv")).to_str().unwrap()));
    }
    let forwarded = |one: &IngestDetails| {
        let media = [&one.status.video, &one.status.audio];
        let is_forwarded = |it: &Option<IngestMedia>| it.as_ref().is_some_and(|it| it.handling == Handling::Forwarded);
        one.status.state == IngestState::Live && media.iter().all(|it| is_forwarded(it))
    };
    let ingests = loop {
        let ingests = room.ingests(Caller::Owner).await.unwrap();
        if ingests.iter().all(forwarded) {
            break ingests;
        }
        sleep(Duration::from_millis(200)).await;
    };
    // Everybody's first seconds are dearer.
    sleep(Duration::from_secs(3)).await;
    let (pulled, copied) = shares(&copies, seconds).await;
    let base = format!("rtsp://{}/yard", server.addresses()[0]);
    let player = |one: &IngestDetails| ffmpeg(&format!("{base}/{}", one.id), &["-f", "null"], "-");
    let players: Vec<_> = ingests.iter().map(player).collect();
    sleep(Duration::from_secs(3)).await;
    let (watched, copied_again) = shares(&copies, seconds).await;
    for mut process in copies.into_iter().chain(players) {
        assert!(process.try_wait().unwrap().is_none(), "ffmpeg has ended: nothing was measured");
        process.kill().unwrap();
        process.wait().unwrap();
    }
    server.close(Duration::from_secs(2)).await;
    room.close(CloseReason::Deleted).await.unwrap();
    let each = count as f64;
    let ffmpeg = f64::midpoint(copied, copied_again) / each;
    json!({
        "cameras": count,
        "salon_pulled": pulled / each,
        "salon_one_player_each": watched / each,
        "ffmpeg_copy": ffmpeg,
        "ratio_pulled": pulled / each / ffmpeg,
        "ratio_one_player_each": watched / each / ffmpeg,
    })
}

/// Copies a stream, without a word.
fn ffmpeg(uri: &str, format: &[&str], target: &str) -> Child {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-rtsp_transport", "tcp", "-i", uri, "-c", "copy"]).args(format);
    ffmpeg.args(["-y", target]).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Shares of a core that this process and those processes take, within the same seconds.
async fn shares(others: &[Child], seconds: u64) -> (f64, f64) {
    let of_others = || others.iter().map(|it| cpu_seconds(&it.id().to_string())).sum::<f64>();
    let (ours, theirs, began) = (cpu_seconds("self"), of_others(), std::time::Instant::now());
    sleep(Duration::from_secs(seconds)).await;
    let took = began.elapsed().as_secs_f64();
    ((cpu_seconds("self") - ours) / took, (of_others() - theirs) / took)
}

/// User and system time of a process, in seconds.
fn cpu_seconds(process: &str) -> f64 {
    figures::cpu_seconds(process, [11, 12])
}

fn plot(target: &Path, report: &Value) {
    let points = |what: &str| -> Vec<(f64, f64)> {
        let counts = report["counts"].as_array().unwrap().iter();
        counts.map(|row| (row["cameras"].as_f64().unwrap(), 100.0 * row[what].as_f64().unwrap())).collect()
    };
    let lines = vec![
        ("salon, nobody watches", points("salon_pulled"), BLUE),
        ("salon, one player each", points("salon_one_player_each"), GREEN),
        ("ffmpeg -c copy", points("ffmpeg_copy"), RED),
    ];
    figures::plot(target, "A camera, 1280×720 at 25 fps, forwarded", ["cameras", "% of a core, each"], lines);
}
