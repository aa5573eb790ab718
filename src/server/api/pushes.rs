//! Pushes: receivers elsewhere that are sent a room's mix.

use std::str::FromStr;

use serde::Deserialize;
use utoipa::ToSchema;
use warp::{http::StatusCode, reply::Response};

use super::{
    empty,
    ingests::{NewCredentials, check_address, credentials, room_of},
    json,
};
use crate::{
    ingest::{IngestUri, Scheme, tls::Fingerprint},
    media::push::Target,
    room::{error::OutputError, id::OutputId, model::OutputDetails},
    server::{Services, problem::Problem, request::Call},
};

/// Where to send a room's mix.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOutput {
    /// `rtmp://host/app/key`, the same with `rtmps`, or `srt://host:port` with `?streamid=…&passphrase=…` as its receiver wants it.
    #[serde(default)]
    uri: String,
    /// What the receiver asks for; may stand in `uri` instead. Shown nowhere.
    credentials: Option<NewCredentials>,
    /// The SHA-256 of the receiver's certificate (`rtmps`), if nobody vouches for it.
    fingerprint: Option<String>,
}

/// Send a room's mix (H.264 and AAC) to a receiver elsewhere, over RTMP (in TLS or not) or SRT, and go on until it is removed or the
/// room ends. All share one encode with the room's other outputs. A receiver that is lost is called again.
#[utoipa::path(
    post, path = "/api/rooms/{room}/outputs", tag = "outputs",
    params(("room" = String, Path, description = "its name")), request_body = NewOutput,
    responses(
        (status = 201, body = OutputDetails),
        (status = 400, description = "`bad_uri`, `bad_setting`, `bad_json`", body = Problem),
        (status = 403, description = "`address_not_allowed`: `detail` has the setting that permits it; `not_allowed`: moderators only", body = Problem),
        (status = 404, description = "`no_such_room`", body = Problem),
        (status = 409, description = "`too_many_outputs`", body = Problem),
        (status = 503, description = "`mix_unavailable`", body = Problem),
    ),
)]
pub async fn add(services: &Services, mut call: Call) -> Result<Response, Problem> {
    let NewOutput { uri, credentials: given, fingerprint } = call.json().await?;
    let (uri, from_uri) = IngestUri::parse(&uri)?;
    if !matches!(uri.scheme, Scheme::Rtmp | Scheme::Rtmps | Scheme::Srt) {
        let detail = format!("`uri` has the scheme `{}`; rtmp, rtmps and srt can be pushed to", uri.scheme.name());
        return Err(Problem::bad_request("bad_uri", detail).field("uri"));
    }
    let credentials = credentials(given)?.or(from_uri);
    let fingerprint = fingerprint.as_deref().map(str::parse::<Fingerprint>).transpose().map_err(|problem| {
        Problem::bad_request("bad_setting", format!("`fingerprint` {problem}")).field("fingerprint")
    })?;
    let (room, caller) = room_of(services, &call).await?;
    // Whoever may not add one is not told what may be dialled either.
    room.pushes(caller.clone()).await?;
    check_address(services, &uri).await?;
    let target = Target { uri, credentials, allow: services.ingest_allow.clone(), fingerprint };
    json(StatusCode::CREATED, &room.add_push(caller, target).await?)
}

/// Where a room's mix is sent, in the order it was added.
#[utoipa::path(
    get, path = "/api/rooms/{room}/outputs", tag = "outputs",
    params(("room" = String, Path, description = "its name")),
    responses((status = 200, body = [OutputDetails]), (status = 404, description = "`no_such_room`", body = Problem)),
)]
pub async fn list(services: &Services, call: Call) -> Result<Response, Problem> {
    let (room, caller) = room_of(services, &call).await?;
    json(StatusCode::OK, &room.pushes(caller).await?)
}

/// Send it there no more.
#[utoipa::path(
    delete, path = "/api/rooms/{room}/outputs/{id}", tag = "outputs",
    params(("room" = String, Path, description = "its name"), ("id" = String, Path, description = "which")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, description = "`no_such_room`, `no_such_output`", body = Problem),
    ),
)]
pub async fn remove(services: &Services, call: Call) -> Result<Response, Problem> {
    let (room, caller) = room_of(services, &call).await?;
    let which = OutputId::from_str(call.param(1)).unwrap_or_else(|never| match never {});
    room.remove_push(caller, which).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

impl From<OutputError> for Problem {
    fn from(error: OutputError) -> Self {
        let detail = error.to_string();
        match error {
            OutputError::NotAllowed => Self::forbidden("not_allowed", detail),
            OutputError::NotInRoom => Self::forbidden("not_in_room", detail),
            OutputError::TooMany { .. } => Self::new(StatusCode::CONFLICT, "too_many_outputs", detail),
            OutputError::NoMix => Self::new(StatusCode::SERVICE_UNAVAILABLE, "mix_unavailable", detail),
            OutputError::Unknown => Self::not_found("no_such_output", detail),
            OutputError::Gone(gone) => gone.into(),
        }
    }
}
