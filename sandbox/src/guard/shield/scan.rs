//! Finds what is protected and there already, so that the kernel can hold it with a read-only
//! mount. Walks a folder of the host, the nearest first, to a bounded depth and number of folders;
//! what lies further down is held by the guard alone.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use super::{Added, Shield, git};

/// What was found in one folder.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Scan {
    /// Protected files and folders that are there, none below another, no links.
    pub present: Vec<PathBuf>,
    /// What its repositories add to the list.
    pub added: Vec<Added>,
    /// Not everything was looked at.
    pub cut: bool,
}

/// Looks through the folder `root`.
pub fn scan(root: &Path) -> Scan {
    let mut walk = Walk {
        root,
        found: Scan::default(),
        shield: Shield::default(),
        left: VecDeque::from([(root.to_path_buf(), 0)]),
    };
    // A repository that the grant lies in has a say too: as it is, `hooks` may be below.
    for above in root.ancestors().skip(1) {
        walk.found.added.extend(git::added_by(above));
    }
    let mut looked_at = 0;
    while let Some((folder, depth)) = walk.left.pop_front() {
        if looked_at == FOLDERS || walk.found.present.len() >= PRESENT {
            walk.found.cut = true;
            break;
        }
        looked_at += 1;
        walk.look(&folder, depth);
    }
    walk.finish()
}

struct Walk<'a> {
    root: &'a Path,
    found: Scan,
    shield: Shield,
    left: VecDeque<(PathBuf, usize)>,
}

impl Walk<'_> {
    fn look(&mut self, folder: &Path, depth: usize) {
        // What cannot be read cannot be read by the session either.
        let Ok(entries) = fs::read_dir(folder) else {
            return;
        };
        let mut folders = Vec::new();
        let mut names: Vec<OsString> = Vec::new();
        for entry in entries.take(ENTRIES).flatten() {
            let name = entry.file_name();
            if name == "HEAD" || name == "objects" || name == "refs" || name == ".git" {
                names.push(name);
            }
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_symlink() {
                continue;
            }
            let path = entry.path();
            let is_pointer = kind.is_file() && entry.file_name() == ".git";
            if (is_pointer || entry.file_name() != ".git")
                && self.shield.protects(self.root, &path).is_some()
            {
                self.found.present.push(path);
            } else if kind.is_dir() {
                folders.push(path);
            }
        }
        if names.iter().any(|name| name == ".git") {
            self.found.added.extend(git::added_by(folder));
        }
        if names.len() == 3 && names.iter().all(|name| name != ".git") {
            git::add_repository(folder, &mut self.found.added);
        }
        for path in folders {
            let below_git = path.iter().any(|name| name == ".git");
            let goes_on = if below_git {
                depth < DEPTH_IN_GIT && self.shield.holds(self.root, &path).is_some()
            } else {
                depth < DEPTH && !Shield::is_package(self.root, &path)
            };
            if goes_on {
                self.left.push_back((path, depth + 1));
            } else if !below_git {
                self.found.cut = true;
            }
        }
    }

    fn finish(mut self) -> Scan {
        let there = |path: &Path| {
            path.symlink_metadata()
                .is_ok_and(|metadata| metadata.is_file() || metadata.is_dir())
        };
        let added = self.found.added.iter().map(|added| added.path.clone());
        let below = added.filter(|path| path.starts_with(self.root) && path != self.root);
        self.found.present.extend(below.filter(|path| there(path)));
        // A folder before what lies in it.
        self.found.present.sort();
        self.found
            .present
            .dedup_by(|later, earlier| later.starts_with(earlier));
        if self.found.present.len() > PRESENT {
            self.found.present.truncate(PRESENT);
            self.found.cut = true;
        }
        self.found
    }
}

/// Folders below the root that are looked into.
const DEPTH: usize = 3;

/// The same within `.git`, for submodules.
const DEPTH_IN_GIT: usize = 10;

/// Folders looked at, at most.
const FOLDERS: usize = 2048;

/// Names of one folder, at most.
const ENTRIES: usize = 16_384;

/// Protected things that are told, at most: each becomes a mount.
const PRESENT: usize = 128;
