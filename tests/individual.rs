//! Recordings of single tracks, judged by their content and by where they lie against each other.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests too")]

use std::{path::Path, sync::Arc, time::Duration};

use gst::prelude::*;
use salon::{
    media::{CodecName, Kind, RecordingMode, RecordingSpec, Scene, gst::live_pipelines},
    recording::tracks::{self, FinishedTracks, RecordingFile},
    room::id::ParticipantId,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::timeout,
};

#[path = "common/content.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod content;
#[path = "common/studio.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod studio;

use content::{Content, offsets};
use studio::{DEADLINE, Source, Studio, scene, tile};

const RED: u32 = 0xffff_0000;
const BLUE: u32 = 0xff00_00ff;
const RED_YUV: [f64; 3] = [81.0, 90.0, 240.0];
const BLUE_YUV: [f64; 3] = [41.0, 240.0, 110.0];
const PORTRAIT: &str = "video/x-raw,format=I420,width=180,height=320,framerate=25/1,colorimetry=bt601";

fn spec(mode: RecordingMode) -> RecordingSpec {
    RecordingSpec { mode, width: 640, height: 360, ..Default::default() }
}

fn seen(studio: &Studio, sources: &[(&str, &Source)]) -> Scene {
    Scene { published: studio.published(sources), ..Default::default() }
}

#[track_caller]
fn assert_colour(content: &Content, time: f64, expected: [f64; 3], what: &str) {
    let (width, height) = (content.width, content.height);
    let found = content.colour(time, [width / 4, height / 4, width / 2, height / 2]);
    let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 14.0);
    assert!(near, "{what}: {found:.0?}, expected {expected:.0?}");
}

/// The file of a participant's track of that kind, the `index`th of them.
#[track_caller]
fn find<'a>(finished: &'a FinishedTracks, name: &str, kind: Kind, index: usize) -> &'a RecordingFile {
    let of = |file: &&RecordingFile| file.participant.as_deref() == Some(name) && file.track_kind == Some(kind);
    finished.files.iter().filter(of).nth(index).unwrap_or_else(|| panic!("{name} {kind:?} {index} in {finished:?}"))
}

fn finish(folder: &Path) -> FinishedTracks {
    let finished = tracks::finish(folder, 0).unwrap();
    for file in &finished.files {
        assert_eq!(std::fs::metadata(folder.join(&file.name)).unwrap().len(), file.bytes);
    }
    finished
}

/// Seconds of the recording at which a file's times are.
fn on_the_recordings_time(file: &RecordingFile, times: &[f64]) -> Vec<f64> {
    times.iter().map(|time| time + file.offset_ms as f64 / 1e3).collect()
}

