//! Effects on tracks while people watch: what viewers and recordings see, and when.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests too")]

mod common;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use common::{
    client::{BLUE, Client, Colour, Conditions, GREEN, RED, Sends},
    hall::{Attendee, Hall},
    soon,
    usage::{Usage, settles_within},
};
use gst::prelude::*;
use salon::{
    effect::{Applied, Picture, Value},
    media::{
        CodecName, EdgeChoice, EffectReport, MediaError, MediaEvent,
        gst::{counters, effect::live_chains, live_pipelines},
    },
    room::id::TrackId,
};

/// An effect with defaults where nothing else is said.
fn effect(name: &str, params: &[(&str, Value)]) -> Applied {
    let params: BTreeMap<String, Value> =
        params.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Applied { name: name.to_owned(), params }
}

fn colour(rgb: Colour) -> Value {
    Value::Text(format!("#{rgb:06x}"))
}

/// Makes what is red blue.
fn red_to(behind: Colour) -> Applied {
    effect("chroma-key", &[("key", colour(RED)), ("behind", colour(behind)), ("tolerance", Value::Number(40.0))])
}

fn put(hall: &Hall, track: &TrackId, chain: &[Applied]) {
    hall.room(|room| room.set_effects(track, chain.to_vec()));
}

async fn sees(viewer: &Attendee, wanted: Colour) {
    let from = viewer.client.seen().frames;
    viewer.client.until(&format!("seeing {wanted:06x}"), |seen| seen.is(wanted) && seen.frames > from + 5).await;
}

