//! Cameras as participants.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use salon::{
    effect::EffectRequest,
    ingest::{
        AllowList, IngestUri,
        rtsp::{Source, Transport},
    },
    media::{
        CodecName, Kind, MediaEvent,
        fake::Call,
        ingest::{IngestState, IngestStatus},
    },
    room::{
        RoomHandle,
        command::Caller,
        error::{ChangeError, IngestError, NameError},
        event::{LeaveReason, RoomEvent},
        model::{EffectsOf, IngestRequest, Role, Subscribe},
    },
};

use super::harness::{house, request};

fn camera(name: &str) -> IngestRequest {
    let (uri, credentials) = IngestUri::parse("rtsp://admin:s3cret@192.168.7.9/live?token=t0ken").unwrap();
    let allow = AllowList::default();
    let source =
        Source { uri, credentials, transport: Transport::Tcp, allow, fingerprint: None, video: true, audio: true };
    IngestRequest { name: name.into(), source, latency: Duration::from_millis(100), on_demand: false }
}

async fn room(house: &super::harness::House) -> RoomHandle {
    house.registry.find_or_create("math").unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_camera_is_a_participant_whose_tracks_are_watched_like_anybodys() {
    let mut house = house();
    let room = room(&house).await;
    let mut guest = house.guest("math", "Kim").await;
    let _ = room.subscribe(guest.id.clone(), Subscribe::All).await.unwrap();
    let added = room.add_ingest(Caller::Owner, camera(" Door ")).await.unwrap();
    assert_eq!((added.name.as_str(), added.uri.as_str()), ("Door", "rtsp://192.168.7.9:554/live?…"));
    let joined = guest.find(|event| match event {
        RoomEvent::ParticipantJoined { participant } => Some(participant),
        _ => None,
    });
    let joined = joined.await;
    assert_eq!((&joined.id, joined.role, joined.connected), (&added.id, Role::Publisher, true));
    assert_eq!(joined.ingest.unwrap().state, IngestState::Connecting);
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let track = guest.find(|event| match event {
            RoomEvent::TrackPublished { participant, track } => Some((participant, track)),
            _ => None,
        });
        let (participant, track) = track.await;
        assert_eq!(participant, added.id);
        kinds.push(track.kind);
    }
    assert_eq!(kinds, [Kind::Video, Kind::Audio]);
    let offer = guest.find(|event| match event {
        RoomEvent::Offer { participant, tracks, .. } => Some((participant, tracks.len())),
        _ => None,
    });
    assert_eq!(offer.await, (Some(added.id.clone()), 2));

    let media = house.calls.find(|call| match call {
        Call::Ingest(connection, ingest) => Some((connection, ingest)),
        _ => None,
    });
    let (connection, ingest) = media.await;
    assert_eq!(ingest.source.credentials, camera("x").source.credentials, "the engine needs them");
    let status = IngestStatus {
        state: IngestState::Waiting,
        reason: Some("unreachable"),
        detail: Some("192.168.7.9:554 did not take the connection".into()),
        ..Default::default()
    };
    house.engine.tell("math", MediaEvent::IngestChanged { connection: connection.clone(), status }).await;
    let updated = guest.find(|event| match event {
        RoomEvent::ParticipantUpdated { participant } if participant.id == added.id => Some(participant),
        _ => None,
    });
    let updated = updated.await;
    assert_eq!(updated.tracks.len(), 2, "they stay");
    let told = serde_json::to_string(&updated).unwrap();
    assert!(told.contains("unreachable") && !told.contains("192.168"), "{told}");
    let listed = serde_json::to_string(&room.ingests(Caller::Owner).await.unwrap()).unwrap();
    assert!(listed.contains("did not take") && !listed.contains("s3cret") && !listed.contains("t0ken"), "{listed}");

    room.remove_ingest(Caller::Owner, added.id.clone()).await.unwrap();
    let left = guest.find(|event| match event {
        RoomEvent::ParticipantLeft { participant, reason } => Some((participant, reason)),
        _ => None,
    });
    assert_eq!(left.await, (added.id.clone(), LeaveReason::Removed));
    let closed = house.calls.find(|call| match call {
        Call::Close(closed) if closed == connection => Some(()),
        _ => None,
    });
    closed.await;
    assert_eq!(room.remove_ingest(Caller::Owner, added.id).await, Err(IngestError::Unknown));
    assert_eq!(room.remove_ingest(Caller::Owner, guest.id).await, Err(IngestError::Unknown), "a person is no camera");
}

