//! Rooms: list, make, look, change, close; their graph and their events.

use std::time::Duration;

use futures_util::future::join_all;
use serde::Deserialize;
use utoipa::ToSchema;
use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use super::{answer, empty, json, recordings::check_layout};
use crate::{
    media::{CodecName, LayoutSpec, RecordingSpec, graph::Graph},
    room::{
        RoomHandle,
        command::Caller,
        event::CloseReason,
        id::random_text,
        model::{RoomChange, RoomSettings, RoomView},
    },
    server::{Services, drawing, problem::Problem, request::Call, sse},
};

/// A room that has not ended its media by then goes on ending it behind our back.
const CLOSE_LIMIT: Duration = Duration::from_secs(25);

/// What a new room is like; what is left out takes the server's default.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewRoom {
    /// Its name, which is also its address; left out: a random one.
    name: Option<String>,
    /// 1 to 32 printable characters that everyone must give to enter.
    pin: Option<String>,
    /// 1 to the server's limit.
    max_participants: Option<usize>,
    /// Codecs publishers may use, in order of preference.
    codecs: Option<Vec<CodecName>>,
    /// Begin this recording when the first publisher comes.
    recording: Option<RecordingSpec>,
    /// Seconds the room stays after the last participant left (0 to 86,400).
    linger_s: Option<u64>,
}

/// All rooms, by name.
#[utoipa::path(get, path = "/api/rooms", tag = "rooms", responses((status = 200, body = [RoomView])))]
pub async fn list(services: &Services) -> Result<Response, Problem> {
    let rooms = services.registry.list();
    let views = join_all(rooms.iter().map(|(_, room)| room.view())).await;
    // A room that closed while we asked is no longer there.
    let views: Vec<RoomView> = views.into_iter().flatten().collect();
    json(StatusCode::OK, &views)
}

/// Make a room.
#[utoipa::path(
    post, path = "/api/rooms", tag = "rooms", request_body = NewRoom,
    responses(
        (status = 201, body = RoomView),
        (status = 400, description = "`bad_room_name`, `bad_setting`, `bad_layout`, `bad_json`", body = Problem),
        (status = 409, description = "`room_exists`", body = Problem),
        (status = 429, description = "`pin_locked`: opened with a PIN five times within 30 s", body = Problem),
        (status = 503, description = "`too_many_rooms`, `shutting_down`", body = Problem),
    ),
)]
pub async fn create(services: &Services, mut call: Call) -> Result<Response, Problem> {
    let NewRoom { name, pin, max_participants, codecs, recording, linger_s } =
        call.json_after(|body| check_layout(&body["recording"])).await?;
    let name = name.unwrap_or_else(|| random_text(10).to_lowercase());
    let room = services.registry.create(&name, RoomSettings { pin, max_participants, codecs, recording, linger_s })?;
    let view = room.view().await?;
    let mut response = json(StatusCode::CREATED, &view)?;
    if let Ok(place) = HeaderValue::from_str(&format!("/api/rooms/{}", crate::server::web::encode(&view.name))) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// A room as it is.
#[utoipa::path(
    get, path = "/api/rooms/{room}", tag = "rooms", params(("room" = String, Path, description = "its name")),
    responses((status = 200, body = RoomView), (status = 404, description = "`no_such_room`", body = Problem)),
)]
pub async fn get(services: &Services, call: Call) -> Result<Response, Problem> {
    json(StatusCode::OK, &find(services, &call)?.view().await?)
}

/// Change a room's PIN, limit or linger.
#[utoipa::path(
    patch, path = "/api/rooms/{room}", tag = "rooms", params(("room" = String, Path, description = "its name")),
    request_body = RoomChange,
    responses(
        (status = 200, body = RoomView),
        (status = 400, description = "`bad_setting`, `bad_json`", body = Problem),
        (status = 404, description = "`no_such_room`", body = Problem),
    ),
)]
pub async fn change(services: &Services, mut call: Call) -> Result<Response, Problem> {
    let room = find(services, &call)?;
    let change: RoomChange = call.json().await?;
    json(StatusCode::OK, &room.change(change).await?)
}

