//! Why a request was refused, and that the parts of a rule together mean what the rule means.

use proptest::prelude::*;

use super::*;

const RULES: &str = "@id(\"api\")
permit (
  principal in Group::\"staff\",
  action == Action::\"connect\",
  resource in Domain::\"example.com\"
)
when { context.port == 443 &&
  context.transport == \"socks5\" }
unless { principal in Agent::\"bad\" };

@id(\"ops\")
permit (principal in Group::\"ops\", action == Action::\"connect\", resource == Host::\"ops.test\");

@id(\"mirror\")
permit (principal, action == Action::\"http_read\", resource == Host::\"mirror.test\");

@id(\"mail\") @reason(\"no mail\")
forbid (principal, action in Action::\"network\", resource)
when { context.port == 25 || context.port == 587 };

@id(\"asks\")
permit (principal, action == Action::\"connect\", resource == Host::\"ask.test\")
when { context has approval };

@id(\"folders\")
permit (principal, action in Action::\"grant\", resource);
";

/// `rule: part text @line; ...`
fn told(snapshot: &Snapshot, request: &Request) -> String {
    let Some(why) = snapshot.why_not(request) else {
        return "nothing".into();
    };
    let clauses = why.failed.iter().chain(&why.matched);
    let clauses: Vec<String> = clauses
        .map(|c| format!("{} {} @{}", c.part.as_str(), c.text, c.line))
        .collect();
    format!("{}: {}", why.rule.id, clauses.join("; "))
}

#[test]
fn n20_a_refusal_names_the_nearest_permit_and_what_does_not_hold() {
    let snapshot = load(RULES, "");
    for (request, expected) in [
        (
            connect("a.example.com:80"),
            "api: condition context.port == 443 @7",
        ),
        (
            connect("a.example.com:443"),
            "api: condition context.transport == \"socks5\" @8",
        ),
        (
            connect("ops.test:443"),
            "ops: principal principal in Group::\"ops\" @12",
        ),
        // A rule about another action on the same thing is nearer than one about another thing.
        (
            connect("mirror.test:443"),
            "mirror: action action == Action::\"http_read\" @15",
        ),
        // The name that has most in common; not the rule about folders, of which only the action
        // does not hold.
        (
            connect("other.com:443"),
            "api: resource resource in Domain::\"example.com\" @5",
        ),
        (
            connect("ask.test:443"),
            "asks: condition context has approval @23",
        ),
        (
            connect("a.example.com:587"),
            "mail: action action in Action::\"network\" @18; condition context.port == 587 @19",
        ),
        (
            connect_by("a.example.com:443", Transport::Socks5),
            "nothing",
        ),
        (delete("/a/../b", GrantMode::Rw), "nothing"),
        (delete("/a", GrantMode::Rw), "nothing"),
    ] {
        assert_eq!(
            told(&snapshot, &request),
            expected,
            "{:?}",
            request.operation
        );
    }
}

#[test]
fn it_is_told_in_words_with_file_and_line() {
    let snapshot = load(RULES, "");
    let words = |request: &Request| snapshot.why_not(request).unwrap().to_string();
    assert_eq!(
        words(&connect("a.example.com:80")),
        "the nearest permit is `api` (`test.cedar` line 1)\n  \
         line 7: condition `context.port == 443` does not hold"
    );
    assert_eq!(
        words(&connect("a.test:25")),
        "`mail` forbids it (`test.cedar` line 17)\n  \
         line 18: action `action in Action::\"network\"` holds\n  \
         line 19: condition `context.port == 25` holds"
    );
}

#[test]
fn an_unless_and_an_evaluation_error() {
    let snapshot = load(
        "@id(\"a\") permit (principal, action == Action::\"connect\", resource) unless { principal in Agent::\"claude\" };
         @id(\"e\") permit (principal, action == Action::\"http_read\", resource) when { context.port + 9223372036854775807 > 5 };",
        "",
    );
    assert_eq!(
        told(&snapshot, &connect("a.test:443")),
        "a: condition principal in Agent::\"claude\" @1"
    );
    assert_eq!(told(&snapshot, &http("GET", "a.test", "/")), "nothing");
}

#[test]
fn ten_thousand_permits_are_looked_through_in_bounded_time() {
    let mut rules = String::new();
    for number in 0..10_000 {
        rules += &format!(
            "permit (principal, action == Action::\"connect\", resource in Domain::\"h{number}.example.com\");\n"
        );
    }
    let snapshot = load(&rules, "");
    assert!(snapshot.why_not(&connect("x.test:443")).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// A lone permit that does not match has a part that does not hold, and one that matches has
    /// none: so the parts together are the rule.
    #[test]
    fn the_parts_are_the_rule(case in slicing::case()) {
        let data = case.data();
        for rule in case.rules.lines().filter(|rule| rule.starts_with("permit")) {
            let snapshot = load(rule, &data);
            let outcome = outcome(&snapshot, case.request.clone());
            let why = snapshot.why_not(&case.request);
            match outcome.as_str() {
                // One that is about another action and another resource is not near.
                "default_deny" => {
                    prop_assert!(why.is_none_or(|why| !why.failed.is_empty()), "{}", rule);
                }
                "approval_required test.cedar:1" => prop_assert!(!why.unwrap().failed.is_empty(), "{}", rule),
                _ => prop_assert!(why.is_none(), "{}: {}", rule, outcome),
            }
        }
    }
}
