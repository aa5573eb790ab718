//! One webrtcbin in a pipeline of its own: how it is set up, and its signals as a channel.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use gst::{glib, prelude::*};
use gst_webrtc::{WebRTCPeerConnectionState, WebRTCRTPTransceiver, WebRTCSDPType, WebRTCSessionDescription};
use tokio::sync::mpsc;

use super::{MediaSettings, OwnedPipeline, PipelineEvent, RoomClock, certificate::Identity};
use crate::media::{MediaError, addresses, negotiation, rtp};

/// What webrtcbin may take for one step of negotiation.
const NEGOTIATION_DEADLINE: Duration = Duration::from_secs(10);
/// What webrtcbin may take for what it was told before its end.
const SETTLE_DEADLINE: Duration = Duration::from_secs(2);
/// Delay of the jitter buffers: what decoders and recorders wait for late packets. Forwarding does not.
pub const JITTER_BUFFER: Duration = Duration::from_millis(200);
/// What RTP sessions take for the capacity of the path, in bytes a second. They spend a twentieth of
/// it on RTCP at most; with their own guess they send too few NACKs to recover from loss.
const SESSION_BANDWIDTH: f64 = 300_000.0;
/// How often a sender is told what came (transport-wide congestion control).
const TRANSPORT_REPORTS: Duration = Duration::from_millis(100);

/// SSRCs that a client may send in one connection, each of which costs a jitter buffer and a thread. A
/// browser sends one for each section, and a new one now and then.
const MAX_STREAMS: u32 = 4 * negotiation::MAX_SECTIONS as u32;

/// What webrtcbin tells. Its callbacks run on GStreamer's threads and only send this.
#[derive(Debug)]
pub(super) enum Signal {
    /// A candidate of ours, for the only transport.
    Candidate(String),
    /// No more candidates of ours will come.
    GatheringDone,
    /// ICE and DTLS together.
    State(WebRTCPeerConnectionState),
}

/// Which way media goes; RTCP is timed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// We receive: NACKs and transport-wide feedback must leave at once.
    Receiver,
    /// We send: a report now and then is enough.
    Sender,
}

/// A webrtcbin and the pipeline it lives in.
#[derive(Debug)]
pub(super) struct WebRtc {
    pub(super) pipeline: OwnedPipeline,
    pub(super) bin: gst::Element,
    pub(super) signals: mpsc::Receiver<Signal>,
    pub(super) pipeline_events: mpsc::Receiver<PipelineEvent>,
    clock: RoomClock,
    /// Running time in nanoseconds at which the client was last heard.
    heard: Arc<AtomicU64>,
}

impl WebRtc {
    /// Builds both; nothing runs yet. Takes some milliseconds: call it off the runtime's threads.
    pub(super) fn new(name: &str, clock: &RoomClock, settings: &MediaSettings, role: Role) -> Result<Self, MediaError> {
        let (pipeline, pipeline_events) = OwnedPipeline::new(name, clock);
        let heard = Arc::new(AtomicU64::new(0));
        let (listener, listener_clock) = (heard.clone(), clock.clone());
        pipeline.pipeline().connect_deep_element_added(move |_, _, element| {
            set_up_child(element, role);
            listen(element, &listener, &listener_clock);
        });
        let bin = element("webrtcbin", &format!("{name}-webrtc"))?;
        bin.set_property_from_str("bundle-policy", "max-bundle");
        bin.set_property("latency", JITTER_BUFFER.as_millis() as u32);
        set_up_ice(&bin, settings);
        let (sender, signals) = mpsc::channel(128);
        connect_signals(&bin, sender);
        pipeline.pipeline().add(&bin).map_err(|_| broken("webrtcbin could not be added"))?;
        Ok(Self { pipeline, bin, signals, pipeline_events, clock: clock.clone(), heard })
    }

    /// Writes what RTP sessions and jitter buffers counted into the log: losses, retransmissions.
    pub(super) fn log_statistics(&self) {
        for element in self.pipeline.pipeline().iterate_recurse().into_iter().flatten() {
            let counts =
                element.factory().is_some_and(|it| matches!(it.name().as_str(), "rtpsession" | "rtpjitterbuffer"));
            if counts {
                let statistics = element.property::<gst::Structure>("stats");
                tracing::debug!(pipeline = %self.pipeline.name(), element = %element.name(), "{statistics}");
            }
        }
    }

    /// How long the client has sent nothing at all. One that is there sends RTCP at least.
    pub(super) fn silence(&self) -> Duration {
        let heard = gst::ClockTime::from_nseconds(self.heard.load(Relaxed));
        self.clock.running_time().saturating_sub(heard).into()
    }

    /// Sets the client's description.
    pub(super) async fn set_remote(&self, kind: WebRTCSDPType, sdp: &str) -> Result<(), MediaError> {
        let message = gst_sdp::SDPMessage::parse_buffer(sdp.as_bytes())
            .map_err(|_| MediaError::Description("GStreamer cannot read it".into()))?;
        self.set("set-remote-description", &WebRTCSessionDescription::new(kind, message)).await
    }

