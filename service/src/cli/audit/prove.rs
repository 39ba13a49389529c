//! `cordon audit prove`: proofs that anyone verifies offline, with the log's public key alone.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use cordon_audit::{RecordId, prove};

use super::{Format, directory};
use crate::error::Failure;

/// What to prove.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// That a record is in the log (C2SP tlog-proof)
    Inclusion(InclusionArgs),
    /// That the log of one size begins with all that the log of another size held
    Consistency(ConsistencyArgs),
}

/// Options of `cordon audit prove inclusion`.
#[derive(Debug, Args)]
pub struct InclusionArgs {
    /// The record: its id, or its place in the log
    #[arg(value_name = "RECORD-ID|SEQ")]
    record: String,
    #[command(flatten)]
    common: Common,
}

/// Options of `cordon audit prove consistency`.
#[derive(Debug, Args)]
pub struct ConsistencyArgs {
    /// The older size: a number, or a file with a checkpoint
    old: String,
    /// The newer size, of which there has to be a checkpoint; the newest when left out
    new: Option<u64>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// How to print it: `text` is the proof file that `cordon audit verify --proof` reads
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// Does it.
pub fn run(command: &Command) -> Result<u8, Failure> {
    match command {
        Command::Inclusion(args) => inclusion(args),
        Command::Consistency(args) => consistency(args),
    }
}

fn inclusion(args: &InclusionArgs) -> Result<u8, Failure> {
    let directory = directory(args.common.log.as_ref())?;
    let seq = match (args.record.parse(), args.record.parse()) {
        (Ok(seq), _) => seq,
        (_, Ok(id)) => prove::seq_of(&directory, RecordId(id))?,
        _ => {
            return Err(Failure::new(format!("{:?} is no record", args.record))
                .help("name a record by its id or by its place in the log (a number)")
                .usage());
        }
    };
    let proof = prove::inclusion(&directory, seq)?;
    match args.common.format {
        Format::Text => print!("{}", proof.to_text()),
        Format::Json => println!("{}", proof.to_json()?),
    }
    Ok(0)
}

fn consistency(args: &ConsistencyArgs) -> Result<u8, Failure> {
    let directory = directory(args.common.log.as_ref())?;
    let old = match args.old.parse() {
        Ok(size) => size,
        Err(_no_number) => {
            let text = std::fs::read_to_string(&args.old).map_err(|error| {
                Failure::new(format!(
                    "{:?} is no size and no checkpoint: {error}",
                    args.old
                ))
                .help("name the older size as a number, or a file with a checkpoint")
                .usage()
            })?;
            prove::checkpoint_size(&text)
                .ok_or_else(|| Failure::new(format!("{:?} is no checkpoint", args.old)))?
        }
    };
    let proof = prove::consistency(&directory, old, args.new)?;
    match args.common.format {
        Format::Text => print!("{}", proof.to_text()),
        Format::Json => println!("{}", proof.to_json()?),
    }
    Ok(0)
}
