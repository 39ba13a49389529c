//! Fills a record with what a request, a session and a decision's basis say.

use std::{
    net::{IpAddr, SocketAddr},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cordon_policy::{
    Basis, Destination, ExtensionFacts, Host, HttpFacts, Operation, ProcessFacts, RawRequest,
    Request, RuleRef, SeccompProfile, Seen, SessionAct, SessionFacts, ShadowEffect, TlsFacts,
    ToolHints,
};

use super::{MAX_INT, approval::approval_of, int, word};
use crate::{
    Record,
    record::{
        Agent, Effect, Extension, Facts, Http, Net, Policy, Principal, Process, Raw, Resource,
        Service, Shadow, Tls, Tool,
    },
};

pub(super) fn fill_request(record: &mut Record, request: &Request) {
    fill_session(record, &request.session);
    record.action = Some(action_of(&request.operation).into());
    record.resource = Some(match &request.operation {
        Operation::StartSession { command, profile } => {
            record.facts = Some(facts(&request.session));
            let mut program = resource("program", command.clone());
            // The usual one goes without saying.
            program.mode = (*profile != SeccompProfile::Default).then(|| profile.name().to_owned());
            program
        }
        Operation::ExecInSession { command, profile } => {
            let mut program = resource("program", command.clone());
            program.mode = (*profile != SeccompProfile::Default).then(|| profile.name().to_owned());
            program
        }
        Operation::PublishPort {
            address,
            port,
            inside,
        } => {
            let at = SocketAddr::new(*address, *port);
            resource("port", format!("{at}:{inside}"))
        }
        Operation::GrantFolder {
            path,
            mode,
            source,
            name,
        } => {
            let mut folder = path_resource("folder", path);
            folder.mode = Some(mode.to_string());
            folder.name.clone_from(name);
            folder.source = Some(word(source));
            folder
        }
        Operation::DeletePath { path, mode } => {
            let mut deleted = path_resource("path", path);
            deleted.mode = Some(mode.to_string());
            deleted
        }
        Operation::ReadPath { path, mode } => {
            let mut read = path_resource("path", path);
            read.mode = Some(mode.to_string());
            read
        }
        Operation::WritePath { path, mode } => {
            let mut written = path_resource("path", path);
            written.mode = Some(mode.to_string());
            written
        }
        Operation::Connect {
            destination,
            transport,
            seen,
        } => {
            record.net = Some(net(destination, Some(word(transport)), seen));
            record.process = seen.process.as_deref().and_then(process);
            resource("network", destination.to_string())
        }
        Operation::HttpRequest {
            destination,
            method,
            path,
            facts,
        } => {
            record.net = Some(net(destination, Some("http".into()), &facts.seen));
            record.process = facts.seen.process.as_deref().and_then(process);
            record.http = Some(Http {
                host: Some(destination.host.to_string()),
                method: Some(method.0.clone()),
                path: Some(path.clone()),
                ..http(facts)
            });
            resource("network", destination.to_string())
        }
        Operation::ReachAddress {
            destination,
            address,
        } => {
            let mut net = net(destination, None, &Seen::default());
            net.dst = Some(address.to_string());
            record.net = Some(net);
            resource("network", destination.to_string())
        }
        Operation::EnableConnector { connector } => resource("connector", connector.clone()),
        Operation::UseScope { connector, scope } => {
            resource("connector", format!("{connector}/{scope}"))
        }
        Operation::InstallExtension { extension } => {
            record.extension = Some(extension_of(extension));
            resource("extension", extension.id.clone())
        }
        Operation::LoadExtension { extension } => {
            record.extension = Some(extension_of(extension));
            resource("extension", extension.id.clone())
        }
        Operation::UsePermission {
            extension,
            permission,
        } => {
            record.extension = Some(extension_of(extension));
            let id = format!("{}/{permission}", extension.id);
            resource("extension", id)
        }
        Operation::CallTool {
            extension,
            tool,
            call,
        } => {
            record.extension = Some(extension_of(extension));
            record.tool = Some(Tool {
                args_len: None,
                args_sha256: call.input.as_deref().map(Into::into),
                arguments: call.arguments.clone(),
                definition: Some(call.definition.as_str().into()),
                hints: hints(call.hints),
                kind: Some(call.kind.as_str().into()),
                name: tool.clone(),
                server: extension.id.clone(),
            });
            let id = format!("{}/{tool}", extension.id);
            resource("extension", id)
        }
        Operation::EnableBrowser => resource("platform", request.session.platform.clone()),
        Operation::OpenOrigin { origin } => {
            record.net = Some(net(&origin.destination, None, &Seen::default()));
            resource("origin", origin.to_string())
        }
        Operation::ActInOrigin { origin, act } => {
            record.net = Some(net(&origin.destination, None, &Seen::default()));
            let mut page = resource("origin", origin.to_string());
            page.act = Some(act.as_str().into());
            page
        }
        Operation::Approve { asking } => resource("session", asking.id.clone()),
        Operation::ManageSession { of, .. } => resource("session", of.id.clone()),
        Operation::PublishPolicy { bundle } => resource("bundle", bundle.clone()),
        Operation::ReadLog { log } => resource("log", log.clone()),
    });
}

/// What a server says of a tool, as words; nothing said is the worse.
fn hints(hints: ToolHints) -> Vec<String> {
    let words = [
        ("closed", !hints.open_world),
        ("harmless", !hints.destructive),
        ("read-only", hints.read_only),
    ];
    let said = words.into_iter().filter(|(_, said)| *said);
    said.map(|(word, _)| word.to_owned()).collect()
}

/// What an operation is called in records: a fixed vocabulary.
pub fn action_of(operation: &Operation) -> &'static str {
    match operation {
        Operation::StartSession { .. } => "session.start",
        Operation::ExecInSession { .. } => "session.exec",
        Operation::PublishPort { .. } => "port.publish",
        Operation::GrantFolder { .. } => "folder.grant",
        Operation::DeletePath { .. } => "path.delete",
        Operation::ReadPath { .. } => "path.read",
        Operation::WritePath { .. } => "path.write",
        Operation::Connect { .. } => "net.connect",
        Operation::HttpRequest { .. } => "http.request",
        Operation::ReachAddress { .. } => "net.reach",
        Operation::EnableConnector { .. } => "connector.enable",
        Operation::UseScope { .. } => "connector.scope",
        Operation::InstallExtension { .. } => "extension.install",
        Operation::LoadExtension { .. } => "extension.load",
        Operation::UsePermission { .. } => "extension.permission",
        Operation::CallTool { .. } => "tool.call",
        Operation::EnableBrowser => "browser.enable",
        Operation::OpenOrigin { .. } => "browser.open",
        Operation::ActInOrigin { .. } => "browser.act",
        Operation::Approve { .. } => "approve",
        Operation::ManageSession { act, .. } => managed(*act),
        Operation::PublishPolicy { .. } => "policy.publish",
        Operation::ReadLog { .. } => "log.read",
    }
}

