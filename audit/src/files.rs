//! The log's directory: private, locked, and every change of it on stable storage.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;

use crate::{
    durable::no_follow,
    log::{OpenError, OpenErrorKind},
};

pub(crate) use crate::durable::{parent, replace, sync_directory, temporary};

/// What the writer needs of an open journal file. A trait so that tests can make each operation
/// fail in turn and see their order.
pub(crate) trait Disk: fmt::Debug + Send + Sync {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    fn sync_data(&self) -> io::Result<()>;
    fn set_len(&self, len: u64) -> io::Result<()>;
}

impl Disk for File {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }
}

/// Makes or checks the directory: 0700, and owned by this process's user.
pub(crate) fn private_directory(directory: &Path) -> Result<(), OpenError> {
    let io = |error| OpenError::io(directory, "made private", &error);
    if !directory.exists() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(io)?;
        if let Some(parent) = directory.parent().filter(|p| !p.as_os_str().is_empty()) {
            sync_directory(parent).map_err(io)?;
        }
    }
    let metadata = fs::metadata(directory).map_err(io)?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(OpenError::new(
            OpenErrorKind::Invalid,
            format!(
                "`{}` belongs to user {}, not to the one this runs as: run as that user, or name \
                 a directory of your own",
                directory.display(),
                metadata.uid()
            ),
        ));
    }
    if metadata.mode() & 0o077 != 0 {
        // Somebody's other directory, named by mistake, is not ours to close.
        let empty = fs::read_dir(directory).map_err(io)?.next().is_none();
        if !empty && !directory.join("lock").exists() {
            return Err(OpenError::new(
                OpenErrorKind::Invalid,
                format!(
                    "`{}` is open to other users and holds other things than a log: name a \
                     directory of the log's own",
                    directory.display()
                ),
            ));
        }
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(io)?;
    }
    Ok(())
}

/// Takes the log's lock for as long as the file is held.
pub(crate) fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join("lock");
    let file = private_options()
        .create(true)
        .write(true)
        .open(&path)
        .map_err(|error| OpenError::io(&path, "opened", &error))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::new(
            OpenErrorKind::Locked,
            format!(
                "another process has it open (lock `{}`): use that one, or stop it first",
                path.display()
            ),
        )),
        Err(error) => Err(OpenError::io(&path, "locked", &error.into())),
    }
}

/// Makes a private file, empty.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    private_options()
        .create(true)
        .truncate(true)
        .write(true)
        .open(path)
}

/// Opens one of our files for reading and writing; never through a symbolic link.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    private_options().read(true).write(true).open(path)
}

/// Opens one of our files for reading only; never through a symbolic link.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(no_follow())
        .open(path)
}

/// Reads a file of at most `limit` bytes; `None` when it is not there.
pub(crate) fn read_small(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match OpenOptions::new()
        .read(true)
        .custom_flags(no_follow())
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len <= limit) {
        Ok(Some(bytes))
    } else {
        Err(io::Error::other(format!("larger than {limit} bytes")))
    }
}

/// Removes a file or directory tree; that it is not there is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// First sequences of the files named `<prefix>-<20 digits><suffix>`, in order.
pub(crate) fn numbered(directory: &Path, prefix: &str, suffix: &str) -> io::Result<Vec<u64>> {
    let mut firsts = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let first = name
            .to_str()
            .and_then(|name| {
                name.strip_prefix(prefix)?
                    .strip_prefix('-')?
                    .strip_suffix(suffix)
            })
            .filter(|digits| digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse::<u64>().ok());
        firsts.extend(first);
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// Path of the file of a kind whose first record is `first`.
pub(crate) fn path_of(directory: &Path, prefix: &str, first: u64, suffix: &str) -> PathBuf {
    directory.join(format!("{prefix}-{first:020}{suffix}"))
}

fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(no_follow());
    options
}
