//! Composite recordings of test tracks, judged by their content.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests too")]

use gst::prelude::*;
use salon::{
    media::{CodecName, LayoutChoice, MediaError, RecordingSpec, Scene, gst::live_pipelines, layout},
    recording::album::Album,
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

use content::{Content, bright_extent, luma, offsets, playable_seconds};
use studio::{DEADLINE, Studio, scene, tile};

const RED: u32 = 0xffff_0000;
const BLUE: u32 = 0xff00_00ff;
const RED_YUV: [f64; 3] = [81.0, 90.0, 240.0];
const BLUE_YUV: [f64; 3] = [41.0, 240.0, 110.0];
const BACKGROUND_YUV: [f64; 3] = [35.0, 130.0, 127.0];

fn spec() -> RecordingSpec {
    RecordingSpec { width: 640, height: 360, ..Default::default() }
}

/// The middle of the `index`th of `tiles` tiles, away from labels and borders.
fn middle(tiles: usize, index: usize) -> [usize; 4] {
    let rect = layout::grid(640, 360, tiles, 16.0 / 9.0, 8)[index];
    let [x, y, width, height] = [rect.x, rect.y, rect.width, rect.height].map(|side| side as usize);
    [x + width / 4, y + height / 4, width / 2, height / 4]
}

#[track_caller]
fn assert_colour(found: [f64; 3], expected: [f64; 3], what: &str) {
    let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 14.0);
    assert!(near, "{what}: {found:.0?}, expected {expected:.0?}");
}

#[tokio::test]
async fn a_call_is_recorded_as_it_went() {
    let mut studio = Studio::open().await;
    let (anna, bert) = (ParticipantId::random(), ParticipantId::random());
    let red = studio.colour(CodecName::Vp8, RED, 640, 360).await;
    let low = studio.tone(440.0).await;
    // Recordings begin in rooms that have been open for a while.
    studio.reach(4.0).await;
    let begin = studio.now();
    let mut take = studio.record(&spec(), &scene(vec![tile(&anna, "Anna", Some(&red))], &[&low]));
    take.started().await;
    let (blue, high) = (studio.colour(CodecName::H264, BLUE, 640, 360).await, studio.tone(880.0).await);
    studio.reach(begin + 3.0).await;
    let both = vec![tile(&anna, "Anna", Some(&red)), tile(&bert, "Bert", Some(&blue))];
    studio.show(&scene(both, &[&low, &high]));
    studio.reach(begin + 6.0).await;
    let muted = vec![tile(&anna, "Anna", None), tile(&bert, "Bert", Some(&blue))];
    studio.show(&scene(muted, &[&high]));
    studio.reach(begin + 8.0).await;
    studio.unpublish(red).await;
    studio.unpublish(low).await;
    studio.show(&scene(vec![tile(&bert, "Bert", Some(&blue))], &[&high]));
    studio.reach(begin + 10.0).await;
    studio.show(&Scene::default());
    studio.reach(begin + 11.0).await;
    let wall = studio.now() - begin;
    let file = take.stop().await;
    let (target, facts) = studio.finalise(&file);
    let content = Content::read(&target);

    assert_eq!((content.width, content.height, content.fps), (640, 360, 25.0));
    assert!((content.duration.as_secs_f64() - wall).abs() < 0.5, "{:?} of {wall:.2} s", content.duration);
    assert!((facts.duration.as_secs_f64() - wall).abs() < 0.5, "{:?} of {wall:.2} s", facts.duration);
    assert!((content.frames() as f64 / 25.0 - wall).abs() < 0.5, "{} frames", content.frames());
    assert!((content.sound_seconds() - wall).abs() < 0.5, "{} s of sound", content.sound_seconds());
    assert_eq!(content.holes(), []);
    assert_colour(content.colour(2.5, middle(1, 0)), RED_YUV, "Anna alone");
    assert_colour(content.colour(5.5, middle(2, 0)), RED_YUV, "Anna beside Bert");
    assert_colour(content.colour(5.5, middle(2, 1)), BLUE_YUV, "Bert beside Anna");
    let slate = content.colour(7.5, middle(2, 0));
    assert!((slate[0] - 81.0).abs() < 40.0 && (slate[2] - 240.0).abs() > 60.0, "Anna muted: {slate:.0?}");
    assert_colour(content.colour(7.5, middle(2, 1)), BLUE_YUV, "Bert beside a slate");
    assert_colour(content.colour(9.5, middle(1, 0)), BLUE_YUV, "Bert alone");
    assert_colour(content.colour(10.8, middle(1, 0)), BACKGROUND_YUV, "nobody");
    let tones = |time| (content.tone(time, 440.0) > 0.05, content.tone(time, 880.0) > 0.05);
    assert_eq!(
        (tones(2.0), tones(5.0), tones(7.5), tones(10.8)),
        ((true, false), (true, true), (false, true), (false, false))
    );
    blue.end().await;
    high.end().await;
    studio.close().await;
}

