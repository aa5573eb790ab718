//! The rules that need no state: limits, what names may look like, and the ranges of settings.

use std::time::Duration;

use super::{
    error::{ChangeError, CreateError, NameError, RecordError},
    model::{Role, RoomSettings},
};
use crate::media::{Capabilities, CodecName, LayoutChoice, LayoutError, RecordingSpec};

/// Characters of a room's name.
pub const MAX_ROOM_NAME_CHARS: usize = 64;
/// Characters of a PIN.
pub const MAX_PIN_CHARS: usize = 32;
/// The longest linger, in seconds.
pub const MAX_LINGER_S: u64 = 86_400;
/// Characters of a recording's title.
pub const MAX_TITLE_CHARS: usize = 128;
/// Bytes of a signal's kind.
pub const MAX_SIGNAL_KIND_BYTES: usize = 64;

/// The server's limits for rooms; settings may lower them, never raise them.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomPolicy {
    /// Rooms at once.
    pub max_rooms: usize,
    /// Participants a room has if it does not say, and the most it may say.
    pub max_participants: usize,
    /// How long an empty room stays.
    pub linger: Duration,
    /// How long a participant whose socket is gone may come back. With the time it takes to notice
    /// a dead socket it must stay under 10 s.
    pub resume_window: Duration,
    /// Publications of one participant at once.
    pub max_publications: usize,
    /// Subscriptions of one participant at once.
    pub max_subscriptions: usize,
    /// Recordings of one room at once.
    pub max_recordings: usize,
    /// What a room's effects may cost together, in points: 1 for a cheap effect, 3 and 10 for dearer ones.
    pub max_effect_points: u32,
    /// From this role on one may see others without their effects; oneself everybody may.
    pub clean_tracks_for: Role,
    /// Candidates taken for one connection.
    pub max_candidates: usize,
    /// Bytes of one signal's data, as JSON.
    pub max_signal_bytes: usize,
    /// Characters of a nickname.
    pub max_name_chars: usize,
    /// ICE and DTLS must be up within this.
    pub connect_timeout: Duration,
}

impl Default for RoomPolicy {
    fn default() -> Self {
        Self {
            max_rooms: 200,
            max_participants: 50,
            linger: Duration::from_secs(30),
            resume_window: Duration::from_secs(7),
            max_publications: 4,
            max_subscriptions: 200,
            max_recordings: 4,
            max_effect_points: 40,
            clean_tracks_for: Role::Moderator,
            max_candidates: 200,
            max_signal_bytes: 16 * 1024,
            max_name_chars: 64,
            connect_timeout: Duration::from_secs(20),
        }
    }
}

/// Checks a room's name, which is also its address.
///
/// Letters, digits and marks of any script, `-`, `_`, `.`, `~`, and single spaces within; it is
/// compared as it is written. A name of dots alone would be resolved away in a URL path.
///
/// # Errors
/// As [`NameError`] says.
pub fn check_room_name(name: &str) -> Result<(), NameError> {
    check_length(name, MAX_ROOM_NAME_CHARS)?;
    if let Some(character) = name.chars().find(|&c| !stands_in_a_path(c)) {
        return Err(NameError::Character(character));
    }
    if name.starts_with(' ') || name.ends_with(' ') || name.contains("  ") {
        return Err(NameError::Character(' '));
    }
    if name.chars().all(|c| c == '.') {
        return Err(NameError::Character('.'));
    }
    Ok(())
}

/// Trims a nickname and checks it: 1 to `most` characters, something of it to be seen, no control
/// characters or line breaks, nothing that turns the direction of the text around it.
///
/// # Errors
/// As [`NameError`] says.
pub fn check_nickname(name: &str, most: usize) -> Result<String, NameError> {
    let name = name.trim();
    check_length(name, most)?;
    match name.chars().find(|&c| !stands_in_a_line(c)) {
        Some(character) => Err(NameError::Character(character)),
        None if name.chars().all(is_invisible) => Err(NameError::Empty),
        None => Ok(name.to_owned()),
    }
}

