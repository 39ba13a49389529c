//! Seccomp user notification: install a filter with a listener, receive what it holds back, look
//! at the waiting thread's memory, answer.
//!
//! Source: `Documentation/userspace-api/seccomp_filter.rst` and `include/uapi/linux/seccomp.h`.

#![expect(
    unsafe_code,
    reason = "seccomp's listener and another thread's memory have no safe wrapper"
)]

use std::{
    io, mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use rustix::io::Errno;

/// A system call that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notification {
    /// Names this notification to the kernel.
    pub(crate) id: u64,
    /// The thread that waits, in our process namespace.
    pub(crate) tid: u32,
    /// Number of the system call.
    pub(crate) number: i64,
    /// Its arguments as the registers hold them.
    pub(crate) args: [u64; 6],
}

/// Installs `program` on this thread and returns the descriptor its notifications arrive on.
///
/// The descriptor is close-on-exec. `no_new_privs` must be set already.
pub(crate) fn install(program: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let length = u16::try_from(program.len())
        .map_err(|_| io::Error::other("the filter is longer than the kernel takes"))?;
    let filter = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut(),
    };
    let flags =
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    // SAFETY: `filter` names `len` instructions that outlive the call; the kernel copies them and
    // never writes through the pointer.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const filter,
        )
    };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether this kernel's notifications fit the structures used here.
pub(crate) fn sizes_fit() -> io::Result<bool> {
    let mut sizes = libc::seccomp_notif_sizes {
        seccomp_notif: 0,
        seccomp_notif_resp: 0,
        seccomp_data: 0,
    };
    // SAFETY: the kernel writes one `seccomp_notif_sizes` into `sizes`, which is exactly that.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_NOTIF_SIZES,
            0,
            &raw mut sizes,
        )
    };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(
        usize::from(sizes.seccomp_notif) <= mem::size_of::<Received>()
            && usize::from(sizes.seccomp_notif_resp) <= mem::size_of::<Reply>(),
    )
}

/// Asks the kernel to run the waiting thread on the answering thread's core; returns whether it
/// does. Only ever a gain in speed.
pub(crate) fn wake_on_this_core(listener: BorrowedFd<'_>) -> bool {
    const SYNC_WAKE_UP: u64 = 1;
    // SAFETY: this request takes its argument by value and touches no memory of ours.
    unsafe { libc::ioctl(listener.as_raw_fd(), SET_FLAGS, SYNC_WAKE_UP) == 0 }
}

/// Takes the next notification. Blocks when there is none.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> Result<Notification, Errno> {
    // SAFETY: every field is an integer, for which all zeros is a value; the kernel demands zeros.
    let mut received: Received = unsafe { mem::zeroed() };
    // SAFETY: `sizes_fit` was checked before the first call, so the kernel writes at most
    // `size_of::<Received>()` bytes, all into integer fields.
    let rc = unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut received) };
    if rc != 0 {
        return Err(last_errno());
    }
    let libc::seccomp_notif { id, pid, data, .. } = received.notification;
    Ok(Notification {
        id,
        tid: pid,
        number: data.nr.into(),
        args: data.args,
    })
}

/// Whether the thread behind `id` still waits: if so, its thread id meant that thread until now.
pub(crate) fn still_waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads one `u64` from `id` and writes nothing.
    unsafe { libc::ioctl(listener.as_raw_fd(), ID_VALID, &raw const id) == 0 }
}

/// Ends the call behind `id` with success (0) or an error; the call itself is never run.
///
/// # Errors
/// `ENOENT`: the thread no longer waits.
pub(crate) fn answer(
    listener: BorrowedFd<'_>,
    id: u64,
    result: Result<(), Errno>,
) -> Result<(), Errno> {
    let error = result.err().map_or(0, |errno| -errno.raw_os_error());
    // SAFETY: every field is an integer, for which all zeros is a value.
    let mut reply: Reply = unsafe { mem::zeroed() };
    reply.response.id = id;
    reply.response.error = error;
    // SAFETY: `sizes_fit` was checked before the first call, so the kernel reads no further than
    // `reply` reaches; it keeps no pointer.
    let rc = unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw mut reply) };
    if rc == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Lets the call behind `id` go on as if it had not been held. Only for calls without an address
