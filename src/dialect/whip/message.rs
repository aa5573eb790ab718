//! What goes over the wire, read and written: paths, trickle fragments (RFC 8840), entity tags, `Link`
//! headers, and the candidates in an answer. Pure functions.

use http::HeaderValue;

use crate::{
    config::{IceServer, Secret},
    media::IceCredentials,
};

/// The media type of offers and answers.
pub const SDP: &str = "application/sdp";
/// The media type of candidates that come later.
pub const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// Candidates of one fragment; clients send one or a few.
const MOST_CANDIDATES: usize = 64;

/// Which of the two protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The client sends.
    Whip,
    /// The client receives.
    Whep,
}

impl Protocol {
    /// Its name, as it stands in paths.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whip => "whip",
            Self::Whep => "whep",
        }
    }
}

/// What a path names. Rooms and tracks are percent-encoded still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// `/whip/{room}`.
    Publish(&'a str),
    /// `/whep/{room}`, `/whep/{room}/mix`, `/whep/{room}/{track}`.
    Watch(&'a str, Option<&'a str>),
    /// `/whip/session/{id}`, `/whep/session/{id}`.
    Session(Protocol, &'a str),
}

impl Place<'_> {
    /// The pattern, for metrics.
    pub fn pattern(self) -> &'static str {
        match self {
            Self::Publish(_) => "/whip/{room}",
            Self::Watch(_, None) => "/whep/{room}",
            Self::Watch(_, Some("mix")) => "/whep/{room}/mix",
            Self::Watch(_, Some(_)) => "/whep/{room}/{track}",
            Self::Session(Protocol::Whip, _) => "/whip/session/{id}",
            Self::Session(Protocol::Whep, _) => "/whep/session/{id}",
        }
    }
}

/// Whether a path is of this dialect at all.
pub fn is_ours(path: &str) -> bool {
    path.starts_with("/whip/") || path.starts_with("/whep/")
}

/// What `path` names, if it is something.
pub fn place(path: &str) -> Option<Place<'_>> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let place = match (parts.next()?, parts.next()?, parts.next()) {
        ("whip", "session", Some(id)) => Place::Session(Protocol::Whip, id),
        ("whep", "session", Some(id)) if id.starts_with("w_") => Place::Session(Protocol::Whep, id),
        ("whip", room, None) if !room.is_empty() => Place::Publish(room),
        ("whep", room, what) if !room.is_empty() && what != Some("") => Place::Watch(room, what),
        _ => return None,
    };
    parts.next().is_none().then_some(place)
}

/// A trickle fragment (RFC 8840 §9), as far as it concerns us: all candidates go to the one transport,
/// whichever section they stand in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// The client's ICE user name, if it says one.
    pub ufrag: Option<String>,
    /// And its password.
    pub pwd: Option<String>,
    /// The first section of the bundle, `m=` and `a=mid:`, as it stands there.
    pub section: Vec<String>,
    /// Its candidates, `candidate:…` each.
    pub candidates: Vec<String>,
}

/// Reads a fragment, leniently where clients need it: any line ends, candidates of component 0 (which
/// are of 1), IPv6 addresses in brackets.
///
/// # Errors
/// What is wrong, in a few words.
pub fn fragment(text: &str) -> Result<Fragment, &'static str> {
    let mut fragment = Fragment::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some((kind, value)) = line.split_once('=').filter(|(kind, _)| kind.len() == 1) else {
            return Err("a line is not `<letter>=<value>`");
        };
        match (kind, value.split_once(':')) {
            ("a", Some(("ice-ufrag", ufrag))) => fragment.ufrag = Some(ufrag.to_owned()),
            ("a", Some(("ice-pwd", pwd))) => fragment.pwd = Some(pwd.to_owned()),
            ("m", _) if fragment.section.is_empty() => fragment.section.push(line.to_owned()),
            ("a", Some(("mid", _))) if fragment.section.len() == 1 => fragment.section.push(line.to_owned()),
            ("a", Some(("candidate", _))) if fragment.candidates.len() == MOST_CANDIDATES => {
                return Err("it has too many candidates");
            }
            ("a", Some(("candidate", _))) => fragment.candidates.push(mended(value)),
            _ => {}
        }
    }
    Ok(fragment)
}

