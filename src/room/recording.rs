//! A room's recordings: asked for, noted by the keeper, written by the engine, finished by the keeper.
//!
//! The keeper is never waited for. What it cannot take at once waits in a backlog that the room
//! task passes on when there is space; a recording is not begun while there is a backlog, so it
//! holds at most three notices for each recording that runs, and its markers.

use std::{collections::VecDeque, path::PathBuf, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::mpsc::{self, error::SendError, error::TrySendError},
    time::{Instant, timeout_at},
};

use super::{
    command::Answer,
    error::RecordError,
    id::{ParticipantId, PictureId, RecordingId},
    model::{RecordingState, RoomRecordingView},
    tape::Tape,
};
use crate::{
    media::{LayoutChoice, LayoutSpec, MediaError, MediaEvent, RecordingSpec},
    recording::{
        RecordingNotice, chat,
        minutes::{Entry, LayoutChange, MinuteTaker},
    },
};

mod control;
mod course;

/// The keeper must have noted a recording within this.
const NOTE_DEADLINE: Duration = Duration::from_secs(10);
/// The engine must have closed a stopped recording's file within this.
const END_DEADLINE: Duration = Duration::from_secs(30);
/// Recordings that are over and still shown in the room's state.
const MOST_SHOWN: usize = 32;
/// Markers of one recording.
const MOST_MARKERS: usize = 500;
/// Messages in the chat of one recording.
const MOST_SAID: usize = 10_000;
/// Characters of one that are kept.
const MOST_SAID_CHARS: usize = 2_000;

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
    minutes: MinuteTaker,
    /// How long it is, in milliseconds; known once it is told to stop.
    length_ms: Option<u64>,
}

/// Where a recording stands for the room; it only moves down this list.
enum Phase {
    /// The keeper notes it. Nobody is told of it yet but whoever asked, with the outcome.
    Noting { until: Instant, answer: Option<Answer<RoomRecordingView, RecordError>> },
    /// It is noted, and begins in this file with the first publication.
    Awaiting { file: PathBuf },
    /// The engine writes it, until then at the latest.
    Writing { stop_at: Option<Instant>, tape: Tape },
    /// The engine closes the file.
    Ending { until: Instant },
    /// The keeper finishes the file, or has.
    Kept,
}

impl Recordings {
    pub(super) fn new(keeper: mpsc::Sender<RecordingNotice>, at_first_publication: Option<RecordingSpec>) -> Self {
        Self { list: Vec::new(), keeper, backlog: VecDeque::new(), awaiting_publication: at_first_publication }
    }

    /// A layout of one that is not over draws that picture.
    pub(super) fn show_picture(&self, id: &PictureId) -> bool {
        let running = self.list.iter().filter(|recording| !matches!(recording.phase, Phase::Kept));
        let layouts = running.filter_map(|recording| recording.spec.layout.as_ref());
        layouts.filter_map(LayoutChoice::logo).any(|logo| logo.picture == *id)
    }

    /// What everybody may see of them.
    pub(super) fn views(&self) -> Vec<RoomRecordingView> {
        let known = self.list.iter().filter(|recording| !matches!(recording.phase, Phase::Noting { .. }));
        known.map(|recording| recording.view.clone()).collect()
    }

    /// Somebody came or took another name: it belongs to all recordings that run.
    pub(super) fn note_name(&mut self, id: &ParticipantId, name: &str) {
        self.note_in_all(|recording| match recording.phase {
            Phase::Noting { .. } | Phase::Awaiting { .. } | Phase::Writing { .. } => {
                Some(Entry::Present { who: id.clone(), name: name.to_owned() })
            }
            Phase::Ending { .. } | Phase::Kept => None,
        });
    }

    /// Somebody began to speak, or fell silent.
    pub(super) fn note_voice(&mut self, who: &ParticipantId, name: &str, speaking: bool) {
        let now = Instant::now();
        self.note_in_all(|recording| {
            let at_ms = recording.position_ms(now)?;
            let who = who.clone();
            Some(if speaking {
                Entry::Speaks { who, name: name.to_owned(), at_ms }
            } else {
                Entry::Silent { who, at_ms }
            })
        });
    }

    /// How many mixes with the room's effects are made for recordings now: with a picture, and with a sound.
    /// Recordings that look the same share one.
    pub(super) fn mixes_with_effects(&self) -> (u32, u32) {
        let mut looks: Vec<&RecordingSpec> = Vec::new();
        let written =
            self.list.iter().filter(|recording| recording.is_being_written()).map(|recording| &recording.spec);
        for spec in written.filter(|spec| spec.effects && spec.mode.has_composite()) {
            let look = |spec: &RecordingSpec| (spec.audio, spec.video, spec.width, spec.height, spec.fps);
            if !looks.iter().any(|known| look(known) == look(spec) && known.layout == spec.layout) {
                looks.push(spec);
            }
        }
        let count = |has: fn(&RecordingSpec) -> bool| looks.iter().filter(|spec| has(spec)).count() as u32;
        (count(|spec| spec.video), count(|spec| spec.audio))
    }

