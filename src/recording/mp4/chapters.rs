//! Chapters of a finished file, in the form that Nero began and players read (`moov/udta/chpl`).
//!
//! No standard has it; the layout is that of ffmpeg's `mov_write_chpl_tag`.

use crate::room::model::Marker;

/// What one byte can count: chapters, and bytes of a title.
const MOST: usize = 255;
/// Units of a chapter's time, 100 ns, in a millisecond.
const UNITS_PER_MS: u64 = 10_000;

/// The movie's `udta` box; empty without markers.
pub fn user_data(markers: &[Marker]) -> Vec<u8> {
    if markers.is_empty() {
        return Vec::new();
    }
    let chapters = &markers[..markers.len().min(MOST)];
    // Version 1, no flags, four bytes reserved.
    let mut body = vec![1, 0, 0, 0, 0, 0, 0, 0, chapters.len() as u8];
    for Marker { at_ms, title } in chapters {
        let title = &title[..title.floor_char_boundary(MOST)];
        body.extend_from_slice(&at_ms.saturating_mul(UNITS_PER_MS).to_be_bytes());
        body.push(title.len() as u8);
        body.extend_from_slice(title.as_bytes());
    }
    boxed(b"udta", &boxed(b"chpl", &body))
}

/// At most 255 × 264 bytes and two headers: far from what a box's size can say.
fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
}
