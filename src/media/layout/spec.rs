//! What a client may ask of a layout: plain values, read and checked field by field, so that
//! whoever sends a bad one is told which field it was.

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use thiserror::Error;
use utoipa::ToSchema;

use super::{Logo, MAX_TILES};
use crate::{media::colour::Colour, room::id::ParticipantId};

/// Characters of a layout's title.
pub const MAX_TITLE_CHARS: usize = 128;
/// Participants that an order may name.
pub const MAX_ORDER: usize = 256;
/// Characters of a layout's name, and of an identifier within a layout.
const MAX_NAME_CHARS: usize = 64;
/// What fractions may be beyond the canvas: `0.1 + 0.2` is not 0.3.
const SLACK: f64 = 1e-6;

/// What kind of arrangement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LayoutKind {
    /// Equal tiles.
    #[default]
    Grid,
    /// Who speaks is large, the others stand in a strip.
    Speaker,
    /// The shared screen is large, cameras stand beside it.
    Presentation,
    /// One picture fills the canvas, another lies in its corner.
    Pip,
    /// Names and level meters, no pictures.
    AudioOnly,
    /// Regions that the client draws.
    Custom,
}

impl LayoutKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Grid, Self::Speaker, Self::Presentation, Self::Pip, Self::AudioOnly, Self::Custom];

    /// As it is written; the file of the same name in `pipelines/layouts` has its measures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grid => "grid",
            Self::Speaker => "speaker",
            Self::Presentation => "presentation",
            Self::Pip => "pip",
            Self::AudioOnly => "audio-only",
            Self::Custom => "custom",
        }
    }
}

/// A layout, and what is drawn with it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct LayoutSpec {
    /// The arrangement.
    pub kind: LayoutKind,
    /// These come first, in this order; the others follow in the order they came. At most 256.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub order: Vec<ParticipantId>,
    /// Shown large, whoever speaks; in a grid first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub pinned: Option<ParticipantId>,
    /// Draw nicknames.
    pub labels: bool,
    /// Behind the tiles; left out, as the layout's file says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub background: Option<Colour>,
    /// Draw this above everything, at most 128 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Draw the server's time in the upper right corner.
    #[serde(skip_serializing_if = "is_off")]
    pub clock: bool,
    /// Draw a picture in a corner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logo: Option<Logo>,
    /// Where pictures go, for `custom` only; at most 49.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<Region>,
}

impl Default for LayoutSpec {
    fn default() -> Self {
        Self {
            kind: LayoutKind::default(),
            order: Vec::new(),
            pinned: None,
            labels: true,
            background: None,
            title: None,
            clock: false,
            logo: None,
            regions: Vec::new(),
        }
    }
}

/// A part of the canvas, in fractions of its width and height (0 to 1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Left edge.
    pub x: f64,
    /// Top edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
    /// Which lies over which: higher is nearer, −100 to 100.
    #[serde(default)]
    pub z: i32,
    /// What is done with a picture of another shape.
    #[serde(default, skip_serializing_if = "Fit::is_usual")]
    pub fit: Fit,
    /// Whom or what it shows: `speaker`, `screen`, `next` or `{"participant": …}`.
    #[schema(value_type = Object)]
    pub show: Show,
}

/// How a picture gets into a place of another shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// All of it is seen, with borders.
    #[default]
    Fit,
    /// It fills the place, and is cut off at two sides.
    Fill,
}

fn is_off(clock: &bool) -> bool {
    !clock
}

impl Fit {
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// What a region shows. Nobody is shown twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Show {
    /// One participant; nothing while he is away.
    Participant(ParticipantId),
    /// Who speaks, or is pinned.
    Speaker,
    /// The shared screen; nothing while there is none.
    Screen,
    /// The next who is not shown elsewhere.
    Next,
}

/// A layout by the name of its file, or spelled out.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum LayoutChoice {
    /// A file in `pipelines/layouts`.
    Name(String),
    /// Spelled out.
    Spec(Box<LayoutSpec>),
}

impl LayoutChoice {
    /// The file that has its measures.
    pub fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Spec(spec) => spec.kind.name(),
        }
    }
}

/// A layout that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{field}` {problem}")]
pub struct LayoutError {
    /// Which of its fields is wrong; `layout` if it has no such field at all.
    pub field: &'static str,
    /// What is wrong and what is allowed.
    pub problem: String,
}

impl LayoutError {
    /// `field` is not as it must be.
    pub fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }
}

impl LayoutSpec {
    /// A layout of that kind with everything else as usual.
    pub fn of(kind: LayoutKind) -> Self {
        Self { kind, ..Self::default() }
    }

