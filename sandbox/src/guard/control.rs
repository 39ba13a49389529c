//! Tells a working supervisor that the session's grants have changed. Returns when it knows, so
//! that a mount can be shown after, and taken away before, it is told.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::Duration,
};

use rustix::event::{EventfdFlags, eventfd};

use super::GuardedGrant;

/// One change.
#[derive(Clone, Debug)]
pub enum Change {
    /// A grant more, or in place of the one that is mounted there.
    Put(Box<GuardedGrant>),
    /// The grant that is mounted here is gone.
    Remove(PathBuf),
}

/// Time for a supervisor to take a change in: it is at one held call, and none may take long.
const TAKING_IN: Duration = Duration::from_secs(5);

/// Speaks to one supervisor.
#[derive(Debug)]
pub struct Control {
    changes: Sender<(Change, Sender<()>)>,
    wake: OwnedFd,
}

/// The supervisor's end.
pub(super) struct Heeded {
    changes: Receiver<(Change, Sender<()>)>,
    wake: OwnedFd,
}

impl Control {
    /// Both ends.
    pub(super) fn pair() -> io::Result<(Self, Heeded)> {
        let (sender, receiver) = channel();
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let theirs = wake.try_clone()?;
        let control = Self {
            changes: sender,
            wake,
        };
        let heeded = Heeded {
            changes: receiver,
            wake: theirs,
        };
        Ok((control, heeded))
    }

    /// Waits until the supervisor has taken `change` in, at most [`TAKING_IN`].
    ///
    /// # Errors
    /// The supervisor is gone: `BrokenPipe`. It does not answer: `TimedOut`; then nobody knows what it
    /// guards.
    pub fn change(&self, change: Change) -> io::Result<()> {
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the guard has ended");
        let (done, taken_in) = channel();
        self.changes.send((change, done)).map_err(|_| gone())?;
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes())?;
        taken_in
            .recv_timeout(TAKING_IN)
            .map_err(|error| match error {
                RecvTimeoutError::Disconnected => gone(),
                RecvTimeoutError::Timeout => {
                    io::Error::new(io::ErrorKind::TimedOut, "the guard does not answer")
                }
            })
    }
}

impl Heeded {
    /// Readable when there are changes.
    pub(super) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Takes in what there is.
    pub(super) fn heed(&self, mut take: impl FnMut(Change)) {
        let mut count = [0; 8];
        // Empty when another round has read it.
        let _ = rustix::io::read(&self.wake, &mut count);
        while let Ok((change, done)) = self.changes.try_recv() {
            take(change);
            // Whoever asked may have stopped waiting.
            let _ = done.send(());
        }
    }
}
