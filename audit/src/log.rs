//! The log: the one way for a decision into a record, and for a record to a permit.
//!
//! Behind it three threads: one writes, one syncs and acknowledges, one hashes, indexes and signs.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::Ordering,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use cordon_policy::Decision;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::{
    Denied, Event, Permit, Record, RecordId, Recorded,
    draft::{Draft, Identity},
    files,
    keeper::{Keeper, OpenSegment},
    read::{ReadError, Reader},
    recover::recover,
    secrets::{Secret, Secrets},
    shared::{Shared, held},
    syncer::{Handover, Syncer, Waiter},
    writer::{Ack, Journal, Message, Pending, Wrap, Writer},
};

/// The open log. Cheap to clone; one writer thread behind it.
#[derive(Clone, Debug)]
pub struct Log {
    inner: Arc<Inner>,
}

/// How to open a log. Built with [`Default`]; every field has its unit in its name.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Records in a segment, after which the next journal begins. Default 65,536.
    pub segment_records: u64,
    /// Time after which new records are signed. Default 1 s.
    pub checkpoint_every: Duration,
    /// Number of new records that are signed at once. Default 4,096.
    pub checkpoint_records: u64,
    /// Time within which written records are synced. Default 20 ms.
    pub sync_within: Duration,
    /// Records that may wait for the writer; beyond that callers wait. Default 4,096.
    pub queue_records: usize,
    /// Cache of the index, in bytes. Default 64 MiB.
    pub index_cache_bytes: u64,
    /// The organisation, as every record names it. Default none.
    pub organisation: Option<String>,
    /// Which installation this is, as every record names it. Default the log's name.
    pub instance: Option<String>,
    /// Values that no record may hold: each becomes `[secret]`. Default none.
    pub secrets: Vec<Secret>,
}

/// Why a log was not opened.
#[derive(Debug, Error)]
#[error("log not opened: {message}")]
pub struct OpenError {
    /// What kind of reason.
    pub kind: OpenErrorKind,
    /// What, why, and what to do.
    pub message: String,
}

/// Kinds of reasons why a log was not opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OpenErrorKind {
    /// A file could not be read or written.
    Io,
    /// Another process has it open.
    Locked,
    /// The directory is not one that a log may be in.
    Invalid,
    /// The log is not what its checkpoint states, or is damaged. Nothing was changed.
    Integrity,
}

/// Why something could not be recorded. Nothing may be done then: answer 503.
#[derive(Clone, Debug, Error)]
#[error("not recorded, so not done: {message}")]
pub struct RecordError {
    /// What and why.
    pub message: String,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    origin: String,
    queue: mpsc::Sender<Message>,
    secrets: Secrets,
    shared: Arc<Shared>,
    threads: Mutex<Option<Threads>>,
}

#[derive(Debug)]
struct Threads {
    hurry: SyncSender<Handover>,
    writer: JoinHandle<()>,
    syncer: JoinHandle<()>,
    keeper: JoinHandle<()>,
    /// Held for as long as anything may be written.
    _lock: std::fs::File,
}

impl Log {
    /// Opens or creates the log in `directory` (0700), takes its lock, recovers the journal.
    ///
    /// # Errors
    /// [`OpenError`]; an existing log is never started empty.
    pub fn open(directory: &Path, options: LogOptions) -> Result<Self, OpenError> {
        Self::open_with(directory, options, Arc::new(|file| Arc::new(file)))
    }

    /// As [`Log::open`], with journal files as `wrap` makes them.
    pub(crate) fn open_with(
        directory: &Path,
        options: LogOptions,
        wrap: Wrap,
    ) -> Result<Self, OpenError> {
        let secrets = Secrets::new(&options.secrets)
            .map_err(|error| OpenError::new(OpenErrorKind::Invalid, error))?;
        files::private_directory(directory)?;
        let lock = files::lock(directory)?;
        let found = recover(directory)?;
        let fail = |error| OpenError::io(directory, "served", &error);

        let shared = Arc::new(Shared::recovered(found.frontier.size()));
        let (queue, queued) = mpsc::channel(options.queue_records.max(1));
        let (hurry, handovers) = sync_channel(HANDOVERS);
        let (keeper_queue, messages) = sync_channel(HANDOVERS);
        let writer = Writer {
            directory: directory.to_owned(),
            origin: found.signer.origin(),
            boot: boot_id(),
            identity: Identity::new(
                options.instance.as_deref().unwrap_or(found.signer.name()),
                options.organisation.clone(),
            ),
            segment_records: options.segment_records.max(1),
            shared: Arc::clone(&shared),
            syncer: hurry.clone(),
            keeper: keeper_queue.clone(),
            journal: Journal {
                disk: wrap(found.journal),
                first: found.first,
                next: found.frontier.size(),
                offset: found.bytes,
                epoch: 1,
                dirty_tail: false,
                unsynced: std::collections::VecDeque::new(),
            },
            wrap,
        };
        let syncer = Syncer::new(Arc::clone(&shared), keeper_queue, options.sync_within);
        let mut segment = OpenSegment::begin(directory, found.first, &found.leaves);
        segment.bytes = found.bytes;
        segment.sessions = found.sessions;
        let origin = found.signer.name().to_owned();
        let keeper = Keeper {
            directory: directory.to_owned(),
            options,
            signer: found.signer,
            shared: Arc::clone(&shared),
            writer: queue.downgrade(),
            sign_at: (found.frontier.size() > found.signed).then(Instant::now),
            frontier: found.frontier,
            signed: found.signed,
            segment,
        };
        let threads = Threads {
            hurry,
            writer: spawn("log-writer", move || writer.run(queued)).map_err(fail)?,
            syncer: spawn("log-syncer", move || syncer.run(&handovers)).map_err(fail)?,
            keeper: spawn("log-keeper", move || keeper.run(&messages)).map_err(fail)?,
            _lock: lock,
        };
        let log = Self {
            inner: Arc::new(Inner {
                directory: directory.to_owned(),
                origin,
                queue,
                secrets,
                shared,
                threads: Mutex::new(Some(threads)),
            }),
        };
        if found.cut_bytes > 0 {
            log.later(Draft::of_gap(0, found.cut_bytes));
        }
        Ok(log)
    }

