//! Connecting and binding a socket with an address as bytes, of whatever family.

#![expect(
    unsafe_code,
    reason = "the safe wrappers take addresses of the families they know only"
)]

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::Errno;

/// The longest address, in bytes: `struct sockaddr_storage`.
pub(crate) const LONGEST: usize = 128;

/// Connects `socket` to `address`.
///
/// # Errors
/// What connect(2) says; `EINVAL` for an address that is too long.
pub(crate) fn connect(socket: BorrowedFd<'_>, address: &[u8]) -> Result<(), Errno> {
    let length = length_of(address)?;
    // SAFETY: the kernel reads `length` bytes of `address`, which it has, and keeps no pointer; it
    // does not ask for an alignment.
    let rc = unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr().cast(), length) };
    done(rc)
}

/// Gives `socket` an address of its own.
///
/// # Errors
/// What bind(2) says; `EINVAL` for an address that is too long.
pub(crate) fn bind(socket: BorrowedFd<'_>, address: &[u8]) -> Result<(), Errno> {
    let length = length_of(address)?;
    // SAFETY: as in `connect`.
    let rc = unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr().cast(), length) };
    done(rc)
}

fn length_of(address: &[u8]) -> Result<libc::socklen_t, Errno> {
    if address.len() > LONGEST {
        return Err(Errno::INVAL);
    }
    libc::socklen_t::try_from(address.len()).map_err(|_| Errno::INVAL)
}

fn done(rc: libc::c_int) -> Result<(), Errno> {
    if rc == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
