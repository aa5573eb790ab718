//! Guests by where they come from: what one address may do at doors that are open to all.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use tokio::time::Instant;

use super::{bucket::TokenBucket, error::CreateError};

/// Rooms that one address makes at once; a school has as many behind one.
const ROOMS_AT_ONCE: usize = 60;
/// And in the long run.
const ROOMS_PER_SECOND: usize = 1;
/// Addresses that are remembered; beyond, the one that was longest silent is forgotten.
const MOST_ADDRESSES: usize = 4_096;

/// Where somebody comes from, as far as one person has one: an IPv4 address, or the /64 network of an
/// IPv6 address (RFC 6177: an end site has at least that). Behind a proxy all have the proxy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(IpAddr);

impl Default for Address {
    /// Not known; all who are not known share it.
    fn default() -> Self {
        Self(Ipv4Addr::UNSPECIFIED.into())
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        address.0
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
            address => address,
        })
    }
}

/// How often each address does something.
pub struct Rates {
    at_once: usize,
    per_second: usize,
    buckets: BTreeMap<Address, TokenBucket>,
    /// The same addresses, the longest silent first.
    order: VecDeque<Address>,
}

impl Rates {
    /// Each address may do it `at_once` times, and in the long run `per_second`.
    pub fn new(at_once: usize, per_second: usize) -> Self {
        Self { at_once, per_second, buckets: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Whether `address` may do it now; then it has done it.
    pub fn take(&mut self, address: Address, now: Instant) -> bool {
        self.order.retain(|known| *known != address);
        if self.order.len() == MOST_ADDRESSES
            && let Some(oldest) = self.order.pop_front()
        {
            self.buckets.remove(&oldest);
        }
        self.order.push_back(address);
        let fresh = || TokenBucket::full(self.at_once, self.per_second, now);
        self.buckets.entry(address).or_insert_with(fresh).take(1, now)
    }
}

/// How fast each address makes rooms.
pub(super) struct Guests(Rates);

impl Default for Guests {
    fn default() -> Self {
        Self(Rates::new(ROOMS_AT_ONCE, ROOMS_PER_SECOND))
    }
}

impl Guests {
    /// A room is about to be made for somebody from `address`.
    pub(super) fn note(&mut self, address: Address, now: Instant) -> Result<(), CreateError> {
        if self.0.take(address, now) {
            return Ok(());
        }
        Err(CreateError::TooFast { wait_s: 1_u64.div_ceil(ROOMS_PER_SECOND as u64) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn one_site_is_one_address() {
        assert_eq!(address("2001:db8:1:2:3::4"), address("2001:db8:1:2::9"));
        assert_ne!(address("2001:db8:1:2::4"), address("2001:db8:1:3::4"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
    }

    #[test]
    fn one_address_does_not_use_up_the_rooms_of_others() {
        let (mut guests, now) = (Guests::default(), Instant::now());
        let made =
            |guests: &mut Guests, from: &str, now| (0..100).filter(|_| guests.note(address(from), now).is_ok()).count();
        assert_eq!(made(&mut guests, "192.0.2.1", now), 60);
        assert_eq!(made(&mut guests, "192.0.2.2", now), 60);
        assert_eq!(guests.note(address("192.0.2.1"), now), Err(CreateError::TooFast { wait_s: 1 }));
        assert_eq!(made(&mut guests, "192.0.2.1", now + Duration::from_secs(3)), 3);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut guests, now) = (Guests::default(), Instant::now());
        for number in 0..5_000_u32 {
            guests.note(IpAddr::from(Ipv4Addr::from_bits(number)).into(), now).unwrap();
        }
        assert_eq!((guests.0.buckets.len(), guests.0.order.len()), (MOST_ADDRESSES, MOST_ADDRESSES));
    }
}
