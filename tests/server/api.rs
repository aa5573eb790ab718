//! Rooms, participants, graph, events, metrics, and what wrong requests get.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use salon::dialect::whip::message;
use salon::server::{Limits, openapi, routes::ROUTES};
use serde_json::{Value, json};

use super::harness::{Setup, TestServer, is_ok, problem, soon};

#[tokio::test]
async fn rooms_are_made_changed_and_closed() {
    let server = TestServer::start().await;
    let (status, room) =
        server.json("POST", "/api/rooms", Some(json!({"name": "수학 1", "max_participants": 3}))).await;
    assert_eq!((status, &room["name"], &room["has_pin"]), (201, &json!("수학 1"), &json!(false)));
    let path = "/api/rooms/%EC%88%98%ED%95%99%201";
    assert_eq!(server.json("GET", path, None).await.0, 200);
    let (_, changed) = server.json("PATCH", path, Some(json!({"pin": "hush-hush", "max_participants": 2}))).await;
    assert_eq!((&changed["has_pin"], &changed["max_participants"]), (&json!(true), &json!(2)));
    assert!(!changed.to_string().contains("hush-hush"), "a PIN is not told: {changed}");
    let (_, random) = server.json("POST", "/api/rooms", None).await;
    assert_eq!(random["name"].as_str().unwrap().len(), 10);
    assert_eq!(server.json("GET", "/api/rooms", None).await.1.as_array().unwrap().len(), 2);
    assert_eq!(server.send("DELETE", path, None).await.status(), 204);
    assert_eq!(problem(server.send("GET", path, None).await).await, (404, "no_such_room".into()));
    server.shut_down().await;
}

#[tokio::test]
async fn a_new_room_says_where_it_is() {
    let server = TestServer::start().await;
    let made = server.send("POST", "/api/rooms", Some(json!({"name": "수학"}))).await;
    let place = made.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(server.get(&place, &[]).await.status(), 200);
}

#[tokio::test]
async fn participants_are_listed_and_removed() {
    let server = TestServer::start().await;
    let (_, joined, mut events) = server.join("math", None).await;
    let (_, list) = server.json("GET", "/api/rooms/math/participants", None).await;
    assert_eq!((&list[0]["name"], &list[0]["role"]), (&json!("Kim"), &json!("moderator")));
    let path = format!("/api/rooms/math/participants/{}", joined.participant);
    assert_eq!(server.send("DELETE", &path, None).await.status(), 204);
    assert!(soon(events.recv()).await.is_some());
    assert_eq!(problem(server.send("DELETE", &path, None).await).await, (404, "no_such_participant".into()));
}

