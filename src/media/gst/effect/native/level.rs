//! Tells how loud it is, a few times a second.

use super::{Step, no_such};
use crate::{
    effect::Value,
    media::{EffectReport, gst::effect::Reports},
};

/// Between two reports.
const EVERY: gst::ClockTime = gst::ClockTime::from_mseconds(200);
/// Quieter is silence, in decibels of full scale.
const FLOOR_DB: f64 = -100.0;

/// S16.
pub(super) struct Level {
    reports: Reports,
    told: Option<gst::ClockTime>,
    squares: f64,
    samples: u64,
    peak: u16,
}

impl Level {
    pub(super) fn new(reports: Reports) -> Self {
        Self { reports, told: None, squares: 0.0, samples: 0, peak: 0 }
    }

    fn measure(&mut self, bytes: &[u8]) {
        for sample in bytes.as_chunks::<2>().0 {
            let value = i16::from_le_bytes(*sample);
            self.squares += f64::from(value) * f64::from(value);
            self.peak = self.peak.max(value.unsigned_abs());
        }
        self.samples += bytes.len() as u64 / 2;
    }

    fn report(&mut self) {
        let db = |amplitude: f64| (20.0 * (amplitude / 32_768.0).log10()).clamp(FLOOR_DB, 0.0);
        let rms = (self.squares / self.samples.max(1) as f64).sqrt();
        self.reports.send(EffectReport::Level { rms_db: db(rms), peak_db: db(f64::from(self.peak)) });
        (self.squares, self.samples, self.peak) = (0.0, 0, 0);
    }
}

impl Step for Level {
    fn set(&mut self, property: &str, _value: &Value) -> Result<(), String> {
        Err(no_such(property))
    }

    fn sound(&mut self, buffer: &mut gst::Buffer, _format: &gst_audio::AudioInfo) {
        if let Ok(bytes) = buffer.map_readable() {
            self.measure(&bytes);
        }
        let Some(now) = buffer.pts() else { return };
        let told = *self.told.get_or_insert(now);
        if now < told || now >= told + EVERY {
            self.told = Some(now);
            self.report();
        }
    }
}
