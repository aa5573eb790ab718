//! What comes in at the sockets, on its way to the media threads.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::{
    demux::{Demux, PeerKey, Remote},
    inbox::{Datagram, Inbox, Item},
};

/// Finds whose it is, and hands it to his thread.
#[derive(Clone, Debug)]
pub(super) struct Reception {
    demux: Arc<Demux>,
    /// Of each thread.
    inboxes: Arc<[Arc<Inbox>]>,
}

impl Reception {
    pub(super) fn new(demux: Arc<Demux>, inboxes: Vec<Arc<Inbox>>) -> Self {
        Self { demux, inboxes: inboxes.into() }
    }

    /// False if it is for nobody. One that finds no room is lost, as on the net.
    pub(super) fn take(&self, source: Remote, destination: SocketAddr, received: Instant, bytes: &[u8]) -> bool {
        let Some(peer) = self.demux.route(source, bytes) else { return false };
        self.push(peer, Item::Datagram(peer, Datagram { source, destination, received, bytes: bytes.to_vec() }));
        true
    }

    /// A TCP connection is no more.
    pub(super) fn hung_up(&self, remote: Remote) {
        if let Some(peer) = self.demux.at(remote) {
            self.push(peer, Item::HungUp(peer, remote));
        }
    }

    fn push(&self, peer: PeerKey, item: Item) {
        if let Some(inbox) = self.inboxes.get(peer.worker) {
            inbox.push(item);
        }
    }
}
