//! HLS of rooms' mixes: a task for each room that somebody plays, which cuts the stream and ends some
//! seconds after the last request.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    media::{hls::Segmenter, ts::TsChunk},
    room::{RoomHandle, error::RoomGone},
};

/// A player that has gone asks no more; one that pauses for so long begins anew.
const KEPT_FOR: Duration = Duration::from_secs(15);
/// The first segment must be there within this.
const FIRST_LIMIT: Duration = Duration::from_secs(12);
/// What has ended with its room can be read for so long, that players learn of it.
const READ_AFTER: Duration = Duration::from_secs(20);
/// A room's stream ends so soon after the room, or is on its way to be made anew.
const END_LIMIT: Duration = Duration::from_secs(3);
/// Viewers of one show who are known by their keys.
const MOST_VIEWERS: usize = 1024;

/// The rooms that are played.
#[derive(Debug, Default)]
pub struct Shows(Mutex<HashMap<String, Arc<Show>>>);

/// One room's segments.
#[derive(Debug)]
struct Show {
    segments: Mutex<Segmenter>,
    /// Counts finished segments; closed when the stream is over.
    finished: watch::Sender<u64>,
    asked: watch::Sender<Instant>,
    ended: watch::Sender<bool>,
    /// Keys of those who play it: what is left of it when the room is gone is for them.
    viewers: Mutex<HashSet<String>>,
}

impl Shows {
    /// The playlist of a room, which is played from now on. `None`: there is no stream to be had.
    ///
    /// # Errors
    /// [`RoomGone`].
    pub async fn playlist(
        self: &Arc<Self>,
        name: &str,
        room: &RoomHandle,
        access: Option<&str>,
        query: &str,
    ) -> Result<Option<String>, RoomGone> {
        let running = self.lock().get(name).cloned();
        let show = match running {
            Some(show) if !*show.ended.borrow() => show,
            _ => self.start(name, room.watch_mix().await?),
        };
        show.asked.send_replace(Instant::now());
        show.admit(access);
        let mut finished = show.finished.subscribe();
        // A stream that ends before its first segment drops what we wait for.
        let first = async {
            while *finished.borrow_and_update() == 0 && !self.is_over(name, &show) {
                if finished.changed().await.is_err() {
                    break;
                }
            }
        };
        let _ = timeout(FIRST_LIMIT, first).await;
        let playlist = show.segments().playlist(query);
        Ok(playlist)
    }

    /// The playlist of a room that is gone, with its end, for who has played it. Whoever asks with a key while the
    /// room stands, and may not, has played it no more.
    pub async fn ended(&self, name: &str, viewer: Option<&str>, room_stands: bool, query: &str) -> Option<String> {
        let show = self.lock().get(name).cloned()?;
        if room_stands {
            if let Some(key) = viewer {
                show.viewers().remove(key);
            }
            return None;
        }
        if !show.is_for(viewer) {
            return None;
        }
        let mut ended = show.ended.subscribe();
        let is_over = timeout(END_LIMIT, ended.wait_for(|ended| *ended)).await;
        is_over.ok()?.ok()?;
        show.segments().playlist(query)
    }

    /// A segment of a room that is gone, likewise.
    pub fn ended_segment(&self, name: &str, viewer: Option<&str>, number: u64) -> Option<bytes::Bytes> {
        let show = self.lock().get(name).cloned().filter(|show| show.is_for(viewer))?;
        show.segments().segment(number)
    }

    /// A segment of a room that is played.
    pub fn segment(&self, name: &str, number: u64) -> Option<bytes::Bytes> {
        let show = self.lock().get(name).cloned()?;
        show.asked.send_replace(Instant::now());
        show.segments().segment(number)
    }

    fn start(self: &Arc<Self>, name: &str, chunks: mpsc::Receiver<TsChunk>) -> Arc<Show> {
        let mut shows = self.lock();
        // Another may have asked at the same time: one of the two streams is dropped.
        if let Some(show) = shows.get(name).filter(|show| !*show.ended.borrow()) {
            return show.clone();
        }
        let show = Arc::new(Show {
            segments: Mutex::default(),
            finished: watch::Sender::new(0),
            asked: watch::Sender::new(Instant::now()),
            ended: watch::Sender::new(false),
            viewers: Mutex::default(),
        });
        shows.insert(name.to_owned(), show.clone());
        let (shows, name, running) = (self.clone(), name.to_owned(), show.clone());
        tokio::spawn(async move {
            let has_ended = running.run(chunks).await;
            if has_ended {
                running.segments().finish();
                running.ended.send_replace(true);
                running.finished.send_modify(|_| {});
                sleep(READ_AFTER).await;
            }
            // Another room of that name may be played by now.
            let mut shows = shows.lock();
            if shows.get(&name).is_some_and(|show| Arc::ptr_eq(show, &running)) {
                shows.remove(&name);
            }
            drop(shows);
            running.finished.send_modify(|_| {});
        });
        show
    }

    fn is_over(&self, name: &str, show: &Arc<Show>) -> bool {
        *show.ended.borrow() || self.lock().get(name).is_none_or(|running| !Arc::ptr_eq(running, show))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Show>>> {
        self.0.lock().expect("nothing panics under this lock")
    }
}

impl Show {
    fn segments(&self) -> MutexGuard<'_, Segmenter> {
        self.segments.lock().expect("nothing panics under this lock")
    }

    fn viewers(&self) -> MutexGuard<'_, HashSet<String>> {
        self.viewers.lock().expect("nothing panics under this lock")
    }

    fn admit(&self, access: Option<&str>) {
        let mut viewers = self.viewers();
        if let Some(key) = access
            && viewers.len() < MOST_VIEWERS
        {
            viewers.insert(key.to_owned());
        }
    }

    /// The owner shows no key that could be over.
    fn is_for(&self, viewer: Option<&str>) -> bool {
        viewer.is_none_or(|key| self.viewers().contains(key))
    }

    /// Until the stream ends (true), or nobody has asked for a while.
    async fn run(&self, mut chunks: mpsc::Receiver<TsChunk>) -> bool {
        loop {
            let until = *self.asked.borrow() + KEPT_FOR;
            tokio::select! {
                chunk = chunks.recv() => {
                    let Some(chunk) = chunk else { return true };
                    let finished = self.segments().push(&chunk);
                    if finished {
                        self.finished.send_modify(|count| *count += 1);
                    }
                }
                () = tokio::time::sleep_until(until) => if Instant::now() >= *self.asked.borrow() + KEPT_FOR {
                    return false;
                }
            }
        }
    }
}
