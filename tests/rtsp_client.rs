//! The RTSP client against servers that misbehave: each a script of what it answers. That it gets on
//! with a real one is for tests/ingest.rs to show.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use salon::{
    ingest::{
        DialError, IngestUri,
        rtsp::{Camera, RtspError, Source, Transport},
    },
    media::Kind,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
                   a=rtpmap:96 H264/90000\r\na=control:track\r\n";

/// A server that answers each request as `answer` says; `None` hangs up. Gives its address.
async fn server(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer.clone()));
        }
    });
    format!("rtsp://{address}/live")
}

async fn serve(mut stream: TcpStream, answer: Arc<impl Fn(&str) -> Option<Vec<u8>>>) {
    let mut buffer = String::new();
    let mut chunk = [0; 4096];
    loop {
        while let Some(end) = buffer.find("\r\n\r\n") {
            let request: String = buffer.drain(..end + 4).collect();
            let Some(bytes) = answer(&request) else { return };
            if stream.write_all(&bytes).await.is_err() {
                return;
            }
        }
        match stream.read(&mut chunk).await {
            Ok(read) if read > 0 => buffer.push_str(&String::from_utf8_lossy(&chunk[..read])),
            _ => return,
        }
    }
}

fn cseq(request: &str) -> &str {
    request.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap()
}

fn reply(request: &str, status: &str, headers: &str, body: &str) -> Option<Vec<u8>> {
    let length = body.len();
    Some(
        format!("RTSP/1.0 {status}\r\nCSeq: {}\r\n{headers}Content-Length: {length}\r\n\r\n{body}", cseq(request))
            .into_bytes(),
    )
}

/// As a good camera would; with one packet behind PLAY.
fn good(request: &str) -> Option<Vec<u8>> {
    match request.split(' ').next().unwrap() {
        "DESCRIBE" => reply(request, "200 OK", "Content-Type: application/sdp\r\n", SDP),
        "SETUP" => reply(request, "200 OK", "Session: 7;timeout=4\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n", ""),
        "PLAY" => {
            let mut bytes = reply(request, "200 OK", "", "").unwrap();
            bytes.extend(packet());
            Some(bytes)
        }
        _ => reply(request, "200 OK", "", ""),
    }
}

fn packet() -> Vec<u8> {
    [&[b'$', 0, 0, 13, 0x80, 96][..], &[0; 11]].concat()
}

fn source(uri: &str) -> Source {
    let (uri, credentials) = IngestUri::parse(uri).unwrap();
    let allow = "127.0.0.1".parse().unwrap();
    Source { uri, credentials, transport: Transport::Tcp, allow, fingerprint: None, video: true, audio: true }
}

async fn open(uri: &str) -> Result<Camera, RtspError> {
    tokio::time::timeout(Duration::from_secs(15), Camera::open(&source(uri))).await.expect("an end in time")
}

async fn error(uri: &str) -> RtspError {
    open(uri).await.err().expect("a failure")
}

#[tokio::test]
async fn a_good_camera_plays_and_is_told_good_bye() {
    let torn_down = Arc::new(AtomicUsize::new(0));
    let count = torn_down.clone();
    let uri = server(move |request| {
        if request.starts_with("TEARDOWN") {
            assert!(request.contains("Session: 7\r\n"), "{request}");
            count.fetch_add(1, SeqCst);
        }
        good(request)
    });
    let mut camera = open(&uri.await).await.unwrap();
    assert_eq!(camera.streams().iter().map(|stream| stream.kind).collect::<Vec<_>>(), [Kind::Video]);
    camera.play().await.unwrap();
    assert_eq!(camera.next().await.unwrap().bytes.len(), 13);
    camera.close().await;
    assert_eq!(torn_down.load(SeqCst), 1);
}

#[tokio::test]
async fn a_camera_that_falls_silent_is_noticed_within_two_seconds() {
    let mut camera = open(&server(good).await).await.unwrap();
    camera.play().await.unwrap();
    camera.next().await.unwrap();
    let since = Instant::now();
    assert_eq!(camera.next().await, Err(RtspError::Stalled(Duration::from_secs(2))));
    assert!((1900..2600).contains(&since.elapsed().as_millis()), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_session_is_kept_alive_while_packets_come() {
    let kept = Arc::new(AtomicUsize::new(0));
    let count = kept.clone();
    // One packet a second, by the camera's own requests.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("rtsp://{}/live", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let (sender, mut answers) = tokio::sync::mpsc::channel::<Vec<u8>>(16);
        let packets = sender.clone();
        tokio::spawn(async move {
            while let Some(bytes) = answers.recv().await {
                writer.write_all(&bytes).await.unwrap();
            }
        });
        let (mut buffer, mut chunk, mut played) = (String::new(), [0; 4096], false);
        while let Ok(read @ 1..) = reader.read(&mut chunk).await {
            buffer.push_str(&String::from_utf8_lossy(&chunk[..read]));
            while let Some(end) = buffer.find("\r\n\r\n") {
                let request: String = buffer.drain(..end + 4).collect();
                if request.starts_with("PLAY") {
                    played = true;
                    let packets = packets.clone();
                    tokio::spawn(async move {
                        let mut ticks = tokio::time::interval(Duration::from_millis(500));
                        while packets.send(packet()).await.is_ok() {
                            ticks.tick().await;
                        }
                    });
                } else if played && request.starts_with("OPTIONS") {
                    count.fetch_add(1, SeqCst);
                }
                sender.send(good(&request).unwrap()).await.unwrap();
            }
        }
    });
    let mut camera = open(&uri).await.unwrap();
    camera.play().await.unwrap();
    let until = Instant::now() + Duration::from_millis(4500);
    while Instant::now() < until {
        camera.next().await.unwrap();
    }
    assert_eq!(kept.load(SeqCst), 2, "its timeout is 4 s");
}

