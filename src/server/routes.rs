//! All routes of the server, in one table: what is called, by whom, and what it does.
//!
//! A row is a promise kept in three ways: the dispatcher asks the gate for the row's access, the
//! `match` below cannot leave an operation out, and a test compares the rows with the OpenAPI
//! document. The WebSocket is the native dialect's own filter; pages are whatever is left.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use warp::{
    Filter, Rejection, Reply,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    path::FullPath,
    reply::Response,
};

use super::{
    Services,
    api::{
        access, effects, ingests, outputs, participants, pictures, pushes, qr, recording_files, recordings, rooms,
        server,
    },
    auth::{Access, Peer},
    problem::Problem,
    request::{BodyStream, Call, decode, find, parse_query},
    web,
};

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// GET routes answer HEAD too.
    pub method: &'static str,
    /// `{…}` takes one segment.
    pub path: &'static str,
    /// Who may.
    pub access: Access,
    operation: Operation,
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Health,
    Ready,
    Metrics,
    OpenApi,
    Server,
    QrCode,
    ListRooms,
    CreateRoom,
    GetRoom,
    ChangeRoom,
    CloseRoom,
    ListParticipants,
    RemoveParticipant,
    AddIngest,
    TestIngest,
    ListIngests,
    RemoveIngest,
    AddOutput,
    ListOutputs,
    RemoveOutput,
    TsOfMix,
    HlsOfMix,
    HlsSegment,
    SetLayout,
    ListEffects,
    EffectPreview,
    GetParticipantEffects,
    SetParticipantEffects,
    GetTrackEffects,
    SetTrackEffects,
    PreviewEffect,
    GetMixEffects,
    SetMixEffects,
    AddPicture,
    ListPictures,
    GetPicture,
    RemovePicture,
    Graph,
    Events,
    StartRecording,
    PauseRecording,
    ResumeRecording,
    MarkRecording,
    StopRecording,
    ListRecordings,
    GetRecording,
    DeleteRecording,
    RecordingFile,
    RecordingNamedFile,
    RecordingManifest,
    RecordingThumbnail,
    RecordingSprite,
    RecordingThumbnails,
    RecordingChat,
    RestoreRecording,
    GrantAccess,
}

const fn route(method: &'static str, path: &'static str, access: Access, operation: Operation) -> Route {
    Route { method, path, access, operation }
}

