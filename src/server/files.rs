//! One file over HTTP: conditions and ranges (RFC 9110 §13 and §14), also while the file grows.

use std::{fmt::Write as _, io::SeekFrom, os::unix::fs::MetadataExt as _, path::PathBuf, time::UNIX_EPOCH};

use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};
use tokio_util::io::ReaderStream;
use warp::{
    Reply,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    reply::Response,
};

use super::{api::empty, problem::Problem, web};

/// Bytes read from the disk at once.
const CHUNK: usize = 64 * 1024;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The file.
    pub path: PathBuf,
    /// Its media type.
    pub kind: &'static str,
    /// It is being written: as long as it is now; what is there of it stays the same.
    pub grows: bool,
    /// The name to save it under; `None`: to be shown.
    pub save_as: Option<String>,
    /// HEAD.
    pub head_only: bool,
}

/// Answers with the file, or a part of it.
///
/// # Errors
/// 404 `no_file`, 416 `bad_range`.
pub async fn answer(wanted: Wanted, headers: &HeaderMap) -> Result<Response, Problem> {
    let no_file = |_| Problem::not_found("no_file", "the recording has no file (yet)");
    let mut file = File::open(&wanted.path).await.map_err(no_file)?;
    let meta = file.metadata().await.map_err(no_file)?;
    let length = meta.len();
    let tag = if wanted.grows {
        // What was served of it stays as it is, so that a download may go on where it was cut off. The
        // finished file is another one.
        format!("\"growing-{:x}\"", meta.ino())
    } else {
        let modified = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        format!("\"{length:x}-{:x}\"", modified.map_or(0, |since| since.as_nanos()))
    };
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let conditions = Conditions {
        range: text(header::RANGE),
        if_range: text(header::IF_RANGE),
        // Since a growing file was asked for last, it has grown.
        if_none_match: text(header::IF_NONE_MATCH).filter(|_| !wanted.grows),
    };
    let (status, from, count) = match decide(&conditions, &tag, length) {
        Plan::Whole => (StatusCode::OK, 0, length),
        Plan::Part { from, last } => (StatusCode::PARTIAL_CONTENT, from, last - from + 1),
        Plan::NotModified => return Ok(describe(empty(StatusCode::NOT_MODIFIED), &wanted, &tag)),
        Plan::Unsatisfiable => return Err(unsatisfiable(length)),
    };
    let body = if wanted.head_only {
        Response::default()
    } else {
        file.seek(SeekFrom::Start(from)).await.map_err(no_file)?;
        warp::reply::stream(ReaderStream::with_capacity(file.take(count), CHUNK)).into_response()
    };
    let mut response = describe(body, &wanted, &tag);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_LENGTH, count.into());
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {from}-{}/{length}", from + count - 1);
        response.headers_mut().insert(header::CONTENT_RANGE, ascii(&range));
    }
    Ok(response)
}

fn describe(mut response: Response, wanted: &Wanted, tag: &str) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(wanted.kind));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // Only the browser that was let in keeps it, and asks again each time.
    let cache = if wanted.grows { "no-store" } else { "private, no-cache" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::ETAG, ascii(tag));
    if let Some(name) = &wanted.save_as {
        headers.insert(header::CONTENT_DISPOSITION, ascii(&disposition(name)));
    }
    response
}

fn unsatisfiable(length: u64) -> Problem {
    Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "bad_range", format!("the file has {length} bytes"))
        .header(header::CONTENT_RANGE, ascii(&format!("bytes */{length}")))
}

/// Our own texts are ASCII; what is not would be left out.
fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// `attachment` with the name for new clients (RFC 6266, UTF-8) and an ASCII likeness for old ones.
fn disposition(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|character| match character {
            '"' | '\\' | '/' => '_',
            character if character.is_ascii_graphic() || character == ' ' => character,
            _ => '_',
        })
        .collect();
    // Who takes the name as it is must not be led to another folder.
    let name = name.replace(['/', '\\'], "_");
    let mut text = format!("attachment; filename=\"{plain}\"");
    let _ = write!(text, "; filename*=UTF-8''{}", web::encode(&name));
    text
}

/// What a request asks about the file.
#[derive(Clone, Copy, Debug, Default)]
struct Conditions<'a> {
    range: Option<&'a str>,
    if_range: Option<&'a str>,
    if_none_match: Option<&'a str>,
}

#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Whole,
    Part { from: u64, last: u64 },
    NotModified,
    Unsatisfiable,
}

