//! Gives a live picture the size and shape of its tile, before the compositor has it.
//!
//! The size changes with the frame of its time, so that the compositor scales a picture itself only
//! while it moves: it is as large as the larger end of the way until it has arrived.

use std::sync::{Arc, Mutex};

use gst::prelude::*;

use super::{glide::GLIDE, make, picture::raw_caps};
use crate::media::{MediaError, layout::Fit, rtp::Place};

/// Width, height, and what is done with a picture of another shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub width: u32,
    pub height: u32,
    pub fit: Fit,
}

impl From<Shape> for Place {
    fn from(Shape { width, height, fit }: Shape) -> Self {
        Self { width, height, fit }
    }
}

/// Crop, converter and filter of one picture.
#[derive(Debug)]
pub struct Shaper {
    crop: gst::Element,
    convert: gst::Element,
    size: gst::Element,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug)]
struct Plan {
    now: Shape,
    /// What follows, from which running time on; in their order.
    next: Vec<(gst::ClockTime, Shape)>,
    /// Of what comes in.
    source: Option<gst_video::VideoInfo>,
}

impl Shaper {
    /// Behind `source`, whose buffers tell the time.
    pub fn new(source: &gst::Pad, shape: Shape) -> Result<Self, MediaError> {
        let (crop, convert, size) = (make("videocrop")?, make("videoconvertscale")?, make("capsfilter")?);
        // WebRTC's pictures are BT.601 whatever their size; GStreamer's guess for large ones would
        // cost a conversion of every pixel, and be wrong.
        convert.set_property_from_str("matrix-mode", "none");
        convert.set_property_from_str("chroma-mode", "none");
        let plan = Arc::new(Mutex::new(Plan { now: shape, next: Vec::new(), source: None }));
        let shaper = Self { crop, convert, size, plan };
        shape.apply(None, &shaper.crop, &shaper.convert, &shaper.size);
        shaper.follow(source);
        Ok(shaper)
    }

    /// In their order.
    pub fn elements(&self) -> [gst::Element; 3] {
        [self.crop.clone(), self.convert.clone(), self.size.clone()]
    }

    /// The tile has another shape from running time `from` on, and glides into it.
    pub fn become_at(&self, shape: Shape, from: gst::ClockTime) {
        self.plan.lock().expect("nothing panics under this lock").change(shape, from);
    }

    /// Before each frame, and each change of what comes in, on the source's thread.
    fn follow(&self, source: &gst::Pad) {
        let (crop, convert, size) = (self.crop.downgrade(), self.convert.downgrade(), self.size.downgrade());
        let plan = self.plan.clone();
        let types = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
        source.add_probe(types, move |_, info| {
            let mut plan = plan.lock().expect("nothing panics under this lock");
            let changed = match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => buffer.pts().is_some_and(|time| plan.reach(time)),
                Some(gst::PadProbeData::Event(event)) => plan.take_caps(event),
                _ => false,
            };
            if changed
                && let (Some(crop), Some(convert), Some(size)) = (crop.upgrade(), convert.upgrade(), size.upgrade())
            {
                let (shape, source) = (plan.now, plan.source.clone());
                // What these do may come back to this pad.
                drop(plan);
                shape.apply(source.as_ref(), &crop, &convert, &size);
            }
            gst::PadProbeReturn::Ok
        });
    }
}

impl Plan {
    fn change(&mut self, shape: Shape, from: gst::ClockTime) {
        self.next.retain(|(time, _)| *time < from);
        let before = self.next.last().map_or(self.now, |(_, shape)| *shape);
        if before == shape {
            return;
        }
        let larger = if before.pixels() > shape.pixels() { before } else { shape };
        self.next.extend([(from, larger), (from + GLIDE, shape)]);
    }

    /// True if there is another shape from this time on.
    fn reach(&mut self, time: gst::ClockTime) -> bool {
        let passed = self.next.iter().take_while(|(at, _)| *at <= time).count();
        let Some((_, shape)) = self.next.drain(..passed).next_back() else { return false };
        std::mem::replace(&mut self.now, shape) != shape
    }

