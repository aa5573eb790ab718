//! The port between rooms and media: what a room may ask of an engine, and what an engine tells.
//!
//! Calls return at once. What takes time (negotiating, building a graph, ending a file) is started
//! and reported by a [`MediaEvent`]; the room never waits for media, and media never for the room.
//! Nothing here names GStreamer: [`gst`] (feature `gstreamer`) is one implementation, [`fake`] is
//! the other, for tests of room logic.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use utoipa::ToSchema;

use crate::{
    effect::{Applied, Effect, Picture},
    ingest::rtsp::Source,
    room::id::{ConnectionId, ParticipantId, RecordingId, TrackId},
};
pub use layout::{LayoutChoice, LayoutError, LayoutKind, LayoutSpec};

pub mod addresses;
pub mod av1;
pub mod colour;
pub mod description;
pub mod fake;
pub mod fanout;
pub mod graph;
#[cfg(feature = "gstreamer")]
pub mod gst;
pub mod h264;
pub mod hls;
pub mod ingest;
pub mod layout;
pub mod negotiation;
pub mod output;
pub mod push;
pub mod rtp;
pub mod sender_clock;
pub mod ts;

/// Makes the media side of rooms.
pub trait MediaEngine: Send + Sync + 'static {
    /// The media of a new room. Events come on `events`, in order; an engine that finds it full
    /// drops audio levels and waits (on a task of its own) with all else.
    fn open_room(&self, room: &str, events: mpsc::Sender<MediaEvent>) -> Box<dyn MediaRoom>;

    /// Looks at a camera or another source, and lets go of it: what it has, and a picture of it. Takes at most some
    /// 15 s; a look whose answer nobody waits for goes on to its end.
    fn probe(&self, source: Source) -> oneshot::Receiver<ingest::Probed>;

    /// What it can do on this machine; fixed from its start.
    fn capabilities(&self) -> &Capabilities;
}

/// The media of one room. Every verb is quick; none fails: what goes wrong comes as an event that
/// names the connection or recording, and harms no other.
pub trait MediaRoom: Send {
    /// Receive a publication: answer its offer, then take its media.
    /// → [`MediaEvent::Answered`] or [`MediaEvent::ConnectionEnded`].
    fn publish(&mut self, connection: ConnectionId, publication: Publication);

    /// Send tracks to a subscriber over a new connection: with their effects, or as they were published.
    /// → [`MediaEvent::Offered`] or [`MediaEvent::ConnectionEnded`].
    fn subscribe(&mut self, connection: ConnectionId, tracks: Vec<TrackId>, effects: bool);

    /// Send the room's mix to a subscriber over a new connection, as these tracks; the sound is without
    /// `without`, his own. The picture's identifier is the same for all of a room.
    /// → [`MediaEvent::Offered`] or [`MediaEvent::ConnectionEnded`].
    fn subscribe_to_mix(&mut self, connection: ConnectionId, tracks: MixTracks, without: Vec<TrackId>);

    /// Send tracks to a subscriber over a connection that he offered.
    /// → [`MediaEvent::Answered`] or [`MediaEvent::ConnectionEnded`].
    fn subscribe_with_offer(&mut self, connection: ConnectionId, offer: SubscriberOffer);

    /// What a subscriber of the mix does not hear has changed: he publishes, or ceased to.
    fn set_mix_without(&mut self, connection: &ConnectionId, without: Vec<TrackId>);

    /// A subscriber's answer to [`MediaEvent::Offered`].
    fn answer(&mut self, connection: &ConnectionId, sdp: String);

    /// Find other paths for a connection whose edge can ([`Edge::restarts_ice`]), on the same session. If it was
    /// the client's offer, as of all that is published, `theirs` are his new credentials.
    /// → [`MediaEvent::Offered`] or, for his offer, [`MediaEvent::Restarted`]; or [`MediaEvent::ConnectionEnded`].
    fn restart_ice(&mut self, connection: &ConnectionId, theirs: Option<IceCredentials>);

    /// Of a track that comes in layers the subscriber is to have another one. Nothing happens where there is one alone:
    /// on an edge that knows no layers, or for a subscriber of the track as it was published.
    fn set_layer(&mut self, connection: &ConnectionId, track: &TrackId, layer: LayerChoice);

    /// A candidate of the other side. Candidates may come before the answer.
    fn candidate(&mut self, connection: &ConnectionId, candidate: IceCandidate);

