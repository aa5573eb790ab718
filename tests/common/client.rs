//! A client's PeerConnection in GStreamer: sends a colour and a tone, or decodes what it receives and
//! says which colour and tone it was.

use std::{collections::HashMap, sync::Arc};

use gst::{glib, prelude::*};
use gst_rtp::prelude::*;
use gst_video::prelude::*;
use gst_webrtc::{WebRTCPeerConnectionState, WebRTCSDPType, WebRTCSessionDescription};
use salon::media::{
    CodecName, IceCandidate,
    sender_clock::{SenderReport, sender_reports},
};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};

use super::soon;

/// A colour of the test picture, as 0xRRGGBB.
pub type Colour = u32;
pub const RED: Colour = 0xD0_10_10;
pub const GREEN: Colour = 0x10_B0_10;
pub const BLUE: Colour = 0x10_10_D0;

/// What a client sends.
#[derive(Clone, Debug)]
pub struct Sends {
    pub video: Vec<(CodecName, Colour)>,
    /// Frequency in Hz.
    pub tone: Option<u32>,
}

impl Sends {
    pub fn both(codec: CodecName, colour: Colour, tone: u32) -> Self {
        Self { video: vec![(codec, colour)], tone: Some(tone) }
    }
}

/// How well a client's clock goes, and its way to the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions {
    /// By how many millionths its clock is faster than the server's.
    pub fast_ppm: i32,
    /// Share of its packets that get lost, retransmissions too.
    pub loss: f64,
}

/// What a client has decoded so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// Decoded frames.
    pub frames: u64,
    /// Colour of the last frame's middle.
    pub colour: Option<[u8; 3]>,
    /// Decoded sound in samples.
    pub samples: u64,
    /// Frequency of the last stretch of sound, by its zero crossings.
    pub tone: f64,
}

impl Seen {
    /// The last frame has this colour, as near as lossy codecs get.
    pub fn is(&self, colour: Colour) -> bool {
        let wanted = [(colour >> 16) as u8, (colour >> 8) as u8, colour as u8];
        self.colour.is_some_and(|seen| seen.iter().zip(wanted).all(|(seen, wanted)| seen.abs_diff(wanted) < 40))
    }

    pub fn hears(&self, tone: u32) -> bool {
        (self.tone - f64::from(tone)).abs() < 25.0
    }
}

pub struct Client {
    pub pipeline: gst::Pipeline,
    webrtc: gst::Element,
    pub candidates: std::sync::Mutex<Option<mpsc::UnboundedReceiver<IceCandidate>>>,
    state: watch::Receiver<WebRTCPeerConnectionState>,
    seen: watch::Receiver<Seen>,
    /// The last sender report of each source, of those it sends or of those it receives.
    pub reports: watch::Receiver<HashMap<u32, SenderReport>>,
    identity: Identity,
}

/// An ECDSA certificate, as browsers make one. webrtcbin's own is RSA, which the fan-out edge's DTLS does
/// not know.
struct Identity {
    /// Certificate and key.
    pem: String,
    /// As in `a=fingerprint`.
    fingerprint: String,
}

impl Identity {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        let hash = Sha256::digest(certificate.der());
        let fingerprint = hash.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
        Self { pem: format!("{}{}", certificate.pem(), key.serialize_pem()), fingerprint }
    }

    /// webrtcbin tells the hash of the whole PEM.
    fn correct(&self, sdp: &str) -> String {
        let line = |line: &str| match line.strip_prefix("a=fingerprint:sha-256 ") {
            Some(_) => format!("a=fingerprint:sha-256 {}\r\n", self.fingerprint),
            None => format!("{line}\r\n"),
        };
        sdp.lines().map(line).collect()
    }
}

