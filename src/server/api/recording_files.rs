//! What lies in a recording: its mix, its single tracks, its description. All with ranges.

use utoipa::{IntoParams, IntoResponses};
use warp::{http::Method, reply::Response};

use super::recordings::{Access, Which, find};
use crate::{
    recording::Recording,
    server::{
        Services,
        files::{self, Wanted},
        problem::Problem,
        request::Call,
    },
};

/// How a file is wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "described here, read by name")]
struct Download {
    /// Given: to be saved, under a readable name.
    download: Option<String>,
}

/// `no_such_recording`, `no_file`
#[derive(IntoResponses)]
#[response(status = 404)]
#[expect(dead_code, reason = "a description")]
struct Missing(#[to_schema] Problem);

/// The mix: ranges, also while it grows (it is then as long as it is now).
#[utoipa::path(
    get, path = "/api/recordings/{id}/file", tag = "recordings",
    params(Which, Download, Access),
    responses(
        (status = 200, description = "the file", content_type = "video/mp4", body = Vec<u8>),
        (status = 206, description = "a part of it", content_type = "video/mp4", body = Vec<u8>),
        (status = 304, description = "it is as it was"),
        Missing,
        (status = 416, description = "`bad_range`", body = Problem),
    ),
)]
pub async fn file(services: &Services, call: Call) -> Result<Response, Problem> {
    let recording = find(services, &call).await?;
    let path = services.keeper.path(&recording.id).ok_or_else(Problem::no_such_recording)?;
    let save_as = readable_name(&recording, "mp4");
    answer(&call, path, "video/mp4", !recording.state.is_final(), save_as).await
}

/// One of the files that the recording lists, by its `name`; as the mix, with ranges.
#[utoipa::path(
    get, path = "/api/recordings/{id}/files/{name}", tag = "recordings",
    params(Which, ("name" = String, Path, description = "as in `files`"), Download, Access),
    responses(
        (status = 200, description = "the file: MP4 or WebM", body = Vec<u8>),
        (status = 206, description = "a part of it", body = Vec<u8>),
        (status = 304, description = "it is as it was"),
        Missing,
        (status = 416, description = "`bad_range`", body = Problem),
    ),
)]
pub async fn named(services: &Services, call: Call) -> Result<Response, Problem> {
    let recording = find(services, &call).await?;
    let no_file = || Problem::not_found("no_file", "the recording has no file of that name");
    let name = call.param(1);
    let path = services.keeper.file(&recording.id, name).ok_or_else(no_file)?;
    let kind = if name.ends_with(".webm") { "video/webm" } else { "video/mp4" };
    let save_as = readable_name(&recording, name);
    answer(&call, path, kind, !recording.state.is_final(), save_as).await
}

/// The description that lies beside the files, as JSON: the recording as the catalogue has it. `offset_ms`
/// of each file says when it begins.
#[utoipa::path(
    get, path = "/api/recordings/{id}/manifest.json", tag = "recordings",
    params(Which, Access),
    responses(
        (status = 200, description = "the description", body = Recording),
        Missing,
    ),
)]
pub async fn manifest(services: &Services, call: Call) -> Result<Response, Problem> {
    beside(services, &call, "json", "application/json").await
}

/// A picture of it: some time after it is ready, `has_thumbnails` says so.
#[utoipa::path(
    get, path = "/api/recordings/{id}/thumbnail.jpg", tag = "recordings",
    params(Which, Access),
    responses(
        (status = 200, description = "640 pixels wide", content_type = "image/jpeg", body = Vec<u8>),
        Missing,
    ),
)]
pub async fn thumbnail(services: &Services, call: Call) -> Result<Response, Problem> {
    beside(services, &call, "jpg", "image/jpeg").await
}

/// Small pictures of it on one sheet, for a player's seek bar; `thumbnails.vtt` says which is where.
#[utoipa::path(
    get, path = "/api/recordings/{id}/sprite.jpg", tag = "recordings",
    params(Which, Access),
    responses(
        (status = 200, description = "at most 100 pictures, 160 pixels wide each", content_type = "image/jpeg", body = Vec<u8>),
        Missing,
    ),
)]
pub async fn sprite(services: &Services, call: Call) -> Result<Response, Problem> {
    beside(services, &call, "sprite.jpg", "image/jpeg").await
}

/// When each picture of `sprite.jpg` is shown: WebVTT whose cues are `sprite.jpg#xywh=x,y,w,h`.
#[utoipa::path(
    get, path = "/api/recordings/{id}/thumbnails.vtt", tag = "recordings",
    params(Which, Access),
    responses(
        (status = 200, description = "the cues", content_type = "text/vtt", body = String),
        Missing,
    ),
)]
pub async fn thumbnails(services: &Services, call: Call) -> Result<Response, Problem> {
    beside(services, &call, "thumbnails.vtt", "text/vtt; charset=utf-8").await
}

/// What was written to everybody while it ran, as subtitles; `has_chat` says whether anything was.
#[utoipa::path(
    get, path = "/api/recordings/{id}/chat.vtt", tag = "recordings",
    params(Which, Access),
    responses(
        (status = 200, description = "WebVTT", content_type = "text/vtt", body = String),
        Missing,
    ),
)]
pub async fn chat(services: &Services, call: Call) -> Result<Response, Problem> {
    beside(services, &call, "chat.vtt", "text/vtt; charset=utf-8").await
}

/// What lies beside the mix under the same name with another ending.
async fn beside(services: &Services, call: &Call, ending: &str, kind: &'static str) -> Result<Response, Problem> {
    let recording = find(services, call).await?;
    let path = services.keeper.path(&recording.id).ok_or_else(Problem::no_such_recording)?;
    let save_as = readable_name(&recording, ending);
    // None of them grows: each is another one when it changes.
    answer(call, path.with_extension(ending), kind, false, save_as).await
}

async fn answer(
    call: &Call,
    path: std::path::PathBuf,
    kind: &'static str,
    grows: bool,
    save_as: String,
) -> Result<Response, Problem> {
    let save_as = call.query("download").map(|_| save_as);
    let wanted = Wanted { path, kind, grows, save_as, head_only: call.method == Method::HEAD };
    files::answer(wanted, &call.headers).await
}

/// `<title or room> <date> <time>.<extension>`, or of a track ` <its name>`.
fn readable_name(recording: &Recording, ending: &str) -> String {
    let title = recording.spec.name.as_deref().unwrap_or(&recording.room);
    let title = if title.is_empty() { "recording" } else { title };
    let at = recording.started_at.unwrap_or(recording.created_at).strftime("%Y-%m-%d %H-%M");
    let whose = recording.files.iter().find(|file| file.name == ending).and_then(|file| file.participant.as_deref());
    match whose {
        Some(whose) => format!("{title} {at} {whose} {ending}"),
        None if ending.contains('.') => format!("{title} {at} {ending}"),
        None => format!("{title} {at}.{ending}"),
    }
}
