//! The three ways in which Cedar fails open. Each test first shows the trap with plain Cedar, so
//! that it fails without the guard, and then that the engine does not fall into it.

use std::{fmt::Write, thread};

use cedar_policy::{Entities, Entity, PolicySet};

use super::*;
use crate::{engine::compile::MAX_STEPS, schema::schema};

const PERMIT: &str = "@id(\"all\") permit (principal, action, resource);\n";

/// What plain Cedar answers to the engine's own question.
fn plain_cedar(rules: &str, request: &Request) -> cedar_policy::Decision {
    plain_cedar_with(&rules.parse().unwrap(), request, |_| true)
}

/// The same, with only those entities in the store that are wanted.
fn plain_cedar_with(
    rules: &PolicySet,
    request: &Request,
    wanted: impl Fn(&Entity) -> bool,
) -> cedar_policy::Decision {
    let snapshot = load(PERMIT, "");
    let asker = snapshot.by(&NOTHING).asker;
    let question = asker.ask(request).unwrap();
    let entities = question.entities.into_iter().filter(wanted);
    Authorizer::new()
        .is_authorized(
            &cedar_policy::Request::new(
                question.principal,
                question.action.uid.clone(),
                question.resource,
                cedar_policy::Context::from_pairs(question.context).unwrap(),
                None,
            )
            .unwrap(),
            rules,
            &Entities::from_entities(entities, None).unwrap(),
        )
        .decision()
}

#[test]
fn trap_1_an_error_in_a_forbid_is_a_deny() {
    for condition in [
        // Overflow passes strict validation.
        "context.port + 9223372036854775807 > 5",
        "context.port * 9223372036854775807 > 5",
        "0 - 9223372036854775807 - context.port < 5",
        // So does an attribute of an entity that is not in the store.
        "Session::\"another\".user == User::\"mallory\"",
    ] {
        let rules = format!(
            "{PERMIT}@id(\"f\") forbid (principal, action == Action::\"connect\", resource) when {{ {condition} }};"
        );
        let request = connect("example.com:443");
        assert_eq!(
            plain_cedar(&rules, &request),
            cedar_policy::Decision::Allow,
            "the trap is gone from Cedar: {condition}"
        );
        let snapshot = load(&rules, "");
        assert_eq!(
            outcome(&snapshot, request),
            "evaluation_error",
            "{condition}"
        );
        let Decision::Deny(deny) = snapshot.decide(connect("example.com:443")) else {
            panic!("allowed");
        };
        let errors = &deny.verdict().basis.errors;
        assert!(errors.len() == 1 && errors[0].contains('f'), "{errors:?}");
        // The control: where the rule does not apply, it does no harm.
        let other = http("GET", "example.com", "/");
        assert_eq!(outcome(&snapshot, other), "allow all", "{condition}");
    }
}

#[test]
fn trap_1_an_error_in_a_permit_is_a_deny_too() {
    let rules = format!(
        "{PERMIT}@id(\"p\") permit (principal, action == Action::\"connect\", resource) when {{ context.port + 9223372036854775807 > 5 }};"
    );
    assert_eq!(
        outcome(&load(&rules, ""), connect("example.com:443")),
        "evaluation_error"
    );
}

