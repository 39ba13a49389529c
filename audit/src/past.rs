//! A past decision as a request again, so that it can be decided once more.
//!
//! A [`Record`] and the facts of its session in, a [`Request`] out. Nothing is guessed: what the
//! record does not hold in full is a [`NotAgain`] that says why.

use std::{
    collections::HashMap,
    ffi::OsString,
    fmt,
    net::{IpAddr, SocketAddr},
    os::unix::ffi::OsStringExt as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cordon_policy::{
    Backend, BrowserAct, Definition, DenyReason, Destination, ExtensionFacts, GrantMode,
    GrantSource, Handshake, Holder, HttpFacts, Method, NormalizedHost, Operation, Origin, Port,
    ProcessFacts, Request, Scheme, SeccompProfile, Seen, SessionFacts, Signature, TargetError,
    TlsFacts, ToolCall, ToolHints, ToolKind, Transport,
};
use serde::de::DeserializeOwned;

use crate::{
    Kind, Record,
    read::{ReadError, Reader},
    record::{Facts, Process, Tool},
};

/// Why a past decision cannot be decided again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum NotAgain {
    /// The input could not be normalised, so no rule was ever asked.
    Malformed,
    /// Refused by another step than policy: an address, a grant's mode, a protected folder.
    NotByPolicy,
    /// The start of its session, which has the facts, is not in the log.
    NoFacts,
    /// A text that the decision rests on was too long to be kept in full.
    Cut,
    /// A known secret was taken out of a text that the decision rests on.
    Masked,
    /// The record does not hold everything that a rule may look at.
    Incomplete,
    /// An action that this version does not know.
    UnknownAction,
    /// It searched an application's entities, and many may have been looked at.
    Search,
    /// No bundle at hand has an application with the type that it asked about.
    NoApplication,
    /// A rule looks at what the session had done before, and the log does not tell all of that.
    NoPast,
    /// A rule looks at bytes, and some of what was open then had moved a part of its own: the log
    /// has them when a flow ends.
    OpenBytes,
}

/// The facts of sessions, as far as records have told them. Bounded: when it is full, all are
/// let go and looked up again.
#[derive(Debug, Default)]
pub struct Sessions {
    known: HashMap<String, Option<Arc<SessionFacts>>>,
}

/// The operation that a record's decision was about.
///
/// # Errors
/// [`NotAgain`] where the record does not tell it exactly.
pub fn operation(record: &Record) -> Result<Operation, NotAgain> {
    if record.raw.is_some() {
        return Err(NotAgain::Malformed);
    }
    if record.trunc.iter().any(|cut| rests_on(&cut.field)) {
        return Err(NotAgain::Cut);
    }
    if record.masked.iter().any(|field| rests_on(field)) {
        return Err(NotAgain::Masked);
    }
    let action = record.action.as_deref().ok_or(NotAgain::UnknownAction)?;
    if !ACTIONS.contains(&action) {
        return Err(NotAgain::UnknownAction);
    }
    read(action, record).ok_or(NotAgain::Incomplete)
}

/// The request that a decision answered: its operation, its session's facts, and its time.
///
/// # Errors
/// [`NotAgain`] where it cannot be told exactly, or was not decided by rules.
pub fn request(record: &Record, facts: Arc<SessionFacts>) -> Result<Request, NotAgain> {
    match record.reason.as_deref().and_then(word::<DenyReason>) {
        Some(DenyReason::Malformed) => return Err(NotAgain::Malformed),
        Some(
            DenyReason::AddressNotPermitted
            | DenyReason::GrantMode
            | DenyReason::ProtectedFolder
            | DenyReason::Unavailable
            | DenyReason::TlsMismatch
            | DenyReason::TlsHidden
            | DenyReason::NotTls
            | DenyReason::Limit
            | DenyReason::Credential,
        ) => return Err(NotAgain::NotByPolicy),
        Some(
            DenyReason::DefaultDeny
            | DenyReason::Rule
            | DenyReason::ApprovalRequired
            | DenyReason::EvaluationError,
        )
        | None => {}
    }
    Ok(Request {
        session: facts,
        operation: operation(record)?,
        at: decided_at(record),
    })
}

