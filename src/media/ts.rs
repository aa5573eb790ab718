//! MPEG-TS as bytes (ISO 13818-1): what a player needs that comes in the middle.

use std::time::Duration;

use bytes::Bytes;

/// Bytes of a packet.
const PACKET: usize = 188;
/// What a packet begins with.
const SYNC: u8 = 0x47;

/// A piece of a transport stream: whole packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TsChunk {
    /// The packets.
    pub bytes: Bytes,
    /// A player can begin here, once it knows the tables.
    pub starts_keyframe: bool,
    /// When it belongs there, of the stream.
    pub time: Duration,
}

/// The newest program association and program map of a stream (§2.4.4), each in one packet.
#[derive(Debug, Default)]
pub struct Tables {
    association: Option<[u8; PACKET]>,
    map: Option<[u8; PACKET]>,
}

impl Tables {
    /// Looks for tables in what goes by.
    pub fn note(&mut self, bytes: &[u8]) {
        for packet in bytes.chunks_exact(PACKET).filter(|packet| packet[0] == SYNC) {
            // Tables of more than one packet would be of many programs.
            let begins = packet[1] & 0x40 != 0;
            let pid = pid(packet);
            let Ok(whole) = <[u8; PACKET]>::try_from(packet) else { continue };
            if begins && pid == 0 {
                self.association = Some(whole);
            } else if begins && Some(pid) == self.map_pid() {
                self.map = Some(whole);
            }
        }
    }

    /// What a player that comes in the middle is given first; empty before there are any.
    pub fn header(&self) -> Bytes {
        let tables = self.association.iter().chain(&self.map);
        tables.flatten().copied().collect::<Vec<u8>>().into()
    }

    /// Cuts what goes by in front of every keyframe: pieces, and whether each begins with one. Whole
    /// packets only.
    pub fn cut(&mut self, bytes: &Bytes) -> Vec<(Bytes, bool)> {
        self.note(bytes);
        let video = self.video_pid();
        let begins = |packet: &[u8]| packet[0] == SYNC && Some(pid(packet)) == video && is_random_access(packet);
        let mut places: Vec<(usize, bool)> = bytes
            .chunks_exact(PACKET)
            .enumerate()
            .filter(|(_, it)| begins(it))
            .map(|(at, _)| (at * PACKET, true))
            .collect();
        if places.first().is_none_or(|(at, _)| *at > 0) {
            places.insert(0, (0, false));
        }
        let ends = places.iter().skip(1).map(|(at, _)| *at).chain([bytes.len()]);
        places.iter().zip(ends).map(|((from, key), to)| (bytes.slice(*from..to), *key)).collect()
    }

    /// Where the map is, as the association has it.
    fn map_pid(&self) -> Option<u16> {
        let section = section(self.association.as_ref()?)?;
        // Eight bytes of a header, then programs of four: number and place.
        let program = section.get(8..12)?;
        Some(u16::from_be_bytes([program[2] & 0x1F, program[3]]))
    }

    /// Where H.264 is, as the map has it.
    fn video_pid(&self) -> Option<u16> {
        const H264: u8 = 0x1B;
        let section = section(self.map.as_ref()?)?;
        let length = |bytes: &[u8]| usize::from(u16::from_be_bytes([bytes[0] & 0x0F, bytes[1]]));
        let mut streams = section.get(12 + length(section.get(10..12)?)..)?;
        while let Some(&[kind, high, low, more, less]) = streams.first_chunk() {
            if kind == H264 {
                return Some(u16::from_be_bytes([high & 0x1F, low]));
            }
            streams = streams.get(5 + length(&[more, less])..)?;
        }
        None
    }
}

fn pid(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[1] & 0x1F, packet[2]])
}

/// A decoder can begin with this packet (§2.4.3.5).
fn is_random_access(packet: &[u8]) -> bool {
    let has_adaptation = packet[3] & 0x20 != 0 && packet[4] > 0;
    packet[1] & 0x40 != 0 && has_adaptation && packet[5] & 0x40 != 0
}

