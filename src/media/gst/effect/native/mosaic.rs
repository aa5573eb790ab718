//! Makes a part of a picture unrecognisable: few cells of one brightness and colour each, as they are or
//! smoothed.

use gst_video::prelude::*;

use super::glide::Face;

/// Cells across a face: a person is not known by them.
const CELLS: usize = 7;
/// What is hidden is larger than what is seen of a face: hair and chin belong to it.
const WIDER: f64 = 1.25;
const HIGHER: f64 = 1.45;

/// I420; `face` in shares of the frame's sides.
pub(super) fn hide(frame: &mut gst_video::VideoFrameRef<&mut gst::BufferRef>, face: &Face, blocks: bool) {
    if frame.format() != gst_video::VideoFormat::I420 {
        return;
    }
    for plane in 0..3u32 {
        let half = if plane == 0 { 1 } else { 2 };
        let (width, height) = (frame.width().div_ceil(half) as usize, frame.height().div_ceil(half) as usize);
        let stride = frame.plane_stride()[plane as usize] as usize;
        let (x, columns) = side(face.x, face.width * WIDER, width);
        let (y, rows) = side(face.y, face.height * HIGHER, height);
        if columns == 0 || rows == 0 {
            continue;
        }
        let Ok(data) = frame.plane_data_mut(plane) else { return };
        let mut part = Part { data, stride, x, y, columns, rows };
        part.hide((face.width * width as f64 / CELLS as f64).round().max(2.0) as usize, blocks);
    }
}

/// First pixel and how many, within the picture.
fn side(middle: f64, share: f64, pixels: usize) -> (usize, usize) {
    let length = pixels as f64;
    let from = ((middle - share / 2.0) * length).clamp(0.0, length) as usize;
    let to = ((middle + share / 2.0) * length).clamp(0.0, length) as usize;
    (from, to.saturating_sub(from))
}

struct Part<'a> {
    data: &'a mut [u8],
    stride: usize,
    x: usize,
    y: usize,
    columns: usize,
    rows: usize,
}

impl Part<'_> {
    fn hide(&mut self, cell: usize, blocks: bool) {
        let (wide, high) = (self.columns.div_ceil(cell), self.rows.div_ceil(cell));
        let means: Vec<u32> = (0..wide * high).map(|at| self.mean(at % wide, at / wide, cell)).collect();
        let across: Vec<_> = (0..self.columns).map(|column| between(column, cell, wide)).collect();
        for row in 0..self.rows {
            let start = (self.y + row) * self.stride + self.x;
            let Some(line) = self.data.get_mut(start..start + self.columns) else { return };
            if blocks {
                let means = &means[row / cell * wide..];
                line.chunks_mut(cell).zip(means).for_each(|(pixels, mean)| pixels.fill(*mean as u8));
                continue;
            }
            let (top, bottom, y) = between(row, cell, high);
            let mix = |column: usize| means[top * wide + column] * (256 - y) + means[bottom * wide + column] * y;
            let cells: Vec<u32> = (0..wide).map(mix).collect();
            for (pixel, (left, right, x)) in line.iter_mut().zip(&across) {
                *pixel = ((cells[*left] * (256 - x) + cells[*right] * x) / 65_536) as u8;
            }
        }
    }

    fn mean(&self, column: usize, row: usize, cell: usize) -> u32 {
        let (left, top) = (column * cell, row * cell);
        let (right, bottom) = ((left + cell).min(self.columns), (top + cell).min(self.rows));
        let mut sum = 0u32;
        for y in top..bottom {
            let start = (self.y + y) * self.stride + self.x;
            sum += self
                .data
                .get(start + left..start + right)
                .unwrap_or_default()
                .iter()
                .map(|v| u32::from(*v))
                .sum::<u32>();
        }
        sum / ((right - left) * (bottom - top)).max(1) as u32
    }
}

/// The cells between whose middles a pixel lies, and how far it is on its way to the second, in steps of 1/256.
fn between(at: usize, cell: usize, count: usize) -> (usize, usize, u32) {
    let place = (256 * at / cell).saturating_sub(128).min(256 * (count - 1));
    (place / 256, (place / 256 + 1).min(count - 1), (place % 256) as u32)
}
