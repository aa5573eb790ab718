//! The room task: owns the state of one room and does one thing at a time.
//!
//! Commands come from sessions, events from the media engine, and the clock is the third source.
//! Nothing here awaits media, a session or the recording keeper: what takes time is started, and its
//! end comes back as an event. The verbs live beside this file, by subject: [`super::membership`],
//! [`super::publication`], [`super::subscription`], [`super::recording`], [`super::ingest`],
//! [`super::signal`].

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    RoomHandle,
    bucket::TokenBucket,
    command::{Answer, Caller, RoomCommand},
    error::{ChangeError, ListenError},
    event::{CloseReason, Happened, RoomEvent},
    floor::Floor,
    id::{AccessToken, ConnectionId, ParticipantId, TrackId},
    model::{ParticipantView, PeerEdges, Role, RoomChange, RoomSettings, RoomView},
    participant::{Link, Participant},
    pin::{PinGate, same_token},
    policy::{self, RoomPolicy},
    push::Push,
    recording::Recordings,
    scene::{self, Actor},
    speaking::Speaking,
};
use crate::{
    effect::{Applied, Picture},
    media::{
        Capabilities, CodecName, LayoutChoice, LayoutSpec, MediaEngine, MediaEvent, MediaRoom, Scene, ts::TsChunk,
    },
    recording::RecordingNotice,
};

/// Commands that may wait; more is [`super::error::RoomGone::Busy`].
pub(super) const COMMAND_QUEUE: usize = 256;
/// Events of the media engine that may wait.
const MEDIA_QUEUE: usize = 1024;
/// Events that may wait for one listener of the HTTP API.
const LISTENER_QUEUE: usize = 256;
/// Pieces of the mix that may wait for one player: some seconds, at 1,316 bytes a piece.
const MIX_QUEUE: usize = 4096;
/// Pictures of effects that are made to choose among, of all who choose in one room.
const PREVIEWS_PER_SECOND: usize = 10;
/// Listeners of one room.
const MOST_LISTENERS: usize = 256;
/// How often sessions that ended without a word are looked for.
const SWEEP: Duration = Duration::from_secs(3);
/// A closing room's recordings must be closed within this.
const RECORDINGS_DEADLINE: Duration = Duration::from_secs(10);
/// And then the rest of its media within this.
const MEDIA_DEADLINE: Duration = Duration::from_secs(5);

/// What a room is made from; all of it has been checked.
pub(super) struct Setup {
    pub(super) name: Arc<str>,
    /// No other room of this process has it.
    pub(super) number: u64,
    pub(super) settings: RoomSettings,
    pub(super) policy: Arc<RoomPolicy>,
    pub(super) engine: Arc<dyn MediaEngine>,
    pub(super) keeper: mpsc::Sender<RecordingNotice>,
    /// Hears of what happens in all rooms, if somebody does.
    pub(super) everywhere: Option<mpsc::Sender<Happened>>,
    pub(super) handle: RoomHandle,
}

/// The state of one room. Verbs answer at once; [`Room::settle`] then draws the consequences.
pub(super) struct Room {
    pub(super) name: Arc<str>,
    pub(super) number: u64,
    pub(super) created_at: Timestamp,
    pub(super) policy: Arc<RoomPolicy>,
    pub(super) capabilities: Capabilities,
    pub(super) media: Box<dyn MediaRoom>,
    /// For the recording keeper, who answers through it.
    pub(super) handle: RoomHandle,
    pub(super) pin: PinGate,
    pub(super) max_participants: usize,
    /// What publishers may send, in order of preference.
    pub(super) codecs: Vec<CodecName>,
    /// In the order they came.
    pub(super) participants: Vec<Participant>,
    pub(super) recordings: Recordings,
    pub(super) speaking: Speaking,
    pub(super) floor: Floor,
    pub(super) layout: LayoutSpec,
    /// The mix's picture as a track.
    pub(super) mix_picture: TrackId,
    /// Players outside the page.
    pub(super) outputs: HashSet<ConnectionId>,
    /// Receivers elsewhere, in the order they were added.
    pub(super) pushes: Vec<Push>,
    /// On the picture of the mix.
    pub(super) effects: Vec<Applied>,
    /// Given to it for its effects, in the order they came.
    pub(super) pictures: Vec<Arc<Picture>>,
    /// Pictures of effects that nobody has put on yet.
    pub(super) preview_rate: TokenBucket,
    linger: Duration,
    listeners: Vec<mpsc::Sender<RoomEvent>>,
    everywhere: Option<mpsc::Sender<Happened>>,
    /// What the engine was last told to show.
    scene: Scene,
    /// Nobody is in since then.
    pub(super) empty_since: Option<Instant>,
    /// Nobody was ever in: the room waits at least the server's own linger for whoever made it.
    pub(super) fresh: bool,
    swept: Instant,
}

