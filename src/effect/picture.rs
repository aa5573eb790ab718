//! Pictures that effects lay over what is published, or behind it. What people send is decoded here,
//! within bounds, into plain pixels, and written anew: nothing of the file itself goes any further.

use std::{fmt, io::Cursor, sync::Arc};

use bytes::Bytes;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbaImage, imageops::FilterType};
use resvg::{tiny_skia, usvg};
use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::room::id::PictureId;

/// Files larger than this are not read, in bytes.
pub const MAX_PICTURE_BYTES: usize = 2 * 1024 * 1024;
/// A picture's longest side, in pixels; larger ones are refused before they are decoded.
const MAX_SIDE: u32 = 4_096;
/// What is kept of a picture has at most so many pixels.
const MAX_PIXELS: u64 = 1280 * 720;
/// The longest side of a drawing (SVG), which has no pixels of its own.
const DRAWING_SIDE: f32 = 1_024.0;
/// Bytes that decoding one may take.
const MAX_DECODED_BYTES: u64 = 96 * 1024 * 1024;
/// Elements within elements of a drawing. They are read recursively.
const MAX_DEPTH: usize = 64;
/// Elements of a drawing that repeat others. A few that repeat each other make millions.
const MAX_REPEATING: usize = 16;
/// What repeats other elements, or costs as much.
const REPEATING: [&str; 7] = ["use", "pattern", "mask", "clippath", "marker", "filter", "symbol"];

/// A picture as pixels.
pub struct Picture {
    /// What requests call it.
    pub id: PictureId,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Red, green, blue and opacity of each pixel, row by row, not premultiplied.
    pub rgba: Vec<u8>,
    /// The same as PNG.
    pub png: Bytes,
}

/// A file that is no picture for us.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PictureError {
    /// More bytes than are read.
    #[error("it has {0} bytes; at most {MAX_PICTURE_BYTES} are read")]
    TooLarge(usize),
    /// Another kind of file.
    #[error("it is neither PNG, JPEG nor SVG")]
    Unknown,
    /// More pixels than are decoded.
    #[error("it has {width}×{height} pixels; a side has 1 to {MAX_SIDE}")]
    TooManyPixels {
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
    },
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Broken(String),
    /// A drawing that would take for ever.
    #[error("the drawing {0}")]
    TooComplex(String),
}

impl Picture {
    /// Reads a PNG, JPEG or SVG, whichever it is. Takes up to some hundred milliseconds: not for a
    /// runtime's own thread.
    ///
    /// # Errors
    /// Whatever is wrong with the file.
    pub fn decode(bytes: &[u8]) -> Result<Self, PictureError> {
        if bytes.len() > MAX_PICTURE_BYTES {
            return Err(PictureError::TooLarge(bytes.len()));
        }
        let pixels = match image::guess_format(bytes) {
            Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => photograph(bytes, format)?,
            _ if is_drawing(bytes) => drawing(bytes)?,
            _ => return Err(PictureError::Unknown),
        };
        Self::of(PictureId::random(), reduced(pixels))
    }

    /// As [`decode`](Self::decode), under a name of ours.
    ///
    /// # Errors
    /// The same.
    pub fn named(name: &str, bytes: &[u8]) -> Result<Self, PictureError> {
        let picture = Self::decode(bytes)?;
        Ok(Self { id: name.parse().unwrap_or_else(|never| match never {}), ..picture })
    }

    /// One pixel of a colour.
    pub fn plain(rgba: [u8; 4]) -> Self {
        let (id, png) = (PictureId::random(), Bytes::new());
        Self { id, width: 1, height: 1, rgba: rgba.to_vec(), png }
    }

    fn of(id: PictureId, pixels: RgbaImage) -> Result<Self, PictureError> {
        let mut png = Cursor::new(Vec::new());
        pixels.write_to(&mut png, ImageFormat::Png).map_err(|error| PictureError::Broken(error.to_string()))?;
        let (width, height) = pixels.dimensions();
        Ok(Self { id, width, height, rgba: pixels.into_raw(), png: png.into_inner().into() })
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Picture({}, {}×{})", self.id, self.width, self.height)
    }
}

