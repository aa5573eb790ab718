//! Where faces are between two looks: each is followed with its speed, so that what is drawn on it moves as it
//! does, and neither jumps at a look nor trails behind. Pure.

use std::time::Duration;

/// A face, in shares of the picture's sides; while it is followed, all of them in shares of its width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Face {
    /// Of its middle.
    pub x: f64,
    /// Of its middle.
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// How much of a difference between where a face was thought to be and where it was seen is taken over, and
/// how much of it into its speed.
const ALPHA: f64 = 0.65;
const BETA: f64 = 0.25;
/// Its size changes more slowly than its place, and is seen less exactly.
const SIZE_ALPHA: f64 = 0.3;
/// A face is followed without being seen for so long.
const COAST: Duration = Duration::from_millis(300);
/// And is shown where it was for so long.
const KEEP: Duration = Duration::from_millis(1_200);
/// Faces at once.
const MOST: usize = 6;

/// The faces of a picture.
#[derive(Debug, Default)]
pub(super) struct Glide {
    followed: Vec<Followed>,
}

#[derive(Debug)]
struct Followed {
    face: Face,
    /// In shares a second.
    speed: (f64, f64),
    seen: Duration,
    /// Once is no face yet: cascades see one here and there.
    looks: u32,
}

impl Glide {
    /// What was seen in the picture of that time.
    pub(super) fn look(&mut self, at: Duration, seen: &[Face]) {
        let mut seen: Vec<Face> = seen.to_vec();
        for followed in &mut self.followed {
            let expected = followed.at(at);
            let near = |face: &Face| distance(&expected, face);
            let nearest = (0..seen.len()).min_by(|a, b| near(&seen[*a]).total_cmp(&near(&seen[*b])));
            if let Some(index) = nearest.filter(|index| near(&seen[*index]) < 0.6) {
                followed.correct(at, seen.swap_remove(index));
            }
        }
        let room = MOST.saturating_sub(self.followed.len());
        let new = seen.into_iter().take(room);
        self.followed.extend(new.map(|face| Followed { face, speed: (0.0, 0.0), seen: at, looks: 1 }));
        self.followed.retain(|followed| {
            let keep = if followed.looks > 1 { KEEP } else { COAST };
            at.saturating_sub(followed.seen) <= keep
        });
    }

    /// Where they are in the picture of that time.
    pub(super) fn at(&self, at: Duration) -> Vec<Face> {
        let known = self.followed.iter().filter(|followed| followed.looks > 1);
        known.filter(|followed| at.saturating_sub(followed.seen) <= KEEP).map(|followed| followed.at(at)).collect()
    }
}

impl Followed {
    fn at(&self, at: Duration) -> Face {
        let since = at.saturating_sub(self.seen).min(COAST).as_secs_f64();
        Face { x: self.face.x + self.speed.0 * since, y: self.face.y + self.speed.1 * since, ..self.face }
    }

    fn correct(&mut self, at: Duration, seen: Face) {
        let expected = self.at(at);
        let since = at.saturating_sub(self.seen).as_secs_f64().max(1e-3);
        let (off_x, off_y) = (seen.x - expected.x, seen.y - expected.y);
        self.face = Face {
            x: expected.x + ALPHA * off_x,
            y: expected.y + ALPHA * off_y,
            width: self.face.width + SIZE_ALPHA * (seen.width - self.face.width),
            height: self.face.height + SIZE_ALPHA * (seen.height - self.face.height),
        };
        self.speed = (self.speed.0 + BETA * off_x / since, self.speed.1 + BETA * off_y / since);
        self.seen = at;
        self.looks += 1;
    }
}

/// Of two faces' middles, in widths of the first.
fn distance(a: &Face, b: &Face) -> f64 {
    let (x, y) = ((a.x - b.x) / a.width.max(1e-6), (a.y - b.y) / a.height.max(1e-6));
    x.hypot(y)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn face(x: f64) -> Face {
        Face { x, y: 0.5, width: 0.2, height: 0.35 }
    }

    #[test]
    fn a_face_that_moves_is_where_it_is_between_two_looks() {
        let mut glide = Glide::default();
        // Half a width a second, looked at eight times a second, told 40 ms late, with some noise.
        let truth = |ms: u32| 0.3 + 0.1 * f64::from(ms) / 1_000.0;
        let mut worst: f64 = 0.0;
        for ms in (0..4_000).step_by(25) {
            if ms >= 40 && (ms - 40) % 125 < 25 {
                let seen = (ms - 40) / 125 * 125;
                let noise = if (seen / 125) % 2 == 0 { 0.004 } else { -0.004 };
                glide.look(seen * MS, &[face(truth(seen) + noise)]);
            }
            if ms > 800 {
                let [shown] = glide.at(ms * MS)[..] else { panic!("one face at {ms}") };
                worst = worst.max((shown.x - truth(ms)).abs() / 0.2);
            }
        }
        assert!(worst < 0.05, "{worst} of its width away");
    }

    #[test]
    fn a_face_comes_with_its_second_look_and_goes_when_it_is_not_seen() {
        let mut glide = Glide::default();
        glide.look(Duration::ZERO, &[face(0.3)]);
        assert_eq!(glide.at(50 * MS), []);
        glide.look(125 * MS, &[face(0.3), face(0.8)]);
        assert_eq!(glide.at(150 * MS).len(), 1, "the other was seen once only");
        glide.look(250 * MS, &[face(0.3), face(0.8)]);
        assert_eq!(glide.at(260 * MS).len(), 2);
        assert_eq!(glide.at(1_300 * MS).len(), 2, "held while it is looked away from");
        assert_eq!(glide.at(1_500 * MS), []);
        glide.look(1_600 * MS, &[]);
        assert!(glide.followed.is_empty());
    }
}
