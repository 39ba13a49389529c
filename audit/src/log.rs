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
    keeper::{self, Keeper, Timers},
    read::{ReadError, Reader},
    recover::recover,
    sealer::Sealer,
    secrets::{Secret, Secrets},
    shared::{Shared, held},
    side::{Salted, Sensitive, SideWriter},
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
    /// Records after which a journal is sealed and the next one begins, at multiples of it.
    /// Default 65,536: the records under a full tile of level 1.
    pub segment_records: u64,
    /// Time after which a journal is sealed, however few records it has. Default 24 h.
    pub seal_after: Duration,
    /// Time after which a segment is complete, however few records it has: what is kept and goes
    /// together is no longer than that. Default 24 h.
    pub segment_age: Duration,
    /// Time that a key signs. Default 24 h.
    pub key_lifetime: Duration,
    /// Time between checkpoints that are kept for good, beside those at the end of a journal and
    /// at a change of keys. Default 1 h.
    pub keep_checkpoint_every: Duration,
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
    keeper_queue: SyncSender<keeper::Message>,
    writer: JoinHandle<()>,
    syncer: JoinHandle<()>,
    keeper: JoinHandle<()>,
    sealer: JoinHandle<()>,
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
            side: SideWriter::new(directory),
        };
        let syncer = Syncer::new(
            Arc::clone(&shared),
            keeper_queue.clone(),
            options.sync_within,
        );
        let (closed, journals) = std::sync::mpsc::channel();
        let sealer = Sealer {
            directory: directory.to_owned(),
            options: options.clone(),
            shared: Arc::clone(&shared),
            journal: found.first,
        };
        let origin = found.signer.name().to_owned();
        let age = found.signer.age(directory).map_err(fail)?;
        let now = Instant::now();
        let keeper = Keeper {
            directory: directory.to_owned(),
            timers: Timers {
                close: (found.frontier.size() > found.first).then(|| now + options.seal_after),
                key: now + options.key_lifetime.saturating_sub(age),
                keep: now,
            },
            options,
            signer: found.signer,
            shared: Arc::clone(&shared),
            writer: queue.downgrade(),
            sealer: closed,
            // What a crash left closed and not sealed wants to be signed and handed on.
            sign_at: (found.frontier.size() > found.signed || !found.unsealed.is_empty())
                .then_some(now),
            frontier: found.frontier,
            signed: found.signed,
            journal: found.first,
            closed: found.unsealed.into(),
            changing: None,
            taking: false,
        };
        let threads = Threads {
            hurry,
            keeper_queue,
            writer: spawn("log-writer", move || writer.run(queued)).map_err(fail)?,
            syncer: spawn("log-syncer", move || syncer.run(&handovers)).map_err(fail)?,
            keeper: spawn("log-keeper", move || keeper.run(&messages)).map_err(fail)?,
            sealer: spawn("log-sealer", move || sealer.run(&journals)).map_err(fail)?,
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
            log.later(Draft::of_gap(0, found.cut_bytes), Vec::new());
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
        let id = self
            .append(
                Draft::of_decision(&decision, &self.inner.secrets),
                Ack::Written,
            )
            .await?;
        Ok(recorded(decision, id))
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
        let mut draft = Draft::of_decision(&decision, &self.inner.secrets);
        let values = commit(&mut draft, sensitive)?;
        let (message, answer) = pending(draft, values, Ack::Synced);
        self.inner.queue.send(message).await.map_err(|_| closed())?;
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
        let (message, answer) = pending(
            Draft::of_event(&event, &self.inner.secrets),
            Vec::new(),
            Ack::Synced,
        );
        let queued = self.inner.queue.blocking_send(message);
        queued.map_err(|_| closed())?;
        answer.blocking_recv().unwrap_or_else(|_| Err(closed()))
    }

    /// As [`Log::event_later`], of an event with values that must not be in the log.
    pub fn event_later_with(&self, event: &Event, sensitive: Vec<Sensitive>) {
        let mut draft = Draft::of_event(event, &self.inner.secrets);
        match commit(&mut draft, sensitive) {
            Ok(values) => self.later(draft, values),
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

    async fn append(&self, draft: Draft, ack: fn(Waiter) -> Ack) -> Result<RecordId, RecordError> {
        let (message, answer) = pending(draft, Vec::new(), ack);
        self.inner.queue.send(message).await.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    fn later(&self, draft: Draft, values: Vec<Salted>) {
        let message = Message::Append(Pending {
            draft: Box::new(draft),
            values,
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

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_records: 65_536,
            seal_after: DAY,
            segment_age: DAY,
            key_lifetime: DAY,
            keep_checkpoint_every: Duration::from_secs(3600),
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
                 the first bad record; to go on, `cordon audit new-origin --because TEXT` keeps \
                 this log as evidence and begins a new one that names it"
            ),
        )
    }
}

/// Has the draft commit to values.
fn commit(draft: &mut Draft, sensitive: Vec<Sensitive>) -> Result<Vec<Salted>, RecordError> {
    let committed: std::io::Result<Vec<_>> = sensitive.into_iter().map(Sensitive::commit).collect();
    let committed = committed.map_err(|error| RecordError {
        message: error.to_string(),
    })?;
    let (commitments, values) = committed.into_iter().unzip();
    draft.commit_to(commitments);
    Ok(values)
}

fn pending(
    draft: Draft,
    values: Vec<Salted>,
    ack: fn(Waiter) -> Ack,
) -> (Message, oneshot::Receiver<Result<RecordId, RecordError>>) {
    let (waiter, answer) = oneshot::channel();
    let message = Message::Append(Pending {
        draft: Box::new(draft),
        values,
        ack: ack(waiter),
        since: Instant::now(),
    });
    (message, answer)
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

const DAY: Duration = Duration::from_secs(86_400);

/// Groups under way between two threads; beyond that the one before waits.
const HANDOVERS: usize = 256;

/// How long a reader waits for the index before it reads the journal instead.
const INDEX_PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
