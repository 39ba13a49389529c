//! Content of an extension on disk: laid out bounded, under paths that stay where they belong, and
//! summed up in one digest.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{Read, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Dir, FileType, Mode, OFlags, fstat, openat},
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use super::ExtensionError;

/// Sums an open folder up, and copies it where there is a place. Links and what is no file are
/// refused. Everything is opened beneath that one descriptor, so that nothing which takes another's
/// place meanwhile leads elsewhere.
pub(super) fn copy(from: &OwnedFd, into: Option<&Path>) -> Result<String, ExtensionError> {
    let mut walk = Walk {
        layout: Layout::new(into),
        folders: 0,
    };
    walk.folder(from.as_fd(), "")?;
    Ok(walk.layout.digest())
}

/// On its way through a folder.
struct Walk {
    layout: Layout,
    folders: usize,
}

impl Walk {
    /// As deep as a path may be long.
    fn folder(&mut self, folder: BorrowedFd<'_>, prefix: &str) -> Result<(), ExtensionError> {
        self.folders += 1;
        if self.folders > MOST_FILES {
            return Err(ExtensionError::TooLarge("it has too many folders"));
        }
        for (at, entry) in Dir::read_from(folder).map_err(io)?.enumerate() {
            let entry = entry.map_err(io)?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if at > MOST_FILES {
                return Err(ExtensionError::TooLarge(
                    "a folder of it has too many entries",
                ));
            }
            let Ok(name) = std::str::from_utf8(name) else {
                let shown = format!("{prefix}{}", String::from_utf8_lossy(name));
                return Err(ExtensionError::Path(shown, "it is not UTF-8"));
            };
            let path = format!("{prefix}{name}");
            checked(&path)?;
            // What is opened is what is looked at: a link is not followed, and a pipe not waited for.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let opened = match openat(folder, name, flags, Mode::empty()) {
                Ok(opened) => opened,
                Err(Errno::LOOP | Errno::NXIO) => {
                    return Err(ExtensionError::Path(path, NO_FILE));
                }
                Err(error) => return Err(io(error)),
            };
            let status = fstat(&opened).map_err(io)?;
            match FileType::from_raw_mode(status.st_mode) {
                FileType::Directory => self.folder(opened.as_fd(), &format!("{path}/"))?,
                FileType::RegularFile => {
                    let runs = status.st_mode & 0o111 != 0;
                    self.layout.add(&path, runs, fs::File::from(opened))?;
                }
                _other => return Err(ExtensionError::Path(path, NO_FILE)),
            }
        }
        Ok(())
    }
}

const NO_FILE: &str = "it is a link or no file";

fn io(error: Errno) -> ExtensionError {
    std::io::Error::from(error).into()
}

/// Files on their way into a folder.
pub(super) struct Layout {
    /// Where they are written, if they are.
    into: Option<PathBuf>,
    /// By path: whether it can be run, and the digest of its content.
    files: BTreeMap<String, (bool, [u8; 32])>,
    /// Paths in lower case: two that some file systems take for one are refused.
    folded: BTreeMap<String, ()>,
    bytes: u64,
    most: u64,
}

impl Layout {
    pub(super) fn new(into: Option<&Path>) -> Self {
        Self {
            into: into.map(Path::to_owned),
            files: BTreeMap::new(),
            folded: BTreeMap::new(),
            bytes: 0,
            most: MAX_BYTES,
        }
    }

    /// Adds one file.
    pub(super) fn add(
        &mut self,
        path: &str,
        runs: bool,
        content: impl Read,
    ) -> Result<(), ExtensionError> {
        checked(path)?;
        if self.files.len() >= MOST_FILES {
            return Err(ExtensionError::TooLarge("it has more than 20,000 files"));
        }
        if self.folded.insert(path.to_lowercase(), ()).is_some() {
            return Err(ExtensionError::Path(path.into(), "it is there twice"));
        }
        let mut file = match &self.into {
            None => None,
            Some(into) => Some(create(&into.join(path), runs)?),
        };
        let mut hash = Sha256::new();
        let mut content = content.take(self.most - self.bytes + 1);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = content.read(&mut buffer)?;
            let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else {
                break;
            };
            self.bytes += u64::try_from(read).unwrap_or(u64::MAX);
            if self.bytes > self.most {
                return Err(ExtensionError::TooLarge(
                    "its content has more than 512 MiB",
                ));
            }
            hash.update(part);
            if let Some(file) = &mut file {
                file.write_all(part)?;
            }
        }
        if let Some(file) = file {
            file.sync_all()?;
        }
        self.files
            .insert(path.into(), (runs, hash.finalize().into()));
        Ok(())
    }

    /// The digest of all of it, lower-case hex.
    pub(super) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (path, (runs, content)) in &self.files {
            // The length first, so that no two lists of files read the same.
            hash.update(u64::try_from(path.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(path.as_bytes());
            hash.update([u8::from(*runs)]);
            hash.update(content);
        }
        hash.finalize()
            .iter()
            .fold(String::new(), |mut text, byte| {
                let _infallible = write!(text, "{byte:02x}");
                text
            })
    }
}

