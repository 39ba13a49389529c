//! `cordon audit verify`: whether the log is whole and unchanged.

use std::path::PathBuf;

use clap::Args;
use cordon_audit::verify::{self, Completeness, Integrity, Report};

use super::{Format, directory};
use crate::{cli::exit, error::Failure};

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

/// Does it. Exit 1 when anything is not as it should be.
pub fn verify(args: &VerifyArgs) -> Result<u8, Failure> {
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
            let newer = report.records.saturating_sub(covered);
            println!(
                "completeness complete: the checkpoint covers {covered} records, all are here"
            );
            if newer > 0 {
                println!("newer        {newer} records, which the next checkpoint will cover");
            }
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
