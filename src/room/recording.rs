//! A room's recordings: asked for, noted by the keeper, written by the engine, finished by the keeper.
//!
//! The keeper is never waited for. What it cannot take at once waits in a backlog that the room
//! task passes on when there is space; a recording is not begun while there is a backlog, so it
//! holds at most three notices for each recording that runs, and its markers.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::mpsc::{self, error::SendError, error::TrySendError},
    time::{Instant, timeout_at},
};

use super::{
    actor::Room,
    command::{Answer, Caller},
    error::RecordError,
    event::RoomEvent,
    id::{ParticipantId, RecordingId},
    model::{Marker, RecordingState, Role, RoomRecordingView},
    policy,
};
use crate::{
    media::{MediaError, MediaEvent, RecordingSpec},
    recording::{RecordingNotice, RoomKey},
};

/// The keeper must have noted a recording within this.
const NOTE_DEADLINE: Duration = Duration::from_secs(10);
/// The engine must have closed a stopped recording's file within this.
const END_DEADLINE: Duration = Duration::from_secs(30);
/// Recordings that are over and still shown in the room's state.
const MOST_SHOWN: usize = 32;
/// Markers of one recording.
const MOST_MARKERS: usize = 500;

/// The recordings of one room, and the way to their keeper.
pub(super) struct Recordings {
    list: Vec<Recording>,
    keeper: mpsc::Sender<RecordingNotice>,
    backlog: VecDeque<RecordingNotice>,
    /// Begins with the first publication.
    awaiting_publication: Option<RecordingSpec>,
}

struct Recording {
    view: RoomRecordingView,
    spec: RecordingSpec,
    phase: Phase,
    /// Who was in it, in the order they came, by the names they last had.
    people: Vec<(ParticipantId, String)>,
}

/// Where a recording stands for the room; it only moves down this list.
enum Phase {
    /// The keeper notes it. Nobody is told of it yet but whoever asked, with the outcome.
    Noting { until: Instant, answer: Option<Answer<RoomRecordingView, RecordError>> },
    /// The engine writes it, until then at the latest.
    Writing { stop_at: Option<Instant>, tape: Tape },
    /// The engine closes the file.
    Ending { until: Instant },
    /// The keeper finishes the file, or has.
    Kept,
}

/// What of the time that passes is in the file.
struct Tape {
    /// The file's beginning: when the engine was asked for it.
    begun: Instant,
    paused_at: Option<Instant>,
    /// Pauses that are over, together.
    paused: Duration,
    /// How many there are.
    markers: usize,
}

impl Tape {
    fn new(begun: Instant) -> Self {
        Self { begun, paused_at: None, paused: Duration::ZERO, markers: 0 }
    }

    /// How long the file is.
    fn position(&self, now: Instant) -> Duration {
        (self.paused_at.unwrap_or(now) - self.begun).saturating_sub(self.paused)
    }

    fn resume(&mut self, now: Instant) {
        if let Some(at) = self.paused_at.take() {
            self.paused += now - at;
        }
    }
}

impl Recordings {
    pub(super) fn new(keeper: mpsc::Sender<RecordingNotice>, at_first_publication: Option<RecordingSpec>) -> Self {
        Self { list: Vec::new(), keeper, backlog: VecDeque::new(), awaiting_publication: at_first_publication }
    }

    /// What everybody may see of them.
    pub(super) fn views(&self) -> Vec<RoomRecordingView> {
        let known = self.list.iter().filter(|recording| !matches!(recording.phase, Phase::Noting { .. }));
        known.map(|recording| recording.view.clone()).collect()
    }

