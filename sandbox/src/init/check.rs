//! What the first process checks before it says that the walls stand.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    path::Path,
};

use rustix::fs::{FileType, Mode, OFlags};

use super::spec::{Expected, Spec};
use crate::{
    channel::Channel,
    plan::Identity,
    sys::{
        landlock::{self, Rights},
        process::close_stray,
    },
};

/// Every mount must be the very file or directory that was decided (a name can be exchanged
/// between the decision and the mount).
pub(super) fn mounts(expected: &[Expected]) -> io::Result<()> {
    for mount in expected {
        let target = Path::new(mount.target.as_os());
        let found = Identity::of(target)
            .map_err(|error| io::Error::other(format!("{target:?} is not mounted: {error}")))?;
        let decided = Identity {
            device: mount.device,
            inode: mount.inode,
        };
        if found != decided {
            return Err(io::Error::other(format!(
                "what is mounted at {target:?} is not what was granted: it was exchanged meanwhile"
            )));
        }
    }
    Ok(())
}

/// Closes every descriptor but the standard ones and those named here.
pub(super) fn close_strays(channel: &Channel, inherited: &[Option<OwnedFd>; 3]) -> io::Result<()> {
    let mut kept: Vec<RawFd> = vec![0, 1, 2, channel.as_fd().as_raw_fd()];
    kept.extend(inherited.iter().flatten().map(AsRawFd::as_raw_fd));
    for number in open_descriptors()? {
        if !kept.contains(&number) {
            close_stray(number);
        }
    }
    Ok(())
}

/// An inherited regular file could be opened again through `/proc/self/fd` with rights that its
/// descriptor does not have (a log appended to could be read and cut). Landlock refuses that, so
/// without it no session gets such a file.
pub(super) fn files_can_be_confined(inherited: &[Option<OwnedFd>; 3]) -> io::Result<()> {
    let is_file = |stream: &OwnedFd| -> io::Result<bool> {
        let mode = rustix::fs::fstat(stream)?.st_mode;
        Ok(FileType::from_raw_mode(mode) == FileType::RegularFile)
    };
    for stream in inherited.iter().flatten() {
        if is_file(stream)? && landlock::version().is_err() {
            return Err(io::Error::other(
                "a standard stream is a regular file, which needs Landlock, and this kernel has it \
                 not or not switched on: use a pipe instead, for example `cat FILE |` or `| cat >FILE`",
            ));
        }
    }
    Ok(())
}

/// Where the second wall is asked for, nothing runs without it, whatever the launcher was told.
pub(super) fn second_wall(spec: &Spec) -> io::Result<()> {
    match landlock::version() {
        Err(error) if spec.second_wall => Err(io::Error::other(format!(
            "a second wall for files is asked for, and this kernel does not give it: {error}"
        ))),
        _there_or_not_asked => Ok(()),
    }
}

/// The second wall, where the kernel has it: files are reached through the session's own root
/// only, and written only where the plan of mounts lets them be. What is granted later appears
/// below the session's directory, which may be written; the mount itself says whether.
pub(super) fn confine_files(spec: &Spec) -> io::Result<()> {
    if landlock::version().is_err() {
        return second_wall(spec);
    }
    let open = |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let mut rules = vec![(open(Path::new("/"))?, Rights::Read)];
    for kernels_own in ["/dev", "/proc"] {
        rules.push((open(Path::new(kernels_own))?, Rights::Write));
    }
    for written in spec.file_systems.iter().chain(&spec.writable) {
        rules.push((open(Path::new(written.as_os()))?, Rights::All));
    }
    landlock::confine(&rules)
}

/// The numbers open now. The listing's own descriptor is among them, closed already.
fn open_descriptors() -> io::Result<Vec<RawFd>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        if let Some(number) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            numbers.push(number);
        }
    }
    Ok(numbers)
}
