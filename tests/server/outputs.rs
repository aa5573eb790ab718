//! The mix for players: who gets it, in which form, and who does not.

use futures_util::StreamExt;
use serde_json::json;

use super::harness::{TestServer, problem, soon};

#[tokio::test]
async fn a_rooms_mix_is_streamed_to_its_participants_and_the_owner() {
    let server = TestServer::start().await;
    let (_, ann, _ann_events) = server.join("math", None).await;
    let (_, eve, _eve_events) = server.join("art", None).await;
    for path in ["/ts/math/mix.ts".to_owned(), format!("/ts/math/mix.ts?access={}", ann.access)] {
        let response = server.get(&path, &[]).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"video/mp2t".parse().unwrap())
        );
        let mut chunks = response.bytes_stream();
        let mut received = 0;
        while received < 12 * 188 {
            received += soon(chunks.next()).await.unwrap().unwrap().len();
        }
        assert_eq!(received, 12 * 188);
    }
    for path in ["/ts/math/mix.ts", "/hls/math/mix.m3u8", "/hls/math/0.ts"] {
        let foreign = server.get(&format!("{path}?access={}", eve.access), &[]).await;
        assert_eq!(problem(foreign).await, (404, "no_such_room".into()), "{path}");
    }
    assert_eq!(problem(server.get("/ts/none/mix.ts", &[]).await).await, (404, "no_such_room".into()));
    let head = server.send("HEAD", "/ts/math/mix.ts", None).await;
    assert_eq!((head.status().as_u16(), &head.headers()["content-type"]), (200, &"video/mp2t".parse().unwrap()));
}

#[tokio::test]
async fn a_playlist_names_segments_that_are_there() {
    let server = TestServer::start().await;
    let (_, ann, _events) = server.join("math", None).await;
    let response = server.get(&format!("/hls/math/mix.m3u8?access={}", ann.access), &[]).await;
    assert_eq!(response.headers()["content-type"], "application/vnd.apple.mpegurl");
    let playlist = response.text().await.unwrap();
    let segments: Vec<&str> = playlist.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(segments, [format!("0.ts?access={}", ann.access), format!("1.ts?access={}", ann.access)]);
    for segment in segments {
        let bytes = server.get(&format!("/hls/math/{segment}"), &[]).await.bytes().await.unwrap();
        assert_eq!(bytes.len(), 4 * 188);
    }
    for missing in ["7.ts", "x.ts", "0", "-1.ts"] {
        let answer = server.get(&format!("/hls/math/{missing}"), &[]).await;
        assert_eq!(problem(answer).await, (404, "no_such_segment".into()), "{missing}");
    }
    server.send("POST", "/api/rooms", Some(json!({"name": "quiet"}))).await;
    assert_eq!(problem(server.get("/hls/quiet/0.ts", &[]).await).await, (404, "no_such_segment".into()));
}

#[tokio::test]
async fn who_has_played_a_room_reads_its_end_and_nobody_else() {
    let server = TestServer::start().await;
    let (_, ann, _events) = server.join("math", None).await;
    let (room, bob, _bobs) = server.join("math", None).await;
    let (_, eve, _eves) = server.join("math", None).await;
    let playlist = |who: &str| format!("/hls/math/mix.m3u8?access={who}");
    let [ann_plays, bob_plays, eve_plays] = [&ann, &bob, &eve].map(|who| playlist(who.access.as_str()));
    for plays in [&ann_plays, &bob_plays] {
        let text = server.get(plays, &[]).await.text().await.unwrap();
        assert!(!text.contains("ENDLIST"), "{text}");
    }
    // Bob is removed, and his player notices before the end.
    room.leave(bob.participant.clone()).await;
    assert_eq!(problem(server.get(&bob_plays, &[]).await).await, (401, "access_ended".into()));
    assert_eq!(server.send("DELETE", "/api/rooms/math", None).await.status(), 204);
    let text = server.get(&ann_plays, &[]).await.text().await.unwrap();
    assert!(text.ends_with("#EXT-X-ENDLIST\n"), "{text}");
    let last = text.lines().rev().find(|line| !line.starts_with('#')).unwrap();
    assert_eq!(server.get(&format!("/hls/math/{last}"), &[]).await.status(), 200);
    assert!(server.get("/hls/math/mix.m3u8", &[]).await.text().await.unwrap().contains("ENDLIST"), "the owner");
    for (path, expected) in [
        (&bob_plays, (401, "access_ended")),
        (&eve_plays, (401, "access_ended")),
        (&format!("/hls/math/0.ts?access={}", bob.access), (401, "access_ended")),
        (&playlist("a_1_none"), (401, "access_ended")),
    ] {
        let (status, code) = problem(server.get(path, &[]).await).await;
        assert_eq!((status, code.as_str()), expected, "{path}");
    }
    // Another room of that name is another show.
    let (_, kim, _kims) = server.join("math", None).await;
    assert_eq!(problem(server.get(&ann_plays, &[]).await).await, (401, "access_ended".into()));
    let text = server.get(&playlist(kim.access.as_str()), &[]).await.text().await.unwrap();
    assert!(!text.contains("ENDLIST"), "{text}");
    server.shut_down().await;
}

const OUTPUTS: &str = "/api/rooms/math/outputs";

