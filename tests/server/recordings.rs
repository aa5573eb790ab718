//! Recordings over HTTP: their life, and their files with ranges.

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::harness::{Headers, TestServer, fragmented, problem, soon};

#[tokio::test]
async fn a_recording_lives_from_start_to_delete() {
    let server = TestServer::start().await;
    let (id, file) = server.record("math", &fragmented(1_000)).await;
    let path = format!("/api/recordings/{id}");
    assert_eq!(problem(server.send("DELETE", &path, None).await).await, (409, "recording_running".into()));
    let (status, stopped) = server.json("POST", &format!("{path}/stop?wait_s=10"), None).await;
    assert_eq!((status, &stopped["state"]), (200, &json!("ready")), "{stopped}");
    assert_eq!((&stopped["duration_ms"], &stopped["room"]), (&json!(5_000), &json!("math")));
    assert_eq!(stopped["bytes"], std::fs::metadata(&file).unwrap().len());
    // Stopping what is over tells what it came to.
    assert_eq!(server.json("POST", &format!("{path}/stop"), None).await, (200, stopped.clone()));
    let manifest: Value = serde_json::from_slice(&std::fs::read(file.with_extension("json")).unwrap()).unwrap();
    assert_eq!((&manifest["state"], &manifest["room"]), (&json!("ready"), &json!("math")));
    let (_, list) = server.json("GET", "/api/recordings?room=math", None).await;
    assert_eq!(list, json!([stopped]));
    assert_eq!(server.json("GET", "/api/recordings?room=art", None).await.1, json!([]));
    assert_eq!(server.send("DELETE", &path, None).await.status(), 204);
    assert!(!file.exists() && !file.with_extension("json").exists());
    assert_eq!(problem(server.get(&format!("{path}/file"), &[]).await).await, (404, "no_such_recording".into()));
}

#[tokio::test]
async fn a_recording_is_paused_and_resumed() {
    let server = TestServer::start().await;
    let (id, _) = server.record("math", &fragmented(1_000)).await;
    let path = format!("/api/recordings/{id}");
    assert_eq!(problem(server.send("POST", &format!("{path}/resume"), None).await).await, (409, "not_paused".into()));
    let (status, paused) = server.json("POST", &format!("{path}/pause"), None).await;
    assert_eq!((status, &paused["state"], &paused["paused_ms"]), (200, &json!("paused"), &json!(0)));
    assert_eq!(
        problem(server.send("POST", &format!("{path}/pause"), None).await).await,
        (409, "already_paused".into())
    );
    let (status, resumed) = server.json("POST", &format!("{path}/resume"), None).await;
    assert_eq!((status, &resumed["state"]), (200, &json!("recording")));
    server.json("POST", &format!("{path}/pause"), None).await;
    let (_, stopped) = server.json("POST", &format!("{path}/stop?wait_s=10"), None).await;
    assert_eq!(stopped["state"], "ready", "{stopped}");
    for late in ["pause", "resume"] {
        let late = server.send("POST", &format!("{path}/{late}"), None).await;
        assert_eq!(problem(late).await, (409, "not_recording".into()));
    }
    let unknown = server.send("POST", "/api/recordings/rec_none/pause", None).await;
    assert_eq!(problem(unknown).await, (404, "no_such_recording".into()));
}

#[tokio::test]
async fn markers_are_noted_in_the_catalogue_and_beside_the_file() {
    let server = TestServer::start().await;
    let (id, file) = server.record("math", &fragmented(1_000)).await;
    let path = format!("/api/recordings/{id}");
    let (status, first) = server.json("POST", &format!("{path}/markers"), Some(json!({"title": "질문"}))).await;
    assert_eq!((status, &first["markers"][0]["title"]), (201, &json!("질문")), "{first}");
    let (_, second) = server.json("POST", &format!("{path}/markers"), None).await;
    assert_eq!(second["markers"][1]["title"], "2");
    for bad in [json!({"title": ""}), json!({"title": "x".repeat(129)}), json!({"title": "a\nb"})] {
        let refused = server.send("POST", &format!("{path}/markers"), Some(bad)).await;
        assert_eq!(problem(refused).await, (400, "bad_marker".into()));
    }
    let (_, stopped) = server.json("POST", &format!("{path}/stop?wait_s=10"), None).await;
    assert_eq!(stopped["markers"], second["markers"]);
    let manifest: Value = serde_json::from_slice(&std::fs::read(file.with_extension("json")).unwrap()).unwrap();
    assert_eq!(manifest["markers"], second["markers"]);
    let late = server.send("POST", &format!("{path}/markers"), None).await;
    assert_eq!(problem(late).await, (409, "not_recording".into()));
}