#[tokio::test]
async fn every_wrong_request_has_its_code() {
    let server = TestServer::start().await;
    server.send("POST", "/api/rooms", Some(json!({"name": "math"}))).await;
    let table = [
        ("GET", "/api/nowhere", None, 404, "no_such_route"),
        ("GET", "/nowhere", None, 404, "no_such_page"),
        ("PUT", "/api/rooms", None, 405, "method_not_allowed"),
        ("POST", "/healthz", None, 405, "method_not_allowed"),
        ("POST", "/", None, 405, "method_not_allowed"),
        ("GET", "/api/rooms/none", None, 404, "no_such_room"),
        ("PATCH", "/api/rooms/none", Some(json!({})), 404, "no_such_room"),
        ("DELETE", "/api/rooms/none", None, 404, "no_such_room"),
        ("GET", "/api/rooms/none/participants", None, 404, "no_such_room"),
        ("GET", "/api/rooms/none/graph", None, 404, "no_such_room"),
        ("GET", "/api/rooms/none/events", None, 404, "no_such_room"),
        ("DELETE", "/api/rooms/math/participants/p_none", None, 404, "no_such_participant"),
        ("GET", "/api/rooms/math/graph?format=png", None, 400, "bad_format"),
        ("POST", "/api/rooms", Some(json!({"name": "math"})), 409, "room_exists"),
        ("POST", "/api/rooms", Some(json!({"name": "a/b"})), 400, "bad_room_name"),
        ("POST", "/api/rooms", Some(json!({"name": " "})), 400, "bad_room_name"),
        ("POST", "/api/rooms", Some(json!({"nome": "x"})), 400, "bad_json"),
        ("POST", "/api/rooms", Some(json!({"max_participants": 0})), 400, "bad_setting"),
        ("POST", "/api/rooms", Some(json!({"max_participants": "three"})), 400, "bad_json"),
        ("PATCH", "/api/rooms/math", Some(json!({"linger_s": 999_999_999})), 400, "bad_setting"),
        ("POST", "/api/rooms/math/recordings", Some(json!({"width": 7})), 400, "bad_setting"),
        ("POST", "/api/rooms/math/recordings", Some(json!({"layout": "spiral"})), 400, "bad_layout"),
        ("PUT", "/api/rooms/math/layout", Some(json!({"kind": "spiral"})), 400, "bad_layout"),
        ("PUT", "/api/rooms/math/effects", Some(json!([{"name": "filesink"}])), 400, "no_such_effect"),
        ("PUT", "/api/rooms/math/effects", Some(json!([{"name": "blur", "params": {"amount": 2}}])), 400, "bad_effect"),
        ("PUT", "/api/rooms/math/effects", Some(json!([{"name": "blur", "launch": "x"}])), 400, "bad_json"),
        ("PUT", "/api/rooms/math/effects", Some(json!({"effects": []})), 400, "bad_json"),
        ("PUT", "/api/rooms/math/effects", Some(json!(vec![json!({"name": "blur"}); 8])), 409, "effects_over_budget"),
        ("PUT", "/api/rooms/math/effects", Some(json!(vec![json!({"name": "blur"}); 9])), 400, "too_many_effects"),
        ("PUT", "/api/rooms/math/participants/p/tracks/t/effects", Some(json!([])), 404, "no_such_track"),
        ("GET", "/api/rooms/math/participants/p/tracks/t/effects", None, 404, "no_such_track"),
        ("GET", "/api/rooms/nowhere/effects", None, 404, "no_such_room"),
        ("PUT", "/api/rooms/nowhere/effects", Some(json!([])), 404, "no_such_room"),
        ("PUT", "/api/rooms/math/participants/p_none/effects", Some(json!([])), 404, "no_such_participant"),
        ("PUT", "/api/rooms/nowhere/layout", Some(json!({"kind": "grid"})), 404, "no_such_room"),
        ("POST", "/api/rooms/math/recordings", Some(json!({"mode": "mosaic"})), 400, "bad_json"),
        ("POST", "/api/rooms/a%2Fb/recordings", None, 400, "bad_room_name"),
        ("GET", "/api/recordings/rec_none", None, 404, "no_such_recording"),
        ("GET", "/api/recordings/..%2F..%2Fetc%2Fpasswd/file", None, 404, "no_such_recording"),
        ("DELETE", "/api/recordings/rec_none", None, 404, "no_such_recording"),
        ("POST", "/api/recordings/rec_none/stop", None, 404, "no_such_recording"),
        ("POST", "/api/recordings/rec_none/stop?wait_s=121", None, 400, "bad_wait"),
        ("POST", "/api/recordings/rec_none/stop?wait_s=soon", None, 400, "bad_wait"),
    ];
    for (method, path, body, status, code) in table {
        let response = server.send(method, path, body.clone()).await;
        assert_eq!(problem(response).await, (status, code.to_owned()), "{method} {path} {body:?}");
    }
    let other = server.send("PUT", "/api/rooms", None).await;
    assert_eq!(other.headers()["allow"], "GET, POST, HEAD");
}

