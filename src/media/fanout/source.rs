//! A published track as the edge reads it: each packet is taken apart once and handed to every media
//! thread that has viewers of it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use rtp_types::RtpPacket;
use str0m::rtp::Vp8Descriptor;

use super::{
    counters,
    gate::{Gate, Passage},
    inbox::{Inbox, Item},
    meter::Meter,
    numbering::extended,
};
use crate::media::{AudioLevel, CodecName, Kind, LayerChoice, rtp};

/// Bytes of a packet's payload and its [`rtp::Dependencies`]: with header, other extensions and authentication, and the
/// number that a packet which is sent again begins with, it must fit into the 2,000 that str0m has for it.
const LARGEST_PAYLOAD: usize = 1_800;

/// Tells sources apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SourceKey(u64);

/// A packet on its way to viewers; one for all of them.
#[derive(Debug)]
pub(super) struct Packet {
    /// The track's sequence number, without wrap-around.
    pub(super) sequence: u64,
    /// RTP timestamp.
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    /// Numbers of the picture and of its base layer, where its codec has them.
    pub(super) picture: Option<Picture>,
    /// What a picture of AV1 is made from, if its publisher says it.
    pub(super) dependencies: Option<Arc<rtp::Dependencies>>,
    pub(super) level: Option<AudioLevel>,
    /// A decoder can begin here.
    pub(super) starts_keyframe: bool,
    /// Pictures that are kept do without it.
    pub(super) is_disposable: bool,
    /// When it was captured, or, if that is not known, when it came.
    pub(super) captured: Instant,
    pub(super) payload: Arc<[u8]>,
}

/// What VP8, VP9 and AV1 number their pictures by, beside the packets' own numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picture {
    pub(super) descriptor: Descriptor,
    pub(super) number: u16,
    pub(super) base: u8,
}

/// Where the numbers stand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Descriptor {
    /// The session writes others as it sends.
    Vp8(Vp8Descriptor),
    /// They are written into a copy.
    Vp9(rtp::Descriptor),
    /// In a header extension.
    Av1,
}

impl Picture {
    fn read(codec: CodecName, payload: &[u8], dependencies: Option<&rtp::Dependencies>) -> Option<Self> {
        match codec {
            CodecName::Vp8 => {
                let read = Vp8Descriptor::parse(payload).ok()?;
                let base = read.tl0_pic_idx().unwrap_or_default();
                Some(Self { descriptor: Descriptor::Vp8(read), number: read.picture_id()?, base })
            }
            CodecName::Vp9 => {
                let read = rtp::descriptor(codec, payload)?;
                let (_, number, _) = read.picture?;
                let base = read.base.map_or(0, |(_, base)| base);
                Some(Self { descriptor: Descriptor::Vp9(read), number, base })
            }
            CodecName::Av1 => Some(Self { descriptor: Descriptor::Av1, number: dependencies?.frame(), base: 0 }),
            _ => None,
        }
    }
}

/// Where a source's packets come from, and what the edge tells it. Called on media threads: must not wait.
pub trait Upstream: std::fmt::Debug + Send + Sync {
    /// A viewer needs a keyframe. May be called often; whoever publishes merges.
    fn request_keyframe(&self);

    /// A viewer comes. `begin` is to be called once, while no packet is given out, with what he is to have
    /// before the next one.
    fn viewer_came(&self, begin: &mut dyn FnMut(&[Earlier]));

    /// A viewer has gone.
    fn viewer_went(&self);
}

/// A packet that was given out before a viewer came.
#[derive(Clone, Debug)]
pub struct Earlier {
    /// The whole RTP packet.
    pub packet: Vec<u8>,
    /// When it was captured, as far as the viewer is to know.
    pub captured: Instant,
    /// A decoder can begin here.
    pub starts_keyframe: bool,
}

/// A published track. Its publisher calls [`forward`](Self::forward); viewers come and go.
#[derive(Debug)]
pub struct Source {
    pub(super) key: SourceKey,
    /// Its codec.
    pub codec: CodecName,
    /// The codec's parameters, as the publisher gave them.
    pub fmtp: Option<String>,
    upstream: Box<dyn Upstream>,
    newest: AtomicU64,
    /// How much of it comes, while somebody watches.
    meter: Meter,
    /// Some of its pictures can be left out.
    thins: AtomicBool,
    /// Of AV1: the templates of pictures that can be, as the last keyframe said.
    disposable: AtomicU64,
    /// If its publisher sends layers: for each, what those have who are to have no more than that.
    ladder: Vec<Rung>,
    outlets: ArcSwap<Vec<Outlet>>,
    /// Taken to change `outlets`, never to read it.
    change: Mutex<()>,
}

