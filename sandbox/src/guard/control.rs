//! Tells a working supervisor that the session's grants have changed. Returns when it knows, so
//! that a mount can be shown after, and taken away before, it is told.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::mpsc::{Receiver, Sender, channel},
};

use cordon_policy::GrantMode;
use rustix::event::{EventfdFlags, eventfd};

use super::GuardedGrant;

/// One change.
#[derive(Clone, Debug)]
pub enum Change {
    /// A grant more.
    Add(Box<GuardedGrant>),
    /// The grant that is mounted here is gone.
    Remove(PathBuf),
    /// The grant that is mounted here has another mode.
    Mode(PathBuf, GrantMode),
}

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

    /// Waits until the supervisor has taken `change` in.
    ///
    /// # Errors
    /// The supervisor is gone.
    pub fn change(&self, change: Change) -> io::Result<()> {
        let gone = || io::Error::other("the guard has ended");
        let (done, taken_in) = channel();
        self.changes.send((change, done)).map_err(|_| gone())?;
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes())?;
        taken_in.recv().map_err(|_| gone())
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
