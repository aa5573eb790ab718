//! A meeting whose members' clocks go at different speeds, recorded: picture and sound stay together.
//!
//! Real time: 70 s, and three minutes where `CI` is set. `SALON_SYNC_S` and `SALON_SYNC_PPM` make it longer and its clocks better (`script/sync`);
//! `SALON_SYNC_OUT` names a folder for the figures and their plot.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests too")]

mod common;
#[path = "common/content.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod content;
#[path = "sync/marks.rs"]
mod marks;
#[path = "sync/plot.rs"]
mod plot;

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use common::{
    client::{Client, Conditions},
    hall::{Attendee, Hall},
    soon,
};
use gst::prelude::*;
use marks::{Marks, Tone};
use salon::{
    media::{
        CodecName, LayoutKind, LayoutSpec, MediaEvent, RecordingSpec, Scene, Tile,
        layout::{Fit, Region},
    },
    recording::mp4,
    room::id::RecordingId,
};
use tokio::time::{Instant, sleep_until};

const DEFAULT_S: u64 = 70;
/// Where nobody waits for it.
const CI_S: u64 = 180;
const DEFAULT_PPM: i32 = 1_000;
/// The drifting member sends this all the time.
const TONE: f64 = 440.0;
const MOST_APART_S: f64 = 0.040;

/// Somebody in the meeting.
#[derive(Clone, Copy)]
struct Member {
    name: &'static str,
    /// Of his beeps, in Hz.
    pitch: f64,
    /// Of the canvas, his part: left edge in twelfths.
    column: u32,
    /// Hums [`TONE`].
    hums: bool,
    conditions: Conditions,
}

impl Member {
    /// He publishes: black, and white in the first 100 ms of each second of his clock, with a beep.
    async fn enter(self, hall: &Hall) -> Attendee {
        let video = Client::encoder(if self.hums { CodecName::H264 } else { CodecName::Vp8 });
        // He who does not hum is silent between his beeps: then nothing is sent.
        let (volume, dtx) = if self.hums { (0.2, false) } else { (0.0, true) };
        let launch = format!(
            "{}videotestsrc is-live=true pattern=black ! video/x-raw,format=I420,width=320,height=180,framerate=25/1 ! \
             identity name=picture ! {video} ! webrtc. \
             audiotestsrc is-live=true freq={TONE} volume={volume} samplesperbuffer=960 ! \
             audio/x-raw,format=S16LE,rate=48000,channels=2 ! identity name=sound ! \
             opusenc dtx={dtx} audio-type=voice ! rtpopuspay pt=97 ! \
             application/x-rtp,media=audio,encoding-name=OPUS,payload=97,encoding-params=(string)2 ! webrtc. ",
            Client::WEBRTC
        );
        let pitch = self.pitch;
        let paint = move |bin: &gst::Bin| {
            // A live source's first picture may be of any time: his seconds begin with a picture, or there would be up
            // to one between the flash and its beep.
            let seconds = Arc::new(OnceLock::new());
            let probe = |name: &str, paint: fn(&mut [u8], u64, f64)| {
                let pad = bin.by_name(name).unwrap().static_pad("src").unwrap();
                let seconds = seconds.clone();
                let is_picture = name == "picture";
                pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                    let buffer = info.buffer_mut().unwrap();
                    let time = buffer.pts().unwrap().nseconds();
                    if is_picture {
                        seconds.get_or_init(|| time % marks::PICTURE);
                    }
                    if let Some(begin) = seconds.get() {
                        let time = time.saturating_sub(*begin);
                        paint(&mut buffer.make_mut().map_writable().unwrap(), time, pitch);
                    }
                    gst::PadProbeReturn::Ok
                });
            };
            probe("picture", marks::flash);
            probe("sound", marks::beep);
        };
        hall.publish_client(Client::of(launch, self.conditions, paint).await).await
    }

    fn region(self, attendee: &Attendee) -> Region {
        let show = serde_json::from_value(serde_json::json!({"participant": attendee.connection.participant})).unwrap();
        Region {
            x: f64::from(self.column) / 12.0,
            y: 0.25,
            width: 1.0 / 3.0,
            height: 1.0 / 3.0,
            z: 0,
            fit: Fit::default(),
            show,
        }
    }
}