    /// Somebody came or took another name: it belongs to all recordings that run.
    pub(super) fn note_name(&mut self, id: &ParticipantId, name: &str) {
        let running = self.list.iter_mut().filter(|r| matches!(r.phase, Phase::Noting { .. } | Phase::Writing { .. }));
        for recording in running {
            match recording.people.iter_mut().find(|(known, _)| known == id) {
                Some((_, known)) => *known = name.to_owned(),
                None => recording.people.push((id.clone(), name.to_owned())),
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.list.iter().filter_map(Recording::deadline).min()
    }

    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Passes the oldest waiting notice on.
    pub(super) fn pass_on(&mut self, permit: Result<mpsc::Permit<'_, RecordingNotice>, SendError<()>>) {
        match (permit, self.backlog.pop_front()) {
            (Ok(permit), Some(notice)) => permit.send(notice),
            (Ok(_), None) => {}
            (Err(_), _) => {
                tracing::error!("the recording keeper is gone; {} notices are lost", self.backlog.len() + 1);
                self.backlog.clear();
            }
        }
    }

    fn tell_keeper(&mut self, notice: RecordingNotice) {
        if self.has_backlog() {
            self.put_back(notice);
            return;
        }
        match self.keeper.try_send(notice) {
            Ok(()) => {}
            Err(TrySendError::Full(notice)) => self.put_back(notice),
            Err(TrySendError::Closed(_)) => tracing::error!("the recording keeper is gone"),
        }
    }

    /// Of a recording's pauses only the last word waits: anybody may pause as often as he likes.
    fn put_back(&mut self, notice: RecordingNotice) {
        if let RecordingNotice::Paused { recording: this, .. } = &notice {
            let told = |waiting: &RecordingNotice| matches!(waiting, RecordingNotice::Paused { recording, .. } if recording == this);
            self.backlog.retain(|waiting| !told(waiting));
        }
        self.backlog.push_back(notice);
    }

    fn get(&mut self, id: &RecordingId) -> Option<&mut Recording> {
        self.list.iter_mut().find(|recording| recording.view.id == *id)
    }

    /// Of a recording that has begun and is not over: its pauses, and when it stops by itself.
    fn tape(&mut self, id: &RecordingId) -> Result<(&mut Tape, &mut Option<Instant>), RecordError> {
        let recording = self.get(id).ok_or(RecordError::NoSuchRecording)?;
        match &mut recording.phase {
            Phase::Noting { .. } => Err(RecordError::NoSuchRecording),
            Phase::Writing { tape, stop_at } if recording.view.state != RecordingState::Starting => Ok((tape, stop_at)),
            Phase::Writing { .. } | Phase::Ending { .. } | Phase::Kept => Err(RecordError::NotRecording),
        }
    }

    /// A pause ends with its recording.
    fn end_pause(&mut self, id: &RecordingId) {
        let Ok((tape, _)) = self.tape(id) else { return };
        if tape.paused_at.is_some() {
            tape.resume(Instant::now());
            let total = tape.paused;
            if let Some(recording) = self.get(id) {
                recording.view.note_pauses(total, None);
            }
            self.tell_keeper(RecordingNotice::Paused { recording: id.clone(), paused: false, total });
        }
    }

    /// The engine's files that are not closed yet.
    pub(super) fn any_being_written(&self) -> bool {
        self.list.iter().any(Recording::is_being_written)
    }

    /// What still matters of the engine's events once the room is closing.
    pub(super) fn on_media_while_closing(&mut self, event: MediaEvent) {
        match event {
            MediaEvent::RecordingStarted { recording } => self.started(&recording).map_or((), drop),
            MediaEvent::RecordingEnded { recording, result } => self.ended(&recording, result).map_or((), drop),
            MediaEvent::Answered { .. }
            | MediaEvent::Offered { .. }
            | MediaEvent::Candidate { .. }
            | MediaEvent::Connected { .. }
            | MediaEvent::ConnectionEnded { .. }
            | MediaEvent::AudioLevels(_) => {}
        }
    }

    /// The engine had its time: the keeper takes over what files there are.
    pub(super) fn give_up_writing(&mut self, limit: Duration) {
        let unfinished: Vec<_> = self.list.iter().filter(|r| r.is_being_written()).map(|r| r.view.id.clone()).collect();
        for id in unfinished {
            let late = MediaError::Deadline { step: "closing the recording's file", limit };
            self.ended(&id, Err(late));
        }
    }

    /// Waits for the keeper to take what is left, at most until `deadline`.
    pub(super) async fn flush(&mut self, deadline: Instant) {
        while let Some(notice) = self.backlog.pop_front() {
            if !matches!(timeout_at(deadline, self.keeper.send(notice)).await, Ok(Ok(()))) {
                tracing::error!("the recording keeper did not take {} notices", self.backlog.len() + 1);
                return;
            }
        }
    }

    /// The first frame is written.
    fn started(&mut self, id: &RecordingId) -> Option<RoomRecordingView> {
        let at = Timestamp::now();
        let recording = self.get(id).filter(|recording| recording.is_being_written())?;
        recording.view.started_at = at;
        if let Phase::Writing { stop_at, .. } = &mut recording.phase {
            recording.view.state = RecordingState::Recording;
            *stop_at = recording.spec.max_s.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        }
        let view = recording.view.clone();
        self.tell_keeper(RecordingNotice::Started { recording: id.clone(), at });
        Some(view)
    }

    /// The file is closed; what becomes of it is the keeper's.
    fn ended(&mut self, id: &RecordingId, result: Result<(), MediaError>) -> Option<RoomRecordingView> {
        self.end_pause(id);
        let recording = self.get(id).filter(|recording| recording.is_being_written())?;
        recording.phase = Phase::Kept;
        recording.view.state = RecordingState::Finalising;
        let participants = std::mem::take(&mut recording.people).into_iter().map(|(_, name)| name).collect();
        let view = recording.view.clone();
        self.tell_keeper(RecordingNotice::Ended { recording: id.clone(), result, at: Timestamp::now(), participants });
        Some(view)
    }

    fn forget_oldest(&mut self) {
        let over = self.list.iter().filter(|recording| recording.view.state.is_final()).count();
        if over > MOST_SHOWN
            && let Some(oldest) = self.list.iter().position(|recording| recording.view.state.is_final())
        {
            self.list.remove(oldest);
        }
    }
}

impl Recording {
    fn is_being_written(&self) -> bool {
        matches!(self.phase, Phase::Writing { .. } | Phase::Ending { .. })
    }

    fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Noting { until, .. } | Phase::Ending { until } => Some(until),
            Phase::Writing { stop_at, ref tape } => stop_at.filter(|_| tape.paused_at.is_none()),
            Phase::Kept => None,
        }
    }
}

