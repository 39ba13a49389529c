//! Delivers a range once more, from the command line and beside a running daemon. Moves no cursor.

use std::time::Instant;

use cordon_session::config::SinkConfig;
use serde::Serialize;
use tokio::{task::spawn_blocking, time::sleep};

use crate::{
    Places, SinkError,
    backoff::{Backoff, random},
    feed::{Batch, Feed},
    source,
    target::{Failure, Target},
};

/// What was delivered once more.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Backfilled {
    /// The first record.
    pub from: u64,
    /// The last record.
    pub to: u64,
    /// Records delivered.
    pub delivered: u64,
}

/// Failures in a row after which it gives up.
const ATTEMPTS: u32 = 5;

/// Delivers the records from `from` to `to` (both included) to a sink. A file sink gets them in a
/// file of their own beside its own.
///
/// # Errors
/// [`SinkError`]: the range is not in the log, or the receiver did not take it; what was delivered
/// by then stays so.
pub async fn backfill(
    places: &Places,
    config: &SinkConfig,
    from: u64,
    to: u64,
) -> Result<Backfilled, SinkError> {
    let fail = |why: String| SinkError::new(&config.name, &why);
    let mut target = Target::new(config)?.for_backfill(from, to);
    let origin = source(&places.log).map_err(fail)?;
    let note =
        cordon_audit::prove::checkpoint(&places.log).map_err(|error| fail(error.to_string()))?;
    let covered = cordon_audit::prove::checkpoint_size(&note).unwrap_or(0);
    if from > to || to >= covered {
        return Err(fail(format!(
            "there are no records {from} to {to}: the newest checkpoint covers {covered}"
        )));
    }
    let (mut feed, pruned) = Feed::new(&places.log, from).map_err(fail)?;
    if pruned > 0 {
        let first = from + pruned;
        return Err(fail(format!(
            "records before {first} were pruned: begin there"
        )));
    }
    let mut delivered = 0;
    let mut backoff = Backoff::default();
    let limit = target.batch();
    loop {
        let read = spawn_blocking(move || {
            let mut batch = Batch::default();
            let read = feed.fill(&mut batch, limit, to + 1);
            (feed, batch, read)
        });
        let (back, batch, read) = read.await.map_err(|error| fail(error.to_string()))?;
        feed = back;
        if batch.entries.is_empty() {
            read.map_err(fail)?;
            return Ok(Backfilled {
                from,
                to,
                delivered,
            });
        }
        loop {
            match target.deliver(&batch.entries, &origin).await {
                Ok(()) => break,
                Err(Failure::Retry(_)) if backoff.failures() + 1 < ATTEMPTS => {
                    backoff.fail(Instant::now(), random());
                    sleep(backoff.wait(Instant::now())).await;
                }
                Err(Failure::Retry(why) | Failure::Refused(why)) => {
                    let why = format!("{why}; {delivered} records were delivered before");
                    return Err(fail(why));
                }
            }
        }
        backoff.succeed();
        delivered += batch.entries.len() as u64;
    }
}
