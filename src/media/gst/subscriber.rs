//! A subscription: one webrtcbin that sends tracks, each fed from its publisher's tap. Salon offers it, or
//! answers the subscriber's own offer.

use std::sync::Arc;

use gst::prelude::*;
use gst_webrtc::{WebRTCRTPTransceiverDirection, WebRTCSDPType};

use super::{
    Feed, Track,
    peer::{Connection, Context, Happening, Inside, Peer},
    rtp_caps,
    webrtc::{Role, WebRtc, transceiver},
};
use crate::media::{
    CodecName, Kind, MediaError, MediaEvent, description,
    negotiation::{AcceptedSection, NegotiationError},
    rtp::{self, Lane},
};

/// Starts to offer `tracks`, as readers of that lane have them.
pub(super) fn spawn(context: Context, tracks: Vec<Arc<Track>>, lane: Lane) -> Peer {
    Peer::spawn(context, move |inside| run(inside, tracks, lane))
}

/// Starts to answer an offer; its sections are those of the tracks, one each, in their order.
pub(super) fn spawn_answering(
    context: Context,
    tracks: Vec<Arc<Track>>,
    lane: Lane,
    offer: String,
    sections: Vec<AcceptedSection>,
) -> Peer {
    Peer::spawn(context, move |inside| run_answering(inside, tracks, lane, offer, sections))
}

/// A track and the end of it that this subscriber reads.
#[derive(Clone, Debug)]
struct Sending {
    track: Arc<Track>,
    feed: Arc<Feed>,
    lane: Lane,
}

async fn run(inside: Inside, tracks: Vec<Arc<Track>>, lane: Lane) {
    if tracks.is_empty() {
        return inside.report(MediaError::Description("there is nothing to send".into())).await;
    }
    let caps = tracks.iter().map(|track| offered_caps(track));
    let sent = tracks.iter().cloned().zip(caps).collect();
    run_with(inside, sent, lane, async |connection, sending| drive(connection, sending).await).await;
}

async fn run_answering(
    inside: Inside,
    tracks: Vec<Arc<Track>>,
    lane: Lane,
    offer: String,
    sections: Vec<AcceptedSection>,
) {
    if tracks.is_empty() || tracks.len() != sections.len() {
        return inside.report(MediaError::Description("what was asked for is gone".into())).await;
    }
    let caps = tracks.iter().zip(&sections).map(|(track, section)| answered_caps(track, section));
    let sent = tracks.iter().cloned().zip(caps).collect();
    let drive = async |connection: &mut Connection<'_>, sending: &[Sending]| {
        drive_answering(connection, sending, &offer, &sections).await
    };
    run_with(inside, sent, lane, drive).await;
}