/// All of them.
pub const ROUTES: [Route; 56] = [
    route("GET", "/healthz", Access::Open, Operation::Health),
    route("GET", "/readyz", Access::Open, Operation::Ready),
    route("GET", "/metrics", Access::Owner, Operation::Metrics),
    route("GET", "/api/openapi.json", Access::Open, Operation::OpenApi),
    route("GET", "/api/server", Access::Participant, Operation::Server),
    route("GET", "/api/qr.svg", Access::Open, Operation::QrCode),
    route("GET", "/api/rooms", Access::Owner, Operation::ListRooms),
    route("POST", "/api/rooms", Access::Owner, Operation::CreateRoom),
    route("GET", "/api/rooms/{room}", Access::Owner, Operation::GetRoom),
    route("PATCH", "/api/rooms/{room}", Access::Owner, Operation::ChangeRoom),
    route("DELETE", "/api/rooms/{room}", Access::Owner, Operation::CloseRoom),
    route("GET", "/api/rooms/{room}/participants", Access::Owner, Operation::ListParticipants),
    route("DELETE", "/api/rooms/{room}/participants/{id}", Access::Owner, Operation::RemoveParticipant),
    route("POST", "/api/rooms/{room}/ingests", Access::Participant, Operation::AddIngest),
    route("POST", "/api/rooms/{room}/ingests/test", Access::Participant, Operation::TestIngest),
    route("GET", "/api/rooms/{room}/ingests", Access::Participant, Operation::ListIngests),
    route("DELETE", "/api/rooms/{room}/ingests/{id}", Access::Participant, Operation::RemoveIngest),
    route("POST", "/api/rooms/{room}/outputs", Access::Participant, Operation::AddOutput),
    route("GET", "/api/rooms/{room}/outputs", Access::Participant, Operation::ListOutputs),
    route("DELETE", "/api/rooms/{room}/outputs/{id}", Access::Participant, Operation::RemoveOutput),
    route("GET", "/ts/{room}/mix.ts", Access::Participant, Operation::TsOfMix),
    route("GET", "/hls/{room}/mix.m3u8", Access::Show, Operation::HlsOfMix),
    route("GET", "/hls/{room}/{segment}", Access::Show, Operation::HlsSegment),
    route("PUT", "/api/rooms/{room}/layout", Access::Owner, Operation::SetLayout),
    route("GET", "/api/effects", Access::Participant, Operation::ListEffects),
    route("GET", "/api/effects/{name}/preview.jpg", Access::Open, Operation::EffectPreview),
    route("GET", "/api/rooms/{room}/participants/{id}/effects", Access::Participant, Operation::GetParticipantEffects),
    route("PUT", "/api/rooms/{room}/participants/{id}/effects", Access::Owner, Operation::SetParticipantEffects),
    route(
        "GET",
        "/api/rooms/{room}/participants/{id}/tracks/{track}/effects",
        Access::Participant,
        Operation::GetTrackEffects,
    ),
    route(
        "PUT",
        "/api/rooms/{room}/participants/{id}/tracks/{track}/effects",
        Access::Owner,
        Operation::SetTrackEffects,
    ),
    route(
        "GET",
        "/api/rooms/{room}/participants/{id}/tracks/{track}/effects/{name}/preview.jpg",
        Access::Participant,
        Operation::PreviewEffect,
    ),
    route("GET", "/api/rooms/{room}/effects", Access::Participant, Operation::GetMixEffects),
    route("PUT", "/api/rooms/{room}/effects", Access::Owner, Operation::SetMixEffects),
    route("POST", "/api/rooms/{room}/pictures", Access::Participant, Operation::AddPicture),
    route("GET", "/api/rooms/{room}/pictures", Access::Participant, Operation::ListPictures),
    route("GET", "/api/rooms/{room}/pictures/{id}", Access::Participant, Operation::GetPicture),
    route("DELETE", "/api/rooms/{room}/pictures/{id}", Access::Participant, Operation::RemovePicture),
    route("GET", "/api/rooms/{room}/graph", Access::Owner, Operation::Graph),
    route("GET", "/api/rooms/{room}/events", Access::Owner, Operation::Events),
    route("POST", "/api/rooms/{room}/recordings", Access::Owner, Operation::StartRecording),
    route("POST", "/api/access", Access::Owner, Operation::GrantAccess),
    route("GET", "/api/recordings", Access::Recordings, Operation::ListRecordings),
    route("GET", "/api/recordings/{id}", Access::Recordings, Operation::GetRecording),
    route("DELETE", "/api/recordings/{id}", Access::Moderator, Operation::DeleteRecording),
    route("POST", "/api/recordings/{id}/pause", Access::Owner, Operation::PauseRecording),
    route("POST", "/api/recordings/{id}/resume", Access::Owner, Operation::ResumeRecording),
    route("POST", "/api/recordings/{id}/markers", Access::Owner, Operation::MarkRecording),
    route("POST", "/api/recordings/{id}/stop", Access::Owner, Operation::StopRecording),
    route("GET", "/api/recordings/{id}/file", Access::Recordings, Operation::RecordingFile),
    route("GET", "/api/recordings/{id}/files/{name}", Access::Recordings, Operation::RecordingNamedFile),
    route("GET", "/api/recordings/{id}/manifest.json", Access::Recordings, Operation::RecordingManifest),
    route("GET", "/api/recordings/{id}/thumbnail.jpg", Access::Recordings, Operation::RecordingThumbnail),
    route("GET", "/api/recordings/{id}/sprite.jpg", Access::Recordings, Operation::RecordingSprite),
    route("GET", "/api/recordings/{id}/thumbnails.vtt", Access::Recordings, Operation::RecordingThumbnails),
    route("GET", "/api/recordings/{id}/chat.vtt", Access::Recordings, Operation::RecordingChat),
    route("POST", "/api/recordings/{id}/restore", Access::Moderator, Operation::RestoreRecording),
];

