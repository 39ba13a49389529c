//! Counts what a session uses, from inside, by its first process: it sees every process, and
//! none of them can touch it.

use std::{fs, path::Path};

use rustix::{
    fs::statvfs,
    param::{clock_ticks_per_second, page_size},
};

use super::Used;

/// Counts now. `file_systems` are the session's own in memory.
pub(crate) fn sample<'a>(file_systems: impl IntoIterator<Item = &'a Path>) -> Used {
    let mut used = Used::default();
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
        if let Some(io) = read(&process, "io") {
            used.read_bytes += number_after(&io, "read_bytes: ").unwrap_or(0);
            used.written_bytes += number_after(&io, "write_bytes: ").unwrap_or(0);
        }
    }
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
    fn this_process_is_counted() {
        let used = sample([]);
        assert!(used.processes > 0 && used.memory_bytes > 0, "{used:?}");
    }
}
