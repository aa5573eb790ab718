//! Publishers through the fan-out edge: whoever reads their tracks finds what he finds behind a webrtcbin.

use std::time::{Duration, Instant};

use salon::{
    media::{
        CodecName, Edge, EdgeChoice, MediaError, MediaEvent, RecordingSpec, Scene, Tile, graph::NodeKind,
        gst::live_pipelines,
    },
    room::id::{ParticipantId, RecordingId, TrackId},
};

use crate::common::{
    client::{BLUE, Client, Conditions, RED, Sends},
    hall::{Attendee, Hall},
    soon,
    usage::{Usage, settles_within},
};
use crate::content::Content;

/// A picture and a sound of which everything is mixed.
fn scene(publisher: &Attendee) -> Scene {
    let [video, audio] = &publisher.tracks[..] else { panic!("{:?}", publisher.tracks) };
    let tile =
        Tile { participant: ParticipantId::random(), label: String::new(), video: Some(video.clone()), screen: false };
    Scene { tiles: vec![tile], audio: vec![audio.clone()], ..Scene::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_on_the_fan_out_edge_is_watched_mixed_and_recorded() {
    let before = live_pipelines();
    // Y′, Cb and Cr.
    for (codec, colour, recorded) in
        [(CodecName::Vp8, RED, [79., 99., 212.]), (CodecName::H264, BLUE, [49., 212., 115.])]
    {
        let hall = Hall::open_with(EdgeChoice::Fanout);
        let mut events = hall.events();
        let alice = hall.publish(Sends::both(codec, colour, 440)).await;
        let viewer = hall.watch(&alice.tracks).await;
        viewer.client.sees_and_hears(colour, 440).await;
        let edge = |attendee: &Attendee| hall.room(|room| room.edge(&attendee.connection));
        assert_eq!((edge(&alice), edge(&viewer)), (Some(Edge::Fanout), Some(Edge::Fanout)));

        // A player on GStreamer has a pipeline.
        let tracks: Vec<_> = alice.tracks.iter().cloned().zip([codec, CodecName::Opus]).collect();
        let player = hall.watch_with_offer(&tracks).await;
        player.client.sees_and_hears(colour, 440).await;
        assert_eq!(edge(&player), Some(Edge::Webrtcbin));

        let folder = tempfile::tempdir().unwrap();
        let (recording, file) = (RecordingId::random(), folder.path().join("recording.mp4"));
        let spec = RecordingSpec { width: 320, height: 180, ..Default::default() };
        hall.room(|room| room.start_recording(recording.clone(), file.clone(), spec, scene(&alice)));
        let mixed = hall.watch_mix(&[]).await;
        mixed.client.sees_and_hears(colour, 440).await;
        // A new picture moves into its place.
        mixed.client.sees_and_hears(colour, 440).await;
        let graph = hall.room(|room| room.graph());
        let publishes = graph.nodes.iter().find(|node| node.kind == NodeKind::Publisher).unwrap();
        assert_eq!(publishes.facts["edge"], "fanout", "{publishes:?}");
        hall.room(|room| room.stop_recording(&recording));
        let is_over = |event: &MediaEvent| matches!(event, MediaEvent::RecordingEnded { .. });
        events.until("the recording's end", is_over).await;
        let content = Content::read(&file);
        let end = content.times().last().unwrap();
        let seen = content.colour(end, [60, 20, 200, 100]);
        let is_near = seen.iter().zip(recorded).all(|(seen, wanted)| (seen - wanted).abs() < 20.0);
        assert!(is_near, "{seen:?} at {end}");

        hall.leave(alice).await;
        soon("the room's end", hall.shut()).await;
    }
    assert_eq!(live_pipelines(), before);
}

/// A camera and a screen in one codec have one payload number, by which rtpbin asks for their caps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pictures_of_one_publisher_in_one_codec_are_both_mixed() {
    for codec in [CodecName::Vp8, CodecName::H264] {
        let hall = Hall::open_with(EdgeChoice::Fanout);
        let mut events = hall.events();
        let alice = hall.publish(Sends { video: vec![(codec, RED), (codec, BLUE)], tone: None }).await;
        let [camera, screen] = &alice.tracks[..] else { panic!("{:?}", alice.tracks) };
        let tile = |track: &TrackId, screen| {
            let (participant, video) = (ParticipantId::random(), Some(track.clone()));
            Tile { participant, label: String::new(), video, screen }
        };
        let scene = Scene { tiles: vec![tile(camera, false), tile(screen, true)], ..Scene::default() };
        for (track, colour) in [(camera, RED), (screen, BLUE)] {
            let viewer = hall.watch(std::slice::from_ref(track)).await;
            viewer.client.until("its picture", |seen| seen.is(colour)).await;
            hall.leave(viewer).await;
        }
        let folder = tempfile::tempdir().unwrap();
        let (recording, file) = (RecordingId::random(), folder.path().join("recording.mp4"));
        let spec = RecordingSpec { width: 320, height: 180, audio: false, ..Default::default() };
        hall.room(|room| room.start_recording(recording.clone(), file.clone(), spec, scene));
        let is_begun = |event: &MediaEvent| matches!(event, MediaEvent::RecordingStarted { .. });
        events.until("the recording's begin", is_begun).await;
        // Y′, Cb and Cr of its last picture, left and right: it grows while it is read.
        let wanted = [[79., 99., 212.], [49., 212., 115.]];
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        let mut read = 0;
        loop {
            let written = std::fs::metadata(&file).unwrap().len();
            if written <= read {
                assert!(Instant::now() < deadline, "{codec:?}: the recording grows no more");
                ticks.tick().await;
                continue;
            }
            read = written;
            let content = Content::read(&file);
            let end = content.times().last().unwrap();
            let seen = [[60, 70, 40, 40], [220, 70, 40, 40]].map(|region| content.colour(end, region));
            let pairs = || seen.iter().flatten().zip(wanted.iter().flatten());
            if pairs().all(|(seen, wanted)| (seen - wanted).abs() < 20.0) {
                break;
            }
            assert!(Instant::now() < deadline, "{codec:?}: {seen:?} at {end}");
        }
        hall.leave(alice).await;
        soon("the room's end", hall.shut()).await;
    }
}

/// Sound and picture of a publisher who loses packets, sent again by him, and his own end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_publisher_loses_is_sent_again_and_his_end_is_noticed() {
    let hall = Hall::open_with(EdgeChoice::Fanout);
    let mut events = hall.events();
    let launch = Client::launch(Sends::both(CodecName::Vp8, RED, 440));
    let client = Client::of(launch, Conditions { loss: 0.05, ..Default::default() }, |_| ()).await;
    let alice = hall.publish_alone(client).await;
    let viewer = hall.watch(&alice.tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    viewer.client.sees_and_hears(RED, 440).await;
    alice.client.close().await;
    let is_end = |event: &MediaEvent| matches!(event, MediaEvent::ConnectionEnded { connection, .. } if *connection == alice.connection);
    let MediaEvent::ConnectionEnded { error, .. } = events.until("its end", is_end).await else { unreachable!() };
    assert_eq!(error, MediaError::ConnectionLost);
    soon("the room's end", hall.shut()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_who_come_and_go_leave_nothing() {
    let hall = Hall::open_with(EdgeChoice::Fanout);
    let mut before = None;
    for round in 0..12 {
        let alice = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
        if round % 3 == 0 {
            let viewer = hall.watch(&alice.tracks).await;
            viewer.client.until("a picture", |seen| seen.is(RED)).await;
            hall.leave(viewer).await;
        }
        hall.leave(alice).await;
        if round == 3 {
            let gone = Usage { pipelines: 0, threads: usize::MAX, descriptors: usize::MAX };
            settles_within(gone).await.expect("the first rounds' pipelines are gone");
            before = Some(Usage::now());
        }
    }
    assert_eq!(settles_within(before.unwrap()).await, Ok(()), "before: {before:?}");
    hall.shut().await;
}
