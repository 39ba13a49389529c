//! Opens a log: takes its lock, recovers what is there, and starts the threads.

use std::{
    collections::VecDeque,
    fmt,
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering, mpsc::sync_channel},
    thread::{self, JoinHandle},
    time::Instant,
};

use tokio::sync::mpsc;

use super::{Inner, Log, LogOptions, OpenError, OpenErrorKind, Threads};
use crate::{
    desk::{Desk, Queue},
    draft::{Draft, Identity},
    files,
    group::Group,
    keeper::{Keeper, Timers},
    recover::recover,
    sealer::Sealer,
    secrets::Secrets,
    shared::{Ring, Shared},
    side::SideWriter,
    syncer::Syncer,
    writer::{Journal, Wrap, Writer},
};

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
        shared.covered.store(found.signed, Ordering::Release);
        shared.sealed.store(found.sealed, Ordering::Release);
        let (queue, queued) = mpsc::channel(options.queue_records.max(1));
        let (keeper_queue, messages) = sync_channel(HANDOVERS);
        let disk = wrap(found.journal);
        let writer = Writer {
            inbox: queued,
            left: VecDeque::new(),
            directory: directory.to_owned(),
            origin: found.signer.origin(),
            identity: Identity::new(
                options.instance.as_deref().unwrap_or(found.signer.name()),
                options.organisation.clone(),
            ),
            segment_records: options.segment_records.max(1),
            shared: Arc::clone(&shared),
            tray: Vec::new(),
            ring: Ring::Not,
            answer: None,
            keeper: keeper_queue.clone(),
            journal: Journal {
                open: Group {
                    disk: Arc::clone(&disk),
                    offset: found.bytes,
                    bytes: Vec::new(),
                    first: found.frontier.size(),
                    entries: Vec::new(),
                    segment: found.first,
                    epoch: 1,
                    spare: Arc::default(),
                },
                disk,
                first: found.first,
                next: found.frontier.size(),
                offset: found.bytes,
                epoch: 1,
                dirty_tail: false,
                unsynced: VecDeque::new(),
                waiters: Vec::new(),
            },
            wrap,
            side: SideWriter::new(directory),
        };
        let desk = Desk::new(writer, Arc::clone(&shared));
        let queue = Queue::new(queue, Arc::clone(&desk));
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
            queue: queue.clone(),
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
            asked: Vec::new(),
        };
        let threads = Threads {
            keeper_queue,
            writer: {
                let desk = Arc::clone(&desk);
                spawn("log-writer", move || desk.run()).map_err(fail)?
            },
            syncer: spawn("log-syncer", move || syncer.run(&desk)).map_err(fail)?,
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
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(run)
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// Groups under way between two threads; beyond that the one before waits.
const HANDOVERS: usize = 256;
