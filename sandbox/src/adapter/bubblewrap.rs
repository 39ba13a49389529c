//! The default backend: bubblewrap, around namespaces of our own.

use std::path::Path;

use cordon_policy::Backend;

use super::{Capabilities, Sandbox, SandboxAdapter, Wall, kernel};
use crate::{
    launch::{self, Ahead, BUBBLEWRAP_PATHS, GET_BUBBLEWRAP, LaunchError},
    plan::SandboxPlan,
    terminal::Stdio,
};

/// bubblewrap on Linux.
#[derive(Debug, Default)]
pub struct Bubblewrap {
    begun: Option<Ahead>,
}

impl SandboxAdapter for Bubblewrap {
    fn backend(&self) -> Backend {
        Backend::Bubblewrap
    }

    /// Looked up each time. Whether bubblewrap is new enough is found by starting it.
    fn capabilities(&self) -> Capabilities {
        let installed = BUBBLEWRAP_PATHS
            .iter()
            .any(|path| Path::new(path).is_file());
        with(kernel::capabilities(), installed)
    }

    fn begin(&mut self, user: u32) -> Result<(), LaunchError> {
        self.begun = Some(Ahead::begin(user)?);
        Ok(())
    }

    fn build(&mut self, plan: &SandboxPlan, stdio: Stdio) -> Result<Box<dyn Sandbox>, LaunchError> {
        Ok(Box::new(match self.begun.take() {
            Some(ahead) => launch::prepare_begun(ahead, plan, stdio)?,
            None => launch::prepare(plan, stdio)?,
        }))
    }
}

/// Without its program the adapter holds nothing: all is built by it.
fn with(mut kernel: Capabilities, installed: bool) -> Capabilities {
    if !installed {
        let places = BUBBLEWRAP_PATHS.join(" or ");
        let why = format!("bubblewrap (`bwrap`) is not installed in {places}");
        kernel.without(&Wall::ALL, &why, GET_BUBBLEWRAP);
    }
    kernel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f15_without_its_program_nothing_is_held() {
        let whole = || Capabilities {
            holds: Wall::ALL.into(),
            ..Capabilities::default()
        };
        assert_eq!(with(whole(), true), whole());
        let none = with(whole(), false);
        assert!(none.holds.is_empty());
        for wall in Wall::ALL {
            let refused = none.check(&[wall].into()).unwrap_err();
            assert!(refused.lack.why.contains("not installed"), "{refused}");
            assert!(refused.lack.help.contains("apt install"), "{refused}");
        }
    }

    #[test]
    fn f15_this_machine_holds_all_that_is_asked_for() {
        let found = Bubblewrap::default().capabilities();
        for wall in [Wall::SystemCalls, Wall::NoDelete, Wall::HostFiles] {
            assert!(found.holds.contains(&wall), "{found:?}");
        }
    }
}
