//! `cordon session logs`: the records of one session, and what comes after them until it ends; or
//! what its command said.

use std::{io, time::Duration};

use cordon_audit::Kind;

use crate::{
    cli::{
        Format,
        audit::{FilterArgs, now_us, open_own_log, write_record},
    },
    error::Failure,
};

/// Options of `cordon session logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its id, or the first digits of it
    #[arg(value_name = "SESSION")]
    session: String,
    /// Go on with new records as they are made, until the session has ended
    #[arg(long, short)]
    follow: bool,
    /// What its command said, in place of records: of a session that the API started
    #[arg(long)]
    output: bool,
    /// How to print it: `json` gives one record a line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Prints the records of a session, oldest first.
pub fn logs(args: &Args) -> Result<u8, Failure> {
    if args.output {
        return super::output::output(&args.session, args.follow, args.format);
    }
    if args.session.is_empty() || args.session.contains('*') {
        return Err(Failure::new("name one session by the first digits of its id").usage());
    }
    let query = FilterArgs::of_session(&args.session).query(now_us())?;
    let reader = open_own_log()?;
    // What is newer than this is for following, so that nothing falls between and nothing comes
    // twice.
    let newest = reader.last(1)?;
    let end = newest
        .last()
        .map_or(0, |record| record.seq.saturating_add(1));
    let mut so_far = query.clone();
    so_far.cursor = Some(end);
    let mut out = io::stdout().lock();
    let mut over = false;
    for record in so_far.page(&reader, MOST)?.records.iter().rev() {
        over |= record.kind == Kind::SessionEnd;
        if !write_record(&mut out, record, args.format)? {
            return Ok(0);
        }
    }
    let mut new = reader.follow(Some(end))?;
    while args.follow && !over {
        let Some(record) = new.next_within(PATIENCE)? else {
            continue;
        };
        if query.matches(&record) {
            over = record.kind == Kind::SessionEnd;
            if !write_record(&mut out, &record, args.format)? {
                return Ok(0);
            }
        }
    }
    Ok(0)
}

/// The most records of the past that are shown; `cordon audit query` has them all.
const MOST: usize = 10_000;

/// How long to wait at a time for a new record; only the wait for the next one follows.
const PATIENCE: Duration = Duration::from_secs(3600);
