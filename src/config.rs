//! Typed settings, and the four places a value may come from.
//!
//! Every key is written once, in [`KEYS`]: as `http_listen` in the file it is `SALON_HTTP_LISTEN` in
//! the environment and `--http-listen` as a flag, and all three are read by the same function, so
//! that they cannot differ. A flag beats the environment, the environment beats the file, the file
//! beats the default. `config.example.toml` describes each key; a test compares it with the defaults.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;
use url::Url;

pub use self::{
    ice::{IceServer, for_clients},
    secret::Secret,
};
use crate::{ingest::AllowList, media::EdgeChoice, recording::removal::Retention, room::policy::RoomPolicy};

mod ice;
mod parse;
mod secret;

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where plain HTTP listens; empty: nowhere.
    pub http_listen: Vec<SocketAddr>,
    /// Where HTTPS listens; empty: nowhere.
    pub https_listen: Vec<SocketAddr>,
    /// Where RTSP for players listens; empty: nowhere.
    pub rtsp_listen: Vec<SocketAddr>,
    /// Where SRT for players listens (UDP); empty: nowhere.
    pub srt_listen: Vec<SocketAddr>,
    /// Certificate chain, PEM. With [`Settings::tls_key`]; without both a self-signed one is made.
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM.
    pub tls_key: Option<PathBuf>,
    /// What callers of the HTTP API show. Without it the API answers on loopback only.
    pub api_secret: Option<Secret>,
    /// Other origins (`https://host[:port]`) whose pages may open the WebSocket.
    pub origins: Vec<String>,
    /// Who is told by HTTP of what happens in rooms.
    pub webhook_urls: Vec<Url>,
    /// What signs those messages.
    pub webhook_secret: Option<Secret>,
    /// Where the server keeps what is its own: the self-signed certificate, the catalogue.
    pub data_dir: PathBuf,
    /// The catalogue's SQLite file; `None`: `salon.db` in [`Settings::data_dir`].
    pub database: Option<PathBuf>,
    /// Where recordings go.
    pub recordings_dir: PathBuf,
    /// Space that recordings leave free on their disk, in MiB.
    pub recordings_reserve_mib: u64,
    /// How long recordings are kept.
    pub retention: Retention,
    /// A folder whose files override the embedded `pipelines/`.
    pub pipelines_dir: Option<PathBuf>,
    /// Addresses that media sockets bind; empty: every interface but loopback.
    pub media_bind: Vec<IpAddr>,
    /// The address announced to clients instead of the bound one (NAT, containers).
    pub media_ip: Option<IpAddr>,
    /// Ports for media, both included; `None`: the system chooses.
    pub media_ports: Option<(u16, u16)>,
    /// Media over TCP too, on the fan-out edge's port number.
    pub media_tcp: bool,
    /// Hosts and networks that cameras may be fetched from though they are not public.
    pub ingest_allow: AllowList,
    /// Through which edge people's media goes.
    pub edge: EdgeChoice,
    /// A folder whose files may be fetched into rooms.
    pub ingest_folder: Option<PathBuf>,
    /// STUN and TURN servers that clients are told to use.
    pub ice_servers: Vec<IceServer>,
    /// Mixes at once, in those of 1280×720 at 25 frames a second; `None`: as many as the cores allow.
    pub max_mixes: Option<u64>,
    /// What is logged, as `tracing-subscriber` filters are written.
    pub log: String,
    /// How long a shutdown may take, recordings included.
    pub shutdown: Duration,
    /// Limits of rooms.
    pub rooms: RoomPolicy,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            http_listen: vec![([127, 0, 0, 1], 8080).into()],
            https_listen: vec![([0, 0, 0, 0], 4443).into(), ([0u16; 8], 4443).into()],
            rtsp_listen: vec![([127, 0, 0, 1], 8554).into()],
            srt_listen: vec![([127, 0, 0, 1], 8890).into()],
            tls_cert: None,
            tls_key: None,
            api_secret: None,
            origins: Vec::new(),
            webhook_urls: Vec::new(),
            webhook_secret: None,
            data_dir: "data".into(),
            database: None,
            recordings_dir: "recordings".into(),
            recordings_reserve_mib: 256,
            retention: Retention::default(),
            pipelines_dir: None,
            media_bind: Vec::new(),
            media_ip: None,
            media_ports: None,
            media_tcp: true,
            ingest_allow: AllowList::default(),
            edge: EdgeChoice::Auto,
            ingest_folder: None,
            ice_servers: Vec::new(),
            max_mixes: None,
            log: "info".into(),
            shutdown: seconds(20),
            rooms: RoomPolicy::default(),
        }
    }
}

