//! The keeper: hashes, indexes and signs what is durable, and hands closed journals on for sealing.
//!
//! It never sees a record that is not on stable storage, so no checkpoint can state a size that
//! a crash takes back. Nobody waits for it but readers of the index. It also changes the log's
//! key once a day.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    Event, Kind, LogOptions, Record, RecordError, RecordId,
    checkpoint::{Checkpoint, Signer},
    desk::Queue,
    draft::{Draft, Owner},
    files, frame,
    group::Group,
    index::{Index, Indexed},
    merkle::{Frontier, leaf_hash},
    record::KeyChange,
    seal::Closed,
    secrets::Secrets,
    shared::Shared,
    writer::{self, Ack, Pending},
};

/// What the keeper is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// These are on stable storage, in order.
    Durable(Vec<Arc<Group>>),
    /// The journal from this record on is open now; the one before it is closed.
    Rotated { first: u64 },
    /// Something is wrong with writing: remind the writer until it is not.
    Trouble,
    /// Change the key now.
    RotateKey,
    /// Tell when a checkpoint covers so many records.
    Covered { size: u64, tell: Sender<()> },
    /// Sign what there is, close the index, and end.
    End,
}

/// The keeper's state. Runs on its own thread.
pub(crate) struct Keeper {
    pub(crate) directory: PathBuf,
    pub(crate) options: LogOptions,
    pub(crate) signer: Signer,
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: Queue,
    pub(crate) sealer: Sender<Closed>,
    pub(crate) frontier: Frontier,
    pub(crate) signed: u64,
    pub(crate) sign_at: Option<Instant>,
    /// First record of the open journal.
    pub(crate) journal: u64,
    /// Closed journals, to be sealed once they are signed.
    pub(crate) closed: VecDeque<Closed>,
    pub(crate) timers: Timers,
    /// A key change that is being recorded.
    pub(crate) changing: Option<oneshot::Receiver<Result<RecordId, RecordError>>>,
    /// The next key is announced and has not taken over yet.
    pub(crate) taking: bool,
    /// Who wants to know when a checkpoint covers so many records.
    pub(crate) asked: Vec<(u64, Sender<()>)>,
}

/// What the keeper does from time to time.
#[derive(Debug)]
pub(crate) struct Timers {
    /// When the open journal is old enough to be closed.
    pub(crate) close: Option<Instant>,
    /// When the key is old enough to be changed.
    pub(crate) key: Instant,
    /// When the next checkpoint is kept for good.
    pub(crate) keep: Instant,
}

