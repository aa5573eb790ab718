//! Effects that tell what they find, and leave picture and sound as they are; and what effects cost.

use std::time::Duration;

use salon::{
    media::{EffectReport, Kind, MediaEvent, gst::effect::Reports},
    room::id::TrackId,
};
use serde_json::json;
use tokio::sync::mpsc;

use super::bench::{Picture, RATE, WIDTH, chain, has, play, play_sound, show};

fn reports() -> (Reports, mpsc::Receiver<MediaEvent>) {
    let (events, received) = mpsc::channel(64);
    (Reports::of_track(&TrackId::random(), &events), received)
}

fn told(received: &mut mpsc::Receiver<MediaEvent>) -> Vec<EffectReport> {
    std::iter::from_fn(|| received.try_recv().ok())
        .map(|event| match event {
            MediaEvent::EffectReported { report, .. } => report,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// A bright square at a place.
fn square(x: usize) -> Picture {
    Picture::paint(|at, y| if (x..x + 120).contains(&at) && (100..220).contains(&y) { [230; 3] } else { [60; 3] })
}

#[test]
fn motion() {
    let still = vec![square(100); 20];
    let (sender, mut received) = reports();
    play(&chain(&[("motion", json!({}))]), &still, Duration::from_millis(100), &sender);
    assert_eq!(told(&mut received), [], "nothing moves");
    // A lamp that goes on changes every pixel, and moves nothing.
    let lamp: Vec<Picture> = (0..20).map(|at| Picture::plain([if at < 10 { 60 } else { 120 }; 3])).collect();
    play(&chain(&[("motion", json!({}))]), &lamp, Duration::from_millis(100), &sender);
    assert_eq!(told(&mut received), [], "it only got brighter");
    let moving: Vec<Picture> =
        (0..40).map(|at| square(if (10..15).contains(&at) { 100 + 40 * (at - 9) } else { 300 })).collect();
    let out = play(&chain(&[("motion", json!({}))]), &moving, Duration::from_millis(100), &sender);
    assert!(out.last().unwrap().difference(&show(&[], &moving[39])) < 0.5, "the picture stays as it is");
    let found = told(&mut received);
    let moves: Vec<bool> =
        found.iter().map(|report| matches!(report, EffectReport::Motion { moving: true, .. })).collect();
    assert_eq!(moves, [true, false], "{found:?}");
    let (sender, mut received) = reports();
    play(&chain(&[("motion", json!({"least": 0.4}))]), &moving, Duration::from_millis(100), &sender);
    assert_eq!(told(&mut received), [], "too little of the picture");
}

/// EAN-13 as bars (ISO/IEC 15420): 95 modules of 0 and 1.
fn ean13(digits: [usize; 13]) -> String {
    const LEFT: [&str; 10] =
        ["0001101", "0011001", "0010011", "0111101", "0100011", "0110001", "0101111", "0111011", "0110111", "0001011"];
    const PARITY: [&str; 10] =
        ["LLLLLL", "LLGLGG", "LLGGLG", "LLGGGL", "LGLLGG", "LGGLLG", "LGGGLL", "LGLGLG", "LGLGGL", "LGGLGL"];
    let right = |digit: usize| LEFT[digit].chars().map(|bit| if bit == '0' { '1' } else { '0' }).collect::<String>();
    let mut bars = "101".to_owned();
    for (digit, parity) in digits[1..7].iter().zip(PARITY[digits[0]].chars()) {
        let mirrored: String = right(*digit).chars().rev().collect();
        bars += if parity == 'L' { LEFT[*digit] } else { &mirrored };
    }
    bars += "01010";
    digits[7..].iter().for_each(|digit| bars += &right(*digit));
    bars + "101"
}

#[test]
fn barcode() {
    if !has("barcode") {
        return;
    }
    let bars = ean13([4, 0, 0, 6, 3, 8, 1, 3, 3, 3, 9, 3, 1]);
    assert_eq!(bars.len(), 95);
    let left = (WIDTH - 95 * 4) / 2;
    let picture = Picture::paint(|x, y| {
        let bar = x.checked_sub(left).and_then(|x| bars.as_bytes().get(x / 4));
        if (80..280).contains(&y) && bar == Some(&b'1') { [10; 3] } else { [245; 3] }
    });
    let (sender, mut received) = reports();
    let shown =
        play(&chain(&[("barcode", json!({}))]), &vec![picture.clone(); 30], Duration::from_millis(100), &sender);
    assert!(shown[0].difference(&show(&[], &picture)) < 0.5, "the picture stays as it is");
    // It is looked at beside the stream, which may be over by then.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let mut found = Vec::new();
    while found.is_empty() && std::time::Instant::now() < deadline {
        found = told(&mut received);
        std::thread::yield_now();
    }
    let expected = EffectReport::Barcode { format: "EAN-13".into(), text: "4006381333931".into() };
    assert_eq!(found, [expected], "once, though it is there in every picture");
}

#[test]
fn level_meter() {
    let (sender, mut received) = reports();
    let tone: Vec<f32> =
        (0..RATE).map(|at| 0.5 * (at as f32 * std::f32::consts::TAU * 440.0 / RATE as f32).sin()).collect();
    let out = play_sound(&chain(&[("level-meter", json!({}))]), &tone, &sender);
    assert!(tone.iter().zip(&out).all(|(a, b)| (a - b).abs() < 1e-3), "the sound stays as it is");
    let found = told(&mut received);
    assert!((4..=6).contains(&found.len()), "five times a second: {found:?}");
    for report in &found[1..] {
        let EffectReport::Level { rms_db, peak_db } = report else { panic!("{report:?}") };
        assert!((rms_db + 9.03).abs() < 0.5 && (peak_db + 6.02).abs() < 0.3, "{report:?}");
    }
}

#[test]
fn what_an_effect_costs_is_measured() {
    let heavy = chain(&[("balance", json!({})), ("tone", json!({}))]);
    let costs = super::bench::costs(&heavy, Kind::Video, &vec![Picture::quarters(); 20]);
    let names: Vec<&str> = costs.iter().map(|cost| cost.name.as_str()).collect();
    assert_eq!(names, ["balance", "tone"]);
    for cost in &costs {
        assert_eq!(cost.frames, 20, "{cost:?}");
        assert!(cost.cpu_ms_per_frame > 0.0 && cost.cpu_ms_per_frame < 100.0, "{cost:?}");
    }
}

#[test]
fn what_looks_at_pictures_beside_the_stream_is_measured_too() {
    if !has("barcode") {
        return;
    }
    let noise = Picture::paint(|x, y| [(x * 7919 + y * 104_729) as u8; 3]);
    let step = Duration::from_millis(100);
    let [barcode, plain] = ["barcode", "balance"].map(|name| {
        let costs = super::bench::costs_live(&chain(&[(name, json!({}))]), &vec![noise.clone(); 12], step);
        costs[0].cpu_ms_per_frame * costs[0].frames as f64
    });
    println!("barcode {barcode:.2} ms, balance {plain:.2} ms");
    // Pictures pass as they are: all that it takes is taken beside them, some milliseconds for each of four looks.
    assert!(barcode > 4.0, "{barcode} ms");
}

/// Chains are exchanged while frames pass, at whatever moment: none of them may miss the format.
#[test]
fn chains_that_are_exchanged_hundreds_of_times_never_stop_the_stream() {
    let count =
        super::bench::exchange(&[&[("blur", json!({})), ("balance", json!({}))], &[("negative", json!({}))], &[]], 300);
    assert!(count > 20, "{count} frames passed");
}