impl Settings {
    /// Free space of the disk that recordings leave alone.
    pub fn recordings_reserve_bytes(&self) -> u64 {
        self.recordings_reserve_mib.saturating_mul(1024 * 1024)
    }

    /// Mixes at once, in those of 1280×720 at 25 frames a second. By itself it is about twice what the
    /// cores can encode: a limit for those who would bring everything to a stop.
    pub fn max_mixes(&self) -> u64 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        self.max_mixes.unwrap_or(8 * cores)
    }

    /// The catalogue's file.
    pub fn database_path(&self) -> PathBuf {
        self.database.clone().unwrap_or_else(|| self.data_dir.join("salon.db"))
    }

    /// Puts the settings together. `flags` and `environment` hold what was given, by key and by
    /// variable name; `file` is read if it is named.
    ///
    /// # Errors
    /// The first [`ConfigError`], worst source first: file, environment, flags.
    pub fn load(
        file: Option<&Path>,
        environment: &BTreeMap<String, String>,
        flags: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let mut settings = Self::default();
        if let Some(path) = file {
            for (key, text) in read_file(path)? {
                settings.set(&key, &text, &Place::File(path.to_owned()))?;
            }
        }
        for key in &KEYS {
            let variable = key.variable();
            if let Some(text) = environment.get(&variable) {
                settings.set(key.name, text, &Place::Environment(variable))?;
            }
        }
        for (key, text) in flags {
            settings.set(key, text, &Place::Flag(flag_of(key)))?;
        }
        settings.check()?;
        Ok(settings)
    }

    /// Takes one value, as text, from wherever it was written.
    ///
    /// # Errors
    /// [`ConfigError::UnknownKey`] or [`ConfigError::Value`].
    pub fn set(&mut self, key: &str, text: &str, place: &Place) -> Result<(), ConfigError> {
        let Some(known) = KEYS.iter().find(|known| known.name == key) else {
            return Err(ConfigError::UnknownKey {
                place: place.clone(),
                key: key.to_owned(),
                hint: nearest(key).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default(),
            });
        };
        let text = text.trim();
        parse::apply(self, known.name, text).map_err(|problem| ConfigError::Value {
            place: place.clone(),
            key: known.name,
            value: if known.secret { "(hidden)".into() } else { shorten(text) },
            problem,
            allowed: known.allowed,
        })
    }

    /// What only shows when all values are together.
    fn check(&self) -> Result<(), ConfigError> {
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err(ConfigError::Together("`tls_cert` and `tls_key` are given both or neither"));
        }
        if self.http_listen.is_empty() && self.https_listen.is_empty() {
            return Err(ConfigError::Together("`http_listen` and `https_listen` are both off: nobody could come in"));
        }
        Ok(())
    }
}

/// A key, as it is documented.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name in the file.
    pub name: &'static str,
    /// What stands for its value in `--help`.
    pub value: &'static str,
    /// What it may be, for error messages: "an address and port, …".
    pub allowed: &'static str,
    /// One line for `--help`.
    pub help: &'static str,
    /// Its value is never shown.
    pub secret: bool,
}

impl Key {
    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("SALON_{}", self.name.to_uppercase())
    }
}

const fn key(name: &'static str, value: &'static str, allowed: &'static str, help: &'static str) -> Key {
    Key { name, value, allowed, help, secret: false }
}

