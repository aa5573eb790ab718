//! Recordings: start, pause, stop, list, look, remove.
//!
//! A participant sees what was recorded in rooms of his room's name and PIN, and a moderator may remove it;
//! what he may not see does not exist for him.

use std::{str::FromStr, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use warp::{http::StatusCode, reply::Response};

use super::{empty, json};
use crate::{
    media::{LayoutChoice, RecordingSpec},
    recording::Recording,
    room::{
        RoomHandle,
        command::Caller as RoomCaller,
        error::RecordError,
        id::RecordingId,
        model::{RecordingState, RoomRecordingView},
    },
    server::{Services, problem::Problem, request::Call},
};

/// `wait_s` is at most this.
const MAX_WAIT_S: u64 = 120;
/// `undo_s` is at most this: a day.
const MAX_UNDO_S: u64 = 86_400;
/// The keeper notes a recording well within this.
const NOTED_LIMIT: Duration = Duration::from_secs(5);

/// A recording in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "described here, read by place")]
pub struct Which {
    /// Its identifier.
    id: String,
}

/// How a page shows who asks, where it cannot set headers.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "described here, read by name")]
pub struct Access {
    /// A participant's access token.
    access: Option<String>,
}

/// Start recording a room; the room is made if there is none of that name.
#[utoipa::path(
    post, path = "/api/rooms/{room}/recordings", tag = "recordings",
    params(("room" = String, Path, description = "its name")),
    request_body = RecordingSpec,
    responses(
        (status = 201, body = Recording),
        (status = 400, description = "`bad_room_name`, `bad_setting`, `bad_layout`, `bad_json`", body = Problem),
        (status = 409, description = "`too_many_recordings`", body = Problem),
        (status = 503, description = "`too_many_rooms`, `server_busy`, `catalogue_busy`, `shutting_down`", body = Problem),
        (status = 507, description = "`disk_full`", body = Problem),
    ),
)]
pub async fn start(services: &Services, mut call: Call) -> Result<Response, Problem> {
    let spec: RecordingSpec = call.json_after(check_layout).await?;
    // A recording that cannot be must not leave an empty room behind.
    services.registry.check_recording(&spec)?;
    let room = services.registry.find_or_create(call.param(0))?;
    let begun = room.record(RoomCaller::Owner, spec).await?;
    let noted = services.keeper.wait(&begun.id, NOTED_LIMIT, |recording| recording.is_some()).await?;
    let mut recording = noted.ok_or_else(|| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "catalogue_failed",
            format!("recording {} was begun, but the catalogue does not know it yet", begun.id),
        )
    })?;
    recording.state = further(recording.state, begun.state);
    json(StatusCode::CREATED, &recording)
}

/// A layout is refused with its own field, not as a body that is not understood.
///
/// # Errors
/// 400 `bad_layout`
pub(super) fn check_layout(spec: &Value) -> Result<(), Problem> {
    let layout = spec.get("layout").filter(|layout| !layout.is_null());
    Ok(layout.cloned().map(LayoutChoice::from_json).transpose().map(drop)?)
}

/// Stop a recording. Answers at once, `finalising`; with `wait_s` the answer is held until the
/// recording is `ready` or `failed`, or the time is over. Stopping what is over answers with what
/// it came to.
#[utoipa::path(
    post, path = "/api/recordings/{id}/stop", tag = "recordings",
    params(
        Which,
        ("wait_s" = Option<u64>, Query, description = "seconds to wait for the end, 0 to 120"),
    ),
    responses(
        (status = 200, description = "It is `ready` or `failed`.", body = Recording),
        (status = 202, description = "It is `finalising`.", body = Recording),
        (status = 400, description = "`bad_wait`", body = Problem),
        (status = 404, description = "`no_such_recording`", body = Problem),
    ),
)]
pub async fn stop(services: &Services, call: Call) -> Result<Response, Problem> {
    let wait = seconds_of(&call, "wait_s", "bad_wait", MAX_WAIT_S)?;
    let recording = find(services, &call).await?;
    if !recording.state.is_final() {
        end_in_room(services, &recording).await?;
    }
    let over = |recording: Option<&Recording>| recording.is_none_or(|recording| recording.state.is_final());
    let recording = services.keeper.wait(&recording.id, wait, over).await?.ok_or_else(Problem::no_such_recording)?;
    let status = if recording.state.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED };
    json(status, &recording)
}

