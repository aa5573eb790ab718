//! Draws a nickname, once: a label is a still picture, which costs the mix nothing but its blending.

use gst::prelude::*;

use super::picture::{Picture, raw_caps};
use crate::media::{MediaError, gst::preset::LabelStyle};

/// Drawing takes some milliseconds; the first time fontconfig may look through all fonts.
const DRAW_LIMIT: gst::ClockTime = gst::ClockTime::from_seconds(10);
/// Pixels between the letters and the label's left and right edge.
const MARGIN: u32 = 8;
/// Longer nicknames were refused by the room; a engine that is driven otherwise cuts here.
const MAX_CHARS: usize = 128;

/// Draws `text` on the style's ground, at most `max_width` pixels wide; what does not fit ends in
/// "…". `None` if there is nothing to draw or no room for it.
///
/// The text is drawn as it is written: markup in it is text.
///
/// # Errors
/// [`MediaError::Element`] if the drawing elements fail.
pub fn draw(text: &str, style: &LabelStyle, letter_px: u32, max_width: u32) -> Result<Option<Picture>, MediaError> {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_CHARS).collect();
    let text = text.trim();
    let room = max_width.saturating_sub(2 * MARGIN);
    if text.is_empty() || room < letter_px {
        return Ok(None);
    }
    let mut kept = text.chars().count();
    let mut shown = text.to_owned();
    loop {
        let (picture, width) = draw_once(&shown, style, letter_px, max_width)?;
        if width <= room || kept <= 1 {
            return Ok(Some(picture));
        }
        // Letters differ in width: cut to the share that fits, and at least by one.
        let share = kept as u64 * u64::from(room) / u64::from(width);
        kept = (share as usize).min(kept - 1).max(1);
        shown = text.chars().take(kept).collect::<String>().trim_end().to_owned() + "…";
    }
}

/// The picture, and the width in pixels that the letters want.
fn draw_once(text: &str, style: &LabelStyle, letter_px: u32, max_width: u32) -> Result<(Picture, u32), MediaError> {
    let height = (letter_px * 8 / 5 + 2) & !1;
    let pipeline = gst::Pipeline::new();
    let source = element("videotestsrc")?;
    source.set_property_from_str("pattern", "solid-color");
    source.set_property("foreground-color", style.ground.argb());
    source.set_property("num-buffers", 1);
    let overlay = element("textoverlay")?;
    overlay.set_property("text", gst::glib::markup_escape_text(text).as_str());
    overlay.set_property("font-desc", format!("{} {letter_px}px", style.font));
    overlay.set_property("color", style.text.argb());
    overlay.set_property("auto-resize", false);
    overlay.set_property("draw-shadow", false);
    overlay.set_property("draw-outline", false);
    overlay.set_property("xpad", MARGIN as i32);
    // Fonts keep more room above capitals than they need.
    overlay.set_property("deltay", (letter_px / 8) as i32);
    for (property, value) in [("halignment", "left"), ("valignment", "center"), ("wrap-mode", "none")] {
        overlay.set_property_from_str(property, value);
    }
    let caps = raw_caps(max_width & !1, height).framerate((25, 1).into()).build();
    let sink = gst_app::AppSink::builder().caps(&caps).sync(false).build();
    let elements = [&source, &overlay, sink.upcast_ref()];
    let picture = pipeline
        .add_many(elements)
        .and_then(|()| gst::Element::link_many(elements))
        .map_err(|error| failed(error.to_string()))
        .and_then(|()| play(&pipeline, &sink))
        .map(|frame| {
            let wanted = overlay.property::<u32>("text-width");
            (Picture::from_frame(&frame.as_video_frame_ref(), wanted + 2 * MARGIN + 1), wanted)
        });
    // Ending a pipeline whose only source is over does not fail.
    let _ = pipeline.set_state(gst::State::Null);
    picture
}

fn play(
    pipeline: &gst::Pipeline,
    sink: &gst_app::AppSink,
) -> Result<gst_video::VideoFrame<gst_video::video_frame::Readable>, MediaError> {
    pipeline.set_state(gst::State::Playing).map_err(|error| failed(error.to_string()))?;
    let sample = sink.try_pull_sample(DRAW_LIMIT).ok_or_else(|| failed("drew nothing"))?;
    let info = sample.caps().and_then(|caps| gst_video::VideoInfo::from_caps(caps).ok());
    let buffer = sample.buffer_owned();
    info.zip(buffer)
        .and_then(|(info, buffer)| gst_video::VideoFrame::from_buffer_readable(buffer, &info).ok())
        .ok_or_else(|| failed("drew no picture"))
}

fn element(factory: &str) -> Result<gst::Element, MediaError> {
    gst::ElementFactory::make(factory).build().map_err(|_| MediaError::Unavailable(factory.into()))
}

fn failed(message: impl Into<String>) -> MediaError {
    MediaError::Element { element: "label".into(), message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::gst::preset::Presets;

    fn draw_in(text: &str, letter_px: u32, max_width: u32) -> Option<Picture> {
        gst::init().unwrap();
        let presets = Presets::load(None);
        draw(text, &presets.layout("grid").unwrap().label, letter_px, max_width).unwrap()
    }

    fn bright(picture: &Picture) -> usize {
        let sample = picture.sample(gst::ClockTime::ZERO);
        let map = sample.buffer().unwrap().map_readable().unwrap();
        let (width, height) = picture.size();
        map.iter().take((width * height) as usize).filter(|luma| **luma > 160).count()
    }

    #[test]
    fn markup_is_text() {
        let plain = draw_in("김철수", 24, 600).unwrap();
        let marked = draw_in("김철수 & <b>", 24, 600).unwrap();
        assert!(bright(&plain) > 100, "nothing was drawn");
        assert!(marked.size().0 > plain.size().0 + 40, "{:?} {:?}", plain.size(), marked.size());
        assert!(bright(&marked) > bright(&plain));
        assert_ne!(draw_in("<b>A</b>", 24, 600), draw_in("A", 24, 600));
    }

    #[test]
    fn what_does_not_fit_is_cut_and_what_is_nothing_is_not_drawn() {
        let long = draw_in(&"긴이름 ".repeat(60), 24, 300).unwrap();
        assert!((200..=300).contains(&long.size().0), "{:?}", long.size());
        assert_eq!(draw_in("", 24, 300), None);
        assert_eq!(draw_in("\u{7}\n ", 24, 300), None);
        assert_eq!(draw_in("A", 24, 20), None);
    }

    #[test]
    fn sizes_are_even() {
        for (text, letter_px) in [("A", 13), ("Bert", 17), ("김", 28)] {
            let (width, height) = draw_in(text, letter_px, 301).unwrap().size();
            assert_eq!((width % 2, height % 2), (0, 0), "{text}");
        }
    }
}
