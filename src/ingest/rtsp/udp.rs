//! A pair of UDP sockets for one stream: RTP on an even port, RTCP on the next.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use tokio::{net::UdpSocket, sync::mpsc};

use super::{RtspError, camera::Received};

/// Pairs that are tried before giving up.
const ATTEMPTS: usize = 50;
/// Bytes of a datagram.
const MAX_DATAGRAM: usize = 65_536;
/// A keyframe comes in one burst; the system's default holds a fraction of one.
const RECEIVE_BUFFER: usize = 2 * 1024 * 1024;

/// The two sockets.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) rtp: Arc<UdpSocket>,
    pub(crate) rtcp: Arc<UdpSocket>,
}

impl Pair {
    /// Two neighbouring free ports of `local`.
    pub(crate) async fn bind(local: IpAddr) -> Result<Self, RtspError> {
        for _ in 0..ATTEMPTS {
            let Ok(first) = UdpSocket::bind((local, 0)).await else { break };
            let Ok(port) = first.local_addr().map(|address| address.port()) else { break };
            if !port.is_multiple_of(2) || port == u16::MAX {
                continue;
            }
            if let Ok(second) = UdpSocket::bind((local, port + 1)).await {
                // Less is a pity, not a reason to fail.
                let _ = socket2::SockRef::from(&first).set_recv_buffer_size(RECEIVE_BUFFER);
                return Ok(Self { rtp: Arc::new(first), rtcp: Arc::new(second) });
            }
        }
        Err(RtspError::Protocol("no pair of free UDP ports".into()))
    }

    pub(crate) fn ports(&self) -> Option<(u16, u16)> {
        Some((self.rtp.local_addr().ok()?.port(), self.rtcp.local_addr().ok()?.port()))
    }

    /// Opens the way for `camera` through whatever firewall is between. Its address is the one that was
    /// checked, whatever the camera says of another.
    pub(super) async fn punch(&self, camera: IpAddr, ports: (u16, u16)) {
        // An empty RTP packet and an empty receiver report.
        let rtp = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let rtcp = [0x80, 201, 0, 1, 0, 0, 0, 0];
        for _ in 0..2 {
            let _ = self.rtp.send_to(&rtp, SocketAddr::new(camera, ports.0)).await;
            let _ = self.rtcp.send_to(&rtcp, SocketAddr::new(camera, ports.1)).await;
        }
    }
}

/// Passes on what comes from `camera` until the receiver is gone. What finds no room is dropped.
pub(super) async fn receive(
    socket: Arc<UdpSocket>,
    camera: IpAddr,
    stream: usize,
    rtcp: bool,
    to: mpsc::Sender<Received>,
) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) if from.ip().to_canonical() == camera.to_canonical() => {
                let packet = Received::Packet { stream, rtcp, bytes: Bytes::copy_from_slice(&buffer[..length]) };
                if matches!(to.try_send(packet), Err(mpsc::error::TrySendError::Closed(_))) {
                    return;
                }
            }
            Ok(_) => {}
            // A port that the camera has closed is told as an error of the next receive.
            Err(_) if to.is_closed() => return,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}
