//! Judges a recording by what is in it: colours of tiles, tones, flashes and beeps, at their times.
//! Decoding is ffmpeg's, so that nothing of ours vouches for itself.

use std::{path::Path, process::Command, time::Duration};

/// A decoded recording.
pub struct Content {
    /// Pixels of the file's picture.
    pub width: usize,
    /// Pixels of the file's picture.
    pub height: usize,
    /// Frames per second.
    pub fps: f64,
    /// Of the file.
    pub duration: Duration,
    frames: Vec<Frame>,
    /// 48 kHz, mono.
    sound: Vec<i16>,
}

/// A frame in I420, scaled down by [`SCALE`].
struct Frame {
    time: f64,
    data: Vec<u8>,
}

/// Frames are looked at a quarter as wide and high: averages of regions stay what they are.
const SCALE: usize = 4;
const RATE: usize = 48_000;

impl Content {
    /// Decodes all of `path`, which may have no picture or no sound; the test fails if ffmpeg finds an
    /// error in it.
    pub fn read(path: &Path) -> Self {
        let kinds = ffprobe(path, &["-show_entries", "stream=codec_type"]);
        let sound = if kinds.contains("audio") { sound(path) } else { Vec::new() };
        if !kinds.contains("video") {
            let duration =
                Duration::from_secs_f64(number(&ffprobe(path, &["-show_entries", "format=duration"]), "duration"));
            return Self { width: 0, height: 0, fps: 0.0, duration, frames: Vec::new(), sound };
        }
        let fields = "stream=width,height,r_frame_rate:format=duration";
        let probe = ffprobe(path, &["-select_streams", "v", "-show_entries", fields]);
        let number = |name: &str| number(&probe, name);
        // A growing WebM does not know its own.
        let duration = if probe.contains("duration=N/A") { 0.0 } else { number("duration") };
        let (width, height) = (number("width") as usize, number("height") as usize);
        let frames = frames(path, (width / SCALE) & !1, (height / SCALE) & !1);
        Self { width, height, fps: number("r_frame_rate"), duration: Duration::from_secs_f64(duration), frames, sound }
    }

    /// How many frames were decoded.
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// When each frame is shown.
    pub fn times(&self) -> impl Iterator<Item = f64> {
        self.frames.iter().map(|frame| frame.time)
    }

    /// Where frames are missing: from when to when.
    pub fn holes(&self) -> Vec<(f64, f64)> {
        let pairs = self.frames.windows(2).map(|pair| (pair[0].time, pair[1].time));
        pairs.filter(|(from, to)| to - from > 1.1 / self.fps).collect()
    }

    /// Mean Y′, Cb and Cr of a region (file's pixels) in the frame shown at `time`.
    pub fn colour(&self, time: f64, [x, y, width, height]: [usize; 4]) -> [f64; 3] {
        let frame = self.frames.iter().rev().find(|frame| frame.time <= time + 1e-6).expect("a frame at that time");
        let (columns, rows) = ((self.width / SCALE) & !1, (self.height / SCALE) & !1);
        let planes = [
            (0, columns, SCALE),
            (columns * rows, columns / 2, 2 * SCALE),
            (columns * rows * 5 / 4, columns / 2, 2 * SCALE),
        ];
        planes.map(|(offset, stride, scale)| {
            let rows = y.div_ceil(scale)..(y + height) / scale;
            let columns = x.div_ceil(scale)..(x + width) / scale;
            let values = rows.flat_map(|row| columns.clone().map(move |column| offset + row * stride + column));
            let (sum, count) =
                values.fold((0.0, 0.0), |(sum, count), at| (sum + f64::from(frame.data[at]), count + 1.0));
            sum / count
        })
    }

    /// Strength of a tone in a window of 200 ms around `time`, as a share of full scale.
    pub fn tone(&self, time: f64, frequency: f64) -> f64 {
        let from = ((time - 0.1).max(0.0) * RATE as f64) as usize;
        let window = &self.sound[from.min(self.sound.len())..(from + RATE / 5).min(self.sound.len())];
        goertzel(window, frequency)
    }

    /// Seconds of sound.
    pub fn sound_seconds(&self) -> f64 {
        self.sound.len() as f64 / RATE as f64
    }

    /// Where a tone is missing, from its first sound to its last: from when to when, to 3 ms.
    pub fn silences(&self) -> Vec<(f64, f64)> {
        const WINDOW: usize = 3 * RATE / 1000;
        let is_loud = |window: &[i16]| window.iter().any(|value| value.unsigned_abs() > 1500);
        let loud = self.sound.chunks(WINDOW).enumerate().filter(|(_, window)| is_loud(window)).map(|(at, _)| at);
        let loud: Vec<usize> = loud.collect();
        let seconds = |window: usize| (window * WINDOW) as f64 / RATE as f64;
        let gaps = loud.windows(2).filter(|pair| pair[1] > pair[0] + 1);
        gaps.map(|pair| (seconds(pair[0] + 1), seconds(pair[1]))).collect()
    }

    /// When a region turns bright.
    pub fn flashes(&self, region: [usize; 4]) -> Vec<f64> {
        let bright = |frame: &&Frame| self.colour(frame.time, region)[0] > 128.0;
        onsets(self.frames.iter().map(|frame| (frame.time, bright(&frame))), 0.5)
    }

    /// When it gets loud.
    pub fn beeps(&self) -> Vec<f64> {
        let loud =
            self.sound.iter().enumerate().map(|(at, value)| (at as f64 / RATE as f64, value.unsigned_abs() > 3000));
        onsets(loud, 0.5)
    }
}

