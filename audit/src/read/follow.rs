//! Follows a log: its records in order, waiting for new ones.
//!
//! Waits on changes of its files; a daemon need not know. Changes nothing.

use std::{
    mem::MaybeUninit,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify,
};

use super::{ReadError, Reader, Records};
use crate::Record;

/// Records in order, waiting for new ones.
#[derive(Debug)]
pub struct Follow {
    records: Records,
    changes: OwnedFd,
}

impl Reader {
    /// Records from `from` on (`None`: from now on), waiting for new ones.
    ///
    /// # Errors
    /// [`ReadError`] when the log cannot be read or watched.
    pub fn follow(&self, from: Option<u64>) -> Result<Follow, ReadError> {
        let fail = |error: rustix::io::Errno| ReadError::new(&self.directory, &error.to_string());
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let changes = inotify::init(flags).map_err(fail)?;
        let watched = inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&changes, &self.directory, watched).map_err(fail)?;
        // Watched before the end is looked for, so that nothing falls between.
        let from = match from {
            Some(from) => from,
            None => self.end()?,
        };
        Ok(Follow {
            records: self.records(from),
            changes,
        })
    }
}

impl Follow {
    /// The next record; `None` when there is none within `patience`.
    ///
    /// # Errors
    /// [`ReadError`] when the log cannot be read or is damaged.
    pub fn next_within(&mut self, patience: Duration) -> Result<Option<Record>, ReadError> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(record) = self.records.next() {
                return record.map(Some);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.wait(left)? {
                return Ok(None);
            }
        }
    }

    /// Waits until a file of the log changes; false when none does in time.
    fn wait(&self, limit: Duration) -> Result<bool, ReadError> {
        let directory = &self.records.directory;
        let fail = |error: rustix::io::Errno| ReadError::new(directory, &error.to_string());
        let limit = Timespec::try_from(limit)
            .map_err(|_| ReadError::new(directory, "that is too long to wait"))?;
        let mut watched = [PollFd::new(&self.changes, PollFlags::IN)];
        match poll(&mut watched, Some(&limit)) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(true),
            Err(error) => return Err(fail(error)),
        }
        // Which file it was does not matter, only that the next look may find more.
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.changes, &mut buffer);
        loop {
            match events.next() {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(true),
                Err(error) => return Err(fail(error)),
            }
        }
    }
}
