//! Delivers a range once more, from the command line and beside a running daemon. Moves no cursor.

use std::{io, time::Instant};

use cordon_audit::export::{self, Format, Manifest, Select};
use cordon_session::config::{SinkConfig, SinkTarget};
use serde::Serialize;
use tokio::{task::spawn_blocking, time::sleep};

use crate::{
    Places, SinkError,
    backoff::{Backoff, random},
    feed::{Batch, Feed, form},
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

/// What a backfill of the records from `from` to `to` (both included) would give out: to be recorded
/// before it is done. Blocks on files.
///
/// # Errors
/// [`SinkError`]: the range is not in the log.
pub fn backfill_manifest(
    places: &Places,
    config: &SinkConfig,
    from: u64,
    to: u64,
) -> Result<Manifest, SinkError> {
    let fail = |why: String| SinkError::new(&config.name, &why);
    check(places, from, to).map_err(fail)?;
    let origin = source(&places.log).map_err(fail)?;
    let select = Select {
        from_seq: Some(from),
        to_seq: Some(to),
        ..Select::default()
    };
    let format = match &config.target {
        SinkTarget::File(sink) => form(sink.format),
        SinkTarget::Syslog(sink) => form(sink.format),
        SinkTarget::Webhook(sink) => form(sink.format),
        SinkTarget::S3(sink) => form(sink.format),
        SinkTarget::Otlp(_) => Format::Otlp,
    };
    let (out, hashes) = (&mut io::sink(), &mut io::sink());
    export::write(&places.log, format, &select, &origin, out, hashes)
        .map_err(|error| fail(error.to_string()))
}

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
    check(places, from, to).map_err(fail)?;
    let (mut feed, _pruned) = Feed::new(&places.log, from).map_err(fail)?;
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

/// Whether all of the range is there.
fn check(places: &Places, from: u64, to: u64) -> Result<(), String> {
    let note = cordon_audit::prove::checkpoint(&places.log).map_err(|error| error.to_string())?;
    let covered = cordon_audit::prove::checkpoint_size(&note).unwrap_or(0);
    if from > to || to >= covered {
        return Err(format!(
            "there are no records {from} to {to}: the newest checkpoint covers {covered}"
        ));
    }
    match Feed::new(&places.log, from)?.1 {
        0 => Ok(()),
        pruned => Err(format!(
            "records before {} were pruned: begin there",
            from + pruned
        )),
    }
}
