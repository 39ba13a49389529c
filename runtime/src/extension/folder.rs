//! Content of an extension on disk: laid out bounded, under paths that stay where they belong, and
//! summed up in one digest.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{Read, Write as _},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};

use super::ExtensionError;

/// Sums a folder up, and copies it where there is a place. Links and what is no file are refused.
pub(super) fn copy(from: &Path, into: Option<&Path>) -> Result<String, ExtensionError> {
    let mut layout = Layout::new(into);
    let mut folders = vec![(from.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let shown = format!("{prefix}{}", name.to_string_lossy());
            let Some(name) = name.to_str() else {
                return Err(ExtensionError::Path(shown, "it is not UTF-8"));
            };
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() {
                checked(&path)?;
                folders.push((entry.path(), format!("{path}/")));
            } else if kind.is_file() {
                // A link that takes its place meanwhile is not followed.
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = fs::File::from(
                    rustix::fs::open(entry.path(), flags, Mode::empty())
                        .map_err(std::io::Error::from)?,
                );
                let runs = file.metadata()?.permissions().mode() & 0o111 != 0;
                layout.add(&path, runs, file)?;
            } else {
                return Err(ExtensionError::Path(shown, "it is a link or no file"));
            }
            if folders.len() > MOST_FILES {
                return Err(ExtensionError::TooLarge("it has too many folders"));
            }
        }
    }
    Ok(layout.digest())
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
        fs::write(from.path().join("a"), "x").unwrap();
        let copied = copy(from.path(), Some(into.path())).unwrap();
        assert_eq!(copied, copy(into.path(), None).unwrap());
        std::os::unix::fs::symlink("/etc/passwd", from.path().join("b")).unwrap();
        let again = tempfile::tempdir().unwrap();
        assert!(copy(from.path(), Some(again.path())).is_err());
    }
}
