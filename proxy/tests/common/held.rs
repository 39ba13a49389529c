//! What the whole process holds, to be counted before and after.

use std::{
    fs,
    time::{Duration, Instant},
};

/// Descriptors, tasks of the runtime, and resident memory in bytes.
#[derive(Debug)]
pub struct Held {
    /// But those of files with a name: the log opens and closes its own when it comes to it.
    pub descriptors: usize,
    pub tasks: usize,
    pub resident: u64,
}

impl Held {
    pub fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = resident
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        Self {
            descriptors: unnamed(),
            tasks: tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks(),
            resident: kib * 1024,
        }
    }

    /// What is held once no more than `tasks` and `descriptors` are left, or after `patience`.
    pub async fn settled(tasks: usize, descriptors: usize, patience: Duration) -> Self {
        let end = Instant::now() + patience;
        let mut now = Self::now();
        while (now.tasks > tasks || now.descriptors > descriptors) && Instant::now() < end {
            tokio::task::yield_now().await;
            now = Self::now();
        }
        now
    }
}

/// Sockets, pipes, timers and their like. One that is closed while it is looked at counts.
fn unnamed() -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let of_file = |open: &fs::DirEntry| {
        let leads = fs::read_link(open.path());
        leads.is_ok_and(|leads| leads.starts_with("/"))
    };
    open.filter(|open| !of_file(open)).count()
}
