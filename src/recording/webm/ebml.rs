//! EBML (RFC 8794): elements as bytes.

pub const EBML: u32 = 0x1A45_DFA3;
pub const VERSION: u32 = 0x4286;
pub const READ_VERSION: u32 = 0x42F7;
pub const MAX_ID_LENGTH: u32 = 0x42F2;
pub const MAX_SIZE_LENGTH: u32 = 0x42F3;
pub const DOC_TYPE: u32 = 0x4282;
pub const DOC_TYPE_VERSION: u32 = 0x4287;
pub const DOC_TYPE_READ_VERSION: u32 = 0x4285;
pub const SEGMENT: u32 = 0x1853_8067;
pub const INFO: u32 = 0x1549_A966;
pub const TIMESTAMP_SCALE: u32 = 0x2A_D7B1;
pub const DURATION: u32 = 0x4489;
pub const MUXING_APP: u32 = 0x4D80;
pub const WRITING_APP: u32 = 0x5741;
pub const TRACKS: u32 = 0x1654_AE6B;
pub const TRACK_ENTRY: u32 = 0xAE;
pub const TRACK_NUMBER: u32 = 0xD7;
pub const TRACK_UID: u32 = 0x73C5;
pub const TRACK_TYPE: u32 = 0x83;
pub const FLAG_LACING: u32 = 0x9C;
pub const CODEC_ID: u32 = 0x86;
pub const CODEC_PRIVATE: u32 = 0x63A2;
pub const VIDEO: u32 = 0xE0;
pub const PIXEL_WIDTH: u32 = 0xB0;
pub const PIXEL_HEIGHT: u32 = 0xBA;
pub const CLUSTER: u32 = 0x1F43_B675;
pub const TIMESTAMP: u32 = 0xE7;
pub const SIMPLE_BLOCK: u32 = 0xA3;
pub const CUES: u32 = 0x1C53_BB6B;
pub const CUE_POINT: u32 = 0xBB;
pub const CUE_TIME: u32 = 0xB3;
pub const CUE_TRACK_POSITIONS: u32 = 0xB7;
pub const CUE_TRACK: u32 = 0xF7;
pub const CUE_CLUSTER_POSITION: u32 = 0xF1;

/// "To the end of the file", as an eight-byte size says it.
pub const UNKNOWN_SIZE: u64 = (1 << 56) - 1;

/// A whole element.
pub fn element(id: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = head(id, body.len() as u64);
    bytes.extend_from_slice(body);
    bytes
}

/// An element's identifier and size, in as few bytes as may be.
pub fn head(id: u32, size: u64) -> Vec<u8> {
    // All ones mean "unknown", so a width of `n` bytes says sizes below 2⁷ⁿ − 1.
    let width = (1..8).find(|width| size < (1 << (7 * width)) - 1).unwrap_or(8);
    with_size(id, size, width)
}

/// The same with a size of eight bytes, whatever it is.
pub fn head_with_size(id: u32, size: u64) -> Vec<u8> {
    with_size(id, size, 8)
}

fn with_size(id: u32, size: u64, width: usize) -> Vec<u8> {
    let marked = size | 1 << (7 * width);
    let id_bytes = id.to_be_bytes();
    let id_start = (id.leading_zeros() / 8) as usize;
    [&id_bytes[id_start..], &marked.to_be_bytes()[8 - width..]].concat()
}

/// An unsigned integer, in as few bytes as may be.
pub fn uint(value: u64) -> Vec<u8> {
    let start = (value.leading_zeros() / 8).min(7) as usize;
    value.to_be_bytes()[start..].to_vec()
}

pub fn float(value: f64) -> [u8; 8] {
    value.to_be_bytes()
}

pub fn text(value: &str) -> &[u8] {
    value.as_bytes()
}

/// `(identifier, size, bytes of both)`; `None` if they are not there, or are none.
pub fn read_head(bytes: &[u8]) -> Option<(u32, u64, usize)> {
    let id_width = bytes.first()?.leading_zeros() as usize + 1;
    if id_width > 4 {
        return None;
    }
    let id = bytes.get(..id_width)?.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
    let size_width = bytes.get(id_width)?.leading_zeros() as usize + 1;
    if size_width > 8 {
        return None;
    }
    let size = bytes.get(id_width..id_width + size_width)?;
    let size = size.iter().fold(0, |size, byte| size << 8 | u64::from(*byte)) & ((1 << (7 * size_width)) - 1);
    let is_unknown = size == (1 << (7 * size_width)) - 1;
    Some((id, if is_unknown { UNKNOWN_SIZE } else { size }, id_width + size_width))
}

/// `None` if it has more than eight bytes.
pub fn read_uint(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_were_written() {
        for id in [TRACK_ENTRY, DURATION, TIMESTAMP_SCALE, SEGMENT] {
            for size in [0, 1, 126, 127, 128, 16_382, 16_383, 1 << 40, UNKNOWN_SIZE - 1, UNKNOWN_SIZE] {
                for bytes in [head(id, size), head_with_size(id, size)] {
                    assert_eq!(read_head(&bytes), Some((id, size, bytes.len())), "{id:x} {size}");
                    assert_eq!(read_head(&bytes[..bytes.len() - 1]), None);
                }
            }
        }
        assert_eq!(read_head(&[0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn numbers_take_as_few_bytes_as_may_be() {
        for (value, bytes) in [(0, vec![0]), (255, vec![255]), (256, vec![1, 0]), (u64::MAX, vec![255; 8])] {
            assert_eq!(uint(value), bytes);
            assert_eq!(read_uint(&bytes), Some(value));
        }
        assert_eq!(read_uint(&[0; 9]), None);
    }
}
