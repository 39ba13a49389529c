//! Makes a record out of a decision or an event, and a leaf out of a record.
//!
//! Everything is known here but the record's place (`seq`, `id`, times), which the writer gives.
//! The values of known secrets are taken out here, and then all texts are bounded.

use std::{fmt::Write as _, net::IpAddr, os::unix::ffi::OsStrExt as _, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cordon_policy::{
    Asked, Basis, Decision, DenyReason, Destination, Host, Operation, RawRequest, Request,
    SessionFacts,
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    Event, Record, RecordId,
    record::{
        Agent, Effect, Enforced, Facts, Http, Kind, Mode, Net, Policy, Principal, Raw, Resource,
        Service,
    },
    secrets::Secrets,
    text,
};

mod bounds;

use bounds::{LIMITS, bound, mask};

/// A record that has no place yet.
#[derive(Debug)]
pub(crate) struct Draft(Record);

/// What the writer alone knows about a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) seq: u64,
    pub(crate) id: RecordId,
    pub(crate) ts_us: u64,
    pub(crate) mono_us: u64,
    pub(crate) queue_us: u64,
    pub(crate) boot: &'a str,
    pub(crate) identity: &'a Identity,
}

/// Who writes the log: the same in every record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) host: String,
    pub(crate) instance: String,
    pub(crate) organisation: Option<String>,
}

impl Draft {
    /// Of a decision; `secrets` is what must not be in it.
    pub(crate) fn of_decision(decision: &Decision, secrets: &Secrets) -> Self {
        let mut record = blank(Kind::Decision);
        match decision {
            Decision::Allow(decided) => {
                let allow = decided.verdict();
                fill_request(&mut record, &allow.request);
                fill_basis(&mut record, &allow.basis);
                record.effect = Some(Effect::Allow);
                record.enforced = Some(Enforced::Allowed);
                record.reason = Some("rule".into());
            }
            Decision::Deny(decided) => {
                let deny = decided.verdict();
                match &deny.asked {
                    Asked::Request(request) => fill_request(&mut record, request),
                    Asked::Raw(raw) => fill_raw(&mut record, raw),
                }
                fill_basis(&mut record, &deny.basis);
                record.effect = Some(match deny.reason {
                    DenyReason::ApprovalRequired => Effect::Ask,
                    DenyReason::EvaluationError => Effect::Error,
                    DenyReason::DefaultDeny
                    | DenyReason::Rule
                    | DenyReason::GrantMode
                    | DenyReason::Malformed
                    | DenyReason::AddressNotPermitted
                    | DenyReason::ProtectedFolder
                    | DenyReason::Unavailable => Effect::Deny,
                });
                record.enforced = Some(Enforced::Blocked);
                record.reason = Some(word(&deny.reason));
            }
        }
        Self::bounded(record, secrets)
    }

    /// Of an event; `secrets` is what must not be in it.
    pub(crate) fn of_event(event: &Event, secrets: &Secrets) -> Self {
        let mut record = blank(Kind::Start);
        match event {
            Event::ServiceStarted => record.service = Some(service()),
            Event::ServiceStopped => record.kind = Kind::Stop,
            Event::SessionStarted { session } => {
                record.kind = Kind::SessionStart;
                fill_session(&mut record, session);
                record.facts = Some(facts(session));
            }
            Event::SessionEnded {
                session,
                end,
                exit_code,
                totals,
            } => {
                record.kind = Kind::SessionEnd;
                fill_session(&mut record, session);
                record.end = Some(word(end));
                record.exit_code = *exit_code;
                record.summary.clone_from(totals);
            }
            Event::FlowClosed {
                session,
                decision,
                peer,
                bytes_out,
                bytes_in,
                duration,
                status,
                end,
            } => {
                record.kind = Kind::FlowClose;
                fill_session(&mut record, session);
                record.decision = Some(*decision);
                record.net = peer.map(|peer| Net {
                    dport: Some(peer.port()),
                    dst: Some(peer.ip().to_string()),
                    proto: "tcp".into(),
                    ..Net::default()
                });
                record.bytes_out = Some((*bytes_out).min(MAX_INT));
                record.bytes_in = Some((*bytes_in).min(MAX_INT));
                record.dur_us = Some(int(duration.as_micros()));
                record.http = status.map(|status| Http {
                    status: Some(status),
                    ..Http::default()
                });
                record.end = Some(word(end));
            }
        }
        Self::bounded(record, secrets)
    }

    /// What could not be recorded, or was cut off an unfinished write.
    pub(crate) fn of_gap(lost: u64, cut_bytes: u64) -> Self {
        let mut record = blank(Kind::LogGap);
        record.lost = (lost > 0).then_some(lost.min(MAX_INT));
        record.cut_bytes = (cut_bytes > 0).then_some(cut_bytes.min(MAX_INT));
        Self(record)
    }

