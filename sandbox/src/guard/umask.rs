//! The umask of the thread that waits, put on for making its file.
//!
//! Reading it takes longer than anything else here, so it is kept per thread until somebody in the
//! session changes theirs: `umask` waits for that, and goes on by itself.

use std::time::{Duration, Instant};

use rustix::fs::Mode;

use super::{Stop, task::Task};

/// What is known of the session's umasks, and which one this thread of ours has on.
#[derive(Default)]
pub(super) struct Umasks {
    /// Everybody's, while nobody has changed theirs.
    first: Option<Mode>,
    changes: u64,
    changed: Option<Instant>,
    put_on: Option<Mode>,
}

impl Umasks {
    /// Somebody is about to change theirs.
    pub(super) fn changes(&mut self) {
        self.changes += 1;
        self.changed = Some(Instant::now());
    }

    /// Puts on the umask of `task`. The calling thread must have one of its own.
    pub(super) fn put_on(&mut self, task: &Task) -> Result<(), Stop> {
        let mask = self.of(task)?;
        if self.put_on != Some(mask) {
            rustix::process::umask(mask);
            self.put_on = Some(mask);
        }
        Ok(())
    }

    fn of(&mut self, task: &Task) -> Result<Mode, Stop> {
        let Some(changed) = self.changed else {
            if let Some(first) = self.first {
                return Ok(first);
            }
            let mask = task.read_umask()?;
            self.first = Some(mask);
            return Ok(mask);
        };
        match task.umask.get() {
            Some((since, mask)) if since == self.changes => Ok(mask),
            _ => {
                let mask = task.read_umask()?;
                // A change that was let go on may not have come to pass yet.
                if changed.elapsed() > SETTLED {
                    task.umask.set(Some((self.changes, mask)));
                }
                Ok(mask)
            }
        }
    }
}

/// After this a thread that was let go on has changed its umask, or is starved.
const SETTLED: Duration = Duration::from_millis(20);
