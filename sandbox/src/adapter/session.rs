//! What an adapter gives its caller of one session: before it runs, while it runs, and its mounts.
//!
//! All that a launcher does with a session goes by these. A process number, a namespace or a path
//! below `/proc` is an adapter's own affair: where session and host share no kernel there is none.

use std::{
    fmt, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::process::Pid;

use crate::{
    launch::{Further, LaunchError, Outcome, RunHooks},
    limits::Held,
    mounts::{Holder, MountError},
    network::Listeners,
    owners::Owners,
    plan::{Identity, Mount},
};

/// A session that is being built, or is built and waits; nothing of it runs yet.
pub trait Sandbox: fmt::Debug {
    /// What its ways out arrive on, once: descriptors that accept, whoever made them.
    fn take_listeners(&mut self) -> Option<Listeners>;

    /// Waits until its first process says that the walls stand. [`Sandbox::run`] does it too.
    ///
    /// # Errors
    /// [`LaunchError`] says which wall is missing, or that a signal asked to end. Nothing has run.
    fn wait_ready(&mut self) -> Result<(), LaunchError>;

    /// The limits in force, and by what each is held.
    fn held(&self) -> &[Held];

    /// The directories of its control group, where it has one. They may still be busy for a moment
    /// when the run is over.
    fn groups(&self) -> Vec<PathBuf>;

    /// What stops its processes when it is paused.
    fn pauses_by(&self) -> &'static str;

    /// Its first process as the host numbers it, where the host does; known when it is ready. To be
    /// shown to people, and to find which program is behind a connection.
    fn first_process(&self) -> Option<Pid>;

    /// Who owns what in a session that root started: for [`crate::guard`].
    fn owners(&self) -> Option<Owners>;

    /// Its mounts, from when it is ready until it ends.
    fn mounts(&self) -> Box<dyn LiveMounts>;

    /// A folder inside, by its path inside, held from outside. When it is ready.
    ///
    /// # Errors
    /// When it is not there, or cannot be reached.
    fn open_folder(&self, inside: &Path) -> io::Result<OwnedFd>;

    /// A way to its loopback, for a [`crate::dial::Line`]. When it is ready.
    ///
    /// # Errors
    /// When its network cannot be reached.
    fn way_in(&self) -> io::Result<WayIn>;

    /// Starts the command and stays until it has ended and all its output is delivered.
    ///
    /// # Errors
    /// [`LaunchError`] when the sandbox, not the command, failed. All of it is gone then.
    fn run(self: Box<Self>, hooks: &mut dyn RunHooks) -> Result<Outcome, LaunchError>;
}

/// A way to what listens inside.
#[derive(Debug)]
pub struct WayIn {
    /// The socket of a [`crate::dial::Line`].
    pub line: OwnedFd,
    /// Whatever answers at its other end, as long as this is held.
    pub held: Box<dyn fmt::Debug>,
}

/// A session that runs. What came of what is numbered is told by [`RunHooks::happened`].
pub trait Steering {
    /// Starts a further command under the same walls, in the same directory, with the same
    /// variables. It ends with the session at the latest.
    ///
    /// # Errors
    /// When it cannot be passed in, or the session is paused.
    fn exec(&mut self, number: u64, further: &Further) -> io::Result<()>;

    /// Asks the command to end, as SIGTERM to the launcher does: it has a grace of 5 s. Asked a
    /// second time, or `now`, it is made to.
    fn end(&mut self, now: bool);

    /// Stops every process of it.
    fn pause(&mut self, number: u64);

    /// Lets them run again.
    fn resume(&mut self, number: u64);

    /// Counts what it uses: of one that stands still, what it used when it ran.
    fn sample(&mut self, number: u64);
}

/// The mounts of a running session. What is attached is the very file that was decided on.
pub trait LiveMounts: fmt::Debug + Send {
    /// Shows `grant`, with `protected` read-only in it from the first moment.
    ///
    /// # Errors
    /// [`MountError`]; nothing is shown then.
    fn attach(&self, grant: &Mount, directory: bool, protected: &[Mount])
    -> Result<(), MountError>;

    /// Takes away what is mounted at `inside`, at once, whoever uses it. What is open stays open,
    /// read-only where nothing is open for writing.
    ///
    /// # Errors
    /// [`MountError`]; it is still there then.
    fn detach(&self, inside: &Path, identity: Identity) -> Result<(), MountError>;

    /// Makes what is mounted at `inside` read-only with all below it.
    ///
    /// # Errors
    /// [`MountError::Busy`] when files are open for writing; it is as it was then.
    fn make_read_only(&self, inside: &Path, identity: Identity) -> Result<(), MountError>;

    /// Makes what is mounted at `inside` writable, with `protected` read-only in it before.
    ///
    /// # Errors
    /// [`MountError`]; it is still read-only then.
    fn make_writable(
        &self,
        inside: &Path,
        identity: Identity,
        protected: &[Mount],
    ) -> Result<(), MountError>;

    /// Which processes use a mount at or below `inside`: ask before it is gone.
    ///
    /// # Errors
    /// When the session's processes cannot be looked at.
    fn holders(&self, inside: &Path) -> io::Result<Vec<Holder>>;

    /// Ends these, each only as long as it is still the same process.
    fn end_holders(&self, holders: &[Holder]);
}