/// When it was decided: the record's own time without the wait in the queue.
pub fn decided_at(record: &Record) -> SystemTime {
    let micros = record
        .ts_us
        .saturating_sub(record.queue_us.unwrap_or_default());
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

impl Sessions {
    /// Most sessions whose facts are held at once.
    const MOST: usize = 100_000;

    /// Takes in what a record tells about its session.
    pub fn note(&mut self, record: &Record) {
        let (Some(session), Some(facts)) = (&record.session, &record.facts) else {
            return;
        };
        if matches!(self.known.get(session), Some(Some(_))) {
            return;
        }
        self.keep(session, session_facts(record, session, facts).map(Arc::new));
    }

    /// The facts of a record's session: noted, or looked up in the log once.
    ///
    /// # Errors
    /// [`ReadError`] when the log cannot be read.
    pub fn facts(
        &mut self,
        record: &Record,
        log: &Reader,
    ) -> Result<Option<Arc<SessionFacts>>, ReadError> {
        let Some(session) = &record.session else {
            return Ok(None);
        };
        if let Some(known) = self.known.get(session) {
            return Ok(known.clone());
        }
        let found = log.session(session)?.iter().find_map(|record| {
            let facts = record.facts.as_ref()?;
            session_facts(record, session, facts).map(Arc::new)
        });
        self.keep(session, found.clone());
        Ok(found)
    }

    fn keep(&mut self, session: &str, facts: Option<Arc<SessionFacts>>) {
        if self.known.len() >= Self::MOST {
            self.known.clear();
        }
        self.known.insert(session.to_owned(), facts);
    }
}

/// None where a fact was cut: a group that is not there could change a decision.
fn session_facts(record: &Record, session: &str, facts: &Facts) -> Option<SessionFacts> {
    if record.trunc.iter().any(|cut| is_session_fact(&cut.field)) {
        return None;
    }
    Some(SessionFacts {
        id: session.to_owned(),
        user: record.principal.as_ref()?.id.clone(),
        groups: facts.groups.clone(),
        agent: record.agent.as_ref().map(|agent| agent.name.clone()),
        platform: facts.platform.clone(),
        backend: word::<Backend>(&facts.backend)?,
    })
}

fn is_session_fact(field: &str) -> bool {
    matches!(field, "session" | "principal.id" | "agent.name") || field.starts_with("facts.")
}

/// Whether a decision may rest on a field; what is only for readers does not count.
fn rests_on(field: &str) -> bool {
    is_session_fact(field)
        || field.starts_with("resource.")
        || field.starts_with("http.")
        || field.starts_with("net.")
        || field.starts_with("process.")
        || field.starts_with("tool.")
        || field.starts_with("extension.")
}

/// Actions of records that [`read`] knows.
const ACTIONS: &[&str] = &[
    "browser.act",
    "browser.enable",
    "browser.open",
    "connector.enable",
    "connector.scope",
    "extension.install",
    "extension.load",
    "extension.permission",
    "folder.grant",
    "http.request",
    "log.read",
    "net.connect",
    "net.reach",
    "path.delete",
    "path.read",
    "path.write",
    "policy.publish",
    "port.publish",
    "session.exec",
    "session.start",
    "tool.call",
];

/// Whether a record of this action is of what people do for themselves with sessions. It does not hold
/// the facts of the session that it is about, and is no part of what any session did.
pub fn is_of_people(action: Option<&str>) -> bool {
    action.is_some_and(|action| action == "approve" || action.starts_with("manage."))
}

fn read(action: &str, record: &Record) -> Option<Operation> {
    let resource = record.resource.as_ref()?;
    let destination = || Destination::from_authority(resource.id.as_bytes()).ok();
    let mode = || word::<GrantMode>(resource.mode.as_deref()?);
    let profile = || match resource.mode.as_deref() {
        None => Some(SeccompProfile::Default),
        Some(name) => SeccompProfile::named(name),
    };
    Some(match action {
        "net.connect" => Operation::Connect {
            destination: destination()?,
            transport: word::<Transport>(record.net.as_ref()?.via.as_deref()?)?,
            seen: seen(record)?,
        },
        "http.request" => Operation::HttpRequest {
            destination: destination()?,
            method: Method(record.http.as_ref()?.method.clone()?),
            path: record.http.as_ref()?.path.clone()?,
            facts: Box::new(http(record)?),
        },
        "net.reach" => Operation::ReachAddress {
            destination: destination()?,
            address: record.net.as_ref()?.dst.as_ref()?.parse::<IpAddr>().ok()?,
        },
        "folder.grant" => Operation::GrantFolder {
            path: path(record)?,
            mode: mode()?,
            source: word::<GrantSource>(resource.source.as_deref()?)?,
            name: resource.name.clone(),
        },
        "path.delete" => Operation::DeletePath {
            path: path(record)?,
            mode: mode()?,
        },
        "path.read" => Operation::ReadPath {
            path: path(record)?,
            mode: mode()?,
        },
        "path.write" => Operation::WritePath {
            path: path(record)?,
            mode: mode()?,
        },
        "session.start" => Operation::StartSession {
            command: resource.id.clone(),
            profile: profile()?,
        },
        "session.exec" => Operation::ExecInSession {
            command: resource.id.clone(),
            profile: profile()?,
        },
        "port.publish" => {
            let (at, inside) = resource.id.rsplit_once(':')?;
            let at = at.parse::<SocketAddr>().ok()?;
            Operation::PublishPort {
                address: at.ip(),
                port: at.port(),
                inside: inside.parse().ok()?,
            }
        }
        "connector.enable" => Operation::EnableConnector {
            connector: resource.id.clone(),
        },
        "connector.scope" => {
            let (connector, scope) = resource.id.split_once('/')?;
            Operation::UseScope {
                connector: connector.to_owned(),
                scope: scope.to_owned(),
            }
        }
        "browser.enable" => Operation::EnableBrowser,
        "browser.open" => Operation::OpenOrigin {
            origin: origin(&resource.id)?,
        },
        "policy.publish" => Operation::PublishPolicy {
            bundle: resource.id.clone(),
        },
        "log.read" => Operation::ReadLog {
            log: resource.id.clone(),
        },
        "browser.act" => Operation::ActInOrigin {
            origin: origin(&resource.id)?,
            act: word::<BrowserAct>(resource.act.as_deref()?)?,
        },
        "extension.install" => Operation::InstallExtension {
            extension: extension(record)?,
        },
        "extension.load" => Operation::LoadExtension {
            extension: extension(record)?,
        },
        "extension.permission" => {
            let extension = extension(record)?;
            let permission = beneath(&resource.id, &extension.id)?;
            Operation::UsePermission {
                extension,
                permission,
            }
        }
        "tool.call" => {
            let extension = extension(record)?;
            let tool = beneath(&resource.id, &extension.id)?;
            let call = Box::new(call(record.tool.as_ref()?)?);
            Operation::CallTool {
                extension,
                tool,
                call,
            }
        }
        _incomplete => return None,
    })
}

/// What was known of an extension. Records of before did not hold it.
fn extension(record: &Record) -> Option<ExtensionFacts> {
    let extension = record.extension.as_ref()?;
    Some(ExtensionFacts {
        id: extension.id.clone(),
        publisher: extension.publisher.clone(),
        version: extension.version.clone(),
        digest: extension.digest.clone(),
        signature: word::<Signature>(&extension.signature)?,
    })
}

/// What was known of a call.
fn call(tool: &Tool) -> Option<ToolCall> {
    let says = |word: &str| tool.hints.iter().any(|hint| hint == word);
    Some(ToolCall {
        kind: word::<ToolKind>(tool.kind.as_deref()?)?,
        definition: word::<Definition>(tool.definition.as_deref()?)?,
        hints: ToolHints {
            read_only: says("read-only"),
            destructive: !says("harmless"),
            open_world: !says("closed"),
        },
        arguments: tool.arguments.clone(),
        input: tool.args_sha256.as_deref().map(Into::into),
    })
}

/// The name behind the id of what offers it.
fn beneath(resource: &str, id: &str) -> Option<String> {
    let name = resource.strip_prefix(id)?.strip_prefix('/')?;
    Some(name.to_owned())
}

/// What was read of an HTTP request beside method and path.
fn http(record: &Record) -> Option<HttpFacts> {
    let http = record.http.as_ref()?;
    Some(HttpFacts {
        scheme: word::<Scheme>(http.scheme.as_deref()?)?,
        query_keys: http.query_keys.clone(),
        content_type: http.content_type.clone(),
        content_length: http.content_length,
        credential: http.credential.unwrap_or_default(),
        upgrade: http.upgrade.clone(),
        seen: seen(record)?,
    })
}

/// What was seen of a connection when it was decided.
fn seen(record: &Record) -> Option<Seen> {
    let net = record.net.as_ref()?;
    let names = net.names.iter().map(|name| name.parse::<NormalizedHost>());
    let tls = match &net.tls {
        None => None,
        Some(tls) => Some(Arc::new(TlsFacts {
            kind: word::<Handshake>(&tls.kind)?,
            sni: net.sni.clone(),
            alpn: tls.alpn.clone(),
            ech: tls.ech,
            ja4: tls.ja4.clone(),
            version: tls.version.clone(),
            inspected: tls.inspected,
        })),
    };
    Some(Seen {
        tls,
        names: names.collect::<Result<_, _>>().ok()?,
        address_unverified: net.unverified.unwrap_or_default(),
        process: record.process.as_ref().and_then(process).map(Arc::new),
    })
}

/// Who held it. Where that is not one process, no rule has seen any.
fn process(process: &Process) -> Option<ProcessFacts> {
    let mut holders = vec![Holder {
        pid: process.pid,
        start_us: process.start_us.unwrap_or_default(),
        executable: process.exe.clone()?,
        digest: process.exe_sha256.clone(),
        ancestors: process.ancestors.clone(),
    }];
    holders.extend(process.shared.iter().map(|executable| Holder {
        executable: executable.clone(),
        ..Holder::default()
    }));
    Some(ProcessFacts {
        holders,
        complete: !process.uncertain.unwrap_or_default(),
    })
}

/// The exact path, also where it is not valid UTF-8.
fn path(record: &Record) -> Option<PathBuf> {
    let resource = record.resource.as_ref()?;
    match &resource.bytes {
        None => Some(PathBuf::from(&resource.id)),
        Some(bytes) => STANDARD
            .decode(bytes)
            .ok()
            .map(|bytes| OsString::from_vec(bytes).into()),
    }
}

fn origin(text: &str) -> Option<Origin> {
    let (scheme, authority) = text.split_once("://")?;
    let scheme = word::<Scheme>(scheme)?;
    let destination = match Destination::from_authority(authority.as_bytes()) {
        Err(TargetError::NoPort { .. }) => {
            let port = Port::new(scheme.default_port()).ok()?;
            let http = Destination::from_http_authority(authority.as_bytes()).ok()?;
            Destination {
                host: http.host,
                port,
            }
        }
        read => read.ok()?,
    };
    Some(Origin {
        scheme,
        destination,
    })
}

/// A word of a fixed vocabulary as its type reads it.
fn word<T: DeserializeOwned>(word: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(word.into())).ok()
}

impl Record {
    /// Whether it is a decision; other kinds tell what came of one.
    pub fn is_decision(&self) -> bool {
        self.kind == Kind::Decision
    }
}

impl fmt::Display for NotAgain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "it was no well-formed request, so no rule was asked",
            Self::NotByPolicy => {
                "another step than policy refused it (address, handshake, limit, credential, grant \
                 mode, protected folder)"
            }
            Self::NoFacts => "the start of its session is not in the log, or not in full",
            Self::Cut => "a text that the decision rests on was too long to be kept in full",
            Self::Masked => "a known secret was taken out of a text that the decision rests on",
            Self::Incomplete => "the record does not hold everything that a rule may look at",
            Self::UnknownAction => "this version does not know its action",
            Self::Search => "it is a search of an application, which is many questions",
            Self::NoApplication => "no bundle at hand has an application with its type of subject",
            Self::NoPast => {
                "a rule looks at what its session had done before, and the log does not tell all of \
                 that"
            }
            Self::OpenBytes => {
                "a rule looks at bytes, and of what was open at that moment the log does not tell \
                 how many had moved"
            }
        })
    }
}

#[cfg(test)]
mod tests;