#[tokio::test]
async fn sound_and_picture_are_in_step() {
    let mut studio = Studio::open().await;
    let (flash, beep) = (studio.flash().await, studio.beep().await);
    let anna = ParticipantId::random();
    let begin = studio.now();
    let mut take = studio.record(&spec(), &scene(vec![tile(&anna, "", Some(&flash))], &[&beep]));
    take.started().await;
    studio.reach(begin + 12.0).await;
    let file = take.stop().await;
    let growing = Content::read(&file);
    let (target, _) = studio.finalise(&file);
    for (name, content) in [("growing", growing), ("finalised", Content::read(&target))] {
        let offsets = offsets(&content.flashes(middle(1, 0)), &content.beeps());
        assert!(offsets.len() >= 9, "{name}: only {} pairs", offsets.len());
        println!("{name} file: beep after flash, ms: {:.0?}", offsets.iter().map(|o| o * 1e3).collect::<Vec<_>>());
        // A frame is 40 ms long: an onset is seen up to that late.
        assert!(offsets.iter().all(|offset| offset.abs() <= 0.06), "{name}: {offsets:.3?}");
    }
    flash.end().await;
    beep.end().await;
    studio.close().await;
}

#[tokio::test]
async fn recordings_of_the_same_picture_share_one_mix() {
    let mut studio = Studio::open().await;
    let (flash, beep) = (studio.flash().await, studio.beep().await);
    let seen = scene(vec![tile(&ParticipantId::random(), "", Some(&flash))], &[&beep]);
    let first_begin = studio.now();
    let mut first = studio.record(&spec(), &seen);
    // At once: before the mix has put out anything.
    let twin = studio.record_into("twin.mp4.part", &spec(), &seen).unwrap();
    first.started().await;
    let pipelines = live_pipelines();
    studio.reach(first_begin + 2.33).await;
    let begin = studio.now();
    let mut second = studio.record_into("second.mp4.part", &spec(), &seen).unwrap();
    second.started().await;
    assert_eq!(live_pipelines(), pipelines, "decoders, mixer and encoder of the first are its own");
    studio.reach(first_begin + 7.0).await;
    let mut ended = Vec::new();
    for take in [first, twin] {
        let recorded = studio.now() - first_begin;
        let file = take.stop().await;
        let duration = studio.finalise(&file).1.duration.as_secs_f64();
        assert!((-0.06..=0.15).contains(&(recorded - duration)), "{duration:.3} of {recorded:.3} s");
        ended.push(file);
    }
    let first = ended.swap_remove(0);
    studio.reach(begin + 8.0).await;
    let recorded = studio.now() - begin;
    let second = second.stop().await;
    let duration = studio.finalise(&second).1.duration.as_secs_f64();
    // It begins with the first whole frame after it was asked for.
    assert!((-0.06..=0.1).contains(&(recorded - duration)), "{duration:.3} of {recorded:.3} s");
    for (name, file, pairs) in [("first", first, 5), ("second", second, 6)] {
        let content = Content::read(&file);
        assert_eq!(content.holes(), [], "{name}");
        let offsets = offsets(&content.flashes(middle(1, 0)), &content.beeps());
        assert!(offsets.len() >= pairs, "{name}: only {} pairs", offsets.len());
        assert!(offsets.iter().all(|offset| offset.abs() <= 0.06), "{name}: {offsets:.3?}");
    }
    flash.end().await;
    beep.end().await;
    studio.close().await;
}

