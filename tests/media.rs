//! The engine with real media: clients in GStreamer send colours and tones, and say what they decode.
#![cfg(feature = "gstreamer")]

mod common;

use common::{
    client::{BLUE, GREEN, RED, Sends},
    hall::Hall,
};
use salon::media::CodecName;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_see_and_hear_each_other_in_vp8() {
    both_ways(CodecName::Vp8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_see_and_hear_each_other_in_h264() {
    both_ways(CodecName::H264).await;
}

async fn both_ways(codec: CodecName) {
    let hall = Hall::open();
    let alice = hall.publish(Sends::both(codec, RED, 440)).await;
    let bob = hall.publish(Sends::both(codec, BLUE, 880)).await;
    let alice_watching = hall.watch(&bob.tracks).await;
    let bob_watching = hall.watch(&alice.tracks).await;
    alice_watching.client.sees_and_hears(BLUE, 880).await;
    bob_watching.client.sees_and_hears(RED, 440).await;
    hall.shut().await;
    let _ = GREEN;
}
