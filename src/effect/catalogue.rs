//! What effects there are, and what may be said of each.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    launch::parse_launch,
    picture::{Picture, find_picture},
};
use crate::media::{Kind, colour::Colour};

/// The longest text a parameter may take, in characters.
const MAX_TEXT_CHARS: usize = 1_000;
/// Parameters of one effect.
const MAX_PARAMETERS: usize = 16;
/// Values to choose from.
const MAX_OPTIONS: usize = 64;

/// An effect that this server has.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Effect {
    /// What requests call it.
    pub name: String,
    /// On pictures or on sound.
    pub kind: Kind,
    /// What people call it.
    pub title: Title,
    /// Where a small picture (JPEG) of what it does is, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
    /// What it costs.
    pub cost: Cost,
    /// What it tells the room of, as events of that name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EffectEvent>,
    /// What may be said of it.
    pub parameters: Vec<Parameter>,
    /// Parameters with which pictures of what it does are made, where that is not seen with the defaults.
    #[serde(skip)]
    pub shown: serde_json::Map<String, serde_json::Value>,
}

/// A few words for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Title {
    /// In English.
    pub en: String,
    /// In Korean.
    pub ko: String,
}

/// What an effect takes of a processor core on a picture of 640×360 at 30 frames a second, or on sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cost {
    /// Up to 3 %.
    Low,
    /// Up to 10 %.
    Medium,
    /// More.
    High,
}

/// What effects tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EffectEvent {
    /// A barcode or QR code was read.
    Barcode,
    /// Something began to move, or ceased to.
    Motion,
    /// Faces are there, or no longer.
    Face,
    /// How loud it is.
    Level,
}

impl Cost {
    /// What it counts against a room's budget.
    pub fn points(self) -> u32 {
        match self {
            Self::Low => 1,
            Self::Medium => 3,
            Self::High => 10,
        }
    }
}

/// Something that may be said of an effect.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Parameter {
    /// What requests call it.
    pub name: String,
    /// What people call it.
    pub title: Title,
    /// What it may be.
    pub range: Range,
    /// It changes while the effect runs; another one makes the effect begin anew, within a frame.
    pub live: bool,
}

/// What a parameter may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Range {
    /// A number.
    Number {
        /// Smallest.
        min: f64,
        /// Largest.
        max: f64,
        /// Distance of neighbours on a slider; only whole steps from `min` if it is 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        step: Option<f64>,
        /// Of what.
        #[serde(skip_serializing_if = "Option::is_none")]
        unit: Option<String>,
        /// If nothing is said.
        default: f64,
    },
    /// A text, drawn as it is written.
    Text {
        /// In characters.
        max_chars: usize,
        /// If nothing is said.
        default: String,
    },
    /// Yes or no.
    Toggle {
        /// If nothing is said.
        default: bool,
    },
    /// One of several.
    Choice {
        /// Which.
        options: Vec<Selectable>,
        /// If nothing is said.
        default: String,
    },
    /// `#rrggbb`.
    Colour {
        /// If nothing is said.
        #[schema(value_type = String)]
        default: Colour,
    },
    /// A launch line, read and let through as [`launch`](super::launch) says: for programs.
    Launch {
        /// For pictures or for sound.
        media: Kind,
        /// If nothing is said.
        default: String,
    },
    /// A picture: one of these, or one that was given to the room (`POST /api/rooms/{room}/pictures`), by
    /// its identifier.
    Picture {
        /// Those that every room has.
        options: Vec<Selectable>,
        /// If nothing is said; one of them.
        default: String,
    },
}

/// One of several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Selectable {
    /// What requests call it.
    pub value: String,
    /// What people call it.
    pub title: Title,
}

/// What a parameter is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Value {
    /// Of a toggle.
    Toggle(bool),
    /// Of a number.
    Number(f64),
    /// Of a text, a choice, a colour, or a picture that every room has.
    Text(String),
    /// A picture of the room, told by its identifier.
    #[serde(skip_deserializing)]
    Picture(#[schema(value_type = String)] Arc<Picture>),
}

