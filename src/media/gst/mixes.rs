//! The mixes of a room: one for each picture that somebody wants, shared by all who want the same.
//!
//! A mix is started by the first who reads it and ends with the last. All show the room's scene, each
//! in its own layout and size.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use super::{
    MixBudget, PipelineEvent, RoomClock, TrackTable,
    decoder::{Decoder, Decoders},
    effect::{CostBook, Reports, Turn},
    mix_budget::Share,
    mixer::{Canvas, EffectLines, Look, Mixer, Parts, Tap, Taps},
    preset::{AudioCodec, Presets},
};
use crate::{
    effect::Applied,
    media::{
        EffectCost, MediaError, MediaEvent, Scene,
        graph::{Graph, NodeKind},
    },
    room::id::TrackId,
};

/// How long a mixer may take to end.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// The mixes of a room. Clones share them.
#[derive(Clone, Debug)]
pub struct Mixes {
    clock: RoomClock,
    decoders: Decoders,
    presets: Arc<Presets>,
    budget: MixBudget,
    events: mpsc::Sender<MediaEvent>,
    wanted: Arc<watch::Sender<Wanted>>,
    /// Who tells what effects find in the picture, and who what they find in the sound.
    turns: [Turn; 2],
    running: Arc<Mutex<Vec<Running>>>,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Running {
    look: Look,
    mix: Weak<Mix>,
}

/// What the room wants to be seen and heard.
#[derive(Clone, Debug, Default)]
struct Wanted {
    scene: Scene,
    tracks: TrackTable,
}

/// A running mix: ends when the last who holds it lets go.
#[derive(Debug)]
pub struct Mix {
    /// Size and rate.
    pub canvas: Canvas,
    parts: Parts,
    codec: AudioCodec,
    /// Running time of its first frame. Frames are evenly spaced from there.
    pub begin: gst::ClockTime,
    /// Which mix of the room it is, for people.
    name: String,
    encoders: String,
    /// What the audio encoder puts in front.
    pub priming_samples: u32,
    taps: Taps,
    failure: watch::Receiver<Option<MediaError>>,
    decoders: InUse,
    lines: EffectLines,
    wanted: watch::Receiver<Wanted>,
    /// Dropping it tells the task.
    _in_use: oneshot::Sender<Infallible>,
}

/// Decoders that a mix reads, by track.
type InUse = Arc<Mutex<Vec<(TrackId, Arc<Decoder>)>>>;

impl Mixes {
    /// None yet; they take their part of the server's `budget`. → [`MediaEvent::MixEffectsFailed`]
    pub fn new(
        clock: &RoomClock,
        decoders: &Decoders,
        presets: &Arc<Presets>,
        budget: &MixBudget,
        events: mpsc::Sender<MediaEvent>,
    ) -> Self {
        Self {
            clock: clock.clone(),
            decoders: decoders.clone(),
            presets: presets.clone(),
            budget: budget.clone(),
            events,
            wanted: Arc::new(watch::Sender::default()),
            turns: Default::default(),
            running: Arc::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Those of the room, which mixes and effects share.
    pub fn decoders(&self) -> &Decoders {
        &self.decoders
    }

    /// Who is seen and heard from now on, in all mixes.
    pub fn set_scene(&self, scene: &Scene, tracks: &TrackTable) {
        self.wanted.send_if_modified(|wanted| {
            let same_tracks =
                wanted.tracks.len() == tracks.len() && tracks.keys().all(|id| wanted.tracks.contains_key(id));
            if wanted.scene == *scene && same_tracks {
                return false;
            }
            (wanted.scene, wanted.tracks) = (scene.clone(), tracks.clone());
            true
        });
    }

    /// The mix of that look, started if nobody needed it yet. Must be called on a tokio runtime;
    /// returns at once.
    ///
    /// # Errors
    /// [`MediaError::Unavailable`] if an encoder or the layout is not there, [`MediaError::Busy`] if the
    /// server makes as many mixes as it may. What goes wrong later is told by [`Mix::failed`].
    pub fn get(&self, look: Look) -> Result<Arc<Mix>, MediaError> {
        let mut running = self.running();
        if let Some(mix) = found(&mut running, &look) {
            return Ok(mix);
        }
        let mix = Arc::new(self.start(&look)?);
        running.push(Running { look, mix: Arc::downgrade(&mix) });
        Ok(mix)
    }

    /// Whether [`get`](Self::get) would have a mix of that look now.
    ///
    /// # Errors
    /// [`MediaError::Busy`]
    pub fn may_start(&self, look: &Look) -> Result<(), MediaError> {
        if found(&mut self.running(), look).is_some() {
            return Ok(());
        }
        self.budget.take(look.canvas, look.parts).map(drop)
    }

    /// Runs something that reads them; [`ended`](Self::ended) waits for it too.
    pub fn spawn(&self, reader: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(reader);
    }

    /// Waits until all are gone, whose readers have let go, and the decoders that they read.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.decoders.ended().await;
    }

    fn start(&self, look: &Look) -> Result<Mix, MediaError> {
        self.presets.resolve(look.layout.as_ref(), &self.wanted.borrow().scene.layout)?;
        let encoders = encoders(&self.presets, look)?;
        let priming_samples =
            if look.parts.audio { self.presets.audio_encoder(look.codec)?.priming_samples } else { 0 };
        let share = self.budget.take(look.canvas, look.parts)?;
        let taps = Taps::default();
        let (in_use, last_gone) = oneshot::channel();
        let (failed, failure) = watch::channel(None);
        let decoders = InUse::default();
        let begin = self.clock.running_time();
        let name = begin.nseconds().to_string();
        let lines = self.effect_lines(look);
        let job = Job {
            name: name.clone(),
            begin,
            look: look.clone(),
            mixes: self.clone(),
            wanted: self.wanted.subscribe(),
            decoders: decoders.clone(),
            taps: taps.clone(),
            lines: lines.clone(),
            _share: share,
        };
        self.tasks.spawn(job.run(last_gone, failed));
        Ok(Mix {
            canvas: look.canvas,
            parts: look.parts,
            codec: look.codec,
            begin,
            name,
            encoders,
            priming_samples,
            taps,
            failure,
            decoders,
            lines,
            wanted: self.wanted.subscribe(),
            _in_use: in_use,
        })
    }

    /// How loud it is without somebody is not how loud the mix is.
    fn effect_lines(&self, look: &Look) -> EffectLines {
        let [pictures, sound] = self.turns.each_ref().map(|turn| Reports::of_mix(turn, &self.events));
        let sound = if look.without.is_empty() { sound } else { Reports::default() };
        EffectLines { pictures, sound, ..EffectLines::default() }
    }

    /// What each effect on the mixes takes, over all that are made now: those on the picture first.
    pub fn effect_costs(&self) -> Vec<EffectCost> {
        let mixes: Vec<_> = self.running().iter().filter_map(|running| running.mix.upgrade()).collect();
        let of = |book: fn(&EffectLines) -> &CostBook| together(mixes.iter().map(|mix| book(&mix.lines).read()));
        of(|lines| &lines.picture_costs).into_iter().chain(of(|lines| &lines.sound_costs)).collect()
    }

    fn running(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().expect("nothing panics under this lock")
    }
}

impl Mix {
    /// Sends the encoded mix to `tap` too, from the first frame on that comes after this. The first at
    /// or after `from` is a keyframe.
    pub fn read(&self, tap: Tap, from: gst::ClockTime) {
        self.taps.add(tap);
        self.request_keyframe(from);
    }

