//! The real binary in a folder of its own, and somebody in one of its rooms.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use gst::prelude::*;
use salon::media::CodecName;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    common::{
        client::{Client, Conditions, RED},
        soon,
    },
    numbers,
};

pub struct Server {
    child: Child,
    url: String,
    http: reqwest::Client,
    recordings: PathBuf,
}

impl Server {
    pub async fn start(home: &Path, recordings: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_salon"))
            .arg("serve")
            .current_dir(home)
            .env("SALON_HTTP_LISTEN", "127.0.0.1:0")
            .env("SALON_HTTPS_LISTEN", "")
            .env("SALON_RTSP_LISTEN", "")
            .env("SALON_SRT_LISTEN", "")
            .env("SALON_MEDIA_BIND", "127.0.0.1")
            .env("SALON_RECORDINGS_DIR", recordings)
            .env("SALON_RECORDINGS_RESERVE_MIB", "0")
            .env("SALON_DATA_DIR", home)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = soon("the server listens", async {
            loop {
                let line = lines.next_line().await.unwrap().expect("the server stays");
                if let Some(url) = line.strip_prefix("listening on ") {
                    break url.trim_end_matches('/').to_owned();
                }
            }
        })
        .await;
        // What it says later is of no interest, and must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, url, http: reqwest::Client::new(), recordings: recordings.to_owned() }
    }

    pub async fn api(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.ask(method, path, body).await;
        assert!(status < 300, "{method} {path}: {answer}");
        answer
    }

    /// Status and body.
    pub async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.http.request(method.parse().unwrap(), format!("{}/api/{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = soon(path, request.send()).await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// Starts a recording whose picture is all of one member's. Its id, once all of its files
    /// have something in them, and when it began.
    pub async fn record(&self, room: &str, mode: &str) -> (String, Instant) {
        let layout = json!({"kind": "custom", "labels": false,
            "regions": [{"x": 0, "y": 0, "width": 1, "height": 1, "show": "next"}]});
        let body = json!({"mode": mode, "width": 320, "height": 180, "layout": layout});
        let id = self.api("POST", &format!("rooms/{room}/recordings"), Some(body)).await["id"].clone();
        let id = id.as_str().unwrap().to_owned();
        let expected = match mode {
            "composite" => 1,
            "both" => 3,
            _ => 2,
        };
        let begun = |recording: &Value| {
            let files = recording["files"].as_array().map_or(0, |files| {
                files.iter().filter(|file| file["bytes"].as_u64().is_some_and(|bytes| bytes > 0)).count()
            });
            recording["state"] == "recording" && files == expected
        };
        let recording = self.until(&id, "the recording starts", begun).await;
        let started: jiff::Timestamp = recording["started_at"].as_str().unwrap().parse().unwrap();
        let ago = Duration::try_from(jiff::Timestamp::now().duration_since(started)).unwrap();
        (id, Instant::now() - ago)
    }

    /// Until the recording is as `enough` says.
    pub async fn until(&self, id: &str, what: &str, enough: impl Fn(&Value) -> bool) -> Value {
        soon(what, async {
            loop {
                let recording = self.api("GET", &format!("recordings/{id}"), None).await;
                if enough(&recording) {
                    return recording;
                }
                // The catalogue is asked again after a round over the network and the disk.
                self.api("GET", "server", None).await;
            }
        })
        .await
    }

    /// Until it is over.
    pub async fn over(&self, id: &str) -> Value {
        let over = |recording: &Value| recording["state"] == "ready" || recording["state"] == "failed";
        self.until(id, "the recording is over", over).await
    }

    /// Where a file lies that a recording lists.
    pub fn path(&self, recording: &Value, file: &Value) -> PathBuf {
        let name = file["name"].as_str().unwrap();
        match file["kind"].as_str().unwrap() {
            "composite" => self.recordings.join(name),
            _ => self.recordings.join(format!("{}.tracks", recording["id"].as_str().unwrap())).join(name),
        }
    }

    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends the signal, and does not wait: who is stuck on a disk dies later.
    pub fn shoot(&mut self) {
        self.child.start_kill().unwrap();
    }

    /// After [`shoot`](Self::shoot).
    pub async fn died(mut self) {
        soon("the server's death", self.child.wait()).await.unwrap();
    }
}

/// Somebody who sends numbered pictures and a tone into a room.
pub struct Guest {
    client: Arc<Client>,
    frozen: Arc<AtomicBool>,
    socket: JoinHandle<()>,
}

impl Guest {
    pub async fn enter(server: &Server, room: &str, codec: CodecName) -> Self {
        let frozen = Arc::new(AtomicBool::new(false));
        let client = numbered(codec, frozen.clone()).await;
        let address = format!("{}/ws", server.url.replace("http://", "ws://"));
        let (socket, _) = soon("the socket opens", tokio_tungstenite::connect_async(address)).await.unwrap();
        let (mut out, mut frames) = socket.split();
        let offer = client.offer().await;
        for verb in [
            json!({"type": "join", "room": room, "name": "Ann"}),
            json!({"id": 2, "type": "publish", "connection": "main", "sdp": offer}),
        ] {
            out.send(Message::text(verb.to_string())).await.unwrap();
        }
        let mut candidates = client.candidates.lock().unwrap().take().unwrap();
        let talker = client.clone();
        let socket = tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(candidate) = candidates.recv() => {
                        let verb = json!({"type": "candidate", "connection": "main", "candidate": candidate});
                        let _ = out.send(Message::text(verb.to_string())).await;
                    }
                    frame = frames.next() => {
                        let Some(Ok(frame)) = frame else { return };
                        let Ok(frame) = serde_json::from_slice::<Value>(&frame.into_data()) else { continue };
                        if frame["id"] == 2 {
                            talker.take_answer(frame["sdp"].as_str().unwrap()).await;
                        } else if frame["type"] == "candidate" && !frame["candidate"].is_null() {
                            talker.take_candidate(&serde_json::from_value(frame["candidate"].clone()).unwrap());
                        }
                    }
                }
            }
        });
        client.connected().await;
        settled(&client).await;
        Self { client, frozen, socket }
    }

    /// No picture comes any more.
    pub fn freeze(&self) {
        self.frozen.store(true, Relaxed);
    }

    /// The camera is turned to another size.
    pub fn resize(&self, width: u32, height: u32) {
        let size = self.client.pipeline.by_name("size").unwrap();
        size.set_property_from_str("caps", &caps(width, height));
    }

    pub async fn go(self) {
        self.socket.abort();
        self.client.close().await;
    }
}

