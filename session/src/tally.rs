//! What a session did, counted while it runs, so that its end need not read its records.
//!
//! Recorded decisions and ends of flows in; totals for the record of its end and lines for its
//! summary out. Bounded, whatever the session does. Decides nothing.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cordon_audit::{
    Event, FlowEnd, Permit, RecordId, action_of,
    record::{Counted, DestinationTotals, ReasonTotals, Totals},
};
use cordon_policy::{Asked, Basis, Deny, DenyReason, Operation, Request, Scheme};

mod destinations;
mod recent;

use self::{
    destinations::{Destinations, Place},
    recent::Recent,
};

/// The counts of one session.
#[derive(Debug, Default)]
pub struct Tally {
    counts: Mutex<Counts>,
}

/// One thing that was decided, so and so often: the same words for the same reason.
#[derive(Clone, Debug)]
pub struct Line {
    /// The first request of its kind, or the input that was none.
    pub asked: Arc<Asked>,
    /// Why it was refused, or would have been; `None` for what was allowed.
    pub refused: Option<DenyReason>,
    /// Whether it was let through all the same, because policy only observes.
    pub observed: bool,
    /// Id of the first determining rule; empty where none determined it.
    pub rule: String,
    /// Why, in words; empty for what was allowed.
    pub why: String,
    /// How often.
    pub count: u64,
    /// How many flows of it led nowhere.
    pub unreached: u64,
}

/// The lines of a session.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// In the order in which each came first.
    pub lines: Vec<Line>,
    /// Decisions that are in no line, because there were too many different ones.
    pub more: Counted,
    /// Bytes to the session.
    pub bytes_in: u64,
    /// Bytes from the session.
    pub bytes_out: u64,
    /// Records that the session caused.
    pub records: u64,
}

#[derive(Debug, Default)]
struct Counts {
    totals: Totals,
    refused: BTreeMap<&'static str, u64>,
    destinations: Destinations,
    lines: Lines,
    /// Where the line of each [`key`] is.
    places: HashMap<String, usize>,
    flows: HashMap<RecordId, Flow>,
    recent: Option<Recent>,
}

/// Where the end of a flow is counted.
#[derive(Debug)]
struct Flow {
    destination: Place,
    line: Option<usize>,
    /// Whether its bytes are a part of another flow's: a request inside an inspected tunnel.
    inside: bool,
}

impl Tally {
    /// Counts a recorded allow.
    pub fn allowed(&self, permit: &Permit) {
        let (request, basis) = (permit.request(), permit.basis());
        if self.lock().allowed_again(permit) {
            return;
        }
        let refused = basis.observed.as_ref().map(|observed| observed.reason);
        let why = || refused.map_or_else(String::new, |_observed| why_observed(basis));
        let key = match refused {
            None => key(false, rule(basis), &request.operation),
            Some(_) => key(true, &why(), &request.operation),
        };
        let destination = destination(request);
        let action = action_of(&request.operation);
        let counts = &mut *self.lock();
        counts.count(action, refused);
        counts.totals.files.granted += u64::from(action == "folder.grant");
        let asked = || Asked::Request(request.clone());
        let line = counts.line(key, refused, || new_line(asked(), refused, why(), basis));
        if let Some(destination) = destination {
            let destination = counts.destinations.place(destination);
            counts.destinations.at(destination).allowed += 1;
            let inside = is_inside(&request.operation);
            counts.began(permit.id(), destination, line, inside);
            counts.recent = Recent::of(request, basis, destination, line);
        }
    }

    /// Counts a refusal: when it is reached, because whoever asked may go away while it is being
    /// recorded.
    pub fn denied(&self, deny: &Deny) {
        let counts = &mut *self.lock();
        let why = why(deny);
        let (action, key) = match &deny.asked {
            Asked::Request(request) => {
                if let Some(destination) = destination(request) {
                    let destination = counts.destinations.place(destination);
                    counts.destinations.at(destination).denied += 1;
                }
                let is = |action| action_of(&request.operation) == action;
                counts.totals.files.refused += u64::from(is("folder.grant"));
                counts.totals.files.kept += u64::from(is("path.delete"));
                let key = key(true, &why, &request.operation);
                (action_of(&request.operation), key)
            }
            Asked::Raw(raw) => {
                let what = format!("{}\0{}", raw.door, raw.text);
                ("malformed", key(true, &why, what))
            }
        };
        counts.count(action, Some(deny.reason));
        let asked = || match &deny.asked {
            Asked::Request(request) => Asked::Request(request.clone()),
            Asked::Raw(raw) => Asked::Raw(raw.clone()),
        };
        let refused = Some(deny.reason);
        counts.line(key, refused, || {
            new_line(asked(), refused, why, &deny.basis)
        });
    }

