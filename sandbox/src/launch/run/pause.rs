//! A running session stands still and goes on: by its control group's freezer where it has one,
//! else by its first process, with signals.

use rustix::process::Signal;

use super::{Happened, LaunchError, RunHooks, Running, tell};
use crate::channel::Order;

impl Running {
    /// Stops every process of the session. What came of it is told to [`RunHooks::happened`] under
    /// `number`, here and with the following.
    pub(super) fn stand_still(&mut self, number: u64) {
        let freezer = self.sandbox.builder.freezer.as_ref();
        // Where a thread waits out of the freezer's reach, signals do as well.
        let frozen = self.frozen || freezer.is_some_and(|freezer| freezer.freeze().is_ok());
        if frozen {
            self.frozen = true;
            self.told.push((number, Happened::Paused));
        } else {
            self.order(Order::Pause(number));
        }
    }

    /// Lets them run again.
    pub(super) fn go_on(&mut self, number: u64) {
        if !self.frozen {
            return self.order(Order::Resume(number));
        }
        let happened = match self.thaw() {
            Ok(()) => Happened::Resumed,
            Err(why) => Happened::Refused(why),
        };
        self.told.push((number, happened));
    }

    pub(super) fn tell_what_happened(
        &mut self,
        hooks: &mut dyn RunHooks,
    ) -> Result<(), LaunchError> {
        for (number, what) in std::mem::take(&mut self.told) {
            tell(hooks, number, what)?;
        }
        Ok(())
    }

    /// A command that is asked to end must be able to hear it.
    pub(super) fn wake_for(&mut self, signal: Signal) {
        // No other does: they have no deadline, and whoever paused it would not know that it runs.
        let asks_to_end = [Signal::TERM, Signal::HUP];
        if asks_to_end.contains(&signal) {
            // One that cannot be woken is killed at its deadline.
            let _frozen = self.thaw();
        }
    }

    fn thaw(&mut self) -> Result<(), String> {
        if let (true, Some(freezer)) = (self.frozen, &self.sandbox.builder.freezer) {
            freezer
                .thaw()
                .map_err(|error| format!("its control group does not let it go on: {error}"))?;
        }
        self.frozen = false;
        Ok(())
    }
}
