//! What a request is called in the schema: its action, and the type and id of its resource.
//!
//! A [`Request`] in, a [`Target`] out; refuses what is not in canonical form, because a rule
//! about `/home/a` must not be walked round as `/home/b/../a`.

use std::{net::IpAddr, path::Path, sync::Arc};

use ipnet::IpNet;

use crate::{
    Backend, ExtensionFacts, GrantMode, Host, HttpFacts, NormalizedHost, Operation, Origin,
    Request, SessionAct, SessionFacts,
};

/// Action and resource by their names in the schema.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    pub(crate) action: &'static str,
    pub(crate) resource: Resource,
}

/// A resource in canonical form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Resource {
    Backend(&'static str),
    Host(NormalizedHost),
    Address(IpAddr),
    Folder(String),
    File(String),
    Connector(String),
    ConnectorScope {
        connector: String,
        name: String,
    },
    Extension(ExtensionFacts),
    ExtensionPermission {
        extension: ExtensionFacts,
        name: String,
    },
    ExtensionTool {
        extension: ExtensionFacts,
        name: String,
    },
    Platform(String),
    Origin(Origin),
    Session(Arc<SessionFacts>),
    PolicyBundle(String),
    AuditLog(String),
}

/// Why a request has no target. Always a deny.
#[derive(Debug, PartialEq)]
pub(crate) enum Untargetable {
    /// Cedar is not asked about it at all.
    NeverAllowed,
    /// A path that is not canonical, in words.
    Malformed(String),
}

impl Target {
    pub(crate) fn of(request: &Request) -> Result<Self, Untargetable> {
        let (action, resource) = match &request.operation {
            Operation::StartSession { .. } => start(request.session.backend),
            Operation::ExecInSession { .. } => (
                "exec",
                Resource::Backend(backend_name(request.session.backend)),
            ),
            Operation::PublishPort { address, .. } => ("publish", Resource::Address(*address)),
            Operation::GrantFolder { path, mode, .. } => {
                (grant_action(*mode), Resource::Folder(canonical(path)?))
            }
            Operation::DeletePath { path, .. } => ("delete", Resource::File(canonical(path)?)),
            Operation::ReadPath { path, .. } => ("read", Resource::File(canonical(path)?)),
            Operation::WritePath { path, .. } => ("write", Resource::File(canonical(path)?)),
            Operation::Connect { destination, .. } => ("connect", host(&destination.host)),
            Operation::HttpRequest {
                destination,
                method,
                facts,
                ..
            } => (http_action(&method.0, facts), host(&destination.host)),
            Operation::ReachAddress { .. } => return Err(Untargetable::NeverAllowed),
            Operation::EnableConnector { connector } => (
                "enable_connector",
                Resource::Connector(named("connector", connector)?),
            ),
            Operation::UseScope { connector, scope } => (
                "use_scope",
                Resource::ConnectorScope {
                    connector: named("connector", connector)?,
                    name: named("scope", scope)?,
                },
            ),
            Operation::InstallExtension { extension } => (
                "install_extension",
                Resource::Extension(checked(extension)?),
            ),
            Operation::LoadExtension { extension } => {
                ("load_extension", Resource::Extension(checked(extension)?))
            }
            Operation::UsePermission {
                extension,
                permission,
            } => (
                "use_permission",
                Resource::ExtensionPermission {
                    extension: checked(extension)?,
                    name: named("permission", permission)?,
                },
            ),
            Operation::CallTool {
                extension, tool, ..
            } => (
                "call_tool",
                Resource::ExtensionTool {
                    extension: checked(extension)?,
                    name: named("tool", tool)?,
                },
            ),
            Operation::EnableBrowser => (
                "enable_browser",
                Resource::Platform(request.session.platform.clone()),
            ),
            Operation::OpenOrigin { origin } => ("open", Resource::Origin(origin.clone())),
            Operation::ActInOrigin { origin, .. } => ("act", Resource::Origin(origin.clone())),
            Operation::Approve { asking } => ("approve", Resource::Session(Arc::clone(asking))),
            Operation::ManageSession { act, of } => {
                (act.action(), Resource::Session(Arc::clone(of)))
            }
            Operation::PublishPolicy { bundle } => (
                "publish_policy",
                Resource::PolicyBundle(named("bundle", bundle)?),
            ),
            Operation::ReadLog { log } => ("read_log", Resource::AuditLog(named("log", log)?)),
        };
        Ok(Self { action, resource })
    }

    /// Whether the principal is the user themselves and not a session.
    pub(crate) fn is_administration(&self) -> bool {
        let manages = || {
            SessionAct::ALL
                .iter()
                .any(|act| act.action() == self.action)
        };
        matches!(self.action, "approve" | "publish_policy" | "read_log") || manages()
    }
}

