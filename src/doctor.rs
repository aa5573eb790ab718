//! What is missing on this machine, and the one line that mends it.
//!
//! The same checks serve `salon doctor` and the start of the server, which stops at what it cannot
//! do without. Nothing here changes the machine. GStreamer is asked through [`Elements`], so that
//! this module builds without it.

use std::{
    collections::BTreeSet,
    fmt,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    process::Command,
};

use rustix::fs::{Access, access};
use serde::Serialize;

use crate::{
    config::Settings,
    media::Unavailable,
    recording::{Catalogue, store::free_bytes},
    server::tls::PemFiles,
};

/// Recordings of an hour are about this large; less is worth a word.
const COMFORTABLE_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Media ports for a handful of participants who all see each other.
const COMFORTABLE_PORTS: usize = 30;
/// Descriptors for a dozen participants and more.
const COMFORTABLE_FILES: u64 = 4_096;

/// What the doctor asks of GStreamer.
pub trait Elements {
    /// Version of the library, `(major, minor, micro)`; an error if it does not start.
    fn version(&self) -> Result<(u32, u32, u32), String>;
    /// An element of that name can be made.
    fn works(&self, element: &str) -> bool;
    /// What of `pipelines/`, with the files of this folder in it, cannot be used.
    fn unusable(&self, pipelines: &Path) -> Vec<Unavailable>;
    /// Names of the effects that come with Salon and work, and those that do not.
    fn effects(&self) -> (Vec<String>, Vec<Unavailable>) {
        (Vec::new(), Vec::new())
    }
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// The server runs, with less.
    Lacking,
    /// The server does not run, or not usefully.
    Broken,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// How it came out.
    pub verdict: Verdict,
    /// What was looked at.
    pub what: String,
    /// What was found; if something is wrong, what to do.
    pub found: String,
    /// The Debian package that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<&'static str>,
}

/// All checks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// In the order they are shown.
    pub findings: Vec<Finding>,
    /// The line that installs all that is missing.
    pub remedy: Option<String>,
}

impl Report {
    fn new(findings: Vec<Finding>) -> Self {
        let packages: BTreeSet<&str> = findings.iter().filter_map(|finding| finding.package).collect();
        let packages: Vec<&str> = packages.into_iter().collect();
        let remedy = (!packages.is_empty()).then(|| format!("sudo apt-get install -y {}", packages.join(" ")));
        Self { findings, remedy }
    }

    /// Something needed is missing.
    pub fn is_broken(&self) -> bool {
        self.findings.iter().any(|finding| finding.verdict == Verdict::Broken)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.findings.iter().map(|finding| finding.what.chars().count()).max().unwrap_or(0);
        for Finding { verdict, what, found, .. } in &self.findings {
            let mark = match verdict {
                Verdict::Good => '✓',
                Verdict::Lacking => '!',
                Verdict::Broken => '✗',
            };
            writeln!(f, " {mark} {what:width$}  {found}")?;
        }
        match &self.remedy {
            Some(remedy) => write!(f, "\nThis installs what is missing:\n\n    {remedy}"),
            None if self.is_broken() => write!(f, "\nNo package mends this; see the lines with ✗."),
            None => write!(f, "\nSalon can run here."),
        }
    }
}

/// Looks at everything.
pub async fn examine(settings: &Settings, elements: &dyn Elements) -> Report {
    let mut findings = media(elements);
    if findings.iter().all(|finding| finding.verdict != Verdict::Broken) {
        findings.extend(effects(elements));
    }
    findings.push(fonts());
    findings.extend(settings.pipelines_dir.iter().flat_map(|folder| own_pipelines(folder, elements)));
    findings.extend(settings.http_listen.iter().map(|address| port("HTTP", *address)));
    findings.extend(settings.https_listen.iter().map(|address| port("HTTPS", *address)));
    findings.extend(settings.rtsp_listen.iter().map(|address| port("RTSP", *address)));
    findings.extend(settings.srt_listen.iter().map(|address| udp_port("SRT", *address)));
    findings.extend(settings.media_ports.map(media_ports));
    findings.extend(settings.media_bind.iter().map(|address| media_address((*address, 0).into())));
    findings.extend(tls(settings));
    findings.push(recordings(settings));
    findings.push(database(settings).await);
    findings.push(open_files());
    findings.extend(secret(settings));
    Report::new(findings)
}

