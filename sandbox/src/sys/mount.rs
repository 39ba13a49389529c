//! Attributes of mounts, and which user namespace a mount namespace belongs to.

#![expect(unsafe_code, reason = "these calls are not in the safe libraries")]

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// What becomes of the attributes of a mount.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

impl Attributes {
    /// No set-user-id programs, no devices, and no tie to any other mount.
    pub(crate) const HARMLESS: Self = Self {
        set: NO_SUID | NO_DEVICES,
        clear: 0,
        propagation: libc::MS_PRIVATE,
        user_namespace: 0,
    };

    /// Read-only from now on.
    pub(crate) const READ_ONLY: Self = Self {
        set: READ_ONLY,
        clear: 0,
        propagation: 0,
        user_namespace: 0,
    };

    /// Writable from now on.
    pub(crate) const WRITABLE: Self = Self {
        set: 0,
        clear: READ_ONLY,
        propagation: 0,
        user_namespace: 0,
    };
}

impl Attributes {
    /// Owners as this user namespace maps them, for good.
    pub(crate) fn mapped(namespace: BorrowedFd<'_>) -> Self {
        Self {
            set: MAP_OWNERS,
            clear: 0,
            propagation: 0,
            // The kernel reads a descriptor's number, which is not negative.
            user_namespace: u64::try_from(namespace.as_raw_fd()).unwrap_or(u64::MAX),
        }
    }
}

/// Changes the mount that `mount` is the root of, and with `whole_tree` all below it.
///
/// # Errors
/// What mount_setattr(2) says; `EBUSY` when it is to be read-only and a file is open for writing.
pub(crate) fn set_attributes(
    mount: BorrowedFd<'_>,
    attributes: Attributes,
    whole_tree: bool,
) -> io::Result<()> {
    const EMPTY: &CStr = c"";
    let recursive = if whole_tree { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a constant that ends with NUL, the attributes are laid out as the
    // kernel's `mount_attr` and outlive the call, and their size is given; the descriptor is open.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            EMPTY.as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The user namespace that owns the namespace behind `namespace`.
///
/// # Errors
/// What ioctl_ns(2) says; `EPERM` when it is not below our own.
pub(crate) fn owner_of(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: this request takes no argument and touches no memory of ours.
    let raw = unsafe { libc::ioctl(namespace.as_raw_fd(), GET_USER_NAMESPACE) };
    if raw == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

// `linux/mount.h`.
const READ_ONLY: u64 = 1;
const NO_SUID: u64 = 2;
const NO_DEVICES: u64 = 4;
const MAP_OWNERS: u64 = 0x0010_0000;

/// `NS_GET_USERNS` of `linux/nsfs.h`.
const GET_USER_NAMESPACE: libc::Ioctl = 0xb701;
