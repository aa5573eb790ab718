//! Who may come in, as what, how he comes back, and how he goes.

use std::time::Duration;

use salon::room::{
    command::Caller,
    error::{ChangeError, JoinError, NameError},
    event::{LeaveReason, RoomEvent},
    model::{JoinRequest, Role, RoomSettings, Signal},
    policy::RoomPolicy,
};
use serde_json::json;
use tokio::time::{Instant, advance};

use super::harness::{Guest, House, house, house_with, request};

fn as_role(name: &str, role: Role) -> JoinRequest {
    JoinRequest { role: Some(role), ..request(name) }
}

async fn left(guest: &mut Guest) -> (salon::room::id::ParticipantId, LeaveReason) {
    guest
        .find(|event| match event {
            RoomEvent::ParticipantLeft { participant, reason } => Some((participant, reason)),
            _ => None,
        })
        .await
}

async fn updated(guest: &mut Guest) -> salon::room::model::ParticipantView {
    guest
        .find(|event| match event {
            RoomEvent::ParticipantUpdated { participant } => Some(participant),
            _ => None,
        })
        .await
}

async fn say(guest: &Guest, text: &str) -> Result<(), ChangeError> {
    guest.room.signal(guest.id.clone(), "chat".into(), None, json!(text)).await
}

fn signals(events: Vec<RoomEvent>) -> Vec<Signal> {
    let signal = |event| match event {
        RoomEvent::Signal(signal) => Some(signal),
        _ => None,
    };
    events.into_iter().filter_map(signal).collect()
}

#[tokio::test(start_paused = true)]
async fn the_first_is_moderator_and_roles_go_down_but_not_up_by_asking() {
    let house = house();
    let first = house.guest("r", "first").await;
    assert_eq!(first.joined.role, Role::Moderator);
    let second = house.try_join("r", as_role("second", Role::Moderator)).await.unwrap();
    assert_eq!(second.joined.role, Role::Publisher);
    let third = house.viewer("r", "third").await;
    assert_eq!(third.joined.role, Role::Viewer);
    let names: Vec<_> = third.joined.room.participants.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["first", "second", "third"], "in the order they came, oneself included");
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_less_does_not_become_moderator() {
    let house = house();
    let viewer = house.viewer("r", "viewer").await;
    assert_eq!(viewer.joined.role, Role::Viewer);
    let obs = house.try_join("r", as_role("obs", Role::Publisher)).await.unwrap();
    assert_eq!(obs.joined.role, Role::Publisher);
    let mut teacher = house.guest("r", "teacher").await;
    assert_eq!(teacher.joined.role, Role::Moderator);
    let mut heir = house.guest("r", "heir").await;
    teacher.told().await;
    teacher.leave().await;
    assert_eq!(left(&mut heir).await.1, LeaveReason::Left);
    let now = updated(&mut heir).await;
    assert_eq!((now.id, now.role), (heir.id.clone(), Role::Moderator), "not the longest-present, who asked for less");
}

#[tokio::test(start_paused = true)]
async fn nicknames_are_checked_on_joining_and_on_renaming() {
    let house = house();
    let refused = |error| Some(JoinError::Name(error));
    let long = "x".repeat(10_000);
    let error = house.try_join("r", request(&long)).await.err();
    assert_eq!(error, refused(NameError::TooLong { length: 10_000, most: 64 }));
    assert_eq!(house.try_join("r", request("  ")).await.err(), refused(NameError::Empty));
    let mut a = house.guest("r", " 김철수 & <b> ").await;
    let b = house.guest("r", "b").await;
    assert_eq!(a.joined.room.participants[0].name, "김철수 & <b>");
    let bad = b.room.rename(b.id.clone(), "a\nb".into()).await;
    assert_eq!(bad, Err(ChangeError::Name(NameError::Character('\n'))));
    b.room.rename(b.id.clone(), " 영희 ".into()).await.unwrap();
    assert_eq!(updated(&mut a).await.name, "영희");
}

