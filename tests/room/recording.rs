//! Recordings: who may start and stop them, what is told, and that the keeper never holds up a room.

use std::{path::PathBuf, time::Duration};

use salon::{
    media::{
        AudioLevel, LayoutChoice, LayoutError, LayoutKind, LayoutSpec, MediaError, MediaEvent, RecordingSpec,
        RecordingStart, fake::Call,
    },
    recording::{
        Minutes, RecordingNotice,
        minutes::{Entry, MinuteTaker},
    },
    room::{
        command::Caller,
        error::RecordError,
        event::{CloseReason, RoomEvent},
        model::{Marker, RecordingState, RoomSettings},
        policy::RoomPolicy,
    },
};
use serde_json::json;
use tokio::time::{Instant, advance};

use super::harness::{Guest, House, house, house_with};

async fn state(guest: &mut Guest) -> (RecordingState, Option<String>) {
    guest
        .find(|event| match event {
            RoomEvent::Recording { recording } => Some((recording.state, recording.reason)),
            _ => None,
        })
        .await
}

async fn started(house: &mut House, guest: &Guest) -> salon::room::id::RecordingId {
    let pending = guest.room.record(Caller::Participant(guest.id.clone()), RecordingSpec::default());
    let id = house.note_recording().await;
    assert_eq!(pending.await.expect("the recording begins").id, id);
    id
}

#[tokio::test(start_paused = true)]
async fn a_recording_goes_through_all_its_states_and_everybody_is_told() {
    let mut house = house();
    let a = house.guest("r", "a").await;
    let mut b = house.guest("r", "b").await;
    let id = started(&mut house, &a).await;
    assert_eq!(state(&mut b).await.0, RecordingState::Starting);
    assert_eq!(state(&mut b).await.0, RecordingState::Recording);
    assert!(matches!(house.notice().await, Some(RecordingNotice::Started { .. })));
    let late = house.guest("r", "c").await;
    assert_eq!(late.joined.room.recordings[0].state, RecordingState::Recording, "late joiners see it");
    b.room.rename(b.id.clone(), "B".into()).await.unwrap();
    a.leave().await;

    let view = b.room.stop_recording(Caller::Owner, id.clone()).await.unwrap();
    assert_eq!(view.state, RecordingState::Finalising);
    assert_eq!(state(&mut b).await.0, RecordingState::Finalising);
    assert_eq!(b.room.stop_recording(Caller::Owner, id.clone()).await.unwrap().state, RecordingState::Finalising);
    let Some(RecordingNotice::Ended { result, minutes: Minutes { participants, .. }, .. }) = house.notice().await
    else {
        panic!()
    };
    assert_eq!((result, participants), (Ok(()), vec!["a".to_owned(), "B".into(), "c".into()]));

    b.room.kept(id.clone(), RecordingState::Finalising, None).await;
    b.room.kept(id.clone(), RecordingState::Ready, None).await;
    b.room.kept(id.clone(), RecordingState::Failed, Some("late nonsense".into())).await;
    assert_eq!(state(&mut b).await, (RecordingState::Ready, None), "finalising was told already");
    assert!(!b.told().await.iter().any(|event| matches!(event, RoomEvent::Recording { .. })));
    let again = b.room.stop_recording(Caller::Owner, id).await;
    assert_eq!(again, Err(RecordError::NoSuchRecording));
}