    /// Makes an answer or an offer, sets it as our description, and returns its text.
    pub(super) async fn create_local(&self, kind: WebRTCSDPType) -> Result<String, MediaError> {
        let (signal, field) =
            if kind == WebRTCSDPType::Offer { ("create-offer", "offer") } else { ("create-answer", "answer") };
        let (promise, reply) = gst::Promise::new_future();
        self.bin.emit_by_name::<()>(signal, &[&None::<gst::Structure>, &promise]);
        let description = {
            let reply = in_time(reply).await?;
            let reply = reply.map_err(|_| refused("webrtcbin went away"))?;
            let reply = reply.ok_or_else(|| refused("webrtcbin gave no description"))?;
            check_reply(&reply)?;
            reply.get::<WebRTCSessionDescription>(field).map_err(|_| refused("webrtcbin gave no description"))?
        };
        let text = description.sdp().as_text().map_err(|_| refused("webrtcbin gave no text"))?;
        self.set("set-local-description", &description).await?;
        Ok(match Identity::get() {
            Some(identity) => identity.described(&text),
            None => text,
        })
    }

    /// A candidate of the client. All sections share the first one's transport.
    pub(super) fn add_candidate(&self, candidate: &str) {
        self.bin.emit_by_name::<()>("add-ice-candidate", &[&0u32, &candidate]);
    }

    /// Ends both, at most within `deadline`; that it passed is logged.
    pub(super) async fn shutdown(self, deadline: Duration) {
        self.settle().await;
        let Self { pipeline, bin, .. } = self;
        let _ = pipeline.shutdown(deadline).await;
        // The last reference joins webrtcbin's and libnice's threads.
        let _ = tokio::task::spawn_blocking(move || drop(bin)).await;
    }

    /// Waits until webrtcbin has done what it was told. It works on a thread of its own: a description
    /// that is being set while the pipeline ends adds transports that nobody ends any more, and their
    /// threads and sockets stay for ever. What is asked last is answered last, so its statistics tell.
    async fn settle(&self) {
        if self.bin.current_state() < gst::State::Ready {
            return;
        }
        let (promise, reply) = gst::Promise::new_future();
        self.bin.emit_by_name::<()>("get-stats", &[&None::<gst::Pad>, &promise]);
        if tokio::time::timeout(SETTLE_DEADLINE, reply).await.is_err() {
            tracing::warn!(pipeline = %self.pipeline.name(), "webrtcbin did not settle within {SETTLE_DEADLINE:?}");
        }
    }

    async fn set(&self, signal: &str, description: &WebRTCSessionDescription) -> Result<(), MediaError> {
        let (promise, reply) = gst::Promise::new_future();
        self.bin.emit_by_name::<()>(signal, &[description, &promise]);
        let reply = in_time(reply).await?;
        match reply.map_err(|_| refused("webrtcbin went away"))? {
            Some(reply) => check_reply(&reply),
            None => Ok(()),
        }
    }
}

/// An element of this name, or the reason why there is none.
pub(super) fn element(factory: &str, name: &str) -> Result<gst::Element, MediaError> {
    gst::ElementFactory::make(factory)
        .name(name)
        .build()
        .map_err(|_| MediaError::Unavailable(format!("the GStreamer element {factory}")))
}

/// The transceiver behind one of webrtcbin's pads.
pub(super) fn transceiver(pad: &gst::Pad) -> WebRTCRTPTransceiver {
    pad.property("transceiver")
}

async fn in_time<T>(reply: impl Future<Output = T>) -> Result<T, MediaError> {
    tokio::time::timeout(NEGOTIATION_DEADLINE, reply)
        .await
        .map_err(|_| MediaError::Deadline { step: "negotiating", limit: NEGOTIATION_DEADLINE })
}

fn check_reply(reply: &gst::StructureRef) -> Result<(), MediaError> {
    match reply.get::<glib::Error>("error") {
        Ok(error) => Err(MediaError::Description(error.message().to_owned())),
        Err(_) => Ok(()),
    }
}

fn refused(reason: &str) -> MediaError {
    MediaError::Description(reason.into())
}

fn broken(reason: &str) -> MediaError {
    MediaError::Element { element: "webrtcbin".into(), message: reason.into() }
}

/// libnice would speak UPnP and TCP, and search every interface but loopback: it is told exactly
/// which addresses to use.
fn set_up_ice(bin: &gst::Element, settings: &MediaSettings) {
    let ice = bin.property::<glib::Object>("ice-agent");
    ice.set_property("ice-tcp", false);
    if let Some((low, high)) = settings.ports {
        ice.set_property("min-rtp-port", u32::from(low));
        ice.set_property("max-rtp-port", u32::from(high));
    }
    let agent = ice.property::<glib::Object>("agent");
    agent.set_property("upnp", false);
    for address in addresses::local(&settings.bind) {
        if !ice.emit_by_name::<bool>("add-local-ip-address", &[&address.to_string()]) {
            tracing::warn!(%address, "libnice does not take the address");
        }
    }
}

