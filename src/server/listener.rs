//! The accept loop: TCP, TLS if there is a certificate, HTTP/1.1 or HTTP/2, and their time-outs.
//!
//! warp 0.4 has no TLS and keeps its accept trait private, so connections are accepted here and each
//! request is handed to warp as a service. What warp cannot know travels as the request's extension
//! [`Peer`].

use std::{convert::Infallible, future::Future, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use warp::{
    http::{HeaderValue, Request, header},
    hyper::{body::Incoming, server::conn, service::service_fn},
    reply::Response,
};

use super::{
    Limits,
    auth::Peer,
    connection::{Seat, Seats, Watched},
};

/// Connections the system holds while we are busy.
const BACKLOG: i32 = 1_024;
/// After "too many open files" and the like, accepting pauses this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Answers one request.
pub type Handler = Arc<dyn Fn(Request<Incoming>) -> Pin<Box<dyn Future<Output = Response> + Send>> + Send + Sync>;

/// A bound address.
pub struct Listener {
    socket: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Listener {
    /// Binds `address`; with `tls` it speaks HTTPS.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(address: SocketAddr, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            // So that 0.0.0.0 and [::] can be bound beside each other.
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self { socket: TcpListener::from_std(socket.into())?, tls })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The next connection, of a server that is not HTTP's.
    ///
    /// # Errors
    /// What the system says.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.socket.accept().await
    }

    /// Where it listens, as the beginning of an address that a browser takes.
    ///
    /// # Errors
    /// What the system says.
    pub fn url(&self) -> io::Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.address()?))
    }
}

/// What all listeners of a server share.
#[derive(Clone)]
pub struct Acceptor {
    /// Answers requests.
    pub handler: Handler,
    /// Time-outs.
    pub limits: Limits,
    /// Room for connections.
    pub seats: Arc<Seats>,
    /// Cancelled: no new connections, and those that stand finish what they do.
    pub stop: CancellationToken,
    /// Cancelled: connections are dropped.
    pub abort: CancellationToken,
    /// All tasks.
    pub tasks: TaskTracker,
}

impl Acceptor {
    /// Accepts connections until `stop`.
    pub async fn run(self, listener: Listener) {
        loop {
            let permit = tokio::select! {
                permit = self.seats.free() => permit,
                () = self.stop.cancelled() => return,
            };
            let accepted = tokio::select! {
                accepted = listener.socket.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, address)) => match self.seats.take(permit, address.ip()) {
                    Some(seat) => {
                        drop(self.tasks.spawn(self.clone().serve(stream, address, seat, listener.tls.clone())))
                    }
                    None => tracing::debug!(peer = %address, "refused: too many connections of one address"),
                },
                // A client that went away between SYN and accept is no reason to pause.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::error!("failed to accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(self, stream: TcpStream, address: SocketAddr, seat: Seat, tls: Option<TlsAcceptor>) {
        // Frames of signalling are small and each is waited for.
        let _ = stream.set_nodelay(true);
        let stream = Watched::new(stream, self.limits.idle, seat);
        let abort = self.abort.clone();
        let served = async {
            match tls {
                None => self.http1(stream, Peer { address, secure: false }).await,
                Some(tls) => self.https(stream, address, tls).await,
            }
        };
        tokio::select! {
            () = served => {}
            () = abort.cancelled() => {}
        }
    }

    async fn https(&self, stream: Watched<TcpStream>, address: SocketAddr, tls: TlsAcceptor) {
        let peer = Peer { address, secure: true };
        match tokio::time::timeout(self.limits.tls_handshake, tls.accept(stream)).await {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => self.http2(stream, peer).await,
            Ok(Ok(stream)) => self.http1(stream, peer).await,
            Ok(Err(error)) => tracing::debug!(peer = %address, "TLS failed: {error}"),
            Err(_) => tracing::debug!(peer = %address, "TLS took too long"),
        }
    }

    async fn http1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, stream: S, peer: Peer) {
        let mut builder = conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.limits.header_read).max_buf_size(64 * 1024);
        let handler = self.handler.clone();
        let service = service_fn(move |request| answer(handler.clone(), request, peer));
        let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        report(peer, result);
    }

    async fn http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, stream: S, peer: Peer) {
        let mut builder = conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(100)
            .max_header_list_size(16 * 1024)
            .keep_alive_interval(self.limits.http2_ping)
            .keep_alive_timeout(self.limits.header_read);
        let handler = self.handler.clone();
        let service = service_fn(move |request| answer(handler.clone(), request, peer));
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        report(peer, result);
    }
}

async fn answer(handler: Handler, mut request: Request<Incoming>, peer: Peer) -> Result<Response, Infallible> {
    request.extensions_mut().insert(peer);
    // HTTP/2 carries the host in the request line; everybody behind us reads the header.
    if !request.headers().contains_key(header::HOST)
        && let Some(host) = request.uri().authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok())
    {
        request.headers_mut().insert(header::HOST, host);
    }
    Ok(handler(request).await)
}

fn report(peer: Peer, result: Result<(), warp::hyper::Error>) {
    if let Err(error) = result {
        tracing::debug!(peer = %peer.address, "connection ended: {error}");
    }
}
