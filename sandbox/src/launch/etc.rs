//! Lays `/etc` of a session out in memory, so that bubblewrap shows it by one mount: for each mount
//! of its own it reads the table of all mounts, and each file is a copy through a descriptor.
//!
//! Runs in the forked child, in a mount namespace of its own that the host sees nothing of. What is
//! laid out can be written until bubblewrap shows it read only, and by nobody: nothing runs yet.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
};

use rustix::{
    fs::Mode,
    mount::{MountFlags, mount, mount_bind_recursive},
    thread::UnshareFlags,
};

use super::LaunchError;
use crate::{
    plan::{Etc, Mount, SandboxPlan, SystemDirectory},
    sys::process,
};

/// What is laid out, and over what.
#[derive(Debug)]
pub(super) struct Layout {
    etc: Etc,
    place: &'static Path,
    /// Where something of the plan's is mounted, and whether that is a folder.
    points: Vec<(PathBuf, bool)>,
}

impl Layout {
    pub(super) fn new(plan: &SandboxPlan) -> Result<Self, LaunchError> {
        let in_etc = |mount: &&Mount| mount.target.starts_with("/etc");
        let ours = |mount: &&Mount| in_etc(mount) && !plan.layout.shows(&mount.target);
        let point = |mount: &Mount| {
            let found = mount.source.symlink_metadata()?;
            Ok((mount.target.clone(), found.is_dir()))
        };
        let points: io::Result<_> = plan.mounts.iter().filter(ours).map(point).collect();
        Ok(Self {
            etc: Etc::of(plan),
            place: place(plan)?,
            points: points.map_err(LaunchError::step("`/etc` laid out"))?,
        })
    }

    /// Where bubblewrap finds it.
    pub(super) fn result(&self) -> PathBuf {
        self.place.join("etc")
    }

    /// In the forked child, which holds every capability over its user namespace.
    pub(super) fn lay_out(&self) -> io::Result<()> {
        process::leave(UnshareFlags::NEWNS)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("tmpfs", self.place, "tmpfs", flags, c"mode=0755,size=32m")?;
        // What bubblewrap starts has the umask that we were started with.
        let umask = rustix::process::umask(Mode::empty());
        let done = self.fill();
        rustix::process::umask(umask);
        done
    }

    fn fill(&self) -> io::Result<()> {
        for file in &self.etc.files {
            let mut options = File::options();
            options.write(true).create_new(true).mode(file.mode & 0o777);
            options
                .open(self.at(&file.target)?)?
                .write_all(&file.bytes)?;
        }
        for (link, to) in &self.etc.links {
            symlink(to, self.at(link)?)?;
        }
        for shown in &self.etc.shown {
            let point = self.point(shown, fs::metadata(shown)?.is_dir())?;
            mount_bind_recursive(shown, &point)?;
        }
        for (point, is_folder) in &self.points {
            self.point(point, *is_folder)?;
        }
        Ok(())
    }

    /// Makes what something is mounted over.
    fn point(&self, path: &Path, is_folder: bool) -> io::Result<PathBuf> {
        let at = self.at(path)?;
        if is_folder {
            folders().create(&at)?;
        } else if !at.exists() {
            File::create_new(&at)?;
        }
        Ok(at)
    }

    /// Where `path` of the session is made; the folders above it are there then.
    fn at(&self, path: &Path) -> io::Result<PathBuf> {
        let at = self.place.join(path.strip_prefix("/").unwrap_or(path));
        if let Some(above) = at.parent() {
            folders().create(above)?;
        }
        Ok(at)
    }
}

fn folders() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o755);
    builder
}

/// A folder of the host that this session is shown nothing of, to lay `/etc` out over.
fn place(plan: &SandboxPlan) -> Result<&'static Path, LaunchError> {
    let system = plan.layout.system.iter().filter_map(|entry| match entry {
        SystemDirectory::Mount(path) => Some(path.as_path()),
        SystemDirectory::Link { .. } | SystemDirectory::Copy { .. } => None,
    });
    let mounts = plan.mounts.iter().map(|mount| mount.source.as_path());
    let used: Vec<&Path> = system.chain(mounts).chain([&*plan.init_program]).collect();
    let is_free = |place: &Path| {
        let hides = |used: &&Path| used.starts_with(place);
        !used.iter().any(hides) && place.symlink_metadata().is_ok_and(|found| found.is_dir())
    };
    let free = PLACES.iter().map(Path::new).find(|place| is_free(place));
    free.ok_or_else(|| {
        let none = format!("none of {PLACES:?} is a folder that the session is shown nothing of");
        LaunchError::step("`/etc` laid out")(io::Error::other(none))
    })
}

/// Of the kernel's and of passing things first: grants are hardly ever there.
const PLACES: [&str; 6] = ["/sys", "/mnt", "/media", "/srv", "/run", "/tmp"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::example;

    #[test]
    fn no_place_is_taken_that_something_is_shown_from() {
        let mut plan = example();
        let first = place(&plan).unwrap();
        plan.init_program = first.join("cordon");
        let second = place(&plan).unwrap();
        assert_ne!(first, second);
        if let Some(mount) = plan.mounts.first_mut() {
            mount.source = second.join("a");
        }
        let third = place(&plan).unwrap();
        assert!(third != first && third != second, "{third:?}");
    }
}