#[tokio::test(start_paused = true)]
async fn a_pin_keeps_strangers_out_and_guessing_is_locked() {
    let house = house();
    let settings = RoomSettings { pin: Some("2468".into()), ..RoomSettings::default() };
    house.registry.create("r", settings).unwrap();
    let with = |pin: &str| JoinRequest { pin: Some(pin.into()), ..request("a") };
    assert_eq!(house.try_join("r", request("a")).await.err(), Some(JoinError::PinRequired));
    for wrong in ["1", "2", "3", "4", "5"] {
        assert_eq!(house.try_join("r", with(wrong)).await.err(), Some(JoinError::WrongPin));
    }
    assert_eq!(house.try_join("r", with("2468")).await.err(), Some(JoinError::PinLocked { wait_s: 30 }));
    advance(Duration::from_secs(29)).await;
    assert_eq!(house.try_join("r", with("2468")).await.err(), Some(JoinError::PinLocked { wait_s: 1 }));
    // Nobody is in yet, but the room has its server's linger: it was made 29 s ago.
    advance(Duration::from_millis(999)).await;
    assert!(house.registry.find("r").is_some());
}

#[tokio::test(start_paused = true)]
async fn the_lock_opens_after_thirty_seconds_for_the_right_pin() {
    let house = house();
    let with = |pin: &str| JoinRequest { pin: Some(pin.into()), ..request("a") };
    house.try_join("r", with("2468")).await.unwrap();
    for _ in 0..5 {
        assert_eq!(house.try_join("r", with("0")).await.err(), Some(JoinError::WrongPin));
    }
    assert!(matches!(house.try_join("r", with("2468")).await.err(), Some(JoinError::PinLocked { .. })));
    advance(Duration::from_secs(30)).await;
    assert_eq!(house.try_join("r", with("2468")).await.unwrap().joined.room.participants.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_room_lets_in_again_when_somebody_leaves() {
    let house = house_with(RoomPolicy { max_participants: 2, ..RoomPolicy::default() });
    let a = house.guest("r", "a").await;
    let _b = house.guest("r", "b").await;
    assert_eq!(house.try_join("r", request("c")).await.err(), Some(JoinError::Full { most: 2 }));
    a.leave().await;
    house.guest("r", "c").await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_session_may_come_back_for_seven_seconds() {
    let house = house();
    let mut a = house.guest("r", "a").await;
    let mut b = house.guest("r", "b").await;
    let lost = Instant::now();
    b.detach().await;
    let now = updated(&mut a).await;
    assert_eq!((now.id, now.connected), (b.id.clone(), false));
    advance(Duration::from_millis(6_900)).await;
    let id = b.id.clone();
    b.resume(&house, "r").await.unwrap();
    assert!(b.joined.resumed && b.id == id && b.joined.participant == id);
    assert!(updated(&mut a).await.connected);

    b.detach().await;
    let (who, reason) = left(&mut a).await;
    assert_eq!((who, reason), (id, LeaveReason::Lost));
    assert!(lost.elapsed() < Duration::from_millis(6_900 + 7_100), "{:?}", lost.elapsed());
    assert_eq!(b.resume(&house, "r").await, Err(JoinError::ResumeUnknown));
    assert_eq!(b.resume(&house, "elsewhere").await, Err(JoinError::ResumeUnknown));
}

#[tokio::test(start_paused = true)]
async fn coming_back_while_the_old_session_hangs_on_replaces_it() {
    let house = house();
    let mut a = house.guest("r", "a").await;
    let (old_session, mut old_events) = (a.session, tokio::sync::mpsc::channel(1).1);
    std::mem::swap(&mut a.events, &mut old_events);
    a.resume(&house, "r").await.unwrap();
    assert_eq!(old_events.recv().await, Some(RoomEvent::Removed { reason: LeaveReason::Replaced }));
    assert_eq!(old_events.recv().await, None);
    // The old session's detach comes late and means nothing.
    a.room.detach(a.id.clone(), old_session).await;
    advance(Duration::from_secs(20)).await;
    assert!(a.room.view().await.unwrap().participants[0].connected);
}

#[tokio::test(start_paused = true)]
async fn a_session_dropped_without_a_word_is_found() {
    let house = house();
    let mut a = house.guest("r", "a").await;
    let b = house.guest("r", "b").await;
    let dropped = Instant::now();
    drop(b.events);
    assert_eq!(left(&mut a).await, (b.id, LeaveReason::Lost));
    assert!(dropped.elapsed() <= Duration::from_secs(10), "{:?}", dropped.elapsed());
}

#[tokio::test(start_paused = true)]
async fn messages_sent_while_one_was_away_reach_him() {
    let house = house();
    let a = house.guest("r", "a").await;
    let mut b = house.guest("r", "b").await;
    b.detach().await;
    say(&a, "are you there?").await.unwrap();
    b.resume(&house, "r").await.unwrap();
    let told = signals(b.told().await);
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].data.clone(), told[0].from.clone()), (json!("are you there?"), a.id.clone()));
}

