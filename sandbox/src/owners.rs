//! Who a session is that root starts: a user id of its own, to which root's files are shown as its
//! own files.
//!
//! Nothing inside is root of the host. The session's processes run as [`Owners::user`]; what is
//! granted is mounted with owners mapped (`MOUNT_ATTR_IDMAP`). In a folder of root's: what root owns
//! on disk belongs to the session's user inside, what is made inside belongs to root on disk, and
//! every other owner stays who it is. In a folder of anybody else's root's files are nobody's, and
//! the session has the rights of others; it makes nothing there. A file system that cannot map
//! owners is refused; it is never shown with root's rights.

mod claim;

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
    mount::{OpenTreeFlags, open_tree},
    process::{DumpableBehavior, Gid, Signal, Uid},
    thread::{
        CapabilitySet, CapabilitySets, UnshareFlags, capabilities,
        remove_capability_from_bounding_set, set_capabilities,
    },
};
use thiserror::Error;

use crate::sys::{
    child::Child,
    mount::{Attributes, set_attributes},
    process,
};
pub use claim::{Claim, ClaimError, Range};

/// The user id and the mapping of owners of one session. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Owners {
    user: u32,
    in_roots: Arc<OwnedFd>,
    in_others: Arc<OwnedFd>,
}

/// Whose folder something is granted in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whose {
    /// Root's own.
    Root,
    /// Anybody else's.
    Other,
}

impl Whose {
    /// Of what is open here: a name could have come to mean something else meanwhile.
    ///
    /// # Errors
    /// What `fstat` says.
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        Ok(match rustix::fs::fstat(file)?.st_uid {
            0 => Self::Root,
            _ => Self::Other,
        })
    }
}

/// Why a file or folder cannot be shown with its owners mapped.
#[derive(Debug, Error)]
#[error("`{}` cannot be shown to a session that root starts: its file system does not map owners", .path.display())]
pub struct NotMapped {
    /// Which.
    pub path: PathBuf,
    /// What the kernel says.
    #[source]
    pub source: io::Error,
}

impl NotMapped {
    /// What to do; shown after `help:`.
    pub const HINT: &'static str = "run `cordon` as the user who owns the folder; mapping owners \
        needs Linux 5.12 with ext4, xfs or btrfs, or 6.3 with tmpfs, and works neither on overlay \
        nor on network file systems";
}

/// Whether this process is root of the host, whom no namespace stands for.
pub fn is_host_root() -> bool {
    let maps_to_root = || {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        // What cannot be read is taken for the worse.
        map.is_empty()
            || map.lines().any(|line| {
                let mut fields = line.split_whitespace();
                fields.next() == Some("0") && fields.next() == Some("0")
            })
    };
    rustix::process::geteuid().is_root() && maps_to_root()
}

impl Owners {
    /// For a session whose processes run as `user`, which is its group too. Only root can, from a
    /// process with one thread.
    ///
    /// # Errors
    /// What the kernel says to a user namespace with this mapping.
    pub fn new(user: u32) -> io::Result<Self> {
        let maps = [mapping(user, Whose::Root)?, mapping(user, Whose::Other)?];
        // Both are on their way before one is waited for.
        let [in_roots, in_others] = [Mapped::begin()?, Mapped::begin()?];
        let [roots, others] = maps;
        Ok(Self {
            user,
            in_roots: in_roots.finish(&roots).map(Arc::new)?,
            in_others: in_others.finish(&others).map(Arc::new)?,
        })
    }

    /// The user and group id of the session's processes, on the host.
    pub fn user(&self) -> u32 {
        self.user
    }

