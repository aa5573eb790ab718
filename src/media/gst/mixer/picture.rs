//! Still pictures in I420: what is drawn once and shown until it changes.

use gst_video::prelude::*;

use crate::media::{gst::preset::Colour, layout::Rect};

/// Colorimetry and chroma siting of everything in a mix. One for all: the compositor converts every
/// frame of a pad that differs from its output.
pub const COLORIMETRY: &str = "bt601";
/// See [`COLORIMETRY`].
pub const CHROMA_SITE: &str = "mpeg2";

/// A picture in memory; width and height are even.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    /// Y, U and V, without padding.
    planes: [Vec<u8>; 3],
}

impl Picture {
    /// All of one colour.
    pub fn new(width: u32, height: u32, colour: Colour) -> Self {
        let (width, height) = (width.max(2) & !1, height.max(2) & !1);
        let luma = (width * height) as usize;
        let [y, u, v] = colour.yuv();
        Self { width, height, planes: [vec![y; luma], vec![u; luma / 4], vec![v; luma / 4]] }
    }

    /// The left part of a decoded frame, `width` pixels at most.
    pub fn from_frame(frame: &gst_video::VideoFrameRef<&gst::BufferRef>, width: u32) -> Self {
        let (width, height) = (width.clamp(2, frame.width()) & !1, frame.height() & !1);
        let plane = |index: usize| {
            let (columns, rows) = if index == 0 { (width, height) } else { (width / 2, height / 2) };
            let stride = frame.plane_stride()[index] as usize;
            let data = frame.plane_data(index as u32).unwrap_or_default();
            data.chunks(stride.max(1)).take(rows as usize).flat_map(|row| &row[..columns as usize]).copied().collect()
        };
        Self { width, height, planes: [plane(0), plane(1), plane(2)] }
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Fills the part of a rectangle (even numbers) that lies on the picture.
    pub fn fill(&mut self, rect: Rect, colour: Colour) {
        for (index, value) in colour.yuv().into_iter().enumerate() {
            let shift = u32::from(index > 0);
            let stride = (self.width >> shift) as usize;
            let (left, right) = (rect.x >> shift, (rect.x + rect.width).min(self.width) >> shift);
            let (top, bottom) = (rect.y >> shift, (rect.y + rect.height).min(self.height) >> shift);
            for row in self.planes[index].chunks_mut(stride).take(bottom as usize).skip(top as usize) {
                if let Some(part) = row.get_mut(left as usize..right as usize) {
                    part.fill(value);
                }
            }
        }
    }

    /// Lays another picture into the middle of a rectangle (even numbers); what hangs over is cut off.
    pub fn paint_in_the_middle(&mut self, rect: Rect, other: &Self) {
        let (width, height) = (other.width.min(rect.width) & !1, other.height.min(rect.height) & !1);
        let (x, y) = ((rect.x + (rect.width - width) / 2) & !1, (rect.y + (rect.height - height) / 2) & !1);
        let (left, top) = (((other.width - width) / 2) & !1, ((other.height - height) / 2) & !1);
        for index in 0..3 {
            let shift = u32::from(index > 0);
            let (from, to) = ((other.width >> shift) as usize, (self.width >> shift) as usize);
            let rows = other.planes[index].chunks(from).skip((top >> shift) as usize).take((height >> shift) as usize);
            let into = self.planes[index].chunks_mut(to).skip((y >> shift) as usize);
            for (row, into) in rows.zip(into) {
                let (left, x) = ((left >> shift) as usize, (x >> shift) as usize);
                let columns = ((width >> shift) as usize).min(into.len().saturating_sub(x));
                into[x..x + columns].copy_from_slice(&row[left..left + columns]);
            }
        }
    }

    /// As a sample that is shown from running time `from` until the next one: its caps have no frame
    /// rate, so the compositor gives it no end.
    pub fn sample(&self, from: gst::ClockTime) -> gst::Sample {
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, self.width, self.height)
            .build()
            .expect("an even size has I420 planes");
        let mut data = vec![0; info.size()];
        for (index, plane) in self.planes.iter().enumerate() {
            let shift = usize::from(index > 0);
            let columns = self.width as usize >> shift;
            let rows = data[info.offset()[index]..].chunks_mut(info.stride()[index] as usize);
            plane.chunks(columns).zip(rows).for_each(|(from, to)| to[..columns].copy_from_slice(from));
        }
        let mut buffer = gst::Buffer::from_mut_slice(data);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(from);
            // An error would mean too many planes; without the meta the default layout is the same.
            let _ = gst_video::VideoMeta::add(
                buffer,
                gst_video::VideoFrameFlags::empty(),
                gst_video::VideoFormat::I420,
                self.width,
                self.height,
            );
        }
        gst::Sample::builder()
            .buffer(&buffer)
            .caps(&raw_caps(self.width, self.height).framerate((0, 1).into()).build())
            .build()
    }
}

/// Caps of everything that goes into the compositor and comes out of it.
pub fn raw_caps(width: u32, height: u32) -> gst_video::VideoCapsBuilder<gst::caps::NoFeature> {
    gst_video::VideoCapsBuilder::new()
        .format(gst_video::VideoFormat::I420)
        .width(width as i32)
        .height(height as i32)
        .pixel_aspect_ratio((1, 1).into())
        .field("colorimetry", COLORIMETRY)
        .field("chroma-site", CHROMA_SITE)
}
