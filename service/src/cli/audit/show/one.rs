//! One record: a sentence, the request, the clause that decided, why not, and where it is proven.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use cordon_audit::{
    Effect, Kind, Record, escape,
    find::{Condition, Field, Order, Query},
    past::{self, Sessions},
    prove,
    read::Reader,
    record::Enforced,
    rfc3339,
};
use cordon_policy::{Rule, Snapshot, WhyNot, source::PolicySource};
use serde_json::json;

use super::super::{Format, json_line, still_read};
use crate::{
    error::Failure,
    policy_sets::PolicySets,
    summary::{suggestion, why, words},
};

/// Shows one record.
pub fn show(reader: &Reader, record: &Record, format: Format) -> Result<u8, Failure> {
    let set = set_of(record);
    let clauses = set.as_ref().map(|set| clauses(record, set));
    let clauses = clauses.unwrap_or_default();
    let why_not = match &set {
        Some(set) => why_not(reader, record, set)?,
        None => None,
    };
    let end = end(reader, record)?;
    let proof = proof(reader, record);
    let text = match format {
        Format::Json => {
            let object = json!({
                "record": record,
                "end": end,
                "clauses": clauses,
                "why_not": why_not,
                "allow_with": suggestion(record),
                "proof": proof.as_ref().ok(),
            });
            format!("{}\n", json_line(object.to_string()))
        }
        Format::Text => as_text(record, end.as_ref(), &clauses, why_not.as_ref(), &proof),
    };
    still_read(io::stdout().lock().write_all(text.as_bytes()))?;
    Ok(0)
}

fn as_text(
    record: &Record,
    end: Option<&Record>,
    clauses: &[Rule],
    why_not: Option<&WhyNot>,
    proof: &Result<String, String>,
) -> String {
    let mut out = format!("{}\n\n", sentence(record));
    let mut add = |name: &str, text: &str| {
        // Writing to a string cannot fail.
        let _infallible = writeln!(out, "  {name:<10} {}", escape(text));
    };
    for (name, text) in facts(record) {
        add(name, &text);
    }
    if let Some(end) = end {
        let (to, from) = (end.bytes_in.unwrap_or(0), end.bytes_out.unwrap_or(0));
        let address = end
            .net
            .as_ref()
            .and_then(|net| net.dst.as_deref())
            .unwrap_or("nothing");
        let how = end.end.as_deref().unwrap_or("?");
        let seconds = std::time::Duration::from_micros(end.dur_us.unwrap_or(0)).as_secs_f64();
        add(
            "flow",
            &format!("{how} after {seconds:.3} s, {address}, {to} B in, {from} B out"),
        );
    }
    for rule in clauses {
        let _infallible = writeln!(out, "\n{}", clause(rule));
    }
    if let Some(why_not) = why_not {
        let _infallible = writeln!(out, "\n  why not:");
        for line in why_not.to_string().lines() {
            let _infallible = writeln!(out, "    {}", escape(line));
        }
    }
    if let Some(offer) = suggestion(record) {
        let _infallible = writeln!(out, "\n  to allow it:\n    {}", escape(&offer));
    }
    // Not set in: from its first line on it is the file.
    let _infallible = match proof {
        Ok(proof) => write!(
            out,
            "\n  proof that it is in the log as it was written; what follows, in a file, is \
             verified by\n  `cordon audit verify --proof FILE`, with the log's public key alone:\n\n{proof}"
        ),
        Err(why) => writeln!(out, "\n  no proof yet: {}", escape(why)),
    };
    out
}

/// Who asked for what, when, and what came of it.
fn sentence(record: &Record) -> String {
    let who = match (&record.agent, &record.principal) {
        (Some(agent), Some(user)) => {
            format!("agent {} of {}", escape(&agent.name), escape(&user.id))
        }
        (None, Some(user)) => match record.access {
            Some(_) => format!("{} of the decision API", escape(&user.id)),
            None => format!("a session of {}", escape(&user.id)),
        },
        (_, None) => "the service".into(),
    };
    let when = rfc3339(record.ts_us);
    if record.kind != Kind::Decision {
        let what = record.kind.as_str();
        let how = record
            .end
            .as_deref()
            .map(|end| format!(" ({})", escape(end)));
        return format!("At {when}, {who}: {what}{}.", how.unwrap_or_default());
    }
    let asked = words(record);
    let asked = escape(&asked);
    let observed = record.enforced == Some(Enforced::Observed);
    let outcome = match record.effect {
        Some(Effect::Allow) => "It was allowed".to_owned(),
        Some(Effect::Ask) => format!("It needs an approval: {}", escape(&why(record))),
        Some(Effect::Deny | Effect::Error) | None => {
            format!("It was denied: {}", escape(&why(record)))
        }
    };
    let allowed_by = match (record.effect, record.rules.as_deref()) {
        (Some(Effect::Allow), Some([first, ..])) => format!(" by rule `{}`", escape(first)),
        _other => String::new(),
    };
    let observed = match observed {
        true => ", but policy only observes: it went ahead",
        false => "",
    };
    format!("At {when}, {who} asked: {asked}. {outcome}{allowed_by}{observed}.")
}

