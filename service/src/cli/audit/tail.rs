//! `cordon audit tail`: the newest records, and what comes after them.

use std::{io, path::PathBuf, time::Duration};

use clap::Args;

use super::{
    Format, directory,
    filters::{FilterArgs, now_us},
    open_log, write_record,
};
use crate::error::Failure;

/// Options of `cordon audit tail`.
#[derive(Debug, Args)]
pub struct TailArgs {
    #[command(flatten)]
    filters: FilterArgs,
    /// Go on with new records as they are made
    #[arg(long, short)]
    follow: bool,
    /// How many of the newest records to begin with
    #[arg(long, short = 'n', default_value_t = 20)]
    lines: u32,
    /// How to print it: `json` gives one record a line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// How long to wait at a time for a new record; only the wait for the next one follows.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Does it.
pub fn tail(args: &TailArgs) -> Result<u8, Failure> {
    let query = args.filters.query(now_us())?;
    let reader = open_log(&directory(args.log.as_ref())?)?;
    // What is newer than this is for following, so that nothing falls between and nothing comes
    // twice.
    let end = reader
        .last(1)?
        .last()
        .map_or(0, |record| record.seq.saturating_add(1));
    let mut newest = query.clone();
    newest.cursor = Some(end);
    let lines = usize::try_from(args.lines).unwrap_or(usize::MAX);
    let mut out = io::stdout().lock();
    for record in newest.page(&reader, lines)?.records.iter().rev() {
        if !write_record(&mut out, record, args.format)? {
            return Ok(0);
        }
    }
    if args.follow {
        let mut new = reader.follow(Some(end))?;
        loop {
            let Some(record) = new.next_within(PATIENCE)? else {
                continue;
            };
            if query.matches(&record) && !write_record(&mut out, &record, args.format)? {
                return Ok(0);
            }
        }
    }
    Ok(0)
}
