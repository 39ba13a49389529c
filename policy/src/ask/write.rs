//! A request as words that [`super::parse`] reads back to the same request.

use std::{fmt::Write as _, net::SocketAddr};

use super::{inside_tls, tokens::quote};
use crate::{
    Backend, Definition, ExtensionFacts, GrantMode, GrantSource, HttpFacts, Operation,
    SeccompProfile, Seen, SessionFacts, Signature, TlsFacts, ToolCall, ToolKind, Transport,
};

/// The whole request in words, with everything that policy may look at. Unlike `Display`, which
/// is for summaries, it has the path of an HTTP request, and what is not the usual case: the
/// transport, who asked for a grant, the mode that a path lies in.
pub fn words(operation: &Operation) -> String {
    match operation {
        Operation::StartSession { command, profile } => program("start", command, *profile),
        Operation::ExecInSession { command, profile } => program("exec", command, *profile),
        Operation::PublishPort {
            address,
            port,
            inside,
        } => format!(
            "publish port {} to {inside}",
            SocketAddr::new(*address, *port)
        ),
        Operation::GrantFolder {
            path,
            mode,
            source,
            name,
        } => format!(
            "grant {mode} {}{}{}",
            quote(&path.to_string_lossy()),
            named(name.as_deref()),
            from(*source)
        ),
        Operation::DeletePath { path, mode } => beneath("delete", &path.to_string_lossy(), *mode),
        Operation::ReadPath { path, mode } => beneath("read", &path.to_string_lossy(), *mode),
        Operation::WritePath { path, mode } => beneath("write", &path.to_string_lossy(), *mode),
        Operation::Connect {
            destination,
            transport,
            seen,
        } => format!(
            "connect {destination}{}{}",
            via(*transport),
            seen_of(seen, None)
        ),
        Operation::HttpRequest {
            destination,
            method,
            path,
            facts,
        } => {
            let usual = inside_tls(facts.scheme, destination);
            format!(
                "{} {}://{destination}{path}{}{}",
                method.0,
                facts.scheme.as_str(),
                read_of(facts),
                seen_of(&facts.seen, usual.as_ref())
            )
        }
        Operation::ReachAddress {
            destination,
            address,
        } => format!("reach {destination} at {address}"),
        Operation::EnableConnector { connector } => {
            format!("enable connector {}", quote(connector))
        }
        Operation::UseScope { connector, scope } => {
            format!("use scope {} of {}", quote(scope), quote(connector))
        }
        Operation::InstallExtension { extension } => {
            format!("install extension {}", facts(extension))
        }
        Operation::LoadExtension { extension } => format!("load extension {}", facts(extension)),
        Operation::UsePermission {
            extension,
            permission,
        } => format!(
            "use permission {} of {}",
            quote(permission),
            facts(extension)
        ),
        Operation::CallTool {
            extension,
            tool,
            call,
        } => format!(
            "call {} of {}{}",
            quote(tool),
            facts(extension),
            call_of(call)
        ),
        Operation::EnableBrowser => "enable browser".into(),
        Operation::OpenOrigin { origin } => format!("open {origin}"),
        Operation::ActInOrigin { origin, act } => format!("{} in {origin}", act.as_str()),
        Operation::Approve { asking } => format!("approve for {}", who(asking)),
        Operation::ManageSession { act, of } => {
            format!("manage {} for {}", act.as_str(), who(of))
        }
        Operation::PublishPolicy { bundle } => format!("publish policy {}", quote(bundle)),
        Operation::ReadLog { log } => format!("read log {}", quote(log)),
    }
}

fn program(verb: &str, command: &str, profile: SeccompProfile) -> String {
    match profile {
        SeccompProfile::Default => format!("{verb} {}", quote(command)),
        other => format!("{verb} {} with {other}", quote(command)),
    }
}

fn beneath(verb: &str, path: &str, mode: GrantMode) -> String {
    match mode {
        GrantMode::Rw => format!("{verb} {}", quote(path)),
        GrantMode::Ro | GrantMode::Rwd => format!("{verb} {} in {mode}", quote(path)),
    }
}

fn named(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!(" named {}", quote(name)))
}

fn from(source: GrantSource) -> &'static str {
    match source {
        GrantSource::CommandLine => "",
        GrantSource::WorkingDirectory => " from working-directory",
        GrantSource::Profile => " from profile",
        GrantSource::Api => " from api",
    }
}

fn via(transport: Transport) -> &'static str {
    match transport {
        Transport::HttpConnect => "",
        Transport::Socks5 => " via socks5",
        Transport::Capture => " via capture",
    }
}

