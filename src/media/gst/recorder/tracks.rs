//! Writes single tracks, each as it came into a file of its own, on one thread for all of a recording.
//!
//! Like the mix's recorder it reads a bounded channel that nobody waits for. A file begins with the
//! first frame that can be decoded by itself; when that was is in the journal and, relative to it,
//! in the file.

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    super::RoomClock,
    Bounds, RecorderEvent,
    cuts::Splice,
    depacketiser::kept_as,
    output::{Disk, Output, file_error},
    timeline::Frame,
};
use crate::{
    media::{CodecName, Kind, MediaError, av1},
    recording::{
        mp4::fragment::{AudioCodec, AudioFormat, Fragmenter, TrackKind, VideoFormat},
        tracks::{Journal, LeftOut, Line, TrackEntry},
        webm,
    },
};

/// What is not on the disk yet when the process dies is lost.
const FRAGMENT: Duration = Duration::from_millis(200);
/// Frames of all tracks that wait for a slow disk: 12 s of ten tracks.
const QUEUE_FRAMES: usize = 8192;
/// How long a stop waits for frames from before it.
const STOP_DEADLINE: Duration = Duration::from_secs(1);
/// Files of one recording.
const MOST_FILES: usize = 1000;

/// A track, for as long as it is recorded.
pub type Key = u64;

/// What is told to the thread.
pub enum Message {
    /// A track begins. What is called asks its publisher for a keyframe.
    Open(Key, Owner, Box<dyn Fn() + Send>),
    /// A frame of it.
    Frame(Key, gst::Sample),
    /// There will be no frames, for this reason.
    Refuse(Key, String),
    /// It is over.
    Close(Key),
}

/// Whose track it is, and of what kind.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Nickname.
    pub participant: String,
    /// As it was published.
    pub codec: CodecName,
}

/// The way to the thread. What does not fit ends the recording: a file has no holes.
#[derive(Clone, Debug)]
pub struct Inlet {
    queue: SyncSender<Message>,
    overrun: Arc<AtomicBool>,
}

impl Inlet {
    /// Never waits.
    pub fn send(&self, message: Message) {
        // Disconnected: it has ended, and was told so.
        if let Err(std::sync::mpsc::TrySendError::Full(_)) = self.queue.try_send(message) {
            self.overrun.store(true, Relaxed);
        }
    }
}

/// Makes `folder`, which must not exist, and starts the thread. Also: bytes written so far. It ends
/// within a second of its stop. → [`RecorderEvent::Ended`]
///
/// `hold`: how old frames are when they are written. A pause may begin so much before it is told.
///
/// # Errors
/// [`MediaError::File`] or [`MediaError::DiskFull`].
pub fn start(
    folder: &Path,
    bounds: Bounds,
    clock: &RoomClock,
    hold: Duration,
) -> Result<(Inlet, Arc<AtomicU64>, mpsc::UnboundedReceiver<RecorderEvent>), MediaError> {
    let disk = Disk::new(bounds.budget.clone())?;
    disk.check_space(folder, 0)?;
    let journal = Journal::create(folder).map_err(|error| file_error(&error))?;
    let (queue, messages) = sync_channel(QUEUE_FRAMES);
    let overrun = Arc::new(AtomicBool::new(false));
    let inlet = Inlet { queue, overrun: overrun.clone() };
    let (events, receiver) = mpsc::unbounded_channel();
    let written = disk.written.clone();
    let writer = Writer {
        folder: folder.to_owned(),
        journal,
        disk,
        bounds,
        clock: clock.clone(),
        hold_ns: i64::try_from(hold.as_nanos()).unwrap_or(i64::MAX),
        overrun,
        tracks: HashMap::new(),
        files: 0,
    };
    let thread = std::thread::Builder::new().name("track-recorder".into());
    thread
        .spawn(move || {
            let _ = events.send(RecorderEvent::Started);
            let result = writer.run(&messages);
            // Nobody listens any more if the room has gone.
            let _ = events.send(RecorderEvent::Ended(result));
        })
        .map_err(|error| file_error(&error))?;
    Ok((inlet, written, receiver))
}

/// The thread's state.
struct Writer {
    folder: PathBuf,
    journal: Journal,
    disk: Disk,
    bounds: Bounds,
    clock: RoomClock,
    hold_ns: i64,
    overrun: Arc<AtomicBool>,
    tracks: HashMap<Key, TrackWriter>,
    files: usize,
}

