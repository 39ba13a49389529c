//! The end of a world: what every one must leave, and what it must not.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use super::World;
use crate::{leaks, process};

impl World {
    /// Ends the daemon and checks what every world must leave: a log that verifies, no process,
    /// no mount, no socket, and nothing in the state directory but the log.
    #[track_caller]
    pub fn end(self) {
        self.stop();
        self.expect_nothing_left();
        self.expect_log_verifies();
    }

    /// Asks the daemon to leave and waits until everything of the world is gone.
    #[track_caller]
    pub fn stop(&self) {
        if !leaks::processes(&self.marks()).is_empty() {
            self.cordon(&["stop"]).expect_code(0);
        }
    }

    /// Fails when a process, a mount or a socket of this world is there.
    #[track_caller]
    pub fn expect_nothing_left(&self) {
        let marks = self.marks();
        for pid in leaks::processes(&marks) {
            let what = leaks::describe(pid);
            assert!(
                process::gone(pid, process::DEADLINE),
                "left running: {what}"
            );
        }
        assert_eq!(leaks::mounts(&marks), Vec::<String>::new(), "mounts left");
        let sockets: Vec<PathBuf> = leaks::contents(&self.runtime())
            .into_iter()
            .filter(|path| !path.is_dir() || path.to_string_lossy().contains("session"))
            .filter(|path| path.extension().is_none_or(|extension| extension != "lock"))
            .collect();
        assert_eq!(
            sockets,
            Vec::<PathBuf>::new(),
            "left in the runtime directory"
        );
        let state: Vec<PathBuf> = fs::read_dir(self.state())
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            // The log, cursors of sinks, what is in force, what tools of servers were, installed
            // extensions, that the walls stood, which sessions of agents were ended, and the daemon's
            // own messages.
            .filter(|path| {
                ![
                    "log",
                    "sinks",
                    "policy",
                    "mcp",
                    "extensions",
                    "boundary",
                    "boundary-build",
                    "boundary-container",
                    "boundary-strict",
                    "ended-hooks",
                    "daemon.log",
                ]
                .map(OsStr::new)
                .contains(&name_of(path))
            })
            .collect();
        assert_eq!(state, Vec::<PathBuf>::new(), "left in the state directory");
    }

    /// Fails unless the log, where there is one, verifies.
    #[track_caller]
    pub fn expect_log_verifies(&self) {
        // A daemon that was killed before its log had a first checkpoint has recorded nothing.
        let begun = leaks::contents(&self.state().join("log"))
            .iter()
            .map(|path| name_of(path).to_string_lossy())
            .any(|name| name == "checkpoint" || name == "tile" || name.starts_with("journal-"));
        if begun {
            self.cordon(&["audit", "verify"]).expect_code(0);
        }
    }
}

impl Drop for World {
    /// A scenario that failed half way leaves processes; they are ended so that they fail no other.
    fn drop(&mut self) {
        leaks::end(&self.marks());
    }
}

fn name_of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}