#[tokio::test]
async fn tracks_are_recorded_as_they_came_and_lie_where_they_were() {
    let mut studio = Studio::open().await;
    let pipelines = live_pipelines();
    let (flash, beep) = (studio.flash().await, studio.beep().await);
    studio.reach(3.4).await;
    let begin = studio.now();
    let mut take =
        studio.record(&spec(RecordingMode::Individual), &seen(&studio, &[("Anna", &flash), ("Anna", &beep)]));
    take.started().await;
    studio.reach(begin + 2.0).await;
    let (blue, tone) = (studio.colour(CodecName::H264, BLUE, 640, 360).await, studio.tone(880.0).await);
    let red = studio.colour(CodecName::Vp9, RED, 320, 180).await;
    let all = [("Anna", &flash), ("Anna", &beep), ("Bert", &blue), ("Bert", &tone), ("Cleo", &red)];
    take.recorder.set_scene(&seen(&studio, &all), &studio.tracks);
    studio.reach(begin + 4.5).await;
    for source in [&blue, &red] {
        source.element("size").set_property_from_str("caps", PORTRAIT);
    }
    studio.reach(begin + 7.0).await;
    // Cleo's camera freezes, Bert publishes anew in another codec.
    red.freeze();
    studio.unpublish(blue).await;
    let other = studio.colour(CodecName::Vp8, RED, 320, 180).await;
    let all = [("Anna", &flash), ("Anna", &beep), ("Bert", &tone), ("Cleo", &red), ("Bert", &other)];
    take.recorder.set_scene(&seen(&studio, &all), &studio.tracks);
    studio.reach(begin + 10.0).await;
    let length = studio.now() - begin;
    let file = take.stop().await;
    let folder = tracks::folder_of(&file);
    let growing = tracks::list(&folder).unwrap();
    for file in &growing {
        Content::read(&folder.join(&file.name));
    }
    let finished = finish(&folder);
    assert_eq!(finished.files.len(), 6, "{finished:?}");
    assert_eq!(finished.remarks, Vec::<String>::new());
    assert!((finished.duration.as_secs_f64() - length).abs() < 0.4, "{:?} of {length}", finished.duration);
    let read = |file: &RecordingFile| Content::read(&folder.join(&file.name));

    let (seen, heard) = (find(&finished, "Anna", Kind::Video, 0), find(&finished, "Anna", Kind::Audio, 0));
    assert_eq!((seen.codec, heard.codec), (Some(CodecName::Vp8), Some(CodecName::Opus)));
    assert!(seen.offset_ms < 800 && heard.offset_ms < 300, "{seen:?} {heard:?}");
    let picture = read(seen);
    assert_eq!((picture.width, picture.height), (320, 180));
    let flashes = on_the_recordings_time(seen, &picture.flashes([80, 40, 160, 80]));
    let beeps = on_the_recordings_time(heard, &read(heard).beeps());
    let apart = offsets(&flashes, &beeps);
    println!("beep after flash, ms: {:.0?}", apart.iter().map(|offset| offset * 1e3).collect::<Vec<_>>());
    assert!(apart.len() >= 7 && apart.iter().all(|offset| offset.abs() <= 0.06), "{flashes:?} {beeps:?}");
    for flash in flashes {
        let late = (begin + flash).rem_euclid(1.0);
        assert!(late < 0.08, "a flash {late:.3} s after the second");
    }

    let (seen, heard) = (find(&finished, "Bert", Kind::Video, 0), find(&finished, "Bert", Kind::Audio, 0));
    assert!((1_900..3_300).contains(&seen.offset_ms) && (1_900..2_800).contains(&heard.offset_ms), "{finished:?}");
    let picture = read(seen);
    assert_eq!((picture.width, picture.height, picture.holes()), (640, 360, vec![]));
    assert_colour(&picture, 1.0, BLUE_YUV, "Bert, wide");
    assert_colour(&picture, picture.duration.as_secs_f64() - 0.3, BLUE_YUV, "Bert, upright");
    assert!((seen.offset_ms as f64 / 1e3 + picture.duration.as_secs_f64() - 7.0).abs() < 0.6, "{:?}", picture.duration);
    assert_eq!(sizes(&folder.join(&seen.name)), ["180x320", "640x360"]);
    assert!(read(heard).tone(4.0, 880.0) > 0.05);
    let anew = find(&finished, "Bert", Kind::Video, 1);
    assert_eq!(anew.codec, Some(CodecName::Vp8));
    assert!((6_900..8_300).contains(&anew.offset_ms), "{anew:?}");
    assert_colour(&read(anew), 1.0, RED_YUV, "Bert, anew");

    let frozen = find(&finished, "Cleo", Kind::Video, 0);
    let picture = read(frozen);
    assert_colour(&picture, picture.duration.as_secs_f64() - 0.1, RED_YUV, "Cleo");
    assert_eq!(sizes(&folder.join(&frozen.name)), ["180x320", "320x180"]);
    for source in [flash, beep, tone, red, other] {
        source.end().await;
    }
    studio.settle(pipelines).await;
    studio.close().await;
}

/// Sizes of the pictures in a file.
fn sizes(path: &Path) -> Vec<String> {
    let output = std::process::Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "frame=width,height", "-of", "csv=p=0:s=x"])
        .arg(path)
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines: std::collections::BTreeSet<_> =
        lines.lines().map(|line| line.trim_end_matches('x').to_owned()).collect();
    lines.into_iter().filter(|line| !line.is_empty()).collect()
}