/// Beginnings of what holds, at least `apart` seconds from one another.
fn onsets(values: impl Iterator<Item = (f64, bool)>, apart: f64) -> Vec<f64> {
    let mut found: Vec<f64> = Vec::new();
    let mut before = true;
    for (time, holds) in values {
        if holds && !before && found.last().is_none_or(|last| time - last > apart) {
            found.push(time);
        }
        before = holds;
    }
    found
}

/// Each flash's distance to the nearest beep, in seconds; positive: the beep is late.
pub fn offsets(flashes: &[f64], beeps: &[f64]) -> Vec<f64> {
    let nearest = |flash: &f64| {
        let distances = beeps.iter().map(|beep| beep - flash);
        distances.min_by(|a, b| a.abs().total_cmp(&b.abs())).filter(|distance| distance.abs() < 0.5)
    };
    flashes.iter().filter_map(nearest).collect()
}

/// Y′ of one frame at full size.
pub fn luma(path: &Path, time: f64, [x, y, width, height]: [usize; 4]) -> Vec<Vec<u8>> {
    let crop = format!("format=gray,crop={width}:{height}:{x}:{y}");
    let time = format!("{time}");
    let data =
        ffmpeg(&["-ss", &time, "-i", path.to_str().unwrap(), "-frames:v", "1", "-vf", &crop, "-f", "rawvideo", "-"]);
    assert_eq!(data.len(), width * height, "no frame at {time}");
    data.chunks(width).map(<[u8]>::to_vec).collect()
}

/// First and last column with bright pixels, and how many there are.
pub fn bright_extent(rows: &[Vec<u8>]) -> Option<(usize, usize, usize)> {
    let columns =
        rows.iter().flat_map(|row| row.iter().enumerate().filter(|(_, value)| **value > 160).map(|(at, _)| at));
    let found: Vec<usize> = columns.collect();
    Some((*found.iter().min()?, *found.iter().max()?, found.len()))
}

/// Length of a file as it plays, by its packets: for files that still grow.
pub fn playable_seconds(path: &Path) -> f64 {
    let text = ffprobe(path, &["-select_streams", "v", "-show_entries", "packet=pts_time"]);
    text.lines().filter_map(|line| line.strip_prefix("pts_time=")?.parse().ok()).fold(0.0, f64::max)
}

fn number(probe: &str, name: &str) -> f64 {
    let line = probe.lines().find_map(|line| line.strip_prefix(&format!("{name}="))).unwrap_or_default();
    let (value, unit) = line.split_once('/').unwrap_or((line, "1"));
    value.parse::<f64>().unwrap_or_else(|_| panic!("no {name} in {probe}")) / unit.parse::<f64>().unwrap()
}

fn frames(path: &Path, width: usize, height: usize) -> Vec<Frame> {
    let scale = format!("scale={width}:{height}:flags=area");
    let path_text = path.to_str().unwrap();
    let data = ffmpeg(&[
        "-i",
        path_text,
        "-map",
        "0:v",
        "-vf",
        &scale,
        "-vsync",
        "passthrough",
        "-enc_time_base",
        "-1",
        "-pix_fmt",
        "yuv420p",
        "-f",
        "rawvideo",
        "-",
    ]);
    let times = ffprobe(path, &["-select_streams", "v", "-show_entries", "frame=pts_time"]);
    let times = times.lines().filter_map(|line| line.strip_prefix("pts_time=")?.parse().ok());
    let frames: Vec<_> = times
        .zip(data.chunks(width * height * 3 / 2))
        .map(|(time, data)| Frame { time, data: data.to_vec() })
        .collect();
    assert_eq!(frames.len() * width * height * 3 / 2, data.len(), "frames without a time");
    frames
}

fn sound(path: &Path) -> Vec<i16> {
    // By its timestamps, and from 0 on. Of a growing MP4 ffmpeg does not skip the encoder's priming, which lies 21 ms
    // before 0, and moves everything by as much, unless it is told to leave times alone.
    let filter = format!("aresample={RATE}:async=1:first_pts=0");
    // A transport stream's times begin anywhere.
    let times: &[_] = if path.extension().is_some_and(|ending| ending == "ts") { &[] } else { &["-copyts"] };
    let read = ["-i", path.to_str().unwrap(), "-map", "0:a", "-ac", "1", "-af", &filter, "-f", "s16le", "-"];
    let data = ffmpeg(&[times, &read].concat());
    data.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

fn goertzel(samples: &[i16], frequency: f64) -> f64 {
    let turn = 2.0 * std::f64::consts::PI * frequency / RATE as f64;
    let (mut last, mut before) = (0.0, 0.0);
    for sample in samples {
        let next = f64::from(*sample) / 32768.0 + 2.0 * turn.cos() * last - before;
        (before, last) = (last, next);
    }
    let power = last * last + before * before - 2.0 * turn.cos() * last * before;
    2.0 * power.max(0.0).sqrt() / samples.len().max(1) as f64
}

/// Runs ffmpeg, which must find no error; gives its output.
pub fn ffmpeg(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg").args(["-v", "error", "-xerror"]).args(arguments).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "ffmpeg {arguments:?}: {complaints}");
    output.stdout
}

/// Runs ffprobe on a file; gives its output, one value a line.
pub fn ffprobe(path: &Path, arguments: &[&str]) -> String {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-of", "default=noprint_wrappers=1"])
        .args(arguments)
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "ffprobe: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