    /// Counts what happened beside decisions.
    pub fn happened(&self, event: &Event) {
        let counts = &mut *self.lock();
        counts.lines.records += 1;
        let Event::FlowClosed {
            decision,
            bytes_out,
            bytes_in,
            end,
            ..
        } = event
        else {
            return;
        };
        let flow = counts.flows.remove(decision);
        let inside = flow.as_ref().is_some_and(|flow| flow.inside);
        let (bytes_in, bytes_out) = if inside {
            (0, 0)
        } else {
            (*bytes_in, *bytes_out)
        };
        counts.lines.bytes_in += bytes_in;
        counts.lines.bytes_out += bytes_out;
        let Some(flow) = flow else {
            return;
        };
        let unreached = u64::from(matches!(
            end,
            FlowEnd::ResolveFailed | FlowEnd::ConnectFailed
        ));
        let destination = counts.destinations.at(flow.destination);
        destination.bytes_in += bytes_in;
        destination.bytes_out += bytes_out;
        destination.unreached += unreached;
        if let Some(line) = flow.line.and_then(|at| counts.lines.lines.get_mut(at)) {
            line.unreached += unreached;
        }
    }

    /// What happened so far, for the record of the session's end.
    pub fn totals(&self) -> Totals {
        let counts = self.lock();
        let mut destinations = counts.destinations.counted.clone();
        let decisions = |of: &DestinationTotals| of.allowed + of.denied;
        destinations.sort_by(|a, b| {
            decisions(b)
                .cmp(&decisions(a))
                .then_with(|| a.id.cmp(&b.id))
        });
        let rest = destinations.split_off(destinations.len().min(NAMED));
        let mut others = counts.destinations.others.clone();
        for destination in &rest {
            others.allowed += destination.allowed;
            others.denied += destination.denied;
            others.bytes_in += destination.bytes_in;
            others.bytes_out += destination.bytes_out;
            others.unreached += destination.unreached;
        }
        others.id = match counts.destinations.is_full() {
            false => format!("{} others", rest.len()),
            true => format!("at least {} others", rest.len() + 1),
        };
        Totals {
            bytes_in: counts.lines.bytes_in,
            bytes_out: counts.lines.bytes_out,
            others: (decisions(&others) > 0).then_some(others),
            destinations,
            refused: counts
                .refused
                .iter()
                .map(|(reason, count)| ReasonTotals {
                    count: *count,
                    reason: (*reason).into(),
                })
                .collect(),
            ..counts.totals.clone()
        }
    }

    /// How many flows are open.
    pub fn open_flows(&self) -> usize {
        self.lock().flows.len()
    }

