//! Keeps a camera's connection: dials, plays, notices when it is gone or stands still, and tries again.

use std::{sync::Arc, time::Duration};

use gst::prelude::*;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Books, Context,
    air::Air,
    demand::Demand,
    input::{Input, elements},
    output::{self, Output, sound_codec},
};
use crate::{
    ingest::{
        backoff::Backoff,
        rtsp::{Camera, RtspError, Stream, Transport},
    },
    media::{
        CodecName, Kind, MediaError, MediaEvent,
        gst::{OwnedPipeline, PipelineEvent},
        ingest::{Handling, Ingest, IngestMedia, IngestState},
    },
};

/// What dialling and asking may take together.
pub(super) const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// A camera may send packets for so long without a frame in them.
pub(super) const EMPTY_LIMIT: Duration = Duration::from_secs(8);
/// How often that is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// How long a pipeline may take to end.
pub(super) const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);
/// A connection that held so long was a good one: the next failure is a first one.
const GOOD: Duration = Duration::from_secs(1);

/// An ingest's connection.
pub(super) struct Line {
    pub(super) context: Context,
    pub(super) ingest: Ingest,
    pub(super) books: Arc<Books>,
    pub(super) outputs: Vec<Arc<Output>>,
    demand: Demand,
    pub(super) stop: CancellationToken,
    /// For the room.
    told: watch::Sender<Vec<Arc<Output>>>,
    /// What media leaves by, started once it is known what there is.
    pipeline: OwnedPipeline,
    events: mpsc::Receiver<PipelineEvent>,
    /// What sees to the outputs.
    air: JoinSet<()>,
}

/// Why a connection is over.
#[derive(Debug)]
pub(super) enum Failure {
    Camera(RtspError),
    Media(MediaError),
}

impl From<RtspError> for Failure {
    fn from(error: RtspError) -> Self {
        Self::Camera(error)
    }
}

impl From<MediaError> for Failure {
    fn from(error: MediaError) -> Self {
        Self::Media(error)
    }
}

impl Line {
    /// A line that has not been called yet. `told` gets the outputs.
    pub(super) fn new(
        context: Context,
        ingest: Ingest,
        books: Arc<Books>,
        told: watch::Sender<Vec<Arc<Output>>>,
        stop: CancellationToken,
    ) -> Self {
        let (pipeline, events) = OwnedPipeline::new(&format!("ingest-{}", context.connection), &context.clock);
        let demand = Demand::new(ingest.on_demand, &[]);
        let air = JoinSet::new();
        Self { context, ingest, books, outputs: Vec::new(), demand, stop, told, pipeline, events, air }
    }

    /// Until the room ends it.
    pub(super) async fn run(mut self) {
        let mut opened = false;
        let mut backoff = Backoff::default();
        let stop = self.stop.clone();
        while !stop.is_cancelled() {
            if opened && !self.demand.is_wanted() {
                self.rest().await;
                continue;
            }
            let began = Instant::now();
            let failure = self.connect(&mut opened).await;
            if stop.is_cancelled() {
                break;
            }
            self.outputs.iter().for_each(|output| output.is_away());
            if began.elapsed() > GOOD && self.was_live() {
                backoff.reset();
            }
            if let Some(failure) = &failure {
                self.tell_failure(failure).await;
            }
            if !opened {
                // It is not known what there is: whoever comes sees the slate of what was asked for.
                match self.ready(None).await {
                    Ok(()) => {
                        opened = true;
                        self.tell_opened(&[]).await;
                    }
                    Err(error) => {
                        tracing::error!(connection = %self.context.connection, "an ingest could not be started: {error}");
                    }
                }
            }
            if failure.is_some() {
                let wait = backoff.next_wait(&mut rand::rng());
                let _ = stop.run_until_cancelled(sleep(wait)).await;
            }
        }
        while self.air.join_next().await.is_some() {}
        // A deadline that passes is logged there.
        let _ = self.pipeline.shutdown(SHUTDOWN_DEADLINE).await;
        drop(self.events);
    }

