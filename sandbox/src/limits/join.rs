//! Moves a sandbox into its control groups while it is being built.
//!
//! The kernel waits for all its processors before it moves a process, 10 ms and more. So a thread
//! of the launcher does it, and the launcher waits for that before the command starts: bubblewrap
//! at once, the sandbox's first process as soon as that has spoken. There are no others until
//! then, and all that come are born where their parent is.

use std::{
    fs, io,
    path::PathBuf,
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
};

use rustix::process::Pid;

/// A sandbox on its way into its groups.
#[derive(Debug)]
pub(crate) struct Joining {
    first: Sender<Pid>,
    thread: JoinHandle<io::Result<()>>,
}

impl Joining {
    /// Moves `builder` into each of these directories; its child follows with [`Joining::first`].
    /// Both must live, or stay unreaped, until [`Joining::finish`].
    pub(crate) fn start(groups: Vec<PathBuf>, builder: Pid) -> io::Result<Self> {
        let (first, told) = channel();
        let work = move || move_both(&groups, builder, &told);
        let thread = thread::Builder::new().name("group".into()).spawn(work)?;
        Ok(Self { first, thread })
    }

    /// Names the sandbox's first process, as the host numbers it.
    pub(crate) fn first(&self, first: Pid) {
        // The thread has ended where the builder could not be moved; `finish` says so.
        let _ended = self.first.send(first);
    }

    /// Waits until both are in.
    ///
    /// # Errors
    /// When one could not be moved, or the first process was never named.
    pub(crate) fn finish(self) -> io::Result<()> {
        drop(self.first);
        let moved = self.thread.join();
        moved.unwrap_or_else(|_panicked| Err(io::Error::other("the thread that moves it failed")))
    }
}

fn move_both(groups: &[PathBuf], builder: Pid, told: &Receiver<Pid>) -> io::Result<()> {
    enter(groups, builder)?;
    let first = told
        .recv()
        .map_err(|_never| io::Error::other("the first process is not known"))?;
    enter(groups, first)
}

fn enter(groups: &[PathBuf], process: Pid) -> io::Result<()> {
    for group in groups {
        fs::write(group.join("cgroup.procs"), process.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_moved_and_a_missing_one_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let procs = folder.path().join("cgroup.procs");
        let (builder, first) = (Pid::from_raw(7).unwrap(), Pid::from_raw(8).unwrap());
        let joining = Joining::start(vec![folder.path().into()], builder).unwrap();
        joining.first(first);
        joining.finish().unwrap();
        // A plain file holds what was written last; the kernel's takes one after the other.
        assert_eq!(fs::read_to_string(&procs).unwrap(), "8");

        let joining = Joining::start(vec![folder.path().into()], builder).unwrap();
        assert!(joining.finish().is_err(), "the first was never named");
        assert_eq!(fs::read_to_string(&procs).unwrap(), "7");

        let joining = Joining::start(vec![folder.path().join("gone")], builder).unwrap();
        joining.first(first);
        assert!(joining.finish().is_err(), "there is no such group");
    }
}
