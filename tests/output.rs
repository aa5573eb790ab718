//! The room's mix as a transport stream: what is in it, who comes late, and that it ends.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;
#[allow(dead_code, reason = "other test binaries use the rest")]
#[path = "common/content.rs"]
mod content;

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{
    client::{RED, Sends},
    hall::{Attendee, Events, Hall, new_connection},
    soon,
    usage::{Usage, settles_within},
};
use content::Content;
use rustls_pki_types::pem::PemObject;
use salon::{
    ingest::{IngestUri, tls::Fingerprint},
    media::{
        CodecName, MediaEvent, Scene, Tile,
        hls::Segmenter,
        push::{PushState, PushStatus, Target},
        ts::TsChunk,
    },
    room::id::ParticipantId,
    server::tls::{Certificate, PemFiles},
};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

/// A room in which somebody is red and sounds at 440 Hz.
async fn red_room() -> (Hall, Attendee) {
    let hall = Hall::open();
    let alice = hall.publish(Sends::both(CodecName::Vp8, RED, 440)).await;
    let (video, audio) = (alice.tracks[0].clone(), alice.tracks[1].clone());
    let tile = Tile { participant: ParticipantId::random(), label: String::new(), video: Some(video), screen: false };
    hall.room(|room| room.set_scene(Scene { tiles: vec![tile], audio: vec![audio], ..Scene::default() }));
    (hall, alice)
}

fn watch(hall: &Hall) -> mpsc::Receiver<TsChunk> {
    let (reader, chunks) = mpsc::channel(4096);
    hall.room(|room| room.watch_mix(reader));
    chunks
}

/// What comes in so many seconds of the stream, and on to the next keyframe: elsewhere the last frame is
/// not whole.
async fn take(chunks: &mut mpsc::Receiver<TsChunk>, seconds: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut until = None;
    loop {
        let chunk = soon("a piece of the stream", chunks.recv()).await.expect("it goes on");
        let until = *until.get_or_insert(chunk.time + Duration::from_secs(seconds));
        if chunk.starts_keyframe && chunk.time >= until {
            return bytes;
        }
        bytes.extend_from_slice(&chunk.bytes);
    }
}

/// A piece of a stream does not begin at 0.
fn begins(file: &Path) -> f64 {
    let fields = ["-v", "error", "-select_streams", "v", "-show_entries", "stream=start_time", "-of", "csv=p=0"];
    let output = Command::new("ffprobe").args(fields).arg(file).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().next().unwrap().trim_matches(',').parse().unwrap()
}