    /// Has outputs, which stay. `sound`: what its sound is, if that is known.
    ///
    /// # Errors
    /// [`MediaError`] if the pipeline that all its media leaves by cannot be built.
    pub(super) async fn ready(&mut self, sound: Option<&Stream>) -> Result<(), MediaError> {
        if !self.outputs.is_empty() {
            return Ok(());
        }
        let outputs = match self.start(sound_codec(sound)).await {
            Ok(outputs) => outputs,
            Err(error) => {
                // What there is of it would be in the way of the next try.
                let pipeline = self.pipeline.pipeline().clone();
                let emptied = tokio::task::spawn_blocking(move || empty(&pipeline));
                let _ = timeout(SHUTDOWN_DEADLINE, emptied).await;
                return Err(error);
            }
        };
        self.demand = Demand::new(self.ingest.on_demand, &outputs);
        for output in &outputs {
            let (context, output, books) = (self.context.clone(), output.clone(), self.books.clone());
            let (name, stop) = (self.ingest.name.clone(), self.stop.clone());
            self.air.spawn(Air { context, name, output, books, stop }.run());
        }
        self.told.send_replace(outputs.clone());
        self.outputs = outputs;
        Ok(())
    }

    async fn start(&self, sound: CodecName) -> Result<Vec<Arc<Output>>, MediaError> {
        let (context, ingest) = (self.context.clone(), self.ingest.clone());
        let pipeline = self.pipeline.pipeline().clone();
        let building = move || output::build(&context, &pipeline, &ingest, sound);
        let gone = |_| MediaError::Unavailable("the runtime is going down".into());
        let outputs = tokio::task::spawn_blocking(building).await.map_err(gone)??;
        self.pipeline.start().await?;
        Ok(outputs)
    }

    /// Asks for nothing until somebody watches or records it.
    async fn rest(&self) {
        self.outputs.iter().for_each(|output| output.rests());
        self.books
            .note(|status| {
                status.state = IngestState::Idle;
                (status.reason, status.detail) = (None, None);
            })
            .await;
        let _ = self.stop.run_until_cancelled(self.demand.wanted()).await;
    }