/// A layer of a track.
#[derive(Debug)]
struct Rung {
    rid: String,
    source: Arc<Source>,
    /// Of its pictures; 0 before the first.
    height: AtomicU32,
    /// All that comes of it, whether somebody has it or not.
    meter: Meter,
}

/// What a viewer may have of a track, smallest first.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) source: Arc<Source>,
    pub(super) kbps: u32,
}

/// A media thread that has viewers of the track.
#[derive(Clone, Debug)]
struct Outlet {
    inbox: Arc<Inbox>,
    viewers: usize,
    /// Shut when the thread had no room. Only the publisher's thread takes the lock.
    gate: Arc<Mutex<Gate>>,
}

impl Outlet {
    /// True if a keyframe should be asked for.
    fn push(&self, source: SourceKey, packet: &Arc<Packet>) -> bool {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let rejoins = match gate.pass(packet.starts_keyframe, Instant::now()) {
            Passage::Pass => false,
            Passage::First => true,
            Passage::Skip => return false,
            Passage::Ask => return true,
        };
        if self.inbox.push(Item::Packet(source, packet.clone(), rejoins)) {
            return false;
        }
        counters::dropped(1);
        gate.shut(Instant::now());
        true
    }
}

impl Source {
    /// A track nobody watches yet.
    pub fn new(codec: CodecName, fmtp: Option<&str>, upstream: Box<dyn Upstream>) -> Arc<Self> {
        Self::layered(codec, fmtp, upstream, Vec::new())
    }

