//! Limits of a session, and by what each is held on this host.
//!
//! | limit | held by |
//! |---|---|
//! | memory | a control group, else the first process, which counts and ends the session |
//! | processes | a control group, else `RLIMIT_NPROC` in the session's own user namespace |
//! | processor | a control group, else nothing |
//! | open files, file size | `RLIMIT_NOFILE`, `RLIMIT_FSIZE`, for each process |
//! | file systems in memory | their size |
//! | time | the launcher |
//!
//! A limit that somebody asked for and that nothing holds is a refusal; one that is there by
//! default is said to be weaker.

mod cgroup;
mod freezer;
mod join;
mod sample;

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

pub(crate) use cgroup::Group;
pub use cgroup::{clean as clean_groups, remove as remove_group};
pub(crate) use freezer::Freezer;
pub(crate) use join::{Joining, fork_in};
pub(crate) use sample::sample;

/// What a session may use. `None` is no limit of ours.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory of all its processes and its file systems in memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads at a time.
    pub processes: Option<u64>,
    /// Processor time, in hundredths of one processor: 150 is one and a half.
    pub cpu_percent: Option<u64>,
    /// Open files of each process.
    pub open_files: Option<u64>,
    /// Size of each file that it writes, in bytes.
    pub file_bytes: Option<u64>,
    /// `/tmp`, in bytes. Its home and `/dev/shm` hold a GiB each, or this where it is less.
    pub tmp_bytes: Option<u64>,
    /// Time from start to end, pauses included.
    pub wall_seconds: Option<u64>,
}

/// One limit in force.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Its key: `memory_bytes`, `processes`, …
    pub name: String,
    /// Its value, in the unit of its key.
    pub value: u64,
    /// By what it is held.
    pub by: String,
    /// What is weaker about that than it could be, in words.
    pub weaker: Option<String>,
}

/// What was used so far.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Used {
    /// Processor time of all processes, in microseconds.
    pub cpu_us: u64,
    /// Memory of their own and of the session's file systems in memory now, in bytes.
    pub memory_bytes: u64,
    /// Processes now, the first not counted.
    pub processes: u64,
    /// Bytes read from storage so far, by processes that have ended too; `None` where the kernel
    /// does not count them. What comes from the page cache is not read.
    pub read_bytes: Option<u64>,
    /// Bytes written to storage so far, counted when a page of a file on it is first made dirty.
    pub written_bytes: Option<u64>,
}

impl Used {
    pub(crate) const BYTES: usize = 40;

    pub(crate) fn encode(self) -> Vec<u8> {
        let numbers = [
            self.cpu_us,
            self.memory_bytes,
            self.processes,
            self.read_bytes.unwrap_or(UNKNOWN),
            self.written_bytes.unwrap_or(UNKNOWN),
        ];
        numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut numbers = bytes.chunks_exact(8).map(|number| {
            let number: Option<[u8; 8]> = number.try_into().ok();
            number.map(u64::from_le_bytes)
        });
        let mut next = || numbers.next().flatten();
        (bytes.len() == Self::BYTES).then_some(())?;
        Some(Self {
            cpu_us: next()?,
            memory_bytes: next()?,
            processes: next()?,
            read_bytes: Some(next()?).filter(|bytes| *bytes != UNKNOWN),
            written_bytes: Some(next()?).filter(|bytes| *bytes != UNKNOWN),
        })
    }
}

/// On the channel, what is not known: no disk has written so much.
const UNKNOWN: u64 = u64::MAX;

/// What the first process sets and watches, because no control group does.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Inside {
    processes: Option<u64>,
    open_files: Option<u64>,
    file_bytes: Option<u64>,
    /// Counted, and the session ended above it.
    pub(crate) memory_bytes: Option<u64>,
}

impl Limits {
    /// Makes the control group that holds what it can, and says what is held by what, for processes
    /// of `user`.
    pub(crate) fn hold(&self, session: &str, user: u32) -> (Option<Group>, Inside, Vec<Held>) {
        let group = Group::make(session, self);
        let (inside, held) = self.hold_with(group.as_ref(), user);
        (group, inside, held)
    }