async fn perform(operation: Operation, services: &Services, call: Call) -> Result<Response, Problem> {
    match operation {
        Operation::Health => Ok(server::health()),
        Operation::Ready => server::ready(services).await,
        Operation::Metrics => server::metrics(services).await,
        Operation::OpenApi => Ok(server::openapi()),
        Operation::Server => server::describe(services),
        Operation::QrCode => qr::draw(&call),
        Operation::ListRooms => rooms::list(services).await,
        Operation::CreateRoom => rooms::create(services, call).await,
        Operation::GetRoom => rooms::get(services, call).await,
        Operation::ChangeRoom => rooms::change(services, call).await,
        Operation::CloseRoom => rooms::close(services, call).await,
        Operation::ListParticipants => participants::list(services, call).await,
        Operation::RemoveParticipant => participants::remove(services, call).await,
        Operation::AddIngest => ingests::add(services, call).await,
        Operation::TestIngest => ingests::test(services, call).await,
        Operation::ListIngests => ingests::list(services, call).await,
        Operation::RemoveIngest => ingests::remove(services, call).await,
        Operation::AddOutput => pushes::add(services, call).await,
        Operation::ListOutputs => pushes::list(services, call).await,
        Operation::RemoveOutput => pushes::remove(services, call).await,
        Operation::TsOfMix => outputs::ts(services, call).await,
        Operation::HlsOfMix => outputs::playlist(services, call).await,
        Operation::HlsSegment => outputs::segment(services, call).await,
        Operation::SetLayout => rooms::set_layout(services, call).await,
        Operation::ListEffects => effects::list(services),
        Operation::EffectPreview => effects::preview(services, &call),
        Operation::GetParticipantEffects => effects::get_participant(services, call).await,
        Operation::SetParticipantEffects => effects::set_participant(services, call).await,
        Operation::GetTrackEffects => effects::get_track(services, call).await,
        Operation::SetTrackEffects => effects::set_track(services, call).await,
        Operation::PreviewEffect => effects::preview_on(services, call).await,
        Operation::GetMixEffects => effects::get_mix(services, call).await,
        Operation::SetMixEffects => effects::set_mix(services, call).await,
        Operation::AddPicture => pictures::add(services, call).await,
        Operation::ListPictures => pictures::list(services, call).await,
        Operation::GetPicture => pictures::get(services, call).await,
        Operation::RemovePicture => pictures::remove(services, call).await,
        Operation::Graph => rooms::graph(services, call).await,
        Operation::Events => rooms::events(services, call).await,
        Operation::StartRecording => recordings::start(services, call).await,
        Operation::PauseRecording => recordings::pause(services, call).await,
        Operation::ResumeRecording => recordings::resume(services, call).await,
        Operation::MarkRecording => recordings::mark(services, call).await,
        Operation::StopRecording => recordings::stop(services, call).await,
        Operation::ListRecordings => recordings::list(services, call).await,
        Operation::GetRecording => recordings::get(services, call).await,
        Operation::DeleteRecording => recordings::delete(services, call).await,
        Operation::RecordingFile => recording_files::file(services, call).await,
        Operation::RecordingNamedFile => recording_files::named(services, call).await,
        Operation::RecordingManifest => recording_files::manifest(services, call).await,
        Operation::RecordingThumbnail => recording_files::thumbnail(services, call).await,
        Operation::RecordingSprite => recording_files::sprite(services, call).await,
        Operation::RecordingThumbnails => recording_files::thumbnails(services, call).await,
        Operation::RecordingChat => recording_files::chat(services, call).await,
        Operation::RestoreRecording => recordings::restore(services, call).await,
        Operation::GrantAccess => access::grant(services),
    }
}

/// The path pattern a request was matched to, for metrics; in the answer's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Matched(pub &'static str);

/// Everything but the WebSocket.
pub fn http(services: Arc<Services>) -> impl Filter<Extract = (impl Reply,), Error = Rejection> + Clone {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Peer>())
        .and(warp::body::stream())
        .then(move |method, path: FullPath, query: String, headers, peer, body| {
            let services = services.clone();
            let body: BodyStream = Box::pin(futures_util::StreamExt::map(body, into_bytes));
            async move { answer(&services, method, path.as_str(), &query, headers, peer, body).await }
        })
}

