//! The syncer: makes written groups durable, acknowledges them, and hands them to the keeper.
//!
//! What somebody waits for is synced at once, all that was written by then with one `fdatasync`;
//! the rest within [`LogOptions::sync_within`](crate::LogOptions::sync_within).

use std::{
    sync::{Arc, atomic::Ordering, mpsc::SyncSender},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    RecordError, RecordId,
    desk::Desk,
    group::Group,
    keeper,
    shared::{Ring, Shared},
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
    /// Sync what there is, and end.
    End,
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
    /// Durable, and not given to the keeper yet.
    durable: Vec<Arc<Group>>,
    hand_on_at: Option<Instant>,
    /// When what is pending was taken: all else was written later.
    began: Instant,
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
            durable: Vec::new(),
            hand_on_at: None,
            began: Instant::now(),
        }
    }

    /// Works until it is told to end.
    pub(crate) fn run(mut self, desk: &Desk) {
        let _told = Gone(desk);
        loop {
            match self.shared.urgent.wait(self.hand_on_at) {
                Ring::Not => {
                    self.hand_on();
                    continue;
                }
                Ring::Soon => self.shared.urgent.wait_now(Instant::now() + self.within),
                Ring::Now => {}
            }
            for _turn in 0..YIELDS {
                // Callers that were just answered ask again together: a sync that waits for the
                // others to run once serves all of them, not only the quickest.
                thread::yield_now();
            }
            // Before taking: who rings later has written later.
            self.began = Instant::now();
            self.shared.urgent.clear();
            for handover in desk.take() {
                match handover {
                    Handover::Group { group, waiters } => {
                        self.pending.push(group);
                        self.waiters.extend(waiters);
                    }
                    Handover::Synced { end } => self.made_durable(end),
                    Handover::Rotated { first } => {
                        // INVARIANT: the keeper has all of a journal before it closes it. Each
                        // group came before this, and the writer synced the journal: a sync of
                        // its own could only fail, and leave the journal closed too short.
                        self.made_durable(first);
                        self.hand_on();
                        // A keeper that is gone has nothing to close.
                        let _gone = self.keeper.send(keeper::Message::Rotated { first });
                    }
                    Handover::End => {
                        self.sync();
                        self.hand_on();
                        // A keeper that is gone has nothing left to end.
                        let _gone = self.keeper.send(keeper::Message::End);
                        return;
                    }
                }
            }
            self.sync();
            let is_time = self.hand_on_at.is_some_and(|at| at <= Instant::now());
            if self.shared.hurry.swap(false, Ordering::AcqRel) || is_time {
                self.hand_on();
            }
        }
    }

    fn sync(&mut self) {
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
        let groups: Vec<_> = self.pending.drain(..).collect();
        self.shared.made_durable(end, self.began);
        // Losses that no `log.gap` tells of yet: a later write failed, whatever this sync says.
        if self.shared.lost.load(Ordering::Acquire) == 0 {
            self.shared.set_writing(Ok(()));
        }
        for (waiter, id) in self.waiters.drain(..) {
            // A caller that went away acts on nothing.
            let _gone = waiter.send(Ok(id));
        }
        if !groups.is_empty() {
            self.durable.extend(groups);
            self.hand_on_at
                .get_or_insert_with(|| Instant::now() + HAND_ON_WITHIN);
        }
    }

    /// Gives the keeper what is durable: not after each sync, because indexing a group costs as
    /// much as a sync however small it is, and nobody waits for it.
    fn hand_on(&mut self) {
        self.hand_on_at = None;
        let groups = std::mem::take(&mut self.durable);
        if !groups.is_empty() && self.keeper.send(keeper::Message::Durable(groups)).is_err() {
            self.shared
                .set_proving(Err("its signing thread is gone".into()));
        }
    }
}

/// Says that there is no syncer any more, however it ended.
struct Gone<'a>(&'a Desk);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.syncer_is_gone();
    }
}

/// Time within which the keeper is given what is durable, where nobody waits for it.
const HAND_ON_WITHIN: Duration = Duration::from_millis(20);

/// How often a sync lets other threads run first. No timer: with nobody else to run it goes on.
const YIELDS: u32 = 8;
