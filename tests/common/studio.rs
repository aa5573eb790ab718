//! A room's media without a room: a clock, test tracks, and a recording of them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use gst::prelude::*;
use salon::{
    media::{
        CodecName, MediaError, MediaEvent, Published, RecordingSpec, Scene, Tile,
        gst::{
            MixBudget, OwnedPipeline, RoomClock, Track, TrackTable,
            decoder::Decoders,
            live_pipelines,
            mixes::Mixes,
            preset::Presets,
            recorder::{Bounds, Budget, recording::Recording},
        },
    },
    recording::mp4::{self, Finalised},
    room::id::{ParticipantId, RecordingId, TrackId},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

/// Longer than anything here takes on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// What all tests of recordings start from.
pub struct Studio {
    pub clock: RoomClock,
    pub tracks: TrackTable,
    pub folder: PathBuf,
    _folder: Option<tempfile::TempDir>,
    pub presets: Arc<Presets>,
    pub decoders: Decoders,
    pub mixes: Mixes,
    metronome: Metronome,
}

/// A track with a test picture or sound, and its pipeline.
pub struct Source {
    pub id: TrackId,
    pipeline: OwnedPipeline,
    keyframes: JoinHandle<()>,
}

/// A recording in progress.
pub struct Take {
    pub file: PathBuf,
    pub recorder: Recording,
    events: mpsc::Receiver<MediaEvent>,
}

impl Studio {
    pub async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        Self { _folder: Some(folder), ..Self::open_in(&path).await }
    }

    /// In a folder that stays.
    pub async fn open_in(folder: &Path) -> Self {
        gst::init().unwrap();
        let clock = RoomClock::new();
        let (presets, decoders) = (Arc::new(Presets::load(None)), Decoders::new(&clock));
        assert!(presets.can_record(), "{:?}", presets.unavailable());
        Self {
            tracks: TrackTable::new(),
            folder: folder.to_owned(),
            _folder: None,
            mixes: Mixes::new(&clock, &decoders, &presets, &MixBudget::new(64), mpsc::channel(1).0),
            presets,
            decoders,
            metronome: Metronome::start(&clock).await,
            clock,
        }
    }

    /// Seconds of the room.
    pub fn now(&self) -> f64 {
        self.clock.running_time().nseconds() as f64 / 1e9
    }

    /// Until the room's media has come to that second.
    pub async fn reach(&mut self, second: f64) {
        let reached = self.metronome.time.wait_for(|time| *time >= second);
        timeout(DEADLINE + Duration::from_secs_f64(second), reached).await.expect("time passes").unwrap();
    }

    pub async fn wait(&mut self, seconds: f64) {
        let until = self.now() + seconds;
        self.reach(until).await;
    }

    /// A picture of one colour.
    pub async fn colour(&mut self, codec: CodecName, argb: u32, width: u32, height: u32) -> Source {
        let launch = format!(
            "videotestsrc name=source is-live=true pattern=solid-color foreground-color={argb} ! \
             capsfilter name=size caps=video/x-raw,format=I420,width={width},height={height},framerate=25/1,colorimetry=bt601 ! {}",
            video_encoder(codec)
        );
        self.publish(codec, &launch).await
    }

    /// Black, and white in the first 100 ms of each second of the room.
    pub async fn flash(&mut self) -> Source {
        self.flash_at(25).await
    }

    /// The same of a camera that takes so many pictures a second.
    pub async fn flash_at(&mut self, fps: u32) -> Source {
        let launch = format!(
            "videotestsrc name=source is-live=true pattern=black ! \
             video/x-raw,format=I420,width=320,height=180,framerate={fps}/1 ! identity name=paint ! {}",
            video_encoder(CodecName::Vp8)
        );
        self.publish(CodecName::Vp8, &launch).await
    }

    /// Packets of a moving test picture, made as fast as they can be.
    pub async fn encode_ahead(&self, codec: CodecName, width: u32, height: u32, seconds: u32) -> Arc<Vec<gst::Buffer>> {
        let frames = seconds * 25;
        let launch = format!(
            "videotestsrc pattern=zone-plate kx2=8 ky2=8 kt=1 num-buffers={frames} ! video/x-raw,format=I420,width={width},height={height},framerate=25/1 ! \
             videoconvert ! {} ! appsink name=sink sync=false",
            video_encoder(codec).replace("! rtpjitterbuffer latency=200", "").replace("=250", "=50")
        );
        let pipeline = gst::parse::launch(&launch).unwrap();
        let sink = pipeline.downcast_ref::<gst::Bin>().unwrap().by_name("sink").unwrap();
        let sink = sink.downcast::<gst_app::AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let packets = tokio::task::spawn_blocking(move || {
            let mut packets = Vec::new();
            while let Ok(sample) = sink.pull_sample() {
                match (sample.buffer_owned(), sample.buffer_list()) {
                    (Some(buffer), _) => packets.push(buffer),
                    (None, Some(list)) => packets.extend(list.iter_owned()),
                    (None, None) => {}
                }
            }
            packets
        });
        let packets = packets.await.unwrap();
        pipeline.set_state(gst::State::Null).unwrap();
        Arc::new(packets)
    }

    /// A track that plays packets from [`encode_ahead`](Self::encode_ahead), at next to no cost.
    pub async fn replay(&mut self, codec: CodecName, packets: &Arc<Vec<gst::Buffer>>) -> Source {
        let caps = salon::media::gst::rtp_caps(codec, 96, None);
        let launch = "appsrc name=source format=time ! identity name=encoder sync=true";
        let source = self.publish(codec, launch).await;
        let appsrc = source.element("source").downcast::<gst_app::AppSrc>().unwrap();
        appsrc.set_caps(Some(&caps));
        appsrc.set_max_bytes(0);
        let start = self.clock.running_time();
        let first = packets[0].pts().unwrap();
        for packet in packets.iter() {
            let mut packet = packet.clone();
            let pts = packet.pts().unwrap() - first + start;
            let packet_mut = packet.make_mut();
            packet_mut.set_pts(pts);
            // x264enc counts these from a thousand hours.
            packet_mut.set_dts(gst::ClockTime::NONE);
            appsrc.push_buffer(packet).unwrap();
        }
        source
    }

    /// A picture of one colour over a network that loses that share of the packets.
    pub async fn lossy_colour(&mut self, argb: u32, loss: f64) -> Source {
        let launch = format!(
            "videotestsrc name=source is-live=true pattern=solid-color foreground-color={argb} ! \
             video/x-raw,format=I420,width=320,height=180,framerate=25/1,colorimetry=bt601 ! {}",
            video_encoder(CodecName::Vp8)
        );
        let lossy = format!("! identity drop-probability={loss} ! rtpjitterbuffer");
        self.publish(CodecName::Vp8, &launch.replace("! rtpjitterbuffer", &lossy)).await
    }

    pub async fn tone(&mut self, frequency: f64) -> Source {
        let launch = format!(
            "audiotestsrc name=source is-live=true freq={frequency} volume=0.25 samplesperbuffer=960 ! \
             audio/x-raw,rate=48000,channels=1 ! opusenc ! rtpopuspay pt=111 ! rtpjitterbuffer latency=200"
        );
        self.publish(CodecName::Opus, &launch).await
    }

    /// Silence, and 1 kHz in the first 100 ms of each second of the room.
    pub async fn beep(&mut self) -> Source {
        let launch = "audiotestsrc name=source is-live=true wave=silence samplesperbuffer=960 ! \
             audio/x-raw,format=S16LE,rate=48000,channels=1 ! identity name=paint ! opusenc ! \
             rtpopuspay pt=111 ! rtpjitterbuffer latency=200";
        self.publish(CodecName::Opus, launch).await
    }

    /// As scenes name what is published, with whose it is.
    pub fn published(&self, sources: &[(&str, &Source)]) -> Vec<Published> {
        let of = |(name, source): &(&str, &Source)| {
            let codec = self.tracks[&source.id].codec;
            Published { track: source.id.clone(), name: (*name).to_owned(), codec }
        };
        sources.iter().map(of).collect()
    }

    /// A track that claims to be of `codec`, from this pipeline.
    pub async fn publish(&mut self, codec: CodecName, launch: &str) -> Source {
        let id = TrackId::random();
        let track = Track::new(id.clone(), codec, None, &self.clock);
        let (owned, _events) = OwnedPipeline::new(&format!("source-{id}"), &self.clock);
        let bin = gst::parse::bin_from_description(launch, true).unwrap();
        let head = bin.by_name("source").unwrap();
        if head.has_property("timestamp-offset") {
            // Pictures lie on whole tenths of the room's seconds: one that is first after a second's
            // begin would show the flash late by as much, which is no fault of what is tested.
            let start = self.clock.running_time().nseconds().next_multiple_of(100_000_000);
            head.set_property("timestamp-offset", start as i64);
        }
        if let Some(paint) = bin.by_name("paint") {
            paint.static_pad("src").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let buffer = info.buffer_mut().unwrap();
                paint_marks(codec, buffer.make_mut());
                gst::PadProbeReturn::Ok
            });
        }
        let encoder = bin.by_name("encoder");
        owned.pipeline().add(&bin).unwrap();
        owned.pipeline().add(track.appsink()).unwrap();
        bin.link(track.appsink()).unwrap();
        owned.start().await.unwrap();
        self.tracks.insert(id.clone(), track.clone());
        let keyframes = tokio::spawn(async move {
            loop {
                track.keyframe_requested().await;
                let request = gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build();
                let _ = encoder.as_ref().is_some_and(|encoder| encoder.static_pad("src").unwrap().send_event(request));
            }
        });
        Source { id, pipeline: owned, keyframes }
    }

    pub async fn unpublish(&mut self, source: Source) {
        self.tracks.remove(&source.id);
        source.end().await;
    }

    pub fn record(&self, spec: &RecordingSpec, scene: &Scene) -> Take {
        self.try_record(spec, scene).unwrap()
    }

    pub fn try_record(&self, spec: &RecordingSpec, scene: &Scene) -> Result<Take, MediaError> {
        self.record_into("recording.mp4.part", spec, scene)
    }

    /// Into a file of that name, beside others.
    pub fn record_into(&self, name: &str, spec: &RecordingSpec, scene: &Scene) -> Result<Take, MediaError> {
        let file = self.folder.join(name);
        let (sender, events) = mpsc::channel(16);
        self.show(scene);
        let bounds = Bounds::new(self.clock.running_time(), Budget::new(spec.max_bytes, 0));
        let recorder = Recording::start(
            &self.clock,
            &self.mixes,
            RecordingId::random(),
            file.clone(),
            bounds,
            spec,
            scene,
            &self.tracks,
            sender,
        )?;
        Ok(Take { file, recorder, events })
    }

    /// From now on, in all recordings.
    pub fn show(&self, scene: &Scene) {
        self.mixes.set_scene(scene, &self.tracks);
    }

    /// Until as many pipelines are left.
    pub async fn settle(&mut self, pipelines: usize) {
        let until = self.now() + DEADLINE.as_secs_f64();
        while live_pipelines() > pipelines {
            assert!(self.now() < until, "{} pipelines instead of {pipelines}", live_pipelines());
            self.wait(0.02).await;
        }
    }

    /// The finalised file, and what the finaliser said of it.
    pub fn finalise(&self, source: &Path) -> (PathBuf, Finalised) {
        let target = self.folder.join("recording.mp4");
        let facts = mp4::finalise(source, &target).unwrap();
        (target, facts)
    }

    pub async fn close(self) {
        self.metronome.pipeline.shutdown(DEADLINE).await.unwrap();
    }
}

