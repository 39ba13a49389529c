//! Reads bundles from disk: the only file of this module that touches a file system.
//!
//! Paths in, bounded text out. Below the folder that was named no symlink is followed, whoever
//! swaps names meanwhile: each folder and file is opened relative to the one that holds it.

use std::{
    fs::File,
    io::Read as _,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{CWD, Dir, FileType, Mode, OFlags, fstat, openat},
    io::Errno,
    path::Arg,
};

use super::{
    BundleError, Limits,
    contents::{Collector, Contents},
    error::Artefact,
    path::{PLACES, is_folder},
};

/// Most entries of a folder that are looked at, hidden ones included.
const MAX_ENTRIES: usize = 10_000;

/// Reads the files of a bundle's directory.
pub(super) fn directory(path: &Path, limits: &Limits) -> Result<Contents, BundleError> {
    let root = openat(CWD, path, FOLDER, Mode::empty()).map_err(|error| failed(path, error))?;
    let mut collector = Collector::new(limits);
    let mut open = vec![(String::new(), root)];
    let mut seen = 0_usize;
    while let Some((prefix, folder)) = open.pop() {
        for (name, kind) in entries(path, &folder, &mut seen)? {
            let Some(entry) = Entry::new(path, &prefix, &name)? else {
                continue;
            };
            if kind == FileType::Directory {
                let inner = openat(&folder, &*name, FOLDER | OFlags::NOFOLLOW, Mode::empty())
                    .map_err(|error| failed(&path.join(&entry.path), error))?;
                if !is_folder(&entry.path) {
                    return Err(no_place(&path.join(&entry.path)));
                }
                open.push((entry.path, inner));
            } else {
                let place = path.join(&entry.path);
                let (file, size) = open_file(&folder, &name, &place)?;
                let admitted = collector.admit(entry.path.as_bytes(), size)?;
                collector.take(admitted, read(file, size, &place)?)?;
            }
        }
    }
    Ok(collector.finish())
}

/// Reads an archive file.
pub(super) fn archive_bytes(path: &Path, limits: &Limits) -> Result<Vec<u8>, BundleError> {
    let limit = u64::try_from(limits.packed_bytes).unwrap_or(u64::MAX);
    small_file(path, limit).map_err(|why| {
        Artefact::Bundle.error(
            format!("`{}`: {why}", path.display()),
            "name a bundle's directory or its archive (`.tar.gz`)",
        )
    })
}

/// A regular file of at most `limit` bytes, or why not. The last name may be a symlink: it is the
/// one that the caller named.
fn small_file(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let file = openat(CWD, path, FILE, Mode::empty()).map_err(|error| error.to_string())?;
    let size = regular_size(&file)?;
    if size > limit {
        return Err(format!("it has more than {limit} bytes"));
    }
    bounded(file, size)
}

/// Reads one file below a folder without following symlinks; `None` when it is not there.
pub(super) struct Beneath {
    folder: OwnedFd,
}

impl Beneath {
    /// Opens a folder of a folder, name by name; `None` when one is not there.
    pub(super) fn open(root: &Path, names: &[&str]) -> Result<Option<Self>, BundleError> {
        let mut shown = root.to_path_buf();
        let mut folder =
            openat(CWD, root, FOLDER, Mode::empty()).map_err(|error| failed(root, error))?;
        for name in names {
            shown.push(name);
            match openat(&folder, *name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(inner) => folder = inner,
                Err(Errno::NOENT) => return Ok(None),
                Err(error) => return Err(failed(&shown, error)),
            }
        }
        Ok(Some(Self { folder }))
    }

    /// Names of what is in it, sorted, without hidden ones and backups.
    pub(super) fn names(&self, shown: &Path) -> Result<Vec<String>, BundleError> {
        let mut seen = 0;
        let mut names = Vec::new();
        for (name, _) in entries(shown, &self.folder, &mut seen)? {
            names.extend(Entry::new(shown, "", &name)?.map(|entry| entry.path));
        }
        names.sort();
        Ok(names)
    }

