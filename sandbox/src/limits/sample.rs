//! Counts what a session uses, from inside, by its first process: it sees every process, and
//! none of them can touch it.

use std::{
    collections::HashMap,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

use rustix::{
    fs::statvfs,
    param::{clock_ticks_per_second, page_size},
};

use super::Used;
use crate::sys::process::{own_usage, usage_of_reaped};

/// Counts now. `file_systems` are the session's own in memory.
pub(crate) fn sample<'a>(file_systems: impl IntoIterator<Item = &'a Path>) -> Used {
    let mut used = Used::default();
    let mut storage = Storage::begin();
    let mut shared = Shared::default();
    let (tick_us, page) = (
        1_000_000 / clock_ticks_per_second().max(1),
        page_size() as u64,
    );
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let process = entry.path();
        // One that has just ended has no numbers any more.
        let Some(ticks) = read(&process, "stat").as_deref().and_then(ticks) else {
            continue;
        };
        used.cpu_us += ticks * tick_us;
        used.processes += u64::from(name != "1");
        let pages = read(&process, "statm").as_deref().and_then(own_pages);
        used.memory_bytes += pages.unwrap_or(0) * page;
        shared.add(&process);
        if let Some(storage) = &mut storage {
            storage.add(&process);
        }
    }
    used.read_bytes = storage.as_ref().map(|storage| storage.read);
    used.written_bytes = storage.as_ref().map(|storage| storage.written);
    used.memory_bytes += shared.bytes();
    for path in file_systems {
        if let Ok(held) = statvfs(path) {
            used.memory_bytes += (held.f_blocks - held.f_bfree.min(held.f_blocks)) * held.f_frsize;
        }
    }
    used
}

fn read(process: &Path, name: &str) -> Option<String> {
    let bytes = fs::read(process.join(name)).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Bytes that went from and to storage.
///
/// The kernel adds those of a child to its parent's when that reaps it, and orphans come to us: so
/// ours, our reaped children's, and those of each process that is there are all there were. Not
/// seen: those of a process that made itself unreadable (`PR_SET_DUMPABLE`) until it is reaped, and
/// those of a child whose parent ignores `SIGCHLD`.
#[derive(Debug)]
struct Storage {
    own: String,
    read: u64,
    written: u64,
}

impl Storage {
    /// Ours and those of whom we reaped. `None` where the kernel counts nothing. Taken first, and
    /// only we reap our children, so nothing is counted here and again below.
    fn begin() -> Option<Self> {
        if !Path::new("/proc/self/io").exists() {
            return None;
        }
        let all = [own_usage(), usage_of_reaped()];
        Some(Self {
            own: std::process::id().to_string(),
            read: all.iter().map(|usage| usage.read_bytes).sum(),
            written: all.iter().map(|usage| usage.written_bytes).sum(),
        })
    }

    fn add(&mut self, process: &Path) {
        // Our own file in `/proc` cannot be read by us either: we are not dumpable.
        if process.ends_with(&self.own) {
            return;
        }
        if let Some(io) = read(process, "io") {
            self.read += number_after(&io, "read_bytes: ").unwrap_or(0);
            self.written += number_after(&io, "write_bytes: ").unwrap_or(0);
        }
    }
}

/// Memory that no process has to itself and that is in no file system of the session's: memfds,
/// anonymous memory that is shared, System V segments. Each once, however many processes have it.
///
/// Not seen: a memfd that waits in a socket, and one that only a process has open which made itself
/// unreadable (`PR_SET_DUMPABLE`) and has not mapped it.
#[derive(Debug, Default)]
struct Shared {
    /// Those that are open somewhere, by inode.
    open: HashMap<u64, u64>,
    /// Shares of those that are mapped, by inode.
    mapped: HashMap<u64, u64>,
    /// Of processes that cannot be looked into, all that they have mapped.
    unknown: u64,
}

impl Shared {
    fn add(&mut self, process: &Path) {
        for link in fs::read_dir(process.join("fd")).into_iter().flatten() {
            let Ok(link) = link.map(|link| link.path()) else {
                continue;
            };
            if fs::read_link(&link).is_ok_and(|to| is_shared_memory(to.as_os_str().as_bytes()))
                && let Ok(object) = fs::metadata(&link)
            {
                let bytes = object.blocks().saturating_mul(BLOCK);
                self.open.insert(object.ino(), bytes);
            }
        }
        let all = read(process, "status");
        let all = all.and_then(|status| kibibytes_after(&status, "RssShmem:"));
        let Some(all) = all.filter(|bytes| *bytes > 0) else {
            return;
        };
        // Its mappings name what of that lies in files, which are counted where they are.
        match read(process, "smaps") {
            Some(mappings) => self.add_mappings(&mappings),
            None => self.unknown += all,
        }
    }

    fn add_mappings(&mut self, mappings: &str) {
        let mut inode = None;
        for line in mappings.lines() {
            if let Some(share) = kibibytes_after(line, "Pss:") {
                if let Some(inode) = inode {
                    *self.mapped.entry(inode).or_default() += share;
                }
                continue;
            }
            // `7f00-7f10 rw-s 00000000 00:01 4242    /memfd:x (deleted)`
            let mut fields = line.split_ascii_whitespace();
            if fields.next().is_some_and(|first| !first.ends_with(':')) {
                let number = fields.nth(3).and_then(|field| field.parse().ok());
                let path = line.find('/').and_then(|at| line.get(at..));
                let shared = path.is_some_and(|path| is_shared_memory(path.as_bytes()));
                inode = number.filter(|_| shared);
            }
        }
    }

    fn bytes(&self) -> u64 {
        let only_mapped = |(inode, bytes): (&u64, &u64)| {
            let open = self.open.contains_key(inode);
            (!open).then_some(*bytes)
        };
        let mapped: u64 = self.mapped.iter().filter_map(only_mapped).sum();
        self.open.values().sum::<u64>() + mapped + self.unknown
    }
}

fn is_shared_memory(path: &[u8]) -> bool {
    let kinds: [&[u8]; 3] = [b"/memfd:", b"/dev/zero (deleted)", b"/SYSV"];
    kinds.iter().any(|kind| path.starts_with(kind))
}

/// The number of KiB behind `name` at the start of a line, in bytes.
fn kibibytes_after(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = rest.trim().strip_suffix(" kB")?.parse().ok()?;
    number.checked_mul(1024)
}

/// Bytes of a block as stat(2) counts them.
const BLOCK: u64 = 512;

/// Processor time, its reaped children's included: fields 14 to 17, counted behind the name in
/// brackets, which may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_name, rest) = stat.rsplit_once(')')?;
    let fields = rest.split_ascii_whitespace().skip(11).take(4);
    let ticks: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    (ticks.len() == 4).then(|| ticks.iter().sum())
}