    /// Asks for a keyframe: the first frame at or after running time `at`.
    pub fn request_keyframe(&self, at: gst::ClockTime) {
        self.taps.request_keyframe(at, self.begin);
    }

    /// Resolves when it has broken down, and why: nothing comes any more.
    pub async fn failed(&self) -> MediaError {
        let mut failure = self.failure.clone();
        let failed = failure.wait_for(Option::is_some).await.ok().and_then(|failure| failure.clone());
        failed.unwrap_or_else(|| MediaError::Element { element: "mixer".into(), message: "its task is gone".into() })
    }

    /// When its first frame at or after `from` is shown, by the room's time.
    pub fn first_frame(&self, from: gst::ClockTime) -> gst::ClockTime {
        const SECOND: u64 = 1_000_000_000;
        let fps = u64::from(self.canvas.fps);
        let elapsed = from.saturating_sub(self.begin).nseconds();
        // Frames begin at whole nanoseconds, rounded down, as the compositor counts.
        let frame = elapsed.saturating_mul(fps).div_ceil(SECOND);
        self.begin + gst::ClockTime::from_nseconds(frame * SECOND / fps)
    }

    /// Half a frame before a frame of the mix: of the one that is shown at `now`, or the next, as
    /// `round` says. Between two such moments lie whole frames.
    pub fn before_frame(&self, now: gst::ClockTime, round: fn(u64, u64) -> u64) -> gst::ClockTime {
        const SECOND: u64 = 1_000_000_000;
        let fps = u64::from(self.canvas.fps);
        let elapsed = now.saturating_sub(self.begin).nseconds();
        let frame = round(elapsed.saturating_mul(fps), SECOND).max(1);
        self.begin + gst::ClockTime::from_nseconds((2 * frame - 1) * SECOND / (2 * fps))
    }

