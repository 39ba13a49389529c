//! Runs `policies/cases/*.json` through the library. Every rule of a pack must decide some case.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail loudly")]

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc, time::SystemTime};

use cordon_policy::{
    Backend, Basis, Decision, Destination, GrantMode, GrantSource, Method, Operation, Request,
    SessionFacts, Snapshot, Transport,
    source::{PolicyFile, PolicySource},
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    policy: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    request: Asked,
    /// `allow`, or the reason of the deny.
    expect: String,
    #[serde(default)]
    rules: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase", tag = "kind")]
enum Asked {
    Start {
        command: String,
        backend: Backend,
    },
    Connect {
        target: String,
        transport: Option<Transport>,
    },
    Http {
        method: String,
        target: String,
        path: String,
    },
    Grant {
        path: PathBuf,
        mode: GrantMode,
        source: GrantSource,
    },
    Delete {
        path: PathBuf,
        mode: GrantMode,
    },
}

#[test]
fn every_case_is_decided_as_written_and_every_rule_has_a_case() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/cases");
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file: CaseFile = serde_json::from_str(&fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        run(&file);
        files += 1;
    }
    assert!(files > 0);
}

fn run(file: &CaseFile) {
    assert_eq!(file.policy, "default");
    let snapshot = Snapshot::load(&PolicySource::default_pack()).unwrap();
    let mut unused: BTreeSet<&str> = snapshot.rules().iter().map(|rule| &*rule.id).collect();
    for case in &file.cases {
        let (outcome, basis) = decide(&snapshot, &case.request);
        let rules: Vec<&str> = basis.rules.iter().map(|rule| &*rule.id).collect();
        assert_eq!(
            (outcome.as_str(), rules),
            (
                case.expect.as_str(),
                case.rules.iter().map(String::as_str).collect()
            ),
            "{}",
            case.name
        );
        for rule in &case.rules {
            unused.remove(rule.as_str());
        }
    }
    assert!(unused.is_empty(), "no case for {unused:?}");
}

fn decide(snapshot: &Snapshot, asked: &Asked) -> (String, Basis) {
    match snapshot.decide(request(asked)) {
        Decision::Allow(allow) => ("allow".into(), allow.verdict().basis.clone()),
        Decision::Deny(deny) => {
            let deny = deny.verdict();
            let reason = serde_json::to_value(deny.reason).unwrap();
            (reason.as_str().unwrap().into(), deny.basis.clone())
        }
    }
}

fn request(asked: &Asked) -> Request {
    let mut backend = Backend::Bubblewrap;
    let operation = match asked {
        Asked::Start {
            command,
            backend: asked,
        } => {
            backend = *asked;
            Operation::StartSession {
                command: command.clone(),
            }
        }
        Asked::Connect { target, transport } => Operation::Connect {
            destination: Destination::from_authority(target.as_bytes()).unwrap(),
            transport: transport.unwrap_or(Transport::HttpConnect),
        },
        Asked::Http {
            method,
            target,
            path,
        } => Operation::HttpRequest {
            destination: Destination::from_http_authority(target.as_bytes()).unwrap(),
            method: Method(method.clone()),
            path: path.clone(),
        },
        Asked::Grant { path, mode, source } => Operation::GrantFolder {
            path: path.clone(),
            mode: *mode,
            source: *source,
        },
        Asked::Delete { path, mode } => Operation::DeletePath {
            path: path.clone(),
            mode: *mode,
        },
    };
    Request {
        session: Arc::new(SessionFacts {
            id: "0190a5c2-0000-7000-8000-000000000001".into(),
            user: "alice".into(),
            groups: vec!["alice".into()],
            agent: Some("claude".into()),
            platform: "linux".into(),
            backend,
        }),
        operation,
        at: SystemTime::UNIX_EPOCH,
    }
}

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
