//! Processes: fork, inherited descriptors, descriptor hygiene.

#![expect(unsafe_code, reason = "these calls are not in the safe libraries")]

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    panic::{AssertUnwindSafe, catch_unwind},
};

use rustix::process::Pid;

/// Forks. The child runs `body` and ends with its result as exit code; it never returns into the
/// caller's stack, not even by a panic.
///
/// The caller must have no other thread: `body` allocates.
pub fn fork(body: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: fork takes no pointer. The child only runs `body` and `_exit`s, so no destructor of
    // the parent runs twice; glibc makes its own allocator usable in the child.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = catch_unwind(AssertUnwindSafe(body)).unwrap_or(PANICKED);
            // SAFETY: `_exit` takes an integer and does not return.
            unsafe { libc::_exit(code) }
        }
        child => Pid::from_raw(child).ok_or_else(|| io::Error::other("fork returned no pid")),
    }
}

/// As [`fork`], with the child born in the control group (version 2) that `group` is the directory
/// of. Being moved there afterwards costs a wait for all processors, some 10 ms.
///
/// `None`: this process has another thread, so that it could be in the middle of an allocation that
/// only the C library's own fork puts in order. Nothing was forked then.
///
/// # Errors
/// What clone3(2) says; `ENOSYS` or `EINVAL` before Linux 5.7.
pub fn fork_into(
    group: std::os::fd::BorrowedFd<'_>,
    body: impl FnOnce() -> i32,
) -> io::Result<Option<Pid>> {
    if !is_single_threaded() {
        return Ok(None);
    }
    let arguments = CloneArguments {
        flags: CLONE_INTO_CGROUP,
        exit_signal: libc::SIGCHLD.cast_unsigned().into(),
        cgroup: group.as_raw_fd().cast_unsigned().into(),
        ..CloneArguments::default()
    };
    // SAFETY: the kernel reads one `CloneArguments`, which is laid out as its `clone_args`. Nothing
    // is shared with the child (no CLONE_VM), which gets a copy of this stack and goes on here. No
    // other thread exists, so no lock of the C library's or the allocator's is held; that the
    // library's own note of the thread's number is the parent's matters to nothing that the child
    // does before it executes or ends.
    match unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<CloneArguments>(),
        )
    } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = catch_unwind(AssertUnwindSafe(body)).unwrap_or(PANICKED);
            // SAFETY: `_exit` takes an integer and does not return.
            unsafe { libc::_exit(code) }
        }
        child => i32::try_from(child)
            .ok()
            .and_then(Pid::from_raw)
            .map(Some)
            .ok_or_else(|| io::Error::other("clone3 returned no pid")),
    }
}

/// Whether this is the process' only thread; what cannot be seen is not taken for one.
fn is_single_threaded() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // Of a directory of `/proc` the links are its folders, itself and the one above.
    std::fs::metadata("/proc/self/task").is_ok_and(|tasks| tasks.nlink() == 3)
}

/// Gives this thread a umask and a working directory of its own.
///
/// # Errors
/// What unshare(2) says.
pub fn leave_shared_directories() -> io::Result<()> {
    leave(rustix::thread::UnshareFlags::FS)
}

/// Leaves what is shared or a namespace for one of its own. Never the table of descriptors.
///
/// # Errors
/// What unshare(2) says; `InvalidInput` for the table of descriptors.
pub fn leave(what: rustix::thread::UnshareFlags) -> io::Result<()> {
    if what.contains(rustix::thread::UnshareFlags::FILES) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the one condition of `unshare_unsafe` concerns CLONE_FILES, which is not asked for.
    unsafe { rustix::thread::unshare_unsafe(what) }.map_err(Into::into)
}

