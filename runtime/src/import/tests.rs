use std::{
    fs,
    sync::Arc,
    time::{Duration, SystemTime},
};

use cordon_policy::{
    Backend, Decision, Request, SessionFacts, Snapshot,
    ask::{self, Given},
    bundle::Bundle,
    source::{PolicyFile, PolicySource},
    testing::{self, Expected},
};
use serde_json::json;

use super::*;

fn places() -> Places {
    Places {
        home: "/home/u".into(),
        base: "/home/u/project".into(),
    }
}

fn load(imported: &Imported) -> Snapshot {
    let file = PolicyFile::new("imported.cedar", &imported.rules);
    let snapshot = Snapshot::load(&PolicySource::new("imported", vec![file]));
    snapshot.unwrap_or_else(|error| panic!("{error}: {}", imported.rules))
}

/// Whether rules allow a request in words; they load in any case.
fn allows(imported: &Imported, words: &str) -> bool {
    let snapshot = load(imported);
    let request = Request {
        session: Arc::new(SessionFacts {
            id: "s".into(),
            user: "u".into(),
            groups: Vec::new(),
            agent: None,
            platform: "linux".into(),
            backend: Backend::Bubblewrap,
        }),
        operation: ask::parse(words).unwrap(),
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
    };
    matches!(snapshot.decide(request), Decision::Allow(_))
}

#[track_caller]
fn expect(imported: &Imported, table: &[(&str, bool)]) {
    for (words, allowed) in table {
        assert_eq!(
            allows(imported, words),
            *allowed,
            "{words}: {}",
            imported.rules
        );
    }
}

fn kinds(imported: &Imported) -> Vec<(&str, NoteKind)> {
    let notes = imported.notes.iter();
    notes.map(|note| (note.place.as_str(), note.kind)).collect()
}

#[test]
fn f14_a_sandbox_s_settings_allow_no_more_than_they_did() {
    let settings = json!({
        "network": {
            "allowedDomains": ["api.example.com", "*.example.org", "*", "bad host"],
            "deniedDomains": ["evil.example.org", "["],
            "allowUnixSockets": ["/var/run/docker.sock"], "allowLocalBinding": false,
            "surprise": true,
        },
        "filesystem": {
            "allowWrite": [".", "/tmp/x", "src/*.ts", "../up"],
            "denyRead": ["~/.ssh"], "denyWrite": [".git/hooks"],
        },
        "ripgrep": {},
    });
    let imported = srt_settings(settings.to_string().as_bytes(), &places()).unwrap();
    expect(
        &imported,
        &[
            ("connect api.example.com:443", true),
            ("connect sub.api.example.com:443", false),
            ("connect a.example.org:443", true),
            ("connect example.org:443", false),
            ("connect evil.example.org:443", false),
            ("connect other.test:443", false),
            ("grant rwd /tmp/x", true),
            ("grant rw /tmp/x/below", true),
            ("grant ro /home/u/project", true),
            // It has what must not be written in it.
            ("grant rw /home/u/project", false),
            ("grant rw /home/u/project/src", true),
            ("grant ro /home/u/.ssh", false),
            ("grant ro /home/u", false),
            ("grant ro /tmp", false),
        ],
    );
    let notes = kinds(&imported);
    for expected in [
        ("network.allowedDomains[2]", NoteKind::Narrower),
        ("network.deniedDomains[1]", NoteKind::Lost),
        ("network.allowUnixSockets", NoteKind::Narrower),
        ("network.surprise", NoteKind::Lost),
        ("filesystem.allowWrite[2]", NoteKind::Narrower),
        ("filesystem.allowWrite[3]", NoteKind::Narrower),
        ("ripgrep", NoteKind::Other),
    ] {
        assert!(notes.contains(&expected), "{expected:?}: {notes:?}");
    }
    assert!(imported.loses());
}

