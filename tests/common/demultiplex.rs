//! Bytes of anybody to the fan-out edge's demultiplexer; for the fuzz target as for the ordinary tests.

use salon::media::fanout::{Demux, Frames, PeerKey, Remote};

const ANN: PeerKey = PeerKey { worker: 0, id: 1 };
const BOB: PeerKey = PeerKey { worker: 1, id: 2 };

/// The bytes are taken as a datagram, as a TCP connection that comes at once, and as one that comes in parts.
///
/// # Panics
/// If something goes to somebody whom it is not for, or the frames depend on how they came.
pub fn feed(bytes: &[u8]) {
    let (known, stranger) = (Remote::udp(([192, 0, 2, 1], 1).into()), ([192, 0, 2, 2], 2).into());
    let demux = Demux::default();
    demux.add_user("ann".into(), ANN);
    demux.add_address(known, BOB);
    check(&demux, Remote::udp(stranger), bytes);
    let of_bob = demux.route(known, bytes);
    assert!(of_bob != Some(ANN) || names_ann(bytes), "{of_bob:?}");

    let at_once = frames([bytes]);
    let parts = bytes.chunks(1 + bytes.first().map_or(0, |first| usize::from(*first)));
    assert_eq!(at_once, frames(parts));
    for frame in &at_once.0 {
        check(&demux, Remote::tcp(stranger), frame);
    }
}

/// From where nobody is known nothing has an effect but a check that names somebody.
fn check(demux: &Demux, source: Remote, datagram: &[u8]) {
    let to = demux.route(source, datagram);
    assert!(to.is_none() || (to == Some(ANN) && names_ann(datagram)), "{to:?}");
}

fn names_ann(datagram: &[u8]) -> bool {
    datagram.starts_with(&[0, 1]) && datagram.windows(4).any(|part| part == b"ann:")
}

/// All of them, and whether what came are frames to the end.
fn frames<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, bool) {
    let (mut frames, mut read) = (Frames::default(), Vec::new());
    for part in parts {
        frames.push(part);
        loop {
            match frames.next() {
                Ok(Some(frame)) => read.push(frame.to_vec()),
                Ok(None) => break,
                Err(_) => return (read, false),
            }
        }
    }
    (read, true)
}
