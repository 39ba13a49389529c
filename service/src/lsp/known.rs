//! Hosts and users that the log has seen, for proposals. Read once, when first asked for.

use std::{collections::BTreeSet, path::PathBuf};

use cordon_audit::read::Reader;
use cordon_policy::{NormalizedHost, editor::Known};

/// What the log has seen.
#[derive(Debug)]
pub struct Seen {
    log: Option<PathBuf>,
    known: Option<Known>,
}

impl Seen {
    /// Newest records that are looked at.
    const RECORDS: u64 = 10_000;

    /// Of the log in this directory, if any.
    pub fn new(log: Option<PathBuf>) -> Self {
        Self { log, known: None }
    }

    /// Hosts and users. A log that is not there or cannot be read has seen none.
    pub fn known(&mut self) -> &Known {
        let log = self.log.take();
        self.known.get_or_insert_with(|| {
            let mut known = Known {
                agents: ["claude", "codex"].map(String::from).into(),
                ..Known::default()
            };
            let records = log
                .and_then(|directory| Reader::open(&directory).ok())
                .and_then(|reader| reader.last(Self::RECORDS).ok());
            for record in records.into_iter().flatten() {
                known.users.extend(record.principal.map(|user| user.id));
                let host = record.net.and_then(|net| net.host);
                let host = host.and_then(|name| name.parse::<NormalizedHost>().ok());
                known.hosts.extend(host.map(|host| host.to_string()));
            }
            known
        })
    }

    /// The same, with the host groups of a set.
    pub fn with_groups(&mut self, host_groups: BTreeSet<String>) -> Known {
        Known {
            host_groups,
            ..self.known().clone()
        }
    }
}
