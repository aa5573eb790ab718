//! Where tiles go on a canvas: arithmetic only.

pub mod arrange;
pub mod logo;
pub mod spec;

pub use arrange::{Measures, Placed, arrange};
pub use logo::{Corner, Logo};
pub use spec::{Fit, LayoutChoice, LayoutError, LayoutKind, LayoutSpec, Region, Show};

/// A rectangle on the canvas, in pixels; all four numbers are even (I420 subsamples by two).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

/// Tiles a canvas can hold; scenes with more show the first of them.
pub const MAX_TILES: usize = 49;

/// The smallest side of a tile, in pixels.
const MIN_SIDE: u32 = 2;

/// Where `tiles` equal tiles go on a canvas of `width` × `height` pixels: the number of columns
/// that makes them largest, rows from the top, a last row that is not full in the middle.
///
/// `aspect` is a tile's width over its height; the tile keeps it as far as even numbers allow.
/// `gap` pixels lie between tiles and around them, fewer on a canvas too small for that. More than
/// [`MAX_TILES`] tiles, or an aspect that is not a positive number, are taken as the nearest that is.
pub fn grid(width: u32, height: u32, tiles: usize, aspect: f64, gap: u32) -> Vec<Rect> {
    let tiles = tiles.min(MAX_TILES) as u32;
    let aspect = if aspect.is_finite() { aspect.clamp(0.1, 10.0) } else { 16.0 / 9.0 };
    let best = (1..=tiles).filter_map(|columns| Plan::new(width, height, tiles, columns, aspect, gap));
    let Some(plan) = best.max_by_key(|plan| (plan.tile_width * plan.tile_height, plan.gap)) else { return Vec::new() };
    (0..tiles).map(|index| plan.tile(index)).collect()
}

/// A grid with a chosen number of columns.
struct Plan {
    width: u32,
    height: u32,
    tiles: u32,
    columns: u32,
    rows: u32,
    tile_width: u32,
    tile_height: u32,
    gap: u32,
}

impl Plan {
    /// `None` if the tiles would have no pixels left.
    fn new(width: u32, height: u32, tiles: u32, columns: u32, aspect: f64, gap: u32) -> Option<Self> {
        let rows = tiles.div_ceil(columns);
        // A gap may take a tenth of a tile's place at most.
        let gap = even(gap.min(width / (columns * 10)).min(height / (rows * 10)));
        let room_wide = width.checked_sub(gap * (columns + 1))? / columns;
        let room_high = height.checked_sub(gap * (rows + 1))? / rows;
        let tile_width = even(room_wide.min((f64::from(room_high) * aspect).round() as u32));
        let tile_height = even(room_high.min((f64::from(tile_width) / aspect).round() as u32));
        (tile_width >= MIN_SIDE && tile_height >= MIN_SIDE).then_some(Self {
            width,
            height,
            tiles,
            columns,
            rows,
            tile_width,
            tile_height,
            gap,
        })
    }

    fn tile(&self, index: u32) -> Rect {
        let row = index / self.columns;
        let in_row = if row + 1 == self.rows { self.tiles - row * self.columns } else { self.columns };
        let left = (self.width - span(in_row, self.tile_width, self.gap)) / 2;
        let top = (self.height - span(self.rows, self.tile_height, self.gap)) / 2;
        Rect {
            x: even(left + (index % self.columns) * (self.tile_width + self.gap)),
            y: even(top + row * (self.tile_height + self.gap)),
            width: self.tile_width,
            height: self.tile_height,
        }
    }
}

/// What `count` tiles of `side` pixels take with the gaps between them.
fn span(count: u32, side: u32, gap: u32) -> u32 {
    count * side + count.saturating_sub(1) * gap
}

fn even(number: u32) -> u32 {
    number & !1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDE: f64 = 16.0 / 9.0;

    fn overlap(a: &Rect, b: &Rect) -> bool {
        a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
    }

    proptest! {
        #[test]
        fn tiles_are_even_equal_inside_and_apart(
            width in (80u32..1920).prop_map(|half| half * 2),
            height in (45u32..1080).prop_map(|half| half * 2),
            tiles in 1usize..=MAX_TILES,
            aspect in 0.5f64..2.5,
            gap in 0u32..24,
        ) {
            let grid = grid(width, height, tiles, aspect, gap);
            prop_assert_eq!(grid.len(), tiles);
            for (index, tile) in grid.iter().enumerate() {
                prop_assert!([tile.x, tile.y, tile.width, tile.height].iter().all(|side| side % 2 == 0), "{:?}", tile);
                prop_assert!(tile.x + tile.width <= width && tile.y + tile.height <= height, "{:?}", tile);
                prop_assert_eq!((tile.width, tile.height), (grid[0].width, grid[0].height));
                prop_assert!(grid[..index].iter().all(|other| !overlap(other, tile)), "{:?}", tile);
            }
        }

        #[test]
        fn tiles_keep_their_aspect(
            width in (320u32..1920).prop_map(|half| half * 2),
            height in (180u32..1080).prop_map(|half| half * 2),
            tiles in 1usize..=9,
        ) {
            let tile = grid(width, height, tiles, WIDE, 8)[0];
            let ideal = f64::from(tile.width) / WIDE;
            prop_assert!((ideal - f64::from(tile.height)).abs() <= 4.0, "{:?}", tile);
        }

        #[test]
        fn more_tiles_are_never_larger(tiles in 1usize..MAX_TILES) {
            let area = |tiles| { let tile = grid(1280, 720, tiles, WIDE, 8)[0]; tile.width * tile.height };
            prop_assert!(area(tiles + 1) <= area(tiles));
        }
    }

    #[test]
    fn one_tile_fills_a_canvas_of_its_own_shape_but_for_the_gap() {
        let tile = grid(1280, 720, 1, WIDE, 8)[0];
        assert!(tile.width >= 1244 && tile.height >= 700, "{tile:?}");
    }

    #[test]
    fn two_stand_side_by_side_and_three_have_the_last_in_the_middle() {
        let two = grid(1280, 720, 2, WIDE, 8);
        assert_eq!(two[0].y, two[1].y);
        let three = grid(1280, 720, 3, WIDE, 8);
        assert_eq!(three[0].y, three[1].y);
        assert!(three[2].y > three[0].y);
        assert!((three[2].x + three[2].width / 2).abs_diff(640) <= 1, "{three:?}");
    }

    #[test]
    fn a_full_screen_of_nothing_and_a_canvas_too_small_give_no_tiles() {
        assert!(grid(1280, 720, 0, WIDE, 8).is_empty());
        assert!(grid(2, 2, 9, WIDE, 8).is_empty());
    }

    #[test]
    fn odd_requests_are_bent_to_the_nearest_that_works() {
        assert_eq!(grid(1280, 720, 500, WIDE, 8).len(), MAX_TILES);
        assert_eq!(grid(1280, 720, 4, f64::NAN, 8).len(), 4);
        assert_eq!(grid(1280, 720, 4, -1.0, 8).len(), 4);
    }
}
