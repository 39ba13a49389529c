//! Decides recorded requests again under a candidate policy set and says what changes.
//!
//! A log and a snapshot in, a [`Report`] out. Streams: memory is bounded by the number of
//! different changes shown, not by the log.

use std::collections::{BTreeMap, HashSet};

use cordon_audit::{
    Record, escape,
    past::NotAgain,
    read::{ReadError, Reader},
};
use cordon_policy::{Operation, Request, Snapshot};
use serde::Serialize;

use crate::{
    access,
    outcome::{Change, Outcome, word},
    pasts::{Counting, Pasts},
    records::{Selection, each_record},
    tally::Bounded,
};

/// What a candidate changes about recorded requests.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Decisions read.
    pub decisions: u64,
    /// Decisions decided again.
    pub replayed: u64,
    /// Of these, recorded as allowed.
    pub were_allowed: u64,
    /// Same outcome, by whatever rules.
    pub same: u64,
    /// Same outcome, by other rules than were recorded.
    pub by_other_rules: u64,
    /// Were refused, would be allowed.
    pub newly_allowed: u64,
    /// Were allowed, would be refused.
    pub newly_denied: u64,
    /// Refused before and after, one of them with an approval that would help.
    pub refused_otherwise: u64,
    /// Decisions that cannot be decided again, by reason in words.
    pub not_replayed: BTreeMap<String, u64>,
    /// What changes, most frequent first.
    pub changes: Vec<Line>,
    /// Changed decisions that `changes` has no room for.
    pub more_changes: u64,
    /// Changed decisions by user.
    pub by_user: Vec<Count>,
    /// Changed decisions by session.
    pub by_session: Vec<Count>,
    /// Changed decisions by destination: host and port, folder, and so on.
    pub by_destination: Vec<Count>,
    /// Changed decisions by the rule that determines the new outcome; `-` is the default deny.
    pub by_rule: Vec<Count>,
}

/// One change, of all requests alike.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// What becomes of it.
    pub change: Change,
    /// Who asked.
    pub user: String,
    /// What was asked, in words.
    pub what: String,
    /// What was recorded.
    pub was: String,
    /// What the candidate says.
    pub now: Outcome,
    /// How often.
    pub count: u64,
    /// Sessions, up to [`Report::MOST_SESSIONS`].
    pub sessions: usize,
    /// First time, microseconds since the epoch.
    pub first_us: u64,
    /// Last time, microseconds since the epoch.
    pub last_us: u64,
    /// Id of the first record.
    pub example: String,
}

/// How often changes met one name.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Count {
    /// User, session, destination or rule.
    pub name: String,
    /// Newly allowed.
    pub newly_allowed: u64,
    /// Newly denied.
    pub newly_denied: u64,
    /// Refused otherwise.
    pub refused_otherwise: u64,
}

/// Decides again what `selection` selects.
///
/// # Errors
/// [`ReadError`] when the log cannot be read or is damaged; nothing is reported then, because a
/// part would look like the whole.
pub fn replay(
    log: &Reader,
    candidate: &Snapshot,
    selection: &Selection,
) -> Result<Report, ReadError> {
    let mut replay = Replay::new();
    let mut pasts = Pasts::new(log, selection, Counting::By(candidate))?;
    each_record(log, selection, |record, is_selected, sessions| {
        if !is_selected {
            return pasts.pass(record, sessions);
        }
        replay.report.decisions += 1;
        let again = match &record.access {
            Some(access) => access::again(access, record, candidate)
                .map(|(words, outcome)| (Asked::of_application(record, words), outcome)),
            None => pasts
                .decide(record, candidate, sessions)?
                .map(|again| (Asked::of_session(&again.request), again.outcome)),
        };
        match again {
            Ok((asked, now)) => replay.compare(record, asked, now),
            Err(why) => replay.leave_out(why),
        }
        Ok(())
    })?;
    Ok(replay.finish())
}

