//! Builds in a container that stands what only we can build: the session's network, its own part of
//! `/etc`, its home, and what is granted.
//!
//! The plan and the container's first process in; its listeners out. A forked child enters the
//! container's namespaces, which belong to the user who started it, so no privilege is needed.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{
            fs::{DirBuilderExt as _, OpenOptionsExt as _},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Gid, Mode, OFlags, Uid, openat},
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::Pid,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::{
    launch::LaunchError,
    mounts::{MountError, SessionMounts},
    network::{self, Listeners},
    plan::{MadeFile, Mount, SandboxPlan, made_up_files},
    sys::{child::Child, mount::owner_of},
};

/// Whether a container can have all that the plan asks for.
pub(super) fn check(plan: &SandboxPlan) -> Result<(), LaunchError> {
    let home = plan.home();
    let refused = |what: &Path| {
        LaunchError::Container(format!(
            "`{}` cannot be shown in a container, only what is below the session's directory{}",
            what.display(),
            " or, of our own files, below `/etc`"
        ))
    };
    let mut mounts = plan.mounts.iter().map(|mount| &mount.target);
    if let Some(outside) = mounts.find(|target| !target.starts_with(&home)) {
        return Err(refused(outside));
    }
    let fits = |file: &&MadeFile| file.target.starts_with(&home) || file.target.starts_with("/etc");
    if let Some(outside) = plan.files.iter().find(|file| !fits(file)) {
        return Err(refused(&outside.target));
    }
    let program = plan.init_program.to_string_lossy();
    if program.contains([',', '"']) {
        return Err(LaunchError::Container(format!(
            "podman cannot take a program at `{program}`: its path has a comma or a quote in it"
        )));
    }
    Ok(())
}

/// Furnishes the container whose first process is `first`.
pub(super) fn furnish(plan: &SandboxPlan, first: Pid) -> Result<Listeners, LaunchError> {
    let container = Container::of(first).map_err(LaunchError::step("container entered"))?;
    let (socket, theirs) = UnixStream::pair().map_err(LaunchError::step("socket opened"))?;
    let (told, mut tell) = io::pipe().map_err(LaunchError::step("pipe opened"))?;
    let child = Child::fork(|| match container.build(plan, &theirs) {
        Ok(()) => 0,
        Err(error) => {
            // Nobody reads any more: the exit code says as much.
            let _ = tell.write_all(error.to_string().as_bytes());
            1
        }
    });
    let child = child.map_err(LaunchError::step("process forked"))?;
    drop((theirs, tell));
    let listeners = Listeners::receive(&socket);
    let mut words = String::new();
    let read = told.take(4096).read_to_string(&mut words);
    read.map_err(LaunchError::step("pipe read"))?;
    child
        .wait()
        .map_err(LaunchError::step("process waited for"))?;
    let listeners = listeners.map_err(|error| match error.downcast() {
        Ok(error) => LaunchError::Network(error),
        Err(_) => LaunchError::Container(words),
    })?;
    show_grants(plan, first)?;
    Ok(listeners)
}

/// As grants to a running session: by descriptor, compared with what was decided on.
fn show_grants(plan: &SandboxPlan, first: Pid) -> Result<(), LaunchError> {
    let failed = |error: MountError| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        LaunchError::Container(format!("{error}: {}", cause.unwrap_or_default()))
    };
    let session = SessionMounts::of(first, None).map_err(failed)?;
    let within = |mount: &Mount, other: &Mount| {
        mount.target != other.target && mount.target.starts_with(&other.target)
    };
    let is_top = |mount: &&Mount| !plan.mounts.iter().any(|other| within(mount, other));
    for grant in plan.mounts.iter().filter(is_top) {
        let below = plan.mounts.iter().filter(|mount| within(mount, grant));
        let mut below: Vec<Mount> = below.cloned().collect();
        below.sort_by(|left, right| left.target.cmp(&right.target));
        let directory = grant.source.is_dir();
        session.attach(grant, directory, &below).map_err(failed)?;
    }
    Ok(())
}

