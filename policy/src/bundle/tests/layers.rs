//! Layers: whose a rule is follows from its place, and a less trusted layer never widens.

use std::os::unix::fs::symlink;

use super::*;
use crate::{Layer, Snapshot, Trust, source::PolicyFile};

const PERMIT: &str = "@id(\"own\")\npermit (principal, action, resource);\n";
const FORBID: &str = "@id(\"own\")\nforbid (principal, action, resource);\n";

fn rules(text: &str) -> PolicySource {
    PolicySource::new("own", vec![PolicyFile::new("own.cedar", text)])
}

fn organisation(more: &str) -> PolicySource {
    with_manifest(&format!("{MANIFEST}{more}")).source()
}

fn refused(layers: Layers) -> String {
    let joined = layers.join().unwrap();
    let error = Snapshot::load(&joined).unwrap_err();
    format!("{error}\nhelp: {}", error.help.clone().unwrap_or_default())
}

fn loaded(layers: Layers) -> Snapshot {
    snapshot(&layers.join().unwrap())
}

#[test]
fn f02_a_layer_is_where_a_set_was_given_and_not_what_it_says() {
    // A user's bundle that calls itself the organisation's, and trusts the user.
    let claims = with_manifest(&format!("{MANIFEST}[trust]\nuser = true\n")).source();
    let user = |organisation| Layers {
        organisation: Some(organisation),
        user: vec![PolicySource {
            files: vec![PolicyFile {
                layer: Layer::Organisation,
                ..PolicyFile::new("own.cedar", PERMIT)
            }],
            ..claims.clone()
        }],
        ..Layers::default()
    };
    let message = refused(user(organisation("")));
    assert!(
        message.contains("own.cedar` line 1: a `permit` in the user's layer"),
        "{message}"
    );
    let trusting = user(organisation("[trust]\nuser = true\n"));
    let joined = trusting.clone().join().unwrap();
    assert_eq!(
        joined.trust,
        Trust {
            team: false,
            user: true
        }
    );
    assert_eq!(joined.revision, Some(7));
    assert_eq!(joined.bundles[1].layer, Layer::User);
    assert_eq!(loaded(trusting).rules().len(), 2);
}

#[test]
fn without_an_organisation_team_and_user_permit_and_a_workspace_does_not() {
    let layers = |workspace| Layers {
        user: vec![rules(PERMIT)],
        workspace: Some(rules(workspace)),
        ..Layers::default()
    };
    assert!(refused(layers(PERMIT)).contains("a `permit` in the workspace's layer"));
    let snapshot = loaded(layers(FORBID));
    let layers: Vec<Layer> = snapshot.rules().iter().map(|rule| rule.layer).collect();
    assert_eq!(layers, [Layer::User, Layer::Workspace]);
    assert!(Layers::default().join().is_err());
}

#[test]
fn rules_of_two_layers_may_have_one_id_and_the_more_trusted_keeps_it() {
    let layers = Layers {
        organisation: Some(rules(PERMIT)),
        user: vec![rules(FORBID)],
        workspace: Some(rules(FORBID)),
        ..Layers::default()
    };
    let snapshot = loaded(layers);
    let ids: Vec<&str> = snapshot.rules().iter().map(|rule| &*rule.id).collect();
    assert_eq!(ids, ["own", "user:own", "workspace:own"]);
    let twice = Layers {
        team: vec![rules(FORBID), rules(FORBID)],
        ..Layers::default()
    };
    let message = refused(twice);
    assert!(message.contains("twice, first at own.cedar:1"), "{message}");
}

#[test]
fn f02_a_lower_layer_neither_redefines_nor_fills_a_host_group() {
    let lower = |data: &str| {
        let file = PolicyFile::new("lower.toml", format!("[host_groups]\n{data}"));
        let mut source = rules(FORBID);
        source.files.push(file);
        Some(source)
    };
    let with = |organisation: PolicySource, data: &str| Layers {
        organisation: Some(organisation),
        workspace: lower(data),
        ..Layers::default()
    };
    let message = refused(with(organisation(""), "ok = [\"evil.example.com\"]"));
    assert!(
        message.contains("lower.toml` line 2: host group `ok` is the organisation's"),
        "{message}"
    );
    // The organisation's own set names a group that it does not define.
    let open = bundle(&[("data/hosts.toml", "[host_groups]\nok = [\"@more\"]\n")]).source();
    let message = refused(with(open, "more = [\"evil.example.com\"]"));
    assert!(
        message.contains("host group `more` is the workspace's"),
        "{message}"
    );
    let unnamed = bundle(&[("data/hosts.toml", "[host_groups]\n")]).source();
    let message = refused(with(unnamed, "ok = [\"evil.example.com\"]"));
    assert!(
        message.contains("host group `ok` is the workspace's"),
        "{message}"
    );
    // A group of its own, also one that holds the organisation's.
    loaded(with(
        organisation(""),
        "mine = [\"@ok\", \"b.example.com\"]",
    ));
}