    /// What `path` names, with all that is mounted below it, as a mount of its own with owners
    /// mapped as in the granted folder it lies `within`; without one, by whose it is itself, which
    /// is told too. It is nowhere yet. Links are not followed.
    ///
    /// # Errors
    /// [`NotMapped`], also when there is nothing at `path`.
    pub fn view(&self, path: &Path, within: Option<Whose>) -> Result<(OwnedFd, Whose), NotMapped> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_SYMLINK_NOFOLLOW
            | OpenTreeFlags::AT_NO_AUTOMOUNT;
        let tree = open_tree(CWD, path, flags).map_err(io::Error::from);
        let mapped = tree.and_then(|tree| {
            let whose = within.map_or_else(|| Whose::of(&tree), Ok)?;
            self.map(tree.as_fd(), whose)?;
            Ok((tree, whose))
        });
        mapped.map_err(|source| NotMapped {
            path: path.to_path_buf(),
            source,
        })
    }

    /// Maps the owners of a mount that is nowhere yet, and of all mounts below it.
    ///
    /// # Errors
    /// What mount_setattr(2) says; `EINVAL` where the file system does not do it.
    pub(crate) fn map(&self, tree: BorrowedFd<'_>, whose: Whose) -> io::Result<()> {
        let namespace = match whose {
            Whose::Root => &self.in_roots,
            Whose::Other => &self.in_others,
        };
        set_attributes(tree, Attributes::HARMLESS, true)?;
        set_attributes(tree, Attributes::mapped(namespace.as_fd()), true)
    }

    /// Makes this thread the session's user, for good: no group but its own, and no capability
    /// in any set. What a namespace gives that is entered afterwards is its own.
    ///
    /// # Errors
    /// What the kernel says; the thread may be neither then, and must end.
    pub(crate) fn become_user(&self) -> io::Result<()> {
        let (user, group) = (Uid::from_raw(self.user), Gid::from_raw(self.user));
        rustix::thread::set_thread_groups(&[])?;
        drop_bounding_set()?;
        rustix::thread::set_thread_res_gid(group, group, group)?;
        rustix::thread::set_thread_res_uid(user, user, user)?;
        // The change of user empties these too, unless whoever started us has forbidden it.
        rustix::thread::clear_ambient_capability_set()?;
        Ok(set_capabilities(None, NO_CAPABILITIES)?)
    }

    /// As [`Self::become_user`], for a forked process that will map its user in a namespace: its
    /// own files in `/proc` become its own.
    ///
    /// # Errors
    /// As [`Self::become_user`].
    pub(crate) fn become_process(&self) -> io::Result<()> {
        self.become_user()?;
        Ok(rustix::process::set_dumpable_behavior(
            DumpableBehavior::Dumpable,
        )?)
    }
}

