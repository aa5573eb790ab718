//! The minutes of a recording: who was there, who spoke when, which layout was shown.
//!
//! A room keeps them in memory and hands them over at the end. Each entry is also a line in a file beside
//! the recording (`….minutes.jsonl`) from its moment on, so that they survive the server's death; the file goes
//! once the catalogue has them.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    media::LayoutSpec,
    room::{id::ParticipantId, model::Spoken},
};

/// Stretches of speech that are noted of one recording.
const MOST_SPOKEN: usize = 5_000;
/// Layouts that are noted of one recording.
const MOST_LAYOUTS: usize = 1_000;
/// Between two stretches of one person's speech.
const BREATH_MS: u64 = 1_000;

/// What is known of a recording beside its media.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Minutes {
    /// Nicknames of all who were in it, in the order they came, by the names they last had.
    pub participants: Vec<String>,
    /// Who spoke when, in order.
    pub speakers: Vec<Spoken>,
    /// What it was shown in, if that was the room's layout.
    pub layouts: Vec<LayoutChange>,
}

/// A layout, and from when on it was shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LayoutChange {
    /// In milliseconds of the file: pauses do not count.
    pub at_ms: u64,
    /// As it was asked for.
    pub layout: LayoutSpec,
}

/// An entry. Times are milliseconds of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "lowercase")]
pub enum Entry {
    /// He is there, by this name from now on.
    Present {
        /// Who.
        who: ParticipantId,
        /// His nickname.
        name: String,
    },
    /// He begins to speak.
    Speaks {
        /// Who.
        who: ParticipantId,
        /// His nickname.
        name: String,
        /// When.
        at_ms: u64,
    },
    /// He falls silent.
    Silent {
        /// Who.
        who: ParticipantId,
        /// When.
        at_ms: u64,
    },
    /// The layout changes, or is this from the beginning.
    Layout(LayoutChange),
}

/// Minutes that are being taken.
#[derive(Debug, Default)]
pub struct MinuteTaker {
    people: Vec<(ParticipantId, String)>,
    /// Who speaks at this moment, and since when.
    speaking: Vec<(ParticipantId, String, u64)>,
    /// Who spoke when, in the order they ended.
    spoken: Vec<Spoken>,
    layouts: Vec<LayoutChange>,
}

impl MinuteTaker {
    /// Takes an entry down; false if there is nothing new in it, or no space for it.
    pub fn take(&mut self, entry: &Entry) -> bool {
        match entry {
            Entry::Present { who, name } => self.present(who, name),
            Entry::Speaks { who, name, at_ms } => {
                let is_new = !self.speaking.iter().any(|(known, ..)| known == who);
                if is_new {
                    self.speaking.push((who.clone(), name.clone(), *at_ms));
                }
                is_new
            }
            Entry::Silent { who, at_ms } => self.silent(who, *at_ms),
            Entry::Layout(change) => {
                let is_new = self.layouts.last().is_none_or(|last| last.layout != change.layout);
                let is_new = is_new && self.layouts.len() < MOST_LAYOUTS;
                if is_new {
                    self.layouts.push(change.clone());
                }
                is_new
            }
        }
    }

    /// All of it, whoever still speaks included, up to that moment.
    pub fn finish(mut self, until_ms: u64) -> Minutes {
        let speaking: Vec<_> = self.speaking.iter().map(|(who, ..)| who.clone()).collect();
        for who in speaking {
            self.silent(&who, until_ms);
        }
        let mut speakers = self.spoken;
        speakers.sort_by_key(|spoken| spoken.from_ms);
        let participants = self.people.into_iter().map(|(_, name)| name).collect();
        Minutes { participants, speakers, layouts: self.layouts }
    }

    fn present(&mut self, who: &ParticipantId, name: &str) -> bool {
        match self.people.iter_mut().find(|(known, _)| known == who) {
            Some((_, known)) if known == name => return false,
            Some((_, known)) => *known = name.to_owned(),
            None => self.people.push((who.clone(), name.to_owned())),
        }
        true
    }