impl Client {
    /// Payload numbers that are not Salon's own, so that a test sees whether they are translated.
    fn video_branch(index: usize, codec: CodecName, colour: Colour) -> String {
        let source = format!(
            "videotestsrc is-live=true pattern=solid-color foreground-color={} ! \
             video/x-raw,format=I420,width=320,height=240,framerate=25/1 ! ",
            0xFF00_0000u32 | colour
        );
        let encode = Self::encoder(codec);
        let hold = format!("queue name=hold{index} max-size-time=0 max-size-buffers=0 max-size-bytes=0");
        format!("{source}{encode} ! {hold} ! webrtc. ")
    }

    /// From raw pictures to RTP, with a payload number of its own.
    pub fn encoder(codec: CodecName) -> String {
        let encode = match codec {
            CodecName::Vp8 => {
                "vp8enc deadline=1 cpu-used=8 keyframe-max-dist=100000 target-bitrate=400000 ! \
                 rtpvp8pay pt=120 picture-id-mode=15-bit ! \
                 application/x-rtp,media=video,encoding-name=VP8,payload=120,clock-rate=90000"
            }
            CodecName::Vp9 => {
                "vp9enc deadline=1 cpu-used=8 lag-in-frames=0 keyframe-max-dist=100000 target-bitrate=400000 ! \
                 rtpvp9pay pt=121 picture-id-mode=15-bit ! \
                 application/x-rtp,media=video,encoding-name=VP9,payload=121,clock-rate=90000"
            }
            CodecName::H264 => {
                "x264enc tune=zerolatency speed-preset=ultrafast bitrate=400 key-int-max=100000 ! \
                 video/x-h264,profile=constrained-baseline ! rtph264pay pt=122 config-interval=-1 \
                 aggregate-mode=zero-latency ! \
                 application/x-rtp,media=video,encoding-name=H264,payload=122,clock-rate=90000"
            }
            other => panic!("no test encoder for {other:?}"),
        };
        format!("{encode},rtcp-fb-nack=true,rtcp-fb-nack-pli=true")
    }

    /// A client that sends; [`offer`](Self::offer) comes next.
    pub async fn sender(sends: Sends) -> Arc<Self> {
        Self::build(Self::launch(sends), Conditions::default()).await
    }

    /// Its launch line, for [`of`](Self::of).
    pub fn launch(sends: Sends) -> String {
        let mut launch = String::from(Self::WEBRTC);
        for (index, (codec, colour)) in sends.video.into_iter().enumerate() {
            launch.push_str(&Self::video_branch(index, codec, colour));
        }
        if let Some(tone) = sends.tone {
            launch.push_str(&format!(
                "audiotestsrc is-live=true volume=0.5 freq={tone} samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! \
                 level audio-level-meta=true post-messages=false ! opusenc ! rtpopuspay name=audiopay pt=97 ! \
                 application/x-rtp,media=audio,encoding-name=OPUS,payload=97,encoding-params=(string)2 ! webrtc. "
            ));
        }
        launch
    }

    /// A client that sends what a launch line says, to its element `webrtc`; `paint` is called with the bin before
    /// it starts.
    pub async fn of(
        launch: String,
        conditions: Conditions,
        paint: impl FnOnce(&gst::Bin) + Send + 'static,
    ) -> Arc<Self> {
        tokio::task::spawn_blocking(move || Self::build_blocking(&launch, conditions, paint)).await.unwrap()
    }

    /// What every launch line for [`of`](Self::of) begins with.
    pub const WEBRTC: &str = "webrtcbin name=webrtc bundle-policy=max-bundle ";

    /// From now on the first picture leaves so much later than its sound.
    pub fn hold_video(&self, delay: std::time::Duration) {
        let hold = self.pipeline.by_name("hold0").unwrap();
        hold.set_property("min-threshold-time", delay.as_nanos() as u64);
    }

    /// A client that receives.
    pub async fn receiver() -> Arc<Self> {
        Self::build(Self::WEBRTC.into(), Conditions::default()).await
    }

