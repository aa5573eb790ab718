//! `salon record`: what was typed becomes an order for the composer; how far it is stands on the terminal.

use std::{
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use salon::{
    media::gst::{
        mixer::Canvas,
        offline::{self, OfflineInput, OfflineSpec, Progress},
        preset::{EncoderOptions, Presets},
    },
    recording::store::{self, Finished},
};
use url::Url;

use super::{Signals, arguments::RecordArguments};

/// Addresses that are read; everything else is a file.
const SCHEMES: [&str; 6] = ["file", "http", "https", "rtsp", "rtsps", "v4l2"];
/// Signs of the bar.
const BAR: usize = 28;
/// Where nobody looks, a line each so often.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Composes, then makes the file fast to open. A signal ends the file properly, the second the program.
pub async fn record(arguments: RecordArguments, pipelines: Option<&Path>) -> anyhow::Result<ExitCode> {
    let force = arguments.force;
    let spec = order(arguments)?;
    gst::init().context("GStreamer did not start")?;
    make_way(&spec.output, force)?;
    let mut signals = Signals::new()?;
    let presets = Presets::load_without_effects(pipelines);
    let interrupted = Arc::new(AtomicBool::new(false));
    let (output, stop) = (spec.output.clone(), interrupted.clone());
    let mut job = tokio::task::spawn_blocking(move || {
        let mut display = Display::new();
        let made = offline::record(&spec, &presets, &stop, |progress| display.show(progress));
        display.end();
        made
    });
    let made = loop {
        tokio::select! {
            made = &mut job => break made.context("the composer broke down")?,
            () = signals.next() => {
                if interrupted.swap(true, Relaxed) {
                    anyhow::bail!("ended at once; {} plays up to here", output.display());
                }
            }
        }
    };
    let progress = made?;
    let (position, frames) = (progress.position, progress.frames);
    let finished = tokio::task::spawn_blocking({
        let output = output.clone();
        move || store::finish_file(&output, 0, store::rewrite, &[], &|_| ())
    });
    let remark = match finished.await.context("the finaliser broke down")? {
        Finished::Progressive(_) => String::new(),
        Finished::Fragmented { reason, .. } => format!("; {reason}"),
        Finished::Nothing(reason) => anyhow::bail!("{}: {reason}", output.display()),
    };
    let seconds = position.as_secs_f64();
    writeln!(std::io::stdout(), "{}: {seconds:.1} s, {frames} frames{remark}", output.display())?;
    Ok(ExitCode::SUCCESS)
}

fn order(arguments: RecordArguments) -> anyhow::Result<OfflineSpec> {
    let RecordArguments { inputs, names, output, layout, size: (width, height), fps, labels, title, .. } = &arguments;
    let mut names = names.iter().cloned();
    let inputs = inputs.iter().map(|text| input(text, names.next())).collect::<anyhow::Result<_>>()?;
    Ok(OfflineSpec {
        inputs,
        output: output.clone(),
        layout: layout.clone(),
        canvas: Canvas { width: *width, height: *height, fps: *fps },
        labels: *labels,
        title: title.clone(),
        encoder: EncoderOptions {
            bitrate_bps: arguments.bitrate_kbps.map(|kbps| kbps.saturating_mul(1_000)),
            speed: arguments.speed.clone(),
            threads: None,
        },
        max: arguments.max_s.map(Duration::from_secs),
    })
}

/// A path, or one of the addresses that are read. Credentials in an address are not shown.
fn input(text: &str, name: Option<String>) -> anyhow::Result<OfflineInput> {
    let address = Url::parse(text).ok().filter(|url| SCHEMES.contains(&url.scheme()));
    let (uri, shown, label) = match address {
        Some(url) => {
            let mut bare = url.clone();
            let _ = bare.set_username("");
            let _ = bare.set_password(None);
            let last = url.path_segments().and_then(|mut parts| parts.next_back().map(str::to_owned));
            let label = last.filter(|last| !last.is_empty()).or_else(|| url.host_str().map(str::to_owned));
            (url.to_string(), bare.to_string(), label)
        }
        None => {
            anyhow::ensure!(!text.contains("://"), "{text}: addresses begin with one of {}", SCHEMES.join(", "));
            let path = Path::new(text).canonicalize().with_context(|| text.to_owned())?;
            anyhow::ensure!(path.is_file(), "{text}: it is not a file");
            let uri = Url::from_file_path(&path).map_err(|()| anyhow::anyhow!("{text}: it has no address"))?;
            (uri.to_string(), text.to_owned(), path.file_stem().map(|stem| stem.to_string_lossy().into_owned()))
        }
    };
    Ok(OfflineInput { uri, shown, label: name.or(label).unwrap_or_default() })
}

/// A file of that name is left alone, unless it is said that it may go.
fn make_way(output: &PathBuf, force: bool) -> anyhow::Result<()> {
    if !output.exists() {
        return Ok(());
    }
    anyhow::ensure!(force, "{} is there already (--force replaces it)", output.display());
    anyhow::ensure!(output.is_file(), "{} is not a file", output.display());
    std::fs::remove_file(output).with_context(|| output.display().to_string())
}

/// One line on a terminal, written over again and again; elsewhere a line now and then.
struct Display {
    begun: Instant,
    is_terminal: bool,
    last_line: Instant,
}

impl Display {
    fn new() -> Self {
        let now = Instant::now();
        Self { begun: now, is_terminal: std::io::stderr().is_terminal(), last_line: now }
    }

    fn show(&mut self, progress: Progress) {
        let line = line(progress, self.begun.elapsed());
        let mut out = std::io::stderr().lock();
        // Who does not read it wants none.
        if self.is_terminal {
            let _ = write!(out, "\r\x1b[K{line}");
            let _ = out.flush();
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let _ = writeln!(out, "{line}");
        }
    }

    fn end(&self) {
        if self.is_terminal {
            let _ = writeln!(std::io::stderr());
        }
    }
}

fn line(Progress { position, duration, written_bytes, .. }: Progress, elapsed: Duration) -> String {
    let mib = written_bytes as f64 / f64::from(1 << 20);
    let speed = position.as_secs_f64() / elapsed.as_secs_f64().max(0.001);
    let facts = format!("{mib:.1} MiB, {speed:.1}× real time");
    let Some(duration) = duration.filter(|duration| !duration.is_zero()) else {
        return format!("{} recorded, {facts}", clock(position));
    };
    let done = (position.as_secs_f64() / duration.as_secs_f64()).clamp(0.0, 1.0);
    let full = (done * BAR as f64) as usize;
    let left = if speed > 0.0 { duration.saturating_sub(position).div_f64(speed) } else { Duration::ZERO };
    let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR - full));
    format!("{bar} {:3.0} %  {} of {}  {facts}, {} left", done * 100.0, clock(position), clock(duration), clock(left))
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_files_or_addresses_whose_credentials_nobody_sees() {
        let camera = input("rtsp://user:secret@camera.example/stream", None).unwrap();
        assert_eq!((camera.shown.as_str(), camera.label.as_str()), ("rtsp://camera.example/stream", "stream"));
        assert!(camera.uri.contains("user:secret@"));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("Anna & co #1.mp4");
        std::fs::write(&file, "").unwrap();
        let found = input(file.to_str().unwrap(), None).unwrap();
        assert!(found.uri.starts_with("file:///") && found.uri.ends_with("Anna%20&%20co%20%231.mp4"), "{}", found.uri);
        assert_eq!(found.label, "Anna & co #1");
        assert_eq!(input(file.to_str().unwrap(), Some("Anna".into())).unwrap().label, "Anna");
        for bad in ["gopher://x/y", "nothing.mp4", folder.path().to_str().unwrap()] {
            assert!(input(bad, None).is_err(), "{bad}");
        }
        assert!(make_way(&file, false).is_err() && make_way(&file, true).is_ok() && !file.exists());
        assert!(make_way(&folder.path().to_owned(), true).is_err());
    }

    #[test]
    fn the_line_says_how_far_it_is() {
        let progress = Progress {
            position: Duration::from_secs(30),
            frames: 750,
            duration: Some(Duration::from_secs(3_660)),
            written_bytes: 3 << 20,
        };
        let text = line(progress, Duration::from_secs(3));
        assert!(text.contains("0:30 of 1:01:00") && text.contains("10.0× real time, 6:03 left"), "{text}");
        let open_end = line(Progress { duration: None, ..progress }, Duration::from_secs(3));
        assert!(open_end.starts_with("0:30 recorded"), "{open_end}");
    }
}
