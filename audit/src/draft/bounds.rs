//! Takes known secrets out of a record, and bounds its texts and lists.
//!
//! What is cut leaves its length and SHA-256 behind; what is masked leaves the name of its field.
//! One list of the texts serves both, so that neither forgets one that the other knows.

use sha2::{Digest as _, Sha256};

use super::{hex, int};
use crate::{Record, record::Cut, secrets::Secrets, text::prefix};

/// Longest text in bytes, and longest list, harder with each step. Escaping in JSON can make a
/// text six times as long; the last step fits whatever the texts are.
pub(super) const LIMITS: [(usize, usize); 5] = [(1024, 64), (256, 16), (64, 8), (12, 2), (6, 1)];

/// Replaces the values of known secrets in every text.
pub(super) fn mask(record: &mut Record, secrets: &Secrets) {
    if secrets.is_empty() {
        return;
    }
    let mut masked: Vec<String> = Vec::new();
    each_text(record, &mut |field, text| {
        if secrets.mask(text) && !masked.iter().any(|known| known == field) {
            masked.push(field.into());
        }
    });
    record.masked.extend(masked);
}

/// Cuts every text and list.
pub(super) fn bound(record: &mut Record, text_limit: usize, list_limit: usize) {
    let mut cuts = std::mem::take(&mut record.trunc);
    each_list(record, &mut |field, list| {
        let long = |text: &String| text.len() > text_limit;
        if list.len() > list_limit || list.iter().any(long) {
            note_cut(&mut cuts, field, list.len(), &list.join("\n"));
            list.truncate(list_limit);
            for text in list {
                text.truncate(prefix(text, text_limit).len());
            }
        }
    });
    if let Some(totals) = &mut record.summary {
        // Their texts are cut below, like all others.
        totals.destinations.truncate(list_limit);
        totals.refused.truncate(list_limit);
        if let Some(changes) = &mut totals.changes {
            changes.truncate(list_limit);
        }
    }
    each_text(record, &mut |field, text| {
        if text.len() > text_limit {
            note_cut(&mut cuts, field, text.len(), text);
            text.truncate(prefix(text, text_limit).len());
        }
    });
    record.trunc = cuts;
}

/// The first cut of a field saw it whole; a harder one later adds nothing.
fn note_cut(cuts: &mut Vec<Cut>, field: &str, len: usize, whole: &str) {
    if cuts.iter().all(|cut| cut.field != field) {
        cuts.push(Cut {
            field: field.into(),
            len: int(len as u128),
            sha256: hex(&Sha256::digest(whole.as_bytes())),
        });
    }
}