/// The container's namespaces.
struct Container {
    owner: OwnedFd,
    network: OwnedFd,
    mounts: OwnedFd,
}

impl Container {
    fn of(first: Pid) -> io::Result<Self> {
        let open = |name: &str| {
            let path = format!("/proc/{}/ns/{name}", first.as_raw_nonzero());
            openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        };
        let (network, mounts) = (open("net")?, open("mnt")?);
        Ok(Self {
            owner: owner_of(mounts.as_fd())?,
            network,
            mounts,
        })
    }

    /// In the forked child. The listeners are sent last: who has them has all of it.
    fn build(&self, plan: &SandboxPlan, socket: &UnixStream) -> io::Result<()> {
        let enter =
            |namespace: &OwnedFd, kind| move_into_link_name_space(namespace.as_fd(), Some(kind));
        enter(&self.owner, LinkNameSpaceType::User)?;
        // Nobody inside makes a user namespace, whatever the filter says. By the host's `/proc`:
        // the setting is that of whoever opens it.
        fs::write("/proc/sys/user/max_user_namespaces", "0")
            .map_err(wrong("nested user namespaces cannot be switched off"))?;
        enter(&self.network, LinkNameSpaceType::Network)?;
        let listeners = match network::build() {
            Ok(listeners) => listeners,
            Err(error) => return error.send(socket),
        };
        enter(&self.mounts, LinkNameSpaceType::Mount)?;
        rustix::process::chdir("/")?;
        make_home(plan).map_err(wrong("the session's directory cannot be made"))?;
        lay_over_etc(plan).map_err(wrong("its `/etc` cannot be made"))?;
        listeners.send(socket)
    }
}

fn wrong(what: &'static str) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// The home is the session user's, with `mnt`, our files, and a place for what is shown below it.
fn make_home(plan: &SandboxPlan) -> io::Result<()> {
    let home = plan.home();
    let (user, group) = (Uid::from_raw(plan.user.uid), Gid::from_raw(plan.user.gid));
    rustix::fs::chown(&home, Some(user), Some(group))?;
    let mut folder = DirBuilder::new();
    folder.recursive(true).mode(0o755);
    folder.create(home.join("mnt"))?;
    for mount in &plan.mounts {
        // Not what lies in another mount: there it is there.
        let in_another =
            |other: &Mount| other.target != mount.target && mount.target.starts_with(&other.target);
        if let (Some(above), false) = (mount.target.parent(), plan.mounts.iter().any(in_another)) {
            folder.create(above)?;
        }
    }
    let files = plan.files.iter();
    for file in files.filter(|file| file.target.starts_with(&home)) {
        write(&file.target, file)?;
    }
    Ok(())
}

/// Lays the made-up files over the image's `/etc`, read only.
fn lay_over_etc(plan: &SandboxPlan) -> io::Result<()> {
    let layer = plan.home().join(LAYER);
    fs::create_dir(&layer)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", &layer, "tmpfs", flags, c"mode=0755,size=64m")?;
    let made_up = made_up_files(plan);
    for file in made_up.iter().chain(&plan.files) {
        if let Ok(below) = file.target.strip_prefix("/etc") {
            write(&layer.join(below), file)?;
        }
    }
    let layers = format!("lowerdir={}:/etc", layer.display());
    let layers = std::ffi::CString::new(layers).map_err(|_nul| io::ErrorKind::InvalidInput)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount("overlay", "/etc", "overlay", flags, layers.as_c_str())?;
    unmount(&layer, UnmountFlags::DETACH)?;
    fs::remove_dir(&layer)
}

fn write(at: &Path, file: &MadeFile) -> io::Result<()> {
    let above: PathBuf = at.parent().unwrap_or(Path::new("/")).into();
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(above)?;
    let mut made = File::options()
        .write(true)
        .create_new(true)
        .mode(file.mode & 0o777)
        .open(at)?;
    made.write_all(&file.bytes)
}

/// Below the session's directory, for as long as it is laid over `/etc`. No grant is there yet.
const LAYER: &str = ".etc";