/// A picture never changes.
impl PartialEq for Picture {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// Its pixels stay here: whoever reads of it gets its name.
impl Serialize for Picture {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.id.serialize(serializer)
    }
}

fn photograph(bytes: &[u8], format: ImageFormat) -> Result<RgbaImage, PictureError> {
    let broken = |error: image::ImageError| PictureError::Broken(error.to_string());
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
        return Err(PictureError::TooManyPixels { width, height });
    }
    // A phone held upright writes its picture lying, and says so.
    let orientation = decoder.orientation().map_err(broken)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(broken)?;
    image.apply_orientation(orientation);
    Ok(image.into_rgba8())
}

fn reduced(image: RgbaImage) -> RgbaImage {
    let (width, height) = image.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels <= MAX_PIXELS {
        return image;
    }
    let factor = (MAX_PIXELS as f64 / pixels as f64).sqrt();
    let side = |side: u32| ((f64::from(side) * factor) as u32).max(1);
    image::imageops::resize(&image, side(width), side(height), FilterType::Triangle)
}

fn is_drawing(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(4_096)];
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    head.first() == Some(&b'<') && head.windows(4).any(|part| part.eq_ignore_ascii_case(b"<svg"))
}

/// Draws it without fonts, files and embedded pictures: it is shapes and colours, and nothing else.
fn drawing(bytes: &[u8]) -> Result<RgbaImage, PictureError> {
    let text = std::str::from_utf8(bytes).map_err(|error| PictureError::Broken(error.to_string()))?;
    check_drawing(text)?;
    let options = usvg::Options {
        image_href_resolver: usvg::ImageHrefResolver {
            resolve_data: Box::new(|_, _, _| None),
            resolve_string: Box::new(|_, _| None),
        },
        ..Default::default()
    };
    let tree = usvg::Tree::from_str(text, &options).map_err(|error| PictureError::Broken(error.to_string()))?;
    let size = tree.size();
    let scale = DRAWING_SIDE / size.width().max(size.height());
    let side = |side: f32| ((side * scale).round() as u32).clamp(1, DRAWING_SIDE as u32);
    let (width, height) = (side(size.width()), side(size.height()));
    let mut canvas =
        tiny_skia::Pixmap::new(width, height).ok_or_else(|| PictureError::Broken("it has no size".into()))?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(scale, scale), &mut canvas.as_mut());
    let plain = canvas.pixels().iter().flat_map(|pixel| {
        let plain = pixel.demultiply();
        [plain.red(), plain.green(), plain.blue(), plain.alpha()]
    });
    RgbaImage::from_raw(width, height, plain.collect()).ok_or_else(|| PictureError::Broken("it has no pixels".into()))
}

/// Refuses what would take for ever, or more stack than there is, before it is read.
fn check_drawing(text: &str) -> Result<(), PictureError> {
    let complex = |what: String| Err(PictureError::TooComplex(what));
    let (mut rest, mut depth, mut repeating) = (text, 0usize, 0usize);
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        if let Some(inner) = rest.strip_prefix("!--") {
            rest = inner.find("-->").map_or("", |end| &inner[end..]);
        } else if let Some(inner) = rest.strip_prefix("![CDATA[") {
            rest = inner.find("]]>").map_or("", |end| &inner[end..]);
        } else if rest.starts_with('!') {
            if rest.len() >= 8
                && rest.as_bytes()[..8].eq_ignore_ascii_case(b"!doctype")
                && rest.find('[') < rest.find('>')
                && rest.contains('[')
            {
                return complex("defines entities".into());
            }
        } else if rest.starts_with('/') {
            depth = depth.saturating_sub(1);
        } else if !rest.starts_with('?') {
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).take(16).collect();
            repeating += usize::from(REPEATING.contains(&name.to_ascii_lowercase().as_str()));
            let (end, closed) = end_of_tag(rest);
            depth += usize::from(!closed);
            rest = &rest[end..];
        }
        if depth > MAX_DEPTH {
            return complex(format!("has more than {MAX_DEPTH} elements within each other"));
        }
        if repeating > MAX_REPEATING {
            return complex(format!("has more than {MAX_REPEATING} of: {}", REPEATING.join(", ")));
        }
    }
    Ok(())
}

