//! Launch lines that clients write (Kurento's and OpenVidu's `GStreamerFilter`): read by us, and let
//! through only with listed elements and listed properties. No text of a client reaches GStreamer's own
//! parser.
//!
//! What is understood: elements joined by `!`, each followed by `property=value`; a value is a word, or
//! stands in double quotes, where `\"` and `\\` are what they are in C. Nothing else is: no bins, no
//! references to elements or pads, no caps, no comments.

use thiserror::Error;

use self::listed::{
    ELEMENTS, Takes,
    Takes::{Bool, Integer, Number, OneOf, Text},
};
use crate::media::Kind;

mod listed;
#[cfg(all(test, feature = "gstreamer"))]
pub(crate) use listed::every_line;

/// A line's length, in characters.
pub const MAX_LINE_CHARS: usize = 1_000;
/// Elements of a line.
const MAX_ELEMENTS: usize = 8;
/// Properties of an element.
const MAX_PROPERTIES: usize = 16;
/// Characters of a refused word that are told.
const MAX_ECHO_CHARS: usize = 40;

/// An element of a line; all of it is listed here, but for values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchElement {
    /// Its factory.
    pub factory: &'static str,
    /// What is set on it, in order.
    pub properties: Vec<(&'static str, String)>,
}

/// A line that is not let through.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LaunchError {
    /// More than is read.
    #[error("the launch line has more than {most} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// The limit.
        most: usize,
    },
    /// Something that is not understood.
    #[error("the launch line is not understood at `{0}`: write elements joined by `!`, each with `property=value`")]
    Syntax(String),
    /// Not a listed element.
    #[error("the element `{0}` is not allowed in a launch line")]
    Element(String),
    /// A listed element, for the other kind of media.
    #[error("the element `{0}` is not one for this kind of media")]
    Kind(&'static str),
    /// Not a listed property of it.
    #[error("the property `{property}` of `{element}` is not allowed in a launch line")]
    Property {
        /// Of which element.
        element: &'static str,
        /// Which.
        property: String,
    },
    /// A value that is not one.
    #[error("the value `{value}` of `{element} {property}` is not allowed: {problem}")]
    Value {
        /// Of which element.
        element: &'static str,
        /// Of which property.
        property: &'static str,
        /// As it was written.
        value: String,
        /// Why not.
        problem: String,
    },
}

/// Reads a line for pictures or for sound.
///
/// # Errors
/// Names what is refused.
pub fn parse_launch(line: &str, kind: Kind) -> Result<Vec<LaunchElement>, LaunchError> {
    if line.chars().count() > MAX_LINE_CHARS {
        return Err(LaunchError::TooMuch { what: "characters", most: MAX_LINE_CHARS });
    }
    let tokens = tokens(line)?;
    let mut elements = Vec::new();
    for part in tokens.split(|token| *token == Token::Link) {
        elements.push(element(part, kind)?);
        if elements.len() > MAX_ELEMENTS {
            return Err(LaunchError::TooMuch { what: "elements", most: MAX_ELEMENTS });
        }
    }
    Ok(elements)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// `!`
    Link,
    /// A name alone.
    Name(String),
    /// `name=value`
    Setting(String, String),
}

fn tokens(line: &str) -> Result<Vec<Token>, LaunchError> {
    let mut tokens = Vec::new();
    let mut rest = line.trim_start_matches([' ', '\t']);
    while !rest.is_empty() {
        let word = rest;
        if let Some(after) = rest.strip_prefix('!') {
            tokens.push(Token::Link);
            rest = after;
        } else {
            let name_end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
            let (name, after) = rest.split_at(name_end);
            if name.is_empty() {
                return Err(LaunchError::Syntax(shortened(rest)));
            }
            rest = match after.strip_prefix('=') {
                Some(after) => {
                    let (value, after) = value(after)?;
                    tokens.push(Token::Setting(name.to_owned(), value));
                    after
                }
                None => {
                    tokens.push(Token::Name(name.to_owned()));
                    after
                }
            };
            // What follows a word is its end, and nothing that would be glued to it.
            if !rest.is_empty() && !rest.starts_with([' ', '\t', '!']) {
                return Err(LaunchError::Syntax(shortened(word)));
            }
        }
        rest = rest.trim_start_matches([' ', '\t']);
    }
    Ok(tokens)
}

