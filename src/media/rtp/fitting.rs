//! Which layer whoever decodes is to have: the smallest that fills every place it is shown in.

use std::time::Duration;

use super::Layers;
use crate::media::layout::Fit;

/// A layer that was needed until so shortly ago stays: a layout that changes back and forth costs no keyframes.
const HOLDOFF: Duration = Duration::from_secs(3);

/// Where a picture is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// How a picture of another shape gets into it.
    pub fit: Fit,
}

impl Place {
    /// A picture of that width and height need not be made larger for it.
    fn is_filled_by(self, (width, height): (u32, u32)) -> bool {
        match self.fit {
            Fit::Fit => width >= self.width || height >= self.height,
            Fit::Fill => width >= self.width && height >= self.height,
        }
    }
}

/// What all who decode a track need of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Needed {
    /// Nobody decodes it.
    #[default]
    Nothing,
    /// Somebody needs all that comes.
    Largest,
    /// It is shown in these places, and nowhere else.
    Places(Vec<Place>),
}

impl Needed {
    fn is_met_by(&self, size: (u32, u32)) -> bool {
        match self {
            Self::Places(places) => places.iter().all(|place| place.is_filled_by(size)),
            Self::Nothing | Self::Largest => false,
        }
    }
}

/// Chooses a layer for whoever decodes: a larger one as soon as it is needed, a smaller one some time later.
#[derive(Debug, Default)]
pub struct Fitting {
    /// When a layer as large as the one that is shown was needed last.
    needed_at: Option<Duration>,
}

impl Fitting {
    /// The layer that is to be shown, of those that come. `shown`: the one that is; `now`: on the clock of `layers`.
    pub fn layer(&mut self, layers: &Layers, needed: &Needed, shown: Option<usize>, now: Duration) -> Option<usize> {
        let wanted = layers.smallest(|size| needed.is_met_by(size)).or_else(|| layers.best(None));
        let larger = shown.filter(|shown| wanted.is_some_and(|wanted| layers.comes_larger(*shown, wanted)));
        if larger.is_none() {
            self.needed_at = Some(now);
        }
        let stays = self.needed_at.is_some_and(|needed_at| now.saturating_sub(needed_at) < HOLDOFF);
        larger.filter(|_| stays).or(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SIZES: [(u32, u32); 3] = [(160, 90), (320, 180), (640, 360)];

    fn at(width: u32, height: u32) -> Needed {
        Needed::Places(vec![Place { width, height, fit: Fit::Fit }])
    }

    /// The smallest layer first; those of `resting` come no more.
    struct Camera {
        layers: Layers,
        fitting: Fitting,
        shown: Option<usize>,
        now: Duration,
    }

    impl Camera {
        fn new() -> Self {
            let mut camera = Self { layers: Layers::new(3), fitting: Fitting::default(), shown: None, now: MS };
            camera.plays(100, &[]);
            camera
        }

        fn plays(&mut self, ms: u32, resting: &[usize]) {
            for _ in 0..ms / 20 {
                self.now += 20 * MS;
                for layer in (0..3).filter(|layer| !resting.contains(layer)) {
                    self.layers.heard(layer, Some(SIZES[layer]), self.now);
                }
            }
        }

        fn layer(&mut self, needed: &Needed) -> usize {
            self.shown = self.fitting.layer(&self.layers, needed, self.shown, self.now);
            self.shown.unwrap()
        }
    }

    #[test]
    fn the_smallest_that_fills_all_places_is_taken() {
        let place = |width, height, fit| Place { width, height, fit };
        let (tall, wide) = (place(300, 300, Fit::Fit), place(400, 150, Fit::Fit));
        let cases = [
            (Needed::Largest, 2),
            (at(160, 90), 0),
            (at(161, 91), 1),
            (at(320, 180), 1),
            (at(316, 300), 1),
            (at(640, 360), 2),
            (at(1_280, 720), 2),
            (Needed::Places(vec![place(160, 100, Fit::Fill)]), 1),
            (Needed::Places(vec![place(100, 200, Fit::Fill)]), 2),
            (Needed::Places(vec![tall, wide]), 1),
            (Needed::Places(vec![tall, place(640, 360, Fit::Fit)]), 2),
        ];
        for (needed, expected) in cases {
            assert_eq!(Camera::new().layer(&needed), expected, "{needed:?}");
        }
    }

    #[test]
    fn it_grows_at_once_and_shrinks_when_it_was_not_needed_for_a_while() {
        let mut camera = Camera::new();
        assert_eq!(camera.layer(&at(160, 90)), 0);
        camera.plays(100, &[]);
        assert_eq!(camera.layer(&at(640, 360)), 2);
        camera.plays(1_000, &[]);
        assert_eq!(camera.layer(&at(640, 360)), 2);
        camera.plays(2_900, &[]);
        assert_eq!(camera.layer(&at(160, 90)), 2, "the layout may change back");
        assert_eq!(camera.layer(&at(640, 360)), 2);
        camera.plays(2_900, &[]);
        assert_eq!(camera.layer(&at(160, 90)), 2, "it did");
        camera.plays(100, &[]);
        assert_eq!(camera.layer(&at(160, 90)), 0);
    }

    #[test]
    fn who_begins_to_decode_does_not_wait_for_the_small_one() {
        let mut camera = Camera::new();
        assert_eq!(camera.layer(&at(640, 360)), 2);
        // Nobody decodes it for a moment.
        camera.shown = None;
        camera.plays(100, &[]);
        assert_eq!(camera.layer(&at(160, 90)), 0);
    }

    #[test]
    fn one_that_comes_no_more_is_replaced_at_once() {
        let mut camera = Camera::new();
        assert_eq!(camera.layer(&at(160, 90)), 0);
        camera.plays(1_100, &[0]);
        assert_eq!(camera.layer(&at(160, 90)), 1, "the next larger one");
        camera.plays(1_100, &[0, 1]);
        assert_eq!(camera.layer(&at(160, 90)), 2);
        camera.plays(1_100, &[1, 2]);
        assert_eq!(camera.layer(&at(640, 360)), 0, "better than none");
    }
}
