//! An effect's file: the piece of a pipeline that makes it, and which element property each parameter
//! sets. Values are set as properties, never pasted into text.

use std::collections::BTreeMap;

use gst::prelude::*;
use serde::Deserialize;

use super::{
    Colour, Fragment,
    fragment::{self},
};
use crate::{
    effect::{Cost, Effect, EffectEvent, Parameter, Range, Title, Value, launch::parse_launch},
    media::Kind,
};

/// The smallest side that a picture is scaled down to, in pixels.
const MIN_SIDE: f64 = 4.0;

/// An effect, and how it is made.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EffectFile {
    pub(super) name: String,
    #[serde(skip)]
    pub(super) kind: Option<Kind>,
    pub(super) title: Title,
    pub(super) cost: Cost,
    #[serde(skip)]
    pub(super) has_preview: bool,
    /// Parameters with which it is shown to who chooses.
    #[serde(default)]
    pub(super) shown: serde_json::Map<String, serde_json::Value>,
    /// What it tells the room of.
    #[serde(default)]
    pub(super) events: Vec<EffectEvent>,
    pub(super) pipeline: Fragment,
    /// The picture gets back the size it had, in this way.
    pub restore: Option<Restore>,
    /// `identity` elements of the fragment, and what Salon does there.
    #[serde(default)]
    pub native: BTreeMap<String, Native>,
    #[serde(default)]
    pub(super) parameters: Vec<FileParameter>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileParameter {
    name: String,
    title: Title,
    range: Range,
    /// It may change while the effect runs.
    #[serde(default = "yes")]
    live: bool,
    sets: Vec<Setting>,
}

/// What a parameter does.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Setting {
    element: String,
    property: String,
    #[serde(default, rename = "as")]
    form: Form,
    /// Numbers are multiplied by this, and then …
    #[serde(default = "one")]
    factor: f64,
    /// … this is added.
    #[serde(default)]
    plus: f64,
    /// For choices: what each sets.
    #[serde(default)]
    map: BTreeMap<String, toml::Value>,
}

/// How a value becomes a property's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Form {
    /// As it is.
    #[default]
    Value,
    /// A text, escaped for Pango.
    Markup,
    /// A colour as `0xAARRGGBB`.
    Argb,
    /// One component of a colour, 0 to 255.
    Red,
    /// As before.
    Green,
    /// As before.
    Blue,
    /// A share of the picture's width, in pixels.
    Width,
    /// A share of the picture's height, in pixels.
    Height,
    /// Caps of a picture so many times smaller.
    Shrunk,
    /// Decibels as a factor.
    Decibel,
    /// A number of points, as a font.
    Font,
}

/// How a picture gets back its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restore {
    /// Smoothly.
    Smooth,
    /// In blocks of one colour.
    Blocks,
    /// Smoothly, with borders to keep its shape.
    Borders,
}

/// What stock elements do not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Native {
    /// Lays a picture with transparency over a colour or a picture.
    Flatten,
    /// Puts a test pattern in the picture's place.
    Bars,
    /// Lays a picture over it.
    Overlay,
    /// Makes it smaller, before a picture or a colour.
    Inset,
    /// Lays a picture over each face.
    FaceOverlay,
    /// Makes faces unrecognisable.
    FaceHide,
    /// Tells of faces.
    FaceTell,
    /// Makes quieter what is loud.
    Compress,
    /// Tells how loud it is.
    Level,
    /// Tells of movement.
    Motion,
    /// Reads barcodes and QR codes.
    Barcode,
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