/// Runs a room until it ends. Whoever called `commands`' senders is answered or told that it closed.
pub(super) async fn run(setup: Setup, mut commands: mpsc::Receiver<RoomCommand>) {
    let (sender, mut events) = mpsc::channel(MEDIA_QUEUE);
    let keeper = setup.keeper.clone();
    let mut room = Room::new(setup, sender);
    tracing::info!(room.id = %room.name, "room {} opened", room.name);
    let (reason, answer) = loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(RoomCommand::CloseRoom { reason, answer }) => break (reason, Some(answer)),
                Some(command) => room.handle(command),
                None => break (CloseReason::Empty, None),
            },
            Some(event) = events.recv() => room.on_media(event),
            permit = keeper.reserve(), if room.recordings.has_backlog() => room.recordings.pass_on(permit),
            () = sleep_until(room.deadline(Instant::now())) => {
                if room.on_time(Instant::now()) {
                    break (CloseReason::Empty, None);
                }
            }
        }
        room.settle();
    };
    close(room, reason, answer, commands, events).await;
}

/// Ends a room in an order that loses nothing: refuse, tell, close the recordings, then the media.
async fn close(
    mut room: Room,
    reason: CloseReason,
    answer: Option<oneshot::Sender<()>>,
    mut commands: mpsc::Receiver<RoomCommand>,
    mut events: mpsc::Receiver<MediaEvent>,
) {
    // From here the registry makes a new room of this name. Whoever was already in the queue is
    // answered `Closed` by the drop of his command, and the registry sends him there.
    commands.close();
    let mut answers: Vec<_> = answer.into_iter().collect();
    while let Some(command) = commands.recv().await {
        if let RoomCommand::CloseRoom { answer, .. } = command {
            answers.push(answer);
        }
    }
    tracing::info!(room.id = %room.name, ?reason, "room {} closes", room.name);
    room.tell_all(RoomEvent::RoomClosed { reason });
    room.listeners.clear();
    room.end_all_recordings();
    let name = room.name.clone();
    let Room { media, mut recordings, participants, .. } = room;
    drop(participants);

    let deadline = Instant::now() + RECORDINGS_DEADLINE;
    while recordings.any_being_written() {
        match timeout_at(deadline, events.recv()).await {
            Ok(Some(event)) => recordings.on_media_while_closing(event),
            Ok(None) | Err(_) => break,
        }
    }
    recordings.give_up_writing(RECORDINGS_DEADLINE);
    let mut gone = media.shutdown(MEDIA_DEADLINE);
    let deadline = Instant::now() + MEDIA_DEADLINE + Duration::from_secs(1);
    // The engine may wait with events that do not fit: go on reading while it shuts down.
    let shutdown = async {
        loop {
            tokio::select! {
                _ = &mut gone => break,
                Some(_) = events.recv() => {}
            }
        }
    };
    if timeout_at(deadline, shutdown).await.is_err() {
        tracing::error!(room.id = %name, "the media of room {name} did not end within {MEDIA_DEADLINE:?}");
    }
    recordings.flush(Instant::now() + MEDIA_DEADLINE).await;
    for answer in answers {
        let _ = answer.send(());
    }
}

