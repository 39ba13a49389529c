//! What the forked child does to change a session's mounts: a [`Change`] in, an exit code and, on
//! failure, the step and its error on a pipe.

use std::{
    io::{self, PipeWriter, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, mkdirat, openat,
        openat2, statx, unlinkat,
    },
    io::Errno,
    mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space},
};

use super::MountError;
use crate::{
    owners::{Owners, Whose},
    plan::{Access, Identity, Mount},
    sys::mount::{Attributes, set_attributes},
};

/// One change of a session's mounts.
#[derive(Debug)]
pub(super) enum Change<'a> {
    Attach {
        grant: &'a Mount,
        directory: bool,
        protected: &'a [Mount],
    },
    Detach {
        inside: &'a Path,
        identity: Identity,
    },
    ReadOnly {
        inside: &'a Path,
        identity: Identity,
    },
    Writable {
        inside: &'a Path,
        identity: Identity,
        protected: &'a [Mount],
    },
}

/// Where a change is made.
pub(super) struct Namespaces<'a> {
    /// The user namespace that owns the mounts.
    pub(super) owner: &'a OwnedFd,
    pub(super) mounts: &'a OwnedFd,
    /// Of a session that root started.
    pub(super) owners: Option<&'a Owners>,
}

/// A step that failed. Told as one line: its number, the error's number, and a path.
#[derive(Debug)]
pub(super) struct Step {
    number: usize,
    error: i32,
    path: PathBuf,
}

/// The exit code: 0, or 1 with the reason told.
pub(super) fn run(change: &Change<'_>, session: &Namespaces<'_>, tell: &PipeWriter) -> u8 {
    let Err(step) = carry_out(change, session) else {
        return 0;
    };
    let line = format!("{} {} {}", step.number, step.error, step.path.display());
    // Nobody reads any more: the exit code says as much.
    let _ = (&*tell).write_all(line.as_bytes());
    1
}

fn carry_out(change: &Change<'_>, session: &Namespaces<'_>) -> Result<(), Step> {
    // Root clones before it goes: only on the host may it map owners.
    if session.owners.is_none() {
        enter(session.owner, LinkNameSpaceType::User)?;
    }
    match change {
        Change::Attach {
            grant,
            directory,
            protected,
        } => {
            let tree = clone_of(grant, true)?;
            let map = Map::of(session.owners, &tree)?;
            map.over(&tree)?;
            let held = clones_of(protected, map)?;
            session.enter_mounts()?;
            attach(grant, *directory, &tree)?;
            let attached = protect(protected, &held).and_then(|()| match grant.access {
                Access::ReadOnly => Ok(()),
                Access::ReadWrite => attributes(&tree, Attributes::WRITABLE, false),
            });
            if attached.is_err() {
                // Nothing has been written yet: it was read-only until here.
                let _ = detach(&grant.target, grant.identity);
            }
            attached
        }
        Change::Detach { inside, identity } => {
            session.enter_mounts()?;
            detach(inside, *identity)
        }
        Change::ReadOnly { inside, identity } => {
            session.enter_mounts()?;
            let (_, mount) = find(inside, *identity)?;
            attributes(&mount, Attributes::READ_ONLY, true)
        }
        Change::Writable {
            inside,
            identity,
            protected,
        } => {
            let map = match protected.first() {
                Some(mount) if session.owners.is_some() => {
                    let grant = opened_grant(&grant_around(mount, inside), *identity)?;
                    Map::of(session.owners, &grant)?
                }
                Some(_) => Map(None),
                None => Map(None),
            };
            let held = clones_of(protected, map)?;
            session.enter_mounts()?;
            let (_, mount) = find(inside, *identity)?;
            let left = protected.iter().zip(&held);
            // Those of an earlier time still stand.
            let missing = left.filter(|(mount, _)| !is_mounted(&mount.target));
            for (mount, held) in missing {
                protect(std::slice::from_ref(mount), std::slice::from_ref(held))?;
            }
            attributes(&mount, Attributes::WRITABLE, false)
        }
    }
}

/// How owners are mapped in one grant; not at all, but for root.
#[derive(Clone, Copy)]
struct Map<'a>(Option<(&'a Owners, Whose)>);

impl<'a> Map<'a> {
    /// As whoever owns the open `grant` says, which is the one that was decided on.
    fn of(owners: Option<&'a Owners>, grant: &OwnedFd) -> Result<Self, Step> {
        let Some(owners) = owners else {
            return Ok(Self(None));
        };
        let whose = Whose::of(grant).map_err(|error| failed(CLONE, &error))?;
        Ok(Self(Some((owners, whose))))
    }

