//! Streams over HTTP: whatever is at an address as it comes, or the segments of an HLS playlist one after
//! the other.
//!
//! It is ours, and not `souphttpsrc` with `hlsdemux`, because those resolve, redirect and fetch playlists,
//! keys and segments by themselves: here every dial is checked (ADR 8).

mod get;
mod playlist;

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use url::Url;

use self::{
    get::{Answer, Getter},
    playlist::{MAX_BYTES, Playlist, Segment, Segments, best},
};
use super::rtsp::{RtspError, Source};

/// Live playlists are begun so many segments before their end (RFC 8216 §6.3.3).
const FROM_END: usize = 3;
/// A playlist that has not changed for so many of its segments is stalled.
const PATIENCE: u32 = 4;

/// A stream over HTTP.
pub struct Web {
    kind: String,
    from: From,
}

enum From {
    /// As it comes; with what was looked at already.
    Body(Option<Bytes>, Answer),
    Hls(Box<Hls>),
}

impl Web {
    /// Asks, and looks what it is.
    ///
    /// # Errors
    /// As [`RtspError`] says.
    pub async fn open(source: &Source) -> Result<Self, RtspError> {
        let address = source.uri.at(source.uri.target());
        let url = Url::parse(&address).map_err(|error| RtspError::Protocol(error.to_string()))?;
        let mut getter = Getter::new(source);
        let mut answer = getter.get(&url).await?;
        let first = answer.next().await?;
        let kind = answer.kind.clone();
        let is_playlist = kind.contains("mpegurl") || first.as_ref().is_some_and(|bytes| bytes.starts_with(b"#EXTM3U"));
        if !is_playlist {
            return Ok(Self { kind, from: From::Body(first, answer) });
        }
        let (url, rest) = (answer.url.clone(), answer.all(MAX_BYTES).await?);
        let text = [first.unwrap_or_default(), rest].concat();
        let hls = Hls::open(getter, url, &text).await?;
        Ok(Self { kind: String::new(), from: From::Hls(Box::new(hls)) })
    }

    /// What its answer said it is, in lower case; empty if its segments have to tell.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The next bytes; `None`: it is over.
    ///
    /// # Errors
    /// As [`RtspError`] says.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RtspError> {
        match &mut self.from {
            From::Body(first, answer) => match first.take() {
                Some(bytes) => Ok(Some(bytes)),
                None => answer.next().await,
            },
            From::Hls(hls) => hls.next().await,
        }
    }
}

/// A playlist that is followed.
struct Hls {
    getter: Getter,
    url: Url,
    target: Duration,
    ended: bool,
    /// The number of the next segment that was not queued.
    expected: u64,
    queue: VecDeque<Segment>,
    /// The map that was sent last.
    map: Option<String>,
    answer: Option<Answer>,
    looked: Instant,
    changed: Instant,
}

impl Hls {
    async fn open(mut getter: Getter, url: Url, text: &[u8]) -> Result<Self, RtspError> {
        let (url, segments) = match read(text)? {
            Playlist::Segments(segments) => (url, segments),
            Playlist::Variants(variants) => {
                let address = best(&variants).map(|variant| variant.address.as_str()).unwrap_or_default();
                let answer = getter.get(&join(&url, address)?).await?;
                let url = answer.url.clone();
                match read(&answer.all(MAX_BYTES).await?)? {
                    Playlist::Segments(segments) => (url, segments),
                    Playlist::Variants(_) => return Err(RtspError::Protocol("variants of variants".into())),
                }
            }
        };
        let from = if segments.ended { 0 } else { segments.segments.len().saturating_sub(FROM_END) };
        let now = Instant::now();
        let mut hls = Self {
            getter,
            url,
            target: Duration::ZERO,
            ended: false,
            expected: segments.first.saturating_add(from as u64),
            queue: VecDeque::new(),
            map: None,
            answer: None,
            looked: now,
            changed: now,
        };
        hls.take(segments);
        Ok(hls)
    }

    /// Queues what is new. A playlist that counts from anew is a new stream.
    fn take(&mut self, list: Segments) {
        let count = list.segments.len() as u64;
        let behind = list.first.saturating_add(count);
        if behind < self.expected {
            self.expected = behind.saturating_sub(FROM_END as u64);
        }
        let skipped = usize::try_from(self.expected.saturating_sub(list.first)).unwrap_or(usize::MAX);
        let before = self.queue.len();
        self.queue.extend(list.segments.into_iter().skip(skipped));
        if self.queue.len() > before {
            self.changed = Instant::now();
        }
        self.expected = behind;
        (self.target, self.ended) = (list.target.max(Duration::from_secs(1)), list.ended);
    }

    async fn next(&mut self) -> Result<Option<Bytes>, RtspError> {
        loop {
            if let Some(answer) = &mut self.answer {
                match answer.next().await? {
                    Some(bytes) => return Ok(Some(bytes)),
                    None => self.answer = None,
                }
            }
            if let Some(segment) = self.queue.front().cloned() {
                let address = match &segment.map {
                    Some(map) if self.map.as_ref() != Some(map) => {
                        self.map = Some(map.clone());
                        map.clone()
                    }
                    _ => {
                        self.queue.pop_front();
                        segment.address
                    }
                };
                self.answer = Some(self.getter.get(&join(&self.url, &address)?).await?);
            } else if self.ended {
                return Ok(None);
            } else {
                self.look().await?;
            }
        }
    }

    /// Waits until the playlist should have changed, and reads it again.
    async fn look(&mut self) -> Result<(), RtspError> {
        let patience = self.target * PATIENCE;
        if self.changed.elapsed() > patience {
            return Err(RtspError::Stalled(patience));
        }
        sleep_until(self.looked + self.target / 2).await;
        self.looked = Instant::now();
        let answer = self.getter.get(&self.url.clone()).await?;
        match read(&answer.all(MAX_BYTES).await?)? {
            Playlist::Segments(segments) => self.take(segments),
            Playlist::Variants(_) => return Err(RtspError::Protocol("variants of variants".into())),
        }
        Ok(())
    }
}

fn read(text: &[u8]) -> Result<Playlist, RtspError> {
    let text = std::str::from_utf8(text).map_err(|_| RtspError::Protocol("a playlist that is not text".into()))?;
    Playlist::parse(text).map_err(RtspError::Protocol)
}

fn join(base: &Url, address: &str) -> Result<Url, RtspError> {
    base.join(address).map_err(|error| RtspError::Protocol(format!("an address in a playlist: {error}")))
}