/// Close a room: its recordings are ended, everybody in it is told.
#[utoipa::path(
    delete, path = "/api/rooms/{room}", tag = "rooms", params(("room" = String, Path, description = "its name")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 202, description = "It is closed; its media takes longer than usual to end."),
        (status = 404, description = "`no_such_room`", body = Problem),
    ),
)]
pub async fn close(services: &Services, call: Call) -> Result<Response, Problem> {
    let room = find(services, &call)?;
    match tokio::time::timeout(CLOSE_LIMIT, room.close(CloseReason::Deleted)).await {
        Ok(closed) => closed.map(|()| empty(StatusCode::NO_CONTENT)).map_err(Problem::from),
        Err(_) => Ok(empty(StatusCode::ACCEPTED)),
    }
}

/// Lay out the mix, and recordings that follow the room, anew.
#[utoipa::path(
    put, path = "/api/rooms/{room}/layout", tag = "rooms", params(("room" = String, Path, description = "its name")),
    request_body = LayoutSpec,
    responses(
        (status = 200, body = LayoutSpec),
        (status = 400, description = "`bad_layout` with its `field`, `bad_json`", body = Problem),
        (status = 404, description = "`no_such_room`", body = Problem),
    ),
)]
pub async fn set_layout(services: &Services, mut call: Call) -> Result<Response, Problem> {
    let room = find(services, &call)?;
    let layout = LayoutSpec::from_json(call.json().await?)?;
    json(StatusCode::OK, &room.set_layout(Caller::Owner, layout).await?)
}

/// The room's media graph, as JSON, DOT or SVG (by `format`, else by `Accept`).
#[utoipa::path(
    get, path = "/api/rooms/{room}/graph", tag = "rooms",
    params(
        ("room" = String, Path, description = "its name"),
        ("format" = Option<String>, Query, description = "`json`, `dot` or `svg`"),
    ),
    responses(
        (status = 200, body = Graph),
        (status = 400, description = "`bad_format`", body = Problem),
        (status = 404, description = "`no_such_room`", body = Problem),
    ),
)]
pub async fn graph(services: &Services, call: Call) -> Result<Response, Problem> {
    let format = graph_format(&call)?;
    let graph = find(services, &call)?.graph().await?;
    match format {
        GraphFormat::Json => json(StatusCode::OK, &graph),
        GraphFormat::Dot => Ok(answer(StatusCode::OK, "text/vnd.graphviz; charset=utf-8", drawing::dot(&graph))),
        GraphFormat::Svg => Ok(answer(StatusCode::OK, "image/svg+xml", drawing::svg(call.param(0), &graph))),
    }
}

/// What happens in a room: server-sent events. First `room` with the room as it is, then every
/// event that goes to everybody, named and shaped as in the native protocol.
#[utoipa::path(
    get, path = "/api/rooms/{room}/events", tag = "rooms", params(("room" = String, Path, description = "its name")),
    responses(
        (status = 200, description = "events", content_type = "text/event-stream", body = String),
        (status = 404, description = "`no_such_room`", body = Problem),
        (status = 503, description = "`too_many_listeners`, `room_busy`", body = Problem),
    ),
)]
pub async fn events(services: &Services, call: Call) -> Result<Response, Problem> {
    let (view, events) = find(services, &call)?.listen().await?;
    Ok(sse::answer(&view, events, services.limits.sse_keep_alive, services.stop.clone()))
}

/// The room a request names.
pub fn find(services: &Services, call: &Call) -> Result<RoomHandle, Problem> {
    services.registry.find(call.param(0)).ok_or_else(Problem::no_such_room)
}

enum GraphFormat {
    Json,
    Dot,
    Svg,
}

fn graph_format(call: &Call) -> Result<GraphFormat, Problem> {
    match call.query("format") {
        Some("json") => Ok(GraphFormat::Json),
        Some("dot") => Ok(GraphFormat::Dot),
        Some("svg") => Ok(GraphFormat::Svg),
        Some(_) => Err(Problem::bad_request("bad_format", "`format` is json, dot or svg").field("format")),
        None => {
            let accepted = call.header(header::ACCEPT).unwrap_or_default();
            // The first that is named wins; a browser's address line asks for `*/*` and gets JSON.
            let named = accepted.split(',').find_map(|kind| match kind.split(';').next().map(str::trim) {
                Some("image/svg+xml") => Some(GraphFormat::Svg),
                Some("text/vnd.graphviz") => Some(GraphFormat::Dot),
                Some("application/json") => Some(GraphFormat::Json),
                _ => None,
            });
            Ok(named.unwrap_or(GraphFormat::Json))
        }
    }
}
