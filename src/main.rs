//! The `salon` program: arguments, settings, logging; then the parts are joined and it waits for a
//! signal.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};
use tracing_subscriber::EnvFilter;
use warp::Filter as _;

use salon::{
    config::{Settings, for_clients},
    dialect::{
        native::routes::{Hub, Origins, routes},
        whip,
    },
    doctor::{self, Elements},
    media::{
        MediaEngine, Unavailable,
        gst::{GstEngine, MediaSettings, counters, effect::effect_totals, photograph, preset::Presets},
    },
    recording::{
        Keeper,
        keeper::{KeeperSettings, KeeperTask},
        store::{self, Finished},
        tracks,
    },
    room::Registry,
    server::{
        Limits, Listen, Server, Services,
        auth::Gate,
        metrics::{Metrics, Reading},
        rtsp::RtspServer,
        srt::SrtServer,
        tls::{Certificate, PemFiles},
    },
    webhook::{WebhookCounters, WebhookSettings, Webhooks},
};

mod arguments;
mod record;

use arguments::{Arguments, Task};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn main() -> ExitCode {
    match run(arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "salon: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { task, config, flags } = arguments;
    if let Task::Recover { folder } = task {
        return recover(&folder);
    }
    // `vars` panics at whatever is not Unicode, whosever it is.
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let environment: BTreeMap<String, String> =
        std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    let settings = Settings::load(config.as_deref(), &environment, &flags)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = match task {
        Task::Doctor { json } => runtime.block_on(examine(&settings, json)),
        Task::Record(arguments) => runtime.block_on(record::record(arguments, settings.pipelines_dir.as_deref())),
        _ => {
            tracing_subscriber::fmt()
                .with_env_filter(EnvFilter::try_new(&settings.log)?)
                .with_ansi(std::io::stderr().is_terminal())
                .with_writer(std::io::stderr)
                .init();
            raise_open_files();
            runtime.block_on(serve(settings)).map(|()| ExitCode::SUCCESS)
        }
    };
    // A finaliser that outlived its deadline is not waited for: the next start takes it up.
    runtime.shutdown_background();
    code
}

/// Starts everything, waits for a signal, ends everything in the opposite order.
async fn serve(settings: Settings) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let engine: Arc<dyn MediaEngine> = Arc::new(start_engine(&settings)?);
    let keeping = KeeperSettings {
        recordings: settings.recordings_dir.clone(),
        database: settings.database_path(),
        reserve_bytes: settings.recordings_reserve_bytes(),
        finalise: store::rewrite,
        photographer: Some(photograph),
        retention: settings.retention,
    };
    let (keeper, keeping, notices) = Keeper::start(keeping).await?;
    let registry = Registry::new(settings.rooms.clone(), engine.clone(), notices);
    let webhooks = (!settings.webhook_urls.is_empty()).then(|| {
        let settings = WebhookSettings::new(settings.webhook_urls.clone(), settings.webhook_secret.clone());
        let (sender, webhooks) = Webhooks::start(settings);
        registry.tell_of_all_rooms(sender);
        webhooks
    });
    let told = webhooks.as_ref().map(Webhooks::counters).unwrap_or_default();
    let services = Arc::new(Services {
        registry: registry.clone(),
        keeper,
        engine,
        ingest_allow: settings.ingest_allow.clone().with_folder(settings.ingest_folder.clone()),
        probes: Arc::new(tokio::sync::Semaphore::new(salon::server::api::ingests::MOST_TESTS)),
        shows: Arc::default(),
        pictures: Default::default(),
        gate: Gate::new(settings.api_secret.clone(), registry.clone()),
        metrics: Metrics::new(
            Arc::new(move || [media_readings(), webhook_readings(&told)].concat()),
            Arc::new(effect_totals),
        ),
        version: VERSION,
        started: Instant::now(),
        limits: Limits::default(),
        stop: Default::default(),
    });
    let callers =
        SrtServer::start(&settings.srt_listen, registry.clone(), services.gate.clone()).context("SRT (srt_listen)")?;
    let hub = Hub {
        registry: registry.clone(),
        ice_servers: for_clients(&settings.ice_servers),
        version: VERSION.to_owned(),
        srt: callers.place(),
    };
    let websocket = routes(Arc::new(hub), Origins { allowed: settings.origins.clone() });
    let whip = whip::Hub::new(registry.clone(), services.gate.clone(), &settings.ice_servers);
    let doors = websocket.or(whip::routes(whip)).unify();
    let players = RtspServer::start(&settings.rtsp_listen, registry.clone(), services.gate.clone())
        .context("RTSP (rtsp_listen)")?;
    let server = Server::start(listen(&settings)?, services, doors)?;
    announce(server.urls());
    announce(&players.addresses().iter().map(|address| format!("rtsp://{address}")).collect::<Vec<_>>());
    announce(&callers.addresses().iter().map(|address| format!("srt://{address}")).collect::<Vec<_>>());

    signals.next().await;
    tracing::info!("shutting down; a second signal ends at once");
    tokio::select! {
        () = shut_down(server, (players, callers), &registry, keeping, webhooks, settings.shutdown) => tracing::info!("good bye"),
        () = signals.next() => tracing::warn!("ended at once; recordings are finalised at the next start"),
    }
    Ok(())
}