impl Report {
    /// Most different changes kept.
    pub const MOST_LINES: usize = 10_000;
    /// Most names kept in each table of counts.
    pub const MOST_NAMES: usize = 10_000;
    /// Most sessions counted for one change.
    pub const MOST_SESSIONS: usize = 1_000;

    /// Newly denied in hundredths of a per cent of what was allowed, rounded up, so that a share
    /// above a bound is never shown as within it.
    pub fn newly_denied_basis_points(&self) -> u64 {
        match self.were_allowed {
            0 => 0,
            allowed => (self.newly_denied.saturating_mul(10_000)).div_ceil(allowed),
        }
    }
}

#[derive(Debug)]
struct Replay {
    report: Report,
    lines: Bounded<Key, (Line, HashSet<String>)>,
    users: Bounded<String, Count>,
    sessions: Bounded<String, Count>,
    destinations: Bounded<String, Count>,
    rules: Bounded<String, Count>,
}

type Key = (String, String, String, String);

/// What was asked, as the tables name it.
struct Asked {
    user: String,
    what: String,
    destination: String,
}

impl Asked {
    fn of_session(request: &Request) -> Self {
        Self {
            user: request.session.user.clone(),
            what: request.operation.to_string(),
            destination: destination(&request.operation),
        }
    }

    /// Whoever asked, a program mostly, is the user of the API that it came as.
    fn of_application(record: &Record, what: String) -> Self {
        let caller = record.principal.as_ref();
        Self {
            user: caller.map(|caller| caller.id.clone()).unwrap_or_default(),
            destination: what.clone(),
            what,
        }
    }
}

impl Replay {
    fn new() -> Self {
        let names = || Bounded::new(Report::MOST_NAMES);
        Self {
            report: Report::default(),
            lines: Bounded::new(Report::MOST_LINES),
            users: names(),
            sessions: names(),
            destinations: names(),
            rules: names(),
        }
    }

    fn leave_out(&mut self, why: NotAgain) {
        *self.report.not_replayed.entry(why.to_string()).or_default() += 1;
    }

    fn compare(&mut self, record: &Record, asked: Asked, now: Outcome) {
        let Some(was) = record.effect else {
            return self.leave_out(NotAgain::Incomplete);
        };
        self.report.replayed += 1;
        self.report.were_allowed += u64::from(was == cordon_audit::Effect::Allow);
        let Some(change) = Change::between(was, now.effect) else {
            self.report.same += 1;
            let recorded = record.rules.as_deref().unwrap_or_default();
            self.report.by_other_rules += u64::from(recorded != now.rules);
            return;
        };
        *match change {
            Change::NewlyAllowed => &mut self.report.newly_allowed,
            Change::NewlyDenied => &mut self.report.newly_denied,
            Change::OtherRefusal => &mut self.report.refused_otherwise,
        } += 1;
        self.count(record, &asked, change, &now);
        self.line(record, asked, change, now);
    }

    fn count(&mut self, record: &Record, asked: &Asked, change: Change, now: &Outcome) {
        let rules = if now.rules.is_empty() {
            vec!["-".to_owned()]
        } else {
            now.rules.clone()
        };
        let session = record.session.clone().unwrap_or_default();
        bump(&mut self.users, asked.user.clone(), change);
        bump(&mut self.sessions, session, change);
        bump(&mut self.destinations, asked.destination.clone(), change);
        for rule in rules {
            bump(&mut self.rules, rule, change);
        }
    }

