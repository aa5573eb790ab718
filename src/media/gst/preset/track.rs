//! What encodes a track again after its effects: raw media in, RTP of the track's own codec out.

use gst::prelude::*;
use serde::Deserialize;

use super::{BitrateRule, Fragment, fragment};
use crate::media::{CodecName, MediaError};

/// Pictures a second that bit rates are reckoned with: those of a published track vary.
const USUAL_FPS: u32 = 30;

/// Raw media in, RTP out.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackEncoder {
    /// What it is called.
    pub name: String,
    /// Of what comes out.
    pub codec: CodecName,
    pub(super) rank: u32,
    pub(super) pipeline: Fragment,
    /// For pictures.
    pub(super) bitrate: Option<BitrateRule>,
}

impl TrackEncoder {
    /// A bin with a sink for I420, or S16 of 48 kHz, and a source of RTP; its elements `encoder` and
    /// `payloader` are named so.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if it cannot be built, or an element of these names is missing.
    pub fn build(&self) -> Result<gst::Bin, MediaError> {
        let bin = self.pipeline.build().map_err(MediaError::Unavailable)?;
        for name in ["encoder", "payloader"] {
            if bin.by_name(name).is_none() {
                return Err(MediaError::Unavailable(format!("`pipeline.launch`: there is no element `{name}`")));
            }
        }
        self.set_size(&bin, 640, 360)?;
        Ok(bin)
    }

    /// Chooses the bit rate for a picture of that size.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if the encoder does not take it.
    pub fn set_size(&self, bin: &gst::Bin, width: u32, height: u32) -> Result<(), MediaError> {
        let Some(rule) = &self.bitrate else { return Ok(()) };
        let rate = rule.for_canvas(width, height, USUAL_FPS) / rule.unit_bps;
        fragment::set(bin, &rule.element, &rule.property, &i64::from(rate).into()).map_err(MediaError::Unavailable)
    }
}
