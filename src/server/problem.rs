//! Errors of the HTTP API: problem documents (RFC 9457) with a stable `code`.
//!
//! `code` is for programs and never changes; `detail` is for people and may.

use serde::Serialize;
use utoipa::ToSchema;
use warp::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    reply::Response,
};

use crate::{
    effect::EffectError,
    media::LayoutError,
    recording::{catalogue::CatalogueError, removal::DeleteError},
    room::error::{ChangeError, CreateError, ListenError, NameError, RecordError, RoomGone},
};

/// A refusal.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: `code` tells what it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    #[schema(value_type = u16)]
    #[serde(serialize_with = "status_number")]
    status: StatusCode,
    /// What it is, for programs.
    code: &'static str,
    /// What it is, for people.
    detail: String,
    /// The field or parameter that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    #[serde(skip)]
    headers: Vec<(HeaderName, HeaderValue)>,
}

fn status_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    /// A refusal with `status`.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status,
            code,
            detail: detail.into(),
            field: None,
            headers: Vec::new(),
        }
    }

    /// Names the field that is wrong.
    pub fn field(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }

    /// Adds a header to the answer.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same refusal under another status.
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, title: status.canonical_reason().unwrap_or("Error"), ..self }
    }

    /// Its HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its stable code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Something of the caller's cannot be read.
    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// Nothing is there.
    pub fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// The caller must say who he is.
    pub fn unauthorised(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
            .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"salon\""))
    }

    /// The caller may not.
    pub fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// A key that is no longer good, or never was.
    pub fn access_ended() -> Self {
        Self::unauthorised("access_ended", "that access token is unknown, or its participant has left")
    }

    /// No room of that name stands.
    pub fn no_such_room() -> Self {
        Self::not_found("no_such_room", "no room of that name stands")
    }

    /// No recording has that identifier, or the caller may not see it.
    pub fn no_such_recording() -> Self {
        Self::not_found("no_such_recording", "there is no such recording")
    }

    /// Not now; later it may.
    pub fn unavailable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
            .header(header::RETRY_AFTER, HeaderValue::from_static("5"))
    }

    fn setting(setting: &'static str, problem: &str) -> Self {
        Self::bad_request("bad_setting", format!("`{setting}` {problem}")).field(setting)
    }

    /// The answer that carries it.
    pub fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(body.into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.headers);
        response
    }
}

impl From<RoomGone> for Problem {
    fn from(error: RoomGone) -> Self {
        match error {
            RoomGone::Closed => Self::no_such_room(),
            RoomGone::Busy => Self::unavailable("room_busy", error.to_string()),
        }
    }
}

impl From<ListenError> for Problem {
    fn from(error: ListenError) -> Self {
        match error {
            ListenError::TooMany { .. } => Self::unavailable("too_many_listeners", error.to_string()),
            ListenError::Gone(gone) => gone.into(),
        }
    }
}

impl From<CreateError> for Problem {
    fn from(error: CreateError) -> Self {
        let detail = error.to_string();
        match error {
            CreateError::Exists => Self::new(StatusCode::CONFLICT, "room_exists", detail).field("name"),
            CreateError::Name(_) => Self::bad_request("bad_room_name", detail).field("name"),
            CreateError::Setting { setting, problem } => Self::setting(setting, &problem),
            CreateError::TooManyRooms { .. } => Self::unavailable("too_many_rooms", detail),
            CreateError::PinLocked { wait_s } => Self::new(StatusCode::TOO_MANY_REQUESTS, "pin_locked", detail)
                .header(header::RETRY_AFTER, wait_s.into()),
            CreateError::TooFast { wait_s } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_fast", detail).header(header::RETRY_AFTER, wait_s.into())
            }
            CreateError::ShuttingDown => Self::unavailable("shutting_down", detail),
        }
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        let detail = error.to_string();
        match error {
            ChangeError::Name(NameError::TooLong { .. }) => Self::bad_request("name_too_long", detail).field("name"),
            ChangeError::Name(NameError::Empty | NameError::Character(_)) => {
                Self::bad_request("bad_name", detail).field("name")
            }
            ChangeError::NoSuchParticipant => Self::not_found("no_such_participant", detail),
            ChangeError::NoSuchTrack => Self::not_found("no_such_track", detail),
            ChangeError::NoSuchLayer => Self::not_found("no_such_layer", detail),
            ChangeError::NotAllowed => Self::forbidden("not_allowed", detail),
            ChangeError::TooFast => Self::new(StatusCode::TOO_MANY_REQUESTS, "too_fast", detail),
            ChangeError::TooLong { .. } => Self::bad_request("too_long", detail),
            ChangeError::Setting { setting, problem } => Self::setting(setting, &problem),
            ChangeError::Layout(layout) => layout.into(),
            ChangeError::Effects(effects) => effects.into(),
            ChangeError::NotInRoom => Self::forbidden("not_in_room", detail),
            ChangeError::Gone(gone) => gone.into(),
        }
    }
}

