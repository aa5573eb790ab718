//! Reads barcodes and QR codes, beside the stream: a few pictures a second go to a pipeline of their own,
//! so that a slow look delays nobody.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use gst::prelude::*;

use super::{Step, no_such};
use crate::{
    effect::Value,
    media::{
        EffectReport,
        gst::effect::{Reports, cost::Meter},
    },
};

/// Between two looks: one takes 13 ms at 640×360, and 50 at 1280×720.
const EVERY: gst::ClockTime = gst::ClockTime::from_mseconds(300);
/// A code that was told is told again if it was out of sight for so long.
const OUT_OF_SIGHT: gst::ClockTime = gst::ClockTime::from_seconds(3);
/// Codes that are remembered.
const REMEMBERED: usize = 16;
/// Characters of a code that are told.
const MAX_TEXT_CHARS: usize = 2_000;

/// I420.
pub(super) struct Barcodes {
    side: SidePipeline,
    last: Option<gst::ClockTime>,
}

impl Barcodes {
    pub(super) fn new(reports: Reports, meter: &Arc<Meter>) -> Result<Self, String> {
        let seen = Mutex::new(Seen::default());
        let side = SidePipeline::start("zbar name=scan", meter, move |structure, now| {
            if structure.name() != "barcode" {
                return;
            }
            let text = |name| structure.get::<String>(name).unwrap_or_default();
            let (format, symbol) = (text("type"), text("symbol"));
            if seen.lock().expect("nothing panics under this lock").is_news(&format, &symbol, now) {
                let text = symbol.chars().take(MAX_TEXT_CHARS).collect();
                reports.send(EffectReport::Barcode { format, text });
            }
        })?;
        Ok(Self { side, last: None })
    }
}

impl Step for Barcodes {
    fn set(&mut self, property: &str, _value: &Value) -> Result<(), String> {
        Err(no_such(property))
    }

    fn picture(&mut self, buffer: &mut gst::Buffer, format: &gst_video::VideoInfo) {
        let Some(now) = buffer.pts() else { return };
        if self.last.is_some_and(|last| now >= last && now < last + EVERY) {
            return;
        }
        if self.side.push(buffer, format) {
            self.last = Some(now);
        }
    }
}

/// Codes that were told of late, and when they were seen last.
#[derive(Default)]
struct Seen(VecDeque<(String, String, gst::ClockTime)>);

impl Seen {
    fn is_news(&mut self, format: &str, symbol: &str, now: gst::ClockTime) -> bool {
        let known = self.0.iter_mut().find(|(kind, text, _)| kind == format && text == symbol);
        if let Some((_, _, last)) = known {
            return now.saturating_sub(std::mem::replace(last, now)) > OUT_OF_SIGHT;
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((format.to_owned(), symbol.to_owned(), now));
        true
    }
}

/// A pipeline that looks at single pictures, and tells by messages of its element.
pub(super) struct SidePipeline {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
}

impl SidePipeline {
    /// `elements`: what looks, as a launch line of ours. `found` is called on its thread, what that takes is added to
    /// `meter`.
    pub(super) fn start(
        elements: &str,
        meter: &Arc<Meter>,
        found: impl Fn(&gst::StructureRef, gst::ClockTime) + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let launch = format!(
            "appsrc name=in format=time is-live=true max-buffers=1 max-bytes=0 block=false ! videoconvert ! {elements} ! fakesink name=out sync=false async=false"
        );
        let pipeline = gst::parse::launch(&launch).map_err(|error| error.message().to_owned())?;
        let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| "not a pipeline".to_owned())?;
        let source = pipeline.by_name("in").and_then(|source| source.downcast::<gst_app::AppSrc>().ok());
        let source = source.ok_or_else(|| "no way in".to_owned())?;
        let end = pipeline.by_name("out").and_then(|end| end.static_pad("sink"));
        if let (Some(from), Some(to)) = (source.static_pad("src"), end) {
            meter.watch(&from, &to);
        }
        let bus = pipeline.bus().ok_or_else(|| "a pipeline without a bus".to_owned())?;
        bus.set_sync_handler(move |_, message| {
            match message.view() {
                gst::MessageView::Element(element) => {
                    if let Some(structure) = element.structure() {
                        let now = gst::SystemClock::obtain().time();
                        found(structure, now);
                    }
                }
                gst::MessageView::Error(error) => tracing::error!("what looks at pictures failed: {}", error.error()),
                _ => {}
            }
            gst::BusSyncReply::Drop
        });
        pipeline.set_state(gst::State::Playing).map_err(|error| error.to_string())?;
        Ok(Self { pipeline, source })
    }

    /// Looks at a picture, unless it is still busy with one.
    pub(super) fn push(&self, buffer: &gst::Buffer, format: &gst_video::VideoInfo) -> bool {
        if self.source.current_level_buffers() > 0 {
            return false;
        }
        let Ok(caps) = format.to_caps() else { return false };
        if self.source.caps().as_ref() != Some(&caps) {
            self.source.set_caps(Some(&caps));
        }
        self.source.push_buffer(buffer.clone()).is_ok()
    }
}

impl Drop for SidePipeline {
    fn drop(&mut self) {
        if let Some(bus) = self.pipeline.bus() {
            bus.unset_sync_handler();
        }
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