/// among their arguments: what an address leads to can change before the kernel reads it.
///
/// # Errors
/// `ENOENT`: the thread no longer waits.
pub(crate) fn let_go_on(listener: BorrowedFd<'_>, id: u64) -> Result<(), Errno> {
    // SAFETY: every field is an integer, for which all zeros is a value.
    let mut reply: Reply = unsafe { mem::zeroed() };
    reply.response.id = id;
    reply.response.flags = GO_ON;
    // SAFETY: as in `answer`.
    let rc = unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw mut reply) };
    if rc == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Ends the call behind `id` by giving its process a copy of `file`, whose number it returns.
///
/// # Errors
/// `ENOENT`: the thread no longer waits. Others are the caller's to see (`EMFILE`): answer so.
pub(crate) fn answer_with_file(
    listener: BorrowedFd<'_>,
    id: u64,
    file: BorrowedFd<'_>,
    close_on_exec: bool,
) -> Result<(), Errno> {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    let added = AddFile {
        id,
        flags: ADD_AND_SEND,
        source: file.as_raw_fd().cast_unsigned(),
        wanted: 0,
        new_flags: flags.cast_unsigned(),
    };
    // SAFETY: the kernel reads one `seccomp_notif_addfd`, which `AddFile` is laid out as, and
    // keeps no pointer; the descriptor is open during the call.
    let rc = unsafe { libc::ioctl(listener.as_raw_fd(), ADD_FILE, &raw const added) };
    if rc >= 0 { Ok(()) } else { Err(last_errno()) }
}

/// Copies memory of thread `tid` from `address` on into `into`, as far as it is mapped.
pub(crate) fn read_memory(tid: u32, address: u64, into: &mut [u8]) -> Result<usize, Errno> {
    let tid = libc::pid_t::try_from(tid).map_err(|_| Errno::SRCH)?;
    let address = usize::try_from(address).map_err(|_| Errno::FAULT)?;
    // The kernel copies whole pieces: one up to the page's end, the rest as another, so that a
    // string at the end of the last mapped page is still read.
    let first = into.len().min(PAGE - address % PAGE);
    let second = address.checked_add(first).ok_or(Errno::FAULT)?;
    let local = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    let remote = [
        libc::iovec {
            iov_base: address as *mut libc::c_void,
            iov_len: first,
        },
        libc::iovec {
            iov_base: second as *mut libc::c_void,
            iov_len: into.len() - first,
        },
    ];
    // SAFETY: `local` is the whole of `into`, borrowed for writing during the call; the remote
    // addresses are only ever used in the other process, and the kernel checks them there.
    let read = unsafe { libc::process_vm_readv(tid, &raw const local, 1, remote.as_ptr(), 2, 0) };
    usize::try_from(read).map_err(|_| last_errno())
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// A notification with room for a later kernel's longer one.
#[repr(C)]
struct Received {
    notification: libc::seccomp_notif,
    room: [u64; 16],
}

/// An answer with room for a later kernel's longer one.
#[repr(C)]
struct Reply {
    response: libc::seccomp_notif_resp,
    room: [u64; 16],
}

/// `struct seccomp_notif_addfd`.
#[repr(C)]
struct AddFile {
    id: u64,
    flags: u32,
    source: u32,
    wanted: u32,
    new_flags: u32,
}

/// `SECCOMP_ADDFD_FLAG_SEND`.
const ADD_AND_SEND: u32 = 2;

/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`.
const GO_ON: u32 = 1;

/// The smallest page any supported machine has; smaller pieces than the page do no harm.
const PAGE: usize = 4096;

// `_IOWR('!', 0, struct seccomp_notif)` and its neighbours.
const RECEIVE: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
const SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;
const ID_VALID: libc::Ioctl = 0x4008_2102_u32 as libc::Ioctl;
const ADD_FILE: libc::Ioctl = 0x4018_2103_u32 as libc::Ioctl;
const SET_FLAGS: libc::Ioctl = 0x4008_2104_u32 as libc::Ioctl;
