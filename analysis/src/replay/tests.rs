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

/// Every fact of the network that a rule can read, each with a request that has it. The rule
/// permits only where the fact is as it says, so a record without the fact would be found out.
const FACTS: &[(&str, &str)] = &[
    (
        "context has tls && context.tls.kind == \"not-tls\"",
        "connect a.test:443 tls not-tls",
    ),
    (
        "context has tls.sni && context.tls.sni == \"b.test\"",
        "connect a.test:443 tls hello sni b.test",
    ),
    (
        "context has tls && context.tls.sni_matches",
        "connect a.test:443 tls hello sni a.test",
    ),
    (
        "context has tls && context.tls.alpn.contains(\"h2\")",
        "connect a.test:443 tls hello alpn h2",
    ),
    (
        "context has tls && context.tls.ech",
        "connect a.test:443 tls hello ech",
    ),
    (
        "context has tls.ja4 && context.tls.ja4 == \"t13d\"",
        "connect a.test:443 tls hello ja4 t13d",
    ),
    (
        "context has tls.version && context.tls.version == \"1.3\"",
        "connect a.test:443 tls hello version 1.3",
    ),
    (
        "context has tls && context.tls.inspected",
        "connect a.test:443 tls hello inspected",
    ),
    (
        "context has names && context.names.contains(\"cdn.test\")",
        "connect a.test:443 cname x.cdn.test",
    ),
    (
        "context.address_unverified",
        "connect a.test:443 unverified",
    ),
    ("context.scheme == \"https\"", "GET https://a.test/x"),
    (
        "context has tls && context.tls.inspected",
        "GET https://a.test/x",
    ),
    (
        "context.query_keys.contains(\"q\")",
        "GET http://a.test/x?q=1",
    ),
    (
        "context has content_type && context.content_type == \"text/csv\"",
        "GET http://a.test/x type text/csv",
    ),
    (
        "context has content_length && context.content_length == 77",
        "GET http://a.test/x length 77",
    ),
    ("context.credential", "GET http://a.test/x credential"),
    (
        "context has upgrade && context.upgrade == \"websocket\"",
        "GET http://a.test/x upgrade websocket",
    ),
    (
        "context has names && context.names.contains(\"cdn.test\")",
        "GET http://a.test/x cname cdn.test",
    ),
    (
        "context.address_unverified",
        "GET http://a.test/x unverified",
    ),
];

#[test]
fn decisions_by_what_was_seen_come_out_as_recorded() {
    let ann = session("s-1", "ann", None);
    for (fact, words) in FACTS {
        let action = if words.contains(" upgrade ") {
            "http_upgrade"
        } else if words.starts_with("GET") {
            "http_read"
        } else {
            "connect"
        };
        let rules = format!(
            "{START}@id(\"f\") permit (principal, action == Action::\"{action}\", resource) when {{ {fact} }};\n"
        );
        let all = [words, "connect other.test:443", "GET http://other.test/x"];
        let recorded = Recorded::of(&loaded(&rules), all.map(|words| asked(&ann, words)).into());
        let report = again::verify(&recorded.log(), &mut kept(&[&rules]), &Selection::default());
        let report = report.unwrap();
        assert_eq!(
            (report.decided_again, report.same),
            (4, 4),
            "{rules}: {report:?}"
        );
        // The control: the fact allowed it, and nothing else was allowed.
        let none = again::verify(
            &recorded.log(),
            &mut Wrong(loaded(START)),
            &Selection::default(),
        );
        assert_eq!(none.unwrap().different, 1, "{rules}");
    }
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
