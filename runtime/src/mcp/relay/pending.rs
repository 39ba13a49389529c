//! Requests that wait for their answer, by our ids and by theirs.

use std::collections::HashMap;

use super::super::Id;

/// Requests in one direction.
#[derive(Debug)]
pub(super) struct Pending<T> {
    next: i64,
    open: HashMap<i64, (Option<Id>, T)>,
    theirs: HashMap<Id, i64>,
}

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NotTaken {
    /// Its id is in use.
    Reused,
    /// Too many wait already.
    Full,
}

impl NotTaken {
    pub(super) fn why(self) -> &'static str {
        match self {
            Self::Reused => "another request with this id waits for its answer",
            Self::Full => "too many requests wait for their answers",
        }
    }
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self {
            next: 1,
            open: HashMap::new(),
            theirs: HashMap::new(),
        }
    }
}

impl<T> Pending<T> {
    /// Whether no more is taken.
    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= MOST
    }

    /// Whether, and why, a request of theirs with this id would not be taken.
    pub(super) fn would_not_take(&self, theirs: &Id) -> Option<NotTaken> {
        if self.is_full() {
            Some(NotTaken::Full)
        } else {
            self.has(theirs).then_some(NotTaken::Reused)
        }
    }

    /// Takes a request of theirs, or one of our own; gives our id for it.
    pub(super) fn open(&mut self, theirs: Option<Id>, what: T) -> Result<i64, NotTaken> {
        if self.is_full() {
            return Err(NotTaken::Full);
        }
        if let Some(id) = &theirs {
            if self.has(id) {
                return Err(NotTaken::Reused);
            }
            self.theirs.insert(id.clone(), self.next);
        }
        let ours = self.next;
        self.next = self.next.saturating_add(1);
        self.open.insert(ours, (theirs, what));
        Ok(ours)
    }

    /// An answer came to one of ours: what it was, once.
    pub(super) fn close(&mut self, ours: &Id) -> Option<(Option<Id>, T)> {
        let Id::Number(ours) = ours else {
            return None;
        };
        let (theirs, what) = self.open.remove(ours)?;
        if let Some(id) = &theirs {
            self.theirs.remove(id);
        }
        Some((theirs, what))
    }

    /// Nobody waits for theirs any more: our id for it.
    pub(super) fn cancel(&mut self, theirs: &Id) -> Option<i64> {
        let ours = self.theirs.remove(theirs)?;
        self.open.remove(&ours);
        Some(ours)
    }

    /// Whether a request of theirs with this id waits.
    pub(super) fn has(&self, theirs: &Id) -> bool {
        self.theirs.contains_key(theirs)
    }

    /// Everybody who still waits.
    pub(super) fn drain(&mut self) -> Vec<Id> {
        self.theirs.clear();
        let open = std::mem::take(&mut self.open);
        let mut ours: Vec<_> = open.into_iter().collect();
        ours.sort_unstable_by_key(|(ours, _)| *ours);
        ours.into_iter()
            .filter_map(|(_, (theirs, _))| theirs)
            .collect()
    }
}

/// Requests in one direction that wait at a time.
pub(super) const MOST: usize = 1024;
