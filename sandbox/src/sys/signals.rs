//! Signals as a descriptor: blocked here, read from a `signalfd`, never handled asynchronously.

#![expect(unsafe_code, reason = "these calls are not in the safe libraries")]

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use rustix::process::Signal;

/// Signals that this process receives by reading. Dropping it puts the old mask back.
#[derive(Debug)]
pub struct Signals {
    descriptor: OwnedFd,
    before: Mask,
}

impl Signals {
    /// Blocks `wanted` and opens the descriptor that reports them. What was ignored when this
    /// process started stays ignored (`nohup`).
    pub fn block(wanted: &[Signal]) -> io::Result<Self> {
        let mut set = Mask::empty();
        for signal in wanted {
            if !is_ignored(*signal) {
                set.add(*signal);
            }
        }
        let before = set.apply(libc::SIG_BLOCK)?;
        // SAFETY: -1 asks for a new descriptor; `set` is an initialised set that outlives the call.
        let raw =
            unsafe { libc::signalfd(-1, &raw const set.0, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if raw == -1 {
            let error = io::Error::last_os_error();
            before.apply(libc::SIG_SETMASK)?;
            return Err(error);
        }
        // SAFETY: signalfd has just returned it, so it is open and ours alone.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Self { descriptor, before })
    }

    /// The next pending signal, if there is one. Does not wait.
    pub fn next(&self) -> io::Result<Option<Signal>> {
        let mut info = mem::MaybeUninit::<libc::signalfd_siginfo>::zeroed();
        let size = mem::size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer is `size` bytes and outlives the call; every bit pattern the kernel
        // writes is a valid `signalfd_siginfo` (integers only).
        let got =
            unsafe { libc::read(self.descriptor.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        if got == -1 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        }
        // SAFETY: zeroed at first, so initialised even after a short read.
        let number = unsafe { info.assume_init() }.ssi_signo;
        Ok(i32::try_from(number).ok().and_then(Signal::from_named_raw))
    }

    /// Stops this process (or its whole group) as `signal` does by default; returns when it is
    /// continued, or at once where the kernel ignores stops (an orphaned group).
    pub fn stop(&self, signal: Signal, whole_group: bool) -> io::Result<()> {
        let mut set = Mask::empty();
        set.add(signal);
        if whole_group {
            rustix::process::kill_current_process_group(signal)?;
        } else {
            rustix::process::kill_process(rustix::process::getpid(), signal)?;
        }
        // It is pending until here, so every other member of the group has it before we stop.
        set.apply(libc::SIG_UNBLOCK)?;
        set.apply(libc::SIG_BLOCK)?;
        Ok(())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Setting a mask that was in force before cannot fail.
        let _ = self.before.apply(libc::SIG_SETMASK);
    }
}

/// Unblocks every signal, for a child about to `execve`.
pub fn unblock_all() -> io::Result<()> {
    Mask::empty().apply(libc::SIG_SETMASK).map(|_before| ())
}

/// Gives `signal` its default action, for a child about to `execve` or for waiting on children.
pub fn reset(signal: Signal) -> io::Result<()> {
    // SAFETY: SIG_DFL installs no function of ours.
    if unsafe { libc::signal(signal.as_raw(), libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The signal with this number.
pub fn from_number(number: i32) -> Option<Signal> {
    Signal::from_named_raw(number)
}

fn is_ignored(signal: Signal) -> bool {
    let mut action = mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null new action only asks; `action` is valid for writing one `sigaction`.
    let rc = unsafe { libc::sigaction(signal.as_raw(), std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeroed at first, so initialised even if the call failed.
    rc == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

struct Mask(libc::sigset_t);

impl Mask {
    fn empty() -> Self {
        let mut set = mem::MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: `set` is valid for writing; sigemptyset initialises it.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            Self(set.assume_init())
        }
    }

    fn add(&mut self, signal: Signal) {
        // SAFETY: the set is initialised; a number out of range is an error, not undefined.
        unsafe { libc::sigaddset(&raw mut self.0, signal.as_raw()) };
    }

    fn apply(&self, how: libc::c_int) -> io::Result<Self> {
        let mut before = Self::empty();
        // SAFETY: both sets are initialised and outlive the call.
        let rc = unsafe { libc::pthread_sigmask(how, &raw const self.0, &raw mut before.0) };
        if rc != 0 {
            return Err(io::Error::from_raw_os_error(rc));
        }
        Ok(before)
    }
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mask")
    }
}
