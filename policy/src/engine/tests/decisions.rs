//! Outcomes, reasons and rules.

use super::*;
use crate::ApprovalScope;

const PERMIT_ALL: &str = "@id(\"all\") permit (principal, action, resource);";

#[test]
fn n01_an_empty_list_denies_and_an_absent_one_does_not_load() {
    let rule = "@id(\"r\") permit (principal, action, resource in HostGroup::\"g\");";
    assert_eq!(
        outcome(&load(rule, "g = []"), connect("example.com:443")),
        "default_deny"
    );
    assert_eq!(
        outcome(
            &load(rule, "g = [\"example.com\"]"),
            connect("example.com:443")
        ),
        "allow r"
    );
    let absent = refusal(rule, "other = []");
    assert!(
        absent.contains("no host group \"g\"") && absent.contains("`other`"),
        "{absent}"
    );
    assert!(refusal(rule, "").contains("no host group"));
    // A forbid on an absent group would silently forbid nothing.
    let forbid = format!("{PERMIT_ALL} forbid (principal, action, resource in HostGroup::\"g\");");
    assert!(refusal(&forbid, "").contains("no host group"));
}

#[test]
fn an_empty_set_denies_everything() {
    let snapshot = load("", "");
    for request in every_kind() {
        let expected = match request.operation {
            Operation::ReachAddress { .. } => "address_not_permitted",
            _ => "default_deny",
        };
        assert_eq!(outcome(&snapshot, request), expected);
    }
}

#[test]
fn no_rule_allows_a_special_use_address() {
    let snapshot = load(PERMIT_ALL, "");
    for request in every_kind() {
        let expected = match request.operation {
            Operation::ReachAddress { .. } => "address_not_permitted",
            _ => "allow all",
        };
        assert_eq!(outcome(&snapshot, request), expected);
    }
}