async fn comes_and_goes(codec: CodecName) {
    let hall = Hall::open();
    let alice = hall.publish(Sends::both(codec, RED, 440)).await;
    let viewer = hall.watch(&alice.tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    let mut events = hall.events();
    let (video, audio) = (&alice.tracks[0], &alice.tracks[1]);

    // Requests are merged for a third of a second: the viewer's own is over by then.
    let from = viewer.client.seen().frames;
    viewer.client.until("a quiet second", |seen| seen.frames > from + 25).await;
    let before = counters();
    let asked = Instant::now();
    put(&hall, video, &[red_to(BLUE)]);
    viewer.client.until("the effect", |seen| seen.is(BLUE)).await;
    println!("{codec:?}: from asking to seeing the effect {:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_millis(2_000), "{:?}", asked.elapsed());
    sees(&viewer, BLUE).await;
    let requests = counters().keyframe_requests - before.keyframe_requests;
    assert!(requests <= 1, "{requests} keyframes were asked for");
    assert!(viewer.client.seen().hears(440), "the sound is as it was: {:?}", viewer.client.seen());

    // One effect for another: the encoder runs on, and nobody is asked for anything.
    let (before, asked) = (counters(), Instant::now());
    put(&hall, video, &[red_to(0x10_B0_10)]);
    viewer.client.until("the other effect", |seen| seen.is(0x10_B0_10)).await;
    println!("{codec:?}: one for another in {:?}", asked.elapsed());
    put(&hall, video, &[red_to(BLUE), effect("mirror", &[])]);
    sees(&viewer, BLUE).await;
    assert_eq!(counters().keyframe_requests, before.keyframe_requests, "a keyframe was asked for");

    put(&hall, audio, &[effect("pitch", &[("pitch", Value::Number(2.0))])]);
    viewer.client.until("a higher voice", |seen| seen.hears(880)).await;
    sees(&viewer, BLUE).await;

    // Who comes now has it at once.
    let late = hall.watch(&alice.tracks).await;
    late.client.sees_and_hears(BLUE, 880).await;

    let asked = Instant::now();
    put(&hall, video, &[]);
    put(&hall, audio, &[]);
    viewer.client.until("the picture as it was", |seen| seen.is(RED)).await;
    println!("{codec:?}: off in {:?}", asked.elapsed());
    viewer.client.sees_and_hears(RED, 440).await;
    late.client.sees_and_hears(RED, 440).await;
    let offers = events.so_far().into_iter().filter(|event| matches!(event, MediaEvent::Offered { .. })).count();
    assert_eq!(offers, 1, "only who came late was offered anything");
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_come_and_go_in_vp8_without_a_new_offer() {
    comes_and_goes(CodecName::Vp8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_come_and_go_in_h264_without_a_new_offer() {
    comes_and_goes(CodecName::H264).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_come_and_go_in_vp9_without_a_new_offer() {
    comes_and_goes(CodecName::Vp9).await;
}

/// Beside those who see the effects, others have the track as it is published, and notice nothing.
async fn some_have_it_clean(edge: EdgeChoice) {
    let hall = Hall::open_with(edge);
    let alice = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    let (viewer, clean) = (hall.watch(&alice.tracks).await, hall.watch_clean(&alice.tracks).await);
    viewer.client.sees_and_hears(RED, 440).await;
    clean.client.sees_and_hears(RED, 440).await;
    let (video, audio) = (&alice.tracks[0], &alice.tracks[1]);
    put(&hall, video, &[red_to(BLUE)]);
    put(&hall, audio, &[effect("pitch", &[("pitch", Value::Number(2.0))])]);
    viewer.client.sees_and_hears(BLUE, 880).await;
    clean.client.sees_and_hears(RED, 440).await;
    // Who comes now has what he asked for.
    let (late, late_clean) = (hall.watch(&alice.tracks).await, hall.watch_clean(&alice.tracks).await);
    late_clean.client.sees_and_hears(RED, 440).await;
    let codecs = [CodecName::Vp8, CodecName::Opus];
    let offered: Vec<_> = alice.tracks.iter().cloned().zip(codecs).collect();
    let (player, clean_player) = (hall.watch_with_offer(&offered).await, hall.watch_clean_with_offer(&offered).await);
    player.client.sees_and_hears(BLUE, 880).await;
    clean_player.client.sees_and_hears(RED, 440).await;
    hall.leave(player).await;
    hall.leave(clean_player).await;
    late.client.sees_and_hears(BLUE, 880).await;
    for chain in [vec![effect("mirror", &[]), red_to(BLUE)], vec![red_to(0x10_B0_10)]] {
        put(&hall, video, &chain);
        sees(&clean, RED).await;
    }
    sees(&viewer, 0x10_B0_10).await;
    // Only those are left who see none: and still have their picture.
    hall.leave(viewer).await;
    hall.leave(late).await;
    sees(&clean, RED).await;
    put(&hall, video, &[]);
    sees(&late_clean, RED).await;
    clean.client.sees_and_hears(RED, 440).await;
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_it_has_the_track_as_it_is_published() {
    some_have_it_clean(EdgeChoice::Auto).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_it_has_the_track_as_it_is_published_through_a_pipeline_of_his_own() {
    some_have_it_clean(EdgeChoice::Webrtcbin).await;
}

type Preview = tokio::sync::oneshot::Receiver<Result<bytes::Bytes, MediaError>>;

/// A turn that was taken is given back a moment after its answer.
async fn preview(hall: &Hall, track: &TrackId, chain: Vec<Applied>) -> Preview {
    let mut made = None;
    let turn = async {
        while made.is_none() {
            made = hall.room(|room| room.preview(track, chain.clone()));
            tokio::task::yield_now().await;
        }
    };
    soon("a turn", turn).await;
    made.unwrap()
}

/// Mean colour of a preview of a track of the hall.
async fn previewed(hall: &Hall, track: &TrackId, chain: Vec<Applied>) -> [u64; 3] {
    let jpeg = soon("a preview", preview(hall, track, chain).await).await.unwrap().unwrap();
    let picture = Picture::decode(&jpeg).unwrap();
    assert!(picture.width.max(picture.height) <= 256, "{picture:?}");
    let pixels = picture.rgba.len() as u64 / 4;
    [0, 1, 2].map(|at| picture.rgba.chunks(4).map(|pixel| u64::from(pixel[at])).sum::<u64>() / pixels)
}

#[track_caller]
fn is_about(found: [u64; 3], wanted: Colour) {
    let wanted = [wanted >> 16, wanted >> 8, wanted].map(|value| u64::from(value & 0xff));
    assert!(found.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) < 24), "{found:?}, and not {wanted:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_is_previewed_on_a_track_that_nobody_notices() {
    let hall = Hall::open();
    let alice = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    let viewer = hall.watch(&alice.tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    let (video, before) = (&alice.tracks[0], counters());
    is_about(previewed(&hall, video, vec![red_to(BLUE)]).await, BLUE);
    let [red, green, blue] = previewed(&hall, video, vec![effect("greyscale", &[])]).await;
    assert!(red.abs_diff(green) < 8 && green.abs_diff(blue) < 8, "grey: {red} {green} {blue}");
    is_about(previewed(&hall, video, vec![effect("face-blur", &[])]).await, RED);
    let requests = counters().keyframe_requests - before.keyframe_requests;
    assert!(requests <= 1, "one decoder serves all, which asks once, and not {requests} times");
    assert!(viewer.client.seen().is(RED), "the track is as it was");
    // On what the track has already, and one at a time.
    put(&hall, video, &[red_to(BLUE)]);
    viewer.client.until("the effect", |seen| seen.is(BLUE)).await;
    let shown = async { while previewed(&hall, video, vec![effect("mirror", &[])]).await[2] < 150 {} };
    soon("a preview of what the track has", shown).await;
    let made = preview(&hall, video, vec![effect("face-blur", &[])]).await;
    assert!(hall.room(|room| room.preview(video, vec![effect("mirror", &[])])).is_none(), "one at a time");
    assert!(hall.room(|room| room.preview(&TrackId::random(), vec![])).is_none());
    made.await.unwrap().unwrap();
    let failed = preview(&hall, video, vec![effect("nothing", &[])]).await;
    assert!(failed.await.unwrap().is_err(), "what is not there is an error, and no picture");
    hall.shut().await;
}

/// A QR code on white, painted over every picture (I420, 320×240).
fn paint_code(bin: &gst::Bin, text: &str) {
    const SCALE: usize = 6;
    let code = qrcodegen::QrCode::encode_text(text, qrcodegen::QrCodeEcc::Medium).unwrap();
    let side = code.size() as usize;
    let (left, top) = ((320 - side * SCALE) / 2, (240 - side * SCALE) / 2);
    let module = move |at: usize, from: usize| at.checked_sub(from).map_or(-1, |at| (at / SCALE) as i32);
    let luma = move |x: usize, y: usize| if code.get_module(module(x, left), module(y, top)) { 16 } else { 235 };
    let luma: Vec<u8> = (0..240).flat_map(|y| (0..320).map(move |x| (x, y))).map(|(x, y)| luma(x, y)).collect();
    let pad = bin.by_name("picture").unwrap().static_pad("src").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let mut picture = info.buffer_mut().unwrap().make_mut().map_writable().unwrap();
        picture[..luma.len()].copy_from_slice(&luma);
        picture[luma.len()..].fill(128);
        gst::PadProbeReturn::Ok
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qr_code_in_a_published_picture_is_told() {
    const TEXT: &str = "https://example.org/?a=<b>&c";
    let hall = Hall::open();
    let mut events = hall.events();
    let launch = format!(
        "{}videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=25/1 ! identity name=picture ! \
         {} ! webrtc. ",
        Client::WEBRTC,
        Client::encoder(CodecName::Vp8)
    );
    let alice = Client::of(launch, Conditions::default(), |bin| paint_code(bin, TEXT)).await;
    let alice = hall.publish_client(alice).await;
    put(&hall, &alice.tracks[0], &[effect("barcode", &[])]);
    let told = events.until("word of a code", |event| matches!(event, MediaEvent::EffectReported { .. })).await;
    let report = EffectReport::Barcode { format: "QR-Code".into(), text: TEXT.into() };
    assert_eq!(told, MediaEvent::EffectReported { track: Some(alice.tracks[0].clone()), report });
    hall.shut().await;
}

/// Every stretch of time without a new frame, from a count that is read often.
async fn longest_freeze(viewer: &Attendee, work: impl Future<Output = ()>) -> Duration {
    let client = viewer.client.clone();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let watcher = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        let (mut frames, mut since, mut longest) = (client.seen().frames, Instant::now(), Duration::ZERO);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = &mut stopped => return longest,
            }
            let now = client.seen().frames;
            if now != frames {
                (frames, since) = (now, Instant::now());
            }
            longest = longest.max(since.elapsed());
        }
    });
    work.await;
    let _ = stop.send(());
    watcher.await.unwrap()
}

/// How often effects are changed: `SALON_SWITCHES`, for the long run.
fn switches() -> usize {
    std::env::var("SALON_SWITCHES").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

/// Memory of this process, in KiB.
fn memory_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Changes the effects so many times, one change each 50 ms.
async fn switch(hall: &Hall, track: &TrackId, chains: &[Vec<Applied>], times: usize) {
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    for switch in 0..times {
        ticks.tick().await;
        put(hall, track, &chains[switch % chains.len()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changing_effects_again_and_again_freezes_nobody_and_leaves_nothing() {
    let hall = Hall::open();
    let alice = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    let viewer = hall.watch(&alice.tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    let video = alice.tracks[0].clone();
    let before = (live_pipelines(), live_chains());
    let chains = [
        vec![red_to(BLUE)],
        vec![red_to(BLUE), effect("text", &[("text", Value::Text("Salon".into()))])],
        vec![effect("mirror", &[]), red_to(BLUE)],
        vec![effect("blur", &[]), red_to(BLUE), effect("tone", &[])],
    ];
    put(&hall, &video, &chains[0]);
    sees(&viewer, BLUE).await;
    // Others watch too: with the effects, and the track as it is published.
    let (other, clean) = (hall.watch(&alice.tracks).await, hall.watch_clean(&alice.tracks).await);
    sees(&other, BLUE).await;
    sees(&clean, RED).await;
    // Pools, caches and plugins that are loaded once are there after some rounds.
    switch(&hall, &video, &chains, 4 * chains.len()).await;
    let (usage, memory, began) = (Usage::now(), memory_kib(), Instant::now());
    let work = async {
        switch(&hall, &video, &chains, switches()).await;
        put(&hall, &video, &chains[0]);
        sees(&viewer, BLUE).await;
    };
    // What a busy machine does to whoever watches is seen on who watches the track as it is published.
    let mut longest = [Duration::ZERO; 3];
    let [of_viewer, of_other, of_clean] = &mut longest;
    let work = async { *of_clean = longest_freeze(&clean, work).await };
    let work = async { *of_other = longest_freeze(&other, work).await };
    *of_viewer = longest_freeze(&viewer, work).await;
    let grown_kib = memory_kib().saturating_sub(memory);
    println!(
        "{} changes in {:?}; the longest stretches without a frame: {longest:?}; memory grew by {grown_kib} KiB",
        switches(),
        began.elapsed()
    );
    let limit = Duration::from_millis(300).max(2 * longest[2]);
    assert!(longest.iter().all(|longest| *longest < limit), "{longest:?}");
    println!("{usage:?} → {:?}, {} chains", Usage::now(), live_chains());
    // Threads of the runtime come and go.
    let limit = Usage { threads: usage.threads + 4, descriptors: usage.descriptors + 4, ..usage };
    assert_eq!(settles_within(limit).await, Ok(()), "before: {usage:?}");
    assert_eq!(live_chains(), before.1 + 1, "the one that is on");
    // A frame of 320×240 that is lost at each change would be 115 KiB.
    assert!(grown_kib < 8_192 + 16 * switches(), "{grown_kib} KiB");
    sees(&clean, RED).await;

    // One chain for another. The best of some is the change itself, whatever else the machine does meanwhile.
    let mut best = Duration::MAX;
    for chain in [vec![effect("mirror", &[]), red_to(GREEN)], vec![red_to(BLUE)]].iter().cycle().take(6) {
        let colour = if chain.len() == 1 { BLUE } else { GREEN };
        let asked = Instant::now();
        put(&hall, &video, chain);
        viewer.client.until(&format!("seeing {colour:06x}"), |seen| seen.is(colour)).await;
        best = best.min(asked.elapsed());
    }
    println!("from asking for another chain to seeing it: {best:?}");
    assert!(best < Duration::from_millis(200), "{best:?}");

    // On and off, which is another encoder each time.
    for _ in 0..4 {
        put(&hall, &video, &[]);
        sees(&viewer, RED).await;
        put(&hall, &video, &chains[0]);
        sees(&viewer, BLUE).await;
    }
    put(&hall, &video, &[]);
    sees(&viewer, RED).await;
    hall.leave(other).await;
    hall.leave(clean).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    soon("the end of the effects' pipelines", async {
        while live_pipelines() > before.0 || live_chains() > before.1 {
            ticks.tick().await;
        }
    })
    .await;
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_end_with_their_track_and_with_the_room() {
    let hall = Hall::open();
    let before = live_pipelines();
    let alice = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    let viewer = hall.watch(&alice.tracks).await;
    put(&hall, &alice.tracks[0], &[red_to(BLUE)]);
    sees(&viewer, BLUE).await;
    hall.leave(alice).await;
    hall.leave(viewer).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    soon("the end of all pipelines", async {
        while live_pipelines() > before {
            ticks.tick().await;
        }
    })
    .await;
    let bob = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    put(&hall, &bob.tracks[0], &[red_to(BLUE)]);
    let viewer = hall.watch(&bob.tracks).await;
    sees(&viewer, BLUE).await;
    hall.shut().await;
    soon("the end of all pipelines", async {
        while live_pipelines() > before {
            ticks.tick().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_that_cannot_be_is_told_and_the_track_stays_as_it_was() {
    let hall = Hall::open();
    let mut events = hall.events();
    let alice = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    let viewer = hall.watch(&alice.tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    put(&hall, &alice.tracks[0], &[effect("no-such-effect", &[])]);
    let failed =
        |event: &MediaEvent| matches!(event, MediaEvent::EffectsFailed { track, .. } if *track == alice.tracks[0]);
    events.until("word of it", failed).await;
    viewer.client.sees_and_hears(RED, 440).await;
    put(&hall, &alice.tracks[0], &[red_to(BLUE)]);
    sees(&viewer, BLUE).await;
    put(&hall, &alice.tracks[0], &[effect("no-such-effect", &[])]);
    events.until("word of it", failed).await;
    sees(&viewer, RED).await;
    hall.shut().await;
}

/// Whatever the last ones are doing at that moment: they may be about to end, to fail, or to be told as failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_that_are_wanted_while_the_last_ones_end_or_fail_are_made_after_all() {
    let hall = Hall::open();
    let alice = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    let viewer = hall.watch(&alice.tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    let (track, chains) = (&alice.tracks[0], live_chains());
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    for (round, last) in [vec![effect("no-such-effect", &[])], vec![]].iter().cycle().take(8).enumerate() {
        put(&hall, track, last);
        // So much later, in milliseconds.
        for _ in 0..round {
            ticks.tick().await;
        }
        let colour = if round % 4 < 2 { BLUE } else { GREEN };
        put(&hall, track, &[red_to(colour)]);
        sees(&viewer, colour).await;
    }
    assert_eq!(live_chains(), chains + 1, "the last one, once");
    hall.shut().await;
}
