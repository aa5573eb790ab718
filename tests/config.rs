//! Settings: where values come from, which of them wins, and what is said of wrong ones.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails right there")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use salon::config::{ConfigError, KEYS, Settings, for_clients};

fn example() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml"))
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn from_environment(given: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    Settings::load(None, &pairs(given), &BTreeMap::new())
}

fn from_file(text: &str) -> Result<Settings, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("salon.toml");
    std::fs::write(&path, text).unwrap();
    Settings::load(Some(&path), &BTreeMap::new(), &BTreeMap::new())
}

#[test]
fn the_example_holds_every_key_with_its_default() {
    let table: toml::Table = std::fs::read_to_string(example()).unwrap().parse().unwrap();
    let written: BTreeSet<&str> = table.keys().map(String::as_str).collect();
    let known: BTreeSet<&str> = KEYS.iter().map(|key| key.name).collect();
    assert_eq!(written, known);
    assert_eq!(Settings::load(Some(example()), &BTreeMap::new(), &BTreeMap::new()).unwrap(), Settings::default());
}

#[test]
fn help_tells_the_defaults_of_the_example() {
    let table: toml::Table = std::fs::read_to_string(example()).unwrap().parse().unwrap();
    for key in &KEYS {
        let default = match &table[key.name] {
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let told = key.help.split_once("[default: ").map(|(_, rest)| rest.trim_end_matches(']'));
        if let Some(told) = told.filter(|_| !default.is_empty()) {
            assert_eq!(told, default, "{}", key.name);
        }
    }
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("salon.toml");
    std::fs::write(&file, "max_rooms = 1\nmax_participants = 2\nlinger_s = 3\n").unwrap();
    let environment = pairs(&[("SALON_MAX_PARTICIPANTS", "20"), ("SALON_LINGER_S", "30")]);
    let rooms = Settings::load(Some(&file), &environment, &pairs(&[("linger_s", "300")])).unwrap().rooms;
    assert_eq!((rooms.max_rooms, rooms.max_participants), (1, 20));
    assert_eq!(rooms.linger, Duration::from_secs(300));
    assert_eq!(rooms.max_recordings, Settings::default().rooms.max_recordings);
}

#[test]
fn an_empty_variable_turns_a_listener_off() {
    let settings = from_environment(&[("SALON_HTTPS_LISTEN", "")]).unwrap();
    assert!(settings.https_listen.is_empty());
    assert!(!settings.http_listen.is_empty());
}

#[test]
fn webhooks_are_addresses_and_what_they_hold_is_not_shown() {
    let told = "https://school.example/hook?key=hidden-one, http://127.0.0.1:9/b";
    let settings = from_environment(&[("SALON_WEBHOOK_URLS", told), ("SALON_WEBHOOK_SECRET", "12345678")]).unwrap();
    assert_eq!(settings.webhook_urls.len(), 2);
    assert!(settings.webhook_secret.unwrap().is("12345678"));
    let nine = ["http://a.example"; 9].join(",");
    for wrong in ["ftp://hidden-one", "http://hidden-one:x@a.example", "hidden-one", "https://", &nine] {
        let error = from_environment(&[("SALON_WEBHOOK_URLS", wrong)]).unwrap_err().to_string();
        assert!(error.contains("SALON_WEBHOOK_URLS") && !error.contains("hidden-one"), "{error}");
    }
}

#[test]
fn lists_are_written_as_text_or_as_toml() {
    let settings = from_file("media_bind = [\"127.0.0.1\", \"::1\"]\nmedia_ports = \"40000-40099\"\n").unwrap();
    assert_eq!(settings.media_bind.len(), 2);
    assert_eq!(settings.media_ports, Some((40_000, 40_099)));
    assert!(settings.media_tcp && !from_file("media_tcp = false").unwrap().media_tcp);
    assert_eq!(from_environment(&[("SALON_MEDIA_BIND", " 10.0.0.1 , 10.0.0.2 ")]).unwrap().media_bind.len(), 2);
}

#[test]
fn ice_servers_are_urls_or_objects_and_browsers_get_them_as_they_want_them() {
    let load = |text: &str| from_environment(&[("SALON_ICE_SERVERS", text)]).unwrap();
    assert_eq!(
        for_clients(&load("stun:a.example:3478, stun:b.example").ice_servers),
        serde_json::json!([{"urls": ["stun:a.example:3478"]}, {"urls": ["stun:b.example"]}])
    );
    let settings = load(r#"[{"urls": "turn:t.example", "username": "u", "credential": "hush-hush"}]"#);
    assert_eq!(
        for_clients(&settings.ice_servers),
        serde_json::json!([{"urls": ["turn:t.example"], "username": "u", "credential": "hush-hush"}])
    );
    assert!(!format!("{settings:?}").contains("hush-hush"));
    assert_eq!(from_file("[[ice_servers]]\nurls = [\"stun:c.example\"]\n").unwrap().ice_servers.len(), 1);
}

#[test]
fn wrong_values_are_named_with_place_and_what_is_allowed() {
    let table = [
        ("http_listen", "localhost", "addresses with ports"),
        ("http_listen", "1.2.3.4:99999", "addresses with ports"),
        ("media_ip", "here", "an IP address"),
        ("media_bind", "1.2.3", "IP addresses"),
        ("media_ports", "5000", "FIRST-LAST"),
        ("media_ports", "50000-40000", "FIRST-LAST"),
        ("media_ports", "80-90", "FIRST-LAST"),
        ("media_tcp", "perhaps", "true or false"),
        ("max_rooms", "0", "1 to 10000"),
        ("max_rooms", "many", "1 to 10000"),
        ("linger_s", "-1", "0 to 86400"),
        ("linger_s", "86401", "0 to 86400"),
        ("connect_timeout_s", "5.5", "5 to 120"),
        ("recordings_dir", "", "a path"),
        ("origins", "school.example", "origins"),
        ("origins", "https://*", "origins"),
        ("ice_servers", "http://a.example", "RTCIceServer"),
        ("ice_servers", "turn:a.example", "RTCIceServer"),
        ("ice_servers", "[{\"url\": \"stun:a\"}]", "RTCIceServer"),
        ("ice_servers", "[{", "RTCIceServer"),
        ("log", "salon=loud", "a level"),
    ];
    for (key, value, allowed) in table {
        let variable = format!("SALON_{}", key.to_uppercase());
        let error = from_environment(&[(&variable, value)]).unwrap_err().to_string();
        assert!(error.contains(&variable) && error.contains(&format!("`{key}`")), "{error}");
        assert!(error.contains(allowed), "{key} = {value}: {error}");
    }
}

#[test]
fn a_wrong_secret_is_refused_without_being_shown() {
    for secret in ["short", "with a space in it", "a_looks-like-a-token", "ünprintable"] {
        let error = from_environment(&[("SALON_API_SECRET", secret)]).unwrap_err().to_string();
        assert!(error.contains("SALON_API_SECRET") && !error.contains(secret), "{error}");
    }
    let settings = from_environment(&[("SALON_API_SECRET", "correct-horse")]).unwrap();
    assert!(!format!("{settings:?}").contains("correct-horse"));
    let secret = settings.api_secret.unwrap();
    assert!(secret.is("correct-horse") && !secret.is("correct-horsf") && !secret.is("correct-horse-"));
}

#[test]
fn unknown_keys_are_errors_with_the_nearest_known_one() {
    let error = from_file("http_listn = \"127.0.0.1:1\"\n").unwrap_err().to_string();
    assert!(error.contains("salon.toml: there is no key `http_listn`; did you mean `http_listen`?"), "{error}");
    let error = from_file("completely_different = 1\n").unwrap_err().to_string();
    assert!(error.contains("completely_different") && !error.contains("did you mean"), "{error}");
    let error = from_file("max_rooms = = 1\n").unwrap_err().to_string();
    assert!(error.contains("is not TOML") && error.contains("line 1"), "{error}");
    let gone = Path::new("/nowhere/salon.toml");
    let error = Settings::load(Some(gone), &BTreeMap::new(), &BTreeMap::new()).unwrap_err().to_string();
    assert!(error.contains("/nowhere/salon.toml: cannot be read"), "{error}");
}

#[test]
fn values_that_do_not_go_together() {
    let load = |given: &[(&str, &str)]| from_environment(given).unwrap_err().to_string();
    assert!(load(&[("SALON_TLS_CERT", "cert.pem")]).contains("both or neither"));
    assert!(load(&[("SALON_HTTP_LISTEN", ""), ("SALON_HTTPS_LISTEN", "")]).contains("both off"));
}
