//! Where a publisher's packets leave for the subscribers: before the jitter buffer.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use gst::prelude::*;
use tokio::sync::mpsc;

use super::{JITTER_BUFFER, RoomClock, Track, feed::Packet, track::KEYFRAME_PATIENCE};
use crate::media::{
    AudioLevel, MediaEvent,
    negotiation::{AUDIO_LEVEL, AcceptedSection, MID},
    rtp::{Classifier, Ingress, Released, Resequencer, SectionMarks},
};

/// How often the loudness of a track is told.
const LEVEL_WINDOW: Duration = Duration::from_millis(200);
/// Behind webrtcbin a lost packet does not come again later than this: its jitter buffer has asked for it until then.
const HOLD: Duration = JITTER_BUFFER.saturating_add(Duration::from_millis(50));
/// No section known yet.
const UNKNOWN: usize = usize::MAX;

/// One publisher's tap: all of its packets come by here, on GStreamer's threads.
#[derive(Debug)]
pub(super) struct Tap {
    clock: RoomClock,
    classifier: Classifier,
    tracks: Vec<TappedTrack>,
    events: mpsc::Sender<MediaEvent>,
}

/// A track at the tap. The lock is only ever taken by the one thread that brings its packets.
#[derive(Debug)]
pub(super) struct TappedTrack {
    pub(super) track: Arc<Track>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ingress: Ingress,
    /// Only where lost packets come again.
    resequencer: Option<Resequencer<Packet>>,
    loudest: Option<AudioLevel>,
    told: Duration,
    standstill: Standstill,
}

/// Whether viewers stand still, as a packet was given up.
#[derive(Debug, Default)]
pub(super) struct Standstill {
    /// When a keyframe was asked for, if they do.
    asked: Option<Duration>,
}

impl Tap {
    /// `ssrcs`: those that the offer names, for each section.
    pub(super) fn new(
        clock: RoomClock,
        sections: &[AcceptedSection],
        ssrcs: Vec<Vec<u32>>,
        tracks: &[Arc<Track>],
        events: mpsc::Sender<MediaEvent>,
    ) -> Self {
        let mid_id = sections.iter().find_map(|section| extension_id(section, MID));
        let marks = sections.iter().zip(ssrcs).map(|(section, ssrcs)| SectionMarks {
            mid: section.mid.clone(),
            payload: section.payload,
            ssrcs,
        });
        let classifier = Classifier::new(marks.collect(), mid_id);
        let tapped = sections
            .iter()
            .zip(tracks)
            .map(|(section, track)| TappedTrack::holding(section, track, extension_id(section, AUDIO_LEVEL), HOLD));
        Self { clock, classifier, tracks: tapped.collect(), events }
    }

    /// Watches one SSRC's jitter buffer: its caps say nothing yet, so the packets tell whose they are.
    pub(super) fn attach(self: &Arc<Self>, jitterbuffer: &gst::Element) {
        let Some(pad) = jitterbuffer.static_pad("sink") else { return };
        let tap = self.clone();
        let section = AtomicUsize::new(UNKNOWN);
        let packets = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
        pad.add_probe(packets, move |_, info| {
            match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => tap.take(buffer, &section),
                Some(gst::PadProbeData::BufferList(list)) => list.iter().for_each(|buffer| tap.take(buffer, &section)),
                _ => {}
            }
            gst::PadProbeReturn::Ok
        });
    }

    fn take(&self, buffer: &gst::BufferRef, section: &AtomicUsize) {
        let Ok(bytes) = buffer.map_readable() else { return };
        let mut index = section.load(Relaxed);
        if index == UNKNOWN {
            let Some(known) = self.classifier.section(&bytes) else { return };
            section.store(known, Relaxed);
            index = known;
        }
        self.tracks[index].take(&bytes, self.clock.running_time(), &self.events);
    }
}

impl TappedTrack {
    /// On the fan-out edge, which asks for a lost packet for longer than any wait for it. `level_id`: the number of the
    /// loudness in its packets.
    pub(super) fn new(section: &AcceptedSection, track: &Arc<Track>, level_id: Option<u8>) -> Self {
        let ingress = Ingress::new(section.codec, track.ssrc(), level_id).with_dependencies();
        Self::with(section, track, ingress, Resequencer::default())
    }

    /// Where a lost packet does not come again after `hold`.
    fn holding(section: &AcceptedSection, track: &Arc<Track>, level_id: Option<u8>, hold: Duration) -> Self {
        let ingress = Ingress::new(section.codec, track.ssrc(), level_id);
        Self::with(section, track, ingress, Resequencer::holding(hold))
    }