#[tokio::test]
async fn a_pause_is_not_in_the_file_and_sound_and_picture_stay_in_step() {
    let mut studio = Studio::open().await;
    let (flash, beep) = (studio.flash().await, studio.beep().await);
    let anna = ParticipantId::random();
    let seen = scene(vec![tile(&anna, "", Some(&flash))], &[&beep]);
    // A mix is put together a third of a second later: no mark lies so near before a change of the scene,
    // or at the edge of a pause.
    let phase = studio.now().ceil() + 0.62;
    studio.reach(phase).await;
    let begin = studio.now();
    let mut take = studio.record(&spec(), &seen);
    take.started().await;
    let mut recorded = 0.0;
    let mut from = begin;
    // What is paused is red: none of it may be seen.
    let red = studio.colour(CodecName::Vp8, RED, 640, 360).await;
    for (pause, resume) in [(4.3, 7.55), (10.85, 12.6)] {
        studio.reach(begin + pause).await;
        take.recorder.pause();
        recorded += studio.now() - from;
        studio.show(&scene(vec![tile(&anna, "", Some(&red))], &[]));
        studio.reach(begin + resume - 1.1).await;
        studio.show(&seen);
        studio.reach(begin + resume).await;
        take.recorder.resume();
        from = studio.now();
    }
    studio.reach(begin + 16.2).await;
    recorded += studio.now() - from;
    let file = take.stop().await;
    let growing = Content::read(&file);
    let (target, facts) = studio.finalise(&file);
    assert!((facts.duration.as_secs_f64() - recorded).abs() < 0.3, "{:?} of {recorded:.2} s", facts.duration);
    for (name, content) in [("growing", growing), ("finalised", Content::read(&target))] {
        assert_eq!(content.holes(), [], "{name}");
        assert!((content.frames() as f64 / 25.0 - recorded).abs() < 0.3, "{name}: {} frames", content.frames());
        assert!((content.sound_seconds() - recorded).abs() < 0.3, "{name}: {} s of sound", content.sound_seconds());
        let offsets = offsets(&content.flashes(middle(1, 0)), &content.beeps());
        println!("{name} file: beep after flash, ms: {:.0?}", offsets.iter().map(|o| o * 1e3).collect::<Vec<_>>());
        assert!(offsets.len() >= 8, "{name}: only {} pairs", offsets.len());
        assert!(offsets.iter().all(|offset| offset.abs() <= 0.06), "{name}: {offsets:.3?}");
        let frames = (0..content.frames()).map(|frame| frame as f64 / 25.0);
        let red: Vec<_> = frames.filter(|time| content.colour(*time, middle(1, 0))[2] > 180.0).collect();
        assert!(red.is_empty(), "{name}: seen of the pauses at {red:.2?}");
    }
    flash.end().await;
    beep.end().await;
    red.end().await;
    studio.close().await;
}

#[tokio::test]
async fn a_recording_may_be_only_heard_or_only_seen() {
    let mut studio = Studio::open().await;
    let (red, tone) = (studio.colour(CodecName::Vp8, RED, 320, 180).await, studio.tone(440.0).await);
    let seen = scene(vec![tile(&ParticipantId::random(), "Anna", Some(&red))], &[&tone]);
    studio.reach(1.0).await;
    let heard_only = RecordingSpec { video: false, ..spec() };
    let seen_only = RecordingSpec { audio: false, ..spec() };
    let mut takes = Vec::new();
    for (name, spec) in [("heard.part", heard_only), ("seen.part", seen_only)] {
        let mut take = studio.record_into(name, &spec, &seen).unwrap();
        take.started().await;
        takes.push(take);
    }
    studio.wait(2.0).await;
    takes.iter_mut().for_each(|take| take.recorder.pause());
    studio.wait(2.0).await;
    takes.iter_mut().for_each(|take| take.recorder.resume());
    studio.wait(2.0).await;
    let mut files = Vec::new();
    for take in takes {
        files.push(take.stop().await);
    }
    for (file, sounds) in files.into_iter().zip([true, false]) {
        let growing = Content::read(&file);
        let (target, facts) = studio.finalise(&file);
        let content = Content::read(&target);
        assert_eq!(facts.tracks, [if sounds { "mp4a" } else { "avc1" }]);
        assert!((3.5..5.5).contains(&facts.duration.as_secs_f64()), "{:?}", facts.duration);
        for content in [growing, content] {
            if sounds {
                assert_eq!((content.frames(), content.tone(1.5, 440.0) > 0.05), (0, true));
                assert!((content.sound_seconds() - facts.duration.as_secs_f64()).abs() < 0.1);
            } else {
                assert_eq!((content.sound_seconds(), content.holes()), (0.0, vec![]));
                assert_colour(content.colour(1.5, middle(1, 0)), RED_YUV, "Anna");
            }
        }
    }
    red.end().await;
    tone.end().await;
    studio.close().await;
}

