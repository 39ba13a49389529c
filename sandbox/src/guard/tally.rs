//! Counts what a session did to the files of each grant.

use std::path::{Path, PathBuf};

use rustix::fs::Stat;

use super::touched::{Touched, add, size_of};

/// What happened to the files of one grant.
#[derive(Clone, Debug, Default)]
pub struct FileCounts {
    /// The grant's folder or file on the host.
    pub host: PathBuf,
    /// Files and other names made.
    pub created: u64,
    /// Files opened for writing that the session did not make, each once.
    pub changed: u64,
    /// Names removed.
    pub deleted: u64,
    /// Bytes of regular files that lost their last name by that.
    pub deleted_bytes: u64,
    /// Names that another was renamed over.
    pub replaced: u64,
    /// Bytes of regular files that lost their last name by that.
    pub replaced_bytes: u64,
    /// Names changed.
    pub moved: u64,
    /// The first that were removed, on the host.
    pub first_deleted: Vec<PathBuf>,
    /// What was made and written, for its size.
    pub touched: Touched,
}

impl FileCounts {
    /// Of the grant that lies here.
    pub(super) fn of(host: &Path) -> Self {
        Self {
            host: host.to_path_buf(),
            ..Self::default()
        }
    }

    /// A file was made by opening it.
    pub(super) fn made(&mut self, file: &Stat, name: Option<PathBuf>) {
        self.created += 1;
        self.touched.made(file, name);
    }

    /// A name was made; of a file, if `file`.
    pub(super) fn named(&mut self, file: Option<&Stat>, is_new: bool, name: Option<PathBuf>) {
        self.created += 1;
        match file {
            Some(file) if is_new => self.touched.made(file, name),
            Some(file) => self.touched.linked(file, name),
            None => {}
        }
    }

    /// Whether opening it once more changes no count.
    pub(super) fn knows(&self, file: &Stat) -> bool {
        self.touched.knows(file)
    }

    /// A file that may be written was opened; it had so many bytes, if that is not what it has now.
    pub(super) fn opened(&mut self, file: &Stat, before: Option<u64>, name: Option<PathBuf>) {
        let before = before.unwrap_or_else(|| size_of(file));
        self.changed += u64::from(self.touched.written(file, before, name));
    }

    /// A name is gone, and `freed` bytes where it was the last of a file.
    pub(super) fn deleted(&mut self, path: Option<PathBuf>, freed: Option<u64>) {
        self.deleted += 1;
        add(&mut self.deleted_bytes, freed.unwrap_or(0));
        if let Some(path) = &path {
            self.touched.gone(path, freed.is_some());
        }
        if self.first_deleted.len() < FIRST {
            self.first_deleted.extend(path);
        }
    }

    /// What had a name, and `freed` bytes where it was the last of a file, lost it to another.
    pub(super) fn replaced(&mut self, path: Option<&Path>, freed: Option<u64>) {
        self.replaced += 1;
        add(&mut self.replaced_bytes, freed.unwrap_or(0));
        if let Some(path) = path {
            self.touched.gone(path, freed.is_some());
        }
    }

    /// A name was changed, from one end to the other, or two were exchanged.
    pub(super) fn moved(&mut self, ends: Option<(&Path, &Path)>, exchanged: bool) {
        self.moved += 1;
        match ends {
            Some((one, other)) if exchanged => self.touched.exchanged(one, other),
            Some((from, to)) => self.touched.moved(from, to),
            None => {}
        }
    }
}

/// Paths that are told of one grant.
const FIRST: usize = 20;
