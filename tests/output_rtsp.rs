//! Rooms as RTSP, as players see them: ffmpeg and GStreamer, over TCP and UDP, the mix and one
//! participant; and players who come and go.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on has failed")]

mod common;
#[allow(dead_code, reason = "other test binaries use the rest")]
#[path = "common/content.rs"]
mod content;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use common::{
    camera::{Model, TestCamera, source},
    client::RED,
    soon,
    usage::{Usage, settles_within},
};
use content::Content;
use salon::{
    effect::EffectRequest,
    ingest::rtsp::{Camera, Transport},
    media::{
        CodecName, Kind,
        gst::{GstEngine, MediaSettings},
        ingest::IngestState,
        rtp::starts_keyframe,
    },
    recording::RecordingNotice,
    room::{
        Registry, RoomHandle,
        command::Caller,
        event::{CloseReason, RoomEvent},
        model::{EffectsOf, IngestRequest},
        policy::RoomPolicy,
    },
    server::{auth::Gate, rtsp::RtspServer},
};
use tokio::{process::Command, sync::mpsc};

/// A server whose room `yard` shows a camera that is red and sounds at 440 Hz.
struct Yard {
    server: RtspServer,
    room: RoomHandle,
    /// `rtsp://127.0.0.1:…/yard`
    url: String,
    door: String,
    _camera: TestCamera,
    _notices: mpsc::Receiver<RecordingNotice>,
}

impl Yard {
    async fn open() -> Self {
        common::log();
        let engine = Arc::new(GstEngine::new(MediaSettings::default()).unwrap());
        let (keeper, notices) = mpsc::channel(16);
        let registry = Registry::new(RoomPolicy::default(), engine, keeper);
        let room = registry.find_or_create("yard").unwrap();
        let any = [([127, 0, 0, 1], 0).into()];
        let server = RtspServer::start(&any, registry.clone(), Gate::new(None, registry)).unwrap();
        let camera = TestCamera::start(&Model::usual(RED, 440));
        let (_, mut events) = room.listen().await.unwrap();
        let source = source(&camera.uri(), Transport::Tcp);
        let request =
            IngestRequest { name: "Door".into(), source, latency: Duration::from_millis(100), on_demand: false };
        let door = room.add_ingest(Caller::Owner, request).await.unwrap().id.to_string();
        let is_live = |event: RoomEvent| {
            matches!(event, RoomEvent::ParticipantUpdated { participant }
                if participant.ingest.as_ref().is_some_and(|ingest| ingest.state == IngestState::Live))
        };
        soon("the camera", async { while !is_live(events.recv().await.unwrap()) {} }).await;
        let url = format!("rtsp://{}/yard", server.addresses()[0]);
        Self { server, room, url, door, _camera: camera, _notices: notices }
    }

    async fn close(self) {
        self.server.close(Duration::from_secs(2)).await;
        soon("the room's end", self.room.close(CloseReason::Deleted)).await.unwrap();
    }
}

/// What ffmpeg shows in three seconds.
async fn by_ffmpeg(url: &str, transport: &str, file: &Path) {
    let how = ["-nostdin", "-v", "warning", "-rtsp_transport", transport, "-i", url, "-t", "3"];
    let said = run(Command::new("ffmpeg").args(how).args(["-c:v", "ffv1", "-c:a", "pcm_s16le", "-y"]).arg(file)).await;
    assert!(transport == "udp" || !said.contains("missed"), "no packet is lost within a connection: {said}");
}

/// What GStreamer gets in three seconds.
async fn by_gstreamer(url: &str, protocols: &str, file: &Path) {
    let launch = format!(
        "rtspsrc name=room location={url} protocols={protocols} latency=100 matroskamux name=file ! filesink location={} \
         room. ! rtph264depay ! h264parse ! identity eos-after=75 ! file. room. ! rtpopusdepay ! opusparse ! identity eos-after=150 ! file.",
        file.display()
    );
    run(Command::new("gst-launch-1.0").arg("-q").args(launch.split_whitespace())).await;
}

