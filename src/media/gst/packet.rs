//! The numbers of RTP packets in GStreamer's buffers.

use std::time::Duration;

use super::feed::Packet;
use crate::media::rtp::{Lane, Splice};

/// The packet under the numbers it goes out with, if it does.
pub(super) fn spliced(splice: &mut Splice, lane: Lane, mut packet: Packet) -> Option<Packet> {
    let (sequence, timestamp) = numbers(&packet.buffer)?;
    let captured = packet.buffer.pts().map_or(Duration::ZERO, Into::into);
    let shown = splice.pass(lane, (sequence, timestamp), packet.starts_keyframe, captured)?;
    if shown != (sequence, timestamp) {
        packet.buffer = renumbered(&packet.buffer, shown)?;
    }
    Some(packet)
}

/// Sequence number and timestamp of an RTP packet.
pub(super) fn numbers(buffer: &gst::BufferRef) -> Option<(u16, u32)> {
    let bytes = buffer.map_readable().ok()?;
    let sequence = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    Some((sequence, u32::from_be_bytes(*bytes.get(4..)?.first_chunk()?)))
}

/// A copy with other numbers.
fn renumbered(buffer: &gst::Buffer, (sequence, timestamp): (u16, u32)) -> Option<gst::Buffer> {
    let mut copy = buffer.copy_deep().ok()?;
    {
        let mut bytes = copy.make_mut().map_writable().ok()?;
        bytes.get_mut(2..4)?.copy_from_slice(&sequence.to_be_bytes());
        bytes.get_mut(4..8)?.copy_from_slice(&timestamp.to_be_bytes());
    }
    Some(copy)
}
