//! What a composite recording costs, against the peers that make the same file from the same clips:
//! ffmpeg (`xstack`), and a browser that is filmed off its screen. `script/bench record` runs it.
//!
//! CPU seconds per second of media, everything from the request to the finished file; what feeds our
//! tracks is measured before and subtracted. Rounds alternate between the peers; medians count.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on has failed")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use gst::prelude::*;
use plotters::style::{BLUE, RED};
use salon::{
    media::{CodecName, RecordingSpec, layout},
    room::id::ParticipantId,
};
use serde_json::{Value, json};

#[path = "../tests/common/content.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod content;
#[path = "record/desk.rs"]
mod desk;
#[allow(dead_code, reason = "shared with the other benches")]
mod figures;
#[path = "record/screen.rs"]
mod screen;
#[path = "../tests/common/studio.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod studio;

use content::Content;
use desk::{BITRATE_KBPS, CANVAS, FPS, LIVE};
use studio::{Studio, scene, tile};

/// Media of one measurement, in seconds.
const SECONDS: u32 = 30;
/// Of the pair that is compared most closely.
const ROUNDS: usize = 3;
/// ffmpeg reads as fast as it can, or as the clips play, which is how live media comes.
const AT_ONCE: &[&str] = &[];
const AS_IT_PLAYS: &[&str] = &["-re"];
/// x264's options where the picture is not live (`pipelines/encoders/x264-offline.toml`).
const OFFLINE: &str = "keyint=50:bframes=3";

/// One participant's media: packets for us, a file for the others.
struct Clip {
    video: Arc<Vec<gst::Buffer>>,
    audio: Arc<Vec<gst::Buffer>>,
    file: PathBuf,
}

/// What one measurement gave.
struct Outcome {
    cpu: f64,
    frames: u64,
    bytes: u64,
    file: PathBuf,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    gst::init().unwrap();
    let clip = Clip::make(folder.path()).await;
    // For a profiler: nothing but ours, of so many participants.
    if let Some(participants) = std::env::args().find_map(|argument| argument.strip_prefix("only=")?.parse().ok()) {
        let (ours, _) = salon(&clip, participants, &folder.path().join("only.mp4")).await;
        return println!("{participants}: {:.3} CPU s per media s, {} bytes/s", ours.cpu, ours.bytes);
    }
    if std::env::args().any(|argument| argument == "only=files") {
        return println!("{:#}", from_files(&clip, folder.path()));
    }
    let mut counts = Vec::new();
    for participants in [2, 6, 12, 25] {
        let rounds = if participants == 6 { ROUNDS } else { 1 };
        let (mut ours, mut ffmpeg, mut paced) = (Vec::new(), Vec::new(), Vec::new());
        let mut likeness = None;
        for round in 0..rounds {
            let target = |name: &str| folder.path().join(format!("{name}-{participants}-{round}.mp4"));
            let (salon, offset) = salon(&clip, participants, &target("salon")).await;
            let peer = xstack(&clip, participants, LIVE, AT_ONCE, &target("ffmpeg"));
            let live = xstack(&clip, participants, LIVE, AS_IT_PLAYS, &target("ffmpeg-live"));
            println!(
                "{participants} × round {round}: salon {:.3}, ffmpeg {:.3}, as it plays {:.3}",
                salon.cpu, peer.cpu, live.cpu
            );
            likeness.get_or_insert_with(|| {
                (alike(&salon.file, &clip, participants, offset), alike(&peer.file, &clip, participants, 0.0))
            });
            ours.push(salon);
            ffmpeg.push(peer);
            paced.push(live);
        }
        let (ours_ssim, ffmpeg_ssim) = likeness.unwrap();
        counts.push(json!({
            "participants": participants,
            "salon": summary(&ours, ours_ssim),
            "ffmpeg": summary(&ffmpeg, ffmpeg_ssim),
            "ratio": median(&ours) / median(&ffmpeg),
            "ratio_as_it_plays": median(&ours) / median(&paced),
            "ffmpeg_as_it_plays_cpu_s_per_media_s": median(&paced),
        }));
    }
    let files = from_files(&clip, folder.path());
    let start = time_to_first_picture().await;
    let browser = screen::film(&clip.file, 6, folder.path());
    let six = counts.iter().find(|count| count["participants"] == 6).unwrap();
    let browser = browser.map(
        |cpu| json!({ "cpu_s_per_media_s": cpu, "ratio": six["salon"]["cpu_s_per_media_s"].as_f64().unwrap() / cpu }),
    );
    let report = json!({
        "what": "composite recording of n × 640×360 H.264 + Opus to 1280×720 at 25 fps, x264 veryfast + AAC",
        "machine": figures::machine(),
        "seconds": SECONDS,
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "counts": counts,
        "six_files": files,
        "first_picture_after_ms": start,
        "browser_filmed_off_screen": browser,
    });
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks");
    std::fs::create_dir_all(&target).unwrap();
    std::fs::write(target.join("record.json"), format!("{report:#}\n")).unwrap();
    plot(&target.join("record.svg"), &report);
    println!("{report:#}");
    check(&report);
}

