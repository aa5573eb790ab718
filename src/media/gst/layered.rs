//! A track that its publisher sends in layers: for whoever asks for no less, the largest that comes; for the readers of
//! a level, the largest up to that; for GStreamer, the smallest that is large enough.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rtp_types::RtpPacket;

use super::{Track, feed::Packet, tap::Standstill};
use crate::media::{
    negotiation::AcceptedSection,
    rtp::{self, Choice, Fitting, Ingress, LayerPacket, Layers, Needed, Normalised, Released, Resequencer},
    sender_clock::{CaptureTimes, SenderClock, SenderReport},
};

/// One track, of which every layer comes on the same thread.
#[derive(Debug)]
pub(super) struct LayeredTrack {
    track: Arc<Track>,
    rids: Vec<String>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    inputs: Vec<Input>,
    layers: Layers,
    /// What viewers get who ask for no less.
    largest: Choice,
    /// What GStreamer gets.
    decoded: Choice,
    fitting: Fitting,
    /// What the readers of each level get.
    levels: Vec<Choice>,
    /// How much later than they were captured packets come, smoothed, once a layer's report has told.
    delay: Option<Duration>,
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
            ingress: Ingress::new(section.codec, track.ssrc(), None).with_dependencies(),
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
            decoded: Choice::new(section.codec, None),
            fitting: Fitting::default(),
            levels: (0..count).map(|layer| Choice::new(section.codec, Some(layer))).collect(),
            delay: None,
        };
        Self { track: track.clone(), rids: section.layers.clone(), state: Mutex::new(state) }
    }

    /// Gives a packet to the track's subscribers who are to have it, and back what goes to the pipeline.
    /// `now`: when it came.
    pub(super) fn take(&self, layer: usize, bytes: &[u8], now: gst::ClockTime, sender: &SenderClock) -> Taken {
        let mut taken = Taken::default();
        let mut shown: Vec<Packet> = Vec::new();
        let mut of_levels: Vec<(usize, Packet)> = Vec::new();
        let mut wants_keyframe = false;
        let needed = self.track.needed();
        let mut state = self.state.lock().expect("nothing panics under this lock");
        for packet in state.ready(layer, bytes, now.into(), &mut wants_keyframe) {
            let state = &mut *state;
            let Ok(parsed) = RtpPacket::parse(&packet.bytes) else { continue };
            if parsed.payload().is_empty() {
                // Sent to feel for a higher rate.
                state.leave_out(layer, parsed.sequence_number());
                continue;
            }
            let size = if packet.starts_keyframe { rtp::size(self.track.codec, parsed.payload()) } else { None };
            state.layers.heard(layer, size, now.into());
            self.track.heard_layer(layer, parsed.payload().len(), size.map(|(_, height)| height));
            let Some(input) = state.inputs.get(layer) else { continue };
            let captured = input.times.as_ref().and_then(|times| times.of(parsed.timestamp(), now.into()));
            let (starts_keyframe, report) = (packet.starts_keyframe, input.report);
            let captured = state.captured(captured, now.into());
            let packet = LayerPacket { layer, bytes: &packet.bytes, starts_keyframe, captured, now: now.into() };
            let chosen = state.largest.pass(&state.layers, packet);
            wants_keyframe |= chosen.wants_keyframe;
            if chosen.changed
                && let Some(report) = report
            {
                self.shows(report, &state.largest, sender);
            }
            if let Some(bytes) = chosen.bytes {
                shown.push(Packet { buffer: buffer(bytes, now), starts_keyframe });
            }
            let wanted = match *needed {
                // What has begun to flow into the pipeline goes on (`valve.rs`), and nothing begins.
                Needed::Nothing => state.decoded.shown(),
                _ => state.fitting.layer(&state.layers, &needed, state.decoded.shown(), now.into()),
            };
            let chosen = state.decoded.pass_wanted(wanted, packet);
            wants_keyframe |= chosen.wants_keyframe;
            if chosen.changed {
                taken.report = report.map(|report| translated(report, &state.decoded));
            }
            if let Some(bytes) = chosen.bytes {
                if starts_keyframe {
                    self.track.set_decoded_layer(self.name(layer, state.layers.size(layer)));
                }
                taken.packets.push(buffer(bytes, now));
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

    /// Takes what the publisher says of a layer; gives it back in the numbers of what goes to the pipeline, if that
    /// is made of this layer.
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
        if state.largest.shown() == Some(layer) {
            self.shows(report, &state.largest, sender);
        }
        (state.decoded.shown() == Some(layer)).then(|| translated(report, &state.decoded))
    }

    /// Packets to viewers are told by the report of the layer that is shown, from now on.
    fn shows(&self, report: SenderReport, shown: &Choice, sender: &SenderClock) {
        let report = translated(report, shown);
        self.track.set_capture_times(sender.times(report, self.track.codec.clock_rate()));
    }

    /// For people.
    fn name(&self, layer: usize, size: Option<(u32, u32)>) -> String {
        let rid = self.rids.get(layer).map_or("", String::as_str);
        size.map_or_else(|| rid.to_owned(), |(width, height)| format!("{rid} {width}×{height}"))
    }
}

/// A layer's report in the numbers of a stream that is made of it.
fn translated(report: SenderReport, stream: &Choice) -> SenderReport {
    SenderReport { rtp: stream.timestamp(report.rtp), ..report }
}

impl State {
    /// When a packet was captured that came `now`: as its layer's report tells, or, before there is one, as late as those
    /// of the other layers. A stream that changes over to it would else jump in time, and back with the report, and
    /// browsers believe such reports for a long time.
    fn captured(&mut self, told: Option<Duration>, now: Duration) -> Duration {
        let Some(told) = told else { return now.saturating_sub(self.delay.unwrap_or_default()) };
        let delay = now.saturating_sub(told);
        self.delay = Some(self.delay.map_or(delay, |known| (15 * known + delay) / 16));
        told
    }

    fn leave_out(&mut self, layer: usize, sequence: u16) {
        let streams = self.levels.iter_mut().chain([&mut self.largest, &mut self.decoded]);
        streams.for_each(|stream| stream.leave_out(layer, sequence));
    }

    /// The packets of that layer that may go on.
    fn ready(&mut self, layer: usize, bytes: &[u8], now: Duration, wants_keyframe: &mut bool) -> Vec<Normalised> {
        let is_shown =
            self.levels.iter().chain([&self.largest, &self.decoded]).any(|choice| choice.shown() == Some(layer));
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use rtp_types::RtpPacketBuilder;

    use super::{super::RoomClock, *};
    use crate::{
        media::{CodecName, Kind, layout::Fit, rtp::Place},
        room::id::TrackId,
    };

    /// Two layers of VP8, whose lost packets come again.
    fn camera() -> LayeredTrack {
        gst::init().unwrap();
        let section = AcceptedSection {
            line: 0,
            mid: "0".into(),
            kind: Kind::Video,
            codec: CodecName::Vp8,
            payload: 96,
            fmtp: None,
            rtx: Some(97),
            red: None,
            feedback: Vec::new(),
            extensions: Vec::new(),
            layers: vec!["l".into(), "h".into()],
        };
        let track = Track::layered(TrackId::random(), CodecName::Vp8, None, &RoomClock::new(), &section.layers);
        LayeredTrack::new(&section, &track)
    }

    /// A picture of one packet, or padding.
    fn packet(sequence: u16, payload: &[u8]) -> Vec<u8> {
        let rtp = RtpPacketBuilder::new().payload_type(96).ssrc(7).sequence_number(sequence);
        rtp.timestamp(u32::from(sequence) * 3_600).payload(payload).write_vec().unwrap()
    }

    const KEYFRAME: [u8; 11] = [0x10, 0x10, 0, 0, 0x9D, 1, 0x2A, 160, 0, 90, 0];
    const PICTURE: [u8; 11] = [0x10, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn what_was_decoded_once_goes_on_and_nothing_begins_before() {
        let (camera, clock, sender) = (camera(), RoomClock::new(), SenderClock::default());
        let take = |sequence, payload: &[u8]| {
            camera.take(0, &packet(sequence, payload), clock.running_time(), &sender).packets.len()
        };
        assert_eq!(take(100, &KEYFRAME), 0);
        let need = camera.track.need(None);
        assert_eq!((take(101, &PICTURE), take(102, &KEYFRAME)), (0, 1));
        drop(need);
        assert_eq!(take(103, &PICTURE), 1, "a jitter buffer does not bear a pause");
    }

    #[test]
    fn a_layer_without_a_report_is_as_late_as_the_others() {
        let camera = camera();
        let mut state = camera.state.lock().unwrap();
        let at = Duration::from_millis;
        assert_eq!(state.captured(None, at(1_000)), at(1_000), "nothing is known");
        assert_eq!(state.captured(Some(at(1_700)), at(2_000)), at(1_700));
        assert_eq!(state.captured(None, at(3_000)), at(2_700));
        assert_eq!(state.captured(Some(at(3_540)), at(4_000)), at(3_540), "it was told");
        assert_eq!(state.captured(None, at(5_000)), at(4_690), "and is smoothed");
    }

    #[test]
    fn padding_is_neither_a_picture_nor_a_loss() {
        let (camera, clock, sender) = (camera(), RoomClock::new(), SenderClock::default());
        let place = Place { width: 160, height: 90, fit: Fit::Fit };
        let _need = camera.track.need(Some(place));
        let take = |sequence, payload: &[u8]| {
            let taken = camera.take(0, &packet(sequence, payload), clock.running_time(), &sender);
            let number =
                |buffer: &gst::Buffer| RtpPacket::parse(&buffer.map_readable().unwrap()).unwrap().sequence_number();
            taken.packets.iter().map(number).collect::<Vec<u16>>()
        };
        assert_eq!(take(100, &KEYFRAME), [100]);
        // What was asked for before does not count.
        let _ = camera.track.keyframe_requested().now_or_never();
        assert_eq!(take(101, &PICTURE), [101]);
        assert_eq!(take(102, &[]), [0; 0]);
        assert_eq!(take(103, &PICTURE), [102], "at once, and without a gap");
        assert_eq!(take(105, &[]), [0; 0], "one is missing before it");
        assert_eq!(take(106, &PICTURE), [0; 0]);
        assert_eq!(take(104, &PICTURE), [103, 104]);
        assert_eq!(camera.track.keyframe_requested().now_or_never(), None);
        assert_eq!(camera.track.decoded_layer().as_deref(), Some("l 160×90"));
    }
}
