//! Effects in recordings: on tracks and on the mix, put on and taken off while they run.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests too")]

use std::collections::BTreeMap;

use salon::{
    effect::{Applied, Value},
    media::{
        CodecName, MediaEvent, RecordingSpec, Scene,
        gst::{MixBudget, effect::EffectedTrack, mixes::Mixes},
    },
    room::id::ParticipantId,
};
use tokio::sync::mpsc;

#[path = "common/content.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod content;
#[path = "common/studio.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod studio;

use content::{Content, offsets};
use studio::{Source, Studio, scene, tile};

const RED: u32 = 0xffff_0000;
const RED_YUV: [f64; 3] = [81.0, 90.0, 240.0];
const BLUE_YUV: [f64; 3] = [41.0, 240.0, 110.0];
/// Inside of the only tile.
const TILE: [usize; 4] = [160, 80, 320, 200];

fn effect(name: &str, params: &[(&str, Value)]) -> Applied {
    let params: BTreeMap<String, Value> =
        params.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Applied { name: name.to_owned(), params }
}

fn red_to_blue() -> Applied {
    let colour = |text: &str| Value::Text(text.into());
    effect(
        "chroma-key",
        &[("key", colour("#ff0000")), ("behind", colour("#0000ff")), ("tolerance", Value::Number(40.0))],
    )
}

fn put_on(studio: &Studio, source: &Source, chain: Vec<Applied>) -> EffectedTrack {
    let (events, _) = mpsc::channel(16);
    let track = &studio.tracks[&source.id];
    EffectedTrack::start(track, chain, &studio.clock, &studio.decoders, &studio.presets, events)
}

