//! How many records fit, by the values of one field.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::{
    keys::{self, Field},
    postings::{Postings, Term},
    query::{Hasty, Query},
    sealed::Sealed,
    source::{Candidates, Source},
};
use crate::{
    Record,
    read::{ReadError, Reader},
};

/// How many records have one value of a field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Count {
    /// The value; `None` for all the values beyond [`MAX_NAMED`].
    pub value: Option<String>,
    /// Records that fit and have it.
    pub records: u64,
}

/// Counts the records that fit by the values of `field`, most first. A record with several
/// values counts for each; one with none does not count.
///
/// # Errors
/// [`ReadError`] when the log cannot be read or is damaged.
pub fn count_by(reader: &Reader, query: &Query, field: Field) -> Result<Vec<Count>, ReadError> {
    let source = Source::new(reader)?;
    let mut counts = Counts::default();
    for segment in source.sealed() {
        count_segment(&source, query, field, segment, &mut counts)?;
    }
    let hasty = Hasty::new(query);
    for leaf in source.tail(0) {
        let (seq, leaf) = leaf?;
        if let Some(record) = query.fits(&hasty, seq, &leaf)? {
            counts.add_record(&record, field);
        }
    }
    Ok(counts.sorted())
}

/// By the postings alone where they know enough, else record by record.
fn count_segment(
    source: &Source<'_>,
    query: &Query,
    field: Field,
    segment: &Sealed,
    counts: &mut Counts,
) -> Result<(), ReadError> {
    let candidates = source.candidates(query, segment)?;
    if !query.scan && query.text.is_none() {
        let counted = source.with_postings(segment, &|postings| {
            if !know_enough(postings, query, field) {
                return Ok(None);
            }
            let count = |(term, records): (Term, RoaringBitmap)| {
                let count = records.intersection_len(&candidates.offsets);
                Some((term.value?, count))
            };
            Ok(Some(
                postings
                    .terms_of(field)?
                    .into_iter()
                    .filter_map(count)
                    .collect::<Vec<_>>(),
            ))
        })?;
        if let Some(counted) = counted {
            for (value, records) in counted {
                counts.add(&value, records);
            }
            return Ok(());
        }
    }
    count_candidates(source, query, field, candidates, counts)
}

/// Whether the candidates are just the records that fit, and every value of `field` is named.
fn know_enough(postings: &Postings, query: &Query, field: Field) -> bool {
    let fields = query.conditions.iter().map(|condition| condition.field);
    let whole = |(earliest, latest): &(u64, u64)| {
        !query.touches(*earliest, *latest) || query.in_time(*earliest) && query.in_time(*latest)
    };
    fields
        .chain([field])
        .all(|field| !postings.is_partial(field))
        && postings.times().iter().all(whole)
}

fn count_candidates(
    source: &Source<'_>,
    query: &Query,
    field: Field,
    candidates: Candidates,
    counts: &mut Counts,
) -> Result<(), ReadError> {
    let hasty = Hasty::new(query);
    let mut bundles = source.bundles();
    for offset in candidates.offsets {
        let seq = candidates.first + u64::from(offset);
        if let Some(record) = query.fits(&hasty, seq, bundles.leaf(seq)?)? {
            counts.add_record(&record, field);
        }
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Counts {
    named: BTreeMap<String, u64>,
    others: u64,
}

impl Counts {
    fn add_record(&mut self, record: &Record, field: Field) {
        for (of, value) in keys::of(record) {
            if of == field {
                self.add(value, 1);
            }
        }
    }

    fn add(&mut self, value: &str, records: u64) {
        if records == 0 {
            return;
        }
        if let Some(count) = self.named.get_mut(value) {
            *count += records;
        } else if self.named.len() < MAX_NAMED {
            self.named.insert(value.into(), records);
        } else {
            self.others += records;
        }
    }

    fn sorted(self) -> Vec<Count> {
        let mut counts: Vec<Count> = self
            .named
            .into_iter()
            .map(|(value, records)| Count {
                value: Some(value),
                records,
            })
            .collect();
        // Stable, so that equal counts stay in the order of their values.
        counts.sort_by_key(|count| std::cmp::Reverse(count.records));
        counts.extend((self.others > 0).then_some(Count {
            value: None,
            records: self.others,
        }));
        counts
    }
}

/// Values that are counted one by one.
pub const MAX_NAMED: usize = 65_536;