impl Room {
    fn new(setup: Setup, events: mpsc::Sender<MediaEvent>) -> Self {
        let Setup { name, number, settings, policy, engine, keeper, everywhere, handle } = setup;
        let capabilities = engine.capabilities().clone();
        let now = Instant::now();
        Self {
            created_at: Timestamp::now(),
            codecs: codecs_to_take(settings.codecs.as_deref(), &capabilities.forward),
            media: engine.open_room(&name, events),
            pin: PinGate::new(settings.pin),
            max_participants: settings.max_participants.unwrap_or(policy.max_participants),
            linger: settings.linger_s.map_or(policy.linger, Duration::from_secs),
            recordings: Recordings::new(keeper, settings.recording),
            participants: Vec::new(),
            listeners: Vec::new(),
            everywhere,
            speaking: Speaking::default(),
            floor: Floor::default(),
            layout: LayoutSpec::default(),
            mix_picture: TrackId::random(),
            outputs: HashSet::new(),
            pushes: Vec::new(),
            effects: Vec::new(),
            pictures: Vec::new(),
            preview_rate: TokenBucket::full(PREVIEWS_PER_SECOND, PREVIEWS_PER_SECOND, now),
            scene: Scene::default(),
            empty_since: Some(now),
            fresh: true,
            swept: now,
            name,
            number,
            policy,
            capabilities,
            handle,
        }
    }

    /// Does one command. An answer that nobody waits for any more is dropped; only a join is undone
    /// then.
    fn handle(&mut self, command: RoomCommand) {
        match command {
            RoomCommand::Join { request, session, events, answer } => self.join(request, session, events, answer),
            RoomCommand::Resume { token, session, events, answer } => self.resume(&token, session, events, answer),
            RoomCommand::Detach { participant, session } => self.detach(&participant, session),
            RoomCommand::Leave { participant } => self.leave(&participant),
            RoomCommand::Remove { caller, participant, answer } => {
                reply(answer, self.remove(&caller, &participant));
            }
            RoomCommand::Publish { participant, connection, sdp, sources, alone, answer } => {
                self.publish(&participant, connection, sdp, &sources, alone, answer);
            }
            RoomCommand::Subscribe { participant, to, answer } => self.subscribe(&participant, to, answer),
            RoomCommand::Watch { participant, what, effects, sdp, answer } => {
                self.watch(&participant, &what, effects, sdp, answer);
            }
            RoomCommand::Unsubscribe { participant, from, answer } => {
                reply(answer, self.unsubscribe(&participant, &from));
            }
            RoomCommand::CloseConnection { participant, connection, answer } => {
                reply(answer, self.close_connection(&participant, &connection));
            }
            RoomCommand::Answered { participant, connection, sdp, answer } => {
                reply(answer, self.answered(&participant, &connection, sdp));
            }
            RoomCommand::Restart { participant, connection, answer } => {
                reply(answer, self.restart(&participant, &connection));
            }
            RoomCommand::RestartOffered { participant, connection, theirs, watches, answer } => {
                self.restart_offered(&participant, &connection, theirs, watches, answer);
            }
            RoomCommand::Candidate { participant, connection, candidate, answer } => {
                reply(answer, self.candidate(&participant, &connection, candidate));
            }
            RoomCommand::Mute { caller, track, muted, answer } => reply(answer, self.mute(&caller, &track, muted)),
            RoomCommand::Layer { participant, track, layer, answer } => {
                reply(answer, self.layer(&participant, &track, layer));
            }
            RoomCommand::Rename { participant, name, answer } => reply(answer, self.rename(&participant, &name)),
            RoomCommand::Signal { participant, kind, to, data, answer } => {
                reply(answer, self.signal(&participant, kind, to, data));
            }
            RoomCommand::Record { caller, spec, answer } => self.record(&caller, spec, answer),
            RoomCommand::PauseRecording { caller, recording, answer } => {
                reply(answer, self.pause_recording(&caller, &recording));
            }
            RoomCommand::ResumeRecording { caller, recording, answer } => {
                reply(answer, self.resume_recording(&caller, &recording));
            }
            RoomCommand::MarkRecording { caller, recording, title, answer } => {
                reply(answer, self.mark_recording(&caller, &recording, title));
            }
            RoomCommand::StopRecording { caller, recording, answer } => {
                reply(answer, self.stop_recording(&caller, &recording));
            }
            RoomCommand::Journalled { recording, result } => self.journalled(&recording, result),
            RoomCommand::Kept { recording, state, reason } => self.kept(&recording, state, reason),
            RoomCommand::Change { change, answer } => reply(answer, self.change(change)),
            RoomCommand::SetLayout { caller, layout, answer } => reply(answer, self.set_layout(&caller, layout)),
            RoomCommand::AddIngest { caller, request, answer } => reply(answer, self.add_ingest(&caller, *request)),
            RoomCommand::RemoveIngest { caller, id, answer } => reply(answer, self.remove_ingest(&caller, &id)),
            RoomCommand::Ingests { caller, answer } => reply(answer, self.ingests(&caller)),
            RoomCommand::AddPush { caller, target, answer } => reply(answer, self.add_push(&caller, *target)),
            RoomCommand::RemovePush { caller, id, answer } => reply(answer, self.remove_push(&caller, &id)),
            RoomCommand::Pushes { caller, answer } => reply(answer, self.pushes(&caller)),
            RoomCommand::WatchMix { answer } => self.watch_mix(answer),
            RoomCommand::Output { of, answer } => self.output(&of, answer),
            RoomCommand::CheckPin { pin, from, answer } => reply(answer, self.check_viewer(&pin, from)),
            RoomCommand::SetEffects { caller, of, chain, answer } => {
                reply(answer, self.set_effects(&caller, &of, &chain));
            }
            RoomCommand::AddPicture { caller, picture, answer } => reply(answer, self.add_picture(&caller, picture)),
            RoomCommand::RemovePicture { caller, id, answer } => reply(answer, self.remove_picture(&caller, &id)),
            RoomCommand::Preview { caller, track, effect, answer } => {
                reply(answer, self.preview(&caller, &track, &effect));
            }
            RoomCommand::Pictures { caller, answer } => reply(answer, self.list_pictures(&caller)),
            RoomCommand::EffectCosts { of, answer } => reply(answer, self.effect_costs(&of)),
            RoomCommand::View { answer } => reply(answer, self.view()),
            RoomCommand::Graph { answer } => reply(answer, self.graph()),
            RoomCommand::Whois { access, answer } => reply(answer, self.whois(&access)),
            RoomCommand::Key { answer } => reply(answer, self.key()),
            RoomCommand::Listen { answer } => self.listen(answer),
            // The loop ends with this one.
            RoomCommand::CloseRoom { .. } => {}
        }
    }

