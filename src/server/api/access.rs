//! A key for the owner's browser, which cannot send his secret with what it loads by itself.

use serde::Serialize;
use utoipa::ToSchema;
use warp::{http::StatusCode, reply::Response};

use super::json;
use crate::server::{Services, auth::VIEWING_TIME, problem::Problem};

/// Opens recordings, to be seen and kept, and nothing else.
#[derive(Serialize, ToSchema)]
pub struct ViewingKey {
    /// For the parameter `access` of a recording's addresses.
    access: String,
    /// Seconds until it opens nothing any more.
    expires_in_s: u64,
}

/// Get a key for a player or a browser: it opens the addresses of recordings, in the parameter `access`, for twelve
/// hours. The secret itself is not taken from an address.
#[utoipa::path(
    post, path = "/api/access", tag = "recordings",
    responses((status = 201, body = ViewingKey), (status = 401, description = "`bad_credentials`", body = Problem)),
)]
pub fn grant(services: &Services) -> Result<Response, Problem> {
    let key = ViewingKey { access: services.gate.viewing_key(), expires_in_s: VIEWING_TIME.as_secs() };
    json(StatusCode::CREATED, &key)
}
