//! What happens in a room, in the order it happened. Every participant's session and every
//! listener of the HTTP API reads these; dialects turn them into their own words.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::{
    id::{ConnectionName, OutputId, ParticipantId, TrackId},
    model::{OfferedTrack, OutputView, ParticipantView, RoomRecordingView, Signal, TrackView},
};
use crate::{
    effect::Applied,
    media::{FaceBox, IceCandidate, LayoutSpec},
};

/// Something that happened, told to everybody in the room or (the last group) to one participant.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum RoomEvent {
    /// Somebody came.
    ParticipantJoined {
        /// Who.
        participant: ParticipantView,
    },
    /// A nickname, role or connection state changed.
    ParticipantUpdated {
        /// As he is now.
        participant: ParticipantView,
    },
    /// Somebody went. His tracks went before him, each with an event of its own.
    ParticipantLeft {
        /// Who.
        participant: ParticipantId,
        /// Why.
        reason: LeaveReason,
    },
    /// A track can be subscribed to.
    TrackPublished {
        /// Whose.
        participant: ParticipantId,
        /// Which.
        track: TrackView,
    },
    /// A track was muted or unmuted.
    TrackUpdated {
        /// Whose.
        participant: ParticipantId,
        /// As it is now.
        track: TrackView,
    },
    /// A track is gone.
    TrackUnpublished {
        /// Whose.
        participant: ParticipantId,
        /// Which.
        track: TrackId,
    },
    /// A message.
    Signal(Signal),
    /// Who speaks, and how loud; sent only when it changed, at most five times a second.
    Speaking {
        /// Those who changed.
        levels: Vec<SpeakingLevel>,
    },
    /// A recording of this room began, moved on, or ended.
    Recording {
        /// As it is now.
        recording: RoomRecordingView,
    },
    /// The room's mix is pushed to a receiver elsewhere, or how that stands has changed.
    Output {
        /// As it is now.
        output: OutputView,
    },
    /// It is pushed there no more.
    OutputRemoved {
        /// Which.
        output: OutputId,
    },
    /// The room's layout changed.
    Layout {
        /// As it is now.
        layout: LayoutSpec,
    },
    /// The effects on the mix changed. A participant's are told with him.
    Effects {
        /// As they are now.
        effects: Vec<Applied>,
    },
    /// Effects ended by themselves, and were taken off.
    EffectsFailed {
        /// Whose; `None`: the mix's.
        #[serde(skip_serializing_if = "Option::is_none")]
        participant: Option<ParticipantId>,
        /// Why, in a sentence.
        reason: String,
    },
    /// Your network does not bear a picture that you watch, which rests meanwhile, or bears it again.
    TrackPaused {
        /// Whose.
        participant: ParticipantId,
        /// Which.
        track: TrackId,
        /// It rests.
        paused: bool,
    },
    /// An effect read a barcode or QR code.
    Barcode {
        /// On whose picture; `None`: the mix's.
        #[serde(skip_serializing_if = "Option::is_none")]
        participant: Option<ParticipantId>,
        /// On which track; `None`: on the mix.
        #[serde(skip_serializing_if = "Option::is_none")]
        track: Option<TrackId>,
        /// Its kind, e.g. `QR-Code`, `EAN-13`.
        format: String,
        /// What it says.
        text: String,
    },
    /// An effect saw something begin to move, or cease to.
    Motion {
        /// On whose picture; `None`: the mix's.
        #[serde(skip_serializing_if = "Option::is_none")]
        participant: Option<ParticipantId>,
        /// On which track; `None`: on the mix.
        #[serde(skip_serializing_if = "Option::is_none")]
        track: Option<TrackId>,
        /// It moves.
        moving: bool,
        /// The share of the picture that changed, 0 to 1.
        amount: f64,
    },
    /// An effect saw faces come, go, or (twice a second) be there.
    Face {
        /// On whose picture; `None`: the mix's.
        #[serde(skip_serializing_if = "Option::is_none")]
        participant: Option<ParticipantId>,
        /// On which track; `None`: on the mix.
        #[serde(skip_serializing_if = "Option::is_none")]
        track: Option<TrackId>,
        /// All that are there.
        faces: Vec<FaceBox>,
    },
    /// An effect measured how loud somebody is, or the mix.
    Level {
        /// Who; `None`: the mix's.
        #[serde(skip_serializing_if = "Option::is_none")]
        participant: Option<ParticipantId>,
        /// On which track; `None`: on the mix.
        #[serde(skip_serializing_if = "Option::is_none")]
        track: Option<TrackId>,
        /// On average over 200 ms, in decibels of full scale, −100 to 0.
        rms_db: f64,
        /// The loudest sample.
        peak_db: f64,
    },
    /// The room is no more.
    RoomClosed {
        /// Why.
        reason: CloseReason,
    },
    /// To one: take this offer and answer it.
    Offer {
        /// The new PeerConnection.
        connection: ConnectionName,
        /// Whose tracks it brings; nobody's if it is the mix.
        #[serde(skip_serializing_if = "Option::is_none")]
        participant: Option<ParticipantId>,
        /// It brings the room's mix.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        mix: bool,
        /// The SDP.
        sdp: String,
        /// Which tracks.
        tracks: Vec<OfferedTrack>,
    },
    /// To one: media flows on one of his connections. Clients see that themselves and are not told.
    Connected {
        /// Which.
        connection: ConnectionName,
    },
    /// To one: a candidate for one of his PeerConnections.
    Candidate {
        /// Which.
        connection: ConnectionName,
        /// The candidate.
        candidate: IceCandidate,
    },
    /// To one: the server ended one of his PeerConnections.
    ConnectionClosed {
        /// Which.
        connection: ConnectionName,
        /// Why, in a word: `unpublished`, `failed`, `timeout`, `left`.
        reason: String,
    },
    /// To one: you are out.
    Removed {
        /// Why.
        reason: LeaveReason,
    },
}

/// Something that happened in one of the rooms, for whoever listens to all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    /// In which.
    pub room: Arc<str>,
    /// When.
    pub time: Timestamp,
    /// What.
    pub event: RoomEvent,
}

/// How loud somebody is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpeakingLevel {
    /// Who.
    pub participant: ParticipantId,
    /// dBov, −127 (silence) to 0 (loudest), RFC 6464.
    pub level_db: i8,
    /// Above the threshold for long enough to be called speech.
    pub speaking: bool,
}

/// Why a participant is no longer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaveReason {
    /// He said so.
    Left,
    /// His connection was lost and he did not come back in time.
    Lost,
    /// A moderator or the API removed him.
    Removed,
    /// He did not read what he was sent.
    TooSlow,
    /// Another connection took over with his resume token (told to the old one only).
    Replaced,
    /// The room closed.
    RoomClosed,
}

/// Why a room ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloseReason {
    /// Nobody came back within the linger.
    Empty,
    /// The API closed it.
    Deleted,
    /// The server is going down.
    Shutdown,
}
