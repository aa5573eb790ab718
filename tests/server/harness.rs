//! A server of one's own, and a client for it.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    sync::{Mutex, mpsc},
    time::{Instant, timeout},
};

use warp::Filter as _;

use salon::{
    config::{IceServer, Secret},
    dialect::{
        native::routes::{Hub, Origins, routes},
        whip,
    },
    media::{
        EffectCost,
        fake::{Call, Calls, FakeEngine},
    },
    recording::{
        Keeper,
        keeper::{KeeperSettings, KeeperTask},
        removal::Retention,
        store::{FinaliseError, Progress, Progressive},
    },
    room::{
        Registry, RoomHandle, command::SessionId, event::RoomEvent, model::JoinRequest, model::Joined, model::Marker,
        model::Role, policy::RoomPolicy,
    },
    server::{
        Limits, Listen, Server, Services,
        auth::Gate,
        metrics::{Metrics, Reading},
        tls::{Certificate, PemFiles},
    },
};

/// Nothing in these tests takes longer, or it never comes.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Headers of a request: name and value.
pub type Headers<'a> = &'a [(&'a str, &'a str)];

/// Waits for what must come.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it comes in time")
}

/// How a test's server differs from the usual.
#[derive(Default)]
pub struct Setup {
    pub secret: Option<&'static str>,
    pub limits: Limits,
    pub tls: bool,
}

pub struct TestServer {
    pub folder: TempDir,
    pub registry: Arc<Registry>,
    pub services: Arc<Services>,
    pub engine: Arc<FakeEngine>,
    pub whip: Arc<whip::Hub>,
    pub calls: Mutex<Calls>,
    pub client: Client,
    pub url: String,
    pub https: Option<String>,
    server: Server,
    keeping: KeeperTask,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub async fn with(setup: Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (keeper, keeping, notices) = Keeper::start(keeping(folder.path())).await.unwrap();
        let (engine, calls) = FakeEngine::new();
        let registry = Registry::new(RoomPolicy::default(), engine.clone(), notices);
        let cost = EffectCost { name: "blur".into(), frames: 50, cpu_ms_per_frame: 2.0 };
        let reading = Reading { name: "packets_forwarded", help: "packets", grows: true, value: 7 };
        let services = Arc::new(Services {
            registry: registry.clone(),
            keeper,
            engine: engine.clone(),
            ingest_allow: "192.168.7.0/24".parse().unwrap(),
            probes: Arc::new(tokio::sync::Semaphore::new(salon::server::api::ingests::MOST_TESTS)),
            shows: Arc::default(),
            pictures: Default::default(),
            gate: Gate::new(setup.secret.map(Secret::new), registry.clone()),
            metrics: Metrics::new(Arc::new(move || vec![reading.clone()]), Arc::new(move || vec![cost.clone()])),
            version: "0.0.0-test",
            started: Instant::now(),
            limits: setup.limits,
            stop: Default::default(),
        });
        let hub =
            Hub { registry: registry.clone(), ice_servers: Value::Array(Vec::new()), version: "0".into(), srt: None };
        let any = vec![([127, 0, 0, 1], 0).into()];
        let https = setup.tls.then(|| {
            let files = PemFiles::self_signed(&folder.path().join("data")).unwrap();
            (any.clone(), Certificate::load(files).unwrap())
        });
        let websocket = routes(Arc::new(hub), Origins::default());
        let ice_servers = [IceServer { urls: vec!["stun:stun.example:3478".into()], username: None, credential: None }];
        let whip = whip::Hub::new(registry.clone(), services.gate.clone(), &ice_servers);
        let doors = websocket.or(whip::routes(whip.clone())).unify();
        let server = Server::start(Listen { http: any, https }, services.clone(), doors).unwrap();
        let url = server.urls()[0].clone();
        let https = server.urls().get(1).cloned();
        let client = Client::builder().timeout(PATIENCE).build().unwrap();
        Self { folder, registry, services, engine, whip, calls: Mutex::new(calls), client, url, https, server, keeping }
    }