/// What no program that is started from here on can gain. Without the capability for it, as in some
/// containers, the set stays what the container made of it.
fn drop_bounding_set() -> io::Result<()> {
    if !capabilities(None)?
        .effective
        .contains(CapabilitySet::SETPCAP)
    {
        return Ok(());
    }
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The first that this kernel does not know: they are numbered without a gap.
            Err(Errno::INVAL) if bit > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Nothing in any of the three.
pub(crate) const NO_CAPABILITIES: CapabilitySets = CapabilitySets {
    effective: CapabilitySet::empty(),
    permitted: CapabilitySet::empty(),
    inheritable: CapabilitySet::empty(),
};

/// Lines of a `uid_map`: root on disk is `user` in its own folders and nobody elsewhere, whoever is
/// `user` on disk is nobody, everyone else is who they are.
fn mapping(user: u32, whose: Whose) -> io::Result<String> {
    // The last id means "none".
    if user == 0 || user >= u32::MAX - 1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut lines = match whose {
        Whose::Root => format!("0 {user} 1\n"),
        Whose::Other => String::new(),
    };
    if user > 1 {
        lines += &format!("1 1 {}\n", user - 1);
    }
    let next = user + 1;
    lines += &format!("{next} {next} {}\n", u32::MAX - next);
    Ok(lines)
}

/// A user namespace that is being made, held by a child that does nothing in it.
struct Mapped {
    child: Child,
    entered: io::PipeReader,
    /// The child waits for its end.
    _hold: io::PipeWriter,
}

impl Mapped {
    fn begin() -> io::Result<Self> {
        let (entered, mut tell) = io::pipe()?;
        let (mut wait, hold) = io::pipe()?;
        let launcher = rustix::process::getpid();
        let child = Child::fork(move || {
            let there = process::leave(UnshareFlags::NEWUSER)
                .and_then(|()| {
                    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
                    if rustix::process::getppid() != Some(launcher) {
                        return Err(io::ErrorKind::NotFound.into());
                    }
                    tell.write_all(b"1")
                })
                .is_ok();
            drop(tell);
            // Until it is killed: it holds the other end itself.
            let _never = there && wait.read(&mut [0]).is_ok();
            1
        })?;
        Ok(Self {
            child,
            entered,
            _hold: hold,
        })
    }

    /// With this map for users and groups; the child is gone then.
    fn finish(mut self, map: &str) -> io::Result<OwnedFd> {
        let mut byte = [0];
        self.entered.read_exact(&mut byte).map_err(|_none| {
            io::Error::new(
                io::ErrorKind::PermissionDenied,
                "no user namespace can be made",
            )
        })?;
        let of_child = |name: &str| format!("/proc/{}/{name}", self.child.id());
        fs::write(of_child("uid_map"), map)?;
        fs::write(of_child("gid_map"), map)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(openat(CWD, of_child("ns/user"), flags, Mode::empty())?)
    }
}

/// Gives a pipe that root made to `user`, so that the session can open it again by `/dev/stdout`
/// as an ordinary user's can. Anything but a nameless pipe stays as it is.
pub(crate) fn lend_pipe(stream: BorrowedFd<'_>, user: u32) -> io::Result<()> {
    if rustix::fs::fstatfs(stream)?.f_type != PIPEFS_MAGIC {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(user));
    Ok(rustix::fs::fchown(stream, Some(user), Some(group))?)
}

/// `PIPEFS_MAGIC` of `linux/magic.h`.
const PIPEFS_MAGIC: rustix::fs::FsWord = 0x5049_5045;

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    };

    use super::*;

    #[test]
    fn only_root_is_mapped_and_nobody_takes_its_place() {
        let map = |user, whose| mapping(user, whose).unwrap();
        assert_eq!(map(7, Whose::Root), "0 7 1\n1 1 6\n8 8 4294967287\n");
        assert_eq!(map(1, Whose::Root), "0 1 1\n2 2 4294967293\n");
        assert_eq!(map(7, Whose::Other), "1 1 6\n8 8 4294967287\n");
        for never in [0, u32::MAX, u32::MAX - 1] {
            assert!(mapping(never, Whose::Root).is_err(), "{never}");
        }
    }

    #[test]
    fn whose_a_folder_is_does_not_change_with_its_name() {
        if !is_host_root() {
            return;
        }
        let around = tempfile::tempdir_in("/tmp").unwrap();
        let [granted, other] = ["granted", "other"].map(|name| around.path().join(name));
        fs::create_dir(&granted).unwrap();
        fs::create_dir(&other).unwrap();
        std::os::unix::fs::chown(&granted, Some(54_321), None).unwrap();
        let held = File::open(&granted).unwrap();
        fs::rename(&granted, around.path().join("moved")).unwrap();
        fs::rename(&other, &granted).unwrap();
        assert_eq!(Whose::of(&held).unwrap(), Whose::Other);
        let now = File::open(&granted).unwrap();
        assert_eq!(Whose::of(now).unwrap(), Whose::Root, "the control");
    }

    #[test]
    fn the_sessions_user_has_no_capability_in_any_set() {
        if !is_host_root() {
            return;
        }
        let owners = Owners::new(2_000_000_007).unwrap();
        let sets = |become_it: bool| {
            let (read, mut write) = io::pipe().unwrap();
            let child = Child::fork(|| {
                // As somebody may have set it who started us: then a new user keeps them.
                rustix::thread::set_keep_capabilities(true).unwrap();
                let mut all = capabilities(None).unwrap();
                all.inheritable = CapabilitySet::NET_RAW;
                set_capabilities(None, all).unwrap();
                if become_it {
                    owners.become_user().unwrap();
                }
                let status = fs::read("/proc/thread-self/status").unwrap();
                u8::from(write.write_all(&status).is_err())
            });
            let child = child.unwrap();
            drop(write);
            let status = io::read_to_string(read).unwrap();
            assert_eq!(child.wait().unwrap().exit_status(), Some(0));
            let lines = status.lines().filter(|line| line.starts_with("Cap"));
            let values = lines.map(|line| line.split_whitespace().last().unwrap());
            values
                .map(|bits| u64::from_str_radix(bits, 16).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            sets(true),
            [0; 5],
            "inherited, permitted, effective, bounding, ambient"
        );
        let [inherited, .., bounding, _ambient] = sets(false)[..] else {
            unreachable!("five sets")
        };
        assert!(inherited != 0 && bounding != 0, "the control");
    }

    #[test]
    fn files_of_root_belong_to_the_sessions_user_in_the_view_alone() {
        if !is_host_root() {
            return;
        }
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        for (name, owner) in [("ours", 0), ("theirs", 54_321), ("its", 2_000_000_007)] {
            let path = folder.path().join(name);
            fs::write(&path, name).unwrap();
            std::os::unix::fs::chown(&path, Some(owner), Some(owner)).unwrap();
        }
        let owners = Owners::new(2_000_000_007).unwrap();
        let seen = || {
            let (view, _whose) = owners.view(folder.path(), None).unwrap();
            let view = PathBuf::from(format!("/proc/self/fd/{}", view.as_raw_fd()));
            ["ours", "theirs", "its"].map(|name| fs::metadata(view.join(name)).unwrap().uid())
        };
        const NOBODY: u32 = 65_534;
        assert_eq!(seen(), [2_000_000_007, 54_321, NOBODY]);
        std::os::unix::fs::chown(folder.path(), Some(54_321), None).unwrap();
        assert_eq!(seen(), [NOBODY, 54_321, NOBODY], "in a folder of another's");
        let on_disk = fs::metadata(folder.path().join("ours")).unwrap();
        assert_eq!(on_disk.uid(), 0, "the control");
        let proc = Path::new("/proc/1");
        let error = owners.view(proc, None).unwrap_err();
        assert!(error.to_string().contains("`/proc/1`"), "{error}");
    }
}
