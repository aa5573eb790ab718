//! The engine with real media: clients in GStreamer send colours and tones, and say what they decode.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;
#[path = "common/content.rs"]
#[allow(dead_code, reason = "this binary uses a part of it")]
mod content;
#[path = "media/inlet.rs"]
mod inlet;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use common::{
    client::{BLUE, Client, GREEN, RED, Sends},
    hall::{CONNECT_TIMEOUT, Hall, new_connection},
    soon,
};
use salon::media::{
    CodecName, MediaError, MediaEvent, Publication, PublishedMedia, RecordingSpec, Scene, Tile, description,
    graph::{Node, NodeKind},
    gst::{KEYFRAME_HOLDOFF, counters, live_pipelines},
    negotiation,
    sender_clock::SenderReport,
};
use salon::room::id::{ConnectionId, ParticipantId, RecordingId, TrackId};

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
async fn a_subscriber_who_offers_is_answered_with_what_there_is() {
    let hall = Hall::open();
    for (codec, colour) in [(CodecName::Vp8, RED), (CodecName::H264, BLUE), (CodecName::Vp9, GREEN)] {
        let alice = hall.publish(Sends::both(codec, colour, 440)).await;
        let tracks: Vec<_> = alice.tracks.iter().cloned().zip([codec, CodecName::Opus]).collect();
        let both = hall.watch_with_offer(&tracks).await;
        let sound = hall.watch_with_offer(&tracks[1..]).await;
        both.client.sees_and_hears(colour, 440).await;
        let heard = sound.client.until("sound alone", |seen| seen.hears(440) && seen.samples > 24_000).await;
        assert_eq!(heard.frames, 0, "nothing is sent in a section that was refused");
        for attendee in [both, sound, alice] {
            hall.leave(attendee).await;
        }
    }
    hall.shut().await;
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
    let most = 1 + (began.elapsed().as_millis() / KEYFRAME_HOLDOFF.as_millis()) as u64;
    println!("{requests} keyframe requests for {} viewers in {:?}", viewers.len(), began.elapsed());
    assert!((1..=most).contains(&requests), "{requests} requests in {:?}", began.elapsed());
    assert!(counters().packets_forwarded > before.packets_forwarded);
    hall.shut().await;
}