    /// Reads and checks a layout.
    ///
    /// # Errors
    /// The first field that is unknown, of the wrong kind or out of its range.
    pub fn from_json(mut fields: Map<String, Value>) -> Result<Self, LayoutError> {
        let kind = fields.remove("kind").ok_or_else(|| LayoutError::new("kind", "is missing"))?;
        let kinds = LayoutKind::ALL.map(LayoutKind::name).join(", ");
        let mut spec = Self::of(
            serde_json::from_value(kind).map_err(|_| LayoutError::new("kind", format!("must be one of: {kinds}")))?,
        );
        for (field, value) in fields {
            // `null` is as good as nothing.
            if value.is_null() {
                continue;
            }
            match field.as_str() {
                "order" => spec.order = read("order", value)?,
                "pinned" => spec.pinned = Some(read("pinned", value)?),
                "labels" => spec.labels = read("labels", value)?,
                "background" => spec.background = Some(read("background", value)?),
                "clock" => spec.clock = read("clock", value)?,
                "logo" => spec.logo = Some(read("logo", value)?),
                "title" => spec.title = Some(read("title", value)?),
                "regions" => spec.regions = read("regions", value)?,
                other => {
                    let shown: String = other.chars().take(MAX_NAME_CHARS).collect();
                    return Err(LayoutError::new("layout", format!("has no field `{shown}`")));
                }
            }
        }
        spec.check()?;
        Ok(spec)
    }

    /// Checks all ranges.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn check(&self) -> Result<(), LayoutError> {
        if self.order.len() > MAX_ORDER {
            return Err(LayoutError::new("order", format!("must name at most {MAX_ORDER} participants")));
        }
        let named = [("order", &self.order[..]), ("pinned", self.pinned.as_slice())];
        for (field, ids) in named {
            if ids.iter().any(|id| !is_short(id.as_str())) {
                return Err(LayoutError::new(field, "must name participants by their identifiers"));
            }
        }
        if let Some(title) = &self.title
            && (title.chars().count() > MAX_TITLE_CHARS || title.chars().any(char::is_control))
        {
            let problem = format!("must have at most {MAX_TITLE_CHARS} printable characters");
            return Err(LayoutError::new("title", problem));
        }
        self.logo.as_ref().map_or(Ok(()), Logo::check)?;
        check_regions(self.kind, &self.regions)
    }
}

fn check_regions(kind: LayoutKind, regions: &[Region]) -> Result<(), LayoutError> {
    let bad = |problem: String| Err(LayoutError::new("regions", problem));
    match (kind, regions.len()) {
        (LayoutKind::Custom, 0) => return bad("must hold at least one region".into()),
        (LayoutKind::Custom, count) if count > MAX_TILES => return bad(format!("must hold at most {MAX_TILES}")),
        (LayoutKind::Custom, _) | (_, 0) => {}
        (_, _) => return bad("go with the kind `custom` only".into()),
    }
    for (index, region) in regions.iter().enumerate() {
        let Region { x, y, width, height, z, .. } = *region;
        if ![x, y, width, height].iter().all(|number| number.is_finite()) {
            return bad(format!("{index}: x, y, width and height are numbers from 0 to 1"));
        }
        if width <= 0.0 || height <= 0.0 {
            return bad(format!("{index}: must have a width and a height"));
        }
        if x < 0.0 || y < 0.0 || x + width > 1.0 + SLACK || y + height > 1.0 + SLACK {
            return bad(format!("{index}: lies outside the canvas, which goes from 0 to 1"));
        }
        if !(-100..=100).contains(&z) {
            return bad(format!("{index}: `z` must be from -100 to 100"));
        }
        if matches!(&region.show, Show::Participant(id) if !is_short(id.as_str())) {
            return bad(format!("{index}: must name a participant by his identifier"));
        }
    }
    Ok(())
}

/// As an identifier or a name of a layout may be.
pub(super) fn is_short(text: &str) -> bool {
    text.chars().count() <= MAX_NAME_CHARS
}

fn read<T: DeserializeOwned>(field: &'static str, value: Value) -> Result<T, LayoutError> {
    serde_json::from_value(value).map_err(|error| {
        let problem: String = error.to_string().chars().take(200).collect();
        LayoutError::new(field, format!("cannot be read: {problem}"))
    })
}

impl LayoutChoice {
    /// What it draws in a corner.
    pub fn logo(&self) -> Option<&Logo> {
        match self {
            Self::Name(_) => None,
            Self::Spec(spec) => spec.logo.as_ref(),
        }
    }

