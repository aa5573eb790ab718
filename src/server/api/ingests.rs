//! Ingests: cameras and other sources that the server fetches into a room.

use std::{
    str::FromStr,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use warp::{http::StatusCode, reply::Response};

use super::{empty, json, rooms::find};
use crate::{
    config::Secret,
    ingest::{
        Credentials, DialError, IngestUri, Scheme, UriError,
        rtsp::{Source, Transport},
        tls::Fingerprint,
    },
    media::ingest::{IngestMedia, IngestState, IngestStatus, Probed},
    room::{
        RoomHandle,
        command::Caller as RoomCaller,
        error::{IngestError, NameError},
        id::ParticipantId,
        model::{IngestDetails, IngestRequest},
    },
    server::{Services, auth::Caller, problem::Problem, request::Call},
};

/// Cameras that may be looked at at once: each is a connection, a decoder and perhaps a transcoder.
pub const MOST_TESTS: usize = 2;
/// `latency_ms` is at most this.
const MAX_LATENCY_MS: u64 = 5_000;
/// And this, if it is not given.
const USUAL_LATENCY_MS: u64 = 100;
/// Bytes of a name or a password.
const MAX_CREDENTIAL: usize = 256;

/// What to fetch. Only `uri` must be given.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewIngest {
    /// `rtsp://` or `rtsps://`, `http://` or `https://` (HLS, MP4, MPEG-TS, Motion JPEG), `srt://`, `rtmp://` and a
    /// host, with or without port, path and credentials; or `file:///` and a name in `ingest_folder`.
    #[serde(default)]
    uri: String,
    /// What its participant is called; left out, the host.
    name: Option<String>,
    /// What the camera asks for; may stand in `uri` instead. Shown nowhere.
    credentials: Option<NewCredentials>,
    /// How its media comes; left out, TCP, and UDP if it refuses that.
    #[serde(default)]
    transport: Transport,
    /// Of `rtsps` and `https`: the SHA-256 of its certificate (`AA:BB:…`), if it signed that itself.
    fingerprint: Option<String>,
    /// How long a lost packet is waited for, 0 to 5,000 ms; left out, 100.
    latency_ms: Option<u64>,
    /// It is fetched only while somebody watches or records it, and once at first, to see what it has.
    #[serde(default)]
    on_demand: bool,
    /// False: without its picture.
    video: Option<bool>,
    /// False: without its sound.
    audio: Option<bool>,
}

/// A name and a password.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCredentials {
    user: String,
    password: String,
}

impl std::fmt::Debug for NewCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Fetch a camera into a room; the room is made if there is none of that name. Its participant is there
/// at once; its tracks follow, and stay when the camera does not.
#[utoipa::path(
    post, path = "/api/rooms/{room}/ingests", tag = "ingests",
    params(("room" = String, Path, description = "its name")), request_body = NewIngest,
    responses(
        (status = 201, body = IngestDetails),
        (status = 400, description = "`bad_uri`, `bad_setting`, `bad_name`, `bad_room_name`, `bad_json`", body = Problem),
        (status = 403, description = "`address_not_allowed`, `file_not_allowed`: `detail` has the setting that permits it; `not_allowed`: moderators only", body = Problem),
        (status = 409, description = "`room_full`, `too_many_ingests`", body = Problem),
        (status = 503, description = "`too_many_rooms`, `shutting_down`", body = Problem),
    ),
)]
pub async fn add(services: &Services, mut call: Call) -> Result<Response, Problem> {
    let request = checked(services, call.json().await?)?;
    if call.caller.key().is_some() {
        // Whoever may not add a camera is not told what may be dialled either.
        let (room, caller) = room_of(services, &call).await?;
        room.ingests(caller).await?;
    }
    // Refused here, so that whoever asks is told; the engine looks again whenever it dials.
    let uri = &request.source.uri;
    check_address(services, uri).await?;
    let (room, caller) = match call.caller {
        Caller::Participant { .. } | Caller::Former(_) => room_of(services, &call).await?,
        Caller::Owner | Caller::Anybody => (services.registry.find_or_create(call.param(0))?, RoomCaller::Owner),
    };
    json(StatusCode::CREATED, &room.add_ingest(caller, request).await?)
}