/// All keys, in the order of `config.example.toml`.
pub const KEYS: [Key; 41] = [
    key("http_listen", "ADDR:PORT", LISTEN, "Plain HTTP; empty turns it off [default: 127.0.0.1:8080]"),
    key("https_listen", "ADDR:PORT", LISTEN, "HTTPS; empty turns it off [default: 0.0.0.0:4443,[::]:4443]"),
    key("rtsp_listen", "ADDR:PORT", LISTEN, "RTSP for players; empty turns it off [default: 127.0.0.1:8554]"),
    key("srt_listen", "ADDR:PORT", LISTEN, "SRT for players (UDP); empty turns it off [default: 127.0.0.1:8890]"),
    key("tls_cert", "FILE", PATH, "Certificate chain, PEM [default: a self-signed one, made and kept]"),
    key("tls_key", "FILE", PATH, "The certificate's private key, PEM"),
    Key {
        secret: true,
        ..key("api_secret", "TEXT", SECRET, "What callers of the API show; without it, loopback only")
    },
    key("origins", "URL,…", ORIGINS, "Other origins whose pages may open the WebSocket"),
    Key { secret: true, ..key("webhook_urls", "URL,…", WEBHOOKS, "Who is told by HTTP of what happens in rooms") },
    Key { secret: true, ..key("webhook_secret", "TEXT", SECRET, "What signs those messages") },
    key("data_dir", "DIR", PATH, "Self-signed certificate and catalogue [default: data]"),
    key("database", "FILE", DATABASE, "The catalogue [default: salon.db in data_dir]"),
    key("recordings_dir", "DIR", PATH, "Where recordings go [default: recordings]"),
    key("recordings_reserve_mib", "MIB", "0 to 10000000 (MiB)", "Disk space recordings leave free [default: 256]"),
    key(
        "recordings_max_age_days",
        "DAYS",
        "0 to 36500 (days)",
        "How long recordings are kept; 0: for ever [default: 0]",
    ),
    key("recordings_max_mib", "MIB", "0 to 1000000000 (MiB)", "Space for all recordings; 0: no limit [default: 0]"),
    key("pipelines_dir", "DIR", PATH, "Overrides for the embedded pipelines [default: none]"),
    key("media_bind", "ADDR,…", ADDRESSES, "Addresses of media sockets [default: all but loopback]"),
    key("media_ip", "ADDR", "an IP address, e.g. 203.0.113.7", "Address announced to clients, behind NAT"),
    key("media_ports", "FIRST-LAST", PORTS, "Ports for media [default: the system chooses]"),
    key("media_tcp", "true|false", "true or false", "Media over TCP too, for who cannot use UDP [default: true]"),
    key("ingest_allow", "HOST,…", ALLOW, "Cameras that are not public and may be fetched [default: none]"),
    key("edge", "auto|webrtcbin|fanout", EDGE, "Through which edge people's media goes [default: auto]"),
    key("ingest_folder", "DIR", PATH, "Files that may be fetched into rooms, as file:///name [default: none]"),
    Key { secret: true, ..key("ice_servers", "LIST", ICE, "STUN and TURN servers for clients") },
    key("log", "FILTER", LOG, "What is logged to stderr [default: info]"),
    key("max_rooms", "N", "1 to 10000", "Rooms at once [default: 200]"),
    key("max_participants", "N", "1 to 1000", "Participants of one room [default: 50]"),
    key("linger_s", "SECONDS", "0 to 86400 (seconds)", "How long an empty room stays [default: 30]"),
    key("resume_window_s", "SECONDS", "0 to 60 (seconds)", "How long a lost participant may return [default: 7]"),
    key("max_publications", "N", "1 to 32", "Publications of one participant [default: 4]"),
    key("max_subscriptions", "N", "1 to 2000", "Subscriptions of one participant [default: 200]"),
    key("max_recordings", "N", "1 to 32", "Recordings of one room at once [default: 4]"),
    key("max_mixes", "N", "0 to 10000", "Mixes at once, in 1280×720 at 25; 0: by the cores [default: 0]"),
    key("max_effect_points", "N", "0 to 1000", "What the effects of one room may cost [default: 40]"),
    key("clean_tracks_for", "ROLE", ROLE, "Who may see others without their effects [default: moderator]"),
    key("max_candidates", "N", "10 to 1000", "ICE candidates of one connection [default: 200]"),
    key("max_signal_bytes", "BYTES", "1024 to 65536 (bytes)", "Size of one message [default: 16384]"),
    key("max_name_chars", "N", "8 to 256", "Length of a nickname [default: 64]"),
    key("connect_timeout_s", "SECONDS", "5 to 120 (seconds)", "ICE and DTLS must be up by then [default: 20]"),
    key("shutdown_s", "SECONDS", "1 to 300 (seconds)", "Time to end recordings at shutdown [default: 20]"),
];