/// Pause a recording: what happens from now on is left out of its file.
#[utoipa::path(
    post, path = "/api/recordings/{id}/pause", tag = "recordings",
    params(Which),
    responses(
        (status = 200, description = "It is `paused`.", body = Recording),
        (status = 404, description = "`no_such_recording`", body = Problem),
        (status = 409, description = "`already_paused`, `not_recording`", body = Problem),
    ),
)]
pub async fn pause(services: &Services, call: Call) -> Result<Response, Problem> {
    let recording = find(services, &call).await?;
    let room = room_of(services, &recording)?;
    let view = room.pause_recording(RoomCaller::Owner, recording.id.clone()).await.map_err(of_known)?;
    as_noted(services, &view.id, StatusCode::OK, |noted| {
        !matches!(noted.state, RecordingState::Starting | RecordingState::Recording)
    })
    .await
}

/// Resume a recording: it goes on in the same file, without a gap.
#[utoipa::path(
    post, path = "/api/recordings/{id}/resume", tag = "recordings",
    params(Which),
    responses(
        (status = 200, description = "It is `recording`.", body = Recording),
        (status = 404, description = "`no_such_recording`", body = Problem),
        (status = 409, description = "`not_paused`, `not_recording`", body = Problem),
    ),
)]
pub async fn resume(services: &Services, call: Call) -> Result<Response, Problem> {
    let recording = find(services, &call).await?;
    let room = room_of(services, &recording)?;
    let view = room.resume_recording(RoomCaller::Owner, recording.id.clone()).await.map_err(of_known)?;
    as_noted(services, &view.id, StatusCode::OK, |noted| noted.state != RecordingState::Paused).await
}

/// A marker as it is asked for.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewMarker {
    /// 1 to 128 printable characters; without it, the marker gets its number.
    pub title: Option<String>,
}

/// Name this moment of a recording; the markers become the file's chapters.
#[utoipa::path(
    post, path = "/api/recordings/{id}/markers", tag = "recordings",
    params(Which),
    request_body = NewMarker,
    responses(
        (status = 201, body = Recording),
        (status = 400, description = "`bad_marker`, `bad_json`", body = Problem),
        (status = 404, description = "`no_such_recording`", body = Problem),
        (status = 409, description = "`not_recording`, `too_many_markers`", body = Problem),
    ),
)]
pub async fn mark(services: &Services, mut call: Call) -> Result<Response, Problem> {
    let NewMarker { title } = call.json().await?;
    let recording = find(services, &call).await?;
    let room = room_of(services, &recording)?;
    let marker = room.mark_recording(RoomCaller::Owner, recording.id.clone(), title).await.map_err(of_known)?;
    let noted = |recording: &Recording| recording.markers.contains(&marker);
    as_noted(services, &recording.id, StatusCode::CREATED, noted).await
}

/// A recording whose room is gone is over.
fn room_of(services: &Services, recording: &Recording) -> Result<RoomHandle, Problem> {
    services.registry.find(&recording.room).ok_or_else(|| RecordError::NotRecording.into())
}

/// The catalogue knows it: a room that does not has another recording's name, or ended it long ago.
fn of_known(error: RecordError) -> Problem {
    match error {
        RecordError::NoSuchRecording => RecordError::NotRecording.into(),
        error => error.into(),
    }
}

/// The recording once the catalogue has what the room has just done.
async fn as_noted(
    services: &Services,
    id: &RecordingId,
    status: StatusCode,
    noted: impl Fn(&Recording) -> bool,
) -> Result<Response, Problem> {
    let noted = services.keeper.wait(id, NOTED_LIMIT, |recording| recording.is_none_or(&noted)).await?;
    json(status, &noted.ok_or_else(Problem::no_such_recording)?)
}

