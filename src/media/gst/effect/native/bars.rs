//! A test pattern in the picture's place.

use gst_video::prelude::*;

use super::{Step, no_such};
use crate::{effect::Value, media::colour::Colour};

/// Colours from the left (those of SMPTE ECR 1-1978, at 75 %).
const BARS: [Colour; 7] = [
    colour(0xbf, 0xbf, 0xbf),
    colour(0xbf, 0xbf, 0x00),
    colour(0x00, 0xbf, 0xbf),
    colour(0x00, 0xbf, 0x00),
    colour(0xbf, 0x00, 0xbf),
    colour(0xbf, 0x00, 0x00),
    colour(0x00, 0x00, 0xbf),
];

/// I420: seven bars of one width.
pub(super) struct Bars;

impl Step for Bars {
    fn set(&mut self, property: &str, _value: &Value) -> Result<(), String> {
        Err(no_such(property))
    }

    fn picture(&mut self, buffer: &mut gst::Buffer, format: &gst_video::VideoInfo) {
        if let Ok(mut frame) = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer.make_mut(), format) {
            bars(&mut frame);
        }
    }
}

const fn colour(red: u8, green: u8, blue: u8) -> Colour {
    Colour { red, green, blue }
}

fn bars(frame: &mut gst_video::VideoFrameRef<&mut gst::BufferRef>) {
    if frame.format() != gst_video::VideoFormat::I420 {
        return;
    }
    for plane in 0..3u32 {
        let width = if plane == 0 { frame.width() } else { frame.width().div_ceil(2) } as usize;
        let stride = frame.plane_stride()[plane as usize] as usize;
        let colours = BARS.map(|bar| bar.yuv()[plane as usize]);
        let line: Vec<u8> = (0..width).map(|at| colours[at * colours.len() / width]).collect();
        let Ok(data) = frame.plane_data_mut(plane) else { return };
        for row in data.chunks_mut(stride).filter(|row| row.len() >= width) {
            row[..width].copy_from_slice(&line);
        }
    }
}
