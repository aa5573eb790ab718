//! Effects: what there is, and what is put on whom.

use std::{str::FromStr, time::Duration};

use serde::Serialize;
use utoipa::ToSchema;
use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use super::{answer, ingests::room_of, json, rooms::find};
use crate::{
    effect::{Applied, Effect, EffectRequest},
    media::{EffectCost, Unavailable},
    room::{
        command::Caller,
        error::{ChangeError, PreviewError},
        id::ParticipantId,
        model::{EffectsOf, RoomView, TrackView},
    },
    server::{Services, problem::Problem, request::Call},
};

/// A preview is there within this, or not at all; the engine's own deadlines are shorter.
const PREVIEW_LIMIT: Duration = Duration::from_secs(10);

/// The catalogue.
#[derive(Serialize, ToSchema)]
pub struct Catalogue<'a> {
    /// What can be put on, by name.
    effects: &'a [Effect],
    /// What cannot, why, and the command that mends it.
    unavailable: Vec<&'a Unavailable>,
}

/// Effects that run.
#[derive(Serialize, ToSchema)]
pub struct Running {
    /// The chain.
    effects: Vec<Applied>,
    /// What each of it takes, measured since it was put on; nothing while nobody publishes, or nobody wants the mix.
    costs: Vec<EffectCost>,
}

/// All effects, with their parameters.
#[utoipa::path(get, path = "/api/effects", tag = "effects", responses((status = 200, body = Catalogue)))]
pub fn list(services: &Services) -> Result<Response, Problem> {
    let capabilities = services.engine.capabilities();
    let unavailable = capabilities.unavailable.iter().filter(|entry| entry.what.starts_with("pipelines/effects/"));
    json(StatusCode::OK, &Catalogue { effects: &capabilities.effects, unavailable: unavailable.collect() })
}

/// A small picture of what an effect does.
#[utoipa::path(
    get, path = "/api/effects/{name}/preview.jpg", tag = "effects",
    params(("name" = String, Path, description = "which")),
    responses(
        (status = 200, content_type = "image/jpeg"),
        (status = 404, description = "`no_preview`", body = Problem),
    ),
)]
pub fn preview(services: &Services, call: &Call) -> Result<Response, Problem> {
    let picture = services.engine.capabilities().previews.get(call.param(0));
    let picture = picture.ok_or_else(|| Problem::not_found("no_preview", "there is no picture of such an effect"))?;
    let mut response = answer(StatusCode::OK, "image/jpeg", picture.clone());
    // The same for everybody until the server is another.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=600"));
    Ok(response)
}

/// Replace the effects on somebody's camera and microphone; an empty list takes them off.
#[utoipa::path(
    put, path = "/api/rooms/{room}/participants/{id}/effects", tag = "effects",
    params(("room" = String, Path, description = "its name"), ("id" = String, Path, description = "whose")),
    request_body = Vec<EffectRequest>,
    responses(
        (status = 200, body = [Applied], description = "The chain, all parameters filled in."),
        (status = 400, description = "`no_such_effect`, `bad_effect`, `too_many_effects`, `bad_json`", body = Problem),
        (status = 404, description = "`no_such_room`, `no_such_participant`", body = Problem),
        (status = 409, description = "`effects_over_budget`", body = Problem),
    ),
)]
pub async fn set_participant(services: &Services, mut call: Call) -> Result<Response, Problem> {
    let room = find(services, &call)?;
    let whose = ParticipantId::from_str(call.param(1)).unwrap_or_else(|never| match never {});
    let chain: Vec<EffectRequest> = call.json_list().await?;
    json(StatusCode::OK, &room.set_effects(Caller::Owner, EffectsOf::Participant(whose), chain).await?)
}

