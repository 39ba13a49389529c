//! Stops every process of the session but the first one, and lets them run again.
//!
//! One `kill(-1, SIGSTOP)` reaches every other process of the namespace at once, and the kernel
//! makes a fork that it interrupts start over, so nobody slips away as a child. That it is
//! complete is then looked at: no task may be found running any more. A task in an
//! uninterruptible wait counts as stopped: the signal is pending, so it stops before it comes back
//! to its program.

use std::{
    collections::HashSet,
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal},
    thread::sched_yield,
};

use crate::sys::process::signal_all_others;

/// Everybody is stopped; those who were before.
#[derive(Debug)]
pub(super) struct Paused {
    before: HashSet<Pid>,
}

impl Paused {
    /// Stops everybody.
    ///
    /// # Errors
    /// When somebody still runs after [`PATIENCE`]; everybody runs again then.
    pub(super) fn stop_all() -> io::Result<Self> {
        let before = others()?
            .into_iter()
            .filter(|pid| tasks_of(*pid).iter().all(|state| *state == b'T'))
            .collect();
        let paused = Self { before };
        let until = Instant::now() + PATIENCE;
        loop {
            match signal_all_others(Signal::STOP) {
                // There is nobody.
                Err(error) if error.raw_os_error() != Some(Errno::SRCH.raw_os_error()) => {
                    return Err(error);
                }
                Ok(()) | Err(_) => {}
            }
            if nobody_runs()? {
                return Ok(paused);
            }
            if Instant::now() > until {
                paused.let_run();
                return Err(io::Error::other("some process of the session did not stop"));
            }
            sched_yield();
        }
    }

    /// Lets everybody run again who ran before. Children first, so that no parent finds its child
    /// stopped.
    pub(super) fn let_run(self) {
        let mut all = others().unwrap_or_default();
        all.sort_by_key(|pid| std::cmp::Reverse(pid.as_raw_nonzero()));
        for pid in all {
            if !self.before.contains(&pid) {
                // It may be a zombie.
                let _gone = rustix::process::kill_process(pid, Signal::CONT);
            }
        }
    }
}

fn nobody_runs() -> io::Result<bool> {
    let still = |state: &u8| !matches!(state, b'T' | b't' | b'Z' | b'X' | b'D');
    Ok(!others()?
        .into_iter()
        .any(|pid| tasks_of(pid).iter().any(still)))
}

/// Every process of the namespace but this one.
fn others() -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.parse().ok())
            .and_then(Pid::from_raw);
        found.extend(pid.filter(|pid| *pid != Pid::INIT));
    }
    Ok(found)
}

/// The states of the tasks of a process; none when it is gone.
fn tasks_of(pid: Pid) -> Vec<u8> {
    let tasks = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
    let Ok(tasks) = fs::read_dir(tasks.join("task")) else {
        return Vec::new();
    };
    tasks
        .flatten()
        .filter_map(|task| state(&fs::read(task.path().join("stat")).ok()?))
        .collect()
}

/// The third field of `/proc/PID/stat`. The second is in brackets and may hold anything.
fn state(stat: &[u8]) -> Option<u8> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(end + 2).copied()
}

/// How long it may take. Measured: under 5 ms for 500 busy processes.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_found_behind_any_name() {
        assert_eq!(state(b"12 (sh) R 1 12"), Some(b'R'));
        assert_eq!(state(b"12 (a) T (b)) S 1"), Some(b'S'));
        assert_eq!(state(b"12 ("), None);
        assert_eq!(state(b"12 (sh)"), None);
    }
}
