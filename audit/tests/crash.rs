//! A process that records is killed at random moments: what it was told is in the log, is.
//!
//! The test starts its own binary again as the process that records; each answer is a line on
//! its standard output. `CORDON_KILL_ROUNDS` sets how often (default 40).

mod common;

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader},
    path::Path,
};

use common::{DIRECTORY, Random, check, is_id, recorder, rounds};

/// Does nothing unless started by a test.
#[test]
fn the_process_that_records() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        common::record(Path::new(&directory));
    }
}

#[test]
fn a02_every_acknowledged_record_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = HashSet::new();
    let mut random = Random::new();
    for round in 0..rounds("CORDON_KILL_ROUNDS", 40) {
        // Some are killed while they open the log, some after a few sealings.
        let patience = random.below(150);
        let mut child = recorder(&[], directory.path()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n');
        let mut seen = 0;
        let mut take = |line: Vec<u8>| {
            let line = String::from_utf8_lossy(&line).trim().to_owned();
            assert_ne!(line, "refused", "{round}");
            if is_id(&line) {
                acknowledged.insert(line);
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
        check(directory.path(), &acknowledged, &format!("round {round}"));
    }
    assert!(
        acknowledged.len() > 100,
        "{} acknowledged",
        acknowledged.len()
    );
}
