//! What a decision costs, beside what plain Cedar costs for the same, taken in turns.
//!
//! Prints a table with p50, p99 and the mark of each. `CORDON_BENCH_CHECK=1` fails where a mark is
//! missed. On a machine that is shared with other work p99 is mostly the others'.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark fails loudly"
)]

#[path = "decide/sets.rs"]
mod sets;
#[path = "decide/swap.rs"]
mod swap;

use std::{hint::black_box, sync::Arc, time::Instant};

use cordon_policy::Snapshot;
use cordon_policy::source::PolicySource;

/// One line of the table.
struct Line {
    name: &'static str,
    p50: f64,
    p99: f64,
    /// Most microseconds that p50 and p99 may take.
    marks: (f64, f64),
}

const EVALUATED: &str = "  an HTTP request there, evaluated each time";
const ROUNDS: usize = 400;
const PER_ROUND: usize = 50;
const NO_MARK: f64 = f64::INFINITY;

fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let rounds = if std::env::args().any(|arg| arg == "--bench") {
        ROUNDS
    } else {
        1
    };
    let session = sets::session();
    let grouped = sets::grouped();
    let by_rule = sets::by_rule();
    let folders = sets::folders();
    let default = Snapshot::load(&PolicySource::default_pack()).unwrap();

    let hosts: Vec<String> = (0..40)
        .map(|n| format!("api.h{}.example.com", 5_000 + n))
        .collect();
    let connects: Vec<_> = hosts
        .iter()
        .map(|host| sets::connect(&session, host))
        .collect();
    let gets: Vec<_> = hosts.iter().map(|host| sets::get(&session, host)).collect();
    let paths: Vec<_> = (0..1_000)
        .map(|n| sets::read(&session, &format!("/srv/p{n}/src/main.rs")))
        .collect();
    let fresh: Vec<_> = (0..(rounds * PER_ROUND))
        .map(|n| sets::connect(&session, &format!("x{n}.h5000.example.com")))
        .collect();

    let bare = sets::Bare::grouped(&hosts);
    let bare_by_rule = sets::Bare::by_rule(&hosts);
    let lines = interleaved(
        rounds,
        &mut [
            Case::new("10,000 hosts in groups", (5.0, 10.0), {
                let mut connects = connects.iter().cycle();
                let grouped = &grouped;
                move || drop(black_box(grouped.decide(connects.next().unwrap().clone())))
            }),
            Case::new(EVALUATED, (5.0, 10.0), {
                let mut gets = gets.iter().cycle();
                let grouped = &grouped;
                move || drop(black_box(grouped.decide(gets.next().unwrap().clone())))
            }),
            Case::new(
                "  the policies that apply, Cedar alone",
                (NO_MARK, NO_MARK),
                {
                    let (bare, mut at) = (&bare, 0..);
                    move || drop(black_box(bare.answer(at.next().unwrap())))
                },
            ),
            Case::new("  the same, its request ready", (NO_MARK, NO_MARK), {
                let (bare, mut at) = (&bare, 0..);
                move || drop(black_box(bare.evaluate(at.next().unwrap())))
            }),
            Case::new("  a host never asked about before", (NO_MARK, NO_MARK), {
                let mut fresh = fresh.iter().cycle();
                let grouped = &grouped;
                move || drop(black_box(grouped.decide(fresh.next().unwrap().clone())))
            }),
            Case::new("10,000 hand-written policies", (10.0, NO_MARK), {
                let mut connects = connects.iter().cycle();
                let by_rule = &by_rule;
                move || drop(black_box(by_rule.decide(connects.next().unwrap().clone())))
            }),
            Case::new("a file below 1,000 granted paths", (6.0, NO_MARK), {
                let mut paths = paths.iter().cycle();
                let folders = &folders;
                move || drop(black_box(folders.decide(paths.next().unwrap().clone())))
            }),
            Case::new("default pack, allowed", (NO_MARK, NO_MARK), {
                let request = sets::connect(&session, "api.github.com");
                let default = &default;
                move || drop(black_box(default.decide(request.clone())))
            }),
            Case::new("default pack, denied", (NO_MARK, NO_MARK), {
                let request = sets::connect(&session, "nowhere.example.com");
                let default = &default;
                move || drop(black_box(default.decide(request.clone())))
            }),
        ],
    );
    let whole = interleaved(
        rounds.min(4),
        &mut [Case::new(
            "  the whole set, plain Authorizer",
            (NO_MARK, NO_MARK),
            || {
                black_box(bare_by_rule.answer(0));
            },
        )],
    );
    println!("| decision | p50 µs | p99 µs | mark |\n|---|--:|--:|---|");
    let mut missed = false;
    for line in lines.iter().chain(&whole) {
        missed |= line.print();
    }
    // Against the case that is evaluated too: an answer that is kept costs next to nothing.
    let ratio = lines[1].p50 / lines[2].p50;
    let strict = lines[1].p50 / lines[3].p50;
    println!(
        "\nof the policies that apply, by Cedar alone: {ratio:.2} (mark 1.3); of their evaluation \
         and nothing else: {strict:.2}"
    );
    missed |= ratio > 1.3;
    missed |= swap::measure(Arc::clone(&session), rounds);
    let is_check = std::env::var_os("CORDON_BENCH_CHECK").is_some();
    assert!(!(missed && is_check), "a mark is missed");
}

/// Something to be timed.
struct Case<'a> {
    name: &'static str,
    marks: (f64, f64),
    work: Box<dyn FnMut() + 'a>,
    times: Vec<f64>,
}

impl<'a> Case<'a> {
    fn new(name: &'static str, marks: (f64, f64), work: impl FnMut() + 'a) -> Self {
        Self {
            name,
            marks,
            work: Box::new(work),
            times: Vec::new(),
        }
    }
}

/// Every case in every round, so that whatever else the machine does meets them alike.
fn interleaved(rounds: usize, cases: &mut [Case<'_>]) -> Vec<Line> {
    for round in 0..=rounds {
        for case in cases.iter_mut() {
            for _ in 0..PER_ROUND {
                let started = Instant::now();
                (case.work)();
                let took = started.elapsed().as_nanos() as f64 / 1_000.0;
                // The first round warms up.
                if round > 0 {
                    case.times.push(took);
                }
            }
        }
    }
    cases
        .iter_mut()
        .map(|case| Line {
            name: case.name,
            p50: quantile(&mut case.times, 0.50),
            p99: quantile(&mut case.times, 0.99),
            marks: case.marks,
        })
        .collect()
}

fn quantile(times: &mut [f64], share: f64) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, reason = "an index within the list")]
    let at = (times.len() as f64 * share) as usize;
    times[at.min(times.len() - 1)]
}

impl Line {
    /// Prints it; whether a mark is missed.
    fn print(&self) -> bool {
        let (p50, p99) = self.marks;
        let mark = match (p50.is_finite(), p99.is_finite()) {
            (true, true) => format!("p50 {p50}, p99 {p99}"),
            (true, false) => format!("p50 {p50}"),
            _ => String::new(),
        };
        println!(
            "| {} | {:.2} | {:.2} | {mark} |",
            self.name, self.p50, self.p99
        );
        self.p50 > p50 || self.p99 > p99
    }
}
