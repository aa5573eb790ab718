//! Layouts of the mix, changed while it is recorded, judged by where which colour is.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests too")]

use std::sync::Arc;

use gst::prelude::*;
use salon::{
    effect::Picture,
    media::{
        CodecName, LayoutChoice, LayoutKind, LayoutSpec, RecordingSpec, Scene,
        layout::{Corner, Fit, Logo, Region, Show},
    },
    room::id::ParticipantId,
};

#[path = "common/content.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod content;
#[path = "common/studio.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod studio;

use content::{Content, bright_extent, luma};
use studio::{Studio, scene, tile};

const RED: u32 = 0xffff_0000;
const BLUE: u32 = 0xff00_00ff;
const GREEN: u32 = 0xff00_ff00;
const RED_YUV: [f64; 3] = [81.0, 90.0, 240.0];
const BLUE_YUV: [f64; 3] = [41.0, 240.0, 110.0];
const GREEN_YUV: [f64; 3] = [145.0, 54.0, 34.0];
/// `#3fb950`, the border of who speaks.
const SPEAKING_YUV: [f64; 3] = [133.0, 101.0, 77.0];
/// `#203040`, asked for as background.
const SLATE_BLUE: [f64; 3] = [55.0, 137.0, 120.0];

#[track_caller]
fn assert_colour(found: [f64; 3], expected: [f64; 3], what: &str) {
    let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 16.0);
    assert!(near, "{what}: {found:.0?}, expected {expected:.0?}");
}

fn region(x: f64, y: f64, width: f64, height: f64, z: i32, show: Show) -> Region {
    Region { x, y, width, height, z, fit: Fit::Fill, show }
}

