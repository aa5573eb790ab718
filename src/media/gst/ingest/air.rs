//! Sees to what is on air in one track: forwards, transcodes, or shows the slate; the latter two only
//! while somebody watches.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Books, Context,
    output::{OnAir, Output, Situation},
    slate,
    transcode::{self, Maker},
};
use crate::media::{
    CodecName, Kind, MediaError,
    gst::{KEYFRAME_HOLDOFF, PipelineEvent},
    ingest::{Handling, IngestMedia, IngestStatus},
};

/// How long what makes frames may take to end.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);
/// How long it rests after it failed.
const RESTART_HOLDOFF: Duration = Duration::from_secs(1);
/// What only listens rests longer each time that it fails, up to this.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// Whoever watches may be between two subscriptions: what he needs is kept for so long.
const KEPT_FOR: Duration = Duration::from_secs(3);

/// One track's air.
pub(super) struct Air {
    pub(super) context: Context,
    pub(super) name: String,
    pub(super) output: Arc<Output>,
    pub(super) books: Arc<Books>,
    pub(super) stop: CancellationToken,
}

/// What there should be, in the situation as it is.
#[derive(Clone, Debug)]
struct Wanted {
    on_air: OnAir,
    /// It is decoded only to hear how loud it is.
    listens: bool,
    situation: Situation,
}

impl Wanted {
    /// What runs may go on running.
    fn is_like(&self, other: &Self) -> bool {
        self.on_air == other.on_air
            && self.listens == other.listens
            && match (&self.situation, &other.situation) {
                (Situation::Live { caps, .. }, Situation::Live { caps: others, .. }) => {
                    // A new size or rate is the decoder's to notice; a new codec needs another.
                    self.on_air != OnAir::Transcoder || same_codec(caps, others)
                }
                (Situation::Away(since), Situation::Away(others)) => since == others,
                (Situation::Resting, Situation::Resting) => true,
                _ => false,
            }
    }
}

fn same_codec(one: &gst::Caps, other: &gst::Caps) -> bool {
    let name = |caps: &gst::Caps| caps.structure(0).map(|structure| structure.name().to_string());
    name(one) == name(other)
}

impl Air {
    /// Until the ingest ends.
    pub(super) async fn run(mut self) {
        let mut situations = self.output.situation.subscribe();
        let mut readers = self.output.track.readers();
        let mut size = None;
        let (mut listens_from, mut rest) = (Instant::now(), RESTART_HOLDOFF);
        while !self.stop.is_cancelled() {
            let wanted = wanted(&self.output, &situations.borrow_and_update(), *readers.borrow_and_update());
            size = size_of(&wanted.situation).or(size);
            self.note(&wanted).await;
            if !wanted.listens {
                rest = RESTART_HOLDOFF;
            }
            let is_deaf = wanted.listens && Instant::now() < listens_from;
            let started = if is_deaf { Ok(None) } else { self.start(&wanted, size).await };
            let mut maker = match started {
                Ok(maker) => maker,
                // It goes out all the same.
                Err(error) if wanted.listens => {
                    if rest == RESTART_HOLDOFF {
                        tracing::warn!(track.id = %self.output.track.id, "how loud it is is not heard: {error}");
                    }
                    (listens_from, rest) = (Instant::now() + rest, LONGEST_REST.min(2 * rest));
                    None
                }
                Err(error) => {
                    tracing::warn!(track.id = %self.output.track.id, on_air = ?wanted.on_air, "nothing can be shown: {error}");
                    let _ = self.stop.run_until_cancelled(sleep(RESTART_HOLDOFF)).await;
                    continue;
                }
            };
            self.output.put_on_air(wanted.on_air);
            let again = (wanted.listens && maker.is_none()).then_some(listens_from);
            let failed = self.hold(&wanted, &mut maker, again, &mut situations, &mut readers).await;
            self.end(maker).await;
            if failed && wanted.listens {
                (listens_from, rest) = (Instant::now() + rest, LONGEST_REST.min(2 * rest));
            } else if failed {
                let _ = self.stop.run_until_cancelled(sleep(RESTART_HOLDOFF)).await;
            }
        }
    }

    /// Waits until something else is wanted, or `again`; true if what was on air failed.
    async fn hold(
        &mut self,
        wanted: &Wanted,
        maker: &mut Option<Maker>,
        again: Option<Instant>,
        situations: &mut watch::Receiver<Situation>,
        readers: &mut watch::Receiver<usize>,
    ) -> bool {
        let (stop, output) = (self.stop.clone(), self.output.clone());
        // Requests within the holdoff of the last one are one, made at its end.
        let mut asks_at = Instant::now();
        loop {
            let holds_off = Instant::now() < asks_at;
            tokio::select! {
                () = stop.cancelled() => return false,
                Ok(()) = situations.changed() => {}
                Ok(()) = readers.changed() => {
                    if maker.is_some() && *readers.borrow_and_update() == 0 {
                        let somebody = timeout(KEPT_FOR, readers.wait_for(|readers| *readers > 0));
                        let _ = stop.run_until_cancelled(somebody).await;
                    }
                }
                () = output.track.keyframe_requested(), if !holds_off => {
                    if let Some(maker) = maker {
                        maker.request_keyframe();
                        asks_at = Instant::now() + KEYFRAME_HOLDOFF;
                    }
                    continue;
                }
                () = sleep_until(asks_at), if holds_off => continue,
                () = sleep_until(again.unwrap_or(asks_at)), if again.is_some() => return false,
                event = next_event(maker) => {
                    if let PipelineEvent::Failed(error) = event {
                        tracing::warn!(track.id = %output.track.id, on_air = ?wanted.on_air, "failed: {error}");
                    }
                    return true;
                }
            }
            let now = self::wanted(&output, &situations.borrow_and_update(), *readers.borrow_and_update());
            if !now.is_like(wanted) {
                return false;
            }
            self.note(&now).await;
        }
    }