    /// Resolves when a connection is to end: the room wants no more of it, or nobody needs it now.
    pub(super) async fn unneeded(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.demand.unwanted() => {}
        }
    }

    fn was_live(&self) -> bool {
        self.books.status().state == IngestState::Live
    }

    /// One connection, from dialling to its end; `None`: the room wants no more, or nobody needs it now.
    async fn connect(&mut self, opened: &mut bool) -> Option<Failure> {
        let stop = self.stop.clone();
        self.books.note(|status| status.state = IngestState::Connecting).await;
        if !self.ingest.source.uri.scheme.is_rtsp() {
            return self.fetch(opened).await;
        }
        let opening = timeout(OPEN_LIMIT, Camera::open(&self.ingest.source));
        let mut camera = match stop.run_until_cancelled(opening).await? {
            Ok(Ok(camera)) => camera,
            Ok(Err(error)) => return Some(error.into()),
            Err(_) => return Some(RtspError::Timeout { method: "anything", limit: OPEN_LIMIT }.into()),
        };
        let sound = camera.streams().iter().find(|stream| stream.kind == Kind::Audio);
        if let Err(error) = self.ready(sound).await {
            camera.close().await;
            return Some(error.into());
        }
        self.note_media(&camera).await;
        if !std::mem::replace(opened, true) {
            let kinds: Vec<Kind> = camera.streams().iter().map(|stream| stream.kind).collect();
            self.tell_opened(&kinds).await;
        }
        let input = self.build(&camera).await;
        let mut input = match input {
            Ok(input) => input,
            Err(error) => {
                camera.close().await;
                return Some(error.into());
            }
        };
        let failure = tokio::select! {
            failure = self.play(&mut camera, &mut input) => Some(failure),
            () = self.unneeded() => None,
        };
        camera.close().await;
        // A deadline that passes is logged there.
        let _ = input.pipeline.shutdown(SHUTDOWN_DEADLINE).await;
        failure
    }

    async fn build(&self, camera: &Camera) -> Result<Input, MediaError> {
        let (context, ingest, outputs) = (self.context.clone(), self.ingest.clone(), self.outputs.clone());
        let streams = camera.streams().to_vec();
        let building = move || Input::build(&context, &ingest, &streams, &outputs);
        let gone = |_| MediaError::Unavailable("the runtime is going down".into());
        let input = tokio::task::spawn_blocking(building).await.map_err(gone)??;
        input.pipeline.start().await?;
        Ok(input)
    }

    /// Passes packets on until there are no more.
    async fn play(&self, camera: &mut Camera, input: &mut Input) -> Failure {
        if let Err(error) = camera.play().await {
            return error.into();
        }
        let began = self.context.clock.running_time();
        let mut look = tokio::time::interval(LOOK);
        let mut is_live = false;
        loop {
            tokio::select! {
                packet = camera.next() => match packet {
                    Ok(packet) => input.push(&packet),
                    Err(error) => return error.into(),
                },
                Some((stream, report)) = input.reports.recv() => camera.report(stream, &report),
                Some(event) = input.events.recv() => if let PipelineEvent::Failed(error) = event {
                    return error.into();
                },
                _ = look.tick() => {
                    let heard = self.outputs.iter().filter_map(|output| output.heard()).max();
                    let silent = self.context.clock.running_time().saturating_sub(heard.unwrap_or(began));
                    if silent > gst::ClockTime::try_from(EMPTY_LIMIT).unwrap_or(gst::ClockTime::MAX) {
                        return RtspError::Protocol("there are no frames in its packets".into()).into();
                    }
                    if heard.is_some() && !std::mem::replace(&mut is_live, true) {
                        self.tell_live().await;
                    }
                }
            }
        }
    }

    async fn note_media(&self, camera: &Camera) {
        let is_http = self.ingest.source.transport == Transport::Http;
        let transport = if is_http {
            Transport::Http
        } else if camera.is_udp() {
            Transport::Udp
        } else {
            Transport::Tcp
        };
        let streams = camera.streams().iter().map(|stream| (stream.kind, stream.encoding.clone())).collect::<Vec<_>>();
        let unknown = streams.iter().filter(|(_, encoding)| elements(encoding).is_none());
        let unknown: Vec<String> = unknown.map(|(_, encoding)| format!("{encoding} is not known here")).collect();
        self.note_streams(&streams, Some(transport), left_out(&unknown)).await;
    }

    /// Notes kind and encoding of what there is, and what is wrong with the rest.
    pub(super) async fn note_streams(
        &self,
        streams: &[(Kind, String)],
        transport: Option<Transport>,
        detail: Option<String>,
    ) {
        let streams = streams.to_vec();
        self.books
            .note(|status| {
                status.transport = transport;
                for (kind, encoding) in streams {
                    let media = if kind == Kind::Video { &mut status.video } else { &mut status.audio };
                    let known = media.take().filter(|media| media.encoding == encoding);
                    *media = Some(known.unwrap_or(IngestMedia {
                        encoding,
                        width: None,
                        height: None,
                        handling: Handling::Slate,
                    }));
                }
                status.detail = detail;
            })
            .await;
    }

    /// Tells the room which tracks there are: of the kinds the camera has, or all if that is not known.
    pub(super) async fn tell_opened(&self, kinds: &[Kind]) {
        let there = self.outputs.iter().filter(|output| kinds.is_empty() || kinds.contains(&output.track.kind()));
        let tracks = there.map(|output| (output.track.id.clone(), output.track.codec)).collect();
        let connection = self.context.connection.clone();
        // An error means that the room is gone, and this ingest about to be.
        let _ = self.context.events.send(MediaEvent::IngestOpened { connection, tracks }).await;
    }

    pub(super) async fn tell_live(&self) {
        tracing::info!(connection = %self.context.connection, uri = %self.ingest.source.uri, "a camera is on air");
        self.books
            .note(|status| {
                status.reconnects += u32::from(status.reason.is_some());
                status.state = IngestState::Live;
                status.reason = None;
            })
            .await;
    }

    async fn tell_failure(&self, failure: &Failure) {
        let (reason, detail) = match failure {
            Failure::Camera(error) => (error.code(), error.to_string()),
            Failure::Media(error) => ("media", error.to_string()),
        };
        let before = self.books.status();
        if before.reason != Some(reason) {
            tracing::warn!(connection = %self.context.connection, uri = %self.ingest.source.uri, "a camera gives nothing: {detail}");
        }
        self.books
            .note(|status| {
                status.state = IngestState::Waiting;
                status.reason = Some(reason);
                status.detail = Some(detail);
            })
            .await;
    }
}

/// Takes all elements out of a pipeline that could not be started; it may be started again.
fn empty(pipeline: &gst::Pipeline) {
    // An element that does not stop is taken out all the same.
    let _ = pipeline.set_state(gst::State::Null);
    for element in pipeline.children() {
        let _ = pipeline.remove(&element);
    }
}

/// What a status says of streams that cannot be used.
pub(super) fn left_out(unknown: &[String]) -> Option<String> {
    (!unknown.is_empty()).then(|| format!("left out: {}", unknown.join(", ")))
}
