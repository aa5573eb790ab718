//! What publishers and subscribers have in common: a task of its own for each, which does its
//! commands in order, passes candidates on, and ends when the connection does.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use gst_webrtc::WebRTCPeerConnectionState;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, Interval},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    MediaSettings, PipelineEvent, RoomClock,
    webrtc::{Signal, WebRtc},
};
use crate::{
    media::{IceCandidate, IceCredentials, MediaError, MediaEvent, graph::Stage},
    room::id::ConnectionId,
};

/// A client from whom no RTP, RTCP or DTLS comes for so long is gone (libnice keeps STUN to itself). All
/// that some send is RTCP, every 6 s, and some lose their network for a while.
const SILENCE_LIMIT: Duration = Duration::from_secs(20);
/// The same for publishers of whom nothing else tells that they are there. With the interval of the check
/// it stays under 10 s.
const ALONE_SILENCE_LIMIT: Duration = Duration::from_secs(8);
/// How often that is looked at.
const SILENCE_CHECK: Duration = Duration::from_secs(1);
/// What a peer's pipeline may take to end.
pub(super) const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);
/// Commands that may wait for a peer's task; more than a room passes on.
const MAX_COMMANDS: usize = 512;

/// What a room tells a peer's task.
#[derive(Debug)]
pub(super) enum Command {
    /// A subscriber's answer.
    Answer(String),
    /// A candidate of the client.
    Candidate(IceCandidate),
    /// A publisher looks for other paths, with these credentials of his.
    Restart(IceCredentials),
}

/// The room's end of a peer's task.
#[derive(Debug)]
pub(super) struct Peer {
    commands: mpsc::Sender<Command>,
    /// Dropping it ends the task.
    stop: DropGuard,
    stage: watch::Receiver<Stage>,
    failure: Arc<OnceLock<MediaError>>,
    task: JoinHandle<()>,
}

impl Peer {
    /// Starts the task. `run` gets the task's end of the channels, and reports its own errors.
    pub(super) fn spawn<F: Future<Output = ()> + Send + 'static>(
        context: Context,
        run: impl FnOnce(Inside) -> F,
    ) -> Self {
        let (sender, commands) = mpsc::channel(MAX_COMMANDS);
        let (stage_sender, stage) = watch::channel(Stage::Negotiating);
        let stop = CancellationToken::new();
        let failure = Arc::<OnceLock<MediaError>>::default();
        let inside = Inside { context, commands, stage: stage_sender, stop: stop.clone(), failure: failure.clone() };
        Self { commands: sender, stop: stop.drop_guard(), stage, failure, task: tokio::spawn(run(inside)) }
    }

    /// Passes a command on; never waits. One that finds no room is dropped: the room lets no client
    /// send so many.
    pub(super) fn tell(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            tracing::debug!("a connection takes no more commands");
        }
    }

    pub(super) fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// It is gone because DTLS found nothing that both sides take.
    pub(super) fn failed_handshake(&self) -> bool {
        matches!(self.failure.get(), Some(MediaError::Handshake(_)))
    }

    /// Asks it to end, and gives its task to wait for.
    pub(super) fn close(self) -> JoinHandle<()> {
        drop(self.stop);
        self.task
    }
}

/// What every peer of a room is given.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) connection: ConnectionId,
    pub(super) clock: RoomClock,
    pub(super) settings: Arc<MediaSettings>,
    pub(super) events: mpsc::Sender<MediaEvent>,
}

/// The task's end of a [`Peer`].
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) context: Context,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) stage: watch::Sender<Stage>,
    pub(super) stop: CancellationToken,
    failure: Arc<OnceLock<MediaError>>,
}

impl Inside {
    /// Builds a webrtcbin off the runtime's threads.
    pub(super) async fn build<T: Send + 'static>(
        &self,
        build: impl FnOnce(&Context) -> Result<T, MediaError> + Send + 'static,
    ) -> Result<T, MediaError> {
        let context = self.context.clone();
        let built = tokio::task::spawn_blocking(move || build(&context)).await;
        built.unwrap_or_else(|_| Err(MediaError::Unavailable("the runtime is going down".into())))
    }

    /// Tells the room; waits if it is busy, as this task holds up nobody.
    pub(super) async fn tell(&self, event: MediaEvent) {
        // An error means that the room is gone, and this peer about to be.
        let _ = self.context.events.send(event).await;
    }

    /// Runs `drive` until it fails or the room closes the peer, ends the pipeline, and then reports
    /// a failure: when the room hears of it, everything is gone.
    pub(super) async fn run_to_end<'a>(
        mut self,
        mut webrtc: WebRtc,
        drive: impl AsyncFnOnce(&mut Connection<'_>) -> Result<(), MediaError>,
        take_down: impl AsyncFnOnce(),
    ) {
        let stop = self.stop.clone();
        let result = {
            let mut connection = Connection::new(&mut self, &mut webrtc);
            stop.run_until_cancelled(drive(&mut connection)).await
        };
        take_down().await;
        webrtc.log_statistics();
        webrtc.shutdown(SHUTDOWN_DEADLINE).await;
        self.stage.send_replace(Stage::Ended);
        if let Some(Err(error)) = result {
            self.report(error).await;
        }
    }

    /// Tells the room that the connection ended by itself, unless it has closed it meanwhile.
    pub(super) async fn report(self, error: MediaError) {
        // It has one end.
        let _ = self.failure.set(error.clone());
        self.stage.send_replace(Stage::Ended);
        if !self.stop.is_cancelled() {
            let connection = self.context.connection.clone();
            tracing::info!(%connection, "connection ended: {error}");
            self.tell(MediaEvent::ConnectionEnded { connection, error }).await;
        }
    }
}

