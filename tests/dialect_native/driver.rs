//! The driver over a pipe in memory, with a paused clock.

use std::time::Duration;

use salon::{
    dialect::native::driver::{Incoming, Outgoing, drive},
    room::{guests::Address, policy::RoomPolicy},
};
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};

use super::{
    client::{Client, House, house, house_with, sink, stream},
    scenario::{self, Client as _, Door},
    transcript::replay_in_memory,
};

impl Door for House {
    type Client = Client;

    fn registry(&self) -> &std::sync::Arc<salon::room::Registry> {
        &self.hub.registry
    }

    async fn connect(&self) -> Client {
        Client::in_memory(&self.hub)
    }
}

#[tokio::test(start_paused = true)]
async fn the_scenario_of_all_dialects() {
    scenario::join_publish_subscribe_mute_leave(&house()).await;
}

#[tokio::test(start_paused = true)]
async fn one_to_many() {
    replay_in_memory(include_str!("../fixtures/native/one_to_many.txt"), &house()).await;
}

#[tokio::test(start_paused = true)]
async fn one_to_one_with_a_pin() {
    replay_in_memory(include_str!("../fixtures/native/one_to_one_pin.txt"), &house()).await;
}

#[tokio::test(start_paused = true)]
async fn bad_input_has_its_own_code_each_and_the_room_plays_on() {
    replay_in_memory(include_str!("../fixtures/native/bad_input.txt"), &house()).await;
}

#[tokio::test(start_paused = true)]
async fn coming_back() {
    replay_in_memory(include_str!("../fixtures/native/coming_back.txt"), &house()).await;
}

