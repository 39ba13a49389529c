//! Containers of rootless podman with runc, as a backend.

use std::{collections::BTreeMap, path::Path};

use cordon_policy::Backend;

use super::{Bubblewrap, Capabilities, SandboxAdapter, Wall};
use crate::{
    launch::{Contents, LaunchError, PODMAN, Prepared, RUNC, prepare_in_container},
    plan::SandboxPlan,
    terminal::Stdio,
};

/// Rootless podman, with this in the container.
#[derive(Clone, Debug)]
pub struct Container {
    contents: Contents,
}

impl Container {
    /// With an image or a root file system.
    pub fn new(contents: Contents) -> Self {
        Self { contents }
    }
}

impl SandboxAdapter for Container {
    fn backend(&self) -> Backend {
        Backend::Container
    }

    /// The filter, the guard and Landlock are the same as bubblewrap's, and so is what they lack
    /// here; what podman builds is held where podman can be used.
    fn capabilities(&self) -> Capabilities {
        match unusable() {
            None => Bubblewrap::default().capabilities(),
            Some(why) => Capabilities {
                holds: std::collections::BTreeSet::new(),
                lacks: BTreeMap::from(Wall::ALL.map(|wall| (wall, why.to_owned()))),
            },
        }
    }

    fn build(&mut self, plan: &SandboxPlan, stdio: Stdio) -> Result<Prepared, LaunchError> {
        prepare_in_container(plan, &self.contents, stdio)
    }
}

fn unusable() -> Option<&'static str> {
    if rustix::process::geteuid().is_root() {
        return Some("containers are rootless podman's, so an ordinary user starts them");
    }
    if !Path::new(PODMAN).is_file() {
        return Some("podman is not installed (`apt install podman uidmap`)");
    }
    if !RUNC.iter().any(|place| Path::new(place).is_file()) {
        return Some("runc is not installed (`apt install runc`)");
    }
    None
}
