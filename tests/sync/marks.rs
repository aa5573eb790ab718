//! Flashes and beeps of each member, and his tone: painted on the way in, found again in the recording.

use std::{f64::consts::PI, ops::Range, path::Path};

use crate::content::{ffmpeg, ffprobe};

/// From one picture of a member to his next.
pub const PICTURE: u64 = 40_000_000;
const SECOND: u64 = 1_000_000_000;
const MARK: u64 = 100_000_000;
/// Three pictures of 40 ms, to a frame of the recording: one of two lacks its first.
const FLASH_S: Range<f64> = 0.09..0.145;
const BEEP_S: Range<f64> = 0.075..0.145;
const RATE: usize = 48_000;
/// Samples that are summed up to one value of a sound at a pitch: a millisecond.
const BIN: usize = 48;
/// See [`Marks::pairs`].
const SETTLED_S: f64 = 2.5;
/// Without a mark for so long, he was not there.
const ABSENT_S: f64 = 4.5;
/// Of the picture that is looked at: a member has four columns of it.
const COLUMNS: usize = 12;
const ROWS: usize = 9;

/// Makes the first 100 ms of every second white.
pub fn flash(picture: &mut [u8], time: u64, _pitch: f64) {
    // Rounded to nanoseconds, a picture may be early by one.
    if (time + 1) % SECOND < MARK {
        picture[..320 * 180].fill(235);
    }
}

/// Adds a beep to the first 100 ms of every second: S16, stereo.
pub fn beep(sound: &mut [u8], time: u64, pitch: f64) {
    for (index, frame) in sound.chunks_exact_mut(4).enumerate() {
        let at = (time + index as u64 * SECOND / 48_000) % SECOND;
        if at < MARK {
            let value = (at as f64 / SECOND as f64 * pitch * 2.0 * PI).sin() * 8_000.0;
            for sample in frame.chunks_exact_mut(2) {
                let sum = f64::from(i16::from_le_bytes([sample[0], sample[1]])) + value;
                sample.copy_from_slice(&(sum as i16).to_le_bytes());
            }
        }
    }
}

/// A recording, small enough for an hour of it.
pub struct Marks {
    /// When each frame is shown.
    times: Vec<f64>,
    /// Y′ of [`COLUMNS`] × [`ROWS`].
    frames: Vec<u8>,
    sound: Vec<i16>,
}

/// When a flash is seen, and by how much later its beep is heard, in seconds.
pub type Pair = (f64, f64);

impl Marks {
    pub fn read(file: &Path) -> Self {
        let path = file.to_str().unwrap();
        let scale = format!("scale={COLUMNS}:{ROWS}:flags=area,format=gray");
        let frames =
            ffmpeg(&["-i", path, "-map", "0:v", "-vf", &scale, "-fps_mode", "passthrough", "-f", "rawvideo", "-"]);
        let times = ffprobe(file, &["-select_streams", "v", "-show_entries", "frame=pts_time"]);
        let times: Vec<f64> = times.lines().filter_map(|line| line.strip_prefix("pts_time=")?.parse().ok()).collect();
        assert_eq!(times.len() * COLUMNS * ROWS, frames.len());
        let sound = ffmpeg(&["-i", path, "-map", "0:a", "-ac", "1", "-ar", "48000", "-f", "s16le", "-"]);
        let sound = sound.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
        Self { times, frames, sound }
    }

    /// The flashes of the member whose part begins at `column`, each with its beep, once he has been there for
    /// [`SETTLED_S`]: until his first report nobody knows how his sound lies against his picture. One whose first or last picture
    /// was lost on the way says nothing about sound and picture, and is left out; so is a beep.
    pub fn pairs(&self, column: u32, pitch: f64) -> Vec<Pair> {
        // The middle of his part, of which nothing lies at an edge.
        let middle = 3 * COLUMNS + column as usize + 1;
        let bright = self.frames.chunks(COLUMNS * ROWS).map(|frame| frame[middle] > 128 && frame[middle + 1] > 128);
        let flashes = marks(self.times.iter().copied().zip(bright), FLASH_S);
        let loudness = loudness(&self.sound, pitch);
        let mut peaks: Vec<f64> =
            loudness.chunks(1_000).map(|second| second.iter().copied().fold(0.0, f64::max)).collect();
        peaks.sort_by(f64::total_cmp);
        let threshold = peaks[peaks.len() * 9 / 10] / 2.0;
        let beeps = marks(loudness.iter().enumerate().map(|(ms, value)| (ms as f64 / 1e3, *value > threshold)), BEEP_S);
        let beep_of = |flash: &f64| {
            let apart = beeps.iter().map(|beep| beep - flash).min_by(|a, b| a.abs().total_cmp(&b.abs()))?;
            (apart.abs() < 0.45).then_some((*flash, apart))
        };
        settled(flashes.iter().filter_map(beep_of))
    }
}

/// Without what comes soon after a long absence.
fn settled(pairs: impl Iterator<Item = Pair>) -> Vec<Pair> {
    let (mut since, mut last) = (f64::MIN, f64::MIN);
    pairs
        .filter(|(flash, _)| {
            if flash - last > ABSENT_S {
                since = *flash;
            }
            last = *flash;
            flash - since > SETTLED_S
        })
        .collect()
}

/// Beginnings of what holds for as long as that.
fn marks(values: impl Iterator<Item = (f64, bool)>, length_s: Range<f64>) -> Vec<f64> {
    let mut found = Vec::new();
    let mut since = None;
    for (time, holds) in values {
        if !holds
            && let Some(begun) = since.take()
            && length_s.contains(&(time - begun))
        {
            found.push(begun);
        } else if holds {
            since = since.or(Some(time));
        }
    }
    found
}

