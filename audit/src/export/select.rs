//! Which records an export takes.

use serde::{Deserialize, Serialize};

use crate::{
    Record,
    find::{Condition, Query, has_text},
};

/// A query and a range; every part that is given has to be met.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Select {
    /// Conditions on indexed fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// First place in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_seq: Option<u64>,
    /// Not before this time, microseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_us: Option<u64>,
    /// A text that some value of the record contains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Last place in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_seq: Option<u64>,
    /// Before this time, microseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_us: Option<u64>,
}

impl Select {
    /// What the same filters find.
    pub fn of(query: Query) -> Self {
        Self {
            conditions: query.conditions,
            since_us: query.since_us,
            text: query.text,
            until_us: query.until_us,
            ..Self::default()
        }
    }

    /// Whether a record is asked for.
    pub fn takes(&self, record: &Record) -> bool {
        self.from_seq.is_none_or(|from| record.seq >= from)
            && self.to_seq.is_none_or(|to| record.seq <= to)
            && self.since_us.is_none_or(|since| record.ts_us >= since)
            && self.until_us.is_none_or(|until| record.ts_us < until)
            && self.conditions.iter().all(|c| c.holds(record))
            && self
                .text
                .as_deref()
                .is_none_or(|text| has_text(record, text))
    }

    /// Whether it asks for everything.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}
