//! Imports against an evaluator of our own, case by case, and at random.

use cordon_policy::{
    Backend, Destination, Method, Operation, Request, SessionFacts, Transport, bundle::Bundle,
};
use proptest::prelude::*;

use super::*;
use crate::outcome::Outcome;

fn options() -> Options<'static> {
    Options {
        ports: vec![443],
        holds: Vec::new(),
        read: &|name| Err(format!("there is no `{name}`")),
    }
}

fn import_ok(format: Format, text: &str) -> Imported {
    import(format, text, &options()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn session(agent: Option<&str>) -> SessionFacts {
    SessionFacts {
        id: "s".into(),
        user: "ann".into(),
        groups: Vec::new(),
        agent: agent.map(str::to_owned),
        platform: "linux".into(),
        backend: Backend::Bubblewrap,
    }
}

fn at(target: &str) -> Destination {
    Destination::from_authority(target.as_bytes()).unwrap()
}

fn ask(agent: Option<&str>, method: &str, target: &str) -> Request {
    let destination = at(target);
    Request {
        session: session(agent).into(),
        operation: match method {
            "CONNECT" => Operation::Connect {
                destination,
                transport: Transport::HttpConnect,
                seen: cordon_policy::Seen::default(),
            },
            method => Operation::HttpRequest {
                destination,
                method: Method(method.into()),
                path: "/".into(),
                facts: Box::default(),
            },
        },
        at: std::time::SystemTime::UNIX_EPOCH,
    }
}

fn allows(imported: &Imported, method: &str, target: &str) -> bool {
    allows_agent(imported, None, method, target)
}

fn allows_agent(imported: &Imported, agent: Option<&str>, method: &str, target: &str) -> bool {
    let snapshot = Snapshot::load(&imported.source()).unwrap();
    Outcome::of(&snapshot, &ask(agent, method, target)).effect == cordon_audit::Effect::Allow
}

fn reasons(imported: &Imported) -> String {
    imported
        .not_expressed
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

const SQUID: &str = r#"
# The usual beginning.
acl SSL_ports port 443
acl Safe_ports port 80 443 1025-65535   # registered
acl good dstdomain -n .example.com exact.example.org
acl bad dstdomain -n bad.example.com
http_access deny !Safe_ports
http_access deny CONNECT !SSL_ports
http_access deny bad
http_access allow good
http_access deny all
cache_mem 64 MB
"#;

#[test]
fn squids_order_is_kept() {
    let imported = import_ok(Format::Squid, SQUID);
    for (method, target, expected) in [
        ("CONNECT", "example.com:443", true),
        ("CONNECT", "a.b.example.com:443", true),
        ("CONNECT", "bad.example.com:443", false),
        ("CONNECT", "sub.bad.example.com:443", true),
        ("CONNECT", "exact.example.org:443", true),
        ("CONNECT", "below.exact.example.org:443", false),
        ("CONNECT", "example.com:8443", false),
        ("GET", "example.com:8443", true),
        ("GET", "example.com:80", true),
        ("GET", "example.com:22", false),
        ("GET", "evilexample.com:80", false),
        ("GET", "192.0.2.1:80", false),
    ] {
        assert_eq!(
            allows(&imported, method, target),
            expected,
            "{method} {target}"
        );
    }
    assert_eq!(reasons(&imported), "");
}

#[test]
fn f14_what_squid_can_and_we_cannot_is_listed_and_never_widens() {
    let text = "acl hours time MTWHF 09:00-17:00\n\
                acl office src 192.0.2.0/24\n\
                acl good dstdomain -n .example.com\n\
                http_access deny hours\n\
                http_access allow office good\n\
                http_access deny all\n";
    let imported = import_ok(Format::Squid, text);
    assert!(!allows(&imported, "CONNECT", "example.com:443"));
    let listed = reasons(&imported);
    for expected in [
        "line 1: `acl hours time`",
        "line 2: `acl office src`",
        "line 5:",
    ] {
        assert!(listed.contains(expected), "{expected}: {listed}");
    }
    // Said to hold, the client's part no longer stands in the way; the hours still do.
    let holds = Options {
        holds: vec!["office".into(), "hours".into()],
        ..options()
    };
    let without_hours = text.replace("deny hours", "deny !hours");
    let imported = import(Format::Squid, &without_hours, &holds).unwrap();
    assert!(allows(&imported, "CONNECT", "example.com:443"));
    assert!(!allows(&imported, "CONNECT", "example.net:443"));
}

#[test]
fn f14_what_could_hide_a_deny_is_refused() {
    for (text, what) in [
        ("include /etc/squid/conf.d/*.conf\n", "include"),
        ("if true\nhttp_access allow all\nendif\n", "if"),
        ("http_access allow nobody_knows\n", "nobody_knows"),
        ("http_access permit all\n", "permit"),
        (
            "acl a port 1\nacl a method GET\nhttp_access allow a\n",
            "type",
        ),
        (
            "acl a dstdomain \"list.txt\"\nhttp_access deny a\n",
            "list.txt",
        ),
        ("acl a\n", "acl"),
    ] {
        let error = import(Format::Squid, text, &options()).unwrap_err();
        assert!(error.message.contains(what), "{text}: {error}");
        assert!(!error.help.is_empty());
    }
}

#[test]
fn a_last_deny_does_not_become_allow_everything() {
    let text = "acl bad dstdomain -n .bad.example.com\nhttp_access deny bad\n";
    let imported = import_ok(Format::Squid, text);
    assert!(!allows(&imported, "CONNECT", "good.example.com:443"));
    assert!(
        reasons(&imported).contains("after a last `deny`"),
        "{}",
        reasons(&imported)
    );
    let said = import_ok(Format::Squid, &format!("{text}http_access allow all\n"));
    assert!(allows(&said, "CONNECT", "good.example.com:443"));
    assert!(!allows(&said, "CONNECT", "x.bad.example.com:443"));
}

#[test]
fn lists_that_squid_reads_from_files_are_read() {
    let read = |name: &str| match name {
        "hosts.txt" => Ok("# ours\n.example.com\nother.example.org\n".to_owned()),
        other => Err(format!("no {other}")),
    };
    let options = Options {
        read: &read,
        ..options()
    };
    let text = "acl good dstdomain -n \"hosts.txt\" third.example.net\n\
                http_access allow \\\n  good\nhttp_access deny all\n";
    let imported = import(Format::Squid, text, &options).unwrap();
    for host in ["a.example.com", "other.example.org", "third.example.net"] {
        assert!(
            allows(&imported, "CONNECT", &format!("{host}:443")),
            "{host}"
        );
    }
    assert!(!allows(&imported, "CONNECT", "example.net:443"));
}

#[test]
fn names_that_may_lead_to_a_denied_address_are_denied() {
    let text = "acl lab dst 203.0.113.0/24\nacl good dstdomain -n .example.com\n\
                http_access deny lab\nhttp_access allow good\nhttp_access allow lab\n\
                http_access deny all\n";
    let imported = import_ok(Format::Squid, text);
    assert!(!allows(&imported, "CONNECT", "a.example.com:443"));
    assert!(reasons(&imported).contains("names that lead there"));
    let first = "acl lab dst 203.0.113.0/24\nhttp_access allow lab\nhttp_access deny all\n";
    let imported = import_ok(Format::Squid, first);
    assert!(allows(&imported, "CONNECT", "203.0.113.9:443"));
    assert!(!allows(&imported, "CONNECT", "203.0.114.9:443"));
    assert!(!allows(&imported, "CONNECT", "a.example.com:443"));
}

/// One ACL of a random configuration, with what it means.
#[derive(Clone, Debug)]
enum Acl {
    Domains(Vec<(bool, &'static str)>),
    Ports(Vec<(u16, u16)>),
    Methods(Vec<&'static str>),
}

const DOMAINS: &[&str] = &[
    "example.com",
    "a.example.com",
    "b.a.example.com",
    "example.org",
];
const HOSTS: &[&str] = &[
    "example.com",
    "a.example.com",
    "b.a.example.com",
    "c.b.a.example.com",
    "example.org",
    "x.example.org",
    "192.0.2.1",
];
const PORT_CHOICES: &[u16] = &[80, 443, 444, 8080];
const METHODS: &[&str] = &["CONNECT", "GET", "POST", "BREW"];

fn acl() -> impl Strategy<Value = Acl> {
    let domain = (any::<bool>(), prop::sample::select(DOMAINS));
    let port = (prop::sample::select(PORT_CHOICES), 0_u16..3);
    prop_oneof![
        prop::collection::vec(domain, 1..4).prop_map(Acl::Domains),
        prop::collection::vec(port.prop_map(|(from, more)| (from, from + more)), 1..3)
            .prop_map(Acl::Ports),
        prop::collection::vec(prop::sample::select(METHODS), 1..3).prop_map(Acl::Methods),
    ]
}

impl Acl {
    fn write(&self, number: usize) -> String {
        let (kind, values): (&str, Vec<String>) = match self {
            Self::Domains(domains) => (
                "dstdomain -n",
                domains
                    .iter()
                    .map(|(below, name)| format!("{}{name}", if *below { "." } else { "" }))
                    .collect(),
            ),
            Self::Ports(ports) => (
                "port",
                ports
                    .iter()
                    .map(|(from, to)| format!("{from}-{to}"))
                    .collect(),
            ),
            Self::Methods(methods) => (
                "method",
                methods.iter().map(|&method| method.to_owned()).collect(),
            ),
        };
        format!("acl a{number} {kind} {}\n", values.join(" "))
    }

    fn matches(&self, host: &str, port: u16, method: &str) -> bool {
        match self {
            Self::Domains(domains) => domains.iter().any(|(below, name)| {
                host == *name || (*below && host.ends_with(&format!(".{name}")))
            }),
            Self::Ports(ports) => ports.iter().any(|(from, to)| (*from..=*to).contains(&port)),
            Self::Methods(methods) => methods.contains(&method),
        }
    }
}

type Line = (bool, Vec<(usize, bool)>);

/// Squid: the first line that matches; after the last, the opposite of it.
fn squid(acls: &[Acl], lines: &[Line], host: &str, port: u16, method: &str) -> bool {
    let matches = |(_, parts): &&Line| {
        parts
            .iter()
            .all(|(at, negated)| acls[at % acls.len()].matches(host, port, method) != *negated)
    };
    match lines.iter().find(matches) {
        Some((allows, _)) => *allows,
        None => !lines.last().is_none_or(|(allows, _)| *allows),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Squid's first match and the draft agree, except that a last `deny` allows nothing more.
    #[test]
    fn squid_and_the_draft_agree(
        acls in prop::collection::vec(acl(), 1..5),
        lines in prop::collection::vec(
            (any::<bool>(), prop::collection::vec((0_usize..5, any::<bool>()), 0..3)),
            1..6,
        ),
    ) {
        let mut text: String = (0..).zip(&acls).map(|(number, acl)| acl.write(number)).collect();
        for (allows, parts) in &lines {
            text.push_str(if *allows { "http_access allow" } else { "http_access deny" });
            for (at, negated) in parts {
                let name = at % acls.len();
                text.push_str(&format!(" {}a{name}", if *negated { "!" } else { "" }));
            }
            if parts.is_empty() {
                text.push_str(" all");
            }
            text.push('\n');
        }
        let imported = import_ok(Format::Squid, &text);
        let snapshot = Snapshot::load(&imported.source()).unwrap();
        let ends_with_deny = lines.last().is_some_and(|(allows, _)| !allows);
        for host in HOSTS {
            for port in PORT_CHOICES {
                for method in METHODS {
                    let said = squid(&acls, &lines, host, *port, method);
                    let any_line = lines.iter().any(|(_, parts)| parts.iter().all(|(at, negated)| {
                        acls[at % acls.len()].matches(host, *port, method) != *negated
                    }));
                    let expected = said && (any_line || !ends_with_deny);
                    let request = ask(None, method, &format!("{host}:{port}"));
                    let got = Outcome::of(&snapshot, &request).effect == cordon_audit::Effect::Allow;
                    prop_assert_eq!(got, expected, "{} {}:{}\n{}\n{}", method, host, port, text, imported.cedar());
                }
            }
        }
    }

    /// Whatever a file holds, importing it ends, and what comes of it loads.
    #[test]
    fn no_text_breaks_an_import(text in "(acl|http_access|allow|deny|all|a|b|port|[ \n!.*:#\"\\\\0-9a-z/-]){0,200}") {
        for format in [Format::Squid, Format::Smokescreen, Format::Hosts, Format::List] {
            if let Ok(imported) = import(format, &text, &options()) {
                prop_assert!(Snapshot::load(&imported.source()).is_ok());
            }
        }
    }
}

#[test]
fn smokescreens_order_is_kept() {
    let text = "version: v1\n\
        services:\n\
        \x20 - name: builder\n    project: ci\n    action: enforce\n    allowed_domains: [\"a.example.com\", \"*.example.org\"]\n\
        \x20 - name: browser\n    project: web\n    action: open\n\
        \x20 - name: watcher\n    project: web\n    action: report\n    allowed_domains: [w.example.com]\n\
        default:\n  project: rest\n  action: enforce\n  allowed_domains: [d.example.com]\n\
        global_allow_list: [g.example.com, both.example.com]\n\
        global_deny_list: [both.example.com, \"a.example.com\"]\n";
    let imported = import_ok(Format::Smokescreen, text);
    for (agent, target, expected) in [
        (Some("builder"), "a.example.com:443", true), // the own rule comes before the deny list
        (Some("builder"), "x.example.org:443", true),
        (Some("builder"), "example.org:443", false),
        (Some("builder"), "g.example.com:443", true),
        (Some("builder"), "both.example.com:443", false),
        (Some("builder"), "d.example.com:443", false),
        (Some("browser"), "any.example.net:443", true),
        (Some("browser"), "a.example.com:443", false),
        (Some("watcher"), "w.example.com:443", true),
        (Some("watcher"), "any.example.net:443", false),
        (Some("unknown"), "d.example.com:443", true),
        (None, "d.example.com:443", true),
        (None, "a.example.com:443", false),
    ] {
        assert_eq!(
            allows_agent(&imported, agent, "CONNECT", target),
            expected,
            "{agent:?} {target}"
        );
    }
    let listed = reasons(&imported);
    assert!(
        listed.contains("`report`") && listed.contains("roles"),
        "{listed}"
    );
}

#[test]
fn f14_smokescreen_keys_without_counterpart_are_listed() {
    let text =
        "default:\n  action: enforce\n  allowed_domains: [\"*\"]\n  mitm_domains: [x]\nfancy: 1\n";
    let listed = reasons(&import_ok(Format::Smokescreen, text));
    for expected in ["`mitm_domains`", "`fancy`", "`*`"] {
        assert!(listed.contains(expected), "{expected}: {listed}");
    }
    for text in [
        "version: v2\n",
        "services: 7\n",
        "- a\n",
        "default:\n  action: maybe\n",
    ] {
        assert!(
            import(Format::Smokescreen, text, &options()).is_err(),
            "{text}"
        );
    }
}

#[test]
fn plain_lists_have_names_domains_addresses_and_ports() {
    let text = "# allowed\nexample.com\n.domain.example.com # and below\n*.below.example.org\n\
                ssh.example.com:22\n192.0.2.7\n198.51.100.0/24\n[2001:db8::1]:8443\n2001:db8::2\n\
                https://example.com/x\ntwo words\nhost:99999\nb\u{fc}cher.example\n";
    let imported = import_ok(Format::List, text);
    for (target, expected) in [
        ("example.com:443", true),
        ("a.example.com:443", false),
        ("example.com:80", false),
        ("domain.example.com:443", true),
        ("x.domain.example.com:443", true),
        ("below.example.org:443", false),
        ("x.below.example.org:443", true),
        ("ssh.example.com:22", true),
        ("ssh.example.com:443", false),
        ("192.0.2.7:443", true),
        ("198.51.100.200:443", true),
        ("198.51.101.1:443", false),
        ("[2001:db8::1]:8443", true),
        ("[2001:db8::1]:443", false),
        ("[2001:db8::2]:443", true),
    ] {
        assert_eq!(allows(&imported, "CONNECT", target), expected, "{target}");
    }
    let lines: Vec<usize> = imported
        .not_expressed
        .iter()
        .map(|note| note.line)
        .collect();
    assert_eq!(lines, [10, 11, 12, 13], "{}", reasons(&imported));
}

#[test]
fn a_hosts_file_that_blocks_is_not_an_allow_list() {
    let text = "127.0.0.1 localhost\n::1 ip6-localhost\n0.0.0.0 ads.example.com\n\
                192.0.2.5 intranet.example.com wiki.example.com # ours\nnonsense\n";
    let imported = import_ok(Format::Hosts, text);
    for (target, expected) in [
        ("intranet.example.com:443", true),
        ("wiki.example.com:443", true),
        ("ads.example.com:443", false),
        ("localhost:443", false),
    ] {
        assert_eq!(allows(&imported, "CONNECT", target), expected, "{target}");
    }
    assert!(imported.cedar().contains("forbid"));
    assert!(reasons(&imported).contains("it does not begin with an address"));
}

#[test]
fn a_draft_is_a_bundle_whose_tests_pass() {
    for (format, text) in [
        (Format::Squid, SQUID),
        (
            Format::List,
            "example.com\n*.example.org\nssh.example.com:22\n",
        ),
        (
            Format::Hosts,
            "0.0.0.0 ads.example.com\n192.0.2.5 wiki.example.com\n",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in import_ok(format, text).bundle() {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let bundle = Bundle::read_directory(folder.path()).unwrap();
        let snapshot = Snapshot::load(&bundle.source()).unwrap();
        let tests: Vec<_> = bundle
            .tests()
            .map(|(path, text)| {
                let tests = cordon_policy::testing::parse(text).unwrap();
                (path.display().to_string(), tests)
            })
            .collect();
        assert!(tests.iter().any(|(_, file)| file.tests.len() >= 3));
        let report = cordon_policy::testing::run(&snapshot, &tests, None);
        for test in &report.tests {
            assert!(test.failures.is_empty(), "{:?}", test.failures);
        }
    }
}

#[test]
fn hostile_text_is_bounded_and_escaped() {
    let long = "a".repeat(MAX_BYTES + 1);
    assert!(import(Format::List, &long, &options()).is_err());
    let imported = import_ok(Format::List, "\u{1b}[2J\u{202e}.example.com\n");
    let shown = reasons(&imported);
    assert!(
        !shown.contains('\u{1b}') && !shown.contains('\u{202e}'),
        "{shown:?}"
    );
    let many: String = (0..2_000).map(|n| format!("bad name {n}\n")).collect();
    assert_eq!(
        import_ok(Format::List, &many).not_expressed.len(),
        MAX_LISTED + 1
    );
}
