//! Which tile of a scene goes where: each kind of layout as arithmetic on a canvas.
//!
//! A place that nobody takes stays empty, and who finds no place is not shown; his sound is.

use super::{Fit, LayoutKind, LayoutSpec, MAX_TILES, Rect, Region, Show, even, grid};
use crate::{
    media::{Scene, Tile},
    room::id::ParticipantId,
};

/// What a layout's file says about sizes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measures {
    /// A tile's width over its height.
    pub aspect: f64,
    /// Pixels between tiles and around them.
    pub gap_px: u32,
    /// What a strip of small pictures, or a picture in the corner, takes of the canvas's side: 0.05 to 0.5.
    pub side_ratio: f64,
}

/// One tile of the scene and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Index into the scene's tiles.
    pub tile: usize,
    /// Its place.
    pub rect: Rect,
    /// Whether its picture is shown, or only its slate.
    pub picture: bool,
    /// How a picture of another shape gets into it.
    pub fit: Fit,
}

/// Who is shown where on a canvas of `width` × `height` pixels, what lies nearest last.
pub fn arrange(spec: &LayoutSpec, scene: &Scene, width: u32, height: u32, measures: &Measures) -> Vec<Placed> {
    let canvas = Canvas { width, height, measures };
    let order = ordered(spec, &scene.tiles);
    match spec.kind {
        LayoutKind::Grid => canvas.grid(&order),
        LayoutKind::AudioOnly => canvas.names(&people(&scene.tiles, &order)),
        LayoutKind::Speaker => canvas.speaker(&order, main(spec, scene, &order)),
        LayoutKind::Presentation => match order.iter().find(|&&tile| scene.tiles[tile].screen) {
            Some(&screen) => canvas.presentation(&order, screen),
            None => canvas.grid(&order),
        },
        LayoutKind::Pip => canvas.pip(scene, &order, spec),
        LayoutKind::Custom => canvas.custom(spec, scene, &order),
    }
}

struct Canvas<'a> {
    width: u32,
    height: u32,
    measures: &'a Measures,
}