    fn over(self, tree: &OwnedFd) -> Result<(), Step> {
        let Some((owners, whose)) = self.0 else {
            return Ok(());
        };
        let mapped = owners.map(tree.as_fd(), whose);
        mapped.map_err(|error| failed(MAP, &error))
    }
}

/// The grant's folder on the host, if it is still the one that was decided on.
fn opened_grant(path: &Path, identity: Identity) -> Result<OwnedFd, Step> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let grant = openat(CWD, path, flags, Mode::empty()).map_err(step(CLONE, path))?;
    if identity_of(&grant).map_err(step(CLONE, path))? != identity {
        return Err(step(EXCHANGED, path)(Errno::STALE));
    }
    Ok(grant)
}

/// Where the grant at `inside` lies on the host, by a protected path in it.
fn grant_around(mount: &Mount, inside: &Path) -> PathBuf {
    let below = mount.target.strip_prefix(inside).unwrap_or(Path::new(""));
    let depth = below.components().count();
    let grant = mount.source.ancestors().nth(depth);
    grant.unwrap_or(&mount.source).to_path_buf()
}

impl Namespaces<'_> {
    /// Root becomes the session's user on the way: in its file systems nobody else can make a name.
    fn enter_mounts(&self) -> Result<(), Step> {
        if let Some(owners) = self.owners {
            // Before it enters: the session's namespace takes no change of groups.
            owners
                .become_user()
                .map_err(|error| failed(ENTER, &error))?;
            enter(self.owner, LinkNameSpaceType::User)?;
        }
        enter(self.mounts, LinkNameSpaceType::Mount)
    }
}

fn enter(namespace: &OwnedFd, kind: LinkNameSpaceType) -> Result<(), Step> {
    move_into_link_name_space(namespace.as_fd(), Some(kind)).map_err(step(ENTER, Path::new("")))
}

/// Clones what is to be shown from the host's mounts, which this process still sees: from a copy
/// of them that it owns, since the host's own are not its to clone.
fn clones_of(mounts: &[Mount], map: Map<'_>) -> Result<Vec<OwnedFd>, Step> {
    let clone = |mount| {
        let tree = clone_of(mount, false)?;
        map.over(&tree).map(|()| tree)
    };
    mounts.iter().map(clone).collect()
}

/// A copy of what is to be shown, harmless and read-only; its owners are as on the host.
fn clone_of(mount: &Mount, first: bool) -> Result<OwnedFd, Step> {
    let path = &mount.source;
    if first {
        copy_host_mounts()?;
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW
        | OpenTreeFlags::AT_NO_AUTOMOUNT;
    let tree = match open_tree(CWD, path, flags) {
        // Our own copy is not made yet: the host's mounts are not ours to clone.
        Err(Errno::INVAL | Errno::PERM) if !first => {
            copy_host_mounts()?;
            open_tree(CWD, path, flags)
        }
        other => other,
    };
    let tree = tree.map_err(step(CLONE, path))?;
    if identity_of(&tree).map_err(step(CLONE, path))? != mount.identity {
        return Err(step(EXCHANGED, path)(Errno::STALE));
    }
    attributes(&tree, Attributes::HARMLESS, true)?;
    attributes(&tree, Attributes::READ_ONLY, true)?;
    Ok(tree)
}

fn copy_host_mounts() -> Result<(), Step> {
    crate::sys::process::leave(UnshareFlags::NEWNS).map_err(|error| failed(COPY, &error))
}

/// Puts `tree` where the grant is to appear, read-only as it is.
fn attach(grant: &Mount, directory: bool, tree: &OwnedFd) -> Result<(), Step> {
    let target = &grant.target;
    let (parent, name) = parent_of(target)?;
    let made = if directory {
        mkdirat(&parent, name, Mode::from_raw_mode(0o755))
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(&parent, name, flags, Mode::from_raw_mode(0o600)).map(drop)
    };
    match made {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(step(POINT, target)(errno)),
    }
    if is_mounted(target) {
        return Err(step(POINT, target)(Errno::BUSY));
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let point = openat(&parent, name, flags, Mode::empty()).map_err(step(POINT, target))?;
    put(tree, &point, target)
}

fn protect(protected: &[Mount], held: &[OwnedFd]) -> Result<(), Step> {
    for (mount, tree) in protected.iter().zip(held) {
        let point = opened(&mount.target)?;
        put(tree, &point, &mount.target)?;
    }
    Ok(())
}

fn put(tree: &OwnedFd, point: &OwnedFd, target: &Path) -> Result<(), Step> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", point, "", flags).map_err(step(ATTACH, target))
}

fn detach(inside: &Path, identity: Identity) -> Result<(), Step> {
    let (parent, mount) = find(inside, identity)?;
    // Whoever still has a directory of it open could write by it.
    let _busy = attributes(&mount, Attributes::READ_ONLY, true);
    drop(mount);
    let (_, name) = parent_of(inside)?;
    // By its name in the directory that was looked at, so that no link is followed.
    rustix::process::fchdir(&parent).map_err(step(DETACH, inside))?;
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    unmount(name, flags).map_err(step(DETACH, inside))?;
    // What the session put there itself stays.
    let _kept = unlinkat(&parent, name, AtFlags::REMOVEDIR).or_else(|_| {
        let empty = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW);
        match empty {
            Ok(stat) if stat.st_size == 0 => unlinkat(&parent, name, AtFlags::empty()),
            _ => Ok(()),
        }
    });
    Ok(())
}

