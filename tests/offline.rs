//! Files composed without a room, judged by their content.
#![cfg(feature = "gstreamer")]

use std::{path::Path, process::Command, sync::atomic::AtomicBool};

use salon::media::gst::{
    mixer::Canvas,
    offline::{OfflineInput, OfflineSpec, record},
    preset::{EncoderOptions, Presets},
};

fn make(file: &Path, colour: &str, seconds: u32) -> OfflineInput {
    let picture = format!("color={colour}:s=320x180:r=25:d={seconds}");
    let sound = format!("sine=f=440:r=48000:d={seconds}");
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound])
        .args(["-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac"])
        .arg(file)
        .status()
        .unwrap();
    assert!(status.success());
    let shown = file.display().to_string();
    OfflineInput { uri: format!("file://{shown}"), shown, label: "A".into() }
}

#[test]
fn every_frame_of_the_longest_input_is_in_the_file() {
    gst::init().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let inputs = vec![make(&folder.path().join("a.mp4"), "red", 2), make(&folder.path().join("b.mp4"), "blue", 4)];
    let spec = OfflineSpec {
        inputs,
        output: folder.path().join("out.mp4"),
        layout: "grid".into(),
        canvas: Canvas { width: 640, height: 360, fps: 25 },
        labels: true,
        title: None,
        encoder: EncoderOptions::default(),
        max: None,
    };
    let made = record(&spec, &Presets::load(None), &AtomicBool::new(false), |_| {}).unwrap();
    assert_eq!(made.frames, 100);
}