    /// Adds decoders, mixer and encoder to the room's graph, once; the answer is the encoder's node and
    /// what comes out of it. Tracks are nodes named `track-<id>`.
    pub fn graph(&self, graph: &mut Graph) -> (String, &'static str) {
        let (mix, encoder) = (format!("mixer-{}", self.name), format!("encoder-{}", self.name));
        let Canvas { width, height, fps } = self.canvas;
        let size = format!("{width}×{height} at {fps}");
        let (label, raw, encoded) = match self.parts {
            Parts { video: false, .. } if self.codec == AudioCodec::Opus => {
                ("sound".to_owned(), "S16 48 kHz".to_owned(), "Opus")
            }
            Parts { video: false, .. } => ("sound".to_owned(), "S16 48 kHz".to_owned(), "AAC"),
            Parts { audio: false, .. } => (size.clone(), format!("I420 {size}"), "H.264"),
            Parts { .. } => (size.clone(), format!("I420 {size}, S16 48 kHz"), "H.264, AAC"),
        };
        if !graph.has_node(&mix) {
            for (track, decoder) in self.decoders.lock().expect("nothing panics under this lock").iter() {
                decoder.graph(track, graph);
                graph.join(&format!("decoder-{track}"), &mix, "raw");
            }
            let tiles = self.wanted.borrow().scene.tiles.len().to_string();
            let every = self.lines.every.load(Relaxed).max(1).to_string();
            graph.add(&mix, NodeKind::Mixer, &label, &[("tiles", tiles), ("every", every)]);
            let figures = [("frames", &self.taps.frames), ("late", &self.taps.late)];
            let figures = figures.map(|(name, count)| (name, count.load(Relaxed).to_string()));
            graph.add(&encoder, NodeKind::Encoder, &self.encoders, if self.parts.video { &figures } else { &[] });
            graph.join(&mix, &encoder, &raw);
        }
        (encoder, encoded)
    }
}

/// The task: everything that takes time.
struct Job {
    name: String,
    begin: gst::ClockTime,
    look: Look,
    mixes: Mixes,
    wanted: watch::Receiver<Wanted>,
    decoders: InUse,
    taps: Taps,
    lines: EffectLines,
    /// Given back when all of it is gone.
    _share: Share,
}

impl Job {
    /// Until the last reader is gone, or it breaks down, which is told before anything is taken down.
    async fn run(mut self, mut last_gone: oneshot::Receiver<Infallible>, failed: watch::Sender<Option<MediaError>>) {
        let mut mixer = None;
        if let Err(error) = self.play(&mut mixer, &mut last_gone).await {
            tracing::error!("a mix broke down: {error}");
            failed.send_replace(Some(error));
        }
        self.decoders.lock().expect("nothing panics under this lock").clear();
        if let Some(mixer) = mixer {
            // A deadline that passes is logged there.
            let _ = mixer.shutdown(SHUTDOWN_DEADLINE).await;
        }
        self.taps.clear();
    }

    /// Off the runtime's threads: elements are made, and plugins loaded.
    async fn build(&self) -> Result<(Mixer, mpsc::Receiver<PipelineEvent>), MediaError> {
        let (name, look, taps, lines) = (self.name.clone(), self.look.clone(), self.taps.clone(), self.lines.clone());
        let Mixes { clock, decoders, presets, .. } = self.mixes.clone();
        blocking(move || Mixer::new(&name, &clock, &decoders, &presets, look, &taps, lines)).await?
    }

