//! The writer: takes what is queued, gives each record its place, writes them with one write.
//!
//! Nothing else writes to a journal. What it wrote waits here for the syncer, which acknowledges
//! what wants to be durable; what only wants to be written is acknowledged here. Who writes, and on
//! which thread, is for the [`Desk`](crate::desk::Desk) to say.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering, mpsc::SyncSender},
    time::Instant,
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    RecordError, RecordId,
    draft::{Draft, Identity},
    files::{self, Disk},
    frame::{self, Header},
    group::Group,
    keeper,
    shared::{Ring, Shared},
    side::{Salted, SideWriter},
    syncer::{Handover, Waiter},
};

mod encode;
mod turn;

/// What is queued for the writer.
#[derive(Debug)]
pub(crate) enum Message {
    /// A record to be made.
    Append(Pending),
    /// Close the journal that begins here, if it is still open and has records.
    Rotate {
        /// Its first record.
        first: u64,
    },
}

/// A record to be made.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) draft: Draft,
    /// What the record commits to and the side store keeps.
    pub(crate) values: Vec<Salted>,
    pub(crate) ack: Ack,
    pub(crate) since: Instant,
}

/// Who waits for a record, and for how much.
#[derive(Debug)]
pub(crate) enum Ack {
    /// Until it is on stable storage.
    Synced(Waiter),
    /// Until it is written.
    Written(Waiter),
    /// As before, and it is whoever has the pen: the answer stays with the writer.
    Here,
    /// Nobody.
    Nobody,
}

/// How the writer makes a journal file writable: the file itself, but in tests of failures.
pub(crate) type Wrap = Arc<dyn Fn(std::fs::File) -> Arc<dyn Disk> + Send + Sync>;

/// The writer's state.
pub(crate) struct Writer {
    pub(crate) inbox: mpsc::Receiver<Message>,
    /// Taken from the inbox and left to the log's own thread.
    pub(crate) left: VecDeque<Message>,
    pub(crate) directory: PathBuf,
    pub(crate) origin: [u8; 16],
    pub(crate) identity: Identity,
    pub(crate) segment_records: u64,
    pub(crate) shared: Arc<Shared>,
    /// What the syncer has not taken yet, before the open group.
    pub(crate) tray: Vec<Handover>,
    /// How urgently the syncer is wanted.
    pub(crate) ring: Ring,
    /// The record that whoever has the pen wanted to be written, once it is.
    pub(crate) answer: Option<RecordId>,
    pub(crate) keeper: SyncSender<keeper::Message>,
    pub(crate) wrap: Wrap,
    pub(crate) journal: Journal,
    pub(crate) side: SideWriter,
}

/// The journal that is written to.
pub(crate) struct Journal {
    pub(crate) disk: Arc<dyn Disk>,
    /// Its first record.
    pub(crate) first: u64,
    /// Sequence of the next record.
    pub(crate) next: u64,
    /// Where the next frame goes.
    pub(crate) offset: u64,
    /// Which life of the journal this is: see [`crate::shared::SyncGate`].
    pub(crate) epoch: u64,
    /// A failed write may have left bytes at `offset` that have to go first.
    pub(crate) dirty_tail: bool,
    /// Written and not known to be durable; what a failed sync makes us write again.
    pub(crate) unsynced: VecDeque<Arc<Group>>,
    /// Written after those, and not taken by the syncer yet.
    pub(crate) open: Group,
    /// Who waits until the open group is durable.
    pub(crate) waiters: Vec<(Waiter, RecordId)>,
}

impl Writer {
    fn commit(&mut self, messages: impl Iterator<Item = Message>) {
        let mut close = None;
        let mut pending: VecDeque<Pending> = messages
            .filter_map(|message| match message {
                Message::Append(pending) => Some(pending),
                Message::Rotate { first } => {
                    close = Some(first);
                    None
                }
            })
            .collect();
        let lost = self.shared.lost.swap(0, Ordering::AcqRel);
        if lost > 0 {
            pending.push_front(Pending {
                draft: Draft::of_gap(lost, 0),
                values: Vec::new(),
                ack: Ack::Nobody,
                since: Instant::now(),
            });
        }
        if pending.is_empty() && self.shared.cannot_write() {
            self.repair();
        }
        let mut first = true;
        while !pending.is_empty() {
            // The gap comes first, so it is among the refused exactly when the first write fails.
            let gap = if std::mem::take(&mut first) { lost } else { 0 };
            if let Err(error) = self.prepare() {
                self.refuse(pending.drain(..), gap, &error);
                return;
            }
            let room = self.journal_end().saturating_sub(self.journal.next);
            let room = usize::try_from(room).unwrap_or(usize::MAX).max(1);
            let group = pending.drain(..pending.len().min(room)).collect();
            self.write(group, gap);
        }
        // A failure leaves it as it is; the keeper asks again.
        if close == Some(self.journal.first)
            && self.journal.next > self.journal.first
            && let Err(error) = self.prepare().and_then(|()| self.rotate())
        {
            self.shared.set_writing(Err(error.to_string()));
        }
    }

