//! A colour, as people and files write it.

use serde::{Deserialize, Serialize};

/// A colour, sRGB; written `#rrggbb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Colour {
    /// Red.
    pub red: u8,
    /// Green.
    pub green: u8,
    /// Blue.
    pub blue: u8,
}

impl Colour {
    /// As `0xAARRGGBB`, opaque: how GStreamer's text and test elements take colours.
    pub fn argb(self) -> u32 {
        u32::from_be_bytes([0xff, self.red, self.green, self.blue])
    }

    /// As studio-range Y′CbCr of ITU-R BT.601, which is what 8-bit video of unstated colorimetry is.
    pub fn yuv(self) -> [u8; 3] {
        let [red, green, blue] = [self.red, self.green, self.blue].map(f64::from);
        let y = 16.0 + 0.256_788 * red + 0.504_129 * green + 0.097_906 * blue;
        let u = 128.0 - 0.148_223 * red - 0.290_993 * green + 0.439_216 * blue;
        let v = 128.0 + 0.439_216 * red - 0.367_788 * green - 0.071_427 * blue;
        [y, u, v].map(|value| value.round() as u8)
    }
}

impl TryFrom<String> for Colour {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii());
        let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let [_, red, green, blue] =
            number.ok_or_else(|| format!("`{text}` is not a colour; write `#rrggbb`"))?.to_be_bytes();
        Ok(Self { red, green, blue })
    }
}

impl From<Colour> for String {
    fn from(Colour { red, green, blue }: Colour) -> Self {
        format!("#{red:02x}{green:02x}{blue:02x}")
    }
}