impl Resource {
    /// The entity type's name.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Backend(_) => "Backend",
            Self::Host(_) => "Host",
            Self::Address(_) => "Address",
            Self::Folder(_) => "Folder",
            Self::File(_) => "File",
            Self::Connector(_) => "Connector",
            Self::ConnectorScope { .. } => "ConnectorScope",
            Self::Extension(_) => "Extension",
            Self::ExtensionPermission { .. } => "ExtensionPermission",
            Self::ExtensionTool { .. } => "ExtensionTool",
            Self::Platform(_) => "Platform",
            Self::Origin(_) => "Origin",
            Self::Session(_) => "Session",
            Self::PolicyBundle(_) => "PolicyBundle",
            Self::AuditLog(_) => "AuditLog",
        }
    }

    /// The entity's id.
    pub(crate) fn id(&self) -> String {
        match self {
            Self::Backend(name) => (*name).to_owned(),
            Self::Host(host) => host.to_string(),
            Self::Address(address) => address.to_string(),
            Self::Folder(text)
            | Self::File(text)
            | Self::Connector(text)
            | Self::Platform(text)
            | Self::PolicyBundle(text)
            | Self::AuditLog(text) => text.clone(),
            Self::ConnectorScope { connector, name } => format!("{connector}/{name}"),
            Self::Extension(extension) => extension.id.clone(),
            Self::ExtensionPermission { extension, name }
            | Self::ExtensionTool { extension, name } => format!("{}/{name}", extension.id),
            Self::Origin(origin) => origin.to_string(),
            Self::Session(facts) => facts.id.clone(),
        }
    }
}

/// Longest name of a connector, extension, permission, tool, bundle or log, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// A name that becomes an entity's id. The part before the first `/` of a joined id is a
/// connector or an extension, so those hold none.
fn named(what: &str, name: &str) -> Result<String, Untargetable> {
    let may_hold_slash = matches!(what, "scope" | "permission" | "tool" | "log");
    let problem = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX_NAME_BYTES {
        "has more than 256 bytes"
    } else if name.chars().any(char::is_control) {
        "has a control character"
    } else if name.contains('/') && !may_hold_slash {
        "has a `/`"
    } else {
        return Ok(name.to_owned());
    };
    Err(Untargetable::Malformed(format!(
        "the {what}'s name {problem}"
    )))
}

fn checked(extension: &ExtensionFacts) -> Result<ExtensionFacts, Untargetable> {
    named("extension", &extension.id)?;
    if let Some(publisher) = &extension.publisher {
        named("publisher", publisher)?;
    }
    Ok(extension.clone())
}

/// A literal that a rule names, where its type has a canonical form: the resource it would be,
/// or what is wrong with it. A literal in another form never matches, and a `forbid` on it would
/// silently not fire.
pub(crate) fn check_literal(type_name: &str, id: &str) -> Result<(), String> {
    match type_name {
        "Host" | "Domain" => check_name(type_name, id),
        "Address" => match id.parse::<IpAddr>() {
            Ok(address) if address.to_canonical().to_string() == id => Ok(()),
            Ok(address) => Err(format!("write `Address::\"{}\"`", address.to_canonical())),
            Err(_) => Err("write an address, for example `Address::\"192.0.2.7\"`".into()),
        },
        "Network" => match id.parse::<IpNet>() {
            Ok(network) if network.trunc().to_string() == id => Ok(()),
            Ok(network) => Err(format!("write `Network::\"{}\"`", network.trunc())),
            Err(_) => Err("write a prefix, for example `Network::\"10.0.0.0/8\"`".into()),
        },
        "Folder" | "File" => canonical(Path::new(id)).map(|_| ()).map_err(|_| {
            "write an absolute path without `.`, `..`, `//` and trailing slash".into()
        }),
        _ => Ok(()),
    }
}

fn check_name(type_name: &str, id: &str) -> Result<(), String> {
    match id.parse::<NormalizedHost>() {
        Ok(host) if host.as_str() == id => Ok(()),
        Ok(host) => Err(format!("write `{type_name}::\"{host}\"`")),
        Err(_) if id.starts_with("*.") => Err(format!(
            "write `Domain::\"{}\"`, which is the name and everything below it",
            id.trim_start_matches("*.")
        )),
        Err(_) if id.parse::<IpAddr>().is_ok() => Err(format!("write `Address::\"{id}\"`")),
        Err(error) => Err(error.hint().into()),
    }
}

fn start(backend: Backend) -> (&'static str, Resource) {
    let name = backend_name(backend);
    let action = match backend {
        Backend::Bubblewrap | Backend::Container | Backend::Gateway => "start_session",
        Backend::None => "run_without_sandbox",
    };
    (action, Resource::Backend(name))
}

