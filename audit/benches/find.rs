//! The first page of a query by session, by destination, by rule, and counts, over a sealed log
//! of many records; and what the postings take beside the records.
//!
//! `CORDON_BENCH_RECORDS` says how many records (default 1,000,000; ten times that is the mark
//! of 100 ms, and takes some 8 GB below `CORDON_BENCH_DIR` or the system's temporary directory).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark"
)]

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use cordon_audit::{
    find::{Condition, Field, Order, Query, count_by, postings},
    read::Reader,
};

const SEGMENT: u64 = 65_536;
const BUNDLE: u64 = 256;

fn host(seq: u64) -> String {
    // A few hosts are most of the traffic, thousands are rare: a square law over 20,000.
    let spread = (seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) % 20_000;
    format!("h{}.example.com", spread * spread / 20_000)
}

fn session(seq: u64) -> String {
    let number = seq / 200;
    format!("01890a5d-ac96-774b-bcce-{number:012x}")
}

fn leaf(seq: u64) -> Vec<u8> {
    let (host, refused) = (host(seq), seq.is_multiple_of(50));
    let (effect, enforced) = if refused {
        ("deny", "blocked")
    } else {
        ("allow", "allowed")
    };
    let (reason, rule) = match refused {
        true => ("rule", format!("no-{}", seq % 7)),
        false => ("rule", format!("rule-{}", seq % 300)),
    };
    let text = format!(
        r#"{{"action":"net.connect","agent":{{"name":"claude"}},"boot":"5f0c2a3e-6d1b-4c8a-9f7e-3b2d1c0a9e8f","effect":"{effect}","enforced":"{enforced}","eval_ns":6400,"host":"host.example.com","id":"{id}","instance":"cordon/0b8f6c1e-2d3a-4b5c-8d7e-9f0a1b2c3d4e","kind":"decision","layers":["organisation"],"mode":"enforce","mono_us":{seq},"net":{{"dport":443,"host":"{host}","proto":"tcp","via":"http-connect"}},"policy":{{"set":"default","sha256":"{digest}"}},"principal":{{"id":"ann","type":"user"}},"queue_us":40,"reason":"{reason}","resource":{{"id":"{host}:443","type":"network"}},"rules":["{rule}"],"seq":{seq},"session":"{session}","ts_us":{ts},"v":1}}"#,
        id = uuid::Uuid::from_u128(u128::from(seq)),
        digest = "ab".repeat(32),
        session = session(seq),
        ts = 1_763_683_200_000_000 + seq * 1_000,
    );
    text.into_bytes()
}

/// `1234067` is `x001/x234/067` (C2SP tlog-tiles).
fn spelled(mut number: u64) -> String {
    let mut path = format!("{:03}", number % 1000);
    while number >= 1000 {
        number /= 1000;
        path = format!("x{:03}/{path}", number % 1000);
    }
    path
}

/// Writes whole segments, and an empty journal after them. Gives the bytes of all leaves.
fn write_log(log: &Path, segments: u64) -> u64 {
    fs::create_dir_all(log.join("segments")).unwrap();
    let mut raw = 0;
    for first in (0..segments).map(|number| number * SEGMENT) {
        let mut leaves = Vec::new();
        for number in first / BUNDLE..(first + SEGMENT) / BUNDLE {
            let path = log.join("tile/entries").join(spelled(number));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut bundle = BufWriter::new(File::create(path).unwrap());
            for seq in number * BUNDLE..(number + 1) * BUNDLE {
                let leaf = leaf(seq);
                raw += u64::try_from(leaf.len()).unwrap();
                bundle
                    .write_all(&u16::try_from(leaf.len()).unwrap().to_be_bytes())
                    .unwrap();
                bundle.write_all(&leaf).unwrap();
                leaves.push((seq, leaf));
            }
            bundle.flush().unwrap();
        }
        let path = postings::path_of(log, first);
        let mut leaves = leaves.iter().map(|(seq, leaf)| (*seq, leaf.as_slice()));
        postings::write(&path, first, &mut leaves).unwrap();
        let manifest = format!(
            r#"{{"v":1,"first":{first},"end":{end},"previous":{first},"root":"","from_us":0,"newest":{{"administration_us":0,"decisions_us":0,"flows_us":0}},"sessions":null}}"#,
            end = first + SEGMENT
        );
        fs::write(log.join(format!("segments/{first}.json")), manifest).unwrap();
    }
    raw
}

fn size_of_postings(log: &Path) -> u64 {
    let files = fs::read_dir(log).unwrap().map(|entry| entry.unwrap());
    let postings = files.filter(|entry| entry.path().extension().is_some_and(|of| of == "idx"));
    postings.map(|entry| entry.metadata().unwrap().len()).sum()
}

/// The slowest and the middle of some runs.
fn time(runs: u64, mut run: impl FnMut(u64)) -> (Duration, Duration) {
    let mut times: Vec<Duration> = (0..runs)
        .map(|number| {
            let started = Instant::now();
            run(number);
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    (*times.last().unwrap(), times[times.len() / 2])
}

fn main() {
    let records: u64 = match std::env::var("CORDON_BENCH_RECORDS") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => 1_000_000,
    };
    let base = std::env::var_os("CORDON_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::tempdir_in(base).unwrap();
    let log = directory.path();
    let segments = records.div_ceil(SEGMENT);
    let size = segments * SEGMENT;
    let started = Instant::now();
    let raw = write_log(log, segments);
    println!(
        "{size} records in {segments} segments, written in {:.0?}",
        started.elapsed()
    );
    let postings = size_of_postings(log);
    println!(
        "postings     {:.1} MB beside {:.0} MB of records: {:.2} %",
        postings as f64 / 1e6,
        raw as f64 / 1e6,
        100.0 * postings as f64 / raw as f64
    );
    let reader = Reader::open(log).unwrap();
    // Places all over the log, the oldest and rarest too.
    let place = |number: u64| (number * 7_919_993 + 1) % size;
    let by = |field, value: String| Query {
        conditions: vec![Condition::is(field, &value)],
        ..Query::default()
    };
    let show = |name: &str, (slowest, middle): (Duration, Duration)| {
        println!("{name:<28} middle {middle:>9.2?}   slowest {slowest:>9.2?}");
    };
    let page = |query: &Query| assert!(!query.page(&reader, 50).unwrap().records.is_empty());
    show(
        "by session",
        time(20, |n| page(&by(Field::Session, session(place(n))))),
    );
    show(
        "by destination",
        time(20, |n| {
            page(&by(Field::Resource, format!("{}:443", host(place(n)))));
        }),
    );
    show(
        "by rule",
        time(20, |n| {
            page(&by(Field::Rule, format!("rule-{}", n * 13 % 49 + 1)))
        }),
    );
    show(
        "by rule, oldest first",
        time(20, |n| {
            let mut query = by(Field::Rule, format!("no-{}", n % 7));
            query.order = Order::OldestFirst;
            page(&query);
        }),
    );
    show(
        "what is not there",
        time(20, |n| {
            let query = by(Field::Session, format!("absent-{n}"));
            assert!(query.page(&reader, 50).unwrap().records.is_empty());
        }),
    );
    show(
        "count by effect",
        time(3, |_| {
            assert_eq!(
                count_by(&reader, &Query::default(), Field::Effect)
                    .unwrap()
                    .len(),
                2
            );
        }),
    );
    show(
        "count denies by host",
        time(3, |_| {
            let query = by(Field::Effect, "deny".into());
            assert!(count_by(&reader, &query, Field::Host).unwrap().len() > 100);
        }),
    );
}
