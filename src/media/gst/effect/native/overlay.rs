//! Lays a picture over the picture: its middle at a place, its width a share of the frame's.

use std::sync::Arc;

use super::{Album, Step, canvas, no_such, number, picture};
use crate::effect::{Picture, Value};

/// Room to the edges of the frame, of its width, in a corner.
const MARGIN: f64 = 0.03;

/// I420.
pub(super) struct Overlay {
    album: Album,
    picture: Option<Arc<Picture>>,
    x: f64,
    y: f64,
    size: f64,
    opacity: f64,
    /// Takes the place of `x` and `y`.
    corner: Option<(bool, bool)>,
    made: Option<(gst_video::VideoInfo, gst_video::VideoOverlayComposition)>,
}

impl Overlay {
    pub(super) fn new(album: Album) -> Self {
        Self { album, picture: None, x: 0.5, y: 0.5, size: 0.3, opacity: 1.0, corner: None, made: None }
    }

    fn make(&self, format: &gst_video::VideoInfo) -> Option<gst_video::VideoOverlayComposition> {
        let picture = self.picture.as_ref()?;
        let place = self.place((format.width(), format.height()), picture);
        let mut rectangle = gst_video::VideoOverlayRectangle::new_raw(
            &canvas::pixels(picture, format)?,
            place.0,
            place.1,
            place.2,
            place.3,
            gst_video::VideoOverlayFormatFlags::empty(),
        );
        rectangle.get_mut()?.set_global_alpha(self.opacity as f32);
        gst_video::VideoOverlayComposition::new([&rectangle]).ok()
    }

    /// Left, top, width and height, in pixels.
    fn place(&self, (width, height): (u32, u32), picture: &Picture) -> (i32, i32, u32, u32) {
        let (width, height) = (f64::from(width), f64::from(height));
        let wide = (self.size * width).max(2.0);
        let high = (wide * f64::from(picture.height) / f64::from(picture.width)).max(2.0);
        let (left, top) = match self.corner {
            None => (self.x * width - wide / 2.0, self.y * height - high / 2.0),
            Some((right, bottom)) => {
                let margin = MARGIN * width;
                let left = if right { width - wide - margin } else { margin };
                (left, if bottom { height - high - margin } else { margin })
            }
        };
        (left.round() as i32, top.round() as i32, wide.round() as u32, high.round() as u32)
    }
}

impl Step for Overlay {
    fn set(&mut self, property: &str, value: &Value) -> Result<(), String> {
        match (property, value) {
            ("picture", value) => self.picture = picture(&self.album, property, value)?,
            ("x", value) => self.x = number(property, value)?,
            ("y", value) => self.y = number(property, value)?,
            ("size", value) => self.size = number(property, value)?,
            ("opacity", value) => self.opacity = number(property, value)?,
            ("corner", Value::Text(corner)) => {
                self.corner = Some((corner.ends_with("right"), corner.starts_with("bottom")))
            }
            _ => return Err(no_such(property)),
        }
        self.made = None;
        Ok(())
    }

    fn picture(&mut self, buffer: &mut gst::Buffer, format: &gst_video::VideoInfo) {
        if self.made.as_ref().is_none_or(|(known, _)| known != format) {
            self.made = self.make(format).map(|composition| (format.clone(), composition));
        }
        let Some((_, composition)) = &self.made else { return };
        if let Ok(mut frame) = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer.make_mut(), format)
            && let Err(error) = composition.blend(&mut frame)
        {
            tracing::debug!("a picture could not be laid over another: {error}");
        }
    }
}
