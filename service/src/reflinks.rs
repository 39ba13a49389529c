//! Whether what policy wants preserved can be cloned, or has to be copied.
//!
//! Tried, with two files without names, in a folder of ours; nothing is made in anybody's grant.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use cordon_sandbox::guard::LARGEST_COPY;
use rustix::fs::{Mode, OFlags, ioctl_ficlone};

/// The largest file, in bytes, whose original is kept of a grant on this device, where `store` shares
/// no blocks with it. `None` where files are cloned, of whatever size.
pub fn copied_up_to(store: &Path, device: u64) -> Option<u64> {
    // A clone stays within its file system. Subvolumes that could share are called copied.
    let same = fs::metadata(store).is_ok_and(|found| found.dev() == device);
    let clones = same && clone_a_file(store).is_ok();
    (!clones).then_some(LARGEST_COPY)
}

/// Clones a file in this folder.
///
/// # Errors
/// What the kernel says: its file system shares no blocks.
pub fn clone_a_file(folder: &Path) -> io::Result<()> {
    // No names: both are gone when they are closed.
    let unnamed = || -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(File::from(rustix::fs::open(folder, flags, mode)?))
    };
    let (from, to) = (unnamed()?, unnamed()?);
    (&from).write_all(b"cordon")?;
    Ok(ioctl_ficlone(&to, &from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_system_is_copied_from_up_to_the_limit() {
        let store = tempfile::tempdir().unwrap();
        let own = fs::metadata(store.path()).unwrap().dev();
        let elsewhere = fs::metadata("/proc").unwrap().dev();
        assert_eq!(copied_up_to(store.path(), elsewhere), Some(LARGEST_COPY));
        let clones = clone_a_file(store.path()).is_ok();
        assert_eq!(copied_up_to(store.path(), own).is_none(), clones);
    }
}