/// Rooms end their recordings, the keeper finalises them, connections end; all within `limit`.
async fn shut_down(
    server: Server,
    (players, callers): (RtspServer, SrtServer),
    registry: &Registry,
    keeping: KeeperTask,
    webhooks: Option<Webhooks>,
    limit: Duration,
) {
    let deadline = Instant::now() + limit;
    let left = || deadline.saturating_duration_since(Instant::now());
    server.stop_accepting();
    let soon = left().min(Duration::from_secs(2));
    tokio::join!(players.close(soon), callers.close(soon));
    registry.shutdown(left().mul_f64(0.6)).await;
    keeping.shutdown(left().mul_f64(0.8)).await;
    if let Some(webhooks) = webhooks {
        webhooks.close(left().min(Duration::from_secs(2))).await;
    }
    server.close(left().min(Duration::from_secs(2))).await;
}

fn start_engine(settings: &Settings) -> anyhow::Result<GstEngine> {
    for finding in doctor::media(&Gst) {
        match finding.verdict {
            doctor::Verdict::Good => {}
            doctor::Verdict::Lacking => tracing::warn!("{}: {} (see `salon doctor`)", finding.what, finding.found),
            doctor::Verdict::Broken => {
                anyhow::bail!("{}: {} (`salon doctor` says how to mend it)", finding.what, finding.found)
            }
        }
    }
    let media = MediaSettings {
        bind: settings.media_bind.clone(),
        announce: settings.media_ip,
        ports: settings.media_ports,
        tcp: settings.media_tcp,
        pipelines: settings.pipelines_dir.clone(),
        connect_timeout: settings.rooms.connect_timeout,
        disk_reserve_bytes: settings.recordings_reserve_bytes(),
        edge: settings.edge,
        max_mixes: settings.max_mixes(),
    };
    GstEngine::new(media).context("the media engine did not start")
}

fn listen(settings: &Settings) -> anyhow::Result<Listen> {
    let https = if settings.https_listen.is_empty() {
        None
    } else {
        let files = match (&settings.tls_cert, &settings.tls_key) {
            (Some(cert), Some(key)) => PemFiles { cert: cert.clone(), key: key.clone() },
            _ => PemFiles::self_signed(&settings.data_dir)?,
        };
        Some((settings.https_listen.clone(), Certificate::load(files)?))
    };
    Ok(Listen { http: settings.http_listen.clone(), https })
}

/// One line for each address, for people and for programs that started us with port 0.
fn announce(urls: &[String]) {
    let mut out = std::io::stdout().lock();
    for url in urls {
        // Whoever does not read our output wants no line.
        let _ = writeln!(out, "listening on {url}");
    }
    let _ = out.flush();
}

