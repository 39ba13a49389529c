//! What an author sees while writing. `|` marks the cursor.

use super::*;

fn cursor(marked: &str) -> (String, usize) {
    let at = marked.find('|').unwrap();
    (marked.replacen('|', "", 1), at)
}

fn hovered(marked: &str) -> Option<String> {
    let (text, at) = cursor(marked);
    hover(&text, at).map(|hover| hover.markdown)
}

fn proposed(marked: &str, is_data: bool) -> Vec<String> {
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
    let known = Known {
        host_groups: names(&["registries"]),
        hosts: names(&["api.example.com"]),
        users: names(&["alice"]),
        agents: names(&["claude"]),
    };
    let (text, at) = cursor(marked);
    complete(&text, at, is_data, &known)
        .into_iter()
        .map(|completion| completion.label)
        .collect()
}

#[test]
fn hover_explains_actions_entities_attributes_and_annotations() {
    let cases = [
        (
            "permit (principal, action == Action::\"conn|ect\", resource);",
            "not looked into",
        ),
        (
            "permit (principal, action in Action::\"net|work\", resource);",
            "A group of",
        ),
        (
            "permit (principal in Use|r::\"a\", action, resource);",
            "login name",
        ),
        (
            "permit (principal, action, resource == Host::\"a.te|st\");",
            "canonical spelling",
        ),
        (
            "permit (principal, action == Action::\"connect\", resource) when { context.por|t == 1 };",
            "Destination port",
        ),
        (
            "permit (principal, action, resource) when { context has approval && context.appr|oval.scope == \"once\" };",
            "It can be absent",
        ),
        (
            "@reas|on(\"x\") permit (principal, action, resource);",
            "told to people",
        ),
        (
            "for|bid (principal, action, resource);",
            "whatever is permitted",
        ),
    ];
    for (marked, expected) in cases {
        let found = hovered(marked).unwrap_or_default();
        assert!(found.contains(expected), "{marked}: {found}");
    }
    assert_eq!(
        hovered("permit (prin|cipal").map(|text| text.is_empty()),
        Some(false)
    );
    assert_eq!(hovered("// a comm|ent"), None);
    assert_eq!(hovered("|"), None);
}

#[test]
fn an_attribute_is_explained_by_the_actions_of_its_own_rule() {
    let other = "permit (principal, action == Action::\"http_read\", resource);\n";
    let marked = format!(
        "{other}permit (principal, action == Action::\"connect\", resource) when {{ context.meth|od == \"GET\" }};"
    );
    assert_eq!(hovered(&marked), None);
}

#[test]
fn completion_knows_what_can_stand_there() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("@|", &["id", "reason"], &["permit"]),
        (
            "permit (principal, action == Action::|",
            &["\"connect\"", "\"network\""],
            &["\"alice\""],
        ),
        (
            "permit (principal, action == Action::\"con|",
            &["connect"],
            &["\"connect\""],
        ),
        (
            "permit (principal in User::\"|\", action, resource);",
            &["alice"],
            &["connect"],
        ),
        (
            "permit (principal, action, resource in HostGroup::|);",
            &["\"registries\""],
            &[],
        ),
        (
            "permit (principal, action, resource == Host::\"|\");",
            &["api.example.com"],
            &[],
        ),
        (
            "permit (principal in Agent::|, action, resource);",
            &["\"claude\""],
            &[],
        ),
        (
            "permit (principal, action == Action::\"connect\", resource) when { context.| };",
            &["port", "time"],
            &["method"],
        ),
        (
            "permit (principal, action == Action::\"http_read\", resource) when { context.me| };",
            &["method"],
            &["command"],
        ),
        (
            "permit (principal, action, resource) when { principal.|",
            &["backend"],
            &["port"],
        ),
        ("per|", &["permit", "HostGroup", "Action"], &["port"]),
        ("@reason(\"|\")", &[], &["permit", "id"]),
    ];
    for (marked, wanted, unwanted) in cases {
        let found = proposed(marked, false);
        for label in *wanted {
            assert!(
                found.iter().any(|l| l == label),
                "{marked}: {label} in {found:?}"
            );
        }
        for label in *unwanted {
            assert!(
                !found.iter().any(|l| l == label),
                "{marked}: {label} in {found:?}"
            );
        }
    }
    assert_eq!(
        proposed("[host_groups]\na = [\"|\"]", true),
        ["api.example.com"]
    );
    assert_eq!(
        proposed("[host_groups]\na = [\"@|\"]", true),
        ["registries"]
    );
    assert_eq!(proposed("[host_groups]\na = [|]", true), [""; 0]);
}

#[test]
fn rules_and_groups_are_listed_and_found() {
    let rules = "@id(\"a\")\npermit (principal, action, resource in HostGroup::\"g\");\n\
                 @reason(\"forbid\") permit (principal, action, resource);";
    let found = symbols(rules, false);
    let shown: Vec<_> = found.iter().map(|s| (s.name.as_str(), s.detail)).collect();
    assert_eq!(shown, [("a", "permit"), ("permit (no @id)", "permit")]);
    assert_eq!(&rules[found[0].name_range.clone()], "\"a\"");

    let data = "# x\n[host_groups]\ng = [\n  \"a.test\",\n]\n\"h\" = [\"@g\"]\n[other]\ni = 1\n";
    let found = symbols(data, true);
    let shown: Vec<_> = found.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(shown, ["g", "h"]);
    assert_eq!(&data[found[1].name_range.clone()], "h");

    let at = rules.find("\"g\"").unwrap() + 1;
    assert_eq!(definition(rules, at, false).as_deref(), Some("g"));
    assert_eq!(definition(rules, 5, false), None);
    let at = data.find("@g").unwrap() + 1;
    assert_eq!(definition(data, at, true).as_deref(), Some("g"));
}

proptest::proptest! {
    #[test]
    fn no_text_is_too_strange(text in "[a-z@:\"(){};.\\\\\n\u{e9}\u{1f600} ]{0,80}", at in 0_usize..100) {
        let at = Lines::new(&text).offset(Lines::new(&text).place(at));
        let _ = hover(&text, at);
        let _ = complete(&text, at, false, &Known::default());
        let _ = complete(&text, at, true, &Known::default());
        for data in [false, true] {
            let _ = definition(&text, at, data);
            for symbol in symbols(&text, data) {
                assert!(text.get(symbol.range).is_some());
                assert!(text.get(symbol.name_range).is_some());
            }
        }
    }
}
