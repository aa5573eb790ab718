//! Rooms over SRT, as players see them: ffmpeg and GStreamer, who begin with a whole picture, and players who come
//! and go.
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
use gst::prelude::*;
use salon::{
    ingest::rtsp::Transport,
    media::{
        gst::{GstEngine, MediaSettings},
        ingest::IngestState,
    },
    recording::RecordingNotice,
    room::{
        Registry, RoomHandle,
        command::Caller,
        event::{CloseReason, RoomEvent},
        model::IngestRequest,
        policy::RoomPolicy,
    },
    server::{auth::Gate, srt::SrtServer},
};
use tokio::{process::Command, sync::mpsc};

/// A server whose room `yard` shows a camera that is red and sounds at 440 Hz.
struct Yard {
    server: SrtServer,
    room: RoomHandle,
    /// `srt://127.0.0.1:…?streamid=yard/mix`
    url: String,
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
        let server = SrtServer::start(&any, registry.clone(), Gate::new(None, registry)).unwrap();
        let camera = TestCamera::start(&Model::usual(RED, 440));
        let (_, mut events) = room.listen().await.unwrap();
        let source = source(&camera.uri(), Transport::Tcp);
        let request =
            IngestRequest { name: "Door".into(), source, latency: Duration::from_millis(100), on_demand: false };
        room.add_ingest(Caller::Owner, request).await.unwrap();
        let is_live = |event: RoomEvent| {
            matches!(event, RoomEvent::ParticipantUpdated { participant }
                if participant.ingest.as_ref().is_some_and(|ingest| ingest.state == IngestState::Live))
        };
        soon("the camera", async { while !is_live(events.recv().await.unwrap()) {} }).await;
        let url = format!("srt://{}?streamid=yard/mix", server.addresses()[0]);
        Self { server, room, url, _camera: camera, _notices: notices }
    }

    async fn close(self) {
        self.server.close(Duration::from_secs(2)).await;
        soon("the room's end", self.room.close(CloseReason::Deleted)).await.unwrap();
    }
}

/// What ffmpeg shows in three seconds; it must find nothing wrong.
async fn by_ffmpeg(url: &str, file: &Path) {
    let how = ["-nostdin", "-v", "warning", "-i", url, "-t", "3", "-c:v", "ffv1", "-c:a", "pcm_s16le", "-y"];
    let output = Command::new("ffmpeg").args(how).arg(file).kill_on_drop(true).output();
    let output = soon("ffmpeg's end", output).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    for wrong in ["corrupt", "non-existing", "concealing", "missing"] {
        assert!(!said.contains(wrong), "it begins with a whole picture, and nothing is lost: {said}");
    }
}

/// It is red and sounds, from its beginning on, and both together.
async fn is_red(file: PathBuf, what: &'static str) {
    let judged = tokio::task::spawn_blocking(move || {
        let content = Content::read(&file);
        assert_eq!((content.width, content.height), (1280, 720), "{what}");
        assert!(content.frames() >= 50, "{what}: {} frames", content.frames());
        for time in [0.5, 2.0] {
            let [luma, blue, red] = content.colour(time, [600, 225, 40, 40]);
            assert!((luma - 62.0).abs() < 25.0 && blue < 128.0 && red > 170.0, "{what}: {luma} {blue} {red} at {time}");
            assert!(content.tone(time, 440.0) > 0.1, "{what}: {} at {time}", content.tone(time, 440.0));
        }
    });
    judged.await.unwrap();
}

/// A player of GStreamer's that calls, sees its first picture, and goes: how long that took, and luma, blue and red
/// of a place in the picture.
async fn first_picture(url: &str) -> (Duration, [u8; 3]) {
    let began = Instant::now();
    let launch = format!(
        "srtsrc uri={url} ! tsdemux ! h264parse ! avdec_h264 max-threads=1 ! video/x-raw,format=I420,width=1280,height=720 ! \
         fakesink name=end sync=false signal-handoffs=true"
    );
    let player = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
    let (shown, mut pictures) = mpsc::channel(1);
    player.by_name("end").unwrap().connect("handoff", false, move |values| {
        let buffer = values[1].get::<gst::Buffer>().unwrap();
        let map = buffer.map_readable().unwrap();
        let (x, y, luma) = (620, 244, 1280 * 720);
        let chroma = y / 2 * 640 + x / 2;
        let _ = shown.try_send([map[y * 1280 + x], map[luma + chroma], map[luma + luma / 4 + chroma]]);
        None
    });
    let starting = player.clone();
    tokio::task::spawn_blocking(move || starting.set_state(gst::State::Playing).unwrap()).await.unwrap();
    let colour = soon("the first picture", pictures.recv()).await.unwrap();
    let took = began.elapsed();
    tokio::task::spawn_blocking(move || player.set_state(gst::State::Null).unwrap()).await.unwrap();
    (took, colour)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn players_show_the_mix_from_a_whole_picture_on_come_and_go_and_leave_nothing() {
    let yard = Yard::open().await;
    let empty = Usage::now();
    println!("the first picture of a mix that did not run: {:?}", first_picture(&yard.url).await.0);
    let folder = tempfile::tempdir().unwrap();
    let [first, late] = ["first", "late"].map(|name| folder.path().join(name).with_extension("mkv"));
    // Until the mix shows her.
    by_ffmpeg(&yard.url, &first).await;
    by_ffmpeg(&yard.url, &late).await;
    is_red(late, "ffmpeg, late").await;
    let (mut before, mut slowest) = (None, Duration::ZERO);
    for round in 0..50 {
        // The first few have decoders and encoders started that stay as long as the mix.
        if round == 10 {
            before = Some(Usage::now());
        }
        let (took, [luma, blue, red]) = first_picture(&yard.url).await;
        assert!(luma.abs_diff(62) < 25 && blue < 128 && red > 170, "{luma} {blue} {red} in round {round}");
        slowest = slowest.max(took);
    }
    println!("the slowest of fifty first pictures: {slowest:?}");
    assert_eq!(settles_within(before.unwrap()).await, Ok(()), "before: {before:?}");
    // The last one has gone: so does the mix.
    let none = Usage { threads: usize::MAX, ..empty };
    assert_eq!(settles_within(none).await, Ok(()), "before: {empty:?}");
    yard.close().await;
}