impl EffectFile {
    /// The effect is what a client's launch line says.
    fn line<'a>(&'a self, values: &'a BTreeMap<String, Value>) -> Option<(Kind, String)> {
        self.parameters.iter().find_map(|parameter| match (&parameter.range, values.get(&parameter.name)) {
            (Range::Launch { media, .. }, Some(Value::Text(line))) => Some((*media, line.clone())),
            (Range::Launch { media, default }, _) => Some((*media, default.clone())),
            _ => None,
        })
    }

    /// As the world sees it.
    pub fn effect(&self) -> Effect {
        let parameters = self.parameters.iter().map(|parameter| Parameter {
            name: parameter.name.clone(),
            title: parameter.title.clone(),
            range: parameter.range.clone(),
            live: parameter.live,
        });
        Effect {
            name: self.name.clone(),
            kind: self.kind(),
            title: self.title.clone(),
            preview: self.has_preview.then(|| format!("/api/effects/{}/preview.jpg", self.name)),
            cost: self.cost,
            events: self.events.clone(),
            parameters: parameters.collect(),
            shown: self.shown.clone(),
        }
    }

    /// On pictures or on sound.
    pub fn kind(&self) -> Kind {
        self.kind.unwrap_or(Kind::Video)
    }

    /// The piece with all that does not depend on parameters; of a client's launch line, all of it.
    pub fn build(&self, values: &BTreeMap<String, Value>) -> Result<gst::Bin, String> {
        if let Some((media, line)) = self.line(values) {
            return fragment::of_client(&parse_launch(&line, media).map_err(|error| error.to_string())?);
        }
        let bin = self.pipeline.build_through()?;
        if let Some(missing) = self.native.keys().find(|name| bin.by_name(name).is_none()) {
            return Err(format!("`native.{missing}`: there is no element of that name"));
        }
        Ok(bin)
    }

    /// Sets what parameters of these values set; what depends on the picture's size only if that is
    /// known. `native` takes what is not a property of an element.
    pub fn apply(
        &self,
        bin: &gst::Bin,
        values: &BTreeMap<String, Value>,
        frame: Option<(u32, u32)>,
        mut native: impl FnMut(&str, &str, &Value) -> Result<(), String>,
    ) -> Result<(), String> {
        for parameter in &self.parameters {
            let value = values.get(&parameter.name).cloned().unwrap_or_else(|| parameter.range.default());
            for setting in &parameter.sets {
                if self.native.contains_key(&setting.element) {
                    native(&setting.element, &setting.property, &value)?;
                } else if let Some(value) = setting.value(&value, frame)? {
                    fragment::set(bin, &setting.element, &setting.property, &value)?;
                }
            }
        }
        Ok(())
    }
}

impl Setting {
    /// `None`: it needs the size of the picture.
    fn value(&self, value: &Value, frame: Option<(u32, u32)>) -> Result<Option<toml::Value>, String> {
        let mismatch = || format!("`{}.{}`: `{value:?}` cannot be set as {:?}", self.element, self.property, self.form);
        let number = |number: &f64| number * self.factor + self.plus;
        Ok(Some(match (&self.form, value) {
            (Form::Value, Value::Text(text)) => match self.map.get(text) {
                Some(mapped) => mapped.clone(),
                None => toml::Value::String(text.clone()),
            },
            (Form::Value, Value::Number(value)) => as_number(number(value)),
            (Form::Value, Value::Toggle(toggle)) => match self.map.get(&toggle.to_string()) {
                Some(mapped) => mapped.clone(),
                None => toml::Value::Boolean(*toggle),
            },
            (Form::Markup, Value::Text(text)) => toml::Value::String(gst::glib::markup_escape_text(text).into()),
            (Form::Font, Value::Number(value)) => toml::Value::String(format!("{FONT} {}", number(value))),
            (Form::Decibel, Value::Number(value)) => toml::Value::Float(10f64.powf(number(value) / 20.0)),
            (Form::Argb | Form::Red | Form::Green | Form::Blue, Value::Text(text)) => {
                let colour = Colour::try_from(text.clone())?;
                toml::Value::Integer(match self.form {
                    Form::Argb => colour.argb().into(),
                    Form::Red => colour.red.into(),
                    Form::Green => colour.green.into(),
                    _ => colour.blue.into(),
                })
            }
            (Form::Width | Form::Height | Form::Shrunk, Value::Number(value)) => {
                let Some((width, height)) = frame else { return Ok(None) };
                match self.form {
                    Form::Width => as_number((number(value) * f64::from(width)).round()),
                    Form::Height => as_number((number(value) * f64::from(height)).round()),
                    _ => {
                        let side = |side: u32| (f64::from(side) / number(value).max(1.0)).max(MIN_SIDE).round() as u32;
                        toml::Value::String(size_caps(side(width), side(height)))
                    }
                }
            }
            _ => return Err(mismatch()),
        }))
    }
}

/// Fonts that have what people write here; Pango takes the first that is installed.
const FONT: &str = "Noto Sans CJK KR, Noto Sans";

/// A picture of that size, of square pixels.
pub fn size_caps(width: u32, height: u32) -> String {
    format!("video/x-raw,width={width},height={height},pixel-aspect-ratio=1/1")
}

/// Whole numbers are written as such: properties that are integers take no other.
fn as_number(number: f64) -> toml::Value {
    if number.fract() == 0.0 && number.abs() < 9e15 {
        toml::Value::Integer(number as i64)
    } else {
        toml::Value::Float(number)
    }
}