#[tokio::test]
async fn chat_lies_beside_the_file_as_subtitles_while_it_runs_and_after() {
    let server = TestServer::start().await;
    let (id, file) = server.record("math", &fragmented(1_000)).await;
    let path = format!("/api/recordings/{id}");
    assert_eq!(problem(server.get(&format!("{path}/chat.vtt"), &[]).await).await, (404, "no_file".into()));
    let (room, kim, _events) = server.join("math", None).await;
    room.signal(kim.participant, "chat".into(), None, json!({"text": "질문 <있어요>"})).await.unwrap();
    let said = |recording: Option<&salon::recording::Recording>| recording.is_some_and(|recording| recording.has_chat);
    let id = std::str::FromStr::from_str(&id).unwrap();
    server.services.keeper.wait(&id, super::harness::PATIENCE, said).await.unwrap();
    let running = server.get(&format!("{path}/chat.vtt"), &[]).await;
    assert_eq!(running.headers()["content-type"], "text/vtt; charset=utf-8");
    let text = running.text().await.unwrap();
    assert!(text.starts_with("WEBVTT\n\n00:00:0") && text.ends_with("<v Kim>질문 &lt;있어요&gt;\n\n"), "{text}");
    let (_, stopped) = server.json("POST", &format!("{path}/stop?wait_s=10"), None).await;
    assert_eq!(stopped["has_chat"], true, "{stopped}");
    assert_eq!(server.get(&format!("{path}/chat.vtt"), &[]).await.text().await.unwrap(), text);
    server.send("DELETE", &path, None).await;
    assert!(!file.with_extension("chat.vtt").exists());
}