/// Every list of texts but `layers`, which has at most four of a fixed vocabulary.
fn each_list(record: &mut Record, visit: &mut dyn FnMut(&'static str, &mut Vec<String>)) {
    if let Some(access) = &mut record.access {
        // One note for all of it: the first cut tells.
        visit("access", &mut access.said);
    }
    visit("err", &mut record.err);
    visit("masked", &mut record.masked);
    visit("obligations", &mut record.obligations);
    if let Some(approval) = &mut record.approval {
        visit("approval.by", &mut approval.by);
    }
    if let Some(facts) = &mut record.facts {
        visit("facts.groups", &mut facts.groups);
    }
    if let Some(net) = &mut record.net {
        visit("net.names", &mut net.names);
        visit("net.resolved", &mut net.resolved);
        if let Some(tls) = &mut net.tls {
            visit("net.tls.alpn", &mut tls.alpn);
        }
    }
    if let Some(http) = &mut record.http {
        visit("http.query_keys", &mut http.query_keys);
    }
    if let Some(tool) = &mut record.tool {
        visit("tool.arguments", &mut tool.arguments);
    }
    if let Some(process) = &mut record.process {
        // One note for all: they are of one kind, and the first cut tells.
        visit("process.exe", &mut process.ancestors);
        visit("process.exe", &mut process.shared);
    }
    if let Some(rules) = &mut record.rules {
        visit("rules", rules);
    }
    if let Some(shadow) = &mut record.shadow {
        visit("shadow.rules", &mut shadow.rules);
    }
}

/// Every text that is not of a fixed vocabulary or a fixed form (digests, ids of traces), those in
/// lists too.
fn each_text(record: &mut Record, visit: &mut dyn FnMut(&'static str, &mut String)) {
    each_list(record, &mut |field, list| {
        for text in list {
            visit(field, text);
        }
    });
    who(record, visit);
    what(record, visit);
    why(record, visit);
}

fn who(record: &mut Record, visit: &mut dyn FnMut(&'static str, &mut String)) {
    let mut some = |field, text: Option<&mut String>| {
        if let Some(text) = text {
            visit(field, text);
        }
    };
    if let Some(access) = &mut record.access {
        some("access", access.action.as_mut());
        some("access", access.application.as_mut());
        some("access", access.request.as_mut());
        for entity in [&mut access.resource, &mut access.subject]
            .into_iter()
            .flatten()
        {
            some("access", entity.id.as_mut());
            some("access", Some(&mut entity.kind));
        }
    }
    some("parent", record.parent.as_mut());
    some("session", record.session.as_mut());
    if let Some(agent) = &mut record.agent {
        some("agent.name", Some(&mut agent.name));
        some("agent.version", agent.version.as_mut());
    }
    some(
        "on_behalf_of.id",
        record.on_behalf_of.as_mut().map(|user| &mut user.id),
    );
    some(
        "principal.id",
        record.principal.as_mut().map(|user| &mut user.id),
    );
    if let Some(process) = &mut record.process {
        some("process.exe", process.exe.as_mut());
        some("process.exe_sha256", process.exe_sha256.as_mut());
    }
    if let Some(facts) = &mut record.facts {
        some("facts.platform", Some(&mut facts.platform));
        some("facts.image", facts.image.as_mut());
    }
    if let Some(service) = &mut record.service {
        some("service.host", Some(&mut service.host));
        some("service.version", Some(&mut service.version));
    }
}

fn what(record: &mut Record, visit: &mut dyn FnMut(&'static str, &mut String)) {
    let mut some = |field, text: Option<&mut String>| {
        if let Some(text) = text {
            visit(field, text);
        }
    };
    if let Some(http) = &mut record.http {
        some("http.content_type", http.content_type.as_mut());
        some("http.host", http.host.as_mut());
        some("http.method", http.method.as_mut());
        some("http.path", http.path.as_mut());
        some("http.scheme", http.scheme.as_mut());
        some("http.upgrade", http.upgrade.as_mut());
    }
    if let Some(net) = &mut record.net {
        some("net.dst", net.dst.as_mut());
        some("net.host", net.host.as_mut());
        some("net.sni", net.sni.as_mut());
        if let Some(tls) = &mut net.tls {
            some("net.tls.ja4", tls.ja4.as_mut());
            some("net.tls.version", tls.version.as_mut());
        }
    }
    if let Some(raw) = &mut record.raw {
        some("raw.door", Some(&mut raw.door));
        some("raw.problem", Some(&mut raw.problem));
        some("raw.text", Some(&mut raw.text));
    }
    if let Some(resource) = &mut record.resource {
        some("resource.bytes", resource.bytes.as_mut());
        some("resource.id", Some(&mut resource.id));
        some("resource.name", resource.name.as_mut());
    }
    if let Some(tool) = &mut record.tool {
        some("tool.name", Some(&mut tool.name));
        some("tool.server", Some(&mut tool.server));
    }
    if let Some(export) = &mut record.export {
        some("export.query", Some(&mut export.query));
        some("export.root", Some(&mut export.root));
        some("export.sink", export.sink.as_mut());
    }
    if let Some(key) = &mut record.key {
        some("key.new", Some(&mut key.new));
        some("key.old", Some(&mut key.old));
    }
    if let Some(upkeep) = &mut record.upkeep {
        some("upkeep.because", upkeep.because.as_mut());
        some("upkeep.origin", upkeep.origin.as_mut());
        some("upkeep.pointer", upkeep.pointer.as_mut());
        some("upkeep.root", upkeep.root.as_mut());
        some("upkeep.session", upkeep.session.as_mut());
        some("upkeep.user", upkeep.user.as_mut());
    }
    if let Some(extension) = &mut record.extension {
        some("extension.digest", Some(&mut extension.digest));
        some("extension.id", Some(&mut extension.id));
        some("extension.publisher", extension.publisher.as_mut());
        some("extension.version", Some(&mut extension.version));
    }
    for commitment in &mut record.sd {
        some("sd.ptr", Some(&mut commitment.ptr));
    }
    if let Some(totals) = &mut record.summary {
        let named = totals.destinations.iter_mut().chain(&mut totals.others);
        for destination in named {
            some("summary.destinations", Some(&mut destination.id));
        }
        for grant in totals.changes.iter_mut().flatten() {
            some("summary.changes", Some(&mut grant.path));
        }
    }
}

fn why(record: &mut Record, visit: &mut dyn FnMut(&'static str, &mut String)) {
    let mut some = |field, text: Option<&mut String>| {
        if let Some(text) = text {
            visit(field, text);
        }
    };
    some("message", record.message.as_mut());
    if let Some(approval) = &mut record.approval {
        some("approval.digest", Some(&mut approval.digest));
        some("approval.ref", Some(&mut approval.reference));
    }
    if let Some(policy) = &mut record.policy {
        some("policy.set", Some(&mut policy.set));
        some("policy.sha256", Some(&mut policy.sha256));
        some("policy.source", policy.source.as_mut());
    }
    if let Some(shadow) = &mut record.shadow {
        some("shadow.policy.set", Some(&mut shadow.policy.set));
        some("shadow.policy.sha256", Some(&mut shadow.policy.sha256));
        some("shadow.policy.source", shadow.policy.source.as_mut());
    }
}