    async fn play(
        &mut self,
        mixer: &mut Option<Mixer>,
        last_gone: &mut oneshot::Receiver<Infallible>,
    ) -> Result<(), MediaError> {
        let (built, mut events) = self.build().await?;
        mixer.insert(built).start(self.begin).await?;
        self.apply(mixer, self.begin).await?;
        let clock = self.mixes.clock.clone();
        loop {
            let tidy_at = mixer.as_ref().and_then(Mixer::tidy_at);
            tokio::select! {
                biased;
                _ = &mut *last_gone => return Ok(()),
                Ok(()) = self.wanted.changed() => {
                    let now = self.mixes.clock.running_time();
                    self.apply(mixer, now).await?;
                }
                () = self.lines.alarm.notified() => self.mend(mixer).await?,
                () = reach(&clock, tidy_at) => self.tidy(mixer).await?,
                Some(event) = events.recv() => {
                    if let PipelineEvent::Failed(error) = event {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Does what the room wants now. Changes to a running pipeline may wait for its threads.
    async fn tidy(&self, mixer: &mut Option<Mixer>) -> Result<(), MediaError> {
        let Some(mut tidied) = mixer.take() else { return Ok(()) };
        let now = self.mixes.clock.running_time();
        let tidied = blocking(move || {
            tidied.tidy(now);
            tidied
        });
        *mixer = Some(tidied.await?);
        Ok(())
    }

    /// Takes off what has failed.
    async fn mend(&self, mixer: &mut Option<Mixer>) -> Result<(), MediaError> {
        let Some(mut mended) = mixer.take() else { return Ok(()) };
        let (mended, failed) = blocking(move || {
            let failed = mended.mend();
            (mended, failed)
        })
        .await?;
        *mixer = Some(mended);
        if let Some((chain, error)) = failed {
            tracing::error!("the mix goes on without its effects: {error}");
            self.tell_failed(chain, error).await;
        }
        Ok(())
    }

    async fn tell_failed(&self, chain: Vec<Applied>, error: MediaError) {
        // An error means that the room has gone.
        let _ = self.mixes.events.send(MediaEvent::MixEffectsFailed { chain, error }).await;
    }

    async fn apply(&mut self, mixer: &mut Option<Mixer>, from: gst::ClockTime) -> Result<(), MediaError> {
        let wanted = self.wanted.borrow_and_update().clone();
        let Some(mut changing) = mixer.take() else { return Ok(()) };
        let chain = if self.look.effects { wanted.scene.effects.clone() } else { Vec::new() };
        let changed = blocking(move || {
            let effects = changing.set_scene(&wanted.scene, &wanted.tracks, from);
            (changing, effects)
        });
        let (changed, effects) = changed.await?;
        if let Err(error) = effects {
            tracing::error!("the mix keeps the effects it has: {error}");
            self.tell_failed(chain, error).await;
        }
        *self.decoders.lock().expect("nothing panics under this lock") = changed.decoders();
        *mixer = Some(changed);
        Ok(())
    }
}

/// What several mixes took for the same effects, by their names, in the order of the first.
fn together(mixes: impl Iterator<Item = Vec<EffectCost>>) -> Vec<EffectCost> {
    let mut all: Vec<EffectCost> = Vec::new();
    for costs in mixes {
        if all.iter().map(|cost| &cost.name).ne(costs.iter().map(|cost| &cost.name)) {
            // Most of them have changed over already, or none.
            if all.is_empty() {
                all = costs
            }
            continue;
        }
        for (sum, cost) in all.iter_mut().zip(costs) {
            let frames = sum.frames + cost.frames;
            let cpu_ms = sum.cpu_ms_per_frame * sum.frames as f64 + cost.cpu_ms_per_frame * cost.frames as f64;
            (sum.frames, sum.cpu_ms_per_frame) = (frames, cpu_ms / frames.max(1) as f64);
        }
    }
    all
}

/// One that runs. One that failed is left to those who have not noticed yet.
fn found(running: &mut Vec<Running>, look: &Look) -> Option<Arc<Mix>> {
    running.retain(|running| running.mix.strong_count() > 0);
    let same = running.iter().filter(|running| running.look == *look).find_map(|running| running.mix.upgrade());
    same.filter(|mix| mix.failure.borrow().is_none())
}

/// Until that running time; for ever if there is none.
async fn reach(clock: &RoomClock, time: Option<gst::ClockTime>) {
    let Some(time) = time else { return std::future::pending().await };
    tokio::time::sleep(time.saturating_sub(clock.running_time()).into()).await;
}

/// Names of the encoders that are needed, all of which must be there, as must what a mix shows and
/// sounds when nobody does.
fn encoders(presets: &Presets, look: &Look) -> Result<String, MediaError> {
    let mut names = Vec::new();
    if look.parts.video {
        presets.slate()?;
        names.push(presets.video_encoder()?.name.clone());
    }
    if look.parts.audio {
        presets.silence()?;
        names.push(presets.audio_encoder(look.codec)?.name.clone());
    }
    Ok(names.join(" and "))
}

/// Work that may wait for GStreamer's threads, off the runtime's.
///
/// # Errors
/// [`MediaError::Element`] if it panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, MediaError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| MediaError::Element { element: "mixer".into(), message: error.to_string() })
}