/// Nobody wins by doing less.
fn check(report: &Value) {
    for count in report["counts"].as_array().unwrap().iter().chain([&report["six_files"]]) {
        let of = |peer: &str, what: &str| count[peer][what].as_f64().unwrap();
        let frames = (of("salon", "frames_per_s"), of("ffmpeg", "frames_per_s"));
        assert!((frames.0 - frames.1).abs() < 0.5, "not as many frames: {count:#}");
        let bytes = of("salon", "bytes_per_s") / of("ffmpeg", "bytes_per_s");
        assert!((0.95..=1.05).contains(&bytes), "not as large: {bytes:.3} {count:#}");
        // A live mix shows some frame twice and passes over another, which counts against it here; ffmpeg
        // reads files and does not.
        assert!(of("salon", "ssim") > 0.9 && of("ffmpeg", "ssim") > 0.9, "not as good: {count:#}");
    }
}

/// `salon record` of six files against ffmpeg's composite of the same, both as fast as the machine can.
fn from_files(clip: &Clip, folder: &Path) -> Value {
    const FILES: usize = 6;
    let (mut ours, mut ffmpeg) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let target = folder.join(format!("files-{round}.mp4"));
        let mut salon = Command::new(env!("CARGO_BIN_EXE_salon"));
        salon.arg("record").args(vec![&clip.file; FILES]).arg("--output").arg(&target).arg("--no-labels");
        salon.args(["--fps", &FPS.to_string(), "--max-s", &SECONDS.to_string()]);
        salon.args(["--size", &format!("{}x{}", CANVAS.0, CANVAS.1), "--bitrate", &BITRATE_KBPS.to_string()]);
        let before = children_cpu_seconds();
        let status = salon.stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.unwrap().success(), "salon record made its file");
        ours.push(Outcome::of(children_cpu_seconds() - before, f64::from(SECONDS), &target));
        ffmpeg.push(xstack(clip, FILES, OFFLINE, AT_ONCE, &folder.join(format!("files-ffmpeg-{round}.mp4"))));
        println!("files × round {round}: salon {:.3}, ffmpeg {:.3}", ours[round].cpu, ffmpeg[round].cpu);
    }
    let likeness = [&ours, &ffmpeg].map(|made| alike(&made[0].file, clip, FILES, 0.0));
    json!({
        "salon": summary(&ours, likeness[0]),
        "ffmpeg": summary(&ffmpeg, likeness[1]),
        "ratio": median(&ours) / median(&ffmpeg),
    })
}

