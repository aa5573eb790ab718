//! A camera: a real RTSP server in a process of its own, which can be killed, stopped and started again.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use salon::{
    ingest::{AllowList, Credentials, IngestUri, rtsp::Source, rtsp::Transport},
    media::{MediaEvent, ingest::Ingest, ingest::IngestStatus},
    room::id::{ConnectionId, TrackId},
};

use tokio::sync::watch;

use super::{
    client::Colour,
    hall::{Events, Hall, new_connection},
};

/// What a camera sends.
#[derive(Clone, Debug)]
pub struct Model {
    pub launch: String,
    /// `basic` or `digest`.
    pub auth: Option<&'static str>,
    /// `udp` or `tcp` alone.
    pub protocols: Option<&'static str>,
    /// Over TLS, with this certificate and key (PEM).
    pub certificate: Option<PathBuf>,
}

impl Model {
    /// A colour of that size, encoded and payloaded by `video`, and a tone by `audio`.
    pub fn new(colour: Colour, (width, height): (u32, u32), video: &str, tone: u32, audio: &str) -> Self {
        let colour = 0xFF00_0000u32 | colour;
        let launch = format!(
            "( videotestsrc is-live=true pattern=solid-color foreground-color={colour} ! \
             video/x-raw,format=I420,width={width},height={height},framerate=25/1 ! {video} name=pay0 pt=96 \
             audiotestsrc is-live=true volume=0.5 freq={tone} samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=1 ! \
             audioconvert ! audioresample ! {audio} name=pay1 )"
        );
        Self { launch, auth: None, protocols: None, certificate: None }
    }

    /// An older one: MPEG-4 part 2, and AAC. The picture is a file, for the 40 s that it lasts: GStreamer's encoder
    /// of it gives no times.
    pub fn mpeg4(colour: Colour, tone: u32, folder: &Path) -> Self {
        let file = folder.join("mpeg4.mkv");
        let picture = format!("color=0x{colour:06X}:size=320x240:rate=25");
        let how = ["-nostdin", "-v", "error", "-f", "lavfi", "-i", &picture, "-t", "40", "-g", "25", "-c:v", "mpeg4"];
        assert!(Command::new("ffmpeg").args(how).arg(&file).status().unwrap().success());
        let video = format!("filesrc location={} ! matroskademux ! mpeg4videoparse ! rtpmp4vpay", file.display());
        let Self { launch, .. } = Self::usual(colour, tone);
        let sound = launch.find("audiotestsrc").unwrap();
        Self { launch: format!("( {video} name=pay0 pt=96 {}", &launch[sound..]), ..Self::usual(colour, tone) }
    }

    /// As most cameras: H.264 without B-frames, a keyframe a second, parameter sets only in the
    /// description, and AAC.
    pub fn usual(colour: Colour, tone: u32) -> Self {
        Self::new(colour, (320, 240), H264, tone, AAC)
    }
}

pub const H264: &str = "x264enc tune=zerolatency speed-preset=ultrafast bitrate=400 key-int-max=25 ! \
                        video/x-h264,profile=main ! h264parse ! rtph264pay config-interval=0";
pub const H264_B_FRAMES: &str = "x264enc speed-preset=veryfast bframes=3 b-adapt=false rc-lookahead=5 bitrate=400 key-int-max=25 ! \
                                 video/x-h264,profile=high ! h264parse ! rtph264pay";
pub const H265: &str =
    "x265enc tune=zerolatency speed-preset=ultrafast bitrate=400 key-int-max=25 ! h265parse ! rtph265pay";
pub const MJPEG: &str = "jpegenc ! rtpjpegpay";
pub const AAC: &str = "avenc_aac bitrate=64000 ! aacparse ! rtpmp4gpay pt=97";
pub const PCMU: &str = "audio/x-raw,rate=8000 ! mulawenc ! rtppcmupay pt=0";
pub const PCMA: &str = "audio/x-raw,rate=8000 ! alawenc ! rtppcmapay pt=8";
pub const OPUS: &str = "opusenc ! rtpopuspay pt=97";

/// A running one.
pub struct TestCamera {
    process: Child,
    pub port: u16,
    /// What clients asked of it: how often to play, and how often to end.
    asked: watch::Receiver<(u32, u32)>,
}

impl TestCamera {
    pub fn start(model: &Model) -> Self {
        Self::start_at(model, 0)
    }

