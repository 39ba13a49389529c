//! What the first process checks before it says that the walls stand.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    path::Path,
};

use super::spec::Expected;
use crate::{channel::Channel, plan::Identity, sys::process::close_stray};

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

/// The numbers open now. The listing's own descriptor is among them, closed already.
fn open_descriptors() -> io::Result<Vec<RawFd>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        if let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            numbers.push(number);
        }
    }
    Ok(numbers)
}
