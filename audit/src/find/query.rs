//! What is looked for, and a page of it.

use std::str::FromStr;

use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};

use super::{
    keys::{self, Field},
    source::{Candidates, Source},
};
use crate::{
    Record,
    read::{ReadError, Reader},
};

/// What is looked for. Everything that is set has to hold; nothing set is every record.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Conditions on indexed fields.
    pub conditions: Vec<Condition>,
    /// Not before this time, in microseconds since the epoch.
    pub since_us: Option<u64>,
    /// Before this time, in microseconds since the epoch.
    pub until_us: Option<u64>,
    /// A text that some value of the record contains; upper and lower case of ASCII are the same.
    pub text: Option<String>,
    /// Which come first.
    pub order: Order,
    /// Where the page before ended: [`Page::next`].
    pub cursor: Option<u64>,
    /// Whether to read every record instead of trusting the postings.
    pub scan: bool,
}

/// One field has one of several values.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The field.
    pub field: Field,
    /// Its values; one of them is enough.
    pub any: Vec<Pattern>,
}

/// A value, or part of one: `*` at its beginning or its end stands for anything.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "String", into = "String")]
pub struct Pattern {
    text: String,
    open_start: bool,
    open_end: bool,
}

/// Which records come first.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Order {
    /// The newest.
    #[default]
    NewestFirst,
    /// The oldest.
    OldestFirst,
}

/// Some of what was found.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// In the query's order.
    pub records: Vec<Record>,
    /// Cursor of the next page, where there may be more.
    pub next: Option<u64>,
}

impl Query {
    /// The first records that fit, at most `limit`.
    ///
    /// # Errors
    /// [`ReadError`] when the log cannot be read or is damaged.
    pub fn page(&self, reader: &Reader, limit: usize) -> Result<Page, ReadError> {
        let mut page = Page::default();
        let mut more = |record: Record| {
            if page.records.len() == limit {
                // The last one that is given says where to go on.
                page.next = page.records.last().map(|last| match self.order {
                    Order::NewestFirst => last.seq,
                    Order::OldestFirst => last.seq.saturating_add(1),
                });
                return false;
            }
            page.records.push(record);
            true
        };
        let source = Source::new(reader)?;
        match self.order {
            Order::OldestFirst => self.oldest_first(&source, &mut more)?,
            Order::NewestFirst => self.newest_first(&source, limit, &mut more)?,
        }
        Ok(page)
    }

    /// Whether a record fits, wherever it lies.
    pub fn matches(&self, record: &Record) -> bool {
        self.in_time(record.ts_us)
            && self
                .conditions
                .iter()
                .all(|condition| condition.holds(record))
            && self
                .text
                .as_deref()
                .is_none_or(|text| has_text(record, text))
    }

