//! WHIP and WHEP over real sockets: request sequences as their clients send them, and what is refused.

use reqwest::Response;
use salon::{
    media::{
        CodecName, IceCandidate, Kind, MediaError, MediaEvent,
        fake::{Call, made_up_answer, made_up_offer},
        graph::NodeKind,
    },
    room::{
        event::RoomEvent,
        id::{ConnectionId, ConnectionName},
    },
};

use super::harness::{Headers, Setup, TestServer, problem, soon};

const SDP: (&str, &str) = ("content-type", "application/sdp");
const FRAGMENT: (&str, &str) = ("content-type", "application/trickle-ice-sdpfrag");

/// As OBS 30 and libdatachannel write it: sendonly, fixed SSRCs, no candidates, no header extensions, no
/// retransmissions. `codec` is what its video section offers.
fn obs_offer(codec: &str) -> String {
    let common = "c=IN IP4 0.0.0.0\r\na=bundle-only\r\na=sendonly\r\na=rtcp-mux\r\n";
    format!(
        "v=0\r\no=rtc 3767197920 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=group:LS 0 1\r\n\
         a=msid-semantic:WMS *\r\na=ice-options:ice2,trickle\r\na=fingerprint:sha-256 {fingerprint}\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n{common}a=mid:0\r\na=ssrc:1388220544 cname:PSIkvOUxX5TQ9JXv\r\n\
         a=ssrc:1388220544 msid:PSIkvOUxX5TQ9JXv PSIkvOUxX5TQ9JXv-audio\r\na=rtpmap:111 opus/48000/2\r\n\
         a=fmtp:111 minptime=10;maxaveragebitrate=96000;stereo=1;sprop-stereo=1;useinbandfec=1\r\n\
         a=setup:actpass\r\na=ice-ufrag:OBSu\r\na=ice-pwd:3ySzd2oBhIBUOHKJpTJzUg\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96\r\n{common}a=mid:1\r\na=ssrc:1388220545 cname:PSIkvOUxX5TQ9JXv\r\n\
         a=ssrc:1388220545 msid:PSIkvOUxX5TQ9JXv PSIkvOUxX5TQ9JXv-video\r\na=rtpmap:96 {codec}/90000\r\n\
         a=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 goog-remb\r\n\
         a=fmtp:96 profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1\r\n\
         a=setup:actpass\r\na=ice-ufrag:OBSu\r\na=ice-pwd:3ySzd2oBhIBUOHKJpTJzUg\r\n",
        fingerprint = vec!["5A"; 32].join(":"),
    )
}

fn browser_offer() -> String {
    made_up_offer(&[("0", Kind::Audio, CodecName::Opus), ("1", Kind::Video, CodecName::Vp8)])
}