    /// Builds and starts what makes the frames, if anything has to.
    async fn start(&self, wanted: &Wanted, size: Option<(i32, i32)>) -> Result<Option<Maker>, MediaError> {
        let (context, output) = (self.context.clone(), self.output.clone());
        let maker = match (wanted.on_air, &wanted.situation) {
            (OnAir::Transcoder, Situation::Live { caps, .. }) => {
                let caps = caps.clone();
                let (maker, source) = blocking(move || transcode::build(&context, &output, &caps)).await?;
                self.output.put_on_air(OnAir::Transcoder);
                maker.pipeline.start().await?;
                self.output.attach(&source);
                maker
            }
            (OnAir::Camera, Situation::Live { caps, .. }) if wanted.listens => {
                let caps = caps.clone();
                self.output.put_on_air(OnAir::Camera);
                let (maker, source) = blocking(move || transcode::listener(&context, &output, &caps)).await?;
                maker.pipeline.start().await?;
                self.output.attach(&source);
                maker
            }
            (OnAir::Slate, Situation::Away(since)) => {
                let (name, since) = (self.name.clone(), since.clone());
                let maker = blocking(move || slate::build(&context, &output, &name, &since, size)).await?;
                self.output.put_on_air(OnAir::Slate);
                maker.pipeline.start().await?;
                maker
            }
            _ => return Ok(None),
        };
        Ok(Some(maker))
    }

    async fn end(&self, maker: Option<Maker>) {
        self.output.detach();
        if let Some(maker) = maker {
            // A deadline that passes is logged there.
            let _ = maker.pipeline.shutdown(SHUTDOWN_DEADLINE).await;
        }
    }

    /// Tells the room what is done.
    async fn note(&self, wanted: &Wanted) {
        let handling = match (wanted.on_air, &wanted.situation) {
            (OnAir::Camera, _) => Handling::Forwarded,
            (OnAir::Transcoder, _) => Handling::Transcoded,
            (OnAir::Nobody, Situation::Live { .. } | Situation::Resting) => Handling::Idle,
            (OnAir::Slate | OnAir::Nobody, _) => Handling::Slate,
        };
        let size = size_of(&wanted.situation);
        let kind = self.output.track.kind();
        self.books
            .note(|status: &mut IngestStatus| {
                let media = if kind == Kind::Video { &mut status.video } else { &mut status.audio };
                if let Some(media) = media {
                    *media = changed(media, handling, size);
                }
            })
            .await;
    }
}

fn changed(media: &IngestMedia, handling: Handling, size: Option<(i32, i32)>) -> IngestMedia {
    let (width, height) = match size {
        Some((width, height)) => (u32::try_from(width).ok(), u32::try_from(height).ok()),
        None => (media.width, media.height),
    };
    IngestMedia { encoding: media.encoding.clone(), width, height, handling }
}

fn wanted(output: &Output, situation: &Situation, readers: usize) -> Wanted {
    let is_video = output.track.kind() == Kind::Video;
    let on_air = match situation {
        Situation::Live { transcode: false, .. } => OnAir::Camera,
        Situation::Live { transcode: true, .. } if readers > 0 => OnAir::Transcoder,
        Situation::Away(_) if readers > 0 && is_video => OnAir::Slate,
        Situation::Live { .. } | Situation::Away(_) | Situation::Resting => OnAir::Nobody,
    };
    let listens = on_air == OnAir::Camera && output.track.codec == CodecName::Opus && readers > 0;
    Wanted { on_air, listens, situation: situation.clone() }
}

fn size_of(situation: &Situation) -> Option<(i32, i32)> {
    let Situation::Live { caps, .. } = situation else { return None };
    let structure = caps.structure(0)?;
    Some((structure.get("width").ok()?, structure.get("height").ok()?))
}

async fn next_event(maker: &mut Option<Maker>) -> PipelineEvent {
    match maker {
        Some(maker) => maker.events.recv().await.unwrap_or(PipelineEvent::Ended),
        None => std::future::pending().await,
    }
}

/// Off the runtime's threads: elements are made, and plugins loaded.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MediaError> + Send + 'static,
) -> Result<T, MediaError> {
    let gone = |_| MediaError::Unavailable("the runtime is going down".into());
    tokio::task::spawn_blocking(work).await.map_err(gone)?
}
