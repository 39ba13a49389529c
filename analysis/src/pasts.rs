//! What each session had done before each of its recorded decisions, so that rules about budgets
//! and labels are decided again by what they saw.
//!
//! The records of a log in their order in, each decision once more with its past out. Where the log
//! does not tell that past, this says so. Bounded: [`MOST`] sessions are followed at a time, and of
//! further ones the beginning is read again.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use cordon_audit::{
    Effect, Kind, Record,
    past::{NotAgain, Sessions, is_of_people},
    read::{ReadError, Reader},
};
use cordon_policy::{
    Backend, Decision, History, MAX_LENGTH, Operation, Request, Snapshot, labels_in,
};
use cordon_session::past::{Ledger, Open, Review, was_let_through};

use crate::{
    outcome::{Outcome, given},
    records::{Selection, each_record, request_of},
};

/// What counts as done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Counting<'a> {
    /// What was done.
    AsRecorded,
    /// What this set would have let be done: its budgets are used up by what it allows itself.
    By(&'a Snapshot),
}

/// The sessions of a log, each with what it did so far.
pub(crate) struct Pasts<'a> {
    log: &'a Reader,
    counting: Counting<'a>,
    sessions: HashMap<String, One>,
    /// Whether a session that is not among them has not begun yet.
    is_complete: bool,
    moved: Moved,
}

/// Bytes out and in that are still to come of each session whose end is in the log.
#[derive(Debug, Default)]
struct Moved(HashMap<String, (u64, u64)>);

/// One session so far.
#[derive(Debug, Default)]
struct One {
    ledger: Ledger,
    open: Open,
    /// Labels whose records came: each stands before that of what gave it.
    coming: Vec<Arc<str>>,
}

/// A decision once more.
pub(crate) struct Again {
    pub(crate) request: Request,
    /// What its session had done before.
    pub(crate) past: History,
    pub(crate) outcome: Outcome,
}

impl Again {
    fn of(record: &Record, request: Request, past: History, snapshot: &Snapshot) -> Self {
        let decision = snapshot.decide_after(&past, request.clone(), given(record));
        Self {
            request,
            past,
            outcome: Outcome::from(decision),
        }
    }

    /// What would have been decided at another time.
    pub(crate) fn at(&self, time: SystemTime, record: &Record, snapshot: &Snapshot) -> Outcome {
        let request = Request {
            at: time,
            ..self.request.clone()
        };
        Self::of(record, request, self.past.clone(), snapshot).outcome
    }
}

impl<'a> Pasts<'a> {
    /// For the records of `selection`, in their order.
    pub(crate) fn new(
        log: &'a Reader,
        selection: &Selection,
        counting: Counting<'a>,
    ) -> Result<Self, ReadError> {
        let moved = match counting {
            Counting::By(snapshot) if snapshot.reads_past() => Moved::of(log, selection)?,
            Counting::By(_) | Counting::AsRecorded => Moved::default(),
        };
        Ok(Self {
            log,
            counting,
            sessions: HashMap::new(),
            is_complete: selection.since.is_none(),
            moved,
        })
    }

    /// Decides a record again by `snapshot`, with what its session had done before, and counts it.
    pub(crate) fn decide(
        &mut self,
        record: &Record,
        snapshot: &Snapshot,
        sessions: &mut Sessions,
    ) -> Result<Result<Again, NotAgain>, ReadError> {
        let request = request_of(record, sessions, self.log)?;
        if !snapshot.reads_past() {
            self.pass(record, sessions)?;
            return Ok(
                request.map(|request| Again::of(record, request, History::Unknown, snapshot))
            );
        }
        let id = record.session.clone().unwrap_or_default();
        if !self.sessions.contains_key(&id) {
            let one = self.begun(record, &id, sessions)?;
            self.keep(id.clone(), one);
        }
        let (counting, to_come) = (self.counting, self.moved.to_come(&id));
        let one = self.sessions.entry(id).or_default();
        Ok(one.step(record, request, snapshot, counting, to_come))
    }

