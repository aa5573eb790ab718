//! Packets in a TCP connection (RFC 4571): each behind its length in two bytes.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice},
    time::{Duration, Instant},
};

use tokio_util::{
    bytes::{BufMut, BytesMut},
    codec::{Decoder, LengthDelimitedCodec},
};

/// Larger than any packet that WebRTC sends.
pub(super) const MAX_FRAME: usize = 2_048;
/// Bytes of media that wait for a client who reads slowly: a keyframe or two.
const MAX_QUEUED: usize = 256 << 10;
/// And besides, of what keeps his session up.
const RESERVED: usize = 16 << 10;
/// What a queued frame takes besides its bytes.
const OVERHEAD: usize = 64;
/// No media is put behind some that waits for so long: it would come too late.
const STALE_AFTER: Duration = Duration::from_secs(1);
/// Frames handed to the kernel at once.
const WRITE_AT_ONCE: usize = 64;

/// Takes what comes in at a connection apart.
#[derive(Debug)]
pub struct Frames {
    codec: LengthDelimitedCodec,
    buffer: BytesMut,
}

impl Default for Frames {
    fn default() -> Self {
        let codec = LengthDelimitedCodec::builder().length_field_type::<u16>().max_frame_length(MAX_FRAME).new_codec();
        Self { codec, buffer: BytesMut::new() }
    }
}

impl Frames {
    /// Where the next `most` bytes are to be written.
    pub(super) fn space(&mut self, most: usize) -> impl BufMut {
        self.buffer.reserve(most);
        (&mut self.buffer).limit(most)
    }

    /// More of the connection.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame that is complete. RFC 4571 allows empty ones, which say nothing.
    ///
    /// # Errors
    /// One is longer than any packet of WebRTC: these are no frames, and nothing that follows is.
    #[allow(clippy::should_implement_trait, reason = "it has an error, and goes on when there is more")]
    pub fn next(&mut self) -> io::Result<Option<BytesMut>> {
        loop {
            match self.codec.decode(&mut self.buffer)? {
                Some(frame) if frame.is_empty() => {}
                other => return Ok(other),
            }
        }
    }
}

/// What waits to be written to a connection, in bounds.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    frames: VecDeque<Frame>,
    /// Of all of them, with what they take besides.
    bytes: usize,
    /// Of the first one, that are written already.
    written: usize,
}

#[derive(Debug)]
struct Frame {
    queued: Instant,
    length: [u8; 2],
    contents: Vec<u8>,
}

impl Outbox {
    /// False if there is no room. Media goes without first, and does when what is before it has waited for long.
    pub(super) fn push(&mut self, contents: Vec<u8>, now: Instant) -> bool {
        // RFC 7983 §7.
        let is_media = contents.first().is_none_or(|first| *first >= 128);
        let waits = self.frames.front().map(|first| now.saturating_duration_since(first.queued));
        let limit = if is_media { MAX_QUEUED } else { MAX_QUEUED + RESERVED };
        let takes = contents.len() + OVERHEAD;
        let Ok(length) = u16::try_from(contents.len()) else { return false };
        if self.bytes + takes > limit || (is_media && waits.is_some_and(|waits| waits > STALE_AFTER)) {
            return false;
        }
        self.bytes += takes;
        self.frames.push_back(Frame { queued: now, length: length.to_be_bytes(), contents });
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Writes what `write` takes, many frames at a time. `write` takes slices and says how many bytes of them it
    /// took.
    ///
    /// # Errors
    /// As `write` has them, but that it would block.
    pub(super) fn write(&mut self, mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<()> {
        while !self.is_empty() {
            let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(2 * WRITE_AT_ONCE);
            for frame in self.frames.iter().take(WRITE_AT_ONCE) {
                slices.extend([IoSlice::new(&frame.length), IoSlice::new(&frame.contents)]);
            }
            let mut rest = slices.as_mut_slice();
            IoSlice::advance_slices(&mut rest, self.written);
            match write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn advance(&mut self, count: usize) {
        self.written += count;
        while let Some(first) = self.frames.front() {
            let (length, takes) = (2 + first.contents.len(), OVERHEAD + first.contents.len());
            if self.written < length {
                break;
            }
            self.written -= length;
            self.bytes -= takes;
            self.frames.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(contents: &[Vec<u8>]) -> Vec<u8> {
        contents.iter().flat_map(|it| [&(it.len() as u16).to_be_bytes()[..], it].concat()).collect()
    }

    fn read(frames: &mut Frames) -> io::Result<Vec<Vec<u8>>> {
        std::iter::from_fn(|| frames.next().transpose()).map(|frame| Ok(frame?.to_vec())).collect()
    }

    fn some_frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// However the net cuts it, and however little the kernel takes at a time.
        #[test]
        fn what_is_written_is_read(contents in some_frames(), cuts in proptest::collection::vec(1..2_000usize, 1..20)) {
            let mut outbox = Outbox::default();
            let now = Instant::now();
            for frame in &contents {
                prop_assert!(outbox.push(frame.clone(), now));
            }
            let mut cuts = cuts.into_iter().cycle();
            let (mut frames, mut got, mut blocked) = (Frames::default(), Vec::new(), false);
            while !outbox.is_empty() {
                let mut wire = Vec::new();
                outbox.write(|slices| {
                    blocked = !blocked;
                    if !blocked {
                        return Err(ErrorKind::WouldBlock.into());
                    }
                    let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
                    let count = cuts.next().unwrap_or(1).min(all.len());
                    wire.extend_from_slice(&all[..count]);
                    Ok(count)
                }).unwrap();
                frames.push(&wire);
                got.extend(read(&mut frames).unwrap());
            }
            prop_assert_eq!(outbox.bytes, 0);
            prop_assert_eq!(got, contents.into_iter().filter(|frame| !frame.is_empty()).collect::<Vec<_>>());
        }

        #[test]
        fn garbage_is_frames_or_an_error_and_takes_no_room(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..4_096), 0..20),
        ) {
            let mut frames = Frames::default();
            for part in parts {
                frames.push(&part);
                match read(&mut frames) {
                    Ok(read) => prop_assert!(read.iter().all(|frame| (1..=MAX_FRAME).contains(&frame.len()))),
                    Err(_) => break,
                }
                prop_assert!(frames.buffer.len() < 2 + MAX_FRAME, "what is left is less than a frame");
            }
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_an_error_at_once() {
        let mut frames = Frames::default();
        frames.push(&framed(&[vec![7; MAX_FRAME]]));
        frames.push(&(MAX_FRAME as u16 + 1).to_be_bytes());
        assert_eq!(frames.next().unwrap().unwrap().len(), MAX_FRAME);
        assert!(frames.next().is_err());
    }

    #[test]
    fn a_slow_reader_loses_media_and_keeps_his_session() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        let taken = (0..1_000).filter(|_| outbox.push(vec![128; 1_200], now)).count();
        assert_eq!(taken, MAX_QUEUED / (1_200 + OVERHEAD));
        assert!(outbox.push(vec![1; 100], now), "an answer to a check");
        assert!((0..1_000).filter(|_| outbox.push(vec![22; 1_200], now)).count() < 20);
        assert!(outbox.bytes <= MAX_QUEUED + RESERVED);
        // It moves again, but slowly.
        outbox.advance(100 * 1_202);
        assert!(outbox.push(vec![128; 1_200], now));
        let late = now + STALE_AFTER + Duration::from_millis(1);
        assert!(!outbox.push(vec![128; 1_200], late), "it would come too late");
        assert!(outbox.push(vec![1; 100], late));
    }
}
