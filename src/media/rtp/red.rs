//! Redundant sound (RFC 2198, RED): each packet brings again what the ones before it brought, so that one that is
//! lost is not missed.

use std::{collections::VecDeque, sync::Arc};

use rtp_types::{RtpPacket, RtpPacketBuilder};
use str0m::rtp::{RedDecoder, RedEncoder, RedundantBlock};

use super::Window;

/// The number under which redundant Opus is offered: browsers' own, and the only one that str0m takes.
pub const RED_PAYLOAD: u8 = 63;
/// Packets that are brought again at most.
pub const MOST_AGAIN: usize = 2;
/// Bytes of a redundant payload at most: with all that is put around it, it fits into one packet on any line.
const LARGEST: usize = 1_150;
/// Bytes before each block that is brought again, and before the packet's own (RFC 2198 §3).
const BLOCK_HEADER: usize = 4;
const OWN_HEADER: usize = 1;
/// Sources that are told apart: a section has one, and another one now and then.
const MAX_SOURCES: usize = 4;

/// Takes a publisher's redundant packets apart.
#[derive(Debug)]
pub struct Unpacker {
    payload: u8,
    red: u8,
    /// By SSRC: what has come, in whichever way; latest last.
    seen: VecDeque<(u32, Window)>,
}

impl Unpacker {
    /// `payload` and `red`: the client's numbers for the codec, and for redundant packets of it.
    pub fn new(payload: u8, red: u8) -> Self {
        Self { payload, red, seen: VecDeque::new() }
    }

    /// If it is redundant: the packets that did not come before, earliest first, its own last. `None` for any other
    /// packet, which is to be passed on as it is. One that is broken gives none.
    pub fn take(&mut self, bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
        let packet = RtpPacket::parse(bytes).ok()?;
        let number = packet.payload_type();
        if number != self.red && number != self.payload {
            return None;
        }
        let payload = self.payload;
        let window = self.window(packet.ssrc(), packet.sequence_number());
        if number == payload {
            window.is_new(packet.sequence_number());
            return None;
        }
        let Ok(blocks) = RedDecoder::decode(packet.payload()) else { return Some(Vec::new()) };
        let mut packets = Vec::new();
        for (block, back) in blocks.iter().zip((0..blocks.len() as u16).rev()) {
            let sequence = packet.sequence_number().wrapping_sub(back);
            // Nothing is said of a pause (DTX), or of another codec's packet.
            let is_his = block.pt == payload && !block.payload.is_empty();
            if !is_his || (back > 0 && (block.timestamp_offset == 0 || !window.is_new(sequence))) {
                continue;
            }
            let mut builder = RtpPacketBuilder::new()
                .payload_type(payload)
                .ssrc(packet.ssrc())
                .sequence_number(sequence)
                .timestamp(packet.timestamp().wrapping_sub(block.timestamp_offset))
                .payload(block.payload);
            let extension = packet.extension().filter(|_| back == 0);
            if let Some((profile, data)) = extension {
                builder = builder.extension(profile, data);
            }
            if back == 0 {
                window.is_new(sequence);
                builder = builder.marker_bit(packet.marker_bit());
            }
            packets.extend(builder.write_vec().ok());
        }
        Some(packets)
    }

    fn window(&mut self, ssrc: u32, sequence: u16) -> &mut Window {
        match self.seen.iter().position(|(known, _)| *known == ssrc) {
            // The sender counts anew.
            Some(index) if self.seen[index].1.was_restarted(sequence) => self.seen[index].1 = Window::new(sequence),
            Some(_) => {}
            None => {
                if self.seen.len() >= MAX_SOURCES {
                    self.seen.pop_front();
                }
                self.seen.push_back((ssrc, Window::new(sequence)));
            }
        }
        let index = self.seen.iter().position(|(known, _)| *known == ssrc).expect("it was put there");
        &mut self.seen[index].1
    }
}

/// Makes a viewer's packets redundant.
#[derive(Debug, Default)]
pub struct Packer {
    /// Sequence number, timestamp and payload of what was sent last.
    sent: VecDeque<(u64, u32, Arc<[u8]>)>,
}

impl Packer {
    /// A payload of up to 1,150 bytes that brings up to `again` of the packets before it, the latest ones; `None` if
    /// there are none that fit. Numbers without wrap-around.
    pub fn pack(
        &mut self,
        number: u8,
        sequence: u64,
        timestamp: u32,
        payload: &Arc<[u8]>,
        again: usize,
    ) -> Option<Vec<u8>> {
        let mut size = OWN_HEADER + payload.len();
        let earlier = |back: u64| {
            let (_, before, payload) =
                self.sent.iter().find(|(known, ..)| known.checked_add(back) == Some(sequence))?;
            size += BLOCK_HEADER + payload.len();
            if size > LARGEST {
                return None;
            }
            let block = RedundantBlock {
                pt: number,
                timestamp_offset: timestamp.wrapping_sub(*before),
                payload: payload.to_vec(),
            };
            (block.timestamp_offset > 0 && block.fits()).then_some(block)
        };
        // Without a gap: receivers count them back from the packet.
        let mut blocks: Vec<RedundantBlock> = (1..=again.min(MOST_AGAIN) as u64).map_while(earlier).collect();
        blocks.reverse();
        (!blocks.is_empty()).then(|| RedEncoder::encode(number, payload, &blocks))
    }

