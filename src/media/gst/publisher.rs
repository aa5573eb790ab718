//! A publication: one webrtcbin that receives, its tracks, and the tap for the subscribers.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use gst::prelude::*;
use gst_webrtc::{WebRTCRTPTransceiver, WebRTCRTPTransceiverDirection, WebRTCSDPType};
use tokio::task::JoinSet;

use super::{
    KEYFRAME_HOLDOFF, KEYFRAME_PATIENCE, RoomClock, Track, counters,
    peer::{Connection, Context, Happening, Inside, Peer},
    rtp_caps,
    tap::Tap,
    webrtc::{Role, WebRtc, transceiver},
};
use crate::media::{
    Kind, MediaError, MediaEvent, Publication, description,
    negotiation::AcceptedSection,
    rtp::Unpacker,
    sender_clock::{SenderClock, sender_reports},
};

/// Starts to receive `publication` into `tracks`, which are in the order of its media.
pub(super) fn spawn(context: Context, publication: Publication, tracks: Vec<Arc<Track>>) -> Peer {
    Peer::spawn(context, move |inside| run(inside, publication, tracks))
}

async fn run(inside: Inside, publication: Publication, tracks: Vec<Arc<Track>>) {
    let sections: Vec<AcceptedSection> = publication.media.into_iter().map(|media| media.section).collect();
    let built = {
        let (offer, sections, tracks) = (publication.sdp.clone(), sections.clone(), tracks.clone());
        inside.build(move |context| build(context, &offer, &sections, &tracks)).await
    };
    let webrtc = match built {
        Ok(webrtc) => webrtc,
        Err(error) => return inside.report(error).await,
    };
    let mut keyframes = JoinSet::new();
    for track in tracks.iter().filter(|track| track.kind() == Kind::Video) {
        let sink = track.appsink().clone();
        keyframes.spawn(pass_keyframe_requests(track.clone(), async move || ask_upstream(sink.clone()).await));
    }
    let drive = async |connection: &mut Connection<'_>| {
        connection.set_alone(publication.alone);
        drive(connection, &publication.sdp, &sections).await
    };
    inside.run_to_end(webrtc, drive, async || keyframes.shutdown().await).await;
}

async fn drive(connection: &mut Connection<'_>, offer: &str, sections: &[AcceptedSection]) -> Result<(), MediaError> {
    let first = sections.first().ok_or_else(|| MediaError::Description("nothing to receive".into()))?;
    connection.set_transport(first.mid.clone(), first.line);
    connection.webrtc.pipeline.start().await?;
    // Redundant packets are taken apart before webrtcbin sees them.
    let reduced = description::plain_offer(offer, sections).map_err(refused)?;
    connection.webrtc.set_remote(WebRTCSDPType::Offer, &reduced).await?;
    let answer = connection.webrtc.create_local(WebRTCSDPType::Answer).await?;
    let sdp = description::full_answer(&answer, offer, sections).map_err(refused)?;
    let sdp = description::with_redundancy(&sdp, sections).map_err(refused)?;
    let id = connection.inside.context.connection.clone();
    connection.inside.tell(MediaEvent::Answered { connection: id.clone(), sdp }).await;
    connection.described();
    loop {
        match connection.next().await? {
            Happening::Connected => connection.inside.tell(MediaEvent::Connected { connection: id.clone() }).await,
            Happening::Answer(_) => tracing::debug!(connection = %id, "a publication has no use for an answer"),
        }
    }
}

fn refused(error: crate::media::negotiation::NegotiationError) -> MediaError {
    MediaError::Description(error.to_string())
}

