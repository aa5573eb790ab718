//! The server itself: is it alive, is it ready, what can it do, how is it doing.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;
use warp::{http::StatusCode, reply::Response};

use super::{answer, json};
use crate::{
    media::Capabilities,
    server::{Services, openapi as document, problem::Problem},
};

/// The catalogue answers well within this, or the server is not ready.
const READY_LIMIT: Duration = Duration::from_secs(2);

/// What this server is and can do.
#[derive(Serialize, ToSchema)]
pub struct ServerInfo<'a> {
    /// Salon's version.
    version: &'a str,
    /// Seconds since it was started.
    uptime_s: u64,
    /// Rooms that stand.
    rooms: usize,
    /// What the media engine can do on this machine, and what it cannot and why.
    media: &'a Capabilities,
}

/// It is alive.
#[utoipa::path(get, path = "/healthz", tag = "server", security(()), responses((status = 200, body = String)))]
pub fn health() -> Response {
    answer(StatusCode::OK, "text/plain; charset=utf-8", "ok\n")
}

/// It takes new rooms: the catalogue answers, and it is not shutting down.
#[utoipa::path(
    get, path = "/readyz", tag = "server", security(()),
    responses(
        (status = 200, body = String),
        (status = 503, description = "`not_ready`, `shutting_down`", body = Problem),
    ),
)]
pub async fn ready(services: &Services) -> Result<Response, Problem> {
    let not = |code, detail: String| Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail));
    if services.stop.is_cancelled() {
        return not("shutting_down", "the server is shutting down".into());
    }
    match tokio::time::timeout(READY_LIMIT, services.keeper.counts()).await {
        Ok(Ok(_)) => Ok(answer(StatusCode::OK, "text/plain; charset=utf-8", "ready\n")),
        Ok(Err(error)) => {
            tracing::warn!("not ready: {error}");
            not("not_ready", "the catalogue cannot be read".into())
        }
        Err(_) => not("not_ready", "the catalogue does not answer".into()),
    }
}

/// Figures for Prometheus, in the OpenMetrics text format.
#[utoipa::path(
    get, path = "/metrics", tag = "server",
    responses((status = 200, content_type = "application/openmetrics-text", body = String)),
)]
pub async fn metrics(services: &Services) -> Result<Response, Problem> {
    let text = services.metrics.render(services).await?;
    Ok(answer(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text))
}

/// This document.
#[utoipa::path(get, path = "/api/openapi.json", tag = "server", security(()), responses((status = 200, body = Object)))]
pub fn openapi() -> Response {
    answer(StatusCode::OK, "application/json", document::text())
}

/// Version, codecs, layouts, and what is unavailable and why.
#[utoipa::path(get, path = "/api/server", tag = "server", responses((status = 200, body = ServerInfo)))]
pub fn describe(services: &Services) -> Result<Response, Problem> {
    let info = ServerInfo {
        version: services.version,
        uptime_s: services.started.elapsed().as_secs(),
        rooms: services.registry.list().len(),
        media: services.engine.capabilities(),
    };
    json(StatusCode::OK, &info)
}