/// The effects on somebody's camera and microphone, and what each takes of a processor.
#[utoipa::path(
    get, path = "/api/rooms/{room}/participants/{id}/effects", tag = "effects",
    params(("room" = String, Path, description = "its name"), ("id" = String, Path, description = "whose")),
    responses(
        (status = 200, body = Running, description = "`costs` has those that run, pictures and sound."),
        (status = 404, description = "`no_such_room`, `no_such_participant`", body = Problem),
    ),
)]
pub async fn get_participant(services: &Services, call: Call) -> Result<Response, Problem> {
    let (room, _) = room_of(services, &call).await?;
    let whose = ParticipantId::from_str(call.param(1)).unwrap_or_else(|never| match never {});
    let view = room.view().await?;
    let participant = view.participants.into_iter().find(|participant| participant.id == whose);
    let effects = participant.ok_or(ChangeError::NoSuchParticipant)?.effects;
    let costs = room.effect_costs(EffectsOf::Participant(whose)).await?.unwrap_or_default();
    json(StatusCode::OK, &Running { effects, costs })
}

/// Replace the effects on one track, also of a shared screen; an empty list takes them off, and camera and microphone
/// have their participant's again.
#[utoipa::path(
    put, path = "/api/rooms/{room}/participants/{id}/tracks/{track}/effects", tag = "effects",
    params(
        ("room" = String, Path, description = "its name"), ("id" = String, Path, description = "whose"),
        ("track" = String, Path, description = "which")
    ),
    request_body = Vec<EffectRequest>,
    responses(
        (status = 200, body = [Applied], description = "The chain, all parameters filled in."),
        (status = 400, description = "`no_such_effect`, `bad_effect`, `too_many_effects`, `bad_json`", body = Problem),
        (status = 404, description = "`no_such_room`, `no_such_track`", body = Problem),
        (status = 409, description = "`effects_over_budget`", body = Problem),
    ),
)]
pub async fn set_track(services: &Services, mut call: Call) -> Result<Response, Problem> {
    let room = find(services, &call)?;
    let track = track_of(&room.view().await?, &call)?.id.clone();
    let chain: Vec<EffectRequest> = call.json_list().await?;
    json(StatusCode::OK, &room.set_effects(Caller::Owner, EffectsOf::Track(track), chain).await?)
}

/// One track's own effects, and what each that runs on it takes of a processor.
#[utoipa::path(
    get, path = "/api/rooms/{room}/participants/{id}/tracks/{track}/effects", tag = "effects",
    params(
        ("room" = String, Path, description = "its name"), ("id" = String, Path, description = "whose"),
        ("track" = String, Path, description = "which")
    ),
    responses(
        (status = 200, body = Running, description = "`costs` has what runs, be it the participant's."),
        (status = 404, description = "`no_such_room`, `no_such_track`", body = Problem),
    ),
)]
pub async fn get_track(services: &Services, call: Call) -> Result<Response, Problem> {
    let (room, _) = room_of(services, &call).await?;
    let TrackView { id, effects, .. } = track_of(&room.view().await?, &call)?.clone();
    let costs = room.effect_costs(EffectsOf::Track(id)).await?.unwrap_or_default();
    json(StatusCode::OK, &Running { effects, costs })
}

