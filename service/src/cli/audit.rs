//! `cordon audit`: look into the log and verify it.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Subcommand};
use cordon_audit::{
    Record,
    read::Reader,
    verify::{self, Completeness, Integrity, Report},
};

use super::{Format, connect, exit};
use crate::{
    control::{Answer, Ask},
    error::Failure,
    paths::Paths,
    summary::{Summary, render},
};

/// What to do with the log.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what happened in a session
    Show(ShowArgs),
    /// Show the newest records
    Tail(TailArgs),
    /// Verify that the log is whole and unchanged
    Verify(VerifyArgs),
}

/// How long to wait at a time for a new record; only the wait for the next one follows.
const PATIENCE: Duration = Duration::from_secs(3600);

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

/// Options of `cordon audit verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A checkpoint that was kept elsewhere: detects a log that was replaced or rolled back
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// Does it.
pub fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Show(args) => show(&args),
        Command::Tail(args) => tail(&args),
        Command::Verify(args) => verify(&args),
    }
}

fn show(args: &ShowArgs) -> Result<u8, Failure> {
    let records = match &args.log {
        Some(directory) => of_session(&Reader::open(directory)?, args.session.as_deref())?,
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
    let reader = Reader::open(&paths.log())?;
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

fn tail(args: &TailArgs) -> Result<u8, Failure> {
    let reader = Reader::open(&directory(args.log.as_ref())?)?;
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

/// Writes one record as a line; `false` when nobody reads any more.
fn write_record(out: &mut impl Write, record: &Record, format: Format) -> Result<bool, Failure> {
    let line = match format {
        Format::Text => record.summary_line(),
        Format::Json => serde_json::to_string(record)?,
    };
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => Ok(written.map(|()| true)?),
    }
}

fn verify(args: &VerifyArgs) -> Result<u8, Failure> {
    let directory = directory(args.log.as_ref())?;
    let report = match &args.against {
        Some(file) => verify::verify_against(&directory, &std::fs::read_to_string(file)?),
        None => verify::verify(&directory),
    }?;
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&report)?),
        Format::Text => print_report(&report),
    }
    Ok(if report.is_clean() { 0 } else { exit::FAILED })
}

fn print_report(report: &Report) {
    println!("log          {}", report.origin);
    println!("records      {}", report.records);
    println!("root         {}", report.root);
    println!(
        "integrity    {}",
        match report.integrity {
            Integrity::Intact => "intact: every record is as it was written",
            Integrity::Broken => "BROKEN",
        }
    );
    if let Some(bad) = &report.first_bad {
        println!("first bad    record {}: {}", bad.seq, bad.problem);
    }
    let covered = report.against_size.or(report.checkpoint_size).unwrap_or(0);
    match &report.completeness {
        Completeness::Complete => {
            println!("completeness complete: all {covered} records that the checkpoint covers");
        }
        Completeness::Incomplete => println!(
            "completeness INCOMPLETE: the checkpoint covers {covered} records, and not all of them \
             are here as it knows them"
        ),
        Completeness::Unproven { reason } => println!("completeness UNPROVEN: {reason}"),
    }
    if report.unfinished_bytes > 0 {
        println!(
            "unfinished   {} bytes of a write in progress",
            report.unfinished_bytes
        );
    }
}

fn directory(given: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    match given {
        Some(directory) => Ok(directory.clone()),
        None => Ok(Paths::from_env(|name| std::env::var_os(name))?.log()),
    }
}