#[track_caller]
fn assert_colour(found: [f64; 3], expected: [f64; 3], what: &str) {
    let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 16.0);
    assert!(near, "{what}: {found:.0?}, expected {expected:.0?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_recording_has_the_effects_and_another_the_track_as_it_was_published() {
    let mut studio = Studio::open().await;
    let red = studio.colour(CodecName::Vp8, RED, 640, 360).await;
    let shown = scene(vec![tile(&ParticipantId::random(), "", Some(&red))], &[]);
    let spec = RecordingSpec { width: 640, height: 360, ..Default::default() };
    let begin = studio.now();
    let mut with = studio.record(&spec, &shown);
    let clean = RecordingSpec { effects: false, ..spec };
    let mut without = studio.record_into("clean.mp4.part", &clean, &shown).unwrap();
    with.started().await;
    without.started().await;
    studio.reach(begin + 2.5).await;
    let effects = put_on(&studio, &red, vec![red_to_blue()]);
    studio.reach(begin + 5.0).await;
    // The mix, too: for the one that takes effects.
    let grey = Scene { effects: vec![effect("greyscale", &[])], ..shown.clone() };
    studio.show(&grey);
    studio.reach(begin + 7.5).await;
    studio.show(&shown);
    assert!(effects.set(&[]));
    studio.reach(begin + 10.0).await;
    let (with, without) = (with.stop().await, without.stop().await);
    let [with, without] = [with, without].map(|file| {
        let (target, _) = studio.finalise(&file);
        let content = Content::read(&target);
        std::fs::remove_file(target).unwrap();
        content
    });
    assert_colour(with.colour(2.0, TILE), RED_YUV, "before");
    assert_colour(with.colour(4.5, TILE), BLUE_YUV, "with an effect on the track");
    assert_colour(with.colour(7.0, TILE), [41.0, 128.0, 128.0], "and one on the mix");
    assert_colour(with.colour(9.5, TILE), RED_YUV, "after");
    for time in [2.0, 4.5, 7.0, 9.5] {
        assert_colour(without.colour(time, TILE), RED_YUV, "as it was published");
    }
    for content in [&with, &without] {
        assert_eq!(content.holes(), []);
        let missing = content.duration.as_secs_f64() * content.fps - content.frames() as f64;
        assert!(missing.abs() < 2.0, "{missing} frames are missing");
    }
    red.end().await;
    studio.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_that_do_not_go_on_a_mix_are_told_and_the_mix_goes_on() {
    let mut studio = Studio::open().await;
    let (events, mut told) = mpsc::channel(16);
    studio.mixes = Mixes::new(&studio.clock, &studio.decoders, &studio.presets, &MixBudget::new(4), events);
    let red = studio.colour(CodecName::Vp8, RED, 640, 360).await;
    let shown = scene(vec![tile(&ParticipantId::random(), "", Some(&red))], &[]);
    let spec = RecordingSpec { width: 640, height: 360, ..Default::default() };
    let begin = studio.now();
    let mut take = studio.record(&spec, &shown);
    take.started().await;
    let chain = vec![effect("no-such-effect", &[])];
    studio.show(&Scene { effects: chain.clone(), ..shown.clone() });
    let event = tokio::time::timeout(std::time::Duration::from_secs(20), told.recv()).await.expect("word of it");
    assert!(matches!(event, Some(MediaEvent::MixEffectsFailed { chain: failed, .. }) if failed == chain));
    let failed_at = studio.now() - begin;
    studio.reach(begin + failed_at + 2.0).await;
    let file = take.stop().await;
    let (target, _) = studio.finalise(&file);
    let content = Content::read(&target);
    assert_colour(content.colour(failed_at + 1.0, TILE), RED_YUV, "as it was");
    assert_eq!(content.holes(), []);
    red.end().await;
    studio.close().await;
}

/// A flash and a beep each second, through effects that leave them as they are: none may be lost or
/// moved when effects come, change and go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_moved_when_effects_come_and_go() {
    let mut studio = Studio::open().await;
    let (flash, beep) = (studio.flash().await, studio.beep().await);
    let shown = scene(vec![tile(&ParticipantId::random(), "", Some(&flash))], &[&beep]);
    let begin = studio.now();
    let mut take = studio.record(&RecordingSpec { width: 640, height: 360, ..Default::default() }, &shown);
    take.started().await;
    let plain = |brightness: f64| effect("balance", &[("brightness", Value::Number(brightness))]);
    let gain = |db: f64| effect("gain", &[("gain", Value::Number(db))]);
    studio.reach(begin + 2.3).await;
    let (video, audio) = (put_on(&studio, &flash, vec![plain(0.0)]), put_on(&studio, &beep, vec![gain(0.0)]));
    studio.reach(begin + 5.0).await;
    for step in 0..20 {
        let at = begin + 5.0 + f64::from(step) * 0.1;
        studio.reach(at).await;
        // Live parameters and whole chains in turns.
        let chain =
            if step % 2 == 0 { vec![plain(0.01 * f64::from(step))] } else { vec![effect("mirror", &[]), plain(0.0)] };
        assert!(video.set(&chain) && audio.set(&[gain(0.1 * f64::from(step % 3))]));
    }
    studio.reach(begin + 8.6).await;
    assert!(video.set(&[]) && audio.set(&[]));
    studio.reach(begin + 12.0).await;
    let file = take.stop().await;
    let content = Content::read(&studio.finalise(&file).0);
    assert_eq!(content.holes(), []);
    let (flashes, beeps) = (content.flashes(TILE), content.beeps());
    println!("flashes {flashes:.2?}\nbeeps {beeps:.2?}");
    for found in [&flashes, &beeps] {
        let steps: Vec<f64> = found.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(found.len() >= 10, "{found:.2?}");
        assert!(steps.iter().all(|step| (step - 1.0).abs() < 0.081), "one each second: {found:.2?}");
    }
    let apart = offsets(&flashes, &beeps);
    assert!(apart.len() >= 10 && apart.iter().all(|offset| offset.abs() < 0.08), "{apart:.3?}");
    flash.end().await;
    beep.end().await;
    studio.close().await;
}