/// How long after the request for a recording the first picture in its file was taken, in milliseconds:
/// five times, of a room in which nothing was decoded before.
async fn time_to_first_picture() -> Vec<f64> {
    const RED: u32 = 0xffff_0000;
    let mut found = Vec::new();
    for _ in 0..5 {
        let mut studio = Studio::open().await;
        let red = studio.colour(CodecName::H264, RED, 640, 360).await;
        studio.wait(1.0).await;
        let spec = RecordingSpec { width: CANVAS.0, height: CANVAS.1, fps: FPS, ..Default::default() };
        let tiles = vec![tile(&ParticipantId::random(), "", Some(&red))];
        let requested = studio.now();
        let mut take = studio.record(&spec, &scene(tiles, &[]));
        take.started().await;
        studio.reach(requested + 2.5).await;
        let file = take.stop().await;
        let content = Content::read(&studio.finalise(&file).0);
        let shows = |frame: &usize| content.colour(*frame as f64 / f64::from(FPS), [400, 200, 400, 300])[2] > 200.0;
        let first = (0..content.frames()).find(shows).expect("the picture is in the file");
        found.push(first as f64 * 1000.0 / f64::from(FPS));
        red.end().await;
        studio.close().await;
    }
    println!("first picture after {found:?} ms");
    found
}

impl Clip {
    /// A zone plate in motion and a tone: pictures that fill the encoder's rate.
    async fn make(folder: &Path) -> Self {
        let file = folder.join("clip.mp4");
        let frames = SECONDS * FPS + 100;
        let blocks = frames * 2;
        let launch = format!(
            "videotestsrc pattern=zone-plate kx2=8 ky2=8 kt=1 num-buffers={frames} ! \
             video/x-raw,format=I420,width=640,height=360,framerate={FPS}/1,colorimetry=bt601 ! \
             x264enc tune=zerolatency speed-preset=veryfast key-int-max=50 bitrate=1000 ! \
             video/x-h264,profile=constrained-baseline ! tee name=v ! queue max-size-buffers=0 max-size-bytes=0 max-size-time=0 ! h264parse ! mp4mux name=mux ! filesink location={} \
             v. ! queue max-size-buffers=0 max-size-bytes=0 max-size-time=0 ! rtph264pay pt=96 config-interval=-1 ! appsink name=video sync=false \
             audiotestsrc freq=440 volume=0.2 samplesperbuffer=960 num-buffers={blocks} ! audio/x-raw,rate=48000,channels=2 ! opusenc ! \
             tee name=a ! queue max-size-buffers=0 max-size-bytes=0 max-size-time=0 ! mux. a. ! queue max-size-buffers=0 max-size-bytes=0 max-size-time=0 ! rtpopuspay pt=111 ! appsink name=audio sync=false",
            file.display()
        );
        let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
        // A sink that was not started says that there is nothing more.
        pipeline.set_state(gst::State::Playing).unwrap();
        let sink = |name: &str| pipeline.by_name(name).unwrap().downcast::<gst_app::AppSink>().unwrap();
        let readers = ["video", "audio"].map(|name| {
            let sink = sink(name);
            tokio::task::spawn_blocking(move || drain(&sink))
        });
        let [video, audio] = readers;
        let (video, audio) = (video.await.unwrap(), audio.await.unwrap());
        let bus = pipeline.bus().unwrap();
        let end =
            bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &[gst::MessageType::Eos, gst::MessageType::Error]);
        assert!(matches!(end.unwrap().view(), gst::MessageView::Eos(_)), "the clip is made");
        pipeline.set_state(gst::State::Null).unwrap();
        Self { video: Arc::new(video), audio: Arc::new(audio), file }
    }
}

fn drain(sink: &gst_app::AppSink) -> Vec<gst::Buffer> {
    let mut packets = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        match (sample.buffer_owned(), sample.buffer_list()) {
            (Some(buffer), _) => packets.push(buffer),
            (None, Some(list)) => packets.extend(list.iter_owned()),
            (None, None) => {}
        }
    }
    packets
}

