//! A user id that one session of this machine has at a time: from a range that belongs to nobody,
//! held by a lock for as long as the launcher lives.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    process::Pid,
};
use thiserror::Error;

use crate::sys::users;

/// User ids that sessions of root are given, which are group ids too.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Range {
    /// The first.
    pub first: u32,
    /// How many: as many sessions of root can run at a time.
    pub count: u32,
}

impl Default for Range {
    /// A part of what systemd's list of ids calls unused, above every container's.
    fn default() -> Self {
        Self {
            first: 2_000_000_000,
            count: 1000,
        }
    }
}

/// A user id, taken. It is free again when this is dropped.
#[derive(Debug)]
pub struct Claim {
    user: u32,
    _lock: File,
}

/// Why a session of root has no user id.
#[derive(Debug, Error)]
pub enum ClaimError {
    /// The range cannot be used by anyone.
    #[error("`sandbox.root_uids` is not a range of 1 to 65536 ids from 65536 to 4294967293")]
    Range,
    /// Some account, or a user's containers, has ids of it.
    #[error("user ids {first} and {count} more are not free: {by} names {taken}")]
    Taken {
        /// First of the range.
        first: u32,
        /// Its length.
        count: u32,
        /// Which file says so.
        by: &'static str,
        /// What it names.
        taken: u32,
    },
    /// Every id is a running session's.
    #[error("all {0} user ids for root's sessions are in use")]
    Full(u32),
    /// What says which ids are in use cannot be read.
    #[error("which user ids are in use is not known: `{}` cannot be read", .0.display())]
    Unknown(PathBuf, #[source] io::Error),
    /// The locks cannot be kept.
    #[error("user ids of root's sessions cannot be locked in `{}`", .0.display())]
    Locks(PathBuf, #[source] io::Error),
}

impl ClaimError {
    /// What to do; shown after `help:`.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Range | Self::Taken { .. } => {
                "set `root_uids = { first = …, count = … }` under `[sandbox]` to ids that no account \
                 and no `/etc/subuid` line has, or run `cordon` as an ordinary user"
            }
            Self::Unknown(..) => {
                "let root read it (`/proc` with its own processes), or run `cordon` as an ordinary user"
            }
            Self::Full(_) => "end a session, or give `sandbox.root_uids` more",
            Self::Locks(..) => {
                "let root write there, with nobody else able to, or run `cordon` as an ordinary user"
            }
        }
    }
}

impl Claim {
    /// Takes a free id of `range`.
    ///
    /// # Errors
    /// [`ClaimError`] says what stands in the way.
    pub fn take(range: Range) -> Result<Self, ClaimError> {
        let mut lists = Vec::new();
        for (path, is_range) in LISTS {
            lists.push((path, read_list(Path::new(path), is_range)?));
        }
        range.check(&lists)?;
        let folder = Path::new(FOLDER);
        let failed = |error| ClaimError::Locks(folder.to_path_buf(), error);
        open_folder(folder).map_err(failed)?;
        // Not always the first: one that was just given back rests the longest.
        let start = std::process::id();
        for step in 0..range.count {
            let user = range.first + start.wrapping_add(step) % range.count;
            let Some(lock) = lock(&folder.join(user.to_string())).map_err(failed)? else {
                continue;
            };
            // The launcher died, and what it ran is still about to.
            if !anything_runs_as(user)? {
                return Ok(Self { user, _lock: lock });
            }
        }
        Err(ClaimError::Full(range.count))
    }

    /// The id.
    pub fn user(&self) -> u32 {
        self.user
    }
}

impl Range {
    fn check(self, lists: &[(&'static str, Vec<(u32, u32)>)]) -> Result<(), ClaimError> {
        let last = self.first.checked_add(self.count);
        let fits = (1..=65_536).contains(&self.count) && self.first >= 65_536;
        let Some(end) = last.filter(|end| fits && *end < u32::MAX) else {
            return Err(ClaimError::Range);
        };
        for (by, taken) in lists {
            let meets = |(from, count): &&(u32, u32)| {
                *from < end && from.saturating_add(*count) > self.first
            };
            if let Some((taken, _)) = taken.iter().find(meets) {
                return Err(ClaimError::Taken {
                    first: self.first,
                    count: self.count,
                    by,
                    taken: *taken,
                });
            }
        }
        Ok(())
    }
}

/// The ids that a file gives away; none where there is no such file.
fn read_list(path: &Path, is_range: bool) -> Result<Vec<(u32, u32)>, ClaimError> {
    match fs::read(path) {
        Ok(bytes) => Ok(taken(&bytes, is_range)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(ClaimError::Unknown(path.to_path_buf(), error)),
    }
}

/// Ids that a file names: of accounts in their third field, or ranges in the last two. The other
/// fields hold any bytes.
fn taken(bytes: &[u8], is_range: bool) -> Vec<(u32, u32)> {
    let number = |field: Option<&[u8]>| {
        let text = std::str::from_utf8(field?).ok()?;
        text.trim().parse::<u32>().ok()
    };
    let of_line = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b':');
        if is_range {
            Some((number(fields.nth(1))?, number(fields.next())?))
        } else {
            Some((number(fields.nth(2))?, 1))
        }
    };
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.filter_map(of_line).collect()
}

/// Root's alone: whoever could write there could have two sessions share an id.
fn open_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder)?;
    for folder in [Some(folder), folder.parent()].into_iter().flatten() {
        let found = folder.symlink_metadata()?;
        if !found.is_dir() || found.uid() != 0 || found.mode() & 0o022 != 0 {
            return Err(io::Error::other(format!(
                "`{}` is not a folder that root alone can write",
                folder.display()
            )));
        }
    }
    Ok(())
}