impl Canvas<'_> {
    fn grid(&self, order: &[usize]) -> Vec<Placed> {
        self.grid_in(Rect { x: 0, y: 0, width: self.width, height: self.height }, order)
    }

    fn grid_in(&self, area: Rect, order: &[usize]) -> Vec<Placed> {
        let order = &order[..order.len().min(MAX_TILES)];
        let rects = grid(area.width, area.height, order.len(), self.measures.aspect, self.measures.gap_px);
        let moved = rects.into_iter().map(|rect| Rect { x: area.x + rect.x, y: area.y + rect.y, ..rect });
        order.iter().zip(moved).map(|(&tile, rect)| whole(tile, rect)).collect()
    }

    fn names(&self, order: &[usize]) -> Vec<Placed> {
        self.grid(order).into_iter().map(|placed| Placed { picture: false, ..placed }).collect()
    }

    /// One large, the others in a strip below.
    fn speaker(&self, order: &[usize], main: Option<usize>) -> Vec<Placed> {
        let Some(main) = main else { return Vec::new() };
        let others: Vec<_> = order.iter().copied().filter(|&tile| tile != main).collect();
        if others.is_empty() {
            return self.grid(&[main]);
        }
        let strip = even((f64::from(self.height) * self.measures.side_ratio) as u32);
        let stage = Rect { x: 0, y: 0, width: self.width, height: self.height - strip };
        let mut placed = self.grid_in(stage, &[main]);
        placed.extend(self.grid_in(Rect { y: stage.height, height: strip, ..stage }, &others));
        placed
    }

    /// The screen large, the others in a column to its right.
    fn presentation(&self, order: &[usize], screen: usize) -> Vec<Placed> {
        let others: Vec<_> = order.iter().copied().filter(|&tile| tile != screen).collect();
        let column =
            if others.is_empty() { 0 } else { even((f64::from(self.width) * self.measures.side_ratio) as u32) };
        let stage = Rect { x: 0, y: 0, width: self.width - column, height: self.height };
        // A screen has any shape: it gets all of the place, and keeps its own shape in it.
        let mut placed = vec![whole(screen, inset(stage, self.measures.gap_px))];
        placed.extend(self.grid_in(Rect { x: stage.width, width: column, ..stage }, &others));
        placed
    }

    /// One over all of the canvas, another in its corner.
    fn pip(&self, scene: &Scene, order: &[usize], spec: &LayoutSpec) -> Vec<Placed> {
        let screen = order.iter().copied().find(|&tile| scene.tiles[tile].screen);
        let Some(under) = screen.or_else(|| main(spec, scene, order)) else { return Vec::new() };
        let mut placed = vec![whole(under, Rect { x: 0, y: 0, width: self.width, height: self.height })];
        let has_picture = |&tile: &usize| tile != under && scene.tiles[tile].video.is_some();
        let others: Vec<_> = order.iter().copied().filter(has_picture).collect();
        if let Some(over) = main(spec, scene, &others) {
            let width = even((f64::from(self.width) * self.measures.side_ratio) as u32).max(2);
            let height = even((f64::from(width) / self.measures.aspect) as u32).clamp(2, self.height);
            let gap = even(self.measures.gap_px * 2).min(even(self.width - width)).min(even(self.height - height));
            let corner = Rect { x: self.width - width - gap, y: self.height - height - gap, width, height };
            placed.push(whole(over, corner));
        }
        placed
    }

    fn custom(&self, spec: &LayoutSpec, scene: &Scene, order: &[usize]) -> Vec<Placed> {
        let mut free: Vec<usize> = order.to_vec();
        let mut placed: Vec<(i32, Placed)> = Vec::new();
        // Whoever is named gets his place before `next` takes him.
        for wanted in [2, 1, 0] {
            for region in spec.regions.iter().filter(|region| precedence(&region.show) == wanted) {
                let candidates = std::mem::take(&mut free);
                let chosen = match &region.show {
                    Show::Participant(id) => {
                        candidates.iter().copied().find(|&tile| scene.tiles[tile].participant == *id)
                    }
                    Show::Screen => candidates.iter().copied().find(|&tile| scene.tiles[tile].screen),
                    Show::Speaker => main(spec, scene, &candidates),
                    Show::Next => candidates.first().copied(),
                };
                free = candidates.into_iter().filter(|&tile| Some(tile) != chosen).collect();
                if let Some(tile) = chosen {
                    placed.push((region.z, Placed { fit: region.fit, ..whole(tile, self.region(region)) }));
                }
            }
        }
        placed.sort_by_key(|(z, _)| *z);
        placed.into_iter().map(|(_, placed)| placed).collect()
    }

    fn region(&self, region: &Region) -> Rect {
        let side = |fraction: f64, whole: u32| even((fraction * f64::from(whole)).round() as u32).min(even(whole));
        let (x, y) = (side(region.x, self.width), side(region.y, self.height));
        let (right, bottom) = (side(region.x + region.width, self.width), side(region.y + region.height, self.height));
        let (x, y) = (x.min(even(self.width) - 2), y.min(even(self.height) - 2));
        Rect { x, y, width: right.saturating_sub(x).max(2), height: bottom.saturating_sub(y).max(2) }
    }
}

fn precedence(show: &Show) -> u8 {
    match show {
        Show::Participant(_) => 2,
        Show::Screen | Show::Speaker => 1,
        Show::Next => 0,
    }
}

fn whole(tile: usize, rect: Rect) -> Placed {
    Placed { tile, rect, picture: true, fit: Fit::Fit }
}

fn inset(area: Rect, gap: u32) -> Rect {
    let gap = even(gap.min(area.width / 10).min(area.height / 10));
    let (width, height) = (even(area.width - 2 * gap), even(area.height - 2 * gap));
    Rect { x: area.x + gap, y: area.y + gap, width, height }
}

/// Indices of the tiles: who is pinned, then those whom the layout names, then the others as they came.
fn ordered(spec: &LayoutSpec, tiles: &[Tile]) -> Vec<usize> {
    let place = |id: &ParticipantId| {
        if spec.pinned.as_ref() == Some(id) {
            return 0;
        }
        spec.order.iter().position(|named| named == id).map_or(usize::MAX, |place| place + 1)
    };
    let mut order: Vec<usize> = (0..tiles.len()).collect();
    order.sort_by_key(|&tile| place(&tiles[tile].participant));
    order
}

