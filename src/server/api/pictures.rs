//! Pictures for effects and logos: given to a room, and kept as long as it stands.

use std::{str::FromStr, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::sync::Semaphore;
use utoipa::ToSchema;
use warp::{
    http::{StatusCode, header},
    reply::Response,
};

use super::{answer, empty, ingests::room_of, json};
use crate::{
    effect::{
        Picture,
        picture::{MAX_PICTURE_BYTES, PictureError, find_picture},
    },
    room::{error::PicturesError, id::PictureId},
    server::{Services, problem::Problem, request::Call},
};

/// Decoding takes much of a processor: one picture after the other, and who waits longer is sent away.
const TURN_LIMIT: Duration = Duration::from_secs(5);

/// Decodes what people send, one at a time.
#[derive(Clone, Debug)]
pub struct PictureDecoder {
    turn: Arc<Semaphore>,
}

impl Default for PictureDecoder {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)) }
    }
}

impl PictureDecoder {
    async fn decode(&self, bytes: bytes::Bytes) -> Result<Picture, Problem> {
        let busy = || Problem::unavailable("pictures_busy", "other pictures are being read; try again");
        let turn = tokio::time::timeout(TURN_LIMIT, self.turn.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
        let decoded = tokio::task::spawn_blocking(move || {
            let picture = Picture::decode(&bytes);
            drop(turn);
            picture
        });
        Ok(decoded.await.map_err(|_| PictureError::Broken("it broke the reader".into()))??)
    }
}

/// A picture of a room.
#[derive(Serialize, ToSchema)]
pub struct PictureView {
    /// What effects call it.
    #[schema(value_type = String)]
    id: PictureId,
    /// In pixels, as it is kept.
    width: u32,
    /// In pixels.
    height: u32,
}

impl From<&Picture> for PictureView {
    fn from(picture: &Picture) -> Self {
        Self { id: picture.id.clone(), width: picture.width, height: picture.height }
    }
}

/// Give a picture to a room, for its effects and its layout's logo: PNG, JPEG or SVG, at most 2 MiB and 4,096
/// pixels a side. It is decoded, made smaller if it has more pixels than 1280×720, and kept while the room stands.
#[utoipa::path(
    post, path = "/api/rooms/{room}/pictures", tag = "effects",
    params(("room" = String, Path, description = "its name")),
    request_body(content = Vec<u8>, content_type = "image/*"),
    responses(
        (status = 201, body = PictureView),
        (status = 400, description = "`bad_picture`", body = Problem),
        (status = 403, description = "`not_allowed`: viewers give none", body = Problem),
        (status = 404, description = "`no_such_room`", body = Problem),
        (status = 409, description = "`too_many_pictures`", body = Problem),
        (status = 413, description = "`body_too_large`", body = Problem),
        (status = 415, description = "`not_a_picture`: send it as image/png, image/jpeg or image/svg+xml", body = Problem),
        (status = 503, description = "`pictures_busy`", body = Problem),
    ),
)]
pub async fn add(services: &Services, mut call: Call) -> Result<Response, Problem> {
    let (room, caller) = room_of(services, &call).await?;
    // Whoever may not give one is told before it is read. A form of another site cannot send this type.
    room.pictures(caller.clone()).await?;
    let kind = call.header(header::CONTENT_TYPE).unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with("image/") {
        let words = "send the picture itself, as image/png, image/jpeg or image/svg+xml";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_a_picture", words));
    }
    let bytes = call.bytes(MAX_PICTURE_BYTES).await?;
    let picture = Arc::new(services.pictures.decode(bytes).await?);
    room.add_picture(caller, picture.clone()).await?;
    json(StatusCode::CREATED, &PictureView::from(&*picture))
}

/// The pictures of a room, in the order they came.
#[utoipa::path(
    get, path = "/api/rooms/{room}/pictures", tag = "effects",
    params(("room" = String, Path, description = "its name")),
    responses((status = 200, body = [PictureView]), (status = 404, description = "`no_such_room`", body = Problem)),
)]
pub async fn list(services: &Services, call: Call) -> Result<Response, Problem> {
    let (room, caller) = room_of(services, &call).await?;
    let pictures = room.pictures(caller).await?;
    json(StatusCode::OK, &pictures.iter().map(|picture| PictureView::from(&**picture)).collect::<Vec<_>>())
}

/// One of them, as PNG.
#[utoipa::path(
    get, path = "/api/rooms/{room}/pictures/{id}", tag = "effects",
    params(("room" = String, Path, description = "its name"), ("id" = String, Path, description = "which")),
    responses(
        (status = 200, content_type = "image/png"),
        (status = 404, description = "`no_such_room`, `no_such_picture`", body = Problem),
    ),
)]
pub async fn get(services: &Services, call: Call) -> Result<Response, Problem> {
    let (room, caller) = room_of(services, &call).await?;
    let pictures = room.pictures(caller).await?;
    let picture = find_picture(call.param(1), &pictures).ok_or(PicturesError::Unknown)?;
    Ok(answer(StatusCode::OK, "image/png", picture.png.clone()))
}

/// Keep a picture no more.
#[utoipa::path(
    delete, path = "/api/rooms/{room}/pictures/{id}", tag = "effects",
    params(("room" = String, Path, description = "its name"), ("id" = String, Path, description = "which")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, description = "`no_such_room`, `no_such_picture`", body = Problem),
        (status = 409, description = "`picture_in_use`: an effect or a layout shows it", body = Problem),
    ),
)]
pub async fn remove(services: &Services, call: Call) -> Result<Response, Problem> {
    let (room, caller) = room_of(services, &call).await?;
    let which = PictureId::from_str(call.param(1)).unwrap_or_else(|never| match never {});
    room.remove_picture(caller, which).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

impl From<PictureError> for Problem {
    fn from(error: PictureError) -> Self {
        Self::bad_request("bad_picture", format!("the picture is not taken: {error}"))
    }
}

impl From<PicturesError> for Problem {
    fn from(error: PicturesError) -> Self {
        let detail = error.to_string();
        match error {
            PicturesError::NotAllowed => Self::forbidden("not_allowed", detail),
            PicturesError::TooMany { .. } => Self::new(StatusCode::CONFLICT, "too_many_pictures", detail),
            PicturesError::Unknown => Self::not_found("no_such_picture", detail),
            PicturesError::InUse => Self::new(StatusCode::CONFLICT, "picture_in_use", detail),
            PicturesError::NotInRoom => Self::forbidden("not_in_room", detail),
            PicturesError::Gone(gone) => gone.into(),
        }
    }
}
