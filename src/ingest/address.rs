//! Which addresses the server may dial for somebody: public ones, and those of the allow-list.
//!
//! Whoever may add a camera names an address, and the server goes there. Without a policy that would
//! be a way into its network and to the cloud's metadata service. A name is resolved here, every
//! address of it is looked at, and the one that was looked at is the one that is dialled: nothing
//! resolves a second time.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use url::Host;

/// A name must be resolved by then.
const RESOLVE_LIMIT: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const MOST_ADDRESSES: usize = 8;

/// Hosts and networks that may be dialled though they are not public.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    entries: Vec<Entry>,
    /// Files below it may be fetched too.
    folder: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// A name, whatever it resolves to; in lower case, without a dot at its end.
    Name(String),
    /// A network: its first address and how many bits are fixed.
    Network(IpAddr, u8),
}

/// What an address is, if it is not public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// This machine.
    Loopback,
    /// RFC 1918 and RFC 4193 networks, and those shared by a provider's customers (RFC 6598).
    Private,
    /// RFC 3927 and RFC 4291 §2.5.6; clouds put their metadata services here.
    LinkLocal,
    /// No address, or that of many.
    NotOne,
    /// Set apart for protocols, documentation, tests, or the future.
    Reserved,
    /// IPv6 that carries an IPv4 address which is not public, or hides where it leads.
    Embedded,
}

/// Why a host cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DialError {
    /// The policy forbids it.
    #[error("{host} is {address}, {kind}, and not allowed; to allow it: {line}")]
    Refused {
        /// As it was named.
        host: String,
        /// What it resolves to.
        address: IpAddr,
        /// What that is.
        kind: AddressKind,
        /// The setting that would permit it.
        line: String,
    },
    /// There is no such file in the folder, or no folder.
    #[error("{file} cannot be read: {reason}")]
    File {
        /// As it was named.
        file: String,
        /// Why not.
        reason: String,
    },
    /// The name has no address.
    #[error("the name {host} could not be resolved")]
    Unresolved {
        /// Which name.
        host: String,
    },
    /// Nobody took the connection.
    #[error("{address} did not take the connection: {reason}")]
    Unreachable {
        /// Who.
        address: SocketAddr,
        /// What the system says.
        reason: String,
    },
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "this machine",
            Self::Private => "a private address",
            Self::LinkLocal => "a link-local address",
            Self::NotOne => "not the address of one host",
            Self::Reserved => "a reserved address",
            Self::Embedded => "an address that leads to one that is not public",
        })
    }
}

