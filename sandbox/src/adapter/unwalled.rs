//! No backend at all: decisions and log, without walls.

use std::collections::{BTreeMap, BTreeSet};

use cordon_policy::Backend;

use super::{Capabilities, SandboxAdapter, Wall, asked};
use crate::{
    launch::{LaunchError, Prepared},
    plan::SandboxPlan,
    terminal::Stdio,
};

/// Holds nothing, and says so: whatever plan it is asked for, it refuses. A command runs without
/// walls only where policy allows just that, and then without a plan.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwalled;

impl SandboxAdapter for Unwalled {
    fn backend(&self) -> Backend {
        Backend::None
    }

    fn capabilities(&self) -> Capabilities {
        let why = "this backend has no walls";
        Capabilities {
            holds: BTreeSet::new(),
            lacks: Wall::ALL
                .into_iter()
                .map(|wall| (wall, why.to_owned()))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    fn build(&mut self, plan: &SandboxPlan, _stdio: Stdio) -> Result<Prepared, LaunchError> {
        self.capabilities().check(&asked(plan))?;
        Err(LaunchError::Builder("there is nothing to build".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f01_what_has_no_walls_holds_nothing_that_is_asked() {
        let found = Unwalled.capabilities();
        for wall in Wall::ALL {
            let refused = found.check(&BTreeSet::from([wall])).unwrap_err();
            assert_eq!(
                (refused.wall, &*refused.why),
                (wall, "this backend has no walls")
            );
        }
    }
}
