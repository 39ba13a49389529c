//! The caller's side of a further command in a running session: its streams as they go in, and
//! the relay between the user's terminal and the session's until the command has ended.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Signal,
};

use super::{Split, Stdio};
use crate::{init::spec::Slot, sys::signals::Signals};

/// Streams that are about to join a session, or have.
#[derive(Debug)]
pub struct Join {
    split: Split,
    signals: Signals,
}

impl Join {
    /// Takes the streams. From here on signals to this process are read, not delivered.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(stdio: Stdio) -> io::Result<Self> {
        let signals = Signals::block(&[
            Signal::WINCH,
            Signal::CONT,
            Signal::INT,
            Signal::TERM,
            Signal::HUP,
            Signal::QUIT,
        ])?;
        Ok(Self {
            split: stdio.split()?,
            signals,
        })
    }

    /// Which of the three streams are a terminal, and so the session's own inside.
    pub fn terminals(&self) -> [bool; 3] {
        self.split.slots.map(|slot| slot == Slot::Terminal)
    }

    /// The others, in order.
    pub fn streams(&self) -> Vec<BorrowedFd<'_>> {
        self.split.inside.iter().map(AsFd::as_fd).collect()
    }

    /// The command runs: its terminal's other end, where it has one. What was passed in is
    /// closed here, so that its end is seen.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn began(&mut self, controller: Option<OwnedFd>) -> io::Result<()> {
        self.split.inside.clear();
        if let (Some(terminal), Some(controller)) = (&mut self.split.terminal, controller) {
            terminal.connect(controller)?;
            terminal.wanted = true;
            terminal.attach();
        }
        Ok(())
    }

    /// Relays until `ended`, called when `news` is readable, says with which code it is over, and
    /// all output is delivered. A signal that asks to end leaves with 128 and its number: the
    /// session's end of the terminal hangs up.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn relay<E: From<io::Error>>(
        mut self,
        news: BorrowedFd<'_>,
        mut ended: impl FnMut() -> Result<Option<u8>, E>,
    ) -> Result<u8, E> {
        let mut code = None;
        loop {
            let [signalled, told, moved] = self.wait(news, code.is_some())?;
            if let Some(code) = code
                && !moved
            {
                return Ok(code);
            }
            if signalled && let Some(signal) = self.heed_signals()? {
                return Ok(128_u8.saturating_add(u8::try_from(signal.as_raw()).unwrap_or(127)));
            }
            if told && code.is_none() {
                code = ended()?;
                if code.is_some() {
                    self.split.inputs.clear();
                    if let Some(terminal) = &mut self.split.terminal {
                        terminal.end_keyboard();
                    }
                }
            }
        }
    }

    /// Waits, and moves what can be moved. Of a command that has `ended` only what it left: what
    /// it wrote is there, and others that hold its terminal are not waited for.
    fn wait(&mut self, news: BorrowedFd<'_>, ended: bool) -> io::Result<[bool; 3]> {
        let signals = self.signals.as_fd();
        let watched = match ended {
            false => PollFlags::IN,
            true => PollFlags::empty(),
        };
        let mut sources = vec![
            PollFd::from_borrowed_fd(signals, PollFlags::IN),
            PollFd::from_borrowed_fd(news, watched),
        ];
        let split = &self.split;
        let terminal = split.terminal.iter().flat_map(|terminal| terminal.pumps());
        let pumps = split
            .outputs
            .iter()
            .chain(&split.inputs)
            .chain(terminal.flatten());
        let mut places = Vec::new();
        let mut held = false;
        for pump in pumps {
            places.push(pump.interest().map(|(descriptor, events)| {
                held |= events.contains(PollFlags::OUT);
                sources.push(PollFd::from_borrowed_fd(descriptor, events));
                sources.len() - 1
            }));
        }
        // What somebody has yet to take is waited for.
        let at_once = (ended && !held).then_some(Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        });
        rustix::io::retry_on_intr(|| poll(&mut sources, at_once.as_ref()))?;
        let is_ready = |at: usize| {
            sources
                .get(at)
                .is_some_and(|source| !source.revents().is_empty())
        };
        let (signalled, told) = (is_ready(0), is_ready(1) && !ended);
        let ready: Vec<bool> = places
            .into_iter()
            .map(|place| place.is_some_and(is_ready))
            .collect();
        drop(sources);
        let moved = held || ready.contains(&true);
        let split = &mut self.split;
        let terminal = split.terminal.iter_mut();
        let terminal = terminal.flat_map(|terminal| terminal.pumps_mut()).flatten();
        let streams = split.outputs.iter_mut().chain(&mut split.inputs);
        for (pump, ready) in streams.chain(terminal).zip(ready) {
            if ready {
                pump.step();
            }
        }
        Ok([signalled, told, moved])
    }

    /// The signal that asks to end, where one came.
    fn heed_signals(&mut self) -> io::Result<Option<Signal>> {
        while let Some(signal) = self.signals.next()? {
            let terminal = self.split.terminal.as_mut();
            match (signal, terminal) {
                (Signal::WINCH, Some(terminal)) => terminal.resize(),
                (Signal::CONT, Some(terminal)) => {
                    terminal.attach();
                }
                (Signal::WINCH | Signal::CONT, None) => {}
                (signal, _) => return Ok(Some(signal)),
            }
        }
        Ok(None)
    }
}