impl From<RecordError> for Problem {
    fn from(error: RecordError) -> Self {
        let detail = error.to_string();
        match error {
            RecordError::NotAllowed => Self::forbidden("not_allowed", detail),
            RecordError::Setting { setting, problem } => Self::setting(setting, &problem),
            RecordError::Layout(layout) => layout.into(),
            RecordError::TooMany { .. } => Self::new(StatusCode::CONFLICT, "too_many_recordings", detail),
            RecordError::TooFast => Self::new(StatusCode::TOO_MANY_REQUESTS, "too_fast", detail),
            RecordError::NoSuchRecording => Self::no_such_recording(),
            RecordError::NotRecording => Self::new(StatusCode::CONFLICT, "not_recording", detail),
            RecordError::BadMarker => Self::bad_request("bad_marker", detail).field("title"),
            RecordError::TooManyMarkers { .. } => Self::new(StatusCode::CONFLICT, "too_many_markers", detail),
            RecordError::AlreadyPaused => Self::new(StatusCode::CONFLICT, "already_paused", detail),
            RecordError::NotPaused => Self::new(StatusCode::CONFLICT, "not_paused", detail),
            RecordError::DiskFull { .. } => Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", detail),
            RecordError::ServerBusy(_) => Self::unavailable("server_busy", detail),
            RecordError::CatalogueBusy => Self::unavailable("catalogue_busy", detail),
            RecordError::Catalogue(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "catalogue_failed", detail),
            RecordError::NotInRoom => Self::forbidden("not_in_room", detail),
            RecordError::Gone(gone) => gone.into(),
        }
    }
}

impl From<LayoutError> for Problem {
    fn from(error: LayoutError) -> Self {
        Self::bad_request("bad_layout", format!("the layout's {error}")).field(error.field)
    }
}

impl From<EffectError> for Problem {
    fn from(error: EffectError) -> Self {
        let detail = error.to_string();
        match error {
            EffectError::Unknown(_) => Self::bad_request("no_such_effect", detail).field("name"),
            EffectError::Parameter { .. } => Self::bad_request("bad_effect", detail).field("params"),
            EffectError::OtherKind { .. } => Self::bad_request("bad_effect", detail).field("name"),
            EffectError::TooMany => Self::bad_request("too_many_effects", detail),
            EffectError::OverBudget { .. } => Self::new(StatusCode::CONFLICT, "effects_over_budget", detail),
        }
    }
}

impl From<CatalogueError> for Problem {
    fn from(error: CatalogueError) -> Self {
        tracing::error!("the catalogue failed: {error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "catalogue_failed", "the catalogue cannot be read; see the log")
    }
}

impl From<DeleteError> for Problem {
    fn from(error: DeleteError) -> Self {
        match error {
            DeleteError::Unknown => Self::no_such_recording(),
            DeleteError::Running => {
                Self::new(StatusCode::CONFLICT, "recording_running", "stop the recording, and wait until it is ready")
            }
            DeleteError::NotDeleted => Self::new(StatusCode::CONFLICT, "not_deleted", "the recording is not deleted"),
            DeleteError::Catalogue(error) => error.into(),
            DeleteError::File(error) => {
                tracing::error!("a recording's file could not be removed: {error}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "delete_failed", "the file could not be removed")
            }
        }
    }
}
