//! What may be asked of a room. Sent through [`super::RoomHandle`], done one at a time by the room
//! task; each carries the channel its one answer goes to.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{
    error::{
        ChangeError, ConnectionError, IngestError, JoinError, ListenError, OutputError, PicturesError, PreviewError,
        PublishError, RecordError, SubscribeError, WatchError,
    },
    event::RoomEvent,
    id::{ConnectionName, OutputId, ParticipantId, PictureId, RecordingId, ResumeToken, TrackId},
    model::{
        EffectsOf, IngestDetails, IngestRequest, JoinRequest, Joined, Marker, OutputDetails, OutputOf, Playing,
        Published, RecordingState, Restarted, RoomChange, RoomRecordingView, RoomView, Source, Subscribe, Unsubscribe,
        Watch, Watching,
    },
};
use crate::{
    effect::{Applied, EffectRequest, Picture},
    media::{
        EffectCost, IceCandidate, IceCredentials, LayerChoice, LayoutSpec, MediaError, RecordingSpec, graph::Graph,
        push::Target, ts::TsChunk,
    },
    recording::RoomKey,
};

/// A picture (JPEG) that is being made.
pub type Preview = oneshot::Receiver<Result<Bytes, MediaError>>;
/// Where one answer goes.
pub type Answer<T, E> = oneshot::Sender<Result<T, E>>;
/// Where a session's events go. Full means that the participant is too slow, and he is removed.
pub type SessionEvents = mpsc::Sender<RoomEvent>;

/// One session of a participant; a newer session of the same participant makes older ones stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub u64);

impl SessionId {
    /// One that no other session of this process has.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Who asks: a participant within his role, or the server's owner, who may everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody in the room.
    Participant(ParticipantId),
    /// The HTTP API.
    Owner,
}

