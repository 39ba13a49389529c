//! SHA-256 of programs, worked out once for each.
//!
//! A program is told from others by device, inode, size and times. That holds for what is settled
//! alone: nothing of it changed for a while, and nobody could write to it while it was read. Else a
//! page that a session has mapped for writing could change behind the same times; on tmpfs it can at
//! any time, so nothing settles there but what is root's. What is not settled, or is no longer run by
//! the process it was asked for, has a digest at most for the one question, and none is kept.

use std::{
    collections::HashMap,
    fs::File,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use sha2::{Digest as _, Sha256};

use super::table::Process;
use crate::sys::lease::Lease;

/// What is known of programs. Shared by the sessions of a daemon.
#[derive(Debug, Default)]
pub struct Digests {
    known: Mutex<HashMap<Key, String>>,
}

/// A program, and the process that runs it.
#[derive(Debug)]
pub(super) struct Running {
    process: Process,
    start_us: u64,
    program: File,
}

/// One state of a file.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Key {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    owner: u32,
    mode: u32,
}

impl Digests {
    /// The digest of this program, where it is known.
    pub(super) fn of(&self, running: &Running) -> Option<String> {
        let key = Key::of(&running.program)?;
        lock(&self.known).get(&key).cloned()
    }

    /// The digest of this program, worked out if it must be. `None` for one that is too large,
    /// cannot be read, or is not what its process runs any more.
    pub(super) fn worked_out(&self, running: &Running) -> Option<String> {
        self.worked_out_at(running, SystemTime::now())
    }

    fn worked_out_at(&self, running: &Running, now: SystemTime) -> Option<String> {
        let program = &running.program;
        let key = Key::of(program)?;
        if let Some(known) = lock(&self.known).get(&key) {
            return Some(known.clone());
        }
        if key.size > LARGEST {
            return None;
        }
        let settled = Settled::of(program, &key, now);
        let digest = digest_of(program, key.size)?;
        // One that was written to meanwhile is neither of two states, and one that nobody runs any
        // more may be written to.
        if Key::of(program)? != key || !running.goes_on_with(&key) {
            return None;
        }
        if settled.is_some_and(|settled| settled.still()) {
            let mut known = lock(&self.known);
            if known.len() >= MOST_KNOWN {
                known.clear();
            }
            known.insert(key, digest.clone());
        }
        Some(digest)
    }
}

impl Running {
    /// What this process runs now; `None` when it is gone.
    pub(super) fn of(process: Process) -> Option<Self> {
        let start_us = process.stat()?.start_us;
        let program = process.program()?;
        Some(Self {
            process,
            start_us,
            program,
        })
    }

    /// Whether the same process runs the same program still.
    fn goes_on_with(&self, key: &Key) -> bool {
        let same = self.process.stat().map(|stat| stat.start_us) == Some(self.start_us);
        let program = self.process.program();
        same && program.is_some_and(|program| Key::of(&program).as_ref() == Some(key))
    }
}

/// Why nobody of a session writes to a program while it is read.
enum Settled<'f> {
    /// It is root's, and no session is root.
    Roots,
    /// Nobody has it open for writing, and nobody can open it.
    Leased(Lease<'f>),
}

impl<'f> Settled<'f> {
    fn of(program: &'f File, key: &Key, now: SystemTime) -> Option<Self> {
        let since = u64::try_from(key.changed.0).ok().map(Duration::from_secs)?;
        // A change in the same tick of the clock leaves the times as they are.
        let age = now.duration_since(SystemTime::UNIX_EPOCH + since).ok()?;
        if age < SETTLES {
            return None;
        }
        // To root's daemon, a session's user may have files that are root's on disk.
        let written_by_others = key.mode & 0o022 != 0;
        if key.owner == 0 && !written_by_others && !rustix::process::geteuid().is_root() {
            return Some(Self::Roots);
        }
        // There the times stay as they are when a mapped page is written to that was read before.
        if rustix::fs::fstatfs(program).ok()?.f_type == TMPFS {
            return None;
        }
        Lease::take(program).ok().map(Self::Leased)
    }

    fn still(&self) -> bool {
        match self {
            Self::Roots => true,
            Self::Leased(lease) => lease.is_whole(),
        }
    }
}

fn digest_of(mut program: &File, size: u64) -> Option<String> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 256 << 10];
    // One that grows while it is read would never end.
    let mut bytes = program.by_ref().take(size.saturating_add(1));
    loop {
        match bytes.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => hash.update(chunk.get(..length)?),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_unreadable) => return None,
        }
    }
    let bytes = hash.finalize();
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
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
            owner: found.uid(),
            mode: found.mode(),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Programs whose digest is kept.
const MOST_KNOWN: usize = 4096;

/// How long nothing of a program has changed, when its digest is kept.
const SETTLES: Duration = Duration::from_secs(2);

