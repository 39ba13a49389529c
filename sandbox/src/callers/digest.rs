//! SHA-256 of programs, worked out once for each.
//!
//! A program is told from others by device, inode, size and times: one that is written to changes
//! its times, and the kernel does not let a running one be written to.

use std::{
    collections::HashMap,
    fs::File,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest as _, Sha256};

/// What is known of programs. Shared by the sessions of a daemon.
#[derive(Debug, Default)]
pub struct Digests {
    known: Mutex<HashMap<Key, String>>,
    wanted: Mutex<Vec<File>>,
}

/// One state of a file.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Key {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Digests {
    /// The digest of this program, where it is known. Where it is not, it will be after
    /// [`Digests::learn`].
    pub(super) fn of(&self, program: File) -> Option<String> {
        let key = Key::of(&program)?;
        if let Some(known) = lock(&self.known).get(&key) {
            return Some(known.clone());
        }
        let mut wanted = lock(&self.wanted);
        if wanted.len() < MOST_WANTED {
            wanted.push(program);
        }
        None
    }

    /// The digest of this program, worked out if it must be. `None` for one that is too large or
    /// cannot be read.
    pub(super) fn worked_out(&self, mut program: File) -> Option<String> {
        let key = Key::of(&program)?;
        if let Some(known) = lock(&self.known).get(&key) {
            return Some(known.clone());
        }
        if key.size > LARGEST {
            return None;
        }
        let mut hash = Sha256::new();
        let mut chunk = vec![0; 256 << 10];
        // One that grows while it is read would never end.
        let mut program_bytes = program.by_ref().take(key.size.saturating_add(1));
        loop {
            match program_bytes.read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => hash.update(chunk.get(..length)?),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_unreadable) => return None,
            }
        }
        // One that was written to meanwhile is neither of two states.
        if Key::of(&program)? != key {
            return None;
        }
        let bytes = hash.finalize();
        let digest: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut known = lock(&self.known);
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(key, digest.clone());
        Some(digest)
    }

    /// Works out what was asked for in vain.
    pub(super) fn learn(&self) {
        let wanted = std::mem::take(&mut *lock(&self.wanted));
        for program in wanted {
            let _unreadable = self.worked_out(program);
        }
    }
}

impl Key {
    fn of(program: &File) -> Option<Self> {
        let found = program.metadata().ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Programs whose digest is kept.
const MOST_KNOWN: usize = 4096;

/// Programs that wait to be read; what is asked for beyond them is asked for again.
const MOST_WANTED: usize = 16;

/// Bytes of the largest program that is read.
const LARGEST: u64 = 512 << 20;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_digest_is_that_of_the_bytes_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        fs::write(&path, "abc").unwrap();
        let digests = Digests::default();
        let open = || File::open(&path).unwrap();
        assert_eq!(digests.of(open()), None, "not known yet");
        digests.learn();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digests.of(open()).as_deref(), Some(abc));
        fs::write(&path, "abcd").unwrap();
        assert_eq!(digests.of(open()), None, "another file");
        let other = digests.worked_out(open()).unwrap();
        assert_ne!(other, abc);
        assert_eq!(digests.of(open()), Some(other));
    }

    #[test]
    fn what_is_too_large_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        let sparse = File::create(&path).unwrap();
        sparse.set_len(LARGEST + 1).unwrap();
        assert_eq!(
            Digests::default().worked_out(File::open(&path).unwrap()),
            None
        );
    }
}
