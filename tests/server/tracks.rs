//! Single tracks of recordings over HTTP, and over a crash.

use std::path::{Path, PathBuf};

use salon::{
    media::{CodecName, Kind, RecordingMode, fake::Call},
    recording::{
        Keeper,
        tracks::{self, Journal, LeftOut, Line, TrackEntry},
        webm,
    },
    room::{id::RecordingId, model::RecordingState},
};
use serde_json::{Value, json};

use super::{
    harness::{TestServer, keeping, problem, soon},
    keeping::{entry, finished},
};

/// What the engine would write: a track of two seconds that begins at 1.5 s, one cut off before its
/// first cluster was whole, and one that it could not take.
fn write_tracks(folder: &Path) -> Vec<u8> {
    let mut journal = Journal::create(folder).unwrap();
    let entry = |name: &str, offset_ms| TrackEntry {
        name: name.into(),
        participant: "김철수".into(),
        track_kind: Kind::Video,
        codec: CodecName::Vp8,
        published: None,
        offset_ms,
    };
    let format = webm::VideoFormat { codec: webm::VideoCodec::Vp8, width: 320, height: 180 };
    let mut writer = webm::Writer::new(&format);
    (0..50).for_each(|frame| writer.push(frame * 40_000_000, frame % 25 == 0, vec![frame as u8; 100].into()));
    let bytes = [writer.header().to_vec(), writer.take_clusters()].concat();
    journal.note(&Line::File(entry("001-video.webm", 1_500))).unwrap();
    std::fs::write(folder.join("001-video.webm"), &bytes).unwrap();
    journal.note(&Line::File(entry("002-video.webm", 3_000))).unwrap();
    std::fs::write(folder.join("002-video.webm"), &bytes[..300]).unwrap();
    let left_out = "not available on this machine: rtpav1depay".into();
    journal.note(&Line::LeftOut(LeftOut { participant: "Kim".into(), codec: CodecName::Av1, left_out })).unwrap();
    bytes
}

async fn record_individually(server: &TestServer) -> (String, PathBuf) {
    let body = json!({"mode": "individual", "name": "수업"});
    let (status, recording) = server.json("POST", "/api/rooms/math/recordings", Some(body)).await;
    assert_eq!((status, &recording["files"]), (201, &json!([])), "{recording}");
    let (file, spec) = soon(server.calls.lock().await.find(|call| match call {
        Call::StartRecording(_, file, spec) => Some((file, spec)),
        _ => None,
    }))
    .await;
    assert_eq!(spec.mode, RecordingMode::Individual);
    (recording["id"].as_str().unwrap().to_owned(), tracks::folder_of(&file))
}

#[tokio::test]
async fn single_tracks_are_listed_and_served_and_go_with_their_recording() {
    let server = TestServer::start().await;
    let (id, folder) = record_individually(&server).await;
    let path = format!("/api/recordings/{id}");
    let growing = write_tracks(&folder);
    let (_, running) = server.json("GET", &path, None).await;
    assert_eq!(running["files"][0]["bytes"], growing.len(), "{running}");
    let now = server.get(&format!("{path}/files/001-video.webm"), &[]).await;
    assert_eq!((now.status().as_u16(), now.headers()["content-type"].to_str().unwrap()), (200, "video/webm"));
    assert_eq!(now.bytes().await.unwrap(), growing);

    let (_, stopped) = server.json("POST", &format!("{path}/stop?wait_s=10"), None).await;
    assert_eq!((&stopped["state"], &stopped["duration_ms"]), (&json!("ready"), &json!(3_500)), "{stopped}");
    let reason = stopped["reason"].as_str().unwrap();
    assert_eq!(
        reason,
        "002-video.webm: nothing was recorded; AV1 of Kim was not recorded: not available on this machine: rtpav1depay"
    );
    let bytes = std::fs::metadata(folder.join("001-video.webm")).unwrap().len();
    let file = json!({
        "name": "001-video.webm", "kind": "track", "participant": "김철수", "track_kind": "video", "codec": "VP8",
        "offset_ms": 1_500, "bytes": bytes,
        "sha256": salon::recording::store::sha256(&folder.join("001-video.webm")).unwrap(),
    });
    assert_eq!((&stopped["files"], &stopped["bytes"]), (&json!([file]), &json!(bytes)));
    assert!(bytes > growing.len() as u64, "it was not made seekable");
    let manifest: Value = server.get(&format!("{path}/manifest.json"), &[]).await.json().await.unwrap();
    assert_eq!((&manifest["files"], &manifest["id"]), (&json!([file]), &json!(id)));
    let part = server.get(&format!("{path}/files/001-video.webm?download"), &[("range", "bytes=0-3")]).await;
    assert_eq!(part.status(), 206);
    let name = part.headers()["content-disposition"].to_str().unwrap();
    assert!(name.contains("001-video.webm") && name.contains("%EA%B9%80"), "{name}");
    assert_eq!(part.bytes().await.unwrap(), [0x1a, 0x45, 0xdf, 0xa3].as_slice());
    for name in ["..%2F..%2Fdata%2Fsalon.db", "journal.jsonl", "003-video.webm", "%00.mp4", ".webm", &"x".repeat(4096)]
    {
        let refused = server.get(&format!("{path}/files/{name}"), &[]).await;
        assert_eq!(problem(refused).await, (404, "no_file".into()), "{name}");
    }
    assert_eq!(problem(server.get(&format!("{path}/file"), &[]).await).await, (404, "no_file".into()));
    assert_eq!(server.send("DELETE", &path, None).await.status(), 204);
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_recording_of_which_no_track_came_has_failed() {
    let server = TestServer::start().await;
    let (id, folder) = record_individually(&server).await;
    drop(Journal::create(&folder).unwrap());
    let (_, stopped) = server.json("POST", &format!("/api/recordings/{id}/stop?wait_s=10"), None).await;
    assert_eq!((&stopped["state"], &stopped["reason"]), (&json!("failed"), &json!("nothing was recorded")));
}

#[tokio::test]
async fn tracks_that_a_crash_left_are_finalised_at_the_next_start() {
    let home = tempfile::tempdir().unwrap();
    let settings = keeping(home.path());
    std::fs::create_dir_all(&settings.recordings).unwrap();
    let [known, unknown] = std::array::from_fn(|_| RecordingId::random());
    let catalogue = salon::recording::Catalogue::open(&settings.database).await.unwrap();
    let mut recording = entry(&known, RecordingState::Recording);
    recording.spec.mode = RecordingMode::Individual;
    catalogue.insert(&recording).await.unwrap();
    catalogue.close().await;
    for id in [&known, &unknown] {
        write_tracks(&settings.recordings.join(format!("{id}.tracks")));
    }
    // A line that was being written when the power went.
    let journal = settings.recordings.join(format!("{known}.tracks/journal.jsonl"));
    let text = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, &text[..text.len() - 5]).unwrap();

    let (keeper, task, _notices) = Keeper::start(settings).await.unwrap();
    for (id, mode) in [(&known, RecordingMode::Individual), (&unknown, RecordingMode::Individual)] {
        let recording = finished(&keeper, id).await;
        assert_eq!((recording.state, recording.spec.mode), (RecordingState::Ready, mode), "{recording:?}");
        assert_eq!((recording.files.len(), recording.duration_ms), (1, Some(3_500)), "{recording:?}");
    }
    task.shutdown(super::harness::PATIENCE).await;
}
