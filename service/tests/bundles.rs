//! `cordon policy pack`, `sign`, `verify` and `key`, as a person uses them.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's helpers fail loudly"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

const MANIFEST: &str = "name = \"corp\"\nrevision = 1\nschema = 1\nlayer = \"organisation\"\n";
const RULE: &str = "@id(\"net\")\npermit (principal, action == Action::\"connect\", resource);\n";

/// A folder of an admin, with a bundle in it.
struct Desk(tempfile::TempDir);

struct Done {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.write("corp/bundle.toml", MANIFEST);
        desk.write("corp/net.cedar", RULE);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn policy(&self, line: &str) -> Done {
        let output = Command::new(env!("CARGO_BIN_EXE_cordon"))
            .arg("policy")
            .args(line.split(' '))
            .current_dir(self.0.path())
            .output()
            .unwrap();
        Done {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn done(&self, line: &str) -> String {
        let done = self.policy(line);
        assert_eq!(done.code, 0, "{line}: {}{}", done.stdout, done.stderr);
        done.stdout
    }

    #[track_caller]
    fn refused(&self, line: &str, code: i32, why: &str) {
        let done = self.policy(line);
        let said = format!("{}{}", done.stdout, done.stderr);
        assert_eq!(done.code, code, "{line}: {said}");
        assert!(
            said.contains(why) && said.contains("help: "),
            "{line}: {said}"
        );
    }

    /// What `verify --format json` says of a bundle in one word.
    fn verdict(&self, more: &str) -> String {
        let done = self.policy(&format!("verify {more} --trust trust.toml --format json"));
        let answer: Value = serde_json::from_str(&done.stdout).unwrap();
        let accepted = answer["accepted"].as_bool().unwrap();
        assert_eq!(done.code, i32::from(!accepted), "{answer}");
        let word = answer["refusal"].as_str().unwrap_or("accepted");
        word.to_owned()
    }

    fn key(&self, id: &str, role: &str) -> String {
        self.done(&format!("key new --id {id} --role {role}"))
    }
}

#[test]
fn from_rules_to_a_bundle_that_a_node_takes() {
    let desk = Desk::new();
    let entries = [
        desk.key("alice", "policy-publisher"),
        desk.key("rita", "policy-reviewer"),
    ];
    desk.write(
        "trust.toml",
        &format!("[signatures]\norganisation = 2\n{}", entries.concat()),
    );
    desk.done("pack corp -o corp.tar.gz");
    desk.refused("verify corp.tar.gz --trust trust.toml", 1, "not signed");
    assert_eq!(desk.verdict("corp.tar.gz"), "unsigned");
    desk.done("sign corp.tar.gz --key alice.key");
    assert_eq!(desk.verdict("corp.tar.gz"), "too_few_signatures");
    let said = desk.done("sign corp.tar.gz --key rita.key");
    assert!(said.contains("1 other signature(s) kept"), "{said}");
    assert_eq!(desk.verdict("corp.tar.gz"), "accepted");
    let said = desk.done("verify corp.tar.gz --trust trust.toml");
    assert!(said.contains("alice (alice) as policy-publisher"), "{said}");
    // The next revision, and a try to go back.
    desk.write(
        "corp/bundle.toml",
        &MANIFEST.replace("revision = 1", "revision = 2"),
    );
    desk.done("pack corp");
    for key in ["alice", "rita"] {
        desk.done(&format!("sign corp-2.tar.gz --key {key}.key"));
    }
    assert_eq!(
        desk.verdict("corp-2.tar.gz --after corp.tar.gz"),
        "accepted"
    );
    assert_eq!(desk.verdict("corp.tar.gz --after corp-2.tar.gz"), "stale");
}

#[test]
fn a_directory_is_signed_in_place_and_a_change_after_is_seen() {
    let desk = Desk::new();
    desk.write("trust.toml", &desk.key("alice", "policy-publisher"));
    desk.done("sign corp --key alice.key");
    assert_eq!(desk.verdict("corp"), "accepted");
    desk.done("pack corp -o corp.tar.gz");
    assert_eq!(desk.verdict("corp.tar.gz"), "accepted");
    desk.write("corp/net.cedar", &RULE.replace("permit", "forbid"));
    assert_eq!(desk.verdict("corp"), "tampered");
    assert_eq!(desk.verdict("corp --after corp.tar.gz"), "tampered");
    let said = desk.done("sign corp --key alice.key");
    assert!(
        said.contains("1 signature(s) for other content taken out"),
        "{said}"
    );
    assert_eq!(desk.verdict("corp --after corp.tar.gz"), "same_revision");
}

#[test]
fn what_would_not_load_is_neither_packed_nor_signed() {
    let desk = Desk::new();
    desk.key("alice", "policy-publisher");
    desk.write(
        "corp/bad.cedar",
        "permit (principal, action == Action::\"fetch\", resource);",
    );
    desk.refused("pack corp -o corp.tar.gz", 1, "bad.cedar");
    desk.refused("sign corp --key alice.key", 1, "bad.cedar");
    assert!(!desk.path("corp.tar.gz").exists() && !desk.path("corp/bundle.sig").exists());
    fs::remove_file(desk.path("corp/bad.cedar")).unwrap();
    desk.done("sign corp --key alice.key");
    desk.refused("pack corp -o corp/corp.tar.gz", 64, "own directory");
    desk.done("pack corp -o corp.tar.gz");
}

#[test]
fn keys_are_secret_and_never_overwritten() {
    let desk = Desk::new();
    let entry = desk.key("alice", "policy-publisher");
    let file = desk.path("alice.key");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    let before = fs::read(&file).unwrap();
    desk.refused(
        "key new --id alice --role policy-publisher",
        1,
        "never overwritten",
    );
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(desk.done("key show alice.key"), entry);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    desk.refused(
        "sign corp --key alice.key",
        1,
        "can be read or written by others",
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    desk.done("sign corp --key alice.key");
    assert_eq!(desk.policy("key new --id bob --role root").code, 64);
    desk.refused(
        "key new --id ../bob --role policy-reviewer",
        1,
        "not the name of a key",
    );
}
