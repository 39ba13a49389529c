//! What the tests that break a log share: a process that records, and what has to hold after.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "test helpers")]

use std::{
    collections::HashSet,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::SystemTime,
};

use cordon_audit::{Log, LogOptions, read::Reader, verify::verify};
use cordon_policy::{
    Asked, Backend, Basis, Decided, Decision, Deny, DenyReason, RawRequest, SessionFacts,
};

/// Tells the test's own binary, started again, where to record.
pub const DIRECTORY: &str = "CORDON_AUDIT_CRASH_DIRECTORY";

/// How many records it makes then; for ever when it is not set.
pub const COUNT: &str = "CORDON_AUDIT_CRASH_COUNT";

pub fn refusal(text: &str) -> Decision {
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

/// Small segments, so that sealing is among what is broken.
pub fn options() -> LogOptions {
    LogOptions {
        segment_records: 64,
        checkpoint_records: 20,
        index_cache_bytes: 1 << 20,
        ..LogOptions::default()
    }
}

/// The process that records, from several tasks at once. Says each id that is acknowledged as
/// durable, each refusal as `refused`, and at its end `closed`.
pub fn record(directory: &Path) {
    let count = std::env::var(COUNT)
        .ok()
        .map(|count| count.parse().unwrap());
    let Ok(log) = Log::open(directory, options()) else {
        say("not opened");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..8_usize)
            .map(|task| {
                let log = log.clone();
                tokio::spawn(async move {
                    for n in 0_u64..count.unwrap_or(u64::MAX) {
                        let decision = refusal(&"x".repeat(task));
                        match log.record(decision).await {
                            // One write, so that a kill cannot leave half a line of ours behind.
                            Ok(recorded) => say(&id(&recorded)),
                            Err(_) => say("refused"),
                        }
                        if n % 2 == 0 {
                            drop(log.record_written(refusal("written")).await);
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    log.close();
    say("closed");
}

fn id(recorded: &cordon_audit::Recorded) -> String {
    match recorded {
        cordon_audit::Recorded::Deny(denied) => denied.id().to_string(),
        cordon_audit::Recorded::Allow(permit) => permit.id().to_string(),
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    let said = out.write_all(format!("\n{line}\n").as_bytes());
    said.and_then(|()| out.flush()).unwrap();
}

/// Starts this test's binary as the process that records.
pub fn recorder(before: &[&str], directory: &Path) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut command = match before.split_first() {
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
        None => Command::new(program),
    };
    command
        .args(["--exact", "the_process_that_records", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped());
    command
}

/// Whether a line says that a record is durable.
pub fn is_id(line: &str) -> bool {
    line.len() == 36 && line.matches('-').count() == 4
}

/// After whatever happened: the log opens, has every acknowledged record, and verifies.
pub fn check(directory: &Path, acknowledged: &HashSet<String>, what: &str) {
    if !directory.join("checkpoint").exists() {
        assert!(acknowledged.is_empty(), "{what}: the log is gone");
        return;
    }
    let log = Log::open(directory, options()).expect(what);
    let by_session: usize = (0..3)
        .map(|n| log.session(&format!("session-{n}")).unwrap().len())
        .sum();
    log.close();
    let ids: HashSet<String> = Reader::open(directory)
        .map(|reader| {
            reader
                .records(0)
                .map(|r| r.unwrap().id.to_string())
                .collect()
        })
        .unwrap_or_default();
    let missing: Vec<_> = acknowledged.difference(&ids).collect();
    assert!(missing.is_empty(), "{what}: {missing:?}");
    assert!(by_session >= acknowledged.len(), "{what}: {by_session}");
    let report = verify(directory).unwrap();
    assert!(
        report.is_clean() && report.unfinished_bytes == 0,
        "{what}: {report:?}"
    );
}

/// A number from the environment: more for the night.
pub fn rounds(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |count| count.parse().expect(name))
}

/// Pseudo-random numbers, another row in each process.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ u64::from(std::process::id()))
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
