//! A publication through the fan-out edge: packets come from a media thread, subscribers have them at once, and
//! an `rtpbin` makes of them what decoders and recorders read.

use std::{sync::Arc, time::Instant};

use gst::prelude::*;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    JITTER_BUFFER, OwnedPipeline, PipelineEvent, RoomClock, Track, counters,
    layered::LayeredTrack,
    peer::{Command, Context, Inside, Peer, SHUTDOWN_DEADLINE},
    publisher::pass_keyframe_requests,
    rtp_caps,
    tap::TappedTrack,
    valve::Valve,
    webrtc::element,
};
use crate::media::{
    Kind, MediaError, MediaEvent, Publication,
    fanout::{self, Downstream, Edge, Publisher},
    graph::Stage,
    negotiation::AcceptedSection,
    rtp,
    sender_clock::{self, SenderClock, SenderReport},
};

/// Packets that may wait for the pipeline: some seconds.
const MAX_QUEUED: u64 = 2_048;

/// Starts to receive `publication` into `tracks`, which are in the order of its media.
pub(super) fn spawn(context: Context, edge: Arc<Edge>, publication: Publication, tracks: Vec<Arc<Track>>) -> Peer {
    Peer::spawn(context, move |inside| run(inside, edge, publication, tracks))
}

async fn run(mut inside: Inside, edge: Arc<Edge>, publication: Publication, tracks: Vec<Arc<Track>>) {
    let sections: Vec<AcceptedSection> = publication.media.into_iter().map(|media| media.section).collect();
    let built = {
        let (sections, tracks) = (sections.clone(), tracks.clone());
        inside.build(move |context| build(context, &sections, &tracks)).await
    };
    let Built { pipeline, mut pipeline_events, intake } = match built {
        Ok(built) => built,
        Err(error) => return inside.report(error).await,
    };
    let (sender, mut events) = mpsc::channel(8);
    let receive = async {
        pipeline.start().await?;
        let publication = fanout::Publication {
            offer: publication.sdp,
            sections,
            downstream: Arc::new(intake),
            alone: publication.alone,
        };
        let session = edge.publish(inside.context.connection.clone(), publication, sender);
        let mut keyframes = JoinSet::new();
        for (section, track) in tracks.iter().enumerate().filter(|(_, track)| track.kind() == Kind::Video) {
            let requests = session.keyframes();
            keyframes.spawn(pass_keyframe_requests(track.clone(), async move || {
                requests.send(section);
                true
            }));
        }
        let stop = inside.stop.clone();
        let drive = drive(&mut inside, &session, &mut events, &mut pipeline_events);
        let driven = stop.run_until_cancelled(drive).await;
        keyframes.shutdown().await;
        // An error means that the runtime is going down.
        let _ = session.close().await;
        driven.unwrap_or(Ok(()))
    };
    let received: Result<(), MediaError> = receive.await;
    let _ = pipeline.shutdown(SHUTDOWN_DEADLINE).await;
    match received {
        Ok(()) => drop(inside.stage.send_replace(Stage::Ended)),
        Err(error) => inside.report(error).await,
    }
}

/// Passes on what the session tells, and is told, until it or the pipeline ends.
async fn drive(
    inside: &mut Inside,
    session: &Publisher,
    events: &mut mpsc::Receiver<MediaEvent>,
    pipeline_events: &mut mpsc::Receiver<PipelineEvent>,
) -> Result<(), MediaError> {
    loop {
        tokio::select! {
            Some(event) = events.recv() => match event {
                MediaEvent::ConnectionEnded { error, .. } => return Err(error),
                event => {
                    let stage = match &event {
                        MediaEvent::Answered { .. } => Some(Stage::Connecting),
                        MediaEvent::Connected { .. } => Some(Stage::Connected),
                        _ => None,
                    };
                    if let Some(stage) = stage {
                        inside.stage.send_replace(stage);
                    }
                    inside.tell(event).await;
                }
            },
            Some(command) = inside.commands.recv() => {
                // Where he is, his checks tell.
                if let Command::Restart(theirs) = command {
                    session.restart_ice(theirs);
                }
            }
            Some(event) = pipeline_events.recv() => match event {
                PipelineEvent::Failed(error) => return Err(error),
                PipelineEvent::Ended => return Err(MediaError::ConnectionLost),
            },
        }
    }
}

