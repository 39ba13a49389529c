//! What the lints find, and what they leave alone.

use super::super::{Code, Finding, Severity, check};
use crate::source::{PolicyFile, PolicySource};

fn findings(rules: &str, data: &str) -> Vec<Finding> {
    // A rule a line: without an id it is named by its line.
    let rules = rules.replace("; ", ";\n").replace(";permit", ";\npermit");
    let rules = rules.replace(";forbid", ";\nforbid").replace(";@", ";\n@");
    let mut files = vec![PolicyFile::new("t.cedar", rules)];
    if !data.is_empty() {
        files.push(PolicyFile::new("hosts.toml", data));
    }
    let found = check(&PolicySource::new("t", files));
    assert!(
        found.iter().all(|f| f.severity != Severity::Error),
        "the set must load: {found:#?}"
    );
    found
}

fn has(code: Code, rules: &str, data: &str) -> bool {
    findings(rules, data).iter().any(|f| f.code == code)
}

const GROUP: &str = "[host_groups]\ng = [\"a.example.com\", \"*.example.org\"]\n";
const HTTPS: &str = "permit (principal, action == Action::\"connect\", resource == Host::\"x.test\") \
                     when { context.port == 443 };\n";

/// A code, a set that has it, a set that is nearly the same and has not; both with their data.
struct Case(Code, &'static str, &'static str, &'static str);

const CASES: &[Case] = &[
    Case(
        Code::NeverInScope,
        "permit (principal == User::\"alice\", action == Action::\"connect\", resource);",
        "permit (principal in User::\"alice\", action == Action::\"connect\", resource);",
        "",
    ),
    Case(
        Code::NeverInScope,
        "permit (principal, action == Action::\"connect\", resource == Domain::\"example.com\");",
        "permit (principal, action == Action::\"connect\", resource in Domain::\"example.com\");",
        "",
    ),
    Case(
        Code::NeverInScope,
        "forbid (principal, action == Action::\"connect\", resource in Folder::\"/x\");",
        "forbid (principal, action in Action::\"grant\", resource in Folder::\"/x\");",
        "",
    ),
    Case(
        Code::NeverTrue,
        "permit (principal, action == Action::\"connect\", resource) when { context.port == 80 && context.port == 443 };",
        "permit (principal, action == Action::\"connect\", resource) when { context.port == 80 || context.port == 443 };",
        "",
    ),
    Case(
        Code::NeverTrue,
        "permit (principal, action == Action::\"connect\", resource) unless { true };",
        "permit (principal, action == Action::\"connect\", resource) unless { context.port == 1 };",
        "",
    ),
    Case(
        Code::AlwaysTrue,
        "permit (principal, action == Action::\"connect\", resource) when { true };",
        "permit (principal, action == Action::\"connect\", resource) when { context.port == 1 };",
        "",
    ),
    Case(
        Code::UpgradeApart,
        "permit (principal, action == Action::\"http_read\", resource) when { context has upgrade };",
        "permit (principal, action in Action::\"http\", resource) when { context has upgrade };",
        "",
    ),
    Case(
        Code::UpgradeApart,
        "forbid (principal, action == Action::\"http_read\", resource);",
        "forbid (principal, action in [Action::\"http_read\", Action::\"http_upgrade\"], resource);",
        "",
    ),
    Case(
        Code::Duplicate,
        "@id(\"a\") permit (principal, action == Action::\"http_read\", resource);\
         @id(\"b\") @reason(\"x\") permit (principal, action == Action::\"http_read\", resource);",
        "@id(\"a\") permit (principal, action == Action::\"http_read\", resource);\
         @id(\"b\") permit (principal, action == Action::\"http_write\", resource);",
        "",
    ),
    Case(
        Code::Shadowed,
        "permit (principal, action in Action::\"network\", resource in Domain::\"example.com\");\
         permit (principal in User::\"a\", action == Action::\"connect\", resource == Host::\"a.example.com\") when { context.port == 1 };",
        "permit (principal, action in Action::\"network\", resource in Domain::\"example.com\") when { context.port == 2 };\
         permit (principal in User::\"a\", action == Action::\"connect\", resource == Host::\"a.example.com\") when { context.port == 1 };",
        "",
    ),
    Case(
        Code::Shadowed,
        "permit (principal, action in Action::\"http\", resource in HostGroup::\"g\");\
         permit (principal, action == Action::\"http_read\", resource == Host::\"b.example.org\");",
        "permit (principal, action in Action::\"http\", resource in HostGroup::\"g\");\
         permit (principal, action == Action::\"http_read\", resource == Host::\"example.org\");",
        GROUP,
    ),
    Case(
        Code::Shadowed,
        "forbid (principal, action in Action::\"grant\", resource in Folder::\"/srv\");\
         forbid (principal, action == Action::\"grant_rwd\", resource in Folder::\"/srv/keys\");",
        "forbid (principal, action in Action::\"grant\", resource in Folder::\"/srv\");\
         forbid (principal, action == Action::\"grant_rwd\", resource in Folder::\"/srvkeys\");",
        "",
    ),
    Case(
        Code::Overruled,
        "forbid (principal, action in Action::\"network\", resource in Network::\"10.0.0.0/8\");\
         permit (principal, action == Action::\"connect\", resource == Address::\"10.1.2.3\");",
        "forbid (principal, action in Action::\"network\", resource in Network::\"10.0.0.0/8\");\
         permit (principal, action == Action::\"connect\", resource == Address::\"11.1.2.3\");",
        "",
    ),
    Case(
        Code::NothingToForbid,
        "permit (principal, action == Action::\"connect\", resource in Domain::\"example.com\");\
         forbid (principal, action == Action::\"connect\", resource in Domain::\"exmaple.com\");",
        "permit (principal, action == Action::\"connect\", resource in Domain::\"example.com\");\
         forbid (principal, action == Action::\"connect\", resource in Domain::\"s.example.com\");",
        "",
    ),
    Case(
        Code::NothingToForbid,
        "permit (principal in User::\"a\", action == Action::\"connect\", resource);\
         forbid (principal in User::\"b\", action, resource);",
        "permit (principal in User::\"a\", action == Action::\"connect\", resource);\
         forbid (principal in Group::\"b\", action, resource);",
        "",
    ),
    Case(
        Code::EmptyGroup,
        "permit (principal, action == Action::\"connect\", resource in HostGroup::\"g\") when { context.port == 1 };",
        "permit (principal, action == Action::\"connect\", resource in HostGroup::\"h\") when { context.port == 1 };",
        "[host_groups]\nh = [\"a.test\"]\n",
    ),
    Case(
        Code::PublicSuffix,
        "permit (principal, action == Action::\"connect\", resource in Domain::\"co.uk\");",
        "permit (principal, action == Action::\"connect\", resource in Domain::\"example.co.uk\");",
        "",
    ),
    Case(
        Code::PublicSuffix,
        "permit (principal, action == Action::\"connect\", resource in Domain::\"com\");",
        "forbid (principal, action == Action::\"connect\", resource in Domain::\"com\");",
        "",
    ),
    Case(
        Code::NoId,
        "permit (principal, action == Action::\"start_session\", resource);",
        "@id(\"x\") permit (principal, action == Action::\"start_session\", resource);",
        "",
    ),
    Case(
        Code::PatternOnName,
        "forbid (principal, action == Action::\"connect\", resource is Host) when { resource.name like \"*.example.com\" };",
        "forbid (principal, action == Action::\"connect\", resource is Host) when { resource.name like \"*xn--*\" };",
        "",
    ),
    Case(
        Code::AnyPort,
        "permit (principal, action == Action::\"connect\", resource in Domain::\"example.com\");",
        "permit (principal, action == Action::\"connect\", resource in Domain::\"example.com\") when { [443, 22].contains(context.port) };",
        "",
    ),
    Case(
        Code::SecretInReason,
        "@reason(\"token ghp_0123456789abcdefABCDEF0123456789abcd\") forbid (principal, action, resource);",
        "@reason(\"tokens of the forge are not for sessions\") forbid (principal, action, resource);",
        "",
    ),
];

#[test]
fn every_lint_finds_its_mistake_and_leaves_its_neighbour_alone() {
    for Case(code, wrong, right, data) in CASES {
        let (wrong_data, right_data) = match code {
            Code::EmptyGroup => ("[host_groups]\ng = []\n", *data),
            _ => (*data, *data),
        };
        assert!(
            has(*code, wrong, wrong_data),
            "{code:?} in {wrong}: {:#?}",
            findings(wrong, wrong_data)
        );
        assert!(
            !has(*code, right, right_data),
            "{code:?} in {right}: {:#?}",
            findings(right, right_data)
        );
    }
}

#[test]
fn every_lint_has_a_case() {
    // These come with the loader, the bundle or the data, and are tested there.
    let elsewhere = [
        Code::UnusedGroup,
        Code::UnknownAnnotation,
        Code::ObserveEnded,
        Code::Validator,
    ];
    for code in Code::ALL.iter().filter(|code| code.as_str() >= "CP100") {
        let covered = CASES.iter().any(|case| case.0 == *code) || elsewhere.contains(code);
        assert!(covered, "{code:?} has no case");
    }
}

#[test]
fn a_rule_that_never_matches_is_told_what_to_write_once() {
    let rules = "@id(\"a\")\npermit (\n  principal == User::\"alice\",\n  \
                 action == Action::\"connect\",\n  resource\n);\n";
    let found = findings(rules, "");
    let never: Vec<_> = found
        .iter()
        .filter(|f| f.severity == Severity::Warning)
        .collect();
    assert_eq!(never.len(), 1, "{found:#?}");
    assert_eq!(
        (never[0].code, never[0].line),
        (Code::NeverInScope, Some(3))
    );
    let help = never[0].help.as_deref().unwrap();
    assert!(help.contains("principal in User::\"alice\""), "{help}");
}

#[test]
fn unused_groups_are_noted_and_nested_and_named_ones_are_not() {
    let rules = "permit (principal, action == Action::\"connect\", resource in HostGroup::\"outer\") \
                 when { context.port == 443 };";
    let data = "[host_groups]\nouter = [\"@inner\"]\ninner = [\"a.test\"]\nlonely = [\"b.test\"]\n";
    let unused: Vec<_> = findings(rules, data)
        .into_iter()
        .filter(|f| f.code == Code::UnusedGroup)
        .collect();
    assert_eq!(unused.len(), 1, "{unused:#?}");
    assert!(unused[0].message.contains("`lonely`"));
    assert_eq!(
        (unused[0].file.to_str(), unused[0].line),
        (Some("hosts.toml"), Some(4))
    );
}

#[test]
fn of_two_equal_scopes_only_the_second_is_covered() {
    let rules = "@id(\"a\") permit (principal, action in [Action::\"http_read\"], resource);\n\
                 @id(\"b\") permit (principal, action == Action::\"http_read\", resource);\n";
    let covered: Vec<_> = findings(rules, "")
        .into_iter()
        .filter(|f| f.code == Code::Shadowed)
        .collect();
    assert_eq!(covered.len(), 1, "{covered:#?}");
    assert_eq!(covered[0].line, Some(2));
    assert!(covered[0].message.contains("`a`"), "{}", covered[0].message);
}

#[test]
fn a_set_that_may_only_forbid_is_not_told_that_it_forbids_nothing() {
    let rules =
        "forbid (principal, action == Action::\"connect\", resource in Domain::\"a.test\");";
    assert!(!has(Code::NothingToForbid, rules, ""));
    let with_permit = format!("{HTTPS}{rules}");
    assert!(has(Code::NothingToForbid, &with_permit, ""));
}

#[test]
fn the_words_permit_and_forbid_in_annotations_do_not_mislead() {
    let rules = "@reason(\"permit \\\" forbid\")\npermit (principal, action == Action::\"start_session\", resource);";
    let found = findings(rules, "");
    assert_eq!(found[0].code, Code::NoId, "{found:#?}");
    assert_eq!(found[0].line, Some(2));
}

#[test]
fn the_built_in_pack_is_clean() {
    let found = check(&PolicySource::default_pack());
    let worse: Vec<_> = found
        .iter()
        .filter(|f| f.severity != Severity::Note)
        .collect();
    assert!(worse.is_empty(), "{worse:#?}");
}

#[test]
fn ten_thousand_rules_are_linted_in_bounded_time() {
    use std::fmt::Write as _;
    let mut rules = String::new();
    for n in 0..5_000 {
        writeln!(
            rules,
            "@id(\"p{n}\") permit (principal, action == Action::\"http_read\", resource == Host::\"h{n}.test\");\n\
             @id(\"f{n}\") forbid (principal, action == Action::\"http_read\", resource == Host::\"g{n}.test\");"
        )
        .unwrap();
    }
    let source = PolicySource::new("t", vec![PolicyFile::new("t.cedar", rules)]);
    let started = std::time::Instant::now();
    let linting = crate::engine::compile::on_large_stack(|| super::lint(&source)).unwrap();
    // Unoptimised and on a busy machine; in release it is well under a second.
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    assert_eq!(linting.findings.len(), super::Findings::MOST);
}