impl Room {
    pub(super) fn record(
        &mut self,
        caller: &Caller,
        spec: RecordingSpec,
        answer: Answer<RoomRecordingView, RecordError>,
    ) {
        let begun = self.may_record(caller).and_then(|()| self.begin(spec));
        match begun {
            Ok(recording) => {
                if let Phase::Noting { answer: waiting, .. } = &mut recording.phase {
                    *waiting = Some(answer);
                }
            }
            Err(error) => {
                let _ = answer.send(Err(error));
            }
        }
    }

    /// Begins what the room was created with; nobody asked just now, so a failure is told to all.
    pub(super) fn record_first_publication(&mut self) {
        let Some(spec) = self.recordings.awaiting_publication.take() else { return };
        if let Err(error) = self.begin(spec) {
            tracing::error!(room.id = %self.name, %error, "the room's own recording could not begin: {error}");
        }
    }

    fn may_record(&self, caller: &Caller) -> Result<(), RecordError> {
        match self.role_of(caller) {
            None => Err(RecordError::NotInRoom),
            Some(Role::Viewer | Role::Publisher) => Err(RecordError::NotAllowed),
            Some(Role::Moderator) => Ok(()),
        }
    }

    fn begin(&mut self, spec: RecordingSpec) -> Result<&mut Recording, RecordError> {
        policy::check_layout(spec.layout.as_ref(), &self.capabilities)?;
        policy::check_recording(&spec, &self.capabilities)?;
        let most = self.policy.max_recordings;
        // One whose file is being closed has its pipelines still: starting and stopping in a loop must
        // not get past the limit.
        if self.recordings.list.iter().filter(|recording| !matches!(recording.phase, Phase::Kept)).count() >= most {
            return Err(RecordError::TooMany { most });
        }
        if self.recordings.has_backlog() {
            return Err(RecordError::Catalogue("the catalogue is behind; try again in a moment".into()));
        }
        let id = RecordingId::random();
        let notice = RecordingNotice::Begin {
            recording: id.clone(),
            room: self.handle.clone(),
            key: self.key(),
            spec: spec.clone(),
        };
        // Not through the backlog: whoever asks for a recording learns at once that none will be.
        self.recordings.keeper.try_send(notice).map_err(|error| {
            RecordError::Catalogue(match error {
                TrySendError::Full(_) => "the catalogue is behind; try again in a moment".into(),
                TrySendError::Closed(_) => "the catalogue is closed".into(),
            })
        })?;
        if self.empty_since.is_some() {
            // Asking for a recording is a sign of life: the linger of an empty room begins anew.
            self.empty_since = Some(Instant::now());
        }
        let people = self.participants.iter().map(|participant| (participant.id.clone(), participant.name.clone()));
        self.recordings.list.push(Recording {
            view: RoomRecordingView {
                id,
                state: RecordingState::Starting,
                started_at: Timestamp::now(),
                paused_ms: 0,
                paused_at: None,
                reason: None,
            },
            spec,
            phase: Phase::Noting { until: Instant::now() + NOTE_DEADLINE, answer: None },
            people: people.collect(),
        });
        Ok(self.recordings.list.last_mut().expect("it was just put there"))
    }

    /// What decides who sees recordings of this room: as its name and PIN are now.
    pub(super) fn key(&self) -> RoomKey {
        RoomKey { name: self.name.to_string(), pin: self.pin.pin().map(str::to_owned) }
    }

