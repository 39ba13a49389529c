//! The bubblewrap arguments of a plan, in the order in which bubblewrap carries them out.

use std::{
    ffi::OsString,
    os::fd::RawFd,
    path::{Path, PathBuf},
};

use super::{Access, INIT_PROGRAM, MadeFile, SandboxPlan, SystemDirectory, etc};

/// The descriptors that the arguments refer to, as numbers in bubblewrap.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PlanDescriptors {
    /// Where `/etc` was laid out.
    pub(crate) etc: PathBuf,
    /// The contents of [`SandboxPlan::other_files`], in that order.
    pub(crate) files: Vec<RawFd>,
    /// The filter program.
    pub(crate) seccomp: RawFd,
}

impl SandboxPlan {
    /// Every file whose contents we bring, but those that are laid out with `/etc`.
    pub(crate) fn other_files(&self) -> impl Iterator<Item = &MadeFile> {
        self.files
            .iter()
            .filter(|file| !etc::is_laid_out(self, file))
    }
}

impl SandboxPlan {
    /// The session's own file systems in memory.
    pub(crate) fn own_file_systems(&self) -> [PathBuf; 3] {
        ["/dev/shm".into(), "/tmp".into(), self.home()]
    }
}

/// What `bwrap` is told. The network namespace is not in it: the process that becomes bubblewrap
/// is already in the session's.
pub(crate) fn bubblewrap_arguments(
    plan: &SandboxPlan,
    descriptors: &PlanDescriptors,
) -> Vec<OsString> {
    let mut line = Line(Vec::new());
    add_namespaces(&mut line, plan);
    add_system(&mut line, plan, &descriptors.etc);
    add_own_file_systems(&mut line, plan);
    add_files(&mut line, plan, descriptors);
    add_mounts(&mut line, plan);
    // Last of all mounts: the root is a writable tmpfs until here.
    line.add(["--remount-ro", "/dev"])
        .add(["--remount-ro", "/"]);
    line.add(["--chdir", "/"]);
    line.add(["--seccomp", &descriptors.seccomp.to_string()]);
    line.0
}

fn add_namespaces(line: &mut Line, plan: &SandboxPlan) {
    line.add(["--unshare-user"])
        .add(["--uid", &plan.user.uid.to_string()])
        .add(["--gid", &plan.user.gid.to_string()])
        .add([
            "--unshare-pid",
            "--unshare-ipc",
            "--unshare-uts",
            "--unshare-cgroup-try",
        ])
        .add(["--disable-userns"])
        .add(["--hostname", &plan.host_name])
        .add(["--die-with-parent", "--new-session", "--as-pid-1"])
        .add(["--cap-drop", "ALL"])
        .add(["--clearenv"]);
}

fn add_system(line: &mut Line, plan: &SandboxPlan, etc: &Path) {
    // Made as parents of what lies below, they would be closed to every other user id.
    line.add(["--dir", "/var", "--dir", "/sessions"]);
    for entry in &plan.layout.system {
        match entry {
            SystemDirectory::Mount(path) => line.add_paths("--ro-bind", path, path),
            SystemDirectory::Link { at, to } => line.add_paths("--symlink", to, at),
            // Of `/etc` alone, which is laid out already.
            SystemDirectory::Copy { .. } => continue,
        };
    }
    line.add_paths("--ro-bind", etc, Path::new("/etc"));
}

fn add_own_file_systems(line: &mut Line, plan: &SandboxPlan) {
    let sizes = &plan.sizes;
    line.add(["--proc", "/proc"]);
    for path in &plan.layout.kernel {
        line.add_paths("--ro-bind", path, path);
    }
    line.add(["--dev", "/dev"]);
    line.add_tmpfs("1777", sizes.shm, Path::new("/dev/shm"));
    line.add_tmpfs("1777", sizes.tmp, Path::new("/tmp"));
    line.add(["--symlink", "/tmp", "/var/tmp"]);
    line.add_tmpfs("0700", sizes.home, &plan.home());
    line.add_paths("--dir", &plan.home().join("mnt"), Path::new(""));
    line.add_paths("--ro-bind", &plan.init_program, Path::new(INIT_PROGRAM));
}

fn add_files(line: &mut Line, plan: &SandboxPlan, descriptors: &PlanDescriptors) {
    for (file, descriptor) in plan.other_files().zip(&descriptors.files) {
        line.add(["--perms", &format!("{:04o}", file.mode & 0o777)]);
        // Where the host's own directory is shown, a file can only be mounted over the host's.
        // Anywhere else it is an ordinary file, which in the session's home can be replaced.
        let over_host = plan.layout.shows(&file.target);
        let how = if over_host {
            "--ro-bind-data"
        } else {
            "--file"
        };
        line.add([how, &descriptor.to_string()]);
        line.0.push(file.target.clone().into());
    }
}

fn add_mounts(line: &mut Line, plan: &SandboxPlan) {
    let mut mounts: Vec<_> = plan.mounts.iter().collect();
    // A directory before what lies below it, or it would hide it. Paths compare by component.
    mounts.sort_by(|left, right| left.target.cmp(&right.target));
    for mount in mounts {
        let option = match mount.access {
            Access::ReadOnly => "--ro-bind",
            Access::ReadWrite => "--bind",
        };
        line.add_paths(option, &mount.source, &mount.target);
    }
}

struct Line(Vec<OsString>);

impl Line {
    fn add<const N: usize>(&mut self, words: [&str; N]) -> &mut Self {
        self.0.extend(words.map(OsString::from));
        self
    }

    /// An option with two paths, or with one when `second` is empty.
    fn add_paths(&mut self, option: &str, first: &Path, second: &Path) -> &mut Self {
        self.0.extend([option.into(), first.into()]);
        if second != Path::new("") {
            self.0.push(PathBuf::from(second).into());
        }
        self
    }

    fn add_tmpfs(&mut self, mode: &str, size: u64, at: &Path) -> &mut Self {
        self.add(["--perms", mode, "--size", &size.to_string(), "--tmpfs"]);
        self.0.push(at.into());
        self
    }
}
