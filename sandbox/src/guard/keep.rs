//! Keeps what a session is about to lose or overwrite, where policy asks for it: a copy of each
//! file that was there before, taken before the first call that could change it, in a folder of
//! the session's that it cannot reach.
//!
//! Files and paths in; `index.jsonl` (one [`Kept`] a line, in the order of the changes) and one
//! numbered file for each content out. A file is cloned where the file system can share its
//! blocks, else copied. What cannot be kept is not changed.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, fstat, ioctl_ficlone, mkdirat, openat, readlinkat,
    unlinkat,
};
use serde::{Deserialize, Serialize};

use super::GuardedGrant;
use crate::owners::Owners;

/// One change of a file that was there before the session.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// What happened.
    pub change: Changed,
    /// Path on the host.
    pub path: PathBuf,
    /// Where it went, when it was moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<PathBuf>,
    /// The grant's folder on the host.
    pub grant: PathBuf,
    /// The same folder as the session knew it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<PathBuf>,
    /// Number of the file that holds its contents, where it had some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<u64>,
    /// What it said, where it was a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<PathBuf>,
    /// Kind and permission bits.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Changed {
    /// It was removed.
    Removed,
    /// Another was renamed over it.
    Replaced,
    /// It was opened for writing.
    Written,
    /// It was given another name.
    Moved,
    /// It and another took each other's names.
    Exchanged,
}

/// The folder of one session.
#[derive(Debug)]
pub struct Keeper {
    folder: OwnedFd,
    index: File,
    /// Bytes of whole lines in it.
    written: u64,
    /// Whether half a line follows them.
    is_torn: bool,
    next: u64,
    left: u64,
    /// Whose contents are kept already, as they were first.
    kept: HashSet<PathBuf>,
}

impl Keeper {
    /// Makes the folder. For a session that root started it is used as that session's user, to whom
    /// it is shown by `owners`; on disk all of it is root's.
    ///
    /// # Errors
    /// When it is there already or cannot be made.
    pub fn create(folder: &Path, owners: Option<&Owners>) -> io::Result<Self> {
        mkdirat(CWD, folder, Mode::RWXU)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = folder;
        let mut folder = openat(CWD, path, flags, Mode::empty())?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::APPEND;
        let flags = flags | OFlags::CLOEXEC;
        let index = openat(&folder, INDEX, flags, Mode::RUSR | Mode::WUSR)?;
        if let Some(owners) = owners {
            folder = owners.view(path, None).map_err(io::Error::other)?.0;
        }
        Ok(Self {
            folder,
            index: index.into(),
            written: 0,
            is_torn: false,
            next: 0,
            left: TOTAL,
            kept: HashSet::new(),
        })
    }

    /// Keeps `name` in `parent`, which `change` is about to happen to.
    ///
    /// # Errors
    /// Why it cannot be kept: then it must not be changed.
    pub(super) fn keep(
        &mut self,
        change: Changed,
        (parent, name): (&OwnedFd, &[u8]),
        grant: &GuardedGrant,
        path: &Path,
    ) -> io::Result<()> {
        let has_content = self.kept.contains(path);
        if has_content && change == Changed::Written {
            return Ok(());
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let stat = fstat(openat(parent, name, flags, Mode::empty())?)?;
        let mut line = Kept {
            change,
            path: path.to_path_buf(),
            to: None,
            grant: grant.host.clone(),
            inside: Some(grant.inside.clone()),
            content: None,
            link: None,
            mode: stat.st_mode,
            size: u64::try_from(stat.st_size).unwrap_or(0),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => line.content = Some(self.copy(parent, name, line.size)?),
            FileType::Symlink => {
                use std::os::unix::ffi::OsStringExt;
                let text = readlinkat(parent, name, Vec::new())?.into_bytes();
                line.link = Some(std::ffi::OsString::from_vec(text).into());
            }
            _ => {}
        }
        if let Err(error) = self.write(&line) {
            if let Some(number) = line.content {
                self.left += line.size;
                self.forget(number);
            }
            return Err(error);
        }
        self.kept.insert(path.to_path_buf());
        Ok(())
    }

    /// Notes that something that was there has another name now.
    pub(super) fn moved(&mut self, change: Changed, grant: &GuardedGrant, from: &Path, to: &Path) {
        let line = Kept {
            change,
            path: from.to_path_buf(),
            to: Some(to.to_path_buf()),
            grant: grant.host.clone(),
            inside: Some(grant.inside.clone()),
            content: None,
            link: None,
            mode: 0,
            size: 0,
        };
        // The file is there; only putting it back by itself is lost.
        let _noted = self.write(&line);
        self.kept.remove(from);
        self.kept.remove(to);
    }

    fn copy(&mut self, parent: &OwnedFd, name: &[u8], size: u64) -> io::Result<u64> {
        let too_large = || io::Error::other("it is larger than what may be kept");
        if size > self.left {
            return Err(too_large());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source = openat(parent, name, flags, Mode::empty())?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let number = self.next;
        let copy = openat(
            &self.folder,
            number.to_string(),
            flags,
            Mode::RUSR | Mode::WUSR,
        )?;
        // Nobody else has it from here on, whatever comes of this one.
        self.next += 1;
        let copied = match ioctl_ficlone(&copy, &source) {
            Ok(()) => Ok(()),
            Err(_) if size > LARGEST_COPY => Err(too_large()),
            Err(_) => io::copy(&mut File::from(source), &mut File::from(copy)).map(drop),
        };
        if let Err(error) = copied {
            self.forget(number);
            return Err(error);
        }
        self.left -= size;
        Ok(number)
    }

    /// Removes contents that no line names.
    fn forget(&self, number: u64) {
        // What stays takes room, and nothing else.
        let _stays = unlinkat(&self.folder, number.to_string(), AtFlags::empty());
    }

    fn write(&mut self, line: &Kept) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        // Else this line would go on within half of another, and neither could be read.
        self.mend()?;
        if let Err(error) = self.index.write_all(&text) {
            self.is_torn = true;
            // What cannot be done now is done before the next line, or there is none.
            let _torn = self.mend();
            return Err(error);
        }
        self.written += text.len() as u64;
        Ok(())
    }

    /// Cuts off half a line.
    fn mend(&mut self) -> io::Result<()> {
        if self.is_torn {
            self.index.set_len(self.written)?;
            self.is_torn = false;
        }
        Ok(())
    }
}

/// Name of the index.
pub const INDEX: &str = "index.jsonl";

/// Bytes of one file that is kept by copying it, at most.
pub const LARGEST_COPY: u64 = 1 << 30;

/// Bytes kept for one session, at most.
const TOTAL: u64 = 16 << 30;

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use cordon_policy::GrantMode;
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::{super::SessionStart, *};