#[tokio::test]
async fn layouts_change_while_they_are_recorded_and_no_frame_is_missing() {
    let mut studio = Studio::open().await;
    let red = studio.colour(CodecName::Vp8, RED, 640, 360).await;
    // Upright, so that it has borders.
    let blue = studio.colour(CodecName::H264, BLUE, 360, 640).await;
    let green = studio.colour(CodecName::Vp8, GREEN, 640, 360).await;
    let [anna, bert, cleo] = [(); 3].map(|()| ParticipantId::random());
    let with = |layout: LayoutSpec, speaker: Option<&ParticipantId>, screen: bool| {
        let mut tiles = vec![tile(&anna, "", Some(&red)), tile(&bert, "", Some(&blue)), tile(&cleo, "", Some(&green))];
        tiles[2].screen = screen;
        let voices = speaker.map(|id| (id.clone(), -20)).into_iter().collect();
        Scene { layout, speaker: speaker.cloned(), voices, ..scene(tiles, &[]) }
    };
    let custom = LayoutSpec {
        background: Some("#203040".to_owned().try_into().unwrap()),
        regions: vec![
            region(0.5, 0.5, 0.4, 0.4, 5, Show::Participant(bert.clone())),
            region(0.1, 0.1, 0.6, 0.6, 1, Show::Next),
        ],
        ..LayoutSpec::of(LayoutKind::Custom)
    };
    // Bert goes from the lower right to the lower left.
    let mut moved = custom.clone();
    moved.regions[0] = region(0.0, 0.7, 0.3, 0.3, 5, Show::Participant(bert.clone()));
    let mut aside = moved.clone();
    aside.regions[0].x = 0.7;
    let begin = studio.now();
    let spec = RecordingSpec { width: 640, height: 360, ..Default::default() };
    let of = LayoutSpec::of;
    let mut take = studio.record(&spec, &with(of(LayoutKind::Speaker), Some(&cleo), false));
    take.started().await;
    let mut changes = vec![begin];
    let mut at = 3.0;
    for scene in [
        with(of(LayoutKind::Speaker), Some(&anna), false),
        with(of(LayoutKind::Presentation), None, true),
        with(of(LayoutKind::Pip), Some(&anna), true),
        with(of(LayoutKind::AudioOnly), Some(&anna), false),
        with(custom, None, false),
        with(aside, None, false),
        with(moved, None, false),
        with(LayoutSpec { title: Some("수학 & <b>".into()), clock: true, ..of(LayoutKind::Grid) }, Some(&bert), false),
    ] {
        studio.reach(begin + at).await;
        changes.push(studio.now());
        studio.show(&scene);
        at += 2.5;
    }
    studio.reach(begin + at).await;
    let file = take.stop().await;
    let target = studio.finalise(&file).0;
    let content = Content::read(&target);
    assert_eq!(content.holes(), []);
    assert!(
        (content.frames() as f64 / 25.0 - content.duration.as_secs_f64()).abs() < 0.1,
        "{} frames",
        content.frames()
    );
    // Two seconds into each.
    let seen = |change: usize, region: [usize; 4]| content.colour(changes[change] - begin + 2.0, region);
    let (stage, corner) = ([240, 80, 160, 80], [540, 280, 40, 30]);

    assert_colour(seen(0, stage), GREEN_YUV, "Cleo speaks, and is large");
    assert_colour(seen(0, [230, 310, 60, 16]), RED_YUV, "Anna in the strip");
    assert_colour(seen(0, [372, 310, 12, 16]), BLUE_YUV, "Bert in the strip");
    assert_colour(seen(1, stage), RED_YUV, "Anna speaks, and is large");
    assert_colour(seen(2, [120, 100, 200, 100]), GREEN_YUV, "the screen is large");
    assert_colour(seen(2, [540, 100, 60, 40]), RED_YUV, "Anna beside the screen");
    assert_colour(seen(3, [80, 80, 200, 100]), GREEN_YUV, "the screen fills the canvas");
    assert_colour(seen(3, corner), RED_YUV, "who speaks is in the corner");
    let nobody = seen(4, [60, 60, 200, 60]);
    assert!([RED_YUV, BLUE_YUV, GREEN_YUV].iter().all(|colour| (nobody[2] - colour[2]).abs() > 20.0), "{nobody:.0?}");
    assert_colour(seen(5, [90, 60, 200, 100]), RED_YUV, "the next in the large region");
    assert_colour(seen(5, [330, 190, 230, 120]), BLUE_YUV, "Bert, who is upright, lies over it and fills his place");
    assert_colour(seen(6, [460, 264, 160, 80]), BLUE_YUV, "Bert at the right");
    assert_colour(seen(7, [20, 264, 160, 80]), BLUE_YUV, "Bert at the left");
    // On his way he passes where he neither was nor comes to stay, and that takes 300 ms, not more.
    let set_out = changes[7] - begin;
    let passes: Vec<f64> = (0..25)
        .map(|frame| f64::from(frame) / 25.0)
        .filter(|after| content.colour(set_out + after, [296, 264, 24, 80])[1] > 200.0)
        .collect();
    assert!(!passes.is_empty() && passes.iter().all(|after| (0.04..0.34).contains(after)), "{passes:?}");
    assert_colour(seen(6, [296, 264, 24, 80]), SLATE_BLUE, "nobody between the two places");
    assert_colour(seen(7, [296, 264, 24, 80]), SLATE_BLUE, "nobody between the two places afterwards");
    assert_colour(seen(5, [10, 320, 40, 30]), SLATE_BLUE, "the background that was asked for");
    assert_colour(seen(8, [80, 80, 160, 40]), RED_YUV, "Anna in the grid");
    assert_colour(seen(8, [452, 60, 40, 40]), BLUE_YUV, "Bert in the grid");
    let title = bright_extent(&luma(&target, changes[8] - begin + 2.0, [200, 8, 240, 40]));
    assert!(title.is_some_and(|(first, last, pixels)| last - first > 40 && pixels > 60), "{title:?}");
    // The time, white in the upper right corner.
    let clock = |time: f64| bright_extent(&luma(&target, time, [500, 4, 136, 40]));
    assert!(clock(changes[8] - begin + 2.0).is_some_and(|(first, last, pixels)| last - first > 40 && pixels > 60));
    assert_eq!(clock(changes[7] - begin + 2.0), None, "nobody asked for the time");
    for source in [red, blue, green] {
        source.end().await;
    }
    studio.close().await;
}

