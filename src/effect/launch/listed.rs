//! What a launch line may say: elements, their properties, and what each of these takes.

use crate::media::Kind;

/// What a property takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Takes {
    /// A number within.
    Number(f64, f64),
    /// A whole number within.
    Integer(i64, i64),
    /// `true` or `false`.
    Bool,
    /// One of these words: those of an enumeration, as GStreamer 1.22 has it.
    OneOf(&'static [&'static str]),
    /// A text that is drawn.
    Text,
}

use Takes::{Bool, Integer, Number, OneOf, Text};

pub(super) type Properties = &'static [(&'static str, Takes)];

/// A colour is a 32-bit number.
const COLOUR: Takes = Integer(0, 4_294_967_295);
const UNIT: Takes = Number(0.0, 1.0);
const SIGNED: Takes = Number(-1.0, 1.0);
const BYTE: Takes = Integer(0, 255);
const PIXELS: Takes = Integer(0, 4_096);

const NONE: Properties = &[];
const DRAWN: Properties = &[
    ("text", Text),
    ("font-desc", Text),
    ("halignment", OneOf(&["left", "center", "right", "absolute"])),
    ("valignment", OneOf(&["baseline", "bottom", "top", "center", "absolute"])),
    ("line-alignment", OneOf(&["left", "center", "right"])),
    ("wrap-mode", OneOf(&["none", "word", "char", "wordchar"])),
    ("xpad", PIXELS),
    ("ypad", PIXELS),
    ("deltax", Integer(-4_096, 4_096)),
    ("deltay", Integer(-4_096, 4_096)),
    ("xpos", UNIT),
    ("ypos", UNIT),
    ("color", COLOUR),
    ("outline-color", COLOUR),
    ("shaded-background", Bool),
    ("shading-value", Integer(1, 255)),
    ("draw-shadow", Bool),
    ("draw-outline", Bool),
];
const EQUALISER: Properties = &[
    ("band0", Number(-24.0, 12.0)),
    ("band1", Number(-24.0, 12.0)),
    ("band2", Number(-24.0, 12.0)),
    ("band3", Number(-24.0, 12.0)),
    ("band4", Number(-24.0, 12.0)),
    ("band5", Number(-24.0, 12.0)),
    ("band6", Number(-24.0, 12.0)),
    ("band7", Number(-24.0, 12.0)),
    ("band8", Number(-24.0, 12.0)),
    ("band9", Number(-24.0, 12.0)),
];

