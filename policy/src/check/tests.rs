//! What an author sees.

use super::*;
use crate::source::PolicyFile;

fn findings(text: &str) -> Vec<Finding> {
    check(&PolicySource::new(
        "ci",
        vec![PolicyFile::new("policies/ci.cedar", text)],
    ))
}

/// Everything but notes.
fn dubious(text: &str) -> Vec<Finding> {
    let mut found = findings(text);
    found.retain(|finding| finding.severity != Severity::Note);
    found
}

#[test]
fn a_finding_shows_place_text_and_help() {
    let text = "permit (\n  principal,\n  action == Action::\"fetch\",\n  resource\n);\n";
    let found = findings(text);
    let first = found[0].to_string();
    assert!(
        first.starts_with("error[CP002]: `policies/ci.cedar` line "),
        "{first}"
    );
    assert!(first.contains("fetch") && first.contains("\n  "), "{first}");
    let json = serde_json::to_value(&found[0]).unwrap();
    assert_eq!(json["severity"], "error");
    assert_eq!(json["file"], "policies/ci.cedar");
    assert!(json["line"].is_u64());
}

#[test]
fn every_kind_of_mistake_is_found_where_it_is() {
    let fine = "permit (principal, action, resource);\n";
    let cases = [
        ("permit (principal, action);", 2, "missing the `resource`"),
        (
            "permit (principal, action, resource) when { context.prot == 1 };",
            2,
            "prot",
        ),
        (
            "permit (principal, action == Action::\"connect\", resource) when { context.port == \"x\" };",
            2,
            "",
        ),
        (
            "permit (principal, action, resource in Domian::\"x.com\");",
            2,
            "Domian",
        ),
        (
            "permit (principal == ?principal, action, resource);",
            2,
            "template",
        ),
        (
            "permit (principal, action, resource == Host::\"X.com\");",
            2,
            "canonical",
        ),
        (
            "permit (\nprincipal, action, resource in HostGroup::\"nowhere\");",
            3,
            "no host group",
        ),
        (
            "forbid (principal in Organisation::\"o\", action, resource);",
            2,
            "no organisation",
        ),
        (
            "@id(\"a b\") permit (principal, action, resource);",
            2,
            "`@id`",
        ),
        (
            "@id(\"\") permit (principal, action, resource);",
            2,
            "`@id`",
        ),
        (
            "@id(\"a\") @reason(\"x\\ny\") permit (principal, action, resource);",
            2,
            "`@reason`",
        ),
        (
            "@id(\"a\") permit (principal, action, resource); @id(\"a\") forbid (principal, action, resource);",
            2,
            "twice",
        ),
        (
            "@id(\"policies/ci.cedar:1\") permit (principal, action, resource);",
            2,
            "twice",
        ),
        ("\"open", 2, ""),
        (
            "permit (principal, action, resource) when { \u{1F4A9} };",
            2,
            "",
        ),
    ];
    for (rule, line, words) in cases {
        let text = format!("{fine}{rule}");
        let found = findings(&text);
        let first = found
            .first()
            .unwrap_or_else(|| panic!("nothing found: {rule}"));
        assert_eq!(first.severity, Severity::Error, "{rule}: {first}");
        assert_eq!(first.line, Some(line), "{rule}: {first}");
        assert!(first.message.contains(words), "{rule}: {first}");
        let load = crate::Snapshot::load(&PolicySource::new(
            "ci",
            vec![PolicyFile::new("policies/ci.cedar", text.clone())],
        ));
        assert!(load.is_err(), "{rule}");
    }
    assert_eq!(dubious(fine), []);
}

#[test]
fn one_mistake_is_one_finding() {
    // Cedar finds it once for every action that the rule can be about.
    let found = findings("permit (principal, action, resource) when { context.prot == 1 };");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].message.starts_with("attribute `prot`"),
        "{}",
        found[0]
    );
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = "permit (principal, action, resource == Host::\"A.com\");\n\
                permit (principal, action, resource == Host::\"B.com\");\n\
                permit (principal, action, resource) when { context.nope };\n";
    let found = findings(text);
    assert!(found.len() >= 3, "{found:?}");
    let lines: Vec<_> = found.iter().map(|f| f.line).collect();
    assert!(lines.is_sorted(), "{lines:?}");
}

#[test]
fn a_rule_that_can_never_match_is_a_warning() {
    for rule in [
        "permit (principal, action == Action::\"connect\", resource is Host) when { resource is Address };",
        "permit (principal, action == Action::\"connect\", resource in Folder::\"/a\");",
    ] {
        let found = dubious(rule);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].severity, Severity::Warning);
        assert!(
            found[0].to_string().starts_with("warning[CP1"),
            "{}",
            found[0]
        );
    }
}

#[test]
fn a06_a_hostile_file_cannot_write_to_the_terminal() {
    let found = findings("permit (principal, action, resource) \u{1b}[2J\u{7} when;");
    let text = found[0].to_string();
    assert!(
        !text.contains('\u{1b}') && !text.contains('\u{7}'),
        "{text:?}"
    );
}

#[test]
fn lines_and_columns_count_from_one_in_characters() {
    let text = "a\n\u{e9}\u{e9}x\n";
    assert_eq!(locate(text, 0), (1, 1, "a".into()));
    assert_eq!(locate(text, 6), (2, 3, "\u{e9}\u{e9}x".into()));
    assert_eq!(locate(text, 1_000).0, 3);
}