/// What was read of an HTTP request beside method and path, where there is anything.
fn read_of(facts: &HttpFacts) -> String {
    let mut text = String::new();
    let mut option = |keyword: &str, value: &str| {
        let _infallible = write!(text, " {keyword} {}", quote(value));
    };
    for key in &facts.query_keys {
        option("key", key);
    }
    if let Some(kind) = &facts.content_type {
        option("type", kind);
    }
    if let Some(length) = facts.content_length {
        option("length", &length.to_string());
    }
    if facts.credential {
        text.push_str(" credential");
    }
    if let Some(protocol) = &facts.upgrade {
        let _infallible = write!(text, " upgrade {}", quote(protocol));
    }
    text
}

/// What was seen of a connection, where it is not `usual`.
fn seen_of(seen: &Seen, usual: Option<&TlsFacts>) -> String {
    let mut text = match (seen.tls.as_deref(), usual) {
        (None, None) => String::new(),
        (None, Some(_)) => " tls none".into(),
        (Some(tls), usual) if usual == Some(tls) => String::new(),
        (Some(tls), _) => handshake(tls),
    };
    for name in &seen.names {
        let _infallible = write!(text, " cname {name}");
    }
    if seen.address_unverified {
        text.push_str(" unverified");
    }
    if let Some(process) = seen.process.as_ref().and_then(|process| process.only()) {
        let _infallible = write!(text, " process {}", quote(&process.executable));
        if let Some(digest) = &process.digest {
            let _infallible = write!(text, " digest {}", quote(digest));
        }
        for parent in &process.ancestors {
            let _infallible = write!(text, " below {}", quote(parent));
        }
    }
    text
}

fn handshake(tls: &TlsFacts) -> String {
    let mut text = format!(" tls {}", tls.kind.as_str());
    let mut option = |keyword: &str, value: &str| {
        let _infallible = write!(text, " {keyword} {}", quote(value));
    };
    if let Some(name) = &tls.sni {
        option("sni", name);
    }
    for protocol in &tls.alpn {
        option("alpn", protocol);
    }
    if let Some(version) = &tls.version {
        option("version", version);
    }
    if let Some(fingerprint) = &tls.ja4 {
        option("ja4", fingerprint);
    }
    for (flag, there) in [(" ech", tls.ech), (" inspected", tls.inspected)] {
        if there {
            text.push_str(flag);
        }
    }
    text
}

fn facts(extension: &ExtensionFacts) -> String {
    let mut text = quote(&extension.id);
    let mut option = |keyword: &str, value: &str| {
        let _infallible = write!(text, " {keyword} {}", quote(value));
    };
    if !extension.version.is_empty() {
        option("version", &extension.version);
    }
    match extension.signature {
        Signature::Unsigned => {}
        Signature::Trusted | Signature::Untrusted | Signature::Broken => {
            option("signed", extension.signature.as_str());
        }
    }
    if let Some(publisher) = &extension.publisher {
        option("by", publisher);
    }
    if !extension.digest.is_empty() {
        option("digest", &extension.digest);
    }
    text
}

fn call_of(call: &ToolCall) -> String {
    let mut text = String::new();
    if call.kind != ToolKind::Tool {
        let _infallible = write!(text, " as {}", call.kind.as_str());
    }
    if call.definition != Definition::Unseen {
        let _infallible = write!(text, " definition {}", call.definition.as_str());
    }
    for (flag, there) in [
        (" read-only", call.hints.read_only),
        (" harmless", !call.hints.destructive),
        (" closed", !call.hints.open_world),
    ] {
        if there {
            text.push_str(flag);
        }
    }
    for argument in &call.arguments {
        let _infallible = write!(text, " with {}", quote(argument));
    }
    if let Some(input) = &call.input {
        let _infallible = write!(text, " input {}", quote(input));
    }
    text
}

fn who(asking: &SessionFacts) -> String {
    let mut text = match asking.user.as_str() {
        "user" | "session" => format!("user {}", asking.user),
        user => quote(user),
    };
    let mut option = |keyword: &str, value: &str| {
        let _infallible = write!(text, " {keyword} {}", quote(value));
    };
    for group in &asking.groups {
        option("group", group);
    }
    if let Some(agent) = &asking.agent {
        option("agent", agent);
    }
    if asking.platform != super::given::PLATFORM {
        option("platform", &asking.platform);
    }
    match asking.backend {
        Backend::Bubblewrap => {}
        Backend::Container => option("backend", "container"),
        Backend::None => option("backend", "none"),
        Backend::Gateway => option("backend", "gateway"),
    }
    if asking.id != super::given::SESSION {
        option("session", &asking.id);
    }
    text
}