const LISTEN: &str = "addresses with ports, separated by commas (127.0.0.1:8080, [::]:8080), or empty for off";
const PATH: &str = "a path";
const SECRET: &str = "8 to 256 visible characters without spaces, not beginning with `a_`";
const ORIGINS: &str = "origins separated by commas, e.g. https://school.example";
const WEBHOOKS: &str = "at most 8 addresses, http:// or https://, without name and password, separated by commas";
const DATABASE: &str = "a path, or sqlite:PATH";
const ADDRESSES: &str = "IP addresses separated by commas";
const PORTS: &str = "FIRST-LAST, e.g. 40000-49999, at least 10 ports from 1024 up";
const ALLOW: &str = "host names, addresses and networks (192.168.1.0/24), separated by commas";
const EDGE: &str = "auto, webrtcbin or fanout";
const ROLE: &str = "viewer, publisher or moderator";
const ICE: &str = "stun:, turn: or turns: URLs separated by commas, or a JSON list of RTCIceServer objects";
const LOG: &str = "a level (error, warn, info, debug, trace) or filters like salon=debug,info";

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this file.
    File(PathBuf),
    /// In this environment variable.
    Environment(String),
    /// Behind this flag.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}: is not TOML: {problem}", path.display())]
    NotToml {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        problem: String,
    },
    /// There is no such key.
    #[error("{place}: there is no key `{key}`{hint}")]
    UnknownKey {
        /// Where it stands.
        place: Place,
        /// What it says.
        key: String,
        /// The nearest key.
        hint: String,
    },
    /// The value is not one the key takes.
    #[error("{place}: `{key}` is {value}: {problem}; allowed: {allowed}")]
    Value {
        /// Where it stands.
        place: Place,
        /// Which key.
        key: &'static str,
        /// The value as written, shortened; hidden for secrets.
        value: String,
        /// What is wrong with it.
        problem: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// Values that do not go together.
    #[error("{0}")]
    Together(&'static str),
}

/// The flag of a key.
pub fn flag_of(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

/// Keys of a file with their values as text, so that one parser serves file, environment and flags.
fn read_file(path: &Path) -> Result<Vec<(String, String)>, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| ConfigError::NotToml { path: path.to_owned(), problem: error.to_string() })?;
    Ok(table.into_iter().map(|(key, value)| (key, value_text(value))).collect())
}

fn value_text(value: toml::Value) -> String {
    match value {
        toml::Value::String(text) => text,
        toml::Value::Array(items) if items.iter().all(toml::Value::is_str) => {
            items.into_iter().map(value_text).collect::<Vec<_>>().join(",")
        }
        // Tables only make sense for ICE servers, whose parser takes JSON.
        value @ (toml::Value::Array(_) | toml::Value::Table(_)) => {
            serde_json::to_string(&value).unwrap_or_else(|_| value.to_string())
        }
        other => other.to_string(),
    }
}

/// The key that a misspelt one most likely meant.
fn nearest(key: &str) -> Option<&'static str> {
    let letters = |text: &str| text.to_lowercase().replace(['-', '_'], "");
    let wanted = letters(key);
    KEYS.iter()
        .map(|known| (distance(&letters(known.name), &wanted), known.name))
        .min()
        .filter(|(edits, _)| *edits <= 3)
        .map(|(_, name)| name)
}

/// Levenshtein distance, for short words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}

/// A duration of whole seconds.
fn seconds(value: u64) -> Duration {
    Duration::from_secs(value)
}
