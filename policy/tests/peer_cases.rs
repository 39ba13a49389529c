//! Thirteen cases in which a subset of Cedar goes wrong in software like ours, each right here.
//!
//! Two of them are not the engine's and stand with what they are about: a full event buffer is
//! `a03_*` in `audit/src/log/tests.rs` (a record that cannot be written is a refusal, never a
//! dropped event), an unauthenticated policy endpoint is the control socket's mode in
//! `tests/tests/threats_network.rs`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail loudly"
)]

use std::{fs, sync::Arc, time::SystemTime};

use cordon_policy::{
    Backend, Decision, Destination, GrantMode, GrantSource, Operation, Request, SessionFacts,
    Snapshot, Transport,
    check::{Severity, check},
    source::{PolicyFile, PolicySource},
};

const PERMIT_ALL: &str = "@id(\"all\") permit (principal, action, resource);\n";

#[test]
fn peer_01_a_permit_below_a_forbidden_parent_stays_forbidden() {
    let set = load(
        "@id(\"no\") forbid (principal, action, resource in Folder::\"/srv\");
         @id(\"sub\") permit (principal, action, resource in Folder::\"/srv/open\");
         @id(\"no-net\") forbid (principal, action, resource in Domain::\"example.com\");
         @id(\"api\") permit (principal, action, resource == Host::\"api.example.com\");",
    );
    assert_eq!(decide(&set, grant("/srv/open/a")), "rule no");
    assert_eq!(decide(&set, connect("api.example.com:443")), "rule no-net");
    // The control: without the parent's forbid the permits work.
    let set = load(
        "@id(\"sub\") permit (principal, action, resource in Folder::\"/srv/open\");
         @id(\"api\") permit (principal, action, resource == Host::\"api.example.com\");",
    );
    assert_eq!(decide(&set, grant("/srv/open/a")), "allow sub");
    assert_eq!(decide(&set, connect("api.example.com:443")), "allow api");
}

#[test]
fn peer_02_a_principal_constraint_is_not_dropped() {
    for (scope, expected) in [
        ("principal in User::\"alice\"", "allow r"),
        ("principal in User::\"bob\"", "default_deny"),
        ("principal in Group::\"staff\"", "allow r"),
        ("principal in Group::\"ops\"", "default_deny"),
        ("principal is Session in Agent::\"claude\"", "allow r"),
        ("principal is Session in Agent::\"codex\"", "default_deny"),
    ] {
        let set = load(&format!("@id(\"r\") permit ({scope}, action, resource);"));
        assert_eq!(decide(&set, connect("a.test:443")), expected, "{scope}");
    }
}

#[test]
fn peer_03_a_rule_that_cannot_be_built_refuses_the_set_and_is_not_left_out() {
    for broken in [
        "forbid (principal, action == Action::\"fetch\", resource);",
        "forbid (principal, action, resource) when { context.nope };",
        "forbid (principal, action, resource == Host::\"*.example.com\");",
        "forbid (principal, action, resource) when { resource.name like 5 };",
        "forbid (principal, action, resource)",
        "forbid (principal, action, resource in HostGroup::\"absent\");",
    ] {
        let text = format!("{PERMIT_ALL}{broken}");
        assert!(Snapshot::load(&source(&text)).is_err(), "{broken}");
    }
    assert_eq!(
        decide(&load(PERMIT_ALL), connect("a.test:443")),
        "allow all"
    );
}

#[test]
fn peer_04_no_load_path_skips_the_checks() {
    let bad = format!("{PERMIT_ALL}forbid (principal, action == Action::\"fetch\", resource);");
    let directory = tempfile::tempdir().unwrap();
    for (text, is_good) in [(PERMIT_ALL, true), (bad.as_str(), false)] {
        let file = directory.path().join("a.cedar");
        fs::write(&file, text).unwrap();
        let sources = [
            source(text),
            PolicySource::read(&[&file]).unwrap(),
            PolicySource::read(&[directory.path()]).unwrap(),
            PolicySource::default_pack().join(source(text)),
            source(text).join(PolicySource::default_pack()),
        ];
        for source in sources {
            assert_eq!(Snapshot::load(&source).is_ok(), is_good, "{}", source.name);
            let errors = check(&source);
            let errors = errors.iter().filter(|f| f.severity == Severity::Error);
            assert_eq!(errors.count() == 0, is_good, "{}", source.name);
        }
    }
}

#[test]
fn peer_05_several_when_clauses_must_all_hold() {
    let set = load(
        "@id(\"r\") permit (principal, action == Action::\"connect\", resource)
         when { context.port == 443 } when { resource is Host } when { principal.user == User::\"alice\" };",
    );
    for (target, expected) in [
        ("a.test:443", "allow r"),
        ("a.test:80", "default_deny"),
        ("192.0.2.7:443", "default_deny"),
    ] {
        assert_eq!(decide(&set, connect(target)), expected, "{target}");
    }
}

#[test]
fn peer_06_long_paths_and_names_are_compared_whole() {
    let long = "x".repeat(255);
    let folder = format!("/srv/{long}/{long}");
    let set = load(&format!(
        "{PERMIT_ALL}@id(\"no\") forbid (principal, action, resource in Folder::\"{folder}\");"
    ));
    assert_eq!(decide(&set, grant(&folder)), "rule no");
    assert_eq!(decide(&set, grant(&format!("{folder}/a"))), "rule no");
    // Alike in the first 255 and in the first 511 bytes.
    let shorter = folder.strip_suffix('x').unwrap();
    assert_eq!(decide(&set, grant(shorter)), "allow all");
    assert_eq!(decide(&set, grant(&format!("{shorter}y"))), "allow all");
    assert_eq!(
        decide(&set, grant(&format!("/{}", "a/".repeat(2_100)))),
        "malformed"
    );
}

#[test]
fn peer_07_ipv6_is_decided_like_ipv4() {
    let set = load(
        "@id(\"net\") permit (principal, action, resource in Network::\"2001:db8::/32\");
         @id(\"no\") forbid (principal, action, resource == Address::\"2001:db8::bad\");
         @id(\"ip\") permit (principal, action == Action::\"connect\", resource is Address)
         when { resource.ip.isInRange(ip(\"2001:db9::/32\")) };",
    );
    for (target, expected) in [
        ("[2001:db8::1]:443", "allow net"),
        ("[2001:0DB8:0:0::1]:443", "allow net"),
        ("[2001:db8::bad]:443", "rule no"),
        ("[2001:db9::1]:443", "allow ip"),
        ("[2001:dba::1]:443", "default_deny"),
        // An IPv4 address in IPv6 clothes is the IPv4 address.
        ("[::ffff:192.0.2.7]:443", "default_deny"),
    ] {
        assert_eq!(decide(&set, connect(target)), expected, "{target}");
    }
}

#[test]
fn peer_08_no_name_is_resolved_when_a_set_is_loaded() {
    // `localhost` has an address everywhere, `.invalid` nowhere (RFC 6761): neither matters.
    let set = load(
        "@id(\"local\") permit (principal, action, resource == Host::\"localhost\");
         @id(\"never\") permit (principal, action, resource == Host::\"name.invalid\");",
    );
    for (target, expected) in [
        ("localhost:443", "allow local"),
        ("name.invalid:443", "allow never"),
        ("127.0.0.1:443", "default_deny"),
        ("[::1]:443", "default_deny"),
    ] {
        assert_eq!(decide(&set, connect(target)), expected, "{target}");
    }
}

#[test]
fn peer_11_nothing_is_permitted_by_default() {
    for text in [
        "",
        "// nothing\n",
        "forbid (principal, action, resource == Host::\"a.test\");",
    ] {
        let set = load(text);
        assert_eq!(
            decide(&set, connect("b.test:443")),
            "default_deny",
            "{text}"
        );
        assert_eq!(decide(&set, grant("/srv")), "default_deny", "{text}");
    }
    let directory = tempfile::tempdir().unwrap();
    assert!(PolicySource::read(&[directory.path()]).is_err());
    assert!(PolicySource::read(&[&directory.path().join("absent")]).is_err());
}

#[test]
fn peer_12_unless_is_a_condition() {
    let set = load(
        "@id(\"p\") permit (principal, action == Action::\"connect\", resource) unless { context.port == 25 };
         @id(\"f\") forbid (principal, action == Action::\"connect\", resource) unless { resource in Domain::\"example.com\" };",
    );
    for (target, expected) in [
        ("a.example.com:443", "allow p"),
        ("a.example.com:25", "default_deny"),
        ("other.test:443", "rule f"),
    ] {
        assert_eq!(decide(&set, connect(target)), expected, "{target}");
    }
}

#[test]
fn peer_13_a_template_is_refused_and_not_left_out() {
    for template in [
        "forbid (principal == ?principal, action, resource);",
        "forbid (principal, action, resource in ?resource);",
    ] {
        let error = Snapshot::load(&source(&format!("{PERMIT_ALL}{template}"))).unwrap_err();
        assert!(error.to_string().contains("template"), "{error}");
        assert!(error.to_string().contains("line 2"), "{error}");
    }
    assert_eq!(
        decide(&load(PERMIT_ALL), connect("a.test:443")),
        "allow all"
    );
}

fn source(text: &str) -> PolicySource {
    PolicySource::new("peer", vec![PolicyFile::new("peer.cedar", text)])
}

fn load(text: &str) -> Snapshot {
    Snapshot::load(&source(text)).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn asked(operation: Operation) -> Request {
    Request {
        session: Arc::new(SessionFacts {
            id: "0190a5c2-0000-7000-8000-000000000001".into(),
            user: "alice".into(),
            groups: vec!["staff".into()],
            agent: Some("claude".into()),
            platform: "linux".into(),
            backend: Backend::Bubblewrap,
        }),
        operation,
        at: SystemTime::UNIX_EPOCH,
    }
}

fn connect(target: &str) -> Request {
    asked(Operation::Connect {
        destination: Destination::from_authority(target.as_bytes()).unwrap(),
        transport: Transport::HttpConnect,
        seen: cordon_policy::Seen::default(),
    })
}

fn grant(path: &str) -> Request {
    asked(Operation::GrantFolder {
        path: path.into(),
        mode: GrantMode::Ro,
        source: GrantSource::CommandLine,
        name: None,
    })
}

/// `allow a`, `default_deny`, `rule b,c`.
fn decide(set: &Snapshot, request: Request) -> String {
    let (word, basis) = match set.decide(request) {
        Decision::Allow(allow) => ("allow", allow.verdict().basis.clone()),
        Decision::Deny(deny) => (deny.verdict().reason.code(), deny.verdict().basis.clone()),
    };
    let rules: Vec<&str> = basis.rules.iter().map(|rule| &*rule.id).collect();
    format!("{word} {}", rules.join(",")).trim_end().to_owned()
}
