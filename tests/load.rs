//! The load generator against a server of this build: what it says is what was there.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{cell::Cell, time::Duration};

use futures_util::future::try_join_all;
use gst::prelude::*;
use salon_load::{
    clip::{CLIP, Stamp},
    native::Participant,
    report::{self, Joins},
    session::Session,
    whip,
};
use tokio::time::{Instant, sleep};

#[allow(dead_code, clippy::print_stdout, reason = "shared with the bench")]
#[path = "../benches/forward/servers.rs"]
mod servers;

const LIMIT: Duration = Duration::from_secs(40);
/// Sessions that the server takes of one address before they are connected.
const WAVE: usize = 50;
/// A publisher takes some 400 KiB.
const MOST_GROWN_KIB: u64 = 8_192;

/// What is asked for once a little later.
async fn until(what: &str, is_it: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_it() {
        assert!(Instant::now() < end, "{what} did not happen");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_are_counted_as_they_watch() {
    let server = servers::salon(servers::BUILT, "auto", &[]).await;
    let door = whip::Server::new(&server.url, None, false).await.unwrap();
    let publisher = door.publish("hall").await.unwrap();
    publisher.session.connected(LIMIT).await.unwrap();
    let mut opened = Vec::new();
    for _ in 0..4 {
        opened.push(door.watch("hall", false).await.unwrap());
    }
    for viewer in &opened {
        until("a viewer's first picture", || viewer.session.tally().first_picture.is_some()).await;
    }
    let viewers: Vec<&Session> = opened.iter().map(|opened| &opened.session).collect();
    let window = report::watch(&viewers, Some(server.process), Duration::from_secs(2)).await.unwrap();
    // 4 viewers of 50 sounds a second and of 25 pictures of some 3 packets, and nothing gets lost on loopback.
    assert!((600..2_400).contains(&window.packets), "{window:?}");
    assert_eq!(window.lost, 0, "{window:?}");
    assert!(window.latency_ms.count > 100 && window.latency_ms.p50 < 500.0, "{window:?}");
    assert!(window.server.unwrap().usage.threads > 1);
    let joins = Joins::of(viewers);
    assert_eq!((joins.first_picture_ms.count, joins.without_picture), (4, 0));
    assert_eq!(opened[0].session.tally().profile(), Some("AEAD_AES_GCM"));

    publisher.session.send(false);
    sleep(Duration::from_millis(500)).await;
    let nothing = report::watch(&[&opened[0].session], None, Duration::from_millis(700)).await.unwrap();
    assert_eq!((nothing.packets, nothing.without_packets), (0, 1), "{nothing:?}");
    assert!(nothing.pause_ms.max > 600.0, "{nothing:?}");
    for viewer in opened {
        door.close(viewer).await.unwrap();
    }
    door.close(publisher).await.unwrap();
    let refused = door.watch("nobody", false).await.unwrap_err().to_string();
    assert!(refused.contains("no_such_room"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_meeting_is_everybody_watching_everybody() {
    let server = servers::salon(servers::BUILT, "auto", &[]).await;
    let mut people = Vec::new();
    for name in ["ann", "bob", "eve"] {
        people.push(Participant::join(&server.url, "meeting", name, Some("4711"), true).await.unwrap());
    }
    for one in &people {
        let sees = || {
            let watched = one.watched();
            watched.len() == 2 && watched.iter().all(|session| session.tally().first_picture.is_some())
        };
        until("a picture of everybody else", sees).await;
    }
    let refused = Participant::join(&server.url, "meeting", "mallory", Some("1"), false).await.unwrap_err();
    assert!(refused.to_string().contains("wrong_pin"), "{refused:#}");
    drop(people.pop());
    until("the end of one who left", || people.iter().all(|one| one.watched().len() == 1)).await;
}

/// So many publish at once and one watches; then their sockets are closed, and nobody says a word to the server.
async fn appear_and_vanish(server: &servers::Running, door: &whip::Server) {
    let publishers = try_join_all((0..WAVE).map(|_| door.publish("crowd"))).await.unwrap();
    for publisher in &publishers {
        publisher.session.connected(LIMIT).await.unwrap();
    }
    let viewer = door.watch("crowd", false).await.unwrap();
    until("a viewer's first picture", || viewer.session.tally().first_picture.is_some()).await;
    for publisher in &publishers {
        let sent = Cell::new(0);
        until("half a second of media", || sent.replace(sent.get() + publisher.session.tally().take().sent) > 40).await;
    }
    let there = figures(server, ["salon_participants", "salon_tracks{kind=\"video\"}"]).await;
    assert_eq!(there, [1 + WAVE as u64, WAVE as u64]);
    drop((publishers, viewer));
    let end = Instant::now() + LIMIT;
    while figures(server, ["salon_participants", "salon_live_pipelines"]).await != [0, 0] {
        assert!(Instant::now() < end, "who is gone was not let go");
        sleep(Duration::from_millis(100)).await;
    }
}

/// What the server says of itself.
async fn figures<const N: usize>(server: &servers::Running, names: [&str; N]) -> [u64; N] {
    let said = reqwest::get(format!("{}/metrics", server.url)).await.unwrap().text().await.unwrap();
    names.map(|name| {
        let figure = said.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        figure.unwrap_or_else(|| panic!("{name} is missing: {said}"))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_publishers_who_vanish_leave_nothing() {
    let server = servers::salon(servers::BUILT, "fanout", &[]).await;
    let door = whip::Server::new(&server.url, None, false).await.unwrap();
    let idle = server.usage();
    // What is made once and kept, and what the allocator keeps.
    appear_and_vanish(&server, &door).await;
    let before = server.usage();
    for _ in 0..2 {
        appear_and_vanish(&server, &door).await;
    }
    // Threads of pools end some 10 s later, and one or two are at work now and then.
    let is_idle = || {
        let usage = server.usage();
        usage.threads <= idle.threads + 2 && usage.descriptors <= idle.descriptors
    };
    until("the end of threads and descriptors", is_idle).await;
    let after = server.usage();
    println!("idle {idle:?}\nbefore {before:?}\nafter {after:?}");
    assert!(after.rss_kib <= before.rss_kib + MOST_GROWN_KIB, "{before:?} {after:?}");
}

#[test]
fn stamped_pictures_decode() {
    gst::init().unwrap();
    let caps = "video/x-vp8,profile=(string)0,width=640,height=360,framerate=25/1";
    let line = format!("appsrc name=in format=time caps=\"{caps}\" ! vp8dec ! fakesink name=out sync=false");
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let source = pipeline.by_name("in").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    for (index, picture) in CLIP.pictures.iter().enumerate() {
        let mut buffer = gst::Buffer::from_slice(Stamp::now(index == 0).put(picture));
        buffer.get_mut().unwrap().set_pts(gst::ClockTime::from_mseconds(40 * index as u64));
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    let message = pipeline
        .bus()
        .unwrap()
        .timed_pop_filtered(gst::ClockTime::from_seconds(20), &[gst::MessageType::Eos, gst::MessageType::Error]);
    let stats = pipeline.by_name("out").unwrap().property::<gst::Structure>("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(message.unwrap().type_(), gst::MessageType::Eos);
    assert_eq!(stats.get::<u64>("rendered").unwrap(), 50, "{stats}");
}
