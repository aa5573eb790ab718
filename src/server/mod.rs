//! Listeners, HTTP API, authorisation, metrics: everything between sockets and rooms that is not a
//! dialect.
//!
//! [`Server::start`] binds and serves; requests go through [`listener`] to warp, where the native
//! dialect's WebSocket comes first and [`routes`] answers the rest.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::service::TowerToHyperService;
use tokio::{sync::Semaphore, time::Instant};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use warp::{
    Filter, Rejection, Reply,
    http::{HeaderName, HeaderValue, Request},
    hyper::{body::Incoming, service::Service},
    reply::Response,
};

use self::{
    auth::Gate,
    connection::Seats,
    hls::Shows,
    listener::{Acceptor, Handler, Listener},
    metrics::Metrics,
    routes::Matched,
    tls::Certificate,
};
use crate::{ingest::AllowList, media::MediaEngine, recording::Keeper, room::Registry};

pub mod api;
pub mod auth;
pub mod connection;
pub mod drawing;
pub mod files;
pub mod hls;
pub mod listener;
pub mod metrics;
pub mod openapi;
mod players;
pub mod problem;
pub mod request;
pub mod routes;
pub mod rtsp;
pub mod srt;
pub mod sse;
pub mod tls;
pub mod web;

/// Headers of every answer. The page loads nothing from elsewhere, is framed by nobody, and tells
/// nobody where its user came from (its addresses may carry access tokens).
const SECURITY_HEADERS: [(HeaderName, HeaderValue); 4] = [
    (
        HeaderName::from_static("content-security-policy"),
        HeaderValue::from_static(
            "default-src 'self'; media-src 'self' blob: mediastream:; connect-src 'self' ws: wss:; \
             img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
        ),
    ),
    (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff")),
    (HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(self), microphone=(self), display-capture=(self)"),
    ),
];

/// What the handlers work with.
pub struct Services {
    /// Rooms.
    pub registry: Arc<Registry>,
    /// Recordings.
    pub keeper: Keeper,
    /// The media engine, for what it can do.
    pub engine: Arc<dyn MediaEngine>,
    /// Which cameras may be fetched though they are not public.
    pub ingest_allow: AllowList,
    /// Looks at cameras that may go on at once.
    pub probes: Arc<Semaphore>,
    /// Rooms that are played as HLS.
    pub shows: Arc<Shows>,
    /// Reads pictures for effects.
    pub pictures: api::pictures::PictureDecoder,
    /// Who may call.
    pub gate: Gate,
    /// Figures.
    pub metrics: Metrics,
    /// Salon's version.
    pub version: &'static str,
    /// When the server was started.
    pub started: Instant,
    /// Bounds of what comes from outside.
    pub limits: Limits,
    /// Cancelled when the server goes down.
    pub stop: CancellationToken,
}

/// Bounds of what comes from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections of one address at once; a school behind one address must fit.
    pub connections_per_address: usize,
    /// From TCP's to TLS's being up.
    pub tls_handshake: Duration,
    /// From a request's first byte to the end of its head, and between requests.
    pub header_read: Duration,
    /// Between any two bytes, either way; longer than the longest answer that is held back.
    pub idle: Duration,
    /// Between pings of an HTTP/2 connection.
    pub http2_ping: Duration,
    /// A request's body, in bytes.
    pub body_bytes: usize,
    /// From a request's head to its body's end.
    pub body_timeout: Duration,
    /// Between comments on an event stream without events.
    pub sse_keep_alive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            connections_per_address: 1_024,
            tls_handshake: Duration::from_secs(5),
            header_read: Duration::from_secs(10),
            idle: Duration::from_secs(150),
            http2_ping: Duration::from_secs(20),
            body_bytes: 64 * 1024,
            body_timeout: Duration::from_secs(10),
            sse_keep_alive: Duration::from_secs(15),
        }
    }
}

/// Where to listen.
#[derive(Clone, Debug, Default)]
pub struct Listen {
    /// Plain HTTP.
    pub http: Vec<SocketAddr>,
    /// HTTPS, with this certificate.
    pub https: Option<(Vec<SocketAddr>, Arc<Certificate>)>,
}

