//! The shipped policies as a person meets them: what the default pack warns of and knows, and the
//! example of `policies/README.md`. What the packs decide is in their own tests.

use cordon_policy::{
    Snapshot,
    source::{PolicyFile, PolicySource},
};

#[test]
fn the_default_pack_has_ids_reasons_and_no_warnings() {
    let snapshot = Snapshot::load(&PolicySource::default_pack()).unwrap();
    assert_eq!(snapshot.warnings(), []);
    for rule in snapshot.rules() {
        assert!(
            rule.reason.is_some() && !rule.id.contains(".cedar:"),
            "{}",
            rule.id
        );
    }
    let groups = snapshot.host_groups_of(&"api.anthropic.com".parse().unwrap());
    assert_eq!(groups, ["ai-apis".into(), "anthropic-api".into()]);
}

#[test]
fn the_readme_s_example_loads() {
    let readme = include_str!("../../policies/README.md");
    let block = |language: &str| {
        let (_, rest) = readme.split_once(&format!("```{language}\n")).unwrap();
        rest.split_once("```").unwrap().0.to_owned()
    };
    let file = |path: &str, language: &str| PolicyFile::new(path, block(language));
    let snapshot = Snapshot::load(&PolicySource::new(
        "readme",
        vec![file("readme.cedar", "cedar"), file("readme.toml", "toml")],
    ))
    .unwrap();
    assert_eq!(&*snapshot.rules()[0].id, "registry");
    let groups = snapshot.host_groups_of(&"packages.corp.example".parse().unwrap());
    assert_eq!(groups, ["internal".into(), "registries".into()]);
}