#[tokio::test]
async fn a_recording_ends_whole_before_it_is_larger_than_it_may_be() {
    let mut studio = Studio::open().await;
    let tone = studio.tone(440.0).await;
    let most = 60_000;
    let spec = RecordingSpec { max_bytes: Some(most), ..spec() };
    let mut take = studio.record(&spec, &scene(vec![tile(&ParticipantId::random(), "Anna", None)], &[&tone]));
    take.started().await;
    assert_eq!(take.ended().await, Ok(()));
    take.recorder.shutdown(DEADLINE).await.unwrap();
    let bytes = std::fs::metadata(&take.file).unwrap().len();
    assert!((most / 2..=most).contains(&bytes), "{bytes} bytes");
    let (target, facts) = studio.finalise(&take.file);
    assert!(facts.size_bytes <= most, "{facts:?}");
    assert!(Content::read(&target).tone(1.0, 440.0) > 0.05);
    tone.end().await;
    studio.close().await;
}

/// Pixels of a nickname as it stands in the file: first and last bright column, and how many.
async fn drawn(studio: &mut Studio, label: &str) -> Option<(usize, usize, usize)> {
    let anna = ParticipantId::random();
    let mut take = studio.record(&spec(), &scene(vec![tile(&anna, label, None)], &[]));
    take.started().await;
    studio.wait(0.6).await;
    let file = take.stop().await;
    let (target, facts) = studio.finalise(&file);
    std::fs::remove_file(file).unwrap();
    bright_extent(&luma(&target, facts.duration.as_secs_f64() - 0.2, [0, 300, 640, 60]))
}

#[tokio::test]
async fn a_nickname_is_drawn_as_it_is_written() {
    let mut studio = Studio::open().await;
    assert_eq!(drawn(&mut studio, "").await, None);
    assert_eq!(drawn(&mut studio, " \n\t ").await, None);
    let width = |(first, last, _): (usize, usize, usize)| last - first;
    let short = drawn(&mut studio, "김철수").await.expect("Korean is drawn");
    let long = drawn(&mut studio, "김철수 & <b>").await.expect("markup is drawn");
    let ampersand = drawn(&mut studio, "김철수 &").await.expect("an ampersand is drawn");
    assert!(width(ampersand) > width(short) + 5, "{short:?} {ampersand:?}");
    assert!(width(long) > width(ampersand) + 10, "{ampersand:?} {long:?}");
    assert!(long.2 > short.2, "{short:?} {long:?}");
    let endless = drawn(&mut studio, &"아주긴이름 ".repeat(20)).await.expect("a long name is drawn");
    assert!((400..620).contains(&width(endless)), "{endless:?}");
    studio.close().await;
}

