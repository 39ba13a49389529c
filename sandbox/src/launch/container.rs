//! Starts a session's sandbox as a container of rootless podman with runc.
//!
//! ```text
//! launcher ── fork ──▶ podman ──▶ conmon ──▶ process 1: our own binary, `init::main`
//!    │                                              │ "I am here"
//!    ├── fork ──▶ enters its namespaces, builds its network and its files, sends the listeners out
//!    ├── mounts what is granted, by descriptor, as a grant to a running session
//!    └── channel ── "furnished" ──────────────────▶ goes behind the filter, checks, is ready
//! ```
//!
//! Podman is told of no grant and resolves no path of one. A plan and [`Contents`] in, the same
//! [`Prepared`] out as for bubblewrap.

mod arguments;
mod furnish;
mod image;

use std::{
    convert::Infallible,
    ffi::OsString,
    fs::File,
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    path::PathBuf,
    process::Command,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal},
};

pub use image::image_digest;

use super::{LaunchError, Prepared, assemble, builder::Builder};
use crate::{
    channel::{Channel, Order, Report},
    init::spec::{Slot, Spec},
    limits::Held,
    network::Listeners,
    plan::SandboxPlan,
    sys::{process, signals},
    terminal::{Split, Stdio},
};

/// What is in the container beside what the session brings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Contents {
    /// An image that podman has, by name or digest. It is never fetched.
    Image(String),
    /// A folder with a root file system. Read only; empty folders and files are made in it where
    /// something is mounted.
    Folder(PathBuf),
}

/// Where podman is looked for.
pub const PODMAN: &str = "/usr/bin/podman";

/// Where its runtime is looked for.
pub const RUNC: [&str; 2] = ["/usr/sbin/runc", "/usr/bin/runc"];

/// Starts the container and furnishes it; its first process checks the walls while the caller
/// goes on. As [`super::prepare`] otherwise.
///
/// # Errors
/// [`LaunchError`] says what is missing and how to get it. Nothing has run then.
pub fn prepare_in_container(
    plan: &SandboxPlan,
    contents: &Contents,
    stdio: Stdio,
) -> Result<Prepared, LaunchError> {
    assemble(plan, stdio, |split| {
        let (builder, channel, listeners) = start(plan, contents, split)?;
        Ok((builder, None, channel, listeners))
    })
}

fn start(
    plan: &SandboxPlan,
    contents: &Contents,
    split: &mut Split,
) -> Result<(Builder, Channel, Listeners), LaunchError> {
    furnish::check(plan)?;
    let (ours, theirs) = Channel::pair().map_err(LaunchError::step("channel opened"))?;
    let (preparation, held) = Preparation::new(plan, contents, split, theirs)?;
    let (complaints, their_complaints) = io::pipe().map_err(LaunchError::step("pipe opened"))?;
    // A parent that ignores its children's end would not learn of podman's.
    signals::reset(Signal::CHILD).map_err(LaunchError::step("signals set up"))?;
    let their_complaints = OwnedFd::from(their_complaints);
    let launcher = rustix::process::getpid();
    let pid = process::fork(|| preparation.become_podman(&their_complaints, launcher))
        .map_err(LaunchError::step("process forked"))?;
    let mut builder = Builder::watch(pid, complaints.into(), PODMAN)?;
    builder.held = held;
    // The child's ends must be gone here, or their closing would not be seen.
    drop((preparation, their_complaints));
    let first = wait_for_first(&ours, &mut builder)?;
    builder.watch_init(Some(first), &ours);
    let listeners = furnish::furnish(plan, first)?;
    let furnished = ours.order(Order::Furnished);
    furnished.map_err(LaunchError::step("first process told"))?;
    Ok((builder, ours, listeners))
}