/// webrtcbin with a receiving transceiver for each section, and the tracks' sinks beside it.
fn build(
    context: &Context,
    offer: &str,
    sections: &[AcceptedSection],
    tracks: &[Arc<Track>],
) -> Result<WebRtc, MediaError> {
    let ssrcs = description::ssrcs(offer, sections).map_err(refused)?;
    let name = format!("pub-{}", context.connection);
    let webrtc = WebRtc::new(&name, &context.clock, &context.settings, Role::Receiver)?;
    for section in sections {
        add_receiver(&webrtc, section);
    }
    let sinks: Vec<gst_app::AppSink> = tracks.iter().map(|track| track.appsink().clone()).collect();
    webrtc
        .pipeline
        .pipeline()
        .add_many(&sinks)
        .map_err(|_| MediaError::Element { element: name, message: "a track's sink is in use".into() })?;
    read_reports(&webrtc, &context.clock, &ssrcs, tracks);
    take_redundancy_apart(&webrtc, sections);
    let tap = Arc::new(Tap::new(context.clock.clone(), sections, ssrcs, tracks, context.events.clone()));
    webrtc.pipeline.pipeline().connect_deep_element_added(move |_, _, element| {
        if element.factory().is_some_and(|factory| factory.name() == "rtpjitterbuffer") {
            tap.attach(element);
        }
    });
    link_new_pads(&webrtc, tracks);
    Ok(webrtc)
}

/// Tells each track from the client's sender reports when its packets were captured.
fn read_reports(webrtc: &WebRtc, clock: &RoomClock, ssrcs: &[Vec<u32>], tracks: &[Arc<Track>]) {
    let sources = ssrcs.iter().zip(tracks).flat_map(|(ssrcs, track)| ssrcs.iter().map(|ssrc| (*ssrc, track.clone())));
    let sources: Arc<HashMap<u32, Arc<Track>>> = Arc::new(sources.collect());
    let (sender, clock) = (SenderClock::default(), clock.clone());
    webrtc.pipeline.pipeline().connect_deep_element_added(move |_, _, element| {
        if element.factory().is_none_or(|factory| factory.name() != "rtpsession") {
            return;
        }
        let (sources, sender, clock) = (sources.clone(), sender.clone(), clock.clone());
        element.connect_pad_added(move |_, pad| {
            if pad.name() != "recv_rtcp_sink" {
                return;
            }
            let (sources, sender, clock) = (sources.clone(), sender.clone(), clock.clone());
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let bytes = info.buffer().and_then(|buffer| buffer.map_readable().ok());
                for report in bytes.map(|bytes| sender_reports(&bytes)).unwrap_or_default() {
                    if let Some(track) = sources.get(&report.ssrc) {
                        let now = clock.running_time().into();
                        track.set_capture_times(sender.report(report, track.codec.clock_rate(), now));
                    }
                }
                gst::PadProbeReturn::Ok
            });
        });
    });
}

/// Redundant packets (RFC 2198) become what they bring, with what was lost before them, where they come in.
fn take_redundancy_apart(webrtc: &WebRtc, sections: &[AcceptedSection]) {
    let numbers: Arc<BTreeSet<_>> =
        Arc::new(sections.iter().filter_map(|section| Some((section.payload, section.red?))).collect());
    if numbers.is_empty() {
        return;
    }
    webrtc.pipeline.pipeline().connect_deep_element_added(move |_, _, element| {
        if element.factory().is_none_or(|factory| factory.name() != "rtpsession") {
            return;
        }
        let numbers = numbers.clone();
        element.connect_pad_added(move |_, pad| {
            if pad.name() != "recv_rtp_sink" {
                return;
            }
            let unpackers: Vec<_> = numbers.iter().map(|(payload, red)| Unpacker::new(*payload, *red)).collect();
            let unpackers = Mutex::new(unpackers);
            pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
                let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data else { return gst::PadProbeReturn::Ok };
                let taken = {
                    let Ok(bytes) = buffer.map_readable() else { return gst::PadProbeReturn::Ok };
                    let mut unpackers = unpackers.lock().unwrap_or_else(PoisonError::into_inner);
                    unpackers.iter_mut().find_map(|unpacker| unpacker.take(&bytes))
                };
                let Some(mut packets) = taken else { return gst::PadProbeReturn::Ok };
                let Some(last) = packets.pop() else { return gst::PadProbeReturn::Drop };
                let packet = |bytes: Vec<u8>| {
                    let mut packet = gst::Buffer::from_slice(bytes);
                    // With its time of arrival, and whom it came from.
                    let copied = gst::BufferCopyFlags::TIMESTAMPS | gst::BufferCopyFlags::META;
                    let unshared = packet.get_mut().expect("nobody else has it yet");
                    buffer.copy_into(unshared, copied, ..).map(|()| packet)
                };
                // They come by here again, and pass.
                for earlier in packets.into_iter().filter_map(|bytes| packet(bytes).ok()) {
                    let _ = pad.chain(earlier);
                }
                match packet(last) {
                    Ok(last) => *buffer = last,
                    Err(_) => return gst::PadProbeReturn::Drop,
                }
                gst::PadProbeReturn::Ok
            });
        });
    });
}