#[tokio::test(start_paused = true)]
async fn a_killed_client_is_gone_within_ten_seconds() {
    let house = house();
    let (mut stays, mut killed) = (house.connect().await, house.connect().await);
    stays.join("r", "stays").await;
    killed.join("r", "killed").await;
    let start = Instant::now();
    drop(killed);
    let left = stays.event("participant-left").await;
    assert_eq!(left["reason"], "lost");
    assert!(start.elapsed() <= Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_given_up_after_nine_seconds_and_an_idle_one_is_not() {
    let house = house();
    let (mut stays, mut pulled) = (house.connect().await, house.connect().await);
    stays.join("r", "stays").await;
    pulled.join("r", "pulled").await;
    let start = Instant::now();
    pulled.fall_silent();
    let gone = |frame: &serde_json::Value| frame["participant"]["connected"] == false;
    stays.find("a detached participant", gone).await;
    // Counted from his last sign of life, at most one ping before.
    let silent = start.elapsed();
    assert!(silent > Duration::from_secs(6) && silent <= Duration::from_secs(9), "{silent:?}");
    stays.event("participant-left").await;
    for _ in 0..120 {
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    stays.ask_ok(json!({ "type": "rename", "name": "still here" })).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_dropped() {
    let house = house();
    let mut talker = house.connect().await;
    talker.join("r", "talker").await;
    let (to_server, incoming) = mpsc::unbounded_channel();
    let (outgoing, never_read) = mpsc::channel(1);
    let hub = house.hub.clone();
    let served = tokio::spawn(async move { drive(&hub, Address::default(), stream(incoming), sink(outgoing)).await });
    let join = json!({ "type": "join", "room": "r", "name": "deaf" });
    to_server.send(Incoming::Text(join.to_string())).unwrap();
    talker.event("participant-joined").await;
    let start = Instant::now();
    let left = talker.event("participant-left").await;
    assert_eq!(left["reason"], "lost");
    assert!(start.elapsed() <= Duration::from_secs(16), "{:?}", start.elapsed());
    drop(to_server);
    served.await.unwrap();
    drop(never_read);
}

#[tokio::test(start_paused = true)]
async fn an_answer_comes_before_the_events_that_follow_from_it() {
    let house = house();
    let mut a = house.connect().await;
    a.join("r", "a").await;
    a.publish().await;
    let (to_server, incoming) = mpsc::unbounded_channel();
    let (outgoing, mut frames) = mpsc::channel(64);
    let hub = house.hub.clone();
    tokio::spawn(async move { drive(&hub, Address::default(), stream(incoming), sink(outgoing)).await });
    let verbs = [
        json!({ "id": 1, "type": "join", "room": "r", "name": "b" }),
        json!({ "id": 2, "type": "subscribe", "all": true }),
        json!({ "id": 3, "type": "rename", "name": "B" }),
    ];
    for verb in verbs {
        to_server.send(Incoming::Text(verb.to_string())).unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < 5 {
        if let Some(Outgoing::Text(text)) = frames.recv().await {
            let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
            seen.push(frame.get("id").unwrap_or(&frame["type"]).to_string());
        }
    }
    let place = |what: &str| seen.iter().position(|seen| seen == what).unwrap_or_else(|| panic!("{what} in {seen:?}"));
    assert_eq!(place("1"), 0);
    assert!(place("2") < place("\"offer\""));
    assert!(place("3") < place("\"participant-updated\""));
}

#[tokio::test(start_paused = true)]
async fn a_room_that_breaks_closes_its_sockets() {
    let house = house();
    let (mut a, mut b) = (house.connect().await, house.connect().await);
    a.join("r", "a").await;
    b.join("r", "b").await;
    house.engine.panic_next();
    let answer = a.ask(json!({ "type": "publish", "connection": "cam", "sdp": super::client::offer() })).await;
    assert_eq!(answer["code"], "room_closed");
    assert_eq!(a.closed().await, Some(1011));
    assert_eq!(b.closed().await, Some(1011));
    house.connect().await.join("r", "again").await;
}

#[tokio::test(start_paused = true)]
async fn closing_the_room_tells_and_closes() {
    let house = house();
    let mut a = house.connect().await;
    a.join("r", "a").await;
    house.hub.registry.shutdown(Duration::from_secs(20)).await;
    assert_eq!(a.event("room-closed").await["reason"], "shutdown");
    assert_eq!(a.closed().await, Some(1000));
    let mut late = house.connect().await;
    let refused = late.ask(json!({ "type": "join", "room": "r", "name": "late" })).await;
    assert_eq!(refused["code"], "shutting_down");
}

#[tokio::test(start_paused = true)]
async fn a_join_whose_socket_ended_leaves_nobody_behind() {
    let house = house_with(RoomPolicy { max_participants: 1, ..RoomPolicy::default() });
    for _ in 0..20 {
        let (to_server, incoming) = mpsc::unbounded_channel();
        let (outgoing, _frames) = mpsc::channel(64);
        let join = json!({ "type": "join", "room": "r", "name": "ghost" });
        to_server.send(Incoming::Text(join.to_string())).unwrap();
        drop(to_server);
        drive(&house.hub, Address::default(), stream(incoming), sink(outgoing)).await;
    }
    let start = Instant::now();
    let room = house.hub.registry.find("r");
    if let Some(room) = room {
        while room.view().await.is_ok_and(|view| !view.participants.is_empty()) {
            tokio::time::advance(Duration::from_millis(100)).await;
            assert!(start.elapsed() < Duration::from_secs(10), "the ghosts stay");
        }
    }
    house.connect().await.join("r", "real").await;
}

#[tokio::test(start_paused = true)]
async fn a_recording_over_the_socket() {
    let mut house = house();
    let (mut host, mut guest) = (house.connect().await, house.connect().await);
    host.join("r", "host").await;
    guest.join("r", "guest").await;
    host.send(&json!({ "id": 1, "type": "record", "action": "start", "width": 640, "height": 360, "name": "수업" }));
    let Some(salon::recording::RecordingNotice::Begin { recording, room, spec, .. }) = house.notices.recv().await
    else {
        panic!("no beginning")
    };
    assert_eq!((spec.width, spec.height, spec.fps, spec.name.as_deref()), (640, 360, 25, Some("수업")));
    room.journalled(recording.clone(), Ok("made-up.mp4".into())).await;
    let answer = host.find("the answer", |frame| frame["id"] == 1).await;
    assert_eq!((&answer["type"], &answer["recording"]["state"]), (&json!("ok"), &json!("starting")));
    let told = guest.find("a running recording", |frame| frame["recording"]["state"] == "recording").await;
    assert_eq!((&told["type"], &told["recording"]["id"]), (&json!("recording"), &json!(recording)));
    let stopped = host.ask_ok(json!({ "type": "record", "action": "stop", "recording": recording })).await;
    assert_eq!(stopped["recording"]["state"], "finalising");
}
