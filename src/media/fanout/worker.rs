//! A media thread: some of the clients, and all that is done for them.

use std::{
    collections::{HashMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use str0m::net::Transmit;

use super::{
    counters,
    demux::{Demux, PeerKey, Remote},
    inbox::{Datagram, Inbox, Item},
    pace::Pace,
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
    /// TCP connections that nobody needs when all is sent.
    hang_ups: Vec<Remote>,
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
            hang_ups: Vec::new(),
            due: Instant::now(),
        }
    }

    /// Until the edge ends.
    pub(super) fn run(mut self) {
        let mut items = Vec::new();
        // Peers that were written to, and are to be drained when all of a batch is in.
        let mut written = HashSet::new();
        let mut pace = Pace::default();
        loop {
            pace.wait();
            self.inbox.take(&mut items, self.due);
            pace.begin();
            for item in items.drain(..) {
                match item {
                    Item::Open(opening) => self.open(*opening),
                    Item::Answer(key, sdp) => {
                        self.with(key.id, |peer| peer.answer(&sdp));
                        self.note_user(key.id);
                    }
                    Item::Restart(key, theirs) => {
                        self.with(key.id, |peer| peer.restart_ice(theirs));
                        self.note_user(key.id);
                    }
                    Item::Layer(key, track, layer) => {
                        let inbox = self.inbox.clone();
                        self.with(key.id, |peer| peer.set_layer(&track, layer, &inbox));
                    }
                    Item::Keyframe(key, section) => {
                        let now = Instant::now();
                        self.with(key.id, |peer| peer.request_keyframe(section, now));
                    }
                    Item::Close(key) => self.close(key.id),
                    Item::Datagram(key, datagram) => self.receive(key, &datagram),
                    Item::HungUp(key, remote) => self.hung_up(key, remote),
                    Item::Packet(source, packet, rejoins) => self.write(source, &packet, rejoins, &mut written),
                    Item::Stop => return self.stop(),
                }
            }
            for id in written.drain() {
                self.look_after(id);
            }
            self.look_after_all_that_are_due();
            self.send();
        }
    }

    fn send(&mut self) {
        self.sockets.send(&mut self.transmits);
        self.sockets.hang_up(self.hang_ups.drain(..));
    }

    fn open(&mut self, opening: Opening) {
        let (key, told) = (opening.key, opening.told());
        let opened = catch_unwind(AssertUnwindSafe(|| Peer::open(opening, &self.identity)));
        let peer = match opened {
            Ok(Ok(peer)) => peer,
            Ok(Err((told, error))) => return told.end(error),
            Err(_) => return told.end(panicked()),
        };
        self.demux.add_user(peer.user().to_owned(), key);
        for source in peer.sources() {
            add_viewer(&mut self.viewers, source, key.id);
        }
        self.peers.insert(key.id, peer);
        self.with(key.id, |_| Ok(()));
    }

    fn receive(&mut self, key: PeerKey, datagram: &Datagram) {
        self.with(key.id, |peer| peer.receive(datagram));
    }

    fn hung_up(&mut self, key: PeerKey, remote: Remote) {
        if self.demux.remove_address(remote, key) {
            self.with(key.id, |peer| peer.hung_up(remote));
        }
    }

    /// After a restart of ICE his checks name another user.
    fn note_user(&mut self, id: u64) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if let Some(old) = peer.renamed() {
            self.demux.remove_user(&old);
            self.demux.add_user(peer.user().to_owned(), peer.key);
        }
    }

    /// str0m answers checks that have the password, and no others: whoever is answered is there.
    fn note_addresses(&mut self, id: u64, from: usize) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let now = Instant::now();
        for answer in self.transmits.iter().skip(from).filter(|it| it.contents.starts_with(&[1, 1])) {
            let address = Remote { protocol: answer.proto, address: answer.destination };
            // Somebody else may have been there before, or have claimed to be.
            if self.demux.at(address) != Some(peer.key) {
                self.demux.add_address(address, peer.key);
            }
            if let Some(forgotten) = peer.seen_at(address, now)
                && self.demux.remove_address(forgotten, peer.key)
            {
                self.hang_ups.push(forgotten);
            }
        }
    }

    fn write(&mut self, key: SourceKey, packet: &Packet, rejoins: bool, written: &mut HashSet<u64>) {
        let Some((source, viewers)) = self.viewers.get(&key) else { return };
        let now = Instant::now();
        let mut count = 0;
        let mut broken = Vec::new();
        for id in viewers {
            let Some(peer) = self.peers.get_mut(id) else { continue };
            match catch_unwind(AssertUnwindSafe(|| peer.write(source, packet, rejoins, now, &self.inbox))) {
                Ok(true) => {
                    written.insert(*id);
                    count += 1;
                }
                Ok(false) => {}
                Err(_) => broken.push(*id),
            }
        }
        counters::forwarded(count);
        broken.into_iter().for_each(|id| self.end(id, panicked()));
    }

    fn look_after(&mut self, id: u64) {
        let now = Instant::now();
        self.with(id, |peer| peer.tick(now));
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
        let before = self.transmits.len();
        let (inbox, transmits) = (&self.inbox, &mut self.transmits);
        let result = catch_unwind(AssertUnwindSafe(|| {
            act(peer)?;
            peer.drain(inbox, transmits)
        }));
        for source in peer.begun() {
            add_viewer(&mut self.viewers, &source, id);
        }
        match result {
            Ok(Ok(())) => self.due = self.due.min(peer.due),
            Ok(Err(error)) => self.end(id, error),
            Err(_) => self.end(id, panicked()),
        }
        self.note_addresses(id, before);
        if self.transmits.len() >= COLLECT {
            self.sockets.send(&mut self.transmits);
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
        let peer = self.peers.remove(&id)?;
        self.demux.remove_user(peer.user());
        for address in peer.addresses() {
            if self.demux.remove_address(address, peer.key) {
                self.hang_ups.push(address);
            }
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
        self.send();
    }
}

fn add_viewer(viewers: &mut HashMap<SourceKey, (Arc<Source>, Vec<u64>)>, source: &Arc<Source>, id: u64) {
    let (_, viewers) = viewers.entry(source.key).or_insert_with(|| (source.clone(), Vec::new()));
    if !viewers.contains(&id) {
        viewers.push(id);
    }
}

fn panicked() -> MediaError {
    MediaError::Element { element: "session".into(), message: "its session panicked".into() }
}
