//! Keeps a sound in step with its timestamps, whatever the clock of its sender does.
//!
//! A microphone that runs fast by 1,000 ppm sends a thousandth more samples than its timestamps, which are on the
//! room's time, have space for. A mixer that counts samples falls behind its picture by 1 ms each second, and jumps
//! by 40 once it notices. So the samples are stretched or squeezed by as much as they drift: what comes out is
//! without holes and, to 2 ms, at its time. A sound that does not drift passes untouched.
//!
//! The ratio is within 0.5 % of 1 and changes all the time, which GStreamer's resampler cannot do while it runs: a
//! short windowed sinc is enough here, as nothing is to be filtered.

use std::{f64::consts::PI, sync::LazyLock};

use gst::prelude::*;

/// Of what is mixed.
const RATE: f64 = 48_000.0;
const CHANNELS: usize = 2;
/// Further off, it is no drift but a pause, or a sender who began anew: that is taken as it is stamped.
const JUMP_NS: f64 = 40e6;
/// The same of a sound that has only just begun: its first packets are stamped by their arrival, later ones better.
/// To be pulled there, by 5 ms a second, would take it up to eight seconds.
const YOUNG_JUMP_NS: f64 = 20e6;
const YOUNG_NS: f64 = 10e9;
/// What is missing between two buffers and is longer than that was lost: silence takes its place. Stretching what is
/// there over it would change the pitch.
const HOLE_NS: f64 = 8e6;
/// Nearer to its time than that nothing is done yet: arrival times are no better known.
const SLACK_NS: f64 = 1e6;
/// In this time what is off would be made up for.
const PULL_NS: f64 = 2e9;
/// The ratio follows within that: a quarter of the above damps it critically.
const LAG_NS: f64 = 0.5e9;
/// Clocks of sound cards are within a tenth of it.
const MOST_RATIO: f64 = 0.005;

/// Samples that make one of the output.
const TAPS: usize = 16;
const HALF: usize = TAPS / 2;
/// Places between two samples that are tabled; between those, straight lines.
const PHASES: usize = 64;

type Frame = [i16; CHANNELS];

/// Weights of the samples around each place, which sum up to 1.
static KERNEL: LazyLock<Vec<[f32; TAPS]>> = LazyLock::new(|| (0..=PHASES).map(kernel).collect());

/// What passes `pad` (48 kHz stereo, S16 interleaved) follows its timestamps from now on.
pub fn follow(pad: &gst::Pad) {
    let follower = std::sync::Mutex::new(Follower::default());
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let Some(buffer) = info.buffer_mut() else { return gst::PadProbeReturn::Ok };
        let Some(pts) = buffer.pts() else { return gst::PadProbeReturn::Ok };
        let mut follower = follower.lock().expect("nothing panics under this lock");
        let out = match buffer.map_readable() {
            Ok(map) => follower.take(pts.nseconds() as f64, &frames(&map)),
            Err(_) => return gst::PadProbeReturn::Ok,
        };
        if out.frames.is_empty() {
            return gst::PadProbeReturn::Drop;
        }
        *buffer = out.into_buffer(buffer.flags() & gst::BufferFlags::GAP);
        gst::PadProbeReturn::Ok
    });
}

/// A stretch of sound as it goes on.
struct Stretch {
    time_ns: f64,
    frames: Vec<Frame>,
    /// It does not follow what went before.
    is_new: bool,
}

impl Stretch {
    fn into_buffer(self, flags: gst::BufferFlags) -> gst::Buffer {
        let bytes: Vec<u8> = self.frames.iter().flatten().flat_map(|sample| sample.to_le_bytes()).collect();
        let end_ns = self.time_ns + self.frames.len() as f64 * 1e9 / RATE;
        let (from, to) = (self.time_ns.round().max(0.0) as u64, end_ns.round().max(0.0) as u64);
        let mut buffer = gst::Buffer::from_mut_slice(bytes);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::from_nseconds(from));
            buffer.set_duration(gst::ClockTime::from_nseconds(to - from));
            buffer.set_flags(if self.is_new { flags | gst::BufferFlags::DISCONT } else { flags });
        }
        buffer
    }
}

#[derive(Default)]
struct Follower {
    /// The last samples that came in, and those that are not used up.
    held: Vec<Frame>,
    /// Where in `held` the next output sample lies.
    at: f64,
    /// When its first sample was heard, since it began or was silent for long.
    born_ns: f64,
    /// When the next output sample is heard; `None` before the first.
    next_ns: Option<f64>,
    /// Up to when samples came in.
    came_until_ns: f64,
    /// By how much more than 1 the sound is stretched.
    ratio: f64,
    /// It drifts: the output comes from between the samples.
    drifts: bool,
}

