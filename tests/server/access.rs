//! Who may call.

use std::net::SocketAddr;

use salon::{
    config::Secret,
    server::auth::{Access, Caller, Gate, Peer},
};
use serde_json::Value;

use super::harness::{Headers, Setup, TestServer, problem};
use reqwest::header::{HeaderMap, HeaderName};

const HERE: &str = "127.0.0.1:5000";
const AWAY: &str = "192.0.2.7:5000";

async fn admit(gate: &Gate, needed: Access, peer: &str, headers: Headers<'_>, access: Option<&str>) -> String {
    let address: SocketAddr = peer.parse().unwrap();
    let headers: HeaderMap =
        headers.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect();
    match gate.admit(needed, Peer { address, secure: false }, &headers, access).await {
        Ok(Caller::Owner) => "owner".into(),
        Ok(Caller::Participant { .. }) => "participant".into(),
        Ok(Caller::Anybody) => "anybody".into(),
        Ok(Caller::Former(_)) => "former".into(),
        Err(problem) => problem.code().into(),
    }
}

#[tokio::test]
async fn without_a_secret_only_this_machine_is_the_owner() {
    let server = TestServer::start().await;
    let (_, joined, _events) = server.join("math", None).await;
    let token = joined.access.as_str();
    let bearer = format!("Bearer {token}");
    let host = ("host", "localhost:8080");
    let table: &[(&str, Headers<'_>, Option<&str>, &str)] = &[
        (HERE, &[host], None, "owner"),
        (HERE, &[("host", "127.0.0.1")], None, "owner"),
        (HERE, &[("host", "[::1]:8080")], None, "owner"),
        ("[::1]:5000", &[host], None, "owner"),
        ("[::ffff:127.0.0.1]:5000", &[host], None, "owner"),
        (HERE, &[host, ("origin", "http://localhost:8080")], None, "owner"),
        (HERE, &[host, ("sec-fetch-site", "same-origin")], None, "owner"),
        (AWAY, &[host], None, "loopback_only"),
        (HERE, &[], None, "foreign_host"),
        (HERE, &[("host", "evil.example")], None, "foreign_host"),
        (HERE, &[("host", "localhost.evil.example")], None, "foreign_host"),
        (HERE, &[("host", "127.0.0.1.evil.example:80")], None, "foreign_host"),
        (HERE, &[host, ("origin", "http://evil.example")], None, "foreign_origin"),
        (HERE, &[host, ("origin", "http://localhost:3000")], None, "foreign_origin"),
        (HERE, &[host, ("origin", "https://localhost:8080")], None, "foreign_origin"),
        (HERE, &[host, ("origin", "null")], None, "foreign_origin"),
        (HERE, &[host, ("sec-fetch-site", "cross-site")], None, "foreign_origin"),
        (HERE, &[host, ("sec-fetch-site", "same-site")], None, "foreign_origin"),
        (HERE, &[host, ("x-forwarded-for", "192.0.2.1")], None, "behind_proxy"),
        (HERE, &[host, ("forwarded", "for=192.0.2.1")], None, "behind_proxy"),
        (HERE, &[host, ("authorization", "Bearer something")], None, "bad_credentials"),
        (HERE, &[host, ("authorization", "Basic eDp5")], None, "bad_credentials"),
        (HERE, &[host, ("authorization", "Bearer ")], None, "bad_credentials"),
        (HERE, &[host], Some("something"), "bad_credentials"),
        (HERE, &[host, ("authorization", &bearer)], None, "owner_only"),
        (HERE, &[host], Some(token), "owner_only"),
        (HERE, &[host], Some("a_0123456789abcdef0123456789abcdef"), "access_ended"),
    ];
    for (peer, headers, access, outcome) in table {
        let came = admit(&server.services.gate, Access::Owner, peer, headers, *access).await;
        assert_eq!(came, *outcome, "{peer} {headers:?} {access:?}");
    }
    let gate = &server.services.gate;
    assert_eq!(admit(gate, Access::Participant, AWAY, &[], Some(token)).await, "participant");
    assert_eq!(admit(gate, Access::Participant, AWAY, &[("authorization", &bearer)], None).await, "participant");
    assert_eq!(admit(gate, Access::Participant, HERE, &[host], None).await, "owner");
    assert_eq!(admit(gate, Access::Participant, AWAY, &[], None).await, "loopback_only");
    assert_eq!(admit(gate, Access::Open, AWAY, &[], None).await, "anybody");
}

#[tokio::test]
async fn with_a_secret_it_alone_makes_the_owner() {
    let server = TestServer::start().await;
    let gate = Gate::new(Some(Secret::new("correct-horse")), server.registry.clone());
    let host = ("host", "localhost");
    let table: &[(&str, Headers<'_>, &str)] = &[
        (AWAY, &[("authorization", "Bearer correct-horse")], "owner"),
        (AWAY, &[("authorization", "bearer correct-horse")], "owner"),
        (AWAY, &[("authorization", "Bearer correct-horse"), ("x-forwarded-for", "192.0.2.1")], "owner"),
        (AWAY, &[("authorization", "Bearer correct-hors")], "bad_credentials"),
        (AWAY, &[("authorization", "Bearer correct-horse-")], "bad_credentials"),
        (AWAY, &[("authorization", "correct-horse")], "bad_credentials"),
        (AWAY, &[], "no_credentials"),
        (HERE, &[host], "no_credentials"),
    ];
    for (peer, headers, outcome) in table {
        assert_eq!(admit(&gate, Access::Owner, peer, headers, None).await, *outcome, "{peer} {headers:?}");
    }
    // The secret has no place in an address, where logs and histories keep it.
    assert_eq!(admit(&gate, Access::Owner, AWAY, &[], Some("correct-horse")).await, "bad_credentials");
}

#[tokio::test]
async fn a_viewing_key_opens_recordings_and_nothing_else() {
    let server = TestServer::start().await;
    let gate = Gate::new(Some(Secret::new("correct-horse")), server.registry.clone());
    let key = gate.viewing_key();
    assert_eq!(admit(&gate, Access::Recordings, AWAY, &[], Some(&key)).await, "owner");
    for needed in [Access::Participant, Access::Moderator, Access::Owner] {
        assert_eq!(admit(&gate, needed, AWAY, &[], Some(&key)).await, "owner_only");
    }
    let later = key.replacen("v_", "v_9", 1);
    let old = format!("v_1{}", &key[key.rfind('_').unwrap()..]);
    let others = Gate::new(None, server.registry.clone()).viewing_key();
    for bad in [later.as_str(), &old, &others, "v_", "v_1_", "v_x_zz", &key[..key.len() - 1]] {
        assert_eq!(admit(&gate, Access::Recordings, AWAY, &[], Some(bad)).await, "access_ended", "{bad}");
    }
    assert_eq!(admit(&gate, Access::Recordings, AWAY, &[], None).await, "no_credentials");
}

#[tokio::test]
async fn the_gate_stands_in_front_of_the_sockets() {
    let server = TestServer::with(Setup { secret: Some("correct-horse"), ..Setup::default() }).await;
    let refused = server.get("/api/rooms", &[]).await;
    assert!(refused.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
    assert_eq!(problem(refused).await, (401, "no_credentials".into()));
    assert_eq!(server.get("/api/rooms", &[("authorization", "Bearer correct-horse")]).await.status(), 200);
    assert_eq!(server.get("/metrics", &[]).await.status(), 401);
    for open in ["/healthz", "/readyz", "/api/openapi.json"] {
        assert_eq!(server.get(open, &[]).await.status(), 200, "{open}");
    }
}

#[tokio::test]
async fn a_participant_sees_the_recordings_of_rooms_of_his_name_and_pin_only() {
    let server = TestServer::start().await;
    let (room, first, _a) = server.join("math", Some("1234")).await;
    let recording = server.finished("math").await;
    let id = recording["id"].as_str().unwrap();
    let (_, other, _b) = server.join("art", None).await;
    let (_, second, _c) = server.join("math", Some("1234")).await;

    let list = async |token: &str| -> Vec<Value> {
        let response = server.get(&format!("/api/recordings?access={token}"), &[]).await;
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    };
    assert_eq!(list(second.access.as_str()).await.len(), 1);
    assert_eq!(list(other.access.as_str()).await.len(), 0);
    for path in [format!("/api/recordings/{id}"), format!("/api/recordings/{id}/file")] {
        let with = |token: &str| format!("{path}?access={token}");
        assert_eq!(server.get(&with(second.access.as_str()), &[]).await.status(), 200);
        let refused = server.get(&with(other.access.as_str()), &[]).await;
        assert_eq!(problem(refused).await, (404, "no_such_recording".into()), "{path}");
    }
    let token = format!("Bearer {}", second.access.as_str());
    let path = format!("/api/recordings/{id}");
    let restore = format!("{path}/restore");
    for (method, path, code) in [
        ("POST", format!("{path}/stop"), "owner_only"),
        ("DELETE", path.clone(), "moderator_only"),
        ("POST", restore.clone(), "moderator_only"),
    ] {
        let refused = server.request(method, &path, &[("authorization", &token)]).await;
        assert_eq!(problem(refused).await, (403, code.into()), "{method}");
    }

    // Who came first moderates: he removes what is his room's, and brings it back.
    let (ours, theirs) = [&first, &other].map(|one| format!("Bearer {}", one.access.as_str())).into();
    let send = async |method, path: &str, token: &str| server.request(method, path, &[("authorization", token)]).await;
    let undone = format!("{path}?undo_s=60");
    assert_eq!(problem(send("DELETE", &undone, &theirs).await).await, (404, "no_such_recording".into()));
    assert_eq!(send("DELETE", &undone, &ours).await.status(), 204);
    assert_eq!(list(second.access.as_str()).await.len(), 0);
    assert_eq!(problem(send("POST", &restore, &theirs).await).await, (404, "no_such_recording".into()));
    assert_eq!(send("POST", &restore, &ours).await.status(), 200);
    assert_eq!(list(second.access.as_str()).await.len(), 1);
    assert_eq!(problem(send("POST", &restore, &theirs).await).await, (404, "no_such_recording".into()));
    assert_eq!(problem(send("POST", &restore, &ours).await).await, (409, "not_deleted".into()));

    // The same name behind another PIN is another room.
    let change = serde_json::json!({"pin": "9999"});
    assert_eq!(server.send("PATCH", "/api/rooms/math", Some(change)).await.status(), 200);
    assert_eq!(list(second.access.as_str()).await.len(), 0);

    room.leave(second.participant.clone()).await;
    let gone = server.get(&format!("/api/recordings?access={}", second.access.as_str()), &[]).await;
    assert_eq!(problem(gone).await, (401, "access_ended".into()));
}