    /// Reads a regular file of at most `limit` bytes.
    pub(super) fn read(&self, name: &str, shown: &Path, limit: u64) -> Result<String, BundleError> {
        let (file, size) = open_file(&self.folder, name.as_bytes(), shown)?;
        if size > limit {
            return Err(Artefact::Bundle.error(
                format!("`{}` has more than {limit} bytes", shown.display()),
                "a workspace narrows with a few rules; policy of this size belongs into a bundle",
            ));
        }
        String::from_utf8(read(file, size, shown)?).map_err(|_| {
            Artefact::Bundle.error(
                format!("`{}` is not UTF-8 text", shown.display()),
                "save it as UTF-8",
            )
        })
    }
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);
/// Not to wait for the other end of a pipe.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// A name that counts, with the folders before it.
struct Entry {
    path: String,
}

impl Entry {
    /// `None` for hidden files and editors' backups.
    fn new(root: &Path, prefix: &str, name: &[u8]) -> Result<Option<Self>, BundleError> {
        if name.starts_with(b".") || name.ends_with(b"~") {
            return Ok(None);
        }
        let name = std::str::from_utf8(name).map_err(|_| {
            let shown = String::from_utf8_lossy(name);
            Artefact::Bundle.error(
                format!("`{}`: the name {shown:.200?} is not UTF-8", root.display()),
                PLACES,
            )
        })?;
        let path = match prefix {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        };
        Ok(Some(Self { path }))
    }
}

type Named = (Vec<u8>, FileType);

fn entries(root: &Path, folder: &OwnedFd, seen: &mut usize) -> Result<Vec<Named>, BundleError> {
    let fail = |error| failed(root, error);
    let mut found = Vec::new();
    for entry in Dir::read_from(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        *seen += 1;
        if *seen > MAX_ENTRIES {
            return Err(Artefact::Bundle.error(
                format!("`{}` has more than {MAX_ENTRIES} files", root.display()),
                "put only the bundle's files into its directory",
            ));
        }
        // Some file systems do not say; then the inode does.
        let kind = match entry.file_type() {
            FileType::Unknown => rustix::fs::statat(
                folder,
                entry.file_name(),
                rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
            )
            .map(|stat| FileType::from_raw_mode(stat.st_mode))
            .map_err(fail)?,
            kind => kind,
        };
        found.push((name.to_owned(), kind));
    }
    Ok(found)
}

fn open_file(
    folder: impl AsFd,
    name: impl Arg,
    shown: &Path,
) -> Result<(OwnedFd, u64), BundleError> {
    let file = openat(folder, name, FILE | OFlags::NOFOLLOW, Mode::empty())
        .map_err(|error| failed(shown, error))?;
    let size = regular_size(&file).map_err(|why| {
        Artefact::Bundle.error(
            format!("`{}`: {why}", shown.display()),
            "put the file itself into the directory",
        )
    })?;
    Ok((file, size))
}

fn regular_size(file: &OwnedFd) -> Result<u64, String> {
    let stat = fstat(file).map_err(|error| error.to_string())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("it is not a regular file".into());
    }
    u64::try_from(stat.st_size).map_err(|_| "it has no size".into())
}

fn read(file: OwnedFd, size: u64, shown: &Path) -> Result<Vec<u8>, BundleError> {
    bounded(file, size).map_err(|why| {
        Artefact::Bundle.error(
            format!("`{}`: {why}", shown.display()),
            "read it again once nothing writes it",
        )
    })
}

/// Its size was checked before; a file that grows meanwhile is refused.
fn bounded(file: OwnedFd, size: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    File::from(file)
        .take(size.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if u64::try_from(bytes.len()) != Ok(size) {
        return Err("it changed while it was read".into());
    }
    Ok(bytes)
}

fn no_place(path: &Path) -> BundleError {
    Artefact::Bundle.error(
        format!("`{}`: it has no place in a bundle", path.display()),
        PLACES,
    )
}

fn failed(path: &Path, error: Errno) -> BundleError {
    let (why, help) = match error {
        Errno::LOOP => (
            "it is a symlink".to_owned(),
            "put the file itself into the directory",
        ),
        Errno::NOTDIR => (
            "it is no directory, or a symlink".to_owned(),
            "name a bundle's directory, and put no symlink into it",
        ),
        other => (
            other.to_string(),
            "check the path and that the user may read it",
        ),
    };
    Artefact::Bundle.error(format!("`{}`: {why}", path.display()), help)
}
