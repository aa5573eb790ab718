//! Rooms of people who publish over WebRTC, recorded: what that costs against a browser that joins the room and is filmed,
//! and how many such rooms the machine records at once. `script/bench record webrtc` and `script/bench record rooms`
//! run it.
//!
//! Publishers are of crates/salon-load, in this process: they send VP8 640×360 at 25 fps and Opus, encoded before.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on has failed")]

use std::{path::Path, time::Duration};

use plotters::style::{BLUE, RED};
use serde_json::{Value, json};
use tokio::{task::block_in_place, time::sleep};

#[path = "record/desk.rs"]
mod desk;
mod figures;
#[path = "rooms/film.rs"]
mod film;
#[path = "rooms/page.rs"]
mod page;
#[path = "rooms/room.rs"]
mod room;
#[allow(dead_code, reason = "shared with the other benches")]
#[path = "forward/servers.rs"]
mod servers;

use desk::Desk;
use film::Film;
use room::{Counted, Room};
use servers::Running;

const ROOM: &str = "bench";
/// In a room; `people=4` on the command line asks for others.
const PEOPLE: usize = 6;
/// Media of one measurement, in seconds; `seconds=10` likewise.
const SECONDS: u32 = 20;
/// With each side; `rounds=1` likewise.
const ROUNDS: usize = 3;
/// Rooms at most; `most=2` likewise.
const MOST: usize = 16;
/// The last number of rooms that keeps up must do so for this time too.
const HOLD: Duration = Duration::from_secs(20);
/// What has just begun is not measured.
const WARM: Duration = Duration::from_secs(3);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let number = |name: &str, usual: usize| {
        let given = std::env::args().find_map(|it| it.strip_prefix(name).map(str::to_owned));
        given.map_or(usual, |it| it.parse().unwrap())
    };
    let chosen = |what: &str| {
        !std::env::args().any(|it| it == "webrtc" || it == "rooms") || std::env::args().any(|it| it == what)
    };
    let (people, seconds) = (number("people=", PEOPLE), number("seconds=", SECONDS as usize) as u32);
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks");
    let write = |name: &str, mut report: Value| {
        report["machine"] = figures::machine();
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        report["build"] = json!(std::env::var("SALON_BIN").map_or(build, |_| "the server that SALON_BIN names"));
        println!("{report:#}");
        std::fs::write(target.join(name), format!("{report:#}\n")).unwrap();
        report
    };
    if chosen("webrtc") {
        let report = write("record-webrtc.json", against_browser(people, seconds, number("rounds=", ROUNDS)).await);
        plot_sides(&target.join("record-webrtc.svg"), &report);
        let whole = |row: &Value| row["lacks"].is_null();
        assert!(report["rounds"]["salon"].as_array().unwrap().iter().all(whole), "Salon's recordings are not whole");
        let share = report["share_of_bytes"].as_f64();
        assert!(share.is_none_or(|it| it > 0.85), "Salon's recordings have fewer bytes: {share:?} of the browser's");
    }
    if chosen("rooms") {
        let report = write("record-rooms.json", rooms(people, number("most=", MOST)).await);
        plot_rooms(&target.join("record-rooms.svg"), &report);
    }
}

/// One room, recorded by Salon and by a browser that is filmed, in turns.
async fn against_browser(people: usize, seconds: u32, rounds: usize) -> Value {
    let (mut ours, mut theirs, mut receiving) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let mut host = page::Host::new().await;
        let server = servers::salon(&servers::measured(), "auto", &["--origins", &host.origin]).await;
        let room = Room::fill(&server, ROOM, people).await;
        sleep(WARM).await;
        let before = server.usage().cpu_s;
        sleep(WARM).await;
        receiving.push((server.usage().cpu_s - before) / WARM.as_secs_f64());
        ours.push(recorded(&server, &room, seconds, people).await);
        println!("round {round}: {:#}", ours[round]);
        host.show(&server.url, people);
        theirs.extend(filmed(&server, &host, seconds, people).await);
        println!("round {round}: {:#}", theirs.last().unwrap_or(&Value::Null));
    }
    let parts = |rows: &[Value], names: &[&str]| -> Value {
        names
            .iter()
            .map(|name| ((*name).to_owned(), json!(median(rows, name))))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let receiving = median(&receiving.iter().map(|it| json!({"cpu": it})).collect::<Vec<_>>(), "cpu");
    let salon = parts(&ours, &["cpu_s_per_media_s"]);
    let browser =
        (!theirs.is_empty()).then(|| parts(&theirs, &["cpu_s_per_media_s", "salon", "x_server", "browser", "ffmpeg"]));
    let ratio = browser.as_ref().map(|_| median(&ours, "cpu_s_per_media_s") / median(&theirs, "cpu_s_per_media_s"));
    let bytes = |rows: &[Value]| median(&rows.iter().map(|it| it["film"].clone()).collect::<Vec<_>>(), "bytes_per_s");
    let share_of_bytes = browser.as_ref().map(|_| bytes(&ours) / bytes(&theirs));
    json!({
        "what": "six publishers over WebRTC (VP8 640×360 at 25 fps, Opus) recorded to 1280×720 at 25 fps, x264 veryfast: by \
                 Salon (with AAC sound), and by a browser that joins the room, filmed by ffmpeg off its screen (without \
                 sound); medians, CPU seconds for each second of media, of all that each side needs; publishers are not counted",
        "people": people,
        "seconds": seconds,
        "salon_receives_alone_cpu_s_per_s": receiving,
        "salon": salon,
        "browser": browser,
        "ratio": ratio,
        "share_of_bytes": share_of_bytes,
        "rounds": {"salon": ours, "browser": theirs},
    })
}

