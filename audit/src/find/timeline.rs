//! One session as a timeline: repeats collapsed, ends joined to what they end, firsts marked.
//!
//! Records of one session in order in, lines out. Reads nothing.

use std::collections::{HashMap, HashSet};

use crate::{Kind, Record, RecordId, record::Effect};

/// One line: a record, and those right after it that say the same again.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// The first of them.
    pub record: &'a Record,
    /// How many.
    pub count: u64,
    /// Time of the last of them, in microseconds since the epoch.
    pub until_us: u64,
    /// Bytes to the session, of their flows that ended.
    pub bytes_in: u64,
    /// Bytes from the session, of the same flows.
    pub bytes_out: u64,
    /// How many of their flows led nowhere.
    pub unreached: u64,
    /// What is notable.
    pub marks: Vec<Mark>,
}

/// What is notable about a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mark {
    /// The first refusal of the session.
    FirstDeny,
    /// The first time that the session turns to a destination which `known` does not know.
    NewDestination,
}

/// Makes the timeline. `known` says whether a destination was there before the session.
pub fn timeline<'a>(records: &'a [Record], mut known: impl FnMut(&str) -> bool) -> Vec<Line<'a>> {
    let mut lines: Vec<Line<'a>> = Vec::new();
    let mut of_decision: HashMap<RecordId, usize> = HashMap::new();
    let mut seen = HashSet::new();
    let mut denied = false;
    for record in records {
        if record.kind == Kind::FlowClose
            && let Some(line) = record
                .decision
                .and_then(|id| lines.get_mut(*of_decision.get(&id)?))
        {
            line.add_end(record);
            continue;
        }
        let mut marks = Vec::new();
        if !denied && is_refusal(record) {
            denied = true;
            marks.push(Mark::FirstDeny);
        }
        if let Some(destination) = destination(record)
            && seen.insert(destination)
            && !known(destination)
        {
            marks.push(Mark::NewDestination);
        }
        match lines
            .last_mut()
            .filter(|line| marks.is_empty() && same(line.record, record))
        {
            Some(line) => {
                line.count += 1;
                line.until_us = record.ts_us;
            }
            None => lines.push(Line::new(record, marks)),
        }
        of_decision.insert(record.id, lines.len().saturating_sub(1));
    }
    lines
}

impl<'a> Line<'a> {
    fn new(record: &'a Record, marks: Vec<Mark>) -> Self {
        Self {
            record,
            count: 1,
            until_us: record.ts_us,
            bytes_in: record.bytes_in.unwrap_or_default(),
            bytes_out: record.bytes_out.unwrap_or_default(),
            unreached: 0,
            marks,
        }
    }

    fn add_end(&mut self, end: &Record) {
        self.bytes_in = self
            .bytes_in
            .saturating_add(end.bytes_in.unwrap_or_default());
        self.bytes_out = self
            .bytes_out
            .saturating_add(end.bytes_out.unwrap_or_default());
        let nowhere = matches!(
            end.end.as_deref(),
            Some("resolve_failed" | "connect_failed")
        );
        self.unreached += u64::from(nowhere);
    }
}

fn is_refusal(record: &Record) -> bool {
    record.effect.is_some_and(|effect| effect != Effect::Allow)
}

/// Where a network decision leads.
fn destination(record: &Record) -> Option<&str> {
    let resource = record.resource.as_ref()?;
    (resource.kind == "network").then_some(resource.id.as_str())
}

/// Whether two records say the same: all that a line shows of them.
fn same(a: &Record, b: &Record) -> bool {
    a.kind == b.kind
        && a.action == b.action
        && a.resource == b.resource
        && a.effect == b.effect
        && a.enforced == b.enforced
        && a.reason == b.reason
        && a.rules == b.rules
        && a.raw == b.raw
        && a.http.as_ref().map(|http| (&http.method, &http.path))
            == b.http.as_ref().map(|http| (&http.method, &http.path))
        && a.end == b.end
}

#[cfg(test)]
mod tests;
