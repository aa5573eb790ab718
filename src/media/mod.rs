//! The port between rooms and media: what a room may ask of an engine, and what an engine tells.
//!
//! Calls return at once. What takes time (negotiating, building a graph, ending a file) is started
//! and reported by a [`MediaEvent`]; the room never waits for media, and media never for the room.
//! Nothing here names GStreamer: [`gst`] (feature `gstreamer`) is one implementation, [`fake`] is
//! the other, for tests of room logic.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::mpsc;
use utoipa::ToSchema;

use crate::room::id::{ConnectionId, ParticipantId, RecordingId, TrackId};

pub mod addresses;
pub mod description;
pub mod fake;
pub mod fanout;
pub mod graph;
#[cfg(feature = "gstreamer")]
pub mod gst;
pub mod layout;
pub mod negotiation;
pub mod rtp;
pub mod sender_clock;

/// Makes the media side of rooms.
pub trait MediaEngine: Send + Sync + 'static {
    /// The media of a new room. Events come on `events`, in order; an engine that finds it full
    /// drops audio levels and waits (on a task of its own) with all else.
    fn open_room(&self, room: &str, events: mpsc::Sender<MediaEvent>) -> Box<dyn MediaRoom>;

    /// What it can do on this machine; fixed from its start.
    fn capabilities(&self) -> &Capabilities;
}

/// The media of one room. Every verb is quick; none fails: what goes wrong comes as an event that
/// names the connection or recording, and harms no other.
pub trait MediaRoom: Send {
    /// Receive a publication: answer its offer, then take its media.
    /// → [`MediaEvent::Answered`] or [`MediaEvent::ConnectionEnded`].
    fn publish(&mut self, connection: ConnectionId, publication: Publication);

    /// Send tracks to a subscriber over a new connection.
    /// → [`MediaEvent::Offered`] or [`MediaEvent::ConnectionEnded`].
    fn subscribe(&mut self, connection: ConnectionId, tracks: Vec<TrackId>);

    /// A subscriber's answer to [`MediaEvent::Offered`].
    fn answer(&mut self, connection: &ConnectionId, sdp: String);

    /// A candidate of the other side. Candidates may come before the answer.
    fn candidate(&mut self, connection: &ConnectionId, candidate: IceCandidate);

    /// Ends a connection and all that hangs on it. Ends quietly: no event follows.
    fn close(&mut self, connection: &ConnectionId);

    /// Start writing a recording. → [`MediaEvent::RecordingStarted`], later
    /// [`MediaEvent::RecordingEnded`].
    fn start_recording(&mut self, recording: RecordingId, file: PathBuf, spec: RecordingSpec, scene: Scene);

    /// Who is to be seen and heard in all recordings of the room, in order, from now on.
    fn set_scene(&mut self, scene: Scene);

    /// Stop a recording: write what is there and end the file. → [`MediaEvent::RecordingEnded`].
    fn stop_recording(&mut self, recording: &RecordingId);

    /// The graph as it stands, from the engine's own books.
    fn graph(&self) -> graph::Graph;

    /// Ends everything, recordings first, within `deadline`. The answer says when all of it is gone.
    fn shutdown(self: Box<Self>, deadline: Duration) -> tokio::sync::oneshot::Receiver<()>;
}

/// A checked offer and the tracks the room made of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// The offer as it came; [`negotiation::accept`] has approved it.
    pub sdp: String,
    /// What to receive, one for each accepted media section. Sections not listed are refused.
    pub media: Vec<PublishedMedia>,
}

/// One accepted media section of a publication.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedMedia {
    /// The track it becomes.
    pub track: TrackId,
    /// Place in the SDP, codec, payload numbers and header extensions.
    pub section: negotiation::AcceptedSection,
}

/// Through which edge peers reach a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EdgeChoice {
    /// Each through the one that serves it best.
    #[default]
    Auto,
    /// Everybody through a webrtcbin of his own.
    Webrtcbin,
    /// Everybody through the fan-out edge who can be served there.
    Fanout,
}

impl EdgeChoice {
    /// Viewers of forwarded tracks are served by the fan-out edge.
    pub fn viewers_fan_out(self) -> bool {
        self == Self::Fanout
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

/// What an engine tells its room.
#[derive(Clone, Debug, PartialEq)]
pub enum MediaEvent {
    /// The answer to a publication.
    Answered {
        /// Which.
        connection: ConnectionId,
        /// SDP.
        sdp: String,
    },
    /// The offer of a subscription.
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
    /// Loudness of audio tracks, from RFC 6464: each about five times a second while packets come.
    AudioLevels(Vec<(TrackId, AudioLevel)>),
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

/// Loudness within a short window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioLevel {
    /// Loudest packet of the window, dBov: −127 (silence) to 0.
    pub peak_db: i8,
    /// The sender's own voice detector said speech.
    pub voice: bool,
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
}

impl CodecName {
    /// All of them, in Salon's order of preference.
    pub const ALL: [Self; 5] = [Self::Opus, Self::Vp8, Self::H264, Self::Vp9, Self::Av1];

    /// Audio or video.
    pub fn kind(self) -> Kind {
        match self {
            Self::Opus => Kind::Audio,
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
        }
    }

    /// RTP clock rate in Hz.
    pub fn clock_rate(self) -> u32 {
        match self.kind() {
            Kind::Audio => 48_000,
            Kind::Video => 90_000,
        }
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
    /// Layouts found in `pipelines/layouts`.
    pub layouts: Vec<String>,
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
    /// Only `composite` so far: everybody in one picture and one sound.
    pub mode: RecordingMode,
    /// A layout's name, from `pipelines/layouts`.
    pub layout: String,
    /// Canvas width in pixels, even, 160 to 3,840.
    pub width: u32,
    /// Canvas height in pixels, even, 90 to 2,160.
    pub height: u32,
    /// Frames per second, 5 to 60.
    pub fps: u32,
    /// A title for lists, at most 128 characters; never a file name.
    pub name: Option<String>,
    /// Stop by itself after so many seconds (1 to 86,400).
    pub max_s: Option<u64>,
}

impl Default for RecordingSpec {
    fn default() -> Self {
        Self {
            mode: RecordingMode::Composite,
            layout: "grid".into(),
            width: 1280,
            height: 720,
            fps: 25,
            name: None,
            max_s: None,
        }
    }
}

/// What a recording is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordingMode {
    /// Everybody mixed into one picture and one sound.
    Composite,
}

/// Who is seen and heard in the mix: tiles in the order they are laid out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scene {
    /// One for each picture; participants without a live picture have one too, with `video: None`.
    pub tiles: Vec<Tile>,
    /// All audible tracks.
    pub audio: Vec<TrackId>,
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
}

/// What went wrong in an engine.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MediaError {
    /// ICE or DTLS did not come up in time.
    #[error("the connection did not come up within {0:?}")]
    ConnectTimeout(Duration),
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
