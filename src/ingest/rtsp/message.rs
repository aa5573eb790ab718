//! RTSP messages as bytes, within bounds: whatever a server sends, this holds a few hundred KiB.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of a message's head.
const MAX_HEAD: usize = 16 * 1024;
/// Header lines of a message.
const MAX_HEADERS: usize = 64;
/// Bytes of a body: a description of a hundred streams has less.
pub(crate) const MAX_BODY: usize = 256 * 1024;

/// What the other side sends.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Incoming {
    Response(Response),
    Request(Request),
    /// RTP or RTCP within the connection (RFC 2326 §10.12).
    Data {
        channel: u8,
        bytes: Bytes,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

/// What is asked. Its body was skipped: no method that is known here has one that matters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// As it was named, an address or `*`.
    pub(crate) uri: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// The first header of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let named = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// Its number, to be repeated in the answer; empty if it has none.
    pub(crate) fn cseq(&self) -> &str {
        self.header("CSeq").unwrap_or_default()
    }
}

impl Response {
    /// The first header of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn cseq(&self) -> Option<u32> {
        self.header("CSeq")?.trim().parse().ok()
    }
}

/// Takes the next whole message out of `buffer`; `None`: more bytes are needed.
///
/// # Errors
/// What is wrong with it, in a few words.
pub(crate) fn take(buffer: &mut BytesMut) -> Result<Option<Incoming>, String> {
    // Some servers end a body with a line break too many.
    while buffer.first().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
        buffer.advance(1);
    }
    match buffer.first() {
        None => Ok(None),
        Some(b'$') => Ok(take_data(buffer)),
        Some(_) => take_message(buffer),
    }
}

fn take_data(buffer: &mut BytesMut) -> Option<Incoming> {
    let &[_, channel, high, low] = buffer.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if buffer.len() < 4 + length {
        return None;
    }
    buffer.advance(4);
    Some(Incoming::Data { channel, bytes: buffer.split_to(length).freeze() })
}

fn take_message(buffer: &mut BytesMut) -> Result<Option<Incoming>, String> {
    let Some(head_length) = end_of_head(buffer) else {
        let cut_off = buffer.len() > MAX_HEAD;
        return if cut_off { Err(format!("a head of more than {MAX_HEAD} bytes")) } else { Ok(None) };
    };
    let head = std::str::from_utf8(&buffer[..head_length]).map_err(|_| "a head that is not text")?;
    let mut lines = head.split('\n').map(|line| line.trim_end_matches('\r'));
    let first = lines.next().unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or("a header without a colon")?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
        if headers.len() > MAX_HEADERS {
            return Err(format!("more than {MAX_HEADERS} headers"));
        }
    }
    let named =
        |wanted: &str| headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value);
    let body_length = match named("Content-Length") {
        None => 0,
        Some(text) => {
            text.parse().ok().filter(|length| *length <= MAX_BODY).ok_or("a body that is too long, or of no length")?
        }
    };
    if buffer.len() < head_length + body_length {
        return Ok(None);
    }
    let message = match first.strip_prefix("RTSP/").or_else(|| first.strip_prefix("HTTP/")) {
        Some(rest) => {
            let status = rest.split_ascii_whitespace().nth(1).and_then(|status| status.parse().ok());
            let status = status.filter(|status| (100..600).contains(status)).ok_or("an answer without a status")?;
            buffer.advance(head_length);
            Incoming::Response(Response { status, headers, body: buffer.split_to(body_length).freeze() })
        }
        None => {
            let mut words = first.split_ascii_whitespace();
            let (Some(method), Some(uri), Some(version)) = (words.next(), words.next(), words.next()) else {
                return Err("neither a message nor a packet".into());
            };
            if !version.starts_with("RTSP/") {
                return Err("neither a message nor a packet".into());
            }
            let (method, uri) = (method.to_owned(), uri.to_owned());
            buffer.advance(head_length + body_length);
            Incoming::Request(Request { method, uri, headers })
        }
    };
    Ok(Some(message))
}

/// Where the empty line that ends a head is over.
fn end_of_head(buffer: &[u8]) -> Option<usize> {
    let within = &buffer[..buffer.len().min(MAX_HEAD)];
    let ends =
        |ending: &[u8]| within.windows(ending.len()).position(|window| window == ending).map(|at| at + ending.len());
    match (ends(b"\r\n\r\n"), ends(b"\n\n")) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<Incoming>, String> {
        let mut buffer = BytesMut::from(bytes);
        let mut found = Vec::new();
        while let Some(message) = take(&mut buffer)? {
            found.push(message);
        }
        Ok(found)
    }

    #[test]
    fn answers_packets_and_requests_are_told_apart_however_they_are_cut() {
        let bytes = b"RTSP/1.0 200 OK\r\ncseq: 3\r\nContent-Length: 4\r\n\r\nv=0\n$\x01\x00\x02abRTSP/1.0 404 Not Found\nCSeq:4\n\n\
                      \r\nOPTIONS rtsp://x RTSP/1.0\r\nCSeq: 7\r\n\r\n";
        let whole = all(bytes).unwrap();
        let [Incoming::Response(described), data, Incoming::Response(missing), request] = &whole[..] else {
            panic!("{whole:?}")
        };
        assert_eq!((described.status, described.cseq(), &described.body[..]), (200, Some(3), &b"v=0\n"[..]));
        assert_eq!(*data, Incoming::Data { channel: 1, bytes: Bytes::from_static(b"ab") });
        assert_eq!((missing.status, missing.cseq()), (404, Some(4)));
        let Incoming::Request(request) = request else { panic!("{request:?}") };
        assert_eq!((request.method.as_str(), request.uri.as_str(), request.cseq()), ("OPTIONS", "rtsp://x", "7"));
        let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
        for byte in bytes {
            buffer.extend_from_slice(&[*byte]);
            found.extend(take(&mut buffer).unwrap());
        }
        assert_eq!(found, whole);
    }

    #[test]
    fn what_is_too_much_or_makes_no_sense_is_refused() {
        let endless = [b"RTSP/1.0 200 OK\r\nX: ".as_slice(), &vec![b'a'; MAX_HEAD]].concat();
        let many = format!("RTSP/1.0 200 OK\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS + 1));
        let cases: [&[u8]; 11] = [
            &endless,
            many.as_bytes(),
            b"RTSP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"RTSP/1.0 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            b"RTSP/1.0 200 OK\r\nContent-Length: 262145\r\n\r\n",
            b"RTSP/1.0 200 OK\r\nno colon\r\n\r\n",
            b"RTSP/1.0\r\n\r\n",
            b"RTSP/1.0 9999 ?\r\n\r\n",
            b"RTSP/1.0 \xff\xfe OK\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
            b"\0\0\0\n\n",
        ];
        for case in cases {
            assert!(all(case).is_err(), "{:?}", String::from_utf8_lossy(&case[..case.len().min(60)]));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_do_harm(bytes: Vec<u8>) {
            let _ = all(&bytes);
            let _ = all(&[b"RTSP/1.0 200 OK\r\n", &bytes[..]].concat());
        }
    }
}