/// The table in a packet that begins with one.
fn section(packet: &[u8; PACKET]) -> Option<&[u8]> {
    let adaptation = if packet[3] & 0x20 != 0 { 1 + usize::from(packet[4]) } else { 0 };
    packet.get(4 + adaptation + 1 + usize::from(*packet.get(4 + adaptation)?)..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(pid: u16, begins: bool, payload: &[u8]) -> Vec<u8> {
        let [high, low] = pid.to_be_bytes();
        let mut bytes = vec![SYNC, high | if begins { 0x40 } else { 0 }, low, 0x10];
        bytes.extend(payload);
        bytes.resize(PACKET, 0xFF);
        bytes
    }

    #[test]
    fn the_newest_tables_are_kept() {
        let association = |map: u16| {
            let [high, low] = map.to_be_bytes();
            packet(0, true, &[0, 0x00, 0xB0, 13, 0, 1, 0xC1, 0, 0, 0, 1, 0xE0 | high, low])
        };
        let mut tables = Tables::default();
        tables.note(&packet(0x20, true, &[0, 0x02, 1]));
        assert_eq!(tables.header(), Bytes::new(), "nobody has said that this is a map");
        tables.note(&[association(0x20), packet(0x41, true, &[1]), packet(0x20, true, &[0, 0x02, 2])].concat());
        tables.note(&packet(0x20, false, &[9]));
        assert_eq!(tables.header(), [association(0x20), packet(0x20, true, &[0, 0x02, 2])].concat());
        tables.note(&[association(0x1FF0), packet(0x1FF0, true, &[0, 0x02, 3])].concat());
        assert_eq!(tables.header(), [association(0x1FF0), packet(0x1FF0, true, &[0, 0x02, 3])].concat());
    }

    #[test]
    fn it_is_cut_in_front_of_keyframes_of_the_picture() {
        let association = packet(0, true, &[0, 0x00, 0xB0, 13, 0, 1, 0xC1, 0, 0, 0, 1, 0xE0, 0x20]);
        // A map with a descriptor of two bytes, sound at 0x42 and H.264 at 0x41.
        let map = [
            0, 0x02, 0xB0, 29, 0, 1, 0xC1, 0, 0, 0xE0, 0x41, 0xF0, 2, 5, 0, 0x0F, 0xE0, 0x42, 0xF0, 0, 0x1B, 0xE0,
            0x41, 0xF0, 0,
        ];
        let map = packet(0x20, true, &map);
        let key = |pid: u16| {
            let mut packet = packet(pid, true, &[1, 0x40]);
            packet[3] = 0x30;
            packet
        };
        let (other, video, sound) = (packet(0x41, true, &[0, 0, 1]), key(0x41), key(0x42));
        let mut tables = Tables::default();
        let unknown: Bytes = [other.clone(), video.clone()].concat().into();
        assert_eq!(tables.cut(&unknown), [(unknown.clone(), false)], "nobody knows which is the picture");
        let bytes: Bytes =
            [association, map, other.clone(), video.clone(), other, sound, video.clone()].concat().into();
        let cut: Vec<_> = tables.cut(&bytes).iter().map(|(piece, key)| (piece.len() / PACKET, *key)).collect();
        assert_eq!(cut, [(3, false), (3, true), (1, true)]);
        assert_eq!(tables.cut(&video.clone().into()), [(video.into(), true)]);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_do_harm(bytes: Vec<u8>, first in 0u8..255) {
            let mut tables = Tables::default();
            tables.note(&bytes);
            let mut packet = vec![SYNC, 0x40, 0, first];
            packet.extend(&bytes);
            packet.resize(PACKET, first);
            tables.cut(&packet.clone().into());
            packet[2] = first;
            tables.cut(&packet.into());
            tables.header();
        }
    }
}