    /// True if what comes in is another picture now.
    fn take_caps(&mut self, event: &gst::EventRef) -> bool {
        let gst::EventView::Caps(caps) = event.view() else { return false };
        self.source = gst_video::VideoInfo::from_caps(caps.caps()).ok();
        self.now.fit == Fit::Fill
    }
}

impl Shape {
    fn pixels(self) -> u32 {
        self.width * self.height
    }

    fn apply(
        self,
        source: Option<&gst_video::VideoInfo>,
        crop: &gst::Element,
        convert: &gst::Element,
        size: &gst::Element,
    ) {
        let [left_right, top_bottom] = source.map_or([0, 0], |source| self.cropped(source)).map(|side| side as i32);
        for (property, value) in
            [("left", left_right), ("right", left_right), ("top", top_bottom), ("bottom", top_bottom)]
        {
            if crop.property::<i32>(property) != value {
                crop.set_property(property, value);
            }
        }
        convert.set_property("add-borders", self.fit == Fit::Fit);
        size.set_property("caps", raw_caps(self.width, self.height).build());
    }

    /// What is cut off at the left and at the right, and above and below, in pixels of the source: even.
    fn cropped(self, source: &gst_video::VideoInfo) -> [u32; 2] {
        let (width, height) = (f64::from(source.width()), f64::from(source.height()));
        let pixel = f64::from(source.par().numer()) / f64::from(source.par().denom().max(1));
        let wanted = f64::from(self.width) / f64::from(self.height) / if pixel > 0.0 { pixel } else { 1.0 };
        if self.fit == Fit::Fit {
            return [0, 0];
        }
        let cut = |whole: f64, kept: f64| ((((whole - kept) / 2.0).max(0.0)) as u32) & !1;
        if width > height * wanted {
            [cut(width, (height * wanted).max(2.0)), 0]
        } else {
            [0, cut(height, (width / wanted).max(2.0))]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> gst::ClockTime {
        gst::ClockTime::from_mseconds(ms)
    }

    fn shape(width: u32, height: u32, fit: Fit) -> Shape {
        Shape { width, height, fit }
    }

    #[test]
    fn a_picture_is_as_large_as_the_larger_end_while_it_moves() {
        let (small, large) = (shape(160, 90, Fit::Fit), shape(640, 360, Fit::Fit));
        let mut plan = Plan { now: small, next: Vec::new(), source: None };
        plan.change(large, ms(1000));
        assert!(!plan.reach(ms(999)) && plan.now == small);
        assert!(plan.reach(ms(1000)) && plan.now == large);
        assert!(!plan.reach(ms(1300)), "it is there");
        plan.change(small, ms(2000));
        assert!(!plan.reach(ms(2000)) && plan.now == large, "smaller only when it has arrived");
        assert!(plan.reach(ms(2300)) && plan.now == small);
        plan.change(large, ms(3000));
        plan.change(small, ms(3100));
        assert!(plan.reach(ms(3050)) && plan.now == large);
        assert!(plan.reach(ms(3400)) && plan.now == small && plan.next.is_empty());
    }

    #[test]
    fn what_fills_is_cut_in_the_middle() {
        gst::init().unwrap();
        let source = |width, height, par| {
            let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, width, height);
            info.par(gst::Fraction::new(par, 1)).build().unwrap()
        };
        let square = shape(100, 100, Fit::Fill);
        assert_eq!(square.cropped(&source(640, 360, 1)), [140, 0]);
        assert_eq!(square.cropped(&source(360, 640, 1)), [0, 140]);
        assert_eq!(square.cropped(&source(320, 640, 2)), [0, 0], "pixels twice as wide as high");
        assert_eq!(shape(160, 90, Fit::Fit).cropped(&source(360, 640, 1)), [0, 0]);
        assert_eq!(shape(3840, 2, Fit::Fill).cropped(&source(2, 2160, 1)), [0, 1078]);
    }
}
