//! What all mixes of a server may cost together: whoever asks for one more than it can make is told so,
//! instead of everybody's pictures being late.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::mixer::{Canvas, Parts};
use crate::media::MediaError;

/// Pixels a second of the picture that counts as one: 1280×720 at 25.
const UNIT: u64 = 1280 * 720 * 25;
/// A mix without a picture, in the same measure.
const SOUND: u64 = UNIT / 20;

/// The server's allowance. Clones share it.
#[derive(Clone, Debug)]
pub struct MixBudget {
    /// In mixes of 1280×720 at 25.
    most: u64,
    /// Pixels a second.
    used: Arc<AtomicU64>,
}

/// A mix's part of the allowance, given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    pixels: u64,
    used: Arc<AtomicU64>,
}

impl MixBudget {
    /// As many mixes of 1280×720 at 25 as `most`, or others that cost as much.
    pub fn new(most: u64) -> Self {
        Self { most, used: Arc::default() }
    }

    /// Takes what a mix costs. A mix that is alone is always taken: whether the machine can make that
    /// one is for its owner to see.
    ///
    /// # Errors
    /// [`MediaError::Busy`]
    pub fn take(&self, canvas: Canvas, parts: Parts) -> Result<Share, MediaError> {
        let pixels = cost(canvas, parts);
        let free = |used: u64| (used == 0 || used + pixels <= self.most * UNIT).then(|| used + pixels);
        match self.used.fetch_update(Relaxed, Relaxed, free) {
            Ok(_) => {
                super::counters::mix_started(pixels);
                Ok(Share { pixels, used: self.used.clone() })
            }
            Err(_) => {
                super::counters::mix_refused();
                Err(MediaError::Busy { most: self.most })
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.used.fetch_sub(self.pixels, Relaxed);
        super::counters::mix_ended(self.pixels);
    }
}

/// Pixels a second.
fn cost(Canvas { width, height, fps }: Canvas, parts: Parts) -> u64 {
    if parts.video { u64::from(width) * u64::from(height) * u64::from(fps) } else { SOUND }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Parts = Parts { audio: true, video: true };

    fn canvas(width: u32, height: u32, fps: u32) -> Canvas {
        Canvas { width, height, fps }
    }

    #[test]
    fn large_pictures_count_for_many_and_come_back() {
        let budget = MixBudget::new(4);
        let shares: Vec<_> = (0..4).map(|_| budget.take(canvas(1280, 720, 25), BOTH).unwrap()).collect();
        let sound = Parts { audio: true, video: false };
        assert_eq!(budget.take(canvas(1280, 720, 25), sound).err(), Some(MediaError::Busy { most: 4 }));
        drop(shares);
        let half = budget.take(canvas(1280, 720, 50), BOTH).unwrap();
        assert!(budget.take(canvas(1920, 1080, 25), BOTH).is_err(), "2 and 2.25");
        drop(half);
        let alone = budget.take(canvas(3840, 2160, 60), BOTH).unwrap();
        assert!(budget.take(canvas(160, 90, 5), BOTH).is_err());
        drop(alone);
        assert!(budget.take(canvas(160, 90, 5), BOTH).is_ok());
    }
}
