//! What the whole process holds, to be counted before and after.

use std::time::{Duration, Instant};

/// Descriptors, tasks of the runtime, and resident memory in bytes.
#[derive(Debug)]
pub struct Held {
    pub descriptors: usize,
    pub tasks: usize,
    pub resident: u64,
}

impl Held {
    pub fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = resident
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        Self {
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
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
