//! Finds the directory that a path's last name lies in, as the kernel would find it for the
//! waiting thread: its root, its working directory, its `/proc/self`.
//!
//! Most paths are one `openat2` beneath the thread's own root or start. Whatever that declines
//! (`..` across the start, links to absolute paths from a relative one, links of `/proc`) is
//! walked here name by name.

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, StatxFlags, fstatfs,
        openat, openat2, readlinkat, statx,
    },
    io::Errno,
};

use super::{Stop, call::RawPath, shown_path, task::Task};

/// A name in an open directory.
#[derive(Debug)]
pub(super) struct Place {
    /// The directory, in the thread's own mount namespace.
    pub(super) parent: OwnedFd,
    /// The name, without slashes. May be `.` or `..`, which no call removes.
    pub(super) name: Vec<u8>,
    /// The name as the call had it: with one slash where there were any.
    pub(super) spelled: Vec<u8>,
}

/// Resolves all but the last name of `path`.
///
/// # Errors
/// What the kernel would answer; `EBUSY` for the root itself.
pub(super) fn resolve(task: &Task, own_fds: &OwnedFd, path: &RawPath) -> Result<Place, Stop> {
    let text = task.text(path.address)?;
    resolve_text(task, own_fds, &text, || task.start(path))
}

/// As [`resolve`], of a path that is known already, such as what a link says.
pub(super) fn resolve_text(
    task: &Task,
    own_fds: &OwnedFd,
    text: &[u8],
    start: impl FnOnce() -> Result<OwnedFd, Stop>,
) -> Result<Place, Stop> {
    let (before, name, trailing) = split(text).ok_or(Errno::BUSY)?;
    let parent = parent(task, own_fds, before, start)?;
    let mut spelled = name.to_vec();
    spelled.extend_from_slice(trailing);
    Ok(Place {
        parent,
        name: name.to_vec(),
        spelled,
    })
}

fn parent(
    task: &Task,
    own_fds: &OwnedFd,
    before: &[u8],
    start: impl FnOnce() -> Result<OwnedFd, Stop>,
) -> Result<OwnedFd, Stop> {
    let rest = without_leading_slashes(before);
    let absolute = before.first() == Some(&b'/');
    let start = if absolute { task.root()? } else { start()? };
    if rest.is_empty() {
        return Ok(start);
    }
    let within = if absolute {
        ResolveFlags::IN_ROOT
    } else {
        ResolveFlags::BENEATH
    };
    if let Ok(found) = openat2(&start, rest, DIRECTORY, Mode::empty(), within) {
        return Ok(found);
    }
    Walk::new(task, own_fds)?.walk(start, rest)
}

/// Cuts a path into what comes before its last name, the name, and one slash if any followed.
/// `None`: there is no name, only slashes.
fn split(path: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let end = path.iter().rposition(|byte| *byte != b'/')? + 1;
    let (head, trailing) = path.split_at(end);
    let begin = head
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |at| at + 1);
    let (before, name) = head.split_at(begin);
    Some((before, name, trailing.get(..1).unwrap_or_default()))
}

/// A walk name by name.
struct Walk<'a> {
    task: &'a Task,
    own_fds: &'a OwnedFd,
    root: OwnedFd,
    links_left: u32,
}

enum Link {
    Text(Vec<u8>),
    Jump(OwnedFd),
}

impl<'a> Walk<'a> {
    fn new(task: &'a Task, own_fds: &'a OwnedFd) -> Result<Self, Stop> {
        Ok(Self {
            task,
            own_fds,
            root: task.root()?,
            links_left: LINKS,
        })
    }

    fn walk(&mut self, start: OwnedFd, path: &[u8]) -> Result<OwnedFd, Stop> {
        let mut here = start;
        let mut names = names_backwards(path);
        while let Some(name) = names.pop() {
            here = match name.as_slice() {
                b"." => here,
                b".." => self.up(here)?,
                name => match self.down(&here, name)? {
                    Link::Jump(found) => found,
                    Link::Text(text) => {
                        names.extend(names_backwards(&text));
                        if text.first() == Some(&b'/') {
                            self.task.root()?
                        } else {
                            here
                        }
                    }
                },
            };
        }
        Ok(here)
    }

    /// The parent; the root is its own.
    fn up(&self, here: OwnedFd) -> Result<OwnedFd, Stop> {
        if same_directory(&here, &self.root)? {
            return Ok(here);
        }
        Ok(openat(
            &here,
            "..",
            DIRECTORY | OFlags::NOFOLLOW,
            Mode::empty(),
        )?)
    }