impl Writer {
    fn run(mut self, messages: &Receiver<Message>) -> Result<(), MediaError> {
        let result = self.write(messages).and_then(|()| self.place_all(i64::MAX));
        // Of each file is kept what is there; the first error counts.
        let closed = std::mem::take(&mut self.tracks).into_values().map(TrackWriter::close);
        closed.fold(result, Result::and)
    }

    fn write(&mut self, messages: &Receiver<Message>) -> Result<(), MediaError> {
        let mut stopping: Option<Instant> = None;
        loop {
            if self.overrun.load(Relaxed) {
                return Err(MediaError::File("the disk is too slow for the recording".into()));
            }
            if let Some(at) = self.bounds.stop.get() {
                let since = *stopping.get_or_insert_with(Instant::now);
                if since.elapsed() >= STOP_DEADLINE || self.tracks.values().all(|track| track.has_reached(at)) {
                    return Ok(());
                }
            }
            // Woken at times without a frame, to see that it is to stop, and to write what there is.
            match messages.recv_timeout(FRAGMENT / 4) {
                Ok(message) => self.take(message)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.place_all(nanoseconds(self.clock.running_time()).saturating_sub(self.hold_ns))?;
            for track in self.tracks.values_mut() {
                track.write_due()?;
            }
            if self.tracks.values().any(TrackWriter::is_full) {
                return Ok(());
            }
        }
    }

    fn take(&mut self, message: Message) -> Result<(), MediaError> {
        match message {
            Message::Open(key, owner, ask_keyframe) => {
                self.tracks.insert(key, TrackWriter::new(owner, ask_keyframe));
                Ok(())
            }
            Message::Frame(key, sample) => {
                let Some(track) = self.tracks.get_mut(&key) else { return Ok(()) };
                if let Some(frame) = Frame::of(track.owner.codec.kind(), sample, gst::ClockTime::ZERO) {
                    track.last_ns = frame.time_ns;
                    track.held.push_back(frame);
                }
                Ok(())
            }
            Message::Refuse(key, left_out) => {
                let Some(track) = self.tracks.get_mut(&key) else { return Ok(()) };
                track.state = State::LeftOut;
                let Owner { participant, codec } = track.owner.clone();
                self.note(&Line::LeftOut(LeftOut { participant, codec, left_out }))
            }
            Message::Close(key) => {
                self.place(key, i64::MAX)?;
                self.tracks.remove(&key).map_or(Ok(()), TrackWriter::close)
            }
        }
    }

    fn place_all(&mut self, until_ns: i64) -> Result<(), MediaError> {
        let keys: Vec<Key> = self.tracks.keys().copied().collect();
        keys.into_iter().try_for_each(|key| self.place(key, until_ns))
    }

    /// Takes in a track's frames up to a running time.
    fn place(&mut self, key: Key, until_ns: i64) -> Result<(), MediaError> {
        while let Some(track) = self.tracks.get_mut(&key) {
            if track.held.front().is_none_or(|frame| frame.time_ns > until_ns) {
                return Ok(());
            }
            let Some(frame) = track.held.pop_front() else { return Ok(()) };
            self.frame(key, frame)?;
        }
        Ok(())
    }

    fn frame(&mut self, key: Key, frame: Frame) -> Result<(), MediaError> {
        let Some(track) = self.tracks.get_mut(&key) else { return Ok(()) };
        let kind = track.owner.codec.kind();
        let begin = nanoseconds(self.bounds.begin);
        let is_over = self.bounds.stop.get().is_some_and(|stop| frame.time_ns >= stop as i64);
        if frame.time_ns < begin || is_over {
            return Ok(());
        }
        let is_sync = frame.sync || kind == Kind::Audio;
        let Some(removed) = track.splice.place(&self.bounds.cuts, frame.time_ns, is_sync, begin) else {
            if track.splice.is_held_up(&self.bounds.cuts, frame.time_ns) {
                (track.ask_keyframe)();
            }
            return Ok(());
        };
        let time_ns = frame.time_ns - begin - removed;
        if let State::Waiting = track.state {
            if !is_sync {
                // The one that was asked for at the start may have come a moment before the recording's begin.
                (track.ask_keyframe)();
                return Ok(());
            }
            self.open(key, &frame, time_ns)?;
        }
        match self.tracks.get_mut(&key).map(|track| &mut track.state) {
            Some(State::Writing(file)) => file.push(frame, time_ns, is_sync),
            Some(State::Waiting | State::LeftOut) | None => Ok(()),
        }
    }

    /// Begins a track's file with `frame`.
    fn open(&mut self, key: Key, frame: &Frame, time_ns: i64) -> Result<(), MediaError> {
        let Some(track) = self.tracks.get_mut(&key) else { return Ok(()) };
        let Owner { participant, codec } = track.owner.clone();
        if self.files >= MOST_FILES {
            track.state = State::LeftOut;
            let left_out = format!("a recording has at most {MOST_FILES} files of tracks");
            return self.note(&Line::LeftOut(LeftOut { participant, codec, left_out }));
        }
        let container = match Container::new(kept_as(codec), frame) {
            Ok(Some(container)) => container,
            // The format comes with a later frame.
            Ok(None) => return Ok(()),
            Err(error) => {
                track.state = State::LeftOut;
                return self.note(&Line::LeftOut(LeftOut { participant, codec, left_out: error.to_string() }));
            }
        };
        self.files += 1;
        let track_kind = codec.kind();
        let (word, extension) = (if track_kind == Kind::Audio { "audio" } else { "video" }, container.extension());
        let name = format!("{:03}-{word}.{extension}", self.files);
        let output = Output::create(&self.folder.join(&name), &self.disk)?;
        let offset_ms = u64::try_from(time_ns / 1_000_000).unwrap_or(0);
        track.state = State::Writing(Box::new(TrackFile {
            output,
            container,
            zero_ns: offset_ms as i64 * 1_000_000,
            begun: None,
        }));
        let kept = kept_as(codec);
        let published = (kept != codec).then_some(codec);
        self.note(&Line::File(TrackEntry { name, participant, track_kind, codec: kept, published, offset_ms }))
    }

    fn note(&mut self, line: &Line) -> Result<(), MediaError> {
        self.journal.note(line).map_err(|error| file_error(&error))
    }
}

/// One track.
struct TrackWriter {
    owner: Owner,
    ask_keyframe: Box<dyn Fn() + Send>,
    splice: Splice,
    /// Running time of its last frame.
    last_ns: i64,
    /// Not written yet, though they have come.
    held: VecDeque<Frame>,
    state: State,
}

enum State {
    /// For a frame that can be decoded by itself.
    Waiting,
    Writing(Box<TrackFile>),
    LeftOut,
}

impl TrackWriter {
    fn new(owner: Owner, ask_keyframe: Box<dyn Fn() + Send>) -> Self {
        // Frames of sound are whole and independent here: they are cut where pictures are.
        Self {
            owner,
            ask_keyframe,
            splice: Splice::picture(),
            last_ns: 0,
            held: VecDeque::new(),
            state: State::Waiting,
        }
    }