    /// A client that offers to receive one picture and one sound, under numbers of its own, the picture
    /// first; [`offer`](Self::offer) comes next.
    pub async fn viewer() -> Arc<Self> {
        let client = Self::receiver().await;
        let video = ["H264", "VP8", "VP9"].into_iter().zip(100i32..).map(|(codec, payload)| {
            let extra =
                if codec == "H264" { ",packetization-mode=(string)1,profile-level-id=(string)42e01f" } else { "" };
            format!(
                "application/x-rtp,media=video,encoding-name={codec},payload={payload},clock-rate=90000,\
                 rtcp-fb-nack=true,rtcp-fb-nack-pli=true{extra}"
            )
        });
        let video = video.collect::<Vec<_>>().join(";");
        let audio =
            "application/x-rtp,media=audio,encoding-name=OPUS,payload=99,clock-rate=48000,encoding-params=(string)2";
        for caps in [video.as_str(), audio] {
            let caps: gst::Caps = caps.parse().unwrap();
            let direction = gst_webrtc::WebRTCRTPTransceiverDirection::Recvonly;
            let transceiver: gst_webrtc::WebRTCRTPTransceiver =
                client.webrtc.emit_by_name("add-transceiver", &[&direction, &caps]);
            transceiver.set_property("do-nack", true);
        }
        client
    }

    async fn build(launch: String, conditions: Conditions) -> Arc<Self> {
        Self::of(launch, conditions, |_| ()).await
    }

    fn build_blocking(launch: &str, conditions: Conditions, paint: impl FnOnce(&gst::Bin)) -> Arc<Self> {
        let pipeline = gst::Pipeline::new();
        if conditions.fast_ppm != 0 {
            pipeline.use_clock(Some(&clock(conditions.fast_ppm)));
        }
        let (reports_sender, reports) = watch::channel(HashMap::new());
        let reports_sender = Arc::new(reports_sender);
        let identity = Identity::new();
        let pem = identity.pem.clone();
        pipeline.connect_deep_element_added(move |_, _, element| {
            if element.factory().is_some_and(|factory| factory.name() == "rtpsession") {
                // Browsers report when media was captured, not when it was sent.
                element.set_property("rtcp-sync-send-time", false);
                read_reports(element, &reports_sender);
                if conditions.loss > 0.0 {
                    lose(element, conditions.loss);
                }
            }
            if element.factory().is_some_and(|factory| factory.name() == "dtlssrtpdec") {
                element.set_property("pem", &pem);
            }
        });
        let bin = gst::parse::bin_from_description(launch, false).unwrap();
        pipeline.add(&bin).unwrap();
        paint(&bin);
        let webrtc = bin.by_name("webrtc").unwrap();
        let ice = webrtc.property::<glib::Object>("ice-agent");
        ice.set_property("ice-tcp", false);
        ice.property::<glib::Object>("agent").set_property("upnp", false);
        assert!(ice.emit_by_name::<bool>("add-local-ip-address", &[&"127.0.0.1"]));
        if let Some(payloader) = bin.by_name("audiopay") {
            let extension =
                gst_rtp::RTPHeaderExtension::create_from_uri(salon::media::negotiation::AUDIO_LEVEL).unwrap();
            extension.set_id(5);
            payloader.emit_by_name::<()>("add-extension", &[&extension]);
        }
        for index in 0i32.. {
            let transceiver: Option<gst_webrtc::WebRTCRTPTransceiver> =
                webrtc.emit_by_name("get-transceiver", &[&index]);
            let Some(transceiver) = transceiver else { break };
            transceiver.set_direction(gst_webrtc::WebRTCRTPTransceiverDirection::Sendonly);
            transceiver.set_property("do-nack", true);
        }
        let (candidate, candidates) = mpsc::unbounded_channel();
        webrtc.connect("on-ice-candidate", false, move |values| {
            let line = values[1].get::<u32>().unwrap();
            let text = values[2].get::<String>().unwrap();
            let _ = candidate.send(IceCandidate { candidate: text, mid: None, line: Some(line) });
            None
        });
        let (state_sender, state) = watch::channel(WebRTCPeerConnectionState::New);
        webrtc.connect_notify(Some("connection-state"), move |webrtc, _| {
            state_sender.send_replace(webrtc.property("connection-state"));
        });
        let (seen_sender, seen) = watch::channel(Seen::default());
        let seen_sender = Arc::new(seen_sender);
        webrtc.connect_pad_added(move |webrtc, pad| {
            if pad.direction() == gst::PadDirection::Src {
                decode(&webrtc.parent().unwrap().downcast().unwrap(), pad, seen_sender.clone());
            }
        });
        pipeline.set_state(gst::State::Playing).unwrap();
        let candidates = std::sync::Mutex::new(Some(candidates));
        Arc::new(Self { pipeline, webrtc, candidates, state, seen, reports, identity })
    }

