//! How far the log is: what `cordon status` and metrics show.

use std::{sync::atomic::Ordering, time::Duration};

use rustix::fs::statvfs;
use serde::{Deserialize, Serialize};

use super::Log;

/// How far each part of the log is, in records from its beginning, and what stands in its way.
/// Each number is right by itself; together they are of almost the same moment.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LogStats {
    /// Written to a journal.
    pub written: u64,
    /// On stable storage.
    pub durable: u64,
    /// Covered by a signed checkpoint.
    pub covered: u64,
    /// Sealed.
    pub sealed: u64,
    /// Waiting to be written.
    pub queued: u64,
    /// As many as may wait; beyond that callers wait.
    pub queue_limit: u64,
    /// Refused or lost since the log works again or still does not, and told by no `log.gap` yet.
    pub lost: u64,
    /// Bytes that are free where the log lies; absent when that cannot be asked.
    pub free_bytes: Option<u64>,
}

impl Log {
    /// How long the oldest record waits that is written and not on stable storage, at most; zero
    /// when there is none.
    pub fn behind(&self) -> Duration {
        self.shared().behind()
    }

    /// How far it is. Waits for nothing.
    pub fn stats(&self) -> LogStats {
        let shared = self.shared();
        let (queued, most) = self.inner.queue.lengths();
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let free = statvfs(self.directory());
        // Read from the last stage to the first, so that none is ahead of the one before it.
        let sealed = shared.sealed.load(Ordering::Acquire);
        let covered = shared.covered.load(Ordering::Acquire);
        let durable = shared.durable.load(Ordering::Acquire);
        LogStats {
            written: shared.written.load(Ordering::Acquire),
            durable,
            covered,
            sealed,
            queued: count(queued),
            queue_limit: count(most),
            lost: shared.lost.load(Ordering::Acquire),
            free_bytes: free.ok().map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize)),
        }
    }
}