/// Sends `signal` to every other process of this process namespace, at once. For process 1 of a
/// namespace only: anywhere else it would reach whatever the user runs.
///
/// # Errors
/// `PermissionDenied` for any other process; what kill(2) says, `ESRCH` when there is no other.
pub fn signal_all_others(signal: rustix::process::Signal) -> io::Result<()> {
    if rustix::process::getpid() != Pid::INIT {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // SAFETY: kill takes two integers.
    if unsafe { libc::kill(-1, signal.as_raw()) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// What the kernel adds up over the life of a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Usage {
    /// Processor time, in microseconds.
    pub cpu_us: u64,
    /// The most memory that it had, in bytes; of several, the largest one's.
    pub memory_bytes: u64,
    /// Bytes that were read from storage for it.
    pub read_bytes: u64,
    /// Bytes that it wrote to storage.
    pub written_bytes: u64,
}

/// Of this process.
pub fn own_usage() -> Usage {
    usage(libc::RUSAGE_SELF)
}

/// Of all children that this process has reaped, and of theirs, together.
pub fn usage_of_reaped() -> Usage {
    usage(libc::RUSAGE_CHILDREN)
}

fn usage(who: libc::c_int) -> Usage {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is valid for writing one `rusage`, of integers only, zeroed at first.
    let usage = unsafe {
        libc::getrusage(who, usage.as_mut_ptr());
        usage.assume_init()
    };
    let times = |count: libc::c_long, unit: u64| u64::try_from(count).unwrap_or(0) * unit;
    let microseconds = |time: libc::timeval| times(time.tv_sec, 1_000_000) + times(time.tv_usec, 1);
    Usage {
        cpu_us: microseconds(usage.ru_utime) + microseconds(usage.ru_stime),
        memory_bytes: times(usage.ru_maxrss, 1024),
        read_bytes: times(usage.ru_inblock, 512),
        written_bytes: times(usage.ru_oublock, 512),
    }
}

/// Takes over a descriptor that this process was started with.
///
/// # Errors
/// `EBADF` when nothing is open there.
pub fn adopt(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD reads an integer; an invalid descriptor is an error, not undefined.
    if unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open (the call above succeeded), and whoever started this process handed it
    // over by number, so nothing else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Puts a copy of `descriptor` at `number`, which stays open across `execve`. For a forked child
/// that is about to execute: what was open there is closed.
///
/// # Errors
/// What dup2(2) says; `EINVAL` for a standard stream or the descriptor itself.
pub fn place(descriptor: std::os::fd::BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    if number <= 2 || number == descriptor.as_raw_fd() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: `descriptor` is open. Callers keep nothing below their own copies, which are above
    // every number that is placed, and use no other descriptor afterwards.
    if unsafe { libc::dup2(descriptor.as_raw_fd(), number) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Marks every descriptor from `first` on to be closed by `execve`.
pub fn close_from_on_exec(first: u32) -> io::Result<()> {
    // SAFETY: close_range takes integers only; with CLOEXEC it closes nothing that is in use.
    let rc = unsafe { libc::close_range(first, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    if rc == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Closes every descriptor but one. For a forked child that uses no other from here on.
pub fn close_all_but(kept: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
    let kept = u32::try_from(kept.as_raw_fd()).map_err(io::Error::other)?;
    let below = kept.checked_sub(1).map(|last| (0, last));
    for (first, last) in below.into_iter().chain([(kept + 1, u32::MAX)]) {
        // SAFETY: close_range takes integers only. Values that still own one of these are the
        // parent's copies: callers neither use nor drop them, the child ends by `_exit`.
        if unsafe { libc::close_range(first, last, 0) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Closes one descriptor that nothing in this process owns.
pub fn close_stray(descriptor: RawFd) {
    // SAFETY: callers pass numbers from the listing of open descriptors that no `OwnedFd` holds.
    // A failure leaves nothing to do: the descriptor is gone either way.
    let _ = unsafe { libc::close(descriptor) };
}

/// `struct clone_args` of `linux/sched.h`.
#[derive(Default)]
#[repr(C)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `CLONE_INTO_CGROUP` of `linux/sched.h`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Exit code of a forked child whose body panicked.
const PANICKED: i32 = 101;

/// `CLOSE_RANGE_CLOEXEC` of `linux/close_range.h`, as the C library's wrapper takes it.
const CLOSE_RANGE_CLOEXEC: libc::c_int = 4;
