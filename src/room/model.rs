//! What a room is made of, as everybody outside the room task sees it: plain values to serialise.
//!
//! The live state, with its channels and timers, is private to [`super::actor`]; these are its views.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::ToSchema;

use super::guests::Address;
use super::id::{AccessToken, ConnectionName, OutputId, ParticipantId, RecordingId, ResumeToken, TrackId};
use crate::{
    effect::Applied,
    ingest::{self, rtsp::Transport},
    media::{
        CodecName, Edge, IceCredentials, Kind, LayoutSpec, RecordingSpec,
        ingest::{IngestFigures, IngestMedia, IngestState},
        output::RtpPiece,
        push::PushState,
    },
};

/// What a participant may do. The order counts: each role may do all that those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Subscribe and chat.
    Viewer,
    /// And publish.
    Publisher,
    /// And record, mute and remove others.
    Moderator,
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "viewer" => Ok(Self::Viewer),
            "publisher" => Ok(Self::Publisher),
            "moderator" => Ok(Self::Moderator),
            _ => Err("there is no such role".into()),
        }
    }
}

/// What a track shows or carries; clients lay out and label by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A person's camera.
    Camera,
    /// A person's microphone.
    Microphone,
    /// A shared screen or window, or its sound.
    Screen,
    /// Anything else.
    Other,
}

/// A published track.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct TrackView {
    /// Its identifier, unique in the server.
    #[schema(value_type = String)]
    pub id: TrackId,
    /// The publisher's connection it arrives on; tracks of one connection play in sync.
    #[schema(value_type = String)]
    pub connection: ConnectionName,
    /// Audio or video.
    pub kind: Kind,
    /// What it carries.
    pub source: Source,
    /// The codec it is sent in.
    pub codec: CodecName,
    /// The publisher says that nothing is to be seen or heard.
    pub muted: bool,
    /// Effects of its own, in the place of its participant's; a shared screen has no others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Applied>,
    /// The layers that he offers to send (simulcast), by their rids; left out if there is one alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

/// Somebody in the room.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ParticipantView {
    /// His identifier.
    #[schema(value_type = String)]
    pub id: ParticipantId,
    /// His nickname, as he typed it (1 to 64 characters).
    pub name: String,
    /// What he may do.
    pub role: Role,
    /// When he came.
    #[schema(value_type = String)]
    pub joined_at: Timestamp,
    /// False while his socket is away and his resume token still good.
    pub connected: bool,
    /// On his camera and microphone, in order.
    pub effects: Vec<Applied>,
    /// What he publishes, in the order it was published.
    pub tracks: Vec<TrackView>,
    /// What his connections are built on.
    #[serde(skip_serializing_if = "PeerEdges::is_empty")]
    pub edges: PeerEdges,
    /// He is a camera or another source that the server fetches, and this is how it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingest: Option<IngestView>,
}

/// What somebody's connections are built on, each kind once. Not told in events: it is how things stand
/// when a room or its participants are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct PeerEdges {
    /// Of what he publishes.
    pub publishes: BTreeSet<Edge>,
    /// Of what he watches.
    pub watches: BTreeSet<Edge>,
}

impl PeerEdges {
    fn is_empty(&self) -> bool {
        self.publishes.is_empty() && self.watches.is_empty()
    }
}

/// How an ingest stands, as everybody in the room may know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct IngestView {
    /// Whether media comes.
    pub state: IngestState,
    /// Since when it is in this state.
    #[schema(value_type = String)]
    pub since: Timestamp,
    /// Why nothing comes, in a word: `unreachable`, `refused`, `unauthorised`, `not_found`, `stalled`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
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

/// An ingest, for whoever may add and remove it. Credentials are in none of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct IngestDetails {
    /// Its identifier, which is its participant's too.
    #[schema(value_type = String)]
    pub id: ParticipantId,
    /// What it is called.
    pub name: String,
    /// Where it comes from, without what may be a password.
    pub uri: String,
    /// It is fetched only while somebody watches or records it.
    pub on_demand: bool,
    /// Why nothing comes, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What has come so far.
    #[serde(flatten)]
    pub figures: IngestFigures,
    /// How it stands.
    #[serde(flatten)]
    pub status: IngestView,
}

/// A source to fetch.
#[derive(Clone, Debug, PartialEq)]
pub struct IngestRequest {
    /// Nickname, unchecked.
    pub name: String,
    /// Where it comes from, and how.
    pub source: ingest::rtsp::Source,
    /// How long a lost packet is waited for.
    pub latency: Duration,
    /// Only while somebody watches or records it.
    pub on_demand: bool,
}