/// From the request to the finished file.
async fn recorded(server: &Running, room: &Room<'_>, seconds: u32, people: usize) -> Value {
    let before = server.usage().cpu_s;
    let id = room.record().await;
    sleep(Duration::from_secs(seconds.into())).await;
    let file = room.stop(&id).await;
    let cpu = server.usage().cpu_s - before;
    let film = block_in_place(|| Film::read(&file, people));
    json!({"cpu_s_per_media_s": cpu / film.seconds, "lacks": lacks(&film), "film": film})
}

/// While the browser shows everybody; `None` without one.
async fn filmed(server: &Running, host: &page::Host, seconds: u32, people: usize) -> Option<Value> {
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::open(&host.origin, folder.path())?;
    host.all_move(people).await;
    block_in_place(|| desk.settle());
    let file = folder.path().join("screen.mp4");
    let ([x_before, browser_before], salon_before, shown_before) = (desk.used(), server.usage().cpu_s, host.shows());
    let ffmpeg = block_in_place(|| desk.film(seconds, &file));
    let ([x_server, browser], salon, shown) = (desk.used(), server.usage().cpu_s, host.shows());
    drop(desk);
    let film = block_in_place(|| Film::read(&file, people));
    let of = |cpu: f64| cpu / film.seconds;
    let (salon, x_server, browser) = (salon - salon_before, x_server - x_before, browser - browser_before);
    let pictures = |now: u64, before: u64| of((now - before) as f64) / people as f64;
    Some(json!({
        "cpu_s_per_media_s": of(salon + x_server + browser + ffmpeg),
        "salon": of(salon), "x_server": of(x_server), "browser": of(browser), "ffmpeg": of(ffmpeg),
        "decoded_per_s": pictures(shown.pictures, shown_before.pictures),
        "not_shown_per_s": pictures(shown.dropped, shown_before.dropped),
        "lacks": lacks(&film),
        "film": film,
    }))
}

/// Nobody wins by doing less: what is missing in a file, if anything.
fn lacks(film: &Film) -> Option<String> {
    let bitrate = film.bytes_per_s * 8.0 / 1e3 / f64::from(desk::BITRATE_KBPS);
    if (film.frames_per_s - f64::from(desk::FPS)).abs() > 0.5 {
        Some(format!("frames: {:.1} a second", film.frames_per_s))
    } else if !(0.8..1.15).contains(&bitrate) {
        Some(format!("size: {bitrate:.2} of the bit rate that was asked for"))
    } else if film.moving_per_s < 0.9 * f64::from(desk::FPS) {
        Some(format!("movement: {:.1} new pictures a second in the worst tile", film.moving_per_s))
    } else if film.ssim_of_worst_tile < 0.9 {
        Some(format!("likeness: {:.3} in the worst tile", film.ssim_of_worst_tile))
    } else {
        None
    }
}

