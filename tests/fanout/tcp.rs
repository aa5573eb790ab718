//! Clients over TCP, slow ones, and connections that are no clients.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use rand::{SeedableRng, rngs::StdRng};
use salon::media::fanout::counters;

use super::{garbage::junk, *};

impl Stage {
    async fn watch_over_tcp(&self) -> (Viewer, Watching, mpsc::Receiver<MediaEvent>) {
        let to = self.address();
        self.watch_as(|sdp| {
            let line = format!("{} {} typ host tcptype passive", to.ip(), to.port());
            assert!(sdp.contains(&line), "{sdp}");
            Viewer::answer_over_tcp(to, sdp)
        })
        .await
    }

    /// What a browser sends at most in one packet.
    fn play_large(&mut self) {
        self.sequence = self.sequence.wrapping_add(1);
        forward(&self.video, VIDEO, self.sequence, &[7; 1_100], self.sequence.is_multiple_of(50));
    }
}

/// Who shows nothing is let go after 10 s anyway.
const AT_ONCE: Duration = Duration::from_secs(8);

/// The connection, which began then, is ended by the other side, and not for its age.
fn ends_at_once(mut stream: TcpStream, began: Instant) -> bool {
    stream.set_read_timeout(Some(AT_ONCE)).unwrap();
    // A reset is an end, too.
    let ended = !matches!(stream.read(&mut [0; 100]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
    ended && began.elapsed() < AT_ONCE
}

fn is_open(mut stream: TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    matches!(stream.read(&mut [0; 100]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_over_tcp_has_all_and_is_found_again_when_he_connects_anew() {
    for bind in ["127.0.0.1", "::1"] {
        if let Err(error) = TcpListener::bind((bind, 0)) {
            assert!(std::env::var_os("CI").is_none(), "CI may skip nothing: {bind}: {error}");
            println!("SKIPPED: {bind}: {error}");
            continue;
        }
        let mut stage = Stage::bound_to(bind);
        let (viewer, watching, _events) = stage.watch_over_tcp().await;
        stage.play(1, true);
        (2..60).for_each(|number| stage.play(number, false));
        viewer.until("all pictures and sounds", |seen| seen.packets.len() >= 2 * 59);
        let seen = pictures(&viewer);
        assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seen:?}");
        viewer.connect_again(stage.address());
        stage.play_to(&viewer, 10);
        assert_eq!(stage.edge.known(), (1, 1), "the connection that is no more is forgotten");
        soon(watching.close()).await.unwrap();
        viewer.until("the good-bye", |seen| seen.closed);
        assert_eq!(stage.edge.known(), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_slowly_loses_media_and_costs_nobody_else_any() {
    let mut stage = Stage::new();
    let (slow, _watching_slow, _events_slow) = stage.watch_over_tcp().await;
    let (other, _watching, _events) = stage.watch_over_tcp().await;
    stage.play_to(&slow, 1);
    slow.lose_network();
    let dropped = counters().packets_dropped;
    let deadline = Instant::now() + Duration::from_secs(40);
    while counters().packets_dropped < dropped + 500 {
        assert!(Instant::now() < deadline, "nothing was dropped");
        let seen = pictures(&other).len();
        (0..50).for_each(|_| stage.play_large());
        other.until("all that was sent", |seen_now| {
            seen_now.packets.iter().filter(|packet| *packet.header.payload_type == VIDEO).count() >= seen + 50
        });
    }
    let seen = pictures(&other);
    assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1), "he lost nothing");
    slow.hear_again();
    stage.play_to(&slow, 20);
    assert_eq!(stage.edge.known(), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_no_client_end_and_are_few() {
    let mut stage = Stage::new();
    let (viewer, _watching, _events) = stage.watch_over_tcp().await;
    let port = stage.address();
    let mut random = StdRng::seed_from_u64(9);
    for _ in 0..5 {
        for junk in junk(&mut random) {
            for sent in [frame(&junk), junk] {
                let began = Instant::now();
                let mut stranger = TcpStream::connect(port).unwrap();
                // It may end before all is written.
                let _ = stranger.write_all(&sent);
                // What looks like the beginning of a longer frame is waited for.
                let _ = stranger.write_all(&[255; 4_096]);
                assert!(ends_at_once(stranger, began));
            }
        }
        stage.play_to(&viewer, 1);
    }
    let began = Instant::now();
    let mut silent: Vec<TcpStream> = (0..80).map(|_| TcpStream::connect(port).unwrap()).collect();
    assert!(silent.drain(..16).all(|it| ends_at_once(it, began)), "the oldest give way");
    assert!(silent.into_iter().all(is_open), "and no others");
    stage.play_to(&viewer, 5);
    let (another, _watching, _events) = stage.watch_over_tcp().await;
    stage.play_to(&another, 1);
    assert_eq!(stage.edge.known(), (2, 2), "nobody else is known now");
}
