//! The forked process that enters the session's network and becomes bubblewrap.

use std::{
    convert::Infallible,
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    path::Path,
    process::Command,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::FdFlags,
    process::{Pid, PidfdFlags, Signal, WaitOptions},
};

use super::{Ahead, LaunchError, etc::Layout, stage::Stage};
use crate::{
    adapter::host::{OLDEST_BUBBLEWRAP, is_older},
    channel::Channel,
    init::spec::{Slot, Spec, memory_file},
    limits::{Freezer, Group, Held, Joining, fork_in},
    network::{Built, Listeners},
    owners::lend_pipe,
    plan::{INIT_PROGRAM, PlanDescriptors, SandboxPlan, bubblewrap_arguments},
    seccomp,
    sys::{child::Child, clock, process, signals, userns},
    terminal::{Split, set_nonblocking},
};

/// Half of the machine's memory, as the kernel counts who is to go.
const OOM_SCORE: &str = "500";

/// Where bubblewrap is looked for. Not in `PATH`: what builds the walls is not chosen by a
/// variable that anyone may set.
pub const BUBBLEWRAP_PATHS: [&str; 2] = ["/usr/bin/bwrap", "/usr/local/bin/bwrap"];

/// The running bubblewrap. Dropping it ends the sandbox and waits for that.
#[derive(Debug)]
pub(super) struct Builder {
    pid: Pid,
    handle: OwnedFd,
    program: &'static str,
    /// What built the network; it has long ended when the first process speaks.
    network: Option<Child>,
    /// Process 1 of the sandbox, once it has spoken.
    init: Option<OwnedFd>,
    complaints: OwnedFd,
    reaped: bool,
    /// On its way into its control group, where it was not born there.
    joining: Option<Joining>,
    /// Stops all of the sandbox at once, where its group can.
    pub(super) freezer: Option<Freezer>,
    /// Removed after everything in it has ended.
    pub(super) group: Option<Group>,
    pub(super) held: Vec<Held>,
}

/// What the child needs, made before the fork so that errors are ordinary errors.
struct Preparation {
    program: &'static str,
    arguments: OwnedFd,
    /// Everything that bubblewrap reads by number, the channel and the streams included.
    handed_down: Vec<OwnedFd>,
    channel: OwnedFd,
    spec: OwnedFd,
    /// Where the session's network is.
    namespaces: [OwnedFd; 2],
    etc: Layout,
    /// What is shown to a session of root's.
    stage: Option<Stage>,
    group: Option<Group>,
    held: Vec<Held>,
}

impl Builder {
    pub(super) fn start(
        plan: &SandboxPlan,
        ahead: Ahead,
        split: &mut Split,
    ) -> Result<(Self, Channel, Listeners), LaunchError> {
        let (ours, theirs) = Channel::pair().map_err(LaunchError::step("channel opened"))?;
        let inside = std::mem::take(&mut split.inside);
        let (complaints, their_complaints) =
            io::pipe().map_err(LaunchError::step("pipe opened"))?;
        let (mut preparation, listeners, network) =
            Preparation::new(plan, ahead, split.slots, inside, theirs.into_descriptor())?;
        // A parent that ignores its children's end would not learn of bubblewrap's.
        signals::reset(Signal::CHILD).map_err(LaunchError::step("signals set up"))?;
        let their_complaints = their_complaints.into();
        let launcher = rustix::process::getpid();
        let become_builder =
            |entered| preparation.become_builder(entered, &their_complaints, launcher);
        let forked = match &preparation.group {
            Some(group) => fork_in(group, become_builder),
            None => process::fork(|| become_builder(Ok(()))).map(|pid| (pid, true)),
        };
        let (pid, is_in) = forked.map_err(LaunchError::step("process forked"))?;
        let mut builder = Self::watch(pid, complaints.into(), preparation.program)?;
        builder.network = Some(network);
        builder.group = preparation.group.take();
        builder.freezer = builder.group.as_ref().and_then(Group::freezer);
        builder.joining = match &builder.group {
            Some(group) if !is_in => {
                let joining = Joining::start(group.directories(), pid);
                Some(joining.map_err(LaunchError::step("control group entered"))?)
            }
            _ => None,
        };
        builder.held = std::mem::take(&mut preparation.held);
        // What is the child's alone ends here: its end of the channel must, or that it closed
        // would not be seen.
        Ok((builder, ours, listeners))
    }

    pub(super) fn watch(
        pid: Pid,
        complaints: OwnedFd,
        program: &'static str,
    ) -> Result<Self, LaunchError> {
        let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(LaunchError::step("process watched"))?;
        let builder = Self {
            pid,
            handle,
            program,
            network: None,
            init: None,
            complaints,
            reaped: false,
            joining: None,
            freezer: None,
            group: None,
            held: Vec::new(),
        };
        set_nonblocking(&builder.complaints).map_err(LaunchError::step("pipe set up"))?;
        Ok(builder)
    }

