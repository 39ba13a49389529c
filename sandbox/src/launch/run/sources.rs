//! Many descriptors, polled at once and found again by their place.

use std::{os::fd::BorrowedFd, time::Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::launch::LaunchError;

/// Descriptors to poll, found again by their place.
pub(super) struct Sources<'fd>(Vec<PollFd<'fd>>);

impl<'fd> Sources<'fd> {
    pub(super) fn add(&mut self, descriptor: BorrowedFd<'fd>, events: PollFlags) -> usize {
        self.0.push(PollFd::from_borrowed_fd(descriptor, events));
        self.0.len() - 1
    }

    pub(super) fn wait(&mut self, deadline: Option<Instant>) -> Result<(), LaunchError> {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let limit = left.and_then(|left| Timespec::try_from(left).ok());
        rustix::io::retry_on_intr(|| poll(&mut self.0, limit.as_ref()))
            .map_err(LaunchError::step("session waited for"))?;
        Ok(())
    }

    pub(super) fn is_ready(&self, place: Option<usize>) -> bool {
        let source = place.and_then(|at| self.0.get(at));
        source.is_some_and(|source| !source.revents().is_empty())
    }
}

impl<'fd> Sources<'fd> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }
}