/// Of those, who is shown large: who is pinned, else who has the floor, else the first; a camera
/// before a screen.
fn main(spec: &LayoutSpec, scene: &Scene, order: &[usize]) -> Option<usize> {
    let of = |id: &ParticipantId| {
        let mut his = order.iter().copied().filter(|&tile| scene.tiles[tile].participant == *id);
        his.clone().find(|&tile| !scene.tiles[tile].screen).or_else(|| his.next())
    };
    let pinned = spec.pinned.as_ref().and_then(of);
    pinned.or_else(|| scene.speaker.as_ref().and_then(of)).or_else(|| order.first().copied())
}

/// One tile for each participant, of those in `order`.
fn people(tiles: &[Tile], order: &[usize]) -> Vec<usize> {
    let mut seen: Vec<&ParticipantId> = Vec::new();
    let mut first = |&tile: &usize| {
        let id = &tiles[tile].participant;
        let is_new = !seen.contains(&id);
        if is_new {
            seen.push(id);
        }
        is_new
    };
    order.iter().copied().filter(|tile| first(tile)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::room::id::TrackId;

    const MEASURES: Measures = Measures { aspect: 16.0 / 9.0, gap_px: 8, side_ratio: 0.2 };

    fn person(id: &ParticipantId, screen: bool) -> Tile {
        Tile { participant: id.clone(), label: String::new(), video: Some(TrackId::random()), screen }
    }

    fn scene(people: usize, screen: bool) -> Scene {
        let ids: Vec<_> = (0..people).map(|_| ParticipantId::random()).collect();
        let screens = ids.iter().take(usize::from(screen)).map(|id| person(id, true));
        let tiles = screens.chain(ids.iter().map(|id| person(id, false))).collect();
        Scene { tiles, ..Scene::default() }
    }

    fn placed(kind: LayoutKind, scene: &Scene) -> Vec<Placed> {
        arrange(&LayoutSpec::of(kind), scene, 1280, 720, &MEASURES)
    }

    fn overlap(a: &Rect, b: &Rect) -> bool {
        a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
    }

    fn region(x: f64, y: f64, width: f64, height: f64, z: i32, show: Show) -> Region {
        Region { x, y, width, height, z, fit: Fit::Fit, show }
    }

    proptest! {
        #[test]
        fn everything_is_even_and_inside_and_apart_but_for_the_picture_in_the_corner(
            width in (80u32..1920).prop_map(|half| half * 2),
            height in (45u32..1080).prop_map(|half| half * 2),
            people in 0usize..=60,
            screen in any::<bool>(),
            side_ratio in 0.05f64..0.5,
        ) {
            let scene = scene(people, screen);
            for kind in [LayoutKind::Grid, LayoutKind::Speaker, LayoutKind::Presentation, LayoutKind::Pip, LayoutKind::AudioOnly] {
                let measures = Measures { side_ratio, ..MEASURES };
                let places = arrange(&LayoutSpec::of(kind), &scene, width, height, &measures);
                for (index, Placed { rect, tile, .. }) in places.iter().enumerate() {
                    prop_assert!([rect.x, rect.y, rect.width, rect.height].iter().all(|side| side % 2 == 0), "{:?} {:?}", kind, rect);
                    prop_assert!(rect.width >= 2 && rect.height >= 2, "{:?} {:?}", kind, rect);
                    prop_assert!(rect.x + rect.width <= width && rect.y + rect.height <= height, "{:?} {:?}", kind, rect);
                    prop_assert!(places[..index].iter().all(|other| other.tile != *tile), "{:?} shows one twice", kind);
                    let apart = places[..index].iter().all(|other| !overlap(&other.rect, rect));
                    prop_assert!(apart || kind == LayoutKind::Pip, "{:?} {:?}", kind, rect);
                }
            }
        }

        #[test]
        fn any_region_lies_on_the_canvas(
            x in 0.0f64..1.0, y in 0.0f64..1.0, width in 0.001f64..1.0, height in 0.001f64..1.0,
            canvas in (80u32..1920).prop_map(|half| half * 2),
        ) {
            let (width, height) = (width.min(1.0 - x), height.min(1.0 - y));
            let spec = LayoutSpec { regions: vec![region(x, y, width, height, 0, Show::Next)], ..LayoutSpec::of(LayoutKind::Custom) };
            let rect = arrange(&spec, &scene(1, false), canvas, 90, &MEASURES)[0].rect;
            prop_assert!(rect.x + rect.width <= canvas && rect.y + rect.height <= 90, "{:?}", rect);
        }
    }

    #[test]
    fn the_speaker_is_large_and_a_pinned_one_larger_than_the_speaker() {
        let mut scene = scene(4, false);
        scene.speaker = Some(scene.tiles[2].participant.clone());
        let places = placed(LayoutKind::Speaker, &scene);
        assert_eq!((places[0].tile, places.len()), (2, 4));
        assert!(places[1..].iter().all(|place| place.rect.width * 3 < places[0].rect.width));
        let pinned =
            LayoutSpec { pinned: Some(scene.tiles[1].participant.clone()), ..LayoutSpec::of(LayoutKind::Speaker) };
        assert_eq!(arrange(&pinned, &scene, 1280, 720, &MEASURES)[0].tile, 1);
    }

    #[test]
    fn who_speaks_moves_nobody_in_a_grid() {
        let mut scene = scene(6, false);
        let place_of = |scene: &Scene| {
            let mut places = placed(LayoutKind::Grid, scene);
            places.sort_by_key(|place| place.tile);
            places
        };
        let before = place_of(&scene);
        scene.speaker = Some(scene.tiles[3].participant.clone());
        assert_eq!(place_of(&scene), before);
    }

    #[test]
    fn a_shared_screen_takes_most_of_a_presentation_and_without_one_it_is_a_grid() {
        let places = placed(LayoutKind::Presentation, &scene(3, true));
        assert_eq!((places[0].tile, places.len()), (0, 4));
        assert!(places[0].rect.width > 900, "{:?}", places[0]);
        let people = scene(3, false);
        assert_eq!(placed(LayoutKind::Presentation, &people), placed(LayoutKind::Grid, &people));
    }

    #[test]
    fn a_picture_in_the_corner_is_of_somebody_else() {
        let places = placed(LayoutKind::Pip, &scene(2, true));
        assert_eq!(places.iter().map(|place| place.tile).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(placed(LayoutKind::Pip, &scene(1, false)).len(), 1);
    }

    #[test]
    fn without_pictures_everybody_has_one_name() {
        let places = placed(LayoutKind::AudioOnly, &scene(3, true));
        assert_eq!(places.len(), 3);
        assert!(places.iter().all(|place| !place.picture));
    }

    #[test]
    fn regions_take_whom_they_name_before_next_takes_the_rest_and_nobody_twice() {
        let scene = scene(3, false);
        let named = scene.tiles[0].participant.clone();
        let regions = vec![
            region(0.0, 0.0, 0.5, 1.0, 3, Show::Next),
            region(0.5, 0.0, 0.5, 0.5, 1, Show::Participant(named)),
            region(0.5, 0.5, 0.5, 0.5, 0, Show::Screen),
        ];
        let places =
            arrange(&LayoutSpec { regions, ..LayoutSpec::of(LayoutKind::Custom) }, &scene, 640, 360, &MEASURES);
        assert_eq!(places.iter().map(|place| (place.tile, place.rect.x)).collect::<Vec<_>>(), [(0, 320), (1, 0)]);
    }

    #[test]
    fn the_order_is_pinned_named_and_as_they_came() {
        let scene = scene(4, false);
        let id = |index: usize| scene.tiles[index].participant.clone();
        let spec = LayoutSpec { order: vec![id(2), id(0)], pinned: Some(id(3)), ..LayoutSpec::default() };
        assert_eq!(ordered(&spec, &scene.tiles), [3, 2, 0, 1]);
    }
}
