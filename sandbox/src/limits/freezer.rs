//! Stops every process of a control group of version 2 at once, and lets them run again.
//!
//! Version 1 has a freezer too, and it is not used: what it has frozen cannot even be killed, so a
//! session whose launcher dies while it is paused would stay for ever.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// The freezer of one group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Freezer(PathBuf);

impl Freezer {
    /// What it is called to people.
    pub(crate) const WORDS: &'static str = "control group (version 2)";

    /// Of the group in this directory, where the kernel has one.
    pub(crate) fn of(group: &Path) -> Option<Self> {
        let there = group.join(SWITCH).exists() && group.join(EVENTS).exists();
        there.then(|| Self(group.into()))
    }

    /// Returns when nothing in it runs.
    ///
    /// # Errors
    /// When it cannot be switched, or somebody still runs after [`PATIENCE`]: a thread in a wait
    /// that the freezer does not interrupt. Everybody runs again then.
    pub(crate) fn freeze(&self) -> io::Result<()> {
        self.switch("1")?;
        let until = Instant::now() + PATIENCE;
        loop {
            match self.is_frozen() {
                Ok(true) => return Ok(()),
                Ok(false) if Instant::now() < until => thread::sleep(BETWEEN_LOOKS),
                Ok(false) => {
                    self.switch("0")?;
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(error) => {
                    self.switch("0")?;
                    return Err(error);
                }
            }
        }
    }

    /// Lets everybody run again.
    ///
    /// # Errors
    /// When it cannot be switched.
    pub(crate) fn thaw(&self) -> io::Result<()> {
        self.switch("0")
    }

    fn switch(&self, to: &str) -> io::Result<()> {
        fs::write(self.0.join(SWITCH), to)
    }

    fn is_frozen(&self) -> io::Result<bool> {
        let events = fs::read_to_string(self.0.join(EVENTS))?;
        Ok(events.lines().any(|line| line == "frozen 1"))
    }
}

// `Documentation/admin-guide/cgroup-v2.rst`.
const SWITCH: &str = "cgroup.freeze";
const EVENTS: &str = "cgroup.events";

/// How long it may take. Measured: under 1 ms for 500 busy processes.
const PATIENCE: Duration = Duration::from_millis(500);

/// The kernel tells of the change by an event of the file; a look costs less than setting that up.
const BETWEEN_LOOKS: Duration = Duration::from_micros(200);

#[cfg(test)]
mod tests {
    use super::*;

    /// Plain files stand for the kernel's; nobody answers the switch in the last case.
    #[test]
    fn what_does_not_freeze_in_time_runs_again() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Freezer::of(folder.path()), None);
        let at = |name: &str| folder.path().join(name);
        fs::write(at(SWITCH), "0").unwrap();
        fs::write(at(EVENTS), "populated 1\nfrozen 1\n").unwrap();
        let freezer = Freezer::of(folder.path()).unwrap();
        freezer.freeze().unwrap();
        assert_eq!(fs::read_to_string(at(SWITCH)).unwrap(), "1");
        fs::write(at(EVENTS), "populated 1\nfrozen 0\n").unwrap();
        freezer.thaw().unwrap();
        let late = freezer.freeze().unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        assert_eq!(fs::read_to_string(at(SWITCH)).unwrap(), "0");
    }
}
