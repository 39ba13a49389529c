//! Serves one sink: reads on from its cursor, delivers, keeps the cursor, and tries again when it
//! has to.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use cordon_session::config::SinkConfig;
use tokio::{sync::watch, task::spawn_blocking, time::sleep};
use tracing::{info, warn};

use crate::{
    Places, Shared, SinkError,
    backoff::{Backoff, random},
    cursor::Cursor,
    feed::{Batch, Feed},
    source,
    target::{Failure, Target},
};

/// One sink at work.
#[derive(Debug)]
pub(crate) struct Runner {
    name: String,
    log: PathBuf,
    target: Target,
    cursor: Cursor,
    shared: Arc<Shared>,
    backoff: Backoff,
    feed: Option<Feed>,
    batch: Batch,
    /// Records at a time: fewer after a receiver refused some, to find the one it means.
    limit: usize,
}

impl Runner {
    pub(crate) fn new(
        places: &Places,
        config: &SinkConfig,
        target: Target,
        shared: Arc<Shared>,
    ) -> Result<Self, SinkError> {
        let cursor = Cursor::open(&places.state, &config.name)
            .map_err(|error| SinkError::new(&config.name, &error.to_string()))?;
        shared.sink(&config.name, |status| {
            status.next = cursor.kept.next;
            status.lost = cursor.kept.lost;
        });
        Ok(Self {
            name: config.name.clone(),
            log: places.log.clone(),
            limit: target.batch(),
            target,
            cursor,
            shared,
            backoff: Backoff::default(),
            feed: None,
            batch: Batch::default(),
        })
    }

    /// Delivers until it is stopped.
    pub(crate) async fn run(
        mut self,
        mut covered: watch::Receiver<u64>,
        mut stopped: watch::Receiver<bool>,
    ) {
        loop {
            let size = *covered.borrow_and_update();
            let behind = size > 0 && size < self.cursor.kept.next;
            let lag = size.saturating_sub(self.cursor.kept.next);
            self.shared.sink(&self.name, |status| status.lag = lag);
            let step = async {
                let wait = self.backoff.wait(Instant::now());
                if !wait.is_zero() {
                    sleep(wait).await;
                } else if behind {
                    self.begin_anew(size);
                } else if lag == 0 {
                    let _gone = covered.changed().await;
                } else {
                    self.step(size).await;
                }
            };
            tokio::select! {
                () = step => {}
                _ = stopped.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// The log has less than was delivered: another log has come into its place, or it was rolled
    /// back. Records that stand in the place of delivered ones would never leave the host.
    fn begin_anew(&mut self, size: u64) {
        match source(&self.log) {
            Ok(source) if self.cursor.belong_to(&source.origin) => {
                info!(sink = %self.name, origin = %source.origin, "another log, from its beginning");
                (self.feed, self.batch) = (None, Batch::default());
                self.shared.sink(&self.name, |status| status.next = 0);
            }
            Ok(_same) => self.failed(&format!(
                "the log has {size} records and {} were delivered: it was rolled back; run \
                 `cordon audit verify --against` with a checkpoint from elsewhere",
                self.cursor.kept.next
            )),
            Err(why) => self.failed(&why),
        }
    }

    /// One delivery, or one failure.
    async fn step(&mut self, covered: u64) {
        let delivered = self.deliver(covered).await;
        let tried = self.batch.entries.len().min(self.limit);
        match delivered {
            Ok(()) => {}
            Err(Failure::Refused(why)) if tried > 1 => {
                // One of them is meant: halve until it stands alone.
                self.limit = tried.div_ceil(2);
                warn!(sink = %self.name, %why, "records refused, trying fewer at a time");
            }
            Err(Failure::Refused(why)) => {
                let seq = self.cursor.kept.next;
                warn!(sink = %self.name, seq, %why, "record refused for good, passed over");
                self.cursor.kept.lost += 1;
                if let Err(why) = self.advance(1, false).await {
                    self.failed(&why);
                }
            }
            Err(Failure::Retry(why)) => self.failed(&why),
        }
    }

    async fn deliver(&mut self, covered: u64) -> Result<(), Failure> {
        let source = source(&self.log).map_err(Failure::Retry)?;
        if self.cursor.belong_to(&source.origin) {
            (self.feed, self.batch) = (None, Batch::default());
        }
        self.fill(covered).await.map_err(Failure::Retry)?;
        if self.batch.entries.len() < self.limit && self.limit == self.target.batch() {
            // A receiver that is dear to call waits for more of them to come.
            let patience = self.target.patience();
            if !patience.is_zero() {
                sleep(patience).await;
                self.fill(covered).await.map_err(Failure::Retry)?;
            }
        }
        let count = self.batch.entries.len().min(self.limit);
        let Some(entries) = self
            .batch
            .entries
            .get(..count)
            .filter(|some| !some.is_empty())
        else {
            return Ok(());
        };
        self.target.deliver(entries, &source).await?;
        self.limit = self.limit.saturating_mul(2).min(self.target.batch());
        self.backoff.succeed();
        self.advance(count, true).await.map_err(Failure::Retry)
    }

    /// Reads more into the batch.
    async fn fill(&mut self, covered: u64) -> Result<(), String> {
        let (mut feed, pruned) = match self.feed.take() {
            Some(feed) => (feed, 0),
            None => Feed::new(&self.log, self.cursor.kept.next)?,
        };
        if pruned > 0 {
            warn!(sink = %self.name, pruned, "records were pruned before they were delivered");
            self.cursor.kept.lost += pruned;
            self.cursor.kept.next += pruned;
            let lost = self.cursor.kept.lost;
            self.shared.sink(&self.name, |status| status.lost = lost);
        }
        let (mut batch, limit) = (std::mem::take(&mut self.batch), self.target.batch());
        let read = spawn_blocking(move || {
            let read = feed.fill(&mut batch, limit, covered);
            (feed, batch, read)
        });
        let (feed, batch, read) = read.await.map_err(|error| error.to_string())?;
        self.feed = Some(feed);
        self.batch = batch;
        // What was read before an error is delivered first.
        match read {
            Err(why) if self.batch.entries.is_empty() => Err(why),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Goes past `count` records, durably.
    async fn advance(&mut self, count: usize, delivered: bool) -> Result<(), String> {
        let gone: Vec<_> = self
            .batch
            .entries
            .drain(..count.min(self.batch.entries.len()))
            .collect();
        self.batch.bytes -= gone.iter().map(|entry| entry.leaf.len()).sum::<usize>();
        if let Some(last) = gone.last() {
            self.cursor.kept.next = last.seq + 1;
        }
        self.cursor.save().map_err(|error| {
            format!("its cursor could not be kept ({error}): what follows may come twice")
        })?;
        let (kept, count) = (self.cursor.kept.clone(), gone.len() as u64);
        self.shared.sink(&self.name, |status| {
            status.next = kept.next;
            status.lost = kept.lost;
            status.lag = status.lag.saturating_sub(count);
            if delivered {
                if status.error.take().is_some() {
                    info!(sink = %self.name, "receiver takes records again");
                }
                status.delivered += count;
                status.failures = 0;
            }
        });
        Ok(())
    }

    fn failed(&mut self, why: &str) {
        self.backoff.fail(Instant::now(), random());
        if self.backoff.failures() == 1 {
            warn!(sink = %self.name, %why, "not delivered, trying again");
        }
        self.shared.sink(&self.name, |status| {
            status.failures += 1;
            status.error = Some(why.into());
        });
    }
}

/// How long one delivery may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