/// How strong a pitch is, each millisecond, within 5 ms to either side. An onset is where it is half of what it
/// becomes.
fn loudness(sound: &[i16], pitch: f64) -> Vec<f64> {
    const WINDOW: usize = 10;
    let bins = bins(sound, pitch);
    (0..bins.len())
        .map(|ms| {
            let window = &bins[ms.saturating_sub(WINDOW / 2)..(ms + WINDOW / 2).min(bins.len())];
            let (re, im) = window.iter().fold((0.0, 0.0), |sum, bin| (sum.0 + bin.0, sum.1 + bin.1));
            f64::hypot(re, im)
        })
        .collect()
}

/// The sound at a pitch, brought to 0 Hz: a complex number for each millisecond.
fn bins(sound: &[i16], pitch: f64) -> Vec<(f64, f64)> {
    let turn = 2.0 * PI * pitch / RATE as f64;
    let bin = |(index, samples): (usize, &[i16])| {
        samples.iter().enumerate().fold((0.0, 0.0), |sum, (offset, sample)| {
            let angle = turn * (index * BIN + offset) as f64 % (2.0 * PI);
            (sum.0 + f64::from(*sample) * angle.cos(), sum.1 - f64::from(*sample) * angle.sin())
        })
    };
    sound.chunks_exact(BIN).enumerate().map(bin).collect()
}

/// How a steady tone came through.
#[derive(Debug)]
pub struct Tone {
    /// In Hz: the middle of what was measured over a second each.
    pub pitch: f64,
    /// Share of the time in which it is heard.
    pub heard: f64,
    /// Longest time without it.
    pub longest_gap_s: f64,
    /// Most that it is shifted from one second to the next against its pitch, in turns.
    pub largest_jump_turns: f64,
}

impl Tone {
    pub fn read(marks: &Marks, nominal: f64) -> Self {
        // 50 ms a value: beeps and other pitches are far away.
        const STEP: usize = 50;
        let sums = |bins: &[(f64, f64)]| bins.iter().fold((0.0, 0.0), |sum, bin| (sum.0 + bin.0, sum.1 + bin.1));
        let values: Vec<(f64, f64)> = bins(&marks.sound, nominal).chunks_exact(STEP).map(sums).collect();
        // The encoder's beginning and what surrounds the recording's are left alone.
        let values = &values[20.min(values.len())..values.len().saturating_sub(10)];
        let mut strengths: Vec<f64> = values.iter().map(|(re, im)| f64::hypot(*re, *im)).collect();
        let is_heard: Vec<bool> = {
            let mut sorted = strengths.clone();
            sorted.sort_by(f64::total_cmp);
            let usual = sorted[sorted.len() / 2];
            strengths.drain(..).map(|strength| strength > usual / 2.0).collect()
        };
        let longest = is_heard.split(|heard| *heard).map(<[bool]>::len).max().unwrap_or(0);
        let mut turns = 0.0;
        let phases: Vec<f64> = values
            .windows(2)
            .map(|pair| {
                let ((re, im), (next_re, next_im)) = (pair[0], pair[1]);
                turns += f64::atan2(next_im * re - next_re * im, next_re * re + next_im * im) / (2.0 * PI);
                turns
            })
            .collect();
        let per_second = 1_000 / STEP;
        let mut shifts: Vec<f64> = phases.windows(per_second + 1).map(|pair| pair[per_second] - pair[0]).collect();
        shifts.sort_by(f64::total_cmp);
        let usual = shifts[shifts.len() / 2];
        let jumps = shifts.iter().map(|shift| (shift - usual).abs());
        Self {
            pitch: nominal + usual,
            heard: is_heard.iter().filter(|heard| **heard).count() as f64 / is_heard.len() as f64,
            longest_gap_s: (longest * STEP) as f64 / 1e3,
            largest_jump_turns: jumps.fold(0.0, f64::max),
        }
    }
}

/// Of how far apart picture and sound are, whichever is later.
pub fn percentile(pairs: &[Pair], share: f64) -> f64 {
    let mut apart: Vec<f64> = pairs.iter().map(|(_, apart)| apart.abs()).collect();
    apart.sort_by(f64::total_cmp);
    apart[((apart.len() as f64 * share).ceil() as usize).clamp(1, apart.len()) - 1]
}

/// By how much the distance grows each second (least squares).
pub fn slope(pairs: &[Pair]) -> f64 {
    let count = pairs.len() as f64;
    let mean = |of: fn(&Pair) -> f64| pairs.iter().map(of).sum::<f64>() / count;
    let (time, apart) = (mean(|pair| pair.0), mean(|pair| pair.1));
    let (over, under) = pairs.iter().fold((0.0, 0.0), |(over, under), pair| {
        (over + (pair.0 - time) * (pair.1 - apart), under + (pair.0 - time).powi(2))
    });
    over / under
}

pub fn summary(pairs: &[Pair]) -> String {
    let mean = pairs.iter().map(|pair| pair.1).sum::<f64>() / pairs.len() as f64;
    format!(
        "{} pairs, sound after picture {:.1} ms on average, {:.1} ms apart at p50, {:.1} at p99, {:.1} at most, grows by {:.2} ms a minute",
        pairs.len(),
        mean * 1e3,
        percentile(pairs, 0.5) * 1e3,
        percentile(pairs, 0.99) * 1e3,
        percentile(pairs, 1.0) * 1e3,
        slope(pairs) * 60e3,
    )
}
