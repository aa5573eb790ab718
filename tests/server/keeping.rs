//! The keeper at its start: what an earlier life left behind.

use std::time::Duration;

use jiff::Timestamp;
use salon::{
    media::RecordingSpec,
    recording::{Catalogue, Keeper, Recording, RoomKey},
    room::{id::RecordingId, model::RecordingState},
};

use super::harness::{PATIENCE, fragmented, keeping, progressive, soon};

fn entry(id: &RecordingId, state: RecordingState) -> Recording {
    Recording {
        id: id.clone(),
        room: "math".into(),
        key: None,
        state,
        spec: RecordingSpec::default(),
        created_at: Timestamp::now(),
        started_at: None,
        ended_at: None,
        paused_ms: 0,
        markers: Vec::new(),
        duration_ms: None,
        bytes: None,
        participants: vec!["Kim".into()],
        reason: None,
        file: format!("{id}.mp4"),
    }
}

async fn finished(keeper: &Keeper, id: &RecordingId) -> Recording {
    let over = |recording: Option<&Recording>| recording.is_some_and(|recording| recording.state.is_final());
    keeper.wait(id, PATIENCE, over).await.unwrap().unwrap()
}

#[tokio::test]
async fn interrupted_recordings_are_finalised_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let settings = keeping(folder.path());
    std::fs::create_dir_all(&settings.recordings).unwrap();
    let [written, rewritten, empty, lost, done] = std::array::from_fn(|_| RecordingId::random());
    let catalogue = Catalogue::open(&settings.database).await.unwrap();
    catalogue.insert(&entry(&written, RecordingState::Recording)).await.unwrap();
    catalogue.insert(&entry(&rewritten, RecordingState::Finalising)).await.unwrap();
    catalogue.insert(&entry(&empty, RecordingState::Starting)).await.unwrap();
    catalogue.insert(&entry(&lost, RecordingState::Recording)).await.unwrap();
    catalogue.insert(&entry(&done, RecordingState::Ready)).await.unwrap();
    catalogue.close().await;
    let file = |id: &RecordingId, ending: &str| settings.recordings.join(format!("{id}.{ending}"));
    std::fs::write(file(&written, "mp4"), fragmented(100)).unwrap();
    std::fs::write(file(&written, "mp4.part"), b"half a rewrite").unwrap();
    std::fs::write(file(&rewritten, "mp4"), progressive(100)).unwrap();
    std::fs::write(file(&empty, "mp4"), b"").unwrap();

    let (keeper, task, _notices) = Keeper::start(settings.clone()).await.unwrap();
    let recording = finished(&keeper, &written).await;
    assert_eq!((recording.state, recording.duration_ms), (RecordingState::Ready, Some(5_000)));
    assert_eq!(recording.participants, ["Kim"]);
    assert!(recording.ended_at.is_some() && !file(&written, "mp4.part").exists());
    // Killed between the rewrite and its entry: the file is as it should be, only the book was not.
    let recording = finished(&keeper, &rewritten).await;
    assert_eq!((recording.state, recording.duration_ms), (RecordingState::Ready, Some(3_500)));
    let recording = finished(&keeper, &empty).await;
    assert_eq!(recording.state, RecordingState::Failed);
    assert_eq!(recording.reason.as_deref(), Some("nothing was recorded"));
    let recording = finished(&keeper, &lost).await;
    assert_eq!(recording.state, RecordingState::Failed);
    assert!(recording.reason.unwrap().starts_with("nothing was recorded: its file cannot be read"));
    assert_eq!(keeper.get(&done).await.unwrap().unwrap().state, RecordingState::Ready);
    soon(task.shutdown(PATIENCE)).await;
}

#[tokio::test]
async fn files_without_an_entry_get_one_that_only_the_owner_sees() {
    let folder = tempfile::tempdir().unwrap();
    let settings = keeping(folder.path());
    std::fs::create_dir_all(&settings.recordings).unwrap();
    let [known, unknown] = std::array::from_fn(|_| RecordingId::random());
    let file = |name: String| settings.recordings.join(name);
    std::fs::write(file(format!("{known}.mp4")), fragmented(100)).unwrap();
    let manifest = serde_json::to_vec(&entry(&known, RecordingState::Recording)).unwrap();
    std::fs::write(file(format!("{known}.json")), manifest).unwrap();
    std::fs::write(file(format!("{unknown}.mp4")), fragmented(100)).unwrap();
    std::fs::write(file("holiday.mp4".into()), fragmented(100)).unwrap();

    let (keeper, task, _notices) = Keeper::start(settings.clone()).await.unwrap();
    let recording = finished(&keeper, &known).await;
    assert_eq!((recording.state, recording.room.as_str()), (RecordingState::Ready, "math"));
    let recording = finished(&keeper, &unknown).await;
    assert_eq!((recording.state, recording.room.as_str()), (RecordingState::Ready, ""));
    assert_eq!(keeper.list(None, None).await.unwrap().len(), 2, "a stranger's file is left alone");
    let key = RoomKey { name: "math".into(), pin: None };
    assert_eq!(keeper.list(None, Some(&key)).await.unwrap(), []);
    soon(task.shutdown(PATIENCE)).await;
    assert_eq!(std::fs::read(file("holiday.mp4".into())).unwrap(), fragmented(100));
}

#[tokio::test]
async fn two_servers_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (_keeper, task, _notices) = Keeper::start(keeping(folder.path())).await.unwrap();
    let error = Keeper::start(keeping(folder.path())).await.unwrap_err().to_string();
    assert!(error.contains("another salon server"), "{error}");
    soon(task.shutdown(PATIENCE)).await;
}

#[tokio::test]
async fn keys_of_rooms_tell_name_and_pin_apart_and_last() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("salon.db");
    let key = |name: &str, pin: Option<&str>| RoomKey { name: name.into(), pin: pin.map(str::to_owned) };
    let catalogue = Catalogue::open(&database).await.unwrap();
    let keys = [key("a", None), key("a", Some("")), key("a", Some("b")), key("ab", None), key("ab", Some(""))];
    let hashes: Vec<_> = keys.iter().map(|key| catalogue.key_hash(key)).collect();
    for (i, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..i].contains(hash), "{:?}", keys[i]);
    }
    catalogue.close().await;
    let again = Catalogue::open(&database).await.unwrap();
    assert_eq!(again.key_hash(&keys[2]), hashes[2]);
    let other = Catalogue::open(&folder.path().join("other.db")).await.unwrap();
    assert_ne!(other.key_hash(&keys[2]), hashes[2], "another server's key is another");
}

#[tokio::test]
async fn waiting_ends_when_its_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let (keeper, task, _notices) = Keeper::start(keeping(folder.path())).await.unwrap();
    let unknown = RecordingId::random();
    let never = keeper.wait(&unknown, Duration::from_millis(20), |_| false);
    assert!(soon(never).await.unwrap().is_none());
    soon(task.shutdown(PATIENCE)).await;
}
