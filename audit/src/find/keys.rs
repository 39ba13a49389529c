//! By what a record can be found: the terms of each indexed field.
//!
//! A record in, its terms out; or a leaf, of which no more is read than that. Everything that
//! indexes (the postings of a sealed segment) and everything that filters takes the terms from
//! here, and a test holds what is read of a leaf against the record, so that they agree.

mod leaf;

use serde::{Deserialize, Serialize};

pub(crate) use self::leaf::Leaf;
use crate::{Effect, Record};

/// A field that records can be found by. The number is its place in postings files: never reused.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Field {
    /// Session id.
    Session = 1,
    /// Login name of the user.
    User = 2,
    /// Name of the agent.
    Agent = 3,
    /// What was asked: `net.connect`, `folder.grant`, …
    Action = 4,
    /// `allow`, `deny`, `ask`, `error`.
    Effect = 5,
    /// `rule`, `default_deny`, …
    Reason = 6,
    /// Id of a determining rule.
    Rule = 7,
    /// What was asked for: `host:port`, a path, a program's name.
    Resource = 8,
    /// Host name or address, without the port.
    Host = 9,
    /// An IP address: connected, or decided.
    Address = 10,
    /// Kind of record.
    Kind = 11,
    /// Digest of the policy set.
    Policy = 12,
    /// How a flow or session ended.
    End = 13,
}

impl Field {
    /// Every field, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::Session,
        Self::User,
        Self::Agent,
        Self::Action,
        Self::Effect,
        Self::Reason,
        Self::Rule,
        Self::Resource,
        Self::Host,
        Self::Address,
        Self::Kind,
        Self::Policy,
        Self::End,
    ];

    /// Its name, as options and results have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::User => "user",
            Self::Agent => "agent",
            Self::Action => "action",
            Self::Effect => "effect",
            Self::Reason => "reason",
            Self::Rule => "rule",
            Self::Resource => "resource",
            Self::Host => "host",
            Self::Address => "address",
            Self::Kind => "kind",
            Self::Policy => "policy",
            Self::End => "end",
        }
    }

    /// Its number in postings files.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }
}

/// The terms of a record. A field comes once for each value that it has, and not at all where
/// the record has none; values are never empty.
pub fn of(record: &Record) -> Vec<(Field, &str)> {
    let mut terms = Terms::default();
    all(record, &mut |field, value| terms.add(field, value));
    terms.0
}

/// Terms without doubles and empty values.
#[derive(Default)]
struct Terms<'a>(Vec<(Field, &'a str)>);

impl<'a> Terms<'a> {
    fn add(&mut self, field: Field, value: Option<&'a str>) {
        let term = value.map(|value| (field, value));
        if let Some(term) = term.filter(|term| !term.1.is_empty() && !self.0.contains(term)) {
            self.0.push(term);
        }
    }
}

fn all<'a>(record: &'a Record, add: &mut dyn FnMut(Field, Option<&'a str>)) {
    add(Field::Session, record.session.as_deref());
    add(
        Field::User,
        record.principal.as_ref().map(|p| p.id.as_str()),
    );
    add(Field::Agent, record.agent.as_ref().map(|a| a.name.as_str()));
    add(Field::Action, record.action.as_deref());
    add(Field::Effect, record.effect.map(Effect::as_str));
    add(Field::Reason, record.reason.as_deref());
    for rule in record.rules.iter().flatten() {
        add(Field::Rule, Some(rule));
    }
    add(
        Field::Resource,
        record.resource.as_ref().map(|r| r.id.as_str()),
    );
    if let Some(net) = &record.net {
        add(Field::Host, net.host.as_deref());
        add(Field::Address, net.dst.as_deref());
        for address in &net.resolved {
            add(Field::Address, Some(address));
        }
    }
    add(
        Field::Host,
        record.http.as_ref().and_then(|http| http.host.as_deref()),
    );
    add(Field::Kind, Some(record.kind.as_str()));
    add(
        Field::Policy,
        record.policy.as_ref().map(|p| p.sha256.as_str()),
    );
    add(Field::End, record.end.as_deref());
}
