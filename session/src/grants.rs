//! Grants: from what a user wrote to the one open directory or file that is decided on.
//!
//! The spelling is read once, symlinks are resolved once, the result is held open, and the path that
//! is decided on is the kernel's for just that; what is mounted later is compared with it by device
//! and inode (F07).

mod flag;
mod names;
mod protected;

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};

pub use flag::{FlagError, GrantFlag};
pub use names::{Names, is_name};
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
        let (held, stat) = look(path, ResolveFlags::NO_MAGICLINKS)?;
        // To resolve the path by itself would be to resolve it twice: a folder above could be
        // exchanged in between, and one path decided on where another is mounted.
        let canonical = std::fs::read_link(format!("/proc/self/fd/{}", held.as_raw_fd()))?;
        let no_links = ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        let (_again, same) = look(&canonical, no_links)?;
        if (same.st_dev, same.st_ino) != (stat.st_dev, stat.st_ino) {
            return Err(io::Error::other("it was exchanged while it was looked at"));
        }
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

fn look(path: &Path, resolve: ResolveFlags) -> io::Result<(OwnedFd, Stat)> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let held = openat2(CWD, path, flags, Mode::empty(), resolve)?;
    let stat = fstat(&held)?;
    Ok((held, stat))
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

    /// Its path deep below a folder that is exchanged for a link all the time.
    #[test]
    fn f07_the_path_that_is_decided_on_is_that_of_what_is_held() {
        use rustix::fs::{RenameFlags, renameat_with};
        use std::sync::atomic::{AtomicBool, Ordering};
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let below: PathBuf = std::iter::repeat_n("d", 400).collect();
        let identity = |top: &str| {
            let deepest = root.join(top).join(&below);
            std::fs::create_dir_all(&deepest).unwrap();
            let (_held, stat) = look(&deepest, ResolveFlags::NO_SYMLINKS).unwrap();
            (stat.st_dev, stat.st_ino)
        };
        let (open, secret) = (identity("open"), identity("secret"));
        std::os::unix::fs::symlink("secret", root.join("link")).unwrap();
        let done = AtomicBool::new(false);
        let exchange = || {
            let (one, other) = (root.join("open"), root.join("link"));
            renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    exchange();
                }
            });
            let asked = root.join("open").join(&below);
            let mut held = 0;
            for _try in 0..2_000 {
                // Refused is right too: it changed meanwhile.
                let Ok(found) = HeldPath::open(&asked) else {
                    continue;
                };
                held += 1;
                let is_secret = found.path.starts_with(root.join("secret"));
                let right = if is_secret { secret } else { open };
                if found.identity != right {
                    done.store(true, Ordering::Relaxed);
                    panic!("{} is another folder", found.path.display());
                }
            }
            done.store(true, Ordering::Relaxed);
            assert!(held > 0, "the control: some are held");
        });
    }

    #[test]
    fn a_path_through_a_process_is_not_resolved() {
        let open = HeldPath::open(Path::new("/proc/self/cwd"));
        assert_eq!(open.unwrap_err().raw_os_error(), Some(40), "ELOOP");
        assert!(HeldPath::open(&std::env::current_dir().unwrap()).is_ok());
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