/// A request to a room.
#[expect(missing_docs, reason = "the fields are named for what they are, and their types have their own words")]
pub enum RoomCommand {
    /// Come in. The answer comes before any event.
    Join { request: JoinRequest, session: SessionId, events: SessionEvents, answer: Answer<Joined, JoinError> },
    /// Come back as the same participant.
    Resume { token: ResumeToken, session: SessionId, events: SessionEvents, answer: Answer<Joined, JoinError> },
    /// The session's socket is gone; the participant has the resume window to come back.
    /// Stale sessions are ignored.
    Detach { participant: ParticipantId, session: SessionId },
    /// Go for good.
    Leave { participant: ParticipantId },
    /// Remove somebody.
    Remove { caller: Caller, participant: ParticipantId, answer: Answer<(), ChangeError> },
    /// Publish what the offer sends. `sources`: `(mid, source, muted)`; without a source, a camera or
    /// a microphone by its kind. `alone`: he has nothing but this connection.
    Publish {
        participant: ParticipantId,
        connection: ConnectionName,
        sdp: String,
        sources: Vec<(String, Option<Source>, bool)>,
        alone: bool,
        answer: Answer<Published, PublishError>,
    },
    /// Subscribe. Answers with the connections whose offers will follow at once.
    Subscribe { participant: ParticipantId, to: Subscribe, answer: Answer<Vec<ConnectionName>, SubscribeError> },
    /// Watch something over a connection that the client offers.
    Watch { participant: ParticipantId, what: Watch, effects: bool, sdp: String, answer: Answer<Watching, WatchError> },
    /// End subscriptions: everything (`None`) or one participant's.
    Unsubscribe { participant: ParticipantId, from: Unsubscribe, answer: Answer<(), SubscribeError> },
    /// End one of one's own connections, publication or subscription.
    CloseConnection { participant: ParticipantId, connection: ConnectionName, answer: Answer<(), ConnectionError> },
    /// Answer an offer.
    Answered {
        participant: ParticipantId,
        connection: ConnectionName,
        sdp: String,
        answer: Answer<(), ConnectionError>,
    },
    /// Have a connection find other paths; an offer of it follows.
    Restart { participant: ParticipantId, connection: ConnectionName, answer: Answer<(), ConnectionError> },
    /// Have a connection that the client offered find other paths. `theirs`: his new credentials; `watches`: it may be
    /// one that he watches something on.
    RestartOffered {
        participant: ParticipantId,
        connection: ConnectionName,
        theirs: IceCredentials,
        watches: bool,
        answer: Answer<Restarted, ConnectionError>,
    },
    /// A candidate of the client's.
    Candidate {
        participant: ParticipantId,
        connection: ConnectionName,
        candidate: IceCandidate,
        answer: Answer<(), ConnectionError>,
    },
    /// Mark a track muted or not. One's own; a moderator may mute others' but not unmute them.
    Mute { caller: Caller, track: TrackId, muted: bool, answer: Answer<(), ChangeError> },
    /// Have another layer of a track that one watches.
    Layer { participant: ParticipantId, track: TrackId, layer: LayerChoice, answer: Answer<(), ChangeError> },
    /// Change one's nickname.
    Rename { participant: ParticipantId, name: String, answer: Answer<(), ChangeError> },
    /// Send a message to all, or to the named.
    Signal {
        participant: ParticipantId,
        kind: String,
        to: Option<Vec<ParticipantId>>,
        data: serde_json::Value,
        answer: Answer<(), ChangeError>,
    },
    /// Start a recording.
    Record { caller: Caller, spec: RecordingSpec, answer: Answer<RoomRecordingView, RecordError> },
    /// Leave what happens from now on out of a recording's file.
    PauseRecording { caller: Caller, recording: RecordingId, answer: Answer<RoomRecordingView, RecordError> },
    /// Go on in the same file.
    ResumeRecording { caller: Caller, recording: RecordingId, answer: Answer<RoomRecordingView, RecordError> },
    /// Name this moment of a recording; without a title it gets its number.
    MarkRecording { caller: Caller, recording: RecordingId, title: Option<String>, answer: Answer<Marker, RecordError> },
    /// Stop a recording. Answers at once, in state `finalising`.
    StopRecording { caller: Caller, recording: RecordingId, answer: Answer<RoomRecordingView, RecordError> },
    /// From the recording keeper: the catalogue has noted it, writing may begin at `file`; or it
    /// could not be noted.
    Journalled { recording: RecordingId, result: Result<std::path::PathBuf, RecordError> },
    /// From the recording keeper: the file's state after it was closed.
    Kept { recording: RecordingId, state: RecordingState, reason: Option<String> },
    /// Change settings.
    Change { change: RoomChange, answer: Answer<RoomView, ChangeError> },
    /// Change the room's layout. Answers with it as it is then.
    SetLayout { caller: Caller, layout: LayoutSpec, answer: Answer<LayoutSpec, ChangeError> },
    /// Fetch a camera or another source, as a participant.
    AddIngest { caller: Caller, request: Box<IngestRequest>, answer: Answer<IngestDetails, IngestError> },
    /// Fetch it no more; its participant goes.
    RemoveIngest { caller: Caller, id: ParticipantId, answer: Answer<(), IngestError> },
    /// What is fetched, in the order it was added.
    Ingests { caller: Caller, answer: Answer<Vec<IngestDetails>, IngestError> },
    /// Push the room's mix to a receiver elsewhere.
    AddPush { caller: Caller, target: Box<Target>, answer: Answer<OutputDetails, OutputError> },
    /// Push it there no more.
    RemovePush { caller: Caller, id: OutputId, answer: Answer<(), OutputError> },
    /// Where it is pushed to, in the order it was added.
    Pushes { caller: Caller, answer: Answer<Vec<OutputDetails>, OutputError> },
    /// The room's mix as a transport stream, from now on.
    WatchMix { answer: oneshot::Sender<mpsc::Receiver<TsChunk>> },
    /// The mix, or somebody's picture and sound, as RTP; `None` if there is nothing to show.
    Output { of: OutputOf, answer: oneshot::Sender<Option<Playing>> },
    /// Whether a stranger who shows this PIN may watch.
    CheckPin { pin: String, from: super::guests::Address, answer: Answer<(), super::error::JoinError> },
    /// Replace a chain of effects. Answers with it, all parameters filled in.
    SetEffects { caller: Caller, of: EffectsOf, chain: Vec<EffectRequest>, answer: Answer<Vec<Applied>, ChangeError> },
    /// Make a picture of a track with an effect that it does not have.
    Preview { caller: Caller, track: TrackId, effect: String, answer: Answer<Preview, PreviewError> },
    /// Keep a picture for the room's effects.
    AddPicture { caller: Caller, picture: Arc<Picture>, answer: Answer<(), PicturesError> },
    /// Keep it no more.
    RemovePicture { caller: Caller, id: PictureId, answer: Answer<(), PicturesError> },
    /// What there is, in the order it came.
    Pictures { caller: Caller, answer: Answer<Vec<Arc<Picture>>, PicturesError> },
    /// What effects take of a processor; `None`: whose they are to be is not there.
    EffectCosts { of: EffectsOf, answer: oneshot::Sender<Option<Vec<EffectCost>>> },
    /// The room as it is.
    View { answer: oneshot::Sender<RoomView> },
    /// The media graph as it is, with nicknames filled in.
    Graph { answer: oneshot::Sender<Graph> },
    /// Whether somebody with this access token is in, and as what.
    Whois { access: super::id::AccessToken, answer: oneshot::Sender<Option<(ParticipantId, super::model::Role)>> },
    /// What decides who sees this room's recordings: its name and its PIN as they are now.
    Key { answer: oneshot::Sender<RoomKey> },
    /// Events for a listener outside the room (SSE): everything that goes to everybody.
    Listen { answer: Answer<(RoomView, mpsc::Receiver<RoomEvent>), ListenError> },
    /// End the room: recordings are ended properly, everybody is told.
    CloseRoom { reason: super::event::CloseReason, answer: oneshot::Sender<()> },
}