/// Our recording, and how far into the clip it begins, in seconds.
async fn salon(clip: &Clip, participants: usize, target: &Path) -> (Outcome, f64) {
    let mut studio = Studio::open().await;
    let (mut sources, mut tiles, mut heard) = (Vec::new(), Vec::new(), Vec::new());
    let playing_since = studio.now();
    for _ in 0..participants {
        let video = studio.replay(CodecName::H264, &clip.video).await;
        let audio = studio.replay(CodecName::Opus, &clip.audio).await;
        tiles.push(tile(&ParticipantId::random(), "", Some(&video)));
        sources.push(video);
        heard.push(audio);
    }
    // What feeds the tracks is not what is measured.
    let (before, from) = (cpu_seconds(), studio.now());
    studio.wait(1.0).await;
    let feeding = (cpu_seconds() - before) / (studio.now() - from);
    let spec = RecordingSpec { width: CANVAS.0, height: CANVAS.1, fps: FPS, ..Default::default() };
    let (before, from) = (cpu_seconds(), studio.now());
    let audible: Vec<_> = heard.iter().collect();
    let mut take = studio.record(&spec, &scene(tiles, &audible));
    take.started().await;
    studio.reach(from + f64::from(SECONDS) - 1.0).await;
    let file = take.stop().await;
    let finished = salon::recording::mp4::finalise(&file, target).unwrap();
    let cpu = cpu_seconds() - before - feeding * (studio.now() - from);
    for source in sources.into_iter().chain(heard) {
        source.end().await;
    }
    studio.close().await;
    (Outcome::of(cpu, finished.duration.as_secs_f64(), target), from - playing_since)
}

/// ffmpeg's composite of the same clips, in one process, with the encoder's options made equal; `reads`: how it
/// reads each of them.
fn xstack(clip: &Clip, participants: usize, options: &str, reads: &[&str], target: &Path) -> Outcome {
    let tiles = layout::grid(CANVAS.0, CANVAS.1, participants, 16.0 / 9.0, 8);
    let scaled: String = tiles
        .iter()
        .enumerate()
        .map(|(n, tile)| format!("[{n}:v]scale={}:{}[v{n}];", tile.width, tile.height))
        .collect();
    let inputs: String = (0..participants).map(|n| format!("[v{n}]")).collect();
    let places: Vec<String> = tiles.iter().map(|tile| format!("{}_{}", tile.x, tile.y)).collect();
    let sounds: String = (0..participants).map(|n| format!("[{n}:a]")).collect();
    let filter = format!(
        "{scaled}{inputs}xstack=inputs={participants}:fill=black:layout={}[s];[s]pad={}:{}:0:0[v];{sounds}amix=inputs={participants}:normalize=0[a]",
        places.join("|"),
        CANVAS.0,
        CANVAS.1
    );
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-y", "-v", "error"]);
    for _ in 0..participants {
        ffmpeg.args(reads).arg("-i").arg(&clip.file);
    }
    let rate = format!("{BITRATE_KBPS}k");
    ffmpeg
        .args([
            "-filter_complex",
            &filter,
            "-map",
            "[v]",
            "-map",
            "[a]",
            "-t",
            &SECONDS.to_string(),
            "-r",
            &FPS.to_string(),
        ])
        .args(["-c:v", "libx264", "-preset", "veryfast", "-b:v", &rate, "-pix_fmt", "yuv420p"])
        .args(["-x264-params", options])
        .args(["-c:a", "aac", "-b:a", "128k", "-ac", "2", "-movflags", "+faststart"])
        .arg(target);
    let before = children_cpu_seconds();
    assert!(ffmpeg.stdin(Stdio::null()).status().unwrap().success(), "ffmpeg made its file");
    Outcome::of(children_cpu_seconds() - before, f64::from(SECONDS), target)
}

