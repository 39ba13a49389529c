//! Process 1 while the command runs: reaps, reports its end and its stops, carries out orders.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, WaitOptions, WaitStatus},
};

use super::{further::Further, pause::Paused, spec::Spec};
use crate::{
    channel::{Channel, Order, Report},
    limits::{self, Used},
    sys::{
        process::{own_usage, signal_all_others, usage_of_reaped},
        signals::{self, Signals},
    },
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
    spec: &Spec,
    child: Pid,
    terminal: Option<OwnedFd>,
) -> io::Result<()> {
    let mut session = Session {
        channel,
        spec,
        child,
        terminal,
        further: Further::default(),
        paused: None,
        watchdog: spec.limits.memory_bytes.map(|_most| Instant::now()),
    };
    loop {
        let (news, orders) = wait(channel, signals, session.watchdog)?;
        if session.is_over()? {
            return Ok(());
        }
        if news {
            while signals.next()?.is_some() {}
            if session.reap()? {
                return Ok(());
            }
        }
        if orders {
            match channel.next_order()? {
                Some((order, descriptors)) => session.carry_out(order, descriptors)?,
                None => return Ok(()),
            }
        }
    }
}

struct Session<'a> {
    channel: &'a Channel,
    spec: &'a Spec,
    child: Pid,
    terminal: Option<OwnedFd>,
    further: Further,
    paused: Option<Paused>,
    /// When memory is counted next, where nothing else holds it.
    watchdog: Option<Instant>,
}

fn wait(channel: &Channel, signals: &Signals, until: Option<Instant>) -> io::Result<(bool, bool)> {
    let channel = channel.as_fd();
    let signals = signals.as_fd();
    let mut sources = [
        PollFd::new(&signals, PollFlags::IN),
        PollFd::new(&channel, PollFlags::IN),
    ];
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    let limit = left.and_then(|left| Timespec::try_from(left).ok());
    rustix::io::retry_on_intr(|| poll(&mut sources, limit.as_ref()))?;
    let [news, orders] = sources.map(|source| !source.revents().is_empty());
    Ok((news, orders))
}

impl Session<'_> {
    /// Collects everything that ended. True when the command itself did.
    fn reap(&mut self) -> io::Result<bool> {
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
        loop {
            let (pid, status) = match rustix::process::wait(options) {
                Ok(Some(found)) => found,
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            if pid != self.child {
                self.further.ended(self.channel, pid, status)?;
                continue;
            }
            // That we stopped it is no news of the command's.
            let ours = status.stopped() && self.paused.is_some();
            if let Some(report) = as_report(status).filter(|_| !ours) {
                if !matches!(report, Report::Stopped(_)) {
                    let seen = used(self.spec);
                    end_all_others();
                    self.channel.report(&Report::Pong(in_total(seen)), None)?;
                }
                self.channel.report(&report, None)?;
                if !matches!(report, Report::Stopped(_)) {
                    return Ok(true);
                }
            }
        }
    }

    fn carry_out(&mut self, order: Order, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        match order {
            Order::Go { .. } | Order::Furnished => Err(io::Error::other("told to go twice")),
            Order::Ping => self.channel.report(&Report::Pong(used(self.spec)), None),
            Order::Sample(number) => {
                let sampled = Report::Sampled(number, used(self.spec));
                self.channel.report(&sampled, None)
            }
            Order::Pause(number) => self.pause(number),
            Order::Resume(number) => self.resume(number),
            Order::Exec(number) if self.paused.is_some() => {
                let why = "the session is paused".into();
                self.channel.report(&Report::Refused(number, why), None)
            }
            Order::Exec(number) => self
                .further
                .start(self.channel, self.spec, number, descriptors),
            Order::Signal { number, group } => {
                if let Some(signal) = signals::from_number(number) {
                    self.wake_for(signal);
                    send(signal, self.child, group)?;
                }
                Ok(())
            }
            Order::Continue { foreground, wake } => {
                if let Some(terminal) = &self.terminal {
                    let group = if foreground {
                        self.child
                    } else {
                        rustix::process::getpgrp()
                    };
                    rustix::termios::tcsetpgrp(terminal, group)?;
                }
                if wake && self.paused.is_none() {
                    send(Signal::CONT, self.child, true)?;
                }
                Ok(())
            }
        }
    }

    /// Whether the session uses more memory than it may; then that is reported. Counted the
    /// sooner again the less is left.
    fn is_over(&mut self) -> io::Result<bool> {
        let (Some(most), Some(next)) = (self.spec.limits.memory_bytes, self.watchdog) else {
            return Ok(false);
        };
        if Instant::now() < next {
            return Ok(false);
        }
        let now = used(self.spec).memory_bytes;
        if now > most {
            let what = format!("memory: {now} bytes of {most}");
            self.channel.report(&Report::Over(what), None)?;
            return Ok(true);
        }
        // Until then it cannot have filled what is left: memory is not written faster than this.
        let left = Duration::from_nanos((most - now) / BYTES_IN_NANOSECOND);
        self.watchdog = Instant::now().checked_add(left.clamp(OFTEN, SELDOM));
        Ok(false)
    }

    fn pause(&mut self, number: u64) -> io::Result<()> {
        if self.paused.is_none() {
            match Paused::stop_all() {
                Ok(paused) => self.paused = Some(paused),
                Err(error) => {
                    let refused = Report::Refused(number, error.to_string());
                    return self.channel.report(&refused, None);
                }
            }
        }
        self.channel.report(&Report::Paused(number), None)
    }

    fn resume(&mut self, number: u64) -> io::Result<()> {
        if let Some(paused) = self.paused.take() {
            paused.let_run();
        }
        self.channel.report(&Report::Resumed(number), None)
    }

    /// A command that is asked to end must be able to hear it.
    fn wake_for(&mut self, signal: Signal) {
        // No other does: they have no deadline, and whoever paused it would not know that it runs.
        let asks_to_end = [Signal::TERM, Signal::HUP];
        if asks_to_end.contains(&signal)
            && let Some(paused) = self.paused.take()
        {
            paused.let_run();
        }
    }
}

