//! What a run is to its caller: how it ended, and what the caller does meanwhile.

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::{adapter::Steering, limits::Used};

/// How the command ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

impl Outcome {
    /// The exit code that a shell would give it: its own, or 128 and the signal's number.
    pub fn code(self) -> u8 {
        let code = match self {
            Self::Exited(code) => code,
            Self::Signaled(number) => 128 + number,
        };
        u8::try_from(code).unwrap_or(u8::MAX)
    }
}

/// What the caller does while the command runs. An error ends the session.
pub trait RunHooks {
    /// Starts the guard's supervisor on this listener. Called before the command can remove
    /// anything, only for a plan with [`guard`](crate::plan::SandboxPlan::guard).
    ///
    /// # Errors
    /// Why the command must not run without it.
    fn supervise(&mut self, listener: OwnedFd) -> Result<(), String>;

    /// A descriptor to watch, whose end ends the session: the connection to the daemon.
    fn watched(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Called when the watched descriptor is readable or closed.
    ///
    /// # Errors
    /// Why the session ends.
    fn on_watched(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// A second descriptor to watch: where orders about the running session come from.
    fn orders(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Called when the orders' descriptor is readable or closed.
    ///
    /// # Errors
    /// Why the session ends.
    fn on_orders(&mut self, _sandbox: &mut dyn Steering) -> Result<(), String> {
        Ok(())
    }

    /// Called at the end with the most that was used at a time, as it was sampled.
    fn used(&mut self, _most: Used) {}

    /// Called with what came of something that [`Steering`] was asked to do under this number.
    ///
    /// # Errors
    /// Why the session ends.
    fn happened(&mut self, _number: u64, _what: Happened) -> Result<(), String> {
        Ok(())
    }
}

/// What came of something that was asked of a running sandbox, by its number.
#[derive(Debug)]
pub enum Happened {
    /// No process of the session but its first runs any more.
    Paused,
    /// They run again.
    Resumed,
    /// A further command runs; its terminal's other end, where it has one.
    Began(Option<OwnedFd>),
    /// A further command is over.
    Ended(Outcome),
    /// What the session uses.
    Sampled(Used),
    /// It cannot be done, and why.
    Refused(String),
}

/// For a plan without a guard, under no daemon.
#[derive(Clone, Copy, Debug)]
pub struct NoHooks;

impl RunHooks for NoHooks {
    fn supervise(&mut self, _listener: OwnedFd) -> Result<(), String> {
        Err("removals are to be supervised and there is no supervisor".into())
    }
}
