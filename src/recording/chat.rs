//! What was written in the room while it was recorded, as subtitles (WebVTT) beside the files.
//!
//! The file grows with each message, and is whole after each.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

/// How long a message stands.
const SHOWN_MS: u64 = 8_000;

/// A message of the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// When, in milliseconds of the file.
    pub at_ms: u64,
    /// Nickname of who wrote it.
    pub name: String,
    /// As it was typed.
    pub text: String,
}

/// Adds a message to `file`, made if it is not there.
///
/// # Errors
/// What the system says.
pub fn append(file: &Path, message: &Message) -> io::Result<()> {
    let mut file = File::options().create(true).append(true).open(file)?;
    let head = if file.metadata()?.len() == 0 { "WEBVTT\n\n" } else { "" };
    file.write_all(format!("{head}{}", cue(message)).as_bytes())
}

fn cue(Message { at_ms, name, text }: &Message) -> String {
    let (from, to) = (timestamp(*at_ms), timestamp(at_ms + SHOWN_MS));
    format!("{from} --> {to}\n<v {}>{}\n\n", escaped(name), escaped(text))
}

/// `hh:mm:ss.ttt`
pub fn timestamp(ms: u64) -> String {
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{:03}", ms % 1_000)
}

/// A cue ends at an empty line, and must not hold an arrow.
fn escaped(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" ").replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cues_that_nothing_breaks_out_of() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("chat.vtt");
        let message = |at_ms, name: &str, text: &str| Message { at_ms, name: name.into(), text: text.into() };
        append(&file, &message(1_500, "김철수", "안녕 & <b>hello</b>")).unwrap();
        append(&file, &message(3_723_004, "<Kim>", "one\n\n00:00:00.000 --> 00:00:01.000\nWEBVTT")).unwrap();
        assert_eq!(
            std::fs::read_to_string(&file).unwrap(),
            "WEBVTT\n\n\
             00:00:01.500 --> 00:00:09.500\n<v 김철수>안녕 &amp; &lt;b&gt;hello&lt;/b&gt;\n\n\
             01:02:03.004 --> 01:02:11.004\n<v &lt;Kim&gt;>one 00:00:00.000 --&gt; 00:00:01.000 WEBVTT\n\n"
        );
    }
}
