//! Which records an export takes.

use serde::{Deserialize, Serialize};

use crate::{Record, record::Effect};

/// A query; every part that is given has to be met.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Select {
    /// What was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// First place in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_seq: Option<u64>,
    /// Session, by its whole id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Not before this time, microseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_us: Option<u64>,
    /// Last place in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_seq: Option<u64>,
    /// Before this time, microseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_us: Option<u64>,
}

impl Select {
    /// Whether a record is asked for.
    pub fn takes(&self, record: &Record) -> bool {
        let session = self.session.as_ref();
        self.effect
            .is_none_or(|effect| record.effect == Some(effect))
            && self.from_seq.is_none_or(|from| record.seq >= from)
            && self.to_seq.is_none_or(|to| record.seq <= to)
            && self.since_us.is_none_or(|since| record.ts_us >= since)
            && self.until_us.is_none_or(|until| record.ts_us < until)
            && session.is_none_or(|session| record.session.as_ref() == Some(session))
    }

    /// Whether it asks for everything.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}
