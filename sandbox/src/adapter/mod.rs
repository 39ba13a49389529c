//! What can hold a session: an adapter for each backend, and what each enforces, as a value.
//!
//! A plan asks for walls; an adapter says which it holds here and now, and why it does not hold
//! the others. Less than asked is a refusal that names the wall (F14, F15); nothing is dropped
//! silently. No method assumes that session and host share a kernel: what is done with a session
//! goes by [`Sandbox`], [`Steering`] and [`LiveMounts`].

mod bubblewrap;
mod container;
pub mod host;
mod kernel;
pub mod probe;
mod session;
mod unwalled;

use std::collections::{BTreeMap, BTreeSet};

use cordon_policy::Backend;
pub use cordon_policy::Wall;
use thiserror::Error;

use crate::{
    launch::LaunchError,
    plan::{Access, SandboxPlan},
    terminal::Stdio,
};
pub use bubblewrap::Bubblewrap;
pub use container::Container;
pub use session::{LiveMounts, Sandbox, Steering, WayIn};
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
    fn build(&mut self, plan: &SandboxPlan, stdio: Stdio) -> Result<Box<dyn Sandbox>, LaunchError>;

    /// The same, once all that the plan asks for is held.
    ///
    /// # Errors
    /// [`LaunchError::Lacks`] names the wall that is not; otherwise as [`SandboxAdapter::build`].
    fn prepare(
        &mut self,
        plan: &SandboxPlan,
        stdio: Stdio,
    ) -> Result<Box<dyn Sandbox>, LaunchError> {
        self.capabilities().check(&asked(plan))?;
        self.build(plan, stdio)
    }
}

/// What a backend enforces here, and why it does not enforce the rest.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Capabilities {
    /// Held.
    pub holds: BTreeSet<Wall>,
    /// Not held, and why.
    pub lacks: BTreeMap<Wall, Lack>,
}

/// Why a wall does not stand here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lack {
    /// What is missing.
    pub why: String,
    /// How to get it.
    pub help: String,
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
                lack: self.lacks.get(wall).cloned().unwrap_or_else(|| Lack {
                    why: "this backend does not have it".into(),
                    help: "take another `--backend`".into(),
                }),
            }),
        }
    }

    /// Takes walls away, for a reason.
    fn without(&mut self, walls: &[Wall], why: &str, help: &str) {
        for wall in walls {
            self.holds.remove(wall);
            let (why, help) = (why.to_owned(), help.to_owned());
            self.lacks.insert(*wall, Lack { why, help });
        }
    }
}

/// A plan asks for more than the backend holds.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error(
    "sandbox not started: asked is that {wall} (`{}`), and that does not hold here: {}",
    wall.name(),
    lack.why
)]
pub struct Lacks {
    /// Which wall.
    pub wall: Wall,
    /// Why it is not held, and how to get it.
    pub lack: Lack,
}

/// What a plan asks of whoever builds it: what every session has, what its mounts need, and what
/// policy or configuration asks beyond.
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
    asked.extend(&plan.walls);
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
        found.without(&[Wall::NoDelete], "no notification", "a newer kernel");
        let told = found.check(&asked).unwrap_err().to_string();
        assert!(
            told.contains("cannot be removed") && told.contains("no notification"),
            "{told}"
        );
        assert_eq!(found.check(&asked).unwrap_err().lack.help, "a newer kernel");
        // What nobody asked for may be lacking.
        assert_eq!(found.check(&BTreeSet::from([Wall::Network])), Ok(()));
    }

    #[test]
    fn f14_each_wall_that_is_asked_for_is_compared() {
        let mut plan = crate::plan::example();
        let own = asked(&plan);
        assert!(!own.contains(&Wall::SecondWall));
        for wall in Wall::ALL {
            plan.walls = BTreeSet::from([wall]);
            let mut found = Capabilities {
                holds: BTreeSet::from(Wall::ALL),
                lacks: BTreeMap::new(),
            };
            assert_eq!(found.check(&asked(&plan)), Ok(()), "{wall}");
            found.without(&[wall], "it is not there", "get it");
            let refused = found.check(&asked(&plan)).unwrap_err();
            assert_eq!(
                (refused.wall, &*refused.lack.why),
                (wall, "it is not there")
            );
        }
    }
}