async fn run(command: &mut Command) -> String {
    let output = soon("a player's end", command.kill_on_drop(true).output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// It is red and sounds, from its beginning on, and both together.
async fn is_red(file: PathBuf, (width, height): (usize, usize), what: &str) {
    let what = what.to_owned();
    let judged = tokio::task::spawn_blocking(move || {
        let content = Content::read(&file);
        assert_eq!((content.width, content.height), (width, height), "{what}");
        assert!(content.frames() >= 50, "{what}: {} frames", content.frames());
        for time in [0.5, 2.0] {
            let [luma, blue, red] = content.colour(time, [width * 15 / 32, height * 5 / 16, 40, 40]);
            assert!((luma - 62.0).abs() < 25.0 && blue < 128.0 && red > 170.0, "{what}: {luma} {blue} {red} at {time}");
            assert!(content.tone(time, 440.0) > 0.1, "{what}: {} at {time}", content.tone(time, 440.0));
        }
    });
    judged.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_may_have_a_track_without_its_effects() {
    let yard = Yard::open().await;
    let folder = tempfile::tempdir().unwrap();
    let door = EffectsOf::Participant(yard.door.parse().unwrap());
    let grey = EffectRequest { name: "greyscale".into(), ..Default::default() };
    yard.room.set_effects(Caller::Owner, door, vec![grey]).await.unwrap();
    let url = |effects: &str| format!("{}/{}?effects={effects}", yard.url, yard.door);
    let file = |name: &str| folder.path().join(name);
    let (clean, shown) = (url("off"), url("on"));
    let (clean_file, shown_file) = (file("off.mkv"), file("on.mkv"));
    tokio::join!(by_ffmpeg(&clean, "tcp", &clean_file), by_ffmpeg(&shown, "tcp", &shown_file));
    is_red(clean_file, (320, 240), "without effects").await;
    let grey = tokio::task::spawn_blocking(move || Content::read(&shown_file).colour(2.0, [150, 75, 40, 40]));
    let [_, blue, red] = grey.await.unwrap();
    assert!((blue - 128.0).abs() < 12.0 && (red - 128.0).abs() < 12.0, "with its effect it is grey: {blue} {red}");
    let refused = |url: String| async move {
        let opened = Camera::open(&source(&url, Transport::Tcp)).await;
        opened.err().map(|error| error.to_string()).unwrap_or_default()
    };
    for bad in [url("no"), format!("{}/mix?effects=off", yard.url)] {
        let said = refused(bad).await;
        assert!(said.contains("400"), "{said}");
    }
    yard.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn players_show_the_mix_and_a_participant_over_tcp_and_udp() {
    let yard = Yard::open().await;
    let folder = tempfile::tempdir().unwrap();
    let mix = format!("{}/mix", yard.url);
    // The mix runs for a first player, and shows her before the others look.
    let mut first = Camera::open(&source(&mix, Transport::Tcp)).await.unwrap();
    let began = Instant::now();
    first.play().await.unwrap();
    let running = tokio::spawn(async move { while first.next().await.is_ok() {} });
    let door = format!("{}/{}", yard.url, yard.door);
    for (url, player, way, size) in [
        (&door, "ffmpeg", "tcp", (320, 240)),
        (&mix, "ffmpeg", "udp", (1280, 720)),
        (&mix, "ffmpeg", "tcp", (1280, 720)),
        (&mix, "gstreamer", "udp", (1280, 720)),
        (&mix, "gstreamer", "tcp", (1280, 720)),
    ] {
        let file = folder.path().join(format!("{player}-{way}-{}.mkv", size.0));
        if player == "ffmpeg" {
            by_ffmpeg(url, way, &file).await
        } else {
            by_gstreamer(url, way, &file).await
        }
        println!("{player} over {way} has it, {:?} from the beginning", began.elapsed());
        is_red(file, size, &format!("{player} over {way}: {url}")).await;
    }
    let graph = yard.room.graph().await.unwrap();
    assert!(graph.nodes.iter().any(|node| node.label == "RTP"), "{graph:#?}");
    running.abort();
    yard.close().await;
}

/// A player from its first word to the first packet of a keyframe.
async fn first_picture(url: &str, transport: Transport) -> Duration {
    let began = Instant::now();
    let mut player = Camera::open(&source(url, transport)).await.unwrap();
    assert_eq!(player.streams().iter().map(|stream| stream.kind).collect::<Vec<_>>(), [Kind::Video, Kind::Audio]);
    player.play().await.unwrap();
    let is_keyframe =
        |bytes: &[u8]| starts_keyframe(CodecName::H264, rtp_types::RtpPacket::parse(bytes).unwrap().payload());
    let came = async {
        loop {
            let packet = player.next().await.unwrap();
            if !packet.rtcp && packet.stream == 0 {
                assert!(is_keyframe(&packet.bytes), "it begins with a keyframe");
                return began.elapsed();
            }
        }
    };
    let took = soon("the first picture", came).await;
    player.close().await;
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn players_come_and_go_fifty_times_see_a_picture_soon_and_leave_nothing() {
    let yard = Yard::open().await;
    let empty = Usage::now();
    let (mix, door) = (format!("{}/mix", yard.url), format!("{}/{}", yard.url, yard.door));
    let cold = first_picture(&mix, Transport::Tcp).await;
    println!("the first picture of a mix that did not run: {cold:?}");
    assert!(cold < Duration::from_secs(2), "{cold:?}");
    let mut stays = Camera::open(&source(&mix, Transport::Tcp)).await.unwrap();
    stays.play().await.unwrap();
    stays.next().await.unwrap();
    let staying = tokio::spawn(async move { while stays.next().await.is_ok() {} });
    let mut slowest = Duration::ZERO;
    // The first few have decoders and encoders started that stay as long as the mix.
    let mut before = None;
    for round in 0..50 {
        if round == 10 {
            before = Some(Usage::now());
        }
        let transport = if round % 2 == 0 { Transport::Tcp } else { Transport::Udp };
        slowest = slowest.max(first_picture(if round % 5 == 0 { &door } else { &mix }, transport).await);
    }
    println!("the slowest of fifty first pictures: {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    assert!(!staying.is_finished(), "the one who stays sees it still");
    assert_eq!(settles_within(before.unwrap()).await, Ok(()), "before: {before:?}");
    staying.abort();
    let _ = staying.await;
    // The last one has gone, without a word: so does the mix.
    let none = Usage { threads: usize::MAX, ..empty };
    assert_eq!(settles_within(none).await, Ok(()), "before: {empty:?}");
    yard.close().await;
}