    fn with(section: &AcceptedSection, track: &Arc<Track>, ingress: Ingress, resequencer: Resequencer<Packet>) -> Self {
        let resequencer = section.rtx.map(|_| resequencer);
        let state =
            State { ingress, resequencer, loudest: None, told: Duration::ZERO, standstill: Standstill::default() };
        Self { track: track.clone(), state: Mutex::new(state) }
    }

    /// Gives a packet to the track's subscribers, and back in Salon's numbers with the time of its arrival;
    /// `None` if it is one to be passed over. `now`: when it came.
    pub(super) fn take(
        &self,
        bytes: &[u8],
        now: gst::ClockTime,
        events: &mpsc::Sender<MediaEvent>,
    ) -> Option<gst::Buffer> {
        let mut state = self.state.lock().expect("nothing panics under this lock");
        let normalised = state.ingress.accept(bytes, now.into())?;
        let level = normalised.level.and_then(|level| state.loudest_of_window(level, now.into()));
        let mut buffer = gst::Buffer::from_slice(normalised.bytes);
        buffer.get_mut().expect("nobody else has it yet").set_pts(now);
        let arrived = buffer.clone();
        let packet = Packet { buffer, starts_keyframe: normalised.starts_keyframe };
        let ready = match &mut state.resequencer {
            Some(resequencer) => resequencer.push(normalised.sequence, packet, now.into()),
            None => Released { items: vec![packet], gap: false },
        };
        let has_keyframe = ready.items.iter().any(|packet| packet.starts_keyframe);
        let stands_still = state.standstill.wants_keyframe(ready.gap, has_keyframe, now.into());
        drop(state);
        if stands_still {
            tracing::debug!(track.id = %self.track.id, "a lost packet did not come again: asks for a keyframe");
            self.track.request_keyframe();
        }
        if let Some(level) = level {
            // Loudness is of no use later: if the room is busy, it goes without.
            let _ = events.try_send(MediaEvent::AudioLevels(vec![(self.track.id.clone(), level)]));
        }
        for packet in &ready.items {
            self.track.forward(packet);
        }
        Some(arrived)
    }

    /// A timestamp of that source in the track's numbers; `None` if the track is not of that source.
    pub(super) fn timestamp(&self, ssrc: u32, timestamp: u32) -> Option<u32> {
        self.state.lock().expect("nothing panics under this lock").ingress.timestamp(ssrc, timestamp)
    }
}

impl Standstill {
    /// A keyframe is to be asked for: viewers would find out by themselves three seconds later. The
    /// request may be lost like any packet, so it is made again until a keyframe comes.
    pub(super) fn wants_keyframe(&mut self, gap: bool, has_keyframe: bool, now: Duration) -> bool {
        if gap {
            self.asked.get_or_insert(Duration::ZERO);
        }
        if has_keyframe {
            self.asked = None;
        }
        let due = self.asked.is_some_and(|asked| now.saturating_sub(asked) >= KEYFRAME_PATIENCE);
        if due {
            self.asked = Some(now);
        }
        due
    }
}

impl State {
    /// Takes a packet's loudness; gives that of the window when it is over.
    fn loudest_of_window(&mut self, level: AudioLevel, now: Duration) -> Option<AudioLevel> {
        let before = self.loudest.unwrap_or(level);
        let loudest = AudioLevel { peak_db: before.peak_db.max(level.peak_db), voice: before.voice || level.voice };
        if now.saturating_sub(self.told) < LEVEL_WINDOW {
            self.loudest = Some(loudest);
            return None;
        }
        self.told = now;
        self.loudest = None;
        Some(loudest)
    }
}

fn extension_id(section: &AcceptedSection, wanted: &str) -> Option<u8> {
    section.extensions.iter().find(|(_, uri)| uri == wanted).map(|(id, _)| *id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_gap_a_keyframe_is_asked_for_until_it_comes() {
        let mut standstill = Standstill::default();
        let mut due = |gap, has_keyframe, ms| standstill.wants_keyframe(gap, has_keyframe, Duration::from_millis(ms));
        let patience = KEYFRAME_PATIENCE.as_millis() as u64;
        assert!(!due(false, false, 9_000), "nothing is missing");
        assert!(due(true, false, 10_000));
        assert!(!due(true, false, 9_999 + patience), "it may be on its way");
        assert!(due(false, false, 10_000 + patience), "the request may have been lost");
        assert!(!due(false, true, 10_100 + patience), "here it is");
        assert!(!due(false, false, 20_000));
    }
}
