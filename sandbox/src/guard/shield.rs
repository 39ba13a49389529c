//! Which paths are protected inside a writable grant: the list in `policies/protected-paths.json`
//! and what a folder's repositories add to it. Host paths in, the entry that names them out; looks
//! at the host only to see whether a folder holds a repository.

mod data;
mod git;
mod scan;
#[cfg(test)]
mod tests;

use std::{
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
    sync::LazyLock,
};

use data::{Entry, List, Where, fold};
pub use scan::{Scan, scan};

/// Why a path is protected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Protection {
    /// The entry of the list, or what found it.
    pub pattern: &'static str,
    /// What the file would do.
    pub why: &'static str,
}

/// A path of one host folder that a repository in it adds to the list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Added {
    /// Absolute, as the host has it. It need not exist.
    pub path: PathBuf,
    /// Why.
    pub protection: Protection,
}

/// What is protected in one granted folder.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Shield {
    added: Vec<Added>,
}

impl Shield {
    /// The list, and what `added` says.
    pub fn new(added: Vec<Added>) -> Self {
        Self { added }
    }

    /// Why `path` may not be changed, where it is protected in the grant of `root`. What is
    /// granted by itself is not: the match must end below the root.
    pub fn protects(&self, root: &Path, path: &Path) -> Option<Protection> {
        let listed = Names::of(root, path)?.find(Entry::covers);
        let added = || {
            let mut added = self.added.iter().filter(|added| added.path != root);
            added.find(|added| path.starts_with(&added.path))
        };
        listed.or_else(|| added().map(|added| added.protection))
    }

    /// Why a folder at `path` may not be put there or taken away: something protected lies, or
    /// would lie, below it.
    pub fn holds(&self, root: &Path, path: &Path) -> Option<Protection> {
        if path == root {
            return None;
        }
        if let Some(added) = self
            .added
            .iter()
            .find(|added| added.path.starts_with(path) && added.path != path)
        {
            return Some(added.protection);
        }
        Names::of(root, path)?.find(Entry::reaches_below)
    }

    /// Whether a folder may hold what is not protected there and would be elsewhere: its contents
    /// come from archives.
    pub fn is_package(root: &Path, path: &Path) -> bool {
        Names::of(root, path).is_some_and(|names| names.in_packages(names.folded.len()))
    }
}

static LIST: LazyLock<List> = LazyLock::new(List::read);

/// A path by its names, with those below the grant's folder told apart.
struct Names<'a> {
    path: &'a Path,
    raw: Vec<&'a [u8]>,
    folded: Vec<Vec<u8>>,
    /// How many of them lead to the grant's own folder.
    root: usize,
}

impl<'a> Names<'a> {
    fn of(root: &Path, path: &'a Path) -> Option<Self> {
        path.strip_prefix(root).ok()?;
        let raw: Vec<&[u8]> = path
            .components()
            .filter_map(|part| match part {
                Component::Normal(name) => Some(name.as_bytes()),
                _ => None,
            })
            .collect();
        Some(Self {
            path,
            folded: raw.iter().map(|name| fold(name)).collect(),
            raw,
            root: root.components().count().saturating_sub(1),
        })
    }

    /// The first entry for which `fits` from some name on.
    fn find(&self, fits: fn(&Entry, &[Vec<u8>], usize) -> bool) -> Option<Protection> {
        for at in 0..self.folded.len() {
            // Nearly no name of an ordinary path begins an entry.
            let Some(name) = self.folded.get(at).filter(|name| LIST.may_begin(name)) else {
                continue;
            };
            let rest = self.folded.get(at..)?;
            let found = LIST.entries_beginning(name).find(|entry| {
                // The entry must end below the root.
                let enough = (self.root + 1).saturating_sub(at);
                self.is_place_of(entry, at) && fits(entry, rest, enough)
            });
            if let Some(entry) = found {
                return Some(entry.protection);
            }
        }
        None
    }

    /// Whether an entry that begins with name number `at` counts there.
    fn is_place_of(&self, entry: &Entry, at: usize) -> bool {
        if entry.exact_case && self.raw.get(at) != Some(&entry.text.as_bytes()) {
            return false;
        }
        if let Some(outside) = &entry.outside
            && self.folded.iter().take(at).any(|name| name == outside)
        {
            return false;
        }
        match entry.place {
            Where::Anywhere => true,
            Where::Sources => !self.in_packages(at),
            Where::Top => at == self.root || self.is_repository(at),
        }
    }

    fn in_packages(&self, until: usize) -> bool {
        let between = self.folded.iter().take(until).skip(self.root);
        between.into_iter().any(|name| LIST.packages.contains(name))
    }

    /// Whether the first `count` names lead to a folder with a `.git`.
    fn is_repository(&self, count: usize) -> bool {
        let folder: PathBuf = self.path.components().take(count + 1).collect();
        folder.join(".git").symlink_metadata().is_ok()
    }
}