#[tokio::test(start_paused = true)]
async fn a_room_with_a_camera_stays_and_its_first_guest_is_moderator() {
    let house = house();
    let room = room(&house).await;
    let added = room.add_ingest(Caller::Owner, camera("Door")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!room.is_closed());
    let guest = house.guest("math", "Kim").await;
    assert_eq!(guest.joined.role, Role::Moderator);
    room.remove_ingest(Caller::Owner, added.id).await.unwrap();
    room.leave(guest.id).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(room.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_camera_has_a_name_and_a_place() {
    let house = house();
    let room = room(&house).await;
    assert_eq!(room.add_ingest(Caller::Owner, camera("  ")).await.unwrap_err(), IngestError::Name(NameError::Empty));
    let change = salon::room::model::RoomChange { max_participants: Some(1), ..Default::default() };
    room.change(change).await.unwrap();
    room.add_ingest(Caller::Owner, camera("Door")).await.unwrap();
    assert_eq!(room.add_ingest(Caller::Owner, camera("Yard")).await.unwrap_err(), IngestError::Full { most: 1 });
    assert!(house.try_join("math", request("Kim")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn moderators_add_cameras_and_others_do_not() {
    let house = house();
    let moderator = house.guest("math", "Kim").await;
    let (publisher, viewer) = (house.guest("math", "Lee").await, house.viewer("math", "Park").await);
    let room = room(&house).await;
    let caller = |guest: &super::harness::Guest| Caller::Participant(guest.id.clone());
    for guest in [&publisher, &viewer] {
        assert_eq!(room.add_ingest(caller(guest), camera("Door")).await, Err(IngestError::NotAllowed));
        assert_eq!(room.ingests(caller(guest)).await, Err(IngestError::NotAllowed), "nor see where they are");
    }
    let added = room.add_ingest(caller(&moderator), camera("Door")).await.unwrap();
    assert_eq!(room.remove_ingest(caller(&viewer), added.id.clone()).await, Err(IngestError::NotAllowed));
    room.remove_ingest(caller(&moderator), added.id).await.unwrap();
    let gone = Caller::Participant("p_nobody".parse().unwrap());
    assert_eq!(room.ingests(gone).await, Err(IngestError::NotInRoom));
    for number in 0..16 {
        room.add_ingest(Caller::Owner, camera(&format!("Door {number}"))).await.unwrap();
    }
    let one_more = room.add_ingest(Caller::Owner, camera("Door")).await;
    assert_eq!(one_more, Err(IngestError::TooMany { most: 16 }));
}

#[tokio::test(start_paused = true)]
async fn moderators_mute_a_camera_and_give_it_its_voice_back_and_others_do_not() {
    let mut house = house();
    let moderator = house.guest("math", "Kim").await;
    let mut publisher = house.guest("math", "Lee").await;
    let room = room(&house).await;
    room.add_ingest(Caller::Owner, camera("Door")).await.unwrap();
    let track = publisher.find(|event| match event {
        RoomEvent::TrackPublished { track, .. } if track.kind == Kind::Audio => Some(track.id),
        _ => None,
    });
    let track = track.await;
    let mute =
        |guest: &super::harness::Guest, muted| room.mute(Caller::Participant(guest.id.clone()), track.clone(), muted);
    assert_eq!(mute(&publisher, true).await, Err(ChangeError::NotAllowed));
    for muted in [true, false] {
        mute(&moderator, muted).await.unwrap();
        let told = publisher.find(|event| match event {
            RoomEvent::TrackUpdated { track: updated, .. } if updated.id == track => Some(updated.muted),
            _ => None,
        });
        assert_eq!(told.await, muted);
        let done = house.calls.find(|call| match call {
            Call::MuteIngest(id, muted) if id == track => Some(muted),
            _ => None,
        });
        assert_eq!(done.await, muted, "a camera cannot be asked to be silent");
        if muted {
            assert_eq!(mute(&publisher, false).await, Err(ChangeError::NotAllowed));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn effects_that_are_put_on_a_camera_before_it_opens_are_on_when_it_does() {
    let mut house = house();
    let room = room(&house).await;
    house.engine.set_silent(true);
    let added = room.add_ingest(Caller::Owner, camera("Door")).await.unwrap();
    let blur = EffectRequest { name: "blur".into(), ..Default::default() };
    room.set_effects(Caller::Owner, EffectsOf::Participant(added.id), vec![blur]).await.unwrap();
    let opened = house.calls.find(|call| match call {
        Call::Ingest(connection, ingest) => Some((connection, ingest.video.unwrap())),
        _ => None,
    });
    let (connection, track) = opened.await;
    let tracks = vec![(track.clone(), CodecName::H264)];
    house.engine.tell("math", MediaEvent::IngestOpened { connection, tracks }).await;
    let effected = house.calls.find(|call| match call {
        Call::SetEffects(track, chain) if !chain.is_empty() => Some(track),
        _ => None,
    });
    assert_eq!(effected.await, track);
}
