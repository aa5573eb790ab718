//! Where tiles go on a canvas: arithmetic only.

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
