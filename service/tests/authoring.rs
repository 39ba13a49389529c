//! `cordon policy new`, `fmt`, `check`, `test`, `explain`, `doc` and `packs`, as an author uses
//! them: the walk of `docs/policy-authoring.md`.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail loudly")]

use std::{fs, path::PathBuf, process::Command};

use serde_json::Value;

/// A folder of an author.
struct Desk(tempfile::TempDir);

struct Done {
    code: i32,
    stdout: String,
    stderr: String,
}

const WIKI: &str = r#"
@id("wiki")
@reason("the wiki may be read")
permit (
  principal in Group::"staff",
  action == Action::"http_read",
  resource == Host::"wiki.corp.example.com"
)
when { context.path like "/public/*" };
"#;

const TESTS: &str = r#"
[given]
groups = ["staff"]

[[test]]
name = "the public wiki"
when = "GET http://wiki.corp.example.com/public/"
then = "allow"
rule = "wiki"

[[test]]
name = "only the public part"
when = "GET http://wiki.corp.example.com/secret"
then = "THEN"
"#;

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn policy(&self, words: &[&str]) -> Done {
        let output = Command::new(env!("CARGO_BIN_EXE_cordon"))
            .arg("policy")
            .args(words)
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
    fn says(&self, code: i32, line: &str, expected: &[&str]) -> String {
        let done = self.policy(&line.split(' ').collect::<Vec<_>>());
        let said = format!("{}{}", done.stdout, done.stderr);
        assert_eq!(done.code, code, "{line}: {said}");
        for part in expected {
            assert!(said.contains(part), "{line}: {part:?} is not in {said}");
        }
        done.stdout
    }

    fn add_wiki(&self, then: &str) {
        let rules = self.path("house/developer.cedar");
        let text = fs::read_to_string(&rules).unwrap();
        fs::write(&rules, format!("{text}{WIKI}")).unwrap();
        let tests = self.path("house/tests/wiki.toml");
        fs::write(tests, TESTS.replace("THEN", then)).unwrap();
    }
}

#[test]
fn from_a_pack_to_a_tested_policy() {
    let desk = Desk::new();
    desk.says(
        0,
        "new house --pack developer",
        &["house/bundle.toml", "cordon policy test house"],
    );
    desk.says(0, "check house", &["nothing wrong"]);
    desk.says(0, "fmt --check house", &[]);
    desk.says(
        0,
        "test house --min-coverage 100 --min-clause-coverage 100",
        &["0 failed"],
    );
    desk.add_wiki("deny");
    desk.says(
        0,
        "test house --min-clause-coverage 100",
        &["12 of 12 (100 %) rules"],
    );
    desk.says(
        0,
        "explain --policy house --user a --group staff GET http://wiki.corp.example.com/public/x",
        &[
            "allow: GET",
            "rule `wiki`",
            "Sessions of group `staff` may read from",
        ],
    );
    desk.says(
        3,
        "explain --policy house --user a --group staff GET http://wiki.corp.example.com/secret",
        &[
            "deny: GET",
            "the nearest permit is `wiki`",
            "context.path like \"/public/*\"",
            "an approval would not help",
            "permit (principal, action == Action::\"http_read\"",
        ],
    );
    desk.says(
        3,
        "explain --policy house --user a enable connector tracker",
        &[
            "ask: enable connector tracker",
            "an approval would allow it",
        ],
    );
    desk.says(
        0,
        "explain --policy house --user a --approved enable connector tracker",
        &["allow:"],
    );
    desk.says(
        0,
        "doc house",
        &[
            "# What `house` allows",
            "`wiki.corp.example.com`",
            "## Tests",
        ],
    );
    desk.says(0, "doc house --format html -o page.html", &[]);
    assert!(
        fs::read_to_string(desk.path("page.html"))
            .unwrap()
            .contains("<code>wiki</code>")
    );
}

#[test]
fn a_failing_test_is_told_with_what_came_and_why() {
    let desk = Desk::new();
    desk.says(0, "new house --pack developer", &[]);
    desk.add_wiki("allow");
    let why = "condition `context.path like \"/public/*\"` does not hold";
    desk.says(
        1,
        "test house --junit report.xml",
        &[
            "FAILED only the public part",
            "expected allow",
            "came     deny",
            why,
        ],
    );
    let xml = fs::read_to_string(desk.path("report.xml")).unwrap();
    assert!(
        xml.contains("<testsuites tests=\"24\" failures=\"1\">"),
        "{xml}"
    );
    let json = desk.says(1, "test house --format json", &[]);
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["passed"], false);
    assert_eq!(report["coverage"]["rules"]["covered"], 12);
    // The one that passes, alone, and by its file.
    desk.says(0, "test house --filter wiki", &["1 passed, 0 failed"]);
    desk.says(1, "test house/tests/wiki.toml", &["1 passed, 1 failed"]);
    // Too little covered is a failure of its own.
    desk.says(
        1,
        "test house --filter wiki --min-coverage 50",
        &["and 50 % are asked for"],
    );
}

#[test]
fn shipped_packs_are_named_and_pass() {
    let desk = Desk::new();
    let packs = desk.says(0, "packs --format json", &[]);
    let packs: Vec<Value> = serde_json::from_str(&packs).unwrap();
    let names: Vec<&str> = packs
        .iter()
        .map(|pack| pack["name"].as_str().unwrap())
        .collect();
    assert!(names.len() >= 7, "{names:?}");
    let mut words = vec![
        "test",
        "--min-coverage",
        "100",
        "--min-clause-coverage",
        "100",
    ];
    words.extend(&names);
    let done = desk.policy(&words);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    for name in names {
        assert!(
            done.stdout.contains(&format!("{name}: ")),
            "{name}: {}",
            done.stdout
        );
    }
    desk.says(
        3,
        "explain --policy locked-down connect github.com:443",
        &["locked-no-network"],
    );
    desk.says(0, "explain connect github.com:443", &["source-forges"]);
}

#[test]
fn what_is_not_asked_correctly_is_told() {
    let desk = Desk::new();
    desk.says(
        64,
        "explain fetch example.com",
        &["no request begins with", "connect HOST:PORT"],
    );
    desk.says(
        64,
        "explain connect example.com",
        &["has no port", "help: name the port"],
    );
    desk.says(
        1,
        "explain --policy nope connect a.example:1",
        &["one of default, locked-down"],
    );
    desk.says(
        64,
        "new house --pack nope",
        &["there is no pack", "locked-down"],
    );
    desk.says(64, "new Bad", &["is no name for a bundle"]);
    desk.says(0, "new house", &[]);
    desk.says(64, "new house", &["is there and not empty"]);
    desk.says(
        64,
        "test house --filter no-such-test",
        &["there is no test to run"],
    );
    desk.says(64, "test house --min-coverage 101", &["101"]);
    fs::write(
        desk.path("house/tests/bad.toml"),
        "[[test]]\nname = \"x\"\n",
    )
    .unwrap();
    desk.says(
        1,
        "test house",
        &["bad.toml` line 1", "help: a test is `[[test]]`"],
    );
    fs::write(desk.path("house/bad.cedar"), "permit (;").unwrap();
    desk.says(1, "fmt house", &["bad.cedar", "cordon policy check"]);
    desk.says(
        64,
        "fmt house/tests/../data",
        &["there is no `.cedar` file"],
    );
}