#[tokio::test]
async fn a_pause_is_in_none_of_the_files_and_a_mix_beside_them_agrees() {
    let mut studio = Studio::open().await;
    let (flash, beep) = (studio.flash().await, studio.beep().await);
    let anna = ParticipantId::random();
    let mut both = scene(vec![tile(&anna, "", Some(&flash))], &[&beep]);
    both.published = studio.published(&[("Anna", &flash), ("Anna", &beep)]);
    studio.reach(2.0).await;
    let begin = studio.now();
    let mut take = studio.record(&spec(RecordingMode::Both), &both);
    take.started().await;
    studio.reach(begin + 4.3).await;
    take.recorder.pause();
    studio.reach(begin + 7.6).await;
    take.recorder.resume();
    studio.reach(begin + 11.0).await;
    let recorded = studio.now() - begin - 3.3;
    let file = take.stop().await;
    let folder = tracks::folder_of(&file);
    let finished = finish(&folder);
    assert!((finished.duration.as_secs_f64() - recorded).abs() < 0.4, "{:?} of {recorded}", finished.duration);
    let (seen, heard) = (find(&finished, "Anna", Kind::Video, 0), find(&finished, "Anna", Kind::Audio, 0));
    let flashes = Content::read(&folder.join(&seen.name)).flashes([80, 40, 160, 80]);
    let beeps = Content::read(&folder.join(&heard.name)).beeps();
    let (flashes, beeps) = (on_the_recordings_time(seen, &flashes), on_the_recordings_time(heard, &beeps));
    let growing = Content::read(&file).beeps();
    let mix = Content::read(&studio.finalise(&file).0);
    // Finalising moves no sound: who goes by timestamps hears both alike.
    let moved = offsets(&growing, &mix.beeps());
    println!("finalised after growing, ms: {:.1?}", moved.iter().map(|offset| offset * 1e3).collect::<Vec<_>>());
    assert!(moved.len() >= 6 && moved.iter().all(|offset| offset.abs() < 0.002), "{moved:?}");
    assert!((mix.duration.as_secs_f64() - recorded).abs() < 0.4, "{:?} of {recorded}", mix.duration);
    let mixed = mix.flashes([160, 80, 320, 160]);
    for (name, marks) in [("beeps", beeps), ("the mix", mixed)] {
        let apart = offsets(&flashes, &marks);
        println!("{name} after flash, ms: {:.0?}", apart.iter().map(|offset| offset * 1e3).collect::<Vec<_>>());
        assert!(apart.len() >= 6 && apart.iter().all(|offset| offset.abs() <= 0.06), "{name}: {flashes:?} {marks:?}");
    }
    flash.end().await;
    beep.end().await;
    studio.close().await;
}

#[tokio::test]
async fn what_cannot_be_recorded_is_told_and_harms_nobody_and_sound_alone_is_sound_alone() {
    let mut studio = Studio::open().await;
    let (red, tone) = (studio.colour(CodecName::Vp8, RED, 320, 180).await, studio.tone(440.0).await);
    // Says AV1 and sends VP8: it has no file.
    let launch = "videotestsrc name=source is-live=true ! video/x-raw,width=320,height=180,framerate=25/1 ! \
         vp8enc name=encoder deadline=1 ! rtpvp8pay pt=96 ! rtpjitterbuffer latency=200";
    let broken = studio.publish(CodecName::Av1, launch).await;
    let all = [("Anna", &red), ("Anna", &tone), ("Bert", &broken)];
    for (name, video) in [("one.mp4", true), ("two.mp4", false)] {
        let spec = RecordingSpec { video, ..spec(RecordingMode::Individual) };
        let mut take = studio.record_into(name, &spec, &seen(&studio, &all)).unwrap();
        take.started().await;
        studio.wait(2.0).await;
        let finished = finish(&tracks::folder_of(&take.stop().await));
        let kinds: Vec<_> = finished.files.iter().map(|file| (file.participant.as_deref(), file.track_kind)).collect();
        let sound = (Some("Anna"), Some(Kind::Audio));
        assert!(kinds.contains(&sound) && kinds.len() == if video { 2 } else { 1 }, "{finished:?}");
        assert_eq!(finished.remarks, Vec::<String>::new(), "{finished:?}");
    }
    for source in [red, tone, broken] {
        source.end().await;
    }
    studio.close().await;
}

