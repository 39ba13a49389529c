//! OCSF 1.8.0 events, with the profile `security_control`.
//!
//! One record in, one event out. What OCSF has no attribute for goes into `unmapped`.

mod class;

use serde_json::{Map, Value, json};

use super::Source;
use crate::{Kind, Record, record::Effect};
use class::{
    API, AUTHORIZE, Class, DNS, FILE, FINDING, HTTP, LIFECYCLE, NETWORK, OTHER, PROCESS, class_of,
};

/// Version of the schema that events follow.
const VERSION: &str = "1.8.0";

pub(super) fn event(record: &Record, source: &Source) -> Value {
    let class = class_of(record);
    let mut event = Map::new();
    let mut put = |key: &str, value: Value| {
        if !value.is_null() {
            event.insert(key.into(), value);
        }
    };
    put("category_uid", json!(class.category));
    put("class_uid", json!(class.class));
    put("activity_id", json!(class.activity));
    put("type_uid", json!(class.class * 100 + class.activity));
    put("severity_id", json!(severity(record)));
    put("time", json!(record.ts_us / 1000));
    put("message", json!(record.summary_line()));
    put("metadata", metadata(record, source));
    put(
        "status_detail",
        json!(record.reason.as_ref().or(record.end.as_ref())),
    );
    put("duration", json!(record.dur_us.map(|us| us / 1000)));
    if class.activity == OTHER {
        put("activity_name", json!(name(record)));
    }
    if let Some(effect) = record.effect {
        put(
            "status_id",
            json!(if effect == Effect::Allow { 1 } else { 2 }),
        );
        put(
            "action_id",
            json!(if effect == Effect::Allow { 1 } else { 2 }),
        );
        put("disposition_id", json!(disposition(effect)));
        let rule = record.rules.as_ref().and_then(|rules| rules.first());
        put(
            "firewall_rule",
            json!(rule.map(|rule| json!({"uid": rule}))),
        );
        let policy = record.policy.as_ref();
        put(
            "policy",
            json!(policy.map(|policy| {
                json!({"name": policy.set, "uid": policy.sha256, "is_applied": true})
            })),
        );
    }
    put("unmapped", unmapped(record));
    for (key, value) in particulars(record, class, source) {
        put(key, value);
    }
    Value::Object(event)
}

/// What only this class has.
fn particulars(record: &Record, class: Class, source: &Source) -> Vec<(&'static str, Value)> {
    let mut all = Vec::new();
    match class.class {
        NETWORK | HTTP | DNS => {
            all.push(("src_endpoint", source_endpoint(record, source)));
            all.push(("dst_endpoint", destination(record)));
            all.push(("connection_info", connection(record)));
            all.push(("traffic", traffic(record)));
        }
        FILE => {
            all.push(("actor", actor(record)));
            all.push(("device", device(source)));
            all.push(("file", file(record)));
        }
        PROCESS => {
            all.push(("actor", actor(record)));
            all.push(("device", device(source)));
            all.push(("process", process(record)));
            all.push(("exit_code", json!(record.exit_code)));
        }
        AUTHORIZE => {
            all.push(("user", user(record)));
            let session = record.session.as_ref().map(|uid| json!({"uid": uid}));
            all.push(("session", json!(session)));
            let what = record
                .resource
                .as_ref()
                .map_or("session", |r| r.id.as_str());
            all.push(("privileges", json!([what])));
        }
        API => {
            all.push(("actor", actor(record)));
            all.push(("api", json!({"operation": name(record)})));
            all.push(("src_endpoint", source_endpoint(record, source)));
        }
        LIFECYCLE => {
            all.push((
                "app",
                json!({"name": "Cordon", "version": env!("CARGO_PKG_VERSION")}),
            ));
        }
        FINDING => all.push((
            "finding_info",
            json!({
                "uid": record.id.to_string(),
                "title": "Records are missing from the log",
                "created_time": record.ts_us / 1000,
                "desc": format!(
                    "{} records were refused or lost, {} bytes of an unfinished write were cut off",
                    record.lost.unwrap_or_default(),
                    record.cut_bytes.unwrap_or_default()
                ),
            }),
        )),
        _ => {}
    }
    match class.class {
        HTTP => all.push(("http_request", http_request(record))),
        DNS => all.push((
            "query",
            json!(host(record).map(|host| json!({"hostname": host}))),
        )),
        _ => {}
    }
    all
}