/// `None`: somebody has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A process that cannot be looked at may be anybody's: then it is not known.
fn anything_runs_as(user: u32) -> Result<bool, ClaimError> {
    let proc = Path::new("/proc");
    let unknown = |path: &Path, error| ClaimError::Unknown(path.to_path_buf(), error);
    for entry in fs::read_dir(proc).map_err(|error| unknown(proc, error))? {
        let entry = entry.map_err(|error| unknown(proc, error))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        let Some(pid) = number.and_then(Pid::from_raw) else {
            continue;
        };
        let runs = match users::of(pid) {
            Ok(users) => users.contains(&user),
            Err(error) if has_ended(&error) => false,
            // An older kernel's file says it too, at five times the cost.
            Err(_not_known) => {
                let path = entry.path().join("status");
                status_names(&path, user).map_err(|error| unknown(&path, error))?
            }
        };
        if runs {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether `/proc/PID/status` names the user.
fn status_names(path: &Path, user: u32) -> io::Result<bool> {
    let mut start = [0; STATUS_START];
    let read = File::open(path).and_then(|mut file| file.read(&mut start));
    match read {
        Ok(length) => runs_as(start.get(..length).unwrap_or_default(), user)
            .ok_or_else(|| io::ErrorKind::InvalidData.into()),
        Err(error) if has_ended(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// It ended meanwhile, so it runs as nobody.
fn has_ended(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::SRCH)
    )
}

/// Whether `/proc/PID/status` names the user; `None` where it names none. The owner of the
/// directory does not tell: where a process cannot be dumped, that is root. A program's name in
/// another line may hold any bytes, but no line break.
fn runs_as(status: &[u8], user: u32) -> Option<bool> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let line = lines.find_map(|line| line.strip_prefix(b"Uid:"))?;
    // A line that is cut off does not say who else.
    lines.next()?;
    let mut users = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    Some(users.any(|found| found.parse() == Ok(user)))
}

/// The users' line stands in the first 300 bytes or so; one read gives as many as there is room for.
const STATUS_START: usize = 1024;

/// Files that give ids away, and whether in ranges.
const LISTS: [(&str, bool); 4] = [
    ("/etc/passwd", false),
    ("/etc/group", false),
    ("/etc/subuid", true),
    ("/etc/subgid", true),
];

/// The locks, one file an id. One place for the machine, whatever state directory is used.
const FOLDER: &str = "/run/cordon-uids";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_somebody_has_are_refused() {
        let lists = [
            (
                "/etc/passwd",
                taken(b"a:x:70000:70000::/:\nbroken\n", false),
            ),
            ("/etc/subuid", taken(b"a:100000:65536\n", true)),
        ];
        let check = |first, count| Range { first, count }.check(&lists);
        assert!(check(70_001, 10).is_ok());
        assert!(check(165_536, 10).is_ok());
        for (first, count) in [(69_999, 2), (70_000, 1), (165_535, 1), (90_000, 20_000)] {
            let found = check(first, count);
            assert!(matches!(found, Err(ClaimError::Taken { .. })), "{first}");
        }
        for (first, count) in [
            (1000, 10),
            (70_001, 0),
            (200_000, 65_537),
            (u32::MAX - 5, 5),
        ] {
            assert!(
                matches!(check(first, count), Err(ClaimError::Range)),
                "{first}"
            );
        }
        assert!(Range::default().check(&lists).is_ok());
    }

    #[test]
    fn a_process_is_known_by_any_of_its_users() {
        let status = b"Name:\tsh\xff\nUid:\t7\t8\t8\t8\nGid:\t9\t9\t9\t9\n";
        let runs = [7, 8, 9].map(|user| runs_as(status, user));
        assert_eq!(runs, [Some(true), Some(true), Some(false)]);
        assert_eq!(runs_as(b"Name:\tsh\n", 7), None, "not known");
        assert_eq!(runs_as(b"Uid:\t7\t8\t8", 9), None, "cut off");
        let own = rustix::process::getuid().as_raw();
        let names = |user| status_names(Path::new("/proc/self/status"), user).unwrap();
        assert!(names(own) && !names(2_000_200_000));
        assert!(anything_runs_as(0).unwrap(), "process 1 is root's");
        assert!(!anything_runs_as(2_000_200_000).unwrap());
    }

    #[test]
    fn names_that_are_no_text_hide_no_id_and_what_cannot_be_read_is_not_free() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list");
        fs::write(&list, b"caf\xe9:x:70000:70000:\xff:/:\n").unwrap();
        assert_eq!(read_list(&list, false).unwrap(), [(70_000, 1)]);
        fs::write(&list, b"caf\xe9:100000:65536\n").unwrap();
        assert_eq!(read_list(&list, true).unwrap(), [(100_000, 65_536)]);
        assert_eq!(read_list(&folder.path().join("none"), true).unwrap(), []);
        let unreadable = read_list(folder.path(), true);
        assert!(matches!(unreadable, Err(ClaimError::Unknown(..))));
    }

    #[test]
    fn no_two_sessions_have_one_id() {
        if !super::super::is_host_root() {
            return;
        }
        let range = Range {
            first: 2_000_100_000,
            count: 2,
        };
        let (one, other) = (Claim::take(range).unwrap(), Claim::take(range).unwrap());
        assert_ne!(one.user(), other.user());
        assert!(matches!(Claim::take(range), Err(ClaimError::Full(2))));
        drop(one);
        assert!(Claim::take(range).is_ok());
    }
}