/// Builds what sends `tracks`, and drives it to its end.
async fn run_with(
    inside: Inside,
    tracks: Vec<(Arc<Track>, gst::Caps)>,
    lane: Lane,
    drive: impl AsyncFnOnce(&mut Connection<'_>, &[Sending]) -> Result<(), MediaError>,
) {
    let built = inside.build(move |context| build(context, &tracks, lane)).await;
    let (webrtc, sending) = match built {
        Ok(built) => built,
        Err(error) => return inside.report(error).await,
    };
    let drive = async |connection: &mut Connection<'_>| drive(connection, &sending).await;
    let take_down = async || {
        for sending in &sending {
            sending.feed.close();
            sending.track.remove_feed(&sending.feed);
        }
    };
    inside.run_to_end(webrtc, drive, take_down).await;
}

async fn drive(connection: &mut Connection<'_>, sending: &[Sending]) -> Result<(), MediaError> {
    connection.webrtc.pipeline.start().await?;
    let sdp = connection.webrtc.create_local(WebRTCSDPType::Offer).await?;
    let mids = description::mids(&sdp).map_err(refused)?;
    connection.set_transport(mids.first().cloned().unwrap_or_default(), 0);
    let tracks = mids.iter().cloned().zip(sending.iter().map(|sending| sending.track.id.clone())).collect();
    let id = connection.inside.context.connection.clone();
    connection.inside.tell(MediaEvent::Offered { connection: id.clone(), sdp, tracks }).await;
    let mut payloads = None;
    loop {
        match connection.next().await? {
            Happening::Answer(_) if payloads.is_some() => {
                return Err(MediaError::Description("there was an answer before".into()));
            }
            Happening::Answer(sdp) => payloads = Some(take_answer(connection, &sdp, &mids, sending).await?),
            Happening::Connected => {
                start_sending(sending, payloads.as_deref().unwrap_or_default());
                connection.inside.tell(MediaEvent::Connected { connection: id.clone() }).await;
            }
        }
    }
}

/// Answers the subscriber's offer, cut down to what is sent, and lets media in when the connection is up.
async fn drive_answering(
    connection: &mut Connection<'_>,
    sending: &[Sending],
    offer: &str,
    sections: &[AcceptedSection],
) -> Result<(), MediaError> {
    if let Some(first) = sections.first() {
        connection.set_transport(first.mid.clone(), first.line);
    }
    connection.webrtc.pipeline.start().await?;
    let reduced = description::plain_offer(offer, sections).map_err(refused)?;
    connection.webrtc.set_remote(WebRTCSDPType::Offer, &reduced).await?;
    let answer = connection.webrtc.create_local(WebRTCSDPType::Answer).await?;
    let sdp = description::full_answer_to_subscriber(&answer, offer, sections).map_err(refused)?;
    let id = connection.inside.context.connection.clone();
    connection.inside.tell(MediaEvent::Answered { connection: id.clone(), sdp }).await;
    connection.described();
    let payloads: Vec<_> = sections.iter().map(|section| Some(section.payload)).collect();
    loop {
        match connection.next().await? {
            Happening::Connected => {
                start_sending(sending, &payloads);
                connection.inside.tell(MediaEvent::Connected { connection: id.clone() }).await;
            }
            Happening::Answer(_) => tracing::debug!(connection = %id, "an answer has no use for another"),
        }
    }
}

/// Sets the answer; gives the payload numbers under which the client takes each track, if it does.
async fn take_answer(
    connection: &mut Connection<'_>,
    answer: &str,
    mids: &[String],
    sending: &[Sending],
) -> Result<Vec<Option<u8>>, MediaError> {
    let codecs: Vec<CodecName> = sending.iter().map(|sending| sending.track.codec).collect();
    let payloads = description::answered_payloads(answer, &codecs).map_err(refused)?;
    let reduced = description::reduced_answer(answer, mids).map_err(refused)?;
    connection.webrtc.set_remote(WebRTCSDPType::Answer, &reduced).await?;
    connection.described();
    Ok(payloads)
}

/// Lets media in. A pipeline whose DTLS is not up blocks, so this waits for the connection.
fn start_sending(sending: &[Sending], payloads: &[Option<u8>]) {
    for (Sending { track, feed, lane }, payload) in sending.iter().zip(payloads) {
        let Some(payload) = *payload else { continue };
        if payload != rtp::payload_number(track.codec) {
            feed.set_payload(payload);
        }
        feed.open();
        track.add_feed(feed.clone(), *lane);
        track.request_keyframe_of(*lane);
    }
}

fn refused(error: NegotiationError) -> MediaError {
    MediaError::Description(error.to_string())
}

/// webrtcbin with a source for each track.
fn build(
    context: &Context,
    tracks: &[(Arc<Track>, gst::Caps)],
    lane: Lane,
) -> Result<(WebRtc, Vec<Sending>), MediaError> {
    let name = format!("sub-{}", context.connection);
    let webrtc = WebRtc::new(&name, &context.clock, &context.settings, Role::Sender)?;
    let sending =
        tracks.iter().map(|(track, caps)| add_sender(&webrtc, track, caps, lane)).collect::<Result<_, _>>()?;
    Ok((webrtc, sending))
}

/// A track's own caps, and the feedback that we offer with it.
fn offered_caps(track: &Track) -> gst::Caps {
    let mut caps = track.caps.clone();
    if track.kind() == Kind::Video {
        let structure = caps.make_mut().structure_mut(0).expect("a track's caps have one structure");
        for feedback in ["rtcp-fb-nack", "rtcp-fb-nack-pli", "rtcp-fb-ccm-fir"] {
            structure.set(feedback, true);
        }
    }
    caps
}

/// Caps that meet those of the subscriber's section: his payload number and parameters. What packets
/// carry besides, the loudness of sound, is under our own number, which may be something else to him.
fn answered_caps(track: &Track, section: &AcceptedSection) -> gst::Caps {
    let mut caps = rtp_caps(section.codec, section.payload, section.fmtp.as_deref());
    let structure = caps.make_mut().structure_mut(0).expect("rtp_caps makes one structure");
    structure.set("ssrc", track.ssrc());
    for feedback in &section.feedback {
        structure.set(format!("rtcp-fb-{}", feedback.replace(' ', "-")), true);
    }
    caps
}

/// The pad is requested with caps that hold the SSRC which our description must carry.
fn add_sender(webrtc: &WebRtc, track: &Arc<Track>, caps: &gst::Caps, lane: Lane) -> Result<Sending, MediaError> {
    let broken = |message: &str| MediaError::Element { element: format!("feed-{}", track.id), message: message.into() };
    let source = gst_app::AppSrc::builder().name(format!("feed-{}", track.id)).caps(caps).build();
    webrtc.pipeline.pipeline().add(&source).map_err(|_| broken("a track can be sent once in a connection"))?;
    let template = webrtc.bin.pad_template("sink_%u").ok_or_else(|| broken("webrtcbin has no sink pads"))?;
    let pad = webrtc.bin.request_pad(&template, None, Some(caps)).ok_or_else(|| broken("webrtcbin gave no pad"))?;
    let transceiver = transceiver(&pad);
    transceiver.set_direction(WebRTCRTPTransceiverDirection::Sendonly);
    transceiver.set_codec_preferences(Some(caps));
    transceiver.set_property("do-nack", track.kind() == Kind::Video);
    let source_pad = source.static_pad("src").expect("an appsrc has a source pad");
    source_pad.link(&pad).map_err(|_| broken("webrtcbin does not take the track"))?;
    pass_keyframe_requests(&source_pad, track, lane);
    Ok(Sending { track: track.clone(), feed: Arc::new(Feed::new(source, track.kind())), lane })
}

/// A subscriber's PLI or FIR comes up his pipeline as an event and goes on to the track.
fn pass_keyframe_requests(source_pad: &gst::Pad, track: &Arc<Track>, lane: Lane) {
    let track = Arc::downgrade(track);
    source_pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        let asked = info.event().is_some_and(|event| gst_video::UpstreamForceKeyUnitEvent::parse(event).is_ok());
        if asked && let Some(track) = track.upgrade() {
            track.request_keyframe_of(lane);
        }
        gst::PadProbeReturn::Ok
    });
}
