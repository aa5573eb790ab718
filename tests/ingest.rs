//! Cameras: a real RTSP server, and viewers who say which colour they see and which tone they hear.
#![cfg(feature = "gstreamer")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;
#[allow(dead_code, reason = "other test binaries use the rest")]
#[path = "common/content.rs"]
mod content;

use std::time::{Duration, Instant};

use common::{
    camera::{self, Fetched, Model, TestCamera, source},
    client::{BLUE, Client, GREEN, RED},
    hall::Hall,
    soon,
    usage::{Usage, settles_within},
};
use content::Content;
use salon::{
    ingest::{
        Credentials,
        rtsp::{Source, Transport},
        tls::Fingerprint,
    },
    media::{
        CodecName, EdgeChoice, MediaEngine, MediaEvent, Published, RecordingMode, RecordingSpec, Scene, Tile,
        graph::NodeKind,
        gst::{GstEngine, MediaSettings, live_pipelines},
        ingest::{Handling, IngestState, IngestStatus},
    },
    recording::tracks,
    room::id::{ParticipantId, RecordingId},
};

/// A viewer of the camera sees and hears what is before it; gives what is done to picture and sound.
async fn watched(model: &Model, transport: Transport) -> [Option<Handling>; 2] {
    let hall = Hall::open();
    let camera = TestCamera::start(model);
    let mut source = source(&camera.uri(), transport);
    if model.auth.is_some() {
        let (_, credentials) = salon::ingest::IngestUri::parse("rtsp://admin:s3cret@x/").unwrap();
        source.credentials = credentials;
    }
    let mut fetched = Fetched::start(&hall, source);
    let tracks = fetched.opened().await;
    let viewer = hall.watch(&tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    let handled = |media: &Option<salon::media::ingest::IngestMedia>| {
        media.as_ref().is_some_and(|media| matches!(media.handling, Handling::Forwarded | Handling::Transcoded))
    };
    let status = fetched
        .until("both on air", |status| {
            status.state == IngestState::Live && handled(&status.video) && handled(&status.audio)
        })
        .await;
    hall.shut().await;
    [status.video, status.audio].map(|media| media.map(|media| media.handling))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h264_and_aac_over_tcp() {
    let handling = watched(&Model::usual(RED, 440), Transport::Auto).await;
    assert_eq!(handling, [Some(Handling::Forwarded), Some(Handling::Transcoded)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h264_and_aac_over_udp_and_over_http() {
    watched(&Model::usual(RED, 440), Transport::Udp).await;
    watched(&Model::usual(RED, 440), Transport::Http).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_has_only_udp_is_watched_over_udp() {
    watched(&Model { protocols: Some("udp"), ..Model::usual(RED, 440) }, Transport::Auto).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cameras_ask_for_a_name_and_a_password() {
    for auth in ["basic", "digest"] {
        let model = Model { auth: Some(auth), ..Model::usual(RED, 440) };
        watched(&model, Transport::Tcp).await;
        let hall = Hall::open();
        let camera = TestCamera::start(&model);
        let wrong = source(&camera.uri().replace("rtsp://", "rtsp://admin:wrong@"), Transport::Tcp);
        assert_ne!(wrong.credentials, None::<Credentials>);
        let mut fetched = Fetched::start(&hall, wrong);
        let status = fetched.until("a refusal", |status| status.state == IngestState::Waiting).await;
        assert_eq!(status.reason, Some("unauthorised"), "{status:?}");
        hall.shut().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_browsers_do_not_take_is_transcoded() {
    for (video, audio) in
        [(camera::H265, camera::AAC), (camera::MJPEG, camera::AAC), (camera::H264_B_FRAMES, camera::AAC)]
    {
        let model = Model::new(RED, (320, 240), video, 440, audio);
        let handling = watched(&model, Transport::Tcp).await;
        assert_eq!(handling, [Some(Handling::Transcoded), Some(Handling::Transcoded)], "{video} {audio}");
    }
    let folder = tempfile::tempdir().unwrap();
    let handling = watched(&Model::mpeg4(RED, 440, folder.path()), Transport::Tcp).await;
    assert_eq!(handling, [Some(Handling::Transcoded), Some(Handling::Transcoded)], "MPEG-4");
    let handling = watched(&Model::new(RED, (320, 240), camera::H264, 440, camera::OPUS), Transport::Tcp).await;
    assert_eq!(handling, [Some(Handling::Forwarded), Some(Handling::Forwarded)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g711_is_forwarded_as_it_is_over_both_edges_and_mixed_and_stays_what_it_was() {
    for (sound, other, codec, edge) in [
        (camera::PCMU, camera::AAC, CodecName::Pcmu, EdgeChoice::Fanout),
        (camera::PCMA, camera::PCMU, CodecName::Pcma, EdgeChoice::Webrtcbin),
    ] {
        let hall = Hall::open_with(edge);
        let camera = TestCamera::start(&Model::new(RED, (320, 240), camera::H264, 440, sound));
        let mut fetched = Fetched::start(&hall, source(&camera.uri(), Transport::Tcp));
        let tracks = fetched.opened().await;
        let viewer = hall.watch(&tracks).await;
        viewer.client.sees_and_hears(RED, 440).await;
        let both = |status: &IngestStatus, wanted| {
            [&status.video, &status.audio].map(|media| media.as_ref().map(|media| media.handling)) == wanted
        };
        let forwarded = [Some(Handling::Forwarded); 2];
        fetched.until("both forwarded", |status| both(status, forwarded)).await;
        let graph = hall.room(|room| room.graph());
        assert!(graph.nodes.iter().all(|node| node.kind != NodeKind::Transcoder), "{graph:#?}");
        let sound = graph.nodes.iter().find(|node| node.id == format!("track-{}", fetched.audio)).unwrap();
        assert_eq!(sound.label, codec.encoding_name());
        let tile = Tile {
            participant: ParticipantId::random(),
            label: String::new(),
            video: Some(fetched.video.clone()),
            screen: false,
        };
        let published = Published { track: fetched.audio.clone(), name: "Door".into(), codec };
        let (audio, published) = (vec![fetched.audio.clone()], vec![published]);
        let scene = Scene { tiles: vec![tile], audio, published, ..Scene::default() };
        hall.room(|room| room.set_scene(scene.clone()));
        let listener = hall.watch_mix(&[]).await;
        listener.client.sees_and_hears(RED, 440).await;
        is_kept_as_opus(&hall, &listener.client, scene, codec).await;
        // It comes back with other sound: whoever listens was promised this codec.
        let port = camera.kill();
        let _camera = TestCamera::start_at(&Model::new(RED, (320, 240), camera::H264, 880, other), port);
        viewer.client.sees_and_hears(RED, 880).await;
        let transcoded = [Some(Handling::Forwarded), Some(Handling::Transcoded)];
        fetched.until("other sound", |status| both(status, transcoded)).await;
        hall.shut().await;
    }
}

/// A recording of the tone as a single track is Opus, and says what it was; `listener` tells how time goes by.
async fn is_kept_as_opus(hall: &Hall, listener: &Client, scene: Scene, codec: CodecName) {
    let mut events = hall.events();
    let folder = tempfile::tempdir().unwrap();
    let (recording, file) = (RecordingId::random(), folder.path().join("recording.mp4"));
    let spec = RecordingSpec { mode: RecordingMode::Individual, ..Default::default() };
    hall.room(|room| room.start_recording(recording.clone(), file.clone(), spec, scene));
    events.until("the recording's start", |event| matches!(event, MediaEvent::RecordingStarted { .. })).await;
    let heard = listener.seen().samples;
    listener.until("two seconds", |seen| seen.samples > heard + 96_000).await;
    hall.room(|room| room.stop_recording(&recording));
    events.until("the recording's end", |event| matches!(event, MediaEvent::RecordingEnded { .. })).await;
    let folder = tracks::folder_of(&file);
    let finished = tracks::finish(&folder, 0).unwrap();
    let [track] = &finished.files[..] else { panic!("{finished:?}") };
    assert_eq!((track.codec, track.published), (Some(CodecName::Opus), Some(codec)));
    let file = folder.join(&track.name);
    let content = tokio::task::spawn_blocking(move || Content::read(&file)).await.unwrap();
    assert!(content.tone(1.0, 440.0) > 0.1, "{}", content.tone(1.0, 440.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_loud_a_camera_is_is_told_whatever_it_sends_and_a_muted_one_is_neither_seen_nor_heard() {
    for sound in [camera::OPUS, camera::PCMU, camera::AAC] {
        let hall = Hall::open();
        let mut levels = hall.events();
        let camera = TestCamera::start(&Model::new(RED, (320, 240), camera::H264, 440, sound));
        let mut fetched = Fetched::start(&hall, source(&camera.uri(), Transport::Tcp));
        let tracks = fetched.opened().await;
        let viewer = hall.watch(&tracks).await;
        viewer.client.sees_and_hears(RED, 440).await;
        let audio = fetched.audio.clone();
        let mut is_told = async || {
            // Half of the full amplitude is −9 dBov.
            let is_loud = |event: &MediaEvent| {
                matches!(event, MediaEvent::AudioLevels(levels)
                    if levels.iter().any(|(track, level)| *track == audio && (-11..=-7).contains(&level.peak_db)))
            };
            levels.until("the tone's loudness", is_loud).await;
        };
        is_told().await;
        if sound == camera::AAC {
            let mute = |muted| tracks.iter().for_each(|track| hall.room(|room| room.mute_ingest(track, muted)));
            mute(true);
            // Each tells 200 ms: what was on its way has come.
            for _ in 0..5 {
                is_told().await;
            }
            let before = viewer.client.seen();
            for _ in 0..5 {
                is_told().await;
            }
            let after = viewer.client.seen();
            assert_eq!((after.frames, after.samples), (before.frames, before.samples), "{before:?} {after:?}");
            mute(false);
            viewer.client.sees_and_hears(RED, 440).await;
        }
        hall.shut().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_late_sees_a_picture_though_the_camera_cannot_be_asked_for_one() {
    let hall = Hall::open();
    let video = camera::H264.replace("key-int-max=25", "key-int-max=90");
    let camera = TestCamera::start(&Model::new(RED, (320, 240), &video, 440, camera::AAC));
    let mut fetched = Fetched::start(&hall, source(&camera.uri(), Transport::Tcp));
    let tracks = fetched.opened().await;
    let early = hall.watch(&tracks).await;
    early.client.sees_and_hears(RED, 440).await;
    for _ in 0..5 {
        let joined = Instant::now();
        let late = hall.watch(&tracks).await;
        late.client.until("the first frame", |seen| seen.is(RED)).await;
        let took = joined.elapsed();
        println!("join to first frame: {took:?}");
        assert!(took < Duration::from_millis(1500), "{took:?}");
        hall.leave(late).await;
    }
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_is_killed_comes_back_as_the_same_tracks() {
    let hall = Hall::open();
    let mut camera = TestCamera::start(&Model::usual(RED, 440));
    let mut fetched = Fetched::start(&hall, source(&camera.uri(), Transport::Tcp));
    let tracks = fetched.opened().await;
    let viewer = hall.watch(&tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    for round in 0..5u32 {
        let port = camera.kill();
        fetched.until("the loss", |status| status.state == IngestState::Waiting).await;
        // The slate is not the camera's picture.
        viewer.client.until("the slate", |seen| !seen.is(RED) && !seen.is(GREEN) && !seen.is(BLUE)).await;
        let (colour, tone) = if round.is_multiple_of(2) { (GREEN, 880) } else { (RED, 440) };
        camera = TestCamera::start_at(&Model::usual(colour, tone), port);
        let back = Instant::now();
        viewer.client.until("the picture again", |seen| seen.is(colour)).await;
        let took = back.elapsed();
        println!("back on air after {took:?}");
        assert!(took < Duration::from_secs(3), "{took:?}");
        viewer.client.sees_and_hears(colour, tone).await;
        let status = fetched.until("live again", |status| status.state == IngestState::Live).await;
        assert_eq!(status.reconnects, round + 1);
    }
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_hangs_is_noticed_and_comes_back_when_it_goes_on() {
    let hall = Hall::open();
    let camera = TestCamera::start(&Model::usual(RED, 440));
    let mut fetched = Fetched::start(&hall, source(&camera.uri(), Transport::Tcp));
    let tracks = fetched.opened().await;
    let viewer = hall.watch(&tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    camera.set_hung(true);
    let since = Instant::now();
    let status = fetched.until("the stall", |status| status.state == IngestState::Waiting).await;
    assert_eq!(status.reason, Some("stalled"), "{status:?}");
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
    viewer.client.until("the slate", |seen| !seen.is(RED)).await;
    camera.set_hung(false);
    viewer.client.until("the picture again", |seen| seen.is(RED)).await;
    viewer.client.sees_and_hears(RED, 440).await;
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_may_come_back_with_another_size_and_other_codecs() {
    let hall = Hall::open();
    let camera = TestCamera::start(&Model::usual(RED, 440));
    let mut fetched = Fetched::start(&hall, source(&camera.uri(), Transport::Tcp));
    let tracks = fetched.opened().await;
    let viewer = hall.watch(&tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    let port = camera.kill();
    let other = Model::new(GREEN, (640, 360), camera::H265, 880, camera::PCMA);
    let camera = TestCamera::start_at(&other, port);
    viewer.client.sees_and_hears(GREEN, 880).await;
    let port = camera.kill();
    let _third = TestCamera::start_at(&Model::new(BLUE, (160, 120), camera::H264, 440, camera::OPUS), port);
    viewer.client.sees_and_hears(BLUE, 440).await;
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_is_not_there_is_a_slate_until_it_is() {
    let hall = Hall::open();
    let gone = TestCamera::start(&Model::usual(RED, 440));
    let (uri, port) = (gone.uri(), gone.kill());
    let mut fetched = Fetched::start(&hall, source(&uri, Transport::Tcp));
    let tracks = fetched.opened().await;
    assert_eq!(tracks, fetched.tracks(), "what was asked for, as nobody knows what it has");
    let viewer = hall.watch(&tracks).await;
    let seen = viewer.client.until("the slate", |seen| seen.frames > 3).await;
    assert!(!seen.is(RED), "{seen:?}");
    let status = fetched.until("a reason", |status| status.state == IngestState::Waiting).await;
    assert_eq!(status.reason, Some("unreachable"));
    let _camera = TestCamera::start_at(&Model::usual(RED, 440), port);
    viewer.client.sees_and_hears(RED, 440).await;
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_transcoded_while_nobody_watches() {
    let hall = Hall::open();
    let camera = TestCamera::start(&Model::new(RED, (320, 240), camera::H265, 440, camera::AAC));
    let mut fetched = Fetched::start(&hall, source(&camera.uri(), Transport::Tcp));
    let tracks = fetched.opened().await;
    let handling = |status: &IngestStatus| status.video.as_ref().map(|video| video.handling);
    fetched.until("rest", |status| handling(status) == Some(Handling::Idle)).await;
    let before = live_pipelines();
    let viewer = hall.watch(&tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    let status = fetched.until("work", |status| handling(status) == Some(Handling::Transcoded)).await;
    assert_eq!(status.video.map(|video| (video.width, video.height)), Some((Some(320), Some(240))));
    let graph = hall.room(|room| room.graph());
    let transcoders = graph.nodes.iter().filter(|node| node.kind == NodeKind::Transcoder);
    assert_eq!(transcoders.count(), 2, "{graph:#?}");
    for edge in &graph.edges {
        for end in [&edge.from, &edge.to] {
            assert!(graph.nodes.iter().any(|node| node.id == *end), "{end} is no node of {graph:#?}");
        }
    }
    hall.leave(viewer).await;
    fetched.until("rest again", |status| handling(status) == Some(Handling::Idle)).await;
    soon("the transcoders' end", async {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        while live_pipelines() > before {
            ticks.tick().await;
        }
    })
    .await;
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_demand_a_camera_is_asked_only_while_somebody_watches() {
    let hall = Hall::open();
    let camera = TestCamera::start(&Model::usual(RED, 440));
    let mut fetched = Fetched::start_on_demand(&hall, source(&camera.uri(), Transport::Tcp));
    let tracks = fetched.opened().await;
    assert_eq!(tracks, fetched.tracks(), "what it has is known before anybody watches");
    let is_idle = |status: &IngestStatus| {
        let handling = status.video.as_ref().map(|video| video.handling);
        status.state == IngestState::Idle && handling == Some(Handling::Idle)
    };
    fetched.until("rest", is_idle).await;
    camera.until_asked(1, 1).await;
    let asked = Instant::now();
    let viewer = hall.watch(&tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    println!("seen and heard after {:?}", asked.elapsed());
    assert_eq!(camera.asked(), (2, 1));
    hall.leave(viewer).await;
    fetched.until("rest again", is_idle).await;
    camera.until_asked(2, 2).await;
    let port = camera.kill();
    let viewer = hall.watch(&tracks).await;
    let status = fetched.until("the loss", |status| status.state == IngestState::Waiting).await;
    assert_eq!(status.reason, Some("unreachable"));
    let seen = viewer.client.until("the slate", |seen| seen.frames > 0).await;
    assert!(!seen.is(RED), "what was there before is not what is there now: {seen:?}");
    let _camera = TestCamera::start_at(&Model::usual(GREEN, 880), port);
    viewer.client.sees_and_hears(GREEN, 880).await;
    hall.shut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_goes_on_over_an_outage_with_the_slate_in_the_gap() {
    let hall = Hall::open();
    let mut events = hall.events();
    let camera = TestCamera::start(&Model::usual(RED, 440));
    let mut fetched = Fetched::start(&hall, source(&camera.uri(), Transport::Tcp));
    fetched.opened().await;
    fetched.until("the camera", |status| status.state == IngestState::Live).await;
    let (video, audio) = (fetched.video.clone(), fetched.audio.clone());
    let tile = Tile { participant: ParticipantId::random(), label: String::new(), video: Some(video), screen: false };
    let scene = Scene { tiles: vec![tile], audio: vec![audio], ..Scene::default() };
    let folder = tempfile::tempdir().unwrap();
    let (recording, file) = (RecordingId::random(), folder.path().join("recording.mp4"));
    let spec = RecordingSpec { width: 320, height: 180, ..Default::default() };
    let viewer = hall.watch(&fetched.tracks()).await;
    viewer.client.sees_and_hears(RED, 440).await;
    hall.room(|room| room.start_recording(recording.clone(), file.clone(), spec, scene));
    let started = MediaEvent::RecordingStarted { recording: recording.clone() };
    events.until("the recording's start", |event| *event == started).await;
    let begun = Instant::now();
    let frames = viewer.client.seen().frames;
    viewer.client.until("three seconds", |seen| seen.frames > frames + 75).await;
    let away_at = begun.elapsed().as_secs_f64();
    let port = camera.kill();
    viewer.client.until("the slate", |seen| !seen.is(RED)).await;
    let frames = viewer.client.seen().frames;
    viewer.client.until("two seconds of it", |seen| seen.frames > frames + 10).await;
    let _camera = TestCamera::start_at(&Model::usual(GREEN, 880), port);
    viewer.client.sees_and_hears(GREEN, 880).await;
    let back_at = begun.elapsed().as_secs_f64();
    let frames = viewer.client.seen().frames;
    viewer.client.until("three seconds more", |seen| seen.frames > frames + 75).await;
    hall.room(|room| room.stop_recording(&recording));
    let ended = |event: &MediaEvent| matches!(event, MediaEvent::RecordingEnded { .. });
    let event = events.until("the recording's end", ended).await;
    assert_eq!(event, MediaEvent::RecordingEnded { recording, result: Ok(()) });
    hall.shut().await;

    let content = tokio::task::spawn_blocking(move || Content::read(&file)).await.unwrap();
    assert!(content.holes().is_empty(), "{:?}", content.holes());
    let middle = [120, 60, 80, 16];
    // Y′, Cb, Cr of RED, the slate's ground and GREEN, in BT.709 limited range.
    let is = |time: f64, wanted: [f64; 3]| {
        let seen = content.colour(time, middle);
        let near = seen.iter().zip(wanted).all(|(seen, wanted)| (seen - wanted).abs() < 25.0);
        assert!(near, "at {time}: {seen:?} instead of {wanted:?}");
    };
    is(away_at - 1.0, [62.0, 102.0, 202.0]);
    is(back_at + 1.5, [134.0, 72.0, 60.0]);
    let slate = content.colour((away_at + back_at) / 2.0, middle);
    assert!((slate[1] - 128.0).abs() < 25.0 && (slate[2] - 128.0).abs() < 25.0, "the slate is bluish grey: {slate:?}");
    assert!(content.tone(away_at - 1.0, 440.0) > 0.1 && content.tone(back_at + 1.5, 880.0) > 0.1);
    assert!(content.tone((away_at + back_at) / 2.0, 440.0) < 0.02, "silence in the gap");
}

/// One outage: the camera is killed, and another is there soon after.
async fn outage(camera: TestCamera, fetched: &mut Fetched) -> TestCamera {
    let port = camera.kill();
    fetched.until("the loss", |status| status.state == IngestState::Waiting).await;
    let camera = TestCamera::start_at(&Model::usual(RED, 440), port);
    let back = Instant::now();
    fetched.until("the return", |status| status.state == IngestState::Live).await;
    assert!(back.elapsed() < Duration::from_secs(3), "{:?}", back.elapsed());
    camera
}

/// What the process held on the way, for `script/soak`.
#[derive(Default)]
struct Soak {
    begun: Option<Instant>,
    samples: Vec<(u32, serde_json::Value)>,
}

impl Soak {
    /// Some twenty times on the way, and at its end.
    fn note(&mut self, round: u32, outages: u32) {
        if !round.is_multiple_of((outages / 20).max(1)) && round != outages {
            return;
        }
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let Usage { threads, descriptors, pipelines } = Usage::now();
        let sample = serde_json::json!({
            "outages": round, "seconds": begun.elapsed().as_secs(), "threads": threads, "descriptors": descriptors,
            "pipelines": pipelines, "resident_kib": resident_kib(),
        });
        self.samples.push((round, sample));
    }

    fn write(&self) {
        if let Ok(file) = std::env::var("SALON_SOAK_OUT") {
            let samples: Vec<_> = self.samples.iter().map(|(_, sample)| sample).collect();
            let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap();
            let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
            let cores = std::thread::available_parallelism().unwrap();
            let soak = serde_json::json!({
                "what": "a watched camera is killed and started again; what the process of server, viewer and test holds",
                "build": "as for tests, not optimised",
                "machine": format!("{cores} × {}", model.trim_start_matches([' ', '\t', ':'])),
                "samples": samples,
            });
            std::fs::write(file, serde_json::to_string_pretty(&soak).unwrap() + "\n").unwrap();
        }
    }

    /// From a quarter of the way on, when caches are warm; of few outages nothing can be said.
    fn memory_does_not_grow(&self) {
        let resident = |at: usize| self.samples[at].1["resident_kib"].as_u64().unwrap();
        let last = self.samples.len() - 1;
        if self.samples[last].0 >= 100 {
            let (early, late) = (resident(last / 4), resident(last));
            assert!(late < early + 32 * 1024, "{early} KiB became {late} KiB");
        }
    }
}

/// Memory that the process has in use.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_outages_leave_nothing() {
    // `script/soak` asks for more.
    let outages = std::env::var("SALON_SOAK_OUTAGES").map_or(20, |text| text.parse().unwrap());
    let hall = Hall::open();
    let mut camera = TestCamera::start(&Model::usual(RED, 440));
    let mut fetched = Fetched::start(&hall, source(&camera.uri(), Transport::Tcp));
    let tracks = fetched.opened().await;
    let viewer = hall.watch(&tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    for _ in 0..3 {
        camera = outage(camera, &mut fetched).await;
    }
    viewer.client.sees_and_hears(RED, 440).await;
    let before = Usage::now();
    let mut soak = Soak::default();
    for round in 0..outages {
        soak.note(round, outages);
        camera = outage(camera, &mut fetched).await;
    }
    viewer.client.sees_and_hears(RED, 440).await;
    soak.note(outages, outages);
    let settled = settles_within(before).await;
    println!("before {before:?}, after {:?}", Usage::now());
    soak.write();
    assert_eq!(settled, Ok(()), "before: {before:?}");
    soak.memory_does_not_grow();
    hall.shut().await;
    let none = Usage { pipelines: 0, threads: usize::MAX, descriptors: usize::MAX };
    settles_within(none).await.expect("the pipelines are gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_is_told_when_it_is_wanted_no_more_and_another_may_have_it_at_once() {
    let hall = Hall::open();
    let camera = TestCamera::start(&Model::usual(RED, 440));
    for _ in 0..3 {
        let mut fetched = Fetched::start(&hall, source(&camera.uri(), Transport::Udp));
        let tracks = fetched.opened().await;
        let viewer = hall.watch(&tracks).await;
        viewer.client.sees_and_hears(RED, 440).await;
        hall.room(|room| room.close(&fetched.connection));
        hall.leave(viewer).await;
    }
    let none = Usage { pipelines: 0, threads: usize::MAX, descriptors: usize::MAX };
    settles_within(none).await.expect("the pipelines are gone");
    hall.shut().await;
}

/// Speaks RTSP as it should, and sends packets of nothing.
async fn garbage_camera() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("rtsp://{}/live", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(speak_garbage(stream));
        }
    });
    uri
}

async fn speak_garbage(stream: tokio::net::TcpStream) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut reader, mut writer) = stream.into_split();
    let (mut buffer, mut chunk) = (String::new(), [0; 4096]);
    let mut numbers = 0u32;
    loop {
        let Ok(read @ 1..) = reader.read(&mut chunk).await else { return };
        buffer.push_str(&String::from_utf8_lossy(&chunk[..read]));
        while let Some(end) = buffer.find("\r\n\r\n") {
            let request: String = buffer.drain(..end + 4).collect();
            let cseq = request.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap().to_owned();
            let sdp =
                "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n";
            let body = if request.starts_with("DESCRIBE") { sdp } else { "" };
            let answer = format!(
                "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nSession: 1\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            writer.write_all(answer.as_bytes()).await.unwrap();
            if !request.starts_with("PLAY") {
                continue;
            }
            // Well-formed RTP of nonsense, and every third packet not even that, as fast as it is taken.
            loop {
                numbers = numbers.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let mut packet: Vec<u8> = (0..200).map(|at| (numbers >> (at % 24)) as u8).collect();
                if !numbers.is_multiple_of(3) {
                    packet[..2].copy_from_slice(&[0x80, 96]);
                    packet[8..12].copy_from_slice(&[0, 0, 0, 7]);
                }
                let framed = [&[b'$', (numbers % 2) as u8, 0, 200][..], &packet].concat();
                if writer.write_all(&framed).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_ends_nothing_else_and_is_told() {
    let hall = Hall::open();
    let good = TestCamera::start(&Model::usual(GREEN, 880));
    let mut fetched = Fetched::start(&hall, source(&good.uri(), Transport::Tcp));
    let tracks = fetched.opened().await;
    let viewer = hall.watch(&tracks).await;
    viewer.client.sees_and_hears(GREEN, 880).await;
    let mut bad = Fetched::start(&hall, source(&garbage_camera().await, Transport::Tcp));
    let status = bad.until("a failure", |status| status.state == IngestState::Waiting).await;
    assert!(matches!(status.reason, Some("protocol" | "media")), "{status:?}");
    viewer.client.sees_and_hears(GREEN, 880).await;
    hall.shut().await;
}

/// What a server sends instead of an answer, for as long as it is taken.
#[derive(Clone, Copy)]
enum Endless {
    /// A head, as fast as it is taken.
    Head,
    /// A description of 250 kB without media, which is as long as is read, and more behind it.
    Description,
    /// A description of 200 kB, 20 lines a second.
    Drops,
}

async fn endless_camera(what: Endless) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("rtsp://{}/live", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(speak_endlessly(stream, what));
        }
    });
    uri
}

/// OPTIONS it answers as it should, unless its heads have no end.
async fn speak_endlessly(stream: tokio::net::TcpStream, what: Endless) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut reader, mut writer) = stream.into_split();
    let (mut buffer, mut chunk) = (String::new(), [0; 4096]);
    loop {
        let Ok(read @ 1..) = reader.read(&mut chunk).await else { return };
        buffer.push_str(&String::from_utf8_lossy(&chunk[..read]));
        while let Some(end) = buffer.find("\r\n\r\n") {
            let request: String = buffer.drain(..end + 4).collect();
            let cseq = request.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap();
            let head = format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n");
            let (head, again, pause) = match what {
                Endless::Head => (head + "X: ", "a".repeat(4096), Duration::ZERO),
                _ if !request.starts_with("DESCRIBE") => {
                    let _ = writer.write_all((head + "Content-Length: 0\r\n\r\n").as_bytes()).await;
                    continue;
                }
                Endless::Description => {
                    (head + "Content-Length: 250000\r\n\r\n", "v=0\r\n".repeat(1000), Duration::ZERO)
                }
                Endless::Drops => {
                    (head + "Content-Length: 200000\r\n\r\n", "v=0\r\n".into(), Duration::from_millis(50))
                }
            };
            let mut sent = writer.write_all(head.as_bytes()).await;
            while sent.is_ok() {
                sent = writer.write_all(again.as_bytes()).await;
                tokio::time::sleep(pause).await;
            }
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cameras_whose_answers_have_no_end_end_nothing_else_and_are_told() {
    let hall = Hall::open();
    let good = TestCamera::start(&Model::usual(GREEN, 880));
    let mut fetched = Fetched::start(&hall, source(&good.uri(), Transport::Tcp));
    let tracks = fetched.opened().await;
    let viewer = hall.watch(&tracks).await;
    viewer.client.sees_and_hears(GREEN, 880).await;
    let (begun, from) = (Instant::now(), viewer.client.seen().frames);
    let mut bad = Vec::new();
    for (what, reason) in [(Endless::Head, "protocol"), (Endless::Description, "no_media"), (Endless::Drops, "timeout")]
    {
        let uri = endless_camera(what).await;
        bad.push((Fetched::start(&hall, source(&uri, Transport::Tcp)), reason));
    }
    for (bad, reason) in &mut bad {
        let status = bad.until("a failure", |status| status.state == IngestState::Waiting).await;
        assert_eq!(status.reason, Some(*reason), "{status:?}");
        viewer.client.sees_and_hears(GREEN, 880).await;
    }
    // The camera sends 25 a second; a loaded machine may lose some.
    let (seconds, frames) = (begun.elapsed().as_secs_f64(), viewer.client.seen().frames - from);
    assert!(frames as f64 > 10.0 * seconds, "{frames} frames in {seconds} s");
    hall.shut().await;
}

/// The middle of a JPEG: R′, G′, B′.
fn middle(jpeg: &[u8]) -> [u8; 3] {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("snapshot.jpg");
    std::fs::write(&file, jpeg).unwrap();
    let crop = ["-vf", "crop=2:2", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"];
    let pixels = content::ffmpeg(&[&["-v", "error", "-i", file.to_str().unwrap()][..], &crop].concat());
    [pixels[0], pixels[1], pixels[2]]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_at_a_camera_tells_what_it_has_and_shows_a_picture() {
    let engine = GstEngine::new(MediaSettings::default()).unwrap();
    let before = live_pipelines();
    for video in [camera::H264, camera::H265] {
        let camera = TestCamera::start(&Model::new(RED, (320, 240), video, 440, camera::PCMU));
        let probed = engine.probe(source(&camera.uri(), Transport::Tcp)).await.unwrap();
        let status = &probed.status;
        assert_eq!(status.state, IngestState::Live, "{probed:?}");
        let seen = status.video.as_ref().unwrap();
        assert_eq!((seen.width, seen.height), (Some(320), Some(240)), "{probed:?}");
        assert_eq!(status.audio.as_ref().unwrap().encoding, "PCMU");
        let seen = middle(&probed.snapshot.unwrap());
        let wanted = [(RED >> 16) as u8, (RED >> 8) as u8, RED as u8];
        assert!(seen.iter().zip(wanted).all(|(seen, wanted)| seen.abs_diff(wanted) < 40), "{seen:?}");
        camera.until_asked(1, 1).await;
    }
    let gone = TestCamera::start(&Model::usual(RED, 440));
    let uri = gone.uri();
    gone.kill();
    let probed = engine.probe(source(&uri, Transport::Tcp)).await.unwrap();
    assert_eq!((probed.status.reason, probed.snapshot), (Some("unreachable"), None));
    assert_eq!(live_pipelines(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_signed_its_certificate_is_watched_if_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["camera".into()]).unwrap().self_signed(&key).unwrap();
    let file = folder.path().join("camera.pem");
    std::fs::write(&file, certificate.pem() + &key.serialize_pem()).unwrap();
    let camera = TestCamera::start(&Model { certificate: Some(file), ..Model::usual(RED, 440) });
    let uri = camera.uri().replace("rtsp://", "rtsps://");
    let hall = Hall::open();
    let its = Fingerprint::of(certificate.der());
    for wrong in [None, Some(Fingerprint::of(b"another"))] {
        let mut fetched = Fetched::start(&hall, Source { fingerprint: wrong, ..source(&uri, Transport::Tcp) });
        let status = fetched.until("a refusal", |status| status.state == IngestState::Waiting).await;
        assert_eq!(status.reason, Some("tls"), "{status:?}");
        let detail = status.detail.unwrap();
        assert!(detail.ends_with(&its.to_string()), "it says which would be taken: {detail}");
        hall.room(|room| room.close(&fetched.connection));
    }
    let mut fetched = Fetched::start(&hall, Source { fingerprint: Some(its), ..source(&uri, Transport::Tcp) });
    let tracks = fetched.opened().await;
    let viewer = hall.watch(&tracks).await;
    viewer.client.sees_and_hears(RED, 440).await;
    hall.shut().await;
}
