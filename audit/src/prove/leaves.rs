//! The leaves of a log in order, sealed or not, exactly as they were hashed.
//!
//! A directory and a first sequence in, `(sequence, leaf)` out, up to what is written by now.
//! Changes nothing and takes no lock; holds one bundle or journal in memory at a time.

use std::path::{Path, PathBuf};

use super::ProveError;
use crate::verify::{
    journal::{self, Journal},
    store::{Store, WIDTH, leaves},
};

/// Leaves in order. After the last one it ends; asked again, it goes on with what was written
/// since.
#[derive(Debug)]
pub struct Leaves {
    directory: PathBuf,
    next: u64,
    from: Source,
}

#[derive(Debug)]
enum Source {
    /// To be looked for.
    Unknown,
    Bundle(std::vec::IntoIter<Vec<u8>>),
    Journal(Box<Journal>),
}

impl Leaves {
    /// Leaves from `seq` on.
    pub fn from(directory: &Path, seq: u64) -> Self {
        Self {
            directory: directory.into(),
            next: seq,
            from: Source::Unknown,
        }
    }

    /// Looks for the next leaf: in a journal, else in a bundle.
    fn find(&mut self) -> Result<Option<Vec<u8>>, ProveError> {
        // What is sealed between two looks is found in its bundle by the second one.
        for _look in 0..2 {
            let journals = journal::list(&self.directory)?;
            if let Some((first, path)) = journals.iter().rfind(|(first, _)| *first <= self.next) {
                if matches!(&self.from, Source::Journal(at_end) if at_end.path() == path) {
                    return Ok(None);
                }
                let Ok(mut journal) = Journal::open(path) else {
                    continue;
                };
                let header = journal.check_header(*first, self.next, None);
                header.map_err(|why| super::damaged(&format!("record {first}: {why}")))?;
                // What is not whole may be a write under way; a reader only stops before it.
                if journal.skip_to(self.next).is_ok() {
                    let found = journal.take().filter(|(seq, _)| *seq == self.next);
                    self.from = Source::Journal(Box::new(journal));
                    return Ok(found.map(|(_, leaf)| leaf));
                }
                return Ok(None);
            }
            let store = Store {
                directory: self.directory.clone(),
                sealed: 0,
                minimum: 0,
            };
            let (number, skip) = (self.next / WIDTH, self.next % WIDTH);
            let bundle = store.bundle(number, skip + 1).map_err(|error| {
                super::damaged(&format!("the bundle of record {}: {error}", self.next))
            })?;
            if let Some(bundle) = bundle {
                let entries: Result<Vec<Vec<u8>>, &str> = leaves(&bundle)
                    .map(|leaf| leaf.map(<[u8]>::to_vec))
                    .collect();
                let entries = entries
                    .map_err(|why| super::damaged(&format!("near record {}: {why}", self.next)))?;
                let mut entries = entries.into_iter();
                let leaf = entries.nth(usize::try_from(skip).unwrap_or(usize::MAX));
                self.from = Source::Bundle(entries);
                return Ok(leaf);
            }
        }
        Ok(None)
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, ProveError> {
        let ready = match &mut self.from {
            Source::Unknown => None,
            Source::Bundle(entries) => entries.next(),
            Source::Journal(journal) => {
                let mut taken = journal.take();
                if taken.is_none() && journal.grow()? {
                    taken = journal.take();
                }
                taken.and_then(|(seq, leaf)| (seq == self.next).then_some(leaf))
            }
        };
        match ready {
            Some(leaf) => Ok(Some(leaf)),
            None => self.find(),
        }
    }
}

impl Iterator for Leaves {
    type Item = Result<(u64, Vec<u8>), ProveError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read() {
            Ok(Some(leaf)) => {
                let seq = self.next;
                self.next += 1;
                Some(Ok((seq, leaf)))
            }
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }
}
