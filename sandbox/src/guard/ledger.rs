//! Who was there before the session: told by the time of birth, and by what took an old file's
//! place since.
//!
//! Births are stamped by a clock that ticks a few hundred times a second, so a file made in the
//! tick that the session started in counts as old: a mistake in that direction only keeps a file that could have gone.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    time::Duration,
};

use rustix::{
    fs::{AtFlags, FileType, StatxAttributes, StatxFlags, fstatfs, statx},
    io::Errno,
    time::{ClockId, clock_gettime},
};

use super::resolve::Place;

/// The moment from which on a new file is the session's own.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SessionStart(Moment);

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Moment(i64, i64);

impl SessionStart {
    /// Marks now. Take it when the grants are resolved.
    ///
    /// Every file that exists already was born at this moment or before. That needs the fine
    /// clock: since Linux 6.13 a birth may be later than the coarse clock shows.
    pub fn now() -> Self {
        Self(Moment::now(ClockId::Realtime))
    }

    /// Waits until the clock that births are stamped with has passed the mark (at most one tick,
    /// 1 to 10 ms), so that whatever is created afterwards is told from what was there. Call it
    /// before the command starts; by then it has usually passed.
    pub fn settle(self) {
        while Moment::now(ClockId::RealtimeCoarse) <= self.0 {
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}

impl Moment {
    fn now(clock: ClockId) -> Self {
        let now = clock_gettime(clock);
        Self(now.tv_sec, now.tv_nsec)
    }
}

/// Whether births are told apart on the file system of `folder`. Where they are not, nothing in
/// an `rw` grant can be removed at all, not even what the session made, and nothing replaced by
/// rename: better refuse the mode, or say so.
///
/// # Errors
/// `folder` cannot be looked at.
pub fn tells_births(folder: &Path) -> io::Result<bool> {
    let fd = rustix::fs::open(
        folder,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    let seen = statx(&fd, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME)?;
    Ok(has_birth(seen.stx_mask) && is_trusted(&fd)?)
}

/// One file, as it was found under its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) id: FileId,
    pub(super) kind: FileType,
    /// The mount it was reached through.
    pub(super) mount: u64,
    /// Something is mounted on this name.
    pub(super) is_mount: bool,
    device: (u32, u32),
    links: u32,
    size: u64,
}

/// A file, for as long as it lives: numbers are used again, together with the birth they are not.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct FileId {
    device: (u32, u32),
    inode: u64,
    birth: Option<Moment>,
}

impl Found {
    /// Looks at `name` in `parent`, not through a link. An empty name is `parent` itself.
    pub(super) fn at(parent: &OwnedFd, name: &[u8]) -> Result<Self, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
        let seen = statx(parent.as_fd(), name, flags, wanted)?;
        if seen.stx_mask & StatxFlags::MNT_ID.bits() == 0
            || !seen
                .stx_attributes_mask
                .contains(StatxAttributes::MOUNT_ROOT)
        {
            return Err(Errno::NOSYS);
        }
        let device = (seen.stx_dev_major, seen.stx_dev_minor);
        let birth = has_birth(seen.stx_mask)
            .then(|| Moment(seen.stx_btime.tv_sec, seen.stx_btime.tv_nsec.into()));
        Ok(Self {
            id: FileId {
                device,
                inode: seen.stx_ino,
                birth,
            },
            kind: FileType::from_raw_mode(seen.stx_mode.into()),
            mount: seen.stx_mnt_id,
            is_mount: seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
            device,
            links: seen.stx_nlink,
            size: seen.stx_size,
        })
    }

    /// Length of a regular file.
    pub(super) fn file_size(&self) -> Option<u64> {
        (self.kind == FileType::RegularFile).then_some(self.size)
    }

    /// Bytes of a regular file that has no other name.
    pub(super) fn goes_with_name(&self) -> Option<u64> {
        self.file_size().filter(|_| self.links == 1)
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind == FileType::Directory
    }
}