/// A chunk of a body, whatever it is made of.
pub fn into_bytes(chunk: Result<impl Buf, warp::Error>) -> Result<Bytes, warp::Error> {
    chunk.map(|mut chunk| chunk.copy_to_bytes(chunk.remaining()))
}

async fn answer(
    services: &Services,
    method: Method,
    path: &str,
    query: &str,
    headers: HeaderMap,
    peer: Peer,
    body: BodyStream,
) -> Response {
    let is_head = method == Method::HEAD;
    let (pattern, result) = match find_route(&method, path) {
        Found::Route(route, params) => {
            let query = parse_query(query);
            let result = call(services, route, method, path, query, headers, peer, params, body).await;
            (route.path, result)
        }
        Found::OtherMethods(allowed) => ("(other)", Err(wrong_method(&allowed))),
        Found::Nothing if path.starts_with("/api/") => {
            ("(other)", Err(Problem::not_found("no_such_route", "there is nothing at this path")))
        }
        Found::Nothing => ("(page)", web::page(&method, path, &headers)),
    };
    let mut response = result.unwrap_or_else(Problem::into_response);
    if is_head {
        response = without_body(response);
    }
    response.extensions_mut().insert(Matched(pattern));
    response
}

#[expect(clippy::too_many_arguments, reason = "it only puts a `Call` together")]
async fn call(
    services: &Services,
    route: &Route,
    method: Method,
    path: &str,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    peer: Peer,
    params: Vec<String>,
    body: BodyStream,
) -> Result<Response, Problem> {
    let caller = services.gate.admit(route.access, peer, &headers, find(&query, "access")).await?;
    let call = Call {
        method,
        path: path.to_owned(),
        headers,
        peer,
        caller,
        params,
        query,
        body,
        max_body: services.limits.body_bytes,
        body_timeout: services.limits.body_timeout,
    };
    perform(route.operation, services, call).await
}

enum Found {
    Route(&'static Route, Vec<String>),
    OtherMethods(Vec<&'static str>),
    Nothing,
}

fn find_route(method: &Method, path: &str) -> Found {
    let wanted = if *method == Method::HEAD { "GET" } else { method.as_str() };
    let mut others = Vec::new();
    for route in &ROUTES {
        let Some(params) = fit(route.path, path) else { continue };
        if route.method == wanted {
            return Found::Route(route, params);
        }
        others.push(route.method);
    }
    if others.is_empty() { Found::Nothing } else { Found::OtherMethods(others) }
}

/// The parameters, if `path` has the form of `pattern`.
fn fit(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut params = Vec::new();
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(params),
            (Some(wanted), Some(given)) if wanted.starts_with('{') => {
                params.push(decode(given).filter(|text| !text.is_empty())?);
            }
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return None,
        }
    }
}

fn wrong_method(allowed: &[&'static str]) -> Problem {
    let mut allowed = allowed.to_vec();
    if allowed.contains(&"GET") {
        allowed.push("HEAD");
    }
    let allowed = allowed.join(", ");
    let problem =
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", format!("this path takes {allowed}"));
    match HeaderValue::from_str(&allowed) {
        Ok(value) => problem.header(header::ALLOW, value),
        Err(_) => problem,
    }
}

/// What HEAD answers: the same head, with the length the body would have had (RFC 9110 §9.3.2).
fn without_body(response: Response) -> Response {
    use warp::hyper::body::Body as _;
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact()
        && !head.headers.contains_key(header::CONTENT_LENGTH)
    {
        head.headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Response::from_parts(head, Default::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_take_whole_segments_and_decode_them() {
        assert_eq!(fit("/api/rooms/{room}", "/api/rooms/a%20b"), Some(vec!["a b".to_owned()]));
        assert_eq!(fit("/api/rooms/{room}", "/api/rooms/"), None);
        assert_eq!(fit("/api/rooms/{room}", "/api/rooms/a/b"), None);
        assert_eq!(fit("/api/rooms/{room}", "/api/rooms/%ff"), None);
        assert_eq!(fit("/api/rooms/{room}/graph", "/api/rooms/%2e%2e/graph"), Some(vec!["..".to_owned()]));
        assert_eq!(fit("/api/rooms", "/api/rooms"), Some(Vec::new()));
    }
}