    /// Reads and checks a layout: a name, or an object.
    ///
    /// # Errors
    /// As [`LayoutSpec::from_json`].
    pub fn from_json(value: Value) -> Result<Self, LayoutError> {
        match value {
            Value::String(name) if is_short(&name) => Ok(Self::Name(name)),
            Value::String(_) => Err(LayoutError::new("layout", "is too long for a name")),
            Value::Object(fields) => LayoutSpec::from_json(fields).map(|spec| Self::Spec(Box::new(spec))),
            _ => Err(LayoutError::new("layout", "must be a name or an object")),
        }
    }
}

impl<'de> Deserialize<'de> for LayoutChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for LayoutSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(Map::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::media::layout::Corner;

    fn read_spec(value: Value) -> Result<LayoutSpec, &'static str> {
        let Value::Object(fields) = value else { panic!("write an object") };
        LayoutSpec::from_json(fields).map_err(|error| error.field)
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let value = json!({
            "kind": "custom", "order": ["p_1"], "pinned": "p_2", "labels": false, "background": "#0a0b0c",
            "title": "수학 & <b>", "clock": true,
            "logo": {"picture": "pic_1", "corner": "bottom-right", "size": 0.2, "opacity": 0.5},
            "regions": [
                {"x": 0.0, "y": 0.0, "width": 1.0, "height": 1.0, "z": -1, "show": "screen"},
                {"x": 0.7, "y": 0.7, "width": 0.3, "height": 0.3, "z": 2, "fit": "fill", "show": {"participant": "p_1"}},
            ],
        });
        let spec = read_spec(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&spec).unwrap(), value);
        assert_eq!(read_spec(json!({"kind": "audio-only"})).unwrap(), LayoutSpec::of(LayoutKind::AudioOnly));
        let usual = read_spec(json!({"kind": "grid", "logo": {"picture": "pic_1"}})).unwrap().logo.unwrap();
        assert_eq!((usual.corner, usual.size, usual.opacity), (Corner::TopLeft, 0.12, 0.9));
        assert_eq!(LayoutChoice::from_json(json!("grid")).unwrap().name(), "grid");
    }

    #[test]
    fn each_bad_field_is_named() {
        let region = |x: f64, width: f64| json!({"x": x, "y": 0.0, "width": width, "height": 0.5, "show": "next"});
        let custom = |regions: Value| json!({"kind": "custom", "regions": regions});
        for (value, field) in [
            (json!({}), "kind"),
            (json!({"kind": "spiral"}), "kind"),
            (json!({"kind": 7}), "kind"),
            (json!({"kind": "grid", "colour": 1}), "layout"),
            (json!({"kind": "grid", "order": "p_1"}), "order"),
            (json!({"kind": "grid", "order": vec!["p"; 257]}), "order"),
            (json!({"kind": "grid", "pinned": "x".repeat(65)}), "pinned"),
            (json!({"kind": "grid", "labels": "yes"}), "labels"),
            (json!({"kind": "grid", "clock": 12}), "clock"),
            (json!({"kind": "grid", "background": "blue"}), "background"),
            (json!({"kind": "grid", "logo": "pic_1"}), "logo"),
            (json!({"kind": "grid", "logo": {"size": 0.2}}), "logo"),
            (json!({"kind": "grid", "logo": {"picture": "x".repeat(65)}}), "logo"),
            (json!({"kind": "grid", "logo": {"picture": "pic_1", "corner": "middle"}}), "logo"),
            (json!({"kind": "grid", "logo": {"picture": "pic_1", "size": 0.41}}), "logo"),
            (json!({"kind": "grid", "logo": {"picture": "pic_1", "opacity": -0.1}}), "logo"),
            (json!({"kind": "grid", "logo": {"picture": "pic_1", "colour": 1}}), "logo"),
            (json!({"kind": "grid", "title": "x".repeat(129)}), "title"),
            (json!({"kind": "grid", "title": "a\u{0}b"}), "title"),
            (json!({"kind": "grid", "regions": [region(0.0, 0.5)]}), "regions"),
            (custom(json!([])), "regions"),
            (custom(json!(vec![region(0.0, 0.5); 50])), "regions"),
            (custom(json!([region(0.6, 0.5)])), "regions"),
            (custom(json!([region(-0.1, 0.5)])), "regions"),
            (custom(json!([region(0.1, 0.0)])), "regions"),
            (custom(json!([{"x": 0, "y": 0, "width": 1, "height": 1, "show": "everyone"}])), "regions"),
            (custom(json!([{"x": 0, "y": 0, "width": 1, "height": 1, "show": "next", "z": 101}])), "regions"),
            (custom(json!([{"x": 0, "y": 0, "width": 1, "height": 1, "show": "next", "fit": "cover"}])), "regions"),
        ] {
            assert_eq!(read_spec(value.clone()), Err(field), "{value}");
        }
        assert!(read_spec(custom(json!([region(0.1 + 0.2, 0.7)]))).is_ok(), "rounding is not outside");
    }
}
