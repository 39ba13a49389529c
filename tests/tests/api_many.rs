//! Ten thousand sessions at once over the API: opened, listed part by part, asked, kept over a kill,
//! and ended, each in a time that does not grow with their number.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use cordon_tests::{
    Identity, World,
    api::{curl, hosted, kill_daemon},
    link::Link,
    process::eventually,
};
use serde_json::{Value, json};

/// What one daemon holds at most.
const MOST: usize = 10_000;

/// Connections that open them.
const AT_ONCE: usize = 8;

/// As one account alone: twice at a time would measure the machine.
#[test]
fn ten_thousand_sessions_are_held_at_once() {
    World::scenario(Identity::User, |world| {
        let first = hosted(world, &[]);
        let memory = || {
            let status = world.cordon(&["status", "--format", "json"]).text();
            let pid = serde_json::from_str::<Value>(&status).unwrap()["pid"].clone();
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmRSS:"))
                .unwrap();
            line.trim()
                .trim_end_matches(" kB")
                .parse::<usize>()
                .unwrap()
        };
        let before = memory();
        let begun = Instant::now();
        let first_half = opened(world, MOST / 2);
        let half = begun.elapsed();
        let second_half = opened(world, MOST - 1 - MOST / 2);
        println!(
            "{MOST} sessions: {half:?} for the first half, {:?} in all, {} kB each (debug build)",
            begun.elapsed(),
            memory().saturating_sub(before) / MOST
        );
        assert!((memory() - before) / MOST < 100, "under 100 MB for 1,000");
        assert!(first_half + second_half == MOST - 1);
        // No more, and nobody of those is the worse for it.
        let new = json!({"program": "harness", "policy": ["host-tools"]}).to_string();
        let (code, said) = curl(world, "/v1/sessions", &["-d", &new]);
        assert_eq!(
            (code, said["detail"].as_str().unwrap()),
            (409, "10000 sessions are held already")
        );
        let mut link = Link::unix(world);
        let asked = json!({"ask": ["connect", "a.test:443"], "look": true}).to_string();
        let told = link
            .call(
                "POST",
                &format!("/v1/sessions/{first}/decisions"),
                &[],
                &asked,
            )
            .unwrap();
        assert_eq!(told.status, 200);
        // All of them, part by part, each once.
        assert_eq!(listed(world), MOST);
        // A daemon that is killed goes on with all of them, soon.
        kill_daemon(world);
        let begun = Instant::now();
        world.session(&["true"]).run().expect_code(0);
        println!(
            "{MOST} sessions: {:?} until a killed daemon's heir serves",
            begun.elapsed()
        );
        assert_eq!(listed(world), MOST);
        let begun = Instant::now();
        world.cordon(&["stop", "--force"]).expect_code(0);
        // Its socket goes when all have ended.
        eventually("they end", || {
            !world.runtime().join("control.sock").exists()
        });
        println!("{MOST} sessions: {:?} until they ended", begun.elapsed());
    });
}

/// Opens so many sessions, on a few connections.
fn opened(world: &World, number: usize) -> usize {
    let new = json!({"program": "harness", "policy": ["host-tools"]}).to_string();
    let mut links: Vec<Link> = (0..AT_ONCE).map(|_| Link::unix(world)).collect();
    let shares = (0..AT_ONCE).map(|n| number / AT_ONCE + usize::from(n < number % AT_ONCE));
    thread::scope(|scope| {
        let open = |link: &mut Link, share: usize| {
            (0..share)
                .filter(|_| {
                    let said = link.call("POST", "/v1/sessions", &[], &new).unwrap();
                    assert_eq!(said.status, 201, "{}", said.json());
                    true
                })
                .count()
        };
        let running: Vec<_> = links
            .iter_mut()
            .zip(shares)
            .map(|(link, share)| scope.spawn(move || open(link, share)))
            .collect();
        running.into_iter().map(|one| one.join().unwrap()).sum()
    })
}

/// How many sessions the list has, gone through by its links.
fn listed(world: &World) -> usize {
    let mut link = Link::unix(world);
    let (mut path, mut ids) = ("/v1/sessions?limit=700".to_owned(), Vec::new());
    let begun = Instant::now();
    loop {
        let said = link.call("GET", &path, &[], "").unwrap();
        assert_eq!(said.status, 200);
        let page = said.json();
        let page = page.as_array().unwrap();
        assert!(page.len() <= 700);
        ids.extend(
            page.iter()
                .map(|one| one["id"].as_str().unwrap().to_owned()),
        );
        let next = said
            .head
            .lines()
            .find_map(|line| line.strip_prefix("link: <"));
        let Some(next) = next else { break };
        next.split_once('>').unwrap().0.clone_into(&mut path);
    }
    assert!(ids.is_sorted(), "in their order");
    ids.dedup();
    assert!(begun.elapsed() < Duration::from_secs(30));
    ids.len()
}
