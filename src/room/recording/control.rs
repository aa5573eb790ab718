//! What people ask of a room's recordings: start, pause, resume, mark, stop.

use std::time::Duration;

use jiff::Timestamp;
use tokio::{sync::mpsc::error::TrySendError, time::Instant};

use super::{END_DEADLINE, MOST_MARKERS, NOTE_DEADLINE, Phase, Recording};
use crate::{
    media::{LayoutChoice, RecordingSpec},
    recording::{
        RecordingNotice, RoomKey,
        minutes::{Entry, MinuteTaker},
    },
    room::{
        actor::Room,
        command::{Answer, Caller},
        error::RecordError,
        event::RoomEvent,
        id::RecordingId,
        model::{Marker, RecordingState, Role, RoomRecordingView},
        participant::Participant,
        policy,
    },
};

impl Room {
    pub(in crate::room) fn record(
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

    /// Begins what waits for somebody to publish, and what the room was created with; nobody asked just
    /// now, so a failure is told to all.
    pub(in crate::room) fn record_first_publication(&mut self) {
        let waiting = self.recordings.list.iter().filter(|recording| recording.is_awaiting());
        let waiting: Vec<_> = waiting.map(|recording| recording.view.id.clone()).collect();
        for id in waiting {
            self.write(&id);
        }
        let Some(spec) = self.recordings.awaiting_publication.take() else { return };
        if let Err(error) = self.begin(spec) {
            tracing::error!(room.id = %self.name, %error, "the room's own recording could not begin: {error}");
        }
    }

    fn may_record(&mut self, caller: &Caller) -> Result<(), RecordError> {
        match self.role_of(caller) {
            None => return Err(RecordError::NotInRoom),
            Some(Role::Viewer | Role::Publisher) => return Err(RecordError::NotAllowed),
            Some(Role::Moderator) => {}
        }
        // Everybody hears of it, and the catalogue writes it down.
        let Caller::Participant(id) = caller else { return Ok(()) };
        let participant = self.participant(id).ok_or(RecordError::NotInRoom)?;
        if participant.sayings.take(1, Instant::now()) { Ok(()) } else { Err(RecordError::TooFast) }
    }

    fn begin(&mut self, spec: RecordingSpec) -> Result<&mut Recording, RecordError> {
        policy::check_layout(spec.layout.as_ref(), &self.capabilities)?;
        self.check_logo(spec.layout.as_ref().and_then(LayoutChoice::logo))?;
        policy::check_recording(&spec, &self.capabilities)?;
        let most = self.policy.max_recordings;
        // One whose file is being closed has its pipelines still: starting and stopping in a loop must
        // not get past the limit.
        if self.recordings.list.iter().filter(|recording| !matches!(recording.phase, Phase::Kept)).count() >= most {
            return Err(RecordError::TooMany { most });
        }
        if self.recordings.has_backlog() {
            return Err(RecordError::CatalogueBusy);
        }
        self.media.may_mix(&spec).map_err(RecordError::ServerBusy)?;
        let id = RecordingId::random();
        let notice = RecordingNotice::Begin {
            recording: id.clone(),
            room: self.handle.clone(),
            key: self.key(),
            spec: spec.clone(),
        };
        // Not through the backlog: whoever asks for a recording learns at once that none will be.
        self.recordings.keeper.try_send(notice).map_err(|error| match error {
            TrySendError::Full(_) => RecordError::CatalogueBusy,
            TrySendError::Closed(_) => RecordError::Catalogue("the catalogue is closed".into()),
        })?;
        if self.empty_since.is_some() {
            // Asking for a recording is a sign of life: the linger of an empty room begins anew.
            self.empty_since = Some(Instant::now());
        }
        let present =
            |participant: &Participant| Entry::Present { who: participant.id.clone(), name: participant.name.clone() };
        let entries: Vec<_> = self.participants.iter().map(present).collect();
        let mut minutes = MinuteTaker::default();
        for entry in &entries {
            minutes.take(entry);
        }
        self.recordings.tell_keeper_or_not(RecordingNotice::Noted { recording: id.clone(), entries });
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
            minutes,
            length_ms: None,
        });
        Ok(self.recordings.list.last_mut().expect("it was just put there"))
    }

    /// What decides who sees recordings of this room: as its name and PIN are now.
    pub(in crate::room) fn key(&self) -> RoomKey {
        RoomKey { name: self.name.to_string(), pin: self.pin.pin().map(str::to_owned) }
    }

    /// Leaves what happens from now on out of a recording's file.
    pub(in crate::room) fn pause_recording(
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
    pub(in crate::room) fn resume_recording(
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
    pub(in crate::room) fn mark_recording(
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
    pub(in crate::room) fn stop_recording(
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
            Phase::Awaiting { .. } | Phase::Writing { .. } => Ok(self.end(id)),
        }
    }

    /// Has the engine close a recording's file; one that never began goes to the keeper as it is.
    pub(super) fn end(&mut self, id: &RecordingId) -> RoomRecordingView {
        let recording = self.recordings.get(id).expect("the caller has just found it");
        let view = if recording.is_awaiting() {
            self.recordings.ended(id, Ok(())).expect("it was found")
        } else {
            self.media.stop_recording(id);
            self.recordings.end_pause(id);
            let recording = self.recordings.get(id).expect("it was found");
            recording.length_ms = recording.position_ms(Instant::now());
            recording.phase = Phase::Ending { until: Instant::now() + END_DEADLINE };
            recording.view.state = RecordingState::Finalising;
            recording.view.clone()
        };
        self.tell_all(RoomEvent::Recording { recording: view.clone() });
        view
    }
}
