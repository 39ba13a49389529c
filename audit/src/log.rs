//! The log: the one way for a decision into a record, and for a record to a permit.
//!
//! Behind it four threads: one writes what callers do not write themselves, one syncs and
//! acknowledges, one hashes, indexes and signs, one seals.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, atomic::Ordering, mpsc::SyncSender},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use cordon_policy::Decision;
use tokio::sync::oneshot;

use crate::{
    Denied, Event, Permit, Record, RecordId, Recorded,
    desk::{NotQueued, Queue, closed},
    draft::Draft,
    files, keeper,
    read::{ReadError, Reader},
    record::Commitment,
    secrets::Secrets,
    shared::{Ring, Shared, held},
    side::{Salted, Sensitive},
    syncer::Waiter,
    writer::{Ack, Pending},
};

mod error;
mod open;
mod options;
mod stats;

pub use error::{OpenError, OpenErrorKind, RecordError};
pub use options::LogOptions;
pub use stats::LogStats;

/// The open log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    origin: String,
    queue: Queue,
    secrets: Secrets,
    shared: Arc<Shared>,
    threads: Mutex<Option<Threads>>,
}

#[derive(Debug)]
struct Threads {
    keeper_queue: SyncSender<keeper::Message>,
    writer: JoinHandle<()>,
    syncer: JoinHandle<()>,
    keeper: JoinHandle<()>,
    sealer: JoinHandle<()>,
    /// Held for as long as anything may be written.
    _lock: std::fs::File,
}

impl Log {
    /// Records a decision; resolves only when the record is on stable storage (`fdatasync`).
    ///
    /// Callers MUST NOT act before it resolves, and MUST NOT act at all on an error. After an
    /// error the record may still be in the log: it then tells of a decision that had no effect.
    ///
    /// # Errors
    /// [`RecordError`]: nothing may be done.
    pub async fn record(&self, decision: Decision) -> Result<Recorded, RecordError> {
        let id = self
            .append(
                Draft::of_decision(&decision, &self.inner.secrets),
                Ack::Synced,
            )
            .await?;
        Ok(recorded(decision, id))
    }

    /// As [`Log::record`], but resolves when the record is written to the journal (it survives
    /// any crash of ours) and syncs it within 20 ms. Only for a further request on a kept
    /// connection with the same destination and outcome as one that `record` acknowledged.
    ///
    /// # Errors
    /// [`RecordError`]: nothing may be done.
    pub async fn record_written(&self, decision: Decision) -> Result<Recorded, RecordError> {
        let draft = Draft::of_decision(&decision, &self.inner.secrets);
        let id = match self.inner.queue.write_now(draft) {
            Ok(written) => written,
            // Boxed: mostly the record is written at once.
            Err(pending) => Box::pin(self.inner.queue.write(pending)).await,
        };
        Ok(recorded(decision, id?))
    }

    /// As [`Log::record`], of a decision with values that must not be in the log: the record
    /// commits to each, and the side store keeps it until it is erased.
    ///
    /// # Errors
    /// [`RecordError`]: nothing may be done.
    pub async fn record_with(
        &self,
        decision: Decision,
        sensitive: Vec<Sensitive>,
    ) -> Result<Recorded, RecordError> {
        let secrets = &self.inner.secrets;
        let (commitments, values) = commit(sensitive, secrets)?;
        let draft = Draft::of_decision_with(&decision, secrets, commitments);
        let (pending, answer) = pending(draft, values, Ack::Synced);
        self.inner.queue.send(pending).await?;
        let id = answer.await.unwrap_or_else(|_| Err(closed()))?;
        Ok(recorded(decision, id))
    }

    /// Records an event; resolves when it is on stable storage.
    ///
    /// # Errors
    /// [`RecordError`].
    pub async fn event(&self, event: Event) -> Result<RecordId, RecordError> {
        self.append(Draft::of_event(&event, &self.inner.secrets), Ack::Synced)
            .await
    }

