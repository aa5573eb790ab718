//! What lies behind the pictures: the background, and on it a slate for everybody, with a border while
//! he speaks, and where there is no picture his initials and his loudness.

use std::sync::Arc;

use super::{
    TileKey,
    glide::{GLIDE, between, share},
    picture::Picture,
};
use crate::media::{colour::Colour, layout::Rect};

/// Pixels around who speaks; as many lie between tiles at least, or the border is that much thinner.
const BORDER: u32 = 4;
/// Pictures of a backdrop on its way: enough to look smooth behind pictures that hide most of it.
const STEPS: u64 = 8;

/// All that is drawn behind the pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Backdrop {
    /// All over.
    pub ground: Colour,
    /// The last is nearest.
    pub slates: Vec<SlateTile>,
}

/// What lies behind one tile.
#[derive(Clone, Debug, PartialEq)]
pub struct SlateTile {
    /// Whose.
    pub key: TileKey,
    /// Where.
    pub rect: Rect,
    /// Of the slate.
    pub colour: Colour,
    /// Around the tile.
    pub border: Option<Colour>,
    /// A bar at its top: share of its width.
    pub meter: Option<(f64, Colour)>,
    /// In its middle.
    pub initials: Option<Arc<Picture>>,
}

impl Backdrop {
    /// The pictures that lead from `before` to this one, which begins at `from`, each with its time.
    pub fn steps(
        &self,
        before: Option<&Self>,
        from: gst::ClockTime,
        canvas: (u32, u32),
    ) -> Vec<(gst::ClockTime, Picture)> {
        let Some(before) = before.filter(|before| before.places() != self.places()) else {
            return vec![(from, self.draw(canvas))];
        };
        let step = |index: u64| {
            let time = from + gst::ClockTime::from_nseconds(GLIDE.nseconds() * index / STEPS);
            (time, if index == STEPS { self.clone() } else { self.after(before, share(from, time)) }.draw(canvas))
        };
        (1..=STEPS).map(step).collect()
    }

    fn places(&self) -> Vec<(&TileKey, Rect)> {
        self.slates.iter().map(|slate| (&slate.key, slate.rect)).collect()
    }

    /// On the way here from `before`: who is in both moves, who is not comes up or goes under.
    fn after(&self, before: &Self, share: f64) -> Self {
        let of = |backdrop: &Self, key: &TileKey| backdrop.slates.iter().find(|slate| slate.key == *key).cloned();
        let bare = |slate: &SlateTile, colour: Colour| SlateTile {
            colour,
            border: None,
            meter: None,
            initials: None,
            ..slate.clone()
        };
        let gone = before.slates.iter().filter(|slate| of(self, &slate.key).is_none());
        let mut slates: Vec<_> = gone.map(|slate| bare(slate, mixed(slate.colour, self.ground, share))).collect();
        slates.extend(self.slates.iter().map(|slate| match of(before, &slate.key) {
            Some(from) => SlateTile { rect: between(from.rect, slate.rect, share), ..slate.clone() },
            None => bare(slate, mixed(self.ground, slate.colour, share)),
        }));
        Self { ground: mixed(before.ground, self.ground, share), slates }
    }

    fn draw(&self, (width, height): (u32, u32)) -> Picture {
        let mut picture = Picture::new(width, height, self.ground);
        for slate in &self.slates {
            slate.draw(&mut picture);
        }
        picture
    }
}

impl SlateTile {
    fn draw(&self, picture: &mut Picture) {
        let rect = self.rect;
        if let Some(colour) = self.border {
            let (left, top) = (rect.x.min(BORDER), rect.y.min(BORDER));
            let (width, height) = (rect.width + left + BORDER, rect.height + top + BORDER);
            picture.fill(Rect { x: rect.x - left, y: rect.y - top, width, height }, colour);
        }
        picture.fill(rect, self.colour);
        if let Some(initials) = &self.initials {
            picture.paint_in_the_middle(rect, initials);
        }
        if let Some((share, colour)) = self.meter {
            let height = (rect.height / 16).max(4) & !1;
            let width = (f64::from(rect.width) * share.clamp(0.0, 1.0)) as u32 & !1;
            picture.fill(Rect { width, height, ..rect }, colour);
        }
    }
}

fn mixed(from: Colour, to: Colour, share: f64) -> Colour {
    let part = |from: u8, to: u8| (f64::from(from) + (f64::from(to) - f64::from(from)) * share).round() as u8;
    Colour { red: part(from.red, to.red), green: part(from.green, to.green), blue: part(from.blue, to.blue) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::id::ParticipantId;

    const BLACK: Colour = Colour { red: 0, green: 0, blue: 0 };
    const WHITE: Colour = Colour { red: 255, green: 255, blue: 255 };

    fn slate(key: &TileKey, x: u32) -> SlateTile {
        let rect = Rect { x, y: 0, width: 16, height: 16 };
        SlateTile { key: key.clone(), rect, colour: WHITE, border: None, meter: None, initials: None }
    }

    fn left_edge(picture: &Picture) -> Option<usize> {
        let sample = picture.sample(gst::ClockTime::ZERO);
        let map = sample.buffer().unwrap().map_readable().unwrap();
        map[..picture.size().0 as usize].iter().position(|luma| *luma > 128)
    }

    #[test]
    fn slates_move_with_their_pictures_and_all_else_changes_at_once() {
        gst::init().unwrap();
        let key: TileKey = (ParticipantId::random(), false, 1);
        let at = |x| Backdrop { ground: BLACK, slates: vec![slate(&key, x)] };
        let from = gst::ClockTime::from_seconds(5);
        let steps = at(64).steps(Some(&at(0)), from, (96, 16));
        let edges: Vec<_> = steps.iter().map(|(_, picture)| left_edge(picture).unwrap()).collect();
        assert_eq!((edges.len(), edges.last()), (8, Some(&64)));
        assert!(edges.windows(2).all(|pair| pair[0] <= pair[1]) && edges.contains(&32), "{edges:?}");
        assert!(steps[0].0 > from && steps[7].0 == from + GLIDE);
        let mut speaks = at(64);
        speaks.slates[0].border = Some(WHITE);
        assert_eq!(speaks.steps(Some(&at(64)), from, (96, 16)).len(), 1);
        assert_eq!(at(64).steps(None, from, (96, 16)).len(), 1);
        let gone = Backdrop { ground: BLACK, slates: Vec::new() }.steps(Some(&at(0)), from, (96, 16));
        assert_eq!((left_edge(&gone[0].1), left_edge(&gone[7].1)), (Some(0), None));
    }
}
