//! One pass over a log: all its records, or one segment's, with the tree over all of them.
//!
//! A directory and the sizes that checkpoints state in; the root at each of those sizes, and the
//! first fault, out. Judges no signature.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Pruned, Rotation, Said, bad,
    journal::{self, Fault, Journal},
    report::{BadRecord, VerifyError},
    sealed::{self, Part},
    store::{Store, WIDTH},
    tree::{Hash, Tree, root_of},
};

/// Records of a segment.
const SEGMENT: u64 = WIDTH * WIDTH;

/// What a pass found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Records up to the end, or to the first fault.
    pub(super) records: u64,
    pub(super) checked: (u64, u64),
    pub(super) tree: Tree,
    /// Roots of the records, by size.
    pub(super) roots: BTreeMap<u64, Hash>,
    /// The same with the hashes that tiles hold, from the first size at which they differ.
    pub(super) stored_roots: BTreeMap<u64, Hash>,
    /// The first record whose hash is not the one in its tile.
    pub(super) differs: Option<u64>,
    /// The first place where the files end before their time.
    pub(super) fault: Option<BadRecord>,
    /// The first record that is whole, but not what belongs at its place; or a tile that is not.
    pub(super) misplaced: Option<BadRecord>,
    pub(super) rotations: Vec<Rotation>,
    pub(super) prunings: Vec<Pruned>,
    pub(super) unfinished_bytes: u64,
    stored: Option<Tree>,
    /// Hashes that the next tile of each level above the lowest will hold, and its number.
    levels: Vec<(u64, Vec<Hash>)>,
}

/// What a pass is over.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub(super) store: &'a Store,
    pub(super) origin: Option<[u8; 16]>,
    /// Sizes at which the root is wanted.
    pub(super) sizes: &'a BTreeSet<u64>,
    /// A record; only its segment is read.
    pub(super) segment_of: Option<u64>,
}

