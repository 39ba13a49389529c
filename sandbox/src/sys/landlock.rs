//! Landlock: which files are reached, and for what.

#![expect(unsafe_code, reason = "these calls are not in the safe libraries")]

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

/// What may be done below a file or folder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rights {
    /// Read, list and execute.
    Read,
    /// That, and write to files that are there: devices, and the kernel's files of processes.
    Write,
    /// All that this kernel's version knows.
    All,
}

/// Confines this process and its children to what the rules name, with these rights. Where several
/// cover a file, it has the rights of all of them.
///
/// An inherited descriptor keeps working, but a file that no rule covers can no longer be opened
/// again, with other rights, through `/proc/self/fd`.
///
/// # Errors
/// What the kernel says; `ENOSYS` or `EOPNOTSUPP` where it has no Landlock.
pub fn confine(rules: &[(OwnedFd, Rights)]) -> io::Result<()> {
    let handled = rights(version()?);
    let ruleset = create(handled)?;
    for (at, wanted) in rules {
        let mut allowed = handled & wanted.mask();
        let mode = rustix::fs::fstat(at)?.st_mode;
        if rustix::fs::FileType::from_raw_mode(mode) != rustix::fs::FileType::Directory {
            allowed &= OF_FILES;
        }
        let rule = PathBeneath {
            allowed_access: allowed,
            parent: at.as_fd().as_raw_fd(),
        };
        // SAFETY: the rule is initialised, laid out as the kernel's `landlock_path_beneath_attr`,
        // and outlives the call; the descriptors are open.
        let added = unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                ruleset.as_raw_fd(),
                RULE_PATH_BENEATH,
                &raw const rule,
                0,
            )
        };
        check(added)?;
    }
    // SAFETY: takes an open descriptor and a zero, and no pointer.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) })?;
    Ok(())
}

impl Rights {
    fn mask(self) -> u64 {
        match self {
            Self::Read => EXECUTE | READ_FILE | READ_DIR,
            Self::Write => EXECUTE | READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE,
            Self::All => u64::MAX,
        }
    }
}

const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const TRUNCATE: u64 = 1 << 14;

/// The rights that mean something for a file that is not a directory; others are refused for it.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE;

/// The kernel's version of the interface, from 1.
pub fn version() -> io::Result<i64> {
    // SAFETY: with this flag the kernel takes no attributes (null, size 0) and only answers.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u64>(),
            0,
            CREATE_VERSION,
        )
    })
}

fn create(handled: u64) -> io::Result<OwnedFd> {
    // SAFETY: the first field of the attributes is this mask; the size says that no more is given.
    let raw = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const handled,
            mem::size_of::<u64>(),
            0,
        )
    })?;
    let raw = i32::try_from(raw).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// The file rights that this version knows. Those of version 1 are the lowest 13 bits.
fn rights(version: i64) -> u64 {
    let count = match version {
        ..=1 => 13,
        2 => 14,
        _ => 15,
    };
    (1 << count) - 1
}

fn check(result: libc::c_long) -> io::Result<i64> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent: i32,
}

const RULE_PATH_BENEATH: libc::c_int = 1;
const CREATE_VERSION: libc::c_int = 1;
