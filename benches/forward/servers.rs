//! The servers that are measured, each a process of its own with everything off that is not needed.

use std::{
    fs,
    net::{IpAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use salon_load::process::Usage;
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

const START: Duration = Duration::from_secs(20);

/// A server; dropping it ends it.
pub struct Running {
    child: Child,
    pub folder: TempDir,
    pub url: String,
    pub process: u32,
}

impl Running {
    pub fn usage(&self) -> Usage {
        Usage::of(self.process).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The server of this build.
pub const BUILT: &str = env!("CARGO_BIN_EXE_salon");

/// What benches measure: the server that `SALON_BIN` names, or the one of this build.
pub fn measured() -> String {
    std::env::var("SALON_BIN").unwrap_or_else(|_| BUILT.to_owned())
}

/// The server in that file, with `more` settings.
pub async fn salon(binary: &str, edge: &str, more: &[&str]) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut command = Command::new(binary);
    command.args(["serve", "--https-listen", "", "--rtsp-listen", "", "--srt-listen", "", "--media-bind", "127.0.0.1"]);
    command.args(["--max-participants", "1000"]);
    command.args(["--http-listen", &format!("127.0.0.1:{port}"), "--edge", edge]);
    command.args(more);
    command.args([
        "--data-dir",
        path(&folder, "data").as_str(),
        "--recordings-dir",
        path(&folder, "recordings").as_str(),
    ]);
    run(command, folder, format!("http://127.0.0.1:{port}"), port).await
}

/// Janus, if it is installed (Debian: `janus`).
pub async fn janus() -> Option<Running> {
    let known = Command::new("janus").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if known.is_err() {
        println!("janus is not installed: Salon is measured alone");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let key = rcgen::KeyPair::generate().unwrap();
    // Its own would be RSA: the same kind as Salon's, so that set-up is compared fairly, and clients take no other.
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    fs::write(path(&folder, "cert.pem"), certificate.pem()).unwrap();
    fs::write(path(&folder, "key.pem"), key.serialize_pem()).unwrap();
    let plugins = fs::read_dir(library().join("plugins")).unwrap();
    let transports = fs::read_dir(library().join("transports")).unwrap();
    let others = |folder: fs::ReadDir, wanted: &str| {
        let names = folder.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".so") && !name.contains(wanted)).collect::<Vec<_>>().join(",")
    };
    let here = folder.path().to_str().unwrap();
    fs::write(
        path(&folder, "janus.jcfg"),
        format!(
            "general: {{ configs_folder = \"{here}\" debug_level = 2 events_folder = \"{here}/none\" \
             loggers_folder = \"{here}/none\" }}\n\
             certificates: {{ cert_pem = \"{here}/cert.pem\" cert_key = \"{here}/key.pem\" }}\n\
             media: {{ ipv6 = false }}\n\
             plugins: {{ disable = \"{}\" }}\n\
             transports: {{ disable = \"{}\" }}\n",
            others(plugins, "videoroom"),
            others(transports, "websockets"),
        ),
    )
    .unwrap();
    fs::write(
        path(&folder, "janus.transport.websockets.jcfg"),
        format!("general: {{ ws = true ws_port = {port} ws_ip = \"127.0.0.1\" wss = false }}\n"),
    )
    .unwrap();
    fs::write(path(&folder, "janus.plugin.videoroom.jcfg"), "general: {}\n").unwrap();
    let mut command = Command::new("janus");
    command.args(["-F", here, "-C", &path(&folder, "janus.jcfg")]);
    Some(run(command, folder, format!("ws://127.0.0.1:{port}"), port).await)
}

/// An address of this machine that is not loopback, where libnice has none. What goes there from here stays here.
pub fn outward() -> Option<IpAddr> {
    let addresses = if_addrs::get_if_addrs().unwrap().into_iter().map(|interface| interface.ip());
    addresses.into_iter().find(|address| address.is_ipv4() && !address.is_loopback())
}

fn library() -> &'static Path {
    let folders = ["/usr/lib/x86_64-linux-gnu/janus", "/usr/lib/aarch64-linux-gnu/janus", "/usr/lib/janus"];
    folders.into_iter().map(Path::new).find(|folder| folder.is_dir()).expect("Janus' plugins are installed")
}

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

async fn run(mut command: Command, folder: TempDir, url: String, port: u16) -> Running {
    let log = fs::File::create(folder.path().join("log")).unwrap();
    // As script/run starts Salon; the same for both.
    command.env("MALLOC_ARENA_MAX", "2");
    let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let process = child.id();
    let running = Running { child, folder, url, process };
    let end = Instant::now() + START;
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(Instant::now() < end, "{command:?} does not listen");
        sleep(Duration::from_millis(50)).await;
    }
    running
}
