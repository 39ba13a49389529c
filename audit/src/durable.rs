//! Files that are whole or not there, whenever the power goes.
//!
//! A path and bytes in. Never follows a symbolic link that somebody laid in the way.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, OFlags, RenameFlags};

/// Replaces a file at once, for its owner alone (0600): whoever reads it, and whenever power goes,
/// sees the old or the new.
///
/// # Errors
/// [`io::Error`]: the old one is still there.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_as(path, bytes, 0o600)
}

/// As [`replace`], with the mode that the user's `umask` gives other files.
///
/// # Errors
/// As [`replace`].
pub fn replace_shared(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_as(path, bytes, 0o666)
}

/// Makes a file at once, for everybody to read (0644): whole or not at all, and never over another.
///
/// # Errors
/// [`io::Error`]: it is not there, or may not outlast a loss of power;
/// [`io::ErrorKind::AlreadyExists`] where something has its name.
pub fn create_shared(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary(path);
    let mut file = create_new(&temporary, 0o644)?;
    let made = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| take_name(&temporary, path));
    // It has its name, or is in nobody's way.
    let _left = fs::remove_file(&temporary);
    made?;
    sync_parent(path)
}

/// Syncs the directory that `path` lies in, so that its entry there is durable.
///
/// # Errors
/// [`io::Error`] when it cannot be.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    sync_directory(parent(path))
}

/// The name under which a file is written before it takes its place.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The directory that a file is in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn replace_as(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = temporary(path);
    let mut file = create_new(&temporary, mode)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // It is in nobody's way: the next attempt takes its place.
        let _left = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_parent(path)
}

/// Gives a file a name that nothing has. A link says so on every file system that has links; the
/// others rename.
fn take_name(file: &Path, name: &Path) -> io::Result<()> {
    match fs::hard_link(file, name) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Ok(
            rustix::fs::renameat_with(CWD, file, CWD, name, RenameFlags::NOREPLACE)?,
        ),
        linked => linked,
    }
}

/// Makes a file of our own: never one that somebody else has made, and could still write to.
fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    let create = || {
        OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(mode)
            .custom_flags(no_follow())
            .open(path)
    };
    match create() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // What a crash has left.
            fs::remove_file(path)?;
            create()
        }
        made => made,
    }
}

pub(crate) fn no_follow() -> i32 {
    // The flag is a small positive number on every platform we build for.
    i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("state.json");
        for bytes in [&b"one"[..], b"a longer two", b""] {
            replace(&path, bytes).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
            assert_eq!(mode(&path), 0o600);
        }
        replace_shared(&path, b"shared").unwrap();
        assert_ne!(mode(&path) & 0o044, 0, "umask of an ordinary user");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);

        fs::create_dir(place.path().join("directory")).unwrap();
        let taken = place.path().join("directory");
        assert!(replace(&taken, b"x").is_err());
        assert!(!temporary(&taken).exists(), "nothing is left of a failure");
    }

    #[test]
    fn a_file_is_made_whole_and_never_over_another() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("checkpoint");
        // What a crash has left of the attempt before.
        fs::write(temporary(&path), b"ha").unwrap();
        create_shared(&path, b"half and half").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"half and half");
        assert_ne!(mode(&path) & 0o044, 0, "umask of an ordinary user");
        let taken = create_shared(&path, b"another").unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"half and half");
        let nowhere = place.path().join("link");
        symlink(place.path().join("nothing"), &nowhere).unwrap();
        let taken = create_shared(&nowhere, b"another").unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_lies_in_the_way_is_neither_followed_nor_written_to() {
        let place = tempfile::tempdir().unwrap();
        let (path, victim) = (place.path().join("a"), place.path().join("victim"));
        fs::write(&victim, b"mine").unwrap();
        symlink(&victim, temporary(&path)).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(!path.is_symlink());

        fs::hard_link(&victim, temporary(&path)).unwrap();
        replace(&path, b"newer").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
    }
}