#[tokio::test]
async fn a_file_that_grows_plays_to_within_a_second_of_now() {
    let mut studio = Studio::open().await;
    let red = studio.colour(CodecName::Vp8, RED, 640, 360).await;
    let anna = ParticipantId::random();
    let begin = studio.now();
    let mut take = studio.record(&spec(), &scene(vec![tile(&anna, "Anna", Some(&red))], &[]));
    take.started().await;
    let copy = studio.folder.join("copy.mp4");
    let mut behind = Vec::new();
    for step in 0..12 {
        studio.reach(begin + 2.0 + 0.37 * f64::from(step)).await;
        let length = studio.now() - begin;
        std::fs::copy(&take.file, &copy).unwrap();
        behind.push(length - playable_seconds(&copy));
        let finalised = studio.finalise(&copy).1.duration.as_secs_f64();
        assert!(length - finalised < behind[behind.len() - 1] + 0.05, "{finalised} of {length:.2} s");
    }
    behind.sort_by(f64::total_cmp);
    println!("behind now, s: {behind:.2?}");
    // A machine that compiles something else besides may be late once in a while.
    assert!(behind[8] < 1.0 && behind[11] < 2.5, "{behind:.2?}");
    let (target, _) = studio.finalise(&copy);
    assert_colour(Content::read(&target).colour(2.0, middle(1, 0)), RED_YUV, "a copy of a growing file");
    take.stop().await;
    red.end().await;
    studio.close().await;
}

#[tokio::test]
async fn a_picture_that_changes_its_size_or_stands_still_harms_nobody() {
    let mut studio = Studio::open().await;
    let red = studio.colour(CodecName::Vp8, RED, 640, 360).await;
    let blue = studio.colour(CodecName::Vp9, BLUE, 320, 180).await;
    let (anna, bert) = (ParticipantId::random(), ParticipantId::random());
    let tiles = vec![tile(&anna, "Anna", Some(&red)), tile(&bert, "Bert", Some(&blue))];
    let begin = studio.now();
    let mut take = studio.record(&spec(), &scene(tiles, &[]));
    take.started().await;
    studio.reach(begin + 2.0).await;
    let portrait = "video/x-raw,format=I420,width=180,height=320,framerate=25/1,colorimetry=bt601";
    red.element("size").set_property_from_str("caps", portrait);
    studio.reach(begin + 4.0).await;
    red.element("size").set_property_from_str("caps", &portrait.replace("=180", "=1280").replace("=320", "=720"));
    let frozen = studio.now() - begin;
    blue.freeze();
    studio.reach(begin + 10.0).await;
    let file = take.stop().await;
    let content = Content::read(&studio.finalise(&file).0);
    assert_eq!(content.holes(), []);
    assert_colour(content.colour(1.8, middle(2, 0)), RED_YUV, "Anna, wide");
    let [x, y, width, height] = middle(2, 0);
    assert_colour(content.colour(3.8, [x + width * 3 / 8, y, width / 4, height]), RED_YUV, "Anna, upright");
    assert!(content.colour(3.8, [x - width / 2, y, width / 4, height])[2] < 150.0, "borders beside Anna");
    assert_colour(content.colour(5.8, middle(2, 0)), RED_YUV, "Anna, large");
    assert_colour(content.colour(frozen + 2.0, middle(2, 1)), BLUE_YUV, "Bert, frozen for a moment");
    let slate = content.colour(9.8, middle(2, 1));
    assert!(slate[1] < 180.0, "Bert, frozen for too long: {slate:.0?}");
    red.end().await;
    blue.end().await;
    studio.close().await;
}

#[tokio::test]
async fn joins_and_leaves_all_the_time_leave_no_gap_and_nothing_behind() {
    let mut studio = Studio::open().await;
    let sources = [
        studio.colour(CodecName::Vp8, RED, 320, 180).await,
        studio.colour(CodecName::H264, RED, 320, 180).await,
        studio.colour(CodecName::Vp8, RED, 320, 180).await,
    ];
    let tone = studio.tone(440.0).await;
    let people = [(); 3].map(|()| ParticipantId::random());
    let pipelines = live_pipelines();
    let begin = studio.now();
    let take = studio.record(&spec(), &Scene::default());
    for step in 0..40 {
        let present = (0..3).filter(|person| (step >> person) & 1 == 0);
        let tiles =
            present.map(|person| tile(&people[person], &format!("Nr. {step}"), Some(&sources[person]))).collect();
        let audible: &[_] = if step % 3 == 0 { &[] } else { &[&tone] };
        studio.show(&scene(tiles, audible));
        studio.reach(begin + 0.15 * f64::from(step)).await;
    }
    let tiles = (0..3).map(|person| tile(&people[person], "Ende", Some(&sources[person]))).collect();
    studio.show(&scene(tiles, &[&tone]));
    studio.reach(begin + 9.0).await;
    let file = take.stop().await;
    let content = Content::read(&studio.finalise(&file).0);
    assert_eq!(content.holes(), []);
    assert!((content.duration.as_secs_f64() - 9.0).abs() < 0.5, "{:?}", content.duration);
    for person in 0..3 {
        assert_colour(content.colour(8.5, middle(3, person)), RED_YUV, "at the end");
    }
    assert!(content.tone(8.5, 440.0) > 0.05);
    studio.settle(pipelines).await;
    for source in sources {
        source.end().await;
    }
    tone.end().await;
    studio.close().await;
}

