//! Data files.

use super::*;
use crate::Snapshot;

fn read(text: &str) -> Result<HostGroups, String> {
    let file = PolicyFile::new("hosts.toml", text);
    let mut findings = Findings::default();
    let groups = HostGroups::read(&[&file], &mut findings);
    match findings.finish() {
        Err(findings) => Err(findings[0].to_string()),
        Ok(_) => Ok(groups),
    }
}

#[test]
fn groups_hold_names_suffixes_and_groups() {
    let groups = read(
        "[host_groups]\nb = [\"@a\", \"Example.ORG.\"]\na = [\"*.example.com\", \"example.com\"]\nempty = []\n",
    )
    .unwrap();
    assert_eq!(groups.groups.len(), 3);
    let b = &groups.groups[groups.index_of("b").unwrap()];
    assert!(matches!(&b.members[0], Member::Group(at) if groups.groups[*at].name == "a"));
    assert!(matches!(&b.members[1], Member::Exactly(host) if host.as_str() == "example.org"));
    assert!(
        groups.groups[groups.index_of("empty").unwrap()]
            .members
            .is_empty()
    );
    assert!(read("").unwrap().groups.is_empty());
}

#[test]
fn what_cannot_be_meant_is_an_error_with_its_line() {
    let cases = [
        (
            "[host_groups]\na = [\"@b\"]",
            "line 2: there is no host group \"b\"",
        ),
        ("[host_groups]\na = [\n \"*\",\n]", "line 3:"),
        (
            "[host_groups]\na = [\"x.*.com\"]",
            "a star stands only in front",
        ),
        (
            "[host_groups]\na = [\"*x.com\"]",
            "a star stands only in front",
        ),
        (
            "[host_groups]\na = [\"10.0.0.1\"]",
            "addresses are no hosts",
        ),
        (
            "[host_groups]\na = [\"10.0.0.0/8\"]",
            "addresses are no hosts",
        ),
        ("[host_groups]\na = [\"2130706433\"]", "ends in a number"),
        ("[host_groups]\na = [\"\"]", "it is empty"),
        ("[host_groups]\na = [\"example.com:443\"]", "line 2:"),
        ("[host_groups]\na = [1]", "line 2:"),
        ("[host_groups]\na = \"example.com\"", "line 2:"),
        (
            "[host_groups]\n\"a b\" = []",
            "is not the name of a host group",
        ),
        ("[host_groups]\na = []\na = []", "line 3:"),
        ("[host_group]\na = []", "unknown field"),
        ("a = [", "line 1:"),
        ("[host_groups]\na = [\"@a\"]", "contains itself"),
        (
            "[host_groups]\na = [\"@b\"]\nb = [\"@c\"]\nc = [\"@a\"]",
            "contains itself",
        ),
    ];
    for (text, expected) in cases {
        let found = read(text).expect_err(text);
        assert!(found.contains(expected), "{text:?}: {found}");
    }
}

#[test]
fn a_group_in_two_files_is_an_error() {
    let file = |path: &str| PolicyFile::new(path, "[host_groups]\na = []\n");
    let files = [file("one.toml"), file("two.toml")];
    let mut findings = Findings::default();
    HostGroups::read(&[&files[0], &files[1]], &mut findings);
    let findings = findings.finish().unwrap_err();
    assert!(
        findings[0]
            .to_string()
            .contains("`two.toml` line 2: host group `a` is there twice")
    );
}

#[test]
fn hostile_data_is_refused_in_bounded_time() {
    let deep = format!(
        "[host_groups]\na = {}{}",
        "[".repeat(200_000),
        "]".repeat(200_000)
    );
    let keys = format!("{} = 1", vec!["a"; 100_000].join("."));
    for text in [deep, keys] {
        let source =
            crate::source::PolicySource::new("hostile", vec![PolicyFile::new("hosts.toml", text)]);
        assert!(Snapshot::load(&source).is_err());
    }
    let mut many = String::from("[host_groups]\n");
    for at in 0..50_000 {
        many.push_str(&format!("g{at} = [\"@g{}\"]\n", (at + 1) % 50_000));
    }
    assert!(
        read(&many)
            .unwrap_err()
            .contains("more than 1000 host groups")
    );

    let mut chain = String::from("[host_groups]\ng0 = [\"example.com\"]\n");
    for at in 1..1_000 {
        chain.push_str(&format!("g{at} = [\"@g{}\"]\n", at - 1));
    }
    let groups = read(&chain).unwrap();
    assert_eq!(
        groups.containing()[groups.index_of("g0").unwrap()].len(),
        1_000
    );
}
