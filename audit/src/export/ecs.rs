//! Elastic Common Schema: one JSON object a record.

use serde_json::{Map, Value, json};

use super::Source;
use crate::{Kind, Record, record::Effect, rfc3339};

/// Version of the schema whose fields these are.
const VERSION: &str = "8.17.0";

pub(super) fn event(record: &Record, source: &Source) -> Value {
    let action = record.action.as_deref().unwrap_or(record.kind.as_str());
    let mut event = json!({
        "@timestamp": rfc3339(record.ts_us),
        "ecs": {"version": VERSION},
        "event": {
            "action": action,
            "category": [category(record, action)],
            "dataset": "cordon.log",
            "id": record.id.to_string(),
            "kind": if record.kind == Kind::LogGap { "alert" } else { "event" },
            "module": "cordon",
            "outcome": outcome(record),
            "provider": source.origin,
            "sequence": record.seq,
            "type": types(record),
        },
        "host": {"name": source.host},
        "observer": {"product": "Cordon", "type": "proxy", "version": env!("CARGO_PKG_VERSION")},
    });
    let mut put = |path: [&str; 2], value: Value| put(&mut event, path, value);
    put(["event", "reason"], json!(record.reason));
    put(
        ["event", "duration"],
        json!(record.dur_us.map(|us| us.saturating_mul(1000))),
    );
    put(
        ["user", "name"],
        json!(record.principal.as_ref().map(|user| &user.id)),
    );
    put(["cordon", "session"], json!(record.session));
    put(
        ["cordon", "agent"],
        json!(record.agent.as_ref().map(|agent| &agent.name)),
    );
    put(
        ["rule", "id"],
        json!(record.rules.as_ref().and_then(|rules| rules.first())),
    );
    put(["cordon", "rules"], json!(record.rules));
    if let Some(policy) = &record.policy {
        put(["rule", "ruleset"], json!(policy.set));
        put(["cordon", "policy_sha256"], json!(policy.sha256));
    }
    if let Some(net) = &record.net {
        put(["network", "direction"], json!("egress"));
        put(["network", "transport"], json!(net.proto));
        put(["destination", "domain"], json!(net.host));
        put(["destination", "ip"], json!(net.dst));
        put(["destination", "port"], json!(net.dport));
    }
    put(["source", "bytes"], json!(record.bytes_out));
    put(["destination", "bytes"], json!(record.bytes_in));
    if let Some(http) = &record.http {
        put(["url", "path"], json!(http.path));
        let status = http.status.map(|status| json!({"status_code": status}));
        put(
            ["http", "request"],
            json!(http.method.as_ref().map(|m| json!({"method": m}))),
        );
        put(["http", "response"], json!(status));
    }
    if let Some(resource) = &record.resource {
        match resource.kind.as_str() {
            "folder" | "path" => put(["file", "path"], json!(resource.id)),
            "program" => put(["process", "name"], json!(resource.id)),
            _ => put(["cordon", "resource"], json!(resource.id)),
        }
    }
    if let Some(raw) = &record.raw {
        put(["error", "message"], json!(raw.problem));
        put(["cordon", "raw"], json!(raw.text));
    }
    put(["process", "exit_code"], json!(record.exit_code));
    event
}

fn category(record: &Record, action: &str) -> &'static str {
    match record.kind {
        Kind::SessionStart | Kind::SessionState | Kind::SessionEnd => "process",
        Kind::Approval => "iam",
        Kind::Decision | Kind::FlowClose => match action.split('.').next().unwrap_or_default() {
            "http" => "web",
            "folder" | "path" | "file" => "file",
            "session" => "session",
            "proc" => "process",
            "tool" | "connector" | "extension" => "api",
            _ => "network",
        },
        _ => "configuration",
    }
}

fn types(record: &Record) -> Value {
    match (record.kind, record.effect) {
        (Kind::SessionStart | Kind::Start, _) => json!(["start"]),
        (Kind::SessionEnd | Kind::Stop | Kind::FlowClose, _) => json!(["end"]),
        (_, Some(Effect::Allow)) => json!(["allowed"]),
        (_, Some(_)) => json!(["denied"]),
        (_, None) => json!(["info"]),
    }
}

fn outcome(record: &Record) -> &'static str {
    match record.effect {
        Some(Effect::Allow) => "success",
        Some(_) => "failure",
        None => "unknown",
    }
}

/// Sets a field of an object within the event; null is absent.
fn put(event: &mut Value, [object, field]: [&str; 2], value: Value) {
    if value.is_null() {
        return;
    }
    if let Some(event) = event.as_object_mut() {
        let object = event
            .entry(object)
            .or_insert_with(|| Value::Object(Map::new()));
        if let Some(object) = object.as_object_mut() {
            object.insert(field.into(), value);
        }
    }
}
