//! Mounts that come and go while a session runs.
//!
//! No process is kept for it and nothing lies on the host: for each change a child is forked that
//! enters the user namespace which owns the session's mounts (the user who started the session
//! owns that one, so no privilege is needed), takes a copy of the host's mounts to clone the
//! granted folder from, goes over to the session's mounts, attaches it there, and ends. What is
//! attached is the very file that was decided on: it is compared by device and inode after it was
//! cloned, so no name can be exchanged in between (F07).
//!
//! The session's processes need not run for it: a paused one sees the change when it goes on.

mod child;
mod holders;

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    process::Pid,
};
use thiserror::Error;

pub use holders::{Holder, end_holders, holders};

use crate::{
    owners::Owners,
    plan::{Identity, Mount},
    sys::{child::Child, mount::owner_of},
};
use child::{Change, Step};

/// The mounts of one running session.
#[derive(Debug)]
pub struct SessionMounts {
    mounts: OwnedFd,
    owner: OwnedFd,
    owners: Option<Owners>,
}

/// Why a mount was not changed.
#[derive(Debug, Error)]
pub enum MountError {
    /// The session's namespaces cannot be opened.
    #[error("the session's mounts cannot be reached")]
    Unreachable(#[source] io::Error),
    /// What is there now is not what was decided on.
    #[error("`{}` was exchanged after it was decided on", .0.display())]
    Exchanged(PathBuf),
    /// Its file system cannot show it to a session that root started.
    #[error("a session that root started cannot see it: its file system does not map owners")]
    NotMapped(#[source] io::Error),
    /// Files are open for writing, and it was to become read-only.
    #[error("files in it are open for writing")]
    Busy,
    /// The kernel refuses a step.
    #[error("{step} failed")]
    Step {
        /// Which.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl SessionMounts {
    /// Of the session whose first process is `first`, with the owners that it was launched with.
    ///
    /// # Errors
    /// [`MountError::Unreachable`]: it is gone, or another user's.
    pub fn of(first: Pid, owners: Option<Owners>) -> Result<Self, MountError> {
        let path = format!("/proc/{}/ns/mnt", first.as_raw_nonzero());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let mounts = openat(CWD, path, flags, Mode::empty())
            .map_err(|error| MountError::Unreachable(error.into()))?;
        let owner = owner_of(std::os::fd::AsFd::as_fd(&mounts)).map_err(MountError::Unreachable)?;
        Ok(Self {
            mounts,
            owner,
            owners,
        })
    }

    /// Shows `grant` in the session, with `protected` read-only in it from the first moment.
    ///
    /// # Errors
    /// [`MountError`]; nothing is shown then.
    pub fn attach(
        &self,
        grant: &Mount,
        directory: bool,
        protected: &[Mount],
    ) -> Result<(), MountError> {
        self.run(&Change::Attach {
            grant,
            directory,
            protected,
        })
    }

    /// Takes away what is mounted at `inside`, at once, whoever uses it. What is open stays open,
    /// read-only where nothing is open for writing.
    ///
    /// # Errors
    /// [`MountError`]; it is still there then.
    pub fn detach(&self, inside: &Path, identity: Identity) -> Result<(), MountError> {
        self.run(&Change::Detach { inside, identity })
    }

    /// Makes what is mounted at `inside` read-only with all below it.
    ///
    /// # Errors
    /// [`MountError::Busy`] when files are open for writing; it is as it was then.
    pub fn make_read_only(&self, inside: &Path, identity: Identity) -> Result<(), MountError> {
        self.run(&Change::ReadOnly { inside, identity })
    }

    /// Makes what is mounted at `inside` writable, with `protected` read-only in it before.
    ///
    /// # Errors
    /// [`MountError`]; it is still read-only then.
    pub fn make_writable(
        &self,
        inside: &Path,
        identity: Identity,
        protected: &[Mount],
    ) -> Result<(), MountError> {
        self.run(&Change::Writable {
            inside,
            identity,
            protected,
        })
    }

    fn run(&self, change: &Change<'_>) -> Result<(), MountError> {
        let forked = |source| MountError::Step {
            step: "starting the change",
            source,
        };
        let (told, tell) = io::pipe().map_err(forked)?;
        let session = child::Namespaces {
            owner: &self.owner,
            mounts: &self.mounts,
            owners: self.owners.as_ref(),
        };
        let child = Child::fork(|| child::run(change, &session, &tell));
        let child = child.map_err(forked)?;
        drop(tell);
        let mut words = Vec::new();
        let read = File::from(OwnedFd::from(told))
            .take(4096)
            .read_to_end(&mut words);
        let status = child.wait().map_err(forked)?;
        read.map_err(forked)?;
        if status.exit_status() == Some(0) {
            return Ok(());
        }
        Err(Step::error(&words))
    }
}
