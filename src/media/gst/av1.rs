//! A depayloader for AV1, where GStreamer has none (before 1.24): RTP in, temporal units out.

use std::sync::Mutex;

use gst::prelude::*;

use crate::media::av1::{Assembler, Unit};

/// A bin that stands in for `rtpav1depay`. What it cannot put together it leaves out, and asks for a keyframe.
pub(super) fn depayloader() -> Result<gst::Element, gst::glib::BoolError> {
    let bin = gst::Bin::new();
    let packets = gst_app::AppSink::builder().async_(false).sync(false).enable_last_sample(false).build();
    let caps = gst::Caps::builder("video/x-av1").field("stream-format", "obu-stream").field("alignment", "tu").build();
    let units = gst_app::AppSrc::builder().caps(&caps).format(gst::Format::Time).is_live(true).build();
    // Nobody measures how long this takes: it takes nothing.
    units.set_latency(gst::ClockTime::ZERO, gst::ClockTime::NONE);
    bin.add_many([packets.upcast_ref::<gst::Element>(), units.upcast_ref()])?;
    let (way_in, way_out) = (pad(packets.upcast_ref(), "sink"), pad(units.upcast_ref(), "src"));
    bin.add_pad(&gst::GhostPad::with_target(&way_in)?)?;
    bin.add_pad(&gst::GhostPad::with_target(&way_out)?)?;

    let (assembler, begun) = (Mutex::new(Assembler::default()), Mutex::new(None));
    let out = units.downgrade();
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Flushing)?;
        let (Some(buffer), Some(out)) = (sample.buffer(), out.upgrade()) else { return Ok(gst::FlowSuccess::Ok) };
        let Ok(packet) = buffer.map_readable() else { return Ok(gst::FlowSuccess::Ok) };
        let mut begun = begun.lock().expect("nothing panics under this lock");
        // A unit is shown when its first packet says.
        let time = *begun.get_or_insert(buffer.pts());
        match assembler.lock().expect("nothing panics under this lock").take(&packet) {
            Unit::Coming => Ok(gst::FlowSuccess::Ok),
            Unit::Whole(bytes) => {
                *begun = None;
                let mut unit = gst::Buffer::from_mut_slice(bytes);
                unit.make_mut().set_pts(time);
                out.push_buffer(unit)
            }
            Unit::Lost => {
                *begun = None;
                ask_for_keyframe(&pad(sink.upcast_ref(), "sink"));
                Ok(gst::FlowSuccess::Ok)
            }
        }
    });
    packets.set_callbacks(callbacks.build());
    let above = way_in.downgrade();
    // What decoders ask for goes on to whoever sends.
    way_out.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| match (info.event(), above.upgrade()) {
        (Some(event), Some(above)) if gst_video::UpstreamForceKeyUnitEvent::parse(event).is_ok() => {
            above.push_event(event.to_owned());
            gst::PadProbeReturn::Handled
        }
        _ => gst::PadProbeReturn::Ok,
    });
    Ok(bin.upcast())
}

fn ask_for_keyframe(above: &gst::Pad) {
    // An error means that it is going down.
    let _ = above.push_event(gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(false).build());
}

fn pad(element: &gst::Element, name: &str) -> gst::Pad {
    element.static_pad(name).expect("these elements have that pad")
}
