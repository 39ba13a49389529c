//! Puts a sandbox into its control groups.
//!
//! The kernel waits for all its processors before it moves a process, 10 ms and more, but not for
//! one that is born in a group of version 2, nor for a thread that moves itself in version 1. So
//! what becomes bubblewrap is born there and moves itself ([`fork_in`]), and all that come after it
//! are born where their parent is.
//!
//! Where that cannot be done, a thread of the launcher moves it ([`Joining`]) while the sandbox is
//! being built, and the launcher waits for that before the command starts: bubblewrap at once, the
//! sandbox's first process as soon as that has spoken.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
};

use rustix::process::Pid;

use super::Group;
use crate::sys::process;

/// Forks `body` into `group`, where it is told whether it got into all of it. The pid, and whether
/// it is there: if not, it is to be moved.
///
/// # Errors
/// What fork(2) says.
pub(crate) fn fork_in(
    group: &Group,
    body: impl Fn(io::Result<()>) -> i32,
) -> io::Result<(Pid, bool)> {
    let entrance = Entrance::open(group);
    // A kernel before 5.7, or a launcher with threads, for which moving is the way.
    if let Ok(Some(pid)) = entrance.and_then(|entrance| entrance.fork(&body)) {
        return Ok((pid, true));
    }
    Ok((process::fork(|| body(Ok(())))?, false))
}

/// The groups of a session, open: by what one is born there, and by what one moves itself.
struct Entrance {
    unified: Option<OwnedFd>,
    first_version: Vec<File>,
}

impl Entrance {
    fn open(group: &Group) -> io::Result<Self> {
        let tasks = |group: &PathBuf| File::options().write(true).open(group.join("tasks"));
        Ok(Self {
            unified: group.unified().map(File::open).transpose()?.map(Into::into),
            first_version: group
                .first_version()
                .map(tasks)
                .collect::<io::Result<_>>()?,
        })
    }

    fn fork(&self, body: impl Fn(io::Result<()>) -> i32) -> io::Result<Option<Pid>> {
        let inside = || body(self.enter());
        match &self.unified {
            Some(unified) => process::fork_into(unified.as_fd(), inside),
            None => process::fork(inside).map(Some),
        }
    }

    /// In the child, which is one thread. Whoever opened these was allowed to, so whoever this is by
    /// now is.
    fn enter(&self) -> io::Result<()> {
        let mut groups = self.first_version.iter();
        groups.try_for_each(|mut tasks| tasks.write_all(b"0"))
    }
}

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
    use rustix::process::{WaitOptions, waitpid};

    use super::*;
    use crate::{limits::Limits, sys::child::Child};

    /// In a process of one thread, as the launcher is: 0 where its child found itself in the groups
    /// that `of` makes, without anyone moving it.
    fn is_born_in(of: impl Fn() -> Group) -> i32 {
        let launcher = Child::fork(|| {
            let group = of();
            let all_are_here = |entered: io::Result<()>| {
                let here = fs::read_to_string("/proc/self/cgroup").unwrap();
                let ours = here.lines().filter(|line| line.contains("/cordon-"));
                let all = ours.count() == group.directories().len();
                i32::from(!(entered.is_ok() && all))
            };
            let (child, is_in) = fork_in(&group, all_are_here).unwrap();
            let ended = waitpid(Some(child), WaitOptions::empty()).unwrap();
            let code = ended.and_then(|(_, status)| status.exit_status());
            let fine = is_in && code == Some(0);
            u8::from(!fine)
        });
        let ended = launcher.unwrap().wait().unwrap();
        ended.exit_status().unwrap_or(-1)
    }

    #[test]
    fn a_sandbox_is_born_in_its_groups() {
        let limits = Limits {
            memory_bytes: Some(1 << 30),
            processes: Some(100),
            cpu_percent: Some(50),
            ..Limits::default()
        };
        let name = format!("join-test-{}", std::process::id());
        let Some(group) = Group::make(&name, &limits) else {
            return; // Nobody lets this user make one.
        };
        drop(group);
        assert_eq!(is_born_in(|| Group::make(&name, &limits).unwrap()), 0);
    }

    #[test]
    fn with_another_thread_there_it_is_moved() {
        let folder = tempfile::tempdir().unwrap();
        let group = Group::plain(Some(folder.path().into()), None);
        let (child, is_in) = fork_in(&group, |_| 7).unwrap();
        let ended = waitpid(Some(child), WaitOptions::empty()).unwrap();
        assert_eq!(ended.and_then(|(_, status)| status.exit_status()), Some(7));
        assert!(!is_in, "the test has threads, and the folder is no group");
    }

    #[test]
    fn whoever_cannot_enter_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let group = Group::plain(None, Some(folder.path().into()));
        let enters = || {
            let (child, is_in) = fork_in(&group, |entered| i32::from(entered.is_err())).unwrap();
            let ended = waitpid(Some(child), WaitOptions::empty()).unwrap();
            (is_in, ended.and_then(|(_, status)| status.exit_status()))
        };
        assert_eq!(enters(), (false, Some(0)), "there is no file to enter by");
        fs::write(folder.path().join("tasks"), "").unwrap();
        assert_eq!(enters(), (true, Some(0)), "the control");
        assert_eq!(fs::read(folder.path().join("tasks")).unwrap(), b"0");
        fs::remove_file(folder.path().join("tasks")).unwrap();
        std::os::unix::fs::symlink("/dev/full", folder.path().join("tasks")).unwrap();
        assert_eq!(enters(), (true, Some(1)));
    }

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
