//! Pictures on their way to their places: a change of layout is a short movement, frame by frame.
//!
//! The compositor tells which frame it is about to draw, and everything that moves is put where it is
//! at that frame's time. So a movement begins and ends with a frame, however late it is drawn, and
//! while nothing moves nothing is done.

use std::sync::{Arc, Mutex, MutexGuard};

use gst::prelude::*;

use crate::media::layout::Rect;

/// How long a change of layout takes.
pub const GLIDE: gst::ClockTime = gst::ClockTime::from_mseconds(300);

/// Where a picture is, and how much of it is seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pose {
    /// Its place; width and height 0 leave it the size that it has.
    pub rect: Rect,
    /// What lies over what.
    pub z: u32,
    /// 0 (nothing is seen of it) to 1.
    pub alpha: f64,
}

impl Pose {
    /// The same, unseen.
    pub fn unseen(self) -> Self {
        Self { alpha: 0.0, ..self }
    }

    /// On the way to `end`, with `share` of the way behind it.
    fn towards(self, end: Self, share: f64) -> Self {
        let alpha = self.alpha + (end.alpha - self.alpha) * share;
        Self { rect: between(self.rect, end.rect, share), alpha, ..end }
    }

    fn apply(self, pad: &gst::Pad) {
        let Self { rect: Rect { x, y, width, height }, z, alpha } = self;
        pad.set_properties(&[
            ("xpos", &(x as i32)),
            ("ypos", &(y as i32)),
            ("width", &(width as i32)),
            ("height", &(height as i32)),
            ("alpha", &alpha),
        ]);
        // Setting it sorts all pads.
        if pad.property::<u32>("zorder") != z {
            pad.set_property("zorder", z);
        }
    }
}

/// A rectangle on the way from one to another; even numbers, as both are.
pub fn between(from: Rect, to: Rect, share: f64) -> Rect {
    let side = |from: u32, to: u32| {
        let (from, to) = (f64::from(from), f64::from(to));
        ((from + (to - from) * share).round() as u32) & !1
    };
    Rect {
        x: side(from.x, to.x),
        y: side(from.y, to.y),
        width: side(from.width, to.width),
        height: side(from.height, to.height),
    }
}

/// How much of the way is behind what set out at `begin`: slow at both ends.
pub fn share(begin: gst::ClockTime, now: gst::ClockTime) -> f64 {
    let share = now.saturating_sub(begin).nseconds() as f64 / GLIDE.nseconds() as f64;
    let share = share.min(1.0);
    share * share * (3.0 - 2.0 * share)
}

/// The pads of one compositor.
#[derive(Clone, Debug, Default)]
pub struct Glides {
    ways: Arc<Mutex<Vec<Way>>>,
}

/// One pad: where it is at rest, and where it goes from there.
#[derive(Debug)]
struct Way {
    pad: gst::Pad,
    rest: Pose,
    /// In the order of their beginnings. There is more than one if a change comes while one runs.
    legs: Vec<Leg>,
}

#[derive(Clone, Copy, Debug)]
struct Leg {
    begin: gst::ClockTime,
    from: Pose,
    to: Pose,
}

impl Glides {
    /// Moves the pads of `compositor` while it draws.
    pub fn new(compositor: &gst::Element) -> Self {
        let glides = Self::default();
        let ways = Arc::downgrade(&glides.ways);
        // On the compositor's thread, before it draws the frame of that time.
        compositor.connect("samples-selected", false, move |values| {
            let time = values.get(2).and_then(|value| value.get::<u64>().ok()).map(gst::ClockTime::from_nseconds);
            if let (Some(ways), Some(time)) = (ways.upgrade(), time) {
                lock(&ways).iter_mut().for_each(|way| way.step(time));
            }
            None
        });
        compositor.set_property("emit-signals", true);
        glides
    }

    /// It is there at once.
    pub fn put(&self, pad: &gst::Pad, pose: Pose) {
        let mut ways = lock(&self.ways);
        match ways.iter_mut().find(|way| way.pad == *pad) {
            Some(way) => (way.rest, way.legs) = (pose, Vec::new()),
            None => ways.push(Way { pad: pad.clone(), rest: pose, legs: Vec::new() }),
        }
        pose.apply(pad);
    }