/// In the middle of the file it is red and sounds.
async fn is_red(bytes: Vec<u8>) {
    let checked = tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mix.ts");
        std::fs::write(&file, bytes).unwrap();
        let content = Content::read(&file);
        assert_eq!((content.width, content.height), (1280, 720));
        let time = begins(&file) + 1.5;
        let [luma, blue, red] = content.colour(time, [600, 200, 80, 80]);
        assert!((luma - 62.0).abs() < 25.0 && blue < 128.0 && red > 170.0, "{luma} {blue} {red} at {time}");
        assert!(content.tone(1.5, 440.0) > 0.1, "{}", content.tone(1.5, 440.0));
    });
    checked.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mix_is_streamed_and_who_comes_late_sees_it_at_once() {
    let (hall, _alice) = red_room().await;
    let mut first = watch(&hall);
    // Until the mix shows her.
    take(&mut first, 3).await;
    let joined = Instant::now();
    let mut late = watch(&hall);
    let chunk = soon("the beginning", late.recv()).await.unwrap();
    assert!(chunk.starts_keyframe && joined.elapsed() < Duration::from_millis(500), "{:?}", joined.elapsed());
    let mut bytes = chunk.bytes.to_vec();
    bytes.extend(take(&mut late, 3).await);
    is_red(bytes).await;
    let graph = hall.room(|room| room.graph());
    assert!(graph.has_node("output-ts"), "{graph:#?}");
    drop(first);
    hall.shut().await;
    let rest = async { while late.recv().await.is_some() {} };
    soon("the stream's end", rest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_of_it_play_one_by_one() {
    let (hall, _alice) = red_room().await;
    let mut chunks = watch(&hall);
    let mut segmenter = Segmenter::default();
    let mut finished = 0;
    while finished < 3 {
        finished += u32::from(segmenter.push(&soon("a piece", chunks.recv()).await.unwrap()));
    }
    is_red(segmenter.segment(2).unwrap().to_vec()).await;
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn players_come_and_go_fifty_times_and_leave_nothing() {
    let (hall, alice) = red_room().await;
    let mut stays = watch(&hall);
    take(&mut stays, 2).await;
    let before = Usage::now();
    for _ in 0..50 {
        let mut chunks = watch(&hall);
        soon("the beginning", chunks.recv()).await.unwrap();
    }
    take(&mut stays, 1).await;
    assert_eq!(settles_within(before).await, Ok(()), "before: {before:?}");
    drop(stays);
    hall.leave(alice).await;
    // The last has gone: some seconds later everything is.
    let none = Usage { pipelines: 0, threads: usize::MAX, descriptors: usize::MAX };
    settles_within(none).await.expect("the mix ends");
    let mut again = watch(&hall);
    soon("the beginning", again.recv()).await.expect("it can begin anew");
    hall.shut().await;
}

/// Waits until a push stands so.
async fn until(events: &mut Events, what: &str, is_so: impl Fn(&PushStatus) -> bool) -> PushStatus {
    let event = events.until(what, |event| matches!(event, MediaEvent::PushChanged { status, .. } if is_so(status)));
    match event.await {
        MediaEvent::PushChanged { status, .. } => status,
        other => panic!("{other:?}"),
    }
}

/// A receiver that takes three seconds and then hangs up. It is called at `address`.
fn receiver(address: &str, options: &[&str], file: &Path) -> tokio::process::Child {
    let mut ffmpeg = tokio::process::Command::new("ffmpeg");
    ffmpeg
        .args(["-nostdin", "-v", "error"])
        .args(options)
        .args(["-i", address, "-t", "3", "-c", "copy", "-y"])
        .arg(file);
    ffmpeg.kill_on_drop(true).stdout(Stdio::null()).spawn().unwrap()
}

/// A receiver gets the mix, goes, and gets it again when it is back.
async fn is_pushed(target: &str, called: &str, options: &[&str]) {
    let (hall, _alice) = red_room().await;
    let mut first = watch(&hall);
    // Until the mix shows her.
    take(&mut first, 2).await;
    let mut events = hall.events();
    let (uri, credentials) = IngestUri::parse(target).unwrap();
    let connection = new_connection("push");
    let target = Target { uri, credentials, allow: "127.0.0.0/8".parse().unwrap(), fingerprint: None };
    hall.room(|room| room.push(connection.clone(), target));
    let status = until(&mut events, "a refusal", |status| status.state == PushState::Waiting).await;
    assert_eq!(status.reason, Some("unreachable"), "{status:?}");
    let folder = tempfile::tempdir().unwrap();
    for round in 0..2u32 {
        let file = folder.path().join(format!("{round}.ts"));
        let mut receiver = receiver(called, options, &file);
        let status = until(&mut events, "life", |status| status.state == PushState::Live).await;
        assert_eq!(status.reconnects, round + 1, "{status:?}");
        let graph = hall.room(|room| room.graph());
        let node = format!("push-{connection}");
        assert!(graph.edges.iter().any(|edge| edge.from == "output-ts" && edge.to == node), "{graph:#?}");
        let ended = soon("three seconds of it", receiver.wait()).await.unwrap();
        assert!(ended.success(), "{ended:?}");
        let status = until(&mut events, "the loss", |status| status.state == PushState::Waiting).await;
        assert!(matches!(status.reason, Some("lost" | "unreachable")), "{status:?}");
        is_red(std::fs::read(&file).unwrap()).await;
    }
    assert!(hall.room(|room| room.sent_bytes(&connection)) > 100_000);
    hall.room(|room| room.close(&connection));
    assert!(!hall.room(|room| room.graph()).has_node(&format!("push-{connection}")));
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mix_is_pushed_over_srt_and_again_after_an_outage() {
    let address = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let called = format!("srt://{address}?mode=listener&passphrase=s3cret-s3cret");
    is_pushed(&format!("srt://{address}?passphrase=s3cret-s3cret"), &called, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mix_is_pushed_over_rtmp_and_again_after_an_outage() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let target = format!("rtmp://{address}/live/s3cret");
    is_pushed(&target, &target, &["-listen", "1"]).await;
}

/// TLS in front of `address`, with a certificate of its own: where it is, and its fingerprint.
async fn tls_before(address: String, folder: &Path) -> (SocketAddr, Fingerprint) {
    let files = PemFiles::self_signed(folder).unwrap();
    let pem = std::fs::read(&files.cert).unwrap();
    let certificate = rustls_pki_types::CertificateDer::from_pem_slice(&pem).unwrap();
    let acceptor = TlsAcceptor::from(Certificate::load(files).unwrap().server_config().unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A handshake that the other side breaks off is what one of the tests is about.
            let Ok(mut near) = acceptor.accept(stream).await else { continue };
            let Ok(mut far) = tokio::net::TcpStream::connect(&address).await else { continue };
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    (at, Fingerprint::of(&certificate))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mix_is_pushed_over_rtmps_to_who_has_the_right_certificate_and_to_nobody_else() {
    let (hall, _alice) = red_room().await;
    let mut first = watch(&hall);
    take(&mut first, 2).await;
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (at, its) = tls_before(address.to_string(), folder.path()).await;
    let file = folder.path().join("got.ts");
    let mut receiver = receiver(&format!("rtmp://{address}/live/s3cret"), &["-listen", "1"], &file);
    let mut events = hall.events();
    let other = Fingerprint::of(b"another");
    for (pinned, said) in [(None, its.to_string()), (Some(other), format!("another fingerprint: {its}"))] {
        let connection = new_connection("refused");
        let (uri, credentials) = IngestUri::parse(&format!("rtmps://{at}/live/s3cret")).unwrap();
        let target = Target { uri, credentials, allow: "127.0.0.0/8".parse().unwrap(), fingerprint: pinned };
        hall.room(|room| room.push(connection.clone(), target));
        let status = until(&mut events, "a refusal", |status| status.state == PushState::Waiting).await;
        assert_eq!(status.reason, Some("tls"), "{status:?}");
        assert!(status.detail.as_ref().unwrap().contains(&said), "{status:?}");
        hall.room(|room| room.close(&connection));
    }
    let connection = new_connection("push");
    let (uri, credentials) = IngestUri::parse(&format!("rtmps://{at}/live/s3cret")).unwrap();
    let target = Target { uri, credentials, allow: "127.0.0.0/8".parse().unwrap(), fingerprint: Some(its) };
    hall.room(|room| room.push(connection.clone(), target));
    until(&mut events, "life", |status| status.state == PushState::Live).await;
    let ended = soon("three seconds of it", receiver.wait()).await.unwrap();
    assert!(ended.success(), "{ended:?}");
    is_red(std::fs::read(&file).unwrap()).await;
    hall.room(|room| room.close(&connection));
    hall.shut().await;
}
