//! What bytes are held in while they move: buffers, and pipes beside them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pipes::Pipes;
use crate::limits;

/// Relay buffers of the node: a bounded number of large ones, kept for their next use. When all are
/// taken a flow goes on with a small one, so that no session can stop another by not reading.
#[derive(Debug)]
pub(crate) struct Buffers {
    spare: Mutex<Vec<Box<[u8]>>>,
    large: Arc<Semaphore>,
    pipes: Pipes,
}

/// A buffer in use.
pub(super) struct Buffer {
    pub(super) bytes: Box<[u8]>,
    /// `None` for a small one.
    large: Option<OwnedSemaphorePermit>,
}

impl Buffers {
    /// Large buffers of at most so many bytes together.
    pub(crate) fn new(bytes: u64) -> Self {
        let each = u64::try_from(limits::RELAY_BUFFER_BYTES).unwrap_or(u64::MAX);
        let count = usize::try_from(bytes / each).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            spare: Mutex::default(),
            large: Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS))),
            pipes: Pipes::default(),
        }
    }

    pub(super) fn take(&self) -> Buffer {
        let Ok(large) = Arc::clone(&self.large).try_acquire_owned() else {
            return Buffer {
                bytes: vec![0; limits::SMALL_BUFFER_BYTES].into_boxed_slice(),
                large: None,
            };
        };
        let spare = self.lock().pop();
        Buffer {
            bytes: spare.unwrap_or_else(|| vec![0; limits::RELAY_BUFFER_BYTES].into_boxed_slice()),
            large: Some(large),
        }
    }

    pub(super) fn give_back(&self, buffer: Buffer) {
        let mut spare = self.lock();
        if buffer.large.is_some() && spare.len() < limits::SPARE_RELAY_BUFFERS {
            spare.push(buffer.bytes);
        }
    }

    /// The pipes beside them.
    pub(super) fn pipes(&self) -> &Pipes {
        &self.pipes
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n24_large_buffers_are_bounded_and_a_small_one_is_always_there() {
        let large = limits::RELAY_BUFFER_BYTES;
        let buffers = Buffers::new(u64::try_from(large * 2).unwrap());
        let (one, two, three) = (buffers.take(), buffers.take(), buffers.take());
        let sizes = [&one, &two, &three].map(|buffer| buffer.bytes.len());
        assert_eq!(sizes, [large, large, limits::SMALL_BUFFER_BYTES]);
        buffers.give_back(three);
        buffers.give_back(one);
        assert_eq!(buffers.take().bytes.len(), large);
        assert_eq!(buffers.lock().len(), 0);
    }
}