#[tokio::test]
async fn a_recorder_of_tracks_that_dies_loses_a_second_at_most() {
    // The test runs itself again as a process that records and is killed.
    if let Ok(folder) = std::env::var("SALON_TEST_DIES_IN") {
        return record_until_killed(Path::new(&folder)).await;
    }
    let home = tempfile::tempdir().unwrap();
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_recorder_of_tracks_that_dies_loses_a_second_at_most", "--nocapture"])
        .env("SALON_TEST_DIES_IN", home.path())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut length = 0.0;
    while length < 5.3 {
        let line = timeout(DEADLINE, lines.next_line()).await.expect("the recorder lives").unwrap().unwrap();
        length = line.strip_prefix("recorded ").map_or(length, |seconds| seconds.parse().unwrap());
    }
    child.kill().await.unwrap();
    // What it wrote before it died is still in the pipe.
    while let Some(line) = lines.next_line().await.unwrap() {
        length = line.strip_prefix("recorded ").map_or(length, |seconds| seconds.parse().unwrap_or(length));
    }
    let folder = tracks::folder_of(&home.path().join("recording.mp4.part"));
    let finished = finish(&folder);
    assert_eq!(finished.files.len(), 3, "{finished:?}");
    for file in &finished.files {
        let content = Content::read(&folder.join(&file.name));
        let until = Duration::from_millis(file.offset_ms) + content.duration;
        let lost = length - until.as_secs_f64();
        println!("{}: killed at {length:.2} s, {lost:.2} s lost", file.name);
        assert!(lost < 1.0, "{}: {lost:.2} s lost", file.name);
    }
}

async fn record_until_killed(folder: &Path) {
    let mut studio = Studio::open_in(folder).await;
    let (red, tone) = (studio.colour(CodecName::Vp8, RED, 640, 360).await, studio.tone(440.0).await);
    let blue = studio.colour(CodecName::H264, BLUE, 640, 360).await;
    let begin = studio.now();
    let all = [("Anna", &red), ("Anna", &tone), ("Bert", &blue)];
    let mut take = studio.record(&spec(RecordingMode::Individual), &seen(&studio, &all));
    take.started().await;
    loop {
        studio.wait(0.01).await;
        println!("recorded {}", studio.now() - begin);
    }
}

#[tokio::test]
async fn a_mix_that_runs_already_and_the_tracks_beside_it_begin_with_the_same_frame() {
    let mut studio = Studio::open().await;
    let (flash, anna) = (studio.flash().await, ParticipantId::random());
    let mut scene = scene(vec![tile(&anna, "", Some(&flash))], &[]);
    scene.published = studio.published(&[("Anna", &flash)]);
    let plain = RecordingSpec { audio: false, ..spec(RecordingMode::Composite) };
    let mut running = studio.record_into("running.mp4", &plain, &scene).unwrap();
    running.started().await;
    let mut apart = Vec::new();
    for (name, phase) in [("one.mp4", 0.2), ("two.mp4", 0.413), ("three.mp4", 0.626)] {
        studio.reach(studio.now().floor() + 1.0 + phase).await;
        let both = RecordingSpec { audio: false, ..spec(RecordingMode::Both) };
        let mut take = studio.record_into(name, &both, &scene).unwrap();
        take.started().await;
        studio.wait(2.2).await;
        let file = take.stop().await;
        let folder = tracks::folder_of(&file);
        let finished = finish(&folder);
        let track = find(&finished, "Anna", Kind::Video, 0);
        let seen = Content::read(&folder.join(&track.name)).flashes([80, 40, 160, 80]);
        let mixed = Content::read(&file).flashes([160, 80, 320, 160]);
        apart.push(offsets(&on_the_recordings_time(track, &seen), &mixed)[0] * 1e3);
    }
    println!("the mix after the track, ms: {apart:.1?}");
    // How the frames of the mix lie against the camera's does not change while both run.
    let (least, most) =
        (apart.iter().copied().fold(f64::MAX, f64::min), apart.iter().copied().fold(f64::MIN, f64::max));
    assert!(most - least < 4.0 && apart.iter().all(|apart| apart.abs() <= 41.0), "{apart:?}");
    running.stop().await;
    flash.end().await;
    studio.close().await;
}

