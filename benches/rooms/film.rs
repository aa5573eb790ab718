//! What is in a recorded file, of either side.

use std::{path::Path, process::Command};

use serde::Serialize;

use super::{
    desk::{CANVAS, FPS},
    page,
};

/// Pictures of the clip that publishers send over and over.
const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/salon-load/media/picture.ivf");
const CLIP_PICTURES: u32 = 50;
/// Seconds of the file in which movement is counted, and where it is looked at.
const LOOKED_AT: u32 = 4;
const FROM: u32 = 2;

/// A file's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Film {
    pub seconds: f64,
    pub frames: u64,
    pub frames_per_s: f64,
    /// Bytes of the picture alone.
    pub bytes_per_s: f64,
    /// How like a picture of the clip the worst of the tiles is (SSIM of luma).
    pub ssim_of_worst_tile: f64,
    /// Frames a second that differ from the one before, in the worst of the tiles.
    pub moving_per_s: f64,
}

impl Film {
    /// Looks at a file that shows so many people.
    pub fn read(file: &Path, people: usize) -> Self {
        let (frames, bytes, seconds) = packets(file);
        let tiles = page::tiles(people);
        let of = |look: &dyn Fn(&Path, &str) -> f64| {
            let crops = tiles.iter().map(|it| format!("crop={}:{}:{}:{}", it.width, it.height, it.x, it.y));
            crops.map(|crop| look(file, &crop)).fold(f64::INFINITY, f64::min)
        };
        Self {
            seconds,
            frames,
            frames_per_s: frames as f64 / seconds,
            bytes_per_s: bytes as f64 / seconds,
            ssim_of_worst_tile: of(&likeness),
            moving_per_s: of(&movement),
        }
    }
}

/// Frames of a file's picture, their bytes, and how many seconds they last.
pub fn packets(file: &Path) -> (u64, u64, f64) {
    let probe = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v", "-show_entries", "packet=size,pts_time", "-of", "csv=p=0"])
        .arg(file)
        .output()
        .unwrap();
    let text = String::from_utf8(probe.stdout).unwrap();
    let (mut frames, mut bytes, mut first, mut last) = (0, 0, f64::INFINITY, 0.0_f64);
    for line in text.lines() {
        let mut fields = line.split(',');
        let time: f64 = fields.next().unwrap().parse().unwrap();
        bytes += fields.next().unwrap().parse::<u64>().unwrap();
        frames += 1;
        (first, last) = (first.min(time), last.max(time));
    }
    assert!(frames > 1, "{} has no pictures", file.display());
    (frames, bytes, last - first + 1.0 / f64::from(FPS))
}

/// One picture of a tile against all of the clip: the best of them.
fn likeness(file: &Path, crop: &str) -> f64 {
    let size = crop.trim_start_matches("crop=").split(':').take(2).collect::<Vec<_>>().join(":");
    let filter = format!(
        "[0:v]trim=end_frame=1,{crop},format=yuv420p,loop=loop={CLIP_PICTURES}:size=1,settb=1/25,setpts=N[a];\
         [1:v]scale={size},format=yuv420p,settb=1/25,setpts=N[b];[a][b]ssim=stats_file=-:shortest=1"
    );
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-ss", &FROM.to_string(), "-i"])
        .arg(file)
        .args(["-i", CLIP, "-filter_complex", &filter, "-frames:v", &CLIP_PICTURES.to_string(), "-f", "null", "-"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.split_whitespace().filter_map(|it| it.strip_prefix("Y:")?.parse::<f64>().ok());
    let best = found.fold(0.0, f64::max);
    assert!(best > 0.0, "ffmpeg's ssim: {text} {}", String::from_utf8_lossy(&output.stderr));
    best
}

/// Frames a second of a tile that are not as the one before.
fn movement(file: &Path, crop: &str) -> f64 {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-ss", &FROM.to_string(), "-t", &LOOKED_AT.to_string(), "-i"])
        .arg(file)
        .args([
            "-an",
            "-vf",
            &format!("{crop},mpdecimate=hi=256:lo=128:frac=0.02"),
            "-vsync",
            "vfr",
            "-f",
            "framecrc",
            "-",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter(|line| !line.starts_with('#')).count() as f64 / f64::from(LOOKED_AT)
}

/// A recording's size, as a request has it.
pub fn spec() -> serde_json::Value {
    serde_json::json!({"width": CANVAS.0, "height": CANVAS.1, "fps": FPS, "layout": {"kind": "grid", "labels": false}})
}
