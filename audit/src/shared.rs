//! What the log's threads tell each other: how far each is, and what is wrong.
//!
//! The writer writes, the syncer makes durable and acknowledges, the keeper hashes, indexes and
//! signs. Records pass them in this order, in [`Group`](crate::group::Group)s.

use std::{
    io,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{files::Disk, index::Index};

/// Syncs, and remembers which epochs failed.
///
/// After a failed `fdatasync` the kernel may have dropped the pages and answers the next one with
/// success, so a failure is final for everything written in that epoch: only writing it all
/// again, in a new epoch, makes it durable.
#[derive(Debug, Default)]
pub(crate) struct SyncGate {
    /// Held by whoever syncs.
    syncing: Mutex<()>,
    failed: AtomicU64,
}

impl SyncGate {
    pub(crate) fn sync(&self, disk: &dyn Disk, epoch: u64) -> io::Result<()> {
        let _alone = held(&self.syncing);
        if self.has_failed(epoch) {
            return Err(io::Error::other("an earlier sync failed"));
        }
        disk.sync_data()
            .inspect_err(|_| self.failed.store(epoch, Ordering::Release))
    }

    /// Does not wait for a sync that is under way: what is written meanwhile is written again
    /// should it fail, like all else that is not durable.
    pub(crate) fn has_failed(&self, epoch: u64) -> bool {
        epoch <= self.failed.load(Ordering::Acquire)
    }
}

/// How urgently a thread is wanted.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Ring {
    /// Not at all.
    #[default]
    Not,
    /// Some time soon: how soon is for the thread to say.
    Soon,
    /// At once.
    Now,
}

/// Wakes one thread. What was rung stays until [`Bell::clear`]; only a more urgent ring wakes.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<Ring>,
    changed: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self, ring: Ring) {
        let mut rung = held(&self.rung);
        if *rung < ring {
            *rung = ring;
            drop(rung);
            self.changed.notify_one();
        }
    }

    /// Waits until it is rung; no longer than until `deadline`, where there is one.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Ring {
        let silent = |rung: &mut Ring| *rung == Ring::Not;
        let rung = held(&self.rung);
        let Some(deadline) = deadline else {
            return *self
                .changed
                .wait_while(rung, silent)
                .unwrap_or_else(PoisonError::into_inner);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(rung, left, silent);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits until it is rung for at once, no longer than until `deadline`.
    pub(crate) fn wait_now(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let _rung = self
            .changed
            .wait_timeout_while(held(&self.rung), left, |rung| *rung != Ring::Now)
            .unwrap_or_else(PoisonError::into_inner);
    }

    /// Whoever rings from now on means what is done later.
    pub(crate) fn clear(&self) {
        *held(&self.rung) = Ring::Not;
    }
}

/// State that all parts of the log see.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) gate: SyncGate,
    /// Rung for the syncer.
    pub(crate) urgent: Bell,
    /// Somebody waits for the index.
    pub(crate) hurry: AtomicBool,
    /// Nothing is made durable any more.
    pub(crate) syncer_gone: AtomicBool,
    /// Set when the log is to be closed.
    pub(crate) closing: AtomicBool,
    /// Records that could not be taken since the last `log.gap`.
    pub(crate) lost: AtomicU64,
    /// Records written.
    pub(crate) written: AtomicU64,
    /// Records on stable storage.
    pub(crate) durable: AtomicU64,
    /// When the oldest record was written that is not durable; not before.
    behind_since: Mutex<Option<Instant>>,
    /// Records that a signed checkpoint covers.
    pub(crate) covered: AtomicU64,
    /// Sealed records.
    pub(crate) sealed: AtomicU64,
    indexed: Mutex<u64>,
    indexed_changed: Condvar,
    index: Mutex<Option<Index>>,
    writing: Trouble,
    proving: Trouble,
    sealing: Trouble,
    /// Erasures that are recorded and could not be done: record and pointer.
    owed: Mutex<Vec<(u64, String)>>,
    /// Held by whoever changes what is sealed.
    pub(crate) segments: Mutex<()>,
}

/// Something that is wrong, until it is not.
#[derive(Debug, Default)]
struct Trouble {
    any: AtomicBool,
    message: Mutex<Option<String>>,
}

impl Shared {
    /// A state where everything up to `end` is durable and nothing of the open segment indexed.
    pub(crate) fn recovered(end: u64) -> Self {
        Self {
            written: AtomicU64::new(end),
            durable: AtomicU64::new(end),
            ..Self::default()
        }
    }

    /// Everything before `end` is written.
    pub(crate) fn wrote(&self, end: u64) {
        self.written.store(end, Ordering::Release);
        held(&self.behind_since).get_or_insert_with(Instant::now);
    }