/// GStreamer and what is missing of it: the checks that the start of the server makes.
pub fn media(elements: &dyn Elements) -> Vec<Finding> {
    let mut findings = match elements.version() {
        Ok((major, minor, micro)) if (major, minor) >= (1, 22) => {
            vec![good("GStreamer", format!("{major}.{minor}.{micro}"))]
        }
        Ok((major, minor, micro)) => {
            vec![broken("GStreamer", format!("{major}.{minor}.{micro}; Salon needs 1.22 (Debian 12 has it)"))]
        }
        Err(error) => return vec![with_package(broken("GStreamer", error), "gstreamer1.0-plugins-base")],
    };
    findings.extend(NEEDS.iter().map(|need| need.look(elements)));
    findings
}

/// Every effect is played once.
fn effects(elements: &dyn Elements) -> Vec<Finding> {
    let (names, unavailable) = elements.effects();
    let all = good("effects", format!("{}: {}", names.len(), names.join(", ")));
    let lacking = unavailable.into_iter().filter(|entry| entry.what.starts_with("pipelines/effects/")).map(|entry| {
        let remedy = entry.remedy.map(|remedy| format!(" (sudo {remedy})")).unwrap_or_default();
        lacking(entry.what, entry.reason + &remedy)
    });
    [all].into_iter().filter(|_| !names.is_empty()).chain(lacking).collect()
}