impl Follower {
    fn take(&mut self, pts_ns: f64, frames: &[Frame]) -> Stretch {
        let hole_ns = pts_ns - self.came_until_ns;
        if self.next_ns.is_some() && (HOLE_NS..JUMP_NS * 5.0).contains(&hole_ns) {
            let missing = (hole_ns * RATE / 1e9).round() as usize;
            self.held.resize(self.held.len() + missing, [0; CHANNELS]);
        }
        let placed_ns = pts_ns + (self.at - self.held.len() as f64) * 1e9 / RATE;
        let most_ns = if pts_ns - self.born_ns < YOUNG_NS { YOUNG_JUMP_NS } else { JUMP_NS };
        let off_ns = self.next_ns.map(|next_ns| placed_ns - next_ns).filter(|off_ns| off_ns.abs() < most_ns);
        let (is_new, off_ns) = (off_ns.is_none(), off_ns.unwrap_or(0.0));
        if is_new {
            let born_ns = if self.next_ns.is_some_and(|_| hole_ns.abs() < YOUNG_NS) { self.born_ns } else { pts_ns };
            let (held, at, next_ns) = (vec![[0; CHANNELS]; TAPS], TAPS as f64, Some(pts_ns));
            *self = Self { held, at, born_ns, next_ns, ..Self::default() };
        }
        self.came_until_ns = pts_ns + frames.len() as f64 * 1e9 / RATE;
        self.drifts |= off_ns.abs() > SLACK_NS;
        self.held.extend_from_slice(frames);
        let time_ns = self.next_ns.unwrap_or(pts_ns);
        let out = if self.drifts { self.stretched(off_ns, frames.len()) } else { self.untouched() };
        self.next_ns = Some(time_ns + out.len() as f64 * 1e9 / RATE);
        Stretch { time_ns, frames: out, is_new }
    }

    fn untouched(&mut self) -> Vec<Frame> {
        let out = self.held.split_off(self.at as usize);
        // What comes before the next sample is needed once it drifts.
        self.held.extend_from_slice(&out);
        self.forget(self.held.len());
        out
    }

    fn stretched(&mut self, off_ns: f64, came: usize) -> Vec<Frame> {
        let passed_ns = came as f64 * 1e9 / RATE;
        let wanted = (off_ns / PULL_NS).clamp(-MOST_RATIO, MOST_RATIO);
        self.ratio += (wanted - self.ratio) * (passed_ns / LAG_NS).min(1.0);
        let step = 1.0 / (1.0 + self.ratio);
        let mut out = Vec::with_capacity(came + HALF);
        while self.at as usize + HALF < self.held.len() {
            out.push(between(&self.held, self.at));
            self.at += step;
        }
        self.forget(self.at as usize);
        out
    }

    /// Lets go of what no sample from `next` on needs.
    fn forget(&mut self, next: usize) {
        let gone = next.saturating_sub(TAPS);
        self.held.drain(..gone);
        self.at = if self.drifts { self.at - gone as f64 } else { self.held.len() as f64 };
    }
}

/// The sound at a place between samples, of which there are enough on both sides.
fn between(held: &[Frame], at: f64) -> Frame {
    let whole = at as usize;
    let phase = (at - whole as f64) * PHASES as f64;
    let (below, share) = (&KERNEL[phase as usize], (phase - phase.floor()) as f32);
    let above = &KERNEL[phase as usize + 1];
    let mut sums = [0.0f32; CHANNELS];
    for ((frame, below), above) in held[whole + 1 - HALF..].iter().zip(below).zip(above) {
        let weight = below + (above - below) * share;
        for (sum, sample) in sums.iter_mut().zip(frame) {
            *sum += weight * f32::from(*sample);
        }
    }
    sums.map(|sum| sum.round() as i16)
}

/// Weights of the samples from `HALF - 1` before a place to `HALF` behind it: sinc in a Blackman window.
fn kernel(phase: usize) -> [f32; TAPS] {
    let share = phase as f64 / PHASES as f64;
    let weight = |tap: usize| {
        let x = tap as f64 - (HALF as f64 - 1.0) - share;
        let sinc = if x.abs() < 1e-9 { 1.0 } else { (PI * x).sin() / (PI * x) };
        let turn = PI * x / HALF as f64;
        sinc * (0.42 + 0.5 * turn.cos() + 0.08 * (2.0 * turn).cos())
    };
    let weights: [f64; TAPS] = std::array::from_fn(weight);
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| (weight / sum) as f32)
}