    pub async fn send(&self, method: &str, path: &str, body: Option<Value>) -> Response {
        let method: Method = method.parse().unwrap();
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        soon(request.send()).await.unwrap()
    }

    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.request("GET", path, headers).await
    }

    pub async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        soon(request.send()).await.unwrap()
    }

    /// Status and body.
    pub async fn json(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let response = self.send(method, path, body).await;
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// Somebody comes into a room; his events go nowhere.
    pub async fn join(&self, room: &str, pin: Option<&str>) -> (RoomHandle, Joined, mpsc::Receiver<RoomEvent>) {
        let (events, receiver) = mpsc::channel(64);
        let request =
            JoinRequest { name: "Kim".into(), pin: pin.map(str::to_owned), role: None, from: Default::default() };
        let (room, joined) = soon(self.registry.join(room, request, SessionId(1), events)).await.unwrap();
        (room, joined, receiver)
    }

    /// As [`join`](Self::join), in a role that is asked for.
    pub async fn join_as(&self, room: &str, role: Role) -> (RoomHandle, Joined, mpsc::Receiver<RoomEvent>) {
        let (events, receiver) = mpsc::channel(64);
        let request = JoinRequest { name: "Lee".into(), pin: None, role: Some(role), from: Default::default() };
        let (room, joined) = soon(self.registry.join(room, request, SessionId(2), events)).await.unwrap();
        (room, joined, receiver)
    }

    /// Starts a recording and writes `media` where the engine was told to write.
    pub async fn record(&self, room: &str, media: &[u8]) -> (String, PathBuf) {
        let (status, recording) = self.json("POST", &format!("/api/rooms/{room}/recordings"), None).await;
        assert_eq!(status, 201, "{recording}");
        let file = soon(self.calls.lock().await.find(|call| match call {
            Call::StartRecording(_, file, _) => Some(file),
            _ => None,
        }))
        .await;
        std::fs::write(&file, media).unwrap();
        (recording["id"].as_str().unwrap().to_owned(), file)
    }

    /// Records and stops; answers with the finished recording.
    pub async fn finished(&self, room: &str) -> Value {
        let (id, _) = self.record(room, &fragmented(1_000)).await;
        let (status, recording) = self.json("POST", &format!("/api/recordings/{id}/stop?wait_s=10"), None).await;
        assert_eq!((status, &recording["state"]), (200, &Value::from("ready")), "{recording}");
        recording
    }

    pub async fn shut_down(self) {
        self.server.stop_accepting();
        self.registry.shutdown(PATIENCE).await;
        self.keeping.shutdown(PATIENCE).await;
        soon(self.server.close(Duration::from_secs(1))).await;
    }
}

/// Settings of a keeper in `folder` whose finaliser moves boxes about, and knows bad files.
pub fn keeping(folder: &Path) -> KeeperSettings {
    KeeperSettings {
        recordings: folder.join("recordings"),
        database: folder.join("data/salon.db"),
        reserve_bytes: 0,
        finalise: pretend,
        photographer: None,
        retention: Retention::default(),
    }
}

/// Stands for the rewrite of an MP4: what was fragmented gets the boxes of a finished file.
fn pretend(
    source: &Path,
    target: &Path,
    _markers: &[Marker],
    progress: Progress<'_>,
) -> Result<Progressive, FinaliseError> {
    let bytes = std::fs::read(source).map_err(|error| FinaliseError::Other(error.to_string()))?;
    let text = String::from_utf8_lossy(&bytes);
    if text.contains("REFUSE") {
        return Err(FinaliseError::Other("the disk is full".into()));
    }
    progress(0.5);
    let made = progressive(bytes.len());
    std::fs::write(target, &made).map_err(|error| FinaliseError::Other(error.to_string()))?;
    Ok(Progressive { duration: Duration::from_secs(5), bytes: made.len() as u64 })
}

fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
}

/// `ftyp moov moof mdat` around `size` bytes.
pub fn fragmented(size: usize) -> Vec<u8> {
    let media: Vec<u8> = (0..size).map(|byte| byte as u8).collect();
    [boxed(b"ftyp", b"isom"), boxed(b"moov", b""), boxed(b"moof", b""), boxed(b"mdat", &media)].concat()
}

/// `ftyp moov mdat`, 3.5 s long.
pub fn progressive(size: usize) -> Vec<u8> {
    let mut header = [0; 92];
    header[12..16].copy_from_slice(&1_000u32.to_be_bytes());
    header[16..20].copy_from_slice(&3_500u32.to_be_bytes());
    [boxed(b"ftyp", b"isom"), boxed(b"moov", &boxed(b"mvhd", &header)), boxed(b"mdat", &vec![9; size])].concat()
}

/// A problem document's code; checks that it is one.
pub async fn problem(response: Response) -> (u16, String) {
    let status = response.status();
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{status}");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["status"], status.as_u16(), "{body}");
    assert!(body["title"].is_string() && body["detail"].is_string() && body["type"] == "about:blank", "{body}");
    (status.as_u16(), body["code"].as_str().unwrap().to_owned())
}

pub fn is_ok(response: &Response) -> bool {
    response.status() == StatusCode::OK
}
