//! Effects in recordings: on tracks and on the mix, put on and taken off while they run.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests too")]

use std::{collections::BTreeMap, sync::Arc};

use salon::{
    effect::{Applied, Value},
    media::{
        CodecName, EffectReport, LayoutSpec, MediaEvent, RecordingSpec, Scene,
        graph::{Graph, NodeKind},
        gst::{
            MixBudget,
            effect::{EffectedTrack, live_chains},
            live_pipelines,
            mixes::Mixes,
            preset::Presets,
        },
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

/// Effects that only these tests have: some that break after so many frames, and some that take their time.
fn made_up() -> (tempfile::TempDir, Arc<Presets>) {
    gst::init().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("effects")).unwrap();
    let file = |name: &str, kind: &str, launch: &str| {
        let text = format!(
            "name = \"{name}\"\nkind = \"{kind}-effect\"\ncost = \"low\"\ntitle = {{ en = \"A\", ko = \"가\" }}\n\
             [pipeline]\nrequires = [\"identity\"]\npackages = []\nlaunch = \"{launch}\"\n"
        );
        std::fs::write(folder.path().join(format!("effects/{name}.toml")), text).unwrap();
    };
    file("breaks", "video", "videobalance saturation=0 ! identity error-after=50");
    file("breaks-sound", "audio", "volume volume=0.1 ! identity error-after=100");
    file("slow", "video", "identity sleep-time=70000");
    file("slower", "video", "videobalance saturation=0 ! identity sleep-time=250000");
    // In the place of the layout's.
    file("clock", "video", "identity error-after=25");
    let presets = Presets::load(Some(folder.path()));
    let found = ["breaks", "breaks-sound", "slow", "slower", "clock"].iter().all(|name| presets.effect(name).is_ok());
    assert!(found, "{:?}", presets.unavailable());
    (folder, Arc::new(presets))
}

async fn studio_of(presets: &Arc<Presets>) -> (Studio, mpsc::Receiver<MediaEvent>) {
    let mut studio = Studio::open().await;
    let (events, told) = mpsc::channel(64);
    studio.presets = presets.clone();
    studio.mixes = Mixes::new(&studio.clock, &studio.decoders, presets, &MixBudget::new(4), events);
    (studio, told)
}

async fn until(told: &mut mpsc::Receiver<MediaEvent>, what: &str, is_it: impl Fn(&MediaEvent) -> bool) -> MediaEvent {
    let found = async {
        loop {
            let event = told.recv().await.unwrap();
            if is_it(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(studio::DEADLINE, found).await.unwrap_or_else(|_| panic!("no word of {what}"))
}

fn is_whole(content: &Content) {
    assert_eq!(content.holes(), []);
    let missing = content.duration.as_secs_f64() * content.fps - content.frames() as f64;
    assert!(missing.abs() < 2.0, "{missing} frames are missing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_that_break_in_a_running_mix_are_taken_off_and_no_frame_is_lost() {
    let (_folder, presets) = made_up();
    let (mut studio, mut told) = studio_of(&presets).await;
    let (red, tone) = (studio.colour(CodecName::Vp8, RED, 640, 360).await, studio.tone(440.0).await);
    let shown = scene(vec![tile(&ParticipantId::random(), "", Some(&red))], &[&tone]);
    let (pipelines, chains) = (live_pipelines(), live_chains());
    let begin = studio.now();
    let mut take = studio.record(&RecordingSpec { width: 640, height: 360, ..Default::default() }, &shown);
    take.started().await;
    studio.wait(1.0).await;
    let mut times = vec![studio.now() - begin];
    // The layout's clock fails, too: that is not to be blamed on the room's effects.
    let layout = LayoutSpec { clock: true, ..Default::default() };
    for name in ["breaks", "breaks-sound"] {
        let chain = vec![effect(name, &[]), effect("mirror", &[])];
        studio.show(&Scene { effects: chain.clone(), layout: layout.clone(), ..shown.clone() });
        let event =
            until(&mut told, "effects that broke", |event| matches!(event, MediaEvent::MixEffectsFailed { .. })).await;
        let MediaEvent::MixEffectsFailed { chain: failed, error } = event else { panic!("{event:?}") };
        assert_eq!(failed, chain, "{error}");
        assert!(error.to_string().contains("identity"), "{error}");
        times.push(studio.now() - begin);
        // Whatever else changes in the room, they are not put on again.
        let speaks = Scene { effects: chain, voices: vec![(ParticipantId::random(), -20)], ..shown.clone() };
        studio.show(&Scene { layout: layout.clone(), ..speaks });
    }
    studio.wait(2.0).await;
    times.push(studio.now() - begin);
    let file = take.stop().await;
    studio.settle(pipelines).await;
    assert_eq!(live_chains(), chains, "none is left behind");
    assert!(told.try_recv().is_err(), "each is told once, and of the clock nothing");
    let content = Content::read(&studio.finalise(&file).0);
    is_whole(&content);
    let grey = |time: f64| (content.colour(time, TILE)[1] - 128.0).abs() < 16.0;
    let greys: Vec<f64> = content.times().filter(|time| grey(*time)).collect();
    println!("effects at {times:.2?}; grey {} frames from {:.2?}", greys.len(), greys.first());
    // The frame that it broke at came past it.
    assert!((49..=51).contains(&greys.len()), "{} frames: one for each that went through", greys.len());
    assert_colour(content.colour(times[3] - 0.5, TILE), RED_YUV, "after");
    let (loud, quiet) = (content.tone(times[0] - 0.3, 440.0), content.tone(times[2] - 1.2, 440.0));
    println!("tone {loud:.3}, with the effect {quiet:.3}");
    assert!(content.tone(times[3] - 0.5, 440.0) > 0.8 * loud, "the sound is as it was");
    let missing = content.duration.as_secs_f64() - content.sound_seconds();
    assert!(missing.abs() < 0.1, "{missing} s of sound are missing");
    red.end().await;
    tone.end().await;
    studio.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mix_whose_effects_are_slow_shows_fewer_pictures_and_loses_no_frame() {
    let (_folder, presets) = made_up();
    let (mut studio, _told) = studio_of(&presets).await;
    let flash = studio.flash().await;
    let shown = scene(vec![tile(&ParticipantId::random(), "", Some(&flash))], &[]);
    let shown = Scene { effects: vec![effect("slow", &[])], ..shown };
    let mut take = studio.record(&RecordingSpec { width: 640, height: 360, ..Default::default() }, &shown);
    take.started().await;
    let every = |take: &studio::Take| {
        let mut graph = Graph::default();
        take.recorder.graph(&mut graph);
        let mixer = graph.nodes.iter().find(|node| node.kind == NodeKind::Mixer);
        mixer.and_then(|mixer| mixer.facts["every"].parse::<u32>().ok()).unwrap_or(1)
    };
    let until = studio.now() + 15.0;
    while every(&take) < 2 {
        assert!(studio.now() < until, "it goes through all of them");
        studio.wait(0.1).await;
    }
    studio.wait(3.0).await;
    // No more than comes is left lying.
    let costs = studio.mixes.effect_costs();
    assert_eq!(costs.iter().map(|cost| cost.name.as_str()).collect::<Vec<_>>(), ["slow"]);
    let file = take.stop().await;
    let content = Content::read(&studio.finalise(&file).0);
    println!("{costs:?}, {} frames in {:?}", content.frames(), content.duration);
    is_whole(&content);
    assert!(costs[0].frames < content.frames() as u64, "{costs:?}");
    flash.end().await;
    studio.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_much_too_slow_for_a_mix_are_taken_off_by_themselves_and_by_hand_and_it_goes_on() {
    let (_folder, presets) = made_up();
    let (mut studio, mut told) = studio_of(&presets).await;
    let red = studio.colour(CodecName::Vp8, RED, 640, 360).await;
    let shown = scene(vec![tile(&ParticipantId::random(), "", Some(&red))], &[]);
    let chain = vec![effect("slower", &[])];
    let slower = Scene { effects: chain.clone(), ..shown.clone() };
    let (pipelines, chains) = (live_pipelines(), live_chains());
    let begin = studio.now();
    let mut take = studio.record(&RecordingSpec { width: 640, height: 360, ..Default::default() }, &slower);
    take.started().await;
    let event =
        until(&mut told, "effects that are too slow", |event| matches!(event, MediaEvent::MixEffectsFailed { .. }));
    let MediaEvent::MixEffectsFailed { chain: failed, error } = event.await else { unreachable!() };
    assert_eq!(failed, chain, "{error}");
    assert!(error.to_string().contains("too slow"), "{error}");
    let failed = studio.now() - begin;
    studio.show(&shown);
    studio.wait(1.0).await;
    // A picture is in them most of the time.
    studio.show(&slower);
    let until_costs = |what: &'static str, is_it: fn(u64) -> bool| {
        let (mixes, clock) = (studio.mixes.clone(), studio.clock.clone());
        async move {
            let begun = clock.running_time();
            while !is_it(mixes.effect_costs().iter().map(|cost| cost.frames).sum()) {
                assert!(clock.running_time() < begun + gst::ClockTime::from_seconds(15), "{what}");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    };
    until_costs("nothing goes through them", |frames| frames >= 3).await;
    studio.show(&shown);
    until_costs("they are not taken off", |frames| frames == 0).await;
    assert!(told.try_recv().is_err(), "they were taken off before they failed");
    let off = studio.now() - begin;
    studio.wait(1.0).await;
    let end = studio.now() - begin;
    let file = take.stop().await;
    studio.settle(pipelines).await;
    assert_eq!(live_chains(), chains, "none is left behind");
    let content = Content::read(&studio.finalise(&file).0);
    println!("failed at {failed:.2}, off at {off:.2}, {} frames in {:?}", content.frames(), content.duration);
    is_whole(&content);
    assert!((content.duration.as_secs_f64() - end).abs() < 1.0, "{:?} of {end:.2} s", content.duration);
    let first = content.times().find(|time| (content.colour(*time, TILE)[0] - RED_YUV[0]).abs() < 16.0).unwrap();
    assert_colour(content.colour(first, TILE), [RED_YUV[0], 128.0, 128.0], "never without the effects");
    assert_colour(content.colour(end - 0.5, TILE), RED_YUV, "after");
    red.end().await;
    studio.close().await;
}

/// Two mixes have the effects: what they find is told once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_on_the_sound_of_the_mix_are_heard_and_what_they_find_is_told_once() {
    let (mut studio, mut told) = {
        gst::init().unwrap();
        studio_of(&Arc::new(Presets::load(None))).await
    };
    let tone = studio.tone(440.0).await;
    let shown = scene(vec![], &[&tone]);
    let begin = studio.now();
    let sound = RecordingSpec { video: false, ..Default::default() };
    let mut take = studio.record(&sound, &shown);
    let mut other = studio
        .record_into("other.mp4.part", &RecordingSpec { width: 320, height: 180, ..Default::default() }, &shown)
        .unwrap();
    take.started().await;
    other.started().await;
    studio.wait(1.0).await;
    let on = studio.now() - begin;
    let chain = vec![effect("pitch", &[("pitch", Value::Number(2.0))]), effect("level-meter", &[])];
    studio.show(&Scene { effects: chain, ..shown.clone() });
    let level =
        |event: &MediaEvent| matches!(event, MediaEvent::EffectReported { report: EffectReport::Level { .. }, .. });
    let first = until(&mut told, "how loud it is", level).await;
    assert!(matches!(first, MediaEvent::EffectReported { track: None, .. }), "{first:?}");
    let from = studio.now();
    studio.wait(2.0).await;
    let mut loud = 0;
    let mut count = 0;
    while let Ok(event) = told.try_recv() {
        if let MediaEvent::EffectReported { report: EffectReport::Level { rms_db, .. }, .. } = event {
            count += 1;
            loud += usize::from((-30.0..-9.0).contains(&rms_db));
        }
    }
    let most = (studio.now() - from) * 5.0 + 3.0;
    println!("{count} reports, {loud} of them loud, at most {most:.0}");
    assert!(f64::from(count) <= most, "one mix tells: {count} reports");
    assert!(loud >= 5, "{loud} of {count}");
    let costs = studio.mixes.effect_costs();
    assert_eq!(costs.iter().map(|cost| cost.name.as_str()).collect::<Vec<_>>(), ["pitch", "level-meter"]);
    assert!(costs.iter().all(|cost| cost.frames > 50 && cost.cpu_ms_per_frame > 0.0), "{costs:?}");
    let high_at = studio.now() - begin - 0.7;
    studio.show(&shown);
    studio.wait(1.5).await;
    let after = studio.now() - begin - 0.5;
    drop(other.stop().await);
    let content = Content::read(&studio.finalise(&take.stop().await).0);
    let tones = |time: f64| [440.0, 880.0].map(|frequency| content.tone(time, frequency));
    println!("before {:.3?}, with pitch {:.3?}, after {:.3?}", tones(on - 0.4), tones(high_at), tones(after));
    assert!(tones(on - 0.4)[0] > 4.0 * tones(on - 0.4)[1]);
    assert!(tones(high_at)[1] > 4.0 * tones(high_at)[0]);
    assert!(tones(after)[0] > 4.0 * tones(after)[1]);
    let missing = content.duration.as_secs_f64() - content.sound_seconds();
    assert!(missing.abs() < 0.1, "{missing} s of sound are missing");
    tone.end().await;
    studio.close().await;
}

/// `pitch` keeps sound back to work on it: what it holds when it is taken off is in the recording, too, and neither its
/// coming nor its going puts silence in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sound_is_lost_when_effects_that_keep_some_back_come_and_go() {
    /// Seconds without the tone around one change: the last milliseconds of what comes out of `pitch` are quiet.
    const MOST: f64 = 0.018;
    gst::init().unwrap();
    let (mut studio, _told) = studio_of(&Arc::new(Presets::load(None))).await;
    let tone = studio.tone(440.0).await;
    let shown = scene(vec![], &[&tone]);
    let begin = studio.now();
    let mut take = studio.record(&RecordingSpec { video: false, ..Default::default() }, &shown);
    take.started().await;
    studio.wait(1.0).await;
    let pitch = |by: f64| vec![effect("pitch", &[("pitch", Value::Number(by))])];
    let mut changes = Vec::new();
    for _ in 0..2 {
        for chain in [pitch(1.0), vec![], vec![effect("gain", &[])], pitch(1.25), vec![]] {
            changes.push(studio.now() - begin);
            studio.show(&Scene { effects: chain, ..shown.clone() });
            studio.wait(0.5).await;
        }
    }
    studio.wait(0.5).await;
    let content = Content::read(&studio.finalise(&take.stop().await).0);
    let gaps = content.silences();
    println!("changes at {changes:.2?}\nsilent {gaps:.3?}");
    assert!(gaps.iter().all(|(from, to)| to - from <= MOST), "longer than {MOST} s: {gaps:.3?}");
    let missing = content.duration.as_secs_f64() - content.sound_seconds();
    assert!(missing.abs() < 0.1, "{missing} s of sound are missing");
    tone.end().await;
    studio.close().await;
}
