//! Pictures as GStreamer has them: as an overlay's pixels, and as a ground that fills a frame.

use std::sync::Arc;

use crate::{effect::Picture, media::colour::Colour};

/// How a picture's pixels lie in memory.
const PIXELS: gst_video::VideoFormat = gst_video::VideoFormat::Rgba;

/// A picture's pixels as a [`gst_video::VideoOverlayRectangle`] takes them, in the colours of frames of
/// `format`: the conversion that blending does by itself is some steps off.
pub(super) fn pixels(picture: &Picture, format: &gst_video::VideoInfo) -> Option<gst::Buffer> {
    let (width, height) = (picture.width, picture.height);
    let ayuv = gst_video::VideoInfo::builder(gst_video::VideoFormat::Ayuv, width, height)
        .fps(format.fps())
        .colorimetry(&format.colorimetry())
        .build()
        .ok()?;
    let mut buffer = converted(picture, picture.rgba.clone(), &ayuv, None)?;
    let (flags, inner) = (gst_video::VideoFrameFlags::empty(), buffer.get_mut()?);
    gst_video::VideoMeta::add(inner, flags, gst_video::VideoFormat::Ayuv, width, height).ok()?;
    Some(buffer)
}

/// A frame of that format, of pixels of the picture's size.
fn converted(
    picture: &Picture,
    rgba: Vec<u8>,
    format: &gst_video::VideoInfo,
    config: Option<gst_video::VideoConverterConfig>,
) -> Option<gst::Buffer> {
    // The converter takes no frames of another rate.
    let from = gst_video::VideoInfo::builder(PIXELS, picture.width, picture.height).fps(format.fps()).build().ok()?;
    let converter = gst_video::VideoConverter::new(&from, format, config).ok()?;
    let source = gst_video::VideoFrame::from_buffer_readable(gst::Buffer::from_slice(rgba), &from).ok()?;
    let made = gst::Buffer::with_size(format.size()).ok()?;
    let mut made = gst_video::VideoFrame::from_buffer_writable(made, format).ok()?;
    converter.frame(&source, &mut made);
    Some(made.into_buffer())
}

/// What lies behind: a picture that covers the whole frame, its edges cut off, or one colour.
pub(super) struct Ground {
    made: Option<(gst_video::VideoInfo, gst::Buffer)>,
    picture: Option<Arc<Picture>>,
    colour: Colour,
}

impl Ground {
    pub(super) fn new() -> Self {
        Self { made: None, picture: None, colour: Colour { red: 0, green: 0, blue: 0 } }
    }

    pub(super) fn set_picture(&mut self, picture: Option<Arc<Picture>>) {
        if self.picture != picture {
            (self.picture, self.made) = (picture, None);
        }
    }

    pub(super) fn set_colour(&mut self, colour: Colour) {
        if self.colour != colour {
            (self.colour, self.made) = (colour, None);
        }
    }

    /// A frame of that format; made once.
    pub(super) fn frame(&mut self, format: &gst_video::VideoInfo) -> Option<&gst::Buffer> {
        if self.made.as_ref().is_none_or(|(known, _)| known != format) {
            self.made = Some((format.clone(), self.make(format)?));
        }
        self.made.as_ref().map(|(_, buffer)| buffer)
    }

    fn make(&self, format: &gst_video::VideoInfo) -> Option<gst::Buffer> {
        let Colour { red, green, blue } = self.colour;
        let plain = Picture::plain([red, green, blue, 255]);
        let picture = self.picture.as_deref().unwrap_or(&plain);
        let mut config = gst_video::VideoConverterConfig::new();
        let (x, y, width, height) = covering(picture, format.width(), format.height());
        config.set_src_x(x as i32);
        config.set_src_y(y as i32);
        config.set_src_width(Some(width as i32));
        config.set_src_height(Some(height as i32));
        converted(picture, over(picture, self.colour), format, Some(config))
    }
}

/// A picture's pixels laid over a colour.
fn over(picture: &Picture, colour: Colour) -> Vec<u8> {
    let ground = [colour.red, colour.green, colour.blue].map(u32::from);
    let pixels = picture.rgba.chunks_exact(4).flat_map(|pixel| {
        let alpha = u32::from(pixel[3]);
        let mix =
            |channel: usize| ((u32::from(pixel[channel]) * alpha + ground[channel] * (255 - alpha) + 127) / 255) as u8;
        [mix(0), mix(1), mix(2), 255]
    });
    pixels.collect()
}

/// The largest part of a picture that has a frame's shape, in its middle.
fn covering(picture: &Picture, width: u32, height: u32) -> (u32, u32, u32, u32) {
    let (own_width, own_height) = (u64::from(picture.width), u64::from(picture.height));
    let (width, height) = (u64::from(width.max(1)), u64::from(height.max(1)));
    let (wide, high) = if own_width * height > own_height * width {
        ((own_height * width / height).max(1), own_height)
    } else {
        (own_width, (own_width * height / width).max(1))
    };
    (((own_width - wide) / 2) as u32, ((own_height - high) / 2) as u32, wide as u32, high as u32)
}