/// Whether that may be dialled, or read. What is away at this moment may come.
pub(super) async fn check_address(services: &Services, uri: &IngestUri) -> Result<(), Problem> {
    let looked = match uri.scheme {
        Scheme::File => services.ingest_allow.file(uri.target()).map(drop),
        _ => services.ingest_allow.resolve(&uri.host, uri.port).await.map(drop),
    };
    match looked {
        Err(error @ DialError::Refused { .. }) => {
            Err(Problem::forbidden("address_not_allowed", error.to_string()).field("uri"))
        }
        Err(error @ DialError::File { .. }) => {
            Err(Problem::forbidden("file_not_allowed", error.to_string()).field("uri"))
        }
        Ok(()) | Err(DialError::Unresolved { .. } | DialError::Unreachable { .. }) => Ok(()),
    }
}

/// What was given beside an address.
pub(super) fn credentials(given: Option<NewCredentials>) -> Result<Option<Credentials>, Problem> {
    match given {
        Some(it) if it.user.len() > MAX_CREDENTIAL || it.password.len() > MAX_CREDENTIAL => {
            Err(Problem::bad_request("bad_setting", "`credentials` are longer than 256 bytes").field("credentials"))
        }
        given => Ok(given.map(|it| Credentials { user: Secret::new(&it.user), password: Secret::new(&it.password) })),
    }
}

/// What a look at a source showed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct IngestTest {
    /// `live`, or why nothing came.
    state: IngestState,
    /// Why not, in a word, as of an ingest.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Why not, or what was left out, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// How its media comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<Transport>,
    /// What its picture is.
    #[serde(skip_serializing_if = "Option::is_none")]
    video: Option<IngestMedia>,
    /// What its sound is.
    #[serde(skip_serializing_if = "Option::is_none")]
    audio: Option<IngestMedia>,
    /// A picture of it, at most 640 pixels wide: `data:image/jpeg;base64,…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<String>,
    /// How long that took.
    took_ms: u64,
}

/// Look at a camera without adding it: what it has, and a picture. Takes at most some 15 s.
#[utoipa::path(
    post, path = "/api/rooms/{room}/ingests/test", tag = "ingests",
    params(("room" = String, Path, description = "its name")), request_body = NewIngest,
    responses(
        (status = 200, description = "also if it did not answer: `state` and `reason` say so", body = IngestTest),
        (status = 400, description = "`bad_uri`, `bad_setting`, `bad_json`", body = Problem),
        (status = 403, description = "as when it is added", body = Problem),
        (status = 404, description = "`no_such_room`", body = Problem),
        (status = 429, description = "`too_many_tests`: others are being looked at", body = Problem),
    ),
)]
pub async fn test(services: &Services, mut call: Call) -> Result<Response, Problem> {
    let IngestRequest { source, .. } = checked(services, call.json().await?)?;
    let (room, caller) = room_of(services, &call).await?;
    room.ingests(caller).await?;
    check_address(services, &source.uri).await?;
    let Ok(turn) = services.probes.clone().try_acquire_owned() else {
        let detail = "other cameras are being looked at; try again in some seconds";
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_tests", detail));
    };
    let began = Instant::now();
    let probed = services.engine.probe(source);
    // It goes on when the one who asked has gone, and counts until its end.
    let probed = tokio::spawn(async move {
        let probed = probed.await;
        drop(turn);
        probed
    });
    let Probed { status, snapshot } = probed.await.ok().and_then(Result::ok).unwrap_or_default();
    let IngestStatus { state, reason, detail, transport, video, audio, .. } = status;
    let snapshot = snapshot.map(|jpeg| format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg)));
    let took_ms = began.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    json(StatusCode::OK, &IngestTest { state, reason, detail, transport, video, audio, snapshot, took_ms })
}

/// What is fetched into a room, in the order it was added.
#[utoipa::path(
    get, path = "/api/rooms/{room}/ingests", tag = "ingests",
    params(("room" = String, Path, description = "its name")),
    responses((status = 200, body = [IngestDetails]), (status = 404, description = "`no_such_room`", body = Problem)),
)]
pub async fn list(services: &Services, call: Call) -> Result<Response, Problem> {
    let (room, caller) = room_of(services, &call).await?;
    json(StatusCode::OK, &room.ingests(caller).await?)
}