    /// Journals end at multiples of a segment's records, so that segments do.
    fn journal_end(&self) -> u64 {
        let full = self.journal.first / self.segment_records + 1;
        full.saturating_mul(self.segment_records)
    }

    fn repair(&mut self) {
        if let Err(error) = self.prepare() {
            self.shared.set_writing(Err(error.to_string()));
        }
    }

    /// Makes the journal ready for a write: whole, trusted, and with room in its segment.
    fn prepare(&mut self) -> io::Result<()> {
        self.mend()?;
        if self.journal.next >= self.journal_end() {
            self.rotate()?;
        }
        Ok(())
    }

    /// Makes all that is written durable. The last sync is the writer's, who can write again what
    /// a failed one may have lost.
    fn finish(&mut self) -> io::Result<()> {
        self.mend()?;
        self.put_down();
        if self.journal.unsynced.is_empty() {
            return Ok(());
        }
        let synced = self
            .shared
            .gate
            .sync(&*self.journal.disk, self.journal.epoch);
        match synced {
            Ok(()) => {
                self.all_synced();
                Ok(())
            }
            Err(_) => self.write_again(),
        }
    }

    /// Undoes what failed: removes what an unfinished write left, writes again what a failed sync
    /// may have lost.
    fn mend(&mut self) -> io::Result<()> {
        if self.journal.dirty_tail {
            self.journal.disk.set_len(self.journal.offset)?;
            self.journal.dirty_tail = false;
        }
        if self.shared.syncer_gone.load(Ordering::Acquire) {
            // Nothing will sync any more, so nothing is acknowledged any more.
            return Err(io::Error::other("its syncing thread is gone"));
        }
        self.forget_durable();
        if self.shared.gate.has_failed(self.journal.epoch) {
            self.write_again()?;
        }
        Ok(())
    }

    fn forget_durable(&mut self) {
        let durable = self.shared.durable.load(Ordering::Acquire);
        let unsynced = &mut self.journal.unsynced;
        while unsynced.front().is_some_and(|group| group.end() <= durable) {
            unsynced.pop_front();
        }
    }

    /// After a failed sync: writes what is not durable once more, and syncs it.
    fn write_again(&mut self) -> io::Result<()> {
        self.put_down();
        for group in &self.journal.unsynced {
            group.disk.write_all_at(&group.bytes, group.offset)?;
        }
        // INVARIANT: only once all of it is written. What stopped on the way is as little durable
        // as before, and the failed epoch is what says so.
        self.journal.epoch += 1;
        self.journal.open.epoch = self.journal.epoch;
        // Unsynced groups are all in the open journal: a full one is synced before the next.
        self.shared
            .gate
            .sync(&*self.journal.disk, self.journal.epoch)?;
        self.all_synced();
        Ok(())
    }

    /// All that is written is synced.
    fn all_synced(&mut self) {
        self.journal.unsynced.clear();
        self.put(Handover::Synced {
            end: self.journal.next,
        });
    }

    /// Begins the next segment. The full one is synced first, so that no record can be durable
    /// when one before it is not.
    fn rotate(&mut self) -> io::Result<()> {
        self.put_down();
        self.shared
            .gate
            .sync(&*self.journal.disk, self.journal.epoch)?;
        self.journal.unsynced.clear();
        let file = create_journal(&self.directory, self.journal.next, self.origin)?;
        self.journal.disk = (self.wrap)(file);
        self.journal.first = self.journal.next;
        self.journal.offset = frame::HEADER;
        self.journal.open = self.journal.group();
        self.put(Handover::Rotated {
            first: self.journal.first,
        });
        Ok(())
    }

    /// Closes the open group, so that the syncer can take it.
    fn put_down(&mut self) {
        if self.journal.open.entries.is_empty() {
            return;
        }
        let mut next = self.journal.group();
        // As much comes as came just now, mostly.
        next.make_room(&self.journal.open);
        let group = Arc::new(std::mem::replace(&mut self.journal.open, next));
        self.journal.unsynced.push_back(Arc::clone(&group));
        self.tray.push(Handover::Group {
            group,
            waiters: std::mem::take(&mut self.journal.waiters),
        });
    }

    /// Leaves something else than records for the syncer.
    fn put(&mut self, handover: Handover) {
        self.put_down();
        self.tray.push(handover);
        self.ring = Ring::Now;
    }

