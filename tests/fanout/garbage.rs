//! What anybody on the net may send, from any address and from a client's own: it ends no session and costs little.

use proptest::prelude::*;
use rand::{RngCore, SeedableRng, rngs::StdRng};
use rustix::time::{ClockId, clock_gettime};
use salon::media::{
    fanout::{Downstream, Publication},
    sender_clock::SenderReport,
};

use super::{demultiplex, *};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_ends_no_session() {
    let mut stage = Stage::new();
    let (viewer, _watching, _events) = stage.watch().await;
    stage.play_to(&viewer, 1);
    let (stranger, port) = (UdpSocket::bind("127.0.0.1:0").unwrap(), stage.address());
    let mut random = StdRng::seed_from_u64(7);
    for round in 0..400 {
        for junk in junk(&mut random) {
            stranger.send_to(&junk, port).unwrap();
            viewer.send_raw(&junk, port);
        }
        if round % 20 == 0 {
            stage.play_to(&viewer, 1);
        }
    }
    stage.play_to(&viewer, 20);
    assert_eq!(stage.edge.known(), (1, 1), "nobody else is known now");
    let (another, _watching, _events) = stage.watch().await;
    stage.play_to(&another, 1);
}

/// Before ICE is up, as after it, and with the user name of the session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_knows_a_session_by_name_only_does_not_get_into_it_or_end_it() {
    let mut stage = Stage::new();
    let (stranger, port) = (UdpSocket::bind("127.0.0.1:0").unwrap(), stage.address());
    let mut random = StdRng::seed_from_u64(8);
    let mut user = String::new();
    let (viewer, _watching, _events) = stage
        .watch_as(|sdp| {
            user = sdp.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).unwrap().to_owned();
            let (viewer, answer) = Viewer::answer(sdp);
            for _ in 0..20 {
                for junk in junk(&mut random).into_iter().chain([check(&user, &mut random)]) {
                    stranger.send_to(&junk, port).unwrap();
                    viewer.send_raw(&junk, port);
                }
            }
            (viewer, answer)
        })
        .await;
    for _ in 0..200 {
        let check = check(&user, &mut random);
        stranger.send_to(&check, port).unwrap();
        viewer.send_raw(&check, port);
    }
    stage.play_to(&viewer, 20);
    assert_eq!(stage.edge.known(), (1, 1), "he is not known");
}

#[derive(Debug, Default)]
struct Received(AtomicUsize);

impl Downstream for Received {
    fn packet(&self, _section: usize, _layer: usize, _arrived: Instant, _packet: &[u8]) {
        self.0.fetch_add(1, Relaxed);
    }

    fn report(&self, _section: usize, _layer: usize, _report: SenderReport) {}
}