fn check_length(name: &str, most: usize) -> Result<(), NameError> {
    match name.chars().count() {
        0 => Err(NameError::Empty),
        length if length > most => Err(NameError::TooLong { length, most }),
        _ => Ok(()),
    }
}

fn stands_in_a_path(c: char) -> bool {
    match c {
        ' ' | '-' | '_' | '.' | '~' => true,
        c if c.is_ascii() => c.is_ascii_alphanumeric(),
        c => stands_in_a_line(c) && !c.is_whitespace() && !is_invisible(c),
    }
}

fn stands_in_a_line(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' // bidi
            | '\u{2028}' | '\u{2029}'                                       // line and paragraph ends
            | '\u{FFF9}'..='\u{FFFB}' | '\u{FEFF}' | '\u{E0000}'..='\u{E007F}' // notes, byte order, tags
            | '\u{E000}'..='\u{F8FF}') // private use: another font's secret
}

/// Characters that draw nothing by themselves. Joiners are needed within words and emoji.
fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '\u{00AD}' | '\u{034F}' | '\u{115F}' | '\u{1160}' | '\u{180E}' | '\u{200B}'..='\u{200D}'
            | '\u{2060}'..='\u{2065}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FFA0}')
}

/// A setting that is out of its range; becomes the error of whichever operation it was given to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSetting {
    /// Which.
    pub setting: &'static str,
    /// What is wrong and what is allowed.
    pub problem: String,
}

impl BadSetting {
    fn new(setting: &'static str, problem: impl Into<String>) -> Self {
        Self { setting, problem: problem.into() }
    }
}

impl From<LayoutError> for BadSetting {
    fn from(LayoutError { field, problem }: LayoutError) -> Self {
        Self { setting: field, problem }
    }
}

impl From<BadSetting> for CreateError {
    fn from(BadSetting { setting, problem }: BadSetting) -> Self {
        Self::Setting { setting, problem }
    }
}

impl From<BadSetting> for ChangeError {
    fn from(BadSetting { setting, problem }: BadSetting) -> Self {
        Self::Setting { setting, problem }
    }
}

impl From<BadSetting> for RecordError {
    fn from(BadSetting { setting, problem }: BadSetting) -> Self {
        Self::Setting { setting, problem }
    }
}

/// Checks all of a new room's settings against the server's limits and what its engine can do.
///
/// # Errors
/// The first setting that is out of its range.
pub fn check_settings(
    settings: &RoomSettings,
    policy: &RoomPolicy,
    capabilities: &Capabilities,
) -> Result<(), BadSetting> {
    if let Some(pin) = &settings.pin {
        check_pin(pin)?;
    }
    if let Some(most) = settings.max_participants {
        check_max_participants(most, policy)?;
    }
    if let Some(seconds) = settings.linger_s {
        check_linger(seconds)?;
    }
    if let Some(codecs) = &settings.codecs {
        check_codecs(codecs, capabilities)?;
    }
    if let Some(spec) = &settings.recording {
        check_recording(spec, capabilities)?;
    }
    Ok(())
}

/// A PIN: 1 to 32 printable characters.
///
/// # Errors
/// [`BadSetting`] `pin`.
pub fn check_pin(pin: &str) -> Result<(), BadSetting> {
    let good = check_length(pin, MAX_PIN_CHARS).is_ok() && pin.chars().all(stands_in_a_line);
    good.then_some(()).ok_or_else(|| BadSetting::new("pin", "must have 1 to 32 printable characters"))
}

/// A room's own limit: 1 to the server's.
///
/// # Errors
/// [`BadSetting`] `max_participants`.
pub fn check_max_participants(most: usize, policy: &RoomPolicy) -> Result<(), BadSetting> {
    in_range("max_participants", most as u64, 1, policy.max_participants as u64)
}

/// A room's linger: 0 to a day.
///
/// # Errors
/// [`BadSetting`] `linger_s`.
pub fn check_linger(seconds: u64) -> Result<(), BadSetting> {
    in_range("linger_s", seconds, 0, MAX_LINGER_S)
}

/// A guest's linger: 0 to the server's own.
///
/// # Errors
/// [`BadSetting`] `linger_s`.
pub fn check_guest_linger(settings: &RoomSettings, policy: &RoomPolicy) -> Result<(), BadSetting> {
    let most = policy.linger.as_secs();
    settings.linger_s.map_or(Ok(()), |seconds| in_range("linger_s", seconds, 0, most))
}

