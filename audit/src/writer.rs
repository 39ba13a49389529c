//! The writer: takes what is queued, gives each record its place, writes them with one write.
//!
//! Nothing else writes to a journal. What it wrote goes to the syncer, which acknowledges what
//! wants to be durable; what only wants to be written is acknowledged here.

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
    keeper,
    shared::{Group, Shared},
    side::{Salted, SideWriter},
    syncer::{Handover, Waiter},
};

mod encode;

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
    /// Look at the state: something else changed.
    Wake,
}

/// A record to be made.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) draft: Box<Draft>,
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
    /// Nobody.
    Nobody,
}

/// How the writer makes a journal file writable: the file itself, but in tests of failures.
pub(crate) type Wrap = Arc<dyn Fn(std::fs::File) -> Arc<dyn Disk> + Send + Sync>;

/// The writer's state. Runs on its own thread.
pub(crate) struct Writer {
    pub(crate) directory: PathBuf,
    pub(crate) origin: [u8; 16],
    pub(crate) boot: String,
    pub(crate) identity: Identity,
    pub(crate) segment_records: u64,
    pub(crate) shared: Arc<Shared>,
    pub(crate) syncer: SyncSender<Handover>,
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
}

impl Writer {
    /// Works until the log is closed or nobody can send any more.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        let mut messages = Vec::with_capacity(GROUP_RECORDS);
        while queue.blocking_recv_many(&mut messages, GROUP_RECORDS) > 0 {
            self.commit(messages.drain(..));
            if self.shared.closing.load(Ordering::Acquire) {
                // What was queued before is still taken; then the loop ends.
                queue.close();
            }
        }
        if let Err(error) = self.finish() {
            self.shared.set_writing(Err(error.to_string()));
        }
        // A syncer that is gone has nothing left to end.
        let _gone = Handover::End.send(&self.syncer, &self.shared.urgent);
    }

    fn commit(&mut self, messages: impl Iterator<Item = Message>) {
        let mut close = None;
        let mut pending: VecDeque<Pending> = messages
            .filter_map(|message| match message {
                Message::Append(pending) => Some(pending),
                Message::Rotate { first } => {
                    close = Some(first);
                    None
                }
                Message::Wake => None,
            })
            .collect();
        let lost = self.shared.lost.swap(0, Ordering::AcqRel);
        if lost > 0 {
            pending.push_front(Pending {
                draft: Box::new(Draft::of_gap(lost, 0)),
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
        if self.journal.unsynced.is_empty() {
            return Ok(());
        }
        let synced = self
            .shared
            .gate
            .sync(&*self.journal.disk, self.journal.epoch);
        match synced {
            Ok(()) => self.hand_over_synced(),
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
        let durable = self.shared.durable.load(Ordering::Acquire);
        while self
            .journal
            .unsynced
            .front()
            .is_some_and(|group| group.end() <= durable)
        {
            self.journal.unsynced.pop_front();
        }
        if self.shared.gate.has_failed(self.journal.epoch) {
            self.write_again()?;
        }
        Ok(())
    }

    /// After a failed sync: writes what is not durable once more, and syncs it.
    fn write_again(&mut self) -> io::Result<()> {
        self.journal.epoch += 1;
        for group in &self.journal.unsynced {
            group.disk.write_all_at(&group.bytes, group.offset)?;
        }
        // Unsynced groups are all in the open journal: a full one is synced before the next.
        self.shared
            .gate
            .sync(&*self.journal.disk, self.journal.epoch)?;
        self.hand_over_synced()
    }

    /// All that is written is synced.
    fn hand_over_synced(&mut self) -> io::Result<()> {
        self.journal.unsynced.clear();
        let synced = Handover::Synced {
            end: self.journal.next,
        };
        match synced.send(&self.syncer, &self.shared.urgent) {
            true => Ok(()),
            false => Err(gone()),
        }
    }

    /// Begins the next segment. The full one is synced first, so that no record can be durable
    /// when one before it is not.
    fn rotate(&mut self) -> io::Result<()> {
        self.shared
            .gate
            .sync(&*self.journal.disk, self.journal.epoch)?;
        self.journal.unsynced.clear();
        let file = create_journal(&self.directory, self.journal.next, self.origin)?;
        self.journal.disk = (self.wrap)(file);
        self.journal.first = self.journal.next;
        self.journal.offset = frame::HEADER;
        let rotated = Handover::Rotated {
            first: self.journal.first,
        };
        match rotated.send(&self.syncer, &self.shared.urgent) {
            true => Ok(()),
            false => Err(gone()),
        }
    }

    fn write(&mut self, pending: Vec<Pending>, gap: u64) {
        let (group, pending) = self.encode(pending);
        if group.entries.is_empty() {
            return;
        }
        let values = (group.first..)
            .zip(&pending)
            .flat_map(|(seq, pending)| pending.values.iter().map(move |value| (seq, value)));
        if let Err(error) = self.side.append(self.journal.first, values) {
            self.refuse(pending.into_iter(), gap, &error);
            return;
        }
        if let Err(error) = group.disk.write_all_at(&group.bytes, group.offset) {
            // Bytes may be there or not. They go now, or before the next write.
            self.journal.dirty_tail = self.journal.disk.set_len(self.journal.offset).is_err();
            self.refuse(pending.into_iter(), gap, &error);
            return;
        }
        let group = Arc::new(group);
        self.journal.next = group.end();
        self.journal.offset = group.end_offset();
        self.journal.unsynced.push_back(Arc::clone(&group));
        self.shared.written.store(group.end(), Ordering::Release);
        self.hand_over(group, pending);
    }

    fn hand_over(&mut self, group: Arc<Group>, pending: Vec<Pending>) {
        let ids: Vec<RecordId> = group.entries.iter().map(|entry| entry.id).collect();
        let mut synced = Vec::new();
        let mut written = Vec::new();
        for (id, pending) in ids.into_iter().zip(pending) {
            match pending.ack {
                Ack::Synced(waiter) => synced.push((waiter, id)),
                Ack::Written(waiter) => written.push((waiter, id)),
                Ack::Nobody => {}
            }
        }
        let handover = Handover::Group {
            group,
            waiters: synced,
        };
        if !handover.send(&self.syncer, &self.shared.urgent) {
            // Nothing will sync any more, so nothing is acknowledged any more; the waiters that
            // are dropped here get their error.
            self.shared
                .set_writing(Err("its syncing thread is gone".into()));
            return;
        }
        for (waiter, id) in written {
            // A caller that went away acts on nothing.
            let _gone = waiter.send(Ok(id));
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

impl Ack {
    fn refuse(self, message: &str) {
        match self {
            Self::Synced(waiter) | Self::Written(waiter) => refuse(waiter, message),
            Self::Nobody => {}
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

fn gone() -> io::Error {
    io::Error::other("its syncing thread is gone")
}

/// Most records written at once.
const GROUP_RECORDS: usize = 512;
