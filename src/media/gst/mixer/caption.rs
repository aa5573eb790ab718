//! Texts in a mix: nicknames, initials and the title, each drawn once for as long as it stays the same.

use std::sync::Arc;

use super::{
    glide::{Glides, Pose},
    picture::Picture,
    still::Still,
    text,
};
use crate::media::{
    MediaError,
    colour::Colour,
    gst::preset::{LabelStyle, LayoutStyle},
    layout::Rect,
};

/// Distance of a label from its tile's left and lower edge, in pixels.
pub const LABEL_INSET: u32 = 8;
/// Letters of the initials: of the tile's height.
const INITIALS_RATIO: f64 = 0.3;
/// Lower letters cannot be read, higher ones say no more.
const INITIALS_PX: (u32, u32) = (12, 240);

/// What is to be drawn where.
pub struct Caption<'a> {
    pub text: &'a str,
    pub style: &'a LabelStyle,
    pub letter_px: u32,
    pub max_width: u32,
    pub z: u32,
    /// Left and upper edge, of a text of that size.
    pub place: &'a dyn Fn(u32, u32) -> (u32, u32),
}

/// A text, as it was drawn.
#[derive(Debug)]
pub struct Label {
    pub still: Still,
    text: String,
    letter_px: u32,
    max_width: u32,
    size: (u32, u32),
}

/// Initials, as they were drawn, and for what.
#[derive(Debug)]
pub struct Initials {
    text: String,
    letter_px: u32,
    max_width: u32,
    ground: Colour,
    picture: Option<Arc<Picture>>,
}

impl<'a> Caption<'a> {
    /// A nickname, in the lower left corner of its tile.
    pub fn name(
        text: &'a str,
        style: &'a LabelStyle,
        rect: Rect,
        z: u32,
        place: &'a dyn Fn(u32, u32) -> (u32, u32),
    ) -> Self {
        let max_width = rect.width.saturating_sub(2 * LABEL_INSET) & !1;
        Self { text, style, letter_px: style.letter_px(rect.height), max_width, z, place }
    }
}

/// Draws a text again if it, or the room for it, has changed, from running time `from` on; takes it away
/// if there is none, and moves it if its place is another.
///
/// # Errors
/// As [`text::draw`].
pub fn show(
    pipeline: &gst::Pipeline,
    compositor: &gst::Element,
    glides: &Glides,
    label: &mut Option<Label>,
    caption: &Caption<'_>,
    from: gst::ClockTime,
) -> Result<(), MediaError> {
    let Caption { text, style, letter_px, max_width, .. } = *caption;
    let same = |label: &Label| label.text == text && label.letter_px == letter_px && label.max_width == max_width;
    if let Some(label) = label.as_ref().filter(|label| same(label)) {
        glides.send(label.still.pad(), caption.pose(label.size), from);
        return Ok(());
    }
    let picture = text::draw(text, style, letter_px, max_width)?;
    let before = label.take().map(|label| label.still);
    let Some(picture) = picture else {
        if let Some(still) = before {
            glides.forget(still.pad());
            still.end(pipeline, compositor);
        }
        return Ok(());
    };
    let pose = caption.pose(picture.size());
    let still = match before {
        Some(still) => {
            glides.send(still.pad(), pose, from);
            still
        }
        None => {
            let still = Still::new(pipeline, compositor)?;
            glides.put(still.pad(), pose);
            still
        }
    };
    let shown = still.show(&picture, from);
    *label = Some(Label { still, text: text.into(), letter_px, max_width, size: picture.size() });
    shown
}

impl Caption<'_> {
    /// The size is the picture's own.
    fn pose(&self, (width, height): (u32, u32)) -> Pose {
        let (x, y) = (self.place)(width, height);
        Pose { rect: Rect { x, y, width: 0, height: 0 }, z: self.z, alpha: self.style.opacity }
    }
}

impl Initials {
    /// Of `name`, for a slate of that size and colour: those that are there, if they still fit.
    pub fn drawn(
        known: &mut Option<Self>,
        name: &str,
        style: &LayoutStyle,
        rect: Rect,
        ground: Colour,
    ) -> Option<Arc<Picture>> {
        let letter_px = ((f64::from(rect.height) * INITIALS_RATIO) as u32).clamp(INITIALS_PX.0, INITIALS_PX.1);
        let (text, max_width) = (initials(name), rect.width & !1);
        let same = |known: &Self| {
            known.text == text && known.letter_px == letter_px && known.max_width == max_width && known.ground == ground
        };
        if !known.as_ref().is_some_and(same) {
            let mut style = style.label.clone();
            style.ground = ground;
            let picture = text::draw(&text, &style, letter_px, max_width).unwrap_or_else(|error| {
                tracing::warn!("initials cannot be drawn: {error}");
                None
            });
            *known = Some(Self { text, letter_px, max_width, ground, picture: picture.map(Arc::new) });
        }
        known.as_ref().and_then(|known| known.picture.clone())
    }
}

/// The first letter, and that of the last word if there are several.
fn initials(name: &str) -> String {
    let mut words = name.split_whitespace().filter_map(|word| word.chars().find(|letter| letter.is_alphanumeric()));
    let first = words.next().or_else(|| name.trim().chars().next());
    first.into_iter().chain(words.next_back()).flat_map(char::to_uppercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initials_are_of_the_first_and_the_last_word() {
        for (name, expected) in [
            ("Anna", "A"),
            ("anna maria lindqvist", "AL"),
            ("김철수", "김"),
            ("김 철수", "김철"),
            ("  (guest) 7 ", "G7"),
            ("?!", "?"),
            ("", ""),
            ("ß", "SS"),
        ] {
            assert_eq!(initials(name), expected, "{name}");
        }
    }
}