/// Checks a layout, and that the engine has its measures.
///
/// # Errors
/// The first field that is wrong.
pub fn check_layout(layout: Option<&LayoutChoice>, capabilities: &Capabilities) -> Result<(), LayoutError> {
    let Some(layout) = layout else { return Ok(()) };
    if !capabilities.layouts.iter().any(|known| known == layout.name()) {
        let known = capabilities.layouts.join(", ");
        let field = if matches!(layout, LayoutChoice::Name(_)) { "layout" } else { "kind" };
        return Err(LayoutError::new(field, format!("must be one of: {known}")));
    }
    match layout {
        LayoutChoice::Name(_) => Ok(()),
        LayoutChoice::Spec(spec) => spec.check(),
    }
}

fn check_codecs(codecs: &[CodecName], capabilities: &Capabilities) -> Result<(), BadSetting> {
    if codecs.is_empty() {
        return Err(BadSetting::new("codecs", "must name at least one codec"));
    }
    match codecs.iter().find(|codec| !capabilities.forward.contains(codec)) {
        Some(codec) => {
            Err(BadSetting::new("codecs", format!("names {}, which is not forwarded here", codec.encoding_name())))
        }
        None => Ok(()),
    }
}

/// Checks what is to be recorded, and how, against [`RecordingSpec`]'s ranges and the engine.
///
/// # Errors
/// The first setting that is out of its range.
pub fn check_recording(spec: &RecordingSpec, capabilities: &Capabilities) -> Result<(), BadSetting> {
    if spec.mode.has_composite() && !capabilities.record {
        return Err(BadSetting::new("mode", "cannot be recorded on this machine; `salon doctor` says what is missing"));
    }
    check_layout(spec.layout.as_ref(), capabilities)?;
    even_in_range("width", spec.width, 160, 3840)?;
    even_in_range("height", spec.height, 90, 2160)?;
    in_range("fps", spec.fps.into(), 5, 60)?;
    if let Some(name) = &spec.name
        && (name.chars().count() > MAX_TITLE_CHARS || !name.chars().all(stands_in_a_line))
    {
        return Err(BadSetting::new("name", format!("must have at most {MAX_TITLE_CHARS} printable characters")));
    }
    if !spec.audio && !spec.video {
        return Err(BadSetting::new("video", "and `audio` must not both be off"));
    }
    let limits = [
        ("max_s", spec.max_s, 1, 86_400),
        ("max_bytes", spec.max_bytes, 1_000_000, 10_000_000_000_000),
        ("stop_when_empty_s", spec.stop_when_empty_s, 1, 86_400),
    ];
    limits.into_iter().try_for_each(|(setting, value, least, most)| {
        value.map_or(Ok(()), |value| in_range(setting, value, least, most))
    })
}

/// A marker's title: 1 to 128 printable characters.
pub fn is_marker_title(title: &str) -> bool {
    (1..=MAX_TITLE_CHARS).contains(&title.chars().count()) && title.chars().all(stands_in_a_line)
}

fn in_range(setting: &'static str, value: u64, least: u64, most: u64) -> Result<(), BadSetting> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(BadSetting::new(setting, format!("must be from {least} to {most}, not {value}")))
}