/// Bytes of the largest program that is read.
const LARGEST: u64 = 512 << 20;

/// `TMPFS_MAGIC` of `linux/magic.h`.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
        process::{Child, Command},
    };

    use tempfile::TempDir;

    use super::{
        super::{table::Table, testing::soon},
        *,
    };

    /// A program of our own that runs until it is dropped.
    struct Program {
        path: PathBuf,
        child: Child,
    }

    impl Program {
        fn start(folder: &Path) -> Self {
            let path = folder.join("program");
            if !path.exists() {
                write("/bin/sleep", &path);
            }
            let child = Command::new(&path).arg("600").spawn().unwrap();
            Self { path, child }
        }

        fn running(&self) -> Running {
            let table = Table::of_this_machine();
            Running::of(table.process(self.child.id()).unwrap()).unwrap()
        }

        fn end(&mut self) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }

    /// By a process of its own: a descriptor that this one writes by could be inherited by what
    /// another test starts meanwhile, and what is open for writing cannot be run (execve(2),
    /// ETXTBSY).
    fn write(program: &str, to: &Path) {
        let copied = Command::new("cp").arg(program).arg(to).status().unwrap();
        assert!(copied.success());
    }

    impl Drop for Program {
        fn drop(&mut self) {
            let _ended = self.child.kill();
            let _reaped = self.child.wait();
        }
    }

    /// Where this test was built: `/tmp` may be in memory.
    fn on_disk() -> TempDir {
        let test = std::env::current_exe().unwrap();
        tempfile::tempdir_in(test.parent().unwrap()).unwrap()
    }

    /// By when what was just made has settled.
    fn later() -> SystemTime {
        SystemTime::now() + SETTLES + SETTLES
    }

    #[test]
    fn a_digest_is_that_of_the_bytes_now() {
        let folder = on_disk();
        let digests = Digests::default();
        let mut program = Program::start(folder.path());
        assert_eq!(digests.of(&program.running()), None, "not known yet");
        let expected = digest_of(&File::open("/bin/sleep").unwrap(), u64::MAX - 1);
        assert_eq!(digests.worked_out_at(&program.running(), later()), expected);
        assert_eq!(digests.of(&program.running()), expected, "and kept");
        program.end();
        write("/bin/cat", &program.path);
        write("/bin/sleep", &program.path);
        let program = Program::start(folder.path());
        assert_eq!(digests.of(&program.running()), None, "another file");
    }

    #[test]
    fn what_has_just_been_written_has_a_digest_for_the_one_question() {
        let folder = on_disk();
        let digests = Digests::default();
        let program = Program::start(folder.path());
        assert!(digests.worked_out(&program.running()).is_some());
        assert_eq!(digests.of(&program.running()), None, "not kept");
    }

    #[test]
    fn what_nobody_runs_any_more_has_no_digest() {
        let folder = on_disk();
        let digests = Digests::default();
        let mut program = Program::start(folder.path());
        let running = program.running();
        program.end();
        assert_eq!(digests.worked_out_at(&running, later()), None);
        let again = Program::start(folder.path());
        assert_eq!(digests.of(&again.running()), None, "nor was it kept");
        // The control: the same file, run.
        assert!(digests.worked_out_at(&again.running(), later()).is_some());
    }

    #[test]
    fn nothing_settles_while_it_is_open_for_writing() {
        let folder = on_disk();
        let path = folder.path().join("program");
        fs::write(&path, "x").unwrap();
        let program = File::open(&path).unwrap();
        let key = Key::of(&program).unwrap();
        let settles = |now| Settled::of(&program, &key, now).is_some();
        soon(|| Settled::of(&program, &key, later()));
        assert!(!settles(SystemTime::now()));
        let writer = File::options().write(true).open(&path).unwrap();
        assert!(!settles(later()));
        drop(writer);
        let settled = soon(|| Settled::of(&program, &key, later()));
        let nonblocking = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK;
        let _waits = rustix::fs::open(&path, nonblocking, rustix::fs::Mode::empty());
        assert!(!settled.still(), "somebody came meanwhile");
    }

    #[test]
    fn nothing_settles_where_a_mapped_page_changes_behind_the_same_times() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = folder.path().join("program");
        fs::write(&path, "x").unwrap();
        let program = File::open(&path).unwrap();
        soon(|| Lease::take(&program).ok());
        let key = Key::of(&program).unwrap();
        assert!(Settled::of(&program, &key, later()).is_none());
    }

    #[test]
    fn what_is_too_large_is_not_read() {
        let folder = on_disk();
        let program = Program::start(folder.path());
        let mut running = program.running();
        let sparse = folder.path().join("sparse");
        File::create(&sparse).unwrap().set_len(LARGEST + 1).unwrap();
        running.program = File::open(&sparse).unwrap();
        assert_eq!(Digests::default().worked_out(&running), None);
    }
}