    /// The directory `name` in `here`, or the link by that name, read.
    fn down(&mut self, here: &OwnedFd, name: &[u8]) -> Result<Link, Stop> {
        let found = openat(
            here,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        match FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) {
            FileType::Directory => Ok(Link::Jump(found)),
            FileType::Symlink => {
                self.links_left = self.links_left.checked_sub(1).ok_or(Errno::LOOP)?;
                self.link(here, name, &found)
            }
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    fn link(&self, here: &OwnedFd, name: &[u8], link: &OwnedFd) -> Result<Link, Stop> {
        if fstatfs(link)?.f_type == PROC_SUPER_MAGIC {
            return self.proc_link(here, name, link);
        }
        link_text(link).map(Link::Text)
    }

    /// A link of `/proc`. `self` means whoever looks, so it is answered for the thread that asked;
    /// the links of a process lead to where it stands, not to the text that they show.
    fn proc_link(&self, here: &OwnedFd, name: &[u8], link: &OwnedFd) -> Result<Link, Stop> {
        match proc_text(self.task, self.own_fds, here, name, link)? {
            Some(text) => Ok(Link::Text(text)),
            None => Ok(Link::Jump(openat(here, name, DIRECTORY, Mode::empty())?)),
        }
    }
}

/// What a link of `/proc` says to the waiting thread; `None` when it leads to where its process
/// stands, and the process is the thread's own.
pub(super) fn proc_text(
    task: &Task,
    own_fds: &OwnedFd,
    here: &OwnedFd,
    name: &[u8],
    link: &OwnedFd,
) -> Result<Option<Vec<u8>>, Stop> {
    let (process, thread) = task.own_numbers()?;
    if rustix::fs::fstat(here)?.st_ino == PROC_ROOT_INODE {
        return match name {
            b"self" => Ok(Some(process.into_bytes())),
            b"thread-self" => Ok(Some(format!("{process}/task/{thread}").into_bytes())),
            _ => link_text(link).map(Some),
        };
    }
    require_own(task, own_fds, here)?;
    Ok(None)
}

/// We may look into every process of the session, the caller may not (its first process, for
/// one): so only the caller's own directories of `/proc` are used for it.
pub(super) fn require_own(task: &Task, own_fds: &OwnedFd, here: &OwnedFd) -> Result<(), Stop> {
    let (process, _) = task.own_numbers()?;
    let shown = shown_path(own_fds, here)?;
    if of_process(&shown.to_string_lossy(), &process) {
        Ok(())
    } else {
        Err(Errno::ACCESS.into())
    }
}

/// Whether a directory of `/proc` holds links of process `process`: `N`, `N/fd`, `N/task/T` or
/// `N/task/T/fd` at the path's end.
fn of_process(path: &str, process: &str) -> bool {
    let names: Vec<&str> = path.split('/').collect();
    match names.as_slice() {
        [.., n, "task", _] | [.., n, "task", _, "fd"] => *n == process,
        [.., n, "fd"] | [.., n] => *n == process,
        [] => false,
    }
}

/// What a link says, by a descriptor of the link itself.
pub(super) fn link_text(link: &OwnedFd) -> Result<Vec<u8>, Stop> {
    let text = readlinkat(link, "", Vec::new())?.into_bytes();
    if text.is_empty() {
        return Err(Errno::NOENT.into());
    }
    Ok(text)
}

fn same_directory(a: &OwnedFd, b: &OwnedFd) -> Result<bool, Stop> {
    let look = |fd: &OwnedFd| {
        let seen = statx(
            fd.as_fd(),
            "",
            AtFlags::EMPTY_PATH,
            StatxFlags::INO | StatxFlags::MNT_ID,
        )?;
        Ok::<_, Errno>((
            seen.stx_mnt_id,
            seen.stx_dev_major,
            seen.stx_dev_minor,
            seen.stx_ino,
        ))
    };
    Ok(look(a)? == look(b)?)
}

/// The names of a path, last first, so that the next one is popped.
fn names_backwards(path: &[u8]) -> Vec<Vec<u8>> {
    path.rsplit(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

fn without_leading_slashes(path: &[u8]) -> &[u8] {
    let begin = path
        .iter()
        .position(|byte| *byte != b'/')
        .unwrap_or(path.len());
    path.get(begin..).unwrap_or_default()
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// As many links as the kernel follows in one path.
pub(super) const LINKS: u32 = 40;

/// `PROC_ROOT_INO` of `include/linux/proc_fs.h`.
const PROC_ROOT_INODE: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cut_before_their_last_name() {
        let cases = [
            ("a", Some(["", "a", ""])),
            ("a/b", Some(["a/", "b", ""])),
            ("/a", Some(["/", "a", ""])),
            ("//a//b//", Some(["//a//", "b", "/"])),
            ("a/", Some(["", "a", "/"])),
            ("a/..", Some(["a/", "..", ""])),
            ("/", None),
            ("///", None),
            ("", None),
        ];
        for (path, expected) in cases {
            let expected = expected.map(|[a, b, c]| (a.as_bytes(), b.as_bytes(), c.as_bytes()));
            assert_eq!(split(path.as_bytes()), expected, "{path:?}");
        }
    }

    #[test]
    fn only_the_callers_own_directories_of_proc_are_its_own() {
        let cases = [
            ("/proc/5", true),
            ("/proc/5/fd", true),
            ("/proc/5/task/7", true),
            ("/proc/5/task/7/fd", true),
            ("/proc/1", false),
            ("/proc/1/fd", false),
            ("/proc/1/task/5", false),
            ("/proc/1/task/5/fd", false),
            ("/proc/15/fd", false),
            ("/proc/5/map_files", false),
            ("/proc", false),
            ("", false),
        ];
        for (path, own) in cases {
            assert_eq!(of_process(path, "5"), own, "{path:?}");
        }
    }
}