fn decide(conditions: &Conditions<'_>, tag: &str, length: u64) -> Plan {
    if let Some(known) = conditions.if_none_match
        && known.split(',').any(|known| known.trim() == "*" || known.trim().trim_start_matches("W/") == tag)
    {
        return Plan::NotModified;
    }
    let Some(range) = conditions.range else { return Plan::Whole };
    // If-Range compares strongly.
    if conditions.if_range.is_some_and(|known| tag != known.trim()) {
        return Plan::Whole;
    }
    parse_range(range, length)
}

/// One range of bytes. Several, other units and what cannot be read are answered with the whole
/// file, as RFC 9110 §14.2 allows.
fn parse_range(range: &str, length: u64) -> Plan {
    let Some((unit, spec)) = range.split_once('=') else { return Plan::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return Plan::Whole;
    }
    let Some((first, last)) = spec.trim().split_once('-') else { return Plan::Whole };
    match (number(first), number(last)) {
        (Some(Number::Is(from)), Some(Number::Is(last))) if from > last => Plan::Whole,
        (Some(Number::Is(from)), _) if from >= length => Plan::Unsatisfiable,
        (Some(Number::Is(from)), Some(Number::Is(last))) => Plan::Part { from, last: last.min(length - 1) },
        (Some(Number::Is(from)), Some(Number::Absent)) => Plan::Part { from, last: length - 1 },
        (Some(Number::Absent), Some(Number::Is(0))) => Plan::Unsatisfiable,
        (Some(Number::Absent), Some(Number::Is(_))) if length == 0 => Plan::Unsatisfiable,
        (Some(Number::Absent), Some(Number::Is(count))) => {
            Plan::Part { from: length - count.min(length), last: length - 1 }
        }
        _ => Plan::Whole,
    }
}

enum Number {
    Absent,
    Is(u64),
}

/// `None`: neither absent nor a number. A number past 64 bits is as good as the largest.
fn number(text: &str) -> Option<Number> {
    if text.is_empty() {
        return Some(Number::Absent);
    }
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| Number::Is(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let part = |from, last| Plan::Part { from, last };
        let table = [
            ("bytes=0-0", part(0, 0)),
            ("bytes=0-", part(0, 99)),
            ("bytes=10-19", part(10, 19)),
            ("Bytes=10-19", part(10, 19)),
            ("bytes=90-1000", part(90, 99)),
            ("bytes=99-", part(99, 99)),
            ("bytes=-1", part(99, 99)),
            ("bytes=-1000", part(0, 99)),
            ("bytes=100-", Plan::Unsatisfiable),
            ("bytes=100-200", Plan::Unsatisfiable),
            ("bytes=99999999999999999999-", Plan::Unsatisfiable),
            ("bytes=-0", Plan::Unsatisfiable),
            ("bytes=0-99999999999999999999", part(0, 99)),
            ("bytes=20-10", Plan::Whole),
            ("bytes=0-1,5-6", Plan::Whole),
            ("bytes=-", Plan::Whole),
            ("bytes=a-b", Plan::Whole),
            ("bytes=+1-2", Plan::Whole),
            ("bytes", Plan::Whole),
            ("lines=1-2", Plan::Whole),
        ];
        for (range, plan) in table {
            assert_eq!(parse_range(range, 100), plan, "{range}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Plan::Unsatisfiable);
        assert_eq!(parse_range("bytes=-5", 0), Plan::Unsatisfiable);
    }

    #[test]
    fn conditions() {
        let tag = "\"a\"";
        let range = Some("bytes=1-2");
        let plan = |conditions| decide(&conditions, tag, 100);
        let given = Conditions { range, ..Default::default() };
        assert_eq!(plan(given), Plan::Part { from: 1, last: 2 });
        assert_eq!(plan(Conditions { if_range: Some(tag), ..given }), Plan::Part { from: 1, last: 2 });
        assert_eq!(plan(Conditions { if_range: Some("\"b\""), ..given }), Plan::Whole);
        assert_eq!(plan(Conditions { if_range: Some("W/\"a\""), ..given }), Plan::Whole);
        assert_eq!(plan(Conditions { if_none_match: Some("\"b\", W/\"a\""), ..given }), Plan::NotModified);
        assert_eq!(plan(Conditions { if_none_match: Some("*"), ..given }), Plan::NotModified);
    }

    #[test]
    fn names_to_save_under_are_readable_and_cannot_break_out() {
        assert_eq!(
            disposition("수업 \"1\"\r\n.mp4"),
            "attachment; filename=\"__ _1___.mp4\"; filename*=UTF-8''%EC%88%98%EC%97%85%20%221%22%0D%0A.mp4"
        );
        assert_eq!(disposition("../a\\b"), "attachment; filename=\".._a_b\"; filename*=UTF-8''.._a_b");
    }
}
