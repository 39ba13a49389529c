//! Any hash of the tree: from the tiles, and beyond them from the records of the journal.

use super::{Leaves, ProveError, damaged};
use crate::verify::{
    store::{Store, WIDTH},
    tree::{Hash, leaf_hash, node, root_of},
};

/// The hashes of a log.
#[derive(Debug)]
pub(super) struct Hashes {
    store: Store,
    /// Leaf hashes of the records that are not sealed.
    unsealed: Vec<Hash>,
}

impl Hashes {
    pub(super) fn new(store: Store) -> Result<Self, ProveError> {
        let mut unsealed = Vec::new();
        for leaf in Leaves::from(&store.directory, store.sealed) {
            unsealed.push(leaf_hash(&leaf?.1));
        }
        Ok(Self { store, unsealed })
    }

    /// Root of the first `size` records.
    pub(super) fn root(&mut self, size: u64) -> Result<Hash, ProveError> {
        if size == 0 {
            return Ok(root_of(&[]));
        }
        self.range(0, size)
    }

    /// The hashes from a leaf's sibling up. Source: RFC 6962 section 2.1.1.
    pub(super) fn inclusion(&mut self, index: u64, size: u64) -> Result<Vec<Hash>, ProveError> {
        let (mut start, mut end, mut path) = (0, size, Vec::new());
        while end - start > 1 {
            let middle = start + split(end - start);
            if index < middle {
                path.push(self.range(middle, end)?);
                end = middle;
            } else {
                path.push(self.range(start, middle)?);
                start = middle;
            }
        }
        path.reverse();
        Ok(path)
    }

    /// The hashes that lead from an old root to a new one. Source: RFC 6962 section 2.1.2.
    pub(super) fn consistency(&mut self, old: u64, new: u64) -> Result<Vec<Hash>, ProveError> {
        let mut path = Vec::new();
        if old == 0 || old == new {
            return Ok(path);
        }
        let (mut start, mut end, mut whole) = (0, new, true);
        while end > old {
            let middle = start + split(end - start);
            if old <= middle {
                path.push(self.range(middle, end)?);
                end = middle;
            } else {
                path.push(self.range(start, middle)?);
                start = middle;
                whole = false;
            }
        }
        // The old tree itself is known to whoever asks, unless it is only a part of one.
        if !whole {
            path.push(self.range(start, end)?);
        }
        path.reverse();
        Ok(path)
    }

    /// Root of the records from `start` to before `end`, as a part of the tree.
    fn range(&mut self, start: u64, end: u64) -> Result<Hash, ProveError> {
        let count = end - start;
        if count.is_power_of_two() {
            return self.subtree(count.trailing_zeros(), start >> count.trailing_zeros());
        }
        let middle = start + split(count);
        let left = self.range(start, middle)?;
        Ok(node(&left, &self.range(middle, end)?))
    }

    /// The perfect subtree `index` of 2^`height` records.
    fn subtree(&mut self, height: u32, index: u64) -> Result<Hash, ProveError> {
        let end = (index + 1) << height;
        if end <= self.store.sealed {
            // A tile of level L holds subtrees of height 8 L; those between are made of them.
            let (level, above) = (height / 8, height % 8);
            let first = index << above;
            let (tile, skip) = (first / WIDTH, first % WIDTH);
            let until = skip + (1 << above);
            let read = self.store.tile(level, tile, until);
            let what = || damaged(&format!("tile {level}/{tile} is missing"));
            let hashes = read.ok().flatten().ok_or_else(what)?;
            let range = usize::try_from(skip).ok().zip(usize::try_from(until).ok());
            let part = range.and_then(|(from, to)| hashes.get(from..to));
            return part.map(root_of).ok_or_else(what);
        }
        if height == 0 {
            let at = usize::try_from(index - self.store.sealed).ok();
            let hash = at.and_then(|at| self.unsealed.get(at)).copied();
            return hash.ok_or_else(|| damaged(&format!("record {index} is missing")));
        }
        let left = self.subtree(height - 1, 2 * index)?;
        Ok(node(&left, &self.subtree(height - 1, 2 * index + 1)?))
    }
}

/// The largest power of two below `count`.
fn split(count: u64) -> u64 {
    count.next_power_of_two() / 2
}
