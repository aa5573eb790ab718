//! The one way to a room: a cheap handle anyone may clone.
//!
//! A verb puts its command into the room's queue before it returns; only the answer is awaited.
//! So commands are done in the order they were called, whatever is awaited first.

use std::{
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    command::{Answer, Caller, Preview, RoomCommand, SessionEvents, SessionId},
    error::{
        ChangeError, ConnectionError, IngestError, JoinError, ListenError, OutputError, PicturesError, PreviewError,
        PublishError, RecordError, RoomGone, SubscribeError, WatchError,
    },
    event::{CloseReason, RoomEvent},
    guests::Address,
    id::{AccessToken, ConnectionName, OutputId, ParticipantId, PictureId, RecordingId, ResumeToken, TrackId},
    model::{
        EffectsOf, IngestDetails, IngestRequest, JoinRequest, Joined, Marker, OutputDetails, OutputOf, Playing,
        Published, RecordingState, Restarted, Role, RoomChange, RoomRecordingView, RoomView, Source, Subscribe,
        Unsubscribe, Watch, Watching,
    },
};
use crate::{
    effect::{Applied, EffectRequest, Picture},
    media::{
        EffectCost, IceCandidate, IceCredentials, LayerChoice, LayoutSpec, RecordingSpec, graph::Graph, push::Target,
        ts::TsChunk,
    },
    recording::RoomKey,
};

/// A room, from outside.
#[derive(Clone, Debug)]
pub struct RoomHandle {
    commands: mpsc::Sender<RoomCommand>,
}

/// An answer that is on its way. The command is already queued; dropping this does not undo it.
#[must_use = "the answer must be awaited, or dropped on purpose"]
pub struct Pending<T, E> {
    answer: Result<oneshot::Receiver<Result<T, E>>, RoomGone>,
}

impl<T, E: From<RoomGone>> Future for Pending<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.answer {
            Err(gone) => Poll::Ready(Err((*gone).into())),
            Ok(answer) => match Pin::new(answer).poll(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(answer)) => Poll::Ready(answer),
                Poll::Ready(Err(_)) => Poll::Ready(Err(RoomGone::Closed.into())),
            },
        }
    }
}

impl RoomHandle {
    /// A handle that feeds `commands`.
    pub fn new(commands: mpsc::Sender<RoomCommand>) -> Self {
        Self { commands }
    }