/// What the session uses now.
pub(super) fn used(spec: &Spec) -> Used {
    let places = spec.file_systems.iter();
    limits::sample(places.map(|path| Path::new(path.as_os())))
}

/// Ends every other process, which our own end is about to do, and reaps them all: then the kernel's
/// sum of what they used is whole. One that does not end in time is left to the kernel.
fn end_all_others() {
    let _nobody_is_left = signal_all_others(Signal::KILL);
    let deadline = Instant::now() + ENDING;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_ended)) => {}
            Ok(None) if Instant::now() < deadline => thread::sleep(BETWEEN_LOOKS),
            Ok(None) | Err(_) => return,
        }
    }
}

/// With what those used who are gone: what was seen last misses a short command's.
fn in_total(seen: Used) -> Used {
    let (own, reaped) = (own_usage(), usage_of_reaped());
    let whole = |seen: Option<u64>, whole: u64| seen.map(|seen| seen.max(whole));
    Used {
        cpu_us: seen.cpu_us.max(own.cpu_us + reaped.cpu_us),
        memory_bytes: seen.memory_bytes.max(reaped.memory_bytes),
        processes: seen.processes.max(1),
        read_bytes: whole(seen.read_bytes, own.read_bytes + reaped.read_bytes),
        written_bytes: whole(seen.written_bytes, own.written_bytes + reaped.written_bytes),
    }
}

/// How long the end of a killed process is waited for, and how often it is looked for.
const ENDING: Duration = Duration::from_millis(200);
const BETWEEN_LOOKS: Duration = Duration::from_micros(200);

/// How often memory is counted, far from the limit and near it.
const SELDOM: Duration = Duration::from_secs(1);
const OFTEN: Duration = Duration::from_millis(20);

/// What several processors can fill, roughly: a processor clears some 3 GB in a second.
const BYTES_IN_NANOSECOND: u64 = 8;

fn as_report(status: WaitStatus) -> Option<Report> {
    let exited = status.exit_status().map(Report::Exited);
    let signaled = || status.terminating_signal().map(Report::Signaled);
    let stopped = || status.stopping_signal().map(Report::Stopped);
    exited.or_else(signaled).or_else(stopped)
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
