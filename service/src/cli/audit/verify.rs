//! `cordon audit verify`: whether the log is whole and unchanged; or an export, or a proof.

use std::path::{Path, PathBuf};

use clap::Args;
use cordon_audit::{
    escape,
    verify::{self, Completeness, Evidence, ExportReport, Integrity, ProofReport, Report},
};

use super::{Format, directory};
use crate::{cli::exit, error::Failure};

/// Options of `cordon audit verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A checkpoint that was kept elsewhere: detects a log that was replaced or rolled back; for a
    /// proof of consistency the old checkpoint
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// The public key to trust (`name+id+key`, or a file with it) instead of the log's own
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The key of a witness that has to have cosigned; may be given several times
    #[arg(long, value_name = "KEY")]
    witness: Vec<String>,
    /// Read only the 65,536 records around this one; the others are taken by their stored hashes
    #[arg(long, value_name = "SEQ", conflicts_with_all = ["proof", "export"])]
    segment: Option<u64>,
    /// Verify a single proof file instead of a log
    #[arg(long, value_name = "FILE", conflicts_with = "export")]
    proof: Option<PathBuf>,
    /// Verify an export instead of a log, with the manifest beside it
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// The export's manifest, when it is not `FILE.manifest`
    #[arg(long, value_name = "FILE", requires = "export")]
    manifest: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// Does it. Exit 1 when anything is not as it should be.
pub fn verify(args: &VerifyArgs) -> Result<u8, Failure> {
    if let Some(file) = &args.proof {
        return proof(args, file);
    }
    if let Some(file) = &args.export {
        return export(args, file);
    }
    let directory = directory(args.log.as_ref())?;
    let against = args.against.as_deref().map(verify::read_text).transpose()?;
    let witnesses: Result<Vec<String>, Failure> =
        args.witness.iter().map(|key| key_text(key)).collect();
    let evidence = Evidence {
        public_key: args.key.as_deref().map(key_text).transpose()?,
        checkpoint: against,
        witnesses: witnesses?,
        segment_of: args.segment,
    };
    let report = verify::verify_with(&directory, &evidence)?;
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&report)?),
        Format::Text => print_report(&report),
    }
    Ok(if report.is_clean() { 0 } else { exit::FAILED })
}

fn proof(args: &VerifyArgs, file: &Path) -> Result<u8, Failure> {
    let text = verify::read_text(file)?;
    let against = args.against.as_deref().map(verify::read_text).transpose()?;
    let report = verify::verify_proof(&text, &own_key(args)?, against.as_deref())
        .map_err(|why| Failure::new(format!("proof NOT valid: {why}")))?;
    match (args.format, &report) {
        (Format::Json, _) => println!("{}", serde_json::to_string(&report)?),
        (
            Format::Text,
            ProofReport::Inclusion {
                origin,
                seq,
                size,
                record,
            },
        ) => {
            println!("log          {origin}");
            println!("proof        valid: this is record {seq} of the first {size}");
            println!("record       {}", escape(record));
        }
        (
            Format::Text,
            ProofReport::Consistency {
                origin,
                old_size,
                new_size,
            },
        ) => {
            println!("log          {origin}");
            println!(
                "proof        valid: the log of {new_size} records begins with the {old_size} that \
                 the old checkpoint covers"
            );
        }
    }
    Ok(0)
}

fn export(args: &VerifyArgs, file: &Path) -> Result<u8, Failure> {
    let manifest = match &args.manifest {
        Some(manifest) => manifest.clone(),
        None => super::export::manifest_beside(file),
    };
    let text = verify::read_text(&manifest)?;
    let lines = super::export::lines_beside(file);
    let lines = Some(lines.as_path()).filter(|path| path.exists());
    let report = verify::verify_export(file, &text, &own_key(args)?, lines)?;
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&report)?),
        Format::Text => print_export(&report)?,
    }
    Ok(if report.is_clean() { 0 } else { exit::FAILED })
}

/// The key that was given, else all that the log ever signed with.
fn own_key(args: &VerifyArgs) -> Result<String, Failure> {
    if let Some(key) = &args.key {
        return key_text(key);
    }
    let log = directory(args.log.as_ref())?;
    let mut keys = verify::read_text(&log.join("log.pub"))?;
    for entry in std::fs::read_dir(log.join("keys")).into_iter().flatten() {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "pub") {
            // A key file need not end its line.
            keys.push('\n');
            keys.push_str(verify::read_text(&path)?.trim_end());
        }
    }
    Ok(keys)
}

/// A key as text, or from a file.
fn key_text(key: &str) -> Result<String, Failure> {
    if key.contains('+') && !Path::new(key).exists() {
        return Ok(key.to_owned());
    }
    Ok(verify::read_text(Path::new(key))?)
}

fn print_report(report: &Report) {
    println!("log          {}", report.origin);
    println!("records      {}", report.records);
    if report.pruned_below > 0 {
        println!("pruned       the records before {}", report.pruned_below);
    }
    if let Some((first, end)) = report.checked {
        println!("read         records {first} to {}", end.saturating_sub(1));
    }
    println!("root         {}", report.root);
    println!("keys         {}", report.keys.join(" "));
    if !report.witnesses.is_empty() {
        println!("witnesses    {}", report.witnesses.join(" "));
    }
    println!("integrity    {}", integrity(report.integrity));
    if let Some(bad) = &report.first_bad {
        println!("first bad    record {}: {}", bad.seq, bad.problem);
    }
    let covered = report.against_size.or(report.checkpoint_size).unwrap_or(0);
    match &report.completeness {
        Completeness::Complete => {
            let newer = report.records.saturating_sub(covered);
            let agree = match report.checkpoints {
                1 => "1 checkpoint agrees".to_owned(),
                n => format!("{n} checkpoints agree"),
            };
            println!(
                "completeness complete: the checkpoint covers {covered} records, all are here \
                 ({agree})"
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

fn print_export(report: &ExportReport) -> Result<(), Failure> {
    let manifest = &report.manifest;
    println!("log          {}", manifest.origin);
    println!(
        "export       {} records as {}",
        manifest.count, manifest.format
    );
    println!(
        "query        {}",
        escape(&serde_json::to_string(&manifest.query)?)
    );
    println!(
        "made of      the first {} records of the log",
        manifest.size
    );
    println!("integrity    {}", integrity(report.integrity));
    if let Some(bad) = &report.first_bad {
        println!(
            "first bad    line {}: {}",
            bad.seq.saturating_add(1),
            bad.problem
        );
    }
    match &report.completeness {
        Completeness::Complete => println!("completeness complete: all that was exported is here"),
        Completeness::Incomplete => println!("completeness INCOMPLETE: something is missing"),
        Completeness::Unproven { reason } => println!("completeness UNPROVEN: {reason}"),
    }
    Ok(())
}

fn integrity(verdict: Integrity) -> &'static str {
    match verdict {
        Integrity::Intact => "intact: everything is as it was written",
        Integrity::Broken => "BROKEN",
    }
}
