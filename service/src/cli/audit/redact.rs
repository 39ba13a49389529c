//! `cordon audit redact` and `cordon audit reveal`: sensitive values, which records only commit to.

use std::path::PathBuf;

use clap::Args;
use cordon_audit::{Done, RecordId, Revealed, Task, escape};
use serde::Serialize;

use super::{Format, directory, open_log, order::carry_out};
use crate::error::Failure;

/// Options of `cordon audit redact`.
#[derive(Debug, Args)]
pub struct RedactArgs {
    /// Id of the record
    #[arg(value_parser = record_id)]
    record: RecordId,
    /// Which value, as `cordon audit reveal` names it: `/command`
    pointer: String,
    /// Why; recorded in the log
    #[arg(long, value_name = "TEXT")]
    because: String,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// Options of `cordon audit reveal`.
#[derive(Debug, Args)]
pub struct RevealArgs {
    /// Id of the record
    #[arg(value_parser = record_id)]
    record: RecordId,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The log's directory, when it is not the user's own
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// One value, as it is printed.
#[derive(Debug, Serialize)]
struct Shown {
    pointer: String,
    len: u64,
    commitment: String,
    /// Absent when it is erased.
    value: Option<String>,
}

/// Erases a value. Its record, and every proof, stays as it is.
pub fn redact(args: &RedactArgs) -> Result<u8, Failure> {
    let task = Task::Redact {
        record: args.record,
        pointer: args.pointer.clone(),
    };
    let Done::Redacted { values } = carry_out(args.log.as_ref(), task, &args.because)? else {
        return Err(Failure::new("the daemon answered something unexpected"));
    };
    match (args.format, values) {
        (Format::Json, values) => println!("{{\"values\":{values}}}"),
        (Format::Text, 0) => println!("the value was erased before; that is recorded once more"),
        (Format::Text, _) => println!("the value is erased; the record and its proofs stay"),
    }
    Ok(0)
}

/// Shows the values of a record to whoever may read the log's directory.
pub fn reveal(args: &RevealArgs) -> Result<u8, Failure> {
    let reader = open_log(&directory(args.log.as_ref())?)?;
    let Some(record) = reader.by_id(args.record)? else {
        return Err(Failure::new(format!("there is no record {}", args.record))
            .help("`cordon audit tail` shows the newest records with their ids"));
    };
    let mut shown = Vec::new();
    for commitment in &record.sd {
        let value = match reader.reveal(&record, &commitment.ptr)? {
            Revealed::Value(value) => Some(String::from_utf8_lossy(&value).into_owned()),
            Revealed::Gone => None,
        };
        shown.push(Shown {
            pointer: commitment.ptr.clone(),
            len: commitment.len,
            commitment: commitment.h.clone(),
            value,
        });
    }
    if args.format == Format::Json {
        println!("{}", serde_json::to_string(&shown)?);
        return Ok(0);
    }
    if shown.is_empty() {
        println!("the record has no sensitive values");
    }
    for value in shown {
        let text = match &value.value {
            Some(text) => escape(text).to_string(),
            None => format!("(erased, or never kept; it had {} bytes)", value.len),
        };
        println!("{}  {text}", escape(&value.pointer));
    }
    Ok(0)
}

fn record_id(text: &str) -> Result<RecordId, String> {
    let quoted = serde_json::Value::String(text.into());
    serde_json::from_value(quoted)
        .map_err(|_| "give the id of a record, as `cordon audit tail` shows it".into())
}
