//! Counters by name, bounded: what does not fit any more is counted together.

use std::{collections::HashMap, hash::Hash};

/// Values by key, at most so many; what came too late is only counted.
#[derive(Debug)]
pub(crate) struct Bounded<K, V> {
    most: usize,
    kept: HashMap<K, V>,
    others: u64,
}

impl<K: Eq + Hash, V> Bounded<K, V> {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            kept: HashMap::new(),
            others: 0,
        }
    }

    /// The value of `key`, made where it is new and there is room.
    pub(crate) fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> Option<&mut V> {
        if self.kept.len() >= self.most && !self.kept.contains_key(&key) {
            self.others = self.others.saturating_add(1);
            return None;
        }
        Some(self.kept.entry(key).or_insert_with(make))
    }

    /// How often there was no room.
    pub(crate) fn others(&self) -> u64 {
        self.others
    }

    pub(crate) fn into_kept(self) -> HashMap<K, V> {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut tally = Bounded::new(2);
        for key in ["a", "b", "c", "a", "d"] {
            if let Some(count) = tally.entry(key, || 0) {
                *count += 1;
            }
        }
        assert_eq!(tally.others(), 2);
        assert_eq!(tally.into_kept(), HashMap::from([("a", 2), ("b", 1)]));
    }
}