#[tokio::test(start_paused = true)]
async fn only_moderators_record_and_settings_have_ranges() {
    let house = house_with(RoomPolicy { max_recordings: 1, ..RoomPolicy::default() });
    let host = house.guest("r", "host").await;
    let b = house.guest("r", "b").await;
    let record = |who: &Guest, spec| who.room.record(Caller::Participant(who.id.clone()), spec);
    assert_eq!(record(&b, RecordingSpec::default()).await, Err(RecordError::NotAllowed));
    let bad = RecordingSpec { layout: Some(LayoutChoice::Name("../../etc".into())), ..RecordingSpec::default() };
    assert!(matches!(record(&host, bad).await, Err(RecordError::Layout(LayoutError { field: "layout", .. }))));
    house.engine.set_busy(true);
    let busy = record(&host, RecordingSpec::default()).await;
    assert_eq!(busy, Err(RecordError::ServerBusy(MediaError::Busy { most: 1 })));
    house.engine.set_busy(false);
    let _waiting = record(&host, RecordingSpec::default());
    assert_eq!(record(&host, RecordingSpec::default()).await, Err(RecordError::TooMany { most: 1 }));
    let unknown = host.room.stop_recording(Caller::Owner, salon::room::id::RecordingId::random()).await;
    assert_eq!(unknown, Err(RecordError::NoSuchRecording));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_before_the_keeper_has_noted_it() {
    let mut house = house();
    let mut a = house.guest("r", "a").await;
    let pending = a.room.record(Caller::Owner, RecordingSpec::default());
    let Some(RecordingNotice::Begin { recording, room, key, .. }) = house.notice().await else { panic!() };
    assert_eq!((key.name.as_str(), key.pin), ("r", None));
    assert_eq!(a.told().await, []);
    assert_eq!(house.calls.made(), []);
    let full = RecordError::DiskFull { free_bytes: 1, reserve_bytes: 2 };
    room.journalled(recording, Err(full.clone())).await;
    assert_eq!(pending.await, Err(full));
    assert_eq!(a.told().await, [], "who asked has the answer, and nobody else was told of anything");
    assert!(a.room.view().await.unwrap().recordings.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_does_not_answer_is_not_waited_for() {
    let mut house = house();
    let a = house.guest("r", "a").await;
    let pending = a.room.record(Caller::Owner, RecordingSpec::default());
    let Some(RecordingNotice::Begin { recording, room, .. }) = house.notice().await else { panic!() };
    let asked = Instant::now();
    assert!(matches!(pending.await, Err(RecordError::Catalogue(_))));
    assert_eq!(asked.elapsed(), Duration::from_secs(10));
    // Now it answers after all: its entry must be ended, for nobody will write that file.
    room.journalled(recording.clone(), Ok(PathBuf::from("late.mp4"))).await;
    let Some(RecordingNotice::Ended { recording: ended, result, .. }) = house.notice().await else { panic!() };
    assert_eq!(ended, recording);
    assert!(matches!(result, Err(MediaError::Deadline { .. })));
    assert_eq!(house.calls.made(), []);
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_is_behind_loses_nothing_and_stops_nobody() {
    let mut house = house_with(RoomPolicy { max_recordings: 64, ..RoomPolicy::default() });
    let a = house.guest("r", "a").await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(started(&mut house, &a).await);
        // What is told of each stays in the queue of 16.
        a.done().await;
        while house.notices.try_recv().is_ok() {}
    }
    for id in &ids {
        a.room.stop_recording(Caller::Owner, id.clone()).await.unwrap();
    }
    // Fill the queue: recordings that nobody notes, until one is refused.
    let mut begun = 0;
    let refused = loop {
        let pending = a.room.record(Caller::Owner, RecordingSpec::default());
        a.done().await;
        match futures_util::FutureExt::now_or_never(pending) {
            None => begun += 1,
            Some(answer) => break answer,
        }
    };
    assert!(matches!(refused, Err(RecordError::CatalogueBusy)), "{refused:?}");
    let view = a.room.view().await.unwrap();
    assert!(view.recordings.iter().all(|r| r.state == RecordingState::Finalising), "the room plays on");
    let mut ended = Vec::new();
    while ended.len() < ids.len() {
        if let Some(RecordingNotice::Ended { recording, .. }) = house.notice().await {
            ended.push(recording);
        }
    }
    ended.sort();
    ids.sort();
    assert_eq!(ended, ids, "{begun} begun");
}

#[tokio::test(start_paused = true)]
async fn a_recording_stops_by_itself_at_its_limit() {
    let mut house = house();
    let mut a = house.guest("r", "a").await;
    let spec = RecordingSpec { max_s: Some(90), ..RecordingSpec::default() };
    let pending = a.room.record(Caller::Owner, spec);
    house.note_recording().await;
    pending.await.unwrap();
    assert_eq!(state(&mut a).await.0, RecordingState::Starting);
    assert_eq!(state(&mut a).await.0, RecordingState::Recording);
    let began = Instant::now();
    assert_eq!(state(&mut a).await.0, RecordingState::Finalising);
    assert_eq!(began.elapsed(), Duration::from_secs(90));
}

#[tokio::test(start_paused = true)]
async fn a_recording_may_wait_for_the_first_publication() {
    let mut house = house();
    let mut a = house.guest("r", "a").await;
    let spec = RecordingSpec { start: RecordingStart::FirstPublication, max_s: Some(60), ..Default::default() };
    let pending = a.room.record(Caller::Owner, spec.clone());
    let id = house.note_recording().await;
    assert_eq!(pending.await.unwrap().state, RecordingState::Starting);
    assert_eq!(a.room.pause_recording(Caller::Owner, id.clone()).await, Err(RecordError::NotRecording));
    advance(Duration::from_secs(100)).await;
    let is_start = |call: &Call| matches!(call, Call::StartRecording(..));
    assert!(!house.calls.made().iter().any(is_start), "nobody publishes yet");
    a.publish("camera").await;
    let started = house.calls.find(|call| match call {
        Call::StartRecording(id, file, _) => Some((id, file)),
        _ => None,
    });
    assert_eq!(started.await, (id, PathBuf::from("made-up.mp4")));
    assert_eq!((state(&mut a).await.0, state(&mut a).await.0), (RecordingState::Starting, RecordingState::Recording));
    // Now somebody publishes already.
    let pending = a.room.record(Caller::Owner, spec.clone());
    assert!(matches!(house.notice().await, Some(RecordingNotice::Started { .. })));
    house.note_recording().await;
    pending.await.unwrap();
    assert!(house.calls.made().iter().any(is_start));
}

#[tokio::test(start_paused = true)]
async fn a_recording_that_never_began_is_over_when_it_is_stopped_or_the_room_closes() {
    let mut house = house();
    let mut a = house.guest("r", "a").await;
    let spec = RecordingSpec { start: RecordingStart::FirstPublication, ..Default::default() };
    let mut ids = Vec::new();
    for _ in 0..2 {
        let pending = a.room.record(Caller::Owner, spec.clone());
        ids.push(house.note_recording().await);
        pending.await.unwrap();
        assert_eq!(state(&mut a).await.0, RecordingState::Starting);
    }
    let stopped = a.room.stop_recording(Caller::Owner, ids[0].clone()).await.unwrap();
    assert_eq!(stopped.state, RecordingState::Finalising);
    assert_eq!(state(&mut a).await.0, RecordingState::Finalising);
    a.room.close(CloseReason::Deleted).await.unwrap();
    for id in ids {
        let Some(RecordingNotice::Ended { recording, result, minutes: Minutes { participants, .. }, .. }) =
            house.notice().await
        else {
            panic!()
        };
        assert_eq!((recording, result, participants), (id, Ok(()), vec!["a".to_owned()]));
    }
    assert!(!house.calls.made().iter().any(|call| matches!(call, Call::StartRecording(..) | Call::StopRecording(_))));
}

#[tokio::test(start_paused = true)]
async fn a_recording_stops_by_itself_when_nobody_has_been_there_for_so_long() {
    let mut house = house();
    let a = house.guest("r", "a").await;
    let spec = RecordingSpec { stop_when_empty_s: Some(20), ..Default::default() };
    let pending = a.room.record(Caller::Owner, spec);
    let id = house.note_recording().await;
    pending.await.unwrap();
    assert!(matches!(house.notice().await, Some(RecordingNotice::Started { .. })));
    advance(Duration::from_secs(100)).await;
    a.leave().await;
    advance(Duration::from_secs(15)).await;
    let b = house.guest("r", "b").await;
    advance(Duration::from_secs(100)).await;
    assert!(house.is_silent(), "it goes on while somebody is there");
    b.leave().await;
    let left = Instant::now();
    let Some(RecordingNotice::Ended { recording, .. }) = house.notice().await else { panic!() };
    assert_eq!((recording, left.elapsed()), (id, Duration::from_secs(20)));
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_told_noted_and_not_counted_against_the_limit() {
    let mut house = house();
    let mut a = house.guest("r", "a").await;
    let b = house.guest("r", "b").await;
    let pending = a.room.record(Caller::Owner, RecordingSpec { max_s: Some(90), ..RecordingSpec::default() });
    let id = house.note_recording().await;
    pending.await.unwrap();
    assert!(matches!(house.notice().await, Some(RecordingNotice::Started { .. })));
    assert_eq!(state(&mut a).await.0, RecordingState::Starting);
    assert_eq!(state(&mut a).await.0, RecordingState::Recording);
    let began = Instant::now();
    let guest = Caller::Participant(b.id.clone());
    assert_eq!(a.room.pause_recording(guest, id.clone()).await, Err(RecordError::NotAllowed));
    assert_eq!(a.room.resume_recording(Caller::Owner, id.clone()).await, Err(RecordError::NotPaused));
    advance(Duration::from_secs(10)).await;
    let view = a.room.pause_recording(Caller::Owner, id.clone()).await.unwrap();
    assert_eq!((view.state, state(&mut a).await.0), (RecordingState::Paused, RecordingState::Paused));
    assert_eq!(a.room.pause_recording(Caller::Owner, id.clone()).await, Err(RecordError::AlreadyPaused));
    house.calls.find(|call| (call == Call::PauseRecording(id.clone())).then_some(())).await;
    let Some(RecordingNotice::Paused { paused: true, total: Duration::ZERO, .. }) = house.notice().await else {
        panic!()
    };
    // Longer than the limit.
    advance(Duration::from_secs(200)).await;
    let view = a.room.resume_recording(Caller::Owner, id.clone()).await.unwrap();
    assert_eq!((view.state, state(&mut a).await.0), (RecordingState::Recording, RecordingState::Recording));
    house.calls.find(|call| (call == Call::ResumeRecording(id.clone())).then_some(())).await;
    let Some(RecordingNotice::Paused { paused: false, total, .. }) = house.notice().await else { panic!() };
    assert_eq!(total, Duration::from_secs(200));
    assert_eq!(state(&mut a).await.0, RecordingState::Finalising);
    assert_eq!(began.elapsed(), Duration::from_secs(290), "90 s of it were recorded");
    for late in [
        a.room.pause_recording(Caller::Owner, id.clone()).await,
        a.room.resume_recording(Caller::Owner, id.clone()).await,
    ] {
        assert_eq!(late, Err(RecordError::NotRecording));
    }
    let unknown = a.room.pause_recording(Caller::Owner, salon::room::id::RecordingId::random()).await;
    assert_eq!(unknown, Err(RecordError::NoSuchRecording));
}

#[tokio::test(start_paused = true)]
async fn what_is_written_to_everybody_is_noted_at_the_time_of_the_file() {
    let mut house = house();
    let a = house.guest("r", "김철수").await;
    let b = house.guest("r", "b").await;
    let say = |kind: &str, to, data| a.room.signal(a.id.clone(), kind.into(), to, data);
    say("chat", None, json!({"text": "before"})).await.unwrap();
    let id = started(&mut house, &a).await;
    assert!(matches!(house.notice().await, Some(RecordingNotice::Started { .. })));
    advance(Duration::from_secs(4)).await;
    say("chat", None, json!({"text": "안녕"})).await.unwrap();
    say("chat", Some(vec![b.id.clone()]), json!({"text": "between us"})).await.unwrap();
    say("hand", None, json!({"text": "no chat"})).await.unwrap();
    say("chat", None, json!({"text": "  "})).await.unwrap();
    a.room.pause_recording(Caller::Owner, id.clone()).await.unwrap();
    advance(Duration::from_secs(60)).await;
    say("chat", None, json!("x".repeat(3_000))).await.unwrap();
    a.room.stop_recording(Caller::Owner, id.clone()).await.unwrap();
    say("chat", None, json!({"text": "after"})).await.unwrap();
    let mut said = Vec::new();
    loop {
        match house.notice().await {
            Some(RecordingNotice::Said { recording, message }) => {
                assert_eq!((&recording, message.name.as_str()), (&id, "김철수"));
                said.push((message.at_ms, message.text));
            }
            Some(RecordingNotice::Ended { .. }) => break,
            Some(_) => {}
            None => panic!("the room is gone"),
        }
    }
    assert_eq!(said, [(4_000, "안녕".to_owned()), (4_000, "x".repeat(2_000))]);
}

/// A track is loud for so many seconds.
async fn speak(house: &House, witness: &Guest, track: &salon::room::id::TrackId, seconds: u64) {
    for _ in 0..seconds * 5 {
        let level = AudioLevel { peak_db: -20, voice: true };
        house.engine.tell("r", MediaEvent::AudioLevels(vec![(track.clone(), level)])).await;
        witness.done().await;
        advance(Duration::from_millis(200)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_speaks_already_when_a_recording_begins_is_in_it_from_the_start() {
    let mut house = house();
    let a = house.guest("r", "a").await;
    let voice = a.publish("one").await.tracks[0].track.id.clone();
    speak(&house, &a, &voice, 5).await;
    let id = started(&mut house, &a).await;
    speak(&house, &a, &voice, 3).await;
    a.room.stop_recording(Caller::Owner, id).await.unwrap();
    loop {
        match house.notice().await {
            Some(RecordingNotice::Ended { minutes: Minutes { speakers, .. }, .. }) => {
                assert_eq!((speakers.len(), speakers[0].from_ms), (1, 0), "{speakers:?}");
                assert!(speakers[0].to_ms.abs_diff(3_000) <= 300, "{speakers:?}");
                return;
            }
            Some(_) => {}
            None => panic!("the room is gone"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_spoke_when_is_handed_to_the_keeper() {
    let mut house = house();
    let a = house.guest("r", "a").await;
    let b = house.guest("r", "b").await;
    let (voice_of_a, voice_of_b) =
        (a.publish("one").await.tracks[0].track.id.clone(), b.publish("one").await.tracks[0].track.id.clone());
    let id = started(&mut house, &a).await;
    assert!(matches!(house.notice().await, Some(RecordingNotice::Started { .. })));
    let rest = async || {
        for _ in 0..20 {
            advance(Duration::from_millis(500)).await;
            a.done().await;
        }
    };
    rest().await;
    speak(&house, &a, &voice_of_a, 4).await;
    rest().await;
    a.room.pause_recording(Caller::Owner, id.clone()).await.unwrap();
    speak(&house, &a, &voice_of_a, 3).await;
    rest().await;
    a.room.resume_recording(Caller::Owner, id.clone()).await.unwrap();
    let layout = LayoutSpec { kind: LayoutKind::Speaker, ..Default::default() };
    a.room.set_layout(Caller::Owner, layout).await.unwrap();
    speak(&house, &a, &voice_of_b, 3).await;
    a.room.stop_recording(Caller::Owner, id.clone()).await.unwrap();
    loop {
        match house.notice().await {
            Some(RecordingNotice::Ended { minutes, .. }) => {
                // What was noted meanwhile says the same, for the case that this never comes.
                let mut taker = MinuteTaker::default();
                house.minutes.iter().for_each(|entry| _ = taker.take(entry));
                assert_eq!(taker.finish(27_000).participants, minutes.participants);
                let spoke = house.minutes.iter().filter(|entry| matches!(entry, Entry::Speaks { .. })).count();
                assert!(spoke >= 2, "{:?}", house.minutes);
                let layouts: Vec<_> = minutes.layouts.iter().map(|change| (change.at_ms, change.layout.kind)).collect();
                assert_eq!(layouts.len(), 2, "{layouts:?}");
                assert_eq!((layouts[0], layouts[1].1), ((0, LayoutKind::Grid), LayoutKind::Speaker));
                assert!(layouts[1].0.abs_diff(24_000) <= 1_600, "{layouts:?}");
                let speakers = minutes.speakers;
                let heard: Vec<_> = speakers.iter().map(|spoken| spoken.participant.as_str()).collect();
                assert_eq!(heard, ["a", "b"], "{speakers:?}");
                let near = |ms: u64, expected: u64| ms.abs_diff(expected) <= 1_600;
                assert!(near(speakers[0].from_ms, 10_000) && near(speakers[0].to_ms, 14_000), "{speakers:?}");
                assert!(near(speakers[1].from_ms, 24_000) && near(speakers[1].to_ms, 27_000), "{speakers:?}");
                return;
            }
            Some(_) => {}
            None => panic!("the room is gone"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn markers_are_at_times_of_the_file_and_bounded() {
    let mut house = house_with(RoomPolicy::default());
    let a = house.guest("r", "a").await;
    let id = started(&mut house, &a).await;
    assert!(matches!(house.notice().await, Some(RecordingNotice::Started { .. })));
    let mark = |title: Option<&str>| a.room.mark_recording(Caller::Owner, id.clone(), title.map(str::to_owned));
    advance(Duration::from_secs(10)).await;
    assert_eq!(mark(Some("one")).await, Ok(Marker { at_ms: 10_000, title: "one".into() }));
    a.room.pause_recording(Caller::Owner, id.clone()).await.unwrap();
    advance(Duration::from_secs(60)).await;
    assert_eq!(mark(None).await, Ok(Marker { at_ms: 10_000, title: "2".into() }));
    a.room.resume_recording(Caller::Owner, id.clone()).await.unwrap();
    advance(Duration::from_secs(5)).await;
    assert_eq!(mark(Some("three")).await, Ok(Marker { at_ms: 15_000, title: "three".into() }));
    assert_eq!(mark(Some("\u{7}")).await, Err(RecordError::BadMarker));
    for _ in 3..500 {
        mark(None).await.unwrap();
    }
    assert_eq!(mark(None).await, Err(RecordError::TooManyMarkers { most: 500 }));
    let mut noted = 0;
    while noted < 500 {
        noted += usize::from(matches!(house.notice().await, Some(RecordingNotice::Marked { .. })));
    }
    a.room.stop_recording(Caller::Owner, id.clone()).await.unwrap();
    assert_eq!(mark(None).await, Err(RecordError::NotRecording));
}

#[tokio::test(start_paused = true)]
async fn a_paused_recording_can_be_stopped() {
    let mut house = house();
    let mut a = house.guest("r", "a").await;
    let id = started(&mut house, &a).await;
    assert!(matches!(house.notice().await, Some(RecordingNotice::Started { .. })));
    assert_eq!(state(&mut a).await.0, RecordingState::Starting);
    assert_eq!(state(&mut a).await.0, RecordingState::Recording);
    a.room.pause_recording(Caller::Owner, id.clone()).await.unwrap();
    assert!(matches!(house.notice().await, Some(RecordingNotice::Paused { paused: true, .. })));
    advance(Duration::from_secs(7)).await;
    let view = a.room.stop_recording(Caller::Owner, id).await.unwrap();
    assert_eq!(view.state, RecordingState::Finalising);
    let Some(RecordingNotice::Paused { paused: false, total, .. }) = house.notice().await else { panic!() };
    assert_eq!(total, Duration::from_secs(7));
    assert!(matches!(house.notice().await, Some(RecordingNotice::Ended { result: Ok(()), .. })));
}

#[tokio::test(start_paused = true)]
async fn a_recording_that_fails_is_handed_to_the_keeper_with_its_error() {
    let mut house = house();
    let mut a = house.guest("r", "a").await;
    let id = started(&mut house, &a).await;
    assert!(matches!(house.notice().await, Some(RecordingNotice::Started { .. })));
    let error = MediaError::DiskFull;
    let ended = MediaEvent::RecordingEnded { recording: id.clone(), result: Err(error.clone()) };
    house.engine.tell("r", ended).await;
    let Some(RecordingNotice::Ended { result, .. }) = house.notice().await else { panic!() };
    assert_eq!(result, Err(error));
    a.room.kept(id, RecordingState::Failed, Some("the disk is full".into())).await;
    let mut last = state(&mut a).await;
    while last.0 != RecordingState::Failed {
        last = state(&mut a).await;
    }
    assert_eq!(last.1.as_deref(), Some("the disk is full"));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_does_not_close_the_file_is_given_thirty_seconds() {
    let mut house = house();
    let a = house.guest("r", "a").await;
    let id = started(&mut house, &a).await;
    assert!(matches!(house.notice().await, Some(RecordingNotice::Started { .. })));
    house.engine.set_silent(true);
    a.room.stop_recording(Caller::Owner, id).await.unwrap();
    let stopped = Instant::now();
    let Some(RecordingNotice::Ended { result, .. }) = house.notice().await else { panic!() };
    assert!(matches!(result, Err(MediaError::Deadline { .. })));
    assert_eq!(stopped.elapsed(), Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_room_made_to_record_begins_with_the_first_publication() {
    let mut house = house();
    let settings = RoomSettings { recording: Some(RecordingSpec::default()), ..RoomSettings::default() };
    house.registry.create("r", settings).unwrap();
    let mut a = house.guest("r", "a").await;
    a.done().await;
    assert!(house.is_silent());
    a.publish("cam").await;
    house.note_recording().await;
    assert_eq!(state(&mut a).await.0, RecordingState::Starting);
    a.publish_screen("screen").await;
    a.done().await;
    assert!(matches!(house.notice().await, Some(RecordingNotice::Started { .. })));
    assert!(house.is_silent(), "only once");
}

#[tokio::test(start_paused = true)]
async fn an_empty_room_records_through_its_linger_and_ends_the_file_when_it_closes() {
    let mut house = house();
    let room = house.registry.create("r", RoomSettings::default()).unwrap();
    advance(Duration::from_secs(20)).await;
    let pending = room.record(Caller::Owner, RecordingSpec::default());
    house.note_recording().await;
    pending.await.unwrap();
    assert!(matches!(house.notice().await, Some(RecordingNotice::Started { .. })));
    let began = Instant::now();
    let Some(RecordingNotice::Ended { result, .. }) = house.notice().await else { panic!() };
    assert_eq!(result, Ok(()));
    assert!(began.elapsed() >= Duration::from_secs(30), "asking for it was a sign of life: {:?}", began.elapsed());
    let calls = house.calls.made();
    let stop = calls.iter().position(|call| matches!(call, Call::StopRecording(_)));
    let shutdown = calls.iter().position(|call| matches!(call, Call::Shutdown));
    assert!(stop.is_some() && stop < shutdown.or(Some(usize::MAX)), "recordings end before the media: {calls:?}");
}

#[tokio::test(start_paused = true)]
async fn closing_ends_recordings_in_every_state() {
    let mut house = house();
    let a = house.guest("r", "a").await;
    let written = started(&mut house, &a).await;
    assert!(matches!(house.notice().await, Some(RecordingNotice::Started { .. })));
    let _never_noted = a.room.record(Caller::Owner, RecordingSpec::default());
    let Some(RecordingNotice::Begin { recording: asked, .. }) = house.notice().await else { panic!() };
    a.room.close(CloseReason::Deleted).await.unwrap();
    let mut ended = Vec::new();
    for _ in 0..2 {
        let Some(RecordingNotice::Ended { recording, result, .. }) = house.notice().await else { panic!() };
        ended.push((recording, result.is_ok()));
    }
    ended.sort();
    let mut expected = vec![(written, true), (asked, false)];
    expected.sort();
    assert_eq!(ended, expected);
}

#[tokio::test(start_paused = true)]
async fn a_recording_whose_file_is_being_closed_still_counts() {
    let mut house = house_with(RoomPolicy { max_recordings: 1, ..RoomPolicy::default() });
    let host = house.guest("r", "host").await;
    let id = started(&mut house, &host).await;
    house.engine.set_silent(true);
    host.room.stop_recording(Caller::Owner, id).await.unwrap();
    let again = host.room.record(Caller::Participant(host.id.clone()), RecordingSpec::default()).await;
    assert_eq!(again, Err(RecordError::TooMany { most: 1 }));
}