fn wait_for_first(channel: &Channel, builder: &mut Builder) -> Result<Pid, LaunchError> {
    let descriptor = channel.as_fd();
    let mut sources = [PollFd::new(&descriptor, PollFlags::IN)];
    let limit = Timespec::try_from(PATIENCE).ok();
    let ready = rustix::io::retry_on_intr(|| poll(&mut sources, limit.as_ref()))
        .map_err(LaunchError::step("container waited for"))?;
    if ready == 0 {
        return Err(LaunchError::Slow(PATIENCE));
    }
    let arrived = channel.next_report();
    let arrived = arrived.map_err(LaunchError::step("report read"))?;
    match arrived.map(|arrived| (arrived.report, arrived.sender)) {
        Some((Report::Here, Some(first))) => Ok(first),
        Some((Report::Failed(why), _)) => Err(LaunchError::Walls(why)),
        Some(_) => Err(LaunchError::Walls(
            "the first process reported out of turn".into(),
        )),
        None => Err(builder.diagnose()),
    }
}

/// What the child needs, made before the fork so that errors are ordinary errors.
struct Preparation {
    arguments: Vec<OsString>,
    /// The channel, the orders and the streams, in the order of their numbers inside.
    handed_down: Vec<OwnedFd>,
}

impl Preparation {
    fn new(
        plan: &SandboxPlan,
        contents: &Contents,
        split: &mut Split,
        channel: Channel,
    ) -> Result<(Self, Vec<Held>), LaunchError> {
        let streams = std::mem::take(&mut split.inside);
        let slots = renumbered(split.slots);
        let (inside, held) = plan.limits.hold_without_group(plan.user.uid);
        let spec = Spec::new(plan, slots, inside).in_container();
        let spec = spec.write().map_err(LaunchError::step("orders written"))?;
        let mut handed_down = vec![channel.into_descriptor(), spec];
        handed_down.extend(streams);
        let arguments = arguments::podman_arguments(plan, contents, handed_down.len());
        let preparation = Self {
            arguments,
            handed_down,
        };
        Ok((preparation, held))
    }

    /// Runs in the child. Returns only to say that it failed.
    fn become_podman(&self, complaints: &OwnedFd, launcher: Pid) -> i32 {
        let Err(error) = self.execute(complaints, launcher);
        // The launcher reads this when it sees the channel closed.
        let _ = writeln!(io::stderr(), "`podman` could not be started: {error}");
        1
    }

    fn execute(&self, complaints: &OwnedFd, launcher: Pid) -> io::Result<Infallible> {
        rustix::process::setsid()?;
        rustix::stdio::dup2_stderr(complaints)?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(launcher) {
            return Err(io::Error::other("the launcher has ended"));
        }
        process::close_from_on_exec(3)?;
        // First all of them above every number that is given out, then each to its own.
        let copy = |held: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(held, COPIES);
        let copies: Result<Vec<OwnedFd>, _> = self.handed_down.iter().map(copy).collect();
        for (copy, number) in copies?.iter().zip(FIRST..) {
            process::place(copy.as_fd(), number)?;
        }
        signals::reset(Signal::PIPE)?;
        signals::unblock_all()?;
        Err(Command::new(PODMAN)
            .args(&self.arguments)
            .env_clear()
            .envs(podman_environment())
            .current_dir("/")
            .exec())
    }
}

/// The streams come behind the channel and the orders.
fn renumbered(slots: [Slot; 3]) -> [Slot; 3] {
    let mut next = FIRST + 2;
    slots.map(|slot| match slot {
        Slot::Terminal => Slot::Terminal,
        Slot::Descriptor(_) => {
            let number = next;
            next += 1;
            Slot::Descriptor(number)
        }
    })
}

/// All that podman has of an environment.
fn podman_environment() -> impl Iterator<Item = (&'static str, OsString)> {
    let passed = PASSED
        .iter()
        .filter_map(|name| Some((*name, std::env::var_os(name)?)));
    passed.chain([("PATH", PATH.into())])
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What of our environment podman has: where its images and its state are.
const PASSED: [&str; 5] = [
    "HOME",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "CONTAINERS_STORAGE_CONF",
];

/// The first descriptor that podman hands down.
const FIRST: RawFd = 3;

/// Above all that are handed down: two and three streams.
const COPIES: RawFd = 32;

/// How long podman may take: 60 times what it takes.
const PATIENCE: Duration = Duration::from_secs(30);
