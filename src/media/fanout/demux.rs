//! Whose datagram it is, when all viewers share one port.
//!
//! A STUN request names our user name for its session (RFC 8445 §7.2.2), which only that client was
//! told. Everything else, answers to our own requests too, goes by the sender's address, which is known
//! once a request from there had the session's password: str0m answers no other, and we send requests
//! nowhere else. What nobody is known for is dropped, unread.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{PoisonError, RwLock},
};

use str0m::{ice::StunMessage, net::Protocol};

/// Where a client is. What has the same address and port over UDP and over TCP need not be the same client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Remote {
    pub(super) protocol: Protocol,
    pub(super) address: SocketAddr,
}

impl Remote {
    /// Over UDP.
    pub fn udp(address: SocketAddr) -> Self {
        Self { protocol: Protocol::Udp, address }
    }

    /// At the other end of a TCP connection.
    pub fn tcp(address: SocketAddr) -> Self {
        Self { protocol: Protocol::Tcp, address }
    }
}

/// A viewer: which media thread he is on, and his number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerKey {
    /// The thread's index.
    pub worker: usize,
    /// Unique in the process.
    pub id: u64,
}

/// The table. Read for each datagram, written as viewers come, move and go.
#[derive(Debug, Default)]
pub struct Demux {
    users: RwLock<HashMap<String, PeerKey>>,
    addresses: RwLock<HashMap<Remote, PeerKey>>,
}

impl Demux {
    /// To whom the datagram (or frame) goes, if to anybody. For bytes from anyone on the net.
    pub fn route(&self, source: Remote, datagram: &[u8]) -> Option<PeerKey> {
        match datagram.first()? {
            // RFC 7983 §7: STUN, DTLS, RTP and RTCP.
            0..=3 => {
                let message = StunMessage::parse(datagram).ok()?;
                if !message.is_binding_request() {
                    return self.at(source);
                }
                let (ours, _) = message.split_username()?;
                self.users.read().unwrap_or_else(PoisonError::into_inner).get(ours).copied()
            }
            20..=63 | 128..=191 => self.at(source),
            _ => None,
        }
    }

    /// Who is at that address.
    pub fn at(&self, address: Remote) -> Option<PeerKey> {
        self.addresses.read().unwrap_or_else(PoisonError::into_inner).get(&address).copied()
    }

    /// A session begins, under our ICE user name for it.
    pub fn add_user(&self, user: String, peer: PeerKey) {
        self.users.write().unwrap_or_else(PoisonError::into_inner).insert(user, peer);
    }

    /// A session ends.
    pub fn remove_user(&self, user: &str) {
        self.users.write().unwrap_or_else(PoisonError::into_inner).remove(user);
    }

    /// The client at `address` has shown that he is this one.
    pub fn add_address(&self, address: Remote, peer: PeerKey) {
        self.addresses.write().unwrap_or_else(PoisonError::into_inner).insert(address, peer);
    }

    /// He is there no more. Does nothing, and gives false, if somebody else has come to that address meanwhile.
    pub fn remove_address(&self, address: Remote, peer: PeerKey) -> bool {
        let mut addresses = self.addresses.write().unwrap_or_else(PoisonError::into_inner);
        let is_his = addresses.get(&address) == Some(&peer);
        if is_his {
            addresses.remove(&address);
        }
        is_his
    }

    /// How many entries it has, of users and of addresses.
    pub fn len(&self) -> (usize, usize) {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner).len();
        (users, self.addresses.read().unwrap_or_else(PoisonError::into_inner).len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANN: PeerKey = PeerKey { worker: 0, id: 1 };
    const BOB: PeerKey = PeerKey { worker: 1, id: 2 };

    fn address(port: u16) -> Remote {
        Remote::udp(([192, 0, 2, 1], port).into())
    }

    /// A binding request with a user name, a priority, and an integrity that nobody checks here.
    fn request(user: &str) -> Vec<u8> {
        let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
        message.extend([7; 12]);
        message.extend([0, 6]);
        message.extend((user.len() as u16).to_be_bytes());
        message.extend(user.as_bytes());
        message.resize(message.len().next_multiple_of(4), 0);
        message.extend([0, 0x24, 0, 4, 0, 0, 0, 1]);
        message.extend([0, 8, 0, 20]);
        message.extend([0; 20]);
        let length = (message.len() - 20) as u16;
        message[2..4].copy_from_slice(&length.to_be_bytes());
        message
    }

    #[test]
    fn stun_goes_by_user_name_and_all_else_by_address() {
        let demux = Demux::default();
        demux.add_user("ann".into(), ANN);
        demux.add_user("bob".into(), BOB);
        demux.add_address(address(1), ANN);
        assert_eq!(demux.route(address(9), &request("ann:x")), Some(ANN), "he may move");
        assert_eq!(demux.route(address(1), &request("bob:x")), Some(BOB), "or somebody else be there now");
        assert_eq!(demux.route(address(1), &request("eve:x")), None);
        assert_eq!(demux.route(address(1), &request("ann")), None, "not of one session");
        assert_eq!(demux.route(Remote::tcp(address(1).address), &[22, 0]), None, "over TCP that may be anybody");
        for first in [22, 128, 191] {
            assert_eq!(demux.route(address(1), &[first, 200, 0, 1]), Some(ANN), "{first}");
            assert_eq!(demux.route(address(2), &[first, 200, 0, 1]), None, "{first}");
        }
        for junk in [&[][..], &[0], &[4; 40], &[100; 40], &[255; 1500]] {
            assert_eq!(demux.route(address(1), junk), None);
        }
    }

    proptest! {
        #[test]
        fn nothing_goes_to_somebody_it_is_not_for(
            start in proptest::collection::vec(any::<u8>(), 0..32),
            user in "[a-z]{1,4}:[a-z]{0,4}",
            cut in 0..80usize,
        ) {
            let demux = Demux::default();
            demux.add_user("ann".into(), ANN);
            demux.add_address(address(1), BOB);
            let mut changed = request(&user);
            changed.truncate(cut);
            for datagram in [start, request(&user), changed] {
                prop_assert!(matches!(demux.route(address(2), &datagram), None | Some(ANN)));
            }
        }
    }

    #[test]
    fn an_address_that_somebody_else_took_is_his() {
        let demux = Demux::default();
        demux.add_address(address(1), ANN);
        demux.add_address(address(1), BOB);
        demux.remove_address(address(1), ANN);
        assert_eq!(demux.route(address(1), &[22]), Some(BOB));
        demux.remove_address(address(1), BOB);
        assert_eq!(demux.len(), (0, 0));
    }
}