/// Elements that do one thing together.
struct Need {
    what: &'static str,
    /// Each of these lists needs one that works.
    one_of: &'static [&'static [&'static str]],
    package: &'static str,
    /// Without it there is no server; otherwise less of one.
    essential: bool,
    without: &'static str,
}

const fn need(
    what: &'static str,
    one_of: &'static [&'static [&'static str]],
    package: &'static str,
    essential: bool,
    without: &'static str,
) -> Need {
    Need { what, one_of, package, essential, without }
}

/// Packages are Debian 12's.
const NEEDS: [Need; 19] = [
    need("WebRTC", &[&["webrtcbin"], &["dtlssrtpenc"], &["srtpenc"]], BAD, true, "nobody can connect"),
    need("ICE", &[&["nicesrc"], &["nicesink"]], "gstreamer1.0-nice", true, "nobody can connect"),
    need("RTP", &[&["rtpbin"], &["rtpjitterbuffer"]], GOOD, true, "nobody can connect"),
    need("application elements", &[&["appsrc"], &["appsink"]], BASE, true, "nothing flows"),
    need("Opus decoder", &[&["rtpopusdepay"], &["opusdec"]], BASE, false, "recordings have no sound"),
    need("VP8 decoder", &[&["rtpvp8depay"], &["vp8dec"]], GOOD, false, "VP8 is not recorded"),
    need("VP9 decoder", &[&["rtpvp9depay"], &["vp9dec"]], GOOD, false, "VP9 is not recorded"),
    need("H.264 decoder", &[&["rtph264depay"], &["avdec_h264", "openh264dec"]], LIBAV, false, "H.264 is not recorded"),
    need("H.264 parser", &[&["h264parse"]], BAD, false, "nothing is recorded"),
    need("H.264 encoder", &[&["x264enc", "openh264enc"]], "gstreamer1.0-plugins-ugly", false, "nothing is recorded"),
    need("AAC encoder", &[&["fdkaacenc", "avenc_aac", "voaacenc"]], LIBAV, false, "nothing is recorded"),
    need("mixer", &[&["compositor"], &["audiomixer"], &["videoconvertscale"]], BASE, false, "nothing is recorded"),
    need("test sources", &[&["videotestsrc"], &["audiotestsrc"]], BASE, false, "nothing is recorded"),
    need(
        "cameras",
        &[&["rtph264pay"], &["rtph265depay"], &["rtpmp4gdepay"], &["rtpjpegdepay"]],
        GOOD,
        false,
        "no cameras",
    ),
    need(
        "cameras' pictures",
        &[&["avdec_h265", "libde265dec"], &["jpegdec"], &["avdec_mpeg4"]],
        LIBAV,
        false,
        "not all",
    ),
    need("cameras' sound", &[&["avdec_aac", "faad"], &["opusenc"], &["rtpopuspay"]], LIBAV, false, "cameras are mute"),
    need("MPEG-TS and HLS", &[&["mpegtsmux"], &["aacparse"]], BAD, false, "no live streams for players"),
    need(
        "watching the mix",
        &[&["opusenc"], &["rtpopuspay"], &["rtph264pay"]],
        BASE,
        false,
        "the mix cannot be watched live",
    ),
    need("nicknames in pictures", &[&["textoverlay"]], "gstreamer1.0-x", false, "nothing is recorded"),
];

const BASE: &str = "gstreamer1.0-plugins-base";
const GOOD: &str = "gstreamer1.0-plugins-good";
const BAD: &str = "gstreamer1.0-plugins-bad";
const LIBAV: &str = "gstreamer1.0-libav";

impl Need {
    fn look(&self, elements: &dyn Elements) -> Finding {
        let chosen: Vec<Option<&str>> =
            self.one_of.iter().map(|list| list.iter().copied().find(|element| elements.works(element))).collect();
        if let Some(all) = chosen.iter().copied().collect::<Option<Vec<_>>>() {
            return good(self.what, all.join(", "));
        }
        let missing: Vec<String> = self
            .one_of
            .iter()
            .zip(&chosen)
            .filter(|(_, chosen)| chosen.is_none())
            .map(|(list, _)| list.join(" or "))
            .collect();
        let found = format!("no {}: {}", missing.join(", no "), self.without);
        let verdict = if self.essential { Verdict::Broken } else { Verdict::Lacking };
        with_package(Finding { verdict, what: self.what.into(), found, package: None }, self.package)
    }
}

/// Nicknames are drawn into recordings; without the font, Korean ones are rows of boxes.
fn fonts() -> Finding {
    let what = "Korean font";
    let listed = Command::new("fc-list").args([":lang=ko", "family"]).output();
    let family = match &listed {
        Ok(output) => String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned(),
        // Without that program a look into the usual folder must do.
        Err(_) if Path::new("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc").exists() => {
            "Noto Sans CJK".into()
        }
        Err(_) => String::new(),
    };
    if family.is_empty() {
        with_package(lacking(what, "none: Korean nicknames are boxes in recordings".into()), "fonts-noto-cjk")
    } else {
        good(what, family)
    }
}

fn port(what: &str, address: SocketAddr) -> Finding {
    let what = format!("{what} {address}");
    match TcpListener::bind(address) {
        Ok(_) => good(what, "free".into()),
        // A dual-stack wildcard of ours is bound beside the IPv4 one; here they are tried one by one.
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() => lacking(what, error.to_string()),
        Err(error) => broken(what, format!("{error}; is another salon running?")),
    }
}

fn udp_port(what: &str, address: SocketAddr) -> Finding {
    let what = format!("{what} {address}, UDP");
    match UdpSocket::bind(address) {
        Ok(_) => good(what, "free".into()),
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() => lacking(what, error.to_string()),
        Err(error) => broken(what, format!("{error}; is another salon running?")),
    }
}

fn media_address(address: SocketAddr) -> Finding {
    let what = format!("media address {}", address.ip());
    match UdpSocket::bind(address) {
        Ok(_) => good(what, "can be bound".into()),
        Err(error) => broken(what, format!("{error}; SALON_MEDIA_BIND takes addresses of this machine")),
    }
}

/// Each connection of a participant takes a port of its own.
fn media_ports((first, last): (u16, u16)) -> Finding {
    let what = format!("media ports {first} to {last}");
    let count = usize::from(last - first) + 1;
    let free = (first..=last).filter(|port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok()).count();
    match free {
        0 => broken(what, "none is free; is another salon running? (SALON_MEDIA_PORTS)".into()),
        free if free < COMFORTABLE_PORTS => {
            lacking(what, format!("{free} of {count} free: each connection takes one, and few people fit in"))
        }
        free => good(what, format!("{free} of {count} free")),
    }
}

/// Files that somebody put there himself; what is missing of our own is told by what it is for.
fn own_pipelines(folder: &Path, elements: &dyn Elements) -> Vec<Finding> {
    let what = format!("pipelines in {}", folder.display());
    if !folder.is_dir() {
        return vec![broken(what, "no such folder (SALON_PIPELINES_DIR)".into())];
    }
    let own = |unusable: &Unavailable| {
        let file = unusable.what.strip_prefix("pipelines/");
        file.is_some_and(|file| folder.join(file).exists())
    };
    let findings: Vec<Finding> = elements
        .unusable(folder)
        .into_iter()
        .filter(own)
        .map(|Unavailable { what, reason, remedy }| {
            let remedy = remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default();
            lacking(what, format!("{reason}{remedy}"))
        })
        .collect();
    if findings.is_empty() { vec![good(what, "all usable".into())] } else { findings }
}

fn tls(settings: &Settings) -> Option<Finding> {
    if settings.https_listen.is_empty() {
        return Some(lacking("TLS", "off: browsers give camera and microphone on this machine only".into()));
    }
    let (Some(cert), Some(key)) = (settings.tls_cert.clone(), settings.tls_key.clone()) else {
        return Some(good("TLS", "a self-signed certificate, made and kept; browsers warn once".into()));
    };
    Some(match (PemFiles { cert, key }).load() {
        Ok(_) => good("TLS", "own certificate".into()),
        Err(error) => broken("TLS", error.to_string()),
    })
}

fn recordings(settings: &Settings) -> Finding {
    let what = format!("recordings in {}", settings.recordings_dir.display());
    if let Err(problem) = writable(&settings.recordings_dir) {
        return broken(what, problem);
    }
    let reserve = settings.recordings_reserve_bytes();
    match free_bytes(existing(&settings.recordings_dir)) {
        Ok(free) if free <= reserve => {
            broken(what, format!("{} free, and {} are kept in reserve", size(free), size(reserve)))
        }
        Ok(free) if free - reserve < COMFORTABLE_BYTES => lacking(what, format!("{} free", size(free))),
        Ok(free) => good(what, format!("{} free", size(free))),
        Err(error) => broken(what, error.to_string()),
    }
}

async fn database(settings: &Settings) -> Finding {
    let path = settings.database_path();
    let what = format!("catalogue {}", path.display());
    if !path.exists() {
        return match writable(path.parent().unwrap_or(Path::new("."))) {
            Ok(()) => good(what, "will be made".into()),
            Err(problem) => broken(what, problem),
        };
    }
    match Catalogue::open(&path).await {
        Ok(catalogue) => {
            let counts = catalogue.counts().await.unwrap_or_default();
            catalogue.close().await;
            good(what, format!("{} recordings", counts.values().sum::<u64>()))
        }
        Err(error) => broken(what, error.to_string()),
    }
}

/// A webrtcbin viewer takes 17 to 19 descriptors.
fn open_files() -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    match limit {
        Some(most) if most < COMFORTABLE_FILES => {
            lacking("open files", format!("at most {most}: enough for few participants; raise the hard limit"))
        }
        Some(most) => good("open files", format!("up to {most}")),
        None => good("open files", "no limit".into()),
    }
}

fn secret(settings: &Settings) -> Option<Finding> {
    let outside = |address: &SocketAddr| !address.ip().is_loopback();
    let reachable = settings.http_listen.iter().chain(&settings.https_listen).any(outside);
    (settings.api_secret.is_none() && reachable)
        .then(|| good("API", "answers on this machine only (SALON_API_SECRET opens it to others)".into()))
}

/// The nearest folder on the way to `path` that is there.
fn existing(path: &Path) -> &Path {
    let found = path.ancestors().find(|folder| folder.is_dir());
    found.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn writable(folder: &Path) -> Result<(), String> {
    let folder = existing(folder);
    access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| format!("{}: {error}", folder.display()))
}

fn size(bytes: u64) -> String {
    let mib = bytes / (1024 * 1024);
    if mib >= 10 * 1024 { format!("{} GiB", mib / 1024) } else { format!("{mib} MiB") }
}

fn good(what: impl Into<String>, found: String) -> Finding {
    Finding { verdict: Verdict::Good, what: what.into(), found, package: None }
}

fn lacking(what: impl Into<String>, found: String) -> Finding {
    Finding { verdict: Verdict::Lacking, what: what.into(), found, package: None }
}

fn broken(what: impl Into<String>, found: String) -> Finding {
    Finding { verdict: Verdict::Broken, what: what.into(), found, package: None }
}

fn with_package(finding: Finding, package: &'static str) -> Finding {
    Finding { package: Some(package), ..finding }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Without(&'static [&'static str]);