/// Fetch something no more: the camera is told, and its participant goes.
#[utoipa::path(
    delete, path = "/api/rooms/{room}/ingests/{id}", tag = "ingests",
    params(("room" = String, Path, description = "its name"), ("id" = String, Path, description = "which")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, description = "`no_such_room`, `no_such_ingest`", body = Problem),
    ),
)]
pub async fn remove(services: &Services, call: Call) -> Result<Response, Problem> {
    let (room, caller) = room_of(services, &call).await?;
    let which = ParticipantId::from_str(call.param(1)).unwrap_or_else(|never| match never {});
    room.remove_ingest(caller, which).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The room, and who asks there: the owner, or one of its participants.
pub(super) async fn room_of(services: &Services, call: &Call) -> Result<(RoomHandle, RoomCaller), Problem> {
    let room = find(services, call)?;
    match &call.caller {
        Caller::Participant { key, .. } if *key != room.key().await? => Err(Problem::no_such_room()),
        Caller::Participant { id, .. } => Ok((room, RoomCaller::Participant(id.clone()))),
        Caller::Former(_) => Err(Problem::access_ended()),
        Caller::Owner | Caller::Anybody => Ok((room, RoomCaller::Owner)),
    }
}

fn checked(services: &Services, new: NewIngest) -> Result<IngestRequest, Problem> {
    let (uri, from_uri) = IngestUri::parse(&new.uri)?;
    if uri.scheme == Scheme::Rtmps {
        return Err(Problem::bad_request(
            "bad_uri",
            "`uri` has the scheme `rtmps`, which is pushed to, and not fetched",
        )
        .field("uri"));
    }
    let setting = |setting, problem: &str| {
        Err(Problem::bad_request("bad_setting", format!("`{setting}` {problem}")).field(setting))
    };
    let credentials = credentials(new.credentials)?.or(from_uri);
    let fingerprint = match new.fingerprint.as_deref().map(str::parse::<Fingerprint>).transpose() {
        Ok(fingerprint) => fingerprint,
        Err(problem) => return setting("fingerprint", &problem),
    };
    let latency_ms = new.latency_ms.unwrap_or(USUAL_LATENCY_MS);
    if latency_ms > MAX_LATENCY_MS {
        return setting("latency_ms", "is 0 to 5000");
    }
    let (video, audio) = (new.video.unwrap_or(true), new.audio.unwrap_or(true));
    if !video && !audio {
        return setting("video", "and `audio` are both false: there is nothing to fetch");
    }
    let usual =
        if uri.scheme == Scheme::File { uri.target().trim_matches('/').to_owned() } else { uri.host.to_string() };
    let name = new.name.unwrap_or_else(|| usual.chars().take(64).collect());
    let allow = services.ingest_allow.clone();
    let source = Source { uri, credentials, transport: new.transport, allow, fingerprint, video, audio };
    Ok(IngestRequest { name, source, latency: Duration::from_millis(latency_ms), on_demand: new.on_demand })
}

impl From<UriError> for Problem {
    fn from(error: UriError) -> Self {
        Self::bad_request("bad_uri", format!("`uri` {error}")).field("uri")
    }
}

impl From<IngestError> for Problem {
    fn from(error: IngestError) -> Self {
        let detail = error.to_string();
        match error {
            IngestError::Name(NameError::TooLong { .. }) => Self::bad_request("name_too_long", detail).field("name"),
            IngestError::Name(NameError::Empty | NameError::Character(_)) => {
                Self::bad_request("bad_name", detail).field("name")
            }
            IngestError::NotAllowed => Self::forbidden("not_allowed", detail),
            IngestError::NotInRoom => Self::forbidden("not_in_room", detail),
            IngestError::TooMany { .. } => Self::new(StatusCode::CONFLICT, "too_many_ingests", detail),
            IngestError::Full { .. } => Self::new(StatusCode::CONFLICT, "room_full", detail),
            IngestError::Unknown => Self::not_found("no_such_ingest", detail),
            IngestError::Gone(gone) => gone.into(),
        }
    }
}
