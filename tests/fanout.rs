//! The fan-out edge with viewers over real sockets, and with those who wish it ill.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "common/demultiplex.rs"]
mod demultiplex;
#[path = "fanout/garbage.rs"]
mod garbage;
#[path = "fanout/tcp.rs"]
mod tcp;
#[path = "common/viewer.rs"]
mod viewer;

use std::{
    collections::HashSet,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rtp_types::RtpPacketBuilder;
use salon::{
    media::{
        CodecName, IceCredentials, LayerChoice, MediaError, MediaEvent,
        fanout::{Earlier, Edge, EdgeSettings, Source, Upstream, Viewer as Watching},
        negotiation,
    },
    room::id::{ConnectionId, ConnectionName, ParticipantId, TrackId},
};
use str0m::media::MediaKind;
use tokio::sync::mpsc;
use viewer::{Offering, VIDEO, Viewer};

/// Somebody who publishes two tracks when told to.
struct Stage {
    edge: Arc<Edge>,
    video: Arc<Source>,
    audio: Arc<Source>,
    asked: Arc<AtomicUsize>,
    sequence: u16,
}

#[derive(Debug)]
struct Asked(Arc<AtomicUsize>);

impl Upstream for Asked {
    fn request_keyframe(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    fn viewer_came(&self, begin: &mut dyn FnMut(&[Earlier])) {
        begin(&[]);
    }

    fn viewer_went(&self) {}
}

impl Stage {
    fn new() -> Self {
        Self::bound_to("127.0.0.1")
    }

    fn bound_to(address: &str) -> Self {
        let settings = EdgeSettings {
            bind: vec![address.parse().unwrap()],
            announce: None,
            ports: None,
            tcp: true,
            connect_timeout: Duration::from_secs(20),
        };
        let asked = Arc::<AtomicUsize>::default();
        let video = Source::new(CodecName::Vp8, None, Box::new(Asked(asked.clone())));
        let audio = Source::new(CodecName::Opus, Some("useinbandfec=1"), Box::new(Asked(asked.clone())));
        Self { edge: Edge::start(&settings).unwrap(), video, audio, asked, sequence: 65_500 }
    }

    /// A viewer of both tracks, who is connected.
    async fn watch(&self) -> (Viewer, Watching, mpsc::Receiver<MediaEvent>) {
        self.watch_as(Viewer::answer).await
    }

    async fn watch_as(
        &self,
        answer: impl FnOnce(&str) -> (Viewer, String),
    ) -> (Viewer, Watching, mpsc::Receiver<MediaEvent>) {
        let (sender, mut events) = mpsc::channel(16);
        let tracks = [&self.video, &self.audio].map(|source| (TrackId::random(), source.clone()));
        let watching = self.edge.subscribe(connection(), tracks.into(), sender);
        let Some(MediaEvent::Offered { sdp, .. }) = soon(events.recv()).await else { panic!("no offer") };
        assert!(sdp.contains("a=fmtp:111 useinbandfec=1"), "what conceals lost sound is offered as it was published");
        let (viewer, answer) = answer(&sdp);
        watching.answer(answer);
        let event = soon(events.recv()).await;
        assert!(matches!(event, Some(MediaEvent::Connected { .. })), "{event:?}");
        (viewer, watching, events)
    }

    /// A viewer who offered `sections` and is sent `sources`, and is connected.
    async fn answer(
        &self,
        sections: &[MediaKind],
        sources: impl IntoIterator<Item = Arc<Source>>,
    ) -> (Viewer, Watching, mpsc::Receiver<MediaEvent>) {
        let (offering, sdp) = Offering::new(sections);
        let (viewer, _, watching, events) = self.answer_to(offering, sdp, sources).await;
        (viewer, watching, events)
    }

    /// And the answer that he had.
    async fn answer_to(
        &self,
        offering: Offering,
        sdp: String,
        sources: impl IntoIterator<Item = Arc<Source>>,
    ) -> (Viewer, String, Watching, mpsc::Receiver<MediaEvent>) {
        let tracks = sources.into_iter().map(|source| (source.clone(), source.codec));
        let media = negotiation::accept_subscriber(&sdp, tracks).unwrap();
        let media = media.into_iter().map(|(source, section)| (section, source)).collect();
        let (sender, mut events) = mpsc::channel(16);
        let watching = self.edge.answer(connection(), sdp, media, sender);
        let answered = soon(events.recv()).await;
        let Some(MediaEvent::Answered { sdp, .. }) = answered else { panic!("{answered:?}") };
        let viewer = offering.answered(&sdp);
        let event = soon(events.recv()).await;
        assert!(matches!(event, Some(MediaEvent::Connected { .. })), "{event:?}");
        (viewer, sdp, watching, events)
    }

    /// A picture of one packet and a sound; both say which they are.
    fn play(&mut self, number: u32, is_keyframe: bool) {
        self.sequence = self.sequence.wrapping_add(1);
        for (source, payload) in [(&self.video, VIDEO), (&self.audio, 111)] {
            let packet = RtpPacketBuilder::new()
                .payload_type(payload)
                .sequence_number(self.sequence)
                .timestamp(number * 3000)
                .marker_bit(true)
                .payload(&number.to_be_bytes()[..])
                .write_vec()
                .unwrap();
            source.forward(&packet, Instant::now(), is_keyframe);
        }
    }

    /// Plays until this viewer has `count` more pictures.
    fn play_to(&mut self, viewer: &Viewer, count: usize) {
        let pictures = |viewer: &Viewer| pictures(viewer).len();
        let wanted = pictures(viewer) + count;
        let deadline = Instant::now() + Duration::from_secs(40);
        let mut number = u32::from(self.sequence);
        while pictures(viewer) < wanted {
            assert!(Instant::now() < deadline, "{} of {wanted} pictures came", pictures(viewer));
            self.play(number, number % 10 == 0);
            number += 1;
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    fn address(&self) -> SocketAddr {
        self.edge.addresses().next().unwrap()
    }
}

fn connection() -> ConnectionId {
    ConnectionId { participant: ParticipantId::random(), name: ConnectionName("watching".into()) }
}

fn pictures(viewer: &Viewer) -> Vec<u64> {
    let seen = viewer.seen();
    seen.packets.iter().filter(|packet| *packet.header.payload_type == VIDEO).map(|packet| *packet.seq_no).collect()
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(40), future).await.expect("nothing came in time")
}

fn threads_and_descriptors() -> (usize, usize) {
    let count = |folder| std::fs::read_dir(folder).unwrap().count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_has_all_from_a_keyframe_on_without_a_gap() {
    let mut stage = Stage::new();
    let (viewer, _watching, _events) = stage.watch().await;
    assert!(stage.asked.load(Relaxed) > 0, "a keyframe was asked for");
    stage.play(1, false);
    stage.play(2, true);
    (3..60).for_each(|number| stage.play(number, false));
    viewer.until("all pictures and sounds", |seen| seen.packets.len() >= 58 + 59);
    let seen = pictures(&viewer);
    assert_eq!(seen.len(), 58, "the one before the keyframe is left out");
    assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seen:?}");
    let before = stage.asked.load(Relaxed);
    viewer.request_keyframe();
    stage.play_to(&viewer, 1);
    let deadline = Instant::now() + Duration::from_secs(40);
    while stage.asked.load(Relaxed) == before {
        assert!(Instant::now() < deadline, "his request did not come");
        stage.play_to(&viewer, 1);
    }
}

/// The other source has numbers of its own; the viewer has one numbering, and VP8's picture numbers go on too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_given_another_source_has_it_from_its_keyframe_on_in_one_numbering() {
    let stage = Stage::new();
    let (sender, mut events) = mpsc::channel(16);
    let track = TrackId::random();
    let other = Source::new(CodecName::Vp8, None, Box::new(Asked(stage.asked.clone())));
    let layers = vec![("l".to_owned(), other.clone())];
    let video = Source::layered(CodecName::Vp8, None, Box::new(Asked(stage.asked.clone())), layers);
    let watching = stage.edge.subscribe(connection(), vec![(track.clone(), video.clone())], sender);
    let Some(MediaEvent::Offered { sdp, .. }) = soon(events.recv()).await else { panic!("no offer") };
    let (viewer, answer) = Viewer::answer(&sdp);
    watching.answer(answer);
    assert!(matches!(soon(events.recv()).await, Some(MediaEvent::Connected { .. })));
    // Sequence and picture number are the same; the last byte says which source it is.
    let picture = |source: &Source, number: u16, is_keyframe: bool, which: u8| {
        let [high, low] = (number | 0x8000).to_be_bytes();
        let builder = RtpPacketBuilder::new().payload_type(VIDEO).sequence_number(number).marker_bit(true);
        let payload = [0x90, 0x80, high, low, u8::from(!is_keyframe), which];
        let packet = builder.timestamp(u32::from(number) * 3_000).payload(&payload[..]).write_vec().unwrap();
        source.forward(&packet, Instant::now(), is_keyframe);
    };
    for number in 100..110 {
        picture(&video, number, number == 100, 1);
    }
    viewer.until("the first source", |seen| seen.packets.len() == 10);
    watching.set_layer(track.clone(), LayerChoice::Named("l".into()));
    let deadline = Instant::now() + Duration::from_secs(40);
    while other.viewers() == 0 {
        assert!(Instant::now() < deadline, "nobody reads the other source");
        tokio::task::yield_now().await;
    }
    picture(&other, 20_000, false, 2);
    picture(&video, 110, false, 1);
    for number in 20_001..20_011 {
        picture(&other, number, number == 20_001, 2);
    }
    viewer.until("the other source", |seen| seen.packets.len() == 21);
    goes_on_in_one_numbering(&viewer.seen());
    assert_eq!((video.viewers(), other.viewers()), (0, 1));
    soon(watching.close()).await.unwrap();
    assert_eq!(other.viewers(), 0);
}

/// Eleven pictures of one source and ten of another.
fn goes_on_in_one_numbering(seen: &viewer::Seen) {
    let which: Vec<u8> = seen.packets.iter().map(|packet| packet.payload[5]).collect();
    assert_eq!(which, [[1; 11].as_slice(), &[2; 10]].concat());
    for pair in seen.packets.windows(2) {
        assert_eq!(*pair[1].seq_no, *pair[0].seq_no + 1);
        assert!(pair[1].header.timestamp > pair[0].header.timestamp, "{:?}", pair);
        let number = |index: usize| u16::from_be_bytes([pair[index].payload[2], pair[index].payload[3]]);
        assert_eq!(number(1), number(0) + 1);
    }
}

/// Two layers of a picture, of 100 and 800 kbit/s, and a sound, on a thread of its own.
struct Layered {
    track: Arc<Source>,
    audio: Arc<Source>,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

/// Bytes of the payloads of the small layer, and of the large one.
const SIZES: [usize; 2] = [125, 1_000];

impl Layered {
    fn play(audio: &Arc<Source>) -> Self {
        let asked = Arc::<AtomicUsize>::default();
        let new = |layers| Source::layered(CodecName::Vp8, None, Box::new(Asked(asked.clone())), layers);
        let (small, large) = (new(Vec::new()), new(Vec::new()));
        let track = new(vec![("l".to_owned(), small.clone()), ("h".to_owned(), large.clone())]);
        let stop = Arc::<AtomicBool>::default();
        let (sources, stopped) = ((track.clone(), [small, large], audio.clone()), stop.clone());
        let thread = std::thread::spawn(move || {
            let (track, layers, audio) = sources;
            let begun = Instant::now();
            for number in 0u16.. {
                if stopped.load(Relaxed) {
                    return;
                }
                let is_keyframe = asked.swap(0, Relaxed) > 0;
                for (layer, size) in SIZES.into_iter().enumerate() {
                    track.heard(layer, size, Some([180, 360][layer]), Instant::now());
                    let mut payload = vec![0; size];
                    payload[..2].copy_from_slice(&[0x10, u8::from(!is_keyframe)]);
                    forward(&layers[layer], VIDEO, number, &payload, is_keyframe);
                    if layer == 1 {
                        forward(&track, VIDEO, number, &payload, is_keyframe);
                    }
                }
                forward(&audio, 111, number, &[7; 40], true);
                let next = begun + Duration::from_millis(10) * (u32::from(number) + 1);
                std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
            }
        });
        Self { track, audio: audio.clone(), stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap();
    }
}

fn forward(source: &Source, payload_type: u8, number: u16, payload: &[u8], starts_keyframe: bool) {
    let builder = RtpPacketBuilder::new().payload_type(payload_type).sequence_number(number).marker_bit(true);
    let packet = builder.timestamp(u32::from(number) * 900).payload(payload).write_vec().unwrap();
    source.forward(&packet, Instant::now(), starts_keyframe);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_less_bandwidth_has_a_smaller_layer_and_the_larger_one_again_with_more() {
    let stage = Stage::new();
    let playing = Layered::play(&stage.audio);
    let tracks = [&playing.track, &playing.audio].map(|source| (TrackId::random(), source.clone()));
    let (sender, mut events) = mpsc::channel(16);
    let watching = stage.edge.subscribe(connection(), tracks.into(), sender);
    let Some(MediaEvent::Offered { sdp, .. }) = soon(events.recv()).await else { panic!("no offer") };
    let (viewer, answer) = Viewer::answer(&sdp);
    watching.answer(answer);
    assert!(matches!(soon(events.recv()).await, Some(MediaEvent::Connected { .. })));
    let has = |what: &str, size: usize| {
        viewer.seen().packets.clear();
        viewer.until(what, |seen| {
            let pictures = seen.packets.iter().rev().filter(|packet| *packet.header.payload_type == VIDEO);
            let last: Vec<usize> = pictures.take(100).map(|packet| packet.payload.len()).collect();
            last.len() == 100 && last.iter().all(|length| *length == size)
        });
        let seen = viewer.seen();
        let sounds = seen.packets.iter().filter(|packet| *packet.header.payload_type != VIDEO);
        (sounds.count(), seen.packets.len())
    };
    has("the large layer", SIZES[1]);
    viewer.limit(400);
    let (sounds, all) = has("the small layer", SIZES[0]);
    assert!(sounds > 90, "sound went on: {sounds} of {all}");
    viewer.limit(0);
    let (sounds, all) = has("the large layer again", SIZES[1]);
    assert!(sounds * 5 > all * 2, "sound went on: {sounds} of {all}");
    playing.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_offers_to_watch_is_answered() {
    let mut stage = Stage::new();
    let tracks = [stage.video.clone(), stage.audio.clone()];
    let (viewer, _watching, _events) = stage.answer(&[MediaKind::Video, MediaKind::Audio], tracks).await;
    stage.play_to(&viewer, 20);
    viewer.until("sound", |seen| seen.packets.iter().any(|packet| *packet.header.payload_type != VIDEO));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_offers_sections_for_which_there_is_nothing_has_the_rest() {
    let mut stage = Stage::new();
    let (audio, video) = (MediaKind::Audio, MediaKind::Video);
    for sections in [&[audio, video][..], &[video, audio], &[audio, audio, video, audio]] {
        let (viewer, _watching, _events) = stage.answer(sections, [stage.video.clone()]).await;
        stage.play_to(&viewer, 5);
        assert!(viewer.seen().packets.iter().all(|packet| *packet.header.payload_type == VIDEO), "{sections:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_moves_to_another_address_is_served_there_and_who_goes_silent_is_let_go() {
    let mut stage = Stage::new();
    let (viewer, _watching, mut events) = stage.watch().await;
    stage.play_to(&viewer, 3);
    viewer.move_away();
    stage.play_to(&viewer, 3);
    viewer.lose_network();
    let lost = soon(events.recv()).await;
    let is_lost = matches!(lost, Some(MediaEvent::ConnectionEnded { error: MediaError::ConnectionLost, .. }));
    assert!(is_lost, "{lost:?}");
    assert_eq!((stage.video.viewers(), stage.audio.viewers()), (0, 0));
}

/// His answers to checks are gone with his network; he asks before anybody has noticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_restarts_ice_goes_on_with_the_same_session() {
    let mut stage = Stage::new();
    let (viewer, watching, mut events) = stage.watch().await;
    stage.play_to(&viewer, 3);
    viewer.lose_network();
    (0..5).for_each(|number| stage.play(number, false));
    viewer.find_network();
    watching.restart_ice(None);
    let Some(MediaEvent::Offered { sdp, tracks, .. }) = soon(events.recv()).await else { panic!("no offer") };
    assert_eq!(tracks.len(), 2);
    watching.answer(viewer.answer_again(&sdp));
    goes_on(&mut stage, &viewer, &mut events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_offered_restarts_ice_with_his_credentials() {
    let mut stage = Stage::new();
    let tracks = [stage.video.clone(), stage.audio.clone()];
    let (offering, sdp) = Offering::new(&[MediaKind::Video, MediaKind::Audio]);
    let (viewer, answer, watching, mut events) = stage.answer_to(offering, sdp, tracks).await;
    stage.play_to(&viewer, 3);
    viewer.lose_network();
    viewer.find_network();
    let (theirs, pending) = viewer.restart();
    watching.restart_ice(Some(IceCredentials { ufrag: theirs.ufrag, pwd: theirs.pass }));
    let restarted = soon(events.recv()).await;
    let Some(MediaEvent::Restarted { ours, candidates, .. }) = restarted else { panic!("{restarted:?}") };
    assert!(candidates[0].contains(&stage.address().port().to_string()), "{candidates:?}");
    let answer = answer.lines().map(|line| match line.split_once(':') {
        Some(("a=ice-ufrag", _)) => format!("a=ice-ufrag:{}\r\n", ours.ufrag),
        Some(("a=ice-pwd", _)) => format!("a=ice-pwd:{}\r\na={}\r\n", ours.pwd, candidates[0]),
        Some(("a=candidate", _)) => String::new(),
        _ => format!("{line}\r\n"),
    });
    viewer.take_restart(pending, &answer.collect::<String>());
    goes_on(&mut stage, &viewer, &mut events);
}

/// Pictures come on, in one numbering, on the same session, which is known under its new name alone.
fn goes_on(stage: &mut Stage, viewer: &Viewer, events: &mut mpsc::Receiver<MediaEvent>) {
    stage.play_to(viewer, 30);
    let seen = viewer.seen();
    let ssrcs: HashSet<_> = seen.packets.iter().map(|packet| *packet.header.ssrc).collect();
    assert_eq!(ssrcs.len(), 2, "a picture and a sound");
    assert!(!seen.closed);
    drop(seen);
    assert_eq!(stage.edge.known().0, 1);
    assert!(events.try_recv().is_err(), "he is as connected as before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_and_leaves_leave_nothing() {
    let joins = std::env::var("SALON_TEST_JOINS").map_or(100, |count| count.parse().expect("a number"));
    let mut stage = Stage::new();
    let (viewer, watching, _events) = stage.watch().await;
    stage.play_to(&viewer, 1);
    drop(viewer);
    soon(watching.close()).await.unwrap();
    let before = threads_and_descriptors();
    let mut settled = 0;
    for join in 0..joins {
        // The allocator has what it keeps by then.
        if join == joins / 2 {
            settled = resident_kib();
        }
        let (viewer, watching, _events) = stage.watch().await;
        soon(watching.close()).await.unwrap();
        viewer.until("the good-bye", |seen| seen.closed);
    }
    let after = threads_and_descriptors();
    assert!(after.0 <= before.0 && after.1 <= before.1, "{before:?} {after:?}");
    let (grown, most) = (resident_kib().saturating_sub(settled), 4_096 + 2 * joins);
    assert!(grown <= most, "{grown} KiB more than after half of them");
    assert_eq!((stage.video.viewers(), stage.edge.known()), (0, (0, 0)));
}
