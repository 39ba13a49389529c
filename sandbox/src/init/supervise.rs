//! Process 1 while the command runs: reaps, reports its end and its stops, carries out orders.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, Signal, WaitOptions, WaitStatus},
};

use crate::{
    channel::{Channel, Order, Report},
    sys::signals::{self, Signals},
};

/// Blocks what process 1 reads instead of being interrupted by: its children's news, and the
/// stops that a terminal sends to those who write to it from behind.
pub(super) fn signals() -> io::Result<Signals> {
    Signals::block(&[Signal::CHILD, Signal::TTOU, Signal::TTIN, Signal::TSTP])
}

/// Returns when the command has ended and that is reported, or when the launcher is gone. The
/// caller then ends, and with process 1 the kernel ends every process of the sandbox.
pub(super) fn until_it_ends(
    channel: &Channel,
    signals: &Signals,
    child: Pid,
    terminal: Option<&OwnedFd>,
) -> io::Result<()> {
    loop {
        let (news, orders) = wait(channel, signals)?;
        if news {
            while signals.next()?.is_some() {}
            if reap(channel, child)? {
                return Ok(());
            }
        }
        if orders {
            match channel.next_order()? {
                Some(order) => carry_out(order, child, terminal)?,
                None => return Ok(()),
            }
        }
    }
}

fn wait(channel: &Channel, signals: &Signals) -> io::Result<(bool, bool)> {
    let channel = channel.as_fd();
    let signals = signals.as_fd();
    let mut sources = [
        PollFd::new(&signals, PollFlags::IN),
        PollFd::new(&channel, PollFlags::IN),
    ];
    rustix::io::retry_on_intr(|| poll(&mut sources, None))?;
    let [news, orders] = sources.map(|source| !source.revents().is_empty());
    Ok((news, orders))
}

/// Collects everything that ended. True when the command itself did.
fn reap(channel: &Channel, child: Pid) -> io::Result<bool> {
    let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
    loop {
        let (pid, status) = match rustix::process::wait(options) {
            Ok(Some(found)) => found,
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if pid == child
            && let Some(report) = as_report(status)
        {
            channel.report(&report, None)?;
            if !matches!(report, Report::Stopped(_)) {
                return Ok(true);
            }
        }
    }
}

fn as_report(status: WaitStatus) -> Option<Report> {
    let exited = status.exit_status().map(Report::Exited);
    let signaled = || status.terminating_signal().map(Report::Signaled);
    let stopped = || status.stopping_signal().map(Report::Stopped);
    exited.or_else(signaled).or_else(stopped)
}

fn carry_out(order: Order, child: Pid, terminal: Option<&OwnedFd>) -> io::Result<()> {
    match order {
        Order::Go { .. } => Err(io::Error::other("told to go twice")),
        Order::Signal { number, group } => {
            if let Some(signal) = signals::from_number(number) {
                send(signal, child, group)?;
            }
            Ok(())
        }
        Order::Continue { foreground, wake } => {
            if let Some(terminal) = terminal {
                let group = if foreground {
                    child
                } else {
                    rustix::process::getpgrp()
                };
                rustix::termios::tcsetpgrp(terminal, group)?;
            }
            if wake {
                send(Signal::CONT, child, true)?;
            }
            Ok(())
        }
    }
}

/// A command that has just ended cannot be signalled; its end is about to be reported.
fn send(signal: Signal, child: Pid, group: bool) -> io::Result<()> {
    let sent = if group {
        rustix::process::kill_process_group(child, signal)
    } else {
        rustix::process::kill_process(child, signal)
    };
    match sent {
        Ok(()) | Err(rustix::io::Errno::SRCH | rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