/// Rooms that are recorded, one more each time, until frames are late or lost.
async fn rooms(people: usize, most: usize) -> Value {
    let server = servers::salon(&servers::measured(), "auto", &["--max-mixes", "1000"]).await;
    let (mut open, mut steps, mut held) = (Vec::<(Room<'_>, String)>::new(), Vec::<Value>::new(), Vec::<Value>::new());
    let mut kept = 0;
    while open.len() < most {
        let room = Room::fill(&server, &format!("{ROOM} {}", open.len() + 1), people).await;
        let id = room.record().await;
        open.push((room, id));
        sleep(WARM).await;
        steps.push(step(&server, &open, 2 * WARM).await);
        if steps[steps.len() - 1]["keeps_up"] == false {
            break;
        }
        kept = open.len();
    }
    let mut files = Vec::new();
    let mut stop = async |(room, id): &(Room<'_>, String)| {
        let (frames, _, seconds) = film::packets(&room.stop(id).await);
        files.push(json!({"seconds": seconds, "frames_per_s": frames as f64 / seconds}));
    };
    let ended_because = if kept < open.len() { "frames were late or lost" } else { "no more were asked for" };
    // What is queued is not late yet: so many must keep up for longer.
    while kept > 0 {
        for one in open.split_off(kept) {
            stop(&one).await;
        }
        sleep(WARM).await;
        held.push(step(&server, &open, HOLD).await);
        if held[held.len() - 1]["keeps_up"] == true {
            break;
        }
        kept -= 1;
    }
    for one in &open {
        stop(one).await;
    }
    json!({
        "what": "rooms of six publishers over WebRTC (VP8 640×360 at 25 fps, Opus), each recorded to 1280×720 at 25 fps, one more \
                 each time until the mixes' own figures show a frame that is late (by 0.8 s) or lost; then one fewer each time \
                 until none is for 20 s; publishers are on the same machine",
        "people": people,
        "most_rooms": kept,
        "ended_because": ended_because,
        "steps": steps,
        "held": held,
        "files": files,
    })
}

/// What so many rooms do in that time.
async fn step(server: &Running, open: &[(Room<'_>, String)], time: Duration) -> Value {
    let (cpu, load, before) = (server.usage().cpu_s, figures::cpu_seconds("self", [11, 12]), counted(open).await);
    let began = tokio::time::Instant::now();
    sleep(time).await;
    let after = counted(open).await;
    let seconds = began.elapsed().as_secs_f64();
    let frames = (after.frames - before.frames) as f64 / seconds / open.len() as f64;
    let (late, dropped) = (after.late - before.late, after.dropped - before.dropped);
    let step = json!({
        "rooms": open.len(), "seconds": seconds, "frames_per_s": frames, "late": late, "dropped": dropped,
        "keeps_up": late == 0 && dropped == 0 && frames > f64::from(desk::FPS) * 0.95,
        "processors": (server.usage().cpu_s - cpu) / seconds,
        "processors_of_publishers": (figures::cpu_seconds("self", [11, 12]) - load) / seconds,
        "memory_mib": server.usage().rss_kib / 1024,
    });
    println!("{step}");
    step
}

async fn counted(open: &[(Room<'_>, String)]) -> Counted {
    let mut sum = Counted::default();
    for (room, _) in open {
        let Counted { frames, late, dropped } = room.counted().await;
        sum = Counted { frames: sum.frames + frames, late: sum.late + late, dropped: sum.dropped + dropped };
    }
    sum
}

fn median(rows: &[Value], name: &str) -> f64 {
    let mut values: Vec<f64> = rows.iter().map(|row| row[name].as_f64().unwrap()).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn plot_sides(target: &Path, report: &Value) {
    let of = |side: &str, name: &str| report[side][name].as_f64();
    let receives = report["salon_receives_alone_cpu_s_per_s"].as_f64().unwrap();
    let whole = of("salon", "cpu_s_per_media_s").unwrap();
    let mut bars =
        vec![("Salon".to_owned(), vec![("receives", receives), ("mixes, encodes, writes", whole - receives)])];
    let names = ["salon", "x_server", "browser", "ffmpeg"];
    let parts: Vec<f64> = names.iter().filter_map(|name| of("browser", name)).collect();
    if let [salon, x_server, browser, ffmpeg] = parts[..] {
        let parts = vec![("Salon forwards", salon), ("X server", x_server), ("browser", browser), ("ffmpeg", ffmpeg)];
        bars.push(("a filmed browser".to_owned(), parts));
    }
    figures::bars(target, "Six publishers recorded to 1280×720 at 25 fps", "CPU s per media s", &bars);
}

fn plot_rooms(target: &Path, report: &Value) {
    let points = |name: &str| -> Vec<(f64, f64)> {
        let steps = report["steps"].as_array().unwrap().iter();
        steps.map(|step| (step["rooms"].as_f64().unwrap(), step[name].as_f64().unwrap())).collect()
    };
    let lines = vec![
        ("Salon", points("processors"), BLUE),
        ("its publishers, on the same machine", points("processors_of_publishers"), RED),
    ];
    figures::plot(target, "Rooms of six, recorded at once", ["rooms", "processors"], lines);
}