    /// The same, of which there are `layers`: rids, and for each what those have who are to have no more than that.
    /// Whoever feeds them says what comes: [`heard`](Self::heard).
    pub fn layered(
        codec: CodecName,
        fmtp: Option<&str>,
        upstream: Box<dyn Upstream>,
        layers: Vec<(String, Arc<Self>)>,
    ) -> Arc<Self> {
        let rung = |(rid, source)| Rung { rid, source, height: AtomicU32::new(0), meter: Meter::new() };
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            key: SourceKey(NEXT.fetch_add(1, Relaxed)),
            codec,
            fmtp: fmtp.map(str::to_owned),
            upstream,
            newest: AtomicU64::new(1 << 16),
            meter: Meter::new(),
            thins: AtomicBool::new(false),
            disposable: AtomicU64::new(0),
            ladder: layers.into_iter().map(rung).collect(),
            outlets: ArcSwap::default(),
            change: Mutex::default(),
        })
    }

    /// Audio or video.
    pub fn kind(&self) -> Kind {
        self.codec.kind()
    }

    /// How many viewers read it.
    pub fn viewers(&self) -> usize {
        self.outlets.load().iter().map(|outlet| outlet.viewers).sum()
    }

    /// Somebody watches.
    pub fn is_watched(&self) -> bool {
        !self.outlets.load().is_empty()
    }

    /// Gives an RTP packet in Salon's numbers ([`rtp::Ingress`]) to all viewers. Called on the publisher's
    /// thread; never waits. `captured`: when, or the time of arrival; never in the future.
    pub fn forward(&self, packet: &[u8], captured: Instant, starts_keyframe: bool) {
        let outlets = self.outlets.load();
        if outlets.is_empty() {
            return;
        }
        let Some(packet) = self.take_apart(packet, captured, starts_keyframe) else { return };
        self.meter.count(packet.payload.len(), Instant::now());
        if packet.is_disposable {
            self.thins.store(true, Relaxed);
        }
        for outlet in outlets.iter() {
            if outlet.push(self.key, &packet) {
                self.request_keyframe();
            }
        }
    }

    /// A packet of that layer came, of so many bytes; if it says so, of a picture that is so high.
    pub fn heard(&self, layer: usize, bytes: usize, height: Option<u32>, now: Instant) {
        let Some(rung) = self.ladder.get(layer) else { return };
        rung.meter.count(bytes, now);
        if let Some(height) = height {
            rung.height.store(height, Relaxed);
        }
    }

    /// What a viewer may have who wants that: the layers that come, up to the one that he wants. Without layers, the
    /// track.
    pub(super) fn steps(self: &Arc<Self>, choice: &LayerChoice, now: Instant) -> Vec<Step> {
        let mut rungs: Vec<_> = self.ladder.iter().map(|rung| (rung, rung.height.load(Relaxed))).collect();
        let is_named = |rung: &Rung| matches!(choice, LayerChoice::Named(rid) if rung.rid == *rid);
        if rungs.iter().any(|(_, height)| *height > 0) {
            // Of which no picture came yet: nobody knows where it belongs.
            rungs.retain(|(rung, height)| *height > 0 || is_named(rung));
        }
        rungs.sort_by_key(|(_, height)| *height);
        let wanted = match choice {
            LayerChoice::Largest => None,
            LayerChoice::Named(_) => rungs.iter().position(|(rung, _)| is_named(rung)),
            // A little larger than it is hurts less than twice the rate.
            LayerChoice::Height(height) => {
                let fits = |known: u32| known > 0 && u64::from(known) * 10 >= u64::from(*height) * 9;
                rungs.iter().position(|(rung, known)| fits(*known) && rung.meter.kbps(now) > 0)
            }
        };
        let below = rungs.iter().take(wanted.map_or(rungs.len(), |wanted| wanted + 1));
        let below = below.map(|(rung, _)| Step { source: rung.source.clone(), kbps: rung.meter.kbps(now) });
        let mut steps: Vec<Step> = below.filter(|step| step.kbps > 0).collect();
        match (wanted, steps.last_mut()) {
            // The largest that comes is what everybody has who asks for none.
            (None, Some(last)) => last.source = self.clone(),
            (None, None) => steps.push(Step { source: self.clone(), kbps: self.meter.kbps(now) }),
            (Some(_), Some(_)) => {}
            (Some(wanted), None) => {
                let source = rungs.get(wanted).map_or(self, |(rung, _)| &rung.source);
                steps.push(Step { source: source.clone(), kbps: 1 });
            }
        }
        steps
    }

    /// There is more than one of it.
    pub(super) fn has_layers(&self) -> bool {
        self.ladder.len() > 1
    }

    /// Some of its pictures can be left out.
    pub(super) fn thins(&self) -> bool {
        self.thins.load(Relaxed)
    }

    /// How much of it comes, in kbit/s.
    pub(super) fn kbps(&self, now: Instant) -> u32 {
        self.meter.kbps(now)
    }

    fn take_apart(&self, bytes: &[u8], captured: Instant, starts_keyframe: bool) -> Option<Arc<Packet>> {
        let packet = RtpPacket::parse(bytes).ok()?;
        let dependencies = if self.codec == CodecName::Av1 { rtp::dependencies(&packet) } else { None };
        let length = packet.payload().len() + dependencies.as_ref().map_or(0, |it| it.bytes().len());
        if length > LARGEST_PAYLOAD {
            counters::dropped(1);
            return None;
        }
        let newest = self.newest.load(Relaxed);
        let sequence = extended(newest, packet.sequence_number());
        self.newest.store(newest.max(sequence), Relaxed);
        Some(Arc::new(Packet {
            sequence,
            timestamp: packet.timestamp(),
            marker: packet.marker_bit(),
            picture: Picture::read(self.codec, packet.payload(), dependencies.as_ref()),
            level: rtp::level(&packet),
            starts_keyframe,
            is_disposable: match &dependencies {
                Some(dependencies) => self.does_without(dependencies),
                None => rtp::is_disposable(self.codec, packet.payload()),
            },
            dependencies: dependencies.map(Arc::new),
            captured,
            payload: packet.payload().into(),
        }))
    }

    /// A picture of AV1 is of a higher temporal layer: others do without it.
    fn does_without(&self, dependencies: &rtp::Dependencies) -> bool {
        if let Some(higher) = dependencies.higher_templates() {
            self.disposable.store(higher, Relaxed);
        }
        dependencies.is_of(self.disposable.load(Relaxed))
    }

    /// A viewer needs a keyframe. Sound has none to ask for.
    pub(super) fn request_keyframe(&self) {
        if self.kind() == Kind::Video {
            self.upstream.request_keyframe();
        }
    }

    /// A viewer of the thread behind `inbox` begins to read; gives what he is to have first. Some of it may
    /// be in the inbox already.
    pub(super) fn attach(&self, inbox: &Arc<Inbox>) -> Vec<Arc<Packet>> {
        let mut first = Vec::new();
        self.upstream.viewer_came(&mut |earlier| {
            let packets = earlier.iter();
            first = packets.filter_map(|it| self.take_apart(&it.packet, it.captured, it.starts_keyframe)).collect();
            self.add_viewer(inbox);
        });
        if first.is_empty() {
            self.request_keyframe();
        }
        first
    }

    fn add_viewer(&self, inbox: &Arc<Inbox>) {
        self.change_outlets(|outlets| {
            match outlets.iter_mut().find(|outlet| Arc::ptr_eq(&outlet.inbox, inbox)) {
                Some(outlet) => outlet.viewers += 1,
                None => {
                    // Open: nothing was lost yet, and each viewer waits for a keyframe of his own.
                    let gate = Arc::new(Mutex::new(Gate::open(self.kind())));
                    outlets.push(Outlet { inbox: inbox.clone(), viewers: 1, gate });
                }
            }
        });
    }

    /// A viewer of that thread reads no more.
    pub(super) fn detach(&self, inbox: &Arc<Inbox>) {
        self.change_outlets(|outlets| {
            for outlet in outlets.iter_mut().filter(|outlet| Arc::ptr_eq(&outlet.inbox, inbox)) {
                outlet.viewers = outlet.viewers.saturating_sub(1);
            }
            outlets.retain(|outlet| outlet.viewers > 0);
        });
        self.upstream.viewer_went();
    }

    /// The list is copied, not locked: the publisher's thread reads it for every packet.
    fn change_outlets(&self, change: impl FnOnce(&mut Vec<Outlet>)) {
        let _one_at_a_time = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut outlets = Vec::clone(&self.outlets.load());
        change(&mut outlets);
        self.outlets.store(Arc::new(outlets));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rtp_types::RtpPacketBuilder;

    use super::*;

    /// How often a keyframe was asked for, how many viewers there are, and what they get first.
    #[derive(Clone, Debug, Default)]
    struct Publisher(Arc<(AtomicU64, AtomicU64, Mutex<Vec<Earlier>>)>);

    impl Publisher {
        fn source(&self) -> Arc<Source> {
            Source::new(CodecName::Vp8, None, Box::new(self.clone()))
        }

        /// Since the last time.
        fn was_asked(&self) -> bool {
            self.0.0.swap(0, Relaxed) > 0
        }
    }

    impl Upstream for Publisher {
        fn request_keyframe(&self) {
            self.0.0.fetch_add(1, Relaxed);
        }

        fn viewer_came(&self, begin: &mut dyn FnMut(&[Earlier])) {
            self.0.1.fetch_add(1, Relaxed);
            begin(&self.0.2.lock().unwrap());
        }

        fn viewer_went(&self) {
            self.0.1.fetch_sub(1, Relaxed);
        }
    }

    fn packet(sequence: u16) -> Vec<u8> {
        RtpPacketBuilder::new()
            .payload_type(96)
            .sequence_number(sequence)
            .timestamp(9)
            .marker_bit(true)
            .payload(&b"picture"[..])
            .write_vec()
            .unwrap()
    }

    fn taken(inbox: &Inbox) -> Vec<(u64, bool)> {
        let mut items = Vec::new();
        inbox.take(&mut items, Instant::now());
        let numbers = items.into_iter().map(|item| match item {
            Item::Packet(_, packet, rejoins) => (packet.sequence & 0xFFFF, rejoins),
            other => panic!("{other:?}"),
        });
        numbers.collect()
    }

    #[test]
    fn each_thread_with_viewers_gets_a_packet_once() {
        let publisher = Publisher::default();
        let source = publisher.source();
        let inboxes = [Arc::new(Inbox::default()), Arc::new(Inbox::default())];
        source.forward(&packet(1), Instant::now(), true);
        assert!(!publisher.was_asked(), "nobody is there");
        for inbox in [&inboxes[0], &inboxes[1], &inboxes[1]] {
            assert!(source.attach(inbox).is_empty());
        }
        assert!(publisher.was_asked());
        assert_eq!((source.viewers(), publisher.0.1.load(Relaxed)), (3, 3));
        source.forward(&packet(2), Instant::now(), false);
        source.forward(b"junk", Instant::now(), false);
        source.detach(&inboxes[0]);
        source.detach(&inboxes[1]);
        assert_eq!((source.viewers(), publisher.0.1.load(Relaxed)), (1, 1));
        source.forward(&packet(3), Instant::now(), false);
        assert_eq!(taken(&inboxes[0]), [(2, false)]);
        assert_eq!(taken(&inboxes[1]), [(2, false), (3, false)]);
    }

    #[test]
    fn a_thread_that_is_behind_gets_pictures_again_from_the_next_keyframe() {
        let publisher = Publisher::default();
        let source = publisher.source();
        let inbox = Arc::new(Inbox::default());
        source.attach(&inbox);
        assert!(publisher.was_asked());
        let later = Instant::now() + Duration::from_millis(1);
        let mut sequence = 0;
        while !publisher.was_asked() {
            source.forward(&packet(sequence), later, false);
            sequence += 1;
        }
        assert_eq!(taken(&inbox).len(), usize::from(sequence) - 1, "the last one found no room");
        source.forward(&packet(sequence), later, false);
        source.forward(&packet(sequence + 1), later, true);
        source.forward(&packet(sequence + 2), later, false);
        assert_eq!(taken(&inbox), [(u64::from(sequence) + 1, true), (u64::from(sequence) + 2, false)]);
    }

    #[test]
    fn a_viewer_may_have_what_comes_up_to_what_he_wants() {
        let publisher = Publisher::default();
        let layers: Vec<_> = ["l", "m", "h"].map(|rid| (rid.to_owned(), publisher.source())).into();
        let sources: Vec<_> = layers.iter().map(|(_, source)| source.clone()).collect();
        let track = Source::layered(CodecName::Vp8, None, Box::new(publisher.clone()), layers);
        let now = Instant::now();
        let steps = |choice: &LayerChoice, now| {
            let steps = track.steps(choice, now).into_iter();
            let name = |step: Step| sources.iter().position(|known| known.key == step.source.key);
            steps.map(name).collect::<Vec<_>>()
        };
        assert_eq!(steps(&LayerChoice::Height(90), now), [None], "nothing came yet: whatever comes");
        let later = now + Duration::from_millis(600);
        for (layer, height) in [(0, 180), (1, 360), (2, 720)] {
            track.heard(layer, 9_000, Some(height), later);
        }
        assert_eq!(steps(&LayerChoice::Largest, later), [Some(0), Some(1), None]);
        assert_eq!(steps(&LayerChoice::Height(190), later), [Some(0)], "a little less is enough");
        assert_eq!(steps(&LayerChoice::Height(300), later), [Some(0), Some(1)]);
        assert_eq!(steps(&LayerChoice::Height(700), later), [Some(0), Some(1), Some(2)]);
        assert_eq!(steps(&LayerChoice::Height(2_000), later), [Some(0), Some(1), None]);
        assert_eq!(steps(&LayerChoice::Named("m".into()), later), [Some(0), Some(1)]);
        // The largest rests.
        let much_later = later + Duration::from_secs(3);
        (0..2).for_each(|layer| track.heard(layer, 9_000, None, much_later));
        assert_eq!(steps(&LayerChoice::Height(720), much_later), [Some(0), None]);
        assert_eq!(steps(&LayerChoice::Named("h".into()), much_later), [Some(0), Some(1)]);
        assert_eq!(steps(&LayerChoice::Named("m".into()), much_later + Duration::from_secs(9)), [Some(1)]);
    }

    #[test]
    fn who_comes_gets_what_a_camera_gave_before() {
        let publisher = Publisher::default();
        let (source, inbox) = (publisher.source(), Arc::new(Inbox::default()));
        let earlier =
            |sequence, starts_keyframe| Earlier { packet: packet(sequence), captured: Instant::now(), starts_keyframe };
        *publisher.0.2.lock().unwrap() = vec![earlier(65_534, true), earlier(65_535, false)];
        let first: Vec<_> = source.attach(&inbox).iter().map(|it| (it.sequence & 0xFFFF, it.starts_keyframe)).collect();
        assert_eq!(first, [(65_534, true), (65_535, false)]);
        assert!(!publisher.was_asked(), "he has one");
        source.forward(&packet(0), Instant::now(), false);
        assert_eq!(taken(&inbox), [(0, false)], "and they go on in one numbering");
    }
}