    /// An offer of what it sends, already set. Waits until the encoders have given their caps.
    pub async fn offer(&self) -> String {
        soon("caps of all that is sent", self.pads_have_caps()).await;
        self.create("create-offer", "offer").await
    }

    /// The same with sections that are named as no webrtcbin names them; [`take_answer`](Self::take_answer) knows.
    pub async fn offer_as_browsers_do(&self) -> String {
        renamed(&self.offer().await, [("video", "v"), ("audio", "a")])
    }

    pub fn local_description(&self) -> String {
        self.webrtc.property::<WebRTCSessionDescription>("local-description").sdp().as_text().unwrap()
    }

    async fn pads_have_caps(&self) {
        for pad in self.webrtc.sink_pads() {
            let (sender, mut caps) = watch::channel(());
            pad.connect_notify(Some("caps"), move |_, _| {
                let _ = sender.send(());
            });
            while pad.current_caps().is_none() {
                caps.changed().await.unwrap();
            }
        }
    }

    /// Takes the server's offer; gives the answer, already set.
    pub async fn answer(&self, offer: &str) -> String {
        self.set("set-remote-description", WebRTCSDPType::Offer, offer).await;
        self.create("create-answer", "answer").await
    }

    pub async fn take_answer(&self, answer: &str) {
        let answer = renamed(answer, [("v", "video"), ("a", "audio")]);
        self.set("set-remote-description", WebRTCSDPType::Answer, &answer).await;
    }

    pub fn take_candidate(&self, candidate: &IceCandidate) {
        if !candidate.candidate.is_empty() {
            // All sections share a transport. webrtcbin keeps it under the first, also if that was refused, and
            // puts a candidate of another aside for ever; browsers find it by its name.
            self.webrtc.emit_by_name::<()>("add-ice-candidate", &[&0u32, &candidate.candidate]);
        }
    }

    pub async fn connected(&self) {
        let mut state = self.state.clone();
        soon("connecting", state.wait_for(|state| *state == WebRTCPeerConnectionState::Connected)).await.unwrap();
    }

    pub fn seen(&self) -> Seen {
        *self.seen.borrow()
    }

    /// Waits until what it has decoded is so.
    pub async fn until(&self, what: &str, is_so: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.clone();
        let result = tokio::time::timeout(super::DEADLINE, seen.wait_for(is_so)).await.map(|seen| *seen.unwrap());
        result.unwrap_or_else(|_| panic!("{what} did not happen; seen: {:?}", self.seen()))
    }

    pub async fn sees_and_hears(&self, colour: Colour, tone: u32) {
        let from = self.seen();
        self.until(&format!("seeing {colour:06x} and hearing {tone} Hz"), |seen| {
            seen.is(colour)
                && seen.hears(tone)
                && seen.frames >= from.frames + 10
                && seen.samples >= from.samples + 24_000
        })
        .await;
    }

