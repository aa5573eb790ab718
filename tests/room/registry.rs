//! Rooms appear, close, and are never in the way of a room of the same name.

use std::{net::IpAddr, time::Duration};

use salon::{
    recording::RecordingNotice,
    room::{
        command::SessionId,
        error::{CreateError, JoinError, ListenError, NameError, RoomGone},
        event::{CloseReason, RoomEvent},
        guests::Address,
        model::{JoinRequest, RoomChange, RoomSettings},
        policy::RoomPolicy,
    },
};
use tokio::time::{Instant, advance, timeout};

use super::harness::{PATIENCE, house, house_with, request};

/// The race to test first: whoever joins while a room closes gets a fresh one and never an error,
/// at whichever moment he comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn joining_while_the_room_closes_gives_a_fresh_room() {
    let house = house();
    for round in 0..300_u32 {
        // One address makes so many rooms a minute.
        let from = IpAddr::from(round.to_be_bytes()).into();
        let guest = |name| house.try_join("race", JoinRequest { from, ..request(name) });
        let first = guest("first").await.unwrap();
        let closing = tokio::spawn({
            let room = first.room.clone();
            async move { room.close(CloseReason::Deleted).await }
        });
        if round % 3 == 0 {
            tokio::task::yield_now().await;
        }
        let second = guest("second").await.unwrap();
        let _ = closing.await.unwrap();
        // He is in a room that stands, or was in the old one and told that it closed.
        let mut second = second;
        if second.room.is_closed() {
            timeout(PATIENCE, second.find(|event| matches!(event, RoomEvent::RoomClosed { .. }).then_some(())))
                .await
                .unwrap();
        } else {
            assert!(second.room.view().await.unwrap().participants.iter().any(|p| p.id == second.id));
            second.room.close(CloseReason::Deleted).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_slow_to_close_is_replaced_at_once() {
    let house = house();
    house.engine.hold_shutdowns();
    let old = house.guest("r", "old").await;
    let closing = tokio::spawn({
        let room = old.room.clone();
        async move { room.close(CloseReason::Deleted).await }
    });
    while !old.room.is_closed() {
        tokio::task::yield_now().await;
    }
    assert!(house.registry.find("r").is_none());
    assert!(house.registry.list().is_empty());
    let fresh = house.guest("r", "fresh").await;
    assert_eq!(fresh.joined.room.participants.len(), 1);
    assert!(!closing.is_finished(), "the old room still ends its media");
    house.engine.finish_shutdowns();
    closing.await.unwrap().unwrap();
    assert!(house.registry.find("r").is_some(), "the old room's end does not take the fresh one's place");
}

#[tokio::test(start_paused = true)]
async fn a_room_closes_when_the_linger_is_over_and_not_before() {
    let house = house();
    let guest = house.guest("r", "a").await;
    guest.leave().await;
    let left = Instant::now();
    tokio::time::advance(Duration::from_secs(29)).await;
    assert!(guest.room.view().await.is_ok());
    while !guest.room.is_closed() {
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    let stood = left.elapsed();
    assert!(stood >= Duration::from_secs(30) && stood < Duration::from_secs(31), "{stood:?}");
    assert!(matches!(guest.room.view().await, Err(RoomGone::Closed)));
}

#[tokio::test(start_paused = true)]
async fn coming_back_within_the_linger_keeps_the_room() {
    let house = house();
    let guest = house.guest("r", "a").await;
    let created = guest.joined.room.created_at;
    guest.leave().await;
    tokio::time::advance(Duration::from_secs(20)).await;
    let again = house.guest("r", "b").await;
    assert_eq!(again.joined.room.created_at, created);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(again.room.view().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_room_made_with_no_linger_waits_for_its_first_guest() {
    let house = house();
    let settings = RoomSettings { linger_s: Some(0), ..RoomSettings::default() };
    let room = house.registry.create("r", settings).unwrap();
    tokio::time::advance(Duration::from_secs(20)).await;
    let guest = house.guest("r", "a").await;
    assert_eq!(guest.joined.room.created_at, room.view().await.unwrap().created_at);
    guest.leave().await;
    timeout(Duration::from_secs(1), async {
        while !room.is_closed() {
            tokio::time::advance(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_room_that_panics_leaves_the_registry_and_harms_nobody_else() {
    let mut house = house();
    let mut guest = house.guest("broken", "a").await;
    let neighbour = house.guest("whole", "b").await;
    house.engine.panic_next();
    assert!(guest.try_publish("cam", &super::harness::offer()).await.is_err());
    assert!(guest.ended().await);
    assert!(house.registry.find("broken").is_none());
    assert!(neighbour.room.view().await.is_ok());
    // The keeper alone can end what the room recorded.
    let Some(RecordingNotice::RoomFailed { room }) = house.notice().await else { panic!("nobody is told") };
    assert!(room.is_same(&guest.room));
    assert_eq!(house.guest("broken", "again").await.joined.room.participants.len(), 1);
    assert_eq!(house.registry.list().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn rooms_are_checked_listed_and_limited() {
    let house = house_with(RoomPolicy { max_rooms: 2, ..RoomPolicy::default() });
    let create = |name: &str, settings| house.registry.create(name, settings).map(drop);
    assert_eq!(create("a/b", RoomSettings::default()), Err(CreateError::Name(NameError::Character('/'))));
    let setting = |settings| match create("x", settings) {
        Err(CreateError::Setting { setting, .. }) => setting,
        other => panic!("{other:?}"),
    };
    assert_eq!(setting(RoomSettings { pin: Some(String::new()), ..Default::default() }), "pin");
    assert_eq!(setting(RoomSettings { pin: Some("x".repeat(33)), ..Default::default() }), "pin");
    assert_eq!(setting(RoomSettings { max_participants: Some(0), ..Default::default() }), "max_participants");
    assert_eq!(setting(RoomSettings { max_participants: Some(51), ..Default::default() }), "max_participants");
    assert_eq!(setting(RoomSettings { linger_s: Some(86_401), ..Default::default() }), "linger_s");
    assert_eq!(setting(RoomSettings { codecs: Some(vec![]), ..Default::default() }), "codecs");
    create("b", RoomSettings::default()).unwrap();
    create("a", RoomSettings::default()).unwrap();
    assert_eq!(create("a", RoomSettings::default()), Err(CreateError::Exists));
    assert_eq!(create("c", RoomSettings::default()), Err(CreateError::TooManyRooms { most: 2 }));
    let names: Vec<_> = house.registry.list().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_join_that_fails_leaves_no_room_behind() {
    let house = house();
    let refused = house.try_join("r", request("\u{202E}")).await.err();
    assert_eq!(refused, Some(JoinError::Name(NameError::Character('\u{202E}'))));
    assert!(house.registry.list().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_room_that_appears_by_a_join_with_a_pin_has_it() {
    let house = house();
    let with_pin = |pin: Option<&str>| JoinRequest { pin: pin.map(str::to_owned), ..request("a") };
    house.try_join("r", with_pin(Some("1234"))).await.unwrap();
    assert_eq!(house.try_join("r", with_pin(None)).await.err(), Some(JoinError::PinRequired));
    assert_eq!(house.try_join("r", with_pin(Some("12345"))).await.err(), Some(JoinError::WrongPin));
    let guest = house.try_join("r", with_pin(Some("1234"))).await.unwrap();
    assert!(guest.joined.room.has_pin);
}

#[tokio::test(start_paused = true)]
async fn settings_change_while_the_room_stands() {
    let house = house();
    let guest = house.guest("r", "a").await;
    let bad = RoomChange { pin: Some("1".into()), max_participants: Some(0), linger_s: None };
    assert!(guest.room.change(bad).await.is_err());
    assert!(!guest.room.view().await.unwrap().has_pin, "a refused change changes nothing");
    let change = RoomChange { pin: Some("1".into()), max_participants: Some(1), linger_s: Some(5) };
    let view = guest.room.change(change).await.unwrap();
    assert!(view.has_pin && view.max_participants == 1);
    let open = RoomChange { pin: Some(String::new()), ..RoomChange::default() };
    assert!(!guest.room.change(open).await.unwrap().has_pin);
    assert_eq!(house.try_join("r", request("b")).await.err(), Some(JoinError::Full { most: 1 }));
}

#[tokio::test(start_paused = true)]
async fn shutdown_tells_everybody_and_refuses_new_rooms() {
    let house = house();
    let mut a = house.guest("one", "a").await;
    let mut b = house.guest("two", "b").await;
    house.registry.shutdown(Duration::from_secs(30)).await;
    for guest in [&mut a, &mut b] {
        assert_eq!(guest.event().await, RoomEvent::RoomClosed { reason: CloseReason::Shutdown });
        assert!(guest.ended().await);
    }
    let refused = house.try_join("three", request("c")).await.err();
    assert_eq!(refused, Some(JoinError::Create(CreateError::ShuttingDown)));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_does_not_end_does_not_hold_a_room_for_ever() {
    let house = house();
    house.engine.hold_shutdowns();
    let guest = house.guest("r", "a").await;
    let started = Instant::now();
    guest.room.close(CloseReason::Deleted).await.unwrap();
    assert!(started.elapsed() <= Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn listeners_hear_what_all_hear_until_the_room_ends() {
    let house = house();
    let guest = house.guest("r", "a").await;
    let (view, mut events) = guest.room.listen().await.unwrap();
    assert_eq!(view.participants.len(), 1);
    let (_, mut stalled) = guest.room.listen().await.unwrap();
    guest.room.rename(guest.id.clone(), "b".into()).await.unwrap();
    let Some(RoomEvent::ParticipantUpdated { participant }) = events.recv().await else { panic!() };
    assert_eq!(participant.name, "b");
    for round in 0..400 {
        guest.room.rename(guest.id.clone(), format!("n{round}")).await.unwrap();
        tokio::time::advance(Duration::from_millis(100)).await;
        events.recv().await.unwrap();
    }
    let mut kept = 0;
    while stalled.recv().await.is_some() {
        kept += 1;
    }
    assert!(kept < 400 && !guest.room.is_closed(), "a listener that does not read is let go: {kept}");
    guest.room.close(CloseReason::Deleted).await.unwrap();
    assert_eq!(events.recv().await, Some(RoomEvent::RoomClosed { reason: CloseReason::Deleted }));
    assert_eq!(events.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn nobody_fills_the_server_with_rooms() {
    let house = house();
    let from = |address: [u8; 4]| IpAddr::from(address).into();
    let join = async |room: String, address| {
        let joined = house.try_join(&room, JoinRequest { from: from(address), ..request("a") }).await;
        joined.map(|guest| guest.room)
    };
    for number in 0..60 {
        join(format!("r{number}"), [192, 0, 2, 1]).await.unwrap();
    }
    let refused = Some(JoinError::Create(CreateError::TooFast { wait_s: 1 }));
    assert_eq!(join("one more".into(), [192, 0, 2, 1]).await.err(), refused);
    let asked = house.registry.create_for_guest("one more", RoomSettings::default(), from([192, 0, 2, 1]));
    assert_eq!(asked.err(), Some(CreateError::TooFast { wait_s: 1 }));
    join("r0".into(), [192, 0, 2, 1]).await.expect("a room that stands is open to him");
    join("one more".into(), [192, 0, 2, 2]).await.expect("others are not concerned");
    advance(Duration::from_secs(1)).await;
    join("another".into(), [192, 0, 2, 1]).await.expect("later he may again");
}

#[tokio::test(start_paused = true)]
async fn one_listener_too_many_is_told_so() {
    let house = house();
    let room = house.guest("r", "a").await.room;
    let mut listening = Vec::new();
    for _ in 0..256 {
        listening.push(room.listen().await.unwrap());
    }
    assert_eq!(room.listen().await.err(), Some(ListenError::TooMany { most: 256 }));
    listening.pop();
    assert!(room.listen().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_access_token_is_looked_for_in_its_own_room_only() {
    let house = house();
    let (one, other) = (house.guest("one", "a").await, house.guest("other", "a").await);
    for guest in [&one, &other] {
        let room = house.registry.find_by_access(&guest.joined.access).unwrap();
        assert!(room.is_same(&guest.room));
    }
    for nobodys in [
        "",
        "a_",
        "a_0_",
        "a_0_short",
        "a_zz_00000000000000000000000000000000",
        "a_77_00000000000000000000000000000000",
    ] {
        assert!(house.registry.find_by_access(&nobodys.parse().unwrap()).is_none(), "{nobodys}");
    }
    one.room.close(CloseReason::Deleted).await.unwrap();
    assert!(house.registry.find_by_access(&one.joined.access).is_none());
}

#[tokio::test(start_paused = true)]
async fn opening_rooms_with_one_pin_after_the_other_is_no_way_past_the_lock() {
    let house = house();
    let guest_of = |pin: &str| JoinRequest { pin: Some(pin.into()), ..request("x") };
    let open = |pin: String| {
        let settings = RoomSettings { pin: Some(pin), linger_s: Some(0), ..RoomSettings::default() };
        house.registry.create_for_guest("r", settings, Address::default())
    };
    for guess in 0..5 {
        let room = open(format!("{guess}")).unwrap();
        room.close(CloseReason::Empty).await.unwrap();
    }
    let locked = Err(CreateError::PinLocked { wait_s: 30 });
    assert_eq!(open("5".into()).map(drop), locked);
    let (events, _receiver) = tokio::sync::mpsc::channel(8);
    let joined = house.registry.join("r", guest_of("6"), SessionId::next(), events).await.map(drop);
    assert_eq!(joined, locked.map_err(JoinError::Create));
    // Neither other names nor rooms without a PIN are touched by it.
    assert!(house.registry.create("other", RoomSettings { pin: Some("1".into()), ..Default::default() }).is_ok());
    house.registry.create("r", RoomSettings::default()).unwrap().close(CloseReason::Empty).await.unwrap();
    tokio::time::advance(Duration::from_secs(31)).await;
    assert!(open("7".into()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_guest_keeps_no_room_longer_than_the_server_would() {
    let house = house();
    let create = |linger_s| {
        let settings = RoomSettings { linger_s: Some(linger_s), ..RoomSettings::default() };
        house.registry.create_for_guest("r", settings, Address::default()).map(drop)
    };
    assert!(matches!(create(31), Err(CreateError::Setting { setting: "linger_s", .. })));
    assert_eq!(create(30), Ok(()));
}