#[test]
fn forbid_wins_and_both_say_why() {
    let snapshot = load(
        "@id(\"forges\") @reason(\"fine\") permit (principal, action in Action::\"network\", resource in Domain::\"github.com\");
         @id(\"no-uploads\") @reason(\"uploads are off\") forbid (principal, action, resource == Host::\"uploads.github.com\");
         @id(\"no-ssh\") forbid (principal, action, resource) when { context has port && context.port == 22 };",
        "",
    );
    for (target, expected) in [
        ("github.com:443", "allow forges"),
        ("api.github.com:443", "allow forges"),
        ("uploads.github.com:443", "rule no-uploads"),
        ("uploads.github.com:22", "rule no-uploads,no-ssh"),
        ("github.com:22", "rule no-ssh"),
        ("example.com:443", "default_deny"),
        ("example.com:22", "rule no-ssh"),
    ] {
        assert_eq!(outcome(&snapshot, connect(target)), expected, "{target}");
    }
    let Decision::Deny(deny) = snapshot.decide(connect("uploads.github.com:443")) else {
        panic!("allowed");
    };
    let basis = &deny.verdict().basis;
    assert_eq!(basis.rules[0].reason.as_deref(), Some("uploads are off"));
    assert_eq!(&*basis.policy, "test");
    assert_eq!(&*basis.digest, snapshot.digest());
}

#[test]
fn n13_every_transport_gets_the_same_decision() {
    let snapshot = load(
        "@id(\"n\") permit (principal, action in Action::\"network\", resource in Domain::\"github.com\") when { context.port == 80 };",
        "",
    );
    for (target, expected) in [
        ("api.github.com:80", "allow n"),
        ("api.github.com:81", "default_deny"),
        ("evil.com:80", "default_deny"),
    ] {
        for transport in [
            Transport::HttpConnect,
            Transport::Socks5,
            Transport::Capture,
        ] {
            let request = connect_by(target, transport);
            assert_eq!(
                outcome(&snapshot, request),
                expected,
                "{target} {transport:?}"
            );
        }
        for method in ["GET", "POST", "DELETE", "BREW"] {
            let request = http(method, target, "/");
            assert_eq!(outcome(&snapshot, request), expected, "{target} {method}");
        }
    }
}

#[test]
fn n14_the_spelling_does_not_change_the_decision() {
    let snapshot = load(
        "@id(\"n\") permit (principal, action, resource == Host::\"api.github.com\");
         @id(\"m\") permit (principal, action, resource == Address::\"192.0.2.7\");",
        "",
    );
    for target in ["api.github.com:443", "API.GitHub.COM.:443"] {
        assert_eq!(outcome(&snapshot, connect(target)), "allow n", "{target}");
    }
    for target in [
        "192.0.2.7:443",
        "0xc0.0.2.7:443",
        "[::ffff:c000:207]:443",
        "3221225991:443",
    ] {
        assert_eq!(outcome(&snapshot, connect(target)), "allow m", "{target}");
    }
    assert_eq!(outcome(&snapshot, connect("192.0.2.8:443")), "default_deny");
    // The door may build the mapped form itself; policy sees the one address all the same.
    let mut mapped = connect("192.0.2.7:443");
    if let Operation::Connect { destination, .. } = &mut mapped.operation {
        destination.host = crate::Host::Address("::ffff:192.0.2.7".parse().unwrap());
    }
    assert_eq!(outcome(&snapshot, mapped), "allow m");
}

#[test]
fn n04_name_patterns_never_match_address_literals() {
    let snapshot = load(
        "@id(\"n\") permit (principal, action in Action::\"network\", resource is Host) when { resource.name like \"*\" };",
        "",
    );
    assert_eq!(outcome(&snapshot, connect("example.com:443")), "allow n");
    assert_eq!(outcome(&snapshot, connect("192.0.2.7:443")), "default_deny");
    assert_eq!(outcome(&snapshot, connect("127.1:443")), "default_deny");
}

#[test]
fn asking_is_the_outcome_only_where_an_approval_would_help() {
    let rules = "@id(\"ask\") permit (principal, action == Action::\"connect\", resource in Domain::\"example.com\") when { context has approval };
         @id(\"open\") permit (principal, action == Action::\"connect\", resource == Host::\"open.example.com\");
         @id(\"guard\") forbid (principal, action == Action::\"connect\", resource == Host::\"guarded.example.com\") unless { context has approval };
         @id(\"never\") forbid (principal, action, resource == Host::\"never.example.com\");";
    let snapshot = load(rules, "");
    for (target, expected) in [
        ("a.example.com:443", "approval_required ask"),
        ("open.example.com:443", "allow open"),
        ("guarded.example.com:443", "approval_required ask"),
        ("never.example.com:443", "rule never"),
        ("other.com:443", "default_deny"),
    ] {
        assert_eq!(outcome(&snapshot, connect(target)), expected, "{target}");
    }
}

#[test]
fn p04_an_approval_lifts_what_asks_for_one_and_no_other_refusal() {
    let rules = "@id(\"ask\") @approvers(\"2\") permit (principal, action == Action::\"connect\", resource in Domain::\"example.com\") when { context has approval };
         @id(\"long\") permit (principal, action == Action::\"connect\", resource == Host::\"long.test\") when { context has approval && context.approval.scope == \"session\" };
         @id(\"never\") forbid (principal, action, resource == Host::\"never.example.com\");";
    let snapshot = load(rules, "");
    let given = |scope| crate::ApprovalRef {
        id: "a".into(),
        digest: "d".into(),
        given: Some(crate::GivenApproval {
            scope,
            by: vec!["bob".into()],
            at: std::time::SystemTime::UNIX_EPOCH,
        }),
    };
    for (target, scope, expected) in [
        ("a.example.com:443", ApprovalScope::Once, true),
        ("never.example.com:443", ApprovalScope::Session, false),
        ("other.com:443", ApprovalScope::Session, false),
        ("long.test:443", ApprovalScope::Once, false),
        ("long.test:443", ApprovalScope::Session, true),
    ] {
        match snapshot.decide_approved(connect(target), given(scope)) {
            Decision::Allow(allow) => {
                let basis = &allow.verdict().basis;
                assert!(expected, "{target}");
                assert_eq!(&*basis.approval.as_ref().unwrap().id, "a");
            }
            Decision::Deny(_) => assert!(!expected, "{target}"),
        }
    }
    let asked = snapshot.decide(connect("a.example.com:443"));
    let Decision::Deny(asked) = asked else {
        panic!("{asked:?}")
    };
    let asks_two = asked.verdict().basis.asks("approvers", "2");
    assert!(asks_two, "how many must approve is told with the question");
}

#[test]
fn f07_a_path_that_is_not_canonical_is_malformed() {
    let snapshot = load(
        "@id(\"home\") permit (principal, action, resource in Folder::\"/home\");
         @id(\"not-keys\") forbid (principal, action, resource in Folder::\"/home/alice/.ssh\");",
        "",
    );
    for (path, expected) in [
        ("/home/alice/project", "allow home"),
        ("/home", "allow home"),
        ("/home/alice/.ssh", "rule not-keys"),
        ("/home/alice/.ssh/keys", "rule not-keys"),
        ("/home/alice/.sshx", "allow home"),
        ("/homes/alice", "default_deny"),
        ("/home/alice/x/../.ssh", "malformed"),
        ("/home/alice//.ssh", "malformed"),
        ("/home/alice/.ssh/", "malformed"),
        ("home/alice", "malformed"),
    ] {
        let request = grant(path, GrantMode::Ro, GrantSource::CommandLine);
        assert_eq!(outcome(&snapshot, request), expected, "{path}");
    }
}

#[test]
fn f20_delete_is_its_own_decision() {
    let snapshot = load(
        "@id(\"grants\") permit (principal, action in Action::\"grant\", resource);
         @id(\"del\") permit (principal, action == Action::\"delete\", resource in Folder::\"/p\") when { context.mode == \"rwd\" };",
        "",
    );
    assert_eq!(
        outcome(&snapshot, delete("/p/a", GrantMode::Rwd)),
        "allow del"
    );
    assert_eq!(
        outcome(&snapshot, delete("/p/a", GrantMode::Rw)),
        "default_deny"
    );
    assert_eq!(
        outcome(&snapshot, delete("/q/a", GrantMode::Rwd)),
        "default_deny"
    );
}

#[test]
fn principals_are_told_apart() {
    let rules = |scope: &str| format!("@id(\"r\") permit (principal {scope}, action, resource);");
    for (scope, expected) in [
        ("in Group::\"developers\"", "allow r"),
        ("in Group::\"Developers\"", "default_deny"),
        ("in User::\"alice\"", "allow r"),
        ("in User::\"bob\"", "default_deny"),
        ("in Agent::\"claude\"", "allow r"),
        ("in Agent::\"codex\"", "default_deny"),
        ("in Platform::\"linux\"", "allow r"),
        ("in Platform::\"macos\"", "default_deny"),
        ("is Session", "allow r"),
        ("is Session in Group::\"staff\"", "allow r"),
        ("== Session::\"another\"", "default_deny"),
    ] {
        let snapshot = load(&rules(scope), "");
        assert_eq!(
            outcome(&snapshot, connect("example.com:443")),
            expected,
            "{scope}"
        );
    }
}

#[test]
fn n20_rules_and_digest_say_what_is_in_force() {
    let text = "\n@id(\"a\")\n@reason(\"because\")\npermit (principal, action, resource);\n\nforbid (principal, action == Action::\"delete\", resource);\n";
    let snapshot = load(text, "");
    let rules = snapshot.rules();
    assert_eq!(
        (&*rules[0].id, rules[0].line, rules[0].effect),
        ("a", 2, Effect::Permit)
    );
    assert_eq!(rules[0].reason.as_deref(), Some("because"));
    assert_eq!(
        (&*rules[1].id, rules[1].line, rules[1].effect),
        ("test.cedar:6", 6, Effect::Forbid)
    );
    assert!(rules[1].text.starts_with("forbid"));
    assert_eq!(snapshot.digest().len(), 64);
    assert_eq!(snapshot.digest(), load(text, "").digest());
    assert_ne!(
        snapshot.digest(),
        load(&text.replace("because", "becausf"), "").digest()
    );
    assert_ne!(snapshot.digest(), load(text, "g = []").digest());
}

#[test]
fn n13_a_set_knows_whether_it_speaks_of_requests() {
    for (rule, expected) in [
        (
            "permit (principal, action in Action::\"network\", resource);",
            false,
        ),
        (
            "permit (principal, action == Action::\"connect\", resource);",
            false,
        ),
        ("forbid (principal, action, resource);", false),
        (
            "@reason(\"the path of http_read\") permit (principal, action in Action::\"network\", \
             resource) when { context.port == 443 };",
            false,
        ),
        (
            "permit (principal, action == Action::\"start_session\", resource) \
             when { context.command == \"path\" };",
            false,
        ),
        (
            "permit (principal, action in Action::\"http\", resource);",
            true,
        ),
        (
            "forbid (principal, action == Action::\"http_write\", resource);",
            true,
        ),
        (
            "permit (principal, action in [Action::\"connect\", Action::\"http_upgrade\"], resource);",
            true,
        ),
        (
            "forbid (principal, action in Action::\"network\", resource) \
             when { action == Action::\"http_write\" };",
            true,
        ),
        (
            "forbid (principal, action in Action::\"network\", resource) \
             when { context has \"meth\\u{6f}d\" };",
            true,
        ),
        (
            "forbid (principal, action, resource) when { context has credential };",
            true,
        ),
        (
            "forbid (principal, action in Action::\"network\", resource) \
             unless { action == Action::\"connect\" };",
            true,
        ),
    ] {
        assert_eq!(load(rule, "").speaks_of_requests(), expected, "{rule}");
    }
}

#[test]
fn n13_an_upgrade_is_no_reading() {
    let permit = |action: &str| {
        let rules = format!("@id(\"r\") permit (principal, action {action}, resource);");
        let snapshot = load(&rules, "");
        // In either order: what is kept of the one must not answer for the other.
        ["GET", "POST"].map(|method| {
            let plain = outcome(&snapshot, http(method, "a.test", "/ws"));
            let upgrade = outcome(&snapshot, upgrade(method, "a.test"));
            [plain == "allow r", upgrade == "allow r"]
        })
    };
    let each = "in [Action::\"http_read\", Action::\"http_write\", Action::\"http_delete\", \
                Action::\"http_other\"]";
    for (action, expected) in [
        ("== Action::\"http_read\"", [[true, false], [false, false]]),
        (each, [[true, false], [true, false]]),
        (
            "== Action::\"http_upgrade\"",
            [[false, true], [false, true]],
        ),
        ("in Action::\"http\"", [[true, true], [true, true]]),
        ("in Action::\"network\"", [[true, true], [true, true]]),
    ] {
        assert_eq!(permit(action), expected, "{action}");
    }
}

#[test]
fn what_is_kept_of_a_session_never_answers_for_another() {
    let rules = r#"
        @id("claude") permit (principal in Agent::"claude", action == Action::"connect",
            resource == Host::"a.test") when { context.port == 443 };
        @id("reads") permit (principal, action == Action::"http_read",
            resource == Host::"a.test");
    "#;
    let snapshot = load(rules, "");
    let other = Arc::new(SessionFacts {
        agent: None,
        ..(*session()).clone()
    });
    let mine = session();
    let questions = [
        connect("a.test:443"),
        connect("a.test:80"),
        connect("b.test:443"),
        http("GET", "a.test", "/"),
        http("POST", "a.test", "/"),
    ];
    // The same facts by the same address, so that the second round is answered from what is kept;
    // the other session has the same id and other facts.
    for _round in 0..2 {
        for facts in [&mine, &other] {
            for question in &questions {
                let asked = Request {
                    session: Arc::clone(facts),
                    ..question.clone()
                };
                let fresh = load(rules, "");
                assert_eq!(
                    outcome(&snapshot, asked.clone()),
                    outcome(&fresh, asked.clone()),
                    "{asked:?}"
                );
            }
        }
    }
    let by = |facts: &Arc<SessionFacts>| {
        let request = Request {
            session: Arc::clone(facts),
            ..connect("a.test:443")
        };
        outcome(&snapshot, request)
    };
    assert_eq!(by(&mine), "allow claude");
    assert_eq!(by(&other), "default_deny");
}

#[test]
fn administration_is_never_asked_about() {
    let snapshot = load(
        "@id(\"a\") permit (principal, action, resource) when { context has approval };
         @id(\"b\") permit (principal in Group::\"staff\", action == Action::\"read_log\", resource);",
        "",
    );
    for request in every_kind() {
        let expected = match &request.operation {
            Operation::ReadLog { .. } => "allow b",
            Operation::Approve { .. }
            | Operation::ManageSession { .. }
            | Operation::PublishPolicy { .. } => "default_deny",
            Operation::ReachAddress { .. } => "address_not_permitted",
            _ => "approval_required a",
        };
        assert_eq!(outcome(&snapshot, request), expected);
    }
}

#[test]
fn sessions_do_not_push_each_other_out() {
    let snapshot = load("@id(\"r\") permit (principal, action, resource);", "");
    let sessions: Vec<Arc<SessionFacts>> = (0..40).map(|_| session()).collect();
    let ask = |facts: &Arc<SessionFacts>, host: String| {
        let request = Request {
            session: Arc::clone(facts),
            ..connect(&host)
        };
        assert_eq!(outcome(&snapshot, request), "allow r");
    };
    for _round in 0..3 {
        for facts in &sessions {
            (0..20).for_each(|host| ask(facts, format!("h{host}.test:443")));
        }
    }
    assert_eq!(snapshot.kept.questions(), 40 * 20);
    // One that scans stays within bounds, and its facts are let go with what was kept.
    let scanning = session();
    (0..10_000).for_each(|host| ask(&scanning, format!("x{host}.test:443")));
    assert!(snapshot.kept.questions() <= 4_096);
    drop(snapshot);
    assert_eq!(Arc::strong_count(&scanning), 1);
}

#[test]
fn f03_a_set_made_invalid_is_no_set_and_the_good_one_decides_on() {
    let good = load(
        &format!(
            "{PERMIT_ALL} @id(\"no\") forbid (principal, action, resource == Host::\"no.test\");"
        ),
        "",
    );
    for broken in [
        "forbid (principal",
        "forbid (principal, action, resource) when { context.nope };",
        "\u{0}",
    ] {
        assert!(
            Snapshot::load(&source(&format!("{PERMIT_ALL}{broken}"), "")).is_err(),
            "{broken}"
        );
        assert_eq!(outcome(&good, connect("no.test:443")), "rule no");
        assert_eq!(outcome(&good, connect("yes.test:443")), "allow all");
    }
}