    /// Ends it, and waits until its threads are gone.
    pub async fn close(&self) {
        let pipeline = self.pipeline.clone();
        tokio::task::spawn_blocking(move || pipeline.set_state(gst::State::Null).unwrap()).await.unwrap();
    }

    async fn create(&self, signal: &str, field: &str) -> String {
        let (promise, reply) = gst::Promise::new_future();
        self.webrtc.emit_by_name::<()>(signal, &[&None::<gst::Structure>, &promise]);
        let reply = soon(signal, reply).await.unwrap();
        let description = reply.unwrap().get::<WebRTCSessionDescription>(field).unwrap();
        let sdp = description.sdp().as_text().unwrap();
        self.set("set-local-description", description.type_(), &sdp).await;
        self.identity.correct(&sdp)
    }

    async fn set(&self, signal: &str, kind: WebRTCSDPType, sdp: &str) {
        let message = gst_sdp::SDPMessage::parse_buffer(sdp.as_bytes()).unwrap();
        let (promise, reply) = gst::Promise::new_future();
        self.webrtc.emit_by_name::<()>(signal, &[&WebRTCSessionDescription::new(kind, message), &promise]);
        let reply = soon(signal, reply).await.unwrap();
        if let Some(error) = reply.and_then(|reply| reply.get::<glib::Error>("error").ok()) {
            panic!("{signal}: {error}\n{sdp}");
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let pipeline = self.pipeline.clone();
        std::thread::spawn(move || pipeline.set_state(gst::State::Null));
    }
}

/// A description whose mids, made of a word and a number, have other words.
fn renamed(sdp: &str, words: [(&str, &str); 2]) -> String {
    let mid = |mid: &str| {
        let other = words.iter().find_map(|(from, to)| {
            let number = mid.strip_prefix(from)?.parse::<u32>().ok()?;
            Some(format!("{to}{number}"))
        });
        other.unwrap_or_else(|| mid.to_owned())
    };
    let line = |line: &str| match line.split_once(':') {
        Some((name @ ("a=mid" | "a=group"), value)) => {
            format!("{name}:{}\r\n", value.split(' ').map(mid).collect::<Vec<_>>().join(" "))
        }
        _ => format!("{line}\r\n"),
    };
    sdp.lines().map(line).collect()
}

/// A clock of its own, which goes that much faster than the system's.
fn clock(fast_ppm: i32) -> gst::Clock {
    let clock = glib::Object::builder::<gst::SystemClock>().property("clock-type", gst::ClockType::Monotonic).build();
    let now = clock.internal_time();
    let million = 1_000_000;
    clock.set_calibration(now, now, u64::try_from(million + fast_ppm).unwrap(), million as u64);
    clock.upcast()
}

/// Loses packets on their way from an RTP session to the network.
fn lose(session: &gst::Element, share: f64) {
    session.connect_pad_added(move |_, pad| {
        if pad.name() == "send_rtp_src" {
            let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
            pad.add_probe(kinds, move |_, info| match &mut info.data {
                Some(gst::PadProbeData::BufferList(list)) => {
                    list.make_mut().foreach_mut(|buffer, _| {
                        std::ops::ControlFlow::Continue((!rand::random_bool(share)).then_some(buffer))
                    });
                    gst::PadProbeReturn::Ok
                }
                _ if rand::random_bool(share) => gst::PadProbeReturn::Drop,
                _ => gst::PadProbeReturn::Ok,
            });
        }
    });
}

/// Tells of the sender reports that pass an RTP session; a client of these tests only sends or only
/// receives.
fn read_reports(session: &gst::Element, reports: &Arc<watch::Sender<HashMap<u32, SenderReport>>>) {
    let watch_pad = {
        let reports = reports.clone();
        move |pad: &gst::Pad| {
            if !["send_rtcp_src", "recv_rtcp_sink"].contains(&pad.name().as_str()) {
                return;
            }
            let reports = reports.clone();
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                for report in sender_reports(&info.buffer().unwrap().map_readable().unwrap()) {
                    reports.send_modify(|reports| {
                        reports.insert(report.ssrc, report);
                    });
                }
                gst::PadProbeReturn::Ok
            });
        }
    };
    session.pads().iter().for_each(&watch_pad);
    session.connect_pad_added(move |_, pad| watch_pad(pad));
}

