use super::*;
use crate::{
    Snapshot,
    packs::PACKS,
    source::{PolicyFile, PolicySource},
};

#[test]
fn every_construct_has_words() {
    let network = "principal, action in Action::\"network\", resource";
    let grant = "principal, action in Action::\"grant\", resource";
    let every = "Every session may reach any host or address over the network, ";
    let given = "Every session may be given any folder, ";
    let cases: &[(&str, &str, &str, &str)] = &[
        (
            network,
            "when { context.port == 443 }",
            every,
            "if the port is 443.",
        ),
        (
            network,
            "when { context.port != 443 }",
            every,
            "if the port is not 443.",
        ),
        (
            network,
            "unless { !(context.port < 10) }",
            every,
            "unless the port is at least 10.",
        ),
        (
            network,
            "when { context.port >= 1 && context.port <= 9 }",
            every,
            "if the port is at least 1 and the port is at most 9.",
        ),
        (
            network,
            "when { context.port == 1 || context.port == 2 && context.port > 3 }",
            every,
            "if the port is 1 or (the port is 2 and the port is more than 3).",
        ),
        (
            network,
            "when { !(context.port == 1 && context.port == 2) }",
            every,
            "if it is not so that (the port is 1 and the port is 2).",
        ),
        (
            network,
            "when { [22, 443].contains(context.port) }",
            every,
            "if the port is 22 or 443.",
        ),
        (
            network,
            "when { !([22, 443].contains(context.port)) }",
            every,
            "if the port is none of 22 or 443.",
        ),
        (
            network,
            "when { context.port + 1 * 2 - -3 == 4 }",
            every,
            "if the port plus 1 times 2 minus -3 is 4.",
        ),
        (
            network,
            "when { context has approval }",
            every,
            "if a person has approved it.",
        ),
        (
            network,
            "unless { context has approval }",
            every,
            "unless a person has approved it.",
        ),
        (
            network,
            "when { !(context has approval) }",
            every,
            "if nobody has approved it.",
        ),
        (
            network,
            "when { context has approval && context.approval.scope == \"once\" }",
            every,
            "if a person has approved it and the scope of the approval is `once`.",
        ),
        (
            network,
            "when { context has tls.sni }",
            every,
            "if `tls.sni` is known.",
        ),
        (
            network,
            "when { context has tls && context.tls.inspected }",
            every,
            "if `tls` is known and the inspected of the TLS facts is true.",
        ),
        (
            network,
            "when { context.time.toTime() < duration(\"17h\") }",
            every,
            "if the time of day (UTC) is before `17h`.",
        ),
        (
            network,
            "when { context.time >= datetime(\"2026-01-01\") }",
            every,
            "if the time is at or after `2026-01-01`.",
        ),
        (
            network,
            "when { context.time.offset(duration(\"1d\")).toDate() == datetime(\"2026-01-02\") }",
            every,
            "if the date of the time plus `1d` is `2026-01-02`.",
        ),
        (
            network,
            "when { resource is Host }",
            every,
            "if it is a host name.",
        ),
        (
            network,
            "when { resource is Address && resource.ip.isInRange(ip(\"10.0.0.0/8\")) }",
            every,
            "if it is an address by number and its address is in `10.0.0.0/8`.",
        ),
        (
            network,
            "when { resource is Address && !resource.ip.isLoopback() }",
            every,
            "if it is an address by number and its address is not a loopback address.",
        ),
        (
            network,
            "when { resource is Host && resource.longest_label > 40 }",
            every,
            "if it is a host name and the length of its longest label is more than 40.",
        ),
        (
            network,
            "when { resource is Host in Domain::\"example.com\" }",
            every,
            "if it is a host name and it is at or below `example.com`.",
        ),
        (
            network,
            "when { principal in User::\"a\" }",
            every,
            "if the one who asks is of user `a`.",
        ),
        (
            network,
            "when { principal in [Group::\"a\", Group::\"b\"] }",
            every,
            "if the one who asks is of group `a` or of group `b`.",
        ),
        (
            network,
            "when { principal has agent && principal.agent == Agent::\"claude\" }",
            every,
            "if the session has an agent profile and the session's agent is the agent `claude`.",
        ),
        (
            network,
            "when { if context.port == 1 then true else false }",
            every,
            "if (where the port is 1: always; otherwise: never).",
        ),
        (network, "when { true }", every, "if always."),
        (
            network,
            "when { false == (context.port == 1) }",
            every,
            "if the port is not 1.",
        ),
        (
            network,
            "when { {a: context.port}.a == 1 }",
            every,
            "if the a of `{a: context.port}` is 1.",
        ),
        (
            network,
            "when { [1, 2].containsAll([context.port]) && [1].containsAny([2]) }",
            every,
            "if 1 or 2 has all of the port and 1 has any of 2.",
        ),
        (
            network,
            "when { ![context.port].isEmpty() }",
            every,
            "if the port is not empty.",
        ),
        (
            network,
            "when { decimal(\"1.5\").lessThan(decimal(\"2.0\")) }",
            every,
            "if `1.5` is less than `2.0`.",
        ),
        (
            grant,
            "when { resource.path like \"*/.ssh/*\" }",
            given,
            "if its path has in it `/.ssh/`.",
        ),
        (
            grant,
            "when { resource.path like \"/srv/*\" }",
            given,
            "if its path begins with `/srv/`.",
        ),
        (
            grant,
            "when { !(resource.path like \"*.pem\") }",
            given,
            "if its path does not end with `.pem`.",
        ),
        (
            grant,
            "when { resource.path like \"/a/*/b\" }",
            given,
            "if its path is like `/a/*/b`.",
        ),
        (
            grant,
            "when { resource in Folder::\"/proc\" }",
            given,
            "if it is at or below `/proc`.",
        ),
        (
            grant,
            "when { context.source == \"profile\" } unless { resource.name == \"x\" }",
            given,
            "if its source is `profile`, unless its name is `x`.",
        ),
    ];
    for (scope, conditions, begin, end) in cases {
        let words = text(&format!("permit ({scope}) {conditions};"));
        assert_eq!(words, format!("{begin}{end}"), "{conditions}");
        // What has words must be a rule of ours, or the words are about nothing.
        let files = vec![PolicyFile::new(
            "a.cedar",
            format!("permit ({scope}) {conditions};"),
        )];
        Snapshot::load(&PolicySource::new("test", files))
            .unwrap_or_else(|error| panic!("{conditions}: {error}"));
    }
}

