//! Grants: from what a user wrote to the one open directory or file that is decided on.
//!
//! The spelling is read once, symlinks are resolved once, the result is held open; what is
//! mounted later is compared with it by device and inode (F07).

mod flag;
mod names;
mod protected;

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

pub use flag::{FlagError, GrantFlag};
pub use names::Names;
pub use protected::{Protected, Protection};

/// A path of the host, resolved once and held open without read or write access (`O_PATH`).
#[derive(Debug)]
pub struct HeldPath {
    /// Canonical absolute path: no symlink, no `..`.
    pub path: PathBuf,
    /// Device and inode.
    pub identity: (u64, u64),
    /// A directory; otherwise a regular file.
    pub directory: bool,
    _held: OwnedFd,
}

impl HeldPath {
    /// Resolves and opens `path`.
    ///
    /// # Errors
    /// When it does not exist, cannot be reached, changes while it is looked at, or is neither a
    /// directory nor a regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let canonical = path.canonicalize()?;
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let held = openat(CWD, &canonical, flags, Mode::empty())?;
        let stat = fstat(&held)?;
        let directory = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => true,
            FileType::RegularFile => false,
            _other => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "neither a directory nor a regular file",
                ));
            }
        };
        Ok(Self {
            path: canonical,
            identity: (stat.st_dev, stat.st_ino),
            directory,
            _held: held,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f07_a_symlink_is_resolved_once_to_what_it_points_at() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();

        let held = HeldPath::open(&dir.path().join("link")).unwrap();

        assert_eq!(held.path, real.canonicalize().unwrap());
        assert!(held.directory);
        assert_eq!(held.identity, HeldPath::open(&real).unwrap().identity);
    }

    #[test]
    fn sockets_and_devices_are_not_grantable() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(HeldPath::open(&socket).is_err());
        assert!(HeldPath::open(Path::new("/dev/null")).is_err());
        std::fs::write(dir.path().join("f"), "x").unwrap();
        assert!(!HeldPath::open(&dir.path().join("f")).unwrap().directory);
    }
}
