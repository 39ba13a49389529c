//! Space of a sealed log against its raw JSON, memory while it grows, and time to open it.
//!
//! `CORDON_BENCH_RECORDS` sets the number of records (default 200,000; the mark is 10 million).

#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark"
)]

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
    time::{Instant, SystemTime},
};

use cordon_audit::{Log, LogOptions, read::Reader};
use cordon_policy::{
    Asked, Backend, Basis, Decided, Decision, Deny, DenyReason, RawRequest, SessionFacts,
};

fn refusal(session: &Arc<SessionFacts>) -> Decision {
    Decided::<Deny>::deny(
        Asked::Raw(RawRequest {
            session: Arc::clone(session),
            door: "http",
            text: "registry.example.com:443".into(),
            at: SystemTime::now(),
            problem: "refused".into(),
        }),
        DenyReason::Malformed,
        Basis::default(),
    )
    .into()
}

fn session(n: u64) -> Arc<SessionFacts> {
    Arc::new(SessionFacts {
        id: format!("01890a5d-ac96-774b-bcce-{n:012}"),
        user: "ann".into(),
        groups: Vec::new(),
        agent: Some("claude".into()),
        platform: "linux".into(),
        backend: Backend::Bubblewrap,
    })
}

fn fill(directory: &Path, records: u64) {
    let log = Log::open(directory, LogOptions::default()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..64)
            .map(|task| {
                let log = log.clone();
                tokio::spawn(async move {
                    for n in 0..records / 64 {
                        let session = session(task + 64 * (n / 1000));
                        drop(log.record_written(refusal(&session)).await.unwrap());
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    log.close();
}

/// Bytes on disk below a directory.
fn disk(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            let below = if metadata.is_dir() {
                disk(&entry.path())
            } else {
                0
            };
            metadata.blocks() * 512 + below
        })
        .sum()
}

/// Peak resident memory of this process, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

fn main() {
    let records = std::env::var("CORDON_BENCH_RECORDS");
    let records: u64 = records.map_or(200_000, |count| count.parse().unwrap());
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let log = directory.path().join("log");
    let begun = Instant::now();
    fill(&log, records);
    let seconds = begun.elapsed().as_secs_f64();
    println!("records                    {records} in {seconds:.1} s, closing included");
    println!(
        "peak resident memory       {} MB (mark: under 200)",
        peak() >> 20
    );
    let leaves = Reader::open(&log).unwrap().leaves(0);
    let raw: u64 = leaves.map(|leaf| leaf.unwrap().1.len() as u64 + 1).sum();
    println!(
        "space sealed / raw JSON    {:.3} (mark: under 1.15)",
        disk(&log) as f64 / raw as f64
    );
    let begun = Instant::now();
    let open = Log::open(&log, LogOptions::default()).unwrap();
    println!(
        "opening                    {:?} (mark: under 1 s)",
        begun.elapsed()
    );
    open.close();
    let middle = records / 2;
    let begun = Instant::now();
    Reader::open(&log).unwrap().record(middle).unwrap().unwrap();
    println!("one record from the middle {:?}", begun.elapsed());
}
