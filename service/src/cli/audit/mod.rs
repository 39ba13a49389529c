//! `cordon audit`: look into the log and verify it.

mod replay_verify;
mod show;
mod tail;
mod verify;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Subcommand;
use cordon_audit::{Record, read::Reader};

use super::Format;
use crate::{error::Failure, paths::Paths};

/// What to do with the log.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what happened in a session
    Show(show::ShowArgs),
    /// Show the newest records
    Tail(tail::TailArgs),
    /// Verify that the log is whole and unchanged
    Verify(verify::VerifyArgs),
    /// Decide past requests again under their own policy; show what comes out differently
    ReplayVerify(replay_verify::ReplayVerifyArgs),
}

/// Does it.
pub fn run(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Show(args) => show::show(&args),
        Command::Tail(args) => tail::tail(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::ReplayVerify(args) => replay_verify::replay_verify(&args),
    }
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

fn open_log(directory: &Path) -> Result<Reader, Failure> {
    Reader::open(directory).map_err(|error| {
        Failure::from(error).help("the first `cordon run` makes the log; `--log DIR` names another")
    })
}

fn directory(given: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    match given {
        Some(directory) => Ok(directory.clone()),
        None => Ok(Paths::from_env(|name| std::env::var_os(name))?.log()),
    }
}