#[tokio::test]
async fn who_speaks_has_a_border_and_a_recording_of_its_own_layout_keeps_it() {
    let mut studio = Studio::open().await;
    let red = studio.colour(CodecName::Vp8, RED, 640, 360).await;
    let blue = studio.colour(CodecName::Vp8, BLUE, 640, 360).await;
    let [anna, bert] = [(); 2].map(|()| ParticipantId::random());
    let tiles = vec![tile(&anna, "", Some(&red)), tile(&bert, "", Some(&blue))];
    let speaks = Scene { voices: vec![(bert.clone(), -25)], ..scene(tiles.clone(), &[]) };
    let spec = RecordingSpec { width: 640, height: 360, ..Default::default() };
    let own = RecordingSpec { layout: Some(LayoutChoice::Name("audio-only".into())), ..spec.clone() };
    let begin = studio.now();
    let (mut follows, mut keeps) =
        (studio.record(&spec, &speaks), studio.record_into("own.mp4.part", &own, &speaks).unwrap());
    follows.started().await;
    keeps.started().await;
    studio.reach(begin + 3.0).await;
    let silent = Scene { layout: LayoutSpec::of(LayoutKind::Pip), ..scene(tiles, &[]) };
    studio.show(&silent);
    studio.reach(begin + 5.5).await;
    let (follows, keeps) = (follows.stop().await, keeps.stop().await);
    let [follows, keeps] = [follows, keeps].map(|file| {
        let (target, _) = studio.finalise(&file);
        let content = Content::read(&target);
        std::fs::remove_file(target).unwrap();
        content
    });
    let grid = salon::media::layout::grid(640, 360, 2, 16.0 / 9.0, 8);
    let [x, y, width] = [grid[1].x, grid[1].y, grid[1].width].map(|side| side as usize);
    // A border is four pixels wide: its brightness is seen, and its colour is not at this scale.
    let border = |tile: usize| follows.colour(2.5, [grid[tile].x as usize - 4, y + 40, 4, 80])[0];
    assert!((border(1) - SPEAKING_YUV[0]).abs() < 16.0, "Bert's border: {:.0}", border(1));
    assert!(border(0) < 60.0, "Anna has none: {:.0}", border(0));
    assert_colour(follows.colour(5.0, [100, 100, 200, 100]), RED_YUV, "the room's layout is followed");
    for time in [2.5, 5.0] {
        let picture = keeps.colour(time, [x + 40, y + 60, width - 80, 40]);
        assert!((picture[1] - BLUE_YUV[1]).abs() > 40.0, "no picture where only names are: {picture:.0?}");
    }
    let meter = keeps.colour(2.5, [x + 8, y, 32, 8])[0];
    assert!((meter - SPEAKING_YUV[0]).abs() < 16.0, "Bert's level meter: {meter:.0}");
    red.end().await;
    blue.end().await;
    studio.close().await;
}

#[tokio::test]
async fn a_logo_lies_in_its_corner_and_changes_while_it_is_recorded() {
    const SIGN: &[u8] =
        br##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 10"><rect width="20" height="10" fill="#00ff00"/></svg>"##;
    let mut studio = Studio::open().await;
    let red = studio.colour(CodecName::Vp8, RED, 640, 360).await;
    let anna = ParticipantId::random();
    let picture = Arc::new(Picture::decode(SIGN).unwrap());
    let with = |clock: bool, logo: Option<(Corner, f64, f64)>| {
        let logo = logo.map(|(corner, size, opacity)| Logo { picture: picture.id.clone(), corner, size, opacity });
        let layout = LayoutSpec { logo, clock, ..Default::default() };
        Scene { layout, pictures: vec![picture.clone()], ..scene(vec![tile(&anna, "", Some(&red))], &[]) }
    };
    let scenes = [
        with(false, Some((Corner::TopLeft, 0.25, 1.0))),
        with(false, Some((Corner::BottomRight, 0.25, 0.5))),
        with(true, Some((Corner::BottomRight, 0.1, 1.0))),
        with(false, None),
    ];
    let spec = RecordingSpec { width: 640, height: 360, ..Default::default() };
    let mut take = studio.record(&spec, &scenes[0]);
    take.started().await;
    let begin = studio.now();
    let mut times = Vec::new();
    for (index, scene) in scenes.iter().enumerate() {
        if index > 0 {
            studio.show(scene);
        }
        studio.reach(begin + 2.0 * (index + 1) as f64).await;
        times.push(studio.now() - begin - 0.4);
    }
    let (target, _) = studio.finalise(&take.stop().await);
    let content = Content::read(&target);
    assert_eq!(content.holes(), []);
    // 3 % of the width from the edges: 19 pixels; 160×80, then 64×32.
    let seen = |at: usize, region: [usize; 4]| content.colour(times[at], region);
    let (first, opposite, small) = ([24, 24, 148, 68], [468, 268, 148, 68], [560, 312, 56, 24]);
    assert_colour(seen(0, first), GREEN_YUV, "in the upper left corner");
    assert_colour(seen(0, [186, 24, 60, 68]), RED_YUV, "and no wider");
    assert_colour(seen(0, opposite), RED_YUV, "nothing in the other corner yet");
    assert_colour(seen(1, first), RED_YUV, "it is gone from there");
    let half = [0, 1, 2].map(|index| (GREEN_YUV[index] + RED_YUV[index]) / 2.0);
    assert_colour(seen(1, opposite), half, "half of it is seen through");
    assert_colour(seen(2, small), GREEN_YUV, "smaller");
    assert_colour(seen(2, [472, 272, 72, 60]), RED_YUV, "nothing where it was larger");
    let clock = |at: usize| bright_extent(&luma(&target, times[at], [500, 4, 136, 40]));
    assert!(clock(2).is_some_and(|(first, last, pixels)| last - first > 40 && pixels > 60), "with the clock");
    assert_eq!(clock(1), None);
    assert_colour(seen(3, small), RED_YUV, "without one");
    red.end().await;
    studio.close().await;
}

