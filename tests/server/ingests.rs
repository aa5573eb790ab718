//! Cameras over the HTTP API: what may be fetched, what is shown of it, what is refused and why.

use serde_json::{Value, json};

use super::harness::TestServer;

const PATH: &str = "/api/rooms/math/ingests";

#[tokio::test]
async fn a_camera_is_added_listed_and_removed_and_its_password_is_shown_nowhere() {
    let server = TestServer::start().await;
    let camera = json!({
        "uri": "rtsp://admin:s3cret@192.168.7.9/live?token=t0ken", "name": "현관", "transport": "udp",
        "latency_ms": 0, "audio": false,
    });
    let (status, added) = server.json("POST", PATH, Some(camera)).await;
    assert_eq!((status, &added["name"], &added["state"]), (201, &json!("현관"), &json!("connecting")));
    assert_eq!(added["uri"], "rtsp://192.168.7.9:554/live?…");
    let beside = json!({"uri": "rtsp://192.168.7.10", "credentials": {"user": "u", "password": "s3cret"}});
    let (status, other) = server.json("POST", PATH, Some(beside)).await;
    assert_eq!((status, &other["name"]), (201, &json!("192.168.7.10")));
    let (_, list) = server.json("GET", PATH, None).await;
    let (_, room) = server.json("GET", "/api/rooms/math", None).await;
    assert_eq!(room["participants"][0]["ingest"]["state"], "connecting");
    for told in [&added, &list, &room] {
        assert!(!told.to_string().contains("s3cret") && !told.to_string().contains("t0ken"), "{told}");
    }
    assert_eq!(list.as_array().unwrap().len(), 2);
    let place = format!("{PATH}/{}", added["id"].as_str().unwrap());
    assert_eq!(server.send("DELETE", &place, None).await.status(), 204);
    assert_eq!(server.json("DELETE", &place, None).await.1["code"], "no_such_ingest");
    assert_eq!(server.json("GET", PATH, None).await.1.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_address_that_is_not_allowed_is_refused_with_the_line_that_allows_it() {
    let server = TestServer::start().await;
    for (uri, entry) in [
        ("rtsp://192.168.8.1/", "192.168.8.1"),
        ("rtsp://127.0.0.1/", "127.0.0.1"),
        ("rtsp://2130706433/", "127.0.0.1"),
        ("rtsp://0x7f.1/", "127.0.0.1"),
        ("rtsp://0251.0376.0251.0376/", "169.254.169.254"),
        ("rtsp://[::1]/", "::1"),
        ("rtsp://[::ffff:10.0.0.1]/", "::ffff:a00:1"),
        ("rtsp://localhost/", "localhost"),
    ] {
        let (status, problem) = server.json("POST", PATH, Some(json!({"uri": uri}))).await;
        assert_eq!((status, &problem["code"], &problem["field"]), (403, &json!("address_not_allowed"), &json!("uri")));
        let line = format!("SALON_INGEST_ALLOW=192.168.7.0/24,{entry}");
        assert!(problem["detail"].as_str().unwrap().ends_with(&line), "{uri}: {problem}");
    }
    for (scheme, host) in ["http", "https", "srt", "rtmp", "rtsps"].iter().flat_map(|scheme| {
        ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "10.1.2.3", "169.254.169.254", "localhost"]
            .map(|host| (scheme, host))
    }) {
        let (status, problem) = server.json("POST", PATH, Some(json!({"uri": format!("{scheme}://{host}/x")}))).await;
        assert_eq!((status, &problem["code"]), (403, &json!("address_not_allowed")), "{scheme} {host}");
        assert!(problem["detail"].as_str().unwrap().contains("SALON_INGEST_ALLOW=192.168.7.0/24,"), "{problem}");
    }
    let (status, problem) = server.json("POST", PATH, Some(json!({"uri": "file:///etc/passwd"}))).await;
    assert_eq!((status, &problem["code"]), (403, &json!("file_not_allowed")));
    assert!(problem["detail"].as_str().unwrap().contains("SALON_INGEST_FOLDER="), "{problem}");
    assert_eq!(server.json("GET", PATH, None).await.0, 404, "no room was made for it");
}

#[tokio::test]
async fn what_is_no_camera_is_refused() {
    let server = TestServer::start().await;
    let long = "x".repeat(257);
    let table: [(Value, &str, &str); 12] = [
        (json!({}), "bad_uri", "uri"),
        (json!({"uri": "ftp://192.168.7.9/x"}), "bad_uri", "uri"),
        (json!({"uri": "rtmps://192.168.7.9/x/y"}), "bad_uri", "uri"),
        (json!({"uri": "rtsp://"}), "bad_uri", "uri"),
        (json!({"uri": "rtsp://192.168.7.9/\r\nX: y"}), "bad_uri", "uri"),
        (json!({"uri": "rtsp://192.168.7.9/", "latency_ms": 5001}), "bad_setting", "latency_ms"),
        (json!({"uri": "rtsp://192.168.7.9/", "audio": false, "video": false}), "bad_setting", "video"),
        (
            json!({"uri": "rtsp://192.168.7.9/", "credentials": {"user": long, "password": ""}}),
            "bad_setting",
            "credentials",
        ),
        (json!({"uri": "rtsp://192.168.7.9/", "name": "\u{202e}"}), "bad_name", "name"),
        (json!({"uri": "rtsp://192.168.7.9/", "name": "x".repeat(65)}), "name_too_long", "name"),
        (json!({"uri": "rtsp://192.168.7.9/", "transport": "pigeon"}), "bad_json", ""),
        (json!({"uri": "rtsp://192.168.7.9/", "launch": "x"}), "bad_json", ""),
    ];
    for (camera, code, field) in table {
        let (status, problem) = server.json("POST", PATH, Some(camera.clone())).await;
        assert_eq!((status, problem["code"].as_str()), (400, Some(code)), "{camera}");
        assert_eq!(problem["field"].as_str().unwrap_or_default(), field, "{camera}");
    }
}

#[tokio::test]
async fn a_moderator_adds_cameras_to_his_own_room() {
    let server = TestServer::start().await;
    let (_, ann, _ann_events) = server.join("math", None).await;
    let (_, bob, _bob_events) = server.join("math", None).await;
    let (_, eve, _eve_events) = server.join("art", None).await;
    let camera = json!({"uri": "rtsp://192.168.7.9/live", "name": "Door"});
    let forbidden = json!({"uri": "rtsp://10.0.0.1/live"});
    for (who, body, status, code) in [
        (&bob, &camera, 403, "not_allowed"),
        (&bob, &forbidden, 403, "not_allowed"),
        (&eve, &camera, 404, "no_such_room"),
        (&ann, &forbidden, 403, "address_not_allowed"),
    ] {
        let path = format!("{PATH}?access={}", who.access);
        let (got, problem) = server.json("POST", &path, Some(body.clone())).await;
        assert_eq!((got, problem["code"].as_str()), (status, Some(code)), "{body}");
    }
    let path = format!("{PATH}?access={}", ann.access);
    let (status, added) = server.json("POST", &path, Some(camera)).await;
    assert_eq!((status, &added["name"]), (201, &json!("Door")));
    assert_eq!(server.json("GET", &path, None).await.1.as_array().unwrap().len(), 1);
    let place = format!("{PATH}/{}?access={}", added["id"].as_str().unwrap(), ann.access);
    assert_eq!(server.send("DELETE", &place, None).await.status(), 204);
}

#[tokio::test]
async fn a_camera_is_looked_at_by_those_who_may_add_it() {
    let server = TestServer::start().await;
    let (_, ann, _ann_events) = server.join("math", None).await;
    let (_, bob, _bob_events) = server.join("math", None).await;
    let camera = json!({"uri": "rtsp://admin:s3cret@192.168.7.9/live"});
    let forbidden = json!({"uri": "rtsp://10.0.0.1/live"});
    for (who, body, status, code) in [
        (&bob, &camera, 403, "not_allowed"),
        (&bob, &forbidden, 403, "not_allowed"),
        (&ann, &forbidden, 403, "address_not_allowed"),
    ] {
        let (got, problem) =
            server.json("POST", &format!("{PATH}/test?access={}", who.access), Some(body.clone())).await;
        assert_eq!((got, problem["code"].as_str()), (status, Some(code)), "{body}");
    }
    let (status, seen) = server.json("POST", &format!("{PATH}/test?access={}", ann.access), Some(camera.clone())).await;
    assert_eq!((status, &seen["state"], &seen["video"]["width"]), (200, &json!("live"), &json!(320)));
    assert_eq!(seen["snapshot"], "data:image/jpeg;base64,SlBFRw==");
    assert!(server.json("GET", PATH, None).await.1.as_array().unwrap().is_empty(), "nothing was added");
    let (status, problem) = server.json("POST", "/api/rooms/none/ingests/test", Some(camera)).await;
    assert_eq!((status, &problem["code"]), (404, &json!("no_such_room")));
}
