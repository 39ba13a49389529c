//! Recorded requests under another set, and under their own.

use std::{collections::HashMap, time::SystemTime};

use proptest::prelude::*;

use super::*;
use crate::{
    again,
    fixture::{Recorded, START, asked, loaded, session},
    records::requests,
};

const ALLOW_A: &str = "@id(\"a\") permit (principal, action == Action::\"connect\", resource == Host::\"a.example.com\");\n";
const ALLOW_B: &str = "@id(\"b\") permit (principal in User::\"ann\", action == Action::\"connect\", resource == Host::\"b.example.com\");\n";

fn recorded() -> Recorded {
    let ann = session("s-1", "ann", Some("claude"));
    let bob = session("s-2", "bob", None);
    Recorded::of(
        &loaded(&format!("{START}{ALLOW_A}")),
        vec![
            asked(&ann, "connect a.example.com:443"),
            asked(&ann, "connect b.example.com:443"),
            asked(&bob, "connect a.example.com:443"),
            asked(&bob, "connect b.example.com:443"),
        ],
    )
}

#[test]
fn a_candidate_changes_what_it_changes() {
    let recorded = recorded();
    let candidate = loaded(&format!("{START}{ALLOW_B}"));
    let report = replay(&recorded.log(), &candidate, &Selection::default()).unwrap();
    assert_eq!((report.decisions, report.replayed, report.same), (6, 6, 3));
    assert_eq!((report.newly_allowed, report.newly_denied), (1, 2));
    assert_eq!(
        (report.were_allowed, report.newly_denied_basis_points()),
        (4, 5_000)
    );
    let allowed = report
        .changes
        .iter()
        .find(|line| line.change == Change::NewlyAllowed)
        .unwrap();
    assert_eq!(
        (allowed.user.as_str(), allowed.what.as_str()),
        ("ann", "connect b.example.com:443")
    );
    assert_eq!(allowed.now.rules, ["b"]);
    let by = |counts: &[Count], name: &str| {
        let count = counts.iter().find(|count| count.name == name).unwrap();
        (count.newly_allowed, count.newly_denied)
    };
    assert_eq!(by(&report.by_user, "ann"), (1, 1));
    assert_eq!(by(&report.by_user, "bob"), (0, 1));
    assert_eq!(by(&report.by_session, "s-2"), (0, 1));
    assert_eq!(by(&report.by_destination, "a.example.com:443"), (0, 2));
    assert_eq!(by(&report.by_rule, "-"), (0, 2));
    assert_eq!(by(&report.by_rule, "b"), (1, 0));
}

#[test]
fn only_what_is_selected_is_replayed() {
    let recorded = recorded();
    let candidate = loaded(START);
    let of = |selection: Selection| replay(&recorded.log(), &candidate, &selection).unwrap();
    let one = Selection {
        session: Some("s-2".into()),
        ..Selection::default()
    };
    assert_eq!(of(one).decisions, 3);
    let later = Selection {
        since: Some(SystemTime::now() + std::time::Duration::from_secs(60)),
        ..Selection::default()
    };
    assert_eq!(of(later).decisions, 0);
    let earlier = Selection {
        until: Some(SystemTime::UNIX_EPOCH),
        ..Selection::default()
    };
    assert_eq!(of(earlier).decisions, 0);
    let since_the_beginning = Selection {
        since: Some(SystemTime::UNIX_EPOCH),
        ..Selection::default()
    };
    assert_eq!(of(since_the_beginning).decisions, 6);
}

#[test]
fn the_same_request_is_listed_once() {
    let recorded = recorded();
    let selection = Selection::default();
    let all = requests(&recorded.log(), &selection, 100).unwrap();
    assert_eq!(all.len(), 6);
    assert_eq!(requests(&recorded.log(), &selection, 2).unwrap().len(), 2);
}

struct Kept(HashMap<String, Snapshot>);

impl again::Sets for Kept {
    fn by_digest(&mut self, digest: &str) -> Option<&Snapshot> {
        self.0.get(digest)
    }
}

fn kept(rules: &[&str]) -> Kept {
    let sets = rules.iter().map(|rules| loaded(rules));
    Kept(sets.map(|set| (set.digest().to_owned(), set)).collect())
}

#[test]
fn past_decisions_come_out_as_recorded_under_their_own_set() {
    let recorded = recorded();
    let own = format!("{START}{ALLOW_A}");
    let report = again::verify(&recorded.log(), &mut kept(&[&own]), &Selection::default()).unwrap();
    assert_eq!(
        (report.decided_again, report.same, report.different),
        (6, 6, 0)
    );

    let none = again::verify(&recorded.log(), &mut kept(&[START]), &Selection::default()).unwrap();
    assert_eq!((none.decided_again, none.missing_sets[0].decisions), (0, 6));
}

/// Answers for every digest, as a set that was changed under its name would.
struct Wrong(Snapshot);

impl again::Sets for Wrong {
    fn by_digest(&mut self, _digest: &str) -> Option<&Snapshot> {
        Some(&self.0)
    }
}

#[test]
fn a_decision_that_comes_out_differently_is_reported() {
    let recorded = recorded();
    let mut other = Wrong(loaded(&format!("{START}{ALLOW_B}")));
    let report = again::verify(&recorded.log(), &mut other, &Selection::default()).unwrap();
    assert_eq!((report.same, report.different), (3, 3));
    let first = &report.differences[0];
    assert_eq!(first.what, "connect a.example.com:443");
    assert_eq!(first.recorded, "allow by `a`");
    assert_eq!(first.again.words(), "deny: no rule allows it");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// Under the very set that decided, nothing changes, whatever was asked.
    #[test]
    fn replay_under_the_same_policy_changes_nothing(
        words in prop::collection::vec(
            prop_oneof![
                ("[a-c]", 1_u16..1_000).prop_map(|(name, port)| format!("connect {name}.example.com:{port}")),
                "[a-c]".prop_map(|name| format!("GET http://{name}.example.com:80/x")),
                "[a-c]".prop_map(|name| format!("grant rw /srv/{name}")),
                "[a-c]".prop_map(|name| format!("enable connector {name}")),
            ],
            1..30,
        ),
        port in 1_u16..1_000,
    ) {
        let rules = format!(
            "{START}{ALLOW_A}\
             permit (principal, action == Action::\"connect\", resource) when {{ context.port < {port} }};\n\
             forbid (principal, action in Action::\"network\", resource in Domain::\"c.example.com\");\n\
             permit (principal, action in Action::\"grant\", resource in Folder::\"/srv/a\");\n\
             permit (principal, action == Action::\"enable_connector\", resource == Connector::\"b\") when {{ context has approval }};\n"
        );
        let snapshot = loaded(&rules);
        let ann = session("s-1", "ann", Some("claude"));
        let requests = words.iter().map(|words| asked(&ann, words)).collect();
        let recorded = Recorded::of(&snapshot, requests);
        let report = replay(&recorded.log(), &snapshot, &Selection::default()).unwrap();
        prop_assert_eq!(report.same, report.decisions);
        prop_assert_eq!(report.by_other_rules, 0);
        prop_assert!(report.not_replayed.is_empty());
        let again = again::verify(&recorded.log(), &mut kept(&[&rules]), &Selection::default()).unwrap();
        prop_assert_eq!(again.same, report.decisions);
    }
}