impl Source {
    pub fn element(&self, name: &str) -> gst::Element {
        self.pipeline.pipeline().by_name(name).unwrap()
    }

    /// Nothing comes any more, as from a camera whose cable was pulled.
    pub fn freeze(&self) {
        let pad = self.element("encoder").static_pad("sink").unwrap();
        pad.add_probe(gst::PadProbeType::BUFFER, |_, _| gst::PadProbeReturn::Drop);
    }

    pub async fn end(self) {
        self.keyframes.abort();
        self.pipeline.shutdown(DEADLINE).await.unwrap();
    }
}

impl Take {
    pub async fn started(&mut self) {
        let event = timeout(DEADLINE, self.events.recv()).await.expect("the recording starts").unwrap();
        assert!(matches!(event, MediaEvent::RecordingStarted { .. }), "{event:?}");
    }

    pub async fn ended(&mut self) -> Result<(), MediaError> {
        loop {
            match timeout(DEADLINE, self.events.recv()).await.expect("the recording ends").unwrap() {
                MediaEvent::RecordingEnded { result, .. } => return result,
                MediaEvent::RecordingStarted { .. } => {}
                event => panic!("{event:?}"),
            }
        }
    }

    pub async fn stop(mut self) -> PathBuf {
        self.recorder.stop();
        self.ended().await.unwrap();
        self.recorder.shutdown(DEADLINE).await.unwrap();
        self.file
    }
}

