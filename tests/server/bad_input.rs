//! What recordings and layouts are not asked for: each has a status, a code and the field that is meant, and changes
//! nothing.

use serde_json::{Value, json};

use super::harness::{TestServer, fragmented, problem};

const RECORDINGS: &str = "/api/rooms/math/recordings";
const LAYOUT: &str = "/api/rooms/math/layout";

/// Status, code and field of a refusal, which says in words what would do.
async fn refusal(server: &TestServer, path: &str, body: Value) -> (u16, String, String) {
    let method = if path == LAYOUT { "PUT" } else { "POST" };
    let (status, refused) = server.json(method, path, Some(body)).await;
    let of = |name: &str| refused[name].as_str().unwrap_or_default().to_owned();
    assert!(of("detail").len() > 10, "{refused}");
    (status, of("code"), of("field"))
}

#[tokio::test]
async fn a_recording_that_cannot_be_is_refused_with_the_field() {
    let server = TestServer::start().await;
    server.send("POST", "/api/rooms", Some(json!({"name": "math"}))).await;
    let long = "x".repeat(4_096);
    let table = [
        (json!({"width": 7_680, "height": 4_320}), "bad_setting", "width"),
        (json!({"height": 4_320}), "bad_setting", "height"),
        (json!({"width": 1, "height": 1}), "bad_setting", "width"),
        (json!({"width": 1_281}), "bad_setting", "width"),
        (json!({"height": 721}), "bad_setting", "height"),
        (json!({"width": -2}), "bad_json", ""),
        (json!({"fps": 1}), "bad_setting", "fps"),
        (json!({"fps": 240}), "bad_setting", "fps"),
        (json!({"fps": 0}), "bad_setting", "fps"),
        (json!({"fps": 29.97}), "bad_json", ""),
        (json!({"widht": 640}), "bad_json", ""),
        (json!({"name": "a\u{0}b"}), "bad_setting", "name"),
        (json!({"name": "a\nb"}), "bad_setting", "name"),
        (json!({"name": long}), "bad_setting", "name"),
        (json!({"audio": false, "video": false}), "bad_setting", "video"),
        (json!({"layout": "spiral"}), "bad_layout", "layout"),
        (json!({"layout": "../grid"}), "bad_layout", "layout"),
        (json!({"layout": "grid\u{0}"}), "bad_layout", "layout"),
        (json!({"layout": long}), "bad_layout", "layout"),
        (json!({"layout": {"kind": "grid", "colour": "red"}}), "bad_layout", "layout"),
        (json!({"layout": {"kind": "grid", "logo": {"picture": "../../etc/passwd"}}}), "bad_layout", "logo"),
        (json!({"layout": {"kind": "spiral"}}), "bad_layout", "kind"),
        (json!({"layout": 7}), "bad_layout", "layout"),
    ];
    for (body, code, field) in table {
        let found = refusal(&server, RECORDINGS, body.clone()).await;
        assert_eq!(found, (400, code.to_owned(), field.to_owned()), "{body}");
        // The same of a room that is to record as soon as somebody publishes; whether its pictures are there is
        // seen then.
        if field != "logo" {
            let found = refusal(&server, "/api/rooms", json!({"name": "art", "recording": body})).await;
            assert_eq!(found.0, 400, "{body}: {found:?}");
            assert_eq!(server.get("/api/rooms/art", &[]).await.status(), 404, "{body}");
        }
    }
    assert_eq!(server.json("GET", "/api/recordings", None).await, (200, json!([])));
}

#[tokio::test]
async fn a_layout_that_cannot_be_is_refused_with_the_field() {
    let server = TestServer::start().await;
    server.send("POST", "/api/rooms", Some(json!({"name": "math"}))).await;
    let before = server.json("GET", "/api/rooms/math", None).await.1["layout"].clone();
    assert_eq!(before["kind"], "grid");
    let region = |x: f64, y: f64, width: f64, height: f64| {
        json!({"kind": "custom", "regions": [
            {"x": 0, "y": 0, "width": 0.5, "height": 0.5, "show": "next"},
            {"x": x, "y": y, "width": width, "height": height, "show": "next"},
        ]})
    };
    let table = [
        (json!({"kind": "spiral"}), "kind"),
        (json!({"kind": "../grid"}), "kind"),
        (json!({}), "kind"),
        (json!({"kind": "grid", "colour": "red"}), "layout"),
        (json!({"kind": "grid", "title": "x".repeat(4_096)}), "title"),
        (json!({"kind": "grid", "title": "a\u{0}b"}), "title"),
        (json!({"kind": "grid", "background": "red"}), "background"),
        (json!({"kind": "grid", "pinned": "x".repeat(4_096)}), "pinned"),
        (json!({"kind": "custom", "regions": []}), "regions"),
        (region(0.6, 0.0, 0.5, 0.5), "regions"),
        (region(0.0, 0.6, 0.5, 0.5), "regions"),
        (region(-0.1, 0.0, 0.5, 0.5), "regions"),
        (region(0.0, 0.0, 0.0, 0.5), "regions"),
        (region(2.0, 2.0, 0.5, 0.5), "regions"),
        (region(0.0, 0.0, 1e300, 1e300), "regions"),
        (
            json!({"kind": "custom", "regions": [{"x": 0, "y": 0, "width": 1, "height": 1, "show": "nobody"}]}),
            "regions",
        ),
        (json!({"kind": "grid", "regions": [{"x": 0, "y": 0, "width": 1, "height": 1, "show": "next"}]}), "regions"),
    ];
    for (body, field) in table {
        let found = refusal(&server, LAYOUT, body.clone()).await;
        assert_eq!(found, (400, "bad_layout".to_owned(), field.to_owned()), "{body}");
    }
    assert_eq!(server.json("GET", "/api/rooms/math", None).await.1["layout"], before);
}