/// The answer to a fragment that restarts ICE: our credentials and candidates, for the section that it
/// named.
pub fn restarted(section: &[String], ours: &IceCredentials, candidates: &[String]) -> String {
    let (ufrag, pwd) = (format!("a=ice-ufrag:{}", ours.ufrag), format!("a=ice-pwd:{}", ours.pwd));
    let candidates = candidates.iter().map(|candidate| format!("a={candidate}"));
    let head = section.iter().cloned().chain([ufrag, pwd]);
    let lines = head.chain(candidates).chain(["a=end-of-candidates".to_owned()]);
    lines.map(|line| line + "\r\n").collect()
}

/// A candidate line as its grammar has it.
fn mended(candidate: &str) -> String {
    let mut fields: Vec<&str> = candidate.split(' ').collect();
    if let Some(component) = fields.get_mut(1).filter(|component| **component == "0") {
        *component = "1";
    }
    if let Some(address) = fields.get_mut(4) {
        *address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    }
    fields.join(" ")
}

/// The candidates in a description, `candidate:…` each, as many as are taken.
pub fn candidates(sdp: &str) -> Vec<String> {
    let lines = sdp.lines().filter_map(|line| line.trim().strip_prefix("a="));
    lines.filter(|line| line.starts_with("candidate:")).take(MOST_CANDIDATES).map(mended).collect()
}

/// The ICE user name of a description.
pub fn ufrag(sdp: &str) -> Option<&str> {
    sdp.lines().find_map(|line| line.trim().strip_prefix("a=ice-ufrag:"))
}

/// What `If-Match` says of the tag of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// There is none.
    Missing,
    /// `*`: whichever, which asks for a restart of ICE.
    Any,
    /// It is named.
    Same,
    /// Another is.
    Other,
}

/// Reads `If-Match`. `@eyevinn/whip-web-client` sends the tag as `ETag` instead, and some clients
/// without its quotes.
pub fn matches(if_match: Option<&str>, etag: Option<&str>, current: &str) -> Match {
    let Some(given) = if_match.or(etag) else { return Match::Missing };
    if given.trim() == "*" {
        return Match::Any;
    }
    let same = given.split(',').any(|tag| tag.trim().trim_matches('"') == current.trim_matches('"'));
    if same { Match::Same } else { Match::Other }
}

/// Candidates of ours, put into the first section of an answer that is not refused: that is the one
/// whose transport all share (RFC 9143 §7.3).
pub fn with_candidates(answer: &str, candidates: &[String]) -> String {
    let mut out = String::with_capacity(answer.len() + 128 * candidates.len());
    let (mut in_section, mut done) = (false, false);
    let write = |out: &mut String| {
        for candidate in candidates {
            out.push_str("a=");
            out.push_str(candidate);
            out.push_str("\r\n");
        }
        out.push_str("a=end-of-candidates\r\n");
    };
    for line in answer.lines() {
        if line.starts_with("m=") {
            if in_section && !done {
                write(&mut out);
                done = true;
            }
            in_section = line.split(' ').nth(1).is_some_and(|port| port != "0");
        }
        out.push_str(line);
        out.push_str("\r\n");
    }
    if in_section && !done {
        write(&mut out);
    }
    out
}

/// One `Link` header for each URL of each ICE server. OBS wants the brackets and the quotes.
pub fn links(servers: &[IceServer]) -> Vec<HeaderValue> {
    let link = |server: &IceServer, url: &str| {
        let mut link = format!("<{url}>; rel=\"ice-server\"");
        if let (Some(username), Some(credential)) = (&server.username, &server.credential) {
            let (username, credential) = (quoted(username), quoted(Secret::reveal(credential)));
            link += &format!("; username={username}; credential={credential}; credential-type=\"password\"");
        }
        HeaderValue::from_str(&link).ok()
    };
    servers.iter().flat_map(|server| server.urls.iter().filter_map(|url| link(server, url))).collect()
}

