//! Reads and hashes sealed entries, several bundles at a time on several cores.
//!
//! Bundles and lowest tiles in, leaf hashes out, in order. The tree above them is the caller's.

use std::{
    ops::Range,
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use super::{
    Claim, Said, bad,
    report::BadRecord,
    store::{self, Store, WIDTH},
    tree::{Hash, leaf_hash, root_of},
};

/// What was found in some neighbouring bundles.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) bundles: Vec<Bundle>,
    /// What ends them before their time.
    pub(super) fault: Option<BadRecord>,
    /// Records that are whole, but not what belongs at their place.
    pub(super) misplaced: Option<BadRecord>,
    /// What they say that matters to whoever verifies.
    pub(super) said: Vec<Said>,
}

/// What was found in one bundle.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) leaves: Vec<Hash>,
    pub(super) root: Hash,
    /// What its tile holds, where that differs; empty where there is none.
    pub(super) stored: Option<Vec<Hash>>,
}

/// Bundles per part: 16,384 records.
const PART: u64 = 64;

/// Reads the entries in `range` (from the beginning of a bundle on) on all cores and gives what is
/// found to `take`, in order, until it returns false.
pub(super) fn scan(store: &Store, range: Range<u64>, mut take: impl FnMut(Part) -> bool) {
    let first = range.start / WIDTH;
    let parts = range
        .end
        .div_ceil(WIDTH)
        .saturating_sub(first)
        .div_ceil(PART);
    let workers = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let (workers, range) = (workers.min(parts.max(1)), &range);
    thread::scope(|scope| {
        let queues: Vec<Receiver<Part>> = (0..workers)
            .map(|worker| {
                // Bounded, so that no worker runs away from the one that puts it together.
                let (send, queue) = sync_channel(2);
                scope.spawn(move || {
                    for part in (worker..parts).step_by(usize::try_from(workers).unwrap_or(1)) {
                        let from = first + part * PART;
                        if send.send(read_part(store, from, range)).is_err() {
                            break;
                        }
                    }
                });
                queue
            })
            .collect();
        for queue in queues.iter().cycle() {
            match queue.recv() {
                Ok(part) => {
                    if !take(part) {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        drop(queues);
    });
}

fn read_part(store: &Store, from: u64, range: &Range<u64>) -> Part {
    let mut part = Part::default();
    let until = (from + PART).min(range.end.div_ceil(WIDTH));
    for number in from..until {
        let start = number * WIDTH;
        let width = (range.end - start).min(WIDTH);
        if !read_bundle(store, number, width, &mut part) {
            break;
        }
    }
    part
}

/// Takes one bundle in; false when it breaks off.
fn read_bundle(store: &Store, number: u64, width: u64, part: &mut Part) -> bool {
    let start = number * WIDTH;
    let bytes = match store.bundle(number, width) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            part.fault = Some(bad(start, "its bundle is missing"));
            return false;
        }
        Err(error) => {
            part.fault = Some(bad(start, &format!("its bundle cannot be read: {error}")));
            return false;
        }
    };
    let mut hashes = Vec::with_capacity(256);
    let mut entries = store::leaves(&bytes);
    for seq in start..start + width {
        let leaf = match entries.next() {
            Some(Ok(leaf)) => leaf,
            Some(Err(why)) => {
                part.fault = Some(bad(seq, why));
                break;
            }
            None => {
                part.fault = Some(bad(seq, "it is missing: its bundle ends before it"));
                break;
            }
        };
        match Claim::read(leaf, seq) {
            Ok(said) => part.said.extend(said),
            Err(why) => {
                part.misplaced.get_or_insert_with(|| bad(seq, &why));
            }
        }
        hashes.push(leaf_hash(leaf));
    }
    if part.fault.is_none() && width == WIDTH && entries.next().is_some() {
        part.fault = Some(bad(
            start + width,
            "there is more in the bundle before it than fits",
        ));
    }
    // Of a tile that was written wider than what is asked for, the beginning counts.
    let tile = store
        .tile(0, number, width)
        .ok()
        .flatten()
        .unwrap_or_default();
    let same = tile.get(..hashes.len()) == Some(&hashes);
    part.bundles.push(Bundle {
        root: root_of(&hashes),
        leaves: hashes,
        stored: (!same).then(|| tile.into_iter().take(256).collect()),
    });
    part.fault.is_none()
}
