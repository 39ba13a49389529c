//! What whoever has the pen does with it: a part of what is queued, all of it, or the end.
//!
//! Messages of the inbox in, records in the journal and work for the syncer out. Never waits for
//! the disk where a caller has the pen.

use std::sync::atomic::Ordering;

use super::{GROUP_RECORDS, MOST_UNDURABLE, Message, Pending, Writer};
use crate::{RecordId, shared::Ring, syncer::Handover};

impl Writer {
    /// Writes what is queued as far as that is nothing but a write, and `own` behind it; `own`
    /// stays where that cannot be. Gives how many messages were taken from the queue, and whether
    /// nothing is left.
    pub(crate) fn write_simple(&mut self, own: &mut Option<Pending>) -> (usize, bool) {
        let mut received = 0;
        loop {
            if !self.left.is_empty() {
                return (received, false);
            }
            let most = self.room().min(GROUP_RECORDS);
            if most == 0 || !self.is_sound() {
                return (received, self.inbox.is_empty());
            }
            let mut pending = Vec::new();
            while pending.len() < most
                && let Ok(message) = self.inbox.try_recv()
            {
                received += 1;
                match message {
                    Message::Append(simple) if simple.values.is_empty() => pending.push(simple),
                    other => {
                        self.left.push_back(other);
                        break;
                    }
                }
            }
            // Behind all that was queued before it; a log that was closed takes nothing more.
            if pending.len() < most && self.left.is_empty() && !self.inbox.is_closed() {
                pending.extend(own.take());
            }
            if pending.is_empty() {
                return (received, self.left.is_empty());
            }
            self.write(pending, 0);
        }
    }

    /// The id of the record that whoever has the pen brought, where it was written.
    pub(crate) fn take_answer(&mut self) -> Option<RecordId> {
        self.answer.take()
    }

    /// Writes a group of what is queued, with all that it takes. Gives how many messages were taken
    /// from the queue, and whether more are there.
    pub(crate) fn write_queued(&mut self) -> (usize, bool) {
        let mut received = 0;
        while self.left.len() < GROUP_RECORDS
            && let Ok(message) = self.inbox.try_recv()
        {
            received += 1;
            self.left.push_back(message);
        }
        let messages = std::mem::take(&mut self.left);
        self.commit(messages.into_iter());
        (received, !self.inbox.is_empty())
    }

    /// Writes what is still queued, makes all of it durable, and ends.
    pub(crate) fn end(&mut self) -> usize {
        self.inbox.close();
        let mut received = 0;
        // Nothing more, once those are through who had a place already.
        while let Some(message) = self.inbox.blocking_recv() {
            received += 1;
            self.left.push_back(message);
            if self.left.len() >= GROUP_RECORDS {
                let messages = std::mem::take(&mut self.left);
                self.commit(messages.into_iter());
            }
        }
        let messages = std::mem::take(&mut self.left);
        self.commit(messages.into_iter());
        if let Err(error) = self.finish() {
            self.shared.set_writing(Err(error.to_string()));
        }
        self.put(Handover::End);
        received
    }

    /// What the syncer has to do, in order.
    pub(crate) fn hand_over(&mut self) -> Vec<Handover> {
        self.put_down();
        self.forget_durable();
        std::mem::take(&mut self.tray)
    }

    /// How urgently the syncer is wanted for what was done since this was asked last.
    pub(crate) fn take_ring(&mut self) -> Option<Ring> {
        let ring = std::mem::take(&mut self.ring);
        (ring != Ring::Not).then_some(ring)
    }

    /// Whether the syncer has as much to do as it may have. After a failed sync it can do none of
    /// it: only the writer can, by writing it again.
    pub(crate) fn is_full(&self) -> bool {
        self.undurable() >= MOST_UNDURABLE && !self.shared.gate.has_failed(self.journal.epoch)
    }

    /// Whoever had the pen broke off in the middle: nobody knows what was written.
    pub(crate) fn give_up(&mut self) {
        self.shared
            .set_writing(Err("it broke off in the middle of a write".into()));
        self.inbox.close();
        self.left.clear();
        self.journal.waiters.clear();
        // Those who wait are told by the loss of it.
        while self.inbox.try_recv().is_ok() {}
    }

    /// Whether nothing is to be mended, said or waited for before a write.
    fn is_sound(&self) -> bool {
        !self.journal.dirty_tail
            && !self.shared.gate.has_failed(self.journal.epoch)
            && !self.shared.cannot_write()
            && self.shared.lost.load(Ordering::Acquire) == 0
            && !self.shared.syncer_gone.load(Ordering::Acquire)
    }

    /// Records for which there is room in the journal and with the syncer.
    fn room(&self) -> usize {
        let journal = self.journal_end().saturating_sub(self.journal.next);
        let syncer = MOST_UNDURABLE.saturating_sub(self.undurable());
        usize::try_from(journal.min(syncer)).unwrap_or(usize::MAX)
    }

    /// Written records that are not known to be durable.
    fn undurable(&self) -> u64 {
        let durable = self.shared.durable.load(Ordering::Acquire);
        self.journal.next.saturating_sub(durable)
    }
}
