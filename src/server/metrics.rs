//! Figures for Prometheus. Requests are counted as they are answered; all else is read when asked
//! for, from those who know it.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use futures_util::future::join_all;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use warp::http::{Method, StatusCode};

use super::{Services, problem::Problem};
use crate::media::{EffectCost, Kind};

/// Rooms that do not say how they are within this are left out of the figures.
const ROOM_LIMIT: Duration = Duration::from_secs(1);

/// Reads the media engine's counters at this moment.
pub type MediaReadings = Arc<dyn Fn() -> Vec<Reading> + Send + Sync>;

/// Reads what all effects of each name took since the server was started.
pub type EffectReadings = Arc<dyn Fn() -> Vec<EffectCost> + Send + Sync>;

/// One figure of the media engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Its name, without `salon_` and without `_total`.
    pub name: &'static str,
    /// What it counts, with its unit.
    pub help: &'static str,
    /// It only grows (a counter), or not (a gauge).
    pub grows: bool,
    /// How much.
    pub value: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EffectLabel {
    effect: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
}

/// What is counted by ourselves, and where the rest is read.
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    media: MediaReadings,
    effects: EffectReadings,
}

impl Metrics {
    /// New ones, which read the engine's through `media`, and its effects' through `effects`.
    pub fn new(media: MediaReadings, effects: EffectReadings) -> Self {
        Self { requests: Family::default(), media, effects }
    }

    /// A request was answered. Labels are of a bounded number: patterns, not paths.
    pub fn count(&self, method: &Method, route: &'static str, status: StatusCode) {
        let method = match method.as_str() {
            "GET" => "GET",
            "HEAD" => "HEAD",
            "POST" => "POST",
            "PATCH" => "PATCH",
            "DELETE" => "DELETE",
            _ => "other",
        };
        self.requests.get_or_create(&RequestLabels { method, route, status: status.as_u16() }).inc();
    }

    /// All figures as text.
    ///
    /// # Errors
    /// 500 if the catalogue cannot be read.
    pub async fn render(&self, services: &Services) -> Result<String, Problem> {
        let recordings = services.keeper.counts().await?;
        let mut registry = Registry::with_prefix("salon");
        registry.register("http_requests", "Requests answered, by route pattern", self.requests.clone());
        register_server(&mut registry, services);
        register_rooms(&mut registry, services).await;
        register_recordings(&mut registry, &recordings);
        for reading in (self.media)() {
            register_reading(&mut registry, &reading);
        }
        register_effects(&mut registry, &(self.effects)());
        let mut out = String::new();
        text::encode(&mut out, &registry)
            .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string()))?;
        Ok(out)
    }
}

fn register_server(registry: &mut Registry, services: &Services) {
    let build = Family::<VersionLabel, Gauge>::default();
    build.get_or_create(&VersionLabel { version: services.version }).set(1);
    registry.register("build_info", "Always 1; the label tells the version", build);
    registry.register(
        "uptime_seconds",
        "Seconds since the server was started",
        gauge(services.started.elapsed().as_secs()),
    );
}

/// Rooms are asked all at once; how many of them answered is a figure too.
async fn register_rooms(registry: &mut Registry, services: &Services) {
    let rooms = services.registry.list();
    let asked = rooms.iter().map(|(_, room)| tokio::time::timeout(ROOM_LIMIT, room.view()));
    let views: Vec<_> = join_all(asked).await.into_iter().filter_map(|answer| answer.ok()?.ok()).collect();
    let participants: usize = views.iter().map(|view| view.participants.len()).sum();
    registry.register("rooms", "Rooms that stand", gauge(rooms.len() as u64));
    registry.register("rooms_answering", "Rooms that said how they are", gauge(views.len() as u64));
    registry.register("participants", "Participants in all rooms", gauge(participants as u64));
    let tracks = Family::<KindLabel, Gauge>::default();
    for (kind, word) in [(Kind::Audio, "audio"), (Kind::Video, "video")] {
        let everybody = views.iter().flat_map(|view| &view.participants).flat_map(|participant| &participant.tracks);
        let count = everybody.filter(|track| track.kind == kind).count();
        tracks.get_or_create(&KindLabel { kind: word }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    registry.register("tracks", "Published tracks in all rooms", tracks);
}

fn register_recordings(registry: &mut Registry, counts: &BTreeMap<&'static str, u64>) {
    let recordings = Family::<StateLabel, Gauge>::default();
    for (state, count) in counts {
        recordings.get_or_create(&StateLabel { state }).set(i64::try_from(*count).unwrap_or(i64::MAX));
    }
    registry.register("recordings", "Recordings in the catalogue, by state", recordings);
}

fn register_reading(registry: &mut Registry, reading: &Reading) {
    if reading.grows {
        let counter = Counter::<u64>::default();
        counter.inc_by(reading.value);
        registry.register(reading.name, reading.help, counter);
    } else {
        registry.register(reading.name, reading.help, gauge(reading.value));
    }
}

fn register_effects(registry: &mut Registry, costs: &[EffectCost]) {
    let (frames, seconds) =
        (Family::<EffectLabel, Counter>::default(), Family::<EffectLabel, Counter<f64, AtomicU64>>::default());
    for EffectCost { name, frames: count, cpu_ms_per_frame } in costs {
        let label = EffectLabel { effect: name.clone() };
        frames.get_or_create(&label).inc_by(*count);
        seconds.get_or_create(&label).inc_by(cpu_ms_per_frame * *count as f64 / 1_000.0);
    }
    registry.register("effect_frames", "Pictures and blocks of sound that went through an effect", frames);
    registry.register("effect_cpu_seconds", "Time of a processor core that an effect took", seconds);
}

fn gauge(value: u64) -> Gauge {
    let gauge = Gauge::<i64>::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    gauge
}
