//! How much of something costly is done at a time, by all, by each visitor and from each address.
//!
//! A session costs nobody anything, so a visitor alone is no bound: one machine has three quarters of all places at
//! most, and what is left is for the others.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::gate::VisitorId;

/// Who takes a place: programs that show the token are one visitor, so the address counts too.
pub type Who = (VisitorId, IpAddr);

/// Places for one kind of work.
#[derive(Debug)]
pub struct Slots {
    all_max: usize,
    each_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    each: HashMap<Who, usize>,
    from: HashMap<IpAddr, usize>,
}

/// What one address may have of a bound on all.
pub fn share_of_address(all_max: usize) -> usize {
    all_max - all_max / 4
}

/// A place; free again when it is dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    who: Who,
}

impl Slots {
    /// So many in all, and of each.
    pub fn new(all_max: usize, each_max: usize) -> Arc<Slots> {
        Arc::new(Slots { all_max, each_max, taken: Mutex::default() })
    }

    /// Take one, if there is one for this visitor.
    pub fn take(self: &Arc<Self>, who: Who) -> Option<Slot> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = taken.each.get(&who).copied().unwrap_or(0);
        let of_address = taken.from.get(&who.1).copied().unwrap_or(0);
        let is_full = taken.all >= self.all_max || of_address >= share_of_address(self.all_max);
        if is_full || of_one >= self.each_max {
            return None;
        }
        taken.all += 1;
        taken.each.insert(who, of_one + 1);
        taken.from.insert(who.1, of_address + 1);
        Some(Slot { slots: self.clone(), who })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        one_less(&mut taken.each, &self.who);
        one_less(&mut taken.from, &self.who.1);
    }
}

/// Take one off a count, which goes when it is nothing.
pub fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_for_each_and_all_and_come_back() {
        let slots = Slots::new(3, 2);
        let who = |id| (VisitorId(id), IpAddr::from([127, 0, 0, 1]));
        let first = slots.take(who(1)).unwrap();
        let _second = slots.take(who(1)).unwrap();
        assert!(slots.take(who(1)).is_none());
        let _third = slots.take(who(2)).unwrap();
        assert!(slots.take(who(3)).is_none());
        drop(first);
        assert!(slots.take(who(3)).is_some());
    }

    #[test]
    fn one_address_never_has_all_of_them_however_many_sessions_it_opens() {
        let slots = Slots::new(16, 4);
        let who = |id: u64, last| (VisitorId(id), IpAddr::from([192, 0, 2, last]));
        let taken: Vec<_> = (0..100).filter_map(|id| slots.take(who(id, 1))).collect();
        assert_eq!(taken.len(), 12);
        let others: Vec<_> = (0..100).map_while(|_| slots.take(who(1, 2))).collect();
        assert_eq!(others.len(), 4);
        drop((taken, others));
        assert!(slots.taken.lock().unwrap().from.is_empty() && slots.taken.lock().unwrap().each.is_empty());
    }
}