    /// Ends a connection and all that hangs on it. Ends quietly: no event follows.
    fn close(&mut self, connection: &ConnectionId);

    /// Fetch a camera or another source, and go on until it is closed. → [`MediaEvent::IngestOpened`],
    /// [`MediaEvent::IngestChanged`].
    fn ingest(&mut self, connection: ConnectionId, ingest: ingest::Ingest);

    /// Give nothing of an ingest's track to anybody, or give it again. It stays fetched.
    fn mute_ingest(&mut self, track: &TrackId, muted: bool);

    /// What has come of an ingest; nothing if there is no such ingest.
    fn ingest_figures(&self, connection: &ConnectionId) -> ingest::IngestFigures;

    /// Give the room's mix as a transport stream to `reader`, from its last keyframe on, until the reader
    /// is gone or leaves its queue to fill up. If there can be none, `reader` is dropped.
    fn watch_mix(&mut self, reader: mpsc::Sender<ts::TsChunk>);

    /// Give what is shown to a player outside the page as RTP, each picture from a keyframe on, until the
    /// reader is gone, leaves its queue to fill up, or a track ends. If there can be none, `reader` is dropped.
    /// → [`MediaEvent::OutputEnded`].
    fn output(&mut self, connection: ConnectionId, shown: output::Shown, reader: mpsc::Sender<output::RtpPiece>);

    /// Send the room's mix to a receiver elsewhere, and go on until it is closed. → [`MediaEvent::PushChanged`]
    fn push(&mut self, connection: ConnectionId, target: push::Target);

    /// Bytes that a push has sent; none if there is no such push.
    fn sent_bytes(&self, connection: &ConnectionId) -> u64;

    /// Whether another mix for such a recording may be made now.
    ///
    /// # Errors
    /// [`MediaError::Busy`]
    fn may_mix(&self, spec: &RecordingSpec) -> Result<(), MediaError>;

    /// Start writing a recording: its mix into `file`, its single tracks into a folder beside it
    /// ([`recording::tracks::folder_of`](crate::recording::tracks::folder_of)). → [`MediaEvent::RecordingStarted`], later
    /// [`MediaEvent::RecordingEnded`].
    fn start_recording(&mut self, recording: RecordingId, file: PathBuf, spec: RecordingSpec, scene: Scene);

    /// Who is to be seen and heard in all recordings of the room, in order, from now on.
    fn set_scene(&mut self, scene: Scene);

    /// Leave what comes from now on out of a recording. Nothing is said, nor of a pause that is one
    /// already.
    fn pause_recording(&mut self, recording: &RecordingId);

    /// Go on in the same file, without a gap.
    fn resume_recording(&mut self, recording: &RecordingId);

    /// Stop a recording, paused or not: write what is there and end the file. → [`MediaEvent::RecordingEnded`].
    fn stop_recording(&mut self, recording: &RecordingId);

    /// From now on everybody but recordings and subscribers that take it as it was published has this track
    /// with these effects, in this order; an empty list takes them off. Other parameters are other effects, and go
    /// the same way. → [`MediaEvent::EffectsFailed`] if that fails, also later.
    fn set_effects(&mut self, track: &TrackId, effects: Vec<Applied>);

    /// Make a small picture (JPEG) of a track as everybody has it, with these effects over it: for who chooses among
    /// them. `None`: there is no such track, or as many are made as may be.
    fn preview(
        &mut self,
        track: &TrackId,
        effects: Vec<Applied>,
    ) -> Option<oneshot::Receiver<Result<Bytes, MediaError>>>;

    /// Through which edge a connection goes; `None` if there is no such connection.
    fn edge(&self, connection: &ConnectionId) -> Option<Edge>;

    /// What each of a track's effects takes of a processor, in order; nothing while it has none.
    fn effect_costs(&self, track: &TrackId) -> Vec<EffectCost>;

    /// What each of the mix's effects takes of a processor, over all mixes that are made now.
    fn mix_effect_costs(&self) -> Vec<EffectCost>;

    /// The graph as it stands, from the engine's own books.
    fn graph(&self) -> graph::Graph;

    /// Ends everything, recordings first, within `deadline`. The answer says when all of it is gone.
    fn shutdown(self: Box<Self>, deadline: Duration) -> oneshot::Receiver<()>;
}

/// A checked offer and the tracks the room made of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// The offer as it came; [`negotiation::accept`] has approved it.
    pub sdp: String,
    /// What to receive, one for each accepted media section. Sections not listed are refused.
    pub media: Vec<PublishedMedia>,
    /// Its packets are the only sign of life of whoever publishes: if they stay away, he is gone.
    pub alone: bool,
}

