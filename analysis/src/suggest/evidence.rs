//! Gathers what was refused, and what went through by a person's approval alone, alike requests
//! together.
//!
//! Records in, [`Item`]s out. Bounded: at most [`MOST_ITEMS`] different things.

use std::collections::{BTreeMap, HashSet};

use cordon_audit::{
    Effect, Record, escape,
    read::{ReadError, Reader},
};
use cordon_policy::{DenyReason, Destination, Names, Operation, Request, Snapshot, suggest};
use serde::Serialize;

use super::{Options, Scope};
use crate::{
    outcome::Outcome,
    records::{each_decision, request_of},
    tally::Bounded,
};

/// How often something was asked for that no rule allows, when, and by whom.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Evidence {
    /// How often.
    pub count: u64,
    /// How often of these it went through because a person had approved it.
    pub approved: u64,
    /// First time, microseconds since the epoch.
    pub first_us: u64,
    /// Last time, microseconds since the epoch.
    pub last_us: u64,
    /// Sessions.
    pub sessions: usize,
    /// Users.
    pub users: Vec<String>,
    /// What was asked, in words; the first few.
    pub examples: Vec<String>,
    /// Id of the first record.
    pub record: String,
}

/// Something that was refused and that no rule lifts, with what does.
#[derive(Clone, Debug, Serialize)]
pub struct Elsewhere {
    /// What was asked, in words.
    pub what: String,
    /// What would allow it, in words or as a line of `cordon.toml`.
    pub remedy: String,
    /// How often.
    pub count: u64,
}

/// One thing that no rule allows by itself, and all that a rule for it needs.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// `principal`, or `principal in Agent::"claude"`.
    pub(super) scope: String,
    pub(super) names: Names,
    pub(super) port: Option<u16>,
    /// The first such request.
    pub(super) request: Request,
    pub(super) evidence: Evidence,
    sessions: HashSet<String>,
}

#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) decisions: u64,
    pub(super) refused: u64,
    pub(super) approved: u64,
    pub(super) allowed_by_now: u64,
    pub(super) items: Vec<Item>,
    pub(super) forbidden: BTreeMap<String, u64>,
    pub(super) elsewhere: Vec<Elsewhere>,
    pub(super) left_out: BTreeMap<String, u64>,
}

/// Most different things that are proposed from.
pub(super) const MOST_ITEMS: usize = 10_000;
const MOST_SESSIONS: usize = 1_000;
const MOST_USERS: usize = 20;
const MOST_EXAMPLES: usize = 3;

type Key = (String, Names, Option<u16>);

pub(super) fn gather(
    log: &Reader,
    current: &Snapshot,
    options: &Options,
) -> Result<Gathered, ReadError> {
    let mut gathered = Gathered::default();
    let mut items: Bounded<Key, Item> = Bounded::new(MOST_ITEMS);
    let mut elsewhere: Bounded<(String, String), u64> = Bounded::new(MOST_ITEMS);
    each_decision(log, &options.selection, |record, sessions| {
        gathered.decisions += 1;
        let found = look(record);
        match found {
            Found::Allowed => {}
            Found::Forbidden => gathered.count_forbidden(record),
            Found::Elsewhere => {
                if let Some(key) = remedy(record)
                    && let Some(count) = elsewhere.entry(key, || 0)
                {
                    *count += 1;
                }
            }
            Found::NoRule | Found::Approved => {
                gathered.refused += u64::from(found == Found::NoRule);
                gathered.approved += u64::from(found == Found::Approved);
                match request_of(record, sessions, log)? {
                    Ok(request) => gathered.add(record, request, current, options, &mut items),
                    Err(why) => gathered.leave_out(&why.to_string()),
                }
            }
        }
        Ok(())
    })?;
    if items.others() > 0 {
        let why = format!("more than {MOST_ITEMS} different things");
        gathered.left_out.insert(why, items.others());
    }
    gathered.items = items
        .into_kept()
        .into_values()
        .map(Item::finished)
        .collect();
    gathered
        .items
        .sort_by(|a, b| (&a.scope, &a.names, a.port).cmp(&(&b.scope, &b.names, b.port)));
    gathered.elsewhere = elsewhere
        .into_kept()
        .into_iter()
        .map(|((what, remedy), count)| Elsewhere {
            what,
            remedy,
            count,
        })
        .collect();
    gathered
        .elsewhere
        .sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.what.cmp(&b.what)));
    Ok(gathered)
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Found {
    Allowed,
    /// Allowed, because a person had said yes to it.
    Approved,
    /// Refused, because no rule allows it.
    NoRule,
    /// Refused by a `forbid`.
    Forbidden,
    /// Refused by something that is no rule.
    Elsewhere,
}

fn look(record: &Record) -> Found {
    let reason = record.reason.as_deref().unwrap_or_default();
    let is = |expected: DenyReason| reason == expected.code();
    match record.effect {
        Some(Effect::Allow) if is_approved(record) => Found::Approved,
        Some(Effect::Allow) => Found::Allowed,
        _ if is(DenyReason::DefaultDeny) && record.action.as_deref() != Some("path.delete") => {
            Found::NoRule
        }
        _ if is(DenyReason::Rule) => Found::Forbidden,
        _ => Found::Elsewhere,
    }
}