    /// As [`Log::event`], for a thread that may block.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn event_blocking(&self, event: Event) -> Result<RecordId, RecordError> {
        let (pending, answer) = pending(
            Draft::of_event(&event, &self.inner.secrets),
            Vec::new(),
            Ack::Synced,
        );
        self.inner.queue.blocking_send(pending)?;
        answer.blocking_recv().unwrap_or_else(|_| Err(closed()))
    }

    /// As [`Log::event_later`], of an event with values that must not be in the log.
    pub fn event_later_with(&self, event: &Event, sensitive: Vec<Sensitive>) {
        let secrets = &self.inner.secrets;
        match commit(sensitive, secrets) {
            Ok((commitments, values)) => {
                self.later(Draft::of_event_with(event, secrets, commitments), values);
            }
            Err(error) => {
                tracing::error!(%error, "an event could not be recorded");
                self.inner.shared.add_lost(1);
            }
        }
    }

    /// Queues an event without waiting for it (the end of a flow). Back pressure: when the queue
    /// is full, the event is counted and a `log.gap` record says how many were lost.
    pub fn event_later(&self, event: Event) {
        self.later(Draft::of_event(&event, &self.inner.secrets), Vec::new());
    }

    /// All records of a session in order: of the open segment by the index, of closed ones from
    /// their journals. Sees everything that was acknowledged before the call. Blocks for as long
    /// as reading takes.
    ///
    /// # Errors
    /// [`RecordError`] when the log cannot be read.
    pub fn session(&self, session: &str) -> Result<Vec<Record>, RecordError> {
        let fail = |error: ReadError| RecordError {
            message: error.to_string(),
        };
        let shared = &self.inner.shared;
        self.inner.queue.desk().serve();
        // Do not wait for the deadlines.
        shared.hurry.store(true, Ordering::Release);
        shared.urgent.ring(Ring::Now);
        let end = shared.written.load(Ordering::Acquire);
        let reader = Reader::open(&self.inner.directory).map_err(fail)?;
        let index = match shared.wait_indexed(end, INDEX_PATIENCE) {
            true => shared.index(),
            false => None,
        };
        if let Some(index) = index {
            match index
                .session(session)
                .and_then(|leaves| parse(&leaves, session))
            {
                Ok(open) => {
                    let mut records = reader.session_until(session, index.first()).map_err(fail)?;
                    records.extend(open);
                    return Ok(records);
                }
                Err(error) => tracing::warn!(%error, "index not usable; reading the journal"),
            }
        }
        reader.session(session).map_err(fail)
    }

    /// Whether records can be made and signed; if not, what is wrong. Heals by itself.
    ///
    /// # Errors
    /// [`RecordError`] says what is wrong.
    pub fn healthy(&self) -> Result<(), RecordError> {
        match self.inner.shared.trouble() {
            None if self.inner.queue.is_closed() => Err(closed()),
            None => Ok(()),
            Some(message) => Err(RecordError { message }),
        }
    }

    /// The log's name for life, as its checkpoints carry it.
    pub fn origin(&self) -> &str {
        &self.inner.origin
    }

    /// Where the log is.
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// Syncs, signs a last checkpoint, seals the journal and gives the lock back. Idempotent.
    /// Blocks until that is done.
    pub fn close(&self) {
        self.inner.close();
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    /// Records that are written.
    pub(crate) fn written(&self) -> u64 {
        self.inner.shared.written.load(Ordering::Acquire)
    }

    /// First record of the newest journal there is.
    pub(crate) fn open_journal(&self) -> u64 {
        let journals = files::numbered(&self.inner.directory, "journal", ".log");
        journals
            .ok()
            .and_then(|j| j.last().copied())
            .unwrap_or(u64::MAX)
    }

    /// Has the key changed as soon as that is recorded.
    pub(crate) fn rotate_key(&self) -> Result<(), RecordError> {
        let threads = held(&self.inner.threads);
        let threads = threads.as_ref().ok_or_else(closed)?;
        let asked = threads.keeper_queue.send(keeper::Message::RotateKey);
        asked.map_err(|_| closed())
    }

    /// Waits until a checkpoint covers all that is written now.
    pub(crate) fn wait_covered(&self) -> Result<(), RecordError> {
        let (tell, told) = std::sync::mpsc::channel();
        let message = keeper::Message::Covered {
            size: self.written(),
            tell,
        };
        {
            let threads = held(&self.inner.threads);
            let queue = &threads.as_ref().ok_or_else(closed)?.keeper_queue;
            queue.send(message).map_err(|_| closed())?;
        }
        told.recv_timeout(SIGNING_PATIENCE)
            .map_err(|_| RecordError {
                message: "no checkpoint could be signed over it in time".into(),
            })
    }

    async fn append(&self, draft: Draft, ack: fn(Waiter) -> Ack) -> Result<RecordId, RecordError> {
        let (pending, answer) = pending(draft, Vec::new(), ack);
        self.inner.queue.send(pending).await?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    fn later(&self, draft: Draft, values: Vec<Salted>) {
        let pending = Pending {
            draft,
            values,
            ack: Ack::Nobody,
            since: Instant::now(),
        };
        match self.inner.queue.send_later(pending) {
            Ok(()) => {}
            Err(NotQueued::Full) => self.inner.shared.add_lost(1),
            Err(NotQueued::Closed) => {
                tracing::warn!("an event came after the log was closed");
            }
        }
    }
}

impl Inner {
    fn close(&self) {
        let mut threads = held(&self.threads);
        let Some(open) = threads.take() else {
            return;
        };
        self.shared.closing.store(true, Ordering::Release);
        self.queue.desk().wake();
        join("log-writer", open.writer);
        join("log-syncer", open.syncer);
        drop(open.keeper_queue);
        join("log-keeper", open.keeper);
        // Ends when it has sealed what the keeper handed on last.
        join("log-sealer", open.sealer);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// What a record says of values, and the values; known secrets do not get into the side store
/// either.
fn commit(
    sensitive: Vec<Sensitive>,
    secrets: &Secrets,
) -> Result<(Vec<Commitment>, Vec<Salted>), RecordError> {
    let committed = sensitive.into_iter().map(|mut value| {
        value.mask(secrets);
        value.commit()
    });
    let committed: std::io::Result<Vec<_>> = committed.collect();
    let committed = committed.map_err(|error| RecordError {
        message: error.to_string(),
    })?;
    Ok(committed.into_iter().unzip())
}

fn pending(
    draft: Draft,
    values: Vec<Salted>,
    ack: fn(Waiter) -> Ack,
) -> (Pending, oneshot::Receiver<Result<RecordId, RecordError>>) {
    let (waiter, answer) = oneshot::channel();
    let pending = Pending {
        draft,
        values,
        ack: ack(waiter),
        since: Instant::now(),
    };
    (pending, answer)
}

fn recorded(decision: Decision, id: RecordId) -> Recorded {
    match decision {
        Decision::Allow(allow) => Recorded::Allow(Permit::new(allow, id)),
        Decision::Deny(deny) => Recorded::Deny(Denied::new(deny, id)),
    }
}

fn parse(leaves: &[Vec<u8>], session: &str) -> Result<Vec<Record>, String> {
    let records: Result<Vec<_>, _> = leaves.iter().map(|leaf| Record::from_leaf(leaf)).collect();
    records.and_then(|records| {
        let all_its_own = records
            .iter()
            .all(|r| r.session.as_deref() == Some(session));
        all_its_own
            .then_some(records)
            .ok_or_else(|| "it mixes up sessions".into())
    })
}

fn join(name: &'static str, thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!(name, "a thread of the log panicked");
    }
}

/// How long whoever needs a checkpoint waits for it.
const SIGNING_PATIENCE: Duration = Duration::from_secs(10);

/// How long a reader waits for the index before it reads the journal instead.
const INDEX_PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
