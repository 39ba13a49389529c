//! Makes postings: records in, in order; the bytes of a file out.

use std::{collections::HashMap, io, sync::Arc};

use roaring::RoaringBitmap;

use super::{
    BLOCK, MAX_VALUES_BYTES, OTHERS,
    filter::Filter,
    format::{Entry, Header, TermWriter},
};
use crate::find::keys::{Field, Leaf};

/// The postings of a segment that is being read or filled.
#[derive(Debug)]
pub(crate) struct Builder {
    first: u64,
    next: u64,
    fields: [Values; Field::ALL.len()],
    times: Vec<(u64, u64)>,
}

/// The values of one field.
#[derive(Debug, Default)]
struct Values {
    /// Where the list of each value is.
    named: HashMap<Arc<str>, usize>,
    lists: Vec<(Arc<str>, RoaringBitmap)>,
    /// The list that was added to last: mostly the next value is the same.
    latest: usize,
    others: RoaringBitmap,
    /// Length of all named values together.
    bytes: usize,
}

impl Builder {
    pub(crate) fn new(first: u64) -> Self {
        Self {
            first,
            next: first,
            fields: Default::default(),
            times: Vec::new(),
        }
    }

    /// Adds the next record's leaf.
    ///
    /// # Errors
    /// When it is no record or not the next one, or there are too many.
    pub(crate) fn add_leaf(&mut self, seq: u64, leaf: &[u8]) -> Result<(), String> {
        let record = Leaf::read(leaf).map_err(|error| format!("record {seq}: {error}"))?;
        if record.seq != seq {
            return Err(format!(
                "record {seq} says that it is record {}",
                record.seq
            ));
        }
        self.add(&record)
    }

    /// Adds the next record.
    ///
    /// # Errors
    /// When it is not the next one, or there are too many.
    pub(crate) fn add(&mut self, record: &Leaf<'_>) -> Result<(), String> {
        let offset = record.seq.wrapping_sub(self.first);
        if record.seq != self.next || offset >= MAX_RECORDS {
            return Err(format!("record {} does not follow", record.seq));
        }
        let offset = u32::try_from(offset).map_err(|error| error.to_string())?;
        for (field, value) in record.terms() {
            if let Some(values) = self.fields.get_mut(usize::from(field.number()) - 1) {
                values.add(value, offset);
            }
        }
        if u64::from(offset) % BLOCK == 0 {
            self.times.push((record.ts_us, record.ts_us));
        }
        if let Some((earliest, latest)) = self.times.last_mut() {
            *earliest = record.ts_us.min(*earliest);
            *latest = record.ts_us.max(*latest);
        }
        self.next += 1;
        Ok(())
    }

    /// The bytes of the file.
    pub(crate) fn finish(mut self) -> io::Result<Vec<u8>> {
        let count = self.fields.iter().map(|values| values.lists.len()).sum();
        let mut filter = Filter::with_terms(count);
        let (mut terms, mut lists) = (TermWriter::default(), Vec::new());
        let mut others = 0_u32;
        for (field, values) in Field::ALL.into_iter().zip(&mut self.fields) {
            let mut named = std::mem::take(&mut values.lists);
            named.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            for (value, list) in named {
                filter.add(field, &value);
                let value = value.as_bytes().to_vec();
                terms.add(&add_list(&mut lists, field.number(), value, list)?);
            }
            if !values.others.is_empty() {
                others |= 1 << field.number();
                let list = std::mem::take(&mut values.others);
                let number = field.number() | OTHERS;
                terms.add(&add_list(&mut lists, number, Vec::new(), list)?);
            }
        }
        let mut front = filter.bytes().to_vec();
        for (earliest, latest) in &self.times {
            front.extend_from_slice(&earliest.to_le_bytes());
            front.extend_from_slice(&latest.to_le_bytes());
        }
        let header = Header {
            first: self.first,
            count: size(self.next - self.first)?,
            others,
            filter: size(filter.bytes().len())?,
            blocks: size(self.times.len())?,
            terms: size(terms.bytes.len())?,
            front_crc: crc32c::crc32c(&front),
            terms_crc: crc32c::crc32c(&terms.bytes),
        };
        Ok([header.write(), front, terms.bytes, lists].concat())
    }
}

impl Values {
    fn add(&mut self, value: &str, offset: u32) {
        let is_latest = |(of, _): &&(Arc<str>, _)| **of == *value;
        let place = match self.lists.get(self.latest).filter(is_latest) {
            Some(_) => Some(self.latest),
            None => self.named.get(value).copied(),
        };
        if let Some((at, (_, list))) = place.and_then(|at| Some((at, self.lists.get_mut(at)?))) {
            // Not `push`: it looks for the greatest one first, which takes longer than all else.
            list.insert(offset);
            self.latest = at;
        } else if self.bytes + value.len() <= MAX_VALUES_BYTES {
            self.bytes += value.len();
            let value: Arc<str> = value.into();
            self.latest = self.lists.len();
            self.named.insert(Arc::clone(&value), self.latest);
            self.lists.push((value, RoaringBitmap::from_iter([offset])));
        } else {
            self.others.insert(offset);
        }
    }
}

/// Appends a list in its smallest form; what the terms say about it.
fn add_list(
    lists: &mut Vec<u8>,
    field: u8,
    value: Vec<u8>,
    mut list: RoaringBitmap,
) -> io::Result<Entry> {
    list.optimize();
    let start = lists.len();
    list.serialize_into(&mut *lists)?;
    let bytes = lists.get(start..).unwrap_or_default();
    Ok(Entry {
        field,
        value,
        count: list.len(),
        len: bytes.len(),
        crc: crc32c::crc32c(bytes),
    })
}

fn size<T: TryInto<u32>>(len: T) -> io::Result<u32> {
    len.try_into()
        .map_err(|_| io::Error::other("a segment too large for postings"))
}

/// Records in one file.
const MAX_RECORDS: u64 = 1 << 24;