    /// The same without a control group, where somebody else sees to those.
    pub(crate) fn hold_without_group(&self, user: u32) -> (Inside, Vec<Held>) {
        self.hold_with(None, user)
    }

    fn hold_with(&self, group: Option<&Group>, user: u32) -> (Inside, Vec<Held>) {
        let by_group = |has: fn(&Group) -> Option<&'static str>| group.and_then(has);
        let (memory, processes) = (by_group(Group::memory), by_group(Group::processes));
        let root = user == 0;
        let inside = Inside {
            processes: self.processes.filter(|_| processes.is_none() && !root),
            open_files: self.open_files,
            file_bytes: self.file_bytes,
            memory_bytes: self.memory_bytes.filter(|_| memory.is_none()),
        };
        let mut held = Vec::new();
        let mut line = |name: &str, value: Option<u64>, by: &str, weaker: Option<&str>| {
            held.extend(value.map(|value| Held {
                name: name.into(),
                value,
                by: by.into(),
                weaker: weaker.map(Into::into),
            }));
        };
        match memory {
            Some(by) => line("memory_bytes", self.memory_bytes, by, None),
            None => line(
                "memory_bytes",
                self.memory_bytes,
                "counting, and the session's end",
                Some("counted from time to time: for a moment it can use more"),
            ),
        }
        match (processes, root) {
            (Some(by), _) => line("processes", self.processes, by, None),
            (None, false) => line("processes", self.processes, "RLIMIT_NPROC", None),
            (None, true) => line(
                "processes",
                self.processes,
                NOTHING,
                Some("the kernel does not count root's, and there is no control group"),
            ),
        }
        let cpu = self.cpu_percent;
        match by_group(Group::cpu) {
            Some(by) => line("cpu_percent", cpu, by, None),
            None => line(
                "cpu_percent",
                cpu,
                NOTHING,
                Some("there is no control group"),
            ),
        }
        line("open_files", self.open_files, "RLIMIT_NOFILE", None);
        line("file_bytes", self.file_bytes, "RLIMIT_FSIZE", None);
        line(
            "tmp_bytes",
            self.tmp_bytes,
            "the size of the file systems",
            None,
        );
        line(
            "wall_seconds",
            self.wall_seconds,
            "the launcher's clock",
            None,
        );
        (inside, held)
    }

    /// Time from start to end.
    pub(crate) fn wall(&self) -> Option<Duration> {
        self.wall_seconds.map(Duration::from_secs)
    }
}

impl Held {
    /// Whether nothing holds it.
    pub fn is_held(&self) -> bool {
        self.by != NOTHING
    }
}

impl Inside {
    /// Sets what is set for each process; all that this one starts inherit it and cannot raise it.
    pub(crate) fn set(self) -> std::io::Result<()> {
        lower(Resource::Core, 0)?;
        for (resource, most) in [
            (Resource::Nproc, self.processes),
            (Resource::Nofile, self.open_files),
            (Resource::Fsize, self.file_bytes),
        ] {
            if let Some(most) = most {
                lower(resource, most)?;
            }
        }
        Ok(())
    }
}

/// Never raises a limit that is lower already.
fn lower(resource: Resource, most: u64) -> std::io::Result<()> {
    let now = getrlimit(resource);
    let least = |now: Option<u64>| Some(now.map_or(most, |now| now.min(most)));
    let limit = Rlimit {
        current: least(now.current),
        maximum: least(now.maximum),
    };
    Ok(setrlimit(resource, limit)?)
}

const NOTHING: &str = "nothing";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_survives_the_channel() {
        let used = Used {
            cpu_us: 1,
            memory_bytes: u64::MAX,
            processes: 3,
            read_bytes: Some(4),
            written_bytes: None,
        };
        let bytes = used.encode();
        assert_eq!(Used::decode(&bytes), Some(used));
        assert_eq!(Used::decode(&bytes[1..]), None);
    }
}