fn value(text: &str) -> Result<(String, &str), LaunchError> {
    let syntax = || LaunchError::Syntax(shortened(text));
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !is_bare(c)).unwrap_or(text.len());
        // An empty value would make GStreamer take the next word for it.
        return if end == 0 { Err(syntax()) } else { Ok((text[..end].to_owned(), &text[end..])) };
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &quoted[at + 1..])),
            '\\' => match characters.next() {
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                _ => return Err(syntax()),
            },
            character if character.is_control() => return Err(syntax()),
            character => value.push(character),
        }
    }
    Err(syntax())
}

fn is_name(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c.is_ascii_uppercase() || c == '_'
}

fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_' | ':' | ',' | '%' | '#' | '/' | '=' | '~')
}

fn element(part: &[Token], kind: Kind) -> Result<LaunchElement, LaunchError> {
    let name = match part.first() {
        Some(Token::Name(name)) => name,
        Some(Token::Setting(name, _)) => return Err(LaunchError::Syntax(shortened(name))),
        Some(Token::Link) | None => return Err(LaunchError::Syntax("!".into())),
    };
    let listed = ELEMENTS.iter().find(|(factory, ..)| factory == name);
    let (factory, own_kind, allowed) = *listed.ok_or_else(|| LaunchError::Element(shortened(name)))?;
    if own_kind != kind {
        return Err(LaunchError::Kind(factory));
    }
    if part.len() - 1 > MAX_PROPERTIES {
        return Err(LaunchError::TooMuch { what: "properties of an element", most: MAX_PROPERTIES });
    }
    let mut properties = Vec::new();
    for token in &part[1..] {
        let (name, value) = match token {
            Token::Setting(name, value) => (name, value),
            Token::Name(name) => return Err(LaunchError::Syntax(shortened(name))),
            Token::Link => return Err(LaunchError::Syntax("!".into())),
        };
        let refused = || LaunchError::Property { element: factory, property: shortened(name) };
        let (property, takes) = *allowed.iter().find(|(property, _)| property == name).ok_or_else(refused)?;
        properties.push(setting(factory, property, takes, value)?);
    }
    Ok(LaunchElement { factory, properties })
}

fn setting(
    element: &'static str,
    property: &'static str,
    takes: Takes,
    value: &str,
) -> Result<(&'static str, String), LaunchError> {
    // Kurento's clients also write the numbers of these.
    let value = match (element, property) {
        ("videoflip", "method") => {
            value.parse().ok().and_then(|number: usize| METHODS.get(number)).map_or(value, |it| it.0)
        }
        _ => value,
    };
    let problem = match takes {
        Number(least, most) => (!number(value).is_some_and(|number| (least..=most).contains(&number)))
            .then(|| format!("it is not a number from {least} to {most}")),
        Integer(least, most) => (!integer(value).is_some_and(|number| (least..=most).contains(&number)))
            .then(|| format!("it is not a whole number from {least} to {most}")),
        Bool => (!matches!(value, "true" | "false")).then(|| "it is neither true nor false".to_owned()),
        OneOf(words) => (!words.contains(&value)).then(|| format!("it is not one of {}", words.join(", "))),
        Text => value.chars().any(char::is_control).then(|| "it has characters that are not printed".to_owned()),
    };
    if let Some(problem) = problem {
        return Err(LaunchError::Value { element, property, value: shortened(value), problem });
    }
    // Turned pictures: `method` is the older property, and sets nothing while an element is made.
    Ok(match METHODS.iter().find(|(method, _)| (element, property, value) == ("videoflip", "method", *method)) {
        Some((_, direction)) => ("video-direction", (*direction).to_owned()),
        None => (property, written(takes, value)),
    })
}

/// Decimal, as GStreamer reads it.
fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Decimal or `0x…`, as GStreamer reads both.
fn integer(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok().map(i64::from),
        None => text.parse().ok(),
    }
}

