//! Picture in picture: what is published, made smaller, before a picture or a colour that fills the frame.

use super::{Album, Step, canvas::Ground, no_such, number, picture};
use crate::{effect::Value, media::colour::Colour};

/// I420.
pub(super) struct Inset {
    album: Album,
    ground: Ground,
    x: f64,
    y: f64,
    size: f64,
    converter: Option<(gst_video::VideoInfo, gst_video::VideoConverter)>,
}

impl Inset {
    pub(super) fn new(album: Album) -> Self {
        Self { album, ground: Ground::new(), x: 0.5, y: 0.5, size: 0.4, converter: None }
    }

    /// Scales a frame into its place in another, whose rest stays as it is.
    fn make(&self, format: &gst_video::VideoInfo) -> Option<gst_video::VideoConverter> {
        let (width, height) = (f64::from(format.width()), f64::from(format.height()));
        // Even, because of the planes of colour; and within the frame.
        let even = |value: f64| 2 * (value / 2.0).round() as i32;
        let (wide, high) = (even(self.size * width).max(2), even(self.size * height).max(2));
        let left = even(self.x * width - f64::from(wide) / 2.0).clamp(0, format.width() as i32 - wide);
        let top = even(self.y * height - f64::from(high) / 2.0).clamp(0, format.height() as i32 - high);
        let mut config = gst_video::VideoConverterConfig::new();
        config.set_dest_x(left);
        config.set_dest_y(top);
        config.set_dest_width(Some(wide));
        config.set_dest_height(Some(high));
        config.set_fill_border(false);
        gst_video::VideoConverter::new(format, format, Some(config)).ok()
    }
}

impl Step for Inset {
    fn set(&mut self, property: &str, value: &Value) -> Result<(), String> {
        match (property, value) {
            ("colour", Value::Text(text)) => self.ground.set_colour(Colour::try_from(text.clone())?),
            ("picture", value) => self.ground.set_picture(picture(&self.album, property, value)?),
            ("x", value) => self.x = number(property, value)?,
            ("y", value) => self.y = number(property, value)?,
            ("size", value) => self.size = number(property, value)?,
            _ => return Err(no_such(property)),
        }
        self.converter = None;
        Ok(())
    }

    fn picture(&mut self, buffer: &mut gst::Buffer, format: &gst_video::VideoInfo) {
        if self.converter.as_ref().is_none_or(|(known, _)| known != format) {
            self.converter = self.make(format).map(|converter| (format.clone(), converter));
        }
        let (Some((_, converter)), Some(ground)) = (&self.converter, self.ground.frame(format)) else { return };
        let Ok(mut made) = ground.copy_deep() else { return };
        {
            let Ok(source) = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, format) else { return };
            let Some(target) = made.get_mut() else { return };
            let Ok(mut target) = gst_video::VideoFrameRef::from_buffer_ref_writable(target, format) else { return };
            converter.frame_ref(&source, &mut target);
        }
        let flags = gst::BUFFER_COPY_METADATA;
        if let Some(target) = made.get_mut()
            && buffer.copy_into(target, flags, ..).is_ok()
        {
            *buffer = made;
        }
    }
}