#[test]
fn f14_permission_rules_keep_their_order_deny_ask_allow() {
    let settings = json!({
        "permissions": {
            "allow": ["Bash", "Read", "WebFetch(domain:docs.example.com)", "mcp__tracker__read",
                "mcp__notes", "Edit(//srv/data/**)", "Edit(src/**/*.ts)", "Bash(ls:*)"],
            "ask": ["Bash", "mcp__tracker__*"],
            "deny": ["Read(~/.aws/**)", "WebFetch(domain:evil.example.com)", "mcp__notes__wipe",
                "Bash(rm:*)", "Read(./.env*)"],
            "defaultMode": "acceptEdits", "additionalDirectories": ["//srv/data"],
        },
        "sandbox": {"enabled": true, "network": {"allowedDomains": ["a.example.com"]},
            "excludedCommands": ["docker"]},
        "deniedMcpServers": [{"serverName": "bad"}, {"serverUrl": "https://x"}],
        "model": "opus", "disableAllHooks": true,
    });
    let imported = claude_settings(settings.to_string().as_bytes(), &places()).unwrap();
    expect(
        &imported,
        &[
            ("call Bash of claude-code", false),
            ("read /home/u/project/a", true),
            ("read /home/u/.aws/config", false),
            ("write /srv/data/a", true),
            ("write /home/u/project/src/a.ts", false),
            ("GET https://docs.example.com/", true),
            ("GET https://sub.docs.example.com/", false),
            ("GET https://evil.example.com/", false),
            ("call read of tracker", false),
            ("call anything of notes", true),
            ("call wipe of notes", false),
            ("call x of bad", false),
            ("load extension bad", false),
            ("connect a.example.com:443", true),
            ("grant rw /srv/data", true),
            ("grant ro /home/u", false),
        ],
    );
    let notes = kinds(&imported);
    for expected in [
        ("permissions.allow[6]", NoteKind::Narrower),
        ("permissions.allow[7]", NoteKind::Narrower),
        ("permissions.deny[3]", NoteKind::Lost),
        ("permissions.deny[4]", NoteKind::Lost),
        ("permissions.defaultMode", NoteKind::Narrower),
        ("sandbox.excludedCommands", NoteKind::Narrower),
        ("deniedMcpServers[1]", NoteKind::Lost),
        ("disableAllHooks", NoteKind::Lost),
        ("model", NoteKind::Other),
    ] {
        assert!(notes.contains(&expected), "{expected:?}: {notes:?}");
    }
}

#[test]
fn f14_a_whole_tool_is_named_as_such_and_refused_whole() {
    let read = |permissions: Value| {
        let settings = json!({"permissions": permissions});
        claude_settings(settings.to_string().as_bytes(), &places()).unwrap()
    };
    // Brackets with nothing in them say nothing; a star says everything, and the report says so.
    for nothing in ["Read()", "Read( )", "Bash()", "mcp__notes()"] {
        let imported = read(json!({"allow": [nothing]}));
        expect(
            &imported,
            &[("read /srv/a", false), ("call Bash of claude-code", false)],
        );
        assert_eq!(
            kinds(&imported),
            [("permissions.allow[0]", NoteKind::Narrower)],
            "{nothing}"
        );
    }
    let all = read(json!({"allow": ["Read(*)", "Bash"]}));
    expect(
        &all,
        &[("read /srv/a", true), ("call Bash of claude-code", true)],
    );
    assert_eq!(kinds(&all), [("permissions.allow[0]", NoteKind::Wider)]);
    assert!(!all.loses());
    // Refused, it is also what a grant would give without anybody asking.
    let folders = json!(["//srv/data"]);
    for (name, ro, rw) in [
        ("Read", false, false),
        ("Edit()", true, false),
        ("Write(*)", true, false),
    ] {
        let denied = read(json!({"deny": [name], "additionalDirectories": folders}));
        expect(
            &denied,
            &[("grant ro /srv/data", ro), ("grant rw /srv/data", rw)],
        );
        let asked = read(json!({"ask": [name], "additionalDirectories": folders}));
        expect(
            &asked,
            &[("grant ro /srv/data", ro), ("grant rw /srv/data", rw)],
        );
        for imported in [&denied, &asked] {
            let told = kinds(imported);
            assert!(
                told.iter().any(|(_, kind)| *kind == NoteKind::Narrower),
                "{name}: {told:?}"
            );
        }
    }
    let free = read(json!({"additionalDirectories": folders}));
    expect(
        &free,
        &[("grant ro /srv/data", true), ("grant rw /srv/data", true)],
    );
}

