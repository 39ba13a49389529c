//! What a launcher does with a session whose processes and mounts are the host kernel's: by its
//! first process and the namespaces of that.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    process::Pid,
};

use super::{LaunchError, Outcome, Prepared, RunHooks, run};
use crate::{
    adapter::{LiveMounts, Sandbox, WayIn},
    dial::Dialler,
    limits::{Freezer, Group, Held},
    mounts::{self, Holder, MountError, SessionMounts},
    network::Listeners,
    owners::Owners,
    plan::{Identity, Mount},
};

impl Sandbox for Prepared {
    fn take_listeners(&mut self) -> Option<Listeners> {
        self.listeners.take()
    }

    fn wait_ready(&mut self) -> Result<(), LaunchError> {
        while !self.ready {
            let [reported, signalled] = self.wait()?;
            if signalled {
                self.heed_signal()?;
            }
            if reported {
                self.heed_report()?;
            }
        }
        Ok(())
    }

    fn held(&self) -> &[Held] {
        &self.builder.held
    }

    fn groups(&self) -> Vec<PathBuf> {
        let group = self.builder.group.as_ref();
        group.map(Group::directories).unwrap_or_default()
    }

    fn pauses_by(&self) -> &'static str {
        match &self.builder.freezer {
            Some(_) => Freezer::WORDS,
            None => "signals",
        }
    }

    fn first_process(&self) -> Option<Pid> {
        self.first
    }

    fn owners(&self) -> Option<Owners> {
        self.owners.clone()
    }

    fn mounts(&self) -> Box<dyn LiveMounts> {
        Box::new(ByFirstProcess {
            first: self.first,
            owners: self.owners.clone(),
        })
    }

    fn open_folder(&self, inside: &Path) -> io::Result<OwnedFd> {
        let root = format!("/proc/{}/root", of_ready(self.first)?.as_raw_nonzero());
        let below = inside.strip_prefix("/").unwrap_or(inside);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(
            CWD,
            Path::new(&root).join(below),
            flags,
            Mode::empty(),
        )?)
    }

    fn way_in(&self) -> io::Result<WayIn> {
        let (dialler, line) = Dialler::start(of_ready(self.first)?, self.owners.as_ref())?;
        let held = Box::new(dialler);
        Ok(WayIn { line, held })
    }

    fn run(mut self: Box<Self>, hooks: &mut dyn RunHooks) -> Result<Outcome, LaunchError> {
        self.wait_ready()?;
        run::run(*self, hooks)
    }
}

fn of_ready(first: Option<Pid>) -> io::Result<Pid> {
    first.ok_or_else(|| io::Error::other("the session has no first process yet"))
}

/// The mounts in the namespace of a session's first process. Entered anew for each change, so a
/// session that has ended is not kept.
#[derive(Debug)]
struct ByFirstProcess {
    first: Option<Pid>,
    owners: Option<Owners>,
}

impl ByFirstProcess {
    fn reach(&self) -> Result<SessionMounts, MountError> {
        let first = of_ready(self.first).map_err(MountError::Unreachable)?;
        SessionMounts::of(first, self.owners.clone())
    }
}

impl LiveMounts for ByFirstProcess {
    fn attach(
        &self,
        grant: &Mount,
        directory: bool,
        protected: &[Mount],
    ) -> Result<(), MountError> {
        self.reach()?.attach(grant, directory, protected)
    }

    fn detach(&self, inside: &Path, identity: Identity) -> Result<(), MountError> {
        self.reach()?.detach(inside, identity)
    }

    fn make_read_only(&self, inside: &Path, identity: Identity) -> Result<(), MountError> {
        self.reach()?.make_read_only(inside, identity)
    }

    fn make_writable(
        &self,
        inside: &Path,
        identity: Identity,
        protected: &[Mount],
    ) -> Result<(), MountError> {
        self.reach()?.make_writable(inside, identity, protected)
    }

    fn holders(&self, inside: &Path) -> io::Result<Vec<Holder>> {
        mounts::holders(of_ready(self.first)?, inside)
    }

    fn end_holders(&self, holders: &[Holder]) {
        if let Some(first) = self.first {
            mounts::end_holders(first, holders);
        }
    }
}
