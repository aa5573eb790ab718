//! The connection to a camera: TCP, TLS, or a pair of HTTP requests that carry RTSP.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{RtspError, Source, Transport, message};
use crate::{
    ingest::{Scheme, tls},
    room::id::random_text,
};

/// A connection must stand within this.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Both directions of a connection.
pub(super) struct Wire {
    pub(super) reader: Box<dyn AsyncRead + Send + Unpin>,
    pub(super) writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// What is written is base64.
    pub(super) tunnelled: bool,
    /// Our and the camera's end.
    pub(super) ends: (std::net::SocketAddr, std::net::SocketAddr),
}

impl Wire {
    /// Dials the source, at an address that was checked.
    pub(super) async fn open(source: &Source) -> Result<Self, RtspError> {
        if source.transport == Transport::Http {
            return tunnel(source).await;
        }
        let (stream, ends) = dial(source).await?;
        let (reader, writer) = tokio::io::split(stream);
        Ok(Self { reader: Box::new(reader), writer: Box::new(writer), tunnelled: false, ends })
    }
}

type Stream = Box<dyn Both>;

pub(crate) trait Both: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

async fn dial(source: &Source) -> Result<(Stream, (std::net::SocketAddr, std::net::SocketAddr)), RtspError> {
    let uri = &source.uri;
    let stream = source.allow.connect(&uri.host, uri.port, CONNECT_LIMIT).await?;
    let ends = stream.local_addr().and_then(|local| Ok((local, stream.peer_addr()?))).map_err(|_| RtspError::Closed)?;
    if uri.scheme == Scheme::Rtsp {
        return Ok((Box::new(stream), ends));
    }
    let handshake = tls::connect(stream, &uri.host, source.fingerprint);
    let stream = tokio::time::timeout(CONNECT_LIMIT, handshake).await;
    let stream = stream.map_err(|_| RtspError::Timeout { method: "TLS", limit: CONNECT_LIMIT })??;
    Ok((Box::new(stream), ends))
}

/// Apple's tunnel: answers and packets come as the body of a GET, requests go as that of a POST.
async fn tunnel(source: &Source) -> Result<Wire, RtspError> {
    let cookie = random_text(22);
    let head = |method: &str, more: &str| {
        let (host, port, target) = (&source.uri.host, source.uri.port, source.uri.target());
        format!(
            "{method} {target} HTTP/1.0\r\nHost: {host}:{port}\r\nx-sessioncookie: {cookie}\r\n{more}\
             Pragma: no-cache\r\nCache-Control: no-cache\r\n\r\n"
        )
    };
    let (mut down, ends) = dial(source).await?;
    let accept = "Accept: application/x-rtsp-tunnelled\r\n";
    let asked = async {
        down.write_all(head("GET", accept).as_bytes()).await.map_err(|_| RtspError::Closed)?;
        down.flush().await.map_err(|_| RtspError::Closed)?;
        let mut buffer = BytesMut::new();
        loop {
            if let Some(answer) = message::take(&mut buffer).map_err(RtspError::Protocol)? {
                return Ok((answer, buffer));
            }
            if down.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return Err(RtspError::Closed);
            }
        }
    };
    let (answer, early) = tokio::time::timeout(CONNECT_LIMIT, asked)
        .await
        .map_err(|_| RtspError::Timeout { method: "GET", limit: CONNECT_LIMIT })??;
    match answer {
        message::Incoming::Response(answer) if answer.status == 200 => {}
        message::Incoming::Response(answer) if answer.status == 401 => return Err(RtspError::Unauthorised),
        message::Incoming::Response(answer) => return Err(RtspError::Status { method: "GET", status: answer.status }),
        _ => return Err(RtspError::Protocol("no answer to GET".into())),
    }
    let (mut up, _) = dial(source).await?;
    let kind = "Content-Type: application/x-rtsp-tunnelled\r\nContent-Length: 32767\r\nExpires: Sun, 9 Jan 1972 00:00:00 GMT\r\n";
    up.write_all(head("POST", kind).as_bytes()).await.map_err(|_| RtspError::Closed)?;
    let reader = Box::new(std::io::Cursor::new(early.to_vec()).chain(down));
    Ok(Wire { reader, writer: Box::new(up), tunnelled: true, ends })
}

/// A message as the wire wants it.
pub(super) fn wrapped(message: Vec<u8>, tunnelled: bool) -> Vec<u8> {
    if tunnelled { STANDARD.encode(message).into_bytes() } else { message }
}