    /// It sets out at running time `from` and is there [`GLIDE`] later. It must have been put somewhere.
    pub fn send(&self, pad: &gst::Pad, pose: Pose, from: gst::ClockTime) {
        if let Some(way) = lock(&self.ways).iter_mut().find(|way| way.pad == *pad) {
            way.send(pose, from);
        }
    }

    /// It fades where it is, from running time `from` on.
    pub fn hide(&self, pad: &gst::Pad, from: gst::ClockTime) {
        if let Some(way) = lock(&self.ways).iter_mut().find(|way| way.pad == *pad) {
            way.send(way.end().unseen(), from);
        }
    }

    /// The pad is given back.
    pub fn forget(&self, pad: &gst::Pad) {
        lock(&self.ways).retain(|way| way.pad != *pad);
    }
}

impl Way {
    fn send(&mut self, pose: Pose, from: gst::ClockTime) {
        if self.end() == pose {
            return;
        }
        let leg = Leg { begin: from, from: self.at(from), to: pose };
        self.legs.retain(|leg| leg.begin < from);
        self.legs.push(leg);
    }

    /// Where it will be in the end.
    fn end(&self) -> Pose {
        self.legs.last().map_or(self.rest, |leg| leg.to)
    }

    fn at(&self, time: gst::ClockTime) -> Pose {
        let leg = self.legs.iter().rev().find(|leg| leg.begin <= time);
        leg.map_or(self.rest, |leg| leg.from.towards(leg.to, share(leg.begin, time)))
    }

    fn step(&mut self, time: gst::ClockTime) {
        let Some(last) = self.legs.last() else { return };
        let is_there = time >= last.begin + GLIDE;
        let pose = self.at(time);
        pose.apply(&self.pad);
        if is_there {
            self.rest = pose;
            self.legs.clear();
        }
    }
}

fn lock(ways: &Mutex<Vec<Way>>) -> MutexGuard<'_, Vec<Way>> {
    ways.lock().expect("nothing panics under this lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> gst::ClockTime {
        gst::ClockTime::from_mseconds(ms)
    }

    fn pose(x: u32, width: u32) -> Pose {
        Pose { rect: Rect { x, y: 0, width, height: 90 }, z: 1, alpha: 1.0 }
    }

    fn way() -> Way {
        gst::init().unwrap();
        let pad = gst::Pad::builder(gst::PadDirection::Sink).build();
        Way { pad, rest: pose(0, 160), legs: Vec::new() }
    }

    #[test]
    fn it_rests_until_the_time_moves_and_rests_there() {
        let mut way = way();
        way.send(Pose { z: 7, ..pose(400, 640) }, ms(1000));
        assert_eq!(way.at(ms(999)), pose(0, 160));
        let half = way.at(ms(1150));
        assert_eq!((half.rect.x, half.rect.width, half.z), (200, 400, 7));
        let early = way.at(ms(1040)).rect.x;
        assert!(early > 0 && early < 60, "slow at first: {early}");
        assert_eq!(way.at(ms(1300)).rect, pose(400, 640).rect);
        assert_eq!(way.at(ms(9000)).rect, pose(400, 640).rect);
    }

    #[test]
    fn who_is_called_back_on_the_way_turns_without_a_jump() {
        let mut way = way();
        way.send(pose(400, 160), ms(1000));
        way.send(pose(0, 160), ms(1150));
        let xs: Vec<u32> = (1000..1600).step_by(10).map(|time| way.at(ms(time)).rect.x).collect();
        assert!(xs.windows(2).all(|pair| pair[0].abs_diff(pair[1]) <= 22), "{xs:?}");
        assert_eq!(xs.iter().max(), Some(&200));
        assert_eq!(*xs.last().unwrap(), 0);
    }

    #[test]
    fn who_is_sent_where_he_is_does_not_move() {
        let mut way = way();
        way.send(pose(0, 160), ms(1000));
        assert!(way.legs.is_empty());
    }
}
