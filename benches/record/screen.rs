//! What recorders of the usual kind do: a browser shows the room, and its screen is filmed.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{CANVAS, FPS, SECONDS};

/// CPU seconds per media second of browser, X server and ffmpeg; `None` where one of them is missing.
pub fn film(clip: &Path, participants: usize, folder: &Path) -> Option<f64> {
    let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".into());
    if !Path::new(&chromium).exists() || Command::new("Xvfb").arg("-help").output().is_err() {
        println!("SKIPPED: the browser that is filmed needs chromium and xvfb");
        return None;
    }
    let page = folder.join("room.html");
    let videos = format!("<video src='{}' autoplay muted loop></video>", clip.display()).repeat(participants);
    let style = "body{margin:0;background:#000;display:grid;grid-template-columns:repeat(3,1fr);height:100vh}video{width:100%;height:100%}";
    std::fs::write(&page, format!("<!doctype html><style>{style}</style>{videos}")).unwrap();
    let (display, server) = screen()?;
    let browser = Command::new(&chromium)
        .args([
            "--no-sandbox",
            "--kiosk",
            "--no-first-run",
            "--disable-gpu",
            "--autoplay-policy=no-user-gesture-required",
        ])
        .arg(format!("--window-size={},{}", CANVAS.0, CANVAS.1))
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("file://{}", page.display()))
        .env("DISPLAY", &display)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let family = [Ended(server), Ended(browser)];
    // It shows its pictures once it uses as much time in one second as in the next.
    settle(&family);
    let before = used(&family);
    let ended = super::children_cpu_seconds();
    let status = Command::new("ffmpeg")
        .args(["-y", "-v", "error", "-f", "x11grab", "-framerate", &FPS.to_string()])
        .args(["-video_size", &format!("{}x{}", CANVAS.0, CANVAS.1), "-i", &display, "-t", &SECONDS.to_string()])
        .args([
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-b:v",
            &format!("{}k", super::BITRATE_KBPS),
            "-pix_fmt",
            "yuv420p",
        ])
        .args(["-x264-params", super::LIVE])
        .arg(folder.join("screen.mp4"))
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "ffmpeg filmed the screen");
    let filming = super::children_cpu_seconds() - ended;
    Some((used(&family) - before + filming) / f64::from(SECONDS))
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

/// CPU seconds of these processes and all their descendants that live.
fn used(family: &[Ended; 2]) -> f64 {
    let mut known: Vec<u32> = family.iter().map(|child| child.0.id()).collect();
    let stats: Vec<(u32, u32, f64)> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let id: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
            Some((id, parent, super::figures::ticks(&stat, [11, 12])))
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

/// Until two seconds in a row cost about the same, at most half a minute.
fn settle(family: &[Ended; 2]) {
    let (start, mut last, mut rate) = (Instant::now(), used(family), 0.0);
    while start.elapsed() < Duration::from_secs(30) {
        #[expect(
            clippy::disallowed_methods,
            reason = "nothing tells when a browser has settled; this is its own thread"
        )]
        std::thread::sleep(Duration::from_secs(2));
        let now = used(family);
        let this = now - last;
        if this > 0.1 && (this - rate).abs() < 0.15 * this {
            return;
        }
        (last, rate) = (now, this);
    }
}
