//! What decoders, recorders and effects need of a track that comes in layers.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use arc_swap::ArcSwap;

use crate::media::rtp::{Needed, Place};

/// The needs of all who read one track; they come and go while packets are given out.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Of each reader: where he shows it, or `None` if he needs all that comes.
    each: Mutex<Vec<(u64, Option<Place>)>>,
    next: AtomicU64,
    /// What meets them all.
    all: ArcSwap<Needed>,
}

/// One reader's need; it ends with this.
#[derive(Debug)]
pub struct Need {
    needs: Arc<Needs>,
    id: u64,
}

impl Needs {
    /// Somebody shows the track in that place, or needs all that comes (`None`).
    pub(super) fn add(self: &Arc<Self>, place: Option<Place>) -> Need {
        let id = self.next.fetch_add(1, Relaxed);
        self.change(|each| each.push((id, place)));
        Need { needs: self.clone(), id }
    }

    /// For the publisher's thread, which never waits.
    pub(super) fn all(&self) -> Arc<Needed> {
        self.all.load_full()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<(u64, Option<Place>)>)) {
        let mut each = self.each.lock().expect("nothing panics under this lock");
        change(&mut each);
        let mut places: Vec<Place> = Vec::new();
        for place in each.iter().filter_map(|(_, place)| *place) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let all = match each.as_slice() {
            [] => Needed::Nothing,
            each if each.iter().any(|(_, place)| place.is_none()) => Needed::Largest,
            _ => Needed::Places(places),
        };
        self.all.store(Arc::new(all));
    }
}

impl Need {
    /// It is shown in that place now.
    pub fn change(&self, to: Place) {
        self.needs.change(|each| {
            each.iter_mut().filter(|(id, _)| *id == self.id).for_each(|(_, place)| *place = Some(to));
        });
    }
}

impl Drop for Need {
    fn drop(&mut self) {
        self.needs.change(|each| each.retain(|(id, _)| *id != self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::layout::Fit;

    #[test]
    fn places_count_until_somebody_needs_all() {
        let (needs, place) = (Arc::new(Needs::default()), |width| Place { width, height: 90, fit: Fit::Fit });
        let all = || Needed::clone(&needs.all());
        assert_eq!(all(), Needed::Nothing);
        let (first, second) = (needs.add(Some(place(160))), needs.add(Some(place(160))));
        assert_eq!(all(), Needed::Places(vec![place(160)]));
        second.change(place(320));
        assert_eq!(all(), Needed::Places(vec![place(160), place(320)]));
        let recorder = needs.add(None);
        assert_eq!(all(), Needed::Largest);
        drop((recorder, first));
        assert_eq!(all(), Needed::Places(vec![place(320)]));
        drop(second);
        assert_eq!(all(), Needed::Nothing);
    }
}
