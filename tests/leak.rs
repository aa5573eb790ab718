//! Joins and leaves leave nothing behind: threads, descriptors and pipelines are where they were.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{
    client::{RED, Sends},
    hall::{Hall, new_connection},
    usage::{Usage, settles_within},
};
use salon::{
    media::{CodecName, MediaEvent},
    room::id::TrackId,
};

/// Cycles of one publisher and one viewer each: a hundred joins and leaves.
const CYCLES: usize = 50;
const WARM_UP: usize = 5;

/// One publisher and one viewer come, the viewer decodes, and both go.
async fn cycle(hall: &Hall) {
    let publisher = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    let viewer = hall.watch(&publisher.tracks).await;
    viewer.client.until("picture and sound", |seen| seen.is(RED) && seen.samples > 0).await;
    hall.leave(viewer).await;
    hall.leave(publisher).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_joins_and_leaves_leave_nothing() {
    let hall = Hall::open();
    for _ in 0..WARM_UP {
        cycle(&hall).await;
    }
    let none = Usage { pipelines: 0, threads: usize::MAX, descriptors: usize::MAX };
    settles_within(none).await.expect("the warm-up's pipelines are gone");
    let before = Usage::now();
    for _ in 0..CYCLES {
        cycle(&hall).await;
    }
    let settled = settles_within(before).await;
    println!("before {before:?}, after {:?}", Usage::now());
    assert_eq!(settled, Ok(()), "before: {before:?}");
    hall.shut().await;
}

/// Eight subscriptions, closed when the first of them is offered: the others are in the middle of it.
async fn close_in_the_middle(hall: &Hall, tracks: &[TrackId]) {
    let mut events = hall.events();
    let connections: Vec<_> = (0..8).map(|_| new_connection("subscription")).collect();
    for connection in &connections {
        hall.room(|room| room.subscribe(connection.clone(), tracks.to_vec(), true));
    }
    events.until("an offer", |event| matches!(event, MediaEvent::Offered { .. })).await;
    for connection in &connections {
        hall.room(|room| room.close(connection));
    }
}

/// webrtcbin sets descriptions on a thread of its own, and adds transports while it does: what it
/// adds to a pipeline that ends must end too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_closed_while_they_are_offered_leave_nothing() {
    let hall = Hall::open();
    let publisher = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    let viewer = hall.watch(&publisher.tracks).await;
    viewer.client.until("picture and sound", |seen| seen.is(RED) && seen.samples > 0).await;
    let before = Usage::now();
    for _ in 0..25 {
        close_in_the_middle(&hall, &publisher.tracks).await;
    }
    // Threads of pools come and go; a transport that stays has descriptors too.
    let limit = Usage { threads: usize::MAX, ..before };
    let settled = settles_within(limit).await;
    assert_eq!(settled, Ok(()), "before: {before:?}");
    hall.shut().await;
}