/// Everything that may be wrong with a camera, side by side.
#[tokio::test]
async fn no_input_stalls_the_mix_or_another_input() {
    const FROZEN: f64 = 2.5;
    const MUTED: f64 = 4.0;
    const RECOLOURED: f64 = 5.0;
    let mut studio = Studio::open().await;
    let (steady, slow, fast) = (studio.flash_at(25).await, studio.flash_at(5).await, studio.flash_at(60).await);
    let resized = studio.colour(CodecName::Vp8, RED, 640, 360).await;
    let lossy = studio.lossy_colour(BLUE, 0.05).await;
    let frozen = studio.colour(CodecName::Vp8, GREEN, 320, 180).await;
    let muted = studio.colour(CodecName::H264, BLUE, 320, 180).await;
    let sources = [&steady, &slow, &fast, &resized, &lossy, &frozen, &muted];
    let tiles = sources.map(|source| tile(&ParticipantId::random(), "", Some(source))).to_vec();
    let begin = studio.now();
    let spec = RecordingSpec { width: 640, height: 360, ..Default::default() };
    let mut take = studio.record(&spec, &scene(tiles.clone(), &[]));
    take.started().await;
    let sizes = [(180, 320), (1280, 720), (320, 180), (360, 640), (640, 360), (176, 144), (640, 480)];
    for (second, (width, height)) in (2..10).zip(sizes.iter().cycle()) {
        studio.reach(begin + f64::from(second)).await;
        let caps = format!("video/x-raw,format=I420,width={width},height={height},framerate=25/1,colorimetry=bt601");
        resized.element("size").set_property_from_str("caps", &caps);
        let past = |moment: f64| (f64::from(second - 1)..f64::from(second)).contains(&moment);
        if past(FROZEN) {
            frozen.freeze();
        }
        if past(MUTED) {
            let mut hidden = tiles.clone();
            hidden[6].video = None;
            hidden[6].label = "Gabi Ott".into();
            studio.show(&scene(hidden, &[]));
        }
        if past(RECOLOURED) {
            lossy.element("source").set_property("foreground-color", GREEN);
        }
    }
    studio.reach(begin + 11.0).await;
    let file = take.stop().await;
    let content = Content::read(&studio.finalise(&file).0);
    assert_eq!(content.holes(), []);
    assert!((content.frames() as f64 - content.duration.as_secs_f64() * 25.0).abs() < 2.0, "{}", content.frames());
    let grid = salon::media::layout::grid(640, 360, 7, 16.0 / 9.0, 8);
    let middle = |tile: usize| {
        let [x, y, width, height] = [grid[tile].x, grid[tile].y, grid[tile].width, grid[tile].height];
        [x + width / 4, y + height / 4, width / 2, height / 2].map(|side| side as usize)
    };
    for (tile, what) in ["steady", "5 fps", "60 fps"].into_iter().enumerate() {
        let flashes = content.flashes(middle(tile));
        assert!((9..=12).contains(&flashes.len()), "{what}: {flashes:.2?}");
        let even = flashes.windows(2).all(|pair| (pair[1] - pair[0] - 1.0).abs() < 0.13);
        assert!(even, "{what} goes on as it was: {flashes:.2?}");
    }
    // What was sized anew a moment ago is shown again, in the middle of its tile.
    for second in 3..10 {
        let [x, y, width, height] = middle(3);
        let found = content.colour(f64::from(second) + 0.8, [x + width / 3, y, width / 3, height]);
        assert_colour(found, RED_YUV, &format!("resized, second {second}"));
    }
    assert_colour(content.colour(4.5, middle(4)), BLUE_YUV, "lossy");
    assert_colour(content.colour(10.5, middle(4)), GREEN_YUV, "lossy, later");
    assert_colour(content.colour(4.5, middle(5)), GREEN_YUV, "frozen a moment ago");
    assert!(content.colour(10.5, middle(5))[2] > 90.0, "frozen for long: the slate");
    assert_colour(content.colour(3.5, middle(6)), BLUE_YUV, "not muted yet");
    let hidden = content.colour(7.5, middle(6));
    assert!(hidden[1] < 160.0, "muted: the slate, {hidden:.0?}");
    let initials = |time: f64| bright_extent(&luma(&studio.folder.join("recording.mp4"), time, middle(6)));
    assert_eq!(initials(3.5), None);
    assert!(initials(7.5).is_some_and(|(first, last, pixels)| last - first > 20 && pixels > 40), "{:?}", initials(7.5));
    for source in [steady, slow, fast, resized, lossy, frozen, muted] {
        source.end().await;
    }
    studio.close().await;
}