fn scene(present: &[(Member, &Attendee)]) -> Scene {
    let tile = |(_, attendee): &(Member, &Attendee)| Tile {
        participant: attendee.connection.participant.clone(),
        label: String::new(),
        video: Some(attendee.tracks[0].clone()),
        screen: false,
    };
    let regions = present.iter().map(|(member, attendee)| member.region(attendee)).collect();
    Scene {
        tiles: present.iter().map(tile).collect(),
        audio: present.iter().map(|(_, attendee)| attendee.tracks[1].clone()).collect(),
        layout: LayoutSpec { kind: LayoutKind::Custom, labels: false, regions, ..Default::default() },
        ..Default::default()
    }
}

fn setting<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name).map_or(otherwise, |text| text.parse().ok().unwrap_or_else(|| panic!("{name}={text}")))
}

/// Records the meeting: two stay, and a third comes and goes.
async fn hold(file: &Path, seconds: u64, members: [Member; 3]) {
    let hall = Hall::open();
    let mut events = hall.events();
    let [ann, bob, cho] = members;
    let (at_ann, at_bob) = (ann.enter(&hall).await, bob.enter(&hall).await);
    let stay = [(ann, &at_ann), (bob, &at_bob)];
    let id = RecordingId::random();
    // Twice the frames that come in, so that what is measured is not the mix's own grid.
    let spec = RecordingSpec { width: 480, height: 270, fps: 50, ..Default::default() };
    hall.room(|room| room.start_recording(id.clone(), file.to_owned(), spec, scene(&stay)));
    events.until("the recording starts", |event| matches!(event, MediaEvent::RecordingStarted { .. })).await;
    let begun = Instant::now();
    let turn = Duration::from_secs((seconds / 4).clamp(5, 120));
    let end = begun + Duration::from_secs(seconds);
    let mut next = begun + turn;
    while next < end {
        sleep_until(next).await;
        let guest = cho.enter(&hall).await;
        hall.room(|room| room.set_scene(scene(&[stay[0], stay[1], (cho, &guest)])));
        sleep_until((next + turn).min(end)).await;
        hall.room(|room| room.set_scene(scene(&stay)));
        hall.leave(guest).await;
        next += 2 * turn;
    }
    sleep_until(end).await;
    hall.room(|room| room.stop_recording(&id));
    let ended = events.until("the recording ends", |event| matches!(event, MediaEvent::RecordingEnded { .. })).await;
    assert_eq!(ended, MediaEvent::RecordingEnded { recording: id, result: Ok(()) });
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_whose_clocks_differ_stay_in_sync() {
    gst::init().unwrap();
    let default_s = if std::env::var_os("CI").is_some() { CI_S } else { DEFAULT_S };
    let (seconds, fast_ppm) = (setting("SALON_SYNC_S", default_s), setting("SALON_SYNC_PPM", DEFAULT_PPM));
    let member = |name, pitch, column, hums, fast_ppm| {
        let conditions = Conditions { fast_ppm, loss: 0.05 };
        Member { name, pitch, column, hums, conditions }
    };
    let members = [
        member("exact, DTX", 1_500.0, 0, false, 0),
        member("drifts, hums", 2_500.0, 4, true, fast_ppm),
        member("comes and goes, DTX", 3_700.0, 8, false, 0),
    ];
    let folder = tempfile::tempdir().unwrap();
    let (growing, file) = (folder.path().join("meeting.part"), folder.path().join("meeting.mp4"));
    hold(&growing, seconds, members).await;
    let made = soon(
        "finalising",
        tokio::task::spawn_blocking({
            let file = file.clone();
            move || mp4::finalise(&growing, &file).unwrap()
        }),
    );
    let length = made.await.unwrap().duration.as_secs_f64();
    assert!((length - seconds as f64).abs() < 2.0, "{length} s of {seconds}");

    let marks = Marks::read(&file);
    let mut series = Vec::new();
    for Member { name, pitch, column, .. } in members {
        let pairs = marks.pairs(column, pitch);
        // Of each stay the first seconds do not count.
        let present = if column == 8 { length / 2.0 - 10.0 } else { length } - 4.0;
        println!("{name}: {}", marks::summary(&pairs));
        assert!(pairs.len() as f64 >= 0.75 * present - 4.0, "{name}: {} flashes with a beep", pairs.len());
        series.push((name, pairs));
    }
    let tone = Tone::read(&marks, TONE);
    println!("tone: {tone:?}");
    if let Ok(out) = std::env::var("SALON_SYNC_OUT") {
        plot::write(Path::new(&out), seconds, fast_ppm, &series, &tone);
    }
    for (name, pairs) in &series {
        let apart = marks::percentile(pairs, 0.99);
        assert!(apart <= MOST_APART_S, "{name}: {:.0} ms at p99: {pairs:.3?}", apart * 1e3);
        // It does not grow either: over the whole length by less than half of what is allowed. (He who comes anew
        // begins anew.)
        let growth = if *name == members[2].name { 0.0 } else { marks::slope(pairs) * length };
        assert!(growth.abs() < MOST_APART_S / 2.0, "{name}: grows by {:.1} ms over {length:.0} s", growth * 1e3);
    }
    // What he sends in a second of his clock is heard in a second of ours less the drift: his tone is higher by
    // that, all the time, and not as it was with a jump now and then.
    let expected = TONE * (1.0 + f64::from(fast_ppm) / 1e6);
    assert!((tone.pitch - expected).abs() < 0.06, "{tone:?}, expected {expected:.3} Hz");
    assert!(tone.longest_gap_s <= 0.12 && tone.heard >= 0.97, "{tone:?}");
    // Lost packets are concealed, which shifts the tone a little; 40 ms would be 18 turns.
    assert!(tone.largest_jump_turns < 3.0, "{tone:?}");
}

/// The picture and sound of streams to players (TS, HLS, SRT, and what is pushed) are one encode: judged once.
#[tokio::test(flavor = "multi_thread")]
async fn players_of_the_stream_hear_what_they_see() {
    const SECONDS: u64 = 14;
    gst::init().unwrap();
    let member = |name, pitch, column| Member { name, pitch, column, hums: false, conditions: Conditions::default() };
    let [ann, bob] = [member("ann", 1_500.0, 0), member("bob", 2_500.0, 4)];
    let hall = Hall::open();
    let (at_ann, at_bob) = (ann.enter(&hall).await, bob.enter(&hall).await);
    let (reader, mut chunks) = tokio::sync::mpsc::channel(4_096);
    hall.room(|room| {
        room.set_scene(scene(&[(ann, &at_ann), (bob, &at_bob)]));
        room.watch_mix(reader);
    });
    let mut bytes = Vec::new();
    let mut end = None;
    loop {
        let chunk = soon("a piece of the stream", chunks.recv()).await.unwrap();
        if chunk.time >= *end.get_or_insert(chunk.time + Duration::from_secs(SECONDS)) {
            break;
        }
        bytes.extend_from_slice(&chunk.bytes);
    }
    hall.shut().await;
    let folder = tempfile::tempdir().unwrap();
    let (stream, file) = (folder.path().join("mix.ts"), folder.path().join("mix.mkv"));
    std::fs::write(&stream, bytes).unwrap();
    // From the same moment on: sound that begins later is preceded by silence.
    let (from, to) = (stream.to_str().unwrap(), file.to_str().unwrap());
    content::ffmpeg(&["-i", from, "-c:v", "copy", "-af", "aresample=async=1:first_pts=0", "-c:a", "pcm_s16le", to]);
    let marks = Marks::read(&file);
    for Member { name, pitch, column, .. } in [ann, bob] {
        let pairs = marks.pairs(column, pitch);
        println!("{name}: {}", marks::summary(&pairs));
        assert!(pairs.len() >= 5, "{name}: {} flashes with a beep", pairs.len());
        let apart = marks::percentile(&pairs, 1.0);
        assert!(apart <= MOST_APART_S, "{name}: {:.0} ms: {pairs:.3?}", apart * 1e3);
    }
}