/// The request and the decision, field by field. Not escaped.
fn facts(record: &Record) -> Vec<(&'static str, String)> {
    let mut facts = vec![("record", format!("{} (number {})", record.id, record.seq))];
    let mut add = |name, text: Option<String>| facts.extend(text.map(|text| (name, text)));
    add("session", record.session.clone());
    add("action", record.action.clone());
    add(
        "resource",
        record
            .resource
            .as_ref()
            .map(|resource| format!("{} {}", resource.kind, resource.id)),
    );
    add("via", record.net.as_ref().and_then(|net| net.via.clone()));
    add(
        "address",
        record.net.as_ref().and_then(|net| net.dst.clone()),
    );
    add(
        "http",
        record.http.as_ref().map(|http| {
            let part = |text: &Option<String>| text.clone().unwrap_or_default();
            format!("{} {}", part(&http.method), part(&http.path))
        }),
    );
    add(
        "input",
        record
            .raw
            .as_ref()
            .map(|raw| format!("{}: {}", raw.door, raw.text)),
    );
    add("reason", record.reason.clone());
    add("rules", rules(record));
    add(
        "policy",
        record.policy.as_ref().map(|policy| {
            let revision = policy
                .revision
                .map(|revision| format!(", revision {revision}"));
            let digest = policy.sha256.get(..12).unwrap_or(&policy.sha256);
            format!("{} {digest}{}", policy.set, revision.unwrap_or_default())
        }),
    );
    add(
        "shadow",
        record
            .shadow
            .as_ref()
            .map(|shadow| format!("{} would say {}", shadow.policy.set, shadow.effect.as_str())),
    );
    add(
        "approval",
        record
            .approval
            .as_ref()
            .map(|approval| match approval.by.join(", ") {
                nobody if nobody.is_empty() => approval.reference.clone(),
                by => format!("{} by {by}", approval.reference),
            }),
    );
    add(
        "errors",
        (!record.err.is_empty()).then(|| record.err.join("; ")),
    );
    add(
        "masked",
        (!record.masked.is_empty()).then(|| record.masked.join(", ")),
    );
    add(
        "cut",
        (!record.trunc.is_empty()).then(|| {
            let cut: Vec<&str> = record.trunc.iter().map(|cut| cut.field.as_str()).collect();
            cut.join(", ")
        }),
    );
    add(
        "took",
        record.eval_ns.map(|ns| {
            let us = std::time::Duration::from_nanos(ns).as_micros();
            format!(
                "{us} µs to decide, {} µs in the queue",
                record.queue_us.unwrap_or(0)
            )
        }),
    );
    facts
}

/// Each with its layer. None for what no rule decided.
fn rules(record: &Record) -> Option<String> {
    let rules = record.rules.as_ref()?;
    if rules.is_empty() {
        return Some("none: what no rule allows is denied".into());
    }
    let layers = record
        .layers
        .iter()
        .map(Some)
        .chain(std::iter::repeat(None));
    let named = rules.iter().zip(layers).map(|(rule, layer)| match layer {
        Some(layer) => format!("{rule} ({layer})"),
        None => rule.clone(),
    });
    Some(named.collect::<Vec<_>>().join(", "))
}

/// The policy set that decided, where it is at hand: the built-in pack is, and what the daemon
/// keeps.
fn set_of(record: &Record) -> Option<Snapshot> {
    let digest = &record.policy.as_ref()?.sha256;
    let builtin = PolicySource::default_pack();
    let source = if builtin.digest() == *digest {
        builtin
    } else {
        PolicySets::of_user()?.find(digest)?
    };
    Snapshot::load(&source).ok()
}

/// The determining clauses.
fn clauses(record: &Record, set: &Snapshot) -> Vec<Rule> {
    let ids = record.rules.as_deref().unwrap_or_default();
    let determining = |rule: &&Rule| ids.iter().any(|id| **id == *rule.id);
    set.rules().iter().filter(determining).cloned().collect()
}

/// For a refusal by policy: the nearest permit and what of it failed, or the clause that forbids.
fn why_not(reader: &Reader, record: &Record, set: &Snapshot) -> Result<Option<WhyNot>, Failure> {
    let refused = matches!(record.effect, Some(Effect::Deny | Effect::Ask));
    if record.kind != Kind::Decision || !refused {
        return Ok(None);
    }
    let Some(facts) = Sessions::default().facts(record, reader)? else {
        return Ok(None);
    };
    // What was not refused by policy has no rule to tell of.
    let Ok(request) = past::request(record, facts) else {
        return Ok(None);
    };
    Ok(set.why_not(&request))
}

fn clause(rule: &Rule) -> String {
    let mut text = format!("  {} line {}:\n", rule.file.display(), rule.line);
    for line in rule.text.lines() {
        let _infallible = writeln!(text, "    {}", escape(line));
    }
    text.trim_end().into()
}

/// The proof of the record that is shown, as a file; or why there is none.
fn proof(reader: &Reader, record: &Record) -> Result<String, String> {
    let proof = prove::inclusion(reader.directory(), record.seq).map_err(|error| error.message)?;
    match Record::from_leaf(&proof.leaf) {
        Ok(proven) if proven == *record => Ok(proof.to_text()),
        _other => Err("at its place the log proves another record: `cordon audit verify`".into()),
    }
}

/// The end of the flow that a decision opened.
fn end(reader: &Reader, record: &Record) -> Result<Option<Record>, Failure> {
    let allowed = record.effect == Some(Effect::Allow) && record.net.is_some();
    let Some(session) = record.session.as_deref().filter(|_| allowed) else {
        return Ok(None);
    };
    let query = Query {
        conditions: vec![
            Condition::is(Field::Session, session),
            Condition::is(Field::Kind, Kind::FlowClose.as_str()),
        ],
        text: Some(record.id.to_string()),
        order: Order::OldestFirst,
        cursor: Some(record.seq),
        ..Query::default()
    };
    let page = query.page(reader, 1)?;
    Ok(page
        .records
        .into_iter()
        .find(|end| end.decision == Some(record.id)))
}
