//! A room of people who publish the clip, and its recording, over the HTTP API.

use std::{path::PathBuf, time::Duration};

use reqwest::{Client, Method};
use salon_load::whip::{self, Opened};
use serde_json::Value;
use tokio::time::{Instant, interval, sleep};

use super::{film, servers::Running};

const CONNECT: Duration = Duration::from_secs(20);
/// Salon takes ten joins a second from one address.
const PACE: Duration = Duration::from_millis(110);

/// People who publish; dropping it ends their connections.
pub struct Room<'a> {
    server: &'a Running,
    name: String,
    client: Client,
    _people: Vec<Opened>,
}

/// What the mixes of a room count, so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    pub frames: u64,
    /// Encoded long after their time.
    pub late: u64,
    /// Raw frames that the mixes did not take in time.
    pub dropped: u64,
}

impl<'a> Room<'a> {
    pub async fn fill(server: &'a Running, name: &str, people: usize) -> Self {
        let mut pace = interval(PACE);
        let mut there = Vec::new();
        for _ in 0..people {
            pace.tick().await;
            let door = whip::Server::new(&server.url, None, false).await.unwrap();
            there.push(door.publish(name).await.unwrap());
        }
        for one in &there {
            one.session.connected(CONNECT).await.unwrap();
        }
        Self { server, name: name.to_owned(), client: Client::new(), _people: there }
    }

    /// Begins a recording, and waits until its file grows: its identifier.
    pub async fn record(&self) -> String {
        let asked = self.call(Method::POST, &format!("/api/rooms/{}/recordings", self.name), Some(film::spec())).await;
        let id = asked["id"].as_str().unwrap_or_else(|| panic!("no recording: {asked}")).to_owned();
        let end = Instant::now() + CONNECT;
        loop {
            let now = self.call(Method::GET, &format!("/api/recordings/{id}"), None).await;
            if now["state"] == "recording" {
                return id;
            }
            assert!(Instant::now() < end, "it does not begin: {now}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends a recording, and waits until its file is done.
    pub async fn stop(&self, id: &str) -> PathBuf {
        let stopped = self.call(Method::POST, &format!("/api/recordings/{id}/stop?wait_s=60"), None).await;
        assert_eq!(stopped["state"], "ready", "{stopped}");
        self.server.folder.path().join(format!("recordings/{id}.mp4"))
    }

    pub async fn counted(&self) -> Counted {
        let graph = self.call(Method::GET, &format!("/api/rooms/{}/graph?format=json", self.name), None).await;
        let nodes = graph["nodes"].as_array().unwrap();
        let sum = |fact: &str| -> u64 {
            nodes.iter().filter_map(|node| node["facts"][fact].as_str()?.parse::<u64>().ok()).sum()
        };
        Counted { frames: sum("frames"), late: sum("late"), dropped: sum("dropped") }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let mut request = self.client.request(method, format!("{}{path}", self.server.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.unwrap().json().await.unwrap()
    }
}