/// One accepted media section of an offer.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedMedia {
    /// The track it becomes, or that is sent in it.
    pub track: TrackId,
    /// Place in the SDP, codec, payload numbers and header extensions.
    pub section: negotiation::AcceptedSection,
}

/// What a connection is built on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Edge {
    /// A GStreamer pipeline of its own.
    Webrtcbin,
    /// The media threads that all viewers share.
    Fanout,
}

impl Edge {
    /// As in the setting `edge`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Webrtcbin => "webrtcbin",
            Self::Fanout => "fanout",
        }
    }

    /// A connection can find other paths without a new session.
    pub fn restarts_ice(self) -> bool {
        self == Self::Fanout
    }
}

/// Which edge connections go through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EdgeChoice {
    /// Each through the one that serves it best: today the fan-out edge, for all whom it can serve.
    #[default]
    Auto,
    /// Everybody through a webrtcbin of his own.
    Webrtcbin,
    /// Everybody through the fan-out edge whom it can serve.
    Fanout,
}

impl EdgeChoice {
    /// The fan-out edge is there, for whoever can be served by it.
    pub fn fans_out(self) -> bool {
        self != Self::Webrtcbin
    }
}

impl std::str::FromStr for EdgeChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "webrtcbin" => Ok(Self::Webrtcbin),
            "fanout" => Ok(Self::Fanout),
            _ => Err("there is no such edge".into()),
        }
    }
}

/// Which layer of a track somebody is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerChoice {
    /// The largest that comes.
    Largest,
    /// The one of this rid, or while it does not come the next smaller one.
    Named(String),
    /// The smallest that is about so many pixels high, or the largest.
    Height(u32),
}

/// A checked offer of a subscriber, and what goes into it.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriberOffer {
    /// The offer as it came; [`negotiation::accept_subscriber`] has approved it.
    pub sdp: String,
    /// What to send, one for each accepted media section. Sections not listed are refused.
    pub media: Vec<PublishedMedia>,
    /// The tracks are the room's mix, for this listener.
    pub mix: Option<MixListener>,
    /// Tracks have their effects, or are as they were published.
    pub effects: bool,
}

/// Somebody who watches the mix.
#[derive(Clone, Debug, PartialEq)]
pub struct MixListener {
    /// What he is sent.
    pub tracks: MixTracks,
    /// What he is not to hear, his own.
    pub without: Vec<TrackId>,
}

/// What an engine tells its room.
#[derive(Clone, Debug, PartialEq)]
pub enum MediaEvent {
    /// The answer to a publication, or to a subscriber's offer.
    Answered {
        /// Which.
        connection: ConnectionId,
        /// SDP.
        sdp: String,
    },
    /// A connection that the client offered looks for other paths, under these credentials of ours.
    Restarted {
        /// Which.
        connection: ConnectionId,
        /// Ours.
        ours: IceCredentials,
        /// Ours, all of them, `candidate:…` each.
        candidates: Vec<String>,
    },
    /// The offer of a subscription, also one that was offered before and looks for other paths.
    Offered {
        /// Which.
        connection: ConnectionId,
        /// SDP.
        sdp: String,
        /// `(mid, track)` of each media section.
        tracks: Vec<(String, TrackId)>,
    },
    /// A candidate of ours.
    Candidate {
        /// Of which connection.
        connection: ConnectionId,
        /// To pass on.
        candidate: IceCandidate,
    },
    /// ICE and DTLS are up; media flows.
    Connected {
        /// Which.
        connection: ConnectionId,
    },
    /// A connection ended by itself; it is gone from the engine.
    ConnectionEnded {
        /// Which.
        connection: ConnectionId,
        /// Why.
        error: MediaError,
    },
    /// It is known what an ingest has, or that it cannot be known yet: these are its tracks, for good.
    IngestOpened {
        /// Which.
        connection: ConnectionId,
        /// Those of the tracks asked for that there are.
        tracks: Vec<(TrackId, CodecName)>,
    },
    /// Something about an ingest changed.
    IngestChanged {
        /// Which.
        connection: ConnectionId,
        /// How it stands now.
        status: ingest::IngestStatus,
    },
    /// Something about a push changed.
    PushChanged {
        /// Which.
        connection: ConnectionId,
        /// How it stands now.
        status: push::PushStatus,
    },
    /// A subscriber's network does not bear a picture, which rests meanwhile, or bears it again.
    TrackPaused {
        /// On which connection.
        connection: ConnectionId,
        /// Which.
        track: TrackId,
        /// It rests.
        paused: bool,
    },
    /// A player outside the page is gone, or what he was shown.
    OutputEnded {
        /// Which.
        connection: ConnectionId,
    },
    /// Loudness of audio tracks, from RFC 6464: each about five times a second while packets come.
    AudioLevels(Vec<(TrackId, AudioLevel)>),
    /// A track's effects ended by themselves; everybody has it as it was published.
    EffectsFailed {
        /// Which.
        track: TrackId,
        /// The effects that failed; meanwhile it may be to have others.
        chain: Vec<Applied>,
        /// Why.
        error: MediaError,
    },
    /// The effects of a scene do not go on a mix, which goes on with those it had, or failed on it, and are off.
    /// Each mix tells it.
    MixEffectsFailed {
        /// The effects that failed; meanwhile the mix may be to have others.
        chain: Vec<Applied>,
        /// Why.
        error: MediaError,
    },
    /// An effect found something. Told as it comes, or not at all to a room that does not keep up.
    EffectReported {
        /// On which track; `None`: on the mix.
        track: Option<TrackId>,
        /// What.
        report: EffectReport,
    },
    /// The first frame of a recording was written.
    RecordingStarted {
        /// Which.
        recording: RecordingId,
    },
    /// A recording's file is closed; nothing more is written.
    RecordingEnded {
        /// Which.
        recording: RecordingId,
        /// `Err` if it ended by itself. The file still plays up to the error.
        result: Result<(), MediaError>,
    },
}