    /// At the port of one that was killed.
    pub fn start_at(model: &Model, port: u16) -> Self {
        let mut spec = serde_json::json!({"launch": model.launch, "port": port});
        for (name, value) in [("auth", model.auth), ("protocols", model.protocols)] {
            if let Some(value) = value {
                spec[name] = value.into();
            }
        }
        if let Some(file) = &model.certificate {
            spec["certificate"] = file.to_str().unwrap().into();
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/camera/camera.py");
        let mut process = Command::new("/usr/bin/python3")
            .args([script, &spec.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 with gst-rtsp-server: script/setup --test");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.next().unwrap().unwrap().parse().expect("the camera tells its port");
        let (note, asked) = watch::channel((0, 0));
        std::thread::spawn(move || {
            while let Some(Ok(line)) = lines.next() {
                note.send_modify(|(plays, ends)| match line.as_str() {
                    "play" => *plays += 1,
                    "teardown" => *ends += 1,
                    other => panic!("{other}"),
                });
            }
        });
        Self { process, port, asked }
    }

    /// How often clients asked it to play, and to end.
    pub fn asked(&self) -> (u32, u32) {
        *self.asked.borrow()
    }

    /// Waits until they did so often.
    pub async fn until_asked(&self, plays: u32, ends: u32) {
        let mut asked = self.asked.clone();
        let wanted = asked.wait_for(|asked| *asked == (plays, ends));
        let waited = tokio::time::timeout(std::time::Duration::from_secs(20), wanted).await.map(|it| it.map(|_| ()));
        assert!(matches!(waited, Ok(Ok(()))), "{:?} instead of {:?}", self.asked(), (plays, ends));
    }

    pub fn uri(&self) -> String {
        format!("rtsp://127.0.0.1:{}/live", self.port)
    }

    /// As when its plug is pulled.
    pub fn kill(mut self) -> u16 {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.port
    }

    /// It keeps its connections and does nothing (or goes on).
    pub fn set_hung(&self, hung: bool) {
        let signal = if hung { "-STOP" } else { "-CONT" };
        assert!(Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for TestCamera {
    fn drop(&mut self) {
        // It may have been killed by the test.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An ingest in a hall.
pub struct Fetched {
    pub connection: ConnectionId,
    pub video: TrackId,
    pub audio: TrackId,
    pub events: Events,
}

pub fn source(uri: &str, transport: Transport) -> Source {
    let (uri, credentials): (IngestUri, Option<Credentials>) = IngestUri::parse(uri).unwrap();
    let allow: AllowList = "127.0.0.0/8".parse().unwrap();
    Source { uri, credentials, transport, allow, fingerprint: None, video: true, audio: true }
}

impl Fetched {
    pub fn start(hall: &Hall, source: Source) -> Self {
        Self::start_as(hall, source, false)
    }

    pub fn start_on_demand(hall: &Hall, source: Source) -> Self {
        Self::start_as(hall, source, true)
    }

    fn start_as(hall: &Hall, source: Source, on_demand: bool) -> Self {
        let events = hall.events();
        let connection = new_connection("ingest");
        let (video, audio) = (TrackId::random(), TrackId::random());
        let ingest = Ingest {
            name: "Door <1>".into(),
            latency: std::time::Duration::from_millis(100),
            on_demand,
            video: source.video.then(|| video.clone()),
            audio: source.audio.then(|| audio.clone()),
            source,
        };
        hall.room(|room| room.ingest(connection.clone(), ingest));
        Self { connection, video, audio, events }
    }

    pub fn tracks(&self) -> Vec<TrackId> {
        vec![self.video.clone(), self.audio.clone()]
    }

    /// Waits until it is known which tracks there are.
    pub async fn opened(&mut self) -> Vec<TrackId> {
        let connection = self.connection.clone();
        let event = self.events.until(
            "the ingest's tracks",
            |event| matches!(event, MediaEvent::IngestOpened { connection: of, .. } if *of == connection),
        );
        match event.await {
            MediaEvent::IngestOpened { tracks, .. } => tracks.into_iter().map(|(track, _)| track).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until it stands so.
    pub async fn until(&mut self, what: &str, is_so: impl Fn(&IngestStatus) -> bool) -> IngestStatus {
        let connection = self.connection.clone();
        let event = self.events.until(what, |event| {
            matches!(event, MediaEvent::IngestChanged { connection: of, status } if *of == connection && is_so(status))
        });
        match event.await {
            MediaEvent::IngestChanged { status, .. } => status,
            other => panic!("{other:?}"),
        }
    }
}