#[test]
fn every_scope_has_words() {
    let cases = [
        (
            "permit (principal, action, resource);",
            "Everyone may do anything with anything.",
        ),
        (
            "forbid (principal, action == Action::\"connect\", resource == Host::\"a.example\");",
            "No session may open connections to the host `a.example`.",
        ),
        (
            "permit (principal in Agent::\"claude\", action == Action::\"connect\", resource in Domain::\"a.example\");",
            "Sessions with agent `claude` may open connections to `a.example` and everything below it.",
        ),
        (
            "permit (principal in Group::\"g\", action in [Action::\"http_read\", Action::\"http_write\"], resource in HostGroup::\"h\");",
            "Sessions of group `g` may read from the hosts of group `h` over HTTP and send to them over HTTP.",
        ),
        (
            "permit (principal in Platform::\"linux\", action == Action::\"connect\", resource in Network::\"10.0.0.0/8\");",
            "Sessions on platform `linux` may open connections to addresses in `10.0.0.0/8`.",
        ),
        (
            "permit (principal, action == Action::\"grant_rw\", resource in Folder::\"/srv\");",
            "Every session may be given `/srv` or anything below it to read and write.",
        ),
        (
            "permit (principal, action == Action::\"delete\", resource in Folder::\"/srv\");",
            "Every session may delete anything below `/srv`.",
        ),
        (
            "permit (principal, action == Action::\"start_session\", resource == Backend::\"bubblewrap\");",
            "Every session may be started inside `bubblewrap`.",
        ),
        (
            "permit (principal is Session in User::\"u\", action == Action::\"enable_browser\", resource);",
            "Sessions of user `u` may switch on the browser on any platform.",
        ),
        (
            "permit (principal, action == Action::\"use_scope\", resource in Connector::\"c\");",
            "Every session may use any scope of connector `c`.",
        ),
        (
            "permit (principal, action == Action::\"call_tool\", resource in Publisher::\"p\");",
            "Every session may call any tool of extensions by publisher `p`.",
        ),
        (
            "permit (principal, action == Action::\"open\", resource == Origin::\"https://a.example\");",
            "Every session may open the site `https://a.example` in the browser.",
        ),
        (
            "permit (principal in Group::\"g\", action == Action::\"approve\", resource in User::\"u\");",
            "Members of group `g` may answer requests of sessions of user `u`.",
        ),
        (
            "permit (principal == User::\"u\", action == Action::\"read_log\", resource == AuditLog::\"n\");",
            "User `u` may read the log `n`.",
        ),
        (
            "permit (principal in Group::\"g\", action in [Action::\"read_session\", Action::\"end_session\"], resource in User::\"u\");",
            "Members of group `g` may see sessions of user `u` and end them.",
        ),
        (
            "permit (principal is User, action == Action::\"publish_policy\", resource);",
            "Every user may put any policy bundle into force.",
        ),
        (
            "permit (principal, action in Action::\"network\", resource is Host in HostGroup::\"h\");",
            "Every session may reach any host in the hosts of group `h` over the network.",
        ),
    ];
    for (rule, expected) in cases {
        assert_eq!(text(rule), expected, "{rule}");
    }
}

