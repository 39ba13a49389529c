//! Many sessions at once on one egress: each is served, none sees another's, and nothing is left
//! when they end.
//!
//! `CORDON_SESSIONS` (default 2,000, or what the process's descriptors allow) says how many. Its own
//! program, because it counts what the whole process holds.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

#[expect(dead_code, reason = "shared with the other tests of the egress")]
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/descriptors.rs"]
mod descriptors;
#[path = "../common/held.rs"]
mod held;

use std::time::{Duration, Instant};

use common::{Origin, bounded, connect, decisions, flows, get, house, message, status};
use descriptors::raise_descriptors;
use held::Held;
use tokio::io::AsyncWriteExt;

/// Descriptors that one session and its one kept connection take on both sides.
const DESCRIPTORS: u64 = 9;

/// Resident memory of one session with a kept connection through it, client and origin included,
/// in bytes.
const MEMORY: u64 = 160 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n24_two_thousand_sessions_are_served_at_once() {
    let most = raise_descriptors();
    let asked: u64 = std::env::var("CORDON_SESSIONS").map_or(2000, |n| n.parse().unwrap());
    let count = asked.min(most.saturating_sub(500) / DESCRIPTORS);
    let (house, origin) = (house(), Origin::start().await);
    let allowed = get(&format!("allowed.example:{}", origin.port()), "/");
    let denied = get(&format!("denied.example:{}", origin.port()), "/");
    let id = |n: u64| format!("0190b5a0-0000-7000-8000-{n:012x}");
    let before = Held::now();
    let began = Instant::now();

    let mut sessions = Vec::new();
    for n in 0..count {
        let (http, proxy) = house.another(id(n + 2));
        let mut client = connect(http).await;
        for (request, expected) in [(&denied, 403), (&allowed, 200), (&allowed, 200)] {
            client.write_all(request).await.unwrap();
            let (head, _body) = bounded(message(&mut client)).await.unwrap();
            assert_eq!(status(&head), expected, "session {n}: {head}");
        }
        sessions.push((n, proxy, client));
    }
    let full = Held::now();
    let each = full.resident.saturating_sub(before.resident) / count;
    eprintln!(
        "{count} sessions of {asked} in {:.1?}: {} KiB each, {before:?}, then {full:?}",
        began.elapsed(),
        each / 1024
    );
    assert!(each < MEMORY, "{} KiB each", each / 1024);

    for (n, proxy, client) in sessions {
        drop(client);
        proxy.shutdown().await;
        if n % 100 == 0 {
            let records = house.records_of(&id(n + 2));
            assert_eq!(decisions(&records, "allow").len(), 2);
            assert_eq!(decisions(&records, "deny").len(), 1);
            let closed = flows(&records);
            assert!(
                closed.iter().all(|flow| flow["end"] == "completed"),
                "{closed:?}"
            );
        }
    }
    assert_eq!(origin.reached(), usize::try_from(count).unwrap());
    let after = Held::settled(before.tasks, before.descriptors, Duration::from_secs(20)).await;
    assert!(
        after.tasks <= before.tasks && after.descriptors <= before.descriptors,
        "left over: {before:?}, then {after:?}"
    );
}
