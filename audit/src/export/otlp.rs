//! OpenTelemetry logs in the JSON form of OTLP/HTTP. Source: opentelemetry-proto, `logs.proto`;
//! 64-bit integers are strings, ids of traces are hex.

use serde_json::{Value, json};

use super::{Fields, Source};
use crate::{Record, record::Effect};

/// A request with these records.
pub(super) fn request(records: Vec<Value>, source: &Source) -> Value {
    json!({"resourceLogs": [{
        "resource": {"attributes": attributes(vec![
            ("service.name", Some("cordon".into())),
            ("service.version", Some(env!("CARGO_PKG_VERSION").into())),
            ("host.name", Some(source.host.clone())),
            ("cordon.log.origin", Some(source.origin.clone())),
        ])},
        "scopeLogs": [{
            "scope": {"name": "cordon.log", "version": Record::VERSION.to_string()},
            "logRecords": records,
        }],
    }]})
}

/// One log record.
pub(super) fn record(record: &Record) -> Value {
    let name = record.action.as_deref().unwrap_or(record.kind.as_str());
    let (number, text) = match record.effect {
        Some(Effect::Allow) => (9, "INFO"),
        Some(Effect::Deny | Effect::Ask) => (13, "WARN"),
        Some(Effect::Error) => (17, "ERROR"),
        None if record.lost.is_some() => (17, "ERROR"),
        None => (9, "INFO"),
    };
    let nanoseconds = format!("{}000", record.ts_us);
    json!({
        "timeUnixNano": nanoseconds,
        "observedTimeUnixNano": nanoseconds,
        "severityNumber": number,
        "severityText": text,
        "eventName": format!("cordon.{name}"),
        "body": {"stringValue": record.summary_line()},
        "attributes": with_numbers(record),
    })
}

fn with_numbers(record: &Record) -> Vec<Value> {
    let net = record.net.as_ref();
    let http = record.http.as_ref();
    let mut all = attributes(vec![
        ("cordon.record.id", Some(record.id.to_string())),
        ("cordon.record.kind", Some(record.kind.as_str().into())),
        ("cordon.session", record.session.clone()),
        (
            "user.name",
            record.principal.as_ref().map(|user| user.id.clone()),
        ),
        (
            "gen_ai.agent.name",
            record.agent.as_ref().map(|agent| agent.name.clone()),
        ),
        ("cordon.action", record.action.clone()),
        (
            "cordon.effect",
            record.effect.map(|effect| effect.as_str().into()),
        ),
        ("cordon.reason", record.reason.clone()),
        (
            "cordon.rules",
            record.rules.as_ref().map(|rules| rules.join(",")),
        ),
        (
            "cordon.policy.sha256",
            record.policy.as_ref().map(|policy| policy.sha256.clone()),
        ),
        (
            "cordon.resource.type",
            record.resource.as_ref().map(|r| r.kind.clone()),
        ),
        (
            "cordon.resource.id",
            record.resource.as_ref().map(|r| r.id.clone()),
        ),
        ("server.address", net.and_then(|net| net.host.clone())),
        ("network.peer.address", net.and_then(|net| net.dst.clone())),
        ("network.transport", net.map(|net| net.proto.clone())),
        (
            "http.request.method",
            http.and_then(|http| http.method.clone()),
        ),
        ("url.path", http.and_then(|http| http.path.clone())),
        ("cordon.end", record.end.clone()),
        (
            "cordon.raw",
            record.raw.as_ref().map(|raw| raw.text.clone()),
        ),
    ]);
    let numbers = [
        ("cordon.record.seq", Some(record.seq)),
        ("server.port", net.and_then(|net| net.dport).map(u64::from)),
        (
            "http.response.status_code",
            http.and_then(|http| http.status).map(u64::from),
        ),
        ("cordon.bytes_out", record.bytes_out),
        ("cordon.bytes_in", record.bytes_in),
        ("cordon.duration_us", record.dur_us),
    ];
    for (key, number) in numbers {
        let number = number.map(|n| json!({"key": key, "value": {"intValue": n.to_string()}}));
        all.extend(number);
    }
    all
}

fn attributes(fields: Fields<'_>) -> Vec<Value> {
    fields
        .into_iter()
        .filter_map(|(key, text)| Some(json!({"key": key, "value": {"stringValue": text?}})))
        .collect()
}
