//! The syncer: makes written groups durable, acknowledges them, and hands them to the keeper.
//!
//! Groups that somebody waits for are synced at once, as many as have come by then with one
//! `fdatasync`; others within [`LogOptions::sync_within`](crate::LogOptions::sync_within).

use std::{
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    RecordError, RecordId, keeper,
    shared::{Bell, Group, Shared},
    writer::refuse,
};

/// Where the outcome of one record goes.
pub(crate) type Waiter = oneshot::Sender<Result<RecordId, RecordError>>;

/// What the syncer is handed.
#[derive(Debug)]
pub(crate) enum Handover {
    /// Written records, and who waits until they are durable.
    Group {
        group: Arc<Group>,
        waiters: Vec<(Waiter, RecordId)>,
    },
    /// The writer has synced everything before `end`, and written it again where it had to.
    Synced { end: u64 },
    /// A journal begins with this record; all before it are in closed ones, and synced.
    Rotated { first: u64 },
    /// Somebody waits for the index: do not wait for the deadline.
    Hurry,
    /// Sync what there is, and end.
    End,
}

impl Handover {
    /// Hands it over; false when the syncer is gone. Waits only while the syncer has as much to
    /// do as it may have.
    pub(crate) fn send(self, syncer: &SyncSender<Self>, urgent: &Bell) -> bool {
        let waits = !matches!(&self, Self::Group { waiters, .. } if waiters.is_empty());
        let sent = match syncer.try_send(self) {
            Ok(()) => true,
            Err(TrySendError::Full(handover)) => {
                urgent.ring();
                syncer.send(handover).is_ok()
            }
            Err(TrySendError::Disconnected(_)) => false,
        };
        if waits {
            urgent.ring();
        }
        sent
    }
}

/// The syncer's state. Runs on its own thread.
#[derive(Debug)]
pub(crate) struct Syncer {
    shared: Arc<Shared>,
    keeper: SyncSender<keeper::Message>,
    within: Duration,
    /// Written and not yet durable, in order.
    pending: Vec<Arc<Group>>,
    waiters: Vec<(Waiter, RecordId)>,
    deadline: Option<Instant>,
}

impl Syncer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        keeper: SyncSender<keeper::Message>,
        within: Duration,
    ) -> Self {
        Self {
            shared,
            keeper,
            within,
            pending: Vec::new(),
            waiters: Vec::new(),
            deadline: None,
        }
    }

    /// Works until it is told to end, or the writer is gone.
    pub(crate) fn run(mut self, handovers: &Receiver<Handover>) {
        loop {
            let mut now = false;
            let mut patience = YIELDS;
            let mut next = self.next(handovers);
            // Takes all that has come meanwhile, so that one sync serves it.
            loop {
                match next {
                    Ok(Handover::Group { group, waiters }) => {
                        now |= !waiters.is_empty();
                        self.take(group, waiters);
                    }
                    Ok(Handover::Synced { end }) => self.made_durable(end),
                    Ok(Handover::Rotated { first }) => {
                        // INVARIANT: the keeper has all of a journal before it closes it. Each
                        // group came before this, and the writer synced the journal: a sync of
                        // its own could only fail, and leave the journal closed too short.
                        self.made_durable(first);
                        // A keeper that is gone has nothing to close.
                        let _gone = self.keeper.send(keeper::Message::Rotated { first });
                    }
                    Ok(Handover::Hurry) => now = true,
                    Ok(Handover::End) | Err(RecvTimeoutError::Disconnected) => {
                        self.sync();
                        // A keeper that is gone has nothing left to end.
                        let _gone = self.keeper.send(keeper::Message::End);
                        return;
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                }
                let mut more = handovers.try_recv();
                while more.is_err() && now && patience > 0 {
                    // Callers that were just answered ask again together: a sync that waits for
                    // the others to run once serves all of them, not only the quickest.
                    patience -= 1;
                    thread::yield_now();
                    more = handovers.try_recv();
                }
                match more {
                    Ok(handover) => next = Ok(handover),
                    // A writer that is gone shows at the next receive.
                    Err(_) => break,
                }
            }
            if now || self.deadline.is_some_and(|at| at <= Instant::now()) {
                self.sync();
            }
        }
    }

    /// With a deadline to keep, groups that nobody waits for do not wake it one by one: whoever
    /// hands over something urgent rings.
    fn next(&self, handovers: &Receiver<Handover>) -> Result<Handover, RecvTimeoutError> {
        let Some(deadline) = self.deadline else {
            return handovers.recv().map_err(|_| RecvTimeoutError::Disconnected);
        };
        self.shared.urgent.wait_until(deadline);
        handovers.try_recv().map_err(|error| match error {
            TryRecvError::Empty => RecvTimeoutError::Timeout,
            TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
        })
    }

    fn take(&mut self, group: Arc<Group>, waiters: Vec<(Waiter, RecordId)>) {
        self.pending.push(group);
        self.waiters.extend(waiters);
        self.deadline
            .get_or_insert_with(|| Instant::now() + self.within);
    }

    fn sync(&mut self) {
        self.deadline = None;
        let Some(last) = self.pending.last() else {
            return;
        };
        // The last group's file is enough: the writer syncs a full journal before the next one.
        let (end, epoch) = (last.end(), last.epoch);
        match self.shared.gate.sync(&*last.disk, epoch) {
            Ok(()) => self.made_durable(end),
            Err(error) => {
                // The groups stay here until the writer has written them again.
                self.shared.add_lost(self.waiters.len());
                self.shared.set_writing(Err(error.to_string()));
                let message = format!("the log cannot be synced: {error}");
                for (waiter, _id) in self.waiters.drain(..) {
                    refuse(waiter, &message);
                }
                // A keeper that is busy looks at the state by itself soon.
                let _busy = self.keeper.try_send(keeper::Message::Trouble);
            }
        }
    }

    /// Everything before `end` is on stable storage.
    fn made_durable(&mut self, end: u64) {
        self.deadline = None;
        let groups: Vec<_> = self.pending.drain(..).collect();
        self.shared.durable.store(end, Ordering::Release);
        // Losses that no `log.gap` tells of yet: a later write failed, whatever this sync says.
        if self.shared.lost.load(Ordering::Acquire) == 0 {
            self.shared.set_writing(Ok(()));
        }
        for (waiter, id) in self.waiters.drain(..) {
            // A caller that went away acts on nothing.
            let _gone = waiter.send(Ok(id));
        }
        if !groups.is_empty() && self.keeper.send(keeper::Message::Durable(groups)).is_err() {
            self.shared
                .set_proving(Err("its signing thread is gone".into()));
        }
    }
}

/// How often a sync lets other threads run first. No timer: with nobody else to run it goes on.
const YIELDS: u32 = 8;
