//! Lays a picture with transparency over what is behind it: a colour, or a picture.

use gst_video::prelude::*;

use super::{Album, Step, canvas::Ground, no_such, picture};
use crate::{effect::Value, media::colour::Colour};

/// AYUV.
pub(super) struct Flatten {
    album: Album,
    ground: Ground,
}

impl Flatten {
    pub(super) fn new(album: Album) -> Self {
        Self { album, ground: Ground::new() }
    }
}

impl Step for Flatten {
    fn set(&mut self, property: &str, value: &Value) -> Result<(), String> {
        match (property, value) {
            ("colour", Value::Text(text)) => self.ground.set_colour(Colour::try_from(text.clone())?),
            ("picture", value) => self.ground.set_picture(picture(&self.album, property, value)?),
            _ => return Err(no_such(property)),
        }
        Ok(())
    }

    fn picture(&mut self, buffer: &mut gst::Buffer, format: &gst_video::VideoInfo) {
        if format.format() != gst_video::VideoFormat::Ayuv {
            return;
        }
        let Some(ground) = self.ground.frame(format) else { return };
        let Ok(ground) = gst_video::VideoFrameRef::from_buffer_ref_readable(ground, format) else { return };
        let Ok(mut frame) = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer.make_mut(), format) else {
            return;
        };
        let width = 4 * frame.width() as usize;
        let (stride, ground_stride) = (frame.plane_stride()[0] as usize, ground.plane_stride()[0] as usize);
        let (Ok(data), Ok(behind)) = (frame.plane_data_mut(0), ground.plane_data(0)) else { return };
        for (row, behind) in data.chunks_mut(stride).zip(behind.chunks(ground_stride)) {
            if row.len() >= width && behind.len() >= width {
                flatten(&mut row[..width], &behind[..width]);
            }
        }
    }
}

fn flatten(row: &mut [u8], behind: &[u8]) {
    for (pixel, behind) in row.chunks_exact_mut(4).zip(behind.chunks_exact(4)) {
        let alpha = u32::from(pixel[0]);
        // Nearly all of them are the one or the other.
        if alpha == 255 {
            continue;
        }
        if alpha == 0 {
            pixel.copy_from_slice(behind);
            continue;
        }
        for channel in 1..4 {
            let sum = u32::from(pixel[channel]) * alpha + u32::from(behind[channel]) * (255 - alpha);
            pixel[channel] = ((sum + 127) / 255) as u8;
        }
        pixel[0] = 255;
    }
}