fn is_approved(record: &Record) -> bool {
    let approval = record.approval.as_ref();
    approval.is_some_and(|approval| !approval.by.is_empty())
}

/// What would allow a request that no rule can allow.
fn remedy(record: &Record) -> Option<(String, String)> {
    let operation = cordon_audit::past::operation(record).ok()?;
    let remedy = match &operation {
        Operation::DeletePath { .. } => "grant its folder with delete: --grant DIR:rwd".to_owned(),
        Operation::ReachAddress { .. } => {
            let request = Request {
                session: std::sync::Arc::new(nobody()),
                operation: operation.clone(),
                at: std::time::SystemTime::UNIX_EPOCH,
            };
            format!("in cordon.toml: {}", suggest(&request))
        }
        _another => record.reason.clone()?,
    };
    Some((
        escape(&operation.to_string()).to_string(),
        escape(&remedy).to_string(),
    ))
}

fn nobody() -> cordon_policy::SessionFacts {
    cordon_policy::SessionFacts {
        id: String::new(),
        user: String::new(),
        groups: Vec::new(),
        agent: None,
        platform: String::new(),
        backend: cordon_policy::Backend::Bubblewrap,
    }
}

impl Gathered {
    fn count_forbidden(&mut self, record: &Record) {
        for rule in record.rules.iter().flatten() {
            let room = self.forbidden.len() < MOST_ITEMS;
            let rule = escape(rule).to_string();
            if room || self.forbidden.contains_key(&rule) {
                *self.forbidden.entry(rule).or_default() += 1;
            }
        }
    }

    fn leave_out(&mut self, why: &str) {
        *self.left_out.entry(why.to_owned()).or_default() += 1;
    }

    fn add(
        &mut self,
        record: &Record,
        request: Request,
        current: &Snapshot,
        options: &Options,
        items: &mut Bounded<Key, Item>,
    ) {
        let Some(names) = Names::of(&request) else {
            return self.leave_out("no rule can be about it");
        };
        if Outcome::of(current, &request).effect == Effect::Allow {
            self.allowed_by_now += 1;
            return;
        }
        let scope = scope(&request, &names, options.scope);
        let port = port(&request.operation);
        let make = || Item {
            scope: scope.clone(),
            names: names.clone(),
            port,
            request: request.clone(),
            evidence: Evidence {
                first_us: record.ts_us,
                record: record.id.to_string(),
                ..Evidence::default()
            },
            sessions: HashSet::new(),
        };
        if let Some(item) = items.entry((scope.clone(), names.clone(), port), make) {
            item.note(record, &request);
        }
    }
}

impl Item {
    fn note(&mut self, record: &Record, request: &Request) {
        let evidence = &mut self.evidence;
        evidence.count += 1;
        evidence.approved += u64::from(is_approved(record));
        evidence.first_us = evidence.first_us.min(record.ts_us);
        evidence.last_us = evidence.last_us.max(record.ts_us);
        let user = escape(&request.session.user).to_string();
        if evidence.users.len() < MOST_USERS && !evidence.users.contains(&user) {
            evidence.users.push(user);
        }
        let example = escape(&request.operation.to_string()).to_string();
        if evidence.examples.len() < MOST_EXAMPLES && !evidence.examples.contains(&example) {
            evidence.examples.push(example);
        }
        if self.sessions.len() < MOST_SESSIONS {
            self.sessions.insert(request.session.id.clone());
        }
    }

    fn finished(mut self) -> Self {
        self.evidence.sessions = self.sessions.len();
        self
    }

    /// The evidence of several items as one.
    pub(super) fn together<'a>(items: impl Iterator<Item = &'a Self>) -> Evidence {
        let mut all = Evidence::default();
        let mut sessions: HashSet<&String> = HashSet::new();
        for item in items {
            let part = &item.evidence;
            if all.count == 0 || part.first_us < all.first_us {
                all.first_us = part.first_us;
                all.record.clone_from(&part.record);
            }
            all.count += part.count;
            all.approved += part.approved;
            all.last_us = all.last_us.max(part.last_us);
            sessions.extend(&item.sessions);
            for user in &part.users {
                if all.users.len() < MOST_USERS && !all.users.contains(user) {
                    all.users.push(user.clone());
                }
            }
            for example in &part.examples {
                if all.examples.len() < MOST_EXAMPLES && !all.examples.contains(example) {
                    all.examples.push(example.clone());
                }
            }
        }
        all.sessions = sessions.len();
        all
    }
}

/// The principal's part of a rule's scope.
fn scope(request: &Request, names: &Names, scope: Scope) -> String {
    let user = || format!("principal in User::{:?}", request.session.user);
    match (scope, &request.session.agent) {
        // Administration is a person's own act; nobody else gets it by a proposal.
        _ if names.is_administration => user(),
        (Scope::User, _) => user(),
        (Scope::Agent, Some(agent)) => format!("principal in Agent::{agent:?}"),
        (Scope::Agent, None) | (Scope::Everyone, _) => "principal".to_owned(),
    }
}

fn port(operation: &Operation) -> Option<u16> {
    match operation {
        Operation::Connect {
            destination: Destination { port, .. },
            ..
        }
        | Operation::HttpRequest {
            destination: Destination { port, .. },
            ..
        } => Some(port.get()),
        _without => None,
    }
}
