//! `cordon audit`: look into the log and verify it.

mod checkpoint;
mod export;
mod filters;
mod key;
mod order;
mod origin;
mod prove;
mod query;
mod redact;
mod replay_verify;
mod retention;
mod row;
mod show;
mod sinks;
mod stats;
pub mod table;
mod tail;
mod verify;

use std::{
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
};

pub use filters::{FilterArgs, now_us};

use clap::Subcommand;
use cordon_audit::{LogOptions, Record, escape_json, read::Reader};
use cordon_session::Config;

use super::{Format, exit};
use crate::{
    control::{Answer, PolicyAnswer},
    error::Failure,
    paths::Paths,
};

/// What to do with the log.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Find records: by session, destination, rule, time, text, …
    Query(query::QueryArgs),
    /// Show what happened in a session, or one record and why
    Show(show::ShowArgs),
    /// Show what is in the log, in numbers
    Stats(stats::StatsArgs),
    /// Show the newest records
    Tail(tail::TailArgs),
    /// Verify that the log is whole and unchanged; or an export, or a proof
    Verify(verify::VerifyArgs),
    /// Print the newest signed checkpoint
    Checkpoint(checkpoint::CheckpointArgs),
    /// Prove that a record is in the log, or that the log only grew
    #[command(subcommand)]
    Prove(prove::Command),
    /// Export records, with a signed manifest
    Export(export::ExportArgs),
    /// The receivers that records are delivered to
    #[command(subcommand)]
    Sinks(sinks::Command),
    /// Let old records go
    Prune(retention::PruneArgs),
    /// Keep records however old they are
    #[command(subcommand)]
    Hold(retention::HoldCommand),
    /// Erase a sensitive value that a record commits to
    Redact(redact::RedactArgs),
    /// Show the sensitive values that a record commits to
    Reveal(redact::RevealArgs),
    /// Show the log's keys, or change the one that signs
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Move the log aside and begin a new one that names it
    NewOrigin(origin::NewOriginArgs),
    /// Decide past requests again under their own policy; show what comes out differently
    ReplayVerify(replay_verify::ReplayVerifyArgs),
}

/// Does it.
pub fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Query(args) => query::query(&args),
        Command::Show(args) => show::show(&args),
        Command::Stats(args) => stats::stats(&args),
        Command::Tail(args) => tail::tail(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Checkpoint(args) => checkpoint::checkpoint(&args),
        Command::Prove(command) => prove::run(&command),
        Command::Export(args) => export::export(&args),
        Command::Sinks(command) => sinks::run(&command),
        Command::Prune(args) => retention::prune(&args),
        Command::Hold(command) => retention::hold(&command),
        Command::Redact(args) => redact::redact(&args),
        Command::Reveal(args) => redact::reveal(&args),
        Command::Key(command) => key::key(&command),
        Command::NewOrigin(args) => origin::new_origin(&args),
        Command::ReplayVerify(args) => replay_verify::replay_verify(&args),
    }
}

/// Writes one record as a line; `false` when nobody reads any more.
pub fn write_record(
    out: &mut impl Write,
    record: &Record,
    format: Format,
) -> Result<bool, Failure> {
    let line = match format {
        Format::Text => record.summary_line(),
        Format::Json => json_line(serde_json::to_string(record)?),
    };
    still_read(writeln!(out, "{line}").and_then(|()| out.flush()))
}

/// JSON as it goes out: to a terminal with everything escaped that could act on it (A06), which JSON
/// itself asks only of some controls; to a file or a program as it is.
fn json_line(json: String) -> String {
    match io::stdout().is_terminal() {
        true => escape_json(&json),
        false => json,
    }
}

/// Whether somebody still reads what is written; that nobody does is no failure.
fn still_read(written: io::Result<()>) -> Result<bool, Failure> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => Ok(written.map(|()| true)?),
    }
}

/// Of an answer of the daemon that is not what was asked for: policy may refuse it.
fn not_told(answer: Answer) -> Failure {
    let Answer::Policy(PolicyAnswer::Denied {
        message, decision, ..
    }) = answer
    else {
        return Failure::new("the daemon answered something unexpected");
    };
    let denied = Failure::new(message).with_code(exit::DENIED);
    match decision {
        Some(id) => denied.help(format!("`cordon audit show {id}` has the record")),
        None => denied,
    }
}

fn open_log(directory: &Path) -> Result<Reader, Failure> {
    Reader::open(directory).map_err(|error| {
        Failure::from(error).help("the first `cordon run` makes the log; `--log DIR` names another")
    })
}

/// The user's own log.
pub fn open_own_log() -> Result<Reader, Failure> {
    open_log(&directory(None)?)
}

fn directory(given: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    match given {
        Some(directory) => Ok(directory.clone()),
        None => Ok(Paths::from_env(|name| std::env::var_os(name))?.log()),
    }
}

/// How the log is opened for writing: as the configuration says, like the daemon does.
fn log_options() -> Result<LogOptions, Failure> {
    let paths = Paths::from_env(|name| std::env::var_os(name))?;
    let files = paths.config_files();
    let config = Config::load(&files)?;
    config.log_options().map_err(Failure::new)
}
