//! Every effect, judged by what it does to a picture or a sound that is known.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests too")]

#[path = "effects/bench.rs"]
mod bench;
#[path = "effects/faces.rs"]
mod faces;
#[path = "effects/finds.rs"]
mod finds;
#[path = "effects/overlays.rs"]
mod overlays;
#[path = "effects/pictures.rs"]
mod pictures;
#[path = "effects/sounds.rs"]
mod sounds;

use std::collections::BTreeSet;

use bench::{catalogue, unavailable};
use salon::media::Kind;

/// All effects that come with Salon; a new one is added here with its test.
const TESTED: [&str; 36] = [
    "balance",
    "barcode",
    "blur",
    "cartoon",
    "chroma-key",
    "clock",
    "compressor",
    "crop",
    "echo",
    "edge",
    "face-blur",
    "face-detector",
    "face-overlay",
    "gain",
    "greyscale",
    "gstreamer-audio",
    "gstreamer-video",
    "high-pass",
    "image-overlay",
    "level-meter",
    "logo",
    "lower-third",
    "mirror",
    "motion",
    "negative",
    "noise-suppression",
    "picture-in-picture",
    "pitch",
    "pixelate",
    "robot",
    "rotate",
    "test-pattern",
    "text",
    "timecode",
    "tone",
    "vignette",
];

#[test]
fn every_effect_is_tested_and_those_that_are_missing_say_what_to_install() {
    let there: BTreeSet<String> = catalogue().into_iter().map(|effect| effect.name).collect();
    for name in &there {
        assert!(TESTED.contains(&name.as_str()), "{name} has no test");
    }
    let missing = unavailable();
    for name in TESTED.iter().filter(|name| !there.contains(**name)) {
        let entry = missing.iter().find(|entry| entry.what == format!("pipelines/effects/{name}.toml"));
        let entry = entry.unwrap_or_else(|| panic!("{name} is neither there nor listed"));
        assert!(entry.reason.starts_with("not installed: "), "{entry:?}");
        assert!(entry.remedy.as_ref().is_some_and(|remedy| remedy.starts_with("apt install ")), "{entry:?}");
    }
}

/// A row of `docs/effects.md`: an effect's name, its parameters' names, and its class of costs.
fn row(line: &str) -> Option<(String, Vec<String>, String)> {
    let cells: Vec<&str> = line.split(" | ").collect();
    let at = cells.iter().position(|cell| cell.trim_start_matches("| ").starts_with("**"))?;
    let name = cells[at].split('`').nth(1)?.to_owned();
    let parameters = cells.get(at + 1)?.split("; ").filter_map(|one| one.strip_prefix('`')?.split_once('`'));
    let parameters = parameters.map(|(name, _)| name.to_owned()).collect();
    Some((name, parameters, (*cells.get(at + 2)?).to_owned()))
}

#[test]
fn the_document_lists_exactly_the_effects_there_are() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/effects.md")).unwrap();
    let rows: Vec<_> = document.lines().filter_map(row).collect();
    let mut written: Vec<&str> = rows.iter().map(|(name, ..)| name.as_str()).collect();
    written.sort_unstable();
    assert_eq!(written, TESTED, "`script/bench effects` writes it anew");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/effects");
    let mut bytes = 0;
    for effect in catalogue() {
        let (_, parameters, cost) = rows.iter().find(|(name, ..)| *name == effect.name).unwrap();
        let expected: Vec<&str> = effect.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        assert_eq!(*parameters, expected, "{}: `script/bench effects` writes it anew", effect.name);
        assert_eq!(*cost, format!("{:?}", effect.cost).to_lowercase(), "{}", effect.name);
        if effect.kind == Kind::Video {
            bytes += std::fs::metadata(format!("{folder}/{}.jpg", effect.name)).expect("a preview").len();
        }
    }
    assert!(bytes < 600_000, "{bytes} bytes of previews");
}
