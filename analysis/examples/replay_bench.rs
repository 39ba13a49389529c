//! How fast recorded requests are decided again: makes a log of N records (100,000) in a temporary
//! folder, replays it under another set, and prints the rate and the memory that it took.

#![expect(clippy::unwrap_used, reason = "an example fails loudly")]

use std::{sync::Arc, time::Instant};

use cordon_analysis::{records::Selection, replay::replay};
use cordon_audit::{Log, LogOptions, read::Reader};
use cordon_policy::{
    Backend, Request, SessionFacts, Snapshot, ask,
    source::{PolicyFile, PolicySource},
};

fn main() {
    let count: usize = std::env::args()
        .nth(1)
        .map_or(100_000, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("log");
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(fill(&directory, count));
    let candidate = set(
        "permit (principal, action == Action::\"connect\", resource in Domain::\"b.example.com\");",
    );
    let started = Instant::now();
    let report = replay(
        &Reader::open(&directory).unwrap(),
        &candidate,
        &Selection::default(),
    )
    .unwrap();
    let seconds = started.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    println!(
        "{} decisions in {seconds:.2} s; {} newly allowed, {} newly denied; {}",
        report.decisions,
        report.newly_allowed,
        report.newly_denied,
        peak.unwrap_or_default()
    );
}

fn set(rules: &str) -> Snapshot {
    Snapshot::load(&PolicySource::new(
        "bench",
        vec![PolicyFile::new("bench.cedar", rules)],
    ))
    .unwrap()
}

/// A session's start every 1,000 records, and connections to 500 names.
async fn fill(directory: &std::path::Path, count: usize) {
    let live = set(
        "permit (principal, action == Action::\"start_session\", resource);\n\
         permit (principal, action == Action::\"connect\", resource in Domain::\"a.example.com\");",
    );
    let log = Log::open(directory, LogOptions::default()).unwrap();
    for number in 0..count {
        let words = if number % 1_000 == 0 {
            "start true".to_owned()
        } else {
            let zone = if number % 3 == 0 { "b" } else { "a" };
            format!("connect h{}.{zone}.example.com:443", number % 500)
        };
        let request = Request {
            session: Arc::new(SessionFacts {
                id: format!("s-{}", number / 1_000),
                user: format!("user-{}", number % 7_000 / 1_000),
                groups: vec!["staff".into()],
                agent: None,
                platform: "linux".into(),
                backend: Backend::Bubblewrap,
            }),
            operation: ask::parse(&words).unwrap(),
            at: std::time::SystemTime::now(),
        };
        let _recorded = log.record_written(live.decide(request)).await.unwrap();
    }
    log.close();
}