    /// A grant, and the folder in which its originals are kept.
    struct Bench {
        folder: tempfile::TempDir,
        grant: GuardedGrant,
        keeper: Keeper,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let host = folder.path().join("grant");
            fs::create_dir(&host).unwrap();
            let keeper = Keeper::create(&folder.path().join("kept"), None).unwrap();
            let grant = GuardedGrant {
                host,
                inside: "/mnt/grant".into(),
                mode: GrantMode::Rwd,
                shield: None,
                preserve: true,
                names_stay: false,
                since: SessionStart::now(),
            };
            Self {
                folder,
                grant,
                keeper,
            }
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.grant.host.join(name), text).unwrap();
        }

        fn keep(&mut self, name: &str) -> io::Result<()> {
            let path = self.grant.host.join(name);
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let parent = openat(CWD, &self.grant.host, flags, Mode::empty()).unwrap();
            let place = (&parent, name.as_bytes());
            self.keeper
                .keep(Changed::Removed, place, &self.grant, &path)
        }

        fn index(&self) -> String {
            fs::read_to_string(self.folder.path().join("kept").join(INDEX)).unwrap()
        }

        /// What is kept, by its name, where all that is there is named.
        fn kept(&self) -> Vec<(String, String)> {
            let kept = self.folder.path().join("kept");
            let lines = self.index();
            let lines = lines.lines().map(|line| {
                let line: Kept = serde_json::from_str(line).unwrap();
                let content = kept.join(line.content.unwrap().to_string());
                let name = line.path.file_name().unwrap().to_str().unwrap();
                (name.to_owned(), fs::read_to_string(content).unwrap())
            });
            let lines: Vec<_> = lines.collect();
            assert_eq!(fs::read_dir(kept).unwrap().count(), lines.len() + 1);
            lines
        }
    }

    /// Runs a test by itself in a process in which a write that is too long for the disk is told so,
    /// and does not end it. True there.
    fn is_by_itself(test: &str) -> bool {
        const HERE: &str = "CORDON_TEST_BY_ITSELF";
        if std::env::var_os(HERE).is_some() {
            return true;
        }
        let done = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", &format!("guard::keep::tests::{test}")])
            .env(HERE, "")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && said.contains("1 passed"), "{said}");
        false
    }

    /// As a disk that has room for files of so many bytes, or again for all.
    fn has_room(bytes: Option<u64>) {
        let maximum = getrlimit(Resource::Fsize).maximum;
        let limit = Rlimit {
            current: bytes.or(maximum),
            maximum,
        };
        setrlimit(Resource::Fsize, limit).unwrap();
    }

    #[test]
    fn a_line_that_a_full_disk_cut_off_is_not_left_before_the_next() {
        if !is_by_itself("a_line_that_a_full_disk_cut_off_is_not_left_before_the_next") {
            return;
        }
        let mut bench = Bench::new();
        for name in ["first", "second", "third", "fourth"] {
            bench.write(name, name);
        }
        bench.keep("first").unwrap();
        let line = bench.index().len() as u64;
        has_room(Some(line + line / 2));
        assert!(bench.keep("second").is_err());
        has_room(None);
        bench.keep("third").unwrap();
        let kept = ["first", "third"].map(|name| (name.into(), name.into()));
        assert_eq!(bench.kept(), kept);
        // A move is noted when it was made, and so was cut off without a word.
        has_room(Some(bench.index().len() as u64 + line / 2));
        let (from, to) = (bench.grant.host.join("a"), bench.grant.host.join("b"));
        bench.keeper.moved(Changed::Moved, &bench.grant, &from, &to);
        has_room(None);
        bench.keep("fourth").unwrap();
        assert_eq!(bench.kept().len(), 3);
    }

    #[test]
    fn what_could_not_be_copied_is_in_nobody_s_way() {
        if !is_by_itself("what_could_not_be_copied_is_in_nobody_s_way") {
            return;
        }
        let mut bench = Bench::new();
        bench.write("large", &"x".repeat(8 * 1024));
        bench.write("small", "s");
        has_room(Some(4 * 1024));
        assert!(bench.keep("large").is_err());
        bench.keep("small").unwrap();
        assert_eq!(bench.kept(), [("small".into(), "s".into())]);
        has_room(None);
        bench.keep("large").unwrap();
        assert_eq!(bench.kept().len(), 2);
    }
}