    fn write(&mut self, pending: Vec<Pending>, gap: u64) {
        let (bytes, entries) = (
            self.journal.open.bytes.len(),
            self.journal.open.entries.len(),
        );
        let pending = self.encode(pending);
        if pending.is_empty() {
            return;
        }
        let values = (self.journal.next..)
            .zip(&pending)
            .flat_map(|(seq, pending)| pending.values.iter().map(move |value| (seq, value)));
        let mut written = self.side.append(self.journal.first, values);
        if written.is_ok() {
            let bytes = self.journal.open.bytes.get(bytes..).unwrap_or_default();
            let to = self.journal.offset;
            written = self.journal.disk.write_all_at(bytes, to);
            if written.is_err() {
                // Bytes may be there or not. They go now, or before the next write.
                self.journal.dirty_tail = self.journal.disk.set_len(to).is_err();
            }
        }
        if let Err(error) = written {
            self.journal.open.bytes.truncate(bytes);
            self.journal.open.entries.truncate(entries);
            self.refuse(pending.into_iter(), gap, &error);
            return;
        }
        self.journal.next = self.journal.open.end();
        self.journal.offset = self.journal.open.end_offset();
        self.shared.wrote(self.journal.next);
        self.acknowledge(entries, pending);
        if self.journal.open.is_full() {
            self.put_down();
        }
    }

    /// Answers those who wanted their records to be written: those of the open group from entry
    /// `from` on.
    fn acknowledge(&mut self, from: usize, pending: Vec<Pending>) {
        self.ring = self.ring.max(Ring::Soon);
        let Journal { open, waiters, .. } = &mut self.journal;
        for (entry, pending) in open.entries.iter().skip(from).zip(pending) {
            match pending.ack {
                Ack::Synced(waiter) => {
                    waiters.push((waiter, entry.id));
                    self.ring = Ring::Now;
                }
                Ack::Written(waiter) => {
                    // A caller that went away acts on nothing.
                    let _gone = waiter.send(Ok(entry.id));
                }
                Ack::Here => self.answer = Some(entry.id),
                Ack::Nobody => {}
            }
        }
    }

    /// Answers with an error, and keeps count of it for the next `log.gap`. `gap` is the count
    /// of a gap record that is itself among the refused.
    fn refuse(&self, pending: impl Iterator<Item = Pending>, gap: u64, error: &io::Error) {
        let pending: Vec<Pending> = pending.collect();
        // Counted and told before anyone is answered, so that whoever asks then knows.
        self.shared.lost.fetch_add(gap, Ordering::AcqRel);
        self.shared
            .add_lost(pending.len().saturating_sub(usize::from(gap > 0)));
        self.shared.set_writing(Err(error.to_string()));
        let message = format!("the log cannot be written: {error}");
        for pending in pending {
            pending.ack.refuse(&message);
        }
        // A keeper that is busy looks at the state by itself soon.
        let _busy = self.keeper.try_send(keeper::Message::Trouble);
    }
}

impl Journal {
    /// An empty group where the next record goes.
    pub(crate) fn group(&self) -> Group {
        Group {
            disk: Arc::clone(&self.disk),
            offset: self.offset,
            bytes: Vec::new(),
            first: self.next,
            entries: Vec::new(),
            segment: self.first,
            epoch: self.epoch,
            spare: Arc::clone(&self.open.spare),
        }
    }
}

impl Ack {
    fn refuse(self, message: &str) {
        match self {
            Self::Synced(waiter) | Self::Written(waiter) => refuse(waiter, message),
            // No answer is a refusal.
            Self::Here | Self::Nobody => {}
        }
    }
}

/// Makes the journal file of the segment that begins with `first`, durable with its header.
pub(crate) fn create_journal(
    directory: &Path,
    first: u64,
    origin: [u8; 16],
) -> io::Result<std::fs::File> {
    let path = files::path_of(directory, "journal", first, ".log");
    let header = Header {
        first_seq: first,
        origin,
    };
    // Whole or not at all. What an earlier attempt may have left holds no record: a journal is
    // written to only once it is made.
    files::replace(&path, &header.encode())?;
    files::open(&path)
}

/// Answers one waiter with an error.
pub(crate) fn refuse(waiter: oneshot::Sender<Result<RecordId, RecordError>>, message: &str) {
    // A caller that went away acts on nothing.
    let _gone = waiter.send(Err(RecordError {
        message: message.into(),
    }));
}

/// Most records written at once.
const GROUP_RECORDS: usize = 512;

/// Most records that are written and not durable: beyond that, callers wait.
const MOST_UNDURABLE: u64 = 16 * 1024;
