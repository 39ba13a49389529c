//! What policy, log and counting cost a request of a kept connection, by themselves.
//!
//! `cargo bench -p cordon-session --bench request` asks one gate for one request after the other
//! and reports the end of each, as the proxy does, with a policy of 10,000 hosts and a log on disk
//! (cargo's target folder, or `CORDON_BENCH_DIR`). It prints the CPU time of each request by the
//! thread that spends it, sealing included, and the system's share of it.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark prints its table and stops where something is wrong"
)]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use cordon_audit::{Event, FlowEnd, Log, LogOptions};
use cordon_policy::{
    Backend, Destination, HttpFacts, Method, Operation, SessionFacts, Snapshot,
    source::{PolicyFile, PolicySource},
};
use cordon_session::{Durability, Gate};

/// Requests of one round: each makes two records, so these are two segments.
const REQUESTS: u32 = 65_536;
const ROUNDS: u32 = 3;
const HOSTS: u32 = 10_000;

fn main() {
    let place = std::env::var("CORDON_BENCH_DIR");
    let place = place.unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").into());
    let directory = tempfile::tempdir_in(place).unwrap();
    let log = Log::open(directory.path(), LogOptions::default()).unwrap();
    let gate = Gate::new(Arc::new(session()), Arc::new(snapshot()), log.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.unwrap();
    runtime.block_on(ask(&gate, 100));
    println!("{REQUESTS} requests a round; CPU time of each, in µs");
    println!("{:>3} {:<16} {:>8} {:>8}", "", "thread", "all", "system");
    for round in 0..ROUNDS {
        let before = threads();
        runtime.block_on(ask(&gate, REQUESTS));
        settle(&log);
        for (name, spent) in threads() {
            let was = before.get(&name).copied().unwrap_or_default();
            let each = |now: Duration, was: Duration| {
                now.saturating_sub(was).as_secs_f64() * 1e6 / f64::from(REQUESTS)
            };
            let (all, system) = (each(spent.all, was.all), each(spent.system, was.system));
            if all >= 0.01 {
                println!("{round:>3} {name:<16} {all:>8.2} {system:>8.2}");
            }
        }
    }
    log.close();
}

async fn ask(gate: &Gate, requests: u32) {
    let destination = Destination::from_parts(b"h17.example.com", 80).unwrap();
    for _request in 0..requests {
        let operation = Operation::HttpRequest {
            destination: destination.clone(),
            method: Method("GET".into()),
            path: "/b200".into(),
            facts: Box::new(HttpFacts::default()),
        };
        let permit = gate.admit(operation, Durability::Written).await.unwrap();
        let watch = gate.watch(&permit);
        gate.event_later(Event::FlowClosed {
            session: Arc::clone(gate.session()),
            decision: permit.id(),
            peer: Some(([192, 0, 2, 7], 80).into()),
            bytes_out: 120,
            bytes_in: 430,
            duration: Duration::from_micros(431),
            status: Some(200),
            tls: None,
            end: FlowEnd::Completed,
        });
        drop((permit, watch));
    }
}

/// Waits until all of it is durable and sealed as far as it will be.
fn settle(log: &Log) {
    let until = Instant::now() + Duration::from_secs(60);
    let mut last = threads();
    while Instant::now() < until {
        thread::sleep(Duration::from_millis(700));
        let now = threads();
        let stats = log.stats();
        let spent = |of: &BTreeMap<String, Spent>| of.get("log-sealer").map(|spent| spent.all);
        if stats.durable == stats.written && spent(&now) == spent(&last) {
            return;
        }
        last = now;
    }
}

#[derive(Clone, Copy, Default, PartialEq)]
struct Spent {
    all: Duration,
    system: Duration,
}

/// CPU time of each kind of thread of this process.
fn threads() -> BTreeMap<String, Spent> {
    let mut kinds: BTreeMap<String, Spent> = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        let read = |name: &str| fs::read_to_string(task.join(name)).unwrap_or_default();
        let (comm, stat, sched) = (read("comm"), read("stat"), read("schedstat"));
        let ticks = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(12));
        let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
        let kind = kinds.entry(comm.trim().to_owned()).or_default();
        kind.all += Duration::from_nanos(number(sched.split_whitespace().next()));
        kind.system += Duration::from_millis(10 * number(ticks));
    }
    kinds
}

fn session() -> SessionFacts {
    SessionFacts {
        id: "01890a5d-ac96-774b-bcce-b302099a8057".into(),
        user: "alice".into(),
        groups: vec!["staff".into()],
        agent: Some("claude".into()),
        platform: "linux".into(),
        backend: Backend::None,
    }
}

fn snapshot() -> Snapshot {
    let mut hosts = String::from("[host_groups]\nallowed = [");
    for host in 0..HOSTS {
        write!(hosts, "\"h{host}.example.com\", ").unwrap();
    }
    hosts.push(']');
    let rule = "@id(\"origin\") permit (principal, action in Action::\"network\", \
                resource in HostGroup::\"allowed\");";
    let files = vec![
        PolicyFile::new("hosts.toml", hosts),
        PolicyFile::new("rules.cedar", rule),
    ];
    Snapshot::load(&PolicySource::new("bench", files)).unwrap()
}