    /// Everything before `end` is on stable storage; what came later was written after `began`.
    pub(crate) fn made_durable(&self, end: u64, began: Instant) {
        self.durable.store(end, Ordering::Release);
        let mut since = held(&self.behind_since);
        // Under the lock: what is written from now on says so itself.
        let all = self.written.load(Ordering::Acquire) <= end;
        *since = (!all).then_some(began);
    }

    /// How long the oldest record waits that is written and not durable, at most.
    pub(crate) fn behind(&self) -> Duration {
        let since = *held(&self.behind_since);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// What is wrong, if anything.
    pub(crate) fn trouble(&self) -> Option<String> {
        let troubles = [&self.writing, &self.proving, &self.sealing];
        troubles.into_iter().find_map(Trouble::now)
    }

    pub(crate) fn cannot_write(&self) -> bool {
        self.writing.any.load(Ordering::Acquire)
    }

    pub(crate) fn set_writing(&self, state: Result<(), String>) {
        self.writing.set(state, "the log cannot be written");
    }

    pub(crate) fn set_proving(&self, state: Result<(), String>) {
        self.proving.set(state, "the log cannot be signed");
    }

    pub(crate) fn set_sealing(&self, state: Result<(), String>) {
        self.sealing.set(state, "the log cannot be sealed");
    }

    /// Notes an erasure that is recorded and was not done.
    pub(crate) fn owe_erasure(&self, seq: u64, pointer: &str) {
        held(&self.owed).push((seq, pointer.to_owned()));
    }

    /// Tries what is owed; the first that fails again ends it.
    pub(crate) fn pay_erasures(
        &self,
        erase: impl Fn(u64, &str) -> io::Result<usize>,
    ) -> io::Result<()> {
        let mut owed = held(&self.owed);
        while let Some((seq, pointer)) = owed.last() {
            erase(*seq, pointer).map_err(|error| {
                let what = format!("a value of record {seq} is redacted and not erased: {error}");
                io::Error::new(error.kind(), what)
            })?;
            owed.pop();
        }
        Ok(())
    }

    pub(crate) fn add_lost(&self, count: usize) {
        self.lost
            .fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    pub(crate) fn set_indexed(&self, end: u64) {
        *held(&self.indexed) = end;
        self.indexed_changed.notify_all();
    }

    /// Waits until everything before `end` is indexed; false when that takes longer than `limit`.
    pub(crate) fn wait_indexed(&self, end: u64, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut indexed = held(&self.indexed);
        while *indexed < end {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.cannot_write() {
                return false;
            }
            // Short waits, because trouble is not announced here.
            let step = left.min(Duration::from_millis(50));
            indexed = self
                .indexed_changed
                .wait_timeout(indexed, step)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    pub(crate) fn index(&self) -> Option<Index> {
        held(&self.index).clone()
    }

    pub(crate) fn set_index(&self, index: Option<Index>) -> Option<Index> {
        std::mem::replace(&mut *held(&self.index), index)
    }
}

impl Trouble {
    fn now(&self) -> Option<String> {
        if self.any.load(Ordering::Acquire) {
            held(&self.message).clone()
        } else {
            None
        }
    }

    /// Says it once when it begins and once when it ends.
    fn set(&self, state: Result<(), String>, what: &'static str) {
        let was = self.any.load(Ordering::Acquire);
        match state {
            Ok(()) if !was => {}
            Ok(()) => {
                tracing::warn!(what, "the log works again");
                *held(&self.message) = None;
                self.any.store(false, Ordering::Release);
            }
            Err(error) => {
                if !was {
                    tracing::error!(what, %error, "the log does not work");
                }
                *held(&self.message) = Some(format!("{what}: {error}"));
                self.any.store(true, Ordering::Release);
            }
        }
    }
}

/// A lock whose data stays meaningful when a holder panicked: each is set in one step.
pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_record_that_is_not_durable_has_waited_since_it_was_written() {
        let shared = Shared::default();
        assert_eq!(shared.behind(), Duration::ZERO);
        shared.wrote(1);
        std::thread::yield_now();
        let first = shared.behind();
        assert!(first > Duration::ZERO);
        let began = Instant::now();
        shared.wrote(2);
        assert!(shared.behind() >= first, "the first still waits");
        // A sync that has only the first: what is left was written after it began.
        shared.made_durable(1, began);
        let left = shared.behind();
        assert!(left > Duration::ZERO && left <= began.elapsed());
        shared.made_durable(2, Instant::now());
        assert_eq!(shared.behind(), Duration::ZERO);
    }
}