/// How a track would look at this moment with an effect over what it has: for who may put it there. It is made for who
/// chooses, one at a time of a track, and at most ten a second in a room.
#[utoipa::path(
    get, path = "/api/rooms/{room}/participants/{id}/tracks/{track}/effects/{name}/preview.jpg", tag = "effects",
    params(
        ("room" = String, Path, description = "its name"), ("id" = String, Path, description = "whose"),
        ("track" = String, Path, description = "which, a picture"), ("name" = String, Path, description = "the effect"),
    ),
    responses(
        (status = 200, content_type = "image/jpeg", description = "At most 256 pixels a side."),
        (status = 400, description = "`no_such_effect`, `bad_effect`: it is for sound", body = Problem),
        (status = 403, description = "`not_allowed`", body = Problem),
        (status = 404, description = "`no_such_room`, `no_such_track`", body = Problem),
        (status = 409, description = "`no_picture`: the track is sound, or muted", body = Problem),
        (status = 429, description = "`too_fast`: another is being made, or other tracks are looked at", body = Problem),
        (status = 503, description = "`no_preview`: no picture came in time, or the effect failed", body = Problem),
    ),
)]
pub async fn preview_on(services: &Services, call: Call) -> Result<Response, Problem> {
    let (room, caller) = room_of(services, &call).await?;
    let track = track_of(&room.view().await?, &call)?.id.clone();
    let made = room.preview(caller, track, call.param(3).to_owned()).await?;
    let no_preview = |detail: String| Problem::unavailable("no_preview", detail);
    let made = tokio::time::timeout(PREVIEW_LIMIT, made).await.map_err(|_| no_preview("it took too long".into()))?;
    let picture = made.map_err(|_| no_preview("the track's pictures ended; try again".into()))?;
    Ok(answer(StatusCode::OK, "image/jpeg", picture.map_err(|error| no_preview(error.to_string()))?))
}

impl From<PreviewError> for Problem {
    fn from(error: PreviewError) -> Self {
        let detail = error.to_string();
        match error {
            PreviewError::NotAllowed => Self::forbidden("not_allowed", detail),
            PreviewError::NoSuchTrack => Self::not_found("no_such_track", detail),
            PreviewError::NoPicture => Self::new(StatusCode::CONFLICT, "no_picture", detail),
            PreviewError::Effects(effects) => effects.into(),
            PreviewError::TooFast => Self::new(StatusCode::TOO_MANY_REQUESTS, "too_fast", detail)
                .header(header::RETRY_AFTER, HeaderValue::from_static("1")),
            PreviewError::NotInRoom => Self::forbidden("not_in_room", detail),
            PreviewError::Gone(gone) => gone.into(),
        }
    }
}

fn track_of<'a>(view: &'a RoomView, call: &Call) -> Result<&'a TrackView, ChangeError> {
    let owner = view.participants.iter().find(|participant| participant.id.as_str() == call.param(1));
    let track = owner.and_then(|owner| owner.tracks.iter().find(|track| track.id.as_str() == call.param(2)));
    track.ok_or(ChangeError::NoSuchTrack)
}

/// The effects on the mix, and what each takes of a processor.
#[utoipa::path(
    get, path = "/api/rooms/{room}/effects", tag = "effects",
    params(("room" = String, Path, description = "its name")),
    responses(
        (status = 200, body = Running, description = "`costs` is over all mixes that are made now, pictures and sound."),
        (status = 404, description = "`no_such_room`", body = Problem),
    ),
)]
pub async fn get_mix(services: &Services, call: Call) -> Result<Response, Problem> {
    let (room, _) = room_of(services, &call).await?;
    let effects = room.view().await?.effects;
    let costs = room.effect_costs(EffectsOf::Mix).await?.unwrap_or_default();
    json(StatusCode::OK, &Running { effects, costs })
}

/// Replace the effects on picture and sound of the mix, and of recordings; an empty list takes them off.
#[utoipa::path(
    put, path = "/api/rooms/{room}/effects", tag = "effects",
    params(("room" = String, Path, description = "its name")),
    request_body = Vec<EffectRequest>,
    responses(
        (status = 200, body = [Applied], description = "The chain, all parameters filled in."),
        (status = 400, description = "`no_such_effect`, `bad_effect`, `too_many_effects`, `bad_json`", body = Problem),
        (status = 404, description = "`no_such_room`", body = Problem),
        (status = 409, description = "`effects_over_budget`", body = Problem),
    ),
)]
pub async fn set_mix(services: &Services, mut call: Call) -> Result<Response, Problem> {
    let room = find(services, &call)?;
    let chain: Vec<EffectRequest> = call.json_list().await?;
    json(StatusCode::OK, &room.set_effects(Caller::Owner, EffectsOf::Mix, chain).await?)
}