/// What waited for the connection leaves all at once, and the server's jitter buffer takes two seconds to learn that the
/// pictures are older than they seemed. (Browsers take pictures once they are connected.)
async fn settled(client: &Client) {
    const PICTURES: usize = 60;
    let (count, mut seen) = tokio::sync::watch::channel(0);
    let pad = client.pipeline.by_name("picture").unwrap().static_pad("src").unwrap();
    let probe = pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        count.send_modify(|count| *count += 1);
        gst::PadProbeReturn::Ok
    });
    soon("the pictures settle", seen.wait_for(|count| *count >= PICTURES)).await.unwrap();
    pad.remove_probe(probe.unwrap());
}

fn caps(width: u32, height: u32) -> String {
    format!("video/x-raw,format=I420,width={width},height={height},framerate=25/1")
}

async fn numbered(codec: CodecName, frozen: Arc<AtomicBool>) -> Arc<Client> {
    let launch = format!(
        "{}videotestsrc is-live=true pattern=solid-color foreground-color={} ! capsfilter name=size caps={} ! \
         identity name=picture ! {} ! queue max-size-time=0 max-size-buffers=0 max-size-bytes=0 ! webrtc. \
         audiotestsrc is-live=true volume=0.5 freq=440 samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! \
         opusenc ! rtpopuspay pt=97 ! \
         application/x-rtp,media=audio,encoding-name=OPUS,payload=97,encoding-params=(string)2 ! webrtc. ",
        Client::WEBRTC,
        0xFF00_0000 | RED,
        caps(320, 180),
        Client::encoder(codec),
    );
    let paint = move |bin: &gst::Bin| {
        let pad = bin.by_name("picture").unwrap().static_pad("src").unwrap();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if frozen.load(Relaxed) {
                return gst::PadProbeReturn::Drop;
            }
            let caps = pad.current_caps().unwrap();
            let buffer = info.buffer_mut().unwrap().make_mut();
            let now = pad.parent_element().unwrap().current_running_time().unwrap();
            let age = now.saturating_sub(buffer.pts().unwrap());
            numbers::paint(buffer, &caps, age.into());
            gst::PadProbeReturn::Ok
        });
    };
    Client::of(launch, Conditions::default(), paint).await
}