    /// The keeper has noted a recording, or could not.
    pub(super) fn journalled(&mut self, id: &RecordingId, result: Result<std::path::PathBuf, RecordError>) {
        let scene = self.scene();
        let Some(recording) = self.recordings.get(id) else {
            self.disown(id, result);
            return;
        };
        let Phase::Noting { answer, .. } = &mut recording.phase else { return };
        let answer = answer.take();
        match result {
            Ok(file) => {
                let stop_at = recording.spec.max_s.map(|seconds| Instant::now() + Duration::from_secs(seconds));
                recording.phase = Phase::Writing { stop_at, tape: Tape::new(Instant::now()) };
                let (view, spec) = (recording.view.clone(), recording.spec.clone());
                self.media.start_recording(id.clone(), file, spec, scene);
                if let Some(answer) = answer {
                    let _ = answer.send(Ok(view.clone()));
                }
                tracing::info!(room.id = %self.name, recording.id = %id, "recording begins");
                self.tell_all(RoomEvent::Recording { recording: view });
            }
            Err(error) => self.not_noted(id, answer, error),
        }
    }

    /// The keeper came too late: its entry must not wait for frames that nobody will write.
    fn disown(&mut self, id: &RecordingId, result: Result<std::path::PathBuf, RecordError>) {
        if result.is_ok() {
            let late = MediaError::Deadline { step: "noting the recording", limit: NOTE_DEADLINE };
            let at = Timestamp::now();
            let notice =
                RecordingNotice::Ended { recording: id.clone(), result: Err(late), at, participants: Vec::new() };
            self.recordings.tell_keeper(notice);
        }
    }

    fn not_noted(
        &mut self,
        id: &RecordingId,
        answer: Option<Answer<RoomRecordingView, RecordError>>,
        error: RecordError,
    ) {
        tracing::error!(room.id = %self.name, recording.id = %id, %error, "recording could not begin: {error}");
        if let Some(answer) = answer {
            self.recordings.list.retain(|recording| recording.view.id != *id);
            let _ = answer.send(Err(error));
        } else if let Some(recording) = self.recordings.get(id) {
            recording.phase = Phase::Kept;
            recording.view.state = RecordingState::Failed;
            recording.view.reason = Some(error.to_string());
            let recording = recording.view.clone();
            self.tell_all(RoomEvent::Recording { recording });
        }
    }

    /// Leaves what happens from now on out of a recording's file.
    pub(super) fn pause_recording(
        &mut self,
        caller: &Caller,
        id: &RecordingId,
    ) -> Result<RoomRecordingView, RecordError> {
        self.may_record(caller)?;
        let (tape, _) = self.recordings.tape(id)?;
        if tape.paused_at.is_some() {
            return Err(RecordError::AlreadyPaused);
        }
        tape.paused_at = Some(Instant::now());
        let total = tape.paused;
        self.media.pause_recording(id);
        Ok(self.paused(id, true, total))
    }

    /// Goes on in the same file.
    pub(super) fn resume_recording(
        &mut self,
        caller: &Caller,
        id: &RecordingId,
    ) -> Result<RoomRecordingView, RecordError> {
        self.may_record(caller)?;
        let now = Instant::now();
        let (tape, stop_at) = self.recordings.tape(id)?;
        let since = tape.paused_at.ok_or(RecordError::NotPaused)?;
        tape.resume(now);
        // Only what is recorded counts against the limit.
        *stop_at = stop_at.map(|at| at + (now - since));
        let total = tape.paused;
        self.media.resume_recording(id);
        Ok(self.paused(id, false, total))
    }

    /// Names this moment of a recording; one of a pause is where the pause is.
    pub(super) fn mark_recording(
        &mut self,
        caller: &Caller,
        id: &RecordingId,
        title: Option<String>,
    ) -> Result<Marker, RecordError> {
        self.may_record(caller)?;
        let (tape, _) = self.recordings.tape(id)?;
        if tape.markers >= MOST_MARKERS {
            return Err(RecordError::TooManyMarkers { most: MOST_MARKERS });
        }
        let title = title.unwrap_or_else(|| (tape.markers + 1).to_string());
        if !policy::is_marker_title(&title) {
            return Err(RecordError::BadMarker);
        }
        tape.markers += 1;
        let marker = Marker { at_ms: tape.position(Instant::now()).as_millis() as u64, title };
        self.recordings.tell_keeper(RecordingNotice::Marked { recording: id.clone(), marker: marker.clone() });
        Ok(marker)
    }

