//! Recordings: who may start and stop them, what is told, and that the keeper never holds up a room.

use std::{path::PathBuf, time::Duration};

use salon::{
    media::{LayoutChoice, LayoutError, MediaError, MediaEvent, RecordingSpec, fake::Call},
    recording::RecordingNotice,
    room::{
        command::Caller,
        error::RecordError,
        event::{CloseReason, RoomEvent},
        model::{Marker, RecordingState, RoomSettings},
        policy::RoomPolicy,
    },
};
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
    let Some(RecordingNotice::Ended { result, participants, .. }) = house.notice().await else { panic!() };
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
        // `Started` of each stays in the queue of 16.
        a.done().await;
        if let Ok(RecordingNotice::Started { .. }) = house.notices.try_recv() {}
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
    assert!(matches!(refused, Err(RecordError::Catalogue(_))), "{refused:?}");
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
    assert!(house.notices.try_recv().is_err());
    a.publish("cam").await;
    house.note_recording().await;
    assert_eq!(state(&mut a).await.0, RecordingState::Starting);
    a.publish_screen("screen").await;
    a.done().await;
    assert!(matches!(house.notice().await, Some(RecordingNotice::Started { .. })));
    assert!(house.notices.try_recv().is_err(), "only once");
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