/// The directory around `inside` and the mount there, which must be the one that was decided on.
fn find(inside: &Path, identity: Identity) -> Result<(OwnedFd, OwnedFd), Step> {
    let (parent, name) = parent_of(inside)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mount = openat(&parent, name, flags, Mode::empty()).map_err(step(FIND, inside))?;
    let found = identity_of(&mount).map_err(step(FIND, inside))?;
    if found != identity || !is_mounted(inside) {
        return Err(step(EXCHANGED, inside)(Errno::STALE));
    }
    Ok((parent, mount))
}

fn parent_of(inside: &Path) -> Result<(OwnedFd, &std::ffi::OsStr), Step> {
    match (inside.parent(), inside.file_name()) {
        (Some(parent), Some(name)) => Ok((opened(parent)?, name)),
        _ => Err(step(POINT, inside)(Errno::INVAL)),
    }
}

/// Opens a path of the session's, which could have put links in its way.
fn opened(path: &Path) -> Result<OwnedFd, Step> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(CWD, path, flags, Mode::empty(), resolve).map_err(step(POINT, path))
}

fn is_mounted(path: &Path) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(CWD, path, flags, StatxFlags::BASIC_STATS)
        .is_ok_and(|seen| seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn identity_of(file: &OwnedFd) -> Result<Identity, Errno> {
    let stat = rustix::fs::fstat(file)?;
    Ok(Identity {
        device: stat.st_dev,
        inode: stat.st_ino,
    })
}

fn attributes(mount: &OwnedFd, change: Attributes, whole_tree: bool) -> Result<(), Step> {
    set_attributes(mount.as_fd(), change, whole_tree).map_err(|error| failed(CHANGE, &error))
}

fn failed(number: usize, error: &io::Error) -> Step {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    step(number, Path::new(""))(errno)
}

fn step(number: usize, path: &Path) -> impl Fn(Errno) -> Step {
    move |errno| Step {
        number,
        error: errno.raw_os_error(),
        path: path.to_path_buf(),
    }
}

impl Step {
    /// What the child told.
    pub(super) fn error(line: &[u8]) -> MountError {
        let line = String::from_utf8_lossy(line);
        let mut words = line.splitn(3, ' ');
        let number = words.next().and_then(|word| word.parse().ok());
        let error = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        match (number, error) {
            (Some(EXCHANGED), _) => MountError::Exchanged(words.next().unwrap_or_default().into()),
            (Some(CHANGE), libc::EBUSY) => MountError::Busy,
            (Some(MAP), error) => MountError::NotMapped(io::Error::from_raw_os_error(error)),
            (number, error) => MountError::Step {
                step: number
                    .and_then(|number: usize| WORDS.get(number).copied())
                    .unwrap_or("changing the session's mounts"),
                source: io::Error::from_raw_os_error(error),
            },
        }
    }
}

const ENTER: usize = 0;
const COPY: usize = 1;
const CLONE: usize = 2;
const EXCHANGED: usize = 3;
const POINT: usize = 4;
const ATTACH: usize = 5;
const DETACH: usize = 6;
const FIND: usize = 7;
const CHANGE: usize = 8;
const MAP: usize = 9;

const WORDS: [&str; 10] = [
    "entering the session's namespaces",
    "copying the host's mounts",
    "opening the granted folder",
    "comparing the granted folder",
    "making the place inside",
    "mounting",
    "unmounting",
    "finding the mount",
    "changing the mount",
    "mapping owners",
];
