//! What of the host is shown to a session that root starts, laid out where the session's user can
//! reach it: bubblewrap takes paths, and those of root's folders are closed to that user.
//!
//! A plan and its owners in; mounts with owners mapped, a plan that takes them from where they are
//! put, and, in the forked child, a mount namespace with them in it. The host sees none of it.

use std::{
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType},
    mount::{MountFlags, MountPropagationFlags, MoveMountFlags, mount, mount_change, move_mount},
    thread::UnshareFlags,
};

use super::LaunchError;
use crate::{
    owners::{NotMapped, Owners},
    plan::{Mount, SandboxPlan},
    sys::process,
};

/// The views, before they are anywhere.
#[derive(Debug)]
pub(super) struct Stage {
    owners: Owners,
    plan: SandboxPlan,
    views: Vec<View>,
}

#[derive(Debug)]
struct View {
    at: PathBuf,
    tree: OwnedFd,
    directory: bool,
}

impl Stage {
    /// Opens every grant of `plan`, and our own program, as `owners` are to see them.
    pub(super) fn new(plan: &SandboxPlan, owners: &Owners) -> Result<Self, LaunchError> {
        let mut stage = Self {
            owners: owners.clone(),
            plan: plan.clone(),
            views: Vec::new(),
        };
        stage.plan.init_program = stage.open(&plan.init_program, &plan.init_program)?;
        for (at, mount) in plan.mounts.iter().enumerate() {
            let source = stage.open(&mount.source, grant_of(mount, plan))?;
            if let Some(mount) = stage.plan.mounts.get_mut(at) {
                mount.source = source;
            }
        }
        Ok(stage)
    }

    fn open(&mut self, path: &Path, within: &Path) -> Result<PathBuf, LaunchError> {
        let tree = self.owners.view(path, within);
        let tree = tree.map_err(LaunchError::NotMapped)?;
        let stat = rustix::fs::fstat(&tree).map_err(|errno| {
            LaunchError::NotMapped(NotMapped {
                path: path.to_path_buf(),
                source: errno.into(),
            })
        })?;
        let at = Path::new(STAGE).join(self.views.len().to_string());
        self.views.push(View {
            at: at.clone(),
            tree,
            directory: FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
        });
        Ok(at)
    }

    /// The plan, with sources as they are after [`Self::enter`].
    pub(super) fn plan(&self) -> &SandboxPlan {
        &self.plan
    }

    /// In the forked child: lays the views out in a mount namespace of its own, and becomes the
    /// session's user for good.
    pub(super) fn enter(&self) -> io::Result<()> {
        process::leave(UnshareFlags::NEWNS)?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("tmpfs", STAGE, "tmpfs", flags, c"mode=0755,size=1m")?;
        for view in &self.views {
            view.put()?;
        }
        rustix::process::chdir("/")?;
        self.owners.become_process()
    }
}

/// The folder that `mount` is shown in: what is protected in a grant is mounted over its own place.
fn grant_of<'a>(mount: &'a Mount, plan: &'a SandboxPlan) -> &'a Path {
    let around = plan.mounts.iter();
    let around = around.filter(|grant| mount.target.starts_with(&grant.target));
    let outermost = around.min_by_key(|grant| grant.target.components().count());
    &outermost.unwrap_or(mount).source
}

impl View {
    fn put(&self) -> io::Result<()> {
        if self.directory {
            fs::create_dir(&self.at)?;
        } else {
            fs::File::create_new(&self.at)?;
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        Ok(move_mount(self.tree.as_fd(), "", CWD, &self.at, flags)?)
    }
}

/// No session is shown this folder of the host: it has one of its own there.
const STAGE: &str = "/dev/shm";
