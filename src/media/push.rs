//! What a room asks an engine to send to receivers elsewhere, and how it is told of it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::ingest::{AllowList, Credentials, IngestUri, tls::Fingerprint};

/// Somebody who takes the room's mix: `rtmp://`, `rtmps://` or `srt://`, called by us.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Where it is.
    pub uri: IngestUri,
    /// What it asks for. Shown nowhere.
    pub credentials: Option<Credentials>,
    /// What may be dialled.
    pub allow: AllowList,
    /// Its certificate (`rtmps://`), if nobody vouches for it.
    pub fingerprint: Option<Fingerprint>,
}

impl Target {
    /// `text` without what may be a key or a password: elements tell what they were given.
    pub fn without_secrets(&self, text: &str) -> String {
        let (path, query) = self.uri.target().split_once('?').unwrap_or((self.uri.target(), ""));
        let values = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value.to_owned());
        // The first part of a path is the application; what follows may be a key.
        let parts = path.split('/').skip(2).map(str::to_owned);
        let given = self.credentials.iter().flat_map(|it| [&it.user, &it.password]).map(|it| it.reveal().to_owned());
        let mut secrets: Vec<String> = [query.to_owned()].into_iter().chain(values).chain(parts).chain(given).collect();
        let decoded = |text: &String| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        secrets.extend(secrets.iter().map(decoded).collect::<Vec<_>>());
        // One may hold another: the longest first.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.retain(|secret| !secret.is_empty());
        secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "…"))
    }
}

/// How a push stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushStatus {
    /// Whether the receiver takes it.
    pub state: PushState,
    /// Why not, in a word: `unreachable`, `refused`, `unresolved`, `tls`, `lost`, `stalled`, `mix_unavailable`.
    pub reason: Option<&'static str>,
    /// Why not, in a sentence.
    pub detail: Option<String>,
    /// How often it came back.
    pub reconnects: u32,
    /// Bytes that the receiver's connection has taken, and those of connections before it.
    pub sent_bytes: u64,
}

/// Whether a receiver takes the mix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PushState {
    /// It is being called.
    #[default]
    Connecting,
    /// It takes the mix.
    Live,
    /// It does not, and is tried again soon.
    Waiting,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_passwords_are_taken_out_of_what_elements_say() {
        let target = |text: &str| {
            let (uri, credentials) = IngestUri::parse(text).unwrap();
            Target { uri, credentials, allow: AllowList::default(), fingerprint: None }
        };
        for (uri, said, told) in [
            (
                "rtmp://x/live/s3cret",
                "rtmp://1.2.3.4/live/s3cret: no stream s3cret",
                "rtmp://1.2.3.4/live/…: no stream …",
            ),
            ("rtmp://x/live/a/b?k=s3cret", "a/b?k=s3cret", "…/…?…"),
            ("rtmp://me:s3cret@x/live/k%20ey", "k ey, k%20ey, me, s3cret", "…, …, …, …"),
            (
                "srt://x:9?passphrase=s3cret&latency=200",
                "uri srt://x:9?passphrase=s3cret&latency=200",
                "uri srt://x:9?…",
            ),
        ] {
            assert_eq!(target(uri).without_secrets(said), told, "{uri}");
            assert!(!format!("{:?} {}", target(uri), target(uri).uri).contains("s3cret"), "{uri}");
        }
    }
}
