//! Which files of a grant a session made or wrote, and how large they are now.
//!
//! Names and inodes in, as the guard sees them made, written, renamed and removed; sizes out, asked
//! of the host when somebody wants them. Reads no contents, follows no links, and counts a file
//! only while the inode under its name is the one that was seen.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
    time::Instant,
};

use rustix::fs::{AtFlags, CWD, FileType, Stat, statat};

/// The regular files that a session made or wrote in one grant.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    /// Where they are now, on the host.
    names: BTreeMap<PathBuf, FileNumber>,
    /// Bytes before the session wrote it; of what it made, nothing.
    files: HashMap<FileNumber, Option<u64>>,
    /// Bytes of all names.
    held: usize,
    /// There were more than are followed.
    left_out: bool,
}

/// Device and inode.
type FileNumber = (u64, u64);

/// Bytes of regular files: their length, as `ls -l` shows it, whatever a sparse one takes on disk.
/// A file with several names counts once.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sizes {
    /// Of what the session made and is still there.
    pub created: u64,
    /// Of what it wrote, did not make, and is still there.
    pub changed: u64,
    /// Of the same files, before they were first opened for writing.
    pub before: u64,
}

impl Touched {
    /// Asks the host, until `deadline`. `None` where not all of it is known: there were more files
    /// than are followed, or there was no time for all.
    pub fn sizes(&self, deadline: Instant) -> Option<Sizes> {
        let mut sizes = Sizes::default();
        let mut counted = HashSet::new();
        for (at, (name, number)) in self.names.iter().enumerate() {
            let is_late = at % BETWEEN_LOOKS == 0 && Instant::now() >= deadline;
            if self.left_out || is_late {
                return None;
            }
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
            let Ok(stat) = statat(CWD, name, flags) else {
                continue;
            };
            if number_of(&stat) != *number || !is_file(&stat) || !counted.insert(*number) {
                continue;
            }
            match self.files.get(number) {
                Some(Some(before)) => {
                    add(&mut sizes.changed, size_of(&stat));
                    add(&mut sizes.before, *before);
                }
                Some(None) => add(&mut sizes.created, size_of(&stat)),
                None => {}
            }
        }
        (!self.left_out).then_some(sizes)
    }

    /// Whether it was made or written before.
    pub(super) fn knows(&self, file: &Stat) -> bool {
        self.files.contains_key(&number_of(file))
    }

    /// The session made this file.
    pub(super) fn made(&mut self, file: &Stat, name: Option<PathBuf>) {
        self.follow(file, None, name);
    }

    /// It opened this one, which had so many bytes, for writing. Whether that is a file which was
    /// not known yet.
    pub(super) fn written(&mut self, file: &Stat, before: u64, name: Option<PathBuf>) -> bool {
        !self.knows(file) && self.follow(file, Some(before), name)
    }

    /// A file has one more name.
    pub(super) fn linked(&mut self, file: &Stat, name: Option<PathBuf>) {
        if self.knows(file) {
            self.name(number_of(file), name);
        }
    }

    /// A name is gone, and the file with it if it was its last.
    pub(super) fn gone(&mut self, name: &Path, was_last: bool) {
        if let Some(number) = self.names.remove(name) {
            self.held -= name.as_os_str().len();
            if was_last {
                self.files.remove(&number);
            }
        }
    }

    /// What was called `from` is called `to`, with all that lies below; what was there is gone.
    pub(super) fn moved(&mut self, from: &Path, to: &Path) {
        if from == to {
            return;
        }
        drop(self.take(to));
        let moved = self.take(from);
        self.put(moved, from, to);
    }

    /// Two took each other's names.
    pub(super) fn exchanged(&mut self, one: &Path, other: &Path) {
        let (ones, others) = (self.take(one), self.take(other));
        self.put(ones, one, other);
        self.put(others, other, one);
    }

    /// False for what is not followed.
    fn follow(&mut self, file: &Stat, before: Option<u64>, name: Option<PathBuf>) -> bool {
        if !is_file(file) {
            return false;
        }
        if self.files.len() >= FILES && !self.knows(file) {
            self.left_out = true;
            return false;
        }
        self.files.insert(number_of(file), before);
        self.name(number_of(file), name);
        true
    }

    fn name(&mut self, number: FileNumber, name: Option<PathBuf>) {
        let Some(name) = name else {
            self.left_out = true;
            return;
        };
        let bytes = name.as_os_str().len();
        if self.names.len() >= FILES || self.held + bytes > NAMES {
            self.left_out = true;
        } else if self.names.insert(name, number).is_none() {
            self.held += bytes;
        }
    }

    /// Takes out the names at and below `path`.
    fn take(&mut self, path: &Path) -> Vec<(PathBuf, FileNumber)> {
        let below = self.names.range(path.to_path_buf()..);
        let below = below.take_while(|(name, _)| name.starts_with(path));
        let taken: Vec<_> = below
            .map(|(name, number)| (name.clone(), *number))
            .collect();
        for (name, _) in &taken {
            self.gone(name, false);
        }
        taken
    }