/// The SSRC of each section of an offer.
fn ssrcs(offer: &str) -> Vec<u32> {
    let sections = negotiation::accept(offer, &CodecName::ALL).unwrap();
    let ssrcs = description::ssrcs(offer, &sections).unwrap();
    ssrcs.iter().map(|ssrcs| ssrcs[0]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_that_is_held_up_stays_in_step_with_its_sound() {
    let hall = Hall::open();
    let mut events = hall.events();
    let alice = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    alice.client.hold_video(Duration::from_millis(400));
    let viewer = hall.watch(&alice.tracks).await;
    let is_offer = |event: &MediaEvent| matches!(event, MediaEvent::Offered { .. });
    let MediaEvent::Offered { sdp, .. } = events.until("an offer", is_offer).await else { unreachable!() };
    viewer.client.sees_and_hears(RED, 440).await;
    let (sent, received) = (ssrcs(&alice.client.local_description()), ssrcs(&sdp));
    let (mut told, truth) = (viewer.client.reports.clone(), alice.client.reports.clone());
    // By how much the viewer is told another time for the same picture or sound than the publisher said.
    let shift_ms = |told: &HashMap<u32, SenderReport>, section: usize, rate: i64| {
        let (told, truth) = (*told.get(&received[section])?, *truth.borrow().get(&sent[section])?);
        let ticks = i64::from(truth.rtp.wrapping_sub(told.rtp).cast_signed());
        Some((told.ntp_ns - truth.ntp_ns) / 1_000_000 + ticks * 1_000 / rate)
    };
    let mut apart = None;
    let in_step = told.wait_for(|told| {
        let video = shift_ms(told, 0, 90_000);
        apart = video.and_then(|video| Some(video - shift_ms(told, 1, 48_000)?));
        println!("apart: {apart:?} ms");
        apart.is_some_and(|apart| apart.abs() < 20)
    });
    tokio::time::timeout(common::DEADLINE, async { drop(in_step.await.unwrap()) }).await.expect("reports in step");
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
            room.subscribe(bad.clone(), alice.tracks.clone(), true);
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

/// An offer as browsers write it, as far as the engine reads it.
const BROWSER_OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111 9\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:Gp9o\r\n\
    a=ice-pwd:VH1Zb3lTsrh9LT0KfDaDeX8u\r\na=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:\
    10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\na=setup:actpass\r\na=mid:0\r\n\
    a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
    a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\r\n\
    a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
    a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n\
    a=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:9 G722/8000\r\n\
    a=ssrc:11 cname:x\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:Gp9o\r\n\
    a=ice-pwd:VH1Zb3lTsrh9LT0KfDaDeX8u\r\na=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:\
    10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\na=setup:actpass\r\na=mid:1\r\n\
    a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
    a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=extmap:5 urn:3gpp:video-orientation\r\n\
    a=sendonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 goog-remb\r\n\
    a=rtcp-fb:96 transport-cc\r\na=rtcp-fb:96 ccm fir\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n\
    a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=ssrc-group:FID 21 22\r\na=ssrc:21 cname:x\r\na=ssrc:22 cname:x\r\n";

/// Publishes that offer without a client behind it; gives the tracks.
fn publish_browser_offer(hall: &Hall, connection: &ConnectionId) -> Vec<TrackId> {
    let sections = negotiation::accept(BROWSER_OFFER, &CodecName::ALL).unwrap();
    let media: Vec<_> =
        sections.into_iter().map(|section| PublishedMedia { track: TrackId::random(), section }).collect();
    let tracks = media.iter().map(|media| media.track.clone()).collect();
    hall.room(|room| room.publish(connection.clone(), Publication { sdp: BROWSER_OFFER.into(), media, alone: false }));
    tracks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn congestion_control_retransmissions_and_levels_are_negotiated() {
    let hall = Hall::open();
    let mut events = hall.events();
    let publication = new_connection("publication");
    let tracks = publish_browser_offer(&hall, &publication);
    let is_answer = |event: &MediaEvent| matches!(event, MediaEvent::Answered { .. });
    let MediaEvent::Answered { sdp: answer, .. } = events.until("an answer", is_answer).await else { unreachable!() };
    let (audio, video) = answer.split_once("m=video").unwrap();
    let lines = |section: &str, wanted: &[String]| {
        for line in wanted {
            assert!(section.lines().any(|found| found == line), "no {line} in:\n{section}");
        }
    };
    let (level, mid, cc) = (negotiation::AUDIO_LEVEL, negotiation::MID, negotiation::TRANSPORT_CC);
    let extensions = [format!("a=extmap:3 {cc}"), format!("a=extmap:4 {mid}"), "a=recvonly".into()];
    lines(audio, &extensions);
    lines(audio, &[format!("a=extmap:1 {level}"), "a=rtcp-fb:111 transport-cc".into()]);
    lines(video, &extensions);
    let feedback = ["transport-cc", "nack", "nack pli", "ccm fir"].map(|feedback| format!("a=rtcp-fb:96 {feedback}"));
    lines(video, &feedback);
    lines(video, &["a=rtpmap:97 rtx/90000".into(), "a=fmtp:97 apt=96".into()]);
    for refused in ["abs-send-time", "video-orientation", "goog-remb", "G722"] {
        assert!(!answer.contains(refused), "{refused} in:\n{answer}");
    }

    hall.room(|room| room.subscribe(new_connection("subscription"), tracks, true));
    let is_offer = |event: &MediaEvent| matches!(event, MediaEvent::Offered { .. });
    let MediaEvent::Offered { sdp: offer, .. } = events.until("an offer", is_offer).await else { unreachable!() };
    let (audio, video) = offer.split_once("m=video").unwrap();
    lines(audio, &[format!("a=extmap:1 {level}"), "a=sendonly".into()]);
    lines(video, &feedback[1..]);
    assert!(video.contains(" rtx/90000") && video.contains("apt=96"), "{video}");
    hall.shut().await;
}

/// Closed before, while and after the engine does each step of negotiating.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_closed_while_they_negotiate_leave_nothing() {
    let hall = Hall::open();
    let mut events = hall.events();
    let alice = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    let viewer = hall.watch(&alice.tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    let before = live_pipelines();
    for step in 0..50 {
        let (publication, subscription) = (new_connection("publication"), new_connection("subscription"));
        publish_browser_offer(&hall, &publication);
        hall.room(|room| room.subscribe(subscription.clone(), alice.tracks.clone(), true));
        let is_described = |event: &MediaEvent| match event {
            MediaEvent::Answered { connection, .. } => *connection == publication,
            MediaEvent::Offered { connection, .. } => *connection == subscription,
            _ => false,
        };
        match step % 10 {
            // Each is a little further than the one before when it is closed.
            0..8 => {
                for _ in 0..step * step {
                    tokio::task::yield_now().await;
                }
            }
            _ => drop(events.until("a description", is_described).await),
        }
        hall.room(|room| {
            room.close(&publication);
            room.close(&subscription);
        });
    }
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    soon("the end of all pipelines", async {
        while live_pipelines() > before {
            ticks.tick().await;
        }
    })
    .await;
    viewer.client.sees_and_hears(RED, 440).await;
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
        hall.room(|room| room.publish(mangled.clone(), Publication { sdp, media, alone: false }));
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
    hall.room(|room| room.subscribe(silent.clone(), alice.tracks.clone(), true));
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
async fn the_mix_is_watched_and_nobody_hears_himself() {
    let hall = Hall::open();
    let before = live_pipelines();
    let alice = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    let bob = hall.publish(Sends { video: Vec::new(), tone: Some(880) }).await;
    let (low, high) = (alice.tracks[1].clone(), bob.tracks[0].clone());
    let tile = |video: Option<&TrackId>| Tile {
        participant: ParticipantId::random(),
        label: String::new(),
        video: video.cloned(),
        screen: false,
    };
    let scene = Scene {
        tiles: vec![tile(Some(&alice.tracks[0]))],
        audio: vec![low.clone(), high.clone()],
        ..Default::default()
    };
    hall.room(|room| room.set_scene(scene.clone()));
    let as_alice = hall.watch_mix(std::slice::from_ref(&low)).await;
    let as_bob = hall.watch_mix(std::slice::from_ref(&high)).await;
    as_alice.client.sees_and_hears(RED, 880).await;
    as_bob.client.sees_and_hears(RED, 440).await;
    let graph = hall.room(|room| room.graph());
    assert_eq!(graph.nodes.iter().filter(|node| node.kind == NodeKind::Mixer).count(), 3, "{:?}", graph.nodes);
    assert_eq!(graph.nodes.iter().filter(|node| node.kind == NodeKind::Decoder).count(), 3, "{:?}", graph.nodes);

    // The listener changes places: his sound comes from another mix, on the same track.
    hall.room(|room| room.set_mix_without(&as_bob.connection, vec![low.clone()]));
    as_bob.client.sees_and_hears(RED, 880).await;
    hall.room(|room| room.set_mix_without(&as_bob.connection, vec![]));
    hall.room(|room| room.set_scene(Scene { audio: vec![low.clone()], ..scene }));
    as_bob.client.sees_and_hears(RED, 440).await;

    // Who comes late sees a picture soon.
    let joined = Instant::now();
    let late = hall.watch_mix(&[]).await;
    late.client.until("the first frame", |seen| seen.is(RED)).await;
    println!("join to first frame of the mix: {:?}", joined.elapsed());
    assert!(joined.elapsed() < Duration::from_secs(2), "{:?}", joined.elapsed());
    for listener in [as_alice, as_bob, late] {
        hall.leave(listener).await;
    }
    hall.leave(alice).await;
    hall.leave(bob).await;
    hall.shut().await;
    assert_eq!(live_pipelines(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_is_recorded_and_drawn_as_a_graph() {
    let hall = Hall::open();
    let mut events = hall.events();
    let alice = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    let viewer = hall.watch(&alice.tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    let (video, audio) = (alice.tracks[0].clone(), alice.tracks[1].clone());
    let tile = Tile { participant: ParticipantId::random(), label: "Alice".into(), video: Some(video), screen: false };
    let scene = Scene { tiles: vec![tile], audio: vec![audio], ..Scene::default() };
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
    let figure = |kind: NodeKind, name: &str| -> u64 {
        let of = |node: &Node| node.kind == kind && node.facts.contains_key(name);
        graph.nodes.iter().find(|node| of(node)).unwrap_or_else(|| panic!("{graph:#?}")).facts[name].parse().unwrap()
    };
    assert!(figure(NodeKind::Encoder, "frames") > 0);
    figure(NodeKind::Encoder, "late");
    figure(NodeKind::Decoder, "dropped");
    hall.room(|room| room.stop_recording(&recording));
    let ended = |event: &MediaEvent| matches!(event, MediaEvent::RecordingEnded { .. });
    let event = events.until("the recording's end", ended).await;
    assert_eq!(event, MediaEvent::RecordingEnded { recording, result: Ok(()) });
    assert!(std::fs::metadata(file).unwrap().len() > 1_000);
    soon("the room's end", hall.shut()).await;
}
