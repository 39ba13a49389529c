//! Starts a sandbox and stays with it until its end.
//!
//! ```text
//! launcher ── fork ──▶ builds the session's network, sends the listeners out, ends
//!    ├─────── fork ──▶ enters that network, becomes bubblewrap (the monitor)
//!    │                        └─ process 1: our own binary, `init::main`
//!    │                                └─ the command
//!    └── channel ──────────────▶ process 1
//! ```
//!
//! A [`SandboxPlan`] and [`Stdio`] in, a [`Sandbox`](crate::adapter::Sandbox) out, which ends in an
//! [`Outcome`]. Every error ends and reaps what was
//! started. The kernel ends the sandbox when the *thread* that called [`prepare`] ends, so that
//! thread must stay until the run is over, and must be the process' only one when it calls.

mod ahead;
mod builder;
mod container;
mod error;
mod etc;
mod run;
mod session;
mod stage;

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal},
};

use crate::{
    channel::{Channel, Report},
    network::Listeners,
    owners::Owners,
    plan::SandboxPlan,
    sys::signals::Signals,
    terminal::{Pump, Split, Stdio, UserTerminal},
};
pub use ahead::Ahead;
pub use builder::BUBBLEWRAP_PATHS;
use builder::Builder;
pub use container::{Contents, PODMAN, RUNC, image_digest, prepare_in_container};
pub(crate) use error::GET_BUBBLEWRAP;
pub use error::LaunchError;
pub use run::{Further, Happened, NoHooks, Outcome, RunHooks, Running};

/// A sandbox that is being built, or is built and waits; nothing runs in it yet.
#[derive(Debug)]
pub struct Prepared {
    // Dropped in this order: the terminal is given back before anything else ends.
    terminal: Option<UserTerminal>,
    outputs: Vec<Pump>,
    inputs: Vec<Pump>,
    builder: Builder,
    owners: Option<Owners>,
    channel: Channel,
    listeners: Option<Listeners>,
    ready: bool,
    first: Option<Pid>,
    /// When its time is over.
    wall: Option<Instant>,
    signals: Signals,
}

/// Forks the sandbox and receives its listeners; bubblewrap builds while the caller goes on.
///
/// From here until the run ends, signals to this process are read, not delivered.
///
/// # Errors
/// [`LaunchError`] says what is missing and how to get it. Nothing has run then.
pub fn prepare(plan: &SandboxPlan, stdio: Stdio) -> Result<Prepared, LaunchError> {
    prepare_begun(Ahead::begin(plan.user.uid)?, plan, stdio)
}

/// As [`prepare`], with what was begun before there was a plan.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_begun(
    ahead: Ahead,
    plan: &SandboxPlan,
    stdio: Stdio,
) -> Result<Prepared, LaunchError> {
    ahead.check(&plan.user)?;
    let owners = ahead.owners.clone();
    assemble(plan, stdio, |split| {
        let (builder, channel, listeners) = Builder::start(plan, ahead, split)?;
        Ok((builder, owners, channel, listeners))
    })
}

/// What was started, who owns what in it, the channel to it, and its listeners.
type Started = (Builder, Option<Owners>, Channel, Listeners);

fn assemble(
    plan: &SandboxPlan,
    stdio: Stdio,
    start: impl FnOnce(&mut Split) -> Result<Started, LaunchError>,
) -> Result<Prepared, LaunchError> {
    plan.check()?;
    let signals = Signals::block(&FORWARDED).map_err(LaunchError::step("signals blocked"))?;
    let mut split = stdio
        .split()
        .map_err(LaunchError::step("standard streams set up"))?;
    let (builder, owners, channel, listeners) = start(&mut split)?;
    let wall = plan
        .limits
        .wall()
        .and_then(|wall| Instant::now().checked_add(wall));
    Ok(Prepared {
        terminal: split.terminal,
        outputs: split.outputs,
        inputs: split.inputs,
        builder,
        owners,
        channel,
        listeners: Some(listeners),
        ready: false,
        first: None,
        wall,
        signals,
    })
}

impl Prepared {
    fn wait(&self) -> Result<[bool; 2], LaunchError> {
        let (channel, signals) = (self.channel.as_fd(), self.signals.as_fd());
        let mut sources = [
            PollFd::new(&channel, PollFlags::IN),
            PollFd::new(&signals, PollFlags::IN),
        ];
        let limit = Timespec::try_from(PATIENCE).ok();
        let ready = rustix::io::retry_on_intr(|| poll(&mut sources, limit.as_ref()))
            .map_err(LaunchError::step("sandbox waited for"))?;
        if ready == 0 {
            return Err(LaunchError::Slow(PATIENCE));
        }
        Ok(sources.map(|source| !source.revents().is_empty()))
    }

    fn heed_signal(&self) -> Result<(), LaunchError> {
        let read = LaunchError::step("signal read");
        match self.signals.next().map_err(read)? {
            Some(signal @ (Signal::INT | Signal::TERM | Signal::HUP | Signal::QUIT)) => {
                Err(LaunchError::Interrupted(signal.as_raw()))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn heed_report(&mut self) -> Result<(), LaunchError> {
        let arrived = self
            .channel
            .next_report()
            .map_err(LaunchError::step("report read"))?;
        let Some(arrived) = arrived else {
            return Err(self.builder.diagnose());
        };
        match arrived.report {
            Report::Ready => {
                self.builder.watch_init(arrived.sender, &self.channel);
                self.first = arrived.sender;
                if let (Some(terminal), Some(controller)) = (&mut self.terminal, arrived.descriptor)
                {
                    let connect = LaunchError::step("terminal connected");
                    terminal.connect(controller).map_err(connect)?;
                }
                self.ready = true;
                Ok(())
            }
            Report::Failed(why) => Err(LaunchError::Walls(why)),
            _ => Err(LaunchError::Walls(
                "the first process reported out of turn".into(),
            )),
        }
    }
}

/// What goes to the command, or is about the terminal, instead of acting on the launcher.
const FORWARDED: [Signal; 11] = [
    Signal::INT,
    Signal::TERM,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::WINCH,
    Signal::TSTP,
    Signal::CONT,
    Signal::TTIN,
    Signal::TTOU,
];

/// How long nothing may be heard of a sandbox that is being built: 1000 times what it takes.
const PATIENCE: Duration = Duration::from_secs(10);