impl Scope<'_> {
    pub(super) fn run(&self) -> Result<Scan, VerifyError> {
        let mut scan = Scan::default();
        let store = self.store;
        let asked = match self.segment_of {
            Some(seq) => {
                let first = seq / SEGMENT * SEGMENT;
                (first, first.saturating_add(SEGMENT))
            }
            None => (0, u64::MAX),
        };
        let start = asked.0.max(store.minimum).min(store.sealed / WIDTH * WIDTH);
        let end = asked.1.min(store.sealed).max(start);
        self.note_root(&mut scan);
        self.take_stored(&mut scan, start)?;
        sealed::scan(store, start..end, |part| self.take(&mut scan, part));
        if scan.fault.is_none() && end < store.sealed {
            self.take_stored(&mut scan, store.sealed)?;
        }
        if scan.fault.is_none() {
            scan.end_levels(store);
            self.read_journals(&mut scan)?;
        }
        let last = if end < store.sealed {
            end
        } else {
            scan.records
        };
        scan.checked = (start, last.min(scan.records).max(start));
        Ok(scan)
    }

    /// Takes entries up to `end` by their stored hashes: pruned, or not asked for.
    fn take_stored(&self, scan: &mut Scan, end: u64) -> Result<(), VerifyError> {
        let store = self.store;
        let fail = |error| VerifyError::io(&store.directory.join("tile"), &error);
        while scan.records + WIDTH <= end {
            let first = scan.records / WIDTH;
            let (number, skip) = (first / WIDTH, first % WIDTH);
            let until = (end / WIDTH - number * WIDTH).min(WIDTH);
            let Some(hashes) = store.tile(1, number, until).map_err(fail)? else {
                scan.fault = Some(bad(scan.records, "the tile over its bundle is missing"));
                return Ok(());
            };
            let skip = usize::try_from(skip).unwrap_or(usize::MAX);
            let until = usize::try_from(until).unwrap_or(usize::MAX);
            for root in hashes.get(skip..until).unwrap_or_default() {
                self.take_stored_bundle(scan, *root)?;
            }
        }
        if scan.records < end {
            let number = scan.records / WIDTH;
            let width = end - scan.records;
            let Some(hashes) = store.tile(0, number, width).map_err(fail)? else {
                scan.fault = Some(bad(scan.records, "the tile that holds its hash is missing"));
                return Ok(());
            };
            for hash in hashes.iter().take(usize::try_from(width).unwrap_or(0)) {
                scan.push_subtree(0, *hash);
                scan.records += 1;
                self.note_root(scan);
            }
        }
        Ok(())
    }

    fn take_stored_bundle(&self, scan: &mut Scan, root: Hash) -> Result<(), VerifyError> {
        let inside = scan.records + 1..scan.records + WIDTH;
        if scan.records >= self.store.minimum && self.sizes.range(inside).next().is_some() {
            // A checkpoint ends within: its root takes the hashes of the entries before.
            let number = scan.records / WIDTH;
            let fail = |error| VerifyError::io(&self.store.directory.join("tile"), &error);
            let hashes = self.store.tile(0, number, WIDTH).map_err(fail)?;
            if let Some(hashes) = hashes.filter(|hashes| root_of(hashes) == root) {
                let mut tree = scan.tree.clone();
                for (size, hash) in (scan.records + 1..).zip(hashes) {
                    tree.push(hash);
                    if self.sizes.contains(&size) {
                        scan.roots.insert(size, tree.root());
                    }
                }
            }
        }
        scan.push_subtree(8, root);
        scan.records += WIDTH;
        scan.add_level(self.store, 1, root);
        self.note_root(scan);
        Ok(())
    }

    /// Takes what was read of some bundles; false when it ends here.
    fn take(&self, scan: &mut Scan, part: Part) -> bool {
        for bundle in part.bundles {
            let start = scan.records;
            let end = start + bundle.leaves.len() as u64;
            if let (Some(stored), None) = (&bundle.stored, scan.differs) {
                let at = bundle.leaves.iter().zip(stored).position(|(a, b)| a != b);
                let at = at.unwrap_or(stored.len().min(bundle.leaves.len()));
                scan.differs = Some(start + at as u64);
                scan.stored = Some(scan.tree.clone());
            }
            let whole = bundle.leaves.len() as u64 == WIDTH;
            let within = self.sizes.range(start + 1..end).next().is_some();
            if whole && !within && bundle.stored.is_none() {
                scan.push_subtree(8, bundle.root);
                scan.records = end;
                self.note_root(scan);
            } else {
                let hashes = bundle.stored.as_ref().unwrap_or(&bundle.leaves);
                for (at, leaf) in bundle.leaves.iter().enumerate() {
                    scan.tree.push(*leaf);
                    if let Some(stored) = &mut scan.stored {
                        stored.push(*hashes.get(at).unwrap_or(leaf));
                    }
                    scan.records += 1;
                    self.note_root(scan);
                }
            }
            if whole {
                scan.add_level(self.store, 1, bundle.root);
            }
        }
        part.said.into_iter().for_each(|said| scan.hear(said));
        if scan.misplaced.is_none() {
            scan.misplaced = part.misplaced;
        }
        scan.fault = part.fault;
        scan.fault.is_none()
    }

    fn note_root(&self, scan: &mut Scan) {
        if self.sizes.contains(&scan.records) {
            scan.roots.insert(scan.records, scan.tree.root());
            if let Some(stored) = &scan.stored {
                scan.stored_roots.insert(scan.records, stored.root());
            }
        }
    }

    fn read_journals(&self, scan: &mut Scan) -> Result<(), VerifyError> {
        let journals = journal::list(&self.store.directory)?;
        let covered = self.sizes.last().copied().unwrap_or_default();
        for (number, (first, path)) in journals.iter().enumerate() {
            let open = number + 1 == journals.len();
            if !open
                && journals
                    .get(number + 1)
                    .is_some_and(|next| next.0 <= scan.records)
            {
                continue;
            }
            let mut journal = Journal::open(path)?;
            let header = journal.check_header(*first, scan.records, self.origin.as_ref());
            if let Err(why) = header {
                scan.fault = Some(bad(scan.records, why));
                return Ok(());
            }
            let read = journal
                .skip_to(scan.records)
                .and_then(|()| self.read_journal(scan, &mut journal));
            match read {
                Ok(()) => {}
                // Past all checkpoints, at the end of the last journal, and nothing synced after
                // it: what a crash leaves, or a write that is under way.
                Err(fault)
                    if open && scan.records >= covered && fault.may_be_unfinished(&journal) =>
                {
                    scan.unfinished_bytes = journal.rest();
                }
                Err(fault) => {
                    scan.fault = Some(bad(scan.records, fault.problem()));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn read_journal(&self, scan: &mut Scan, journal: &mut Journal) -> Result<(), Fault> {
        while let Some((leaf, said)) = journal.next_record(scan.records)? {
            let hash = super::tree::leaf_hash(leaf);
            scan.push_subtree(0, hash);
            said.into_iter().for_each(|said| scan.hear(said));
            scan.records += 1;
            self.note_root(scan);
        }
        Ok(())
    }
}

impl Scan {
    fn hear(&mut self, said: Said) {
        match said {
            Said::Rotation(rotation) => self.rotations.push(rotation),
            Said::Pruned(pruned) => self.prunings.push(pruned),
        }
    }

    /// Appends what is the same in the records and in the tiles.
    fn push_subtree(&mut self, height: u32, hash: Hash) {
        self.tree.push_subtree(height, hash);
        if let Some(stored) = &mut self.stored {
            stored.push_subtree(height, hash);
        }
    }

    /// Adds the root of a full tile to the level above; a tile that fills up is held against the
    /// stored one.
    fn add_level(&mut self, store: &Store, level: usize, hash: Hash) {
        if self.levels.len() < level {
            self.levels.push((0, Vec::with_capacity(256)));
        }
        let Some((number, hashes)) = self.levels.get_mut(level - 1) else {
            return;
        };
        hashes.push(hash);
        if hashes.len() as u64 == WIDTH {
            let (full, of) = (std::mem::take(hashes), *number);
            *number += 1;
            self.compare_tile(store, level, of, &full);
            self.add_level(store, level + 1, root_of(&full));
        }
    }

    /// Holds the tiles that are not full against the stored ones.
    fn end_levels(&mut self, store: &Store) {
        let levels = std::mem::take(&mut self.levels);
        for (level, (number, hashes)) in (1..).zip(&levels) {
            if !hashes.is_empty() {
                self.compare_tile(store, level, *number, hashes);
            }
        }
    }

    fn compare_tile(&mut self, store: &Store, level: usize, number: u64, hashes: &[Hash]) {
        let tile = u32::try_from(level).ok().and_then(|level| {
            store
                .tile(level, number, hashes.len() as u64)
                .ok()
                .flatten()
        });
        let same = tile.is_some_and(|tile| tile.get(..hashes.len()) == Some(hashes));
        if !same && self.differs.is_none() && self.misplaced.is_none() {
            let entries = (0..level).fold(number, |n, _| n.saturating_mul(WIDTH));
            let seq = entries.saturating_mul(WIDTH);
            let what = format!("tile {level}/{number} over it is missing or damaged");
            self.misplaced = Some(bad(seq, &what));
        }
    }
}
