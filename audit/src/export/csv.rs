//! A table of records (RFC 4180). Hostile text is escaped, and nothing in it begins a formula.

use super::Fields;
use crate::{Record, escape, rfc3339};

/// The header, with its line end.
pub(super) fn header() -> String {
    let names: Vec<&str> = fields(None).iter().map(|(name, _)| *name).collect();
    names.join(",") + "\r\n"
}

/// A row, without its line feed.
pub(super) fn row(record: &Record) -> String {
    let cells: Vec<String> = fields(Some(record))
        .into_iter()
        .map(|(_, text)| cell(&text.unwrap_or_default()))
        .collect();
    cells.join(",") + "\r"
}

fn fields(record: Option<&Record>) -> Fields<'static> {
    let of = |pick: &dyn Fn(&Record) -> Option<String>| record.and_then(pick);
    vec![
        ("seq", of(&|r| Some(r.seq.to_string()))),
        ("id", of(&|r| Some(r.id.to_string()))),
        ("time", of(&|r| Some(rfc3339(r.ts_us)))),
        ("kind", of(&|r| Some(r.kind.as_str().into()))),
        ("session", of(&|r| r.session.clone())),
        ("user", of(&|r| r.principal.as_ref().map(|p| p.id.clone()))),
        ("agent", of(&|r| r.agent.as_ref().map(|a| a.name.clone()))),
        ("action", of(&|r| r.action.clone())),
        (
            "resource",
            of(&|r| r.resource.as_ref().map(|x| x.id.clone())),
        ),
        (
            "effect",
            of(&|r| r.effect.map(|effect| effect.as_str().into())),
        ),
        ("reason", of(&|r| r.reason.clone())),
        (
            "rules",
            of(&|r| r.rules.as_ref().map(|rules| rules.join(" "))),
        ),
        (
            "policy_sha256",
            of(&|r| r.policy.as_ref().map(|p| p.sha256.clone())),
        ),
        ("host", of(&|r| r.net.as_ref()?.host.clone())),
        ("address", of(&|r| r.net.as_ref()?.dst.clone())),
        (
            "port",
            of(&|r| r.net.as_ref()?.dport.map(|n| n.to_string())),
        ),
        ("method", of(&|r| r.http.as_ref()?.method.clone())),
        ("path", of(&|r| r.http.as_ref()?.path.clone())),
        (
            "status",
            of(&|r| r.http.as_ref()?.status.map(|n| n.to_string())),
        ),
        ("bytes_out", of(&|r| r.bytes_out.map(|n| n.to_string()))),
        ("bytes_in", of(&|r| r.bytes_in.map(|n| n.to_string()))),
        ("duration_us", of(&|r| r.dur_us.map(|n| n.to_string()))),
        ("end", of(&|r| r.end.clone())),
    ]
}

/// One cell: escaped, quoted where it has to be, and never the beginning of a formula that a
/// spreadsheet would run.
fn cell(text: &str) -> String {
    let mut shown = escape(text).to_string();
    if shown.starts_with(['=', '+', '-', '@']) {
        shown.insert(0, '\'');
    }
    if shown.contains([',', '"', '\'']) {
        format!("\"{}\"", shown.replace('"', "\"\""))
    } else {
        shown
    }
}