/// Media and reports under keys that are not his, of sources that are his and others, into what he publishes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_under_wrong_keys_is_nobodys_and_a_flood_costs_little() {
    let stage = Stage::new();
    let (offering, sdp) = Offering::sending();
    let sections = negotiation::accept(&sdp, &[CodecName::Vp8]).unwrap();
    let received = Arc::<Received>::default();
    let downstream: Arc<dyn Downstream> = received.clone();
    let publication = Publication { offer: sdp, sections, downstream, alone: false };
    let (sender, mut events) = mpsc::channel(16);
    let _publishing = stage.edge.publish(connection(), publication, sender);
    let answered = soon(events.recv()).await;
    let Some(MediaEvent::Answered { sdp, .. }) = answered else { panic!("{answered:?}") };
    let client = offering.answered(&sdp);
    assert!(matches!(soon(events.recv()).await, Some(MediaEvent::Connected { .. })));

    let picture = |already: usize| {
        let deadline = Instant::now() + Duration::from_secs(40);
        client.send_picture();
        while received.0.load(Relaxed) == already {
            assert!(Instant::now() < deadline, "his own picture did not come");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    };
    picture(0);
    const FLOOD: u32 = 10_000;
    // What the kernel holds for a socket at least, so that nothing of it is lost.
    const AT_ONCE: u32 = 100;
    let mut random = StdRng::seed_from_u64(9);
    let before = cpu_time();
    for number in 0..FLOOD {
        let mut packet = vec![0; 200];
        random.fill_bytes(&mut packet);
        // RTP of few and of many sources; receiver reports, feedback, good-byes.
        let start: [u8; 2] = [[128, 96], [128, 96], [129, 201], [143, 205], [129, 203]][number as usize % 5];
        packet[..2].copy_from_slice(&start);
        if number % 2 == 0 {
            packet[8..12].copy_from_slice(&[0, 0, 0, 7]);
        }
        client.send_raw(&packet, stage.address());
        if number % AT_ONCE == AT_ONCE - 1 {
            // When this has come, all before it has.
            picture(received.0.load(Relaxed));
        }
    }
    let each = (cpu_time() - before) / FLOOD;
    assert!(!client.seen().closed && stage.edge.known() == (1, 1));
    assert!(events.try_recv().is_err(), "he is as connected as before");
    // Sending and the pictures included, in a debug build.
    assert!(each < Duration::from_micros(300), "a packet costs {each:?}");
}

/// What the process had of the processors: other programs do not make it more.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// A binding request in form for that user, whose integrity is wrong.
fn check(user: &str, random: &mut StdRng) -> Vec<u8> {
    let name = format!("{user}:efgh");
    let mut stun = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
    let mut bytes = [0; 32];
    random.fill_bytes(&mut bytes);
    stun.extend(&bytes[..12]);
    stun.extend([0, 6, 0, name.len() as u8]);
    stun.extend(name.as_bytes());
    stun.resize(stun.len().next_multiple_of(4), 0);
    stun.extend([0, 0x24, 0, 4, 0, 0, 0, 1]);
    stun.extend([0, 8, 0, 20]);
    stun.extend(&bytes[12..]);
    let length = (stun.len() - 20) as u16;
    stun[2..4].copy_from_slice(&length.to_be_bytes());
    stun
}

/// A check of nobody; a DTLS hello; RTP; reports; what follows a handshake; random bytes.
pub(super) fn junk(random: &mut StdRng) -> Vec<Vec<u8>> {
    let mut bytes = vec![0; 40 + random.next_u32() as usize % 1300];
    random.fill_bytes(&mut bytes);
    let with_start = |start: &[u8]| {
        let mut copy = bytes.clone();
        copy[..start.len()].copy_from_slice(start);
        copy
    };
    let hello = with_start(&[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 30, 1]);
    let stun = check("abcd", random);
    vec![stun, hello, with_start(&[128, 96]), with_start(&[129, 201, 0, 7]), with_start(&[23, 254, 253, 0, 1]), bytes]
}

/// Checks for a known and an unknown user, whole or not, changed in places, framed or not, and anything else.
fn wire() -> impl Strategy<Value = Vec<u8>> {
    let message = ("(ann|bob)", any::<u64>(), 0..120usize, any::<bool>()).prop_map(|(user, seed, cut, framed)| {
        let mut message = check(&user, &mut StdRng::seed_from_u64(seed));
        if seed % 3 == 0 {
            let place = (seed >> 8) as usize % message.len();
            message[place] ^= 1 << (seed % 8);
        }
        if seed % 2 == 0 {
            message.truncate(cut);
        }
        if framed { [&(message.len() as u16).to_be_bytes()[..], &message].concat() } else { message }
    });
    let part = prop_oneof![message, proptest::collection::vec(any::<u8>(), 0..100)];
    proptest::collection::vec(part, 1..6).prop_map(|parts| parts.concat())
}

proptest! {
    /// As the fuzz target does.
    #[test]
    fn the_demultiplexer_takes_anything(bytes in wire()) {
        demultiplex::feed(&bytes);
    }
}
