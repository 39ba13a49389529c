//! What one session did so far, as policy is told it: counts by session and destination, labels.
//!
//! What was allowed and what moved in; facts of the next request out. Bounded, and what is over the
//! bound counts as much as can be: never less than there was. Decides nothing, records nothing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use cordon_policy::{
    Destination, DestinationPast, History, MAX_LENGTH, Operation, Past, SessionPast,
};

pub use self::retold::{Open, was_let_through};

/// What one session did so far.
#[derive(Debug, Default)]
pub struct Ledger {
    counts: Mutex<Counts>,
    moved: Arc<Moved>,
    /// Whether a grant alone lets nothing be read.
    each_file: AtomicBool,
}

#[derive(Debug, Default)]
struct Counts {
    /// Whether something is missing, so that nothing can be told.
    lost: bool,
    /// Each with whether the log has it.
    labels: BTreeMap<Arc<str>, bool>,
    requests: u64,
    destinations: u64,
    deletes: u64,
    tool_calls: u64,
    by_destination: HashMap<Destination, One>,
}

/// What was done with one destination.
#[derive(Debug, Default)]
struct One {
    requests: u64,
    moved: Arc<Moved>,
}

/// Bytes, seen from the session.
#[derive(Debug, Default)]
struct Moved {
    sent: AtomicU64,
    received: AtomicU64,
}

/// Where the bytes of one connection are counted, while they move.
#[derive(Clone, Debug, Default)]
pub struct Bytes {
    /// Of the session, and of the destination where that is counted by itself.
    counted: Vec<Arc<Moved>>,
}

/// The counts, standing still for one decision.
#[derive(Debug)]
pub struct Turn<'a> {
    counts: MutexGuard<'a, Counts>,
    before: History,
}

/// What is looked at again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Review {
    /// Something that was allowed and is counted: it is looked at as though it were not.
    Done,
    /// Something that nobody did yet.
    New,
}

/// Destinations that are counted one by one. Each further one is never seen before, and its counts
/// are as high as they can be.
const MAX_DESTINATIONS: usize = 4_096;

/// Labels that one session can have. Beyond it nothing is known of it any more.
const MAX_LABELS: usize = 1_024;

impl Ledger {
    /// What the session did before `operation`.
    pub fn before(&self, operation: &Operation, review: Review) -> History {
        let mut before = self.lock().before(operation, &self.moved);
        if let (History::Known(past), Review::Done) = (&mut before, review) {
            without(past, operation);
        }
        before
    }

    /// The counts stand still until the turn is over.
    pub fn turn(&self, operation: &Operation) -> Turn<'_> {
        let counts = self.lock();
        Turn {
            before: counts.before(operation, &self.moved),
            counts,
        }
    }

    /// As [`Turn::count`], of what was decided whatever the counts are.
    pub fn count(&self, operation: &Operation, labels: Vec<Arc<str>>) -> Vec<Arc<str>> {
        self.lock().count(operation, labels)
    }

    /// The log has this label now.
    pub fn recorded(&self, label: &str) {
        if let Some(recorded) = self.lock().labels.get_mut(label) {
            *recorded = true;
        }
    }

    /// Each file is asked for by itself, so a grant alone is no reading.
    pub fn asks_for_each_file(&self) {
        self.each_file.store(true, Relaxed);
    }

    /// Whether by this something can be read.
    pub fn is_read_by(&self, operation: &Operation) -> bool {
        !(matches!(operation, Operation::GrantFolder { .. }) && self.each_file.load(Relaxed))
    }

    /// Where bytes from and to a destination are counted.
    pub fn bytes(&self, destination: Option<&Destination>) -> Bytes {
        let counts = self.lock();
        let one = destination.and_then(|destination| counts.by_destination.get(destination));
        let one = one.map(|one| Arc::clone(&one.moved));
        Bytes {
            counted: std::iter::once(Arc::clone(&self.moved))
                .chain(one)
                .collect(),
        }
    }

    /// Everything that it did; `None` where that is not known any more.
    pub fn session(&self) -> Option<SessionPast> {
        let counts = self.lock();
        (!counts.lost).then(|| counts.session(&self.moved))
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // A holder that panicked may have counted in part, and a rule must not go by that.
        self.counts
            .lock()
            .unwrap_or_else(|poisoned: PoisonError<_>| {
                let mut counts = poisoned.into_inner();
                counts.lost = true;
                counts
            })
    }
}

impl Turn<'_> {
    /// What the session did before.
    pub fn before(&self) -> &History {
        &self.before
    }

    /// Counts what was allowed, with the labels that the session takes on by it. Gives back those
    /// that the log does not have yet.
    pub fn count(mut self, operation: &Operation, labels: Vec<Arc<str>>) -> Vec<Arc<str>> {
        self.counts.count(operation, labels)
    }
}

impl Bytes {
    /// Counts bytes to the destination.
    pub fn sent(&self, bytes: u64) {
        for moved in &self.counted {
            moved.sent.fetch_add(bytes, Relaxed);
        }
    }