/// Closures hold the channel, never the pipeline: webrtcbin owns them, and a strong reference back up
/// would keep the pipeline, its sockets and threads for ever.
fn connect_signals(bin: &gst::Element, signals: mpsc::Sender<Signal>) {
    let candidates = signals.clone();
    bin.connect("on-ice-candidate", false, move |values| {
        let candidate = values.get(2)?.get::<String>().ok()?;
        // The channel holds more than a host has addresses.
        let _ = candidates.try_send(Signal::Candidate(candidate));
        None
    });
    let gathering = signals.clone();
    bin.connect_notify(Some("ice-gathering-state"), move |bin, _| {
        let state = bin.property::<gst_webrtc::WebRTCICEGatheringState>("ice-gathering-state");
        if state == gst_webrtc::WebRTCICEGatheringState::Complete {
            let _ = gathering.try_send(Signal::GatheringDone);
        }
    });
    bin.connect_notify(Some("connection-state"), move |bin, _| {
        let state = bin.property::<WebRTCPeerConnectionState>("connection-state");
        if signals.try_send(Signal::State(state)).is_err() {
            tracing::debug!(?state, "nobody takes a connection's state any more");
        }
    });
}

/// Sets up the elements that webrtcbin makes as it goes.
fn set_up_child(element: &gst::Element, role: Role) {
    let Some(factory) = element.factory() else { return };
    match factory.name().as_str() {
        "rtpsession" => {
            let interval = if role == Role::Receiver { Duration::from_millis(20) } else { Duration::from_millis(500) };
            element.set_property("bandwidth", SESSION_BANDWIDTH);
            element.set_property("rtcp-min-interval", interval.as_nanos() as u64);
            // What comes late, after a report of its neighbours, is told as lost for ever; and there is a report
            // with each picture if no interval is given. The sender would take the network for a broken one.
            let session = element.property::<glib::Object>("internal-session");
            session.set_property("twcc-feedback-interval", TRANSPORT_REPORTS.as_nanos() as u64);
            // What we send carries the time of its capture, which reports are to be made from.
            element.set_property("rtcp-sync-send-time", false);
        }
        "dtlssrtpdec" => {
            if let Some(identity) = Identity::get() {
                element.set_property("pem", &identity.pem);
            }
        }
        // Packets of further ones are dropped.
        "rtpssrcdemux" => element.set_property("max-streams", MAX_STREAMS),
        // So that decoders of sound conceal what is missing, instead of leaving a hole.
        "rtpjitterbuffer" => element.set_property("do-lost", true),
        // Retransmissions pass late; a sender's own replay window must not refuse them.
        "srtpenc" | "srtpdec" => element.set_property("replay-window-size", 2 * rtp::REORDER_WINDOW as u32),
        _ => {}
    }
}

/// Notes when something comes in. libnice notices a vanished peer late or never: consent freshness
/// (RFC 7675) can only be chosen when the agent is made, which webrtcbin does.
fn listen(element: &gst::Element, heard: &Arc<AtomicU64>, clock: &RoomClock) {
    if element.factory().is_none_or(|factory| factory.name() != "nicesrc") {
        return;
    }
    let (heard, clock) = (heard.clone(), clock.clone());
    let packets = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
    if let Some(pad) = element.static_pad("src") {
        pad.add_probe(packets, move |_, _| {
            heard.store(clock.running_time().nseconds(), Relaxed);
            gst::PadProbeReturn::Ok
        });
    }
}

impl MediaSettings {
    /// A candidate line of ours as the client is to see it: host candidates with the announced
    /// address, if there is one; `None` if it is of no use then.
    pub(super) fn announced(&self, candidate: &str) -> Option<String> {
        let Some(announce) = self.announce else { return Some(candidate.to_owned()) };
        let mut fields: Vec<&str> = candidate.split(' ').collect();
        let host = fields.get(7) == Some(&"host");
        let address: IpAddr = fields.get(4)?.parse().ok()?;
        if !host {
            return Some(candidate.to_owned());
        }
        if address.is_ipv4() != announce.is_ipv4() {
            return None;
        }
        let announce = announce.to_string();
        fields[4] = &announce;
        Some(fields.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_candidates_are_announced_with_the_outer_address() {
        let settings = MediaSettings { announce: Some("203.0.113.9".parse().unwrap()), ..Default::default() };
        let announced = |candidate| settings.announced(candidate);
        let host = "candidate:1 1 UDP 2015363327 10.0.0.2 50000 typ host";
        assert_eq!(announced(host).as_deref(), Some("candidate:1 1 UDP 2015363327 203.0.113.9 50000 typ host"));
        assert_eq!(announced("candidate:1 1 UDP 2015363327 2001:db8::2 50000 typ host"), None);
        let reflexive = "candidate:1 1 UDP 2015363327 192.0.2.1 50000 typ srflx raddr 10.0.0.2 rport 50000";
        assert_eq!(announced(reflexive).as_deref(), Some(reflexive));
        assert_eq!(MediaSettings::default().announced(host).as_deref(), Some(host));
    }
}
