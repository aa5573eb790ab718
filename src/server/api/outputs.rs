//! The room's mix for players: MPEG-TS over HTTP, and HLS.

use std::{convert::Infallible, time::Duration};

use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use warp::{
    Reply,
    http::{HeaderValue, Method, StatusCode, header},
    reply::Response,
};

use super::{answer, rooms::find};
use crate::{
    media::ts::TsChunk,
    room::RoomHandle,
    server::{Services, auth::Caller, problem::Problem, request::Call},
};

/// How often it is looked whether somebody may still see what he is sent.
const RECHECK: Duration = Duration::from_secs(3);
/// A mix must have begun within this.
const FIRST_LIMIT: Duration = Duration::from_secs(10);

/// A room's mix as an endless MPEG-TS (H.264 and AAC), from its last keyframe on: what VLC opens as an
/// address. The mix is started by the first reader, and all share one encode.
#[utoipa::path(
    get, path = "/ts/{room}/mix.ts", tag = "outputs", params(("room" = String, Path, description = "its name")),
    responses(
        (status = 200, description = "until the room ends", content_type = "video/mp2t", body = Vec<u8>),
        (status = 404, description = "`no_such_room`", body = Problem),
        (status = 503, description = "`mix_unavailable`: an encoder is missing, see `/api/server`", body = Problem),
    ),
)]
pub async fn ts(services: &Services, call: Call) -> Result<Response, Problem> {
    let room = visible(services, &call).await?;
    if call.method == Method::HEAD {
        return Ok(answer(StatusCode::OK, "video/mp2t", ""));
    }
    let mut chunks = room.watch_mix().await?;
    let first = timeout(FIRST_LIMIT, chunks.recv()).await.ok().flatten().ok_or_else(unavailable)?;
    Ok(stream(first, chunks, services.stop.clone(), shut_out(room, call.caller)))
}

/// A room's mix as HLS: the playlist of its newest segments, 2 s each. When the room is gone, whoever has played it
/// reads its end (`#EXT-X-ENDLIST`) for 20 s.
#[utoipa::path(
    get, path = "/hls/{room}/mix.m3u8", tag = "outputs", params(("room" = String, Path, description = "its name")),
    responses(
        (status = 200, content_type = "application/vnd.apple.mpegurl", body = String),
        (status = 404, description = "`no_such_room`", body = Problem),
        (status = 503, description = "`mix_unavailable`", body = Problem),
    ),
)]
pub async fn playlist(services: &Services, call: Call) -> Result<Response, Problem> {
    // Players show what they were given with the playlist's address, not with the segments'.
    let is_token = |text: &&str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let query = call.query("access").filter(is_token).map(|access| format!("?access={access}")).unwrap_or_default();
    let found = visible(services, &call).await;
    let playlist = match found {
        Ok(room) => {
            let access = call.caller.key().and(call.query("access"));
            services.shows.playlist(call.param(0), &room, access, &query).await?.ok_or_else(unavailable)?
        }
        Err(problem) => {
            let stands = stands(services, &call).await;
            let ended = services.shows.ended(call.param(0), former(&call), stands, &query).await;
            ended.ok_or(problem)?
        }
    };
    Ok(answer(StatusCode::OK, "application/vnd.apple.mpegurl", playlist))
}

/// A segment that a playlist names.
#[utoipa::path(
    get, path = "/hls/{room}/{segment}", tag = "outputs",
    params(
        ("room" = String, Path, description = "its name"),
        ("segment" = String, Path, description = "its number, and `.ts`"),
    ),
    responses(
        (status = 200, content_type = "video/mp2t", body = Vec<u8>),
        (status = 404, description = "`no_such_room`, `no_such_segment`: it is over", body = Problem),
    ),
)]
pub async fn segment(services: &Services, call: Call) -> Result<Response, Problem> {
    let number = call.param(1).strip_suffix(".ts").and_then(|number| number.parse().ok());
    let segment = match visible(services, &call).await {
        Ok(_) => number.and_then(|number| services.shows.segment(call.param(0), number)),
        Err(problem) if stands(services, &call).await => return Err(problem),
        Err(problem) => {
            let ended = number.and_then(|number| services.shows.ended_segment(call.param(0), former(&call), number));
            Some(ended.ok_or(problem)?)
        }
    };
    let segment = segment.ok_or_else(|| Problem::not_found("no_such_segment", "there is no such segment any more"))?;
    Ok(answer(StatusCode::OK, "video/mp2t", segment))
}

/// The key of whoever calls with one that is over, or is of another room.
fn former(call: &Call) -> Option<&str> {
    match &call.caller {
        Caller::Former(key) => Some(key),
        Caller::Participant { .. } => call.query("access").or(Some("")),
        Caller::Owner | Caller::Anybody => None,
    }
}

/// The room is there, and is not about to go.
async fn stands(services: &Services, call: &Call) -> bool {
    match services.registry.find(call.param(0)) {
        Some(room) => room.key().await.is_ok(),
        None => false,
    }
}

/// The room, for its participants and the owner; for others it does not exist.
async fn visible(services: &Services, call: &Call) -> Result<RoomHandle, Problem> {
    if let Caller::Former(_) = call.caller {
        return Err(Problem::access_ended());
    }
    let room = find(services, call)?;
    match call.caller.key() {
        Some(key) if *key != room.key().await? => Err(Problem::no_such_room()),
        _ => Ok(room),
    }
}

fn unavailable() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "mix_unavailable", "the room's mix could not be started; see the log")
}

/// Resolves when whoever is sent a room's mix may see it no more: he has left, or the room has another PIN. He may
/// then ask again.
async fn shut_out(room: RoomHandle, caller: Caller) {
    let Caller::Participant { id, key, .. } = caller else { return std::future::pending().await };
    loop {
        sleep(RECHECK).await;
        let is_same = room.key().await.is_ok_and(|its| its == key);
        let is_in = is_same
            && room.view().await.is_ok_and(|room| room.participants.iter().any(|participant| participant.id == id));
        if !is_in {
            return;
        }
    }
}

/// Ends with the stream, when the reader is too slow or may see it no more, or with the server.
fn stream(
    first: TsChunk,
    chunks: mpsc::Receiver<TsChunk>,
    stop: CancellationToken,
    shut_out: impl Future<Output = ()> + Send + Sync + 'static,
) -> Response {
    let state = (Some(first), chunks, stop, Box::pin(shut_out));
    let pieces = futures_util::stream::unfold(state, |(first, mut chunks, stop, mut shut_out)| async move {
        let chunk = match first {
            Some(first) => first,
            None => tokio::select! {
                chunk = chunks.recv() => chunk?,
                () = stop.cancelled() => return None,
                () = &mut shut_out => return None,
            },
        };
        Some((Ok::<_, Infallible>(chunk.bytes), (None, chunks, stop, shut_out)))
    });
    let mut response = warp::reply::stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("video/mp2t"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx holds back answers to fill its buffers unless it is told not to.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
