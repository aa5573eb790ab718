//! The picture that stands for a camera while it sends none: its name, and since when.

use std::sync::Arc;

use gst::prelude::*;
use jiff::Zoned;

use super::{
    Context, add_linked, make, named,
    output::{OnAir, Output},
    transcode::{Maker, sink, video_encoder},
};
use crate::media::{MediaError, gst::OwnedPipeline};

/// Pixels of a slate, if the camera was never seen.
const USUAL_SIZE: (i32, i32) = (640, 360);
/// Frames a second: it stands still, but a viewer who comes waits for one.
const FPS: i32 = 5;
/// Characters of a name that are drawn.
const MAX_CHARS: usize = 64;

/// Builds a slate of the camera's size. On a thread that may block, within a tokio runtime.
pub(super) fn build(
    context: &Context,
    output: &Arc<Output>,
    name: &str,
    since: &Zoned,
    size: Option<(i32, i32)>,
) -> Result<Maker, MediaError> {
    let (owned, events) = OwnedPipeline::new(&named("slate", &output.track.id), &context.clock);
    let (width, height) = size.unwrap_or(USUAL_SIZE);
    let source = make("videotestsrc")?;
    source.set_property("is-live", true);
    source.set_property_from_str("pattern", "solid-color");
    let colour = context.presets.slate()?.colours.first().map_or(0xFF33_475B, |colour| colour.argb());
    source.set_property("foreground-color", colour);
    let offset = i64::try_from(context.clock.running_time().nseconds()).unwrap_or_default();
    source.set_property("timestamp-offset", offset);
    let form = make("capsfilter")?;
    let caps = gst::Caps::builder("video/x-raw")
        .field("format", "I420")
        .field("width", width & !1)
        .field("height", height & !1)
        .field("framerate", gst::Fraction::new(FPS, 1))
        .build();
    form.set_property("caps", &caps);
    let overlay = make("textoverlay")?;
    let name: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_CHARS).collect();
    let text = format!("{name}\nno signal since {}", since.strftime("%H:%M:%S"));
    overlay.set_property("text", gst::glib::markup_escape_text(&text).as_str());
    overlay.set_property("font-desc", format!("Noto Sans CJK KR, Sans {}px", (height / 14).max(10)));
    overlay.set_property("auto-resize", false);
    overlay.set_property("draw-shadow", false);
    for (property, value) in
        [("halignment", "center"), ("valignment", "center"), ("line-alignment", "center"), ("wrap-mode", "wordchar")]
    {
        overlay.set_property_from_str(property, value);
    }
    let mut elements = vec![source, form, overlay];
    elements.extend(video_encoder(&context.presets, &caps)?);
    let sink = sink(output, OnAir::Slate);
    elements.push(sink.clone().upcast());
    add_linked(owned.pipeline(), &elements)?;
    Ok(Maker::new((owned, events), sink, output.track.kind()))
}