    /// Takes in a record that is not decided again.
    pub(crate) fn pass(
        &mut self,
        record: &Record,
        sessions: &mut Sessions,
    ) -> Result<(), ReadError> {
        let is_read = match self.counting {
            Counting::By(snapshot) => snapshot.reads_past(),
            Counting::AsRecorded => true,
        };
        let Some(id) = record.session.as_deref().filter(|_| is_read) else {
            return Ok(());
        };
        self.moved.came(id, record);
        if record.kind == Kind::SessionEnd {
            self.sessions.remove(id);
            return Ok(());
        }
        if self.is_complete && is_start(record) && !self.sessions.contains_key(id) {
            self.keep(id.to_owned(), One::default());
        }
        let to_come = self.moved.to_come(id);
        match self.sessions.get_mut(id) {
            Some(one) => one.take(record, self.log, sessions, self.counting, to_come),
            None => Ok(()),
        }
    }

    /// A session that is met for the first time, with what it did before `record`.
    fn begun(&self, record: &Record, id: &str, sessions: &mut Sessions) -> Result<One, ReadError> {
        let mut one = One::default();
        if self.is_complete && is_start(record) {
            return Ok(one);
        }
        let all = self.log.session(id)?;
        let earlier: Vec<&Record> = all.iter().take_while(|one| one.seq < record.seq).collect();
        if !is_start(record) && !earlier.iter().any(|record| is_start(record)) {
            // Of a session whose beginning the log does not hold (any more) nobody knows the rest.
            one.ledger.lose();
        }
        for earlier in earlier {
            one.take(
                earlier,
                self.log,
                sessions,
                self.counting,
                self.moved.to_come(id),
            )?;
        }
        Ok(one)
    }

    fn keep(&mut self, id: String, one: One) {
        if self.sessions.len() >= MOST {
            self.sessions.clear();
            self.is_complete = false;
        }
        self.sessions.insert(id, one);
    }
}

impl One {
    /// Takes in a record that is not decided again.
    fn take(
        &mut self,
        record: &Record,
        log: &Reader,
        sessions: &mut Sessions,
        counting: Counting<'_>,
        to_come: (u64, u64),
    ) -> Result<(), ReadError> {
        if !record.is_decision() {
            self.happened(record, counting);
            return Ok(());
        }
        let request = request_of(record, sessions, log)?;
        match counting {
            Counting::By(snapshot) => {
                let _not_asked = self.step(record, request, snapshot, counting, to_come);
            }
            Counting::AsRecorded => self.as_recorded(record, request.as_ref().ok()),
        }
        Ok(())
    }

    /// Decides a record again and counts it.
    fn step(
        &mut self,
        record: &Record,
        request: Result<Request, NotAgain>,
        snapshot: &Snapshot,
        counting: Counting<'_>,
        to_come: (u64, u64),
    ) -> Result<Again, NotAgain> {
        let request = match request {
            Ok(request) => request,
            Err(why) => {
                self.as_recorded(record, None);
                return Err(why);
            }
        };
        let operation = &request.operation;
        let decide = |past: &History| snapshot.decide_after(past, request.clone(), given(record));
        let past = self.ledger.before(operation, Review::New);
        let decision = decide(&past);
        let at_most = self.ledger.at_most(operation, to_come, &self.open);
        let at_most = at_most.map(|past| Outcome::from(decide(&past)));
        match counting {
            Counting::AsRecorded => self.as_recorded(record, Some(&request)),
            Counting::By(_) => {
                if let Decision::Allow(allow) = &decision {
                    let basis = &allow.verdict().basis;
                    let given = basis.obligation("label").flat_map(labels_in).map(Arc::from);
                    let mut labels: Vec<Arc<str>> = given.collect();
                    if is_reading(&request) {
                        labels.extend(snapshot.labels_of(operation));
                    }
                    self.ledger
                        .let_through(record.id, operation, labels, &mut self.open);
                }
            }
        }
        let outcome = Outcome::from(decision);
        if past == History::Unknown && outcome.effect == Effect::Error {
            return Err(NotAgain::NoPast);
        }
        match at_most {
            Some(at_most) if at_most != outcome => Err(NotAgain::OpenBytes),
            _exact => Ok(Again {
                request,
                past,
                outcome,
            }),
        }
    }