    fn has_reached(&self, time: u64) -> bool {
        matches!(self.state, State::LeftOut) || self.last_ns >= i64::try_from(time).unwrap_or(i64::MAX)
    }

    fn is_full(&self) -> bool {
        matches!(&self.state, State::Writing(file) if file.output.is_full())
    }

    fn write_due(&mut self) -> Result<(), MediaError> {
        match &mut self.state {
            State::Writing(file) if file.begun.is_some_and(|begun| begun.elapsed() >= FRAGMENT) => file.write(),
            State::Waiting | State::Writing(_) | State::LeftOut => Ok(()),
        }
    }

    fn close(self) -> Result<(), MediaError> {
        match self.state {
            State::Writing(mut file) => file.write().and_then(|()| file.output.close()),
            State::Waiting | State::LeftOut => Ok(()),
        }
    }
}

/// An open file.
struct TrackFile {
    output: Output,
    container: Container,
    /// The recording's time at which the file's is 0.
    zero_ns: i64,
    /// Since when something waits to be written.
    begun: Option<Instant>,
}

impl TrackFile {
    fn push(&mut self, frame: Frame, time_ns: i64, is_sync: bool) -> Result<(), MediaError> {
        self.begun.get_or_insert_with(Instant::now);
        self.container.push(frame, time_ns - self.zero_ns, is_sync);
        Ok(())
    }

