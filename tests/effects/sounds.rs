//! Effects on sound.

use serde_json::json;

use super::bench::{RATE, sound};

fn tone(frequency: f64, amplitude: f64, seconds: f64) -> Vec<f32> {
    let samples = (seconds * RATE as f64) as usize;
    let turn = 2.0 * std::f64::consts::PI * frequency / RATE as f64;
    (0..samples).map(|at| ((at as f64 * turn).sin() * amplitude) as f32).collect()
}

/// The same each time: a linear congruential generator.
fn noise(amplitude: f32, seconds: f64) -> Vec<f32> {
    let mut state = 1u32;
    let samples = (seconds * RATE as f64) as usize;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..samples).map(|_| next() * amplitude).collect()
}

fn loudness_db(samples: &[f32]) -> f64 {
    let mean = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / samples.len() as f64;
    10.0 * mean.max(1e-12).log10()
}

/// Strength of a frequency, as an amplitude.
fn strength(samples: &[f32], frequency: f64) -> f64 {
    let turn = 2.0 * std::f64::consts::PI * frequency / RATE as f64;
    let (mut sine, mut cosine) = (0.0, 0.0);
    for (at, sample) in samples.iter().enumerate() {
        let (s, c) = (at as f64 * turn).sin_cos();
        sine += s * f64::from(*sample);
        cosine += c * f64::from(*sample);
    }
    2.0 * sine.hypot(cosine) / samples.len() as f64
}

/// The last part, when filters have settled.
fn settled(samples: &[f32]) -> &[f32] {
    &samples[samples.len() - samples.len() / 3..]
}

fn db(ratio: f64) -> f64 {
    20.0 * ratio.log10()
}

#[test]
fn without_effects_nothing_changes() {
    let before = tone(440.0, 0.3, 0.5);
    let after = sound(&[], &before);
    assert_eq!(after.len(), before.len());
    let worst = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-3, "{worst}");
}

#[test]
fn gain() {
    let before = tone(440.0, 0.1, 0.5);
    for (gain, expected) in [(-20.0, -20.0), (12.0, 12.0), (0.0, 0.0)] {
        let after = sound(&[("gain", json!({"gain": gain}))], &before);
        let changed = loudness_db(settled(&after)) - loudness_db(&before);
        assert!((changed - expected).abs() < 0.3, "{gain} dB: {changed:.2}");
    }
}

#[test]
fn high_pass() {
    let mixed: Vec<f32> = tone(80.0, 0.2, 1.0).iter().zip(tone(3000.0, 0.2, 1.0)).map(|(a, b)| a + b).collect();
    let after = sound(&[("high-pass", json!({"cutoff": 500}))], &mixed);
    let (low, high) = (strength(settled(&after), 80.0), strength(settled(&after), 3000.0));
    assert!(db(low / 0.2) < -30.0, "rumble: {:.1} dB", db(low / 0.2));
    assert!(db(high / 0.2).abs() < 1.5, "speech: {:.1} dB", db(high / 0.2));
}

#[test]
fn compressor() {
    let changed = |amplitude: f64| {
        let before = tone(440.0, amplitude, 0.5);
        let after = sound(&[("compressor", json!({"threshold": -20, "ratio": 0.2}))], &before);
        loudness_db(settled(&after)) - loudness_db(&before)
    };
    let (loud, quiet) = (changed(0.9), changed(0.02));
    assert!(loud < -4.0, "what is loud gets quieter: {loud:.1} dB");
    assert!(quiet.abs() < 0.5, "what is quiet stays: {quiet:.1} dB");
}

#[test]
fn pitch() {
    let before = tone(440.0, 0.3, 2.0);
    for (pitch, expected) in [(1.5, 660.0), (0.5, 220.0)] {
        let after = sound(&[("pitch", json!({"pitch": pitch}))], &before);
        let after = &after[after.len() / 2..after.len() / 2 + RATE / 2];
        // Within a few hertz: blocks are joined, so the line is a little wide.
        let around = |middle: f64| (-8..=8).map(|off| strength(after, middle + f64::from(off))).fold(0.0, f64::max);
        assert!(around(expected) > 5.0 * around(440.0), "{pitch}: {} {}", around(expected), around(440.0));
    }
}

#[test]
fn echo() {
    let mut before = vec![0.0; RATE];
    before[4_800..5_760].copy_from_slice(&tone(1000.0, 0.5, 0.02));
    let after = sound(&[("echo", json!({"delay": 200, "intensity": 0.5, "feedback": 0.5}))], &before);
    let at = |ms: usize| strength(&after[ms * 48..ms * 48 + 960], 1000.0);
    assert!((at(100) - 0.5).abs() < 0.05, "the sound itself: {}", at(100));
    assert!((at(300) - 0.25).abs() < 0.05, "200 ms later: {}", at(300));
    assert!(at(500) > 0.05, "and again: {}", at(500));
    assert!(at(200) < 0.01 && at(400) < 0.01, "nothing between");
}

#[test]
fn robot() {
    let before = noise(0.1, 2.0);
    let combed = |samples: &[f32], base: f64| {
        let sum = |offset: f64| (5..20).map(|n| strength(samples, base * (f64::from(n) + offset)).powi(2)).sum::<f64>();
        sum(0.0) / sum(0.5)
    };
    assert!(combed(settled(&before), 100.0) < 3.0, "noise has no teeth");
    for (name, base) in [("100", 100.0), ("200", 200.0)] {
        let after = sound(&[("robot", json!({"frequency": name}))], &before);
        let teeth = combed(settled(&after), base);
        assert!(teeth > 10.0, "{name}: {teeth:.1} times as strong at its multiples");
    }
}

#[test]
fn noise_suppression() {
    let before = noise(0.05, 4.0);
    let after = sound(&[("noise-suppression", json!({"strength": "high"}))], &before);
    let control = sound(&[], &before);
    let quieter = loudness_db(settled(&control)) - loudness_db(settled(&after));
    assert!(quieter > 10.0, "hiss is {quieter:.1} dB quieter");
}

#[test]
fn gstreamer_audio() {
    let before = tone(440.0, 0.4, 0.5);
    let half = sound(&[("gstreamer-audio", json!({"line": "volume volume=0.5"}))], &before);
    assert!((db(strength(settled(&half), 440.0) / 0.4) + 6.0).abs() < 0.5);
}