    pub(crate) fn session(&self) -> Option<&str> {
        self.0.session.as_deref()
    }

    /// Appends the leaf to `out`: the bytes that are hashed and kept, at most
    /// [`Record::MAX_BYTES`].
    pub(crate) fn write_leaf(&mut self, place: Place<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let record = &mut self.0;
        record.seq = place.seq;
        record.id = place.id;
        record.ts_us = place.ts_us.min(MAX_INT);
        record.mono_us = place.mono_us.min(MAX_INT);
        record.queue_us = Some(place.queue_us);
        record.boot.clear();
        record.boot.push_str(place.boot);
        let Identity { host, instance, organisation } = place.identity;
        record.host = Some(host.clone());
        record.instance = Some(instance.clone());
        record.organisation.clone_from(organisation);
        let start = out.len();
        // Escaping can make a text six times as long; cut harder until the leaf fits.
        for (text_limit, list_limit) in LIMITS {
            bound(record, text_limit, list_limit);
            out.truncate(start);
            serde_json::to_writer(&mut *out, record).map_err(|error| error.to_string())?;
            if out.len() - start <= Record::MAX_BYTES {
                return Ok(());
            }
        }
        out.truncate(start);
        Err("the record is larger than a leaf may be".into())
    }

    /// Masked before it is cut: a cut could leave a part of a secret, and the digest of a text
    /// with a secret in it would help to guess it.
    fn bounded(mut record: Record, secrets: &Secrets) -> Self {
        mask(&mut record, secrets);
        let (text_limit, list_limit) = LIMITS[0];
        bound(&mut record, text_limit, list_limit);
        Self(record)
    }
}

fn fill_request(record: &mut Record, request: &Request) {
    fill_session(record, &request.session);
    let (action, resource) = match &request.operation {
        Operation::StartSession { command } => {
            record.facts = Some(facts(&request.session));
            ("session.start", resource("program", command.clone()))
        }
        Operation::GrantFolder { path, mode, source } => {
            let mut folder = path_resource("folder", path);
            folder.mode = Some(mode.to_string());
            folder.source = Some(word(source));
            ("folder.grant", folder)
        }
        Operation::DeletePath { path, mode } => {
            let mut deleted = path_resource("path", path);
            deleted.mode = Some(mode.to_string());
            ("path.delete", deleted)
        }
        Operation::ReadPath { path, mode } => {
            let mut read = path_resource("path", path);
            read.mode = Some(mode.to_string());
            ("path.read", read)
        }
        Operation::WritePath { path, mode } => {
            let mut written = path_resource("path", path);
            written.mode = Some(mode.to_string());
            ("path.write", written)
        }
        Operation::Connect {
            destination,
            transport,
        } => {
            record.net = Some(net(destination, Some(word(transport))));
            ("net.connect", resource("network", destination.to_string()))
        }
        Operation::HttpRequest {
            destination,
            method,
            path,
        } => {
            record.net = Some(net(destination, Some("http".into())));
            record.http = Some(Http {
                host: Some(destination.host.to_string()),
                method: Some(method.0.clone()),
                path: Some(path.clone()),
                // Only plain requests come one by one; within TLS nothing is looked into.
                scheme: Some("http".into()),
                status: None,
            });
            ("http.request", resource("network", destination.to_string()))
        }
        Operation::ReachAddress {
            destination,
            address,
        } => {
            let mut net = net(destination, None);
            net.dst = Some(address.to_string());
            record.net = Some(net);
            ("net.reach", resource("network", destination.to_string()))
        }
        Operation::EnableConnector { connector } => {
            ("connector.enable", resource("connector", connector.clone()))
        }
        Operation::UseScope { connector, scope } => (
            "connector.scope",
            resource("connector", format!("{connector}/{scope}")),
        ),
        Operation::InstallExtension { extension } => (
            "extension.install",
            resource("extension", extension.id.clone()),
        ),
        Operation::LoadExtension { extension } => (
            "extension.load",
            resource("extension", extension.id.clone()),
        ),
        Operation::UsePermission {
            extension,
            permission,
        } => (
            "extension.permission",
            resource("extension", format!("{}/{permission}", extension.id)),
        ),
        Operation::CallTool { extension, tool } => (
            "tool.call",
            resource("extension", format!("{}/{tool}", extension.id)),
        ),
        Operation::EnableBrowser => (
            "browser.enable",
            resource("platform", request.session.platform.clone()),
        ),
        Operation::OpenOrigin { origin } => {
            ("browser.open", resource("origin", origin.to_string()))
        }
        Operation::ActInOrigin { origin, .. } => {
            ("browser.act", resource("origin", origin.to_string()))
        }
        Operation::Approve { asking } => ("approve", resource("session", asking.id.clone())),
        Operation::PublishPolicy { bundle } => {
            ("policy.publish", resource("bundle", bundle.clone()))
        }
        Operation::ReadLog { log } => ("log.read", resource("log", log.clone())),
    };
    record.action = Some(action.into());
    record.resource = Some(resource);
}

