//! Where the publishing pipeline ends and decoders read.

use std::sync::Arc;

use gst::prelude::*;
use tokio::sync::Notify;

use super::{JUST_CAME, last_time::LastTime};
use crate::room::id::TrackId;

/// A sink that never holds the pipeline up: no preroll, no clock, no last sample. Keyframe requests
/// of decoders behind it end here and join those of the subscribers, so that all are merged.
pub(super) fn appsink(id: &TrackId, keyframe_wanted: Arc<Notify>, keyframe_came: Arc<LastTime>) -> gst_app::AppSink {
    let appsink = gst_app::AppSink::builder()
        .name(format!("track-{id}"))
        .async_(false)
        .sync(false)
        .enable_last_sample(false)
        .build();
    let pad = appsink.static_pad("sink").expect("an appsink has a sink pad");
    pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| match info.event() {
        Some(event) if gst_video::UpstreamForceKeyUnitEvent::parse(event).is_ok() => {
            // Decoders ask when they begin, also when what they begin with is a keyframe.
            if keyframe_came.elapsed().is_none_or(|time| time > JUST_CAME) {
                keyframe_wanted.notify_one();
            }
            gst::PadProbeReturn::Handled
        }
        _ => gst::PadProbeReturn::Ok,
    });
    appsink
}