fn metadata(record: &Record, source: &Source) -> Value {
    let mut metadata = json!({
        "version": VERSION,
        "profiles": ["security_control"],
        "product": {
            "name": "Cordon",
            "vendor_name": "Cordon",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "uid": record.id.to_string(),
        "sequence": record.seq,
        "log_name": source.origin,
        "log_provider": "cordon",
        "event_code": name(record),
        "is_truncated": !record.trunc.is_empty(),
    });
    if let (Some(session), Some(object)) = (&record.session, metadata.as_object_mut()) {
        object.insert("correlation_uid".into(), json!(session));
    }
    metadata
}

/// What OCSF has no attribute for in the class.
fn unmapped(record: &Record) -> Value {
    let mut rest = Map::new();
    let mut put = |key: &str, value: Value| {
        if !value.is_null() {
            rest.insert(key.into(), value);
        }
    };
    put("kind", json!(record.kind.as_str()));
    put(
        "agent",
        json!(record.agent.as_ref().map(|agent| &agent.name)),
    );
    put(
        "user",
        json!(record.principal.as_ref().map(|user| &user.id)),
    );
    put("effect", json!(record.effect.map(Effect::as_str)));
    put("rules", json!(record.rules));
    put("decision", json!(record.decision.map(|id| id.to_string())));
    put("eval_ns", json!(record.eval_ns));
    put(
        "resource",
        json!(record.resource.as_ref().map(|resource| &resource.id)),
    );
    put(
        "via",
        json!(record.net.as_ref().and_then(|net| net.via.as_ref())),
    );
    if let Some(raw) = &record.raw {
        put(
            "raw",
            json!({"door": raw.door, "problem": raw.problem, "text": raw.text}),
        );
    }
    Value::Object(rest)
}

fn source_endpoint(record: &Record, source: &Source) -> Value {
    let session = record.session.as_ref();
    let mut endpoint = json!({
        "name": source.host,
        "svc_name": record.agent.as_ref().map_or("cordon", |agent| agent.name.as_str()),
    });
    if let (Some(session), Some(object)) = (session, endpoint.as_object_mut()) {
        object.insert("uid".into(), json!(session));
    }
    endpoint
}

fn destination(record: &Record) -> Value {
    let Some(net) = &record.net else {
        return Value::Null;
    };
    let mut endpoint = Map::new();
    if let Some(host) = &net.host {
        let literal = host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok();
        if !literal {
            endpoint.insert("hostname".into(), json!(host));
        }
    }
    if let Some(address) = &net.dst {
        endpoint.insert("ip".into(), json!(address));
    }
    if let (Some(port), false) = (net.dport, endpoint.is_empty()) {
        endpoint.insert("port".into(), json!(port));
    }
    if endpoint.is_empty() {
        Value::Null
    } else {
        Value::Object(endpoint)
    }
}

fn connection(record: &Record) -> Value {
    let protocol = record.net.as_ref().map(|net| net.proto.as_str());
    json!(protocol.map(|protocol| json!({"direction_id": 2, "protocol_name": protocol})))
}

fn traffic(record: &Record) -> Value {
    match (record.bytes_out, record.bytes_in) {
        (None, None) => Value::Null,
        (out, into) => {
            let (out, into) = (out.unwrap_or_default(), into.unwrap_or_default());
            json!({"bytes_out": out, "bytes_in": into, "bytes": out.saturating_add(into)})
        }
    }
}

fn http_request(record: &Record) -> Value {
    let http = record.http.clone().unwrap_or_default();
    let mut request = Map::new();
    if let Some(method) = http
        .method
        .filter(|method| METHODS.contains(&method.as_str()))
    {
        request.insert("http_method".into(), json!(method));
    }
    let mut url = Map::new();
    if let Some(path) = http.path {
        url.insert("path".into(), json!(path));
    }
    if let (Some(host), false) = (host(record), url.is_empty()) {
        url.insert("hostname".into(), json!(host));
    }
    if let (Some(port), false) = (
        record.net.as_ref().and_then(|net| net.dport),
        url.is_empty(),
    ) {
        url.insert("port".into(), json!(port));
    }
    if !url.is_empty() {
        request.insert("url".into(), Value::Object(url));
    }
    Value::Object(request)
}

fn host(record: &Record) -> Option<&String> {
    record.net.as_ref().and_then(|net| net.host.as_ref())
}

fn actor(record: &Record) -> Value {
    let mut actor = Map::new();
    let app = record
        .agent
        .as_ref()
        .map_or("cordon", |agent| agent.name.as_str());
    actor.insert("app_name".into(), json!(app));
    if record.principal.is_some() {
        actor.insert("user".into(), user(record));
    }
    if let Some(session) = &record.session {
        actor.insert("session".into(), json!({"uid": session}));
    }
    Value::Object(actor)
}

fn user(record: &Record) -> Value {
    let name = record
        .principal
        .as_ref()
        .map_or("unknown", |user| user.id.as_str());
    json!({"name": name, "type_id": 1})
}

fn device(source: &Source) -> Value {
    json!({"type_id": 0, "hostname": source.host})
}

fn file(record: &Record) -> Value {
    let resource = record.resource.as_ref();
    let path = resource.map_or("", |resource| resource.id.as_str());
    let name = path
        .rsplit('/')
        .find(|part| !part.is_empty())
        .unwrap_or(path);
    let folder = resource.is_some_and(|resource| resource.kind == "folder");
    json!({"name": name, "path": path, "type_id": if folder { 2 } else { 0 }})
}

fn process(record: &Record) -> Value {
    let agent = record.agent.as_ref().map(|agent| agent.name.as_str());
    let program = record
        .resource
        .as_ref()
        .map(|resource| resource.id.as_str());
    let uid = record
        .session
        .clone()
        .unwrap_or_else(|| record.id.to_string());
    let mut process = json!({"uid": uid});
    if let (Some(name), Some(object)) = (program.or(agent), process.as_object_mut()) {
        object.insert("name".into(), json!(name));
    }
    process
}

fn name(record: &Record) -> &str {
    record.action.as_deref().unwrap_or(record.kind.as_str())
}

fn severity(record: &Record) -> u64 {
    match record.effect {
        Some(Effect::Allow) => 1,
        Some(Effect::Ask) => 2,
        Some(Effect::Deny) => 3,
        Some(Effect::Error) => 4,
        None if record.kind == Kind::LogGap => 4,
        None => 1,
    }
}

fn disposition(effect: Effect) -> u64 {
    match effect {
        Effect::Allow => 1,
        Effect::Deny => 2,
        Effect::Ask => 26,
        Effect::Error => 27,
    }
}

/// Methods that the schema names.
const METHODS: [&str; 9] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT", "TRACE", "PATCH",
];
