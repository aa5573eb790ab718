//! HTTP requests whose every dial is checked, redirects too.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode, header};
use http_auth::{PasswordClient, PasswordParams};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{task::JoinSet, time::timeout};
use url::{Host, Url};

use crate::ingest::{
    AllowList, Credentials,
    rtsp::{RtspError, Source},
    tls::{self, Fingerprint},
};

/// A connection must stand, and a head be there, within this.
const HEAD_LIMIT: Duration = Duration::from_secs(8);
/// A body may pause for so long; some cameras send a picture every few seconds.
const PAUSE_LIMIT: Duration = Duration::from_secs(10);
const MOST_REDIRECTS: usize = 5;

/// Asks for one source's addresses.
pub(super) struct Getter {
    allow: AllowList,
    credentials: Option<Credentials>,
    fingerprint: Option<Fingerprint>,
    /// To whom they may be told, and whose certificate that is.
    home: (Host<String>, u16),
    /// What the server asked for last.
    challenged: Option<PasswordClient>,
}

/// A body that comes.
pub(super) struct Answer {
    /// Where it was in the end.
    pub(super) url: Url,
    /// Its `Content-Type`, in lower case.
    pub(super) kind: String,
    body: Incoming,
    _connection: JoinSet<()>,
}

impl Getter {
    pub(super) fn new(source: &Source) -> Self {
        let Source { uri, credentials, allow, fingerprint, .. } = source;
        let home = (uri.host.clone(), uri.port);
        Self {
            allow: allow.clone(),
            credentials: credentials.clone(),
            fingerprint: *fingerprint,
            home,
            challenged: None,
        }
    }

    /// Follows redirects; every address on the way is looked at when it is dialled.
    pub(super) async fn get(&mut self, url: &Url) -> Result<Answer, RtspError> {
        let mut url = url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let late = |_| RtspError::Timeout { method: "GET", limit: HEAD_LIMIT };
            let (status, mut answer, headers) = timeout(HEAD_LIMIT, self.ask(&url)).await.map_err(late)??;
            match status {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok(answer),
                StatusCode::UNAUTHORIZED => {
                    self.challenge(&url, &headers)?;
                    let (again, second, _) = timeout(HEAD_LIMIT, self.ask(&url)).await.map_err(late)??;
                    match again {
                        StatusCode::OK => return Ok(second),
                        _ => return Err(RtspError::Unauthorised),
                    }
                }
                StatusCode::FORBIDDEN => return Err(RtspError::Unauthorised),
                StatusCode::NOT_FOUND | StatusCode::GONE => return Err(RtspError::NotFound),
                status if status.is_redirection() => {
                    let place = headers.get(header::LOCATION).and_then(|place| place.to_str().ok());
                    let place = place.and_then(|place| url.join(place).ok());
                    url = place.ok_or_else(|| RtspError::Protocol("a redirect to nowhere".into()))?;
                    answer.url = url.clone();
                }
                status => return Err(RtspError::Status { method: "GET", status: status.as_u16() }),
            }
        }
        Err(RtspError::Protocol(format!("more than {MOST_REDIRECTS} redirects")))
    }

    fn challenge(&mut self, url: &Url, headers: &http::HeaderMap) -> Result<(), RtspError> {
        if self.credentials.is_none() || !self.is_home(url) {
            return Err(RtspError::Unauthorised);
        }
        let challenges = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let client = challenges.fold(PasswordClient::builder(), |all, one| all.challenges(one)).build();
        let client = client.map_err(|error| RtspError::Protocol(format!("its challenge: {error}")))?;
        self.challenged = Some(client);
        Ok(())
    }

    /// What one server was told, a name and a password, is not for another.
    fn is_home(&self, url: &Url) -> bool {
        host_of(url).is_ok_and(|(host, port)| (host, port) == self.home)
    }

    /// One request over a connection of its own.
    async fn ask(&mut self, url: &Url) -> Result<(StatusCode, Answer, http::HeaderMap), RtspError> {
        let (host, port) = host_of(url)?;
        let stream = self.allow.connect(&host, port, HEAD_LIMIT).await?;
        let mut connection = JoinSet::new();
        let mut sender = if url.scheme() == "https" {
            let is_home = self.home == (host.clone(), port);
            let pinned = self.fingerprint.filter(|_| is_home);
            handshake(tls::connect(stream, &host, pinned).await?, &mut connection).await?
        } else {
            handshake(stream, &mut connection).await?
        };
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let mut request = Request::get(target)
            .header(header::HOST, host)
            .header(header::USER_AGENT, "Salon")
            .header(header::ACCEPT, "*/*");
        if let Some(authorization) = self.authorization(url, target) {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| RtspError::Protocol(error.to_string()))?;
        let answer = sender.send_request(request).await.map_err(|error| RtspError::Protocol(error.to_string()))?;
        let (head, body) = answer.into_parts();
        let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().to_lowercase();
        Ok((head.status, Answer { url: url.clone(), kind, body, _connection: connection }, head.headers))
    }

    fn authorization(&mut self, url: &Url, target: &str) -> Option<String> {
        let is_home = self.is_home(url);
        let (client, credentials) = (self.challenged.as_mut()?, self.credentials.as_ref()?);
        let (username, password) = (credentials.user.reveal(), credentials.password.reveal());
        let parameters = PasswordParams { username, password, uri: target, method: "GET", body: None };
        is_home.then(|| client.respond(&parameters).ok()).flatten()
    }
}

async fn handshake<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    tasks: &mut JoinSet<()>,
) -> Result<http1::SendRequest<Empty<Bytes>>, RtspError> {
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| RtspError::Protocol(error.to_string()))?;
    // Ends with the answer that it belongs to; its errors are the body's too.
    tasks.spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// Only what is HTTP has a host here.
fn host_of(url: &Url) -> Result<(Host<String>, u16), RtspError> {
    let refused = || RtspError::Protocol(format!("an address that is not HTTP: {}", url.scheme()));
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused());
    }
    let host = url.host().ok_or_else(refused)?.to_owned();
    Ok((host, url.port_or_known_default().ok_or_else(refused)?))
}

impl Answer {
    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, RtspError> {
        loop {
            let frame = timeout(PAUSE_LIMIT, self.body.frame()).await;
            match frame.map_err(|_| RtspError::Stalled(PAUSE_LIMIT))? {
                None => return Ok(None),
                Some(Err(_)) => return Err(RtspError::Closed),
                // Trailers are of no use here.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) if bytes.is_empty() => {}
                    Ok(bytes) => return Ok(Some(bytes)),
                    Err(_) => {}
                },
            }
        }
    }

    /// All of it, if that is not more than `most` bytes.
    pub(super) async fn all(mut self, most: usize) -> Result<Bytes, RtspError> {
        let mut all = BytesMut::new();
        while let Some(bytes) = self.next().await? {
            all.extend_from_slice(&bytes);
            if all.len() > most {
                return Err(RtspError::Protocol(format!("a playlist of more than {most} bytes")));
            }
        }
        Ok(all.freeze())
    }
}