/// A quoted string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart() {
        assert_eq!(place("/whip/math"), Some(Place::Publish("math")));
        assert_eq!(place("/whip/session"), Some(Place::Publish("session")), "a room may be called that");
        assert_eq!(place("/whip/session/w_1"), Some(Place::Session(Protocol::Whip, "w_1")));
        assert_eq!(place("/whep/session/w_1"), Some(Place::Session(Protocol::Whep, "w_1")));
        assert_eq!(place("/whep/math"), Some(Place::Watch("math", None)));
        assert_eq!(place("/whep/math/mix"), Some(Place::Watch("math", Some("mix"))));
        assert_eq!(place("/whep/session/t_1"), Some(Place::Watch("session", Some("t_1"))));
        for nothing in [
            "/whip",
            "/whip/",
            "/whip/a/b",
            "/whep/",
            "/whep/a/",
            "/whep/a/b/c",
            "/whip/session/w_1/x",
            "/whipped/a",
            "whip/a",
            "/ws",
        ] {
            assert_eq!(place(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn fragments_are_read_as_clients_write_them() {
        // As RFC 9725 §4.3.1 has it.
        let standard = "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:EsAw\r\n\
            a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
            a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw\r\n\
            a=end-of-candidates\r\n";
        let fragment = super::fragment(standard).unwrap();
        assert_eq!(fragment.ufrag.as_deref(), Some("EsAw"));
        let line = "candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw";
        assert_eq!(fragment.candidates, [line]);
        // As @eyevinn/whip-web-client does.
        let eyevinn = "a=ice-ufrag:EsAw\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\nm=audio 9 RTP/AVP 0\na=mid:1\n\
            a=candidate:5 0 udp 2122260223 [2001:db8::2] 61764 typ host\n";
        assert_eq!(
            super::fragment(eyevinn).unwrap().candidates,
            ["candidate:5 1 udp 2122260223 2001:db8::2 61764 typ host"]
        );
        assert_eq!(super::fragment("").unwrap(), Fragment::default());
        for wrong in ["hello", "{\"candidate\": 1}", "candidate:1 1 udp 1 192.0.2.1 1 typ host"] {
            assert!(super::fragment(wrong).is_err(), "{wrong}");
        }
        assert!(super::fragment(&"a=candidate:1\n".repeat(65)).is_err());
    }

    #[test]
    fn tags_are_compared() {
        let current = "\"abc\"";
        assert_eq!(matches(None, None, current), Match::Missing);
        assert_eq!(matches(Some("*"), None, current), Match::Any);
        assert_eq!(matches(Some("\"x\", \"abc\""), None, current), Match::Same);
        assert_eq!(matches(Some("abc"), None, current), Match::Same);
        assert_eq!(matches(None, Some("\"abc\""), current), Match::Same);
        assert_eq!(matches(Some("\"ab\""), Some("\"abc\""), current), Match::Other);
    }

    #[test]
    fn candidates_stand_in_the_first_section_that_is_not_refused() {
        let answer =
            "v=0\r\nm=application 0 x y\r\na=mid:d\r\nm=audio 9 x y\r\na=mid:a\r\nm=video 9 x y\r\na=mid:v\r\n";
        let whole = with_candidates(answer, &["candidate:1 1 udp 1 192.0.2.1 9 typ host".into()]);
        assert_eq!(
            whole,
            "v=0\r\nm=application 0 x y\r\na=mid:d\r\nm=audio 9 x y\r\na=mid:a\r\n\
             a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=end-of-candidates\r\nm=video 9 x y\r\na=mid:v\r\n"
        );
        let last = with_candidates("v=0\r\nm=audio 9 x y\r\na=mid:a\r\n", &[]);
        assert_eq!(last, "v=0\r\nm=audio 9 x y\r\na=mid:a\r\na=end-of-candidates\r\n");
    }

    #[test]
    fn ice_servers_are_linked() {
        let turn = IceServer {
            urls: vec!["stun:a.example".into(), "turn:a.example:3478?transport=udp".into()],
            username: Some("u\"".into()),
            credential: Some(Secret::new("p;,")),
        };
        let plain = IceServer { urls: vec!["stun:b.example:3478".into()], username: None, credential: None };
        let credentials = "username=\"u\\\"\"; credential=\"p;,\"; credential-type=\"password\"";
        assert_eq!(
            links(&[turn, plain]),
            [
                format!("<stun:a.example>; rel=\"ice-server\"; {credentials}"),
                format!("<turn:a.example:3478?transport=udp>; rel=\"ice-server\"; {credentials}"),
                "<stun:b.example:3478>; rel=\"ice-server\"".to_owned(),
            ]
        );
    }
}