impl Outcome {
    /// `cpu`: of all of it.
    fn of(cpu: f64, seconds: f64, file: &Path) -> Self {
        let probe = Command::new("ffprobe")
            .args([
                "-v",
                "error",
                "-count_packets",
                "-select_streams",
                "v",
                "-show_entries",
                "stream=nb_read_packets",
                "-of",
                "csv=p=0",
            ])
            .arg(file)
            .output()
            .unwrap();
        let frames: u64 = String::from_utf8(probe.stdout).unwrap().trim().trim_end_matches(',').parse().unwrap();
        let bytes = std::fs::metadata(file).unwrap().len();
        let per_second = 1.0 / seconds;
        Self {
            cpu: cpu * per_second,
            frames: (frames as f64 * per_second * 1000.0) as u64,
            bytes: (bytes as f64 * per_second) as u64,
            file: file.to_owned(),
        }
    }
}

/// How like the clip the first tile is: SSIM over three seconds from second 8 on, of the best of the
/// shifts by whole frames that a live start allows.
fn alike(file: &Path, clip: &Clip, participants: usize, offset: f64) -> f64 {
    let tile = layout::grid(CANVAS.0, CANVAS.1, participants, 16.0 / 9.0, 8)[0];
    let shifts = if offset == 0.0 { 0..=0 } else { -5..=25 };
    let ssim = |shift: i32| {
        let from = 8.0 + offset + f64::from(shift) / f64::from(FPS);
        let filter = format!(
            "[0:v]crop={}:{}:{}:{},setpts=PTS-STARTPTS[a];[1:v]scale={}:{},setpts=PTS-STARTPTS[b];[a][b]ssim",
            tile.width, tile.height, tile.x, tile.y, tile.width, tile.height
        );
        let output = Command::new("ffmpeg")
            .args(["-v", "info", "-ss", "8", "-t", "3", "-i"])
            .arg(file)
            .args(["-ss", &format!("{from:.3}"), "-t", "3", "-i"])
            .arg(&clip.file)
            .args(["-filter_complex", &filter, "-f", "null", "-"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let all = text.rsplit("All:").next().and_then(|rest| rest.split_whitespace().next().map(str::to_owned));
        all.and_then(|value| value.parse::<f64>().ok()).unwrap_or_else(|| panic!("ffmpeg's ssim: {text}"))
    };
    shifts.map(ssim).fold(0.0, f64::max)
}

fn median(outcomes: &[Outcome]) -> f64 {
    let mut cpus: Vec<f64> = outcomes.iter().map(|outcome| outcome.cpu).collect();
    cpus.sort_by(f64::total_cmp);
    cpus[cpus.len() / 2]
}

fn summary(outcomes: &[Outcome], ssim: f64) -> Value {
    json!({
        "cpu_s_per_media_s": median(outcomes),
        "rounds": outcomes.iter().map(|outcome| outcome.cpu).collect::<Vec<_>>(),
        "frames_per_s": outcomes[0].frames as f64 / 1000.0,
        "bytes_per_s": outcomes[0].bytes,
        "ssim": ssim,
    })
}

/// User and system time of this process, in seconds.
fn cpu_seconds() -> f64 {
    figures::cpu_seconds("self", [11, 12])
}

/// The same of its children that have ended.
fn children_cpu_seconds() -> f64 {
    figures::cpu_seconds("self", [13, 14])
}

fn plot(target: &Path, report: &Value) {
    let points = |peer: &str| -> Vec<(f64, f64)> {
        let counts = report["counts"].as_array().unwrap().iter();
        counts
            .map(|count| (count["participants"].as_f64().unwrap(), count[peer]["cpu_s_per_media_s"].as_f64().unwrap()))
            .collect()
    };
    let lines = vec![("salon", points("salon"), BLUE), ("ffmpeg", points("ffmpeg"), RED)];
    let caption = "Composite recording to 1280×720 at 25 fps";
    figures::plot(target, caption, ["participants", "CPU s per media s"], lines);
}