impl Keeper {
    /// Works until it is told to end, or the syncer is gone.
    pub(crate) fn run(mut self, messages: &Receiver<Message>) {
        self.load_index();
        loop {
            let message = match self.wait() {
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(limit) => messages.recv_timeout(limit),
            };
            match message {
                Ok(Message::Durable(groups)) => self.keep(groups),
                Ok(Message::Rotated { first }) => self.next_journal(first),
                Ok(Message::RotateKey) => self.timers.key = Instant::now(),
                Ok(Message::Covered { size, tell }) => self.asked.push((size, tell)),
                Ok(Message::Trouble) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.sign_at.is_some_and(|at| at <= Instant::now()) {
                self.sign(false);
            }
            self.tell_covered();
            self.keep_time();
            if self.shared.cannot_write() {
                self.queue.desk().wake();
            }
        }
        self.end();
    }

    /// Signs all there is, and hands the open journal on as well when all of it is durable.
    fn end(&mut self) {
        if self.frontier.size() > self.signed {
            self.sign(true);
        }
        self.shared.set_index(None);
        // A journal with records that could not be synced stays open, for the next start.
        let all_durable = self.frontier.size() == self.shared.written.load(Ordering::Acquire);
        if all_durable && self.frontier.size() > self.journal {
            self.close_journal();
        }
        self.hand_on();
    }

    /// Signs for those who wait for a checkpoint, and tells them; one that cannot be signed is
    /// tried again in its time.
    fn tell_covered(&mut self) {
        let size = self.frontier.size();
        let unsigned = |(wanted, _): &(u64, _)| (self.signed + 1..=size).contains(wanted);
        if self.asked.iter().any(unsigned) {
            self.sign(false);
        }
        let signed = self.signed;
        for (_, tell) in self.asked.extract_if(.., |(wanted, _)| *wanted <= signed) {
            // Whoever asked may have lost patience.
            let _gone = tell.send(());
        }
    }

    fn wait(&self) -> Option<Duration> {
        let times = [self.sign_at, self.timers.close, Some(self.timers.key)];
        let next = times.into_iter().flatten().min();
        let next = next.map(|at| at.saturating_duration_since(Instant::now()));
        let trouble = self.shared.cannot_write().then_some(TROUBLE_INTERVAL);
        next.into_iter().chain(trouble).min()
    }

    fn keep_time(&mut self) {
        let now = Instant::now();
        if self.timers.close.is_some_and(|at| at <= now) {
            // Asked again when the queue is full, or when it could not be done.
            self.timers.close = Some(now + RETRY);
            let _full = self.queue.order(writer::Message::Rotate {
                first: self.journal,
            });
        }
        if self.timers.key <= now {
            self.timers.key = now + RETRY;
            if self.taking {
                self.change_key();
            } else if let Err(error) = self.announce_key() {
                tracing::error!(%error, "the log's key is not changed");
            }
        }
    }

    fn keep(&mut self, groups: Vec<Arc<Group>>) {
        for part in groups.chunk_by(|a, b| a.segment == b.segment) {
            if let Some(group) = part.first() {
                self.next_journal(group.segment);
            }
            self.keep_part(part);
        }
        if self.frontier.size() - self.signed >= self.options.checkpoint_records {
            self.sign(false);
        } else if self.frontier.size() > self.signed {
            self.sign_at
                .get_or_insert_with(|| Instant::now() + self.options.checkpoint_every);
        }
    }

    /// Keeps groups of one journal.
    fn keep_part(&mut self, part: &[Arc<Group>]) {
        let mut announced = None;
        for group in part {
            for (_, entry, leaf) in group.records() {
                self.frontier.push(leaf_hash(leaf));
                if entry.kind == Kind::KeyRotate {
                    announced = Record::from_leaf(leaf).ok().and_then(|record| record.key);
                }
            }
        }
        self.feed(part);
        self.shared.set_indexed(self.frontier.size());
        self.timers
            .close
            .get_or_insert_with(|| Instant::now() + self.options.seal_after);
        if let Some(key) = announced {
            self.announced(&key.new);
        }
    }

    /// A key is announced, durable. It takes over where it is the next one; where it is not, it
    /// has done so already, and is announced again because the first time was refused.
    fn announced(&mut self, public: &str) {
        self.changing = None;
        match self.signer.is_next(&self.directory, public) {
            Ok(true) => {
                self.taking = true;
                self.change_key();
            }
            Ok(false) => {}
            Err(error) => {
                // Tried again; until then the journal that tells of it is not sealed.
                self.taking = true;
                self.timers.key = Instant::now() + RETRY;
                tracing::error!(%error, "the log's key is not changed");
            }
        }
    }

    fn feed(&self, part: &[Arc<Group>]) {
        let Some(index) = self.shared.index() else {
            return;
        };
        let records = part.iter().flat_map(|group| {
            let records = group.records();
            records.map(|(seq, entry, _)| Indexed {
                seq,
                session: entry.session.as_ref().map(Owner::as_str),
                at: group.offset_of(entry),
            })
        });
        let fed = index.feed(records);
        if let Err(error) = fed {
            tracing::error!(%error, "index given up; reads go to the journal until the next start");
            self.shared.set_index(None);
        }
    }

    /// The journal from `first` on is open: closes the one before it.
    fn next_journal(&mut self, first: u64) {
        if first == self.journal {
            return;
        }
        self.close_journal();
        self.sign(true);
        self.shared.set_index(None);
        self.journal = first;
        self.timers.close = None;
        self.create_index();
    }

    /// Notes that the open journal gets no more records. Its end is what is durable.
    fn close_journal(&mut self) {
        self.closed.push_back(Closed {
            first: self.journal,
            end: self.frontier.size(),
            root: self.frontier.root(),
        });
    }

    /// Hands on what is signed, so that nothing is sealed that no checkpoint covers.
    fn hand_on(&mut self) {
        // Until the new key is in its place, the journal is what tells that it is announced.
        while !self.taking
            && let Some(journal) = self.closed.pop_front_if(|next| next.end <= self.signed)
        {
            // A sealer that is gone leaves it to the next start.
            let _gone = self.sealer.send(journal);
        }
    }

    /// Makes the next key and has it recorded.
    fn announce_key(&mut self) -> io::Result<()> {
        if let Some(changing) = &mut self.changing {
            match changing.try_recv() {
                // Under way, or durable and on its way here.
                Ok(Ok(_)) | Err(oneshot::error::TryRecvError::Empty) => return Ok(()),
                // Refused; the record may still come to be there. Not before the next time.
                Ok(Err(_)) | Err(oneshot::error::TryRecvError::Closed) => {
                    self.changing = None;
                    return Ok(());
                }
            }
        }
        if self.queue.is_closed() {
            return Ok(());
        }
        let (new, old) = self.signer.prepare_next(&self.directory)?;
        let event = Event::KeyRotated {
            key: KeyChange { new, old },
        };
        let (waiter, answer) = oneshot::channel();
        let message = writer::Message::Append(Pending {
            draft: Draft::of_event(&event, &Secrets::default()),
            values: Vec::new(),
            ack: Ack::Synced(waiter),
            since: Instant::now(),
        });
        self.queue
            .order(message)
            .map_err(|_not_queued| io::Error::other("the log's queue is full"))?;
        self.changing = Some(answer);
        Ok(())
    }

    /// The announcement is durable: the old key signs it, the new one everything after.
    fn change_key(&mut self) {
        self.sign(true);
        if self.signed < self.frontier.size() {
            self.timers.key = Instant::now() + RETRY;
            return;
        }
        match self.signer.take_next(&self.directory) {
            Ok(()) => {
                self.taking = false;
                self.timers.key = Instant::now() + self.options.key_lifetime;
                self.sign(true);
                tracing::info!("the log's key was changed");
            }
            Err(error) => {
                self.timers.key = Instant::now() + RETRY;
                tracing::error!(%error, "the log's key is not changed");
            }
        }
    }

    fn create_index(&self) {
        let cache = self.options.index_cache_bytes;
        match Index::create(&self.directory, self.journal, cache) {
            Ok(index) => {
                self.shared.set_index(Some(index));
            }
            Err(error) => {
                tracing::error!(%error, "no index; reads go to the journal until the next start");
            }
        }
    }

    /// Makes the index again from the journal, whatever a crash left of it.
    fn load_index(&self) {
        let end = self.frontier.size();
        self.create_index();
        if let Err(error) = self.rebuild(end) {
            tracing::error!(%error, "no index; reads go to the journal until the next start");
            self.shared.set_index(None);
        }
        self.shared.set_indexed(end);
    }

    fn rebuild(&self, end: u64) -> Result<(), String> {
        let Some(index) = self.shared.index() else {
            return Ok(());
        };
        let path = files::path_of(&self.directory, "journal", self.journal, ".log");
        let text = |error: io::Error| error.to_string();
        let mut journal = io::BufReader::new(File::open(path).map_err(text)?);
        frame::Header::read(&mut journal).map_err(text)??;
        let mut records = Vec::new();
        let mut seq = self.journal;
        let mut at = frame::HEADER;
        while seq < end {
            let frame::Next::Frame(frame) = frame::read(&mut journal).map_err(text)? else {
                return Err("the journal changed underneath".into());
            };
            records.push((frame.seq, Record::from_leaf(&frame.leaf)?.session, at));
            at += u64::try_from(frame::FRAME + frame.leaf.len()).unwrap_or_default();
            seq += 1;
            if records.len() == REBUILD_BATCH || seq == end {
                index.feed(records.iter().map(|(seq, session, at)| Indexed {
                    seq: *seq,
                    session: session.as_deref(),
                    at: *at,
                }))?;
                records.clear();
            }
        }
        Ok(())
    }

    fn sign(&mut self, keep: bool) {
        let now = Instant::now();
        let keep = keep || self.timers.keep <= now;
        let checkpoint = Checkpoint {
            size: self.frontier.size(),
            root: self.frontier.root(),
        };
        let published = self.signer.publish(&self.directory, checkpoint, keep);
        if published.is_ok() {
            self.signed = checkpoint.size;
            self.shared
                .covered
                .store(checkpoint.size, Ordering::Release);
            if keep {
                self.timers.keep = now + self.options.keep_checkpoint_every;
            }
        }
        self.sign_at = match published {
            Ok(()) => None,
            Err(_) => Some(now + self.options.checkpoint_every),
        };
        self.shared
            .set_proving(published.map_err(|error| error.to_string()));
        self.hand_on();
    }
}

/// How often the writer is reminded that something is wrong.
const TROUBLE_INTERVAL: Duration = Duration::from_millis(250);

/// Time until what could not be done is tried again.
const RETRY: Duration = Duration::from_secs(30);

const REBUILD_BATCH: usize = 4096;