/// A participant's tile.
pub fn tile(participant: &ParticipantId, label: &str, video: Option<&Source>) -> Tile {
    Tile {
        participant: participant.clone(),
        label: label.into(),
        video: video.map(|source| source.id.clone()),
        screen: false,
    }
}

pub fn scene(tiles: Vec<Tile>, audio: &[&Source]) -> Scene {
    Scene { tiles, audio: audio.iter().map(|source| source.id.clone()).collect(), ..Default::default() }
}

fn video_encoder(codec: CodecName) -> &'static str {
    match codec {
        CodecName::H264 => {
            "x264enc name=encoder tune=zerolatency speed-preset=ultrafast key-int-max=250 bitrate=1000 ! \
             video/x-h264,profile=constrained-baseline ! rtph264pay pt=102 config-interval=-1 ! rtpjitterbuffer latency=200"
        }
        CodecName::Vp9 => {
            "vp9enc name=encoder deadline=1 cpu-used=8 lag-in-frames=0 keyframe-max-dist=250 ! rtpvp9pay pt=98 ! \
             rtpjitterbuffer latency=200"
        }
        _ => {
            "vp8enc name=encoder deadline=1 cpu-used=8 keyframe-max-dist=250 ! rtpvp8pay pt=96 ! \
             rtpjitterbuffer latency=200"
        }
    }
}

