//! Read leases: a file that nobody has open for writing, and how to notice when somebody wants to.

#![expect(unsafe_code, reason = "these calls are not in the safe libraries")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

/// A read lease on an open file. Whoever opens the file for writing waits until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease<'f>(BorrowedFd<'f>);

impl<'f> Lease<'f> {
    /// Takes one on a file that is open for reading only.
    ///
    /// # Errors
    /// `EAGAIN`: somebody has it open for writing, or mapped so. `EACCES`: it is another user's.
    /// `EINVAL`: its file system has none.
    pub(crate) fn take(file: &'f impl AsFd) -> io::Result<Self> {
        let file = file.as_fd();
        // The signal that tells of a writer would end the process; this one is ignored unless
        // asked for. We look when we are done.
        control(file, SET_SIGNAL, libc::SIGURG)?;
        control(file, libc::F_SETLEASE, libc::F_RDLCK)?;
        Ok(Self(file))
    }

    /// Whether nobody has opened the file for writing since it was taken.
    pub(crate) fn is_whole(&self) -> bool {
        // While somebody waits it is what it will become.
        control(self.0, libc::F_GETLEASE, 0).is_ok_and(|kind| kind == libc::F_RDLCK)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // The kernel takes it away by itself after a while.
        let _expired = control(self.0, libc::F_SETLEASE, libc::F_UNLCK);
    }
}

fn control(file: BorrowedFd<'_>, what: libc::c_int, value: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: these commands take an integer and no pointer; the descriptor is open.
    match unsafe { libc::fcntl(file.as_raw_fd(), what, value) } {
        -1 => Err(io::Error::last_os_error()),
        answer => Ok(answer),
    }
}

/// `F_SETSIG` of `asm-generic/fcntl.h`.
const SET_SIGNAL: libc::c_int = 10;

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn there_is_none_while_somebody_writes_and_a_writer_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "x").unwrap();
        let reader = File::open(&path).unwrap();
        let writer = File::options().write(true).open(&path).unwrap();
        let refused = Lease::take(&reader).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EAGAIN));
        drop(writer);
        let lease = Lease::take(&reader).unwrap();
        assert!(lease.is_whole());
        let nonblocking = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK;
        let writes = rustix::fs::open(&path, nonblocking, rustix::fs::Mode::empty());
        assert!(writes.is_err(), "it would wait for us");
        assert!(!lease.is_whole());
        drop(lease);
        File::options().write(true).open(&path).unwrap();
    }
}
