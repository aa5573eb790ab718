//! Tells when something begins to move, and when all is still again.

use gst_video::prelude::*;

use super::{Step, no_such, number};
use crate::{
    effect::Value,
    media::{EffectReport, gst::effect::Reports},
};

/// The picture is looked at as so many cells.
const COLUMNS: usize = 40;
const ROWS: usize = 24;
/// Samples of a cell, each way: noise averages out.
const SAMPLES: usize = 4;
/// Between two looks.
const EVERY: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// A cell whose brightness changed by more than this, of 255, has moved.
const CHANGED: i32 = 10;
/// Still for so long: it has ended.
const STILL: gst::ClockTime = gst::ClockTime::from_mseconds(1_500);

/// Any format whose first plane is brightness.
pub(super) struct Motion {
    reports: Reports,
    /// The share of cells that must have moved.
    least: f64,
    before: Option<(gst::ClockTime, Vec<u8>)>,
    /// When something moved last, while it is told to move.
    moved: Option<gst::ClockTime>,
}

impl Motion {
    pub(super) fn new(reports: Reports) -> Self {
        Self { reports, least: 0.02, before: None, moved: None }
    }

    fn look(&mut self, now: gst::ClockTime, cells: Vec<u8>) {
        let Some((_, before)) = self.before.replace((now, cells)) else { return };
        let Some((_, cells)) = &self.before else { return };
        let amount = share_moved(&before, cells);
        if amount >= self.least {
            if self.moved.replace(now).is_none() {
                self.reports.send(EffectReport::Motion { moving: true, amount });
            }
        } else if self.moved.is_some_and(|moved| now.saturating_sub(moved) >= STILL) {
            self.moved = None;
            self.reports.send(EffectReport::Motion { moving: false, amount });
        }
    }
}

impl Step for Motion {
    fn set(&mut self, property: &str, value: &Value) -> Result<(), String> {
        match property {
            "least" => self.least = number(property, value)?,
            _ => return Err(no_such(property)),
        }
        Ok(())
    }

    fn picture(&mut self, buffer: &mut gst::Buffer, format: &gst_video::VideoInfo) {
        let Some(now) = buffer.pts() else { return };
        if self.before.as_ref().is_some_and(|(last, _)| now >= *last && now < *last + EVERY) {
            return;
        }
        let Ok(frame) = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, format) else { return };
        let stride = frame.plane_stride()[0] as usize;
        if let Ok(luma) = frame.plane_data(0) {
            let cells = cells(luma, stride, format.width() as usize, format.height() as usize);
            self.look(now, cells);
        }
    }
}

/// Mean brightness of each cell.
fn cells(luma: &[u8], stride: usize, width: usize, height: usize) -> Vec<u8> {
    let at = |column: usize, row: usize, i: usize, j: usize| {
        let x = ((column * SAMPLES + i) * 2 + 1) * width / (2 * COLUMNS * SAMPLES);
        let y = ((row * SAMPLES + j) * 2 + 1) * height / (2 * ROWS * SAMPLES);
        u32::from(luma.get(y * stride + x).copied().unwrap_or_default())
    };
    let mean = |column, row| {
        let samples = (0..SAMPLES * SAMPLES).map(|n| at(column, row, n % SAMPLES, n / SAMPLES));
        (samples.sum::<u32>() / (SAMPLES * SAMPLES) as u32) as u8
    };
    (0..ROWS)
        .flat_map(|row| (0..COLUMNS).map(move |column| (column, row)))
        .map(|(column, row)| mean(column, row))
        .collect()
}

/// A light that goes on changes every cell by as much, and moves nothing: the mean change is left out.
fn share_moved(before: &[u8], now: &[u8]) -> f64 {
    let changes: Vec<i32> = before.iter().zip(now).map(|(a, b)| i32::from(*b) - i32::from(*a)).collect();
    let count = changes.len().max(1);
    let mean = changes.iter().sum::<i32>() / count as i32;
    changes.iter().filter(|change| (**change - mean).abs() > CHANGED).count() as f64 / count as f64
}
