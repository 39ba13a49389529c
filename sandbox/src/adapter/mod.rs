//! What can hold a session: an adapter for each backend, and what each enforces, as a value.
//!
//! A plan asks for walls; an adapter says which it holds here and now, and why it does not hold
//! the others. Less than asked is a refusal that names the wall (F14, F15); nothing is dropped
//! silently. No method assumes that session and host share a kernel: what a session's ways out
//! arrive on are descriptors that accept, whoever made them.

mod bubblewrap;
mod container;
pub mod host;
pub mod probe;
mod unwalled;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use cordon_policy::Backend;
use thiserror::Error;

use crate::{
    launch::{LaunchError, Prepared},
    plan::{Access, SandboxPlan},
    terminal::Stdio,
};
pub use bubblewrap::Bubblewrap;
pub use container::Container;
pub use unwalled::Unwalled;

/// A backend.
pub trait SandboxAdapter {
    /// Which one it is, as policy and the log call it.
    fn backend(&self) -> Backend;

    /// What it enforces here and now.
    fn capabilities(&self) -> Capabilities;

    /// Begins what depends neither on what policy says nor on the plan, for a session whose
    /// processes run as `user`. Nothing of the session runs yet, nor is anything shown to it.
    ///
    /// # Errors
    /// [`LaunchError`] says what is missing and how to get it.
    fn begin(&mut self, _user: u32) -> Result<(), LaunchError> {
        Ok(())
    }

    /// Builds the sandbox of a plan up to where its listeners can be served. Nothing of the
    /// session runs yet.
    ///
    /// # Errors
    /// [`LaunchError`] says what is missing and how to get it.
    fn build(&mut self, plan: &SandboxPlan, stdio: Stdio) -> Result<Prepared, LaunchError>;

    /// The same, once all that the plan asks for is held.
    ///
    /// # Errors
    /// [`LaunchError::Lacks`] names the wall that is not; otherwise as [`SandboxAdapter::build`].
    fn prepare(&mut self, plan: &SandboxPlan, stdio: Stdio) -> Result<Prepared, LaunchError> {
        self.capabilities().check(&asked(plan))?;
        self.build(plan, stdio)
    }
}

/// Something that a backend holds, or does not.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Wall {
    /// Of the host's files a session sees the system, read only, and what is granted.
    HostFiles,
    /// What is granted read only cannot be written.
    ReadOnlyGrants,
    /// What was there before the session does not vanish from a grant of mode `rw`.
    NoDelete,
    /// Nothing is reached but by the session's listeners.
    Network,
    /// No socket, descriptor or shared memory of the host's processes is reached.
    HostChannels,
    /// Processes of the host are neither seen, signalled nor read.
    Processes,
    /// Only the system calls of the plan's profile are answered.
    SystemCalls,
    /// The session ends with its launcher, whole.
    WholeEnd,
    /// Files are behind a second wall of another kind.
    SecondWall,
}

impl Wall {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::HostFiles,
        Self::ReadOnlyGrants,
        Self::NoDelete,
        Self::Network,
        Self::HostChannels,
        Self::Processes,
        Self::SystemCalls,
        Self::WholeEnd,
        Self::SecondWall,
    ];

    /// In words, for a refusal.
    pub const fn words(self) -> &'static str {
        match self {
            Self::HostFiles => "files of the host are sealed",
            Self::ReadOnlyGrants => "read-only grants cannot be written",
            Self::NoDelete => "what was there cannot be removed from a folder granted `rw`",
            Self::Network => "the network is reached by the session's listeners alone",
            Self::HostChannels => "sockets and descriptors of the host are out of reach",
            Self::Processes => "processes of the host are out of reach",
            Self::SystemCalls => "system calls are filtered by the profile",
            Self::WholeEnd => "the session ends with its launcher",
            Self::SecondWall => "files are behind a second wall",
        }
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// What a backend enforces here, and why it does not enforce the rest.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Capabilities {
    /// Held.
    pub holds: BTreeSet<Wall>,
    /// Not held, and why.
    pub lacks: BTreeMap<Wall, String>,
}

impl Capabilities {
    /// Whether all of `asked` is held.
    ///
    /// # Errors
    /// The first that is not, with the reason. What a backend says nothing about is not held.
    pub fn check(&self, asked: &BTreeSet<Wall>) -> Result<(), Lacks> {
        match asked.difference(&self.holds).next() {
            None => Ok(()),
            Some(wall) => Err(Lacks {
                wall: *wall,
                why: self
                    .lacks
                    .get(wall)
                    .cloned()
                    .unwrap_or_else(|| "this backend does not have it".into()),
            }),
        }
    }
}

/// A plan asks for more than the backend holds.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("sandbox not started: asked is that {wall}, and that does not hold here: {why}")]
pub struct Lacks {
    /// Which wall.
    pub wall: Wall,
    /// Why it is not held.
    pub why: String,
}

/// What a plan asks of whoever builds it.
pub fn asked(plan: &SandboxPlan) -> BTreeSet<Wall> {
    let mut asked = BTreeSet::from([
        Wall::HostFiles,
        Wall::Network,
        Wall::HostChannels,
        Wall::Processes,
        Wall::SystemCalls,
        Wall::WholeEnd,
    ]);
    if plan.guard {
        asked.insert(Wall::NoDelete);
    }
    if plan
        .mounts
        .iter()
        .any(|mount| mount.access == Access::ReadOnly)
    {
        asked.insert(Wall::ReadOnlyGrants);
    }
    asked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f14_less_than_asked_is_a_refusal_that_names_it() {
        let asked = BTreeSet::from([Wall::Network, Wall::NoDelete]);
        let mut found = Capabilities {
            holds: asked.clone(),
            lacks: BTreeMap::new(),
        };
        assert_eq!(found.check(&asked), Ok(()));
        found.holds.remove(&Wall::NoDelete);
        let silent = found.check(&asked).unwrap_err();
        assert_eq!(silent.wall, Wall::NoDelete);
        found.lacks.insert(Wall::NoDelete, "no notification".into());
        let told = found.check(&asked).unwrap_err().to_string();
        assert!(
            told.contains("cannot be removed") && told.contains("no notification"),
            "{told}"
        );
        // What nobody asked for may be lacking.
        assert_eq!(found.check(&BTreeSet::from([Wall::Network])), Ok(()));
    }
}