    impl Elements for Without {
        fn version(&self) -> Result<(u32, u32, u32), String> {
            Ok((1, 22, 0))
        }
        fn works(&self, element: &str) -> bool {
            !self.0.contains(&element)
        }
        fn unusable(&self, _: &Path) -> Vec<Unavailable> {
            ["pipelines/effects/mine.toml", "pipelines/effects/not-mine.toml"]
                .map(|what| Unavailable { what: what.into(), reason: "no element x".into(), remedy: None })
                .into()
        }
    }

    #[test]
    fn one_line_mends_everything_once() {
        let report = Report::new(media(&Without(&["webrtcbin", "h264parse", "nicesrc", "x264enc", "openh264enc"])));
        assert!(report.is_broken());
        let line = "sudo apt-get install -y gstreamer1.0-nice gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly";
        assert_eq!(report.remedy.as_deref(), Some(line));
        assert!(report.to_string().contains(" ✗ WebRTC "), "{report}");
        assert!(report.to_string().contains("no x264enc or openh264enc: nothing is recorded"), "{report}");
    }

    #[test]
    fn own_files_that_cannot_be_used_are_named_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("effects")).unwrap();
        std::fs::write(folder.path().join("effects/mine.toml"), "").unwrap();
        let findings = own_pipelines(folder.path(), &Without(&[]));
        assert_eq!(findings, [lacking("pipelines/effects/mine.toml", "no element x".into())]);
        assert_eq!(own_pipelines(Path::new("/nowhere"), &Without(&[]))[0].verdict, Verdict::Broken);
    }

    #[test]
    fn taken_media_ports_are_counted() {
        let taken = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_eq!(media_ports((port, port)).verdict, Verdict::Broken);
        drop(taken);
        assert_eq!(media_ports((port, port)).verdict, Verdict::Lacking);
    }

    #[test]
    fn one_of_several_is_enough_and_what_is_optional_does_not_stop_the_server() {
        let report = Report::new(media(&Without(&["x264enc", "fdkaacenc"])));
        assert!(!report.is_broken() && report.remedy.is_none(), "{report}");
        let report = Report::new(media(&Without(&["vp9dec"])));
        assert!(!report.is_broken() && report.remedy.is_some(), "{report}");
    }
}