#[tokio::test]
async fn a_recording_that_is_stopped_at_once_is_a_short_file() {
    let studio = Studio::open().await;
    let take = studio.record(&spec(), &Scene::default());
    let file = take.stop().await;
    let content = Content::read(&studio.finalise(&file).0);
    assert!((1..25).contains(&content.frames()), "{} frames", content.frames());
    studio.close().await;
}

#[tokio::test]
async fn a_finished_recording_has_a_poster_and_pictures_for_a_seek_bar() {
    let mut studio = Studio::open().await;
    let (red, blue) =
        (studio.colour(CodecName::Vp8, RED, 320, 180).await, studio.colour(CodecName::Vp8, BLUE, 320, 180).await);
    let anna = ParticipantId::random();
    let begin = studio.now();
    let mut take = studio.record(&spec(), &scene(vec![tile(&anna, "", Some(&red))], &[]));
    take.started().await;
    // Pictures are of the keyframes at 1, 3, 5 and 6 s; that of 3 s is from before this.
    studio.reach(begin + 3.7).await;
    studio.show(&scene(vec![tile(&anna, "", Some(&blue))], &[]));
    studio.reach(begin + 6.5).await;
    let file = take.stop().await;
    let (film, facts) = studio.finalise(&file);
    let album = Album::new(&film, facts.duration);
    assert_eq!((album.times.len(), album.columns), (4, 4));
    let small_height = tokio::task::spawn_blocking({
        let album = album.clone();
        move || salon::media::gst::photograph(&album).unwrap()
    });
    assert_eq!(small_height.await.unwrap(), 90);
    let poster = Content::read(&album.poster);
    assert_eq!((poster.width, poster.height), (640, 360));
    assert_colour(poster.colour(0.0, [160, 90, 320, 90]), RED_YUV, "the poster");
    let sheet = Content::read(&album.sheet);
    assert_eq!((sheet.width, sheet.height), (640, 90));
    for (place, expected) in [RED_YUV, RED_YUV, BLUE_YUV, BLUE_YUV].into_iter().enumerate() {
        let found = sheet.colour(0.0, [place * 160 + 40, 16, 80, 40]);
        assert_colour(found, expected, &format!("picture {place}"));
    }
    // A film that is none is an error, not a wait.
    std::fs::write(&film, "hello").unwrap();
    let refused = tokio::task::spawn_blocking(move || salon::media::gst::photograph(&album));
    assert!(timeout(DEADLINE, refused).await.unwrap().unwrap().is_err());
    red.end().await;
    blue.end().await;
    studio.close().await;
}

