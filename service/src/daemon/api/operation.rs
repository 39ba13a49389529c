//! From the words of the decision API to the one canonical request (P03).
//!
//! Names of actions and types of resources are those of `policies/cordon.cedarschema`; facts stand
//! in the context, or as properties of action and resource. Never decides.

use std::path::PathBuf;

use cordon_policy::{
    BrowserAct, Destination, ExtensionFacts, GrantMode, GrantSource, Host, HttpFacts, Method,
    Operation, Origin, Scheme, Seen, Signature, Transport, query_keys,
};
use serde_json::Value;

use super::fields::Fields;

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// Complete as it is.
    Operation(Operation),
    /// A file, whose place in the session's grants says the rest.
    File(Access, PathBuf),
}

/// What is to be done with a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Its contents or a folder's entries are looked at.
    Read,
    /// It is made, or its contents change.
    Write,
    /// It goes.
    Delete,
}

/// What can be asked for: names of actions, each with the types of resources that it takes.
pub const ACTIONS: &[(&str, &[&str])] = &[
    ("act", &["Origin"]),
    ("call_tool", &["ExtensionTool"]),
    ("connect", &["Address", "Host"]),
    ("delete", &["File"]),
    ("enable_browser", &["Platform"]),
    ("enable_connector", &["Connector"]),
    ("grant_ro", &["Folder"]),
    ("grant_rw", &["Folder"]),
    ("grant_rwd", &["Folder"]),
    ("http_delete", &["Address", "Host"]),
    ("http_other", &["Address", "Host"]),
    ("http_read", &["Address", "Host"]),
    ("http_upgrade", &["Address", "Host"]),
    ("http_write", &["Address", "Host"]),
    ("install_extension", &["Extension"]),
    ("load_extension", &["Extension"]),
    ("open", &["Origin"]),
    ("read", &["File"]),
    ("use_permission", &["ExtensionPermission"]),
    ("use_scope", &["ConnectorScope"]),
    ("write", &["File"]),
];

/// One question, with its facts.
pub struct Question<'a> {
    /// Name of the action.
    pub action: &'a str,
    /// Type of the resource.
    pub kind: &'a str,
    /// Its id.
    pub id: &'a str,
    facts: Vec<&'a Fields>,
}

impl<'a> Question<'a> {
    /// With the facts of all places together; none may stand in two of them with two values.
    pub fn new(action: &'a str, kind: &'a str, id: &'a str, facts: Vec<&'a Fields>) -> Self {
        Self {
            action,
            kind,
            id,
            facts,
        }
    }

    /// What it asks for.
    ///
    /// # Errors
    /// What is missing or cannot be, in words.
    pub fn wanted(&self) -> Result<Wanted, String> {
        let operation = match (self.action, self.kind) {
            ("connect", "Host" | "Address") => self.connect()?,
            (
                "http_read" | "http_write" | "http_delete" | "http_other" | "http_upgrade",
                "Host" | "Address",
            ) => self.http()?,
            ("grant_ro", "Folder") => self.grant(GrantMode::Ro)?,
            ("grant_rw", "Folder") => self.grant(GrantMode::Rw)?,
            ("grant_rwd", "Folder") => self.grant(GrantMode::Rwd)?,
            ("read", "File") => return Ok(Wanted::File(Access::Read, self.path()?)),
            ("write", "File") => return Ok(Wanted::File(Access::Write, self.path()?)),
            ("delete", "File") => return Ok(Wanted::File(Access::Delete, self.path()?)),
            ("enable_connector", "Connector") => Operation::EnableConnector {
                connector: self.id.into(),
            },
            ("use_scope", "ConnectorScope") => {
                let (connector, scope) = self.parts()?;
                Operation::UseScope { connector, scope }
            }
            ("install_extension", "Extension") => Operation::InstallExtension {
                extension: unsigned(self.id),
            },
            ("load_extension", "Extension") => Operation::LoadExtension {
                extension: unsigned(self.id),
            },
            ("use_permission", "ExtensionPermission") => {
                let (id, permission) = self.parts()?;
                Operation::UsePermission {
                    extension: unsigned(&id),
                    permission,
                }
            }
            ("call_tool", "ExtensionTool") => {
                let (id, tool) = self.parts()?;
                Operation::CallTool {
                    extension: unsigned(&id),
                    tool,
                    call: Box::default(),
                }
            }
            ("enable_browser", "Platform") => Operation::EnableBrowser,
            ("open", "Origin") => Operation::OpenOrigin {
                origin: origin(self.id)?,
            },
            ("act", "Origin") => Operation::ActInOrigin {
                origin: origin(self.id)?,
                act: self.act()?,
            },
            (action, kind) => {
                return Err(format!(
                    "no request `{}` of a `{}` can be decided here; `policies/cordon.cedarschema` \
                     has the names",
                    action.escape_default(),
                    kind.escape_default()
                ));
            }
        };
        Ok(Wanted::Operation(operation))
    }