/// Transceivers made before the offer is set, with the header extensions in their caps: webrtcbin
/// drops all extensions from its answer otherwise.
fn add_receiver(webrtc: &WebRtc, section: &AcceptedSection) {
    let mut caps = rtp_caps(section.codec, section.payload, section.fmtp.as_deref());
    let structure = caps.make_mut().structure_mut(0).expect("rtp_caps makes one structure");
    for (id, uri) in &section.extensions {
        structure.set(format!("extmap-{id}"), uri.as_str());
    }
    for feedback in &section.feedback {
        structure.set(format!("rtcp-fb-{}", feedback.replace(' ', "-")), true);
    }
    let transceiver = webrtc
        .bin
        .emit_by_name::<WebRTCRTPTransceiver>("add-transceiver", &[&WebRTCRTPTransceiverDirection::Recvonly, &caps]);
    transceiver.set_property("do-nack", section.rtx.is_some());
}

/// Links what webrtcbin receives to the tracks' sinks; transceiver `n` is section `n`. Whoever asked
/// for a keyframe before this is served now.
fn link_new_pads(webrtc: &WebRtc, tracks: &[Arc<Track>]) {
    let tracks = tracks.to_vec();
    webrtc.bin.connect_pad_added(move |_, pad| {
        if pad.direction() != gst::PadDirection::Src {
            return;
        }
        let Some(track) = tracks.get(transceiver(pad).mlineindex() as usize) else { return };
        let sink = track.appsink().static_pad("sink").expect("an appsink has a sink pad");
        match pad.link(&sink) {
            Ok(_) => track.request_keyframe(),
            Err(error) => tracing::error!(pad = %pad.name(), "a received pad could not be linked: {error}"),
        }
    });
}

/// Asks webrtcbin for a keyframe, which leaves as PLI (RFC 4585 §6.3.1); false if nothing came of that track yet.
async fn ask_upstream(sink: gst_app::AppSink) -> bool {
    let sent = tokio::task::spawn_blocking(move || {
        let source = sink.static_pad("sink").and_then(|pad| pad.peer());
        source.is_some_and(|source| {
            source.send_event(gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(false).build())
        })
    });
    sent.await.unwrap_or(false)
}

/// Sends the keyframe requests of all who read a track to its publisher by `ask`, merged: at once if there was
/// none for a while, else when [`KEYFRAME_HOLDOFF`] is over. One may get lost like any packet: it is made again
/// each second until a keyframe comes.
pub(super) async fn pass_keyframe_requests(track: Arc<Track>, ask: impl AsyncFn() -> bool) {
    let readers = track.readers();
    loop {
        track.keyframe_requested().await;
        let asked = Instant::now();
        // Before the first packet there is nobody to ask: whoever brings it asks again.
        if !ask().await {
            continue;
        }
        counters::keyframe_requested();
        tokio::time::sleep(KEYFRAME_HOLDOFF).await;
        if !track.had_keyframe_since(asked) {
            tokio::time::sleep(2 * KEYFRAME_PATIENCE - KEYFRAME_HOLDOFF).await;
            if !track.had_keyframe_since(asked) && *readers.borrow() > 0 {
                track.request_keyframe();
            }
        }
    }
}