    /// Counts a decision as it was carried out.
    fn as_recorded(&mut self, record: &Record, request: Option<&Request>) {
        if !was_let_through(record) {
            return;
        }
        match request {
            Some(request) => {
                let labels = std::mem::take(&mut self.coming);
                self.ledger
                    .let_through(record.id, &request.operation, labels, &mut self.open);
            }
            // Acts of people for themselves are no part of it.
            None if is_of_people(record.action.as_deref()) => {}
            None => self.ledger.lose(),
        }
    }

    fn happened(&mut self, record: &Record, counting: Counting<'_>) {
        match (record.kind, counting) {
            (Kind::SessionState, Counting::AsRecorded)
                if record.state.as_deref() == Some("labels") =>
            {
                self.coming.extend(record.message.as_deref().map(Arc::from));
            }
            // Of what a candidate refuses nothing moves.
            (Kind::FlowClose, Counting::By(_)) if !self.open.is_of(record) => {}
            (Kind::FlowClose, _) => self.ledger.happened(record, &mut self.open),
            // Labels of a candidate are those of its own data and rules.
            _other => {}
        }
    }
}

/// Whether by this something can be read: without walls each file is asked for by itself, so a grant
/// alone lets nothing be read.
fn is_reading(request: &Request) -> bool {
    !(matches!(request.operation, Operation::GrantFolder { .. })
        && request.session.backend == Backend::None)
}

impl Moved {
    fn of(log: &Reader, selection: &Selection) -> Result<Self, ReadError> {
        let mut going: HashMap<String, (u64, u64)> = HashMap::new();
        let mut ended = HashMap::new();
        each_record(log, selection, |record, _selected, _sessions| {
            let Some(id) = &record.session else {
                return Ok(());
            };
            if going.len() + ended.len() >= MOST_SUMS && !going.contains_key(id) {
                return Ok(());
            }
            match record.kind {
                Kind::FlowClose => {
                    let (sent, received) = going.entry(id.clone()).or_default();
                    *sent = sent.saturating_add(record.bytes_out.unwrap_or(0));
                    *received = received.saturating_add(record.bytes_in.unwrap_or(0));
                }
                Kind::SessionEnd => {
                    ended.insert(id.clone(), going.remove(id).unwrap_or_default());
                }
                _other => {}
            }
            Ok(())
        })?;
        Ok(Self(ended))
    }

    /// A flow has ended: what it moved is counted.
    fn came(&mut self, session: &str, record: &Record) {
        if record.kind == Kind::FlowClose
            && let Some((sent, received)) = self.0.get_mut(session)
        {
            *sent = sent.saturating_sub(record.bytes_out.unwrap_or(0));
            *received = received.saturating_sub(record.bytes_in.unwrap_or(0));
        }
    }

    /// What a session can have moved that is not counted yet; without its end that is not known.
    fn to_come(&self, session: &str) -> (u64, u64) {
        let left = self.0.get(session).copied();
        left.unwrap_or((MAX_LENGTH, MAX_LENGTH))
    }
}

/// Whether a session begins with it. It begins again where its daemon was killed.
fn is_start(record: &Record) -> bool {
    record.action.as_deref() == Some("session.start")
}

/// Sessions that are followed at a time.
const MOST: usize = 10_000;

/// Sessions whose bytes are summed up; of others anything is possible.
const MOST_SUMS: usize = 100_000;

#[cfg(test)]
mod tests;
