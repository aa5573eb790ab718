//! TLS: the certificate that is made and kept, its reload, and HTTP and WebSockets over it.

use std::{os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use salon::server::{
    Limits,
    tls::{Certificate, PemFiles},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::harness::{Setup, TestServer, soon};

fn with_tls() -> Setup {
    Setup { tls: true, ..Setup::default() }
}

/// Trusts exactly the certificate in `file`.
fn trusting(file: &Path, protocols: &[&[u8]]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

fn address(server: &TestServer) -> String {
    server.https.as_deref().unwrap().trim_start_matches("https://").to_owned()
}

async fn connect(server: &TestServer, name: &str, connector: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = soon(TcpStream::connect(address(server))).await.unwrap();
    soon(connector.connect(ServerName::try_from(name.to_owned()).unwrap(), stream)).await
}

async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok\n") {
        assert_ne!(soon(stream.read_buf(&mut answer)).await.unwrap(), 0, "it ends with ok");
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn the_self_signed_certificate_names_this_machine_and_serves_http() {
    let server = TestServer::with(with_tls()).await;
    let cert = server.folder.path().join("data/tls/cert.pem");
    let connector = trusting(&cert, &[b"http/1.1"]);
    for name in ["localhost", "127.0.0.1"] {
        let mut stream = connect(&server, name, &connector).await.unwrap();
        assert!(ask(&mut stream).await.starts_with("HTTP/1.1 200 OK"));
    }
    assert!(connect(&server, "elsewhere.example", &connector).await.is_err());
}

#[test]
fn the_certificate_is_made_once_and_its_key_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let files = PemFiles::self_signed(folder.path()).unwrap();
    let first = std::fs::read(&files.cert).unwrap();
    assert_eq!(std::fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(PemFiles::self_signed(folder.path()).unwrap(), files);
    assert_eq!(std::fs::read(&files.cert).unwrap(), first);
    std::fs::remove_file(&files.key).unwrap();
    PemFiles::self_signed(folder.path()).unwrap().load().unwrap();
    assert_ne!(std::fs::read(&files.cert).unwrap(), first);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    let (one, other) = (PemFiles::self_signed(&one).unwrap(), PemFiles::self_signed(&other).unwrap());
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let error = |cert: &Path, key: &Path| {
        let files = PemFiles { cert: cert.to_owned(), key: key.to_owned() };
        Certificate::load(files).unwrap_err().to_string()
    };
    assert!(error(&one.cert, &other.key).contains("cannot be used together"));
    assert!(error(&empty, &one.key).contains("empty.pem"));
    assert!(error(&one.cert, &empty).contains("empty.pem"));
    assert!(error(Path::new("/nowhere.pem"), &one.key).contains("/nowhere.pem"));
}

#[tokio::test]
async fn a_changed_certificate_serves_new_connections_and_leaves_old_ones_alone() {
    let server = TestServer::with(with_tls()).await;
    let folder = server.folder.path().join("data/tls");
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let old = trusting(&cert, &[b"http/1.1"]);
    let mut standing = connect(&server, "localhost", &old).await.unwrap();
    ask(&mut standing).await;

    let fresh = PemFiles::self_signed(&server.folder.path().join("fresh")).unwrap();
    let new = trusting(&fresh.cert, &[b"http/1.1"]);
    assert!(connect(&server, "localhost", &new).await.is_err());
    std::fs::copy(&cert, server.folder.path().join("old.pem")).unwrap();
    std::fs::copy(&fresh.key, &key).unwrap();
    std::fs::copy(&fresh.cert, &cert).unwrap();
    soon(async { while connect(&server, "localhost", &new).await.is_err() {} }).await;
    // A connector of its own: the first one's session ticket would spare it the certificate.
    let old = trusting(&server.folder.path().join("old.pem"), &[b"http/1.1"]);
    assert!(connect(&server, "localhost", &old).await.is_err());
    assert!(ask(&mut standing).await.starts_with("HTTP/1.1 200 OK"));

    // A file that is no certificate changes nothing.
    std::fs::write(&cert, "not a certificate").unwrap();
    let mut still = connect(&server, "localhost", &new).await.unwrap();
    ask(&mut still).await;
}

#[tokio::test]
async fn http_2_is_spoken_where_the_client_speaks_it() {
    let server = TestServer::with(with_tls()).await;
    let cert = server.folder.path().join("data/tls/cert.pem");
    let mut stream = connect(&server, "localhost", &trusting(&cert, &[b"h2", b"http/1.1"])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    // The preface and an empty SETTINGS frame (RFC 9113 §3.4); the server's own SETTINGS come back.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0; 9];
    soon(stream.read_exact(&mut head)).await.unwrap();
    assert_eq!((head[3], &head[5..]), (4, &[0, 0, 0, 0][..]));
}

#[tokio::test]
async fn a_handshake_that_never_comes_is_not_waited_for() {
    let limits = Limits { tls_handshake: Duration::from_millis(200), ..Limits::default() };
    let server = TestServer::with(Setup { limits, ..with_tls() }).await;
    let mut stream = soon(TcpStream::connect(address(&server))).await.unwrap();
    let mut nothing = Vec::new();
    let _ = soon(stream.read_to_end(&mut nothing)).await;
    assert!(nothing.is_empty());
}

#[tokio::test]
async fn rooms_are_entered_over_a_secure_websocket() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;

    let server = TestServer::with(with_tls()).await;
    let cert = server.folder.path().join("data/tls/cert.pem");
    let stream = connect(&server, "localhost", &trusting(&cert, &[b"http/1.1"])).await.unwrap();
    let (mut socket, _) = soon(tokio_tungstenite::client_async("wss://localhost/ws", stream)).await.unwrap();
    let join = r#"{"id": 1, "type": "join", "room": "math", "name": "김철수"}"#;
    socket.send(Message::text(join)).await.unwrap();
    let answer = loop {
        match soon(socket.next()).await.unwrap().unwrap() {
            Message::Text(text) => break text,
            _ => continue,
        }
    };
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((&answer["type"], &answer["room"]["name"]), (&"ok".into(), &"math".into()), "{answer}");
}
