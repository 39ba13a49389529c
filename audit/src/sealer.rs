//! The sealer: seals journals one after the other, on its own thread, so that neither recording
//! nor signing waits for it.
//!
//! What cannot be sealed stays in its journal and is tried again; the log's state says so.

use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, SystemTime},
};

use rustix::{process::setpriority_process, thread::gettid};

use crate::{
    LogOptions,
    draft::int,
    find, retention,
    seal::{Closed, Sealing},
    shared::{Shared, held},
    side,
};

/// The sealer's state. Runs on its own thread, until whoever sends it work is gone.
pub(crate) struct Sealer {
    pub(crate) directory: PathBuf,
    pub(crate) options: LogOptions,
    pub(crate) shared: Arc<Shared>,
    /// The journal that was open when the log was opened.
    pub(crate) journal: u64,
}

impl Sealer {
    pub(crate) fn run(self, journals: &Receiver<Closed>) {
        // Of this thread alone: on a busy machine, what callers wait for comes first.
        if let Err(error) = setpriority_process(Some(gettid()), NICE) {
            tracing::debug!(%error, "sealing is no less urgent than recording");
        }
        self.complete_pruning();
        let mut waiting: VecDeque<Closed> = VecDeque::new();
        loop {
            let next = match waiting.is_empty() {
                true => journals.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => journals.recv_timeout(RETRY),
            };
            let ended = matches!(next, Err(RecvTimeoutError::Disconnected));
            waiting.extend(next);
            waiting.extend(journals.try_iter());
            while let Some(journal) = waiting.front() {
                let sealed = self.seal(*journal);
                let failed = sealed.is_err();
                self.shared
                    .set_sealing(sealed.map_err(|error| error.to_string()));
                if failed {
                    break;
                }
                waiting.pop_front();
                if let Err(error) = find::index(&self.directory) {
                    tracing::warn!(%error, "postings not made; the next query makes them");
                }
            }
            // What is left is sealed after the next start.
            if ended {
                return;
            }
        }
    }

    /// Of an earlier run that was stopped in the middle.
    fn complete_pruning(&self) {
        let _alone = held(&self.shared.segments);
        let pruned = retention::unfinished(&self.directory).and_then(|minimum| match minimum {
            // The journal that is written to is no older than any.
            Some(minimum) => retention::prune(&self.directory, minimum, self.journal),
            None => Ok(()),
        });
        if let Err(error) = pruned {
            tracing::warn!(%error, "an interrupted pruning is not completed");
        }
    }

    fn seal(&self, journal: Closed) -> io::Result<()> {
        // Not while segments are being pruned.
        let _alone = held(&self.shared.segments);
        // A start looks through what is not sealed for redactions to complete.
        self.shared
            .pay_erasures(|seq, pointer| side::erase(&self.directory, seq, pointer))?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let sealing = Sealing {
            log: &self.directory,
            segment_records: self.options.segment_records,
            segment_age: self.options.segment_age,
            now_us: now.map_or(0, |since| int(since.as_micros())),
            step: &|_| Ok(()),
        };
        sealing.seal(journal)?;
        self.shared.sealed.store(journal.end, Ordering::Release);
        tracing::info!(first = journal.first, end = journal.end, "journal sealed");
        Ok(())
    }
}

/// Time until what could not be sealed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How much the sealer gives way, on the scale of `nice`.
const NICE: i32 = 10;
