//! A page that joins a room and shows everybody in it, and who serves it: an origin of its own, which Salon is told of.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use salon::media::layout;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{ROOM, desk::CANVAS};

const PAGE: &str = include_str!("page.html");
/// A browser that shows nobody by then is broken.
const START: Duration = Duration::from_secs(60);

/// What the page has told last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shows {
    /// Pictures of so many people move.
    pub playing: usize,
    /// Pictures that came and were decoded so far, of all people.
    pub pictures: u64,
    /// Of these, those that were not shown.
    pub dropped: u64,
}

/// What the page has told.
#[derive(Debug, Default)]
struct Told {
    last: Shows,
    /// What went wrong there.
    failure: Option<String>,
}

/// Serves the page; dropping it ends that.
pub struct Host {
    pub origin: String,
    listener: Option<TcpListener>,
    told: Arc<Mutex<Told>>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.iter().for_each(JoinHandle::abort);
    }
}

impl Host {
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        Self { origin, listener: Some(listener), told: Arc::default(), task: None }
    }

    /// The page shows the room of this server, with so many people.
    pub fn show(&mut self, server: &str, people: usize) {
        let tiles: Vec<_> = tiles(people)
            .into_iter()
            .map(|it| json!({"x": it.x, "y": it.y, "width": it.width, "height": it.height}))
            .collect();
        let socket = format!("{}/ws", server.replacen("http", "ws", 1));
        let page = PAGE
            .replace("__TILES__", &json!(tiles).to_string())
            .replace("__SOCKET__", &socket)
            .replace("__ROOM__", ROOM);
        let listener = self.listener.take().expect("it is told once what it shows");
        self.task = Some(tokio::spawn(serve(listener, page, self.told.clone())));
    }

    pub fn shows(&self) -> Shows {
        let told = self.told.lock().unwrap();
        assert_eq!(told.failure, None, "the page has failed");
        told.last
    }

    /// Until so many people move.
    pub async fn all_move(&self, people: usize) {
        let end = Instant::now() + START;
        while self.shows().playing < people {
            assert!(Instant::now() < end, "the browser shows {:?}, not {people} people", self.shows());
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Where Salon's grid has so many people.
pub fn tiles(people: usize) -> Vec<layout::Rect> {
    layout::grid(CANVAS.0, CANVAS.1, people, 16.0 / 9.0, 8)
}

async fn serve(listener: TcpListener, page: String, told: Arc<Mutex<Told>>) {
    while let Ok((mut socket, _)) = listener.accept().await {
        let (page, told) = (page.clone(), told.clone());
        tokio::spawn(async move {
            let mut request = vec![0; 8_192];
            let length = socket.read(&mut request).await.unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..length]);
            let path = text.split(' ').nth(1).unwrap_or_default();
            let mut body = String::new();
            if let Some(numbers) = path.strip_prefix("/shows?") {
                let mut numbers = numbers.split('&').map(|number| number.parse().unwrap_or(0));
                let mut next = || numbers.next().unwrap_or(0);
                told.lock().unwrap().last = Shows { playing: next() as usize, pictures: next(), dropped: next() };
            } else if path.starts_with("/failed") {
                told.lock().unwrap().failure.get_or_insert_with(|| path.to_owned());
            } else {
                body = page;
            }
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\n";
            let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            // A browser that is closed meanwhile wants no answer.
            let _ = socket.write_all(answer.as_bytes()).await;
        });
    }
}