fn media_readings() -> Vec<Reading> {
    let now = counters();
    let reading = |name, help, grows, value| Reading { name, help, grows, value };
    vec![
        reading("packets_forwarded", "RTP packets handed to subscribers", true, now.packets_forwarded),
        reading("packets_dropped", "RTP packets not handed to subscribers that were behind", true, now.packets_dropped),
        reading("keyframe_requests", "Keyframe requests sent to publishers", true, now.keyframe_requests),
        reading("live_pipelines", "GStreamer pipelines in use", false, now.live_pipelines as u64),
        reading("live_viewers", "Viewers on the fan-out edge", false, now.live_viewers as u64),
        reading("mixes", "Mixes that are being made", false, now.mixes),
        reading("mix_pixels_per_second", "Pixels a second that mixes encode", false, now.mix_pixels_per_s),
        reading("mixes_refused", "Mixes that max_mixes did not allow", true, now.mixes_refused),
        reading(
            "mix_frames_late",
            "Frames of mixes encoded more than 0.8 s after their time",
            true,
            now.mix_frames_late,
        ),
    ]
}

fn webhook_readings(told: &WebhookCounters) -> Vec<Reading> {
    let reading = |name, help, value| Reading { name, help, grows: true, value };
    vec![
        reading("webhooks_delivered", "Messages that webhooks took", told.delivered()),
        reading("webhooks_given_up", "Messages that webhooks refused, or did not take in time", told.given_up()),
        reading("webhooks_left_out", "Messages not sent to webhooks that do not keep up", told.left_out()),
    ]
}

async fn examine(settings: &Settings, json: bool) -> anyhow::Result<ExitCode> {
    let report = doctor::examine(settings, &Gst).await;
    let text = if json { serde_json::to_string_pretty(&report)? } else { report.to_string() };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(if report.is_broken() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Finalises every interrupted recording in a folder that no server uses.
fn recover(folder: &Path) -> anyhow::Result<ExitCode> {
    // Held until the end: a server that is started meanwhile must not work on the same files.
    let _store = store::Store::open(folder, 0, store::rewrite)?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "mp4" || extension == "tracks"))
        .collect();
    files.sort();
    let mut out = std::io::stdout().lock();
    if files.is_empty() {
        writeln!(out, "there is no recording in {}", folder.display())?;
    }
    let mut code = ExitCode::SUCCESS;
    for file in files {
        if file.is_dir() {
            let finished = tracks::finish(&file, 0).with_context(|| file.display().to_string())?;
            for track in finished.files {
                writeln!(out, "{}: ready", file.join(track.name).display())?;
            }
            for remark in finished.remarks {
                code = ExitCode::FAILURE;
                writeln!(out, "{}: {remark}", file.display())?;
            }
            continue;
        }
        let markers = store::read_manifest(&file).map(|manifest| manifest.markers).unwrap_or_default();
        let outcome = match store::finish_file(&file, 0, store::rewrite, &markers, &|_| ()) {
            Finished::Progressive(made) => format!("ready, {:.1} s", made.duration.as_secs_f64()),
            Finished::Fragmented { reason, .. } => {
                code = ExitCode::FAILURE;
                format!("plays, {reason}")
            }
            Finished::Nothing(reason) => {
                code = ExitCode::FAILURE;
                reason
            }
        };
        writeln!(out, "{}: {outcome}", file.display())?;
    }
    Ok(code)
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A webrtcbin viewer takes 17 to 19 descriptors, and the usual soft limit is 1,024.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!("the limit of open files stays as it is: {error}");
    }
}

/// GStreamer, as the doctor asks it.
struct Gst;

impl Elements for Gst {
    fn version(&self) -> Result<(u32, u32, u32), String> {
        gst::init().map_err(|error| error.to_string())?;
        let (major, minor, micro, _) = gst::version();
        Ok((major, minor, micro))
    }

    fn works(&self, element: &str) -> bool {
        gst::ElementFactory::make(element).build().is_ok()
    }

    fn unusable(&self, pipelines: &Path) -> Vec<Unavailable> {
        Presets::load(Some(pipelines)).unavailable().to_vec()
    }

    fn effects(&self) -> (Vec<String>, Vec<Unavailable>) {
        let presets = Presets::load(None);
        let effects = presets.effects().into_iter().map(|effect| effect.name);
        (effects.collect(), presets.unavailable().to_vec())
    }
}