pub(crate) fn backend_name(backend: Backend) -> &'static str {
    match backend {
        Backend::Bubblewrap => "bubblewrap",
        Backend::Container => "container",
        Backend::None => "none",
        Backend::Gateway => "gateway",
    }
}

fn grant_action(mode: GrantMode) -> &'static str {
    match mode {
        GrantMode::Ro => "grant_ro",
        GrantMode::Rw => "grant_rw",
        GrantMode::Rwd => "grant_rwd",
    }
}

/// The action for an HTTP request. One that changes the protocol is an action of its own, whatever
/// its method: a rule about reading must not open a channel both ways. Methods are case-sensitive:
/// `get` is not GET.
///
/// Source: RFC 9110 sections 7.8 and 9.
pub(crate) fn http_action(method: &str, facts: &HttpFacts) -> &'static str {
    if facts.upgrade.is_some() {
        return "http_upgrade";
    }
    match method {
        "GET" | "HEAD" | "OPTIONS" => "http_read",
        "POST" | "PUT" | "PATCH" => "http_write",
        "DELETE" => "http_delete",
        _ => "http_other",
    }
}

fn host(host: &Host) -> Resource {
    match host {
        Host::Name(name) => Resource::Host(name.clone()),
        Host::Address(address) => Resource::Address(address.to_canonical()),
    }
}

/// Longest path that the kernel takes, PATH_MAX.
const MAX_PATH_BYTES: usize = 4_096;

fn canonical(path: &Path) -> Result<String, Untargetable> {
    let malformed = |what: &str| Err(Untargetable::Malformed(format!("the path {what}")));
    let Some(text) = path.to_str() else {
        return malformed("is not UTF-8");
    };
    let Some(rest) = text.strip_prefix('/') else {
        return malformed("is not absolute");
    };
    if text.len() > MAX_PATH_BYTES || text.contains('\0') {
        return malformed("is too long or has a NUL");
    }
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    if !rest.is_empty() && !rest.split('/').all(plain) {
        return malformed("is not canonical");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    use super::*;

    #[test]
    fn f07_only_canonical_paths_are_decided() {
        for path in [
            "/",
            "/home/a",
            "/home/a b",
            "/home/.a",
            "/home/..a",
            "/h\u{e9}",
        ] {
            assert_eq!(canonical(Path::new(path)), Ok(path.to_owned()), "{path}");
        }
        for path in [
            "",
            ".",
            "home",
            "/home/",
            "/home//a",
            "/home/./a",
            "/home/../a",
            "/..",
            "//",
            "/a\0b",
        ] {
            assert!(canonical(Path::new(path)).is_err(), "{path:?}");
        }
        assert!(canonical(Path::new(OsStr::from_bytes(b"/home/\xff"))).is_err());
        assert!(canonical(Path::new(&format!("/{}", "a".repeat(5_000)))).is_err());
    }

    #[test]
    fn literals_in_another_form_are_told_the_canonical_one() {
        let cases = [
            ("Host", "api.example.com", None),
            ("Host", "API.example.com", Some("Host::\"api.example.com\"")),
            (
                "Host",
                "api.example.com.",
                Some("Host::\"api.example.com\""),
            ),
            ("Host", "192.0.2.1", Some("Address::\"192.0.2.1\"")),
            ("Domain", "*.example.com", Some("Domain::\"example.com\"")),
            ("Domain", "example.com", None),
            ("Host", "b\u{fc}cher.example", Some("A-label")),
            ("Address", "192.0.2.1", None),
            (
                "Address",
                "::FFFF:192.0.2.1",
                Some("Address::\"192.0.2.1\""),
            ),
            ("Address", "2001:DB8::1", Some("Address::\"2001:db8::1\"")),
            ("Address", "127.1", Some("192.0.2.7")),
            ("Network", "10.0.0.0/8", None),
            ("Network", "10.1.0.0/8", Some("Network::\"10.0.0.0/8\"")),
            ("Network", "10.0.0.1", Some("10.0.0.0/8")),
            ("Folder", "/home/a", None),
            ("Folder", "/home/a/", Some("trailing slash")),
            ("Folder", "~/a", Some("absolute")),
            ("Group", "Any Thing", None),
        ];
        for (type_name, id, expected) in cases {
            let found = check_literal(type_name, id);
            match expected {
                None => assert_eq!(found, Ok(()), "{type_name}::{id:?}"),
                Some(help) => assert!(
                    found.as_ref().is_err_and(|e| e.contains(help)),
                    "{type_name}::{id:?}: {found:?}"
                ),
            }
        }
    }
}