/// Inside walls nobody asks for each file of a grant: a path that is asked about is asked about when a
/// folder that has it in it is granted.
#[test]
fn f14_a_path_that_is_asked_about_is_not_granted_without_an_approval() {
    for (written, ro) in [
        ("Edit(./deploy/**)", Expected::Allow),
        ("Read(./deploy)", Expected::Ask),
    ] {
        let settings = json!({"permissions": {"ask": [written], "additionalDirectories": ["."]}});
        let imported = claude_settings(settings.to_string().as_bytes(), &places()).unwrap();
        let snapshot = load(&imported);
        for (words, expected) in [
            ("grant ro /home/u/project", ro),
            ("grant rw /home/u/project", Expected::Ask),
            ("grant ro /home/u/project/deploy", ro),
            ("grant rw /home/u/project/deploy/prod", Expected::Ask),
            // It has nothing of it in it.
            ("grant rw /home/u/project/src", Expected::Allow),
            // An approval gives no more than what is allowed with one.
            ("grant rw /home/u", Expected::Deny),
        ] {
            let came = testing::decide(&snapshot, &Given::default(), &ask::parse(words).unwrap());
            let rules = &imported.rules;
            assert_eq!(came.outcome, expected, "{written}: {words}: {rules}");
        }
        assert!(!imported.loses());
        assert_eq!(
            kinds(&imported),
            [("permissions.ask[0]", NoteKind::Narrower)],
            "{written}"
        );
    }
}

#[test]
fn a_baseline_is_rules_mounts_and_what_changed() {
    let baseline = |hosts: Value, mode: &str, env: Value| {
        json!({
            "baselineVersion": 1, "appVersion": "1.0",
            "mountLayout": {"mounts": [{"mountPath": "outputs", "mode": mode}]},
            "network": {"allowKind": "allowlist", "allowDomains": hosts},
            "bgEnvStrip": {"$comment": "x", "count": 1, "knownVars": env},
        })
        .to_string()
    };
    let before = baseline(json!(["a.example.com", "b.example.com"]), "r", json!(["A"]));
    let now = baseline(
        json!(["a.example.com", "c.example.com"]),
        "rw",
        json!(["A", "B"]),
    );
    let read = cowork_baseline(now.as_bytes(), Some(before.as_bytes()), "b").unwrap();
    expect(
        &read.imported,
        &[
            ("connect a.example.com:443", true),
            ("connect b.example.com:443", false),
        ],
    );
    assert_eq!(read.env_strip, ["A", "B"]);
    assert_eq!(read.mounts["outputs"], "rw");
    assert_eq!(
        read.changes,
        [
            "+ host c.example.com",
            "- host b.example.com",
            "+ mount outputs (rw)",
            "- mount outputs (r)",
            "+ variable B",
        ]
    );
    assert!(!read.imported.loses());
    let odd = baseline(json!(["a.example.com"]), "x", json!([]));
    assert!(
        cowork_baseline(odd.as_bytes(), None, "b")
            .unwrap()
            .imported
            .loses()
    );
}