/// What an effect found.
#[derive(Clone, Debug, PartialEq)]
pub enum EffectReport {
    /// It read a barcode.
    Barcode {
        /// Its kind, e.g. `QR-Code`, `EAN-13`.
        format: String,
        /// What it says.
        text: String,
    },
    /// Something began to move, or ceased to.
    Motion {
        /// It moves.
        moving: bool,
        /// The share of the picture that changed, 0 to 1.
        amount: f64,
    },
    /// Faces that are there; none: the last has gone.
    Faces(Vec<FaceBox>),
    /// How loud it was within the last 200 ms, in decibels of full scale, −100 to 0.
    Level {
        /// On average.
        rms_db: f64,
        /// Its loudest sample.
        peak_db: f64,
    },
}

/// Where a face is, in shares of the picture's width and height.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FaceBox {
    /// Of its left side.
    pub x: f64,
    /// Of its top.
    pub y: f64,
    /// From ear to ear.
    pub width: f64,
    /// From forehead to chin.
    pub height: f64,
}

/// What an effect takes of a processor.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct EffectCost {
    /// Which.
    pub name: String,
    /// Pictures, or blocks of sound, that it was measured on.
    pub frames: u64,
    /// Time of a processor core, in milliseconds.
    pub cpu_ms_per_frame: f64,
}

/// Loudness within a short window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioLevel {
    /// Loudest packet of the window, dBov: −127 (silence) to 0.
    pub peak_db: i8,
    /// The sender's own voice detector said speech.
    pub voice: bool,
}

/// What checks of a connection are made with (RFC 8445 §5.3), for as long as its ICE is not restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceCredentials {
    /// The user name, `a=ice-ufrag`.
    pub ufrag: String,
    /// The password, `a=ice-pwd`.
    pub pwd: String,
}

impl IceCredentials {
    /// If they are such as a session may have (RFC 8839 §5.4).
    pub fn new(ufrag: &str, pwd: &str) -> Option<Self> {
        let is_made_of = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "+/-_".contains(c));
        let fits = (4..=256).contains(&ufrag.len()) && (22..=256).contains(&pwd.len());
        (fits && is_made_of(ufrag) && is_made_of(pwd)).then(|| Self { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() })
    }
}

/// An ICE candidate, as browsers write it (`RTCIceCandidateInit`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceCandidate {
    /// `candidate:…`; empty text: no more will come.
    pub candidate: String,
    /// The media section's mid, if known.
    #[serde(rename = "sdpMid", default, skip_serializing_if = "Option::is_none")]
    pub mid: Option<String>,
    /// The media section's index, counted from 0.
    #[serde(rename = "sdpMLineIndex", default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

/// Audio or video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Sound.
    Audio,
    /// Picture.
    Video,
}

