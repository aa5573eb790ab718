//! HLS of rooms' mixes: a task for each room that somebody plays, which cuts the stream and ends some
//! seconds after the last request.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};

use crate::{
    media::{hls::Segmenter, ts::TsChunk},
    room::{RoomHandle, error::RoomGone},
};

/// A player that has gone asks no more; one that pauses for so long begins anew.
const KEPT_FOR: Duration = Duration::from_secs(15);
/// The first segment must be there within this.
const FIRST_LIMIT: Duration = Duration::from_secs(12);

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
        query: &str,
    ) -> Result<Option<String>, RoomGone> {
        let running = self.lock().get(name).cloned();
        let show = match running {
            Some(show) => show,
            None => self.start(name, room.watch_mix().await?),
        };
        show.asked.send_replace(Instant::now());
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

    /// A segment of a room that is played.
    pub fn segment(&self, name: &str, number: u64) -> Option<bytes::Bytes> {
        let show = self.lock().get(name).cloned()?;
        show.asked.send_replace(Instant::now());
        show.segments().segment(number)
    }

    fn start(self: &Arc<Self>, name: &str, chunks: mpsc::Receiver<TsChunk>) -> Arc<Show> {
        let mut shows = self.lock();
        // Another may have asked at the same time: one of the two streams is dropped.
        if let Some(show) = shows.get(name) {
            return show.clone();
        }
        let show = Arc::new(Show {
            segments: Mutex::default(),
            finished: watch::Sender::new(0),
            asked: watch::Sender::new(Instant::now()),
        });
        shows.insert(name.to_owned(), show.clone());
        let (shows, name, running) = (self.clone(), name.to_owned(), show.clone());
        tokio::spawn(async move {
            running.run(chunks).await;
            shows.lock().remove(&name);
            running.finished.send_modify(|_| {});
        });
        show
    }

    fn is_over(&self, name: &str, show: &Arc<Show>) -> bool {
        self.lock().get(name).is_none_or(|running| !Arc::ptr_eq(running, show))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Show>>> {
        self.0.lock().expect("nothing panics under this lock")
    }
}

impl Show {
    fn segments(&self) -> MutexGuard<'_, Segmenter> {
        self.segments.lock().expect("nothing panics under this lock")
    }

    /// Until the stream ends, or nobody has asked for a while.
    async fn run(&self, mut chunks: mpsc::Receiver<TsChunk>) {
        loop {
            let until = *self.asked.borrow() + KEPT_FOR;
            tokio::select! {
                chunk = chunks.recv() => {
                    let Some(chunk) = chunk else { return };
                    let finished = self.segments().push(&chunk);
                    if finished {
                        self.finished.send_modify(|count| *count += 1);
                    }
                }
                () = tokio::time::sleep_until(until) => if Instant::now() >= *self.asked.borrow() + KEPT_FOR {
                    return;
                }
            }
        }
    }
}
