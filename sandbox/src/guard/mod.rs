//! The guard: in an `rw` grant files are created, written, replaced and renamed, but nothing that
//! was there before the session disappears.
//!
//! Mounts cannot say that, so calls that take names away are held by a filter inside ([`install`])
//! and carried out, or refused, by a [`Supervisor`] outside. It never lets a held call go on by
//! itself: it reads the path once, opens the directory in the thread's own view, decides about the
//! file it finds there, and makes the call on that directory with the user's own rights.
//!
//! What holds in an `rw` grant:
//!
//! | call | on something the session made | on something that was there |
//! |---|---|---|
//! | `unlink`, `rmdir` | done | refused, but see below |
//! | `rename` within the grant to a free name | done | done |
//! | `rename` over something the session made | done | done |
//! | `rename` over something that was there | done; it is now kept in its place | refused |
//! | `rename` with `RENAME_EXCHANGE` | done | done |
//! | `rename` or `link` out of the grant | `EXDEV`, as between file systems | `EXDEV` |
//!
//! An old file that was renamed may be removed once a file made by the session stands under its
//! first name: so some editors save. The new one is then kept in its place.
//!
//! In every writable grant, `rwd` too, what makes the user's own programs run something is protected
//! (see [`Shield`]): it is not made, written, removed or renamed. So making a name and opening to
//! write wait as well, and the file that the supervisor opened is given to the caller.
//!
//! Binding a socket waits in every profile, and where unix sockets can be made connecting too: see
//! `sockets`.
//!
//! Contents are not guarded otherwise: an old file can be overwritten or truncated. A program that replaces
//! by removing first and creating then (`git checkout` of a changed file does) is refused at the
//! first step, because nobody can know that the second will follow. Two sessions that work
//! in the same folder at the same time each keep their own account of what replaced what.

mod area;
mod books;
mod call;
mod control;
mod create;
mod elsewhere;
mod filter;
mod gone;
mod judge;
mod keep;
mod ledger;
mod looked;
mod open;
mod resolve;
mod shield;
mod sockets;
mod supervisor;
mod tally;
mod task;
mod touched;
mod umask;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use cordon_policy::GrantMode;
use rustix::io::Errno;
use thiserror::Error;

use crate::places::Shown;

pub use call::Call;
pub use control::{Change, Control};
pub use filter::install;
pub use keep::{Changed, INDEX, Keeper, Kept, LARGEST_COPY};
pub use ledger::{SessionStart, tells_births};
pub use shield::{Added, Protection, Scan, Shield, scan};
pub use supervisor::Supervisor;
pub use tally::FileCounts;
pub use touched::{Sizes, Touched};

/// One grant as the guard needs to know it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GuardedGrant {
    /// Where it lies on the host: absolute, without links.
    pub host: PathBuf,
    /// Where it is mounted in the session: absolute, without links.
    pub inside: PathBuf,
    /// What may be done beneath it.
    pub mode: GrantMode,
    /// What is protected beneath it whatever the mode; nothing, where the grant is of an agent's
    /// own configuration.
    pub shield: Option<Shield>,
    /// What was there is kept before it is removed, replaced or written.
    pub preserve: bool,
    /// No name goes away, whoever made it: the strict form of no-delete.
    pub names_stay: bool,
    /// What was made after this may be removed again in mode `rw`.
    pub since: SessionStart,
}

impl Shown for GuardedGrant {
    fn host(&self) -> &Path {
        &self.host
    }

    fn inside(&self) -> &Path {
        &self.inside
    }
}

/// A call that was refused; the session saw `EPERM`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// What was called.
    pub call: Call,
    /// The thread that called, in the supervisor's process namespace.
    pub tid: u32,
    /// What would have disappeared, as the session sees it. Empty when it could not be found out.
    pub inside: PathBuf,
    /// The same on the host, where it lies in a grant.
    pub host: Option<PathBuf>,
    /// The mode of that grant.
    pub mode: Option<GrantMode>,
    /// Why.
    pub why: Why,
}

