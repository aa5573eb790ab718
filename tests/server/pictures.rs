//! Pictures for effects over the HTTP API: decoded, bounded, kept with the room, shown anew.

use reqwest::Response;
use salon::room::model::Role;
use serde_json::{Value, json};

use super::harness::{TestServer, problem, soon};

const PATH: &str = "/api/rooms/math/pictures";
const SVG: &str =
    r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 10"><rect width="20" height="10" fill="red"/></svg>"#;

async fn give(server: &TestServer, kind: &str, body: impl Into<reqwest::Body>, access: Option<&str>) -> Response {
    let mut request = server.client.post(format!("{}{PATH}", server.url)).header("content-type", kind).body(body);
    if let Some(access) = access {
        request = request.bearer_auth(access);
    }
    soon(request.send()).await.unwrap()
}

#[tokio::test]
async fn a_picture_is_given_shown_as_png_and_removed() {
    let server = TestServer::start().await;
    let (room, joined, _events) = server.join("math", None).await;
    let access = joined.access.as_str().to_owned();
    let given = give(&server, "image/svg+xml", SVG, Some(&access)).await;
    assert_eq!(given.status(), 201);
    let given: Value = given.json().await.unwrap();
    assert_eq!((&given["width"], &given["height"]), (&json!(1024), &json!(512)));
    let place = format!("{PATH}/{}", given["id"].as_str().unwrap());
    let shown = server.get(&format!("{place}?access={access}"), &[]).await;
    assert_eq!(shown.headers()["content-type"], "image/png");
    assert!(soon(shown.bytes()).await.unwrap().starts_with(b"\x89PNG"), "never the file that was sent");
    assert_eq!(server.json("GET", PATH, None).await.1, json!([given]));

    // It stays as long as an effect or a layout shows it.
    let logo = |picture: &Value, size: f64| json!({"kind": "grid", "logo": {"picture": picture, "size": size}});
    let layout = async |body: Value| server.json("PUT", "/api/rooms/math/layout", Some(body)).await;
    for (body, part) in
        [(logo(&json!("pic_0"), 0.2), "`picture` is none of the room's"), (logo(&given["id"], 0.5), "`size`")]
    {
        let (status, problem) = layout(body).await;
        assert_eq!((status, &problem["code"]), (400, &json!("bad_layout")));
        assert!(problem["detail"].as_str().unwrap().contains(part), "{problem}");
    }
    let (status, now) = layout(logo(&given["id"], 0.2)).await;
    let expected = json!({"picture": given["id"], "corner": "top-left", "size": 0.2, "opacity": 0.9});
    assert_eq!((status, &now["logo"]), (200, &expected));
    assert_eq!(problem(server.send("DELETE", &place, None).await).await, (409, "picture_in_use".into()));
    assert_eq!(layout(json!({"kind": "grid"})).await.0, 200);
    assert_eq!(problem(server.get("/api/rooms/other/pictures", &[]).await).await, (404, "no_such_room".into()));
    assert_eq!(server.send("DELETE", &place, None).await.status(), 204);
    assert_eq!(problem(server.send("DELETE", &place, None).await).await, (404, "no_such_picture".into()));
    assert_eq!(problem(server.get(&place, &[]).await).await, (404, "no_such_picture".into()));
    drop(room);
}

#[tokio::test]
async fn what_is_no_picture_too_much_or_not_allowed_is_refused_each_for_its_own_reason() {
    let server = TestServer::start().await;
    assert_eq!(problem(give(&server, "image/png", "x", None).await).await, (404, "no_such_room".into()));
    let (room, first, _events) = server.join("math", None).await;
    for (kind, body, status, code) in [
        ("image/png", b"no picture".to_vec(), 400, "bad_picture"),
        ("image/png", Vec::new(), 400, "bad_picture"),
        ("application/json", SVG.into(), 415, "not_a_picture"),
        ("text/plain", SVG.into(), 415, "not_a_picture"),
        ("image/png", vec![0; 2 * 1024 * 1024 + 1], 413, "body_too_large"),
    ] {
        assert_eq!(problem(give(&server, kind, body, None).await).await, (status, code.into()), "{kind}");
    }
    let stranger = give(&server, "image/svg+xml", SVG, Some("a_1_00000000000000000000000000000000")).await;
    assert_eq!(problem(stranger).await.0, 401);
    let (_, other, _other_events) = server.join("physics", None).await;
    let foreign = give(&server, "image/svg+xml", SVG, Some(other.access.as_str())).await;
    assert_eq!(problem(foreign).await, (404, "no_such_room".into()));
    let (_, viewer, _viewer_events) = server.join_as("math", Role::Viewer).await;
    let refused = give(&server, "image/svg+xml", SVG, Some(viewer.access.as_str())).await;
    assert_eq!(problem(refused).await, (403, "not_allowed".into()));
    for _ in 0..16 {
        assert_eq!(give(&server, "image/svg+xml", SVG, Some(first.access.as_str())).await.status(), 201);
    }
    assert_eq!(problem(give(&server, "image/svg+xml", SVG, None).await).await, (409, "too_many_pictures".into()));
    drop(room);
}