/// All that a line may use: pictures or sound in, the same out, and nothing that reads, writes, sleeps
/// or says who it is.
pub(super) const ELEMENTS: &[(&str, Kind, Properties)] = &[
    (
        "videoflip",
        Kind::Video,
        &[
            (
                "method",
                OneOf(&[
                    "none",
                    "clockwise",
                    "rotate-180",
                    "counterclockwise",
                    "horizontal-flip",
                    "vertical-flip",
                    "upper-left-diagonal",
                    "upper-right-diagonal",
                ]),
            ),
            ("video-direction", OneOf(&["identity", "90r", "180", "90l", "horiz", "vert", "ul-lr", "ur-ll"])),
        ],
    ),
    (
        "videobalance",
        Kind::Video,
        &[("brightness", SIGNED), ("contrast", Number(0.0, 2.0)), ("saturation", Number(0.0, 2.0)), ("hue", SIGNED)],
    ),
    ("gamma", Kind::Video, &[("gamma", Number(0.01, 10.0))]),
    ("coloreffects", Kind::Video, &[("preset", OneOf(&["none", "heat", "sepia", "xray", "xpro", "yellowblue"]))]),
    ("gaussianblur", Kind::Video, &[("sigma", Number(-20.0, 20.0))]),
    ("textoverlay", Kind::Video, DRAWN),
    ("timeoverlay", Kind::Video, DRAWN),
    ("clockoverlay", Kind::Video, DRAWN),
    (
        "alpha",
        Kind::Video,
        &[
            ("method", OneOf(&["set", "green", "blue", "custom"])),
            ("alpha", UNIT),
            ("target-r", BYTE),
            ("target-g", BYTE),
            ("target-b", BYTE),
            ("angle", Number(0.0, 90.0)),
            ("noise-level", Number(0.0, 64.0)),
            ("black-sensitivity", Integer(0, 128)),
            ("white-sensitivity", Integer(0, 128)),
        ],
    ),
    (
        "agingtv",
        Kind::Video,
        &[("scratch-lines", Integer(0, 20)), ("color-aging", Bool), ("pits", Bool), ("dusts", Bool)],
    ),
    ("dicetv", Kind::Video, &[("square-bits", Integer(0, 5))]),
    ("edgetv", Kind::Video, NONE),
    (
        "optv",
        Kind::Video,
        &[
            ("mode", OneOf(&["maelstrom", "radiation", "horizontal-stripes", "vertical-stripes"])),
            ("speed", Integer(-100, 100)),
            ("threshold", BYTE),
        ],
    ),
    (
        "radioactv",
        Kind::Video,
        &[
            ("mode", OneOf(&["normal", "strobe1", "strobe2", "trigger"])),
            ("color", OneOf(&["red", "green", "blue", "white"])),
        ],
    ),
    ("revtv", Kind::Video, &[("gain", Integer(1, 200)), ("linespace", Integer(1, 100))]),
    ("rippletv", Kind::Video, &[("mode", OneOf(&["motion-detection", "rain"]))]),
    ("shagadelictv", Kind::Video, NONE),
    ("streaktv", Kind::Video, &[("feedback", Bool)]),
    ("vertigotv", Kind::Video, &[("speed", Number(0.01, 100.0)), ("zoom-speed", Number(1.01, 1.1))]),
    ("warptv", Kind::Video, NONE),
    ("burn", Kind::Video, &[("adjustment", Integer(0, 256))]),
    ("chromium", Kind::Video, &[("edge-a", Integer(0, 256)), ("edge-b", Integer(0, 256))]),
    ("dilate", Kind::Video, &[("erode", Bool)]),
    ("dodge", Kind::Video, NONE),
    ("exclusion", Kind::Video, &[("factor", Integer(1, 175))]),
    ("solarize", Kind::Video, &[("threshold", Integer(0, 256)), ("start", Integer(0, 256)), ("end", Integer(0, 256))]),
    ("bulge", Kind::Video, &[("zoom", Number(1.0, 100.0)), ("x-center", UNIT), ("y-center", UNIT), ("radius", UNIT)]),
    ("fisheye", Kind::Video, NONE),
    (
        "kaleidoscope",
        Kind::Video,
        &[("sides", Integer(2, 64)), ("angle", Number(0.0, 360.0)), ("angle2", Number(0.0, 360.0))],
    ),
    ("mirror", Kind::Video, &[("mode", OneOf(&["left", "right", "top", "bottom"]))]),
    ("pinch", Kind::Video, &[("intensity", SIGNED), ("x-center", UNIT), ("y-center", UNIT), ("radius", UNIT)]),
    (
        "sphere",
        Kind::Video,
        &[("refraction", Number(1.0, 10.0)), ("x-center", UNIT), ("y-center", UNIT), ("radius", UNIT)],
    ),
    ("stretch", Kind::Video, &[("intensity", UNIT), ("x-center", UNIT), ("y-center", UNIT), ("radius", UNIT)]),
    ("twirl", Kind::Video, &[("angle", Number(-10.0, 10.0)), ("x-center", UNIT), ("y-center", UNIT), ("radius", UNIT)]),
    (
        "waterripple",
        Kind::Video,
        &[("amplitude", Number(0.0, 100.0)), ("phase", Number(-100.0, 100.0)), ("wavelength", Number(1.0, 1_000.0))],
    ),
    ("volume", Kind::Audio, &[("volume", Number(0.0, 10.0)), ("mute", Bool)]),
    (
        "audioamplify",
        Kind::Audio,
        &[
            ("amplification", Number(-20.0, 20.0)),
            ("clipping-method", OneOf(&["clip", "wrap-negative", "wrap-positive", "none"])),
        ],
    ),
    (
        "audioecho",
        Kind::Audio,
        &[
            ("max-delay", Integer(1, 2_000_000_000)),
            ("delay", Integer(1, 2_000_000_000)),
            ("intensity", UNIT),
            ("feedback", UNIT),
        ],
    ),
    (
        "audiocheblimit",
        Kind::Audio,
        &[
            ("mode", OneOf(&["low-pass", "high-pass"])),
            ("cutoff", Number(1.0, 20_000.0)),
            ("poles", Integer(2, 16)),
            ("ripple", Number(0.0, 10.0)),
        ],
    ),
    (
        "audiodynamic",
        Kind::Audio,
        &[
            ("characteristics", OneOf(&["hard-knee", "soft-knee"])),
            ("mode", OneOf(&["compressor", "expander"])),
            ("threshold", UNIT),
            ("ratio", Number(0.0, 10.0)),
        ],
    ),
    ("audioinvert", Kind::Audio, &[("degree", UNIT)]),
    (
        "audiokaraoke",
        Kind::Audio,
        &[
            ("level", UNIT),
            ("mono-level", UNIT),
            ("filter-band", Number(0.0, 441.0)),
            ("filter-width", Number(0.0, 100.0)),
        ],
    ),
    ("audiopanorama", Kind::Audio, &[("panorama", SIGNED), ("method", OneOf(&["psychoacoustic", "simple"]))]),
    ("equalizer-3bands", Kind::Audio, EQUALISER.split_at(3).0),
    ("equalizer-10bands", Kind::Audio, EQUALISER),
    // Not `tempo` and `rate`: sound that is longer than its pictures.
    ("pitch", Kind::Audio, &[("pitch", Number(0.1, 10.0))]),
];

/// For each listed property and all its words, or the ends of its range: a line that sets it so.
#[cfg(all(test, feature = "gstreamer"))]
pub(crate) fn every_line() -> Vec<(&'static str, Kind, String)> {
    let mut lines = Vec::new();
    for (element, kind, properties) in ELEMENTS {
        lines.push((*element, *kind, (*element).to_owned()));
        for (property, takes) in *properties {
            let values = match takes {
                Number(least, most) => vec![least.to_string(), most.to_string()],
                Integer(least, most) => vec![least.to_string(), format!("{most:#x}")],
                Bool => vec!["true".into(), "false".into()],
                OneOf(words) => words.iter().map(|word| (*word).to_owned()).collect(),
                Text => vec!["\"a <b> text\"".into()],
            };
            lines.extend(values.into_iter().map(|value| (*element, *kind, format!("{element} {property}={value}"))));
        }
    }
    lines
}