/// What the guard remembers of one session.
pub(super) struct Ledger {
    pub(super) start: SessionStart,
    /// Born in the session, but in the place of something that was not.
    heirs: HashSet<FileId>,
    /// Old files that were renamed, and the name each had when the session began.
    moved: HashMap<FileId, Origin>,
    moved_is_full: bool,
    trusted: HashMap<(u32, u32), bool>,
}

struct Origin {
    parent: OwnedFd,
    name: Vec<u8>,
}

impl Ledger {
    pub(super) fn new(start: SessionStart) -> Self {
        Self {
            start,
            heirs: HashSet::new(),
            moved: HashMap::new(),
            moved_is_full: false,
            trusted: HashMap::new(),
        }
    }

    /// Whether `file`, found in `parent`, must not disappear from a grant given at `since`.
    pub(super) fn keeps(
        &mut self,
        parent: &OwnedFd,
        file: &Found,
        since: SessionStart,
    ) -> Result<bool, Errno> {
        Ok(self.heirs.contains(&file.id) || !self.is_born(parent, file, since)?)
    }

    fn is_born(
        &mut self,
        parent: &OwnedFd,
        file: &Found,
        since: SessionStart,
    ) -> Result<bool, Errno> {
        let Some(birth) = file.id.birth else {
            return Ok(false);
        };
        // A birth in the future is another clock's, and says nothing about ours.
        if birth <= since.max(self.start).0 || birth > Moment::now(ClockId::Realtime) {
            return Ok(false);
        }
        if let Some(trusted) = self.trusted.get(&file.device) {
            return Ok(*trusted);
        }
        let trusted = is_trusted(parent)?;
        self.trusted.insert(file.device, trusted);
        Ok(trusted)
    }

    /// `heir` took the place of `old`, which must not disappear: neither may the heir.
    pub(super) fn inherit(&mut self, heir: FileId, old: FileId) {
        self.heirs.insert(heir);
        self.heirs.remove(&old);
        self.moved.remove(&old);
    }

    /// `file`, which must not disappear, was renamed; it stood at `place`.
    pub(super) fn note_move(&mut self, file: &Found, place: &Place) {
        // A directory cannot be replaced, and of a file with several names none is the one.
        let replaceable = !file.is_directory() && file.links == 1;
        if !replaceable || self.moved_is_full || self.moved.contains_key(&file.id) {
            return;
        }
        // INVARIANT: the first name noted is the one at the start. Once one was not noted for
        // want of room, no later one may be.
        match place.parent.try_clone() {
            Ok(parent) if self.moved.len() < MOVES => {
                self.moved.insert(
                    file.id,
                    Origin {
                        parent,
                        name: place.name.clone(),
                    },
                );
            }
            _ => self.moved_is_full = true,
        }
    }

    /// Who stands in for `file` at the name it had when the session began, if that is a file
    /// which the session made and which stands in for no other.
    ///
    /// This is how editors save without a temporary file: move the old one aside, write a new one
    /// under its name, remove the old one. It replaces contents, in three steps.
    pub(super) fn successor(
        &mut self,
        file: &Found,
        since: SessionStart,
    ) -> Result<Option<FileId>, Errno> {
        let Some(origin) = self.moved.get(&file.id) else {
            return Ok(None);
        };
        let parent = origin.parent.try_clone().map_err(|_| Errno::MFILE)?;
        let found = match Found::at(&parent, &origin.name) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            other => other?,
        };
        let fits = found.kind == FileType::RegularFile && !found.is_mount;
        Ok((fits && !self.keeps(&parent, &found, since)?).then_some(found.id))
    }
}

fn has_birth(mask: u32) -> bool {
    mask & StatxFlags::BTIME.bits() != 0
}