    fn connect(&self) -> Result<Operation, String> {
        Ok(Operation::Connect {
            destination: self.destination(None)?,
            transport: match self.text("transport")? {
                None | Some("http-connect") => Transport::HttpConnect,
                Some("socks5") => Transport::Socks5,
                Some("capture") => Transport::Capture,
                Some(_) => return Err(wrong("transport", "`http-connect`, `socks5`, `capture`")),
            },
            seen: Seen::default(),
        })
    }

    fn http(&self) -> Result<Operation, String> {
        let scheme = match self.text("scheme")? {
            None | Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            Some(_) => return Err(wrong("scheme", "`https` or `http`")),
        };
        let method = match (self.text("method")?, self.action) {
            (Some("GET"), "http_upgrade") => "GET",
            (Some(method), action) if class(method) == action => method,
            (None, "http_read" | "http_upgrade") => "GET",
            (None, "http_delete") => "DELETE",
            (None, _) => return Err("`method` is missing".into()),
            (Some(_), action) => return Err(wrong("method", &format!("a method of `{action}`"))),
        };
        let upgrade = self.text("upgrade")?.map(str::to_ascii_lowercase);
        if upgrade.is_some() != (self.action == "http_upgrade") {
            return Err(
                "`upgrade` is the protocol of an `http_upgrade`, and of no other action".into(),
            );
        }
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if !(1..=64).contains(&method.len()) || !method.bytes().all(token) {
            return Err(wrong("method", "a method of HTTP"));
        }
        let path = self.text("path")?.unwrap_or("/");
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#');
        if !path.starts_with('/') || !path.chars().all(plain) || !query.chars().all(plain) {
            return Err(wrong("path", "a path as HTTP sends it"));
        }
        let facts = HttpFacts {
            scheme,
            query_keys: query_keys(query).map_err(|error| error.to_string())?,
            content_type: self.text("content_type")?.map(str::to_ascii_lowercase),
            content_length: self.number("content_length")?,
            credential: self.flag("credential")?,
            upgrade,
            seen: Seen::default(),
        };
        Ok(Operation::HttpRequest {
            destination: self.destination(Some(scheme.default_port()))?,
            method: Method(method.into()),
            path: path.into(),
            facts: Box::new(facts),
        })
    }

    fn destination(&self, usual: Option<u16>) -> Result<Destination, String> {
        let port = match (self.number("port")?, usual) {
            (Some(port), _) => u16::try_from(port).map_err(|_| wrong("port", "1 to 65535"))?,
            (None, Some(port)) => port,
            (None, None) => return Err("`port` is missing".into()),
        };
        let destination = Destination::from_parts(self.id.as_bytes(), port)
            .map_err(|error| format!("{error}; {}", error.hint()))?;
        match (&destination.host, self.kind) {
            (Host::Name(_), "Host") | (Host::Address(_), "Address") => Ok(destination),
            (Host::Name(_), _) => Err("the resource is a `Host`, not an `Address`".into()),
            (Host::Address(_), _) => Err("the resource is an `Address`, not a `Host`".into()),
        }
    }

    fn grant(&self, mode: GrantMode) -> Result<Operation, String> {
        let path = self.path()?;
        let source = match self.text("source")? {
            None | Some("command-line") => GrantSource::CommandLine,
            Some("working-directory") => GrantSource::WorkingDirectory,
            Some("profile") => GrantSource::Profile,
            Some("api") => GrantSource::Api,
            Some(_) => {
                return Err(wrong(
                    "source",
                    "`command-line`, `working-directory`, `profile`, `api`",
                ));
            }
        };
        match self.text("name")? {
            Some(name) if matches!(name, "" | "." | "..") || name.contains('/') => {
                Err(wrong("name", "one name of a folder"))
            }
            Some(name) => Ok(Operation::grant(path, mode, source, name)),
            None => Ok(Operation::GrantFolder {
                path,
                mode,
                source,
                name: None,
            }),
        }
    }

