//! Containers of rootless podman with runc, as a backend.

use std::path::Path;

use cordon_policy::Backend;

use super::{Capabilities, Sandbox, SandboxAdapter, Wall, kernel};
use crate::{
    launch::{Contents, LaunchError, PODMAN, RUNC, prepare_in_container},
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
        let mut found = kernel::capabilities();
        if let Some((why, help)) = unusable() {
            found.without(&Wall::ALL, why, help);
        }
        found
    }

    fn build(&mut self, plan: &SandboxPlan, stdio: Stdio) -> Result<Box<dyn Sandbox>, LaunchError> {
        let prepared = prepare_in_container(plan, &self.contents, stdio)?;
        Ok(Box::new(prepared))
    }
}

/// What is missing, and how to get it.
fn unusable() -> Option<(&'static str, &'static str)> {
    if rustix::process::geteuid().is_root() {
        return Some((
            "containers are rootless podman's, so an ordinary user starts them",
            "run `cordon` as an ordinary user, or leave out `--backend container`",
        ));
    }
    if !Path::new(PODMAN).is_file() {
        return Some(("podman is not installed", "`apt install podman uidmap`"));
    }
    if !RUNC.iter().any(|place| Path::new(place).is_file()) {
        return Some(("runc is not installed", "`apt install runc`"));
    }
    None
}
