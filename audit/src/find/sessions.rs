//! Everything that several sessions did, in one go through the log.
//!
//! Ids and a log in, each session's records out, in order. Of sealed segments the postings say which
//! records those are; the tail that is not sealed yet is read once, however many sessions there are.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    keys::Field,
    query::{Condition, Pattern, Query},
    source::Source,
};
use crate::{
    read::{ReadError, Reader},
    record::Record,
};

/// The records of each of these sessions, oldest first; a session that has none is not among them.
///
/// # Errors
/// [`ReadError`] when the log cannot be read or is damaged.
pub fn of_sessions(
    reader: &Reader,
    ids: &BTreeSet<String>,
) -> Result<BTreeMap<String, Vec<Record>>, ReadError> {
    let any = ids.iter().map(|id| Pattern::exact(id)).collect();
    let query = Query {
        conditions: vec![Condition {
            field: Field::Session,
            any,
        }],
        ..Query::default()
    };
    let mut found = BTreeMap::<String, Vec<Record>>::new();
    let mut keep = |seq: u64, leaf: &[u8]| {
        let record = Record::from_leaf(leaf).map_err(|error| ReadError {
            message: format!("record {seq}: {error}"),
        })?;
        if let Some(id) = record.session.clone().filter(|id| ids.contains(id)) {
            found.entry(id).or_default().push(record);
        }
        Ok::<(), ReadError>(())
    };
    let source = Source::new(reader)?;
    for segment in source.sealed() {
        let mut bundle = source.bundles();
        for seq in source.candidates(&query, segment)?.from(0) {
            keep(seq, bundle.leaf(seq)?)?;
        }
    }
    for leaf in source.tail(0) {
        let (seq, leaf) = leaf?;
        keep(seq, &leaf)?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::find::fixture::{session, write_log};

    #[test]
    fn each_session_has_its_own_records_wherever_they_lie() {
        let folder = tempfile::tempdir().unwrap();
        write_log(folder.path(), &[512, 768], 1_000);
        let reader = Reader::open(folder.path()).unwrap();
        // Of the first sealed segment, over the edge of the second, of the tail, and of none.
        let asked = [session(20), session(512), session(600), session(990)];
        let mut ids: BTreeSet<String> = asked.iter().cloned().collect();
        ids.insert("session-of-nobody".into());
        let found = of_sessions(&reader, &ids).unwrap();
        assert_eq!(found.len(), 4);
        for (id, first) in asked.iter().zip([20, 510, 600, 990]) {
            let numbers: Vec<u64> = found[id].iter().map(|record| record.seq).collect();
            assert_eq!(numbers, (first..first + 10).collect::<Vec<_>>(), "{id}");
            assert_eq!(
                found[id].len(),
                reader.session(id).unwrap().len(),
                "as one by one"
            );
        }
        assert!(of_sessions(&reader, &BTreeSet::new()).unwrap().is_empty());
    }
}