/// Pages that are not a file's: resident ones less shared ones.
fn own_pages(statm: &str) -> Option<u64> {
    let mut fields = statm.split_ascii_whitespace().skip(1);
    let mut next = || fields.next()?.parse::<u64>().ok();
    let (resident, shared) = (next()?, next()?);
    Some(resident.saturating_sub(shared))
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(name)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "7 (a) 1 2) S 1 7 7 0 -1 4194560 100 0 0 0 11 22 33 44 20 0 1 0 5";
        assert_eq!(ticks(stat), Some(110));
        assert_eq!(ticks("7 (a S 1"), None);
        assert_eq!(own_pages("100 60 20 1 0 30 0"), Some(40));
        assert_eq!(own_pages("100"), None);
        let io = "rchar: 1\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 3\n";
        assert_eq!(number_after(io, "read_bytes: "), Some(4096));
        assert_eq!(number_after(io, "write_bytes: "), Some(8192));
    }

    #[test]
    fn shared_memory_is_counted_once_and_files_where_they_lie() {
        let mut shared = Shared::default();
        shared.open.insert(42, 1 << 20);
        let mappings = "7f00-7f10 rw-s 00000000 00:01 42 /memfd:x (deleted)\nPss: 512 kB\n\
            7f20-7f30 rw-s 00000000 00:01 43 /dev/zero (deleted)\nRss: 9 kB\nPss: 4 kB\n\
            7f40-7f50 rw-s 00000000 00:31 44 /dev/shm/file\nPss: 100 kB\n\
            7f60-7f70 rw-p 00000000 00:00 0\nPss: 100 kB\n";
        shared.add_mappings(mappings);
        shared.add_mappings("7f20-7f30 rw-s 00000000 00:01 43 /dev/zero (deleted)\nPss: 4 kB\n");
        assert_eq!(shared.bytes(), (1 << 20) + 2 * 4096);
    }

    #[test]
    fn this_process_is_counted() {
        let used = sample([]);
        assert!(used.processes > 0 && used.memory_bytes > 0, "{used:?}");
    }
}
