//! Policy sets by their digest, as they decided: what a record's rules said, and why another rule
//! did not apply, can still be told when the files have changed.
//!
//! A set in, the same one out: its digest is checked when it is read, and never trusted. Bounded:
//! the oldest go. Nothing is ever decided for a session by what is read here.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use cordon_audit::durable::replace;
use cordon_policy::source::PolicySource;

use crate::paths::Paths;

/// The directory of kept sets.
#[derive(Clone, Debug)]
pub struct PolicySets {
    directory: PathBuf,
}

impl PolicySets {
    /// Most sets that are kept.
    const MOST: usize = 500;
    /// Most bytes of all of them.
    const MOST_BYTES: u64 = 256 << 20;

    /// Below the directory of policies; opens nothing.
    pub fn new(policies: &Path) -> Self {
        Self {
            directory: policies.join("sets"),
        }
    }

    /// The user's own, where there is a home.
    pub fn of_user() -> Option<Self> {
        let paths = Paths::from_env(|name| std::env::var_os(name)).ok()?;
        Some(Self::new(&paths.policies()))
    }

    /// Keeps a set; one that is there stays.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, source: &PolicySource) -> io::Result<()> {
        let path = self.path(&source.digest());
        if path.exists() {
            return Ok(());
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        replace(&path, &serde_json::to_vec(source)?)?;
        self.let_go();
        Ok(())
    }

    /// The set of this digest; none where it is not there, or is not what its name says.
    pub fn find(&self, digest: &str) -> Option<PolicySource> {
        let bytes = fs::read(self.path(digest)).ok()?;
        let source: PolicySource = serde_json::from_slice(&bytes).ok()?;
        (source.digest() == digest).then_some(source)
    }

    /// Removes the oldest where there are too many. What cannot be removed costs space, no more.
    fn let_go(&self) {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        let mut kept: Vec<(SystemTime, u64, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let meta = entry.metadata().ok()?;
                Some((meta.modified().ok()?, meta.len(), entry.path()))
            })
            .collect();
        kept.sort();
        let mut bytes: u64 = kept.iter().map(|(_, length, _)| length).sum();
        let mut count = kept.len();
        for (_, length, path) in kept {
            if count <= Self::MOST && bytes <= Self::MOST_BYTES {
                break;
            }
            let _costs_space = fs::remove_file(path);
            count -= 1;
            bytes = bytes.saturating_sub(length);
        }
    }

    fn path(&self, digest: &str) -> PathBuf {
        // A digest comes from a record; never let it lead elsewhere.
        let name: String = digest.chars().filter(char::is_ascii_hexdigit).collect();
        self.directory.join(format!("{name}.json"))
    }
}

#[cfg(test)]
mod tests {
    use cordon_policy::source::PolicyFile;

    use super::*;

    fn source(text: &str) -> PolicySource {
        PolicySource::new("test", vec![PolicyFile::new("a.cedar", text)])
    }

    #[test]
    fn a_set_comes_back_by_its_digest_and_a_changed_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let sets = PolicySets::new(folder.path());
        let kept = source("permit (principal, action, resource);");
        sets.keep(&kept).unwrap();
        let found = sets.find(&kept.digest()).unwrap();
        assert_eq!(found.files[0].text, kept.files[0].text);
        assert!(sets.find(&source("").digest()).is_none());

        let path = sets.path(&kept.digest());
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("permit", "forbid")).unwrap();
        assert!(sets.find(&kept.digest()).is_none(), "its content changed");
        assert!(sets.find("../../etc/passwd").is_none());
    }

    #[test]
    fn the_oldest_are_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let sets = PolicySets::new(folder.path());
        for n in 0..PolicySets::MOST + 3 {
            sets.keep(&source(&format!("// {n}"))).unwrap();
        }
        assert_eq!(
            fs::read_dir(&sets.directory).unwrap().count(),
            PolicySets::MOST
        );
        let last = source(&format!("// {}", PolicySets::MOST + 2));
        assert!(sets.find(&last.digest()).is_some());
    }
}
