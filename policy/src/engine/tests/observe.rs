//! Observe mode, the shadow of a candidate, and obligations.

use std::{collections::BTreeSet, time::Duration};

use super::*;
use crate::{DenyReason, ShadowEffect, Wall};

const PERMIT: &str = "@id(\"p\") permit (principal, action in [Action::\"network\", Action::\"session\"], resource);\n";

fn at(request: Request, moment: &str) -> Request {
    let at = moment.parse::<Observe>().unwrap().until;
    Request { at, ..request }
}

fn observed(snapshot: &Snapshot, request: Request) -> Option<(DenyReason, Vec<String>)> {
    let observed = basis(snapshot, request).observed?;
    let rules = observed.rules.iter().map(|rule| rule.id.to_string());
    Some((observed.reason, rules.collect()))
}

#[test]
fn a_rule_under_observe_is_noted_and_enforces_from_its_end() {
    let rules = format!(
        "{PERMIT}@id(\"new\") @observe(\"9000-01-02\") forbid (principal, action, resource == Host::\"a.test\");
         @id(\"old\") forbid (principal, action, resource == Host::\"b.test\");"
    );
    let snapshot = load(&rules, "");
    assert!(snapshot.warnings().is_empty());
    let noted = Some((DenyReason::Rule, vec!["new".to_owned()]));
    for (target, day, expected, seen) in [
        ("a.test:443", "2026-11-20", "allow p", &noted),
        ("a.test:443", "9000-01-01", "allow p", &noted),
        ("a.test:443", "9000-01-02", "rule new", &None),
        ("b.test:443", "2026-11-20", "rule old", &None),
        ("c.test:443", "2026-11-20", "allow p", &None),
    ] {
        // The second time from what was kept: the end must count all the same.
        for _time in 0..2 {
            let request = at(connect(target), day);
            assert_eq!(
                outcome(&snapshot, request.clone()),
                expected,
                "{target} {day}"
            );
            assert_eq!(observed(&snapshot, request), *seen, "{target} {day}");
        }
    }
}

#[test]
fn a_rule_under_observe_that_fails_is_a_deny() {
    let rules = format!(
        "{PERMIT}@id(\"new\") @observe(\"9000-01-02\") forbid (principal, action == Action::\"connect\", resource) when {{ context.port + 9223372036854775807 > 5 }};"
    );
    let snapshot = load(&rules, "");
    assert_eq!(
        outcome(&snapshot, connect("a.test:443")),
        "evaluation_error"
    );
    assert_eq!(outcome(&snapshot, http("GET", "a.test", "/")), "allow p");
}

#[test]
fn an_end_in_the_past_is_a_warning_and_enforces() {
    let rules = format!(
        "{PERMIT}@id(\"new\") @observe(\"2001-01-01\") forbid (principal, action, resource == Host::\"a.test\");"
    );
    let snapshot = load(&rules, "");
    let warning = snapshot.warnings()[0].headline();
    assert!(
        warning.contains("ended on 2001-01-01T00:00:00Z"),
        "{warning}"
    );
    assert_eq!(outcome(&snapshot, connect("a.test:443")), "rule new");
}

#[test]
fn a_whole_set_whose_end_is_past_is_a_warning_and_enforces() {
    let rules = format!("{PERMIT}forbid (principal, action, resource == Host::\"a.test\");");
    let with_end = |end: &str| {
        let source = PolicySource {
            observe: Some(end.parse().unwrap()),
            ..source(&rules, "")
        };
        Snapshot::load(&source).unwrap()
    };
    let ended = with_end("2001-01-01");
    let warning = ended.warnings()[0].headline();
    assert!(
        warning.contains("`[observe]` ended on 2001-01-01T00:00:00Z"),
        "{warning}"
    );
    assert_eq!(outcome(&ended, connect("a.test:443")), "rule test.cedar:2");
    // The control: one that goes on is no warning and lets through.
    let observing = with_end("9000-01-01");
    assert_eq!(observing.warnings(), []);
    assert_eq!(outcome(&observing, connect("a.test:443")), "allow");
}

#[test]
fn observe_belongs_on_a_forbid_and_needs_an_end() {
    for (rule, expected) in [
        (
            "@observe(\"9000-01-01\") permit (principal, action, resource);",
            "stands on a `permit`",
        ),
        (
            "@observe(\"soon\") forbid (principal, action, resource);",
            "not a date",
        ),
        (
            "@observe forbid (principal, action, resource);",
            "not a date",
        ),
    ] {
        let refused = refusal(rule, "");
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn n15_a_set_under_observe_lets_through_what_its_rules_refuse_until_its_end() {
    let rules = "@id(\"p\") permit (principal, action == Action::\"connect\", resource == Host::\"yes.test\");
        @id(\"f\") forbid (principal, action == Action::\"connect\", resource == Host::\"no.test\");
        @id(\"a\") permit (principal, action == Action::\"connect\", resource == Host::\"ask.test\") when { context has approval };
        @id(\"e\") forbid (principal, action == Action::\"connect\", resource == Host::\"error.test\") when { context.port + 9223372036854775807 > 5 };";
    let mut source = source(rules, "");
    source.observe = Some("9000-01-02".parse().unwrap());
    let snapshot = Snapshot::load(&source).unwrap();
    let noted = |reason, rule: &str| {
        let rules = (!rule.is_empty()).then(|| rule.to_owned());
        Some((reason, rules.into_iter().collect::<Vec<_>>()))
    };
    for (target, during, seen, after) in [
        ("yes.test:443", "allow p", None, "allow p"),
        (
            "no.test:443",
            "allow",
            noted(DenyReason::Rule, "f"),
            "rule f",
        ),
        (
            "ask.test:443",
            "allow",
            noted(DenyReason::ApprovalRequired, "a"),
            "approval_required a",
        ),
        (
            "other.test:443",
            "allow",
            noted(DenyReason::DefaultDeny, ""),
            "default_deny",
        ),
        (
            "error.test:443",
            "evaluation_error",
            None,
            "evaluation_error",
        ),
    ] {
        let request = at(connect(target), "9000-01-01");
        assert_eq!(outcome(&snapshot, request.clone()), during, "{target}");
        assert_eq!(observed(&snapshot, request), seen, "{target}");
        let request = at(connect(target), "9000-01-02");
        assert_eq!(outcome(&snapshot, request.clone()), after, "{target}");
        assert_eq!(observed(&snapshot, request), None, "{target}");
    }
}

#[test]
fn n15_a_set_under_observe_opens_neither_the_walls_nor_the_administration() {
    let mut source = source("", "");
    source.observe = Some("9000-01-02".parse().unwrap());
    let snapshot = Snapshot::load(&source).unwrap();
    for request in every_kind() {
        let closed = match &request.operation {
            Operation::Approve { .. }
            | Operation::PublishPolicy { .. }
            | Operation::PublishPort { .. }
            | Operation::ManageSession { .. }
            | Operation::ReadLog { .. } => Some("default_deny"),
            Operation::StartSession { .. } if request.session.backend == Backend::None => {
                Some("default_deny")
            }
            Operation::ReachAddress { .. } => Some("address_not_permitted"),
            _ => None,
        };
        let words = format!("{:?}", request.operation);
        assert_eq!(
            outcome(&snapshot, request),
            closed.unwrap_or("allow"),
            "{words}"
        );
    }
    let crooked = grant("/home/../etc", GrantMode::Ro, GrantSource::CommandLine);
    assert_eq!(outcome(&snapshot, crooked), "malformed");
}

#[test]
fn n15_what_nothing_permits_is_denied_in_every_mode() {
    // Whatever is asked, a permit of something else makes nothing of it an allow.
    let rules = "@id(\"p\") permit (principal, action == Action::\"connect\", resource == Host::\"only.test\");
        @id(\"a\") permit (principal, action == Action::\"connect\", resource == Host::\"ask.test\") when { context has approval };
        @id(\"o\") @observe(\"9000-01-02\") forbid (principal, action, resource == Host::\"no.test\");";
    let plain = load(rules, "");
    let mut ended = source(rules, "");
    ended.observe = Some("1970-01-02".parse().unwrap());
    let ended = Snapshot::load(&ended).unwrap();
    let everything = load("@id(\"all\") permit (principal, action, resource);", "");
    let given = || crate::ApprovalRef {
        id: "a".into(),
        digest: "d".into(),
        given: Some(crate::GivenApproval {
            scope: crate::ApprovalScope::Session,
            by: vec!["bob".into()],
            at: std::time::SystemTime::UNIX_EPOCH,
        }),
    };
    let is_allowed = |request: &Request| {
        let modes = [
            plain.decide(request.clone()),
            ended.decide(request.clone()),
            plain.decide_approved(request.clone(), given()),
            plain.decide_beside(&NOTHING, request.clone(), None, &everything),
        ];
        modes.map(|decision| matches!(decision, Decision::Allow(_)))
    };
    for request in every_kind() {
        assert_eq!(is_allowed(&request), [false; 4], "{:?}", request.operation);
    }
    // The controls: what is permitted, and what an approval was asked for.
    assert_eq!(is_allowed(&connect("only.test:443")), [true; 4]);
    let approved_alone = [false, false, true, false];
    assert_eq!(is_allowed(&connect("ask.test:443")), approved_alone);
}

#[test]
fn n15_a_candidate_is_noted_and_changes_nothing() {
    let live = load(PERMIT, "");
    let overflow = "forbid (principal, action == Action::\"connect\", resource) when { context.port + 9223372036854775807 > 5 };";
    for (candidate, effect, rules) in [
        (PERMIT.to_owned(), ShadowEffect::Allow, vec!["p"]),
        (String::new(), ShadowEffect::Deny, vec![]),
        (
            "@id(\"n\") forbid (principal, action, resource);".into(),
            ShadowEffect::Deny,
            vec!["n"],
        ),
        (
            "@id(\"a\") permit (principal, action, resource) when { context has approval };".into(),
            ShadowEffect::Ask,
            vec!["a"],
        ),
        (format!("{PERMIT}{overflow}"), ShadowEffect::Error, vec![]),
    ] {
        let mut source = source(&candidate, "");
        source.revision = Some(12);
        let candidate = Snapshot::load(&source).unwrap();
        let decision = live.decide_beside(&NOTHING, connect("a.test:443"), None, &candidate);
        let Decision::Allow(allow) = decision else {
            panic!("the candidate changed the decision: {effect:?}");
        };
        let basis = &allow.verdict().basis;
        assert_eq!(&*basis.digest, live.digest());
        let shadow = basis.shadow.as_ref().unwrap();
        assert_eq!(shadow.effect, effect);
        assert_eq!(shadow.revision, Some(12));
        assert_eq!(&*shadow.digest, candidate.digest());
        let found: Vec<&str> = shadow.rules.iter().map(|rule| &*rule.id).collect();
        assert_eq!(found, rules);
        // A permissive candidate does not open what the live set refuses.
        let Decision::Deny(deny) =
            load("", "").decide_beside(&NOTHING, connect("a.test:443"), None, &candidate)
        else {
            panic!("the candidate opened it: {effect:?}");
        };
        assert_eq!(deny.verdict().basis.shadow.as_ref().unwrap().effect, effect);
    }
}

#[test]
fn obligations_are_those_of_the_determining_permits() {
    let rules = "@id(\"a\") @durability(\"each\") permit (principal, action == Action::\"connect\", resource in Domain::\"a.test\");
        @id(\"b\") permit (principal, action == Action::\"connect\", resource);
        @id(\"c\") forbid (principal, action == Action::\"connect\", resource) when { context.port == 25 };";
    let snapshot = load(rules, "");
    for (target, expected) in [("x.a.test:443", 1), ("b.test:443", 0), ("x.a.test:25", 0)] {
        let obligations = basis(&snapshot, connect(target)).obligations;
        assert_eq!(obligations.len(), expected, "{target}");
        for obligation in obligations {
            assert_eq!(
                (&*obligation.name, &*obligation.value),
                ("durability", "each")
            );
        }
    }
    assert_eq!(snapshot.rules()[0].obligations.len(), 1);
}

#[test]
fn f14_an_obligation_that_nothing_carries_out_is_an_error_that_names_it() {
    let rule = |annotation: &str, effect: &str| {
        format!("\n{annotation} {effect} (principal, action, resource);")
    };
    for (annotation, effect, expected) in [
        ("@inspect(\"tls\")", "permit", "not about connections alone"),
        ("@tls(\"ech\")", "permit", "not about connections alone"),
        (
            "@credential(\"forge\")",
            "permit",
            "not about HTTP requests alone",
        ),
        (
            "@strip(\"client\")",
            "permit",
            "not about HTTP requests alone",
        ),
        ("@preserve(\"30d\")", "permit", "`@preserve(\"30d\")`"),
        ("@durability(\"eahc\")", "permit", "`@durability(\"eahc\")`"),
        ("@durability(\"each\")", "forbid", "stands on a `forbid`"),
        (
            "@people(\"2\")",
            "permit",
            "not about putting policy into force",
        ),
        (
            "@walls(\"second-wall\")",
            "permit",
            "not about sessions with walls alone",
        ),
        (
            "@id(\"needs-approval\") @approvers(\"2\")",
            "permit",
            "asks for no approval",
        ),
    ] {
        let refused = refusal(&rule(annotation, effect), "");
        assert!(
            refused.contains(expected) && refused.contains("line 2"),
            "{refused}"
        );
    }
    load(&rule("@durability(\"each\")", "permit"), "");
}

#[test]
fn f14_walls_are_asked_for_by_name_where_a_session_starts() {
    let rule = |walls: &str, action: &str| {
        format!("\n@walls(\"{walls}\") permit (principal, action {action}, resource);")
    };
    for (walls, action, expected) in [
        ("moat", "== Action::\"start_session\"", "second-wall"),
        ("", "== Action::\"start_session\"", "second-wall"),
        (
            "second-wall,",
            "== Action::\"start_session\"",
            "second-wall",
        ),
        ("second-wall", "== Action::\"exec\"", "start_session"),
        ("second-wall", "in Action::\"session\"", "start_session"),
    ] {
        let refused = refusal(&rule(walls, action), "");
        assert!(refused.contains(expected), "{refused}");
    }
    let both = "in [Action::\"start_session\", Action::\"exec\"]";
    let snapshot = load(&rule("second-wall, no-delete", both), "");
    let start = Operation::StartSession {
        command: "make".into(),
        profile: SeccompProfile::Default,
    };
    let walls = basis(&snapshot, asked(start)).walls();
    assert_eq!(walls, BTreeSet::from([Wall::NoDelete, Wall::SecondWall]));
}

#[test]
fn f14_obligations_of_the_network_stand_where_something_carries_them_out() {
    let rule = |annotations: &str, action: &str| {
        format!("\n{annotations} permit (principal, action {action}, resource);")
    };
    let (connect, network) = ("== Action::\"connect\"", "in Action::\"network\"");
    let (http, read) = ("in Action::\"http\"", "== Action::\"http_read\"");
    let both = "in [Action::\"http\", Action::\"connect\"]";
    let files = "in [Action::\"http\", Action::\"files\"]";
    for (annotations, action, expected) in [
        ("@inspect", connect, "`@inspect(\"\")`"),
        ("@inspect(\"http\")", connect, "`@inspect(\"http\")`"),
        ("@inspect(\"tls\")", read, "not about connections alone"),
        ("@tls(\"\")", connect, "`@tls(\"\")`"),
        ("@tls(\"ech,ech\")", connect, "`@tls(\"ech,ech\")`"),
        ("@tls(\"ech,sni\")", connect, "`@tls(\"ech,sni\")`"),
        ("@tls(\"ech\")", http, "not about connections alone"),
        ("@credential(\"\")", http, "`@credential(\"\")`"),
        ("@credential(\"Forge\")", http, "`@credential(\"Forge\")`"),
        (
            "@credential(\"forge\")",
            connect,
            "about connections, whose",
        ),
        (
            "@inspect(\"tls\") @credential(\"forge\")",
            connect,
            "`@inspect(\"tls\")` on the rule that permits `connect`",
        ),
        ("@credential(\"forge\")", network, "also permits `connect`"),
        ("@credential(\"forge\")", both, "also permits `connect`"),
        ("@strip(\"client\")", network, "also permits `connect`"),
        ("@strip(\"client\")", files, "not about HTTP requests alone"),
        ("@strip(\"all\")", http, "`@strip(\"all\")`"),
    ] {
        let refused = refusal(&rule(annotations, action), "");
        assert!(
            refused.contains(expected) && refused.contains("line 2"),
            "{annotations} {action}: {refused}"
        );
    }
    for (annotations, action) in [
        ("@inspect(\"tls\")", connect),
        ("@inspect(\"tls\") @tls(\"no-sni, ech, not-tls\")", network),
        ("@credential(\"forge-2\") @strip(\"client\")", http),
        ("@credential(\"forge\")", read),
        ("@inspect(\"tls\") @credential(\"forge\")", network),
        ("@inspect(\"tls\") @strip(\"client\")", both),
    ] {
        let snapshot = load(&rule(annotations, action), "");
        assert!(!snapshot.rules()[0].obligations.is_empty(), "{annotations}");
    }
}

#[test]
fn n12_a_list_of_an_obligation_is_asked_word_by_word() {
    let snapshot = load(
        "@tls(\"no-sni, ech\") permit (principal, action == Action::\"connect\", resource);",
        "",
    );
    let basis = basis(&snapshot, connect("a.test:443"));
    assert!(basis.asks("tls", "no-sni") && basis.asks("tls", "ech"));
    assert!(
        !basis.asks("tls", "not-tls") && !basis.asks("tls", "") && !basis.asks("inspect", "ech")
    );
}

#[test]
fn an_unknown_annotation_does_not_pass_silently() {
    let snapshot = load(
        "@id(\"a\") @severity(\"high\") @description(\"d\") permit (principal, action, resource);
         @raeson(\"a typo\") forbid (principal, action == Action::\"delete\", resource);",
        "",
    );
    let warnings: Vec<String> = snapshot
        .warnings()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("`@raeson`") && warnings[0].contains("`@reason`"),
        "{warnings:?}"
    );
}

#[test]
fn the_time_of_the_request_counts_and_no_clock() {
    let rules = format!(
        "{PERMIT}@id(\"new\") @observe(\"2001-01-01\") forbid (principal, action, resource);"
    );
    let before = Request {
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
        ..connect("a.test:443")
    };
    assert_eq!(outcome(&load(&rules, ""), before), "allow p");
}