/// Makes the first 100 ms of every second of the room white, or loud.
fn paint_marks(codec: CodecName, buffer: &mut gst::BufferRef) {
    const SECOND: u64 = 1_000_000_000;
    const MARK: u64 = 100_000_000;
    let pts = buffer.pts().unwrap().nseconds();
    // Of a slow camera it is one picture.
    let mark = buffer.duration().map_or(MARK, |duration| duration.nseconds().max(MARK));
    let mut map = buffer.map_writable().unwrap();
    if codec == CodecName::Opus {
        for (index, pair) in map.chunks_exact_mut(2).enumerate() {
            let time = pts + index as u64 * SECOND / 48_000;
            let phase = (time % SECOND) as f64 / SECOND as f64;
            if time % SECOND < MARK {
                let value = (phase * 1000.0 * 2.0 * std::f64::consts::PI).sin() * 16_000.0;
                pair.copy_from_slice(&(value as i16).to_le_bytes());
            }
        }
    } else if pts % SECOND < mark {
        let luma = 320 * 180;
        map[..luma].fill(235);
    }
}

/// Tells the room's seconds as live media: what waits for time waits for this.
struct Metronome {
    pipeline: OwnedPipeline,
    time: watch::Receiver<f64>,
}

impl Metronome {
    async fn start(clock: &RoomClock) -> Self {
        let (pipeline, _events) = OwnedPipeline::new("metronome", clock);
        let launch = "audiotestsrc is-live=true wave=silence samplesperbuffer=441 ! appsink name=sink sync=true";
        let bin = gst::parse::bin_from_description(launch, false).unwrap();
        let sink = bin.by_name("sink").unwrap().downcast::<gst_app::AppSink>().unwrap();
        let (sender, time) = watch::channel(0.0);
        let now = clock.clone();
        let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
            let _ = sink.pull_sample();
            sender.send_replace(now.running_time().nseconds() as f64 / 1e9);
            Ok(gst::FlowSuccess::Ok)
        });
        sink.set_callbacks(callbacks.build());
        pipeline.pipeline().add(&bin).unwrap();
        pipeline.start().await.unwrap();
        Self { pipeline, time }
    }
}
