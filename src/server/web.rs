//! The web app, embedded in the binary from `web/`.
//!
//! In a debug build the files are read from the folder at each request, so that a change to the page
//! needs no rebuild.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rust_embed::RustEmbed;
use warp::{
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    reply::Response,
};

use super::{
    api::{answer, empty},
    problem::Problem,
    request::decode,
};

#[derive(RustEmbed)]
#[folder = "web/"]
#[exclude = "*.md"]
#[allow_missing = true]
struct Web;

/// What RFC 3986 leaves unreserved stays as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes one path segment.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// A page or a file of the web app: `/`, `/r/{room}` and `/recordings` are its start.
///
/// # Errors
/// 404 `no_such_page`, 405 `method_not_allowed`.
pub fn page(method: &Method, path: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let name = file_name(path).ok_or_else(nothing_here)?;
    let file = Web::get(&name).ok_or_else(nothing_here)?;
    if *method != Method::GET && *method != Method::HEAD {
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "pages are read with GET")
            .header(header::ALLOW, HeaderValue::from_static("GET, HEAD")));
    }
    let tag = tag_of(&file.metadata.sha256_hash());
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut response = if known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag) {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        answer(StatusCode::OK, content_type(&name), file.data.into_owned())
    };
    // Asked for again each time, so that page and server are never of two versions; mostly a 304.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

fn nothing_here() -> Problem {
    Problem::not_found("no_such_page", "there is no such page")
}

fn file_name(path: &str) -> Option<String> {
    if path == "/" || path == "/recordings" {
        return Some("index.html".into());
    }
    if let Some(room) = path.strip_prefix("/r/") {
        return (!room.is_empty() && !room.contains('/')).then(|| "index.html".into());
    }
    let name = decode(path.strip_prefix('/')?)?;
    // In a debug build the name becomes a path on the disk.
    let plain = name.split('/').all(|part| !part.is_empty() && !part.starts_with('.')) && !name.contains('\\');
    plain.then_some(name)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}

fn tag_of(hash: &[u8; 32]) -> String {
    let hex: String = hash[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_files_of_the_web_folder_only() {
        let table = [
            ("/", Some("index.html")),
            ("/r/math", Some("index.html")),
            ("/recordings", Some("index.html")),
            ("/r/", None),
            ("/r/a/b", None),
            ("/views/room.js", Some("views/room.js")),
            ("/../Cargo.toml", None),
            ("/%2e%2e/Cargo.toml", None),
            ("/..%2fCargo.toml", None),
            ("//etc/passwd", None),
            ("/.git", None),
            ("/a%5c..%5cb", None),
        ];
        for (path, name) in table {
            assert_eq!(file_name(path).as_deref(), name, "{path}");
        }
    }
}
