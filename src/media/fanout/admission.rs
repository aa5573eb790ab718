//! What of the net a session reads: checks, handshakes and reports, of publishers media too, in bounds. str0m
//! remembers every address that a check came from, and every source of media, and sends again whatever a report
//! asks for.

use std::time::{Duration, Instant};

use super::demux::Remote;

/// Bytes of reports at once: some hundred bytes tell of all that was lost.
const MOST_REPORTS: f64 = 1_500.0;
/// And in a second, on a bad network.
const REPORTS_PER_SECOND: f64 = 6_000.0;
/// Addresses that checks may come from; further ones one a second.
const MOST_ADDRESSES: usize = 16;
const FURTHER_ADDRESS: Duration = Duration::from_secs(1);
/// Sources (SSRCs) of media: a browser has two for each section and layer, and new ones now and then. Further ones,
/// which anybody may invent, one a second.
const MOST_SOURCES: usize = 96;
const FURTHER_SOURCE: Duration = Duration::from_secs(1);

/// One session's bounds.
#[derive(Debug)]
pub(super) struct Admission {
    /// Bytes of reports that it may still read.
    reports: f64,
    counted: Instant,
    addresses: Vec<Remote>,
    newest: Instant,
    /// Of media, if it sends some.
    sources: Option<Sources>,
}

#[derive(Debug)]
struct Sources {
    known: Vec<Source>,
    newest: Instant,
}

#[derive(Debug)]
struct Source {
    ssrc: u32,
    /// When a packet of it was found to be his last, if one was.
    proven: Option<Instant>,
}

impl Admission {
    /// `publishes`: media may come.
    pub(super) fn new(now: Instant, publishes: bool) -> Self {
        let sources = publishes.then(|| Sources { known: Vec::new(), newest: now });
        Self { reports: MOST_REPORTS, counted: now, addresses: Vec::new(), newest: now, sources }
    }

    /// The session may read it. RFC 7983 §7 and RFC 5761 §4 tell what it is.
    pub(super) fn takes(&mut self, source: Remote, datagram: &[u8], now: Instant) -> bool {
        match datagram {
            [0, 1, ..] => self.takes_check(source, now),
            [0..=3 | 20..=63, ..] => true,
            [128..=191, 192..=223, ..] => self.takes_report(datagram.len(), now),
            [128..=191, ..] => self.takes_media(datagram, now),
            _ => false,
        }
    }

    /// A packet of that source was decrypted: it is his, and goes last when others come.
    pub(super) fn prove(&mut self, ssrc: u32, now: Instant) {
        let sources = self.sources.iter_mut().flat_map(|sources| &mut sources.known);
        if let Some(source) = sources.into_iter().find(|source| source.ssrc == ssrc) {
            source.proven = Some(now);
        }
    }

    fn takes_media(&mut self, datagram: &[u8], now: Instant) -> bool {
        // A viewer has none to send.
        let Some(Sources { known, newest }) = &mut self.sources else { return false };
        let Some(ssrc) = datagram.get(8..).and_then(|rest| rest.first_chunk()) else { return false };
        let ssrc = u32::from_be_bytes(*ssrc);
        if known.iter().any(|source| source.ssrc == ssrc) {
            return true;
        }
        if known.len() >= MOST_SOURCES {
            if now.saturating_duration_since(*newest) < FURTHER_SOURCE {
                return false;
            }
            // The oldest that was never proven, or else the one that was not for the longest time.
            if let Some((oldest, _)) = known.iter().enumerate().min_by_key(|(_, source)| source.proven) {
                known.remove(oldest);
            }
        }
        *newest = now;
        known.push(Source { ssrc, proven: None });
        true
    }

    fn takes_check(&mut self, source: Remote, now: Instant) -> bool {
        if self.addresses.contains(&source) {
            return true;
        }
        if self.addresses.len() >= MOST_ADDRESSES {
            if now.saturating_duration_since(self.newest) < FURTHER_ADDRESS {
                return false;
            }
            self.addresses.remove(0);
        }
        self.newest = now;
        self.addresses.push(source);
        true
    }

    fn takes_report(&mut self, bytes: usize, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.counted).as_secs_f64();
        self.counted = self.counted.max(now);
        self.reports = (self.reports + elapsed * REPORTS_PER_SECOND).min(MOST_REPORTS);
        let bytes = bytes as f64;
        if bytes > self.reports {
            return false;
        }
        self.reports -= bytes;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Remote {
        Remote::udp(([192, 0, 2, 1], port).into())
    }

    #[test]
    fn reports_are_read_at_a_bounded_rate_and_media_never() {
        let start = Instant::now();
        let mut admission = Admission::new(start, false);
        let report = |length: usize| [&[0x81, 201][..], &vec![0; length - 2]].concat();
        assert!(admission.takes(address(1), &report(1_400), start));
        assert!(!admission.takes(address(1), &report(200), start), "the bucket is empty");
        let later = start + Duration::from_millis(100);
        assert!(admission.takes(address(1), &report(600), later));
        assert!(!admission.takes(address(1), &report(200), later));
        assert!(!admission.takes(address(1), &report(1_501), start + Duration::from_secs(60)), "never so large");
        assert!(!admission.takes(address(1), &[0x80, 96, 0, 1], start));
        assert!(admission.takes(address(1), &[22, 254, 253], start));
    }

    #[test]
    fn a_publishers_media_is_of_few_sources() {
        let start = Instant::now();
        let mut admission = Admission::new(start, true);
        let media = |source: u32| [&[0x80, 96, 0, 1, 0, 0, 0, 0][..], &source.to_be_bytes(), &[7]].concat();
        let taken = (0..200).filter(|source| admission.takes(address(1), &media(*source), start)).count();
        assert_eq!(taken, MOST_SOURCES);
        assert!(admission.takes(address(1), &media(0), start), "one that is known");
        assert!(!admission.takes(address(1), &[0x80, 96, 0, 1], start), "cut off");
    }

    #[test]
    fn invented_sources_do_not_keep_his_out() {
        let start = Instant::now();
        let mut admission = Admission::new(start, true);
        let mut takes = |source: u32, now: Instant, is_his: bool| {
            let media = [&[0x80, 96, 0, 1, 0, 0, 0, 0][..], &source.to_be_bytes(), &[7]].concat();
            let taken = admission.takes(address(1), &media, now);
            if taken && is_his {
                admission.prove(source, now);
            }
            taken
        };
        assert!(takes(7, start, true));
        assert!((1_000..1_200).filter(|source| takes(*source, start, false)).count() < 100);
        assert!(!takes(8, start, true), "there are too many at the moment");
        let mut now = start;
        for invented in 2_000..2_200 {
            now += FURTHER_SOURCE;
            assert!(takes(invented, now, false));
        }
        assert!(takes(8, now + FURTHER_SOURCE, true), "a new one of his");
        assert!(takes(7, now + FURTHER_SOURCE, true), "he never left");
        assert_eq!(admission.sources.unwrap().known.len(), MOST_SOURCES);
    }

    #[test]
    fn checks_come_from_few_addresses() {
        let start = Instant::now();
        let mut admission = Admission::new(start, false);
        let taken = (0..100).filter(|port| admission.takes(address(*port), &[0, 1, 0, 0], start)).count();
        assert_eq!(taken, MOST_ADDRESSES);
        assert!(admission.takes(address(15), &[0, 1, 0, 0], start), "one that is known");
        let later = start + FURTHER_ADDRESS;
        let taken = (200..300).filter(|port| admission.takes(address(*port), &[0, 1, 0, 0], later)).count();
        assert_eq!(taken, 1);
    }
}
