//! Who a process runs as, asked of the kernel by one call.
//!
//! Source: `PIDFD_GET_INFO` of `linux/pidfd.h` (Linux 6.13).

#![expect(unsafe_code, reason = "these calls are not in the safe libraries")]

use std::{io, os::fd::AsRawFd as _};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Its real, effective, saved and file-system user ids, as this user namespace numbers them.
///
/// # Errors
/// `ESRCH` when there is no such process; others where the kernel does not know the question.
pub fn of(pid: Pid) -> io::Result<[u32; 4]> {
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    let mut info = Info {
        mask: CREDENTIALS,
        ..Info::default()
    };
    // SAFETY: the request writes as many bytes as its number says, which are those of `info`:
    // integers only.
    if unsafe { libc::ioctl(handle.as_raw_fd(), GET_INFO, &raw mut info) } == -1 {
        return Err(io::Error::last_os_error());
    }
    if info.mask & CREDENTIALS == 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let [user, effective, saved, of_files] = info.users.map(|[user, _group]| user);
    Ok([user, effective, saved, of_files])
}

/// `struct pidfd_info` as of its first version.
#[derive(Default)]
#[repr(C)]
struct Info {
    mask: u64,
    control_group: u64,
    pid: u32,
    group_leader: u32,
    parent: u32,
    /// Real, effective, saved, of files; each with its group.
    users: [[u32; 2]; 4],
    exit_code: i32,
}

/// `PIDFD_INFO_CREDS`.
const CREDENTIALS: u64 = 1 << 1;

/// `_IOWR(0xFF, 11, struct pidfd_info)`.
const GET_INFO: libc::Ioctl = 0xc040_ff0b_u32 as libc::Ioctl;

const _: () = assert!(size_of::<Info>() == 64, "as the request's number says");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_asked_about_and_one_that_is_gone_is_not_there() {
        let own = match of(rustix::process::getpid()) {
            // Before Linux 6.13, which is fallen back from.
            Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => return,
            own => own.unwrap(),
        };
        assert_eq!(own, [rustix::process::getuid().as_raw(); 4]);
        let highest = Pid::from_raw(i32::MAX).unwrap();
        assert_eq!(of(highest).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
