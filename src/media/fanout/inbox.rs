//! What a media thread has to do: one queue, taken as a whole, bounded by kind.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{
    demux::{PeerKey, Remote},
    peer::Opening,
    source::{Packet, SourceKey},
};
use crate::{
    media::{IceCredentials, LayerChoice},
    room::id::TrackId,
};

/// Packets of tracks that may wait: of some hundred tracks, for a tenth of a second.
const MAX_PACKETS: usize = 4_096;
/// And of one track, so that a burst of it takes no room from others.
const MAX_PACKETS_OF_ONE: usize = 1_024;
/// Datagrams that may wait: a flood takes no room from media, and no more memory than this.
const MAX_DATAGRAMS: usize = 2_048;

/// One thing to do.
#[derive(Debug)]
pub(super) enum Item {
    /// A client comes.
    Open(Box<Opening>),
    /// His answer to our offer.
    Answer(PeerKey, String),
    /// He is to find other paths; if he offered the connection, with his new credentials.
    Restart(PeerKey, Option<IceCredentials>),
    /// Of that track he wants that layer.
    Layer(PeerKey, TrackId, LayerChoice),
    /// A publisher is to send a keyframe in the section of that index.
    Keyframe(PeerKey, usize),
    /// The room lets him go.
    Close(PeerKey),
    /// Somebody sent us something.
    Datagram(PeerKey, Datagram),
    /// His TCP connection is no more.
    HungUp(PeerKey, Remote),
    /// A track has a packet. True: packets before it found no room, and numbers go on behind the last
    /// one that did.
    Packet(SourceKey, Arc<Packet>, bool),
    /// The edge ends.
    Stop,
}

/// What came in at a socket: a datagram, or a frame of a TCP connection.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) source: Remote,
    /// The socket's address as clients know it.
    pub(super) destination: SocketAddr,
    pub(super) received: Instant,
    pub(super) bytes: Vec<u8>,
}

/// The queue. Commands find room always: a room limits how many it gives.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    items: Vec<Item>,
    packets: usize,
    packets_of: HashMap<SourceKey, usize>,
    datagrams: usize,
    /// The thread is not at work and must be woken.
    sleeps: bool,
}

impl Inbox {
    /// Never waits; false if it is a packet or datagram for which there is no room.
    pub(super) fn push(&self, item: Item) -> bool {
        let mut state = self.state();
        match item {
            Item::Packet(..) if state.packets >= MAX_PACKETS => return false,
            Item::Datagram(..) if state.datagrams >= MAX_DATAGRAMS => return false,
            Item::Packet(source, ..) => {
                let of_it = state.packets_of.entry(source).or_default();
                if *of_it >= MAX_PACKETS_OF_ONE {
                    return false;
                }
                *of_it += 1;
                state.packets += 1;
            }
            Item::Datagram(..) => state.datagrams += 1,
            _ => {}
        }
        state.items.push(item);
        if std::mem::take(&mut state.sleeps) {
            drop(state);
            self.filled.notify_one();
        }
        true
    }

    /// Swaps what there is into `items`, which is empty; waits for something until `deadline`.
    pub(super) fn take(&self, items: &mut Vec<Item>, deadline: Instant) {
        let mut state = self.state();
        while state.items.is_empty() {
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                break;
            };
            state.sleeps = true;
            state = self.filled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.sleeps = false;
        (state.packets, state.datagrams) = (0, 0);
        state.packets_of.clear();
        std::mem::swap(&mut state.items, items);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PEER: PeerKey = PeerKey { worker: 0, id: 0 };

    fn datagram() -> Item {
        let address = ([192, 0, 2, 1], 1).into();
        Item::Datagram(
            PEER,
            Datagram { source: Remote::udp(address), destination: address, received: Instant::now(), bytes: vec![] },
        )
    }

    #[test]
    fn a_flood_of_datagrams_is_bounded_and_commands_find_room() {
        let inbox = Inbox::default();
        let taken = std::iter::repeat_with(|| inbox.push(datagram())).take(MAX_DATAGRAMS + 5).filter(|taken| *taken);
        assert_eq!(taken.count(), MAX_DATAGRAMS);
        assert!(inbox.push(Item::Close(PEER)));
        let mut items = Vec::new();
        inbox.take(&mut items, Instant::now());
        assert_eq!(items.len(), MAX_DATAGRAMS + 1);
        assert!(inbox.push(datagram()), "there is room again");
    }

    #[test]
    fn who_waits_is_woken_or_comes_back_at_the_deadline() {
        let inbox = Arc::new(Inbox::default());
        let mut items = Vec::new();
        let began = Instant::now();
        inbox.take(&mut items, began + Duration::from_millis(20));
        assert!(items.is_empty() && began.elapsed() >= Duration::from_millis(20));
        let sender = inbox.clone();
        let thread = std::thread::spawn(move || sender.push(Item::Stop));
        inbox.take(&mut items, Instant::now() + Duration::from_secs(20));
        assert!(matches!(items[..], [Item::Stop]));
        assert!(thread.join().unwrap());
    }
}
