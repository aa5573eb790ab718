//! One message to one address.

use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
};
use url::{Host, Position, Url};

use super::Message;
use crate::{config::Secret, ingest::tls};

/// Why a message was not taken.
#[derive(Debug, Error)]
pub(super) enum Refused {
    #[error("{0}")]
    Connection(String),
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("it answered {0}")]
    Status(StatusCode),
}

impl Refused {
    /// The same message would be refused again. Redirects are: the owner sets another address.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Connection(_) | Self::Late(_) => false,
            Self::Status(status) => {
                !status.is_server_error()
                    && !matches!(*status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
            }
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Refused {
    Refused::Connection(error.to_string())
}

/// Sends it over a connection of its own. `Ok`: it was taken.
pub(super) async fn post(url: &Url, message: &Message, secret: Option<&Secret>) -> Result<(), Refused> {
    let host = url.host().ok_or_else(|| failed("no host"))?.to_owned();
    let port = url.port_or_known_default().ok_or_else(|| failed("no port"))?;
    let stream = match &host {
        Host::Domain(name) => TcpStream::connect((name.as_str(), port)).await,
        Host::Ipv4(address) => TcpStream::connect((*address, port)).await,
        Host::Ipv6(address) => TcpStream::connect((*address, port)).await,
    };
    let stream = stream.map_err(failed)?;
    let request = request(url, message, secret, jiff::Timestamp::now().as_second())?;
    let status = if url.scheme() == "https" {
        ask(tls::connect(stream, &host, None).await.map_err(failed)?, request).await?
    } else {
        ask(stream, request).await?
    };
    if status.is_success() { Ok(()) } else { Err(Refused::Status(status)) }
}

fn request(url: &Url, message: &Message, secret: Option<&Secret>, now_s: i64) -> Result<Request<Full<Bytes>>, Refused> {
    let mut request = Request::post(&url[Position::BeforePath..Position::AfterQuery])
        .header(header::HOST, &url[Position::BeforeHost..Position::AfterPort])
        .header(header::USER_AGENT, concat!("Salon/", env!("CARGO_PKG_VERSION")))
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-salon-event", &message.kind)
        .header("x-salon-delivery", &message.id);
    if let Some(secret) = secret {
        request = request.header("x-salon-signature", signature(secret, now_s, &message.body));
    }
    request.body(Full::new(message.body.clone())).map_err(failed)
}

/// `t=<seconds since 1970>,v1=<HMAC-SHA-256 of "<t>.<body>", in hexadecimal>`: whoever knows the secret sees that
/// it is from us, whole, and not sent again by somebody who overheard it.
pub fn signature(secret: &Secret, now_s: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
    let mut signed = hmac::Context::with_key(&key);
    signed.update(format!("{now_s}.").as_bytes());
    signed.update(body);
    let tag: String = signed.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={now_s},v1={tag}")
}

/// The status of the answer; its body is not read.
async fn ask<S>(stream: S, request: Request<Full<Bytes>>) -> Result<StatusCode, Refused>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let mut driving = JoinSet::new();
    driving.spawn(async move {
        // Its errors are the request's too.
        let _ = connection.await;
    });
    Ok(sender.send_request(request).await.map_err(failed)?.status())
}
