//! A subscription: one webrtcbin that sends tracks, each fed from its publisher's tap.

use std::sync::Arc;

use gst::prelude::*;
use gst_webrtc::{WebRTCRTPTransceiverDirection, WebRTCSDPType};

use super::{
    Feed, Track,
    peer::{Connection, Context, Happening, Inside, Peer},
    webrtc::{Role, WebRtc, transceiver},
};
use crate::media::{CodecName, Kind, MediaError, MediaEvent, description, negotiation::NegotiationError, rtp};

/// Starts to offer `tracks`.
pub(super) fn spawn(context: Context, tracks: Vec<Arc<Track>>) -> Peer {
    Peer::spawn(context, move |inside| run(inside, tracks))
}

/// A track and the end of it that this subscriber reads.
#[derive(Clone, Debug)]
struct Sending {
    track: Arc<Track>,
    feed: Arc<Feed>,
}

async fn run(inside: Inside, tracks: Vec<Arc<Track>>) {
    if tracks.is_empty() {
        return inside.report(MediaError::Description("there is nothing to send".into())).await;
    }
    let built = inside.build(move |context| build(context, &tracks)).await;
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
    for (Sending { track, feed }, payload) in sending.iter().zip(payloads) {
        let Some(payload) = *payload else { continue };
        if payload != rtp::payload_number(track.codec) {
            feed.set_payload(payload);
        }
        track.add_feed(feed.clone());
        feed.open();
        track.request_keyframe();
    }
}

fn refused(error: NegotiationError) -> MediaError {
    MediaError::Description(error.to_string())
}

/// webrtcbin with a source for each track.
fn build(context: &Context, tracks: &[Arc<Track>]) -> Result<(WebRtc, Vec<Sending>), MediaError> {
    let name = format!("sub-{}", context.connection);
    let webrtc = WebRtc::new(&name, &context.clock, &context.settings, Role::Sender)?;
    let sending = tracks.iter().map(|track| add_sender(&webrtc, track)).collect::<Result<_, _>>()?;
    Ok((webrtc, sending))
}

/// The pad is requested with the track's own caps: they hold the SSRC that the offer must carry.
fn add_sender(webrtc: &WebRtc, track: &Arc<Track>) -> Result<Sending, MediaError> {
    let broken = |message: &str| MediaError::Element { element: format!("feed-{}", track.id), message: message.into() };
    let mut caps = track.caps.clone();
    if track.kind() == Kind::Video {
        let structure = caps.make_mut().structure_mut(0).expect("a track's caps have one structure");
        for feedback in ["rtcp-fb-nack", "rtcp-fb-nack-pli", "rtcp-fb-ccm-fir"] {
            structure.set(feedback, true);
        }
    }
    let source = gst_app::AppSrc::builder().name(format!("feed-{}", track.id)).caps(&caps).build();
    webrtc.pipeline.pipeline().add(&source).map_err(|_| broken("a track can be sent once in a connection"))?;
    let template = webrtc.bin.pad_template("sink_%u").ok_or_else(|| broken("webrtcbin has no sink pads"))?;
    let pad = webrtc.bin.request_pad(&template, None, Some(&caps)).ok_or_else(|| broken("webrtcbin gave no pad"))?;
    let transceiver = transceiver(&pad);
    transceiver.set_direction(WebRTCRTPTransceiverDirection::Sendonly);
    transceiver.set_codec_preferences(Some(&caps));
    transceiver.set_property("do-nack", track.kind() == Kind::Video);
    let source_pad = source.static_pad("src").expect("an appsrc has a source pad");
    source_pad.link(&pad).map_err(|_| broken("webrtcbin does not take the track"))?;
    pass_keyframe_requests(&source_pad, track);
    Ok(Sending { track: track.clone(), feed: Arc::new(Feed::new(source, track.kind())) })
}

/// A subscriber's PLI or FIR comes up his pipeline as an event and goes on to the track.
fn pass_keyframe_requests(source_pad: &gst::Pad, track: &Arc<Track>) {
    let track = Arc::downgrade(track);
    source_pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        let asked = info.event().is_some_and(|event| gst_video::UpstreamForceKeyUnitEvent::parse(event).is_ok());
        if asked && let Some(track) = track.upgrade() {
            track.request_keyframe();
        }
        gst::PadProbeReturn::Ok
    });
}