#[tokio::test]
async fn a_track_that_cannot_be_decoded_harms_nobody() {
    let mut studio = Studio::open().await;
    let red = studio.colour(CodecName::Vp8, RED, 640, 360).await;
    // Says VP9 and sends VP8: its decoder fails whenever it is started again.
    let launch = "videotestsrc name=source is-live=true ! video/x-raw,width=320,height=180,framerate=25/1 ! \
         vp8enc name=encoder deadline=1 ! rtpvp8pay pt=96 ! rtpjitterbuffer latency=200";
    let broken = studio.publish(CodecName::Vp9, launch).await;
    let (anna, bert) = (ParticipantId::random(), ParticipantId::random());
    let tiles = vec![tile(&anna, "Anna", Some(&red)), tile(&bert, "Bert", Some(&broken))];
    let begin = studio.now();
    let mut take = studio.record(&spec(), &scene(tiles, &[]));
    take.started().await;
    studio.reach(begin + 4.0).await;
    let restarts = studio.decoders.get(&studio.tracks[&broken.id]).unwrap().restarts();
    assert!((1..=5).contains(&restarts), "{restarts} restarts in 4 s");
    // Its publisher dies, and nobody says so before the recording ends.
    broken.end().await;
    studio.reach(begin + 5.0).await;
    let file = take.stop().await;
    let content = Content::read(&studio.finalise(&file).0);
    assert_eq!(content.frames() as f64 / 25.0, content.duration.as_secs_f64(), "no frame is missing");
    assert_colour(content.colour(4.5, middle(2, 0)), RED_YUV, "Anna beside what cannot be decoded");
    red.end().await;
    studio.close().await;
}

#[tokio::test]
async fn a_recorder_that_dies_loses_a_second_at_most() {
    // The test runs itself again as a process that records and is killed.
    if let Ok(folder) = std::env::var("SALON_TEST_DIES_IN") {
        return record_until_killed(std::path::Path::new(&folder)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_recorder_that_dies_loses_a_second_at_most", "--nocapture"])
        .env("SALON_TEST_DIES_IN", folder.path())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut length = 0.0;
    while length < 5.3 {
        let line = timeout(DEADLINE, lines.next_line()).await.expect("the recorder lives").unwrap().unwrap();
        if let Some(seconds) = line.strip_prefix("recorded ") {
            length = seconds.parse().unwrap();
        }
    }
    child.kill().await.unwrap();
    // What it wrote before it died is still in the pipe.
    while let Some(line) = lines.next_line().await.unwrap() {
        length = line.strip_prefix("recorded ").map_or(length, |seconds| seconds.parse().unwrap_or(length));
    }
    let (source, target) = (folder.path().join("recording.mp4.part"), folder.path().join("recovered.mp4"));
    salon::recording::mp4::finalise(&source, &target).unwrap();
    // The last picture counts; sound is ahead of it by what the compositor waits for late pictures.
    let lost = length - playable_seconds(&target);
    println!("killed at {length:.2} s, {lost:.2} s lost");
    assert!(lost < 1.0, "{lost:.2} s lost");
    let content = Content::read(&target);
    assert_eq!(content.holes(), []);
    assert_colour(content.colour(4.0, middle(1, 0)), RED_YUV, "a recovered file");
}

async fn record_until_killed(folder: &std::path::Path) {
    let mut studio = Studio::open_in(folder).await;
    let red = studio.colour(CodecName::Vp8, RED, 640, 360).await;
    let anna = ParticipantId::random();
    let begin = studio.now();
    let mut take = studio.record(&spec(), &scene(vec![tile(&anna, "Anna", Some(&red))], &[]));
    take.started().await;
    loop {
        studio.wait(0.01).await;
        println!("recorded {}", studio.now() - begin);
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_is_an_error_and_not_a_panic() {
    let studio = Studio::open().await;
    for spec in [
        RecordingSpec { width: 641, ..spec() },
        RecordingSpec { height: 8000, ..spec() },
        RecordingSpec { fps: 0, ..spec() },
        RecordingSpec { layout: Some(LayoutChoice::Name("no such layout".into())), ..spec() },
    ] {
        let refused = studio.try_record(&spec, &Scene::default());
        assert!(matches!(refused, Err(MediaError::Unavailable(_))), "{spec:?}");
    }
    let mut first = studio.record(&spec(), &Scene::default());
    first.started().await;
    // The file is there already, and is not to be written twice.
    let mut second = studio.record(&spec(), &Scene::default());
    assert!(matches!(second.ended().await, Err(MediaError::File(_))));
    second.recorder.shutdown(DEADLINE).await.unwrap();
    let file = first.stop().await;
    assert!(studio.finalise(&file).1.duration.as_secs_f64() > 0.1);
    studio.close().await;
}