#[tokio::test]
async fn a_deleted_recording_can_be_brought_back_until_its_time_is_over() {
    let server = TestServer::start().await;
    let id = server.finished("math").await["id"].as_str().unwrap().to_owned();
    let path = format!("/api/recordings/{id}");
    let restore_path = format!("{path}/restore");
    let restore = || server.send("POST", &restore_path, None);
    assert_eq!(problem(restore().await).await, (409, "not_deleted".into()));
    for bad in ["-1", "86401", "soon", ""] {
        let refused = server.send("DELETE", &format!("{path}?undo_s={bad}"), None).await;
        assert_eq!(problem(refused).await, (400, "bad_undo".into()), "{bad}");
    }
    assert_eq!(server.send("DELETE", &format!("{path}?undo_s=3600"), None).await.status(), 204);
    for hidden in [path.clone(), format!("{path}/file"), format!("{path}/manifest.json")] {
        assert_eq!(problem(server.get(&hidden, &[]).await).await, (404, "no_such_recording".into()));
    }
    assert_eq!(server.json("GET", "/api/recordings", None).await.1, json!([]));
    assert_eq!(problem(server.send("DELETE", &path, None).await).await, (404, "no_such_recording".into()));
    let back = restore().await;
    assert_eq!(back.status(), 200);
    assert_eq!(back.json::<Value>().await.unwrap()["state"], "ready");
    assert_eq!(server.get(&format!("{path}/file"), &[]).await.status(), 200);
    // Deleted again with less time: what the first deletion had planned changes nothing.
    assert_eq!(server.send("DELETE", &format!("{path}?undo_s=1"), None).await.status(), 204);
    let file = server.folder.path().join(format!("recordings/{id}.mp4"));
    soon(async {
        while file.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(problem(restore().await).await, (404, "no_such_recording".into()));
}

#[tokio::test]
async fn stopping_answers_at_once_unless_asked_to_wait() {
    let server = TestServer::start().await;
    let (id, _) = server.record("math", &fragmented(10)).await;
    let (status, recording) = server.json("POST", &format!("/api/recordings/{id}/stop"), None).await;
    // The rewrite may be done before we look, but never is it still running.
    match recording["state"].as_str().unwrap() {
        "finalising" => assert_eq!(status, 202),
        "ready" => assert_eq!(status, 200),
        other => panic!("{other}"),
    }
    let (status, recording) = server.json("POST", &format!("/api/recordings/{id}/stop?wait_s=10"), None).await;
    assert_eq!((status, &recording["state"]), (200, &json!("ready")));
}

#[tokio::test]
async fn a_recording_that_cannot_be_rewritten_is_kept_and_says_so() {
    let server = TestServer::start().await;
    let media = [fragmented(100), b"REFUSE".to_vec()].concat();
    let (id, file) = server.record("math", &media).await;
    let (_, recording) = server.json("POST", &format!("/api/recordings/{id}/stop?wait_s=10"), None).await;
    assert_eq!(recording["state"], "ready");
    assert!(recording["reason"].as_str().unwrap().contains("the disk is full"), "{recording}");
    assert_eq!(std::fs::read(&file).unwrap(), media);
    assert!(!file.with_extension("mp4.part").exists());
}

#[tokio::test]
async fn a_recording_of_nothing_has_failed() {
    let server = TestServer::start().await;
    let (id, _) = server.record("math", &fragmented(0)[..20]).await;
    let (_, recording) = server.json("POST", &format!("/api/recordings/{id}/stop?wait_s=10"), None).await;
    assert_eq!((&recording["state"], &recording["reason"]), (&json!("failed"), &json!("nothing was recorded")));
}

#[tokio::test]
async fn closing_the_room_ends_its_recordings() {
    let server = TestServer::start().await;
    let (id, _) = server.record("math", &fragmented(10)).await;
    server.send("DELETE", "/api/rooms/math", None).await;
    let (_, recording) = server.json("POST", &format!("/api/recordings/{id}/stop?wait_s=10"), None).await;
    assert_eq!(recording["state"], "ready", "{recording}");
}

#[tokio::test]
async fn a_recording_that_cannot_be_leaves_no_room_behind() {
    let server = TestServer::start().await;
    let refused = server.send("POST", "/api/rooms/math/recordings", Some(json!({"fps": 1_000}))).await;
    assert_eq!(problem(refused).await, (400, "bad_setting".into()));
    assert!(server.registry.list().is_empty());
}

#[tokio::test]
async fn files_come_whole_and_in_parts() {
    let server = TestServer::start().await;
    let recording = server.finished("math").await;
    let path = format!("/api/recordings/{}/file", recording["id"].as_str().unwrap());
    let whole = server.get(&path, &[]).await;
    let tag = whole.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(
        (&whole.headers()["content-type"], &whole.headers()["accept-ranges"]),
        (&"video/mp4".parse().unwrap(), &"bytes".parse().unwrap())
    );
    let bytes = whole.bytes().await.unwrap();
    let length = bytes.len();
    let last = length - 1;

    let full = format!("bytes 0-{last}/{length}");
    let tail = format!("bytes {}-{last}/{length}", length - 5);
    let table: &[(Headers<'_>, u16, Option<&str>, &[u8])] = &[
        (&[("range", "bytes=4-7")], 206, Some(&format!("bytes 4-7/{length}")), &bytes[4..8]),
        (&[("range", "bytes=0-")], 206, Some(&full), &bytes),
        (&[("range", "bytes=-5")], 206, Some(&tail), &bytes[length - 5..]),
        (&[("range", "bytes=4-7"), ("if-range", &tag)], 206, Some(&format!("bytes 4-7/{length}")), &bytes[4..8]),
        (&[("range", "bytes=4-7"), ("if-range", "\"other\"")], 200, None, &bytes),
        (&[("range", "bytes=0-1,4-5")], 200, None, &bytes),
        (&[("range", "chapters=1")], 200, None, &bytes),
        (&[("if-none-match", &tag)], 304, None, b""),
        (&[("if-none-match", "\"other\"")], 200, None, &bytes),
    ];
    for (headers, status, range, body) in table {
        let response = server.get(&path, headers).await;
        assert_eq!(response.status(), *status, "{headers:?}");
        assert_eq!(text(response.headers(), "content-range"), *range, "{headers:?}");
        assert_eq!(&response.bytes().await.unwrap()[..], *body, "{headers:?}");
    }
    let beyond = server.get(&path, &[("range", &format!("bytes={length}-"))]).await;
    assert_eq!(text(beyond.headers(), "content-range"), Some(format!("bytes */{length}").as_str()));
    assert_eq!(problem(beyond).await, (416, "bad_range".into()));

    let head = server.request("HEAD", &path, &[]).await;
    assert_eq!(text(head.headers(), "content-length"), Some(length.to_string().as_str()));
    assert_eq!(text(head.headers(), "etag"), Some(tag.as_str()));
    assert!(head.bytes().await.unwrap().is_empty());
    let part = server.request("HEAD", &path, &[("range", "bytes=4-7")]).await;
    assert_eq!((part.status().as_u16(), text(part.headers(), "content-length")), (206, Some("4")));

    let saved = server.get(&format!("{path}?download"), &[]).await;
    let name = text(saved.headers(), "content-disposition").unwrap();
    assert!(name.starts_with("attachment; filename=\"math 20") && name.ends_with(".mp4"), "{name}");
}

#[tokio::test]
async fn a_growing_file_is_as_long_as_it_is_now_and_a_download_of_it_may_go_on() {
    let server = TestServer::start().await;
    let (id, file) = server.record("math", &fragmented(100)).await;
    let path = format!("/api/recordings/{id}/file");
    let before = server.get(&path, &[]).await;
    let tag = before.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(before.headers()["cache-control"], "no-store");
    let before = before.bytes().await.unwrap();
    std::fs::write(&file, fragmented(200)).unwrap();
    let after = server.get(&path, &[("range", &format!("bytes={}-", before.len()))]).await;
    assert_eq!(after.status(), 206);
    assert_eq!(after.bytes().await.unwrap().len(), fragmented(200).len() - before.len());
    let range = format!("bytes={}-", before.len());
    let goes_on = server.get(&path, &[("range", &range), ("if-range", &tag)]).await;
    assert_eq!((goes_on.status().as_u16(), text(goes_on.headers(), "etag")), (206, Some(tag.as_str())));
    let grown = server.get(&path, &[("if-none-match", &tag)]).await;
    assert_eq!(grown.status(), 200);
    server.json("POST", &format!("/api/recordings/{id}/stop?wait_s=10"), None).await;
    let finished = server.get(&path, &[("range", &range), ("if-range", &tag)]).await;
    assert_eq!(finished.status(), 200, "the finished file is another one");
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}