/// A codec Salon carries. Forwarding needs no coder for it; recording and mixing need a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum CodecName {
    /// Audio, RFC 7587.
    #[serde(rename = "opus")]
    Opus,
    /// Video, RFC 7741.
    #[serde(rename = "VP8")]
    Vp8,
    /// Video, RFC 9628.
    #[serde(rename = "VP9")]
    Vp9,
    /// Video, RFC 6184.
    #[serde(rename = "H264")]
    H264,
    /// Video, the AOM's payload format for AV1.
    #[serde(rename = "AV1")]
    Av1,
    /// Audio, G.711 µ-law (RFC 3551 §4.5.14): what many cameras send.
    #[serde(rename = "PCMU")]
    Pcmu,
    /// Audio, G.711 A-law.
    #[serde(rename = "PCMA")]
    Pcma,
}

impl CodecName {
    /// All of them, in Salon's order of preference.
    pub const ALL: [Self; 7] = [Self::Opus, Self::Vp8, Self::H264, Self::Vp9, Self::Av1, Self::Pcmu, Self::Pcma];

    /// Audio or video.
    pub fn kind(self) -> Kind {
        match self {
            Self::Opus | Self::Pcmu | Self::Pcma => Kind::Audio,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => Kind::Video,
        }
    }

    /// As in `a=rtpmap` and in GStreamer's `encoding-name`.
    pub fn encoding_name(self) -> &'static str {
        match self {
            Self::Opus => "OPUS",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::H264 => "H264",
            Self::Av1 => "AV1",
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
        }
    }

    /// RTP clock rate in Hz.
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::Pcmu | Self::Pcma => 8_000,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => 90_000,
        }
    }

    /// As `a=rtpmap` says after the clock rate, if it says so.
    pub fn channels(self) -> Option<u8> {
        (self == Self::Opus).then_some(2)
    }
}

/// What this machine's engine can do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Capabilities {
    /// The engine and its version, e.g. `GStreamer 1.22.0`.
    pub engine: String,
    /// Codecs that are forwarded.
    pub forward: Vec<CodecName>,
    /// Codecs that can be mixed and recorded.
    pub decode: Vec<CodecName>,
    /// Composite recording works.
    pub record: bool,
    /// The mix can be watched live.
    pub mix: bool,
    /// Layouts found in `pipelines/layouts`.
    pub layouts: Vec<String>,
    /// Effects found in `pipelines/effects`.
    pub effects: Vec<Effect>,
    /// Pictures (JPEG) of what they do, by name.
    #[serde(skip)]
    pub previews: BTreeMap<String, Bytes>,
    /// What does not work here, and what to install.
    pub unavailable: Vec<Unavailable>,
}

/// Something that does not work on this machine.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Unavailable {
    /// What: a codec, an encoder file, a layout.
    pub what: String,
    /// Why, in a sentence.
    pub reason: String,
    /// The command that mends it, if one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// What to record and how. Absent fields take these defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RecordingSpec {
    /// Everybody in one picture and one sound, each track as it came, or both.
    pub mode: RecordingMode,
    /// Sound is recorded. Not both of `audio` and `video` may be false.
    pub audio: bool,
    /// Pictures are recorded.
    pub video: bool,
    /// A layout of its own; left out, the room's, also when that changes.
    pub layout: Option<LayoutChoice>,
    /// Canvas width in pixels, even, 160 to 3,840.
    pub width: u32,
    /// Canvas height in pixels, even, 90 to 2,160.
    pub height: u32,
    /// Frames per second, 5 to 60.
    pub fps: u32,
    /// Show tracks with their effects, and the mix with the room's.
    pub effects: bool,
    /// A title for lists, at most 128 characters; never a file name.
    pub name: Option<String>,
    /// Stop by itself once so many seconds are recorded (1 to 86,400); pauses do not count.
    pub max_s: Option<u64>,
    /// Stop by itself before its files are larger than that together, in bytes (1,000,000 to 10¹³).
    pub max_bytes: Option<u64>,
    /// Stop by itself once nobody has been in the room for so many seconds (1 to 86,400), if the room
    /// stands for so long.
    pub stop_when_empty_s: Option<u64>,
    /// When the first frame is taken.
    pub start: RecordingStart,
}

