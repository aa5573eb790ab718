//! When video may pass: from a keyframe on, which is asked for until it comes.

use std::time::{Duration, Instant};

use crate::media::Kind;

/// A keyframe that did not come after so long is asked for again: the request or its answer was lost.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// It goes on in line.
    Pass,
    /// It goes, and is the first one since the gate was shut: numbers go on without a gap.
    First,
    /// It is passed over.
    Skip,
    /// It is passed over, and somebody should ask for a keyframe.
    Ask,
}

/// Shut until a keyframe comes. Sound always passes.
#[derive(Debug)]
pub(super) struct Gate {
    kind: Kind,
    /// Since when it is shut, or when a keyframe was last asked for.
    shut: Option<Instant>,
}

impl Gate {
    /// Shut at first; whoever makes it has just asked for a keyframe.
    pub(super) fn new(kind: Kind, now: Instant) -> Self {
        Self { kind, shut: Some(now) }
    }

    /// Open; it shuts when something is lost.
    pub(super) fn open(kind: Kind) -> Self {
        Self { kind, shut: None }
    }

    /// Of what it is for.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Packets were lost: nothing passes until a keyframe. Whoever shuts it asks for one.
    pub(super) fn shut(&mut self, now: Instant) {
        self.shut.get_or_insert(now);
    }

    pub(super) fn pass(&mut self, starts_keyframe: bool, now: Instant) -> Passage {
        let Some(asked) = self.shut else { return Passage::Pass };
        if starts_keyframe || self.kind == Kind::Audio {
            self.shut = None;
            return Passage::First;
        }
        if now.saturating_duration_since(asked) < ASK_AGAIN_AFTER {
            return Passage::Skip;
        }
        self.shut = Some(now);
        Passage::Ask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn video_passes_from_a_keyframe_on_which_is_asked_for_each_second() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut gate = Gate::new(Kind::Video, start);
        assert_eq!(gate.pass(false, at(10)), Passage::Skip);
        assert_eq!(gate.pass(false, at(1_000)), Passage::Ask);
        assert_eq!(gate.pass(false, at(1_999)), Passage::Skip);
        assert_eq!(gate.pass(false, at(2_000)), Passage::Ask);
        assert_eq!(gate.pass(true, at(2_001)), Passage::First);
        assert_eq!(gate.pass(false, at(2_002)), Passage::Pass);
        assert_eq!(gate.pass(true, at(2_003)), Passage::Pass);
        gate.shut(at(3_000));
        gate.shut(at(3_900));
        assert_eq!(gate.pass(false, at(4_000)), Passage::Ask, "shut since 3,000");
    }

    #[test]
    fn sound_passes() {
        let mut gate = Gate::new(Kind::Audio, Instant::now());
        assert_eq!(gate.pass(false, Instant::now()), Passage::First);
        assert_eq!(gate.pass(false, Instant::now()), Passage::Pass);
    }
}