#[test]
fn f14_what_is_not_known_counts_as_lost_unless_it_says_nothing() {
    let claude = json!({
        "denyEverythingNew": true, "denyNothing": [], "statusLine": {"type": "command"},
        "allowManagedPermissionRulesOnly": true, "blockedMarketplaces": ["x"],
        "disabledMcpjsonServers": ["bad"], "sandbox": {"denyNew": ["x"], "enabled": true},
    });
    let read = claude_settings(claude.to_string().as_bytes(), &places()).unwrap();
    expect(
        &read,
        &[("load extension bad", false), ("call x of bad", false)],
    );
    let notes = kinds(&read);
    assert_eq!(
        notes,
        [
            ("denyEverythingNew", NoteKind::Lost),
            ("denyNothing", NoteKind::Lost),
            ("statusLine", NoteKind::Other),
            ("allowManagedPermissionRulesOnly", NoteKind::Other),
            ("blockedMarketplaces", NoteKind::Lost),
            ("sandbox.denyNew", NoteKind::Lost),
            ("sandbox.enabled", NoteKind::Other),
        ]
    );
    let srt = json!({"denyNew": 1, "off": false, "allowPty": true});
    let read = srt_settings(srt.to_string().as_bytes(), &places()).unwrap();
    assert_eq!(
        kinds(&read),
        [
            ("denyNew", NoteKind::Lost),
            ("off", NoteKind::Lost),
            ("allowPty", NoteKind::Narrower)
        ]
    );
    let (known, _) = baselines();
    assert!(!known.imported.loses(), "{:?}", known.imported.notes);
    for place in [
        "/denyNew",
        "/network/denyDomains",
        "/mountLayout/denyMounts",
        "/mountLayout/mounts/0/onlyFor",
        "/bgEnvStrip/patterns",
    ] {
        let mut baseline: Value = serde_json::from_str(BASELINE).unwrap();
        let (parent, name) = place.rsplit_once('/').unwrap();
        baseline.pointer_mut(parent).unwrap()[name] = json!(["x"]);
        let read = cowork_baseline(
            baseline.to_string().as_bytes(),
            Some(BASELINE.as_bytes()),
            "b",
        );
        let read = read.unwrap();
        assert!(read.imported.loses(), "{place}");
        // A mount's fields are told with the mount.
        let told = read.changes.iter().any(|line| line.contains(name));
        assert_eq!(
            told,
            !place.contains("mounts/"),
            "{place}: {:?}",
            read.changes
        );
    }
}

/// The strictest value of a list of what is allowed is the empty one, and of a switch it may be `false`.
#[test]
fn f14_what_is_empty_or_off_says_nothing_only_where_its_meaning_is_known() {
    let lost = |name: &str, value: &Value| {
        let text = json!({ name: value }).to_string();
        let read = claude_settings(text.as_bytes(), &places()).unwrap();
        (read.loses(), read.notes.len())
    };
    for (name, value) in [
        ("strictKnownMarketplaces", json!([])),
        ("allowedHttpHookUrls", json!([])),
        ("httpHookAllowedEnvVars", json!([])),
        ("availableModels", json!([])),
        ("blockedMarketplaces", json!(["x"])),
        ("allowManagedHooksOnly", json!(true)),
        ("hooks", json!({"PreToolUse": []})),
        ("enabledPlugins", json!({"guard@x": false})),
        ("enabledPlugins", json!({"a@x": true, "guard@x": false})),
        ("allowSomethingNew", json!(false)),
        ("allowedNew", json!([])),
        ("allowedNew", json!({})),
    ] {
        assert!(lost(name, &value).0, "{name}: {value}");
    }
    for (name, value) in [
        ("strictKnownMarketplaces", Value::Null),
        ("blockedMarketplaces", json!([])),
        ("allowManagedHooksOnly", json!(false)),
        ("disableAllHooks", json!(false)),
        ("hooks", json!({})),
        ("enabledPlugins", json!({})),
        ("enabledPlugins", json!({"guard@x": true})),
        ("allowSomethingNew", Value::Null),
    ] {
        assert_eq!(lost(name, &value), (false, 0), "{name}: {value}");
    }
    for (place, value, is_lost) in [
        ("/new", json!([]), true),
        ("/network/allowNew", json!(false), true),
        ("/network/allowedNew", json!([]), true),
        ("/filesystem/allowNew", json!(false), true),
        ("/network/allowNew", Value::Null, false),
        ("/network/allowUnixSockets", json!([]), false),
        ("/network/allowLocalBinding", json!(false), false),
        ("/filesystem/allowNew", Value::Null, false),
    ] {
        let (parent, name) = place.rsplit_once('/').unwrap();
        let mut settings = json!({"network": {}, "filesystem": {}});
        settings.pointer_mut(parent).unwrap()[name] = value.clone();
        let read = srt_settings(settings.to_string().as_bytes(), &places()).unwrap();
        assert_eq!(read.loses(), is_lost, "{place}: {value}");
    }
    for (value, is_lost) in [
        (json!([]), true),
        (json!(false), true),
        (Value::Null, false),
    ] {
        let mut baseline: Value = serde_json::from_str(BASELINE).unwrap();
        baseline["network"]["allowNew"] = value.clone();
        let read = cowork_baseline(baseline.to_string().as_bytes(), None, "b").unwrap();
        assert_eq!(read.imported.loses(), is_lost, "{value}");
    }
}