/// Where a tag ends, quotes left out of account, and whether it closes itself.
fn end_of_tag(text: &str) -> (usize, bool) {
    let mut quote = None;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'>') => return (at, at > 0 && text.as_bytes()[at - 1] == b'/'),
            (Some(open), byte) if open == byte => quote = None,
            _ => {}
        }
    }
    (text.len(), true)
}

/// Finds one by what requests call it.
pub fn find_picture<'a>(id: &str, pictures: &'a [Arc<Picture>]) -> Option<&'a Arc<Picture>> {
    pictures.iter().find(|picture| picture.id.as_str() == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let image = RgbaImage::from_fn(width, height, |x, _| {
            image::Rgba(if x * 2 < width { [255, 0, 0, 255] } else { [0, 0, 255, 128] })
        });
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn pixel(picture: &Picture, x: u32, y: u32) -> [u8; 4] {
        let at = 4 * (y * picture.width + x) as usize;
        picture.rgba[at..at + 4].try_into().unwrap()
    }

    #[test]
    fn a_png_keeps_its_pixels_and_a_large_one_gets_smaller() {
        let small = Picture::decode(&png(40, 30)).unwrap();
        assert_eq!((small.width, small.height), (40, 30));
        assert_eq!([pixel(&small, 3, 3), pixel(&small, 35, 3)], [[255, 0, 0, 255], [0, 0, 255, 128]]);
        let again = Picture::decode(&small.png).unwrap();
        assert_eq!(again.rgba, small.rgba, "and is written anew as it is");
        let large = Picture::decode(&png(2_560, 1_440)).unwrap();
        assert_eq!((large.width, large.height), (1_280, 720));
        assert_eq!(pixel(&large, 20, 700), [255, 0, 0, 255]);
    }

    #[test]
    fn a_drawing_becomes_pixels_with_opacity() {
        let svg = r##"<?xml version="1.0"?><!-- <<< --><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 10"><rect width="10" height="10" fill="#00ff00" data-x="a > b / < c"/></svg>"##;
        let picture = Picture::decode(svg.replace("&lt;", "<").replace(" / < c", "").as_bytes()).unwrap();
        assert_eq!((picture.width, picture.height), (1_024, 512));
        assert_eq!([pixel(&picture, 100, 200), pixel(&picture, 900, 200)], [[0, 255, 0, 255], [0, 0, 0, 0]]);
    }

    #[test]
    fn what_a_drawing_points_at_is_not_fetched() {
        let file = std::env::temp_dir().join("salon-picture-test.png");
        std::fs::write(&file, png(10, 10)).unwrap();
        let data = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, png(10, 10));
        for href in
            [file.display().to_string(), format!("file://{}", file.display()), format!("data:image/png;base64,{data}")]
        {
            let svg = format!(
                r#"<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 10 10"><image width="10" height="10" xlink:href="{href}" href="{href}"/></svg>"#
            );
            let picture = Picture::decode(svg.as_bytes()).unwrap();
            assert!(picture.rgba.iter().all(|value| *value == 0), "{href}");
        }
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn what_is_no_picture_or_too_much_of_one_is_refused() {
        let svg = |inner: &str| {
            format!(r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">{inner}</svg>"#).into_bytes()
        };
        let deep = format!("{}{}", "<g>".repeat(50_000), "</g>".repeat(50_000));
        let uses = "<use href='#a'/>".repeat(20);
        let mut cut = png(40, 30);
        cut.truncate(60);
        for (bytes, expected) in [
            (b"hello".to_vec(), "neither"),
            (b"GIF89a\x01\x00\x01\x00\x00\x00\x00;".to_vec(), "neither"),
            (vec![0; MAX_PICTURE_BYTES + 1], "bytes"),
            (cut, "cannot be read"),
            (png(5_000, 2), "5000×2 pixels"),
            (svg(&deep), "within each other"),
            (svg(&uses), "more than 16 of"),
            (b"<!DOCTYPE svg [<!ENTITY a 'b'>]><svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(), "defines entities"),
            (b"<svg xmlns='http://www.w3.org/2000/svg' width='0' height='0'/>".to_vec(), "cannot be read"),
            (b"<svg".to_vec(), "cannot be read"),
        ] {
            let error = Picture::decode(&bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}, expected {expected}");
        }
    }
}
