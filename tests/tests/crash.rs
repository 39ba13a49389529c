//! kill -9 of any part at random moments: nothing is left, the log verifies, and every effect that
//! was seen has its decision in the log (A02, F18).

#![expect(
    clippy::expect_used,
    reason = "what is not there fails the test, in helpers too"
)]

use std::{
    collections::{BTreeMap, hash_map::RandomState},
    hash::{BuildHasher, Hasher},
    path::PathBuf,
    thread,
    time::Duration,
};

use cordon_tests::{Identity, Origin, World, leaks, process};
use rustix::process::{Pid, Signal, kill_process};

const ROUNDS: u64 = 50;

/// Which part of a session is killed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Victim {
    Daemon,
    Launcher,
    FirstProcess,
    Command,
}

#[test]
fn a02_kill_9_at_random_moments_as_root() {
    World::scenario(Identity::Root, rounds);
}

#[test]
fn a02_kill_9_at_random_moments_as_user() {
    World::scenario(Identity::User, rounds);
}

fn rounds(world: &mut World) {
    let origin = world.allowed_origin("open.test");
    let seed = RandomState::new();
    let mut killed = BTreeMap::new();
    let mut effects = 0;
    for round in 0..ROUNDS {
        let mut random = seed.build_hasher();
        random.write_u64(round);
        let random = random.finish();
        let victim = match random % 4 {
            0 => Victim::Daemon,
            1 => Victim::Launcher,
            2 => Victim::FirstProcess,
            _ => Victim::Command,
        };
        let moment = Duration::from_micros(random / 4 % 400_000);
        if one_round(world, &origin, round, victim, moment) {
            *killed.entry(victim).or_insert(0) += 1;
        }
        effects += expect_effects_in_the_log(world, &origin, round);
    }
    println!("killed: {killed:?}; {effects} effects seen");
    assert_eq!(killed.len(), 4, "each part was killed: {killed:?}");
    assert!(
        effects > 0,
        "some sessions got far enough to have an effect"
    );
    // The next start clears what a killed daemon could not.
    world.session(&["true"]).run().expect_code(0);
}

/// Runs a session, kills one part of it after `moment`, and waits until all of it is gone. `false`
/// when that part was not there yet, or no more.
fn one_round(world: &World, origin: &Origin, round: u64, victim: Victim, moment: Duration) -> bool {
    let script = "echo \"${HOME#/sessions/}\" > \"session-$2\"; i=0
        while [ $i -lt 20 ]; do curl -sS -o /dev/null \"$1/$2/$i\" || exit 1; i=$((i+1)); done";
    let url = origin.url("open.test", "");
    let running = world
        .session(&["sh", "-c", script, "sh", &url, &round.to_string()])
        .start();
    // The moment is what this test is about; nothing is waited for.
    thread::park_timeout(moment);
    let tree = process::tree(running.pid());
    let target = match victim {
        Victim::Daemon => daemon(world),
        Victim::Launcher => Some(running.pid()),
        Victim::FirstProcess => first_process(&tree),
        Victim::Command => tree.last().copied().filter(|pid| *pid != running.pid()),
    };
    let hit = target.is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok());
    let tree = [tree, process::tree(running.pid())].concat();
    let outcome = running.finish();
    world.remember(&outcome);
    for pid in tree {
        let gone = process::gone(pid, process::DEADLINE);
        assert!(
            gone,
            "round {round}, {victim:?}: `{}` stayed: {outcome}",
            process::name(pid)
        );
    }
    hit
}

fn daemon(world: &World) -> Option<Pid> {
    leaks::processes(&world.marks())
        .into_iter()
        .find(|pid| process::is_daemon(*pid))
}

/// The process that is number 1 in its own namespace.
fn first_process(tree: &[Pid]) -> Option<Pid> {
    tree.iter().copied().find(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()));
        status.is_ok_and(|status| {
            status
                .lines()
                .filter_map(|line| line.strip_prefix("NSpid:"))
                .any(|numbers| numbers.split_whitespace().count() > 1 && numbers.ends_with("\t1"))
        })
    })
}

/// Fails unless the log verifies and holds a decision for every request of this round that the
/// origin saw; returns how many it saw.
fn expect_effects_in_the_log(world: &World, origin: &Origin, round: u64) -> usize {
    world.expect_log_verifies();
    let prefix = format!("/{round}/");
    let seen: Vec<String> = origin
        .requests()
        .into_iter()
        .map(|request| request.target)
        .filter(|target| target.starts_with(&prefix))
        .collect();
    if seen.is_empty() {
        return 0;
    }
    let file: PathBuf = world.project().join(format!("session-{round}"));
    let session = std::fs::read_to_string(file).expect("it was written before the first request");
    let records = world.records(session.trim());
    for target in &seen {
        let recorded = records.iter().any(|record| {
            record["effect"] == "allow" && record.to_string().contains(&format!("\"{target}\""))
        });
        assert!(
            recorded,
            "round {round}: no decision for {target} in {records:#?}"
        );
    }
    seen.len()
}
