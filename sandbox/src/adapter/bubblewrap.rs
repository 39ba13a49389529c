//! The default backend: bubblewrap, around namespaces of our own.

use std::collections::{BTreeMap, BTreeSet};

use cordon_policy::Backend;

use super::{Capabilities, SandboxAdapter, Wall, host};
use crate::{
    launch::{self, Ahead, LaunchError, Prepared},
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

    /// Asked of the kernel each time: two look-ups. Whether bubblewrap is there and new enough is
    /// found by starting it.
    fn capabilities(&self) -> Capabilities {
        let lacking = host::seccomp_lacks()
            .map_err(|_none| "this kernel has no seccomp filters".to_owned())
            .map(|lacks| lacks.join(", "));
        capabilities(lacking, host::landlock_version().is_ok())
    }

    fn begin(&mut self, user: u32) -> Result<(), LaunchError> {
        self.begun = Some(Ahead::begin(user)?);
        Ok(())
    }

    fn build(&mut self, plan: &SandboxPlan, stdio: Stdio) -> Result<Prepared, LaunchError> {
        match self.begun.take() {
            Some(ahead) => launch::prepare_begun(ahead, plan, stdio),
            None => launch::prepare(plan, stdio),
        }
    }
}

/// What follows from what seccomp lacks, or that there is none, and from Landlock.
fn capabilities(lacking: Result<String, String>, landlock: bool) -> Capabilities {
    let mut holds = BTreeSet::from(Wall::ALL);
    let mut lacks = BTreeMap::new();
    let mut without = |walls: &[Wall], why: &str| {
        for wall in walls {
            holds.remove(wall);
            lacks.insert(*wall, why.to_owned());
        }
    };
    let filtered = [Wall::SystemCalls, Wall::HostChannels];
    match &lacking {
        Ok(actions) if actions.is_empty() => {}
        Ok(actions) if actions == "user_notif" => without(
            &[Wall::NoDelete],
            "this kernel's seccomp lacks user notification (5.0 or newer has it)",
        ),
        Ok(actions) => {
            let why = format!("this kernel's seccomp lacks {actions}");
            without(&filtered, &why);
            without(&[Wall::NoDelete], &why);
        }
        Err(why) => {
            without(&filtered, why);
            without(&[Wall::NoDelete], why);
        }
    }
    if !landlock {
        without(
            &[Wall::SecondWall],
            "this kernel has no Landlock, or it is not switched on",
        );
    }
    Capabilities { holds, lacks }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f15_what_the_kernel_lacks_is_not_held() {
        let whole = capabilities(Ok(String::new()), true);
        assert!(whole.lacks.is_empty());
        let without_notification = capabilities(Ok("user_notif".into()), true);
        assert!(!without_notification.holds.contains(&Wall::NoDelete));
        assert!(without_notification.holds.contains(&Wall::SystemCalls));
        let without_filters = capabilities(Err("none".into()), false);
        for wall in [
            Wall::SystemCalls,
            Wall::HostChannels,
            Wall::NoDelete,
            Wall::SecondWall,
        ] {
            assert!(!without_filters.holds.contains(&wall), "{wall}");
            assert!(without_filters.lacks.contains_key(&wall), "{wall}");
        }
        assert!(without_filters.holds.contains(&Wall::Network));
    }

    #[test]
    fn f15_this_machine_holds_all_that_is_asked_for() {
        let found = Bubblewrap::default().capabilities();
        for wall in [Wall::SystemCalls, Wall::NoDelete] {
            assert!(found.holds.contains(&wall), "{found:?}");
        }
    }
}