#[tokio::test]
async fn bodies_are_bounded_and_must_be_json() {
    let server = TestServer::start().await;
    let post = |kind: &'static str, body: Vec<u8>| {
        server.client.post(format!("{}/api/rooms", server.url)).header("content-type", kind).body(body).send()
    };
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(70_000)).into_bytes();
    assert_eq!(problem(soon(post("application/json", large)).await.unwrap()).await, (413, "body_too_large".into()));
    let form = soon(post("text/plain", b"{\"name\": \"x\"}".to_vec())).await.unwrap();
    assert_eq!(problem(form).await, (415, "not_json".into()));
    for broken in ["{", "[]", "{\"name\": 1}", "\u{0}", "{\"name\": \"a\"} {}"] {
        let response = soon(post("application/json", broken.into())).await.unwrap();
        assert_eq!(problem(response).await, (400, "bad_json".into()), "{broken}");
    }
    let fine = soon(post("application/json; charset=utf-8", b"{\"name\": \"x\"}".to_vec())).await.unwrap();
    assert_eq!(fine.status(), 201);
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = TestServer::start().await;
    let (get, head) = (server.get("/api/rooms", &[]).await, server.request("HEAD", "/api/rooms", &[]).await);
    assert_eq!(get.headers()["content-length"], head.headers()["content-length"]);
    assert!(head.bytes().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_graph_comes_in_three_forms() {
    let server = TestServer::start().await;
    server.send("POST", "/api/rooms", Some(json!({"name": "math"}))).await;
    let path = "/api/rooms/math/graph";
    let (_, graph) = server.json("GET", path, None).await;
    assert!(graph["nodes"].is_array() && graph["edges"].is_array(), "{graph}");
    let kind = async |path: &str, accept: &str| {
        let response = server.get(path, &[("accept", accept)]).await;
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        (kind, response.text().await.unwrap())
    };
    let (dot, text) = kind(&format!("{path}?format=dot"), "*/*").await;
    assert!(dot.starts_with("text/vnd.graphviz") && text.starts_with("digraph"), "{dot} {text}");
    for (path, accept) in [(format!("{path}?format=svg"), "*/*"), (path.to_owned(), "text/html, image/svg+xml;q=0.9")] {
        let (svg, text) = kind(&path, accept).await;
        assert!(svg == "image/svg+xml" && text.starts_with("<svg"), "{svg}");
    }
    assert_eq!(kind(path, "*/*").await.0, "application/json");
}

#[tokio::test]
async fn events_begin_with_the_room_and_end_with_it() {
    let limits = Limits { sse_keep_alive: std::time::Duration::from_millis(50), ..Limits::default() };
    let server = TestServer::with(Setup { limits, ..Setup::default() }).await;
    server.send("POST", "/api/rooms", Some(json!({"name": "math"}))).await;
    let response = server.get("/api/rooms/math/events", &[("accept", "text/event-stream")]).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.bytes_stream();
    let mut seen = String::new();
    let mut until = async |wanted: &str| {
        while !seen.contains(wanted) {
            let chunk = soon(stream.next()).await.expect("the stream goes on").unwrap();
            seen.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        std::mem::take(&mut seen)
    };
    let first = until("\n\n").await;
    assert!(first.starts_with("event: room\nid: 0\ndata: {\"name\":\"math\""), "{first}");
    until(": keep-alive\n\n").await;
    let _somebody = server.join("math", None).await;
    let joined = until("event: participant-joined\n").await + &until("\n\n").await;
    let data = joined.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["participant"]["name"], "Kim");
    server.send("DELETE", "/api/rooms/math", None).await;
    until("event: room-closed\n").await;
    while let Some(chunk) = soon(stream.next()).await {
        chunk.unwrap();
    }
}

#[tokio::test]
async fn figures_are_there_for_prometheus() {
    let server = TestServer::start().await;
    let _somebody = server.join("math", None).await;
    server.get("/api/rooms", &[]).await;
    server.get("/api/rooms/none", &[]).await;
    let text = server.get("/metrics", &[]).await.text().await.unwrap();
    for line in [
        "salon_rooms 1",
        "salon_participants 1",
        "salon_tracks{kind=\"video\"} 0",
        "salon_recordings{state=\"ready\"} 0",
        "salon_packets_forwarded_total 7",
        "salon_effect_frames_total{effect=\"blur\"} 50",
        "salon_effect_cpu_seconds_total{effect=\"blur\"} 0.1",
        "salon_http_requests_total{method=\"GET\",route=\"/api/rooms\",status=\"200\"} 1",
        "salon_http_requests_total{method=\"GET\",route=\"/api/rooms/{room}\",status=\"404\"} 1",
        "salon_build_info{version=\"0.0.0-test\"} 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
    }
}

#[tokio::test]
async fn the_server_tells_what_it_can_do() {
    let server = TestServer::start().await;
    let (_, info) = server.json("GET", "/api/server", None).await;
    assert_eq!((&info["version"], &info["media"]["engine"]), (&json!("0.0.0-test"), &json!("fake")));
    assert!(is_ok(&server.get("/readyz", &[]).await));
    server.services.stop.cancel();
}

#[test]
fn the_openapi_document_has_every_route_and_no_other() {
    let document: Value = serde_json::from_str(openapi::text()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let (whip, described): (BTreeSet<_>, BTreeSet<_>) =
        described.into_iter().partition(|(_, path)| path.starts_with("/whip/") || path.starts_with("/whep/"));
    // These go by a door of their own, which is asked what it knows.
    for (method, path) in &whip {
        let path = path.replace("session/{id}", "session/w_1");
        assert_eq!(message::place(&path).map(|place| place.pattern().is_empty()), Some(false), "{method} {path}");
    }
    assert_eq!(whip.len(), 8, "{whip:?}");
    let routed = ROUTES.iter().map(|route| (route.method.to_owned(), route.path.to_owned())).collect();
    assert_eq!(described, routed);
    // Every type that is pointed to is there.
    let text = document.to_string();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn effects_are_listed_and_put_on_the_mix() {
    let server = TestServer::start().await;
    let catalogue: Value = server.send("GET", "/api/effects", None).await.json().await.unwrap();
    assert_eq!(catalogue["effects"][0]["name"], "blur");
    assert_eq!(catalogue["effects"][0]["parameters"][0]["range"]["type"], "number");
    assert_eq!(catalogue["unavailable"], json!([]));
    server.send("POST", "/api/rooms", Some(json!({"name": "math"}))).await;
    let put = server.send("PUT", "/api/rooms/math/effects", Some(json!([{"name": "blur"}]))).await;
    let chain: Value = put.json().await.unwrap();
    assert_eq!(chain, json!([{"name": "blur", "params": {"amount": 0.5}}]));
    let room: Value = server.send("GET", "/api/rooms/math", None).await.json().await.unwrap();
    assert_eq!(room["effects"], chain);
}

/// What a client's launch line must not reach, refused by the server and named.
#[tokio::test]
async fn launch_lines_are_refused_line_by_line() {
    let server = TestServer::start().await;
    server.send("POST", "/api/rooms", Some(json!({"name": "math"}))).await;
    for (line, named) in [
        ("filesink location=/tmp/x", "`filesink`"),
        ("filesrc location=/etc/passwd", "`filesrc`"),
        ("souphttpsrc location=http://169.254.169.254/", "`souphttpsrc`"),
        ("shmsink socket-path=/tmp/x", "`shmsink`"),
        ("videoflip ! bin.( filesink location=/tmp/x )", "`bin.( filesink"),
        ("( filesink location=/tmp/x )", "`( filesink"),
        ("videoflip name=x", "`name` of `videoflip`"),
        ("videoflip name=x x. ! filesink", "`x. ! filesink`"),
        ("videobalance qos=false", "`qos` of `videobalance`"),
        ("coloreffects preset=purple", "one of none, heat"),
        ("FileSink location=/tmp/x", "`FileSink`"),
        ("file\\sink location=/tmp/x", "`file\\sink"),
        ("textoverlay text=\"\\n\" ! filesink", "`\"\\n"),
        ("videoflip # ! filesink", "`# ! filesink`"),
        ("videoflip /* */ ! filesink", "`/* */"),
    ] {
        let body = json!([{"name": "program", "params": {"line": line}}]);
        let response = server.send("PUT", "/api/rooms/math/effects", Some(body)).await;
        assert_eq!(response.status(), 400, "{line}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["code"], "bad_effect", "{line}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(named), "{line}: {detail}");
    }
    let body = json!([{"name": "program", "params": {"line": "videoflip method=clockwise"}}]);
    assert_eq!(server.send("PUT", "/api/rooms/math/effects", Some(body)).await.status(), 200);
}
