//! One accepted connection, as a byte stream with a seat and a clock.
//!
//! The seat counts it as long as it lives, upgraded to a WebSocket or not. The clock ends it when no
//! byte went either way for too long: a client that stops sending in mid-request, or stops reading
//! in mid-answer, would otherwise stay for ever.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};

/// How many connections there may be.
#[derive(Debug)]
pub struct Seats {
    all: Arc<Semaphore>,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    per_address: usize,
}

/// One connection's place; free again when dropped.
#[derive(Debug)]
pub struct Seat {
    address: IpAddr,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _permit: OwnedSemaphorePermit,
}

impl Seats {
    /// `all` seats, of which one address has at most `per_address`.
    pub fn new(all: usize, per_address: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), by_address: Arc::default(), per_address }
    }

    /// Waits until there is a seat at all.
    pub async fn free(&self) -> OwnedSemaphorePermit {
        self.all.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Takes a seat for somebody at `address`; `None` if there is none, or that address has its share.
    pub fn try_take(&self, address: IpAddr) -> Option<Seat> {
        let permit = self.all.clone().try_acquire_owned().ok()?;
        self.take(permit, address)
    }

    /// Takes the seat for somebody at `address`; `None` if that address has its share.
    pub fn take(&self, permit: OwnedSemaphorePermit, address: IpAddr) -> Option<Seat> {
        let mut counts = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= self.per_address {
            return None;
        }
        *count += 1;
        Some(Seat { address, by_address: self.by_address.clone(), _permit: permit })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// A byte stream that fails once it was silent for too long.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    limit: Duration,
    last: Instant,
    alarm: Pin<Box<Sleep>>,
    _seat: Seat,
}

impl<S> Watched<S> {
    /// Watches `stream` for as long as it lives.
    pub fn new(stream: S, limit: Duration, seat: Seat) -> Self {
        let last = Instant::now();
        Self { stream, limit, last, alarm: Box::pin(tokio::time::sleep_until(last + limit)), _seat: seat }
    }

    /// The alarm is set again only when it rings: a busy stream costs no timer.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            ready!(self.alarm.as_mut().poll(context));
            let due = self.last + self.limit;
            if due <= Instant::now() {
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the connection was silent too long"));
            }
            self.alarm.as_mut().reset(due);
        }
    }

    fn watch<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Ready(result) => {
                self.last = Instant::now();
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_silence(context).map(Err),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buf);
        self.watch(context, polled)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, buf);
        self.watch(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, bufs);
        self.watch(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        // An empty flush is no sign of life of the other side.
        match polled {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.poll_silence(context).map(Err),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
