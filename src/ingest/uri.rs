//! What a source is named by: a URI that was read once, its credentials apart from it, so that what
//! is logged and shown cannot hold them.

use std::fmt;

use percent_encoding::percent_decode_str;
use thiserror::Error;
use url::{Host, Url};

use crate::config::Secret;

/// Bytes of a URI.
const MAX_BYTES: usize = 2048;

/// How a source is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RTSP over TCP (RFC 2326).
    Rtsp,
    /// The same within TLS.
    Rtsps,
    /// HLS, MP4, MPEG-TS, Motion JPEG over HTTP.
    Http,
    /// The same within TLS.
    Https,
    /// Haivision's protocol; we call.
    Srt,
    /// Adobe's.
    Rtmp,
    /// The same within TLS; outwards only.
    Rtmps,
    /// A file of the folder that is set aside for it.
    File,
}

/// A name and a password. Neither is ever shown.
#[derive(Clone, PartialEq)]
pub struct Credentials {
    /// Who.
    pub user: Secret,
    /// And how he proves it; may be empty.
    pub password: Secret,
}

/// A source's address. `Display` and `Debug` leave out whatever may hold a password.
#[derive(Clone, PartialEq)]
pub struct IngestUri {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// As named; numbers in any spelling are addresses by now.
    pub host: Host<String>,
    /// Named, or the scheme's own.
    pub port: u16,
    /// Path and query as they were written, beginning with `/`.
    target: String,
}

/// Why a URI cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UriError {
    /// It cannot be read.
    #[error("is not a URI: {0}")]
    Syntax(String),
    /// Nothing here speaks that.
    #[error("has the scheme `{0}`; rtsp, rtsps, http, https, srt, rtmp and file are known")]
    Scheme(String),
    /// It names nobody.
    #[error("names no host")]
    NoHost,
    /// Too long, or with characters that no URI has.
    #[error("is longer than {MAX_BYTES} bytes, or has spaces or control characters")]
    Form,
}

impl Scheme {
    /// As written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rtsp => "rtsp",
            Self::Rtsps => "rtsps",
            Self::Http => "http",
            Self::Https => "https",
            Self::Srt => "srt",
            Self::Rtmp => "rtmp",
            Self::Rtmps => "rtmps",
            Self::File => "file",
        }
    }

    /// A camera's own: RTSP, in TLS or not.
    pub fn is_rtsp(self) -> bool {
        matches!(self, Self::Rtsp | Self::Rtsps)
    }

    fn port(self) -> u16 {
        match self {
            Self::Rtsp => 554,
            Self::Rtsps => 322,
            Self::Http => 80,
            Self::Https => 443,
            Self::Srt => 9710,
            Self::Rtmp => 1935,
            Self::Rtmps => 443,
            Self::File => 0,
        }
    }
}

impl IngestUri {
    /// Reads `text`; credentials in it come out beside it.
    ///
    /// # Errors
    /// As [`UriError`] says; no message repeats what may be a password.
    pub fn parse(text: &str) -> Result<(Self, Option<Credentials>), UriError> {
        // The parser would leave out line breaks, and a request line must not have any.
        if text.len() > MAX_BYTES || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(UriError::Form);
        }
        let url = Url::parse(text).map_err(|error| UriError::Syntax(error.to_string()))?;
        let scheme = match url.scheme() {
            "rtsp" | "rtspt" | "rtspu" => Scheme::Rtsp,
            "rtsps" => Scheme::Rtsps,
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "srt" => Scheme::Srt,
            "rtmp" => Scheme::Rtmp,
            "rtmps" => Scheme::Rtmps,
            "file" => return Self::of_file(&url),
            other => return Err(UriError::Scheme(other.chars().take(16).collect())),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(UriError::NoHost)?;
        // Only schemes of the web have their hosts read; this reads 0x7f.1 and 2130706433 as well.
        let host = Host::parse(host).map_err(|error| UriError::Syntax(error.to_string()))?;
        let port = url.port().unwrap_or(scheme.port());
        if port == 0 {
            return Err(UriError::Syntax("its port is 0".into()));
        }
        let path = if url.path().starts_with('/') { url.path() } else { "/" };
        let target = url.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        let decoded = |text: &str| Secret::new(&percent_decode_str(text).decode_utf8_lossy());
        let credentials = (!url.username().is_empty() || url.password().is_some()).then(|| Credentials {
            user: decoded(url.username()),
            password: decoded(url.password().unwrap_or_default()),
        });
        Ok((Self { scheme, host, port, target }, credentials))
    }

    /// `file:///name`: of the folder that is set aside, whatever it is called.
    fn of_file(url: &Url) -> Result<(Self, Option<Credentials>), UriError> {
        if url.host_str().is_some_and(|host| !host.is_empty()) {
            return Err(UriError::Syntax("files are of this machine: file:///name".into()));
        }
        let target = percent_decode_str(url.path()).decode_utf8().map_err(|_| UriError::Form)?;
        if target.chars().any(char::is_control) {
            return Err(UriError::Form);
        }
        let host = Host::Domain(String::new());
        Ok((Self { scheme: Scheme::File, host, port: 0, target: target.into_owned() }, None))
    }

