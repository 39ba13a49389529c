//! Groups: records that were written, on their way through the log's threads, and the memory they
//! are in.
//!
//! Frames of records in, the same bytes out as often as they are asked for. Memory goes round:
//! bounded, and nothing of a record is kept in it. Never touches a file.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
};

use crate::{Kind, RecordId, draft::Owner, files::Disk, frame, shared::held};

/// Records written one behind the other.
#[derive(Debug)]
pub(crate) struct Group {
    /// The journal they are in, and where.
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) offset: u64,
    /// The frames, as written.
    pub(crate) bytes: Vec<u8>,
    pub(crate) first: u64,
    pub(crate) entries: Vec<Entry>,
    /// First record of the segment they are in.
    pub(crate) segment: u64,
    /// Which life of the journal they were written in: see [`SyncGate`](crate::shared::SyncGate).
    pub(crate) epoch: u64,
    /// Where its memory goes when it is done with.
    pub(crate) spare: Arc<Spare>,
}

/// Memory of groups that are done with, for the next ones. Under load many megabytes a second pass
/// through groups, and memory that the system has to give anew each time costs more than what is
/// written to it.
#[derive(Debug, Default)]
pub(crate) struct Spare(Mutex<Vec<Room>>);

/// Memory for one group.
#[derive(Debug, Default)]
struct Room {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// One record of a group.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) leaf: Range<usize>,
    pub(crate) id: RecordId,
    pub(crate) kind: Kind,
    pub(crate) session: Option<Owner>,
}

impl Group {
    /// Gives it room for as much as the group before it had.
    pub(crate) fn make_room(&mut self, before: &Self) {
        let room = self.spare.take(before.bytes.len());
        self.bytes = room.bytes;
        self.entries = room.entries;
        self.entries.reserve(before.entries.len());
    }

    /// Whether the next record belongs into another group.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= FULL
    }

    /// The sequence after its last record.
    pub(crate) fn end(&self) -> u64 {
        // A group is bounded far below 2^64.
        self.first + u64::try_from(self.entries.len()).unwrap_or_default()
    }

    /// Where it ends in its file.
    pub(crate) fn end_offset(&self) -> u64 {
        self.offset + u64::try_from(self.bytes.len()).unwrap_or_default()
    }

    /// Where an entry's frame begins in its file.
    pub(crate) fn offset_of(&self, entry: &Entry) -> u64 {
        let start = entry.leaf.start.saturating_sub(frame::FRAME);
        self.offset + u64::try_from(start).unwrap_or_default()
    }

    /// Its records with their sequences and leaves.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u64, &Entry, &[u8])> {
        (self.first..).zip(&self.entries).map(|(seq, entry)| {
            let leaf = self.bytes.get(entry.leaf.clone()).unwrap_or_default();
            (seq, entry, leaf)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.spare.put(Room {
            bytes: std::mem::take(&mut self.bytes),
            entries: std::mem::take(&mut self.entries),
        });
    }
}

impl Spare {
    /// Room for a group of about `bytes` bytes.
    fn take(&self, bytes: usize) -> Room {
        if bytes < SMALL {
            return Room {
                bytes: Vec::with_capacity(bytes),
                entries: Vec::new(),
            };
        }
        held(&self.0).pop().unwrap_or_else(|| Room {
            bytes: Vec::with_capacity(ROOM),
            entries: Vec::new(),
        })
    }

    /// Keeps what is of the usual size, as long as there is little of it.
    fn put(&self, mut room: Room) {
        if !(ROOM..=2 * ROOM).contains(&room.bytes.capacity()) {
            return;
        }
        // Not under the lock: it lets go of what the entries hold.
        room.entries.clear();
        room.bytes.clear();
        let mut rooms = held(&self.0);
        if rooms.len() < MOST_ROOMS {
            rooms.push(room);
        }
    }
}

/// Bytes that a group has room for.
const ROOM: usize = 64 * 1024;

/// Bytes from which on a group is closed: most records still fit behind them.
const FULL: usize = ROOM - 4 * 1024;

/// A group that follows one of fewer bytes begins with no more than those.
const SMALL: usize = 8 * 1024;

/// Rooms that are kept: what passes in the time of two syncs under load.
const MOST_ROOMS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_round_empty_and_bounded() {
        let spare = Spare::default();
        let rooms: Vec<Room> = (0..2 * MOST_ROOMS).map(|_| spare.take(FULL)).collect();
        for mut room in rooms {
            room.bytes.extend_from_slice(b"a record");
            spare.put(room);
        }
        assert_eq!(held(&spare.0).len(), MOST_ROOMS);
        let again = spare.take(FULL);
        assert!(again.bytes.is_empty() && again.bytes.capacity() >= ROOM);
        assert_eq!(
            held(&spare.0).len(),
            MOST_ROOMS - 1,
            "it was taken from there"
        );
    }

    #[test]
    fn only_room_of_the_usual_size_is_kept() {
        let spare = Spare::default();
        assert!(spare.take(100).bytes.capacity() < SMALL);
        for capacity in [0, 100, 3 * ROOM] {
            spare.put(Room {
                bytes: Vec::with_capacity(capacity),
                entries: Vec::new(),
            });
        }
        assert_eq!(held(&spare.0).len(), 0);
    }
}
