//! Finds who may, what may be done, and to what: a bounded part of the candidates at a time.
//!
//! A question with one part missing in, a [`Page`] of what fits out. Candidates are the stored
//! entities, in the order of their ids; where a page ends is said by the last id it looked at.

use std::{collections::BTreeSet, time::Instant};

use cedar_policy::{Entities, EntityUid};
use serde_json::{Map, Value};

use super::{
    Application, Kind,
    ask::{Act, Named, Query},
};

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// Subjects of a type.
    Subject {
        /// The type.
        kind: &'a str,
        /// What they are to do.
        action: Act<'a>,
        /// To what.
        resource: Named<'a>,
    },
    /// Resources of a type.
    Resource {
        /// Who.
        subject: Named<'a>,
        /// Does what.
        action: Act<'a>,
        /// The type.
        kind: &'a str,
    },
    /// Actions.
    Action {
        /// Who.
        subject: Named<'a>,
        /// To what.
        resource: Named<'a>,
    },
}

/// One that fits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// The type, in the caller's words; absent for an action.
    pub kind: Option<String>,
    /// The id or name.
    pub id: String,
}

/// A part of what fits.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Page {
    /// In the order of their ids.
    pub found: Vec<Found>,
    /// Where to go on; `None` at the end.
    pub after: Option<String>,
    /// How many candidates were looked at.
    pub evaluated: usize,
}

/// Where a search stands, and how far it may go.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// What the caller says beside the question.
    pub context: Option<&'a Map<String, Value>>,
    /// The last id that the page before looked at.
    pub after: Option<&'a str>,
    /// Most that are found.
    pub found: usize,
    /// Most that are looked at.
    pub evaluated: usize,
    /// When it ends.
    pub until: Instant,
}

impl Application {
    /// Looks at the candidates after `search.after`, as far as its bounds allow. What is not there,
    /// or cannot be asked, fits nothing.
    pub fn search(&self, wanted: &Wanted<'_>, search: Search<'_>) -> Page {
        match *wanted {
            Wanted::Subject {
                kind,
                action,
                resource,
            } => self.entities_of(kind, resource, action, search, |one, other| (one, other)),
            Wanted::Resource {
                subject,
                action,
                kind,
            } => self.entities_of(kind, subject, action, search, |one, other| (other, one)),
            Wanted::Action { subject, resource } => {
                let names: BTreeSet<&String> = self.actions.keys().collect();
                let fits = |name: &str| {
                    let action = Act {
                        name,
                        properties: None,
                    };
                    let query = Query {
                        subject,
                        action,
                        resource,
                        context: search.context,
                    };
                    self.ask(&query).allowed
                };
                go_through(names.into_iter(), None, search, fits)
            }
        }
    }

    /// Entities of a type; `order` says which of it and the other one is the subject.
    fn entities_of(
        &self,
        kind: &str,
        other: Named<'_>,
        action: Act<'_>,
        search: Search<'_>,
        order: impl Fn(EntityUid, EntityUid) -> (EntityUid, EntityUid),
    ) -> Page {
        let prepared = || -> Option<(&Kind, EntityUid, std::borrow::Cow<'_, Entities>)> {
            let (uid, said) = self.entity(other).ok()?;
            let entities = self.entities_with(said.into_iter()).ok()?;
            Some((self.kind(kind).ok()?, uid, entities))
        };
        let (Some((found, other, entities)), Ok((action, context))) =
            (prepared(), self.act(action, search.context))
        else {
            return Page::default();
        };
        let fits = |id: &str| {
            let (subject, resource) = order(found.uid(id), other.clone());
            let answer = self.decide(
                subject,
                action.clone(),
                resource,
                context.clone(),
                &entities,
            );
            answer.is_ok_and(|answer| answer.allowed)
        };
        go_through(found.ids.iter(), Some(kind), search, fits)
    }
}

/// Looks at candidates, in the order of their ids.
fn go_through<'a>(
    ids: impl Iterator<Item = &'a String>,
    kind: Option<&str>,
    search: Search<'_>,
    fits: impl Fn(&str) -> bool,
) -> Page {
    let mut page = Page::default();
    let mut last: Option<&String> = None;
    for id in ids.filter(|id| search.after.is_none_or(|after| id.as_str() > after)) {
        let full = page.found.len() >= search.found || page.evaluated >= search.evaluated;
        // At least one each time, so that going on ends.
        if page.evaluated > 0 && (full || Instant::now() >= search.until) {
            page.after = last.cloned();
            return page;
        }
        page.evaluated += 1;
        last = Some(id);
        if fits(id) {
            page.found.push(Found {
                kind: kind.map(str::to_owned),
                id: id.clone(),
            });
        }
    }
    page
}