/// A receiver elsewhere that is sent the room's mix, as everybody in the room may know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct OutputView {
    /// Its identifier.
    #[schema(value_type = String)]
    pub id: OutputId,
    /// How it is spoken to.
    pub kind: OutputKind,
    /// Whether it takes the mix.
    pub state: PushState,
    /// Since when it is in this state.
    #[schema(value_type = String)]
    pub since: Timestamp,
    /// Why it takes nothing, in a word: `unreachable`, `unresolved`, `refused` (by the address policy), `lost`,
    /// `stalled`, `mix_unavailable`, `media`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// How often it came back.
    pub reconnects: u32,
}

/// The same, for whoever may add and remove it. Keys and credentials are in none of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct OutputDetails {
    /// How it stands.
    #[serde(flatten)]
    pub view: OutputView,
    /// Where it is, without what may be a key or a password.
    pub uri: String,
    /// Why it takes nothing, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Bytes it was sent, over all its connections.
    pub sent_bytes: u64,
}

/// How a receiver is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputKind {
    /// Adobe's protocol.
    Rtmp,
    /// Haivision's, with MPEG-TS in it.
    Srt,
}

/// What a player outside the page asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputOf {
    /// Everybody, mixed.
    Mix,
    /// One participant's picture and sound.
    Participant(ParticipantId),
    /// The same as he publishes them, without effects; who may see them so is for the caller to know.
    Clean(ParticipantId),
}

/// What a player outside the page gets.
#[derive(Debug)]
pub struct Playing {
    /// The streams, the picture first.
    pub codecs: Vec<CodecName>,
    /// Their packets.
    pub pieces: mpsc::Receiver<RtpPiece>,
}

/// A recording as the room shows it to everybody in it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RoomRecordingView {
    /// Its identifier.
    #[schema(value_type = String)]
    pub id: RecordingId,
    /// Where it stands.
    pub state: RecordingState,
    /// When its first frame was taken, or the request if there is none yet.
    #[schema(value_type = String)]
    pub started_at: Timestamp,
    /// How long its pauses were, in milliseconds, without one that lasts.
    pub paused_ms: u64,
    /// Since when the pause lasts, if it is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub paused_at: Option<Timestamp>,
    /// Why it failed, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl RoomRecordingView {
    /// Notes how long the pauses that are over were, and since when one lasts.
    pub(super) fn note_pauses(&mut self, total: Duration, since: Option<Timestamp>) {
        self.paused_ms = total.as_millis().try_into().unwrap_or(u64::MAX);
        self.paused_at = since;
    }
}

/// A named moment of a recording; a chapter of its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Marker {
    /// When, in milliseconds of the file: pauses do not count.
    pub at_ms: u64,
    /// What happens there: 1 to 128 printable characters.
    pub title: String,
}

/// Somebody spoke for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Spoken {
    /// Who, by the nickname he had.
    pub participant: String,
    /// From when, in milliseconds of the file: pauses do not count.
    pub from_ms: u64,
    /// Until when.
    pub to_ms: u64,
}

/// The life of a recording; it only moves down this list, but for a pause and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordingState {
    /// Asked for; no frame yet.
    Starting,
    /// Frames are being written.
    Recording,
    /// Nothing is written until it is resumed, in the same file.
    Paused,
    /// Stopped; the file is being made fast to open and seek.
    Finalising,
    /// Done: play it, keep it.
    Ready,
    /// It could not be made; the reason is beside it, and so is what was saved.
    Failed,
}

impl RecordingState {
    /// It has not been stopped.
    pub fn is_running(self) -> bool {
        matches!(self, Self::Starting | Self::Recording | Self::Paused)
    }

    /// No further change will come.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Ready | Self::Failed)
    }
}

/// A room.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RoomView {
    /// Its name, which is also its address.
    pub name: String,
    /// When it appeared.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// Entering asks for a PIN.
    pub has_pin: bool,
    /// How many may be in it at once.
    pub max_participants: usize,
    /// Who is in it, in the order they came.
    pub participants: Vec<ParticipantView>,
    /// Recordings of this room that are not over, or ended while it stood.
    pub recordings: Vec<RoomRecordingView>,
    /// How the mix, and recordings without a layout of their own, are laid out.
    pub layout: LayoutSpec,
    /// On the picture of the mix, in order.
    pub effects: Vec<Applied>,
    /// Receivers elsewhere that are sent the mix.
    pub outputs: Vec<OutputView>,
}