    fn on_media(&mut self, event: MediaEvent) {
        match event {
            MediaEvent::Answered { connection, sdp } => self.on_answered(&connection, sdp),
            MediaEvent::Restarted { connection, ours, candidates } => self.on_restarted(&connection, ours, candidates),
            MediaEvent::Offered { connection, sdp, tracks } => self.on_offered(&connection, sdp, &tracks),
            MediaEvent::Candidate { connection, candidate } => self.on_candidate(&connection, candidate),
            MediaEvent::Connected { connection } => self.on_connected(&connection),
            MediaEvent::ConnectionEnded { connection, error } => self.on_connection_ended(&connection, error),
            MediaEvent::IngestOpened { connection, tracks } => self.on_ingest_opened(&connection, &tracks),
            MediaEvent::IngestChanged { connection, status } => self.on_ingest_changed(&connection, status),
            MediaEvent::PushChanged { connection, status } => self.on_push_changed(&connection, status),
            MediaEvent::TrackPaused { connection, track, paused } => self.on_track_paused(&connection, track, paused),
            MediaEvent::OutputEnded { connection } => self.on_output_ended(&connection),
            MediaEvent::AudioLevels(levels) => self.on_audio_levels(&levels),
            MediaEvent::EffectsFailed { track, chain, error } => self.on_effects_failed(&track, &chain, &error),
            MediaEvent::MixEffectsFailed { chain, error } => self.on_mix_effects_failed(&chain, &error),
            MediaEvent::EffectReported { track, report } => self.on_effect_reported(track, report),
            MediaEvent::RecordingStarted { recording } => self.on_recording_started(&recording),
            MediaEvent::RecordingEnded { recording, result } => self.on_recording_ended(&recording, result),
        }
    }

