//! Streams over HTTP from servers that misbehave: each answers what a table says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use salon::ingest::{
    DialError, IngestUri,
    http::Web,
    rtsp::{RtspError, Source, Transport},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Answers each request as `answer` says (path and whole head in, bytes out), and hangs up.
async fn server(answer: impl Fn(&str, &str) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let head = String::from_utf8(head).unwrap();
                let bytes = answer(head.split(' ').nth(1).unwrap(), &head);
                let _ = stream.write_all(&bytes).await;
            });
        }
    });
    address
}

fn reply(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn ok(body: &str) -> Vec<u8> {
    reply("200 OK", "", body)
}

fn source(uri: &str) -> Source {
    let (uri, credentials) = IngestUri::parse(uri).unwrap();
    let allow = "127.0.0.1".parse().unwrap();
    Source { uri, credentials, transport: Transport::Auto, allow, fingerprint: None, video: true, audio: true }
}

/// All that comes, as text.
async fn all(uri: &str) -> Result<String, RtspError> {
    let fetched = async {
        let mut web = Web::open(&source(uri)).await?;
        let mut text = String::new();
        while let Some(bytes) = web.next().await? {
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        Ok(text)
    };
    tokio::time::timeout(Duration::from_secs(20), fetched).await.expect("an end in time")
}

#[tokio::test]
async fn a_body_comes_as_it_is_and_a_playlists_segments_one_after_the_other() {
    let server = server(|path, _| match path {
        "/film" => ok("film"),
        "/to" => reply("307 Temporary Redirect", "Location: /film\r\n", ""),
        "/all" => ok("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow/list\n#EXT-X-STREAM-INF:BANDWIDTH=9\nhigh/list\n"),
        "/high/list" => ok("#EXTM3U\n#EXT-X-MAP:URI=\"map\"\n#EXTINF:1,\na?x=1\n#EXTINF:1,\n/b\n#EXT-X-ENDLIST\n"),
        "/high/map" => ok("map "),
        "/high/a?x=1" => ok("a "),
        "/b" => ok("b"),
        _ => reply("404 Not Found", "", ""),
    })
    .await;
    assert_eq!(all(&format!("http://{server}/film")).await.unwrap(), "film");
    assert_eq!(all(&format!("http://{server}/to")).await.unwrap(), "film");
    assert_eq!(all(&format!("http://{server}/all")).await.unwrap(), "map a b");
    assert_eq!(all(&format!("http://{server}/none")).await, Err(RtspError::NotFound));
}

#[tokio::test]
async fn a_live_playlist_is_followed_and_begun_near_its_end() {
    let looks = Mutex::new(0);
    let server = server(move |path, _| match path {
        "/live" => {
            let mut looks = looks.lock().unwrap();
            *looks += 1;
            let first = if *looks < 3 { 10 } else { 12 };
            let segments: String = (first..first + 5).map(|number| format!("#EXTINF:1,\n{number}\n")).collect();
            let end = if *looks < 3 { "" } else { "#EXT-X-ENDLIST\n" };
            ok(&format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{first}\n{segments}{end}"))
        }
        number => ok(&format!("{} ", number.trim_start_matches('/'))),
    });
    let server = server.await;
    assert_eq!(all(&format!("http://{server}/live")).await.unwrap(), "12 13 14 15 16 ");
}

/// The matrix of what a server may send one to: redirects, variants, segments and maps are dialled like the first.
#[tokio::test]
async fn nothing_leads_to_an_address_that_is_not_allowed() {
    for place in [
        "http://169.254.169.254/latest",
        "http://10.0.0.1/x",
        "http://0x7f000002/",
        "http://[::1]/",
        "https://10.0.0.1/",
    ] {
        let server = server(move |path, _| match path {
            "/redirect" => reply("302 Found", &format!("Location: {place}\r\n"), ""),
            "/variant" => ok(&format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{place}\n")),
            "/segment" => ok(&format!("#EXTM3U\n#EXTINF:1,\n{place}\n#EXT-X-ENDLIST\n")),
            "/map" => ok(&format!("#EXTM3U\n#EXT-X-MAP:URI=\"{place}\"\n#EXTINF:1,\nx\n#EXT-X-ENDLIST\n")),
            "/later" => ok("#EXTM3U\n#EXTINF:1,\nredirect\n#EXT-X-ENDLIST\n"),
            other => panic!("{other}"),
        })
        .await;
        for path in ["redirect", "variant", "segment", "map", "later"] {
            let error = all(&format!("http://{server}/{path}")).await.unwrap_err();
            assert!(matches!(error, RtspError::Dial(DialError::Refused { .. })), "{path} to {place}: {error:?}");
        }
    }
    for other in ["file:///etc/passwd", "ftp://127.0.0.1/x", "rtsp://127.0.0.1/x"] {
        let server = server(move |_, _| reply("302 Found", &format!("Location: {other}\r\n"), "")).await;
        assert!(matches!(all(&format!("http://{server}/")).await, Err(RtspError::Protocol(_))), "{other}");
    }
}

#[tokio::test]
async fn a_password_is_told_to_its_own_server_only() {
    let ask = "WWW-Authenticate: Digest realm=\"x\", nonce=\"y\", qop=\"auth\"\r\n";
    let elsewhere = server(|_, head| {
        assert!(!head.contains("authorization"), "{head}");
        reply("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", "")
    })
    .await;
    let server = server(move |path, head| match path {
        _ if !head.to_lowercase().contains("\r\nauthorization: digest username=\"admin\"") => {
            reply("401 Unauthorized", ask, "")
        }
        "/film" => ok("film"),
        _ => reply("302 Found", &format!("Location: http://{elsewhere}/\r\n"), ""),
    })
    .await;
    assert_eq!(all(&format!("http://admin:s3cret@{server}/film")).await.unwrap(), "film");
    assert_eq!(all(&format!("http://{server}/film")).await, Err(RtspError::Unauthorised));
    assert_eq!(all(&format!("http://admin:s3cret@{server}/away")).await, Err(RtspError::Unauthorised));
}

#[tokio::test]
async fn what_a_hostile_server_says_is_bounded() {
    let endless = format!("#EXTM3U\n{}", "#EXT-X-COMMENT\n".repeat(100_000));
    let table: Vec<(&str, Vec<u8>)> = vec![
        ("a huge playlist", ok(&endless)),
        ("a huge head", [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &vec![b'a'; 1_000_000]].concat()),
        ("many headers", format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(10_000)).into_bytes()),
        ("a negative length", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n".to_vec()),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()),
        ("a redirect to itself", reply("302 Found", "Location: /\r\n", "")),
        ("a redirect to nowhere", reply("302 Found", "", "")),
        ("variants of variants", ok("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n/\n")),
        ("encryption", ok("#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:1,\nx\n")),
    ];
    for (what, bytes) in table {
        let server = server(move |_, _| bytes.clone()).await;
        let error = all(&format!("http://{server}/")).await.unwrap_err();
        assert!(matches!(error, RtspError::Protocol(_)), "{what}: {error:?}");
    }
    let busy = server(|_, _| reply("503 Service Unavailable", "", "")).await;
    assert_eq!(all(&format!("http://{busy}/")).await, Err(RtspError::Status { method: "GET", status: 503 }));
    let cut = server(|_, _| b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfilm".to_vec()).await;
    assert_eq!(all(&format!("http://{cut}/")).await, Err(RtspError::Closed));
}
