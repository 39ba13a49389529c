//! A process that records is killed at random moments: what it was told is in the log, is.
//!
//! The test starts its own binary again as the process that records; each answer is a line on
//! its standard output.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test helpers"
)]

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::SystemTime,
};

use cordon_audit::{Log, LogOptions, Recorded, read::Reader, verify::verify};
use cordon_policy::{
    Asked, Backend, Basis, Decided, Decision, Deny, DenyReason, RawRequest, SessionFacts,
};

const DIRECTORY: &str = "CORDON_AUDIT_CRASH_DIRECTORY";

fn refusal(text: &str) -> Decision {
    let session = SessionFacts {
        id: format!("session-{}", text.len() % 3),
        user: "ann".into(),
        groups: Vec::new(),
        agent: None,
        platform: "linux".into(),
        backend: Backend::None,
    };
    Decided::<Deny>::deny(
        Asked::Raw(RawRequest {
            session: Arc::new(session),
            door: "http",
            text: text.into(),
            at: SystemTime::now(),
            problem: "refused".into(),
        }),
        DenyReason::Malformed,
        Basis::default(),
    )
    .into()
}

fn options() -> LogOptions {
    LogOptions {
        segment_records: 64,
        checkpoint_records: 20,
        index_cache_bytes: 1 << 20,
        ..LogOptions::default()
    }
}

/// The process that records, forever, from several tasks at once.
fn record_forever(directory: &Path) {
    let log = Log::open(directory, options()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..8_usize)
            .map(|task| {
                let log = log.clone();
                tokio::spawn(async move {
                    for n in 0_u64.. {
                        let decision = refusal(&"x".repeat(task));
                        let recorded = match n % 2 {
                            0 => log.record(decision).await,
                            _ => log.record_written(decision).await,
                        };
                        let Ok(Recorded::Deny(denied)) = recorded else {
                            panic!("not recorded");
                        };
                        // One write, so that a kill cannot leave half a line of ours behind.
                        let line = format!("{}\n", denied.id());
                        std::io::stdout().write_all(line.as_bytes()).unwrap();
                        std::io::stdout().flush().unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// Does nothing unless started by the test below.
#[test]
fn the_process_that_is_killed() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        record_forever(Path::new(&directory));
    }
}

#[test]
fn a02_every_acknowledged_record_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = HashSet::new();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(std::process::id());
    for round in 0..30 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Some are killed while they open the log.
        let patience = random % 120;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_process_that_is_killed", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n');
        let mut seen = 0;
        let mut take = |line: Vec<u8>| {
            let id = String::from_utf8_lossy(&line).trim().to_owned();
            if id.len() == 36 && id.matches('-').count() == 4 {
                acknowledged.insert(id);
                seen += 1;
            }
            seen
        };
        while patience > 0
            && lines
                .next()
                .is_some_and(|line| take(line.unwrap()) < patience)
        {}
        child.kill().unwrap();
        child.wait().unwrap();
        // What was acknowledged before the kill and not read yet counts as well; the last line
        // may be cut short.
        lines.for_each(|line| {
            take(line.unwrap());
        });
        check(directory.path(), &acknowledged, round);
    }
    assert!(
        acknowledged.len() > 100,
        "{} acknowledged",
        acknowledged.len()
    );
}

fn check(directory: &Path, acknowledged: &HashSet<String>, round: u32) {
    let Ok(reader) = Reader::open(directory) else {
        assert!(acknowledged.is_empty(), "{round}: the log is gone");
        return;
    };
    let log = Log::open(directory, options()).expect("the log opens after a kill");
    let by_session: usize = (0..3)
        .map(|n| log.session(&format!("session-{n}")).unwrap().len())
        .sum();
    log.close();
    let ids: HashSet<String> = reader
        .records(0)
        .map(|r| r.unwrap().id.to_string())
        .collect();
    let missing: Vec<_> = acknowledged.difference(&ids).collect();
    assert!(missing.is_empty(), "{round}: {missing:?}");
    let report = verify(directory).unwrap();
    assert!(
        report.is_clean() && report.unfinished_bytes == 0,
        "{round}: {report:?}"
    );
    assert!(by_session >= acknowledged.len(), "{round}: {by_session}");
}