    /// A break of less than [`BREATH_MS`] does not end what somebody says.
    fn silent(&mut self, who: &ParticipantId, at_ms: u64) -> bool {
        let Some(place) = self.speaking.iter().position(|(known, ..)| known == who) else { return false };
        let (_, participant, from_ms) = self.speaking.swap_remove(place);
        let to_ms = at_ms;
        let is_noted = self.spoken.len() < MOST_SPOKEN;
        let last = self.spoken.iter_mut().rev().find(|spoken| spoken.participant == participant);
        match last {
            Some(last) if from_ms <= last.to_ms + BREATH_MS => last.to_ms = to_ms.max(last.to_ms),
            _ if to_ms > from_ms && is_noted => self.spoken.push(Spoken { participant, from_ms, to_ms }),
            _ => {}
        }
        true
    }
}

/// Adds entries to `file`, made if it is not there.
///
/// # Errors
/// What the system says.
pub fn append(file: &Path, entries: &[Entry]) -> io::Result<()> {
    let mut text = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut text, entry)?;
        text.push(b'\n');
    }
    File::options().create(true).append(true).open(file)?.write_all(&text)
}

/// What `file` says of a recording that was cut off at `until_ms`, or at its last entry if that is later;
/// `None` if there is no file. A line that was cut off itself is left out.
pub fn read(file: &Path, until_ms: u64) -> Option<Minutes> {
    let text = std::fs::read(file).ok()?;
    let mut taker = MinuteTaker::default();
    let mut end_ms = until_ms;
    for line in text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        let Ok(entry) = serde_json::from_slice::<Entry>(line) else { continue };
        if let Entry::Speaks { at_ms, .. } | Entry::Silent { at_ms, .. } = entry {
            end_ms = end_ms.max(at_ms);
        }
        taker.take(&entry);
    }
    Some(taker.finish(end_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::LayoutKind;

    #[test]
    fn minutes_that_were_cut_off_are_those_up_to_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rec.minutes.jsonl");
        let (ann, bob) = (ParticipantId::random(), ParticipantId::random());
        let name = |name: &str| name.to_owned();
        let layout =
            |at_ms, kind| Entry::Layout(LayoutChange { at_ms, layout: LayoutSpec { kind, ..Default::default() } });
        let entries = [
            Entry::Present { who: ann.clone(), name: name("Ann") },
            Entry::Present { who: bob.clone(), name: name("Bob") },
            layout(0, LayoutKind::Grid),
            Entry::Speaks { who: ann.clone(), name: name("Ann"), at_ms: 1_000 },
            Entry::Silent { who: ann.clone(), at_ms: 2_000 },
            // A breath.
            Entry::Speaks { who: ann.clone(), name: name("Ann"), at_ms: 2_500 },
            Entry::Silent { who: ann, at_ms: 3_000 },
            layout(3_000, LayoutKind::Grid),
            layout(4_000, LayoutKind::Speaker),
            Entry::Present { who: bob.clone(), name: name("Bert") },
            Entry::Speaks { who: bob, name: name("Bert"), at_ms: 5_000 },
        ];
        append(&file, &entries[..4]).unwrap();
        append(&file, &entries[4..]).unwrap();
        std::fs::File::options().append(true).open(&file).unwrap().write_all(br#"{"what":"sil"#).unwrap();
        let spoken = |participant: &str, from_ms, to_ms| Spoken { participant: participant.into(), from_ms, to_ms };
        let minutes = read(&file, 6_000).unwrap();
        assert_eq!(minutes.participants, ["Ann", "Bert"]);
        assert_eq!(minutes.speakers, [spoken("Ann", 1_000, 3_000), spoken("Bert", 5_000, 6_000)]);
        let layouts: Vec<_> = minutes.layouts.iter().map(|change| (change.at_ms, change.layout.kind)).collect();
        assert_eq!(layouts, [(0, LayoutKind::Grid), (4_000, LayoutKind::Speaker)]);
        assert_eq!(read(&folder.path().join("none"), 0), None);
    }
}