    fn path(&self) -> Result<PathBuf, String> {
        if self.id.starts_with('/') && !self.id.contains('\0') {
            Ok(self.id.into())
        } else {
            Err("the id of a `Folder` or `File` is its absolute path".into())
        }
    }

    fn act(&self) -> Result<BrowserAct, String> {
        act_named(self.text("kind")?.ok_or("`kind` is missing")?)
    }

    /// `owner/name`, as these ids are in the schema. A name may have slashes, an owner not.
    fn parts(&self) -> Result<(String, String), String> {
        match self.id.split_once('/') {
            Some((owner, name)) if !owner.is_empty() && !name.is_empty() => {
                Ok((owner.into(), name.into()))
            }
            _ => Err(format!("the id of a `{}` is `OWNER/NAME`", self.kind)),
        }
    }

    /// A fact; the same in every place that has it.
    fn fact(&self, name: &str) -> Result<Option<&'a Value>, String> {
        let mut found = None;
        for fields in &self.facts {
            match (found, fields.0.get(name)) {
                (Some(first), Some(second)) if first != second => {
                    return Err(format!("`{name}` stands there with two values"));
                }
                (None, Some(value)) if !value.is_null() => found = Some(value),
                _ => {}
            }
        }
        Ok(found)
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, String> {
        match self.fact(name)? {
            None => Ok(None),
            Some(value) => Ok(Some(value.as_str().ok_or_else(|| wrong(name, "a text"))?)),
        }
    }

    fn number(&self, name: &str) -> Result<Option<u64>, String> {
        match self.fact(name)? {
            None => Ok(None),
            Some(value) => {
                let number = value.as_u64().filter(|n| *n <= cordon_policy::MAX_LENGTH);
                Ok(Some(number.ok_or_else(|| {
                    wrong(name, "a number without sign or fraction")
                })?))
            }
        }
    }

    fn flag(&self, name: &str) -> Result<bool, String> {
        match self.fact(name)? {
            None => Ok(false),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| wrong(name, "`true` or `false`")),
        }
    }
}

/// The action that a method belongs to.
fn class(method: &str) -> &'static str {
    match method {
        "GET" | "HEAD" | "OPTIONS" => "http_read",
        "POST" | "PUT" | "PATCH" => "http_write",
        "DELETE" => "http_delete",
        _ => "http_other",
    }
}

/// An extension of which nothing is known here: whoever asks cannot say that it is signed.
fn unsigned(id: &str) -> ExtensionFacts {
    ExtensionFacts {
        id: id.into(),
        publisher: None,
        version: String::new(),
        digest: String::new(),
        signature: Signature::Unsigned,
    }
}

/// An action on a page by its name.
pub(super) fn act_named(kind: &str) -> Result<BrowserAct, String> {
    let all = [
        BrowserAct::Click,
        BrowserAct::Type,
        BrowserAct::Submit,
        BrowserAct::Upload,
        BrowserAct::Download,
        BrowserAct::Script,
    ];
    let act = all.into_iter().find(|act| act.as_str() == kind);
    act.ok_or_else(|| {
        wrong(
            "kind",
            "`click`, `type`, `submit`, `upload`, `download`, `script`",
        )
    })
}

/// Source: RFC 6454 section 6.2.
pub(super) fn origin(text: &str) -> Result<Origin, String> {
    let (scheme, authority) = match text.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(("http", rest)) => (Scheme::Http, rest),
        _other => return Err("an origin is `https://HOST[:PORT]`".into()),
    };
    let destination = Destination::from_url_authority(authority.as_bytes(), scheme)
        .map_err(|error| format!("{error}; {}", error.hint()))?;
    Ok(Origin {
        scheme,
        destination,
    })
}

