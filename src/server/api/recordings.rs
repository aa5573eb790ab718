//! Recordings: start, pause, stop, list, look, play, remove.
//!
//! A participant sees what was recorded in rooms of his room's name and PIN; what he may not see
//! does not exist for him.

use std::{str::FromStr, time::Duration};

use serde::Deserialize;
use utoipa::ToSchema;
use warp::{
    http::{Method, StatusCode},
    reply::Response,
};

use super::{empty, json};
use crate::{
    media::RecordingSpec,
    recording::Recording,
    room::{
        RoomHandle,
        command::Caller as RoomCaller,
        error::RecordError,
        id::RecordingId,
        model::{RecordingState, RoomRecordingView},
    },
    server::{
        Services,
        files::{self, Wanted},
        problem::Problem,
        request::Call,
    },
};

/// `wait_s` is at most this.
const MAX_WAIT_S: u64 = 120;
/// The keeper notes a recording well within this.
const NOTED_LIMIT: Duration = Duration::from_secs(5);

/// Start recording a room; the room is made if there is none of that name.
#[utoipa::path(
    post, path = "/api/rooms/{room}/recordings", tag = "recordings",
    params(("room" = String, Path, description = "its name")),
    request_body = RecordingSpec,
    responses(
        (status = 201, body = Recording),
        (status = 400, description = "`bad_room_name`, `bad_setting`, `bad_json`", body = Problem),
        (status = 409, description = "`too_many_recordings`", body = Problem),
        (status = 503, description = "`too_many_rooms`, `shutting_down`", body = Problem),
        (status = 507, description = "`disk_full`", body = Problem),
    ),
)]
pub async fn start(services: &Services, mut call: Call) -> Result<Response, Problem> {
    let spec: RecordingSpec = call.json().await?;
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

/// Stop a recording. Answers at once, `finalising`; with `wait_s` the answer is held until the
/// recording is `ready` or `failed`, or the time is over. Stopping what is over answers with what
/// it came to.
#[utoipa::path(
    post, path = "/api/recordings/{id}/stop", tag = "recordings",
    params(
        ("id" = String, Path, description = "which"),
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
    let wait = wait_of(&call)?;
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
    params(("id" = String, Path, description = "which")),
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
    as_noted(services, &view.id, StatusCode::OK, |noted| noted.state != RecordingState::Recording).await
}

/// Resume a recording: it goes on in the same file, without a gap.
#[utoipa::path(
    post, path = "/api/recordings/{id}/resume", tag = "recordings",
    params(("id" = String, Path, description = "which")),
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
    params(("id" = String, Path, description = "which")),
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
    params(
        ("room" = Option<String>, Query, description = "only of this room's name"),
        ("access" = Option<String>, Query, description = "a participant's access token"),
    ),
    responses((status = 200, body = [Recording]), (status = 401, body = Problem), (status = 403, body = Problem)),
)]
pub async fn list(services: &Services, call: Call) -> Result<Response, Problem> {
    json(StatusCode::OK, &services.keeper.list(call.query("room"), call.caller.key()).await?)
}

/// One recording.
#[utoipa::path(
    get, path = "/api/recordings/{id}", tag = "recordings",
    params(
        ("id" = String, Path, description = "which"),
        ("access" = Option<String>, Query, description = "a participant's access token"),
    ),
    responses((status = 200, body = Recording), (status = 404, description = "`no_such_recording`", body = Problem)),
)]
pub async fn get(services: &Services, call: Call) -> Result<Response, Problem> {
    json(StatusCode::OK, &find(services, &call).await?)
}

/// Remove a recording and its file.
#[utoipa::path(
    delete, path = "/api/recordings/{id}", tag = "recordings", params(("id" = String, Path, description = "which")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, description = "`no_such_recording`", body = Problem),
        (status = 409, description = "`recording_running`", body = Problem),
    ),
)]
pub async fn delete(services: &Services, call: Call) -> Result<Response, Problem> {
    let recording = find(services, &call).await?;
    services.keeper.delete(&recording.id).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The file: ranges, also while it grows (it is then as long as it is now).
#[utoipa::path(
    get, path = "/api/recordings/{id}/file", tag = "recordings",
    params(
        ("id" = String, Path, description = "which"),
        ("download" = Option<String>, Query, description = "given: to be saved, under a readable name"),
        ("access" = Option<String>, Query, description = "a participant's access token"),
    ),
    responses(
        (status = 200, description = "the file", content_type = "video/mp4", body = Vec<u8>),
        (status = 206, description = "a part of it", content_type = "video/mp4", body = Vec<u8>),
        (status = 304, description = "it is as it was"),
        (status = 404, description = "`no_such_recording`, `no_file`", body = Problem),
        (status = 416, description = "`bad_range`", body = Problem),
    ),
)]
pub async fn file(services: &Services, call: Call) -> Result<Response, Problem> {
    let recording = find(services, &call).await?;
    let path = services.keeper.path(&recording.id).ok_or_else(Problem::no_such_recording)?;
    let wanted = Wanted {
        path,
        kind: "video/mp4",
        grows: !recording.state.is_final(),
        save_as: call.query("download").map(|_| readable_name(&recording)),
        head_only: call.method == Method::HEAD,
    };
    files::answer(wanted, &call.headers).await
}

/// The recording a request names, if the caller may see it.
async fn find(services: &Services, call: &Call) -> Result<Recording, Problem> {
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

fn wait_of(call: &Call) -> Result<Duration, Problem> {
    let Some(text) = call.query("wait_s") else { return Ok(Duration::ZERO) };
    match text.parse() {
        Ok(seconds @ 0..=MAX_WAIT_S) => Ok(Duration::from_secs(seconds)),
        _ => Err(Problem::bad_request("bad_wait", format!("`wait_s` is 0 to {MAX_WAIT_S} seconds")).field("wait_s")),
    }
}

/// `<title or room> <date> <time>.mp4`
fn readable_name(recording: &Recording) -> String {
    let title = recording.spec.name.as_deref().unwrap_or(&recording.room);
    let title = if title.is_empty() { "recording" } else { title };
    let at = recording.started_at.unwrap_or(recording.created_at);
    format!("{title} {}.mp4", at.strftime("%Y-%m-%d %H-%M"))
}