    /// Remembers process 1 by a descriptor, so that it can be ended first and waited for.
    pub(super) fn watch_init(&mut self, sender: Option<Pid>, channel: &Channel) {
        let handle =
            sender.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
        // It holds the other end alone: while that is open, the number is still its own.
        if !is_ready(channel.as_fd(), PollFlags::HUP) {
            self.init = handle;
        }
        if let (Some(joining), Some(first)) = (&self.joining, sender) {
            joining.first(first);
        }
        self.network = None;
    }

    /// Waits until all of the sandbox is in its control group, where it has one.
    pub(super) fn joined(&mut self) -> Result<(), LaunchError> {
        match self.joining.take() {
            Some(joining) => joining
                .finish()
                .map_err(LaunchError::step("control group entered")),
            None => Ok(()),
        }
    }

    /// Polls as readable when bubblewrap, and with it every process of the sandbox, has ended.
    pub(super) fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// Ends every process of the sandbox.
    pub(super) fn kill(&self) {
        // Process 1 takes all others with it, and bubblewrap ends after it. Without process 1
        // bubblewrap is killed and the kernel ends its child. A process that has ended already
        // is what is wanted.
        let first = self.init.as_ref().unwrap_or(&self.handle);
        let _ = rustix::process::pidfd_send_signal(first, Signal::KILL);
    }

    /// Waits for bubblewrap's end.
    pub(super) fn reap(&mut self) {
        if !self.reaped {
            // Until then its number must stay its own.
            let _ended = self.joined();
            let options = WaitOptions::empty();
            let _ = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(self.pid), options));
            self.reaped = true;
        }
    }

    /// Why bubblewrap ended before the first process spoke.
    pub(super) fn diagnose(&mut self) -> LaunchError {
        self.kill();
        self.reap();
        let text = self.complaint();
        if !BUBBLEWRAP_PATHS.contains(&self.program) {
            return LaunchError::Container(text);
        }
        if text.contains("nknown option") || text.contains("nrecognized") {
            return self.version_error(&text);
        }
        LaunchError::Builder(if text.is_empty() {
            format!("`{}` ended without saying why", self.program)
        } else {
            text
        })
    }

    /// What bubblewrap, or the first process before it had its channel, wrote to standard error.
    fn complaint(&self) -> String {
        let mut buffer = [0; 4096];
        let got = rustix::io::read(&self.complaints, &mut buffer).unwrap_or(0);
        let text = String::from_utf8_lossy(buffer.get(..got).unwrap_or_default());
        text.trim()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect()
    }

    /// Asked only now: it costs as much as starting it.
    fn version_error(&self, text: &str) -> LaunchError {
        let output = Command::new(self.program)
            .arg("--version")
            .env_clear()
            .output();
        let found = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        match found {
            Ok(found) if is_older(&found, OLDEST_BUBBLEWRAP) => LaunchError::OldBubblewrap {
                found,
                needed: OLDEST_BUBBLEWRAP,
            },
            _ => LaunchError::Builder(text.to_owned()),
        }
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            self.reap();
        }
    }
}

impl Preparation {
    fn new(
        plan: &SandboxPlan,
        ahead: Ahead,
        slots: [Slot; 3],
        streams: Vec<OwnedFd>,
        channel: OwnedFd,
    ) -> Result<(Self, Listeners, Child), LaunchError> {
        let Ahead { owners, network } = ahead;
        let owners = owners.as_ref();
        let program = find_bubblewrap(&BUBBLEWRAP_PATHS)?;
        let made = LaunchError::step;
        let (group, inside, held) = plan.limits.hold(&plan.session, plan.user.uid);
        let stage = owners.map(|owners| Stage::new(plan, owners)).transpose()?;
        if let Some(owners) = owners {
            for stream in &streams {
                let lent = lend_pipe(stream.as_fd(), owners.user());
                lent.map_err(made("standard streams set up"))?;
            }
        }
        let spec = Spec::new(plan, slots, inside)
            .write()
            .map_err(made("orders written"))?;
        let filter = memory_file("cordon-seccomp", seccomp::program(plan.profile))
            .map_err(made("filter written"))?;
        let files: io::Result<Vec<OwnedFd>> = plan
            .other_files()
            .map(|file| memory_file("cordon-file", &file.bytes))
            .collect();
        let files = files.map_err(made("files written"))?;
        let etc = Layout::new(plan)?;
        let numbers = PlanDescriptors {
            etc: etc.result(),
            files: files.iter().map(AsRawFd::as_raw_fd).collect(),
            seccomp: filter.as_raw_fd(),
        };
        let mut words = Vec::new();
        let shown = stage.as_ref().map_or(plan, Stage::plan);
        for word in bubblewrap_arguments(shown, &numbers) {
            words.extend_from_slice(word.as_bytes());
            words.push(0);
        }
        let arguments =
            memory_file("cordon-arguments", &words).map_err(made("arguments written"))?;
        let mut handed_down = files;
        handed_down.push(filter);
        handed_down.extend(streams);
        // Last: until now it was being built.
        let Built {
            listeners,
            namespaces,
            builder,
        } = network.finish().map_err(|error| match error.downcast() {
            Ok(error) => LaunchError::Network(error),
            Err(error) => made("network built")(error),
        })?;
        let preparation = Self {
            program,
            arguments,
            handed_down,
            channel,
            spec,
            namespaces,
            etc,
            stage,
            group,
            held,
        };
        Ok((preparation, listeners, builder))
    }

