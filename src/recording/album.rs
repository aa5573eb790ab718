//! Pictures of a finished recording: a poster, and a sheet of small ones for a player's seek bar.
//!
//! Which pictures and where they go is decided here; taking them is the engine's.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::task::spawn_blocking;

use super::{Keeper, chat::timestamp};
use crate::room::id::RecordingId;

/// Pictures in a row of the sheet.
const COLUMNS: usize = 10;
/// Pictures on the sheet.
const MOST: usize = 100;
/// Between two pictures, at least.
const LEAST_APART: Duration = Duration::from_secs(2);
/// Of a small picture, in pixels; its height follows from the film's.
pub const SMALL_WIDTH: u32 = 160;
/// Of the poster, in pixels.
pub const POSTER_WIDTH: u32 = 640;

/// Of what begins, mostly little is to be seen yet.
const EARLIEST_POSTER: Duration = Duration::from_secs(4);
/// When the poster is taken of the longest film.
const LATEST_POSTER: Duration = Duration::from_secs(60);

/// What is to be made of a film.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Album {
    /// The film, MP4.
    pub film: PathBuf,
    /// JPEG of [`POSTER_WIDTH`].
    pub poster: PathBuf,
    /// When it is taken.
    pub poster_at: Duration,
    /// JPEG of small pictures in rows of [`columns`](Self::columns).
    pub sheet: PathBuf,
    /// Pictures in a row.
    pub columns: usize,
    /// How long each stands for.
    pub apart: Duration,
    /// When they are taken, in order: the keyframe before each. The middle of what each stands for.
    pub times: Vec<Duration>,
}

/// Takes the pictures, on a thread of its own that may be slow. Answers with the height of a small one.
pub type Photographer = fn(&Album) -> Result<u32, String>;

impl Album {
    /// Of a film that is `duration` long.
    pub fn new(film: &Path, duration: Duration) -> Self {
        let apart = LEAST_APART.max(duration / MOST as u32 + Duration::from_millis(1));
        let count = duration.as_nanos().div_ceil(apart.as_nanos()).max(1) as usize;
        Self {
            film: film.to_owned(),
            poster: film.with_extension("jpg"),
            poster_at: (duration / 10).clamp(EARLIEST_POSTER.min(duration / 2), LATEST_POSTER),
            sheet: film.with_extension("sprite.jpg"),
            columns: COLUMNS.min(count),
            apart,
            times: (0..count as u32).map(|index| (apart * index + apart / 2).min(duration)).collect(),
        }
    }

    /// WebVTT whose cues are places on the sheet.
    fn index(&self, duration: Duration, small_height: u32) -> String {
        let mut text = "WEBVTT\n\n".to_owned();
        for place in 0..self.times.len() {
            let (from, to) = (self.apart * place as u32, (self.apart * (place as u32 + 1)).min(duration));
            let (column, row) = ((place % self.columns) as u32, (place / self.columns) as u32);
            let (from, to) = (timestamp(from.as_millis() as u64), timestamp(to.as_millis() as u64));
            let (x, y) = (column * SMALL_WIDTH, row * small_height);
            text += &format!("{from} --> {to}\nsprite.jpg#xywh={x},{y},{SMALL_WIDTH},{small_height}\n\n");
        }
        text
    }
}

impl Keeper {
    /// Has pictures taken of a recording that is ready, one recording at a time; nobody waits for them.
    pub(super) fn photograph(&self, id: RecordingId, duration: Duration) {
        let (Some(photographer), Some(film)) = (self.shared.photographer, self.path(&id)) else { return };
        let keeper = self.clone();
        self.shared.jobs.spawn(async move {
            let Ok(_one) = keeper.shared.darkroom.acquire().await else { return };
            if keeper.shared.stop.is_cancelled() {
                return;
            }
            let album = Album::new(&film, duration);
            let taken = spawn_blocking(move || {
                let small_height = photographer(&album)?;
                let index = album.index(duration, small_height);
                std::fs::write(album.film.with_extension("thumbnails.vtt"), index).map_err(|error| error.to_string())
            });
            match taken.await {
                Ok(Ok(())) => {
                    let noted = keeper.shared.catalogue.photographed(&id).await;
                    keeper.note(&id, noted);
                }
                Ok(Err(error)) => tracing::warn!(recording.id = %id, "no pictures of a recording: {error}"),
                Err(panic) => tracing::error!(recording.id = %id, "taking pictures of a recording failed: {panic}"),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_spread_over_the_film_and_no_more_than_a_hundred() {
        for (seconds, count, columns) in [(1, 1, 1), (5, 3, 3), (100, 50, 10), (4 * 3600, 100, 10)] {
            let duration = Duration::from_secs(seconds);
            let album = Album::new(Path::new("rec.mp4"), duration);
            assert_eq!((album.times.len(), album.columns), (count, columns), "{seconds} s");
            assert!(*album.times.last().unwrap() <= duration && album.poster_at <= duration);
        }
    }

    #[test]
    fn the_index_says_where_each_picture_is() {
        let duration = Duration::from_secs(23);
        let text = Album::new(Path::new("rec.mp4"), duration).index(duration, 90);
        let cues: Vec<_> = text.trim_end().split("\n\n").skip(1).collect();
        assert_eq!(cues[0], "00:00:00.000 --> 00:00:02.000\nsprite.jpg#xywh=0,0,160,90");
        assert_eq!(cues[11], "00:00:22.000 --> 00:00:23.000\nsprite.jpg#xywh=160,90,160,90");
        assert_eq!(cues.len(), 12);
    }
}