#[tokio::test]
async fn a_moderator_pushes_the_mix_and_its_key_is_shown_nowhere() {
    let server = TestServer::start().await;
    let (_, ann, _ann_events) = server.join("math", None).await;
    let (_, bob, _bob_events) = server.join("math", None).await;
    let (_, eve, _eve_events) = server.join("art", None).await;
    let target = json!({"uri": "rtmp://me:pa55@192.168.7.9/live/s3cret"});
    for (who, status, code) in [(&bob, 403, "not_allowed"), (&eve, 404, "no_such_room")] {
        let path = format!("{OUTPUTS}?access={}", who.access);
        let (got, problem) = server.json("POST", &path, Some(target.clone())).await;
        assert_eq!((got, problem["code"].as_str()), (status, Some(code)));
        assert_eq!(server.json("GET", &path, None).await.1["code"], code);
    }
    let path = format!("{OUTPUTS}?access={}", ann.access);
    let (status, added) = server.json("POST", &path, Some(target)).await;
    assert_eq!((status, &added["kind"], &added["state"]), (201, &json!("rtmp"), &json!("connecting")));
    assert_eq!(added["uri"], "rtmp://192.168.7.9:1935/live/…");
    let beside = json!({"uri": "srt://192.168.7.9:9000?passphrase=s3cret-s3cret&streamid=pa55"});
    let (status, other) = server.json("POST", OUTPUTS, Some(beside)).await;
    assert_eq!((status, &other["uri"]), (201, &json!("srt://192.168.7.9:9000/?…")));
    let (_, list) = server.json("GET", &path, None).await;
    let (_, room) = server.json("GET", "/api/rooms/math", None).await;
    assert_eq!((list.as_array().unwrap().len(), room["outputs"].as_array().unwrap().len()), (2, 2));
    for told in [&added, &other, &list, &room] {
        assert!(!told.to_string().contains("s3cret") && !told.to_string().contains("pa55"), "{told}");
    }
    assert!(!room.to_string().contains("192.168"), "where it goes is for moderators: {room}");
    let place = format!("{OUTPUTS}/{}", added["id"].as_str().unwrap());
    assert_eq!(server.send("DELETE", &format!("{place}?access={}", ann.access), None).await.status(), 204);
    assert_eq!(server.json("DELETE", &place, None).await.1["code"], "no_such_output");
    for _ in 1..8 {
        assert_eq!(server.json("POST", OUTPUTS, Some(json!({"uri": "srt://192.168.7.9:9000"}))).await.0, 201);
    }
    let (status, problem) = server.json("POST", OUTPUTS, Some(json!({"uri": "srt://192.168.7.9:9000"}))).await;
    assert_eq!((status, &problem["code"]), (409, &json!("too_many_outputs")));
}

#[tokio::test]
async fn what_may_not_be_dialled_or_is_no_receiver_is_refused() {
    let server = TestServer::start().await;
    let (_, _ann, _events) = server.join("math", None).await;
    for (uri, status, code) in [
        ("rtmp://127.0.0.1/live/key", 403, "address_not_allowed"),
        ("srt://2130706433:9000", 403, "address_not_allowed"),
        ("srt://[::ffff:10.0.0.1]:9000", 403, "address_not_allowed"),
        ("rtmp://169.254.169.254/latest/meta-data", 403, "address_not_allowed"),
        ("http://192.168.7.9/live", 400, "bad_uri"),
        ("file:///etc/passwd", 400, "bad_uri"),
        ("gopher://192.168.7.9/", 400, "bad_uri"),
        ("rtmp://", 400, "bad_uri"),
        ("", 400, "bad_uri"),
    ] {
        let (got, problem) = server.json("POST", OUTPUTS, Some(json!({"uri": uri}))).await;
        assert_eq!((got, problem["code"].as_str()), (status, Some(code)), "{uri}");
    }
    assert_eq!(
        server.json("POST", "/api/rooms/none/outputs", Some(json!({"uri": "rtmp://192.168.7.9/a/b"}))).await.0,
        404
    );
}

#[tokio::test]
async fn who_has_left_or_came_under_another_pin_is_sent_the_mix_no_more() {
    let server = TestServer::start().await;
    let (_, ann, _ann_events) = server.join("math", None).await;
    let (room, bob, _bob_events) = server.join("math", None).await;
    let path = |access: &str| format!("/ts/math/mix.ts?access={access}");
    let mut owners = server.get("/ts/math/mix.ts", &[]).await.bytes_stream();
    let mut anns = server.get(&path(&ann.access.to_string()), &[]).await.bytes_stream();
    let mut bobs = server.get(&path(&bob.access.to_string()), &[]).await.bytes_stream();
    room.leave(bob.participant.clone()).await;
    soon(async { while bobs.next().await.is_some() {} }).await;
    let playlist = server.get(&format!("/hls/math/mix.m3u8?access={}", bob.access), &[]).await;
    assert_eq!(problem(playlist).await, (401, "access_ended".into()));
    assert_eq!(server.json("PATCH", "/api/rooms/math", Some(json!({"pin": "2718"}))).await.0, 200);
    soon(async { while anns.next().await.is_some() {} }).await;
    assert_eq!(server.get(&path(&ann.access.to_string()), &[]).await.status(), 200, "she is in, and may ask again");
    let mut received = 0;
    while received < 12 * 188 {
        received += soon(owners.next()).await.expect("the owner's goes on").unwrap().len();
    }
    let more = tokio::time::timeout(std::time::Duration::from_millis(200), owners.next()).await;
    assert!(more.is_err(), "it stands still, and is not over");
}