    fn put(&mut self, names: Vec<(PathBuf, FileNumber)>, from: &Path, to: &Path) {
        for (name, number) in names {
            let below = name.strip_prefix(from).unwrap_or(Path::new(""));
            // Joining nothing would add a slash.
            let name = match below.as_os_str().is_empty() {
                true => to.to_path_buf(),
                false => to.join(below),
            };
            self.name(number, Some(name));
        }
    }
}

fn number_of(file: &Stat) -> FileNumber {
    (file.st_dev, file.st_ino)
}

fn is_file(file: &Stat) -> bool {
    FileType::from_raw_mode(file.st_mode) == FileType::RegularFile
}

/// A sparse file has any length that the session likes.
pub(super) fn add(sum: &mut u64, bytes: u64) {
    *sum = sum.saturating_add(bytes);
}

pub(super) fn size_of(file: &Stat) -> u64 {
    u64::try_from(file.st_size).unwrap_or(0)
}

/// Files that are followed in one grant, and bytes of their names: what a session can make us hold.
const FILES: usize = 65_536;
const NAMES: usize = 8 << 20;

/// Files between two looks at the clock.
const BETWEEN_LOOKS: usize = 64;

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn stat(path: &Path) -> Stat {
        statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).unwrap()
    }

    fn make(touched: &mut Touched, path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        touched.made(&stat(path), Some(path.into()));
    }

    #[test]
    fn files_are_found_again_by_whatever_name_they_have() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut touched = Touched::default();
        fs::create_dir(at("a")).unwrap();
        make(&mut touched, &at("a/one"), "1");
        make(&mut touched, &at("ab"), "22");
        fs::write(at("old"), "4444").unwrap();
        assert!(touched.written(&stat(&at("old")), 9, Some(at("old"))));
        assert!(!touched.written(&stat(&at("old")), 7, Some(at("old"))));
        let sizes = |touched: &Touched| {
            let Sizes {
                created,
                changed,
                before,
            } = touched.sizes(soon()).unwrap();
            (created, changed, before)
        };
        assert_eq!(sizes(&touched), (3, 4, 9));
        // A directory takes along what lies in it, and not what only begins with its name.
        fs::rename(at("a"), at("b")).unwrap();
        touched.moved(&at("a"), &at("b"));
        fs::rename(at("old"), at("older")).unwrap();
        touched.moved(&at("old"), &at("older"));
        assert_eq!(sizes(&touched), (3, 4, 9));
        // A second name counts once, and is enough when the first is gone.
        fs::hard_link(at("ab"), at("ac")).unwrap();
        touched.linked(&stat(&at("ab")), Some(at("ac")));
        assert_eq!(sizes(&touched), (3, 4, 9));
        fs::remove_file(at("ab")).unwrap();
        touched.gone(&at("ab"), false);
        assert_eq!(sizes(&touched), (3, 4, 9));
        rustix::fs::renameat_with(
            CWD,
            at("ac"),
            CWD,
            at("older"),
            rustix::fs::RenameFlags::EXCHANGE,
        )
        .unwrap();
        touched.exchanged(&at("ac"), &at("older"));
        assert_eq!(sizes(&touched), (3, 4, 9));
        // What was renamed over is gone, and what stands there is what was moved.
        fs::rename(at("b/one"), at("ac")).unwrap();
        touched.moved(&at("b/one"), &at("ac"));
        assert_eq!(sizes(&touched), (3, 0, 0));
    }

    #[test]
    fn another_file_under_the_name_is_not_the_sessions() {
        let folder = tempfile::tempdir().unwrap();
        let mut touched = Touched::default();
        let (file, other) = (folder.path().join("f"), folder.path().join("g"));
        make(&mut touched, &file, "mine");
        fs::write(&other, "somebody else's, and longer").unwrap();
        fs::rename(&other, &file).unwrap();
        assert_eq!(touched.sizes(soon()), Some(Sizes::default()));
        std::os::unix::fs::symlink("/etc/passwd", &other).unwrap();
        touched.made(&stat(&other), Some(other));
        assert_eq!(touched.sizes(soon()), Some(Sizes::default()));
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut touched = Touched::default();
        let file = folder.path().join("f");
        make(&mut touched, &file, "1");
        assert!(touched.sizes(soon()).is_some());
        assert_eq!(touched.sizes(Instant::now()), None, "no time");
        let long = PathBuf::from("x".repeat(NAMES + 1));
        touched.moved(&file, &long);
        assert_eq!(touched.sizes(soon()), None, "a name too long to keep");
        let mut touched = Touched::default();
        fs::write(&file, "1").unwrap();
        touched.made(&stat(&file), None);
        assert_eq!(touched.sizes(soon()), None, "a name that is not known");
    }
}
