use std::fs;

use super::*;

fn load_with(files: &[(&str, &str)]) -> Presets {
    gst::init().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    Presets::load(Some(folder.path()))
}

fn embedded(path: &str) -> String {
    String::from_utf8(Defaults::get(path).unwrap().data.into_owned()).unwrap()
}

fn reason(presets: &Presets, file: &str) -> String {
    let what = format!("pipelines/{file}");
    presets.unavailable().iter().find(|entry| entry.what == what).map(|entry| entry.reason.clone()).unwrap_or_default()
}

#[test]
fn the_embedded_files_can_record_or_say_what_to_install() {
    gst::init().unwrap();
    let presets = Presets::load(None);
    assert!(presets.can_record(), "{:?}", presets.unavailable());
    let mut layouts = presets.layouts();
    layouts.sort();
    assert_eq!(layouts, ["audio-only", "custom", "grid", "pip", "presentation", "speaker"]);
    for entry in presets.unavailable() {
        assert!(entry.reason.starts_with("not installed: "), "{entry:?}");
        assert!(entry.remedy.as_ref().is_some_and(|remedy| remedy.starts_with("apt install ")), "{entry:?}");
    }
}

#[test]
fn the_preferred_encoder_is_the_one_of_lowest_rank() {
    let openh264 = embedded("encoders/openh264-live.toml").replace("rank = 20", "rank = 1");
    let presets = load_with(&[("encoders/openh264-live.toml", &openh264)]);
    assert_eq!(presets.video_encoder().unwrap().name, "openh264-live");
}

#[test]
fn a_broken_override_is_listed_and_the_embedded_file_used() {
    let grid = embedded("layouts/grid.toml");
    let cases = [
        (grid.replace("gap_px = 8", "gap_px = 800"), "`gap_px`: 800 is not between 0 and 100"),
        (grid.replace("gap_px = 8", "gap_px = 8\ngaps = 3"), "unknown field `gaps`"),
        (grid.replace("#14161a", "blue"), "`blue` is not a colour"),
        (grid.replace("gap_px = 8", "gap_px = "), "line 4: "),
        (grid.replace("\"grid\"\nkind", "\"../grid\"\nkind"), "`name`: `../grid`"),
    ];
    for (text, expected) in cases {
        let presets = load_with(&[("layouts/grid.toml", &text)]);
        let reason = reason(&presets, "layouts/grid.toml");
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(presets.layout("grid").unwrap().gap_px, 8);
    }
}

#[test]
fn properties_are_checked_by_name_type_and_range() {
    let x264 = embedded("encoders/x264-live.toml");
    let cases = [
        ("bframes = 0", "bframes = 17", "`encoder.bframes`: `17` is not between 0 and 16"),
        ("bframes = 0", "bframes = true", "`encoder.bframes`: `true` is not a guint"),
        ("bframes = 0", "biframes = 0", "`encoder.biframes`: there is no such property"),
        ("\"veryfast\"", "\"warp\"", "`encoder.speed-preset`: `warp` is not a GstX264EncPreset"),
        ("\"veryfast\"", "\"\"", "`encoder.speed-preset`"),
        ("properties.encoder]", "properties.coder]", "`coder.bframes`: there is no element of that name"),
        ("h264parse name=parser\"", "h265parse2\"", "`pipeline.launch`"),
    ];
    for (from, to, expected) in cases {
        assert!(x264.contains(from));
        let presets = load_with(&[("encoders/x264-live.toml", &x264.replace(from, to))]);
        let reason = reason(&presets, "encoders/x264-live.toml");
        assert!(reason.contains(expected), "{to}: {reason}");
        assert_eq!(presets.video_encoder().unwrap().name, "x264-live");
    }
}

#[test]
fn a_new_file_is_added_and_a_huge_one_is_not_read() {
    let small =
        embedded("layouts/grid.toml").replace("\"grid\"\nkind", "\"tight\"\nkind").replace("gap_px = 8", "gap_px = 0");
    let huge = "#".repeat(70_000);
    let presets = load_with(&[("layouts/tight.toml", &small), ("sources/huge.toml", &huge)]);
    assert_eq!(presets.layout("tight").unwrap().gap_px, 0);
    assert!(reason(&presets, "sources/huge.toml").contains("70000 bytes"));
}

#[test]
fn bit_rate_follows_the_canvas() {
    gst::init().unwrap();
    let presets = Presets::load(None);
    let encoder = presets.video_encoder().unwrap();
    let rate = |width, height, fps| encoder.bitrate.for_canvas(width, height, fps);
    assert!((2_000_000..4_000_000).contains(&rate(1280, 720, 25)), "{}", rate(1280, 720, 25));
    assert!(rate(1920, 1080, 25) > rate(1280, 720, 25));
    assert!(rate(1280, 720, 60) > rate(1280, 720, 25) && rate(1280, 720, 60) < 2 * rate(1280, 720, 25));
    assert_eq!(rate(160, 90, 5), 300_000);
}

#[test]
fn colours_become_studio_range() {
    let yuv = |text: &str| Colour::try_from(text.to_owned()).unwrap().yuv();
    assert_eq!(yuv("#000000"), [16, 128, 128]);
    assert_eq!(yuv("#ffffff"), [235, 128, 128]);
    assert_eq!(yuv("#ff0000"), [81, 90, 240]);
}
