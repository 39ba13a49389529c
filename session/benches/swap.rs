//! What a change of policy costs the decisions that are made meanwhile.
//!
//! `cargo bench -p cordon-session --bench swap` prints a table: decisions on two threads, first
//! with one set of 10,000 rules, then with two such sets in turn, swapped as the daemon does it.
//! Mark: no decision slower than 1 ms because of a swap. A machine that is busy elsewhere shows
//! slow decisions in both lines; the difference is the swap's.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark prints its table and stops where something is wrong"
)]

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use cordon_policy::{
    Backend, Destination, Operation, Request, SessionFacts, Snapshot, Transport,
    source::{PolicyFile, PolicySource},
};
use cordon_session::{InForce, PolicyFeed};

const RULES: usize = 10_000;
const RUN: Duration = Duration::from_secs(5);
const THREADS: usize = 2;

fn main() {
    let sets = [snapshot("a"), snapshot("b")];
    let still = run(&sets, false);
    let swapped = run(&sets, true);
    println!("{RULES} rules, {THREADS} threads, {} s each", RUN.as_secs());
    println!(
        "{:<10} {:>10} {:>8} {:>8} {:>9} {:>9} {:>9}",
        "", "decisions", "p50", "p99", "p99.99", "max", "over 1 ms"
    );
    for (name, times) in [("still", still), ("swapped", swapped)] {
        let at = |share: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a place in a list"
            )]
            let place = ((times.len() - 1) as f64 * share) as usize;
            format!("{:.1} us", times.get(place).unwrap().as_secs_f64() * 1e6)
        };
        let slow = times.iter().filter(|time| time.as_millis() >= 1).count();
        println!(
            "{name:<10} {:>10} {:>8} {:>8} {:>9} {:>9} {slow:>9}",
            times.len(),
            at(0.5),
            at(0.99),
            at(0.9999),
            at(1.0),
        );
    }
}

/// Times of every decision, sorted.
fn run(sets: &[Arc<Snapshot>; 2], swap: bool) -> Vec<Duration> {
    let [first, _] = sets;
    let feed = PolicyFeed::new(InForce::alone(Arc::clone(first)));
    let over = AtomicBool::new(false);
    let mut times: Vec<Duration> = thread::scope(|scope| {
        let deciders: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| decide(&feed, &over)))
            .collect();
        let until = Instant::now() + RUN;
        let mut turns = 0;
        while Instant::now() < until {
            thread::park_timeout(Duration::from_millis(10));
            if swap && let Some(next) = sets.get(turns % 2) {
                drop(feed.replace(InForce::alone(Arc::clone(next))));
                turns += 1;
            }
        }
        over.store(true, Ordering::Relaxed);
        deciders
            .into_iter()
            .flat_map(|decider| decider.join().unwrap())
            .collect()
    });
    times.sort_unstable();
    times
}

fn decide(feed: &PolicyFeed, over: &AtomicBool) -> Vec<Duration> {
    let session = Arc::new(SessionFacts {
        id: "0190b5a0-0000-7000-8000-000000000001".into(),
        user: "ada".into(),
        groups: vec!["staff".into()],
        agent: None,
        platform: "linux".into(),
        backend: Backend::Bubblewrap,
    });
    let mut times = Vec::with_capacity(4 << 20);
    let mut turn = 0_usize;
    while !over.load(Ordering::Relaxed) {
        turn += 1;
        let host = format!("host-{}.example.com", turn % RULES);
        let request = Request {
            session: Arc::clone(&session),
            operation: Operation::Connect {
                destination: Destination::from_parts(host.as_bytes(), 443).unwrap(),
                transport: Transport::Socks5,
                seen: cordon_policy::Seen::default(),
            },
            at: SystemTime::now(),
        };
        let since = Instant::now();
        let decision = feed.load().live.decide(request);
        times.push(since.elapsed());
        drop(decision);
    }
    times
}

fn snapshot(name: &str) -> Arc<Snapshot> {
    let mut rules = String::new();
    for n in 0..RULES {
        writeln!(
            rules,
            "@id(\"{name}-{n}\") permit (principal, action == Action::\"connect\", resource == \
             Host::\"host-{n}.example.com\");"
        )
        .unwrap();
    }
    let source = PolicySource::new(name, vec![PolicyFile::new("rules.cedar", rules)]);
    Arc::new(Snapshot::load(&source).unwrap())
}