    /// When the clock has something to say next.
    fn deadline(&self, now: Instant) -> Instant {
        let resumes = self.participants.iter().filter_map(|participant| match &participant.link {
            Link::Detached { until, .. } => Some(*until),
            Link::Attached(_) | Link::HungUp | Link::Overrun | Link::Fetched => None,
        });
        let sweep = (!self.participants.is_empty()).then(|| self.swept + SWEEP);
        let timers = [
            self.ends_at(),
            sweep,
            self.speaking.deadline(now),
            self.floor.deadline(),
            self.recordings.deadline(self.empty_since),
        ];
        // Some timer always runs: an empty room has its linger, any other its sweep.
        timers.into_iter().flatten().chain(resumes).min().unwrap_or(now + SWEEP)
    }

    /// Does what is due. True: the room has been empty for long enough and is over.
    fn on_time(&mut self, now: Instant) -> bool {
        self.sweep(now);
        self.drop_lost(now);
        self.recording_time(now);
        self.report_speaking(now);
        self.floor.advance(now);
        self.ends_at().is_some_and(|at| now >= at)
    }

    fn ends_at(&self) -> Option<Instant> {
        let linger = if self.fresh { self.linger.max(self.policy.linger) } else { self.linger };
        self.empty_since.map(|since| since + linger)
    }

    /// Finds sessions that were dropped without a detach.
    fn sweep(&mut self, now: Instant) {
        if now < self.swept + SWEEP {
            return;
        }
        self.swept = now;
        for participant in &mut self.participants {
            if matches!(&participant.link, Link::Attached(events) if events.is_closed()) {
                participant.link = Link::HungUp;
            }
        }
    }

    /// Draws the consequences of what was just done: sessions that could not be told, the mix.
    fn settle(&mut self) {
        self.drop_unreachable();
        let actors: Vec<_> = self
            .participants
            .iter()
            .map(|participant| Actor {
                id: &participant.id,
                name: &participant.name,
                tracks: participant.tracks().collect(),
            })
            .collect();
        let scene = Scene {
            effects: self.effects.clone(),
            pictures: self.pictures.clone(),
            ..scene::compose(&actors, &self.layout, &self.floor)
        };
        if scene != self.scene {
            self.scene = scene.clone();
            self.media.set_scene(scene);
        }
        self.keep_mixes_without_their_listeners();
    }

    /// The scene as the engine knows it.
    pub(super) fn scene(&self) -> Scene {
        self.scene.clone()
    }

    pub(super) fn participant(&mut self, id: &ParticipantId) -> Option<&mut Participant> {
        self.participants.iter_mut().find(|participant| participant.id == *id)
    }

    /// What the caller may do; `None`: he is not in the room.
    pub(super) fn role_of(&self, caller: &Caller) -> Option<Role> {
        match caller {
            Caller::Owner => Some(Role::Moderator),
            Caller::Participant(id) => self.participants.iter().find(|p| p.id == *id).map(|p| p.role),
        }
    }

    /// Tells everybody in the room and every listener.
    pub(super) fn tell_all(&mut self, event: RoomEvent) {
        for participant in &mut self.participants {
            participant.tell(event.clone());
        }
        self.tell_listeners(event);
    }

    /// Tells everybody but one.
    pub(super) fn tell_others(&mut self, except: &ParticipantId, event: RoomEvent) {
        for participant in self.participants.iter_mut().filter(|participant| participant.id != *except) {
            participant.tell(event.clone());
        }
        self.tell_listeners(event);
    }

    fn tell_listeners(&mut self, event: RoomEvent) {
        self.listeners.retain(|listener| listener.try_send(event.clone()).is_ok());
        if let Some(everywhere) = &self.everywhere {
            let happened = Happened { room: self.name.clone(), time: Timestamp::now(), event };
            // Who listens to all rooms sorts and passes on; none of them waits for him.
            let _ = everywhere.try_send(happened);
        }
    }

