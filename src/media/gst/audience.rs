//! Who reads one stream of a track: viewers on the fan-out edge, and subscribers with a pipeline.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use arc_swap::ArcSwap;

use super::feed::{Fed, Feed, Packet};
use crate::media::fanout::Source;

/// The readers of one stream; they come and go while packets are given out.
#[derive(Debug)]
pub(super) struct Audience {
    /// For viewers on the fan-out edge.
    pub(super) source: Arc<Source>,
    feeds: ArcSwap<Vec<Arc<Feed>>>,
    /// Taken to change `feeds`, never to read it.
    change: Mutex<()>,
}

impl Audience {
    /// Nobody yet.
    pub(super) fn new(source: Arc<Source>) -> Self {
        Self { source, feeds: ArcSwap::default(), change: Mutex::new(()) }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.feeds.load().len() + self.source.viewers()
    }

    /// Gives them a packet; true if one of them needs a keyframe. `captured`: when, for the fan-out edge.
    pub(super) fn give(&self, packet: &Packet, captured: impl FnOnce() -> Instant) -> bool {
        if self.source.is_watched()
            && let Ok(bytes) = packet.buffer.map_readable()
        {
            self.source.forward(&bytes, captured(), packet.starts_keyframe);
        }
        self.feeds.load().iter().fold(false, |wants, feed| wants | (feed.push(packet) == Fed::WantsKeyframe))
    }

    pub(super) fn add(&self, feed: Arc<Feed>) {
        self.change_feeds(|feeds| feeds.push(feed));
    }

    /// True if it was there.
    pub(super) fn remove(&self, feed: &Arc<Feed>) -> bool {
        let mut removed = false;
        self.change_feeds(|feeds| {
            let before = feeds.len();
            feeds.retain(|known| !Arc::ptr_eq(known, feed));
            removed = feeds.len() < before;
        });
        removed
    }

    /// The list is copied, not locked: the publisher's thread reads it for every packet.
    fn change_feeds(&self, change: impl FnOnce(&mut Vec<Arc<Feed>>)) {
        let _one_at_a_time = self.change.lock().expect("nothing panics under this lock");
        let mut feeds = Vec::clone(&self.feeds.load());
        change(&mut feeds);
        self.feeds.store(Arc::new(feeds));
    }
}
