//! The counts of a session told by its records, in their order: what a daemon that was killed knew,
//! and what a policy is replayed by.
//!
//! Records in; counts that are as they were, or as high as can be, or nothing known, out. Bytes are
//! told by the ends of flows alone: of what was open, a record says nothing.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use cordon_audit::{Kind, Record, RecordId, past, record::Enforced};
use cordon_policy::{History, MAX_LENGTH, Operation, is_label};

use super::{Ledger, Moved, Review};

/// Flows that records have opened and not ended yet, each with where its destination's bytes go.
#[derive(Debug, Default)]
pub struct Open(HashMap<RecordId, Option<Arc<Moved>>>);

impl Ledger {
    /// Counts what the records of a session, in their order, tell of it: what a daemon that was
    /// killed knew. What moved through flows that it had open is as much as can be. `labels` are
    /// those of an operation by the policy of now.
    pub fn recall(&self, records: &[Record], labels: impl Fn(&Operation) -> Vec<Arc<str>>) {
        // Of a session whose beginning the log does not hold (any more) nobody knows the rest.
        if !records.iter().any(begins) {
            self.lose();
        }
        let mut open = Open::default();
        let mut has_way_out = false;
        for record in records {
            match record.kind {
                Kind::Decision if was_let_through(record) => match past::operation(record) {
                    Ok(operation) => {
                        let labels = labels(&operation);
                        has_way_out |= gives_way_out(&operation);
                        self.let_through(record.id, &operation, labels, &mut open);
                    }
                    // Acts of people for themselves are no part of it.
                    Err(_) if past::is_of_people(record.action.as_deref()) => {}
                    Err(_) => self.lose(),
                },
                _other => self.happened(record, &mut open),
            }
        }
        // What was only asked about cannot be told from what was open.
        if has_way_out && !open.0.is_empty() {
            for moved in open.0.values().flatten().chain([&self.moved]) {
                moved.sent.fetch_max(MAX_LENGTH, Relaxed);
                moved.received.fetch_max(MAX_LENGTH, Relaxed);
            }
        }
    }

    /// Counts what a decision let through.
    pub fn let_through(
        &self,
        decision: RecordId,
        operation: &Operation,
        labels: Vec<Arc<str>>,
        open: &mut Open,
    ) {
        let mut counts = self.lock();
        counts.count(operation, labels);
        if let Some(destination) = operation.destination() {
            let one = counts.by_destination.get(destination);
            open.0
                .insert(decision, one.map(|one| Arc::clone(&one.moved)));
        }
    }

    /// Counts what a record tells beside decisions: labels, and the bytes of a flow that ended.
    pub fn happened(&self, record: &Record, open: &mut Open) {
        match record.kind {
            Kind::SessionState if record.state.as_deref() == Some("labels") => {
                let label = record.message.as_deref().unwrap_or_default();
                let counts = &mut *self.lock();
                counts.lost |= !is_label(label);
                counts.labels.insert(label.into(), true);
            }
            Kind::FlowClose => {
                let one = record
                    .decision
                    .and_then(|decision| open.0.remove(&decision));
                for moved in one.flatten().iter().chain([&self.moved]) {
                    moved.sent.fetch_add(record.bytes_out.unwrap_or(0), Relaxed);
                    moved
                        .received
                        .fetch_add(record.bytes_in.unwrap_or(0), Relaxed);
                }
            }
            _other => {}
        }
    }

    /// From here on nothing is known of it.
    pub fn lose(&self) {
        self.lock().lost = true;
    }

    /// What the session did before `operation` where that which is open had moved so many bytes by
    /// then; nothing where nothing is open, and the counts are exact.
    pub fn at_most(
        &self,
        operation: &Operation,
        (sent, received): (u64, u64),
        open: &Open,
    ) -> Option<History> {
        if open.0.is_empty() {
            return None;
        }
        let mut before = self.before(operation, Review::New);
        if let History::Known(past) = &mut before {
            let add = |counted: &mut u64, more| {
                *counted = counted.saturating_add(more).min(MAX_LENGTH);
            };
            add(&mut past.session.bytes_sent, sent);
            add(&mut past.session.bytes_received, received);
            if past.destination.seen {
                add(&mut past.destination.bytes_sent, sent);
                add(&mut past.destination.bytes_received, received);
            }
        }
        Some(before)
    }
}

impl Open {
    /// Whether a record's decision opened one of them.
    pub fn is_of(&self, record: &Record) -> bool {
        record
            .decision
            .is_some_and(|decision| self.0.contains_key(&decision))
    }
}

/// Whether what a record decided was done.
pub fn was_let_through(record: &Record) -> bool {
    matches!(
        record.enforced,
        Some(Enforced::Allowed | Enforced::Observed)
    )
}

/// Whether bytes of a session that a runtime holds can move by it: it has no other way out.
fn gives_way_out(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::EnableBrowser | Operation::LoadExtension { .. }
    )
}

/// Whether a session begins with it.
fn begins(record: &Record) -> bool {
    was_let_through(record) && record.action.as_deref() == Some("session.start")
}