    /// Records a decision; resolves only when the record is on stable storage (`fdatasync`).
    ///
    /// Callers MUST NOT act before it resolves, and MUST NOT act at all on an error. After an
    /// error the record may still be in the log: it then tells of a decision that had no effect.
    ///
    /// # Errors
    /// [`RecordError`]: nothing may be done.
    pub async fn record(&self, decision: Decision) -> Result<Recorded, RecordError> {
        let id = self
            .append(Draft::of_decision(&decision, &self.inner.secrets), Ack::Synced)
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
        let id = self
            .append(Draft::of_decision(&decision, &self.inner.secrets), Ack::Written)
            .await?;
        Ok(recorded(decision, id))
    }

    /// Records an event; resolves when it is on stable storage.
    ///
    /// # Errors
    /// [`RecordError`].
    pub async fn event(&self, event: Event) -> Result<RecordId, RecordError> {
        self.append(Draft::of_event(&event, &self.inner.secrets), Ack::Synced).await
    }

    /// Queues an event without waiting for it (the end of a flow). Back pressure: when the queue
    /// is full, the event is counted and a `log.gap` record says how many were lost.
    pub fn event_later(&self, event: Event) {
        self.later(Draft::of_event(&event, &self.inner.secrets));
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
        if let Some(threads) = &*held(&self.inner.threads) {
            // A full channel means that the syncer has work that it will not wait with.
            let _full = threads.hurry.try_send(Handover::Hurry);
            shared.urgent.ring();
        }
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
                    let mut records = reader
                        .session_between(session, 0, index.first())
                        .map_err(fail)?;
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

    /// Syncs, signs a last checkpoint, seals the index and gives the lock back. Idempotent.
    /// Blocks until that is done.
    pub fn close(&self) {
        self.inner.close();
    }

    async fn append(&self, draft: Draft, ack: fn(Waiter) -> Ack) -> Result<RecordId, RecordError> {
        let (waiter, answer) = oneshot::channel();
        let message = Message::Append(Pending {
            draft: Box::new(draft),
            ack: ack(waiter),
            since: Instant::now(),
        });
        self.inner.queue.send(message).await.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    fn later(&self, draft: Draft) {
        let message = Message::Append(Pending {
            draft: Box::new(draft),
            ack: Ack::Nobody,
            since: Instant::now(),
        });
        match self.inner.queue.try_send(message) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => self.inner.shared.add_lost(1),
            Err(mpsc::error::TrySendError::Closed(_)) => {
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
        // A full queue wakes the writer as well.
        let _full = self.queue.try_send(Message::Wake);
        join("log-writer", open.writer);
        drop(open.hurry);
        join("log-syncer", open.syncer);
        join("log-keeper", open.keeper);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_records: 65_536,
            checkpoint_every: Duration::from_secs(1),
            checkpoint_records: 4_096,
            sync_within: Duration::from_millis(20),
            queue_records: 4_096,
            index_cache_bytes: 64 * 1024 * 1024,
            organisation: None,
            instance: None,
            secrets: Vec::new(),
        }
    }
}

impl OpenError {
    pub(crate) fn new(kind: OpenErrorKind, message: String) -> Self {
        Self { kind, message }
    }

    pub(crate) fn io(path: &Path, done: &str, error: &std::io::Error) -> Self {
        Self::new(
            OpenErrorKind::Io,
            format!(
                "`{}` cannot be {done}: {error}: nothing runs without its log, so see to the \
                 disk, its space and its permissions",
                path.display()
            ),
        )
    }

    pub(crate) fn integrity(what: String) -> Self {
        Self::new(
            OpenErrorKind::Integrity,
            format!(
                "the log is not whole: {what}. Nothing was changed. `cordon audit verify` names \
                 the first bad record; to go on, move the log's directory aside as evidence, and \
                 a new log begins"
            ),
        )
    }
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

fn closed() -> RecordError {
    RecordError {
        message: "the log is closed".into(),
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(run)
}

fn join(name: &'static str, thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!(name, "a thread of the log panicked");
    }
}

fn boot_id() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.map(|text| text.trim().to_owned()).unwrap_or_default()
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// Groups under way between two threads; beyond that the one before waits.
const HANDOVERS: usize = 256;

/// How long a reader waits for the index before it reads the journal instead.
const INDEX_PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
