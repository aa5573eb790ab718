//! One request of the HTTP API, as handlers see it: parameters decoded, body bounded.

use std::{pin::Pin, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::Value;
use warp::http::{HeaderMap, Method, StatusCode, header};

use super::{
    auth::{Caller, Peer},
    problem::Problem,
};

/// A request body, chunk by chunk.
pub type BodyStream = Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send + Sync>>;

/// A request, matched to a route and let in.
pub struct Call {
    /// GET, POST …
    pub method: Method,
    /// The path, undecoded.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Where it came in.
    pub peer: Peer,
    /// Who calls.
    pub caller: Caller,
    /// What stood in the route's `{…}` places, in order, decoded.
    pub params: Vec<String>,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// The body, not read yet.
    pub body: BodyStream,
    /// How much of a body is read, in bytes.
    pub max_body: usize,
    /// How long a body may take.
    pub body_timeout: Duration,
}

impl Call {
    /// The `n`th parameter of the path; the route's pattern has at least that many.
    pub fn param(&self, n: usize) -> &str {
        self.params.get(n).map_or("", String::as_str)
    }

    /// The first value of a query parameter.
    pub fn query(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// A header's value, if it is text.
    pub fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Reads the body as a JSON object. An empty body is the default.
    ///
    /// # Errors
    /// 400 `bad_json` or `bad_body`, 408 `body_timeout`, 413 `body_too_large`, 415 `not_json`.
    pub async fn json<T: DeserializeOwned + Default>(&mut self) -> Result<T, Problem> {
        let body = self.read().await?;
        if body.is_empty() {
            return Ok(T::default());
        }
        self.parse(&body, b'{', "the body is not a JSON object")
    }

    /// As [`Self::json`]; `check` sees the body first, and has refusals of its own.
    ///
    /// # Errors
    /// As [`Self::json`], and those of `check`.
    pub async fn json_after<T: DeserializeOwned + Default>(
        &mut self,
        check: impl FnOnce(&Value) -> Result<(), Problem>,
    ) -> Result<T, Problem> {
        let body = self.read().await?;
        if body.is_empty() {
            return Ok(T::default());
        }
        let otherwise = "the body is not a JSON object";
        check(&self.parse(&body, b'{', otherwise)?)?;
        self.parse(&body, b'{', otherwise)
    }

    /// Reads the body as a JSON list, which must be there.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub async fn json_list<T: DeserializeOwned>(&mut self) -> Result<Vec<T>, Problem> {
        let body = self.read().await?;
        self.parse(&body, b'[', "the body is not a JSON list")
    }

    /// Reads the body as it is, up to so many bytes.
    ///
    /// # Errors
    /// 400 `bad_body`, 408 `body_timeout`, 413 `body_too_large`.
    pub async fn bytes(&mut self, most: usize) -> Result<Bytes, Problem> {
        self.max_body = most;
        self.read().await
    }

    fn parse<T: DeserializeOwned>(&self, body: &[u8], opening: u8, otherwise: &str) -> Result<T, Problem> {
        // A form or a script of another site cannot set this type without asking us first (CORS).
        let kind = self.header(header::CONTENT_TYPE).unwrap_or_default();
        if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_json",
                "send the body as Content-Type: application/json",
            ));
        }
        // serde would take a list for the fields in their order, which is nobody's intention.
        if body.trim_ascii_start().first() != Some(&opening) {
            return Err(Problem::bad_request("bad_json", otherwise));
        }
        serde_json::from_slice(body).map_err(|error| Problem::bad_request("bad_json", error.to_string()))
    }

    async fn read(&mut self) -> Result<Bytes, Problem> {
        read(&mut self.body, self.max_body, self.body_timeout).await
    }
}

/// Reads a body of at most `most` bytes that takes at most `limit`.
///
/// # Errors
/// 400 `bad_body`, 408 `body_timeout`, 413 `body_too_large`.
pub async fn read(body: &mut BodyStream, most: usize, limit: Duration) -> Result<Bytes, Problem> {
    let late = || Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body took too long");
    tokio::time::timeout(limit, collect(body, most)).await.map_err(|_| late())?
}

async fn collect(chunks: &mut BodyStream, most: usize) -> Result<Bytes, Problem> {
    let mut body = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| Problem::bad_request("bad_body", error.to_string()))?;
        if body.len() + chunk.len() > most {
            let detail = format!("at most {most} bytes");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The first value of `name`.
pub fn find<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Reads a query; what is not UTF-8 is left out.
pub fn parse_query(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?))
        })
        .collect()
}

/// Undoes percent-encoding; `None` if the result is not UTF-8.
pub fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(Into::into)
}
