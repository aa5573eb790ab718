//! Participants: who is there; remove one.

use std::str::FromStr;

use warp::{http::StatusCode, reply::Response};

use super::{empty, json, rooms::find};
use crate::{
    room::{command::Caller, id::ParticipantId, model::ParticipantView},
    server::{Services, problem::Problem, request::Call},
};

/// Who is in a room, in the order they came.
#[utoipa::path(
    get, path = "/api/rooms/{room}/participants", tag = "participants",
    params(("room" = String, Path, description = "its name")),
    responses((status = 200, body = [ParticipantView]), (status = 404, description = "`no_such_room`", body = Problem)),
)]
pub async fn list(services: &Services, call: Call) -> Result<Response, Problem> {
    json(StatusCode::OK, &find(services, &call)?.view().await?.participants)
}

/// Remove somebody from a room.
#[utoipa::path(
    delete, path = "/api/rooms/{room}/participants/{id}", tag = "participants",
    params(("room" = String, Path, description = "its name"), ("id" = String, Path, description = "whom")),
    responses(
        (status = 204, description = "He is out."),
        (status = 404, description = "`no_such_room`, `no_such_participant`", body = Problem),
    ),
)]
pub async fn remove(services: &Services, call: Call) -> Result<Response, Problem> {
    let room = find(services, &call)?;
    let whom = ParticipantId::from_str(call.param(1)).unwrap_or_else(|never| match never {});
    room.remove(Caller::Owner, whom).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