    /// The room has ended; every verb will say so.
    pub fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }

    /// Both are handles of one room.
    pub fn is_same(&self, other: &Self) -> bool {
        self.commands.same_channel(&other.commands)
    }

    /// Come in.
    pub fn join(&self, request: JoinRequest, session: SessionId, events: SessionEvents) -> Pending<Joined, JoinError> {
        self.ask(|answer| RoomCommand::Join { request, session, events, answer })
    }

    /// Come back as the same participant.
    pub fn resume(&self, token: ResumeToken, session: SessionId, events: SessionEvents) -> Pending<Joined, JoinError> {
        self.ask(|answer| RoomCommand::Resume { token, session, events, answer })
    }

    /// The session's socket is gone. Waits for room in the queue, so that it is never missed.
    pub async fn detach(&self, participant: ParticipantId, session: SessionId) {
        self.tell(RoomCommand::Detach { participant, session }).await;
    }

    /// Go for good. Waits for room in the queue, so that it is never missed.
    pub async fn leave(&self, participant: ParticipantId) {
        self.tell(RoomCommand::Leave { participant }).await;
    }

    /// Remove somebody.
    pub fn remove(&self, caller: Caller, participant: ParticipantId) -> Pending<(), ChangeError> {
        self.ask(|answer| RoomCommand::Remove { caller, participant, answer })
    }

    /// Publish what the offer sends. `sources`: `(mid, source, muted)`; sections not named, or
    /// named without a source, are a camera or a microphone by their kind.
    pub fn publish(
        &self,
        participant: ParticipantId,
        connection: ConnectionName,
        sdp: String,
        sources: Vec<(String, Option<Source>, bool)>,
    ) -> Pending<Published, PublishError> {
        self.ask(|answer| RoomCommand::Publish { participant, connection, sdp, sources, alone: false, answer })
    }

    /// As [`publish`](Self::publish), for somebody who has nothing but this connection: he is gone some
    /// seconds after the last packet.
    pub fn publish_alone(
        &self,
        participant: ParticipantId,
        connection: ConnectionName,
        sdp: String,
    ) -> Pending<Published, PublishError> {
        let sources = Vec::new();
        self.ask(|answer| RoomCommand::Publish { participant, connection, sdp, sources, alone: true, answer })
    }

    /// Subscribe. Answers with the connections whose offers follow at once.
    pub fn subscribe(&self, participant: ParticipantId, to: Subscribe) -> Pending<Vec<ConnectionName>, SubscribeError> {
        self.ask(|answer| RoomCommand::Subscribe { participant, to, answer })
    }

    /// Watch something over a connection that the client offers: tracks with their effects, or as they were published;
    /// who may see them so is for the caller to know ([`Registry::clean_tracks_for`](super::Registry::clean_tracks_for)).
    pub fn watch(
        &self,
        participant: ParticipantId,
        what: Watch,
        effects: bool,
        sdp: String,
    ) -> Pending<Watching, WatchError> {
        self.ask(|answer| RoomCommand::Watch { participant, what, effects, sdp, answer })
    }

    /// End subscriptions.
    pub fn unsubscribe(&self, participant: ParticipantId, from: Unsubscribe) -> Pending<(), SubscribeError> {
        self.ask(|answer| RoomCommand::Unsubscribe { participant, from, answer })
    }

    /// End one of one's own connections.
    pub fn close_connection(
        &self,
        participant: ParticipantId,
        connection: ConnectionName,
    ) -> Pending<(), ConnectionError> {
        self.ask(|answer| RoomCommand::CloseConnection { participant, connection, answer })
    }

    /// Answer an offer.
    pub fn answered(
        &self,
        participant: ParticipantId,
        connection: ConnectionName,
        sdp: String,
    ) -> Pending<(), ConnectionError> {
        self.ask(|answer| RoomCommand::Answered { participant, connection, sdp, answer })
    }

    /// Have a connection find other paths.
    pub fn restart(&self, participant: ParticipantId, connection: ConnectionName) -> Pending<(), ConnectionError> {
        self.ask(|answer| RoomCommand::Restart { participant, connection, answer })
    }

    /// Have something that the client publishes find other paths.
    pub fn restart_published(
        &self,
        participant: ParticipantId,
        connection: ConnectionName,
        theirs: IceCredentials,
    ) -> Pending<Restarted, ConnectionError> {
        self.ask(|answer| RoomCommand::RestartOffered { participant, connection, theirs, watches: false, answer })
    }

    /// The same of a client who has offered all of his connections, also those that he watches on.
    pub fn restart_offered(
        &self,
        participant: ParticipantId,
        connection: ConnectionName,
        theirs: IceCredentials,
    ) -> Pending<Restarted, ConnectionError> {
        self.ask(|answer| RoomCommand::RestartOffered { participant, connection, theirs, watches: true, answer })
    }

    /// Pass a candidate on.
    pub fn candidate(
        &self,
        participant: ParticipantId,
        connection: ConnectionName,
        candidate: IceCandidate,
    ) -> Pending<(), ConnectionError> {
        self.ask(|answer| RoomCommand::Candidate { participant, connection, candidate, answer })
    }

    /// Mark a track muted or not.
    pub fn mute(&self, caller: Caller, track: TrackId, muted: bool) -> Pending<(), ChangeError> {
        self.ask(|answer| RoomCommand::Mute { caller, track, muted, answer })
    }

    /// Have another layer of a track that one watches.
    pub fn layer(&self, participant: ParticipantId, track: TrackId, layer: LayerChoice) -> Pending<(), ChangeError> {
        self.ask(|answer| RoomCommand::Layer { participant, track, layer, answer })
    }

    /// Change one's nickname.
    pub fn rename(&self, participant: ParticipantId, name: String) -> Pending<(), ChangeError> {
        self.ask(|answer| RoomCommand::Rename { participant, name, answer })
    }

    /// Send a message.
    pub fn signal(
        &self,
        participant: ParticipantId,
        kind: String,
        to: Option<Vec<ParticipantId>>,
        data: serde_json::Value,
    ) -> Pending<(), ChangeError> {
        self.ask(|answer| RoomCommand::Signal { participant, kind, to, data, answer })
    }

    /// Start a recording.
    pub fn record(&self, caller: Caller, spec: RecordingSpec) -> Pending<RoomRecordingView, RecordError> {
        self.ask(|answer| RoomCommand::Record { caller, spec, answer })
    }

    /// Leave what happens from now on out of a recording's file.
    pub fn pause_recording(&self, caller: Caller, recording: RecordingId) -> Pending<RoomRecordingView, RecordError> {
        self.ask(|answer| RoomCommand::PauseRecording { caller, recording, answer })
    }

    /// Go on in the same file.
    pub fn resume_recording(&self, caller: Caller, recording: RecordingId) -> Pending<RoomRecordingView, RecordError> {
        self.ask(|answer| RoomCommand::ResumeRecording { caller, recording, answer })
    }

    /// Name this moment of a recording; without a title it gets its number.
    pub fn mark_recording(
        &self,
        caller: Caller,
        recording: RecordingId,
        title: Option<String>,
    ) -> Pending<Marker, RecordError> {
        self.ask(|answer| RoomCommand::MarkRecording { caller, recording, title, answer })
    }

    /// Stop a recording.
    pub fn stop_recording(&self, caller: Caller, recording: RecordingId) -> Pending<RoomRecordingView, RecordError> {
        self.ask(|answer| RoomCommand::StopRecording { caller, recording, answer })
    }

    /// For the recording keeper: writing may begin at `file`, or not at all.
    pub async fn journalled(&self, recording: RecordingId, result: Result<PathBuf, RecordError>) {
        self.tell(RoomCommand::Journalled { recording, result }).await;
    }

    /// For the recording keeper: the state of a closed file.
    pub async fn kept(&self, recording: RecordingId, state: RecordingState, reason: Option<String>) {
        self.tell(RoomCommand::Kept { recording, state, reason }).await;
    }

    /// Change settings.
    pub fn change(&self, change: RoomChange) -> Pending<RoomView, ChangeError> {
        self.ask(|answer| RoomCommand::Change { change, answer })
    }

    /// Change the layout of the mix and of recordings that follow the room.
    pub fn set_layout(&self, caller: Caller, layout: LayoutSpec) -> Pending<LayoutSpec, ChangeError> {
        self.ask(|answer| RoomCommand::SetLayout { caller, layout, answer })
    }

    /// Fetch a camera or another source, as a participant.
    pub fn add_ingest(&self, caller: Caller, request: IngestRequest) -> Pending<IngestDetails, IngestError> {
        self.ask(|answer| RoomCommand::AddIngest { caller, request: Box::new(request), answer })
    }

    /// Fetch it no more.
    pub fn remove_ingest(&self, caller: Caller, id: ParticipantId) -> Pending<(), IngestError> {
        self.ask(|answer| RoomCommand::RemoveIngest { caller, id, answer })
    }

    /// What is fetched.
    pub fn ingests(&self, caller: Caller) -> Pending<Vec<IngestDetails>, IngestError> {
        self.ask(|answer| RoomCommand::Ingests { caller, answer })
    }

    /// Push the room's mix to a receiver elsewhere, and go on until it is removed.
    pub fn add_push(&self, caller: Caller, target: Target) -> Pending<OutputDetails, OutputError> {
        self.ask(|answer| RoomCommand::AddPush { caller, target: Box::new(target), answer })
    }

    /// Push it there no more.
    pub fn remove_push(&self, caller: Caller, id: OutputId) -> Pending<(), OutputError> {
        self.ask(|answer| RoomCommand::RemovePush { caller, id, answer })
    }

    /// Where the mix is pushed to.
    pub fn pushes(&self, caller: Caller) -> Pending<Vec<OutputDetails>, OutputError> {
        self.ask(|answer| RoomCommand::Pushes { caller, answer })
    }

    /// The room's mix as a transport stream, from its last keyframe on. It ends when the room does, when
    /// it breaks down, or when the reader is too slow.
    ///
    /// # Errors
    /// [`RoomGone`].
    pub async fn watch_mix(&self) -> Result<mpsc::Receiver<TsChunk>, RoomGone> {
        self.inquire(|answer| RoomCommand::WatchMix { answer }).await
    }

    /// The mix, or somebody's picture and sound, as RTP. It ends when the room does or what it shows, or when
    /// the reader is too slow. `None`: there is no such participant, or he publishes nothing.
    ///
    /// # Errors
    /// [`RoomGone`].
    pub async fn output(&self, of: OutputOf) -> Result<Option<Playing>, RoomGone> {
        self.inquire(|answer| RoomCommand::Output { of, answer }).await
    }

    /// Whether somebody who comes from there with this PIN may watch. A room without a PIN takes none.
    pub fn check_pin(&self, pin: String, from: Address) -> Pending<(), JoinError> {
        self.ask(|answer| RoomCommand::CheckPin { pin, from, answer })
    }

    /// Replace a chain of effects; an empty one takes them off.
    pub fn set_effects(
        &self,
        caller: Caller,
        of: EffectsOf,
        chain: Vec<EffectRequest>,
    ) -> Pending<Vec<Applied>, ChangeError> {
        self.ask(|answer| RoomCommand::SetEffects { caller, of, chain, answer })
    }

    /// What effects take of a processor; `None`: whose they are to be is not there.
    ///
    /// # Errors
    /// [`RoomGone`].
    pub async fn effect_costs(&self, of: EffectsOf) -> Result<Option<Vec<EffectCost>>, RoomGone> {
        self.inquire(|answer| RoomCommand::EffectCosts { of, answer }).await
    }

    /// Have a picture made of a track as it would look with an effect; what it becomes is awaited apart from the room.
    pub fn preview(&self, caller: Caller, track: TrackId, effect: String) -> Pending<Preview, PreviewError> {
        self.ask(|answer| RoomCommand::Preview { caller, track, effect, answer })
    }

    /// Keep a picture for the room's effects.
    pub fn add_picture(&self, caller: Caller, picture: Arc<Picture>) -> Pending<(), PicturesError> {
        self.ask(|answer| RoomCommand::AddPicture { caller, picture, answer })
    }

    /// Keep a picture no more.
    pub fn remove_picture(&self, caller: Caller, id: PictureId) -> Pending<(), PicturesError> {
        self.ask(|answer| RoomCommand::RemovePicture { caller, id, answer })
    }

    /// The room's pictures, in the order they came.
    pub fn pictures(&self, caller: Caller) -> Pending<Vec<Arc<Picture>>, PicturesError> {
        self.ask(|answer| RoomCommand::Pictures { caller, answer })
    }

    /// The room as it is.
    ///
    /// # Errors
    /// [`RoomGone`].
    pub async fn view(&self) -> Result<RoomView, RoomGone> {
        self.inquire(|answer| RoomCommand::View { answer }).await
    }

    /// The media graph as it is.
    ///
    /// # Errors
    /// [`RoomGone`].
    pub async fn graph(&self) -> Result<Graph, RoomGone> {
        self.inquire(|answer| RoomCommand::Graph { answer }).await
    }

    /// Who holds this access token.
    ///
    /// # Errors
    /// [`RoomGone`].
    pub async fn whois(&self, access: AccessToken) -> Result<Option<(ParticipantId, Role)>, RoomGone> {
        self.inquire(|answer| RoomCommand::Whois { access, answer }).await
    }

    /// The room's name and PIN as they are now: what decides who sees its recordings.
    ///
    /// # Errors
    /// [`RoomGone`].
    pub async fn key(&self) -> Result<RoomKey, RoomGone> {
        self.inquire(|answer| RoomCommand::Key { answer }).await
    }

    /// The room as it is, and all that goes to everybody from then on. The stream ends when the
    /// room does, or when the listener is too slow.
    pub fn listen(&self) -> Pending<(RoomView, mpsc::Receiver<RoomEvent>), ListenError> {
        self.ask(|answer| RoomCommand::Listen { answer })
    }

    /// End the room; answers when its media is gone and its recordings are closed.
    ///
    /// # Errors
    /// [`RoomGone`] if it ended before.
    pub async fn close(&self, reason: CloseReason) -> Result<(), RoomGone> {
        let (answer, closed) = oneshot::channel();
        self.tell(RoomCommand::CloseRoom { reason, answer }).await;
        closed.await.map_err(|_| RoomGone::Closed)
    }

    fn ask<T, E>(&self, command: impl FnOnce(Answer<T, E>) -> RoomCommand) -> Pending<T, E> {
        let (answer, receiver) = oneshot::channel();
        Pending { answer: self.queue(command(answer)).map(|()| receiver) }
    }

    async fn inquire<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> RoomCommand) -> Result<T, RoomGone> {
        let (answer, receiver) = oneshot::channel();
        self.queue(command(answer))?;
        receiver.await.map_err(|_| RoomGone::Closed)
    }

    fn queue(&self, command: RoomCommand) -> Result<(), RoomGone> {
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => RoomGone::Busy,
            mpsc::error::TrySendError::Closed(_) => RoomGone::Closed,
        })
    }

    async fn tell(&self, command: RoomCommand) {
        // A closed room has forgotten the participant and the recording already.
        let _ = self.commands.send(command).await;
    }
}