/// Why a call was refused.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Why {
    /// Removing something that was there before the session.
    #[error("it was there before the session, and its grant does not include delete")]
    WasThere,
    /// Renaming something that was there over something else that was there.
    #[error("both files were there before the session, and one would be lost")]
    WouldReplace,
    /// Taking a name away where all stay.
    #[error(
        "every name stays in this grant, as policy asks: nothing is removed, renamed or replaced"
    )]
    NamesStay,
    /// Making, writing, removing or renaming something that is protected in every grant.
    #[error("`{}` is protected: {}", .0.pattern, .0.why)]
    Protected(Protection),
    /// It is to be kept before it is changed, and cannot be.
    #[error("it cannot be kept before it is changed, as policy asks")]
    NotKept,
    /// Reaching a unix socket of the host's, or making one where the host could find it.
    #[error(
        "unix sockets are made and reached in the session's own file systems, and nowhere else"
    )]
    Outside,
    /// The caller could not be looked into, so nothing was decided or done.
    #[error("the calling process could not be looked into")]
    Blind,
}

/// What the supervisors of one session share: what they keep and what they counted.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// Where pre-images go; needed by a grant that preserves.
    pub keeper: Arc<Mutex<Option<Keeper>>>,
    /// By where the grant is mounted.
    pub counts: Arc<Mutex<BTreeMap<PathBuf, FileCounts>>>,
}

/// What becomes of a refusal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ruling {
    /// It stays refused.
    Refused,
    /// Policy permits it: a protected path only, everything else stays refused.
    Permitted,
}

/// What a supervisor did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Held calls.
    pub calls: u64,
    /// Files and directories removed in grants.
    pub removed: u64,
    /// Calls refused.
    pub refused: u64,
}

/// Why there is no guard.
#[derive(Debug, Error)]
pub enum GuardError {
    /// The kernel's notifications are longer than known here.
    #[error("guard not started: this kernel's seccomp notifications have an unknown shape")]
    Unsupported,
    /// `/proc` of the supervisor cannot be read.
    #[error("guard not started: `/proc` cannot be read")]
    Unreadable(#[source] io::Error),
    /// The listener does not work.
    #[error("guard stopped: the seccomp listener cannot be read")]
    Listener(#[source] io::Error),
    /// The thread's capabilities cannot be given up, or it cannot have a umask of its own.
    #[error("guard not started: capabilities cannot be given up")]
    Privileges(#[source] io::Error),
}

impl GuardError {
    /// What to do; shown after `help:`.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unsupported => "grant the folder `ro` or `rwd`, and report the kernel's version",
            Self::Unreadable(_) => "mount `/proc` where Cordon runs",
            Self::Listener(_) => "use a kernel of version 5.19 or later with seccomp notifications",
            Self::Privileges(_) => "start Cordon as an ordinary user",
        }
    }
}

/// Why a held call is not carried out.
#[derive(Clone, Copy, Debug)]
enum Stop {
    /// The kernel said no, or would have.
    Errno(Errno),
    /// We say no.
    Refuse(Why),
    /// The caller was killed meanwhile.
    Gone,
}

impl Stop {
    fn blind() -> Self {
        Self::Refuse(Why::Blind)
    }
}

impl Why {
    /// What the caller is told.
    fn errno(self) -> Errno {
        match self {
            Self::Outside => Errno::ACCESS,
            _ => Errno::PERM,
        }
    }
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// The path that the kernel shows for an open directory: the session's, for one of the session's.
fn shown_path(own_fds: &OwnedFd, directory: &OwnedFd) -> Result<PathBuf, Errno> {
    let number = directory.as_raw_fd().to_string();
    let shown = rustix::fs::readlinkat(own_fds, number, Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(shown.into_bytes())))
}