    /// Gives each record that fits to `more`, oldest first, until it has enough.
    pub(crate) fn oldest_first(
        &self,
        source: &Source<'_>,
        more: &mut dyn FnMut(Record) -> bool,
    ) -> Result<(), ReadError> {
        let hasty = Hasty::new(self);
        let from = self.cursor.unwrap_or_default();
        for segment in source.sealed().iter().filter(|segment| segment.end > from) {
            let mut bundle = source.bundles();
            for seq in source.candidates(self, segment)?.from(from) {
                let leaf = bundle.leaf(seq)?;
                if let Some(record) = self.fits(&hasty, seq, leaf)?
                    && !more(record)
                {
                    return Ok(());
                }
            }
        }
        for leaf in source.tail(from) {
            let (seq, leaf) = leaf?;
            if let Some(record) = self.fits(&hasty, seq, &leaf)?
                && !more(record)
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// As [`Query::oldest_first`], newest first; nobody wants more than `limit` and one more.
    fn newest_first(
        &self,
        source: &Source<'_>,
        limit: usize,
        more: &mut dyn FnMut(Record) -> bool,
    ) -> Result<(), ReadError> {
        let hasty = Hasty::new(self);
        let before = self.cursor.unwrap_or(u64::MAX);
        // The tail is read forwards; what fits and is too old to be shown is let go.
        let mut newest = std::collections::VecDeque::new();
        for leaf in source.tail(0) {
            let (seq, leaf) = leaf?;
            if seq >= before {
                break;
            }
            if let Some(record) = self.fits(&hasty, seq, &leaf)? {
                newest.push_back(record);
                if newest.len() > limit.saturating_add(1) {
                    newest.pop_front();
                }
            }
        }
        for record in newest.into_iter().rev() {
            if !more(record) {
                return Ok(());
            }
        }
        let mut segments = source.sealed().iter().rev();
        while let Some(segment) = segments.next().filter(|_| before > 0) {
            if segment.first >= before {
                continue;
            }
            let mut bundle = source.bundles();
            for seq in source.candidates(self, segment)?.before(before) {
                let leaf = bundle.leaf(seq)?;
                if let Some(record) = self.fits(&hasty, seq, leaf)?
                    && !more(record)
                {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The record of a leaf, where it fits.
    pub(crate) fn fits(
        &self,
        hasty: &Hasty<'_>,
        seq: u64,
        leaf: &[u8],
    ) -> Result<Option<Record>, ReadError> {
        if !hasty.may_fit(leaf) {
            return Ok(None);
        }
        let record = Record::from_leaf(leaf).map_err(|error| ReadError {
            message: format!("record {seq}: {error}"),
        })?;
        Ok(self.matches(&record).then_some(record))
    }

    pub(crate) fn in_time(&self, ts_us: u64) -> bool {
        self.since_us.is_none_or(|since| ts_us >= since)
            && self.until_us.is_none_or(|until| ts_us < until)
    }

    /// Whether any record with times from `earliest` to `latest` can fit.
    pub(crate) fn touches(&self, earliest: u64, latest: u64) -> bool {
        self.since_us.is_none_or(|since| latest >= since)
            && self.until_us.is_none_or(|until| earliest < until)
    }
}

impl Condition {
    /// That a field is exactly this.
    pub fn is(field: Field, value: &str) -> Self {
        Self {
            field,
            any: vec![Pattern::exact(value)],
        }
    }

    pub(crate) fn holds(&self, record: &Record) -> bool {
        keys::of(record)
            .iter()
            .any(|(field, value)| *field == self.field && self.accepts(value))
    }

    pub(crate) fn accepts(&self, value: &str) -> bool {
        self.any.iter().any(|pattern| pattern.accepts(value))
    }
}

impl Pattern {
    /// Exactly this text, even with a `*` in it.
    pub fn exact(text: &str) -> Self {
        Self {
            text: text.into(),
            open_start: false,
            open_end: false,
        }
    }

    /// The text, where it is the whole value.
    pub(crate) fn as_exact(&self) -> Option<&str> {
        (!self.open_start && !self.open_end).then_some(&self.text)
    }

    fn accepts(&self, value: &str) -> bool {
        match (self.open_start, self.open_end) {
            (false, false) => value == self.text,
            (false, true) => value.starts_with(&self.text),
            (true, false) => value.ends_with(&self.text),
            (true, true) => value.contains(&self.text),
        }
    }
}

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        let Ok(pattern) = text.parse();
        pattern
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        let star = |open| if open { "*" } else { "" };
        format!(
            "{}{}{}",
            star(pattern.open_start),
            pattern.text,
            star(pattern.open_end)
        )
    }
}

impl FromStr for Pattern {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (rest, open_start) = match text.strip_prefix('*') {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (rest, open_end) = match rest.strip_suffix('*') {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        Ok(Self {
            text: rest.into(),
            open_start,
            open_end,
        })
    }
}

/// A look at a leaf's bytes that says most of the time that the record does not fit, long before
/// it is parsed.
#[derive(Debug)]
pub(crate) struct Hasty<'a> {
    /// Of each list, one has to be there.
    needles: Vec<Vec<Finder<'static>>>,
    query: &'a Query,
}

impl<'a> Hasty<'a> {
    pub(crate) fn new(query: &'a Query) -> Self {
        // An indexed value is a whole string in the leaf, with quotes on both sides.
        let quoted = |value: &str| serde_json::to_string(value).ok();
        let exact = |condition: &Condition| {
            let values = condition
                .any
                .iter()
                .map(|pattern| pattern.as_exact().and_then(quoted));
            values
                .map(|needle| Some(Finder::new(&needle?).into_owned()))
                .collect::<Option<Vec<_>>>()
        };
        Self {
            needles: query.conditions.iter().filter_map(exact).collect(),
            query,
        }
    }

    fn may_fit(&self, leaf: &[u8]) -> bool {
        let found = |needle: &Finder<'_>| needle.find(leaf).is_some();
        self.needles.iter().all(|any| any.iter().any(found)) && self.may_have_text(leaf)
    }

    /// Only plain text stands in a leaf as it is.
    fn may_have_text(&self, leaf: &[u8]) -> bool {
        let plain = |text: &&str| {
            text.bytes()
                .all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\')
        };
        self.query.text.as_deref().filter(plain).is_none_or(|text| {
            let lower = leaf.to_ascii_lowercase();
            memchr::memmem::find(&lower, text.to_ascii_lowercase().as_bytes()).is_some()
        })
    }
}

/// Whether some text or number of the record contains `text`; names of fields do not count.
pub(crate) fn has_text(record: &Record, text: &str) -> bool {
    let wanted = text.to_ascii_lowercase();
    serde_json::to_value(record).is_ok_and(|value| value_has(&value, &wanted))
}

fn value_has(value: &serde_json::Value, wanted: &str) -> bool {
    use serde_json::Value;
    match value {
        Value::String(text) => text.to_ascii_lowercase().contains(wanted),
        Value::Number(number) => number.to_string().contains(wanted),
        Value::Array(values) => values.iter().any(|value| value_has(value, wanted)),
        Value::Object(fields) => fields.values().any(|value| value_has(value, wanted)),
        Value::Bool(_) | Value::Null => false,
    }
}

impl Candidates {
    /// Those from `seq` on, oldest first.
    pub(super) fn from(self, seq: u64) -> impl Iterator<Item = u64> {
        let Self { first, offsets } = self;
        offsets
            .into_iter()
            .map(move |offset| first + u64::from(offset))
            .skip_while(move |candidate| *candidate < seq)
    }

    /// Those before `seq`, newest first.
    fn before(self, seq: u64) -> impl Iterator<Item = u64> {
        let Self { first, offsets } = self;
        offsets
            .into_iter()
            .rev()
            .map(move |offset| first + u64::from(offset))
            .skip_while(move |candidate| *candidate >= seq)
    }
}

#[cfg(test)]
mod tests;