impl Default for RecordingSpec {
    fn default() -> Self {
        Self {
            mode: RecordingMode::Composite,
            audio: true,
            video: true,
            layout: None,
            width: 1280,
            height: 720,
            fps: 25,
            effects: true,
            name: None,
            max_s: None,
            max_bytes: None,
            stop_when_empty_s: None,
            start: RecordingStart::Now,
        }
    }
}

/// What a recording is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordingMode {
    /// Everybody mixed into one picture and one sound.
    Composite,
    /// Each track as it came, without transcoding, in a file of its own.
    Individual,
    /// Both, under one recording.
    Both,
}

impl RecordingMode {
    /// There is a mix.
    pub fn has_composite(self) -> bool {
        matches!(self, Self::Composite | Self::Both)
    }

    /// There are files of single tracks.
    pub fn has_individual(self) -> bool {
        matches!(self, Self::Individual | Self::Both)
    }
}

/// When a recording begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RecordingStart {
    /// At once.
    Now,
    /// With the first publication; at once if there is one already.
    FirstPublication,
}

/// Who is seen and heard in the mix: tiles in the order they are laid out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scene {
    /// One for each picture; participants without a live picture have one too, with `video: None`.
    pub tiles: Vec<Tile>,
    /// All audible tracks.
    pub audio: Vec<TrackId>,
    /// Everything that is published, muted or not, in the order of participants and publications.
    pub published: Vec<Published>,
    /// The room's layout, for every mix that has none of its own.
    pub layout: LayoutSpec,
    /// Who is shown large where a layout shows the speaker: changes after 1.5 s of speech.
    pub speaker: Option<ParticipantId>,
    /// Who speaks at this moment, and how loud, in dBov (−127 to 0).
    pub voices: Vec<(ParticipantId, i8)>,
    /// On the picture and the sound of every mix.
    pub effects: Vec<Applied>,
    /// The room's pictures, which the logos of layouts may show.
    pub pictures: Vec<Arc<Picture>>,
}

/// A track and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Which.
    pub track: TrackId,
    /// His nickname, as typed.
    pub name: String,
    /// As it is published.
    pub codec: CodecName,
}

/// One picture of the mix.
#[derive(Clone, Debug, PartialEq)]
pub struct Tile {
    /// Whose.
    pub participant: ParticipantId,
    /// The nickname to draw, as typed: the engine escapes it.
    pub label: String,
    /// The track to show; `None` (or a muted track) shows the slate.
    pub video: Option<TrackId>,
    /// A shared screen, not a person.
    pub screen: bool,
}

impl MixTracks {
    /// What a mix's picture is encoded in, which every browser must take (RFC 7742 §5).
    pub const VIDEO_CODEC: CodecName = CodecName::H264;
    /// What a mix's sound is encoded in.
    pub const AUDIO_CODEC: CodecName = CodecName::Opus;
}

/// The tracks of a mix that somebody watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MixTracks {
    /// The picture, one for the room.
    pub video: TrackId,
    /// The sound, one for each listener.
    pub audio: TrackId,
}

/// What went wrong in an engine.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MediaError {
    /// ICE or DTLS did not come up in time.
    #[error("the connection did not come up within {0:?}")]
    ConnectTimeout(Duration),
    /// DTLS does not come up: the sides take no cipher, certificate or version in common.
    #[error("the handshake failed: {0}")]
    Handshake(String),
    /// ICE or DTLS failed or was lost.
    #[error("the connection was lost")]
    ConnectionLost,
    /// The other side's description was refused.
    #[error("the session description was refused: {0}")]
    Description(String),
    /// An element reported an error.
    #[error("{element}: {message}")]
    Element {
        /// Its name in the graph.
        element: String,
        /// What it said, with GStreamer's domain, code and debug text.
        message: String,
    },
    /// The file could not be written.
    #[error("the file could not be written: {0}")]
    File(String),
    /// The disk's reserve was reached; what was written plays.
    #[error("the disk is full")]
    DiskFull,
    /// The server makes as many mixes as it may.
    #[error(
        "the server makes as many mixes as it may (as much as {most} of 1280×720 at 25, `max_mixes`): \
         end one, or ask for a smaller picture"
    )]
    Busy {
        /// The limit, in mixes of 1280×720 at 25 frames a second.
        most: u64,
    },
    /// Something this machine lacks.
    #[error("not available on this machine: {0}")]
    Unavailable(String),
    /// A step took longer than it may.
    #[error("{step} took longer than {limit:?}")]
    Deadline {
        /// Which step.
        step: &'static str,
        /// What it may take.
        limit: Duration,
    },
}