#[test]
fn only_the_most_trusted_layer_observes_as_a_whole() {
    let observing = organisation("[observe]\nuntil = 2026-12-31\n");
    let alone = Layers {
        organisation: Some(observing.clone()),
        user: vec![rules(FORBID)],
        ..Layers::default()
    };
    assert!(alone.join().unwrap().observe.is_some());
    let below = Layers {
        organisation: Some(organisation("")),
        team: vec![observing],
        ..Layers::default()
    };
    assert!(below.join().unwrap_err().to_string().contains("[observe]"));
}

#[test]
fn the_digest_knows_layers_trust_and_observe_mode() {
    let user = rules(FORBID);
    let other_layer = Layers {
        workspace: Some(rules(FORBID)),
        ..Layers::default()
    };
    assert_ne!(user.digest(), other_layer.join().unwrap().digest());
    let plain = organisation("").digest();
    let mut trusting = organisation("");
    trusting.trust.user = true;
    assert_ne!(plain, trusting.digest());
    assert_ne!(
        plain,
        organisation("[observe]\nuntil = 2026-12-31\n").digest()
    );
    assert_eq!(plain, organisation("description = \"x\"\n").digest());
}

fn workspace(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join(WORKSPACE_POLICY);
    fs::create_dir_all(&policy).unwrap();
    for (name, text) in files {
        fs::write(policy.join(name), text).unwrap();
    }
    folder
}

#[test]
fn f02_a_workspace_only_narrows() {
    let joined = |text: &str| {
        let folder = workspace(&[("own.cedar", text), (".hidden", "")]);
        let source = read_workspace(folder.path()).unwrap().unwrap();
        Layers {
            organisation: Some(organisation("[trust]\nuser = true\nteam = true\n")),
            workspace: Some(source),
            ..Layers::default()
        }
    };
    let message = refused(joined(PERMIT));
    assert!(
        message.contains("`.cordon/policy/own.cedar` line 1: a `permit`"),
        "{message}"
    );
    assert_eq!(loaded(joined(FORBID)).rules().len(), 2);
}

#[test]
fn a_workspace_without_policy_has_none() {
    let folder = tempfile::tempdir().unwrap();
    assert!(read_workspace(folder.path()).unwrap().is_none());
    fs::create_dir(folder.path().join(".cordon")).unwrap();
    assert!(read_workspace(folder.path()).unwrap().is_none());
    assert!(read_workspace(workspace(&[]).path()).unwrap().is_none());
    assert!(
        read_workspace(workspace(&[("a.cedar", "")]).path())
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_workspace_cannot_make_us_read_other_files() {
    let refused = |folder: &Path| read_workspace(folder).unwrap_err().to_string();
    let secret = tempfile::tempdir().unwrap();
    fs::write(secret.path().join("secret.cedar"), "secret").unwrap();
    let folder = workspace(&[]);
    let link = folder.path().join(WORKSPACE_POLICY).join("x.cedar");
    symlink(secret.path().join("secret.cedar"), &link).unwrap();
    assert!(refused(folder.path()).contains("symlink"));
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join(".cordon")).unwrap();
    symlink(secret.path(), folder.path().join(WORKSPACE_POLICY)).unwrap();
    assert!(refused(folder.path()).contains("symlink"));
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(secret.path().join("policy")).unwrap();
    symlink(secret.path(), folder.path().join(".cordon")).unwrap();
    assert!(refused(folder.path()).contains("symlink"));
}

#[test]
fn a_workspace_policy_is_small() {
    let refused = |files: &[(&str, &str)]| {
        read_workspace(workspace(files).path())
            .unwrap_err()
            .to_string()
    };
    let large = "// ".repeat(30_000);
    assert!(refused(&[("a.cedar", &large)]).contains("more than 65536 bytes"));
    let names: Vec<String> = (0..17).map(|n| format!("{n}.cedar")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "")).collect();
    assert!(refused(&many).contains("more than 16 files"));
    assert!(refused(&[("bundle.toml.bak", "")]).contains("neither"));
    assert!(
        read_workspace(workspace(&many[..16]).path())
            .unwrap()
            .is_some()
    );
}