/// A value as it is set: decimal, whatever the client wrote.
fn written(takes: Takes, value: &str) -> String {
    match takes {
        Integer(..) => integer(value).map_or_else(|| value.to_owned(), |number| number.to_string()),
        _ => value.to_owned(),
    }
}

/// `method` of `videoflip` in the order of its numbers, and the same in its newer property `video-direction`.
const METHODS: [(&str, &str); 8] = [
    ("none", "identity"),
    ("clockwise", "90r"),
    ("rotate-180", "180"),
    ("counterclockwise", "90l"),
    ("horizontal-flip", "horiz"),
    ("vertical-flip", "vert"),
    ("upper-left-diagonal", "ul-lr"),
    ("upper-right-diagonal", "ur-ll"),
];

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_ECHO_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn video(line: &str) -> Result<Vec<LaunchElement>, LaunchError> {
        parse_launch(line, Kind::Video)
    }

    #[test]
    fn lines_of_kurentos_tutorials_are_let_through() {
        let flip = video("videoflip method=horizontal-flip").unwrap();
        assert_eq!(
            flip,
            [LaunchElement { factory: "videoflip", properties: vec![("video-direction", "horiz".into())] }]
        );
        let two =
            video(r#"videobalance saturation=0.0!textoverlay text="A \"B\" ! filesink location=/x" xpos=.5 "#).unwrap();
        assert_eq!(two.len(), 2);
        assert_eq!(two[1].properties[0], ("text", r#"A "B" ! filesink location=/x"#.into()), "a text is a text");
        assert!(video("timeoverlay font-desc=\"Sans, 28\" color=0xffff0000 shaded-background=true").is_ok());
        assert!(parse_launch("pitch pitch=1.2 ! audioecho delay=25000000 max-delay=50000000", Kind::Audio).is_ok());
        assert_eq!(parse_launch("videoflip", Kind::Audio), Err(LaunchError::Kind("videoflip")));
    }

    #[test]
    fn whatever_is_not_listed_is_refused_and_named() {
        for (line, named) in [
            ("filesink location=/tmp/x", "`filesink`"),
            ("filesrc location=/etc/passwd", "`filesrc`"),
            ("souphttpsrc location=http://169.254.169.254/", "`souphttpsrc`"),
            ("shmsink socket-path=/tmp/x", "`shmsink`"),
            ("videoflip ! filesink location=/tmp/x", "`filesink`"),
            ("videoflip!filesink", "`filesink`"),
            ("videoflip !filesink", "`filesink`"),
            ("videoflip ! tee name=t t. ! filesink", "`t. ! filesink`"),
            ("videoflip name=x", "property `name` of `videoflip`"),
            ("videoflip x. ! filesink", "`x. ! filesink`"),
            ("videoflip .src ! filesink", "`.src ! filesink`"),
            ("bin.( filesink )", "`bin.( filesink )`"),
            ("( filesink )", "`( filesink )`"),
            ("videoflip ( filesink )", "`( filesink )`"),
            ("videoflip { filesink }", "`{ filesink }`"),
            ("videoflip [ filesink ]", "`[ filesink ]`"),
            ("FileSink location=/tmp/x", "`FileSink`"),
            ("VIDEOFLIP", "`VIDEOFLIP`"),
            ("VideoFlip method=clockwise", "`VideoFlip`"),
            ("file\\sink", "`file\\sink`"),
            ("\"filesink\" location=x", "`\"filesink\""),
            ("'filesink'", "`'filesink'`"),
            ("# filesink", "`# filesink`"),
            ("videoflip # filesink", "`# filesink`"),
            ("videoflip /* x */ ! edgetv", "`/* x */"),
            ("videoflip // x", "`// x`"),
            ("videoflip\n! filesink", "`videoflip! filesink`"),
            ("videoflip\0", "`videoflip`"),
            ("video/x-raw,format=I420 ! edgetv", "`video/x-raw,format=I420 ! edgetv`"),
            ("videoflip ! video/x-raw,width=1 ! edgetv", "`video/x-raw"),
            ("capsfilter caps=video/x-raw", "`capsfilter`"),
            ("capsfilter", "`capsfilter`"),
            ("identity sleep-time=1000000", "`identity`"),
            ("queue max-size-buffers=0", "`queue`"),
            ("gdkpixbufoverlay location=/etc/passwd", "`gdkpixbufoverlay`"),
            ("gdkpixbufoverlay", "`gdkpixbufoverlay`"),
            ("rsvgoverlay data=x", "`rsvgoverlay`"),
            ("frei0r-filter-vertigo", "`frei0r-filter-vertigo`"),
            ("uridecodebin", "`uridecodebin`"),
            ("playbin uri=x", "`playbin`"),
            ("videobalance qos=false", "property `qos` of `videobalance`"),
            ("videobalance parent=x", "property `parent` of `videobalance`"),
            ("videobalance Brightness=1", "property `Brightness`"),
            ("videobalance brightness", "`brightness`"),
            ("videobalance brightness=", "``"),
            ("videobalance brightness= saturation=0", "` saturation=0`"),
            ("videobalance brightness=2", "value `2` of `videobalance brightness`"),
            ("videobalance brightness=nan", "value `nan`"),
            ("videobalance brightness=0x1", "it is not a number from -1 to 1"),
            ("textoverlay xpad=2.5", "it is not a whole number from 0 to 4096"),
            ("coloreffects preset=purple", "it is not one of none, heat, sepia"),
            ("videoflip method=sideways", "`videoflip method` is not allowed: it is not one of none, clockwise"),
            ("videoflip method=8", "value `8` of `videoflip method`"),
            ("mirror mode=1", "it is not one of left, right, top, bottom"),
            ("videobalance brightness=1e999", "value `1e999`"),
            ("videobalance brightness=$(id)", "`$(id)`"),
            ("videobalance brightness=`id`", "``id``"),
            ("videobalance brightness=1;filesink", "`brightness=1;filesink`"),
            ("videobalance brightness=\"1", "`\"1`"),
            ("videobalance brightness=\"1\"filesink", "filesink`"),
            ("textoverlay text=\"a\\", "`\"a\\`"),
            ("textoverlay text=\"a\\n\"", "`\"a\\n\"`"),
            ("audioecho max-delay=999999999999", "not one for this kind"),
            ("vidеoflip", "`vidеoflip`"),
            ("videoflip ! ! edgetv", "`!`"),
            ("! videoflip", "`!`"),
            ("videoflip !", "`!`"),
            ("", "`!`"),
            ("=x", "`=x`"),
            ("method=clockwise videoflip", "`method`"),
        ] {
            let error = video(line).expect_err(line).to_string();
            assert!(error.contains(named), "{line:?}: {error}, expected {named}");
        }
        let long = format!("textoverlay text=\"{}\"", "x".repeat(MAX_LINE_CHARS));
        assert!(matches!(video(&long), Err(LaunchError::TooMuch { what: "characters", .. })));
        let many = ["edgetv"; 9].join(" ! ");
        assert!(matches!(video(&many), Err(LaunchError::TooMuch { what: "elements", .. })));
        let echo = parse_launch("audioecho max-delay=999999999999", Kind::Audio);
        assert!(matches!(echo, Err(LaunchError::Value { property: "max-delay", .. })));
    }

    proptest! {
        /// Of whatever is written, only what is listed comes out.
        #[test]
        fn nothing_unlisted_gets_through(words in proptest::collection::vec(
            prop_oneof![
                "[ -~]{0,12}",
                Just("!".to_owned()), Just(" ".to_owned()), Just("videoflip".to_owned()), Just("filesink".to_owned()),
                Just("textoverlay".to_owned()), Just("text=".to_owned()), Just("location=/x".to_owned()),
                Just("\"".to_owned()), Just("\\".to_owned()), Just("method=clockwise".to_owned()), Just("name=a".to_owned()),
            ],
            0..10,
        )) {
            let line = words.concat();
            if let Ok(elements) = video(&line) {
                prop_assert!(elements.len() <= MAX_ELEMENTS);
                for element in elements {
                    let listed = ELEMENTS.iter().find(|(factory, ..)| *factory == element.factory).expect("listed");
                    for (property, value) in element.properties {
                        prop_assert!(listed.2.iter().any(|(name, _)| *name == property));
                        prop_assert!(!value.chars().any(char::is_control));
                    }
                }
            }
        }
    }
}