#[test]
fn f14_variables_to_take_away_that_are_no_list_of_names_stop_it() {
    for (strip, is_read) in [
        (json!({"knownVars": ["SECRET"]}), true),
        (json!({}), true),
        (Value::Null, true),
        (json!(["SECRET"]), false),
        (json!("SECRET"), false),
        (json!({"knownVars": "SECRET"}), false),
        (json!({"knownVars": null}), false),
    ] {
        let mut baseline: Value = serde_json::from_str(BASELINE).unwrap();
        baseline["bgEnvStrip"] = strip.clone();
        let read = cowork_baseline(baseline.to_string().as_bytes(), None, "b");
        assert_eq!(read.is_ok(), is_read, "{strip}");
    }
}

/// As a real one is laid out.
const BASELINE: &str = include_str!("../../../tests/fixtures/cowork-baseline.json");

fn baselines() -> (Baseline, String) {
    let read = cowork_baseline(BASELINE.as_bytes(), None, "b").unwrap();
    let rules = read
        .pack
        .iter()
        .filter(|(path, _)| path.ends_with(".cedar"));
    let rules = rules.map(|(_, text)| text.as_str()).collect();
    (read, rules)
}

#[test]
fn a_baseline_is_a_pack_and_session_defaults() {
    let (read, rules) = baselines();
    let files: Vec<&str> = read.pack.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        files,
        [
            "bundle.toml",
            "cowork.cedar",
            "data/hosts.toml",
            "tests/cowork.toml",
            "mounts.cedar",
            "tests/baseline.toml"
        ]
    );
    let text = |path: &str| &read.pack.iter().find(|(name, _)| name == path).unwrap().1;
    assert!(
        text("data/hosts.toml")
            .contains("cowork-baseline = [\"api.example.com\", \"*.cdn.example.com\"]\n")
    );
    assert!(text("bundle.toml").contains("baseline of 1.2.3 says"));
    assert!(rules.contains("[\"uploads\", \"local-plugins\"].contains(context.name)"));
    for part in [
        "strip_env = [\"AGENT_SESSION_ID\", \"AGENT_TOKEN\"]",
        "name = \"uploads\"\nmode = \"ro\"",
        "name = \"outputs\"\nmode = \"rw\"",
    ] {
        assert!(read.defaults.contains(part), "{part}: {}", read.defaults);
    }
    // Hostile text gets into no file.
    let hostile = BASELINE
        .replace("1.2.3", "1\\\"\\nsigned = true\\nx = \\\"")
        .replace("\"local-plugins\"", "\"x\\\"]) permit\"")
        .replace("AGENT_TOKEN", "A\\\"]\\nx = [\\\"")
        .replace("*.cdn.example.com", "a\\\", \\\"*");
    let read = cowork_baseline(hostile.as_bytes(), None, "b").unwrap();
    let all: String = read.pack.iter().map(|(_, text)| text.as_str()).collect();
    for part in ["signed = true", "]) permit", "x = ["] {
        assert!(
            !all.contains(part) && !read.defaults.contains(part),
            "{part}"
        );
    }
    assert!(all.contains("cowork-baseline = [\"api.example.com\"]"));
    assert!(read.imported.loses(), "a variable that is no name is told");
}

