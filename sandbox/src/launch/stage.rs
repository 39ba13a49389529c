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
    owners::{NotMapped, Owners, Whose},
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
        (stage.plan.init_program, _) = stage.open(&plan.init_program, None)?;
        // What lies around others first: it says whose all of them are.
        let mut mounts: Vec<_> = plan.mounts.iter().zip(0..).collect();
        mounts.sort_by_key(|(mount, _)| mount.target.components().count());
        let mut outermost: Vec<(&Path, Whose)> = Vec::new();
        for (mount, at) in mounts {
            let within = outermost
                .iter()
                .find(|(around, _)| mount.target.starts_with(around))
                .map(|(_, whose)| *whose);
            let (source, whose) = stage.open(&mount.source, within)?;
            if within.is_none() {
                outermost.push((&mount.target, whose));
            }
            let staged: Option<&mut Mount> = stage.plan.mounts.get_mut::<usize>(at);
            if let Some(staged) = staged {
                staged.source = source;
            }
        }
        Ok(stage)
    }

    /// Where `path` will be, and whose it is; `within`, whose what is around it is.
    fn open(
        &mut self,
        path: &Path,
        within: Option<Whose>,
    ) -> Result<(PathBuf, Whose), LaunchError> {
        let tree = self.owners.view(path, within);
        let (tree, whose) = tree.map_err(LaunchError::NotMapped)?;
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
        Ok((at, whose))
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