struct Built {
    pipeline: OwnedPipeline,
    pipeline_events: mpsc::Receiver<PipelineEvent>,
    intake: Intake,
}

/// An rtpbin with one session for all of the publication, as it shares one transport, and the tracks' sinks.
fn build(context: &Context, sections: &[AcceptedSection], tracks: &[Arc<Track>]) -> Result<Built, MediaError> {
    let name = format!("pub-{}", context.connection);
    let (pipeline, pipeline_events) = OwnedPipeline::new(&name, &context.clock);
    let broken = |message: &str| MediaError::Element { element: name.clone(), message: message.into() };
    let bin = element("rtpbin", &format!("{name}-rtp"))?;
    bin.set_property("latency", JITTER_BUFFER.as_millis() as u32);
    // So that decoders of sound conceal what is missing, instead of leaving a hole.
    bin.set_property("do-lost", true);
    let formats: Vec<(u8, gst::Caps)> = sections
        .iter()
        .map(|section| {
            let number = rtp::payload_number(section.codec);
            (number, rtp_caps(section.codec, number, section.fmtp.as_deref()))
        })
        .collect();
    bin.connect("request-pt-map", false, move |values| {
        let wanted = values.get(2)?.get::<u32>().ok()?;
        formats.iter().find(|(number, _)| u32::from(*number) == wanted).map(|(_, caps)| caps.to_value())
    });
    link_new_pads(&bin, tracks);
    let rtp = source(&format!("{name}-in"), "application/x-rtp");
    let rtcp = source(&format!("{name}-reports"), "application/x-rtcp");
    pipeline
        .pipeline()
        .add_many([&bin, rtp.upcast_ref(), rtcp.upcast_ref()])
        .map_err(|_| broken("its elements could not be added"))?;
    let sinks: Vec<gst_app::AppSink> = tracks.iter().map(|track| track.appsink().clone()).collect();
    pipeline.pipeline().add_many(&sinks).map_err(|_| broken("a track's sink is in use"))?;
    rtp.link_pads(Some("src"), &bin, Some("recv_rtp_sink_0")).map_err(|_| broken("rtpbin takes no packets"))?;
    rtcp.link_pads(Some("src"), &bin, Some("recv_rtcp_sink_0")).map_err(|_| broken("rtpbin takes no reports"))?;
    let intake = Intake {
        tracks: sections.iter().zip(tracks).map(|(section, track)| Received::new(section, track)).collect(),
        valves: tracks.iter().map(Valve::new).collect(),
        cname: context.connection.to_string(),
        sender: SenderClock::default(),
        clock: context.clock.clone(),
        events: context.events.clone(),
        rtp,
        rtcp,
    };
    Ok(Built { pipeline, pipeline_events, intake })
}

/// A live source without a limit of its own: it is kept by whoever pushes, who must not wait.
fn source(name: &str, caps: &str) -> gst_app::AppSrc {
    let source = gst_app::AppSrc::builder()
        .name(name)
        .caps(&gst::Caps::new_empty_simple(caps))
        .is_live(true)
        .format(gst::Format::Time)
        .max_bytes(0)
        .build();
    source.set_max_buffers(0);
    source.set_max_time(gst::ClockTime::ZERO);
    source
}

/// Links what rtpbin gives to the tracks' sinks, by the SSRC in the pad's name.
fn link_new_pads(bin: &gst::Element, tracks: &[Arc<Track>]) {
    let tracks = tracks.to_vec();
    bin.connect_pad_added(move |_, pad| {
        let name = pad.name();
        let ssrc = name.strip_prefix("recv_rtp_src_0_").and_then(|rest| rest.split('_').next()?.parse::<u32>().ok());
        let Some(track) = tracks.iter().find(|track| Some(track.ssrc()) == ssrc) else { return };
        let sink = track.appsink().static_pad("sink").expect("an appsink has a sink pad");
        if let Err(error) = pad.link(&sink) {
            tracing::error!(pad = %name, "a received pad could not be linked: {error}");
        }
    });
}

