//! The run: one loop that carries bytes, forwards signals, follows stops, and ends with the
//! command.

mod heartbeat;
mod hooks;
mod pause;
mod sources;

use std::{
    ffi::OsString,
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{event::PollFlags, process::Signal};

use super::{LaunchError, Prepared};
use crate::{
    adapter::Steering,
    channel::{Order, Report},
    init::spec::{FurtherSpec, Slot, Text},
    limits::Used,
    terminal::Pump,
};
use heartbeat::{Beat, Heartbeat};
pub use hooks::{Happened, NoHooks, Outcome, RunHooks};
use sources::Sources;

pub(super) fn run(sandbox: Prepared, hooks: &mut dyn RunHooks) -> Result<Outcome, LaunchError> {
    let mut run = Running {
        wall: sandbox.wall,
        sandbox,
        outcome: None,
        channel_open: true,
        ended: false,
        deadline: None,
        heartbeat: Heartbeat::new(heartbeat::INTERVAL, Instant::now()),
        timed_out: false,
        peak: Used::default(),
        last: Used::default(),
        frozen: false,
        told: Vec::new(),
    };
    let ended = to_the_end(&mut run, hooks);
    hooks.used(run.peak);
    ended
}

fn to_the_end(run: &mut Running, hooks: &mut dyn RunHooks) -> Result<Outcome, LaunchError> {
    run.start()?;
    while !run.is_over() {
        let ready = run.wait(hooks)?;
        run.move_bytes(&ready.pumps);
        if ready.signals {
            run.heed_signals()?;
        }
        if ready.channel {
            run.heed_report(hooks)?;
        }
        if ready.watched {
            hooks.on_watched().map_err(LaunchError::Ended)?;
        }
        if ready.orders {
            hooks.on_orders(run).map_err(LaunchError::Ended)?;
            run.tell_what_happened(hooks)?;
        }
        if ready.ended {
            run.sandbox.builder.reap();
            run.heed_last_reports()?;
            run.ended = true;
            run.deadline = None;
            run.close_inputs();
        }
        run.keep_deadline();
        run.keep_heartbeat(Instant::now())?;
    }
    if run.timed_out {
        return Err(LaunchError::OverLimit("its time is over".into()));
    }
    run.outcome
        .ok_or_else(|| LaunchError::Ended("its first process ended unexpectedly".into()))
}

/// A sandbox whose command runs. What can be done to it from outside is public.
#[derive(Debug)]
pub struct Running {
    sandbox: Prepared,
    outcome: Option<Outcome>,
    channel_open: bool,
    ended: bool,
    /// When a command that was asked to end is made to.
    deadline: Option<Instant>,
    heartbeat: Heartbeat,
    wall: Option<Instant>,
    timed_out: bool,
    peak: Used,
    last: Used,
    /// All of it is, its first process too, which answers nothing then.
    frozen: bool,
    /// What came of orders that were carried out here.
    told: Vec<(u64, Happened)>,
}

/// A further command for a running session.
#[derive(Debug)]
pub struct Further {
    /// Program and arguments.
    pub arguments: Vec<OsString>,
    /// Which of its standard streams are a terminal of the session's own; the others are in
    /// `streams`.
    pub terminal: [bool; 3],
    /// The streams that are none, in order.
    pub streams: Vec<OwnedFd>,
}

impl Further {
    fn spec(&self) -> FurtherSpec {
        FurtherSpec {
            arguments: self.arguments.iter().map(Text::new).collect(),
            stdio: self.terminal.map(|terminal| match terminal {
                true => Slot::Terminal,
                false => Slot::Descriptor(-1),
            }),
        }
    }
}

/// What poll said. Pumps in the order of [`Prepared::pumps`].
#[derive(Clone, Debug)]
struct Ready {
    signals: bool,
    channel: bool,
    ended: bool,
    watched: bool,
    orders: bool,
    pumps: Vec<bool>,
}

impl Prepared {
    fn pumps(&self) -> impl Iterator<Item = &Pump> {
        let terminal = self.terminal.iter().flat_map(|terminal| terminal.pumps());
        self.outputs
            .iter()
            .chain(&self.inputs)
            .chain(terminal.flatten())
    }
}

impl Steering for Running {
    fn exec(&mut self, number: u64, further: &Further) -> io::Result<()> {
        if self.frozen {
            return Err(io::Error::other("the session is paused"));
        }
        let spec = further.spec().write()?;
        let mut held = vec![spec.as_fd()];
        held.extend(further.streams.iter().map(AsFd::as_fd));
        self.sandbox.channel.order_with(Order::Exec(number), &held)
    }

    fn end(&mut self, now: bool) {
        if now {
            self.end_now();
        } else {
            self.ask_to_end(Signal::TERM);
        }
    }

    fn pause(&mut self, number: u64) {
        self.stand_still(number);
    }

    fn resume(&mut self, number: u64) {
        self.go_on(number);
    }

    fn sample(&mut self, number: u64) {
        if self.frozen {
            self.told.push((number, Happened::Sampled(self.last)));
        } else {
            self.order(Order::Sample(number));
        }
    }
}

impl Running {
    fn start(&mut self) -> Result<(), LaunchError> {
        // Nothing runs outside of what holds its limits.
        self.sandbox.builder.joined()?;
        let foreground = self
            .sandbox
            .terminal
            .as_mut()
            .is_some_and(|terminal| terminal.attach());
        self.order(Order::Go { foreground });
        Ok(())
    }

    /// The command has ended, its sandbox is gone, and all that it wrote is delivered.
    fn is_over(&self) -> bool {
        // Inputs are closed by then, so what is left are outputs.
        self.ended && self.sandbox.pumps().all(|pump| pump.interest().is_none())
    }

    fn wait(&self, hooks: &dyn RunHooks) -> Result<Ready, LaunchError> {
        let sandbox = &self.sandbox;
        let mut sources = Sources::new();
        let signals = sources.add(sandbox.signals.as_fd(), PollFlags::IN);
        let channel = self.channel_open.then(|| sandbox.channel.as_fd());
        let channel = channel.map(|channel| sources.add(channel, PollFlags::IN));
        let handle = (!self.ended).then(|| sandbox.builder.handle());
        let handle = handle.map(|handle| sources.add(handle, PollFlags::IN));
        let watched = hooks.watched().filter(|_| !self.ended);
        let watched = watched.map(|watched| sources.add(watched, PollFlags::IN));
        let orders = hooks.orders().filter(|_| !self.ended);
        let orders = orders.map(|orders| sources.add(orders, PollFlags::IN));
        let pumps: Vec<Option<usize>> = sandbox
            .pumps()
            .map(|pump| {
                pump.interest()
                    .map(|(descriptor, events)| sources.add(descriptor, events))
            })
            .collect();
        let beat = (!self.ended).then(|| self.heartbeat.next());
        let wall = self.wall.filter(|_| !self.ended);
        sources.wait(self.deadline.into_iter().chain(beat).chain(wall).min())?;
        Ok(Ready {
            signals: sources.is_ready(Some(signals)),
            channel: sources.is_ready(channel),
            ended: sources.is_ready(handle),
            watched: sources.is_ready(watched),
            orders: sources.is_ready(orders),
            pumps: pumps
                .into_iter()
                .map(|place| sources.is_ready(place))
                .collect(),
        })
    }

    /// Only those that are ready: a terminal that could not be opened anew would keep us waiting.
    fn move_bytes(&mut self, ready: &[bool]) {
        let sandbox = &mut self.sandbox;
        let terminal = sandbox.terminal.iter_mut();
        let terminal = terminal.flat_map(|terminal| terminal.pumps_mut()).flatten();
        let streams = sandbox.outputs.iter_mut().chain(&mut sandbox.inputs);
        for (pump, ready) in streams.chain(terminal).zip(ready) {
            if *ready {
                pump.step();
            }
        }
    }

    fn heed_report(&mut self, hooks: &mut dyn RunHooks) -> Result<(), LaunchError> {
        let arrived = self.sandbox.channel.next_report();
        let Some(arrived) = arrived.map_err(LaunchError::step("report read"))? else {
            self.channel_open = false;
            return Ok(());
        };
        match arrived.report {
            Report::Exited(code) => self.end_with(Outcome::Exited(code)),
            Report::Signaled(number) => self.end_with(Outcome::Signaled(number)),
            Report::Stopped(number) => self.follow_stop(number)?,
            Report::Failed(why) => return Err(LaunchError::Walls(why)),
            Report::Here | Report::Ready => {
                return Err(LaunchError::Walls("it reported ready twice".into()));
            }
            Report::Pong(used) => {
                self.heartbeat.heard();
                self.note(used);
            }
            Report::Sampled(number, used) => {
                self.note(used);
                tell(hooks, number, Happened::Sampled(used))?;
            }
            Report::Over(what) => return Err(LaunchError::OverLimit(what)),
            Report::Paused(number) => tell(hooks, number, Happened::Paused)?,
            Report::Resumed(number) => tell(hooks, number, Happened::Resumed)?,
            Report::Began(number) => tell(hooks, number, Happened::Began(arrived.descriptor))?,
            Report::Finished(number, code) => {
                tell(hooks, number, Happened::Ended(Outcome::Exited(code)))?;
            }
            Report::Killed(number, signal) => {
                tell(hooks, number, Happened::Ended(Outcome::Signaled(signal)))?;
            }
            Report::Refused(number, why) => tell(hooks, number, Happened::Refused(why))?,
            Report::Guard => {
                let missing = || LaunchError::Walls("the guard has no listener".into());
                let listener = arrived.descriptor.ok_or_else(missing)?;
                hooks.supervise(listener).map_err(LaunchError::Ended)?;
            }
        }
        Ok(())
    }

    /// What was reported just before the end: it may have come between two looks at the channel.
    /// Every process of the sandbox is gone, so this cannot wait.
    fn heed_last_reports(&mut self) -> Result<(), LaunchError> {
        while self.channel_open {
            let arrived = self.sandbox.channel.next_report();
            match arrived
                .map_err(LaunchError::step("report read"))?
                .map(|arrived| arrived.report)
            {
                Some(Report::Exited(code)) => self.end_with(Outcome::Exited(code)),
                Some(Report::Signaled(number)) => self.end_with(Outcome::Signaled(number)),
                Some(Report::Failed(why)) => return Err(LaunchError::Walls(why)),
                Some(Report::Over(what)) => return Err(LaunchError::OverLimit(what)),
                Some(Report::Pong(used)) => self.note(used),
                // Whoever waits for the rest learns that the session is over.
                Some(_) => {}
                None => self.channel_open = false,
            }
        }
        Ok(())
    }

    fn end_with(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
        self.close_inputs();
    }

    fn close_inputs(&mut self) {
        self.sandbox.inputs.clear();
        if let Some(terminal) = &mut self.sandbox.terminal {
            terminal.end_keyboard();
        }
    }

    /// The command was stopped. If it wants the terminal and we can have it, it gets it;
    /// otherwise we stop too, so that the shell that started us sees a stopped job.
    fn follow_stop(&mut self, number: i32) -> Result<(), LaunchError> {
        let signal = Signal::from_named_raw(number).unwrap_or(Signal::STOP);
        let wants_terminal = signal == Signal::TTIN || signal == Signal::TTOU;
        if wants_terminal && let Some(terminal) = &mut self.sandbox.terminal {
            terminal.wanted = true;
        }
        if wants_terminal && self.takes_terminal() {
            return Ok(());
        }
        let whole_group = self.sandbox.terminal.is_some() && signal != Signal::STOP;
        if let Some(terminal) = &mut self.sandbox.terminal {
            terminal.detach();
        }
        // A shell may have brought us to the foreground since we looked. It continues who it knows
        // to be stopped, so nobody would continue us if we stopped now.
        if self.heed_signals_but_continue()? {
            self.continue_command(true);
            return Ok(());
        }
        if wants_terminal && self.takes_terminal() {
            return Ok(());
        }
        let stopped = self.sandbox.signals.stop(signal, whole_group);
        stopped.map_err(LaunchError::step("stop followed"))?;
        let was_continued = self.heed_signals_but_continue()?;
        if wants_terminal && !was_continued {
            self.answer_without_terminal();
        } else {
            self.continue_command(true);
        }
        Ok(())
    }

    /// Gives the command the terminal, if we can have it.
    fn takes_terminal(&mut self) -> bool {
        let terminal = self.sandbox.terminal.as_mut();
        let taken = terminal.is_some_and(|terminal| terminal.attach());
        if taken {
            self.order(Order::Continue {
                foreground: true,
                wake: true,
            });
        }
        taken
    }

    /// No shell can bring us to the foreground: the terminal's input has ended for the command.
    fn answer_without_terminal(&mut self) {
        if let Some(terminal) = &self.sandbox.terminal {
            terminal.end_input();
        }
        self.order(Order::Continue {
            foreground: true,
            wake: true,
        });
    }

    fn continue_command(&mut self, wake: bool) {
        let foreground = self
            .sandbox
            .terminal
            .as_mut()
            .is_some_and(|terminal| terminal.attach());
        self.order(Order::Continue { foreground, wake });
    }

    fn heed_signals(&mut self) -> Result<(), LaunchError> {
        if self.heed_signals_but_continue()? {
            self.continue_command(false);
        }
        Ok(())
    }

    /// True when one of them was the signal to continue.
    fn heed_signals_but_continue(&mut self) -> Result<bool, LaunchError> {
        let mut continued = false;
        while let Some(signal) = self.next_signal()? {
            match signal {
                Signal::CONT => continued = true,
                Signal::WINCH => {
                    if let Some(terminal) = &self.sandbox.terminal {
                        terminal.resize();
                    }
                }
                Signal::TERM | Signal::HUP => self.ask_to_end(signal),
                // As a terminal does it: all of the command's group.
                Signal::INT | Signal::QUIT | Signal::TSTP => self.forward(signal, true),
                Signal::USR1 | Signal::USR2 => self.forward(signal, false),
                // Somebody stops us for touching the terminal; we touch it in the foreground only.
                _ => {}
            }
        }
        Ok(continued)
    }

    fn next_signal(&self) -> Result<Option<Signal>, LaunchError> {
        let next = self.sandbox.signals.next();
        next.map_err(LaunchError::step("signal read"))
    }

    /// The first time it is the command's to end in its own way, the second time not any more.
    fn ask_to_end(&mut self, signal: Signal) {
        if self.deadline.is_some() {
            self.end_now();
        } else {
            self.forward(signal, signal == Signal::HUP);
            self.deadline = Instant::now().checked_add(GRACE);
        }
    }

    /// A first process that does not answer holds no walls that anybody could rely on.
    fn keep_heartbeat(&mut self, now: Instant) -> Result<(), LaunchError> {
        if self.ended || self.outcome.is_some() || self.frozen {
            self.heartbeat.pass_over(now);
            return Ok(());
        }
        match self.heartbeat.beat(now) {
            Beat::Wait => {}
            Beat::Ask => self.order(Order::Ping),
            Beat::Lost => return Err(LaunchError::Unresponsive),
        }
        Ok(())
    }

    /// Processor time adds up; of the rest the most at a time is kept.
    fn note(&mut self, now: Used) {
        self.last = now;
        let peak = &mut self.peak;
        peak.cpu_us = peak.cpu_us.max(now.cpu_us);
        peak.memory_bytes = peak.memory_bytes.max(now.memory_bytes);
        peak.processes = peak.processes.max(now.processes);
        peak.read_bytes = peak.read_bytes.max(now.read_bytes);
        peak.written_bytes = peak.written_bytes.max(now.written_bytes);
    }

    fn keep_deadline(&mut self) {
        if !self.ended && self.wall.is_some_and(|at| at <= Instant::now()) {
            self.wall = None;
            self.timed_out = self.outcome.is_none();
            self.ask_to_end(Signal::TERM);
        }
        if self.deadline.is_some_and(|at| at <= Instant::now()) {
            self.end_now();
        }
    }

    fn end_now(&mut self) {
        self.deadline = None;
        self.outcome
            .get_or_insert(Outcome::Signaled(Signal::KILL.as_raw()));
        self.sandbox.builder.kill();
        // What it wrote and nobody takes must not keep us.
        self.sandbox.outputs.clear();
        self.sandbox.terminal = None;
    }

    fn forward(&mut self, signal: Signal, group: bool) {
        self.wake_for(signal);
        self.order(Order::Signal {
            number: signal.as_raw(),
            group,
        });
    }

    /// A first process that is gone needs no orders; its end is about to be seen.
    fn order(&self, order: Order) {
        let _ = self.sandbox.channel.order(order);
    }
}

fn tell(hooks: &mut dyn RunHooks, number: u64, what: Happened) -> Result<(), LaunchError> {
    hooks.happened(number, what).map_err(LaunchError::Ended)
}

/// How long a command that was asked to end by SIGTERM or SIGHUP has for it.
const GRACE: Duration = Duration::from_secs(5);