    fn line(&mut self, record: &Record, asked: Asked, change: Change, now: Outcome) {
        let user = escape(&asked.user).to_string();
        let what = escape(&asked.what).to_string();
        let was = recorded_words(record);
        let key = (user.clone(), what.clone(), was.clone(), now.words());
        let make = || {
            let line = Line {
                change,
                user,
                what,
                was,
                now,
                count: 0,
                sessions: 0,
                first_us: record.ts_us,
                last_us: record.ts_us,
                example: record.id.to_string(),
            };
            (line, HashSet::new())
        };
        if let Some((line, sessions)) = self.lines.entry(key, make) {
            line.count += 1;
            line.first_us = line.first_us.min(record.ts_us);
            line.last_us = line.last_us.max(record.ts_us);
            if sessions.len() < Report::MOST_SESSIONS
                && let Some(session) = &record.session
                && !sessions.contains(session)
            {
                sessions.insert(session.clone());
            }
        }
    }

    fn finish(self) -> Report {
        let mut report = self.report;
        report.more_changes = self.lines.others();
        report.changes = self
            .lines
            .into_kept()
            .into_values()
            .map(|(mut line, sessions)| {
                line.sessions = sessions.len();
                line
            })
            .collect();
        report.changes.sort_by(|a, b| {
            (b.count, a.change, &a.what, &a.user).cmp(&(a.count, b.change, &b.what, &b.user))
        });
        report.by_user = sorted(self.users);
        report.by_session = sorted(self.sessions);
        report.by_destination = sorted(self.destinations);
        report.by_rule = sorted(self.rules);
        report
    }
}

fn bump(table: &mut Bounded<String, Count>, name: String, change: Change) {
    let shown = escape(&name).to_string();
    let make = || Count {
        name: shown,
        newly_allowed: 0,
        newly_denied: 0,
        refused_otherwise: 0,
    };
    if let Some(count) = table.entry(name, make) {
        *match change {
            Change::NewlyAllowed => &mut count.newly_allowed,
            Change::NewlyDenied => &mut count.newly_denied,
            Change::OtherRefusal => &mut count.refused_otherwise,
        } += 1;
    }
}

fn sorted(table: Bounded<String, Count>) -> Vec<Count> {
    let mut counts: Vec<Count> = table.into_kept().into_values().collect();
    let total = |count: &Count| count.newly_allowed + count.newly_denied + count.refused_otherwise;
    counts.sort_by(|a, b| total(b).cmp(&total(a)).then_with(|| a.name.cmp(&b.name)));
    counts
}

/// Where a request leads to, without what differs from request to request.
fn destination(operation: &Operation) -> String {
    match operation {
        Operation::Connect { destination, .. }
        | Operation::HttpRequest { destination, .. }
        | Operation::ReachAddress { destination, .. } => destination.to_string(),
        Operation::GrantFolder { path, .. }
        | Operation::DeletePath { path, .. }
        | Operation::ReadPath { path, .. }
        | Operation::WritePath { path, .. } => path.display().to_string(),
        Operation::OpenOrigin { origin } | Operation::ActInOrigin { origin, .. } => {
            origin.to_string()
        }
        Operation::StartSession { .. }
        | Operation::ExecInSession { .. }
        | Operation::PublishPort { .. }
        | Operation::EnableConnector { .. }
        | Operation::UseScope { .. }
        | Operation::InstallExtension { .. }
        | Operation::LoadExtension { .. }
        | Operation::UsePermission { .. }
        | Operation::CallTool { .. }
        | Operation::EnableBrowser
        | Operation::Approve { .. }
        | Operation::PublishPolicy { .. }
        | Operation::ManageSession { .. }
        | Operation::ReadLog { .. } => operation.to_string(),
    }
}

/// What was recorded, in a few words.
pub(crate) fn recorded_words(record: &Record) -> String {
    let effect = record.effect.map_or("-", word);
    let rules: Vec<String> = record
        .rules
        .iter()
        .flatten()
        .map(|rule| escape(rule).to_string())
        .collect();
    match (rules.is_empty(), &record.reason) {
        (false, _) => format!("{effect} by `{}`", rules.join("`, `")),
        (true, Some(reason)) => format!("{effect}: {}", escape(reason)),
        (true, None) => effect.to_owned(),
    }
}

#[cfg(test)]
mod tests;
