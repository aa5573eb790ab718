//! A media thread: some of the viewers, and all that is done for them.

use std::{
    collections::{HashMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use str0m::net::Transmit;

use super::{
    counters,
    demux::{Demux, PeerKey},
    inbox::{Datagram, Inbox, Item},
    peer::{Identity, Opening, Peer},
    sockets::Sockets,
    source::{Packet, Source, SourceKey},
};
use crate::media::MediaError;

/// The longest sleep; nothing needs more, and a deadline that was missed is met then.
const IDLE: Duration = Duration::from_secs(1);
/// Packets that are collected before they go to the kernel.
const COLLECT: usize = 256;

/// A media thread's own things.
#[derive(Debug)]
pub(super) struct Worker {
    inbox: Arc<Inbox>,
    demux: Arc<Demux>,
    sockets: Arc<Sockets>,
    identity: Identity,
    peers: HashMap<u64, Peer>,
    /// Who may be watching a track.
    viewers: HashMap<SourceKey, (Arc<Source>, Vec<u64>)>,
    transmits: Vec<Transmit>,
    /// Not later than the first peer's due time.
    due: Instant,
}

impl Worker {
    pub(super) fn new(inbox: Arc<Inbox>, demux: Arc<Demux>, sockets: Arc<Sockets>, identity: Identity) -> Self {
        Self {
            inbox,
            demux,
            sockets,
            identity,
            peers: HashMap::new(),
            viewers: HashMap::new(),
            transmits: Vec::new(),
            due: Instant::now(),
        }
    }

    /// Until the edge ends.
    pub(super) fn run(mut self) {
        let mut items = Vec::new();
        // Peers that were written to, and are to be drained when all of a batch is in.
        let mut written = HashSet::new();
        loop {
            self.inbox.take(&mut items, self.due);
            for item in items.drain(..) {
                match item {
                    Item::Open(opening) => self.open(*opening),
                    Item::Answer(key, sdp) => self.with(key.id, |peer| peer.answer(&sdp)),
                    Item::Close(key) => self.close(key.id),
                    Item::Datagram(key, datagram) => self.receive(key, &datagram),
                    Item::Packet(source, packet, rejoins) => self.write(source, &packet, rejoins, &mut written),
                    Item::Stop => return self.stop(),
                }
            }
            for id in written.drain() {
                self.look_after(id);
            }
            self.look_after_all_that_are_due();
            self.sockets.send(&mut self.transmits);
        }
    }

    fn open(&mut self, opening: Opening) {
        let key = opening.key;
        let peer = match Peer::open(opening, &self.identity) {
            Ok(mut peer) => {
                self.demux.add_user(peer.user(), key);
                peer
            }
            Err((told, error)) => return told.end(error),
        };
        for source in peer.sources() {
            let (_, viewers) = self.viewers.entry(source.key).or_insert_with(|| (source.clone(), Vec::new()));
            if !viewers.contains(&key.id) {
                viewers.push(key.id);
            }
        }
        self.peers.insert(key.id, peer);
        self.with(key.id, |_| Ok(()));
    }

    fn receive(&mut self, key: PeerKey, datagram: &Datagram) {
        let is_check = datagram.bytes.first().is_some_and(|first| *first < 4);
        let before = self.transmits.len();
        self.with(key.id, |peer| peer.receive(datagram));
        // str0m answers checks that have the password, and no others.
        let answered = self.transmits[before..].iter().any(|transmit| transmit.destination == datagram.source);
        if is_check
            && answered
            && let Some(peer) = self.peers.get_mut(&key.id)
            && !peer.addresses.contains(&datagram.source)
        {
            self.demux.add_address(datagram.source, key);
            if let Some(forgotten) = peer.seen_at(datagram.source) {
                self.demux.remove_address(forgotten, key);
            }
        }
    }

    fn write(&mut self, key: SourceKey, packet: &Packet, rejoins: bool, written: &mut HashSet<u64>) {
        let Some((source, viewers)) = self.viewers.get(&key) else { return };
        let now = Instant::now();
        let mut count = 0;
        for id in viewers {
            if self.peers.get_mut(id).is_some_and(|peer| peer.write(source, packet, rejoins, now)) {
                written.insert(*id);
                count += 1;
            }
        }
        counters::forwarded(count);
    }

    fn look_after(&mut self, id: u64) {
        let now = Instant::now();
        self.with(id, |peer| peer.tick(now));
        if self.transmits.len() >= COLLECT {
            self.sockets.send(&mut self.transmits);
        }
    }

    fn look_after_all_that_are_due(&mut self) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        let due: Vec<u64> = self.peers.iter().filter(|(_, peer)| peer.due <= now).map(|(id, _)| *id).collect();
        self.due = now + IDLE;
        for id in due {
            self.look_after(id);
        }
        self.due = self.peers.values().map(|peer| peer.due).fold(self.due, Instant::min);
    }

    /// Does something for a peer, and what follows from it. He alone ends by an error, and by a panic in
    /// his session, whose state nobody looks at again.
    fn with(&mut self, id: u64, act: impl FnOnce(&mut Peer) -> Result<(), MediaError>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let (inbox, transmits) = (&self.inbox, &mut self.transmits);
        let result = catch_unwind(AssertUnwindSafe(|| {
            act(peer)?;
            peer.drain(inbox, transmits)
        }));
        match result {
            Ok(Ok(())) => self.due = self.due.min(peer.due),
            Ok(Err(error)) => self.end(id, error),
            Err(_) => {
                let error = MediaError::Element { element: "viewer".into(), message: "its session panicked".into() };
                self.end(id, error);
            }
        }
    }

    fn end(&mut self, id: u64, error: MediaError) {
        if let Some(peer) = self.remove(id) {
            peer.told().end(error);
        }
    }

    fn close(&mut self, id: u64) {
        let Some(mut peer) = self.remove(id) else { return };
        let said = catch_unwind(AssertUnwindSafe(|| {
            peer.close(Instant::now());
            peer.drain(&self.inbox, &mut self.transmits)
        }));
        if said.is_err() {
            tracing::error!("a session panicked as it was closed");
        }
    }

    fn remove(&mut self, id: u64) -> Option<Peer> {
        let mut peer = self.peers.remove(&id)?;
        self.demux.remove_user(&peer.user());
        for address in &peer.addresses {
            self.demux.remove_address(*address, peer.key);
        }
        for source in peer.attached() {
            source.detach(&self.inbox);
        }
        for source in peer.sources() {
            if let Some((_, viewers)) = self.viewers.get_mut(&source.key) {
                viewers.retain(|viewer| *viewer != id);
            }
        }
        self.viewers.retain(|_, (_, viewers)| !viewers.is_empty());
        Some(peer)
    }

    /// The last of it: everybody is told.
    fn stop(mut self) {
        let ids: Vec<u64> = self.peers.keys().copied().collect();
        for id in ids {
            self.close(id);
        }
        self.sockets.send(&mut self.transmits);
    }
}
