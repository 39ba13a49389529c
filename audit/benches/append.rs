//! Durable appends per second at groups of 1, 64 and 512, against a bare file with the same
//! group commit, in turns, so that the disk's moods hit both. Prints ratios.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a benchmark"
)]

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use cordon_audit::{Log, LogOptions, Recorded};
use cordon_policy::{
    Asked, Backend, Basis, Decided, Decision, Deny, DenyReason, RawRequest, SessionFacts,
};

/// A rate, and a median time.
type Measure = (f64, Duration);

const TURN: Duration = Duration::from_millis(700);
const TURNS: usize = 5;

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

fn session() -> Arc<SessionFacts> {
    Arc::new(SessionFacts {
        id: "01890a5d-ac96-774b-bcce-b302099a8057".into(),
        user: "ann".into(),
        groups: Vec::new(),
        agent: Some("claude".into()),
        platform: "linux".into(),
        backend: Backend::Bubblewrap,
    })
}

/// Records per second by `tasks` callers, each with one record under way.
fn log(directory: &Path, tasks: usize, written: bool) -> Measure {
    let log = Log::open(directory, LogOptions::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let begun = Instant::now();
    let mut times: Vec<Duration> = runtime.block_on(async {
        let tasks: Vec<_> = (0..tasks)
            .map(|_| {
                let log = log.clone();
                let session = session();
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    while begun.elapsed() < TURN {
                        let called = Instant::now();
                        let recorded = match written {
                            true => log.record_written(refusal(&session)).await,
                            false => log.record(refusal(&session)).await,
                        };
                        times.push(called.elapsed());
                        let Ok(Recorded::Deny(_)) = recorded else {
                            panic!("not recorded");
                        };
                    }
                    times
                })
            })
            .collect();
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await.unwrap());
        }
        times
    });
    let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    log.close();
    (rate, median)
}

/// Records per second of one writer that syncs after each group.
fn file(directory: &Path, group: usize) -> Measure {
    let mut file = File::options()
        .append(true)
        .create(true)
        .open(directory.join("bare"))
        .unwrap();
    let bytes = vec![b'x'; 600 * group];
    let begun = Instant::now();
    let mut syncs = Vec::new();
    while begun.elapsed() < TURN {
        file.write_all(&bytes).unwrap();
        let called = Instant::now();
        file.sync_data().unwrap();
        syncs.push(called.elapsed());
    }
    let rate = (group * syncs.len()) as f64 / begun.elapsed().as_secs_f64();
    syncs.sort_unstable();
    (
        rate,
        syncs.get(syncs.len() / 2).copied().unwrap_or_default(),
    )
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn main() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    println!("group      log/s     file/s  ratio  record p50  fdatasync p50  in syncs");
    for group in [1, 64, 512] {
        let mut rows = Vec::new();
        for turn in 0..TURNS {
            let own = directory.path().join(format!("{group}-{turn}"));
            rows.push((log(&own, group, false), file(directory.path(), group)));
        }
        let of = |pick: fn(&(Measure, Measure)) -> f64| median(rows.iter().map(pick).collect());
        let (log, file) = (of(|row| row.0.0), of(|row| row.1.0));
        let (call, sync) = (of(|r| r.0.1.as_secs_f64()), of(|r| r.1.1.as_secs_f64()));
        println!(
            "{group:5} {log:10.0} {file:10.0} {:6.2} {:8.0} us {:11.0} us {:9.2}",
            log / file,
            call * 1e6,
            sync * 1e6,
            call / sync
        );
    }
    for tasks in [1, 64] {
        let rates = (0..TURNS).map(|turn| {
            log(
                &directory.path().join(format!("written-{tasks}-{turn}")),
                tasks,
                true,
            )
        });
        let rates: Vec<_> = rates.collect();
        let rate = median(rates.iter().map(|row| row.0).collect());
        let call = median(rates.iter().map(|row| row.1.as_secs_f64()).collect());
        println!(
            "written, {tasks} at once: {rate:.0}/s, p50 {:.0} us",
            call * 1e6
        );
    }
}
