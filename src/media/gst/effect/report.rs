//! What effects find, on its way to the room.

use std::{
    fmt,
    sync::{Arc, Mutex, Weak},
};

use tokio::sync::mpsc;

use crate::{
    media::{EffectReport, MediaEvent},
    room::id::TrackId,
};

/// Where an effect tells what it finds. Clones share it.
#[derive(Clone, Default)]
pub struct Reports {
    to: Option<mpsc::Sender<MediaEvent>>,
    /// `None`: on a mix.
    track: Option<TrackId>,
    turn: Option<(Turn, Arc<()>)>,
}

/// Of those who find the same, all mixes of a room, one tells: the first, and the next when it is gone.
#[derive(Clone, Debug, Default)]
pub struct Turn(Arc<Mutex<Weak<()>>>);

impl Turn {
    fn is_of(&self, teller: &Arc<()>) -> bool {
        let mut holder = self.0.lock().expect("nothing panics under this lock");
        if holder.strong_count() == 0 {
            *holder = Arc::downgrade(teller);
        }
        holder.as_ptr() == Arc::as_ptr(teller)
    }
}

impl Reports {
    /// Of a track's effects.
    pub fn of_track(track: &TrackId, events: &mpsc::Sender<MediaEvent>) -> Self {
        Self { to: Some(events.clone()), track: Some(track.clone()), turn: None }
    }

    /// Of the effects on a mix, which takes turns with the others.
    pub fn of_mix(turn: &Turn, events: &mpsc::Sender<MediaEvent>) -> Self {
        Self { to: Some(events.clone()), track: None, turn: Some((turn.clone(), Arc::new(()))) }
    }

    /// Called on streaming threads: a room that does not keep up misses it.
    pub fn send(&self, report: EffectReport) {
        let is_silent = self.turn.as_ref().is_some_and(|(turn, teller)| !turn.is_of(teller));
        if let Some(events) = self.to.as_ref().filter(|_| !is_silent) {
            let _ = events.try_send(MediaEvent::EffectReported { track: self.track.clone(), report });
        }
    }
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reports({:?})", self.track)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_mixes_one_tells_and_the_next_when_it_is_gone() {
        let (events, mut told) = mpsc::channel(4);
        let (turn, report) = (Turn::default(), EffectReport::Motion { moving: true, amount: 0.5 });
        let [first, second] = [(); 2].map(|()| Reports::of_mix(&turn, &events));
        for mix in [&first, &second, &first] {
            mix.send(report.clone());
        }
        assert_eq!(told.len(), 2);
        drop(first);
        second.send(report.clone());
        assert_eq!(told.len(), 3);
        assert_eq!(told.try_recv(), Ok(MediaEvent::EffectReported { track: None, report }));
    }
}