impl AllowList {
    /// Whether `address` may be dialled when `host` was asked for.
    ///
    /// # Errors
    /// [`DialError::Refused`].
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), DialError> {
        let Some(kind) = kind(address) else { return Ok(()) };
        let (name, address) = (normalised(host), address.to_canonical());
        let allowed = self.entries.iter().any(|entry| match entry {
            Entry::Name(known) => *known == name,
            Entry::Network(network, bits) => contains(*network, *bits, address),
        });
        if allowed {
            return Ok(());
        }
        let line = self.line_with(name.trim_matches(['[', ']']));
        Err(DialError::Refused { host: host.to_owned(), address, kind, line })
    }

    /// The same, and files of that folder.
    pub fn with_folder(self, folder: Option<PathBuf>) -> Self {
        Self { folder, ..self }
    }

    /// Where a file of the folder is, links followed.
    ///
    /// # Errors
    /// [`DialError::File`] if there is no folder, or no such file below it.
    pub fn file(&self, named: &str) -> Result<PathBuf, DialError> {
        let refused = |reason: &str| DialError::File { file: named.to_owned(), reason: reason.to_owned() };
        let folder = self
            .folder
            .as_ref()
            .ok_or_else(|| refused("no folder is set aside; to allow one: SALON_INGEST_FOLDER=/path"))?;
        let folder = folder.canonicalize().map_err(|error| refused(&format!("the folder: {error}")))?;
        let path =
            folder.join(named.trim_start_matches('/')).canonicalize().map_err(|error| refused(&error.to_string()))?;
        if path.starts_with(&folder) && path.is_file() { Ok(path) } else { Err(refused("it is no file of the folder")) }
    }

    /// All addresses of a host that may be dialled, at least one.
    ///
    /// # Errors
    /// [`DialError::Unresolved`]; [`DialError::Refused`] if it has none but forbidden ones.
    pub async fn resolve(&self, host: &Host<String>, port: u16) -> Result<Vec<SocketAddr>, DialError> {
        let found = match host {
            Host::Ipv4(address) => vec![IpAddr::V4(*address)],
            Host::Ipv6(address) => vec![IpAddr::V6(*address)],
            Host::Domain(name) => {
                let unresolved = || DialError::Unresolved { host: name.clone() };
                let found = tokio::time::timeout(RESOLVE_LIMIT, lookup_host((name.as_str(), port))).await;
                let found = found.map_err(|_| unresolved())?.map_err(|_| unresolved())?;
                found.map(|address| address.ip()).take(MOST_ADDRESSES).collect()
            }
        };
        self.permitted(&host.to_string(), port, &found)
    }

    /// The pure half of [`resolve`](Self::resolve): what DNS said, looked at.
    fn permitted(&self, host: &str, port: u16, found: &[IpAddr]) -> Result<Vec<SocketAddr>, DialError> {
        let mut refused = None;
        let mut permitted = Vec::new();
        for address in found {
            match self.check(host, *address) {
                Ok(()) => permitted.push(SocketAddr::new(address.to_canonical(), port)),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        if permitted.is_empty() {
            return Err(refused.unwrap_or_else(|| DialError::Unresolved { host: host.to_owned() }));
        }
        Ok(permitted)
    }

    /// Resolves, looks, and connects to the first address that takes the connection within `limit`.
    ///
    /// # Errors
    /// As [`DialError`] says.
    pub async fn connect(&self, host: &Host<String>, port: u16, limit: Duration) -> Result<TcpStream, DialError> {
        let mut last = None;
        for address in self.resolve(host, port).await? {
            let reason = match tokio::time::timeout(limit, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Requests are small, and each waits for its answer.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("nothing within {} s", limit.as_secs()),
            };
            last = Some(DialError::Unreachable { address, reason });
        }
        Err(last.unwrap_or_else(|| DialError::Unresolved { host: host.to_string() }))
    }

    /// The setting as it is, with one more entry.
    fn line_with(&self, entry: &str) -> String {
        let entries: Vec<String> = self.entries.iter().map(Entry::to_string).chain([entry.to_owned()]).collect();
        format!("SALON_INGEST_ALLOW={}", entries.join(","))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Network(address, bits) if *bits == width(*address) => write!(f, "{address}"),
            Self::Network(address, bits) => write!(f, "{address}/{bits}"),
        }
    }
}

/// Host names, addresses and networks (`192.168.1.0/24`), separated by commas.
impl FromStr for AllowList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        words.map(Entry::from_str).collect::<Result<_, _>>().map(|entries| Self { entries, folder: None })
    }
}

impl FromStr for Entry {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        if let Some((address, bits)) = word.split_once('/') {
            let address: IpAddr = address.parse().map_err(|_| format!("`{word}` is not a network"))?;
            let bits = bits.parse().ok().filter(|bits| *bits <= width(address));
            let bits = bits.ok_or_else(|| format!("`{word}`: its length is 0 to {}", width(address)))?;
            return Ok(Self::Network(address, bits));
        }
        match Host::parse(word).or_else(|error| word.parse::<Ipv6Addr>().map(Host::Ipv6).map_err(|_| error)) {
            Ok(Host::Ipv4(address)) => Ok(Self::Network(address.into(), 32)),
            Ok(Host::Ipv6(address)) => match IpAddr::V6(address).to_canonical() {
                IpAddr::V4(address) => Ok(Self::Network(address.into(), 32)),
                address @ IpAddr::V6(_) => Ok(Self::Network(address, 128)),
            },
            Ok(Host::Domain(name)) if !name.contains('*') => Ok(Self::Name(normalised(&name))),
            _ => Err(format!("`{word}` is not a host, an address or a network")),
        }
    }
}

fn normalised(host: &str) -> String {
    host.trim_end_matches('.').to_lowercase()
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn contains(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    let differing = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => (network.to_bits() ^ address.to_bits()).leading_zeros(),
        (IpAddr::V6(network), IpAddr::V6(address)) => (network.to_bits() ^ address.to_bits()).leading_zeros(),
        _ => return false,
    };
    differing >= u32::from(bits)
}

/// What an address is; `None`: public.
fn kind(address: IpAddr) -> Option<AddressKind> {
    match address.to_canonical() {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address),
    }
}

/// The IANA registry of special IPv4 addresses.
fn kind_v4(address: Ipv4Addr) -> Option<AddressKind> {
    match address.octets() {
        [0, ..] | [224..=239, ..] | [255, 255, 255, 255] => Some(AddressKind::NotOne),
        [127, ..] => Some(AddressKind::Loopback),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Some(AddressKind::Private),
        [169, 254, ..] => Some(AddressKind::LinkLocal),
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18..=19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => {
            Some(AddressKind::Reserved)
        }
        [240..=255, ..] => Some(AddressKind::Reserved),
        _ => None,
    }
}