fn fill_raw(record: &mut Record, raw: &RawRequest) {
    fill_session(record, &raw.session);
    record.action = Some("malformed".into());
    record.raw = Some(Raw {
        door: raw.door.into(),
        problem: raw.problem.clone(),
        text: raw.text.clone(),
    });
}

fn fill_session(record: &mut Record, session: &SessionFacts) {
    record.session = Some(session.id.clone());
    record.principal = Some(Principal {
        id: session.user.clone(),
        kind: "user".into(),
    });
    record.agent = session.agent.clone().map(|name| Agent {
        name,
        version: None,
    });
}

fn fill_basis(record: &mut Record, basis: &Basis) {
    record.rules = Some(basis.rules.iter().map(|rule| rule.id.to_string()).collect());
    record.message = basis
        .rules
        .iter()
        .find_map(|rule| rule.reason.as_deref().map(str::to_owned));
    if !basis.policy.is_empty() {
        record.policy = Some(Policy {
            revision: None,
            set: basis.policy.to_string(),
            sha256: basis.digest.to_string(),
        });
        record.eval_ns = Some(int(basis.evaluation.as_nanos()));
    }
    record.err.clone_from(&basis.errors);
}

fn facts(session: &SessionFacts) -> Facts {
    Facts {
        backend: word(&session.backend),
        groups: session.groups.clone(),
        platform: session.platform.clone(),
    }
}

fn service() -> Service {
    Service {
        host: host_name(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").into(),
    }
}

impl Identity {
    /// This host, and whose log it is.
    pub(crate) fn new(instance: &str, organisation: Option<String>) -> Self {
        let cut = |text: String| text::prefix(&text, MAX_NAME).to_owned();
        Self {
            host: cut(host_name()),
            instance: text::prefix(instance, MAX_NAME).to_owned(),
            organisation: organisation.map(cut),
        }
    }
}

fn host_name() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}

fn net(destination: &Destination, via: Option<String>) -> Net {
    let literal: Option<IpAddr> = match &destination.host {
        Host::Name(_) => None,
        Host::Address(address) => Some(*address),
    };
    Net {
        dport: Some(destination.port.0.get()),
        dst: literal.map(|address| address.to_string()),
        host: Some(destination.host.to_string()),
        proto: "tcp".into(),
        via,
        ..Net::default()
    }
}

fn path_resource(kind: &str, path: &Path) -> Resource {
    let mut resource = resource(kind, path.to_string_lossy().into_owned());
    if path.to_str().is_none() {
        resource.bytes = Some(STANDARD.encode(path.as_os_str().as_bytes()));
    }
    resource
}

fn resource(kind: &str, id: String) -> Resource {
    Resource {
        bytes: None,
        id,
        mode: None,
        source: None,
        kind: kind.into(),
    }
}

fn blank(kind: Kind) -> Record {
    Record {
        action: None,
        agent: None,
        approval: None,
        boot: String::new(),
        bytes_in: None,
        bytes_out: None,
        cut_bytes: None,
        decision: None,
        dur_us: None,
        effect: None,
        end: None,
        enforced: None,
        err: Vec::new(),
        eval_ns: None,
        exit_code: None,
        facts: None,
        host: None,
        http: None,
        id: RecordId(Uuid::nil()),
        instance: None,
        kind,
        layers: Vec::new(),
        lost: None,
        masked: Vec::new(),
        message: None,
        mode: Mode::Enforce,
        mono_us: 0,
        net: None,
        obligations: Vec::new(),
        on_behalf_of: None,
        organisation: None,
        parent: None,
        policy: None,
        principal: None,
        process: None,
        queue_us: None,
        raw: None,
        reason: None,
        resource: None,
        rules: None,
        sd: Vec::new(),
        seq: 0,
        service: None,
        session: None,
        shadow: None,
        summary: None,
        tool: None,
        trace: None,
        trunc: Vec::new(),
        ts_us: 0,
        v: Record::VERSION,
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// The word that a fixed vocabulary has for a value.
fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(_) | Err(_) => String::new(),
    }
}

pub(crate) fn int(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(MAX_INT).min(MAX_INT)
}

/// Largest integer that every JSON reader keeps exactly.
const MAX_INT: u64 = (1 << 53) - 1;

/// Longest name of a host, an instance or an organisation, in bytes.
const MAX_NAME: usize = 255;

#[cfg(test)]
mod tests;