/// RTP packets of a red picture in AV1: three seconds, a keyframe each second.
fn av1_packets() -> Arc<Vec<gst::Buffer>> {
    let launch = "videotestsrc num-buffers=75 pattern=solid-color foreground-color=0xffff0000 ! \
         video/x-raw,format=I420,width=320,height=180,framerate=25/1,colorimetry=bt601 ! \
         av1enc cpu-used=8 usage-profile=realtime lag-in-frames=0 keyframe-max-dist=25 ! av1parse ! \
         video/x-av1,stream-format=obu-stream,alignment=tu ! appsink name=sink sync=false";
    let pipeline = gst::parse::launch(launch).unwrap();
    let sink = pipeline.downcast_ref::<gst::Bin>().unwrap().by_name("sink").unwrap();
    let sink = sink.downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let (mut packets, mut sequence) = (Vec::new(), 65_500u16);
    while let Ok(sample) = sink.pull_sample() {
        let buffer = sample.buffer().unwrap();
        let (pts, unit) = (buffer.pts().unwrap(), buffer.map_readable().unwrap());
        // One element a packet (W=1), in parts that go on (Z, Y); its delimiter stays out.
        let obus: Vec<&[u8]> = obus(&unit[2..]);
        for (index, obu) in obus.iter().enumerate() {
            let parts: Vec<&[u8]> = obu.chunks(300).collect();
            for (place, part) in parts.iter().enumerate() {
                let (goes_on, will) = (u8::from(place > 0), u8::from(place + 1 < parts.len()));
                let payload = [&[goes_on << 7 | will << 6 | 0x10][..], part].concat();
                let packet = rtp_types::RtpPacketBuilder::new()
                    .payload_type(96)
                    .sequence_number(sequence)
                    .timestamp((pts.nseconds() * 9 / 100_000) as u32)
                    .ssrc(7)
                    .marker_bit(index + 1 == obus.len() && will == 0)
                    .payload(payload.as_slice())
                    .write_vec()
                    .unwrap();
                sequence = sequence.wrapping_add(1);
                let mut packet = gst::Buffer::from_mut_slice(packet);
                packet.make_mut().set_pts(pts);
                packets.push(packet);
            }
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    Arc::new(packets)
}

/// The OBUs of a temporal unit, all of which say their size in at most two bytes.
fn obus(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while bytes.len() > 1 {
        let (first, second) = (usize::from(bytes[1]), bytes.get(2).copied().map_or(0, usize::from));
        let end = if first < 128 { 2 + first } else { 3 + (first & 127) + (second << 7) };
        found.push(&bytes[..end]);
        bytes = &bytes[end..];
    }
    found
}

#[tokio::test]
async fn av1_is_recorded_as_it_came_and_shown_in_the_mix() {
    let mut studio = Studio::open().await;
    let packets = tokio::task::spawn_blocking(av1_packets).await.unwrap();
    let anna = ParticipantId::random();
    let red = studio.replay(CodecName::Av1, &packets).await;
    let mut scene = scene(vec![tile(&anna, "", Some(&red))], &[]);
    scene.published = studio.published(&[("Anna", &red)]);
    let mut take = studio.record(&RecordingSpec { audio: false, ..spec(RecordingMode::Both) }, &scene);
    take.started().await;
    studio.wait(2.5).await;
    let file = take.stop().await;
    let folder = tracks::folder_of(&file);
    let finished = finish(&folder);
    let track = find(&finished, "Anna", Kind::Video, 0);
    assert!(track.name.ends_with(".webm") && finished.remarks.is_empty(), "{finished:?}");
    let content = Content::read(&folder.join(&track.name));
    assert!(content.frames() >= 25, "{} frames", content.frames());
    assert_eq!((content.width, content.height, content.holes()), (320, 180, vec![]));
    assert_colour(&content, 0.5, RED_YUV, "AV1");
    let mix = Content::read(&file);
    assert_colour(&mix, mix.times().last().unwrap() - 0.3, RED_YUV, "the mix of AV1");
    red.end().await;
    studio.close().await;
}
