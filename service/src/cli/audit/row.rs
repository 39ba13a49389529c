//! One record as cells: for tables and for CSV.

use std::fmt::Write as _;

use cordon_audit::{Kind, Record, rfc3339};

/// What a record is about, in a few words. Not escaped.
pub fn what(record: &Record) -> String {
    let mut text = record
        .action
        .clone()
        .unwrap_or_else(|| record.kind.as_str().into());
    let mut add = |part: &str| {
        // Writing to a string cannot fail.
        let _infallible = write!(text, " {part}");
    };
    if let Some(method) = record.http.as_ref().and_then(|http| http.method.as_deref()) {
        add(method);
    }
    if let Some(resource) = &record.resource {
        add(&resource.id);
    }
    if let Some(path) = record.http.as_ref().and_then(|http| http.path.as_deref()) {
        add(path);
    }
    if let Some(mode) = record
        .resource
        .as_ref()
        .and_then(|resource| resource.mode.as_deref())
    {
        add(mode);
    }
    if let Some(raw) = &record.raw {
        add(&raw.door);
        add(&raw.text);
    }
    if let Some(state) = &record.state {
        add(state);
    }
    if record.kind == Kind::FlowClose {
        if let Some(address) = record.net.as_ref().and_then(|net| net.dst.as_deref()) {
            add(address);
        }
        add(&format!(
            "{} B in {} B out",
            record.bytes_in.unwrap_or_default(),
            record.bytes_out.unwrap_or_default()
        ));
    }
    text
}

/// Why, or how it ended. Not escaped.
pub fn why(record: &Record) -> String {
    let rules = record.rules.as_deref().unwrap_or_default();
    match (record.reason.as_deref(), rules) {
        (Some("rule"), rules) if !rules.is_empty() => rules.join(","),
        (Some(reason), []) => reason.into(),
        (Some(reason), rules) => format!("{reason} {}", rules.join(",")),
        (None, _) => record.end.clone().unwrap_or_default(),
    }
}

/// The outcome: the effect, and what was done where that is something else.
pub fn outcome(record: &Record) -> String {
    use cordon_audit::record::Enforced;
    let effect = record.effect.map_or("-", cordon_audit::Effect::as_str);
    match record.enforced {
        Some(Enforced::Observed) => format!("{effect}*"),
        Some(Enforced::Allowed | Enforced::Blocked | Enforced::Reset) | None => effect.into(),
    }
}

/// To the second, in UTC, as tables show it.
pub fn time(record: &Record) -> String {
    let whole = rfc3339(record.ts_us);
    let seconds = whole.get(..19).unwrap_or(&whole);
    seconds.replace('T', " ")
}

/// Names of the CSV's columns.
pub const CSV: [&str; 19] = [
    "seq",
    "id",
    "time",
    "kind",
    "effect",
    "enforced",
    "action",
    "resource",
    "host",
    "address",
    "reason",
    "rules",
    "session",
    "user",
    "agent",
    "policy",
    "bytes_in",
    "bytes_out",
    "end",
];

/// One record as a line of CSV (RFC 4180), without its line end.
pub fn csv(record: &Record) -> String {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let number = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
    let net = record.net.as_ref();
    let cells: [String; CSV.len()] = [
        record.seq.to_string(),
        record.id.to_string(),
        rfc3339(record.ts_us),
        record.kind.as_str().into(),
        text(record.effect.map(cordon_audit::Effect::as_str)),
        text(record.enforced.map(cordon_audit::record::Enforced::as_str)),
        text(record.action.as_deref()),
        text(
            record
                .resource
                .as_ref()
                .map(|resource| resource.id.as_str()),
        ),
        text(net.and_then(|net| net.host.as_deref())),
        text(net.and_then(|net| net.dst.as_deref())),
        text(record.reason.as_deref()),
        record.rules.as_deref().unwrap_or_default().join(" "),
        text(record.session.as_deref()),
        text(record.principal.as_ref().map(|user| user.id.as_str())),
        text(record.agent.as_ref().map(|agent| agent.name.as_str())),
        text(record.policy.as_ref().map(|policy| policy.sha256.as_str())),
        number(record.bytes_in),
        number(record.bytes_out),
        text(record.end.as_deref()),
    ];
    cells.map(|cell| csv_cell(&cell)).join(",")
}

/// A cell that is one line, and that no spreadsheet takes for a formula.
pub fn csv_cell(text: &str) -> String {
    let shown = cordon_audit::escape(text).to_string();
    let guard = if shown.starts_with(['=', '+', '-', '@']) {
        "'"
    } else {
        ""
    };
    if guard.is_empty() && !shown.contains([',', '"']) {
        return shown;
    }
    format!("\"{guard}{}\"", shown.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a06_no_cell_of_csv_is_a_formula_or_a_second_line() {
        for (text, want) in [
            ("plain.example.com:443", "plain.example.com:443"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("=cmd|'/c calc'!A1", "\"'=cmd|'/c calc'!A1\""),
            ("@x", "\"'@x\""),
            ("a\r\nb", "a\\r\\nb"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
        ] {
            assert_eq!(csv_cell(text), want, "{text:?}");
        }
    }
}
