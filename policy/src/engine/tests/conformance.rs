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