impl Effect {
    /// Whether it can be in a catalogue.
    ///
    /// # Errors
    /// What is wrong with it, for whoever wrote it.
    pub fn check(&self) -> Result<(), String> {
        self.title.check("title")?;
        if self.parameters.len() > MAX_PARAMETERS {
            return Err(format!("`parameters`: at most {MAX_PARAMETERS}"));
        }
        for (index, parameter) in self.parameters.iter().enumerate() {
            parameter.check().map_err(|problem| format!("`parameters.{}`: {problem}", parameter.name))?;
            if self.parameters[..index].iter().any(|other| other.name == parameter.name) {
                return Err(format!("`parameters.{}`: it is there twice", parameter.name));
            }
        }
        Ok(())
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }
}

impl Title {
    fn check(&self, key: &str) -> Result<(), String> {
        let good = |text: &String| (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        if good(&self.en) && good(&self.ko) {
            return Ok(());
        }
        Err(format!("`{key}`: `en` and `ko` have 1 to 64 printable characters"))
    }
}

impl Parameter {
    fn check(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !(1..=32).contains(&self.name.len()) || !self.name.chars().all(plain) {
            return Err("its name is not 1 to 32 of a-z, 0-9 and _".into());
        }
        self.title.check("title")?;
        self.range.check()
    }
}

impl Range {
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Number { min, max, step, .. } => {
                let ordered = min.is_finite() && max.is_finite() && min < max;
                if !ordered || step.is_some_and(|step| !step.is_finite() || step <= 0.0) {
                    return Err("`min` is less than `max`, and `step` more than 0".into());
                }
            }
            Self::Text { max_chars, .. } if !(1..=MAX_TEXT_CHARS).contains(max_chars) => {
                return Err(format!("`max_chars` is from 1 to {MAX_TEXT_CHARS}"));
            }
            Self::Choice { options, .. } | Self::Picture { options, .. } => {
                if !(1..=MAX_OPTIONS).contains(&options.len()) {
                    return Err(format!("it has 1 to {MAX_OPTIONS} options"));
                }
                options.iter().try_for_each(|option| option.title.check("title"))?;
            }
            Self::Text { .. } | Self::Toggle { .. } | Self::Colour { .. } | Self::Launch { .. } => {}
        }
        self.take(&serde_json::to_value(self.default()).unwrap_or_default(), &[])
            .map_err(|error| format!("`default` {error}"))?;
        Ok(())
    }

    /// What it is if nothing is said.
    pub fn default(&self) -> Value {
        match self {
            Self::Number { default, .. } => Value::Number(*default),
            Self::Text { default, .. }
            | Self::Choice { default, .. }
            | Self::Picture { default, .. }
            | Self::Launch { default, .. } => Value::Text(default.clone()),
            Self::Toggle { default } => Value::Toggle(*default),
            Self::Colour { default } => Value::Text((*default).into()),
        }
    }

    /// Reads a value. `pictures`: those that were given to the room.
    ///
    /// # Errors
    /// What it must be instead.
    pub(crate) fn take(&self, value: &serde_json::Value, pictures: &[Arc<Picture>]) -> Result<Value, String> {
        match self {
            Self::Number { min, max, step, .. } => {
                let whole = *step == Some(1.0);
                let good = |number: &f64| (*min..=*max).contains(number) && (!whole || number.fract() == 0.0);
                let kind = if whole { "a whole number" } else { "a number" };
                let number = value.as_f64().filter(good);
                number.map(Value::Number).ok_or_else(|| format!("must be {kind} from {min} to {max}"))
            }
            Self::Text { max_chars, .. } => {
                let good = |text: &&str| {
                    text.chars().count() <= *max_chars && !text.chars().any(|c| c.is_control() && c != '\n')
                };
                let text = value.as_str().filter(good);
                text.map(|text| Value::Text(text.into()))
                    .ok_or_else(|| format!("must be a text of at most {max_chars} printable characters"))
            }
            Self::Toggle { .. } => value.as_bool().map(Value::Toggle).ok_or_else(|| "must be true or false".into()),
            Self::Choice { options, .. } => {
                let text = value.as_str().filter(|text| options.iter().any(|option| option.value == *text));
                let names: Vec<&str> = options.iter().map(|option| option.value.as_str()).collect();
                text.map(|text| Value::Text(text.into())).ok_or_else(|| format!("must be one of: {}", names.join(", ")))
            }
            Self::Colour { .. } => {
                let colour = value.as_str().and_then(|text| Colour::try_from(text.to_owned()).ok());
                colour.map(|colour| Value::Text(colour.into())).ok_or_else(|| "must be a colour, `#rrggbb`".into())
            }
            Self::Launch { media, .. } => {
                let line = value.as_str().ok_or_else(|| "must be a launch line".to_owned())?;
                parse_launch(line, *media).map_err(|error| format!("is refused: {error}"))?;
                Ok(Value::Text(line.into()))
            }
            Self::Picture { options, .. } => {
                let names: Vec<&str> = options.iter().map(|option| option.value.as_str()).collect();
                let text = value.as_str().unwrap_or_default();
                if names.contains(&text) {
                    return Ok(Value::Text(text.into()));
                }
                find_picture(text, pictures).cloned().map(Value::Picture).ok_or_else(|| {
                    format!("must be one of: {}, or a picture that was given to the room", names.join(", "))
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn range(toml: &str) -> Range {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn values_are_taken_within_their_ranges_and_no_others() {
        let number = range("type = 'number'\nmin = 0.5\nmax = 2\ndefault = 1");
        assert_eq!(number.take(&json!(2), &[]), Ok(Value::Number(2.0)));
        for bad in [json!(2.01), json!("1"), json!(null), json!(true), json!([1])] {
            assert_eq!(number.take(&bad, &[]), Err("must be a number from 0.5 to 2".into()), "{bad}");
        }
        let whole = range("type = 'number'\nmin = 1\nmax = 9\nstep = 1\ndefault = 1");
        assert!(whole.take(&json!(3), &[]).is_ok() && whole.take(&json!(3.5), &[]).is_err());
        let text = range("type = 'text'\nmax_chars = 3\ndefault = ''");
        assert_eq!(text.take(&json!("가<&"), &[]), Ok(Value::Text("가<&".into())));
        assert!(text.take(&json!("abcd"), &[]).is_err() && text.take(&json!("a\u{7}"), &[]).is_err());
        let colour = range("type = 'colour'\ndefault = '#00ff00'");
        assert_eq!(colour.take(&json!("#ABCDEF"), &[]), Ok(Value::Text("#abcdef".into())));
        assert!(colour.take(&json!("green"), &[]).is_err());
        assert_eq!(range("type = 'toggle'\ndefault = true").take(&json!(false), &[]), Ok(Value::Toggle(false)));
        let choice = range("type = 'choice'\ndefault = 'a'\n[[options]]\nvalue = 'a'\ntitle = { en = 'A', ko = '가' }");
        assert_eq!(choice.take(&json!("b"), &[]), Err("must be one of: a".into()));
    }

    #[test]
    fn an_effect_that_contradicts_itself_is_refused() {
        let title = || Title { en: "A".into(), ko: "가".into() };
        let with = |name: &str, range: Range| Parameter { name: name.into(), title: title(), range, live: true };
        let effect = |parameters| Effect {
            name: "a".into(),
            kind: Kind::Video,
            title: title(),
            preview: None,
            cost: Cost::Low,
            events: vec![],
            parameters,
            shown: serde_json::Map::new(),
        };
        let toggle = || range("type = 'toggle'\ndefault = true");
        assert_eq!(effect(vec![with("a", toggle())]).check(), Ok(()));
        let outside = range("type = 'number'\nmin = 0\nmax = 1\ndefault = 2");
        for (wrong, expected) in [
            (vec![with("a", toggle()), with("a", toggle())], "twice"),
            (vec![with("A b", toggle())], "name"),
            (vec![with("a", outside)], "`default` must be a number from 0 to 1"),
            (vec![with("a", range("type = 'number'\nmin = 1\nmax = 1\ndefault = 1"))], "`min` is less"),
            (vec![with("a", range("type = 'choice'\noptions = []\ndefault = ''"))], "options"),
        ] {
            let error = effect(wrong).check().unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