    /// What happened so far, line by line.
    pub fn lines(&self) -> Lines {
        self.lock().lines.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Counts stay meaningful when a holder panicked: each is changed in one step.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it is a request inside a tunnel that is counted as such.
fn is_inside(operation: &Operation) -> bool {
    match operation {
        Operation::HttpRequest { facts, .. } => facts.scheme == Scheme::Https,
        _other => false,
    }
}

impl Counts {
    /// Counts an allow where the last one was counted, if that is where it belongs.
    fn allowed_again(&mut self, permit: &Permit) -> bool {
        let request = permit.request();
        let Some(recent) = &self.recent else {
            return false;
        };
        if !recent.is_as(request, permit.basis()) {
            return false;
        }
        let (destination, line) = recent.place();
        self.count(action_of(&request.operation), None);
        match line.and_then(|at| self.lines.lines.get_mut(at)) {
            Some(line) => line.count += 1,
            None => add(&mut self.lines.more, None),
        }
        self.destinations.at(destination).allowed += 1;
        self.began(
            permit.id(),
            destination,
            line,
            is_inside(&request.operation),
        );
        true
    }

    /// Notes where the end of a flow is to be counted.
    fn began(&mut self, id: RecordId, destination: Place, line: Option<usize>, inside: bool) {
        if self.flows.len() < MAX_FLOWS {
            let flow = Flow {
                destination,
                line,
                inside,
            };
            self.flows.insert(id, flow);
        }
    }

    /// Counts one decision by action, effect and reason.
    fn count(&mut self, action: &str, refused: Option<DenyReason>) {
        self.lines.records += 1;
        add(&mut self.totals.decisions, refused);
        // Actions are a fixed vocabulary, so this stays small.
        match self.totals.actions.get_mut(action) {
            Some(counted) => add(counted, refused),
            None => add(
                self.totals.actions.entry(action.into()).or_default(),
                refused,
            ),
        }
        if let Some(reason) = refused {
            *self.refused.entry(reason.code()).or_default() += 1;
        }
    }

    /// Counts one decision in its line, and says which that is.
    fn line(
        &mut self,
        key: String,
        refused: Option<DenyReason>,
        make: impl FnOnce() -> Line,
    ) -> Option<usize> {
        let at = match self.places.get(&key) {
            Some(at) => *at,
            None if self.lines.lines.len() >= MAX_LINES => {
                add(&mut self.lines.more, refused);
                return None;
            }
            None => {
                let at = self.lines.lines.len();
                self.lines.lines.push(make());
                self.places.insert(key, at);
                at
            }
        };
        if let Some(line) = self.lines.lines.get_mut(at) {
            line.count += 1;
        }
        Some(at)
    }
}

/// What decisions of one line share: outcome, reason and what was asked, told apart whatever
/// stands in them.
fn key(refused: bool, because: &str, what: impl Display) -> String {
    format!("{}{}:{because}{what}", u8::from(refused), because.len())
}

/// A line in which nothing is counted yet.
fn new_line(asked: Asked, refused: Option<DenyReason>, why: String, basis: &Basis) -> Line {
    Line {
        asked: Arc::new(asked),
        refused,
        observed: basis.observed.is_some(),
        rule: rule(basis).into(),
        why,
        count: 0,
        unreached: 0,
    }
}

/// Id of the first determining rule; empty where there is none.
fn rule(basis: &Basis) -> &str {
    let rules = match &basis.observed {
        Some(observed) => &observed.rules,
        None => &basis.rules,
    };
    rules.first().map_or("", |rule| &rule.id)
}

/// Where a network request leads.
fn destination(request: &Request) -> Option<String> {
    match &request.operation {
        Operation::Connect { destination, .. }
        | Operation::HttpRequest { destination, .. }
        | Operation::ReachAddress { destination, .. } => Some(destination.to_string()),
        Operation::OpenOrigin { origin } | Operation::ActInOrigin { origin, .. } => {
            Some(origin.destination.to_string())
        }
        Operation::StartSession { .. }
        | Operation::ExecInSession { .. }
        | Operation::PublishPort { .. }
        | Operation::GrantFolder { .. }
        | Operation::DeletePath { .. }
        | Operation::ReadPath { .. }
        | Operation::WritePath { .. }
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
        | Operation::ReadLog { .. } => None,
    }
}

/// Why, in words: what was wrong with the input, else the rule's own words.
fn why(deny: &Deny) -> String {
    match (&deny.asked, deny.basis.errors.first()) {
        (Asked::Raw(raw), _) => raw.problem.clone(),
        (Asked::Request(_), Some(error)) => error.clone(),
        (Asked::Request(_), None) => deny.why(),
    }
}

fn why_observed(basis: &Basis) -> String {
    let Some(observed) = &basis.observed else {
        return String::new();
    };
    match observed.rules.first() {
        Some(rule) => format!("{} (rule `{}`)", observed.reason.words(), rule.id),
        None => observed.reason.words().into(),
    }
}

fn add(counted: &mut Counted, refused: Option<DenyReason>) {
    let count = match refused {
        None => &mut counted.allow,
        Some(DenyReason::ApprovalRequired) => &mut counted.ask,
        Some(DenyReason::EvaluationError) => &mut counted.error,
        Some(
            DenyReason::DefaultDeny
            | DenyReason::Rule
            | DenyReason::Malformed
            | DenyReason::AddressNotPermitted
            | DenyReason::GrantMode
            | DenyReason::ProtectedFolder
            | DenyReason::Unavailable
            | DenyReason::TlsMismatch
            | DenyReason::TlsHidden
            | DenyReason::NotTls
            | DenyReason::Limit
            | DenyReason::Credential,
        ) => &mut counted.deny,
    };
    *count += 1;
}

/// Destinations that the record of the end names.
const NAMED: usize = 24;

/// Different decisions that are counted one by one.
const MAX_LINES: usize = 512;

/// Flows whose end is waited for; more than a session can have open at a time.
const MAX_FLOWS: usize = 16_384;

#[cfg(test)]
mod tests;
