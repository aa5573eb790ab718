//! The keeper at its start: what an earlier life left behind.

use std::{io::Write as _, time::Duration};

use jiff::Timestamp;
use salon::{
    media::RecordingSpec,
    recording::{
        Catalogue, Keeper, Recording, RecordingNotice, RoomKey,
        keeper::KeeperSettings,
        minutes::{self, Entry},
        removal::Retention,
        store,
    },
    room::{
        RoomHandle,
        id::{ParticipantId, RecordingId},
        model::RecordingState,
    },
};

use super::harness::{PATIENCE, fragmented, keeping, progressive, soon};

pub fn entry(id: &RecordingId, state: RecordingState) -> Recording {
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
        files: Vec::new(),
        progress: None,
        speakers: Vec::new(),
        layouts: Vec::new(),
        has_chat: false,
        has_thumbnails: false,
        participants: vec!["Kim".into()],
        reason: None,
        file: format!("{id}.mp4"),
    }
}

pub async fn finished(keeper: &Keeper, id: &RecordingId) -> Recording {
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
    let who = ParticipantId::random();
    let entries = [
        Entry::Present { who: who.clone(), name: "Ann".into() },
        Entry::Speaks { who: who.clone(), name: "Ann".into(), at_ms: 1_000 },
        Entry::Silent { who, at_ms: 3_000 },
    ];
    minutes::append(&file(&written, "minutes.jsonl"), &entries).unwrap();
    std::fs::write(file(&rewritten, "mp4"), progressive(100)).unwrap();
    std::fs::write(file(&empty, "mp4"), b"").unwrap();

    let (keeper, task, _notices) = Keeper::start(settings.clone()).await.unwrap();
    let recording = finished(&keeper, &written).await;
    assert_eq!((recording.state, recording.duration_ms), (RecordingState::Ready, Some(5_000)));
    assert_eq!(recording.participants, ["Ann"]);
    let spoke: Vec<_> = recording.speakers.iter().map(|spoken| (spoken.from_ms, spoken.to_ms)).collect();
    assert_eq!((spoke, file(&written, "minutes.jsonl").exists()), (vec![(1_000, 3_000)], false));
    let sum = store::sha256(&file(&written, "mp4")).unwrap();
    assert_eq!((recording.files[0].sha256.as_ref(), sum.len()), (Some(&sum), 64));
    assert!(recording.ended_at.is_some() && !file(&written, "mp4.part").exists());
    // Killed between the rewrite and its entry: the file is as it should be, only the book was not.
    let recording = finished(&keeper, &rewritten).await;
    assert_eq!((recording.state, recording.duration_ms), (RecordingState::Ready, Some(3_500)));
    assert_eq!(recording.participants, ["Kim"]);
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

/// A room's task that breaks down leaves a recorder that still has something in hand.
#[tokio::test]
async fn what_a_broken_room_recorded_is_kept_once_the_last_of_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (keeper, task, notices) = Keeper::start(keeping(folder.path())).await.unwrap();
    let room = || RoomHandle::new(tokio::sync::mpsc::channel(8).0);
    let (broken, whole) = (room(), room());
    let [lost, other] = std::array::from_fn(|_| RecordingId::random());
    for (recording, room) in [(&lost, &broken), (&other, &whole)] {
        let key = RoomKey { name: "math".into(), pin: None };
        let begin = RecordingNotice::Begin {
            recording: recording.clone(),
            room: room.clone(),
            key,
            spec: RecordingSpec::default(),
        };
        notices.send(begin).await.unwrap();
        soon(keeper.wait(recording, PATIENCE, |noted| noted.is_some())).await.unwrap();
    }
    let path = keeper.path(&lost).unwrap();
    let mut recorder = std::fs::File::create_new(&path).unwrap();
    recorder.lock().unwrap();
    let bytes = fragmented(100);
    let (first, last) = bytes.split_at(bytes.len() / 2);
    recorder.write_all(first).unwrap();
    notices.send(RecordingNotice::RoomFailed { room: broken }).await.unwrap();
    let state = |id: &RecordingId| {
        let (keeper, id) = (keeper.clone(), id.clone());
        async move { keeper.get(&id).await.unwrap().unwrap().state }
    };
    let noted = |noted: Option<&Recording>| noted.is_some_and(|noted| noted.state == RecordingState::Finalising);
    soon(keeper.wait(&lost, PATIENCE, noted)).await.unwrap();
    assert_eq!(state(&lost).await, RecordingState::Finalising, "the file is still being written");
    recorder.write_all(last).unwrap();
    drop(recorder);
    let recording = finished(&keeper, &lost).await;
    assert_eq!((recording.state, recording.duration_ms), (RecordingState::Ready, Some(5_000)));
    assert!(recording.reason.unwrap().starts_with("its room failed"));
    assert_eq!(state(&other).await, RecordingState::Starting, "another room's goes on");
    drop(notices);
    soon(task.shutdown(PATIENCE)).await;
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

#[tokio::test]
async fn what_was_to_be_removed_is_removed_by_the_next_life_too() {
    let folder = tempfile::tempdir().unwrap();
    let settings = keeping(folder.path());
    std::fs::create_dir_all(&settings.recordings).unwrap();
    let [due, waiting] = std::array::from_fn(|_| RecordingId::random());
    let catalogue = Catalogue::open(&settings.database).await.unwrap();
    for (id, seconds) in [(&due, -5), (&waiting, 3_600)] {
        catalogue.insert(&entry(id, RecordingState::Ready)).await.unwrap();
        let at = Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        catalogue.hide(id, at).await.unwrap();
        std::fs::write(settings.recordings.join(format!("{id}.mp4")), progressive(10)).unwrap();
    }
    catalogue.close().await;
    let (keeper, task, _notices) = Keeper::start(settings.clone()).await.unwrap();
    soon(async {
        while settings.recordings.join(format!("{due}.mp4")).exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(keeper.restore(&due, None).await.is_err());
    assert!(settings.recordings.join(format!("{waiting}.mp4")).exists());
    keeper.restore(&waiting, None).await.unwrap();
    assert_eq!(keeper.get(&waiting).await.unwrap().unwrap().state, RecordingState::Ready);
    // A job that waits for an hour does not hold up the end.
    soon(task.shutdown(PATIENCE)).await;
}

#[tokio::test]
async fn what_was_kept_for_as_long_as_it_may_is_removed_and_nothing_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let max_age = Some(Duration::from_secs(86_400));
    let settings = KeeperSettings { retention: Retention { max_age, max_bytes: None }, ..keeping(folder.path()) };
    std::fs::create_dir_all(&settings.recordings).unwrap();
    let [old, young, interrupted] = std::array::from_fn(|_| RecordingId::random());
    let catalogue = Catalogue::open(&settings.database).await.unwrap();
    let long_ago = Timestamp::now() - jiff::SignedDuration::from_hours(25);
    for (id, state, ended_at) in [
        (&old, RecordingState::Ready, Some(long_ago)),
        (&young, RecordingState::Ready, Some(Timestamp::now())),
        (&interrupted, RecordingState::Recording, None),
    ] {
        catalogue.insert(&Recording { created_at: long_ago, ended_at, ..entry(id, state) }).await.unwrap();
        std::fs::write(settings.recordings.join(format!("{id}.mp4")), fragmented(10)).unwrap();
    }
    catalogue.close().await;
    let (keeper, task, _notices) = Keeper::start(settings.clone()).await.unwrap();
    keeper.wait(&old, PATIENCE, |recording| recording.is_none()).await.unwrap();
    assert!(!settings.recordings.join(format!("{old}.mp4")).exists());
    assert_eq!(finished(&keeper, &interrupted).await.state, RecordingState::Ready);
    assert!(keeper.get(&young).await.unwrap().is_some() && keeper.get(&interrupted).await.unwrap().is_some());
    task.shutdown(PATIENCE).await;
}
