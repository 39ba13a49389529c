//! Processes: fork, inherited descriptors, descriptor hygiene.

#![expect(unsafe_code, reason = "these calls are not in the safe libraries")]

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd, RawFd},
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

/// The most memory that one of this process' reaped children, or of theirs, ever had, in bytes.
pub fn largest_reaped_child() -> u64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is valid for writing one `rusage`, of integers only, zeroed at first.
    let kib = unsafe {
        libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr());
        usage.assume_init().ru_maxrss
    };
    u64::try_from(kib).unwrap_or(0) * 1024
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

/// Closes one descriptor that nothing in this process owns.
pub fn close_stray(descriptor: RawFd) {
    // SAFETY: callers pass numbers from the listing of open descriptors that no `OwnedFd` holds.
    // A failure leaves nothing to do: the descriptor is gone either way.
    let _ = unsafe { libc::close(descriptor) };
}

/// Exit code of a forked child whose body panicked.
const PANICKED: i32 = 101;

/// `CLOSE_RANGE_CLOEXEC` of `linux/close_range.h`, as the C library's wrapper takes it.
const CLOSE_RANGE_CLOEXEC: libc::c_int = 4;
