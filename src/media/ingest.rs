//! What a room asks an engine to fetch, and how it is told of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    ingest::rtsp::{Source, Transport},
    room::id::TrackId,
};

/// Something to fetch, and the tracks it becomes.
#[derive(Clone, Debug, PartialEq)]
pub struct Ingest {
    /// What people call it; stands on the slate.
    pub name: String,
    /// Where it comes from.
    pub source: Source,
    /// How long a lost packet is waited for.
    pub latency: Duration,
    /// It is fetched only while somebody watches or records it, and once at first, to see what it has.
    pub on_demand: bool,
    /// The picture's track, if a picture is wanted.
    pub video: Option<TrackId>,
    /// The sound's, likewise.
    pub audio: Option<TrackId>,
}

/// What a look at a source showed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probed {
    /// How it stood at the end: `live`, or why nothing came.
    pub status: IngestStatus,
    /// A JPEG of its picture, if one came in time.
    pub snapshot: Option<bytes::Bytes>,
}

/// How an ingest stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct IngestStatus {
    /// Whether media comes.
    pub state: IngestState,
    /// Why not, in a word: `unreachable`, `refused`, `unauthorised`, `not_found`, `stalled`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Why not, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How often it came back.
    pub reconnects: u32,
    /// How its media comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// What its picture is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<IngestMedia>,
    /// What its sound is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio: Option<IngestMedia>,
}

/// What has come of an ingest so far, over all its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct IngestFigures {
    /// Pictures.
    pub video_frames: u64,
    /// Bytes of them, as the source encodes them.
    pub video_bytes: u64,
    /// Bytes of sound.
    pub audio_bytes: u64,
}

/// Whether media comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum IngestState {
    /// It is being asked.
    #[default]
    Connecting,
    /// It plays.
    Live,
    /// It does not, and is tried again soon.
    Waiting,
    /// Nobody watches or records it: it is asked for nothing until somebody does.
    Idle,
}

/// One stream of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct IngestMedia {
    /// As the source sends it: `H264`, `H265`, `JPEG`, `MPEG4-GENERIC`, `PCMU`, …
    pub encoding: String,
    /// Pixels, of a picture, once one came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// What is done to it.
    pub handling: Handling,
}

/// What is done to a stream on its way to those who watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Handling {
    /// Nothing: browsers take it as it is.
    Forwarded,
    /// Decoded and encoded anew: browsers would not take it.
    Transcoded,
    /// Nobody needs it now: it would have to be transcoded, or fetched.
    Idle,
    /// Nothing comes; whoever watches sees the slate.
    Slate,
}
