//! What the records of a session's end say of what it used and what it did to files.
//!
//! What its launcher counted in, records out. Bounded: paths are the session's to choose.

use std::{path::PathBuf, sync::Arc};

use cordon_audit::{
    Event, SessionState,
    record::{self, ChangeTotals},
};
use cordon_sandbox::limits::Used;

use super::live::Live;
use crate::{control::GrantChanges, summary::change_words};

/// As the record of the end has it.
pub fn used(used: Used) -> record::Used {
    record::Used {
        cpu_us: used.cpu_us,
        memory_bytes: used.memory_bytes,
        processes: used.processes,
        read_bytes: used.read_bytes,
        written_bytes: used.written_bytes,
    }
}

/// Records what was removed that had been there, each by its path.
pub fn record_deleted(live: &Live, paths: &[PathBuf]) {
    let mut what = String::new();
    let tell = |what: String| {
        live.gate().event_later(Event::SessionChanged {
            session: Arc::clone(live.facts()),
            state: SessionState::Grants,
            why: Some(what),
        });
    };
    for path in paths {
        // Quoted: a name may have a comma in it.
        let path = format!("{path:?}");
        if !what.is_empty() && what.len() + path.len() > MAX_NAMED {
            tell(std::mem::take(&mut what));
        }
        what.push_str(if what.is_empty() { "deleted: " } else { ", " });
        what.push_str(&path);
    }
    if !what.is_empty() {
        tell(what);
    }
}

/// As the record of the end has it: the first grants by name, and the sum of all others.
pub fn changes(grants: &[GrantChanges]) -> Vec<ChangeTotals> {
    let (named, rest) = grants.split_at(grants.len().min(NAMED));
    let mut lines: Vec<_> = named.iter().map(line).collect();
    if !rest.is_empty() {
        let none = ChangeTotals {
            changed_bytes: Some(0),
            changed_bytes_before: Some(0),
            created_bytes: Some(0),
            path: format!("{} others", rest.len()),
            ..ChangeTotals::default()
        };
        lines.push(rest.iter().map(line).fold(none, sum));
    }
    lines
}

/// Records, one for each grant, what was deleted first. On disk with the record of the end, which
/// follows.
pub fn record_changes(live: &Live, grants: &[GrantChanges]) {
    for grant in grants {
        let mut what = format!(
            "files in {}: {}",
            grant.inside.display(),
            change_words(grant)
        );
        if !grant.first_deleted.is_empty() {
            let paths = grant.first_deleted.iter().take(MAX_PATHS);
            let paths: Vec<String> = paths.map(|path| format!("{path:?}")).collect();
            what.push_str(&format!("; deleted first: {}", paths.join(", ")));
        }
        if let Some((cut, _)) = what.char_indices().nth(MAX_TEXT) {
            what.truncate(cut);
        }
        live.gate().event_later(Event::SessionChanged {
            session: Arc::clone(live.facts()),
            state: SessionState::Grants,
            why: Some(what),
        });
    }
}

fn line(grant: &GrantChanges) -> ChangeTotals {
    ChangeTotals {
        changed: grant.changed,
        changed_bytes: grant.changed_bytes.map(bounded),
        changed_bytes_before: grant.changed_bytes_before.map(bounded),
        created: grant.created,
        created_bytes: grant.created_bytes.map(bounded),
        deleted: grant.deleted,
        deleted_bytes: bounded(grant.deleted_bytes),
        moved: grant.moved,
        path: grant.path.to_string_lossy().into_owned(),
        replaced: grant.replaced,
        replaced_bytes: bounded(grant.replaced_bytes),
    }
}

/// What is not known of one is not known of the sum.
fn sum(all: ChangeTotals, one: ChangeTotals) -> ChangeTotals {
    let add = |a: u64, b: u64| bounded(a.saturating_add(b));
    let both = |a: Option<u64>, b: Option<u64>| Some(add(a?, b?));
    ChangeTotals {
        changed: all.changed + one.changed,
        changed_bytes: both(all.changed_bytes, one.changed_bytes),
        changed_bytes_before: both(all.changed_bytes_before, one.changed_bytes_before),
        created: all.created + one.created,
        created_bytes: both(all.created_bytes, one.created_bytes),
        deleted: all.deleted + one.deleted,
        deleted_bytes: add(all.deleted_bytes, one.deleted_bytes),
        moved: all.moved + one.moved,
        path: all.path,
        replaced: all.replaced + one.replaced,
        replaced_bytes: add(all.replaced_bytes, one.replaced_bytes),
    }
}

/// The largest number of a record. Sparse files have any length that the session likes.
fn bounded(bytes: u64) -> u64 {
    bytes.min((1 << 53) - 1)
}

/// Grants that are named.
const NAMED: usize = 24;

/// Bytes of paths that one record names, fewer than a text of a record may have.
const MAX_NAMED: usize = 900;

/// Paths and characters that one record tells.
const MAX_PATHS: usize = 20;
const MAX_TEXT: usize = 4000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_named_and_the_others_added_up() {
        let grant = |bytes| GrantChanges {
            path: "/w".into(),
            created: 1,
            created_bytes: bytes,
            changed_bytes: Some(1),
            deleted_bytes: 2,
            ..GrantChanges::default()
        };
        assert_eq!(changes(&vec![grant(Some(5)); NAMED]).len(), NAMED);
        let lines = changes(&vec![grant(Some(5)); NAMED + 3]);
        assert_eq!(lines.len(), NAMED + 1);
        let others = lines.last().unwrap();
        assert_eq!(others.path, "3 others");
        assert_eq!((others.created, others.created_bytes), (3, Some(15)));
        assert_eq!((others.changed_bytes, others.deleted_bytes), (Some(3), 6));
        let mut grants = vec![grant(Some(5)); NAMED + 3];
        grants.push(grant(None));
        let lines = changes(&grants);
        assert_eq!(lines.last().unwrap().created_bytes, None, "not known");
        let longest = changes(&vec![grant(Some(u64::MAX)); NAMED + 3]);
        for line in &longest {
            assert_eq!(line.created_bytes, Some((1 << 53) - 1), "of a record");
        }
    }
}
