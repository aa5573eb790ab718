//! The web app as the server gives it out.

use super::harness::TestServer;

#[tokio::test]
async fn pages_have_types_tags_and_the_headers_that_all_answers_have() {
    let server = TestServer::start().await;
    let start = server.get("/", &[]).await;
    assert_eq!(start.status(), 200);
    assert_eq!(start.headers()["content-type"], "text/html; charset=utf-8");
    assert_eq!(start.headers()["cache-control"], "no-cache");
    assert_eq!(start.headers()["x-content-type-options"], "nosniff");
    assert_eq!(start.headers()["referrer-policy"], "no-referrer");
    let policy = start.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'self';") && policy.contains("frame-ancestors 'none'"), "{policy}");
    let permissions = start.headers()["permissions-policy"].to_str().unwrap();
    assert!(permissions.contains("camera=(self)") && permissions.contains("display-capture=(self)"));
    let tag = start.headers()["etag"].to_str().unwrap().to_owned();
    let page = start.text().await.unwrap();
    assert_eq!(server.get("/r/%EC%88%98%ED%95%99", &[]).await.text().await.unwrap(), page);
    assert_eq!(server.get("/", &[("if-none-match", &tag)]).await.status(), 304);
    let script = server.get("/app.js", &[]).await;
    assert_eq!(script.headers()["content-type"], "text/javascript; charset=utf-8");
    for nowhere in ["/README.md", "/..%2fCargo.toml", "/%2e%2e/Cargo.toml", "/r/a/b", "/index.html/"] {
        assert_eq!(server.get(nowhere, &[]).await.status(), 404, "{nowhere}");
    }
}

#[tokio::test]
async fn refusals_have_the_headers_too() {
    let server = TestServer::start().await;
    let refused = server.get("/api/rooms/none", &[]).await;
    assert!(refused.headers().contains_key("content-security-policy"));
    assert_eq!(refused.headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn addresses_are_drawn_as_qr_codes() {
    let server = TestServer::start().await;
    let code = server.get("/api/qr.svg?text=https%3A%2F%2Fexample.org%2Fr%2Fmath", &[]).await;
    assert_eq!(code.headers()["content-type"], "image/svg+xml");
    let code = code.text().await.unwrap();
    // Version 2, 25 modules, within a border of four.
    assert!(code.contains("viewBox=\"0 0 33 33\""), "{code}");
    // The first row of a finder: seven dark modules, then a light one.
    let first_row = (0..8).map(|x| code.contains(&format!("M{},4h1v1h-1z", x + 4)));
    assert_eq!(first_row.collect::<Vec<_>>(), [true, true, true, true, true, true, true, false]);
    for text in [String::new(), "x".repeat(513)] {
        let refused = server.get(&format!("/api/qr.svg?text={text}"), &[]).await;
        assert_eq!(refused.status(), 400, "{}", text.len());
    }
}