#[test]
fn trap_1_no_approval_is_asked_for_where_evaluation_fails() {
    let rules = "permit (principal, action, resource) when { context has approval };
        forbid (principal, action == Action::\"connect\", resource) when { context.port + 9223372036854775807 > 5 };";
    assert_eq!(
        outcome(&load(rules, ""), connect("example.com:443")),
        "evaluation_error"
    );
    assert_eq!(
        outcome(&load(rules, ""), http("GET", "example.com", "/")),
        "approval_required test.cedar:1"
    );
}

/// A `forbid` whose condition is a chain of this many terms and true by its last.
fn chain(terms: usize) -> String {
    let mut rule = format!(
        "{PERMIT}@id(\"f\") forbid (principal, action == Action::\"connect\", resource) when {{ "
    );
    for port in 0..terms {
        write!(rule, "context.port == {port} || ").unwrap();
    }
    rule.push_str("context.port == 443 };");
    rule
}

#[test]
fn trap_1_the_recursion_limit_is_out_of_reach() {
    let small_stack = |work: Box<dyn FnOnce() -> String + Send>| {
        thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(work)
            .unwrap()
            .join()
            .unwrap()
    };
    let plain = small_stack(Box::new(|| {
        // Never dropped: that would overflow the stack as well.
        let rules = thread::Builder::new()
            .stack_size(64 << 20)
            .spawn(|| std::mem::ManuallyDrop::new(chain(20_000).parse::<PolicySet>().unwrap()))
            .unwrap()
            .join()
            .unwrap();
        let decision = plain_cedar_with(&rules, &connect("example.com:443"), |_| true);
        format!("{decision:?}")
    }));
    assert_eq!(plain, "Allow", "the trap is gone from Cedar");

    let refused = refusal(&chain(1_000), "");
    assert!(
        refused.contains("too deep") && refused.contains("line 2"),
        "{refused}"
    );

    let deepest = small_stack(Box::new(|| {
        let snapshot = load(&chain(MAX_STEPS - 30), "");
        outcome(&snapshot, connect("example.com:443"))
    }));
    assert_eq!(deepest, "rule f");
}

#[test]
fn trap_2_action_groups_are_in_the_store() {
    let rules =
        format!("{PERMIT}@id(\"f\") forbid (principal, action in Action::\"network\", resource);");
    let request = connect("example.com:443");
    let is_no_action = |entity: &Entity| *entity.uid().type_name() != "Action".parse().unwrap();
    assert_eq!(
        plain_cedar_with(&rules.parse().unwrap(), &request, is_no_action),
        cedar_policy::Decision::Allow,
        "the trap is gone from Cedar"
    );
    let snapshot = load(&rules, "");
    assert_eq!(outcome(&snapshot, request), "rule f");
    assert_eq!(
        outcome(&snapshot, http("GET", "example.com", "/")),
        "rule f"
    );
    assert_eq!(
        outcome(&snapshot, delete("/a", GrantMode::Rwd)),
        "allow all"
    );

    // Every action of the schema is below its groups, also where a condition asks.
    let all = schema().unwrap().actions().count();
    assert!(all > 20, "{all}");
    let by_condition = format!(
        "{PERMIT}@id(\"f\") forbid (principal, action, resource) when {{ action in Action::\"network\" }};"
    );
    assert_eq!(
        outcome(&load(&by_condition, ""), connect("example.com:443")),
        "rule f"
    );
}

#[test]
fn trap_3_text_that_would_overflow_the_parser_is_refused() {
    // On 64 MiB the parser takes a few thousand levels; these abort the process without a guard.
    let nested = |open: &str, close: &str, n: usize| {
        format!(
            "permit (principal, action, resource) when {{ {}true{} }};",
            open.repeat(n),
            close.repeat(n)
        )
    };
    for (open, close) in [("(", ")"), ("[", "]"), ("{a: ", "}")] {
        let refused = refusal(&nested(open, close, 100_000), "");
        assert!(refused.contains("nested"), "{refused}");
    }
    let ifs = format!(
        "permit (principal, action, resource) when {{ {} true }};",
        "if true then true else ".repeat(50_000)
    );
    assert!(refusal(&ifs, "").contains("`if`"));
    let long = chain(100_000);
    assert!(refusal(&long, "").contains("words and signs"));
    assert!(
        refusal(
            &format!(
                "permit (principal, action, resource) when {{ {} true }};",
                "!".repeat(100_000)
            ),
            ""
        )
        .contains("words and signs")
    );
    // The control: what people write is far below.
    assert_eq!(
        outcome(&load(&nested("(", ")", 30), ""), connect("example.com:443")),
        "allow test.cedar:1"
    );
}

#[test]
fn trap_3_the_deepest_text_within_bounds_is_parsed_from_a_small_stack() {
    let text = format!(
        "permit (principal, action, resource) when {{ {}true{} }};",
        "(".repeat(bounds::MAX_NESTING - 2),
        ")".repeat(bounds::MAX_NESTING - 2)
    );
    let worker = thread::Builder::new().stack_size(256 << 10);
    let loaded = worker
        .spawn(move || Snapshot::load(&source(&text, "")).is_ok())
        .unwrap()
        .join()
        .unwrap();
    assert!(loaded);
}

#[test]
fn hostile_sets_are_refused_in_bounded_time() {
    let rule = "permit (principal, action, resource == Host::\"A.com\") when { context.nope };\n";
    for count in [5_000, bounds::MAX_RULES + 1] {
        let text = rule.repeat(count);
        let error = Snapshot::load(&source(&text, "")).unwrap_err();
        assert!(error.findings.len() <= 100, "{}", error.findings.len());
    }
    let many_files = PolicySource::new(
        "many",
        vec![
            PolicyFile::new("a.cedar", "permit (principal, action, resource);");
            bounds::MAX_FILES + 1
        ],
    );
    assert!(Snapshot::load(&many_files).is_err());
    let big = source(&" ".repeat(bounds::MAX_FILE_BYTES + 1), "");
    assert!(Snapshot::load(&big).is_err());
}
