//! Maps by the number of an entry. Numbers count up from 0, which both ends check, and most entries are settled in about
//! the order in which they came: what is open lies side by side, and a number says where.

use std::collections::{BTreeMap, VecDeque};

use super::UNSETTLED_MAX;
use crate::proto::manifest::EntryId;

/// Most places that lie side by side, those that are free again among them.
const WINDOW_MAX: usize = 2 * UNSETTLED_MAX;

/// A map by entry.
///
/// Invariants: whatever has a number from `first` on is in `recent`, at its number less `first`; what is older is in
/// `older`. The front of `recent` is never free. So memory is bounded by `WINDOW_MAX` places and what is open,
/// however long one entry stays open while others come and go.
#[derive(Clone, Debug)]
pub struct IdMap<T> {
    first: EntryId,
    recent: VecDeque<Option<T>>,
    /// How many places of `recent` are taken.
    taken: usize,
    older: BTreeMap<EntryId, T>,
}

impl<T> Default for IdMap<T> {
    fn default() -> IdMap<T> {
        IdMap { first: 0, recent: VecDeque::new(), taken: 0, older: BTreeMap::new() }
    }
}

impl<T> IdMap<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.taken + self.older.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is one of this number.
    pub fn contains_key(&self, id: &EntryId) -> bool {
        self.get(id).is_some()
    }

    /// The one of this number.
    pub fn get(&self, id: &EntryId) -> Option<&T> {
        match self.place(*id) {
            Some(place) => self.recent.get(place)?.as_ref(),
            None => self.older.get(id),
        }
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: &EntryId) -> Option<&mut T> {
        match self.place(*id) {
            Some(place) => self.recent.get_mut(place)?.as_mut(),
            None => self.older.get_mut(id),
        }
    }

    /// Put one in, in the place of one that has the same number. Quick where numbers count up.
    pub fn insert(&mut self, id: EntryId, value: T) -> Option<T> {
        let Some(place) = self.place(id) else { return self.older.insert(id, value) };
        if let Some(slot) = self.recent.get_mut(place) {
            let before = slot.replace(value);
            self.taken += usize::from(before.is_none());
            return before;
        }
        if place > self.recent.len() {
            while !self.recent.is_empty() {
                self.retire();
            }
            self.first = id;
        }
        if self.recent.len() >= WINDOW_MAX {
            self.retire();
            self.trim();
        }
        self.recent.push_back(Some(value));
        self.taken += 1;
        None
    }

    /// Take one out.
    pub fn remove(&mut self, id: &EntryId) -> Option<T> {
        let Some(place) = self.place(*id) else { return self.older.remove(id) };
        let value = self.recent.get_mut(place)?.take()?;
        self.taken -= 1;
        self.trim();
        Some(value)
    }

    /// All of them, in no order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.older.values().chain(self.recent.iter().flatten())
    }

    /// Where it is, or would be, among the recent ones.
    fn place(&self, id: EntryId) -> Option<usize> {
        id.checked_sub(self.first).map(|place| usize::try_from(place).unwrap_or(usize::MAX))
    }

    /// The first place goes; what is in it is old.
    fn retire(&mut self) {
        if let Some(Some(value)) = self.recent.pop_front() {
            self.taken -= 1;
            self.older.insert(self.first, value);
        }
        self.first += 1;
    }

    /// Free places at the front go.
    fn trim(&mut self) {
        while let Some(None) = self.recent.front() {
            self.recent.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_find_their_values() {
        let mut map = IdMap::default();
        (0..100_000u64).for_each(|id| assert_eq!(map.insert(id, id * 2), None));
        assert!((0..100_000u64).all(|id| map.remove(&id) == Some(id * 2)));
        assert!(map.is_empty() && map.get(&1).is_none());
    }

    #[test]
    fn what_stays_open_for_long_holds_no_places_for_what_came_after_it() {
        let mut map = IdMap::default();
        let count = 3 * WINDOW_MAX as u64;
        for id in 0..count {
            map.insert(id, id);
            assert!(id % 1000 == 0 || map.remove(&id) == Some(id));
        }
        assert!(map.recent.len() <= WINDOW_MAX && map.len() as u64 == count.div_ceil(1000));
        assert!((0..count).all(|id| map.get(&id).copied() == (id % 1000 == 0).then_some(id)));
        assert!((0..count).step_by(1000).all(|id| map.remove(&id) == Some(id)));
        assert!(map.is_empty() && map.recent.is_empty());
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in proptest::collection::vec((0..4u8, 0..40u64), 0..200)) {
            let (mut map, mut model, mut next) = (IdMap::default(), HashMap::new(), 0);
            for (what, id) in steps {
                match what {
                    0 => prop_assert_eq!(map.remove(&id), model.remove(&id)),
                    1 => prop_assert_eq!(map.insert(id, next), model.insert(id, next)),
                    2 => prop_assert_eq!(map.get(&id), model.get(&id)),
                    _ => {
                        prop_assert_eq!(map.insert(next, id), model.insert(next, id));
                        next += 1;
                    }
                }
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.values().sum::<u64>(), model.values().sum::<u64>());
            }
        }
    }
}
