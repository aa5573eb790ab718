//! Pictures that say when they were taken: bars that spell tenths of a second since the test began.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use gst_video::prelude::*;

use crate::content::Content;

/// White, the number's bits from the highest, its parity, white, black.
const BARS: usize = 16;
const BITS: usize = 12;

/// Tenths of a second since the first call.
pub fn now() -> u32 {
    ago(Duration::ZERO)
}

/// What [`now`] was a while ago.
fn ago(age: Duration) -> u32 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    let since = BEGIN.get_or_init(Instant::now).elapsed().saturating_sub(age);
    (since.as_millis() / 100) as u32 % (1 << BITS)
}

/// How many tenths lie between two moments.
pub fn since(earlier: u32, later: u32) -> u32 {
    later.wrapping_sub(earlier) % (1 << BITS)
}

/// Paints the moment over a picture that was taken `age` ago, I420 of any size. Its timestamp tells that: a source
/// that is held up makes old pictures late.
pub fn paint(buffer: &mut gst::BufferRef, caps: &gst::CapsRef, age: Duration) {
    let info = gst_video::VideoInfo::from_caps(caps).unwrap();
    let mut frame = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, &info).unwrap();
    let (width, stride) = (info.width() as usize, frame.plane_stride()[0] as usize);
    let bars = bars(ago(age));
    for row in frame.plane_data_mut(0).unwrap().chunks_mut(stride) {
        for (column, luma) in row[..width].iter_mut().enumerate() {
            *luma = if bars[column * BARS / width] { 220 } else { 30 };
        }
    }
}

fn bars(number: u32) -> [bool; BARS] {
    std::array::from_fn(|bar| match bar {
        0 => true,
        bar if bar <= BITS => number >> (BITS - bar) & 1 == 1,
        13 => number.count_ones() % 2 == 1,
        14 => true,
        _ => false,
    })
}

/// The moments in a file whose picture is all of one such, each with its time in the file. Frames that show something
/// else are left out.
pub fn read(content: &Content) -> Vec<(f64, u32)> {
    let bar_width = content.width as f64 / BARS as f64;
    let number = |time: f64| {
        let lit: [bool; BARS] = std::array::from_fn(|bar| {
            let left = (bar as f64 + 0.2) * bar_width;
            let region = [left as usize, content.height / 4, (0.6 * bar_width) as usize, content.height / 2];
            content.colour(time, region)[0] > 125.0
        });
        let number = (1..=BITS).fold(0, |number, bar| number << 1 | u32::from(lit[bar]));
        (lit == bars(number)).then_some((time, number))
    };
    content.times().filter_map(number).collect()
}