fn managed(act: SessionAct) -> &'static str {
    match act {
        SessionAct::Open => "manage.open",
        SessionAct::Read => "manage.read",
        SessionAct::Ask => "manage.ask",
        SessionAct::Steer => "manage.steer",
        SessionAct::Change => "manage.change",
        SessionAct::End => "manage.end",
        SessionAct::Token => "manage.token",
    }
}

pub(super) fn fill_raw(record: &mut Record, raw: &RawRequest) {
    fill_session(record, &raw.session);
    record.action = Some("malformed".into());
    record.raw = Some(Raw {
        door: raw.door.into(),
        problem: raw.problem.clone(),
        text: raw.text.clone(),
    });
}

pub(super) fn fill_session(record: &mut Record, session: &SessionFacts) {
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

pub(super) fn fill_basis(record: &mut Record, basis: &Basis) {
    fill_rules(record, &basis.rules);
    if !basis.policy.is_empty() {
        record.policy = Some(policy(&basis.policy, &basis.digest, basis.revision));
        record.eval_ns = Some(int(basis.evaluation.as_nanos()));
    }
    record.approval = basis.approval.as_deref().map(approval_of);
    record.err.clone_from(&basis.errors);
    record.obligations = basis
        .obligations
        .iter()
        .map(|obligation| format!("{}={}", obligation.name, obligation.value))
        .collect();
    record.shadow = basis.shadow.as_deref().map(|shadow| Shadow {
        effect: match shadow.effect {
            ShadowEffect::Allow => Effect::Allow,
            ShadowEffect::Deny => Effect::Deny,
            ShadowEffect::Ask => Effect::Ask,
            ShadowEffect::Error => Effect::Error,
        },
        policy: policy(&shadow.policy, &shadow.digest, shadow.revision),
        rules: shadow
            .rules
            .iter()
            .map(|rule| rule.id.to_string())
            .collect(),
    });
}

/// The determining rules, with their layers and what they say to the caller.
pub(super) fn fill_rules(record: &mut Record, rules: &[RuleRef]) {
    record.rules = Some(rules.iter().map(|rule| rule.id.to_string()).collect());
    record.layers = rules
        .iter()
        .map(|rule| rule.layer.as_str().into())
        .collect();
    record.message = rules
        .iter()
        .find_map(|rule| rule.reason.as_deref().map(str::to_owned));
}

pub(super) fn policy(set: &str, digest: &str, revision: Option<u64>) -> Policy {
    Policy {
        revision: revision.map(|revision| revision.min(MAX_INT)),
        set: set.into(),
        sha256: digest.into(),
        source: None,
    }
}

pub(super) fn facts(session: &SessionFacts) -> Facts {
    Facts {
        backend: word(&session.backend),
        groups: session.groups.clone(),
        image: None,
        platform: session.platform.clone(),
    }
}

pub(super) fn service() -> Service {
    Service {
        host: host_name(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").into(),
    }
}

pub(super) fn host_name() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}

/// What was read of a request beside host, method and path. All that a rule can look at is here,
/// so that the decision can be made again.
fn http(facts: &HttpFacts) -> Http {
    Http {
        content_length: facts.content_length.map(|length| length.min(MAX_INT)),
        content_type: facts.content_type.clone(),
        credential: facts.credential.then_some(true),
        query_keys: facts.query_keys.clone(),
        scheme: Some(facts.scheme.as_str().into()),
        upgrade: facts.upgrade.clone(),
        ..Http::default()
    }
}

/// What a handshake showed.
pub(super) fn fill_tls(net: &mut Net, tls: &TlsFacts) {
    net.sni.clone_from(&tls.sni);
    net.tls = Some(Box::new(Tls {
        alpn: tls.alpn.clone(),
        ech: tls.ech,
        inspected: tls.inspected,
        ja4: tls.ja4.clone(),
        kind: tls.kind.as_str().into(),
        version: tls.version.clone(),
    }));
}

fn net(destination: &Destination, via: Option<String>, seen: &Seen) -> Net {
    let literal: Option<IpAddr> = match &destination.host {
        Host::Name(_) => None,
        Host::Address(address) => Some(*address),
    };
    let mut net = Net {
        dport: Some(destination.port.0.get()),
        dst: literal.map(|address| address.to_string()),
        host: Some(destination.host.to_string()),
        names: seen.names.iter().map(ToString::to_string).collect(),
        proto: "tcp".into(),
        unverified: seen.address_unverified.then_some(true),
        via,
        ..Net::default()
    };
    if let Some(tls) = &seen.tls {
        fill_tls(&mut net, tls);
    }
    net
}

/// The first holder, with the others beside it. `None` where none was found.
fn process(facts: &ProcessFacts) -> Option<Process> {
    let (first, others) = facts.holders.split_first()?;
    Some(Process {
        ancestors: first.ancestors.clone(),
        exe: Some(first.executable.clone()),
        exe_sha256: first.digest.clone(),
        pid: first.pid,
        shared: others
            .iter()
            .map(|holder| holder.executable.clone())
            .collect(),
        start_us: Some(first.start_us.min(MAX_INT)),
        uncertain: (!facts.complete).then_some(true),
    })
}

fn path_resource(kind: &str, path: &Path) -> Resource {
    let mut resource = resource(kind, path.to_string_lossy().into_owned());
    if path.to_str().is_none() {
        resource.bytes = Some(STANDARD.encode(path.as_os_str().as_bytes()));
    }
    resource
}

pub(super) fn resource(kind: &str, id: String) -> Resource {
    Resource {
        act: None,
        bytes: None,
        id,
        mode: None,
        name: None,
        source: None,
        kind: kind.into(),
    }
}

fn extension_of(extension: &ExtensionFacts) -> Extension {
    Extension {
        digest: extension.digest.clone(),
        id: extension.id.clone(),
        publisher: extension.publisher.clone(),
        signature: extension.signature.as_str().into(),
        version: extension.version.clone(),
    }
}