/// A running server.
pub struct Server {
    urls: Vec<String>,
    stop: CancellationToken,
    abort: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Binds all addresses and serves `websocket` and the HTTP API on them.
    ///
    /// # Errors
    /// With the address, if one cannot be bound. An IPv6 wildcard is left out with a warning on
    /// machines without IPv6, if there is another address.
    pub fn start<F, R>(listen: Listen, services: Arc<Services>, websocket: F) -> io::Result<Self>
    where
        F: Filter<Extract = (R,), Error = Rejection> + Clone + Send + Sync + 'static,
        F::Future: Send,
        R: Reply + 'static,
    {
        let listeners = bind_http(&listen)?;
        let urls = listeners.iter().map(Listener::url).collect::<io::Result<_>>()?;
        let (stop, limits) = (services.stop.clone(), services.limits);
        let acceptor = Acceptor {
            handler: handler(services, websocket),
            limits,
            seats: Arc::new(Seats::new(limits.connections, limits.connections_per_address)),
            stop: stop.clone(),
            abort: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let server = Self { urls, stop: stop.clone(), abort: acceptor.abort.clone(), tasks: acceptor.tasks.clone() };
        for listener in listeners {
            server.tasks.spawn(acceptor.clone().run(listener));
        }
        if let Some((_, certificate)) = listen.https {
            server.tasks.spawn(certificate.watch(stop));
        }
        Ok(server)
    }

    /// Where it listens, in the order HTTP, HTTPS: `http://127.0.0.1:8080`.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Accepts nothing new; event streams end, and requests are answered on.
    pub fn stop_accepting(&self) {
        self.stop.cancel();
    }

    /// Waits until all connections have ended, at most for `grace`, and drops those that have not.
    pub async fn close(self, grace: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            self.abort.cancel();
            self.tasks.wait().await;
        }
    }
}

fn bind_http(listen: &Listen) -> io::Result<Vec<Listener>> {
    let plain = listen.http.iter().map(|address| (*address, None));
    let tls = match &listen.https {
        Some((addresses, certificate)) => {
            let acceptor = TlsAcceptor::from(certificate.server_config().map_err(io::Error::other)?);
            addresses.iter().map(|address| (*address, Some(acceptor.clone()))).collect()
        }
        None => Vec::new(),
    };
    bind(plain.chain(tls))
}

fn bind(addresses: impl Iterator<Item = (SocketAddr, Option<TlsAcceptor>)>) -> io::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for (address, tls) in addresses {
        match Listener::bind(address, tls) {
            Ok(listener) => listeners.push(listener),
            Err(error) if lacks_ipv6(address, &error) && !listeners.is_empty() => {
                tracing::warn!("not listening on {address}: {error}");
            }
            Err(error) => return Err(io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))),
        }
    }
    Ok(listeners)
}

/// EAFNOSUPPORT or EADDRNOTAVAIL on `[::]`: the machine has no IPv6.
fn lacks_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    let missing = error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(97);
    address.is_ipv6() && address.ip().is_unspecified() && missing
}

/// Everything a request meets, as one function: the WebSocket, then the routes; then it is counted
/// and its answer gets the headers that all have.
fn handler<F, R>(services: Arc<Services>, websocket: F) -> Handler
where
    F: Filter<Extract = (R,), Error = Rejection> + Clone + Send + Sync + 'static,
    F::Future: Send,
    R: Reply + 'static,
{
    let service = TowerToHyperService::new(warp::service(websocket.or(routes::http(services.clone()))));
    Arc::new(move |request: Request<Incoming>| {
        let (service, services) = (service.clone(), services.clone());
        Box::pin(async move {
            let method = request.method().clone();
            let mut response: Response = match service.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            let route = response.extensions().get::<Matched>().map_or("/ws", |matched| matched.0);
            services.metrics.count(&method, route, response.status());
            for (name, value) in SECURITY_HEADERS {
                response.headers_mut().insert(name, value);
            }
            response
        })
    })
}