#[tokio::test]
async fn redirects_are_followed_to_allowed_addresses_only_and_not_forever() {
    let elsewhere = server(good).await;
    let place = elsewhere.clone();
    let uri = server(move |request| match request.split(' ').next().unwrap() {
        "DESCRIBE" => reply(request, "302 Found", &format!("Location: {place}\r\n"), ""),
        _ => good(request),
    });
    assert_eq!(open(&uri.await).await.unwrap().streams().len(), 1);
    for forbidden in ["rtsp://169.254.169.254/latest", "rtsp://10.0.0.1/x", "rtsp://0x7f000002/", "rtsp://[::1]/"] {
        let uri = server(move |request| reply(request, "301 Moved", &format!("Location: {forbidden}\r\n"), ""));
        let error = error(&uri.await).await;
        assert!(matches!(error, RtspError::Dial(DialError::Refused { .. })), "{forbidden}: {error:?}");
    }
    let uri = server(move |request| match request.split(' ').next().unwrap() {
        "DESCRIBE" => {
            let own = request.split(' ').nth(1).unwrap().to_owned();
            reply(request, "302 Found", &format!("Location: {own}\r\n"), "")
        }
        _ => good(request),
    });
    assert!(matches!(error(&uri.await).await, RtspError::Protocol(_)));
}

#[tokio::test]
async fn a_password_is_not_told_to_another_host() {
    let secrets = Arc::new(AtomicUsize::new(0));
    let count = secrets.clone();
    let ask = "WWW-Authenticate: Basic realm=\"x\"\r\n";
    let elsewhere = server(move |request| {
        count.fetch_add(usize::from(request.contains("Authorization")), SeqCst);
        reply(request, "401 Unauthorized", ask, "")
    });
    // The same machine under another name is another host.
    let place = elsewhere.await.replace("127.0.0.1", "localhost");
    let uri = server(move |request| match request.split(' ').next().unwrap() {
        "DESCRIBE" => reply(request, "302 Found", &format!("Location: {place}\r\n"), ""),
        _ => good(request),
    });
    let uri = uri.await.replace("rtsp://", "rtsp://admin:s3cret@");
    let source = Source { allow: "127.0.0.1,localhost".parse().unwrap(), ..source(&uri) };
    assert_eq!(Camera::open(&source).await.err(), Some(RtspError::Unauthorised));
    assert_eq!(secrets.load(SeqCst), 0);
}

#[tokio::test]
async fn what_a_hostile_server_says_is_bounded_and_told_in_a_word() {
    let answering = |bytes: Vec<u8>| server(move |_| Some(bytes.clone()));
    for (bytes, what) in [
        (b"RTSP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n".to_vec(), "a negative length"),
        (b"RTSP/1.0 200 OK\r\nContent-Length: 4294967296\r\n\r\n".to_vec(), "a huge length"),
        ([b"RTSP/1.0 200 OK\r\nX: ".as_slice(), &[b'a'; 100_000]].concat(), "a huge header"),
        (vec![0; 100_000], "nothing of sense"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(), "another protocol"),
    ] {
        let error = error(&answering(bytes).await).await;
        assert!(matches!(error, RtspError::Protocol(_)), "{what}: {error:?}");
    }
    let describing = |body: String| {
        server(move |request| match request.split(' ').next().unwrap() {
            "DESCRIBE" => reply(request, "200 OK", "", &body),
            _ => good(request),
        })
    };
    let many = format!("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{}", "m=text 0 RTP/AVP 99\r\n".repeat(10_000));
    assert_eq!(error(&describing(many).await).await, RtspError::NoMedia);
    assert!(matches!(error(&describing("v=0\r\n".repeat(60_000)).await).await, RtspError::Protocol(_)));
    assert!(matches!(error(&describing("no description".into()).await).await, RtspError::Protocol(_)));
    assert!(matches!(error(&server(|_| None).await).await, RtspError::Closed));
    let unauthorised = server(|request| {
        reply(request, "401 Unauthorized", "WWW-Authenticate: Digest realm=\"x\", nonce=\"y\"\r\n", "")
    });
    assert_eq!(error(&unauthorised.await.replace("rtsp://", "rtsp://a:b@")).await, RtspError::Unauthorised);
    let missing = server(|request| reply(request, "404 Not Found", "", ""));
    assert_eq!(error(&missing.await).await, RtspError::NotFound);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let since = Instant::now();
    let error = error(&server(|_| Some(Vec::new())).await).await;
    assert_eq!(error, RtspError::Timeout { method: "OPTIONS", limit: Duration::from_secs(5) });
    assert!(since.elapsed() < Duration::from_secs(6));
}

#[tokio::test]
async fn an_endless_answer_is_given_up_in_time() {
    let since = Instant::now();
    // A head that never ends, in drops.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("rtsp://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while stream.write_all(b"RTSP/1.0 100 Continue\r\nCSeq: 9\r\n\r\n").await.is_ok() {
            ticks.tick().await;
        }
    });
    assert!(matches!(error(&uri).await, RtspError::Timeout { .. }));
    assert!(since.elapsed() < Duration::from_secs(6));
}
