//! Composite recordings of test tracks, judged by their content.
#![cfg(feature = "gstreamer")]

use salon::{
    media::{CodecName, RecordingSpec, Scene, layout},
    room::id::ParticipantId,
};

#[path = "common/content.rs"]
mod content;
#[path = "common/studio.rs"]
mod studio;

use content::{Content, bright_extent, luma, offsets, playable_seconds};
use studio::{Studio, scene, tile};

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
    let begin = studio.now();
    let mut take = studio.record(&spec(), &scene(vec![tile(&anna, "Anna", Some(&red))], &[&low]));
    take.started().await;
    let (blue, high) = (studio.colour(CodecName::H264, BLUE, 640, 360).await, studio.tone(880.0).await);
    studio.reach(begin + 3.0).await;
    let both = vec![tile(&anna, "Anna", Some(&red)), tile(&bert, "Bert", Some(&blue))];
    take.recorder.set_scene(&scene(both, &[&low, &high]), &studio.tracks);
    studio.reach(begin + 6.0).await;
    let muted = vec![tile(&anna, "Anna", None), tile(&bert, "Bert", Some(&blue))];
    take.recorder.set_scene(&scene(muted, &[&high]), &studio.tracks);
    studio.reach(begin + 8.0).await;
    studio.unpublish(red).await;
    studio.unpublish(low).await;
    take.recorder.set_scene(&scene(vec![tile(&bert, "Bert", Some(&blue))], &[&high]), &studio.tracks);
    studio.reach(begin + 10.0).await;
    take.recorder.set_scene(&Scene::default(), &studio.tracks);
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
    let copy = studio.folder.path().join("copy.mp4");
    for step in 0..12 {
        studio.reach(begin + 2.0 + 0.37 * f64::from(step)).await;
        let length = studio.now() - begin;
        std::fs::copy(&take.file, &copy).unwrap();
        let playable = playable_seconds(&copy);
        assert!(length - playable < 1.0, "{playable:.2} of {length:.2} s can be played");
        assert!(studio.finalise(&copy).1.duration.as_secs_f64() > length - 1.0, "at {length:.2} s");
    }
    let (target, _) = studio.finalise(&copy);
    assert_colour(Content::read(&target).colour(2.0, middle(1, 0)), RED_YUV, "a copy of a growing file");
    take.stop().await;
    red.end().await;
    studio.close().await;
}
