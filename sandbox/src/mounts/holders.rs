//! Which processes of a session still use a mount: open files, working directories, mapped files.
//! Reads `/proc` of the host; ends processes only when asked to.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, StatxFlags, statx},
    process::{Pid, PidfdFlags, Signal},
};

/// A process that uses a mount.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Holder {
    /// As the host numbers it.
    pub pid: u32,
    /// Its program's name, as it calls itself.
    pub name: String,
    /// Files and directories that it has open there.
    pub files: u32,
    /// Those of them that it may write.
    pub writing: u32,
    /// Files that it has mapped from there.
    pub mapped: u32,
    /// It works in there.
    pub directory: bool,
}

/// Whoever uses a mount at or below `inside`, as long as it is there: ask before it is gone. The
/// session's first process tells which processes are the session's.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn holders(first: Pid, inside: &Path) -> io::Result<Vec<Holder>> {
    let marks = Marks::read(first, inside)?;
    let mut found = Vec::new();
    for pid in of_session(first)? {
        // A process that ends meanwhile holds nothing.
        let Some(holder) = marks.holder(pid) else {
            continue;
        };
        if holder.files > 0 || holder.mapped > 0 || holder.directory {
            found.push(holder);
        }
    }
    Ok(found)
}

/// Ends these processes, each only as long as its number is still its own.
pub fn end_holders(first: Pid, holders: &[Holder]) {
    let Ok(still) = of_session(first) else { return };
    for holder in holders.iter().filter(|holder| still.contains(&holder.pid)) {
        let pid = i32::try_from(holder.pid).ok().and_then(Pid::from_raw);
        let handle = pid.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
        // Between the listing and here the number could have been given away: asked again.
        let own = of_session(first).is_ok_and(|now| now.contains(&holder.pid));
        if let (Some(handle), true) = (handle, own) {
            // It has ended already, which is what is wanted.
            let _ = rustix::process::pidfd_send_signal(handle, Signal::KILL);
        }
    }
}

/// By what a use of the mount is known.
struct Marks {
    mounts: Vec<u64>,
    inside: PathBuf,
}

impl Marks {
    fn read(first: Pid, inside: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{}/mountinfo", first.as_raw_nonzero()))?;
        let mounts = text.lines().filter_map(|line| {
            let mut fields = line.split(' ');
            let number = fields.next()?.parse().ok()?;
            let at = fields.nth(3)?;
            // Names below `mnt` have no blanks, so the kernel escapes nothing in them.
            Path::new(at).starts_with(inside).then_some(number)
        });
        Ok(Self {
            mounts: mounts.collect(),
            inside: inside.to_path_buf(),
        })
    }

    fn holder(&self, pid: u32) -> Option<Holder> {
        let base = PathBuf::from(format!("/proc/{pid}"));
        let name = fs::read_to_string(base.join("comm")).ok()?;
        let open = fs::read_dir(base.join("fd")).ok()?;
        let (mut files, mut writing) = (0, 0);
        for file in open.flatten().filter(|file| self.is_on(&file.path())) {
            files += 1;
            writing += u32::from(writes(&base.join("fdinfo").join(file.file_name())));
        }
        let maps = fs::read_to_string(base.join("maps")).unwrap_or_default();
        let mapped = maps.lines().filter(|line| {
            let path = line.split_once('/').map(|(_, rest)| format!("/{rest}"));
            path.is_some_and(|path| Path::new(&path).starts_with(&self.inside))
        });
        Some(Holder {
            pid,
            name: name
                .trim_end()
                .chars()
                .filter(|c| !c.is_control())
                .collect(),
            files,
            writing,
            mapped: u32::try_from(mapped.count()).unwrap_or(u32::MAX),
            directory: self.is_on(&base.join("cwd")),
        })
    }

    fn is_on(&self, link: &Path) -> bool {
        statx(CWD, link, AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID)
            .is_ok_and(|seen| self.mounts.contains(&seen.stx_mnt_id))
    }
}

/// Whether an open file may be written, by what the kernel tells of it.
fn writes(info: &Path) -> bool {
    let text = fs::read_to_string(info).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    // One that has been closed meanwhile counts: it may be another process's too.
    flags.is_none_or(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY && flags & libc::O_PATH == 0)
}

/// Every process of the session but its first, which is ours.
fn of_session(first: Pid) -> io::Result<Vec<u32>> {
    let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid"));
    let own = first.as_raw_nonzero().to_string();
    let wanted = space(&own)?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let name = number.to_string();
        if name != own && space(&name).is_ok_and(|space| space == wanted) {
            found.push(number);
        }
    }
    Ok(found)
}
