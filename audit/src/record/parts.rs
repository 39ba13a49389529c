//! The parts of a record. As in [`super::Record`], fields stand in the order of their names.

use serde::{Deserialize, Serialize};

use super::Effect;

/// A question of a caller about an application of a bundle, or a search, in the caller's words.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Access {
    /// What is to be done; absent where that is looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The bundle whose application it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// Of a search: how many candidates were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluated: Option<u64>,
    /// Of a search: how many of them may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<u64>,
    /// `X-Request-ID`, as the caller sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// To what; without an id where that is looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<AccessEntity>,
    /// What the caller said that counted, each `place.name=value` with the value as JSON.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<String>,
    /// Of a search: `subject`, `resource` or `action`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sought: Option<String>,
    /// Who; without an id where that is looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<AccessEntity>,
}

/// A subject or resource of such a question.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct AccessEntity {
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
}

/// An agent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Agent {
    /// Name of its profile.
    pub name: String,
    /// Version of its program, where the profile tells how to ask for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// A human approval: one that a decision rests on or waits for, or a step of its own.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Approval {
    /// When it was given, in microseconds since the epoch (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_us: Option<u64>,
    /// Who gave it, or answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<String>,
    /// SHA-256 over the session and the request in words, lower-case hex.
    pub digest: String,
    /// How many people must give it, where that is more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs: Option<u64>,
    /// Its id.
    #[serde(rename = "ref")]
    pub reference: String,
    /// `once`, `uses` or `session`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Seconds that it holds; of a request, that it waits for an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
    /// How often it may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uses: Option<u64>,
}

/// What was exported.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Export {
    /// Number of records.
    pub count: u64,
    /// Place of the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// `ocsf`, `ecs`, `cef`, `jsonl`, `csv`, `otlp`, `tlog`.
    pub format: String,
    /// Place of the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// What was asked for, as JSON.
    pub query: String,
    /// Root of the tree over the exported records, base64.
    pub root: String,
    /// The sink that it went to once more; absent for a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
}

/// What an extension or a tool server is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Extension {
    /// SHA-256 of its manifest and content, lower-case hex.
    pub digest: String,
    /// Its identifier.
    pub id: String,
    /// Who signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// What came of checking its signature: `trusted`, `untrusted`, `broken`, `unsigned`.
    pub signature: String,
    /// Its version.
    pub version: String,
}

/// Facts of a session.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Facts {
    /// What holds its walls.
    pub backend: String,
    /// The user's groups.
    pub groups: Vec<String>,
    /// Digest of the image that its container is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Its operating system.
    pub platform: String,
}

/// HTTP facts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Http {
    /// Bytes of the request's body, where its head tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_length: Option<u64>,
    /// Media type of the request's body, lower case, without parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Whether the client sent credentials of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<bool>,
    /// Host of the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Path without query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Keys of the query, decoded, sorted; never the values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query_keys: Vec<String>,
    /// `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Status of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Protocol that the client wants to change to, lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<String>,
}

/// Network facts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Net {
    /// Destination port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dport: Option<u16>,
    /// Destination address: in a decision the one decided on, in the end of a flow the one
    /// connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst: Option<String>,
    /// Destination name or address, as asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Names that the lookup led to (CNAME targets), in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Transport protocol.
    pub proto: String,
    /// Addresses that the name resolved to when it was decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolved: Vec<String>,
    /// Name in the TLS client hello.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// What the client's first bytes say about TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Box<Tls>>,
    /// Whether a parent proxy resolves the name, so that the address could not be checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unverified: Option<bool>,
    /// The way it arrived: `http-connect`, `socks5`, `capture`, `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
}

/// A policy set.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Policy {
    /// Its revision, where it is a bundle: a number that only grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Its name.
    pub set: String,
    /// SHA-256 over its files, lower-case hex.
    pub sha256: String,
    /// Where a bundle came from, in records about policy itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// Someone.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Principal {
    /// Login name.
    pub id: String,
    /// `user`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A process of a session.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Process {
    /// Paths of its parents' programs, the nearest first, without the session's first process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<String>,
    /// Path of its program, as the session sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// SHA-256 of its program, lower-case hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe_sha256: Option<String>,
    /// Process id, as the session sees it.
    pub pid: u32,
    /// Paths of the programs of further processes that hold the same connection: which of them
    /// asked is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<String>,
    /// When it started, in microseconds since boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_us: Option<u64>,
    /// Not every process of the session could be looked into: another may have asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncertain: Option<bool>,
}

/// Input that could not be normalised.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Raw {
    /// Where it came in.
    pub door: String,
    /// What is wrong with it.
    pub problem: String,
    /// The text itself. Hostile: show it with [`crate::escape`] only.
    pub text: String,
}

/// What was asked for.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Resource {
    /// What is done on a page: `click`, `type`, `submit`, `upload`, `download`, `script`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub act: Option<String>,
    /// Base64 of the exact bytes, where `id` is not valid UTF-8 and so only resembles them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
    /// Canonical text: `host:port`, a path, a program's name.
    pub id: String,
    /// Mode of a grant; of a program, its profile of system calls where that is not the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Of a grant, the name inside where it is not the path's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who asked for a grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// `network`, `folder`, `path`, `program`, `connector`, `extension`, `platform`, `origin`,
    /// `session`, `bundle`, `log`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The service itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Service {
    /// Name of the host.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// Version of the program.
    pub version: String,
}

/// What a candidate policy would have decided.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Shadow {
    /// What it would have decided.
    pub effect: Effect,
    /// The candidate.
    pub policy: Policy,
    /// Ids of the rules that would have determined it.
    pub rules: Vec<String>,
}

/// What a client's first bytes say about TLS; the server name is [`Net::sni`].
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Tls {
    /// Application protocols offered, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<String>,
    /// Whether the true server name is encrypted.
    pub ech: bool,
    /// Whether TLS was ended here and every request inside decided.
    pub inspected: bool,
    /// JA4 fingerprint of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ja4: Option<String>,
    /// `hello` or `not-tls`.
    pub kind: String,
    /// Highest version offered: `1.2` or `1.3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// A tool call.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Tool {
    /// Length of the arguments in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args_len: Option<u64>,
    /// SHA-256 of the arguments, lower-case hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args_sha256: Option<String>,
    /// Arguments that the configuration names as facts for policy, each `name=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// What was known of its description, schema and annotations: `unseen`, `first`, `accepted` or
    /// `changed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// What the server says of it: `closed`, `harmless`, `read-only`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// What is used: `tool`, `resource`, `prompt`, `sampling`, `elicitation` or `roots`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name of the tool.
    pub name: String,
    /// The server that offers it.
    pub server: String,
}

/// A place in a distributed trace (W3C Trace Context).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Trace {
    /// 16 lower-case hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_id: Option<String>,
    /// 32 lower-case hex digits.
    pub trace_id: String,
}

/// A text that is not here in full.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Cut {
    /// Which field.
    pub field: String,
    /// Its length in bytes, or in entries for a list.
    pub len: u64,
    /// SHA-256 of the whole, lower-case hex (of a list: its entries joined by line feeds).
    pub sha256: String,
}
