//! The keeper: hashes, indexes and signs what is durable, and closes full segments.
//!
//! It never sees a record that is not on stable storage, so no checkpoint can state a size that
//! a crash takes back. Nobody waits for it but readers of the index.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc::WeakSender;

use crate::{
    LogOptions, Record,
    checkpoint::{Checkpoint, Signer},
    files, frame,
    index::{Index, Indexed},
    merkle::{Frontier, Hash, leaf_hash},
    segment::Segment,
    shared::{Group, Shared},
    writer,
};

/// What the keeper is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// These are on stable storage, in order.
    Durable(Vec<Arc<Group>>),
    /// Something is wrong with writing: remind the writer until it is not.
    Trouble,
    /// Sign what there is, close the index, and end.
    End,
}

/// The keeper's state. Runs on its own thread.
pub(crate) struct Keeper {
    pub(crate) directory: PathBuf,
    pub(crate) options: LogOptions,
    pub(crate) signer: Signer,
    pub(crate) shared: Arc<Shared>,
    pub(crate) writer: WeakSender<writer::Message>,
    pub(crate) frontier: Frontier,
    pub(crate) signed: u64,
    pub(crate) sign_at: Option<Instant>,
    pub(crate) segment: OpenSegment,
}

/// What is known about the segment that is being filled.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    pub(crate) first: u64,
    /// Length of its journal, as far as it is durable.
    pub(crate) bytes: u64,
    pub(crate) sessions: BTreeSet<String>,
    /// Its leaf hashes, 32 bytes each: with them [`crate::verify`] can name a changed record.
    pub(crate) leaves: Option<File>,
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
                Ok(Message::Trouble) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.sign_at.is_some_and(|at| at <= Instant::now()) {
                self.sign();
            }
            if self.shared.cannot_write()
                && let Some(writer) = self.writer.upgrade()
            {
                // A full queue wakes the writer as well.
                let _full = writer.try_send(writer::Message::Wake);
            }
        }
        if self.frontier.size() > self.signed {
            self.sign();
        }
        if let Some(index) = self.shared.set_index(None) {
            self.close_index(index);
        }
    }

    fn wait(&self) -> Option<Duration> {
        let sign = self
            .sign_at
            .map(|at| at.saturating_duration_since(Instant::now()));
        let trouble = self.shared.cannot_write().then_some(TROUBLE_INTERVAL);
        sign.into_iter().chain(trouble).min()
    }

    fn keep(&mut self, groups: Vec<Arc<Group>>) {
        for part in groups.chunk_by(|a, b| a.segment == b.segment) {
            if part
                .first()
                .is_some_and(|group| group.segment != self.segment.first)
            {
                self.next_segment();
            }
            self.keep_part(part);
        }
        if self.frontier.size() - self.signed >= self.options.checkpoint_records {
            self.sign();
        } else if self.frontier.size() > self.signed {
            self.sign_at
                .get_or_insert_with(|| Instant::now() + self.options.checkpoint_every);
        }
    }

    /// Keeps groups of one segment.
    fn keep_part(&mut self, part: &[Arc<Group>]) {
        let mut hashes = Vec::new();
        for group in part {
            for (_, entry, leaf) in group.records() {
                let hash = leaf_hash(leaf);
                self.frontier.push(hash);
                hashes.push(hash);
                if let Some(session) = &entry.session
                    && !self.segment.sessions.contains(session)
                {
                    self.segment.sessions.insert(session.clone());
                }
            }
            self.segment.bytes = group.end_offset();
        }
        self.append_leaves(&hashes);
        self.feed(part);
        self.shared.set_indexed(self.frontier.size());
    }

    /// The leaf hashes help to explain damage; nothing rests on them.
    fn append_leaves(&mut self, hashes: &[Hash]) {
        let count = u64::try_from(hashes.len()).unwrap_or_default();
        let at = 32 * (self.frontier.size() - count - self.segment.first);
        if let Some(file) = &self.segment.leaves
            && let Err(error) = file.write_all_at(&hashes.concat(), at)
        {
            tracing::warn!(%error, "leaf hashes not written; a changed record may not be named");
            self.segment.leaves = None;
        }
    }

    fn feed(&self, part: &[Arc<Group>]) {
        let Some(index) = self.shared.index() else {
            return;
        };
        let records = part.iter().flat_map(|group| group.records());
        let fed = index.feed(records.map(|(seq, entry, leaf)| Indexed {
            seq,
            session: entry.session.as_deref(),
            leaf,
        }));
        if let Err(error) = fed {
            tracing::error!(%error, "index given up; reads go to the journal until the next start");
            self.shared.set_index(None);
        }
    }

    /// The open segment is full: signs up to its end, writes down what it is, begins the next.
    fn next_segment(&mut self) {
        let first = self.frontier.size();
        self.sign();
        let full = &self.segment;
        let segment = Segment::new(full.first, full.bytes, &self.frontier, &full.sessions);
        // Without it, the next start replays this segment as well.
        if self.signed < first {
            tracing::warn!(
                first = full.first,
                "segment not closed: it could not be signed"
            );
        } else if let Err(error) = segment.save(&self.directory) {
            tracing::warn!(%error, first = full.first, "segment not closed");
        }
        self.shared.set_index(None);
        if let Err(error) = Index::remove(&self.directory, full.first) {
            tracing::warn!(%error, first = full.first, "index of a full segment not removed");
        }
        self.segment = OpenSegment::begin(&self.directory, first, &[]);
        self.create_index();
    }

    fn create_index(&self) {
        let cache = self.options.index_cache_bytes;
        match Index::create(&self.directory, self.segment.first, cache) {
            Ok(index) => {
                self.shared.set_index(Some(index));
            }
            Err(error) => {
                tracing::error!(%error, "no index; reads go to the journal until the next start");
            }
        }
    }

    /// Takes the index as it was closed, or makes it again from the journal.
    fn load_index(&self) {
        let (first, end) = (self.segment.first, self.frontier.size());
        let cache = self.options.index_cache_bytes;
        if let Some(index) = Index::reopen(&self.directory, first, end, cache) {
            self.shared.set_index(Some(index));
        } else {
            self.create_index();
            if let Err(error) = self.rebuild(end) {
                tracing::error!(%error, "no index; reads go to the journal until the next start");
                self.shared.set_index(None);
            }
        }
        self.shared.set_indexed(end);
    }

    fn rebuild(&self, end: u64) -> Result<(), String> {
        let Some(index) = self.shared.index() else {
            return Ok(());
        };
        let path = files::path_of(&self.directory, "journal", self.segment.first, ".log");
        let text = |error: io::Error| error.to_string();
        let mut journal = io::BufReader::new(File::open(path).map_err(text)?);
        frame::Header::read(&mut journal).map_err(text)??;
        let mut records = Vec::new();
        let mut seq = self.segment.first;
        while seq < end {
            let frame::Next::Frame(frame) = frame::read(&mut journal).map_err(text)? else {
                return Err("the journal changed underneath".into());
            };
            records.push((frame.seq, Record::from_leaf(&frame.leaf)?, frame.leaf));
            seq += 1;
            if records.len() == REBUILD_BATCH || seq == end {
                index.feed(records.iter().map(|(seq, record, leaf)| Indexed {
                    seq: *seq,
                    session: record.session.as_deref(),
                    leaf,
                }))?;
                records.clear();
            }
        }
        Ok(())
    }

    fn sign(&mut self) {
        let checkpoint = Checkpoint {
            size: self.frontier.size(),
            root: self.frontier.root(),
        };
        let published = self.signer.publish(&self.directory, checkpoint);
        if published.is_ok() {
            self.signed = checkpoint.size;
        }
        self.sign_at = match published {
            Ok(()) => None,
            Err(_) => Some(Instant::now() + self.options.checkpoint_every),
        };
        self.shared
            .set_proving(published.map_err(|error| error.to_string()));
    }

    fn close_index(&self, index: Index) {
        if let Err(error) = index.close(&self.directory, self.frontier.size()) {
            tracing::warn!(%error, "index not closed in good order; it will be made again");
        }
    }
}

impl OpenSegment {
    /// The segment from `first` on, with the leaf hashes it has already.
    pub(crate) fn begin(directory: &std::path::Path, first: u64, leaves: &[Hash]) -> Self {
        let path = files::path_of(directory, "leaves", first, ".sha256");
        let made = files::replace(&path, &leaves.concat()).and_then(|()| files::open(&path));
        Self {
            first,
            bytes: 0,
            sessions: BTreeSet::new(),
            leaves: made
                .inspect_err(|error| tracing::warn!(%error, "leaf hashes not written"))
                .ok(),
        }
    }
}

/// How often the writer is reminded that something is wrong.
const TROUBLE_INTERVAL: Duration = Duration::from_millis(250);

const REBUILD_BATCH: usize = 4096;
