//! What the engine puts to Cedar is what the schema says, and what `decide` skips is only work.

use cedar_policy::{Context, Entities};

use super::*;
use crate::schema::schema;

#[test]
fn every_question_conforms_to_the_schema() {
    let snapshot = load(
        "permit (principal, action, resource in HostGroup::\"g\");
         permit (principal, action, resource) when { resource in Folder::\"/home\" };
         permit (principal, action, resource in Domain::\"com\");
         permit (principal, action, resource in Network::\"192.0.2.0/24\");",
        "g = [\"*.github.com\"]",
    );
    let schema = schema().unwrap();
    for approved in [false, true] {
        for request in every_kind() {
            let asker = all_facts(&snapshot);
            if matches!(request.operation, Operation::ReachAddress { .. }) {
                assert!(asker.ask(&request).is_err());
                continue;
            }
            let mut question = asker.ask(&request).unwrap();
            if approved && question.can_be_approved {
                question
                    .context
                    .push(question::hypothetical_approval().unwrap());
            }
            Entities::from_entities(question.entities, Some(schema))
                .unwrap_or_else(|e| panic!("{request:?}: {e}"));
            cedar_policy::Request::new(
                question.principal,
                question.action.uid.clone(),
                question.resource,
                Context::from_pairs(question.context).unwrap(),
                Some(schema),
            )
            .unwrap_or_else(|e| panic!("{request:?}: {e}"));
        }
    }
}

#[test]
fn what_was_seen_is_there_when_a_rule_looks_at_it() {
    let request = every_kind().into_iter().find(|request| {
        matches!(&request.operation, Operation::HttpRequest { facts, .. } if facts.credential)
    });
    let request = request.unwrap();
    let rule = |condition: &str| {
        let text = format!(
            "@id(\"r\") permit (principal, action == Action::\"http_upgrade\", resource is Host) when {{ {condition} }};"
        );
        outcome(&load(&text, ""), request.clone())
    };
    for holds in [
        "context.scheme == \"https\"",
        "[\"a\", \"b\", \"c\"].containsAll(context.query_keys) && context.query_keys.contains(\"a\")",
        "context has content_type && context.content_type == \"application/json\"",
        "context has content_length && context.content_length == 9007199254740991",
        "context.credential",
        "context has upgrade && context.upgrade == \"websocket\"",
        "context has tls && context.tls.kind == \"hello\" && context.tls.ech",
        "context has tls && context.tls.sni_matches && !context.tls.inspected",
        "context has tls.sni && context.tls.sni == \"api.github.com\"",
        "context has tls && context.tls.alpn == [\"http/1.1\", \"h2\"]",
        "context has tls.ja4 && context.tls.ja4 like \"t13d*\"",
        "context has tls.version && context.tls.version == \"1.3\"",
        "context has names && context.names.containsAll([\"edge.cdn.test\", \"cdn.test\", \"test\"])",
        "context.address_unverified",
        "context has process && context.process.executable == \"/usr/bin/curl\"",
        "context has process && context.process.ancestors.contains(\"/usr/bin/bash\")",
        "context has process.digest && context.process.digest == \"00ff\"",
        "context[\"cr\\u{65}dential\"]",
    ] {
        assert_eq!(rule(holds), "allow r", "{holds}");
        assert_eq!(rule(&format!("!({holds})")), "default_deny", "!({holds})");
    }
}

#[test]
fn n12_a_set_says_whether_it_reads_what_is_seen_late() {
    let reads = |condition: &str| {
        let text = format!(
            "permit (principal, action == Action::\"connect\", resource) when {{ {condition} }};"
        );
        let snapshot = load(&text, "");
        [
            LateFact::Tls,
            LateFact::Names,
            LateFact::AddressUnverified,
            LateFact::Process,
        ]
        .map(|fact| snapshot.reads(fact))
    };
    assert_eq!(reads("context.port == 443"), [false; 4]);
    assert_eq!(
        reads("context has tls && context.tls.ech"),
        [true, false, false, false]
    );
    assert_eq!(reads("context has names"), [false, true, false, false]);
    assert_eq!(
        reads("!context.address_unverified"),
        [false, false, true, false]
    );
    assert_eq!(reads("context has process"), [false, false, false, true]);
    // With an escape anything may be meant.
    assert_eq!(reads("context has \"tl\\u{73}\""), [true; 4]);
}

#[test]
fn facts_are_there_when_a_rule_looks_at_them() {
    let rule = |condition: &str| {
        let text = format!(
            "@id(\"r\") permit (principal, action == Action::\"connect\", resource is Host) when {{ {condition} }};"
        );
        outcome(&load(&text, ""), connect("api.github.com:443"))
    };
    for holds in [
        "context.time < datetime(\"2026-11-21\")",
        "context[\"t\\u{69}me\"] > datetime(\"2026-11-20T08:59:59Z\")",
        "context.time.toTime() == duration(\"9h\")",
        "resource.name == \"api.github.com\"",
        "resource.labels == 3 && resource.length == 14 && resource.longest_label == 6",
        "resource.entropy < 3700",
        "resource[\"l\\u{61}bels\"] == 3",
        "principal.user == User::\"alice\" && principal has agent && principal.agent == Agent::\"claude\"",
        "principal.user in Group::\"staff\"",
        "principal in Group::\"staff\" && principal in Agent::\"claude\"",
        "principal.platform == \"linux\" && principal in Platform::\"linux\"",
        "principal.backend == \"bubblewrap\"",
        "action in Action::\"network\"",
        "Action::\"http_read\" in Action::\"network\"",
        "Host::\"a.example.com\" in Domain::\"example.com\"",
        "Domain::\"a.example.com\" in Domain::\"example.com\"",
        "Address::\"192.0.2.1\" in Network::\"192.0.2.0/24\"",
        "Network::\"192.0.2.0/24\" in Network::\"192.0.0.0/16\"",
        "Folder::\"/a/b\" in Folder::\"/a\"",
        "Host::\"x.example.com\".labels == 3",
        "Address::\"127.0.0.1\".kind == \"loopback\"",
        "Address::\"10.0.0.1\".ip.isInRange(ip(\"10.0.0.0/8\"))",
    ] {
        assert_eq!(rule(holds), "allow r", "{holds}");
        assert_eq!(rule(&format!("!({holds})")), "default_deny", "!({holds})");
    }
}

#[test]
fn nested_groups_hold_in_conditions_and_scopes() {
    let hosts = "outer = [\"@inner\"]\ninner = [\"*.example.com\", \"example.org\"]\nempty = []";
    let by_scope = load(
        "@id(\"r\") permit (principal, action, resource in HostGroup::\"outer\");",
        hosts,
    );
    let by_condition = load(
        "@id(\"r\") permit (principal, action == Action::\"connect\", resource)
         when { resource in HostGroup::\"outer\" && HostGroup::\"inner\" in HostGroup::\"outer\" };",
        hosts,
    );
    for snapshot in [by_scope, by_condition] {
        for (target, expected) in [
            ("a.example.com:443", "allow r"),
            ("a.b.example.com:443", "allow r"),
            ("example.org:443", "allow r"),
            ("example.com:443", "default_deny"),
            ("a.example.org:443", "default_deny"),
            ("notexample.com:443", "default_deny"),
        ] {
            assert_eq!(outcome(&snapshot, connect(target)), expected, "{target}");
        }
        let groups = snapshot.host_groups_of(&"example.org".parse().unwrap());
        assert_eq!(groups, ["inner".into(), "outer".into()]);
        assert!(
            snapshot
                .host_groups_of(&"other.org".parse().unwrap())
                .is_empty()
        );
    }
}

#[test]
fn every_type_action_and_attribute_of_the_schema_is_documented() {
    let lines: Vec<&str> = crate::SCHEMA_TEXT.lines().collect();
    let mut seen = 0;
    for (number, pair) in lines.windows(2).enumerate() {
        let (above, line) = (pair[0].trim(), pair[1].trim());
        let name = line.split([':', '?']).next().unwrap();
        let is_attribute = line.contains(": ")
            && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            && !["principal", "resource", "context"].contains(&name);
        let declares = ["entity ", "action ", "type "];
        if is_attribute || declares.iter().any(|word| line.starts_with(word)) {
            let place = format!("line {}: {line}", number + 2);
            assert!(
                above.starts_with("// ") && !above.ends_with("---"),
                "{place}"
            );
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn every_action_of_the_schema_has_a_request_that_asks_it() {
    let asked: std::collections::BTreeSet<&str> = every_kind()
        .iter()
        .filter_map(|request| target::Target::of(request).ok())
        .map(|target| target.action)
        .collect();
    let schema = schema().unwrap();
    let applied = schema.actions().filter(|action| {
        let principals = schema.principals_for_action(action);
        principals.is_some_and(|mut principals| principals.next().is_some())
    });
    let applied: std::collections::BTreeSet<&str> =
        applied.map(|action| action.id().unescaped()).collect();
    assert_eq!(asked, applied.iter().copied().collect());
    assert!(applied.len() > 20, "{applied:?}");
}

#[test]
fn a_program_is_told_only_where_no_other_can_be_meant() {
    let rules = "@id(\"r\") permit (principal, action == Action::\"connect\", resource is Host) \
                 when { context has process && context.process.executable == \"/usr/bin/curl\" };";
    let snapshot = load(rules, "");
    let by = |process: Option<ProcessFacts>| {
        let seen = Seen {
            process: process.map(Arc::new),
            ..Seen::default()
        };
        outcome(&snapshot, seen_connect("api.github.com:443", seen))
    };
    let one = || curl_of_bash(true);
    assert_eq!(by(Some(one())), "allow r");
    let mut other = one();
    other.holders[0].executable = "/usr/bin/python3.11".into();
    assert_eq!(by(Some(other)), "default_deny");
    let mut shared = one();
    shared.holders.push(Holder::default());
    assert_eq!(by(Some(shared)), "default_deny", "two hold it");
    assert_eq!(by(Some(curl_of_bash(false))), "default_deny", "incomplete");
    assert_eq!(by(None), "default_deny", "nobody was found");
}