async fn end_in_room(services: &Services, recording: &Recording) -> Result<(), Problem> {
    // A room that is gone has ended its recordings; one that does not know the recording any more
    // has just done so. Both leave the rest to the keeper.
    let Some(room) = services.registry.find(&recording.room) else { return Ok(()) };
    match room.stop_recording(RoomCaller::Owner, recording.id.clone()).await {
        Ok(RoomRecordingView { .. }) => Ok(services.keeper.stopping(&recording.id).await?),
        Err(RecordError::NoSuchRecording) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The newest 1,000 recordings, newest first; a participant's own room's only.
#[utoipa::path(
    get, path = "/api/recordings", tag = "recordings",
    params(("room" = Option<String>, Query, description = "only of this room's name"), Access),
    responses((status = 200, body = [Recording]), (status = 401, body = Problem), (status = 403, body = Problem)),
)]
pub async fn list(services: &Services, call: Call) -> Result<Response, Problem> {
    json(StatusCode::OK, &services.keeper.list(call.query("room"), call.caller.key()).await?)
}

/// One recording.
#[utoipa::path(
    get, path = "/api/recordings/{id}", tag = "recordings",
    params(Which, Access),
    responses((status = 200, body = Recording), (status = 404, description = "`no_such_recording`", body = Problem)),
)]
pub async fn get(services: &Services, call: Call) -> Result<Response, Problem> {
    let recording = find(services, &call).await?;
    let recording = services.keeper.get_with_files(&recording.id).await?.ok_or_else(Problem::no_such_recording)?;
    json(StatusCode::OK, &recording)
}

/// Remove a recording and its files: at once, or with `undo_s` when that time is over. Until then it can be
/// restored, and is not seen.
#[utoipa::path(
    delete, path = "/api/recordings/{id}", tag = "recordings",
    params(
        Which,
        ("undo_s" = Option<u64>, Query, description = "seconds in which it can be restored, 0 to 86,400"),
    ),
    responses(
        (status = 204, description = "It is gone, or hidden."),
        (status = 400, description = "`bad_undo`", body = Problem),
        (status = 404, description = "`no_such_recording`", body = Problem),
        (status = 409, description = "`recording_running`", body = Problem),
    ),
)]
pub async fn delete(services: &Services, call: Call) -> Result<Response, Problem> {
    let recording = find(services, &call).await?;
    let undo = seconds_of(&call, "undo_s", "bad_undo", MAX_UNDO_S)?;
    services.keeper.delete(&recording.id, undo).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Bring back a recording that was removed with `undo_s`, while that lasts.
#[utoipa::path(
    post, path = "/api/recordings/{id}/restore", tag = "recordings",
    params(Which),
    responses(
        (status = 200, description = "It is back.", body = Recording),
        (status = 404, description = "`no_such_recording`", body = Problem),
        (status = 409, description = "`not_deleted`", body = Problem),
    ),
)]
pub async fn restore(services: &Services, call: Call) -> Result<Response, Problem> {
    let id = RecordingId::from_str(call.param(0)).unwrap_or_else(|never| match never {});
    match services.keeper.restore(&id, call.caller.key()).await {
        Ok(()) => get(services, call).await,
        Err(error) => {
            // What the caller may not see does not exist for him.
            find(services, &call).await?;
            Err(error.into())
        }
    }
}

/// The recording a request names, if the caller may see it.
pub async fn find(services: &Services, call: &Call) -> Result<Recording, Problem> {
    let id = RecordingId::from_str(call.param(0)).unwrap_or_else(|never| match never {});
    let recording = services.keeper.get(&id).await?.ok_or_else(Problem::no_such_recording)?;
    match call.caller.key() {
        Some(key) if recording.key != Some(services.keeper.key_hash(key)) => Err(Problem::no_such_recording()),
        _ => Ok(recording),
    }
}

/// The state further down the life of a recording: room and catalogue may be one step apart.
fn further(one: RecordingState, other: RecordingState) -> RecordingState {
    let step = |state| match state {
        RecordingState::Starting => 0,
        RecordingState::Recording | RecordingState::Paused => 1,
        RecordingState::Finalising => 2,
        RecordingState::Ready | RecordingState::Failed => 3,
    };
    if step(other) > step(one) { other } else { one }
}

/// A query's number of seconds; without it, none.
fn seconds_of(call: &Call, name: &'static str, code: &'static str, most: u64) -> Result<Duration, Problem> {
    let Some(text) = call.query(name) else { return Ok(Duration::ZERO) };
    match text.parse() {
        Ok(seconds) if seconds <= most => Ok(Duration::from_secs(seconds)),
        _ => Err(Problem::bad_request(code, format!("`{name}` is 0 to {most} seconds")).field(name)),
    }
}
