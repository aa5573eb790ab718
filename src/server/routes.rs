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
    api::{participants, recordings, rooms, server},
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
    ListRooms,
    CreateRoom,
    GetRoom,
    ChangeRoom,
    CloseRoom,
    ListParticipants,
    RemoveParticipant,
    SetLayout,
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
}

const fn route(method: &'static str, path: &'static str, access: Access, operation: Operation) -> Route {
    Route { method, path, access, operation }
}

/// All of them.
pub const ROUTES: [Route; 24] = [
    route("GET", "/healthz", Access::Open, Operation::Health),
    route("GET", "/readyz", Access::Open, Operation::Ready),
    route("GET", "/metrics", Access::Owner, Operation::Metrics),
    route("GET", "/api/openapi.json", Access::Open, Operation::OpenApi),
    route("GET", "/api/server", Access::Participant, Operation::Server),
    route("GET", "/api/rooms", Access::Owner, Operation::ListRooms),
    route("POST", "/api/rooms", Access::Owner, Operation::CreateRoom),
    route("GET", "/api/rooms/{room}", Access::Owner, Operation::GetRoom),
    route("PATCH", "/api/rooms/{room}", Access::Owner, Operation::ChangeRoom),
    route("DELETE", "/api/rooms/{room}", Access::Owner, Operation::CloseRoom),
    route("GET", "/api/rooms/{room}/participants", Access::Owner, Operation::ListParticipants),
    route("DELETE", "/api/rooms/{room}/participants/{id}", Access::Owner, Operation::RemoveParticipant),
    route("PUT", "/api/rooms/{room}/layout", Access::Owner, Operation::SetLayout),
    route("GET", "/api/rooms/{room}/graph", Access::Owner, Operation::Graph),
    route("GET", "/api/rooms/{room}/events", Access::Owner, Operation::Events),
    route("POST", "/api/rooms/{room}/recordings", Access::Owner, Operation::StartRecording),
    route("GET", "/api/recordings", Access::Participant, Operation::ListRecordings),
    route("GET", "/api/recordings/{id}", Access::Participant, Operation::GetRecording),
    route("DELETE", "/api/recordings/{id}", Access::Owner, Operation::DeleteRecording),
    route("POST", "/api/recordings/{id}/pause", Access::Owner, Operation::PauseRecording),
    route("POST", "/api/recordings/{id}/resume", Access::Owner, Operation::ResumeRecording),
    route("POST", "/api/recordings/{id}/markers", Access::Owner, Operation::MarkRecording),
    route("POST", "/api/recordings/{id}/stop", Access::Owner, Operation::StopRecording),
    route("GET", "/api/recordings/{id}/file", Access::Participant, Operation::RecordingFile),
];

async fn perform(operation: Operation, services: &Services, call: Call) -> Result<Response, Problem> {
    match operation {
        Operation::Health => Ok(server::health()),
        Operation::Ready => server::ready(services).await,
        Operation::Metrics => server::metrics(services).await,
        Operation::OpenApi => Ok(server::openapi()),
        Operation::Server => server::describe(services),
        Operation::ListRooms => rooms::list(services).await,
        Operation::CreateRoom => rooms::create(services, call).await,
        Operation::GetRoom => rooms::get(services, call).await,
        Operation::ChangeRoom => rooms::change(services, call).await,
        Operation::CloseRoom => rooms::close(services, call).await,
        Operation::ListParticipants => participants::list(services, call).await,
        Operation::RemoveParticipant => participants::remove(services, call).await,
        Operation::SetLayout => rooms::set_layout(services, call).await,
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
        Operation::RecordingFile => recordings::file(services, call).await,
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

fn into_bytes(chunk: Result<impl Buf, warp::Error>) -> Result<Bytes, warp::Error> {
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