impl TestServer {
    async fn ask(&self, method: &str, path: &str, headers: Headers<'_>, body: impl Into<reqwest::Body>) -> Response {
        let mut request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.url)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        soon(request.send()).await.unwrap()
    }

    /// POSTs an offer that is taken; the engine gives one candidate.
    async fn begin(&self, path: &str, headers: Headers<'_>, offer: &str) -> Response {
        let headers: Vec<_> = [SDP].iter().chain(headers).copied().collect();
        let post = self.ask("POST", path, &headers, offer.to_owned());
        let gather = async {
            let room = path.split(['/', '?']).nth(2).unwrap();
            let connection = soon(self.calls.lock().await.find(|call| match call {
                Call::Publish(connection, _) | Call::SubscribeWithOffer(connection, _) => Some(connection),
                _ => None,
            }))
            .await;
            for candidate in ["candidate:1 1 UDP 2015363327 192.0.2.1 50000 typ host", ""] {
                let candidate = IceCandidate { candidate: candidate.into(), mid: None, line: Some(0) };
                let connection = connection.clone();
                assert!(self.engine.tell(room, MediaEvent::Candidate { connection, candidate }).await);
            }
        };
        tokio::join!(post, gather).0
    }

    async fn people(&self, room: &str) -> Vec<(String, usize)> {
        let view = self.registry.find(room).unwrap().view().await.unwrap();
        view.participants.into_iter().map(|one| (one.name, one.tracks.len())).collect()
    }
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn obs_publishes_and_stops() {
    let server = TestServer::start().await;
    let obs = ("user-agent", "Mozilla/5.0 (OBS-Studio/30.2.3; Linux x86_64; en-US)");
    let token = ("authorization", "Bearer studio-7");
    let begun = server.begin("/whip/show?name=Kim", &[obs, token], &obs_offer("H264")).await;
    // It insists on 201, a body with `v=0` in it, and a location it can put in place of the path.
    assert_eq!(begun.status(), 201);
    assert_eq!(header(&begun, "content-type"), "application/sdp");
    assert_eq!(header(&begun, "link"), "<stun:stun.example:3478>; rel=\"ice-server\"");
    let location = header(&begun, "location").to_owned();
    assert!(location.starts_with("/whip/session/w_") && !location.contains('?'), "{location}");
    let answer = begun.text().await.unwrap();
    assert!(answer.starts_with("v=0\r\n"), "{answer}");
    assert_eq!(answer.matches("a=candidate:").count(), 1, "{answer}");
    assert!(answer.contains(" 192.0.2.1 50000 typ host\r\na=end-of-candidates\r\n"), "{answer}");
    assert!(answer.contains("a=recvonly\r\n") && !answer.contains("a=send"), "{answer}");

    assert_eq!(server.people("show").await, [("Kim".to_owned(), 2)]);
    // The room it made has its token for a PIN.
    let view = server.registry.find("show").unwrap().view().await.unwrap();
    assert!(view.has_pin);

    // The next one of the same token stands beside the first: it may be the same OBS, come back.
    let again = server.begin("/whip/show", &[obs, token], &obs_offer("H264")).await;
    assert_eq!(again.status(), 201);
    assert_eq!(server.people("show").await.len(), 2);

    for (headers, expected) in [(&[obs][..], 401), (&[("authorization", "Bearer other")], 403), (&[obs, token], 200)] {
        let ended = server.ask("DELETE", &location, headers, "").await;
        assert_eq!(ended.status(), expected, "{headers:?}");
    }
    assert_eq!(server.people("show").await, [("WHIP".to_owned(), 2)]);
    let gone = server.ask("DELETE", &location, &[token], "").await;
    assert_eq!(problem(gone).await, (404, "no_such_session".into()));
}