    /// Notes what was sent.
    pub fn sent(&mut self, sequence: u64, timestamp: u32, payload: &Arc<[u8]>) {
        // A few more than are brought again: they may come out of order.
        if self.sent.len() > 2 * MOST_AGAIN {
            self.sent.pop_front();
        }
        self.sent.push_back((sequence, timestamp, payload.clone()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPUS: u8 = 111;

    fn packet(payload_type: u8, sequence: u16, payload: &[u8]) -> Vec<u8> {
        let timestamp = 960 * u32::from(sequence);
        let builder = RtpPacketBuilder::new().payload_type(payload_type).ssrc(7).sequence_number(sequence);
        builder.timestamp(timestamp).payload(payload).write_vec().unwrap()
    }

    /// Packets with those numbers, each with what the two before it brought.
    fn redundant(numbers: impl IntoIterator<Item = u16>) -> Vec<Vec<u8>> {
        let mut packer = Packer::default();
        let mut pack = |number: u16| {
            let payload: Arc<[u8]> = Arc::from([number as u8; 3]);
            let (sequence, timestamp) = (u64::from(number), 960 * u32::from(number));
            let packed = packer.pack(OPUS, sequence, timestamp, &payload, 2);
            packer.sent(sequence, timestamp, &payload);
            packed.map_or_else(|| packet(OPUS, number, &payload), |packed| packet(RED_PAYLOAD, number, &packed))
        };
        numbers.into_iter().map(&mut pack).collect()
    }

    fn numbers(packets: &[Vec<u8>]) -> Vec<u16> {
        let read = |bytes: &Vec<u8>| {
            let packet = RtpPacket::parse(bytes).unwrap();
            assert_eq!((packet.payload_type(), packet.ssrc()), (OPUS, 7));
            assert_eq!(packet.timestamp(), 960 * u32::from(packet.sequence_number()));
            assert_eq!(packet.payload(), [packet.sequence_number() as u8; 3]);
            packet.sequence_number()
        };
        packets.iter().map(read).collect()
    }

    #[test]
    fn what_was_lost_comes_with_the_next_ones_and_each_once() {
        let sent = redundant(10..20);
        let mut unpacker = Unpacker::new(OPUS, RED_PAYLOAD);
        let mut take = |index: usize| numbers(&unpacker.take(&sent[index]).unwrap());
        assert_eq!(take(1), [10, 11]);
        assert_eq!(take(3), [12, 13], "one was lost");
        assert_eq!(take(6), [14, 15, 16], "two were");
        assert_eq!(take(5), [15], "the packet itself is passed on even if it is late: others drop it");
        assert_eq!(take(9), [17, 18, 19]);
    }

    #[test]
    fn packets_that_are_not_redundant_pass_and_count() {
        let sent = redundant(10..13);
        let mut unpacker = Unpacker::new(OPUS, RED_PAYLOAD);
        for plain in [packet(OPUS, 10, &[1]), packet(OPUS, 11, &[1]), packet(96, 5, &[1]), vec![0x80, 3]] {
            assert_eq!(unpacker.take(&plain), None);
        }
        assert_eq!(numbers(&unpacker.take(&sent[2]).unwrap()), [12]);
        assert_eq!(unpacker.take(&packet(RED_PAYLOAD, 13, &[0xFF, 0, 0])), Some(Vec::new()), "cut off");
        // After a pause in which nothing was sent, a packet has nothing before it.
        assert_eq!(redundant([10, 15])[1], packet(OPUS, 15, &[15, 15, 15]));
    }

    #[test]
    fn no_more_is_brought_again_than_one_packet_holds() {
        let mut packer = Packer::default();
        let mut pack = |sequence: u64, bytes: usize| {
            let (timestamp, payload) = (960 * sequence as u32, Arc::from(vec![sequence as u8; bytes]));
            let packed = packer.pack(OPUS, sequence, timestamp, &payload, 2);
            packer.sent(sequence, timestamp, &payload);
            let lengths = |packed: Vec<u8>| -> Vec<usize> {
                assert!(packed.len() <= LARGEST);
                RedDecoder::decode(&packed).unwrap().iter().map(|block| block.payload.len()).collect()
            };
            packed.map(lengths)
        };
        assert_eq!(pack(1, 700), None, "it is the first");
        assert_eq!(pack(2, 700), None, "two are too much");
        assert_eq!(pack(3, 100), Some(vec![700, 100]), "the latest one fits");
        assert_eq!(pack(4, 100), Some(vec![700, 100, 100]));
        assert_eq!(pack(5, 1_041), Some(vec![100, 1_041]), "there is just room for one");
        assert_eq!(pack(6, 1_800), None);
        assert_eq!(pack(7, 100), None, "what comes before it is too large");
    }

    proptest! {
        #[test]
        fn whatever_comes_there_are_at_most_a_few_packets(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut unpacker = Unpacker::new(OPUS, RED_PAYLOAD);
            let any = packet(RED_PAYLOAD, 9, &bytes);
            for _ in 0..10 {
                prop_assert!(unpacker.take(&any).unwrap().len() <= 33);
                unpacker.take(&bytes);
            }
        }
    }
}
