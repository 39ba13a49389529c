//! The forked process that enters the session's network and becomes bubblewrap.

use std::{
    convert::Infallible,
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::Command,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::FdFlags,
    process::{Pid, PidfdFlags, Signal, WaitOptions},
};

use super::LaunchError;
use crate::{
    channel::Channel,
    init::spec::{Spec, memory_file},
    network::{self, Listeners},
    plan::{INIT_PROGRAM, PlanDescriptors, SandboxPlan, bubblewrap_arguments},
    seccomp,
    sys::{process, signals},
    terminal::{Split, set_nonblocking},
};

/// Where bubblewrap is looked for. Not in `PATH`: what builds the walls is not chosen by a
/// variable that anyone may set.
pub const BUBBLEWRAP_PATHS: [&str; 2] = ["/usr/bin/bwrap", "/usr/local/bin/bwrap"];

/// The oldest bubblewrap that will do: the first with `--disable-userns`.
const OLDEST: &str = "0.8.0";

/// The running bubblewrap. Dropping it ends the sandbox and waits for that.
#[derive(Debug)]
pub(super) struct Builder {
    pid: Pid,
    handle: OwnedFd,
    program: &'static str,
    /// Process 1 of the sandbox, once it has spoken.
    init: Option<OwnedFd>,
    complaints: OwnedFd,
    reaped: bool,
}

/// What the child needs, made before the fork so that errors are ordinary errors.
struct Preparation {
    program: &'static str,
    arguments: OwnedFd,
    /// Everything that bubblewrap reads by number, the channel and the streams included.
    handed_down: Vec<OwnedFd>,
    channel: OwnedFd,
    spec: OwnedFd,
}

impl Builder {
    pub(super) fn start(
        plan: &SandboxPlan,
        split: &mut Split,
    ) -> Result<(Self, Channel, Listeners), LaunchError> {
        let (ours, theirs) = Channel::pair().map_err(LaunchError::step("channel opened"))?;
        let inside = std::mem::take(&mut split.inside);
        let preparation = Preparation::new(plan, split, inside, theirs.into_descriptor())?;
        let (socket, their_socket) = UnixStream::pair().map_err(LaunchError::step("socket opened"))?;
        let (complaints, their_complaints) = io::pipe().map_err(LaunchError::step("pipe opened"))?;
        // A parent that ignores its children's end would not learn of bubblewrap's.
        signals::reset(Signal::CHILD).map_err(LaunchError::step("signals set up"))?;
        let launcher = rustix::process::getpid();
        let pid = process::fork(|| preparation.become_builder(&their_socket, &their_complaints.into(), launcher))
            .map_err(LaunchError::step("process forked"))?;
        // Both sides' ends must be gone here, or their closing would not be seen.
        drop((preparation, their_socket));
        let mut builder = Self::watch(pid, complaints.into())?;
        match Listeners::receive(&socket) {
            Ok(listeners) => Ok((builder, ours, listeners)),
            Err(error) => Err(match error.downcast() {
                Ok(error) => LaunchError::Network(error),
                Err(_) => builder.diagnose(),
            }),
        }
    }

    fn watch(pid: Pid, complaints: OwnedFd, program: &'static str) -> Result<Self, LaunchError> {
        set_nonblocking(&complaints).map_err(LaunchError::step("pipe set up"))?;
        let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty());
        let handle = handle.map_err(LaunchError::step("process watched"))?;
        Ok(Self {
            pid,
            handle,
            program,
            init: None,
            complaints,
            reaped: false,
        })
    }
}