/// How a room is set up; what is left out takes the server's default.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RoomSettings {
    /// 1 to 32 printable characters that everyone must give to enter.
    pub pin: Option<String>,
    /// 1 to the server's limit.
    pub max_participants: Option<usize>,
    /// Codecs publishers may use, in order of preference.
    pub codecs: Option<Vec<CodecName>>,
    /// Begin this recording when the first publisher comes.
    pub recording: Option<RecordingSpec>,
    /// Seconds the room stays after the last participant left (0 to 86,400).
    pub linger_s: Option<u64>,
}

/// Changes to a room that stands.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RoomChange {
    /// A new PIN; an empty text removes it.
    pub pin: Option<String>,
    /// A new limit; those who are in stay in.
    pub max_participants: Option<usize>,
    /// A new linger, in seconds.
    pub linger_s: Option<u64>,
}

/// Who wants to come in, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinRequest {
    /// Nickname, unchecked.
    pub name: String,
    /// The room's PIN, if it has one.
    pub pin: Option<String>,
    /// The role asked for; the room may grant another (`None`: as the policy says).
    pub role: Option<Role>,
    /// Where the request came from; never taken from a client's own words.
    pub from: Address,
}

/// What a participant gets when he comes in or comes back.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined {
    /// Who he is now.
    pub participant: ParticipantId,
    /// What he may do.
    pub role: Role,
    /// To come back after a lost connection.
    pub resume: ResumeToken,
    /// For the HTTP API, while he is in the room.
    pub access: AccessToken,
    /// The room as he finds it, himself included.
    pub room: RoomView,
    /// He was here before (resume).
    pub resumed: bool,
}

/// What the answer to a publication carries.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The SDP answer.
    pub sdp: String,
    /// One entry for each media section that was accepted.
    pub tracks: Vec<PublishedTrack>,
}

/// A track of a publication, by its place in the SDP.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PublishedTrack {
    /// The media section's `a=mid`.
    pub mid: String,
    /// The track it became.
    #[serde(flatten)]
    pub track: TrackView,
}

/// A track offered to a subscriber, by its place in the SDP.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OfferedTrack {
    /// The media section's `a=mid`.
    pub mid: String,
    /// Which track it is.
    pub id: TrackId,
    /// Audio or video.
    pub kind: Kind,
    /// What it carries.
    pub source: Source,
}

/// What a participant subscribes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Subscribe {
    /// Everybody else, now and later.
    All,
    /// One participant, all his publications, now and later; or only the named tracks, now.
    Participant {
        /// Whom.
        participant: ParticipantId,
        /// Only these.
        tracks: Option<Vec<TrackId>>,
        /// With the effects that are on them, or as he published them.
        effects: bool,
    },
    /// The room's mix: one picture of all, and the sound of all others.
    Mix,
}

/// What is watched over a connection of the subscriber's own offer.
#[derive(Clone, Debug, PartialEq)]
pub enum Watch {
    /// All that the first who publishes something publishes now.
    FirstPublisher,
    /// One track.
    Track(TrackId),
    /// The room's mix.
    Mix,
}

/// What the answer to such an offer carries.
#[derive(Clone, Debug, PartialEq)]
pub struct Watching {
    /// The new connection.
    pub connection: ConnectionName,
    /// The SDP answer.
    pub sdp: String,
}

/// What the answer to a client's new ICE credentials carries.
#[derive(Clone, Debug, PartialEq)]
pub struct Restarted {
    /// Ours.
    pub ours: IceCredentials,
    /// Ours, all of them, `candidate:…` each.
    pub candidates: Vec<String>,
    /// Of what he publishes: the answer that he had, with these credentials.
    pub sdp: Option<String>,
}

/// What a participant ceases to watch.
#[derive(Clone, Debug, PartialEq)]
pub enum Unsubscribe {
    /// Everything.
    All,
    /// One participant.
    Participant(ParticipantId),
    /// The room's mix.
    Mix,
}

/// What effects are put on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EffectsOf {
    /// A participant's camera and microphone, in the place of what each of them has.
    Participant(ParticipantId),
    /// One track, in the place of its participant's; a shared screen has no others.
    Track(TrackId),
    /// Picture and sound of the mix, and of recordings.
    Mix,
}

/// A message between participants (chat, or an application's own).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Signal {
    /// Who sent it.
    pub from: ParticipantId,
    /// His nickname at the time.
    pub name: String,
    /// `chat`, or an application's word.
    pub kind: String,
    /// The message.
    pub data: serde_json::Value,
    /// When the room took it.
    pub time: Timestamp,
}