    fn paused(&mut self, id: &RecordingId, paused: bool, total: Duration) -> RoomRecordingView {
        let recording = self.recordings.get(id).expect("the caller has just found it");
        recording.view.state = if paused { RecordingState::Paused } else { RecordingState::Recording };
        recording.view.note_pauses(total, paused.then(Timestamp::now));
        let view = recording.view.clone();
        self.recordings.tell_keeper(RecordingNotice::Paused { recording: id.clone(), paused, total });
        self.tell_all(RoomEvent::Recording { recording: view.clone() });
        view
    }

    /// Stops a recording. Asking twice is no error while the file is being finished.
    pub(super) fn stop_recording(
        &mut self,
        caller: &Caller,
        id: &RecordingId,
    ) -> Result<RoomRecordingView, RecordError> {
        self.may_record(caller)?;
        let recording = self.recordings.get(id).ok_or(RecordError::NoSuchRecording)?;
        match recording.phase {
            Phase::Noting { .. } => Err(RecordError::NoSuchRecording),
            Phase::Kept if recording.view.state.is_final() => Err(RecordError::NoSuchRecording),
            Phase::Ending { .. } | Phase::Kept => Ok(recording.view.clone()),
            Phase::Writing { .. } => Ok(self.end(id)),
        }
    }

    /// Has the engine close a recording's file.
    fn end(&mut self, id: &RecordingId) -> RoomRecordingView {
        self.media.stop_recording(id);
        self.recordings.end_pause(id);
        let recording = self.recordings.get(id).expect("the caller has just found it");
        recording.phase = Phase::Ending { until: Instant::now() + END_DEADLINE };
        recording.view.state = RecordingState::Finalising;
        let view = recording.view.clone();
        self.tell_all(RoomEvent::Recording { recording: view.clone() });
        view
    }

    pub(super) fn on_recording_started(&mut self, id: &RecordingId) {
        if let Some(recording) = self.recordings.started(id) {
            self.tell_all(RoomEvent::Recording { recording });
        }
    }

    pub(super) fn on_recording_ended(&mut self, id: &RecordingId, result: Result<(), MediaError>) {
        let told = self.recordings.get(id).is_some_and(|r| r.view.state == RecordingState::Finalising);
        if let Err(error) = &result {
            tracing::error!(room.id = %self.name, recording.id = %id, %error, "recording ended: {error}");
        }
        if let Some(recording) = self.recordings.ended(id, result)
            && !told
        {
            self.tell_all(RoomEvent::Recording { recording });
        }
    }

    /// The keeper says what became of a closed file.
    pub(super) fn kept(&mut self, id: &RecordingId, state: RecordingState, reason: Option<String>) {
        let Some(recording) = self.recordings.get(id) else { return };
        let view = &mut recording.view;
        // Nothing moves up again, and what is already said is not said twice.
        if view.state.is_final() || state.is_running() {
            return;
        }
        if (view.state, &view.reason) == (state, &reason) {
            return;
        }
        (view.state, view.reason) = (state, reason);
        if state.is_final() {
            recording.phase = Phase::Kept;
        }
        let recording = recording.view.clone();
        self.tell_all(RoomEvent::Recording { recording });
        self.recordings.forget_oldest();
    }

    pub(super) fn recording_time(&mut self, now: Instant) {
        let due = self.recordings.list.iter().filter(|r| r.deadline().is_some_and(|at| now >= at));
        let due: Vec<_> = due.map(|recording| recording.view.id.clone()).collect();
        for id in due {
            let Some(recording) = self.recordings.get(&id) else { continue };
            match &mut recording.phase {
                Phase::Noting { answer, .. } => {
                    let answer = answer.take();
                    let late = RecordError::Catalogue(format!("it did not answer within {NOTE_DEADLINE:?}"));
                    self.not_noted(&id, answer, late);
                }
                Phase::Writing { .. } => drop(self.end(&id)),
                Phase::Ending { .. } => {
                    let late = MediaError::Deadline { step: "closing the recording's file", limit: END_DEADLINE };
                    self.on_recording_ended(&id, Err(late));
                }
                Phase::Kept => {}
            }
        }
    }

    /// The room closes: whatever is written is ended, whatever was only asked for is not begun.
    pub(super) fn end_all_recordings(&mut self) {
        let ids: Vec<_> = self.recordings.list.iter().map(|recording| recording.view.id.clone()).collect();
        for id in ids {
            let Some(recording) = self.recordings.get(&id) else { continue };
            match recording.phase {
                Phase::Writing { .. } => drop(self.end(&id)),
                // The keeper's answer will find no room; its entry ends with this.
                Phase::Noting { .. } => self.disown(&id, Ok(std::path::PathBuf::new())),
                Phase::Ending { .. } | Phase::Kept => {}
            }
        }
    }
}