/// One publisher's packets on their way into the room, on a media thread.
#[derive(Debug)]
struct Intake {
    /// Of each section.
    tracks: Vec<Received>,
    /// In front of the pipeline, for each section.
    valves: Vec<Valve>,
    /// One for all of them: they are played in step.
    cname: String,
    sender: SenderClock,
    clock: RoomClock,
    events: mpsc::Sender<MediaEvent>,
    rtp: gst_app::AppSrc,
    rtcp: gst_app::AppSrc,
}

/// A track as it comes.
#[derive(Debug)]
enum Received {
    Plain(TappedTrack),
    Layered(Box<LayeredTrack>),
}

impl Received {
    fn new(section: &AcceptedSection, track: &Arc<Track>) -> Self {
        match section.layers.len() {
            0 => Self::Plain(TappedTrack::new(section, track, Some(rtp::AUDIO_LEVEL_ID))),
            _ => Self::Layered(Box::new(LayeredTrack::new(section, track))),
        }
    }
}

impl Downstream for Intake {
    fn packet(&self, section: usize, layer: usize, arrived: Instant, packet: &[u8]) {
        // A media thread that is busy, with a handshake above all, is not to make it later.
        let now = self.clock.running_time_at(arrived);
        match self.tracks.get(section) {
            Some(Received::Plain(track)) => {
                if let Some(buffer) = track.take(packet, now, &self.events) {
                    self.pass(section, buffer);
                }
            }
            Some(Received::Layered(track)) => {
                let taken = track.take(layer, packet, now, &self.sender);
                if let Some(report) = taken.report {
                    self.pass_report(section, report);
                }
                taken.packets.into_iter().for_each(|buffer| self.pass(section, buffer));
            }
            None => {}
        }
    }

    fn report(&self, section: usize, layer: usize, report: SenderReport) {
        let now = self.clock.running_time().into();
        let report = match self.tracks.get(section) {
            Some(Received::Plain(tapped)) => {
                let Some(rtp) = tapped.timestamp(report.ssrc, report.rtp) else { return };
                let (track, report) = (&tapped.track, SenderReport { ssrc: tapped.track.ssrc(), rtp, ..report });
                track.set_capture_times(self.sender.report(report, track.codec.clock_rate(), now));
                Some(report)
            }
            Some(Received::Layered(track)) => track.report(layer, report, &self.sender, now),
            None => None,
        };
        if let Some(report) = report {
            self.pass_report(section, report);
        }
    }
}

impl Intake {
    /// In the numbers of a track, to the pipeline, once somebody decodes the track.
    fn pass(&self, section: usize, packet: gst::Buffer) {
        let Some(passed) = self.valves.get(section).and_then(|valve| valve.pass(packet)) else { return };
        if let Some(report) = passed.report {
            self.push_report(report);
        }
        std::iter::once(passed.packet).chain(passed.then).for_each(|packet| push(&self.rtp, packet));
    }

    fn pass_report(&self, section: usize, report: SenderReport) {
        if self.valves.get(section).is_some_and(|valve| valve.report(report)) {
            self.push_report(report);
        }
    }

    fn push_report(&self, report: SenderReport) {
        let mut buffer = gst::Buffer::from_slice(sender_clock::compound(report, &self.cname));
        buffer.get_mut().expect("nobody else has it yet").set_pts(self.clock.running_time());
        push(&self.rtcp, buffer);
    }
}

/// What finds no room is lost, as on the net: the jitter buffer knows what to do.
fn push(source: &gst_app::AppSrc, buffer: gst::Buffer) {
    // An error means that the pipeline is going down.
    if source.current_level_buffers() >= MAX_QUEUED || source.push_buffer(buffer).is_err() {
        counters::packet_dropped();
    }
}