    /// Counts bytes from the destination.
    pub fn received(&self, bytes: u64) {
        for moved in &self.counted {
            moved.received.fetch_add(bytes, Relaxed);
        }
    }
}

impl Counts {
    fn before(&self, operation: &Operation, moved: &Moved) -> History {
        if self.lost {
            return History::Unknown;
        }
        let destination =
            operation
                .destination()
                .map(|destination| match self.by_destination.get(destination) {
                    Some(one) => DestinationPast {
                        seen: true,
                        requests: one.requests,
                        bytes_sent: one.moved.sent.load(Relaxed),
                        bytes_received: one.moved.received.load(Relaxed),
                    },
                    None if self.is_full() => DestinationPast {
                        seen: false,
                        requests: MAX_LENGTH,
                        bytes_sent: MAX_LENGTH,
                        bytes_received: MAX_LENGTH,
                    },
                    None => DestinationPast::default(),
                });
        History::Known(Box::new(Past {
            session: self.session(moved),
            destination: destination.unwrap_or_default(),
        }))
    }

    fn session(&self, moved: &Moved) -> SessionPast {
        SessionPast {
            labels: self.labels.keys().cloned().collect(),
            requests: self.requests,
            destinations: self.destinations,
            bytes_sent: moved.sent.load(Relaxed),
            bytes_received: moved.received.load(Relaxed),
            deletes: self.deletes,
            tool_calls: self.tool_calls,
        }
    }

    fn count(&mut self, operation: &Operation, labels: Vec<Arc<str>>) -> Vec<Arc<str>> {
        let adds = Adds::of(operation);
        self.requests += adds.requests;
        self.deletes += adds.deletes;
        self.tool_calls += adds.tool_calls;
        if let Some(destination) = adds.destination {
            match self.by_destination.get_mut(destination) {
                Some(one) => one.requests += adds.requests,
                None => {
                    self.destinations += 1;
                    if !self.is_full() {
                        let one = One {
                            requests: adds.requests,
                            ..One::default()
                        };
                        self.by_destination.insert(destination.clone(), one);
                    }
                }
            }
        }
        let mut fresh = Vec::new();
        for label in labels {
            if self.labels.len() >= MAX_LABELS && !self.labels.contains_key(&label) {
                self.lost = true;
                continue;
            }
            let recorded = self.labels.entry(Arc::clone(&label)).or_default();
            if !*recorded && !fresh.contains(&label) {
                fresh.push(label);
            }
        }
        fresh
    }

    fn is_full(&self) -> bool {
        self.by_destination.len() >= MAX_DESTINATIONS
    }
}

/// What one operation counts as.
#[derive(Debug, Default)]
struct Adds<'a> {
    destination: Option<&'a Destination>,
    requests: u64,
    deletes: u64,
    tool_calls: u64,
}

impl<'a> Adds<'a> {
    fn of(operation: &'a Operation) -> Self {
        match operation {
            Operation::Connect { destination, .. } => Self::request(destination),
            Operation::HttpRequest {
                destination,
                method,
                ..
            } => Self {
                deletes: u64::from(method.0 == "DELETE"),
                ..Self::request(destination)
            },
            Operation::OpenOrigin { origin } => Self::request(&origin.destination),
            Operation::ActInOrigin { origin, .. } => Self {
                destination: Some(&origin.destination),
                ..Self::default()
            },
            Operation::DeletePath { .. } => Self {
                deletes: 1,
                ..Self::default()
            },
            Operation::CallTool { .. } => Self {
                tool_calls: 1,
                ..Self::default()
            },
            Operation::StartSession { .. }
            | Operation::ExecInSession { .. }
            | Operation::PublishPort { .. }
            | Operation::GrantFolder { .. }
            | Operation::ReadPath { .. }
            | Operation::WritePath { .. }
            | Operation::ReachAddress { .. }
            | Operation::EnableConnector { .. }
            | Operation::UseScope { .. }
            | Operation::InstallExtension { .. }
            | Operation::LoadExtension { .. }
            | Operation::UsePermission { .. }
            | Operation::EnableBrowser
            | Operation::Approve { .. }
            | Operation::PublishPolicy { .. }
            | Operation::ManageSession { .. }
            | Operation::ReadLog { .. } => Self::default(),
        }
    }

    fn request(destination: &'a Destination) -> Self {
        Self {
            destination: Some(destination),
            requests: 1,
            ..Self::default()
        }
    }
}

/// The past without `operation`, which is counted in it: the last of a budget is not refused for
/// being counted. What it reached stays reached.
fn without(past: &mut Past, operation: &Operation) {
    let adds = Adds::of(operation);
    let Past {
        session,
        destination,
    } = past;
    if adds.destination.is_some() && destination.requests <= adds.requests {
        session.destinations = session.destinations.saturating_sub(1);
    }
    session.requests = session.requests.saturating_sub(adds.requests);
    session.deletes = session.deletes.saturating_sub(adds.deletes);
    session.tool_calls = session.tool_calls.saturating_sub(adds.tool_calls);
    destination.requests = destination.requests.saturating_sub(adds.requests);
}

mod retold;

#[cfg(test)]
mod tests;
