//! `bundle.toml`, key by key.

use std::time::{Duration, SystemTime};

use super::*;
use crate::{Layer, SCHEMA_TEXT, Trust};

fn refused(text: &str) -> String {
    refusal(directory(&[("bundle.toml", text)]).path())
}

#[test]
fn every_key_is_read() {
    let text = "\
name = \"corp\"
revision = 18446744073709551615
schema = 1
layer = \"organisation\"
description = \"What everybody may do.\"
signed = true
not_before = 2026-11-01T00:00:00Z
not_after = \"2027-11-01\"
[trust]
team = true
[observe]
until = 2026-12-31
[labels]
finance = \"Numbers before they are published.\"
[credentials.forge]
from = \"file:/run/secrets/forge\"
description = \"Reads the forge.\"
[credentials.model]
from = \"env:MODEL_TOKEN\"
";
    // TOML has no integers above i63; a counter that large is a mistake.
    assert!(refused(text).contains("line 2"));
    let bundle = with_manifest(&text.replace("18446744073709551615", "9223372036854775807"));
    let manifest = bundle.manifest();
    assert_eq!(
        (manifest.name.as_str(), manifest.revision),
        ("corp", i64::MAX as u64)
    );
    assert_eq!(manifest.layer, Layer::Organisation);
    assert!(manifest.signed);
    assert_eq!(
        manifest.trust,
        Trust {
            team: true,
            user: false
        }
    );
    assert_eq!(
        manifest.validity(),
        (
            Some("2026-11-01T00:00:00Z".into()),
            Some("2027-11-01T00:00:00Z".into())
        )
    );
    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(1_798_675_200);
    assert_eq!(manifest.observe.map(|o| o.until), Some(until));
    assert_eq!(bundle.source().observe, manifest.observe);
    assert_eq!(manifest.labels.len(), 1);
    let from = |name: &str| manifest.credentials[name].from.clone();
    assert_eq!(
        from("forge"),
        CredentialSource::File("/run/secrets/forge".into())
    );
    assert_eq!(from("model"), CredentialSource::Env("MODEL_TOKEN".into()));
}

#[test]
fn mistakes_are_refused_with_their_line() {
    let with = |extra: &str| format!("{MANIFEST}{extra}\n");
    let without = |line: &str| MANIFEST.replace(line, "");
    let cases = [
        (with("nmae = 1"), "line 5"),
        (with("not_afer = \"2027-01-01\""), "unknown field"),
        (
            with("not_after = \"soon\""),
            "line 5: \"soon\" is no moment",
        ),
        (with("not_after = 5"), "is no moment"),
        (with("not_after = \"2027-01-01T00:00:00\""), "is no moment"),
        (
            with("not_before = 2027-01-01\nnot_after = 2027-01-01"),
            "line 6: `not_after` is not after",
        ),
        (with("description = \"\"\"a\nb\"\"\""), "description"),
        (with("[trust]\nteems = true"), "line 6"),
        (with("[observe]\n"), "until"),
        (
            with("[labels]\n\"A b\" = \"x\""),
            "line 6: \"A b\" is not a name",
        ),
        (
            with("[credentials.x]\nfrom = \"ghp_secret\""),
            "line 6: `from` does not say",
        ),
        (
            with("[credentials.x]\nfrom = \"file:relative\""),
            "`from` does not say",
        ),
        (
            with("[credentials.x]\nfrom = \"file:/a/../b\""),
            "`from` does not say",
        ),
        (
            with("[credentials.x]\nfrom = \"env:A B\""),
            "`from` does not say",
        ),
        (with("[credentials.x]\nvalue = \"s\""), "unknown field"),
        (without("name = \"corp\"\n"), "missing field `name`"),
        (without("revision = 7\n"), "missing field `revision`"),
        (
            without("layer = \"organisation\"\n"),
            "missing field `layer`",
        ),
        (without("schema = 1\n"), "which schema"),
        (
            MANIFEST.replace("schema = 1", "schema = 2"),
            "line 3: this Cordon knows no schema 2",
        ),
        (
            MANIFEST.replace("revision = 7", "revision = 0"),
            "line 2: the revision is 0",
        ),
        (MANIFEST.replace("revision = 7", "revision = -1"), "line 2"),
        (
            MANIFEST.replace("corp", "Corp"),
            "line 1: \"Corp\" is not the name",
        ),
        (MANIFEST.replace("corp", "../corp"), "is not the name"),
        (MANIFEST.replace("corp", ""), "is not the name"),
        (
            MANIFEST.replace("organisation", "workspace"),
            "line 4: a workspace has no bundle",
        ),
        (MANIFEST.replace("organisation", "root"), "line 4"),
        (format!("{MANIFEST}{MANIFEST}"), "duplicate key"),
    ];
    for (text, expected) in cases {
        let message = refused(&text);
        assert!(message.contains(expected), "{text}\n{message}");
        assert!(!message.contains("ghp_secret"), "{message}");
    }
    with_manifest(MANIFEST);
}

#[test]
fn f02_only_an_organisation_says_whom_it_trusts() {
    for layer in ["team", "user"] {
        let text = MANIFEST.replace("organisation", layer);
        assert!(
            refused(&format!("{text}[trust]\nuser = true")).contains("line 5"),
            "{layer}"
        );
        with_manifest(&text);
    }
    let none = Trust {
        team: false,
        user: false,
    };
    assert_eq!(with_manifest(MANIFEST).manifest().trust, none);
    assert_eq!(
        with_manifest(&format!("{MANIFEST}[trust]\n"))
            .manifest()
            .trust,
        none
    );
    let trusting = format!("{MANIFEST}[trust]\nuser = true\n");
    assert!(with_manifest(&trusting).manifest().trust.user);
}

#[test]
fn a_copy_of_the_schema_is_the_schema() {
    let unnumbered = MANIFEST.replace("schema = 1\n", "");
    bundle(&[("bundle.toml", &unnumbered), ("schema", SCHEMA_TEXT)]);
    bundle(&[("schema", SCHEMA_TEXT)]);
    let changed = SCHEMA_TEXT.replace("in [User", "in [Group");
    assert!(refusal(directory(&[("schema", &changed)]).path()).contains("schema"));
}

#[test]
fn a_folder_without_a_manifest_says_how_to_begin() {
    let folder = directory(&[]);
    fs::remove_file(folder.path().join("bundle.toml")).unwrap();
    assert!(refusal(folder.path()).contains("no `bundle.toml`"));
}