#[tokio::test]
async fn the_eyevinn_client_trickles() {
    let server = TestServer::start().await;
    let page = ("origin", "https://studio.example");
    let preflight = server.ask("OPTIONS", "/whip/show", &[page, ("access-control-request-method", "POST")], "").await;
    assert_eq!(preflight.status(), 200);
    assert_eq!(header(&preflight, "access-control-allow-origin"), "*");
    assert!(header(&preflight, "access-control-allow-headers").contains("Authorization"));
    assert!(header(&preflight, "access-control-allow-methods").contains("PATCH"));
    assert!(header(&preflight, "access-control-expose-headers").contains("Access-Control-Allow-Methods"));
    assert_eq!(header(&preflight, "accept-post"), "application/sdp");

    // Its tracks are sendrecv.
    let begun = server.begin("/whip/show", &[page], &browser_offer().replace("sendonly", "sendrecv")).await;
    assert_eq!(begun.status(), 201);
    assert!(header(&begun, "access-control-expose-headers").contains("Location"));
    let (location, tag) = (header(&begun, "location").to_owned(), header(&begun, "etag").to_owned());
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    let fragment = "a=ice-ufrag:fake\r\na=ice-pwd:fakefakefakefakefakefake\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
        a=candidate:5 0 udp 2122260223 [2001:db8::2] 61764 typ host\r\n\
        a=candidate:6 1 tcp 1518280447 192.0.2.9 9 typ host tcptype active\r\n\
        a=candidate:7 1 ??? nonsense\r\n";
    let patched = server.ask("PATCH", &location, &[page, FRAGMENT, ("etag", &tag)], fragment).await;
    assert_eq!(patched.status(), 204);
    let candidate = async || {
        let mut calls = server.calls.lock().await;
        let next = calls.find(|call| match call {
            Call::Candidate(_, candidate) => Some(candidate.candidate),
            _ => None,
        });
        soon(next).await
    };
    let candidates = [candidate().await, candidate().await];
    assert_eq!(candidates[0], "candidate:5 1 udp 2122260223 2001:db8::2 61764 typ host");

    let table: &[(Headers<'_>, &str, u16, &str)] = &[
        (&[FRAGMENT], fragment, 428, "no_if_match"),
        (&[FRAGMENT, ("if-match", "\"other\"")], fragment, 412, "stale_etag"),
        (&[SDP, ("if-match", &tag)], fragment, 415, "wrong_content_type"),
        (&[FRAGMENT, ("if-match", &tag)], "hello", 400, "bad_fragment"),
        (&[FRAGMENT, ("if-match", "*")], "a=ice-ufrag:anew\r\n", 400, "bad_fragment"),
    ];
    for (headers, body, status, code) in table {
        let refused = server.ask("PATCH", &location, headers, body.to_string()).await;
        assert_eq!(problem(refused).await, (*status, (*code).to_owned()), "{headers:?}");
    }
    let fits = server.ask("PATCH", &location, &[FRAGMENT, ("if-match", &tag)], "a=end-of-candidates\r\n").await;
    assert_eq!(fits.status(), 204, "the session goes on after a refusal");
    assert_eq!(server.people("show").await, [("WHIP".to_owned(), 2)]);
}

#[tokio::test]
async fn a_publisher_goes_with_his_connection() {
    let server = TestServer::start().await;
    let begun = server.begin("/whip/show", &[], &obs_offer("H264")).await;
    let location = header(&begun, "location").to_owned();
    let (room, _, mut events) = server.join("show", None).await;
    assert_eq!(server.whip.sessions(), 1);
    let graph = room.graph().await.unwrap();
    let publisher = graph.nodes.into_iter().find(|node| node.kind == NodeKind::Publisher).unwrap();
    let (participant, name) = publisher.id.split_once('/').unwrap();
    let connection = ConnectionId { participant: participant.parse().unwrap(), name: ConnectionName(name.into()) };
    let lost = MediaEvent::ConnectionEnded { connection, error: MediaError::ConnectionLost };
    assert!(server.engine.tell("show", lost).await);
    soon(async { while !matches!(events.recv().await.unwrap(), RoomEvent::ParticipantLeft { .. }) {} }).await;
    let gone = server.ask("DELETE", &location, &[], "").await;
    assert_eq!(problem(gone).await, (404, "no_such_session".into()));
    assert_eq!(server.whip.sessions(), 0);

    // It may end before its answer has left.
    let offer = obs_offer("H264");
    let post = server.ask("POST", "/whip/show", &[SDP], offer);
    let end = async {
        let mut calls = server.calls.lock().await;
        let connection = soon(calls.find(|call| match call {
            Call::Publish(connection, _) => Some(connection),
            _ => None,
        }))
        .await;
        let lost = MediaEvent::ConnectionEnded { connection, error: MediaError::ConnectionLost };
        assert!(server.engine.tell("show", lost).await);
    };
    let (refused, ()) = tokio::join!(post, end);
    assert_eq!(problem(refused).await, (503, "media_failed".into()));
    assert_eq!(server.whip.sessions(), 0);
    assert_eq!(server.people("show").await, [("Kim".to_owned(), 0)], "nobody is left behind");
}

#[tokio::test]
async fn what_opens_a_room_opens_it_here() {
    let server = TestServer::with(Setup { secret: Some("correct-horse"), ..Setup::default() }).await;
    let (room, kim, _events) = server.join("show", Some("1234")).await;
    let (_, other, _others) = server.join("other", None).await;
    let tokens = [&kim, &other].map(|joined| format!("Bearer {}", joined.access));
    let offer = browser_offer();
    let bearer = |token: &'static str| [("authorization", token)];
    let opens: [(&str, Headers<'_>, &str); 5] = [
        ("/whip/show", &bearer("Bearer 1234"), "WHIP"),
        ("/whip/show", &bearer("1234"), "WHIP"),
        ("/whip/show?pin=1234", &[], "WHIP"),
        ("/whip/show", &bearer("Bearer correct-horse"), "WHIP"),
        ("/whip/show", &[("authorization", &tokens[0])], "Kim"),
    ];
    for (path, headers, name) in opens {
        let begun = server.begin(path, headers, &offer).await;
        assert_eq!(begun.status(), 201, "{path} {headers:?}");
        assert_eq!(server.people("show").await.last().unwrap(), &(name.to_owned(), 2), "{path} {headers:?}");
    }
    let access = format!("/whip/show?access={}", kim.access);
    let begun = server.begin(&access, &[], &offer).await;
    assert_eq!(begun.status(), 201);
    // The session's address is all that such a client has.
    assert_eq!(server.ask("DELETE", header(&begun, "location"), &[], "").await.status(), 200);

    let refused: [(&str, Headers<'_>, u16, &str); 6] = [
        ("/whip/show", &[], 401, "pin_required"),
        ("/whip/show", &bearer("Bearer 4321"), 401, "wrong_pin"),
        ("/whip/show", &bearer("Basic eDp5"), 401, "bad_credentials"),
        ("/whip/show?access=1234", &[], 401, "bad_credentials"),
        ("/whip/show", &bearer("Bearer a_0_0123456789abcdef0123456789abcdef"), 401, "access_ended"),
        ("/whip/show", &[("authorization", &tokens[1])], 403, "other_room"),
    ];
    for (path, headers, status, code) in refused {
        let headers: Vec<_> = [SDP].iter().chain(headers).copied().collect();
        let answer = server.ask("POST", path, &headers, offer.clone()).await;
        assert_eq!(header(&answer, "www-authenticate").starts_with("Bearer"), status == 401, "{path} {headers:?}");
        assert_eq!(header(&answer, "access-control-allow-origin"), "*");
        assert_eq!(problem(answer).await, (status, code.to_owned()), "{path} {headers:?}");
    }
    assert_eq!(room.view().await.unwrap().participants.len(), 6, "whoever is refused leaves nothing behind");

    // Without effects others are seen by who might take the effects off.
    let clean = "/whep/show?effects=off";
    for token in ["Bearer correct-horse", tokens[0].as_str()] {
        let begun = server.begin(clean, &[("authorization", token)], &player_offer(CodecName::Vp8)).await;
        assert_eq!(begun.status(), 201, "{token}");
    }
    let refused =
        server.ask("POST", clean, &[SDP, ("authorization", "Bearer 1234")], player_offer(CodecName::Vp8)).await;
    assert_eq!(problem(refused).await, (403, "not_allowed".into()));
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_with_its_status() {
    let server = TestServer::start().await;
    let offer = browser_offer();
    let two_videos = made_up_offer(&[("0", Kind::Video, CodecName::Vp8), ("1", Kind::Video, CodecName::Vp8)]);
    let receives = made_up_answer(&[("0", Kind::Audio, CodecName::Opus)]);
    let hevc = obs_offer("H265");
    let large = format!("{offer}a=x:{}\r\n", "x".repeat(70_000));
    let json = ("content-type", "application/json");
    let sdp: Headers<'_> = &[SDP];
    let table: &[(&str, &str, Headers<'_>, &str, u16, &str)] = &[
        ("PUT", "/whip/show", sdp, &offer, 405, "method_not_allowed"),
        ("DELETE", "/whip/show", &[], "", 405, "method_not_allowed"),
        ("POST", "/whip/session/w_1", sdp, &offer, 404, "no_such_session"),
        ("PATCH", "/whip/session/w_1", &[FRAGMENT], "", 404, "no_such_session"),
        ("DELETE", "/whip/session/w_1", &[], "", 404, "no_such_session"),
        ("POST", "/whip/a/b/c", sdp, &offer, 404, "no_such_route"),
        ("POST", "/whip/show", &[json], &offer, 415, "wrong_content_type"),
        ("POST", "/whip/show", &[], &offer, 415, "wrong_content_type"),
        ("POST", "/whip/show", sdp, &large, 413, "body_too_large"),
        ("POST", "/whip/show", sdp, "hello", 400, "bad_sdp"),
        ("POST", "/whip/show", sdp, "", 400, "bad_sdp"),
        ("POST", "/whip/show", sdp, &two_videos, 422, "too_many_tracks"),
        ("POST", "/whip/show", sdp, &receives, 422, "nothing_to_receive"),
        ("POST", "/whip/show", sdp, &hevc, 422, "no_common_codec"),
        ("POST", "/whip/a%2Fb", sdp, &offer, 400, "bad_room_name"),
        ("POST", "/whip/show?name=%0A", sdp, &offer, 400, "bad_name"),
    ];
    for (method, path, headers, body, status, code) in table {
        let answer = server.ask(method, path, headers, body.to_string()).await;
        assert_eq!(header(&answer, "access-control-allow-origin"), "*", "{method} {path}");
        assert_eq!(!header(&answer, "allow").is_empty(), *status == 405, "{method} {path}");
        assert_eq!(
            problem(answer).await,
            (*status, (*code).to_owned()),
            "{method} {path} {headers:?} {}",
            &body[..body.len().min(40)]
        );
    }
    assert!(server.registry.find("show").is_none(), "nothing of that opened a room");
    for method in ["GET", "HEAD"] {
        let seen = server.ask(method, "/whip/show", &[], "").await;
        assert_eq!((seen.status().as_u16(), seen.text().await.unwrap().len()), (200, 0), "{method}");
    }

    let small = serde_json::json!({"name": "small", "max_participants": 1});
    assert_eq!(server.json("POST", "/api/rooms", Some(small)).await.0, 201);
    assert_eq!(server.begin("/whip/small", &[], &offer).await.status(), 201);
    let full = server.ask("POST", "/whip/small", sdp, offer.clone()).await;
    assert!(!header(&full, "retry-after").is_empty());
    assert_eq!(problem(full).await, (503, "room_full".into()));
}

/// Two sections that receive, the picture first.
fn player_offer(codec: CodecName) -> String {
    made_up_answer(&[("0", Kind::Video, codec), ("1", Kind::Audio, CodecName::Opus)])
}

#[tokio::test]
async fn players_are_shown_what_their_path_names() {
    let server = TestServer::start().await;
    let offer = player_offer(CodecName::Vp8);
    let sdp: Headers<'_> = &[SDP];
    let not_there = server.ask("POST", "/whep/show", sdp, offer.clone()).await;
    assert_eq!(problem(not_there).await, (404, "no_such_room".into()));
    assert!(server.registry.find("show").is_none(), "players make no rooms");

    let (room, _, mut events) = server.join("show", None).await;
    let not_live = server.ask("POST", "/whep/show", sdp, offer.clone()).await;
    assert!(!header(&not_live, "retry-after").is_empty());
    assert_eq!(problem(not_live).await, (409, "not_live".into()));
    let published = server.begin("/whip/show", &[], &browser_offer()).await;
    let publisher = header(&published, "location").to_owned();
    let view = room.view().await.unwrap();
    let (audio, video) = (&view.participants[1].tracks[0].id, &view.participants[1].tracks[1].id);

    let paths = [
        ("/whep/show".to_owned(), "m=video 9 |m=audio 9 "),
        (format!("/whep/show/{video}"), "m=video 9 |"),
        (format!("/whep/show/{audio}"), "m=audio 9 |"),
    ];
    let mut sessions = Vec::new();
    for (path, sections) in paths {
        let begun = server.begin(&path, &[], &offer).await;
        assert_eq!(begun.status(), 201, "{path}");
        assert_eq!(header(&begun, "content-type"), "application/sdp");
        let location = header(&begun, "location").to_owned();
        assert!(location.starts_with("/whep/session/w_"), "{location}");
        sessions.push(location);
        let answer = begun.text().await.unwrap();
        assert!(sections.split('|').all(|section| answer.contains(section)), "{path}: {answer}");
        assert_eq!(answer.matches("m=").count(), sections.split('|').filter(|section| !section.is_empty()).count());
        assert!(answer.contains("a=sendonly\r\n") && answer.contains("a=candidate:"), "{path}: {answer}");
    }
    let mix = server.begin("/whep/show/mix", &[], &player_offer(CodecName::H264)).await;
    assert_eq!(mix.status(), 201);
    let people = server.people("show").await;
    assert_eq!(people.len(), 6);
    assert_eq!(people[2], ("WHEP".to_owned(), 0));

    let table: &[(&str, &str, u16, &str)] = &[
        ("/whep/show/t_nothing", &offer, 404, "no_such_track"),
        ("/whep/show?effects=maybe", &offer, 422, "bad_effects"),
        ("/whep/show/mix?effects=off", &offer, 422, "bad_effects"),
        ("/whep/show?effects=off", &offer, 403, "not_allowed"),
        ("/whep/show/mix", &offer, 422, "no_common_codec"),
        ("/whep/show", &player_offer(CodecName::Av1), 422, "no_common_codec"),
        ("/whep/show", &browser_offer(), 422, "nothing_to_send"),
        ("/whep/show", "hello", 422, "bad_sdp"),
        ("/whep/show", "", 422, "bad_sdp"),
        ("/whep/a/b/c", &offer, 404, "no_such_route"),
    ];
    for (path, body, status, code) in table {
        let refused = server.ask("POST", path, sdp, body.to_string()).await;
        assert_eq!(problem(refused).await, (*status, (*code).to_owned()), "{path} {}", &body[..body.len().min(20)]);
    }
    let head = server.ask("HEAD", "/whep/show", &[], "").await;
    assert_eq!((head.status().as_u16(), header(&head, "content-type")), (200, "application/sdp"));
    assert_eq!(server.people("show").await.len(), 6, "whoever is refused leaves nothing behind");

    // A session of one protocol is none of the other.
    let other = server.ask("DELETE", &sessions[0].replace("whep", "whip"), &[], "").await;
    assert_eq!(problem(other).await, (404, "no_such_session".into()));
    assert_eq!(server.ask("DELETE", &sessions[0], &[], "").await.status(), 200);
    // The publisher's end is the viewers' end, but not that of who watches the mix.
    assert_eq!(server.ask("DELETE", &publisher, &[], "").await.status(), 200);
    let mut left = 0;
    while left < 4 {
        left += usize::from(matches!(soon(events.recv()).await.unwrap(), RoomEvent::ParticipantLeft { .. }));
    }
    assert_eq!(server.people("show").await.len(), 2);
    for session in &sessions {
        let gone = server.ask("PATCH", session, &[FRAGMENT, ("if-match", "*")], "").await;
        assert_eq!(problem(gone).await, (404, "no_such_session".into()));
    }
}

#[tokio::test]
async fn a_publisher_and_a_player_restart_ice() {
    let server = TestServer::start().await;
    let (_, _, _events) = server.join("show", None).await;
    let publisher = server.begin("/whip/show", &[], &browser_offer()).await;
    let player = server.begin("/whep/show", &[], &player_offer(CodecName::Vp8)).await;
    restart_ice(&server, &publisher, 400).await;
    restart_ice(&server, &player, 422).await;
}

/// `bad`: the status of a fragment that is none.
async fn restart_ice(server: &TestServer, begun: &Response, bad: u16) {
    let (location, old) = (header(begun, "location").to_owned(), header(begun, "etag").to_owned());
    let fragment = |ufrag: &str| {
        format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:anewanewanewanewanewanew\r\nm=video 9 RTP/AVP 0\r\na=mid:0\r\n")
    };
    let restarted = server.ask("PATCH", &location, &[FRAGMENT, ("if-match", "*")], fragment("anew")).await;
    assert_eq!(restarted.status(), 200);
    assert_eq!(header(&restarted, "content-type"), FRAGMENT.1);
    let new = header(&restarted, "etag").to_owned();
    assert!(new != old && new.starts_with('"'), "{new}");
    let expected = "m=video 9 RTP/AVP 0\r\na=mid:0\r\na=ice-ufrag:again\r\na=ice-pwd:againagainagainagainagain\r\n\
        a=candidate:1 1 UDP 2130706431 192.0.2.1 4000 typ host\r\na=end-of-candidates\r\n";
    assert_eq!(restarted.text().await.unwrap(), expected);
    let mut calls = server.calls.lock().await;
    let theirs = calls.find(|call| match call {
        Call::RestartIce(_, Some(theirs)) if theirs.ufrag == "anew" => Some(theirs.pwd),
        _ => None,
    });
    assert_eq!(soon(theirs).await, "anewanewanewanewanewanew");

    let candidate = "a=candidate:5 1 udp 2122260223 192.0.2.2 61764 typ host\r\n";
    let table: &[(&str, String, u16)] = &[
        (&old, candidate.to_owned(), 412),
        (&new, candidate.to_owned(), 204),
        (&new, fragment("anew") + candidate, 204),
        ("*", fragment("anew"), bad),
        ("*", "a=ice-ufrag:more\r\na=ice-pwd:short\r\n".to_owned(), bad),
        (&new, fragment("more"), 200),
    ];
    for (tag, body, status) in table {
        let answer = server.ask("PATCH", &location, &[FRAGMENT, ("if-match", tag)], body.clone()).await;
        assert_eq!(answer.status(), *status, "{tag} {body}");
    }
}

#[tokio::test]
async fn one_address_has_so_many_that_are_not_connected() {
    let server = TestServer::start().await;
    let paths: Vec<_> = (0..50).map(|number| format!("/whip/show{number}")).collect();
    // No candidates come, so each is answered after a while: all at once.
    let posts = paths.iter().map(|path| server.ask("POST", path, &[SDP], obs_offer("H264")));
    let begun = futures_util::future::join_all(posts).await;
    assert!(begun.iter().all(|answer| answer.status() == 201));
    let more = server.ask("POST", "/whip/more", &[SDP], obs_offer("H264")).await;
    assert_eq!(header(&more, "retry-after"), "2");
    assert_eq!(problem(more).await, (429, "too_many_waiting".into()));
    // One that is up makes room, and one that is ended.
    let graph = server.registry.find("show0").unwrap().graph().await.unwrap();
    let publisher = graph.nodes.into_iter().find(|node| node.kind == NodeKind::Publisher).unwrap();
    let (participant, name) = publisher.id.split_once('/').unwrap();
    let connection = ConnectionId { participant: participant.parse().unwrap(), name: ConnectionName(name.into()) };
    assert!(server.engine.tell("show0", MediaEvent::Connected { connection }).await);
    let ended = server.ask("DELETE", header(&begun[1], "location"), &[], "").await;
    assert_eq!(ended.status(), 200);
    server.calls.lock().await.made();
    for room in ["one", "two"] {
        assert_eq!(server.begin(&format!("/whip/{room}"), &[], &obs_offer("H264")).await.status(), 201, "{room}");
    }
    let more = server.ask("POST", "/whip/more", &[SDP], obs_offer("H264")).await;
    assert_eq!(problem(more).await, (429, "too_many_waiting".into()));
}

#[tokio::test]
async fn one_address_begins_so_many_at_once() {
    let server = TestServer::start().await;
    let mut statuses = Vec::new();
    for _ in 0..120 {
        statuses.push(server.ask("POST", "/whip/show", &[SDP], "hello").await.status().as_u16());
    }
    assert!(statuses[..100].iter().all(|status| *status == 400), "{statuses:?}");
    assert!(statuses[100..].contains(&429), "{statuses:?}");
}
