//! The door itself: requests below `/whip` and `/whep`, and the headers that pages of other sites need.

use std::sync::Arc;

use futures_util::StreamExt;
use http::{HeaderName, HeaderValue};
use warp::{Filter, Rejection, path::FullPath, reject, reply::Response};

use super::{
    door::{Answer, Hub, Request},
    message,
};
use crate::{
    room::guests::Address,
    server::{
        auth::Peer,
        problem::Problem,
        request::parse_query,
        routes::{Matched, into_bytes},
    },
};

/// On every answer. Any page may come: nothing here is opened by who the browser's user is, only by
/// what is shown.
const CORS: [(HeaderName, HeaderValue); 5] = [
    (HeaderName::from_static("access-control-allow-origin"), HeaderValue::from_static("*")),
    (
        HeaderName::from_static("access-control-allow-methods"),
        HeaderValue::from_static("GET, HEAD, POST, PATCH, DELETE, OPTIONS"),
    ),
    (
        HeaderName::from_static("access-control-allow-headers"),
        HeaderValue::from_static("Authorization, Content-Type, If-Match, ETag, Accept, Link"),
    ),
    (
        HeaderName::from_static("access-control-expose-headers"),
        HeaderValue::from_static(
            "Location, ETag, Link, Accept-Post, Accept-Patch, Retry-After, Access-Control-Allow-Methods, \
             WWW-Authenticate",
        ),
    ),
    (HeaderName::from_static("access-control-max-age"), HeaderValue::from_static("86400")),
];

/// The filter for `/whip` and `/whep`.
pub fn routes(hub: Arc<Hub>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + 'static {
    let ours = warp::path::full().and_then(async |path: FullPath| {
        if message::is_ours(path.as_str()) { Ok(path.as_str().to_owned()) } else { Err(reject::not_found()) }
    });
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    ours.and(warp::method())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<Peer>())
        .and(warp::body::stream())
        .then(move |path, method, query: String, headers, peer: Option<Peer>, body| {
            let hub = hub.clone();
            let body = StreamExt::map(body, into_bytes);
            async move {
                let from = peer.map_or_else(Address::default, |peer| peer.address.ip().into());
                let request = Request { method, path, query: parse_query(&query), headers, from, body: Box::pin(body) };
                let (pattern, answer) = hub.answer(request).await;
                written(pattern, answer)
            }
        })
}

fn written(pattern: &'static str, answer: Result<Answer, Problem>) -> Response {
    let mut response = match answer {
        Ok(Answer { status, headers, body }) => {
            let mut response = Response::new(body.into());
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            response
        }
        Err(problem) => problem.into_response(),
    };
    response.headers_mut().extend(CORS);
    response.extensions_mut().insert(Matched(pattern));
    response
}
