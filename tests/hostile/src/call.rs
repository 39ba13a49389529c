//! Raw calls, and one attempt in a child of its own.

use std::{ffi::CString, fmt, io};

use libc::{c_int, c_long};

/// What came of an attempt.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It went through.
    Allowed,
    /// It did not, with this error.
    Refused(i32),
    /// It was ended by this signal.
    Killed(i32),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed => write!(f, "allowed"),
            Self::Refused(error) => write!(f, "refused {}", name_of(*error)),
            Self::Killed(libc::SIGSYS) => write!(f, "killed SYS"),
            Self::Killed(libc::SIGSEGV) => write!(f, "killed SEGV"),
            Self::Killed(libc::SIGALRM) => write!(f, "killed ALRM"),
            Self::Killed(signal) => write!(f, "killed {signal}"),
        }
    }
}

/// The names that the walls answer with; others by their number.
pub fn name_of(error: i32) -> String {
    let known = [
        (libc::EPERM, "EPERM"),
        (libc::ENOENT, "ENOENT"),
        (libc::ESRCH, "ESRCH"),
        (libc::EBADF, "EBADF"),
        (libc::EACCES, "EACCES"),
        (libc::EROFS, "EROFS"),
        (libc::EINVAL, "EINVAL"),
        (libc::ENOSYS, "ENOSYS"),
        (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
        (libc::ECONNREFUSED, "ECONNREFUSED"),
        (libc::ENOTTY, "ENOTTY"),
        (libc::EIO, "EIO"),
        (libc::EXDEV, "EXDEV"),
        (libc::EEXIST, "EEXIST"),
        (libc::ENOSPC, "ENOSPC"),
    ];
    let found = known.iter().find(|(number, _)| *number == error);
    found.map_or_else(|| error.to_string(), |(_, name)| (*name).to_owned())
}

/// Runs `work` in a child; a negative result is a refusal, with the error of the thread.
pub fn attempt(work: impl FnOnce() -> c_long) -> Outcome {
    // SAFETY: this program has one thread; the child runs `work` and exits without unwinding.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: takes an integer. Whatever blocks is ended.
        let before = unsafe {
            libc::alarm(PATIENCE);
            libc::getpid()
        };
        set_errno(0);
        let result = work();
        let error = errno();
        // SAFETY: takes no argument; `_exit` runs nothing of ours.
        unsafe {
            if libc::getpid() != before || result >= 0 {
                libc::_exit(0);
            }
            // An error is below 4096 and an exit code below 256: it comes over the signal-free way.
            libc::_exit(if (1..=254).contains(&error) {
                error
            } else {
                255
            });
        }
    }
    let mut status: c_int = 0;
    // SAFETY: writes the status of our own child into a local.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    if child < 0 || waited != child {
        return Outcome::Refused(errno());
    }
    if libc::WIFSIGNALED(status) {
        return Outcome::Killed(libc::WTERMSIG(status));
    }
    match libc::WEXITSTATUS(status) {
        0 => Outcome::Allowed,
        error => Outcome::Refused(error),
    }
}

/// How long an attempt may take, in seconds.
const PATIENCE: u32 = 2;

/// A raw call. What is left out of the arguments is zero.
pub fn raw(number: c_long, arguments: &[u64]) -> c_long {
    let at = |place: usize| arguments.get(place).copied().unwrap_or(0);
    let (a, b, c, d, e, f) = (at(0), at(1), at(2), at(3), at(4), at(5));
    // SAFETY: callers pass integers, or addresses of live buffers of the size that the call wants;
    // each runs in a child that ends afterwards.
    unsafe { libc::syscall(number, a, b, c, d, e, f) }
}

/// The address of something that lives as long as the call.
pub fn address<T: ?Sized>(of: &T) -> u64 {
    std::ptr::from_ref(of).cast::<u8>().expose_provenance() as u64
}

/// A path for a call; it stays until the child ends.
pub fn path(text: &str) -> u64 {
    let text = CString::new(text).unwrap_or_default();
    text.into_raw().expose_provenance() as u64
}

pub fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

pub fn set_errno(error: i32) {
    // SAFETY: the address is this thread's own errno.
    unsafe { *libc::__errno_location() = error }
}

pub fn no_core_files() {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: reads the local structure.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
}