    /// As it stands in a request for `target`, a path and query of the same host. May hold a password:
    /// some cameras want it in the path.
    pub fn at(&self, target: &str) -> String {
        format!("{}://{}:{}{target}", self.scheme.name(), self.host, self.port)
    }

    /// Path and query, as they stand in a request.
    pub fn target(&self) -> &str {
        &self.target
    }
}

impl fmt::Display for IngestUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, query) = self.target.split_once('?').map_or((self.target.as_str(), ""), |(path, _)| (path, "?…"));
        // `/user=admin_password=x_channel=1.sdp`: some cameras have the password there.
        let path = if path.contains('=') { "/…" } else { path };
        match self.scheme {
            Scheme::File => return write!(f, "file://{path}"),
            // The stream's name is its password, as a rule.
            Scheme::Rtmp | Scheme::Rtmps => {
                let application = path.split('/').nth(1).unwrap_or_default();
                return write!(f, "{}://{}:{}/{application}/…", self.scheme.name(), self.host, self.port);
            }
            _ => {}
        }
        write!(f, "{}://{}:{}{path}{query}", self.scheme.name(), self.host, self.port)
    }
}

impl fmt::Debug for IngestUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> IngestUri {
        IngestUri::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).0
    }

    #[test]
    fn parts_are_found() {
        let uri = parse("rtsp://Camera.example/a/b?x=1&y");
        assert_eq!((uri.scheme, uri.port, uri.target()), (Scheme::Rtsp, 554, "/a/b?x=1&y"));
        assert_eq!(uri.host, Host::Domain("camera.example".to_owned()));
        assert_eq!(uri.at(uri.target()), "rtsp://camera.example:554/a/b?x=1&y");
        let uri = parse("rtsps://[fd00::1]:8554");
        assert_eq!(
            (uri.scheme, uri.port, uri.at(uri.target()).as_str()),
            (Scheme::Rtsps, 8554, "rtsps://[fd00::1]:8554/")
        );
    }

    #[test]
    fn numbers_are_addresses_in_every_spelling() {
        for text in
            ["127.0.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "%31%32%37.0.0.1"]
        {
            let uri = parse(&format!("rtsp://{text}/x"));
            assert_eq!(uri.host, Host::<String>::Ipv4([127, 0, 0, 1].into()), "{text}");
        }
        let mapped = parse("rtsp://[::ffff:7f00:1]/x");
        assert_eq!(mapped.host, Host::<String>::Ipv6("::ffff:127.0.0.1".parse().unwrap()));
        assert_eq!(
            parse("rtsp://１２７.0.0.1/").host,
            Host::<String>::Ipv4([127, 0, 0, 1].into()),
            "full-width digits"
        );
    }

    #[test]
    fn credentials_come_out_and_are_shown_nowhere() {
        let (uri, credentials) = IngestUri::parse("rtsp://ad%40min:s%3Acret@10.0.0.1/live?password=hunter2").unwrap();
        let credentials = credentials.unwrap();
        assert_eq!((credentials.user.reveal(), credentials.password.reveal()), ("ad@min", "s:cret"));
        let shown = format!("{uri} {uri:?} {credentials:?}");
        assert_eq!(shown, "rtsp://10.0.0.1:554/live?… rtsp://10.0.0.1:554/live?… (hidden)");
        assert!(!uri.at(uri.target()).contains("cret"));
        let path = parse("rtsp://10.0.0.1/user=admin_password=hunter2_channel=1.sdp");
        assert_eq!(path.to_string(), "rtsp://10.0.0.1:554/…");
        assert_eq!(parse("rtmp://live.example/app/st-ream-key").to_string(), "rtmp://live.example:1935/app/…");
        assert_eq!(parse("srt://h:9000?passphrase=hunter2").to_string(), "srt://h:9000/?…");
        assert_eq!(parse("file:///a%20b.mp4").to_string(), "file:///a b.mp4");
        let (_, only_user) = IngestUri::parse("rtsp://admin@10.0.0.1/").unwrap();
        assert_eq!(only_user.unwrap().password.reveal(), "");
        for bad in
            ["ftp://me:hunter2@x/", "rtsp://me:hunter2@/x", "rtsp://me:hunter2@x:99999/", "rtsp://me:hunter2@a b/"]
        {
            let error = IngestUri::parse(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_is_no_source_is_refused() {
        let too_long = format!("rtsp://x/{}", "a".repeat(MAX_BYTES));
        for (text, error) in [
            ("", UriError::Syntax("relative URL without a base".into())),
            ("file://host/x", UriError::Syntax("files are of this machine: file:///name".into())),
            ("file:///a%0Ab", UriError::Form),
            ("data:video/mp4,x", UriError::Scheme("data".into())),
            ("gopher://x/", UriError::Scheme("gopher".into())),
            ("rtsp:///x", UriError::NoHost),
            ("rtsp:x", UriError::NoHost),
            ("rtsp://x/\r\nDESCRIBE", UriError::Form),
            ("rtsp://x/a b", UriError::Form),
            (&too_long, UriError::Form),
        ] {
            assert_eq!(IngestUri::parse(text).err(), Some(error), "{text:?}");
        }
        assert!(IngestUri::parse("rtsp://x:0/").is_err());
        assert!(IngestUri::parse("rtsp://1.2.3.4.5.6:1/").is_err());
    }
}
