//! Private copies of single files, and giving what was written to them back.
//!
//! For programs that replace a file by renaming another over it, which the kernel refuses for a
//! mounted file. The host's file is written once, whole, and only if nobody else wrote it.

use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use super::AgentError;

/// A file of the host as it was when the session began.
#[derive(Debug)]
pub struct CopiedFile {
    host: PathBuf,
    before: Vec<u8>,
    permissions: Permissions,
    owner: (u32, u32),
}

/// What became of a copy at the end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GivenBack {
    /// The session left it as it was.
    Unchanged,
    /// The host's file now has what the session wrote.
    Written,
    /// The host's file changed meanwhile and was left alone.
    HostChanged,
}

impl CopiedFile {
    /// The most that is copied, in bytes (8 MiB).
    pub const LIMIT_BYTES: u64 = 8 << 20;

    /// Reads the file at a canonical path.
    ///
    /// # Errors
    /// [`AgentError::WrongKind`] (a symlink has taken its place, a device), `TooLarge`, `Io`.
    pub fn take(host: &Path) -> Result<Self, AgentError> {
        let (before, found) = read(host)?;
        Ok(Self {
            host: host.to_path_buf(),
            before,
            permissions: found.permissions(),
            owner: (found.uid(), found.gid()),
        })
    }

    /// What the session's copy holds at the start.
    pub fn contents(&self) -> &[u8] {
        &self.before
    }

    /// Permission bits of the original, for the copy.
    pub fn mode_bits(&self) -> u32 {
        self.permissions.mode() & 0o777
    }

    /// Gives `after`, the session's copy at its end, back to the host. Durable on return.
    ///
    /// # Errors
    /// As [`CopiedFile::take`]; the host's file is then as it was.
    pub fn give_back(self, after: &[u8]) -> Result<GivenBack, AgentError> {
        if after == self.before {
            return Ok(GivenBack::Unchanged);
        }
        if after.len() as u64 > Self::LIMIT_BYTES {
            return Err(too_large(&self.host));
        }
        if read(&self.host)?.0 != self.before {
            return Ok(GivenBack::HostChanged);
        }
        self.replace(after)
            .map(|()| GivenBack::Written)
            .map_err(|source| io_error(&self.host, "written", source))
    }

    /// Writes beside the file, syncs, renames over it, syncs the directory.
    fn replace(&self, after: &[u8]) -> io::Result<()> {
        let directory = self.host.parent().unwrap_or(Path::new("/"));
        let mut name = self.host.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".cordon-{}", uuid::Uuid::now_v7().simple()));
        let beside = directory.join(name);
        let written = self
            .write_new(&beside, after)
            .and_then(|()| fs::rename(&beside, &self.host));
        if written.is_err() {
            // Best effort: the error that led here is the one to report.
            let _ignored = fs::remove_file(&beside);
        }
        written?;
        File::open(directory)?.sync_all()
    }

    fn write_new(&self, path: &Path, after: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(after)?;
        // Root may run a session for another user; the file stays that user's.
        fchown(&file, Some(self.owner.0), Some(self.owner.1))?;
        file.set_permissions(self.permissions.clone())?;
        file.sync_all()
    }
}

/// Reads a regular file without following a link in its place or waiting for a pipe.
fn read(path: &Path) -> Result<(Vec<u8>, Metadata), AgentError> {
    let failed = |source| io_error(path, "read", source);
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err(AgentError::WrongKind {
            path: path.to_path_buf(),
            expected: "regular file",
        });
    }
    let mut contents = Vec::new();
    file.take(CopiedFile::LIMIT_BYTES + 1)
        .read_to_end(&mut contents)
        .map_err(failed)?;
    if contents.len() as u64 > CopiedFile::LIMIT_BYTES {
        return Err(too_large(path));
    }
    Ok((contents, found))
}

fn too_large(path: &Path) -> AgentError {
    AgentError::TooLarge {
        path: path.to_path_buf(),
        limit_bytes: CopiedFile::LIMIT_BYTES,
    }
}

fn io_error(path: &Path, doing: &'static str, source: io::Error) -> AgentError {
    AgentError::Io {
        path: path.to_path_buf(),
        doing,
        source,
    }
}