fn create(place: &Path, runs: bool) -> std::io::Result<fs::File> {
    if let Some(above) = place.parent() {
        fs::create_dir_all(above)?;
    }
    let mode = if runs { 0o700 } else { 0o600 };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode).open(place)
}

/// A path that stays beneath the folder it is laid out in, in one spelling.
fn checked(path: &str) -> Result<(), ExtensionError> {
    let refuse = |why| Err(ExtensionError::Path(path.chars().take(200).collect(), why));
    if path.len() > MAX_PATH_BYTES {
        return refuse("it is too long");
    }
    if path.contains(['\\', ':']) || path.chars().any(char::is_control) {
        return refuse("it has a character that no path of an extension has");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return refuse("it leads elsewhere");
    }
    Ok(())
}

const MOST_FILES: usize = 20_000;
const MAX_BYTES: u64 = 512 * 1024 * 1024;
const MAX_PATH_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p08_the_digest_is_of_paths_content_and_what_can_be_run() {
        let folder = |files: &[(&str, bool, &str)]| {
            let into = tempfile::tempdir().unwrap();
            let mut layout = Layout::new(Some(into.path()));
            for (path, runs, content) in files {
                layout.add(path, *runs, content.as_bytes()).unwrap();
            }
            layout.digest()
        };
        let first = folder(&[("a", false, "1"), ("b/c", true, "2")]);
        assert_eq!(first, folder(&[("b/c", true, "2"), ("a", false, "1")]));
        for other in [
            &[("a", false, "2"), ("b/c", true, "2")][..],
            &[("a", true, "1"), ("b/c", true, "2")],
            &[("a", false, "1"), ("b/d", true, "2")],
            &[("a", false, "1")],
        ] {
            assert_ne!(first, folder(other));
        }
    }

    #[test]
    fn content_is_bounded_by_what_it_is_and_not_by_what_it_says() {
        let into = tempfile::tempdir().unwrap();
        let mut layout = Layout::new(Some(into.path()));
        layout.most = 100_000;
        assert!(
            layout
                .add("a", false, std::io::repeat(0).take(60_000))
                .is_ok()
        );
        let more = layout.add("b", false, std::io::repeat(0));
        assert!(matches!(more, Err(ExtensionError::TooLarge(_))), "{more:?}");
        let written = fs::metadata(into.path().join("b")).unwrap().len();
        assert!(written < 200_000, "{written}");
    }

    #[test]
    fn paths_that_lead_elsewhere_and_links_are_refused() {
        for path in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "./a",
            "a\\b",
            "C:x",
            "a\0b",
        ] {
            assert!(checked(path).is_err(), "{path:?}");
        }
        assert!(checked("server/index.js").is_ok());
        let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("d")).unwrap();
        fs::write(from.path().join("d/a"), "x").unwrap();
        let copied = copy(&open(from.path()), Some(into.path())).unwrap();
        assert_eq!(copied, copy(&open(into.path()), None).unwrap());
        std::os::unix::fs::symlink("/etc/passwd", from.path().join("b")).unwrap();
        let refused = copy(&open(from.path()), None).unwrap_err();
        assert!(matches!(refused, ExtensionError::Path(path, NO_FILE) if path == "b"));
    }

    fn open(path: &Path) -> OwnedFd {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).unwrap()
    }

    /// What is opened is beneath the folder that was opened, whatever stands at its path by then; and
    /// a pipe that nobody writes to is refused, not waited for.
    #[test]
    fn p08_what_takes_a_folders_place_meanwhile_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        let (mine, secret) = (root.path().join("mine"), root.path().join("secret"));
        for (folder, text) in [(&mine, "mine"), (&secret, "secret")] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("a"), text).unwrap();
        }
        let opened = open(&mine);
        let before = copy(&opened, None).unwrap();
        fs::rename(&mine, root.path().join("moved")).unwrap();
        std::os::unix::fs::symlink(&secret, &mine).unwrap();
        assert_eq!(copy(&opened, None).unwrap(), before);
        // A folder in it that is a link by now.
        let inner = root.path().join("moved/d");
        std::os::unix::fs::symlink(&secret, &inner).unwrap();
        assert!(copy(&opened, None).is_err());
        fs::remove_file(&inner).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &inner,
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(matches!(
            copy(&opened, None),
            Err(ExtensionError::Path(_, NO_FILE))
        ));
    }
}
