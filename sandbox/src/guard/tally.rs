//! Counts what a session did to the files of each grant.

use std::{collections::HashSet, path::PathBuf};

use rustix::fs::Stat;

/// What happened to the files of one grant.
#[derive(Clone, Debug, Default)]
pub struct FileCounts {
    /// Files and other names made.
    pub created: u64,
    /// Files opened for writing that the session did not make, each once.
    pub changed: u64,
    /// Names removed, or lost to another that was renamed over them.
    pub deleted: u64,
    /// Names changed.
    pub moved: u64,
    /// The first that were removed or lost, on the host.
    pub first_deleted: Vec<PathBuf>,
    seen: HashSet<(u64, u64)>,
}

impl FileCounts {
    /// A file was made.
    pub(super) fn made(&mut self, file: Option<&Stat>) {
        self.created += 1;
        self.see(file);
    }

    /// A file that may be written was opened.
    pub(super) fn opened(&mut self, file: &Stat) {
        if self.see(Some(file)) {
            self.changed += 1;
        }
    }

    /// A name is gone.
    pub(super) fn deleted(&mut self, path: Option<PathBuf>) {
        self.deleted += 1;
        if self.first_deleted.len() < FIRST {
            self.first_deleted.extend(path);
        }
    }

    fn see(&mut self, file: Option<&Stat>) -> bool {
        let Some(file) = file else { return false };
        self.seen.len() < SEEN && self.seen.insert((file.st_dev, file.st_ino))
    }
}

/// Paths that are told of one grant.
const FIRST: usize = 20;

/// Files that are told apart in one grant; what comes after is not counted as changed.
const SEEN: usize = 65_536;
