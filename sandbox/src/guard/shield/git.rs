//! Where git looks for a repository's configuration and hooks, as git does it: `.git` as a folder,
//! as a link, as a file that points elsewhere; `commondir`; `core.hooksPath`. Reads the host, no
//! more than a bounded piece of each file.

use std::{
    ffi::OsStr,
    fs::File,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use super::{Added, Protection};

/// What the repository at `top` (the folder that holds `.git`) adds to the list.
pub(super) fn added_by(top: &Path) -> Vec<Added> {
    let pointer = top.join(".git");
    let Ok(metadata) = pointer.symlink_metadata() else {
        return Vec::new();
    };
    let directory = if metadata.is_file() {
        match pointed_at(&pointer, top) {
            Some(directory) => directory,
            // Git cannot make anything of it either, and it is protected itself.
            None => return Vec::new(),
        }
    } else if metadata.is_symlink() {
        resolved(&pointer)
    } else {
        pointer
    };
    let mut added = Vec::new();
    if directory.is_dir() {
        let common = common_of(&directory);
        add_repository(&directory, &mut added);
        if common != directory {
            add_repository(&common, &mut added);
        }
        for folder in [&directory, &common] {
            add_hooks_path(&folder.join("config"), top, &mut added);
            add_hooks_path(&folder.join("config.worktree"), top, &mut added);
        }
    } else {
        added.push(Added {
            path: directory,
            protection: POINTED_AT,
        });
    }
    added
}

/// What is protected in a folder that is a repository itself, whatever its name.
pub(super) fn add_repository(directory: &Path, added: &mut Vec<Added>) {
    added.extend(INSIDE.map(|name| Added {
        path: directory.join(name),
        protection: REPOSITORY,
    }));
}

/// What `gitdir: PATH` says.
fn pointed_at(pointer: &Path, top: &Path) -> Option<PathBuf> {
    let text = read(pointer)?;
    let path = text.strip_prefix(b"gitdir: ")?;
    let path = trimmed(path);
    (!path.is_empty()).then(|| resolved(&top.join(OsStr::from_bytes(path))))
}

fn common_of(directory: &Path) -> PathBuf {
    match read(&directory.join("commondir")) {
        Some(text) if !trimmed(&text).is_empty() => {
            resolved(&directory.join(OsStr::from_bytes(trimmed(&text))))
        }
        _ => directory.to_path_buf(),
    }
}

/// `core.hooksPath`, wherever in the file it stands: what git would not read does no harm here.
fn add_hooks_path(config: &Path, top: &Path, added: &mut Vec<Added>) {
    let Some(text) = read(config) else { return };
    for line in text.split(|byte| *byte == b'\n') {
        let Some(at) = line.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let (key, value) = line.split_at(at);
        // It may stand on the section's own line.
        let key = key.rsplit(|byte| *byte == b']').next().unwrap_or(key);
        if !key.trim_ascii().eq_ignore_ascii_case(b"hookspath") {
            continue;
        }
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let value: Vec<u8> = value.iter().copied().filter(|byte| *byte != b'"').collect();
        if value.is_empty() || value.starts_with(b"~") {
            // The home directory is never granted as a whole.
            continue;
        }
        let folder = resolved(&top.join(OsStr::from_bytes(&value)));
        let protect = |path| Added {
            path,
            protection: HOOKS_PATH,
        };
        if top.starts_with(&folder) {
            added.extend(HOOKS.map(|hook| protect(folder.join(hook))));
        } else {
            added.push(protect(folder));
        }
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    File::open(path)
        .ok()?
        .take(LIMIT)
        .read_to_end(&mut text)
        .ok()?;
    Some(text)
}

fn trimmed(text: &[u8]) -> &[u8] {
    text.trim_ascii_end()
}

/// The path without links, or, where it leads nowhere yet, without `..`.
fn resolved(path: &Path) -> PathBuf {
    if let Ok(found) = path.canonicalize() {
        return found;
    }
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    match (plain.parent().map(Path::canonicalize), plain.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => plain,
    }
}

/// What git reads of a repository that can make it run something.
const INSIDE: [&str; 5] = [
    "config",
    "config.worktree",
    "hooks",
    "info/attributes",
    "commondir",
];

/// The hooks by name, for a folder that is more than hooks.
const HOOKS: [&str; 18] = [
    "applypatch-msg",
    "commit-msg",
    "fsmonitor-watchman",
    "post-applypatch",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-merge",
    "post-rewrite",
    "pre-applypatch",
    "pre-auto-gc",
    "pre-commit",
    "pre-merge-commit",
    "pre-push",
    "pre-rebase",
    "prepare-commit-msg",
    "reference-transaction",
    "sendemail-validate",
];

const REPOSITORY: Protection = Protection {
    pattern: "git repository",
    why: "git runs what a repository's configuration and hooks say",
};
const POINTED_AT: Protection = Protection {
    pattern: "gitdir",
    why: "a `.git` file points here, and git would take what is put here for a repository",
};
const HOOKS_PATH: Protection = Protection {
    pattern: "core.hooksPath",
    why: "hooks that git runs",
};

/// Bytes read of one file.
const LIMIT: u64 = 1 << 18;
