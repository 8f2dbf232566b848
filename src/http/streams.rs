//! Answers that do not end by themselves: how many there may be, who is given up, and when all of them end.
use crate::platform::clock::Clock;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;
use uuid::Uuid;

/// A reader that has taken nothing for this long gives its place to the next one.
const STALLED_AFTER: Duration = Duration::from_mins(1);
/// What is of one org has this part of the places at most.
const PART_OF_ONE: usize = 4;

/// The streams of one process. They count for no request's room, and have no patience of their own.
pub struct Streams {
    clock: Clock,
    most: usize,
    places: Mutex<Places>,
    ending: watch::Sender<bool>,
}

#[derive(Default)]
struct Places {
    last: u64,
    taken: HashMap<u64, Taken>,
}

struct Taken {
    of: Option<Uuid>,
    /// When its reader last took something.
    at: Duration,
}

impl Streams {
    /// Room for so many.
    pub fn new(clock: Clock, most: usize) -> Arc<Self> {
        Arc::new(Self { clock, most, places: Mutex::default(), ending: watch::channel(false).0 })
    }

    /// A place for a stream of what is one org's, or of everything. `None`: there is none left.
    pub fn open(self: &Arc<Self>, of: Option<Uuid>) -> Option<Place> {
        let now = self.clock.monotonic();
        let mut places = self.places();
        places.taken.retain(|_, taken| now.saturating_sub(taken.at) < STALLED_AFTER);
        let of_the_same = places.taken.values().filter(|taken| taken.of == of).count();
        let own_max = if of.is_some() { self.most.div_ceil(PART_OF_ONE) } else { self.most };
        if *self.ending.borrow() || places.taken.len() >= self.most || of_the_same >= own_max {
            return None;
        }
        places.last += 1;
        let id = places.last;
        places.taken.insert(id, Taken { of, at: now });
        Some(Place { id, streams: Arc::clone(self), ending: self.ending.subscribe() })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.places().taken.len()
    }

    /// Ends all of them, and lets none begin.
    pub fn end(&self) {
        self.ending.send_replace(true);
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream's place; it is free again when this is dropped.
pub struct Place {
    id: u64,
    streams: Arc<Streams>,
    ending: watch::Receiver<bool>,
}

impl Place {
    /// Its reader takes what there is. `false`: it did not for so long that the place is another's.
    pub fn keep(&self) -> bool {
        let now = self.streams.clock.monotonic();
        self.streams.places().taken.get_mut(&self.id).map(|taken| taken.at = now).is_some()
    }

    /// Waits until this process ends its streams.
    pub async fn ended(&mut self) {
        // An error means that the streams' owner is gone, which is an end too.
        let _ = self.ending.wait_for(|ending| *ending).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.places().taken.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams() -> (Clock, Arc<Streams>) {
        let clock = Clock::manual(chrono::DateTime::UNIX_EPOCH);
        (clock.clone(), Streams::new(clock, 4))
    }

    #[test]
    fn there_are_so_many_places_and_one_org_has_its_part() {
        let (_, streams) = streams();
        let own = Some(Uuid::from_u128(1));
        let first = streams.open(own).unwrap();
        assert!(streams.open(own).is_none());
        let others: Vec<_> = (0..3).map(|_| streams.open(None).unwrap()).collect();
        assert!(streams.open(None).is_none() && streams.open(Some(Uuid::from_u128(2))).is_none());
        drop((first, others));
        assert_eq!(streams.count(), 0);
        assert!(streams.open(own).is_some());
    }

    #[test]
    fn a_reader_who_takes_nothing_loses_the_place_to_the_next_one() {
        let (clock, streams) = streams();
        let reading: Vec<_> = (0..4).map(|_| streams.open(None).unwrap()).collect();
        clock.tick(STALLED_AFTER.checked_sub(Duration::from_secs(1)).unwrap());
        assert!(reading.iter().skip(1).all(Place::keep));
        clock.tick(Duration::from_secs(1));
        let next = streams.open(None).unwrap();
        assert!(!reading[0].keep() && reading[1].keep() && next.keep());
        assert!(streams.open(None).is_none());
    }

    #[test]
    fn at_the_end_none_begins() {
        let (_, streams) = streams();
        streams.end();
        assert!(streams.open(None).is_none());
    }
}
