//! A picture in a corner of a mix.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::LayoutError;
use crate::room::id::PictureId;

/// The logo's width, of the canvas's.
const SIZES: std::ops::RangeInclusive<f64> = 0.05..=0.4;

/// A picture of the room's that is drawn above everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Logo {
    /// Which: one that was given to the room (`POST /api/rooms/{room}/pictures`).
    #[schema(value_type = String)]
    pub picture: PictureId,
    /// Where; the clock is in the upper right one.
    #[serde(default)]
    pub corner: Corner,
    /// Its width, of the canvas's, 0.05 to 0.4.
    #[serde(default = "usual_size")]
    #[schema(minimum = 0.05, maximum = 0.4)]
    pub size: f64,
    /// 0 (nothing is seen of it) to 1.
    #[serde(default = "usual_opacity")]
    #[schema(minimum = 0, maximum = 1)]
    pub opacity: f64,
}

/// A corner of the canvas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Corner {
    /// Upper left.
    #[default]
    TopLeft,
    /// Upper right.
    TopRight,
    /// Lower left.
    BottomLeft,
    /// Lower right.
    BottomRight,
}

impl Corner {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::TopLeft => "top-left",
            Self::TopRight => "top-right",
            Self::BottomLeft => "bottom-left",
            Self::BottomRight => "bottom-right",
        }
    }
}

impl Logo {
    /// Checks its ranges; whether there is such a picture, the room knows.
    ///
    /// # Errors
    /// The first that is out of its range.
    pub(super) fn check(&self) -> Result<(), LayoutError> {
        if !super::spec::is_short(self.picture.as_str()) {
            return Err(LayoutError::new("logo", "`picture` must be the identifier of one of the room's pictures"));
        }
        if !SIZES.contains(&self.size) {
            let problem = format!("`size` must be from {} to {} of the canvas's width", SIZES.start(), SIZES.end());
            return Err(LayoutError::new("logo", problem));
        }
        if !(0.0..=1.0).contains(&self.opacity) {
            return Err(LayoutError::new("logo", "`opacity` must be from 0 to 1"));
        }
        Ok(())
    }
}

fn usual_size() -> f64 {
    0.12
}

fn usual_opacity() -> f64 {
    0.9
}