    fn write(&mut self) -> Result<(), MediaError> {
        self.begun = None;
        let bytes = self.container.take()?;
        self.output.append(&bytes)
    }
}

/// What makes a file's bytes.
enum Container {
    Mp4 { header: Vec<u8>, fragmenter: Fragmenter, kind: TrackKind },
    Webm { header: Vec<u8>, writer: webm::Writer },
}

impl Container {
    /// `None`: the caps do not say enough yet.
    fn new(codec: CodecName, frame: &Frame) -> Result<Option<Self>, MediaError> {
        let Some(structure) = frame.caps.structure(0) else { return Ok(None) };
        let number = |name: &str| structure.get::<i32>(name).ok().and_then(|number| u16::try_from(number).ok());
        let codec_data = || -> Option<Vec<u8>> {
            let buffer = structure.get::<gst::Buffer>("codec_data").ok()?;
            Some(buffer.map_readable().ok()?.as_slice().to_vec())
        };
        let size = number("width").zip(number("height")).filter(|(width, height)| *width > 0 && *height > 0);
        let webm = |codec, (width, height)| {
            let writer = webm::Writer::new(&webm::VideoFormat { codec, width, height });
            Self::Webm { header: writer.header().to_vec(), writer }
        };
        match codec {
            CodecName::Pcmu | CodecName::Pcma => Err(MediaError::Unavailable("a file that holds G.711".into())),
            CodecName::Opus => {
                let channels = number("channels").unwrap_or(2).clamp(1, 2);
                let format = AudioFormat { rate: 48_000, channels, codec: AudioCodec::Opus };
                Self::mp4(TrackKind::Audio, Fragmenter::new(None, Some((&format, 0)))).map(Some)
            }
            CodecName::H264 => {
                let Some(((width, height), config)) = size.zip(codec_data()) else { return Ok(None) };
                let format = VideoFormat { width, height, config, changes: true, reorder_ns: 0 };
                Self::mp4(TrackKind::Video, Fragmenter::new(Some(&format), None)).map(Some)
            }
            CodecName::Vp8 => Ok(size.map(|size| webm(webm::VideoCodec::Vp8, size))),
            CodecName::Vp9 => Ok(size.map(|size| webm(webm::VideoCodec::Vp9, size))),
            CodecName::Av1 => {
                let depth = structure.get::<u32>("bit-depth-luma").unwrap_or(8);
                let chroma = structure.get::<String>("chroma-format").unwrap_or_default();
                let config = codec_data().or_else(|| av1::config_record(&frame.data, depth, &chroma));
                Ok(size.zip(config).map(|(size, config)| webm(webm::VideoCodec::Av1(config), size)))
            }
        }
    }

    fn mp4(
        kind: TrackKind,
        fragmenter: Result<Fragmenter, crate::recording::mp4::fragment::FormatError>,
    ) -> Result<Self, MediaError> {
        let fragmenter = fragmenter.map_err(|error| failed(&error))?;
        Ok(Self::Mp4 { header: fragmenter.header().to_vec(), fragmenter, kind })
    }

    fn extension(&self) -> &'static str {
        match self {
            Self::Mp4 { .. } => "mp4",
            Self::Webm { .. } => "webm",
        }
    }

    fn push(&mut self, frame: Frame, time_ns: i64, is_sync: bool) {
        match self {
            Self::Mp4 { fragmenter, kind, .. } => fragmenter.push(*kind, time_ns, frame.duration, is_sync, frame.data),
            Self::Webm { writer, .. } => writer.push(time_ns, is_sync, frame.data),
        }
    }

    /// What was pushed, and before the first of it the file's header.
    fn take(&mut self) -> Result<Vec<u8>, MediaError> {
        let (header, bytes) = match self {
            Self::Mp4 { header, fragmenter, .. } => {
                (header, fragmenter.take_fragment().map_err(|error| failed(&error))?)
            }
            Self::Webm { header, writer } => (header, writer.take_clusters()),
        };
        let mut out = std::mem::take(header);
        out.extend(bytes);
        Ok(out)
    }
}

fn nanoseconds(time: gst::ClockTime) -> i64 {
    i64::try_from(time.nseconds()).unwrap_or(i64::MAX)
}

fn failed(error: &dyn std::fmt::Display) -> MediaError {
    MediaError::Element { element: "recorder".into(), message: error.to_string() }
}
