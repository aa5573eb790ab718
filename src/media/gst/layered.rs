//! A track that its publisher sends in layers: for GStreamer and whoever asks for no less, the largest that comes;
//! for the readers of a level, the largest up to that.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rtp_types::RtpPacket;

use super::{RoomClock, Track, feed::Packet, tap::Standstill};
use crate::media::{
    negotiation::AcceptedSection,
    rtp::{self, Choice, Ingress, LayerPacket, Layers, Normalised, Released, Resequencer},
    sender_clock::{CaptureTimes, SenderClock, SenderReport},
};

/// One track, of which every layer comes on the same thread.
#[derive(Debug)]
pub(super) struct LayeredTrack {
    track: Arc<Track>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    inputs: Vec<Input>,
    layers: Layers,
    /// What GStreamer gets.
    largest: Choice,
    /// What the readers of each level get.
    levels: Vec<Choice>,
}

/// A layer as it comes.
#[derive(Debug)]
struct Input {
    ingress: Ingress,
    /// Only where lost packets come again.
    resequencer: Option<Resequencer<Normalised>>,
    standstill: Standstill,
    /// The last report, in the layer's own numbers.
    report: Option<SenderReport>,
    times: Option<CaptureTimes>,
}

/// What is to go to the pipeline.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// First: another layer is shown, whose times these are.
    pub(super) report: Option<SenderReport>,
    pub(super) packets: Vec<gst::Buffer>,
}

impl LayeredTrack {
    pub(super) fn new(section: &AcceptedSection, track: &Arc<Track>) -> Self {
        let input = |_: &String| Input {
            ingress: Ingress::new(section.codec, track.ssrc(), None),
            resequencer: section.rtx.map(|_| Resequencer::default()),
            standstill: Standstill::default(),
            report: None,
            times: None,
        };
        let count = section.layers.len();
        let state = State {
            inputs: section.layers.iter().map(input).collect(),
            layers: Layers::new(count),
            largest: Choice::new(section.codec, None),
            levels: (0..count).map(|layer| Choice::new(section.codec, Some(layer))).collect(),
        };
        Self { track: track.clone(), state: Mutex::new(state) }
    }

    /// Gives a packet to the track's subscribers who are to have it, and back what goes to the pipeline.
    pub(super) fn take(&self, layer: usize, bytes: &[u8], clock: &RoomClock, sender: &SenderClock) -> Taken {
        let now = clock.running_time();
        let mut taken = Taken::default();
        let mut shown: Vec<Packet> = Vec::new();
        let mut of_levels: Vec<(usize, Packet)> = Vec::new();
        let mut wants_keyframe = false;
        let mut state = self.state.lock().expect("nothing panics under this lock");
        for packet in state.ready(layer, bytes, now.into(), &mut wants_keyframe) {
            let state = &mut *state;
            let Ok(parsed) = RtpPacket::parse(&packet.bytes) else { continue };
            let size = if packet.starts_keyframe { rtp::size(self.track.codec, parsed.payload()) } else { None };
            state.layers.heard(layer, size, now.into());
            self.track.heard_layer(layer, parsed.payload().len(), size.map(|(_, height)| height));
            let Some(input) = state.inputs.get(layer) else { continue };
            let captured = input.times.as_ref().and_then(|times| times.of(parsed.timestamp(), now.into()));
            let captured = captured.unwrap_or(now.into());
            let starts_keyframe = packet.starts_keyframe;
            let packet = LayerPacket { layer, bytes: &packet.bytes, starts_keyframe, captured, now: now.into() };
            let chosen = state.largest.pass(&state.layers, packet);
            wants_keyframe |= chosen.wants_keyframe;
            if chosen.changed
                && let Some(report) = input.report
            {
                taken.report = Some(self.translated(report, &state.largest, sender));
            }
            if let Some(bytes) = chosen.bytes {
                let buffer = buffer(bytes, now);
                taken.packets.push(buffer.clone());
                shown.push(Packet { buffer, starts_keyframe });
            }
            for (level, choice) in state.levels.iter_mut().enumerate() {
                if !self.track.level_is_watched(level) {
                    choice.rest();
                    continue;
                }
                let chosen = choice.pass(&state.layers, packet);
                wants_keyframe |= chosen.wants_keyframe;
                if let (Some(bytes), Ok(captured)) = (chosen.bytes, gst::ClockTime::try_from(captured)) {
                    of_levels.push((level, Packet { buffer: buffer(bytes, captured), starts_keyframe }));
                }
            }
        }
        drop(state);
        if wants_keyframe {
            self.track.request_keyframe();
        }
        shown.iter().for_each(|packet| self.track.forward(packet));
        of_levels.into_iter().for_each(|(level, packet)| self.track.forward_level(level, packet));
        taken
    }

    /// Takes what the publisher says of a layer; gives it back in the track's numbers, if that layer is shown.
    pub(super) fn report(
        &self,
        layer: usize,
        report: SenderReport,
        sender: &SenderClock,
        now: Duration,
    ) -> Option<SenderReport> {
        let mut state = self.state.lock().expect("nothing panics under this lock");
        let input = state.inputs.get_mut(layer)?;
        let rtp = input.ingress.timestamp(report.ssrc, report.rtp)?;
        let report = SenderReport { ssrc: self.track.ssrc(), rtp, ..report };
        input.report = Some(report);
        input.times = Some(sender.report(report, self.track.codec.clock_rate(), now));
        (state.largest.shown() == Some(layer)).then(|| self.translated(report, &state.largest, sender))
    }

    /// A layer's report in the numbers of what is shown, which the track's packets are told by from now on.
    fn translated(&self, report: SenderReport, shown: &Choice, sender: &SenderClock) -> SenderReport {
        let report = SenderReport { rtp: shown.timestamp(report.rtp), ..report };
        self.track.set_capture_times(sender.times(report, self.track.codec.clock_rate()));
        report
    }
}

impl State {
    /// The packets of that layer that may go on.
    fn ready(&mut self, layer: usize, bytes: &[u8], now: Duration, wants_keyframe: &mut bool) -> Vec<Normalised> {
        let is_shown = self.levels.iter().chain([&self.largest]).any(|choice| choice.shown() == Some(layer));
        let Some(input) = self.inputs.get_mut(layer) else { return Vec::new() };
        let Some(packet) = input.ingress.accept(bytes, now) else { return Vec::new() };
        let ready = match &mut input.resequencer {
            Some(resequencer) => resequencer.push(packet.sequence, packet, now),
            None => Released { items: vec![packet], gap: false },
        };
        let has_keyframe = ready.items.iter().any(|packet| packet.starts_keyframe);
        *wants_keyframe |= input.standstill.wants_keyframe(ready.gap && is_shown, has_keyframe, now);
        ready.items
    }
}

fn buffer(bytes: Vec<u8>, time: gst::ClockTime) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(bytes);
    buffer.get_mut().expect("nobody else has it yet").set_pts(time);
    buffer
}