#[tokio::test(start_paused = true)]
async fn a_join_nobody_waits_for_is_undone() {
    let house = house();
    let mut a = house.guest("r", "a").await;
    let (sender, _events) = tokio::sync::mpsc::channel(1);
    drop(a.room.join(request("ghost"), salon::room::command::SessionId::next(), sender));
    assert_eq!(a.told().await, []);
    assert_eq!(a.room.view().await.unwrap().participants.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_removed_and_the_others_play_on() {
    let house = house();
    let mut reader = house.guest("r", "reader").await;
    let mut slow = house.join_with_queue("r", request("slow"), 8).await.unwrap();
    for round in 0..9 {
        say(&reader, &round.to_string()).await.unwrap();
    }
    assert_eq!(left(&mut reader).await, (slow.id.clone(), LeaveReason::TooSlow));
    assert_eq!(slow.told().await.len(), 8, "what fitted is still there");
    assert!(slow.ended().await);
    assert_eq!(slow.resume(&house, "r").await, Err(JoinError::ResumeUnknown));
    say(&reader, "on we go").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_moderator_removes_others_do_not() {
    let house = house();
    let mut host = house.guest("r", "host").await;
    let mut b = house.guest("r", "b").await;
    let remove = |who: &Guest, whom: &Guest| who.room.remove(Caller::Participant(who.id.clone()), whom.id.clone());
    assert_eq!(remove(&b, &host).await, Err(ChangeError::NotAllowed));
    remove(&host, &b).await.unwrap();
    assert_eq!(b.told().await.last(), Some(&RoomEvent::Removed { reason: LeaveReason::Removed }));
    assert!(b.ended().await);
    assert_eq!(left(&mut host).await, (b.id.clone(), LeaveReason::Removed));
    assert_eq!(remove(&host, &b).await, Err(ChangeError::NoSuchParticipant));
    assert_eq!(remove(&b, &host).await, Err(ChangeError::NotInRoom));
    host.room.remove(Caller::Owner, host.id.clone()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn messages_go_to_all_or_to_the_named_and_come_back_to_the_sender() {
    let house = house();
    let mut a = house.guest("r", "a").await;
    let mut b = house.guest("r", "b").await;
    let mut c = house.viewer("r", "c").await;
    say(&c, "to all").await.unwrap();
    a.room.signal(a.id.clone(), "private".into(), Some(vec![b.id.clone()]), json!(1)).await.unwrap();
    let heard = |events: Vec<RoomEvent>| signals(events).into_iter().map(|s| s.data).collect::<Vec<_>>();
    assert_eq!(heard(a.told().await), [json!("to all"), json!(1)]);
    assert_eq!(heard(b.told().await), [json!("to all"), json!(1)]);
    assert_eq!(heard(c.told().await), [json!("to all")]);
    let unknown = a.room.signal(a.id.clone(), "x".into(), Some(vec!["p_nobody".parse().unwrap()]), json!(1)).await;
    assert_eq!(unknown, Err(ChangeError::NoSuchParticipant));
    let long = a.room.signal(a.id.clone(), "chat".into(), None, json!("x".repeat(16 * 1024))).await;
    assert_eq!(long, Err(ChangeError::TooLong { what: "data", most: 16 * 1024 }));
    let long = a.room.signal(a.id.clone(), "k".repeat(65), None, json!(1)).await;
    assert_eq!(long, Err(ChangeError::TooLong { what: "kind", most: 64 }));
}

#[tokio::test(start_paused = true)]
async fn more_than_a_person_would_send_is_refused() {
    let house = house();
    let a = house.guest("r", "a").await;
    for _ in 0..30 {
        say(&a, "x").await.unwrap();
    }
    assert_eq!(say(&a, "x").await, Err(ChangeError::TooFast));
    advance(Duration::from_millis(100)).await;
    say(&a, "x").await.unwrap();
    assert_eq!(say(&a, "x").await, Err(ChangeError::TooFast));
}

#[tokio::test(start_paused = true)]
async fn an_access_token_names_its_holder_while_he_is_in() {
    let house = house();
    let a = house.guest("r", "a").await;
    let _stays = house.guest("r", "b").await;
    let whois = |house: &House| {
        let room = house.registry.find("r").unwrap();
        let access = a.joined.access.clone();
        async move { room.whois(access).await.unwrap() }
    };
    assert_eq!(whois(&house).await, Some((a.id.clone(), Role::Moderator)));
    a.leave().await;
    assert_eq!(whois(&house).await, None);
}