fn frames(bytes: &[u8]) -> Vec<Frame> {
    let sample = |bytes: &[u8]| i16::from_le_bytes([bytes[0], bytes[1]]);
    bytes.chunks_exact(2 * CHANNELS).map(|frame| [sample(frame), sample(&frame[2..])]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 960;

    fn sine(index: usize) -> Frame {
        let value = ((index as f64 * 440.0 / RATE) * 2.0 * PI).sin() * 12_000.0;
        [value.round() as i16, -value.round() as i16]
    }

    /// What becomes of `seconds` of a tone whose sender's clock runs fast by so much: its stretches.
    fn run(seconds: usize, fast_ppm: f64, jitter_ns: impl Fn(usize) -> f64) -> Vec<Stretch> {
        let mut follower = Follower::default();
        let block_ns = BLOCK as f64 * 1e9 / RATE / (1.0 + fast_ppm / 1e6);
        (0..seconds * 50)
            .map(|block| {
                let tone: Vec<_> = (block * BLOCK..(block + 1) * BLOCK).map(sine).collect();
                follower.take(5e9 + block as f64 * block_ns + jitter_ns(block), &tone)
            })
            .collect()
    }

    fn joined(stretches: &[Stretch]) -> Vec<Frame> {
        for pair in stretches.windows(2) {
            let end = pair[0].time_ns + pair[0].frames.len() as f64 * 1e9 / RATE;
            assert!((pair[1].time_ns - end).abs() < 1.0 && !pair[1].is_new, "a hole at {end}");
        }
        stretches.iter().flat_map(|stretch| stretch.frames.clone()).collect()
    }

    #[test]
    fn what_does_not_drift_passes_untouched() {
        let out = joined(&run(5, 0.0, |block| [0.0, 600e3, -700e3][block % 3]));
        assert!(out.iter().enumerate().all(|(index, frame)| *frame == sine(index)));
        assert_eq!(out.len(), 5 * 48_000);
    }

    #[test]
    fn a_tone_that_drifts_stays_at_its_time_without_a_jump() {
        for fast_ppm in [1_000.0, -1_000.0, 100.0] {
            let stretches = run(20, fast_ppm, |block| [0.0, 400e3, -300e3][block % 3]);
            let out = joined(&stretches);
            let last = &stretches[stretches.len() - 1];
            let end_ns = last.time_ns + last.frames.len() as f64 * 1e9 / RATE;
            let expected_ns = 5e9 + 20e9 / (1.0 + fast_ppm / 1e6);
            assert!((end_ns - expected_ns).abs() < 3.5e6, "{fast_ppm} ppm: {:.2} ms off", (end_ns - expected_ns) / 1e6);
            // A sine of slowly changing pitch obeys y[n+1] + y[n-1] = 2 cos(w) y[n]: a click does not.
            let turn = 2.0 * (2.0 * PI * 440.0 / RATE).cos();
            let clicks = out.windows(3).filter(|frames| {
                let [before, here, after] = [0, 1, 2].map(|index| f64::from(frames[index][0]));
                (after + before - turn * here).abs() > 12.0
            });
            assert_eq!(clicks.count(), 0, "{fast_ppm} ppm");
            assert!(out.iter().all(|frame| (frame[0] + frame[1]).abs() <= 1), "{fast_ppm} ppm: the channels differ");
        }
    }

    #[test]
    fn a_pause_is_kept_and_what_follows_is_at_its_time() {
        let mut follower = Follower::default();
        let tone: Vec<_> = (0..BLOCK).map(sine).collect();
        let first = follower.take(0.0, &tone);
        assert!(first.is_new && first.frames == tone);
        assert!(!follower.take(20e6, &tone).is_new);
        let later = follower.take(440e6, &tone);
        assert!(later.is_new && later.time_ns == 440e6 && later.frames == tone);
        // A lost packet is silence, of its length, and what follows is as it was.
        let after = follower.take(480e6, &tone);
        assert_eq!((after.is_new, after.time_ns, after.frames.len()), (false, 460e6, 2 * BLOCK));
        assert!(after.frames[..BLOCK].iter().all(|frame| *frame == [0, 0]) && after.frames[BLOCK..] == tone);
    }
}
