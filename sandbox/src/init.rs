//! The sandbox's first process: checks that the walls are the planned ones, starts the command
//! when told, reaps, reports, and takes everything with it when it ends.
//!
//! Started by bubblewrap as process 1 under the name `cordon-init`, with two descriptor numbers as
//! arguments: the channel to the launcher and the orders ([`spec`]).

mod check;
mod command;
mod further;
mod pause;
pub(crate) mod spec;
mod supervise;

use std::{
    ffi::OsString,
    io,
    os::fd::{AsFd, OwnedFd, RawFd},
    process::ExitCode,
};

use cordon_policy::SeccompProfile;
use rustix::{
    process::{DumpableBehavior, Signal},
    pty::OpenptFlags,
};

use crate::{
    adapter::probe,
    channel::{Channel, Order, Report},
    guard, seccomp,
    sys::process::adopt,
};
use spec::{Slot, Spec};

/// The name that the binary is started under when it is to be the first process.
pub const NAME: &str = "cordon-init";

/// Runs as the first process. `arguments` are those after the program's name.
///
/// Whatever goes wrong is reported over the channel (or, without one, on standard error, where
/// the launcher reads it), and nothing has been started then.
///
/// With [`probe::FLAG`] it is the probe instead, started by a session's command.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter().peekable();
    if arguments.next_if(|first| first == probe::FLAG).is_some() {
        return probe::main();
    }
    let mut numbers = arguments.map(|word| word.to_str()?.parse::<RawFd>().ok());
    let (Some(Some(channel)), Some(Some(spec)), None) =
        (numbers.next(), numbers.next(), numbers.next())
    else {
        eprintln!("error: `{NAME}` is started by the launcher only\nhelp: use `cordon run`");
        return ExitCode::from(64);
    };
    let channel = match adopt(channel) {
        Ok(descriptor) => Channel::from_inherited(descriptor),
        Err(error) => {
            eprintln!("error: first process not started: its channel is not open: {error}");
            return ExitCode::FAILURE;
        }
    };
    match run(&channel, spec) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If the launcher is gone as well, ending is all that is left, and enough.
            let _ = channel.report(&Report::Failed(error.to_string()), None);
            ExitCode::FAILURE
        }
    }
}

fn run(channel: &Channel, spec: RawFd) -> io::Result<()> {
    harden()?;
    let spec = Spec::read(adopt(spec)?)?;
    let inherited = take_descriptors(channel, &spec)?;
    if spec.container && !is_furnished(channel, spec.profile)? {
        return Ok(());
    }
    check::files_can_be_confined(&inherited)?;
    check::second_wall(&spec)?;
    check::mounts(&spec.mounts)?;
    let terminal = open_terminal(&spec)?;
    spec.limits.set()?;
    let signals = supervise::signals()?;
    channel.report(
        &Report::Ready,
        terminal.as_ref().map(|pair| pair.controller.as_fd()),
    )?;
    let stdio = command::Stdio::new(inherited, terminal.map(|pair| pair.session_end), spec.stdio)?;
    let foreground = loop {
        match channel.next_order()? {
            Some((Order::Go { foreground }, _)) => break foreground,
            Some((Order::Ping, _)) => {
                channel.report(&Report::Pong(supervise::used(&spec)), None)?;
            }
            Some((other, _)) => {
                return Err(io::Error::other(format!(
                    "expected to be told to go, not {other:?}"
                )));
            }
            None => return Ok(()),
        }
    };
    // Unix sockets are never there without the guard.
    if spec.guard || spec.profile == SeccompProfile::Build {
        // Here, and not in the command: further commands are under the same guard, which has one
        // listener. This process removes nothing.
        let listener = guard::install(spec.profile)?;
        channel.report(&Report::Guard, Some(listener.as_fd()))?;
    }
    let terminal = stdio.terminal()?;
    let child = command::start(&spec, stdio, foreground)?;
    supervise::until_it_ends(channel, &signals, &spec, child, terminal)
}

/// Waits until the launcher has furnished the container, and goes behind the filter, which
/// bubblewrap puts on its sandbox by itself. `false`: the launcher is gone.
fn is_furnished(channel: &Channel, profile: SeccompProfile) -> io::Result<bool> {
    channel.report(&Report::Here, None)?;
    match channel.next_order()? {
        Some((Order::Furnished, _)) => {}
        Some((other, _)) => {
            return Err(io::Error::other(format!(
                "expected to be told that the container is furnished, not {other:?}"
            )));
        }
        None => return Ok(false),
    }
    seccomp::apply_to_self(profile).map_err(io::Error::other)?;
    Ok(true)
}

/// Nobody inside may look into this process, and it does not outlive bubblewrap.
fn harden() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getpid() != rustix::process::Pid::INIT {
        return Err(io::Error::other(
            "this is not process 1 of its own process namespace",
        ));
    }
    Ok(())
}

/// Takes over what was handed down by number and closes everything else above standard error.
fn take_descriptors(channel: &Channel, spec: &Spec) -> io::Result<[Option<OwnedFd>; 3]> {
    let mut inherited = [None, None, None];
    for (place, slot) in inherited.iter_mut().zip(spec.stdio) {
        if let Slot::Descriptor(number) = slot {
            *place = Some(adopt(number)?);
        }
    }
    check::close_strays(channel, &inherited)?;
    Ok(inherited)
}

/// Both ends of a terminal of the sandbox's own.
struct TerminalPair {
    controller: OwnedFd,
    session_end: OwnedFd,
}

/// Opens a terminal of the sandbox's own `devpts`, so that its name is right inside, and makes it
/// the controlling one.
fn open_terminal(spec: &Spec) -> io::Result<Option<TerminalPair>> {
    if !spec.stdio.contains(&Slot::Terminal) {
        return Ok(None);
    }
    let pair = TerminalPair::open()?;
    rustix::process::ioctl_tiocsctty(&pair.session_end)?;
    Ok(Some(pair))
}

impl TerminalPair {
    fn open() -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let controller = rustix::pty::openpt(flags)?;
        rustix::pty::unlockpt(&controller)?;
        let session_end = rustix::pty::ioctl_tiocgptpeer(&controller, flags)?;
        Ok(Self {
            controller,
            session_end,
        })
    }
}
