//! `cordon audit tail`: the newest records, and what comes after them.

use std::{io, path::PathBuf, time::Duration};

use clap::Args;

use super::{Format, directory, open_log, write_record};
use crate::error::Failure;

/// Options of `cordon audit tail`.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Go on with new records as they are made
    #[arg(long, short)]
    follow: bool,
    /// How many of the newest records to begin with
    #[arg(long, short = 'n', default_value_t = 20)]
    lines: u64,
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
    let reader = open_log(&directory(args.log.as_ref())?)?;
    let last = reader.last(args.lines)?;
    let next = last.last().map(|record| record.seq.saturating_add(1));
    let mut out = io::stdout().lock();
    for record in &last {
        if !write_record(&mut out, record, args.format)? {
            return Ok(0);
        }
    }
    if args.follow {
        let mut new = reader.follow(next)?;
        loop {
            let Some(record) = new.next_within(PATIENCE)? else {
                continue;
            };
            if !write_record(&mut out, &record, args.format)? {
                return Ok(0);
            }
        }
    }
    Ok(0)
}
