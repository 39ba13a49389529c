//! ArcSight Common Event Format, version 0: one line each.
//!
//! In the header `|` and `\` are escaped, in values `=`, `\` and line ends; other controls and
//! invisible characters are shown as escapes, so that an event is one line and nothing else.

use super::Fields;
use crate::{Record, record::Effect};

/// An event, without its line feed.
pub(super) fn event(record: &Record) -> String {
    let signature = record.action.as_deref().unwrap_or(record.kind.as_str());
    let name = match record.effect {
        Some(effect) => format!("{signature} {}", effect.as_str()),
        None => signature.to_owned(),
    };
    let severity = match record.effect {
        Some(Effect::Allow) => 1,
        Some(Effect::Ask) => 4,
        Some(Effect::Deny) => 5,
        Some(Effect::Error) => 7,
        None if record.lost.is_some() => 8,
        None => 1,
    };
    let mut line = format!(
        "CEF:0|Cordon|Cordon|{}|{}|{}|{severity}|",
        env!("CARGO_PKG_VERSION"),
        header(signature),
        header(&name)
    );
    let mut first = true;
    for (key, text) in extension(record) {
        let Some(text) = text else { continue };
        if !std::mem::take(&mut first) {
            line.push(' ');
        }
        line.push_str(key);
        line.push('=');
        line.push_str(&value(&text));
    }
    line
}

fn extension(record: &Record) -> Fields<'static> {
    let net = record.net.as_ref();
    let http = record.http.as_ref();
    let resource = record.resource.as_ref();
    let path = resource.filter(|resource| matches!(resource.kind.as_str(), "folder" | "path"));
    let label = |given: bool, label: &str| given.then(|| label.to_owned());
    let rules = record.rules.as_ref().filter(|rules| !rules.is_empty());
    let policy = record.policy.as_ref();
    vec![
        ("rt", Some((record.ts_us / 1000).to_string())),
        ("externalId", Some(record.id.to_string())),
        ("act", record.effect.map(|effect| effect.as_str().into())),
        (
            "outcome",
            record.effect.map(|effect| {
                if effect == Effect::Allow {
                    "success"
                } else {
                    "failure"
                }
                .to_owned()
            }),
        ),
        ("reason", record.reason.clone()),
        (
            "suser",
            record.principal.as_ref().map(|user| user.id.clone()),
        ),
        (
            "sproc",
            record.agent.as_ref().map(|agent| agent.name.clone()),
        ),
        ("dhost", net.and_then(|net| net.host.clone())),
        ("dst", net.and_then(|net| net.dst.clone())),
        (
            "dpt",
            net.and_then(|net| net.dport.map(|port| port.to_string())),
        ),
        ("proto", net.map(|net| net.proto.clone())),
        ("app", net.and_then(|net| net.via.clone())),
        ("requestMethod", http.and_then(|http| http.method.clone())),
        ("request", http.and_then(|http| http.path.clone())),
        ("filePath", path.map(|resource| resource.id.clone())),
        ("out", record.bytes_out.map(|n| n.to_string())),
        ("in", record.bytes_in.map(|n| n.to_string())),
        ("cs1", record.session.clone()),
        ("cs1Label", label(record.session.is_some(), "session")),
        ("cs2", rules.map(|rules| rules.join(","))),
        ("cs2Label", label(rules.is_some(), "rules")),
        ("cs3", policy.map(|policy| policy.sha256.clone())),
        ("cs3Label", label(policy.is_some(), "policy")),
        ("cn1", Some(record.seq.to_string())),
        ("cn1Label", Some("sequence".into())),
        (
            "msg",
            record
                .raw
                .as_ref()
                .map(|raw| format!("{}: {}", raw.problem, raw.text)),
        ),
    ]
}

fn header(text: &str) -> String {
    plain(text).replace('|', "\\|")
}

fn value(text: &str) -> String {
    plain(text).replace('=', "\\=")
}

/// Backslashes doubled, line ends as `\n` and `\r`, what could act on a terminal as an escape with
/// its own backslash doubled.
fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\\' => shown.push_str("\\\\"),
            '"' | '\'' => shown.push(c),
            _ => {
                let escaped = c.escape_debug();
                let extra = if escaped.len() > 1 { "\\" } else { "" };
                shown.push_str(extra);
                shown.extend(escaped);
            }
        }
    }
    shown
}
