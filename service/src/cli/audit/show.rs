//! `cordon audit show`: what happened in one session.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
};

use clap::Args;
use cordon_audit::{Record, read::Reader};

use super::{Format, open_log, write_record};
use crate::{
    cli::connect,
    control::{Answer, Ask},
    error::Failure,
    paths::Paths,
    summary::{Summary, render},
};

/// Options of `cordon audit show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Session id, or the first characters of one; the newest session when left out
    session: Option<String>,
    /// How to print it: `json` gives one record a line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// Does it.
pub fn show(args: &ShowArgs) -> Result<u8, Failure> {
    let records = match &args.log {
        Some(directory) => of_session(&open_log(directory)?, args.session.as_deref())?,
        None => own_session(args.session.as_deref())?,
    };
    let Some(session) = records.first().and_then(|record| record.session.clone()) else {
        return Err(Failure::new("there is no such session in the log")
            .help("`cordon audit tail` shows the newest records with their sessions"));
    };
    let mut out = io::stdout().lock();
    for record in &records {
        if !write_record(&mut out, record, args.format)? {
            return Ok(0);
        }
    }
    if args.format == Format::Text {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        write!(
            out,
            "\n{}",
            render(&Summary::of(&session, &records), colour)
        )?;
    }
    Ok(0)
}

/// From the daemon's index when one runs, else from the files.
fn own_session(session: Option<&str>) -> Result<Vec<Record>, Failure> {
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    let reader = open_log(&paths.log())?;
    let (Some(session), Some(mut client)) = (session, connect::reach_running(&paths)?) else {
        return of_session(&reader, session);
    };
    match client.ask(&Ask::Records {
        session: session.into(),
    })? {
        Answer::Records(records) if !records.is_empty() => {
            let read = |text: &String| Record::from_leaf(text.as_bytes()).map_err(Failure::new);
            records.iter().map(read).collect()
        }
        _none => of_session(&reader, Some(session)),
    }
}

/// By id, by the first characters of one (at least four), or the newest.
fn of_session(reader: &Reader, wanted: Option<&str>) -> Result<Vec<Record>, Failure> {
    if let Some(id) = wanted {
        let found = reader.session(id)?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let prefix = wanted.unwrap_or_default();
    if wanted.is_some() && prefix.len() < 4 {
        return Ok(Vec::new());
    }
    let mut newest = None;
    for record in reader.records(0) {
        if let Some(id) = record?.session.filter(|id| id.starts_with(prefix)) {
            newest = Some(id);
        }
    }
    match newest {
        Some(id) => Ok(reader.session(&id)?),
        None => Ok(Vec::new()),
    }
}
