//! Tests for a draft: what it says about a member of each group, and about a host in none.
//!
//! They hold the draft to what was imported while somebody edits it.

use std::fmt::Write as _;

use cordon_audit::Effect;
use cordon_policy::{
    Snapshot,
    ask::{self, Given},
};

use super::Imported;
use crate::outcome::Outcome;

/// The test file; without tests where the draft does not load.
pub(super) fn of(imported: &Imported) -> String {
    let mut text =
        String::from("# What the draft says. Change a test only when it should change.\n");
    let Ok(snapshot) = Snapshot::load(&imported.source()) else {
        return text;
    };
    add(
        &mut text,
        &snapshot,
        "a host that is on no list",
        "on-no-list.example",
        &PORTS,
    );
    for (name, members) in imported.groups.iter().take(MOST_GROUPS) {
        for member in members.iter().take(MOST_MEMBERS) {
            let host = match member.strip_prefix("*.") {
                Some(domain) => format!("below.{domain}"),
                None => member.clone(),
            };
            let ports = PORTS
                .iter()
                .copied()
                .find(|port| is_allowed(&snapshot, &host, *port));
            let port = ports.unwrap_or(443);
            add(
                &mut text,
                &snapshot,
                &format!("{name}: {member}"),
                &host,
                &[port],
            );
        }
    }
    text
}

const MOST_GROUPS: usize = 200;
const MOST_MEMBERS: usize = 3;
const PORTS: [u16; 3] = [443, 80, 22];

fn add(text: &mut String, snapshot: &Snapshot, name: &str, host: &str, ports: &[u16]) {
    for port in ports {
        let words = format!("connect {host}:{port}");
        let Some(outcome) = outcome(snapshot, &words) else {
            continue;
        };
        let then = match outcome.effect {
            Effect::Allow => "allow",
            Effect::Ask => "ask",
            Effect::Deny | Effect::Error => "deny",
        };
        // Writing to a string cannot fail.
        let _infallible = write!(
            text,
            "\n[[test]]\nname = {:?}\nwhen = {words:?}\nthen = {then:?}\n",
            format!("{name}, port {port}")
        );
        if let Some(rule) = outcome.rules.first() {
            let _infallible = writeln!(text, "rule = {rule:?}");
        }
    }
}

fn is_allowed(snapshot: &Snapshot, host: &str, port: u16) -> bool {
    outcome(snapshot, &format!("connect {host}:{port}"))
        .is_some_and(|outcome| outcome.effect == Effect::Allow)
}

fn outcome(snapshot: &Snapshot, words: &str) -> Option<Outcome> {
    let operation = ask::parse(words).ok()?;
    Some(Outcome::of(snapshot, &Given::default().request(operation)))
}