/// What a connection's driver has to act on; the rest is done by [`Connection::next`].
#[derive(Debug)]
pub(super) enum Happening {
    /// ICE and DTLS are up, for the first time.
    Connected,
    /// The client's answer.
    Answer(String),
}

/// A connection as its driver sees it while the pipeline plays.
pub(super) struct Connection<'a> {
    pub(super) inside: &'a mut Inside,
    pub(super) webrtc: &'a mut WebRtc,
    /// Candidates that came before the client's description.
    early: Option<Vec<IceCandidate>>,
    /// Mid and index of the section whose transport all share.
    transport: (String, u32),
    connect_by: Instant,
    silence_check: Interval,
    /// Nothing else tells that the client is there.
    alone: bool,
}

impl<'a> Connection<'a> {
    fn new(inside: &'a mut Inside, webrtc: &'a mut WebRtc) -> Self {
        let connect_by = Instant::now() + inside.context.settings.connect_timeout;
        let silence_check = tokio::time::interval(SILENCE_CHECK);
        Self {
            inside,
            webrtc,
            early: Some(Vec::new()),
            transport: ("0".into(), 0),
            connect_by,
            silence_check,
            alone: false,
        }
    }

    /// Nothing else than packets tells that the client is there.
    pub(super) fn set_alone(&mut self, alone: bool) {
        self.alone = alone;
    }

    /// Names the section under which candidates go to the client.
    pub(super) fn set_transport(&mut self, mid: String, line: u32) {
        self.transport = (mid, line);
    }

    /// The client's description is set: candidates may go in now, those that waited first.
    pub(super) fn described(&mut self) {
        for candidate in self.early.take().unwrap_or_default() {
            self.take_candidate(candidate);
        }
        self.inside.stage.send_replace(Stage::Connecting);
    }

    /// Waits for something to act on.
    ///
    /// # Errors
    /// Why the connection is over.
    pub(super) async fn next(&mut self) -> Result<Happening, MediaError> {
        loop {
            let connected = *self.inside.stage.borrow() == Stage::Connected;
            tokio::select! {
                Some(signal) = self.webrtc.signals.recv() => match signal {
                    Signal::Candidate(candidate) => self.send_candidate(&candidate).await,
                    Signal::GatheringDone => self.send_candidate("").await,
                    Signal::State(WebRTCPeerConnectionState::Connected) if !connected => {
                        self.inside.stage.send_replace(Stage::Connected);
                        return Ok(Happening::Connected);
                    }
                    Signal::State(WebRTCPeerConnectionState::Failed | WebRTCPeerConnectionState::Closed) => {
                        return Err(MediaError::ConnectionLost);
                    }
                    Signal::State(_) => {}
                },
                Some(event) = self.webrtc.pipeline_events.recv() => match event {
                    PipelineEvent::Failed(error) => return Err(error),
                    PipelineEvent::Ended => return Err(MediaError::ConnectionLost),
                },
                Some(command) = self.inside.commands.recv() => match command {
                    Command::Answer(sdp) => return Ok(Happening::Answer(sdp)),
                    Command::Candidate(candidate) => self.take_candidate(candidate),
                    // webrtcbin cannot.
                    Command::Restart(_) => {}
                },
                _ = self.silence_check.tick(), if connected => {
                    let limit = if self.alone { ALONE_SILENCE_LIMIT } else { SILENCE_LIMIT };
                    if self.webrtc.silence() > limit {
                        return Err(MediaError::ConnectionLost);
                    }
                }
                () = tokio::time::sleep_until(self.connect_by), if !connected => {
                    return Err(MediaError::ConnectTimeout(self.inside.context.settings.connect_timeout));
                }
            }
        }
    }

    /// Candidates with mDNS names are passed over: resolving them would take the client's network,
    /// and checks from the address behind the name tell us the same.
    fn take_candidate(&mut self, candidate: IceCandidate) {
        if candidate.candidate.is_empty()
            || candidate.candidate.split(' ').nth(4).is_some_and(|it| it.ends_with(".local"))
        {
            return;
        }
        match &mut self.early {
            Some(early) if early.len() < MAX_COMMANDS => early.push(candidate),
            Some(_) => {}
            None => self.webrtc.add_candidate(&candidate.candidate),
        }
    }

    async fn send_candidate(&mut self, candidate: &str) {
        let context = &self.inside.context;
        let Some(candidate) =
            (if candidate.is_empty() { Some(String::new()) } else { context.settings.announced(candidate) })
        else {
            return;
        };
        let (mid, line) = self.transport.clone();
        let candidate = IceCandidate { candidate, mid: Some(mid), line: Some(line) };
        self.inside.tell(MediaEvent::Candidate { connection: context.connection.clone(), candidate }).await;
    }
}