    pub(super) fn view(&self) -> RoomView {
        RoomView {
            name: self.name.to_string(),
            created_at: self.created_at,
            has_pin: self.pin.pin().is_some(),
            max_participants: self.max_participants,
            participants: self.participants.iter().map(|participant| self.view_of(participant)).collect(),
            recordings: self.recordings.views(),
            layout: self.layout.clone(),
            effects: self.effects.clone(),
            outputs: self.pushes.iter().map(Push::view).collect(),
        }
    }

    fn view_of(&self, participant: &Participant) -> ParticipantView {
        let edge = |media: &ConnectionId| self.media.edge(media);
        let edges = PeerEdges {
            publishes: participant.publications.iter().filter_map(|publication| edge(&publication.media)).collect(),
            watches: participant.subscriptions.iter().filter_map(|subscription| edge(&subscription.media)).collect(),
        };
        ParticipantView { edges, ..participant.view() }
    }

    /// The mix, and recordings without a layout of their own, move to it.
    fn set_layout(&mut self, caller: &Caller, layout: LayoutSpec) -> Result<LayoutSpec, ChangeError> {
        match self.role_of(caller) {
            None => return Err(ChangeError::NotInRoom),
            Some(Role::Viewer | Role::Publisher) => return Err(ChangeError::NotAllowed),
            Some(Role::Moderator) => {}
        }
        policy::check_layout(Some(&LayoutChoice::Spec(Box::new(layout.clone()))), &self.capabilities)?;
        self.check_logo(layout.logo.as_ref())?;
        if layout != self.layout {
            self.layout = layout;
            self.recordings.note_layout(&self.layout);
            self.tell_all(RoomEvent::Layout { layout: self.layout.clone() });
        }
        Ok(self.layout.clone())
    }

    fn change(&mut self, change: RoomChange) -> Result<RoomView, ChangeError> {
        let pin = change.pin.filter(|pin| self.pin.pin() != Some(pin));
        // All is checked before anything is changed.
        if let Some(pin) = pin.as_deref().filter(|pin| !pin.is_empty()) {
            policy::check_pin(pin)?;
        }
        if let Some(most) = change.max_participants {
            policy::check_max_participants(most, &self.policy)?;
        }
        if let Some(seconds) = change.linger_s {
            policy::check_linger(seconds)?;
            self.linger = Duration::from_secs(seconds);
        }
        self.max_participants = change.max_participants.unwrap_or(self.max_participants);
        if let Some(pin) = pin {
            self.pin.set(Some(pin).filter(|pin| !pin.is_empty()));
        }
        Ok(self.view())
    }

    fn whois(&self, access: &AccessToken) -> Option<(ParticipantId, Role)> {
        let holder = self.participants.iter().find(|p| same_token(p.access.as_str(), access.as_str()))?;
        Some((holder.id.clone(), holder.role))
    }

    fn watch_mix(&mut self, answer: oneshot::Sender<mpsc::Receiver<TsChunk>>) {
        let (reader, chunks) = mpsc::channel(MIX_QUEUE);
        // Whoever asked may have gone.
        if answer.send(chunks).is_ok() {
            self.media.watch_mix(reader);
        }
    }

    fn listen(&mut self, answer: Answer<(RoomView, mpsc::Receiver<RoomEvent>), ListenError>) {
        self.listeners.retain(|listener| !listener.is_closed());
        if self.listeners.len() >= MOST_LISTENERS {
            return reply(answer, Err(ListenError::TooMany { most: MOST_LISTENERS }));
        }
        let (listener, events) = mpsc::channel(LISTENER_QUEUE);
        if answer.send(Ok((self.view(), events))).is_ok() {
            self.listeners.push(listener);
        }
    }
}

/// Answers; the asker may have gone away meanwhile.
fn reply<T>(answer: oneshot::Sender<T>, value: T) {
    let _ = answer.send(value);
}

/// The room's own codecs first; a kind it does not mention keeps what the engine forwards, so that
/// "VP8 only" does not take the sound away.
fn codecs_to_take(chosen: Option<&[CodecName]>, forward: &[CodecName]) -> Vec<CodecName> {
    let chosen = chosen.unwrap_or_default();
    let unmentioned = |codec: &&CodecName| !chosen.iter().any(|other| other.kind() == codec.kind());
    chosen.iter().chain(forward.iter().filter(unmentioned)).copied().collect()
}