/// The IANA registry of special IPv6 addresses; mapped IPv4 is looked at as IPv4 before this.
fn kind_v6(address: Ipv6Addr) -> Option<AddressKind> {
    let embedded = |high: u16, low: u16| {
        kind_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))).map(|_| AddressKind::Embedded)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(AddressKind::NotOne),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(AddressKind::Loopback),
        // IPv4-compatible (RFC 4291 §2.5.5.1) and translated (RFC 2765): nothing public has them.
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xFFFF, 0, ..] => Some(AddressKind::Embedded),
        // NAT64 (RFC 6052), and 6to4 (RFC 3056).
        [0x64, 0xFF9B, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        // Local NAT64 (RFC 8215), and Teredo (RFC 4380).
        [0x64, 0xFF9B, 1, ..] | [0x2001, 0, ..] => Some(AddressKind::Embedded),
        [0xFC00..=0xFDFF, ..] | [0xFEC0..=0xFEFF, ..] => Some(AddressKind::Private),
        [0xFE80..=0xFEBF, ..] => Some(AddressKind::LinkLocal),
        [0xFF00..=0xFFFF, ..] => Some(AddressKind::NotOne),
        // Discard, benchmarking, ORCHIDv2, documentation.
        [0x100, 0, 0, 0, ..] | [0x2001, 2, 0, ..] | [0x2001, 0x20..=0x2F, ..] | [0x2001, 0xDB8, ..] => {
            Some(AddressKind::Reserved)
        }
        [0x3FFF, 0..=0x0FFF, ..] | [0x5F00, ..] => Some(AddressKind::Reserved),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> AllowList {
        text.parse().unwrap()
    }

    #[test]
    fn files_are_of_the_folder_and_nowhere_else() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("films");
        std::fs::create_dir_all(folder.join("old")).unwrap();
        for file in ["films/a b.mp4", "films/old/c.mp4", "secret"] {
            std::fs::write(home.path().join(file), b"x").unwrap();
        }
        std::os::unix::fs::symlink(home.path().join("secret"), folder.join("link")).unwrap();
        let list = AllowList::default().with_folder(Some(folder.clone()));
        assert_eq!(list.file("/a b.mp4"), Ok(folder.canonicalize().unwrap().join("a b.mp4")));
        assert!(list.file("/old/c.mp4").is_ok());
        for forbidden in ["/../secret", "/link", "/old", "/", "", "/none", "/old/../../secret", "//etc/passwd"] {
            assert!(matches!(list.file(forbidden), Err(DialError::File { .. })), "{forbidden}");
        }
        let none = AllowList::default().file("/a b.mp4").unwrap_err().to_string();
        assert!(none.ends_with("SALON_INGEST_FOLDER=/path"), "{none}");
    }

    fn refused(list: &AllowList, host: &str, address: &str) -> Option<AddressKind> {
        match list.check(host, address.parse().unwrap()) {
            Err(DialError::Refused { kind, .. }) => Some(kind),
            Err(other) => panic!("{other}"),
            Ok(()) => None,
        }
    }

    #[test]
    fn what_is_not_public_is_refused_in_every_spelling() {
        use AddressKind::{Embedded, LinkLocal, Loopback, NotOne, Private, Reserved};
        let cases = [
            ("0.0.0.0", NotOne),
            ("0.1.2.3", NotOne),
            ("10.0.0.1", Private),
            ("10.255.255.255", Private),
            ("100.64.0.1", Private),
            ("100.127.255.255", Private),
            ("127.0.0.1", Loopback),
            ("127.255.255.254", Loopback),
            ("169.254.169.254", LinkLocal),
            ("172.16.0.1", Private),
            ("172.31.255.255", Private),
            ("192.0.0.1", Reserved),
            ("192.0.2.1", Reserved),
            ("192.88.99.1", Reserved),
            ("192.168.0.1", Private),
            ("198.18.0.1", Reserved),
            ("198.51.100.1", Reserved),
            ("203.0.113.1", Reserved),
            ("224.0.0.1", NotOne),
            ("239.255.255.255", NotOne),
            ("240.0.0.1", Reserved),
            ("255.255.255.255", NotOne),
            ("::", NotOne),
            ("::1", Loopback),
            ("::7f00:1", Embedded),
            ("::ffff:127.0.0.1", Loopback),
            ("::ffff:10.1.2.3", Private),
            ("::ffff:169.254.169.254", LinkLocal),
            ("::ffff:0:7f00:1", Embedded),
            ("64:ff9b::7f00:1", Embedded),
            ("64:ff9b::a9fe:a9fe", Embedded),
            ("64:ff9b:1::808:808", Embedded),
            ("2001::1", Embedded),
            ("2001:db8::1", Reserved),
            ("2002:7f00:1::1", Embedded),
            ("2002:c0a8:101::", Embedded),
            ("100::1", Reserved),
            ("fc00::1", Private),
            ("fd00:ec2::254", Private),
            ("fe80::1", LinkLocal),
            ("fec0::1", Private),
            ("ff02::1", NotOne),
        ];
        for (address, kind) in cases {
            assert_eq!(refused(&AllowList::default(), "camera.example", address), Some(kind), "{address}");
        }
    }

    #[test]
    fn what_is_public_needs_no_leave() {
        for address in [
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.1.1",
            "223.255.255.255",
            "2606:4700::1111",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "::ffff:8.8.8.8",
        ] {
            assert_eq!(refused(&AllowList::default(), "camera.example", address), None, "{address}");
        }
    }

    #[test]
    fn the_allow_list_lets_in_what_it_names_and_no_more() {
        let list = list("192.168.1.0/24, 10.0.0.7,fd00::/8,::1,Camera.Local.");
        for (host, address, allowed) in [
            ("192.168.1.20", "192.168.1.20", true),
            ("x", "::ffff:192.168.1.20", true),
            ("x", "192.168.2.20", false),
            ("x", "10.0.0.7", true),
            ("x", "10.0.0.8", false),
            ("x", "fd12::1", true),
            ("x", "fc12::1", false),
            ("x", "::1", true),
            ("x", "127.0.0.1", false),
            ("camera.local", "127.0.0.1", true),
            ("CAMERA.local.", "169.254.169.254", true),
            ("evil.camera.local", "127.0.0.1", false),
            ("camera.local.evil", "127.0.0.1", false),
        ] {
            assert_eq!(refused(&list, host, address).is_none(), allowed, "{host} {address}");
        }
        assert_eq!(refused(&self::list("0.0.0.0/0"), "x", "10.1.1.1"), None);
        assert!(refused(&self::list("0.0.0.0/0"), "x", "::1").is_some(), "IPv4 only");
    }

    #[test]
    fn a_refusal_tells_the_line_that_would_permit_it() {
        let before = list("10.0.0.0/8,door.local,fd00::1");
        let error = before.check("192.168.1.20", "192.168.1.20".parse().unwrap()).unwrap_err();
        let line = "SALON_INGEST_ALLOW=10.0.0.0/8,door.local,fd00::1,192.168.1.20";
        assert!(error.to_string().ends_with(line), "{error}");
        for host in ["192.168.1.20", "camera.lan", "[::1]", "[fd00::7]"] {
            let address = host.trim_matches(['[', ']']).parse().unwrap_or(IpAddr::from([192, 168, 1, 9]));
            let Err(DialError::Refused { line, .. }) = before.check(host, address) else { panic!("{host}") };
            let after = list(line.strip_prefix("SALON_INGEST_ALLOW=").unwrap());
            assert_eq!(after.check(host, address), Ok(()), "{line}");
        }
    }

    #[test]
    fn of_what_dns_says_only_the_permitted_is_dialled() {
        let found: Vec<IpAddr> =
            ["127.0.0.1", "8.8.8.8", "::ffff:10.0.0.1", "::ffff:1.1.1.1"].map(|it| it.parse().unwrap()).into();
        let dialled = AllowList::default().permitted("rebind.example", 554, &found).unwrap();
        assert_eq!(dialled, ["8.8.8.8:554".parse().unwrap(), "1.1.1.1:554".parse().unwrap()]);
        let refused = AllowList::default().permitted("rebind.example", 554, &found[..1]);
        assert!(matches!(refused, Err(DialError::Refused { .. })));
        let nothing = AllowList::default().permitted("empty.example", 554, &[]);
        assert!(matches!(nothing, Err(DialError::Unresolved { .. })));
    }

    #[tokio::test]
    async fn names_are_resolved_and_then_looked_at() {
        let localhost = Host::parse("localhost").unwrap();
        let refused = AllowList::default().resolve(&localhost, 554).await;
        assert!(matches!(refused, Err(DialError::Refused { kind: AddressKind::Loopback, .. })), "{refused:?}");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = list("localhost").connect(&localhost, port, Duration::from_secs(5)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
    }

    #[test]
    fn entries_that_are_none_are_refused() {
        for text in ["10.0.0.0/33", "10.0.0.0/x", "fd00::/129", "*.local", "a b", "http://x", "10.0.0.0/-1"] {
            assert!(text.parse::<AllowList>().is_err(), "{text}");
        }
        assert_eq!(list(" , "), AllowList::default());
    }
}
