//! Makes a group of records out of drafts: each gets its place, its leaf and its frame.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use rustix::time::{ClockId, clock_gettime};
use uuid::Uuid;

use super::{Pending, Writer};
use crate::{
    RecordId,
    draft::{Place, int},
    frame,
    shared::{Entry, Group},
};

impl Writer {
    /// Puts all leaves into frames; refuses those that are no leaf.
    pub(super) fn encode(&self, pending: Vec<Pending>) -> (Group, Vec<Pending>) {
        let mut bytes = Vec::with_capacity(pending.len() * 1024);
        let mut entries = Vec::with_capacity(pending.len());
        let mut kept = Vec::with_capacity(pending.len());
        let synced = self
            .journal
            .unsynced
            .front()
            .map_or(self.journal.offset, |group| group.offset);
        let mut seq = self.journal.next;
        for mut pending in pending {
            let id = RecordId(Uuid::now_v7());
            let place = self.place(seq, id, pending.since);
            let start = frame::reserve(&mut bytes);
            match pending.draft.write_leaf(place, &mut bytes) {
                Ok(()) => {
                    frame::seal(&mut bytes, start, seq, synced);
                    entries.push(Entry {
                        leaf: start + frame::FRAME..bytes.len(),
                        id,
                        kind: pending.draft.kind(),
                        session: pending.draft.session().map(str::to_owned),
                    });
                    kept.push(pending);
                    seq += 1;
                }
                Err(message) => {
                    bytes.truncate(start);
                    pending.ack.refuse(&message);
                    self.shared.add_lost(1);
                }
            }
        }
        let group = Group {
            disk: Arc::clone(&self.journal.disk),
            offset: self.journal.offset,
            bytes,
            first: self.journal.next,
            entries,
            segment: self.journal.first,
            epoch: self.journal.epoch,
        };
        (group, kept)
    }

    fn place(&self, seq: u64, id: RecordId, since: Instant) -> Place<'_> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let monotonic = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(monotonic.tv_sec).unwrap_or_default();
        let micros = u64::try_from(monotonic.tv_nsec).unwrap_or_default() / 1_000;
        Place {
            seq,
            id,
            ts_us: now.map_or(0, |since| int(since.as_micros())),
            mono_us: seconds.saturating_mul(1_000_000).saturating_add(micros),
            queue_us: int(since.elapsed().as_micros()),
            boot: &self.boot,
            identity: &self.identity,
        }
    }
}