/// States in which a verb is of no use.
#[tokio::test]
async fn what_comes_at_the_wrong_time_is_refused_or_changes_nothing() {
    let server = TestServer::start().await;
    let (id, file) = server.record("math", &fragmented(1_000)).await;
    let path = format!("/api/recordings/{id}");
    let post = async |verb: &str| server.send("POST", &format!("{path}/{verb}"), None).await;
    assert_eq!(problem(post("resume").await).await, (409, "not_paused".into()));
    assert_eq!(problem(server.send("DELETE", &path, None).await).await, (409, "recording_running".into()));
    assert!(file.exists(), "what runs is not deleted");
    assert!(post("pause").await.status().is_success());
    assert_eq!(problem(post("pause").await).await, (409, "already_paused".into()));
    assert_eq!(problem(server.send("DELETE", &path, None).await).await, (409, "recording_running".into()));
    let (status, stopped) = server.json("POST", &format!("{path}/stop?wait_s=10"), None).await;
    assert_eq!((status, &stopped["state"]), (200, &json!("ready")), "{stopped}");
    // A second stop tells what the first came to.
    assert_eq!(server.json("POST", &format!("{path}/stop"), None).await, (200, stopped));
    for late in ["markers", "pause", "resume"] {
        assert_eq!(problem(post(late).await).await, (409, "not_recording".into()), "{late}");
    }
}

#[tokio::test]
async fn names_lead_nowhere() {
    let server = TestServer::start().await;
    // A title for lists, never a file's name.
    let (status, recording) = server.json("POST", RECORDINGS, Some(json!({"name": "../../../etc/passwd"}))).await;
    assert_eq!((status, &recording["spec"]["name"]), (201, &json!("../../../etc/passwd")), "{recording}");
    let id = recording["id"].as_str().unwrap();
    let file = super::harness::soon(server.calls.lock().await.find(|call| match call {
        salon::media::fake::Call::StartRecording(_, file, _) => Some(file),
        _ => None,
    }))
    .await;
    assert_eq!(file, server.folder.path().join(format!("recordings/{id}.mp4")));
    std::fs::write(&file, fragmented(10)).unwrap();
    let (_, stopped) = server.json("POST", &format!("/api/recordings/{id}/stop?wait_s=10"), None).await;
    assert_eq!(stopped["state"], "ready", "{stopped}");
    let saved = server.get(&format!("/api/recordings/{id}/file?download"), &[]).await;
    let name = saved.headers()["content-disposition"].to_str().unwrap().to_owned();
    assert!(!name.contains('/') && !name.contains("%2F"), "{name}");

    let long = "x".repeat(4_096);
    for bad in ["..", "../x", "a\u{0}b", long.as_str()] {
        let made = refusal(&server, "/api/rooms", json!({"name": bad})).await;
        assert_eq!((made.0, made.1.as_str()), (400, "bad_room_name"), "{bad:?}");
    }
    for bad in ["..%2Fmath", "a%00b", long.as_str()] {
        let refused = server.send("POST", &format!("/api/rooms/{bad}/recordings"), None).await;
        assert_eq!(problem(refused).await, (400, "bad_room_name".into()), "{bad:?}");
    }
    let base = format!("/api/recordings/{id}");
    for bad in ["%2E%2E%2F%2E%2E%2Fdata%2Fsecret", "a%00b", long.as_str()] {
        let refused = server.get(&format!("{base}/files/{bad}"), &[]).await;
        assert_eq!(problem(refused).await, (404, "no_file".into()), "{bad:?}");
        let refused = server.get(&format!("/api/recordings/{bad}"), &[]).await;
        assert_eq!(problem(refused).await, (404, "no_such_recording".into()), "{bad:?}");
        let refused = server.send("DELETE", &format!("/api/recordings/{bad}"), None).await;
        assert_eq!(problem(refused).await, (404, "no_such_recording".into()), "{bad:?}");
    }
    let left: Vec<_> = server.registry.list();
    assert_eq!(left.len(), 1, "no other room has appeared");
}