fn wrong(name: &str, wanted: &str) -> String {
    format!("`{name}` is not {wanted}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(action: &str, kind: &str, id: &str, facts: &str) -> Result<Wanted, String> {
        let fields: Fields = serde_json::from_str(facts).unwrap();
        Question::new(action, kind, id, vec![&fields]).wanted()
    }

    /// The words of the author's tools, for the same request.
    fn words(text: &str) -> Wanted {
        Wanted::Operation(cordon_policy::ask::parse(text).unwrap())
    }

    #[test]
    fn what_is_listed_is_what_can_be_asked() {
        let mut kinds: Vec<&str> = ACTIONS
            .iter()
            .flat_map(|(_, kinds)| *kinds)
            .copied()
            .collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert!(ACTIONS.is_sorted());
        for (action, taken) in ACTIONS {
            for kind in &kinds {
                let said = ask(action, kind, "x", "{}").err().unwrap_or_default();
                let unknown = said.starts_with("no request");
                assert_eq!(unknown, !taken.contains(kind), "{action} {kind}: {said}");
            }
        }
    }

    #[test]
    fn p03_a_question_is_the_request_that_every_other_door_makes_of_it() {
        let table = [
            (
                "connect",
                "Host",
                "API.Example.com.",
                r#"{"port": 443}"#,
                "connect api.example.com:443",
            ),
            (
                "connect",
                "Address",
                "0x7f.1",
                r#"{"port": 22, "transport": "socks5"}"#,
                "connect 127.0.0.1:22 via socks5",
            ),
            (
                "http_read",
                "Host",
                "a.test",
                r#"{"path": "/x?b=1&a=2"}"#,
                "GET https://a.test/x?a&b tls none",
            ),
            (
                "http_upgrade",
                "Host",
                "a.test",
                r#"{"scheme": "http", "path": "/x", "upgrade": "WebSocket"}"#,
                "GET http://a.test/x upgrade websocket",
            ),
            (
                "http_write",
                "Host",
                "a.test",
                r#"{"method": "PUT", "scheme": "http", "path": "/x"}"#,
                "PUT http://a.test/x",
            ),
            (
                "grant_rw",
                "Folder",
                "/home/u/p",
                "{}",
                "grant rw /home/u/p",
            ),
            (
                "use_scope",
                "ConnectorScope",
                "tracker/read:issues",
                "{}",
                "use scope read:issues of tracker",
            ),
            (
                "call_tool",
                "ExtensionTool",
                "notes/add",
                "{}",
                "call add of notes",
            ),
            (
                "act",
                "Origin",
                "https://a.test",
                r#"{"kind": "click"}"#,
                "click in https://a.test",
            ),
        ];
        for (action, kind, id, facts, same) in table {
            assert_eq!(ask(action, kind, id, facts).unwrap(), words(same), "{same}");
        }
        let file = ask("delete", "File", "/a/../b", "{}").unwrap();
        assert_eq!(file, Wanted::File(Access::Delete, "/a/../b".into()));
    }

    #[test]
    fn p03_what_is_no_request_is_refused_and_not_mended() {
        for (action, kind, id, facts) in [
            ("connect", "Host", "a.test", "{}"),
            ("connect", "Host", "a.test", r#"{"port": "443"}"#),
            ("connect", "Host", "a.test", r#"{"port": 65536}"#),
            ("connect", "Host", "a.test\u{0}.b.test", r#"{"port": 443}"#),
            ("connect", "Host", "127.1", r#"{"port": 443}"#),
            ("connect", "Address", "a.test", r#"{"port": 443}"#),
            ("connect", "Folder", "/a", r#"{"port": 443}"#),
            ("http_read", "Host", "a.test", r#"{"method": "POST"}"#),
            ("http_write", "Host", "a.test", "{}"),
            ("http_upgrade", "Host", "a.test", "{}"),
            ("http_read", "Host", "a.test", r#"{"upgrade": "x"}"#),
            (
                "http_upgrade",
                "Host",
                "a.test",
                r#"{"method": "POST", "upgrade": "x"}"#,
            ),
            ("http_read", "Host", "a.test", r#"{"path": "no-slash"}"#),
            ("http_read", "Host", "a.test", r#"{"credential": "yes"}"#),
            ("grant_rw", "Folder", "relative", "{}"),
            ("read", "File", "~/x", "{}"),
            ("call_tool", "ExtensionTool", "notes", "{}"),
            ("act", "Origin", "https://a.test", "{}"),
            ("open", "Origin", "https://u@a.test", "{}"),
            ("publish_policy", "PolicyBundle", "x", "{}"),
            ("fly", "Host", "a.test", "{}"),
        ] {
            assert!(
                ask(action, kind, id, facts).is_err(),
                "{action} {kind} {id:?} {facts}"
            );
        }
        let (a, b): (Fields, Fields) = (
            serde_json::from_str(r#"{"port": 443}"#).unwrap(),
            serde_json::from_str(r#"{"port": 80}"#).unwrap(),
        );
        let two = Question::new("connect", "Host", "a.test", vec![&a, &b]).wanted();
        assert!(two.unwrap_err().contains("two values"));
    }
}