#[test]
fn every_action_of_the_schema_has_words() {
    let known: Vec<&str> = actions::known().collect();
    for line in crate::SCHEMA_TEXT.lines() {
        let Some(rest) = line.strip_prefix("action ") else {
            continue;
        };
        let name: String = rest
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        assert!(known.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn hostile_text_is_shown_and_does_nothing() {
    let rule = "permit (principal in User::\"`\\u{1b}[31m\\u{202e}\", action, resource);";
    let words = text(rule);
    assert_eq!(
        words,
        "Everyone may do anything with anything."
            .replace("Everyone", "Sessions of user `'\\u{1b}[31m\\u{202e}`")
    );
    assert_eq!(text("no rule at all\u{1b}"), "`no rule at all\\u{1b}`");
    assert!(text(&"x".repeat(100_000)).len() < 1_000);
}

#[test]
fn a_page_escapes_what_came_from_a_policy() {
    let files = vec![
        PolicyFile::new(
            "a.cedar",
            "@id(\"a\") @reason(\"<script>|`\") permit (principal in User::\"<b>|\", action, resource);",
        ),
        PolicyFile::new(
            "a.toml",
            "[host_groups]\nhouse = [\"*.example.com\", \"@empty\"]\nempty = []\n",
        ),
    ];
    let source = PolicySource::new("<i>", files);
    let overview = Overview::of(&Snapshot::load(&source).unwrap()).with_groups(&source);
    let (html, markdown) = (overview.html(), overview.markdown());
    for tag in ["<script", "<b>", "<i>"] {
        assert!(!html.contains(tag), "{html}");
    }
    assert!(
        html.contains("Sessions of user <code>&lt;b&gt;|</code> may do anything"),
        "{html}"
    );
    assert!(html.contains("<code>*.example.com</code>"), "{html}");
    assert!(
        markdown.contains("Sessions of user `<b>\\|` may do anything with anything."),
        "{markdown}"
    );
    assert!(markdown.contains("| `empty` | none |"), "{markdown}");
    assert_eq!(overview.rules(), 1);
}

/// The words of every shipped rule, kept beside the packs so that a change is seen in review.
/// Run with `CORDON_BLESS=1` to write it anew.
#[test]
fn the_words_of_every_pack_are_the_golden_ones() {
    let mut shown = String::new();
    for pack in PACKS {
        let source = pack.source();
        let overview = Overview::of(&Snapshot::load(&source).unwrap());
        shown.push_str(&format!("# {}\n\n{overview}\n", pack.name));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/plain_words/golden.txt");
    if std::env::var_os("CORDON_BLESS").is_some() {
        std::fs::write(path, &shown).unwrap();
    }
    assert_eq!(shown, std::fs::read_to_string(path).unwrap());
}