/// Decodes what comes out of `pad` and tells `seen`.
fn decode(client: &gst::Bin, pad: &gst::Pad, seen: Arc<watch::Sender<Seen>>) {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let encoding = caps.structure(0).unwrap().get::<String>("encoding-name").unwrap();
    let chain = match encoding.as_str() {
        "VP8" => "rtpvp8depay ! vp8dec ! videoconvert ! video/x-raw,format=RGB ! appsink name=out",
        "VP9" => "rtpvp9depay ! vp9dec ! videoconvert ! video/x-raw,format=RGB ! appsink name=out",
        "H264" => "rtph264depay ! h264parse ! avdec_h264 ! videoconvert ! video/x-raw,format=RGB ! appsink name=out",
        "OPUS" => {
            "rtpopusdepay ! opusdec ! audioconvert ! audio/x-raw,format=F32LE,rate=48000,channels=1 ! appsink name=out"
        }
        "PCMU" => {
            "rtppcmudepay ! mulawdec ! audioconvert ! audioresample ! \
             audio/x-raw,format=F32LE,rate=48000,channels=1 ! appsink name=out"
        }
        "PCMA" => {
            "rtppcmadepay ! alawdec ! audioconvert ! audioresample ! \
             audio/x-raw,format=F32LE,rate=48000,channels=1 ! appsink name=out"
        }
        other => panic!("the server sent {other}"),
    };
    let bin = gst::parse::bin_from_description(chain, true).unwrap();
    let out = bin.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
    out.set_property("sync", false);
    out.set_property("async", false);
    let audio = ["OPUS", "PCMU", "PCMA"].contains(&encoding.as_str());
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        if audio {
            hear(&sample, &seen)
        } else {
            see(&sample, &seen)
        }
        Ok(gst::FlowSuccess::Ok)
    });
    out.set_callbacks(callbacks.build());
    client.add(&bin).unwrap();
    bin.sync_state_with_parent().unwrap();
    pad.link(&bin.static_pad("sink").unwrap()).unwrap();
}

fn see(sample: &gst::Sample, seen: &watch::Sender<Seen>) {
    let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(sample.buffer().unwrap(), &info).unwrap();
    let at = (info.height() as usize / 2) * frame.plane_stride()[0] as usize + 3 * (info.width() as usize / 2);
    let pixel = &frame.plane_data(0).unwrap()[at..at + 3];
    let colour = Some([pixel[0], pixel[1], pixel[2]]);
    seen.send_modify(|seen| *seen = Seen { frames: seen.frames + 1, colour, ..*seen });
}

fn hear(sample: &gst::Sample, seen: &watch::Sender<Seen>) {
    let map = sample.buffer().unwrap().map_readable().unwrap();
    let samples: Vec<f32> = map.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    let rises: Vec<usize> = (1..samples.len()).filter(|at| samples[at - 1] < 0.0 && samples[*at] >= 0.0).collect();
    let tone = match (rises.first(), rises.last()) {
        (Some(first), Some(last)) if last > first => 48_000.0 * (rises.len() - 1) as f64 / (last - first) as f64,
        _ => 0.0,
    };
    // Smoothed, as a packet holds only a few waves.
    seen.send_modify(|seen| {
        let smoothed = if (seen.tone - tone).abs() < 100.0 { 0.8 * seen.tone + 0.2 * tone } else { tone };
        *seen = Seen { samples: seen.samples + samples.len() as u64, tone: smoothed, ..*seen };
    });
}