/// Whether births on this file system are stamped by this machine's clock and can be neither set
/// nor renewed. Not so: overlayfs, where an old file that is written to gets a new inode, network
/// file systems, with another machine's clock, and FAT and NTFS, where it can be set.
fn is_trusted(fd: &OwnedFd) -> Result<bool, Errno> {
    let kind = fstatfs(fd)?.f_type;
    Ok(STAMPED_HERE.contains(&kind))
}

/// ext4, xfs, btrfs, tmpfs, f2fs, bcachefs, zfs.
const STAMPED_HERE: [rustix::fs::FsWord; 7] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0x0102_1994,
    0xf2f5_2010,
    0xca45_1a4e,
    0x2fc1_2fc1,
];

/// How many renamed old files are remembered with their first name (each holds a descriptor).
const MOVES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const TRUSTED: (u32, u32) = (8, 1);
    const OTHER: (u32, u32) = (0, 40);

    fn found(device: (u32, u32), inode: u64, birth: Option<Moment>) -> Found {
        Found {
            id: FileId {
                device,
                inode,
                birth,
            },
            kind: FileType::RegularFile,
            mount: 1,
            is_mount: false,
            device,
            links: 1,
            size: 0,
        }
    }

    fn ledger() -> (Ledger, OwnedFd) {
        let mut ledger = Ledger::new(SessionStart(Moment(1000, 500)));
        ledger.trusted.extend([(TRUSTED, true), (OTHER, false)]);
        (ledger, std::fs::File::open("/").unwrap().into())
    }

    #[test]
    fn only_a_birth_after_the_start_and_before_now_counts() {
        let (mut ledger, parent) = ledger();
        let later = Moment::now(ClockId::Realtime).0 + 60;
        let cases = [
            (TRUSTED, None, true),
            (TRUSTED, Some(Moment(999, 900)), true),
            (TRUSTED, Some(Moment(1000, 499)), true),
            (TRUSTED, Some(Moment(1000, 500)), true),
            (TRUSTED, Some(Moment(1000, 501)), false),
            (TRUSTED, Some(Moment(1001, 0)), false),
            (TRUSTED, Some(Moment(later, 0)), true),
            (OTHER, Some(Moment(1001, 0)), true),
        ];
        for (device, birth, kept) in cases {
            let file = found(device, 7, birth);
            assert_eq!(
                ledger.keeps(&parent, &file, ledger.start).unwrap(),
                kept,
                "{device:?} {birth:?}"
            );
        }
    }

    #[test]
    fn an_heir_is_kept_and_a_later_file_with_its_number_is_not() {
        let (mut ledger, parent) = ledger();
        let heir = found(TRUSTED, 7, Some(Moment(1001, 0)));
        let old = found(TRUSTED, 8, Some(Moment(1, 0)));
        ledger.inherit(heir.id, old.id);
        assert!(ledger.keeps(&parent, &heir, ledger.start).unwrap());
        let reused = found(TRUSTED, 7, Some(Moment(1002, 0)));
        assert!(!ledger.keeps(&parent, &reused, ledger.start).unwrap());
        ledger.inherit(reused.id, heir.id);
        assert!(ledger.keeps(&parent, &reused, ledger.start).unwrap());
    }

    #[test]
    fn after_settling_a_new_file_is_told_from_an_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let parent: OwnedFd = std::fs::File::open(folder.path()).unwrap().into();
        for round in 0..20 {
            std::fs::write(folder.path().join("old"), "").unwrap();
            let start = SessionStart::now();
            start.settle();
            std::fs::write(folder.path().join("new"), "").unwrap();
            let mut ledger = Ledger::new(start);
            let mut keeps = |name: &[u8]| {
                let file = Found::at(&parent, name).unwrap();
                ledger.keeps(&parent, &file, ledger.start).unwrap()
            };
            assert!(keeps(b"old"), "round {round}");
            assert_eq!(
                keeps(b"new"),
                !tells_births(folder.path()).unwrap(),
                "round {round}"
            );
            std::fs::remove_file(folder.path().join("old")).unwrap();
            std::fs::remove_file(folder.path().join("new")).unwrap();
        }
    }
}