    /// The room's layout is another one: it belongs to all recordings that show it.
    pub(super) fn note_layout(&mut self, layout: &LayoutSpec) {
        let now = Instant::now();
        self.note_in_all(|recording| {
            let at_ms = recording.position_ms(now).filter(|_| recording.shows_room_layout())?;
            Some(Entry::Layout(LayoutChange { at_ms, layout: layout.clone() }))
        });
    }

    /// Takes down what `entry` has for each recording.
    fn note_in_all(&mut self, entry: impl Fn(&Recording) -> Option<Entry>) {
        let mut notices = Vec::new();
        for recording in &mut self.list {
            let Some(entry) = entry(recording) else { continue };
            if recording.minutes.take(&entry) {
                notices.push(RecordingNotice::Noted { recording: recording.view.id.clone(), entries: vec![entry] });
            }
        }
        notices.into_iter().for_each(|notice| self.tell_keeper_or_not(notice));
    }

    /// Something was written to everybody: it belongs to all recordings that run. Of a keeper that is
    /// behind, chat is the first to suffer.
    pub(super) fn note_chat(&mut self, name: &str, text: &str) {
        if self.has_backlog() {
            tracing::warn!("a message is not in the recordings: the keeper is behind");
            return;
        }
        let now = Instant::now();
        let ids: Vec<_> = self.list.iter().map(|recording| recording.view.id.clone()).collect();
        for id in ids {
            let Ok((tape, _)) = self.tape(&id) else { continue };
            if tape.said >= MOST_SAID {
                continue;
            }
            tape.said += 1;
            let at_ms = tape.position(now).as_millis() as u64;
            let text = text.chars().take(MOST_SAID_CHARS).collect();
            let message = chat::Message { at_ms, name: name.to_owned(), text };
            self.tell_keeper(RecordingNotice::Said { recording: id, message });
        }
    }

    /// `empty_since`: nobody is in the room since then.
    pub(super) fn deadline(&self, empty_since: Option<Instant>) -> Option<Instant> {
        self.list.iter().filter_map(|recording| recording.deadline(empty_since)).min()
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

    /// Minutes are for the case that we die: a keeper that is behind is spared them.
    fn tell_keeper_or_not(&mut self, notice: RecordingNotice) {
        if !self.has_backlog() {
            let _ = self.keeper.try_send(notice);
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
            Phase::Awaiting { .. } | Phase::Writing { .. } | Phase::Ending { .. } | Phase::Kept => {
                Err(RecordError::NotRecording)
            }
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
            | MediaEvent::Restarted { .. }
            | MediaEvent::Offered { .. }
            | MediaEvent::Candidate { .. }
            | MediaEvent::Connected { .. }
            | MediaEvent::ConnectionEnded { .. }
            | MediaEvent::IngestOpened { .. }
            | MediaEvent::IngestChanged { .. }
            | MediaEvent::OutputEnded { .. }
            | MediaEvent::PushChanged { .. }
            | MediaEvent::TrackPaused { .. }
            | MediaEvent::EffectsFailed { .. }
            | MediaEvent::MixEffectsFailed { .. }
            | MediaEvent::EffectReported { .. }
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
        let open = |recording: &&mut Recording| recording.is_being_written() || recording.is_awaiting();
        let recording = self.get(id).filter(open)?;
        let length_ms = recording.length_ms.or(recording.position_ms(Instant::now())).unwrap_or_default();
        let minutes = std::mem::take(&mut recording.minutes).finish(length_ms);
        recording.phase = Phase::Kept;
        recording.view.state = RecordingState::Finalising;
        let view = recording.view.clone();
        self.tell_keeper(RecordingNotice::Ended { recording: id.clone(), result, at: Timestamp::now(), minutes });
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

    /// How long its file is, while it is written.
    fn position_ms(&self, now: Instant) -> Option<u64> {
        let Phase::Writing { tape, .. } = &self.phase else { return None };
        Some(tape.position(now).as_millis() as u64)
    }

    fn shows_room_layout(&self) -> bool {
        self.spec.layout.is_none() && self.spec.video && self.spec.mode.has_composite()
    }

    fn is_awaiting(&self) -> bool {
        matches!(self.phase, Phase::Awaiting { .. })
    }

    fn deadline(&self, empty_since: Option<Instant>) -> Option<Instant> {
        match self.phase {
            Phase::Noting { until, .. } | Phase::Ending { until } => Some(until),
            Phase::Writing { stop_at, ref tape } => {
                let stop_at = stop_at.filter(|_| tape.paused_at.is_none());
                let patience = self.spec.stop_when_empty_s.map(Duration::from_secs);
                let deserted_at = empty_since.zip(patience).map(|(since, patience)| since + patience);
                stop_at.into_iter().chain(deserted_at).min()
            }
            Phase::Awaiting { .. } | Phase::Kept => None,
        }
    }
}
