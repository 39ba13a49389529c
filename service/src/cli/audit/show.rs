//! `cordon audit show`: what happened in one session, or one record and why.

mod one;
mod session;

use std::path::PathBuf;

use clap::Args;
use cordon_audit::{
    Record, RecordId,
    find::{Condition, Field, Order, Pattern, Query},
    read::Reader,
};

use super::{Format, not_told, open_log};
use crate::{
    cli::connect,
    control::{Answer, Ask},
    error::Failure,
    paths::Paths,
};

/// Options of `cordon audit show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// A session's id, its first or last characters (at least four), or a record's id or number;
    /// the newest session when left out
    #[arg(value_name = "SESSION|RECORD")]
    what: Option<String>,
    /// How to print it: `json` gives a session's records one a line, or one object
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// What was meant.
enum Found {
    Session(Vec<Record>),
    One(Box<Record>),
}

/// Does it.
pub fn show(args: &ShowArgs) -> Result<u8, Failure> {
    let (reader, own) = match &args.log {
        Some(directory) => (open_log(directory)?, None),
        None => {
            let paths = Paths::from_env(|name| std::env::var_os(name))?;
            (open_log(&paths.log())?, Some(paths))
        }
    };
    let found = match (args.what.as_deref(), &own) {
        (Some(id), Some(paths)) => match of_daemon(paths, id)? {
            Some(records) => Some(Found::Session(records)),
            None => find(&reader, Some(id))?,
        },
        (what, _) => find(&reader, what)?,
    };
    match found {
        Some(Found::Session(records)) => session::show(&reader, &records, args.format),
        Some(Found::One(record)) => one::show(&reader, &record, args.format),
        None => Err(
            Failure::new("there is no such session or record in the log")
                .help("`cordon audit tail` shows the newest records, `cordon audit query` finds older ones"),
        ),
    }
}

/// The records of a session from a running daemon's index.
fn of_daemon(paths: &Paths, session: &str) -> Result<Option<Vec<Record>>, Failure> {
    let Some(mut client) = connect::reach_running(paths)? else {
        return Ok(None);
    };
    match client.ask(&Ask::Records {
        session: session.into(),
    })? {
        Answer::Records(records) if !records.is_empty() => {
            let read = |text: &String| Record::from_leaf(text.as_bytes()).map_err(Failure::new);
            records.iter().map(read).collect::<Result<_, _>>().map(Some)
        }
        Answer::Records(_none) => Ok(None),
        other => Err(not_told(other)),
    }
}

fn find(reader: &Reader, what: Option<&str>) -> Result<Option<Found>, Failure> {
    let Some(what) = what else {
        return newest_session(reader).and_then(|id| whole_session(reader, id));
    };
    if let Some(found) = whole_session(reader, Some(what.into()))? {
        return Ok(Some(found));
    }
    if let Some(record) = by_number(reader, what)?.or(by_id(reader, what)?) {
        return Ok(Some(Found::One(Box::new(record))));
    }
    if what.len() < 4 {
        return Ok(None);
    }
    let parts = [format!("{what}*"), format!("*{what}")].map(|text| {
        let Ok(pattern) = text.parse::<Pattern>();
        pattern
    });
    let query = Query {
        conditions: vec![Condition {
            field: Field::Session,
            any: parts.into(),
        }],
        ..Query::default()
    };
    let newest = query.page(reader, 1)?.records.pop();
    whole_session(reader, newest.and_then(|record| record.session))
}

fn newest_session(reader: &Reader) -> Result<Option<String>, Failure> {
    let mut query = Query::default();
    loop {
        let page = query.page(reader, 256)?;
        if let Some(session) = page.records.into_iter().find_map(|record| record.session) {
            return Ok(Some(session));
        }
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => return Ok(None),
        }
    }
}

fn whole_session(reader: &Reader, id: Option<String>) -> Result<Option<Found>, Failure> {
    let Some(id) = id else {
        return Ok(None);
    };
    let query = Query {
        conditions: vec![Condition::is(Field::Session, &id)],
        order: Order::OldestFirst,
        ..Query::default()
    };
    let page = query.page(reader, MAX_RECORDS)?;
    if let Some(next) = page.next {
        eprintln!(
            "only the first {MAX_RECORDS} records: `cordon audit query --session {} \
             --oldest-first --cursor {next}` goes on",
            cordon_audit::escape(&id)
        );
    }
    Ok((!page.records.is_empty()).then_some(Found::Session(page.records)))
}

fn by_number(reader: &Reader, what: &str) -> Result<Option<Record>, Failure> {
    let Ok(seq) = what.parse::<u64>() else {
        return Ok(None);
    };
    Ok(reader.record(seq)?)
}

fn by_id(reader: &Reader, what: &str) -> Result<Option<Record>, Failure> {
    match what.parse::<uuid::Uuid>() {
        Ok(id) => Ok(reader.by_id(RecordId(id))?),
        Err(_) => Ok(None),
    }
}

/// Most records of a session that are shown at once.
const MAX_RECORDS: usize = 200_000;