/// The tests that come with a pack pass, of mounts whose names begin alike too.
#[test]
fn the_mounts_of_a_baseline_are_written_as_it_says() {
    let pack = |mounts: &[(&str, &str)]| {
        let mut baseline: Value = serde_json::from_str(BASELINE).unwrap();
        let mounts = mounts.iter();
        let mounts = mounts
            .map(|(name, mode)| json!({"name": name, "mountPath": name, "mode": mode}))
            .collect();
        baseline["mountLayout"]["mounts"] = Value::Array(mounts);
        let read = cowork_baseline(baseline.to_string().as_bytes(), None, "b").unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in &read.pack {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let bundle = Bundle::read(folder.path()).unwrap();
        let snapshot = Snapshot::load(&bundle.source()).unwrap();
        let tests = bundle.tests().map(|(path, text)| {
            let tests = testing::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
            (path.display().to_string(), tests)
        });
        let report = testing::run(&snapshot, &tests.collect::<Vec<_>>(), None);
        for test in &report.tests {
            assert!(test.passed(), "{test:?}");
        }
        let named = |name: &str| report.tests.iter().filter(|test| test.name == name).count();
        (read, snapshot, named("mounts for writing are written"))
    };
    let (read, snapshot, tested) = pack(&[
        ("uploads", "r"),
        ("uploads-out", "rw"),
        ("uploads-out-x", "r"),
        ("uploads-2", "rw"),
        ("outputs", "r"),
        ("results", "rwd"),
    ]);
    assert_eq!(tested, 1);
    for (words, expected) in [
        ("grant rw /srv/a named uploads-out", Expected::Allow),
        ("grant rw /srv/a named uploads-out-2", Expected::Allow),
        ("grant rwd /srv/a named uploads-out", Expected::Ask),
        ("grant rw /srv/a named uploads", Expected::Deny),
        // A second and a third folder of the read-only one, and what is no mount.
        ("grant rw /srv/a named uploads-2", Expected::Deny),
        ("grant rw /srv/a named uploads-3", Expected::Deny),
        ("grant rw /srv/a named uploads-mine", Expected::Deny),
        ("grant ro /srv/a named uploads-2", Expected::Allow),
        ("grant rw /srv/a named uploads-out-x", Expected::Deny),
        ("grant rw /srv/a named uploads-out-x-2", Expected::Deny),
        ("grant rw /srv/a named outputs", Expected::Deny),
        ("grant rw /srv/a named results", Expected::Allow),
        ("grant rwd /srv/a named results", Expected::Ask),
    ] {
        let came = testing::decide(&snapshot, &Given::default(), &ask::parse(words).unwrap());
        assert_eq!(came.outcome, expected, "{words}: {:?}", came.rules);
    }
    let told = kinds(&read.imported);
    let narrower = ("mountLayout uploads-2", NoteKind::Narrower);
    assert!(told.contains(&narrower), "{told:?}");
    assert!(!told.contains(&("mountLayout uploads-out", NoteKind::Narrower)));
    // What the shipped pack has read-only is the baseline's to say.
    let (_, snapshot, _) = pack(&[("uploads", "rw"), ("uploads-in", "r")]);
    for (words, expected) in [
        ("grant rw /srv/a named uploads", Expected::Allow),
        ("grant rw /srv/a named uploads-2", Expected::Allow),
        ("grant rw /srv/a named uploads-in", Expected::Deny),
        ("grant rw /srv/a named uploads-in-2", Expected::Deny),
    ] {
        let came = testing::decide(&snapshot, &Given::default(), &ask::parse(words).unwrap());
        assert_eq!(came.outcome, expected, "{words}: {:?}", came.rules);
    }
    // Nothing of it is said where the pack says it all.
    let (read, _, _) = pack(&[("results", "rw")]);
    assert!(read.pack.iter().all(|(path, _)| path != "mounts.cedar"));
}

#[test]
fn what_is_no_settings_is_refused_and_hostile_text_stays_text() {
    for text in ["", "[]", "{\"a\": 1, \"a\": 2}", "{"] {
        assert!(
            claude_settings(text.as_bytes(), &places()).is_err(),
            "{text}"
        );
        assert!(srt_settings(text.as_bytes(), &places()).is_err(), "{text}");
        assert!(
            cowork_baseline(text.as_bytes(), None, "b").is_err(),
            "{text}"
        );
    }
    let hostile = json!({"permissions": {"allow": [
        "Read(//a\"); permit(principal, action, resource); //)",
        "Edit(//a\\\"b/**)",
        "x\") permit",
    ]}});
    let imported = claude_settings(hostile.to_string().as_bytes(), &places()).unwrap();
    expect(
        &imported,
        &[("connect a.test:443", false), ("call x of y", false)],
    );
}
