//! `salon record`: files composed without a server, judged by their content.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests too")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

#[path = "common/content.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod content;

use content::{Content, ffprobe, offsets};

const RED_YUV: [f64; 3] = [81.0, 90.0, 240.0];
const BLUE_YUV: [f64; 3] = [41.0, 240.0, 110.0];
const LEFT: [usize; 4] = [100, 150, 100, 60];
const RIGHT: [usize; 4] = [430, 150, 100, 60];

/// A file of ffmpeg's sources.
fn make(file: &Path, picture: Option<&str>, sound: Option<&str>) -> PathBuf {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error"]);
    for source in picture.iter().chain(&sound) {
        command.args(["-f", "lavfi", "-i", source]);
    }
    command.args(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac"]).arg(file);
    assert!(command.status().unwrap().success());
    file.to_owned()
}

fn salon(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_salon"));
    command.arg("record").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[track_caller]
fn assert_colour(content: &Content, time: f64, region: [usize; 4], expected: [f64; 3]) {
    let found = content.colour(time, region);
    let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 14.0);
    assert!(near, "at {time}: {found:.0?}, expected {expected:.0?}");
}

#[test]
fn files_become_one_with_every_picture_and_sound_at_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let red = make(&file("red.mp4"), Some("color=red:s=320x180:r=25:d=3"), Some("sine=f=440:r=48000:d=3"));
    // The other has no sound of its own, and more frames than are wanted.
    let blue = make(&file("blue.mkv"), Some("color=blue:s=640x360:r=50:d=12"), None);
    let voice = make(&file("voice.m4a"), None, Some("sine=f=880:r=44100:d=12"));
    let out = file("out.mp4");
    let begun = Instant::now();
    let options = ["--size", "640x360", "--no-labels", "-o", "out.mp4"];
    let inputs = [text(&red), text(&blue), text(&voice)];
    let made = salon(&inputs).args(options).current_dir(folder.path()).output().unwrap();
    let took = begun.elapsed();
    assert!(made.status.success(), "{made:?}");
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    assert_eq!(said, "out.mp4: 12.0 s, 300 frames\n");
    println!("12 s of media in {took:.1?}");
    assert!(took < Duration::from_secs(12), "{took:?}: slower than real time");

    let content = Content::read(&out);
    assert_eq!((content.width, content.height, content.frames()), (640, 360, 300));
    assert_eq!(content.holes(), []);
    assert!((content.duration.as_secs_f64() - 12.0).abs() < 0.06, "{:?}", content.duration);
    assert_colour(&content, 1.0, LEFT, RED_YUV);
    for time in [0.0, 1.0, 8.0, 11.9] {
        assert_colour(&content, time, RIGHT, BLUE_YUV);
    }
    // Whose file is over gives way to his slate.
    assert!(content.colour(11.0, LEFT)[2] < 200.0, "{:?}", content.colour(11.0, LEFT));
    assert!(content.tone(1.0, 440.0) > 0.05 && content.tone(8.0, 440.0) < 0.005);
    assert!(content.tone(1.0, 880.0) > 0.05 && content.tone(11.0, 880.0) > 0.05);
    // It looks ahead, and it opens fast.
    let kinds = ffprobe(&out, &["-select_streams", "v", "-show_entries", "frame=pict_type"]);
    assert!(kinds.contains("pict_type=B"), "no B-frames");
    let bytes = std::fs::read(&out).unwrap();
    let place = |kind: &[u8]| bytes.windows(4).position(|window| window == kind).unwrap();
    assert!(place(b"moov") < place(b"mdat"));
}

#[test]
fn sound_and_picture_are_as_far_apart_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let flash = "color=black:s=320x180:r=25:d=8,drawbox=w=iw:h=ih:color=white:t=fill:enable='lt(mod(t,1),0.1)'";
    let beep = "aevalsrc='if(lt(mod(t,1),0.1),0.5*sin(2*PI*1000*t),0)':s=48000:d=8";
    let source = make(&folder.path().join("source.mp4"), Some(flash), Some(beep));
    let other = make(&folder.path().join("other.mp4"), Some("color=blue:s=320x180:r=30:d=8"), None);
    let out = folder.path().join("out.mp4");
    let options = ["--size", "640x360", "--layout", "speaker", "--name", "Ann", "--title", "A & <B>", "-o"];
    let made = salon(&[text(&source), text(&other)]).args(options).arg(&out).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let content = Content::read(&out);
    // The first is the large one.
    let apart = offsets(&content.flashes([160, 100, 320, 100]), &content.beeps());
    println!("beep after flash, ms: {:.1?}", apart.iter().map(|apart| apart * 1e3).collect::<Vec<_>>());
    assert!(apart.len() >= 6 && apart.iter().all(|apart| apart.abs() <= 0.022), "{apart:?}");
}

#[test]
fn what_cannot_be_done_is_said_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let good = make(&file("good.mp4"), Some("color=red:s=320x180:r=25:d=1"), None);
    let voice = make(&file("voice.m4a"), None, Some("sine=f=880:d=1"));
    let junk = file("junk.mp4");
    std::fs::write(&junk, vec![7; 10_000]).unwrap();
    let out = file("out.mp4");
    let refused = |arguments: &[&str], why: &str| {
        let made = salon(arguments).arg("-o").arg(&out).output().unwrap();
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(!made.status.success() && said.contains(why), "{arguments:?}: {said}");
        assert!(!out.exists(), "{arguments:?} left a file");
    };
    refused(&[text(&file("none.mp4"))], "none.mp4: No such file");
    refused(&[text(&junk)], "junk.mp4: ");
    refused(&[text(&good), text(&junk)], "junk.mp4: ");
    refused(&[text(&voice)], "no input has a picture");
    refused(&[text(folder.path())], "it is not a file");
    refused(&["gopher://example.com/x"], "addresses begin with one of");
    refused(&[text(&good), "--layout", "spiral"], "a layout `spiral`");
    refused(&[text(&good), "--size", "641x360"], "a picture of 641×360");
    refused(&[text(&good), "--size", "big"], "1280x720");
    refused(&[text(&good), "--fps", "1000"], "at 1000");
    refused(&vec![text(&good); 50], "50 inputs");
    std::fs::write(&out, "precious").unwrap();
    let kept = salon(&[text(&good), "-o", text(&out)]).output().unwrap();
    assert!(!kept.status.success() && std::fs::read(&out).unwrap() == b"precious", "{kept:?}");
    let nowhere = salon(&[text(&good), "-o", text(&file("no/such/folder.mp4"))]).output().unwrap();
    assert!(!nowhere.status.success(), "{nowhere:?}");
    let replaced = salon(&[text(&good), "--force", "--size", "320x180", "-o", text(&out)]).output().unwrap();
    assert!(replaced.status.success(), "{replaced:?}");
    assert_eq!(Content::read(&out).frames(), 25);
}

#[test]
fn an_interrupt_ends_the_file_properly() {
    let folder = tempfile::tempdir().unwrap();
    let long = make(&folder.path().join("long.mp4"), Some("color=red:s=160x90:r=5:d=3600"), None);
    let out = folder.path().join("out.mp4");
    let child = salon(&[text(&long), "--size", "1280x720", "-o", text(&out)]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::fs::metadata(&out).map_or(0, |meta| meta.len()) < 20_000 {
        assert!(Instant::now() < deadline, "nothing is written");
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let made: Output = child.wait_with_output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let content = Content::read(&out);
    let seconds = content.duration.as_secs_f64();
    assert!(seconds > 1.0 && seconds < 3_599.0 && content.frames() > 25, "{seconds} s");
}
