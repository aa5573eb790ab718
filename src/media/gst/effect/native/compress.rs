//! A compressor: what is loud gets quieter, by its envelope and not by its waves, so that a tone stays one.

use super::{Step, no_such, number};
use crate::effect::Value;

/// The gain follows a sound that gets louder within this, in seconds.
const ATTACK_S: f64 = 0.005;
/// And one that gets quieter within this.
const RELEASE_S: f64 = 0.15;

/// F32, interleaved.
pub(super) struct Compressor {
    threshold_db: f64,
    /// What is left of each decibel above the threshold.
    ratio: f64,
    envelope: f64,
}

impl Compressor {
    pub(super) fn new() -> Self {
        Self { threshold_db: 0.0, ratio: 1.0, envelope: 0.0 }
    }

    fn gain(&self) -> f64 {
        let over_db = 20.0 * self.envelope.max(1e-9).log10() - self.threshold_db;
        if over_db <= 0.0 { 1.0 } else { 10f64.powf(over_db * (self.ratio - 1.0) / 20.0) }
    }

    fn work(&mut self, bytes: &mut [u8], channels: usize, rate: f64) {
        let [attack, release] = [ATTACK_S, RELEASE_S].map(|seconds| 1.0 - (-1.0 / (seconds * rate)).exp());
        for moment in bytes.chunks_exact_mut(4 * channels) {
            let samples = moment.as_chunks_mut::<4>().0;
            let loudest = samples.iter().map(|sample| f64::from(f32::from_le_bytes(*sample)).abs()).fold(0.0, f64::max);
            let speed = if loudest > self.envelope { attack } else { release };
            self.envelope += (loudest - self.envelope) * speed;
            let gain = self.gain() as f32;
            for sample in samples {
                *sample = (f32::from_le_bytes(*sample) * gain).to_le_bytes();
            }
        }
    }
}

impl Step for Compressor {
    fn set(&mut self, property: &str, value: &Value) -> Result<(), String> {
        match property {
            "threshold" => self.threshold_db = number(property, value)?,
            "ratio" => self.ratio = number(property, value)?,
            _ => return Err(no_such(property)),
        }
        Ok(())
    }

    fn sound(&mut self, buffer: &mut gst::Buffer, format: &gst_audio::AudioInfo) {
        if let Ok(mut bytes) = buffer.make_mut().map_writable() {
            self.work(&mut bytes, format.channels() as usize, f64::from(format.rate()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loud_tone_gets_quieter_and_stays_a_tone() {
        let mut compressor = Compressor { threshold_db: -20.0, ratio: 0.25, envelope: 0.0 };
        let tone = |amplitude: f64| -> Vec<u8> {
            let turn = std::f64::consts::TAU * 1_000.0 / 48_000.0;
            (0..48_000).flat_map(|at| ((f64::from(at) * turn).sin() as f32 * amplitude as f32).to_le_bytes()).collect()
        };
        let mut loudest = |amplitude: f64| {
            let mut bytes = tone(amplitude);
            compressor.work(&mut bytes, 1, 48_000.0);
            let tail = &bytes[96_000..];
            tail.as_chunks::<4>().0.iter().map(|sample| f32::from_le_bytes(*sample).abs()).fold(0.0, f32::max)
        };
        let (loud, soft) = (loudest(1.0), loudest(0.05));
        // 20 dB above the threshold become 5.
        assert!((20.0 * loud.log10() + 15.0).abs() < 1.5, "{loud}");
        assert!((soft - 0.05).abs() < 0.002, "what is below stays: {soft}");
    }
}
