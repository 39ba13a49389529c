//! Puts this process into a user and a network namespace of its own.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::process::{getegid, geteuid};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// Leaves for a new user namespace and a new network namespace, which it owns.
///
/// Until its identity is mapped ([`map_identity`]) the process has no user there.
///
/// # Errors
/// What unshare(2) says; `EINVAL` when the process has more than one thread.
pub(crate) fn unshare_user_and_net() -> io::Result<()> {
    let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWNET;
    // SAFETY: the one condition of `unshare_unsafe` concerns CLONE_FILES, which is not asked for.
    #[expect(unsafe_code, reason = "the library has no safe form of unshare")]
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(Into::into)
}

/// Leaves for a copy of this process' mounts, which belongs to the user namespace that it is in.
///
/// # Errors
/// What unshare(2) says.
pub(crate) fn unshare_mounts() -> io::Result<()> {
    // SAFETY: the one condition of `unshare_unsafe` concerns CLONE_FILES, which is not asked for.
    #[expect(unsafe_code, reason = "the library has no safe form of unshare")]
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.map_err(Into::into)
}

/// Enters a user namespace and a network namespace that it owns, both made by a process of this
/// user ([`unshare_user_and_net`]). The process holds every capability over them until it executes
/// another program.
///
/// # Errors
/// What setns(2) says; `EINVAL` when the process has more than one thread.
pub(crate) fn enter(namespaces: &[OwnedFd; 2]) -> io::Result<()> {
    let [user, network] = namespaces;
    move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))?;
    Ok(move_into_link_name_space(
        network.as_fd(),
        Some(LinkNameSpaceType::Network),
    )?)
}

/// Who the process was before it left for the namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    uid: u32,
    gid: u32,
}

impl Identity {
    /// The effective user and group now; ask before [`unshare_user_and_net`], since an unmapped
    /// process sees only the overflow ids.
    pub(crate) fn current() -> Self {
        Self {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
        }
    }
}

/// Maps the process' own user and group to themselves, and nobody else.
///
/// # Errors
/// What the kernel answers to the write, and to which file.
pub(crate) fn map_identity(own: Identity) -> Result<(), (&'static str, io::Error)> {
    let write = |file: &'static str, line: String| {
        // One write(2) per file: the kernel takes a map whole or not at all.
        fs::write(file, line).map_err(|error| (file, error))
    };
    // Without it no unprivileged group map is taken: dropping a group could open files that
    // the group is forbidden.
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("{0} {0} 1", own.uid))?;
    write("/proc/self/gid_map", format!("{0} {0} 1", own.gid))
}
