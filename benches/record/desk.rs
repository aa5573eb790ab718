//! A screen that nobody looks at, with a browser on it, which ffmpeg films.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::figures;

/// What is recorded, here and by Salon.
pub const CANVAS: (u32, u32) = (1280, 720);
pub const FPS: u32 = 25;
/// What Salon's rule gives this canvas (`pipelines/encoders/x264-live.toml`).
pub const BITRATE_KBPS: u32 = 2776;
/// x264's options where the picture is live (as above).
pub const LIVE: &str = "keyint=25:bframes=0:rc-lookahead=0:sync-lookahead=0:mbtree=0:threads=1";

/// Ends with all its processes when it is dropped.
pub struct Desk {
    display: String,
    server: Ended,
    browser: Ended,
}

impl Desk {
    /// An X server, and a browser on all of it that shows `address`; `None` where one of them is missing.
    pub fn open(address: &str, folder: &Path) -> Option<Self> {
        let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".into());
        if !Path::new(&chromium).exists() || Command::new("Xvfb").arg("-help").output().is_err() {
            println!("SKIPPED: the browser that is filmed needs chromium and xvfb");
            return None;
        }
        let (display, server) = screen()?;
        let server = Ended(server);
        let browser = Command::new(&chromium)
            .args(["--no-sandbox", "--kiosk", "--no-first-run", "--disable-gpu", "--mute-audio"])
            .args(["--autoplay-policy=no-user-gesture-required", "--allow-loopback-in-peer-connection"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg(format!("--window-size={},{}", CANVAS.0, CANVAS.1))
            .arg("--window-position=0,0")
            .arg(format!("--user-data-dir={}", folder.join("profile").display()))
            .arg(address)
            .env("DISPLAY", &display)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        Some(Self { display, server, browser: Ended(browser) })
    }

    /// CPU seconds so far of the X server and of the browser.
    pub fn used(&self) -> [f64; 2] {
        [used(&self.server), used(&self.browser)]
    }

    /// Until two seconds in a row cost about the same, at most half a minute.
    pub fn settle(&self) {
        let all = || self.used().iter().sum::<f64>();
        let (start, mut last, mut rate) = (Instant::now(), all(), 0.0);
        while start.elapsed() < Duration::from_secs(30) {
            #[expect(
                clippy::disallowed_methods,
                reason = "nothing tells when a browser has settled; this is its own thread"
            )]
            std::thread::sleep(Duration::from_secs(2));
            let now = all();
            let this = now - last;
            if this > 0.1 && (this - rate).abs() < 0.15 * this {
                return;
            }
            (last, rate) = (now, this);
        }
    }

    /// Films the screen for so long; the answer is what that took of ffmpeg, in CPU seconds.
    pub fn film(&self, seconds: u32, target: &Path) -> f64 {
        let ended = || figures::cpu_seconds("self", [13, 14]);
        let before = ended();
        let status = Command::new("ffmpeg")
            .args(["-y", "-v", "error", "-f", "x11grab", "-framerate", &FPS.to_string(), "-draw_mouse", "0"])
            .args(["-video_size", &format!("{}x{}", CANVAS.0, CANVAS.1), "-i", &self.display])
            .args(["-t", &seconds.to_string(), "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"])
            .args(["-b:v", &format!("{BITRATE_KBPS}k"), "-x264-params", LIVE])
            .arg(target)
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "ffmpeg filmed the screen");
        ended() - before
    }
}

/// Killed with all its children when it is dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An X server of a number that the system was free to choose.
fn screen() -> Option<(String, Child)> {
    let (read, write) = std::io::pipe().ok()?;
    let server = Command::new("Xvfb")
        .args(["-displayfd", "1", "-screen", "0", &format!("{}x{}x24", CANVAS.0, CANVAS.1), "-nolisten", "tcp"])
        .stdout(write)
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(read), &mut line).ok()?;
    Some((format!(":{}", line.trim()), server))
}

/// CPU seconds of a process and all its descendants that live.
fn used(root: &Ended) -> f64 {
    let mut known = vec![root.0.id()];
    let stats: Vec<(u32, u32, f64)> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let id: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
            Some((id, parent, figures::ticks(&stat, [11, 12])))
        })
        .collect();
    loop {
        let more: Vec<u32> = stats
            .iter()
            .filter(|(id, parent, _)| known.contains(parent) && !known.contains(id))
            .map(|(id, ..)| *id)
            .collect();
        if more.is_empty() {
            break;
        }
        known.extend(more);
    }
    stats.iter().filter(|(id, ..)| known.contains(id)).map(|(.., cpu)| cpu).sum()
}
