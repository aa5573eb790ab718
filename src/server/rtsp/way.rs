//! How packets go to a player: in the connection, or as datagrams.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::time::timeout;

use crate::ingest::rtsp::udp::Pair;

/// A keyframe leaves in one burst; the system's default holds a fraction of one.
const SEND_BUFFER: usize = 2 * 1024 * 1024;
/// A datagram that finds no room for so long is lost.
const SEND_LIMIT: Duration = Duration::from_millis(100);
/// Reports of a player that are looked at in one go.
const MOST_REPORTS: usize = 64;

/// One stream's way.
#[derive(Debug)]
pub(super) enum Way {
    /// In the connection, RTP and RTCP on these channels (RFC 2326 §10.12).
    Channels(u8, u8),
    /// To these two ports of the player's, wherever else he wants them sent.
    Udp { pair: Pair, rtp: SocketAddr, rtcp: SocketAddr },
}

impl Way {
    /// The first of the transports that a player offers which is served here; with what is answered.
    /// `None`: there is none, or no port is left.
    pub(super) async fn choose(
        offered: &str,
        peer: SocketAddr,
        local: IpAddr,
        stream: usize,
    ) -> Option<(Self, String)> {
        for transport in offered.split(',') {
            let parts: Vec<&str> = transport.split(';').map(str::trim).collect();
            let named = |name: &str| parts.iter().find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            if parts.iter().any(|part| part.eq_ignore_ascii_case("multicast")) {
                continue;
            }
            match parts.first().map(|kind| kind.to_ascii_uppercase()).as_deref() {
                Some("RTP/AVP/TCP") => {
                    let usual = u8::try_from(stream).unwrap_or(0) * 2;
                    let (rtp, rtcp) = named("interleaved").and_then(pair_of).unwrap_or((usual, usual + 1));
                    let answer = format!("RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp}");
                    return Some((Self::Channels(rtp, rtcp), answer));
                }
                Some("RTP/AVP" | "RTP/AVP/UDP") => {
                    let ports =
                        named("client_port").and_then(pair_of::<u16>).filter(|(rtp, rtcp)| *rtp > 0 && *rtcp > 0);
                    let Some((rtp, rtcp)) = ports else { continue };
                    let Ok(pair) = Pair::bind(local).await else { continue };
                    // Less is a pity, not a reason to fail.
                    let _ = socket2::SockRef::from(&*pair.rtp).set_send_buffer_size(SEND_BUFFER);
                    let Some((own_rtp, own_rtcp)) = pair.ports() else { continue };
                    let answer = format!("RTP/AVP;unicast;client_port={rtp}-{rtcp};server_port={own_rtp}-{own_rtcp}");
                    // With the scope of a link-local address.
                    let to = |port| {
                        let mut to = peer;
                        to.set_port(port);
                        to
                    };
                    return Some((Self::Udp { pair, rtp: to(rtp), rtcp: to(rtcp) }, answer));
                }
                _ => {}
            }
        }
        None
    }

    /// Sends a packet, or puts it behind what is to be written to the connection. A datagram that finds no room
    /// is lost, as datagrams may be.
    pub(super) async fn send(&self, is_rtcp: bool, bytes: &[u8], written: &mut Vec<u8>) {
        match self {
            Self::Channels(rtp, rtcp) => {
                let Ok(length) = u16::try_from(bytes.len()) else { return };
                written.extend([b'$', if is_rtcp { *rtcp } else { *rtp }]);
                written.extend(length.to_be_bytes());
                written.extend(bytes);
            }
            Self::Udp { pair, rtcp, .. } if is_rtcp => {
                let _ = timeout(SEND_LIMIT, pair.rtcp.send_to(bytes, *rtcp)).await;
            }
            Self::Udp { pair, rtp, .. } => {
                let _ = timeout(SEND_LIMIT, pair.rtp.send_to(bytes, *rtp)).await;
            }
        }
    }

    /// Whether reports of the player's came since the last time. They are not read: the room's picture is the same
    /// for everybody.
    pub(super) fn was_heard(&self) -> bool {
        let Self::Udp { pair, rtcp, .. } = self else { return false };
        let (mut heard, mut report) = (false, [0; 1500]);
        for _ in 0..MOST_REPORTS {
            let Ok((_, from)) = pair.rtcp.try_recv_from(&mut report) else { break };
            heard |= from.ip().to_canonical() == rtcp.ip().to_canonical();
        }
        heard
    }
}

/// `4-5`; a number alone stands for itself and the next.
fn pair_of<T: TryFrom<u16> + Copy>(text: &str) -> Option<(T, T)> {
    let (first, second) = text.split_once('-').unwrap_or((text, ""));
    let first: u16 = first.trim().parse().ok()?;
    let second: u16 = if second.is_empty() { first.checked_add(1)? } else { second.trim().parse().ok()? };
    Some((T::try_from(first).ok()?, T::try_from(second).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    async fn answer(offered: &str) -> Option<String> {
        Way::choose(offered, (HERE, 1).into(), HERE, 1).await.map(|(_, answer)| answer)
    }

    #[tokio::test]
    async fn the_first_transport_that_is_served_is_taken() {
        let udp = answer("RTP/AVP;multicast,RTP/AVP/UDP;unicast;client_port=5000-5001;mode=\"PLAY\",RTP/AVP/TCP").await;
        assert!(udp.unwrap().starts_with("RTP/AVP;unicast;client_port=5000-5001;server_port="));
        assert_eq!(answer("RTP/AVP/TCP;unicast;interleaved=4-5").await.unwrap(), "RTP/AVP/TCP;unicast;interleaved=4-5");
        assert_eq!(answer("rtp/avp/tcp").await.unwrap(), "RTP/AVP/TCP;unicast;interleaved=2-3");
        for none in [
            "",
            "RTP/AVP;multicast",
            "RTP/SAVP;client_port=1-2",
            "RTP/AVP;client_port=99999-3",
            "RTP/AVP;client_port=0-1",
            "RTP/AVP",
        ] {
            assert_eq!(answer(none).await, None, "{none}");
        }
        let (way, _) =
            Way::choose("RTP/AVP;client_port=7-8;destination=192.0.2.1", (HERE, 1).into(), HERE, 0).await.unwrap();
        let Way::Udp { rtp, .. } = way else { panic!("{way:?}") };
        assert_eq!(rtp, SocketAddr::new(HERE, 7), "nobody else is sent anything");
    }
}
