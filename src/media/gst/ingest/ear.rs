//! How loud a camera is, for the room's speech detector: cameras do not say it themselves (RFC 6464).

use std::sync::Mutex;

use gst::prelude::*;
use tokio::sync::mpsc;

use crate::{
    media::{AudioLevel, CodecName, MediaEvent},
    room::id::TrackId,
};

/// How often the room is told.
const WINDOW: gst::ClockTime = gst::ClockTime::from_mseconds(200);
const SILENCE_DB: f64 = -127.0;

/// One track's.
#[derive(Debug)]
pub(super) struct Ear {
    track: TrackId,
    events: mpsc::Sender<MediaEvent>,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    began: Option<gst::ClockTime>,
    loudest: Option<i8>,
}

impl Ear {
    pub(super) fn new(track: TrackId, events: mpsc::Sender<MediaEvent>) -> Self {
        Self { track, events, window: Mutex::default() }
    }

    /// A block of sound of that time. Never waits.
    pub(super) fn hear(&self, samples: impl Iterator<Item = i16>, time: gst::ClockTime) {
        let Some(level) = level_db(samples) else { return };
        let mut window = self.window.lock().expect("nothing panics under this lock");
        let loudest = window.loudest.map_or(level, |before| before.max(level));
        window.loudest = Some(loudest);
        let began = *window.began.get_or_insert(time);
        if time < began || time >= began + WINDOW {
            *window = Window { began: Some(time), loudest: None };
            let level = AudioLevel { peak_db: loudest, voice: false };
            // Loudness is of no use later: if the room is busy, it goes without.
            let _ = self.events.try_send(MediaEvent::AudioLevels(vec![(self.track.clone(), level)]));
        }
    }

    /// The same of G.711, as it came.
    pub(super) fn hear_g711(&self, codec: CodecName, bytes: &[u8], time: gst::ClockTime) {
        match codec {
            CodecName::Pcmu => self.hear(bytes.iter().map(|byte| of_ulaw(*byte)), time),
            CodecName::Pcma => self.hear(bytes.iter().map(|byte| of_alaw(*byte)), time),
            _ => {}
        }
    }
}

/// Hears what passes `pad`: S16, little-endian.
pub(super) fn listen(pad: &gst::Pad, ear: std::sync::Arc<Ear>) {
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer()
            && let (Some(time), Ok(bytes)) = (buffer.pts(), buffer.map_readable())
        {
            ear.hear(bytes.as_chunks::<2>().0.iter().map(|pair| i16::from_le_bytes(*pair)), time);
        }
        gst::PadProbeReturn::Ok
    });
}

/// The root of the mean square in dBov; `None` of nothing.
fn level_db(samples: impl Iterator<Item = i16>) -> Option<i8> {
    let (mut squares, mut count) = (0.0, 0u32);
    for sample in samples {
        squares += f64::from(sample) * f64::from(sample);
        count += 1;
    }
    let rms = (squares / f64::from((count > 0).then_some(count)?)).sqrt();
    Some((20.0 * (rms / 32_768.0).log10()).clamp(SILENCE_DB, 0.0) as i8)
}

/// ITU-T G.711, table 2.
fn of_ulaw(byte: u8) -> i16 {
    let byte = !byte;
    let magnitude = ((i16::from(byte & 0x0F) << 3) + 0x84) << ((byte >> 4) & 7);
    if byte & 0x80 == 0 { magnitude - 0x84 } else { 0x84 - magnitude }
}

/// ITU-T G.711, table 1.
fn of_alaw(byte: u8) -> i16 {
    let byte = byte ^ 0x55;
    let (segment, step) = ((byte >> 4) & 7, (i16::from(byte & 0x0F) << 4) + 8);
    let magnitude = if segment == 0 { step } else { (step + 0x100) << (segment - 1) };
    if byte & 0x80 == 0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g711_is_expanded_as_the_tables_have_it() {
        let ulaw = [(0xFF, 0), (0x7F, 0), (0x80, 32_124), (0x00, -32_124), (0xF0, 120), (0xEF, 132)];
        let alaw = [(0xD5, 8), (0x55, -8), (0xAA, 32_256), (0x2A, -32_256), (0xC5, 264)];
        assert_eq!(ulaw.map(|(byte, _)| of_ulaw(byte)), ulaw.map(|(_, value)| value));
        assert_eq!(alaw.map(|(byte, _)| of_alaw(byte)), alaw.map(|(_, value)| value));
    }

    #[test]
    fn the_loudest_block_of_a_window_is_told() {
        let (events, mut told) = mpsc::channel(8);
        let ear = Ear::new(TrackId::random(), events);
        let at = gst::ClockTime::from_mseconds;
        ear.hear([0; 160].into_iter(), at(1_000));
        ear.hear([3_277, -3_277].into_iter(), at(1_020));
        ear.hear([].into_iter(), at(1_190));
        assert!(told.try_recv().is_err(), "the window is not over");
        ear.hear([0; 160].into_iter(), at(1_200));
        let MediaEvent::AudioLevels(levels) = told.try_recv().unwrap() else { panic!() };
        assert_eq!(levels[0].1.peak_db, -19);
        ear.hear([0; 160].into_iter(), at(1_400));
        let MediaEvent::AudioLevels(levels) = told.try_recv().unwrap() else { panic!() };
        assert_eq!(levels[0].1.peak_db, -127);
    }
}
