//! What happens to a room's recordings by itself: the keeper and the engine answer, time passes, the room closes.

use std::{path::PathBuf, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{END_DEADLINE, NOTE_DEADLINE, Phase};
use crate::{
    media::{MediaError, RecordingStart},
    recording::{
        RecordingNotice,
        minutes::{Entry, LayoutChange, Minutes},
    },
    room::{
        actor::Room,
        command::Answer,
        error::RecordError,
        event::RoomEvent,
        id::RecordingId,
        model::{RecordingState, RoomRecordingView},
        tape::Tape,
    },
};

impl Room {
    /// The keeper has noted a recording, or could not.
    pub(in crate::room) fn journalled(&mut self, id: &RecordingId, result: Result<PathBuf, RecordError>) {
        let anybody_publishes = self.participants.iter().any(|participant| participant.tracks().next().is_some());
        let Some(recording) = self.recordings.get(id) else {
            self.disown(id, result);
            return;
        };
        let Phase::Noting { answer, .. } = &mut recording.phase else {
            // It was given up meanwhile.
            self.disown(id, result);
            return;
        };
        let answer = answer.take();
        match result {
            Ok(file) => {
                recording.phase = Phase::Awaiting { file };
                let view = recording.view.clone();
                if recording.spec.start == RecordingStart::Now || anybody_publishes {
                    self.write(id);
                }
                if let Some(answer) = answer {
                    let _ = answer.send(Ok(view.clone()));
                }
                tracing::info!(room.id = %self.name, recording.id = %id, "recording begins");
                self.tell_all(RoomEvent::Recording { recording: view });
            }
            Err(error) => self.not_noted(id, answer, error),
        }
    }

    /// Has the engine begin a recording that is noted.
    pub(super) fn write(&mut self, id: &RecordingId) {
        let (scene, now) = (self.scene(), Instant::now());
        // Whoever speaks already does not begin once more.
        let mut entries = Vec::new();
        for (who, _) in self.floor.voices() {
            if let Some(speaker) = self.participants.iter().find(|participant| participant.id == who) {
                entries.push(Entry::Speaks { who, name: speaker.name.clone(), at_ms: 0 });
            }
        }
        let layout = self.layout.clone();
        let Some(recording) = self.recordings.get(id) else { return };
        let Phase::Awaiting { file } = &mut recording.phase else { return };
        let file = std::mem::take(file);
        let stop_at = recording.spec.max_s.map(|seconds| now + Duration::from_secs(seconds));
        recording.phase = Phase::Writing { stop_at, tape: Tape::new(now) };
        if recording.shows_room_layout() {
            entries.push(Entry::Layout(LayoutChange { at_ms: 0, layout }));
        }
        for entry in &entries {
            recording.minutes.take(entry);
        }
        let spec = recording.spec.clone();
        self.recordings.tell_keeper_or_not(RecordingNotice::Noted { recording: id.clone(), entries });
        self.media.start_recording(id.clone(), file, spec, scene);
    }

    /// The keeper came too late: its entry must not wait for frames that nobody will write.
    pub(super) fn disown(&mut self, id: &RecordingId, result: Result<PathBuf, RecordError>) {
        if result.is_ok() {
            let late = MediaError::Deadline { step: "noting the recording", limit: NOTE_DEADLINE };
            let at = Timestamp::now();
            let notice =
                RecordingNotice::Ended { recording: id.clone(), result: Err(late), at, minutes: Minutes::default() };
            self.recordings.tell_keeper(notice);
        }
    }

    pub(super) fn not_noted(
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

    pub(in crate::room) fn on_recording_started(&mut self, id: &RecordingId) {
        if let Some(recording) = self.recordings.started(id) {
            self.tell_all(RoomEvent::Recording { recording });
        }
    }

    pub(in crate::room) fn on_recording_ended(&mut self, id: &RecordingId, result: Result<(), MediaError>) {
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
    pub(in crate::room) fn kept(&mut self, id: &RecordingId, state: RecordingState, reason: Option<String>) {
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

    pub(in crate::room) fn recording_time(&mut self, now: Instant) {
        let empty_since = self.empty_since;
        let due = self.recordings.list.iter().filter(|r| r.deadline(empty_since).is_some_and(|at| now >= at));
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
                Phase::Awaiting { .. } | Phase::Kept => {}
            }
        }
    }

    /// The room closes: whatever is written is ended, whatever was only asked for is not begun.
    pub(in crate::room) fn end_all_recordings(&mut self) {
        let ids: Vec<_> = self.recordings.list.iter().map(|recording| recording.view.id.clone()).collect();
        for id in ids {
            let Some(recording) = self.recordings.get(&id) else { continue };
            match recording.phase {
                Phase::Awaiting { .. } | Phase::Writing { .. } => drop(self.end(&id)),
                // The keeper's answer will find no room; its entry ends with this.
                Phase::Noting { .. } => self.disown(&id, Ok(PathBuf::new())),
                Phase::Ending { .. } | Phase::Kept => {}
            }
        }
    }
}