fn even_in_range(setting: &'static str, value: u32, least: u64, most: u64) -> Result<(), BadSetting> {
    in_range(setting, value.into(), least, most)?;
    if value.is_multiple_of(2) {
        return Ok(());
    }
    Err(BadSetting::new(setting, format!("must be even, not {value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_names_stand_in_a_url() {
        for good in ["a", "Room-1_x.y~z", "수학 3반", "物理", "café", "x..", "🎓 class"] {
            assert_eq!(check_room_name(good), Ok(()), "{good}");
        }
        for (bad, character) in [
            ("a/b", '/'),
            ("a\\b", '\\'),
            ("a?b", '?'),
            ("a#b", '#'),
            ("a%2fb", '%'),
            ("a\nb", '\n'),
            ("a\u{202E}b", '\u{202E}'),
            ("a\u{200B}b", '\u{200B}'),
            (" a", ' '),
            ("a ", ' '),
            ("a  b", ' '),
            ("..", '.'),
            ("<b>", '<'),
        ] {
            assert_eq!(check_room_name(bad), Err(NameError::Character(character)), "{bad:?}");
        }
        assert_eq!(check_room_name(""), Err(NameError::Empty));
        assert_eq!(check_room_name(&"한".repeat(65)), Err(NameError::TooLong { length: 65, most: 64 }));
    }

    #[test]
    fn nicknames_are_trimmed_and_visible() {
        assert_eq!(check_nickname("  김철수 & <b> ", 64), Ok("김철수 & <b>".into()));
        assert_eq!(check_nickname("👩\u{200D}🏫", 64), Ok("👩\u{200D}🏫".into()));
        assert_eq!(check_nickname(" \t ", 64), Err(NameError::Empty));
        assert_eq!(check_nickname("\u{200B}\u{200D}", 64), Err(NameError::Empty));
        assert_eq!(check_nickname("a\nb", 64), Err(NameError::Character('\n')));
        assert_eq!(check_nickname("a\u{7}b", 64), Err(NameError::Character('\u{7}')));
        assert_eq!(check_nickname("a\u{2066}b", 64), Err(NameError::Character('\u{2066}')));
        assert_eq!(check_nickname(&"x".repeat(10_000), 64), Err(NameError::TooLong { length: 10_000, most: 64 }));
        assert!(check_nickname(&"가".repeat(64), 64).is_ok());
    }

    #[test]
    fn recordings_keep_to_their_ranges() {
        let capabilities = Capabilities { record: true, layouts: vec!["grid".into()], ..Default::default() };
        let with = |change: fn(&mut RecordingSpec)| {
            let mut spec = RecordingSpec::default();
            change(&mut spec);
            check_recording(&spec, &capabilities).map_err(|bad| bad.setting)
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(with(|spec| spec.layout = Some(LayoutChoice::Name("../x".into()))), Err("layout"));
        assert_eq!(with(|spec| spec.width = 161), Err("width"));
        assert_eq!(with(|spec| spec.width = 158), Err("width"));
        assert_eq!(with(|spec| spec.height = 2162), Err("height"));
        assert_eq!(with(|spec| spec.fps = 4), Err("fps"));
        assert_eq!(with(|spec| spec.name = Some("x".repeat(129))), Err("name"));
        assert_eq!(with(|spec| spec.name = Some("a\nb".into())), Err("name"));
        assert_eq!(with(|spec| spec.max_s = Some(0)), Err("max_s"));
        assert_eq!(with(|spec| spec.max_bytes = Some(999_999)), Err("max_bytes"));
        assert_eq!(with(|spec| spec.stop_when_empty_s = Some(90_000)), Err("stop_when_empty_s"));
        assert_eq!(with(|spec| spec.audio = false), Ok(()));
        assert_eq!(with(|spec| (spec.audio, spec.video) = (false, false)), Err("video"));
        // 8K, one pixel, odd sides, a slide show and a slow-motion camera.
        assert_eq!(with(|spec| (spec.width, spec.height) = (7680, 4320)), Err("width"));
        assert_eq!(with(|spec| (spec.width, spec.height) = (1, 1)), Err("width"));
        assert_eq!(with(|spec| spec.height = 721), Err("height"));
        assert_eq!(with(|spec| spec.fps = 1), Err("fps"));
        assert_eq!(with(|spec| spec.fps = 240), Err("fps"));
        for name in ["\0", &"x".repeat(4096)] {
            let spec = RecordingSpec { name: Some(name.into()), ..Default::default() };
            assert_eq!(check_recording(&spec, &capabilities).map_err(|bad| bad.setting), Err("name"));
        }
        // A title is never a file name, so it may look like a path.
        assert_eq!(with(|spec| spec.name = Some("../x".into())), Ok(()));
        let none = Capabilities::default();
        assert_eq!(check_recording(&RecordingSpec::default(), &none).map_err(|bad| bad.setting), Err("mode"));
    }
}