    /// Runs in the child. Returns only to say that it failed, which the launcher reads when it sees
    /// the channel closed.
    fn become_builder(&self, entered: io::Result<()>, complaints: &OwnedFd, launcher: Pid) -> i32 {
        let Err((what, error)) = self.try_to_become_builder(entered, complaints, launcher);
        let _ = rustix::stdio::dup2_stderr(complaints);
        let _ = writeln!(io::stderr(), "{what}: {error}");
        1
    }

    fn try_to_become_builder(
        &self,
        entered: io::Result<()>,
        complaints: &OwnedFd,
        launcher: Pid,
    ) -> Result<Infallible, (&'static str, io::Error)> {
        // Where memory runs out the session goes, and not what else the user runs.
        let _unchanged = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
        let failed = |what| move |error| (what, error);
        entered.map_err(failed("it could not enter its control group"))?;
        if let Some(stage) = &self.stage {
            stage
                .enter()
                .map_err(failed("it could not become its user"))?;
        }
        rustix::process::setsid()
            .map_err(|errno| ("it could not leave the terminal", errno.into()))?;
        userns::enter(&self.namespaces).map_err(failed("it could not enter its network"))?;
        // The namespaces that it needs were just entered.
        clock::begin_anew().map_err(failed("its clocks could not be set"))?;
        let laid_out = self.etc.lay_out();
        laid_out.map_err(failed("`/etc` could not be laid out"))?;
        self.execute(complaints, launcher)
            .map_err(failed("bubblewrap (`bwrap`) could not be started"))
    }

    fn execute(&self, complaints: &OwnedFd, launcher: Pid) -> io::Result<Infallible> {
        rustix::stdio::dup2_stderr(complaints)?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        // After the namespace was entered: gaining capabilities clears it.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(launcher) {
            return Err(io::Error::other("the launcher has ended"));
        }
        process::close_from_on_exec(3)?;
        let own = [&self.arguments, &self.channel, &self.spec];
        for descriptor in self.handed_down.iter().chain(own) {
            rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
        }
        signals::reset(Signal::PIPE)?;
        signals::unblock_all()?;
        Err(Command::new(self.program)
            .arg("--args")
            .arg(self.arguments.as_raw_fd().to_string())
            .arg("--")
            .arg(INIT_PROGRAM)
            .arg(self.channel.as_raw_fd().to_string())
            .arg(self.spec.as_raw_fd().to_string())
            .env_clear()
            .exec())
    }
}

fn find_bubblewrap(places: &'static [&'static str]) -> Result<&'static str, LaunchError> {
    let found = places.iter().find(|place| Path::new(place).is_file());
    found.copied().ok_or_else(|| LaunchError::NoBubblewrap {
        places: places.join(" or "),
    })
}

fn is_ready(descriptor: BorrowedFd<'_>, events: PollFlags) -> bool {
    let mut sources = [PollFd::from_borrowed_fd(descriptor, events)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut sources, Some(&now))
        .is_ok_and(|_| sources.iter().any(|s| s.revents().intersects(events)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f15_a_missing_bubblewrap_says_how_to_get_it() {
        assert!(find_bubblewrap(&["/nowhere/bwrap", "/bin/sh"]).is_ok());
        let error = find_bubblewrap(&["/nowhere/bwrap", "/nor/here"]).unwrap_err();
        assert!(
            error.to_string().contains("/nowhere/bwrap or /nor/here"),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("apt install bubblewrap"));
    }

    #[test]
    fn f15_versions_compare_as_numbers() {
        for (version, older) in [
            ("bubblewrap 0.4.1", true),
            ("bubblewrap 0.7.0", true),
            ("bubblewrap 0.8.0", false),
            ("bubblewrap 0.10.0", false),
            ("bubblewrap 1.0", false),
            ("something", false),
        ] {
            assert_eq!(is_older(version, OLDEST_BUBBLEWRAP), older, "{version}");
        }
    }
}
