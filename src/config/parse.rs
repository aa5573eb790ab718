//! From the text of one value to its place in [`Settings`]: one arm for each key.

use std::{fmt::Display, net::SocketAddr, path::PathBuf, str::FromStr};

use url::Url;

use super::{Secret, Settings, ice, seconds};

/// Each has a task and a queue of its own.
const MOST_WEBHOOKS: usize = 8;

/// Sets `key` from `text`. Empty text means "none" where a key may be absent.
pub(super) fn apply(settings: &mut Settings, key: &'static str, text: &str) -> Result<(), String> {
    let rooms = &mut settings.rooms;
    match key {
        "http_listen" => settings.http_listen = list(text)?,
        "rtsp_listen" => settings.rtsp_listen = list::<SocketAddr>(text)?,
        "srt_listen" => settings.srt_listen = list::<SocketAddr>(text)?,
        "https_listen" => settings.https_listen = list::<SocketAddr>(text)?,
        "tls_cert" => settings.tls_cert = path(text),
        "tls_key" => settings.tls_key = path(text),
        "api_secret" => settings.api_secret = secret(text)?,
        "origins" => settings.origins = origins(text)?,
        "webhook_urls" => settings.webhook_urls = webhooks(text)?,
        "webhook_secret" => settings.webhook_secret = secret(text)?,
        "data_dir" => settings.data_dir = path(text).ok_or("it is empty")?,
        "database" => settings.database = path(text.strip_prefix("sqlite:").unwrap_or(text)),
        "recordings_dir" => settings.recordings_dir = path(text).ok_or("it is empty")?,
        "recordings_reserve_mib" => settings.recordings_reserve_mib = number(text, 0, 10_000_000)?,
        "recordings_max_age_days" => {
            let days = number(text, 0, 36_500)?;
            settings.retention.max_age = (days > 0).then(|| seconds(days * 86_400));
        }
        "recordings_max_mib" => {
            let mib = number(text, 0, 1_000_000_000)?;
            settings.retention.max_bytes = (mib > 0).then_some(mib * 1024 * 1024);
        }
        "ingest_folder" => settings.ingest_folder = path(text),
        "pipelines_dir" => settings.pipelines_dir = path(text),
        "media_bind" => settings.media_bind = list(text)?,
        "media_ip" => settings.media_ip = optional(text)?,
        "media_ports" => settings.media_ports = ports(text)?,
        "media_tcp" => settings.media_tcp = text.parse().map_err(|_| "it is neither".to_owned())?,
        "ingest_allow" => settings.ingest_allow = text.parse()?,
        "edge" => settings.edge = text.parse()?,
        "ice_servers" => settings.ice_servers = ice::parse(text)?,
        "max_mixes" => {
            let most = number(text, 0, 10_000)?;
            settings.max_mixes = (most > 0).then_some(most);
        }
        "log" => settings.log = log_filter(text)?,
        "max_rooms" => rooms.max_rooms = number(text, 1, 10_000)?,
        "max_participants" => rooms.max_participants = number(text, 1, 1_000)?,
        "linger_s" => rooms.linger = seconds(number(text, 0, 86_400)?),
        "resume_window_s" => rooms.resume_window = seconds(number(text, 0, 60)?),
        "max_publications" => rooms.max_publications = number(text, 1, 32)?,
        "max_subscriptions" => rooms.max_subscriptions = number(text, 1, 2_000)?,
        "max_recordings" => rooms.max_recordings = number(text, 1, 32)?,
        "max_effect_points" => rooms.max_effect_points = number(text, 0, 1000)?,
        "clean_tracks_for" => rooms.clean_tracks_for = text.parse()?,
        "max_candidates" => rooms.max_candidates = number(text, 10, 1_000)?,
        "max_signal_bytes" => rooms.max_signal_bytes = number(text, 1_024, 65_536)?,
        "max_name_chars" => rooms.max_name_chars = number(text, 8, 256)?,
        "connect_timeout_s" => rooms.connect_timeout = seconds(number(text, 5, 120)?),
        "shutdown_s" => settings.shutdown = seconds(number(text, 1, 300)?),
        _ => return Err("it is listed, but nothing reads it".into()),
    }
    Ok(())
}

fn list<T: FromStr<Err: Display>>(text: &str) -> Result<Vec<T>, String> {
    words(text).map(|word| word.parse().map_err(|error| format!("`{word}`: {error}"))).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

fn optional<T: FromStr<Err: Display>>(text: &str) -> Result<Option<T>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: T::Err| error.to_string())
}

fn number<T: FromStr<Err: Display> + PartialOrd + Display>(text: &str, least: T, most: T) -> Result<T, String> {
    let value: T = text.parse().map_err(|error: T::Err| error.to_string())?;
    if value < least {
        return Err(format!("less than {least}"));
    }
    if value > most {
        return Err(format!("more than {most}"));
    }
    Ok(value)
}

fn secret(text: &str) -> Result<Option<Secret>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    if !(8..=256).contains(&text.chars().count()) {
        return Err(format!("it has {} characters", text.chars().count()));
    }
    if !text.chars().all(|character| character.is_ascii_graphic()) {
        return Err("it has a character that cannot stand in an HTTP header".into());
    }
    if text.starts_with("a_") {
        return Err("participants' access tokens begin with `a_`".into());
    }
    Ok(Some(Secret::new(text)))
}

fn origins(text: &str) -> Result<Vec<String>, String> {
    words(text)
        .map(|origin| {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            match host {
                Some(host) if !host.is_empty() && !host.contains(['/', '*', '?', '#', '@', ' ']) => {
                    Ok(origin.to_lowercase())
                }
                _ => Err(format!("`{origin}` is not an origin")),
            }
        })
        .collect()
}

fn webhooks(text: &str) -> Result<Vec<Url>, String> {
    // An address may hold a password: it is not said again.
    let urls = words(text).map(|word| word.parse::<Url>().map_err(|error| error.to_string()));
    let urls = urls.collect::<Result<Vec<_>, _>>()?;
    if urls.len() > MOST_WEBHOOKS {
        return Err(format!("there are {}", urls.len()));
    }
    let is_fit =
        |url: &Url| matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none();
    if urls.iter().all(is_fit) { Ok(urls) } else { Err("one is not such an address".into()) }
}

fn ports(text: &str) -> Result<Option<(u16, u16)>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let (first, last) = text.split_once('-').ok_or("there is no `-`")?;
    let first: u16 = number(first.trim(), 1_024, u16::MAX)?;
    let last: u16 = number(last.trim(), 1_024, u16::MAX)?;
    if last < first.saturating_add(9) {
        return Err("fewer than 10 ports".into());
    }
    Ok(Some((first, last)))
}

fn log_filter(text: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::try_new(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}
