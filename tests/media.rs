//! The engine with real media: clients in GStreamer send colours and tones, and say what they decode.
#![cfg(feature = "gstreamer")]

mod common;

use std::time::{Duration, Instant};

use common::{
    client::{BLUE, Client, GREEN, RED, Sends},
    hall::{Hall, new_connection},
    soon,
};
use salon::media::{
    CodecName, MediaError, MediaEvent, Publication, PublishedMedia, RecordingSpec, Scene, Tile,
    gst::{CONNECT_TIMEOUT, counters},
    negotiation,
};
use salon::room::id::{ParticipantId, RecordingId, TrackId};

async fn both_ways(codec: CodecName) {
    let hall = Hall::open();
    let alice = hall.publish(Sends::both(codec, RED, 440)).await;
    let bob = hall.publish(Sends::both(codec, BLUE, 880)).await;
    let alice_watching = hall.watch(&bob.tracks).await;
    let bob_watching = hall.watch(&alice.tracks).await;
    alice_watching.client.sees_and_hears(BLUE, 880).await;
    bob_watching.client.sees_and_hears(RED, 440).await;
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_see_and_hear_each_other_in_vp8() {
    both_ways(CodecName::Vp8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_see_and_hear_each_other_in_h264() {
    both_ways(CodecName::H264).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_see_and_hear_each_other_in_vp9() {
    both_ways(CodecName::Vp9).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn camera_and_screen_of_one_publication_are_told_apart() {
    let hall = Hall::open();
    let sends = Sends { video: vec![(CodecName::Vp8, RED), (CodecName::Vp8, GREEN)], tone: None };
    let alice = hall.publish(sends).await;
    let camera = hall.watch(&alice.tracks[..1]).await;
    let screen = hall.watch(&alice.tracks[1..]).await;
    camera.client.until("the camera's picture", |seen| seen.is(RED) && seen.frames > 10).await;
    screen.client.until("the screen's picture", |seen| seen.is(GREEN) && seen.frames > 10).await;
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_late_sees_a_picture_within_two_seconds() {
    let hall = Hall::open();
    // Its encoder makes a keyframe only when it is asked for one.
    let alice = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    let early = hall.watch(&alice.tracks).await;
    early.client.sees_and_hears(RED, 440).await;
    let joined = Instant::now();
    let late = hall.watch(&alice.tracks).await;
    late.client.until("the first frame", |seen| seen.is(RED)).await;
    let took = joined.elapsed();
    println!("join to first frame: {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keyframe_requests_of_many_become_few() {
    let hall = Hall::open();
    let alice = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    let first = hall.watch(&alice.tracks).await;
    first.client.sees_and_hears(RED, 440).await;
    let (before, began) = (counters(), Instant::now());
    let viewers = futures_util::future::join_all((0..6).map(|_| hall.watch(&alice.tracks))).await;
    for viewer in &viewers {
        viewer.client.until("a picture", |seen| seen.is(RED)).await;
    }
    let requests = counters().keyframe_requests - before.keyframe_requests;
    let most = 1 + began.elapsed().as_millis() as u64 / 500;
    println!("{requests} keyframe requests for {} viewers in {:?}", viewers.len(), began.elapsed());
    assert!((1..=most).contains(&requests), "{requests} requests in {:?}", began.elapsed());
    assert!(counters().packets_forwarded > before.packets_forwarded);
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loudness_is_told_five_times_a_second() {
    let hall = Hall::open();
    let mut events = hall.events();
    let alice = hall.publish(Sends { video: vec![], tone: Some(440) }).await;
    let track = alice.tracks[0].clone();
    let mut level = async || {
        let is_level = |event: &MediaEvent| matches!(event, MediaEvent::AudioLevels(levels) if levels[0].0 == track);
        let MediaEvent::AudioLevels(levels) = events.until("a level", is_level).await else { unreachable!() };
        levels[0].1
    };
    level().await;
    let began = Instant::now();
    for _ in 0..5 {
        // A sine of half amplitude is 9 dB below a full-scale square wave.
        let peak = level().await.peak_db;
        assert!((-11..=-7).contains(&peak), "{peak}");
    }
    assert!(began.elapsed() > Duration::from_millis(800), "{:?}", began.elapsed());
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_answer_ends_that_connection_only() {
    let hall = Hall::open();
    let mut events = hall.events();
    let alice = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    let good = hall.watch(&alice.tracks).await;
    good.client.sees_and_hears(RED, 440).await;
    for answer in
        ["", "v=0", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n"]
    {
        let bad = new_connection("bad");
        hall.room(|room| {
            room.subscribe(bad.clone(), alice.tracks.clone());
            room.answer(&bad, answer.into());
        });
        let is_end =
            |event: &MediaEvent| matches!(event, MediaEvent::ConnectionEnded { connection, .. } if *connection == bad);
        let MediaEvent::ConnectionEnded { error, .. } = events.until("its end", is_end).await else { unreachable!() };
        assert!(matches!(error, MediaError::Description(_)), "{error}");
    }
    good.client.sees_and_hears(RED, 440).await;
    hall.shut().await;
}

/// Whatever line is missing or doubled in an offer: an answer or an end, and nobody else notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mangled_offer_harms_nobody() {
    let hall = Hall::open();
    let mut events = hall.events();
    let alice = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    let viewer = hall.watch(&alice.tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    let client = Client::sender(Sends::both(CodecName::H264, BLUE, 880)).await;
    let offer = client.offer().await;
    let lines: Vec<&str> = offer.lines().collect();
    let mut answered = 0;
    for at in 0..2 * lines.len() {
        let mut mangled = lines.clone();
        if at < lines.len() {
            mangled.remove(at);
        } else {
            mangled.insert(at - lines.len(), lines[at - lines.len()]);
        }
        let sdp = mangled.join("\r\n") + "\r\n";
        let Ok(sections) = negotiation::accept(&sdp, &CodecName::ALL) else { continue };
        let media = sections.into_iter().map(|section| PublishedMedia { track: TrackId::random(), section }).collect();
        let mangled = new_connection("mangled");
        hall.room(|room| room.publish(mangled.clone(), Publication { sdp, media }));
        let is_mine = |event: &MediaEvent| match event {
            MediaEvent::Answered { connection, .. } | MediaEvent::ConnectionEnded { connection, .. } => {
                *connection == mangled
            }
            _ => false,
        };
        let event = events.until("an answer or an end", is_mine).await;
        answered += u32::from(matches!(event, MediaEvent::Answered { .. }));
        hall.room(|room| room.close(&mangled));
    }
    assert!(answered > 10, "{answered}");
    client.close().await;
    viewer.client.sees_and_hears(RED, 440).await;
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_answers_holds_up_nobody_and_is_given_up() {
    let hall = Hall::open();
    let mut events = hall.events();
    let alice = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    let silent = new_connection("silent");
    hall.room(|room| room.subscribe(silent.clone(), alice.tracks.clone()));
    let viewer = hall.watch(&alice.tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    let is_end =
        |event: &MediaEvent| matches!(event, MediaEvent::ConnectionEnded { connection, .. } if *connection == silent);
    let MediaEvent::ConnectionEnded { error, .. } = events.until("its end", is_end).await else { unreachable!() };
    assert_eq!(error, MediaError::ConnectTimeout(CONNECT_TIMEOUT));
    viewer.client.sees_and_hears(RED, 440).await;
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_is_noticed() {
    let hall = Hall::open();
    let mut events = hall.events();
    let alice = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    let viewer = hall.watch(&alice.tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    alice.client.close().await;
    let is_end = |event: &MediaEvent| matches!(event, MediaEvent::ConnectionEnded { connection, .. } if *connection == alice.connection);
    let MediaEvent::ConnectionEnded { error, .. } = events.until("its end", is_end).await else { unreachable!() };
    assert_eq!(error, MediaError::ConnectionLost);
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_is_recorded_and_drawn_as_a_graph() {
    let hall = Hall::open();
    let mut events = hall.events();
    let alice = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    let viewer = hall.watch(&alice.tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    let (video, audio) = (alice.tracks[0].clone(), alice.tracks[1].clone());
    let tile = Tile { participant: ParticipantId::random(), label: "Alice".into(), video: Some(video) };
    let scene = Scene { tiles: vec![tile], audio: vec![audio] };
    let folder = tempfile::tempdir().unwrap();
    let (recording, file) = (RecordingId::random(), folder.path().join("recording.mp4"));
    let spec = RecordingSpec { width: 320, height: 180, ..Default::default() };
    hall.room(|room| room.start_recording(recording.clone(), file.clone(), spec, scene));
    let started = MediaEvent::RecordingStarted { recording: recording.clone() };
    events.until("the recording's start", |event| *event == started).await;
    let graph = hall.room(|room| room.graph());
    for edge in &graph.edges {
        for end in [&edge.from, &edge.to] {
            assert!(graph.nodes.iter().any(|node| node.id == *end), "{end} is no node of {graph:#?}");
        }
    }
    assert!(graph.nodes.iter().any(|node| node.id == format!("recorder-{recording}")), "{graph:#?}");
    hall.room(|room| room.stop_recording(&recording));
    let ended = |event: &MediaEvent| matches!(event, MediaEvent::RecordingEnded { .. });
    let event = events.until("the recording's end", ended).await;
    assert_eq!(event, MediaEvent::RecordingEnded { recording, result: Ok(()) });
    assert!(std::fs::metadata(file).unwrap().len() > 1_000);
    soon("the room's end", hall.shut()).await;
}
