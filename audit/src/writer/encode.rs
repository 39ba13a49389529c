//! Makes a group of records out of drafts: each gets its place, its leaf and its frame.

use std::time::{Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use uuid::Uuid;

use super::{Ack, Pending, Writer};
use crate::{
    RecordId,
    draft::{Place, int},
    frame,
    group::Entry,
};

impl Writer {
    /// Puts all leaves into frames behind those of the open group; refuses those that are no leaf,
    /// and gives the others back.
    pub(super) fn encode(&mut self, mut pending: Vec<Pending>) -> Vec<Pending> {
        let Self {
            journal,
            identity,
            shared,
            ..
        } = self;
        let mut seq = journal.next;
        let open = &mut journal.open;
        let synced = journal
            .unsynced
            .front()
            .map_or(open.offset, |group| group.offset);
        let encoded = |pending: &mut Pending| {
            let id = RecordId(Uuid::now_v7());
            let place = place(seq, id, pending.since);
            let bytes = &mut open.bytes;
            let start = frame::reserve(bytes);
            if let Err(message) = pending.draft.write_leaf(place, identity, bytes) {
                bytes.truncate(start);
                let ack = std::mem::replace(&mut pending.ack, Ack::Nobody);
                ack.refuse(&message);
                shared.add_lost(1);
                return false;
            }
            frame::seal(bytes, start, seq, synced);
            open.entries.push(Entry {
                leaf: start + frame::FRAME..bytes.len(),
                id,
                kind: pending.draft.kind(),
                session: pending.draft.session(),
            });
            seq += 1;
            true
        };
        pending.retain_mut(encoded);
        pending
    }
}

fn place(seq: u64, id: RecordId, since: Instant) -> Place {
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
    }
}
