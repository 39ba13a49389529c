//! Runs a closure in a forked child and waits for it.
//!
//! For work that changes the whole process for good, such as entering a namespace.

use std::io;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

use super::process;

/// A forked child. Killed and reaped when dropped before [`Child::wait`].
#[derive(Debug)]
pub struct Child {
    pid: Option<Pid>,
}

impl Child {
    /// Forks; the child runs `work` and exits with the status that it returns (101 if it panics).
    ///
    /// The child has a copy of every descriptor and only the calling thread. Call it while the
    /// process has one thread: with more, `work` must not need a lock that another thread may
    /// hold at this moment (the allocator's own locks are safe).
    ///
    /// # Errors
    /// What fork(2) says.
    pub fn fork(work: impl FnOnce() -> u8) -> io::Result<Self> {
        let pid = process::fork(|| i32::from(work()))?;
        Ok(Self { pid: Some(pid) })
    }

    /// Its number, its own until it is waited for.
    pub(crate) fn id(&self) -> i32 {
        self.pid.map_or(0, |pid| pid.as_raw_nonzero().get())
    }

    /// Waits for the end of the child.
    ///
    /// # Errors
    /// What waitpid(2) says.
    pub fn wait(mut self) -> io::Result<WaitStatus> {
        self.reap()
    }

    fn reap(&mut self) -> io::Result<WaitStatus> {
        let pid = self.pid.take();
        let gone = || io::Error::other("the child is already reaped");
        let pid = pid.ok_or_else(gone)?;
        let ended = rustix::io::retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()))?;
        ended.map(|(_, status)| status).ok_or_else(gone)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            // The child is ours and not reaped, so the number cannot have been given away.
            let _gone = kill_process(pid, Signal::KILL);
            let _status = self.reap();
        }
    }
}
