//! What the routes do, one file for each kind of thing.

use serde::Serialize;
use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use super::problem::Problem;

pub mod access;
pub mod effects;
pub mod ingests;
pub mod outputs;
pub mod participants;
pub mod pictures;
pub mod pushes;
pub mod qr;
pub mod recording_files;
pub mod recordings;
pub mod rooms;
pub mod server;

/// An answer in JSON, which nobody keeps.
pub fn json(status: StatusCode, value: &impl Serialize) -> Result<Response, Problem> {
    let body = serde_json::to_vec(value).map_err(|error| {
        tracing::error!("an answer could not be written as JSON: {error}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the answer could not be written")
    })?;
    Ok(answer(status, "application/json", body))
}

/// An answer that nobody keeps.
pub fn answer(status: StatusCode, kind: &'static str, body: impl Into<bytes::Bytes>) -> Response {
    let mut response = Response::new(body.into().into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}
