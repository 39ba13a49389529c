//! No backend at all: decisions and log, without walls.

use cordon_policy::Backend;

use super::{Capabilities, Sandbox, SandboxAdapter, Wall, asked};
use crate::{launch::LaunchError, plan::SandboxPlan, terminal::Stdio};

/// Holds nothing, and says so: whatever plan it is asked for, it refuses. A command runs without
/// walls only where policy allows just that, and then without a plan.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwalled;

impl SandboxAdapter for Unwalled {
    fn backend(&self) -> Backend {
        Backend::None
    }

    fn capabilities(&self) -> Capabilities {
        let mut none = Capabilities::default();
        let help = "leave out `--backend none`";
        none.without(&Wall::ALL, "this backend has no walls", help);
        none
    }

    fn build(
        &mut self,
        plan: &SandboxPlan,
        _stdio: Stdio,
    ) -> Result<Box<dyn Sandbox>, LaunchError> {
        self.capabilities().check(&asked(plan))?;
        Err(LaunchError::Builder("there is nothing to build".into()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn f01_what_has_no_walls_holds_nothing_that_is_asked() {
        let found = Unwalled.capabilities();
        for wall in Wall::ALL {
            let refused = found.check(&BTreeSet::from([wall])).unwrap_err();
            assert_eq!(
                (refused.wall, &*refused.lack.why),
                (wall, "this backend has no walls")
            );
        }
    }
}
